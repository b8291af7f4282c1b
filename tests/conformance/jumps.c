/* SPDX-License-Identifier: Apache-2.0 */
/* Signal handlers that jump out of a call that sleeps. */
#include "tests/conformance/lib/conf.h"

#include <setjmp.h>

enum { ANY = CONF_COLD | CONF_SWAP };

static void alarm_in(long us)
{
	struct itimerval t = { .it_value = { us / 1000000, us % 1000000 } };

	setitimer(ITIMER_REAL, &t, NULL);
}

static sigjmp_buf out;

static void jump(int signo)
{
	(void)signo;
	siglongjmp(out, 1);
}

static int jump_set;

static void sleep_somewhere(int fd, int how)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };
	struct epoll_event e;
	struct iovec v;
	char byte;
	fd_set in;

	FD_ZERO(&in);
	FD_SET(fd, &in);
	v = (struct iovec){ &byte, 1 };
	switch (how) {
	case 0:
		recv(fd, &byte, 1, 0);
		break;
	case 1:
		readv(fd, &v, 1);
		break;
	case 2:
		recv(fd, &byte, 1, MSG_PEEK);
		break;
	case 3:
		poll(&p, 1, CONF_WAIT_MS);
		break;
	case 4:
		select(fd + 1, &in, NULL, NULL, NULL);
		break;
	default:
		epoll_wait(jump_set, &e, 1, CONF_WAIT_MS);
	}
}

enum { JUMPS = 6 };

static void jump_out(int fd)
{
	struct epoll_event e = { .events = EPOLLIN };
	volatile int jumps = 0;

	jump_set = epoll_create1(EPOLL_CLOEXEC);
	epoll_ctl(jump_set, EPOLL_CTL_ADD, fd, &e);
	sigaction(SIGALRM, &(struct sigaction){ .sa_handler = jump, .sa_flags = SA_RESTART }, NULL);
	for (volatile int i = 0; i < 2 * JUMPS; i++) {
		if (sigsetjmp(out, 1) == 0) {
			alarm_in(5000 + 3000 * (i % 3));
			sleep_somewhere(fd, i % JUMPS);
		} else {
			jumps = jumps + 1;
		}
	}
	alarm_in(0);
	obs_val("jumps", jumps);
	close(jump_set);
}

static void jump_server(int fd)
{
	jump_out(fd);
	goes_on_server(fd);
}
CASE("jumps.out", jump_server, goes_on_client, ANY);

static void *sleep_for_ever(void *arg)
{
	(void)arg;
	for (;;)
		pause();
	return NULL;
}

/* With a second thread: the end of the connection still comes with close(). */
static void jump_thread_server(int fd)
{
	sigset_t alarm_only;
	pthread_t t;

	sigemptyset(&alarm_only);
	sigaddset(&alarm_only, SIGALRM);
	pthread_sigmask(SIG_BLOCK, &alarm_only, NULL);
	t = spawn(sleep_for_ever, NULL);
	pthread_sigmask(SIG_UNBLOCK, &alarm_only, NULL);
	jump_server(fd);
	pthread_cancel(t);
	pthread_join(t, NULL);
}
CASE("jumps.threaded", jump_thread_server, goes_on_client, ANY);

/* Out of a send that is stuck; what went is what the peer gets, and the end comes. */
static void jump_send_server(int fd)
{
	sigaction(SIGALRM, &(struct sigaction){ .sa_handler = jump, .sa_flags = SA_RESTART }, NULL);
	if (sigsetjmp(out, 1) == 0) {
		alarm_in(150000);
		for (;;)
			send(fd, big_buffer(), CONF_BIG, 0);
	}
	alarm_in(0);
	obs_text("out");
	tell(0);
	obs("close", close(fd));
	both();
}
CASE("jumps.out_of_send", jump_send_server, drain_client, ANY);

/* ---- out of calls in which the kernel moves bytes by itself ---- */

