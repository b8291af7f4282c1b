/* SPDX-License-Identifier: Apache-2.0 */
/* Signal handlers that use the connection whose call they have interrupted.*/
#include "tests/conformance/lib/conf.h"

enum { ANY = CONF_COLD | CONF_SWAP };
enum { STORM_US = 150, RECORDS = 6000, MARK = 0x7e };
/* Then the receiver catches up: of a send that a full socket interrupts the kernel, too, takes a
 * part (13 of 60000 beside a slow reader). */
enum { AHEAD = 500 };

static int the_fd;
static volatile sig_atomic_t failures, ran;

static bool by_number; /* by syscall() */

static void install(void (*handler)(int), int flags)
{
	struct sigaction a = { .sa_handler = handler, .sa_flags = flags };

	sigaction(SIGALRM, &a, NULL);
	if (by_number)
		handler_by_number(SIGALRM, handler, flags, false);
}

static void alarm_in(long first_us, long then_us)
{
	struct itimerval t = { { 0, then_us }, { first_us / 1000000, first_us % 1000000 } };

	setitimer(ITIMER_REAL, &t, NULL);
}

/* ---- a storm: somewhere inside each call ---- */

static void send_record(int fd, unsigned char kind, size_t len)
{
	unsigned char record[200];

	record[0] = kind;
	record[1] = (unsigned char)len;
	memset(record + 2, kind + (int)len, len);
	/* a socket without room makes a handler's send short, and that is the handler's affair */
	if (send(fd, record, len + 2, MSG_NOSIGNAL) != (ssize_t)len + 2)
		failures++;
}

static void send_in_handler(int signo)
{
	int saved = errno;

	(void)signo;
	ran++;
	send_record(the_fd, MARK, 5);
	errno = saved;
}

static void storm_sender(int fd)
{
	the_fd = fd;
	install(send_in_handler, SA_RESTART);
	alarm_in(STORM_US, STORM_US);
	for (int i = 0; i < RECORDS; i++) {
		send_record(fd, 1, (size_t)(i * 7 % 190));
		if (i % AHEAD == AHEAD - 1)
			both();
	}
	alarm_in(0, 0);
	obs_val("failures", failures);
	obs_val("ran", ran > 0);
	send_record(fd, 2, 0);
	tell((uint64_t)ran);
	both();
}

static void storm_receiver(int fd)
{
	unsigned char record[200];
	long mine = 0, marks = 0, torn = 0;

	while (recv_exact(fd, record, 2) == 2 && record[0] != 2) {
		size_t len = record[1];

		if (len && recv_exact(fd, record + 2, len) != (long)len)
			break;
		for (size_t i = 0; i < len; i++)
			torn += record[2 + i] != (unsigned char)(record[0] + (int)len);
		if (record[0] == MARK)
			marks++;
		else if (++mine % AHEAD == 0)
			both();
	}
	obs_val("records", mine);
	obs_val("torn", torn);
	obs_val("all marks", marks == (long)await());
	both();
}
CASE("handlers.send_in_send", storm_receiver, storm_sender, ANY | CONF_MID);

static void storm_sender_by_number(int fd)
{
	by_number = true;
	storm_sender(fd);
}
CASE("handlers.send_in_send_by_number", storm_receiver, storm_sender_by_number, ANY);

static uint64_t sum_in_handler, bytes_in_handler;

static void recv_in_handler(int signo)
{
	unsigned char bytes[64];
	int saved = errno;
	ssize_t n = recv(the_fd, bytes, sizeof(bytes), MSG_DONTWAIT);

	(void)signo;
	for (ssize_t i = 0; i < n; i++)
		sum_in_handler += bytes[i];
	if (n > 0)
		bytes_in_handler += (uint64_t)n;
	else if (n < 0 && errno != EAGAIN)
		failures++;
	ran++;
	errno = saved;
}

enum { STREAM_BYTES = 600000, PIECE = 100 };

