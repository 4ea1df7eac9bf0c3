// SPDX-License-Identifier: GPL-2.0
/*
 * What others see of a DMA-BUF heap that is being registered or unregistered, and of its
 * number afterwards: they wait for no heap but their own, and never meet one that is not
 * there, or another one in its place
 *
 * In the environment: ROUNDS of each race (500).
 */
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>

#include "test_heaps.h"

#define SLOW_MS		3000		/* a sleep in the kernel */
#define LIMIT		1.0		/* seconds, for what must not wait for it */
#define MANY		200		/* heaps */
#define MAX_RESULTS	134

/* Something that takes long, in a thread */
struct job {
	pthread_t thread;
	int (*fn)(struct job *job);
	int test_fd, fd;
	const char *name;
	dev_t rdev;
	struct dma_heap_test_add add;
	int ret, err;
	double took;
	atomic_bool stop, done;
};

static void *job_thread(void *arg)
{
	struct job *job = arg;
	double start = seconds_now();

	job->ret = job->fn(job);
	job->err = job->ret < 0 ? errno : 0;
	job->took = seconds_now() - start;
	job->done = true;
	return NULL;
}

static void job_start(struct __test_metadata *_metadata, struct job *job)
{
	job->done = false;
	ASSERT_EQ(0, pthread_create(&job->thread, NULL, job_thread, job));
}

static void job_end(struct __test_metadata *_metadata, struct job *job)
{
	ASSERT_EQ(0, pthread_join(job->thread, NULL));
}

static int job_add(struct job *job)
{
	return test_heap_add(job->test_fd, &job->add, job->name);
}

static int job_remove(struct job *job)
{
	return test_heap_remove(job->test_fd, job->name);
}

static int job_open(struct job *job)
{
	return heap_open(job->name);
}

static int job_alloc(struct job *job)
{
	return heap_alloc(job->fd, page_size());
}

static bool node_exists(const char *name)
{
	dev_t rdev;

	return !heap_rdev(name, &rdev);
}

static bool wait_for_node(const char *name, bool exists)
{
	int i;

	for (i = 0; i < 10000 && node_exists(name) != exists; i++)
		usleep(1000);
	return node_exists(name) == exists;
}

/* What the kernel runs for a number without a device, on each attempt to open it */
#define HELPER	"/proc/sys/kernel/modprobe"

static char helper[256];
static pid_t owner;

/* Called in each process that exits */
static void restore_helper(void)
{
	if (getpid() == owner)
		write_text(HELPER, helper);
}

FIXTURE(registering) {
	int fd;			/* of the test module */
	int refs;		/* on that */
	dev_t rdev;		/* of "other", a heap that nothing happens to */
};

FIXTURE_SETUP(registering)
{
	struct dma_heap_test_add add = { };

	self->fd = open_test_module();
	if (self->fd < 0)
		SKIP(return, "no module " DMA_HEAP_TEST);
	ASSERT_EQ(0, test_heap_add(self->fd, &add, "other"));
	ASSERT_EQ(0, heap_rdev("other", &self->rdev));
	ASSERT_EQ(add.minor, minor(self->rdev));
	self->refs = module_refs(DMA_HEAP_TEST);
	ASSERT_EQ(1, self->refs);
}

FIXTURE_TEARDOWN(registering)
{
	EXPECT_EQ(self->refs, module_refs(DMA_HEAP_TEST));
	EXPECT_EQ(0, test_heap_remove(self->fd, "other"));
	EXPECT_FALSE(node_exists("other"));
	close(self->fd);
	EXPECT_EQ(0, module_refs(DMA_HEAP_TEST));
}

/* The number that the next heap gets */
static dev_t next_rdev(struct __test_metadata *_metadata, int test_fd)
{
	struct dma_heap_test_add add = { };
	dev_t rdev;

	ASSERT_EQ(0, test_heap_add(test_fd, &add, "scout"));
	ASSERT_EQ(0, heap_rdev("scout", &rdev));
	ASSERT_EQ(0, test_heap_remove(test_fd, "scout"));
	return makedev(major(rdev), minor(rdev) + 1);
}

