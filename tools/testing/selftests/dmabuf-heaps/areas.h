/* SPDX-License-Identifier: GPL-2.0 */
/*
 * How large the areas behind the heaps are, and a fixture over all heaps, for tests after
 * which everything must be as before
 */
#ifndef DMABUF_HEAPS_AREAS_H
#define DMABUF_HEAPS_AREAS_H

#include "heaps.h"
#include "regions.h"

/* CmaFree moves a little, as other pages move in and out */
#define CMA_SLACK	(2 * MIB)

/*
 * Of each heap in "heaps", or 0 for the system heap: the largest buffer that it gave at the
 * start, which is the whole area if nobody else uses that; and how large the area is.
 */
static size_t largest[MAX_HEAPS], area[MAX_HEAPS];

static inline int heap_index(const char *heap)
{
	int i;

	for (i = 0; i < heaps.n && strcmp(heaps.name[i], heap); i++)
		;
	return i;
}

static inline bool is_system(int i)
{
	return !strcmp(heaps.name[i], "system") || !strcmp(heaps.name[i], "system_cc_shared");
}

/* A region that is not for CMA */
static inline bool is_coherent(int i)
{
	return region_has(heaps.name[i], "name") && !region_has(heaps.name[i], "reusable");
}

/* The full pages of the region, as the device tree says; 0 if the kernel placed it */
static inline size_t region_size(int i)
{
	__u64 base, size;

	return region_reg(heaps.name[i], &base, &size) ? full_pages(&base, size) : 0;
}

static inline size_t measure_largest(int i, size_t limit)
{
	size_t low = 0, high = limit / page_size(), pages;
	int heap, buf;

	heap = heap_open(heaps.name[i]);
	while (heap >= 0 && low < high) {
		pages = low + (high - low + 1) / 2;
		buf = heap_alloc(heap, pages * page_size());
		if (buf < 0) {
			high = pages - 1;
		} else {
			low = pages;
			close(buf);
		}
	}
	if (heap >= 0)
		close(heap);
	return low * page_size();
}

/* The default area has two names, and the kernel itself may have taken a part of it */
static inline bool in_default_area(int i)
{
	int d = heap_index("default_cma_region"), heap, buf, other;

	if (d == heaps.n || i == d)
		return i == d;
	heap = heap_open(heaps.name[d]);
	buf = heap_alloc(heap, largest[d]);
	close(heap);
	heap = heap_open(heaps.name[i]);
	other = heap_alloc(heap, largest[i]);
	close(heap);
	if (other >= 0)
		close(other);
	if (buf >= 0)
		close(buf);
	return buf >= 0 && other < 0;
}

static inline void measure_areas(void)
{
	size_t rest = mem_bytes("CmaTotal"), limit;
	bool in_default[MAX_HEAPS] = { 0 };
	int i;

	for (i = 0; i < heaps.n; i++) {
		if (is_system(i))
			continue;
		limit = is_coherent(i) ? region_size(i) ?: 1024 * MIB : rest;
		largest[i] = measure_largest(i, limit);
		if (!largest[i])
			ksft_exit_fail_msg("no buffer from %s\n", heaps.name[i]);
		area[i] = largest[i];
	}
	for (i = 0; i < heaps.n; i++) {
		if (is_system(i))
			continue;
		if (is_coherent(i)) {
			area[i] = region_size(i) ?: largest[i];
			continue;
		}
		in_default[i] = in_default_area(i);
		if (!in_default[i])
			rest -= largest[i];
	}
	for (i = 0; i < heaps.n; i++)
		if (in_default[i])
			area[i] = rest;
}

/*
 * What is free of the other areas while a heap has given as much as at the start. Pages
 * that were freed wait in lists of each CPU, and count only when such a buffer drained them.
 */
static inline long long cma_free(struct __test_metadata *_metadata, int i)
{
	long long n;
	int buf;

	if (is_system(i))
		return 0;
	buf = get_buffer(_metadata, heaps.name[i], largest[i]);
	n = is_coherent(i) ? 0 : mem_bytes("CmaFree");
	close(buf);
	return n;
}

/* What each test must leave as it was */
struct state {
	int buffers, fds;
	long long oom_kills, cma_free;
};

static inline void state_take(struct __test_metadata *_metadata, int i, struct state *s)
{
	die_first(_metadata);
	load_all(_metadata);
	assert_refs(_metadata, heaps.name[i], 0);
	s->cma_free = cma_free(_metadata, i);
	s->buffers = buffers_of(heaps.name[i]);
	s->fds = open_fds();
	s->oom_kills = oom_kills();
}

static inline void state_check(struct __test_metadata *_metadata, int i, const struct state *s)
{
	EXPECT_EQ(s->fds, open_fds());
	EXPECT_EQ(s->buffers, buffers_of(heaps.name[i]));
	EXPECT_EQ(s->oom_kills, oom_kills());
	assert_refs(_metadata, heaps.name[i], 0);
	EXPECT_GE(cma_free(_metadata, i) + (long long)CMA_SLACK, s->cma_free);
}

FIXTURE(heap) {
	const char *name;
	int index;
	struct state before;
};

FIXTURE_VARIANT(heap) {
	char name[NAME_MAX + 1];
};

FIXTURE_SETUP(heap)
{
	self->name = variant->name;
	self->index = heap_index(self->name);
	state_take(_metadata, self->index, &self->before);
}

FIXTURE_TEARDOWN(heap)
{
	state_check(_metadata, self->index, &self->before);
}

#endif /* DMABUF_HEAPS_AREAS_H */
