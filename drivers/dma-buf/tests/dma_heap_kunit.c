// SPDX-License-Identifier: GPL-2.0
/*
 * KUnit tests of the DMA-BUF heaps framework
 *
 * They register heaps of their own, and need none of the system's. What takes user
 * space or modules to test is in tools/testing/selftests/dmabuf-heaps.
 */

#include <linux/atomic.h>
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
#include <linux/file.h>
#include <linux/fs.h>
#include <linux/iopoll.h>
#include <linux/jiffies.h>
#include <linux/kdev_t.h>
#include <linux/limits.h>
#include <linux/module.h>
#include <linux/mount.h>
#include <linux/sched.h>
#include <linux/sizes.h>
#include <linux/string.h>
#include <linux/workqueue.h>
#include <linux/xarray.h>

#include <kunit/resource.h>
#include <kunit/test.h>
#include <kunit/test-bug.h>
#include <kunit/visibility.h>

#include "../dma-heap.h"

#define LONG_MS		10000	/* for what must happen */
#define SHORT_MS	50	/* for what must not happen: it would have by then */
#define ROUNDS		30
#define MAX_LEN		(4 * PAGE_SIZE)

/* Where files of character devices can be opened */
static struct vfsmount *mnt;

/* A test's private data, and that of its heaps */
struct state {
	bool block;	/* allocations complete @entered, then wait for @resume */
	struct completion entered;
	struct completion resume;
	atomic_t calls;
	unsigned long len;
	u32 fd_flags;

	/* What happens while @heap is being registered */
	struct dma_heap *heap;
	struct job *opener;
	struct job *other;
	struct device *parent;
};

static struct sg_table *test_map(struct dma_buf_attachment *attach,
				 enum dma_data_direction dir)
{
	return ERR_PTR(-EOPNOTSUPP);
}

static void test_unmap(struct dma_buf_attachment *attach, struct sg_table *sgt,
		       enum dma_data_direction dir)
{
}

static void test_release(struct dma_buf *dmabuf)
{
}

/* There is no memory in these buffers */
static const struct dma_buf_ops test_buf_ops = {
	.map_dma_buf = test_map,
	.unmap_dma_buf = test_unmap,
	.release = test_release,
};

static struct dma_buf *test_allocate(struct dma_heap *heap, unsigned long len,
				     u32 fd_flags, u64 heap_flags)
{
	DEFINE_DMA_BUF_EXPORT_INFO(exp_info);
	struct state *state = dma_heap_get_drvdata(heap);

	atomic_inc(&state->calls);
	WRITE_ONCE(state->len, len);
	WRITE_ONCE(state->fd_flags, fd_flags);
	if (READ_ONCE(state->block)) {
		complete(&state->entered);
		wait_for_completion(&state->resume);
	}
	if (len > MAX_LEN)
		return ERR_PTR(-ENOMEM);

	exp_info.ops = &test_buf_ops;
	exp_info.size = len;
	exp_info.flags = fd_flags;
	exp_info.priv = state;

	return dma_buf_export(&exp_info);
}

static const struct dma_heap_ops test_ops = {
	.allocate = test_allocate,
};

/* Whatever a test makes, finds or starts is gone at its end */

KUNIT_DEFINE_ACTION_WRAPPER(destroy_heap, dma_heap_destroy, struct dma_heap *);
KUNIT_DEFINE_ACTION_WRAPPER(unregister_heap, dma_heap_unregister, struct dma_heap *);
KUNIT_DEFINE_ACTION_WRAPPER(remove_heap, dma_heap_remove, struct dma_heap *);
KUNIT_DEFINE_ACTION_WRAPPER(put_heap, dma_heap_put, struct dma_heap *);
KUNIT_DEFINE_ACTION_WRAPPER(remove_parent, root_device_unregister, struct device *);
KUNIT_DEFINE_ACTION_WRAPPER(remove_interface, class_interface_unregister,
			    struct class_interface *);

static void at_exit(struct kunit *test, kunit_action_t *action, void *data)
{
	KUNIT_ASSERT_EQ(test, kunit_add_action_or_reset(test, action, data), 0);
}

