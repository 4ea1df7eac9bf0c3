// SPDX-License-Identifier: GPL-2.0
/*
 * What a buffer costs in its whole life, by where it comes from: each DMA-BUF heap there is, and
 * what a program would take instead
 *
 *	bench [-s SOURCE]... [-l BYTES]... [-r ROUNDS] [-t THREADS] [-f] [-c] [-j]
 *
 * A line for each source, size and step: of how many samples, and the least, the median, and the
 * 95th percentile of the times in nanoseconds. A sample of "allocate and close" is the mean of up
 * to a thousand. "clear" is the floor: the kernel clears as many bytes. The pages of a memfd and
 * of anonymous memory come with the first touch.
 *
 * Then a line of counts: minor faults of the first pass over a mapping and of the second, bytes
 * that page tables and slabs grow by, entries of the list that an importer is given, and how many
 * of them have 1, 2, 4... pages or more.
 *
 * -t runs that many threads at once, in one address space. -f leaves free memory in pieces of less
 * than 16 pages, until the module is unloaded. -c fills memory with a file before each buffer, CMA
 * areas to about nine tenths, and leaves room beside them, so that a buffer of the CMA heap has the
 * pages of the file moved; this measures neither counts nor the mean of many. -j prints an
 * object of JSON on each line. Sources that are not available are reported on standard error.
 *
 * Importing, mapping for the kernel, clearing and -f need the module dma_buf_bench. This is not
 * one of the tests, and nothing is judged. Run it alone, and as root.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include <drm/drm.h>
#include <drm/drm_mode.h>
#include <linux/dma-heap.h>
#include <linux/udmabuf.h>

#include "test_modules/dma_buf_bench.h"

#define KIB		1024UL
#define MIB		(1024 * KIB)
#define HEAPS		"/dev/dma_heap"
#define MAX_SOURCES	64
#define MAX_SIZES	16
#define MAX_THREADS	16
#define MAX_SAMPLES	(1000 * MAX_THREADS)
#define LOOPS		1000UL		/* at most, of allocating and closing */
#define LOOP_BYTES	(256 * MIB)	/* at most, in these */
#define HELD		64UL		/* buffers, at most, to see what one takes */
#define HELD_BYTES	(64 * MIB)	/* at most, in these, but one buffer */

enum step {
	OPEN, ALLOC, MMAP, TOUCH, SECOND, ATTACH, MAP, SYNC, UNMAP, DETACH, MAP_SNOOP, SYNC_SNOOP,
	UNMAP_SNOOP, VMAP, MUNMAP, CLOSE, LOOP, CLEAR, STEPS
};

static const char *const step_names[STEPS] = {
	"open", "allocate", "mmap", "touch", "touch again", "attach", "map", "sync", "unmap",
	"detach", "map, snooping", "sync, snooping", "unmap, snooping", "vmap and vunmap",
	"munmap", "close", "allocate and close", "clear",
};

struct buffer {
	size_t len;
	int fd;		/* or -1: anonymous memory */
	int memfd;	/* behind it, or -1 */
};

struct source {
	const char *name;
	const char *path;	/* to open, or NULL */
	int (*allocate)(int dev, struct buffer *b);	/* 0, or -1 and errno */
	bool dmabuf;
	int advice;		/* for the mapping, or 0 */
	size_t unit;		/* lengths are multiples of this */
};

#define NOT_MEASURED	LONG_MIN

static struct source sources[MAX_SOURCES];
static int nr_sources;
static bool json, fragmented, full;
static int nr_threads = 1, nr_rounds, bench_fd = -1;

static long page_size;
static __u64 samples[STEPS][MAX_SAMPLES];
static int nr_samples[STEPS];
static pthread_mutex_t samples_lock = PTHREAD_MUTEX_INITIALIZER;

static struct {
	const struct source *source;
	size_t len;
	int rounds, error;
	enum step failed;
	pthread_barrier_t barrier;
	/* of one buffer */
	long faults[2], page_tables, slab;
	struct dma_buf_bench import;
} now;

