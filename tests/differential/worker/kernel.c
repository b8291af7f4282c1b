/* SPDX-License-Identifier: Apache-2.0 */
/* What the kernel itself says of a connection, asked by bare system calls: when everything that the
 * other role's kernel has sent is here, and what there is to read. */
#include "tests/differential/worker/worker.h"
#include "tests/bare_call.h"

#include <errno.h>
#include <linux/sockios.h>
#include <linux/tcp.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

enum {
	/* No outcome hangs on these: what has been sent arrives, at the latest when the kernel has
	 * asked for a closed window again, and its threads may have to wait for a processor before
	 * that.  They are for what never comes. */
	SETTLE_US = 2000 * 1000,
	FLUSH_US = 1000 * 1000,
	/* a FIN or a reset that the other kernel's queue had no room for (netdev_max_backlog) goes
	 * again after 200 ms, then 400; it may never come where somebody else holds the other end
	 */
	END_US = 1000 * 1000,
	HEARD_US = 300 * 1000,
	TCP_FIN_WAIT1_STATE = 4,
	TCP_TIME_WAIT_STATE = 6,
	TCP_CLOSE_STATE = 7,
	TCP_LAST_ACK_STATE = 9,
	TCP_CLOSING_STATE = 11,
};

long long now_us(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * 1000000LL + now.tv_nsec / 1000;
}

static _Atomic bool late; /* something did not come in the time that it has */

static bool tcp_info(int fd, struct tcp_info *info)
{
	unsigned int bytes = sizeof(*info);

	memset(info, 0, sizeof(*info));
	return bare_call(SYS_getsockopt, fd, IPPROTO_TCP, TCP_INFO, (long)info, (long)&bytes, 0) ==
	       0;
}

/* The other side's end is here: neither established nor waiting for its FIN. */
static bool has_ended(const struct tcp_info *info)
{
	return info->tcpi_state >= TCP_TIME_WAIT_STATE;
}

void kernel_settle(int connection, uint64_t received, int ended)
{
	int fd = slot_of_connection(connection);
	long long start = now_us();
	struct tcp_info info;

	if (fd < 0)
		return;
	while (tcp_info(fd, &info) && info.tcpi_state != TCP_CLOSE_STATE) {
		long long waited = now_us() - start;
		bool has_bytes = info.tcpi_bytes_received >= received;

		if (has_bytes && (ended == 0 || (ended == 1 && has_ended(&info))))
			return;
		if (waited > (has_bytes ? END_US : SETTLE_US)) {
			late = true;
			return;
		}
		bare_call(SYS_sched_yield, 0, 0, 0, 0, 0, 0);
	}
}

/* Nagle's algorithm holds bytes back until an acknowledgement comes: wait for that, unless the
 * connection is corked.  What is held for longer the other kernel has no room for: its window may
 * stay closed while next to nothing is unread, in buffers much larger than that. */
static void flush(int fd, struct tcp_info *info)
{
	long long start = now_us();
	int corked = 0;
	unsigned int bytes = sizeof(corked);

	bare_call(SYS_getsockopt, fd, IPPROTO_TCP, TCP_CORK, (long)&corked, (long)&bytes, 0);
	while (!corked && info->tcpi_notsent_bytes && now_us() - start < FLUSH_US) {
		bare_call(SYS_sched_yield, 0, 0, 0, 0, 0, 0);
		tcp_info(fd, info);
	}
	if (!corked && info->tcpi_notsent_bytes)
		late = true;
}

static bool is_heard(const struct tcp_info *info)
{
	return info->tcpi_state != TCP_FIN_WAIT1_STATE && info->tcpi_state != TCP_LAST_ACK_STATE &&
	       info->tcpi_state != TCP_CLOSING_STATE;
}

/* The other end's kernel is told at once what has come: it need not wait for bytes to tell it
 * with. */
void kernel_acknowledge(void)
{
	int one = 1;

	for (int i = 0; i < CONNECTIONS; i++)
		if (slot_of_connection(i) >= 0)
			bare_call(SYS_setsockopt, slot_of_connection(i), IPPROTO_TCP, TCP_QUICKACK,
				  (long)&one, sizeof(one), 0);
}

/* ... and we have heard that it knows of our end. */
void kernel_await_acknowledgement(void)
{
	long long start = now_us();

	for (int i = 0; i < CONNECTIONS; i++) {
		int fd = slot_of_connection(i);
		struct tcp_info info;

		while (fd >= 0 && tcp_info(fd, &info) && !is_heard(&info) &&
		       now_us() - start < HEARD_US)
			bare_call(SYS_sched_yield, 0, 0, 0, 0, 0, 0);
	}
}

/* What is there, for the generator: ` |` and for each connection revents, bytes to read, TCP's
 * state, bytes sent, and whether some are not; `-` when no descriptor is open.  Behind them `late`,
 * if something was. */
void kernel_probe(struct actor *actor, bool holds_back)
{
	say(actor, "|");
	for (int i = 0; i < CONNECTIONS; i++) {
		int fd = slot_of_connection(i), there = 0;
		struct pollfd entry = { fd, POLLIN | POLLOUT | POLLRDHUP | POLLPRI, 0 };
		struct timespec none = { 0, 0 };
		struct tcp_info info;

		if (fd < 0) {
			say(actor, "- ");
			continue;
		}
		bare_call(SYS_ppoll, (long)&entry, 1, (long)&none, 0, 8, 0);
		bare_call(SYS_ioctl, fd, FIONREAD, (long)&there, 0, 0, 0);
		if (tcp_info(fd, &info) && !holds_back)
			flush(fd, &info);
		say(actor, "%x,%d,%d,%llu,%d ", (unsigned int)entry.revents, there, info.tcpi_state,
		    (unsigned long long)(info.tcpi_bytes_sent - info.tcpi_bytes_retrans),
		    info.tcpi_notsent_bytes > 0);
	}
	if (late)
		say(actor, "late");
	late = false;
}

/* ---- signals ---- */

static __thread volatile sig_atomic_t pipes;
static volatile sig_atomic_t strikes;

static void count(int signo)
{
	if (signo == SIGPIPE)
		pipes = pipes + 1;
	else
		strikes = strikes + 1;
}

void signals_start(void)
{
	struct sigaction action = { .sa_handler = count, .sa_flags = SA_RESTART };

	sigaction(SIGPIPE, &action, NULL);
}

int signals_seen(void)
{
	int n = pipes;

	pipes = 0;
	return n;
}

static __thread timer_t timer;
static __thread bool timer_runs;

void alarm_start(long ms, bool restart)
{
	struct sigaction action = { .sa_handler = count, .sa_flags = restart ? SA_RESTART : 0 };
	struct sigevent event = { .sigev_notify = SIGEV_THREAD_ID, .sigev_signo = SIGALRM };
	/* again and again: the first may come before the call has begun to wait */
	struct itimerspec when = { { 0, restart ? 0 : ms * 1000000 }, { 0, ms * 1000000 } };

	event._sigev_un._tid = gettid();
	strikes = 0;
	sigaction(SIGALRM, &action, NULL);
	timer_runs = timer_create(CLOCK_MONOTONIC, &event, &timer) == 0 &&
		     timer_settime(timer, 0, &when, NULL) == 0;
}

bool alarm_end(void)
{
	bool struck = timer_runs && strikes > 0;

	if (timer_runs)
		timer_delete(timer);
	timer_runs = false;
	return struck;
}
