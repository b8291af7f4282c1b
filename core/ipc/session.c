/* SPDX-License-Identifier: Apache-2.0 */
#include "core/ipc/session.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>

#include "core/cpu.h"
#include "core/ipc/stream.h"
#include "core/sys.h"

enum {
	NOTE_MAGIC = 0x53480000, /* in a note: libshmipc; the low half is a CPU's number plus one */
	CACHE_SHARE = 16,	 /* never more than a 16th of a list */
	LINGER_NS = 200 * 1000 * 1000,
	LINGER_STEP_NS = 50 * 1000,
	FIRST_ID = 2 /* as the other implementations: their counter starts at 1 and steps first */
};

/* ---- birth ---------------------------------------------------------------------------------- */

static int make_caches(struct shmipc_session *s)
{
	uint32_t lists = s->pool->list_count;

	s->cache = calloc(lists, sizeof(*s->cache));
	for (uint32_t i = 0; s->cache && i < lists; i++) {
		uint32_t limit = s->pool->lists[i].count / CACHE_SHARE;

		if (limit > s->config->values.cached_slices)
			limit = s->config->values.cached_slices;
		s->cache[i].limit = limit;
		s->cache[i].offsets = calloc(limit ? limit : 1, sizeof(uint32_t));
		if (!s->cache[i].offsets)
			return -ENOMEM;
	}
	return s->cache ? 0 : -ENOMEM;
}

static int attach_queues(struct shmipc_session *s)
{
	uint64_t half = s->queues.bytes / 2;
	uint8_t *first = s->queues.base, *second = first + half;
	bool client = s->role == SHMIPC_ROLE_CLIENT;
	int error;

	/* half must keep the words of the second queue aligned */
	if (s->queues.bytes % 8 != 0)
		return -EPROTO;
	error = shmipc_queue_attach(&s->send, client ? first : second, half, SHMIPC_QUEUE_NATIVE,
				    true);
	if (!error)
		error = shmipc_queue_attach(&s->receive, client ? second : first, half,
					    SHMIPC_QUEUE_NATIVE, false);
	return error;
}

static void name_it(struct shmipc_session *s, const char *path)
{
	const char *slash = strrchr(path, '/');
	const char *name = slash ? slash + 1 : path;
	size_t bytes = strlen(name);

	if (bytes >= sizeof(s->id)) {
		name += bytes - (sizeof(s->id) - 1);
		bytes = sizeof(s->id) - 1;
	}
	memcpy(s->id, name, bytes);
}

static void free_memory(struct shmipc_session *s)
{
	for (uint32_t i = 0; s->cache && i < s->pool->list_count; i++)
		free(s->cache[i].offsets);
	free(s->cache);
	free(s->streams.slots);
	free(s);
}

static int prepare_socket(int fd)
{
	int flags = sys_fcntl(fd, F_GETFL, 0), on = 1;

	if (flags < 0)
		return flags;
	/* a wake-up that Nagle holds back is none; of no meaning, and refused, on a Unix socket */
	sys_setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	/* every call that must not wait says so itself; the sleep of a single thread is recv() */
	return sys_fcntl(fd, F_SETFL, flags & ~O_NONBLOCK);
}

int shmipc_session_new(struct shmipc_handshake *h, struct shmipc_shared_config *config,
		       struct shmipc_session **out)
{
	struct shmipc_session *s = calloc(1, sizeof(*s));
	int error;

	if (!s)
		return -ENOMEM;
	atomic_init(&s->refs, 1);
	s->generation = shmipc_process_generation();
	s->role = h->role;
	s->fd = h->fd;
	s->wake_fd = -1;
	s->version = h->version;
	s->peer_is_ours = h->peer_is_ours;
	s->config = config;
	s->pool = &h->buffer->pool;
	s->queues = h->queues;
	s->next_id = FIRST_ID;
	shmipc_spin_init(&s->spin);
	name_it(s, h->names[0]);
	error = attach_queues(s);
	if (!error)
		error = make_caches(s);
	if (!error)
		error = prepare_socket(s->fd);
	if (error) {
		free_memory(s);
		return error;
	}
	if (s->role == SHMIPC_ROLE_SERVER && s->peer_is_ours)
		atomic_store(shmipc_pool_note(s->pool, SHMIPC_POOL_MAPPER), NOTE_MAGIC);
	shmipc_config_get(config);
	s->buffer = h->buffer;
	h->buffer = NULL;
	h->queues = (struct shmipc_area){ .fd = -1 };
	*out = s;
	return 0;
}

int shmipc_session_attach(struct shmipc_session *s, struct shmipc_loop *loop,
			  const struct shmipc_session_callbacks *callbacks, void *user)
{
	if (callbacks)
		s->callbacks = *callbacks;
	s->user = user;
	return loop ? shmipc_session_join_loop(s, loop) : 0;
}