/* Each byte goes to the program or to its handler, once. */
static void divided_receiver(int fd)
{
	unsigned char bytes[PIECE];
	uint64_t sum = 0, total = 0;
	ssize_t n = 0;

	the_fd = fd;
	install(recv_in_handler, SA_RESTART);
	alarm_in(STORM_US, STORM_US);
	while ((n = recv(fd, bytes, sizeof(bytes), 0)) > 0) {
		total += (uint64_t)n;
		for (ssize_t i = 0; i < n; i++)
			sum += bytes[i];
	}
	alarm_in(0, 0);
	obs("last", n);
	obs_val("bytes", (long)(total + bytes_in_handler));
	obs_val("sum", (long)(sum + sum_in_handler));
	obs_val("failures", failures);
	obs_val("ran", ran > 0);
}

static void divided_sender(int fd)
{
	unsigned char bytes[PIECE];

	for (int i = 0; i < STREAM_BYTES / PIECE; i++) {
		memset(bytes, i * 31, sizeof(bytes));
		send_exact(fd, bytes, sizeof(bytes));
	}
	shutdown(fd, SHUT_WR);
}
CASE("handlers.recv_in_recv", divided_receiver, divided_sender, ANY);

static void divided_receiver_by_number(int fd)
{
	by_number = true;
	divided_receiver(fd);
}
CASE("handlers.recv_in_recv_by_number", divided_receiver_by_number, divided_sender, ANY);

static void ask_in_handler(int signo)
{
	int saved = errno, pending = -1;
	struct pollfd p = { .fd = the_fd, .events = POLLIN | POLLOUT };

	(void)signo;
	if (ioctl(the_fd, FIONREAD, &pending) < 0 || pending < 0 || poll(&p, 1, 0) < 1 ||
	    !(p.revents & POLLOUT))
		failures++;
	ran++;
	errno = saved;
}

static void asked_server(int fd)
{
	the_fd = fd;
	install(ask_in_handler, SA_RESTART);
	alarm_in(STORM_US, STORM_US);
	for (uint64_t i = 0; i < 3000; i++) {
		char bytes[40];

		if (recv_exact(fd, bytes, sizeof(bytes)) != sizeof(bytes) ||
		    !pat_good(bytes, sizeof(bytes), i * 40))
			failures++;
		send_exact(fd, bytes, sizeof(bytes));
	}
	alarm_in(0, 0);
	obs_val("failures", failures);
	obs_val("ran", ran > 0);
}

static void asked_client(int fd)
{
	int wrong = 0;

	for (uint64_t i = 0; i < 3000; i++) {
		char bytes[40];

		pat_fill(bytes, sizeof(bytes), i * 40);
		send_exact(fd, bytes, sizeof(bytes));
		wrong += recv_exact(fd, bytes, sizeof(bytes)) != sizeof(bytes) ||
			 !pat_good(bytes, sizeof(bytes), i * 40);
	}
	obs_val("wrong", wrong);
}
CASE("handlers.poll_in_rounds", asked_server, asked_client, ANY);

/* ---- inside a call that sleeps ---- */

static char heard[16];

static void listen_in_handler(int signo)
{
	(void)signo;
	ran++;
	if (recv(the_fd, heard, 1, 0) != 1)
		failures++;
}

/* The handler sleeps in the same call, and is served first. */
static void nested_sleep_server(int fd)
{
	char byte = 0;

	the_fd = fd;
	install(listen_in_handler, SA_RESTART);
	alarm_in(20000, 0);
	tell(0);
	obs("recv", recv(fd, &byte, 1, 0));
	obs_text("handler %c program %c failures %d", heard[0], byte, (int)failures);
	both();
}

static void nested_sleep_client(int fd)
{
	await();
	nap_ms(60);
	send_exact(fd, "1", 1);
	nap_ms(CONF_NAP_MS);
	send_exact(fd, "2", 1);
	both();
}
CASE("handlers.recv_sleeps_twice", nested_sleep_server, nested_sleep_client, ANY);

