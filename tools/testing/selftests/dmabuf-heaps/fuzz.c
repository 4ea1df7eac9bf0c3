// SPDX-License-Identifier: GPL-2.0
/*
 * DMA-BUF heaps and their buffers are called at random
 *
 * The threads of a process share a table of fds, and a range of addresses to map buffers to.
 * They open heaps, allocate, and make calls of files, ioctls and memory with random slots of
 * that table, addresses, numbers, sizes, flags and pointers, while another process unloads and
 * loads the modules. The seed and its number decide what a call asks for; which fd is in a
 * slot, or what is mapped at an address, depends on the calls before, and on the modules.
 *
 * In the environment: CALLS to make (10000), THREADS that share them (4), and the SEED (1).
 */
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/resource.h>

#include <linux/random.h>
#include <linux/sync_file.h>

#include "test_heaps.h"

#define ERRNOS		134
#define MAX_THREADS	16
#define FIRST_FD	3	/* everything from here up gets closed */
#define HEAP_FDS	8
#define BUFFER_FDS	32
#define ARENA_PAGES	8192UL
#define MAX_PAGES	1024UL
#define LARGE_PAGE	(2 * MIB)

/* Far from where the kernel and the C library put what they map */
#define ARENA		((char *)(1UL << (sizeof(long) > 4 ? 35 : 29)))

/* Newer than some C libraries */
#ifndef MADV_POPULATE_READ
#define MADV_POPULATE_READ	22
#define MADV_POPULATE_WRITE	23
#endif
#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE		25
#endif

enum op {
	OPEN, ALLOC, IOCTL, MAP, RANGE, TOUCH, FILE_CALL, DUP, CLOSE, FORK, CLOSE_ALL,
	UNLOAD, LOAD,
	OPS
};

/* Share per 1000 calls, and the errnos allowed */
static const struct {
	const char *name;
	int share;
	int may[16];
} ops[OPS] = {
	[OPEN] = { "open", 100, { ENOENT, ENODEV, ENXIO, EINVAL, ENOTDIR } },
	[ALLOC] = { "allocate", 150, { EBADF, EINVAL, ENOMEM, ENOTTY } },
	[IOCTL] = { "ioctl", 280, { EBADF, EINVAL, EFAULT, ENOMEM, ENOTTY, ENOENT } },
	[MAP] = { "map", 160, { EBADF, EINVAL, EACCES, ENODEV, ENOMEM, EOVERFLOW, EPERM } },
	[RANGE] = { "a range", 140, { EINVAL, EACCES, ENOMEM, EFAULT, EBUSY, EAGAIN, ENODEV,
				      EOPNOTSUPP } },
	[TOUCH] = { "touch", 66, { EFAULT } },
	[FILE_CALL] = { "file", 60, { EBADF, EINVAL, ENODEV, EOPNOTSUPP, ESPIPE } },
	[DUP] = { "dup", 20, { EBADF } },
	[CLOSE] = { "close", 21, { EBADF } },
	[FORK] = { "fork", 2, { ENOMEM } },
	[CLOSE_ALL] = { "close all", 1, { } },
	[UNLOAD] = { "unload", 0, { EWOULDBLOCK } },
	[LOAD] = { "load", 0, { } },
};

/* For both processes */
static struct {
	atomic_ulong count[OPS][ERRNOS + 1];	/* by errno; 0 for success, last all beyond */
	atomic_ulong calls;
	atomic_ulong wrong;	/* buffers of another size, or of requests that are not valid */
} *seen;

static atomic_int heap_fds[HEAP_FDS], buffer_fds[BUFFER_FDS];
static char *guarded;			/* two pages: the second may not be accessed */
static char *readonly;
static bool have_madvise;
static pthread_mutex_t gate = PTHREAD_MUTEX_INITIALIZER;	/* who waits for all others */
static pthread_rwlock_t calling = PTHREAD_RWLOCK_INITIALIZER;
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
	return one_in(r, 64) ? 1 << 20 : atomic_load(any_place(r));
}

/* Mostly up to 64 pages, sometimes 2 MiB or more, or far more than there is */
static __u64 any_len(struct rnd *r)
{
	__u64 page = page_size(), len = any(r);
	unsigned int pages = below(r, 64), bytes = below(r, page);

	switch (below(r, 16)) {
	case 0:
		return len >> (pages % 8);
	case 1:
		return -(len >> pages);
	case 2:
		return bytes;
	case 3:
	case 4:
		return LARGE_PAGE + 16 * pages * page;
	default:
		return pages * page + (bytes % 4 ? 0 : bytes);
	}
}

