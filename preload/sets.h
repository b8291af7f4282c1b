/* SPDX-License-Identifier: Apache-2.0 */
/*
 * epoll sets.
 *
 * Every registration stays in the kernel's set with the application's own events and data (or a tag
 * in its place, sets_plain.c).  Beside it, for each registration of a connection of ours in a set
 * that this process made, we keep what we were told, so that a wait can answer from memory and a
 * sleep needs tokens only for what is armed:
 *
 *   hot    the wait looks at the ring itself; no token will come.  A registration becomes hot when
 * it is made, changed, or reported, and is left to cool down when several sleeps in a row brought
 * nothing for it. armed  the connection counts one more sleeper; the next bytes bring a token,
 * hence the kernel's event.  All hot ones of a set are armed before the set's first sleeper enters
 * the kernel: the cost of a sleep grows with the recently active connections, not with the idle
 * ones. strict the connection keeps the kernel's readiness true for every arrival, because others
 * than our own wait may look at the set: two threads in it, a set inside another set or a poll, one
 * that survived a fork.
 *
 * Invariant: while a thread sleeps in the kernel on a set, each of its registrations is armed or
 * strict, and was found without unreported bytes after it had become so.
 */
#ifndef SHMIPC_PRELOAD_SETS_H
#define SHMIPC_PRELOAD_SETS_H

#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/epoll.h>
#include <time.h>

struct shim_conn;

int shim_sets_start(void);

/* A set that this process has just made. */
void shim_set_opened(int epfd);
void shim_set_closed(int epfd);
/* `to` is another number of the same set / a number is not the set's any more. */
void shim_set_duplicated(int from, int to);
void shim_set_number_lost(int epfd);
/* Others may wait on it by ways that we do not see. */
void shim_set_is_foreign(int epfd);
/* And are programs that do not know of us. */
void shim_set_is_given_away(int epfd);
/* All of them. */
void shim_sets_are_given_away(void);
/* May the kernel say that it is ready, and be wrong? */
bool shim_set_is_doubtful(int epfd);
/* It says so: what makes it ready and stands for nothing to read is taken away.  True: ask again.
 */
bool shim_set_clear(int epfd);
/* The number of a connection is closed: its registrations that lived by this number are not ours to
 * know. */
void shim_set_number_closed(int fd);
/* No registration of it counts a sleeper any more; it is not attached, so none will. */
void shim_sets_disarm(struct shim_conn *conn);
/* Registrations of it in sets of this process; rx.watchers counts those of all its holders. */
uint32_t shim_sets_watching(const struct shim_conn *conn);
/* It is a duplicate now of a connection that had it before. */
void shim_set_number_reborn(int fd, struct shim_conn *conn);
/* The kernel gives each edge-triggered set an edge: what is there is news again. */
void shim_sets_edge(struct shim_conn *conn);
void shim_sets_before_fork(void);
void shim_sets_after_fork(void);
void shim_sets_in_child(void);

/* epoll_ctl: 0 or -errno. */
int shim_set_control(int epfd, int operation, int fd, struct epoll_event *event);

/* Others are about to look at the kernel's set: nothing that was put off (sets_deferred.c) stays
 * so. */
void shim_set_show(int epfd);
/* All sets.  True: there was something. */
bool shim_sets_show(void);

/* Has this set registrations that need more than the kernel's own call, or may it have when a sleep
 * ends? */
bool shim_set_concerns_us(int epfd, bool may_sleep);

/* A receive has taken something: sets that were made ready for what it took are so no more.  Cheap
 * when there are none. */
extern _Atomic uint32_t shim_sets_kicked;
void shim_sets_settle(void);

/* A handler of the application is about to run in a sleep of this set, or NULL: its connections lie
 * together no more / has run, in the same process. */
struct shim_set;
struct shim_set *shim_set_get_up(void);
void shim_set_was_interrupted(struct shim_set *set);

/* The set of the number: from here to its letting go signal handlers wait, but in a sleep, and
 * whoever closes the number leaves the record alone.  NULL: there is none. */
struct shim_set *shim_set_hold(int epfd);
void shim_set_let_go(struct shim_set *set); /* or NULL */

/* As epoll_pwait2, by this number: events, 0 on time-out, or -errno.  The set is held, and let go.
 */
int shim_set_wait(struct shim_set *set, int epfd, struct epoll_event *events, int room,
		  const struct timespec *timeout, const sigset_t *mask);

/* The number has become a connection: a set that it joined before knows it from now on. */
void shim_set_adopt_early(struct shim_conn *conn, int fd);
/* Sets may know the number that we do not know of any more: the connection that it becomes is
 * waited for by ways that we do not see. */
void shim_set_number_is_known(int fd);
/* The number is born again. */
void shim_set_forget_early(int fd);

/* Whoever sleeps on a set may have to be woken by means of ours when no descriptor is left: they
 * are made before, when an end is attached. */
void shim_sets_prepare(void);

/* The application takes this number of ours, if sets are kicked by it: false, they are not. */
bool shim_sets_vacate(int fd);

#endif
