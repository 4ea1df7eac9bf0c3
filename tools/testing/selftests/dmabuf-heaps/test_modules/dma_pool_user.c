// SPDX-License-Identifier: GPL-2.0
/*
 * A driver whose device has a coherent region of its own, of which a heap is made, too. Its
 * node in the device tree is compatible with "dmabuf-heaps-test,pool-user", and names the
 * region with memory-region. Programs have it allocate buffers with the DMA API, fill them,
 * and look whether they are as they were; from several threads, too, of which some are
 * atomic. Without such a node, it has other devices that are there for one call only. See
 * dma_pool_user.h.
 */
#include <linux/atomic.h>
#include <linux/cleanup.h>
#include <linux/completion.h>
#include <linux/cpumask.h>
#include <linux/delay.h>
#include <linux/dma-mapping.h>
#include <linux/err.h>
#include <linux/fs.h>
#include <linux/kthread.h>
#include <linux/miscdevice.h>
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/of.h>
#include <linux/of_reserved_mem.h>
#include <linux/platform_device.h>
#include <linux/prandom.h>
#include <linux/sched.h>
#include <linux/sched/task.h>
#include <linux/sizes.h>
#include <linux/slab.h>
#include <linux/spinlock.h>
#include <linux/string.h>
#include <linux/uaccess.h>

#include "dma_pool_user.h"

struct slot {
	size_t len;
	u8 *p;
	dma_addr_t addr;
	u32 mark;
};

static struct slot slots[DMA_POOL_USER_SLOTS];
static struct device *pool_dev;
static DEFINE_MUTEX(lock);	/* the above */

static u8 pattern(size_t i, u32 seed)
{
	return i * 31 + (i >> 12) * 7 + seed;
}

static void free_slot(struct slot *s)
{
	if (s->p)
		dma_free_coherent(pool_dev, s->len, s->p, s->addr);
	s->p = NULL;
}

static int alloc_slot(struct dma_pool_user_alloc *arg)
{
	struct slot *s = &slots[arg->slot];
	size_t i;

	if (s->p)
		return -EBUSY;
	s->p = dma_alloc_coherent(pool_dev, arg->len, &s->addr, GFP_KERNEL | __GFP_NOWARN);
	if (!s->p)
		return -ENOMEM;
	s->len = arg->len;
	s->mark = arg->mark;
	arg->addr = s->addr;
	for (i = 0; i < s->len; i++)
		s->p[i] = pattern(i, s->mark);
	return 0;
}

static bool slot_is_good(const struct slot *s)
{
	size_t i;

	for (i = 0; s->p && i < s->len; i++)
		if (s->p[i] != pattern(i, s->mark))
			return false;
	return true;
}

/* A thread of DMA_POOL_USER_THREADS: every second buffer is taken and freed with interrupts off. */
#define HELD	12

struct worker {
	struct task_struct *task;
	struct dma_pool_user_threads sum;
	u32 seed;
};

static DEFINE_SPINLOCK(atomic_lock);

static void worker_takes(struct worker *w, struct slot *s, struct rnd_state *rnd)
{
	bool atomic = prandom_u32_state(rnd) & 1;
	unsigned long flags;

	s->len = 1 + prandom_u32_state(rnd) % (w->sum.pages * PAGE_SIZE);
	s->mark = prandom_u32_state(rnd) & 0xff;
	if (atomic) {
		spin_lock_irqsave(&atomic_lock, flags);
		s->p = dma_alloc_coherent(pool_dev, s->len, &s->addr, GFP_ATOMIC | __GFP_NOWARN);
		spin_unlock_irqrestore(&atomic_lock, flags);
	} else {
		s->p = dma_alloc_coherent(pool_dev, s->len, &s->addr, GFP_KERNEL | __GFP_NOWARN);
	}
	if (!s->p) {
		w->sum.full++;
		return;
	}
	w->sum.taken++;
	w->sum.atomic += atomic;
	if (memchr_inv(s->p, 0, s->len))
		w->sum.wrong++;
	memset(s->p, s->mark, s->len);
}

static void worker_frees(struct worker *w, struct slot *s, struct rnd_state *rnd)
{
	unsigned long flags;

	if (memchr_inv(s->p, s->mark, s->len))
		w->sum.wrong++;
	if (prandom_u32_state(rnd) & 1) {
		spin_lock_irqsave(&atomic_lock, flags);
		free_slot(s);
		spin_unlock_irqrestore(&atomic_lock, flags);
	} else {
		free_slot(s);
	}
}

static int work(void *data)
{
	struct slot held[HELD] = { 0 }, *s;
	struct worker *w = data;
	struct rnd_state rnd;

	prandom_seed_state(&rnd, w->seed);
	while (!kthread_should_stop()) {
		s = &held[prandom_u32_state(&rnd) % HELD];
		if (s->p)
			worker_frees(w, s, &rnd);
		else
			worker_takes(w, s, &rnd);
		cond_resched();
	}
	for (s = held; s < held + HELD; s++)
		if (s->p)
			worker_frees(w, s, &rnd);
	return 0;
}

