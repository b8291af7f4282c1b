/* SPDX-License-Identifier: Apache-2.0 */
#include "preload/rebind.h"

#include <link.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "core/cpu.h"
#include "core/sys.h"
#include "preload/frames.h"
#include "preload/loaded.h"
#include "preload/log.h"
#include "preload/real.h"

#if defined(__x86_64__)
enum { FILLED_LATE = R_X86_64_JUMP_SLOT, FILLED = R_X86_64_GLOB_DAT, WORD = R_X86_64_64 };
#elif defined(__aarch64__)
enum { FILLED_LATE = R_AARCH64_JUMP_SLOT, FILLED = R_AARCH64_GLOB_DAT, WORD = R_AARCH64_ABS64 };
#else
#error "which relocations hold addresses of functions?"
#endif

enum {
	AGAIN_US = 300,
	PAGE_BYTES = 4096,
	OBJECTS_MAX = 1024,
	BUCKETS = 1024, /* several times the number of symbols */
};

struct function {
	const char *name;
	size_t offset; /* of libc's, in shim_real_calls */
	/* Ours; or that of whoever stands before us: what the loader has bound this place to is
	 * what every object finds that is not bound around us. */
	void (*first)(void);
};

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wdeprecated-declarations" /* programs call them all the same */
static const struct function functions[] = {
#define SYMBOL(name) { #name, offsetof(struct shim_real_calls, name), (void (*)(void))(name) },
#define SYMBOL_OPTIONAL(name) SYMBOL(name)
#include "preload/symbols.def"
#undef SYMBOL
#undef SYMBOL_OPTIONAL
};
#pragma GCC diagnostic pop

enum { FUNCTIONS = sizeof(functions) / sizeof(functions[0]) };

static const struct function *buckets[BUCKETS]; /* by libc's address */
static bool is_needed;				/* we stand before libc */
static _Atomic uint64_t looked_ticks;

/* By whoever shim_loaded_visit() lets in, one at a time. */
static struct {
	unsigned long long loads, unloads; /* the loader's counts, when all had been looked at */
	uintptr_t known[OBJECTS_MAX];	   /* where objects lie that need no more looking at */
	size_t known_count, first_count;   /* the first ones are there for ever */
} seen;

/* The dynamic section of one object. */
struct object {
	struct shim_object it;
	const char *path;
	const ElfW(Sym) * symbols;
	const char *names;
	size_t name_bytes;
	const ElfW(Rela) * data, *calls;
	size_t data_count, call_count;
};

/* ---- addresses ---- */

static size_t bucket_of(uintptr_t address)
{
	return (size_t)(address >> 4) * 0x9e3779b1u % BUCKETS;
}

static uintptr_t libcs(const struct function *function)
{
	uintptr_t address;

	memcpy(&address, (const char *)&shim_real_calls + function->offset, sizeof(address));
	return address;
}

static void enter(const struct function *function)
{
	size_t at = bucket_of(libcs(function));

	while (buckets[at] && libcs(buckets[at]) != libcs(function))
		at = (at + 1) % BUCKETS;
	buckets[at] = function;
}

static const struct function *function_at(uintptr_t address)
{
	size_t at = bucket_of(address);

	while (buckets[at] && libcs(buckets[at]) != address)
		at = (at + 1) % BUCKETS;
	return buckets[at];
}

static const struct function *function_called(const char *name)
{
	for (size_t i = 0; i < FUNCTIONS; i++)
		if (strcmp(functions[i].name, name) == 0)
			return &functions[i];
	return NULL;
}

/* ---- one object ---- */

/* The loader has made addresses of the dynamic section's offsets, where it may write there. */
static uintptr_t address_of(const struct object *object, uintptr_t value)
{
	return value < object->it.bias ? object->it.bias + value : value;
}

