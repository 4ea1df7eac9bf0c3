// SPDX-License-Identifier: GPL-2.0
/*
 * KUnit tests of the DMA-BUF heaps framework
 *
 * The heap that the tests register is in this file, so that they need no heap of
 * the system, and do not touch those that there are. Everything that a test takes
 * is given back when it ends, no matter how it ends.
 */

#include <kunit/resource.h>
#include <kunit/test.h>

#include <linux/atomic.h>
#include <linux/bitmap.h>
#include <linux/bits.h>
#include <linux/completion.h>
#include <linux/cred.h>
#include <linux/dcache.h>
#include <linux/delay.h>
#include <linux/device.h>
#include <linux/dma-buf.h>
#include <linux/dma-heap.h>
#include <linux/dma-mapping.h>
#include <linux/err.h>
#include <linux/fcntl.h>
#include <linux/fdtable.h>
#include <linux/file.h>
#include <linux/fs.h>
#include <linux/iopoll.h>
#include <linux/iosys-map.h>
#include <linux/jiffies.h>
#include <linux/kdev_t.h>
#include <linux/limits.h>
#include <linux/list.h>
#include <linux/mm.h>
#include <linux/mman.h>
#include <linux/module.h>
#include <linux/mount.h>
#include <linux/namei.h>
#include <linux/sched.h>
#include <linux/shmem_fs.h>
#include <linux/sizes.h>
#include <linux/slab.h>
#include <linux/string.h>
#include <linux/sysfs.h>
#include <linux/uaccess.h>
#include <linux/workqueue.h>
#include <uapi/linux/dma-heap.h>

/* As many heaps as there can be */
#define MINORS		128

/* The largest buffer that the fake heap provides */
#define FAKE_MAX	(4 * PAGE_SIZE)

/* For what must happen. Only a failure takes that long */
#define TIMEOUT_S	20

/*
 * The same for what drops references. DEBUG_KOBJECT_RELEASE puts off each release by
 * up to four seconds, and two come one after the other.
 */
#define RELEASE_US	((IS_ENABLED(CONFIG_DEBUG_KOBJECT_RELEASE) ? 20 : 5) * USEC_PER_SEC)

/* For what must not happen: long enough for it to happen if it can */
#define PAUSE_MS	50

#define ROUNDS		50

/* References on a made-up module that are not due to a heap */
#define OWNER_REFS	8

/* What memory is filled with as long as it is bound to a heap's device */
#define BOUND		0x5a

/* Heaps that their tests are done with, and that may still have to be released */
static LIST_HEAD(fakes);

/* Where the suite makes nodes */
static struct vfsmount *nodes;

/**
 * struct fake_heap - a heap of this suite, and what the suite knows about it
 * @test:	test that it is for
 * @name:	name of the test
 * @list:	entry in @fakes, when the test is done with it
 * @heap:	the heap, if it is still the test's to put or to unregister
 * @registered:	which of the two
 * @ops:	operations to create it with
 * @owner:	module to create it for, if it is not this one
 * @dev:	device of the heap
 * @held:	the suite has a reference of its own on @dev
 * @release:	release function of @dev
 * @released:	how often that was called
 * @work:	to be started in the middle of dma_heap_register()
 * @bound:	memory that was bound to @dev, if it has to be
 * @error:	what to fail allocations with
 * @block:	make allocations wait for @resume
 * @entered:	an allocation began to wait
 * @resume:	to let them go on
 * @calls:	how many allocations there were
 * @len:	length that the last one was asked for
 * @fd_flags:	its flags
 * @heap_flags:	its other flags
 * @dmabuf:	the buffer that it made
 * @buffers:	number of buffers that exist
 */
struct fake_heap {
	struct kunit *test;
	const char *name;
	struct list_head list;
	struct dma_heap *heap;
	bool registered;
	const struct dma_heap_ops *ops;
	struct module *owner;
	struct device *dev;
	bool held;
	void (*release)(struct device *dev);
	atomic_t released;
	struct fake_work *work;
	void *bound;
	int error;
	bool block;
	struct completion entered;
	struct completion resume;
	atomic_t calls;
	unsigned long len;
	u32 fd_flags;
	u64 heap_flags;
	struct dma_buf *dmabuf;
	atomic_t buffers;
};

struct fake_buffer {
	struct fake_heap *fake;
	void *vaddr;
};

/*
 * The memory of the fake heap
 */

static struct sg_table *fake_map(struct dma_buf_attachment *attach,
				 enum dma_data_direction dir)
{
	return ERR_PTR(-EOPNOTSUPP);
}

static void fake_unmap(struct dma_buf_attachment *attach, struct sg_table *sgt,
		       enum dma_data_direction dir)
{
}

static int fake_vmap(struct dma_buf *dmabuf, struct iosys_map *map)
{
	struct fake_buffer *buffer = dmabuf->priv;

	iosys_map_set_vaddr(map, buffer->vaddr);

	return 0;
}

static void fake_release(struct dma_buf *dmabuf)
{
	struct fake_buffer *buffer = dmabuf->priv;
	struct fake_heap *fake = buffer->fake;

	kvfree(buffer->vaddr);
	kfree(buffer);
	atomic_dec(&fake->buffers);
}

static const struct dma_buf_ops fake_buf_ops = {
	.map_dma_buf = fake_map,
	.unmap_dma_buf = fake_unmap,
	.vmap = fake_vmap,
	.release = fake_release,
};

static struct dma_buf *fake_allocate(struct dma_heap *heap, unsigned long len,
				     u32 fd_flags, u64 heap_flags)
{
	DEFINE_DMA_BUF_EXPORT_INFO(exp_info);
	struct fake_heap *fake = dma_heap_get_drvdata(heap);
	struct fake_buffer *buffer;
	struct dma_buf *dmabuf;

	/* Taken away already: it must not have come to this */
	if (!fake)
		return ERR_PTR(-EOWNERDEAD);

	atomic_inc(&fake->calls);
	WRITE_ONCE(fake->len, len);
	WRITE_ONCE(fake->fd_flags, fd_flags);
	WRITE_ONCE(fake->heap_flags, heap_flags);

	if (fake->block) {
		complete(&fake->entered);
		wait_for_completion(&fake->resume);
	}

	if (fake->error)
		return ERR_PTR(fake->error);

	/* Likewise */
	if (fake->bound && memchr_inv(fake->bound, BOUND, PAGE_SIZE))
		return ERR_PTR(-EOWNERDEAD);

	if (len > FAKE_MAX)
		return ERR_PTR(-ENOMEM);

	buffer = kzalloc(sizeof(*buffer), GFP_KERNEL);
	if (!buffer)
		return ERR_PTR(-ENOMEM);

	buffer->fake = fake;
	buffer->vaddr = kvzalloc(len, GFP_KERNEL);
	if (!buffer->vaddr) {
		dmabuf = ERR_PTR(-ENOMEM);
		goto err_free;
	}

	exp_info.ops = &fake_buf_ops;
	exp_info.size = len;
	exp_info.flags = fd_flags;
	exp_info.priv = buffer;
	dmabuf = dma_buf_export(&exp_info);
	if (IS_ERR(dmabuf))
		goto err_free;

	atomic_inc(&fake->buffers);
	WRITE_ONCE(fake->dmabuf, dmabuf);

	return dmabuf;

err_free:
	kvfree(buffer->vaddr);
	kfree(buffer);

	return dmabuf;
}

static const struct dma_heap_ops fake_ops = {
	.allocate = fake_allocate,
};

/*
 * Managed heaps. The suite holds a reference on the device of each, from where it
 * sees how many others there are, and stands in for the device's release function.
 * A managed action of the device would not do: these run when the device is removed.
 */

static void fake_dev_release(struct device *dev)
{
	struct fake_heap *fake = dev_get_drvdata(dev);

	/* With the suite's reference still there this is too early, and dev is in use */
	if (!fake->held)
		fake->release(dev);
	atomic_inc(&fake->released);
}

/* Not for long any more when the test has failed: it may have left many heaps like this */
static unsigned long patience_us(struct fake_heap *fake)
{
	if (READ_ONCE(fake->test->status) != KUNIT_SUCCESS)
		return 10 * USEC_PER_MSEC;

	return RELEASE_US;
}

/* How many references there are but for the suite's. More than expected may be on their way out */
static int fake_refs(struct fake_heap *fake, int expected)
{
	int refs;

	read_poll_timeout(kref_read, refs, refs - fake->held <= expected, 1000,
			  patience_us(fake), false, &fake->dev->kobj.kref);

	return refs - fake->held;
}

static int fake_released(struct fake_heap *fake)
{
	int released;

	read_poll_timeout(atomic_read, released, released, 1000,
			  patience_us(fake), false, &fake->released);

	return released;
}

/* Kernel threads do not drop the last reference on a file at once */
static int fake_buffers(struct fake_heap *fake, int expected)
{
	int buffers;

	read_poll_timeout(atomic_read, buffers, buffers <= expected, 1000,
			  patience_us(fake), false, &fake->buffers);

	return buffers;
}

/* Leaves the test with no more than the references that it took from the framework */
static void fake_let_go(struct fake_heap *fake)
{
	KUNIT_ASSERT_GT(fake->test, fake_refs(fake, INT_MAX), 0);
	KUNIT_ASSERT_EQ(fake->test, atomic_read(&fake->released), 0);
	fake->held = false;
	put_device(fake->dev);
	KUNIT_EXPECT_EQ(fake->test, atomic_read(&fake->released), 0);
}

static void fake_adopt(struct fake_heap *fake, struct dma_heap *heap, bool registered)
{
	struct device *dev = dma_heap_get_dev(heap);

	fake->heap = heap;
	fake->registered = registered;
	fake->dev = get_device(dev);
	fake->held = true;
	fake->release = dev->release;
	dev_set_drvdata(dev, fake);
	dev->release = fake_dev_release;
}

static struct dma_heap_export_info fake_info(struct fake_heap *fake, const char *name)
{
	return (struct dma_heap_export_info) {
		.name = name,
		.ops = fake->ops,
		.priv = fake,
	};
}

static int fake_create(struct fake_heap *fake, const char *name)
{
	struct dma_heap_export_info info = fake_info(fake, name);
	struct dma_heap *heap;

	heap = fake->owner ? __dma_heap_create(&info, fake->owner) :
			     dma_heap_create(&info);
	if (IS_ERR(heap))
		return PTR_ERR(heap);

	fake_adopt(fake, heap, false);

	return 0;
}

static int fake_register(struct fake_heap *fake)
{
	int ret;

	ret = dma_heap_register(fake->heap);
	if (!ret)
		fake->registered = true;

	return ret;
}

static int fake_add(struct fake_heap *fake, const char *name)
{
	struct dma_heap_export_info info = fake_info(fake, name);
	struct dma_heap *heap;

	heap = fake->owner ? __dma_heap_add(&info, fake->owner) :
			     dma_heap_add(&info);
	if (IS_ERR(heap))
		return PTR_ERR(heap);

	fake_adopt(fake, heap, true);

	return 0;
}