/* Whoever wants nothing of the heap that is slow does not notice it */
static void others_work(struct __test_metadata *_metadata, int test_fd, const char *slow)
{
	double start = seconds_now(), took;
	struct names now;
	int i, fd, buf;

	heaps_now(&now);
	EXPECT_TRUE(names_have(&now, "other"));
	for (i = 0; i < now.n; i++) {
		if (!strcmp(now.name[i], slow))
			continue;
		fd = heap_open(now.name[i]);
		ASSERT_LE(0, fd) {
			TH_LOG("%s: %s", now.name[i], strerror(errno));
		}
		buf = heap_alloc(fd, page_size());
		ASSERT_LE(0, buf) {
			TH_LOG("%s: %s", now.name[i], strerror(errno));
		}
		ASSERT_EQ(0, heap_find(test_fd, now.name[i])) {
			TH_LOG("%s: %s", now.name[i], strerror(errno));
		}
		close(buf);
		close(fd);
	}
	/* nor does who looks for one that is not there, or is not there yet */
	EXPECT_ERRNO(ENOENT, heap_find(test_fd, "nobody"));
	EXPECT_ERRNO(ENOENT, heap_find(test_fd, slow));
	took = seconds_now() - start;
	EXPECT_GT(LIMIT, took) {
		TH_LOG("%d heaps took %.1f s", now.n, took);
	}
}

TEST_F(registering, a_slow_one_holds_nobody_up)
{
	struct job job = { .fn = job_add, .test_fd = self->fd, .name = "slow" };

	job.add.late_ms = SLOW_MS;
	job_start(_metadata, &job);
	ASSERT_TRUE(wait_for_node("slow", true));
	others_work(_metadata, self->fd, "slow");
	EXPECT_FALSE(job.done);
	job_end(_metadata, &job);
	ASSERT_EQ(0, job.ret);
	EXPECT_EQ(0, heap_find(self->fd, "slow"));
	EXPECT_EQ(0, test_heap_remove(self->fd, "slow"));
}

TEST_F(registering, an_open_waits_for_its_own_heap)
{
	struct job add = { .fn = job_add, .test_fd = self->fd, .name = "slow" };
	struct job open = { .fn = job_open, .name = "slow" };
	int status, buf;
	double start;
	pid_t child;

	add.add.late_ms = SLOW_MS;
	job_start(_metadata, &add);
	ASSERT_TRUE(wait_for_node("slow", true));
	job_start(_metadata, &open);
	child = fork();
	ASSERT_LE(0, child);
	if (!child)
		_exit(heap_open("slow") < 0);
	usleep(SLOW_MS / 3 * 1000);
	EXPECT_FALSE(open.done);
	EXPECT_EQ(self->refs, module_refs(DMA_HEAP_TEST));

	/* who waits can be killed */
	start = seconds_now();
	kill(child, SIGKILL);
	ASSERT_EQ(child, waitpid(child, &status, 0));
	EXPECT_TRUE(WIFSIGNALED(status));
	EXPECT_GT(LIMIT, seconds_now() - start);
	EXPECT_FALSE(add.done);

	job_end(_metadata, &open);
	ASSERT_LE(0, open.ret) {
		TH_LOG("%s", strerror(open.err));
	}
	buf = heap_alloc(open.ret, page_size());
	ASSERT_LE(0, buf);
	close(buf);
	close(open.ret);
	job_end(_metadata, &add);
	ASSERT_EQ(0, add.ret);
	EXPECT_EQ(0, test_heap_remove(self->fd, "slow"));
}

/* Again and again, while there is no such device */
static int job_open_early(struct job *job)
{
	int fd;

	do {
		fd = open_rdev(job->fd, job->rdev);
	} while (fd < 0 && errno == ENXIO && !job->stop);
	return fd;
}

TEST_F(registering, fails_under_an_open)
{
	struct job add = { .fn = job_add, .test_fd = self->fd, .name = "failing" };
	struct job open = { .fn = job_open_early, .rdev = next_rdev(_metadata, self->fd) };

	add.add.early_ms = 1000;
	add.add.fail = 1;
	job_start(_metadata, &open);
	job_start(_metadata, &add);
	usleep(500 * 1000);
	/* it waits, and does not hold the module meanwhile */
	EXPECT_FALSE(open.done);
	EXPECT_FALSE(add.done);
	EXPECT_EQ(self->refs, module_refs(DMA_HEAP_TEST));
	EXPECT_ERRNO(ENOENT, heap_find(self->fd, "failing"));
	job_end(_metadata, &add);
	EXPECT_EQ(-1, add.ret);
	EXPECT_EQ(ENOENT, add.err);
	open.stop = true;
	job_end(_metadata, &open);
	EXPECT_EQ(-1, open.ret);
	EXPECT_EQ(ENODEV, open.err);
	EXPECT_FALSE(node_exists("failing"));
	EXPECT_ERRNO(ENXIO, open_rdev(0, open.rdev));
}

