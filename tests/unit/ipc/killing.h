/* SPDX-License-Identifier: Apache-2.0 */
/* kill -9 of either side at random instants under load, and what the other one makes of it. */
#ifndef TESTS_UNIT_IPC_KILLING_H
#define TESTS_UNIT_IPC_KILLING_H

/* One server and one client, one of which is killed.  Aborts when the other one hangs, sees a wrong
 * byte or an error that does not fit, or when anything stays in /dev/shm. */
void killing_round(unsigned int seed);

#endif
