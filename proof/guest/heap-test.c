// SPDX-License-Identifier: GPL-2.0
/*
 * Tests of the DMA-BUF heaps from user space, as TAP:
 *
 *	heap-test --expect HEAP... GROUP...
 *
 *	modules		the heap modules load and bring their heaps
 *	heaps		what every heap and every buffer must do
 *	efault		an allocation whose answer cannot be copied out leaks nothing
 *	holds HEAP MIB	the heap's area is that large: one buffer of MIB fits
 *	same HEAP HEAP MIB	both draw on one area: after MIB from one, none is left in the other
 *	memcg on|off	buffers of the system heap are charged to the cgroup, or are not
 *	names		no test: prints the heaps' names, sorted; needs no --expect
 *
 * --expect names every heap that must be there, once the modules are loaded; another one is
 * an error. Each test runs in a process of its own. No test is ever skipped.
 */
#include <sys/stat.h>

#include "test.h"

#define PARAM		"/sys/module/dma_heap/parameters/mem_accounting"
#define CGROUP		"/sys/fs/cgroup/heap-test"

static struct names expected, heaps;

/* modules */

/* The expected heaps that the module brings */
static void heaps_of(int module, struct names *list)
{
	int i;

	for (i = 0; i < expected.n; i++)
		if (module_of(expected.name[i]) == module)
			names_add(list, expected.name[i]);
	qsort(list->name, list->n, sizeof(list->name[0]), names_compare);
}

static bool no_heaps(const char *arg)
{
	struct names none = { 0 };

	(void)arg;
	return heaps_are(&none);
}

static bool load_cma(const char *name)
{
	struct names want = { 0 };

	heaps_of(REGION_HEAP, &want);
	if (!want.n)
		return fail("no CMA heap is among the expected ones: give --expect NAME");
	return modprobe(name) && heaps_are(&want);
}

static bool load_system(const char *name)
{
	return modprobe(name) && heaps_are(&expected);
}

static bool load_again(const char *arg)
{
	(void)arg;
	return modprobe(heap_modules[REGION_HEAP]) && modprobe(heap_modules[SYSTEM_HEAP]) &&
	       heaps_are(&expected);
}

/* A missing export, or an import that a module does not declare, leaves a line here. */
static bool symbols_resolve(const char *arg)
{
	static const char *const complaints[] = {
		"Unknown symbol", "disagrees about version", "from namespace", "does not import it"
	};
	static char log[1 << 20];
	unsigned int i;
	char *p, line[512];
	int n;

	(void)arg;
	for (i = 0; i < ARRAY_SIZE(heap_modules); i++)
		if (!module_line(heap_modules[i], line, sizeof(line)))
			return false;
		else if (!line[0])
			return fail("expected %s in /proc/modules, saw nothing of it",
				    heap_modules[i]);
	n = klogctl(3, log, sizeof(log) - 1);
	if (n <= 0)
		return fail("cannot read the kernel log: %s", strerror(errno));
	for (i = 0; i < ARRAY_SIZE(complaints); i++) {
		p = strstr(log, complaints[i]);
		if (p)
			return fail("expected no '%s' in the kernel log, saw: %.*s", complaints[i],
				    (int)strcspn(p, "\n"), p);
	}
	return true;
}

static void group_modules(void)
{
	run_test("modules", "no heap before modprobe", no_heaps, NULL);
	run_test("modules", "cma_heap brings the CMA heaps", load_cma, "cma_heap");
	run_test("modules", "system_heap brings the system heap", load_system, "system_heap");
	run_test("modules", "loading again changes nothing", load_again, NULL);
	run_test("modules", "symbols and namespaces resolve", symbols_resolve, NULL);
}

#define MODULE_TESTS	5

/* heaps */

static bool exact_heaps(const char *arg)
{
	(void)arg;
	if (!heaps.n)
		return fail("expected heaps in " HEAPS ", saw none");
	return heaps_are(&expected);
}

static bool size_is(const char *name, size_t ask, off_t want)
{
	struct stat st;
	off_t end;
	int buf;

	buf = get_buffer(name, ask);
	if (buf < 0)
		return false;
	end = lseek(buf, 0, SEEK_END);
	if (end != want)
		return fail("%zu bytes asked: expected a size of %ld by lseek, saw %ld", ask,
			    (long)want, (long)end);
	if (fstat(buf, &st) || st.st_size != want)
		return fail("%zu bytes asked: expected a size of %ld by fstat, saw %ld", ask,
			    (long)want, (long)st.st_size);
	return close(buf) ? fail("close: %s", strerror(errno)) : true;
}

