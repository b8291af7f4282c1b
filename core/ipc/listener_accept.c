/* SPDX-License-Identifier: Apache-2.0 */
/* From a connection to a session. */
#include <errno.h>
#include <poll.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>

#include "core/cpu.h"
#include "core/ipc/listener.h"
#include "core/sys.h"

enum { ACCEPT_FIRST_ROOM = 16, TRY_AGAIN_NS = 20 * 1000 * 1000 };

static bool is_passing(int error)
{
	/* what accept() says of one connection, not of the listener */
	return error == -ECONNABORTED || error == -EINTR || error == -EPROTO ||
	       error == -ENETDOWN || error == -EHOSTUNREACH || error == -EPERM;
}

/* ---- pending -------------------------------------------------------------------------------- */

void shmipc_pending_free(struct shmipc_pending *p)
{
	shmipc_handshake_end(&p->handshake);
	if (p->source.fd >= 0)
		sys_close(p->source.fd);
	free(p);
}

static void pending_gone(struct shmipc_source *source)
{
	struct shmipc_pending *p = (struct shmipc_pending *)(void *)((char *)source -
								     offsetof(struct shmipc_pending,
									      source));
	struct shmipc_listener *listener = p->listener;

	shmipc_pending_free(p);
	shmipc_owner_put(&listener->owner);
}

/* False: somebody else has ended it. */
static bool take_out(struct shmipc_listener *listener, struct shmipc_pending *p)
{
	struct shmipc_pending **at = &listener->pending;
	bool mine;

	shmipc_mutex_lock(&listener->lock);
	mine = !p->over;
	p->over = true;
	while (mine && *at != p)
		at = &(*at)->next;
	if (mine) {
		*at = p->next;
		listener->pending_count--;
	}
	shmipc_mutex_unlock(&listener->lock);
	return mine;
}

static int enlist(struct shmipc_listener *listener, struct shmipc_session *s)
{
	int error = 0;

	shmipc_mutex_lock(&listener->lock);
	if (listener->destroyed) {
		error = -ESHUTDOWN;
	} else if (listener->session_count == listener->session_room) {
		uint32_t room = listener->session_room ? listener->session_room * 2
						       : ACCEPT_FIRST_ROOM;
		struct shmipc_session **larger = realloc(listener->sessions,
							 room * sizeof(struct shmipc_session *));

		if (larger) {
			listener->sessions = larger;
			listener->session_room = room;
		} else {
			error = -ENOMEM;
		}
	}
	if (!error) {
		shmipc_session_get(s);
		listener->sessions[listener->session_count++] = s;
	}
	shmipc_mutex_unlock(&listener->lock);
	return error;
}

static int make_session(struct shmipc_listener *listener, struct shmipc_pending *p)
{
	struct shmipc_session *s;
	int error = shmipc_session_new(&p->handshake, listener->config, &s);

	if (error)
		return error;
	p->source.fd = -1; /* the session's */
	shmipc_session_set_owner(s, &listener->owner);
	error = enlist(listener, s);
	if (!error && listener->loop) {
		s->begin_due = true;
		s->loop_owned = true;
		error = shmipc_session_attach(s, listener->loop, &listener->callbacks,
					      listener->user);
	}
	if (error) {
		s->loop_owned = false;
		shmipc_session_close(s);
		return error;
	}
	if (listener->loop) {
		shmipc_session_lock(s);
		shmipc_session_tell(s);
		shmipc_session_unlock(s);
		return 0;
	}
	shmipc_mutex_lock(&listener->lock);
	s->owner_next = NULL;
	for (struct shmipc_session **at = &listener->ready;; at = &(*at)->owner_next)
		if (!*at) {
			*at = s;
			break;
		}
	shmipc_mutex_unlock(&listener->lock);
	return 0;
}

/* -EAGAIN: not complete. */
static int step(struct shmipc_listener *listener, struct shmipc_pending *p, uint64_t now)
{
	int error = shmipc_handshake_step(&p->handshake);

	if (error == -EAGAIN && now >= p->deadline_ns)
		error = -ETIMEDOUT;
	if (error == -EAGAIN)
		return error;
	if (!take_out(listener, p))
		return 0;
	/* before the session puts the same descriptor into the loop; p lives until it comes round
	 */
	if (listener->loop)
		shmipc_loop_remove(listener->loop, &p->source);
	if (!error)
		error = make_session(listener, p);
	if (error)
		shmipc_log(listener->config, SHMIPC_LOG_WARNING, "handshake failed: %s",
			   strerror(-error));
	if (!listener->loop)
		shmipc_pending_free(p);
	return error;
}

