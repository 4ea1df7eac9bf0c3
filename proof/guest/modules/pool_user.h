/* SPDX-License-Identifier: GPL-2.0 */
/* What the module pool_user and the programs of the guest share: /dev/pool_user */
#ifndef GUEST_POOL_USER_H
#define GUEST_POOL_USER_H

#include <linux/ioctl.h>
#include <linux/types.h>

struct pool_user_alloc {
	__u64 len;	/* bytes */
	__u32 slot;	/* which of the driver's buffers it becomes */
	__u32 mark;	/* what it is filled with: see pattern() in heap.h */
	__u64 addr;	/* out: its DMA address */
};

/* Threads that allocate, look and free at random, each with buffers of its own */
struct pool_user_threads {
	__u32 threads;
	__u32 ms;	/* for so long */
	__u32 pages;	/* the largest buffer */
	__u32 wrong;	/* out: buffers that were not zeroed, or that somebody else wrote to */
	__u64 taken;	/* out: buffers */
	__u64 atomic;	/* out: those of them that were allocated with interrupts off */
	__u64 full;	/* out: requests that found no room */
};

/*
 * Memory declared for a device by its driver. The two functions are not exported: the
 * addresses are those in /proc/kallsyms.
 */
struct pool_user_declare {
	__u64 declare;	/* dma_declare_coherent_memory() */
	__u64 release;	/* dma_release_coherent_memory() */
	__u64 phys;	/* the memory */
	__u64 size;	/* bytes */
	__s32 ret;	/* out: what declaring it returned; the rest if this is 0 */
	__u32 pages;	/* out: so many buffers of a page were there */
	__u64 first;	/* out: the lowest and the highest DMA address among them */
	__u64 last;
};

#define POOL_USER_SLOTS	4096

#define POOL_USER_ALLOC	_IOWR('P', 0, struct pool_user_alloc)
#define POOL_USER_FREE	_IOW('P', 1, __u32)
/* All buffers of the driver: EIO if what one was filled with is not there any more */
#define POOL_USER_CHECK	_IO('P', 2)
#define POOL_USER_THREADS	_IOWR('P', 3, struct pool_user_threads)
#define POOL_USER_DECLARE	_IOWR('P', 4, struct pool_user_declare)

#endif /* GUEST_POOL_USER_H */