static bool allocate_4k(const char *name)
{
	return size_is(name, 4 * KIB, 4 * KIB);
}

static bool allocate_64k(const char *name)
{
	return size_is(name, 64 * KIB, 64 * KIB);
}

static bool allocate_1m(const char *name)
{
	return size_is(name, MIB, MIB);
}

static bool allocate_odd(const char *name)
{
	long page = sysconf(_SC_PAGESIZE);

	return size_is(name, 1, page) && size_is(name, page + 1, 2 * page) &&
	       size_is(name, 3 * page - 1, 3 * page);
}

static bool fresh_zeroed(const char *name)
{
	size_t sizes[] = { 4 * KIB, 64 * KIB, MIB, 4 * MIB }, at;
	unsigned char *p;
	unsigned int i;
	int buf;

	for (i = 0; i < ARRAY_SIZE(sizes); i++) {
		buf = get_buffer(name, sizes[i]);
		p = buf < 0 ? NULL : get_map(buf, sizes[i]);
		if (!p)
			return false;
		at = first_nonzero(p, sizes[i]);
		if (at != sizes[i])
			return fail("%zu bytes: expected zeroes, saw 0x%02x at byte %zu", sizes[i],
				    p[at], at);
	}
	return true;
}

/* Enough memory, twice, that the second round gets the first one's pages. */
static bool dirty_zeroed(const char *name)
{
	enum { COUNT = 24 };
	unsigned char *p;
	int i, round, buf[COUNT];
	size_t at;

	for (round = 0; round < 2; round++) {
		for (i = 0; i < COUNT; i++) {
			buf[i] = get_buffer(name, MIB);
			p = buf[i] < 0 ? NULL : get_map(buf[i], MIB);
			if (!p)
				return false;
			at = first_nonzero(p, MIB);
			if (at != MIB)
				return fail("round %d, buffer %d: expected 0, saw 0x%02x at %zu",
					    round, i, p[at], at);
			memset(p, 0xa5, MIB);
			munmap(p, MIB);
		}
		for (i = 0; i < COUNT; i++)
			close(buf[i]);
	}
	return true;
}

static bool touch_pages(const char *name)
{
	unsigned char *p;
	size_t at;
	int buf;

	buf = get_buffer(name, MIB);
	p = buf < 0 ? NULL : get_map(buf, MIB);
	if (!p)
		return false;
	fill(p, MIB, 3);
	at = first_wrong(p, MIB, 3);
	if (at != MIB)
		return fail("expected 0x%02x at byte %zu, saw 0x%02x", pattern(at, 3), at, p[at]);
	/* the last page faults in a map of the last page, too */
	at = MIB - 4 * KIB;
	p = mmap(NULL, 4 * KIB, PROT_READ, MAP_SHARED, buf, at);
	if (p == MAP_FAILED)
		return fail("expected to map the last 4 KiB, saw %s", strerror(errno));
	if (p[0] != pattern(at, 3))
		return fail("expected 0x%02x at byte %zu, saw 0x%02x", pattern(at, 3), at, p[0]);
	return true;
}

static bool past_the_end(const char *name)
{
	int buf;

	buf = get_buffer(name, 64 * KIB);
	if (buf < 0)
		return false;
	return fails_with("map of twice the size",
			  (long)mmap(NULL, 128 * KIB, PROT_READ, MAP_SHARED, buf, 0), EINVAL) &&
	       fails_with("map behind the end",
			  (long)mmap(NULL, 4 * KIB, PROT_READ, MAP_SHARED, buf, 64 * KIB), EINVAL);
}

static bool shared_maps(const char *name)
{
	unsigned char *a, *b;
	size_t at;
	int buf;

	buf = get_buffer(name, 64 * KIB);
	a = buf < 0 ? NULL : get_map(buf, 64 * KIB);
	b = a ? get_map(buf, 64 * KIB) : NULL;
	if (!b)
		return false;
	fill(a, 64 * KIB, 9);
	at = first_wrong(b, 64 * KIB, 9);
	if (at != 64 * KIB)
		return fail("expected the second map to read 0x%02x at byte %zu, saw 0x%02x",
			    pattern(at, 9), at, b[at]);
	b[77] = 0xee;
	if (a[77] != 0xee)
		return fail("expected the first map to read 0xee, saw 0x%02x", a[77]);
	return true;
}

