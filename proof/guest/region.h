/* SPDX-License-Identifier: GPL-2.0 */
/* What the tests of coherent regions share: the module, the device tree, the kernel log. */
#ifndef GUEST_REGION_H
#define GUEST_REGION_H

#include "test.h"

#define NODES	"/sys/firmware/devicetree/base"
#define PAGE	(4 * KIB)

static inline bool coherent_loads(const char *regions)
{
	char path[300], params[4096];

	if (!module_path("coherent_heap", path, sizeof(path)))
		return false;
	snprintf(params, sizeof(params), "regions=%s", regions);
	return !module_load(path, params) ||
	       fail("expected coherent_heap regions=%s to load, saw %s", regions, strerror(errno));
}

/* The device tree: numbers have two cells everywhere */

static inline uint64_t cells(const unsigned char *p)
{
	uint64_t n = 0;
	int i;

	for (i = 0; i < 8; i++)
		n = n << 8 | p[i];
	return n;
}

/* A property's bytes: how many, or -1 */
static inline int property(const char *node, const char *name, unsigned char *p, int size)
{
	char path[512];
	int fd, n;

	snprintf(path, sizeof(path), "%s/%s", node, name);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -1;
	n = read(fd, p, size);
	close(fd);
	return n;
}

static inline bool region_reg(const char *region, uint64_t *base, uint64_t *size)
{
	unsigned char reg[16];
	char node[400];

	snprintf(node, sizeof(node), NODES "/reserved-memory/%s", region);
	if (property(node, "reg", reg, sizeof(reg)) != sizeof(reg))
		return fail("expected one address and size in %s/reg", node);
	*base = cells(reg);
	*size = cells(reg + 8);
	return true;
}

/* The kernel log, from log_mark() on */

static inline bool log_mark(void)
{
	static int number;
	char text[64];
	int fd = open("/dev/kmsg", O_WRONLY | O_CLOEXEC), n;

	n = snprintf(text, sizeof(text), "guest: mark %d %d\n", getpid(), ++number);
	if (fd < 0 || write(fd, text, n) != n)
		return fail("cannot write to the kernel log: %s", strerror(errno));
	close(fd);
	return true;
}

/* Nobody said anything of the level of a warning, or worse, since the mark. */
static inline bool log_quiet(void)
{
	static char text[1 << 20];
	char *p, *line, *next = NULL;
	int n;

	n = klogctl(3, text, sizeof(text) - 1);
	text[n < 0 ? 0 : n] = '\0';
	for (p = text; (p = strstr(p, "guest: mark ")); p++)
		next = p;
	if (!strsep(&next, "\n"))
		return fail("expected the mark in the kernel log, saw none");
	while ((line = strsep(&next, "\n")))
		if (line[0] == '<' && line[1] <= '4' && line[2] == '>' && !strstr(line, "kobject"))
			return fail("expected no warning of the kernel, saw: %s", line);
	return true;
}

#endif /* GUEST_REGION_H */
