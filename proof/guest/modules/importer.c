// SPDX-License-Identifier: GPL-2.0
/*
 * An importer that does DMA: a driver for QEMU's "edu" device, which moves bytes between the
 * memory of the machine and 4 KiB of its own. And one that does none: a node of the device tree,
 * compatible with "guest,importer", which can stand on a bus of any kind, and tells what
 * address it would have been given. Its DMA mask has 64 bits, or as many as the node says in
 * guest,dma-bits.
 *
 * Each device is /dev/importerN, or /dev/importer-NAME by the node's name. A DMA-BUF is attached and mapped for it, and then the device
 * writes bytes of user space into the buffer, or reads the buffer for user space: see
 * importer.h. On the way they go through the device's own memory, and a page that the driver
 * has from the DMA API; the CPU never touches the buffer here.
 *
 * A transfer takes the device 100 ms of the guest's time.
 */
#include <linux/bits.h>
#include <linux/bitops.h>
#include <linux/cleanup.h>
#include <linux/dma-buf.h>
#include <linux/dma-mapping.h>
#include <linux/fs.h>
#include <linux/io-64-nonatomic-lo-hi.h>
#include <linux/iopoll.h>
#include <linux/ktime.h>
#include <linux/miscdevice.h>
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/of.h>
#include <linux/pci.h>
#include <linux/platform_device.h>
#include <linux/scatterlist.h>
#include <linux/slab.h>
#include <linux/uaccess.h>

#include "importer.h"

#define EDU_VENDOR	0x1234
#define EDU_DEVICE	0x11e8

#define EDU_ID		0x00
#define EDU_ID_MASK	0x0000ffff
#define EDU_ID_VALUE	0x000000ed
#define EDU_DMA_SRC	0x80
#define EDU_DMA_DST	0x88
#define EDU_DMA_COUNT	0x90
#define EDU_DMA_CMD	0x98
#define EDU_DMA_RUN	BIT(0)
#define EDU_DMA_TO_RAM	BIT(1)

/* Where the device has its memory; some versions do not take all 4 KiB of it at once */
#define EDU_MEMORY	0x40000
#define CHUNK		2048

struct importer {
	struct device *dev;
	void __iomem *regs;
	struct mutex lock;	/* the device and the page */
	void *page;
	dma_addr_t page_addr;
	struct miscdevice misc;
	char name[32];
};

struct importer_file {
	struct importer *importer;
	struct mutex lock;	/* what follows */
	struct dma_buf *dmabuf;
	struct dma_buf_attachment *attachment;
	struct sg_table *table;
	enum dma_data_direction direction;
};

/* Moves bytes from or to the device's memory. */
static int transfer(struct importer *imp, dma_addr_t addr, u32 len, bool to_ram)
{
	u32 cmd;

	writeq(to_ram ? EDU_MEMORY : addr, imp->regs + EDU_DMA_SRC);
	writeq(to_ram ? addr : EDU_MEMORY, imp->regs + EDU_DMA_DST);
	writeq(len, imp->regs + EDU_DMA_COUNT);
	writeq(EDU_DMA_RUN | (to_ram ? EDU_DMA_TO_RAM : 0), imp->regs + EDU_DMA_CMD);

	return read_poll_timeout(readl, cmd, !(cmd & EDU_DMA_RUN), 10 * USEC_PER_MSEC,
				 10 * USEC_PER_SEC, false, imp->regs + EDU_DMA_CMD);
}

static int importer_detach(struct importer_file *file, u64 *ns)
{
	u64 start = ktime_get_ns();

	if (!file->dmabuf)
		return -ENOTCONN;
	dma_buf_unmap_attachment_unlocked(file->attachment, file->table, file->direction);
	dma_buf_detach(file->dmabuf, file->attachment);
	*ns = ktime_get_ns() - start;
	dma_buf_put(file->dmabuf);
	file->dmabuf = NULL;
	return 0;
}

/* What DMA_API_DEBUG_SG would look at, which is off: vgem does not say what segments it takes. */
static bool segments_fit(struct device *dev, struct sg_table *table)
{
	unsigned long boundary = dma_get_seg_boundary(dev);
	struct scatterlist *sg;
	int i;

	for_each_sgtable_dma_sg(table, sg, i) {
		u64 start = sg_dma_address(sg), end = start + sg_dma_len(sg) - 1;

		if (sg_dma_len(sg) > dma_get_max_seg_size(dev) || (start ^ end) & ~(u64)boundary)
			return false;
	}
	return true;
}

