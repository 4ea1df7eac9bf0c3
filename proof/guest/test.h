/* SPDX-License-Identifier: GPL-2.0 */
/* What the test programs share: a process for each test, and what the tests look at. */
#ifndef GUEST_TEST_H
#define GUEST_TEST_H

#include <stdarg.h>
#include <stdint.h>
#include <sys/klog.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <time.h>

#include <kselftest.h>

#include "heap.h"
#include "modules/importer.h"

#define BUFINFO		"/sys/kernel/debug/dma_buf/bufinfo"

static char *why;			/* shared with the test's process */
static unsigned int test_seconds = 300;	/* the longest a test may take */

/* A test returns fail("expected ..., saw ...") or true. */
static inline bool __attribute__((format(printf, 1, 2))) fail(const char *fmt, ...)
{
	va_list args;

	va_start(args, fmt);
	vsnprintf(why, 4096, fmt, args);
	va_end(args);
	return false;
}

/* Says where it was that the test failed. */
static inline bool fail_at(const char *where)
{
	char text[4096];

	snprintf(text, sizeof(text), "%s", why);
	return fail("%s: %s", where, text);
}

/* The last call must have failed with this errno. */
static inline bool fails_with(const char *what, long ret, int err)
{
	if (ret == -1 && errno == err)
		return true;
	if (ret == -1)
		return fail("%s: expected %s, saw %s", what, strerror(err), strerror(errno));
	return fail("%s: expected %s, but it succeeded", what, strerror(err));
}

static inline void tests_begin(void)
{
	why = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (why == MAP_FAILED)
		ksft_exit_fail_msg("no shared page: %s\n", strerror(errno));
	ksft_print_header();
}

static inline void test_result(const char *prefix, const char *name, bool ok)
{
	if (!ok)
		ksft_print_msg("%s: %s: %s\n", prefix, name, why);
	ksft_test_result(ok, "%s: %s\n", prefix, name);
}

typedef bool (*test_fn)(const char *arg);

static inline void run_test(const char *prefix, const char *name, test_fn fn, const char *arg)
{
	int status = 0;
	pid_t pid;

	fail("the test did not say why");
	fflush(NULL);
	pid = fork();
	if (!pid) {
		alarm(test_seconds);
		_exit(!fn(arg));
	}
	if (pid < 0 || waitpid(pid, &status, 0) != pid)
		fail("no process for the test: %s", strerror(errno));
	else if (WIFSIGNALED(status))
		fail("the test's process died: %s", strsignal(WTERMSIG(status)));
	test_result(prefix, name, pid >= 0 && !status);
}

/* Files */

static inline bool read_file(const char *path, char *text, size_t size)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	size_t len = 0;
	ssize_t n = 0;

	while (fd >= 0 && len < size - 1 && (n = read(fd, text + len, size - 1 - len)) > 0)
		len += n;
	if (fd < 0 || n < 0)
		return fail("cannot read %s: %s", path, strerror(errno));
	close(fd);
	text[len] = '\0';
	return true;
}

/* The number behind KEY in a file such as /proc/meminfo, or -1 */
static inline long long number_in(const char *path, const char *key)
{
	size_t len = strlen(key);
	char line[256];
	long long n = -1;
	FILE *f;

	f = fopen(path, "re");
	while (f && n < 0 && fgets(line, sizeof(line), f))
		if (!strncmp(line, key, len) && strchr(": \t", line[len]))
			n = atoll(line + len + 1);
	if (f)
		fclose(f);
	if (n < 0)
		fail("expected '%s' in %s, saw none", key, path);
	return n;
}

/* In bytes */
static inline long long meminfo(const char *key)
{
	long long kib = number_in("/proc/meminfo", key);

	return kib < 0 ? -1 : kib * 1024;
}

/* How many DMA-BUFs exist in the system, or -1 */
static inline int buffers(void)
{
	char line[256];
	int n = -1;
	FILE *f;

	f = fopen(BUFINFO, "re");
	while (f && fgets(line, sizeof(line), f))
		sscanf(line, "Total %d objects", &n);
	if (n < 0)
		fail("expected a count of buffers in " BUFINFO ", saw none");
	if (f)
		fclose(f);
	return n;
}

static inline bool buffers_are(int want)
{
	int n = buffers();

	if (n < 0 || n == want)
		return n == want;
	return fail("expected %d buffers in the system, saw %d", want, n);
}

