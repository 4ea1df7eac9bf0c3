// SPDX-License-Identifier: GPL-2.0
/*
 * Each allocation of memory fails in turn, while DMA-BUF heaps are opened, allocated from,
 * mapped, used by a driver, and their modules loaded: that fails with ENOMEM and leaves
 * nothing behind, and works the next time.
 *
 * Needs CONFIG_FAULT_INJECTION, and is best run with KASAN, lockdep and kmemleak. With
 * DEBUG_KOBJECT_RELEASE, each of the hundreds of rounds of loading waits for seconds.
 */
#include "heaps.h"

#define DEBUGFS		"/sys/kernel/debug"

/* Where nothing else is mapped, so that there are no page tables yet */
#define FAR		((void *)(1UL << (sizeof(long) > 4 ? 35 : 29)))
#define MAX_NTH		20000
#define HOURS		3600

static size_t fault_len(int heap)
{
	/* one page of each order that the system heap uses: 1 MiB, 64 KiB and 4 KiB */
	size_t len = MIB + 64 * KIB + 4 * KIB;
	int buf;

	buf = heap_alloc(heap, len);
	if (buf < 0)
		return page_size();
	close(buf);
	return len;
}

/* Any allocation may fail: those that may wait, of highmem, and of a single page, too */
static bool set_up_faults(int *nth)
{
	static const char *const files[][2] = {
		{ DEBUGFS "/failslab/probability", "0" },
		{ DEBUGFS "/failslab/task-filter", "Y" },
		{ DEBUGFS "/failslab/verbose", "0" },
		{ DEBUGFS "/failslab/ignore-gfp-wait", "N" },
		{ DEBUGFS "/failslab/cache-filter", "N" },
		{ DEBUGFS "/fail_page_alloc/probability", "0" },
		{ DEBUGFS "/fail_page_alloc/task-filter", "Y" },
		{ DEBUGFS "/fail_page_alloc/verbose", "0" },
		{ DEBUGFS "/fail_page_alloc/ignore-gfp-wait", "N" },
		{ DEBUGFS "/fail_page_alloc/ignore-gfp-highmem", "N" },
		{ DEBUGFS "/fail_page_alloc/min-order", "0" },
	};
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(files); i++)
		if (write_text(files[i][0], files[i][1]))
			return false;
	*nth = open("/proc/self/fail-nth", O_RDWR | O_CLOEXEC);
	return *nth >= 0;
}

static void arm(struct __test_metadata *_metadata, int nth_fd, int nth)
{
	char text[16];
	int len = snprintf(text, sizeof(text), "%d", nth);

	ASSERT_EQ(len, pwrite(nth_fd, text, len, 0));
}

/* Whether a fault was injected: the counter is 0 then. Either call can be what fails. */
static bool disarm(int nth_fd)
{
	char text[16] = "";
	bool hit;

	hit = pread(nth_fd, text, sizeof(text) - 1, 0) > 0 && !atoi(text);
	while (pwrite(nth_fd, "0", 1, 0) != 1)
		;
	return hit;
}

/*
 * What is made to fail. run() is 0, or -1 with errno, and leaves nothing behind then, which
 * failed() looks at. After success, done() checks the result and lets go of it; exact: no
 * fault was injected, and so nothing may be missing.
 */
struct attempt {
	const char *name;	/* of the heap, or NULL */
	int fd, buf, bind;
	size_t len;
	unsigned char *map;
	/* or of a module, with the heaps that are there without it */
	const struct heap_module *m;
	struct names others;
	char *image;
	long size;
	int without_node;	/* heaps that the driver core gave no node */
};

struct operation {
	int (*run)(struct attempt *a);
	void (*failed)(struct __test_metadata *_metadata, struct attempt *a);
	void (*done)(struct __test_metadata *_metadata, struct attempt *a, bool exact);
};

static int buffers(const struct attempt *a)
{
	return a->name ? buffers_of(a->name) : 0;
}

static bool fail_one(struct __test_metadata *_metadata, const struct operation *op,
		     struct attempt *a, int nth_fd, int nth, int *failures)
{
	int fds = open_fds(), bufs = buffers(a), ret, err;
	bool hit;

	arm(_metadata, nth_fd, nth);
	ret = op->run(a);
	err = errno;
	hit = disarm(nth_fd);
	if (ret) {
		ASSERT_TRUE(hit) {
			TH_LOG("failed without a fault: %s", strerror(err));
		}
		ASSERT_EQ(ENOMEM, err);
		++*failures;
		op->failed(_metadata, a);
	} else {
		op->done(_metadata, a, !hit);
	}
	ASSERT_EQ(fds, open_fds());
	ASSERT_EQ(bufs, buffers(a));
	/* and the next try works; after a fault that did not fail it, that is the next round */
	if (ret) {
		ASSERT_EQ(0, op->run(a));
		op->done(_metadata, a, true);
	}
	return hit;
}

