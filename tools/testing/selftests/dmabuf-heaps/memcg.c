// SPDX-License-Identifier: GPL-2.0
/*
 * With dma_heap.mem_accounting=1, buffers of the system heap are charged to the memory
 * cgroup of the task that allocates them; without, they are not
 */
#include "heaps.h"

#define PARAM	"/sys/module/dma_heap/parameters/mem_accounting"
#define CGROUPS	"/sys/fs/cgroup"
#define CGROUP	CGROUPS "/dmabuf-heaps"
/* What the kernel charges besides, or uncharges later: each CPU keeps up to 64 pages */
#define SLACK	(256LL * page_size())
#define CHARGE	(16 * SLACK)

FIXTURE(memcg) {
	int heap;
};

FIXTURE_VARIANT(memcg) {
	const char *value;
	bool charged;
};

FIXTURE_VARIANT_ADD(memcg, on) {
	.value = "Y",
	.charged = true,
};

FIXTURE_VARIANT_ADD(memcg, off) {
	.value = "N",
};

FIXTURE_SETUP(memcg)
{
	char text[16];

	if (read_text(PARAM, text, sizeof(text)))
		SKIP(return, "no dma_heap.mem_accounting in this kernel");
	text[strcspn(text, "\n")] = '\0';
	if (strcmp(text, variant->value))
		SKIP(return, "dma_heap.mem_accounting is %s", text);
	if (!names_have(&heaps, "system"))
		SKIP(return, "no system heap");
	if (access(CGROUPS "/cgroup.controllers", F_OK))
		SKIP(return, "no cgroup2 in " CGROUPS);
	write_text(CGROUPS "/cgroup.subtree_control", "+memory");
	rmdir(CGROUP);
	ASSERT_EQ(0, mkdir(CGROUP, 0755));
	if (access(CGROUP "/memory.max", F_OK)) {
		rmdir(CGROUP);
		SKIP(return, "no memory controller in " CGROUPS);
	}
	self->heap = heap_open("system");
	ASSERT_LE(0, self->heap);
}

/* The test's process is in the cgroup until it has ended */
FIXTURE_TEARDOWN_PARENT(memcg)
{
	EXPECT_EQ(0, rmdir(CGROUP));
}

static void join(struct __test_metadata *_metadata, const char *limit)
{
	ASSERT_EQ(0, write_text(CGROUP "/memory.max", limit));
	ASSERT_EQ(0, write_text(CGROUP "/cgroup.procs", "0"));
}

static long long charged(struct __test_metadata *_metadata)
{
	char text[64];

	ASSERT_EQ(0, read_text(CGROUP "/memory.current", text, sizeof(text)));
	return atoll(text);
}

TEST_F(memcg, as_the_command_line_says)
{
	char text[4096], *word, *next = text, *value = "0";

	ASSERT_EQ(0, read_text("/proc/cmdline", text, sizeof(text)));
	while ((word = strsep(&next, "\n ")))
		if (!strncmp(word, "dma_heap.mem_accounting", 23))
			value = word[23] == '=' ? word + 24 : "1";
	EXPECT_EQ(variant->charged, !!strchr("1yY", *value) || !strcmp(value, "on"));
}

TEST_F(memcg, the_parameter_is_read_only)
{
	struct stat st;

	ASSERT_EQ(0, stat(PARAM, &st));
	EXPECT_EQ(0444, st.st_mode & 07777);
}

TEST_F(memcg, a_system_buffer_is_charged_or_not)
{
	long long before, held;
	int buf;

	join(_metadata, "max");
	before = charged(_metadata);
	buf = heap_alloc(self->heap, CHARGE);
	ASSERT_LE(0, buf);
	held = charged(_metadata) - before;
	EXPECT_EQ(variant->charged, held >= CHARGE);
	EXPECT_EQ(!variant->charged, held < SLACK);
	close(buf);
	EXPECT_GT(SLACK, charged(_metadata) - before);
}

TEST_F(memcg, a_limit_refuses_or_ignores_it)
{
	char limit[32];
	int buf;

	snprintf(limit, sizeof(limit), "%lld", CHARGE / 2);
	join(_metadata, limit);
	buf = heap_alloc(self->heap, CHARGE);
	if (variant->charged) {
		EXPECT_EQ(-1, buf);
		EXPECT_EQ(ENOMEM, errno);
	} else {
		EXPECT_LE(0, buf);
	}
	EXPECT_EQ(0, number_in(CGROUP "/memory.events", "oom_kill"));
	/* what fits still works */
	EXPECT_LE(0, heap_alloc(self->heap, SLACK));
}

/* The memory of an area belongs to the machine, not to who asked first */
TEST_F(memcg, other_buffers_are_not_charged)
{
	long long before;
	int i, heap, buf;
	size_t len;

	join(_metadata, "max");
	for (i = 0; i < heaps.n; i++) {
		if (!strncmp(heaps.name[i], "system", 6))	/* system_cc_shared, too */
			continue;
		heap = heap_open(heaps.name[i]);
		ASSERT_LE(0, heap);
		before = charged(_metadata);
		buf = -1;
		for (len = CHARGE; len >= 2 * SLACK && buf < 0; len /= 2)
			buf = heap_alloc(heap, len);
		EXPECT_GT(SLACK, charged(_metadata) - before) {
			TH_LOG("%s", heaps.name[i]);
		}
		close(heap);
		if (buf >= 0)
			close(buf);
	}
}

int main(int argc, char **argv)
{
	find_heaps();
	return test_harness_run(argc, argv);
}