static void fake_put(struct fake_heap *fake)
{
	struct dma_heap *heap = fake->heap;

	fake->heap = NULL;
	dma_heap_put(heap);
}

static void fake_unregister(struct fake_heap *fake)
{
	struct dma_heap *heap = fake->heap;

	fake->heap = NULL;
	dma_heap_unregister(heap);
}

/* Nobody else has a reference, and when the suite drops its own, the heap is released once */
static void fakes_finish(struct kunit *test)
{
	struct fake_heap *fake, *next;
	int refs;

	list_for_each_entry(fake, &fakes, list) {
		fake->test = test;
		if (!fake->held)
			continue;

		refs = fake_refs(fake, 0);
		KUNIT_EXPECT_EQ_MSG(test, refs, 0, "in %s", fake->name);
		KUNIT_EXPECT_EQ_MSG(test, atomic_read(&fake->released), 0, "in %s", fake->name);
		if (refs > 0) {
			/* Leaked */
			fake->dev->release = fake->release;
			put_device(fake->dev);
			fake->dev = NULL;
		} else if (refs == 0) {
			fake->held = false;
			put_device(fake->dev);
		}
	}

	list_for_each_entry_safe(fake, next, &fakes, list) {
		list_del(&fake->list);
		if (fake->dev) {
			KUNIT_EXPECT_EQ_MSG(test, fake_released(fake), 1, "in %s", fake->name);
			if (!atomic_read(&fake->released)) {
				/* It can still come */
				__module_get(THIS_MODULE);
				continue;
			}
		}

		/* Buffers that were leaked need it, and hold this module */
		if (atomic_read(&fake->buffers))
			continue;

		kfree(fake->bound);
		kfree(fake);
	}
}

static void fake_exit(void *data)
{
	struct fake_heap *fake = data;
	struct kunit *test = fake->test;

	if (fake->heap) {
		if (fake->registered)
			fake_unregister(fake);
		else
			fake_put(fake);
	}

	KUNIT_EXPECT_EQ(test, fake_buffers(fake, 0), 0);

	list_add_tail(&fake->list, &fakes);
	/* Takes seconds otherwise, and is left to the last test, for all heaps at once */
	if (!IS_ENABLED(CONFIG_DEBUG_KOBJECT_RELEASE))
		fakes_finish(test);
}

static struct fake_heap *fake_new(struct kunit *test)
{
	struct fake_heap *fake;

	fake = kzalloc(sizeof(*fake), GFP_KERNEL);
	KUNIT_ASSERT_NOT_NULL(test, fake);

	fake->test = test;
	fake->name = test->name;
	fake->ops = &fake_ops;
	init_completion(&fake->entered);
	init_completion(&fake->resume);
	KUNIT_ASSERT_EQ(test, kunit_add_action_or_reset(test, fake_exit, fake), 0);

	return fake;
}

static struct fake_heap *fake_new_created(struct kunit *test, const char *name)
{
	struct fake_heap *fake = fake_new(test);

	KUNIT_ASSERT_EQ(test, fake_create(fake, name), 0);

	return fake;
}

static struct fake_heap *fake_new_added(struct kunit *test, const char *name)
{
	struct fake_heap *fake = fake_new(test);

	KUNIT_ASSERT_EQ(test, fake_add(fake, name), 0);

	return fake;
}

/* The lowest one that is free. After one was lost it is another one */
static unsigned int next_minor(struct kunit *test)
{
	struct fake_heap *fake = fake_new_added(test, "kunit-next-minor");

	fake_unregister(fake);

	return MINOR(fake->dev->devt);
}

/* Is there a device in the class? */
static bool has_device(struct fake_heap *fake, const char *name)
{
	struct device *dev = class_find_device_by_name(fake->dev->class, name);

	put_device(dev);

	return dev;
}

/*
 * Managed references, files, buffers
 */

KUNIT_DEFINE_ACTION_WRAPPER(put_heap, dma_heap_put, struct dma_heap *);
KUNIT_DEFINE_ACTION_WRAPPER(close_file, __fput_sync, struct file *);
KUNIT_DEFINE_ACTION_WRAPPER(put_buffer, dma_buf_put, struct dma_buf *);
KUNIT_DEFINE_ACTION_WRAPPER(unmount, kern_unmount, struct vfsmount *);

static void close_number(void *fd)
{
	close_fd((uintptr_t)fd);
}

static struct dma_heap *find_heap(struct kunit *test, const char *name)
{
	struct dma_heap *heap = dma_heap_find_by_name(name);

	if (heap)
		KUNIT_ASSERT_EQ(test, kunit_add_action_or_reset(test, put_heap, heap), 0);

	return heap;
}

static struct dma_buf *alloc_buffer(struct kunit *test, struct dma_heap *heap, u64 len,
				    u32 fd_flags, u64 heap_flags)
{
	struct dma_buf *dmabuf = dma_heap_buffer_alloc(heap, len, fd_flags, heap_flags);

	KUNIT_ASSERT_NOT_NULL(test, dmabuf);
	if (!IS_ERR(dmabuf))
		KUNIT_ASSERT_EQ(test, kunit_add_action_or_reset(test, put_buffer, dmabuf), 0);

	return dmabuf;
}

/* What the allocation was answered with; nothing stays allocated */
static int try_alloc(struct kunit *test, struct dma_heap *heap, u64 len,
		     u32 fd_flags, u64 heap_flags)
{
	struct dma_buf *dmabuf = alloc_buffer(test, heap, len, fd_flags, heap_flags);

	if (IS_ERR(dmabuf))
		return PTR_ERR(dmabuf);

	kunit_release_action(test, put_buffer, dmabuf);

	return 0;
}

/* Opens the heap through a node of the suite, which needs no devtmpfs and stays where it is */
static struct file *open_node(struct fake_heap *fake)
{
	const char *name = dev_name(fake->dev);
	struct inode *dir = d_inode(nodes->mnt_root);
	struct path path = { .mnt = nodes };
	struct file *file;
	int ret;

	inode_lock_nested(dir, I_MUTEX_PARENT);
	path.dentry = lookup_one_len(name, nodes->mnt_root, strlen(name));
	ret = PTR_ERR_OR_ZERO(path.dentry);
	if (!ret) {
		ret = vfs_mknod(mnt_idmap(nodes), dir, path.dentry, S_IFCHR | 0600,
				fake->dev->devt);
		if (ret)
			dput(path.dentry);
	}
	inode_unlock(dir);
	if (ret)
		return ERR_PTR(ret);

	file = dentry_open(&path, O_RDWR | O_CLOEXEC, current_cred());

	/* What is open can be opened again, and the next heap has a node of its own */
	inode_lock_nested(dir, I_MUTEX_PARENT);
	vfs_unlink(mnt_idmap(nodes), dir, path.dentry, NULL);
	inode_unlock(dir);
	dput(path.dentry);

	return file;
}

/* As its node is open, this comes to the heap even if that was unregistered */
static int try_open(struct file *file)
{
	struct file *again;

	again = dentry_open(&file->f_path, O_RDWR | O_CLOEXEC, current_cred());
	if (IS_ERR(again))
		return PTR_ERR(again);

	__fput_sync(again);

	return 0;
}

static struct file *open_heap(struct kunit *test, struct fake_heap *fake)
{
	struct file *file;

	file = open_node(fake);
	KUNIT_ASSERT_NOT_ERR_OR_NULL(test, file);
	KUNIT_ASSERT_EQ(test, kunit_add_action_or_reset(test, close_file, file), 0);

	return file;
}

/* The node that the framework made */
static struct file *open_path(struct kunit *test, struct vfsmount *mnt, const char *path)
{
	const struct path root = { .mnt = mnt, .dentry = mnt->mnt_root };
	struct file *file;

	file = file_open_root(&root, path, O_RDWR | O_CLOEXEC, 0);
	KUNIT_ASSERT_NOT_NULL(test, file);
	if (!IS_ERR(file))
		KUNIT_ASSERT_EQ(test, kunit_add_action_or_reset(test, close_file, file), 0);

	return file;
}

static unsigned long map_user(struct kunit *test, struct file *file, unsigned long prot,
			      unsigned long flags)
{
	unsigned long addr;

	if (!IS_ENABLED(CONFIG_MMU))
		kunit_skip(test, "needs the address space of a process");

	addr = kunit_vm_mmap(test, file, 0, PAGE_SIZE, prot, flags, 0);
	KUNIT_ASSERT_NE(test, addr, 0);
	KUNIT_ASSERT_FALSE(test, IS_ERR_VALUE(addr));

	return addr;
}

/* The ioctl of user space; @addr is a page of this test */
static int ioctl_alloc(struct kunit *test, struct file *file, unsigned long addr,
		       struct dma_heap_allocation_data *data)
{
	void __user *uptr = (void __user *)addr;
	int ret;

	KUNIT_ASSERT_EQ(test, copy_to_user(uptr, data, sizeof(*data)), 0);
	ret = vfs_ioctl(file, DMA_HEAP_IOCTL_ALLOC, addr);
	KUNIT_ASSERT_EQ(test, copy_from_user(data, uptr, sizeof(*data)), 0);
	if (!ret)
		KUNIT_ASSERT_EQ(test,
				kunit_add_action_or_reset(test, close_number,
							  (void *)(uintptr_t)data->fd), 0);

	return ret;
}

static int next_fd(void)
{
	int fd = get_unused_fd_flags(0);

	if (fd >= 0)
		put_unused_fd(fd);

	return fd;
}

/*
 * Managed work, for what happens at the same time
 */

/**
 * struct fake_work - something to do in another thread
 * @work:	runs @fn
 * @fn:		what to do
 * @fake:	heap to do it with
 * @start:	what to wait for before
 * @done:	completed afterwards
 * @file:	file that was opened, or to open again
 * @dmabuf:	buffer that was allocated
 * @ret:	what the last call returned
 * @count:	how many were successful
 */
struct fake_work {
	struct work_struct work;
	void (*fn)(struct fake_work *work);
	struct fake_heap *fake;
	struct completion *start;
	struct completion done;
	struct file *file;
	struct dma_buf *dmabuf;
	int ret;
	atomic_t count;
};

static void work_run(struct work_struct *work)
{
	struct fake_work *fw = container_of(work, struct fake_work, work);

	if (fw->start)
		wait_for_completion(fw->start);
	fw->fn(fw);
	complete_all(&fw->done);
}

static void work_exit(void *data)
{
	struct fake_work *fw = data;

	if (fw->start)
		complete_all(fw->start);
	complete_all(&fw->fake->resume);
	cancel_work_sync(&fw->work);

	if (!IS_ERR_OR_NULL(fw->file))
		__fput_sync(fw->file);
	if (!IS_ERR_OR_NULL(fw->dmabuf))
		put_buffer(fw->dmabuf);
}