/* Where much is mapped, or where large pages can be */
static void *any_address(struct rnd *r)
{
	size_t page = page_size();
	size_t offset = one_in(r, 32) ? below(r, page) : 0;

	if (one_in(r, 4))
		return ARENA + below(r, 8) * LARGE_PAGE;
	return ARENA + below(r, 128) * page + offset;
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
		return (void *)-(uintptr_t)below(r, 8192);
	case 5:
		return any_address(r);
	default:
		return good;
	}
}

/* A random subset of the known bits, now and then arbitrary ones */
static __u64 any_flags(struct rnd *r, __u64 known)
{
	switch (below(r, 16)) {
	case 0:
		return any(r);
	case 1:
		return 1ULL << below(r, 64);
	default:
		return any(r) & known;
	}
}

static void call_open(struct rnd *r)
{
	static const int flags[] = {
		O_RDWR, O_RDONLY, O_WRONLY, O_RDWR | O_NONBLOCK, O_RDWR | O_APPEND,
		O_RDWR | O_TRUNC, O_RDWR | O_DIRECT, O_RDONLY | O_DIRECTORY, O_PATH,
	};
	const char *heap = heaps.name[below(r, heaps.n)];
	int flag = one_in(r, 2) ? O_RDWR : flags[ANY_IN(r, flags)], fd;
	char path[PATH_MAX];

	snprintf(path, sizeof(path), DEVPATH "/%s", heap);
	fd = open(path, O_CLOEXEC | flag);
	record(OPEN, fd);
	if (fd >= 0)
		put(any_heap(r), fd);
}

/* A plain request of a heap: what succeeds must be what was asked for */
static void call_alloc(struct rnd *r)
{
	struct dma_heap_allocation_data data = { .len = any_len(r) };
	__u64 page = page_size(), size = (data.len + page - 1) / page * page;
	int heap = atomic_load(any_heap(r)), ret;
	bool valid;

	data.fd = one_in(r, 8) ? below(r, 16) : 0;
	data.fd_flags = one_in(r, 8) ? any_flags(r, O_ACCMODE | O_CLOEXEC) : O_RDWR | O_CLOEXEC;
	data.heap_flags = one_in(r, 16) ? any_flags(r, 1) : 0;
	valid = !data.fd && !data.heap_flags && !(data.fd_flags & ~(O_ACCMODE | O_CLOEXEC));
	ret = ioctl(heap, DMA_HEAP_IOCTL_ALLOC, &data);
	record(ALLOC, ret);
	if (ret)
		return;
	if (!valid || lseek(data.fd, 0, SEEK_END) != (off_t)size)
		atomic_fetch_add(&seen->wrong, 1);
	put(any_buffer(r), data.fd);
}

static void call_ioctl(struct rnd *r)
{
	static const unsigned long known[] = {
		DMA_HEAP_IOCTL_ALLOC, DMA_BUF_IOCTL_SYNC, DMA_BUF_SET_NAME_A, DMA_BUF_SET_NAME_B,
		DMA_BUF_IOCTL_EXPORT_SYNC_FILE, DMA_BUF_IOCTL_IMPORT_SYNC_FILE,
		SYNC_IOC_MERGE, SYNC_IOC_FILE_INFO,
	};
	static const char types[] = { 'H', 'b', '>' };
	union {
		__u64 words[2048];
		struct dma_heap_allocation_data alloc;
		struct dma_buf_sync sync;
		struct dma_buf_export_sync_file fence;
		struct sync_merge_data merge;
		struct sync_file_info info;
		char name[64];
	} arg;
	unsigned int dir = below(r, 4), type = types[ANY_IN(r, types)];
	unsigned int nr = below(r, one_in(r, 8) ? 256 : 6);
	unsigned int size = below(r, one_in(r, 8) ? 1 << _IOC_SIZEBITS : 64);
	unsigned long cmd = known[ANY_IN(r, known)];
	int fd = any_fd(r), ret;
	unsigned int i;
	void *p;

	memset(&arg, 0, sizeof(arg));
	for (i = 0; i < 8; i++)
		arg.words[i] = any(r);
	if (one_in(r, 8))
		type = below(r, 256);
	if (one_in(r, 3))
		cmd = _IOC(dir, type, nr, size);
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
		break;
	case SYNC_IOC_MERGE:
		arg.merge.fd2 = any_fd(r);
		arg.merge.flags = one_in(r, 8);
		arg.merge.pad = one_in(r, 8);
		break;
	case SYNC_IOC_FILE_INFO:
		arg.info.flags = one_in(r, 8);
		arg.info.pad = one_in(r, 8);
		arg.info.num_fences = below(r, 4);
		arg.info.sync_fence_info = (uintptr_t)any_pointer(r, &arg.words[16]);
		break;
	}
	p = any_pointer(r, &arg);
	ret = ioctl(fd, cmd, p);
	record(IOCTL, ret);
	/* another new fd is in no slot, and stays open until all are closed */
	if (ret || p != &arg)
		return;
	if (cmd == DMA_HEAP_IOCTL_ALLOC)
		put(any_buffer(r), arg.alloc.fd);
	else if (cmd == DMA_BUF_IOCTL_EXPORT_SYNC_FILE)
		put(any_buffer(r), arg.fence.fd);
	else if (cmd == SYNC_IOC_MERGE)
		put(any_buffer(r), arg.merge.fence);
}