static void answer_in_handler(int signo)
{
	(void)signo;
	if (send(the_fd, "alarm", 5, 0) != 5 || recv_exact(the_fd, heard, 2) != 2)
		failures++;
	ran++;
}

/* A whole exchange in the handler, while poll() or recv() sleeps. */
static void exchange_server(int fd)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };
	struct epoll_event e = { .events = EPOLLIN };
	int set = epoll_create1(0);
	char byte = 0;

	the_fd = fd;
	epoll_ctl(set, EPOLL_CTL_ADD, fd, &e);
	install(answer_in_handler, SA_RESTART);
	alarm_in(20000, 0);
	obs("poll", poll(&p, 1, CONF_WAIT_MS));
	alarm_in(20000, 0);
	obs("epoll_wait", epoll_wait(set, &e, 1, CONF_WAIT_MS));
	alarm_in(20000, 0);
	tell(0);
	obs("recv", recv(fd, &byte, 1, 0));
	obs_text("heard %.2s got %c ran %d failures %d", heard, byte, (int)ran, (int)failures);
	close(set);
	both();
}

static void exchange_client(int fd)
{
	char bytes[5];

	for (int i = 0; i < 3; i++) {
		obs("recv", recv_exact(fd, bytes, sizeof(bytes)));
		send_exact(fd, "ok", 2);
	}
	await();
	send_exact(fd, "x", 1);
	both();
}
CASE("handlers.exchange_in_waits", exchange_server, exchange_client, ANY);

static void close_in_handler(int signo)
{
	(void)signo;
	close(the_fd);
	ran++;
}

/* The call is restarted on a number that is gone. */
static void closed_server(int fd)
{
	char byte;

	the_fd = fd;
	install(close_in_handler, SA_RESTART);
	alarm_in(20000, 0);
	obs("recv", recv(fd, &byte, 1, 0));
	obs_val("ran", ran);
	both();
}

static void closed_client(int fd)
{
	char byte;

	obs("recv", recv(fd, &byte, 1, 0));
	both();
}
CASE("handlers.close_in_recv", closed_server, closed_client, ANY);

/* What the number is next has nothing to do with the stream, which goes on by its other name. */
static int replacement;

static void replace_in_handler(int signo)
{
	(void)signo;
	ran++;
	close(the_fd);
	obs("dup2", dup2(replacement, the_fd) == the_fd ? 0 : -1);
}

static void replaced_server(int fd)
{
	char bytes[100];
	int copy = dup(fd);

	the_fd = fd;
	install(replace_in_handler, SA_RESTART);
	alarm_in(100000, 0);
	obs("recv", recv(fd, bytes, sizeof(bytes), 0));
	obs_val("ran", ran);
	tell(1);
	obs("by the copy", recv(copy, bytes, 10, MSG_WAITALL));
	obs_val("right", memcmp(bytes, "helloworld", 10) == 0);
	obs("send", send(copy, "ping", 4, MSG_NOSIGNAL));
	both();
	close(copy);
	close(replacement);
}

static void replaced_by_file_server(int fd)
{
	replacement = open("/dev/null", O_RDWR);
	replaced_server(fd);
}

static void replaced_by_socket_server(int fd)
{
	replacement = socket(AF_INET, SOCK_STREAM, 0);
	replaced_server(fd);
}

static void replaced_client(int fd)
{
	char bytes[100];

	await();
	send(fd, "helloworld", 10, 0);
	obs("received", recv(fd, bytes, 4, MSG_WAITALL));
	both();
}
CASE("handlers.close_in_recv_and_open", replaced_by_file_server, replaced_client, ANY);
CASE("handlers.close_in_recv_and_socket", replaced_by_socket_server, replaced_client, ANY);

