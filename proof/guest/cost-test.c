// SPDX-License-Identifier: GPL-2.0
/*
 * How many instructions it takes to use a heap, as TAP:
 *
 *	cost-test [HEAP]...
 *
 * For a guest whose clock counts instructions: proof/bin/boot --icount --cpus 1. Opens the
 * heap, allocates 4 KiB, closes the buffer and closes the heap, over and over, and prints for
 * each of these steps, for their sum, and for a system call that does next to nothing
 *
 *	# cost HEAP STEP LEAST MIDDLE MOST
 *
 * in instructions: those of the system call, its way in and out, and the C library. What a
 * step takes depends, by a percent or two, on how full the slabs and the lists of free pages
 * happen to be, which says nothing about heaps. Each batch of rounds therefore starts with
 * another number of heaps and buffers that are held, and with nothing left to do for RCU.
 * LEAST, where least of that came in the way, is the same each time, and for comparing;
 * MIDDLE is the mean of the middle half of the batches, and MOST has timer interrupts in it.
 */
#include "test.h"

#define ROUNDS		64	/* in a batch: a counter may count 16 instructions at once */
#define HELD		67	/* at most one less: two slabs of 32, and odd */
#define BATCHES		HELD
#define WARM_UP		4
#define LOOPS		50000	/* of two instructions: shorter than from one tick to the next */

enum { OPEN, ALLOC, CLOSE_BUFFER, CLOSE_HEAP, CYCLE, SYSCALL, STEPS };

static const char *const step_names[STEPS] = {
	"open", "alloc", "close-buffer", "close-heap", "cycle", "syscall",
};

static double batches[STEPS][BATCHES];

#ifdef __aarch64__
static inline __u64 counter(void)
{
	__u64 n;

	asm volatile("isb\n\tmrs %0, cntvct_el0" : "=r" (n) : : "memory");
	return n;
}

/* Instructions for one count, if a second is 10^9 of them */
static double expected_scale(void)
{
	__u64 hz;

	asm volatile("mrs %0, cntfrq_el0" : "=r" (hz));
	return 1e9 / hz;
}

static inline void two_instructions(unsigned long n)
{
	asm volatile("1: subs %0, %0, #1\n\tb.ne 1b" : "+r" (n) : : "cc");
}
#else
static inline __u64 counter(void)
{
	__u32 lo, hi;

	asm volatile("lfence\n\trdtsc" : "=a" (lo), "=d" (hi) : : "memory");
	return (__u64)hi << 32 | lo;
}

static double expected_scale(void)
{
	return 1;
}

static inline void two_instructions(unsigned long n)
{
	asm volatile("1: dec %0\n\tjnz 1b" : "+r" (n) : : "cc");
}
#endif

