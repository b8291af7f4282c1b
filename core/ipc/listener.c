/* SPDX-License-Identifier: Apache-2.0 */
#include "core/ipc/listener.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>

#include "core/sys.h"

/* ---- what sessions tell --------------------------------------------------------------------- */

static void session_mapped(struct shmipc_session_owner *owner, struct shmipc_session *s)
{
	(void)owner;
	(void)s; /* the names are the client's to remove */
}

static void session_restarts(struct shmipc_session_owner *owner, struct shmipc_session *s,
			     uint64_t epoch)
{
	(void)owner;
	(void)s;
	(void)epoch; /* session_input.c lets no client's HotRestart through */
}

static void session_idle(struct shmipc_session_owner *owner, struct shmipc_session *s)
{
	(void)owner;
	(void)s; /* a server retires none */
}

static void session_ended(struct shmipc_session_owner *owner, struct shmipc_session *s)
{
	struct shmipc_listener *listener = shmipc_listener_of(owner);
	struct shmipc_metrics figures;
	bool found = false;

	shmipc_session_metrics(s, &figures, sizeof(figures));
	shmipc_mutex_lock(&listener->lock);
	for (uint32_t i = 0; i < listener->session_count && !found; i++) {
		if (listener->sessions[i] != s)
			continue;
		found = true;
		listener->sessions[i] = listener->sessions[--listener->session_count];
		shmipc_metrics_add(&listener->metrics, &figures);
		shmipc_listener_no_answer(listener, s);
	}
	shmipc_mutex_unlock(&listener->lock);
	if (found)
		shmipc_session_put(s);
}

/* ---- life ----------------------------------------------------------------------------------- */

static void free_listener(struct shmipc_session_owner *owner)
{
	struct shmipc_listener *listener = shmipc_listener_of(owner);

	if (listener->source.fd >= 0)
		sys_close(listener->source.fd);
	free(listener->sessions);
	shmipc_config_put(listener->config);
	free(listener);
}

static void source_gone(struct shmipc_source *source)
{
	struct shmipc_listener
		*listener = (struct shmipc_listener *)(void *)((char *)source -
							       offsetof(struct shmipc_listener,
									source));

	shmipc_owner_put(&listener->owner);
}

static int new_listener(const struct shmipc_config *config, struct shmipc_loop *loop,
			const struct shmipc_session_callbacks *callbacks, void *user,
			struct shmipc_listener **out)
{
	struct shmipc_listener *listener;
	int error = shmipc_process_init();

	if (error)
		return error;
	listener = calloc(1, sizeof(*listener));
	if (!listener)
		return -ENOMEM;
	listener->owner = (struct shmipc_session_owner){
		.refs = 1,
		.free = free_listener,
		.mapped = session_mapped,
		.hot_restart = session_restarts,
		.acknowledged = shmipc_listener_acknowledged,
		.idle = session_idle,
		.ended = session_ended
	};
	listener->generation = shmipc_process_generation();
	listener->source.fd = -1;
	listener->timer.fire = shmipc_listener_timer;
	listener->config = shmipc_config_share(config, &error);
	if (!listener->config) {
		free(listener);
		return error;
	}
	listener->loop = loop;
	listener->user = user;
	if (callbacks)
		listener->callbacks = *callbacks;
	*out = listener;
	return 0;
}

static int start(struct shmipc_listener *listener, int fd, struct shmipc_listener **out)
{
	int error = shmipc_address_of(fd, listener->address);

	listener->source.fd = fd;
	listener->listening = true;
	if (!error && listener->loop) {
		listener->source.events = EPOLLIN;
		listener->source.ready = shmipc_listener_ready;
		listener->source.gone = source_gone;
		shmipc_owner_get(&listener->owner);
		shmipc_loop_use(listener->loop);
		listener->in_loop = true;
		error = shmipc_loop_add(listener->loop, &listener->source);
		if (error) {
			listener->in_loop = false;
			shmipc_loop_leave(listener->loop);
			shmipc_owner_put(&listener->owner);
		}
	}
	if (!error)
		*out = listener;
	return error;
}

/* Whoever replaces our path with his own must not lose it to our end. */
static void remember_path(struct shmipc_listener *listener, const struct shmipc_address *address)
{
	const char *path = shmipc_address_path(address);
	struct stat st;

	if (!path || sys_stat(path, &st))
		return;
	listener->owns_path = true;
	listener->device = st.st_dev;
	listener->inode = st.st_ino;
}

int shmipc_listener_create(const char *address, unsigned int flags,
			   const struct shmipc_config *config, struct shmipc_loop *loop,
			   const struct shmipc_session_callbacks *callbacks, void *user,
			   struct shmipc_listener **listener_out)
{
	struct shmipc_listener *listener;
	struct shmipc_address parsed;
	int fd, error = shmipc_address_parse(address, &parsed);

