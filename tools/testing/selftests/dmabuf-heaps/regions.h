/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What the tests of coherent regions share: the regions of the device tree, the pools that
 * the kernel makes of them, coherent_heap with parameters of the test's own, and a driver
 *
 * The environment says what the tests cannot know:
 *
 *	REGIONS		coherent regions that the tests may write to: what is in the others
 *			may be firmware
 */
#ifndef DMABUF_HEAPS_REGIONS_H
#define DMABUF_HEAPS_REGIONS_H

#include <endian.h>
#include <sys/resource.h>

#include "heaps.h"
#include "test_modules/dma_pool_user.h"

#define RESERVED_MEMORY		"/proc/device-tree/reserved-memory"
#define POOLS			"/sys/kernel/debug/dma_coherent_pools"
#define PLATFORM_DEVICES	"/sys/bus/platform/devices"
#define PLATFORM_DRIVERS	"/sys/bus/platform/drivers"
#define COHERENT_HEAP		"coherent_heap"

/* The device tree */

/* The bytes of a property: how many, or -1 */
static inline ssize_t property(const char *node, const char *name, void *data, size_t size)
{
	char path[PATH_MAX + 32];
	ssize_t n;
	int fd;

	snprintf(path, sizeof(path), "%s/%s", node, name);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -1;
	n = read(fd, data, size);
	close(fd);
	return n;
}

static inline bool is_compatible(const char *node, const char *with)
{
	char list[512];
	ssize_t i, n;

	n = property(node, "compatible", list, sizeof(list) - 1);
	if (n < 0)
		return false;
	list[n] = '\0';
	for (i = 0; i < n; i += strlen(list + i) + 1)
		if (!strcmp(list + i, with))
			return true;
	return false;
}

static inline bool region_has(const char *region, const char *name)
{
	char path[PATH_MAX];

	snprintf(path, sizeof(path), RESERVED_MEMORY "/%s/%s", region, name);
	return !access(path, F_OK);
}

static inline bool is_shared_dma_pool(const char *region)
{
	char node[PATH_MAX];

	snprintf(node, sizeof(node), RESERVED_MEMORY "/%s", region);
	return is_compatible(node, "shared-dma-pool");
}

/* The address and size of the region; false if the kernel placed it */
static inline bool region_reg(const char *region, __u64 *base, __u64 *size)
{
	char node[PATH_MAX];
	__be64 reg[2];

	snprintf(node, sizeof(node), RESERVED_MEMORY "/%s", region);
	if (property(node, "reg", reg, sizeof(reg)) != sizeof(reg))
		return false;
	*base = be64toh(reg[0]);
	*size = be64toh(reg[1]);
	return true;
}

/* The full pages in it, in bytes */
static inline __u64 full_pages(__u64 *base, __u64 size)
{
	__u64 page = page_size(), end = (*base + size) & -page;

	*base = (*base + page - 1) & -page;
	return end > *base ? end - *base : 0;
}

/* The region of the device that dma_pool_user drives */
static inline bool driver_region(char *region, size_t size)
{
	char path[PATH_MAX];
	__be32 want, saw;
	bool found = false;
	struct dirent *e;
	DIR *d;

	d = opendir(PLATFORM_DEVICES);
	while (d && !found && (e = readdir(d))) {
		snprintf(path, sizeof(path), PLATFORM_DEVICES "/%s/of_node", e->d_name);
		found = is_compatible(path, DMA_POOL_USER_NODE) &&
			property(path, "memory-region", &want, sizeof(want)) == sizeof(want);
	}
	if (d)
		closedir(d);
	if (!found)
		return false;
	found = false;
	d = opendir(RESERVED_MEMORY);
	while (d && !found && (e = readdir(d))) {
		snprintf(path, sizeof(path), RESERVED_MEMORY "/%s", e->d_name);
		found = property(path, "phandle", &saw, sizeof(saw)) == sizeof(saw) && saw == want;
		if (found)
			snprintf(region, size, "%s", e->d_name);
	}
	if (d)
		closedir(d);
	return found;
}

/* The names in a variable of the environment */
static inline void env_names(const char *variable, struct names *list)
{
	char text[8192], *name, *next = text;

	snprintf(text, sizeof(text), "%s", getenv(variable) ?: "");
	while ((name = strsep(&next, " ")))
		if (*name)
			names_add(list, name);
	names_sort(list);
}

