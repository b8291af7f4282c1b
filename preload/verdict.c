/* SPDX-License-Identifier: Apache-2.0 */
#include "preload/verdict.h"

#include <netinet/in.h>
#include <stdatomic.h>
#include <stddef.h>
#include <string.h>

#include "core/sys.h"
#include "core/thread.h"
#include "preload/config.h"

enum { LISTENERS = 16 };

/* `version` is odd while the rest is being written.  Only signal handlers of the one thread can
 * come in between, so the compiler's order is order enough. */
struct remembered {
	volatile uint32_t version;
	int listener; /* number + 1; 0: by address */
	socklen_t address_bytes;
	struct sockaddr_storage address;
	struct shim_verdict verdict; /* of a listener, AF_UNSPEC: each connection for itself */
};

static struct remembered by_address;
static struct remembered by_listener[LISTENERS];

static void copy(struct shim_verdict *to, const struct shim_verdict *from)
{
	memcpy(to, from, offsetof(struct shim_verdict, text) + from->text_bytes);
}

static bool recall(const struct remembered *memory, bool is_it, uint32_t version,
		   struct shim_verdict *verdict)
{
	if (!is_it || (version & 1))
		return false;
	copy(verdict, &memory->verdict);
	atomic_signal_fence(memory_order_seq_cst);
	return memory->version == version;
}

static void remember(struct remembered *memory, int listener,
		     const struct sockaddr_storage *address, socklen_t bytes,
		     const struct shim_verdict *verdict)
{
	if (memory->version & 1)
		return; /* we have interrupted a writer */
	memory->version++;
	atomic_signal_fence(memory_order_seq_cst);
	memory->listener = listener;
	memory->address_bytes = bytes;
	memory->address = *address;
	copy(&memory->verdict, verdict);
	atomic_signal_fence(memory_order_seq_cst);
	memory->version++;
}

static void judge(struct shim_verdict *verdict, const struct sockaddr_storage *address,
		  socklen_t bytes)
{
	sa_family_t family = address->ss_family;

	*verdict = (struct shim_verdict){ .family = family, .text_bytes = 1 };
	if (family != AF_INET && family != AF_INET6 && family != AF_UNIX)
		return;
	verdict->wanted = shim_endpoints_match(&shim_config.endpoints, address, bytes);
	if (!verdict->wanted)
		return;
	/* cut off where it is longer than the table's field */
	shim_endpoint_text(address, bytes, verdict->text, sizeof(verdict->text));
	verdict->text_bytes = (uint8_t)(strnlen(verdict->text, sizeof(verdict->text) - 1) + 1);
}

__attribute__((hot)) void shim_verdict_of_address(struct shim_verdict *verdict,
						  const struct sockaddr *address, socklen_t bytes)
{
	struct sockaddr_storage whole = { 0 };
	uint32_t version = by_address.version;

	if (bytes > sizeof(whole))
		bytes = sizeof(whole);
	if (shmipc_single_threaded()) {
		bool is_it = by_address.address_bytes == bytes && bytes > 0 &&
			     memcmp(&by_address.address, address, bytes) == 0;

		atomic_signal_fence(memory_order_seq_cst);
		if (recall(&by_address, is_it, version, verdict))
			return;
	}
	memcpy(&whole, address, bytes);
	judge(verdict, &whole, bytes);
	if (shmipc_single_threaded())
		remember(&by_address, 0, &whole, bytes, verdict);
}

/* A listener on a wildcard hands out connections of many addresses. */
static bool speaks_for_all(const struct sockaddr_storage *address)
{
	const struct sockaddr_in *in = (const struct sockaddr_in *)address;
	const struct sockaddr_in6 *in6 = (const struct sockaddr_in6 *)address;

	if (address->ss_family == AF_INET)
		return in->sin_addr.s_addr != htonl(INADDR_ANY);
	if (address->ss_family == AF_INET6)
		return !IN6_IS_ADDR_UNSPECIFIED(&in6->sin6_addr);
	return address->ss_family == AF_UNIX;
}

/* The connection's own name, which the kernel must be asked for. */
static void judge_one(struct shim_verdict *verdict, int fd)
{
	struct sockaddr_storage address = { 0 };
	socklen_t bytes = sizeof(address);

	if (sys_getsockname(fd, &address, &bytes) < 0)
		bytes = sizeof(address.ss_family); /* and AF_UNSPEC in it */
	shim_verdict_of_address(verdict, (const struct sockaddr *)&address, bytes);
}

/* A listener that nothing is known of. */
static void learn(struct remembered *memory, int listener)
{
	struct sockaddr_storage address = { 0 };
	socklen_t bytes = sizeof(address);
	struct shim_verdict verdict;

	if (sys_getsockname(listener, &address, &bytes) < 0)
		return;
	judge(&verdict, &address, bytes);
	if (!speaks_for_all(&address))
		verdict = (struct shim_verdict){ .family = AF_UNSPEC, .text_bytes = 1 };
	remember(memory, listener + 1, &address, bytes, &verdict);
}

__attribute__((hot)) void shim_verdict_of_accepted(struct shim_verdict *verdict, int listener,
						   int fd)
{
	struct remembered *memory = &by_listener[listener % LISTENERS];
	uint32_t version = memory->version;

	if (!shmipc_single_threaded()) {
		judge_one(verdict, fd);
		return;
	}
	if (memory->listener != listener + 1) {
		learn(memory, listener);
		version = memory->version;
	}
	atomic_signal_fence(memory_order_seq_cst);
	if (!recall(memory, memory->listener == listener + 1, version, verdict) ||
	    verdict->family == AF_UNSPEC)
		judge_one(verdict, fd);
}

__attribute__((hot)) void shim_verdict_forget(int listener)
{
	struct remembered *memory = &by_listener[(uint32_t)listener % LISTENERS];

	if (memory->listener == listener + 1)
		memory->listener = 0;
}
