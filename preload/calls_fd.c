/* SPDX-License-Identifier: Apache-2.0 */
/* The life of descriptor numbers: close, dup, fcntl, ioctl. */
#include <errno.h>
#include <linux/close_range.h>
#include <linux/kcmp.h>
#include <linux/sockios.h>
#include <pthread.h>
#include <stddef.h>
#include <sys/resource.h>

#include "core/ending.h"
#include "core/sys.h"
#include "core/thread.h"
#include "preload/config.h"
#include "preload/conn.h"
#include "preload/downgrade.h"
#include "preload/eligible.h"
#include "preload/handover.h"
#include "preload/identity.h"
#include "preload/numbers.h"
#include "preload/pins.h"
#include "preload/pointers.h"
#include "preload/real.h"
#include "preload/sets.h"
#include "preload/transfer.h"
#include "preload/upgrade.h"

/* ---- close ---- */

static bool is_protected(int fd)
{
	return shim_config.enabled && shim_fd_is_hidden(fd) && !shim_process_is_borrowed();
}

static int refuse(void)
{
	errno = EBADF;
	return -1;
}

/* Between the end of the stream and that of the number other threads would reach the socket itself:
 * so the number goes first.  Closed here, as libc's call may be left by a cancellation. */
static __attribute__((hot)) bool close_before_end(int fd, int *result)
{
	struct shim_conn *conn = shim_process_shares_numbers() ? shim_hold(fd) : NULL;
	bool done = conn && shim_conn_is_attached(conn) && shim_conn_close_held(conn, fd, result);

	shim_let_go(conn);
	return done;
}

/* True: that is all, and *result the outcome. */
static __attribute__((hot)) bool before_close(int fd, bool may_be_cancelled, int *result)
{
	if (!shim_fd_word(fd)) {
		*result = -EBADF;
		return is_protected(fd);
	}
	if (may_be_cancelled)
		pthread_testcancel();
	if (close_before_end(fd, result))
		return true;
	shim_conn_forget(fd);
	return false;
}

SHIM_EXPORT __attribute__((hot)) int close(int fd)
{
	int result;

	if ((shim_fd_word(fd) || __builtin_expect(fd >= 64, 0)) && before_close(fd, true, &result))
		return (int)shim_edge(result);
	return real.close(fd);
}

SHIM_EXPORT int __close(int fd)
{
	int result;

	return before_close(fd, true, &result) ? (int)shim_edge(result) : real.__close(fd);
}

SHIM_EXPORT int __close_nocancel(int fd)
{
	int result;

	return before_close(fd, false, &result) ? (int)shim_edge(result)
						: real.__close_nocancel(fd);
}

/* Our own descriptors lie high: close the pieces between them. */
static int close_around_hidden(unsigned int first, unsigned int last, int flags)
{
	unsigned int from = first;
	int fd, result = 0;

	for (;;) {
		fd = shim_fd_next_hidden(from > INT32_MAX ? INT32_MAX : (int)from);
		if (fd < 0 || (unsigned int)fd > last || is_protected(fd) == false)
			return from <= last ? real.close_range(from, last, flags) : result;
		if ((unsigned int)fd > from) {
			result = real.close_range(from, (unsigned int)fd - 1, flags);
			if (result < 0)
				return result;
		}
		from = (unsigned int)fd + 1;
	}
}

/* A number that has been closed before its stream ended may be another thread's by now: the pieces
 * between those. */
static int close_pieces(unsigned int first, unsigned int last, int flags)
{
	const unsigned int limit = shim_process_is_borrowed() ? 0 : (unsigned int)shim_fd_limit();
	unsigned int from = first;
	int result;

	for (unsigned int fd = first; fd <= last && fd < limit; fd++) {
		if (!shim_fd_word((int)fd))
			continue;
		if (!close_before_end((int)fd, &result)) {
			shim_conn_forget((int)fd);
			continue;
		}
		result = fd > from ? close_around_hidden(from, fd - 1, flags) : 0;
		if (result < 0)
			return result;
		from = fd + 1;
	}
	return from <= last ? close_around_hidden(from, last, flags) : 0;
}

SHIM_EXPORT int close_range(unsigned int first, unsigned int last, int flags)
{
	const unsigned int known = CLOSE_RANGE_CLOEXEC | CLOSE_RANGE_UNSHARE;

	if (!shim_config.enabled || first > last || ((unsigned int)flags & ~known))
		return real.close_range(first, last, flags);
	if (((unsigned int)flags & CLOSE_RANGE_UNSHARE) && shim_process_shares_numbers())
		shim_handover_all();
	else if (!((unsigned int)flags & CLOSE_RANGE_CLOEXEC))
		return close_pieces(first, last, flags);
	return close_around_hidden(first, last, flags);
}

