// SPDX-License-Identifier: GPL-2.0
/*
 * Tests of heap modules that come and go, as TAP:
 *
 *	unload-test [--coherent] GROUP...
 *
 *	unload		a module stays as long as somebody uses a heap of it, and no longer
 *	reload [N]	N rounds (1000) of loading, using and unloading change nothing
 *	lifecycle	processes that die, fork, and pass buffers on leave nothing behind
 *	boundaries	requests around every limit get the right answer, and kill nobody
 *	failnth		each allocation of memory fails in turn (CONFIG_FAULT_INJECTION)
 *	loadnth MODULE	likewise while a heap module is loaded
 *
 * Loads the heap modules and tests the heaps that they bring: those of system_heap and cma_heap,
 * or of coherent_heap, of all regions, with --coherent. Each test runs in a process
 * of its own. No test is ever skipped.
 */
#include <endian.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include "test.h"

#define LEN	(64 * KIB)

static struct names heaps;		/* all of them, with both modules loaded */
static struct names heaps_of[HEAP_MODULES];
static struct names none;
static char module_file[HEAP_MODULES][300], sample_file[300];
static long page;

static bool is_heap_module(const char *name)
{
	int m;

	for (m = 0; m < HEAP_MODULES; m++)
		if (!strcmp(name, heap_modules[m]))
			return true;
	return false;
}

static int module_index(const char *module)
{
	return strcmp(module, heap_modules[SYSTEM_HEAP]) ? REGION_HEAP : SYSTEM_HEAP;
}

static bool all_loaded(void)
{
	return modprobe(heap_modules[SYSTEM_HEAP]) && modprobe(heap_modules[REGION_HEAP]) &&
	       heaps_are(&heaps);
}

/* Unloads a module that nobody uses: the heaps that are left are those of the other. */
static bool unload_one(int m)
{
	if (module_unload(heap_modules[m]))
		return fail("expected %s to unload, saw %s", heap_modules[m], strerror(errno));
	return module_gone(heap_modules[m]) && heaps_are(&heaps_of[!m]);
}

/* Fills a new buffer, and reads it back. */
static bool usable(const char *heap)
{
	unsigned char *p;
	size_t at;
	int buf;

	buf = get_buffer(heap, LEN);
	p = buf < 0 ? NULL : get_map(buf, LEN);
	if (!p)
		return false;
	at = first_nonzero(p, LEN);
	if (at != LEN)
		return fail("expected a zeroed buffer, saw 0x%02x at byte %zu", p[at], at);
	fill(p, LEN, buf);
	at = first_wrong(p, LEN, buf);
	if (at != LEN)
		return fail("expected 0x%02x at byte %zu, saw 0x%02x", pattern(at, buf), at, p[at]);
	return munmap(p, LEN) || close(buf) ? fail("munmap or close: %s", strerror(errno)) : true;
}

static bool read_back(const unsigned char *p, size_t len, unsigned int seed)
{
	size_t at = first_wrong(p, len, seed);

	return at == len ? true :
	       fail("expected 0x%02x at byte %zu, saw 0x%02x", pattern(at, seed), at, p[at]);
}

/* A child that ends with its parent; 0 in the child */
static pid_t fork_child(void)
{
	pid_t pid = fork();

	if (!pid)
		prctl(PR_SET_PDEATHSIG, SIGKILL);
	else if (pid < 0)
		fail("cannot fork: %s", strerror(errno));
	return pid;
}

/* The child must end well; it says why if it does not. */
static bool child_ends(pid_t pid)
{
	int status = 0;

	if (waitpid(pid, &status, 0) != pid)
		return fail("waitpid: %s", strerror(errno));
	if (WIFSIGNALED(status))
		return fail("the child died: %s", strsignal(WTERMSIG(status)));
	return !status;
}

static bool sockets;	/* the kernel has them: expect/ says where it must */

static void find_sockets(void)
{
	int sock = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	sockets = sock >= 0;
	if (sock >= 0)
		close(sock);
}

static bool send_fd(int sock, int fd)
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
	return sendmsg(sock, &msg, 0) == 1 ? true : fail("sendmsg: %s", strerror(errno));
}

static int receive_fd(int sock)
{
	char byte, control[CMSG_SPACE(sizeof(int))] = "";
	struct iovec iov = { .iov_base = &byte, .iov_len = 1 };
	struct msghdr msg = {
		.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = control,
		.msg_controllen = sizeof(control),
	};
	struct cmsghdr *c;
	int fd = -1;

	if (recvmsg(sock, &msg, MSG_CMSG_CLOEXEC) != 1)
		return fail("recvmsg: %s", strerror(errno)) - 1;
	c = CMSG_FIRSTHDR(&msg);
	if (!c || c->cmsg_type != SCM_RIGHTS)
		return fail("expected an fd in the message, saw none") - 1;
	memcpy(&fd, CMSG_DATA(c), sizeof(fd));
	return fd;
}

/* unload */

static struct {
	int fd, sock[2];
	void *map;
	pid_t child;
	struct import import;
} held;

static bool take_heap(const char *heap)
{
	held.fd = get_heap(heap);
	return held.fd >= 0;
}

static bool take_buffer(const char *heap)
{
	held.fd = get_buffer(heap, LEN);	/* the heap's fd is closed there */
	return held.fd >= 0;
}

static bool close_held(void)
{
	return close(held.fd) ? fail("close: %s", strerror(errno)) : true;
}

static bool take_map(const char *heap)
{
	if (!take_buffer(heap))
		return false;
	held.map = get_map(held.fd, LEN);
	if (!held.map || !close_held())
		return false;
	fill(held.map, LEN, 4);
	return true;
}

static bool drop_map(void)
{
	if (!read_back(held.map, LEN, 4))
		return false;
	return munmap(held.map, LEN) ? fail("munmap: %s", strerror(errno)) : true;
}

static bool take_import(const char *heap)
{
	if (!take_buffer(heap) || !import_take(&held.import, held.fd) || !close_held())
		return false;
	held.fd = held.import.fd;
	return true;
}

static bool drop_import(void)
{
	return import_drop(&held.import) && close_held();
}

static bool take_message(const char *heap)
{
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, held.sock))
		return fail("socketpair: %s", strerror(errno));
	return take_buffer(heap) && send_fd(held.sock[0], held.fd) && close_held() &&
	       (!close(held.sock[0]) || fail("close: %s", strerror(errno)));
}

/* Nobody ever receives it. */
static bool drop_message(void)
{
	return close(held.sock[1]) ? fail("close: %s", strerror(errno)) : true;
}

static bool take_copy(const char *heap)
{
	int to[2];
	char byte;

	if (!take_buffer(heap))
		return false;
	if (pipe2(to, O_CLOEXEC))
		return fail("no pipe: %s", strerror(errno));
	held.child = fork_child();
	if (!held.child) {
		close(to[1]);
		_exit(read(to[0], &byte, 1));	/* 0, when the parent closes its end */
	}
	held.sock[0] = to[1];
	close(to[0]);
	return held.child > 0 && close_held();
}

