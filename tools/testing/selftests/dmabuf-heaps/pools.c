// SPDX-License-Identifier: GPL-2.0
/*
 * The pools of coherent regions, a layer below the heaps: which pages they have, how they
 * fill, and who shares one. They are seen in debugfs.
 *
 * The regions are those of REGIONS: see regions.h. A region that is also that of a device
 * for test_modules/dma_pool_user is used by that driver, too.
 *
 * The environment says what the tests cannot know:
 *
 *	SECONDS		how long a driver and users of the heap run at once (default: 10)
 */
#include <signal.h>
#include <sys/prctl.h>

#include "regions.h"

#define MAX_BUFFERS	8192
#define FRAME		3110400UL	/* NV12, 1920 x 1080 */
#define FIRST_PAGES	4096		/* that each of the first users takes */
#define CHURNERS	3
#define THREADS		4

static struct names usable;
static struct names fresh;	/* those of them that had no pool when the test began */

static unsigned long pages_of(size_t len)
{
	return (len + page_size() - 1) / page_size();
}

static void load_region(struct __test_metadata *_metadata, const char *region)
{
	ASSERT_EQ(0, coherent_load(region)) {
		TH_LOG("regions=%s: %s", region, strerror(errno));
	}
}

static void unload_coherent(struct __test_metadata *_metadata)
{
	ASSERT_EQ(0, module_unload(COHERENT_HEAP)) {
		TH_LOG("%s", strerror(errno));
	}
}

/*
 * Two devices get a region that nobody has used since the boot, at the same time. The
 * kernel must make one pool of it for both. This comes first, as a region has no second
 * first time.
 */
TEST(first_users_at_once_share_one_pool)
{
	struct dma_pool_user_first arg;
	unsigned long pages;
	struct pool pool;
	int i, driver;

	if (!fresh.n)
		SKIP(return, "each region of REGIONS has been used since the boot");
	driver = open_pool_user();
	if (driver < 0)
		SKIP(return, "no module " DMA_POOL_USER);
	for (i = 0; i < fresh.n; i++) {
		arg = (struct dma_pool_user_first){ .pages = FIRST_PAGES };
		snprintf(arg.region, sizeof(arg.region), "%s", fresh.name[i]);
		ASSERT_EQ(0, ioctl(driver, DMA_POOL_USER_FIRST, &arg)) {
			TH_LOG("%s: %s", fresh.name[i], strerror(errno));
		}
		EXPECT_EQ(0, arg.ret[0]);
		EXPECT_EQ(0, arg.ret[1]);
		EXPECT_EQ(0, arg.wrong) {
			TH_LOG("%s: both have the same page", fresh.name[i]);
		}
		read_pool(_metadata, fresh.name[i], &pool);
		EXPECT_EQ(0, pool.used);
		pages = pool.pages < 2 * FIRST_PAGES ? pool.pages : 2 * FIRST_PAGES;
		EXPECT_EQ(pages, arg.taken[0] + arg.taken[1]) {
			TH_LOG("%s: %u and %u pages", fresh.name[i], arg.taken[0], arg.taken[1]);
		}
		/* the heap finds what the devices made */
		load_region(_metadata, fresh.name[i]);
		read_pool(_metadata, fresh.name[i], &pool);
		use_heap(_metadata, fresh.name[i], page_size());
		unload_coherent(_metadata);
	}
	ksft_print_msg("%d regions that nobody had used\n", fresh.n);
	close(driver);
	unload_pool_user(_metadata);
}

/* A heap of this region, and of no other; and the pool as it is when nobody uses it */
struct region_heap {
	const char *name;
	struct pool pool;
	int fd;
};

static void begin(struct __test_metadata *_metadata, const char *region, struct region_heap *heap)
{
	module_unload(DMA_POOL_USER);
	module_unload(COHERENT_HEAP);
	load_region(_metadata, region);
	read_pool(_metadata, region, &heap->pool);
	ASSERT_EQ(0, heap->pool.used);
	heap->name = region;
	heap->fd = heap_open(region);
	ASSERT_LE(0, heap->fd);
}

