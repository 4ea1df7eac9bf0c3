// SPDX-License-Identifier: GPL-2.0
/*
 * Large requests to the system heap: those that fit are granted, those that do not are
 * refused at once, and neither costs a bystander its life
 *
 * The tests fill all memory, so they are for small machines, such as guests.
 */
#include "heaps.h"

#include <poll.h>
#include <sched.h>
#include <sys/swap.h>

#define MAX_MACHINE	(1024 * MIB)

/* What may stay free beside the largest buffer, besides the reserves of the page allocator */
#define DISTANCE	(32 * MIB)

/* By so much, what can be had differs with what the lists of each CPU hold */
#define DRIFT		(32 * MIB)

/* Seconds that a refusal may take; to find out by taking all memory takes longer */
#define AT_ONCE		0.25

#define BYSTANDER	(8 * MIB)
#define STEP		MIB
#define ROUNDS		8

#define MIN_FREE	"/proc/sys/vm/min_free_kbytes"
#define SCALE_FACTOR	"/proc/sys/vm/watermark_scale_factor"

/* Whether the kernel counts events at all: CONFIG_VM_EVENT_COUNTERS */
static bool counts;

/* What the kernel counts under all names that begin so */
static long long events(const char *prefix)
{
	long long n, sum = 0;
	char name[128];
	FILE *f;

	f = fopen("/proc/vmstat", "re");
	while (f && fscanf(f, "%127s %lld", name, &n) == 2)
		if (!strncmp(name, prefix, strlen(prefix)))
			sum += n;
	if (f)
		fclose(f);
	return sum;
}

static long long file_pages(void)
{
	return mem_bytes("Active(file)") + mem_bytes("Inactive(file)");
}

/* What a buffer could have. Pages in the lists of each CPU count as taken. */
static long long free_memory(void)
{
	return mem_bytes("MemFree") - mem_bytes("CmaFree") + file_pages();
}

/* What a request leaves to others: three times the high watermarks of all zones */
static long long reserves(void)
{
	long long pages, sum = 0;
	char line[256];
	FILE *f;

	f = fopen("/proc/zoneinfo", "re");
	while (f && fgets(line, sizeof(line), f))
		if (sscanf(line, " high %lld", &pages) == 1)
			sum += 3 * pages;
	if (f)
		fclose(f);
	return sum * page_size();
}

/* A page that compresses to about a quarter */
static void write_page(unsigned char *p, unsigned int x)
{
	size_t page = page_size(), i;

	memset(p, x, page);
	for (i = 0; i < page / 4; i += sizeof(x)) {
		x = x * 1664525 + 1013904223;
		memcpy(p + i, &x, sizeof(x));
	}
}

/*
 * A process that has memory and takes a little more now and then: the first one to be
 * killed if there is none
 */
struct bystander {
	pid_t pid;
	int sock;
};

static bool wait_busily(int sock)
{
	struct pollfd p = { .fd = sock, .events = POLLIN };
	size_t len = 64 * KIB;
	void *more;

	while (!poll(&p, 1, 10)) {
		more = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		if (more == MAP_FAILED)
			return false;
		memset(more, 1, len);
		munmap(more, len);
	}
	return true;
}

static void stand_by(int sock, size_t size)
{
	size_t page = page_size(), i;
	unsigned char *p, *want, byte;

	p = mmap(NULL, size + page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (p == MAP_FAILED || write_text("/proc/self/oom_score_adj", "1000"))
		_exit(1);
	want = p + size;
	for (i = 0; i < size; i += page)
		write_page(p + i, i + size);
	while (write(sock, "1", 1) == 1 && wait_busily(sock) && read(sock, &byte, 1) == 1) {
		for (i = 0; i < size; i += page) {
			write_page(want, i + size);
			if (memcmp(p + i, want, page))
				_exit(1);
		}
	}
	_exit(0);
}

static void bystander_start(struct __test_metadata *_metadata, struct bystander *b, size_t size)
{
	int sock[2];
	char byte;

	ASSERT_EQ(0, socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sock));
	b->sock = sock[0];
	b->pid = fork();
	ASSERT_LE(0, b->pid);
	if (!b->pid) {
		close(sock[0]);
		stand_by(sock[1], size);
	}
	close(sock[1]);
	ASSERT_EQ(1, read(b->sock, &byte, 1));
}