static struct fake_work *work_new(struct kunit *test, struct fake_heap *fake,
				  void (*fn)(struct fake_work *fw))
{
	struct fake_work *fw;

	fw = kunit_kzalloc(test, sizeof(*fw), GFP_KERNEL);
	KUNIT_ASSERT_NOT_NULL(test, fw);

	INIT_WORK(&fw->work, work_run);
	init_completion(&fw->done);
	fw->fn = fn;
	fw->fake = fake;
	KUNIT_ASSERT_EQ(test, kunit_add_action_or_reset(test, work_exit, fw), 0);

	return fw;
}

static void work_start(struct fake_work *fw)
{
	queue_work(system_unbound_wq, &fw->work);
}

static void work_wait(struct kunit *test, struct fake_work *fw)
{
	KUNIT_ASSERT_NE(test, wait_for_completion_timeout(&fw->done, TIMEOUT_S * HZ), 0);
}

/* Unlike the above, for what must not be done */
static bool work_done_early(struct fake_work *fw)
{
	return wait_for_completion_timeout(&fw->done, msecs_to_jiffies(PAUSE_MS));
}

/*
 * Creation
 */

struct name_param {
	const char *desc;
	const char *name;
	size_t fill;
	int expected;
};

static const struct name_param name_params[] = {
	{ "none", NULL, 0, -EINVAL },
	{ "empty", "", 0, -EINVAL },
	{ "dot", ".", 0, -EINVAL },
	{ "dot dot", "..", 0, -EINVAL },
	{ "slash", "kunit/heap", 0, -EINVAL },
	{ "only a slash", "/", 0, -EINVAL },
	{ "newline at the end", "kunit-heap\n", 0, -EINVAL },
	{ "newline within", "kunit\nheap", 0, -EINVAL },
	{ "only a newline", "\n", 0, -EINVAL },
	{ "too long", NULL, NAME_MAX + 1, -EINVAL },
	{ "as long as can be", NULL, NAME_MAX, 0 },
	{ "one letter", "k", 0, 0 },
	{ "three dots", "...", 0, 0 },
	{ "dot first", ".kunit-heap", 0, 0 },
	{ "format", "kunit-%s%n%d-heap", 0, 0 },
	{ "unit address", "kunit-heap@80000000", 0, 0 },
};

KUNIT_ARRAY_PARAM_DESC(name, name_params, desc);

static void create_name(struct kunit *test)
{
	const struct name_param *param = test->param_value;
	const char *name = param->name;
	struct fake_heap *fake, *added;
	char *filled;

	if (param->fill) {
		filled = kunit_kzalloc(test, param->fill + 1, GFP_KERNEL);
		KUNIT_ASSERT_NOT_NULL(test, filled);
		name = memset(filled, 'k', param->fill);
	}

	fake = fake_new(test);
	KUNIT_ASSERT_EQ(test, fake_create(fake, name), param->expected);
	added = fake_new(test);
	KUNIT_ASSERT_EQ(test, fake_add(added, name), param->expected);
	if (param->expected)
		return;

	KUNIT_EXPECT_STREQ(test, dma_heap_get_name(fake->heap), name);
	KUNIT_EXPECT_STREQ(test, dma_heap_get_name(added->heap), name);
	KUNIT_EXPECT_PTR_EQ(test, find_heap(test, name), added->heap);
	KUNIT_EXPECT_TRUE(test, has_device(added, name));
}

static void create_ops(struct kunit *test)
{
	static const struct dma_heap_ops no_allocate;
	const struct dma_heap_ops *bad[] = { NULL, &no_allocate };
	struct fake_heap *fake;
	int i;

	for (i = 0; i < ARRAY_SIZE(bad); i++) {
		fake = fake_new(test);
		fake->ops = bad[i];
		KUNIT_EXPECT_EQ(test, fake_create(fake, "kunit-heap"), -EINVAL);
		fake = fake_new(test);
		fake->ops = bad[i];
		KUNIT_EXPECT_EQ(test, fake_add(fake, "kunit-heap"), -EINVAL);
		KUNIT_EXPECT_PTR_EQ(test, find_heap(test, "kunit-heap"), NULL);
	}
}

static void create_put(struct kunit *test)
{
	struct fake_heap *fake = fake_new_created(test, "kunit-heap");
	/* Names may be the same until the heaps are registered */
	struct fake_heap *other = fake_new_created(test, "kunit-heap");

	KUNIT_EXPECT_EQ(test, fake_refs(fake, 1), 1);
	KUNIT_EXPECT_PTR_EQ(test, find_heap(test, "kunit-heap"), NULL);
	KUNIT_EXPECT_FALSE(test, has_device(fake, "kunit-heap"));

	fake_put(fake);
	KUNIT_EXPECT_EQ(test, fake_refs(fake, 0), 0);
	KUNIT_EXPECT_EQ(test, fake_refs(other, 1), 1);
}

static void put_null(struct kunit *test)
{
	dma_heap_put(NULL);
}

static void accessors(struct kunit *test)
{
	char name[] = "kunit-heap";
	struct fake_heap *fake = fake_new(test);
	struct dma_heap_export_info info = fake_info(fake, name);
	struct dma_heap *heap;
	struct device *dev;
	char again[] = "kunit-heap-2";

	heap = dma_heap_create(&info);
	KUNIT_ASSERT_NOT_ERR_OR_NULL(test, heap);
	fake_adopt(fake, heap, false);

	/* The framework uses neither when the function has returned */
	memset(name, 'x', sizeof(name) - 1);
	memset(&info, 0, sizeof(info));

	KUNIT_EXPECT_STREQ(test, dma_heap_get_name(heap), "kunit-heap");
	KUNIT_EXPECT_PTR_EQ(test, dma_heap_get_drvdata(heap), (void *)fake);

	dev = dma_heap_get_dev(heap);
	KUNIT_ASSERT_NOT_NULL(test, dev);
	KUNIT_EXPECT_STREQ(test, dev_name(dev), "kunit-heap");
	KUNIT_ASSERT_NOT_NULL(test, dev->class);
	KUNIT_EXPECT_STREQ(test, dev->class->name, "dma_heap");
	KUNIT_ASSERT_NOT_NULL(test, dev->dma_mask);
	KUNIT_EXPECT_EQ(test, *dev->dma_mask, DMA_BIT_MASK(64));
	KUNIT_EXPECT_EQ(test, dev->coherent_dma_mask, DMA_BIT_MASK(64));

	/* Registration changes none of it */
	KUNIT_ASSERT_EQ(test, fake_register(fake), 0);
	KUNIT_EXPECT_STREQ(test, dma_heap_get_name(heap), "kunit-heap");
	KUNIT_EXPECT_PTR_EQ(test, dma_heap_get_drvdata(heap), (void *)fake);
	KUNIT_EXPECT_PTR_EQ(test, dma_heap_get_dev(heap), dev);
	KUNIT_EXPECT_EQ(test, *dev->dma_mask, DMA_BIT_MASK(64));
	KUNIT_EXPECT_EQ(test, try_alloc(test, heap, 1, O_RDWR, 0), 0);

	fake = fake_new_added(test, again);
	memset(again, 'x', sizeof(again) - 1);
	KUNIT_EXPECT_STREQ(test, dma_heap_get_name(fake->heap), "kunit-heap-2");
}

/*
 * Registration
 */

static void register_publishes(struct kunit *test)
{
	struct fake_heap *fake = fake_new_created(test, "kunit-heap");

	KUNIT_ASSERT_EQ(test, fake_register(fake), 0);
	KUNIT_EXPECT_PTR_EQ(test, find_heap(test, "kunit-heap"), fake->heap);
	KUNIT_EXPECT_TRUE(test, has_device(fake, "kunit-heap"));
	KUNIT_EXPECT_LT(test, MINOR(fake->dev->devt), MINORS);
	open_heap(test, fake);
}

static void register_twice(struct kunit *test)
{
	struct fake_heap *fake = fake_new_added(test, "kunit-heap");
	unsigned int minor = next_minor(test);
	int refs = kref_read(&fake->dev->kobj.kref);
	dev_t devt = fake->dev->devt;

	KUNIT_EXPECT_EQ(test, dma_heap_register(fake->heap), -EINVAL);

	KUNIT_EXPECT_EQ(test, fake->dev->devt, devt);
	KUNIT_EXPECT_EQ(test, kref_read(&fake->dev->kobj.kref), refs);
	KUNIT_EXPECT_PTR_EQ(test, find_heap(test, "kunit-heap"), fake->heap);
	KUNIT_EXPECT_TRUE(test, has_device(fake, "kunit-heap"));
	KUNIT_EXPECT_EQ(test, try_alloc(test, fake->heap, 1, O_RDWR, 0), 0);
	open_heap(test, fake);
	KUNIT_EXPECT_EQ(test, next_minor(test), minor);
}

static void register_duplicate(struct kunit *test)
{
	struct fake_heap *fake = fake_new_added(test, "kunit-heap");
	unsigned int minor = next_minor(test);
	struct fake_heap *dup = fake_new_created(test, "kunit-heap");

	KUNIT_EXPECT_EQ(test, fake_register(dup), -EEXIST);
	KUNIT_EXPECT_EQ(test, fake_register(dup), -EEXIST);
	KUNIT_EXPECT_EQ(test, fake_refs(dup, 1), 1);
	KUNIT_EXPECT_EQ(test, next_minor(test), minor);

	/* The other one is not affected */
	KUNIT_EXPECT_PTR_EQ(test, find_heap(test, "kunit-heap"), fake->heap);
	KUNIT_EXPECT_TRUE(test, has_device(fake, "kunit-heap"));
	KUNIT_EXPECT_EQ(test, try_alloc(test, fake->heap, 1, O_RDWR, 0), 0);
	open_heap(test, fake);

	/* When it is gone, the name is free */
	fake_unregister(fake);
	KUNIT_ASSERT_EQ(test, fake_register(dup), 0);
	KUNIT_EXPECT_PTR_EQ(test, find_heap(test, "kunit-heap"), dup->heap);
	KUNIT_EXPECT_EQ(test, try_alloc(test, dup->heap, 1, O_RDWR, 0), 0);
	KUNIT_EXPECT_EQ(test, atomic_read(&dup->calls), 1);
}

/* Its parent has no place in sysfs, so the device cannot get one */
static int fake_register_orphan(struct kunit *test, struct fake_heap *fake)
{
	fake->dev->parent = fake_new_created(test, "kunit-parent")->dev;

	return fake_register(fake);
}

