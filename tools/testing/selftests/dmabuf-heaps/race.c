// SPDX-License-Identifier: GPL-2.0
/*
 * The modules of the DMA-BUF heaps are unloaded and loaded while others use the heaps
 *
 * One thread for each module tries to unload it, over and over, and loads it again when that
 * worked. The others open heaps, by name and by the number that a heap has or had, with a new
 * node each time, so that the number is looked up again; allocate, map and touch buffers; hold
 * on to heaps and buffers; and look heaps up in the kernel, through the test module. After some
 * refused attempts, those who hold a heap for long pause, so that the module goes, and meets
 * those who open it.
 *
 * In the environment: UNLOADS to attempt (2000), the SECONDS they may take (3600), and how
 * many refused attempts it takes for a pause, on average: BUSY (20).
 */
#include <sched.h>
#include <stdatomic.h>

#include "test_heaps.h"

#define ERRNOS		134

enum op { LOAD, UNLOAD, OPEN, OPEN_OWN, ALLOC, MAP, FIND, OPS };

/* What each of them may fail with, and what this means */
static const struct {
	const char *name, *ok;
	struct {
		int err;
		const char *means;
	} may[4];
} ops[OPS] = {
	[LOAD] = { "load", "loaded" },
	[UNLOAD] = { "unload", "unloaded", { { EWOULDBLOCK, "refused: in use" } } },
	[OPEN] = { "open by name", "opened", {
		{ ENODEV, "the heap was vanishing" },
		{ ENXIO, "the device had vanished, not its node" },
		{ ENOENT, "no node" } } },
	[OPEN_OWN] = { "open by number", "opened", {
		{ ENODEV, "the heap was vanishing" },
		{ ENXIO, "no device" } } },
	[ALLOC] = { "allocate", "allocated", { { ENOMEM, "no memory" } } },
	[MAP] = { "map", "mapped", { { ENOMEM, "no memory" } } },
	[FIND] = { "look up", "hit", { { ENOENT, "miss" } } },
};

static atomic_ulong count[OPS][ERRNOS];		/* by errno; 0 for success */
static atomic_ulong wrong;			/* buffers */
static atomic_bool stop;

static struct {
	atomic_bool calm;			/* who holds for long pauses */
	atomic_ulong attempts;
} targets[MAX_MODULES];
static int busy, finder_fd = -1;

static void record(enum op op, long ret)
{
	int err = ret < 0 ? errno : 0;

	atomic_fetch_add(&count[op][err < ERRNOS ? err : ERRNOS - 1], 1);
}

static unsigned long counted(enum op op, int err)
{
	return atomic_load(&count[op][err]);
}

static unsigned long attempts(void)
{
	unsigned long n = 0;
	int i;

	for (i = 0; i < nr_modules; i++)
		n += targets[i].attempts;
	return n;
}

static void nap(unsigned int *seed, unsigned int us)
{
	usleep(rand_r(seed) % us);
}

/* The one who unloads and loads a module */
static void *unloader(void *arg)
{
	int m = (intptr_t)arg, quota = 0, refused = 0;
	unsigned int seed = m + 1;
	bool loaded = true;

	while (!stop) {
		if (!loaded) {
			int ret = module_load(&modules[m]);

			record(LOAD, ret);
			loaded = !ret;
			targets[m].calm = false;
			refused = 0;
			quota = rand_r(&seed) % (2 * busy);
			nap(&seed, 2000);
		} else {
			int ret = module_unload(modules[m].name);

			record(UNLOAD, ret);
			targets[m].attempts++;
			loaded = ret;
			if (ret && ++refused >= quota)
				targets[m].calm = true;
			nap(&seed, 300);
		}
	}
	if (!loaded)
		record(LOAD, module_load(&modules[m]));
	return NULL;
}

static const char *any_heap(unsigned int *seed)
{
	return heaps.name[rand_r(seed) % heaps.n];
}