static struct dma_heap *make(struct kunit *test, const char *name,
			     const struct dma_heap_ops *ops, bool add)
{
	struct dma_heap_export_info info = { name, ops, test->priv };
	struct dma_heap *heap = add ? dma_heap_add(&info) : dma_heap_create(&info);

	KUNIT_ASSERT_NOT_NULL(test, heap);
	if (!IS_ERR(heap))
		at_exit(test, add ? remove_heap : destroy_heap, heap);

	return heap;
}

static struct dma_heap *create(struct kunit *test, const char *name)
{
	struct dma_heap *heap = make(test, name, &test_ops, false);

	KUNIT_ASSERT_FALSE(test, IS_ERR(heap));

	return heap;
}

static struct dma_heap *add(struct kunit *test, const char *name)
{
	struct dma_heap *heap = make(test, name, &test_ops, true);

	KUNIT_ASSERT_FALSE(test, IS_ERR(heap));

	return heap;
}

static int register_heap(struct kunit *test, struct dma_heap *heap)
{
	int ret = dma_heap_register(heap);

	if (!ret)
		at_exit(test, unregister_heap, heap);

	return ret;
}

static struct dma_heap *find(struct kunit *test, const char *name)
{
	struct dma_heap *heap = dma_heap_find_by_name(name);

	KUNIT_ASSERT_NOT_NULL(test, heap);
	at_exit(test, put_heap, heap);

	return heap;
}

/* Only to compare it: the reference is dropped */
static struct dma_heap *lookup(const char *name)
{
	struct dma_heap *heap = dma_heap_find_by_name(name);

	dma_heap_put(heap);

	return heap;
}

static dev_t number(struct dma_heap *heap)
{
	return dma_heap_get_dev(heap)->devt;
}

/* dma_buf_put() would leave the release to a worker, as this is a kernel thread */
static int try_alloc(struct dma_heap *heap, u64 len, u32 fd_flags, u64 heap_flags)
{
	struct dma_buf *dmabuf = dma_heap_buffer_alloc(heap, len, fd_flags, heap_flags);

	if (IS_ERR(dmabuf))
		return PTR_ERR(dmabuf);

	__fput_sync(dmabuf->file);

	return 0;
}

/* With a new inode each time */
static int try_open(dev_t devt)
{
	struct inode *inode = alloc_anon_inode(mnt->mnt_sb);
	struct path path = { .mnt = mnt };
	struct file *file;

	if (IS_ERR(inode))
		return PTR_ERR(inode);

	init_special_inode(inode, S_IFCHR | 0600, devt);
	path.dentry = d_obtain_alias(inode);
	if (IS_ERR(path.dentry))
		return PTR_ERR(path.dentry);

	file = dentry_open(&path, O_RDWR, current_cred());
	dput(path.dentry);
	if (IS_ERR(file))
		return PTR_ERR(file);

	__fput_sync(file);

	return 0;
}

static int use(struct dma_heap *heap)
{
	if (lookup(dma_heap_get_name(heap)) != heap)
		return -ENOENT;

	return try_open(number(heap)) ?: try_alloc(heap, 1, O_RDWR, 0);
}

/* Something to do with a heap in another thread */
struct job {
	struct work_struct work;
	struct completion done;
	int (*fn)(struct job *job);
	struct state *state;
	struct dma_heap *heap;
	dev_t devt;
	int ret;
};

static void job_run(struct work_struct *work)
{
	struct job *job = container_of(work, struct job, work);

	job->ret = job->fn(job);
	complete_all(&job->done);
}

static void job_exit(void *data)
{
	struct job *job = data;

	complete_all(&job->state->resume);
	cancel_work_sync(&job->work);
}

static struct job *job_new(struct kunit *test, int (*fn)(struct job *job),
			   struct dma_heap *heap)
{
	struct job *job = kunit_kzalloc(test, sizeof(*job), GFP_KERNEL);

	KUNIT_ASSERT_NOT_NULL(test, job);
	INIT_WORK(&job->work, job_run);
	init_completion(&job->done);
	job->fn = fn;
	job->state = test->priv;
	job->heap = heap;
	at_exit(test, job_exit, job);

	return job;
}