static bool drop_copy(void)
{
	close(held.sock[0]);
	return child_ends(held.child);
}

static bool load_sample(const char *heap, unsigned long len)
{
	char params[300], text[300];

	snprintf(params, sizeof(params), "heap=%s len=%lu", heap, len);
	if (module_load(sample_file, params))
		return fail("expected " SAMPLE " to load with %s, saw %s", params, strerror(errno));
	if (!read_file(SAMPLE_DEVICE "/heap", text, sizeof(text)))
		return false;
	text[strcspn(text, "\n")] = '\0';
	if (strcmp(text, heap))
		return fail("expected the sample to use %s, saw %s", heap, text);
	return true;
}

static bool take_driver(const char *heap)
{
	return load_sample(heap, LEN);
}

static const struct hold {
	const char *name;
	int refs;
	bool (*take)(const char *heap);
	bool (*drop)(void);
} holds[] = {
	{ "an open heap holds it", 1, take_heap, close_held },
	{ "a buffer holds it", 1, take_buffer, close_held },
	{ "a mapping holds it", 1, take_map, drop_map },
	{ "an importer holds it", 1, take_import, drop_import },
	{ "a message in a socket holds it", 1, take_message, drop_message },
	{ "a copy in another process holds it", 1, take_copy, drop_copy },
	{ "a driver holds it", 2, take_driver, sample_unload },	/* the heap and a buffer */
};

static const struct hold *hold;		/* of the test that is next */

static bool held_by(int m, const char *heap)
{
	const char *module = heap_modules[m];

	if (!refs_are(module, 0) || !hold->take(heap) || !refs_are(module, hold->refs))
		return false;
	/* more than once: being refused must change nothing */
	if (!fails_with("unloading in use", module_unload(module), EWOULDBLOCK) ||
	    !fails_with("unloading again", module_unload(module), EWOULDBLOCK) ||
	    !refs_are(module, hold->refs) || !heaps_are(&heaps) || !usable(heap))
		return false;
	if (!hold->drop() || !refs_are(module, 0))
		return false;
	return unload_one(m) && modprobe(module) && heaps_are(&heaps) && usable(heap);
}

static bool module_held(const char *module)
{
	int m = module_index(module), i, before;

	if (!all_loaded())
		return false;
	before = buffers();
	if (!heaps_of[m].n)
		return fail("expected heaps of %s, saw none", module);
	for (i = 0; i < heaps_of[m].n; i++)
		if (!held_by(m, heaps_of[m].name[i]))
			return fail_at(heaps_of[m].name[i]);
	return buffers_are(before);
}

static bool not_permanent(const char *module)
{
	return all_loaded() && refs_are(module, 0);
}

/* Meanwhile the other module, and a buffer of it, do as before. */
static bool unloads(const char *module)
{
	int m = module_index(module), i, round, buf;
	unsigned char *p;

	if (!all_loaded())
		return false;
	if (!heaps_of[!m].n)
		return fail("expected heaps of %s, saw none", heap_modules[!m]);
	buf = get_buffer(heaps_of[!m].name[0], LEN);
	p = buf < 0 ? NULL : get_map(buf, LEN);
	if (!p)
		return false;
	fill(p, LEN, 6);
	for (round = 0; round < 5; round++) {
		if (!unload_one(m) || !read_back(p, LEN, 6) || !usable(heaps_of[!m].name[0]) ||
		    !modprobe(module) || !heaps_are(&heaps))
			return false;
		for (i = 0; i < heaps_of[m].n; i++)
			if (!usable(heaps_of[m].name[i]))
				return fail_at(heaps_of[m].name[i]);
	}
	return true;
}

static void group_unload(void)
{
	unsigned int i;
	int m;

	for (m = 0; m < HEAP_MODULES; m++) {
		run_test(heap_modules[m], "is not permanent", not_permanent, heap_modules[m]);
		run_test(heap_modules[m], "unloads, and loads again", unloads, heap_modules[m]);
		for (i = 0; i < ARRAY_SIZE(holds); i++) {
			if (holds[i].take == take_message && !sockets)
				continue;
			hold = &holds[i];
			run_test(heap_modules[m], hold->name, module_held, heap_modules[m]);
		}
	}
}

#define UNLOAD_TESTS	(HEAP_MODULES * (2 + ARRAY_SIZE(holds) - !sockets))

/* reload */

#define MINORS		128	/* NUM_HEAP_MINORS in dma-heap.c */
#define WARM_UP		20	/* rounds before the first measurement */

/*
 * How much less memory there may be after rounds, in bytes: a fixed amount, for what has
 * nothing to do with them, and a part that grows. A heap leaked in each is 1 KiB and more,
 * a module three pages and more. (Not on a kernel with KASAN, which keeps what is freed.)
 */
#define SLAB_FIXED	(32 * KIB)
#define SLAB_ROUND	64
#define FREE_FIXED	(256 * KIB)
#define FREE_ROUND	256

struct memory {
	long long available, slab, vmalloc;
};

static struct {
	int rounds, done, minor;	/* minor: the highest seen */
	struct memory start, half, end;
	struct names before, after;
	char modules_before[4096], modules_after[4096];
} *rel;					/* shared with the tests' processes */

/* Memory when all that can be dropped is, and what is freed late is freed. */
static bool measure(struct memory *m)
{
	struct memory now;
	int i;

	for (i = 0; i < 40; i++) {
		sync();
		if (!write_file("/proc/sys/vm/drop_caches", "3"))
			return false;
		now.available = meminfo("MemAvailable");
		now.slab = meminfo("Slab");
		now.vmalloc = meminfo("VmallocUsed");
		if (now.available < 0 || now.slab < 0 || now.vmalloc < 0)
			return false;
		if (i > 3 && now.available <= m->available + 16 * (long long)KIB &&
		    now.slab >= m->slab - 16 * (long long)KIB) {
			*m = now;
			return true;
		}
		*m = now;
		usleep(250 * 1000);
	}
	return fail("expected free memory to settle in 10 s, saw it change");
}

static bool use_once(const char *heap)
{
	unsigned char *p;
	struct stat st;
	int fd, buf;

	fd = get_heap(heap);
	if (fd < 0)
		return false;
	if (!fstat(fd, &st) && rel->minor < (int)minor(st.st_rdev))
		rel->minor = minor(st.st_rdev);
	buf = heap_alloc(fd, LEN);
	if (buf < 0)
		return fail("expected a buffer, saw %s", strerror(errno));
	p = get_map(buf, LEN);
	if (!p)
		return false;
	if (p[0] || p[LEN - 1])
		return fail("expected zeroes, saw 0x%02x and 0x%02x", p[0], p[LEN - 1]);
	memset(p, 0xa5, LEN);
	munmap(p, LEN);
	close(buf);
	close(fd);
	return true;
}