/* After a failure: not so fast, there may be nothing for a while */
static void opened(int fd, unsigned int *seed)
{
	if (fd < 0) {
		if (errno != ENODEV)
			nap(seed, 1000);
		return;
	}
	if (rand_r(seed) % 4 == 0)
		sched_yield();
	close(fd);
	if (rand_r(seed) % 2)
		nap(seed, 200);
}

static void *opener(void *arg)
{
	unsigned int seed = 100 + (intptr_t)arg;
	int fd;

	while (!stop) {
		fd = heap_open(any_heap(&seed));
		record(OPEN, fd);
		opened(fd, &seed);
	}
	return NULL;
}

/* Some know the number for a while */
static void *own_opener(void *arg)
{
	unsigned int seed = 200 + (intptr_t)arg;
	dev_t rdev;
	int fd;

	while (!stop) {
		if (heap_rdev(any_heap(&seed), &rdev)) {
			nap(&seed, 1000);
			continue;
		}
		do {
			fd = open_rdev((intptr_t)arg, rdev);
			record(OPEN_OWN, fd);
			opened(fd, &seed);
		} while (rand_r(&seed) % 8);
	}
	return NULL;
}

static void use(int buf, size_t len)
{
	unsigned char *p = buffer_map(buf, len);

	record(MAP, p == MAP_FAILED ? -1 : 0);
	if (p == MAP_FAILED)
		return;
	if (lseek(buf, 0, SEEK_END) != (off_t)len || p[0] || p[len / 2] || p[len - 1])
		atomic_fetch_add(&wrong, 1);
	memset(p, 0xa5, len);
	munmap(p, len);
}

static bool is_calm(const char *heap)
{
	struct heap_module *m = module_of(heap);

	return m && targets[m - modules].calm;
}

/* Allocates all the time, or else holds the heap or a buffer of it for long */
static void use_heaps(unsigned int seed, bool hold)
{
	size_t page = page_size(), lens[] = { page, 16 * page, page, 75 * page };
	const char *heap;
	int fd, buf;
	size_t len;

	while (!stop) {
		heap = any_heap(&seed);
		if (is_calm(heap)) {
			nap(&seed, 2000);
			continue;
		}
		fd = heap_open(heap);
		record(OPEN, fd);
		if (fd < 0) {
			nap(&seed, 1000);
			continue;
		}
		len = lens[rand_r(&seed) % ARRAY_SIZE(lens)];
		buf = heap_alloc(fd, len);
		record(ALLOC, buf);
		if (hold)
			nap(&seed, 5000);
		if (rand_r(&seed) % 2) {
			close(fd);	/* the buffer holds the module alone */
			fd = -1;
		}
		if (buf >= 0) {
			use(buf, len);
			if (hold)
				nap(&seed, 5000);
			close(buf);
		}
		if (fd >= 0)
			close(fd);
	}
}

static void *allocator(void *arg)
{
	use_heaps(300 + (intptr_t)arg, false);
	return NULL;
}

static void *holder(void *arg)
{
	use_heaps(400 + (intptr_t)arg, true);
	return NULL;
}

static void *finder(void *arg)
{
	unsigned int seed = 500 + (intptr_t)arg;
	int ret;

	while (!stop) {
		ret = heap_find(finder_fd, any_heap(&seed));
		record(FIND, ret);
		nap(&seed, ret < 0 ? 1000 : 100);
	}
	return NULL;
}

/* Runs the threads until enough was attempted; how long it took */
static double race(struct __test_metadata *_metadata, unsigned long unloads, double limit)
{
	const struct {
		void *(*fn)(void *arg);
		int n;
	} threads[] = {
		{ unloader, nr_modules },
		{ opener, 2 },
		{ own_opener, 2 },
		{ allocator, 2 },
		{ holder, 2 },
		{ finder, 1 },
	};
	double start = seconds_now(), said = start, now;
	pthread_t id[32];
	unsigned int t;
	int n = 0, i;

	for (t = 0; t < ARRAY_SIZE(threads); t++)
		for (i = 0; i < threads[t].n; i++) {
			ASSERT_EQ(0, pthread_create(&id[n++], NULL, threads[t].fn,
						    (void *)(intptr_t)i));
		}
	do {
		usleep(200 * 1000);
		now = seconds_now();
		if (now - said >= 30) {
			said = now;
			ksft_print_msg("%.0f s: %lu unloads attempted, %lu done\n", now - start,
				       attempts(), counted(UNLOAD, 0));
		}
	} while (attempts() < unloads && now - start < limit);
	stop = true;
	for (i = 0; i < n; i++)
		pthread_join(id[i], NULL);
	return now - start;
}

