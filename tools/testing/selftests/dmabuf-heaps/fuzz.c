// SPDX-License-Identifier: GPL-2.0
/*
 * DMA-BUF heaps and their buffers are called at random
 *
 * The threads of a process share their fds, and the addresses that they map buffers to. They
 * open heaps, allocate, and call whatever takes such an fd or address, with random numbers,
 * sizes, flags and pointers, while another process unloads and loads the modules. A call
 * follows from the seed and its own number alone, not from what others returned: the same seed
 * makes the same calls, and with one thread in the same order.
 *
 * In the environment: CALLS to make (10000), THREADS that share them (4), and the SEED (1).
 */
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/random.h>

#include "test_heaps.h"

#define ERRNOS		134
#define MAX_THREADS	16
#define FIRST_FD	3	/* all from here on are closed */
#define HEAP_FDS	8
#define BUFFER_FDS	32
#define ARENA_PAGES	512UL
#define MAX_PAGES	64UL

/* Far from where the kernel and the C library put what they map */
#define ARENA		((char *)(sizeof(long) > 4 ? 1ULL << 36 : 1ULL << 29))

enum op {
	OPEN, ALLOC, IOCTL, MAP, RANGE, TOUCH, FILE_CALL, DUP, CLOSE, FORK, CLOSE_ALL,
	UNLOAD, LOAD,
	OPS
};

/* How often of 1000 calls, and what each may fail with */
static const struct {
	const char *name;
	int share;
	int may[16];
} ops[OPS] = {
	[OPEN] = { "open", 100, { ENOENT, ENODEV, ENXIO, EINVAL, ENOTDIR } },
	[ALLOC] = { "allocate", 150, { EBADF, EINVAL, ENOMEM, ENOTTY } },
	[IOCTL] = { "ioctl", 280, { EBADF, EINVAL, EFAULT, ENOMEM, ENOTTY } },
	[MAP] = { "map", 160, { EBADF, EINVAL, EACCES, ENODEV, ENOMEM, EOVERFLOW } },
	[RANGE] = { "a range", 140, { EINVAL, EACCES, ENOMEM, EFAULT, EBUSY, EAGAIN, ENOSYS } },
	[TOUCH] = { "touch", 66, { EFAULT } },
	[FILE_CALL] = { "file", 60, { EBADF, EINVAL, ENODEV, EOPNOTSUPP, ESPIPE } },
	[DUP] = { "dup", 20, { EBADF } },
	[CLOSE] = { "close", 21, { } },
	[FORK] = { "fork", 2, { } },
	[CLOSE_ALL] = { "close all", 1, { } },
	[UNLOAD] = { "unload", 0, { EWOULDBLOCK } },
	[LOAD] = { "load", 0, { } },
};

/* For both processes */
static struct {
	atomic_ulong count[OPS][ERRNOS + 1];	/* by errno; 0 for success, last all beyond */
	atomic_ulong calls;
	atomic_ulong wrong;			/* buffers whose size is not what was asked for */
} *seen;

static atomic_int heap_fds[HEAP_FDS], buffer_fds[BUFFER_FDS];
static char *guarded;			/* two pages: the second may not be accessed */
static char *readonly;
static pthread_rwlock_t calling = PTHREAD_RWLOCK_WRITER_NONRECURSIVE_INITIALIZER_NP;
static unsigned long seed, calls, threads;

/* A call's own random numbers */
struct rnd {
	__u64 state;
};

static __u64 any(struct rnd *r)
{
	__u64 x = r->state += 0x9e3779b97f4a7c15;

	x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9;
	x = (x ^ x >> 27) * 0x94d049bb133111eb;
	return x ^ x >> 31;
}

static unsigned int below(struct rnd *r, unsigned int n)
{
	return (any(r) >> 32) % n;
}

static bool one_in(struct rnd *r, unsigned int n)
{
	return !below(r, n);
}

#define ANY_IN(r, list)	below(r, ARRAY_SIZE(list))

static void record(enum op op, long ret)
{
	int err = ret == -1 ? errno : 0;

	atomic_fetch_add(&seen->count[op][err < ERRNOS ? err : ERRNOS], 1);
}

static unsigned long counted(enum op op, int err)
{
	return atomic_load(&seen->count[op][err]);
}