static struct job *job_start(struct job *job)
{
	job->devt = number(job->heap);
	queue_work(system_unbound_wq, &job->work);

	return job;
}

static int job_result(struct job *job, unsigned int ms)
{
	if (!wait_for_completion_timeout(&job->done, msecs_to_jiffies(ms)))
		return -ETIMEDOUT;

	return job->ret;
}

static int open_job(struct job *job)
{
	return try_open(job->devt);
}

static int use_job(struct job *job)
{
	return use(job->heap);
}

static int alloc_job(struct job *job)
{
	return try_alloc(job->heap, 1, O_RDWR, 0);
}

static int register_job(struct job *job)
{
	return dma_heap_register(job->heap);
}

static int unregister_job(struct job *job)
{
	dma_heap_unregister(job->heap);

	return 0;
}

static const struct name_param {
	const char *desc;
	const char *name;
	size_t fill;
	int ret;
} name_params[] = {
	{ "none", NULL, 0, -EINVAL },
	{ "empty", "", 0, -EINVAL },
	{ "dot", ".", 0, -EINVAL },
	{ "dot dot", "..", 0, -EINVAL },
	{ "slash", "kunit/heap", 0, -EINVAL },
	{ "newline", "kunit-heap\n", 0, -EINVAL },
	{ "too long", NULL, NAME_MAX + 1, -EINVAL },
	{ "as long as can be", NULL, NAME_MAX, 0 },
	{ "three dots", "...", 0, 0 },
	{ "format", "kunit-%s%n%d-heap", 0, 0 },
	{ "unit address", "kunit-heap@80000000", 0, 0 },
};

KUNIT_ARRAY_PARAM_DESC(name, name_params, desc);

static void create_name(struct kunit *test)
{
	const struct name_param *param = test->param_value;
	char *filled = kunit_kzalloc(test, NAME_MAX + 2, GFP_KERNEL);
	const char *name = param->name;
	struct dma_heap *heap;

	KUNIT_ASSERT_NOT_NULL(test, filled);
	if (param->fill)
		name = memset(filled, 'k', param->fill);

	heap = make(test, name, &test_ops, true);
	KUNIT_ASSERT_EQ(test, PTR_ERR_OR_ZERO(heap), param->ret);
	if (!param->ret) {
		KUNIT_EXPECT_STREQ(test, dma_heap_get_name(heap), name);
		KUNIT_EXPECT_PTR_EQ(test, lookup(name), heap);
	}
	/* Only registered heaps need different names */
	heap = make(test, name, &test_ops, false);
	KUNIT_EXPECT_EQ(test, PTR_ERR_OR_ZERO(heap), param->ret);
}

static void create_ops(struct kunit *test)
{
	static const struct dma_heap_ops none;

	KUNIT_EXPECT_PTR_EQ(test, make(test, "kunit-heap", NULL, false), ERR_PTR(-EINVAL));
	KUNIT_EXPECT_PTR_EQ(test, make(test, "kunit-heap", &none, false), ERR_PTR(-EINVAL));
}

static void create_destroy(struct kunit *test)
{
	struct dma_heap *heap = create(test, "kunit-heap");

	KUNIT_EXPECT_NULL(test, lookup("kunit-heap"));
	KUNIT_EXPECT_EQ(test, try_alloc(heap, 1, O_RDWR, 0), -ENODEV);
	dma_heap_destroy(NULL);
	dma_heap_put(NULL);
}

static void accessors(struct kunit *test)
{
	char name[] = "kunit-heap";
	struct dma_heap *heap = create(test, name);
	struct device *dev = dma_heap_get_dev(heap);

	memset(name, 'x', sizeof(name) - 1);
	KUNIT_EXPECT_STREQ(test, dev->class->name, "dma_heap");
	KUNIT_EXPECT_EQ(test, dma_get_mask(dev), DMA_BIT_MASK(64));
	KUNIT_EXPECT_EQ(test, dev->coherent_dma_mask, DMA_BIT_MASK(64));

	KUNIT_ASSERT_EQ(test, register_heap(test, heap), 0);
	kunit_release_action(test, unregister_heap, heap);
	KUNIT_EXPECT_STREQ(test, dma_heap_get_name(heap), "kunit-heap");
	KUNIT_EXPECT_PTR_EQ(test, dma_heap_get_drvdata(heap), test->priv);
}

