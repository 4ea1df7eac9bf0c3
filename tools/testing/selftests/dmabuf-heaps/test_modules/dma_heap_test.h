/* SPDX-License-Identifier: GPL-2.0 */
/* What the test module and the programs share: /dev/dma_heap_test */
#ifndef DMA_HEAP_TEST_H
#define DMA_HEAP_TEST_H

#include <linux/ioctl.h>
#include <linux/types.h>

#define DMA_HEAP_TEST	"dma_heap_test"

struct dma_heap_test_find {
	char name[256];		/* with a NUL at its end */
};

/* Imports the DMA-BUF with this fd: one for each open file, until that is closed */
#define DMA_HEAP_TEST_IMPORT	_IOW('T', 0, __s32)
/* Gives it up */
#define DMA_HEAP_TEST_DROP	_IO('T', 1)
/* Looks the heap up, and lets go of it: ENOENT if there is none */
#define DMA_HEAP_TEST_FIND	_IOW('T', 2, struct dma_heap_test_find)

#endif /* DMA_HEAP_TEST_H */
