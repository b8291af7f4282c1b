/* SPDX-License-Identifier: Apache-2.0 */
#include "preload/log.h"

#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "core/sys.h"

enum { LINE_BYTES = 1024, PATH_BYTES = 512 };

enum shim_log_level shim_log_level = SHIM_LOG_OFF;
static char log_path[PATH_BYTES];

void shim_log_configure(const char *text)
{
	static const char *const names[] = { "off", "error", "info", "debug" };
	const char *colon = text ? strchr(text, ':') : NULL;
	size_t bytes = colon ? (size_t)(colon - text) : text ? strlen(text) : 0;

	if (bytes == 0)
		return;
	for (unsigned int i = 0; i <= SHIM_LOG_DEBUG; i++) {
		if (strlen(names[i]) != bytes || strncmp(text, names[i], bytes) != 0)
			continue;
		if (colon && strlen(colon + 1) < PATH_BYTES)
			strcpy(log_path, colon + 1);
		shim_log_level = (enum shim_log_level)i;
		return;
	}
	shim_log_complain(
		"SHMIPC_LOG: ignoring \"%s\": off, error, info or debug is wanted, then perhaps :PATH",
		text);
}

static void write_line(int fd, const char *format, va_list arguments)
{
	char line[LINE_BYTES];
	int bytes = snprintf(line, sizeof(line), "shmipc: ");
	int more = vsnprintf(line + bytes, sizeof(line) - (size_t)bytes - 1, format, arguments);

	bytes += more;
	if (more < 0)
		return;
	if (bytes > LINE_BYTES - 2)
		bytes = LINE_BYTES - 2;
	line[bytes++] = '\n';
	sys_write(fd, line, (size_t)bytes);
}

void shim_log(enum shim_log_level level, const char *format, ...)
{
	va_list arguments;
	int fd = 2;

	if (level > shim_log_level)
		return;
	if (log_path[0]) {
		fd = sys_openat(AT_FDCWD, log_path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC,
				0666);
		if (fd < 0)
			return;
	}
	va_start(arguments, format);
	write_line(fd, format, arguments);
	va_end(arguments);
	if (log_path[0])
		sys_close(fd);
}

void shim_log_complain(const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	write_line(2, format, arguments);
	va_end(arguments);
}
