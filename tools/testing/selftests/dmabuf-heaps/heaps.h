/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What the tests of DMA-BUF heaps share: the heaps of this kernel, the modules that
 * they are in, and what a kernel tells about buffers and memory.
 *
 * The environment says what the tests cannot know:
 *
 *	HEAP_MODULES	the modules to load and to test; each of them must load then
 *			(default: those of MODULES that load)
 *	HEAPS		all heaps that must be there once these are loaded, and no other
 */
#ifndef DMABUF_HEAPS_H
#define DMABUF_HEAPS_H

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/klog.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <linux/dma-buf.h>
#include <linux/dma-heap.h>
#include <linux/limits.h>

#include "../kselftest_harness.h"
#include "test_modules/dma_heap_test.h"

/* A kernel with KASAN, and on an emulated machine, takes its time */
#undef TEST_TIMEOUT_DEFAULT
#define TEST_TIMEOUT_DEFAULT	300

#define DEVPATH		"/dev/dma_heap"
#define MODULES		"system_heap cma_heap coherent_heap"
#define BUFINFO		"/sys/kernel/debug/dma_buf/bufinfo"
#define SAMPLE		"dma_heap_sample"
#define SAMPLE_DRIVER	"/sys/bus/platform/drivers/" SAMPLE
#define SAMPLE_DEVICE	"/sys/bus/platform/devices/" SAMPLE

#define MAX_HEAPS	128
#define MAX_MODULES	4
#define KIB		1024UL
#define MIB		(1024 * KIB)

/* The call must fail with this errno */
#define EXPECT_ERRNO(err, call)						\
do {									\
	long ret_ = (long)(call);					\
	int saw_ = ret_ == -1 ? errno : 0, want_ = (err);		\
									\
	EXPECT_EQ(want_, saw_) {					\
		TH_LOG("%s: %s", #call, strerror(saw_));		\
	}								\
} while (0)

/* Names of heaps, sorted */
struct names {
	int n;
	char name[MAX_HEAPS][NAME_MAX + 1];
};

struct heap_module {
	char name[64];
	char path[512];		/* of the file; empty if only modprobe can load it */
	char params[1024];	/* what modprobe loaded it with */
	struct names heaps;	/* those that come and go with it */
};

static struct heap_module modules[MAX_MODULES];
static int nr_modules;
static struct names heaps;		/* all of them, with all the modules loaded */
static struct names builtin_heaps;	/* those that are in none of the modules */

static inline bool names_have(const struct names *list, const char *name)
{
	int i;

	for (i = 0; i < list->n; i++)
		if (!strcmp(list->name[i], name))
			return true;
	return false;
}

static inline int names_compare(const void *a, const void *b)
{
	return strcmp(a, b);
}

static inline void names_sort(struct names *list)
{
	qsort(list->name, list->n, sizeof(list->name[0]), names_compare);
}

static inline void names_add(struct names *list, const char *name)
{
	if (list->n < MAX_HEAPS && !names_have(list, name))
		snprintf(list->name[list->n++], sizeof(list->name[0]), "%s", name);
}

/* As one string, to compare and to print */
static inline const char *names_join(const struct names *list, char *text, size_t size)
{
	size_t len = 0;
	int i;

	text[0] = '\0';
	for (i = 0; i < list->n && len < size; i++)
		len += snprintf(text + len, size - len, "%s ", list->name[i]);
	return text;
}

/*
 * The nodes that exist now, but for heaps of protected memory, which no processor can read.
 * No directory means no node.
 */
static inline void heaps_now(struct names *list)
{
	struct dirent *e;
	DIR *d;

	list->n = 0;
	d = opendir(DEVPATH);
	while (d && (e = readdir(d)))
		if (e->d_name[0] != '.' && strncmp(e->d_name, "protected,", 10))
			names_add(list, e->d_name);
	if (d)
		closedir(d);
	names_sort(list);
}

/* Exactly these heaps must be there */
static inline void assert_heaps(struct __test_metadata *_metadata, const struct names *want)
{
	char a[8192], b[8192];
	struct names now;

	heaps_now(&now);
	names_join(want, a, sizeof(a));
	names_join(&now, b, sizeof(b));
	ASSERT_STREQ(a, b);
}

/* Heaps and buffers */

static inline int heap_open(const char *name)
{
	char path[PATH_MAX];

	snprintf(path, sizeof(path), DEVPATH "/%s", name);
	return open(path, O_RDWR | O_CLOEXEC);
}

/* A new buffer's fd, or -1 and errno */
static inline int heap_alloc_flags(int heap, __u64 len, __u32 fd_flags, __u64 heap_flags)
{
	struct dma_heap_allocation_data data = {
		.len = len,
		.fd_flags = fd_flags,
		.heap_flags = heap_flags,
	};

	return ioctl(heap, DMA_HEAP_IOCTL_ALLOC, &data) < 0 ? -1 : (int)data.fd;
}

static inline int heap_alloc(int heap, __u64 len)
{
	return heap_alloc_flags(heap, len, O_RDWR | O_CLOEXEC, 0);
}

static inline int buffer_sync(int buf, __u64 flags)
{
	struct dma_buf_sync sync = { .flags = flags };

	return ioctl(buf, DMA_BUF_IOCTL_SYNC, &sync);
}

static inline void *buffer_map(int buf, size_t len)
{
	return mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_SHARED, buf, 0);
}