static int importer_attach(struct importer_file *file, struct importer_attach *arg)
{
	struct dma_buf_attachment *attachment;
	struct dma_buf *dmabuf;
	struct sg_table *table;
	u64 start;

	if (file->dmabuf)
		return -EISCONN;
	if (arg->direction > DMA_FROM_DEVICE)
		return -EINVAL;
	dmabuf = dma_buf_get(arg->fd);
	if (IS_ERR(dmabuf))
		return PTR_ERR(dmabuf);

	start = ktime_get_ns();
	attachment = dma_buf_attach(dmabuf, file->importer->dev);
	if (IS_ERR(attachment)) {
		dma_buf_put(dmabuf);
		return PTR_ERR(attachment);
	}
	table = dma_buf_map_attachment_unlocked(attachment, arg->direction);
	if (IS_ERR(table)) {
		dma_buf_detach(dmabuf, attachment);
		dma_buf_put(dmabuf);
		return PTR_ERR(table);
	}

	arg->ns = ktime_get_ns() - start;
	if (!segments_fit(file->importer->dev, table)) {
		dma_buf_unmap_attachment_unlocked(attachment, table, arg->direction);
		dma_buf_detach(dmabuf, attachment);
		dma_buf_put(dmabuf);
		return -EPROTO;
	}

	arg->segments = table->nents;
	arg->address = sg_dma_address(table->sgl);
	arg->length = sg_dma_len(table->sgl);
	file->dmabuf = dmabuf;
	file->attachment = attachment;
	file->table = table;
	file->direction = arg->direction;
	return 0;
}

/* Where the device sees the byte at this offset; and how many follow it there */
static dma_addr_t address_of(struct sg_table *table, u64 offset, u64 *len)
{
	struct scatterlist *sg;
	int i;

	for_each_sgtable_dma_sg(table, sg, i) {
		if (offset < sg_dma_len(sg)) {
			*len = min(*len, sg_dma_len(sg) - offset);
			return sg_dma_address(sg) + offset;
		}
		offset -= sg_dma_len(sg);
	}
	return DMA_MAPPING_ERROR;
}

static int importer_dma(struct importer_file *file, const struct importer_dma *arg, bool write)
{
	struct importer *imp = file->importer;
	u64 done = 0;
	int ret;

	if (!imp->regs)
		return -ENXIO;
	if (!file->dmabuf)
		return -ENOTCONN;
	if (arg->offset > file->dmabuf->size || arg->len > file->dmabuf->size - arg->offset)
		return -EINVAL;

	guard(mutex)(&imp->lock);

	while (done < arg->len) {
		u64 len = min(arg->len - done, (u64)CHUNK);
		dma_addr_t addr = address_of(file->table, arg->offset + done, &len);
		void __user *user = u64_to_user_ptr(arg->user + done);

		if (addr == DMA_MAPPING_ERROR)
			return -EFAULT;
		if (write && copy_from_user(imp->page, user, len))
			return -EFAULT;
		ret = transfer(imp, write ? imp->page_addr : addr, len, false) ?:
		      transfer(imp, write ? addr : imp->page_addr, len, true);
		if (ret)
			return ret;
		if (!write && copy_to_user(user, imp->page, len))
			return -EFAULT;
		done += len;
		if (signal_pending(current))
			return -EINTR;
	}
	return 0;
}

static long importer_ioctl(struct file *filep, unsigned int cmd, unsigned long arg)
{
	struct importer_file *file = filep->private_data;
	void __user *user = (void __user *)arg;
	struct importer_attach attach;
	struct importer_dma dma;
	u64 ns;
	int ret;

	guard(mutex)(&file->lock);

	switch (cmd) {
	case IMPORTER_ATTACH:
		if (copy_from_user(&attach, user, sizeof(attach)))
			return -EFAULT;
		ret = importer_attach(file, &attach);
		if (!ret && copy_to_user(user, &attach, sizeof(attach))) {
			importer_detach(file, &ns);
			ret = -EFAULT;
		}
		return ret;
	case IMPORTER_DETACH:
		ret = importer_detach(file, &ns);
		return ret ?: put_user(ns, (u64 __user *)user);
	case IMPORTER_WRITE:
	case IMPORTER_READ:
		if (copy_from_user(&dma, user, sizeof(dma)))
			return -EFAULT;
		return importer_dma(file, &dma, cmd == IMPORTER_WRITE);
	}
	return -ENOTTY;
}

static int importer_open(struct inode *inode, struct file *filep)
{
	struct miscdevice *misc = filep->private_data;
	struct importer_file *file;

	file = kzalloc(sizeof(*file), GFP_KERNEL);
	if (!file)
		return -ENOMEM;
	mutex_init(&file->lock);
	file->importer = container_of(misc, struct importer, misc);
	filep->private_data = file;
	return 0;
}

