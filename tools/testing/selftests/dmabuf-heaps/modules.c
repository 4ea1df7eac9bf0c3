// SPDX-License-Identifier: GPL-2.0
/*
 * Heaps that are modules come when these are loaded, go when they are unloaded, and stay
 * as long as somebody uses them, and no longer
 */
#include "test_heaps.h"

FIXTURE(module) {
	const char *name;
	const struct names *heaps;
	const struct heap_module *m;
};

FIXTURE_VARIANT(module) {
	struct heap_module m;
};

FIXTURE_SETUP(module)
{
	self->m = &variant->m;
	self->name = variant->m.name;
	self->heaps = &variant->m.heaps;
	load_all(_metadata);
	ASSERT_EQ(0, module_refs(self->name));
}

FIXTURE_TEARDOWN(module)
{
}

TEST_F(module, brings_its_heaps)
{
	unload_all(_metadata);
	ASSERT_EQ(0, run_modprobe(self->name));
	if (!builtin_heaps.n)
		assert_heaps(_metadata, self->heaps);
	EXPECT_EQ(!strcmp(self->name, "system_heap"), names_have(self->heaps, "system"));
	if (!strcmp(self->name, "system_heap"))
		EXPECT_EQ(1, self->heaps->n);
}

TEST_F(module, loading_again_changes_nothing)
{
	ASSERT_EQ(0, run_modprobe(self->name));
	assert_heaps(_metadata, &heaps);
	EXPECT_EQ(0, module_refs(self->name));
}

/* A missing export, or an import that a module does not declare, leaves a line in the log */
TEST_F(module, symbols_and_namespaces_resolve)
{
	static const char *const complaints[] = {
		"Unknown symbol", "disagrees about version", "from namespace", "does not import it"
	};
	char *line, *next = kernel_log();
	unsigned int i;

	ASSERT_NE('\0', *next);
	while ((line = strsep(&next, "\n"))) {
		for (i = 0; i < ARRAY_SIZE(complaints); i++) {
			EXPECT_FALSE(strstr(line, self->name) && strstr(line, complaints[i])) {
				TH_LOG("%s", line);
			}
		}
	}
}

/* Meanwhile the other heaps, and a buffer of them, do as before */
TEST_F(module, unloads_and_loads_again)
{
	size_t page = page_size();
	const char *other = NULL;
	unsigned char *p = NULL;
	int i, round, buf;

	for (i = 0; i < heaps.n; i++)
		if (!names_have(self->heaps, heaps.name[i]))
			other = heaps.name[i];
	if (other) {
		buf = get_buffer(_metadata, other, page);
		p = get_map(_metadata, buf, page);
		fill(p, page, 6);
	}
	for (round = 0; round < 5; round++) {
		unload_one(_metadata, self->m);
		if (other) {
			ASSERT_EQ(page, first_wrong(p, page, 6));
			use_heap(_metadata, other, page);
		}
		load_all(_metadata);
		for (i = 0; i < self->heaps->n; i++)
			use_heap(_metadata, self->heaps->name[i], page);
	}
}

/*
 * Who holds a module. With take(), it cannot be unloaded and works as before; with drop(),
 * it can be. A kernel may not have what take() needs: then it is false.
 */
static struct {
	int fd, sock[2];
	unsigned char *map;
	pid_t child;
} held;

typedef bool (*take_fn)(struct __test_metadata *_metadata, const char *heap);
typedef void (*drop_fn)(struct __test_metadata *_metadata);

static bool take_heap(struct __test_metadata *_metadata, const char *heap)
{
	held.fd = heap_open(heap);
	ASSERT_LE(0, held.fd);
	return true;
}

static bool take_buffer(struct __test_metadata *_metadata, const char *heap)
{
	held.fd = get_buffer(_metadata, heap, page_size());	/* the heap is closed there */
	return true;
}

static void close_held(struct __test_metadata *_metadata)
{
	ASSERT_EQ(0, close(held.fd));
}

static bool take_map(struct __test_metadata *_metadata, const char *heap)
{
	take_buffer(_metadata, heap);
	held.map = get_map(_metadata, held.fd, page_size());
	close_held(_metadata);
	fill(held.map, page_size(), 4);
	return true;
}

static void drop_map(struct __test_metadata *_metadata)
{
	ASSERT_EQ(page_size(), first_wrong(held.map, page_size(), 4));
	ASSERT_EQ(0, munmap(held.map, page_size()));
}

static bool take_import(struct __test_metadata *_metadata, const char *heap)
{
	int importer = open_test_module();

	if (importer < 0)
		return false;
	take_buffer(_metadata, heap);
	ASSERT_EQ(0, ioctl(importer, DMA_HEAP_TEST_IMPORT, &held.fd));
	close_held(_metadata);
	held.fd = importer;
	return true;
}

static void drop_import(struct __test_metadata *_metadata)
{
	ASSERT_EQ(0, ioctl(held.fd, DMA_HEAP_TEST_DROP));
	close_held(_metadata);
}