SHIM_EXPORT void closefrom(int first)
{
	unsigned int from = first < 0 ? 0 : (unsigned int)first;

	if (!shim_config.enabled) {
		real.closefrom(first);
		return;
	}
	if (close_pieces(from, UINT32_MAX, 0) < 0)
		real.closefrom(first);
}

/* ---- dup ---- */

/* held: the connection of `from`, since before the call that returned `to`; or NULL. */
static int duplicated(struct shim_conn *held, int from, int to)
{
	if (to < 0)
		return to;
	if (held && shim_process_is_borrowed()) {
		shim_handover_number(from, to);
		return to;
	}
	if (!shim_conn_duplicate(held, from, to)) {
		sys_close(to); /* as if the other thread's close had come first */
		return refuse();
	}
	/* from here on stdin, stdout or stderr may use it, which call no hook */
	if (held && to <= STDERR_FILENO)
		shim_handover_standard(held, to);
	return to;
}

SHIM_EXPORT int dup(int fd)
{
	struct shim_conn *held = shim_hold(fd);
	int result = duplicated(held, fd, real.dup(fd));

	shim_let_go(held);
	return result;
}

/* Numbers of ours are nobody's: the application may have any of them, except for a moment those
 * that stand for a number that was closed while a call was inside, or that a child of posix_spawn()
 * is about to get. */
static bool is_vacated(int fd)
{
	return shim_conn_status_vacate(fd) || shim_sets_vacate(fd) || shim_upgrade_vacate(fd);
}

/* An open number may lie beyond the limit, if that was lowered. */
static bool is_within_limit(int fd)
{
	struct rlimit limit;

	return sys_call6(SYS_prlimit64, 0, RLIMIT_NOFILE, 0, (long)&limit, 0, 0) < 0 ||
	       (rlim_t)fd < limit.rlim_cur;
}

/* What the target of a dup2() or dup3() stands for is closed by the kernel. */
struct target {
	bool refused; /* one of ours */
	/* other threads may use it: its stream ends behind the call */
	struct shim_conn *held;
};

/* A call that will fail replaces nothing.  Else what we know of the target ends first, or the peer
 * would learn too late. */
static struct target replace_target(int from, int to, int flags)
{
	struct target target = { 0 };
	uint32_t word = shim_fd_word(to);

	if (!shim_config.enabled || from == to || (flags & ~O_CLOEXEC) ||
	    (!word && !is_protected(to)) || sys_fcntl(from, F_GETFD, 0) < 0 || !is_within_limit(to))
		return target;
	if (!word) {
		target.refused = !is_vacated(to);
		return target;
	}
	target.held = shim_process_shares_numbers() ? shim_hold(to) : NULL;
	if (target.held &&
	    (!shim_conn_is_attached(target.held) || !shim_pins_move(target.held, to))) {
		shim_let_go(target.held);
		target.held = NULL;
	}
	if (!target.held) {
		shim_conn_forget(to);
		return target;
	}
	shim_pins_closing(target.held, true);
	shim_set_number_closed(to); /* [number] while the kernel knows it */
	return target;
}

static void let_target_go(const struct target *target)
{
	if (!target->held)
		return;
	shim_pins_closing(target->held, false);
	shim_let_go(target->held);
}

typedef int replacing_call(int from, int to);

static int replaced_by(replacing_call *call, int from, int to)
{
	struct shim_conn *held = shim_hold(from);
	struct target target = replace_target(from, to, 0);
	int result;

	if (target.refused)
		result = refuse();
	else if (from == to)
		result = call(from, to);
	else
		result = duplicated(held, from, call(from, to));
	let_target_go(&target);
	shim_let_go(held);
	return result;
}

SHIM_EXPORT int dup2(int from, int to)
{
	return replaced_by(real.dup2, from, to);
}

SHIM_EXPORT int __dup2(int from, int to)
{
	return replaced_by(real.__dup2, from, to);
}

SHIM_EXPORT int dup3(int from, int to, int flags)
{
	struct shim_conn *held = shim_hold(from);
	struct target target = replace_target(from, to, flags);
	int result = target.refused ? refuse() : duplicated(held, from, real.dup3(from, to, flags));

	let_target_go(&target);
	shim_let_go(held);
	return result;
}

/* ---- pidfd_getfd: a number of another process, or of this one ---- */

