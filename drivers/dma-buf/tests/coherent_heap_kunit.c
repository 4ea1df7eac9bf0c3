// SPDX-License-Identifier: GPL-2.0
/*
 * KUnit tests of the coherent DMA-BUF heap
 *
 * The first suite makes heaps of regions whose operations are the test's own, and so
 * needs no reserved memory. The second one uses the regions of the machine, and the
 * heaps that coherent_heap has made of them; it is skipped where there are none.
 */

#include <linux/atomic.h>
#include <linux/bitmap.h>
#include <linux/completion.h>
#include <linux/cpumask.h>
#include <linux/device.h>
#include <linux/dma-buf.h>
#include <linux/dma-direct.h>
#include <linux/dma-heap.h>
#include <linux/dma-map-ops.h>
#include <linux/dma-mapping.h>
#include <linux/err.h>
#include <linux/fcntl.h>
#include <linux/file.h>
#include <linux/iosys-map.h>
#include <linux/kernel.h>
#include <linux/kthread.h>
#include <linux/log2.h>
#include <linux/mman.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/of.h>
#include <linux/of_reserved_mem.h>
#include <linux/pgtable.h>
#include <linux/processor.h>
#include <linux/scatterlist.h>
#include <linux/sched.h>
#include <linux/sched/mm.h>
#include <linux/sizes.h>
#include <linux/string.h>
#include <linux/vmalloc.h>

#include <kunit/device.h>
#include <kunit/test.h>

#include "../heaps/coherent_heap.h"

/* Buffers are freed at once: dma_buf_put() would leave that to a worker */
static void buffer_put(struct dma_buf *dmabuf)
{
	__fput_sync(dmabuf->file);
}

static bool heap_is_there(const char *name)
{
	struct dma_heap *heap = dma_heap_find_by_name(name);

	dma_heap_put(heap);

	return heap;
}

/*
 * Creation, binding, registration
 */

struct fake_region {
	struct reserved_mem rmem;
	unsigned int inits;
	unsigned int releases;
	bool seen_early;
	bool seen_late;
	struct device *dev;
	int ret;
};

static int fake_init(struct reserved_mem *rmem, struct device *dev)
{
	struct fake_region *fake = container_of(rmem, struct fake_region, rmem);

	fake->inits++;
	fake->dev = dev;
	fake->seen_early = heap_is_there(rmem->name);

	return fake->ret;
}

static void fake_release(struct reserved_mem *rmem, struct device *dev)
{
	struct fake_region *fake = container_of(rmem, struct fake_region, rmem);

	fake->releases++;
	fake->seen_late = heap_is_there(rmem->name) || dev != fake->dev;
}

static const struct reserved_mem_ops fake_ops = {
	.device_init = fake_init,
	.device_release = fake_release,
};

static struct fake_region *fake_region(struct kunit *test, const char *name)
{
	struct fake_region *fake = kunit_kzalloc(test, sizeof(*fake), GFP_KERNEL);

	KUNIT_ASSERT_NOT_NULL(test, fake);
	fake->rmem.name = name;
	fake->rmem.ops = &fake_ops;

	return fake;
}

static void heap_add_remove(struct kunit *test)
{
	struct fake_region *fake = fake_region(test, "kunit-coherent@0");
	struct coherent_heap *heap;
	struct dma_heap *found;
	int i;

	for (i = 1; i <= 3; i++) {
		heap = coherent_heap_add(&fake->rmem);
		KUNIT_ASSERT_NOT_ERR_OR_NULL(test, heap);
		KUNIT_EXPECT_EQ(test, i, fake->inits);
		KUNIT_EXPECT_FALSE(test, fake->seen_early);
		KUNIT_EXPECT_EQ(test, i - 1, fake->releases);

		/* the memory is that of the heap's own device */
		found = dma_heap_find_by_name("kunit-coherent@0");
		KUNIT_EXPECT_NOT_NULL(test, found);
		if (found)
			KUNIT_EXPECT_PTR_EQ(test, fake->dev, dma_heap_get_dev(found));
		dma_heap_put(found);

		coherent_heap_remove(heap);
		KUNIT_EXPECT_EQ(test, i, fake->releases);
		KUNIT_EXPECT_FALSE(test, fake->seen_late);
		KUNIT_EXPECT_FALSE(test, heap_is_there("kunit-coherent@0"));
	}
}

