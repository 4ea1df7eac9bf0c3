// SPDX-License-Identifier: GPL-2.0
/*
 * Sample driver with a buffer from a DMA-BUF heap
 *
 * For a driver that needs memory of a heap for itself, at a time when no user
 * space could give it a dma-buf. It does what Documentation/driver-api/dma-heap.rst
 * says about such drivers. It finds the heap by its name, and defers its probe if
 * there is none; it is probed again when a heap is registered. It allocates without
 * a file descriptor, uses the buffer as any importer does, and lets go of
 * everything in the reverse order.
 *
 *	modprobe dma_heap_sample heap=default_cma_region len=65536
 *	cat /sys/bus/platform/devices/dma_heap_sample/size
 *
 * The name is a parameter, so the module that has the heap is not known. A driver
 * that knows it can have it loaded first, with MODULE_SOFTDEP().
 *
 * A real driver has a real device. This one brings a platform device along.
 */

#include <linux/device.h>
#include <linux/dma-buf.h>
#include <linux/dma-heap.h>
#include <linux/dma-mapping.h>
#include <linux/err.h>
#include <linux/fcntl.h>
#include <linux/iosys-map.h>
#include <linux/limits.h>
#include <linux/module.h>
#include <linux/platform_device.h>
#include <linux/scatterlist.h>
#include <linux/sizes.h>
#include <linux/slab.h>
#include <linux/sysfs.h>

#define DRIVER_NAME "dma_heap_sample"

static char *heap_name = "system";
module_param_named(heap, heap_name, charp, 0444);
MODULE_PARM_DESC(heap, "Name of the heap to allocate from (default: system)");

static unsigned long long len = SZ_1M;
module_param(len, ullong, 0444);
MODULE_PARM_DESC(len, "Length of the buffer in bytes (default: 1 MiB)");

struct dma_heap_sample {
	struct dma_heap *heap;
	struct dma_buf *dmabuf;
	struct dma_buf_attachment *attach;
	struct sg_table *sgt;
	struct iosys_map map;
};

/* Different for each word, and never 0 */
static u32 dma_heap_sample_word(size_t offset)
{
	return ~(u32)offset;
}

/*
 * What the CPU does with a buffer that is mapped for the device: nothing before
 * begin_cpu_access, nothing after end_cpu_access, and the device does nothing in
 * between. The iosys_map knows whether the memory is accessed as I/O memory.
 */
static int dma_heap_sample_use(struct dma_heap_sample *sample)
{
	size_t i, size = sample->dmabuf->size;
	int ret, end;

	ret = dma_buf_begin_cpu_access(sample->dmabuf, DMA_BIDIRECTIONAL);
	if (ret)
		return ret;

	for (i = 0; i < size && !ret; i += sizeof(u32)) {
		if (iosys_map_rd(&sample->map, i, u32))
			ret = -EIO;
		iosys_map_wr(&sample->map, i, u32, dma_heap_sample_word(i));
	}

	for (i = 0; i < size && !ret; i += sizeof(u32)) {
		if (iosys_map_rd(&sample->map, i, u32) != dma_heap_sample_word(i))
			ret = -EIO;
	}

	end = dma_buf_end_cpu_access(sample->dmabuf, DMA_BIDIRECTIONAL);

	return ret ?: end;
}

static int dma_heap_sample_probe(struct platform_device *pdev)
{
	struct device *dev = &pdev->dev;
	struct dma_heap_sample *sample;
	int ret;

	sample = devm_kzalloc(dev, sizeof(*sample), GFP_KERNEL);
	if (!sample)
		return -ENOMEM;

	/* What the device can do, as for any DMA. This one has no limits. */
	ret = dma_set_mask_and_coherent(dev, DMA_BIT_MASK(64));
	if (ret)
		return dev_err_probe(dev, ret, "no DMA\n");
	dma_set_max_seg_size(dev, UINT_MAX);

	/* Not an error, and not worth a line in the log: probed again when it comes */
	sample->heap = dma_heap_find_by_name(heap_name);
	if (!sample->heap)
		return dev_err_probe(dev, -EPROBE_DEFER, "no heap %s\n", heap_name);

	sample->dmabuf = dma_heap_buffer_alloc(sample->heap, len, O_RDWR, 0);
	if (IS_ERR(sample->dmabuf)) {
		ret = dev_err_probe(dev, PTR_ERR(sample->dmabuf),
				    "cannot allocate %llu bytes\n", len);
		goto err_put_heap;
	}

	sample->attach = dma_buf_attach(sample->dmabuf, dev);
	if (IS_ERR(sample->attach)) {
		ret = dev_err_probe(dev, PTR_ERR(sample->attach), "cannot attach\n");
		goto err_put_dmabuf;
	}

	/* DMA addresses, for the device */
	sample->sgt = dma_buf_map_attachment_unlocked(sample->attach,
						      DMA_BIDIRECTIONAL);
	if (IS_ERR(sample->sgt)) {
		ret = dev_err_probe(dev, PTR_ERR(sample->sgt), "cannot map\n");
		goto err_detach;
	}

	/* A kernel address, for the CPU. Most drivers need only one of the two. */
	ret = dma_buf_vmap_unlocked(sample->dmabuf, &sample->map);
	if (ret) {
		dev_err_probe(dev, ret, "cannot vmap\n");
		goto err_unmap;
	}

	ret = dma_heap_sample_use(sample);
	if (ret) {
		dev_err_probe(dev, ret, "the buffer does not work\n");
		goto err_vunmap;
	}

	platform_set_drvdata(pdev, sample);

	return 0;

err_vunmap:
	dma_buf_vunmap_unlocked(sample->dmabuf, &sample->map);
err_unmap:
	dma_buf_unmap_attachment_unlocked(sample->attach, sample->sgt,
					  DMA_BIDIRECTIONAL);
err_detach:
	dma_buf_detach(sample->dmabuf, sample->attach);
err_put_dmabuf:
	dma_buf_put(sample->dmabuf);
err_put_heap:
	dma_heap_put(sample->heap);

	return ret;
}

