// SPDX-License-Identifier: GPL-2.0
/*
 * What a program of 32 bits does with a heap, on a kernel of 64: PATH of the heap. It has no C
 * library (nolibc.h comes with -include), as there may be none of 32 bits. Status 0, or the number
 * of what does not work.
 */
#include <linux/dma-buf.h>
#include <linux/dma-heap.h>

#define LEN	(3 * 4096)

int main(int argc, char **argv)
{
	struct dma_heap_allocation_data alloc = {
		.len = LEN,
		.fd_flags = O_RDWR,
	};
	struct dma_buf_sync sync = { .flags = DMA_BUF_SYNC_START | DMA_BUF_SYNC_RW };
	unsigned char *p;
	int heap, i;

	heap = open(argv[1], O_RDWR);
	if (heap < 0)
		return 1;
	if (ioctl(heap, DMA_HEAP_IOCTL_ALLOC, &alloc))
		return 2;
	if (lseek(alloc.fd, 0, SEEK_END) != LEN)
		return 3;
	p = mmap(NULL, LEN, PROT_READ | PROT_WRITE, MAP_SHARED, alloc.fd, 0);
	if (p == MAP_FAILED)
		return 4;
	if (ioctl(alloc.fd, DMA_BUF_IOCTL_SYNC, &sync))
		return 5;
	for (i = 0; i < LEN; i++) {
		if (p[i])
			return 6;
		p[i] = i;
	}
	sync.flags = DMA_BUF_SYNC_END | DMA_BUF_SYNC_RW;
	if (ioctl(alloc.fd, DMA_BUF_IOCTL_SYNC, &sync))
		return 7;
	if (ioctl(alloc.fd, DMA_BUF_SET_NAME, "compat"))
		return 8;
	/* lengths have 64 bits all the same */
	alloc.len = 1ULL << 40;
	alloc.fd = 0;
	if (!ioctl(heap, DMA_HEAP_IOCTL_ALLOC, &alloc))
		return 9;
	return errno == ENOMEM ? 0 : 10;
}
