/* SPDX-License-Identifier: Apache-2.0 */
/* sendfile and splice, and the FILE functions, which reach no hook once a FILE exists. */
#include <errno.h>
#include <pthread.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>

#include "core/bypass.h"
#include "core/reach.h"
#include "core/sleep.h"
#include "core/sys.h"
#include "core/thread.h"
#include "preload/conn.h"
#include "preload/downgrade.h"
#include "preload/pins.h"
#include "preload/real.h"
#include "preload/stream.h"
#include "preload/transfer.h"
#include "preload/upgrade.h"

enum { PIECE_BYTES = 32 * 1024 };

/* ---- calls that the kernel carries out by itself ---- */

/* One of them, which may be left before it returns, and during which the number may be closed. */
struct passage {
	struct shim_conn *conn;
	bool pinned;
	bool sends;
	bool uncancellable; /* as libc has it */
	bool ended;	    /* sending: the peer had, before the call */
	int cancel_state;
};

static int enter(struct passage *passage, int fd)
{
	if (!passage->uncancellable)
		pthread_testcancel();
	if (!shim_pins_wanted())
		return 0;
	shmipc_postpone_begin();
	passage->pinned = shim_pin_for_use(passage->conn, fd);
	if (!passage->pinned)
		shmipc_postpone_end();
	return passage->pinned ? 0 : -EBADF;
}

static void leave(const struct passage *passage)
{
	if (!passage->pinned)
		return;
	shim_unpin(passage->conn);
	shmipc_postpone_end();
}

/* The number of a connection that is pinned may have been closed meanwhile. */
static int number_now(const struct passage *passage, int fd)
{
	int moved = passage->pinned ? atomic_load(shim_pins_moved(passage->conn)) : 0;

	return moved ? moved - 1 : fd;
}

static void abandon(void *argument)
{
	const struct passage *passage = argument;

	if (passage->sends)
		shmipc_bypass_send_abandon(&passage->conn->tx);
	else
		shmipc_bypass_receive_abandon(&passage->conn->rx);
	if (passage->pinned)
		shim_unpin(passage->conn);
	if (passage->uncancellable)
		pthread_setcancelstate(passage->cancel_state, NULL);
}

static void release(void *argument)
{
	const struct passage *passage = argument;

	if (passage->pinned)
		shim_unpin(passage->conn);
}

static ssize_t call_kernel(struct passage *passage, const long call[7])
{
	ssize_t n;

	if (passage->uncancellable)
		pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &passage->cancel_state);
	n = shmipc_sleep6(call, abandon, passage);
	if (passage->uncancellable)
		pthread_setcancelstate(passage->cancel_state, NULL);
	return n;
}

/* Pages go to the real socket as they are: this direction stays by the kernel. */
static ssize_t send_pages(struct passage *passage, int out, bool waits, const long call[7])
{
	struct shim_conn *conn = passage->conn;
	struct pollfd room = { .fd = out, .events = POLLOUT };
	ssize_t n;

	for (;;) {
		shim_downgrade_sending(conn, out);
		n = shmipc_bypass_send_begin(&conn->tx, out, shim_conn_private(conn),
					     &passage->ended);
		if (n != -EAGAIN)
			break;
		if (!waits || (sys_fcntl(out, F_GETFL, 0) & O_NONBLOCK))
			return -EAGAIN;
		n = SHMIPC_SLEEP(release, passage, SYS_ppoll, &room, 1, NULL, NULL, 0, 0);
		if (n < 0)
			return n;
	}
	if (n < 0)
		return n == -EDEADLK ? -EAGAIN : n;
	n = call_kernel(passage, call);
	shmipc_bypass_send_end(&conn->tx, n, passage->ended);
	return n;
}

/* ---- sendfile ---- */

/* A device, or a file of the kernel's making, which has no size: whether it can be sent, and what
 * becomes of the offset, sendfile() alone knows. */
static bool is_made_by_kernel(int in, off64_t at)
{
	struct stat status;
	char byte;

	if (sys_fstat(in, &status) < 0)
		return false;
	return S_ISCHR(status.st_mode) ||
	       (S_ISREG(status.st_mode) && status.st_size == 0 && sys_pread(in, &byte, 1, at) > 0);
}

static ssize_t send_made_by_kernel(struct shim_conn *conn, const long call[7])
{
	struct passage passage = { .conn = conn, .sends = true, .uncancellable = true };
	ssize_t n = enter(&passage, (int)call[1]);

	if (n < 0)
		return shim_edge(n);
	n = send_pages(&passage, (int)call[1], true, call);
	leave(&passage);
	return shim_edge(n);
}

