// SPDX-License-Identifier: GPL-2.0
/*
 * The kernel's side of the tests of DMA-BUF heaps: an importer without hardware, lookups by
 * name, and heaps that come, go, fail and take their time as the test wants it. See
 * dma_heap_test.h.
 */
#include <linux/cleanup.h>
#include <linux/completion.h>
#include <linux/delay.h>
#include <linux/device.h>
#include <linux/dma-buf.h>
#include <linux/dma-heap.h>
#include <linux/dma-mapping.h>
#include <linux/err.h>
#include <linux/fcntl.h>
#include <linux/fs.h>
#include <linux/gfp.h>
#include <linux/iosys-map.h>
#include <linux/kdev_t.h>
#include <linux/kthread.h>
#include <linux/list.h>
#include <linux/miscdevice.h>
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/platform_device.h>
#include <linux/scatterlist.h>
#include <linux/sched/signal.h>
#include <linux/sched/task.h>
#include <linux/slab.h>
#include <linux/sysfs.h>
#include <linux/uaccess.h>

#include "dma_heap_test.h"

struct test_heap {
	struct list_head list;
	struct dma_heap *heap;
	struct device *parent;	/* of a heap that cannot be registered */
	struct dma_heap_test_add add;
};

/* An open file */
struct test_file {
	struct mutex lock;	/* what follows */
	struct dma_buf *dmabuf;
	struct dma_buf_attachment *attach;
	struct sg_table *sgt;
	struct list_head heaps;
};

static struct platform_device *importer;

/* Buffers: pages in one piece, without a cache to look after, and without mmap() */

static struct sg_table *test_map(struct dma_buf_attachment *attach, enum dma_data_direction dir)
{
	struct dma_buf *dmabuf = attach->dmabuf;
	struct sg_table *sgt;
	int ret;

	sgt = kzalloc(sizeof(*sgt), GFP_KERNEL);
	if (!sgt)
		return ERR_PTR(-ENOMEM);
	ret = sg_alloc_table(sgt, 1, GFP_KERNEL);
	if (!ret) {
		sg_set_buf(sgt->sgl, dmabuf->priv, dmabuf->size);
		ret = dma_map_sgtable(attach->dev, sgt, dir, 0);
	}
	if (ret) {
		sg_free_table(sgt);
		kfree(sgt);
		return ERR_PTR(ret);
	}
	return sgt;
}

static void test_unmap(struct dma_buf_attachment *attach, struct sg_table *sgt,
		       enum dma_data_direction dir)
{
	dma_unmap_sgtable(attach->dev, sgt, dir, 0);
	sg_free_table(sgt);
	kfree(sgt);
}

static int test_vmap(struct dma_buf *dmabuf, struct iosys_map *map)
{
	iosys_map_set_vaddr(map, dmabuf->priv);
	return 0;
}

static void test_release(struct dma_buf *dmabuf)
{
	free_pages_exact(dmabuf->priv, dmabuf->size);
}

static const struct dma_buf_ops test_buffer_ops = {
	.map_dma_buf = test_map,
	.unmap_dma_buf = test_unmap,
	.vmap = test_vmap,
	.release = test_release,
};

static struct dma_buf *test_allocate(struct dma_heap *heap, unsigned long len, u32 fd_flags,
				     u64 heap_flags)
{
	struct test_heap *test = dma_heap_get_drvdata(heap);
	DEFINE_DMA_BUF_EXPORT_INFO(exp_info);
	struct dma_buf *dmabuf;

	msleep(test->add.alloc_ms);
	exp_info.priv = alloc_pages_exact(len, GFP_KERNEL | __GFP_ZERO | __GFP_NOWARN);
	if (!exp_info.priv)
		return ERR_PTR(-ENOMEM);
	exp_info.exp_name = DMA_HEAP_TEST;
	exp_info.ops = &test_buffer_ops;
	exp_info.size = len;
	exp_info.flags = fd_flags;
	dmabuf = dma_buf_export(&exp_info);
	if (IS_ERR(dmabuf))
		free_pages_exact(exp_info.priv, len);
	return dmabuf;
}

static const struct dma_heap_ops test_heap_ops = {
	.allocate = test_allocate,
};

/*
 * Called while device_add() adds the heap: it is no device yet, but its number can be opened
 * already. If it is to fail, its parent is unplugged now. The heap's directory in sysfs goes
 * with that, so that the attribute cannot be added, nor the device.
 */
static umode_t test_heap_visible(struct kobject *kobj, struct attribute *attr, int n)
{
	struct test_heap *test = dev_get_drvdata(kobj_to_dev(kobj));

	msleep(test->add.early_ms);
	if (test->parent)
		root_device_unregister(test->parent);
	test->parent = NULL;
	return attr->mode;
}

static ssize_t test_show(struct device *dev, struct device_attribute *attr, char *buf)
{
	return sysfs_emit(buf, "1\n");
}
static DEVICE_ATTR_RO(test);

static struct attribute *test_heap_attrs[] = {
	&dev_attr_test.attr,
	NULL
};