/* What was there is closed */
static void put(atomic_int *place, int fd)
{
	fd = atomic_exchange(place, fd);
	if (fd >= 0)
		close(fd);
}

static atomic_int *any_heap(struct rnd *r)
{
	return &heap_fds[ANY_IN(r, heap_fds)];
}

static atomic_int *any_buffer(struct rnd *r)
{
	return &buffer_fds[ANY_IN(r, buffer_fds)];
}

static atomic_int *any_place(struct rnd *r)
{
	return one_in(r, 3) ? any_heap(r) : any_buffer(r);
}

static int any_fd(struct rnd *r)
{
	return one_in(r, 64) ? (int)any(r) | 1 << 20 : atomic_load(any_place(r));
}

/* Few bytes or pages, seldom some MiB, and much more than there is */
static __u64 any_len(struct rnd *r)
{
	__u64 page = page_size();

	switch (below(r, 16)) {
	case 0:
		return any(r) >> below(r, 8);
	case 1:
		return -(any(r) >> below(r, 64));
	case 2:
		return below(r, 2 * page);
	case 3:
		return 16 * below(r, 16) * page + MIB;
	default:
		return below(r, 64) * page + one_in(r, 4) * below(r, page);
	}
}

static void *any_pointer(struct rnd *r, void *good)
{
	switch (below(r, 24)) {
	case 0:
		return NULL;
	case 1:
		return readonly;
	case 2:
		return guarded + page_size() - below(r, 32);
	case 3:
		return (void *)(uintptr_t)(any(r) | ~0UL << (8 * sizeof(long) - 2));
	case 4:
		return (void *)(uintptr_t)-below(r, 8192);
	case 5:
		return ARENA + below(r, ARENA_PAGES) * page_size();
	default:
		return good;
	}
}

/* Some bits of those that mean something, seldom any at all */
static __u64 any_flags(struct rnd *r, __u64 known)
{
	if (one_in(r, 16))
		return any(r);
	return one_in(r, 16) ? 1ULL << below(r, 64) : any(r) & known;
}

static void call_open(struct rnd *r)
{
	static const int flags[] = {
		O_RDWR, O_RDONLY, O_WRONLY, O_RDWR | O_NONBLOCK, O_RDWR | O_APPEND,
		O_RDWR | O_TRUNC, O_RDWR | O_DIRECT, O_RDONLY | O_DIRECTORY, O_PATH,
	};
	char path[PATH_MAX];
	int fd;

	snprintf(path, sizeof(path), DEVPATH "/%s", heaps.name[below(r, heaps.n)]);
	fd = open(path, O_CLOEXEC | (one_in(r, 2) ? O_RDWR : flags[ANY_IN(r, flags)]));
	record(OPEN, fd);
	if (fd >= 0)
		put(any_heap(r), fd);
}

/* A plain request of a heap: what succeeds must be what was asked for */
static void call_alloc(struct rnd *r)
{
	struct dma_heap_allocation_data data = {
		.len = any_len(r),
		.fd = one_in(r, 8) ? below(r, 16) : 0,
		.fd_flags = one_in(r, 8) ? any_flags(r, O_ACCMODE | O_CLOEXEC) : O_RDWR | O_CLOEXEC,
		.heap_flags = one_in(r, 16) ? any_flags(r, 1) : 0,
	};
	__u64 page = page_size(), size = (data.len + page - 1) / page * page;
	int heap, ret;

	heap = atomic_load(any_heap(r));
	ret = ioctl(heap, DMA_HEAP_IOCTL_ALLOC, &data);
	record(ALLOC, ret);
	if (!ret) {
		if (lseek(data.fd, 0, SEEK_END) != (off_t)size)
			atomic_fetch_add(&seen->wrong, 1);
		put(any_buffer(r), data.fd);
	}
}