static __u64 ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000000000ULL + t.tv_nsec;
}

static void record(enum step step, __u64 t)
{
	pthread_mutex_lock(&samples_lock);
	if (nr_samples[step] < MAX_SAMPLES)
		samples[step][nr_samples[step]++] = t;
	pthread_mutex_unlock(&samples_lock);
}

/* What the kernel tells */

static long faults(void)
{
	struct rusage r;

	getrusage(RUSAGE_THREAD, &r);
	return r.ru_minflt;
}

/* Bytes, of a line in KiB */
static long number_in(const char *path, const char *key)
{
	char line[256];
	long n = 0;
	FILE *f;

	f = fopen(path, "re");
	while (f && fgets(line, sizeof(line), f))
		if (!strncmp(line, key, strlen(key)))
			n = strtol(line + strlen(key), NULL, 10) * KIB;
	if (f)
		fclose(f);
	return n;
}

static long slab_bytes(void)
{
	char byte;
	int fd;

	/* what the processors count for themselves is added up */
	fd = open("/proc/sys/vm/stat_refresh", O_RDONLY | O_CLOEXEC);
	if (fd >= 0) {
		if (read(fd, &byte, 1) < 0)
			perror("stat_refresh");
		close(fd);
	}
	return number_in("/proc/meminfo", "Slab:");
}

/* Where buffers come from */

static int heap_allocate(int dev, struct buffer *b)
{
	struct dma_heap_allocation_data data = {
		.len = b->len,
		.fd_flags = O_RDWR | O_CLOEXEC,
	};

	if (ioctl(dev, DMA_HEAP_IOCTL_ALLOC, &data))
		return -1;
	b->fd = data.fd;
	return 0;
}

static int memfd_make(struct buffer *b, unsigned int flags)
{
	b->fd = memfd_create("bench", MFD_CLOEXEC | MFD_ALLOW_SEALING | flags);
	return b->fd < 0 ? -1 : ftruncate(b->fd, b->len);
}

static int memfd_allocate(int dev, struct buffer *b)
{
	(void)dev;
	return memfd_make(b, 0);
}

static int udmabuf_make(int dev, struct buffer *b, unsigned int flags)
{
	struct udmabuf_create create = { .flags = UDMABUF_FLAGS_CLOEXEC };

	if (memfd_make(b, flags) || fcntl(b->fd, F_ADD_SEALS, F_SEAL_SHRINK))
		return -1;
	b->memfd = b->fd;
	create.memfd = b->fd;
	create.size = b->len;
	b->fd = ioctl(dev, UDMABUF_CREATE, &create);
	return b->fd < 0 ? -1 : 0;
}

static int udmabuf_allocate(int dev, struct buffer *b)
{
	return udmabuf_make(dev, b, 0);
}

/* Only of whole huge pages */
static int udmabuf_huge_allocate(int dev, struct buffer *b)
{
	return udmabuf_make(dev, b, MFD_HUGETLB);
}

/* The pages come with the first touch */
static int anonymous_allocate(int dev, struct buffer *b)
{
	(void)dev;
	b->fd = -1;
	return 0;
}

static int vgem_allocate(int dev, struct buffer *b)
{
	struct drm_mode_create_dumb create = { .bpp = 32, .width = page_size / 4 };
	struct drm_prime_handle prime = { .flags = DRM_CLOEXEC | DRM_RDWR };
	struct drm_gem_close drop = { };
	int ret;

	create.height = b->len / page_size;
	if (ioctl(dev, DRM_IOCTL_MODE_CREATE_DUMB, &create))
		return -1;
	prime.handle = create.handle;
	drop.handle = create.handle;
	ret = ioctl(dev, DRM_IOCTL_PRIME_HANDLE_TO_FD, &prime);
	ioctl(dev, DRM_IOCTL_GEM_CLOSE, &drop);
	b->fd = ret ? -1 : prime.fd;
	return ret;
}

