// SPDX-License-Identifier: GPL-2.0
/*
 * KUnit tests of the coherent DMA-BUF heap
 *
 * coherent_heap and coherent_heap_names use fake regions and need no reserved memory.
 * coherent_region tests a real region, but only the one that the region= parameter
 * names, and only if it has a heap: the memory of any other may be in use by
 * firmware. It writes to buffers that it has allocated, and to nothing else.
 */

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
#include <linux/list.h>
#include <linux/mman.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/moduleparam.h>
#include <linux/of.h>
#include <linux/of_reserved_mem.h>
#include <linux/pgtable.h>
#include <linux/scatterlist.h>
#include <linux/sched.h>
#include <linux/sched/mm.h>
#include <linux/sizes.h>
#include <linux/string.h>

#include <kunit/device.h>
#include <kunit/test.h>

#include "../heaps/coherent_heap.h"

static char *region;
module_param(region, charp, 0444);
MODULE_PARM_DESC(region, "Coherent region whose heap is to be tested (default: none)");

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
	static const char * const names[] = { "", "a/b", ".." };
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

/* The system heap and the default CMA heap keep their names, loaded or not */
static void heap_name_refused(struct kunit *test)
{
	static const char * const names[] = { "system", "default_cma_region" };
	int i;

	for (i = 0; i < ARRAY_SIZE(names); i++) {
		struct fake_region *fake = fake_region(test, names[i]);

		KUNIT_EXPECT_EQ(test, -EEXIST,
				PTR_ERR_OR_ZERO(coherent_heap_add(&fake->rmem)));
		KUNIT_EXPECT_EQ(test, 0, fake->inits);
	}
}

/* A buffer comes from the pool or not at all; the fake region has none */
static void heap_without_pool(struct kunit *test)
{
	struct fake_region *fake = fake_region(test, "kunit-coherent@0");
	struct coherent_heap *heap = coherent_heap_add(&fake->rmem);

	KUNIT_ASSERT_NOT_ERR_OR_NULL(test, heap);
	KUNIT_EXPECT_EQ(test, -ENOMEM,
			PTR_ERR_OR_ZERO(dma_heap_buffer_alloc(heap->heap, PAGE_SIZE,
							      O_RDWR, 0)));
	coherent_heap_remove(heap);
}

static struct kunit_case coherent_heap_cases[] = {
	KUNIT_CASE(heap_add_remove),
	KUNIT_CASE(heap_create_fails),
	KUNIT_CASE(heap_bind_fails),
	KUNIT_CASE(heap_register_fails),
	KUNIT_CASE(heap_name_refused),
	KUNIT_CASE(heap_without_pool),
	{}
};

static struct kunit_suite coherent_heap_suite = {
	.name = "coherent_heap",
	.test_cases = coherent_heap_cases,
};

/*
 * What regions= selects
 */

static const char * const region_names[] = {
	"kunit-camera@0", "kunit-camera@1", "kunit,npu@2", "system", "kunit-placed",
};

static struct fake_region *named_regions[ARRAY_SIZE(region_names)];
static LIST_HEAD(named_heaps);

static int names_init(struct kunit *test)
{
	int i;

	for (i = 0; i < ARRAY_SIZE(region_names); i++)
		named_regions[i] = fake_region(test, region_names[i]);

	return 0;
}

static void names_exit(struct kunit *test)
{
	struct coherent_heap *heap, *tmp;

	list_for_each_entry_safe(heap, tmp, &named_heaps, list) {
		list_del(&heap->list);
		coherent_heap_remove(heap);
	}
}

static struct reserved_mem *named_region(unsigned int idx)
{
	return idx < ARRAY_SIZE(named_regions) ? &named_regions[idx]->rmem : NULL;
}

static bool region_has_heap(struct reserved_mem *rmem)
{
	struct coherent_heap *heap;

	list_for_each_entry(heap, &named_heaps, list)
		if (heap->rmem == rmem)
			return true;

	return false;
}

/* With regions=@names, the regions in the bit mask @want get a heap, and each of them once */
static void expect_named(struct kunit *test, const char *names, unsigned int want,
			 int unknown)
{
	int i;

	KUNIT_EXPECT_EQ_MSG(test, unknown,
			    coherent_heap_add_named(names, &named_heaps, named_region),
			    "regions=%s", names);
	for (i = 0; i < ARRAY_SIZE(region_names); i++) {
		KUNIT_EXPECT_EQ_MSG(test, !!(want & BIT(i)), named_regions[i]->inits,
				    "regions=%s, %s", names, region_names[i]);
		KUNIT_EXPECT_EQ_MSG(test, !!(want & BIT(i)),
				    region_has_heap(&named_regions[i]->rmem),
				    "regions=%s, %s", names, region_names[i]);
		named_regions[i]->inits = 0;
	}
	names_exit(test);
}

