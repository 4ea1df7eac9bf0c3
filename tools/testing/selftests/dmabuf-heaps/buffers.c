// SPDX-License-Identifier: GPL-2.0
/*
 * What every DMA-BUF heap must do, and every buffer of it, as user space sees it
 */
#include "heaps.h"

#include <grp.h>
#include <poll.h>
#include <pthread.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/uio.h>

#define SIZE		MIB
#define LARGE		(4 * MIB)
#define FAULT_ROUNDS	100
#define TOUCHERS	4
#define TOUCH_ROUNDS	30
#define TOUCH_MAPS	32
#define NOBODY		65534

FIXTURE(heap) {
	const char *name;
	int fd;
	long page;
	size_t len;		/* up to SIZE, as far as the heap has it in one piece */
	int buffers;		/* of the heap, at the start */
};

FIXTURE_VARIANT(heap) {
	char name[NAME_MAX + 1];
};

FIXTURE_SETUP(heap)
{
	int buf = -1;

	die_first(_metadata);
	self->name = variant->name;
	self->page = page_size();
	self->fd = heap_open(self->name);
	ASSERT_LE(0, self->fd) {
		TH_LOG("cannot open %s: %s", self->name, strerror(errno));
	}
	self->buffers = buffers_of(self->name);
	for (self->len = SIZE; self->len >= self->page && buf < 0; self->len /= 2)
		buf = heap_alloc(self->fd, self->len);
	ASSERT_LE(0, buf);
	self->len *= 2;
	close(buf);
}

FIXTURE_TEARDOWN(heap)
{
	close(self->fd);
}

static void size_is(struct __test_metadata *_metadata, int heap, size_t ask, size_t want)
{
	struct stat st;
	int buf;

	buf = heap_alloc(heap, ask);
	ASSERT_LE(0, buf) {
		TH_LOG("no buffer of %zu bytes: %s", ask, strerror(errno));
	}
	EXPECT_EQ(want, lseek(buf, 0, SEEK_END));
	EXPECT_EQ(0, lseek(buf, 0, SEEK_SET));
	ASSERT_EQ(0, fstat(buf, &st));
	EXPECT_EQ(want, st.st_size);
	ASSERT_EQ(0, close(buf));
}

TEST_F(heap, allocates_a_page)
{
	size_is(_metadata, self->fd, self->page, self->page);
}

TEST_F(heap, allocates_64_kib)
{
	if (self->len < 64 * KIB)
		SKIP(return, "the heap has no 64 KiB");
	size_is(_metadata, self->fd, 64 * KIB, 64 * KIB);
}

TEST_F(heap, allocates_1_mib)
{
	if (self->len < MIB)
		SKIP(return, "the heap has no 1 MiB");
	size_is(_metadata, self->fd, MIB, MIB);
}

TEST_F(heap, rounds_up_to_pages)
{
	size_is(_metadata, self->fd, 1, self->page);
	if (self->len < 4 * self->page)
		return;
	size_is(_metadata, self->fd, self->page + 1, 2 * self->page);
	size_is(_metadata, self->fd, 3 * self->page - 1, 3 * self->page);
}

TEST_F(heap, fresh_memory_is_zeroed)
{
	size_t sizes[] = { self->page, 64 * KIB, MIB, LARGE };
	unsigned char *p;
	unsigned int i;
	int buf;

	for (i = 0; i < ARRAY_SIZE(sizes); i++) {
		buf = heap_alloc(self->fd, sizes[i]);
		if (buf < 0 && sizes[i] > self->len)
			break;
		ASSERT_LE(0, buf);
		p = get_map(_metadata, buf, sizes[i]);
		ASSERT_EQ(sizes[i], first_nonzero(p, sizes[i]));
		munmap(p, sizes[i]);
		close(buf);
	}
}

/* Enough memory, twice, that the second round gets pages of the first */
TEST_F(heap, dirty_memory_is_zeroed)
{
	enum { COUNT = 24 };
	int i, n, round, buf[COUNT];
	unsigned char *p;

	for (round = 0; round < 2; round++) {
		for (n = 0; n < COUNT; n++) {
			buf[n] = heap_alloc(self->fd, self->len);
			if (buf[n] < 0 && n && errno == ENOMEM)
				break;
			ASSERT_LE(0, buf[n]);
			p = get_map(_metadata, buf[n], self->len);
			ASSERT_EQ(self->len, first_nonzero(p, self->len)) {
				TH_LOG("round %d, buffer %d", round, n);
			}
			memset(p, 0xa5, self->len);
			munmap(p, self->len);
		}
		for (i = 0; i < n; i++)
			close(buf[i]);
	}
}

TEST_F(heap, every_page_can_be_used)
{
	size_t last = self->len - self->page;
	unsigned char *p;
	int buf;

	buf = heap_alloc(self->fd, self->len);
	p = get_map(_metadata, buf, self->len);
	fill(p, self->len, 3);
	ASSERT_EQ(self->len, first_wrong(p, self->len, 3));
	/* and the last one is at its place in a map of its own */
	p = mmap(NULL, self->page, PROT_READ, MAP_SHARED, buf, last);
	ASSERT_NE(MAP_FAILED, p);
	ASSERT_EQ(pattern(last, 3), p[0]);
}

/* Of a length that makes the system heap use chunks of several sizes, if there is as much */
static int odd_buffer(int heap, long page, size_t otherwise, size_t *len)
{
	int buf;

	*len = MIB + 64 * KIB + 3 * page;
	buf = heap_alloc(heap, *len);
	if (buf < 0) {
		*len = otherwise;
		buf = heap_alloc(heap, *len);
	}
	return buf;
}