/* The modules come and go in either order, so that the minors are not always the same. */
static bool reload_round(int round)
{
	int i, m = round % 2;

	if (!round) {
		if (!modprobe(heap_modules[m]) || !modprobe(heap_modules[!m]))
			return false;
	} else if (module_load(module_file[m], params_of(heap_modules[m])) ||
		   module_load(module_file[!m], params_of(heap_modules[!m]))) {
		return fail("expected the modules to load, saw %s", strerror(errno));
	}
	if (!heaps_are(&heaps))
		return false;
	for (i = 0; i < heaps.n; i++)
		if (!use_once(heaps.name[i]))
			return fail_at(heaps.name[i]);
	m = round / 2 % 2;
	if (module_unload(heap_modules[m]) || module_unload(heap_modules[!m]))
		return fail("expected the modules to unload, saw %s", strerror(errno));
	return heaps_are(&none);
}

static bool reload_rounds(const char *arg)
{
	int i, total = WARM_UP + 2 * (rel->rounds / 2);
	char where[32];

	(void)arg;
	if (!all_loaded() || !unload_one(SYSTEM_HEAP) || module_unload(heap_modules[REGION_HEAP]))
		return fail_at("at the start");
	heaps_now(&rel->before);
	if (!read_file("/proc/modules", rel->modules_before, sizeof(rel->modules_before)))
		return false;
	for (i = 0; i < total; i++) {
		if ((i == WARM_UP && !measure(&rel->start)) ||
		    (i == WARM_UP + rel->rounds / 2 && !measure(&rel->half)))
			return false;
		if (!reload_round(i)) {
			snprintf(where, sizeof(where), "round %d", i);
			return fail_at(where);
		}
		rel->done = i + 1;
	}
	heaps_now(&rel->after);
	return read_file("/proc/modules", rel->modules_after, sizeof(rel->modules_after)) &&
	       measure(&rel->end);
}

static bool reload_done(void)
{
	int total = WARM_UP + 2 * (rel->rounds / 2);

	return rel->done == total ? true : fail("expected %d rounds, saw %d", total, rel->done);
}

static bool same_nodes(const char *arg)
{
	char text[2048];

	(void)arg;
	join(text, sizeof(text), &rel->after);
	if (!reload_done())
		return false;
	return rel->before.n || rel->after.n ? fail("expected no heaps left, saw %s", text) : true;
}

static bool same_modules(const char *arg)
{
	(void)arg;
	if (!reload_done())
		return false;
	return strcmp(rel->modules_before, rel->modules_after) ?
	       fail("expected the modules: %s; saw: %s", rel->modules_before, rel->modules_after) :
	       true;
}

static bool minors_again(const char *arg)
{
	(void)arg;
	if (!reload_done())
		return false;
	if (rel->done <= MINORS)
		return fail("expected more rounds than there are minors, saw %d", rel->done);
	return rel->minor < heaps.n ? true :
	       fail("expected no minor above %d, saw %d", heaps.n - 1, rel->minor);
}

/* What one half of the rounds cost */
static bool half_is_free(int half, const struct memory *a, const struct memory *b)
{
	int rounds = rel->rounds / 2, from = WARM_UP + half * rounds;
	long long slab_max = SLAB_FIXED + (long long)SLAB_ROUND * rounds;
	long long free_max = FREE_FIXED + (long long)FREE_ROUND * rounds;
	long long slab = b->slab - a->slab, lost = a->available - b->available;
	long long vmalloc = b->vmalloc - a->vmalloc;

	ksft_print_msg("rounds %d-%d: Slab %+lld, MemAvailable %+lld, VmallocUsed %+lld bytes\n",
		       from, from + rounds - 1, slab, -lost, vmalloc);
	if (slab > slab_max)
		return fail("expected Slab to grow by %lld bytes at most, saw %lld", slab_max,
			    slab);
	if (lost > free_max)
		return fail("expected MemAvailable to fall by %lld bytes at most, saw %lld",
			    free_max, lost);
	if (vmalloc > (long long)SLAB_FIXED)
		return fail("expected VmallocUsed to stay, saw it grow by %lld bytes", vmalloc);
	return true;
}

/* Each half must cost next to nothing: what leaks in each round does so in both. */
static bool same_memory(const char *arg)
{
	bool first, second;

	(void)arg;
	if (!reload_done())
		return false;
	second = half_is_free(1, &rel->half, &rel->end) || fail_at("second half");
	first = half_is_free(0, &rel->start, &rel->half) || fail_at("first half");
	return first && second;
}

