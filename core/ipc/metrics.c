/* SPDX-License-Identifier: Apache-2.0 */
/* Figures of a session, and sums of them. */
#include <string.h>

#include "core/ipc/session.h"

/* All members are of one kind, so that a sum needs no list of them. */
_Static_assert(sizeof(struct shmipc_metrics) % sizeof(uint64_t) == 0, "metrics are 64-bit numbers");

void shmipc_metrics_add(struct shmipc_metrics *to, const struct shmipc_metrics *from)
{
	uint64_t sum, part;

	for (size_t at = 0; at < sizeof(*to); at += sizeof(sum)) {
		memcpy(&sum, (char *)to + at, sizeof(sum));
		memcpy(&part, (const char *)from + at, sizeof(part));
		sum += part;
		memcpy((char *)to + at, &sum, sizeof(sum));
	}
}

void shmipc_metrics_copy(const struct shmipc_metrics *from, struct shmipc_metrics *out,
			 size_t bytes)
{
	memset(out, 0, bytes);
	memcpy(out, from, bytes < sizeof(*from) ? bytes : sizeof(*from));
}

void shmipc_session_figures(struct shmipc_session *s, struct shmipc_metrics *out)
{
	*out = s->metrics;
	if (s->ended)
		return;
	out->sessions = 1;
	out->active_streams = s->streams.count;
	out->shared_bytes = shmipc_pool_capacity(s->pool);
	out->shared_bytes_in_use = shmipc_pool_in_use(s->pool);
}

void shmipc_session_metrics(struct shmipc_session *s, struct shmipc_metrics *out, size_t bytes)
{
	struct shmipc_metrics now = { 0 };

	if (!shmipc_session_is_foreign(s)) {
		shmipc_session_lock(s);
		shmipc_session_figures(s, &now);
		shmipc_session_unlock(s);
	}
	shmipc_metrics_copy(&now, out, bytes);
}
