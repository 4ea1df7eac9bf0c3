// SPDX-License-Identifier: GPL-2.0
/*
 * The kernel's side of the benchmark: imports a DMA-BUF as a driver does, and clears memory,
 * and says how long that took; and fragments memory. Needs nothing of the heaps. See
 * dma_buf_bench.h.
 */
#include <linux/cleanup.h>
#include <linux/dma-buf.h>
#include <linux/dma-mapping.h>
#include <linux/err.h>
#include <linux/fs.h>
#include <linux/gfp.h>
#include <linux/highmem.h>
#include <linux/iosys-map.h>
#include <linux/list.h>
#include <linux/log2.h>
#include <linux/miscdevice.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/platform_device.h>
#include <linux/scatterlist.h>
#include <linux/sched/signal.h>
#include <linux/timekeeping.h>
#include <linux/uaccess.h>

#include "dma_buf_bench.h"

/* By whether they snoop. On some architectures, both do. */
static struct platform_device *importers[2];

static int map_kernel(struct dma_buf *dmabuf, struct dma_buf_bench *b)
{
	struct iosys_map map;
	u64 start = ktime_get_ns();
	int ret;

	ret = dma_buf_vmap_unlocked(dmabuf, &map);
	if (ret)
		return ret;
	dma_buf_vunmap_unlocked(dmabuf, &map);
	b->vmap_ns = ktime_get_ns() - start;
	return 0;
}

static int import(struct dma_buf *dmabuf, struct dma_buf_bench *b)
{
	struct dma_buf_attachment *attach;
	struct scatterlist *sg;
	struct sg_table *sgt;
	u64 t[5], sync;
	int i, ret;

	t[0] = ktime_get_ns();
	attach = dma_buf_attach(dmabuf, &importers[!!b->snoops]->dev);
	if (IS_ERR(attach))
		return PTR_ERR(attach);
	t[1] = ktime_get_ns();
	sgt = dma_buf_map_attachment_unlocked(attach, DMA_BIDIRECTIONAL);
	if (IS_ERR(sgt)) {
		dma_buf_detach(dmabuf, attach);
		return PTR_ERR(sgt);
	}
	b->map_ns = ktime_get_ns() - t[1];
	for_each_sgtable_dma_sg(sgt, sg, i) {
		unsigned int order = ilog2(max(sg_dma_len(sg) >> PAGE_SHIFT, 1U));

		b->orders[min(order, DMA_BUF_BENCH_ORDERS - 1U)]++;
		b->entries++;
	}
	sync = ktime_get_ns();
	ret = dma_buf_begin_cpu_access(dmabuf, DMA_BIDIRECTIONAL);
	if (!ret)
		ret = dma_buf_end_cpu_access(dmabuf, DMA_BIDIRECTIONAL);
	t[2] = ktime_get_ns();
	b->sync_ns = t[2] - sync;
	dma_buf_unmap_attachment_unlocked(attach, sgt, DMA_BIDIRECTIONAL);
	t[3] = ktime_get_ns();
	dma_buf_detach(dmabuf, attach);
	t[4] = ktime_get_ns();

	b->attach_ns = t[1] - t[0];
	b->unmap_ns = t[3] - t[2];
	b->detach_ns = t[4] - t[3];
	return ret;
}

static int bench_import(struct dma_buf_bench *b)
{
	struct dma_buf *dmabuf;
	int ret;

	*b = (struct dma_buf_bench) { .fd = b->fd, .snoops = b->snoops };
	dmabuf = dma_buf_get(b->fd);
	if (IS_ERR(dmabuf))
		return PTR_ERR(dmabuf);
	ret = import(dmabuf, b);
	if (!ret)
		map_kernel(dmabuf, b);	/* not every exporter can */
	dma_buf_put(dmabuf);
	return ret;
}

static int bench_clear(struct dma_buf_bench_clear *b)
{
	struct page *page, *next;
	u64 left = b->len, start;
	LIST_HEAD(pages);
	int order, i, ret = 0;

	while (left && !ret) {
		if (fatal_signal_pending(current)) {
			ret = -EINTR;
			break;
		}
		order = min(MAX_PAGE_ORDER, left > PAGE_SIZE ? ilog2(left >> PAGE_SHIFT) : 0);
		do {
			page = alloc_pages(GFP_KERNEL | __GFP_NORETRY | __GFP_NOWARN, order);
		} while (!page && order--);
		if (!page) {
			ret = -ENOMEM;
			break;
		}
		set_page_private(page, order);
		list_add_tail(&page->lru, &pages);
		left -= min(left, PAGE_SIZE << order);
	}
	start = ktime_get_ns();
	list_for_each_entry_safe(page, next, &pages, lru) {
		order = page_private(page);
		for (i = 0; i < 1 << order; i++)
			clear_highpage(page + i);
		cond_resched();
	}
	b->ns = ktime_get_ns() - start;
	list_for_each_entry_safe(page, next, &pages, lru) {
		order = page_private(page);
		set_page_private(page, 0);
		__free_pages(page, order);
	}
	return ret;
}