/* Nothing is bound if there cannot be a heap */
static void heap_create_fails(struct kunit *test)
{
	static const char * const names[] = { NULL, "", "a/b", ".." };
	int i;

	for (i = 0; i < ARRAY_SIZE(names); i++) {
		struct fake_region *fake = fake_region(test, names[i]);

		KUNIT_EXPECT_EQ(test, -EINVAL,
				PTR_ERR_OR_ZERO(coherent_heap_add(&fake->rmem)));
		KUNIT_EXPECT_EQ(test, 0, fake->inits);
		KUNIT_EXPECT_EQ(test, 0, fake->releases);
	}
}

static void heap_bind_fails(struct kunit *test)
{
	struct fake_region *fake = fake_region(test, "kunit-coherent@0");
	struct coherent_heap *heap;

	fake->ret = -EXDEV;
	KUNIT_EXPECT_EQ(test, -EXDEV, PTR_ERR_OR_ZERO(coherent_heap_add(&fake->rmem)));
	KUNIT_EXPECT_EQ(test, 1, fake->inits);
	KUNIT_EXPECT_EQ(test, 0, fake->releases);
	KUNIT_EXPECT_FALSE(test, heap_is_there("kunit-coherent@0"));

	fake->rmem.ops = NULL;
	KUNIT_EXPECT_EQ(test, -EINVAL, PTR_ERR_OR_ZERO(coherent_heap_add(&fake->rmem)));

	/* and the name is free */
	fake->rmem.ops = &fake_ops;
	fake->ret = 0;
	heap = coherent_heap_add(&fake->rmem);
	KUNIT_ASSERT_NOT_ERR_OR_NULL(test, heap);
	coherent_heap_remove(heap);
	KUNIT_EXPECT_EQ(test, 1, fake->releases);
}

/* The memory is taken from the device again */
static void heap_register_fails(struct kunit *test)
{
	struct fake_region *first = fake_region(test, "kunit-coherent@0");
	struct fake_region *second = fake_region(test, "kunit-coherent@0");
	struct coherent_heap *heap;

	heap = coherent_heap_add(&first->rmem);
	KUNIT_ASSERT_NOT_ERR_OR_NULL(test, heap);

	KUNIT_EXPECT_EQ(test, -EEXIST, PTR_ERR_OR_ZERO(coherent_heap_add(&second->rmem)));
	KUNIT_EXPECT_EQ(test, 1, second->inits);
	KUNIT_EXPECT_EQ(test, 1, second->releases);
	KUNIT_EXPECT_EQ(test, 0, first->releases);
	KUNIT_EXPECT_TRUE(test, heap_is_there("kunit-coherent@0"));

	coherent_heap_remove(heap);
	KUNIT_EXPECT_EQ(test, 1, first->releases);
	KUNIT_EXPECT_EQ(test, 1, second->releases);
}

static struct kunit_case coherent_heap_cases[] = {
	KUNIT_CASE(heap_add_remove),
	KUNIT_CASE(heap_create_fails),
	KUNIT_CASE(heap_bind_fails),
	KUNIT_CASE(heap_register_fails),
	{}
};

static struct kunit_suite coherent_heap_suite = {
	.name = "coherent_heap",
	.test_cases = coherent_heap_cases,
};

/*
 * The regions of the machine and their heaps
 */

KUNIT_DEFINE_ACTION_WRAPPER(heap_put, dma_heap_put, struct dma_heap *);
KUNIT_DEFINE_ACTION_WRAPPER(rmem_release, of_reserved_mem_device_release, struct device *);
KUNIT_DEFINE_ACTION_WRAPPER(put_buffer, buffer_put, struct dma_buf *);

/* The largest region that has a heap */
static struct reserved_mem *test_region(struct kunit *test, struct dma_heap **heap)
{
	struct reserved_mem *rmem, *found = NULL;
	unsigned int i;

