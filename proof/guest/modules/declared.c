// SPDX-License-Identifier: GPL-2.0
/*
 * Declares memory for a device, as drivers without a device tree do, in all the ways in which it
 * may not begin or end with a page. Loads if the device gets just the full pages, and -EINVAL where
 * there is none. The two functions are not exported: their addresses come from /proc/kallsyms. That
 * is why this is no test of the series.
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

static int __init declared_init(void)
{
	int (*declare_memory)(struct device *dev, phys_addr_t phys, dma_addr_t addr,
			      size_t size) = (void *)declare;
	void (*release_memory)(struct device *dev) = (void *)release;
	struct platform_device *pdev;
	int i, ret, wrong = 0;
	phys_addr_t phys;
	bool good;

	if (!base || !declare || !release)
		return -EINVAL;
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