/* A length that stays in the arena from any_address() */
static size_t any_range(struct rnd *r)
{
	size_t pages = 1 + below(r, one_in(r, 4) ? MAX_PAGES : 16);

	return one_in(r, 32) ? 0 : pages * page_size();
}

static void call_map(struct rnd *r)
{
	static const int types[] = {
		MAP_SHARED, MAP_SHARED, MAP_SHARED, MAP_SHARED_VALIDATE, MAP_PRIVATE, 0,
		MAP_SHARED | MAP_POPULATE, MAP_PRIVATE | MAP_POPULATE,
	};
	int prot = one_in(r, 4) ? below(r, 8) : PROT_READ | PROT_WRITE;
	int fd = one_in(r, 8) ? any_fd(r) : atomic_load(any_buffer(r));
	int type = types[ANY_IN(r, types)];
	void *p = any_address(r);
	size_t len = any_range(r);
	off_t offset = 0;

	if (one_in(r, 8)) {
		p = ARENA + below(r, 8) * LARGE_PAGE;
		len = LARGE_PAGE;
	} else if (one_in(r, 4)) {
		offset = below(r, 64) * page_size();
	} else if (one_in(r, 16)) {
		offset = any(r);
	}
	p = mmap(p, len, prot, MAP_FIXED | type, fd, offset);
	record(MAP, p == MAP_FAILED ? -1 : 0);
}

/* Whatever is mapped there */
static void call_range(struct rnd *r)
{
	static const int advice[] = {
		MADV_NORMAL, MADV_RANDOM, MADV_WILLNEED, MADV_DONTNEED, MADV_FREE, MADV_REMOVE,
		MADV_DONTFORK, MADV_DOFORK, MADV_MERGEABLE, MADV_HUGEPAGE, MADV_NOHUGEPAGE,
		MADV_DONTDUMP, MADV_WIPEONFORK, MADV_COLD, MADV_PAGEOUT,
		MADV_POPULATE_READ, MADV_POPULATE_WRITE, MADV_COLLAPSE,
	};
	void *p = any_address(r), *to = any_address(r);
	size_t len = any_range(r), new_len = any_range(r);
	int flags = below(r, 8);
	long ret;

	switch (below(r, 8)) {
	case 0:
	case 1:
		ret = munmap(p, len);
		break;
	case 2:
		ret = mprotect(p, len, flags);
		break;
	case 3:
		ret = mremap(p, len, new_len, 0) == MAP_FAILED ? -1 : 0;
		break;
	case 4:
		ret = mremap(p, flags ? len : 0, new_len, MREMAP_MAYMOVE | MREMAP_FIXED, to) ==
		      MAP_FAILED ? -1 : 0;
		break;
	case 5:
		ret = msync(p, len, flags);
		break;
	case 6:
		ret = flags % 2 ? mlock(p, len) : munlock(p, len);
		break;
	default:
		ret = have_madvise ? madvise(p, len, advice[ANY_IN(r, advice)]) : munmap(p, len);
		break;
	}
	record(RANGE, ret);
}

/* By the kernel, so that there is no signal where nothing is mapped */
static void call_touch(struct rnd *r)
{
	void *p = any_address(r);
	size_t len = below(r, 4 * page_size());

	record(TOUCH, syscall(SYS_getrandom, p, len, GRND_INSECURE));
}

