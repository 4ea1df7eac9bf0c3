/* SPDX-License-Identifier: GPL-2.0 */
/* What the tests of coherent regions share: the module, the device tree, the pools, the kernel log. */
#ifndef GUEST_REGION_H
#define GUEST_REGION_H

#include "test.h"

#define POOLS	"/sys/kernel/debug/dma_coherent_pools"
#define NODES	"/sys/firmware/devicetree/base"
#define PAGE	(4 * KIB)

/* Loads coherent_heap with regions=REGIONS, or without the parameter if that is NULL: 0, or -1 and errno */
static inline int coherent_load(const char *regions)
{
	char path[300], params[4096] = "";

	if (!module_path("coherent_heap", path, sizeof(path)))
		return -1;
	if (regions)
		snprintf(params, sizeof(params), "regions=%s", regions);
	return module_load(path, params);
}

static inline bool coherent_loads(const char *regions)
{
	return !coherent_load(regions) ||
	       fail("expected coherent_heap regions=%s to load, saw %s", regions, strerror(errno));
}

static inline bool coherent_unloads(void)
{
	return !module_unload("coherent_heap") ||
	       fail("expected coherent_heap to unload, saw %s", strerror(errno));
}

/* A test that fails leaves its modules; the next one begins without. */
static inline void run_unloaded(const char *prefix, const char *name, test_fn fn, const char *arg)
{
	module_unload("pool_user");
	module_unload("coherent_heap");
	run_test(prefix, name, fn, arg);
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

/* The pools, as debugfs has them: counts are pages */
struct pool {
	unsigned long long base;
	unsigned long pages, used, largest;
};

/* The pool of this name; exactly one line must be it */
static inline bool pool_read(const char *name, struct pool *pool)
{
	char line[512], word[256];
	bool header = false;
	struct pool p;
	int found = 0;
	FILE *f;

	f = fopen(POOLS, "re");
	if (!f)
		return fail("cannot open " POOLS ": %s", strerror(errno));
	while (fgets(line, sizeof(line), f)) {
		if (!header) {
			header = true;
			continue;
		}
		if (sscanf(line, "%255s %llx %lu %lu %lu", word, &p.base, &p.pages, &p.used,
			   &p.largest) != 5) {
			fclose(f);
			return fail("expected name, base, pages, used and largest, saw: %s", line);
		}
		if (!strcmp(word, name)) {
			*pool = p;
			found++;
		}
	}
	fclose(f);
	return found == 1 ? true : fail("expected one pool %s in " POOLS ", saw %d", name, found);
}

static inline bool pool_uses(const char *name, unsigned long want)
{
	struct pool p = { 0 };

	if (!pool_read(name, &p))
		return false;
	return p.used == want ? true :
	       fail("%s: expected %lu pages in use, saw %lu", name, want, p.used);
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

static char log_text[1 << 20];
static bool log_whole;		/* from boot on, whatever the marks */

/* The lines since the mark in a buffer of its own, each with its level as <N>; NULL on failure */
static inline char *log_since(void)
{
	char *p, *last = NULL;
	int n;

	n = klogctl(3, log_text, sizeof(log_text) - 1);
	log_text[n < 0 ? 0 : n] = '\0';
	for (p = log_text; (p = strstr(p, "guest: mark ")); p++)
		last = p;
	if (log_whole)
		return log_text;
	last = last ? strchr(last, '\n') : NULL;
	if (!last)
		fail("expected the mark in the kernel log, saw none");
	return last ? last + 1 : NULL;
}

static inline bool has_word(const char *line, const char *word)
{
	const char *ends = " \t,:;.'\"()\n", *p;
	size_t len = strlen(word);

	for (p = line; (p = strstr(p, word)); p++)
		if ((p == line || strchr(ends, p[-1])) && (!p[len] || strchr(ends, p[len])))
			return true;
	return false;
}

/*
 * How many lines since the mark have both: a part, and a word of its own (NULL: any). One of
 * them goes to line, if that is not NULL. -1 on failure.
 */
static inline int log_count(const char *part, const char *word, char *line, size_t size)
{
	char *p = log_since(), *next;
	int n = 0;

	if (!p)
		return -1;
	for (; *p; p = next) {
		next = strchrnul(p, '\n');
		if (*next)
			*next++ = '\0';
		if (!strstr(p, part) || (word && !has_word(p, word)) || strstr(p, "kobject"))
			continue;
		n++;
		if (line)
			snprintf(line, size, "%.*s", (int)size - 1, p);
	}
	return n;
}

static inline bool log_says(const char *part, const char *word, int want)
{
	char line[1024] = "";
	int n = log_count(part, word, line, sizeof(line));

	if (n < 0 || n == want)
		return n == want;
	return fail("expected %d lines of the kernel with '%s' and '%s', saw %d%s%s", want, part,
		    word ? word : "anything", n, n ? ", such as: " : "", line);
}

/* Nobody said anything of the level of a warning, or worse. */
static inline bool log_quiet(void)
{
	char level[8], line[1024];
	int i;

	for (i = 0; i <= 4; i++) {
		snprintf(level, sizeof(level), "<%d>", i);
		if (log_count(level, NULL, line, sizeof(line)))
			return fail("expected no warning of the kernel, saw: %s", line);
	}
	return true;
}

#endif /* GUEST_REGION_H */
