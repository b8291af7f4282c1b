/* SPDX-License-Identifier: Apache-2.0 */
/* What the command finds in its environment: the shim, and how it shall behave. */
#ifndef SHMIPC_TOOLS_RUN_ENVIRONMENT_H
#define SHMIPC_TOOLS_RUN_ENVIRONMENT_H

#include "options.h"

/* Put the shim in front of LD_PRELOAD and set the SHMIPC_ variables.  0, or -errno after one line
 * on standard error. */
int environment_prepare(const struct options *options);

#endif