static bool cpu_sync(const char *name)
{
	static const __u64 access[] = { DMA_BUF_SYNC_READ, DMA_BUF_SYNC_WRITE, DMA_BUF_SYNC_RW };
	unsigned int i;
	int buf;

	buf = get_buffer(name, 64 * KIB);
	if (buf < 0 || !get_map(buf, 64 * KIB))
		return false;
	for (i = 0; i < ARRAY_SIZE(access); i++) {
		if (buffer_sync(buf, DMA_BUF_SYNC_START | access[i]))
			return fail("start, access %llu: %s", access[i], strerror(errno));
		if (buffer_sync(buf, DMA_BUF_SYNC_END | access[i]))
			return fail("end, access %llu: %s", access[i], strerror(errno));
	}
	return fails_with("sync without an access", buffer_sync(buf, DMA_BUF_SYNC_START), EINVAL) &&
	       fails_with("sync with unknown flags", buffer_sync(buf, 1ULL << 40), EINVAL);
}

static bool read_only(const char *name)
{
	unsigned char *p;
	int heap, buf, mode;

	heap = get_heap(name);
	if (heap < 0)
		return false;
	buf = heap_alloc_flags(heap, 4 * KIB, O_RDONLY | O_CLOEXEC, 0);
	if (buf < 0)
		return fail("expected a read-only buffer, saw %s", strerror(errno));
	mode = fcntl(buf, F_GETFL) & O_ACCMODE;
	if (mode != O_RDONLY)
		return fail("expected O_RDONLY, saw access mode %d", mode);
	p = mmap(NULL, 4 * KIB, PROT_READ, MAP_SHARED, buf, 0);
	if (p == MAP_FAILED)
		return fail("expected a map for reading, saw %s", strerror(errno));
	if (p[0])
		return fail("expected zero, saw 0x%02x", p[0]);
	return fails_with("map for writing", (long)buffer_map(buf, 4 * KIB), EACCES) &&
	       fails_with("mprotect for writing",
			  mprotect(p, 4 * KIB, PROT_READ | PROT_WRITE), EACCES);
}

static bool close_on_exec(const char *name)
{
	int heap, with, without;

	heap = get_heap(name);
	if (heap < 0)
		return false;
	with = heap_alloc_flags(heap, 4 * KIB, O_RDWR | O_CLOEXEC, 0);
	without = heap_alloc_flags(heap, 4 * KIB, O_RDWR, 0);
	if (with < 0 || without < 0)
		return fail("expected two buffers, saw %s", strerror(errno));
	if (!(fcntl(with, F_GETFD) & FD_CLOEXEC))
		return fail("asked with O_CLOEXEC: expected FD_CLOEXEC, saw none");
	if (fcntl(without, F_GETFD) & FD_CLOEXEC)
		return fail("asked without O_CLOEXEC: expected no FD_CLOEXEC, saw it");
	return true;
}

static bool bad_fd_flags(const char *name)
{
	static const __u32 flags[] = {
		O_NONBLOCK, O_APPEND, O_DIRECT, 1u << 31, ~(O_CLOEXEC | O_ACCMODE)
	};
	unsigned int i;
	char what[64];
	int heap;

	heap = get_heap(name);
	if (heap < 0)
		return false;
	for (i = 0; i < ARRAY_SIZE(flags); i++) {
		snprintf(what, sizeof(what), "fd_flags 0x%x", flags[i]);
		if (!fails_with(what, heap_alloc_flags(heap, 4 * KIB, O_RDWR | flags[i], 0),
				EINVAL))
			return false;
	}
	return true;
}

static bool bad_heap_flags(const char *name)
{
	int heap = get_heap(name);

	return heap >= 0 &&
	       fails_with("heap_flags 1", heap_alloc_flags(heap, 4 * KIB, O_RDWR, 1), EINVAL) &&
	       fails_with("heap_flags 1<<63",
			  heap_alloc_flags(heap, 4 * KIB, O_RDWR, 1ULL << 63), EINVAL);
}

