// SPDX-License-Identifier: GPL-2.0
/*
 * DMA-BUF heaps are used for a long time, while a cgroup swaps, CPUs go and come, the machine
 * suspends as far as its devices, and the modules of the heaps are unloaded and loaded.
 * Afterwards all is as it was: memory, what the contiguous areas have given and got back, the
 * pools of coherent regions, buffers, and who holds the modules.
 *
 * In the environment: SECONDS to go on (10).
 */
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/prctl.h>
#include <sys/swap.h>

#include <drm/drm.h>

#include "regions.h"

#define CGROUPS		"/sys/fs/cgroup"
#define CGROUP		CGROUPS "/dmabuf-heaps-soak"
#define CMA_COUNTERS	"/sys/kernel/mm/cma"
#define CPUS		"/sys/devices/system/cpu"
#define WORKERS		2	/* for each heap */
#define HELD		8	/* buffers that a worker has at most */
#define LIMIT		(64 * MIB)
#define MAX_AREAS	32

/* Freed pages wait in lists of each CPU, and are not counted meanwhile */
#define MEMORY_SLACK	((long long)(8 * MIB))

static struct {
	atomic_bool stop;
	atomic_bool quiet;		/* have nothing open, so that the modules can go */
	atomic_ulong buffers, bytes, refused, imports, wrong;
	atomic_ulong unloads, in_use, hogs, killed, cpus, suspends;
} *seen;

static bool stopped(void)
{
	return atomic_load(&seen->stop);
}

/* Nothing may go wrong but what a call allows */
static void problem(const char *what, const char *name)
{
	ksft_print_msg("%s %s: %s\n", what, name, strerror(errno));
	atomic_fetch_add(&seen->wrong, 1);
}

/* A process of its own, which ends with the test's */
static pid_t start(void (*run)(const char *), const char *arg)
{
	pid_t pid = fork();

	if (pid)
		return pid;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	srand(getpid());
	run(arg);
	_exit(0);
}

struct held {
	int fd;
	size_t len;
	unsigned int seed;
	unsigned char *p;
};

static int open_vgem(void)
{
	char path[32], name[8];
	int i, fd;

	for (i = 0; i < 16; i++) {
		struct drm_version v = { .name = name, .name_len = sizeof(name) - 1 };

		memset(name, 0, sizeof(name));
		snprintf(path, sizeof(path), "/dev/dri/card%d", i);
		fd = open(path, O_RDWR | O_CLOEXEC);
		if (fd >= 0 && !ioctl(fd, DRM_IOCTL_VERSION, &v) && !strcmp(name, "vgem"))
			return fd;
		if (fd >= 0)
			close(fd);
	}
	return -1;
}

/* vgem attaches, maps for its device, and lets go again */
static void attach_once(int vgem, int fd)
{
	struct drm_prime_handle prime = { .fd = fd };
	struct drm_gem_close gem = { };

	if (vgem < 0)
		return;
	if (ioctl(vgem, DRM_IOCTL_PRIME_FD_TO_HANDLE, &prime)) {
		if (errno != ENOMEM)
			problem("import into", "vgem");
		return;
	}
	gem.handle = prime.handle;
	if (ioctl(vgem, DRM_IOCTL_GEM_CLOSE, &gem))
		problem("GEM_CLOSE of", "vgem");
	atomic_fetch_add(&seen->imports, 1);
}

static void let_go(struct held *h, const char *heap)
{
	if (!h->p)
		return;
	errno = 0;
	if (first_wrong(h->p, h->len, h->seed) != h->len)
		problem("another's bytes in a buffer of", heap);
	munmap(h->p, h->len);
	close(h->fd);
	h->p = NULL;
}

