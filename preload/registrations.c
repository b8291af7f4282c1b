/* SPDX-License-Identifier: Apache-2.0 */
#include "preload/registrations.h"

#include <string.h>
#include <sys/mman.h>

#include "core/sys.h"

enum {
	POOL = 65536,
	BITS_AT_ONCE = 3,
	BITS_MAX = 16,
};

static struct shim_registration *pool;
static _Atomic uint32_t search_from, in_use;

int shim_registrations_start(void)
{
	long at = sys_mmap(NULL, POOL * sizeof(struct shim_registration), PROT_READ | PROT_WRITE,
			   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (at < 0 && at > -4096)
		return (int)at;
	pool = (struct shim_registration *)at;
	return 0;
}

/* ---- buckets ---- */

static void use_few(struct shim_registrations *list)
{
	list->bits = SHIM_REGISTRATION_FEW_BITS;
	list->by_fd = list->few_by_fd;
	list->by_tag = list->few_by_tag;
}

static struct shim_registration **fd_bucket(const struct shim_registrations *list, int fd)
{
	return &list->by_fd[(uint32_t)fd & ((1u << list->bits) - 1)];
}

static struct shim_registration **tag_bucket(const struct shim_registrations *list, uint64_t tag)
{
	return &list->by_tag[(tag * 0x9e3779b97f4a7c15ULL) >> (64 - list->bits)];
}

static size_t table_bytes(uint32_t bits)
{
	return 2 * sizeof(struct shim_registration *) << bits;
}

static void unmap_tables(const struct shim_registrations *list)
{
	if (list->by_fd != list->few_by_fd)
		sys_munmap(list->by_fd, table_bytes(list->bits));
}

void shim_registrations_init(struct shim_registrations *list)
{
	if (list->by_fd) /* left in a child by a set that had registrations */
		unmap_tables(list);
	memset(list, 0, sizeof(*list));
	use_few(list);
}

/* To the end of its buckets. */
static void link_last(struct shim_registrations *list, struct shim_registration *r)
{
	struct shim_registration **at = fd_bucket(list, r->fd);

	while (*at)
		at = &(*at)->next_by_fd;
	r->next_by_fd = NULL;
	*at = r;
	if (r->ghost)
		return;
	at = tag_bucket(list, r->tag);
	while (*at)
		at = &(*at)->next_by_tag;
	r->next_by_tag = NULL;
	*at = r;
}

/* Without memory the chains grow longer, and nothing else. */
static void make_room(struct shim_registrations *list)
{
	uint32_t bits = list->bits + BITS_AT_ONCE;
	long at;

	if (list->count < 1u << list->bits || bits > BITS_MAX)
		return;
	at = sys_mmap(NULL, table_bytes(bits), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
		      -1, 0);
	if (at < 0 && at > -4096)
		return;
	unmap_tables(list);
	list->bits = bits;
	list->by_fd = (struct shim_registration **)at;
	list->by_tag = list->by_fd + (1u << bits);
	for (struct shim_registration *r = list->all; r; r = r->next)
		link_last(list, r);
}

/* The last one has gone. */
static void give_room_back(struct shim_registrations *list)
{
	if (list->by_fd == list->few_by_fd)
		return;
	unmap_tables(list);
	memset(list->few_by_fd, 0, sizeof(list->few_by_fd));
	memset(list->few_by_tag, 0, sizeof(list->few_by_tag));
	use_few(list);
}

/* ---- registrations ---- */

static struct shim_registration *take(void)
{
	uint32_t start = atomic_load_explicit(&search_from, memory_order_relaxed);

	if (atomic_fetch_add_explicit(&in_use, 1, memory_order_relaxed) >= POOL) {
		atomic_fetch_sub_explicit(&in_use, 1, memory_order_relaxed);
		return NULL;
	}
	for (uint32_t i = 0; i < POOL; i++) {
		struct shim_registration *r = &pool[(start + i) % POOL];
		uint32_t used = 0;

		if (atomic_load_explicit(&r->used, memory_order_relaxed) ||
		    !atomic_compare_exchange_strong(&r->used, &used, 1))
			continue;
		if (i > 64)
			atomic_store_explicit(&search_from, (start + i) % POOL,
					      memory_order_relaxed);
		return r;
	}
	atomic_fetch_sub_explicit(&in_use, 1, memory_order_relaxed);
	return NULL; /* others have run ahead of this search all along */
}

static void give(struct shim_registration *r)
{
	atomic_store_explicit(&r->used, 0, memory_order_release);
	atomic_fetch_sub_explicit(&in_use, 1, memory_order_relaxed);
}

static void link_tag(struct shim_registrations *list, struct shim_registration *r, uint64_t tag)
{
	struct shim_registration **bucket = tag_bucket(list, tag);

	r->tag = tag;
	r->next_by_tag = *bucket;
	*bucket = r;
}

static void unlink_tag(struct shim_registrations *list, struct shim_registration *r)
{
	struct shim_registration **at = tag_bucket(list, r->tag);

	while (*at && *at != r)
		at = &(*at)->next_by_tag;
	if (*at)
		*at = r->next_by_tag;
}

static void link_fd(struct shim_registrations *list, struct shim_registration *r)
{
	struct shim_registration **bucket = fd_bucket(list, r->fd);

	r->next_by_fd = *bucket;
	*bucket = r;
}

static void unlink_fd(struct shim_registrations *list, struct shim_registration *r)
{
	struct shim_registration **at = fd_bucket(list, r->fd);

	while (*at && *at != r)
		at = &(*at)->next_by_fd;
	if (*at)
		*at = r->next_by_fd;
}

__attribute__((hot)) struct shim_registration *
shim_registration_add(struct shim_registrations *list, int fd, uint64_t tag)
{
	struct shim_registration *r = take();

	if (!r)
		return NULL;
	make_room(list);
	list->count++;
	r->fd = r->number = fd;
	r->hot = false;
	r->next_hot = NULL;
	r->previous_hot = NULL;
	r->next = list->all;
	r->back = &list->all;
	if (list->all)
		list->all->back = &r->next;
	list->all = r;
	r->stray = r->absent = r->changed = r->ghost = r->blurred = false;
	link_fd(list, r);
	link_tag(list, r, tag);
	return r;
}

__attribute__((hot)) void shim_registration_remove(struct shim_registrations *list,
						   struct shim_registration *r)
{
	shim_registration_forget_change(list, r);
	if (list->newsy == r)
		list->newsy = r->next;
	unlink_fd(list, r);
	if (!r->ghost)
		unlink_tag(list, r);
	*r->back = r->next;
	if (r->next)
		r->next->back = r->back;
	shim_registration_make_cold(list, r);
	give(r);
	if (--list->count == 0)
		give_room_back(list);
}

void shim_registration_retag(struct shim_registrations *list, struct shim_registration *r,
			     uint64_t tag)
{
	if (r->tag == tag)
		return;
	unlink_tag(list, r);
	link_tag(list, r, tag);
}

void shim_registration_become_ghost(struct shim_registrations *list, struct shim_registration *r)
{
	unlink_tag(list, r);
	shim_registration_make_cold(list, r);
	r->ghost = true;
}

void shim_registration_revive(struct shim_registrations *list, struct shim_registration *r,
			      uint64_t tag)
{
	link_tag(list, r, tag);
	r->ghost = false;
}

void shim_registration_note_change(struct shim_registrations *list, struct shim_registration *r)
{
	struct shim_registration *first = atomic_load_explicit(&list->changed,
							       memory_order_relaxed);

	if (r->changed)
		return;
	r->changed = true;
	r->previous_changed = NULL;
	r->next_changed = first;
	if (first)
		first->previous_changed = r;
	atomic_store(&list->changed, r);
}

void shim_registration_forget_change(struct shim_registrations *list, struct shim_registration *r)
{
	if (!r->changed)
		return;
	r->changed = false;
	if (r->next_changed)
		r->next_changed->previous_changed = r->previous_changed;
	if (r->previous_changed)
		r->previous_changed->next_changed = r->next_changed;
	else
		atomic_store(&list->changed, r->next_changed);
}

__attribute__((hot)) struct shim_registration *shim_registration_at(struct shim_registrations *list,
								    int fd)
{
	struct shim_registration *r = *fd_bucket(list, fd);

	while (r && r->fd != fd)
		r = r->next_by_fd;
	return r;
}

__attribute__((hot)) struct shim_registration *
shim_registration_by_fd(struct shim_registrations *list, int fd)
{
	struct shim_registration *r = shim_registration_at(list, fd);

	while (r && (r->stray || r->fd != fd))
		r = r->next_by_fd;
	return r;
}

void shim_registration_go_astray(struct shim_registrations *list, struct shim_registration *r,
				 int fd)
{
	unlink_fd(list, r);
	r->stray = true;
	r->fd = fd;
	link_fd(list, r);
}

void shim_registration_come_back(struct shim_registrations *list, struct shim_registration *r)
{
	unlink_fd(list, r);
	r->stray = false;
	r->fd = r->number;
	link_fd(list, r);
}

static struct shim_registration *with_tag(struct shim_registration *r, uint64_t tag)
{
	while (r && r->tag != tag)
		r = r->next_by_tag;
	return r;
}

__attribute__((hot)) struct shim_registration *
shim_registration_by_tag(struct shim_registrations *list, uint64_t tag)
{
	return with_tag(*tag_bucket(list, tag), tag);
}

__attribute__((hot)) struct shim_registration *
shim_registration_same_tag(const struct shim_registration *r)
{
	return with_tag(r->next_by_tag, r->tag);
}

struct shim_registration *
shim_registration_find_newsy(struct shim_registrations *list,
			     bool (*is_newsy)(const struct shim_registration *r))
{
	struct shim_registration *start = list->newsy, *r = start;

	while (r && !is_newsy(r))
		r = r->next;
	if (!r) {
		r = list->all;
		while (r != start && !is_newsy(r))
			r = r->next;
		if (r == start)
			r = NULL;
	}
	list->newsy = r;
	return r;
}

void shim_registration_make_cold(struct shim_registrations *list, struct shim_registration *r)
{
	if (!r->hot)
		return;
	if (r->previous_hot)
		r->previous_hot->next_hot = r->next_hot;
	else
		list->first_hot = r->next_hot;
	if (r->next_hot)
		r->next_hot->previous_hot = r->previous_hot;
	else
		list->last_hot = r->previous_hot;
	r->hot = false;
}

__attribute__((hot)) void shim_registration_make_hot(struct shim_registrations *list,
						     struct shim_registration *r)
{
	if (r->hot && list->last_hot == r)
		return;
	shim_registration_make_cold(list, r);
	r->next_hot = NULL;
	r->previous_hot = list->last_hot;
	if (list->last_hot)
		list->last_hot->next_hot = r;
	else
		list->first_hot = r;
	list->last_hot = r;
	r->hot = true;
}
