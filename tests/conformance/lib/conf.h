/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a conformance case may use. A case is a plain POSIX program in two roles; it prints what it
 * observes and knows nothing of the library under test. Nothing printed here may depend on timing,
 * on buffer sizes or on how the kernel cuts a TCP stream into segments.
 */
#ifndef CONFORMANCE_LIB_CONF_H
#define CONFORMANCE_LIB_CONF_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum conf_flags {
	CONF_COLD = 1, /* also run without the warm-up */
	CONF_MID = 2,  /* also run repeatedly from cold, so that an upgrade falls inside */
	CONF_SWAP = 4, /* also run with the two functions exchanged */
	CONF_TCP_ONLY = 8,
	CONF_UNIX_ONLY = 16,
	CONF_RAW = 32,	    /* server gets the listener, client gets -1; no warm-up */
	CONF_EITHER = 64,   /* may or may not be accelerated when both ends are shimmed */
	CONF_NEVER = 128,   /* must not be accelerated when both ends are shimmed */
	CONF_KILLED = 256,  /* an end dies without closing: event=accelerated is proof enough */
	CONF_SELF = 512,    /* belongs to the harness's own test, not to the suite */
	CONF_MUST = 1024,   /* with CONF_RAW: must be accelerated when both ends are shimmed */
	CONF_FAMILY = 2048, /* both ends are the server's and its child's */
};

enum {
	CONF_WARM_ROUNDS = 40,
	CONF_WARM_BYTES = 16,
	CONF_MID_REPEATS = 10,
	CONF_MID_ROUNDS = 4,
	CONF_WAIT_MS = 5000, /* longer than anything that is going to happen */
	CONF_NAP_MS = 30,    /* long enough that the other end sleeps in the kernel */
	CONF_PROBE_MS = 300, /* longer than TCP waits before it probes a closed window */
	CONF_BIG = 3 * 1024 * 1024,
};

struct conf_case {
	const char *name;
	unsigned int flags;
	void (*server)(int fd);
	void (*client)(int fd);
};

#define CONF_CAT2(a, b) a##b
#define CONF_CAT(a, b) CONF_CAT2(a, b)
#define CASE(name, server, client, flags)                                                     \
	static const struct conf_case CONF_CAT(conf_case_, __LINE__) = { name, flags, server, \
									 client };            \
	__attribute__((used, section("conf_cases"))) static const struct conf_case *const     \
	CONF_CAT(conf_ref_, __LINE__) = &CONF_CAT(conf_case_, __LINE__)

/* The run that this process is one end of; written once, by main(). */
struct conf_run {
	bool is_server;
	bool is_tcp;
	const char *address;	      /* 127.0.0.1 or the path */
	struct sockaddr_storage name; /* where the server listens */
	socklen_t name_len;
	pid_t peer_pid;
};
extern struct conf_run conf;

/* Observations: one line each, written at once. obs() prints the errno name when r is -1. */
void obs(const char *what, long r);
void obs_val(const char *what, long value);
void obs_set(const char *what, int fd, int level, int option, int value); /* setsockopt() */
void obs_text(const char *format, ...) __attribute__((format(printf, 1, 2)));
void obs_sum(const char *what, const void *bytes, size_t len);
void obs_poll(const char *what, int r, short revents);
void obs_epoll(const char *what, int r, const struct epoll_event *events);
void obs_exit(const char *what, int status);

/* Synchronisation of the two roles, never over the socket under test. */
void tell(uint64_t value);
uint64_t await(void);	    /* UINT64_MAX when the other role is gone */
void both(void);	    /* a barrier */
void await_peer_exit(void); /* until the other role's process is a zombie or reaped */

/* Payload whose every byte follows from its position, and transfers of an exact length. */
void pat_fill(void *bytes, size_t len, uint64_t position);
bool pat_good(const void *bytes, size_t len, uint64_t position);
long send_exact(int fd, const void *bytes, size_t len);
long recv_exact(int fd, void *bytes, size_t len); /* short at EOF, -1 on error */
void send_pat(int fd, size_t len, uint64_t position);
void recv_pat(int fd, size_t len, uint64_t position); /* prints what came */
void exchange(int fd);				      /* 100 bytes each way: both ends call it */
void recv_to_eof(int fd, uint64_t position);	      /* prints total, correctness, last result */
void *big_buffer(void);				      /* CONF_BIG bytes, one per process */

/* Values that the compiler cannot see through, for calls that are wrong on purpose. */
void *bad_pointer(void);
int opaque(int value);

void nap_ms(int ms);
long now_ms(void);
void set_nonblock(int fd, bool on);
bool ready(int fd, short events); /* waits until poll() shows one of the events, prints nothing */
void on_signal(int signo, int sa_flags);
int signal_count(int signo);
struct conf_action { /* as the system call has it */
	uintptr_t handler;
	unsigned long flags;
	uintptr_t restorer;
	uint64_t mask;
};
/* By the system call: by syscall(), or around whoever interposes libc. */
void handler_by_number(int signo, void (*handler)(int), int sa_flags, bool around);
pthread_t spawn(void *(*body)(void *), void *arg);

/* What the two roles do after whatever one of them has done to the connection: it is whole and
 * ends, or it is read to its end. */
void goes_on_server(int fd);
void goes_on_client(int fd);
void drain_client(int fd);

/* Sends ten bytes, an arrival of their own, each time that the other role demands them: at once, or
 * when that may be asleep. */
enum demanded { AT_ONCE, WHEN_ASLEEP, NO_MORE };
void on_demand_client(int fd);
void demand(void); /* at once, and they have been sent */

/* Sends a hundred bytes and ends its direction when it is told to. */
void half_closes_client(int fd);

/* For CONF_RAW cases. */
int conf_socket(int type_flags);
int conf_connect(void);
int conf_accept(int listener);
void warm_up(int fd, int rounds);

#endif
