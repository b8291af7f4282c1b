/* SPDX-License-Identifier: Apache-2.0 */
#include "preload/session.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#include "core/cpu.h"
#include "core/lock.h"
#include "core/sys.h"
#include "core/thread.h"

enum { KEPT_RING_BYTES = 512 * 1024 };

static struct shim_session sessions[SHIM_SESSION_MAX];
static int session_limit;
static struct shmipc_lock lock;

static bool enter(void)
{
	return shmipc_lock_take(&lock, false) != SHMIPC_LOCK_REENTERED;
}

static void leave(void)
{
	shmipc_lock_drop(&lock, false);
}

struct shim_session *shim_session_at(int index)
{
	return &sessions[index];
}

static uint32_t word(uint32_t generation, uint32_t state)
{
	return generation << 8 | state;
}

/* ---- idle sessions; locked ---- */

static void unmap(struct shim_session *session)
{
	if (session->process == shmipc_process_generation()) {
		_Atomic uint32_t *gone = session->is_client ? &session->segment.header->client_gone :
							      &session->segment.header->server_gone;

		atomic_store(gone, 1);
	}
	shmipc_segment_unmap(&session->segment);
	session->used = false;
}

static bool peer_left(const struct shim_session *session)
{
	return atomic_load(session->is_client ? &session->segment.header->server_gone :
						&session->segment.header->client_gone) != 0;
}

/* Keep a few idle ones: their pages are touched already, and the pair may come back. */
static void trim_idle(void)
{
	struct shim_session *oldest = NULL;
	int idle = 0;

	for (int i = 0; i < session_limit; i++) {
		struct shim_session *session = &sessions[i];

		if (!session->used || session->live > 0)
			continue;
		if (peer_left(session)) {
			unmap(session);
			continue;
		}
		idle++;
		if (!oldest || session->idle_since < oldest->idle_since)
			oldest = session;
	}
	if (idle > SHIM_SESSION_IDLE_MAX)
		unmap(oldest);
}

int shim_session_add(const struct shmipc_segment *segment, bool is_client, uint64_t endpoint)
{
	int found = -ENOSPC;

	if (!enter())
		return -EBUSY;
	trim_idle();
	for (int i = 0; i < SHIM_SESSION_MAX && found < 0; i++) {
		if (sessions[i].used)
			continue;
		sessions[i] = (struct shim_session){
			.used = true,
			.is_client = is_client,
			.process = shmipc_process_generation(),
			.endpoint = endpoint,
			.segment = *segment,
		};
		if (i >= session_limit)
			session_limit = i + 1;
		found = i;
	}
	leave();
	return found;
}

/* ---- client ---- */

/* The pages of a stream that has carried much: what is beyond the start of each ring goes back to the kernel.  Only
 * the client, when both sides are through: it alone hands the stream out again. */
static void give_pages_back(struct shim_session *session, uint32_t stream)
{
	for (unsigned int direction = 0; direction < 2; direction++) {
		struct shmipc_ring ring = shmipc_segment_ring(&session->segment, stream, direction);

		if (ring.ring_bytes > KEPT_RING_BYTES)
			sys_madvise(ring.data + KEPT_RING_BYTES, ring.ring_bytes - KEPT_RING_BYTES, MADV_REMOVE);
	}
}

static bool carried_much(const struct shmipc_stream_control *control)
{
	return atomic_load(&control->direction[0].tx.tail) > KEPT_RING_BYTES ||
	       atomic_load(&control->direction[1].tx.tail) > KEPT_RING_BYTES;
}

static bool stream_is_free(struct shmipc_stream_control *control)
{
	uint32_t offer = atomic_load(&control->offer);
	uint32_t answer = atomic_load(&control->answer);

	if ((offer & 0xff) == SHMIPC_OFFER_FREE)
		return answer == 0;
	/* the server has confirmed the end of this very generation */
	return (offer & 0xff) == SHMIPC_OFFER_CLOSED && answer == word(offer >> 8, SHMIPC_ANSWER_CLOSED);
}

static void announce(struct shim_session *session, uint32_t stream, const uint8_t key[SHMIPC_KEY_BYTES])
{
	struct shmipc_stream_control *control = shmipc_segment_stream(&session->segment, stream);
	uint32_t generation = ((atomic_load(&control->offer) >> 8) + 1) & 0xffffff;

	if (carried_much(control))
		give_pages_back(session, stream);
	memset((void *)control->direction, 0, sizeof(control->direction));
	memcpy(control->key, key, SHMIPC_KEY_BYTES);
	atomic_store_explicit(&control->offer, word(generation, SHMIPC_OFFER_OPEN), memory_order_release);
	atomic_fetch_add(&session->segment.header->offers, 1);
	session->live++;
}