static void take(struct held *h, const char *heap, int vgem)
{
	int fd = heap_open(heap);

	h->len = page_size() * (rand() % 8 ? 1 + rand() % 64 : 512);
	h->seed = rand();
	if (fd < 0) {
		/* it is not there now */
		if (errno != ENOENT && errno != ENODEV && errno != ENXIO)
			problem("open", heap);
		usleep(1000);
		return;
	}
	h->fd = heap_alloc(fd, h->len);
	if (h->fd < 0) {
		if (errno != ENOMEM && errno != ENODEV && errno != EBUSY)
			problem("allocate from", heap);
		atomic_fetch_add(&seen->refused, 1);
		close(fd);
		usleep(1000);
		return;
	}
	close(fd);
	h->p = buffer_map(h->fd, h->len);
	if (h->p == MAP_FAILED) {
		if (errno != ENOMEM)
			problem("map a buffer of", heap);
		close(h->fd);
		h->p = NULL;
		return;
	}
	errno = 0;
	if (first_nonzero(h->p, h->len) != h->len)
		problem("not zeroed: a buffer of", heap);
	attach_once(vgem, h->fd);
	fill(h->p, h->len, h->seed);
	atomic_fetch_add(&seen->buffers, 1);
	atomic_fetch_add(&seen->bytes, h->len);
}

static void worker(const char *heap)
{
	int vgem = open_vgem(), i;
	struct held held[HELD] = { 0 };

	while (!stopped()) {
		if (atomic_load(&seen->quiet)) {
			for (i = 0; i < HELD; i++)
				let_go(&held[i], heap);
			usleep(10000);
			continue;
		}
		i = rand() % HELD;
		if (held[i].p)
			let_go(&held[i], heap);
		else
			take(&held[i], heap, vgem);
	}
	for (i = 0; i < HELD; i++)
		let_go(&held[i], heap);
}

/* Tries at any time, and now and then when all have let go */
static void loader(const char *unused)
{
	struct heap_module *m;
	unsigned int round;
	int i;

	for (round = 0; !stopped(); round++) {
		atomic_store(&seen->quiet, round % 8 == 0);
		usleep(200 * 1000);
		m = &modules[rand() % nr_modules];
		for (i = 0; i < 100 && atomic_load(&seen->quiet) && module_refs(m->name) > 0; i++)
			usleep(100 * 1000);
		if (module_unload(m->name)) {
			if (errno != EWOULDBLOCK)
				problem("unload", m->name);
			atomic_fetch_add(&seen->in_use, 1);
			continue;
		}
		atomic_fetch_add(&seen->unloads, 1);
		if (module_load(m))
			problem("load", m->name);
	}
	atomic_store(&seen->quiet, false);
}

/* Twice as much anonymous memory as its cgroup may have: it is swapped out, or killed */
static void hog(const char *unused)
{
	size_t len = 2 * LIMIT, i;
	char *p;

	write_text("/proc/self/oom_score_adj", "1000");
	while (!stopped()) {
		p = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		for (i = 0; p != MAP_FAILED && i < len && !stopped(); i += page_size())
			p[i] = 1 + i / page_size() % 255;	/* swap has no pages of zeroes */
		munmap(p, len);
		atomic_fetch_add(&seen->hogs, 1);
	}
}

/* A hog that is killed is followed by another */
static void hogs(const char *unused)
{
	int status;
	pid_t pid;

	if (write_text(CGROUP "/cgroup.procs", "0"))
		problem("join", CGROUP);
	while (!stopped()) {
		pid = start(hog, NULL);
		waitpid(pid, &status, 0);
		if (WIFSIGNALED(status))
			atomic_fetch_add(&seen->killed, 1);
		usleep(100 * 1000);
	}
}

/* Each CPU but the first goes, and comes back */
static void hotplug(const char *unused)
{
	long n = sysconf(_SC_NPROCESSORS_CONF), cpu = 0;
	char path[64], text[8];

	while (!stopped() && n > 1) {
		cpu = cpu % (n - 1) + 1;
		snprintf(path, sizeof(path), CPUS "/cpu%ld/online", cpu);
		/* not there, or not ours to bring back */
		if (read_text(path, text, sizeof(text)) || text[0] != '1') {
			usleep(10000);
			continue;
		}
		if (write_text(path, "0")) {
			if (errno != EBUSY)
				problem("take away", path);
		} else {
			usleep(rand() % (200 * 1000));
			while (write_text(path, "1")) {
				if (errno != EBUSY) {
					problem("bring back", path);
					break;
				}
				usleep(1000);
			}
			atomic_fetch_add(&seen->cpus, 1);
		}
		usleep(500 * 1000);
	}
}