static void fail_each(struct __test_metadata *_metadata, const struct operation *op,
		      struct attempt *a, int nth_fd)
{
	int nth, failures = 0, bufs = buffers(a);

	for (nth = 1; nth <= MAX_NTH; nth++)
		if (!fail_one(_metadata, op, a, nth_fd, nth, &failures))
			break;
	ksft_print_msg("%d faults injected, %d of them failed it\n", nth - 1, failures);
	ASSERT_GE(MAX_NTH, nth);
	EXPECT_LT(0, failures);
	EXPECT_EQ(bufs, buffers(a));
}

/* With a heap */

FIXTURE(heap) {
	struct attempt a;
	int nth;
};

FIXTURE_VARIANT(heap) {
	char name[NAME_MAX + 1];
};

FIXTURE_SETUP(heap)
{
	self->a.name = variant->name;
	load_all(_metadata);
	if (!set_up_faults(&self->nth))
		SKIP(return, "no fault injection in this kernel");
	self->a.fd = heap_open(self->a.name);
	ASSERT_LE(0, self->a.fd);
	self->a.len = fault_len(self->a.fd);
}

FIXTURE_TEARDOWN(heap)
{
	close(self->a.fd);
	assert_refs(_metadata, self->a.name, 0);
}

static void no_more_refs(struct __test_metadata *_metadata, struct attempt *a)
{
	assert_refs(_metadata, a->name, 1);	/* the fixture has the heap open */
}

static int open_run(struct attempt *a)
{
	a->buf = heap_open(a->name);
	return a->buf < 0 ? -1 : 0;
}

static void open_done(struct __test_metadata *_metadata, struct attempt *a, bool exact)
{
	close(a->buf);
	no_more_refs(_metadata, a);
}

TEST_F_TIMEOUT(heap, opening_fails_cleanly, 2 * HOURS)
{
	static const struct operation op = { open_run, no_more_refs, open_done };

	fail_each(_metadata, &op, &self->a, self->nth);
}

static int alloc_run(struct attempt *a)
{
	a->buf = heap_alloc(a->fd, a->len);
	return a->buf < 0 ? -1 : 0;
}

static void alloc_done(struct __test_metadata *_metadata, struct attempt *a, bool exact)
{
	unsigned char *p = get_map(_metadata, a->buf, a->len);

	ASSERT_EQ(a->len, first_nonzero(p, a->len));
	memset(p, 0xa5, a->len);
	munmap(p, a->len);
	close(a->buf);
	no_more_refs(_metadata, a);
}

TEST_F_TIMEOUT(heap, allocating_fails_cleanly, 2 * HOURS)
{
	static const struct operation op = { alloc_run, no_more_refs, alloc_done };

	fail_each(_metadata, &op, &self->a, self->nth);
}

/* A page fault that finds no memory is tried again, so touching works in the end */
static int map_run(struct attempt *a)
{
	size_t i;

	a->map = mmap(FAR, a->len, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, a->buf, 0);
	if (a->map == MAP_FAILED)
		return -1;
	for (i = 0; i < a->len; i += page_size())
		__atomic_load_n(&a->map[i], __ATOMIC_RELAXED);
	return 0;
}

static void map_failed(struct __test_metadata *_metadata, struct attempt *a)
{
}

static void map_done(struct __test_metadata *_metadata, struct attempt *a, bool exact)
{
	ASSERT_EQ(a->len, first_wrong(a->map, a->len, 2));
	ASSERT_EQ(0, munmap(a->map, a->len));
}

TEST_F_TIMEOUT(heap, mapping_fails_cleanly, 2 * HOURS)
{
	static const struct operation op = { map_run, map_failed, map_done };
	unsigned char *p;

	self->a.buf = heap_alloc(self->a.fd, self->a.len);
	p = get_map(_metadata, self->a.buf, self->a.len);
	fill(p, self->a.len, 2);
	munmap(p, self->a.len);
	fail_each(_metadata, &op, &self->a, self->nth);
	close(self->a.buf);
}

/* By the file that binds: the probe function, and not the loading of the module */
static int sample_run(struct attempt *a)
{
	return write(a->bind, SAMPLE, strlen(SAMPLE)) < 0 ? -1 : 0;
}

static void sample_failed(struct __test_metadata *_metadata, struct attempt *a)
{
	ASSERT_EQ(-1, access(SAMPLE_DEVICE "/heap", F_OK));
	no_more_refs(_metadata, a);
}

static void sample_done(struct __test_metadata *_metadata, struct attempt *a, bool exact)
{
	ASSERT_EQ(0, access(SAMPLE_DEVICE "/heap", F_OK));
	assert_refs(_metadata, a->name, 3);	/* the heap, a buffer, and the fixture's */
	ASSERT_EQ(0, write_text(SAMPLE_DRIVER "/unbind", SAMPLE));
	sample_failed(_metadata, a);
}

