// SPDX-License-Identifier: GPL-2.0
/*
 * What the heaps of coherent regions do beyond what every heap does: each gives all of its
 * region, in buffers that nobody else has, and shares it with the driver of a device
 *
 * The heaps are those that coherent_heap makes with the parameter that this machine gives
 * it. The driver is test_modules/dma_pool_user, where the device tree has a node for it
 * whose memory-region is that of a heap.
 *
 * The environment says how long it may take:
 *
 *	ROUNDS		how often a buffer is taken or freed at random (default: 2000)
 *	SHORT		1: large regions are not filled with small buffers
 */
#include <sys/uio.h>

#include "areas.h"

#define MAX_BUFFERS	16384
#define SLOTS		48
/* Of a buffer, where a driver has some, too */
#define SHARE		(16 * KIB > (size_t)page_size() ? 16 * KIB : (size_t)page_size())

static unsigned int rounds;
static bool in_short;
static unsigned int seed = 20261121;

static unsigned int rnd(unsigned int n)
{
	return rand_r(&seed) % n;
}

/* Sizes up to 3 MiB, often small, few of them multiples of the page size */
static size_t some_size(void)
{
	return 1 + rnd(rnd(4) ? 12 * KIB : rnd(8) ? 256 * KIB : 3 * MIB);
}

static int get_heap(struct __test_metadata *_metadata, const char *name)
{
	int heap = heap_open(name);

	ASSERT_LE(0, heap) {
		TH_LOG("cannot open %s: %s", name, strerror(errno));
	}
	return heap;
}

static int fds[MAX_BUFFERS];

/* How many buffers of that size there are; their fds are in "fds" */
static int fill_up(struct __test_metadata *_metadata, int heap, size_t len)
{
	int n;

	for (n = 0; n < MAX_BUFFERS; n++) {
		fds[n] = heap_alloc(heap, len);
		if (fds[n] < 0)
			break;
	}
	ASSERT_GT(MAX_BUFFERS, n);
	ASSERT_EQ(ENOMEM, errno);
	return n;
}

static void close_all(int n)
{
	while (n--)
		close(fds[n]);
}

/* No byte of a region is lost but to full pages, and what is freed comes back */
TEST_F(heap, fills_up_is_emptied_and_fills_up_again)
{
	const size_t sizes[] = { 4 * KIB, 12 * KIB, 64 * KIB, MIB, 3 * MIB };
	size_t all = area[self->index], page = page_size(), len;
	int heap = get_heap(_metadata, self->name), round;
	unsigned int i, n;

	ASSERT_LE(page, all);
	ASSERT_EQ(all, largest[self->index]);
	for (i = 0; i < ARRAY_SIZE(sizes); i++) {
		if (in_short && sizes[i] < 64 * KIB && all >= 4 * MIB)
			continue;
		len = (sizes[i] + page - 1) & -page;
		if (all / len >= MAX_BUFFERS)
			continue;
		for (round = 0; round < 2; round++) {
			n = fill_up(_metadata, heap, sizes[i]);
			EXPECT_EQ(all / len, n) {
				TH_LOG("buffers of %zu bytes", sizes[i]);
			}
			/* and so is a second request, and one that never could be met */
			EXPECT_ERRNO(ENOMEM, heap_alloc(heap, sizes[i]));
			EXPECT_ERRNO(ENOMEM, heap_alloc(heap, 1ULL << 40));
			close_all(n);
		}
		ksft_print_msg("%s: %u buffers of %zu KiB in %zu KiB\n", self->name, n,
			       sizes[i] / KIB, all / KIB);
	}
	close(heap);
}

struct slot {
	int fd;
	size_t len;
	unsigned char *p;	/* NULL: there is no buffer */
	unsigned int mark;
	bool of_driver;
};

static void check_slot(struct __test_metadata *_metadata, const struct slot *s)
{
	size_t at;

	if (!s->p)
		return;
	at = first_wrong(s->p, s->len, s->mark);
	ASSERT_EQ(s->len, at) {
		TH_LOG("byte %zu of %zu: somebody else wrote", at, s->len);
	}
}

static void free_slot(struct __test_metadata *_metadata, struct slot *s)
{
	check_slot(_metadata, s);
	if (!s->p)
		return;
	munmap(s->p, s->len);
	close(s->fd);
	s->p = NULL;
}

