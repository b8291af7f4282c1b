/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Whose event is it?  What a set holds besides our connections, and what tells them apart.
 *
 * The kernel names what is ready by the data that it was given, and an application may give the
 * same to several numbers.  It need not know which is meant; we must: whether the bytes of a
 * connection are there is ours to say, and of a pipe it is the kernel's.  So a registration that
 * joins with data that another one carries already is told to the kernel with a *tag* of our making
 * instead, which stands for it alone, and each event gets the application's data back.  Two of
 * which neither is a connection of ours may carry the same.
 *
 * plain[] counts, by a hash of the data, the registrations of numbers that are no connections of
 * ours; too many do no harm.  A number that is counted is remembered in early[], so that it can be
 * taken out again when it is removed or born again; of one that is in several sets the count stays.
 *
 * Where several threads wait, an event may be under way to one of them while another one closes the
 * number, and a third is given it anew: a number stands for several connections within one wait,
 * and so does the data.  There each registration gets a tag, and what comes by a tag that is no
 * one's any more is nobody's.
 *
 * Tags are of this process.  A set that is given away to programs that do not know them gets the
 * application's data back, and sets that several processes share get no new ones: there the
 * kernel's word stands as it is where it may be another's; such sets are strict.
 */
#include <stddef.h>

#include "core/sys.h"
#include "preload/conn.h"
#include "preload/sets_parts.h"

enum {
	TAGS = 1 << 18, /* more than there are registrations of connections, and of others */
};

#define TAG_MAGIC 0x5b1e000000000000ULL

/* the last one's, for events of registrations that are gone */
static _Atomic uint64_t data_of_tag[TAGS];
static _Atomic bool is_held[TAGS]; /* by a number that is no connection */
static _Atomic uint32_t tags_made;

static bool is_tag(uint64_t data)
{
	return data >= TAG_MAGIC && data < TAG_MAGIC + TAGS;
}

/* The data itself where all tags are held. */
static uint64_t new_tag(struct shim_set *set, uint64_t data)
{
	for (int i = 0; i < TAGS; i++) {
		uint32_t number = atomic_fetch_add(&tags_made, 1) % TAGS;

		if (atomic_load(&is_held[number]) ||
		    shim_registration_by_tag(&set->registrations, TAG_MAGIC + number))
			continue;
		data_of_tag[number] = data;
		atomic_store(&set->tagged, true);
		return TAG_MAGIC + number;
	}
	return data;
}

void shim_set_tag_means(uint64_t tag, uint64_t data)
{
	if (is_tag(tag))
		data_of_tag[tag - TAG_MAGIC] = data;
}

static void hold(uint64_t tag, bool held)
{
	if (is_tag(tag))
		atomic_store(&is_held[tag - TAG_MAGIC], held);
}

/* ---- others ---- */

static _Atomic uint16_t *plain_of(struct shim_set *set, uint64_t data)
{
	return &set->plain[(data * 0x9e3779b97f4a7c15ULL >> 48) % SHIM_SET_PLAIN_BUCKETS];
}

static void add_plain(struct shim_set *set, uint64_t data)
{
	_Atomic uint16_t *count = plain_of(set, data);
	uint16_t old = atomic_load(count);

	while (old < UINT16_MAX && !atomic_compare_exchange_weak(count, &old, (uint16_t)(old + 1)))
		;
}

/* From the highest count nobody knows how many have left. */
static void remove_plain(struct shim_set *set, uint64_t data)
{
	_Atomic uint16_t *count = plain_of(set, data);
	uint16_t old = atomic_load(count);

	while (old > 0 && old < UINT16_MAX &&
	       !atomic_compare_exchange_weak(count, &old, (uint16_t)(old - 1)))
		;
}

/* Does another registration, of whatever kind, carry this data in the kernel's set, or may it? */
static __attribute__((hot)) bool is_carried(struct shim_set *set, const struct shim_registration *r,
					    uint64_t data)
{
	const struct shim_registration *other = shim_registration_by_tag(&set->registrations, data);

	while (other && other == r)
		other = shim_registration_same_tag(other);
	return other || atomic_load(plain_of(set, data)) > 0;
}

/* ---- tags ---- */

__attribute__((hot)) uint64_t shim_set_tag_for(struct shim_set *set,
					       const struct shim_registration *r, uint64_t data)
{
	bool may_be_late = set->strict && !shmipc_single_threaded();

	if (r && is_tag(r->tag))
		return r->tag;
	return !set->apart && (may_be_late || is_carried(set, r, data)) ? new_tag(set, data) : data;
}