static void group_reload(int rounds)
{
	unsigned int seconds = test_seconds;

	rel = mmap(NULL, sizeof(*rel), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (rel == MAP_FAILED)
		ksft_exit_fail_msg("no shared memory: %s\n", strerror(errno));
	rel->rounds = rounds;
	test_seconds = 300 + 20 * rounds;
	run_test("reload", "rounds of load, use and unload", reload_rounds, NULL);
	test_seconds = seconds;
	run_test("reload", "no node is left", same_nodes, NULL);
	run_test("reload", "no module is left", same_modules, NULL);
	run_test("reload", "the minor numbers are used again", minors_again, NULL);
	run_test("reload", "memory is as before", same_memory, NULL);
	munmap(rel, sizeof(*rel));
}

#define RELOAD_TESTS	5

/* lifecycle, and what else looks for leaks */

#define CMA_SLACK	(2 * MIB)	/* of CmaFree: other pages move in and out */

struct state {
	int buffers, fds;
	long long oom_kills, cma_free;	/* cma_free: 0 without CMA heaps */
};

/*
 * Of each heap in "heaps", or 0 for the system heap: the largest buffer that it gave at the
 * start, which is the whole area if nobody else uses that; and how large the area is.
 */
static size_t largest[MAX_HEAPS], area[MAX_HEAPS];

static int heap_index(const char *heap)
{
	int i;

	for (i = 0; i < heaps.n && strcmp(heaps.name[i], heap); i++)
		;
	return i;
}

static bool measure_largest(int i)
{
	long long total = coherent_regions() ? (long long)(1024 * MIB) : meminfo("CmaTotal");
	size_t low = 0, high, pages;
	int fd, buf;

	fd = total < 0 ? -1 : get_heap(heaps.name[i]);
	if (fd < 0)
		return false;
	for (high = total / page; low < high;) {
		pages = low + (high - low + 1) / 2;
		buf = heap_alloc(fd, pages * page);
		if (buf < 0) {
			high = pages - 1;
		} else {
			low = pages;
			close(buf);
		}
	}
	close(fd);
	largest[i] = low * page;
	return low ? true : fail("expected the heap to give a page, saw %s", strerror(errno));
}

/* The default area has two names, and the kernel itself may have taken a part of it. */
static bool in_default_area(int i)
{
	int d = heap_index("default_cma_region"), buf, other, fd;

	if (d == heaps.n || i == d)
		return i == d;
	buf = get_buffer(heaps.name[d], largest[d]);
	fd = get_heap(heaps.name[i]);
	other = heap_alloc(fd, largest[i]);
	close(fd);
	close(buf);
	if (other >= 0)
		close(other);
	return buf >= 0 && other < 0;
}

/* Of the region with that name, as the device tree says */
static size_t region_size(const char *name)
{
	__be64 reg[2];
	char path[400];
	ssize_t n;
	int fd;

	snprintf(path, sizeof(path), "/proc/device-tree/reserved-memory/%s/reg", name);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	n = fd < 0 ? -1 : read(fd, reg, sizeof(reg));
	if (n != sizeof(reg))
		return fail("expected an address and a size in %s, saw none", path);
	close(fd);
	return be64toh(reg[1]);
}

static bool measure_regions(void)
{
	int i;

	if (!all_loaded())
		return false;
	for (i = 0; i < heaps.n; i++) {
		if (module_of(heaps.name[i]) != REGION_HEAP)
			continue;
		area[i] = region_size(heaps.name[i]);
		if (!area[i] || !measure_largest(i))
			return fail_at(heaps.name[i]);
	}
	return true;
}

static bool measure_areas(void)
{
	long long rest = meminfo("CmaTotal");
	bool in_default[MAX_HEAPS] = { 0 };
	int i;

	if (coherent_regions())
		return measure_regions();
	if (rest < 0 || !all_loaded())
		return false;
	for (i = 0; i < heaps.n; i++)
		if (module_of(heaps.name[i]) == REGION_HEAP && !measure_largest(i))
			return fail_at(heaps.name[i]);
	for (i = 0; i < heaps.n; i++) {
		in_default[i] = largest[i] && in_default_area(i);
		if (!in_default[i])
			rest -= largest[i];
		area[i] = largest[i];
	}
	for (i = 0; i < heaps.n; i++)
		if (in_default[i])
			area[i] = rest;
	return true;
}

/*
 * What is free of the other areas while a heap has given as much as at the start. Pages
 * that were freed wait in lists of each CPU, and count only when such a buffer drained them.
 */
static long long cma_free(const char *heap)
{
	long long n;
	int buf;

	if (!largest[heap_index(heap)])
		return 0;
	buf = get_buffer(heap, largest[heap_index(heap)]);
	if (buf < 0)
		return fail_at("as large as at the start") - 1;
	n = coherent_regions() ? 0 : meminfo("CmaFree");
	close(buf);
	return n;
}

static bool state_take(const char *heap, struct state *s)
{
	s->buffers = buffers();
	s->fds = open_fds();
	s->oom_kills = oom_kills();
	s->cma_free = s->buffers < 0 || s->fds < 0 || s->oom_kills < 0 ? -1 : cma_free(heap);
	return s->cma_free >= 0 && refs_are(heap_modules[module_of(heap)], 0);
}

static bool state_is(const char *heap, const struct state *s)
{
	const char *module = heap_modules[module_of(heap)];
	long long now;
	int fds;

	if (!buffers_are(s->buffers) || !refs_are(module, 0))
		return false;
	fds = open_fds();
	if (fds != s->fds)
		return fail("expected %d open fds, saw %d", s->fds, fds);
	now = oom_kills();
	if (now != s->oom_kills)
		return now < 0 ? false : fail("expected no OOM kill, saw %lld", now - s->oom_kills);
	now = cma_free(heap);
	if (now < 0 || s->cma_free <= now + (long long)CMA_SLACK)
		return now >= 0;
	return fail("expected CmaFree to be back at %lld or no more than %lu below, saw %lld",
		    s->cma_free, CMA_SLACK, now);
}

#define KILLS	40

/* Allocates until it is killed. BUSY is set while it is in the ioctl. */
static void __attribute__((noreturn)) allocate_for_ever(const char *heap, size_t large, int *busy)
{
	int i, fd, buf[4];
	void *p;

	fd = heap_open(heap);
	for (i = 0; fd >= 0; i++) {
		buf[i % 4] = heap_alloc(fd, i % 2 ? large : LEN);
		__atomic_store_n(busy, 0, __ATOMIC_SEQ_CST);
		if (buf[i % 4] < 0)
			break;
		p = buffer_map(buf[i % 4], LEN);
		if (p == MAP_FAILED)
			break;
		memset(p, 0xa5, LEN);
		if (i >= 3) {	/* the other three stay until the end */
			munmap(p, LEN);
			close(buf[i % 4]);
			i = 2;
		}
		__atomic_store_n(busy, 1, __ATOMIC_SEQ_CST);
	}
	_exit(1);
}

static bool killed(const char *heap)
{
	struct state before;
	int i, hits = 0, status, *busy;
	size_t large = 16 * MIB, max = largest[heap_index(heap)];
	pid_t pid;

	busy = mmap(NULL, page, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (!all_loaded() || !state_take(heap, &before) || busy == MAP_FAILED)
		return false;
	if (max && large > max / 4)
		large = max / 4;
	srand(1);
	for (i = 0; i < KILLS || (!hits && i < 20 * KILLS); i++) {
		*busy = 1;
		pid = fork_child();
		if (pid < 0)
			return false;
		if (!pid)
			allocate_for_ever(heap, large, busy);
		usleep(rand() % 40000);
		kill(pid, SIGKILL);
		if (waitpid(pid, &status, 0) != pid)
			return fail("waitpid: %s", strerror(errno));
		if (!WIFSIGNALED(status))
			return fail("expected the child to live until its kill, saw it end");
		hits += *busy;
		if (!buffers_are(before.buffers))
			return false;
	}
	if (!hits)
		return fail("expected some of %d kills in the ioctl, saw none", i);
	ksft_print_msg("%s: %d of %d kills came in the ioctl\n", heap, hits, i);
	return state_is(heap, &before);
}

static bool forked(const char *heap)
{
	struct state before;
	unsigned char *p;
	pid_t pid;
	int buf;

	if (!all_loaded() || !state_take(heap, &before))
		return false;
	buf = get_buffer(heap, LEN);
	p = buf < 0 ? NULL : get_map(buf, LEN);
	if (!p)
		return false;
	pid = fork_child();
	if (!pid) {
		fill(p, LEN, 7);	/* through the map that it inherited */
		p = get_map(buf, LEN);
		_exit(!p || !read_back(p, LEN, 7));
	}
	if (pid < 0 || !child_ends(pid) || !buffers_are(before.buffers + 1) ||
	    !read_back(p, LEN, 7) || munmap(p, LEN))
		return false;
	p = get_map(buf, LEN);
	if (!p || !read_back(p, LEN, 7))
		return false;
	munmap(p, LEN);
	close(buf);
	return state_is(heap, &before);
}

static bool passed(const char *heap)
{
	struct state before;
	unsigned char *p;
	int sock[2], buf;
	pid_t pid;

	if (!all_loaded() || !state_take(heap, &before))
		return false;
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sock))
		return fail("socketpair: %s", strerror(errno));
	pid = fork_child();
	if (!pid) {
		buf = get_buffer(heap, LEN);
		p = buf < 0 ? NULL : get_map(buf, LEN);
		if (!p)
			_exit(1);
		fill(p, LEN, 8);
		_exit(!send_fd(sock[0], buf));
	}
	/* the sender is gone before the message is read */
	if (pid < 0 || !child_ends(pid) || !buffers_are(before.buffers + 1))
		return false;
	buf = receive_fd(sock[1]);
	p = buf < 0 ? NULL : get_map(buf, LEN);
	if (!p || !read_back(p, LEN, 8))
		return false;
	close(sock[0]);
	close(sock[1]);
	munmap(p, LEN);
	close(buf);
	return state_is(heap, &before);
}

