// SPDX-License-Identifier: GPL-2.0
/*
 * Processes that use buffers of DMA-BUF heaps, and die, fork and pass them on, leave
 * nothing behind
 */
#include <signal.h>
#include <sys/prctl.h>

#include "areas.h"

#define KILLS	40

/* A length that every heap has */
static size_t small_len(int index)
{
	size_t len = 64 * KIB;

	return largest[index] && largest[index] < len ? (size_t)page_size() : len;
}

/* A child that ends with its parent; 0 in the child */
static pid_t fork_child(struct __test_metadata *_metadata)
{
	pid_t pid = fork();

	ASSERT_LE(0, pid);
	if (!pid)
		prctl(PR_SET_PDEATHSIG, SIGKILL);
	return pid;
}

static void child_ends_well(struct __test_metadata *_metadata, pid_t pid)
{
	int status = -1;

	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	ASSERT_EQ(0, status);
}

/* Of a child, which must not return to the harness */
static unsigned char *child_map(int buf, size_t len)
{
	void *p = buffer_map(buf, len);

	if (p == MAP_FAILED)
		_exit(2);
	return p;
}

/* Allocates until it is killed. BUSY is set while it is in the ioctl. */
static void allocate_for_ever(const char *heap, size_t small, size_t large, int *busy)
{
	int i, fd, buf[4];
	unsigned char *p;

	fd = heap_open(heap);
	for (i = 0; fd >= 0; i++) {
		buf[i % 4] = heap_alloc(fd, i % 2 ? large : small);
		__atomic_store_n(busy, 0, __ATOMIC_SEQ_CST);
		if (buf[i % 4] < 0)
			break;
		p = child_map(buf[i % 4], small);
		memset(p, 0xa5, small);
		if (i >= 3) {	/* the other three stay until the end */
			munmap(p, small);
			close(buf[i % 4]);
			i = 2;
		}
		__atomic_store_n(busy, 1, __ATOMIC_SEQ_CST);
	}
	_exit(1);
}