TEST_F(registering, a_name_is_taken_until_the_heap_is_removed)
{
	struct dma_heap_test_add add = { };
	int i;

	for (i = 0; i < 20; i++) {
		EXPECT_ERRNO(EEXIST, test_heap_add(self->fd, &add, "other"));
		EXPECT_EQ(0, heap_find(self->fd, "other"));
		ASSERT_EQ(0, test_heap_remove(self->fd, "other"));
		EXPECT_ERRNO(ENOENT, heap_find(self->fd, "other"));
		ASSERT_EQ(0, test_heap_add(self->fd, &add, "other"));
	}
}

/* Unregistering waits for the allocation that is under way, and nobody waits for it */
TEST_F(registering, a_waiting_unregister_holds_nobody_up)
{
	struct dma_heap_test_add add = { .alloc_ms = SLOW_MS };
	struct job alloc = { .fn = job_alloc };
	struct job remove = { .fn = job_remove, .test_fd = self->fd, .name = "slow" };
	double start;
	dev_t rdev;
	int fd;

	ASSERT_EQ(0, test_heap_add(self->fd, &add, "slow"));
	ASSERT_EQ(0, heap_rdev("slow", &rdev));
	ASSERT_EQ(0, own_node(0, rdev));
	fd = own_node_open(0);
	ASSERT_LE(0, fd);
	alloc.fd = heap_open("slow");
	ASSERT_LE(0, alloc.fd);
	EXPECT_EQ(self->refs + 2, module_refs(DMA_HEAP_TEST));
	job_start(_metadata, &alloc);
	usleep(SLOW_MS / 6 * 1000);
	job_start(_metadata, &remove);
	ASSERT_TRUE(wait_for_node("slow", false));
	others_work(_metadata, self->fd, "slow");
	/* of the heap itself, nothing is to be had, at once */
	start = seconds_now();
	EXPECT_ERRNO(ENODEV, heap_alloc(fd, page_size()));
	EXPECT_ERRNO(ENODEV, own_node_open(0));
	EXPECT_ERRNO(ENXIO, open_rdev(1, rdev));
	EXPECT_GT(LIMIT, seconds_now() - start);
	EXPECT_FALSE(alloc.done);
	EXPECT_FALSE(remove.done);
	job_end(_metadata, &alloc);
	ASSERT_LE(0, alloc.ret) {
		TH_LOG("%s", strerror(alloc.err));
	}
	job_end(_metadata, &remove);
	EXPECT_EQ(0, remove.ret);
	/* all three hold the module, although there is no heap any more */
	EXPECT_EQ(self->refs + 3, module_refs(DMA_HEAP_TEST));
	close(alloc.ret);
	close(alloc.fd);
	close(fd);
	own_node_remove(0);
}

TEST_F(registering, a_stale_node_opens_nothing)
{
	struct dma_heap_test_add add = { };
	dev_t rdev, again;
	int fd;

	ASSERT_EQ(0, test_heap_add(self->fd, &add, "old"));
	ASSERT_EQ(0, heap_rdev("old", &rdev));
	ASSERT_EQ(0, own_node(0, rdev));
	fd = own_node_open(0);
	ASSERT_LE(0, fd);
	ASSERT_EQ(0, test_heap_remove(self->fd, "old"));

	/* somebody has it open still, by the same node */
	EXPECT_ERRNO(ENODEV, own_node_open(0));
	EXPECT_ERRNO(ENODEV, heap_alloc(fd, page_size()));
	/* one of the same name is another one, with another number */
	ASSERT_EQ(0, test_heap_add(self->fd, &add, "old"));
	ASSERT_EQ(0, heap_rdev("old", &again));
	EXPECT_NE(rdev, again);
	EXPECT_ERRNO(ENODEV, own_node_open(0));
	EXPECT_ERRNO(ENODEV, heap_alloc(fd, page_size()));
	EXPECT_ERRNO(ENXIO, open_rdev(1, rdev));

	close(fd);
	EXPECT_ERRNO(ENXIO, own_node_open(0));
	EXPECT_ERRNO(ENXIO, open_rdev(1, rdev));
	ASSERT_EQ(0, test_heap_remove(self->fd, "old"));
	EXPECT_ERRNO(ENXIO, own_node_open(0));
	ASSERT_EQ(0, test_heap_add(self->fd, &add, "new"));
	EXPECT_ERRNO(ENXIO, own_node_open(0));
	EXPECT_NE(minor(again), add.minor);
	EXPECT_NE(minor(rdev), add.minor);
	ASSERT_EQ(0, test_heap_remove(self->fd, "new"));
	own_node_remove(0);
}