static bool take_message(struct __test_metadata *_metadata, const char *heap)
{
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, held.sock))
		return false;
	take_buffer(_metadata, heap);
	ASSERT_TRUE(send_fd(held.sock[0], held.fd));
	close_held(_metadata);
	close(held.sock[0]);
	return true;
}

/* Nobody ever receives it */
static void drop_message(struct __test_metadata *_metadata)
{
	ASSERT_EQ(0, close(held.sock[1]));
}

static bool take_copy(struct __test_metadata *_metadata, const char *heap)
{
	char byte;
	int to[2];

	take_buffer(_metadata, heap);
	ASSERT_EQ(0, pipe2(to, O_CLOEXEC));
	held.child = fork();
	ASSERT_LE(0, held.child);
	if (!held.child) {
		close(to[1]);
		_exit(read(to[0], &byte, 1));	/* 0, when the parent closes its end */
	}
	close(to[0]);
	held.sock[0] = to[1];
	close_held(_metadata);
	return true;
}

static void drop_copy(struct __test_metadata *_metadata)
{
	int status = -1;

	close(held.sock[0]);
	ASSERT_EQ(held.child, waitpid(held.child, &status, 0));
	ASSERT_EQ(0, status);
}

static bool take_driver(struct __test_metadata *_metadata, const char *heap)
{
	return load_sample(_metadata, heap, page_size());
}

/* False if the kernel does not have what it takes */
static bool held_by(struct __test_metadata *_metadata, const struct heap_module *m, int refs,
		    take_fn take, drop_fn drop)
{
	const char *heap;
	int i, buffers;

	for (i = 0; i < m->heaps.n; i++) {
		heap = m->heaps.name[i];
		buffers = buffers_of(heap);
		ASSERT_EQ(0, module_refs(m->name));
		if (!take(_metadata, heap)) {
			ASSERT_EQ(0, i);
			return false;
		}
		/* if not, unloading it would pull the code away */
		ASSERT_EQ(refs, module_refs(m->name)) {
			TH_LOG("%s", heap);
		}
		/* more than once: being refused must change nothing */
		EXPECT_ERRNO(EWOULDBLOCK, module_unload(m->name));
		EXPECT_ERRNO(EWOULDBLOCK, module_unload(m->name));
		EXPECT_EQ(refs, module_refs(m->name));
		assert_heaps(_metadata, &heaps);
		use_heap(_metadata, heap, page_size());
		drop(_metadata);
		EXPECT_EQ(buffers, buffers_of(heap));
		ASSERT_EQ(0, module_refs(m->name)) {
			TH_LOG("%s", heap);
		}
		unload_one(_metadata, m);
		load_all(_metadata);
		use_heap(_metadata, heap, page_size());
	}
	return true;
}

TEST_F(module, an_open_heap_holds_it)
{
	held_by(_metadata, self->m, 1, take_heap, close_held);
}

TEST_F(module, a_buffer_holds_it)
{
	held_by(_metadata, self->m, 1, take_buffer, close_held);
}

TEST_F(module, a_mapping_holds_it)
{
	held_by(_metadata, self->m, 1, take_map, drop_map);
}

TEST_F(module, an_importer_holds_it)
{
	if (!held_by(_metadata, self->m, 1, take_import, drop_import))
		SKIP(return, "no module " DMA_HEAP_TEST);
}

TEST_F(module, a_message_in_a_socket_holds_it)
{
	if (!held_by(_metadata, self->m, 1, take_message, drop_message))
		SKIP(return, "no AF_UNIX sockets");
}

TEST_F(module, a_copy_in_another_process_holds_it)
{
	held_by(_metadata, self->m, 1, take_copy, drop_copy);
}

/* It has found the heap, and has a buffer */
TEST_F(module, a_driver_holds_it)
{
	if (!held_by(_metadata, self->m, 2, take_driver, unload_sample))
		SKIP(return, "no module " SAMPLE);
}

/* The driver is there first, and nobody does anything but bring its heap */
static bool sample_waits(struct __test_metadata *_metadata, const char *heap)
{
	char args[512];

	snprintf(args, sizeof(args), SAMPLE " 'heap=%s' len=%ld", heap, page_size());
	if (run_modprobe(args))
		return false;
	sleep(2);
	EXPECT_EQ(0, access(SAMPLE_DEVICE, F_OK));
	EXPECT_EQ(-1, access(SAMPLE_DEVICE "/driver", F_OK));
	return true;
}

/*
 * Not for long: some time after boot (deferred_probe_timeout=, 10 s), the driver core
 * probes deferred devices once more anyway
 */
static void sample_has(struct __test_metadata *_metadata, const char *heap)
{
	char text[NAME_MAX + 2];
	int i;

	for (i = 0; i < 500 && access(SAMPLE_DEVICE "/heap", F_OK); i++)
		usleep(10 * 1000);
	EXPECT_EQ(0, access(SAMPLE_DEVICE "/driver", F_OK));
	EXPECT_EQ(0, read_text(SAMPLE_DEVICE "/heap", text, sizeof(text)));
	text[strcspn(text, "\n")] = '\0';
	EXPECT_STREQ(heap, text);
}

