/* SPDX-License-Identifier: Apache-2.0 */
#include "preload/upgrade.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#include "core/cpu.h"
#include "core/negotiate.h"
#include "core/sys.h"
#include "core/thread.h"
#include "preload/config.h"
#include "preload/eligible.h"
#include "preload/fdtable.h"
#include "preload/log.h"
#include "preload/session.h"

enum {
	UPGRADES_MAX = 128,	   /* rendezvous of this process under way at a time */
	UPGRADES_AT_ENDPOINT = 32, /* of them: one plain peer must not keep others waiting */
	STEPS_MAX = 4096,	   /* calls after the threshold; then the peer is plain */
	ANNOUNCED_STEPS = 6, /* an announcement in shared memory gets this long before the name is
				offered too */
	PATIENCE_MS = 200,   /* a rendezvous of this age makes place for another */
	PIONEER_STEPS = 24,  /* so long a connection waits for the session that another one is about
				to make */
};

/* Private memory of the process that made it. */
struct shim_upgrade {
	_Atomic uint32_t used;
	struct shim_conn *conn;
	uint64_t since_ticks;
	int listener; /* client: hidden descriptors, -1 = none */
	int channel;
	struct shim_rendezvous_keys keys;
	struct shmipc_negotiator negotiator;
	int session; /* client: announced there; server: made by us */
	uint32_t stream;
	uint32_t steps;
	uint32_t announced; /* client: the step at which it was */
	bool second_name;   /* server: the other name is tried in turn */
};

static struct shim_upgrade *upgrades;