	for (i = 0; (rmem = dma_coherent_get_region_by_idx(i)); i++)
		if (heap_is_there(rmem->name) && (!found || rmem->size > found->size))
			found = rmem;
	if (!found)
		kunit_skip(test, "no coherent region has a heap");

	*heap = dma_heap_find_by_name(found->name);
	KUNIT_ASSERT_NOT_NULL(test, *heap);
	KUNIT_ASSERT_EQ(test, 0, kunit_add_action_or_reset(test, heap_put, *heap));

	return found;
}

static struct dma_buf *test_buffer(struct kunit *test, struct dma_heap *heap, size_t len)
{
	struct dma_buf *dmabuf = dma_heap_buffer_alloc(heap, len, O_RDWR, 0);

	KUNIT_ASSERT_NOT_ERR_OR_NULL(test, dmabuf);
	KUNIT_ASSERT_EQ(test, 0, kunit_add_action_or_reset(test, put_buffer, dmabuf));

	return dmabuf;
}

/* For all of these devices, unless they get a dma_range_map, a DMA address is physical. */
static struct device *test_device(struct kunit *test, u64 mask)
{
	static unsigned int number;
	struct device *dev;
	char name[32];

	/* The driver that comes with it can be a while in going away */
	snprintf(name, sizeof(name), "coherent-test-%u", number++);
	dev = kunit_device_register(test, name);
	KUNIT_ASSERT_NOT_ERR_OR_NULL(test, dev);
	dev->coherent_dma_mask = mask;
	dev->dma_mask = &dev->coherent_dma_mask;

	return dev;
}

static struct sg_table *test_map(struct kunit *test, struct dma_buf *dmabuf,
				 struct device *dev,
				 struct dma_buf_attachment **attachment)
{
	struct sg_table *table;

	*attachment = dma_buf_attach(dmabuf, dev);
	KUNIT_ASSERT_NOT_ERR_OR_NULL(test, *attachment);
	table = dma_buf_map_attachment_unlocked(*attachment, DMA_BIDIRECTIONAL);
	if (IS_ERR(table))
		dma_buf_detach(dmabuf, *attachment);

	return table;
}

static void test_unmap(struct dma_buf *dmabuf, struct dma_buf_attachment *attachment,
		       struct sg_table *table)
{
	dma_buf_unmap_attachment_unlocked(attachment, table, DMA_BIDIRECTIONAL);
	dma_buf_detach(dmabuf, attachment);
}

/* What the iterator returns, and when it ends */
static void regions_by_idx(struct kunit *test)
{
	struct device_node *parent, *np = NULL, *child;
	struct reserved_mem *rmem;
	unsigned int i, want = 0;

	parent = of_find_node_by_path("/reserved-memory");
	for (i = 0; (rmem = dma_coherent_get_region_by_idx(i)); i++) {
		KUNIT_ASSERT_NOT_NULL(test, parent);
		KUNIT_EXPECT_PTR_EQ(test, rmem, dma_coherent_get_region_by_idx(i));

		/* in the order of the nodes, each one once */
		do {
			np = of_get_next_child(parent, np);
			KUNIT_ASSERT_NOT_NULL(test, np);
		} while (strcmp(kbasename(np->full_name), rmem->name));

		KUNIT_EXPECT_TRUE(test, of_device_is_available(np));
		KUNIT_EXPECT_TRUE(test, of_device_is_compatible(np, "shared-dma-pool"));
		KUNIT_EXPECT_FALSE(test, of_property_read_bool(np, "reusable"));
		KUNIT_EXPECT_FALSE(test, of_property_read_bool(np, "linux,dma-default"));
		KUNIT_EXPECT_PTR_EQ(test, rmem, of_reserved_mem_lookup(np));
		KUNIT_EXPECT_NE(test, (u64)rmem->size, 0ULL);
	}
	of_node_put(np);

	/* none is missing: one without no-map may have been refused */
	for_each_available_child_of_node(parent, child)
		want += of_device_is_compatible(child, "shared-dma-pool") &&
			of_property_read_bool(child, "no-map") &&
			!of_property_read_bool(child, "linux,dma-default");
	of_node_put(parent);
	KUNIT_EXPECT_GE(test, i, want);

	KUNIT_EXPECT_NULL(test, dma_coherent_get_region_by_idx(i + 1));
	KUNIT_EXPECT_NULL(test, dma_coherent_get_region_by_idx(UINT_MAX));
	if (!i)
		kunit_skip(test, "there is no coherent region");
}

