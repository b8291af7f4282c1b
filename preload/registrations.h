/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The registrations of one epoll set: found by number, by the data that the kernel's set carries
 * for them, and listed hot ones first to be looked at.  The set's lock protects all of it; only the
 * walk over the hot ones may go without (records are type-stable, and the walk decides nothing).
 */
#ifndef SHMIPC_PRELOAD_REGISTRATIONS_H
#define SHMIPC_PRELOAD_REGISTRATIONS_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/epoll.h>

struct shim_conn;

/* Edge-triggered: of room to write, what has been told since the application's last epoll_ctl. */
enum shim_registration_out {
	SHIM_OUT_DUE = 0,   /* nothing: the first look that finds room tells */
	SHIM_OUT_EARLY = 1, /* by the kernel, before the connection had a ring: its word goes on */
	SHIM_OUT_TOLD = 2,  /* when the sender had gone `out_seen` times by the kernel */
};

struct shim_registration {
	_Atomic uint32_t used;
	int fd;
	struct shim_conn *conn;
	struct epoll_event event;     /* what the application wants */
	struct epoll_event in_kernel; /* what the kernel was told last; sets_deferred.c */
	uint64_t tag;		      /* its data in the kernel's set; sets_plain.c */
	bool blurred; /* others carry the same tag: whose event it is nobody can say */
	bool changed; /* the kernel is still to be told */
	bool ghost;   /* removed by the application, and not yet from the kernel's set: known by its
			 number alone */
	struct shim_registration *next_changed, *previous_changed;
	enum shim_registration_out out;
	uint32_t out_seen;
	uint64_t seen;	    /* edge-triggered: position of the sender when we last told */
	bool armed;	    /* one of the connection's sleepers */
	bool disabled;	    /* one-shot, told */
	bool hangup_told;   /* edge-triggered, since the application's last epoll_ctl or shutdown */
	uint32_t shutdowns; /* the connection's, when we last told */
	bool absent;	    /* and the kernel's set does not hold it: it would tell of a hang-up */
	/* its number was closed, the kernel keeps it: `fd` is another one of the connection, and
	 * epoll_ctl reaches it only if `number` is born again as a duplicate */
	bool stray;
	int number;
	bool hot;
	uint32_t quiet;			/* sleeps since the last news */
	struct shim_registration *next; /* of the set */
	struct shim_registration **back;
	struct shim_registration *next_by_fd, *next_by_tag;
	struct shim_registration *volatile next_hot;
	struct shim_registration *previous_hot;
};

enum { SHIM_REGISTRATION_FEW_BITS = 7, SHIM_REGISTRATION_FEW = 1 << SHIM_REGISTRATION_FEW_BITS };

struct shim_registrations {
	struct shim_registration *all;
	_Atomic(struct shim_registration *) changed; /* the kernel is still to be told of them */
	struct shim_registration *volatile first_hot;
	struct shim_registration *last_hot;
	struct shim_registration *newsy; /* the last one that was found to have news, or NULL */
	uint32_t count;
	/* 1 << bits buckets each: those below, or, where they are many, a mapping for both */
	uint32_t bits;
	struct shim_registration **by_fd, **by_tag;
	struct shim_registration *few_by_fd[SHIM_REGISTRATION_FEW];
	struct shim_registration *few_by_tag[SHIM_REGISTRATION_FEW];
};

int shim_registrations_start(void);
void shim_registrations_init(struct shim_registrations *list);

/* NULL: the pool is used up. */
struct shim_registration *shim_registration_add(struct shim_registrations *list, int fd,
						uint64_t tag);
void shim_registration_remove(struct shim_registrations *list, struct shim_registration *r);
/* The kernel's set is to carry this for it. */
void shim_registration_retag(struct shim_registrations *list, struct shim_registration *r,
			     uint64_t tag);

/* Its tag stands for nothing any more, its number still does / stands for this again. */
void shim_registration_become_ghost(struct shim_registrations *list, struct shim_registration *r);
void shim_registration_revive(struct shim_registrations *list, struct shim_registration *r,
			      uint64_t tag);

/* The kernel is to be told of it / has been. */
void shim_registration_note_change(struct shim_registrations *list, struct shim_registration *r);
void shim_registration_forget_change(struct shim_registrations *list, struct shim_registration *r);

/* The one that epoll_ctl means; it may be a ghost. */
struct shim_registration *shim_registration_by_fd(struct shim_registrations *list, int fd);
/* Any, also a stray one. */
struct shim_registration *shim_registration_at(struct shim_registrations *list, int fd);
/* Its number is closed, `fd` is another one: it becomes stray. */
void shim_registration_go_astray(struct shim_registrations *list, struct shim_registration *r,
				 int fd);
/* It is the same number again. */
void shim_registration_come_back(struct shim_registrations *list, struct shim_registration *r);
struct shim_registration *shim_registration_by_tag(struct shim_registrations *list, uint64_t tag);
struct shim_registration *shim_registration_same_tag(const struct shim_registration *r);

static inline struct shim_registration *
shim_registration_first(const struct shim_registrations *list)
{
	return list->all;
}

static inline struct shim_registration *shim_registration_next(const struct shim_registration *r)
{
	return r->next;
}

static inline struct shim_registration *
shim_registration_changed(const struct shim_registrations *list)
{
	return atomic_load(&list->changed);
}

/* Any of which is_newsy() is true, or NULL.  The search begins where the last one ended, so a set
 * whose news are taken one by one is walked once, not once for each. */
struct shim_registration *
shim_registration_find_newsy(struct shim_registrations *list,
			     bool (*is_newsy)(const struct shim_registration *r));

/* Hot ones, in the order in which they became so. make_hot of a hot one moves it to the end. */
void shim_registration_make_hot(struct shim_registrations *list, struct shim_registration *r);
void shim_registration_make_cold(struct shim_registrations *list, struct shim_registration *r);

static inline struct shim_registration *shim_registration_hot(const struct shim_registrations *list)
{
	return list->first_hot;
}

static inline struct shim_registration *
shim_registration_next_hot(const struct shim_registration *r)
{
	return r->next_hot;
}

#endif