static int run_threads(struct dma_pool_user_threads *arg)
{
	struct worker *workers;
	unsigned int i, n;
	int ret = 0;

	if (!arg->threads || arg->threads > 64 || !arg->pages || arg->pages > 1024)
		return -EINVAL;
	workers = kcalloc(arg->threads, sizeof(*workers), GFP_KERNEL);
	if (!workers)
		return -ENOMEM;
	for (n = 0; n < arg->threads; n++) {
		workers[n].sum.pages = arg->pages;
		workers[n].seed = n + 1;
		workers[n].task = kthread_run(work, &workers[n], DMA_POOL_USER "/%u", n);
		if (IS_ERR(workers[n].task)) {
			ret = PTR_ERR(workers[n].task);
			break;
		}
	}
	if (!ret)
		msleep(arg->ms);
	arg->wrong = 0;
	arg->taken = 0;
	arg->atomic = 0;
	arg->full = 0;
	for (i = 0; i < n; i++) {
		kthread_stop(workers[i].task);
		arg->wrong += workers[i].sum.wrong;
		arg->taken += workers[i].sum.taken;
		arg->atomic += workers[i].sum.atomic;
		arg->full += workers[i].sum.full;
	}
	kfree(workers);
	return ret;
}

/* One of two devices that get a region at the same time */
struct first_user {
	struct platform_device *pdev;
	struct reserved_mem *rmem;
	struct task_struct *task;
	struct completion done;
	atomic_t *missing;	/* users that are not there yet */
	struct slot *slots;
	u32 mark, pages, taken;
	int ret;
};

static int take_first(void *data)
{
	struct first_user *user = data;
	struct device *dev = &user->pdev->dev;
	struct slot *s;

	atomic_dec(user->missing);
	while (atomic_read(user->missing))
		cond_resched();

	user->ret = of_reserved_mem_device_init_with_mem(dev, user->rmem);
	for (; !user->ret && user->taken < user->pages; user->taken++) {
		s = &user->slots[user->taken];
		s->p = dma_alloc_coherent(dev, PAGE_SIZE, &s->addr, GFP_KERNEL | __GFP_NOWARN);
		if (!s->p)
			break;
		memset(s->p, user->mark, PAGE_SIZE);
	}
	complete(&user->done);
	return 0;
}

static int first_user_create(struct first_user *user, int id)
{
	struct platform_device *pdev;
	struct task_struct *task;
	int ret;

	user->slots = kvcalloc(user->pages, sizeof(*user->slots), GFP_KERNEL);
	if (!user->slots)
		return -ENOMEM;
	pdev = platform_device_register_simple("dma_pool_first", id, NULL, 0);
	if (IS_ERR(pdev))
		return PTR_ERR(pdev);
	user->pdev = pdev;
	user->mark = 0xa0 + id;
	ret = dma_set_mask_and_coherent(&pdev->dev, DMA_BIT_MASK(64));
	if (ret)
		return ret;
	init_completion(&user->done);
	task = kthread_create(take_first, user, "dma_pool_first/%d", id);
	if (IS_ERR(task))
		return PTR_ERR(task);
	kthread_bind(task, id ? cpumask_last(cpu_online_mask) : cpumask_first(cpu_online_mask));
	user->task = get_task_struct(task);
	return 0;
}

static u32 first_user_wrong(const struct first_user *user)
{
	u32 i, wrong = 0;

	for (i = 0; i < user->taken; i++)
		wrong += !!memchr_inv(user->slots[i].p, user->mark, PAGE_SIZE);
	return wrong;
}

static void first_user_destroy(struct first_user *user)
{
	struct slot *s = user->slots;

	if (user->task)
		kthread_stop_put(user->task);
	for (; user->taken; user->taken--, s++)
		dma_free_coherent(&user->pdev->dev, PAGE_SIZE, s->p, s->addr);
	if (user->pdev) {
		of_reserved_mem_device_release(&user->pdev->dev);
		platform_device_unregister(user->pdev);
	}
	kvfree(user->slots);
}

static struct reserved_mem *find_region(const char *name)
{
	struct device_node *parent, *np;
	struct reserved_mem *rmem;

	parent = of_find_node_by_path("/reserved-memory");
	for_each_child_of_node(parent, np) {
		if (strcmp(kbasename(np->full_name), name))
			continue;
		rmem = of_reserved_mem_lookup(np);
		of_node_put(np);
		of_node_put(parent);
		return rmem;
	}
	of_node_put(parent);
	return NULL;
}