/* call: as the application made it; at: its place in the file.  libc's is no cancellation point. */
static ssize_t send_undisturbed(struct shim_conn *conn, const long call[7], off64_t at,
				bool by_kernel)
{
	int out = (int)call[1], in = (int)call[2];
	bool threads = !shmipc_single_threaded();
	off64_t *offset = (off64_t *)call[3];
	ssize_t n;
	int state;

	if (threads)
		pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &state);
	n = by_kernel ? send_made_by_kernel(conn, call)
		      : shim_send_file(conn, out, in, at, (size_t)call[4]);
	if (threads)
		pthread_setcancelstate(state, NULL);
	if (n <= 0 || by_kernel)
		return n;
	if (!offset)
		lseek64(in, at + n, SEEK_SET);
	else if (!shmipc_reach(offset, sizeof(*offset), SHMIPC_REACH_WRITE))
		return shim_edge(-EFAULT); /* the bytes are gone, as by the kernel */
	else
		*offset = at + n;
	return n;
}

/* A candidate's is the kernel's, and counted.  False: it is none, or has just been attached. */
static bool send_file_by_kernel(struct shim_conn *conn, const long call[7], ssize_t *result)
{
	struct passage passage = { .conn = conn, .sends = true, .uncancellable = true };
	int out = (int)call[1];
	bool begun = false;
	ssize_t n;

	if (shim_conn_is_attached(conn))
		return false;
	n = enter(&passage, out);
	if (n == 0)
		begun = shmipc_bypass_send_begin(&conn->tx, out, shim_conn_private(conn),
						 &passage.ended) == 0;
	if (begun) {
		n = call_kernel(&passage, call);
		shmipc_bypass_send_end(&conn->tx, n, passage.ended);
		if (n > 0)
			shim_upgrade_sent(conn, out, (size_t)n);
	}
	leave(&passage);
	*result = shim_edge(n);
	return begun || n < 0;
}

/* Nothing that sendfile() would refuse or wait for, and bytes that a read gives as well.  *at:
 * where they are. */
static bool is_usual(const struct shim_conn *conn, int in, const off64_t *offset, off64_t *at)
{
	struct stat status;

	if (!shmipc_sender_has_room(&conn->tx) || sys_fstat(in, &status) < 0 ||
	    !S_ISREG(status.st_mode))
		return false;
	if (offset && !shmipc_reach(offset, sizeof(*offset), SHMIPC_REACH_READ))
		return false;
	*at = offset ? *offset : lseek64(in, 0, SEEK_CUR);
	return *at >= 0 && *at < status.st_size;
}

static bool goes_too_far(off64_t at, size_t count)
{
	return at < 0 || count > (size_t)(INT64_MAX - at);
}

/* Has the kernel's own look at descriptors and place, and its errors, by a call for nothing.  True:
 * there is more to do, from *at on. */
static bool may_send(int out, int in, off64_t *offset, size_t count, off64_t *at, ssize_t *result)
{
	bool readable = offset && shmipc_reach(offset, sizeof(*offset), SHMIPC_REACH_READ);

	if (readable)
		*at = *offset;
	*result = real.sendfile64(out, in, readable && count > 0 ? at : offset, 0);
	if (*result < 0 && errno == EOVERFLOW && goes_too_far(*at, count))
		errno = EINVAL; /* looked at before the place */
	if (*result < 0 || count == 0)
		return false;
	if (!offset)
		*at = lseek64(in, 0, SEEK_CUR);
	if (*at < 0)
		*result = -1;
	return *at >= 0;
}

static ssize_t send_file(struct shim_conn *conn, int out, int in, off64_t *offset, size_t count)
{
	const long call[7] = { SYS_sendfile, out, in, (long)offset, (long)count };
	off64_t at = 0;
	bool usual;
	ssize_t n;

	if (shim_conn_is_attached(conn) && !conn->tx.settled)
		shim_upgrade_settle_tx(conn, out);
	/* an attached one is cut over by its sender */
	if (send_file_by_kernel(conn, call, &n))
		return n;
	usual = count > 0 && is_usual(conn, in, offset, &at);
	if (!usual && !may_send(out, in, offset, count, &at, &n))
		return n;
	if (goes_too_far(at, count))
		return shim_edge(-EINVAL);
	return send_undisturbed(conn, call, at, !usual && is_made_by_kernel(in, at));
}

/* ---- splice ---- */

static ssize_t write_to_pipe(struct shim_conn *conn, int in, int out, size_t bytes, int wait)
{
	char piece[PIECE_BYTES];
	struct iovec iov = { piece, bytes < sizeof(piece) ? bytes : sizeof(piece) };
	ssize_t n = shim_receive(conn, in, &iov, 1, MSG_PEEK | wait, NULL);

	if (n <= 0)
		return n;
	n = shim_edge(sys_write(out, piece, (size_t)n));
	if (n <= 0)
		return n;
	iov.iov_len = (size_t)n;
	return shim_receive(conn, in, &iov, 1, 0, NULL);
}