/* A message with the fd, which waits in the socket until somebody receives it */
static inline bool send_fd(int sock, int fd)
{
	char byte = 'x', control[CMSG_SPACE(sizeof(fd))] = "";
	struct iovec iov = { .iov_base = &byte, .iov_len = 1 };
	struct msghdr msg = {
		.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = control,
		.msg_controllen = sizeof(control),
	};
	struct cmsghdr *c = CMSG_FIRSTHDR(&msg);

	c->cmsg_level = SOL_SOCKET;
	c->cmsg_type = SCM_RIGHTS;
	c->cmsg_len = CMSG_LEN(sizeof(fd));
	memcpy(CMSG_DATA(c), &fd, sizeof(fd));
	return sendmsg(sock, &msg, 0) == 1;
}

/* A buffer of the heap, which is open only meanwhile */
static inline int get_buffer(struct __test_metadata *_metadata, const char *name, size_t len)
{
	int heap, buf;

	heap = heap_open(name);
	ASSERT_LE(0, heap) {
		TH_LOG("cannot open %s: %s", name, strerror(errno));
	}
	buf = heap_alloc(heap, len);
	ASSERT_LE(0, buf) {
		TH_LOG("no buffer of %zu bytes from %s: %s", len, name, strerror(errno));
	}
	close(heap);
	return buf;
}

static inline unsigned char *get_map(struct __test_metadata *_metadata, int buf, size_t len)
{
	void *p = buffer_map(buf, len);

	ASSERT_NE(MAP_FAILED, p) {
		TH_LOG("cannot map %zu bytes: %s", len, strerror(errno));
	}
	return p;
}

static inline long page_size(void)
{
	return sysconf(_SC_PAGESIZE);
}

/* The offset of the first byte that is not zero, or len */
static inline size_t first_nonzero(const unsigned char *p, size_t len)
{
	size_t i;

	for (i = 0; i < len && !p[i]; i++)
		;
	return i;
}

static inline unsigned char pattern(size_t i, unsigned int seed)
{
	return (i * 31 + (i >> 12) * 7 + (i >> 20) * 13 + seed) & 0xff;
}

static inline void fill(unsigned char *p, size_t len, unsigned int seed)
{
	size_t i;

	for (i = 0; i < len; i++)
		p[i] = pattern(i, seed);
}

/* The offset of the first byte that differs from what fill() wrote, or len */
static inline size_t first_wrong(const unsigned char *p, size_t len, unsigned int seed)
{
	size_t i;

	for (i = 0; i < len && p[i] == pattern(i, seed); i++)
		;
	return i;
}

/* Takes a new buffer, fills it, and reads it back */
static inline void use_heap(struct __test_metadata *_metadata, const char *name, size_t len)
{
	int buf = get_buffer(_metadata, name, len);
	unsigned char *p = get_map(_metadata, buf, len);

	ASSERT_EQ(len, first_nonzero(p, len));
	fill(p, len, 1);
	ASSERT_EQ(len, first_wrong(p, len, 1));
	ASSERT_EQ(0, munmap(p, len));
	ASSERT_EQ(0, close(buf));
}

/* What the kernel tells */

static inline int read_text(const char *path, char *text, size_t size)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	size_t len = 0;
	ssize_t n = 0;

	while (fd >= 0 && len < size - 1 && (n = read(fd, text + len, size - 1 - len)) > 0)
		len += n;
	if (fd >= 0)
		close(fd);
	text[len] = '\0';
	return fd < 0 || n < 0 ? -1 : 0;
}

