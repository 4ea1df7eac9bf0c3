/* SPDX-License-Identifier: GPL-2.0 */
/* What the test module and the programs share: /dev/dma_pool_user */
#ifndef DMA_POOL_USER_H
#define DMA_POOL_USER_H

#include <linux/ioctl.h>
#include <linux/types.h>

#define DMA_POOL_USER		"dma_pool_user"
#define DMA_POOL_USER_NODE	"dmabuf-heaps-test,pool-user"	/* compatible */
#define DMA_POOL_USER_SLOTS	4096

struct dma_pool_user_alloc {
	__u64 len;	/* bytes */
	__u32 slot;	/* which of the driver's buffers it becomes */
	__u32 mark;	/* what it is filled with: see pattern() in dma_pool_user.c */
	__u64 addr;	/* out: its DMA address */
};

/* Threads that allocate, look and free at random, each with buffers of its own */
struct dma_pool_user_threads {
	__u32 threads;
	__u32 ms;	/* for so long */
	__u32 pages;	/* the largest buffer */
	__u32 wrong;	/* out: buffers that were not zeroed, or that somebody else wrote to */
	__u64 taken;	/* out: buffers */
	__u64 atomic;	/* out: those of them that were allocated with interrupts off */
	__u64 full;	/* out: requests that found no room */
};

/* Two devices that get a region at the same time, and at once take pages of it */
struct dma_pool_user_first {
	char region[256];	/* with a NUL at its end */
	__u32 pages;	/* each takes so many, if it gets them */
	__s32 ret[2];	/* out: of getting the region */
	__u32 taken[2];	/* out: pages */
	__u32 wrong;	/* out: those of them to which the other wrote, too */
};

/* Of the device with the region: ENODEV if there is none */
#define DMA_POOL_USER_ALLOC	_IOWR('U', 0, struct dma_pool_user_alloc)
#define DMA_POOL_USER_FREE	_IOW('U', 1, __u32)
/* All buffers of the driver: EIO if what one was filled with is not there any more */
#define DMA_POOL_USER_CHECK	_IO('U', 2)
#define DMA_POOL_USER_THREADS	_IOWR('U', 3, struct dma_pool_user_threads)
/* Of other devices, which are there only meanwhile */
#define DMA_POOL_USER_FIRST	_IOWR('U', 4, struct dma_pool_user_first)

#endif /* DMA_POOL_USER_H */