static void register_fails(struct kunit *test)
{
	unsigned int minor = next_minor(test);
	struct fake_heap *fake = fake_new_created(test, "kunit-heap");

	KUNIT_ASSERT_EQ(test, fake_register_orphan(test, fake), -ENOENT);
	KUNIT_EXPECT_EQ(test, fake_refs(fake, 1), 1);
	KUNIT_EXPECT_PTR_EQ(test, find_heap(test, "kunit-heap"), NULL);
	KUNIT_EXPECT_FALSE(test, has_device(fake, "kunit-heap"));
	KUNIT_EXPECT_EQ(test, next_minor(test), minor);

	/* As it could have been seen, this one is good for nothing, but its name is free */
	KUNIT_EXPECT_EQ(test, dma_heap_register(fake->heap), -EINVAL);
	KUNIT_EXPECT_EQ(test, fake_add(fake_new(test), "kunit-heap"), 0);
	KUNIT_EXPECT_EQ(test, dma_heap_register(fake->heap), -EINVAL);

	fake_put(fake);
	KUNIT_EXPECT_EQ(test, fake_refs(fake, 0), 0);
	KUNIT_EXPECT_PTR_NE(test, find_heap(test, "kunit-heap"), NULL);
}

static void add_duplicate(struct kunit *test)
{
	struct fake_heap *fake = fake_new_added(test, "kunit-heap");
	int refs = kref_read(&fake->dev->kobj.kref);
	unsigned int minor = next_minor(test);
	struct fake_heap *dup = fake_new(test);

	KUNIT_EXPECT_EQ(test, fake_add(dup, "kunit-heap"), -EEXIST);
	KUNIT_EXPECT_EQ(test, kref_read(&fake->dev->kobj.kref), refs);
	KUNIT_EXPECT_EQ(test, next_minor(test), minor);
	KUNIT_EXPECT_PTR_EQ(test, find_heap(test, "kunit-heap"), fake->heap);
	KUNIT_EXPECT_EQ(test, try_alloc(test, fake->heap, 1, O_RDWR, 0), 0);
	KUNIT_EXPECT_EQ(test, atomic_read(&dup->calls), 0);

	fake_unregister(fake);
	KUNIT_EXPECT_EQ(test, fake_add(dup, "kunit-heap"), 0);
	KUNIT_EXPECT_PTR_EQ(test, find_heap(test, "kunit-heap"), dup->heap);
}

static int count_device(struct device *dev, void *data)
{
	unsigned int *count = data;

	(*count)++;

	return 0;
}

static void minors(struct kunit *test)
{
	DECLARE_BITMAP(seen, MINORS) = { };
	struct fake_heap **heaps, *extra, *probe;
	unsigned int others = 0, n, i;
	const struct class *class;
	char name[16];
	int round;

	heaps = kunit_kcalloc(test, MINORS, sizeof(*heaps), GFP_KERNEL);
	KUNIT_ASSERT_NOT_NULL(test, heaps);

	extra = fake_new_created(test, "kunit-extra");
	class = extra->dev->class;
	KUNIT_ASSERT_EQ(test, class_for_each_device(class, NULL, &others, count_device), 0);
	KUNIT_ASSERT_LT(test, others, MINORS);
	n = MINORS - others;

	/* And once more when all of them were free again */
	for (round = 0; round < 2; round++) {
		bitmap_zero(seen, MINORS);
		for (i = 0; i < n; i++) {
			snprintf(name, sizeof(name), "kunit-%u", i);
			heaps[i] = fake_new_added(test, name);
			KUNIT_ASSERT_LT(test, MINOR(heaps[i]->dev->devt), MINORS);
			KUNIT_EXPECT_FALSE(test,
					   __test_and_set_bit(MINOR(heaps[i]->dev->devt), seen));
		}

		/* One more is one too many */
		KUNIT_EXPECT_EQ(test, fake_register(extra), -EBUSY);
		KUNIT_EXPECT_EQ(test, fake_refs(extra, 1), 1);
		KUNIT_EXPECT_FALSE(test, has_device(extra, "kunit-extra"));
		KUNIT_EXPECT_PTR_EQ(test, find_heap(test, "kunit-extra"), NULL);
		KUNIT_EXPECT_EQ(test, fake_add(fake_new(test), "kunit-more"), -EBUSY);
		/* The name is the first thing that is looked at */
		KUNIT_EXPECT_EQ(test, fake_add(fake_new(test), "kunit-0"), -EEXIST);

		/* None of this matters to those that are there */
		for (i = 0; i < n; i++) {
			snprintf(name, sizeof(name), "kunit-%u", i);
			KUNIT_EXPECT_PTR_EQ(test, find_heap(test, name), heaps[i]->heap);
			kunit_release_action(test, put_heap, heaps[i]->heap);
			KUNIT_EXPECT_EQ(test, try_alloc(test, heaps[i]->heap, 1, O_RDWR, 0), 0);
			KUNIT_EXPECT_EQ(test, atomic_read(&heaps[i]->calls), 1);
		}

		/* A minor that becomes free can be had, once */
		fake_unregister(heaps[n / 2]);
		probe = fake_new(test);
		KUNIT_ASSERT_EQ(test, fake_add(probe, "kunit-probe"), 0);
		KUNIT_EXPECT_EQ(test, probe->dev->devt, heaps[n / 2]->dev->devt);
		KUNIT_EXPECT_EQ(test, fake_register(extra), -EBUSY);
		fake_unregister(probe);

		for (i = 0; i < n; i++) {
			if (i != n / 2)
				fake_unregister(heaps[i]);
		}
	}

	/* Being one too many was not its last chance */
	KUNIT_EXPECT_EQ(test, fake_register(extra), 0);
}

/*
 * Lookup
 */

static void find_by_name(struct kunit *test)
{
	struct fake_heap *fake = fake_new_created(test, "kunit-heap");
	struct fake_heap *other = fake_new_added(test, "kunit-heap-2");
	int refs;

	KUNIT_EXPECT_PTR_EQ(test, find_heap(test, "kunit-heap"), NULL);
	KUNIT_ASSERT_EQ(test, fake_register(fake), 0);
	refs = kref_read(&fake->dev->kobj.kref);

	KUNIT_EXPECT_PTR_EQ(test, find_heap(test, "kunit-heap"), fake->heap);
	KUNIT_EXPECT_PTR_EQ(test, find_heap(test, "kunit-heap\n"), fake->heap);
	KUNIT_EXPECT_PTR_EQ(test, find_heap(test, "kunit-heap-2"), other->heap);
	KUNIT_EXPECT_PTR_EQ(test, find_heap(test, "kunit-heap-2\n"), other->heap);
	KUNIT_EXPECT_EQ(test, kref_read(&fake->dev->kobj.kref), refs + 2);

	KUNIT_EXPECT_PTR_EQ(test, find_heap(test, ""), NULL);
	KUNIT_EXPECT_PTR_EQ(test, find_heap(test, "\n"), NULL);
	KUNIT_EXPECT_PTR_EQ(test, find_heap(test, "kunit-hea"), NULL);
	KUNIT_EXPECT_PTR_EQ(test, find_heap(test, "kunit-hea\n"), NULL);
	KUNIT_EXPECT_PTR_EQ(test, find_heap(test, "kunit-heap-"), NULL);
	KUNIT_EXPECT_PTR_EQ(test, find_heap(test, "kunit-heap-22"), NULL);
	KUNIT_EXPECT_PTR_EQ(test, find_heap(test, "kunit-heap\n\n"), NULL);
	KUNIT_EXPECT_PTR_EQ(test, find_heap(test, "\nkunit-heap"), NULL);
	KUNIT_EXPECT_PTR_EQ(test, find_heap(test, " kunit-heap"), NULL);
	KUNIT_EXPECT_PTR_EQ(test, find_heap(test, "kunit-heap "), NULL);
	KUNIT_EXPECT_PTR_EQ(test, find_heap(test, "Kunit-heap"), NULL);
	/* A miss takes nothing */
	KUNIT_EXPECT_EQ(test, kref_read(&fake->dev->kobj.kref), refs + 2);

	kunit_release_action(test, put_heap, fake->heap);
	kunit_release_action(test, put_heap, fake->heap);
	KUNIT_EXPECT_EQ(test, kref_read(&fake->dev->kobj.kref), refs);
}

/* A module that the tests can count the references of, and pretend to unload */
#ifdef CONFIG_MODULE_UNLOAD

static struct module *owner_new(struct kunit *test)
{
	struct module *owner = kunit_kzalloc(test, sizeof(*owner), GFP_KERNEL);

	KUNIT_ASSERT_NOT_NULL(test, owner);
	strscpy(owner->name, "kunit-owner");
	owner->state = MODULE_STATE_LIVE;
	/* More than any of the tests could lose, so that all is seen */
	atomic_set(&owner->refcnt, OWNER_REFS + 1);

	return owner;
}

static int owner_refs(struct module *owner)
{
	return module_refcount(owner) - OWNER_REFS;
}

static struct fake_heap *fake_new_owned(struct kunit *test, struct module *owner)
{
	struct fake_heap *fake = fake_new(test);

	fake->owner = owner;

	return fake;
}

static void module_is_pinned(struct kunit *test)
{
	struct module *owner = owner_new(test);
	struct fake_heap *fake = fake_new_owned(test, owner);
	struct dma_heap *heap;
	struct file *file;

	KUNIT_ASSERT_EQ(test, fake_add(fake, "kunit-heap"), 0);
	/* A heap does not keep the module that is to unregister it */
	KUNIT_EXPECT_EQ(test, owner_refs(owner), 0);

	heap = find_heap(test, "kunit-heap");
	KUNIT_ASSERT_PTR_EQ(test, heap, fake->heap);
	KUNIT_EXPECT_EQ(test, owner_refs(owner), 1);
	file = open_heap(test, fake);
	KUNIT_EXPECT_EQ(test, owner_refs(owner), 2);

	/* Neither a miss nor an allocation takes one or drops one */
	KUNIT_EXPECT_PTR_EQ(test, find_heap(test, "kunit-hea"), NULL);
	KUNIT_EXPECT_EQ(test, try_alloc(test, heap, 1, O_RDWR, 0), 0);
	KUNIT_EXPECT_EQ(test, owner_refs(owner), 2);

	kunit_release_action(test, close_file, file);
	KUNIT_EXPECT_EQ(test, owner_refs(owner), 1);
	kunit_release_action(test, put_heap, heap);
	KUNIT_EXPECT_EQ(test, owner_refs(owner), 0);

	fake_unregister(fake);
	KUNIT_EXPECT_EQ(test, owner_refs(owner), 0);
}