int shim_upgrade_start(void)
{
	long at = sys_mmap(NULL, UPGRADES_MAX * sizeof(struct shim_upgrade), PROT_READ | PROT_WRITE,
			   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (at < 0 && at > -4096)
		return (int)at;
	upgrades = (struct shim_upgrade *)at;
	return 0;
}

static void close_hidden(int *fd)
{
	if (*fd >= 0) {
		shim_fd_unhide(*fd);
		sys_close(*fd);
	}
	*fd = -1;
}

static void give_up(struct shim_conn *conn);

static bool try_hold(struct shim_conn *conn)
{
	uint32_t nobody = 0;

	return atomic_compare_exchange_strong(&conn->step_lock.owner, &nobody, shmipc_thread_id());
}

/* Connections that fell silent in the middle of it would keep others out: the oldest goes, and
 * begins again if it speaks again.  Only tried: the caller holds the step lock of its own. */
static void make_place(uint64_t endpoint)
{
	const uint64_t patience_ticks = PATIENCE_MS * 1000 * shmipc_ticks_per_us();
	uint64_t now = shmipc_ticks();
	struct shim_upgrade *oldest = NULL;

	for (int i = 0; i < UPGRADES_MAX; i++) {
		struct shim_upgrade *u = &upgrades[i];

		if (atomic_load(&u->used) && u->conn && u->keys.endpoint == endpoint &&
		    now - u->since_ticks > patience_ticks &&
		    (!oldest || u->since_ticks < oldest->since_ticks))
			oldest = u;
	}
	if (!oldest || !try_hold(oldest->conn))
		return;
	if (oldest->conn->upgrade == oldest)
		give_up(oldest->conn);
	shmipc_lock_drop(&oldest->conn->step_lock, false);
}

static uint32_t under_way(uint64_t endpoint)
{
	uint32_t count = 0;

	for (int i = 0; i < UPGRADES_MAX; i++)
		count += atomic_load(&upgrades[i].used) && upgrades[i].keys.endpoint == endpoint;
	return count;
}

static struct shim_upgrade *take_upgrade(struct shim_conn *conn,
					 const struct shim_rendezvous_keys *keys)
{
	if (under_way(keys->endpoint) >= UPGRADES_AT_ENDPOINT) {
		make_place(keys->endpoint);
		if (under_way(keys->endpoint) >= UPGRADES_AT_ENDPOINT)
			return NULL;
	}
	for (int i = 0; i < UPGRADES_MAX; i++) {
		struct shim_upgrade *u = &upgrades[i];
		uint32_t used = 0;

		if (atomic_load(&u->used) || !atomic_compare_exchange_strong(&u->used, &used, 1))
			continue;
		memset((char *)u + sizeof(u->used), 0, sizeof(*u) - sizeof(u->used));
		u->listener = u->channel = -1;
		u->session = SHIM_SESSION_NONE;
		u->keys = *keys;
		u->conn = conn;
		u->since_ticks = shmipc_ticks();
		shmipc_negotiator_init(&u->negotiator);
		return u;
	}
	return NULL;
}

static void drop_upgrade(struct shim_conn *conn)
{
	struct shim_upgrade *u = conn->upgrade;

	conn->upgrade = NULL;
	close_hidden(&u->listener);
	close_hidden(&u->channel);
	shmipc_negotiator_close(&u->negotiator);
	atomic_store(&u->used, 0);
}

/* Step lock held. */
static void give_up(struct shim_conn *conn)
{
	struct shim_upgrade *u = conn->upgrade;

	if (!u || conn->generation != shmipc_process_generation())
		return;
	if (u->session != SHIM_SESSION_NONE)
		shim_session_withdraw(u->session, u->stream);
	drop_upgrade(conn);
}

/* A signal handler inside a step of its own thread must leave the rest to that step. */
static bool hold_still(struct shim_conn *conn)
{
	return shmipc_lock_take(&conn->step_lock, false) != SHMIPC_LOCK_REENTERED;
}

static void go_on(struct shim_conn *conn)
{
	shmipc_lock_drop(&conn->step_lock, false);
}

void shim_upgrade_abandon(struct shim_conn *conn)
{
	if (!conn->upgrade || conn->generation != shmipc_process_generation() || !hold_still(conn))
		return;
	give_up(conn);
	go_on(conn);
}

bool shim_upgrade_forbid(struct shim_conn *conn)
{
	bool held = hold_still(conn);
	uint32_t candidate = SHMIPC_STATE_CANDIDATE;
	bool done = atomic_compare_exchange_strong(&conn->state, &candidate, SHMIPC_STATE_PLAIN);

	if (held) {
		if (done)
			give_up(conn);
		go_on(conn);
	}
	return done;
}

/* ---- fork ---- */

/* Another thread may be closing it: what has no holder left is not touched, what we have counted
 * stays.  A step that finds more than one holder does not attach, a child would not have the
 * mapping; one that is under way ends first. */
bool shim_upgrade_share(struct shim_conn *conn)
{
	uint32_t holders = atomic_load(&conn->holders);

	while (holders > 0 && !atomic_compare_exchange_weak(&conn->holders, &holders, holders + 1))
		;
	if (holders == 0)
		return false;
	atomic_store(&conn->shared, 1);
	if (hold_still(conn))
		go_on(conn);
	return true;
}

void shim_upgrade_before_fork(void)
{
	shim_session_before_fork();
}

void shim_upgrade_after_fork(void)
{
	shim_session_after_fork();
}

void shim_upgrade_exit(void)
{
	shim_session_exit();
}

void shim_upgrade_in_child(void)
{
	for (int i = 0; i < UPGRADES_MAX; i++) {
		if (!atomic_load(&upgrades[i].used))
			continue;
		close_hidden(&upgrades[i].listener);
		close_hidden(&upgrades[i].channel);
		atomic_store(&upgrades[i].used, 0);
	}
}

void shim_upgrade_release(int session)
{
	if (session != SHIM_SESSION_NONE)
		shim_session_release(session);
}

void shim_upgrade_detach(struct shim_conn *conn)
{
	if (conn->session != SHIM_SESSION_NONE)
		shim_session_leave(conn->session, conn->stream);
	conn->session = SHIM_SESSION_NONE;
}

/* ---- attach ---- */

static void attach(struct shim_conn *conn, int fd, int session, uint32_t stream)
{
	const struct shmipc_segment *segment = &shim_session_at(session)->segment;
	struct shmipc_stream_control *control = shmipc_segment_stream(segment, stream);
	unsigned int mine = conn->is_server ? 1 : 0;

	shim_options_take_over(conn, fd);
	conn->session = session;
	conn->stream = stream;
	if (!shim_identity_seccomp_filtered())
		shmipc_membarrier_register();
	shmipc_lock_take(&conn->tx.lock, false);
	shmipc_sender_attach(&conn->tx, &control->direction[mine], &control->direction[!mine],
			     shmipc_segment_ring(segment, stream, mine));
	if (shmipc_membarrier_registered())
		shmipc_sender_finish(&conn->tx, SHMIPC_TX_UNFENCED);
	shmipc_lock_drop(&conn->tx.lock, false);
	shmipc_lock_take(&conn->rx.lock, false);
	shmipc_receiver_attach(&conn->rx, &control->direction[!mine],
			       shmipc_segment_ring(segment, stream, !mine));
	shmipc_lock_drop(&conn->rx.lock, false);
	atomic_store(&conn->state, SHMIPC_STATE_ATTACHED);
	if (conn->row)
		atomic_store(&conn->row->state, SHMIPC_STATE_ATTACHED);
	shim_conn_set_reason(conn, SHMIPC_REASON_NONE);
	shim_conn_log(conn, fd, "accelerated", false);
}

/* The other side has agreed to the stream of this rendezvous. */
static int take_stream(struct shim_conn *conn, int fd)
{
	struct shim_upgrade *u = conn->upgrade;
	enum shmipc_reason reason = shim_eligible_still(conn, fd);
	int session = u->session;
	uint32_t stream = u->stream;

	if (reason)
		return (int)reason;
	drop_upgrade(conn);
	attach(conn, fd, session, stream);
	return SHMIPC_REASON_NONE;
}

/* ---- the channel ---- */

/* A descriptor that the application could close, and then get again for something else, is no good.
 */
static int hide(int fd)
{
	fd = shim_fd_hide(fd);
	if (shim_fd_is_hidden(fd))
		return fd;
	sys_close(fd);
	return -EMFILE;
}

static int make_channel_socket(void)
{
	int fd = sys_socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	return fd < 0 ? fd : hide(fd);
}

static struct shim_session_claim claim_of(const struct shim_upgrade *u, const uint8_t *key)
{
	return (struct shim_session_claim){ key, u->keys.self.cookie, u->keys.peer_cookie };
}

static bool peer_of_channel_is_trusted(int channel)
{
	struct ucred who;
	socklen_t bytes = sizeof(who);

	return sys_getsockopt(channel, SOL_SOCKET, SO_PEERCRED, &who, &bytes) == 0 &&
	       shim_eligible_user(who.uid);
}

/* ---- client ---- */

static void client_offer_name(struct shim_upgrade *u)
{
	struct sockaddr_un name;
	socklen_t bytes;

	u->listener = make_channel_socket();
	if (u->listener < 0)
		return;
	if (shim_rendezvous_name(u->keys.first, SHIM_DIGEST_BYTES, &name, &bytes) < 0 ||
	    sys_bind(u->listener, &name, bytes) < 0 || sys_listen(u->listener, 4) < 0)
		close_hidden(&u->listener);
}

static enum shmipc_reason judge_hello(const struct shim_upgrade *u,
				      const struct shmipc_hello *hello)
{
	if (hello->layout != SHMIPC_LAYOUT_VERSION || hello->stream != 0)
		return SHMIPC_REASON_PROTOCOL;
	if (memcmp(hello->key, u->keys.first, SHIM_DIGEST_BYTES) != 0)
		return SHMIPC_REASON_IDENTITY;
	if (hello->netns_cookie && u->keys.self.netns_cookie &&
	    hello->netns_cookie != u->keys.self.netns_cookie)
		return SHMIPC_REASON_NAMESPACE;
	if (u->keys.peer_cookie && hello->cookie != u->keys.peer_cookie)
		return SHMIPC_REASON_IDENTITY;
	if (hello->peer_cookie && hello->peer_cookie != u->keys.self.cookie)
		return SHMIPC_REASON_IDENTITY;
	return SHMIPC_REASON_NONE;
}

/* A whole hello has come. */
static enum shmipc_reason client_accept_hello(struct shim_conn *conn, int fd,
					      const struct shmipc_hello *hello, int segment_fd)
{
	struct shim_upgrade *u = conn->upgrade;
	const struct shim_session_claim claim = claim_of(u, u->keys.first);
	struct shmipc_segment segment;
	enum shmipc_reason reason = shim_eligible_still(conn, fd);
	int error, session;

	if (!reason)
		reason = judge_hello(u, hello);
	error = reason ? -EPERM : shmipc_segment_map(&segment, segment_fd);
	sys_close(segment_fd);
	if (error) {
		shmipc_negotiate_send_answer(u->channel, error);
		return reason		  ? reason
		       : error == -EPROTO ? SHMIPC_REASON_PROTOCOL
					  : SHMIPC_REASON_MEMORY;
	}
	session = shim_session_add(&segment, true, u->keys.endpoint, &claim);
	if (session < 0) {
		shmipc_segment_unmap(&segment);
		shmipc_negotiate_send_answer(u->channel, session);
		return SHMIPC_REASON_LIMIT;
	}
	if (u->session != SHIM_SESSION_NONE)
		shim_session_withdraw(u->session, u->stream);
	u->session = SHIM_SESSION_NONE;
	shmipc_negotiate_send_answer(u->channel, 0);
	drop_upgrade(conn);
	attach(conn, fd, session, 0);
	return SHMIPC_REASON_NONE;
}

static bool another_is_offering(const struct shim_upgrade *u)
{
	for (int i = 0; i < UPGRADES_MAX; i++)
		if (&upgrades[i] != u && atomic_load(&upgrades[i].used) &&
		    upgrades[i].listener >= 0 && upgrades[i].keys.endpoint == u->keys.endpoint)
			return true;
	return false;
}

/* A name costs descriptors and a segment of its own: first the memory that the two processes share,
 * or are about to. */
static bool is_time_for_name(const struct shim_upgrade *u)
{
	if (u->session != SHIM_SESSION_NONE)
		return u->steps >= u->announced + ANNOUNCED_STEPS;
	return u->steps >= PIONEER_STEPS || !another_is_offering(u);
}

static void client_announce(struct shim_upgrade *u)
{
	const struct shim_session_claim claim = claim_of(u, u->keys.first);

	u->announced = u->steps;
	if (shim_session_offer(u->keys.endpoint, &claim, &u->session, &u->stream) < 0)
		u->session = SHIM_SESSION_NONE;
}

/* 0 when somebody whom we trust has come; else as client_step(). */
static int client_take_channel(struct shim_upgrade *u)
{
	int channel = sys_accept4(u->listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);

	if (channel < 0)
		return -1;
	u->channel = hide(channel);
	if (u->channel < 0)
		return SHMIPC_REASON_DESCRIPTORS;
	if (peer_of_channel_is_trusted(u->channel))
		return 0;
	close_hidden(&u->channel); /* a squatter; the right one may still come */
	return -1;
}

/* -1: nothing decided, look again later. */
static int client_step(struct shim_conn *conn, int fd)
{
	struct shim_upgrade *u = conn->upgrade;
	struct shmipc_hello hello;
	int segment_fd, result = 0;

	if (u->session == SHIM_SESSION_NONE && u->listener < 0)
		client_announce(u);
	if (u->session != SHIM_SESSION_NONE &&
	    shim_session_answered(u->session, u->stream, u->keys.peer_cookie))
		return take_stream(conn, fd);
	if (u->listener < 0 && is_time_for_name(u)) {
		client_offer_name(u);
		if (u->listener < 0)
			return SHMIPC_REASON_DESCRIPTORS;
	}
	if (u->listener < 0)
		return -1;
	if (u->channel < 0)
		result = client_take_channel(u);
	if (result)
		return result;
	result = shmipc_negotiator_receive_hello(&u->negotiator, u->channel, &hello, &segment_fd);
	if (result == -EAGAIN)
		return -1;
	if (result < 0) {
		shmipc_negotiate_send_answer(u->channel, result);
		return SHMIPC_REASON_PROTOCOL;
	}
	return (int)client_accept_hello(conn, fd, &hello, segment_fd);
}

/* ---- server ---- */

static int server_send_hello(struct shim_upgrade *u, const uint8_t *key)
{
	struct shmipc_hello hello = {
		.layout = SHMIPC_LAYOUT_VERSION,
		.stream = 0,
		.cookie = u->keys.self.cookie,
		.peer_cookie = u->keys.peer_cookie,
		.netns_cookie = u->keys.self.netns_cookie,
		.uid = sys_geteuid(),
		.segment_name = "shmipc-segment",
	};
	const struct shim_session_claim claim = claim_of(u, key);
	struct shmipc_segment segment;
	int fd, error = shmipc_segment_create(&segment, SHIM_SESSION_STREAMS,
					      SHIM_SESSION_RING_BYTES, &fd);

	if (error)
		return SHMIPC_REASON_MEMORY;
	memcpy(hello.key, key, SHIM_DIGEST_BYTES);
	u->session = shim_session_add(&segment, false, u->keys.endpoint, &claim);
	if (u->session < 0) {
		u->session = SHIM_SESSION_NONE;
		shmipc_segment_unmap(&segment);
		sys_close(fd);
		return SHMIPC_REASON_LIMIT;
	}
	u->stream = 0;
	error = shmipc_negotiate_send_hello(u->channel, &hello, fd);
	sys_close(fd);
	return error ? SHMIPC_REASON_PROTOCOL : -1;
}

static int server_dial(struct shim_upgrade *u)
{
	const uint8_t *key = u->second_name ? u->keys.second : u->keys.first;
	struct sockaddr_un name;
	socklen_t bytes;
	int error;

	if (u->keys.has_second)
		u->second_name = !u->second_name;
	if (shim_rendezvous_name(key, SHIM_DIGEST_BYTES, &name, &bytes) < 0)
		return SHMIPC_REASON_SYSTEM;
	u->channel = make_channel_socket();
	if (u->channel < 0)
		return u->channel == -EMFILE || u->channel == -ENFILE ? SHMIPC_REASON_DESCRIPTORS
								      : SHMIPC_REASON_SYSTEM;
	error = sys_connect(u->channel, &name, bytes);
	if (error || !peer_of_channel_is_trusted(u->channel)) {
		close_hidden(&u->channel);
		return -1; /* not offered yet, or not by somebody whom we trust */
	}
	return server_send_hello(u, key);
}

static bool server_answer(struct shim_upgrade *u)
{
	const struct shim_session_claim first = claim_of(u, u->keys.first),
					second = claim_of(u, u->keys.second);
	int session;

	if (shim_session_answer(&first, &session, &u->stream) < 0 &&
	    (!u->keys.has_second || shim_session_answer(&second, &session, &u->stream) < 0))
		return false;
	u->session = session;
	return true;
}

static int server_step(struct shim_conn *conn, int fd)
{
	struct shim_upgrade *u = conn->upgrade;
	int result;

	if (u->channel < 0)
		return server_answer(u) ? take_stream(conn, fd) : server_dial(u);
	result = shmipc_negotiator_receive_answer(&u->negotiator, u->channel);
	if (result == -EAGAIN)
		return -1;
	if (result < 0)
		return result == -ECONNREFUSED ? SHMIPC_REASON_IDENTITY : SHMIPC_REASON_PROTOCOL;
	return take_stream(conn, fd);
}

/* ---- when ---- */

/* Each of the first calls, then every 4th, 16th, 64th ... */
static uint32_t pause_after(uint32_t steps)
{
	return steps < 32 ? 1 : steps < 128 ? 4 : steps < 1024 ? 16 : 64;
}

static int begin(struct shim_conn *conn, int fd)
{
	struct shim_rendezvous_keys keys;
	enum shmipc_reason reason = shim_eligible(conn, fd, &keys);

	if (reason == SHMIPC_REASON_YOUNG)
		return -1;
	if (reason)
		return (int)reason;
	conn->upgrade = take_upgrade(conn, &keys);
	return conn->upgrade ? 0 : -1; /* too many under way: later */
}

static bool is_mine(const struct shmipc_lock *lock)
{
	return (atomic_load_explicit(&lock->owner, memory_order_relaxed) & ~SHMIPC_LOCK_WAITERS) ==
	       shmipc_thread_id();
}

/* A step is for one thread at a time, and not for a signal handler that has interrupted a call on
 * this connection. */
static bool may_step(struct shim_conn *conn)
{
	if (conn->generation != shmipc_process_generation() || is_mine(&conn->tx.lock) ||
	    is_mine(&conn->rx.lock))
		return false;
	return try_hold(conn);
}

static void step(struct shim_conn *conn, int fd)
{
	uint32_t calls = atomic_load(&conn->steps);
	int result = 0;

	atomic_store(&conn->next_step, calls + pause_after(calls));
	if (!may_step(conn))
		return;
	if (atomic_load(&conn->state) != SHMIPC_STATE_CANDIDATE) {
		give_up(conn);
		go_on(conn);
		return;
	}
	if (!conn->upgrade)
		result = begin(conn, fd);
	if (conn->upgrade) {
		result = conn->is_server ? server_step(conn, fd) : client_step(conn, fd);
		if (conn->upgrade)
			conn->upgrade->steps++;
	}
	if (result == -1 && calls >= STEPS_MAX)
		result = SHMIPC_REASON_PEER_PLAIN;
	if (result > 0)
		give_up(conn);
	go_on(conn);
	if (result > 0)
		shim_conn_make_plain(conn, (enum shmipc_reason)result);
}

static void one_more_call(struct shim_conn *conn, int fd)
{
	uint32_t trips = atomic_load_explicit(&conn->trips, memory_order_relaxed);
	uint64_t traffic = atomic_load_explicit(&conn->traffic, memory_order_relaxed);
	uint32_t calls;

	if (trips < shim_config.upgrade_after &&
	    traffic < (uint64_t)shim_config.upgrade_after * SHIM_UPGRADE_BYTES_PER_TRIP)
		return;
	calls = atomic_fetch_add(&conn->steps, 1);
	if (calls >= atomic_load_explicit(&conn->next_step, memory_order_relaxed))
		step(conn, fd);
}

void shim_upgrade_sent(struct shim_conn *conn, int fd, size_t bytes)
{
	atomic_fetch_add_explicit(&conn->traffic, bytes, memory_order_relaxed);
	atomic_store_explicit(&conn->sent_last, 1, memory_order_relaxed);
	one_more_call(conn, fd);
}

void shim_upgrade_received(struct shim_conn *conn, int fd, size_t bytes)
{
	atomic_fetch_add_explicit(&conn->traffic, bytes, memory_order_relaxed);
	if (bytes && atomic_load_explicit(&conn->sent_last, memory_order_relaxed)) {
		atomic_store_explicit(&conn->sent_last, 0, memory_order_relaxed);
		atomic_fetch_add_explicit(&conn->trips, 1, memory_order_relaxed);
	}
	one_more_call(conn, fd);
}
