/* SPDX-License-Identifier: Apache-2.0 */
#include "core/ipc/pool.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "core/cpu.h"
#include "core/sys.h"

enum {
	POOL_HEADER_BYTES = 8,
	LIST_HEADER_BYTES = 36,
	/* of a list's header */
	LIST_SIZE = 0,
	LIST_CAP = 4,
	LIST_HEAD = 8,
	LIST_TAIL = 12,
	LIST_CAPACITY = 16,
	LIST_COUNTERS = 20, /* the creator's, the mapper's */
	LIST_NOTES = 28,
	/* of a slice's header */
	SLICE_CAPACITY = 0,
	SLICE_SIZE = 4,
	SLICE_START = 8,
	SLICE_NEXT = 12,
	SLICE_FLAGS = 16,
	SLICE_TAKER = 17,    /* of a list's first slice: somebody takes from the list */
	TAKE_ATTEMPTS = 200, /* as the other implementations: then it counts as empty */
	ATTEMPTS_IN_A_ROW = 50,
#if defined(__x86_64__)
	ALIGNMENT = 1
#else
	ALIGNMENT = 4
#endif
};

static _Atomic uint32_t *word(const struct shmipc_pool *pool, uint32_t offset)
{
	return (_Atomic uint32_t *)(void *)(pool->base + offset);
}

static _Atomic uint8_t *flags_of(const struct shmipc_pool *pool, uint32_t slice)
{
	return (_Atomic uint8_t *)(pool->base + slice + SLICE_FLAGS);
}

static uint32_t peek(const struct shmipc_pool *pool, uint32_t offset)
{
	return atomic_load_explicit(word(pool, offset), memory_order_relaxed);
}

static void poke(const struct shmipc_pool *pool, uint32_t offset, uint32_t value)
{
	atomic_store_explicit(word(pool, offset), value, memory_order_relaxed);
}

/* Is this the offset, relative to the list's region, of one of its slices? */
static bool is_slice(const struct shmipc_pool_list *list, uint32_t relative)
{
	return relative < list->count * list->stride && relative % list->stride == 0;
}

static uint32_t number_of(const struct shmipc_pool *pool, struct shmipc_slice slice)
{
	const struct shmipc_pool_list *list = &pool->lists[slice.list];

	return list->first + (slice.offset - list->region) / list->stride;
}

/* ---- set-up --------------------------------------------------------------------------------- */

static int compare_classes(const void *a, const void *b)
{
	const struct shmipc_slice_class *left = a, *right = b;

	return left->bytes < right->bytes ? -1 : left->bytes > right->bytes;
}

static int allocate_held(struct shmipc_pool *pool)
{
	pool->held = calloc(pool->slice_count, 1);
	return pool->held ? 0 : -ENOMEM;
}

static void format_list(struct shmipc_pool *pool, const struct shmipc_pool_list *list)
{
	uint32_t i, slice = list->region;

	poke(pool, list->header + LIST_SIZE, list->count);
	poke(pool, list->header + LIST_CAP, list->count);
	poke(pool, list->header + LIST_HEAD, 0);
	poke(pool, list->header + LIST_TAIL, (list->count - 1) * list->stride);
	poke(pool, list->header + LIST_CAPACITY, list->capacity);
	for (i = 0; i < list->count; i++, slice += list->stride) {
		bool last = i + 1 == list->count;

		poke(pool, slice + SLICE_CAPACITY, list->capacity);
		poke(pool, slice + SLICE_NEXT, last ? 0 : (i + 1) * list->stride);
		atomic_store_explicit(flags_of(pool, slice), last ? 0 : SHMIPC_SLICE_HAS_NEXT,
				      memory_order_relaxed);
	}
}