static void end(struct __test_metadata *_metadata, const struct region_heap *heap)
{
	expect_used(_metadata, heap->name, 0);
	close(heap->fd);
	unload_coherent(_metadata);
}

FIXTURE(pool) {
	struct region_heap heap;
};

FIXTURE_VARIANT(pool) {
	char name[NAME_MAX + 1];
};

FIXTURE_SETUP(pool)
{
	begin(_metadata, variant->name, &self->heap);
}

FIXTURE_TEARDOWN(pool)
{
	end(_metadata, &self->heap);
}

/* Of what the device tree says, unless the kernel has placed it */
TEST_F(pool, has_the_full_pages_of_the_region)
{
	struct pool *pool = &self->heap.pool;
	__u64 base, size;

	EXPECT_EQ(0, pool->base % page_size());
	EXPECT_EQ(pool->pages, pool->largest);
	EXPECT_NE(0, pool->pages);
	EXPECT_NE(0, pool->base);
	if (region_reg(self->heap.name, &base, &size)) {
		EXPECT_EQ(full_pages(&base, size), pool->pages * page_size());
		EXPECT_EQ(base, pool->base);
	}
	ksft_print_msg("%s: %lu pages at 0x%llx\n", self->heap.name, pool->pages, pool->base);
}

/* Of sizes that are no power of two, and all of it */
TEST_F(pool, a_buffer_takes_its_pages_and_gives_them_back)
{
	const size_t page = page_size();
	const size_t sizes[] = {
		1, page, page + 1, 3 * page, 5 * page, 300000, 3000000, FRAME,
	};
	struct region_heap *heap = &self->heap;
	int buf[ARRAY_SIZE(sizes)];
	unsigned long used = 0;
	struct pool now;
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(sizes); i++) {
		buf[i] = -1;
		if (used + pages_of(sizes[i]) > heap->pool.pages)
			continue;
		buf[i] = heap_alloc(heap->fd, sizes[i]);
		ASSERT_LE(0, buf[i]) {
			TH_LOG("%zu bytes: %s", sizes[i], strerror(errno));
		}
		used += pages_of(sizes[i]);
		expect_used(_metadata, heap->name, used);
	}
	for (i = 0; i < ARRAY_SIZE(sizes); i++) {
		if (buf[i] < 0)
			continue;
		close(buf[i]);
		used -= pages_of(sizes[i]);
		expect_used(_metadata, heap->name, used);
	}
	/* to the last page, in one piece */
	buf[0] = heap_alloc(heap->fd, heap->pool.pages * page);
	ASSERT_LE(0, buf[0]);
	read_pool(_metadata, heap->name, &now);
	EXPECT_EQ(heap->pool.pages, now.used);
	EXPECT_EQ(0, now.largest);
	close(buf[0]);
}

/* Every second page, then what is between */
TEST_F(pool, shows_the_largest_free_piece)
{
	struct region_heap *heap = &self->heap;
	unsigned long i, n = heap->pool.pages;
	static int buf[MAX_BUFFERS + 1];
	struct pool now;

	if (n > MAX_BUFFERS)
		SKIP(return, "the region is too large");
	for (i = 0; i < n; i++) {
		buf[i] = heap_alloc(heap->fd, page_size());
		ASSERT_LE(0, buf[i]);
	}
	EXPECT_ERRNO(ENOMEM, heap_alloc(heap->fd, page_size()));
	for (i = 0; i < n; i += 2)
		close(buf[i]);
	/* a heap hands out the first pages that are free; so these were not side by side */
	read_pool(_metadata, heap->name, &now);
	EXPECT_EQ(n / 2, now.used);
	EXPECT_EQ(1, now.largest);
	EXPECT_ERRNO(ENOMEM, heap_alloc(heap->fd, 2 * page_size()));
	for (i = 1; i < n; i += 2)
		close(buf[i]);
	read_pool(_metadata, heap->name, &now);
	EXPECT_EQ(n, now.largest);
}

