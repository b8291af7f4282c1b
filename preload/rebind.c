/* SPDX-License-Identifier: Apache-2.0 */
#include "preload/rebind.h"

#include <link.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <unistd.h>

#include "core/cpu.h"
#include "core/sys.h"
#include "preload/frames.h"
#include "preload/loaded.h"
#include "preload/log.h"
#include "preload/mapping.h"
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
	OBJECTS_MAX = 1024,
	YOUNG_MAX = 128,
	SETTLED_MS = 1000, /* the loader has filled all of an object's places long before */
	LOOKS_APART = 10,  /* times the time between the two looks before */
	BUCKETS = 1024,	   /* several times the number of symbols */
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
	/* Those that are to be looked at again: another thread's dlopen() may be about them. */
	struct {
		uintptr_t where;
		uint64_t since_ticks;
	} young[YOUNG_MAX];
	size_t young_count;
	uint64_t again_ticks; /* when, at the earliest */
	uint64_t again_after_ticks;
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
	enum { UNKNOWN, IN_WORK, SETTLED } state; /* of what the loader guards in the end */
	long open_page;				  /* of that, which we may write just now */
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

/* The loader takes the right to write there away, as the last thing that it does to the object. */
static bool is_guarded(const struct object *object, uintptr_t at)
{
	for (size_t i = 0; i < object->it.header_count; i++) {
		const ElfW(Phdr) *h = &object->it.headers[i];

		if (h->p_type == PT_GNU_RELRO && at - (object->it.bias + h->p_vaddr) < h->p_memsz)
			return true;
	}
	return false;
}

/* Where the loader may write still it is not done with the object, and would find its right taken
 * away.  Asked once. */
static bool is_settled(struct object *object, uintptr_t at)
{
	if (object->state == UNKNOWN)
		object->state = shim_mapping_rights(at) == SHIM_MAPPING_READ ? SETTLED : IN_WORK;
	return object->state == SETTLED;
}

static void close_page(struct object *object)
{
	if (object->open_page)
		sys_call3(SYS_mprotect, object->open_page, getpagesize(), PROT_READ);
	object->open_page = 0;
}

/* We may write there until another one is opened. */
static bool open_page(struct object *object, uintptr_t at)
{
	const long bytes = getpagesize(), page = (long)at & -bytes;

	if (object->open_page == page)
		return true;
	close_page(object);
	if (!is_settled(object, at) ||
	    sys_call3(SYS_mprotect, page, bytes, PROT_READ | PROT_WRITE) != 0)
		return false;
	object->open_page = page;
	return true;
}

static bool write_address(struct object *object, uintptr_t at, const struct function *function)
{
	if (is_guarded(object, at) && !open_page(object, at))
		return false;
	/* other threads may call through it meanwhile: one or the other */
	__atomic_store_n((uintptr_t *)at, (uintptr_t)function->first, __ATOMIC_RELEASE);
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
static int rebind(struct object *object, const ElfW(Rela) * places, size_t count)
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
static void bind_late_ones(struct object *object)
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
	if (found > 0 && object->calls)
		bind_late_ones(object);
	close_page(object);
	if (found == 0)
		return;
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

/* A moment later, then ten times as late, and so on: none is young for ever. */
static void look_again(uint64_t now, uint64_t after_ticks)
{
	seen.again_after_ticks = after_ticks;
	seen.again_ticks = now + after_ticks;
}

/* True: nothing was loaded since, and nothing is to be looked at again. */
static bool is_nothing_new(const struct dl_phdr_info *info, uint64_t now)
{
	if (info->dlpi_adds == seen.loads) {
		if (seen.young_count == 0 || now < seen.again_ticks)
			return true;
		look_again(now, seen.again_after_ticks * LOOKS_APART);
		return false;
	}
	look_again(now, 1000 * shmipc_ticks_per_us());
	/* another one may lie where one of them lay */
	if (info->dlpi_subs != seen.unloads) {
		seen.known_count = seen.first_count;
		seen.young_count = 0;
	}
	seen.loads = info->dlpi_adds;
	seen.unloads = info->dlpi_subs;
	return false;
}

/* dl_iterate_phdr() shows an object whose places are not all filled yet: it is known only when it
 * has been there for some time. */
static void grow_up(uintptr_t where, uint64_t now)
{
	size_t i = 0;

	while (i < seen.young_count && seen.young[i].where != where)
		i++;
	if (i == YOUNG_MAX) {
		know(where);
	} else if (i == seen.young_count) {
		seen.young[i].where = where;
		seen.young[i].since_ticks = now;
		seen.young_count++;
	} else if (now - seen.young[i].since_ticks >= SETTLED_MS * 1000 * shmipc_ticks_per_us()) {
		seen.young[i] = seen.young[--seen.young_count];
		know(where);
	}
}

struct look {
	uint64_t now;
	bool has_begun;
};

static int visit(struct dl_phdr_info *info, size_t bytes, void *argument)
{
	struct look *look = argument;
	const uintptr_t where = (uintptr_t)info->dlpi_phdr;
	struct object object = {
		.it = { info->dlpi_addr, info->dlpi_phdr, info->dlpi_phnum },
		.path = info->dlpi_name,
	};

	(void)bytes;
	if (!look->has_begun && is_nothing_new(info, look->now))
		return 1;
	look->has_begun = true;
	if (is_known(where))
		return 0;
	if (shim_loaded_is_exempt(info)) {
		know(where);
		return 0;
	}
	look_at(&object);
	grow_up(where, look->now);
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
	struct look look = { .now = shmipc_ticks() };

	if (!is_needed)
		return true;
	atomic_store_explicit(&looked_ticks, look.now, memory_order_relaxed);
	return shim_loaded_visit(visit, &look) != SHIM_LOADED_BUSY;
}

void shim_rebind_look_sometimes(void)
{
	uint64_t last = atomic_load_explicit(&looked_ticks, memory_order_relaxed);

	if (is_needed && shmipc_ticks() - last >= AGAIN_US * shmipc_ticks_per_us())
		shim_rebind_look();
}