static int importer_release(struct inode *inode, struct file *filep)
{
	struct importer_file *file = filep->private_data;
	u64 ns;

	importer_detach(file, &ns);
	mutex_destroy(&file->lock);
	kfree(file);
	return 0;
}

static const struct file_operations importer_fops = {
	.owner = THIS_MODULE,
	.open = importer_open,
	.release = importer_release,
	.unlocked_ioctl = importer_ioctl,
};

static int importer_register(struct importer *imp)
{
	imp->misc.minor = MISC_DYNAMIC_MINOR;
	imp->misc.name = imp->name;
	imp->misc.fops = &importer_fops;
	imp->misc.parent = imp->dev;
	dev_set_drvdata(imp->dev, imp);
	dma_set_max_seg_size(imp->dev, UINT_MAX);
	return misc_register(&imp->misc);
}

static int edu_probe(struct pci_dev *pdev, const struct pci_device_id *id)
{
	static int number;
	struct importer *imp;
	int ret;

	imp = devm_kzalloc(&pdev->dev, sizeof(*imp), GFP_KERNEL);
	if (!imp)
		return -ENOMEM;
	imp->dev = &pdev->dev;

	ret = pcim_enable_device(pdev);
	if (ret)
		return ret;
	pci_set_master(pdev);
	ret = dma_set_mask_and_coherent(&pdev->dev, DMA_BIT_MASK(64));
	if (ret)
		return ret;

	imp->regs = pcim_iomap(pdev, 0, 0);
	if (!imp->regs)
		return -ENOMEM;
	if ((readl(imp->regs + EDU_ID) & EDU_ID_MASK) != EDU_ID_VALUE)
		return dev_err_probe(&pdev->dev, -ENODEV, "not an edu device\n");

	imp->page = dmam_alloc_coherent(&pdev->dev, PAGE_SIZE, &imp->page_addr, GFP_KERNEL);
	if (!imp->page)
		return -ENOMEM;

	ret = devm_mutex_init(&pdev->dev, &imp->lock);
	if (ret)
		return ret;
	snprintf(imp->name, sizeof(imp->name), "importer%d", number++);
	return importer_register(imp);
}

static void edu_remove(struct pci_dev *pdev)
{
	struct importer *imp = pci_get_drvdata(pdev);

	misc_deregister(&imp->misc);
}

static const struct pci_device_id edu_ids[] = {
	{ PCI_DEVICE(EDU_VENDOR, EDU_DEVICE) },
	{ }
};
MODULE_DEVICE_TABLE(pci, edu_ids);

static struct pci_driver edu_driver = {
	.name = "importer",
	.id_table = edu_ids,
	.probe = edu_probe,
	.remove = edu_remove,
	/* an open file keeps the module, not the device */
	.driver.suppress_bind_attrs = true,
};

static int node_probe(struct platform_device *pdev)
{
	struct importer *imp;
	u32 bits = 64;
	int ret;

	imp = devm_kzalloc(&pdev->dev, sizeof(*imp), GFP_KERNEL);
	if (!imp)
		return -ENOMEM;
	imp->dev = &pdev->dev;

	of_property_read_u32(pdev->dev.of_node, "guest,dma-bits", &bits);
	ret = dma_set_mask_and_coherent(&pdev->dev, DMA_BIT_MASK(bits));
	if (ret)
		return ret;
	snprintf(imp->name, sizeof(imp->name), "importer-%pOFn", pdev->dev.of_node);
	return importer_register(imp);
}

static void node_remove(struct platform_device *pdev)
{
	struct importer *imp = platform_get_drvdata(pdev);

	misc_deregister(&imp->misc);
}

static const struct of_device_id node_ids[] = {
	{ .compatible = "guest,importer" },
	{ }
};
MODULE_DEVICE_TABLE(of, node_ids);

static struct platform_driver node_driver = {
	.probe = node_probe,
	.remove = node_remove,
	.driver = {
		.name = "importer-node",
		.of_match_table = node_ids,
		.suppress_bind_attrs = true,
	},
};

static int __init importer_init(void)
{
	int ret;

	ret = platform_driver_register(&node_driver);
	if (ret)
		return ret;
	ret = pci_register_driver(&edu_driver);
	if (ret)
		platform_driver_unregister(&node_driver);
	return ret;
}
module_init(importer_init);

static void __exit importer_exit(void)
{
	pci_unregister_driver(&edu_driver);
	platform_driver_unregister(&node_driver);
}
module_exit(importer_exit);

MODULE_DESCRIPTION("Imports DMA-BUFs into QEMU's edu device, and for nodes of the device tree");
MODULE_LICENSE("GPL");
MODULE_INFO(import_ns, "DMA_BUF"); /* as MODULE_IMPORT_NS(), whose argument differs in 7.3 */
