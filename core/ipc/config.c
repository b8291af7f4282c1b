/* SPDX-License-Identifier: Apache-2.0 */
#include "core/ipc/config.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/ipc/pool.h"
#include "core/ipc/queue.h"

enum {
	BUFFER_MIN_BYTES = 1 << 20,
	PREFIX_MAX_BYTES = 160, /* with pid, tag, epoch and kind it is still a file name */
	SESSIONS_MAX = 1024,
	LOG_LINE_ROOM = 512
};

static const struct shmipc_config defaults = {
	.struct_bytes = sizeof(struct shmipc_config),
	.memory = SHMIPC_MEMORY_FILE,
	.buffer_bytes = 32u << 20,
	.queue_capacity = 8192,
	.slice_class_count = 3,
	.slice_classes = { { 8172, 50 }, { 32748, 30 }, { 131052, 20 } },
	.path_prefix = "/dev/shm/shmipc",
	.file_mode = 0600,
	.sessions = 1,
	.pooled_streams_max = 4096,
	.reconnect_min_ms = 50,
	.reconnect_max_ms = 5000,
	.breaker_ms = 30000,
	.handshake_timeout_ms = 1000,
	.write_timeout_ms = 10000,
	.hot_restart_timeout_ms = 2000,
	.streams_max = 65536,
	.accept_backlog = 1024,
	.fallback_bytes_max = 256u << 20,
	.handshakes_max = 256,
	.foreign_buffer_max_bytes = UINT32_MAX,
	.spin_us = 50,
	.cached_slices = 64,
	.log_level = SHMIPC_LOG_WARNING,
	.monitor_interval_ms = 30000,
};

void shmipc_config_init(struct shmipc_config *config, size_t bytes)
{
	memset(config, 0, bytes);
	memcpy(config, &defaults, bytes < sizeof(defaults) ? bytes : sizeof(defaults));
	config->struct_bytes = bytes;
}

/* What an older or newer application passed, with the defaults for what it does not know. */
static void complete(struct shmipc_config *to, const struct shmipc_config *from)
{
	*to = defaults;
	memcpy(to, from, from->struct_bytes < sizeof(*to) ? from->struct_bytes : sizeof(*to));
	to->struct_bytes = sizeof(*to);
}

static const char *complaint(const struct shmipc_config *c)
{
	struct shmipc_pool pool;

	if (c->memory != SHMIPC_MEMORY_FILE && c->memory != SHMIPC_MEMORY_MEMFD)
		return "memory is neither file nor memfd";
	if (c->buffer_bytes < BUFFER_MIN_BYTES)
		return "buffer_bytes is below 1 MiB";
	if (c->queue_capacity == 0 || c->queue_capacity > SHMIPC_QUEUE_CAPACITY_MAX)
		return "queue_capacity is out of range";
	if (SHMIPC_QUEUE_NATIVE == SHMIPC_QUEUE_ALIGNED && c->queue_capacity % 8 != 0)
		return "queue_capacity is not a multiple of 8";
	if (shmipc_pool_format(&pool, NULL, c->buffer_bytes, c->slice_classes,
			       c->slice_class_count))
		return "slice_classes: sizes must be different multiples of 4, percents sum to "
		       "100, and each must give at least one slice";
	if (!c->path_prefix || c->path_prefix[0] != '/' ||
	    strlen(c->path_prefix) > PREFIX_MAX_BYTES)
		return "path_prefix is not an absolute path of at most 160 bytes";
	if (c->file_mode > 0777 || !(c->file_mode & 0200))
		return "file_mode does not let its owner write";
	if (c->sessions == 0 || c->sessions > SESSIONS_MAX)
		return "sessions is out of range";
	if (c->handshake_timeout_ms == 0 || c->streams_max == 0 || c->accept_backlog == 0 ||
	    c->handshakes_max == 0)
		return "a limit or the time of a handshake is 0";
	if (c->reconnect_min_ms == 0 || c->reconnect_max_ms < c->reconnect_min_ms)
		return "reconnect_min_ms is 0 or above reconnect_max_ms";
	return NULL;
}

int shmipc_config_check(const struct shmipc_config *config, const char **why_out)
{
	struct shmipc_config whole;
	const char *why;

	complete(&whole, config);
	why = complaint(&whole);
	if (why_out)
		*why_out = why;
	return why ? -EINVAL : 0;
}

struct shmipc_shared_config *shmipc_config_share(const struct shmipc_config *given, int *error_out)
{
	struct shmipc_shared_config *shared = calloc(1, sizeof(*shared));

	*error_out = -ENOMEM;
	if (!shared)
		return NULL;
	complete(&shared->values, given ? given : &defaults);
	if (complaint(&shared->values)) {
		*error_out = -EINVAL;
		free(shared);
		return NULL;
	}
	shared->values.path_prefix = strdup(shared->values.path_prefix);
	if (!shared->values.path_prefix) {
		free(shared);
		return NULL;
	}
	atomic_init(&shared->refs, 1);
	*error_out = 0;
	return shared;
}

struct shmipc_shared_config *shmipc_config_get(struct shmipc_shared_config *config)
{
	atomic_fetch_add_explicit(&config->refs, 1, memory_order_relaxed);
	return config;
}

void shmipc_config_put(struct shmipc_shared_config *config)
{
	if (atomic_fetch_sub_explicit(&config->refs, 1, memory_order_acq_rel) != 1)
		return;
	free((char *)(uintptr_t)config->values.path_prefix);
	free(config);
}

void shmipc_log(const struct shmipc_shared_config *config, enum shmipc_log_level level,
		const char *format, ...)
{
	char line[LOG_LINE_ROOM];
	va_list arguments;

	if (!config->values.log || level > config->values.log_level)
		return;
	va_start(arguments, format);
	vsnprintf(line, sizeof(line), format, arguments);
	va_end(arguments);
	config->values.log(config->values.user, level, line);
}
