/* SPDX-License-Identifier: GPL-2.0 */
#ifndef _DMA_HEAP_INTERNAL_H
#define _DMA_HEAP_INTERNAL_H

#include <linux/types.h>
#include <linux/xarray.h>

/* For the KUnit tests; static otherwise */
#if IS_ENABLED(CONFIG_KUNIT)
extern struct xarray dma_heap_minors;
extern u32 dma_heap_next_minor;
#endif

#endif /* _DMA_HEAP_INTERNAL_H */