static const struct attribute_group test_heap_group = {
	.attrs = test_heap_attrs,
	.is_visible = test_heap_visible,
};

static const struct attribute_group *test_heap_groups[] = {
	&test_heap_group,
	NULL
};

/* Called at the end of device_add(), for all heaps */
static int test_add_dev(struct device *dev)
{
	struct test_heap *test;

	if (dev->groups == test_heap_groups) {
		test = dev_get_drvdata(dev);
		msleep(test->add.late_ms);
	}
	return 0;
}

static struct class_interface test_interface = {
	.add_dev = test_add_dev,
};

static int test_register(struct test_heap *test)
{
	struct dma_heap_export_info exp_info = {
		.name = test->add.name,
		.ops = &test_heap_ops,
		.priv = test,
	};
	struct dma_heap *heap;
	struct device *dev;
	int ret;

	heap = dma_heap_create(&exp_info);
	if (IS_ERR(heap))
		return PTR_ERR(heap);
	dev = dma_heap_get_dev(heap);
	dev->groups = test_heap_groups;
	dev_set_drvdata(dev, test);
	if (test->add.fail) {
		test->parent = root_device_register(test->add.name);
		if (IS_ERR(test->parent)) {
			dma_heap_destroy(heap);
			return PTR_ERR(test->parent);
		}
		dev->parent = test->parent;
	}

	ret = dma_heap_register(heap);
	if (test->parent)
		root_device_unregister(test->parent);
	if (ret) {
		dma_heap_destroy(heap);
		return ret;
	}
	test->add.minor = MINOR(dev->devt);
	test->heap = heap;
	return 0;
}

static int add_heap(struct test_file *file, struct dma_heap_test_add __user *user)
{
	struct test_heap *test;
	int ret = -EFAULT;
	u32 minor;

	test = kzalloc(sizeof(*test), GFP_KERNEL);
	if (!test)
		return -ENOMEM;
	if (copy_from_user(&test->add, user, sizeof(test->add)))
		goto err;
	ret = -EINVAL;
	if (strnlen(test->add.name, sizeof(test->add.name)) == sizeof(test->add.name))
		goto err;
	ret = test_register(test);
	if (ret)
		goto err;
	minor = test->add.minor;
	scoped_guard(mutex, &file->lock)
		list_add(&test->list, &file->heaps);
	/* from here on, it may be removed */
	return put_user(minor, &user->minor);
err:
	kfree(test);
	return ret;
}

/* The one of this name, or any of them if that is NULL */
static int remove_heap(struct test_file *file, const char *name)
{
	struct test_heap *test = NULL, *pos;

	scoped_guard(mutex, &file->lock) {
		list_for_each_entry(pos, &file->heaps, list) {
			if (!name || !strcmp(pos->add.name, name)) {
				test = pos;
				list_del(&test->list);
				break;
			}
		}
	}
	if (!test)
		return -ENOENT;
	/* without the lock: this may have to wait */
	dma_heap_remove(test->heap);
	kfree(test);
	return 0;
}

static int import_drop(struct test_file *file)
{
	guard(mutex)(&file->lock);

	if (!file->dmabuf)
		return -ENOTCONN;
	dma_buf_unmap_attachment_unlocked(file->attach, file->sgt, DMA_BIDIRECTIONAL);
	dma_buf_detach(file->dmabuf, file->attach);
	dma_buf_put(file->dmabuf);
	file->dmabuf = NULL;
	return 0;
}

static int import_take(struct test_file *file, int fd)
{
	struct dma_buf_attachment *attach;
	struct dma_buf *dmabuf;
	struct sg_table *sgt;

	guard(mutex)(&file->lock);

	if (file->dmabuf)
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
	file->dmabuf = dmabuf;
	file->attach = attach;
	file->sgt = sgt;
	return 0;
}

static int import_mapped(struct test_file *file, u64 __user *user)
{
	struct scatterlist *sg;
	u64 len = 0;
	int i;

	guard(mutex)(&file->lock);

	if (!file->dmabuf)
		return -ENOTCONN;
	for_each_sgtable_dma_sg(file->sgt, sg, i)
		len += sg_dma_len(sg);
	return put_user(len, user);
}

static int import_invert(struct test_file *file)
{
	struct iosys_map map;
	size_t i, n;
	u64 *p;
	int ret;

	guard(mutex)(&file->lock);

	if (!file->dmabuf)
		return -ENOTCONN;
	n = file->dmabuf->size / sizeof(*p);
	ret = dma_buf_vmap_unlocked(file->dmabuf, &map);
	if (ret)
		return ret;
	ret = dma_buf_begin_cpu_access(file->dmabuf, DMA_BIDIRECTIONAL);
	if (!ret) {
		p = map.vaddr;
		for (i = 0; i < n; i++)
			p[i] = ~p[i];
		ret = dma_buf_end_cpu_access(file->dmabuf, DMA_BIDIRECTIONAL);
	}
	dma_buf_vunmap_unlocked(file->dmabuf, &map);
	return ret;
}

static int find(const char *name)
{
	struct dma_heap *heap = dma_heap_find_by_name(name);

	if (!heap)
		return -ENOENT;
	dma_heap_put(heap);
	return 0;
}