static void read_entry(struct object *object, const ElfW(Dyn) * entry)
{
	uintptr_t value = entry->d_un.d_val;

	if (entry->d_tag == DT_SYMTAB)
		object->symbols = (const void *)address_of(object, value);
	else if (entry->d_tag == DT_STRTAB)
		object->names = (const void *)address_of(object, value);
	else if (entry->d_tag == DT_STRSZ)
		object->name_bytes = value;
	else if (entry->d_tag == DT_RELA)
		object->data = (const void *)address_of(object, value);
	else if (entry->d_tag == DT_RELASZ)
		object->data_count = value / sizeof(ElfW(Rela));
	else if (entry->d_tag == DT_JMPREL)
		object->calls = (const void *)address_of(object, value);
	else if (entry->d_tag == DT_PLTRELSZ)
		object->call_count = value / sizeof(ElfW(Rela));
}

static bool read_dynamic(struct object *object)
{
	for (size_t i = 0; i < object->it.header_count; i++) {
		const ElfW(Phdr) *h = &object->it.headers[i];
		uintptr_t at = object->it.bias + h->p_vaddr;
		const ElfW(Dyn) *entry = (const void *)at;

		if (h->p_type != PT_DYNAMIC || !shim_object_has(&object->it, at, h->p_memsz))
			continue;
		for (; (uintptr_t)(entry + 1) <= at + h->p_memsz && entry->d_tag != DT_NULL;
		     entry++)
			read_entry(object, entry);
	}
	return object->symbols && object->names &&
	       (!object->data || shim_object_has(&object->it, (uintptr_t)object->data,
						 object->data_count * sizeof(ElfW(Rela)))) &&
	       (!object->calls || shim_object_has(&object->it, (uintptr_t)object->calls,
						  object->call_count * sizeof(ElfW(Rela))));
}

/* The loader has taken the right to write there away again. */
static bool is_read_only(const struct object *object, uintptr_t at)
{
	for (size_t i = 0; i < object->it.header_count; i++) {
		const ElfW(Phdr) *h = &object->it.headers[i];

		if (h->p_type == PT_GNU_RELRO && at - (object->it.bias + h->p_vaddr) < h->p_memsz)
			return true;
	}
	return false;
}

static bool write_address(const struct object *object, uintptr_t at,
			  const struct function *function)
{
	const long page = (long)(at & ~(uintptr_t)(PAGE_BYTES - 1));
	const bool guarded = is_read_only(object, at);

	if (guarded && sys_call3(SYS_mprotect, page, PAGE_BYTES, PROT_READ | PROT_WRITE) != 0)
		return false;
	/* other threads may call through it meanwhile: one or the other */
	__atomic_store_n((uintptr_t *)at, (uintptr_t)function->first, __ATOMIC_RELEASE);
	if (guarded)
		sys_call3(SYS_mprotect, page, PAGE_BYTES, PROT_READ);
	return true;
}

static bool holds_address(const struct object *object, const ElfW(Rela) * place)
{
	const unsigned long kind = ELF64_R_TYPE(place->r_info);
	const uintptr_t at = object->it.bias + place->r_offset;

	return (kind == FILLED_LATE || kind == FILLED || (kind == WORD && place->r_addend == 0)) &&
	       ELF64_R_SYM(place->r_info) != 0 && at % sizeof(at) == 0 &&
	       shim_object_has(&object->it, at, sizeof(at));
}

/* How many there were with libc's address. */
static int rebind(const struct object *object, const ElfW(Rela) * places, size_t count)
{
	int found = 0;

	for (size_t i = 0; i < count; i++) {
		const uintptr_t at = object->it.bias + places[i].r_offset;
		const struct function *function;

		if (!holds_address(object, &places[i]))
			continue;
		function = function_at(*(const uintptr_t *)at);
		if (function)
			found += write_address(object, at, function);
	}
	return found;
}

