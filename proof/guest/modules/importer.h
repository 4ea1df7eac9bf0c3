/* SPDX-License-Identifier: GPL-2.0 */
/* What the module importer and the programs of the guest share: /dev/importerN and /dev/importer-NAME */
#ifndef GUEST_IMPORTER_H
#define GUEST_IMPORTER_H

#include <linux/ioctl.h>
#include <linux/types.h>

struct importer_attach {
	__s32 fd;		/* in: the DMA-BUF */
	__u32 segments;		/* out: entries with a DMA address */
	__u64 address;		/* out: that of the first */
	__u64 ns;		/* out: what attaching and mapping took */
	__u32 direction;	/* in: what the device may do, as enum dma_data_direction: 0 both, 1 read, 2 write */
	__u32 length;		/* out: bytes of the first entry */
};

struct importer_dma {
	__u64 offset;		/* in the buffer */
	__u64 len;		/* bytes */
	__u64 user;		/* address of the bytes to write, or for what was read */
};

/* One buffer for each open file; closing the file detaches it. */
#define IMPORTER_ATTACH	_IOWR('I', 0, struct importer_attach)
/* What unmapping and detaching took, in nanoseconds */
#define IMPORTER_DETACH	_IOR('I', 1, __u64)
/* The device writes into the buffer, or reads from it: ENXIO from one that does no DMA */
#define IMPORTER_WRITE	_IOW('I', 2, struct importer_dma)
#define IMPORTER_READ	_IOW('I', 3, struct importer_dma)

#endif /* GUEST_IMPORTER_H */
