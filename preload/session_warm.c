/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Memory of streams that both sides have left, which stays for connections that are expected soon.
 *
 * The client decides, says so in `keep`, and gives the memory back when none has come for a second:
 * it alone knows when it hands a stream out.  A client that has ended hands out none.  One that
 * exits gives all back itself; of one that was killed the server sees to it, which therefore doubts
 * each session in which it has left memory, and looks, when it waits or closes a connection, until
 * the client has said that nothing is kept.  It looks ever more rarely at one that lives.
 *
 * What a client has left unsaid when it was killed (its relatives may still use the stream) goes
 * with the server's mapping, as soon as the server uses nothing of the session.
 */
#include "core/cpu.h"
#include "core/gone.h"
#include "core/sender.h"
#include "core/thread.h"
#include "preload/identity.h"
#include "preload/session_parts.h"

enum { SOON_ENOUGH = 2 /* then the next connection is expected to come soon too */ };

static const uint64_t look_ns = SHMIPC_SENDER_QUIET_MS * UINT64_C(1100000),
		      look_max_ns = 32 * SHMIPC_SENDER_QUIET_MS * UINT64_C(1000000);

/* When to look next, 0: there is nothing to look at.  Written with the lock held; sleepers look at
 * it without. */
static _Atomic uint64_t look_at_ns;
static uint64_t interval_ns;

static uint64_t quiet_ticks(void)
{
	return SHMIPC_SENDER_QUIET_MS * 1000 * shmipc_ticks_per_us();
}

static void look_soon(void)
{
	uint64_t before = atomic_load(&look_at_ns), at = shmipc_clock_ns() + look_ns;

	interval_ns = look_ns;
	if (before == 0 || at < before)
		atomic_store(&look_at_ns, at);
}

/* ---- client ---- */

bool shim_session_take_warm(struct shim_session *session, uint32_t stream)
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

bool shim_session_leave_warm(struct shim_session *session, uint32_t stream)
{
	struct shmipc_stream_control *control = shmipc_segment_stream(&session->segment, stream);
	struct shim_session_kept *kept;

	if (stream >= SHIM_SESSION_KEPT_STREAMS ||
	    session->process != shmipc_process_generation() || shim_session_has_left(session))
		return false;
	kept = &session->kept[stream];
	kept->left_ticks = shmipc_ticks();
	if (kept->soon >= SOON_ENOUGH && shim_session_has_grown(session, stream))
		kept->warm = true;
	if (!kept->warm)
		return false;
	atomic_store(&control->keep, 1);
	look_soon();
	return true;
}

static bool is_left(const struct shim_session *session, uint32_t stream)
{
	return session->left[stream / 64] >> stream % 64 & 1;
}

static void drop(struct shim_session *session, uint32_t stream)
{
	shim_session_drop_pages(session, stream);
	session->kept[stream].warm = false;
	atomic_store(&shmipc_segment_stream(&session->segment, stream)->keep, 0);
}

/* Those that have been left for so long.  True: some memory is warm that nobody uses. */
static bool client_cool(struct shim_session *session, uint64_t ticks)
{
	uint64_t now = shmipc_ticks();
	bool warm = false;

	for (uint32_t i = 0; i < SHIM_SESSION_KEPT_STREAMS; i++) {
		const struct shim_session_kept *kept = &session->kept[i];

		if (!kept->warm || !is_left(session, i))
			continue;
		if (now - kept->left_ticks >= ticks &&
		    shim_session_both_have_left(shmipc_segment_stream(&session->segment, i)))
			drop(session, i);
		warm |= kept->warm;
	}
	return warm;
}

/* Where the server has yet to leave a stream, it sees that we have ended, and gives back. */
void shim_session_client_drop(struct shim_session *session)
{
	if (!shim_identity_seccomp_filtered())
		client_cool(session, 0);
}

/* ---- server ---- */

void shim_session_server_doubts(struct shim_session *session)
{
	session->doubted = true;
	look_soon();
}

static bool client_has_ended(const struct shim_session *session)
{
	return shim_session_peer_left(session) ||
	       (session->peer.pid > 0 && shmipc_process_is_gone((uint32_t)session->peer.pid));
}

/* Nobody hands these out any more, and nobody else takes their memory for his. */
static void drop_orphans(const struct shim_session *session)
{
	for (uint32_t i = 0; i < session->fresh && i < SHIM_SESSION_KEPT_STREAMS; i++) {
		const struct shmipc_stream_control *control = shmipc_segment_stream(
			&session->segment, i);

		if (atomic_load(&control->keep) && shim_session_both_have_left(control))
			shim_session_drop_pages(session, i);
	}
}

/* In streams that we have left: what the client keeps, or has yet to leave. */
static bool holds_memory(const struct shim_session *session)
{
	for (uint32_t i = 0; i < session->fresh; i++) {
		const struct shmipc_stream_control *control = shmipc_segment_stream(
			&session->segment, i);

		if ((atomic_load(&control->answer) & 0xff) == SHMIPC_ANSWER_CLOSED &&
		    (atomic_load(&control->keep) ||
		     (!shim_session_both_have_left(control) && shim_session_has_grown(session, i))))
			return true;
	}
	return false;
}

/* True: look again. */
static bool server_cool(struct shim_session *session)
{
	if (!session->doubted)
		return false;
	session->orphaned = client_has_ended(session);
	if (session->orphaned)
		drop_orphans(session);
	session->doubted = !session->orphaned && holds_memory(session);
	return session->doubted;
}

/* ---- both ---- */

/* Locked.  A child that has inherited the session looks like its parent: what it maps stays. */
static bool cool_all(void)
{
	bool warm = false;

	for (int i = 0; i < shim_session_limit(); i++) {
		struct shim_session *session = shim_session_at(i);

		if (session->used && !session->peer.is_client)
			warm |= server_cool(session);
		else if (session->used && session->process == shmipc_process_generation())
			warm |= client_cool(session, quiet_ticks());
	}
	return warm;
}

void shim_session_cool_if_due(void)
{
	uint64_t at = atomic_load_explicit(&look_at_ns, memory_order_relaxed), now;

	if (at == 0 || shim_identity_seccomp_filtered())
		return;
	now = shmipc_clock_ns();
	if (now < at)
		return;
	if (cool_all()) {
		atomic_store(&look_at_ns, now + interval_ns);
		interval_ns = 2 * interval_ns < look_max_ns ? 2 * interval_ns : look_max_ns;
	} else {
		atomic_store(&look_at_ns, 0);
	}
	shim_session_trim_idle();
}

/* A filter may kill for what a look takes. */
bool shim_session_may_be_warm(void)
{
	return __builtin_expect(atomic_load_explicit(&look_at_ns, memory_order_relaxed) != 0, 0) &&
	       !shim_identity_seccomp_filtered();
}

__attribute__((hot)) uint64_t shim_session_cool(uint64_t deadline_ns)
{
	uint64_t at;

	if (!shim_session_may_be_warm())
		return deadline_ns;
	if (shmipc_clock_ns() >= atomic_load(&look_at_ns)) {
		if (!shim_session_enter()) /* to be woken early would be in vain */
			return deadline_ns;
		shim_session_cool_if_due();
		shim_session_go();
	}
	at = atomic_load(&look_at_ns);
	return at && at < deadline_ns ? at : deadline_ns;
}
