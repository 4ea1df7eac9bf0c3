// SPDX-License-Identifier: GPL-2.0
/*
 * The pools of coherent regions, a layer below the heaps, as TAP:
 *
 *	pool-test [--short] [--shared REGION] [--frames REGION] [--declared REGION] [REGION...]
 *
 * For each region: debugfs tells which pages its pool has, and how full it is; a buffer takes
 * its pages and gives back just these.
 *
 * --shared: the region is also that of the device of the module pool_user, whose buffers are
 * aligned as the DMA API promises; threads of its driver, some of them atomic, and the heap's
 * users take and free buffers at once. --frames: it can be filled with frames of 1080p, nearly
 * to the last byte. --declared: a region that no driver may have, of which memory is declared
 * for a device. --short is for slow kernels.
 */
#include <signal.h>
#include <sys/prctl.h>
#include <sys/resource.h>

#include "region.h"
#include "modules/pool_user.h"

#define FRAME		3110400UL	/* NV12, 1920 x 1080 */
#define MAX_BUFFERS	8192

static bool in_short;

static unsigned long pages_of(size_t len)
{
	return (len + PAGE - 1) / PAGE;
}

/* A heap of this region, and of no other; and the pool as it is before anybody uses it */
static int begin(const char *region, struct pool *p)
{
	if (!coherent_loads(region) || !pool_read(region, p))
		return -1;
	if (p->used)
		return fail("%s: expected nothing in use, saw %lu pages", region, p->used) - 1;
	return get_heap(region);
}

static bool end(const char *region)
{
	return pool_uses(region, 0) && coherent_unloads();
}

static bool is(const char *what, unsigned long long want, unsigned long long saw)
{
	return want == saw ? true : fail("expected %s of 0x%llx, saw 0x%llx", what, want, saw);
}

/* Full pages of what the device tree says, unless the kernel has placed it */
static bool pages(const char *region)
{
	uint64_t base, size, first, last;
	struct pool p;
	int heap;

	heap = begin(region, &p);
	if (heap < 0)
		return false;
	close(heap);
	if (!is("an odd part of the base", 0, p.base % PAGE) ||
	    !is("a largest free piece, in pages,", p.pages, p.largest))
		return false;
	if (strchr(region, '@')) {
		if (!region_reg(region, &base, &size))
			return false;
		first = (base + PAGE - 1) & -PAGE;
		last = (base + size) & -PAGE;
		if (!is("a base", first, p.base) || !is("pages", (last - first) / PAGE, p.pages))
			return false;
	} else if (!p.base || !p.pages) {
		return fail("expected a base and pages, saw 0x%llx and %lu", p.base, p.pages);
	}
	ksft_print_msg("%s: %lu pages at 0x%llx\n", region, p.pages, p.base);
	return end(region);
}

/* Of sizes that are no power of two */
static bool takes(const char *region)
{
	static const size_t sizes[] = {
		1, PAGE, PAGE + 1, 3 * PAGE, 5 * PAGE, 300000, 3000000, FRAME,
	};
	unsigned long used = 0;
	struct pool p, now = { 0 };
	int heap, buf[8];
	unsigned int i;

	heap = begin(region, &p);
	if (heap < 0)
		return false;
	for (i = 0; i < ARRAY_SIZE(sizes); i++) {
		if (used + pages_of(sizes[i]) > p.pages) {
			buf[i] = -1;
			continue;
		}
		buf[i] = heap_alloc(heap, sizes[i]);
		if (buf[i] < 0)
			return fail("%zu bytes: expected a buffer, saw %s", sizes[i],
				    strerror(errno));
		used += pages_of(sizes[i]);
		if (!pool_uses(region, used))
			return fail("%zu bytes: %s", sizes[i], strdup(why));
	}
	for (i = 0; i < ARRAY_SIZE(sizes); i++) {
		if (buf[i] < 0)
			continue;
		close(buf[i]);
		used -= pages_of(sizes[i]);
		if (!pool_uses(region, used))
			return fail("%zu bytes freed: %s", sizes[i], strdup(why));
	}
	/* all of it, to the last page, in one piece */
	buf[0] = heap_alloc(heap, p.pages * PAGE);
	if (buf[0] < 0)
		return fail("expected all %lu pages in one buffer, saw %s", p.pages,
			    strerror(errno));
	if (!pool_read(region, &now) || !is("pages in use", p.pages, now.used) ||
	    !is("a largest free piece", 0, now.largest))
		return false;
	close(buf[0]);
	close(heap);
	return end(region);
}