/* What was taken before a heap is unregistered is given back afterwards */
static void module_is_pinned_longer(struct kunit *test)
{
	struct module *owner = owner_new(test);
	struct fake_heap *fake = fake_new_owned(test, owner);
	struct dma_heap *heap;
	struct file *file;

	KUNIT_ASSERT_EQ(test, fake_add(fake, "kunit-heap"), 0);
	heap = find_heap(test, "kunit-heap");
	KUNIT_ASSERT_PTR_EQ(test, heap, fake->heap);
	file = open_heap(test, fake);

	fake_unregister(fake);
	KUNIT_EXPECT_EQ(test, owner_refs(owner), 2);
	KUNIT_EXPECT_EQ(test, try_open(file), -ENODEV);
	KUNIT_EXPECT_EQ(test, try_alloc(test, heap, 1, O_RDWR, 0), -ENODEV);
	KUNIT_EXPECT_EQ(test, owner_refs(owner), 2);
	kunit_release_action(test, put_heap, heap);
	KUNIT_EXPECT_EQ(test, owner_refs(owner), 1);
	kunit_release_action(test, close_file, file);
	KUNIT_EXPECT_EQ(test, owner_refs(owner), 0);
}

/* The one who creates a heap has no reference on its module, so none is dropped with it */
static void module_of_creator(struct kunit *test)
{
	struct module *owner = owner_new(test);
	struct fake_heap *fake = fake_new_owned(test, owner);

	KUNIT_ASSERT_EQ(test, fake_create(fake, "kunit-heap"), 0);
	fake_put(fake);
	KUNIT_EXPECT_EQ(test, owner_refs(owner), 0);

	/* Not registered because the device could not be added */
	fake = fake_new_owned(test, owner);
	KUNIT_ASSERT_EQ(test, fake_create(fake, "kunit-heap"), 0);
	KUNIT_ASSERT_EQ(test, fake_register_orphan(test, fake), -ENOENT);
	KUNIT_EXPECT_EQ(test, owner_refs(owner), 0);
	fake_put(fake);
	KUNIT_EXPECT_EQ(test, owner_refs(owner), 0);

	/* Not registered because another one has the name */
	fake_new_added(test, "kunit-heap");
	fake = fake_new_owned(test, owner);
	KUNIT_ASSERT_EQ(test, fake_create(fake, "kunit-heap"), 0);
	KUNIT_ASSERT_EQ(test, fake_register(fake), -EEXIST);
	KUNIT_EXPECT_EQ(test, owner_refs(owner), 0);
	fake_put(fake);
	KUNIT_EXPECT_EQ(test, owner_refs(owner), 0);

	/* Dropped by the framework itself */
	KUNIT_EXPECT_EQ(test, fake_add(fake_new_owned(test, owner), "kunit-heap"), -EEXIST);
	KUNIT_EXPECT_EQ(test, owner_refs(owner), 0);
}

static void module_is_going(struct kunit *test)
{
	struct module *owner = owner_new(test);
	struct fake_heap *fake = fake_new_owned(test, owner);
	struct file *file;
	int refs;

	KUNIT_ASSERT_EQ(test, fake_add(fake, "kunit-heap"), 0);
	file = open_heap(test, fake);
	refs = kref_read(&fake->dev->kobj.kref);

	/* Its exit function has not come to the heap yet, and nobody can get at it any more */
	owner->state = MODULE_STATE_GOING;
	KUNIT_EXPECT_PTR_EQ(test, find_heap(test, "kunit-heap"), NULL);
	KUNIT_EXPECT_EQ(test, try_open(file), -ENODEV);
	KUNIT_EXPECT_EQ(test, fake_refs(fake, refs - 1), refs - 1);
	KUNIT_EXPECT_EQ(test, owner_refs(owner), 1);
}

#else

static void module_is_pinned(struct kunit *test)
{
	kunit_skip(test, "modules are never unloaded");
}

static void module_is_pinned_longer(struct kunit *test)
{
	kunit_skip(test, "modules are never unloaded");
}

static void module_of_creator(struct kunit *test)
{
	kunit_skip(test, "modules are never unloaded");
}

static void module_is_going(struct kunit *test)
{
	kunit_skip(test, "modules are never unloaded");
}

#endif

/*
 * Allocation
 */

static void alloc(struct kunit *test)
{
	struct fake_heap *fake = fake_new_added(test, "kunit-heap");
	struct dma_heap *heap = find_heap(test, "kunit-heap");
	int refs = kref_read(&fake->dev->kobj.kref);
	struct dma_buf *dmabuf;
	struct iosys_map map;

	KUNIT_ASSERT_PTR_EQ(test, heap, fake->heap);
	dmabuf = alloc_buffer(test, heap, PAGE_SIZE, O_RDWR | O_CLOEXEC, 0);
	KUNIT_ASSERT_NOT_ERR_OR_NULL(test, dmabuf);
	KUNIT_EXPECT_PTR_EQ(test, dmabuf, fake->dmabuf);
	KUNIT_EXPECT_EQ(test, dmabuf->size, PAGE_SIZE);
	KUNIT_EXPECT_EQ(test, file_count(dmabuf->file), 1);
	KUNIT_EXPECT_EQ(test, atomic_read(&fake->calls), 1);
	KUNIT_EXPECT_EQ(test, fake_buffers(fake, 1), 1);
	/* A buffer keeps its exporter, not the heap */
	KUNIT_EXPECT_EQ(test, kref_read(&fake->dev->kobj.kref), refs);

	KUNIT_ASSERT_EQ(test, dma_buf_vmap_unlocked(dmabuf, &map), 0);
	KUNIT_EXPECT_PTR_EQ(test, memchr_inv(map.vaddr, 0, PAGE_SIZE), NULL);
	dma_buf_vunmap_unlocked(dmabuf, &map);

	/* Each one is another one */
	KUNIT_EXPECT_PTR_NE(test, alloc_buffer(test, heap, PAGE_SIZE, O_RDWR, 0), dmabuf);
	KUNIT_EXPECT_EQ(test, fake_buffers(fake, 2), 2);
	kunit_release_action(test, put_buffer, dmabuf);
	KUNIT_EXPECT_EQ(test, fake_buffers(fake, 1), 1);
}

static void alloc_error(struct kunit *test)
{
	struct fake_heap *fake = fake_new_added(test, "kunit-heap");

	fake->error = -EINTR;
	KUNIT_EXPECT_EQ(test, try_alloc(test, fake->heap, 1, O_RDWR, 0), -EINTR);
	fake->error = -ENOMEM;
	KUNIT_EXPECT_EQ(test, try_alloc(test, fake->heap, 1, O_RDWR, 0), -ENOMEM);
	KUNIT_EXPECT_EQ(test, atomic_read(&fake->calls), 2);
	fake->error = 0;
	KUNIT_EXPECT_EQ(test, try_alloc(test, fake->heap, 1, O_RDWR, 0), 0);
}

static void alloc_fd_flags(struct kunit *test)
{
	static const u32 valid[] = {
		O_RDONLY, O_WRONLY, O_RDWR,
		O_RDONLY | O_CLOEXEC, O_WRONLY | O_CLOEXEC, O_RDWR | O_CLOEXEC,
	};
	struct fake_heap *fake = fake_new_added(test, "kunit-heap");
	int i;

	for (i = 0; i < 32; i++) {
		if (BIT(i) & (O_ACCMODE | O_CLOEXEC))
			continue;

		KUNIT_EXPECT_EQ_MSG(test,
				    try_alloc(test, fake->heap, 1, O_RDWR | BIT(i), 0),
				    -EINVAL, "bit %d", i);
	}
	KUNIT_EXPECT_EQ(test, try_alloc(test, fake->heap, 1, U32_MAX, 0), -EINVAL);
	KUNIT_EXPECT_EQ(test, atomic_read(&fake->calls), 0);

	for (i = 0; i < ARRAY_SIZE(valid); i++) {
		KUNIT_EXPECT_EQ(test, try_alloc(test, fake->heap, 1, valid[i], 0), 0);
		KUNIT_EXPECT_EQ(test, fake->fd_flags, valid[i]);
	}
}

static void alloc_heap_flags(struct kunit *test)
{
	struct fake_heap *fake = fake_new_added(test, "kunit-heap");
	int i;

	for (i = 0; i < 64; i++)
		KUNIT_EXPECT_EQ_MSG(test,
				    try_alloc(test, fake->heap, 1, O_RDWR, BIT_ULL(i)),
				    -EINVAL, "bit %d", i);
	KUNIT_EXPECT_EQ(test, try_alloc(test, fake->heap, 1, O_RDWR, U64_MAX), -EINVAL);
	KUNIT_EXPECT_EQ(test, atomic_read(&fake->calls), 0);

	KUNIT_EXPECT_EQ(test, try_alloc(test, fake->heap, 1, O_RDWR, 0), 0);
	KUNIT_EXPECT_EQ(test, fake->heap_flags, 0);
}

struct len_param {
	const char *desc;
	u64 len;
	int expected;
	u64 rounded;
};

static const struct len_param len_params[] = {
	{ "zero", 0, -EINVAL, },
	{ "one", 1, 0, PAGE_SIZE },
	{ "page less one", PAGE_SIZE - 1, 0, PAGE_SIZE },
	{ "page", PAGE_SIZE, 0, PAGE_SIZE },
	{ "page and one", PAGE_SIZE + 1, 0, 2 * PAGE_SIZE },
	{ "largest", FAKE_MAX, 0, FAKE_MAX },
	{ "largest and one", FAKE_MAX + 1, -ENOMEM, FAKE_MAX + PAGE_SIZE },
	{ "2 GiB", SZ_2G, -ENOMEM, SZ_2G },
	{ "4 GiB less a page", SZ_4G - PAGE_SIZE, -ENOMEM, SZ_4G - PAGE_SIZE },
	{ "4 GiB less one", SZ_4G - 1, -ENOMEM, SZ_4G },
	{ "4 GiB", SZ_4G, -ENOMEM, SZ_4G },
	{ "4 GiB and one", SZ_4G + 1, -ENOMEM, SZ_4G + PAGE_SIZE },
	{ "1 TiB", BIT_ULL(40), -ENOMEM, BIT_ULL(40) },
	{ "sign bit", BIT_ULL(63), -ENOMEM, BIT_ULL(63) },
	{ "last that can be aligned", U64_MAX - PAGE_SIZE + 1, -ENOMEM, U64_MAX - PAGE_SIZE + 1 },
	{ "overflows", U64_MAX - PAGE_SIZE + 2, -EINVAL, },
	{ "all bits", U64_MAX, -EINVAL, },
};

KUNIT_ARRAY_PARAM_DESC(len, len_params, desc);

static void alloc_len(struct kunit *test)
{
	const struct len_param *param = test->param_value;
	struct fake_heap *fake = fake_new_added(test, "kunit-heap");
	/* What an unsigned long cannot express is no matter for the heap */
	bool called = param->rounded && param->rounded <= ULONG_MAX;

	KUNIT_EXPECT_EQ(test, try_alloc(test, fake->heap, param->len, O_RDWR, 0),
			param->expected);
	KUNIT_EXPECT_EQ(test, atomic_read(&fake->calls), called);
	if (called)
		KUNIT_EXPECT_EQ(test, fake->len, param->rounded);
}

/*
 * What user space sees
 */

