/* SPDX-License-Identifier: Apache-2.0 */
/* Between the parts of the case program's frame; cases do not include this. */
#ifndef CONFORMANCE_LIB_MAIN_H
#define CONFORMANCE_LIB_MAIN_H

#include "tests/conformance/lib/conf.h"

void sync_setup(int in_fd, int out_fd);
int conf_listen(void);
void conf_learn_name(void);

#endif