struct killed {
	struct dma_heap *heap;
	struct completion done;
};

static int killed_thread(void *data)
{
	struct killed *killed = data;
	struct dma_buf *dmabuf;

	allow_signal(SIGKILL);
	send_sig(SIGKILL, current, 1);
	dmabuf = dma_heap_buffer_alloc(killed->heap, PAGE_SIZE, O_RDWR, 0);
	if (!IS_ERR(dmabuf))
		dma_buf_put(dmabuf);
	complete(&killed->done);
	return PTR_ERR_OR_ZERO(dmabuf);
}

/* In a thread of its own, as who is killed in a system call does not see its result */
static int alloc_killed(const char *name)
{
	struct killed killed = { .heap = dma_heap_find_by_name(name) };
	struct task_struct *task;
	int ret;

	if (!killed.heap)
		return -ENOENT;
	init_completion(&killed.done);
	task = kthread_create(killed_thread, &killed, DMA_HEAP_TEST);
	if (IS_ERR(task)) {
		ret = PTR_ERR(task);
	} else {
		get_task_struct(task);
		wake_up_process(task);
		wait_for_completion(&killed.done);
		ret = kthread_stop_put(task);
	}
	dma_heap_put(killed.heap);
	return ret;
}

static long dma_heap_test_ioctl(struct file *f, unsigned int cmd, unsigned long arg)
{
	struct test_file *file = f->private_data;
	void __user *user = (void __user *)arg;
	struct dma_heap_test_find named;
	s32 fd;

	switch (cmd) {
	case DMA_HEAP_TEST_IMPORT:
		return get_user(fd, (s32 __user *)user) ?: import_take(file, fd);
	case DMA_HEAP_TEST_DROP:
		return import_drop(file);
	case DMA_HEAP_TEST_MAPPED:
		return import_mapped(file, user);
	case DMA_HEAP_TEST_INVERT:
		return import_invert(file);
	case DMA_HEAP_TEST_ADD:
		return add_heap(file, user);
	case DMA_HEAP_TEST_FIND:
	case DMA_HEAP_TEST_KILLED:
	case DMA_HEAP_TEST_REMOVE:
		if (copy_from_user(&named, user, sizeof(named)))
			return -EFAULT;
		if (strnlen(named.name, sizeof(named.name)) == sizeof(named.name))
			return -EINVAL;
		if (cmd == DMA_HEAP_TEST_FIND)
			return find(named.name);
		if (cmd == DMA_HEAP_TEST_KILLED)
			return alloc_killed(named.name);
		return remove_heap(file, named.name);
	}
	return -ENOTTY;
}

static int dma_heap_test_open(struct inode *inode, struct file *f)
{
	struct test_file *file = kzalloc(sizeof(*file), GFP_KERNEL);

	if (!file)
		return -ENOMEM;
	mutex_init(&file->lock);
	INIT_LIST_HEAD(&file->heaps);
	f->private_data = file;
	return 0;
}

static int dma_heap_test_release(struct inode *inode, struct file *f)
{
	struct test_file *file = f->private_data;

	import_drop(file);
	while (!remove_heap(file, NULL))
		;
	mutex_destroy(&file->lock);
	kfree(file);
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

/* The class of the heaps is the core's; each of their devices has it */
static int __init test_register_interface(void)
{
	struct dma_heap_export_info exp_info = {
		.name = DMA_HEAP_TEST,
		.ops = &test_heap_ops,
	};
	struct dma_heap *heap = dma_heap_create(&exp_info);

	if (IS_ERR(heap))
		return PTR_ERR(heap);
	test_interface.class = dma_heap_get_dev(heap)->class;
	dma_heap_destroy(heap);
	return class_interface_register(&test_interface);
}

static int __init dma_heap_test_init(void)
{
	int ret;

	importer = platform_device_register_simple(DMA_HEAP_TEST, PLATFORM_DEVID_NONE, NULL, 0);
	if (IS_ERR(importer))
		return PTR_ERR(importer);
	dma_set_max_seg_size(&importer->dev, UINT_MAX);
	ret = dma_set_mask_and_coherent(&importer->dev, DMA_BIT_MASK(64));
	if (ret)
		goto err_importer;
	ret = test_register_interface();
	if (ret)
		goto err_importer;
	ret = misc_register(&dma_heap_test_misc);
	if (ret)
		goto err_interface;
	return 0;

err_interface:
	class_interface_unregister(&test_interface);
err_importer:
	platform_device_unregister(importer);
	return ret;
}
module_init(dma_heap_test_init);

static void __exit dma_heap_test_exit(void)
{
	misc_deregister(&dma_heap_test_misc);
	class_interface_unregister(&test_interface);
	platform_device_unregister(importer);
}
module_exit(dma_heap_test_exit);

MODULE_DESCRIPTION("Importer, lookups and heaps for the tests of DMA-BUF heaps");
MODULE_LICENSE("GPL");
MODULE_IMPORT_NS(DMA_BUF);
MODULE_IMPORT_NS(DMA_BUF_HEAP);