static bool heap_closed_first(const char *heap)
{
	const char *module = heap_modules[module_of(heap)];
	struct state before;
	int fd, buf;

	if (!all_loaded() || !state_take(heap, &before))
		return false;
	fd = get_heap(heap);
	if (fd < 0 || !refs_are(module, 1))
		return false;
	buf = heap_alloc(fd, LEN);
	if (buf < 0)
		return fail("expected a buffer, saw %s", strerror(errno));
	if (!refs_are(module, 2) || close(fd) || !refs_are(module, 1) ||
	    !buffers_are(before.buffers + 1) || close(buf))
		return false;
	return state_is(heap, &before);
}

static bool exits(const char *heap)
{
	struct state before;
	int i, fd, buf;
	pid_t pid;

	if (!all_loaded() || !state_take(heap, &before))
		return false;
	pid = fork_child();
	if (!pid) {
		fd = get_heap(heap);
		for (i = 0; fd >= 0 && i < 20; i++) {
			buf = get_buffer(heap, LEN);
			if (buf < 0 || !get_map(buf, LEN) || (i % 2 && close(buf)))
				_exit(1);
		}
		_exit(fd < 0 || !buffers_are(before.buffers + 20));
	}
	return pid > 0 && child_ends(pid) && state_is(heap, &before);
}

static const struct {
	const char *name;
	test_fn fn;
} lifecycle[] = {
	{ "a process killed while it allocates leaves nothing", killed },
	{ "a buffer is shared over fork, and outlives the child", forked },
	{ "a buffer passed over a socket outlives the sender", passed },
	{ "a buffer holds the module when the heap's fd is closed", heap_closed_first },
	{ "a process that exits leaves nothing", exits },
};

static void need_areas(void)
{
	if (!measure_areas())
		ksft_exit_fail_msg("cannot measure the areas: %s\n", why);
}

static void group_lifecycle(void)
{
	unsigned int t;
	int i;

	need_areas();
	for (i = 0; i < heaps.n; i++)
		for (t = 0; t < ARRAY_SIZE(lifecycle); t++)
			if (lifecycle[t].fn != passed || sockets)
				run_test(heaps.name[i], lifecycle[t].name, lifecycle[t].fn,
					 heaps.name[i]);
}

/* boundaries */

/*
 * Seconds of CPU time that a refusal may take. Finding out by filling the guest's memory
 * with zeroes takes more than ten times as long.
 */
#define AT_ONCE		0.05

enum answer { WORKS, INVALID, TOO_LARGE, EITHER };	/* EITHER: it works, or ENOMEM */

static double cpu_seconds(void)
{
	struct timespec t;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
	return t.tv_sec + t.tv_nsec / 1e9;
}

static bool ask(const char *heap, __u64 len, enum answer want)
{
	int fd, buf, err;
	double t;
	off_t size;

	fd = get_heap(heap);
	if (fd < 0)
		return false;
	t = cpu_seconds();
	buf = heap_alloc(fd, len);
	err = buf < 0 ? errno : 0;
	t = cpu_seconds() - t;
	close(fd);
	if (want == EITHER && (!err || err == ENOMEM))
		want = err ? want : WORKS;
	else if ((want == INVALID) != (err == EINVAL) || (want == TOO_LARGE) != (err == ENOMEM) ||
		 (want == WORKS) != !err)
		return fail("length %llu: expected %s, saw %s", len,
			    want == INVALID ? "EINVAL" : want == WORKS ? "a buffer" : "ENOMEM",
			    err ? strerror(err) : "a buffer");
	if ((want == INVALID || want == TOO_LARGE) && t > AT_ONCE)
		return fail("length %llu: expected an answer within %.2f s, saw it after %.2f s",
			    len, AT_ONCE, t);
	if (want == WORKS) {
		size = lseek(buf, 0, SEEK_END);
		if (size != (off_t)((len + page - 1) & -page))
			return fail("length %llu: expected it rounded up to pages, saw %lld", len,
				    (long long)size);
		close(buf);
	}
	return true;
}

/* What the answer is to a length that depends on how much there is */
static enum answer depends(__u64 len, __u64 all)
{
	return len > all ? TOO_LARGE : EITHER;
}

static __u64 all_memory(void)
{
	long long total = meminfo("MemTotal");

	return total < 0 ? 0 : total;
}

static bool one_tib(const char *heap, size_t max)
{
	(void)max;
	return ask(heap, 1ULL << 40, TOO_LARGE) && ask(heap, (1ULL << 40) - 1, TOO_LARGE) &&
	       ask(heap, (1ULL << 40) + 1, TOO_LARGE);
}

static bool around_page(const char *heap, size_t max)
{
	(void)max;
	return ask(heap, 0, INVALID) && ask(heap, 1, WORKS) && ask(heap, page - 1, WORKS) &&
	       ask(heap, page, WORKS) && ask(heap, page + 1, WORKS);
}

static bool around_4gib(const char *heap, size_t max)
{
	static const long long off[] = { -4096, -1, 0, 1, 4096 };
	__u64 all = max ? max : all_memory();
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(off); i++)
		if (!ask(heap, (1ULL << 32) + off[i], depends((1ULL << 32) + off[i], all)))
			return false;
	return true;
}

static bool around_2to63(const char *heap, size_t max)
{
	static const long long off[] = { -4097, -4096, -1, 0, 1, 4096 };
	unsigned int i;

	(void)max;
	for (i = 0; i < ARRAY_SIZE(off); i++)
		if (!ask(heap, (1ULL << 63) + off[i], TOO_LARGE))
			return false;
	return true;
}

/* The last page-aligned length is too large; behind it, alignment would overflow. */
static bool around_2to64(const char *heap, size_t max)
{
	__u64 last = UINT64_MAX - page + 1;

	(void)max;
	return ask(heap, last - page, TOO_LARGE) && ask(heap, last - 1, TOO_LARGE) &&
	       ask(heap, last, TOO_LARGE) && ask(heap, last + 1, INVALID) &&
	       ask(heap, UINT64_MAX - 1, INVALID) && ask(heap, UINT64_MAX, INVALID);
}

static bool around_memory(const char *heap, size_t max)
{
	__u64 total = all_memory(), all = max ? max : total;

	return total && ask(heap, total + page, TOO_LARGE) && ask(heap, total + 1, TOO_LARGE) &&
	       ask(heap, total / 2 * 3, TOO_LARGE) && ask(heap, total, depends(total, all)) &&
	       ask(heap, total - page, depends(total - page, all));
}

