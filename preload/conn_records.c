/* SPDX-License-Identifier: Apache-2.0 */
/* The memory of connection records: taken, found again, and got back from processes that died. */
#include <errno.h>
#include <stddef.h>
#include <sys/mman.h>

#include "core/cpu.h"
#include "core/gone.h"
#include "core/sys.h"
#include "preload/conn_parts.h"

struct shim_conn *shim_conns;
_Atomic uint32_t *shim_conn_descriptors;

/* Once all are in use each search would be in vain, and looks at all of them. */
enum { SEARCH_AGAIN_MS = 100, RECLAIM_AGAIN_MS = 1000 };

static _Atomic uint64_t full_until_ticks; /* 0: not known to be full */
static _Atomic uint64_t reclaim_at_ticks;
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
	uint32_t pid = 0; /* of the record before, which most often is of the same process */
	bool is_gone = false;

	for (uint32_t i = 0; i < SHIM_CONN_MAX; i++) {
		struct shim_conn *conn = &shim_conns[i];
		uint32_t used = atomic_load(&conn->used);
		bool alone = atomic_load(&conn->holders) == 1 && atomic_load(&conn->shared) == 0;

		if (conn->pid <= 0 ||
		    (used != SHIM_CONN_LEFT && (used != SHIM_CONN_USED || !alone)))
			continue;
		if ((uint32_t)conn->pid != pid) {
			pid = (uint32_t)conn->pid;
			is_gone = shmipc_process_is_gone(pid);
		}
		if (is_gone)
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

static struct shim_conn *search_longer(void)
{
	const uint64_t now = shmipc_ticks(), ms = 1000 * shmipc_ticks_per_us();
	struct shim_conn *conn = NULL;

	if (now >= atomic_load(&reclaim_at_ticks)) {
		reclaim();
		conn = find_record();
		atomic_store(&reclaim_at_ticks, shmipc_ticks() + RECLAIM_AGAIN_MS * ms);
	}
	if (!conn)
		atomic_store(&full_until_ticks, shmipc_ticks() + SEARCH_AGAIN_MS * ms);
	return conn;
}

__attribute__((hot)) struct shim_conn *shim_conn_take_record(void)
{
	uint64_t full_until = atomic_load_explicit(&full_until_ticks, memory_order_relaxed);
	struct shim_conn *conn;

	if (__builtin_expect(full_until != 0, 0)) {
		if (shmipc_ticks() < full_until)
			return NULL;
		atomic_store(&full_until_ticks, 0);
	}
	conn = find_record();
	return conn ? conn : search_longer();
}

__attribute__((hot)) void shim_conn_give_record_back(struct shim_conn *conn)
{
	uint32_t index = shim_conn_index(conn); /* of a record that may be another's soon */

	atomic_store_explicit(&conn->used, SHIM_CONN_FREE, memory_order_release);
	if (__builtin_expect(atomic_load_explicit(&full_until_ticks, memory_order_relaxed) != 0,
			     0)) {
		atomic_store(&search_from, index);
		atomic_store(&full_until_ticks, 0);
	}
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