static void part_shows(struct __test_metadata *_metadata, int buf, size_t off, size_t n)
{
	unsigned char *part;
	size_t i;

	part = mmap(NULL, n, PROT_READ, MAP_SHARED, buf, off);
	ASSERT_NE(MAP_FAILED, part);
	for (i = 0; i < n && part[i] == pattern(off + i, 5); i += 509)
		;
	ASSERT_LE(n, i) {
		TH_LOG("byte %zu of the map at %zu", i, off);
	}
	munmap(part, n);
}

TEST_F(heap, a_map_of_a_part_shows_that_part)
{
	size_t max = 40 * self->page, huge = 2 * MIB, len, off;
	unsigned char *p;
	int buf;

	buf = odd_buffer(self->fd, self->page, self->len, &len);
	p = get_map(_metadata, buf, len);
	fill(p, len, 5);
	for (off = 0; off < len; off += 7 * self->page)
		part_shows(_metadata, buf, off, max < len - off ? max : len - off);
	munmap(p, len);
	close(buf);

	/* a large buffer is perhaps mapped by large pages */
	buf = heap_alloc(self->fd, LARGE);
	if (buf < 0)
		return;
	p = get_map(_metadata, buf, LARGE);
	fill(p, LARGE, 5);
	for (off = 0; off < LARGE; off += huge) {
		part_shows(_metadata, buf, off, LARGE - off);
		part_shows(_metadata, buf, off, huge - self->page);
		part_shows(_metadata, buf, off + self->page, huge - self->page);
		part_shows(_metadata, buf, off + huge - self->page, self->page);
	}
	part_shows(_metadata, buf, self->page, LARGE - 2 * self->page);
}

/* All of a buffer is there, so mmap() can map all of it. No heap has to. */
TEST_F(heap, using_a_map_does_not_fault)
{
	const size_t pages = 256;
	struct rusage before, after;
	size_t done, i;
	unsigned char *p;
	int buf;

	buf = heap_alloc(self->fd, self->len);
	ASSERT_LE(0, buf);
	ASSERT_EQ(0, getrusage(RUSAGE_SELF, &before));
	for (done = 0; done < pages; done += self->len / self->page) {
		p = get_map(_metadata, buf, self->len);
		for (i = 0; i < self->len; i += self->page) {
			ASSERT_EQ(done ? 1 : 0, p[i]);
			p[i] = 1;
		}
		munmap(p, self->len);
	}
	ASSERT_EQ(0, getrusage(RUSAGE_SELF, &after));
	/* a few are the program's own */
	if (after.ru_minflt - before.ru_minflt >= (long)pages / 4)
		SKIP(return, "maps of this heap fault when their pages are first used");
}

/* Writes in a child: the signal that this ends with, or 0 */
static int write_in_child(unsigned char *p, unsigned char byte)
{
	int status = 0;
	pid_t pid;

	pid = fork();
	if (!pid) {
		setrlimit(RLIMIT_CORE, &(struct rlimit) { });
		*p = byte;
		_exit(0);
	}
	if (pid < 0 || waitpid(pid, &status, 0) != pid)
		return -1;
	return WIFSIGNALED(status) ? WTERMSIG(status) : 0;
}