static bool bad_fd(const char *name)
{
	struct dma_heap_allocation_data data = { .len = 4 * KIB, .fd = 1, .fd_flags = O_RDWR };
	int heap = get_heap(name);

	return heap >= 0 && fails_with("fd 1", ioctl(heap, DMA_HEAP_IOCTL_ALLOC, &data), EINVAL);
}

static bool bad_length(const char *name)
{
	int heap = get_heap(name);

	return heap >= 0 &&
	       fails_with("length 0", heap_alloc(heap, 0), EINVAL) &&
	       fails_with("length 2^64-1", heap_alloc(heap, ~0ULL), EINVAL);
}

/* More than the guest has, and as much as it has in all: the caller is told, and nobody killed. */
static bool too_large(const char *name)
{
	long long killed = oom_kills(), total = meminfo("MemTotal");
	const __u64 lens[] = { 1ULL << 40, 1ULL << 36, 1ULL << 30, total + 4 * KIB, total };
	int heap = get_heap(name), i;
	char what[64];

	if (heap < 0 || killed < 0 || total < 0)
		return false;
	for (i = 0; i < (int)ARRAY_SIZE(lens); i++) {
		snprintf(what, sizeof(what), "length %llu", (unsigned long long)lens[i]);
		if (!fails_with(what, heap_alloc(heap, lens[i]), ENOMEM))
			return false;
		if (oom_kills() != killed)
			return fail("%s: expected no OOM kill, saw %lld", what,
				    oom_kills() - killed);
	}
	return true;
}

static bool bad_ioctl(const char *name)
{
	struct dma_heap_allocation_data data = { .len = 4 * KIB, .fd_flags = O_RDWR };
	int heap, ret;

	heap = get_heap(name);
	if (heap < 0)
		return false;
	ret = ioctl(heap, _IOWR(DMA_HEAP_IOC_MAGIC, 1, struct dma_heap_allocation_data), &data);
	if (ret == -1 && errno == ENOTTY)
		return true;
	return fails_with("unknown ioctl", ret, EINVAL);
}

static bool bad_pointer(const char *name)
{
	int heap = get_heap(name);

	return heap >= 0 && fails_with("argument at address 8",
				       ioctl(heap, DMA_HEAP_IOCTL_ALLOC, (void *)8), EFAULT);
}

static bool import(const char *name)
{
	struct import import;
	int buf, before, held;
	unsigned char *p;

	before = buffers();
	if (before < 0)
		return false;
	buf = get_buffer(name, MIB);
	p = buf < 0 ? NULL : get_map(buf, MIB);
	if (!p)
		return false;
	p[4096] = 0x5a;
	if (!import_take(&import, buf))
		return false;
	if (p[4096] != 0x5a)
		return fail("expected 0x5a after the import, saw 0x%02x", p[4096]);
	if (munmap(p, MIB) || close(buf))
		return fail("munmap or close: %s", strerror(errno));
	held = buffers();
	if (held != before + 1)
		return fail("expected the importer to hold 1 buffer, saw %d", held - before);
	if (!import_drop(&import))
		return false;
	held = buffers();
	if (held != before)
		return fail("expected no buffer after the drop, saw %d", held - before);
	return true;
}

static bool outlives_heap_fd(const char *name)
{
	unsigned char *p;
	size_t at;
	int buf;

	buf = get_buffer(name, 64 * KIB);	/* the heap's fd is closed there */
	p = buf < 0 ? NULL : get_map(buf, 64 * KIB);
	if (!p)
		return false;
	if (close(buf))
		return fail("close: %s", strerror(errno));
	fill(p, 64 * KIB, 5);			/* and the map outlives the buffer's */
	at = first_wrong(p, 64 * KIB, 5);
	return at == 64 * KIB ? true :
	       fail("expected 0x%02x at byte %zu, saw 0x%02x", pattern(at, 5), at, p[at]);
}

static bool close_frees(const char *name)
{
	int before, held, buf;

	before = buffers();
	buf = before < 0 ? -1 : get_buffer(name, MIB);
	if (buf < 0)
		return false;
	held = buffers();
	if (held != before + 1)
		return fail("expected 1 buffer more, saw %d", held - before);
	close(buf);
	held = buffers();
	if (held != before)
		return fail("expected no buffer after close, saw %d", held - before);
	return true;
}