/* Each importer gets addresses, and no pages */
static void importers(struct kunit *test)
{
	struct dma_buf_attachment *attachment[2];
	struct sg_table *table[2];
	struct reserved_mem *rmem;
	struct dma_buf *dmabuf;
	struct dma_heap *heap;
	struct device *dev;
	int i;

	rmem = test_region(test, &heap);
	dmabuf = test_buffer(test, heap, 3 * PAGE_SIZE);

	for (i = 0; i < 2; i++) {
		phys_addr_t phys;

		dev = test_device(test, DMA_BIT_MASK(64));
		table[i] = test_map(test, dmabuf, dev, &attachment[i]);
		KUNIT_ASSERT_NOT_ERR_OR_NULL(test, table[i]);
		KUNIT_EXPECT_EQ(test, 1, table[i]->nents);
		KUNIT_EXPECT_EQ(test, 3 * PAGE_SIZE, sg_dma_len(table[i]->sgl));
		if (!IS_ENABLED(CONFIG_DMABUF_DEBUG))	/* which mangles it */
			KUNIT_EXPECT_NULL(test, sg_page(table[i]->sgl));
		phys = sg_dma_address(table[i]->sgl);
		KUNIT_EXPECT_GE(test, phys, rmem->base);
		KUNIT_EXPECT_LE(test, phys + 3 * PAGE_SIZE, rmem->base + rmem->size);
		KUNIT_EXPECT_EQ(test, sg_dma_address(table[0]->sgl),
				sg_dma_address(table[i]->sgl));
	}
	for (i = 0; i < 2; i++)
		test_unmap(dmabuf, attachment[i], table[i]);
}

/* The bus of the importer has another idea of where the memory is */
static void importer_with_offset(struct kunit *test)
{
	struct dma_buf_attachment *attachment;
	struct bus_dma_region *map;
	struct reserved_mem *rmem;
	u64 addr;
	struct sg_table *table;
	struct dma_buf *dmabuf;
	struct dma_heap *heap;
	struct device *dev;

	rmem = test_region(test, &heap);
	dmabuf = test_buffer(test, heap, 2 * PAGE_SIZE);
	dev = test_device(test, DMA_BIT_MASK(32));

	/* freed with the device; the last one is empty */
	map = kcalloc(3, sizeof(*map), GFP_KERNEL);
	KUNIT_ASSERT_NOT_NULL(test, map);
	map->cpu_start = PAGE_ALIGN_DOWN(rmem->base);
	map->dma_start = SZ_1M;
	map->size = SZ_1G;
	dev->dma_range_map = map;

	table = test_map(test, dmabuf, dev, &attachment);
	KUNIT_ASSERT_NOT_ERR_OR_NULL(test, table);
	addr = sg_dma_address(table->sgl);
	KUNIT_EXPECT_GE(test, addr, SZ_1M);
	KUNIT_EXPECT_LE(test, addr + 2 * PAGE_SIZE,
			PAGE_ALIGN(rmem->size) + PAGE_SIZE + SZ_1M);
	test_unmap(dmabuf, attachment, table);

	/* Two ranges: the buffer's first page is the last of one, its second page elsewhere */
	map->size = addr - SZ_1M + PAGE_SIZE;
	map[1].cpu_start = map->cpu_start + map->size;
	map[1].dma_start = SZ_512M;
	map[1].size = SZ_1G;
	table = test_map(test, dmabuf, dev, &attachment);
	KUNIT_EXPECT_EQ(test, -EIO, PTR_ERR_OR_ZERO(table));
	if (!IS_ERR(table))
		test_unmap(dmabuf, attachment, table);
}

