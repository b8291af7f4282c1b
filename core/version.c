/* SPDX-License-Identifier: Apache-2.0 */
#include "shmipc.h"

#define TEXT_OF(x) #x
#define TEXT(x) TEXT_OF(x)

_Static_assert(sizeof(SHMIPC_VERSION) ==
		       sizeof(TEXT(SHMIPC_VERSION_MAJOR) "." TEXT(SHMIPC_VERSION_MINOR) "." TEXT(
			       SHMIPC_VERSION_PATCH)),
	       "the text and the numbers of the version are changed together");

const char *shmipc_version(void)
{
	return SHMIPC_VERSION;
}
