/* SPDX-License-Identifier: Apache-2.0 */
#include "preload/loaded.h"

#include <dlfcn.h>
#include <gnu/libc-version.h>
#include <link.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>

#include "core/call_note.h"
#include "core/cpu.h"
#include "core/postpone.h"
#include "core/relaxing.h"
#include "core/sys.h"
#include "core/thread.h"
#include "preload/conn_parts.h"
#include "preload/config.h"
#include "preload/findings.h"
#include "preload/log.h"
#include "preload/rebind.h"
#include "preload/sets.h"
#include "preload/system_calls.h"

/*
 * dl_iterate_phdr() holds the lock under which the loader changes its list and unmaps objects, so
 * what its callback reads stays there.  The loader holds that lock for nothing else: no
 * constructor, destructor or resolver of an object runs under it.  It belongs to a thread and may
 * be taken again by it: hence nothing is done in a signal handler, which may have interrupted the
 * unmapping.  Handlers of the application wait meanwhile (postpone.h), because one that jumps
 * away would leave the lock taken.
 *
 * A child of a process with several threads may find the lock taken by a thread that it does not
 * have; it does not ask.
 */

enum {
	STEP_US = 150,
	AGAIN_US = 1000, /* between two questions whether something was loaded */
	PIECE_BYTES = 4096,
	OBJECTS_MAX = 4096,
	NOT_OURS_MAX = 8,
	NAME_BYTES = SHMIPC_STATUS_OBJECT_BYTES,
	MOMENT_NS = 20 * 1000,
	MOMENTS_MAX = 5000,
};

enum outcome {
	NEXT = 0, /* dl_iterate_phdr() goes on */
	UNFINISHED,
	FOUND,
	NOTHING_NEW,
};

typedef int (*iterate_visit)(struct dl_phdr_info *, size_t, void *);
typedef int (*iterate)(iterate_visit, void *);

static iterate iterate_objects;
static uintptr_t exempt[NOT_OURS_MAX]; /* an object that holds one of these does not count */

/* By whoever has set `busy`. */
static _Atomic uint32_t busy;
static _Atomic uint32_t blind_generation; /* of a process that cannot ask */
static _Atomic uint64_t asked_ticks;
static _Atomic bool is_of_use; /* there is, or was, an end that may become relaxed */
static struct {
	bool through;
	unsigned long long loads;    /* the loader's count, when all were gone through */
	uint64_t current;	     /* the object in the middle of which a step ended, */
	uintptr_t at;		     /* and where */
	uint64_t known[OBJECTS_MAX]; /* objects without a finding, in the loader's order */
	uint32_t known_count;
} looked;
/* By whoever forks. */
static bool forks_blind, holds_steps;
static char found_in[NAME_BYTES];

struct step {
	unsigned long long loads;
	uint32_t position;
	uint64_t end_ticks;
	uintptr_t found_at; /* in the object's own addresses */
};

/* ---- which objects ---- */

static bool holds(const struct dl_phdr_info *info, uintptr_t address)
{
	for (size_t i = 0; i < info->dlpi_phnum; i++) {
		const ElfW(Phdr) *h = &info->dlpi_phdr[i];

		if (h->p_type == PT_LOAD && address - (info->dlpi_addr + h->p_vaddr) < h->p_memsz)
			return true;
	}
	return false;
}

bool shim_loaded_is_exempt(const struct dl_phdr_info *info)
{
	for (size_t i = 0; i < NOT_OURS_MAX && exempt[i]; i++)
		if (holds(info, exempt[i]))
			return true;
	return false;
}

static uint64_t hash(uint64_t seed, const void *from, size_t bytes)
{
	const unsigned char *byte = from;

	for (size_t i = 0; i < bytes; i++)
		seed = (seed ^ byte[i]) * 0x100000001b3u;
	return seed;
}

