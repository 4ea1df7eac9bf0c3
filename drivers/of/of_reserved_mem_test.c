// SPDX-License-Identifier: GPL-2.0
/*
 * KUnit tests for the assignment of reserved memory to devices
 */
#include <linux/device.h>
#include <linux/err.h>
#include <linux/kernel.h>
#include <linux/module.h>
#include <linux/of.h>
#include <linux/of_reserved_mem.h>

#include <kunit/device.h>
#include <kunit/of.h>
#include <kunit/test.h>

#include "of_private.h"

/* A region whose operations are the test's: it counts what is asked of it */
struct test_rmem {
	struct reserved_mem rmem;
	unsigned int inits;
	unsigned int releases;
	struct device *last;
	int ret;
};

static int test_rmem_init(struct reserved_mem *rmem, struct device *dev)
{
	struct test_rmem *t = container_of(rmem, struct test_rmem, rmem);

	t->inits++;
	t->last = dev;

	return t->ret;
}

static void test_rmem_release(struct reserved_mem *rmem, struct device *dev)
{
	struct test_rmem *t = container_of(rmem, struct test_rmem, rmem);

	t->releases++;
	t->last = dev;
}

static const struct reserved_mem_ops test_rmem_ops = {
	.device_init = test_rmem_init,
	.device_release = test_rmem_release,
};

static const struct reserved_mem_ops test_rmem_ops_no_init = {
	.device_release = test_rmem_release,
};

static const struct reserved_mem_ops test_rmem_ops_no_release = {
	.device_init = test_rmem_init,
};

static struct test_rmem *test_rmem(struct kunit *test,
				   const struct reserved_mem_ops *ops)
{
	struct test_rmem *t = kunit_kzalloc(test, sizeof(*t), GFP_KERNEL);

	KUNIT_ASSERT_NOT_NULL(test, t);
	t->rmem.name = "kunit-rmem";
	t->rmem.ops = ops;

	return t;
}

static struct device *test_device(struct kunit *test)
{
	static unsigned int number;
	struct device *dev;
	char name[32];

	/* The driver that comes with it can be a while in going away */
	snprintf(name, sizeof(name), "rmem-test-%u", number++);
	dev = kunit_device_register(test, name);
	KUNIT_ASSERT_NOT_ERR_OR_NULL(test, dev);

	return dev;
}

/* An assignment is recorded, and undone exactly once */
static void rmem_assign(struct kunit *test)
{
	struct test_rmem *t = test_rmem(test, &test_rmem_ops);
	struct device *dev = test_device(test);

	KUNIT_ASSERT_EQ(test, 0, of_reserved_mem_device_init_with_mem(dev, &t->rmem));
	KUNIT_EXPECT_EQ(test, 1, t->inits);
	KUNIT_EXPECT_PTR_EQ(test, dev, t->last);
	KUNIT_EXPECT_EQ(test, 0, t->releases);

	t->last = NULL;
	of_reserved_mem_device_release(dev);
	KUNIT_EXPECT_EQ(test, 1, t->releases);
	KUNIT_EXPECT_PTR_EQ(test, dev, t->last);

	of_reserved_mem_device_release(dev);
	KUNIT_EXPECT_EQ(test, 1, t->releases);
	KUNIT_EXPECT_EQ(test, 1, t->inits);
}

/* What was undone can be done again */
static void rmem_assign_again(struct kunit *test)
{
	struct test_rmem *t = test_rmem(test, &test_rmem_ops);
	struct device *dev = test_device(test);
	int i;

	for (i = 1; i <= 3; i++) {
		KUNIT_ASSERT_EQ(test, 0,
				of_reserved_mem_device_init_with_mem(dev, &t->rmem));
		KUNIT_EXPECT_EQ(test, i, t->inits);
		of_reserved_mem_device_release(dev);
		KUNIT_EXPECT_EQ(test, i, t->releases);
	}
}