static int plan_list(struct shmipc_pool *pool, const struct shmipc_slice_class *class,
		     uint64_t usable, uint32_t *at)
{
	struct shmipc_pool_list *list = &pool->lists[pool->list_count];
	uint64_t stride = (uint64_t) class->bytes + SHMIPC_SLICE_HEADER_BYTES;
	uint64_t count = usable * class->percent / 100 / stride;

	if (class->bytes == 0 || class->bytes % 4 != 0 || count == 0)
		return -EINVAL;
	*list = (struct shmipc_pool_list){ .header = *at,
					   .region = *at + LIST_HEADER_BYTES,
					   .stride = (uint32_t)stride,
					   .capacity = class->bytes,
					   .count = (uint32_t)count,
					   .first = pool->slice_count };
	*at = list->region + list->count * list->stride;
	pool->slice_count += list->count;
	pool->list_count++;
	return 0;
}

int shmipc_pool_format(struct shmipc_pool *pool, void *base, uint32_t bytes,
		       const struct shmipc_slice_class *classes, uint32_t class_count)
{
	struct shmipc_slice_class sorted[SHMIPC_SLICE_CLASSES_MAX];
	uint32_t i, percents = 0, at = POOL_HEADER_BYTES;
	int error;

	*pool = (struct shmipc_pool){ .base = base, .bytes = bytes, .side = SHMIPC_POOL_CREATOR };
	if (class_count == 0 || class_count > SHMIPC_SLICE_CLASSES_MAX ||
	    bytes <= POOL_HEADER_BYTES + LIST_HEADER_BYTES * class_count)
		return -EINVAL;
	memcpy(sorted, classes, class_count * sizeof(*classes));
	qsort(sorted, class_count, sizeof(*sorted), compare_classes);
	for (i = 0; i < class_count; i++) {
		if (sorted[i].percent > 100 || (i > 0 && sorted[i].bytes == sorted[i - 1].bytes))
			return -EINVAL;
		percents += sorted[i].percent;
		error = plan_list(pool, &sorted[i],
				  bytes - POOL_HEADER_BYTES - LIST_HEADER_BYTES * class_count, &at);
		if (error)
			return error;
	}
	if (percents != 100)
		return -EINVAL;
	if (!base) /* only asked whether it would work */
		return 0;
	error = allocate_held(pool);
	if (error)
		return error;
	for (i = 0; i < pool->list_count; i++)
		format_list(pool, &pool->lists[i]);
	poke(pool, 4, at - POOL_HEADER_BYTES);
	poke(pool, 0, pool->list_count);
	return 0;
}

/* Reads one list's geometry once and judges the copy. */
static int attach_list(struct shmipc_pool *pool, uint32_t end, uint32_t *at)
{
	struct shmipc_pool_list *list = &pool->lists[pool->list_count];
	uint64_t bytes;

	if (end - *at < LIST_HEADER_BYTES)
		return -EPROTO;
	list->header = *at;
	list->region = *at + LIST_HEADER_BYTES;
	list->count = peek(pool, *at + LIST_CAP);
	list->capacity = peek(pool, *at + LIST_CAPACITY);
	list->first = pool->slice_count;
	if (list->count == 0 || list->capacity == 0 || list->capacity % ALIGNMENT != 0 ||
	    list->capacity > end - SHMIPC_SLICE_HEADER_BYTES)
		return -EPROTO;
	if (pool->list_count > 0 && list->capacity <= list[-1].capacity)
		return -EPROTO;
	list->stride = list->capacity + SHMIPC_SLICE_HEADER_BYTES;
	bytes = (uint64_t)list->count * list->stride;
	if (bytes > end - list->region)
		return -EPROTO;
	*at = list->region + (uint32_t)bytes;
	pool->slice_count += list->count;
	pool->list_count++;
	return 0;
}

int shmipc_pool_attach(struct shmipc_pool *pool, void *base, uint32_t bytes)
{
	uint32_t i, lists, used, at = POOL_HEADER_BYTES;
	int error;

	*pool = (struct shmipc_pool){ .base = base, .bytes = bytes, .side = SHMIPC_POOL_MAPPER };
	if (bytes < POOL_HEADER_BYTES + LIST_HEADER_BYTES)
		return -EPROTO;
	lists = peek(pool, 0) & 0xffff;
	used = peek(pool, 4);
	if (lists == 0 || lists > SHMIPC_POOL_LISTS_MAX || used > bytes - POOL_HEADER_BYTES)
		return -EPROTO;
	for (i = 0; i < lists; i++) {
		error = attach_list(pool, POOL_HEADER_BYTES + used, &at);
		if (error)
			return error;
	}
	return allocate_held(pool);
}