/* Ring to pipe: look, write what the pipe takes, then take that much. */
static ssize_t splice_from(struct shim_conn *conn, int in, int out, size_t bytes,
			   unsigned int flags)
{
	struct pollfd pipe = { .fd = out, .events = POLLOUT };
	int status = sys_fcntl(out, F_GETFL, 0);

	if (status < 0 || (status & O_ACCMODE) == O_RDONLY)
		return shim_edge(-EBADF);
	if (sys_fcntl(out, F_GETPIPE_SZ, 0) < 0)
		return shim_edge(-EINVAL);
	if ((flags & SPLICE_F_NONBLOCK) && sys_poll(&pipe, 1, 0) <= 0)
		return shim_edge(-EAGAIN);
	return write_to_pipe(conn, in, out, bytes, flags & SPLICE_F_NONBLOCK ? MSG_DONTWAIT : 0);
}

/* What lies in the pipe goes to a peer that has ended: the kernel takes as much as goes to the
 * socket at once.  0: the call is to be made. */
static ssize_t splice_to_ended(const struct passage *passage, const long call[7])
{
	struct shim_conn *conn = passage->conn;
	char unread[PIECE_BYTES];
	struct iovec pieces[] = { { unread, PIECE_BYTES }, { unread, PIECE_BYTES } };
	int in = (int)call[1], there = 0;
	size_t bytes = (size_t)call[5];
	ssize_t n;

	if (!shmipc_bypass_send_is_judged(&conn->tx) || call[2] || call[4] ||
	    sys_fcntl(in, F_GETPIPE_SZ, 0) < 0 || sys_ioctl(in, FIONREAD, &there) < 0)
		return 0;
	bytes = bytes < (size_t)there ? bytes : (size_t)there;
	bytes = bytes < 2 * PIECE_BYTES ? bytes : 2 * PIECE_BYTES;
	if (bytes == 0)
		return 0;
	n = shmipc_bypass_send_to_ended(&conn->tx, (int)call[3], shim_conn_private(conn), bytes);
	if (n <= 0)
		return n;
	pieces[0].iov_len = bytes < PIECE_BYTES ? bytes : PIECE_BYTES;
	pieces[1].iov_len = bytes - pieces[0].iov_len;
	return sys_call3(SYS_readv, in, (long)pieces, 2);
}

static ssize_t splice_to(struct shim_conn *conn, const long call[7])
{
	struct passage passage = { .conn = conn, .sends = true };
	int out = (int)call[3];
	ssize_t n = enter(&passage, out);
	bool may_be_dead;

	if (n < 0)
		return shim_edge(n);
	may_be_dead = shmipc_sender_must_ask(&conn->tx);
	n = splice_to_ended(&passage, call);
	if (n == 0 && may_be_dead) { /* LAST finds out what the pages would have */
		shim_downgrade_sending(conn, out);
		n = splice_to_ended(&passage, call);
	}
	if (n == 0)
		n = send_pages(&passage, out, !(call[6] & SPLICE_F_NONBLOCK), call);
	leave(&passage);
	return shim_edge(n);
}

/* Not yet, or no longer, on a ring.  False: it is. */
static bool splice_from_kernel(struct shim_conn *conn, const long call[7], ssize_t *result)
{
	struct passage passage = { .conn = conn };
	int in = (int)call[1];
	bool begun = false;
	ssize_t n = enter(&passage, in);

	if (n == 0)
		begun = shmipc_bypass_receive_begin(&conn->rx, in, shim_conn_private(conn));
	if (begun) {
		n = call_kernel(&passage, call);
		n = shmipc_bypass_receive_end(&conn->rx, number_now(&passage, in),
					      shim_conn_private(conn), (size_t)call[5], n);
		if (n > 0)
			shim_upgrade_received(conn, in, (size_t)n);
	}
	leave(&passage);
	*result = shim_edge(n);
	return begun || n < 0;
}

SHIM_EXPORT ssize_t splice(int in, off64_t *in_offset, int out, off64_t *out_offset, size_t bytes,
			   unsigned int flags)
{
	const unsigned int known = SPLICE_F_MOVE | SPLICE_F_NONBLOCK | SPLICE_F_MORE |
				   SPLICE_F_GIFT;
	const long call[7] = { SYS_splice,  in,	  (long)in_offset, out, (long)out_offset,
			       (long)bytes, flags };
	struct shim_conn *from = shim_conn_of(in), *to = shim_conn_of(out);
	ssize_t n;

	if (to)
		return splice_to(to, call);
	/* of nothing, and with what a socket cannot do: the kernel's own answer */
	if (!from || in_offset || out_offset || bytes == 0 || (flags & ~known))
		return real.splice(in, in_offset, out, out_offset, bytes, flags);
	if (splice_from_kernel(from, call, &n))
		return n;
	return splice_from(from, in, out, bytes, flags);
}