static inline double seconds_now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec + t.tv_nsec / 1e9;
}

/* Heaps and buffers */

static inline int get_heap(const char *name)
{
	int fd = heap_open(name);

	if (fd < 0)
		fail("cannot open " HEAPS "/%s: %s", name, strerror(errno));
	return fd;
}

static inline int get_buffer(const char *name, size_t len)
{
	int heap, buf = -1;

	heap = get_heap(name);
	if (heap >= 0) {
		buf = heap_alloc(heap, len);
		if (buf < 0)
			fail("expected a buffer of %zu bytes, saw %s", len, strerror(errno));
		close(heap);
	}
	return buf;
}

static inline unsigned char *get_map(int buf, size_t len)
{
	void *p = buffer_map(buf, len);

	if (p == MAP_FAILED) {
		fail("expected to map %zu bytes, saw %s", len, strerror(errno));
		return NULL;
	}
	return p;
}

/* Modules */

/* What the module coherent_heap is loaded with: all regions, where a program does not name its own */
static char coherent_params[4096] = "regions=*";

static inline const char *params_of(const char *module)
{
	return strcmp(module, "coherent_heap") ? "" : coherent_params;
}

static inline bool modprobe(const char *name)
{
	char command[4200];
	int status;

	/* the shell must not take '*' for files */
	snprintf(command, sizeof(command), "exec modprobe %s%s%s%s", name,
		 *params_of(name) ? " '" : "", params_of(name), *params_of(name) ? "'" : "");
	status = system(command);
	status = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
	return status ? fail("expected modprobe %s to succeed, saw status %d", name, status) : true;
}

/* Where the module's file is */
static inline bool module_path(const char *name, char *path, size_t size)
{
	char line[4096], dir[128], file[128], *p;
	struct utsname u;
	bool found = false;
	FILE *f;

	uname(&u);
	snprintf(dir, sizeof(dir), "/lib/modules/%s", u.release);
	snprintf(line, sizeof(line), "%s/modules.dep", dir);
	snprintf(file, sizeof(file), "/%s.ko", name);
	f = fopen(line, "re");
	while (f && !found && fgets(line, sizeof(line), f)) {
		line[strcspn(line, ":")] = '\0';
		p = strrchr(line, '/');
		found = p && !strcmp(p, file);
	}
	if (f)
		fclose(f);
	if (!found)
		return fail("expected %s.ko in %s/modules.dep, saw none", name, dir);
	if (snprintf(path, size, "%s/%s", dir, line) >= (int)size)
		return fail("the path of %s.ko is too long", name);
	return true;
}

/* Loads the module in this file: 0, or -1 and errno. */
static inline int module_load(const char *path, const char *params)
{
	int fd, ret, err;

	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -1;
	ret = syscall(SYS_finit_module, fd, params, 0);
	err = errno;
	close(fd);
	errno = err;
	return ret;
}

static inline int module_unload(const char *name)
{
	return syscall(SYS_delete_module, name, O_NONBLOCK);
}

/* The module's line in /proc/modules; an empty one if it is not there */
static inline bool module_line(const char *name, char *line, size_t size)
{
	size_t len = strlen(name);
	char text[4096];
	FILE *f;

	line[0] = '\0';
	f = fopen("/proc/modules", "re");
	if (!f)
		return fail("cannot read /proc/modules: %s", strerror(errno));
	while (!line[0] && fgets(text, sizeof(text), f)) {
		text[strcspn(text, "\n")] = '\0';
		if (!strncmp(text, name, len) && text[len] == ' ')
			snprintf(line, size, "%.500s", text);
	}
	fclose(f);
	return true;
}

/* The module is there, and this many hold it. */
static inline bool refs_are(const char *name, int want)
{
	char line[512], deps[256] = "", state[16] = "";
	int refs = -1;

	if (!module_line(name, line, sizeof(line)))
		return false;
	if (!line[0])
		return fail("expected %s in /proc/modules, saw nothing of it", name);
	if (sscanf(line, "%*s %*s %d %255s %15s", &refs, deps, state) != 3 || refs != want ||
	    strcmp(deps, "-") || strcmp(state, "Live"))
		return fail("expected %s Live with a count of %d, saw: %s", name, want, line);
	return true;
}

#endif /* GUEST_TEST_H */