/* Another file at the same place has another name, other segments or another build id. */
static uint64_t identity(const struct dl_phdr_info *info)
{
	const struct shim_object object = { info->dlpi_addr, info->dlpi_phdr, info->dlpi_phnum };
	uint64_t value = hash(0xcbf29ce484222325u, &info->dlpi_addr, sizeof(info->dlpi_addr));

	value = hash(value, info->dlpi_name, strlen(info->dlpi_name));
	value = hash(value, info->dlpi_phdr, info->dlpi_phnum * sizeof(*info->dlpi_phdr));
	for (size_t i = 0; i < info->dlpi_phnum; i++) {
		const ElfW(Phdr) *h = &info->dlpi_phdr[i];
		uintptr_t notes = info->dlpi_addr + h->p_vaddr;

		if (h->p_type == PT_NOTE && h->p_memsz < PIECE_BYTES &&
		    shim_object_has(&object, notes, h->p_memsz))
			value = hash(value, (const void *)notes, h->p_memsz);
	}
	return value ? value : 1; /* 0 is none */
}

static bool is_known(uint64_t object, uint32_t position)
{
	if (position < looked.known_count && looked.known[position] == object)
		return true;
	for (uint32_t i = 0; i < looked.known_count; i++)
		if (looked.known[i] == object)
			return true;
	return false;
}

/* ---- one object ---- */

static bool note_names(uintptr_t content, const ElfW(Nhdr) * head, uintptr_t at)
{
	int32_t distance;

	if (head->n_type != SHMIPC_CALL_NOTE_TYPE || head->n_descsz != sizeof(distance) ||
	    head->n_namesz != sizeof(SHMIPC_CALL_NOTE_NAME) ||
	    memcmp((const void *)(content - 8), SHMIPC_CALL_NOTE_NAME, head->n_namesz) != 0)
		return false;
	memcpy(&distance, (const void *)content, sizeof(distance));
	return content + (uintptr_t)(intptr_t)distance == at;
}

static uintptr_t padded(uintptr_t bytes, uintptr_t alignment)
{
	return (bytes + alignment - 1) & ~(alignment - 1);
}

/* Those of ours are named in notes. */
static bool is_our_own(const struct shim_object *object, uintptr_t at)
{
	for (size_t i = 0; i < object->header_count; i++) {
		const ElfW(Phdr) *h = &object->headers[i];
		uintptr_t note = object->bias + h->p_vaddr, end = note + h->p_memsz, content;
		ElfW(Nhdr) head;

		if (h->p_type != PT_NOTE || h->p_align > 4 ||
		    !shim_object_has(object, note, h->p_memsz))
			continue;
		for (; note < end && end - note >= sizeof(head); note = content) {
			memcpy(&head, (const void *)note, sizeof(head));
			content = note + sizeof(head) + padded(head.n_namesz, 4);
			if (content > end || end - content < head.n_descsz)
				break;
			if (note_names(content, &head, at))
				return true;
			content += padded(head.n_descsz, 4);
		}
	}
	return false;
}

static enum outcome go_through(const struct shim_object *object, const ElfW(Phdr) * h,
			       struct step *step)
{
	const uintptr_t low = object->bias + h->p_vaddr, high = low + h->p_filesz;
	struct shim_frames frames;
	uintptr_t at = looked.at > low && looked.at < high ? looked.at : low;

	if (looked.at >= high)
		return NEXT;
	shim_frames_find(&frames, object);
	while (at < high) {
		uintptr_t to = (at & ~(uintptr_t)(PIECE_BYTES - 1)) + PIECE_BYTES;

		to = to < high ? to : high;
		/* the pair may end in the next page; what cannot be read cannot be judged */
		if (!shim_object_has(object, at, (to < high ? to + 1 : to) - at)) {
			step->found_at = at - object->bias;
			return FOUND;
		}
		for (; (at = shim_system_call_next(at, to, high)) < to; at++) {
			if (shim_system_call_is_at(&frames, at, low, high) &&
			    !is_our_own(object, at)) {
				step->found_at = at - object->bias;
				return FOUND;
			}
		}
		looked.at = at = to;
		if (shmipc_ticks() >= step->end_ticks)
			return UNFINISHED;
	}
	return NEXT;
}

/* In the object's executable segments; from where the last step ended, if it ended in this one. */
static enum outcome look_for_calls(const struct dl_phdr_info *info, uint64_t it, struct step *step)
{
	const struct shim_object object = { info->dlpi_addr, info->dlpi_phdr, info->dlpi_phnum };
	enum outcome outcome = NEXT;

