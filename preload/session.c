/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>

#include "core/cpu.h"
#include "core/sys.h"
#include "preload/identity.h"
#include "preload/process_lock.h"
#include "preload/session_parts.h"

enum {
	KEPT_RING_BYTES = 512 * 1024,
	MISSES_MAX = 4,	    /* then the server is thought to be gone */
	GROWS_BY_SHIFT = 2, /* from one session of a pair to the next */
};

static struct shim_session sessions[SHIM_SESSION_MAX];
static int session_limit;
static struct shim_process_lock lock;

bool shim_session_enter(void)
{
	return shim_process_lock_take(&lock);
}

void shim_session_go(void)
{
	shim_process_lock_drop(&lock);
}

struct shim_session *shim_session_at(int index)
{
	return &sessions[index];
}

const struct shmipc_segment *shim_session_segment(int index)
{
	return &sessions[index].segment;
}

_Atomic uint64_t *shim_session_woken(int index)
{
	return &sessions[index].woken;
}

int shim_session_limit(void)
{
	return session_limit;
}

/* ---- idle sessions; locked ---- */

static _Atomic uint32_t *gone_word(const struct shim_session *session)
{
	return session->peer.is_client ? &session->segment.header->client_gone
				       : &session->segment.header->server_gone;
}

bool shim_session_peer_left(const struct shim_session *session)
{
	return atomic_load(session->peer.is_client ? &session->segment.header->server_gone
						   : &session->segment.header->client_gone) != 0;
}

bool shim_session_has_left(const struct shim_session *session)
{
	return atomic_load(gone_word(session)) != 0;
}

/* From here on none of its streams is handed out. */
static void say_gone(struct shim_session *session)
{
	if (session->process != shmipc_process_generation())
		return;
	atomic_store(gone_word(session), 1);
	if (session->peer.is_client)
		shim_session_client_drop(session);
}

static void unmap(int index)
{
	struct shim_session *session = &sessions[index];

	if (!session->peer.is_client)
		shim_session_server_forget(index);
	say_gone(session);
	shmipc_segment_unmap(&session->segment);
	session->used = false;
}

static bool is_useless(const struct shim_session *session)
{
	return shim_session_peer_left(session) || session->orphaned ||
	       session->segment.stream_count > SHIM_SESSION_IDLE_STREAMS ||
	       (session->peer.is_client && session->misses >= MISSES_MAX);
}

/* Keep a few idle ones: their pages are touched already, and the pair may come back. */
void shim_session_trim_idle(void)
{
	int idle = 0, oldest = -1;

	for (int i = 0; i < session_limit; i++) {
		const struct shim_session *session = &sessions[i];

		if (!session->used || session->live > 0)
			continue;
		if (is_useless(session)) {
			unmap(i);
			continue;
		}
		idle++;
		if (oldest < 0 || session->idle_since < sessions[oldest].idle_since)
			oldest = i;
	}
	if (idle > SHIM_SESSION_IDLE_MAX)
		unmap(oldest);
}

/* ---- a new one ---- */

static uint32_t streams_for(int pid)
{
	uint32_t streams = SHIM_SESSION_STREAMS;

	if (!shim_session_enter())
		return streams;
	for (int i = 0; i < session_limit; i++)
		if (sessions[i].used && !sessions[i].peer.is_client && sessions[i].live > 0 &&
		    sessions[i].peer.pid == pid && streams < SHMIPC_STREAM_COUNT_MAX)
			streams <<= GROWS_BY_SHIFT;
	shim_session_go();
	return streams < SHMIPC_STREAM_COUNT_MAX ? streams : SHMIPC_STREAM_COUNT_MAX;
}

uint64_t shim_session_bytes_max(void)
{
	struct rlimit limit = { RLIM_INFINITY, RLIM_INFINITY };

	/* a filter may kill for the question */
	if (shim_identity_seccomp_filtered() || sys_prlimit(RLIMIT_AS, NULL, &limit) < 0 ||
	    limit.rlim_cur == RLIM_INFINITY)
		return UINT64_MAX;
	return limit.rlim_cur / SHIM_SESSION_PART_OF_LIMIT;
}

struct shim_session_size shim_session_size(int pid)
{
	struct shim_session_size size = { streams_for(pid), SHIM_SESSION_RING_BYTES };
	const uint64_t most = shim_session_bytes_max();