/* False if the pool is full */
static bool take_slot(struct __test_metadata *_metadata, int heap, struct slot *s,
		      unsigned int mark)
{
	s->len = some_size();
	s->mark = mark;
	s->fd = heap_alloc(heap, s->len);
	if (s->fd < 0) {
		ASSERT_EQ(ENOMEM, errno);
		return false;
	}
	s->p = get_map(_metadata, s->fd, s->len);
	ASSERT_EQ(s->len, first_nonzero(s->p, s->len));
	fill(s->p, s->len, s->mark);
	return true;
}

TEST_F_TIMEOUT(heap, random_buffers_never_overlap_and_are_zeroed, 600)
{
	struct slot slots[SLOTS] = { 0 }, *s;
	unsigned int i, full = 0;
	int heap = get_heap(_metadata, self->name);

	for (i = 0; i < rounds; i++) {
		s = &slots[rnd(SLOTS)];
		if (s->p)
			free_slot(_metadata, s);
		else
			full += !take_slot(_metadata, heap, s, i);
	}
	for (s = slots; s < slots + SLOTS; s++)
		free_slot(_metadata, s);
	close(heap);
	ksft_print_msg("%s: %u rounds, the pool was full in %u\n", self->name, rounds, full);
}

/* Not mmap(), which returns a pointer */
static int map_at(int buf, size_t len, int flags, off_t offset)
{
	return mmap(NULL, len, PROT_READ | PROT_WRITE, flags, buf, offset) == MAP_FAILED ? -1 : 0;
}

TEST_F(heap, maps_of_the_whole_and_of_parts)
{
	size_t page = page_size(), len = 4 * page, i;
	unsigned char *whole, *part;
	int buf, status = -1;
	pid_t pid;

	buf = get_buffer(_metadata, self->name, len);
	whole = get_map(_metadata, buf, len);
	fill(whole, len, 9);
	part = mmap(NULL, 2 * page, PROT_READ | PROT_WRITE, MAP_SHARED, buf, page);
	ASSERT_NE(MAP_FAILED, part);
	for (i = 0; i < 2 * page; i++)
		ASSERT_EQ(pattern(i + page, 9), part[i]);
	part[5] = 0x77;
	EXPECT_EQ(0x77, whole[page + 5]);
	EXPECT_ERRNO(EINVAL, map_at(buf, len + page, MAP_SHARED, 0));
	EXPECT_ERRNO(EINVAL, map_at(buf, len, MAP_SHARED, page));
	EXPECT_ERRNO(EINVAL, map_at(buf, page, MAP_SHARED, len));
	EXPECT_ERRNO(EINVAL, map_at(buf, len, MAP_PRIVATE, 0));
	EXPECT_EQ(MAP_FAILED, mremap(part, 2 * page, len, MREMAP_MAYMOVE));
	ASSERT_EQ(0, munmap(whole, page));
	EXPECT_EQ(0x77, whole[page + 5]);
	/* the maps outlive the fd, and a child has them, too */
	close(buf);
	pid = fork();
	ASSERT_LE(0, pid);
	if (!pid) {
		part[6] = 0x78;
		_exit(whole[page + 5] != 0x77);
	}
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	EXPECT_EQ(0, status);
	EXPECT_EQ(0x78, part[6]);
	munmap(whole + page, len - page);
	munmap(part, 2 * page);
}

/* There are no pages to pin, and the attempt does no harm */
TEST_F(heap, what_needs_pages_is_refused)
{
	struct iovec iov = { .iov_len = page_size() };
	int buf, to[2];

	buf = get_buffer(_metadata, self->name, iov.iov_len);
	iov.iov_base = get_map(_metadata, buf, iov.iov_len);
	ASSERT_EQ(0, pipe(to));
	EXPECT_ERRNO(EFAULT, vmsplice(to[1], &iov, 1, 0));
	/* what copies works */
	EXPECT_EQ(64, write(to[1], iov.iov_base, 64));
	close(to[0]);
	close(to[1]);
	munmap(iov.iov_base, iov.iov_len);
	close(buf);
}

TEST_F(heap, the_calls_for_access_by_the_cpu_change_nothing)
{
	size_t len = 4 * page_size();
	unsigned char *p;
	int buf;

	buf = get_buffer(_metadata, self->name, len);
	p = get_map(_metadata, buf, len);
	fill(p, len, 3);
	EXPECT_EQ(0, buffer_sync(buf, DMA_BUF_SYNC_START | DMA_BUF_SYNC_RW));
	EXPECT_EQ(0, buffer_sync(buf, DMA_BUF_SYNC_END | DMA_BUF_SYNC_RW));
	EXPECT_EQ(len, first_wrong(p, len, 3));
	munmap(p, len);
	close(buf);
}