static void dma_heap_sample_remove(struct platform_device *pdev)
{
	struct dma_heap_sample *sample = platform_get_drvdata(pdev);

	dma_buf_vunmap_unlocked(sample->dmabuf, &sample->map);
	dma_buf_unmap_attachment_unlocked(sample->attach, sample->sgt,
					  DMA_BIDIRECTIONAL);
	dma_buf_detach(sample->dmabuf, sample->attach);
	dma_buf_put(sample->dmabuf);
	/*
	 * Kept until here only so that the name can be shown: the buffer does
	 * not need it. Both pin the heap's module, each for itself.
	 */
	dma_heap_put(sample->heap);
}

static ssize_t heap_show(struct device *dev, struct device_attribute *attr, char *buf)
{
	struct dma_heap_sample *sample = dev_get_drvdata(dev);

	return sysfs_emit(buf, "%s\n", dma_heap_get_name(sample->heap));
}
static DEVICE_ATTR_RO(heap);

static ssize_t size_show(struct device *dev, struct device_attribute *attr, char *buf)
{
	struct dma_heap_sample *sample = dev_get_drvdata(dev);

	return sysfs_emit(buf, "%zu\n", sample->dmabuf->size);
}
static DEVICE_ATTR_RO(size);

static ssize_t segments_show(struct device *dev, struct device_attribute *attr, char *buf)
{
	struct dma_heap_sample *sample = dev_get_drvdata(dev);

	/* As the device sees it: an IOMMU may have merged some */
	return sysfs_emit(buf, "%u\n", sample->sgt->nents);
}
static DEVICE_ATTR_RO(segments);

/* They are there as long as the device is bound, and so is the buffer */
static struct attribute *dma_heap_sample_dev_attrs[] = {
	&dev_attr_heap.attr,
	&dev_attr_size.attr,
	&dev_attr_segments.attr,
	NULL
};
ATTRIBUTE_GROUPS(dma_heap_sample_dev);

static struct platform_driver dma_heap_sample_driver = {
	.probe = dma_heap_sample_probe,
	.remove = dma_heap_sample_remove,
	.driver = {
		.name = DRIVER_NAME,
		.dev_groups = dma_heap_sample_dev_groups,
	},
};

static struct platform_device *dma_heap_sample_device;

static int __init dma_heap_sample_init(void)
{
	int ret;

	ret = platform_driver_register(&dma_heap_sample_driver);
	if (ret)
		return ret;

	/* No error if the probe is deferred: the driver core tries again */
	dma_heap_sample_device =
		platform_device_register_simple(DRIVER_NAME, PLATFORM_DEVID_NONE, NULL, 0);
	if (IS_ERR(dma_heap_sample_device)) {
		platform_driver_unregister(&dma_heap_sample_driver);
		return PTR_ERR(dma_heap_sample_device);
	}

	return 0;
}
module_init(dma_heap_sample_init);

static void __exit dma_heap_sample_exit(void)
{
	platform_device_unregister(dma_heap_sample_device);
	platform_driver_unregister(&dma_heap_sample_driver);
}
module_exit(dma_heap_sample_exit);

MODULE_DESCRIPTION("Sample driver with a buffer from a DMA-BUF heap");
MODULE_LICENSE("GPL");
MODULE_IMPORT_NS(DMA_BUF);
MODULE_IMPORT_NS(DMA_BUF_HEAP);
