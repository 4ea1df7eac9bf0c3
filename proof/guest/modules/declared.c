// SPDX-License-Identifier: GPL-2.0
/*
 * Declares memory for a device, as drivers without a device tree do, in all the ways in which it
 * may not begin or end with a page. Loads if the device gets just the full pages, and -EINVAL where
 * there is none, or no memory can be, and if nothing is left when an allocation fails. The two
 * functions are not exported: their addresses come from /proc/kallsyms. That is why this is no test
 * of the series.
 */
#include <linux/dma-mapping.h>
#include <linux/err.h>
#include <linux/module.h>
#include <linux/platform_device.h>

static unsigned long base;
module_param(base, ulong, 0);
MODULE_PARM_DESC(base, "Physical address of five pages that nobody else uses");

static unsigned long declare;
module_param(declare, ulong, 0);
MODULE_PARM_DESC(declare, "Address of dma_declare_coherent_memory()");

static unsigned long release;
module_param(release, ulong, 0);
MODULE_PARM_DESC(release, "Address of dma_release_coherent_memory()");

static int (*declare_memory)(struct device *dev, phys_addr_t phys, dma_addr_t addr, size_t size);
static void (*release_memory)(struct device *dev);

static const struct {
	size_t offset, size;
	unsigned int first, pages;	/* 0 pages: refused */
} cases[] = {
	{ 0, 4 * PAGE_SIZE, 0, 4 },
	{ 0, 4 * PAGE_SIZE + 1000, 0, 4 },
	{ 1000, 4 * PAGE_SIZE, 1, 3 },
	{ PAGE_SIZE - 1, 2 * PAGE_SIZE + 2, 1, 2 },
	{ PAGE_SIZE, PAGE_SIZE, 1, 1 },
	{ 0, 1, 0, 0 },
	{ 0, PAGE_SIZE - 1, 0, 0 },
	{ 1, 2 * PAGE_SIZE - 2, 0, 0 },
	{ PAGE_SIZE, 2 * PAGE_SIZE, 1, 2 },	/* the device is as good as before */
};

/* Neither memory that ends before it begins, nor more pages than a bitmap has bits, nor what cannot be addressed */
static const struct {
	phys_addr_t phys;
	size_t size;
} refused[] = {
	{ -(phys_addr_t)PAGE_SIZE, 2 * PAGE_SIZE },
	{ 1ULL << 40, (size_t)PAGE_SIZE << 31 },
	{ 1ULL << 56, PAGE_SIZE },
};

static bool pages_are(struct device *dev, unsigned int first, unsigned int pages)
{
	dma_addr_t addr[8], low = DMA_MAPPING_ERROR, high = 0;
	void *p[8];
	int i, n;

	for (n = 0; n < 8; n++) {
		p[n] = dma_alloc_coherent(dev, PAGE_SIZE, &addr[n], GFP_KERNEL | __GFP_NOWARN);
		if (!p[n])
			break;
		low = min(low, addr[n]);
		high = max(high, addr[n]);
	}
	for (i = 0; i < n; i++)
		dma_free_coherent(dev, PAGE_SIZE, p[i], addr[i]);
	return n == pages && low == base + first * PAGE_SIZE &&
	       high == low + (pages - 1) * PAGE_SIZE;
}

/* Each allocation fails in turn: then there is no pool, and without a failure there is */
static bool fails_cleanly(struct device *dev)
{
#ifdef CONFIG_FAULT_INJECTION
	int n, ret, failed = 0;
	bool injected;

	for (n = 1; n < 100; n++) {
		current->fail_nth = n;
		ret = declare_memory(dev, base, base, 4 * PAGE_SIZE);
		injected = !current->fail_nth;
		current->fail_nth = 0;
		if (!ret) {
			if (!pages_are(dev, 0, 4))
				return false;
			release_memory(dev);
			if (!injected)
				return failed > 2;
		} else if (!injected || (ret != -ENOMEM && ret != -EINVAL)) {
			return false;
		}
		failed += !!ret;
	}
	return false;
#else
	return true;
#endif
}

static int __init declared_init(void)
{
	struct platform_device *pdev;
	int i, ret, wrong = 0;
	phys_addr_t phys;
	bool good;

	if (!base || !declare || !release)
		return -EINVAL;
	declare_memory = (void *)declare;
	release_memory = (void *)release;
	pdev = platform_device_register_simple("declared", PLATFORM_DEVID_NONE, NULL, 0);
	if (IS_ERR(pdev))
		return PTR_ERR(pdev);
	ret = dma_set_mask_and_coherent(&pdev->dev, DMA_BIT_MASK(64));
	for (i = 0; !ret && i < ARRAY_SIZE(cases); i++) {
		good = false;
		phys = base + cases[i].offset;
		switch (declare_memory(&pdev->dev, phys, phys, cases[i].size)) {
		case 0:
			good = cases[i].pages &&
			       pages_are(&pdev->dev, cases[i].first, cases[i].pages);
			release_memory(&pdev->dev);
			break;
		case -EINVAL:
			good = !cases[i].pages;
			break;
		}
		if (!good)
			pr_err("declared: not as it should be: %zu bytes at %zu\n",
			       cases[i].size, cases[i].offset);
		wrong += !good;
	}
	for (i = 0; !ret && i < ARRAY_SIZE(refused); i++) {
		phys = refused[i].phys;
		if (declare_memory(&pdev->dev, phys, phys, refused[i].size) == -EINVAL)
			continue;
		pr_err("declared: not refused: %zu bytes at %pa\n", refused[i].size, &phys);
		wrong++;
	}
	if (!ret && !fails_cleanly(&pdev->dev)) {
		pr_err("declared: without memory it is not as it should be\n");
		wrong++;
	}
	platform_device_unregister(pdev);
	return ret ?: wrong ? -EIO : 0;
}
module_init(declared_init);

static void __exit declared_exit(void)
{
}
module_exit(declared_exit);

MODULE_DESCRIPTION("Test of dma_declare_coherent_memory()");
MODULE_LICENSE("GPL");
