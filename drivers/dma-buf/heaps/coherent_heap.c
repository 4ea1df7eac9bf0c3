// SPDX-License-Identifier: GPL-2.0
/*
 * DMA-BUF heaps of coherent reserved memory
 *
 * One heap for each coherent memory region of the device tree. The region is
 * assigned to the heap's device, and buffers are allocated for that device, so the
 * heap shares the pool, and the account of what is in use, with the drivers whose
 * devices have the same region.
 *
 * The memory usually is no-map: there is no linear mapping of it, and maybe no
 * struct page. All of the kernel uses the write-combined mapping of the pool, user
 * space gets one like it, and nobody has to look after caches.
 */

#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/device.h>
#include <linux/dma-buf.h>
#include <linux/dma-heap.h>
#include <linux/dma-map-ops.h>
#include <linux/dma-mapping.h>
#include <linux/err.h>
#include <linux/iosys-map.h>
#include <linux/limits.h>
#include <linux/list.h>
#include <linux/math.h>
#include <linux/minmax.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/moduleparam.h>
#include <linux/of_reserved_mem.h>
#include <linux/pgtable.h>
#include <linux/scatterlist.h>
#include <linux/slab.h>
#include <linux/string.h>

#include <kunit/visibility.h>

#include "coherent_heap.h"

static char *regions;
module_param(regions, charp, 0444);
MODULE_PARM_DESC(regions,
		 "Names of the regions to make heaps of, separated by commas (default: all)");

struct coherent_heap {
	struct dma_heap *heap;
	struct list_head list;
};

/* All heaps of this module; changes in its init and exit functions only */
static LIST_HEAD(coherent_heaps);

struct coherent_heap_buffer {
	struct device *dev;
	unsigned long len;
	void *vaddr;
	dma_addr_t dma_addr;
};

/* What fits into one entry of a scatterlist */
#define MAX_SEGMENT	PAGE_ALIGN_DOWN(UINT_MAX)

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

	ret = dma_coherent_map(buffer->dev, buffer->vaddr, buffer->len,
			       attachment->dev, direction, &addr);
	if (ret)
		goto free_sg;

	/* DMA addresses only: there are no pages that an importer could use */
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

	/*
	 * As the pool is mapped. The DMA API leaves this alone if it takes the
	 * heap's device for one that looks into caches, as is the default on
	 * some architectures; on others it is stricter.
	 */
	vma->vm_page_prot = pgprot_writecombine(vma->vm_page_prot);

	return dma_mmap_wc(buffer->dev, vma, buffer->vaddr, buffer->dma_addr,
			   buffer->len);
}

static int coherent_heap_vmap(struct dma_buf *dmabuf, struct iosys_map *map)
{
	struct coherent_heap_buffer *buffer = dmabuf->priv;

	/* Another mapping, by vmap(), would be a cacheable one */
	iosys_map_set_vaddr(map, buffer->vaddr);

	return 0;
}

static void coherent_heap_dma_buf_release(struct dma_buf *dmabuf)
{
	struct coherent_heap_buffer *buffer = dmabuf->priv;

	dma_free_wc(buffer->dev, buffer->len, buffer->vaddr, buffer->dma_addr);
	kfree(buffer);
}