void shmipc_pool_detach(struct shmipc_pool *pool)
{
	free((void *)pool->held);
	pool->held = NULL;
}

/* ---- taking and giving ---------------------------------------------------------------------- */

static void count(struct shmipc_pool *pool, const struct shmipc_pool_list *list, uint32_t by)
{
	atomic_fetch_add_explicit(word(pool, list->header + LIST_COUNTERS + 4u * pool->side), by,
				  memory_order_relaxed);
}

/* A word that both sides change, in one piece wherever it lies. */
static uint32_t whole(const struct shmipc_pool *pool, uint32_t offset)
{
	return atomic_fetch_add_explicit(word(pool, offset), 0, memory_order_acq_rel);
}

static bool has_next(const struct shmipc_pool *pool, uint32_t slice)
{
	/* [flags:acq] sees the `next` that was linked; pairs with [flags:rel] in link_behind() */
	return atomic_load_explicit(flags_of(pool, slice), memory_order_acquire) &
	       SHMIPC_SLICE_HAS_NEXT;
}

static bool move_head(struct shmipc_pool *pool, const struct shmipc_pool_list *list, uint32_t from,
		      uint32_t to)
{
	/* [head:acq] the slice is ours with what its last owner wrote to it */
	return atomic_compare_exchange_strong_explicit(word(pool, list->header + LIST_HEAD), &from,
						       to, memory_order_acq_rel,
						       memory_order_relaxed);
}

/* Whoever made us wait may have been stopped, on this core perhaps; who finds no slice at all takes
 * the socket, which costs far more. */
static void wait_a_moment(int attempt)
{
	if (attempt % ATTEMPTS_IN_A_ROW == ATTEMPTS_IN_A_ROW - 1)
		sys_sched_yield();
}

static _Atomic uint8_t *taker(const struct shmipc_pool *pool, const struct shmipc_pool_list *list)
{
	return (_Atomic uint8_t *)(pool->base + list->region + SLICE_TAKER);
}

/*
 * One libshmipc at a time takes from a list, of all threads and processes.
 *
 * Invariant: while we hold it, no other libshmipc moves the head, so the slice at the head stays
 * there with the successor that we read.  Without it the slice may go all the way round between
 * our look and our move and be at the head again with another successor: the head then skips what
 * lies between, for ever.  The byte is one that the protocol leaves unused, so other
 * implementations do not see it: against them see take_at().
 *
 * Who dies while he holds it takes the list with him: the peers of a dead process abandon the
 * mapping anyway, for the slices that he had.
 */
static bool begin_taking(const struct shmipc_pool *pool, const struct shmipc_pool_list *list)
{
	for (int i = 0; i < TAKE_ATTEMPTS; i++) {
		/* [taker:acq] sees the head as the last taker left it; pairs with [taker:rel] */
		if (!atomic_load_explicit(taker(pool, list), memory_order_relaxed) &&
		    !atomic_exchange_explicit(taker(pool, list), 1, memory_order_acquire))
			return true;
		shmipc_cpu_pause();
		wait_a_moment(i);
	}
	return false;
}

static void end_taking(const struct shmipc_pool *pool, const struct shmipc_pool_list *list)
{
	atomic_store_explicit(taker(pool, list), 0, memory_order_release); /* [taker:rel] */
}

/*
 * Takes the slice at `at` if that is the head.  -EAGAIN: it is not.
 *
 * A peer that is no libshmipc takes when it likes.  Between our look at the slice and our move of
 * the head it may have gone all the way round and be at the head again, with another successor or
 * as the last one; the word has no counter to tell.  But then it is ours, and itself says what is
 * right, and a head that is wrong for a few nanoseconds is not one that is wrong for ever.
 */