/* Every second page, then what is between */
static bool pieces(const char *region)
{
	int buf[MAX_BUFFERS], heap, i, n;
	struct pool p, now = { 0 };

	heap = begin(region, &p);
	if (heap < 0)
		return false;
	if (p.pages > MAX_BUFFERS)
		return fail("the region is too large for this test");
	for (n = 0; (buf[n] = heap_alloc(heap, PAGE)) >= 0; n++)
		if (n >= (int)p.pages)
			return fail("expected %lu buffers at most", p.pages);
	if (n != (int)p.pages)
		return fail("expected %lu buffers of a page, saw %d and %s", p.pages, n,
			    strerror(errno));
	for (i = 0; i < n; i += 2)
		close(buf[i]);
	/* a heap hands out the first pages that are free; so these were not side by side */
	if (!pool_read(region, &now) || !is("pages in use", n / 2, now.used) ||
	    !is("a largest free piece", 1, now.largest))
		return false;
	i = heap_alloc(heap, 2 * PAGE);
	if (!fails_with("two pages in one piece", i, ENOMEM))
		return false;
	for (i = 1; i < n; i += 2)
		close(buf[i]);
	if (!pool_read(region, &now) || !is("a largest free piece", p.pages, now.largest))
		return false;
	close(heap);
	return end(region);
}

/* Nearly all bytes of the pool are in a frame; and what the last user left is not. */
static bool frames(const char *region)
{
	int buf[MAX_BUFFERS], heap, i, n = 0, whole;
	struct pool p;
	unsigned char *map;

	heap = begin(region, &p);
	if (heap < 0)
		return false;
	whole = heap_alloc(heap, p.pages * PAGE);
	map = whole < 0 ? NULL : get_map(whole, p.pages * PAGE);
	if (!map)
		return fail("expected all of the pool, saw %s", strerror(errno));
	memset(map, 0xa5, p.pages * PAGE);
	munmap(map, p.pages * PAGE);
	close(whole);

	while (n < MAX_BUFFERS && (buf[n] = heap_alloc(heap, FRAME)) >= 0)
		n++;
	if (!fails_with("one frame more", buf[n], ENOMEM))
		return false;
	ksft_print_msg("%s: %d frames, %lu of %lu bytes\n", region, n, n * FRAME, p.pages * PAGE);
	if (n * FRAME * 100 < p.pages * PAGE * 99)
		return fail("expected 99 %% of the pool in frames, saw %lu of %lu bytes",
			    n * FRAME, p.pages * PAGE);
	for (i = 0; i < n; i++) {
		map = get_map(buf[i], FRAME);
		if (!map)
			return false;
		if (first_nonzero(map, FRAME) != FRAME)
			return fail("frame %d: expected zeroes, saw 0x%02x at byte %zu", i,
				    map[first_nonzero(map, FRAME)], first_nonzero(map, FRAME));
		fill(map, FRAME, i);
		munmap(map, FRAME);
	}
	for (i = 0; i < n; i++) {
		map = get_map(buf[i], FRAME);
		if (!map)
			return false;
		if (first_wrong(map, FRAME, i) != FRAME)
			return fail("frame %d: expected what was written, at byte %zu", i,
				    first_wrong(map, FRAME, i));
		munmap(map, FRAME);
		close(buf[i]);
	}
	close(heap);
	return end(region);
}

/* With a driver */

static int driver_open(void)
{
	int fd;

	if (!modprobe("pool_user"))
		return -1;
	fd = open("/dev/pool_user", O_RDWR | O_CLOEXEC);
	return fd >= 0 ? fd : fail("cannot open /dev/pool_user: %s", strerror(errno)) - 1;
}

static bool driver_close(int driver)
{
	close(driver);
	if (module_unload("pool_user"))
		return fail("expected pool_user to unload, saw %s", strerror(errno));
	return driver_gone("/sys/bus/platform/drivers/pool_user");
}

/* A multiple of the power of two that covers the size; but no more pages than it needs */
static bool aligned(const char *region)
{
	static const unsigned int sizes[] = { 1, 1, 3, 5, 2, 9, 1, 17, 4, 33, 6, 1, 12 };
	struct pool_user_alloc arg;
	unsigned long used = 0, order;
	unsigned int i;
	struct pool p;
	__u32 slot;
	int driver, heap;

	heap = begin(region, &p);
	driver = heap < 0 ? -1 : driver_open();
	if (driver < 0)
		return false;
	for (i = 0; i < ARRAY_SIZE(sizes); i++) {
		arg = (struct pool_user_alloc){ .len = sizes[i] * PAGE - i, .slot = i, .mark = i };
		if (ioctl(driver, POOL_USER_ALLOC, &arg))
			return fail("%u pages: expected a buffer, saw %s", sizes[i],
				    strerror(errno));
		for (order = PAGE; order < arg.len; order *= 2)
			;
		used += sizes[i];
		if (!is("an odd part of the address", 0, arg.addr % order) ||
		    !pool_uses(region, used))
			return fail("%u pages: %s", sizes[i], strdup(why));
	}
	for (i = 0; i < ARRAY_SIZE(sizes); i++) {
		slot = (i * 5) % ARRAY_SIZE(sizes);
		if (ioctl(driver, POOL_USER_FREE, &slot))
			return fail("cannot free buffer %u: %s", slot, strerror(errno));
		used -= sizes[slot];
		if (!pool_uses(region, used))
			return fail("%u pages freed: %s", sizes[slot], strdup(why));
	}
	close(heap);
	return driver_close(driver) && end(region);
}

