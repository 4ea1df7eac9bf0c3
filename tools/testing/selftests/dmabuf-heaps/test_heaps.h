/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Heaps of the test module, which come and go as a test wants it, and nodes of our own, as a
 * container has them: with the number of a heap, and there when that is gone
 */
#ifndef DMABUF_HEAPS_TEST_HEAPS_H
#define DMABUF_HEAPS_TEST_HEAPS_H

#include <pthread.h>
#include <sys/sysmacros.h>

#include "heaps.h"

/* TEST_FD is an open file of the test module, and these return 0, or -1 and errno */

static inline int test_heap_add(int test_fd, struct dma_heap_test_add *add, const char *name)
{
	snprintf(add->name, sizeof(add->name), "%s", name);
	return ioctl(test_fd, DMA_HEAP_TEST_ADD, add);
}

static inline int test_heap_remove(int test_fd, const char *name)
{
	struct dma_heap_test_find arg = { };

	snprintf(arg.name, sizeof(arg.name), "%s", name);
	return ioctl(test_fd, DMA_HEAP_TEST_REMOVE, &arg);
}

static inline int heap_find(int test_fd, const char *name)
{
	struct dma_heap_test_find arg = { };

	snprintf(arg.name, sizeof(arg.name), "%s", name);
	return ioctl(test_fd, DMA_HEAP_TEST_FIND, &arg);
}

static inline int heap_rdev(const char *name, dev_t *rdev)
{
	char path[PATH_MAX];
	struct stat st;

	snprintf(path, sizeof(path), DEVPATH "/%s", name);
	if (stat(path, &st))
		return -1;
	*rdev = st.st_rdev;
	return 0;
}

#define OWN_NODE	"/dev/dmabuf-heaps.%d.%d"	/* /tmp may allow no devices */

/* A new inode each time, with no reference on a heap */
static inline int own_node(int which, dev_t rdev)
{
	char path[64];

	snprintf(path, sizeof(path), OWN_NODE, getpid(), which);
	unlink(path);
	return mknod(path, S_IFCHR | 0600, rdev);
}

static inline int own_node_open(int which)
{
	char path[64];

	snprintf(path, sizeof(path), OWN_NODE, getpid(), which);
	return open(path, O_RDWR | O_CLOEXEC);
}

static inline int own_node_remove(int which)
{
	char path[64];

	snprintf(path, sizeof(path), OWN_NODE, getpid(), which);
	return unlink(path);
}

/* Opens the number by a new inode, which is gone again: an fd, or -1 and errno */
static inline int open_rdev(int which, dev_t rdev)
{
	int fd, err;

	if (own_node(which, rdev))
		return -1;
	fd = own_node_open(which);
	err = errno;
	own_node_remove(which);
	errno = err;
	return fd;
}

#endif /* DMABUF_HEAPS_TEST_HEAPS_H */