static void names_exact(struct kunit *test)
{
	expect_named(test, "kunit-camera@0", BIT(0), 0);
	expect_named(test, "kunit-placed:kunit-camera@1", BIT(1) | BIT(4), 0);
	/* a comma is part of a name */
	expect_named(test, "kunit,npu@2", BIT(2), 0);
	/* part of a name is not the name */
	expect_named(test, "kunit-camera", 0, 1);
	expect_named(test, "npu@2", 0, 1);
	expect_named(test, "kunit-camera@0,kunit-camera@1", 0, 1);
	expect_named(test, "kunit-camera@01", 0, 1);
}

static void names_patterns(struct kunit *test)
{
	/* but for the name that is refused */
	expect_named(test, "*", BIT(0) | BIT(1) | BIT(2) | BIT(4), 0);
	expect_named(test, "kunit-camera@*", BIT(0) | BIT(1), 0);
	expect_named(test, "kunit-camera@[1-9]:*npu*", BIT(1) | BIT(2), 0);
	expect_named(test, "kunit-camera@?0", 0, 1);
}

/* A name that matches nothing is counted and the others count; no name is none */
static void names_unknown(struct kunit *test)
{
	expect_named(test, "nosuch", 0, 1);
	expect_named(test, "nosuch:kunit-camera@0:other*", BIT(0), 2);
	expect_named(test, "kunit-camera@0:", BIT(0), 0);
	expect_named(test, ":", 0, 0);
	expect_named(test, "", 0, 0);
}

/* One heap for a region, however often it is named */
static void names_twice(struct kunit *test)
{
	expect_named(test, "kunit-camera@0:kunit-camera@0", BIT(0), 0);
	expect_named(test, "kunit-camera@0:*camera*:kunit-camera@1", BIT(0) | BIT(1), 0);
}

/* A region without a heap is known all the same, and does not keep others from theirs */
static void names_bad_regions(struct kunit *test)
{
	struct coherent_heap *heap;

	expect_named(test, "system", 0, 0);

	named_regions[0]->ret = -EXDEV;
	KUNIT_EXPECT_EQ(test, 0, coherent_heap_add_named("kunit-camera*:system",
							 &named_heaps, named_region));
	KUNIT_ASSERT_EQ(test, 1, list_count_nodes(&named_heaps));
	heap = list_first_entry(&named_heaps, struct coherent_heap, list);
	KUNIT_EXPECT_PTR_EQ(test, heap->rmem, &named_regions[1]->rmem);
}

static struct kunit_case coherent_heap_names_cases[] = {
	KUNIT_CASE(names_exact),
	KUNIT_CASE(names_patterns),
	KUNIT_CASE(names_unknown),
	KUNIT_CASE(names_twice),
	KUNIT_CASE(names_bad_regions),
	{}
};

static struct kunit_suite coherent_heap_names_suite = {
	.name = "coherent_heap_names",
	.init = names_init,
	.exit = names_exit,
	.test_cases = coherent_heap_names_cases,
};

/*
 * The region that region= names
 */

KUNIT_DEFINE_ACTION_WRAPPER(heap_put, dma_heap_put, struct dma_heap *);
KUNIT_DEFINE_ACTION_WRAPPER(put_buffer, buffer_put, struct dma_buf *);

static struct reserved_mem *test_region(struct kunit *test, struct dma_heap **heap)
{
	struct reserved_mem *rmem;
	unsigned int i;

	if (!region || !*region)
		kunit_skip(test, "no region= to test");

	for (i = 0; (rmem = dma_coherent_get_region_by_idx(i)); i++)
		if (!strcmp(rmem->name, region))
			break;
	KUNIT_ASSERT_NOT_NULL_MSG(test, rmem, "no coherent region is called %s", region);

	*heap = dma_heap_find_by_name(region);
	KUNIT_ASSERT_NOT_NULL_MSG(test, *heap, "%s has no heap", region);
	KUNIT_ASSERT_EQ(test, 0, kunit_add_action_or_reset(test, heap_put, *heap));