/* A number that we know of the same connection, or -1. */
static int other_name_of(int fd)
{
	uint64_t cookie = shim_identity_cookie(fd);

	for (int other = 0; cookie && other < shim_fd_limit(); other++) {
		enum shim_fd_kind kind = shim_fd_kind(shim_fd_word(other));

		if ((kind == SHIM_FD_CONN || kind == SHIM_FD_PLAIN) &&
		    shim_identity_cookie(other) == cookie)
			return other;
	}
	return -1;
}

/* A number that we know of the same epoll set, or -1.  Where the kernel may not be asked, whoever
 * holds the copy may look at any. */
static int other_name_of_set(int fd)
{
	bool may_ask = !shim_identity_seccomp_filtered();
	long pid = sys_getpid();

	for (int other = 0; other < shim_fd_limit(); other++) {
		long difference = -EPERM;

		if (shim_fd_kind(shim_fd_word(other)) != SHIM_FD_SET)
			continue;
		if (may_ask)
			difference = sys_call6(SYS_kcmp, pid, pid, KCMP_FILE, other, fd, 0);
		if (difference == 0)
			return other;
		if (difference < 0)
			shim_set_is_given_away(other);
	}
	return -1;
}

static int copied(int fd)
{
	int other;

	shim_number_born(fd);
	if (fd < 0 || !shim_config.enabled)
		return fd;
	other = other_name_of(fd);
	if (other < 0)
		other = other_name_of_set(fd);
	return other < 0 ? fd : duplicated(NULL, other, fd);
}

/* A connection that this process holds already (it is its own, or a relative's by fork) has one
 * more name.  Of one that it does not hold we know nothing: docs/security.md. */
SHIM_EXPORT int pidfd_getfd(int pidfd, int target, unsigned int flags)
{
	if (!shim_real_calls.pidfd_getfd)
		return copied((int)shim_edge(sys_call3(SYS_pidfd_getfd, pidfd, target, flags)));
	return copied(real.pidfd_getfd(pidfd, target, flags));
}

/* ---- fcntl ---- */

typedef int fcntl_call(int fd, int command, ...);

/* Those that do not sleep, and concern us. */
static bool is_held_over(int command)
{
	return command == F_SETFL || command == F_DUPFD || command == F_DUPFD_CLOEXEC;
}

static int fcntl_by(fcntl_call *call, int fd, int command, va_list *arguments)
{
	struct shim_conn *conn = is_held_over(command) ? shim_hold(fd) : NULL;
	long argument = va_arg(*arguments, long);
	int result;

	if (conn && command == F_SETFL && !shim_eligible_flags(argument))
		shim_retire(conn, fd, SHMIPC_REASON_OPTION);
	result = call(fd, command, argument);
	if (conn && command == F_SETFL)
		shmipc_receiver_flags_changed(&conn->rx);
	if (command == F_DUPFD || command == F_DUPFD_CLOEXEC)
		result = duplicated(conn, fd, result);
	shim_let_go(conn);
	return result;
}

SHIM_EXPORT int fcntl(int fd, int command, ...)
{
	va_list arguments;
	int result;

	va_start(arguments, command);
	result = fcntl_by(real.fcntl, fd, command, &arguments);
	va_end(arguments);
	return result;
}

SHIM_EXPORT int __fcntl(int fd, int command, ...)
{
	va_list arguments;
	int result;

	va_start(arguments, command);
	result = fcntl_by(real.__fcntl, fd, command, &arguments);
	va_end(arguments);
	return result;
}

SHIM_EXPORT int fcntl64(int fd, int command, ...)
{
	va_list arguments;
	int result;

	va_start(arguments, command);
	result = fcntl_by(real.fcntl64, fd, command, &arguments);
	va_end(arguments);
	return result;
}

SHIM_EXPORT int __libc_fcntl64(int fd, int command, ...)
{
	va_list arguments;
	int result;

	va_start(arguments, command);
	result = fcntl_by(real.__libc_fcntl64, fd, command, &arguments);
	va_end(arguments);
	return result;
}

/* ---- ioctl ---- */

static int unread_here(struct shim_conn *conn, int fd, int *out)
{
	size_t pending = shmipc_receiver_pending(&conn->rx, fd, shim_conn_private(conn));

	*out = pending > INT32_MAX ? INT32_MAX : (int)pending;
	return 0;
}

