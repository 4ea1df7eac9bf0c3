/* SPDX-License-Identifier: GPL-2.0 */
#ifndef _DMA_HEAP_INTERNAL_H
#define _DMA_HEAP_INTERNAL_H

#include <linux/types.h>

/* For the KUnit tests; static otherwise */
#if IS_ENABLED(CONFIG_KUNIT)
extern u32 dma_heap_next_minor;
#endif

#endif /* _DMA_HEAP_INTERNAL_H */