static void closed_poll_server(int fd)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };

	the_fd = fd;
	install(close_in_handler, SA_RESTART);
	alarm_in(20000, 0);
	obs("poll", poll(&p, 1, CONF_WAIT_MS));
	obs("poll", poll(&p, 1, 0));
	obs_val("revents", p.revents);
	both();
}
CASE("handlers.close_in_poll", closed_poll_server, closed_client, ANY);

static void shut_in_handler(int signo)
{
	(void)signo;
	shutdown(the_fd, SHUT_RDWR);
	ran++;
}

static void shut_server(int fd)
{
	char byte;

	the_fd = fd;
	install(shut_in_handler, SA_RESTART);
	alarm_in(20000, 0);
	obs("recv", recv(fd, &byte, 1, 0));
	obs("send", send(fd, "x", 1, MSG_NOSIGNAL));
	obs_val("ran", ran);
	both();
}
CASE("handlers.shutdown_in_recv", shut_server, closed_client, ANY);

/* The peer does not read: the handler's own send finds no room, and says so at once. */
static void full_handler(int signo)
{
	ssize_t n;

	(void)signo;
	do
		n = send(the_fd, big_buffer(), 4096, MSG_DONTWAIT);
	while (n > 0);
	failures = errno;
	ran++;
}

static void full_server(int fd)
{
	const size_t piece = CONF_BIG;
	ssize_t n;

	the_fd = fd;
	install(full_handler, 0);
	/* on a busy machine the first may come before the send has found no room */
	alarm_in(100000, 100000);
	do
		n = send(fd, big_buffer(), piece, 0);
	while (n == (ssize_t)piece);
	obs_val("interrupted", n > 0 || errno == EINTR);
	alarm_in(0, 0);
	obs_text("ran %d errno %s", ran > 0, strerrorname_np(failures));
	tell(0);
	shutdown(fd, SHUT_WR);
	both();
}

CASE("handlers.send_in_full_send", full_server, drain_client, ANY);

/* ---- what the program is told about its handlers ---- */

static siginfo_t last_info;
static volatile sig_atomic_t on_stack, depth, deepest, raised;

static void full_story(int signo, siginfo_t *info, void *context)
{
	stack_t now;

	last_info = *info;
	sigaltstack(NULL, &now);
	on_stack = (now.ss_flags & SS_ONSTACK) != 0;
	ran++;
	(void)signo;
	obs_val("context", context != NULL);
}

static void nests(int signo)
{
	depth++;
	if (depth > deepest)
		deepest = depth;
	if (++raised < 3)
		raise(signo);
	depth--;
}

static void shows_server(int fd)
{
	struct sigaction a = { .sa_flags = SA_SIGINFO | SA_ONSTACK }, old;
	static char stack[65536];
	stack_t st = { .ss_sp = stack, .ss_size = sizeof(stack) };

	sigaltstack(&st, NULL);
	a.sa_sigaction = full_story;
	sigaddset(&a.sa_mask, SIGUSR2);
	obs("sigaction", sigaction(SIGUSR1, &a, NULL));
	obs("sigaction", sigaction(SIGUSR1, NULL, &old));
	obs_text("same %d info %d stack %d restart %d mask %d", old.sa_sigaction == full_story,
		 !!(old.sa_flags & SA_SIGINFO), !!(old.sa_flags & SA_ONSTACK),
		 !!(old.sa_flags & SA_RESTART), sigismember(&old.sa_mask, SIGUSR2));
	sigqueue(getpid(), SIGUSR1, (union sigval){ .sival_int = 4711 });
	obs_text("code queue %d value %d pid %d on stack %d ran %d", last_info.si_code == SI_QUEUE,
		 last_info.si_value.sival_int, last_info.si_pid == getpid(), (int)on_stack,
		 (int)ran);
	obs_val("signal() gives the old",
		(uintptr_t)signal(SIGUSR1, nests) == (uintptr_t)full_story);
	obs("sigaction", sigaction(SIGUSR1, NULL, &old));
	obs_text("same %d info %d restart %d", old.sa_handler == nests,
		 !!(old.sa_flags & SA_SIGINFO), !!(old.sa_flags & SA_RESTART));
	raise(SIGUSR1);
	obs_val("deepest", deepest);
	obs_val("ignored", signal(SIGUSR1, SIG_IGN) == nests);
	obs_val("default", signal(SIGUSR1, SIG_DFL) == SIG_IGN);
	send_pat(fd, 10, 0);
}