static int allocate(int dev, struct buffer *b, size_t len)
{
	*b = (struct buffer) { .len = len, .fd = -1, .memfd = -1 };
	return now.source->allocate(dev, b);
}

static void drop(struct buffer *b)
{
	if (b->fd >= 0)
		close(b->fd);
	if (b->memfd >= 0)
		close(b->memfd);
}

/* The node of vgem, whatever its number is, or an empty string */
static const char *vgem_path(void)
{
	static char path[32];
	char name[5] = "";
	drm_version_t version = { .name_len = 4, .name = name };
	bool found = false;
	int i, fd;

	for (i = 0; i < 16 && !found; i++) {
		snprintf(path, sizeof(path), "/dev/dri/card%d", i);
		fd = open(path, O_RDWR | O_CLOEXEC);
		if (fd < 0)
			continue;
		found = !ioctl(fd, DRM_IOCTL_VERSION, &version) && !strcmp(name, "vgem");
		close(fd);
	}
	return found ? path : "/dev/dri/vgem";
}

static void add_source(const char *name, const char *path,
		       int (*fn)(int dev, struct buffer *b), bool dmabuf, int advice)
{
	struct source s = { name, path, fn, dmabuf, advice, page_size };

	if (nr_sources < MAX_SOURCES)
		sources[nr_sources++] = s;
}

static int by_name(const void *a, const void *b)
{
	return strcmp(((const struct source *)a)->name, ((const struct source *)b)->name);
}

static void find_sources(void)
{
	DIR *d = opendir(HEAPS);
	struct dirent *e;
	char *path;

	while (d && (e = readdir(d))) {
		if (e->d_name[0] == '.' || asprintf(&path, HEAPS "/%s", e->d_name) < 0)
			continue;
		add_source(path + strlen(HEAPS) + 1, path, heap_allocate, true, 0);
	}
	if (d)
		closedir(d);
	qsort(sources, nr_sources, sizeof(sources[0]), by_name);
	add_source("udmabuf", "/dev/udmabuf", udmabuf_allocate, true, 0);
	add_source("udmabuf-hugetlb", "/dev/udmabuf", udmabuf_huge_allocate, true, 0);
	sources[nr_sources - 1].unit = number_in("/proc/meminfo", "Hugepagesize:") ?: page_size;
	add_source("vgem", vgem_path(), vgem_allocate, true, 0);
	add_source("memfd", NULL, memfd_allocate, false, 0);
	add_source("anonymous", NULL, anonymous_allocate, false, MADV_NOHUGEPAGE);
	add_source("anonymous-huge", NULL, anonymous_allocate, false, MADV_HUGEPAGE);
}

/*
 * A file in all of memory but what the machine needs to go on: the page allocator takes pages of
 * CMA areas when these have more than half of what is free. A hole where the file begins, before
 * it came to CMA areas, is where its pages can be moved to.
 */
static void fill_areas(void)
{
	static char chunk[64 * KIB];
	const long left = 64 * MIB;
	static int fd = -1;

	if (fd >= 0)
		close(fd);
	fd = memfd_create("file", MFD_CLOEXEC);
	while (number_in("/proc/meminfo", "MemFree:") > left)
		if (write(fd, chunk, sizeof(chunk)) != sizeof(chunk))
			break;
	if (fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, now.len + 16 * MIB)) {
		perror("memory is not filled");
		exit(1);
	}
}

/* One life */

static int import(int fd, bool first)
{
	struct dma_buf_bench b = { .fd = fd };

	if (bench_fd < 0)
		return 0;
	if (ioctl(bench_fd, DMA_BUF_BENCH_IMPORT, &b))
		return -1;
	record(ATTACH, b.attach_ns);
	record(MAP, b.map_ns);
	record(SYNC, b.sync_ns);
	record(UNMAP, b.unmap_ns);
	record(DETACH, b.detach_ns);
	if (b.vmap_ns)
		record(VMAP, b.vmap_ns);
	b.snoops = true;
	if (ioctl(bench_fd, DMA_BUF_BENCH_IMPORT, &b))
		return -1;
	record(MAP_SNOOP, b.map_ns);
	record(SYNC_SNOOP, b.sync_ns);
	record(UNMAP_SNOOP, b.unmap_ns);
	if (first)
		now.import = b;
	return 0;
}

