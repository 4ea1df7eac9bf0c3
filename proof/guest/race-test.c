// SPDX-License-Identifier: GPL-2.0
/*
 * The heap modules are unloaded and loaded while others use their heaps, as TAP:
 *
 *	race-test [--coherent] [--unloads N] [--seconds S] [--busy B]
 *
 * One thread for each module tries to unload it, over and over, and loads it again when that
 * worked. The others open heaps, by name and by nodes of their own that outlive the heap;
 * allocate, map and touch buffers; hold on to heaps and buffers; and look heaps up in the
 * kernel, through the sample driver. After some refused attempts, B (20) on average, those
 * who hold a heap for long pause, so that the module goes, and meets those who open it.
 *
 * The modules are system_heap and cma_heap, or coherent_heap with --coherent, of all regions.
 * Ends when N unloads (10000) were attempted, or after S seconds (3600), and then it fails.
 */
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include "test.h"

#define OWN_NODES	"/tmp/race-test"
#define LOOKUP		SAMPLE_DRIVER "/lookup"
#define MINORS		128
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
	[OPEN_OWN] = { "open by own node", "opened", {
		{ ENODEV, "the heap was vanishing" },
		{ ENXIO, "no device" } } },
	[ALLOC] = { "allocate", "allocated", { { ENOMEM, "no memory" } } },
	[MAP] = { "map", "mapped", { { ENOMEM, "no memory" } } },
	[FIND] = { "look up", "hit", { { ENOENT, "miss" } } },
};

static atomic_ulong count[OPS][ERRNOS];		/* by errno; 0 for success */
static atomic_ulong wrong;			/* buffers */
static atomic_bool stop;

static struct names heaps;
static struct target {
	char file[300];
	atomic_bool calm;			/* who holds for long pauses */
	atomic_ulong attempts;
} targets[HEAP_MODULES];
static int busy = 20, lookup_fd = -1, own_nodes;
static int own_minor[MINORS];

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
	return targets[SYSTEM_HEAP].attempts + targets[REGION_HEAP].attempts;
}

static void nap(unsigned int *seed, unsigned int us)
{
	usleep(rand_r(seed) % us);
}