static void call_ioctl(struct rnd *r)
{
	static const unsigned long known[] = {
		DMA_HEAP_IOCTL_ALLOC, DMA_BUF_IOCTL_SYNC, DMA_BUF_SET_NAME_A, DMA_BUF_SET_NAME_B,
		DMA_BUF_IOCTL_EXPORT_SYNC_FILE, DMA_BUF_IOCTL_IMPORT_SYNC_FILE,
	};
	static const char types[] = { 'H', 'b', '>' };
	union {
		__u64 words[2048];
		struct dma_heap_allocation_data alloc;
		struct dma_buf_sync sync;
		struct dma_buf_export_sync_file fence;
		char name[64];
	} arg;
	unsigned long cmd = known[ANY_IN(r, known)];
	unsigned int i;
	void *p;
	int ret;

	memset(&arg, 0, sizeof(arg));
	for (i = 0; i < 8; i++)
		arg.words[i] = any(r);
	if (one_in(r, 3))
		cmd = _IOC(below(r, 4), one_in(r, 8) ? below(r, 256) : types[ANY_IN(r, types)],
			   one_in(r, 8) ? below(r, 256) : below(r, 4),
			   one_in(r, 8) ? below(r, 1 << _IOC_SIZEBITS) : below(r, 64));
	switch (cmd) {
	case DMA_HEAP_IOCTL_ALLOC:
		arg.alloc.len = any_len(r);
		arg.alloc.fd = 0;
		arg.alloc.fd_flags = any_flags(r, O_ACCMODE | O_CLOEXEC);
		arg.alloc.heap_flags = any_flags(r, 0);
		break;
	case DMA_BUF_IOCTL_SYNC:
		arg.sync.flags = any_flags(r, DMA_BUF_SYNC_VALID_FLAGS_MASK);
		break;
	case DMA_BUF_IOCTL_EXPORT_SYNC_FILE:
	case DMA_BUF_IOCTL_IMPORT_SYNC_FILE:
		arg.fence.flags = any_flags(r, DMA_BUF_SYNC_RW);
		arg.fence.fd = any_fd(r);
		break;
	case DMA_BUF_SET_NAME_A:
	case DMA_BUF_SET_NAME_B:
		arg.name[below(r, 64)] = '\0';
	}
	p = any_pointer(r, &arg);
	ret = ioctl(any_fd(r), cmd, p);
	record(IOCTL, ret);
	/* a new fd that nobody knows stays open until all are closed */
	if (ret || p != &arg)
		return;
	if (cmd == DMA_HEAP_IOCTL_ALLOC)
		put(any_buffer(r), arg.alloc.fd);
	else if (cmd == DMA_BUF_IOCTL_EXPORT_SYNC_FILE)
		put(any_buffer(r), arg.fence.fd);
}

static void *any_address(struct rnd *r)
{
	size_t page = page_size();
	size_t offset = one_in(r, 32) ? below(r, page) : 0;

	return ARENA + below(r, ARENA_PAGES - MAX_PAGES) * page + offset;
}

/* Within the arena */
static size_t any_range(struct rnd *r)
{
	return one_in(r, 32) ? 0 : (1 + below(r, one_in(r, 4) ? MAX_PAGES : 16)) * page_size();
}

static void call_map(struct rnd *r)
{
	static const int types[] = {
		MAP_SHARED, MAP_SHARED, MAP_SHARED, MAP_SHARED_VALIDATE, MAP_PRIVATE, 0,
		MAP_SHARED | MAP_POPULATE, MAP_PRIVATE | MAP_POPULATE,
	};
	off_t offset = one_in(r, 4) ? below(r, 64) * page_size() : 0;
	int prot = one_in(r, 4) ? below(r, 8) : PROT_READ | PROT_WRITE;
	int fd = one_in(r, 8) ? any_fd(r) : atomic_load(any_buffer(r));
	void *p;

	if (one_in(r, 16))
		offset = any(r);
	p = mmap(any_address(r), any_range(r), prot, MAP_FIXED | types[ANY_IN(r, types)], fd,
		 offset);
	record(MAP, p == MAP_FAILED ? -1 : 0);
}

