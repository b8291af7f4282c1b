/* SPDX-License-Identifier: Apache-2.0 */
/* The public face of libshmipc.  All other headers of the library are internal. */
#ifndef SHMIPC_H
#define SHMIPC_H

#define SHMIPC_VERSION_MAJOR 0
#define SHMIPC_VERSION_MINOR 1
#define SHMIPC_VERSION_PATCH 0
#define SHMIPC_VERSION "0.1.0"

#if defined(__GNUC__)
#define SHMIPC_API __attribute__((visibility("default")))
#else
#define SHMIPC_API
#endif

#ifdef __cplusplus
extern "C" {
#endif

/* "0.1.0": of the library that is loaded, which need not be the one that was compiled against. */
SHMIPC_API const char *shmipc_version(void);

#ifdef __cplusplus
}
#endif

#endif
