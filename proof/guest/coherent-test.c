// SPDX-License-Identifier: GPL-2.0
/*
 * Tests of coherent heaps from user space, beyond what heap-test does for every heap, as TAP:
 *
 *	coherent-test [--rounds N | --short] HEAP... [--driver HEAP]
 *
 * For each heap: it is filled up and emptied in several sizes; buffers of random sizes are
 * made and freed in random order, their contents checked for overlap and for old data;
 * mappings; what needs pages is refused. No byte is lost but to full pages.
 *
 * --short is for slow kernels: 150 rounds, and large pools are not filled with small buffers.
 * --driver: the region of that heap is also that of a device whose driver is the module
 * pool_user. They share the pool: neither gets what the other has, and both see its end.
 */
#include <sys/resource.h>
#include <sys/uio.h>

#include "test.h"
#include "modules/pool_user.h"

#define MAX_BUFFERS	16384
#define SLOTS		48

static unsigned int rounds = 2000;
static bool in_short;
static unsigned int seed = 20261121;

static unsigned int rnd(unsigned int n)
{
	return rand_r(&seed) % n;
}

/* How many buffers of that size there are, with their fds in fds; -1 when it does not end well */
static int fill_up(int heap, size_t len, int *fds)
{
	int n;

	for (n = 0; n < MAX_BUFFERS; n++) {
		fds[n] = heap_alloc(heap, len);
		if (fds[n] < 0)
			break;
	}
	if (n == MAX_BUFFERS || errno != ENOMEM) {
		fail("%zu bytes: expected ENOMEM in the end, saw %s after %d buffers", len,
		     n == MAX_BUFFERS ? "none" : strerror(errno), n);
		while (n--)
			close(fds[n]);
		return -1;
	}
	return n;
}

static void close_all(int *fds, int n)
{
	while (n--)
		close(fds[n]);
}

/* The largest power of two that the pool has in one piece; 0 if it has no page */
static size_t pool_size(int heap)
{
	size_t len;
	int buf = -1;

	for (len = 64 * MIB; len >= 4 * KIB && buf < 0; len /= 2)
		buf = heap_alloc(heap, len);
	if (buf < 0)
		return 0;
	close(buf);
	return 2 * len;
}

static const size_t sizes[] = { 4 * KIB, 12 * KIB, 64 * KIB, MIB, 3 * MIB };

/* How many buffers of each size the heap gave at first; shared by the tests' processes */
static int *at_first;

/* Fill up, free all, and get the same again */
static bool exhaust(const char *name)
{
	int *fds = calloc(MAX_BUFFERS, sizeof(*fds));
	int heap = heap_open(name), first, again, pages = -1;
	unsigned int i;

	if (!fds || heap < 0)
		return fail("cannot open the heap: %s", strerror(errno));
	for (i = 0; i < ARRAY_SIZE(sizes); i++) {
		if (in_short && sizes[i] < 64 * KIB && pool_size(heap) >= 4 * MIB)
			continue;
		first = fill_up(heap, sizes[i], fds);
		if (first < 0)
			return false;
		/* a second request fails in the same way, and one that never could be met */
		if (heap_alloc(heap, sizes[i]) >= 0 || errno != ENOMEM ||
		    heap_alloc(heap, 1ULL << 40) >= 0 || errno != ENOMEM)
			return fail("%zu bytes: expected ENOMEM from the full pool", sizes[i]);
		close_all(fds, first);
		again = fill_up(heap, sizes[i], fds);
		if (again < 0)
			return false;
		close_all(fds, again);
		if (again != first)
			return fail("%zu bytes: expected %d buffers again, saw %d", sizes[i],
				    first, again);
		at_first[i] = first;
		if (pages < 0)
			pages = first * sizes[i] / (4 * KIB);
		ksft_print_msg("%s: %d buffers of %zu KiB in %zu KiB\n", name, first,
			       sizes[i] / KIB, (size_t)pages * 4);
		if ((size_t)first != pages * 4 * KIB / sizes[i])
			return fail("%zu bytes: expected %zu buffers in %d pages, saw %d", sizes[i],
				    pages * 4 * KIB / sizes[i], pages, first);
	}
	free(fds);
	close(heap);
	return pages > 0 ? true : fail("expected one page or more, saw none");
}