TEST_F(heap, killed_while_it_allocates)
{
	size_t small = small_len(self->index), large = 16 * MIB;
	int i, hits = 0, status, *busy;
	pid_t pid;

	if (!is_system(self->index) && largest[self->index] < 4 * large)
		large = largest[self->index] / 4;
	if (large < small)
		SKIP(return, "the heap is too small");
	busy = mmap(NULL, page_size(), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	ASSERT_NE(MAP_FAILED, busy);
	srand(1);
	for (i = 0; i < KILLS || (!hits && i < 20 * KILLS); i++) {
		*busy = 1;
		pid = fork_child(_metadata);
		if (!pid)
			allocate_for_ever(self->name, small, large, busy);
		usleep(rand() % 40000);
		kill(pid, SIGKILL);
		ASSERT_EQ(pid, waitpid(pid, &status, 0));
		ASSERT_TRUE(WIFSIGNALED(status));
		hits += *busy;
		ASSERT_EQ(self->before.buffers, buffers_of(self->name));
	}
	ksft_print_msg("%s: %d of %d kills came in the ioctl\n", self->name, hits, i);
	EXPECT_LT(0, hits);
}

TEST_F(heap, was_killed_before_it_allocates)
{
	struct dma_heap_test_find named = {};
	int test, err;

	test = open_test_module();
	if (test < 0)
		SKIP(return, "no module " DMA_HEAP_TEST);
	snprintf(named.name, sizeof(named.name), "%s", self->name);
	err = ioctl(test, DMA_HEAP_TEST_KILLED, &named) ? errno : 0;
	/* cma_alloc() may give up before the heap can, and does not say why */
	if (err != ENOMEM || is_system(self->index) || is_coherent(self->index))
		EXPECT_EQ(EINTR, err);
	close(test);
}

TEST_F(heap, shared_over_fork)
{
	size_t len = small_len(self->index);
	unsigned char *p;
	pid_t pid;
	int buf;

	buf = get_buffer(_metadata, self->name, len);
	p = get_map(_metadata, buf, len);
	pid = fork_child(_metadata);
	if (!pid) {
		fill(p, len, 7);	/* through the map that it inherited */
		_exit(first_wrong(child_map(buf, len), len, 7) != len);
	}
	child_ends_well(_metadata, pid);
	EXPECT_EQ(self->before.buffers + 1, buffers_of(self->name));
	EXPECT_EQ(len, first_wrong(p, len, 7));
	munmap(p, len);
	p = get_map(_metadata, buf, len);
	EXPECT_EQ(len, first_wrong(p, len, 7));
	munmap(p, len);
	close(buf);
}

static int receive_fd(int sock)
{
	char byte, control[CMSG_SPACE(sizeof(int))] = "";
	struct iovec iov = { .iov_base = &byte, .iov_len = 1 };
	struct msghdr msg = {
		.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = control,
		.msg_controllen = sizeof(control),
	};
	struct cmsghdr *c;
	int fd = -1;

	if (recvmsg(sock, &msg, MSG_CMSG_CLOEXEC) != 1)
		return -1;
	c = CMSG_FIRSTHDR(&msg);
	if (c && c->cmsg_type == SCM_RIGHTS)
		memcpy(&fd, CMSG_DATA(c), sizeof(fd));
	return fd;
}

TEST_F(heap, passed_over_a_socket)
{
	size_t len = small_len(self->index);
	int sock[2], heap, buf;
	unsigned char *p;
	pid_t pid;

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sock))
		SKIP(return, "no AF_UNIX sockets");
	pid = fork_child(_metadata);
	if (!pid) {
		heap = heap_open(self->name);
		buf = heap_alloc(heap, len);
		fill(child_map(buf, len), len, 8);
		_exit(!send_fd(sock[0], buf));
	}
	/* the sender is gone before the message is read */
	child_ends_well(_metadata, pid);
	EXPECT_EQ(self->before.buffers + 1, buffers_of(self->name));
	buf = receive_fd(sock[1]);
	ASSERT_LE(0, buf);
	p = get_map(_metadata, buf, len);
	EXPECT_EQ(len, first_wrong(p, len, 8));
	close(sock[0]);
	close(sock[1]);
	munmap(p, len);
	close(buf);
}

TEST_F(heap, a_buffer_holds_the_module_alone)
{
	int heap, buf;

	heap = heap_open(self->name);
	ASSERT_LE(0, heap);
	assert_refs(_metadata, self->name, 1);
	buf = heap_alloc(heap, page_size());
	ASSERT_LE(0, buf);
	assert_refs(_metadata, self->name, 2);
	ASSERT_EQ(0, close(heap));
	assert_refs(_metadata, self->name, 1);
	EXPECT_EQ(self->before.buffers + 1, buffers_of(self->name));
	ASSERT_EQ(0, close(buf));
}

/* Some of its buffers are mapped only, some are open, too */
TEST_F(heap, exits_with_buffers)
{
	size_t len = small_len(self->index);
	int i, heap, buf;
	pid_t pid;

	if (!is_system(self->index) && largest[self->index] < 20 * len)
		len = page_size();
	if (!is_system(self->index) && largest[self->index] < 20 * len)
		SKIP(return, "the heap is too small");
	pid = fork_child(_metadata);
	if (!pid) {
		heap = heap_open(self->name);
		for (i = 0; i < 20; i++) {
			buf = heap_alloc(heap, len);
			child_map(buf, len);
			if (i % 2)
				close(buf);
		}
		_exit(buffers_of(self->name) != self->before.buffers + 20);
	}
	child_ends_well(_metadata, pid);
}

int main(int argc, char **argv)
{
	find_heaps();
	if (buffers_of("") < 0)
		ksft_exit_skip("no " BUFINFO "\n");
	measure_areas();
	FOR_EACH_HEAP(heap);
	return test_harness_run(argc, argv);
}
