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

/* A heap, and what takes time, in milliseconds */
struct dma_heap_test_add {
	char name[256];		/* with a NUL at its end */
	__u32 early_ms;		/* registering it, before it has a node in /dev */
	__u32 late_ms;		/* registering it, when it has one */
	__u32 alloc_ms;		/* allocating from it */
	__u32 fail;		/* registering it fails with ENOENT, after early_ms */
	__u32 minor;		/* the number that it got */
};

/* Imports the DMA-BUF with this fd: one for each open file, until that is closed */
#define DMA_HEAP_TEST_IMPORT	_IOW('T', 0, __s32)
/* Gives it up */
#define DMA_HEAP_TEST_DROP	_IO('T', 1)
/* How many bytes of it the importer can address */
#define DMA_HEAP_TEST_MAPPED	_IOR('T', 5, __u64)
/* Inverts each of its bits, through a mapping of the kernel's */
#define DMA_HEAP_TEST_INVERT	_IO('T', 6)
/* Looks the heap up, and lets go of it: ENOENT if there is none */
#define DMA_HEAP_TEST_FIND	_IOW('T', 2, struct dma_heap_test_find)
/* Allocates a page from the heap, in a task that was killed: EINTR if the heap saw that */
#define DMA_HEAP_TEST_KILLED	_IOW('T', 7, struct dma_heap_test_find)
/* Registers a heap, which is there until it is removed, or this file is closed */
#define DMA_HEAP_TEST_ADD	_IOWR('T', 3, struct dma_heap_test_add)
/* Removes one of those: ENOENT if this file has none of that name */
#define DMA_HEAP_TEST_REMOVE	_IOW('T', 4, struct dma_heap_test_find)

#endif /* DMA_HEAP_TEST_H */