/* The one who unloads and loads a module */
static void *unloader(void *arg)
{
	int m = (intptr_t)arg, quota = 0, refused = 0;
	struct target *t = &targets[m];
	unsigned int seed = m + 1;
	bool loaded = true;

	while (!stop) {
		if (!loaded) {
			int ret = module_load(t->file, params_of(heap_modules[m]));

			record(LOAD, ret);
			loaded = !ret;
			t->calm = false;
			refused = 0;
			quota = rand_r(&seed) % (2 * busy);
			nap(&seed, 2000);
		} else {
			int ret = module_unload(heap_modules[m]);

			record(UNLOAD, ret);
			t->attempts++;
			loaded = ret;
			if (ret && ++refused >= quota)
				t->calm = true;
			nap(&seed, 300);
		}
	}
	if (!loaded)
		record(LOAD, module_load(t->file, params_of(heap_modules[m])));
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

static void *own_opener(void *arg)
{
	unsigned int seed = 200 + (intptr_t)arg;
	char path[64];
	int fd;

	while (!stop) {
		snprintf(path, sizeof(path), OWN_NODES ".%d", own_minor[rand_r(&seed) % own_nodes]);
		fd = open(path, O_RDWR | O_CLOEXEC);
		record(OPEN_OWN, fd);
		opened(fd, &seed);
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

/* Allocates all the time, or else holds the heap or a buffer of it for long. */
static void use_heaps(unsigned int seed, bool hold)
{
	static const size_t lens[] = { 4 * KIB, 64 * KIB, 4 * KIB, 300 * KIB };
	const char *heap;
	int fd, buf;
	size_t len;

	while (!stop) {
		heap = any_heap(&seed);
		if (targets[module_of(heap)].calm) {
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
	const char *heap;
	ssize_t n;

	while (!stop) {
		heap = any_heap(&seed);
		n = pwrite(lookup_fd, heap, strlen(heap), 0);
		record(FIND, n);
		nap(&seed, n < 0 ? 1000 : 100);
	}
	return NULL;
}

static const struct {
	void *(*fn)(void *arg);
	int n;
} threads[] = {
	{ unloader, HEAP_MODULES },
	{ opener, 2 },
	{ own_opener, 2 },
	{ allocator, 2 },
	{ holder, 2 },
	{ finder, 1 },
};

/* Runs the threads until enough was attempted; how long it took. */
static double race(unsigned long unloads, double limit)
{
	double start = seconds_now(), said = start, now;
	pthread_t id[32];
	unsigned int t;
	int n = 0, i;

	for (t = 0; t < ARRAY_SIZE(threads); t++)
		for (i = 0; i < threads[t].n; i++)
			if (pthread_create(&id[n++], NULL, threads[t].fn, (void *)(intptr_t)i))
				ksft_exit_fail_msg("cannot make a thread\n");
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

static const char *error_name(int err)
{
	const char *name = strerrorname_np(err);

	return !err ? "" : err == EWOULDBLOCK ? "EWOULDBLOCK" : name ? name : "?";
}

static bool errors_expected(void)
{
	int op, err;

	for (op = 0; op < OPS; op++)
		for (err = 1; err < ERRNOS; err++)
			if (counted(op, err) && !meaning(op, err))
				return fail("%s: expected no %s, saw %lu", ops[op].name,
					    error_name(err), counted(op, err));
	return true;
}

static void table(double seconds)
{
	const char *text;
	int op, err;

	ksft_print_msg("%lu unloads attempted in %.0f s\n", attempts(), seconds);
	for (op = 0; op < OPS; op++) {
		for (err = 0; err < ERRNOS; err++) {
			text = meaning(op, err);
			if (text || counted(op, err))
				ksft_print_msg("%-17s %10lu  %-11s %s\n", ops[op].name,
					       counted(op, err), error_name(err),
					       text ? text : "not expected");
		}
	}
}

static bool happened(enum op op, int err)
{
	return counted(op, err) ? true :
	       fail("expected '%s: %s', saw none", ops[op].name, meaning(op, err));
}

/* Not a miss, which is no race: opens that found the heap, but too late to have it */
static bool met_vanishing(void)
{
	return counted(OPEN, ENODEV) || counted(OPEN_OWN, ENODEV) || counted(OPEN, ENXIO) ? true :
	       fail("expected opens that met a vanishing heap, saw none");
}

static bool used(void)
{
	return happened(OPEN, 0) && happened(OPEN_OWN, 0) && happened(ALLOC, 0) &&
	       happened(MAP, 0) && happened(FIND, 0) && happened(FIND, ENOENT);
}

static bool unload_all(void)
{
	static const struct names none;
	int m;

	for (m = 0; m < HEAP_MODULES; m++)
		if (module_unload(heap_modules[m]))
			return fail("expected %s to unload, saw %s", heap_modules[m],
				    strerror(errno));
	for (m = 0; m < HEAP_MODULES; m++)
		if (!module_gone(heap_modules[m]))
			return false;
	return heaps_are(&none);
}

static bool works_again(void)
{
	int i, buf;

	for (i = 0; i < HEAP_MODULES; i++)
		if (!modprobe(heap_modules[i]))
			return false;
	if (!heaps_are(&heaps))
		return false;
	for (i = 0; i < heaps.n; i++) {
		buf = get_buffer(heaps.name[i], MIB);
		if (buf < 0)
			return fail_at(heaps.name[i]);
		close(buf);
	}
	return unload_all();
}

/* Nodes of our own, with the numbers that the heaps have now */
static bool make_nodes(void)
{
	char path[300];
	struct stat st;
	int i;

	for (i = 0; i < heaps.n; i++) {
		snprintf(path, sizeof(path), HEAPS "/%s", heaps.name[i]);
		if (stat(path, &st) || !S_ISCHR(st.st_mode) || minor(st.st_rdev) >= MINORS)
			return fail("expected a device at %s, saw none", path);
		own_minor[own_nodes++] = minor(st.st_rdev);
		snprintf(path, sizeof(path), OWN_NODES ".%d", (int)minor(st.st_rdev));
		unlink(path);
		if (mknod(path, S_IFCHR | 0600, st.st_rdev))
			return fail("cannot make %s: %s", path, strerror(errno));
	}
	return true;
}

static void remove_nodes(void)
{
	char path[64];
	int i;

	for (i = 0; i < own_nodes; i++) {
		snprintf(path, sizeof(path), OWN_NODES ".%d", own_minor[i]);
		unlink(path);
	}
}

static bool prepare(void)
{
	char sample[300];
	int i;

	for (i = 0; i < HEAP_MODULES; i++)
		if (!modprobe(heap_modules[i]) ||
		    !module_path(heap_modules[i], targets[i].file, sizeof(targets[i].file)))
			return false;
	heaps_now(&heaps);
	if (!names_have(&heaps, "system") || heaps.n < 2)
		return fail("expected the system heap and one of a region, saw %d heaps", heaps.n);
	/* the sample waits for a heap that never comes, and so holds none */
	if (!module_path(SAMPLE, sample, sizeof(sample)))
		return false;
	if (module_load(sample, "heap=race-test"))
		return fail("expected " SAMPLE " to load, saw %s", strerror(errno));
	lookup_fd = open(LOOKUP, O_WRONLY | O_CLOEXEC);
	if (lookup_fd < 0)
		return fail("cannot open " LOOKUP ": %s", strerror(errno));
	return make_nodes();
}

static unsigned long number(const char *text)
{
	char *end;
	unsigned long n = strtoul(text ? text : "", &end, 10);

	if (!n || *end) {
		fprintf(stderr,
			"usage: race-test [--coherent] [--unloads N] [--seconds S] [--busy B]\n");
		exit(2);
	}
	return n;
}

#define RESULT(name, ok)	test_result("race", name, ok)

int main(int argc, char **argv)
{
	unsigned long unloads = 10000, limit = 3600;
	int i, fds, bufs;
	double seconds;

	region_option(&argc, argv);
	for (i = 1; i < argc; i += 2) {
		if (!strcmp(argv[i], "--unloads"))
			unloads = number(argv[i + 1]);
		else if (!strcmp(argv[i], "--seconds"))
			limit = number(argv[i + 1]);
		else if (!strcmp(argv[i], "--busy"))
			busy = number(argv[i + 1]);
		else
			number(NULL);
	}
	tests_begin();
	ksft_set_plan(10);
	fds = open_fds();
	bufs = buffers();
	if (fds < 0 || bufs < 0 || !prepare())
		ksft_exit_fail_msg("%s\n", why);
	alarm(limit + 600);	/* a thread that hangs */
	seconds = race(unloads, limit);
	alarm(0);
	close(lookup_fd);
	remove_nodes();
	table(seconds);

	RESULT("enough unloads were attempted", attempts() >= unloads ||
	       fail("expected %lu in %lu s, saw %lu", unloads, limit, attempts()));
	RESULT("unloads were refused", happened(UNLOAD, EWOULDBLOCK));
	RESULT("unloads succeeded", happened(UNLOAD, 0) && happened(LOAD, 0));
	RESULT("opens met a vanishing heap", met_vanishing());
	RESULT("heaps were opened, looked up and allocated from", used());
	RESULT("every error was an expected one", errors_expected());
	RESULT("every buffer was zeroed and of its size", !wrong ||
	       fail("expected none that is not, saw %lu", (unsigned long)wrong));
	fds -= open_fds();
	RESULT("no fd and no buffer is left", buffers_are(bufs) &&
	       (!fds || fail("expected as many open fds as before, saw %d less", fds)));
	RESULT("no node and no module is left", unload_all() && sample_unload());
	RESULT("the modules load and unload again", works_again());
	/* init asks kmemleak, as after any command */
	ksft_exit(ksft_cnt.ksft_pass == 10);
}