static void find_by_name(struct kunit *test)
{
	static const char * const misses[] = {
		"", "\n", "kunit-hea", "kunit-heap-", "kunit-heap-22", "kunit-heap\n\n",
		"\nkunit-heap", " kunit-heap", "kunit-heap ", "Kunit-heap",
	};
	struct dma_heap *heap = add(test, "kunit-heap");
	struct dma_heap *longer = add(test, "kunit-heap-2");
	int i;

	KUNIT_EXPECT_PTR_EQ(test, lookup("kunit-heap"), heap);
	KUNIT_EXPECT_PTR_EQ(test, lookup("kunit-heap\n"), heap);
	KUNIT_EXPECT_PTR_EQ(test, lookup("kunit-heap-2"), longer);
	for (i = 0; i < ARRAY_SIZE(misses); i++)
		KUNIT_EXPECT_NULL_MSG(test, lookup(misses[i]), "\"%s\"", misses[i]);
}

static void register_once(struct kunit *test)
{
	struct dma_heap *heap = create(test, "kunit-heap");

	KUNIT_ASSERT_EQ(test, register_heap(test, heap), 0);
	KUNIT_EXPECT_EQ(test, use(heap), 0);
	KUNIT_EXPECT_EQ(test, register_heap(test, heap), -EINVAL);
	KUNIT_EXPECT_EQ(test, use(heap), 0);
	kunit_release_action(test, unregister_heap, heap);
	KUNIT_EXPECT_EQ(test, register_heap(test, heap), -EINVAL);
	KUNIT_EXPECT_NULL(test, lookup("kunit-heap"));
}

static void register_duplicate(struct kunit *test)
{
	struct dma_heap *heap = add(test, "kunit-heap");
	struct dma_heap *duplicate = create(test, "kunit-heap");

	KUNIT_EXPECT_EQ(test, register_heap(test, duplicate), -EEXIST);
	/* Without a number there was nothing to see */
	KUNIT_EXPECT_EQ(test, number(duplicate), 0);
	KUNIT_EXPECT_PTR_EQ(test, make(test, "kunit-heap", &test_ops, true), ERR_PTR(-EEXIST));
	KUNIT_EXPECT_EQ(test, use(heap), 0);

	kunit_release_action(test, remove_heap, heap);
	KUNIT_EXPECT_EQ(test, use(add(test, "kunit-heap")), 0);
}

/* The last thing that device_add() does: the device is there, the heap is not */
static int added(struct device *dev)
{
	struct kunit *test = kunit_get_current_test();
	struct state *state = test ? test->priv : NULL;

	if (!state || !state->heap || dev != dma_heap_get_dev(state->heap))
		return 0;

	KUNIT_EXPECT_NULL(test, lookup("kunit-heap"));
	KUNIT_EXPECT_EQ(test, try_alloc(state->heap, 1, O_RDWR, 0), -ENODEV);
	/* Whoever opens this heap waits; whoever uses another one does not */
	KUNIT_EXPECT_EQ(test, job_result(job_start(state->opener), SHORT_MS), -ETIMEDOUT);
	KUNIT_EXPECT_EQ(test, job_result(job_start(state->other), LONG_MS), 0);

	return 0;
}

static void register_in_progress(struct kunit *test)
{
	static struct class_interface intf = { .add_dev = added };
	struct state *state = test->priv;
	struct dma_heap *heap = create(test, "kunit-heap");

	intf.class = dma_heap_get_dev(heap)->class;
	KUNIT_ASSERT_EQ(test, class_interface_register(&intf), 0);
	at_exit(test, remove_interface, &intf);

	state->other = job_new(test, use_job, add(test, "kunit-other"));
	state->opener = job_new(test, open_job, heap);
	state->heap = heap;
	KUNIT_EXPECT_EQ(test, register_heap(test, heap), 0);
	KUNIT_EXPECT_EQ(test, job_result(state->other, 0), 0);
	KUNIT_EXPECT_EQ(test, job_result(state->opener, LONG_MS), 0);
}