/* Nothing but the end of its last page is lost of a frame; what was there before is not in it */
TEST_F(pool, fills_up_with_frames)
{
	struct region_heap *heap = &self->heap;
	size_t all = heap->pool.pages * page_size();
	unsigned long i, n = heap->pool.pages / pages_of(FRAME);
	static int buf[MAX_BUFFERS];
	unsigned char *p;

	if (!n || n > MAX_BUFFERS)
		SKIP(return, "the region is too small, or too large");
	buf[0] = heap_alloc(heap->fd, all);
	ASSERT_LE(0, buf[0]);
	p = get_map(_metadata, buf[0], all);
	memset(p, 0xa5, all);
	munmap(p, all);
	close(buf[0]);

	for (i = 0; i < n; i++) {
		buf[i] = heap_alloc(heap->fd, FRAME);
		ASSERT_LE(0, buf[i]) {
			TH_LOG("frame %lu of %lu: %s", i, n, strerror(errno));
		}
	}
	EXPECT_ERRNO(ENOMEM, heap_alloc(heap->fd, FRAME));
	ksft_print_msg("%s: %lu frames, %lu of %zu bytes\n", heap->name, n, n * FRAME, all);
	for (i = 0; i < n; i++) {
		p = get_map(_metadata, buf[i], FRAME);
		ASSERT_EQ(FRAME, first_nonzero(p, FRAME)) {
			TH_LOG("frame %lu", i);
		}
		fill(p, FRAME, i);
		munmap(p, FRAME);
	}
	for (i = 0; i < n; i++) {
		p = get_map(_metadata, buf[i], FRAME);
		ASSERT_EQ(FRAME, first_wrong(p, FRAME, i)) {
			TH_LOG("frame %lu", i);
		}
		munmap(p, FRAME);
		close(buf[i]);
	}
}

/* A region that a device has, too */
FIXTURE(driver) {
	struct region_heap heap;
	int fd;
};

FIXTURE_VARIANT(driver) {
	char name[NAME_MAX + 1];
};

FIXTURE_SETUP(driver)
{
	if (!variant)
		SKIP(return, "no device for " DMA_POOL_USER " has a region of REGIONS");
	begin(_metadata, variant->name, &self->heap);
	self->fd = open_pool_user();
	if (self->fd < 0)
		SKIP(return, "no module " DMA_POOL_USER);
}

FIXTURE_TEARDOWN(driver)
{
	close(self->fd);
	unload_pool_user(_metadata);
	end(_metadata, &self->heap);
}

/* To the power of two that covers the size, as the DMA API promises; but no more pages */
TEST_F(driver, buffers_are_aligned_and_take_their_pages)
{
	static const unsigned int sizes[] = { 1, 1, 3, 5, 2, 9, 1, 17, 4, 33, 6, 1, 12 };
	struct dma_pool_user_alloc arg;
	unsigned long used = 0, order;
	unsigned int i, slot;

	if (self->heap.pool.pages < 256)
		SKIP(return, "the region is too small");
	for (i = 0; i < ARRAY_SIZE(sizes); i++) {
		arg = (struct dma_pool_user_alloc){
			.len = sizes[i] * page_size() - i, .slot = i, .mark = i
		};
		ASSERT_EQ(0, ioctl(self->fd, DMA_POOL_USER_ALLOC, &arg)) {
			TH_LOG("%u pages: %s", sizes[i], strerror(errno));
		}
		for (order = page_size(); order < arg.len; order *= 2)
			;
		EXPECT_EQ(0, arg.addr % order) {
			TH_LOG("%u pages at 0x%llx", sizes[i], arg.addr);
		}
		used += sizes[i];
		expect_used(_metadata, self->heap.name, used);
	}
	ASSERT_EQ(0, ioctl(self->fd, DMA_POOL_USER_CHECK));
	for (i = 0; i < ARRAY_SIZE(sizes); i++) {
		slot = (i * 5) % ARRAY_SIZE(sizes);
		ASSERT_EQ(0, pool_user_free(self->fd, slot));
		used -= sizes[slot];
		expect_used(_metadata, self->heap.name, used);
	}
}

