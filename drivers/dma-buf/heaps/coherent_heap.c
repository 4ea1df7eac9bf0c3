// SPDX-License-Identifier: GPL-2.0
/*
 * DMA-BUF heaps of coherent reserved memory
 *
 * One heap for each coherent region of the device tree that the regions= parameter
 * names. The region is assigned to the heap's device and buffers are allocated for
 * that device, so the heap and drivers whose devices have the same region allocate
 * from one pool.
 *
 * The memory is usually no-map: it has no linear mapping and may have no struct
 * page. The kernel uses the pool's own mapping, which is not cached, and user space
 * gets a write-combined one, so there are no caches to maintain.
 */

#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/device.h>
#include <linux/dma-buf.h>
#include <linux/dma-heap.h>
#include <linux/dma-map-ops.h>
#include <linux/dma-mapping.h>
#include <linux/err.h>
#include <linux/glob.h>
#include <linux/iosys-map.h>
#include <linux/limits.h>
#include <linux/list.h>
#include <linux/minmax.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/moduleparam.h>
#include <linux/of_reserved_mem.h>
#include <linux/pfn.h>
#include <linux/pgtable.h>
#include <linux/scatterlist.h>
#include <linux/sched.h>
#include <linux/sched/signal.h>
#include <linux/seq_buf.h>
#include <linux/sizes.h>
#include <linux/slab.h>
#include <linux/string.h>

#include <kunit/visibility.h>

#include "coherent_heap.h"

static char *regions;
module_param(regions, charp, 0444);
MODULE_PARM_DESC(regions,
		 "Coherent regions to make heaps of: names or shell patterns, separated by ':' (default: none)");

/* All heaps of this module; only its init and exit functions change the list */
static LIST_HEAD(coherent_heaps);

struct coherent_heap_buffer {
	struct device *dev;
	unsigned long len;
	void *vaddr;
	phys_addr_t phys;
};

/* The length of a scatterlist entry is an unsigned int */
#define MAX_SEGMENT	PAGE_ALIGN_DOWN(UINT_MAX)

/* How much is cleared at a time */
#define CLEAR_CHUNK	SZ_64K

static struct sg_table *
coherent_heap_map_dma_buf(struct dma_buf_attachment *attachment,
			  enum dma_data_direction direction)
{
	struct coherent_heap_buffer *buffer = attachment->dmabuf->priv;
	unsigned long left = buffer->len;
	struct sg_table *table;
	struct scatterlist *sg;
	dma_addr_t addr;
	int i, ret;

	table = kzalloc(sizeof(*table), GFP_KERNEL);
	if (!table)
		return ERR_PTR(-ENOMEM);

	/* No buffer is empty; DIV_ROUND_UP() would overflow where a long has 32 bits */
	ret = sg_alloc_table(table, 1 + (left - 1) / MAX_SEGMENT, GFP_KERNEL);
	if (ret)
		goto free_table;

	addr = dma_coherent_map(buffer->dev, buffer->vaddr, buffer->len,
				attachment->dev, direction);
	if (dma_mapping_error(attachment->dev, addr)) {
		ret = -EIO;
		goto free_sg;
	}

	/* DMA addresses only: there may be no pages */
	for_each_sgtable_dma_sg(table, sg, i) {
		unsigned int len = min(left, MAX_SEGMENT);

		sg_dma_address(sg) = addr;
		sg_dma_len(sg) = len;
		addr += len;
		left -= len;
	}

	return table;

free_sg:
	sg_free_table(table);
free_table:
	kfree(table);

	return ERR_PTR(ret);
}

static void coherent_heap_unmap_dma_buf(struct dma_buf_attachment *attachment,
					struct sg_table *table,
					enum dma_data_direction direction)
{
	struct coherent_heap_buffer *buffer = attachment->dmabuf->priv;

	dma_coherent_unmap(attachment->dev, sg_dma_address(table->sgl),
			   buffer->len, direction);
	sg_free_table(table);
	kfree(table);
}

static int coherent_heap_mmap(struct dma_buf *dmabuf, struct vm_area_struct *vma)
{
	struct coherent_heap_buffer *buffer = dmabuf->priv;

	if ((vma->vm_flags & (VM_SHARED | VM_MAYSHARE)) == 0)
		return -EINVAL;

	/* The pool's own mapping is not cached either */
	vma->vm_page_prot = pgprot_writecombine(vma->vm_page_prot);

	return dma_heap_remap_pfn_range(vma, vma->vm_start,
					PHYS_PFN(buffer->phys) + vma->vm_pgoff,
					vma->vm_end - vma->vm_start);
}