	if (looked.current != it)
		looked.at = 0;
	looked.current = it;
	for (size_t i = 0; i < info->dlpi_phnum && outcome == NEXT; i++)
		if (info->dlpi_phdr[i].p_type == PT_LOAD && (info->dlpi_phdr[i].p_flags & PF_X))
			outcome = go_through(&object, &info->dlpi_phdr[i], step);
	if (outcome != UNFINISHED)
		shim_findings_add(it, outcome == FOUND ? SHIM_FINDING_CALLS : SHIM_FINDING_CLEAN,
				  step->found_at);
	return outcome;
}

/* If a relative of ours has not done it before us. */
static enum outcome find_out(const struct dl_phdr_info *info, uint64_t it, struct step *step)
{
	switch (shim_findings_of(it, &step->found_at)) {
	case SHIM_FINDING_CLEAN:
		return NEXT;
	case SHIM_FINDING_CALLS:
		return FOUND;
	default:
		return look_for_calls(info, it, step);
	}
}

static int visit(struct dl_phdr_info *info, size_t bytes, void *argument)
{
	struct step *step = argument;
	enum outcome outcome;
	uint64_t it;

	(void)bytes;
	step->loads = info->dlpi_adds;
	if (shim_loaded_is_exempt(info))
		return NEXT;
	it = identity(info);
	if (is_known(it, step->position++))
		return NEXT;
	outcome = find_out(info, it, step);
	if (outcome == NEXT && looked.known_count == OBJECTS_MAX)
		outcome = FOUND;
	if (outcome == NEXT)
		looked.known[looked.known_count++] = it;
	if (outcome == FOUND)
		strncpy(found_in, info->dlpi_name[0] ? info->dlpi_name : "the program itself",
			sizeof(found_in) - 1);
	return (int)outcome;
}

/* ---- the answer ---- */

static void is_unseen(struct shim_conn *conn)
{
	shim_conn_waits_unseen(conn);
	shim_conn_show_system_calls(conn, found_in);
}

static void forbid(uintptr_t at)
{
	atomic_store(&shmipc_relaxing, SHMIPC_RELAXING_FORBIDDEN);
	shim_log(SHIM_LOG_INFO,
		 "pid=%d event=strict object=%s offset=%#lx "
		 "reason=system-call-instruction",
		 sys_getpid(), found_in, (unsigned long)at);
	shim_conn_for_each_held(is_unseen);
	shim_sets_are_given_away();
}

static void make_strict(struct shim_conn *conn)
{
	if (shim_conn_is_attached(conn) && conn->rx.ready)
		shmipc_receiver_strict(&conn->rx, true);
}

/* [relaxing] */
static void take_leave_back(void)
{
	if (!shmipc_relaxing_is_allowed())
		return;
	atomic_store(&shmipc_relaxing, SHMIPC_RELAXING_UNDECIDED);
	shim_conn_for_each_held(make_strict);
	shim_sets_show();
}

static int nothing_new(struct dl_phdr_info *info, size_t bytes, void *loads)
{
	(void)bytes;
	return info->dlpi_adds == *(unsigned long long *)loads ? NOTHING_NEW : UNFINISHED;
}

static void go_on(void)
{
	struct step step = { 0 };
	int outcome;

	if (looked.through && iterate_objects(nothing_new, &looked.loads) == NOTHING_NEW) {
		if (!shmipc_relaxing_is_allowed())
			atomic_store(&shmipc_relaxing, SHMIPC_RELAXING_ALLOWED);
		return;
	}
	looked.through = false;
	take_leave_back();
	step.end_ticks = shmipc_ticks() + STEP_US * shmipc_ticks_per_us();
	outcome = iterate_objects(visit, &step);
	if (outcome == FOUND) {
		forbid(step.found_at);
	} else if (outcome == NEXT) {
		looked.loads = step.loads;
		looked.through = true;
		atomic_store(&shmipc_relaxing, SHMIPC_RELAXING_ALLOWED);
	}
}

static bool is_too_soon(void)
{
	uint64_t now = shmipc_ticks(),
		 last = atomic_load_explicit(&asked_ticks, memory_order_relaxed);

	if (shmipc_relaxing_is_allowed() && now - last < AGAIN_US * shmipc_ticks_per_us())
		return true;
	atomic_store_explicit(&asked_ticks, now, memory_order_relaxed);
	return false;
}

static bool may_ask(void)
{
	return iterate_objects && !shmipc_postpone_in_handler() && !shim_process_is_borrowed() &&
	       atomic_load(&blind_generation) != shmipc_process_generation();
}