/* To an address at this distance from one that a large page can have */
static void move_protect_split(struct __test_metadata *_metadata, int buf, size_t len,
			       long page, size_t distance)
{
	size_t huge = 2 * MIB, half = len / 2 / page * page;
	unsigned char *p, *to, *room;

	p = get_map(_metadata, buf, len);
	fill(p, len, 6);
	room = mmap(NULL, len + 2 * huge, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	ASSERT_NE(MAP_FAILED, (void *)room);
	to = room + huge - (unsigned long)room % huge + distance;
	ASSERT_EQ(to, mremap(p, len, len, MREMAP_MAYMOVE | MREMAP_FIXED, to));
	EXPECT_EQ(len, first_wrong(to, len, 6));
	EXPECT_ERRNO(EFAULT, mremap(to, len, len + page, MREMAP_MAYMOVE));

	EXPECT_EQ(0, write_in_child(to, 0x77));
	EXPECT_EQ(0x77, to[0]);
	ASSERT_EQ(0, mprotect(to, page, PROT_READ));
	EXPECT_EQ(SIGSEGV, write_in_child(to, 0x78));
	EXPECT_EQ(0x77, to[0]);
	EXPECT_EQ(0, write_in_child(to + len - 1, pattern(len - 1, 6)));
	ASSERT_EQ(0, mprotect(to, page, PROT_READ | PROT_WRITE));
	EXPECT_EQ(0, write_in_child(to, pattern(0, 6)));
	EXPECT_EQ(len, first_wrong(to, len, 6));

	ASSERT_EQ(0, mprotect(to, len, PROT_NONE));
	EXPECT_EQ(SIGSEGV, write_in_child(to + half, 0x79));
	ASSERT_EQ(0, mprotect(to, len, PROT_READ));
	EXPECT_EQ(SIGSEGV, write_in_child(to + half, 0x79));
	ASSERT_EQ(0, mprotect(to, len, PROT_READ | PROT_WRITE));
	EXPECT_EQ(0, write_in_child(to + half, pattern(half, 6)));
	EXPECT_EQ(len, first_wrong(to, len, 6));

	/* what is below, between and above the holes stays */
	ASSERT_EQ(0, munmap(to + half, len - half));
	EXPECT_EQ(half, first_wrong(to, half, 6));
	ASSERT_EQ(0, munmap(to, page));
	if (half > 3 * page) {
		ASSERT_EQ(0, munmap(to + 2 * page, page));
		EXPECT_EQ(pattern(page, 6), to[page]);
		EXPECT_EQ(pattern(half - 1, 6), to[half - 1]);
	}
	munmap(room, len + 2 * huge);
}

TEST_F(heap, a_map_can_be_moved_protected_and_split)
{
	size_t sizes[] = { self->len, LARGE };
	unsigned int i;
	int buf;

	for (i = 0; i < ARRAY_SIZE(sizes); i++) {
		buf = heap_alloc(self->fd, sizes[i]);
		if (buf < 0 && sizes[i] > self->len)
			break;
		ASSERT_LE(0, buf);
		move_protect_split(_metadata, buf, sizes[i], self->page, 0);
		move_protect_split(_metadata, buf, sizes[i], self->page, self->page);
		close(buf);
	}
}

/* A buffer that large pages may map, or one as large as the heap has it */
static int large_buffer(int heap, size_t len, size_t *got)
{
	int buf = heap_alloc(heap, LARGE);

	*got = buf < 0 ? len : LARGE;
	return buf < 0 ? heap_alloc(heap, len) : buf;
}

/* As who looks for the pages that a process writes to does: their entries become read-only */
TEST_F(heap, a_map_is_written_to_after_its_entries_became_read_only)
{
	static const char text[] = "from a file";
	int buf, step, fd[2];
	unsigned char *p;
	size_t len, off;

	buf = large_buffer(self->fd, self->len, &len);
	p = get_map(_metadata, buf, len);
	ASSERT_EQ(0, pipe(fd));
	for (step = 0; step < 3; step++) {
		write_text("/proc/self/clear_refs", "4");
		if (step) {
			ASSERT_EQ(0, mprotect(p, len, PROT_READ));
			ASSERT_EQ(0, mprotect(p, len, PROT_READ | PROT_WRITE));
		}
		/* first the program writes, or the kernel */
		for (off = 0; off < len; off += len / 4) {
			if (off / (len / 4) % 2 == (size_t)step % 2) {
				ASSERT_EQ(sizeof(text), write(fd[1], text, sizeof(text)));
				ASSERT_EQ(sizeof(text), read(fd[0], p + off, sizeof(text)));
				ASSERT_STREQ(text, (char *)p + off);
			}
			p[off] = step + 1;
			ASSERT_EQ(step + 1, p[off]);
		}
	}
	close(fd[0]);
	close(fd[1]);
	munmap(p, len);
	close(buf);
}

TEST_F(heap, a_child_shares_what_nobody_touched_yet)
{
	unsigned char *p;
	size_t len, off;
	int buf;

	buf = large_buffer(self->fd, self->len, &len);
	p = get_map(_metadata, buf, len);
	for (off = 0; off < len; off += len / 4 + self->page)
		ASSERT_EQ(0, write_in_child(p + off, pattern(off, 9)));
	for (off = 0; off < len; off += len / 4 + self->page)
		ASSERT_EQ(pattern(off, 9), p[off]);
	munmap(p, len);
	close(buf);
}

struct toucher {
	unsigned char **maps;
	size_t len, page, first;
	int *go, *running;
};

/* Each map shows the same buffer, so each has a byte of its own in the pages */
static void *touch_pages(void *arg)
{
	struct toucher *t = arg;
	size_t off, step;
	int i;

	while (!__atomic_load_n(t->go, __ATOMIC_ACQUIRE))
		;
	for (i = 0; i < TOUCH_MAPS; i++) {
		step = i ? t->len / 4 : TOUCHERS * t->page;
		for (off = t->first * t->page; off < t->len; off += step)
			t->maps[i][off + i] = pattern(off + i, 10);
	}
	__atomic_sub_fetch(t->running, 1, __ATOMIC_RELEASE);
	return NULL;
}

/* Threads touch the same buffer, while the process changes its mind about large pages */
TEST_F(heap, is_mapped_by_threads_with_and_without_large_pages)
{
	unsigned char *maps[TOUCH_MAPS];
	pthread_t thread[TOUCHERS];
	struct toucher t[TOUCHERS];
	int round, i, go, running, buf, n = 0;
	size_t len, off;

	buf = large_buffer(self->fd, self->len, &len);
	for (round = 0; round < TOUCH_ROUNDS; round++) {
		for (i = 0; i < TOUCH_MAPS; i++)
			maps[i] = get_map(_metadata, buf, len);
		go = 0;
		running = TOUCHERS;
		for (i = 0; i < TOUCHERS; i++) {
			t[i] = (struct toucher) { maps, len, self->page, i, &go, &running };
			ASSERT_EQ(0, pthread_create(&thread[i], NULL, touch_pages, &t[i]));
		}
		__atomic_store_n(&go, 1, __ATOMIC_RELEASE);
		while (__atomic_load_n(&running, __ATOMIC_ACQUIRE))
			ASSERT_EQ(0, prctl(PR_SET_THP_DISABLE, ++n % 2, 0, 0, 0));
		for (i = 0; i < TOUCHERS; i++)
			ASSERT_EQ(0, pthread_join(thread[i], NULL));
		ASSERT_EQ(0, prctl(PR_SET_THP_DISABLE, 0, 0, 0, 0));
		for (off = 0; off < len; off += self->page)
			ASSERT_EQ(pattern(off, 10), maps[0][off]);
		for (i = 1; i < TOUCH_MAPS; i++)
			for (off = 0; off < len; off += len / 4)
				ASSERT_EQ(pattern(off + i, 10), maps[0][off + i]);
		memset(maps[0], 0, len);
		for (i = 0; i < TOUCH_MAPS; i++)
			munmap(maps[i], len);
	}
	close(buf);
}

/* mmap() leaves nothing to large pages then */
TEST_F(heap, using_a_map_does_not_fault_without_large_pages)
{
	struct rusage before, after;
	unsigned char *p;
	size_t len, off;
	int buf;

	buf = large_buffer(self->fd, self->len, &len);
	ASSERT_EQ(0, prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0));
	p = get_map(_metadata, buf, len);
	ASSERT_EQ(0, getrusage(RUSAGE_SELF, &before));
	for (off = 0; off < len; off += self->page)
		p[off] = pattern(off, 11);
	ASSERT_EQ(0, getrusage(RUSAGE_SELF, &after));
	for (off = 0; off < len; off += self->page)
		ASSERT_EQ(pattern(off, 11), p[off]);
	if (after.ru_minflt - before.ru_minflt >= (long)(len / self->page / 4))
		SKIP(return, "maps of this heap fault when their pages are first used");
}