static void pending_ready(struct shmipc_source *source, uint32_t events)
{
	struct shmipc_pending *p = (struct shmipc_pending *)(void *)((char *)source -
								     offsetof(struct shmipc_pending,
									      source));
	struct shmipc_listener *listener = p->listener;
	short before = p->handshake.events;

	(void)events;
	if (step(listener, p, shmipc_clock_ns()) == -EAGAIN && p->handshake.events != before)
		shmipc_loop_change(listener->loop, source,
				   p->handshake.events == POLLIN ? EPOLLIN : EPOLLOUT);
	/* there may be room for another one */
	shmipc_listener_take_connections(listener);
}

/* ---- connections ---------------------------------------------------------------------------- */

/* False: the listener has been destroyed meanwhile. */
static bool put_in(struct shmipc_listener *listener, struct shmipc_pending *p)
{
	bool wanted;

	shmipc_mutex_lock(&listener->lock);
	wanted = !listener->destroyed;
	if (wanted) {
		p->next = listener->pending;
		listener->pending = p;
		listener->pending_count++;
	}
	shmipc_mutex_unlock(&listener->lock);
	return wanted;
}

static int add_pending(struct shmipc_listener *listener, int fd)
{
	struct shmipc_pending *p = calloc(1, sizeof(*p));
	int error;

	if (!p)
		return -ENOMEM;
	p->listener = listener;
	p->deadline_ns = shmipc_clock_ns() +
			 listener->config->values.handshake_timeout_ms * UINT64_C(1000000);
	p->source = (struct shmipc_source){
		.fd = fd, .events = EPOLLIN, .ready = pending_ready, .gone = pending_gone
	};
	shmipc_handshake_start(&p->handshake, SHMIPC_ROLE_SERVER, fd, &listener->config->values,
			       NULL, NULL, NULL);
	p->handshake.events = POLLIN;
	if (!put_in(listener, p)) {
		free(p);
		return -ESHUTDOWN;
	}
	if (!listener->loop)
		return 0;
	shmipc_owner_get(&listener->owner);
	error = shmipc_loop_add(listener->loop, &p->source);
	if (!error || !take_out(listener, p)) /* who took it out frees it, and the descriptor */
		return 0;
	shmipc_owner_put(&listener->owner);
	free(p);
	return error;
}

static void watch_late_ones(struct shmipc_listener *listener, uint64_t due_ns)
{
	shmipc_mutex_lock(&listener->lock);
	for (const struct shmipc_pending *p = listener->pending; p; p = p->next)
		due_ns = p->deadline_ns < due_ns ? p->deadline_ns : due_ns;
	if (due_ns != SHMIPC_NEVER && !listener->destroyed && listener->loop &&
	    !shmipc_loop_arm(listener->loop, &listener->timer, due_ns))
		shmipc_owner_get(&listener->owner);
	shmipc_mutex_unlock(&listener->lock);
}

/* Is another connection wanted now? */
static bool has_room(struct shmipc_listener *listener)
{
	bool yes;

	shmipc_mutex_lock(&listener->lock);
	yes = listener->listening && !listener->destroyed &&
	      listener->pending_count < listener->config->values.handshakes_max;
	shmipc_mutex_unlock(&listener->lock);
	return yes;
}

/* A connection that cannot be taken now must not keep the loop awake. */
static void watch_for_more(struct shmipc_listener *listener, bool wanted)
{
	shmipc_mutex_lock(&listener->lock);
	if (listener->in_loop && wanted != (listener->source.events != 0))
		shmipc_loop_change(listener->loop, &listener->source, wanted ? EPOLLIN : 0);
	shmipc_mutex_unlock(&listener->lock);
}