/* Whatever is mapped there */
static void call_range(struct rnd *r)
{
	static const int advice[] = {
		MADV_NORMAL, MADV_RANDOM, MADV_WILLNEED, MADV_DONTNEED, MADV_FREE, MADV_REMOVE,
		MADV_DONTFORK, MADV_DOFORK, MADV_MERGEABLE, MADV_HUGEPAGE, MADV_NOHUGEPAGE,
		MADV_DONTDUMP, MADV_WIPEONFORK, MADV_COLD, MADV_PAGEOUT,
		22 /* MADV_POPULATE_READ */, 23 /* MADV_POPULATE_WRITE */, 25 /* MADV_COLLAPSE */,
	};
	void *p = any_address(r);
	size_t len = any_range(r);
	long ret;

	switch (below(r, 8)) {
	case 0:
	case 1:
		ret = munmap(p, len);
		break;
	case 2:
		ret = mprotect(p, len, below(r, 8));
		break;
	case 3:
		ret = mremap(p, len, any_range(r), 0) == MAP_FAILED ? -1 : 0;
		break;
	case 4:
		ret = mremap(p, one_in(r, 8) ? 0 : len, any_range(r), MREMAP_MAYMOVE | MREMAP_FIXED,
			     any_address(r)) == MAP_FAILED ? -1 : 0;
		break;
	case 5:
		ret = msync(p, len, below(r, 8));
		break;
	case 6:
		ret = one_in(r, 2) ? mlock(p, len) : munlock(p, len);
		break;
	default:
		ret = madvise(p, len, advice[ANY_IN(r, advice)]);
	}
	record(RANGE, ret);
}

/* By the kernel, so that there is no signal where nothing is mapped */
static void call_touch(struct rnd *r)
{
	record(TOUCH, getrandom(any_address(r), below(r, 4 * page_size()), GRND_NONBLOCK));
}

static void call_file(struct rnd *r)
{
	static const int whence[] = { SEEK_SET, SEEK_CUR, SEEK_END, SEEK_DATA, SEEK_HOLE, 77 };
	struct pollfd p = { .fd = any_fd(r), .events = any(r) };
	struct stat st;
	char text[16];
	long ret;

	switch (below(r, 8)) {
	case 0:
		ret = lseek(p.fd, one_in(r, 2) ? 0 : any(r), whence[ANY_IN(r, whence)]);
		break;
	case 1:
		ret = poll(&p, 1, 0);
		break;
	case 2:
		ret = fstat(p.fd, &st);
		break;
	case 3:
		ret = read(p.fd, text, sizeof(text));
		break;
	case 4:
		ret = ftruncate(p.fd, any_len(r));
		break;
	case 5:
		ret = fallocate(p.fd, below(r, 4), 0, page_size());
		break;
	case 6:
		ret = fsync(p.fd);
		break;
	default:
		ret = fcntl(p.fd, F_SETFL, any_flags(r, O_APPEND | O_NONBLOCK));
	}
	record(FILE_CALL, ret < 0 ? -1 : 0);
}

static void call_dup(struct rnd *r)
{
	int fd = fcntl(any_fd(r), F_DUPFD_CLOEXEC, FIRST_FD);

	record(DUP, fd);
	if (fd >= 0)
		put(any_place(r), fd);
}

static void call_fork(void)
{
	pid_t pid = fork();

	record(FORK, pid);
	if (!pid)
		_exit(0);
	waitpid(pid, NULL, 0);
}

/* So that the modules can go: fds and mappings, also those that nobody knows */
static void call_close_all(void)
{
	int i;

	for (i = 0; i < HEAP_FDS; i++)
		heap_fds[i] = -1;
	for (i = 0; i < BUFFER_FDS; i++)
		buffer_fds[i] = -1;
	record(CLOSE_ALL, syscall(SYS_close_range, FIRST_FD, ~0U, 0));
	munmap(ARENA, ARENA_PAGES * page_size());
	usleep(5000);
}

static void call(struct rnd *r)
{
	int n = below(r, 1000), op;

	for (op = 0; n >= ops[op].share; op++)
		n -= ops[op].share;
	switch (op) {
	case OPEN:
		return call_open(r);
	case ALLOC:
		return call_alloc(r);
	case IOCTL:
		return call_ioctl(r);
	case MAP:
		return call_map(r);
	case RANGE:
		return call_range(r);
	case TOUCH:
		return call_touch(r);
	case FILE_CALL:
		return call_file(r);
	case DUP:
		return call_dup(r);
	case FORK:
		return call_fork();
	case CLOSE:
		put(any_place(r), -1);
		return record(CLOSE, 0);
	case CLOSE_ALL:
		pthread_rwlock_unlock(&calling);
		pthread_rwlock_wrlock(&calling);
		return call_close_all();
	}
}

static void *caller(void *arg)
{
	struct rnd r;
	unsigned long n;

	for (n = (uintptr_t)arg; n < calls; n += threads) {
		r.state = seed;
		r.state = any(&r) ^ n;
		pthread_rwlock_rdlock(&calling);
		call(&r);
		pthread_rwlock_unlock(&calling);
		atomic_fetch_add(&seen->calls, 1);
	}
	return NULL;
}

