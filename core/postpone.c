/* SPDX-License-Identifier: Apache-2.0 */
#include "core/postpone.h"

#include <stddef.h>

__thread struct shmipc_postpone shmipc_postpone __attribute__((tls_model("initial-exec")));

static void (*deliver_one)(void);
static bool (*ask_unseen)(void);
static _Atomic bool handlers_expected;

void shmipc_postpone_use(void (*deliver)(void), bool (*unseen_restart)(void))
{
	deliver_one = deliver;
	ask_unseen = unseen_restart;
}

bool shmipc_postpone_unseen_restart(void)
{
	return ask_unseen && ask_unseen();
}

void shmipc_postpone_deliver(void)
{
	if (deliver_one)
		deliver_one();
}

void shmipc_postpone_over(void)
{
	shmipc_postpone.carried = false;
	if (shmipc_postpone.waiting)
		shmipc_postpone_deliver();
}

__attribute__((hot)) bool shmipc_postpone_in_child(void)
{
	bool waited = shmipc_postpone.waiting;

	shmipc_postpone = (struct shmipc_postpone){
		.handler_frame = shmipc_postpone.handler_frame
	};
	return waited;
}

__attribute__((hot)) bool shmipc_postpone_expects_handlers(void)
{
	return atomic_load_explicit(&handlers_expected, memory_order_relaxed);
}

void shmipc_postpone_expect_handlers(void)
{
	atomic_store_explicit(&handlers_expected, true, memory_order_relaxed);
}