/* An entry that can be written to is dirty from the start, whatever the first access is */
TEST_F(heap, writing_after_reading_does_not_fault)
{
	unsigned char *maps[TOUCH_MAPS];
	struct rusage before, after;
	size_t len, off;
	int i, buf;

	buf = large_buffer(self->fd, self->len, &len);
	for (i = 0; i < TOUCH_MAPS; i++) {
		maps[i] = get_map(_metadata, buf, len);
		for (off = 0; off < len; off += len / 4)
			ASSERT_EQ(0, maps[i][off]);
	}
	ASSERT_EQ(0, getrusage(RUSAGE_SELF, &before));
	for (i = 0; i < TOUCH_MAPS; i++)
		for (off = 0; off < len; off += len / 4)
			maps[i][off] = i;
	ASSERT_EQ(0, getrusage(RUSAGE_SELF, &after));
	for (off = 0; off < len; off += len / 4)
		ASSERT_EQ(TOUCH_MAPS - 1, maps[0][off]);
	/* a few are the program's own */
	if (after.ru_minflt - before.ru_minflt >= TOUCH_MAPS / 2)
		SKIP(return, "maps of this heap fault when their pages are first written to");
}

TEST_F(heap, a_map_to_read_can_become_one_to_write)
{
	unsigned char *p;
	int buf;

	buf = heap_alloc(self->fd, self->page);
	p = mmap(NULL, self->page, PROT_READ, MAP_SHARED, buf, 0);
	ASSERT_NE(MAP_FAILED, p);
	EXPECT_EQ(SIGSEGV, write_in_child(p, 1));
	EXPECT_EQ(0, p[0]);
	ASSERT_EQ(0, mprotect(p, self->page, PROT_READ | PROT_WRITE));
	EXPECT_EQ(0, write_in_child(p, 1));
	EXPECT_EQ(1, p[0]);
}

TEST_F(heap, no_map_goes_past_the_end)
{
	int buf;

	buf = heap_alloc(self->fd, self->page);
	ASSERT_LE(0, buf);
	EXPECT_ERRNO(EINVAL, mmap(NULL, 2 * self->page, PROT_READ, MAP_SHARED, buf, 0));
	EXPECT_ERRNO(EINVAL, mmap(NULL, self->page, PROT_READ, MAP_SHARED, buf, self->page));
}

TEST_F(heap, two_maps_show_the_same_memory)
{
	unsigned char *a, *b;
	int buf;

	buf = heap_alloc(self->fd, self->len);
	a = get_map(_metadata, buf, self->len);
	b = get_map(_metadata, buf, self->len);
	fill(a, self->len, 9);
	ASSERT_EQ(self->len, first_wrong(b, self->len, 9));
	b[77] = 0xee;
	ASSERT_EQ(0xee, a[77]);
}

TEST_F(heap, cpu_access_can_be_bracketed)
{
	static const __u64 access[] = { DMA_BUF_SYNC_READ, DMA_BUF_SYNC_WRITE, DMA_BUF_SYNC_RW };
	unsigned int i;
	int buf;

	buf = heap_alloc(self->fd, self->len);
	get_map(_metadata, buf, self->len);
	for (i = 0; i < ARRAY_SIZE(access); i++) {
		EXPECT_EQ(0, buffer_sync(buf, DMA_BUF_SYNC_START | access[i]));
		EXPECT_EQ(0, buffer_sync(buf, DMA_BUF_SYNC_END | access[i]));
	}
	EXPECT_ERRNO(EINVAL, buffer_sync(buf, DMA_BUF_SYNC_START));
	EXPECT_ERRNO(EINVAL, buffer_sync(buf, 1ULL << 40));
}

/* Of whatever size: what is written to a private map would be lost */
TEST_F(heap, maps_are_shared_only)
{
	size_t sizes[] = { self->page, 64 * KIB, MIB, MIB + self->page, LARGE };
	unsigned int i;
	void *p;
	int buf;

	for (i = 0; i < ARRAY_SIZE(sizes); i++) {
		buf = heap_alloc(self->fd, sizes[i]);
		if (buf < 0 && sizes[i] > self->len)
			break;
		ASSERT_LE(0, buf);
		EXPECT_ERRNO(EINVAL, mmap(NULL, sizes[i], PROT_READ | PROT_WRITE, MAP_PRIVATE,
					  buf, 0));
		EXPECT_ERRNO(EINVAL, mmap(NULL, sizes[i], PROT_READ, MAP_PRIVATE, buf, 0));
		EXPECT_ERRNO(EINVAL, mmap(NULL, self->page, PROT_READ | PROT_WRITE, MAP_PRIVATE,
					  buf, sizes[i] - self->page));
		p = get_map(_metadata, buf, sizes[i]);
		EXPECT_EQ(0, munmap(p, sizes[i]));
		close(buf);
	}
}