/* As far as all tasks are frozen and the devices are suspended; no clock wakes this machine */
static void sleeper(const char *unused)
{
	while (!stopped()) {
		usleep(3000 * 1000);
		if (stopped())
			break;
		if (!write_text("/sys/power/state", "freeze"))
			atomic_fetch_add(&seen->suspends, 1);
		else if (errno != EBUSY)
			problem("suspend", "freeze");
	}
}

struct area {
	char name[64];
	long long pages;	/* given and not got back */
};

static long long cma_counter(const char *area, const char *what)
{
	char path[256], text[32];

	snprintf(path, sizeof(path), CMA_COUNTERS "/%s/%s", area, what);
	return read_text(path, text, sizeof(text)) ? -1 : atoll(text);
}

static int areas_now(struct area *areas)
{
	DIR *d = opendir(CMA_COUNTERS);
	struct dirent *e;
	int n = 0;

	while (d && (e = readdir(d)) && n < MAX_AREAS) {
		if (e->d_name[0] == '.')
			continue;
		snprintf(areas[n].name, sizeof(areas[n].name), "%s", e->d_name);
		areas[n].pages = cma_counter(e->d_name, "alloc_pages_success") -
				 cma_counter(e->d_name, "release_pages_success");
		n++;
	}
	if (d)
		closedir(d);
	return n;
}

/* With the modules gone, and all dropped that can be */
static void measure_unused(struct __test_metadata *_metadata, struct memory *m)
{
	unload_all(_metadata);
	if (!measure(m))
		TH_LOG("memory does not settle");
	load_all(_metadata);
}

/* What the machine lacks is left out, which is said once */
static bool has(const char *what, bool there, bool say)
{
	if (!there && say)
		ksft_print_msg("without %s\n", what);
	return there;
}

static void everything(struct __test_metadata *_metadata, unsigned int seconds, bool progress)
{
	double begin = seconds_now(), shown = begin;
	pid_t pids[MAX_HEAPS * WORKERS + 4];
	int n = 0, i, id, status;
	char zram[32];

	atomic_store(&seen->stop, false);
	id = zram_add(4 * LIMIT, zram, sizeof(zram));
	if (has("swap on zram", id >= 0, progress)) {
		make_swap(_metadata, zram, 4 * LIMIT);
		if (swapon(zram, 0))
			ksft_print_msg("no swap: %s\n", strerror(errno));
	}
	for (i = 0; i < heaps.n * WORKERS; i++)
		pids[n++] = start(worker, heaps.name[i / WORKERS]);
	if (has("unloading", nr_modules, progress))
		pids[n++] = start(loader, NULL);
	if (has("a memory limit", !access(CGROUP "/memory.max", F_OK), progress))
		pids[n++] = start(hogs, NULL);
	if (has("CPU hotplug", !access(CPUS "/cpu1/online", F_OK), progress))
		pids[n++] = start(hotplug, NULL);
	if (has("suspend", !access("/sys/power/pm_test", F_OK), progress))
		pids[n++] = start(sleeper, NULL);
	while (seconds_now() < begin + seconds) {
		usleep(100 * 1000);
		if (!progress || seconds_now() < shown + 60)
			continue;
		shown = seconds_now();
		ksft_print_msg("%.0f s: %lu buffers, %lu unloads\n", shown - begin,
			       atomic_load(&seen->buffers), atomic_load(&seen->unloads));
	}
	atomic_store(&seen->stop, true);
	for (i = 0; i < n; i++) {
		ASSERT_EQ(pids[i], waitpid(pids[i], &status, 0));
		EXPECT_EQ(0, status);
	}
	/* it keeps memory, more or less of it */
	if (id >= 0) {
		swapoff(zram);
		EXPECT_EQ(0, zram_remove(id));
	}
}

FIXTURE(soak) {
};