static LIST_HEAD(kept);
static DEFINE_MUTEX(kept_lock);

/* Takes a free block of this order, and gives back all but the first of each 16 pages */
static bool split_block(int order)
{
	struct page *page;
	int i;

	page = alloc_pages((GFP_HIGHUSER | __GFP_NOWARN) & ~__GFP_RECLAIM, order);
	if (!page)
		return false;
	split_page(page, order);
	for (i = 0; i < 1 << order; i++) {
		if (i % 16)
			__free_page(&page[i]);
		else
			list_add(&page[i].lru, &kept);
	}
	return true;
}

/*
 * Until there are none of 16 pages and more, but in CMA areas and on other processors'
 * lists. Smaller ones are left: without them, the kernel would kill for one. What others
 * free meanwhile may take another round.
 */
static int bench_fragment(void)
{
	bool again = true;
	int order;

	guard(mutex)(&kept_lock);

	while (again) {
		again = false;
		for (order = MAX_PAGE_ORDER; order >= 4; order--) {
			while (split_block(order)) {
				again = true;
				if (fatal_signal_pending(current))
					return -EINTR;
				cond_resched();
			}
		}
	}
	return 0;
}

static void free_kept(void)
{
	struct page *page, *next;

	list_for_each_entry_safe(page, next, &kept, lru)
		__free_page(page);
}

static long dma_buf_bench_ioctl(struct file *f, unsigned int cmd, unsigned long arg)
{
	union {
		struct dma_buf_bench import;
		struct dma_buf_bench_clear clear;
	} b;
	void __user *user = (void __user *)arg;
	size_t size = _IOC_SIZE(cmd);
	int ret;

	if (cmd == DMA_BUF_BENCH_FRAGMENT)
		return bench_fragment();
	if (cmd != DMA_BUF_BENCH_IMPORT && cmd != DMA_BUF_BENCH_CLEAR)
		return -ENOTTY;
	if (copy_from_user(&b, user, size))
		return -EFAULT;
	ret = cmd == DMA_BUF_BENCH_IMPORT ? bench_import(&b.import) : bench_clear(&b.clear);
	if (!ret && copy_to_user(user, &b, size))
		ret = -EFAULT;
	return ret;
}

static const struct file_operations dma_buf_bench_fops = {
	.owner = THIS_MODULE,
	.unlocked_ioctl = dma_buf_bench_ioctl,
};

static struct miscdevice dma_buf_bench_misc = {
	.minor = MISC_DYNAMIC_MINOR,
	.name = DMA_BUF_BENCH,
	.fops = &dma_buf_bench_fops,
};

static void remove_importers(void)
{
	platform_device_unregister(importers[1]);
	platform_device_unregister(importers[0]);
}

static int __init dma_buf_bench_init(void)
{
	struct platform_device *p;
	int i, ret;

	for (i = 0; i < 2; i++) {
		p = platform_device_register_simple(DMA_BUF_BENCH, i, NULL, 0);
		if (IS_ERR(p)) {
			platform_device_unregister(importers[0]);
			return PTR_ERR(p);
		}
		importers[i] = p;
		dma_set_max_seg_size(&p->dev, UINT_MAX);
		ret = dma_set_mask_and_coherent(&p->dev, DMA_BIT_MASK(64));
		if (ret) {
			remove_importers();
			return ret;
		}
	}
#ifdef CONFIG_ARCH_HAS_SYNC_DMA_FOR_DEVICE
	importers[1]->dev.dma_coherent = true;
#endif
	ret = misc_register(&dma_buf_bench_misc);
	if (ret)
		remove_importers();
	return ret;
}
module_init(dma_buf_bench_init);

static void __exit dma_buf_bench_exit(void)
{
	misc_deregister(&dma_buf_bench_misc);
	remove_importers();
	free_kept();
}
module_exit(dma_buf_bench_exit);

MODULE_DESCRIPTION("Importer for the benchmark of DMA-BUF sources");
MODULE_LICENSE("GPL");
MODULE_IMPORT_NS(DMA_BUF);