static inline int write_text(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC), ret, err;

	if (fd < 0)
		return -1;
	ret = write(fd, text, strlen(text)) < 0 ? -1 : 0;
	err = errno;
	close(fd);
	errno = err;
	return ret;
}

/* The number behind KEY in a file such as /proc/meminfo, or -1 */
static inline long long number_in(const char *path, const char *key)
{
	size_t len = strlen(key);
	char line[256];
	long long n = -1;
	FILE *f;

	f = fopen(path, "re");
	while (f && n < 0 && fgets(line, sizeof(line), f))
		if (!strncmp(line, key, len) && strchr(": \t", line[len]))
			n = atoll(line + len + 1);
	if (f)
		fclose(f);
	return n;
}

/* In bytes; 0 if the kernel has no such line */
static inline long long mem_bytes(const char *key)
{
	long long kib = number_in("/proc/meminfo", key);

	return kib < 0 ? 0 : kib * 1024;
}

/* The kernel's log, or "" */
static inline char *kernel_log(void)
{
	static char log[1 << 20];
	int n = klogctl(3, log, sizeof(log) - 1);	/* SYSLOG_ACTION_READ_ALL */

	log[n < 0 ? 0 : n] = '\0';
	return log;
}

/*
 * How many processes were killed for want of memory: since the boot, or, where the kernel
 * does not count, as far as its log goes back
 */
static inline long long oom_kills(void)
{
	long long n = number_in("/proc/vmstat", "oom_kill");
	const char *p;

	if (n >= 0)
		return n;
	n = 0;
	for (p = kernel_log(); (p = strstr(p, "Killed process ")); p++)
		n++;
	return n;
}

/* The log, from log_mark() on */

static inline void log_mark(struct __test_metadata *_metadata)
{
	static int number;
	char text[64];

	snprintf(text, sizeof(text), "dmabuf-heaps: mark %d %d\n", getpid(), ++number);
	ASSERT_EQ(0, write_text("/dev/kmsg", text));
}

/*
 * How many lines have both: a part, and a word of its own (NULL: any). One of them goes to
 * LINE. Each line begins with its level as <N>.
 */
static inline int log_count(const char *part, const char *word, char *line, size_t size)
{
	const char *ends = " \t,:;.'\"()\n";
	char *p, *w, *next, *text = kernel_log(), *from = text;
	size_t len = word ? strlen(word) : 0;
	int n;

	for (p = text; (p = strstr(p, "dmabuf-heaps: mark ")); p++)
		from = p;
	n = 0;
	for (next = from; (p = strsep(&next, "\n"));) {
		/* kernels that debug their objects have a line for each */
		if (!strstr(p, part) || strstr(p, "kobject") || strstr(p, "dmabuf-heaps: mark "))
			continue;
		for (w = p; word && (w = strstr(w, word)); w++)
			if ((w == p || strchr(ends, w[-1])) && (!w[len] || strchr(ends, w[len])))
				break;
		if (word && !w)
			continue;
		n++;
		snprintf(line, size, "%s", p);
	}
	return n;
}

static inline void expect_log(struct __test_metadata *_metadata, int lines, const char *part,
			      const char *word)
{
	char line[1024] = "";
	int n = log_count(part, word, line, sizeof(line));

	EXPECT_EQ(lines, n) {
		TH_LOG("lines with '%s' and '%s', the last: %s", part, word ?: "", line);
	}
}

/* Nobody said anything of the level of a warning, or worse */
static inline void expect_no_warning(struct __test_metadata *_metadata)
{
	char level[] = "<0>";

	for (; level[1] <= '4'; level[1]++)
		expect_log(_metadata, 0, level, NULL);
}

static inline double seconds_now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec + t.tv_nsec / 1e9;
}

/* How many buffers of the heap exist in the system, or -1 */
static inline int buffers_of(const char *heap)
{
	char line[1024], exporter[NAME_MAX + 1];
	bool complete = false;
	int n = 0;
	FILE *f;

	f = fopen(BUFINFO, "re");
	while (f && fgets(line, sizeof(line), f)) {
		if (sscanf(line, "%*x %*x %*x %*d %255s", exporter) == 1)
			n += !strcmp(exporter, heap);
		complete |= !strncmp(line, "Total ", 6);
	}
	if (f)
		fclose(f);
	return complete ? n : -1;
}

static inline int open_fds(void)
{
	DIR *d = opendir("/proc/self/fd");
	int n = 0;

	while (d && readdir(d))
		n++;
	if (d)
		closedir(d);
	return n;
}