/* In a process of its own, until it is killed; one that ends has said why */
static void churn(int heap, unsigned int seed, unsigned long *count)
{
	struct { int fd; size_t len; unsigned char *p, mark; } held[12] = { 0 }, *b;
	size_t i;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	for (;;) {
		b = &held[rand_r(&seed) % ARRAY_SIZE(held)];
		if (b->p) {
			for (i = 0; i < b->len && b->p[i] == b->mark; i++)
				;
			if (i != b->len) {
				ksft_print_msg("byte %zu of %zu: somebody else wrote\n", i, b->len);
				_exit(1);
			}
			munmap(b->p, b->len);
			close(b->fd);
			b->p = NULL;
			continue;
		}
		b->len = 1 + rand_r(&seed) % (16 * page_size());
		b->mark = rand_r(&seed);
		b->fd = heap_alloc(heap, b->len);
		if (b->fd < 0 && errno == ENOMEM)
			continue;
		b->p = buffer_map(b->fd, b->len);
		if (b->p == MAP_FAILED || first_nonzero(b->p, b->len) != b->len) {
			ksft_print_msg("no buffer, or not zeroed: %s\n", strerror(errno));
			_exit(1);
		}
		memset(b->p, b->mark, b->len);
		++*count;
	}
}

/* Threads of the driver, some of them atomic, and users of the heap */
TEST_F_TIMEOUT(driver, and_users_of_the_heap_at_once, 600)
{
	struct dma_pool_user_threads arg = {
		.threads = THREADS,
		.ms = 1000 * env_number("SECONDS", 10),
		.pages = 16,
	};
	int i, ret, err, status, buffers = buffers_of(self->heap.name);
	pid_t pid[CHURNERS];
	unsigned long *count;

	/* the threads hold some 360 pages */
	if (self->heap.pool.pages > 300)
		SKIP(return, "the region is too large to be full at times");
	count = mmap(NULL, page_size(), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	ASSERT_NE(MAP_FAILED, count);
	for (i = 0; i < CHURNERS; i++) {
		pid[i] = fork();
		ASSERT_LE(0, pid[i]);
		if (!pid[i])
			churn(self->heap.fd, i + 1, &count[i]);
	}
	ret = ioctl(self->fd, DMA_POOL_USER_THREADS, &arg);
	err = errno;
	for (i = 0; i < CHURNERS; i++) {
		kill(pid[i], SIGKILL);
		ASSERT_EQ(pid[i], waitpid(pid[i], &status, 0));
		EXPECT_TRUE(WIFSIGNALED(status));
		EXPECT_LE(50, count[i]);
	}
	ASSERT_EQ(0, ret) {
		TH_LOG("%s", strerror(err));
	}
	ksft_print_msg("%s: driver: %llu buffers, %llu of them atomic, %llu times full\n",
		       self->heap.name, arg.taken, arg.atomic, arg.full);
	ksft_print_msg("heap: %lu, %lu and %lu buffers\n", count[0], count[1], count[2]);
	EXPECT_EQ(0, arg.wrong) {
		TH_LOG("buffers of the driver that somebody else wrote to");
	}
	EXPECT_LE(50, arg.atomic);
	EXPECT_LE(100, arg.taken);
	EXPECT_LE(10, arg.full);
	EXPECT_EQ(buffers, buffers_of(self->heap.name));
}

int main(int argc, char **argv)
{
	static char shared[NAME_MAX + 1];
	struct pool pool;
	int i;

	allow_buffers(MAX_BUFFERS);
	find_coherent_heap();
	if (coherent_is_builtin)
		ksft_exit_skip(COHERENT_HEAP " is built in\n");
	env_names("REGIONS", &usable);
	if (!usable.n)
		ksft_exit_skip("no REGIONS= to write to\n");
	if (pools_called("", &pool) < 0)
		ksft_exit_skip("no " POOLS "\n");
	driver_region(shared, sizeof(shared));
	for (i = 0; i < usable.n; i++) {
		if (!pools_called(usable.name[i], &pool))
			names_add(&fresh, usable.name[i]);
		add_variant(&_pool_fixture_object, usable.name[i], usable.name[i]);
		if (!strcmp(usable.name[i], shared))
			add_variant(&_driver_fixture_object, shared, shared);
	}
	return test_harness_run(argc, argv);
}