	if (!error && flags & ~(unsigned int)(SHMIPC_LISTEN_REPLACE | SHMIPC_LISTEN_KEEP_PATH))
		error = -EINVAL;
	if (!error)
		error = new_listener(config, loop, callbacks, user, &listener);
	if (error)
		return error;
	fd = shmipc_address_listen(&parsed, flags & SHMIPC_LISTEN_REPLACE);
	error = fd < 0 ? fd : start(listener, fd, listener_out);
	if (error) {
		shmipc_owner_put(&listener->owner);
		return error;
	}
	if (shmipc_address_path(&parsed)) /* the socket may have been bound beside it */
		snprintf(listener->address, sizeof(listener->address), "%s", address);
	if (!(flags & SHMIPC_LISTEN_KEEP_PATH))
		remember_path(listener, &parsed);
	return 0;
}

int shmipc_listener_adopt(int listening_fd, const struct shmipc_config *config,
			  struct shmipc_loop *loop,
			  const struct shmipc_session_callbacks *callbacks, void *user,
			  struct shmipc_listener **listener_out)
{
	struct shmipc_listener *listener;
	int flags = sys_fcntl(listening_fd, F_GETFL, 0);
	int error = flags < 0 ? flags : 0;

	if (!error)
		error = sys_fcntl(listening_fd, F_SETFL, flags | O_NONBLOCK);
	if (!error)
		error = new_listener(config, loop, callbacks, user, &listener);
	if (error)
		return error;
	error = start(listener, listening_fd, listener_out);
	if (error) {
		listener->source.fd = -1;
		shmipc_owner_put(&listener->owner);
	}
	return error;
}

static void remove_path(struct shmipc_listener *listener)
{
	const char *path = listener->address + strlen("unix:");
	struct stat st;

	if (listener->owns_path && sys_stat(path, &st) == 0 && st.st_dev == listener->device &&
	    st.st_ino == listener->inode)
		sys_unlink(path);
}

static void drop_pending(struct shmipc_listener *listener)
{
	struct shmipc_pending *pending, *next;

	shmipc_mutex_lock(&listener->lock);
	pending = listener->pending;
	listener->pending = NULL;
	listener->pending_count = 0;
	for (struct shmipc_pending *p = pending; p; p = p->next)
		p->over = true;
	shmipc_mutex_unlock(&listener->lock);
	for (; pending; pending = next) {
		next = pending->next;
		if (listener->loop)
			shmipc_loop_remove(listener->loop, &pending->source);
		else
			shmipc_pending_free(pending);
	}
}

/* Nobody has asked for them, and nobody will. */
static void drop_ready(struct shmipc_listener *listener)
{
	while (listener->ready) {
		struct shmipc_session *s = listener->ready;

		listener->ready = s->owner_next;
		shmipc_session_close(s);
	}
}

static void shut_sessions_down(struct shmipc_listener *listener)
{
	uint32_t count;
	struct shmipc_session **sessions = shmipc_listener_sessions(listener, &count);

	for (uint32_t i = 0; i < count; i++) {
		struct shmipc_session *s = sessions[i];

		if (listener->loop) {
			shmipc_session_lock(s);
			shmipc_session_end(s, -ESHUTDOWN, true);
			shmipc_session_unlock(s);
		} else {
			shmipc_session_clear_owner(s);
			session_ended(&listener->owner, s); /* out of the list, its reference too */
		}
		shmipc_session_put(s);
	}
	free(sessions);
}

void shmipc_listener_leave_loop(struct shmipc_listener *listener)
{
	bool was_in;

	shmipc_mutex_lock(&listener->lock);
	was_in = listener->in_loop;
	listener->in_loop = false;
	shmipc_mutex_unlock(&listener->lock);
	if (was_in)
		shmipc_loop_remove(listener->loop, &listener->source);
}

void shmipc_listener_destroy(struct shmipc_listener *listener)
{
	if (listener->generation != shmipc_process_generation()) {
		shmipc_owner_put(&listener->owner);
		return;
	}
	shmipc_mutex_lock(&listener->lock);
	listener->destroyed = true;
	shmipc_mutex_unlock(&listener->lock);
	remove_path(listener);
	if (listener->loop && shmipc_loop_disarm(listener->loop, &listener->timer))
		shmipc_owner_put(&listener->owner);
	drop_pending(listener);
	drop_ready(listener);
	shut_sessions_down(listener);
	if (listener->loop) {
		shmipc_listener_leave_loop(listener);
		shmipc_loop_leave(listener->loop);
	}
	shmipc_owner_put(&listener->owner);
}

const char *shmipc_listener_address(const struct shmipc_listener *listener)
{
	return listener->address;
}

void shmipc_listener_metrics(struct shmipc_listener *listener, struct shmipc_metrics *out,
			     size_t bytes)
{
	struct shmipc_metrics sum = { 0 }, part;
	struct shmipc_session **sessions;
	uint32_t count;

	if (listener->generation == shmipc_process_generation()) {
		shmipc_mutex_lock(&listener->lock);
		sum = listener->metrics;
		shmipc_mutex_unlock(&listener->lock);
		sessions = shmipc_listener_sessions(listener, &count);
		for (uint32_t i = 0; i < count; i++) {
			shmipc_session_metrics(sessions[i], &part, sizeof(part));
			shmipc_metrics_add(&sum, &part);
			shmipc_session_put(sessions[i]);
		}
		free(sessions);
	}
	shmipc_metrics_copy(&sum, out, bytes);
}
