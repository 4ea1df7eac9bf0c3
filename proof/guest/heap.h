/* SPDX-License-Identifier: GPL-2.0 */
/* What the programs in the guest share: the heaps in /dev/dma_heap and their ioctl. */
#ifndef GUEST_HEAP_H
#define GUEST_HEAP_H

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <linux/dma-buf.h>
#include <linux/dma-heap.h>

#define HEAPS		"/dev/dma_heap"
#define MAX_HEAPS	64
#define KIB		1024UL
#define MIB		(1024 * KIB)

struct names {
	int n;
	char name[MAX_HEAPS][256];
};

static inline bool names_have(const struct names *list, const char *name)
{
	int i;

	for (i = 0; i < list->n; i++)
		if (!strcmp(list->name[i], name))
			return true;
	return false;
}

static inline void names_add(struct names *list, const char *name)
{
	if (list->n < MAX_HEAPS && !names_have(list, name))
		snprintf(list->name[list->n++], sizeof(list->name[0]), "%s", name);
}

static inline int names_compare(const void *a, const void *b)
{
	return strcmp(a, b);
}

/* The nodes that exist now, sorted. No directory means no node. */
static inline void heaps_now(struct names *list)
{
	struct dirent *e;
	DIR *d;

	list->n = 0;
	d = opendir(HEAPS);
	while (d && (e = readdir(d)))
		if (e->d_name[0] != '.')
			names_add(list, e->d_name);
	if (d)
		closedir(d);
	qsort(list->name, list->n, sizeof(list->name[0]), names_compare);
}

static inline int heap_open(const char *name)
{
	char path[300];

	snprintf(path, sizeof(path), HEAPS "/%s", name);
	return open(path, O_RDWR | O_CLOEXEC);
}

/* A new buffer's fd, or -1 and errno. */
static inline int heap_alloc_flags(int heap, __u64 len, __u32 fd_flags, __u64 heap_flags)
{
	struct dma_heap_allocation_data data = {
		.len = len,
		.fd_flags = fd_flags,
		.heap_flags = heap_flags,
	};

	return ioctl(heap, DMA_HEAP_IOCTL_ALLOC, &data) < 0 ? -1 : (int)data.fd;
}

static inline int heap_alloc(int heap, __u64 len)
{
	return heap_alloc_flags(heap, len, O_RDWR | O_CLOEXEC, 0);
}

static inline int buffer_sync(int fd, __u64 flags)
{
	struct dma_buf_sync sync = { .flags = flags };

	return ioctl(fd, DMA_BUF_IOCTL_SYNC, &sync);
}

static inline void *buffer_map(int fd, size_t len)
{
	return mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
}

/* The offset of the first byte that is not zero, or len */
static inline size_t first_nonzero(const unsigned char *p, size_t len)
{
	size_t i;

	for (i = 0; i < len && !p[i]; i++)
		;
	return i;
}

static inline unsigned char pattern(size_t i, unsigned int seed)
{
	return (i * 31 + (i >> 12) * 7 + seed) & 0xff;
}

static inline void fill(unsigned char *p, size_t len, unsigned int seed)
{
	size_t i;

	for (i = 0; i < len; i++)
		p[i] = pattern(i, seed);
}

/* The offset of the first byte that differs from what fill() wrote, or len */
static inline size_t first_wrong(const unsigned char *p, size_t len, unsigned int seed)
{
	size_t i;

	for (i = 0; i < len && p[i] == pattern(i, seed); i++)
		;
	return i;
}

/* Runs PROGRAM ARG [ARG2]; its exit status, or -1 */
static inline int run_program2(const char *program, const char *arg, const char *arg2)
{
	int status;
	pid_t pid;

	fflush(NULL);
	pid = fork();
	if (!pid) {
		execlp(program, program, arg, arg2, (char *)NULL);
		fprintf(stderr, "cannot run %s: %s\n", program, strerror(errno));
		_exit(127);
	}
	if (pid < 0 || waitpid(pid, &status, 0) != pid || !WIFEXITED(status))
		return -1;
	return WEXITSTATUS(status);
}

#endif /* GUEST_HEAP_H */
