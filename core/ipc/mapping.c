/* SPDX-License-Identifier: Apache-2.0 */
#include "core/ipc/mapping.h"

#include <errno.h>
#include <stdlib.h>

#include "core/ipc/mutex.h"

/* Those that were received, and what guards the list. */
static struct shmipc_mapping *received;
static struct shmipc_mutex received_lock;

int shmipc_mapping_create(const struct shmipc_config *config, const char *path,
			  struct shmipc_mapping **out)
{
	struct shmipc_mapping *mapping = calloc(1, sizeof(*mapping));
	int error;

	if (!mapping)
		return -ENOMEM;
	if (config->memory == SHMIPC_MEMORY_FILE)
		error = shmipc_area_create_file(&mapping->area, path, config->buffer_bytes,
						(mode_t)config->file_mode);
	else
		error = shmipc_area_create_memfd(&mapping->area, path, config->buffer_bytes);
	if (error) {
		free(mapping);
		return error;
	}
	error = shmipc_pool_format(&mapping->pool, mapping->area.base, config->buffer_bytes,
				   config->slice_classes, config->slice_class_count);
	if (error) {
		shmipc_area_unlink(&mapping->area);
		shmipc_area_drop(&mapping->area);
		free(mapping);
		return error;
	}
	atomic_init(&mapping->refs, 1);
	mapping->generation = shmipc_process_generation();
	*out = mapping;
	return 0;
}

static struct shmipc_mapping *find(const struct shmipc_area *area, uint32_t generation)
{
	for (struct shmipc_mapping *m = received; m; m = m->next)
		if (m->area.device == area->device && m->area.inode == area->inode &&
		    m->generation == generation)
			return m;
	return NULL;
}

/* In a forked child the list may be half changed and its lock held for ever: start anew. */
static void forget_parent(uint32_t generation)
{
	static _Atomic uint32_t owner;
	uint32_t before = atomic_load(&owner);

	if (before == generation || !atomic_compare_exchange_strong(&owner, &before, generation))
		return;
	if (before != 0) {
		received = NULL;
		atomic_store(&received_lock.word, 0);
	}
}

int shmipc_mapping_receive(struct shmipc_area *area, struct shmipc_mapping **out)
{
	uint32_t generation = shmipc_process_generation();
	struct shmipc_mapping *mapping;
	int error = 0;

	forget_parent(generation);
	shmipc_mutex_lock(&received_lock);
	mapping = find(area, generation);
	if (mapping) {
		shmipc_mapping_get(mapping);
		shmipc_area_drop(area);
	} else if ((mapping = calloc(1, sizeof(*mapping))) == NULL) {
		error = -ENOMEM;
	} else if ((error = shmipc_pool_attach(&mapping->pool, area->base,
					       (uint32_t)area->bytes)) != 0) {
		free(mapping);
	} else {
		mapping->area = *area;
		mapping->generation = generation;
		atomic_init(&mapping->refs, 1);
		mapping->next = received;
		received = mapping;
	}
	shmipc_mutex_unlock(&received_lock);
	if (error) {
		shmipc_area_drop(area);
		return error;
	}
	*out = mapping;
	return 0;
}

struct shmipc_mapping *shmipc_mapping_get(struct shmipc_mapping *mapping)
{
	atomic_fetch_add_explicit(&mapping->refs, 1, memory_order_relaxed);
	return mapping;
}

static void take_out(const struct shmipc_mapping *mapping)
{
	struct shmipc_mapping **at = &received;

	while (*at && *at != mapping)
		at = &(*at)->next;
	if (*at)
		*at = mapping->next;
}

void shmipc_mapping_put(struct shmipc_mapping *mapping)
{
	bool child = mapping->generation != shmipc_process_generation();
	bool shared = !mapping->area.is_ours && !child;
	bool last;

	/* counted down under the lock, so that nobody finds it in the list with no reference */
	if (shared)
		shmipc_mutex_lock(&received_lock);
	last = atomic_fetch_sub_explicit(&mapping->refs, 1, memory_order_acq_rel) == 1;
	if (shared) {
		if (last)
			take_out(mapping);
		shmipc_mutex_unlock(&received_lock);
	}
	if (!last)
		return;
	if (!child)
		shmipc_area_unlink(&mapping->area);
	shmipc_pool_detach(&mapping->pool);
	shmipc_area_drop(&mapping->area);
	free(mapping);
}