	while (2 * size.streams * size.ring_bytes > most && size.streams > SHIM_SESSION_STREAMS)
		size.streams /= 2;
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
		atomic_store(&control->offer, shim_session_word(1, SHMIPC_OFFER_ATTACHED));
	} else {
		control->server_cookie = claim->self_cookie;
		atomic_store(&control->answer, shim_session_word(1, SHMIPC_ANSWER_ATTACHED));
	}
}

int shim_session_add(const struct shmipc_segment *segment, const struct shim_session_peer *peer,
		     const struct shim_session_claim *claim)
{
	int found = -ENOSPC;

	if (!shim_session_enter())
		return -EBUSY;
	shim_session_trim_idle();
	for (int i = 0; i < SHIM_SESSION_MAX && found < 0; i++) {
		if (sessions[i].used)
			continue;
		take_first(segment, peer->is_client, claim);
		sessions[i] = (struct shim_session){
			.used = true,
			.peer = *peer,
			.process = shmipc_process_generation(),
			.live = 1,
			.fresh = 1,
			.segment = *segment,
		};
		if (i >= session_limit)
			session_limit = i + 1;
		found = i;
	}
	shim_session_go();
	return found;
}

/* ---- leave ---- */

static uint64_t kept_bytes(uint32_t stream)
{
	return stream < SHIM_SESSION_KEPT_STREAMS ? KEPT_RING_BYTES : 0;
}

bool shim_session_has_grown(const struct shim_session *session, uint32_t stream)
{
	const struct shmipc_stream_control *control = shmipc_segment_stream(&session->segment,
									    stream);
	bool grown = false;

	for (unsigned int direction = 0; direction < 2; direction++) {
		const struct shmipc_tx_line *tx = &control->direction[direction].tx;

		grown |= (atomic_load(&tx->flags) & SHMIPC_TX_GROWN) &&
			 atomic_load(&tx->tail) > kept_bytes(stream);
	}
	return grown;
}

void shim_session_drop_pages(const struct shim_session *session, uint32_t stream)
{
	const uint64_t keep = kept_bytes(stream);

	for (unsigned int direction = 0; direction < 2; direction++) {
		struct shmipc_ring ring = shmipc_segment_ring(&session->segment, stream, direction);

		if (ring.ring_bytes > keep)
			sys_madvise(ring.loop + keep, ring.ring_bytes - keep, MADV_REMOVE);
	}
}

void shim_session_give_back(const struct shim_session *session, uint32_t stream)
{
	const struct shmipc_stream_control *control = shmipc_segment_stream(&session->segment,
									    stream);
	const uint64_t keep = kept_bytes(stream);

	for (unsigned int direction = 0; direction < 2; direction++) {
		const struct shmipc_tx_line *tx = &control->direction[direction].tx;
		struct shmipc_ring ring = shmipc_segment_ring(&session->segment, stream, direction);

		if ((atomic_load(&tx->flags) & SHMIPC_TX_GROWN) && atomic_load(&tx->tail) > keep &&
		    ring.ring_bytes > keep)
			sys_madvise(ring.loop + keep, ring.ring_bytes - keep, MADV_REMOVE);
	}
}

/* Locked. */
static void one_less(struct shim_session *session)
{
	if (session->live > 0 && --session->live == 0) {
		session->idle_since = shmipc_ticks();
		shim_session_trim_idle();
	}
}

void shim_session_leave(int session, uint32_t stream)
{
	struct shim_session *s = &sessions[session];

	if (!shim_session_enter())
		return;
	if (s->peer.is_client)
		shim_session_client_leave(s, stream);
	else
		shim_session_server_leave(s, stream);
	one_less(s);
	shim_session_cool_if_due();
	shim_session_go();
}

void shim_session_withdraw(int session, uint32_t stream)
{
	if (sessions[session].peer.is_client)
		sessions[session].misses++;
	shim_session_leave(session, stream);
}

void shim_session_release(int session, uint32_t stream)
{
	struct shim_session *s = &sessions[session];

	if (!shim_session_enter())
		return;
	if (s->peer.is_client)
		shim_session_client_release(s, stream);
	one_less(s);
	shim_session_go();
}

/* ---- fork and exit ---- */

static bool held_for_fork;

void shim_session_before_fork(void)
{
	held_for_fork = shim_session_enter();
}

/* In the parent; the child finds another generation. */
void shim_session_after_fork(void)
{
	if (held_for_fork)
		shim_session_go();
	held_for_fork = false;
}

void shim_session_exit(void)
{
	if (!shim_session_enter())
		return;
	for (int i = 0; i < session_limit; i++)
		if (sessions[i].used)
			say_gone(&sessions[i]);
	shim_session_go();
}
