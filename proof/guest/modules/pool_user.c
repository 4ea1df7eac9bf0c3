// SPDX-License-Identifier: GPL-2.0
/*
 * A driver whose device has a coherent region of its own, of which a heap is made, too. Its
 * node in the device tree is compatible with "guest,pool-user", and names the region with
 * memory-region. Through /dev/pool_user, programs have it allocate buffers with the DMA API,
 * fill them, and look whether they are as they were: see pool_user.h.
 */
#include <linux/cleanup.h>
#include <linux/dma-mapping.h>
#include <linux/fs.h>
#include <linux/miscdevice.h>
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/of.h>
#include <linux/of_reserved_mem.h>
#include <linux/platform_device.h>
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

static int alloc_slot(const struct pool_user_alloc *arg)
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

static long pool_user_ioctl(struct file *filep, unsigned int cmd, unsigned long arg)
{
	void __user *user = (void __user *)arg;
	struct pool_user_alloc alloc;
	u32 slot;
	int i;

	guard(mutex)(&lock);

	switch (cmd) {
	case POOL_USER_ALLOC:
		if (copy_from_user(&alloc, user, sizeof(alloc)))
			return -EFAULT;
		return alloc.slot < POOL_USER_SLOTS && alloc.len ? alloc_slot(&alloc) : -EINVAL;
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