static int compare(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

static double by_counter(void)
{
	return counter() * expected_scale();
}

/* The kernel's clock, which may be another one: what guest/modules measures with */
static double by_clock(void)
{
	return seconds_now() * 1e9;
}

/* A loop of a known length takes that many instructions. An interrupt can only add some. */
static bool counts(const char *what, double (*now)(void))
{
	double n, least = 1e9;
	int i;

	for (i = 0; i < 20; i++) {
		n = now();
		two_instructions(LOOPS);
		n = now() - n;
		least = n < least ? n : least;
	}
	ksft_print_msg("a loop of %d instructions takes %.0f by the %s\n", 2 * LOOPS, least, what);
	if (least < 0.999 * 2 * LOOPS || least > 1.005 * 2 * LOOPS)
		return fail("expected %d instructions, saw %.0f by the %s: no --icount?",
			    2 * LOOPS, least, what);
	return true;
}

static bool counts_instructions(const char *arg)
{
	(void)arg;
	ksft_print_msg("one count is %g instructions\n", expected_scale());
	return counts("counter", by_counter) && counts("clock", by_clock);
}

/* What is to be measured must have happened when close() returns. */
static bool closes_at_once(const char *name)
{
	int heap, buf;

	heap = get_heap(name);
	if (heap < 0)
		return false;
	buf = heap_alloc(heap, 4 * KIB);
	if (buf < 0)
		return fail("expected a buffer, saw %s", strerror(errno));
	if (!buffers_are(1))
		return false;
	close(buf);
	return buffers_are(0);
}

/* What ROUNDS rounds count */
static bool rounds(const char *path, __u64 *sum)
{
	__u64 t[STEPS];
	int i, heap, ret;

	memset(sum, 0, STEPS * sizeof(*sum));
	for (i = 0; i < ROUNDS; i++) {
		struct dma_heap_allocation_data data = {
			.len = 4 * KIB,
			.fd_flags = O_RDWR | O_CLOEXEC,
		};

		t[0] = counter();
		heap = open(path, O_RDWR | O_CLOEXEC);
		t[1] = counter();
		ret = ioctl(heap, DMA_HEAP_IOCTL_ALLOC, &data);
		t[2] = counter();
		close(data.fd);
		t[3] = counter();
		close(heap);
		t[4] = counter();
		syscall(SYS_getppid);
		t[5] = counter();
		if (heap < 0 || ret)
			return fail("expected a buffer of %s in round %d, saw none", path, i);
		sum[OPEN] += t[1] - t[0];
		sum[ALLOC] += t[2] - t[1];
		sum[CLOSE_BUFFER] += t[3] - t[2];
		sum[CLOSE_HEAP] += t[4] - t[3];
		sum[CYCLE] += t[4] - t[0];
		sum[SYSCALL] += t[5] - t[4];
	}
	return true;
}

static bool batch(const char *name, int held, __u64 *sum)
{
	int heap[HELD], buf[HELD], i;
	char path[300];
	bool ok;

	snprintf(path, sizeof(path), HEAPS "/%s", name);
	for (i = 0; i < held; i++) {
		heap[i] = get_heap(name);
		if (heap[i] < 0)
			return false;
		buf[i] = heap_alloc(heap[i], 4 * KIB);
		if (buf[i] < 0)
			return fail("expected a buffer to hold, saw %s", strerror(errno));
	}
	/* some grace periods; an idle guest does not wait for them */
	usleep(100 * 1000);
	ok = rounds(path, sum);
	for (i = 0; i < held; i++) {
		close(buf[i]);
		close(heap[i]);
	}
	return ok;
}

static bool measure(const char *name)
{
	double scale = expected_scale();
	double middle, least = 0;
	__u64 sum[STEPS];
	int i, step;

	for (i = -WARM_UP; i < BATCHES; i++) {
		if (!batch(name, (i + WARM_UP) % HELD, sum))
			return false;
		for (step = 0; i >= 0 && step < STEPS; step++)
			batches[step][i] = sum[step] * scale / ROUNDS;
	}
	for (step = 0; step < STEPS; step++) {
		qsort(batches[step], BATCHES, sizeof(double), compare);
		for (middle = 0, i = BATCHES / 4; i < BATCHES - BATCHES / 4; i++)
			middle += batches[step][i] / (BATCHES - 2 * (BATCHES / 4));
		if (step == CYCLE)	/* of the steps */
			batches[step][0] = least;
		least += batches[step][0];
		ksft_print_msg("cost %s %s %.1f %.1f %.1f\n", name, step_names[step],
			       batches[step][0], middle, batches[step][BATCHES - 1]);
	}
	return true;
}

int main(int argc, char **argv)
{
	int i;

	tests_begin();
	test_seconds = 3000;	/* of a billion instructions each */
	ksft_set_plan(1 + 2 * (argc - 1));
	run_test("cost", "the clocks count instructions", counts_instructions, NULL);
	for (i = 1; i < argc; i++) {
		run_test(argv[i], "a buffer is gone when close() returns", closes_at_once, argv[i]);
		run_test(argv[i], "instructions of each step", measure, argv[i]);
	}
	ksft_finished();
}