static const struct dma_buf_ops coherent_heap_buf_ops = {
	.map_dma_buf = coherent_heap_map_dma_buf,
	.unmap_dma_buf = coherent_heap_unmap_dma_buf,
	.mmap = coherent_heap_mmap,
	.vmap = coherent_heap_vmap,
	.release = coherent_heap_dma_buf_release,
};

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

	/* From the pool or not at all, and zeroed */
	buffer->dev = dma_heap_get_dev(heap);
	buffer->len = len;
	buffer->vaddr = dma_alloc_wc(buffer->dev, len, &buffer->dma_addr,
				     GFP_KERNEL | __GFP_NOWARN);
	if (!buffer->vaddr) {
		ret = -ENOMEM;
		goto free_buffer;
	}

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
	dma_free_wc(buffer->dev, len, buffer->vaddr, buffer->dma_addr);
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
	struct dma_heap *heap;
	bool said = false;
	int ret;

	coherent_heap = kzalloc(sizeof(*coherent_heap), GFP_KERNEL);
	if (!coherent_heap) {
		ret = -ENOMEM;
		goto free_heap;
	}

	heap = dma_heap_create(&exp_info);
	if (IS_ERR(heap)) {
		ret = PTR_ERR(heap);
		goto free_heap;
	}

	/* Before anybody can ask the heap for a buffer */
	ret = of_reserved_mem_device_init_with_mem(dma_heap_get_dev(heap), rmem);
	if (ret) {
		/* That it is the region's fault was said where it was found */
		said = ret == -EINVAL;
		goto put_heap;
	}

	ret = dma_heap_register(heap);
	if (ret)
		goto release_mem;

	coherent_heap->heap = heap;

	return coherent_heap;

release_mem:
	of_reserved_mem_device_release(dma_heap_get_dev(heap));
put_heap:
	dma_heap_put(heap);
free_heap:
	kfree(coherent_heap);
	if (!said)
		pr_err("no heap for coherent region %s: %pe\n", rmem->name,
		       ERR_PTR(ret));

	return ERR_PTR(ret);
}
EXPORT_SYMBOL_IF_KUNIT(coherent_heap_add);

/* There must be no buffer left */
VISIBLE_IF_KUNIT void coherent_heap_remove(struct coherent_heap *coherent_heap)
{
	struct device *dev = get_device(dma_heap_get_dev(coherent_heap->heap));

	/* The memory can be taken away when nobody can allocate any more */
	dma_heap_unregister(coherent_heap->heap);
	of_reserved_mem_device_release(dev);
	put_device(dev);
	kfree(coherent_heap);
}
EXPORT_SYMBOL_IF_KUNIT(coherent_heap_remove);

/* How much of @list is @name, if that is what it begins with; else 0 */
static size_t __init name_length(const char *list, const char *name)
{
	size_t len = str_has_prefix(list, name);

	return list[len] == ',' || list[len] == '\0' ? len : 0;
}

/*
 * The length of the name that @list begins with: that of a region, or all up to a
 * comma. The name of a node may have a comma in it, so the longest one counts.
 */
static size_t __init first_name(const char *list, bool *known)
{
	struct reserved_mem *rmem;
	size_t len = 0;
	unsigned int i;

	for (i = 0; (rmem = dma_coherent_get_region_by_idx(i)); i++)
		len = max(len, name_length(list, rmem->name));
	*known = len;

	return len ?: strcspn(list, ",");
}

static const char * __init next_name(const char *pos, size_t len)
{
	return pos + len + (pos[len] == ',');
}

static bool __init region_wanted(const char *name)
{
	const char *pos = regions;
	size_t len;
	bool known;

	for (; pos && *pos; pos = next_name(pos, len)) {
		len = first_name(pos, &known);
		if (known && len == name_length(pos, name))
			return true;
	}

	return !regions;
}

/* Somebody counts on a heap that will not come */
static void __init report_unknown_regions(void)
{
	const char *pos = regions;
	size_t len;
	bool known;

	for (; pos && *pos; pos = next_name(pos, len)) {
		len = first_name(pos, &known);
		if (!known && len)
			pr_warn("no coherent region is called %.*s\n",
				(int)len, pos);
	}
}

static int __init add_coherent_heaps(void)
{
	struct coherent_heap *coherent_heap;
	struct reserved_mem *rmem;
	unsigned int i;

	for (i = 0; (rmem = dma_coherent_get_region_by_idx(i)); i++) {
		if (!region_wanted(rmem->name))
			continue;

		/* A bad region is no reason to do without the other heaps */
		coherent_heap = coherent_heap_add(rmem);
		if (!IS_ERR(coherent_heap))
			list_add_tail(&coherent_heap->list, &coherent_heaps);
	}
	report_unknown_regions();

	return 0;
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