static void call_file(struct rnd *r)
{
	static const int whence[] = { SEEK_SET, SEEK_CUR, SEEK_END, SEEK_DATA, SEEK_HOLE, 77 };
	int flags = any_flags(r, O_APPEND | O_NONBLOCK), from = whence[ANY_IN(r, whence)];
	int fd = any_fd(r);
	struct pollfd p = { .fd = fd, .events = flags };
	__u64 len = any_len(r);
	struct stat st;
	char text[16];
	long ret;

	switch (below(r, 8)) {
	case 0:
		ret = lseek(fd, len % 2 ? len : 0, from);
		break;
	case 1:
		ret = poll(&p, 1, 0);
		break;
	case 2:
		ret = fstat(fd, &st);
		break;
	case 3:
		ret = read(fd, text, sizeof(text));
		break;
	case 4:
		ret = ftruncate(fd, len);
		break;
	case 5:
		ret = fallocate(fd, flags, 0, page_size());
		break;
	case 6:
		ret = fsync(fd);
		break;
	default:
		ret = fcntl(fd, F_SETFL, flags);
		break;
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

/* So that the modules can go: mappings and fds, including those that are in no slot */
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

static void call_close(struct rnd *r)
{
	int fd = atomic_exchange(any_place(r), -1);

	record(CLOSE, close(fd));
}

static void call(enum op op, struct rnd *r)
{
	switch (op) {
	case OPEN:
		call_open(r);
		break;
	case ALLOC:
		call_alloc(r);
		break;
	case IOCTL:
		call_ioctl(r);
		break;
	case MAP:
		call_map(r);
		break;
	case RANGE:
		call_range(r);
		break;
	case TOUCH:
		call_touch(r);
		break;
	case FILE_CALL:
		call_file(r);
		break;
	case DUP:
		call_dup(r);
		break;
	case CLOSE:
		call_close(r);
		break;
	case FORK:
		call_fork();
		break;
	default:
		call_close_all();
		break;
	}
}

static enum op any_op(struct rnd *r)
{
	int n = below(r, 1000), op;

	for (op = 0; n >= ops[op].share; op++)
		n -= ops[op].share;
	return op;
}

static void *caller(void *arg)
{
	struct rnd r;
	unsigned long n;
	enum op op;

	for (n = (uintptr_t)arg; n < calls; n += threads) {
		r.state = seed;
		r.state = any(&r) ^ n;
		op = any_op(&r);
		pthread_mutex_lock(&gate);
		if (op == CLOSE_ALL) {
			pthread_rwlock_wrlock(&calling);
		} else {
			pthread_rwlock_rdlock(&calling);
			pthread_mutex_unlock(&gate);
		}
		call(op, &r);
		pthread_rwlock_unlock(&calling);
		if (op == CLOSE_ALL)
			pthread_mutex_unlock(&gate);
		atomic_fetch_add(&seen->calls, 1);
	}
	return NULL;
}

/* Ends with all that it opened and mapped */
static int calling_process(void)
{
	struct rlimit files;
	size_t page = page_size();
	pthread_t id[MAX_THREADS];
	unsigned long t;
	int fd;

	/* the standard streams must not be what a call opens */
	do {
		fd = open("/dev/null", O_RDWR);
	} while (fd >= 0 && fd < FIRST_FD);
	getrlimit(RLIMIT_NOFILE, &files);
	files.rlim_cur = files.rlim_max;
	setrlimit(RLIMIT_NOFILE, &files);
	guarded = mmap(NULL, 2 * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	readonly = mmap(NULL, page, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (guarded == MAP_FAILED || readonly == MAP_FAILED)
		return 1;
	if (mprotect(guarded + page, page, PROT_NONE))
		return 1;
	have_madvise = !madvise(readonly, page, MADV_NORMAL);
	call_close_all();
	atomic_store(&seen->count[CLOSE_ALL][0], 0);
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
	if (self->buffers[0] < 0)
		SKIP(return, "cannot count buffers: no " BUFINFO);
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
	/* in a run of some length each kind worked, and none failed as it must not */
	for (op = 0; op < OPS; op++) {
		EXPECT_TRUE(counted(op, 0) || calls < 10000 || (!nr_modules && !ops[op].share)) {
			TH_LOG("%s: never", ops[op].name);
		}
		for (err = 1; err <= ERRNOS; err++) {
			EXPECT_TRUE(!counted(op, err) || may_fail(op, err)) {
				TH_LOG("%s: %lu times %s", ops[op].name, counted(op, err),
				       err < ERRNOS ? strerror(err) : "an errno that there is not");
			}
		}
	}
	EXPECT_TRUE(counted(UNLOAD, EWOULDBLOCK) || calls < 10000 || !nr_modules);
	EXPECT_EQ(0, seen->wrong);
	/* nothing is left, and all works */
	for (i = 0; i < heaps.n; i++)
		EXPECT_EQ(self->buffers[i], buffers_of(heaps.name[i]));
	check_all_work(_metadata);
}

int main(int argc, char **argv)
{
	find_heaps();
	return test_harness_run(argc, argv);
}