TEST_F(heap, read_only_stays_read_only)
{
	unsigned char *p;
	int buf;

	buf = heap_alloc_flags(self->fd, self->page, O_RDONLY | O_CLOEXEC, 0);
	ASSERT_LE(0, buf);
	EXPECT_EQ(O_RDONLY, fcntl(buf, F_GETFL) & O_ACCMODE);
	p = mmap(NULL, self->page, PROT_READ, MAP_SHARED, buf, 0);
	ASSERT_NE(MAP_FAILED, p);
	EXPECT_EQ(0, p[0]);
	EXPECT_ERRNO(EACCES, buffer_map(buf, self->page));
	EXPECT_ERRNO(EACCES, mprotect(p, self->page, PROT_READ | PROT_WRITE));
}

TEST_F(heap, write_only_cannot_be_mapped)
{
	int buf;

	buf = heap_alloc_flags(self->fd, self->page, O_WRONLY | O_CLOEXEC, 0);
	ASSERT_LE(0, buf);
	EXPECT_EQ(O_WRONLY, fcntl(buf, F_GETFL) & O_ACCMODE);
	EXPECT_ERRNO(EACCES, mmap(NULL, self->page, PROT_WRITE, MAP_SHARED, buf, 0));
	EXPECT_ERRNO(EACCES, mmap(NULL, self->page, PROT_READ, MAP_SHARED, buf, 0));
	EXPECT_ERRNO(EACCES, buffer_map(buf, self->page));
}

/* The access mode of the heap's file says nothing about its buffers */
TEST_F(heap, a_readable_node_is_enough)
{
	char path[PATH_MAX];
	unsigned char *p;
	int heap, buf;

	snprintf(path, sizeof(path), DEVPATH "/%s", self->name);
	heap = open(path, O_RDONLY | O_CLOEXEC);
	ASSERT_LE(0, heap);
	buf = heap_alloc(heap, self->len);
	ASSERT_LE(0, buf);
	EXPECT_EQ(O_RDWR, fcntl(buf, F_GETFL) & O_ACCMODE);
	p = get_map(_metadata, buf, self->len);
	fill(p, self->len, 4);
	EXPECT_EQ(self->len, first_wrong(p, self->len, 4));
	close(heap);
}

TEST_F(heap, neither_is_read_or_written)
{
	char byte = 0;
	int buf;

	buf = heap_alloc(self->fd, self->page);
	ASSERT_LE(0, buf);
	EXPECT_ERRNO(EINVAL, read(buf, &byte, 1));
	EXPECT_ERRNO(EINVAL, write(buf, &byte, 1));
	EXPECT_ERRNO(EINVAL, read(self->fd, &byte, 1));
	EXPECT_ERRNO(EINVAL, write(self->fd, &byte, 1));
}

TEST_F(heap, seeks_to_its_ends_only)
{
	int buf;

	buf = heap_alloc(self->fd, self->page);
	ASSERT_LE(0, buf);
	EXPECT_EQ(self->page, lseek(buf, 0, SEEK_END));
	EXPECT_ERRNO(EINVAL, lseek(buf, 0, SEEK_CUR));
	EXPECT_ERRNO(EINVAL, lseek(buf, 1, SEEK_SET));
	EXPECT_ERRNO(EINVAL, lseek(buf, -1, SEEK_END));
}

/* The value of a line of the buffer's fdinfo, or "" */
static const char *fdinfo_value(int buf, const char *key, char *value, size_t size)
{
	char path[64], line[256];
	size_t len = strlen(key);
	FILE *f;

	value[0] = '\0';
	snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", buf);
	f = fopen(path, "re");
	while (f && fgets(line, sizeof(line), f))
		if (!strncmp(line, key, len) && line[len] == ':')
			snprintf(value, size, "%s", strtok(line + len + 1, "\t\n") ?: "");
	if (f)
		fclose(f);
	return value;
}

TEST_F(heap, fdinfo_says_what_a_buffer_is)
{
	char value[256], size[32];
	int buf, copy;
	void *p;

	buf = heap_alloc(self->fd, self->len);
	ASSERT_LE(0, buf);
	snprintf(size, sizeof(size), "%zu", self->len);
	EXPECT_STREQ(size, fdinfo_value(buf, "size", value, sizeof(value)));
	EXPECT_STREQ(self->name, fdinfo_value(buf, "exp_name", value, sizeof(value)));
	EXPECT_STREQ("", fdinfo_value(buf, "name", value, sizeof(value)));
	ASSERT_EQ(0, ioctl(buf, DMA_BUF_SET_NAME, "frame"));
	EXPECT_STREQ("frame", fdinfo_value(buf, "name", value, sizeof(value)));

	/* Each fd and each mapping is a user */
	EXPECT_STREQ("1", fdinfo_value(buf, "count", value, sizeof(value)));
	copy = dup(buf);
	ASSERT_LE(0, copy);
	EXPECT_STREQ("2", fdinfo_value(buf, "count", value, sizeof(value)));
	p = get_map(_metadata, buf, self->len);
	EXPECT_STREQ("3", fdinfo_value(copy, "count", value, sizeof(value)));
	close(buf);
	munmap(p, self->len);
	EXPECT_STREQ("1", fdinfo_value(copy, "count", value, sizeof(value)));
}