static const struct {
	const char *name;
	test_fn fn;
} heap_tests[] = {
	{ "allocates 4 KiB", allocate_4k },
	{ "allocates 64 KiB", allocate_64k },
	{ "allocates 1 MiB", allocate_1m },
	{ "an odd length is rounded up to pages", allocate_odd },
	{ "fresh memory is zeroed", fresh_zeroed },
	{ "dirty memory is zeroed", dirty_zeroed },
	{ "every page can be written and read", touch_pages },
	{ "no map goes past the end", past_the_end },
	{ "two maps show the same memory", shared_maps },
	{ "CPU access can be bracketed", cpu_sync },
	{ "a read-only buffer stays read-only", read_only },
	{ "O_CLOEXEC is honoured", close_on_exec },
	{ "bad fd_flags are refused", bad_fd_flags },
	{ "bad heap_flags are refused", bad_heap_flags },
	{ "a non-zero fd is refused", bad_fd },
	{ "a bad length is refused", bad_length },
	{ "an unknown ioctl is refused", bad_ioctl },
	{ "a bad pointer is refused", bad_pointer },
	{ "an importer takes a buffer and drops it", import },
	{ "a buffer outlives the fds", outlives_heap_fd },
	{ "close frees the buffer", close_frees },
	{ "a request for all there is fails", too_large },
};

static void group_heaps(void)
{
	int i, t;

	run_test("heaps", "exactly the expected ones are there", exact_heaps, NULL);
	for (i = 0; i < heaps.n; i++)
		for (t = 0; t < (int)ARRAY_SIZE(heap_tests); t++)
			run_test(heaps.name[i], heap_tests[t].name, heap_tests[t].fn,
				 heaps.name[i]);
}

/* efault */

#define ROUNDS	100