static void rmem_bad_arguments(struct kunit *test)
{
	struct test_rmem *t = test_rmem(test, &test_rmem_ops);
	struct device *dev = test_device(test);

	KUNIT_EXPECT_EQ(test, -EINVAL,
			of_reserved_mem_device_init_with_mem(NULL, &t->rmem));
	KUNIT_EXPECT_EQ(test, -EINVAL,
			of_reserved_mem_device_init_with_mem(dev, NULL));
	KUNIT_EXPECT_EQ(test, 0, t->inits);

	of_reserved_mem_device_release(dev);
	KUNIT_EXPECT_EQ(test, 0, t->releases);
}

/* A region that nobody claimed at boot, or that is not for devices */
static void rmem_ops_missing(struct kunit *test)
{
	struct test_rmem *none = test_rmem(test, NULL);
	struct test_rmem *no_init = test_rmem(test, &test_rmem_ops_no_init);
	struct device *dev = test_device(test);

	KUNIT_EXPECT_EQ(test, -EINVAL,
			of_reserved_mem_device_init_with_mem(dev, &none->rmem));
	KUNIT_EXPECT_EQ(test, -EINVAL,
			of_reserved_mem_device_init_with_mem(dev, &no_init->rmem));

	of_reserved_mem_device_release(dev);
	KUNIT_EXPECT_EQ(test, 0, no_init->releases);
}

/* The region's own error comes back, and there is nothing to undo */
static void rmem_init_fails(struct kunit *test)
{
	struct test_rmem *t = test_rmem(test, &test_rmem_ops);
	struct device *dev = test_device(test);

	t->ret = -EXDEV;
	KUNIT_EXPECT_EQ(test, -EXDEV,
			of_reserved_mem_device_init_with_mem(dev, &t->rmem));
	KUNIT_EXPECT_EQ(test, 1, t->inits);

	of_reserved_mem_device_release(dev);
	KUNIT_EXPECT_EQ(test, 0, t->releases);

	t->ret = 0;
	KUNIT_EXPECT_EQ(test, 0,
			of_reserved_mem_device_init_with_mem(dev, &t->rmem));
	of_reserved_mem_device_release(dev);
	KUNIT_EXPECT_EQ(test, 1, t->releases);
}

/* An operation that the region does not need is not called */
static void rmem_no_release_op(struct kunit *test)
{
	struct test_rmem *t = test_rmem(test, &test_rmem_ops_no_release);
	struct device *dev = test_device(test);

	KUNIT_ASSERT_EQ(test, 0, of_reserved_mem_device_init_with_mem(dev, &t->rmem));
	of_reserved_mem_device_release(dev);
	KUNIT_EXPECT_EQ(test, 0, t->releases);
}

/* One device's release leaves the assignments of another alone */
static void rmem_two_devices(struct kunit *test)
{
	struct test_rmem *t = test_rmem(test, &test_rmem_ops);
	struct device *a = test_device(test);
	struct device *b = test_device(test);

	KUNIT_ASSERT_EQ(test, 0, of_reserved_mem_device_init_with_mem(a, &t->rmem));
	KUNIT_EXPECT_EQ(test, 0, of_reserved_mem_device_init_with_mem(b, &t->rmem));
	KUNIT_EXPECT_EQ(test, 2, t->inits);

	of_reserved_mem_device_release(a);
	KUNIT_EXPECT_EQ(test, 1, t->releases);
	KUNIT_EXPECT_PTR_EQ(test, a, t->last);

	of_reserved_mem_device_release(b);
	KUNIT_EXPECT_EQ(test, 2, t->releases);
	KUNIT_EXPECT_PTR_EQ(test, b, t->last);
}

/* A device with several regions gives back all of them */
static void rmem_two_regions(struct kunit *test)
{
	struct test_rmem *one = test_rmem(test, &test_rmem_ops);
	struct test_rmem *two = test_rmem(test, &test_rmem_ops);
	struct device *dev = test_device(test);

	KUNIT_ASSERT_EQ(test, 0, of_reserved_mem_device_init_with_mem(dev, &one->rmem));
	KUNIT_EXPECT_EQ(test, 0, of_reserved_mem_device_init_with_mem(dev, &two->rmem));

	of_reserved_mem_device_release(dev);
	KUNIT_EXPECT_EQ(test, 1, one->releases);
	KUNIT_EXPECT_EQ(test, 1, two->releases);
}