/* No device works on the buffer, so whatever waits for one goes on at once */
TEST_F(heap, nobody_waits_for_an_idle_buffer)
{
	struct dma_buf_export_sync_file fence = { .flags = DMA_BUF_SYNC_RW, .fd = -1 };
	struct dma_buf_import_sync_file back = { .flags = DMA_BUF_SYNC_WRITE };
	struct pollfd pfd = { .events = POLLIN | POLLOUT };

	pfd.fd = heap_alloc(self->fd, self->page);
	ASSERT_LE(0, pfd.fd);
	EXPECT_EQ(1, poll(&pfd, 1, 0));
	EXPECT_EQ(POLLIN | POLLOUT, pfd.revents);

	if (ioctl(pfd.fd, DMA_BUF_IOCTL_EXPORT_SYNC_FILE, &fence) && errno == ENOTTY)
		SKIP(return, "the kernel has no sync files");
	ASSERT_LE(0, fence.fd);
	back.fd = fence.fd;
	EXPECT_EQ(0, ioctl(pfd.fd, DMA_BUF_IOCTL_IMPORT_SYNC_FILE, &back));
	back.fd = pfd.fd;
	EXPECT_ERRNO(EINVAL, ioctl(pfd.fd, DMA_BUF_IOCTL_IMPORT_SYNC_FILE, &back));
	fence.flags = 0;
	EXPECT_ERRNO(EINVAL, ioctl(pfd.fd, DMA_BUF_IOCTL_EXPORT_SYNC_FILE, &fence));
	EXPECT_EQ(1, poll(&pfd, 1, 0));
}

/* Who may not open the node may have a buffer all the same */
TEST_F(heap, a_buffer_needs_no_permission_for_the_node)
{
	enum { DONE, NO_UID, OPENED, NOT_MAPPED, NOT_WRITTEN };
	int buf, status = -1;
	char path[PATH_MAX];
	unsigned char *p;
	struct stat st;
	pid_t pid;

	if (geteuid())
		SKIP(return, "needs root, to become another user");
	snprintf(path, sizeof(path), DEVPATH "/%s", self->name);
	ASSERT_EQ(0, stat(path, &st));
	if (st.st_mode & 0007)
		SKIP(return, "everybody may open the node");
	buf = heap_alloc(self->fd, self->page);
	ASSERT_LE(0, buf);
	pid = fork();
	if (!pid) {
		if (setgroups(0, NULL) || setgid(NOBODY) || setuid(NOBODY))
			_exit(NO_UID);
		if (open(path, O_RDONLY | O_CLOEXEC) >= 0 || errno != EACCES)
			_exit(OPENED);
		p = buffer_map(buf, self->page);
		if (p == MAP_FAILED)
			_exit(NOT_MAPPED);
		fill(p, self->page, 8);
		_exit(first_wrong(p, self->page, 8) == self->page ? DONE : NOT_WRITTEN);
	}
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	ASSERT_TRUE(WIFEXITED(status));
	EXPECT_EQ(DONE, WEXITSTATUS(status));
	p = get_map(_metadata, buf, self->page);
	EXPECT_EQ(self->page, first_wrong(p, self->page, 8));
}

/* What would take the pages of a map fails, and what copies works */
TEST_F(heap, vmsplice_does_not_take_it)
{
	struct iovec iov;
	int pipe_fd[2], buf;

	buf = heap_alloc(self->fd, self->page);
	iov.iov_base = get_map(_metadata, buf, self->page);
	iov.iov_len = self->page;
	ASSERT_EQ(0, pipe(pipe_fd));
	EXPECT_ERRNO(EFAULT, vmsplice(pipe_fd[1], &iov, 1, 0));
	EXPECT_EQ(64, write(pipe_fd[1], iov.iov_base, 64));
}

TEST_F(heap, direct_io_does_not_take_it)
{
	char dev[32];
	int id, direct, cached, buf;
	void *p;

	id = zram_add(MIB, dev, sizeof(dev));
	if (id < 0)
		SKIP(return, "no zram to read from");
	direct = open(dev, O_RDWR | O_DIRECT | O_CLOEXEC);
	cached = open(dev, O_RDWR | O_CLOEXEC);
	ASSERT_LE(0, direct);
	ASSERT_LE(0, cached);
	buf = heap_alloc(self->fd, self->page);
	p = get_map(_metadata, buf, self->page);
	EXPECT_ERRNO(EFAULT, read(direct, p, self->page));
	EXPECT_ERRNO(EFAULT, write(direct, p, self->page));
	EXPECT_EQ(self->page, read(cached, p, self->page));
	EXPECT_EQ(self->page, write(cached, p, self->page));
	/* the device is not to blame */
	p = mmap(NULL, self->page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	EXPECT_EQ(self->page, read(direct, p, self->page));
	close(direct);
	close(cached);
	EXPECT_EQ(0, zram_remove(id));
}

TEST_F(heap, close_on_exec_as_asked)
{
	int with, without;

	with = heap_alloc_flags(self->fd, self->page, O_RDWR | O_CLOEXEC, 0);
	ASSERT_LE(0, with);
	EXPECT_EQ(FD_CLOEXEC, fcntl(with, F_GETFD));
	close(with);
	without = heap_alloc_flags(self->fd, self->page, O_RDWR, 0);
	ASSERT_LE(0, without);
	EXPECT_EQ(0, fcntl(without, F_GETFD));
}

TEST_F(heap, refuses_bad_fd_flags)
{
	static const __u32 flags[] = {
		O_NONBLOCK, O_APPEND, O_DIRECT, 1U << 31, ~(O_CLOEXEC | O_ACCMODE)
	};
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(flags); i++)
		EXPECT_ERRNO(EINVAL, heap_alloc_flags(self->fd, self->page, O_RDWR | flags[i], 0));
}