/* What one byte weighs in a Unix socket, which counts the memory of messages. */
static int weight_of_byte(void)
{
	static _Atomic int known;
	int ends[2], weight = atomic_load_explicit(&known, memory_order_relaxed);

	if (weight || sys_socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) < 0)
		return weight;
	if (sys_write(ends[0], "", 1) == 1)
		sys_ioctl(ends[0], SIOCOUTQ, &weight);
	sys_close(ends[0]);
	sys_close(ends[1]);
	atomic_store_explicit(&known, weight, memory_order_relaxed);
	return weight;
}

/* Of what the kernel says to be unread, that which is no token. */
static int without_tokens(const struct shim_conn *conn, int unread)
{
	uint32_t tokens = conn->tx.tokens - atomic_load(&conn->tx.rx->tokens_taken);
	int64_t weight;

	if (!conn->is_unix || unread <= 0 || tokens == 0)
		return unread;
	weight = (int64_t)tokens * weight_of_byte();
	return weight < unread ? unread - (int)weight : 0;
}

static int unread_there(struct shim_conn *conn, int fd, unsigned long request, int *out)
{
	struct pollfd entry = { .fd = fd, .events = POLLRDHUP };
	int result = sys_ioctl(fd, request, out);
	bool by_ring = shmipc_sender_on_ring(&conn->tx);

	if (result < 0)
		return (int)shim_edge(result);
	if (sys_poll(&entry, 1, 0) <= 0)
		entry.revents = 0;
	if (!shmipc_ending_has_left_bytes(&conn->tx)) {
		*out = 0; /* a token is no byte of the application's */
	} else if (shmipc_ending_of(&conn->tx, entry.revents) == SHMIPC_ENDING_KERNEL &&
		   (by_ring || !conn->tx.gone)) {
		/* of one that ended it is gone; what went by the ring before it was left is not */
		*out = (by_ring ? 0 : without_tokens(conn, *out)) +
		       (int)shmipc_sender_unread(&conn->tx);
	}
	return 0;
}

/* The urgent mark lies among the kernel's bytes: tokens and LAST before it are taken off first, and
 * while there are bytes in the ring they lie before it too. */
static bool lies_before_mark(struct shim_conn *conn, int fd, int *out)
{
	shmipc_receiver_readable(&conn->rx, fd, shim_conn_private(conn));
	if (!conn->rx.ready || conn->rx.stopped || !(conn->rx.phase & 1))
		return false;
	*out = 0;
	return true;
}

static bool asks_of_ring(unsigned long request)
{
	return request == FIONREAD || request == SIOCATMARK || request == SIOCOUTQ;
}

/* True: answered, or refused. */
static bool ioctl_of_ring(struct shim_conn *conn, int fd, unsigned long request, int *argument,
			  int *result)
{
	if (!shim_conn_is_attached(conn) || shim_pointer_is_bad_result(argument, sizeof(int)))
		return false;
	*result = 0;
	if (request == FIONREAD)
		*result = unread_here(conn, fd, argument);
	else if (request == SIOCATMARK)
		return lies_before_mark(conn, fd, argument);
	else
		*result = unread_there(conn, fd, request, argument);
	return true;
}

static int ioctl_held(struct shim_conn *conn, int fd, unsigned long request, void *argument)
{
	int result;

	/* also in the middle of a rendezvous, which has asked for the flags before */
	if (request == FIOASYNC && !shim_pointer_is_bad_result(argument, sizeof(int)) &&
	    *(const int *)argument)
		shim_retire(conn, fd, SHMIPC_REASON_OPTION);
	if (asks_of_ring(request) && ioctl_of_ring(conn, fd, request, argument, &result))
		return result;
	result = real.ioctl(fd, request, argument);
	if (request == FIONBIO)
		shmipc_receiver_flags_changed(&conn->rx);
	return result;
}

static bool concerns_us(int fd, unsigned long request)
{
	const struct shim_conn *conn = shim_conn_of(fd);

	return conn && (request == FIOASYNC || request == FIONBIO ||
			(asks_of_ring(request) && shim_conn_is_attached(conn)));
}

SHIM_EXPORT int ioctl(int fd, unsigned long request, ...)
{
	struct shim_conn *conn = concerns_us(fd, request) ? shim_hold(fd) : NULL;
	va_list arguments;
	void *argument;
	int result;

	va_start(arguments, request);
	argument = va_arg(arguments, void *);
	va_end(arguments);
	result = conn ? ioctl_held(conn, fd, request, argument) : real.ioctl(fd, request, argument);
	shim_let_go(conn);
	return result;
}

SHIM_EXPORT int sockatmark(int fd)
{
	int at_mark;

	if (!shim_conn_of(fd))
		return real.sockatmark(fd);
	return ioctl(fd, SIOCATMARK, &at_mark) < 0 ? -1 : at_mark;
}