/* In the middle of device_add(), which fails when the parent has gone */
static umode_t being_added(struct kobject *kobj, struct attribute *attr, int n)
{
	struct kunit *test = kunit_get_current_test();
	struct state *state = test->priv;

	KUNIT_EXPECT_EQ(test, job_result(job_start(state->opener), SHORT_MS), -ETIMEDOUT);
	kunit_release_action(test, remove_parent, state->parent);

	return attr->mode;
}

static void register_fails(struct kunit *test)
{
	static struct attribute attr = { .name = "kunit", .mode = 0444 };
	static struct attribute *attrs[] = { &attr, NULL };
	static const struct attribute_group group = { .is_visible = being_added, .attrs = attrs };
	static const struct attribute_group *groups[] = { &group, NULL };
	struct state *state = test->priv;
	struct dma_heap *heap = create(test, "kunit-heap");
	struct device *dev = dma_heap_get_dev(heap);

	state->opener = job_new(test, open_job, heap);
	state->parent = root_device_register("kunit-heap-parent");
	KUNIT_ASSERT_FALSE(test, IS_ERR(state->parent));
	at_exit(test, remove_parent, state->parent);
	dev->parent = state->parent;
	dev->groups = groups;

	KUNIT_EXPECT_EQ(test, register_heap(test, heap), -ENOENT);
	KUNIT_EXPECT_EQ(test, register_heap(test, heap), -EINVAL);
	kunit_release_action(test, destroy_heap, heap);

	/* For whoever was quick to open it, its memory is still there */
	KUNIT_EXPECT_EQ(test, job_result(state->opener, LONG_MS), -ENODEV);
	KUNIT_EXPECT_EQ(test, try_open(state->opener->devt), -ENXIO);
	KUNIT_EXPECT_NULL(test, lookup("kunit-heap"));
	KUNIT_EXPECT_EQ(test, use(add(test, "kunit-heap")), 0);
}

static void set_next_minor(void *minor)
{
	dma_heap_next_minor = (uintptr_t)minor;
}

static void minors_are_cyclic(struct kunit *test)
{
	struct dma_heap *last, *next;
	dev_t devt;

	at_exit(test, set_next_minor, (void *)(uintptr_t)dma_heap_next_minor);
	next = add(test, "kunit-heap");
	devt = number(next);
	kunit_release_action(test, remove_heap, next);
	next = add(test, "kunit-heap");
	KUNIT_EXPECT_NE(test, number(next), devt);
	KUNIT_EXPECT_EQ(test, try_open(devt), -ENXIO);

	dma_heap_next_minor = MINORMASK;
	last = add(test, "kunit-last");
	KUNIT_EXPECT_EQ(test, MINOR(number(last)), MINORMASK);
	next = add(test, "kunit-next");
	KUNIT_EXPECT_LT(test, MINOR(number(next)), MINORMASK);
	KUNIT_EXPECT_EQ(test, use(last), 0);
	KUNIT_EXPECT_EQ(test, use(next), 0);
}

/* By the last reference, which shows also that there are not too many or too few */
static void minors_are_freed(struct kunit *test)
{
	unsigned long end = jiffies + msecs_to_jiffies(LONG_MS);
	struct dma_heap *heap = add(test, "kunit-heap");
	struct dma_heap *found = find(test, "kunit-heap");
	dev_t devt = number(heap);

	at_exit(test, set_next_minor, (void *)(uintptr_t)dma_heap_next_minor);
	kunit_release_action(test, remove_heap, heap);
	dma_heap_next_minor = MINOR(devt);
	heap = add(test, "kunit-heap");
	KUNIT_EXPECT_NE(test, number(heap), devt);

	kunit_release_action(test, put_heap, found);
	do {	/* seconds with CONFIG_DEBUG_KOBJECT_RELEASE */
		kunit_release_action(test, remove_heap, heap);
		msleep(20);
		dma_heap_next_minor = MINOR(devt);
		heap = add(test, "kunit-heap");
	} while (number(heap) != devt && time_before(jiffies, end));
	KUNIT_EXPECT_EQ(test, number(heap), devt);
}