struct memory {
	long long available, slab, vmalloc;
};

/* Memory when all is dropped that can be, and freed that is freed late; false: it never settles */
static inline bool measure(struct memory *m)
{
	struct memory now;
	char nothing[8];
	int i;

	for (i = 0; i < 40; i++) {
		sync();
		write_text("/proc/sys/vm/drop_caches", "3");
		/* what each CPU has counted and not added to the sums yet */
		read_text("/proc/sys/vm/stat_refresh", nothing, sizeof(nothing));
		now.available = mem_bytes("MemAvailable");
		now.slab = mem_bytes("Slab");
		now.vmalloc = mem_bytes("VmallocUsed");
		if (i > 3 && now.available <= m->available + (long long)(16 * KIB) &&
		    now.slab >= m->slab - (long long)(16 * KIB)) {
			*m = now;
			return true;
		}
		*m = now;
		usleep(250 * 1000);
	}
	return false;
}

/* A test that may run out of memory should not take others with it */
static inline void die_first(struct __test_metadata *_metadata)
{
	ASSERT_EQ(0, write_text("/proc/self/oom_score_adj", "1000"));
}

static inline unsigned long env_number(const char *name, unsigned long otherwise)
{
	const char *value = getenv(name);

	return value && *value ? strtoul(value, NULL, 0) : otherwise;
}

/* Modules */

static inline int run_modprobe(const char *args)
{
	char command[1024];

	snprintf(command, sizeof(command), "modprobe -q %.1000s", args);
	return system(command);
}

/* Loads the module in this file: 0, or -1 and errno */
static inline int load_file(const char *path, const char *params)
{
	int fd, ret, err;

	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -1;
	ret = syscall(SYS_finit_module, fd, params, 0);
	err = errno;
	close(fd);
	errno = err;
	return ret;
}

static inline int module_load(const struct heap_module *m)
{
	if (m->path[0])
		return load_file(m->path, m->params);
	errno = EIO;
	return run_modprobe(m->name) ? -1 : 0;
}

static inline int module_unload(const char *name)
{
	return syscall(SYS_delete_module, name, O_NONBLOCK);
}

/* How many hold the module, or -1 if it is not there, or not as it should be */
static inline int module_refs(const char *name)
{
	char line[4096], module[64], deps[256], state[16];
	int refs = -1, n;
	FILE *f;

	f = fopen("/proc/modules", "re");
	while (f && fgets(line, sizeof(line), f)) {
		if (sscanf(line, "%63s %*s %d %255s %15s", module, &n, deps, state) == 4 &&
		    !strcmp(module, name) && !strcmp(deps, "-") && !strcmp(state, "Live"))
			refs = n;
	}
	if (f)
		fclose(f);
	return refs;
}

static inline bool module_gone(const char *name)
{
	char path[PATH_MAX];

	snprintf(path, sizeof(path), "/sys/module/%s", name);
	return module_refs(name) < 0 && access(path, F_OK);
}

/* The module of a heap, or NULL if it is built in */
static inline struct heap_module *module_of(const char *heap)
{
	int i;

	for (i = 0; i < nr_modules; i++)
		if (names_have(&modules[i].heaps, heap))
			return &modules[i];
	return NULL;
}

/* So many must hold the heap's module, if it is one */
static inline void assert_refs(struct __test_metadata *_metadata, const char *heap, int refs)
{
	struct heap_module *m = module_of(heap);

	if (!m)
		return;
	ASSERT_EQ(refs, module_refs(m->name));
}

static inline void load_all(struct __test_metadata *_metadata)
{
	int i;

	/* A test that failed may have left it, with a heap */
	module_unload(SAMPLE);
	for (i = 0; i < nr_modules; i++)
		EXPECT_EQ(0, run_modprobe(modules[i].name));
	assert_heaps(_metadata, &heaps);
}

static inline void unload_all(struct __test_metadata *_metadata)
{
	int i;

	for (i = 0; i < nr_modules; i++)
		EXPECT_EQ(0, module_unload(modules[i].name));
	for (i = 0; i < nr_modules; i++)
		EXPECT_TRUE(module_gone(modules[i].name));
	assert_heaps(_metadata, &builtin_heaps);
}

/* The heaps can be loaded, used and unloaded, and so again */
static inline void check_all_work(struct __test_metadata *_metadata)
{
	int i;

	load_all(_metadata);
	for (i = 0; i < heaps.n; i++)
		use_heap(_metadata, heaps.name[i], page_size());
	unload_all(_metadata);
	load_all(_metadata);
}