__attribute__((hot)) bool shim_set_comes_late(const struct epoll_event *event)
{
	return is_tag(event->data.u64) && !atomic_load(&is_held[event->data.u64 - TAG_MAGIC]);
}

__attribute__((hot)) struct shim_registration *shim_set_untag(struct shim_set *set,
							      struct epoll_event *event)
{
	struct shim_registration *r = shim_registration_by_tag(&set->registrations,
							       event->data.u64);

	if (r)
		event->data = r->event.data;
	else if (is_tag(event->data.u64))
		event->data.u64 = data_of_tag[event->data.u64 - TAG_MAGIC];
	return r && !r->blurred && !shim_registration_same_tag(r) ? r : NULL;
}

__attribute__((hot)) void shim_set_untag_told(const struct shim_set *set,
					      struct epoll_event *events, int n)
{
	if (!atomic_load_explicit(&set->tagged, memory_order_relaxed))
		return;
	for (int i = 0; i < n; i++)
		if (is_tag(events[i].data.u64))
			events[i].data.u64 = data_of_tag[events[i].data.u64 - TAG_MAGIC];
}

/* The kernel hears of it at once: nobody knows its tag yet, or the old one is another's too. */
static void change_tag(struct shim_set *set, struct shim_registration *r, uint64_t tag)
{
	shim_registration_retag(&set->registrations, r, tag);
	if (r->absent)
		return;
	shim_registration_note_change(&set->registrations, r);
	shim_set_tell_kernel_of(set, r);
}

/* It carries what another one does.  A stray one the kernel changes no more. */
static void tell_apart(struct shim_set *set, struct shim_registration *r)
{
	if (r->stray || set->apart)
		r->blurred = true;
	else
		change_tag(set, r, new_tag(set, r->event.data.u64));
}

/* ---- before the connection ---- */

/* nginx adds a socket to its set and then connects it.  What we were told of a number that is no
 * connection yet is kept until it becomes one, or is born again.  Written by whoever calls
 * epoll_ctl on the number; an application that does so from two threads at once for one number gets
 * what it gets. */
enum { EARLY_NONE = 0 };
#define EARLY_SEVERAL UINT32_MAX /* no enum: does not fit an int */

struct early {
	_Atomic uint32_t
		set; /* index + 1; EARLY_SEVERAL: more than one, or one that we do not know */
	uint32_t birth;
	struct epoll_event event;
	uint64_t tag; /* its data in the kernel's set */
};

static struct early early[SHIM_FD_MAX];
static _Atomic int early_limit; /* numbers at and above were never remembered */

/* The one set that it is in, if that still is the same. */
static struct shim_set *set_of_early(const struct early *e, uint32_t known)
{
	struct shim_set *set = known == EARLY_NONE || known == EARLY_SEVERAL
				       ? NULL
				       : &shim_sets[known - 1];

	return set && set->birth == e->birth ? set : NULL;
}

static void forget(struct early *e, uint32_t known)
{
	struct shim_set *set = set_of_early(e, known);

	if (set)
		remove_plain(set, e->event.data.u64);
	if (known != EARLY_SEVERAL)
		hold(e->tag, false);
	e->tag = 0;
	atomic_store(&e->set, EARLY_NONE);
}

/* First the count, then whoever carries it: a connection that joins with the same data comes before
 * or after us under the lock. */
uint64_t shim_set_plain_joins(struct shim_set *set, int fd, uint64_t data)
{
	const struct early *e = &early[fd];
	struct shim_registration *r;
	uint64_t tag = data;

	if (!shim_set_enter(set))
		return data;
	add_plain(set, data);
	r = shim_registration_by_tag(&set->registrations, data);
	for (; r; r = shim_registration_same_tag(r)) {
		if (!r->stray && r->fd == fd) /* what it was before */
			continue;
		r->blurred |= set->apart;
		tag = set->apart ? data : TAG_MAGIC;
	}
	if (set_of_early(e, atomic_load(&e->set)) == set && is_tag(e->tag))
		tag = e->tag;
	else if (tag != data)
		tag = new_tag(set, data);
	hold(tag, true);
	shim_set_leave(set);
	return tag;
}

void shim_set_plain_stays_out(struct shim_set *set, int fd, uint64_t data, uint64_t tag)
{
	remove_plain(set, data);
	if (tag != early[fd].tag)
		hold(tag, false);
}