static void free_minors(void *minors)
{
	unsigned long minor;
	void *entry;

	xa_for_each(minors, minor, entry) {
		if (entry == minors)
			xa_erase(minors, minor);
		cond_resched();
	}
}

/* Whoever else registers a heap meanwhile cannot */
static void minors_are_limited(struct kunit *test)
{
	struct dma_heap *heap = create(test, "kunit-heap");
	unsigned int minor;
	int ret;

	/* Heaps of other tests give theirs back late: a cdev is released, and then the device */
	if (IS_ENABLED(CONFIG_DEBUG_KOBJECT_RELEASE))
		msleep(LONG_MS);

	at_exit(test, free_minors, &dma_heap_minors);
	for (minor = 0; minor <= MINORMASK; minor++) {
		/* -EBUSY: another heap has it */
		ret = xa_insert(&dma_heap_minors, minor, &dma_heap_minors, GFP_KERNEL);
		if (ret && ret != -EBUSY)
			break;
		cond_resched();
	}
	KUNIT_ASSERT_GT(test, minor, MINORMASK);

	KUNIT_EXPECT_EQ(test, register_heap(test, heap), -EBUSY);
	KUNIT_EXPECT_EQ(test, number(heap), 0);
	KUNIT_EXPECT_NULL(test, lookup("kunit-heap"));
	kunit_release_action(test, free_minors, &dma_heap_minors);
	KUNIT_EXPECT_EQ(test, use(add(test, "kunit-heap")), 0);
}

static const struct request_param {
	const char *desc;
	u64 len;
	u32 fd_flags;
	u64 heap_flags;
	int ret;
	u64 rounded;	/* 0: the heap is not asked */
} request_params[] = {
	{ "one", 1, O_RDWR, 0, 0, PAGE_SIZE },
	{ "page", PAGE_SIZE, O_RDONLY | O_CLOEXEC, 0, 0, PAGE_SIZE },
	{ "page and one", PAGE_SIZE + 1, O_WRONLY, 0, 0, 2 * PAGE_SIZE },
	{ "more than the heap has", MAX_LEN + 1, O_RDWR, 0, -ENOMEM, MAX_LEN + PAGE_SIZE },
	{ "4 GiB less a page", SZ_4G - PAGE_SIZE, O_RDWR, 0, -ENOMEM, SZ_4G - PAGE_SIZE },
	{ "4 GiB less one", SZ_4G - 1, O_RDWR, 0, -ENOMEM, SZ_4G },
	{ "4 GiB", SZ_4G, O_RDWR, 0, -ENOMEM, SZ_4G },
	{ "4 GiB and one", SZ_4G + 1, O_RDWR, 0, -ENOMEM, SZ_4G + PAGE_SIZE },
	{ "last that can be aligned", -(u64)PAGE_SIZE, O_RDWR, 0, -ENOMEM, -(u64)PAGE_SIZE },
	{ "overflows", -(u64)PAGE_SIZE + 1, O_RDWR, 0, -EINVAL },
	{ "all bits", U64_MAX, O_RDWR, 0, -EINVAL },
	{ "nothing", 0, O_RDWR, 0, -EINVAL },
	{ "fd flag", 1, O_RDWR | O_NONBLOCK, 0, -EINVAL },
	{ "all fd flags", 1, U32_MAX, 0, -EINVAL },
	{ "heap flag", 1, O_RDWR, 1, -EINVAL },
	{ "high heap flag", 1, O_RDWR, BIT_ULL(63), -EINVAL },
};

KUNIT_ARRAY_PARAM_DESC(request, request_params, desc);

static void alloc(struct kunit *test)
{
	const struct request_param *param = test->param_value;
	struct dma_heap *heap = add(test, "kunit-heap");
	struct state *state = test->priv;
	/* Nor is it for what an unsigned long of 32 bits cannot express */
	bool asked = param->rounded && param->rounded <= ULONG_MAX;

	KUNIT_EXPECT_EQ(test, try_alloc(heap, param->len, param->fd_flags, param->heap_flags),
			param->ret);
	KUNIT_EXPECT_EQ(test, atomic_read(&state->calls), asked);
	KUNIT_EXPECT_EQ(test, state->len, asked ? param->rounded : 0);
	KUNIT_EXPECT_EQ(test, state->fd_flags, asked ? param->fd_flags : 0);
}

