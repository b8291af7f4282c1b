/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Hot restart, the old server's side: it tells every session's client that another server has taken
 * the address, and waits until all have acknowledged or gone.
 */
#include <errno.h>
#include <stdlib.h>

#include "core/cpu.h"
#include "core/ipc/listener.h"
#include "core/sys.h"

enum { STEP_NS = 1000 * 1000 };

/* Lock held. */
static void one_less(struct shmipc_listener *listener)
{
	if (--listener->unacknowledged > 0)
		return;
	listener->restarting = false;
	listener->metrics.hot_restarts++;
}

void shmipc_listener_no_answer(struct shmipc_listener *listener, struct shmipc_session *s)
{
	if (!s->owner_flag)
		return;
	s->owner_flag = false;
	if (listener->restarting)
		one_less(listener);
}

void shmipc_listener_acknowledged(struct shmipc_session_owner *owner, struct shmipc_session *s,
				  uint64_t epoch)
{
	struct shmipc_listener *listener = shmipc_listener_of(owner);

	shmipc_mutex_lock(&listener->lock);
	if (epoch == listener->epoch)
		shmipc_listener_no_answer(listener, s);
	shmipc_mutex_unlock(&listener->lock);
}

/* Two listeners of one TCP port share its connections as long as both listen. */
static void stop_listening_on_tcp(struct shmipc_listener *listener)
{
	struct shmipc_address address;

	if (shmipc_address_parse(listener->address, &address) == 0 &&
	    !shmipc_address_is_unix(&address)) {
		shmipc_listener_take_connections(listener);
		shmipc_mutex_lock(&listener->lock);
		listener->listening = false;
		shmipc_mutex_unlock(&listener->lock);
		if (listener->loop) /* where it would be in error for ever */
			shmipc_listener_leave_loop(listener);
		sys_shutdown(listener->source.fd, SHUT_RD);
	}
}

/* Lock held.  Marks those that have to answer, and gives a reference to each. */
static struct shmipc_session **begin(struct shmipc_listener *listener, uint64_t epoch,
				     uint32_t *count_out)
{
	struct shmipc_session **sessions = calloc(listener->session_count + 1,
						  sizeof(struct shmipc_session *));

	if (!sessions)
		return NULL;
	listener->restarting = listener->restarted = true;
	listener->epoch = epoch;
	listener->restart_deadline_ns = shmipc_clock_ns() +
					listener->config->values.hot_restart_timeout_ms *
						UINT64_C(1000000);
	listener->unacknowledged = listener->session_count + 1;
	for (uint32_t i = 0; i < listener->session_count; i++) {
		sessions[i] = listener->sessions[i];
		sessions[i]->owner_flag = true;
		shmipc_session_get(sessions[i]);
	}
	*count_out = listener->session_count;
	return sessions;
}

int shmipc_listener_hot_restart(struct shmipc_listener *listener, uint64_t epoch)
{
	struct shmipc_session **sessions = NULL;
	uint32_t count = 0;
	int error = 0;

	if (listener->generation != shmipc_process_generation())
		return -ECHILD;
	stop_listening_on_tcp(listener);
	shmipc_mutex_lock(&listener->lock);
	if (listener->restarting && shmipc_clock_ns() < listener->restart_deadline_ns)
		error = -EALREADY;
	else if ((sessions = begin(listener, epoch, &count)) == NULL)
		error = -ENOMEM;
	shmipc_mutex_unlock(&listener->lock);
	if (error)
		return error;
	for (uint32_t i = 0; i < count; i++) {
		shmipc_session_lock(sessions[i]);
		shmipc_session_send_epoch(sessions[i], SHMIPC_MESSAGE_HOT_RESTART, epoch);
		shmipc_session_unlock(sessions[i]);
		shmipc_session_put(sessions[i]);
	}
	free(sessions);
	shmipc_mutex_lock(&listener->lock);
	one_less(listener); /* ours, which kept it from being over before all were told */
	shmipc_mutex_unlock(&listener->lock);
	return 0;
}

/* Without a loop nobody else may be reading what the clients answer. */
static void poke_all(struct shmipc_listener *listener)
{
	uint32_t count;
	struct shmipc_session **sessions = shmipc_listener_sessions(listener, &count);

	for (uint32_t i = 0; i < count; i++) {
		shmipc_session_poke(sessions[i]);
		shmipc_session_put(sessions[i]);
	}
	free(sessions);
}

static int state(struct shmipc_listener *listener)
{
	int result = -EINPROGRESS;

	shmipc_mutex_lock(&listener->lock);
	if (!listener->restarted) {
		result = -EINVAL;
	} else if (!listener->restarting) {
		result = listener->unacknowledged > 0 ? -ETIME : 0;
	} else if (shmipc_clock_ns() >= listener->restart_deadline_ns) {
		listener->restarting = false;
		listener->metrics.hot_restart_errors++;
		result = -ETIME;
	}
	shmipc_mutex_unlock(&listener->lock);
	return result;
}

int shmipc_listener_hot_restart_wait(struct shmipc_listener *listener, uint64_t deadline_ns)
{
	const struct timespec step = { 0, STEP_NS };
	int result;

	if (listener->generation != shmipc_process_generation())
		return -ECHILD;
	for (;;) {
		poke_all(listener);
		result = state(listener);
		if (result != -EINPROGRESS)
			return result;
		if (deadline_ns == SHMIPC_NOWAIT)
			return -EAGAIN;
		if (shmipc_clock_ns() >= deadline_ns)
			return -ETIMEDOUT;
		sys_nanosleep(&step);
	}
}