FIXTURE_SETUP(soak)
{
	char limit[32];

	if (buffers_of(heaps.name[0]) < 0)
		SKIP(return, "no " BUFINFO);
	seen = mmap(NULL, sizeof(*seen), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	ASSERT_NE(MAP_FAILED, seen);
	load_all(_metadata);
	snprintf(limit, sizeof(limit), "%lu", LIMIT);
	write_text(CGROUPS "/cgroup.subtree_control", "+memory");
	rmdir(CGROUP);
	if (!access(CGROUPS "/cgroup.controllers", F_OK))
		ASSERT_EQ(0, mkdir(CGROUP, 0755));
	write_text(CGROUP "/memory.max", limit);
	/* a second, not five, before it wakes */
	if (!access("/sys/power/pm_test", F_OK))
		ASSERT_EQ(0, write_text("/sys/power/pm_test", "devices"));
	write_text("/sys/module/suspend/parameters/pm_test_delay", "1");
}

FIXTURE_TEARDOWN(soak)
{
	write_text("/sys/power/pm_test", "none");
	write_text("/sys/module/suspend/parameters/pm_test_delay", "5");
	if (!access(CGROUP, F_OK))
		EXPECT_EQ(0, rmdir(CGROUP));
}

TEST_F_TIMEOUT(soak, everything_is_as_before, 7 * 24 * 3600)
{
	unsigned int seconds = env_number("SECONDS", 10);
	struct area before[MAX_AREAS], after[MAX_AREAS];
	int buffers[MAX_HEAPS], areas, i, j;
	struct memory first, last;
	struct pool pool;

	/* so that what is allocated once, and kept, is there */
	everything(_metadata, seconds < 100 ? 10 : seconds / 10, false);
	for (i = 0; i < heaps.n; i++)
		buffers[i] = buffers_of(heaps.name[i]);
	areas = areas_now(before);
	measure_unused(_metadata, &first);

	EXPECT_EQ(0, seen->wrong);
	memset(seen, 0, sizeof(*seen));
	everything(_metadata, seconds, true);

	ksft_print_msg("%lu buffers of %lu MiB, %lu refused, %lu imported\n", seen->buffers,
		       seen->bytes / MIB, seen->refused, seen->imports);
	ksft_print_msg("%lu unloads, %lu in use; %lu CPUs gone, %lu suspends\n", seen->unloads,
		       seen->in_use, seen->cpus, seen->suspends);
	ksft_print_msg("%lu times %lu MiB in a cgroup of %lu MiB, %lu killed\n", seen->hogs,
		       2 * LIMIT / MIB, LIMIT / MIB, seen->killed);
	EXPECT_EQ(0, seen->wrong);
	EXPECT_LT(0, seen->buffers);
	/* in less, there may have been no time for it */
	if (seconds >= 60 && !access("/sys/power/pm_test", F_OK))
		EXPECT_LT(0, seen->suspends);
	if (seconds >= 60 && !access(CPUS "/cpu1/online", F_OK))
		EXPECT_LT(0, seen->cpus);
	if (nr_modules) {
		EXPECT_LT(0, seen->unloads);
		EXPECT_LT(0, seen->in_use);
	}
	for (i = 0; i < heaps.n; i++)
		EXPECT_EQ(buffers[i], buffers_of(heaps.name[i]));
	for (i = 0; i < nr_modules; i++)
		EXPECT_EQ(0, module_refs(modules[i].name));
	for (i = 0; i < heaps.n; i++)
		if (pools_called(heaps.name[i], &pool) == 1)
			EXPECT_EQ(0, pool.used);
	measure_unused(_metadata, &last);
	ASSERT_EQ(areas, areas_now(after));
	for (i = 0; i < areas; i++)
		for (j = 0; j < areas; j++) {
			if (strcmp(before[i].name, after[j].name))
				continue;
			ksft_print_msg("%s: %lld pages given and not got back, before %lld\n",
				       after[j].name, after[j].pages, before[i].pages);
			EXPECT_EQ(before[i].pages, after[j].pages);
		}
	ksft_print_msg("%lld KiB available, before %lld; %lld of slabs, before %lld\n",
		       last.available / 1024, first.available / 1024, last.slab / 1024,
		       first.slab / 1024);
	EXPECT_GE(last.available + MEMORY_SLACK, first.available);
	check_all_work(_metadata);
}

int main(int argc, char **argv)
{
	find_heaps();
	return test_harness_run(argc, argv);
}
