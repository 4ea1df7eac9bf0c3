// SPDX-License-Identifier: GPL-2.0
/*
 * PID 1 of the guest. Runs the command that proof/bin/boot put into
 * /run/command, or a shell where there is none, tells the host how it ended, and
 * ends the guest: QEMU takes a reboot for the end (-no-reboot), and unlike powering
 * off it needs no firmware.
 *
 * Two virtio-serial ports lead to the host. "output" carries what the command
 * prints. "result" carries one line for each event:
 *
 *	begin			the guest is up, the command starts
 *	exit STATUS		the command ended (or "signal N")
 *	problem TEXT		the guest itself found something wrong
 *	end			the closing checks are done: always the last line
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

#define PORTS		"/sys/class/virtio-ports"
#define COMMAND		"/run/command"
#define MAX_ARGS	256

static int result = -1;

/* A line for the kernel log, so that it stands among the kernel's own lines. */
static void say(const char *level, const char *text)
{
	int fd = open("/dev/kmsg", O_WRONLY | O_CLOEXEC);

	if (fd >= 0) {
		dprintf(fd, "%sinit: %s\n", level, text);
		close(fd);
	} else {
		dprintf(2, "init: %s\n", text);
	}
}

static void __attribute__((format(printf, 1, 2))) problem(const char *fmt, ...)
{
	char text[512];
	va_list args;

	va_start(args, fmt);
	vsnprintf(text, sizeof(text), fmt, args);
	va_end(args);
	say("<3>", text);
	if (result >= 0)
		dprintf(result, "problem %s\n", text);
}

static void mount_one(const char *type, const char *dir)
{
	if (mkdir(dir, 0755) && errno != EEXIST)
		problem("cannot make %s: %s", dir, strerror(errno));
	if (mount(type, dir, type, MS_NOSUID, NULL) && errno != EBUSY)
		problem("cannot mount %s on %s: %s", type, dir, strerror(errno));
}

static bool write_text(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);
	bool ok = fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text);

	if (fd >= 0)
		close(fd);
	return ok;
}

static bool read_text(const char *path, char *text, size_t size)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n;

	if (fd < 0)
		return false;
	n = read(fd, text, size - 1);
	close(fd);
	if (n < 0)
		return false;
	text[n] = '\0';
	text[strcspn(text, "\n")] = '\0';
	return true;
}

static int open_port(const char *want)
{
	char path[300], name[64];
	struct dirent *e;
	int fd = -1;
	DIR *d;

	d = opendir(PORTS);
	while (d && fd < 0 && (e = readdir(d))) {
		snprintf(path, sizeof(path), PORTS "/%s/name", e->d_name);
		if (e->d_name[0] == '.' || !read_text(path, name, sizeof(name)) ||
		    strcmp(name, want))
			continue;
		snprintf(path, sizeof(path), "/dev/%s", e->d_name);
		fd = open(path, O_WRONLY | O_CLOEXEC);
	}
	if (d)
		closedir(d);
	return fd;
}

/* Ports get their names a moment after the device was probed. */
static int wait_port(const char *want)
{
	int i, fd;

	for (i = 0; i < 1000; i++) {
		fd = open_port(want);
		if (fd >= 0)
			return fd;
		usleep(10 * 1000);
	}
	problem("no virtio port '%s': %s", want, strerror(errno));
	return -1;
}

static void end(void)
{
	if (result >= 0)
		dprintf(result, "end\n");
	sync();
	reboot(RB_AUTOBOOT);
	say("<3>", "reboot failed");
	for (;;)
		pause();
}