/* A heap whose region is that of a device, too, and the device's driver */
FIXTURE(driver) {
	const char *name;
	struct heap_module *module;	/* of the heap; NULL if it is built in */
	int index, fd;
	struct state before;
};

FIXTURE_VARIANT(driver) {
	char name[NAME_MAX + 1];
};

FIXTURE_SETUP(driver)
{
	if (!variant)
		SKIP(return, "no device for " DMA_POOL_USER " has the region of a heap");
	self->name = variant->name;
	self->index = heap_index(self->name);
	self->module = module_of(self->name);
	if (area[self->index] < 16 * SHARE)
		SKIP(return, "the region is too small");
	if (area[self->index] / SHARE >= DMA_POOL_USER_SLOTS)
		SKIP(return, "the region is too large");
	state_take(_metadata, self->index, &self->before);
	self->fd = open_pool_user();
	if (self->fd < 0)
		SKIP(return, "no module " DMA_POOL_USER);
}

/* Its remove function frees what the driver has */
FIXTURE_TEARDOWN(driver)
{
	close(self->fd);
	unload_pool_user(_metadata);
	state_check(_metadata, self->index, &self->before);
}

static void drivers_are_good(struct __test_metadata *_metadata, int driver)
{
	ASSERT_EQ(0, ioctl(driver, DMA_POOL_USER_CHECK)) {
		TH_LOG("somebody else wrote to the driver's buffers: %s", strerror(errno));
	}
}

/* The heap's buffers until the pool is full, each of them written: how many */
static int heap_takes_all(struct __test_metadata *_metadata, int heap)
{
	unsigned char *p;
	int i, n;

	n = fill_up(_metadata, heap, SHARE);
	for (i = 0; i < n; i++) {
		p = get_map(_metadata, fds[i], SHARE);
		ASSERT_EQ(SHARE, first_nonzero(p, SHARE));
		fill(p, SHARE, i);
		munmap(p, SHARE);
	}
	EXPECT_ERRNO(ENOMEM, heap_alloc(heap, page_size()));
	return n;
}

static int driver_takes_all(struct __test_metadata *_metadata, int driver, unsigned int first)
{
	int n = 0;

	while (first + n < DMA_POOL_USER_SLOTS &&
	       !pool_user_alloc(driver, first + n, SHARE, first + n))
		n++;
	ASSERT_GT(DMA_POOL_USER_SLOTS, first + n);
	ASSERT_EQ(ENOMEM, errno);
	return n;
}

static void driver_frees(struct __test_metadata *_metadata, int driver, unsigned int first, int n)
{
	while (n--)
		ASSERT_EQ(0, pool_user_free(driver, first + n));
}

/* What one has, the other cannot get; what it gives back, the other gets */
static void share_to_the_end(struct __test_metadata *_metadata, const char *name, int driver)
{
	int heap = get_heap(_metadata, name), all, n, i;

	all = heap_takes_all(_metadata, heap);
	EXPECT_ERRNO(ENOMEM, pool_user_alloc(driver, 0, page_size(), 0));
	n = all;
	for (i = 0; i < 5; i++)
		close(fds[--n]);
	ASSERT_EQ(5, driver_takes_all(_metadata, driver, 0));
	EXPECT_ERRNO(ENOMEM, heap_alloc(heap, page_size()));
	close_all(n);
	ASSERT_EQ(all - 5, driver_takes_all(_metadata, driver, 5));
	EXPECT_ERRNO(ENOMEM, heap_alloc(heap, page_size()));
	drivers_are_good(_metadata, driver);
	driver_frees(_metadata, driver, 0, 7);
	ASSERT_EQ(7, heap_takes_all(_metadata, heap));
	drivers_are_good(_metadata, driver);
	driver_frees(_metadata, driver, 7, all - 7);
	close_all(7);
	close(heap);
	ksft_print_msg("%s: %d buffers of %zu KiB for the two\n", name, all, SHARE / KIB);
}

TEST_F(driver, sees_the_same_end_of_the_pool)
{
	share_to_the_end(_metadata, self->name, self->fd);
}

