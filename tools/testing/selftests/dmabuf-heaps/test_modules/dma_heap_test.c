// SPDX-License-Identifier: GPL-2.0
/*
 * The kernel's side of the tests of DMA-BUF heaps: an importer without hardware, and
 * lookups by name. See dma_heap_test.h.
 */
#include <linux/cleanup.h>
#include <linux/dma-buf.h>
#include <linux/dma-heap.h>
#include <linux/dma-mapping.h>
#include <linux/err.h>
#include <linux/fs.h>
#include <linux/miscdevice.h>
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/platform_device.h>
#include <linux/slab.h>
#include <linux/uaccess.h>

#include "dma_heap_test.h"

struct import {
	struct mutex lock;	/* what follows */
	struct dma_buf *dmabuf;
	struct dma_buf_attachment *attach;
	struct sg_table *sgt;
};

static struct platform_device *importer;

static int import_drop(struct import *import)
{
	if (!import->dmabuf)
		return -ENOTCONN;
	dma_buf_unmap_attachment_unlocked(import->attach, import->sgt, DMA_BIDIRECTIONAL);
	dma_buf_detach(import->dmabuf, import->attach);
	dma_buf_put(import->dmabuf);
	import->dmabuf = NULL;
	return 0;
}

static int import_take(struct import *import, int fd)
{
	struct dma_buf_attachment *attach;
	struct dma_buf *dmabuf;
	struct sg_table *sgt;

	if (import->dmabuf)
		return -EISCONN;
	dmabuf = dma_buf_get(fd);
	if (IS_ERR(dmabuf))
		return PTR_ERR(dmabuf);
	attach = dma_buf_attach(dmabuf, &importer->dev);
	if (IS_ERR(attach)) {
		dma_buf_put(dmabuf);
		return PTR_ERR(attach);
	}
	sgt = dma_buf_map_attachment_unlocked(attach, DMA_BIDIRECTIONAL);
	if (IS_ERR(sgt)) {
		dma_buf_detach(dmabuf, attach);
		dma_buf_put(dmabuf);
		return PTR_ERR(sgt);
	}
	import->dmabuf = dmabuf;
	import->attach = attach;
	import->sgt = sgt;
	return 0;
}

static int find(const struct dma_heap_test_find __user *user)
{
	struct dma_heap_test_find find;
	struct dma_heap *heap;

	if (copy_from_user(&find, user, sizeof(find)))
		return -EFAULT;
	if (strnlen(find.name, sizeof(find.name)) == sizeof(find.name))
		return -EINVAL;
	heap = dma_heap_find_by_name(find.name);
	if (!heap)
		return -ENOENT;
	dma_heap_put(heap);
	return 0;
}

static long dma_heap_test_ioctl(struct file *file, unsigned int cmd, unsigned long arg)
{
	struct import *import = file->private_data;
	void __user *user = (void __user *)arg;
	s32 fd;

	if (cmd == DMA_HEAP_TEST_FIND)
		return find(user);

	guard(mutex)(&import->lock);

	switch (cmd) {
	case DMA_HEAP_TEST_IMPORT:
		return get_user(fd, (s32 __user *)user) ?: import_take(import, fd);
	case DMA_HEAP_TEST_DROP:
		return import_drop(import);
	}
	return -ENOTTY;
}

static int dma_heap_test_open(struct inode *inode, struct file *file)
{
	struct import *import = kzalloc(sizeof(*import), GFP_KERNEL);

	if (!import)
		return -ENOMEM;
	mutex_init(&import->lock);
	file->private_data = import;
	return 0;
}

static int dma_heap_test_release(struct inode *inode, struct file *file)
{
	struct import *import = file->private_data;

	import_drop(import);
	mutex_destroy(&import->lock);
	kfree(import);
	return 0;
}

static const struct file_operations dma_heap_test_fops = {
	.owner = THIS_MODULE,
	.open = dma_heap_test_open,
	.release = dma_heap_test_release,
	.unlocked_ioctl = dma_heap_test_ioctl,
};

static struct miscdevice dma_heap_test_misc = {
	.minor = MISC_DYNAMIC_MINOR,
	.name = DMA_HEAP_TEST,
	.fops = &dma_heap_test_fops,
};

static int __init dma_heap_test_init(void)
{
	int ret;

	importer = platform_device_register_simple(DMA_HEAP_TEST, PLATFORM_DEVID_NONE, NULL, 0);
	if (IS_ERR(importer))
		return PTR_ERR(importer);
	dma_set_max_seg_size(&importer->dev, UINT_MAX);
	ret = dma_set_mask_and_coherent(&importer->dev, DMA_BIT_MASK(64));
	if (!ret)
		ret = misc_register(&dma_heap_test_misc);
	if (ret)
		platform_device_unregister(importer);
	return ret;
}
module_init(dma_heap_test_init);

static void __exit dma_heap_test_exit(void)
{
	misc_deregister(&dma_heap_test_misc);
	platform_device_unregister(importer);
}
module_exit(dma_heap_test_exit);

MODULE_DESCRIPTION("Importer and lookups for the tests of DMA-BUF heaps");
MODULE_LICENSE("GPL");
MODULE_IMPORT_NS(DMA_BUF);
MODULE_IMPORT_NS(DMA_BUF_HEAP);