static bool bystander_lives(const struct bystander *b)
{
	return !waitpid(b->pid, NULL, WNOHANG);
}

/* It is alive, and has its memory as it was */
static bool bystander_is_well(const struct bystander *b)
{
	char byte;

	return bystander_lives(b) && send(b->sock, "1", 1, MSG_NOSIGNAL) == 1 &&
	       read(b->sock, &byte, 1) == 1;
}

static void bystander_end(struct bystander *b)
{
	kill(b->pid, SIGKILL);
	waitpid(b->pid, NULL, 0);
	close(b->sock);
}

/* The largest buffer, from above in steps: those that are refused cost nothing */
static int take_largest(int heap, size_t *len)
{
	int buf = -1;

	for (*len = mem_bytes("MemTotal") / STEP * STEP; *len; *len -= STEP) {
		buf = heap_alloc(heap, *len);
		if (buf >= 0)
			break;
	}
	return buf;
}

static size_t largest_buffer(int heap)
{
	size_t len;

	close(take_largest(heap, &len));
	return len;
}

/* Whether a heap says no to what there is not. Who asks is killed first if it does not. */
static bool refuses(int heap)
{
	long long kills = oom_kills();
	int status = -1;
	pid_t pid;

	pid = fork();
	if (!pid) {
		write_text("/proc/self/oom_score_adj", "1000");
		largest_buffer(heap);
		_exit(0);
	}
	waitpid(pid, &status, 0);
	return !status && oom_kills() == kills;
}

/* The largest buffer that can be had beside two bystanders, from one moment to another */
static size_t largest;

/* Of each test, which is a process of its own */
static struct bystander bystanders[2];
static long long killed_before;

static void all_live(struct __test_metadata *_metadata)
{
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(bystanders); i++)
		EXPECT_TRUE(bystander_lives(&bystanders[i]));
	EXPECT_EQ(killed_before, oom_kills());
}

FIXTURE(pressure) {
	int fd;
};

FIXTURE_SETUP(pressure)
{
	unsigned int i;

	killed_before = oom_kills();
	self->fd = heap_open("system");
	ASSERT_LE(0, self->fd);
	for (i = 0; i < ARRAY_SIZE(bystanders); i++)
		bystander_start(_metadata, &bystanders[i], BYSTANDER);
}

FIXTURE_TEARDOWN(pressure)
{
	unsigned int i;

	all_live(_metadata);
	for (i = 0; i < ARRAY_SIZE(bystanders); i++) {
		EXPECT_TRUE(bystander_is_well(&bystanders[i]));
		bystander_end(&bystanders[i]);
	}
	close(self->fd);
}

/* Nothing is taken, and so nobody has to give */
static void refuse(struct __test_metadata *_metadata, int heap, size_t len)
{
	long long pages = events("pgalloc_"), stalls = events("allocstall_");
	double t = seconds_now();
	int buf, err;

	buf = heap_alloc(heap, len);
	err = errno;
	t = seconds_now() - t;
	EXPECT_EQ(-1, buf) {
		TH_LOG("%zu MiB", len / MIB);
	}
	if (buf >= 0) {
		close(buf);
		return;
	}
	pages = events("pgalloc_") - pages;
	EXPECT_EQ(ENOMEM, err);
	EXPECT_GT(AT_ONCE, t) {
		TH_LOG("%zu MiB: %.2f s", len / MIB, t);
	}
	if (counts) {
		EXPECT_GT((long long)(len / page_size() / 10), pages) {
			TH_LOG("%zu MiB: %lld pages were allocated", len / MIB, pages);
		}
		EXPECT_EQ(stalls, events("allocstall_"));
	}
	all_live(_metadata);
}