void shmipc_listener_take_connections(struct shmipc_listener *listener)
{
	uint64_t due = SHMIPC_NEVER;
	int fd, error;

	while (has_room(listener)) {
		fd = sys_accept4(listener->source.fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
		if (is_passing(fd))
			continue;
		if (fd == -EMFILE || fd == -ENFILE || fd == -ENOBUFS || fd == -ENOMEM)
			due = shmipc_clock_ns() + TRY_AGAIN_NS;
		if (fd < 0)
			break;
		error = add_pending(listener, fd);
		if (error)
			sys_close(fd);
	}
	if (listener->loop) {
		watch_for_more(listener, due == SHMIPC_NEVER && has_room(listener));
		watch_late_ones(listener, due);
	}
}

void shmipc_listener_ready(struct shmipc_source *source, uint32_t events)
{
	(void)events;
	shmipc_listener_take_connections(
		(struct shmipc_listener *)(void *)((char *)source -
						   offsetof(struct shmipc_listener, source)));
}

static void end_late_ones(struct shmipc_listener *listener)
{
	uint64_t now = shmipc_clock_ns();
	struct shmipc_pending *late;

	do {
		shmipc_mutex_lock(&listener->lock);
		for (late = listener->pending; late && late->deadline_ns > now; late = late->next)
			;
		shmipc_mutex_unlock(&listener->lock);
		if (late)
			step(listener, late, now);
	} while (late);
}

void shmipc_listener_timer(struct shmipc_timer *timer)
{
	struct shmipc_listener
		*listener = (struct shmipc_listener *)(void *)((char *)timer -
							       offsetof(struct shmipc_listener,
									timer));

	end_late_ones(listener);
	shmipc_listener_take_connections(listener);
	shmipc_owner_put(&listener->owner);
}

struct shmipc_session **shmipc_listener_sessions(struct shmipc_listener *listener,
						 uint32_t *count_out)
{
	struct shmipc_session **sessions;

	shmipc_mutex_lock(&listener->lock);
	sessions = calloc(listener->session_count ? listener->session_count : 1,
			  sizeof(struct shmipc_session *));
	*count_out = sessions ? listener->session_count : 0;
	for (uint32_t i = 0; i < *count_out; i++) {
		sessions[i] = listener->sessions[i];
		shmipc_session_get(sessions[i]);
	}
	shmipc_mutex_unlock(&listener->lock);
	return sessions;
}

/* ---- without a loop ------------------------------------------------------------------------- */

static struct shmipc_session *take_ready(struct shmipc_listener *listener)
{
	struct shmipc_session *s;

	shmipc_mutex_lock(&listener->lock);
	s = listener->ready;
	if (s)
		listener->ready = s->owner_next;
	shmipc_mutex_unlock(&listener->lock);
	return s;
}

/* Others may put some in meanwhile, in front; nobody else takes one out. */
static void step_all(struct shmipc_listener *listener)
{
	struct shmipc_pending *p, *next;

	shmipc_mutex_lock(&listener->lock);
	p = listener->pending;
	shmipc_mutex_unlock(&listener->lock);
	for (; p; p = next) {
		next = p->next;
		step(listener, p, shmipc_clock_ns());
	}
}

/* What to poll for; the listening socket is the first.  NULL: no memory. */
static struct pollfd *gather(struct shmipc_listener *listener, nfds_t *count_out,
			     uint64_t *deadline_ns)
{
	bool more = has_room(listener);
	struct pollfd *fds;
	nfds_t n = 1;

	shmipc_mutex_lock(&listener->lock);
	fds = calloc(listener->pending_count + 1, sizeof(*fds));
	for (struct shmipc_pending *p = fds ? listener->pending : NULL; p; p = p->next, n++) {
		fds[n].fd = p->source.fd;
		fds[n].events = p->handshake.events;
		*deadline_ns = p->deadline_ns < *deadline_ns ? p->deadline_ns : *deadline_ns;
	}
	shmipc_mutex_unlock(&listener->lock);
	if (fds) {
		fds[0].fd = more ? listener->source.fd : -1;
		fds[0].events = POLLIN;
	}
	*count_out = n;
	return fds;
}

/* Sleeps until a connection or a handshake has something to say. */
static int sleep_for_any(struct shmipc_listener *listener, uint64_t deadline_ns)
{
	uint64_t now = shmipc_clock_ns();
	nfds_t count;
	struct pollfd *fds = gather(listener, &count, &deadline_ns);
	int ms;

	if (!fds)
		return -ENOMEM;
	/* after a while look again: the kernel may have had no descriptor to give */
	ms = deadline_ns <= now			       ? 0
	     : deadline_ns - now > UINT64_C(100000000) ? 100
						       : (int)((deadline_ns - now) / 1000000) + 1;
	sys_poll(fds, count, ms);
	free(fds);
	return 0;
}

static int accept_alone(struct shmipc_listener *listener, uint64_t deadline_ns,
			struct shmipc_session **session_out)
{
	int error;

	for (;;) {
		shmipc_listener_take_connections(listener);
		step_all(listener);
		*session_out = take_ready(listener);
		if (*session_out)
			return 0;
		if (deadline_ns == SHMIPC_NOWAIT)
			return -EAGAIN;
		if (shmipc_clock_ns() >= deadline_ns)
			return -ETIMEDOUT;
		error = sleep_for_any(listener, deadline_ns);
		if (error)
			return error;
	}
}

int shmipc_listener_accept(struct shmipc_listener *listener, uint64_t deadline_ns,
			   struct shmipc_session **session_out)
{
	uint32_t nobody;
	int result;

	if (listener->generation != shmipc_process_generation())
		return -ECHILD;
	if (listener->loop)
		return -EINVAL;
	for (;;) {
		nobody = 0;
		if (atomic_compare_exchange_strong(&listener->accepting, &nobody, 1))
			break;
		*session_out = take_ready(listener);
		if (*session_out)
			return 0;
		if (deadline_ns == SHMIPC_NOWAIT)
			return -EAGAIN;
		if (shmipc_clock_ns() >= deadline_ns)
			return -ETIMEDOUT;
		shmipc_word_wait(&listener->accepting, 1, deadline_ns);
	}
	result = accept_alone(listener, deadline_ns, session_out);
	atomic_store(&listener->accepting, 0);
	shmipc_word_wake(&listener->accepting);
	return result;
}
