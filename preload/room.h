/* SPDX-License-Identifier: Apache-2.0 */
/* Memory for the length of one call that waits for many: not on the stack, which may be small, nor
 * by malloc(), which may be what the application's handler has interrupted. */
#ifndef SHMIPC_PRELOAD_ROOM_H
#define SHMIPC_PRELOAD_ROOM_H

#include <stddef.h>

/* At least so many bytes, aligned for anything, not cleared; NULL: there are none.  Any thread, any
 * handler. */
void *shim_room_take(size_t bytes);
void shim_room_give(void *room); /* or NULL */

#endif