static struct device_node *test_node(struct kunit *test, const char *name)
{
	struct device_node *np = of_find_node_by_name(NULL, name);

	KUNIT_ASSERT_NOT_NULL(test, np);
	of_node_put_kunit(test, np);

	return np;
}

/* By index: errors of the lookup */
static void rmem_by_idx_errors(struct kunit *test)
{
	struct device *dev = test_device(test);
	struct device_node *plain, *none, *disabled;

	of_root_kunit_skip(test);
	KUNIT_ASSERT_EQ(test, 0, of_overlay_apply_kunit(test, kunit_reserved_mem_test));

	plain = test_node(test, "kunit-rmem-plain");
	none = test_node(test, "kunit-rmem-none");
	disabled = test_node(test, "kunit-rmem-disabled");

	KUNIT_EXPECT_EQ(test, -EINVAL,
			of_reserved_mem_device_init_by_idx(NULL, plain, 0));
	KUNIT_EXPECT_EQ(test, -EINVAL,
			of_reserved_mem_device_init_by_idx(dev, NULL, 0));
	/* A node that is no region */
	KUNIT_EXPECT_EQ(test, -EINVAL,
			of_reserved_mem_device_init_by_idx(dev, plain, 0));
	KUNIT_EXPECT_EQ(test, -ENODEV,
			of_reserved_mem_device_init_by_idx(dev, plain, 1));
	KUNIT_EXPECT_EQ(test, -ENODEV,
			of_reserved_mem_device_init_by_idx(dev, none, 0));
	/* A region that is disabled is no error, and is not assigned */
	KUNIT_EXPECT_EQ(test, 0,
			of_reserved_mem_device_init_by_idx(dev, disabled, 0));
	of_reserved_mem_device_release(dev);
}

/* A contiguous area: to assign a coherent region would map what may be firmware's */
static bool test_can_assign(struct device_node *np)
{
	return of_device_is_available(np) &&
	       of_device_is_compatible(np, "shared-dma-pool") &&
	       of_property_read_bool(np, "reusable");
}

/* By index: a region of this machine, if a node refers to one */
static void rmem_by_idx_assigns(struct kunit *test)
{
	struct device *dev = test_device(test);
	struct device_node *np, *target;
	struct reserved_mem *rmem = NULL;

	for_each_node_with_property(np, "memory-region") {
		target = of_parse_phandle(np, "memory-region", 0);
		if (target && test_can_assign(target))
			rmem = of_reserved_mem_lookup(target);
		of_node_put(target);
		if (rmem && rmem->ops)
			break;
		rmem = NULL;
	}
	if (!rmem)
		kunit_skip(test, "no device refers to a contiguous area by memory-region");
	of_node_put_kunit(test, np);

	KUNIT_EXPECT_EQ(test, 0, of_reserved_mem_device_init_by_idx(dev, np, 0));
	of_reserved_mem_device_release(dev);
	KUNIT_EXPECT_EQ(test, 0, of_reserved_mem_device_init_with_mem(dev, rmem));
	of_reserved_mem_device_release(dev);
}

static struct kunit_case of_reserved_mem_test_cases[] = {
	KUNIT_CASE(rmem_assign),
	KUNIT_CASE(rmem_assign_again),
	KUNIT_CASE(rmem_bad_arguments),
	KUNIT_CASE(rmem_ops_missing),
	KUNIT_CASE(rmem_init_fails),
	KUNIT_CASE(rmem_no_release_op),
	KUNIT_CASE(rmem_two_devices),
	KUNIT_CASE(rmem_two_regions),
	KUNIT_CASE(rmem_by_idx_errors),
	KUNIT_CASE(rmem_by_idx_assigns),
	{}
};

static struct kunit_suite of_reserved_mem_suite = {
	.name = "of_reserved_mem",
	.test_cases = of_reserved_mem_test_cases,
};

kunit_test_suite(of_reserved_mem_suite);

MODULE_DESCRIPTION("KUnit tests for the assignment of reserved memory to devices");
MODULE_LICENSE("GPL");