enum shim_loaded_visit shim_loaded_visit(iterate_visit visit_object, void *argument)
{
	uint32_t idle = 0;
	bool done;

	if (!may_ask())
		return SHIM_LOADED_REFUSED;
	shmipc_postpone_begin();
	done = atomic_compare_exchange_strong(&busy, &idle, 1);
	if (done) {
		iterate_objects(visit_object, argument);
		atomic_store(&busy, 0);
	}
	shmipc_postpone_end();
	return done ? SHIM_LOADED_VISITED : SHIM_LOADED_BUSY;
}

/* Called by every wait that is about to sleep. */
static void decide(void)
{
	uint32_t idle = 0;

	if (!atomic_load_explicit(&is_of_use, memory_order_relaxed) || is_too_soon() || !may_ask())
		return;
	shim_rebind_look();
	shmipc_postpone_begin();
	if (atomic_compare_exchange_strong(&busy, &idle, 1)) {
		go_on();
		atomic_store(&busy, 0);
	}
	shmipc_postpone_end();
}

/* ---- beginning, fork ---- */

static void exempt_holder_of(uintptr_t address)
{
	for (size_t i = 0; address && i < NOT_OURS_MAX; i++) {
		if (exempt[i])
			continue;
		exempt[i] = address;
		return;
	}
}

/* Until 2.34 libc was several objects. */
static void exempt_parts_of_old_libc(void)
{
	const char *version = gnu_get_libc_version();

	if (strncmp(version, "2.", 2) == 0 && atoi(version + 2) >= 34)
		return;
	exempt_holder_of((uintptr_t)dlsym(RTLD_NEXT, "pthread_create"));
	exempt_holder_of((uintptr_t)dlsym(RTLD_NEXT, "timer_create"));
}

void shim_loaded_start(void)
{
	union {
		void *object;
		iterate function;
	} symbol = { dlsym(RTLD_NEXT, "dl_iterate_phdr") };

	iterate_objects = symbol.function;
	exempt_holder_of((uintptr_t)dlsym(RTLD_NEXT, "gnu_get_libc_version"));
	exempt_holder_of((uintptr_t)getauxval(AT_BASE));
	exempt_holder_of((uintptr_t)dlsym(RTLD_NEXT, "__tls_get_addr"));
	exempt_holder_of((uintptr_t)getauxval(AT_SYSINFO_EHDR));
	exempt_holder_of((uintptr_t)shim_loaded_start);
	exempt_parts_of_old_libc();
#if defined(__SANITIZE_ADDRESS__)
	exempt_holder_of((uintptr_t)dlsym(RTLD_DEFAULT, "__asan_init"));
#elif defined(__SANITIZE_THREAD__)
	exempt_holder_of((uintptr_t)dlsym(RTLD_DEFAULT, "__tsan_init"));
#endif
	shmipc_relaxing_decide_by(iterate_objects ? decide : NULL);
}

void shim_loaded_look(struct shim_conn *conn)
{
	if (shmipc_relaxing_is_forbidden())
		is_unseen(conn);
	atomic_store_explicit(&is_of_use, true, memory_order_relaxed);
	atomic_store_explicit(&asked_ticks, 0, memory_order_relaxed); /* ask at the next wait */
}

/* A thread that has the loader's lock in its own callback may be the one that forks: whoever makes
 * a step then waits for it. */
void shim_loaded_before_fork(void)
{
	const struct timespec moment = { 0, MOMENT_NS };
	uint32_t idle = 0;
	int moments = 0;

	while (!atomic_compare_exchange_strong(&busy, &idle, 1) && ++moments < MOMENTS_MAX) {
		idle = 0;
		sys_call3(SYS_nanosleep, (long)&moment, 0, 0);
	}
	shim_findings_share();
	holds_steps = moments < MOMENTS_MAX;
	forks_blind = !holds_steps || !shmipc_single_threaded();
}

void shim_loaded_after_fork(void)
{
	if (holds_steps)
		atomic_store(&busy, 0);
}

void shim_loaded_in_child(void)
{
	if (forks_blind)
		atomic_store(&blind_generation, shmipc_process_generation());
	if (forks_blind && shmipc_relaxing_is_allowed())
		atomic_store(&shmipc_relaxing, SHMIPC_RELAXING_UNDECIDED);
	atomic_store(&busy, 0);
}