static bool around_area(const char *heap, size_t max)
{
	size_t full = largest[heap_index(heap)];

	return ask(heap, full - page, WORKS) && ask(heap, full - page + 1, WORKS) &&
	       ask(heap, full, WORKS) && ask(heap, full + 1, TOO_LARGE) &&
	       ask(heap, full + page, TOO_LARGE) && ask(heap, max - page, EITHER) &&
	       ask(heap, max, full == max ? WORKS : TOO_LARGE) && ask(heap, max + 1, TOO_LARGE) &&
	       ask(heap, max + page, TOO_LARGE) && ask(heap, full, WORKS);
}

static const struct boundary {
	const char *name;
	bool (*fn)(const char *heap, size_t max);	/* area: 0 for the system heap */
} boundaries[] = {
	{ "1 TiB is refused at once", one_tib },
	{ "lengths around a page", around_page },
	{ "lengths around 4 GiB", around_4gib },
	{ "lengths around 2^63", around_2to63 },
	{ "lengths around 2^64", around_2to64 },
	{ "lengths around all memory", around_memory },
	{ "lengths around the area", around_area },	/* the last: not the system heap */
};

static const struct boundary *boundary;	/* of the test that is next */

static bool answers(const char *heap)
{
	struct state before;

	return all_loaded() && state_take(heap, &before) &&
	       boundary->fn(heap, area[heap_index(heap)]) && state_is(heap, &before);
}

/* What the kernel itself may have taken of the default area, and what alignment then wastes */
#define AREA_SLACK	(2 * MIB)

/* Proves that what is taken for the size of an area is. */
static bool areas_add_up(const char *arg)
{
	int i;

	(void)arg;
	if (!heaps_of[REGION_HEAP].n)
		return fail("expected heaps of regions, saw none");
	for (i = 0; i < heaps.n; i++)
		if (largest[i] > area[i] || area[i] - largest[i] > AREA_SLACK)
			return fail("%s: expected to give its %zu bytes, saw %zu", heaps.name[i],
				    area[i], largest[i]);
	return true;
}

static bool nobody_killed(const char *arg)
{
	long long kills = oom_kills();

	(void)arg;
	return kills > 0 ? fail("expected no OOM kill since boot, saw %lld", kills) : !kills;
}

static int boundary_count(const char *heap)
{
	return ARRAY_SIZE(boundaries) - (module_of(heap) == SYSTEM_HEAP);
}

static void group_boundaries(void)
{
	int i, t;

	need_areas();
	run_test("boundaries", "heaps of regions give all that there is", areas_add_up, NULL);
	for (i = 0; i < heaps.n; i++) {
		for (t = 0; t < boundary_count(heaps.name[i]); t++) {
			boundary = &boundaries[t];
			run_test(heaps.name[i], boundary->name, answers, heaps.name[i]);
		}
	}
	run_test("boundaries", "nobody was killed", nobody_killed, NULL);
}

/* failnth */

#define FAULTS		"/sys/kernel/debug"
#define MAX_NTH		20000
/* One page of each order that the system heap uses: 1 MiB, 64 KiB and 4 KiB */
#define FAULT_LEN	(MIB + 64 * KIB + 4 * KIB)

static int nth_fd = -1;

static bool arm(int nth)
{
	char text[16];
	int len = snprintf(text, sizeof(text), "%d", nth);

	return pwrite(nth_fd, text, len, 0) == len ? true :
	       fail("cannot write %s to fail-nth: %s", text, strerror(errno));
}

/* Whether a fault was injected: the counter is 0 then. Either call can be what fails. */
static bool disarm(void)
{
	char text[16] = "";
	bool hit;

	hit = pread(nth_fd, text, sizeof(text) - 1, 0) > 0 && !atoi(text);
	while (pwrite(nth_fd, "0", 1, 0) != 1)
		;
	return hit;
}

/* Any allocation may fail: those that may wait, of highmem, and of a single page, too. */
static bool faults_set_up(void)
{
	static const char *const files[][2] = {
		{ FAULTS "/failslab/probability", "0" },
		{ FAULTS "/failslab/task-filter", "Y" },
		{ FAULTS "/failslab/verbose", "0" },
		{ FAULTS "/failslab/ignore-gfp-wait", "N" },
		{ FAULTS "/failslab/cache-filter", "N" },
		{ FAULTS "/fail_page_alloc/probability", "0" },
		{ FAULTS "/fail_page_alloc/task-filter", "Y" },
		{ FAULTS "/fail_page_alloc/verbose", "0" },
		{ FAULTS "/fail_page_alloc/ignore-gfp-wait", "N" },
		{ FAULTS "/fail_page_alloc/ignore-gfp-highmem", "N" },
		{ FAULTS "/fail_page_alloc/min-order", "0" },
	};
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(files); i++)
		if (!write_file(files[i][0], files[i][1]))
			return false;
	nth_fd = open("/proc/self/fail-nth", O_RDWR | O_CLOEXEC);
	return nth_fd >= 0 ? true : fail("cannot open /proc/self/fail-nth: %s", strerror(errno));
}

/*
 * What is made to fail. run() is 0, or -1 with errno, and leaves nothing behind then, which
 * failed() looks at. After success, done() checks the result and lets go of it; exact: no
 * fault was injected, and so nothing may be missing. end() undoes begin().
 */
struct operation {
	const char *name;
	bool (*begin)(const char *arg);
	int (*run)(const char *arg);
	bool (*failed)(const char *arg);
	bool (*done)(const char *arg, bool exact);
	bool (*end)(const char *arg);
};

static const struct operation *operation;	/* of the test that is next */

static int op_fd, op_buf;
static unsigned char *op_map;
static char *image;			/* of the module */
static off_t image_size;
static int without_node;		/* heaps that the driver core gave no node */

static bool nothing(const char *arg)
{
	(void)arg;
	return true;
}

static int run_open(const char *heap)
{
	op_fd = heap_open(heap);
	return op_fd < 0 ? -1 : 0;
}

static bool done_open(const char *heap, bool exact)
{
	(void)exact;
	close(op_fd);
	return refs_are(heap_modules[module_of(heap)], 0);
}

static bool failed_open(const char *heap)
{
	return refs_are(heap_modules[module_of(heap)], 0);
}

static bool begin_alloc(const char *heap)
{
	op_fd = get_heap(heap);
	return op_fd >= 0;
}

static int run_alloc(const char *heap)
{
	(void)heap;
	op_buf = heap_alloc(op_fd, FAULT_LEN);
	return op_buf < 0 ? -1 : 0;
}

static bool done_alloc(const char *heap, bool exact)
{
	unsigned char *p = get_map(op_buf, FAULT_LEN);
	size_t at;

	(void)exact;
	if (!p)
		return false;
	at = first_nonzero(p, FAULT_LEN);
	if (at != FAULT_LEN)
		return fail("expected a zeroed buffer, saw 0x%02x at byte %zu", p[at], at);
	memset(p, 0xa5, FAULT_LEN);
	munmap(p, FAULT_LEN);
	close(op_buf);
	return refs_are(heap_modules[module_of(heap)], 1);
}