static char **read_command(void)
{
	static char text[65536], *argv[MAX_ARGS + 1];
	size_t len = 0, pos = 0;
	int fd, argc = 0;
	ssize_t n;

	fd = open(COMMAND, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return NULL;
	while ((n = read(fd, text + len, sizeof(text) - len)) > 0)
		len += n;
	close(fd);
	if (n < 0 || !len || len == sizeof(text) || text[len - 1]) {
		problem(COMMAND " is not a list of words, each with a NUL at its end");
		end();
	}
	for (; pos < len; pos += strlen(text + pos) + 1) {
		if (argc == MAX_ARGS) {
			problem(COMMAND " has more than %d words", MAX_ARGS);
			end();
		}
		argv[argc++] = text + pos;
	}
	return argv;
}

static void report(int status)
{
	if (WIFSIGNALED(status))
		dprintf(result, "signal %d\n", WTERMSIG(status));
	else
		dprintf(result, "exit %d\n", WEXITSTATUS(status));
}

static void write_all(int fd, const char *buf, ssize_t len)
{
	ssize_t n;

	while (len > 0) {
		n = write(fd, buf, len);
		if (n > 0) {
			buf += n;
			len -= n;
		} else if (n < 0 && errno != EINTR && errno != EAGAIN) {
			problem("cannot write to the output port: %s", strerror(errno));
			return;
		}
	}
}

/* Copies what the pipe holds; false at its end. */
static bool forward(int from, int to)
{
	char buf[4096];
	ssize_t n;

	n = read(from, buf, sizeof(buf));
	if (n > 0)
		write_all(to, buf, n);
	return n > 0 || (n < 0 && errno == EINTR);
}

static void on_child(int sig)
{
	(void)sig;
}

static pid_t start(char **argv, int out)
{
	sigset_t none;
	pid_t pid;
	int fd;

	pid = fork();
	if (pid)
		return pid;
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	setsid();
	fd = open("/dev/null", O_RDONLY);
	if (fd < 0 || dup2(fd, 0) < 0 || dup2(out, 1) < 0 || dup2(out, 2) < 0)
		_exit(126);
	if (fd > 2)
		close(fd);
	execvp(argv[0], argv);
	dprintf(2, "init: cannot run %s: %s\n", argv[0], strerror(errno));
	_exit(errno == ENOENT ? 127 : 126);
}

/*
 * The command writes into a pipe and not straight into the port, because a port can be
 * opened only once, and programs may well open /dev/stderr.
 */
static void run_command(char **argv)
{
	struct sigaction sa = { .sa_handler = on_child };
	sigset_t chld, before;
	struct pollfd p;
	int out, fds[2], status;
	bool done = false;
	pid_t pid, dead;

	out = wait_port("output");
	if (out < 0)
		return;
	if (pipe2(fds, O_CLOEXEC)) {
		problem("no pipe: %s", strerror(errno));
		return;
	}
	sigaction(SIGCHLD, &sa, NULL);
	sigemptyset(&chld);
	sigaddset(&chld, SIGCHLD);
	sigprocmask(SIG_BLOCK, &chld, &before);
	pid = start(argv, fds[1]);
	close(fds[1]);
	if (pid < 0) {
		problem("cannot fork: %s", strerror(errno));
		return;
	}
	p = (struct pollfd){ .fd = fds[0], .events = POLLIN };
	while (!done) {
		if (ppoll(&p, 1, NULL, &before) > 0 && !forward(fds[0], out))
			p.fd = -1;	/* closed, and the command still runs */
		while ((dead = waitpid(-1, &status, WNOHANG)) > 0) {
			if (dead == pid) {
				report(status);
				done = true;
			}
		}
	}
	/* Whatever it left behind ends now; then the pipe has an end. */
	kill(-1, SIGKILL);
	while (waitpid(-1, &status, 0) > 0 || errno == EINTR)
		;
	while (forward(fds[0], out))
		;
	close(out);
}

/* A shell on the console, as a terminal of its own: with job control and Ctrl-C. */
static void run_shell(void)
{
	char tty[128] = "/dev/", names[64] = "", *last;
	struct winsize ws = { 0 };
	int fd, status = 0;
	pid_t pid, dead;

	read_text("/sys/class/tty/console/active", names, sizeof(names));
	last = strrchr(names, ' ');
	strcat(tty, last ? last + 1 : names);
	fd = open(tty, O_RDWR | O_NOCTTY | O_CLOEXEC);
	if (fd < 0) {
		problem("cannot open the console %s: %s", tty, strerror(errno));
		return;
	}
	if (getenv("LINES") && getenv("COLUMNS")) {
		ws.ws_row = atoi(getenv("LINES"));
		ws.ws_col = atoi(getenv("COLUMNS"));
		ioctl(fd, TIOCSWINSZ, &ws);
	}
	unsetenv("LINES");
	unsetenv("COLUMNS");
	pid = fork();
	if (!pid) {
		setsid();
		dup2(fd, 0);
		dup2(fd, 1);
		dup2(fd, 2);
		if (ioctl(0, TIOCSCTTY, 1))
			dprintf(2, "init: no controlling terminal: %s\n", strerror(errno));
		execl("/bin/sh", "-sh", (char *)NULL);
		dprintf(2, "init: cannot run /bin/sh: %s\n", strerror(errno));
		_exit(127);
	}
	do {
		dead = waitpid(-1, &status, 0);
	} while (dead > 0 ? dead != pid : errno == EINTR);
	if (pid < 0 || dead < 0)
		problem("cannot run a shell: %s", strerror(errno));
	else
		report(status);
	kill(-1, SIGKILL);
	while (waitpid(-1, &status, 0) > 0 || errno == EINTR)
		;
	tcdrain(fd);
	close(fd);
}

/* No process is left, so no buffer may be: one that is was leaked. */
static void check_buffers(void)
{
	char line[256];
	int n = -1, i;
	FILE *f;

	for (i = 0; i < 20 && n; i++) {
		f = fopen("/sys/kernel/debug/dma_buf/bufinfo", "re");
		if (!f)
			return;		/* a kernel without */
		while (fgets(line, sizeof(line), f))
			sscanf(line, "Total %d objects", &n);
		fclose(f);
		if (n)
			usleep(50 * 1000);
	}
	if (n)
		problem("%d DMA-BUFs are left although no process is", n);
}

/* Lockdep looks no more after its first report, or when its tables are full. */
static void check_locking(void)
{
	char line[256];
	int on = 1;
	FILE *f;

	f = fopen("/proc/lockdep_stats", "re");
	if (!f)
		return;		/* a kernel without */
	while (fgets(line, sizeof(line), f))
		sscanf(line, " debug_locks: %d", &on);
	fclose(f);
	if (!on)
		problem("lockdep is off: debug_locks: 0");
}

/* On a kernel with kmemleak. It counts only objects that are older than five seconds. */
static void check_memory(void)
{
	static const char locking[] = "/proc/sys/kernel/prove_locking";
	static const char path[] = "/sys/kernel/debug/kmemleak";
	char line[256];
	int leaks = 0;
	FILE *f;

	if (access(path, W_OK))
		return;
	sleep(6);
	/* what lockdep should see is over, and kmemleak takes locks for every object */
	if (!access(locking, W_OK) && !write_text(locking, "0"))
		problem("lockdep does not stop: %s", strerror(errno));
	if (!write_text(path, "scan") || !write_text(path, "scan")) {
		problem("kmemleak does not scan: %s", strerror(errno));
		return;
	}
	f = fopen(path, "re");
	while (f && fgets(line, sizeof(line), f)) {
		line[strcspn(line, "\n")] = '\0';
		leaks += !strncmp(line, "unreferenced object", 19);
		say("<3>", line);
	}
	if (!f)
		problem("cannot read %s: %s", path, strerror(errno));
	else
		fclose(f);
	if (leaks)
		problem("kmemleak found %d leaked objects", leaks);
}

int main(void)
{
	const char *cpus;
	char **argv;
	pid_t pid;

	mount_one("devtmpfs", "/dev");
	mount_one("proc", "/proc");
	mount_one("sysfs", "/sys");
	mount_one("tmpfs", "/tmp");
	mount_one("debugfs", "/sys/kernel/debug");
	mount_one("cgroup2", "/sys/fs/cgroup");
	result = wait_port("result");
	if (result < 0)
		end();
	cpus = getenv("CPUS");
	if (cpus && atoi(cpus) != sysconf(_SC_NPROCESSORS_ONLN))
		problem("%ld processors, and not %s", sysconf(_SC_NPROCESSORS_ONLN), cpus);
	unsetenv("CPUS");
	if (!write_text("/sys/fs/cgroup/cgroup.subtree_control", "+memory"))
		problem("no memory controller for control groups: %s", strerror(errno));

	setenv("PATH", "/usr/bin:/usr/sbin:/bin:/sbin", 1);
	setenv("HOME", "/root", 1);
	setenv("PS1", "guest:\\w# ", 1);
	if (chdir("/root"))
		problem("cannot enter /root: %s", strerror(errno));
	pid = fork();
	if (!pid) {
		execl("/bin/busybox", "busybox", "--install", "-s", (char *)NULL);
		_exit(127);
	}
	if (pid < 0 || waitpid(pid, (int[]){ 0 }, 0) != pid || access("/sbin/modprobe", X_OK))
		problem("busybox --install did not work");

	argv = read_command();
	dprintf(result, "begin\n");
	if (argv)
		run_command(argv);
	else
		run_shell();
	check_buffers();
	check_locking();
	check_memory();
	end();
}