static void ioctl(struct kunit *test)
{
	struct fake_heap *fake = fake_new_added(test, "kunit-heap");
	struct file *file = open_heap(test, fake);
	unsigned long addr = map_user(test, NULL, PROT_READ | PROT_WRITE,
				      MAP_ANONYMOUS | MAP_PRIVATE);
	struct dma_heap_allocation_data data = {
		.len = PAGE_SIZE + 1,
		.fd_flags = O_RDWR | O_CLOEXEC,
	};
	struct dma_buf *dmabuf;

	KUNIT_ASSERT_EQ(test, ioctl_alloc(test, file, addr, &data), 0);
	KUNIT_EXPECT_EQ(test, atomic_read(&fake->calls), 1);
	KUNIT_EXPECT_EQ(test, fake->len, 2 * PAGE_SIZE);
	KUNIT_EXPECT_EQ(test, fake->fd_flags, O_RDWR | O_CLOEXEC);

	dmabuf = dma_buf_get(data.fd);
	KUNIT_ASSERT_NOT_ERR_OR_NULL(test, dmabuf);
	KUNIT_EXPECT_PTR_EQ(test, dmabuf, fake->dmabuf);
	dma_buf_put(dmabuf);

	/* The number was the only reference */
	kunit_release_action(test, close_number, (void *)(uintptr_t)data.fd);
	KUNIT_EXPECT_EQ(test, fake_buffers(fake, 0), 0);
}

static void ioctl_bad(struct kunit *test)
{
	static const struct dma_heap_allocation_data bad[] = {
		{ .len = 0, .fd_flags = O_RDWR },
		{ .len = U64_MAX, .fd_flags = O_RDWR },
		{ .len = 1, .fd_flags = O_RDWR | O_NONBLOCK },
		{ .len = 1, .fd_flags = O_RDWR, .heap_flags = 1 },
		{ .len = 1, .fd_flags = O_RDWR, .heap_flags = BIT_ULL(63) },
		{ .len = 1, .fd_flags = O_RDWR, .fd = 1 },
	};
	struct fake_heap *fake = fake_new_added(test, "kunit-heap");
	struct file *file = open_heap(test, fake);
	unsigned long addr = map_user(test, NULL, PROT_READ | PROT_WRITE,
				      MAP_ANONYMOUS | MAP_PRIVATE);
	struct dma_heap_allocation_data data;
	int i;

	for (i = 0; i < ARRAY_SIZE(bad); i++) {
		data = bad[i];
		KUNIT_EXPECT_EQ_MSG(test, ioctl_alloc(test, file, addr, &data), -EINVAL,
				    "request %d", i);
	}
	KUNIT_EXPECT_EQ(test, atomic_read(&fake->calls), 0);

	data = (struct dma_heap_allocation_data) { .len = BIT_ULL(40), .fd_flags = O_RDWR };
	KUNIT_EXPECT_EQ(test, ioctl_alloc(test, file, addr, &data), -ENOMEM);
	KUNIT_EXPECT_EQ(test, fake_buffers(fake, 0), 0);
}

/* The request can be read, and the answer cannot be written */
static void ioctl_fault(struct kunit *test)
{
	const struct dma_heap_allocation_data data = {
		.len = PAGE_SIZE,
		.fd_flags = O_RDWR | O_CLOEXEC,
	};
	struct fake_heap *fake = fake_new_added(test, "kunit-heap");
	struct file *file = open_heap(test, fake);
	struct file *memory;
	unsigned long addr;
	int fd;

	memory = shmem_file_setup("kunit-ioctl", PAGE_SIZE, VM_NORESERVE);
	KUNIT_ASSERT_NOT_ERR_OR_NULL(test, memory);
	KUNIT_ASSERT_EQ(test, kunit_add_action_or_reset(test, close_file, memory), 0);
	addr = map_user(test, memory, PROT_READ | PROT_WRITE, MAP_SHARED);
	KUNIT_ASSERT_EQ(test, copy_to_user((void __user *)addr, &data, sizeof(data)), 0);
	addr = map_user(test, memory, PROT_READ, MAP_SHARED);

	fd = next_fd();
	KUNIT_ASSERT_GE(test, fd, 0);
	KUNIT_EXPECT_EQ(test, vfs_ioctl(file, DMA_HEAP_IOCTL_ALLOC, addr), -EFAULT);
	KUNIT_EXPECT_EQ(test, atomic_read(&fake->calls), 1);
	KUNIT_EXPECT_EQ(test, fake_buffers(fake, 0), 0);
	KUNIT_EXPECT_EQ(test, next_fd(), fd);

	/* Here not even the request can be read */
	KUNIT_EXPECT_EQ(test, vfs_ioctl(file, DMA_HEAP_IOCTL_ALLOC, 0), -EFAULT);
	KUNIT_EXPECT_EQ(test, atomic_read(&fake->calls), 1);
}

static void node(struct kunit *test)
{
	struct fake_heap *fake, *dup;
	struct vfsmount *mnt;
	struct file *file;

	if (!IS_ENABLED(CONFIG_DEVTMPFS))
		kunit_skip(test, "needs CONFIG_DEVTMPFS");

	mnt = kern_mount(get_fs_type("devtmpfs"));
	KUNIT_ASSERT_NOT_ERR_OR_NULL(test, mnt);
	KUNIT_ASSERT_EQ(test, kunit_add_action_or_reset(test, unmount, mnt), 0);
	fake = fake_new_created(test, "kunit-heap");
	dup = fake_new_created(test, "kunit-heap");
	KUNIT_EXPECT_PTR_EQ(test, open_path(test, mnt, "dma_heap/kunit-heap"), ERR_PTR(-ENOENT));

	KUNIT_ASSERT_EQ(test, fake_register(fake), 0);
	file = open_path(test, mnt, "dma_heap/kunit-heap");
	KUNIT_ASSERT_FALSE(test, IS_ERR(file));
	KUNIT_EXPECT_EQ(test, file_inode(file)->i_rdev, fake->dev->devt);

	/* What fails neither leaves a node nor takes one away */
	KUNIT_EXPECT_EQ(test, fake_register(dup), -EEXIST);
	fake_put(dup);
	KUNIT_EXPECT_FALSE(test, IS_ERR(open_path(test, mnt, "dma_heap/kunit-heap")));
	dup = fake_new_created(test, "kunit-orphan");
	KUNIT_ASSERT_EQ(test, fake_register_orphan(test, dup), -ENOENT);
	KUNIT_EXPECT_PTR_EQ(test, open_path(test, mnt, "dma_heap/kunit-orphan"), ERR_PTR(-ENOENT));

	fake_unregister(fake);
	KUNIT_EXPECT_PTR_EQ(test, open_path(test, mnt, "dma_heap/kunit-heap"), ERR_PTR(-ENOENT));

	/* The next one of that name has a node of its own */
	dup = fake_new_added(test, "kunit-heap");
	file = open_path(test, mnt, "dma_heap/kunit-heap");
	KUNIT_ASSERT_FALSE(test, IS_ERR(file));
	KUNIT_EXPECT_EQ(test, file_inode(file)->i_rdev, dup->dev->devt);
}

/* Registration calls this when the character device is there, and the heap is not */
static umode_t publish_is_visible(struct kobject *kobj, struct attribute *attr, int n)
{
	struct fake_heap *fake = dev_get_drvdata(kobj_to_dev(kobj));

	work_start(fake->work);
	KUNIT_EXPECT_FALSE(fake->test, work_done_early(fake->work));

	return 0;
}

static struct device_attribute publish_attr = __ATTR(kunit, 0, NULL, NULL);

static struct attribute *publish_attrs[] = {
	&publish_attr.attr,
	NULL
};

static const struct attribute_group publish_group = {
	.is_visible = publish_is_visible,
	.attrs = publish_attrs,
};

static const struct attribute_group *publish_groups[] = {
	&publish_group,
	NULL
};

static void open_work(struct fake_work *fw)
{
	fw->file = open_node(fw->fake);
	fw->ret = PTR_ERR_OR_ZERO(fw->file);
}

static void open_waits_for_register(struct kunit *test)
{
	struct fake_heap *fake = fake_new_created(test, "kunit-heap");
	struct fake_work *opener = work_new(test, fake, open_work);

	fake->work = opener;
	fake->dev->groups = publish_groups;

	KUNIT_ASSERT_EQ(test, fake_register(fake), 0);
	work_wait(test, opener);
	KUNIT_EXPECT_EQ(test, opener->ret, 0);
}

static void find_work(struct fake_work *fw)
{
	struct dma_heap *heap = dma_heap_find_by_name("kunit-heap");

	fw->ret = heap ? 0 : -ENOENT;
	dma_heap_put(heap);
}

static void find_waits_for_register(struct kunit *test)
{
	struct fake_heap *fake = fake_new_created(test, "kunit-heap");
	struct fake_work *finder = work_new(test, fake, find_work);

	fake->work = finder;
	fake->dev->groups = publish_groups;

	KUNIT_ASSERT_EQ(test, fake_register(fake), 0);
	work_wait(test, finder);
	KUNIT_EXPECT_EQ(test, finder->ret, 0);
}

/*
 * Removal
 */

static void unregister(struct kunit *test)
{
	unsigned int minor = next_minor(test);
	struct fake_heap *fake = fake_new_added(test, "kunit-heap");
	struct fake_heap *next;

	fake_unregister(fake);
	KUNIT_EXPECT_PTR_EQ(test, find_heap(test, "kunit-heap"), NULL);
	KUNIT_EXPECT_FALSE(test, has_device(fake, "kunit-heap"));
	KUNIT_EXPECT_EQ(test, fake_refs(fake, 0), 0);
	KUNIT_EXPECT_EQ(test, next_minor(test), minor);

	next = fake_new_added(test, "kunit-heap");
	KUNIT_EXPECT_PTR_EQ(test, find_heap(test, "kunit-heap"), next->heap);
	KUNIT_EXPECT_EQ(test, MINOR(next->dev->devt), minor);
}