static int coherent_heap_vmap(struct dma_buf *dmabuf, struct iosys_map *map)
{
	struct coherent_heap_buffer *buffer = dmabuf->priv;

	/* The pool's own mapping: vmap() would make a cacheable alias */
	iosys_map_set_vaddr(map, buffer->vaddr);

	return 0;
}

static void coherent_heap_dma_buf_release(struct dma_buf *dmabuf)
{
	struct coherent_heap_buffer *buffer = dmabuf->priv;

	dma_coherent_free(buffer->dev, buffer->len, buffer->vaddr);
	kfree(buffer);
}

static const struct dma_buf_ops coherent_heap_buf_ops = {
	.map_dma_buf = coherent_heap_map_dma_buf,
	.unmap_dma_buf = coherent_heap_unmap_dma_buf,
	.mmap = coherent_heap_mmap,
	.vmap = coherent_heap_vmap,
	.release = coherent_heap_dma_buf_release,
};

/* A pool may have gigabytes, and its mapping is not cached */
static int clear_buffer(struct coherent_heap_buffer *buffer)
{
	unsigned long done, len;

	for (done = 0; done < buffer->len; done += len) {
		if (fatal_signal_pending(current))
			return -EINTR;

		len = min(buffer->len - done, CLEAR_CHUNK);
		memset(buffer->vaddr + done, 0, len);
		cond_resched();
	}

	return 0;
}

static struct dma_buf *coherent_heap_allocate(struct dma_heap *heap,
					      unsigned long len,
					      u32 fd_flags,
					      u64 heap_flags)
{
	DEFINE_DMA_BUF_EXPORT_INFO(exp_info);
	struct coherent_heap_buffer *buffer;
	struct dma_buf *dmabuf;
	int ret;

	buffer = kzalloc(sizeof(*buffer), GFP_KERNEL);
	if (!buffer)
		return ERR_PTR(-ENOMEM);

	buffer->dev = dma_heap_get_dev(heap);
	buffer->len = len;
	buffer->vaddr = dma_coherent_alloc(buffer->dev, len, &buffer->phys);
	if (!buffer->vaddr) {
		ret = -ENOMEM;
		goto free_buffer;
	}

	ret = clear_buffer(buffer);
	if (ret)
		goto free_memory;

	exp_info.exp_name = dma_heap_get_name(heap);
	exp_info.ops = &coherent_heap_buf_ops;
	exp_info.size = len;
	exp_info.flags = fd_flags;
	exp_info.priv = buffer;
	dmabuf = dma_buf_export(&exp_info);
	if (IS_ERR(dmabuf)) {
		ret = PTR_ERR(dmabuf);
		goto free_memory;
	}

	return dmabuf;

free_memory:
	dma_coherent_free(buffer->dev, len, buffer->vaddr);
free_buffer:
	kfree(buffer);

	return ERR_PTR(ret);
}

static const struct dma_heap_ops coherent_heap_ops = {
	.allocate = coherent_heap_allocate,
};

VISIBLE_IF_KUNIT struct coherent_heap *coherent_heap_add(struct reserved_mem *rmem)
{
	struct dma_heap_export_info exp_info = {
		.name = rmem->name,
		.ops = &coherent_heap_ops,
	};
	struct coherent_heap *coherent_heap;
	bool reported = false;
	struct dma_heap *heap;
	int ret;

	/* The names of the system heap and of the default CMA heap, loaded or not */
	if (!strcmp(rmem->name, "system") || !strcmp(rmem->name, "default_cma_region")) {
		ret = -EEXIST;
		goto report;
	}

	coherent_heap = kzalloc(sizeof(*coherent_heap), GFP_KERNEL);
	if (!coherent_heap) {
		ret = -ENOMEM;
		goto report;
	}

	heap = dma_heap_create(&exp_info);
	if (IS_ERR(heap)) {
		ret = PTR_ERR(heap);
		goto free_heap;
	}

	/* Before anybody can allocate from the heap */
	ret = of_reserved_mem_device_init_with_mem(dma_heap_get_dev(heap), rmem);
	if (ret) {
		/* -EINVAL: it cannot be a pool, and kernel/dma has said why */
		reported = ret == -EINVAL;
		goto destroy_heap;
	}

	ret = dma_heap_register(heap);
	if (ret)
		goto release_mem;

	coherent_heap->heap = heap;
	coherent_heap->rmem = rmem;

	return coherent_heap;

release_mem:
	of_reserved_mem_device_release(dma_heap_get_dev(heap));
destroy_heap:
	dma_heap_destroy(heap);
free_heap:
	kfree(coherent_heap);
report:
	if (!reported)
		pr_err("no heap for coherent region %s: %pe\n", rmem->name,
		       ERR_PTR(ret));

	return ERR_PTR(ret);
}
EXPORT_SYMBOL_IF_KUNIT(coherent_heap_add);

