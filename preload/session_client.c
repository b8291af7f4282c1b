/* SPDX-License-Identifier: Apache-2.0 */
/* The client of a session: hands out its streams. */
#include <errno.h>
#include <string.h>

#include "core/cpu.h"
#include "core/sender.h"
#include "core/thread.h"
#include "preload/session_parts.h"

enum {
	LOOKS_MAX = 8,	 /* streams that were left: those at which one search looks */
	SOON_ENOUGH = 2, /* then the next connection is expected to come soon too */
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

/* The server has confirmed the end of this very generation. */
static bool both_have_left(const struct shmipc_stream_control *control)
{
	uint32_t offer = atomic_load(&control->offer);

	return (offer & 0xff) == SHMIPC_OFFER_CLOSED &&
	       atomic_load(&control->answer) == shim_session_word(offer >> 8, SHMIPC_ANSWER_CLOSED);
}

/* ---- memory that stays warm ---- */

/* Of all sessions.  Written with the lock held; sleepers look at it without. */
static _Atomic uint32_t warm_streams;

static uint64_t quiet_ticks(void)
{
	return SHMIPC_SENDER_QUIET_MS * 1000 * shmipc_ticks_per_us();
}

bool shim_session_client_may_be_warm(void)
{
	return atomic_load_explicit(&warm_streams, memory_order_relaxed) > 0;
}

static void set_warm(struct shim_session_kept *kept, bool warm)
{
	if (warm != kept->warm)
		atomic_fetch_add_explicit(&warm_streams, warm ? 1u : (uint32_t)-1,
					  memory_order_relaxed);
	kept->warm = warm;
}

/* It is handed out.  Is it warm? */
static bool take_warm(struct shim_session *session, uint32_t stream)
{
	struct shim_session_kept *kept;

	if (stream >= SHIM_SESSION_KEPT_STREAMS)
		return false;
	kept = &session->kept[stream];
	if (shmipc_ticks() - kept->left_ticks > quiet_ticks())
		kept->soon = 0;
	else if (kept->soon < SOON_ENOUGH)
		kept->soon++;
	return kept->warm;
}

/* It is left.  Before the server can take it for left: it may be the last one. */
static bool leave_warm(struct shim_session *session, uint32_t stream)
{
	struct shmipc_stream_control *control = shmipc_segment_stream(&session->segment, stream);
	struct shim_session_kept *kept;

	if (stream >= SHIM_SESSION_KEPT_STREAMS || session->process != shmipc_process_generation())
		return false;
	kept = &session->kept[stream];
	kept->left_ticks = shmipc_ticks();
	if (kept->soon >= SOON_ENOUGH && shim_session_has_grown(session, stream))
		set_warm(kept, true);
	if (!kept->warm)
		return false;
	atomic_fetch_or(&control->direction[0].tx.flags, SHMIPC_TX_KEEP);
	shmipc_sender_grown_now();
	return true;
}

static bool is_left(const struct shim_session *session, uint32_t stream)
{
	return session->left[stream / 64] >> stream % 64 & 1;
}

bool shim_session_client_cool(struct shim_session *session)
{
	uint64_t now = shmipc_ticks();
	bool warm = false;

	for (uint32_t i = 0; i < SHIM_SESSION_KEPT_STREAMS; i++) {
		struct shim_session_kept *kept = &session->kept[i];

		if (!kept->warm || !is_left(session, i))
			continue;
		if (now - kept->left_ticks > quiet_ticks() &&
		    both_have_left(shmipc_segment_stream(&session->segment, i))) {
			shim_session_drop_pages(session, i);
			set_warm(kept, false);
		}
		warm |= kept->warm;
	}
	return warm;
}

void shim_session_client_forget(struct shim_session *session)
{
	for (uint32_t i = 0; i < SHIM_SESSION_KEPT_STREAMS; i++)
		set_warm(&session->kept[i], false);
}

/* ---- handing out ---- */

static void announce(struct shim_session *session, uint32_t stream,
		     const struct shim_session_claim *claim)
{
	struct shmipc_stream_control *control = shmipc_segment_stream(&session->segment, stream);
	uint32_t generation = ((atomic_load(&control->offer) >> 8) + 1) & 0xffffff;

	if (!take_warm(session, stream))
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
		if (both_have_left(shmipc_segment_stream(&session->segment, i))) {
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
	       session->process == shmipc_process_generation() && !shim_session_peer_left(session);
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
	bool warm = leave_warm(session, stream);

	/* Before we say that we have left: a relative, the one that made the session, hands the
	 * stream out again when both sides have said so, whatever this process still does. */
	if (atomic_load(&control->answer) == shim_session_word(generation, SHMIPC_ANSWER_CLOSED)) {
		if (!warm)
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
