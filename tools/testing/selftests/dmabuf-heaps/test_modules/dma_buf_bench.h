/* SPDX-License-Identifier: GPL-2.0 */
/* What the benchmark asks its module to do and to time: /dev/dma_buf_bench */
#ifndef DMA_BUF_BENCH_H
#define DMA_BUF_BENCH_H

#include <linux/ioctl.h>
#include <linux/types.h>

#define DMA_BUF_BENCH		"dma_buf_bench"
#define DMA_BUF_BENCH_ORDERS	20

/* The times are in nanoseconds */
struct dma_buf_bench {
	__s32 fd;		/* of the DMA-BUF */
	__u32 snoops;		/* so does the device; makes no difference where all do */
	__u64 attach_ns;
	__u64 map_ns;		/* for DMA */
	__u64 sync_ns;		/* for the CPU and back, while it is mapped */
	__u64 unmap_ns;
	__u64 detach_ns;
	__u64 vmap_ns;		/* for the kernel, and vunmap; 0 if it cannot be */
	__u64 entries;		/* of the list that the device is given */
	/* of those, so many have at least 2^n pages, and less than 2^(n + 1) */
	__u32 orders[DMA_BUF_BENCH_ORDERS];
};

struct dma_buf_bench_clear {
	__u64 len;
	__u64 ns;
};

#define DMA_BUF_BENCH_IMPORT	_IOWR('B', 0, struct dma_buf_bench)
/* Takes pages, as large as they come, and clears that many bytes */
#define DMA_BUF_BENCH_CLEAR	_IOWR('B', 1, struct dma_buf_bench_clear)
/* Leaves no free block of 16 pages; what it keeps for that is free when the module goes */
#define DMA_BUF_BENCH_FRAGMENT	_IO('B', 2)

#endif /* DMA_BUF_BENCH_H */
