// SPDX-License-Identifier: GPL-2.0
/*
 * A driver whose device has a coherent region of its own, of which a heap is made, too. Its
 * node in the device tree is compatible with "guest,pool-user", and names the region with
 * memory-region. Through /dev/pool_user, programs have it allocate buffers with the DMA API,
 * fill them, and look whether they are as they were; from several threads, too, of which some
 * are atomic. And it declares memory for a device as drivers without a device tree do. See
 * pool_user.h.
 */
#include <linux/cleanup.h>
#include <linux/delay.h>
#include <linux/dma-mapping.h>
#include <linux/err.h>
#include <linux/fs.h>
#include <linux/irqflags.h>
#include <linux/kthread.h>
#include <linux/miscdevice.h>
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/of.h>
#include <linux/of_reserved_mem.h>
#include <linux/platform_device.h>
#include <linux/prandom.h>
#include <linux/sched.h>
#include <linux/slab.h>
#include <linux/spinlock.h>
#include <linux/string.h>
#include <linux/uaccess.h>

#include "pool_user.h"

struct slot {
	size_t len;
	u8 *p;
	dma_addr_t addr;
	u32 mark;
};

static struct slot slots[POOL_USER_SLOTS];
static struct device *pool_dev;
static DEFINE_MUTEX(lock);

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

static int alloc_slot(struct pool_user_alloc *arg)
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

/* A thread of POOL_USER_THREADS: every second buffer is taken and freed with interrupts off. */
#define HELD	12

struct worker {
	struct task_struct *task;
	struct pool_user_threads sum;
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

static int run_threads(struct pool_user_threads *arg)
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
		workers[n].task = kthread_run(work, &workers[n], "pool_user/%u", n);
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

/* Takes and frees all that there is, in pages. */
static void count_pages(struct device *dev, struct pool_user_declare *arg)
{
	struct slot *s = slots;

	for (; s < slots + POOL_USER_SLOTS; s++) {
		s->p = dma_alloc_coherent(dev, PAGE_SIZE, &s->addr, GFP_KERNEL | __GFP_NOWARN);
		if (!s->p)
			break;
		memset(s->p, 0x5a, PAGE_SIZE);
		arg->first = arg->pages ? min(arg->first, s->addr) : s->addr;
		arg->last = arg->pages ? max(arg->last, s->addr) : s->addr;
		arg->pages++;
	}
	while (s-- > slots) {
		dma_free_coherent(dev, PAGE_SIZE, s->p, s->addr);
		s->p = NULL;
	}
}

static int declare(struct pool_user_declare *arg)
{
	int (*declare_memory)(struct device *dev, phys_addr_t phys, dma_addr_t addr,
			      size_t size);
	void (*release_memory)(struct device *dev);
	struct platform_device *pdev;
	int ret;

	if (!arg->declare || !arg->release || slots[0].p)
		return -EINVAL;
	declare_memory = (void *)(uintptr_t)arg->declare;
	release_memory = (void *)(uintptr_t)arg->release;

	pdev = platform_device_register_simple("pool_declared", PLATFORM_DEVID_NONE, NULL, 0);
	if (IS_ERR(pdev))
		return PTR_ERR(pdev);
	ret = dma_set_mask_and_coherent(&pdev->dev, DMA_BIT_MASK(64));
	if (!ret) {
		arg->pages = 0;
		arg->ret = declare_memory(&pdev->dev, arg->phys, arg->phys, arg->size);
		if (!arg->ret) {
			count_pages(&pdev->dev, arg);
			release_memory(&pdev->dev);
		}
	}
	platform_device_unregister(pdev);
	return ret;
}

static long pool_user_ioctl(struct file *filep, unsigned int cmd, unsigned long arg)
{
	void __user *user = (void __user *)arg;
	struct pool_user_threads threads;
	struct pool_user_declare decl;
	struct pool_user_alloc alloc;
	u32 slot;
	int i, ret;

	guard(mutex)(&lock);

	switch (cmd) {
	case POOL_USER_ALLOC:
		if (copy_from_user(&alloc, user, sizeof(alloc)))
			return -EFAULT;
		if (alloc.slot >= POOL_USER_SLOTS || !alloc.len)
			return -EINVAL;
		ret = alloc_slot(&alloc);
		if (!ret && copy_to_user(user, &alloc, sizeof(alloc))) {
			free_slot(&slots[alloc.slot]);
			ret = -EFAULT;
		}
		return ret;
	case POOL_USER_FREE:
		if (get_user(slot, (u32 __user *)user))
			return -EFAULT;
		if (slot >= POOL_USER_SLOTS || !slots[slot].p)
			return -EINVAL;
		free_slot(&slots[slot]);
		return 0;
	case POOL_USER_CHECK:
		for (i = 0; i < POOL_USER_SLOTS; i++)
			if (!slot_is_good(&slots[i]))
				return -EIO;
		return 0;
	case POOL_USER_THREADS:
		if (copy_from_user(&threads, user, sizeof(threads)))
			return -EFAULT;
		ret = run_threads(&threads);
		return ret ?: copy_to_user(user, &threads, sizeof(threads)) ? -EFAULT : 0;
	case POOL_USER_DECLARE:
		if (copy_from_user(&decl, user, sizeof(decl)))
			return -EFAULT;
		ret = declare(&decl);
		return ret ?: copy_to_user(user, &decl, sizeof(decl)) ? -EFAULT : 0;
	}
	return -ENOTTY;
}

static const struct file_operations pool_user_fops = {
	.owner = THIS_MODULE,
	.unlocked_ioctl = pool_user_ioctl,
};

static struct miscdevice pool_user_misc = {
	.minor = MISC_DYNAMIC_MINOR,
	.name = "pool_user",
	.fops = &pool_user_fops,
};

static int pool_user_probe(struct platform_device *pdev)
{
	int ret;

	if (pool_dev)
		return -EBUSY;
	ret = dma_set_mask_and_coherent(&pdev->dev, DMA_BIT_MASK(64));
	if (ret)
		return ret;
	ret = of_reserved_mem_device_init(&pdev->dev);
	if (ret)
		return dev_err_probe(&pdev->dev, ret, "has no region\n");
	pool_dev = &pdev->dev;
	ret = misc_register(&pool_user_misc);
	if (ret) {
		of_reserved_mem_device_release(pool_dev);
		pool_dev = NULL;
	}
	return ret;
}

static void pool_user_remove(struct platform_device *pdev)
{
	int i;

	misc_deregister(&pool_user_misc);
	for (i = 0; i < POOL_USER_SLOTS; i++)
		free_slot(&slots[i]);
	of_reserved_mem_device_release(pool_dev);
	pool_dev = NULL;
}

static const struct of_device_id pool_user_ids[] = {
	{ .compatible = "guest,pool-user" },
	{ }
};
MODULE_DEVICE_TABLE(of, pool_user_ids);

static struct platform_driver pool_user_driver = {
	.probe = pool_user_probe,
	.remove = pool_user_remove,
	.driver = {
		.name = "pool_user",
		.of_match_table = pool_user_ids,
		/* an open file keeps the module, not the device */
		.suppress_bind_attrs = true,
	},
};
module_platform_driver(pool_user_driver);

MODULE_DESCRIPTION("Shares a coherent region with a DMA-BUF heap");
MODULE_LICENSE("GPL");