static void unregister_open_file(struct kunit *test)
{
	struct fake_heap *fake = fake_new_added(test, "kunit-heap");
	struct file *file = open_heap(test, fake);
	unsigned long addr = map_user(test, NULL, PROT_READ | PROT_WRITE,
				      MAP_ANONYMOUS | MAP_PRIVATE);
	const struct dma_heap_allocation_data request = {
		.len = PAGE_SIZE,
		.fd_flags = O_RDWR | O_CLOEXEC,
	};
	struct dma_heap_allocation_data data = request;
	struct fake_heap *next;

	KUNIT_ASSERT_EQ(test, ioctl_alloc(test, file, addr, &data), 0);
	KUNIT_EXPECT_EQ(test, try_open(file), 0);

	fake_unregister(fake);
	data = request;
	KUNIT_EXPECT_EQ(test, ioctl_alloc(test, file, addr, &data), -ENODEV);
	KUNIT_EXPECT_EQ(test, atomic_read(&fake->calls), 1);
	KUNIT_EXPECT_EQ(test, try_open(file), -ENODEV);
	/* What is wrong with a request is said nevertheless */
	data = request;
	data.len = 0;
	KUNIT_EXPECT_EQ(test, ioctl_alloc(test, file, addr, &data), -EINVAL);

	/* The file is not one of the heap that comes after */
	next = fake_new_added(test, "kunit-heap");
	data = request;
	KUNIT_EXPECT_EQ(test, ioctl_alloc(test, file, addr, &data), -ENODEV);
	KUNIT_EXPECT_EQ(test, try_open(file), -ENODEV);
	KUNIT_EXPECT_EQ(test, atomic_read(&next->calls), 0);

	/* One reference is the file's, and one the character device's, which the file keeps */
	KUNIT_EXPECT_EQ(test, fake_refs(fake, 2), 2);
	kunit_release_action(test, close_file, file);
	KUNIT_EXPECT_EQ(test, fake_refs(fake, 0), 0);
}

static void unregister_found(struct kunit *test)
{
	struct fake_heap *fake = fake_new_added(test, "kunit-heap");
	struct dma_heap *heap = find_heap(test, "kunit-heap");

	KUNIT_ASSERT_PTR_EQ(test, heap, fake->heap);
	fake_unregister(fake);
	KUNIT_EXPECT_EQ(test, fake_refs(fake, 1), 1);

	/* It is still an object, but no longer a heap */
	KUNIT_EXPECT_STREQ(test, dma_heap_get_name(heap), "kunit-heap");
	KUNIT_EXPECT_PTR_EQ(test, dma_heap_get_dev(heap), fake->dev);
	KUNIT_EXPECT_PTR_EQ(test, dma_heap_get_drvdata(heap), NULL);
	KUNIT_EXPECT_EQ(test, try_alloc(test, heap, 1, O_RDWR, 0), -ENODEV);
	KUNIT_EXPECT_EQ(test, try_alloc(test, heap, 0, O_RDWR, 0), -EINVAL);
	KUNIT_EXPECT_EQ(test, dma_heap_register(heap), -EINVAL);
	KUNIT_EXPECT_EQ(test, atomic_read(&fake->calls), 0);

	kunit_release_action(test, put_heap, heap);
	KUNIT_EXPECT_EQ(test, fake_refs(fake, 0), 0);
}

static void unregister_buffer(struct kunit *test)
{
	struct fake_heap *fake = fake_new_added(test, "kunit-heap");
	struct dma_buf *dmabuf = alloc_buffer(test, fake->heap, PAGE_SIZE, O_RDWR, 0);
	struct iosys_map map;

	KUNIT_ASSERT_NOT_ERR_OR_NULL(test, dmabuf);
	fake_unregister(fake);
	KUNIT_EXPECT_EQ(test, fake_refs(fake, 0), 0);
	KUNIT_EXPECT_EQ(test, fake_buffers(fake, 1), 1);

	KUNIT_ASSERT_EQ(test, dma_buf_vmap_unlocked(dmabuf, &map), 0);
	KUNIT_EXPECT_PTR_EQ(test, memchr_inv(map.vaddr, 0, PAGE_SIZE), NULL);
	dma_buf_vunmap_unlocked(dmabuf, &map);
}

static void alloc_work(struct fake_work *fw)
{
	fw->dmabuf = dma_heap_buffer_alloc(fw->fake->heap, PAGE_SIZE, O_RDWR, 0);
}

static void unregister_work(struct fake_work *fw)
{
	fake_unregister(fw->fake);
}

static void unregister_in_flight(struct kunit *test)
{
	struct fake_heap *fake = fake_new_added(test, "kunit-heap");
	struct dma_heap *heap = find_heap(test, "kunit-heap");
	struct fake_work *allocator = work_new(test, fake, alloc_work);
	struct fake_work *remover = work_new(test, fake, unregister_work);
	bool there;

	KUNIT_ASSERT_PTR_EQ(test, heap, fake->heap);
	fake->block = true;
	work_start(allocator);
	KUNIT_ASSERT_NE(test, wait_for_completion_timeout(&fake->entered, TIMEOUT_S * HZ), 0);

	/* The heap is hidden at once, and there until the allocation is done */
	work_start(remover);
	read_poll_timeout(has_device, there, !there, 1000, TIMEOUT_S * USEC_PER_SEC, false,
			  fake, "kunit-heap");
	KUNIT_EXPECT_FALSE(test, there);
	KUNIT_EXPECT_FALSE(test, work_done_early(remover));
	KUNIT_EXPECT_PTR_EQ(test, find_heap(test, "kunit-heap"), NULL);
	KUNIT_EXPECT_PTR_EQ(test, dma_heap_get_drvdata(heap), (void *)fake);
	KUNIT_EXPECT_FALSE(test, completion_done(&allocator->done));
	/* One reference was found, and the other one is not dropped before the end */
	KUNIT_EXPECT_EQ(test, fake_refs(fake, 2), 2);

	/* That does not keep others from the name */
	KUNIT_EXPECT_EQ(test, fake_add(fake_new(test), "kunit-heap"), 0);

	complete_all(&fake->resume);
	work_wait(test, allocator);
	work_wait(test, remover);
	KUNIT_EXPECT_NOT_ERR_OR_NULL(test, allocator->dmabuf);
	KUNIT_EXPECT_PTR_EQ(test, allocator->dmabuf, fake->dmabuf);
	KUNIT_EXPECT_EQ(test, try_alloc(test, heap, 1, O_RDWR, 0), -ENODEV);
	KUNIT_EXPECT_EQ(test, atomic_read(&fake->calls), 1);
}

/*
 * Memory that is bound to the device of a heap. It is needed until no allocation is
 * under way, and the device is needed to release it. A managed action of the device
 * would again be too early.
 */

static void fake_bind(struct fake_heap *fake)
{
	fake->bound = kmalloc(PAGE_SIZE, GFP_KERNEL);
	KUNIT_ASSERT_NOT_NULL(fake->test, fake->bound);
	memset(fake->bound, BOUND, PAGE_SIZE);
}

/* The order in which a heap has to do it */
static int fake_unregister_unbind(struct fake_heap *fake)
{
	struct device *dev = get_device(dma_heap_get_dev(fake->heap));
	int ret = 0;

	fake_unregister(fake);
	if (atomic_read(&fake->released))
		return -ENODEV;

	/* Both are still what they were */
	if (strcmp(dev_name(dev), "kunit-heap") ||
	    memchr_inv(fake->bound, BOUND, PAGE_SIZE))
		ret = -EIO;

	memset(fake->bound, 0, PAGE_SIZE);
	put_device(dev);

	return ret;
}

static void unregister_unbind_work(struct fake_work *fw)
{
	fw->ret = fake_unregister_unbind(fw->fake);
}

static void unregister_bound(struct kunit *test)
{
	struct fake_heap *fake = fake_new(test);

	KUNIT_ASSERT_EQ(test, fake_create(fake, "kunit-heap"), 0);
	fake_bind(fake);
	KUNIT_ASSERT_EQ(test, fake_register(fake), 0);
	KUNIT_ASSERT_EQ(test, try_alloc(test, fake->heap, 1, O_RDWR, 0), 0);

	/* Nobody else: the reference that was taken for the memory is the last one */
	fake_let_go(fake);
	KUNIT_EXPECT_EQ(test, fake_unregister_unbind(fake), 0);
	KUNIT_EXPECT_EQ(test, fake_released(fake), 1);
}

static void unregister_bound_in_flight(struct kunit *test)
{
	struct fake_heap *fake = fake_new(test);
	struct fake_work *allocator = work_new(test, fake, alloc_work);
	struct fake_work *remover = work_new(test, fake, unregister_unbind_work);
	struct dma_heap *heap;

	KUNIT_ASSERT_EQ(test, fake_create(fake, "kunit-heap"), 0);
	fake_bind(fake);
	KUNIT_ASSERT_EQ(test, fake_register(fake), 0);
	heap = find_heap(test, "kunit-heap");
	KUNIT_ASSERT_PTR_EQ(test, heap, fake->heap);

	fake->block = true;
	work_start(allocator);
	KUNIT_ASSERT_NE(test, wait_for_completion_timeout(&fake->entered, TIMEOUT_S * HZ), 0);
	work_start(remover);
	KUNIT_EXPECT_FALSE(test, work_done_early(remover));
	KUNIT_EXPECT_PTR_EQ(test, memchr_inv(fake->bound, BOUND, PAGE_SIZE), NULL);

	/* The allocation looks at the memory only now */
	complete_all(&fake->resume);
	work_wait(test, allocator);
	work_wait(test, remover);
	KUNIT_EXPECT_NOT_ERR_OR_NULL(test, allocator->dmabuf);
	KUNIT_EXPECT_EQ(test, remover->ret, 0);
	KUNIT_EXPECT_PTR_NE(test, memchr_inv(fake->bound, BOUND, PAGE_SIZE), NULL);

	/* And it is not looked at any more */
	KUNIT_EXPECT_EQ(test, try_alloc(test, heap, 1, O_RDWR, 0), -ENODEV);
	fake_let_go(fake);
	kunit_release_action(test, put_heap, heap);
	KUNIT_EXPECT_EQ(test, fake_released(fake), 1);
}

/*
 * Releasing: once, and not before the last reference is dropped, whichever it is
 */

struct last_param {
	const char *desc;
	void (*fn)(struct kunit *test, struct fake_heap *fake);
};

static void last_is_put(struct kunit *test, struct fake_heap *fake)
{
	KUNIT_ASSERT_EQ(test, fake_create(fake, "kunit-heap"), 0);
	fake_let_go(fake);
	fake_put(fake);
}

static void last_is_put_duplicate(struct kunit *test, struct fake_heap *fake)
{
	fake_new_added(test, "kunit-heap");
	KUNIT_ASSERT_EQ(test, fake_create(fake, "kunit-heap"), 0);
	KUNIT_ASSERT_EQ(test, fake_register(fake), -EEXIST);
	fake_let_go(fake);
	fake_put(fake);
}

static void last_is_put_failed(struct kunit *test, struct fake_heap *fake)
{
	KUNIT_ASSERT_EQ(test, fake_create(fake, "kunit-heap"), 0);
	KUNIT_ASSERT_EQ(test, fake_register_orphan(test, fake), -ENOENT);
	fake_let_go(fake);
	fake_put(fake);
}

static void last_is_unregister(struct kunit *test, struct fake_heap *fake)
{
	KUNIT_ASSERT_EQ(test, fake_create(fake, "kunit-heap"), 0);
	KUNIT_ASSERT_EQ(test, fake_register(fake), 0);
	fake_let_go(fake);
	fake_unregister(fake);
}

