// SPDX-License-Identifier: GPL-2.0
/*
 * Rounds of loading the modules of the DMA-BUF heaps, using them, and unloading them change
 * nothing. ROUNDS in the environment says how many (150).
 */
#include "test_heaps.h"

#define WARM_UP		20	/* rounds before the first measurement */

/*
 * How much less memory there may be after rounds, in bytes: a fixed amount, for what has
 * nothing to do with them, and a part that grows. A heap leaked in each is 1 KiB and more,
 * a module three pages and more. (Not on a kernel with KASAN, which keeps what is freed.)
 */
#define SLAB_FIXED	(32LL * 1024)
#define SLAB_ROUND	64LL
#define FREE_FIXED	(256LL * 1024)
#define FREE_ROUND	256LL

FIXTURE(reload) {
	int rounds;
	unsigned int minor;	/* the highest seen */
};

FIXTURE_SETUP(reload)
{
	self->rounds = env_number("ROUNDS", 150);
	load_all(_metadata);
}

FIXTURE_TEARDOWN(reload)
{
	int i;

	for (i = 0; i < nr_modules; i++)
		EXPECT_EQ(0, run_modprobe(modules[i].name));
}

static void unload(struct __test_metadata *_metadata, bool forward)
{
	int i;

	for (i = 0; i < nr_modules; i++)
		EXPECT_EQ(0, module_unload(modules[forward ? i : nr_modules - 1 - i].name));
	assert_heaps(_metadata, &builtin_heaps);
}

static void load(struct __test_metadata *_metadata, bool forward)
{
	int i;

	for (i = 0; i < nr_modules; i++)
		EXPECT_EQ(0, module_load(&modules[forward ? i : nr_modules - 1 - i]));
	assert_heaps(_metadata, &heaps);
}

static bool differs(const struct memory *a, const struct memory *b, int rounds)
{
	return b->slab - a->slab > SLAB_FIXED + SLAB_ROUND * rounds ||
	       a->available - b->available > FREE_FIXED + FREE_ROUND * rounds ||
	       b->vmalloc - a->vmalloc > SLAB_FIXED;
}

/* Whether nobody else takes memory, or gives it back, all the time: boot may not be over yet */
static bool quiet(struct memory *m)
{
	struct memory before = { 0 };
	int i;

	for (i = 0; i < 30; i++) {
		if (measure(&before) && measure(m) && !differs(&before, m, 0) &&
		    !differs(m, &before, 0))
			return true;
		ksft_print_msg("without rounds: Slab %+lld, MemAvailable %+lld, Vmalloc %+lld\n",
			       m->slab - before.slab, m->available - before.available,
			       m->vmalloc - before.vmalloc);
	}
	return false;
}

static void use(struct __test_metadata *_metadata, const char *name)
{
	size_t page = page_size();
	int heap, buf;
	unsigned char *p;

	heap = heap_open(name);
	ASSERT_LE(0, heap);
	buf = heap_alloc(heap, page);
	ASSERT_LE(0, buf);
	p = get_map(_metadata, buf, page);
	ASSERT_EQ(0, p[0]);
	ASSERT_EQ(0, p[page - 1]);
	memset(p, 0xa5, page);
	munmap(p, page);
	close(buf);
	close(heap);
}

/* The modules come and go in either order, and the heaps have new numbers each time */
static void rounds(struct __test_metadata *_metadata, int from, int n, unsigned int *highest)
{
	unsigned int before;
	dev_t rdev;
	int i, h;

	for (i = from; i < from + n; i++) {
		before = *highest;
		load(_metadata, i % 2);
		for (h = 0; h < heaps.n; h++) {
			ASSERT_EQ(0, heap_rdev(heaps.name[h], &rdev));
			if (i && module_of(heaps.name[h]))
				ASSERT_LT(before, minor(rdev));
			if (minor(rdev) > *highest)
				*highest = minor(rdev);
			use(_metadata, heaps.name[h]);
		}
		unload(_metadata, i / 2 % 2);
	}
}

static long long lesser(const long long n[2])
{
	return n[0] < n[1] ? n[0] : n[1];
}

/* What leaks in each round is missing after either half: the lesser loss counts */
static void costs_nothing(struct __test_metadata *_metadata, const struct memory *start,
			  const struct memory *middle, const struct memory *end, int n)
{
	const struct memory *m[] = { start, middle, end };
	long long available[2], slab[2], vmalloc[2];
	int i;

	for (i = 0; i < 2; i++) {
		available[i] = m[i]->available - m[i + 1]->available;
		slab[i] = m[i + 1]->slab - m[i]->slab;
		vmalloc[i] = m[i + 1]->vmalloc - m[i]->vmalloc;
		ksft_print_msg("%d rounds: Slab %+lld, MemAvailable %+lld, Vmalloc %+lld bytes\n",
			       n, slab[i], -available[i], vmalloc[i]);
	}
	EXPECT_LE(lesser(slab), SLAB_FIXED + SLAB_ROUND * n);
	EXPECT_LE(lesser(available), FREE_FIXED + FREE_ROUND * n);
	EXPECT_LE(lesser(vmalloc), SLAB_FIXED);
}

TEST_F_TIMEOUT(reload, rounds_change_nothing, 6 * 3600)
{
	char before[65536], after[65536];
	struct memory start = { 0 }, middle = { 0 }, end = { 0 };
	int half = self->rounds / 2;
	bool measured;

	unload(_metadata, true);
	ASSERT_EQ(0, read_text("/proc/modules", before, sizeof(before)));

	rounds(_metadata, 0, WARM_UP, &self->minor);
	measured = quiet(&start);
	rounds(_metadata, WARM_UP, half, &self->minor);
	measured = measured && measure(&middle);
	rounds(_metadata, WARM_UP + half, half, &self->minor);
	measured = measured && measure(&end);

	ASSERT_EQ(0, read_text("/proc/modules", after, sizeof(after)));
	ASSERT_STREQ(before, after);
	if (!measured)
		SKIP(return, "all as before, but memory is never quiet, and was not compared");
	costs_nothing(_metadata, &start, &middle, &end, half);
}

int main(int argc, char **argv)
{
	find_heaps();
	if (!nr_modules)
		ksft_exit_skip("no heap of this kernel is in a module that can go\n");
	return test_harness_run(argc, argv);
}