static void touch(unsigned char *p, size_t len)
{
	size_t i;

	for (i = 0; i < len; i += page_size)
		p[i] = 1;
}

/* The step that failed, or STEPS */
static enum step live(bool first)
{
	const struct source *s = now.source;
	long f[3], tables = 0;
	int dev = -1, ret = 0;
	enum step failed = STEPS;
	struct buffer b;
	__u64 t[10];
	void *p;

	if (full)
		fill_areas();
	t[0] = ns();
	if (s->path) {
		dev = open(s->path, O_RDWR | O_CLOEXEC);
		if (dev < 0)
			return OPEN;
	}
	t[1] = ns();
	ret = allocate(dev, &b, now.len);
	t[2] = ns();
	if (ret) {
		failed = ALLOC;
		goto out;
	}
	if (first)
		tables = number_in("/proc/self/status", "VmPTE:");
	f[0] = faults();
	t[3] = ns();
	p = mmap(NULL, b.len, PROT_READ | PROT_WRITE,
		 b.fd < 0 ? MAP_PRIVATE | MAP_ANONYMOUS : MAP_SHARED, b.fd, 0);
	if (p == MAP_FAILED) {
		failed = MMAP;
		goto out;
	}
	/* without huge pages there is nothing to advise against */
	if (s->advice && madvise(p, b.len, s->advice) && s->advice == MADV_HUGEPAGE) {
		munmap(p, b.len);
		failed = MMAP;
		goto out;
	}
	t[4] = ns();
	touch(p, b.len);
	t[5] = ns();
	f[1] = faults();
	t[6] = ns();
	touch(p, b.len);
	t[7] = ns();
	f[2] = faults();
	if (first) {
		now.page_tables = number_in("/proc/self/status", "VmPTE:") - tables;
		now.faults[0] = f[1] - f[0];
		now.faults[1] = f[2] - f[1];
	}
	if (s->dmabuf && import(b.fd, first))
		failed = ATTACH;
	t[8] = ns();
	munmap(p, b.len);
	t[9] = ns();
	drop(&b);
	record(CLOSE, ns() - t[9]);
	record(MUNMAP, t[9] - t[8]);
	if (s->path)
		record(OPEN, t[1] - t[0]);
	record(ALLOC, t[2] - t[1]);
	record(MMAP, t[4] - t[3]);
	record(TOUCH, t[5] - t[4]);
	record(SECOND, t[7] - t[6]);
	b.fd = -1;
	b.memfd = -1;
out:
	ret = errno;
	drop(&b);
	if (dev >= 0)
		close(dev);
	errno = ret;
	return failed;
}

/* Allocates and closes, as the benchmarks of Android do: the mean of many */
static bool loop(void)
{
	unsigned long i, n = LOOP_BYTES / now.len;
	int dev = -1, ret = 0;
	struct buffer b;
	__u64 t;

	n = n > LOOPS ? LOOPS : n ?: 1;
	if (now.source->path)
		dev = open(now.source->path, O_RDWR | O_CLOEXEC);
	t = ns();
	for (i = 0; i < n && !ret; i++) {
		ret = allocate(dev, &b, now.len);
		drop(&b);
	}
	if (!ret)
		record(LOOP, (ns() - t) / n);
	if (dev >= 0)
		close(dev);
	return !ret;
}

static void failed(enum step step)
{
	pthread_mutex_lock(&samples_lock);
	if (!now.error) {
		now.error = errno;
		now.failed = step;
	}
	pthread_mutex_unlock(&samples_lock);
}