/* After all the other tests, the heap gives what it gave at first. */
static bool nothing_leaked(const char *name)
{
	int before[ARRAY_SIZE(sizes)];
	unsigned int i;

	memcpy(before, at_first, sizeof(before));
	if (!exhaust(name))
		return false;
	for (i = 0; i < ARRAY_SIZE(sizes); i++)
		if (at_first[i] != before[i])
			return fail("%zu bytes: expected %d buffers as at first, saw %d", sizes[i],
				    before[i], at_first[i]);
	return true;
}

struct slot {
	int fd;
	size_t len;
	unsigned char *p;
	unsigned int mark;
};

static bool slot_ok(const struct slot *s)
{
	size_t at = first_wrong(s->p, s->len, s->mark);

	return at == s->len ? true :
	       fail("%zu bytes: expected 0x%02x at byte %zu, saw 0x%02x: somebody else wrote",
		    s->len, pattern(at, s->mark), at, s->p[at]);
}

/* Sizes up to 3 MiB, often small, few of them multiples of the page size */
static size_t some_size(void)
{
	return 1 + rnd(rnd(4) ? 12 * KIB : rnd(8) ? 256 * KIB : 3 * MIB);
}

static bool churn(const char *name)
{
	struct slot slots[SLOTS] = { 0 }, *s;
	unsigned int i, full = 0;
	size_t at;
	int heap = heap_open(name);

	if (heap < 0)
		return fail("cannot open the heap: %s", strerror(errno));
	for (i = 0; i < rounds; i++) {
		s = &slots[rnd(SLOTS)];
		if (s->p) {
			if (!slot_ok(s))
				return false;
			munmap(s->p, s->len);
			close(s->fd);
			s->p = NULL;
			continue;
		}
		s->len = some_size();
		s->mark = i;
		s->fd = heap_alloc(heap, s->len);
		if (s->fd < 0) {
			if (errno != ENOMEM)
				return fail("round %u: expected ENOMEM or a buffer, saw %s", i,
					    strerror(errno));
			full++;
			continue;
		}
		s->p = buffer_map(s->fd, s->len);
		if (s->p == MAP_FAILED)
			return fail("round %u: cannot map: %s", i, strerror(errno));
		at = first_nonzero(s->p, s->len);
		if (at != s->len)
			return fail("round %u: expected zero, saw 0x%02x at byte %zu of %zu", i,
				    s->p[at], at, s->len);
		fill(s->p, s->len, s->mark);
	}
	for (s = slots; s < slots + SLOTS; s++)
		if (s->p && !slot_ok(s))
			return false;
	ksft_print_msg("%s: %u rounds, the pool was full in %u\n", name, rounds, full);
	return true;
}

#define LEN	(4 * 4 * KIB)

static bool map_fails(int fd, size_t len, int flags, off_t offset, int err)
{
	void *p = mmap(NULL, len, PROT_READ | PROT_WRITE, flags, fd, offset);

	if (p != MAP_FAILED)
		return fail("mmap of %zu bytes at %ld: expected %s, but it succeeded", len,
			    (long)offset, strerror(err));
	return errno == err ? true :
	       fail("mmap of %zu bytes at %ld: expected %s, saw %s", len, (long)offset,
		    strerror(err), strerror(errno));
}