/* A process that takes and frees buffers of the heap, each marked as its own, until it is killed */
static int churn(const char *region, unsigned int seed, volatile unsigned long *count)
{
	struct { int fd; size_t len; unsigned char *p, mark; } held[12] = { 0 }, *b;
	int heap = get_heap(region);
	size_t i;

	while (heap >= 0) {
		b = &held[rand_r(&seed) % ARRAY_SIZE(held)];
		if (b->p) {
			for (i = 0; i < b->len; i++)
				if (b->p[i] != b->mark)
					return !fail("expected 0x%02x at byte %zu of %zu, saw 0x%02x",
						     b->mark, i, b->len, b->p[i]);
			munmap(b->p, b->len);
			close(b->fd);
			b->p = NULL;
			continue;
		}
		b->len = 1 + rand_r(&seed) % (16 * PAGE);
		b->mark = rand_r(&seed);
		b->fd = heap_alloc(heap, b->len);
		if (b->fd < 0) {
			if (errno != ENOMEM)
				return !fail("expected ENOMEM or a buffer, saw %s", strerror(errno));
			continue;
		}
		b->p = get_map(b->fd, b->len);
		if (!b->p)
			return 1;
		i = first_nonzero(b->p, b->len);
		if (i != b->len)
			return !fail("expected zeroes, saw 0x%02x at byte %zu of %zu", b->p[i], i,
				     b->len);
		memset(b->p, b->mark, b->len);
		++*count;
	}
	return 1;
}

#define CHURNERS	3

static bool at_once(const char *region)
{
	struct pool_user_threads arg = {
		.threads = 4,
		.ms = in_short ? 20000 : 10000,
		.pages = 16,
	};
	volatile unsigned long *count;
	int driver, heap, i, ret, err, status, before = buffers();
	bool ok = true;
	pid_t pid[CHURNERS];
	struct pool p;

	count = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	heap = count == MAP_FAILED || before < 0 ? -1 : begin(region, &p);
	driver = heap < 0 ? -1 : driver_open();
	if (driver < 0)
		return false;
	close(heap);
	for (i = 0; i < CHURNERS; i++) {
		pid[i] = fork();
		if (!pid[i]) {
			prctl(PR_SET_PDEATHSIG, SIGKILL);
			_exit(churn(region, i + 1, &count[i]));
		}
		if (pid[i] < 0)
			return fail("no process: %s", strerror(errno));
	}
	ret = ioctl(driver, POOL_USER_THREADS, &arg);
	err = errno;
	for (i = 0; i < CHURNERS; i++) {
		kill(pid[i], SIGKILL);
		if (waitpid(pid[i], &status, 0) != pid[i])
			return fail("no status of a process: %s", strerror(errno));
		/* one that ended by itself has said why */
		ok &= WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL;
	}
	if (!ok)
		return fail_at("a user of the heap");
	if (ret)
		return fail("expected the threads to run, saw %s", strerror(err));
	ksft_print_msg("%s: %llu buffers of the driver, %llu of them atomic, %llu times full; %lu, %lu and %lu of the heap\n",
		       region, arg.taken, arg.atomic, arg.full, count[0], count[1], count[2]);
	if (arg.wrong)
		return fail("expected the driver's buffers as they were, saw %u others", arg.wrong);
	if (arg.atomic < 50 || arg.taken < 2 * 50 || arg.full < 10)
		return fail("expected many buffers, and a pool that is full at times");
	for (i = 0; i < CHURNERS; i++)
		if (count[i] < 50)
			return fail("expected many buffers of the heap, saw %lu", count[i]);
	return buffers_are(before) && pool_uses(region, 0) && driver_close(driver) && end(region);
}

/* Memory that a driver declares */

static bool symbol(const char *name, __u64 *addr)
{
	char line[512], word[256], type;
	unsigned long long a;
	FILE *f;

	*addr = 0;
	f = fopen("/proc/kallsyms", "re");
	while (f && !*addr && fgets(line, sizeof(line), f))
		if (sscanf(line, "%llx %c %255s", &a, &type, word) == 3 && !strcmp(word, name))
			*addr = a;
	if (f)
		fclose(f);
	return *addr ? true : fail("expected %s in /proc/kallsyms", name);
}