TEST_F(pressure, more_than_can_be_had_is_refused_at_once)
{
	size_t total = mem_bytes("MemTotal"), len;

	for (len = largest + DRIFT; len <= total + 2 * STEP; len += STEP)
		refuse(_metadata, self->fd, len);
	refuse(_metadata, self->fd, total - page_size());
	refuse(_metadata, self->fd, 2 * total);
}

/* The largest buffer leaves little more than the reserves, and everybody lives beside it */
TEST_F(pressure, what_fits_is_granted)
{
	long long left;
	int i, buf;
	size_t len;

	for (i = 0; i < ROUNDS; i++) {
		buf = take_largest(self->fd, &len);
		ASSERT_LE(0, buf);
		/* let the bystanders allocate beside it */
		usleep(300 * 1000);
		left = free_memory();
		all_live(_metadata);
		close(buf);
		EXPECT_GT((long long)DISTANCE + reserves(), left) {
			TH_LOG("%lld MiB are left beside %zu MiB", left / (long long)MIB,
			       len / MIB);
		}
	}
	ksft_print_msg("%zu MiB of %lld MiB, and %lld KiB left\n", len / MIB,
		       mem_bytes("MemTotal") / (long long)MIB, left / 1024);
}

/* Watermarks that are close to all of the memory, or above it, refuse no more than a part */
TEST_F(pressure, high_watermarks_do_not_refuse_all)
{
	char factor[32];
	int buf;

	ASSERT_EQ(0, read_text(SCALE_FACTOR, factor, sizeof(factor)));
	ASSERT_EQ(0, write_text(SCALE_FACTOR, "3000"));
	buf = heap_alloc(self->fd, largest / 4);
	EXPECT_LE(0, buf);
	EXPECT_EQ(0, write_text(SCALE_FACTOR, factor));
	all_live(_metadata);
	close(buf);
}

/* Memory full of pages of a file, read once or twice, each of which can be dropped */
TEST_F(pressure, page_cache_gives_way)
{
	char dev[32], *chunk = malloc(MIB);
	size_t len = largest - DRIFT, done;
	int id, fd, round, buf;

	id = zram_add(mem_bytes("MemTotal"), dev, sizeof(dev));
	if (id < 0)
		SKIP(return, "no zram to read from");
	fd = open(dev, O_RDONLY | O_CLOEXEC);
	ASSERT_LE(0, fd);
	for (round = 0; round < 2; round++) {
		EXPECT_EQ(0, lseek(fd, 0, SEEK_SET));
		for (done = 0; done < largest; done += MIB) {
			ASSERT_EQ(MIB, read(fd, chunk, MIB));
			/* a second time, now that it is there: then it is in use */
			if (round % 2)
				ASSERT_EQ(MIB, pread(fd, chunk, MIB, done));
		}
		EXPECT_LT((long long)(largest / 4 * 3), file_pages());
		EXPECT_GT((long long)(largest / 4), mem_bytes("MemFree"));
		buf = heap_alloc(self->fd, len);
		EXPECT_LE(0, buf) {
			TH_LOG("%zu MiB: %s", len / MIB, strerror(errno));
		}
		all_live(_metadata);
		close(buf);
	}
	close(fd);
	EXPECT_EQ(0, zram_remove(id));
}

/* Two processes that ask in the same moment */
struct pair {
	int ready, err[2];
	bool go, end;
};

static void ask_at_once(struct __test_metadata *_metadata, size_t len, struct pair *pair)
{
	pid_t pid[2];
	int i;

	memset(pair, 0, sizeof(*pair));
	pair->err[0] = -1;
	pair->err[1] = -1;
	for (i = 0; i < 2; i++) {
		pid[i] = fork();
		ASSERT_LE(0, pid[i]);
		if (!pid[i]) {
			int heap = heap_open("system"), buf;

			__atomic_add_fetch(&pair->ready, 1, __ATOMIC_SEQ_CST);
			while (!__atomic_load_n(&pair->go, __ATOMIC_SEQ_CST))
				;
			buf = heap_alloc(heap, len);
			__atomic_store_n(&pair->err[i], buf < 0 ? errno : 0, __ATOMIC_SEQ_CST);
			while (!__atomic_load_n(&pair->end, __ATOMIC_SEQ_CST))
				usleep(1000);
			_exit(0);
		}
	}
	while (__atomic_load_n(&pair->ready, __ATOMIC_SEQ_CST) < 2)
		usleep(1000);
	__atomic_store_n(&pair->go, true, __ATOMIC_SEQ_CST);
	while (__atomic_load_n(&pair->err[0], __ATOMIC_SEQ_CST) < 0 ||
	       __atomic_load_n(&pair->err[1], __ATOMIC_SEQ_CST) < 0)
		usleep(1000);
	__atomic_store_n(&pair->end, true, __ATOMIC_SEQ_CST);
	for (i = 0; i < 2; i++)
		waitpid(pid[i], NULL, 0);
}