static bool maps(const char *name)
{
	int heap = heap_open(name), fd = heap_alloc(heap, LEN), status;
	unsigned char *whole, *part;
	size_t i;
	pid_t pid;

	if (fd < 0)
		return fail("expected a buffer, saw %s", strerror(errno));
	whole = buffer_map(fd, LEN);
	if (whole == MAP_FAILED)
		return fail("whole: cannot map: %s", strerror(errno));
	fill(whole, LEN, 9);
	part = mmap(NULL, 2 * 4 * KIB, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 4 * KIB);
	if (part == MAP_FAILED)
		return fail("the middle: cannot map: %s", strerror(errno));
	for (i = 0; i < 2 * 4 * KIB; i++)
		if (part[i] != pattern(i + 4 * KIB, 9))
			return fail("the middle: expected 0x%02x at %zu, saw 0x%02x",
				    pattern(i + 4 * KIB, 9), i, part[i]);
	part[5] = 0x77;
	if (whole[4 * KIB + 5] != 0x77)
		return fail("expected both maps to show the same memory");
	if (!map_fails(fd, LEN + 4 * KIB, MAP_SHARED, 0, EINVAL) ||
	    !map_fails(fd, LEN, MAP_SHARED, 4 * KIB, EINVAL) ||
	    !map_fails(fd, 4 * KIB, MAP_SHARED, LEN, EINVAL) ||
	    !map_fails(fd, LEN, MAP_PRIVATE, 0, EINVAL))
		return false;
	if (mremap(part, 2 * 4 * KIB, LEN, MREMAP_MAYMOVE) != MAP_FAILED)
		return fail("expected mremap() not to grow a map");
	if (munmap(whole, 4 * KIB) || whole[4 * KIB + 5] != 0x77)
		return fail("expected the rest to stay when the first page is unmapped");
	/* the maps outlive the fds, and a child has them, too */
	close(fd);
	close(heap);
	pid = fork();
	if (!pid) {
		part[6] = 0x78;
		_exit(whole[4 * KIB + 5] != 0x77);
	}
	if (pid < 0 || waitpid(pid, &status, 0) != pid || status || part[6] != 0x78)
		return fail("expected a child to share the map");
	return true;
}

/* There are no pages to pin, and the attempt does no harm */
static bool no_pages(const char *name)
{
	int heap = heap_open(name), fd = heap_alloc(heap, LEN), fds[2];
	struct iovec iov = { .iov_len = 4 * KIB };

	iov.iov_base = buffer_map(fd, LEN);
	if (fd < 0 || iov.iov_base == MAP_FAILED || pipe(fds))
		return fail("expected a buffer and a pipe, saw %s", strerror(errno));
	if (vmsplice(fds[1], &iov, 1, 0) >= 0 || errno != EFAULT)
		return fail("vmsplice: expected EFAULT, saw %s", strerror(errno));
	/* what copies works */
	if (write(fds[1], iov.iov_base, 64) != 64)
		return fail("write: expected 64 bytes from the map, saw %s", strerror(errno));
	return true;
}

/* The calls for access by the CPU work and change nothing */
static bool syncs(const char *name)
{
	int heap = heap_open(name), fd = heap_alloc(heap, LEN);
	unsigned char *p = buffer_map(fd, LEN);

	if (fd < 0 || p == MAP_FAILED)
		return fail("expected a buffer, saw %s", strerror(errno));
	fill(p, LEN, 3);
	if (buffer_sync(fd, DMA_BUF_SYNC_START | DMA_BUF_SYNC_RW) ||
	    buffer_sync(fd, DMA_BUF_SYNC_END | DMA_BUF_SYNC_RW))
		return fail("expected the calls to succeed, saw %s", strerror(errno));
	return first_wrong(p, LEN, 3) == LEN ? true : fail("expected the contents to stay");
}

/* With a driver */

static int driver = -1;		/* its device */

/* The module, with this heap alone */
static bool heap_loads(const char *name)
{
	snprintf(coherent_params, sizeof(coherent_params), "regions=%s", name);
	return modprobe("coherent_heap");
}