static int offer_in(int index, const uint8_t key[SHMIPC_KEY_BYTES], uint32_t *stream)
{
	struct shim_session *session = &sessions[index];

	for (uint32_t i = 0; i < session->segment.stream_count; i++) {
		struct shmipc_stream_control *control = shmipc_segment_stream(&session->segment, i);

		if (!stream_is_free(control))
			continue;
		announce(session, i, key);
		*stream = i;
		return 0;
	}
	return -ENOENT;
}

int shim_session_offer(uint64_t endpoint, const uint8_t key[SHMIPC_KEY_BYTES], int *session, uint32_t *stream)
{
	int error = -ENOENT;

	if (!enter())
		return -ENOENT;
	for (int i = 0; i < session_limit && error; i++) {
		const struct shim_session *s = &sessions[i];

		if (!s->used || !s->is_client || s->endpoint != endpoint ||
		    s->process != shmipc_process_generation() || peer_left(s))
			continue;
		error = offer_in(i, key, stream);
		*session = i;
	}
	leave();
	return error;
}

bool shim_session_answered(int session, uint32_t stream)
{
	struct shmipc_stream_control *control = shmipc_segment_stream(&sessions[session].segment, stream);
	uint32_t generation = atomic_load_explicit(&control->offer, memory_order_relaxed) >> 8;

	if (atomic_load_explicit(&control->answer, memory_order_acquire) !=
	    word(generation, SHMIPC_ANSWER_ATTACHED))
		return false;
	atomic_store(&control->offer, word(generation, SHMIPC_OFFER_ATTACHED));
	return true;
}

void shim_session_take_first(int session, const uint8_t key[SHMIPC_KEY_BYTES])
{
	struct shmipc_stream_control *control = shmipc_segment_stream(&sessions[session].segment, 0);

	memcpy(control->key, key, SHMIPC_KEY_BYTES);
	atomic_store(&control->offer, word(1, SHMIPC_OFFER_ATTACHED));
	sessions[session].live++;
}

/* ---- server ---- */

static bool answer_in(int index, const uint8_t key[SHMIPC_KEY_BYTES], uint32_t *stream)
{
	struct shim_session *session = &sessions[index];

	for (uint32_t i = 0; i < session->segment.stream_count; i++) {
		struct shmipc_stream_control *control = shmipc_segment_stream(&session->segment, i);
		uint32_t offer = atomic_load_explicit(&control->offer, memory_order_acquire);

		if ((offer & 0xff) != SHMIPC_OFFER_OPEN || memcmp(control->key, key, SHMIPC_KEY_BYTES) != 0)
			continue;
		atomic_store(&control->answer, word(offer >> 8, SHMIPC_ANSWER_ATTACHED));
		session->live++;
		*stream = i;
		return true;
	}
	return false;
}

int shim_session_answer(const uint8_t key[SHMIPC_KEY_BYTES], int *session, uint32_t *stream)
{
	int found = -ENOENT;

	if (!enter())
		return -ENOENT;
	for (int i = 0; i < session_limit && found; i++) {
		if (!sessions[i].used || sessions[i].is_client ||
		    sessions[i].process != shmipc_process_generation() || !answer_in(i, key, stream))
			continue;
		*session = i;
		found = 0;
	}
	leave();
	return found;
}

void shim_session_answer_first(int session)
{
	struct shmipc_stream_control *control = shmipc_segment_stream(&sessions[session].segment, 0);

	atomic_store(&control->answer, word(1, SHMIPC_ANSWER_ATTACHED));
	sessions[session].live++;
}

/* ---- both ---- */

static void close_side(int session, uint32_t stream, bool withdraw)
{
	struct shim_session *s = &sessions[session];
	struct shmipc_stream_control *control;

	if (!enter())
		return;
	control = shmipc_segment_stream(&s->segment, stream);
	if (s->is_client) {
		/* a withdrawn offer that was never answered stays out of use: the server may answer late */
		atomic_store(&control->offer, word(atomic_load(&control->offer) >> 8, SHMIPC_OFFER_CLOSED));
		if (stream_is_free(control) && carried_much(control)) {
			give_pages_back(s, stream);
			memset((void *)control->direction, 0, sizeof(control->direction));
		}
	} else if (!withdraw) {
		atomic_store(&control->answer, word(atomic_load(&control->answer) >> 8, SHMIPC_ANSWER_CLOSED));
	}
	if (--s->live == 0) {
		s->idle_since = shmipc_ticks();
		trim_idle();
	}
	leave();
}

void shim_session_leave(int session, uint32_t stream)
{
	close_side(session, stream, false);
}

void shim_session_withdraw(int session, uint32_t stream)
{
	close_side(session, stream, true);
}