static int take_at(struct shmipc_pool *pool, const struct shmipc_pool_list *list, uint32_t at)
{
	uint32_t slice = list->region + at, next, right;

	if (!has_next(pool, slice))
		return (int32_t)whole(pool, list->header + LIST_SIZE) <= 1 ? -ENOBUFS : -EAGAIN;
	next = peek(pool, slice + SLICE_NEXT);
	/* one that was taken meanwhile may carry the link of a message */
	if (!is_slice(list, next))
		return -EAGAIN;
	/* looked at once more right before the move, in which little can happen */
	if (peek(pool, slice + SLICE_NEXT) != next || !move_head(pool, list, at, next))
		return -EAGAIN;
	if (!has_next(pool, slice)) {
		move_head(pool, list, next, at);
		return -EAGAIN;
	}
	right = peek(pool, slice + SLICE_NEXT);
	if (right != next && is_slice(list, right))
		move_head(pool, list, next, right);
	return 0;
}

/* The list said that there are slices to spare: takes the one at its head, or fails. */
static int take_head(struct shmipc_pool *pool, const struct shmipc_pool_list *list, uint32_t *out)
{
	uint32_t at = peek(pool, list->header + LIST_HEAD);
	int error;

	for (int i = 0; i < TAKE_ATTEMPTS; i++) {
		error = is_slice(list, at) ? take_at(pool, list, at) : -EAGAIN;
		if (error != -EAGAIN) {
			*out = list->region + at;
			return error;
		}
		at = whole(pool, list->header + LIST_HEAD);
		/* somebody may have given it back and not linked it yet */
		wait_a_moment(i);
	}
	return -ENOBUFS;
}

int shmipc_pool_take(struct shmipc_pool *pool, uint32_t list_number, struct shmipc_slice *out)
{
	const struct shmipc_pool_list *list = &pool->lists[list_number];
	_Atomic uint32_t *size = word(pool, list->header + LIST_SIZE);
	int error = -ENOBUFS;

	/* the transient dip below the true number is part of the protocol */
	if ((int32_t)(atomic_fetch_sub_explicit(size, 1, memory_order_acq_rel) - 1) > 0 &&
	    begin_taking(pool, list)) {
		error = take_head(pool, list, &out->offset);
		end_taking(pool, list);
	}
	if (error) {
		atomic_fetch_add_explicit(size, 1, memory_order_acq_rel);
		return error;
	}
	out->list = list_number;
	if (atomic_exchange_explicit(&pool->held[number_of(pool, *out)], 1, memory_order_relaxed))
		return -ENOBUFS; /* it is ours already: the list was tampered with */
	atomic_store_explicit(flags_of(pool, out->offset), SHMIPC_SLICE_IN_USE,
			      memory_order_relaxed);
	count(pool, list, 1);
	return 0;
}

/* `mine` is the tail now: nobody but us touches the slice that was, so plain stores do. */
static void link_behind(struct shmipc_pool *pool, const struct shmipc_pool_list *list,
			uint32_t last, uint32_t mine)
{
	_Atomic uint8_t *flags = flags_of(pool, list->region + last);

	if (!is_slice(list, last))
		return;
	poke(pool, list->region + last + SLICE_NEXT, mine);
	/* [flags:rel] publishes `next`; pairs with [flags:acq] in take_head() */
	atomic_store_explicit(
		flags, atomic_load_explicit(flags, memory_order_relaxed) | SHMIPC_SLICE_HAS_NEXT,
		memory_order_release);
}

void shmipc_pool_give(struct shmipc_pool *pool, struct shmipc_slice slice)
{
	const struct shmipc_pool_list *list = &pool->lists[slice.list];
	uint32_t mine = slice.offset - list->region;

	poke(pool, slice.offset + SLICE_SIZE, 0);
	poke(pool, slice.offset + SLICE_START, 0);
	atomic_store_explicit(flags_of(pool, slice.offset), 0, memory_order_relaxed);
	shmipc_pool_disown(pool, slice);
	/* [tail:rel] our last look at the payload comes before the slice can be taken */
	link_behind(pool, list,
		    atomic_exchange_explicit(word(pool, list->header + LIST_TAIL), mine,
					     memory_order_acq_rel),
		    mine);
	atomic_fetch_add_explicit(word(pool, list->header + LIST_SIZE), 1, memory_order_acq_rel);
	count(pool, list, (uint32_t)-1);
}

