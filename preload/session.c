/* SPDX-License-Identifier: Apache-2.0 */
#include "preload/session.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>

#include "core/cpu.h"
#include "core/lock.h"
#include "core/sys.h"
#include "core/thread.h"
#include "preload/identity.h"

enum {
	KEPT_RING_BYTES = 512 * 1024,
	MISSES_MAX = 4, /* then the server is thought to be gone */
};

static struct shim_session sessions[SHIM_SESSION_MAX];
static int session_limit;
static struct shmipc_lock lock;
static uint32_t lock_generation;

static bool enter(void)
{
	uint32_t now = shmipc_process_generation();

	/* forked while another thread was inside, by a call that no hook of ours saw */
	if (lock_generation != now) {
		atomic_store(&lock.owner, 0);
		lock_generation = now;
	}
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

static _Atomic uint32_t *gone_word(const struct shim_session *session)
{
	return session->is_client ? &session->segment.header->client_gone
				  : &session->segment.header->server_gone;
}

static void unmap(struct shim_session *session)
{
	if (session->process == shmipc_process_generation())
		atomic_store(gone_word(session), 1);
	shmipc_segment_unmap(&session->segment);
	session->used = false;
}

static bool peer_left(const struct shim_session *session)
{
	return atomic_load(session->is_client ? &session->segment.header->server_gone
					      : &session->segment.header->client_gone) != 0;
}

static bool is_useless(const struct shim_session *session)
{
	return peer_left(session) || (session->is_client && session->misses >= MISSES_MAX);
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
		if (is_useless(session)) {
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

struct shim_session_size shim_session_size(void)
{
	struct shim_session_size size = { SHIM_SESSION_STREAMS, SHIM_SESSION_RING_BYTES };
	struct rlimit limit = { RLIM_INFINITY, RLIM_INFINITY };
	uint64_t most;

	/* a filter may kill for the question */
	if (shim_identity_seccomp_filtered() || sys_prlimit(RLIMIT_AS, NULL, &limit) < 0 ||
	    limit.rlim_cur == RLIM_INFINITY)
		return size;
	most = limit.rlim_cur / SHIM_SESSION_PART_OF_LIMIT;
	while (2 * size.streams * size.ring_bytes > most &&
	       size.ring_bytes > SHIM_SESSION_RING_BYTES_MIN)
		size.ring_bytes /= 2;
	while (2 * size.streams * size.ring_bytes > most && size.streams > SHIM_SESSION_STREAMS_MIN)
		size.streams /= 2;
	return size;
}

/* Nobody else knows of the segment yet, or looks at its first stream. */
static void take_first(const struct shmipc_segment *segment, bool is_client,
		       const struct shim_session_claim *claim)
{
	struct shmipc_stream_control *control = shmipc_segment_stream(segment, 0);

	if (is_client) {
		memcpy(control->key, claim->key, SHMIPC_KEY_BYTES);
		control->client_cookie = claim->self_cookie;
		atomic_store(&control->offer, word(1, SHMIPC_OFFER_ATTACHED));
	} else {
		control->server_cookie = claim->self_cookie;
		atomic_store(&control->answer, word(1, SHMIPC_ANSWER_ATTACHED));
	}
}

int shim_session_add(const struct shmipc_segment *segment, bool is_client, uint64_t endpoint,
		     const struct shim_session_claim *claim)
{
	int found = -ENOSPC;

	if (!enter())
		return -EBUSY;
	trim_idle();
	for (int i = 0; i < SHIM_SESSION_MAX && found < 0; i++) {
		if (sessions[i].used)
			continue;
		take_first(segment, is_client, claim);
		sessions[i] = (struct shim_session){
			.used = true,
			.is_client = is_client,
			.process = shmipc_process_generation(),
			.live = 1,
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

/* The pages of a stream that has carried much: what is beyond the start of each ring goes back to
 * the kernel.  Only the client, when both sides are through: it alone hands the stream out again.
 */
static void give_pages_back(struct shim_session *session, uint32_t stream)
{
	for (unsigned int direction = 0; direction < 2; direction++) {
		struct shmipc_ring ring = shmipc_segment_ring(&session->segment, stream, direction);

		if (ring.ring_bytes > KEPT_RING_BYTES)
			sys_madvise(ring.data + KEPT_RING_BYTES, ring.ring_bytes - KEPT_RING_BYTES,
				    MADV_REMOVE);
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
	return (offer & 0xff) == SHMIPC_OFFER_CLOSED &&
	       answer == word(offer >> 8, SHMIPC_ANSWER_CLOSED);
}

static void announce(struct shim_session *session, uint32_t stream,
		     const struct shim_session_claim *claim)
{
	struct shmipc_stream_control *control = shmipc_segment_stream(&session->segment, stream);
	uint32_t generation = ((atomic_load(&control->offer) >> 8) + 1) & 0xffffff;

	if (carried_much(control))
		give_pages_back(session, stream);
	memset((void *)control->direction, 0, sizeof(control->direction));
	memcpy(control->key, claim->key, SHMIPC_KEY_BYTES);
	control->client_cookie = claim->self_cookie;
	atomic_store_explicit(&control->offer, word(generation, SHMIPC_OFFER_OPEN),
			      memory_order_release);
	atomic_fetch_add(&session->segment.header->offers, 1);
	session->live++;
}

/* Its number, or -1. */
static int free_stream(const struct shim_session *session)
{
	for (uint32_t i = 0; i < session->segment.stream_count; i++)
		if (stream_is_free(shmipc_segment_stream(&session->segment, i)))
			return (int)i;
	return -1;
}

/* Several: behind one listener there may be several processes, and some of them gone. */
static bool serves(const struct shim_session *session, uint64_t endpoint)
{
	return session->used && session->is_client && session->endpoint == endpoint &&
	       session->process == shmipc_process_generation() && !peer_left(session);
}

int shim_session_offer(uint64_t endpoint, const struct shim_session_claim *claim, int *session,
		       uint32_t *stream)
{
	int best = -1, at = -1;

	if (!enter())
		return -ENOENT;
	for (int i = 0; i < session_limit; i++) {
		int found;

		if (!serves(&sessions[i], endpoint) ||
		    (best >= 0 && sessions[i].misses >= sessions[best].misses))
			continue;
		found = free_stream(&sessions[i]);
		if (found < 0)
			continue;
		best = i;
		at = found;
	}
	if (best >= 0) {
		*session = best;
		*stream = (uint32_t)at;
		announce(&sessions[best], *stream, claim);
	}
	leave();
	return best >= 0 ? 0 : -ENOENT;
}

static bool contradicts(uint64_t said, uint64_t known)
{
	return said && known && said != known;
}

bool shim_session_answered(int session, uint32_t stream, uint64_t peer_cookie)
{
	struct shmipc_stream_control *control = shmipc_segment_stream(&sessions[session].segment,
								      stream);
	uint32_t generation = atomic_load_explicit(&control->offer, memory_order_relaxed) >> 8;

	if (atomic_load_explicit(&control->answer, memory_order_acquire) !=
		    word(generation, SHMIPC_ANSWER_ATTACHED) ||
	    contradicts(control->server_cookie, peer_cookie))
		return false;
	atomic_store(&control->offer, word(generation, SHMIPC_OFFER_ATTACHED));
	sessions[session].misses = 0;
	return true;
}

/* ---- server ---- */

/* An offer that was withdrawn before we saw it would keep its stream out of use: we shall not
 * answer it. */
static void confirm_withdrawal(struct shmipc_stream_control *control, uint32_t offer)
{
	uint32_t generation = offer >> 8;

	if ((offer & 0xff) == SHMIPC_OFFER_CLOSED &&
	    atomic_load(&control->answer) >> 8 != generation)
		atomic_store(&control->answer, word(generation, SHMIPC_ANSWER_CLOSED));
}

static bool answer_in(int index, const struct shim_session_claim *claim, uint32_t *stream)
{
	struct shim_session *session = &sessions[index];

	for (uint32_t i = 0; i < session->segment.stream_count; i++) {
		struct shmipc_stream_control *control = shmipc_segment_stream(&session->segment, i);
		uint32_t offer = atomic_load_explicit(&control->offer, memory_order_acquire);

		if ((offer & 0xff) != SHMIPC_OFFER_OPEN) {
			confirm_withdrawal(control, offer);
			continue;
		}
		if (memcmp(control->key, claim->key, SHMIPC_KEY_BYTES) != 0 ||
		    contradicts(control->client_cookie, claim->peer_cookie))
			continue;
		control->server_cookie = claim->self_cookie;
		atomic_store(&control->answer, word(offer >> 8, SHMIPC_ANSWER_ATTACHED));
		session->live++;
		*stream = i;
		return true;
	}
	return false;
}

int shim_session_answer(const struct shim_session_claim *claim, int *session, uint32_t *stream)
{
	int found = -ENOENT;

	if (!enter())
		return -ENOENT;
	for (int i = 0; i < session_limit && found; i++) {
		if (!sessions[i].used || sessions[i].is_client ||
		    sessions[i].process != shmipc_process_generation() ||
		    !answer_in(i, claim, stream))
			continue;
		*session = i;
		found = 0;
	}
	leave();
	return found;
}

/* ---- both ---- */

/* Locked. */
static void one_less(struct shim_session *session)
{
	if (session->live > 0 && --session->live == 0) {
		session->idle_since = shmipc_ticks();
		trim_idle();
	}
}

void shim_session_leave(int session, uint32_t stream)
{
	struct shim_session *s = &sessions[session];
	struct shmipc_stream_control *control;

	if (!enter())
		return;
	control = shmipc_segment_stream(&s->segment, stream);
	if (s->is_client) {
		/* an offer that was never answered stays out of use until the server confirms: it
		 * may answer late */
		atomic_store(&control->offer,
			     word(atomic_load(&control->offer) >> 8, SHMIPC_OFFER_CLOSED));
		if (stream_is_free(control) && carried_much(control)) {
			give_pages_back(s, stream);
			memset((void *)control->direction, 0, sizeof(control->direction));
		}
	} else {
		atomic_store(&control->answer,
			     word(atomic_load(&control->answer) >> 8, SHMIPC_ANSWER_CLOSED));
	}
	one_less(s);
	leave();
}

void shim_session_withdraw(int session, uint32_t stream)
{
	if (sessions[session].is_client)
		sessions[session].misses++;
	shim_session_leave(session, stream);
}

void shim_session_release(int session)
{
	if (!enter())
		return;
	one_less(&sessions[session]);
	leave();
}

/* ---- fork and exit ---- */

static bool held_for_fork;

void shim_session_before_fork(void)
{
	held_for_fork = enter();
}

/* In the parent; the child finds another generation. */
void shim_session_after_fork(void)
{
	if (held_for_fork)
		leave();
	held_for_fork = false;
}

void shim_session_exit(void)
{
	if (!enter())
		return;
	for (int i = 0; i < session_limit; i++)
		if (sessions[i].used && sessions[i].process == shmipc_process_generation())
			atomic_store(gone_word(&sessions[i]), 1);
	leave();
}