/* ---- sendfile ---- */

/* From a socket it is a splice, and only a pipe can take it. */
static ssize_t receive_to(int in, int out, size_t count)
{
	unsigned int flags = sys_fcntl(out, F_GETFL, 0) & O_NONBLOCK ? SPLICE_F_NONBLOCK : 0;

	return splice(in, NULL, out, NULL, count, flags);
}

SHIM_EXPORT ssize_t sendfile64(int out, int in, off64_t *offset, size_t count)
{
	struct shim_conn *conn = shim_conn_of(out);

	if (conn)
		return send_file(conn, out, in, offset, count);
	if (shim_conn_of(in) && !offset)
		return receive_to(in, out, count);
	return real.sendfile64(out, in, offset, count);
}

SHIM_EXPORT ssize_t sendfile(int out, int in, off_t *offset, size_t count)
{
	return sendfile64(out, in, offset, count);
}

/* ---- stdio ---- */

SHIM_EXPORT FILE *fdopen(int fd, const char *mode)
{
	struct shim_conn *conn = shim_conn_of(fd);
	bool by_kernel = true;

	if (!conn || !mode || !strchr("rwa", mode[0]))
		return real.fdopen(fd, mode);
	if (strpbrk(mode, "r+"))
		by_kernel = shim_downgrade(conn, fd, SHMIPC_REASON_STDIO) == 0;
	else
		by_kernel = shim_retire(conn, fd, SHMIPC_REASON_STDIO) == 0;
	if (by_kernel) {
		shmipc_sender_lose_count(&conn->tx, fd); /* what the FILE writes nobody counts */
		return real.fdopen(fd, mode);
	}
	shmipc_receiver_go_on(&conn->rx, fd, shim_conn_private(conn));
	return shim_stream_open(fd, mode);
}

/* The name that it had when FILEs were made for C++. */
SHIM_EXPORT FILE *_IO_fdopen(int fd, const char *mode)
{
	return fdopen(fd, mode);
}

/* libc closes the number by a call that no hook sees. */
static void forget_file(FILE *file)
{
	int fd = file ? fileno(file) : -1;

	if (fd >= 0 && shim_fd_word(fd)) {
		fflush(file);
		shim_conn_forget(fd);
	}
}

SHIM_EXPORT int fclose(FILE *file)
{
	forget_file(file);
	return real.fclose(file);
}

SHIM_EXPORT int _IO_fclose(FILE *file)
{
	return fclose(file);
}

SHIM_EXPORT FILE *freopen(const char *restrict path, const char *restrict mode, FILE *restrict file)
{
	forget_file(file);
	return real.freopen(path, mode, file);
}

SHIM_EXPORT FILE *freopen64(const char *restrict path, const char *restrict mode,
			    FILE *restrict file)
{
	forget_file(file);
	return real.freopen64(path, mode, file);
}

static int print_to(int fd, const char *format, va_list arguments)
{
	char *text;
	int bytes = vasprintf(&text, format, arguments);
	int done = 0;

	if (bytes < 0)
		return -1;
	while (done < bytes) {
		ssize_t n = write(fd, text + done, (size_t)(bytes - done));

		if (n < 0)
			break;
		done += (int)n;
	}
	free(text);
	return done < bytes ? -1 : bytes;
}

SHIM_EXPORT int vdprintf(int fd, const char *restrict format, va_list arguments)
{
	return shim_conn_of(fd) ? print_to(fd, format, arguments)
				: real.vdprintf(fd, format, arguments);
}

SHIM_EXPORT int __vdprintf_chk(int fd, int flag, const char *format, va_list arguments)
{
	return shim_conn_of(fd) ? print_to(fd, format, arguments)
				: real.__vdprintf_chk(fd, flag, format, arguments);
}

SHIM_EXPORT int dprintf(int fd, const char *restrict format, ...)
{
	va_list arguments;
	int bytes;

	va_start(arguments, format);
	bytes = vdprintf(fd, format, arguments);
	va_end(arguments);
	return bytes;
}

SHIM_EXPORT int __dprintf_chk(int fd, int flag, const char *format, ...)
{
	va_list arguments;
	int bytes;

	va_start(arguments, format);
	bytes = __vdprintf_chk(fd, flag, format, arguments);
	va_end(arguments);
	return bytes;
}