/* The heaps that are left without this module */
static inline void heaps_without(const struct heap_module *m, struct names *left)
{
	int i;

	left->n = 0;
	for (i = 0; i < heaps.n; i++)
		if (!names_have(&m->heaps, heaps.name[i]))
			names_add(left, heaps.name[i]);
}

/* Nobody uses the module: it goes, and its heaps with it, and nothing else */
static inline void unload_one(struct __test_metadata *_metadata, const struct heap_module *m)
{
	struct names left;

	heaps_without(m, &left);
	ASSERT_EQ(0, module_unload(m->name)) {
		TH_LOG("%s does not unload: %s", m->name, strerror(errno));
	}
	ASSERT_TRUE(module_gone(m->name));
	assert_heaps(_metadata, &left);
}

/* Where the module's file is, unless it is compressed */
static inline void module_path(struct heap_module *m)
{
	char line[4096], dir[128], file[128], *p;
	struct utsname u;
	FILE *f;

	uname(&u);
	snprintf(dir, sizeof(dir), "/lib/modules/%s", u.release);
	snprintf(line, sizeof(line), "%s/modules.dep", dir);
	snprintf(file, sizeof(file), "/%s.ko", m->name);
	f = fopen(line, "re");
	while (f && !m->path[0] && fgets(line, sizeof(line), f)) {
		line[strcspn(line, ":")] = '\0';
		p = strrchr(line, '/');
		if (p && !strcmp(p, file))
			snprintf(m->path, sizeof(m->path), "%s/%.256s", dir, line);
	}
	if (f)
		fclose(f);
}

/* The parameters that it was loaded with, by modprobe.d or by the command line */
static inline void module_params(struct heap_module *m)
{
	char path[PATH_MAX], text[512];
	struct dirent *e;
	size_t len = 0;
	DIR *d;

	snprintf(path, sizeof(path), "/sys/module/%s/parameters", m->name);
	d = opendir(path);
	while (d && (e = readdir(d))) {
		snprintf(path, sizeof(path), "/sys/module/%s/parameters/%s", m->name, e->d_name);
		if (e->d_name[0] == '.' || read_text(path, text, sizeof(text)))
			continue;
		text[strcspn(text, "\n")] = '\0';
		if (text[0] && strcmp(text, "(null)") && len < sizeof(m->params))
			len += snprintf(m->params + len, sizeof(m->params) - len, "%s=%s ",
					e->d_name, text);
	}
	if (d)
		closedir(d);
}

/* Loads a module. It counts as one of ours if heaps come with it, and it can go again. */
static inline void find_module(const char *name, bool required)
{
	struct heap_module *m = &modules[nr_modules];
	struct names before, after;
	int i;

	memset(m, 0, sizeof(*m));
	snprintf(m->name, sizeof(m->name), "%s", name);
	heaps_now(&before);
	if (run_modprobe(name)) {
		if (required)
			ksft_exit_fail_msg("modprobe %s failed\n", name);
		return;
	}
	heaps_now(&after);
	for (i = 0; i < after.n; i++)
		if (!names_have(&before, after.name[i]))
			names_add(&m->heaps, after.name[i]);
	if (m->heaps.n && module_refs(name) >= 0) {
		module_path(m);
		module_params(m);
		nr_modules++;
	}
}

/*
 * Loads the modules, one after the other, to see which heaps come with each. Those of a
 * module that is in use, or built in, are there from the beginning.
 */
static inline void find_heaps(void)
{
	const char *list = getenv("HEAP_MODULES");
	char text[512], *name, *next;
	struct names now;
	bool required = list;

	if (geteuid())
		ksft_exit_skip("these tests are for root\n");
	snprintf(text, sizeof(text), "%s", list ?: MODULES);
	for (next = text; (name = strsep(&next, " "));)
		module_unload(name);
	heaps_now(&builtin_heaps);
	snprintf(text, sizeof(text), "%s", list ?: MODULES);
	for (next = text; (name = strsep(&next, " ")) && nr_modules < MAX_MODULES;)
		find_module(name, required);
	heaps_now(&now);
	heaps = now;
	if (!heaps.n)
		ksft_exit_skip("no heap in " DEVPATH "\n");
}

/*
 * The variants of a fixture are known only now. Each has a name, and the data that
 * FIXTURE_VARIANT() declares: here, a heap's name or a module.
 */