/* The pools, as debugfs has them: counts are pages */
struct pool {
	unsigned long long base;
	unsigned long pages, used, largest;
};

/* How many pools of this name there are; or -1 */
static inline int pools_called(const char *name, struct pool *pool)
{
	char line[512], word[NAME_MAX + 1];
	bool header = true;
	struct pool p;
	int n = 0;
	FILE *f;

	f = fopen(POOLS, "re");
	if (!f)
		return -1;
	while (n >= 0 && fgets(line, sizeof(line), f)) {
		if (header) {
			header = false;
		} else if (sscanf(line, "%255s %llx %lu %lu %lu", word, &p.base, &p.pages,
				  &p.used, &p.largest) != 5) {
			n = -1;
		} else if (!strcmp(word, name)) {
			*pool = p;
			n++;
		}
	}
	fclose(f);
	return n;
}

static inline void read_pool(struct __test_metadata *_metadata, const char *name, struct pool *pool)
{
	ASSERT_EQ(1, pools_called(name, pool)) {
		TH_LOG("of %s in " POOLS, name);
	}
}

static inline void expect_used(struct __test_metadata *_metadata, const char *name,
			       unsigned long pages)
{
	struct pool p;

	read_pool(_metadata, name, &p);
	EXPECT_EQ(pages, p.used);
}

/* A buffer is a file */
static inline void allow_buffers(unsigned int n)
{
	struct rlimit limit = { n + 64, n + 64 };

	if (setrlimit(RLIMIT_NOFILE, &limit))
		ksft_exit_fail_msg("cannot have %u files open: %s\n", n, strerror(errno));
}

/* The module coherent_heap */

static struct heap_module coherent = { .name = COHERENT_HEAP };
static bool coherent_is_builtin;

/* With regions=REGIONS, or without the parameter if that is NULL: 0, or -1 and errno */
static inline int coherent_load(const char *regions)
{
	char params[8192] = "";

	if (regions)
		snprintf(params, sizeof(params), "regions=%s", regions);
	return load_file(coherent.path, params);
}

/* Nobody may use it, nor the other modules with heaps: their heaps are none of this test */
static inline void find_coherent_heap(void)
{
	char text[] = MODULES, *name, *next = text;

	if (geteuid())
		ksft_exit_skip("these tests are for root\n");
	while ((name = strsep(&next, " ")))
		module_unload(name);
	heaps_now(&builtin_heaps);
	module_path(&coherent);
	coherent_is_builtin = module_gone(COHERENT_HEAP) ? false :
			      module_refs(COHERENT_HEAP) < 0;
	if (!coherent_is_builtin && !module_gone(COHERENT_HEAP))
		ksft_exit_skip(COHERENT_HEAP " is in use\n");
	if (!coherent_is_builtin && !coherent.path[0])
		ksft_exit_skip("no module " COHERENT_HEAP ", or a compressed one\n");
}

/* The driver: test_modules/dma_pool_user.c */

static inline int open_pool_user(void)
{
	return open_device_of(DMA_POOL_USER);
}

/* Its directory in sysfs goes with the last reference: see unload_sample() */
static inline void unload_pool_user(struct __test_metadata *_metadata)
{
	int i;

	ASSERT_EQ(0, module_unload(DMA_POOL_USER)) {
		TH_LOG(DMA_POOL_USER " does not unload: %s", strerror(errno));
	}
	for (i = 0; i < 200 && !access(PLATFORM_DRIVERS "/" DMA_POOL_USER, F_OK); i++)
		usleep(50 * 1000);
	ASSERT_EQ(-1, access(PLATFORM_DRIVERS "/" DMA_POOL_USER, F_OK));
	ASSERT_TRUE(module_gone(DMA_POOL_USER));
}

static inline int pool_user_alloc(int driver, unsigned int slot, size_t len, unsigned int mark)
{
	struct dma_pool_user_alloc arg = { .len = len, .slot = slot, .mark = mark };

	return ioctl(driver, DMA_POOL_USER_ALLOC, &arg);
}

static inline int pool_user_free(int driver, __u32 slot)
{
	return ioctl(driver, DMA_POOL_USER_FREE, &slot);
}

#endif /* DMABUF_HEAPS_REGIONS_H */
