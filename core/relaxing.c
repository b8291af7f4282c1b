/* SPDX-License-Identifier: Apache-2.0 */
#include "core/relaxing.h"

#include <stddef.h>

_Atomic uint32_t shmipc_relaxing;

static void (*decide_now)(void);

void shmipc_relaxing_decide_by(void (*decide)(void))
{
	decide_now = decide;
	atomic_store(&shmipc_relaxing, SHMIPC_RELAXING_UNDECIDED);
}

__attribute__((hot)) void shmipc_relaxing_ask(void)
{
	if (decide_now)
		decide_now();
}
