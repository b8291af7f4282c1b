/* SPDX-License-Identifier: Apache-2.0 */
#include "core/ipc/queue.h"

#include <errno.h>
#include <stddef.h>

static const struct {
	uint8_t working, head, tail;
} places[] = {
	[SHMIPC_QUEUE_X86] = { .working = 20, .head = 4, .tail = 12 },
	[SHMIPC_QUEUE_ALIGNED] = { .working = 4, .head = 8, .tail = 16 },
};

static _Atomic uint32_t *word(void *at, uint64_t offset)
{
	return (_Atomic uint32_t *)(void *)((uint8_t *)at + offset);
}

void shmipc_queue_format(void *base, uint32_t capacity)
{
	atomic_store_explicit(word(base, 0), capacity, memory_order_relaxed);
	atomic_store_explicit(word(base, shmipc_queue_mapping_bytes(capacity) / 2), capacity,
			      memory_order_relaxed);
}

/* Both halves of a counter that nobody moves now, or the peer moves only up. */
static uint64_t read_counter(_Atomic uint32_t *low)
{
	uint64_t high = atomic_load_explicit(low + 1, memory_order_relaxed);

	return high << 32 | atomic_load_explicit(low, memory_order_acquire);
}

int shmipc_queue_attach(struct shmipc_queue *queue, void *at, uint64_t bytes,
			enum shmipc_queue_layout layout, bool producer)
{
	_Atomic uint32_t *head = word(at, places[layout].head);
	_Atomic uint32_t *tail = word(at, places[layout].tail);
	uint32_t capacity;

	if (bytes < SHMIPC_QUEUE_HEADER_BYTES)
		return -EPROTO;
	capacity = atomic_load_explicit(word(at, 0), memory_order_relaxed);
	if (capacity == 0 || capacity > SHMIPC_QUEUE_CAPACITY_MAX ||
	    shmipc_queue_mapping_bytes(capacity) / 2 != bytes)
		return -EPROTO;
	queue->elements = word(at, SHMIPC_QUEUE_HEADER_BYTES);
	queue->working = word(at, places[layout].working);
	queue->own = producer ? tail : head;
	queue->other = producer ? head : tail;
	queue->capacity = capacity;
	queue->position = read_counter(queue->own);
	queue->slot = (uint32_t)(queue->position % capacity);
	queue->seen = atomic_load_explicit(queue->other, memory_order_acquire);
	if ((producer ? (uint32_t)queue->position - queue->seen
		      : queue->seen - (uint32_t)queue->position) > capacity)
		return -EPROTO;
	return 0;
}

static _Atomic uint32_t *slot_words(const struct shmipc_queue *queue, uint32_t slot)
{
	return queue->elements + (size_t)slot * (SHMIPC_QUEUE_ELEMENT_BYTES / 4);
}

static void publish(struct shmipc_queue *queue, uint32_t n)
{
	queue->position += n;
	queue->slot += n;
	if (queue->slot >= queue->capacity)
		queue->slot -= queue->capacity;
	/* [tail:rel] publishes the elements and the slices that they name, [head:rel] that we have
	 * read them; pair with [tail:acq] in available() and [head:acq] in put() */
	atomic_store_explicit(queue->own, (uint32_t)queue->position, memory_order_release);
	if ((uint32_t)queue->position < n)
		atomic_store_explicit(queue->own + 1, (uint32_t)(queue->position >> 32),
				      memory_order_release);
}

int shmipc_queue_has_room(struct shmipc_queue *queue)
{
	uint32_t used = (uint32_t)queue->position - queue->seen;

	if (used < queue->capacity)
		return 1;
	/* [head:acq] the slot is free; pairs with [head:rel] in publish() */
	queue->seen = atomic_load_explicit(queue->other, memory_order_acquire);
	used = (uint32_t)queue->position - queue->seen;
	return used > queue->capacity ? -EPROTO : used < queue->capacity;
}

int shmipc_queue_put(struct shmipc_queue *queue, const struct shmipc_queue_element *element)
{
	_Atomic uint32_t *to = slot_words(queue, queue->slot);
	int room = shmipc_queue_has_room(queue);

	if (room <= 0)
		return room ? room : -EAGAIN;
	atomic_store_explicit(&to[0], element->stream, memory_order_relaxed);
	atomic_store_explicit(&to[1], element->offset, memory_order_relaxed);
	atomic_store_explicit(&to[2], element->status, memory_order_relaxed);
	publish(queue, 1);
	return 0;
}

bool shmipc_queue_must_wake(struct shmipc_queue *queue)
{
	uint32_t resting = 0;

	/* [wake:producer] tail before working; pairs with [wake:consumer] in rest() */
	atomic_thread_fence(memory_order_seq_cst);
	if (atomic_load_explicit(queue->working, memory_order_relaxed) != 0)
		return false;
	return atomic_compare_exchange_strong(queue->working, &resting, 1);
}

bool shmipc_queue_is_drained(const struct shmipc_queue *queue)
{
	return atomic_load_explicit(queue->other, memory_order_acquire) ==
	       (uint32_t)queue->position;
}

bool shmipc_queue_take_back(struct shmipc_queue *queue, struct shmipc_queue_element *out)
{
	uint32_t used = (uint32_t)queue->position - queue->seen;
	_Atomic uint32_t *from;

	if (used == 0 || used > queue->capacity)
		return false;
	from = slot_words(queue, queue->slot >= used ? queue->slot - used
						     : queue->slot + queue->capacity - used);
	queue->seen++;
	out->stream = atomic_load_explicit(&from[0], memory_order_relaxed);
	out->offset = atomic_load_explicit(&from[1], memory_order_relaxed);
	out->status = atomic_load_explicit(&from[2], memory_order_relaxed);
	return true;
}

int64_t shmipc_queue_available(struct shmipc_queue *queue)
{
	uint32_t n;

	/* [tail:acq] sees the elements below it; pairs with [tail:rel] in publish() */
	queue->seen = atomic_load_explicit(queue->other, memory_order_acquire);
	n = queue->seen - (uint32_t)queue->position;
	return n > queue->capacity ? -EPROTO : (int64_t)n;
}

struct shmipc_queue_element shmipc_queue_look(const struct shmipc_queue *queue, uint32_t n)
{
	uint32_t slot = queue->slot + n;
	_Atomic uint32_t *from;

	from = slot_words(queue, slot >= queue->capacity ? slot - queue->capacity : slot);
	return (struct shmipc_queue_element){
		.stream = atomic_load_explicit(&from[0], memory_order_relaxed),
		.offset = atomic_load_explicit(&from[1], memory_order_relaxed),
		.status = atomic_load_explicit(&from[2], memory_order_relaxed),
	};
}

void shmipc_queue_consume(struct shmipc_queue *queue, uint32_t n)
{
	publish(queue, n);
}

void shmipc_queue_stay_awake(struct shmipc_queue *queue)
{
	if (atomic_load_explicit(queue->working, memory_order_relaxed) == 0)
		atomic_store_explicit(queue->working, 1, memory_order_relaxed);
}

bool shmipc_queue_rest(struct shmipc_queue *queue)
{
	atomic_store_explicit(queue->working, 0, memory_order_relaxed);
	/* [wake:consumer] working before tail; pairs with [wake:producer] in must_wake() */
	atomic_thread_fence(memory_order_seq_cst);
	if (!shmipc_queue_has_any(queue))
		return true;
	atomic_store_explicit(queue->working, 1, memory_order_relaxed);
	return false;
}