static void shows_client(int fd)
{
	recv_pat(fd, 10, 0);
}
CASE("handlers.actions", shows_server, shows_client, ANY);

#pragma GCC diagnostic ignored "-Wdeprecated-declarations"
static void flags_server(int fd)
{
	struct sigaction a = { .sa_handler = nests, .sa_flags = SA_NODEFER }, old;

	sigaction(SIGUSR1, &a, NULL);
	raise(SIGUSR1);
	obs_val("nodefer deepest", deepest);
	a.sa_flags = (int)SA_RESETHAND;
	deepest = 0;
	sigaction(SIGUSR2, &a, NULL);
	raise(SIGUSR2); /* nests() has raised enough */
	sigaction(SIGUSR2, NULL, &old);
	obs_val("reset", old.sa_handler == SIG_DFL);
	obs("siginterrupt", siginterrupt(SIGUSR1, 0));
	sigaction(SIGUSR1, NULL, &old);
	obs_text("same %d restart %d", old.sa_handler == nests, !!(old.sa_flags & SA_RESTART));
	obs_val("sigset gives the old", sigset(SIGUSR1, SIG_HOLD) == nests);
	obs_val("sigset says held", sigset(SIGUSR1, SIG_DFL) == SIG_HOLD);
	obs("bad signal", sigaction(77, &a, NULL));
	obs("kill", sigaction(SIGKILL, &a, NULL));
	send_pat(fd, 10, 0);
}
CASE("handlers.flags", flags_server, shows_client, ANY);

/* In a storm: SA_RESETHAND is done once, siginfo comes through, the mask is what it was. */
static volatile sig_atomic_t values, wrong_values;

static void count_values(int signo, siginfo_t *info, void *context)
{
	(void)signo;
	(void)context;
	values++;
	if (info->si_code != SI_QUEUE || info->si_value.sival_int != 99)
		wrong_values++;
}

static volatile bool queue_more;

static void *queue_signals(void *arg)
{
	pthread_t target = *(pthread_t *)arg;

	while (queue_more) {
		pthread_sigqueue(target, SIGUSR1, (union sigval){ .sival_int = 99 });
		usleep(100);
	}
	return NULL;
}

static void queued_server(int fd)
{
	struct sigaction a = { .sa_flags = SA_SIGINFO | SA_RESTART };
	pthread_t self = pthread_self(), t;
	sigset_t before, after;
	int wrong = 0;

	a.sa_sigaction = count_values;
	sigaction(SIGUSR1, &a, NULL);
	pthread_sigmask(SIG_SETMASK, NULL, &before);
	queue_more = true;
	t = spawn(queue_signals, &self);
	while (values == 0) /* the storm has begun */
		usleep(100);
	for (uint64_t i = 0; i < 3000; i++) {
		char bytes[40];

		wrong += recv_exact(fd, bytes, sizeof(bytes)) != sizeof(bytes);
		send_exact(fd, bytes, sizeof(bytes));
		pthread_sigmask(SIG_SETMASK, NULL, &after);
		wrong += memcmp(&before, &after, sizeof(long)) != 0;
	}
	queue_more = false;
	pthread_join(t, NULL);
	obs_text("wrong %d values %d wrong %d", wrong, values > 0, (int)wrong_values);
}

CASE("handlers.queued_values", queued_server, asked_client, ANY);