void shim_set_remember_plain(struct shim_set *set, int operation, int fd,
			     const struct epoll_event *event, uint64_t tag)
{
	struct early *e = &early[fd];
	uint32_t index = set ? (uint32_t)(set - shim_sets) + 1 : EARLY_SEVERAL;
	uint32_t known = atomic_load_explicit(&e->set, memory_order_acquire);
	bool gone = known != EARLY_SEVERAL && !set_of_early(e, known);
	int limit = atomic_load(&early_limit);

	if (operation == EPOLL_CTL_DEL) {
		if (known == index)
			forget(e, known);
		return;
	}
	if (known == index && !gone && set) /* MOD */
		remove_plain(set, e->event.data.u64);
	else if (!gone)
		index = EARLY_SEVERAL;
	if (index != EARLY_SEVERAL && e->tag != tag)
		hold(e->tag, false);
	while (fd >= limit && !atomic_compare_exchange_weak(&early_limit, &limit, fd + 1))
		;
	shim_set_tag_means(tag, event->data.u64);
	e->event = *event;
	e->tag = tag;
	e->birth = set ? set->birth : 0;
	atomic_store_explicit(&e->set, index, memory_order_release);
}

/* In a set in which nothing can be told apart any more the hash is not enough. */
static bool is_remembered(const struct shim_set *set, uint64_t data)
{
	for (int fd = 0; fd < atomic_load(&early_limit); fd++) {
		const struct early *e = &early[fd];
		uint32_t known = atomic_load_explicit(&e->set, memory_order_acquire);

		if (known != EARLY_NONE && e->event.data.u64 == data &&
		    (known == EARLY_SEVERAL || set_of_early(e, known) == set))
			return true;
	}
	return false;
}

__attribute__((hot)) bool shim_set_is_blurred(struct shim_set *set,
					      const struct shim_registration *r)
{
	return set->apart && !is_tag(r->tag) && atomic_load(plain_of(set, r->tag)) > 0 &&
	       is_remembered(set, r->tag);
}

__attribute__((hot)) void shim_set_forget_early(int fd)
{
	uint32_t known;

	if ((uint32_t)fd >= SHIM_FD_MAX)
		return;
	known = atomic_load_explicit(&early[fd].set, memory_order_relaxed);
	if (known)
		forget(&early[fd], known);
}

void shim_set_number_is_known(int fd)
{
	if ((uint32_t)fd < SHIM_FD_MAX)
		atomic_store(&early[fd].set, EARLY_SEVERAL);
}

__attribute__((hot)) void shim_set_adopt_early(struct shim_conn *conn, int fd)
{
	struct early *e = &early[fd];
	uint32_t known = atomic_load_explicit(&e->set, memory_order_acquire);
	struct shim_set *set = set_of_early(e, known);
	struct shim_registration *r;

	if (known == EARLY_SEVERAL)
		conn->rx.foreign = SHMIPC_FOREIGN_WAITS;
	if (known == EARLY_SEVERAL || !set || !shim_set_enter(set))
		return;
	if (atomic_load(&set->used) && set->birth == e->birth && !shim_set_is_shut(set)) {
		remove_plain(set, e->event.data.u64);
		r = shim_set_register_known(set, conn, fd, &e->event, e->tag);
		hold(e->tag, false); /* it is the registration's from now on */
		if (r && !is_tag(r->tag) && is_carried(set, r, r->tag))
			tell_apart(set, r);
	}
	shim_set_leave(set);
	e->tag = 0;
	atomic_store(&e->set, EARLY_NONE);
}

/* ---- given away ---- */

static void untag_plain(struct shim_set *set, int fd)
{
	struct early *e = &early[fd];

	if (set_of_early(e, atomic_load(&e->set)) != set || !is_tag(e->tag))
		return;
	sys_epoll_ctl(set->epfd, EPOLL_CTL_MOD, fd, &e->event);
	hold(e->tag, false);
	e->tag = e->event.data.u64;
}

void shim_set_untag_all(struct shim_set *set)
{
	struct shim_registration *r = shim_registration_first(&set->registrations);

	set->apart = true;
	if (!atomic_load(&set->tagged))
		return;
	for (int fd = 0; fd < atomic_load(&early_limit); fd++)
		untag_plain(set, fd);
	for (; r; r = shim_registration_next(r)) {
		if (is_tag(r->tag) && !r->ghost && !r->stray)
			change_tag(set, r, r->event.data.u64);
		r->blurred = shim_set_is_blurred(set, r);
	}
}