/* In random order, by turns: contents tell whether any two overlap */
TEST_F_TIMEOUT(driver, buffers_of_the_two_never_overlap, 600)
{
	int heap = get_heap(_metadata, self->name), driver = self->fd;
	struct slot slots[SLOTS] = { 0 }, *s;
	unsigned int i, k, full[2] = { 0 };

	for (i = 0; i < rounds; i++) {
		k = rnd(SLOTS);
		s = &slots[k];
		/* all of them, which takes its time */
		if (i % 8 == 0)
			drivers_are_good(_metadata, driver);
		if (s->of_driver) {
			ASSERT_EQ(0, pool_user_free(driver, k));
			s->of_driver = false;
		} else if (s->p) {
			free_slot(_metadata, s);
		} else if (rnd(2)) {
			s->of_driver = !pool_user_alloc(driver, k, some_size(), i);
			if (!s->of_driver)
				ASSERT_EQ(ENOMEM, errno);
			full[0] += !s->of_driver;
		} else {
			full[1] += !take_slot(_metadata, heap, s, i);
		}
	}
	drivers_are_good(_metadata, driver);
	for (s = slots; s < slots + SLOTS; s++)
		free_slot(_metadata, s);
	close(heap);
	ksft_print_msg("%s: %u rounds, full for the driver %u times, for the heap %u\n",
		       self->name, rounds, full[0], full[1]);
}

/* The heap goes and comes back, or the driver does: the other keeps what it has */
TEST_F(driver, and_the_heap_outlive_each_other)
{
	int driver = self->fd, heap, buf, i, n;
	unsigned char *p;

	if (!self->module)
		SKIP(return, "the heap is built in");
	for (i = 0; i < 10; i++)
		ASSERT_EQ(0, pool_user_alloc(driver, i, SHARE, i));
	unload_one(_metadata, self->module);
	drivers_are_good(_metadata, driver);
	ASSERT_EQ(0, pool_user_alloc(driver, 10, SHARE, 10));
	load_all(_metadata);
	/* it was the driver's pool before it was the heap's again, and still is one */
	heap = get_heap(_metadata, self->name);
	n = heap_takes_all(_metadata, heap);
	EXPECT_EQ(area[self->index] / SHARE, n + 11);
	drivers_are_good(_metadata, driver);
	EXPECT_ERRNO(ENOMEM, pool_user_alloc(driver, 11, page_size(), 0));
	close_all(n);

	buf = heap_alloc(heap, SHARE);
	ASSERT_LE(0, buf);
	p = get_map(_metadata, buf, SHARE);
	fill(p, SHARE, 99);
	close(driver);
	unload_pool_user(_metadata);
	EXPECT_EQ(SHARE, first_wrong(p, SHARE, 99));
	EXPECT_EQ(n + 10, heap_takes_all(_metadata, heap));
	self->fd = open_pool_user();
	ASSERT_LE(0, self->fd);
	EXPECT_ERRNO(ENOMEM, pool_user_alloc(self->fd, 0, page_size(), 0));
	close_all(n + 10);
	EXPECT_EQ(n + 10, driver_takes_all(_metadata, self->fd, 0));
	drivers_are_good(_metadata, self->fd);
	EXPECT_EQ(SHARE, first_wrong(p, SHARE, 99));
	munmap(p, SHARE);
	close(buf);
	close(heap);
}

TEST_F(driver, may_be_there_first)
{
	if (!self->module)
		SKIP(return, "the heap is built in");
	close(self->fd);
	unload_pool_user(_metadata);
	unload_one(_metadata, self->module);
	self->fd = open_pool_user();
	ASSERT_LE(0, self->fd);
	load_all(_metadata);
	share_to_the_end(_metadata, self->name, self->fd);
}

int main(int argc, char **argv)
{
	static char shared[NAME_MAX + 1];
	struct heap_module *m;
	int i, n = 0;

	rounds = env_number("ROUNDS", 2000);
	in_short = env_number("SHORT", 0);
	allow_buffers(MAX_BUFFERS);
	find_heaps();
	if (buffers_of("") < 0)
		ksft_exit_skip("no " BUFINFO "\n");
	measure_areas();
	driver_region(shared, sizeof(shared));
	for (i = 0; i < heaps.n; i++) {
		m = module_of(heaps.name[i]);
		if (m ? strcmp(m->name, COHERENT_HEAP) : !is_coherent(i))
			continue;
		add_variant(&_heap_fixture_object, heaps.name[i], heaps.name[i]);
		if (!strcmp(heaps.name[i], shared))
			add_variant(&_driver_fixture_object, shared, shared);
		n++;
	}
	if (!n)
		ksft_exit_skip("no heap of a coherent region\n");
	return test_harness_run(argc, argv);
}