int shmipc_session_shake(struct shmipc_handshake *h, uint64_t deadline_ns)
{
	int error;

	while ((error = shmipc_handshake_step(h)) == -EAGAIN) {
		struct pollfd wait = { .fd = h->fd, .events = h->events };
		uint64_t now = shmipc_clock_ns();

		if (now >= deadline_ns)
			return -ETIMEDOUT;
		sys_poll(&wait, 1, (int)((deadline_ns - now) / 1000000) + 1);
	}
	return error;
}

/* ---- references ----------------------------------------------------------------------------- */

void shmipc_session_get(struct shmipc_session *s)
{
	atomic_fetch_add_explicit(&s->refs, 1, memory_order_relaxed);
}

/* `busy` is being sent from by another thread, which frees it. */
static void free_blocks(struct shmipc_block *block, const struct shmipc_block *busy)
{
	while (block) {
		struct shmipc_block *next = block->next;

		if (block != busy)
			free(block);
		block = next;
	}
}

void shmipc_session_put(struct shmipc_session *s)
{
	if (atomic_fetch_sub_explicit(&s->refs, 1, memory_order_acq_rel) != 1)
		return;
	shmipc_streams_free(s);
	free_blocks(s->out_first, NULL);
	free(s->incoming);
	if (s->owner)
		shmipc_owner_put(s->owner);
	sys_close(s->fd);
	if (s->wake_fd >= 0)
		sys_close(s->wake_fd);
	if (!shmipc_session_is_foreign(s))
		shmipc_area_unlink(&s->queues);
	shmipc_area_drop(&s->queues);
	for (uint32_t i = 0; i < s->pool->list_count; i++)
		free(s->cache[i].offsets);
	free(s->cache);
	s->cache = NULL;
	shmipc_mapping_put(s->buffer);
	shmipc_config_put(s->config);
	free_memory(s);
}

void shmipc_owner_get(struct shmipc_session_owner *owner)
{
	atomic_fetch_add(&owner->refs, 1);
}

void shmipc_owner_put(struct shmipc_session_owner *owner)
{
	if (atomic_fetch_sub(&owner->refs, 1) == 1)
		owner->free(owner);
}

void shmipc_session_set_owner(struct shmipc_session *s, struct shmipc_session_owner *owner)
{
	shmipc_owner_get(owner);
	s->owner = owner;
}

void shmipc_session_clear_owner(struct shmipc_session *s)
{
	struct shmipc_session_owner *owner;

	shmipc_session_lock(s);
	owner = s->owner;
	s->owner = NULL;
	shmipc_session_unlock(s);
	if (owner)
		shmipc_owner_put(owner);
}

void shmipc_session_check_idle(struct shmipc_session *s)
{
	if (s->retired && s->active_streams == 0 && !s->ended)
		s->news |= SHMIPC_NEWS_IDLE;
}

/* ---- the end -------------------------------------------------------------------------------- */

static void empty_caches(struct shmipc_session *s)
{
	for (uint32_t i = 0; i < s->pool->list_count; i++) {
		struct shmipc_slice_cache *cache = &s->cache[i];

		cache->limit = 0;
		while (cache->count > 0)
			shmipc_pool_give(s->pool, (struct shmipc_slice){
							  cache->offsets[--cache->count], i });
	}
}

void shmipc_session_end(struct shmipc_session *s, int reason, bool orderly)
{
	if (s->ended)
		return;
	s->ended = true;
	s->reason = reason;
	s->orderly = orderly;
	if (!orderly)
		s->metrics.connection_errors++;
	empty_caches(s);
	if (reason == -ECONNRESET)
		shmipc_session_reclaim(s);
	sys_shutdown(s->fd, SHUT_RDWR);
	free_blocks(s->out_first, s->out_busy);
	s->out_first = s->out_last = NULL;
	free(s->incoming);
	s->incoming = NULL;
	shmipc_streams_for_each(s, shmipc_stream_session_ended);
	s->closing = NULL;
	shmipc_session_notify_all(s);
	s->news |= SHMIPC_NEWS_ENDED;
	shmipc_session_leave_loop(s);
}

static void report_end(struct shmipc_session *s, const struct shmipc_metrics *metrics)
{
	const struct shmipc_config *config = &s->config->values;

	shmipc_log(s->config, s->orderly ? SHMIPC_LOG_INFO : SHMIPC_LOG_WARNING,
		   "session %s ended: %s", s->id,
		   s->reason == -ESHUTDOWN ? "closed here"
		   : s->orderly		   ? "the peer closed it"
					   : strerror(-s->reason));
	if (config->monitor)
		config->monitor(config->user, s->id, metrics);
}

