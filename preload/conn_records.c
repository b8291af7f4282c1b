/* SPDX-License-Identifier: Apache-2.0 */
/* The memory of connection records: taken, found again, and got back from processes that died. */
#include <errno.h>
#include <stddef.h>
#include <sys/mman.h>

#include "core/gone.h"
#include "core/sys.h"
#include "preload/conn_parts.h"

struct shim_conn *shim_conns;
_Atomic uint32_t *shim_conn_descriptors;

static _Atomic uint32_t search_from;
static _Atomic uint32_t touched;

int shim_conn_start(void)
{
	long at = sys_mmap(NULL, SHIM_CONN_MAX * sizeof(struct shim_conn), PROT_READ | PROT_WRITE,
			   MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	long counts = sys_mmap(NULL, SHIM_CONN_MAX * sizeof(*shim_conn_descriptors),
			       PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE,
			       -1, 0);

	if ((at < 0 && at > -4096) || (counts < 0 && counts > -4096))
		return -ENOMEM;
	shim_conns = (struct shim_conn *)at;
	shim_conn_descriptors = (_Atomic uint32_t *)counts;
	return shim_holders_start();
}

uint32_t shim_conn_touched(void)
{
	return atomic_load(&touched);
}

static void raise_touched(uint32_t limit)
{
	uint32_t now = atomic_load(&touched);

	while (now < limit && !atomic_compare_exchange_weak(&touched, &now, limit))
		;
}

/* Records of processes that are gone, killed ones too.  Only a record that was never shared tells
 * who held it. */
static void reclaim(void)
{
	for (uint32_t i = 0; i < SHIM_CONN_MAX; i++) {
		struct shim_conn *conn = &shim_conns[i];
		uint32_t used = atomic_load(&conn->used);
		bool alone = atomic_load(&conn->holders) == 1 && atomic_load(&conn->shared) == 0;

		if ((used == SHIM_CONN_LEFT || (used == SHIM_CONN_USED && alone)) &&
		    conn->pid > 0 && shmipc_process_is_gone((uint32_t)conn->pid))
			atomic_compare_exchange_strong(&conn->used, &used, SHIM_CONN_FREE);
	}
}

static __attribute__((hot)) struct shim_conn *find_record(void)
{
	uint32_t start = atomic_load_explicit(&search_from, memory_order_relaxed);

	for (uint32_t i = 0; i < SHIM_CONN_MAX; i++) {
		struct shim_conn *conn = &shim_conns[(start + i) % SHIM_CONN_MAX];
		uint32_t used = 0;

		if (atomic_load_explicit(&conn->used, memory_order_relaxed) ||
		    !atomic_compare_exchange_strong(&conn->used, &used, 1))
			continue;
		raise_touched((start + i) % SHIM_CONN_MAX + 1);
		/* low indices first keeps the touched memory small */
		atomic_store_explicit(&search_from, i > 64 ? (start + i) % SHIM_CONN_MAX : start,
				      memory_order_relaxed);
		return conn;
	}
	return NULL;
}

__attribute__((hot)) struct shim_conn *shim_conn_take_record(void)
{
	struct shim_conn *conn = find_record();

	if (conn)
		return conn;
	reclaim();
	return find_record();
}

void shim_conn_for_each_held(void (*visit)(struct shim_conn *conn))
{
	uint32_t limit = shim_conn_touched();

	for (uint32_t i = 0; i < limit; i++) {
		if (atomic_load_explicit(&shim_conns[i].used, memory_order_relaxed) &&
		    atomic_load_explicit(&shim_conn_descriptors[i], memory_order_relaxed) > 0)
			visit(&shim_conns[i]);
	}
}