/* Places that still lead into the object itself, to what fills them. */
static void bind_late_ones(const struct object *object)
{
	for (size_t i = 0; i < object->call_count; i++) {
		const ElfW(Rela) *place = &object->calls[i];
		const uintptr_t at = object->it.bias + place->r_offset;
		const ElfW(Sym) *symbol = &object->symbols[ELF64_R_SYM(place->r_info)];
		const struct function *function;

		if (ELF64_R_TYPE(place->r_info) != FILLED_LATE || !holds_address(object, place) ||
		    !shim_object_has(&object->it, (uintptr_t)symbol, sizeof(*symbol)) ||
		    symbol->st_shndx != SHN_UNDEF || symbol->st_name >= object->name_bytes ||
		    !shim_object_has(&object->it, *(const uintptr_t *)at, 1))
			continue;
		function = function_called(object->names + symbol->st_name);
		if (function)
			write_address(object, at, function);
	}
}

static void look_at(struct object *object)
{
	int found;

	if (!read_dynamic(object))
		return;
	found = object->data ? rebind(object, object->data, object->data_count) : 0;
	if (object->calls)
		found += rebind(object, object->calls, object->call_count);
	if (found == 0)
		return;
	if (object->calls)
		bind_late_ones(object);
	shim_log(SHIM_LOG_INFO, "pid=%d event=rebound object=%s calls=%d", sys_getpid(),
		 object->path, found);
}

/* ---- all objects ---- */

static bool is_known(uintptr_t where)
{
	for (size_t i = 0; i < seen.known_count; i++)
		if (seen.known[i] == where)
			return true;
	return false;
}

static void know(uintptr_t where)
{
	if (seen.known_count < OBJECTS_MAX)
		seen.known[seen.known_count++] = where;
}

/* True: nothing was loaded since. */
static bool is_nothing_new(const struct dl_phdr_info *info)
{
	if (info->dlpi_adds == seen.loads)
		return true;
	/* another one may lie where one of them lay */
	if (info->dlpi_subs != seen.unloads)
		seen.known_count = seen.first_count;
	seen.loads = info->dlpi_adds;
	seen.unloads = info->dlpi_subs;
	return false;
}

static int visit(struct dl_phdr_info *info, size_t bytes, void *argument)
{
	bool *begun = argument;
	struct object object = {
		.it = { info->dlpi_addr, info->dlpi_phdr, info->dlpi_phnum },
		.path = info->dlpi_name,
	};

	(void)bytes;
	if (!*begun && is_nothing_new(info))
		return 1;
	*begun = true;
	if (is_known((uintptr_t)info->dlpi_phdr))
		return 0;
	know((uintptr_t)info->dlpi_phdr);
	if (!shim_loaded_is_exempt(info))
		look_at(&object);
	return 0;
}

static int visit_first(struct dl_phdr_info *info, size_t bytes, void *argument)
{
	(void)bytes;
	(void)argument;
	seen.loads = info->dlpi_adds;
	seen.unloads = info->dlpi_subs;
	know((uintptr_t)info->dlpi_phdr);
	seen.first_count = seen.known_count;
	return 0;
}

void shim_rebind_start(void)
{
	for (size_t i = 0; i < FUNCTIONS; i++) {
		if ((uintptr_t)functions[i].first == libcs(&functions[i]))
			continue;
		enter(&functions[i]);
		is_needed = true;
	}
	if (is_needed && shim_loaded_visit(visit_first, NULL) != SHIM_LOADED_VISITED)
		is_needed = false;
}

bool shim_rebind_look(void)
{
	bool begun = false;

	if (!is_needed)
		return true;
	atomic_store_explicit(&looked_ticks, shmipc_ticks(), memory_order_relaxed);
	return shim_loaded_visit(visit, &begun) != SHIM_LOADED_BUSY;
}

void shim_rebind_look_sometimes(void)
{
	uint64_t last = atomic_load_explicit(&looked_ticks, memory_order_relaxed);

	if (is_needed && shmipc_ticks() - last >= AGAIN_US * shmipc_ticks_per_us())
		shim_rebind_look();
}