/* There must be no buffer left */
VISIBLE_IF_KUNIT void coherent_heap_remove(struct coherent_heap *coherent_heap)
{
	struct dma_heap *heap = coherent_heap->heap;

	/* The memory can go only when nobody can allocate any more */
	dma_heap_unregister(heap);
	of_reserved_mem_device_release(dma_heap_get_dev(heap));
	dma_heap_destroy(heap);
	kfree(coherent_heap);
}
EXPORT_SYMBOL_IF_KUNIT(coherent_heap_remove);

static bool has_heap(struct reserved_mem *rmem, struct list_head *heaps)
{
	struct coherent_heap *coherent_heap;

	list_for_each_entry(coherent_heap, heaps, list)
		if (coherent_heap->rmem == rmem)
			return true;

	return false;
}

/*
 * Adds to @heaps a heap for each region that an entry of @names matches. A region that
 * cannot become a heap is no reason to do without the others. Returns the number
 * of entries that match no region, or an error, in which case there is no new heap.
 */
VISIBLE_IF_KUNIT int
coherent_heap_add_named(const char *names, struct list_head *heaps,
			struct reserved_mem *(*get_region)(unsigned int))
{
	struct coherent_heap *coherent_heap;
	struct reserved_mem *rmem;
	char *copy, *pos, *name;
	unsigned int i;
	int unknown = 0;

	copy = kstrdup(names, GFP_KERNEL);
	if (!copy)
		return -ENOMEM;

	pos = copy;
	while ((name = strsep(&pos, ":"))) {
		bool found = false;

		if (!*name)
			continue;

		for (i = 0; (rmem = get_region(i)); i++) {
			if (!glob_match(name, rmem->name))
				continue;

			found = true;
			if (has_heap(rmem, heaps))
				continue;

			coherent_heap = coherent_heap_add(rmem);
			if (!IS_ERR(coherent_heap))
				list_add_tail(&coherent_heap->list, heaps);
		}

		if (!found) {
			pr_warn("no coherent region is called %s\n", name);
			unknown++;
		}
	}
	kfree(copy);

	return unknown;
}
EXPORT_SYMBOL_IF_KUNIT(coherent_heap_add_named);

static void __init list_regions(void)
{
	DECLARE_SEQ_BUF(names, 900);
	struct reserved_mem *rmem;
	unsigned int i;

	for (i = 0; (rmem = dma_coherent_get_region_by_idx(i)); i++)
		seq_buf_printf(&names, " %s", rmem->name);

	pr_info("no heap without regions=; coherent regions:%s%s\n",
		i ? seq_buf_str(&names) : " none",
		seq_buf_has_overflowed(&names) ? "..." : "");
}

static int __init add_coherent_heaps(void)
{
	int ret;

	/* Many regions hold firmware or belong to a driver: none is taken unasked */
	if (!regions || !regions[strspn(regions, ":")]) {
		list_regions();
		return -ENODEV;
	}

	ret = coherent_heap_add_named(regions, &coherent_heaps,
				      dma_coherent_get_region_by_idx);
	if (ret < 0)
		return ret;

	/* No error from here on if there is a heap: somebody may have opened it */
	return list_empty(&coherent_heaps) ? -ENODEV : 0;
}
module_init(add_coherent_heaps);

/* Runs when no buffer is left: each holds a reference on this module */
static void __exit remove_coherent_heaps(void)
{
	struct coherent_heap *coherent_heap, *tmp;

	list_for_each_entry_safe(coherent_heap, tmp, &coherent_heaps, list)
		coherent_heap_remove(coherent_heap);
}
module_exit(remove_coherent_heaps);

MODULE_DESCRIPTION("DMA-BUF heaps of coherent reserved memory");
MODULE_LICENSE("GPL");
MODULE_IMPORT_NS(DMA_BUF);
MODULE_IMPORT_NS(DMA_BUF_HEAP);