/* All of its fds but those of the standard streams, and all that it maps, go with it */
static int calling_process(void)
{
	size_t page = page_size();
	pthread_t id[MAX_THREADS];
	unsigned long t;

	guarded = mmap(NULL, 2 * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	readonly = mmap(NULL, page, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (guarded == MAP_FAILED || readonly == MAP_FAILED)
		return 1;
	if (mprotect(guarded + page, page, PROT_NONE))
		return 1;
	call_close_all();
	for (t = 0; t < threads; t++)
		if (pthread_create(&id[t], NULL, caller, (void *)t))
			return 1;
	for (t = 0; t < threads; t++)
		pthread_join(id[t], NULL);
	return 0;
}

static void reload_modules(void)
{
	int i, ret;

	for (i = 0; i < nr_modules; i++) {
		ret = module_unload(modules[i].name);
		record(UNLOAD, ret);
		if (!ret)
			record(LOAD, module_load(&modules[i]));
	}
	usleep(1000);
}

static bool may_fail(enum op op, int err)
{
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(ops[op].may); i++)
		if (ops[op].may[i] == err)
			return true;
	return false;
}

FIXTURE(fuzz) {
	int buffers[MAX_HEAPS];
};

FIXTURE_SETUP(fuzz)
{
	int i;

	load_all(_metadata);
	for (i = 0; i < heaps.n; i++)
		self->buffers[i] = buffers_of(heaps.name[i]);
	seen = mmap(NULL, sizeof(*seen), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	ASSERT_NE(MAP_FAILED, seen);
	seed = env_number("SEED", 1);
	calls = env_number("CALLS", 10000);
	threads = env_number("THREADS", 4);
	ASSERT_TRUE(threads && threads <= MAX_THREADS);
}

FIXTURE_TEARDOWN(fuzz)
{
}

TEST_F_TIMEOUT(fuzz, heaps_and_buffers_survive_random_calls, 6 * 3600)
{
	double start = seconds_now(), said = start;
	int status, op, err, i;
	pid_t pid, ended;

	pid = fork();
	ASSERT_LE(0, pid);
	if (!pid) {
		die_first(_metadata);
		_exit(calling_process());
	}
	while (!(ended = waitpid(pid, &status, WNOHANG))) {
		reload_modules();
		if (seconds_now() - said < 30)
			continue;
		said = seconds_now();
		ksft_print_msg("%.0f s: %lu calls\n", said - start, atomic_load(&seen->calls));
	}
	ksft_print_msg("%lu calls with seed %lu in %.0f s\n", atomic_load(&seen->calls), seed,
		       seconds_now() - start);
	for (op = 0; op < OPS; op++)
		for (err = 0; err <= ERRNOS; err++)
			if (counted(op, err))
				ksft_print_msg("%-10s %8lu  %s\n", ops[op].name, counted(op, err),
					       strerror(err));
	ASSERT_EQ(pid, ended);
	ASSERT_EQ(0, status);
	EXPECT_EQ(calls, seen->calls);
	/* all of them worked once at least, and none failed as it must not */
	for (op = 0; op < OPS; op++) {
		EXPECT_TRUE(counted(op, 0) || (!nr_modules && !ops[op].share)) {
			TH_LOG("%s: never", ops[op].name);
		}
		for (err = 1; err <= ERRNOS; err++) {
			EXPECT_TRUE(!counted(op, err) || may_fail(op, err)) {
				TH_LOG("%s: %lu times %s", ops[op].name, counted(op, err),
				       err < ERRNOS ? strerror(err) : "an errno that there is not");
			}
		}
	}
	EXPECT_EQ(0, seen->wrong);
	/* nothing is left, and all works */
	for (i = 0; i < heaps.n; i++)
		EXPECT_EQ(self->buffers[i], buffers_of(heaps.name[i]));
	load_all(_metadata);
	for (i = 0; i < heaps.n; i++)
		use_heap(_metadata, heaps.name[i], page_size());
	unload_all(_metadata);
	load_all(_metadata);
}

int main(int argc, char **argv)
{
	find_heaps();
	return test_harness_run(argc, argv);
}