void shmipc_session_deliver(struct shmipc_session *s)
{
	struct shmipc_session_owner *owner = s->owner;
	uint32_t news = s->news;
	uint64_t epoch = s->epoch;
	struct shmipc_metrics metrics;

	shmipc_session_figures(s, &metrics);
	s->news = 0;
	if (owner)
		shmipc_owner_get(owner);
	shmipc_session_get(s);
	shmipc_mutex_unlock(&s->lock);
	if (news & SHMIPC_NEWS_ENDED)
		report_end(s, &metrics);
	if (owner) {
		if (news & SHMIPC_NEWS_MAPPED)
			owner->mapped(owner, s);
		if (news & SHMIPC_NEWS_HOT_RESTART)
			owner->hot_restart(owner, s, epoch);
		if (news & SHMIPC_NEWS_ACKNOWLEDGED)
			owner->acknowledged(owner, s, epoch);
		if (news & SHMIPC_NEWS_IDLE)
			owner->idle(owner, s);
		if (news & SHMIPC_NEWS_ENDED)
			owner->ended(owner, s);
		shmipc_owner_put(owner);
	}
	shmipc_session_put(s);
}

void shmipc_session_poke(struct shmipc_session *s)
{
	shmipc_session_lock(s);
	if (!s->ended) {
		shmipc_session_read(s);
		shmipc_session_harvest(s);
		shmipc_session_pump(s);
		shmipc_session_settle(s);
	}
	shmipc_session_unlock(s);
}

/* What was flushed must get across.  What waits for the socket has to be taken by the kernel; and
 * peers that look at the end of the connection before they look at the queue need a moment. */
static void linger(struct shmipc_session *s)
{
	uint64_t now = shmipc_clock_ns();
	uint64_t socket_until = now + s->config->values.write_timeout_ms * UINT64_C(1000000);
	uint64_t queue_until = now + LINGER_NS;
	uint32_t patience = 0;

	while (!s->ended && s->out_first && shmipc_clock_ns() < socket_until)
		shmipc_session_wait_room(s, &patience, true, socket_until);
	if (s->peer_is_ours)
		return;
	while (!s->ended && !shmipc_queue_is_drained(&s->send) && shmipc_clock_ns() < queue_until)
		shmipc_session_wait_room(s, &patience, false, queue_until);
}

void shmipc_session_close(struct shmipc_session *s)
{
	if (!shmipc_session_is_foreign(s)) {
		shmipc_session_lock(s);
		s->closed = true;
		if (!s->ended) {
			linger(s);
			shmipc_session_end(s, -ESHUTDOWN, true);
		}
		shmipc_session_unlock(s);
		if (s->loop)
			shmipc_loop_cancel(s->loop, &s->task);
	}
	shmipc_session_put(s);
}

/* ---- public, small -------------------------------------------------------------------------- */

int shmipc_session_create(int connected_fd, enum shmipc_role role,
			  const struct shmipc_config *config, struct shmipc_loop *loop,
			  const struct shmipc_session_callbacks *callbacks, void *user,
			  struct shmipc_session **session_out)
{
	struct shmipc_shared_config *shared;
	struct shmipc_session *s = NULL;
	int error = shmipc_process_init();

	if (error)
		return error;
	shared = shmipc_config_share(config, &error);
	if (!shared)
		return error;
	error = shmipc_session_over(connected_fd, role, shared, &s);
	shmipc_config_put(shared);
	if (!error) {
		error = shmipc_session_attach(s, loop, callbacks, user);
		if (error) {
			s->fd = -1; /* not ours after all */
			shmipc_session_close(s);
		}
	}
	if (!error)
		*session_out = s;
	return error;
}

int shmipc_session_health(struct shmipc_session *s)
{
	int result = 0;

	if (shmipc_session_is_foreign(s))
		return -ECHILD;
	shmipc_session_lock(s);
	if (s->ended)
		result = s->reason;
	else if (s->unhealthy_until_ns && shmipc_clock_ns() < s->unhealthy_until_ns)
		result = -EBUSY;
	shmipc_session_unlock(s);
	return result;
}

const char *shmipc_session_id(const struct shmipc_session *s)
{
	return s->id;
}

int shmipc_session_peer(const struct shmipc_session *s, pid_t *pid, uid_t *uid, gid_t *gid)
{
	struct sockaddr_storage name = { 0 };
	struct ucred peer;
	socklen_t bytes = sizeof(name);
	int error = sys_getsockname(s->fd, &name, &bytes);

	if (!error && name.ss_family != AF_UNIX)
		error = -ENOTSUP;
	bytes = sizeof(peer);
	if (!error)
		error = sys_getsockopt(s->fd, SOL_SOCKET, SO_PEERCRED, &peer, &bytes);
	if (error)
		return error;
	if (pid)
		*pid = peer.pid;
	if (uid)
		*uid = peer.uid;
	if (gid)
		*gid = peer.gid;
	return 0;
}
