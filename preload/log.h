/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One line a message, one write() a line, async-signal-safe.  Silent unless SHMIPC_LOG asks.
 * The file is opened anew for each line: the shim holds no descriptor for it.
 */
#ifndef SHMIPC_PRELOAD_LOG_H
#define SHMIPC_PRELOAD_LOG_H

enum shim_log_level { SHIM_LOG_OFF, SHIM_LOG_ERROR, SHIM_LOG_INFO, SHIM_LOG_DEBUG };

extern enum shim_log_level shim_log_level;

/* "LEVEL[:PATH]"; NULL or empty: off. */
void shim_log_configure(const char *text);
void shim_log(enum shim_log_level level, const char *format, ...)
	__attribute__((format(printf, 2, 3)));
/* A malformed setting: one clear message on stderr, whatever the level. */
void shim_log_complain(const char *format, ...) __attribute__((format(printf, 1, 2)));

#endif