/* The argument can be read but not written: allocation works, the answer cannot be copied. */
static bool efault_rounds(const char *name)
{
	struct dma_heap_allocation_data *data;
	char what[32];
	int heap, i;

	heap = get_heap(name);
	if (heap < 0)
		return false;
	data = mmap(NULL, 4 * KIB, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (data == MAP_FAILED)
		return fail("no page: %s", strerror(errno));
	data->len = 64 * KIB;
	data->fd_flags = O_RDWR | O_CLOEXEC;
	if (mprotect(data, 4 * KIB, PROT_READ))
		return fail("mprotect: %s", strerror(errno));
	for (i = 0; i < ROUNDS; i++) {
		snprintf(what, sizeof(what), "round %d", i);
		if (!fails_with(what, ioctl(heap, DMA_HEAP_IOCTL_ALLOC, data), EFAULT))
			return false;
	}
	/* the same words where they can be written: they were good */
	if (mprotect(data, 4 * KIB, PROT_READ | PROT_WRITE))
		return fail("mprotect: %s", strerror(errno));
	if (ioctl(heap, DMA_HEAP_IOCTL_ALLOC, data))
		return fail("expected the same request to succeed when writable, saw %s",
			    strerror(errno));
	close(data->fd);
	close(heap);
	munmap(data, 4 * KIB);
	return true;
}

static bool efault_fds(const char *name)
{
	int before = open_fds(), after;

	if (before < 0 || !efault_rounds(name))
		return false;
	after = open_fds();
	return after == before ? true :
	       fail("expected %d open fds after %d rounds, saw %d", before, ROUNDS, after);
}

static bool efault_buffers(const char *name)
{
	int before = buffers(), after;

	if (before < 0 || !efault_rounds(name))
		return false;
	after = buffers();
	return after == before ? true :
	       fail("expected %d buffers after %d rounds, saw %d", before, ROUNDS, after);
}

static void group_efault(void)
{
	int i;

	for (i = 0; i < heaps.n; i++) {
		run_test(heaps.name[i], "a failed copy leaks no fd", efault_fds, heaps.name[i]);
		run_test(heaps.name[i], "a failed copy leaks no buffer", efault_buffers,
			 heaps.name[i]);
	}
}

/* areas */

static char **area;	/* HEAP MIB, or HEAP HEAP MIB */

static bool holds(const char *mib)
{
	return get_buffer(area[0], atol(mib) * MIB) >= 0;
}

static bool same_area(const char *mib)
{
	size_t len = atol(mib) * MIB;
	int second, buf;

	second = get_heap(area[1]);
	buf = second < 0 ? -1 : get_buffer(area[1], len);
	if (buf < 0 || close(buf))
		return false;
	return get_buffer(area[0], len) >= 0 &&
	       fails_with("from the second heap", heap_alloc(second, len), ENOMEM);
}

static void group_area(char **args, int n)
{
	char name[300];

	area = args;
	if (n == 2) {
		snprintf(name, sizeof(name), "holds %s MiB", args[1]);
		run_test(args[0], name, holds, args[1]);
	} else {
		snprintf(name, sizeof(name), "shares its area with %s", args[1]);
		run_test(args[0], name, same_area, args[2]);
	}
}

/* memcg */

#define CHARGE	(16 * MIB)
#define SLACK	(1 * MIB)	/* what the kernel charges besides, or uncharges later */

static bool join_cgroup(const char *limit)
{
	if (mkdir(CGROUP, 0755) && errno != EEXIST)
		return fail("cannot make " CGROUP ": %s", strerror(errno));
	return write_file(CGROUP "/memory.max", limit) && write_file(CGROUP "/cgroup.procs", "0");
}

static long long charged(void)
{
	char text[64];

	return read_file(CGROUP "/memory.current", text, sizeof(text)) ? atoll(text) : -1;
}

static long long event(const char *name)
{
	char text[1024], key[32], *p;

	if (!read_file(CGROUP "/memory.events", text, sizeof(text)))
		return -1;
	snprintf(key, sizeof(key), "\n%s ", name);
	p = strstr(text, key);
	return p ? atoll(p + strlen(key)) : fail("no '%s' in memory.events", name) - 1;
}

static bool param_value(const char *want)
{
	char text[16];

	if (!read_file(PARAM, text, sizeof(text)))
		return false;
	text[strcspn(text, "\n")] = '\0';
	return strcmp(text, want) ? fail("expected %s in " PARAM ", saw %s", want, text) : true;
}

static bool param_mode(const char *arg)
{
	struct stat st;

	(void)arg;
	if (stat(PARAM, &st))
		return fail("expected " PARAM ", saw %s", strerror(errno));
	if ((st.st_mode & 07777) != 0444)
		return fail("expected mode 0444, saw 0%o", st.st_mode & 07777);
	return true;
}

/* Allocates, and checks what the cgroup saw of it. */
static bool charge(bool on, bool release)
{
	long long before, held, after;
	int buf;

	if (!join_cgroup("max"))
		return false;
	before = charged();
	buf = before < 0 ? -1 : get_buffer("system", CHARGE);
	held = buf < 0 ? -1 : charged();
	if (held < 0)
		return false;
	if (on && held - before < (long long)CHARGE)
		return fail("expected memory.current to grow by %lu or more, saw %lld -> %lld",
			    CHARGE, before, held);
	if (!on && held - before >= (long long)SLACK)
		return fail("expected memory.current to stay, saw %lld -> %lld", before, held);
	if (!release)
		return true;
	close(buf);
	after = charged();
	if (after < 0)
		return false;
	return after - before < (long long)SLACK ? true :
	       fail("expected memory.current to return to %lld after close, saw %lld",
		    before, after);
}

static bool is_charged(const char *arg)
{
	(void)arg;
	return charge(true, false);
}

static bool is_uncharged(const char *arg)
{
	(void)arg;
	return charge(true, true);
}

static bool not_charged(const char *arg)
{
	(void)arg;
	return charge(false, false);
}

static bool limit_refuses(const char *arg)
{
	long long kills;
	int heap, buf;

	(void)arg;
	if (!join_cgroup("8388608"))
		return false;
	heap = get_heap("system");
	if (heap < 0)
		return false;
	if (!fails_with("16 MiB with memory.max at 8 MiB", heap_alloc(heap, CHARGE), ENOMEM))
		return false;
	kills = event("oom_kill");
	if (kills)
		return kills < 0 ? false : fail("expected no OOM kill, saw %lld", kills);
	buf = heap_alloc(heap, MIB);	/* what fits still works */
	return buf < 0 ? fail("expected 1 MiB to fit, saw %s", strerror(errno)) : true;
}

static bool limit_ignored(const char *arg)
{
	(void)arg;
	return join_cgroup("8388608") && get_buffer("system", CHARGE) >= 0;
}

/* A CMA area belongs to the machine, not to who asked first: never charged. */
static bool cma_not_charged(const char *arg)
{
	long long before, held;
	int i, buf;

	(void)arg;
	if (!join_cgroup("max"))
		return false;
	for (i = 0; i < heaps.n; i++) {
		if (!strcmp(heaps.name[i], "system"))
			continue;
		before = charged();
		buf = before < 0 ? -1 : get_buffer(heaps.name[i], CHARGE);
		held = buf < 0 ? -1 : charged();
		if (held < 0)
			return false;
		if (held - before >= (long long)SLACK)
			return fail("%s: expected memory.current to stay, saw %lld -> %lld",
				    heaps.name[i], before, held);
		close(buf);
	}
	return true;
}

static void memcg_test(const char *name, test_fn fn, const char *arg)
{
	rmdir(CGROUP);
	run_test("memcg", name, fn, arg);
}

static void group_memcg(bool on)
{
	if (on) {
		memcg_test("mem_accounting is on", param_value, "Y");
		memcg_test("mem_accounting is read-only", param_mode, NULL);
		memcg_test("a system buffer is charged", is_charged, NULL);
		memcg_test("closing it uncharges", is_uncharged, NULL);
		memcg_test("a limit refuses, and kills nobody", limit_refuses, NULL);
	} else {
		memcg_test("mem_accounting is off", param_value, "N");
		memcg_test("mem_accounting is read-only", param_mode, NULL);
		memcg_test("a system buffer is not charged", not_charged, NULL);
		memcg_test("a limit does not count it", limit_ignored, NULL);
	}
	memcg_test("a CMA buffer is not charged", cma_not_charged, NULL);
	rmdir(CGROUP);
}

#define MEMCG_TESTS(on)	((on) ? 6 : 5)

static void __attribute__((noreturn)) usage(void)
{
	fprintf(stderr, "usage: heap-test --expect HEAP... GROUP...\n"
		"groups: modules, heaps, efault, holds HEAP MIB, same HEAP HEAP MIB, memcg on|off\n"
		"       heap-test names\n");
	exit(2);
}

int main(int argc, char **argv)
{
	int i, first, plan = 0;

	setvbuf(stdout, NULL, _IOLBF, 0);
	for (i = 1; i < argc && argv[i][0] == '-'; i += 2) {
		if (strcmp(argv[i], "--expect") || i + 1 >= argc)
			usage();
		names_add(&expected, argv[i + 1]);
	}
	qsort(expected.name, expected.n, sizeof(expected.name[0]), names_compare);
	heaps = expected;
	if (!heaps.n)
		heaps_now(&heaps);
	first = i;
	if (first == argc)
		usage();
	if (!strcmp(argv[first], "names")) {
		for (i = 0; i < heaps.n; i++)
			puts(heaps.name[i]);
		return heaps.n ? 0 : 1;
	}

	if (!expected.n)
		usage();
	for (i = first; i < argc; i++) {
		int h;

		if (!strcmp(argv[i], "modules")) {
			plan += MODULE_TESTS;
		} else if (!strcmp(argv[i], "heaps")) {
			plan++;
			for (h = 0; h < heaps.n; h++)
				plan += ARRAY_SIZE(heap_tests);
		} else if (!strcmp(argv[i], "efault")) {
			plan += 2 * heaps.n;
		} else if (!strcmp(argv[i], "holds") && i + 2 < argc) {
			plan++;
			i += 2;
		} else if (!strcmp(argv[i], "same") && i + 3 < argc) {
			plan++;
			i += 3;
		} else if (!strcmp(argv[i], "memcg") && i + 1 < argc &&
			   (!strcmp(argv[i + 1], "on") || !strcmp(argv[i + 1], "off"))) {
			plan += MEMCG_TESTS(!strcmp(argv[++i], "on"));
		} else {
			usage();
		}
	}
	tests_begin();
	ksft_set_plan(plan);
	for (i = first; i < argc; i++) {
		if (!strcmp(argv[i], "modules"))
			group_modules();
		else if (!strcmp(argv[i], "heaps"))
			group_heaps();
		else if (!strcmp(argv[i], "efault"))
			group_efault();
		else if (!strcmp(argv[i], "holds"))
			group_area(argv + i + 1, 2), i += 2;
		else if (!strcmp(argv[i], "same"))
			group_area(argv + i + 1, 3), i += 3;
		else
			group_memcg(!strcmp(argv[++i], "on"));
	}
	ksft_exit(plan && ksft_cnt.ksft_pass == (unsigned int)plan);
}