/* A found heap stays, and so do its buffers, but no new ones come of it */
static void unregister_found(struct kunit *test)
{
	struct state *state = test->priv;
	struct dma_heap *heap = add(test, "kunit-heap");
	struct dma_heap *found = find(test, "kunit-heap");
	struct dma_buf *dmabuf = dma_heap_buffer_alloc(found, 1, O_RDWR, 0);

	KUNIT_ASSERT_NOT_ERR_OR_NULL(test, dmabuf);
	kunit_release_action(test, remove_heap, heap);
	KUNIT_EXPECT_STREQ(test, dma_heap_get_name(found), "kunit-heap");
	KUNIT_EXPECT_EQ(test, try_alloc(found, 1, O_RDWR, 0), -ENODEV);
	KUNIT_EXPECT_EQ(test, try_alloc(found, 0, O_RDWR, 0), -EINVAL);
	KUNIT_EXPECT_EQ(test, atomic_read(&state->calls), 1);

	KUNIT_EXPECT_EQ(test, dmabuf->size, PAGE_SIZE);
	KUNIT_EXPECT_EQ(test, file_count(dmabuf->file), 1);
	__fput_sync(dmabuf->file);
}

static void unregister_in_flight(struct kunit *test)
{
	struct state *state = test->priv;
	struct dma_heap *heap = create(test, "kunit-heap");
	struct job *user = job_new(test, use_job, add(test, "kunit-other"));
	struct job *adder = job_new(test, register_job, create(test, "kunit-third"));
	struct job *allocator = job_new(test, alloc_job, heap);
	struct job *remover = job_new(test, unregister_job, heap);
	struct dma_heap *found;

	KUNIT_ASSERT_EQ(test, dma_heap_register(heap), 0);
	state->block = true;
	job_start(allocator);
	KUNIT_EXPECT_NE(test, wait_for_completion_timeout(&state->entered,
							  msecs_to_jiffies(LONG_MS)), 0);
	WRITE_ONCE(state->block, false);

	/* Revoked at once, but not done before the allocation is */
	job_start(remover);
	read_poll_timeout(lookup, found, !found, USEC_PER_MSEC, LONG_MS * USEC_PER_MSEC, false,
			  "kunit-heap");
	KUNIT_EXPECT_NULL(test, found);
	KUNIT_EXPECT_EQ(test, try_alloc(heap, 1, O_RDWR, 0), -ENODEV);
	KUNIT_EXPECT_EQ(test, job_result(remover, SHORT_MS), -ETIMEDOUT);
	KUNIT_EXPECT_NE(test, try_open(remover->devt), 0);
	KUNIT_EXPECT_EQ(test, job_result(allocator, 0), -ETIMEDOUT);

	/* Other heaps do not wait for it */
	KUNIT_EXPECT_EQ(test, job_result(job_start(user), LONG_MS), 0);
	KUNIT_EXPECT_EQ(test, job_result(job_start(adder), LONG_MS), 0);
	if (!adder->ret)
		at_exit(test, unregister_heap, adder->heap);

	complete_all(&state->resume);
	KUNIT_EXPECT_EQ(test, job_result(allocator, LONG_MS), 0);
	KUNIT_EXPECT_EQ(test, job_result(remover, LONG_MS), 0);
}

static void race_register(struct kunit *test)
{
	struct job *jobs[4];
	int round, i, won;

	for (round = 0; round < ROUNDS; round++) {
		for (i = 0; i < ARRAY_SIZE(jobs); i++)
			jobs[i] = job_new(test, register_job, create(test, "kunit-heap"));
		for (i = 0; i < ARRAY_SIZE(jobs); i++)
			job_start(jobs[i]);

		for (i = 0, won = 0; i < ARRAY_SIZE(jobs); i++) {
			if (job_result(jobs[i], LONG_MS)) {
				KUNIT_EXPECT_EQ(test, jobs[i]->ret, -EEXIST);
				continue;
			}
			at_exit(test, unregister_heap, jobs[i]->heap);
			won++;
		}
		KUNIT_ASSERT_EQ(test, won, 1);
		for (i = 0; i < ARRAY_SIZE(jobs); i++)
			if (!jobs[i]->ret)
				kunit_release_action(test, unregister_heap, jobs[i]->heap);
	}
}