/* None of these is open, and none was: nobody keeps the numbers but the heaps */
TEST_F(registering, many_at_once)
{
	struct dma_heap_test_add add = { };
	static dev_t rdev[2][MANY];
	int round, i, j, fd, buf;
	char name[32];

	for (round = 0; round < 2; round++) {
		for (i = 0; i < MANY; i++) {
			snprintf(name, sizeof(name), "many%d", i);
			ASSERT_EQ(0, test_heap_add(self->fd, &add, name)) {
				TH_LOG("%s: %s", name, strerror(errno));
			}
			ASSERT_EQ(0, heap_rdev(name, &rdev[round][i]));
			EXPECT_NE(self->rdev, rdev[round][i]);
			for (j = 0; j < (round ? MANY : i); j++) {
				ASSERT_NE(rdev[0][j], rdev[round][i]) {
					TH_LOG("%s has the number of many%d", name, j);
				}
			}
		}
		for (i = 0; i < MANY; i++) {
			snprintf(name, sizeof(name), "many%d", i);
			ASSERT_EQ(0, heap_find(self->fd, name));
			fd = open_rdev(0, rdev[round][i]);
			ASSERT_LE(0, fd);
			buf = heap_alloc(fd, page_size());
			ASSERT_LE(0, buf);
			close(buf);
			close(fd);
		}
		for (i = 0; i < MANY; i++) {
			snprintf(name, sizeof(name), "many%d", round ? MANY - 1 - i : i);
			ASSERT_EQ(0, test_heap_remove(self->fd, name));
		}
		for (i = 0; i < MANY; i++)
			EXPECT_ERRNO(ENXIO, open_rdev(0, rdev[round][i]));
	}
}

/*
 * A race: one registers a heap and removes it again, if it was to be had, while others open
 * it by nodes of their own and by its name, and find it. They hold nothing between two
 * attempts, and have a new inode for each, so that the number is looked up again.
 */
enum op { OPEN_NODE, OPEN_NAME, ALLOC, FIND, OPS };

static const char *const op_names[OPS] = { "open a node", "open by name", "allocate", "find" };

static struct {
	int test_fd;
	bool lazy;			/* the others run only when nobody else does */
	atomic_ullong rdev;		/* of the heap that comes, is there, or went */
	atomic_bool stop;
	atomic_ulong count[OPS][MAX_RESULTS];	/* by errno; 0 for success */
} race;

static void record(enum op op, int ret)
{
	int err = ret < 0 ? errno : 0;

	atomic_fetch_add(&race.count[op][err < MAX_RESULTS ? err : MAX_RESULTS - 1], 1);
}

static void be_lazy(void)
{
	struct sched_param param = { };

	if (race.lazy)
		sched_setscheduler(0, SCHED_IDLE, &param);
}

static void race_opened(enum op op, int fd)
{
	int buf;

	record(op, fd);
	if (fd < 0)
		return;
	buf = heap_alloc(fd, page_size());
	record(ALLOC, buf);
	if (buf >= 0)
		close(buf);
	close(fd);
}

static void *race_open_node(void *arg)
{
	be_lazy();
	while (!race.stop)
		race_opened(OPEN_NODE, open_rdev((intptr_t)arg, race.rdev));
	return NULL;
}

static void *race_open_name(void *arg)
{
	be_lazy();
	while (!race.stop)
		race_opened(OPEN_NAME, heap_open("racing"));
	return NULL;
}

static void *race_find(void *arg)
{
	be_lazy();
	while (!race.stop)
		record(FIND, heap_find(race.test_fd, "racing"));
	return NULL;
}

#define MAY(err) (-(err))	/* or may not */