static bool failed_alloc(const char *heap)
{
	return refs_are(heap_modules[module_of(heap)], 1);
}

static bool end_alloc(const char *heap)
{
	close(op_fd);
	return failed_open(heap);
}

static bool begin_map(const char *heap)
{
	op_buf = get_buffer(heap, FAULT_LEN);
	op_map = op_buf < 0 ? NULL : get_map(op_buf, FAULT_LEN);
	if (!op_map)
		return false;
	fill(op_map, FAULT_LEN, 2);
	return !munmap(op_map, FAULT_LEN);
}

/* A page fault that finds no memory is tried again, so touching works in the end. */
static int run_map(const char *heap)
{
	size_t i;

	(void)heap;
	op_map = buffer_map(op_buf, FAULT_LEN);
	if (op_map == MAP_FAILED)
		return -1;
	for (i = 0; i < FAULT_LEN; i += page)
		__atomic_load_n(&op_map[i], __ATOMIC_RELAXED);
	return 0;
}

static bool done_map(const char *heap, bool exact)
{
	(void)heap;
	(void)exact;
	return read_back(op_map, FAULT_LEN, 2) && !munmap(op_map, FAULT_LEN);
}

static bool end_map(const char *heap)
{
	close(op_buf);
	return failed_open(heap);
}

static bool read_image(const char *path)
{
	struct stat st;
	int fd;

	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0 || fstat(fd, &st))
		return fail("cannot open %s: %s", path, strerror(errno));
	image_size = st.st_size;
	image = malloc(image_size);
	if (!image || read(fd, image, image_size) != image_size)
		return fail("cannot read %s: %s", path, strerror(errno));
	close(fd);
	return true;
}

static bool class_has(const char *heap)
{
	char path[300];

	snprintf(path, sizeof(path), "/sys/class/dma_heap/%s", heap);
	return !access(path, F_OK);
}

static bool begin_module(const char *module)
{
	int m = module_index(module);

	return unload_one(m) && read_image(module_file[m]);
}

/* From memory: reading the file is not what is tested, and the kernel complains there. */
static int run_module(const char *module)
{
	int ret = syscall(SYS_init_module, image, image_size, params_of(module));

	/* coherent_heap says that no heap came of it; here, memory is the only reason */
	if (ret && errno == ENODEV && !strcmp(module, "coherent_heap"))
		errno = ENOMEM;
	return ret;
}

static bool failed_module(const char *module)
{
	int m = module_index(module), i;

	if (!module_gone(module) || !heaps_are(&heaps_of[!m]))
		return false;
	for (i = 0; i < heaps_of[m].n; i++)
		if (class_has(heaps_of[m].name[i]))
			return fail("expected no %s in /sys/class/dma_heap, saw it",
				    heaps_of[m].name[i]);
	return true;
}

/*
 * With a fault, the module may do without some of its heaps, and the driver core may do
 * without the node of a device: neither is an error of theirs. What is there must go.
 */
static bool done_module(const char *module, bool exact)
{
	int m = module_index(module), i, found = 0;
	struct names now;

	heaps_now(&now);
	for (i = 0; i < heaps_of[m].n; i++) {
		const char *heap = heaps_of[m].name[i];
		bool node = names_have(&now, heap);

		if (node && !class_has(heap))
			return fail("%s has a node but no device", heap);
		if (node && !usable(heap))
			return fail_at(heap);
		without_node += class_has(heap) && !node;
		found += class_has(heap);
	}
	if (m == SYSTEM_HEAP && !found)
		return fail("system_heap loaded, but there is no device of its heap");
	if (exact && !heaps_are(&heaps))
		return false;
	if (!refs_are(module, 0))
		return false;
	if (module_unload(module))
		return fail("expected %s to unload, saw %s", module, strerror(errno));
	return failed_module(module);
}

static bool sample_bound(void)
{
	return !access(SAMPLE_DEVICE "/heap", F_OK);
}

/* By the file that binds and unbinds: the probe function, and not the loading of the module */
static int sample_write(const char *file)
{
	int fd = open(file, O_WRONLY | O_CLOEXEC), ret, err;

	if (fd < 0)
		return -1;
	ret = write(fd, SAMPLE, strlen(SAMPLE)) < 0 ? -1 : 0;
	err = errno;
	close(fd);
	errno = err;
	return ret;
}

static int bind_fd;

static bool begin_sample(const char *heap)
{
	if (!load_sample(heap, FAULT_LEN))
		return false;
	if (sample_write(SAMPLE_DRIVER "/unbind"))
		return fail("expected to unbind the sample, saw %s", strerror(errno));
	bind_fd = open(SAMPLE_DRIVER "/bind", O_WRONLY | O_CLOEXEC);
	return bind_fd >= 0 ? true : fail("cannot open the sample's bind: %s", strerror(errno));
}

static int run_sample(const char *heap)
{
	(void)heap;
	return write(bind_fd, SAMPLE, strlen(SAMPLE)) < 0 ? -1 : 0;
}

static bool failed_sample(const char *heap)
{
	if (sample_bound())
		return fail("expected the sample not to be bound, saw that it is");
	return refs_are(heap_modules[module_of(heap)], 0);
}

static bool done_sample(const char *heap, bool exact)
{
	(void)exact;
	if (!sample_bound())
		return fail("expected the sample to have its buffer, saw none");
	if (!refs_are(heap_modules[module_of(heap)], 2))
		return false;
	if (sample_write(SAMPLE_DRIVER "/unbind"))
		return fail("expected to unbind the sample, saw %s", strerror(errno));
	return failed_sample(heap);
}

static bool end_sample(const char *heap)
{
	(void)heap;
	close(bind_fd);
	return sample_unload();
}

static bool sweep_nth(const char *arg, int nth, int *failures, bool *hit)
{
	int fds = open_fds(), bufs = buffers(), now, ret, err;

	if (fds < 0 || bufs < 0 || !arm(nth))
		return false;
	ret = operation->run(arg);
	err = errno;
	*hit = disarm();
	if (ret && !*hit)
		return fail("no fault was injected: expected success, saw %s", strerror(err));
	if (ret && err != ENOMEM)
		return fail("expected ENOMEM, saw %s", strerror(err));
	*failures += !!ret;
	if (ret ? !operation->failed(arg) : !operation->done(arg, !*hit))
		return false;
	now = open_fds();
	if (now != fds)
		return fail("expected %d open fds, saw %d", fds, now);
	if (!buffers_are(bufs))
		return false;
	if (!ret)
		return true;
	/* and the next try works; after a fault that did not fail it, that is the next round */
	if (operation->run(arg))
		return fail("without a fault again: expected success, saw %s", strerror(errno));
	return operation->done(arg, true) || fail_at("without a fault again");
}