static const char *meaning(enum op op, int err)
{
	unsigned int i;

	if (!err)
		return ops[op].ok;
	for (i = 0; i < ARRAY_SIZE(ops[op].may); i++)
		if (ops[op].may[i].err == err)
			return ops[op].may[i].means;
	return NULL;
}

static void print_table(double seconds)
{
	const char *text;
	int op, err;

	ksft_print_msg("%lu unloads attempted in %.0f s\n", attempts(), seconds);
	for (op = 0; op < OPS; op++) {
		for (err = 0; err < ERRNOS; err++) {
			text = meaning(op, err);
			if (text || counted(op, err))
				ksft_print_msg("%-17s %10lu  %s: %s\n", ops[op].name,
					       counted(op, err), err ? strerror(err) : "success",
					       text ? text : "not expected");
		}
	}
}

FIXTURE(race) {
	int fds;
	int buffers[MAX_HEAPS];
};

FIXTURE_SETUP(race)
{
	int i;

	load_all(_metadata);
	self->fds = open_fds();
	finder_fd = open_test_module();
	if (finder_fd < 0)
		SKIP(return, "no module " DMA_HEAP_TEST);
	busy = env_number("BUSY", 20);
	for (i = 0; i < heaps.n; i++)
		self->buffers[i] = buffers_of(heaps.name[i]);
}

FIXTURE_TEARDOWN(race)
{
}

TEST_F_TIMEOUT(race, unloading_while_others_use_the_heaps, 6 * 3600)
{
	unsigned long unloads = env_number("UNLOADS", 2000), limit = env_number("SECONDS", 3600);
	int i, op, err;

	print_table(race(_metadata, unloads, limit));
	close(finder_fd);
	/* enough happened */
	EXPECT_LE(unloads, attempts());
	EXPECT_LT(0, counted(UNLOAD, EWOULDBLOCK));
	EXPECT_LT(0, counted(UNLOAD, 0));
	EXPECT_LT(0, counted(LOAD, 0));
	EXPECT_LT(0, counted(OPEN, 0));
	EXPECT_LT(0, counted(OPEN_OWN, 0));
	EXPECT_LT(0, counted(ALLOC, 0));
	EXPECT_LT(0, counted(MAP, 0));
	EXPECT_LT(0, counted(FIND, 0));
	EXPECT_LT(0, counted(FIND, ENOENT));
	/* not a miss, which is no race: opens that found the heap, but too late to have it */
	EXPECT_LT(0, counted(OPEN, ENODEV) + counted(OPEN_OWN, ENODEV) + counted(OPEN, ENXIO));
	/* and nothing else */
	for (op = 0; op < OPS; op++)
		for (err = 1; err < ERRNOS; err++) {
			EXPECT_TRUE(!counted(op, err) || meaning(op, err)) {
				TH_LOG("%s: %lu times %s", ops[op].name, counted(op, err),
				       strerror(err));
			}
		}
	/* each buffer was zeroed and of its size */
	EXPECT_EQ(0, wrong);
	/* nothing is left */
	EXPECT_EQ(self->fds, open_fds());
	for (i = 0; i < heaps.n; i++)
		EXPECT_EQ(self->buffers[i], buffers_of(heaps.name[i]));
	unload_all(_metadata);
	/* and all works again */
	check_all_work(_metadata);
}

int main(int argc, char **argv)
{
	find_heaps();
	if (!nr_modules)
		ksft_exit_skip("no heap of this kernel is in a module that can go\n");
	return test_harness_run(argc, argv);
}
