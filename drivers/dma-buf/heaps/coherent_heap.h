/* SPDX-License-Identifier: GPL-2.0 */
#ifndef _COHERENT_HEAP_H
#define _COHERENT_HEAP_H

struct coherent_heap;
struct reserved_mem;

/* For the KUnit tests; the functions are static without */
#if IS_ENABLED(CONFIG_KUNIT)
struct coherent_heap *coherent_heap_add(struct reserved_mem *rmem);
void coherent_heap_remove(struct coherent_heap *coherent_heap);
#endif

#endif /* _COHERENT_HEAP_H */
