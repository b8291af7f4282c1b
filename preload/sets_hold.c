/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Calls that are inside a set while another thread closes its last number.
 *
 * The kernel looks a number up once, and keeps what it finds until the call is over.  So do we: a
 * wait, and epoll_ctl, holds the record; a close that finds it held leaves it to the last one who
 * lets go.  Until then it is a set without numbers and registrations, and no other one.  What does
 * all that it does in one hold of the set's lock needs no more than that (shim_set_enter_by()).
 *
 * [hold] A call counts itself, then looks at the number; a close takes the number away, then says
 * CLOSED.  Count and CLOSED are one word, so either the close sees the call, or the call finds the
 * number gone.  Whoever leaves CLOSED alone in the word gives the record back, by taking it out of
 * the word: one does, though several may try.  A call that came too late may count itself for a
 * moment in whatever the record has become: so the word is never reset.
 */
#include "preload/sets_parts.h"

/* While there is one thread nobody else counts: a plain sum.  Its new value. */
static __attribute__((hot)) uint32_t change(struct shim_set *set, uint32_t by)
{
	uint32_t before = atomic_load_explicit(&set->inside, memory_order_relaxed);

	if (!shmipc_single_threaded())
		return atomic_fetch_add(&set->inside, by) + by;
	atomic_store_explicit(&set->inside, before + by, memory_order_relaxed);
	return before + by;
}

void shim_set_give_back(struct shim_set *set)
{
	uint32_t alone = SHIM_SET_CLOSED;

	if (atomic_compare_exchange_strong(&set->inside, &alone, 0))
		atomic_store(&set->used, 0);
}

void shim_set_unpin(struct shim_set *set)
{
	if (change(set, UINT32_MAX) == SHIM_SET_CLOSED)
		shim_set_give_back(set);
}

__attribute__((hot)) struct shim_set *shim_set_hold(int epfd)
{
	struct shim_set *set = shim_set_of(epfd);

	if (!set)
		return NULL;
	shmipc_postpone_begin();
	change(set, 1); /* [hold] */
	if (shim_set_of(epfd) == set)
		return set;
	shim_set_let_go(set);
	return NULL;
}

__attribute__((hot)) void shim_set_let_go(struct shim_set *set)
{
	if (!set)
		return;
	shim_set_unpin(set);
	shmipc_postpone_end();
}

struct shim_set *shim_set_enter_by(int epfd)
{
	struct shim_set *set = shim_set_of(epfd);

	if (!set || !shim_set_enter(set))
		return NULL;
	if (shim_set_of(epfd) == set)
		return set;
	shim_set_leave(set);
	return NULL;
}

void shim_set_is_left_in_child(struct shim_set *set)
{
	if (shim_set_is_shut(set))
		atomic_store(&set->used, 0);
	atomic_store(&set->inside, 0);
}