static bool driver_loads(void)
{
	if (!modprobe("pool_user"))
		return false;
	driver = open("/dev/pool_user", O_RDWR | O_CLOEXEC);
	return driver >= 0 ? true : fail("cannot open /dev/pool_user: %s", strerror(errno));
}

static bool driver_unloads(void)
{
	close(driver);
	if (module_unload("pool_user"))
		return fail("expected pool_user to unload, saw %s", strerror(errno));
	return driver_gone("/sys/bus/platform/drivers/pool_user");
}

static int driver_alloc(unsigned int slot, size_t len, unsigned int mark)
{
	struct pool_user_alloc arg = { .len = len, .slot = slot, .mark = mark };

	return ioctl(driver, POOL_USER_ALLOC, &arg);
}

static bool driver_free(unsigned int slot)
{
	__u32 arg = slot;

	return !ioctl(driver, POOL_USER_FREE, &arg) ||
	       fail("expected the driver to have buffer %u, saw %s", slot, strerror(errno));
}

static bool driver_good(void)
{
	return !ioctl(driver, POOL_USER_CHECK) ||
	       fail("expected the driver's buffers as they were: somebody else wrote (%s)",
		    strerror(errno));
}

/* The heap's buffers until the pool is full, each of them written: how many; or -1 */
static int heap_takes_all(int heap, size_t len, int *fds)
{
	unsigned char *p;
	int i, n;

	n = fill_up(heap, len, fds);
	for (i = 0; i < n; i++) {
		p = buffer_map(fds[i], len);
		if (p == MAP_FAILED || first_nonzero(p, len) != len)
			return fail("expected a zeroed buffer, saw %s",
				    p == MAP_FAILED ? strerror(errno) : "another") - 1;
		fill(p, len, i);
		munmap(p, len);
	}
	return n;
}

static int driver_takes_all(size_t len, unsigned int first)
{
	int n = 0;

	while (first + n < POOL_USER_SLOTS && !driver_alloc(first + n, len, first + n))
		n++;
	if (first + n == POOL_USER_SLOTS || errno != ENOMEM)
		return fail("expected ENOMEM for the driver in the end, saw %s",
			    first + n == POOL_USER_SLOTS ? "none" : strerror(errno)) - 1;
	return n;
}

static bool driver_frees(unsigned int first, int n)
{
	while (n--)
		if (!driver_free(first + n))
			return false;
	return true;
}

#define SHARE		(16 * KIB)

/* What one has, the other cannot get; what it gives back, the other gets. */
static bool shares_exhaustion(const char *name)
{
	int *fds = calloc(MAX_BUFFERS, sizeof(*fds)), heap = heap_open(name), all, n, i;

	if (!fds || heap < 0 || !driver_loads())
		return false;
	all = heap_takes_all(heap, SHARE, fds);
	if (all < 16)
		return all < 0 ? false : fail("expected 16 buffers or more, saw %d", all);
	if (!fails_with("the driver, from a full pool", driver_alloc(0, 4 * KIB, 0), ENOMEM))
		return false;
	for (i = 0; i < 5; i++)
		close(fds[--all]);
	n = driver_takes_all(SHARE, 0);
	if (n != 5)
		return n < 0 ? false : fail("expected 5 buffers for the driver, saw %d", n);
	if (heap_alloc(heap, 4 * KIB) >= 0 || errno != ENOMEM)
		return fail("the heap: expected ENOMEM from a pool that a driver filled");
	close_all(fds, all);
	all += n;
	n = driver_takes_all(SHARE, 5);
	if (n + 5 != all)
		return n < 0 ? false : fail("expected %d more for the driver, saw %d", all - 5, n);
	if (heap_alloc(heap, 4 * KIB) >= 0 || errno != ENOMEM)
		return fail("the heap: expected ENOMEM from a pool that is the driver's");
	if (!driver_good() || !driver_frees(0, 7))
		return false;
	n = heap_takes_all(heap, SHARE, fds);
	if (n != 7)
		return n < 0 ? false : fail("expected 7 buffers for the heap, saw %d", n);
	if (!driver_good() || !driver_frees(7, all - 7))
		return false;
	close_all(fds, n);
	ksft_print_msg("%s: %d buffers of %zu KiB for the two\n", name, all, SHARE / KIB);
	return driver_unloads();
}

