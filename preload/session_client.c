/* SPDX-License-Identifier: Apache-2.0 */
/* The client of a session: hands out its streams. */
#include <errno.h>
#include <string.h>

#include "core/thread.h"
#include "preload/session_parts.h"

enum {
	LOOKS_MAX = 8, /* streams that were left: those at which one search looks */
};

/* Tell the server that the offer of this stream has changed.  Only the process that made the
 * session: it knows how many letters there are. */
static void write_letter(struct shim_session *session, uint32_t stream)
{
	struct shmipc_segment_header *header = session->segment.header;

	atomic_store_explicit(&header->letter[session->letters % SHMIPC_LETTERS_ROOM],
			      (uint16_t)stream, memory_order_relaxed);
	/* [letters:rel] publishes the letter and what it tells of; pairs with [letters:acq] in
	 * session_server.c */
	atomic_store_explicit(&header->letters, ++session->letters, memory_order_release);
}

/* ---- handing out ---- */

static void announce(struct shim_session *session, uint32_t stream,
		     const struct shim_session_claim *claim)
{
	struct shmipc_stream_control *control = shmipc_segment_stream(&session->segment, stream);
	uint32_t generation = ((atomic_load(&control->offer) >> 8) + 1) & 0xffffff;

	if (!shim_session_take_warm(session, stream))
		shim_session_give_back(session, stream); /* unless whoever left last has */
	memset((void *)control->direction, 0, sizeof(control->direction));
	memcpy(control->key, claim->key, SHMIPC_KEY_BYTES);
	control->client_cookie = claim->self_cookie;
	atomic_store_explicit(&control->offer, shim_session_word(generation, SHMIPC_OFFER_OPEN),
			      memory_order_release);
	write_letter(session, stream);
	session->live++;
}

/* The lowest of those that were left and are free: their pages are touched.  Its number, or -1. */
static int used_stream(struct shim_session *session)
{
	int looks = 0;

	for (uint32_t i = session->look_from; i < session->fresh; i++) {
		uint64_t left = session->left[i / 64] >> i % 64;

		if (!left) {
			i |= 63;
			continue;
		}
		i += (uint32_t)__builtin_ctzll(left);
		if (shim_session_both_have_left(shmipc_segment_stream(&session->segment, i))) {
			session->look_from = 0;
			return (int)i;
		}
		if (++looks == LOOKS_MAX) {
			session->look_from = i + 1;
			return -1;
		}
	}
	session->look_from = 0;
	return -1;
}

static int free_stream(struct shim_session *session)
{
	int used;

	if (session->live >= session->segment.stream_count)
		return -1;
	used = session->live < session->fresh ? used_stream(session) : -1;
	if (used >= 0)
		return used;
	return session->fresh < session->segment.stream_count ? (int)session->fresh : -1;
}

static void hand_out(struct shim_session *session, uint32_t stream)
{
	session->left[stream / 64] &= ~(UINT64_C(1) << stream % 64);
	if (stream == session->fresh)
		session->fresh++;
}

/* Several: behind one listener there may be several processes, and some of them gone. */
static bool serves(const struct shim_session *session, uint64_t endpoint)
{
	return session->used && session->peer.is_client && session->peer.endpoint == endpoint &&
	       session->process == shmipc_process_generation() &&
	       !shim_session_peer_left(session) && !shim_session_has_left(session);
}

int shim_session_offer(uint64_t endpoint, const struct shim_session_claim *claim, int *session,
		       uint32_t *stream)
{
	struct shim_session *best = NULL;
	int at = -1;

	if (!shim_session_enter())
		return -ENOENT;
	for (int i = 0; i < shim_session_limit(); i++) {
		struct shim_session *one = shim_session_at(i);
		int found;

		if (!serves(one, endpoint) || (best && one->misses >= best->misses))
			continue;
		found = free_stream(one);
		if (found < 0)
			continue;
		best = one;
		at = found;
		*session = i;
	}
	if (best) {
		*stream = (uint32_t)at;
		hand_out(best, *stream);
		announce(best, *stream, claim);
	}
	shim_session_go();
	return best ? 0 : -ENOENT;
}

bool shim_session_is_over(int session)
{
	return shim_session_peer_left(shim_session_at(session));
}

bool shim_session_answered(int session, uint32_t stream, uint64_t peer_cookie)
{
	struct shim_session *s = shim_session_at(session);
	struct shmipc_stream_control *control = shmipc_segment_stream(&s->segment, stream);
	uint32_t generation = atomic_load_explicit(&control->offer, memory_order_relaxed) >> 8;

	if (atomic_load_explicit(&control->answer, memory_order_acquire) !=
		    shim_session_word(generation, SHMIPC_ANSWER_ATTACHED) ||
	    shim_session_contradicts(control->server_cookie, peer_cookie))
		return false;
	atomic_store(&control->offer, shim_session_word(generation, SHMIPC_OFFER_ATTACHED));
	s->misses = 0;
	return true;
}

/* An offer that was never answered stays out of use until the server confirms: it may answer late.
 * The server is told, for it may never have seen it. */
void shim_session_client_leave(struct shim_session *session, uint32_t stream)
{
	struct shmipc_stream_control *control = shmipc_segment_stream(&session->segment, stream);
	uint32_t generation = atomic_load(&control->offer) >> 8;
	bool warm = shim_session_leave_warm(session, stream);

	/* Before we say that we have left: a relative, the one that made the session, hands the
	 * stream out again when both sides have said so, whatever this process still does. */
	if (atomic_load(&control->answer) == shim_session_word(generation, SHMIPC_ANSWER_CLOSED)) {
		if (shim_session_has_left(session))
			shim_session_drop_pages(session, stream);
		else if (!warm)
			shim_session_give_back(session, stream);
		memset((void *)control->direction, 0, sizeof(control->direction));
	}
	atomic_store(&control->offer, shim_session_word(generation, SHMIPC_OFFER_CLOSED));
	if (atomic_load(&control->answer) >> 8 != generation &&
	    session->process == shmipc_process_generation())
		write_letter(session, stream);
	shim_session_client_release(session, stream);
}

void shim_session_client_release(struct shim_session *session, uint32_t stream)
{
	session->left[stream / 64] |= UINT64_C(1) << stream % 64;
}
