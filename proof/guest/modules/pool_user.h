/* SPDX-License-Identifier: GPL-2.0 */
/* What the module pool_user and the programs of the guest share: /dev/pool_user */
#ifndef GUEST_POOL_USER_H
#define GUEST_POOL_USER_H

#include <linux/ioctl.h>
#include <linux/types.h>

struct pool_user_alloc {
	__u64 len;	/* bytes */
	__u32 slot;	/* which of the driver's buffers it becomes */
	__u32 mark;	/* what it is filled with: see pattern() in heap.h */
};

#define POOL_USER_SLOTS	4096

#define POOL_USER_ALLOC	_IOW('P', 0, struct pool_user_alloc)
#define POOL_USER_FREE	_IOW('P', 1, __u32)
/* All buffers of the driver: EIO if what one was filled with is not there any more */
#define POOL_USER_CHECK	_IO('P', 2)

#endif /* GUEST_POOL_USER_H */
