// SPDX-License-Identifier: GPL-2.0
/*
 * Tests of coherent heaps from user space, beyond what heap-test does for every heap, as TAP:
 *
 *	coherent-test [--rounds N] HEAP...
 *
 * For each heap: it is filled up and emptied in several sizes; buffers of random sizes are
 * made and freed in random order, their contents checked for overlap and for old data;
 * mappings; what needs pages is refused. What is lost to rounding is printed.
 */
#include <sys/resource.h>
#include <sys/uio.h>

#include "test.h"

#define MAX_BUFFERS	16384
#define SLOTS		48

static unsigned int rounds = 2000;
static unsigned int seed = 20261121;

static unsigned int rnd(unsigned int n)
{
	return rand_r(&seed) % n;
}

static size_t power_of_two(size_t len)
{
	size_t p = 4 * KIB;

	while (p < len)
		p *= 2;
	return p;
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

/* Fill up, free all, and get the same again */
static bool exhaust(const char *name)
{
	size_t sizes[] = { 4 * KIB, 12 * KIB, 64 * KIB, MIB, 3 * MIB };
	int *fds = calloc(MAX_BUFFERS, sizeof(*fds));
	int heap = heap_open(name), first, again, pages = -1;
	unsigned int i;

	if (!fds || heap < 0)
		return fail("cannot open the heap: %s", strerror(errno));
	for (i = 0; i < ARRAY_SIZE(sizes); i++) {
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
		if (pages < 0)
			pages = first;
		ksft_print_msg("%s: %d buffers of %zu KiB in %zu KiB, %zu KiB lost to rounding\n",
			       name, first, sizes[i] / KIB, (size_t)pages * 4,
			       first * (power_of_two(sizes[i]) - sizes[i]) / KIB);
	}
	free(fds);
	close(heap);
	return pages > 0 ? true : fail("expected one page or more, saw none");
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

int main(int argc, char **argv)
{
	int i = 1;

	if (argc > 2 && !strcmp(argv[1], "--rounds")) {
		rounds = atoi(argv[2]);
		i = 3;
	}
	test_seconds = 600;
	/* a buffer is a file */
	if (setrlimit(RLIMIT_NOFILE, &(struct rlimit){ MAX_BUFFERS + 64, MAX_BUFFERS + 64 }))
		ksft_exit_fail_msg("cannot have many files open: %s\n", strerror(errno));
	if (i >= argc) {
		fprintf(stderr, "usage: coherent-test [--rounds N] HEAP...\n");
		return 2;
	}
	tests_begin();
	ksft_set_plan(6 * (argc - i));
	for (; i < argc; i++) {
		run_test(argv[i], "fills up, is emptied, fills up again", exhaust, argv[i]);
		run_test(argv[i], "random buffers never overlap and are zeroed", churn, argv[i]);
		run_test(argv[i], "maps of the whole and of parts", maps, argv[i]);
		run_test(argv[i], "what needs pages is refused", no_pages, argv[i]);
		run_test(argv[i], "access by the CPU needs no call", syncs, argv[i]);
		/* after all of these, nothing is left in the pool */
		run_test(argv[i], "nothing was leaked", exhaust, argv[i]);
	}
	ksft_finished();
}