static int first_users(struct dma_pool_user_first *arg)
{
	struct first_user *users;
	struct reserved_mem *rmem;
	atomic_t missing;
	int i, ret = 0;

	if (strnlen(arg->region, sizeof(arg->region)) == sizeof(arg->region) ||
	    !arg->pages || arg->pages > SZ_64K)
		return -EINVAL;
	rmem = find_region(arg->region);
	if (!rmem)
		return -ENOENT;
	users = kcalloc(2, sizeof(*users), GFP_KERNEL);
	if (!users)
		return -ENOMEM;
	atomic_set(&missing, 2);
	for (i = 0; i < 2 && !ret; i++) {
		users[i].rmem = rmem;
		users[i].missing = &missing;
		users[i].pages = arg->pages;
		ret = first_user_create(&users[i], i);
	}
	for (i = 0; i < 2 && !ret; i++)
		wake_up_process(users[i].task);
	for (i = 0; i < 2 && !ret; i++)
		wait_for_completion(&users[i].done);
	arg->wrong = 0;
	for (i = 0; i < 2; i++) {
		arg->ret[i] = users[i].ret;
		arg->taken[i] = users[i].taken;
		arg->wrong += first_user_wrong(&users[i]);
	}
	for (i = 0; i < 2; i++)
		first_user_destroy(&users[i]);
	kfree(users);
	return ret;
}

static long pool_user_ioctl(struct file *filep, unsigned int cmd, unsigned long arg)
{
	void __user *user = (void __user *)arg;
	struct dma_pool_user_threads threads;
	struct dma_pool_user_first first;
	struct dma_pool_user_alloc alloc;
	u32 slot;
	int i, ret;

	guard(mutex)(&lock);

	if (cmd == DMA_POOL_USER_FIRST) {
		if (copy_from_user(&first, user, sizeof(first)))
			return -EFAULT;
		ret = first_users(&first);
		return ret ?: copy_to_user(user, &first, sizeof(first)) ? -EFAULT : 0;
	}
	if (!pool_dev)
		return -ENODEV;

	switch (cmd) {
	case DMA_POOL_USER_ALLOC:
		if (copy_from_user(&alloc, user, sizeof(alloc)))
			return -EFAULT;
		if (alloc.slot >= DMA_POOL_USER_SLOTS || !alloc.len)
			return -EINVAL;
		ret = alloc_slot(&alloc);
		if (!ret && copy_to_user(user, &alloc, sizeof(alloc))) {
			free_slot(&slots[alloc.slot]);
			ret = -EFAULT;
		}
		return ret;
	case DMA_POOL_USER_FREE:
		if (get_user(slot, (u32 __user *)user))
			return -EFAULT;
		if (slot >= DMA_POOL_USER_SLOTS || !slots[slot].p)
			return -EINVAL;
		free_slot(&slots[slot]);
		return 0;
	case DMA_POOL_USER_CHECK:
		for (i = 0; i < DMA_POOL_USER_SLOTS; i++)
			if (!slot_is_good(&slots[i]))
				return -EIO;
		return 0;
	case DMA_POOL_USER_THREADS:
		if (copy_from_user(&threads, user, sizeof(threads)))
			return -EFAULT;
		ret = run_threads(&threads);
		return ret ?: copy_to_user(user, &threads, sizeof(threads)) ? -EFAULT : 0;
	}
	return -ENOTTY;
}

static const struct file_operations pool_user_fops = {
	.owner = THIS_MODULE,
	.unlocked_ioctl = pool_user_ioctl,
};

static struct miscdevice pool_user_misc = {
	.minor = MISC_DYNAMIC_MINOR,
	.name = DMA_POOL_USER,
	.fops = &pool_user_fops,
};

static int pool_user_probe(struct platform_device *pdev)
{
	int ret;

	guard(mutex)(&lock);

	if (pool_dev)
		return -EBUSY;
	ret = dma_set_mask_and_coherent(&pdev->dev, DMA_BIT_MASK(64));
	if (ret)
		return ret;
	ret = of_reserved_mem_device_init(&pdev->dev);
	if (ret)
		return dev_err_probe(&pdev->dev, ret, "has no region\n");
	pool_dev = &pdev->dev;
	return 0;
}

static void pool_user_remove(struct platform_device *pdev)
{
	int i;

	guard(mutex)(&lock);

	for (i = 0; i < DMA_POOL_USER_SLOTS; i++)
		free_slot(&slots[i]);
	of_reserved_mem_device_release(pool_dev);
	pool_dev = NULL;
}

static const struct of_device_id pool_user_ids[] = {
	{ .compatible = DMA_POOL_USER_NODE },
	{ }
};
MODULE_DEVICE_TABLE(of, pool_user_ids);

static struct platform_driver pool_user_driver = {
	.probe = pool_user_probe,
	.remove = pool_user_remove,
	.driver = {
		.name = DMA_POOL_USER,
		.of_match_table = pool_user_ids,
	},
};

static int __init pool_user_init(void)
{
	int ret;

	ret = platform_driver_register(&pool_user_driver);
	if (ret)
		return ret;
	ret = misc_register(&pool_user_misc);
	if (ret)
		platform_driver_unregister(&pool_user_driver);
	return ret;
}
module_init(pool_user_init);

static void __exit pool_user_exit(void)
{
	misc_deregister(&pool_user_misc);
	platform_driver_unregister(&pool_user_driver);
}
module_exit(pool_user_exit);

MODULE_DESCRIPTION("Coherent pools of devices, for the tests of DMA-BUF heaps");
MODULE_LICENSE("GPL");