static int alloc_until_gone(struct job *job)
{
	unsigned long end = jiffies + msecs_to_jiffies(LONG_MS);
	struct dma_heap *heap;
	int ret;

	do {
		heap = dma_heap_find_by_name("kunit-heap");
		ret = heap ? try_alloc(heap, 1, O_RDWR, 0) : -ENODEV;
		dma_heap_put(heap);
		cond_resched();
	} while (!ret && time_before(jiffies, end));

	return ret;
}

static int open_until_gone(struct job *job)
{
	unsigned long end = jiffies + msecs_to_jiffies(LONG_MS);
	int ret;

	do {
		ret = try_open(job->devt);
		cond_resched();
	} while (!ret && time_before(jiffies, end));

	return ret == -ENXIO ? -ENODEV : ret;
}

/* The test has no reference that would keep a heap from being freed too early */
static void race_remove(struct kunit *test)
{
	struct state *state = test->priv;
	struct dma_heap *heap;
	struct job *jobs[4];
	int round, i;

	for (round = 0; round < ROUNDS; round++) {
		heap = add(test, "kunit-heap");
		for (i = 0; i < ARRAY_SIZE(jobs); i++)
			jobs[i] = job_start(job_new(test, i % 2 ? alloc_until_gone :
								  open_until_gone, heap));
		usleep_range(20 * round, 20 * round + 20);
		kunit_release_action(test, remove_heap, heap);

		for (i = 0; i < ARRAY_SIZE(jobs); i++)
			KUNIT_ASSERT_EQ(test, job_result(jobs[i], LONG_MS), -ENODEV);
	}
	KUNIT_EXPECT_GT(test, atomic_read(&state->calls), 0);
}

static struct kunit_case dma_heap_cases[] = {
	KUNIT_CASE_PARAM(create_name, name_gen_params),
	KUNIT_CASE(create_ops),
	KUNIT_CASE(create_destroy),
	KUNIT_CASE(accessors),
	KUNIT_CASE(find_by_name),
	KUNIT_CASE(register_once),
	KUNIT_CASE(register_duplicate),
	KUNIT_CASE(register_in_progress),
	KUNIT_CASE(register_fails),
	KUNIT_CASE(minors_are_cyclic),
	KUNIT_CASE(minors_are_freed),
	KUNIT_CASE_SLOW(minors_are_limited),
	KUNIT_CASE_PARAM(alloc, request_gen_params),
	KUNIT_CASE(unregister_found),
	KUNIT_CASE(unregister_in_flight),
	KUNIT_CASE(race_register),
	KUNIT_CASE(race_remove),
	{}
};

static int dma_heap_test_init(struct kunit *test)
{
	struct state *state = kunit_kzalloc(test, sizeof(*state), GFP_KERNEL);

	if (!state)
		return -ENOMEM;

	init_completion(&state->entered);
	init_completion(&state->resume);
	test->priv = state;

	return 0;
}

static int dma_heap_suite_init(struct kunit_suite *suite)
{
	mnt = kern_mount(get_fs_type("ramfs"));

	return PTR_ERR_OR_ZERO(mnt);
}

static void dma_heap_suite_exit(struct kunit_suite *suite)
{
	if (!IS_ERR(mnt))
		kern_unmount(mnt);
}

static struct kunit_suite dma_heap_suite = {
	.name = "dma_heap",
	.suite_init = dma_heap_suite_init,
	.suite_exit = dma_heap_suite_exit,
	.init = dma_heap_test_init,
	.test_cases = dma_heap_cases,
};

kunit_test_suite(dma_heap_suite);

MODULE_DESCRIPTION("KUnit tests of the DMA-BUF heaps framework");
MODULE_LICENSE("GPL");
MODULE_IMPORT_NS(DMA_BUF);
MODULE_IMPORT_NS(DMA_BUF_HEAP);
MODULE_IMPORT_NS(EXPORTED_FOR_KUNIT_TESTING);
