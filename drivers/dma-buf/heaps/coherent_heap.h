/* SPDX-License-Identifier: GPL-2.0 */
#ifndef _COHERENT_HEAP_H
#define _COHERENT_HEAP_H

#include <linux/types.h>

struct dma_heap;
struct reserved_mem;

struct coherent_heap {
	struct dma_heap *heap;
	struct reserved_mem *rmem;
	struct list_head list;
};

/* For the KUnit tests; static otherwise */
#if IS_ENABLED(CONFIG_KUNIT)
struct coherent_heap *coherent_heap_add(struct reserved_mem *rmem);
void coherent_heap_remove(struct coherent_heap *coherent_heap);
int coherent_heap_add_named(const char *names, struct list_head *heaps,
			    struct reserved_mem *(*get_region)(unsigned int));
#endif

#endif /* _COHERENT_HEAP_H */