static void *thread(void *arg)
{
	bool first = !arg;
	enum step step;
	int i;

	pthread_barrier_wait(&now.barrier);
	for (i = 0; i < now.rounds && !now.error; i++) {
		step = live(first && !i && nr_threads == 1);
		if (step != STEPS)
			failed(step);
	}
	if (!now.error && !full && !loop())
		failed(LOOP);
	return NULL;
}

/* By how much slabs grow for a buffer, when there are as many small ones already */
static void hold(void)
{
	struct buffer b[2 * HELD];
	unsigned long i, n = HELD_BYTES / now.len;
	long before = 0;
	int dev = -1;

	n = n > HELD ? HELD : n ?: 1;
	if (now.source->path)
		dev = open(now.source->path, O_RDWR | O_CLOEXEC);
	for (i = 0; i < 2 * n; i++) {
		if (i == n) {
			usleep(100 * 1000);	/* what is freed after a grace period */
			before = slab_bytes();
		}
		if (allocate(dev, &b[i], i < n ? now.source->unit : now.len)) {
			drop(&b[i]);
			break;
		}
	}
	now.slab = i > n ? (slab_bytes() - before) / (long)(i - n) : NOT_MEASURED;
	while (i--)
		drop(&b[i]);
	if (dev >= 0)
		close(dev);
}

static void clear(void)
{
	struct dma_buf_bench_clear b = { .len = now.len };
	int i;

	for (i = 0; i < now.rounds && bench_fd >= 0; i++)
		if (!ioctl(bench_fd, DMA_BUF_BENCH_CLEAR, &b))
			record(CLEAR, b.ns);
}

/* Results */

static int by_size(const void *a, const void *b)
{
	__u64 x = *(const __u64 *)a, y = *(const __u64 *)b;

	return x < y ? -1 : x > y;
}

static void print_what(const char *source)
{
	if (json)
		printf("{\"source\": \"%s\", \"bytes\": %zu, \"threads\": %d, \"memory\": \"%s\"",
		       source, now.len, nr_threads,
		       fragmented ? "fragmented" : full ? "full" : "fresh");
	else
		printf("%-20s %10zu  ", source, now.len);
}

static void print_number(const char *name, long long n)
{
	printf(json ? ", \"%s\": %lld" : "%s %lld  ", name, n);
}

static void print_step(const char *source, enum step step)
{
	int n = nr_samples[step];
	__u64 *t = samples[step];

	if (!n)
		return;
	qsort(t, n, sizeof(t[0]), by_size);
	print_what(source);
	if (json)
		printf(", \"step\": \"%s\"", step_names[step]);
	else
		printf("%-18s  ", step_names[step]);
	print_number("n", n);
	print_number("min", t[0]);
	print_number("median", t[n / 2]);
	print_number("p95", t[(n * 95 + 99) / 100 - 1]);
	printf(json ? "}\n" : "\n");
	nr_samples[step] = 0;
}

static void print_counts(const char *source)
{
	int i;

	print_what(source);
	print_number("faults", now.faults[0]);
	print_number("faults again", now.faults[1]);
	print_number("page tables", now.page_tables);
	if (now.slab != NOT_MEASURED)
		print_number("slab", now.slab);
	print_number("entries", now.import.entries);
	printf(json ? ", \"orders\": [" : "by order");
	for (i = 0; i < DMA_BUF_BENCH_ORDERS; i++)
		printf("%s%u", !json ? " " : i ? ", " : "", now.import.orders[i]);
	printf(json ? "]}\n" : "\n");
}

