/* SPDX-License-Identifier: Apache-2.0 */
#include "core/thread.h"

#include <errno.h>
#include <linux/membarrier.h>
#include <stdatomic.h>
#include <stddef.h>
#include <sys/mman.h>
#include <sys/single_threaded.h>
#include <time.h>

#include "core/cpu.h"
#include "core/lock.h"
#include "core/sys.h"

#ifndef MADV_WIPEONFORK
#define MADV_WIPEONFORK 18
#endif

/* One page that reads 0 in a child that was forked by whatever means. */
static _Atomic uint32_t *_Atomic alive_page;
/* One word for the whole family: some member lives in another PID namespace. */
static _Atomic uint32_t *_Atomic numbers_differ;
static _Atomic int known_pid;
static _Atomic uint64_t known_namespace; /* 0: not known */
static _Atomic uint32_t generation = 1;
static _Atomic bool membarrier_ok;

static __thread uint32_t cached_tid __attribute__((tls_model("initial-exec")));
static __thread uint32_t cached_generation __attribute__((tls_model("initial-exec")));

/* "pid:[4026531836]" */
static uint64_t read_namespace(void)
{
	char text[64];
	ssize_t bytes = sys_readlink("/proc/self/ns/pid", text, sizeof(text));
	uint64_t number = 0;

	for (ssize_t i = 0; i < bytes; i++)
		if (text[i] >= '0' && text[i] <= '9')
			number = number * 10 + (uint64_t)(text[i] - '0');
	return number;
}

/* In a new child.  One whose parent has ended already is looked at more closely. */
static void note_namespace(void)
{
	if ((int)sys_call3(SYS_getppid, 0, 0, 0) != known_pid &&
	    (known_namespace == 0 || read_namespace() != known_namespace))
		atomic_store(atomic_load(&numbers_differ), 1);
	known_pid = sys_getpid();
}

bool shmipc_process_numbers_differ(void)
{
	_Atomic uint32_t *word = atomic_load(&numbers_differ);

	return word && atomic_load_explicit(word, memory_order_relaxed) != 0;
}

/* Two threads may begin at once: the page of the first one counts. */
static void publish(_Atomic uint32_t *_Atomic *to, long page)
{
	_Atomic uint32_t *none = NULL;

	/* [page:rel] what stands in it; pairs with [page:acq] in shmipc_process_generation() */
	if (!atomic_compare_exchange_strong(to, &none, (_Atomic uint32_t *)page))
		sys_munmap((void *)page, 4096);
}

int shmipc_process_init(void)
{
	long at;

	if (atomic_load(&alive_page))
		return 0;
	at = sys_mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (at < 0 && at > -4096)
		return (int)at;
	publish(&numbers_differ, at);
	known_pid = sys_getpid();
	known_namespace = read_namespace();
	at = sys_mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (at < 0 && at > -4096)
		return (int)at;
	if (sys_madvise((void *)at, 4096, MADV_WIPEONFORK) < 0) {
		sys_munmap((void *)at, 4096);
		return -ENOSYS;
	}
	atomic_store((_Atomic uint32_t *)at, 1);
	publish(&alive_page, at);
	return 0;
}

__attribute__((hot)) uint32_t shmipc_process_generation(void)
{
	/* [page:acq] pairs with [page:rel] in publish() */
	_Atomic uint32_t *page = atomic_load_explicit(&alive_page, memory_order_acquire);

	if (page && atomic_load_explicit(page, memory_order_relaxed) == 0) {
		/* first call in a new child; it has one thread, but a signal handler may come here
		 * too */
		uint32_t expected = 0;

		if (atomic_compare_exchange_strong(page, &expected, 1)) {
			atomic_fetch_add(&generation, 1);
			note_namespace();
		}
	}
	return atomic_load_explicit(&generation, memory_order_relaxed);
}

uint32_t shmipc_thread_id(void)
{
	uint32_t now = shmipc_process_generation();

	if (cached_generation != now) {
		cached_tid = (uint32_t)sys_gettid();
		cached_generation = now;
	}
	return cached_tid;
}

__attribute__((hot)) bool shmipc_single_threaded(void)
{
	return __libc_single_threaded != 0;
}

void shmipc_membarrier_register(void)
{
	if (!atomic_load(&membarrier_ok) &&
	    sys_membarrier(MEMBARRIER_CMD_REGISTER_GLOBAL_EXPEDITED, 0) == 0)
		atomic_store(&membarrier_ok, true);
}

bool shmipc_membarrier_registered(void)
{
	return atomic_load_explicit(&membarrier_ok, memory_order_relaxed);
}

__attribute__((hot)) bool shmipc_membarrier(void)
{
	/* whoever has not registered dispenses no sender with its fence, and may be forbidden the
	 * call */
	return shmipc_membarrier_registered() &&
	       sys_membarrier(MEMBARRIER_CMD_GLOBAL_EXPEDITED, 0) == 0;
}

__attribute__((hot)) uint64_t shmipc_clock_ns(void)
{
	struct timespec time;

	clock_gettime(CLOCK_MONOTONIC, &time);
	return (uint64_t)time.tv_sec * 1000000000u + (uint64_t)time.tv_nsec;
}

__attribute__((hot)) uint64_t shmipc_ticks_per_us(void)
{
	static _Atomic uint64_t known;
	uint64_t rate = atomic_load_explicit(&known, memory_order_relaxed);
	uint64_t ns, ticks, ns_end;

	if (rate)
		return rate;
	ns = shmipc_clock_ns();
	ticks = shmipc_ticks();
	do
		ns_end = shmipc_clock_ns();
	while (ns_end - ns < 50 * 1000);
	rate = (shmipc_ticks() - ticks) * 1000 / (ns_end - ns);
	rate = rate ? rate : 1;
	atomic_store(&known, rate);
	return rate;
}