/* An error, and no bounce buffer */
static void importer_out_of_reach(struct kunit *test)
{
	struct dma_buf_attachment *attachment;
	struct reserved_mem *rmem;
	struct dma_buf *dmabuf;
	struct sg_table *table;
	struct dma_heap *heap;
	struct device *dev;

	rmem = test_region(test, &heap);
	if (rmem->base <= DMA_BIT_MASK(24))
		kunit_skip(test, "the region is in the lowest 16 MiB");
	dmabuf = test_buffer(test, heap, PAGE_SIZE);

	dev = test_device(test, DMA_BIT_MASK(24));
	table = test_map(test, dmabuf, dev, &attachment);
	KUNIT_EXPECT_EQ(test, -EIO, PTR_ERR_OR_ZERO(table));

	/* the mask would do, but the bus does not */
	dev = test_device(test, DMA_BIT_MASK(64));
	dev->bus_dma_limit = DMA_BIT_MASK(24);
	table = test_map(test, dmabuf, dev, &attachment);
	KUNIT_EXPECT_EQ(test, -EIO, PTR_ERR_OR_ZERO(table));
}

/* The kernel's mapping is that of the pool; what was in the memory is gone */
static void vmap_and_old_data(struct kunit *test)
{
	struct reserved_mem *rmem;
	struct dma_buf *dmabuf;
	struct dma_heap *heap;
	struct iosys_map map;
	void *first = NULL;
	int i;

	rmem = test_region(test, &heap);
	if (rmem->size < SZ_128K)
		kunit_skip(test, "the region is too small");
	for (i = 0; i < 3; i++) {
		dmabuf = dma_heap_buffer_alloc(heap, SZ_64K, O_RDWR, 0);
		KUNIT_ASSERT_NOT_ERR_OR_NULL(test, dmabuf);
		KUNIT_EXPECT_EQ(test, 0, dma_buf_vmap_unlocked(dmabuf, &map));
		KUNIT_EXPECT_FALSE(test, virt_addr_valid(map.vaddr));
		KUNIT_EXPECT_NULL(test, memchr_inv(map.vaddr, 0, SZ_64K));
		/* nobody else is there: the same piece of the pool, at the same address */
		if (first)
			KUNIT_EXPECT_PTR_EQ(test, first, map.vaddr);
		first = map.vaddr;
		memset(map.vaddr, 0xa5, SZ_64K);
		dma_buf_vunmap_unlocked(dmabuf, &map);
		buffer_put(dmabuf);
	}
}

/* User space does not get a cacheable mapping beside the pool's */
static void mmap_attributes(struct kunit *test)
{
	struct follow_pfnmap_args args = { };
	struct vm_area_struct *vma;
	struct reserved_mem *rmem;
	struct dma_buf *dmabuf;
	struct mm_struct *mm;
	struct dma_heap *heap;
	unsigned long addr;

	rmem = test_region(test, &heap);
	dmabuf = test_buffer(test, heap, 4 * PAGE_SIZE);
	addr = kunit_vm_mmap(test, dmabuf->file, 0, 2 * PAGE_SIZE, PROT_READ | PROT_WRITE,
			     MAP_SHARED, PAGE_SIZE);
	KUNIT_ASSERT_NE(test, addr, 0);
	KUNIT_ASSERT_FALSE(test, IS_ERR_VALUE(addr));

	mmap_read_lock(current->mm);
	vma = vma_lookup(current->mm, addr);
	args.vma = vma;
	args.address = addr;
	if (vma && !follow_pfnmap_start(&args)) {
		KUNIT_EXPECT_EQ(test, pgprot_val(args.pgprot),
				pgprot_val(pgprot_writecombine(args.pgprot)));
		KUNIT_EXPECT_GE(test, PFN_PHYS(args.pfn), rmem->base + PAGE_SIZE);
		KUNIT_EXPECT_LT(test, PFN_PHYS(args.pfn), rmem->base + rmem->size);
		KUNIT_EXPECT_EQ(test, vma->vm_flags & (VM_IO | VM_PFNMAP | VM_DONTEXPAND),
				VM_IO | VM_PFNMAP | VM_DONTEXPAND);
		follow_pfnmap_end(&args);
	} else {
		KUNIT_FAIL(test, "nothing is mapped");
	}
	mmap_read_unlock(current->mm);

	/* KUnit leaves that to the end of the kthread, which does half of it */
	mm = current->mm;
	kthread_unuse_mm(mm);
	mmput(mm);
}