static inline void add_variant(struct __fixture_metadata *fixture, const char *name,
			       const void *data)
{
	struct __fixture_variant_metadata *variant = calloc(1, sizeof(*variant));

	variant->name = name;
	variant->data = data;
	__register_fixture_variant(fixture, variant);
}

#define FOR_EACH_HEAP(fixture)							\
do {										\
	for (int i = 0; i < heaps.n; i++)					\
		add_variant(&_##fixture##_fixture_object, heaps.name[i],	\
			    heaps.name[i]);					\
} while (0)

#define FOR_EACH_MODULE(fixture)						\
do {										\
	for (int i = 0; i < nr_modules; i++)					\
		add_variant(&_##fixture##_fixture_object, modules[i].name,	\
			    &modules[i]);					\
} while (0)

static inline int zram_remove(int id)
{
	char text[16];

	snprintf(text, sizeof(text), "%d", id);
	return write_text("/sys/class/zram-control/hot_remove", text);
}

/* A block device of the machine's memory that nobody else uses: its number, or -1 */
static inline int zram_add(size_t size, char *dev, size_t len)
{
	char text[32], path[64];
	int id;

	run_modprobe("zram");
	if (read_text("/sys/class/zram-control/hot_add", text, sizeof(text)))
		return -1;
	id = atoi(text);
	snprintf(dev, len, "/dev/zram%d", id);
	snprintf(path, sizeof(path), "/sys/block/zram%d/disksize", id);
	snprintf(text, sizeof(text), "%zu", size);
	if (write_text(path, text)) {
		zram_remove(id);
		return -1;
	}
	return id;
}

/* Swap, as mkswap would make it */
static inline void make_swap(struct __test_metadata *_metadata, const char *dev, size_t size)
{
	long page = page_size();
	__u32 head[3] = { 1, size / page - 1, 0 };	/* version, last page, bad pages */
	char *p = calloc(1, page);
	int fd;

	memcpy(p + 1024, head, sizeof(head));
	memcpy(p + page - 10, "SWAPSPACE2", 10);
	fd = open(dev, O_WRONLY | O_CLOEXEC);
	ASSERT_LE(0, fd);
	ASSERT_EQ(page, write(fd, p, page));
	ASSERT_EQ(0, fsync(fd));
	close(fd);
	free(p);
}

/* In the kernel: test_modules/dma_heap_test.c, and the driver in samples/dma-buf */

/* The device of a module in test_modules, which is loaded if need be; or -1 */
static inline int open_device_of(const char *module)
{
	char exe[PATH_MAX] = "", dev[64], path[PATH_MAX + 64];

	snprintf(dev, sizeof(dev), "/dev/%s", module);
	if (access(dev, F_OK) && readlink("/proc/self/exe", exe, sizeof(exe) - 1) > 0) {
		*strrchr(exe, '/') = '\0';
		snprintf(path, sizeof(path), "%s/test_modules/%s.ko", exe, module);
		if (load_file(path, "") && run_modprobe(module))
			return -1;
	}
	return open(dev, O_RDWR | O_CLOEXEC);
}

static inline int open_test_module(void)
{
	return open_device_of(DMA_HEAP_TEST);
}

/*
 * The driver's directory in sysfs goes with its last reference, which
 * DEBUG_KOBJECT_RELEASE drops seconds later: until then it cannot be loaded again.
 */
static inline void unload_sample(struct __test_metadata *_metadata)
{
	int i;

	ASSERT_EQ(0, module_unload(SAMPLE));
	for (i = 0; i < 200 && !access(SAMPLE_DRIVER, F_OK); i++)
		usleep(50 * 1000);
	ASSERT_EQ(-1, access(SAMPLE_DRIVER, F_OK));
	ASSERT_EQ(-1, access(SAMPLE_DEVICE, F_OK));
	ASSERT_TRUE(module_gone(SAMPLE));
}

/* False if this kernel has no sample driver */
static inline bool load_sample(struct __test_metadata *_metadata, const char *heap, size_t len)
{
	char args[512], text[NAME_MAX + 2];

	snprintf(args, sizeof(args), SAMPLE " 'heap=%s' len=%zu", heap, len);
	if (run_modprobe(args))
		return false;
	ASSERT_EQ(0, read_text(SAMPLE_DEVICE "/heap", text, sizeof(text)));
	text[strcspn(text, "\n")] = '\0';
	ASSERT_STREQ(heap, text);
	return true;
}

#endif /* DMABUF_HEAPS_H */