static struct pair *shared_pair(struct __test_metadata *_metadata)
{
	void *p = mmap(NULL, sizeof(struct pair), PROT_READ | PROT_WRITE,
		       MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	ASSERT_NE(MAP_FAILED, p);
	return p;
}

TEST_F(pressure, two_that_do_not_fit_together)
{
	struct pair *pair = shared_pair(_metadata);
	size_t len = largest / 10 * 6;
	int i, got = 0;

	for (i = 0; i < ROUNDS; i++) {
		long long stalls = events("allocstall_");

		ask_at_once(_metadata, len, pair);
		EXPECT_TRUE(pair->err[0] || pair->err[1]);
		EXPECT_TRUE(!pair->err[0] || pair->err[0] == ENOMEM);
		EXPECT_TRUE(!pair->err[1] || pair->err[1] == ENOMEM);
		got += !pair->err[0] || !pair->err[1];
		/* the one that is refused has not tried */
		if (counts)
			EXPECT_EQ(stalls, events("allocstall_"));
		all_live(_metadata);
	}
	ksft_print_msg("one of the two got it %d times of %d\n", got, i);
	EXPECT_LT(0, got);
}

TEST_F(pressure, two_that_fit_together)
{
	struct pair *pair = shared_pair(_metadata);
	size_t len = largest / 20 * 9;
	int i;

	for (i = 0; i < ROUNDS; i++) {
		ask_at_once(_metadata, len, pair);
		EXPECT_EQ(0, pair->err[0]);
		EXPECT_EQ(0, pair->err[1]);
		all_live(_metadata);
	}
}

/* Whatever becomes of a request, the next one can have as much */
TEST_F(pressure, nothing_stays_claimed)
{
	bool *done = mmap(NULL, page_size(), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS,
			  -1, 0);
	int i, buf, killed = 0;
	size_t after;
	pid_t pid;

	ASSERT_NE(MAP_FAILED, (void *)done);
	for (i = 0; i < ROUNDS; i++) {
		EXPECT_ERRNO(ENOMEM, heap_alloc(self->fd, mem_bytes("MemTotal")));
		buf = heap_alloc(self->fd, largest / 2);
		EXPECT_LE(0, buf);
		close(buf);
		/* killed while it allocates */
		*done = false;
		pid = fork();
		ASSERT_LE(0, pid);
		if (!pid) {
			buf = heap_alloc(self->fd, largest - DRIFT);
			__atomic_store_n(done, true, __ATOMIC_SEQ_CST);
			_exit(0);
		}
		usleep(i * 5000);
		kill(pid, SIGKILL);
		ASSERT_EQ(pid, waitpid(pid, NULL, 0));
		killed += !*done;
	}
	EXPECT_LT(0, killed);
	after = largest_buffer(self->fd);
	ksft_print_msg("%d killed; %zu MiB before, %zu MiB after\n", killed, largest / MIB,
		       after / MIB);
	EXPECT_LE(largest, after + DRIFT);
}

/*
 * What swapoff() reads back needs memory, and is not memory that a request can have. Here it
 * needs more than there is: before it comes to that, it has to wait, on the same CPU, for the
 * requests.
 */
static void refuse_during_swapoff(struct __test_metadata *_metadata, int heap, const char *dev)
{
	struct sched_param idle = { };
	long long swap = mem_bytes("SwapTotal");
	double t = seconds_now();
	cpu_set_t all, one;
	pid_t pid;
	int i;

	ASSERT_EQ(0, sched_getaffinity(0, sizeof(all), &all));
	CPU_ZERO(&one);
	CPU_SET(sched_getcpu(), &one);
	ASSERT_EQ(0, sched_setaffinity(0, sizeof(one), &one));
	pid = fork();
	ASSERT_LE(0, pid);
	if (!pid) {
		sched_setscheduler(0, SCHED_IDLE, &idle);
		_exit(swapoff(dev) ? 1 : 0);
	}
	while (mem_bytes("SwapTotal") == swap && seconds_now() < t + 10)
		usleep(1000);
	EXPECT_GT(swap, mem_bytes("SwapTotal"));
	for (i = 0; i < 20; i++) {
		t = seconds_now();
		EXPECT_ERRNO(ENOMEM, heap_alloc(heap, mem_bytes("MemTotal")));
		EXPECT_GT(AT_ONCE, seconds_now() - t);
	}
	/* it is still at it */
	EXPECT_EQ(0, waitpid(pid, NULL, WNOHANG));
	kill(pid, SIGKILL);
	EXPECT_EQ(0, sched_setaffinity(0, sizeof(all), &all));
	waitpid(pid, NULL, 0);
}

TEST_F(pressure, anonymous_memory_is_swapped_out_for_it)
{
	size_t total = mem_bytes("MemTotal"), len;
	char dev[32], min_free[32];
	struct bystander large;
	int id, buf;

	id = zram_add(total, dev, sizeof(dev));
	if (id < 0)
		SKIP(return, "no zram to swap to");
	make_swap(_metadata, dev, total);
	bystander_start(_metadata, &large, largest / 2);
	len = largest / 4 * 3;
	refuse(_metadata, self->fd, len);
	if (swapon(dev, 0)) {
		bystander_end(&large);
		EXPECT_EQ(0, zram_remove(id));
		SKIP(return, "no swap in this kernel");
	}
	/* zram takes memory before any is freed: without more of it kswapd prints failures */
	ASSERT_EQ(0, read_text(MIN_FREE, min_free, sizeof(min_free)));
	if (atoi(min_free) < 12288)
		EXPECT_EQ(0, write_text(MIN_FREE, "12288"));
	buf = heap_alloc(self->fd, len);
	EXPECT_LE(0, buf) {
		TH_LOG("%zu MiB: %s", len / MIB, strerror(errno));
	}
	EXPECT_LT((long long)(largest / 8),
		  mem_bytes("SwapTotal") - mem_bytes("SwapFree"));
	all_live(_metadata);
	EXPECT_TRUE(bystander_lives(&large));
	refuse_during_swapoff(_metadata, self->fd, dev);
	close(buf);
	EXPECT_TRUE(bystander_is_well(&large));
	bystander_end(&large);
	EXPECT_EQ(0, write_text(MIN_FREE, min_free));
	EXPECT_EQ(0, swapoff(dev));
	EXPECT_EQ(0, zram_remove(id));
}

int main(int argc, char **argv)
{
	int heap;

	find_heaps();
	if (!names_have(&heaps, "system"))
		ksft_exit_skip("no system heap\n");
	if (mem_bytes("MemTotal") > (long long)MAX_MACHINE)
		ksft_exit_skip("more than 1 GiB of memory, which the tests would fill\n");
	if (mem_bytes("SwapTotal"))
		ksft_exit_skip("there is swap already\n");
	counts = events("pgalloc_");
	if (!counts)
		ksft_print_msg("no CONFIG_VM_EVENT_COUNTERS: pages allocated are not counted\n");
	heap = heap_open("system");
	if (!refuses(heap))
		ksft_exit_skip("the system heap has others killed for what there is not\n");
	largest = largest_buffer(heap);
	close(heap);
	if (largest < 64 * MIB)
		ksft_exit_skip("not even 64 MiB can be had\n");
	largest -= ARRAY_SIZE(bystanders) * BYSTANDER;
	return test_harness_run(argc, argv);
}