/* A driver with the same region and the heap: neither gets what the other has */
static void shared_with_driver(struct kunit *test)
{
	struct dma_buf_attachment *attachment;
	struct device *dev, *importer;
	unsigned long *seen, pages;
	struct sg_table *table;
	struct reserved_mem *rmem;
	struct dma_buf **bufs;
	struct dma_heap *heap;
	dma_addr_t *addrs;
	void **vaddrs;
	unsigned long nbufs, nallocs, i, piece, total = 0;
	size_t chunk;
	int round;

	rmem = test_region(test, &heap);
	dev = test_device(test, DMA_BIT_MASK(64));
	importer = test_device(test, DMA_BIT_MASK(64));
	KUNIT_ASSERT_EQ(test, 0, of_reserved_mem_device_init_with_mem(dev, rmem));
	KUNIT_ASSERT_EQ(test, 0, kunit_add_action_or_reset(test, rmem_release, dev));

	/* not more than 256 pieces of the pool */
	chunk = max_t(size_t, PAGE_SIZE, roundup_pow_of_two(rmem->size) / 256);
	pages = 257;
	seen = kunit_kcalloc(test, BITS_TO_LONGS(pages), sizeof(long), GFP_KERNEL);
	bufs = kunit_kcalloc(test, pages, sizeof(*bufs), GFP_KERNEL);
	vaddrs = kunit_kcalloc(test, pages, sizeof(*vaddrs), GFP_KERNEL);
	addrs = kunit_kcalloc(test, pages, sizeof(*addrs), GFP_KERNEL);
	KUNIT_ASSERT_TRUE(test, seen && bufs && vaddrs && addrs);

	for (round = 0; round < 2; round++) {
		bitmap_zero(seen, pages);
		nbufs = 0;
		nallocs = 0;
		while (nbufs + nallocs < pages) {
			struct dma_buf *dmabuf;
			phys_addr_t phys;

			if ((nbufs + nallocs) % 2) {
				vaddrs[nallocs] = dma_alloc_coherent(dev, chunk, &addrs[nallocs],
								     GFP_KERNEL);
				if (!vaddrs[nallocs])
					break;
				phys = addrs[nallocs++];
			} else {
				dmabuf = dma_heap_buffer_alloc(heap, chunk, O_RDWR, 0);
				if (IS_ERR(dmabuf)) {
					KUNIT_EXPECT_EQ(test, -ENOMEM, PTR_ERR(dmabuf));
					break;
				}
				bufs[nbufs++] = dmabuf;
				table = test_map(test, dmabuf, importer, &attachment);
				if (IS_ERR(table)) {
					KUNIT_FAIL(test, "cannot map: %pe", table);
					break;
				}
				phys = sg_dma_address(table->sgl);
				test_unmap(dmabuf, attachment, table);
			}
			piece = (phys - PAGE_ALIGN(rmem->base)) >> ilog2(chunk);
			KUNIT_ASSERT_LT(test, piece, pages);
			KUNIT_EXPECT_FALSE(test, test_and_set_bit(piece, seen));
		}

		/* full for both */
		KUNIT_EXPECT_NULL(test, dma_alloc_coherent(dev, chunk, &addrs[pages - 1],
							   GFP_KERNEL));
		KUNIT_EXPECT_EQ(test, -ENOMEM,
				PTR_ERR_OR_ZERO(dma_heap_buffer_alloc(heap, chunk, O_RDWR, 0)));
		KUNIT_EXPECT_GT(test, nbufs, 0);

		/* as much as the first time */
		if (round)
			KUNIT_EXPECT_EQ(test, total, nbufs + nallocs);
		total = nbufs + nallocs;

		for (i = 0; i < nbufs; i++)
			buffer_put(bufs[i]);
		for (i = 0; i < nallocs; i++)
			dma_free_coherent(dev, chunk, vaddrs[i], addrs[i]);
	}
}

#define RACES		32
#define RACE_SIZE	(IS_ENABLED(CONFIG_64BIT) ? SZ_16M : SZ_2M)

struct racer {
	atomic_t *ready;
	struct completion done;
	struct reserved_mem *rmem;
	struct device *dev;
	int ret;
};