/* In random order, by turns: contents tell whether any two overlap. */
static bool shares_at_random(const char *name)
{
	struct slot slots[SLOTS] = { 0 }, *s;
	bool drivers[SLOTS] = { 0 };
	unsigned int i, k, full[2] = { 0 };
	int heap = heap_open(name);

	if (heap < 0 || !driver_loads())
		return false;
	for (i = 0; i < rounds; i++) {
		k = rnd(SLOTS);
		s = &slots[k];
		/* all of them, which takes its time */
		if (i % 8 == 0 && !driver_good())
			return false;
		if (drivers[k]) {
			if (!driver_free(k))
				return false;
			drivers[k] = false;
		} else if (s->p) {
			if (!slot_ok(s))
				return false;
			munmap(s->p, s->len);
			close(s->fd);
			s->p = NULL;
		} else if (rnd(2)) {
			drivers[k] = !driver_alloc(k, some_size(), i);
			if (!drivers[k] && errno != ENOMEM)
				return fail("round %u: driver: expected ENOMEM or a buffer, saw %s",
					    i, strerror(errno));
			full[0] += !drivers[k];
		} else {
			s->len = some_size();
			s->mark = i;
			s->fd = heap_alloc(heap, s->len);
			if (s->fd < 0 && errno != ENOMEM)
				return fail("round %u: expected ENOMEM or a buffer, saw %s", i,
					    strerror(errno));
			full[1] += s->fd < 0;
			if (s->fd < 0)
				continue;
			s->p = buffer_map(s->fd, s->len);
			if (s->p == MAP_FAILED || first_nonzero(s->p, s->len) != s->len)
				return fail("round %u: expected a zeroed buffer of %zu bytes", i,
					    s->len);
			fill(s->p, s->len, s->mark);
		}
	}
	for (s = slots; s < slots + SLOTS; s++)
		if (s->p && !slot_ok(s))
			return false;
	ksft_print_msg("%s: %u rounds, pool full for the driver %u times, for the heap %u\n",
		       name, rounds, full[0], full[1]);
	/* its remove function frees what the driver has */
	return driver_good() && driver_unloads();
}

/* The heap goes and comes back, or the driver does: the other keeps what it has. */
static bool outlives(const char *name)
{
	int *fds = calloc(MAX_BUFFERS, sizeof(*fds)), heap, buf, i, n;
	unsigned char *p;

	if (!fds || !driver_loads())
		return false;
	for (i = 0; i < 10; i++)
		if (driver_alloc(i, SHARE, i))
			return fail("expected a buffer for the driver, saw %s", strerror(errno));
	if (module_unload("coherent_heap"))
		return fail("expected coherent_heap to unload, saw %s", strerror(errno));
	if (!driver_good() || driver_alloc(10, SHARE, 10))
		return fail_at("without the heap");
	if (!heap_loads(name))
		return false;
	/* it was the driver's pool before it was the heap's again, and still is one */
	heap = get_heap(name);
	n = heap < 0 ? -1 : heap_takes_all(heap, SHARE, fds);
	if (n < 0 || !driver_good())
		return false;
	if (!fails_with("the driver, from a full pool", driver_alloc(11, 4 * KIB, 0), ENOMEM))
		return false;
	close_all(fds, n);

	buf = heap_alloc(heap, SHARE);
	p = buf < 0 ? MAP_FAILED : buffer_map(buf, SHARE);
	if (p == MAP_FAILED)
		return fail("expected a buffer, saw %s", strerror(errno));
	fill(p, SHARE, 99);
	if (!driver_unloads())
		return false;
	if (first_wrong(p, SHARE, 99) != SHARE)
		return fail("expected the heap's buffer as it was without the driver");
	i = heap_takes_all(heap, SHARE, fds);
	if (i != n + 10)
		return i < 0 ? false : fail("expected %d buffers without the driver, saw %d",
					    n + 10, i);
	if (!driver_loads() ||
	    !fails_with("the driver, from a full pool", driver_alloc(0, 4 * KIB, 0), ENOMEM))
		return false;
	close_all(fds, i);
	if (driver_takes_all(SHARE, 0) != n + 10 || !driver_good())
		return fail_at("the driver, back again");
	if (first_wrong(p, SHARE, 99) != SHARE)
		return fail("expected the heap's buffer as it was with the driver back");
	return driver_unloads();
}