static bool sweep(const char *arg)
{
	int nth, failures = 0, bufs = buffers();
	char where[32];
	bool hit;

	if (bufs < 0 || !all_loaded() || !faults_set_up() || !operation->begin(arg))
		return false;
	for (nth = 1; nth <= MAX_NTH; nth++) {
		snprintf(where, sizeof(where), "allocation %d failed", nth);
		if (!sweep_nth(arg, nth, &failures, &hit))
			return fail_at(where);
		if (!hit)
			break;
	}
	nth--;
	ksft_print_msg("%s: %s: %d faults injected, %d of them failed it\n", arg,
		       operation->name, nth, failures);
	if (without_node)
		ksft_print_msg("%s: %d times the driver core made a device without its node\n",
			       arg, without_node);
	if (nth == MAX_NTH)
		return fail("expected an end of the allocations, saw none after %d", nth);
	if (!operation->end(arg) || !buffers_are(bufs))
		return fail_at("at the end");
	return failures ? true : fail("expected faults to fail it, saw %d that did not", nth);
}

static const struct operation heap_operations[] = {
	{
		.name = "opening fails cleanly",
		.begin = nothing, .run = run_open, .failed = failed_open, .done = done_open,
		.end = nothing,
	}, {
		.name = "allocating fails cleanly",
		.begin = begin_alloc, .run = run_alloc, .failed = failed_alloc, .done = done_alloc,
		.end = end_alloc,
	}, {
		.name = "mapping fails cleanly",
		.begin = begin_map, .run = run_map, .failed = nothing, .done = done_map,
		.end = end_map,
	},
};

static const struct operation load_module = {
	.name = "loading fails cleanly",
	.begin = begin_module, .run = run_module, .failed = failed_module, .done = done_module,
	.end = nothing,
};

static const struct operation bind_sample = {
	.name = "a driver that uses it fails cleanly",
	.begin = begin_sample, .run = run_sample, .failed = failed_sample, .done = done_sample,
	.end = end_sample,
};

static bool faults_work(const char *arg)
{
	(void)arg;
	return faults_set_up() && arm(1) && fails_with("open", open("/", O_RDONLY), ENOMEM) &&
	       (disarm() || fail("expected fail-nth to count down, saw it did not"));
}

/* With --coherent, only the new: one coherent heap, as all of them do the same */
static bool failnth_wants(const char *heap)
{
	return !coherent_regions() || !strcmp(heap, heaps_of[REGION_HEAP].name[0]);
}

static void group_failnth(void)
{
	unsigned int seconds = test_seconds, t;
	int i;

	test_seconds = 6 * 3600;	/* DEBUG_KOBJECT_RELEASE: seconds for each unload */
	run_test("failnth", "a fault can be injected", faults_work, NULL);
	for (i = 0; i < heaps.n; i++) {
		for (t = 0; failnth_wants(heaps.name[i]) && t < ARRAY_SIZE(heap_operations); t++) {
			operation = &heap_operations[t];
			run_test(heaps.name[i], operation->name, sweep, heaps.name[i]);
		}
	}
	operation = &bind_sample;
	for (i = 0; i < HEAP_MODULES; i++)	/* with one heap of each */
		if (heaps_of[i].n && failnth_wants(heaps_of[i].name[0]))
			run_test(heaps_of[i].name[0], operation->name, sweep, heaps_of[i].name[0]);
	test_seconds = seconds;
}

static void group_loadnth(const char *module)
{
	unsigned int seconds = test_seconds;

	test_seconds = 6 * 3600;
	operation = &load_module;
	run_test(module, operation->name, sweep, module);
	test_seconds = seconds;
}

static int failnth_tests(void)
{
	int i, n = 1;

	for (i = 0; i < heaps.n; i++)
		n += failnth_wants(heaps.name[i]) ? ARRAY_SIZE(heap_operations) : 0;
	for (i = 0; i < HEAP_MODULES; i++)
		n += heaps_of[i].n && failnth_wants(heaps_of[i].name[0]);
	return n;
}

static void __attribute__((noreturn)) usage(void)
{
	fprintf(stderr, "usage: unload-test [--coherent] GROUP...\n"
		"groups: unload, reload [N], lifecycle, boundaries, failnth, loadnth MODULE\n");
	exit(2);
}

static void find_heaps(void)
{
	int i;

	for (i = 0; i < HEAP_MODULES; i++)
		if (!modprobe(heap_modules[i]) ||
		    !module_path(heap_modules[i], module_file[i], sizeof(module_file[i])))
			ksft_exit_fail_msg("%s\n", why);
	if (!module_path(SAMPLE, sample_file, sizeof(sample_file)))
		ksft_exit_fail_msg("%s\n", why);
	heaps_now(&heaps);
	for (i = 0; i < heaps.n; i++)
		names_add(&heaps_of[module_of(heaps.name[i])], heaps.name[i]);
}

/* The rounds in the next argument, if it is a number */
static int rounds_in(char **argv, int *i)
{
	int n = argv[*i + 1] ? atoi(argv[*i + 1]) : 0;

	*i += n > 0;
	return n > 0 ? n : 1000;
}

int main(int argc, char **argv)
{
	unsigned int plan = 0;
	int i, h;

	page = sysconf(_SC_PAGESIZE);
	region_option(&argc, argv);
	if (argc < 2)
		usage();
	for (i = 1; i < argc; i++) {
		if (!strcmp(argv[i], "reload"))
			rounds_in(argv, &i);
		else if (!strcmp(argv[i], "loadnth") && i + 1 < argc && is_heap_module(argv[i + 1]))
			i++;
		else if (strcmp(argv[i], "unload") && strcmp(argv[i], "lifecycle") &&
			 strcmp(argv[i], "boundaries") && strcmp(argv[i], "failnth"))
			usage();
	}
	tests_begin();
	find_sockets();
	find_heaps();
	for (i = 1; i < argc; i++) {
		if (!strcmp(argv[i], "unload")) {
			plan += UNLOAD_TESTS;
		} else if (!strcmp(argv[i], "lifecycle")) {
			plan += heaps.n * (ARRAY_SIZE(lifecycle) - !sockets);
		} else if (!strcmp(argv[i], "boundaries")) {
			plan += 2;
			for (h = 0; h < heaps.n; h++)
				plan += boundary_count(heaps.name[h]);
		} else if (!strcmp(argv[i], "failnth")) {
			plan += failnth_tests();
		} else if (!strcmp(argv[i], "loadnth")) {
			plan++;
			i++;
		} else {
			plan += RELOAD_TESTS;
			rounds_in(argv, &i);
		}
	}
	ksft_set_plan(plan);
	for (i = 1; i < argc; i++) {
		if (!strcmp(argv[i], "unload"))
			group_unload();
		else if (!strcmp(argv[i], "lifecycle"))
			group_lifecycle();
		else if (!strcmp(argv[i], "boundaries"))
			group_boundaries();
		else if (!strcmp(argv[i], "failnth"))
			group_failnth();
		else if (!strcmp(argv[i], "loadnth"))
			group_loadnth(argv[++i]);
		else
			group_reload(rounds_in(argv, &i));
	}
	ksft_exit(ksft_cnt.ksft_pass == plan);
}