static void measure(const struct source *source, size_t len)
{
	pthread_t id[MAX_THREADS];
	int i, n;

	memset(&now.faults, 0, sizeof(now.faults));
	now.page_tables = 0;
	now.slab = 0;
	now.error = 0;
	memset(&now.import, 0, sizeof(now.import));
	now.source = source;
	now.len = len;
	now.rounds = nr_rounds ?: len < 16 * MIB ? 20 : 5;
	/* each time, as compaction may have found larger blocks since */
	if (fragmented && ioctl(bench_fd, DMA_BUF_BENCH_FRAGMENT)) {
		perror("memory is not fragmented");
		exit(1);
	}
	pthread_barrier_init(&now.barrier, NULL, nr_threads);
	for (n = 0; n < nr_threads; n++)
		if (pthread_create(&id[n], NULL, thread, (void *)(intptr_t)n))
			exit(1);
	for (i = 0; i < n; i++)
		pthread_join(id[i], NULL);
	pthread_barrier_destroy(&now.barrier);
	if (now.error) {
		fprintf(stderr, "%s, %zu bytes: %s: %s\n", source->name, len,
			step_names[now.failed], strerror(now.error));
		memset(nr_samples, 0, sizeof(nr_samples));
		return;
	}
	for (i = 0; i < STEPS; i++)
		print_step(source->name, i);
	if (nr_threads == 1 && !full) {
		hold();
		print_counts(source->name);
	}
	fflush(stdout);
}

static int wrong_arguments(void)
{
	fprintf(stderr,
		"usage: bench [-s SOURCE]... [-l BYTES]... [-r ROUNDS] [-t THREADS] [-f] [-c] [-j]\n");
	return 2;
}

int main(int argc, char **argv)
{
	size_t sizes[MAX_SIZES] = { 4 * KIB, 64 * KIB, MIB, 1920 * 1080 * 3 / 2, 8 * MIB,
				    3840 * 2160 * 3 / 2, 32 * MIB, 256 * MIB };
	int nr_sizes = 8, own_sizes = 0, nr_wanted = 0, opt, i, j, k;
	const char *wanted[MAX_SOURCES];
	char *end = "";

	while ((opt = getopt(argc, argv, "s:l:r:t:fcj")) != -1) {
		switch (opt) {
		case 's':
			if (nr_wanted < MAX_SOURCES)
				wanted[nr_wanted++] = optarg;
			break;
		case 'l':
			if (own_sizes < MAX_SIZES)
				sizes[own_sizes++] = strtoul(optarg, &end, 0);
			if (end == optarg || *end)
				return wrong_arguments();
			nr_sizes = own_sizes;
			break;
		case 'r':
			nr_rounds = atoi(optarg);
			break;
		case 't':
			nr_threads = atoi(optarg);
			break;
		case 'f':
			fragmented = true;
			break;
		case 'c':
			full = true;
			break;
		case 'j':
			json = true;
			break;
		default:
			return wrong_arguments();
		}
	}
	if (optind < argc || nr_threads < 1 || nr_threads > MAX_THREADS || nr_rounds < 0 ||
	    (full && nr_threads > 1) ||
	    nr_rounds > MAX_SAMPLES / MAX_THREADS)
		return wrong_arguments();

	page_size = sysconf(_SC_PAGESIZE);
	bench_fd = open("/dev/" DMA_BUF_BENCH, O_RDWR | O_CLOEXEC);
	if (bench_fd < 0)
		fprintf(stderr, "/dev/" DMA_BUF_BENCH ": %s: nothing is imported or cleared\n",
			strerror(errno));
	find_sources();
	for (i = 0; i < nr_sizes; i++) {
		/* whole pages, as most sources want them */
		size_t len = (sizes[i] + page_size - 1) / page_size * page_size;

		if (!len)
			return wrong_arguments();
		for (j = 0; j < nr_sources; j++) {
			for (k = 0; k < nr_wanted && strcmp(wanted[k], sources[j].name); k++)
				;
			if (k < nr_wanted || !nr_wanted)
				measure(&sources[j], len);
		}
		now.source = NULL;
		now.len = len;
		now.rounds = nr_rounds ?: len < 16 * MIB ? 20 : 5;
		clear();
		print_step("kernel", CLEAR);
	}
	return 0;
}