static void last_is_unregister_added(struct kunit *test, struct fake_heap *fake)
{
	KUNIT_ASSERT_EQ(test, fake_add(fake, "kunit-heap"), 0);
	fake_let_go(fake);
	fake_unregister(fake);
}

static void last_is_close(struct kunit *test, struct fake_heap *fake)
{
	struct file *file;

	KUNIT_ASSERT_EQ(test, fake_add(fake, "kunit-heap"), 0);
	file = open_heap(test, fake);
	fake_unregister(fake);
	fake_let_go(fake);
	kunit_release_action(test, close_file, file);
}

static void last_is_put_found(struct kunit *test, struct fake_heap *fake)
{
	struct dma_heap *heap;

	KUNIT_ASSERT_EQ(test, fake_add(fake, "kunit-heap"), 0);
	heap = find_heap(test, "kunit-heap");
	KUNIT_ASSERT_PTR_EQ(test, heap, fake->heap);
	fake_unregister(fake);
	fake_let_go(fake);
	kunit_release_action(test, put_heap, heap);
}

static const struct last_param last_params[] = {
	{ "put", last_is_put },
	{ "put of a duplicate", last_is_put_duplicate },
	{ "put after failure", last_is_put_failed },
	{ "unregister", last_is_unregister },
	{ "unregister after add", last_is_unregister_added },
	{ "close after unregister", last_is_close },
	{ "put of a found heap after unregister", last_is_put_found },
};

KUNIT_ARRAY_PARAM_DESC(last, last_params, desc);

static void release(struct kunit *test)
{
	const struct last_param *param = test->param_value;
	struct fake_heap *fake = fake_new(test);

	param->fn(test, fake);
	KUNIT_EXPECT_EQ(test, fake_released(fake), 1);
}

/*
 * Races
 */

static void register_work(struct fake_work *fw)
{
	fw->ret = fake_register(fw->fake);
}

static void race_register(struct kunit *test)
{
	struct fake_work *works[4];
	struct completion *start;
	int round, i, won;

	for (round = 0; round < ROUNDS; round++) {
		start = kunit_kzalloc(test, sizeof(*start), GFP_KERNEL);
		KUNIT_ASSERT_NOT_NULL(test, start);
		init_completion(start);

		for (i = 0; i < ARRAY_SIZE(works); i++) {
			works[i] = work_new(test, fake_new_created(test, "kunit-heap"),
					    register_work);
			works[i]->start = start;
			work_start(works[i]);
		}
		complete_all(start);

		won = 0;
		for (i = 0; i < ARRAY_SIZE(works); i++) {
			work_wait(test, works[i]);
			if (works[i]->ret)
				KUNIT_EXPECT_EQ(test, works[i]->ret, -EEXIST);
			else
				won++;
		}
		KUNIT_EXPECT_EQ(test, won, 1);

		for (i = 0; i < ARRAY_SIZE(works); i++) {
			if (!works[i]->ret)
				fake_unregister(works[i]->fake);
		}
		KUNIT_ASSERT_PTR_EQ(test, find_heap(test, "kunit-heap"), NULL);

		/* The others can have it one after the other */
		for (i = 0; i < ARRAY_SIZE(works); i++) {
			if (!works[i]->ret)
				continue;
			KUNIT_ASSERT_EQ(test, fake_register(works[i]->fake), 0);
			fake_unregister(works[i]->fake);
		}
	}
}

/* Until the heap is gone, or much too late */
static void open_many_work(struct fake_work *fw)
{
	unsigned long end = jiffies + TIMEOUT_S * HZ;

	do {
		fw->ret = try_open(fw->file);
		if (!fw->ret)
			atomic_inc(&fw->count);
		cond_resched();
	} while (!fw->ret && time_before(jiffies, end));
}

static void find_many_work(struct fake_work *fw)
{
	unsigned long end = jiffies + TIMEOUT_S * HZ;
	struct dma_heap *heap;
	struct dma_buf *dmabuf;

	do {
		heap = dma_heap_find_by_name("kunit-heap");
		if (!heap) {
			fw->ret = -ENODEV;
			break;
		}

		dmabuf = dma_heap_buffer_alloc(heap, PAGE_SIZE, O_RDWR, 0);
		if (!IS_ERR(dmabuf)) {
			dma_buf_put(dmabuf);
			atomic_inc(&fw->count);
		} else {
			fw->ret = PTR_ERR(dmabuf);
		}
		dma_heap_put(heap);
		cond_resched();
	} while (!fw->ret && time_before(jiffies, end));
}

static void race_unregister(struct kunit *test, void (*fn)(struct fake_work *fw))
{
	struct fake_work *works[2];
	struct fake_heap *fake;
	struct file *file;
	unsigned long end;
	int round, i;

	for (round = 0; round < ROUNDS; round++) {
		fake = fake_new_added(test, "kunit-heap");
		file = open_heap(test, fake);
		for (i = 0; i < ARRAY_SIZE(works); i++) {
			works[i] = work_new(test, fake, fn);
			works[i]->file = get_file(file);
			work_start(works[i]);
		}

		/* Not before the others are at it */
		end = jiffies + TIMEOUT_S * HZ;
		for (i = 0; i < ARRAY_SIZE(works); i++) {
			while (time_before(jiffies, end) && !atomic_read(&works[i]->count))
				usleep_range(10, 20);
			KUNIT_EXPECT_GT(test, atomic_read(&works[i]->count), 0);
		}
		usleep_range(10 * round, 10 * round + 10);
		fake_unregister(fake);

		for (i = 0; i < ARRAY_SIZE(works); i++) {
			work_wait(test, works[i]);
			KUNIT_ASSERT_EQ(test, works[i]->ret, -ENODEV);
		}
		KUNIT_EXPECT_EQ(test, try_open(file), -ENODEV);
	}
}

static void race_open(struct kunit *test)
{
	race_unregister(test, open_many_work);
}

static void race_find(struct kunit *test)
{
	race_unregister(test, find_many_work);
}

/* Also when the thread ends at an assertion of @inner, of which @test knows nothing */
static void inner_exit(void *data)
{
	struct kunit *inner = data;
	struct kunit *test = inner->priv;

	kunit_cleanup(inner);
	KUNIT_EXPECT_EQ(test, inner->status, KUNIT_SUCCESS);
}

/* A test leaves nothing to those that come after it, wherever it ends */
static void cleanup(struct kunit *test)
{
	struct fake_heap *fake, *created;
	struct fake_work *allocator;
	unsigned int minor;
	struct kunit *inner;

	inner = kunit_kzalloc(test, sizeof(*inner), GFP_KERNEL);
	KUNIT_ASSERT_NOT_NULL(test, inner);
	minor = next_minor(test);

	kunit_init_test(inner, "cleanup", NULL);
	inner->priv = test;
	KUNIT_ASSERT_EQ(test, kunit_add_action_or_reset(test, inner_exit, inner), 0);
	fake = fake_new_added(inner, "kunit-heap");
	created = fake_new_created(inner, "kunit-heap");
	KUNIT_EXPECT_PTR_EQ(inner, find_heap(inner, "kunit-heap"), fake->heap);
	open_heap(inner, fake);
	alloc_buffer(inner, fake->heap, 1, O_RDWR, 0);
	KUNIT_EXPECT_EQ(inner, fake_register_orphan(inner, created), -EEXIST);
	allocator = work_new(inner, fake, alloc_work);
	fake->block = true;
	work_start(allocator);
	KUNIT_EXPECT_NE(inner,
			wait_for_completion_timeout(&fake->entered, TIMEOUT_S * HZ), 0);
	kunit_release_action(test, inner_exit, inner);

	KUNIT_EXPECT_PTR_EQ(test, find_heap(test, "kunit-heap"), NULL);
	KUNIT_EXPECT_EQ(test, next_minor(test), minor);
}

/*
 * With CONFIG_DEBUG_KOBJECT_RELEASE, for the heaps of all tests. Has to be the last one;
 * for a choice of tests without it see dma_heap_suite_exit()
 */
static void all_released(struct kunit *test)
{
	fakes_finish(test);
}

static struct kunit_case dma_heap_cases[] = {
	KUNIT_CASE_PARAM(create_name, name_gen_params),
	KUNIT_CASE(create_ops),
	KUNIT_CASE(create_put),
	KUNIT_CASE(put_null),
	KUNIT_CASE(accessors),
	KUNIT_CASE(register_publishes),
	KUNIT_CASE(register_twice),
	KUNIT_CASE(register_duplicate),
	KUNIT_CASE(register_fails),
	KUNIT_CASE(add_duplicate),
	KUNIT_CASE(minors),
	KUNIT_CASE(find_by_name),
	KUNIT_CASE(module_is_pinned),
	KUNIT_CASE(module_is_pinned_longer),
	KUNIT_CASE(module_of_creator),
	KUNIT_CASE(module_is_going),
	KUNIT_CASE(alloc),
	KUNIT_CASE(alloc_error),
	KUNIT_CASE(alloc_fd_flags),
	KUNIT_CASE(alloc_heap_flags),
	KUNIT_CASE_PARAM(alloc_len, len_gen_params),
	KUNIT_CASE(ioctl),
	KUNIT_CASE(ioctl_bad),
	KUNIT_CASE(ioctl_fault),
	KUNIT_CASE(node),
	KUNIT_CASE(open_waits_for_register),
	KUNIT_CASE(find_waits_for_register),
	KUNIT_CASE(unregister),
	KUNIT_CASE(unregister_open_file),
	KUNIT_CASE(unregister_found),
	KUNIT_CASE(unregister_buffer),
	KUNIT_CASE(unregister_in_flight),
	KUNIT_CASE(unregister_bound),
	KUNIT_CASE(unregister_bound_in_flight),
	KUNIT_CASE_PARAM(release, last_gen_params),
	KUNIT_CASE(race_register),
	KUNIT_CASE(race_open),
	KUNIT_CASE(race_find),
	KUNIT_CASE(cleanup),
	KUNIT_CASE(all_released),
	{}
};

static int dma_heap_suite_init(struct kunit_suite *suite)
{
	nodes = kern_mount(get_fs_type("ramfs"));

	return PTR_ERR_OR_ZERO(nodes);
}

static void dma_heap_suite_exit(struct kunit_suite *suite)
{
	struct kunit test = { };

	/* Too late for a verdict, but what is wrong is printed */
	kunit_init_test(&test, suite->name, NULL);
	fakes_finish(&test);
	kern_unmount(nodes);
}

static struct kunit_suite dma_heap_suite = {
	.name = "dma_heap",
	.suite_init = dma_heap_suite_init,
	.suite_exit = dma_heap_suite_exit,
	.test_cases = dma_heap_cases,
};

kunit_test_suite(dma_heap_suite);

MODULE_DESCRIPTION("KUnit tests of the DMA-BUF heaps framework");
MODULE_LICENSE("GPL");
MODULE_IMPORT_NS(DMA_BUF);
MODULE_IMPORT_NS(DMA_BUF_HEAP);