enum kernel_call { SPLICE_FROM, SPLICE_TO, KERNEL_CALLS };

static void call_kernel(int fd, const int pipe_ends[2], int how)
{
	if (how == SPLICE_FROM)
		splice(fd, NULL, pipe_ends[1], NULL, 1000, 0);
	else
		splice(pipe_ends[0], NULL, fd, NULL, 1000, 0);
}

static void leave_kernel_calls(int fd)
{
	int ends[2];
	volatile int jumps = 0;

	if (pipe(ends) < 0)
		return;
	sigaction(SIGALRM, &(struct sigaction){ .sa_handler = jump }, NULL);
	for (volatile int i = 0; i < 2 * KERNEL_CALLS; i++) {
		if (sigsetjmp(out, 1)) {
			jumps++;
			continue;
		}
		alarm_in(20000);
		call_kernel(fd, ends, i % KERNEL_CALLS);
	}
	obs_val("jumps", jumps);
	close(ends[0]);
	close(ends[1]);
}

/* Nothing has been moved: the connection is as good as any. */
static void kernel_jumps_server(int listener)
{
	int fd = conf_accept(listener);

	leave_kernel_calls(fd);
	both();
	warm_up(fd, 4 * CONF_WARM_ROUNDS);
	recv_pat(fd, 70000, 0);
	send_pat(fd, 70000, 0);
	both();
	close(fd);
}

static void kernel_jumps_client(int none)
{
	int fd = conf_connect();

	(void)none;
	leave_kernel_calls(fd);
	both();
	warm_up(fd, 4 * CONF_WARM_ROUNDS);
	send_pat(fd, 70000, 0);
	recv_pat(fd, 70000, 0);
	both();
	close(fd);
}
CASE("jumps.splice_then_accelerated", kernel_jumps_server, kernel_jumps_client,
     CONF_RAW | CONF_TCP_ONLY | CONF_MUST);

/* What had been moved before is not lost, whoever counts. */
static void kernel_jump_server(int fd)
{
	leave_kernel_calls(fd);
	both();
	recv_pat(fd, 5000, 0);
	send_pat(fd, 5000, 0);
	both();
}

static void kernel_jump_client(int fd)
{
	both();
	send_pat(fd, 5000, 0);
	recv_pat(fd, 5000, 0);
	both();
}
CASE("jumps.splice", kernel_jump_server, kernel_jump_client, ANY | CONF_EITHER);

struct splicing {
	int fd, ends[2], how;
};

static void *splice_for_ever(void *argument)
{
	const struct splicing *s = argument;

	call_kernel(s->fd, s->ends, s->how);
	return NULL;
}

static void cancel_kernel_calls(int fd)
{
	for (int how = 0; how < KERNEL_CALLS; how++) {
		struct splicing s = { .fd = fd, .how = how };
		void *result = NULL;
		pthread_t t;

		if (pipe(s.ends) < 0)
			return;
		t = spawn(splice_for_ever, &s);
		nap_ms(CONF_NAP_MS);
		obs("cancel", pthread_cancel(t));
		pthread_join(t, &result);
		obs_val("cancelled", result == PTHREAD_CANCELED);
		close(s.ends[0]);
		close(s.ends[1]);
	}
}

static void kernel_cancel_server(int listener)
{
	int fd = conf_accept(listener);

	cancel_kernel_calls(fd);
	both();
	warm_up(fd, 4 * CONF_WARM_ROUNDS);
	both();
	close(fd);
}

static void kernel_cancel_client(int none)
{
	int fd = conf_connect();

	(void)none;
	cancel_kernel_calls(fd);
	both();
	warm_up(fd, 4 * CONF_WARM_ROUNDS);
	both();
	close(fd);
}
CASE("jumps.splice_cancelled", kernel_cancel_server, kernel_cancel_client,
     CONF_RAW | CONF_TCP_ONLY | CONF_MUST);
