// SPDX-License-Identifier: GPL-2.0
/*
 * Requests around every limit get the right answer from each DMA-BUF heap, and kill nobody
 */
#include "areas.h"

/*
 * Seconds of CPU time that a refusal may take. Finding out by filling the memory of an
 * emulated machine with zeroes takes more than ten times as long.
 */
#define AT_ONCE		0.05

/* What the kernel itself may have taken of the default area, and what alignment then wastes */
#define AREA_SLACK	(2 * MIB)

enum answer { WORKS, INVALID, TOO_LARGE, EITHER };	/* EITHER: it works, or ENOMEM */

static double cpu_seconds(void)
{
	struct timespec t;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
	return t.tv_sec + t.tv_nsec / 1e9;
}

static void ask(struct __test_metadata *_metadata, const char *name, __u64 len, enum answer want)
{
	int heap, buf, err;
	double t;

	heap = heap_open(name);
	ASSERT_LE(0, heap);
	t = cpu_seconds();
	buf = heap_alloc(heap, len);
	err = buf < 0 ? errno : 0;
	t = cpu_seconds() - t;
	close(heap);
	if (want != EITHER || (err && err != ENOMEM)) {
		EXPECT_EQ(want == INVALID ? EINVAL : want == WORKS ? 0 : ENOMEM, err) {
			TH_LOG("length %llu", (unsigned long long)len);
		}
	}
	if (want == INVALID || want == TOO_LARGE) {
		EXPECT_GT(AT_ONCE, t) {
			TH_LOG("length %llu: %.2f s", (unsigned long long)len, t);
		}
	}
	if (!err) {
		EXPECT_EQ((len + page_size() - 1) & -page_size(), lseek(buf, 0, SEEK_END));
		close(buf);
	}
}

#define ASK(len, answer)	ask(_metadata, self->name, len, answer)

/* What there is of memory for this heap: of all of it, the system heap may get nearly all */
static __u64 all_of(int index)
{
	return area[index] ?: mem_bytes("MemTotal");
}

static enum answer depends(int index, __u64 len)
{
	return len > all_of(index) ? TOO_LARGE : EITHER;
}

TEST_F(heap, one_tib_is_refused_at_once)
{
	ASK((1ULL << 40) - 1, depends(self->index, (1ULL << 40) - 1));
	ASK(1ULL << 40, depends(self->index, 1ULL << 40));
	ASK((1ULL << 40) + 1, depends(self->index, (1ULL << 40) + 1));
}

TEST_F(heap, around_a_page)
{
	size_t page = page_size();

	ASK(0, INVALID);
	ASK(1, WORKS);
	ASK(page - 1, WORKS);
	ASK(page, WORKS);
	ASK(page + 1, largest[self->index] == page ? TOO_LARGE : WORKS);
}

TEST_F(heap, around_4_gib)
{
	const long long off[] = { -page_size(), -1, 0, 1, page_size() };
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(off); i++)
		ASK((1ULL << 32) + off[i], depends(self->index, (1ULL << 32) + off[i]));
}

TEST_F(heap, around_2_to_63)
{
	const long long off[] = { -page_size() - 1, -page_size(), -1, 0, 1, page_size() };
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(off); i++)
		ASK((1ULL << 63) + off[i], TOO_LARGE);
}

/* The last page-aligned length is too large; behind it, alignment would overflow */
TEST_F(heap, around_2_to_64)
{
	__u64 last = UINT64_MAX - page_size() + 1;

	ASK(last - page_size(), TOO_LARGE);
	ASK(last - 1, TOO_LARGE);
	ASK(last, TOO_LARGE);
	ASK(last + 1, INVALID);
	ASK(UINT64_MAX - 1, INVALID);
	ASK(UINT64_MAX, INVALID);
}

TEST_F(heap, around_all_memory)
{
	__u64 total = mem_bytes("MemTotal");

	ASSERT_NE(0, total);
	ASK(total + page_size(), TOO_LARGE);
	ASK(total + 1, TOO_LARGE);
	ASK(total / 2 * 3, TOO_LARGE);
	ASK(total, depends(self->index, total));
	ASK(total - page_size(), depends(self->index, total - page_size()));
}

/* The heaps of areas and regions: all but the system heap */
FIXTURE(area) {
	const char *name;
	int index;
	struct state before;
};

FIXTURE_VARIANT(area) {
	char name[NAME_MAX + 1];
};

FIXTURE_SETUP(area)
{
	if (!variant)
		SKIP(return, "no heap but that of the system");
	self->name = variant->name;
	self->index = heap_index(self->name);
	state_take(_metadata, self->index, &self->before);
}

FIXTURE_TEARDOWN(area)
{
	state_check(_metadata, self->index, &self->before);
}

/* Filled to the last page, and once more */
TEST_F(area, around_its_size)
{
	size_t full = largest[self->index], all = area[self->index], page = page_size();

	if (full > page) {
		ASK(full - page, WORKS);
		ASK(full - page + 1, WORKS);
		ASK(all - page, EITHER);
	}
	ASK(full, WORKS);
	ASK(full + 1, TOO_LARGE);
	ASK(full + page, TOO_LARGE);
	ASK(all, full == all ? WORKS : TOO_LARGE);
	ASK(all + 1, TOO_LARGE);
	ASK(all + page, TOO_LARGE);
	ASK(full, WORKS);
}

/* So what the tests take for the size of an area is its size */
TEST_F(area, gives_all_of_it)
{
	EXPECT_LE(largest[self->index], area[self->index]);
	EXPECT_GE(largest[self->index] + AREA_SLACK, area[self->index]);
}

/* The default area has two names */
TEST(the_default_area_has_another_name)
{
	int d = heap_index("default_cma_region"), i, others = 0;

	if (d == heaps.n)
		SKIP(return, "no default_cma_region");
	for (i = 0; i < heaps.n; i++)
		others += i != d && !is_system(i) && !is_coherent(i) && in_default_area(i);
	EXPECT_EQ(1, others);
}

int main(int argc, char **argv)
{
	int i;

	find_heaps();
	if (buffers_of("") < 0)
		ksft_exit_skip("no " BUFINFO "\n");
	measure_areas();
	FOR_EACH_HEAP(heap);
	for (i = 0; i < heaps.n; i++)
		if (!is_system(i))
			add_variant(&_area_fixture_object, heaps.name[i], heaps.name[i]);
	return test_harness_run(argc, argv);
}