TEST_F(heap, refuses_bad_heap_flags)
{
	EXPECT_ERRNO(EINVAL, heap_alloc_flags(self->fd, self->page, O_RDWR, 1));
	EXPECT_ERRNO(EINVAL, heap_alloc_flags(self->fd, self->page, O_RDWR, 1ULL << 63));
}

TEST_F(heap, refuses_an_fd)
{
	struct dma_heap_allocation_data data = {
		.len = self->page,
		.fd = 1,
		.fd_flags = O_RDWR,
	};

	EXPECT_ERRNO(EINVAL, ioctl(self->fd, DMA_HEAP_IOCTL_ALLOC, &data));
}

TEST_F(heap, refuses_a_bad_length)
{
	EXPECT_ERRNO(EINVAL, heap_alloc(self->fd, 0));
	EXPECT_ERRNO(EINVAL, heap_alloc(self->fd, ~0ULL));
}

TEST_F(heap, refuses_an_unknown_ioctl)
{
	struct dma_heap_allocation_data data = { .len = self->page, .fd_flags = O_RDWR };

	EXPECT_EQ(-1, ioctl(self->fd, _IOWR(DMA_HEAP_IOC_MAGIC, 1,
					    struct dma_heap_allocation_data), &data));
	EXPECT_TRUE(errno == ENOTTY || errno == EINVAL);
}

TEST_F(heap, refuses_a_bad_pointer)
{
	EXPECT_ERRNO(EFAULT, ioctl(self->fd, DMA_HEAP_IOCTL_ALLOC, (void *)8));
}

/* More than any machine has, and all that this one has: the caller is told, and nobody killed */
TEST_F(heap, refuses_more_than_there_is)
{
	long long total = mem_bytes("MemTotal"), killed = oom_kills();
	const __u64 lens[] = { 1ULL << 50, 1ULL << 40, total + self->page, total };
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(lens); i++) {
		EXPECT_ERRNO(ENOMEM, heap_alloc(self->fd, lens[i]));
		EXPECT_EQ(killed, oom_kills());
	}
}

TEST_F(heap, an_importer_takes_a_buffer_and_drops_it)
{
	unsigned char *p;
	int importer, buf;

	if (self->buffers < 0)
		SKIP(return, "no " BUFINFO);
	importer = open_test_module();
	if (importer < 0)
		SKIP(return, "no module " DMA_HEAP_TEST);
	buf = heap_alloc(self->fd, self->len);
	p = get_map(_metadata, buf, self->len);
	p[self->len / 2] = 0x5a;
	ASSERT_EQ(0, ioctl(importer, DMA_HEAP_TEST_IMPORT, &buf));
	EXPECT_EQ(0x5a, p[self->len / 2]);
	munmap(p, self->len);
	close(buf);
	EXPECT_EQ(self->buffers + 1, buffers_of(self->name));
	ASSERT_EQ(0, ioctl(importer, DMA_HEAP_TEST_DROP));
	EXPECT_EQ(self->buffers, buffers_of(self->name));
}

/* The device's addresses, and the mapping that the kernel has */
static void import_all(struct __test_metadata *_metadata, int importer, int buf, size_t len)
{
	unsigned char *p;
	__u64 mapped;
	size_t i;

	p = get_map(_metadata, buf, len);
	fill(p, len, 9);
	ASSERT_EQ(0, ioctl(importer, DMA_HEAP_TEST_IMPORT, &buf));
	ASSERT_EQ(0, ioctl(importer, DMA_HEAP_TEST_MAPPED, &mapped));
	EXPECT_EQ(len, mapped);
	ASSERT_EQ(0, ioctl(importer, DMA_HEAP_TEST_INVERT));
	for (i = 0; i < len && p[i] == (pattern(i, 9) ^ 0xff); i++)
		;
	EXPECT_EQ(len, i);
	ASSERT_EQ(0, ioctl(importer, DMA_HEAP_TEST_DROP));
	munmap(p, len);
}

TEST_F(heap, an_importer_gets_all_of_it)
{
	int importer, buf;
	size_t len;

	importer = open_test_module();
	if (importer < 0)
		SKIP(return, "no module " DMA_HEAP_TEST);
	buf = odd_buffer(self->fd, self->page, self->len, &len);
	import_all(_metadata, importer, buf, len);
	close(buf);
	/* one chunk */
	buf = heap_alloc(self->fd, self->page);
	import_all(_metadata, importer, buf, self->page);
}

TEST_F(heap, a_program_of_32_bits_uses_it)
{
	char program[PATH_MAX] = "", node[PATH_MAX];
	int status;
	pid_t pid;

	ASSERT_LT(0, readlink("/proc/self/exe", program, sizeof(program) - 16));
	snprintf(strrchr(program, '/'), 16, "/compat");
	if (access(program, X_OK))
		SKIP(return, "no such program for this architecture");
	snprintf(node, sizeof(node), DEVPATH "/%s", self->name);
	pid = fork();
	ASSERT_LE(0, pid);
	if (!pid) {
		execl(program, program, node, NULL);
		_exit(errno == ENOEXEC ? 126 : 127);
	}
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	ASSERT_TRUE(WIFEXITED(status));
	if (WEXITSTATUS(status) == 126)
		SKIP(return, "this kernel runs no programs of 32 bits");
	EXPECT_EQ(0, WEXITSTATUS(status));
}

/* In the kernel's address space, too: of the system heap more than one chunk, and many pages */
TEST_F(heap, a_driver_uses_a_large_one)
{
	size_t len = 6 * MIB;
	int buf;

	for (; (buf = heap_alloc(self->fd, len)) < 0; len /= 2)
		ASSERT_LE((size_t)self->page, len);
	close(buf);
	if (!load_sample(_metadata, self->name, len))
		SKIP(return, "no module " SAMPLE);
	unload_sample(_metadata);
}