TEST_F(module, a_driver_waits_for_it)
{
	const char *heap;

	load_all(_metadata);
	heap = self->m->heaps.name[0];
	unload_one(_metadata, self->m);
	if (!sample_waits(_metadata, heap)) {
		load_all(_metadata);
		SKIP(return, "no module " SAMPLE);
	}
	ASSERT_EQ(0, module_load(self->m));
	sample_has(_metadata, heap);
	EXPECT_ERRNO(EWOULDBLOCK, module_unload(self->m->name));
	unload_sample(_metadata);
	EXPECT_EQ(0, module_refs(self->m->name));
	load_all(_metadata);
}

TEST(a_driver_waits_for_its_heap)
{
	struct dma_heap_test_add add = { };
	int fd = open_test_module();

	if (fd < 0)
		SKIP(return, "no module " DMA_HEAP_TEST);
	if (!sample_waits(_metadata, "late"))
		SKIP(return, "no module " SAMPLE);
	/* not this one */
	ASSERT_EQ(0, test_heap_add(fd, &add, "late2"));
	usleep(500 * 1000);
	EXPECT_EQ(-1, access(SAMPLE_DEVICE "/driver", F_OK));
	ASSERT_EQ(0, test_heap_add(fd, &add, "late"));
	sample_has(_metadata, "late");
	unload_sample(_metadata);
	close(fd);
}

/* A node that outlives the heaps, as a container's may, answers with none of them */
TEST(a_stale_node_opens_no_heap)
{
	int i, order;
	dev_t rdev;

	load_all(_metadata);
	for (i = 0; i < heaps.n; i++) {
		ASSERT_EQ(0, heap_rdev(heaps.name[i], &rdev));
		ASSERT_EQ(0, own_node(i, rdev));
		ASSERT_EQ(0, close(own_node_open(i)));
	}
	for (order = 0; order < 4; order++) {
		for (i = 0; i < nr_modules; i++)
			ASSERT_EQ(0, module_unload(modules[i].name));
		for (i = 0; i < heaps.n; i++)
			if (module_of(heaps.name[i]))
				EXPECT_ERRNO(ENXIO, own_node_open(i));
		for (i = 0; i < nr_modules; i++)
			ASSERT_EQ(0, module_load(&modules[order % 2 ? i : nr_modules - 1 - i]));
		for (i = 0; i < heaps.n; i++)
			if (module_of(heaps.name[i]))
				EXPECT_ERRNO(ENXIO, own_node_open(i));
	}
	for (i = 0; i < heaps.n; i++)
		own_node_remove(i);
	assert_heaps(_metadata, &heaps);
}

static struct heap_module *system_heap(void)
{
	return module_of("system");
}

/* Not -EEXIST: modprobe takes that for success */
TEST(a_module_whose_name_is_taken_does_not_load)
{
	struct dma_heap_test_add add = { };
	int fd, load, err;

	if (!system_heap())
		SKIP(return, "system_heap is no module");
	fd = open_test_module();
	if (fd < 0)
		SKIP(return, "no module " DMA_HEAP_TEST);
	load_all(_metadata);
	unload_one(_metadata, system_heap());
	ASSERT_EQ(0, test_heap_add(fd, &add, "system"));
	load = module_load(system_heap());
	err = load ? errno : 0;
	EXPECT_EQ(-1, load);
	if (system_heap()->path[0])
		EXPECT_EQ(EBUSY, err);
	EXPECT_NE(0, run_modprobe("system_heap"));
	EXPECT_TRUE(module_gone("system_heap"));
	/* and the other is as it was */
	EXPECT_EQ(0, heap_find(fd, "system"));
	ASSERT_EQ(0, close(get_buffer(_metadata, "system", page_size())));
	ASSERT_EQ(0, test_heap_remove(fd, "system"));
	close(fd);
	load_all(_metadata);
	use_heap(_metadata, "system", page_size());
}

/* A list of modules to load may be the same for all machines */
TEST(cma_heap_loads_without_an_area)
{
	struct heap_module cma = { .name = "cma_heap" };

	if (names_have(&heaps, "default_cma_region"))
		SKIP(return, "there are areas");
	module_path(&cma);
	if (!cma.path[0])
		SKIP(return, "no module cma_heap, or a compressed one");
	module_unload(cma.name);
	ASSERT_TRUE(module_gone(cma.name));
	log_mark(_metadata);
	ASSERT_EQ(0, module_load(&cma));
	expect_log(_metadata, 1, "cma_heap: no contiguous area, no heap", NULL);
	assert_heaps(_metadata, &heaps);
	EXPECT_EQ(0, module_unload(cma.name));
}

TEST(no_heap_without_a_module)
{
	struct names now;

	if (builtin_heaps.n)
		SKIP(return, "%s and others are built in, or in use", builtin_heaps.name[0]);
	unload_all(_metadata);
	heaps_now(&now);
	EXPECT_EQ(0, now.n);
	load_all(_metadata);
}

int main(int argc, char **argv)
{
	find_heaps();
	if (!nr_modules)
		ksft_exit_skip("no heap of this kernel is in a module that can go\n");
	FOR_EACH_MODULE(module);
	return test_harness_run(argc, argv);
}