TEST_F_TIMEOUT(heap, a_driver_that_uses_it_fails_cleanly, 2 * HOURS)
{
	static const struct operation op = { sample_run, sample_failed, sample_done };

	if (!load_sample(_metadata, self->a.name, self->a.len))
		SKIP(return, "no module " SAMPLE);
	ASSERT_EQ(0, write_text(SAMPLE_DRIVER "/unbind", SAMPLE));
	self->a.bind = open(SAMPLE_DRIVER "/bind", O_WRONLY | O_CLOEXEC);
	ASSERT_LE(0, self->a.bind);
	fail_each(_metadata, &op, &self->a, self->nth);
	close(self->a.bind);
	unload_sample(_metadata);
}

/* While a module is loaded */

FIXTURE(module) {
	struct attempt a;
	int nth;
};

FIXTURE_VARIANT(module) {
	struct heap_module m;
};

FIXTURE_SETUP(module)
{
	struct stat st;
	int fd;

	self->a.m = &variant->m;
	load_all(_metadata);
	if (!set_up_faults(&self->nth))
		SKIP(return, "no fault injection in this kernel");
	if (!self->a.m->name[0])
		SKIP(return, "no heap is a module");
	if (!self->a.m->path[0])
		SKIP(return, "the module's file is compressed");
	fd = open(self->a.m->path, O_RDONLY | O_CLOEXEC);
	ASSERT_EQ(0, fstat(fd, &st));
	self->a.size = st.st_size;
	self->a.image = malloc(self->a.size);
	ASSERT_EQ(self->a.size, read(fd, self->a.image, self->a.size));
	close(fd);
	heaps_without(self->a.m, &self->a.others);
	unload_one(_metadata, self->a.m);
}

FIXTURE_TEARDOWN(module)
{
	EXPECT_EQ(0, run_modprobe(self->a.m->name));
}

static bool class_has(const char *heap)
{
	char path[PATH_MAX];

	snprintf(path, sizeof(path), "/sys/class/dma_heap/%s", heap);
	return !access(path, F_OK);
}

/*
 * From memory: reading the file is not what is tested, and the kernel complains there.
 * coherent_heap fails with ENODEV if no heap comes of it, whatever the reason.
 */
static int module_run(struct attempt *a)
{
	int ret = syscall(SYS_init_module, a->image, a->size, a->m->params);

	if (ret && errno == ENODEV && !strcmp(a->m->name, "coherent_heap"))
		errno = ENOMEM;
	return ret;
}

static void module_failed(struct __test_metadata *_metadata, struct attempt *a)
{
	int i;

	ASSERT_TRUE(module_gone(a->m->name));
	assert_heaps(_metadata, &a->others);
	for (i = 0; i < a->m->heaps.n; i++)
		EXPECT_FALSE(class_has(a->m->heaps.name[i]));
}

/*
 * With a fault, the module may do without some of its heaps, and the driver core may do
 * without the node of a device: neither is an error of theirs. What is there must go.
 */
static void module_done(struct __test_metadata *_metadata, struct attempt *a, bool exact)
{
	struct names now;
	int i, found = 0;

	heaps_now(&now);
	for (i = 0; i < a->m->heaps.n; i++) {
		const char *heap = a->m->heaps.name[i];
		bool node = names_have(&now, heap), device = class_has(heap);

		ASSERT_TRUE(device || !node);
		if (node)
			use_heap(_metadata, heap, page_size());
		a->without_node += device && !node;
		found += device;
	}
	/* the system heap is all that there is in its module */
	ASSERT_TRUE(found || strcmp(a->m->name, "system_heap"));
	if (exact)
		assert_heaps(_metadata, &heaps);
	ASSERT_EQ(0, module_refs(a->m->name));
	ASSERT_EQ(0, module_unload(a->m->name));
	module_failed(_metadata, a);
}

TEST_F_TIMEOUT(module, loading_fails_cleanly, 6 * HOURS)
{
	static const struct operation op = { module_run, module_failed, module_done };

	fail_each(_metadata, &op, &self->a, self->nth);
	ksft_print_msg("%d times the driver core made a device without its node\n",
		       self->a.without_node);
}

TEST(a_fault_can_be_injected)
{
	int nth;

	if (!set_up_faults(&nth))
		SKIP(return, "no fault injection in this kernel");
	arm(_metadata, nth, 1);
	EXPECT_ERRNO(ENOMEM, open("/", O_RDONLY));
	EXPECT_TRUE(disarm(nth));
}

int main(int argc, char **argv)
{
	find_heaps();
	FOR_EACH_HEAP(heap);
	if (nr_modules)
		FOR_EACH_MODULE(module);
	else
		add_variant(&_module_fixture_object, "none", &modules[0]);
	return test_harness_run(argc, argv);
}