TEST_F(heap, a_buffer_outlives_the_fds)
{
	unsigned char *p;
	int buf;

	/* the heap's fd is closed there, and the map outlives the buffer's */
	buf = get_buffer(_metadata, self->name, self->len);
	p = get_map(_metadata, buf, self->len);
	ASSERT_EQ(0, close(buf));
	fill(p, self->len, 5);
	ASSERT_EQ(self->len, first_wrong(p, self->len, 5));
}

TEST_F(heap, close_frees_the_buffer)
{
	int buf;

	if (self->buffers < 0)
		SKIP(return, "no " BUFINFO);
	buf = heap_alloc(self->fd, self->len);
	ASSERT_LE(0, buf);
	EXPECT_EQ(self->buffers + 1, buffers_of(self->name));
	close(buf);
	EXPECT_EQ(self->buffers, buffers_of(self->name));
}

/* The argument can be read but not written: allocating works, the answer cannot be copied out */
static void fault_rounds(struct __test_metadata *_metadata, int heap, long page)
{
	struct dma_heap_allocation_data *data;
	int i;

	data = mmap(NULL, page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	ASSERT_NE(MAP_FAILED, data);
	data->len = page;
	data->fd_flags = O_RDWR | O_CLOEXEC;
	ASSERT_EQ(0, mprotect(data, page, PROT_READ));
	for (i = 0; i < FAULT_ROUNDS; i++)
		EXPECT_ERRNO(EFAULT, ioctl(heap, DMA_HEAP_IOCTL_ALLOC, data));
	/* the same words where they can be written: they were good */
	ASSERT_EQ(0, mprotect(data, page, PROT_READ | PROT_WRITE));
	ASSERT_EQ(0, ioctl(heap, DMA_HEAP_IOCTL_ALLOC, data));
	close(data->fd);
}

TEST_F(heap, a_failed_copy_leaks_no_fd)
{
	int fds = open_fds();

	fault_rounds(_metadata, self->fd, self->page);
	EXPECT_EQ(fds, open_fds());
}

TEST_F(heap, a_failed_copy_leaks_no_buffer)
{
	if (self->buffers < 0)
		SKIP(return, "no " BUFINFO);
	fault_rounds(_metadata, self->fd, self->page);
	EXPECT_EQ(self->buffers, buffers_of(self->name));
}

/* Where the architecture and the kernel can, and memory is not in small pieces */
TEST(system_buffers_are_mapped_by_large_pages)
{
	const size_t len = 32 * MIB;
	long long before, after;
	unsigned char *p;
	int heap, buf;
	size_t i;

	die_first(_metadata);
	if (page_size() != 4096)
		SKIP(return, "with pages of this size a buffer has no chunk as large");
	heap = heap_open("system");
	buf = heap < 0 ? -1 : heap_alloc(heap, len);
	if (buf < 0)
		SKIP(return, "no system heap, or not enough memory");
	before = number_in("/proc/self/status", "VmPTE");
	p = get_map(_metadata, buf, len);
	for (i = 0; i < len; i += page_size())
		p[i] = pattern(i, 8);
	after = number_in("/proc/self/status", "VmPTE");
	for (i = 0; i < len; i += page_size())
		ASSERT_EQ(pattern(i, 8), p[i]);
	/* small pages take 64 KiB of page tables, and what is above them a page or two */
	if (after - before >= 32)
		SKIP(return, "this kernel maps the system heap's buffers by small pages");
}

/* So that large pages are not disabled while a fault is handled: prctl() takes the same lock */
TEST(large_pages_are_mapped_under_mmap_lock)
{
	const size_t len = 32 * MIB, part = 2 * MIB;
	const long long touches = 16 * len / part;
	long long retries, done;
	unsigned char *p;
	int heap, buf, n;
	size_t i;

	die_first(_metadata);
	if (number_in("/proc/vmstat", "vma_lock_retry") < 0)
		SKIP(return, "this kernel does not count faults under the locks of VMAs");
	heap = heap_open("system");
	buf = heap < 0 ? -1 : heap_alloc(heap, len);
	if (buf < 0)
		SKIP(return, "no system heap, or not enough memory");
	retries = number_in("/proc/vmstat", "vma_lock_retry");
	done = number_in("/proc/vmstat", "vma_lock_success");
	for (n = 0; n < 16; n++) {
		p = get_map(_metadata, buf, len);
		for (i = 0; i < len; i += part)
			ASSERT_EQ(0, p[i]);
		munmap(p, len);
	}
	retries = number_in("/proc/vmstat", "vma_lock_retry") - retries;
	done = number_in("/proc/vmstat", "vma_lock_success") - done;
	if (retries + done < touches)
		SKIP(return, "this kernel maps the system heap's buffers by small pages");
	/* a few faults are not those of the buffer */
	EXPECT_GT(touches / 4, done);
	EXPECT_LE(touches, retries);
}

TEST(the_heaps_are_those_expected)
{
	char text[8192], *name, *next = text;
	struct names want = { 0 };

	if (!getenv("HEAPS"))
		SKIP(return, "HEAPS does not say which they are");
	snprintf(text, sizeof(text), "%s", getenv("HEAPS"));
	while ((name = strsep(&next, " ")))
		names_add(&want, name);
	names_sort(&want);
	assert_heaps(_metadata, &want);
}

int main(int argc, char **argv)
{
	find_heaps();
	FOR_EACH_HEAP(heap);
	return test_harness_run(argc, argv);
}