/* These and no other are what it came to, and each of them did happen */
static void race_results(struct __test_metadata *_metadata, enum op op, const int *want, int n)
{
	int err, i;

	for (err = 0; err < MAX_RESULTS; err++) {
		if (race.count[op][err])
			ksft_print_msg("%s: %lu times %s\n", op_names[op], race.count[op][err],
				       strerror(err));
		for (i = 0; i < n && abs(want[i]) != err; i++)
			;
		EXPECT_TRUE(i < n || !race.count[op][err]);
	}
	for (i = 0; i < n; i++) {
		EXPECT_TRUE(want[i] < 0 || race.count[op][want[i]]) {
			TH_LOG("%s: never %s", op_names[op], strerror(want[i]));
		}
	}
}

#define RACE_RESULTS(op, ...)							\
do {										\
	const int want_[] = { __VA_ARGS__ };					\
										\
	race_results(_metadata, op, want_, ARRAY_SIZE(want_));			\
} while (0)

static void run_race(struct __test_metadata *_metadata, int test_fd, bool fail)
{
	static void *(*const threads[])(void *arg) = {
		race_open_node, race_open_node, race_open_node, race_open_name, race_find,
	};
	unsigned long rounds = env_number("ROUNDS", 500), i;
	dev_t rdev = next_rdev(_metadata, test_fd);
	struct dma_heap_test_add add = { .fail = fail };
	pthread_t id[ARRAY_SIZE(threads)];
	unsigned int seed = 1, t;
	int ret, err;

	race.test_fd = test_fd;
	race.rdev = rdev;
	for (t = 0; t < ARRAY_SIZE(threads); t++)
		ASSERT_EQ(0, pthread_create(&id[t], NULL, threads[t], (void *)(intptr_t)t));
	for (i = 0; i < rounds; i++) {
		race.rdev = makedev(major(rdev), minor(rdev) + i);
		usleep(rand_r(&seed) % 200);
		add.early_ms = race.lazy || i % 2;
		ret = test_heap_add(test_fd, &add, "racing");
		err = ret ? errno : 0;
		if (fail) {
			EXPECT_EQ(-1, ret);
			EXPECT_EQ(ENOENT, err);
		} else {
			EXPECT_EQ(0, ret);
			EXPECT_EQ(minor(race.rdev), add.minor);
			usleep(rand_r(&seed) % 2000);
			EXPECT_EQ(0, test_heap_remove(test_fd, "racing"));
		}
	}
	race.stop = true;
	for (t = 0; t < ARRAY_SIZE(threads); t++)
		ASSERT_EQ(0, pthread_join(id[t], NULL));
}

/* On one processor, who opens goes on only when the creator has destroyed the heap */
static void be_one_by_one(struct __test_metadata *_metadata)
{
	cpu_set_t one;

	CPU_ZERO(&one);
	CPU_SET(sched_getcpu(), &one);
	ASSERT_EQ(0, sched_setaffinity(0, sizeof(one), &one));
	race.lazy = true;
}

TEST_F_TIMEOUT(registering, fails_while_others_open, 3600)
{
	run_race(_metadata, self->fd, true);
	RACE_RESULTS(OPEN_NODE, ENXIO, ENODEV);
	RACE_RESULTS(OPEN_NAME, ENOENT);
	RACE_RESULTS(FIND, ENOENT);
}

TEST_F_TIMEOUT(registering, fails_and_is_destroyed_under_opens, 3600)
{
	be_one_by_one(_metadata);
	run_race(_metadata, self->fd, true);
	RACE_RESULTS(OPEN_NODE, ENXIO, ENODEV);
	RACE_RESULTS(OPEN_NAME, ENOENT);
	RACE_RESULTS(FIND, ENOENT);
}

TEST_F_TIMEOUT(registering, comes_and_goes_while_others_use_it, 3600)
{
	run_race(_metadata, self->fd, false);
	RACE_RESULTS(OPEN_NODE, 0, ENXIO, MAY(ENODEV));
	RACE_RESULTS(OPEN_NAME, 0, ENOENT, MAY(ENXIO), MAY(ENODEV));
	RACE_RESULTS(ALLOC, 0, MAY(ENODEV));
	RACE_RESULTS(FIND, 0, ENOENT);
}

int main(int argc, char **argv)
{
	if (geteuid())
		ksft_exit_skip("these tests are for root\n");
	if (read_text(HELPER, helper, sizeof(helper)))
		ksft_exit_skip("no modules in this kernel\n");
	owner = getpid();
	atexit(restore_helper);
	write_text(HELPER, "\n");
	return test_harness_run(argc, argv);
}