/* ---- sending and receiving ------------------------------------------------------------------ */

static bool find_list(const struct shmipc_pool *pool, uint32_t offset, uint32_t *out)
{
	for (uint32_t i = 0; i < pool->list_count; i++)
		if (offset >= pool->lists[i].region &&
		    is_slice(&pool->lists[i], offset - pool->lists[i].region)) {
			*out = i;
			return true;
		}
	return false;
}

int shmipc_pool_adopt(struct shmipc_pool *pool, uint32_t offset, struct shmipc_slice_content *out)
{
	uint32_t capacity;

	out->slice.offset = offset;
	if (!find_list(pool, offset, &out->slice.list))
		return -EPROTO;
	capacity = pool->lists[out->slice.list].capacity;
	out->bytes = peek(pool, offset + SLICE_SIZE);
	out->start = peek(pool, offset + SLICE_START);
	out->next = 0;
	if (atomic_load_explicit(flags_of(pool, offset), memory_order_relaxed) &
	    SHMIPC_SLICE_HAS_NEXT) {
		out->next = peek(pool, offset + SLICE_NEXT);
		if (out->next == 0)
			return -EPROTO;
	}
	if (out->bytes > capacity || out->start > capacity - out->bytes)
		return -EPROTO;
	if (atomic_exchange_explicit(&pool->held[number_of(pool, out->slice)], 1,
				     memory_order_relaxed))
		return -EPROTO; /* ours already: sent twice, or a chain that bites its tail */
	return 0;
}

void shmipc_pool_seal(struct shmipc_pool *pool, struct shmipc_slice slice, uint32_t bytes,
		      uint32_t next)
{
	uint8_t flags = SHMIPC_SLICE_IN_USE;

	poke(pool, slice.offset + SLICE_SIZE, bytes);
	poke(pool, slice.offset + SLICE_START, 0);
	if (next) {
		poke(pool, slice.offset + SLICE_NEXT, next);
		flags |= SHMIPC_SLICE_HAS_NEXT;
	}
	/* the queue's tail publishes all of it */
	atomic_store_explicit(flags_of(pool, slice.offset), flags, memory_order_relaxed);
}

void shmipc_pool_disown(struct shmipc_pool *pool, struct shmipc_slice slice)
{
	atomic_store_explicit(&pool->held[number_of(pool, slice)], 0, memory_order_relaxed);
}

uint32_t shmipc_pool_list_for(const struct shmipc_pool *pool, size_t bytes)
{
	uint32_t i = 0;

	while (i < pool->list_count && pool->lists[i].capacity < bytes)
		i++;
	return i;
}

/* ---- figures -------------------------------------------------------------------------------- */

uint64_t shmipc_pool_capacity(const struct shmipc_pool *pool)
{
	uint64_t bytes = 0;

	for (uint32_t i = 0; i < pool->list_count; i++)
		bytes += (uint64_t)pool->lists[i].count * pool->lists[i].capacity;
	return bytes;
}

uint64_t shmipc_pool_in_use(const struct shmipc_pool *pool)
{
	uint64_t bytes = 0;

	for (uint32_t i = 0; i < pool->list_count; i++) {
		const struct shmipc_pool_list *list = &pool->lists[i];
		int32_t unused = (int32_t)peek(pool, list->header + LIST_SIZE);

		if (unused >= 0 && (uint32_t)unused < list->count)
			bytes += (uint64_t)(list->count - (uint32_t)unused) * list->capacity;
	}
	return bytes;
}

int64_t shmipc_pool_outstanding(const struct shmipc_pool *pool)
{
	int64_t slices = 0;

	for (uint32_t i = 0; i < pool->list_count; i++) {
		uint32_t at = pool->lists[i].header + LIST_COUNTERS;

		slices += (int32_t)(peek(pool, at) + peek(pool, at + 4));
	}
	return slices;
}

_Atomic uint32_t *shmipc_pool_note(const struct shmipc_pool *pool, enum shmipc_pool_side side)
{
	return word(pool, pool->lists[0].header + LIST_NOTES + 4u * side);
}