static int race(void *data)
{
	struct racer *racer = data;

	/* A wakeup would be too slow to meet the other one */
	atomic_dec(racer->ready);
	while (atomic_read(racer->ready) > 0) {
		cpu_relax();
		cond_resched();
	}
	racer->ret = of_reserved_mem_device_init_with_mem(racer->dev, racer->rmem);
	kthread_complete_and_exit(&racer->done, 0);
}

/* Two devices that come first at once share the pool */
static void first_users_at_once(struct kunit *test)
{
	struct device *dev[2] = {
		test_device(test, DMA_BIT_MASK(64)),
		test_device(test, DMA_BIT_MASK(64)),
	};
	unsigned int cpu[2] = { cpumask_first(cpu_online_mask) };
	struct reserved_mem *rmem;
	struct dma_heap *heap;
	int i, j;

	cpu[1] = cpumask_next(cpu[0], cpu_online_mask);
	if (cpu[1] >= nr_cpu_ids)
		kunit_skip(test, "this takes two CPUs");

	rmem = test_region(test, &heap);
	if (rmem->size < 3 * PAGE_SIZE)
		kunit_skip(test, "the region is too small");
	for (i = 0; i < RACES; i++) {
		atomic_t ready = ATOMIC_INIT(2);
		struct task_struct *task[2];
		struct reserved_mem raced;
		struct racer racer[2];

		/*
		 * A region that has no pool yet, inside the other, and from
		 * which nobody allocates. It is large, and not aligned, so that
		 * mapping it takes time.
		 */
		raced = *rmem;
		raced.base += PAGE_SIZE;
		raced.size = min_t(phys_addr_t, rmem->size - PAGE_SIZE, RACE_SIZE);
		raced.priv = NULL;
		for (j = 0; j < 2; j++) {
			racer[j].ready = &ready;
			racer[j].rmem = &raced;
			racer[j].dev = dev[j];
			init_completion(&racer[j].done);
			racer[j].ret = -ENOMEM;
			task[j] = kthread_create(race, &racer[j], "kunit-racer-%d", j);
			if (IS_ERR(task[j])) {
				atomic_dec(&ready);
				complete(&racer[j].done);
			} else {
				kthread_bind(task[j], cpu[j]);
			}
		}
		for (j = 0; j < 2; j++)
			if (!IS_ERR(task[j]))
				wake_up_process(task[j]);
		for (j = 0; j < 2; j++) {
			wait_for_completion(&racer[j].done);
			KUNIT_EXPECT_EQ(test, 0, racer[j].ret);
		}
		KUNIT_EXPECT_NOT_NULL(test, dev[0]->dma_mem);
		KUNIT_EXPECT_PTR_EQ(test, dev[0]->dma_mem, dev[1]->dma_mem);
		for (j = 0; j < 2; j++) {
			of_reserved_mem_device_release(dev[j]);
			KUNIT_EXPECT_NULL(test, dev[j]->dma_mem);
		}
		/* That of a real region is kept */
		dev[0]->dma_mem = raced.priv;
		dma_release_coherent_memory(dev[0]);
	}
}

static struct kunit_case coherent_region_cases[] = {
	KUNIT_CASE(regions_by_idx),
	KUNIT_CASE(importers),
	KUNIT_CASE(importer_with_offset),
	KUNIT_CASE(importer_out_of_reach),
	KUNIT_CASE(vmap_and_old_data),
	KUNIT_CASE(mmap_attributes),
	KUNIT_CASE(shared_with_driver),
	KUNIT_CASE(first_users_at_once),
	{}
};

static struct kunit_suite coherent_region_suite = {
	.name = "coherent_region",
	.test_cases = coherent_region_cases,
};

kunit_test_suites(&coherent_heap_suite, &coherent_region_suite);

MODULE_DESCRIPTION("KUnit tests of the coherent DMA-BUF heap");
MODULE_LICENSE("GPL");
MODULE_IMPORT_NS(DMA_BUF);
MODULE_IMPORT_NS(DMA_BUF_HEAP);
MODULE_IMPORT_NS(EXPORTED_FOR_KUNIT_TESTING);