/* So many bytes, so far into the region; which pages of the region are there? 0: none, -EINVAL */
static bool declare(int driver, const char *region, uint64_t offset, uint64_t size,
		    unsigned int first, unsigned int want)
{
	struct pool_user_declare arg = { 0 };
	uint64_t base, all;

	if (!region_reg(region, &base, &all) || !log_mark() ||
	    !symbol("dma_declare_coherent_memory", &arg.declare) ||
	    !symbol("dma_release_coherent_memory", &arg.release))
		return false;
	if (offset + size > all)
		return fail("the test is wrong: this is more than the region");
	arg.phys = base + offset;
	arg.size = size;
	if (ioctl(driver, POOL_USER_DECLARE, &arg))
		return fail("expected a device, saw %s", strerror(errno));
	if (!want)
		return arg.ret == -EINVAL ? log_says("pool_declared", NULL, 1) :
		       fail("expected EINVAL, saw %d", arg.ret);
	if (arg.ret || arg.pages != want)
		return fail("expected %u pages, saw %u and %d", want, arg.pages, arg.ret);
	return is("a first page", base + first * PAGE, arg.first) &&
	       is("a last page", base + (first + want - 1) * PAGE, arg.last);
}

static bool declared(const char *region)
{
	int driver = driver_open();

	if (driver < 0)
		return false;
	return (declare(driver, region, 0, 4 * PAGE, 0, 4) || fail_at("full pages")) &&
	       (declare(driver, region, 0, 4 * PAGE + 1000, 0, 4) || fail_at("an odd end")) &&
	       (declare(driver, region, 1000, 4 * PAGE, 1, 3) || fail_at("an odd beginning")) &&
	       (declare(driver, region, 4095, 2 * PAGE + 2, 1, 2) || fail_at("both")) &&
	       (declare(driver, region, PAGE, PAGE, 1, 1) || fail_at("one page")) &&
	       driver_close(driver);
}

static bool declared_too_small(const char *region)
{
	int driver = driver_open();

	if (driver < 0)
		return false;
	return (declare(driver, region, 0, 1, 0, 0) || fail_at("a byte")) &&
	       (declare(driver, region, 0, PAGE - 1, 0, 0) || fail_at("a byte less")) &&
	       (declare(driver, region, 1, 2 * PAGE - 2, 0, 0) || fail_at("parts of two")) &&
	       /* the device is as good as before */
	       (declare(driver, region, PAGE, 2 * PAGE, 1, 2) || fail_at("afterwards")) &&
	       driver_close(driver);
}

int main(int argc, char **argv)
{
	static const struct {
		const char *option, *name;
		test_fn fn;
	} tests[] = {
		{ "", "debugfs has the full pages of the region", pages },
		{ "", "a buffer takes its pages, and gives them back", takes },
		{ "", "the largest free piece", pieces },
		{ "--shared", "a driver's buffers are aligned, and take their pages", aligned },
		{ "--shared", "a driver's threads, some of them atomic, and the heap's users at once",
		  at_once },
		{ "--frames", "99 % of the bytes can be frames, and they are zeroed", frames },
		{ "--declared", "declared memory is rounded inward to full pages", declared },
		{ "--declared", "declared memory without a full page is refused",
		  declared_too_small },
	};
	const char *option = "";
	int i, pass, plan = 0;
	unsigned int t;

	test_seconds = 600;
	if (setrlimit(RLIMIT_NOFILE, &(struct rlimit){ MAX_BUFFERS + 64, MAX_BUFFERS + 64 }))
		ksft_exit_fail_msg("cannot have many files open: %s\n", strerror(errno));
	for (pass = 0; pass < 2; pass++) {
		for (i = 1; i < argc; i++) {
			if (!strcmp(argv[i], "--short"))
				in_short = true;
			else if (!strncmp(argv[i], "--", 2))
				option = argv[i];
			else {
				for (t = 0; t < ARRAY_SIZE(tests); t++) {
					if (strcmp(option, tests[t].option))
						continue;
					if (pass)
						run_unloaded(argv[i], tests[t].name, tests[t].fn,
							     argv[i]);
					else
						plan++;
				}
				option = "";
			}
		}
		if (!plan) {
			fprintf(stderr, "usage: pool-test [--short] [--shared REGION] [--frames REGION] [--declared REGION] [REGION...]\n");
			return 2;
		}
		if (!pass) {
			tests_begin();
			ksft_set_plan(plan);
		}
	}
	ksft_finished();
}