/* Loaded first, the driver makes the pool that the heap then finds. */
static bool driver_first(const char *name)
{
	if (module_unload("coherent_heap"))
		return fail("expected coherent_heap to unload, saw %s", strerror(errno));
	return driver_loads() && heap_loads(name) && driver_unloads() &&
	       shares_exhaustion(name);
}

static const struct {
	const char *name;
	test_fn fn;
} driver_tests[] = {
	{ "a driver and the heap see the same end of the pool", shares_exhaustion },
	{ "a driver's buffers and the heap's never overlap", shares_at_random },
	{ "the heap and the driver outlive each other", outlives },
	{ "the driver is there first", driver_first },
	{ "nothing was leaked to the driver", nothing_leaked },
};

int main(int argc, char **argv)
{
	const char *shared = NULL;
	unsigned int t;
	int i = 1;

	if (argc > 2 && !strcmp(argv[argc - 2], "--driver")) {
		shared = argv[argc - 1];
		argc -= 2;
	}

	if (argc > 1 && !strcmp(argv[1], "--short")) {
		in_short = true;
		rounds = 150;
		i = 2;
	} else if (argc > 2 && !strcmp(argv[1], "--rounds")) {
		rounds = atoi(argv[2]);
		i = 3;
	}
	test_seconds = 600;
	/* a buffer is a file */
	if (setrlimit(RLIMIT_NOFILE, &(struct rlimit){ MAX_BUFFERS + 64, MAX_BUFFERS + 64 }))
		ksft_exit_fail_msg("cannot have many files open: %s\n", strerror(errno));
	if (i >= argc && !shared) {
		fprintf(stderr,
			"usage: coherent-test [--rounds N | --short] HEAP... [--driver HEAP]\n");
		return 2;
	}
	at_first = mmap(NULL, sizeof(sizes), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS,
			-1, 0);
	if (at_first == MAP_FAILED)
		ksft_exit_fail_msg("no shared memory: %s\n", strerror(errno));
	tests_begin();
	ksft_set_plan(6 * (argc - i) + (shared ? 1 + ARRAY_SIZE(driver_tests) : 0));
	for (; i < argc; i++) {
		run_test(argv[i], "fills up, is emptied, fills up again", exhaust, argv[i]);
		run_test(argv[i], "random buffers never overlap and are zeroed", churn, argv[i]);
		run_test(argv[i], "maps of the whole and of parts", maps, argv[i]);
		run_test(argv[i], "what needs pages is refused", no_pages, argv[i]);
		run_test(argv[i], "the calls for access by the CPU change nothing", syncs, argv[i]);
		run_test(argv[i], "nothing was leaked", nothing_leaked, argv[i]);
	}
	if (shared)
		run_test(shared, "fills up, before there is a driver", exhaust, shared);
	for (t = 0; shared && t < ARRAY_SIZE(driver_tests); t++)
		run_test(shared, driver_tests[t].name, driver_tests[t].fn, shared);
	ksft_finished();
}