	return rmem;
}

static struct dma_buf *test_buffer(struct kunit *test, struct dma_heap *heap, size_t len)
{
	struct dma_buf *dmabuf = dma_heap_buffer_alloc(heap, len, O_RDWR, 0);

	KUNIT_ASSERT_NOT_ERR_OR_NULL(test, dmabuf);
	KUNIT_ASSERT_EQ(test, 0, kunit_add_action_or_reset(test, put_buffer, dmabuf));

	return dmabuf;
}

/* Without a dma_range_map, DMA addresses of such a device are physical addresses */
static struct device *test_device(struct kunit *test, u64 mask)
{
	static unsigned int number;
	struct device *dev;
	char name[32];

	/* The name of an earlier device may still be taken */
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

/* The iterator against the device tree; no memory is touched */
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

	/* none is missing; one without no-map may have been refused */
	for_each_available_child_of_node(parent, child)
		want += of_device_is_compatible(child, "shared-dma-pool") &&
			of_property_read_bool(child, "no-map") &&
			!of_property_read_bool(child, "reusable") &&
			!of_property_read_bool(child, "linux,dma-default") &&
			of_reserved_mem_lookup(child);
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
	int i;

	rmem = test_region(test, &heap);
	dmabuf = test_buffer(test, heap, 3 * PAGE_SIZE);

	for (i = 0; i < 2; i++) {
		struct device *dev = test_device(test, DMA_BIT_MASK(64));
		phys_addr_t phys;

		table[i] = test_map(test, dmabuf, dev, &attachment[i]);
		KUNIT_ASSERT_NOT_ERR_OR_NULL(test, table[i]);
		KUNIT_EXPECT_EQ(test, 1, table[i]->nents);
		KUNIT_EXPECT_EQ(test, 3 * PAGE_SIZE, sg_dma_len(table[i]->sgl));
		KUNIT_EXPECT_NULL(test, sg_page(table[i]->sgl));
		phys = sg_dma_address(table[i]->sgl);
		KUNIT_EXPECT_TRUE(test, PAGE_ALIGNED(phys));
		KUNIT_EXPECT_GE(test, phys, rmem->base);
		KUNIT_EXPECT_LE(test, phys + 3 * PAGE_SIZE, rmem->base + rmem->size);
		KUNIT_EXPECT_EQ(test, sg_dma_address(table[0]->sgl),
				sg_dma_address(table[i]->sgl));
	}
	for (i = 0; i < 2; i++)
		test_unmap(dmabuf, attachment[i], table[i]);
}

/* The DMA address of @dmabuf for @dev, or a negative error */
static s64 dma_address(struct kunit *test, struct dma_buf *dmabuf, struct device *dev)
{
	struct dma_buf_attachment *attachment;
	struct sg_table *table;
	s64 addr;

	table = test_map(test, dmabuf, dev, &attachment);
	if (IS_ERR(table))
		return PTR_ERR(table);

	addr = sg_dma_address(table->sgl);
	test_unmap(dmabuf, attachment, table);

	return addr;
}

/* Buses that have the memory elsewhere: in one range, in several, with a hole */
static void importer_with_ranges(struct kunit *test)
{
	struct bus_dma_region *map;
	struct dma_buf *dmabuf;
	struct dma_heap *heap;
	struct device *dev;
	s64 phys;

	test_region(test, &heap);
	dmabuf = test_buffer(test, heap, 3 * PAGE_SIZE);
	phys = dma_address(test, dmabuf, test_device(test, DMA_BIT_MASK(64)));
	KUNIT_ASSERT_GT(test, phys, 0);

	/* freed with the device; the last one is empty */
	dev = test_device(test, DMA_BIT_MASK(32));
	map = kcalloc(4, sizeof(*map), GFP_KERNEL);
	KUNIT_ASSERT_NOT_NULL(test, map);
	dev->dma_range_map = map;

	map[0].cpu_start = phys - PAGE_SIZE;
	map[0].dma_start = SZ_1M;
	map[0].size = 4 * PAGE_SIZE;
	KUNIT_EXPECT_EQ(test, SZ_1M + PAGE_SIZE, dma_address(test, dmabuf, dev));

	/* the range ends within the buffer */
	map[0].size = 2 * PAGE_SIZE;
	KUNIT_EXPECT_EQ(test, -EIO, dma_address(test, dmabuf, dev));

	/* the next one goes on where it ends */
	map[1].cpu_start = phys + PAGE_SIZE;
	map[1].dma_start = SZ_1M + 2 * PAGE_SIZE;
	map[1].size = SZ_1M;
	KUNIT_EXPECT_EQ(test, SZ_1M + PAGE_SIZE, dma_address(test, dmabuf, dev));

	/* or has the rest of the buffer elsewhere */
	map[1].dma_start = SZ_512M;
	KUNIT_EXPECT_EQ(test, -EIO, dma_address(test, dmabuf, dev));

	/* or leaves out a page of it */
	map[1].cpu_start = phys + 2 * PAGE_SIZE;
	map[1].dma_start = SZ_1M + 3 * PAGE_SIZE;
	KUNIT_EXPECT_EQ(test, -EIO, dma_address(test, dmabuf, dev));

	/* or it is the page in the middle that is elsewhere */
	map[2].cpu_start = phys + PAGE_SIZE;
	map[2].dma_start = SZ_512M;
	map[2].size = PAGE_SIZE;
	KUNIT_EXPECT_EQ(test, -EIO, dma_address(test, dmabuf, dev));
}

