/* SPDX-License-Identifier: Apache-2.0 */
/* "tcp:HOST:PORT" or "unix:PATH" to a listening or connected socket; a failure ends the program. */
#ifndef SHMIPC_TOOLS_LOAD_ADDRESS_H
#define SHMIPC_TOOLS_LOAD_ADDRESS_H

int address_listen(const char *text);
int address_connect(const char *text);

#endif