/* An error, and no bounce buffer */
static void importer_out_of_reach(struct kunit *test)
{
	struct reserved_mem *rmem;
	struct dma_buf *dmabuf;
	struct dma_heap *heap;
	struct device *dev;

	rmem = test_region(test, &heap);
	if (rmem->base <= DMA_BIT_MASK(24))
		kunit_skip(test, "the region is in the lowest 16 MiB");
	dmabuf = test_buffer(test, heap, PAGE_SIZE);

	dev = test_device(test, DMA_BIT_MASK(24));
	KUNIT_EXPECT_EQ(test, -EIO, dma_address(test, dmabuf, dev));

	/* the mask would do, but the bus does not */
	dev = test_device(test, DMA_BIT_MASK(64));
	dev->bus_dma_limit = DMA_BIT_MASK(24);
	KUNIT_EXPECT_EQ(test, -EIO, dma_address(test, dmabuf, dev));
}

/* The kernel's mapping is the pool's, and old contents are gone */
static void vmap_and_old_data(struct kunit *test)
{
	struct dma_buf *dmabuf;
	struct dma_heap *heap;
	struct iosys_map map;
	void *first = NULL;
	int i;

	test_region(test, &heap);
	for (i = 0; i < 3; i++) {
		dmabuf = test_buffer(test, heap, 3 * PAGE_SIZE);
		KUNIT_ASSERT_EQ(test, 0, dma_buf_vmap_unlocked(dmabuf, &map));
		KUNIT_EXPECT_FALSE(test, virt_addr_valid(map.vaddr));
		KUNIT_EXPECT_NULL(test, memchr_inv(map.vaddr, 0, 3 * PAGE_SIZE));
		/* nobody else allocates: it is the same memory again */
		if (first)
			KUNIT_EXPECT_PTR_EQ(test, first, map.vaddr);
		first = map.vaddr;
		memset(map.vaddr, 0xa5, 3 * PAGE_SIZE);
		dma_buf_vunmap_unlocked(dmabuf, &map);
		kunit_release_action(test, put_buffer, dmabuf);
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
	pgprot_t prot;

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
		/* without pte_pgprot() this says nothing of the entry */
		prot = pgprot_val(args.pgprot) ? args.pgprot : vma->vm_page_prot;
		KUNIT_EXPECT_EQ(test, pgprot_val(prot), pgprot_val(pgprot_writecombine(prot)));
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

static struct kunit_case coherent_region_cases[] = {
	KUNIT_CASE(regions_by_idx),
	KUNIT_CASE(importers),
	KUNIT_CASE(importer_with_ranges),
	KUNIT_CASE(importer_out_of_reach),
	KUNIT_CASE(vmap_and_old_data),
	KUNIT_CASE(mmap_attributes),
	{}
};

static struct kunit_suite coherent_region_suite = {
	.name = "coherent_region",
	.test_cases = coherent_region_cases,
};

kunit_test_suites(&coherent_heap_suite, &coherent_heap_names_suite,
		  &coherent_region_suite);

MODULE_DESCRIPTION("KUnit tests of the coherent DMA-BUF heap");
MODULE_LICENSE("GPL");
MODULE_IMPORT_NS(DMA_BUF);
MODULE_IMPORT_NS(DMA_BUF_HEAP);
MODULE_IMPORT_NS(EXPORTED_FOR_KUNIT_TESTING);
