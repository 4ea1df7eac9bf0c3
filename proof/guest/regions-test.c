// SPDX-License-Identifier: GPL-2.0
/*
 * Which coherent regions become heaps, as TAP:
 *
 *	regions-test REGION... [--bad REGION...] [--never NAME...]
 *	regions-test --builtin REGION... [--bad REGION...] [--never NAME...]
 *	regions-test --none
 *	regions-test --clash MODULE:HEAP:OWNER...
 *
 * The regions are all that can have a heap, two or more. Behind --bad stand those that are
 * there, but cannot; behind --never, what is no coherent region for a heap, though it is a
 * node of /reserved-memory. The module coherent_heap is loaded with regions= in all the ways
 * that there are, and must make those heaps, say those things, and nothing else.
 *
 * --builtin: coherent_heap is part of the kernel, and had no parameter. --none: there is no
 * region. --clash: a region or area is called HEAP, as the heap of the module OWNER; MODULE must refuse
 * it, whichever module comes first. With OWNER "-" nobody has such a heap, and it is refused all
 * the same.
 */
#include "region.h"

#define SAYS	"coherent_heap: "	/* what its messages begin with */

static struct names good, bad, never;
static struct names none;

static const char *list(const char *a, const char *b)
{
	static char text[1024];

	snprintf(text, sizeof(text), "%s:%s", a, b);
	return text;
}

/* All of them, with a ':' between two */
static const char *list_of(const struct names *names)
{
	static char text[4096];
	int i;

	text[0] = '\0';
	for (i = 0; i < names->n; i++)
		snprintf(text + strlen(text), sizeof(text) - strlen(text), "%s%s", i ? ":" : "",
			 names->name[i]);
	return text;
}

static bool heap_works(const char *name)
{
	int buf = get_buffer(name, PAGE);
	unsigned char *p = buf < 0 ? NULL : get_map(buf, PAGE);

	if (!p)
		return false;
	if (first_nonzero(p, PAGE) != PAGE)
		return fail("%s: expected a zeroed buffer", name);
	fill(p, PAGE, 4);
	munmap(p, PAGE);
	close(buf);
	return true;
}

/* With this, the module loads and brings these heaps; it stays. */
static bool gives(const char *regions, const struct names *want)
{
	int i;

	if (!log_mark() || !coherent_loads(regions) || !heaps_are(want))
		return false;
	for (i = 0; i < want->n; i++)
		if (!heap_works(want->name[i]))
			return false;
	return true;
}

/* With this, it does not load, and nothing is left of it. */
static bool gives_none(const char *regions)
{
	if (!log_mark() || !fails_with("loading", coherent_load(regions), ENODEV))
		return false;
	return module_gone("coherent_heap") && heaps_are(&none);
}

/* One line, in which all the regions are, and nothing that is none */
static bool lists_the_regions(void)
{
	char line[1024];
	int i, n = log_count(SAYS, NULL, line, sizeof(line));

	if (n != 1)
		return n < 0 ? false : fail("expected one line, saw %d", n);
	for (i = 0; i < good.n; i++)
		if (!has_word(line, good.name[i]))
			return fail("expected %s to be listed, saw: %s", good.name[i], line);
	for (i = 0; i < bad.n; i++)
		if (!has_word(line, bad.name[i]))
			return fail("expected %s to be listed, saw: %s", bad.name[i], line);
	for (i = 0; i < never.n; i++)
		if (has_word(line, never.name[i]))
			return fail("expected %s not to be listed, saw: %s", never.name[i], line);
	ksft_print_msg("%s\n", line);
	return true;
}

static bool no_parameter(const char *arg)
{
	(void)arg;
	return gives_none(NULL) && lists_the_regions();
}

static bool empty(const char *arg)
{
	(void)arg;
	return gives_none("") && lists_the_regions();
}

/* A person calls modprobe, and sees why. */
static bool by_modprobe(const char *arg)
{
	char text[512] = "";
	int out[2], status;
	ssize_t n, len = 0;
	pid_t pid;

	(void)arg;
	if (pipe(out))
		return fail("no pipe: %s", strerror(errno));
	fflush(NULL);
	pid = fork();
	if (!pid) {
		dup2(out[1], 2);
		execlp("modprobe", "modprobe", "coherent_heap", (char *)NULL);
		_exit(127);
	}
	close(out[1]);
	while ((n = read(out[0], text + len, sizeof(text) - 1 - len)) > 0)
		len += n;
	if (pid < 0 || waitpid(pid, &status, 0) != pid || !WIFEXITED(status))
		return fail("modprobe did not end");
	if (!WEXITSTATUS(status))
		return fail("expected modprobe to fail, but it succeeded");
	return strstr(text, strerror(ENODEV)) ? true :
	       fail("expected '%s' from modprobe, saw: %s", strerror(ENODEV), text);
}

/* Each of them alone */
static bool one_name(const char *arg)
{
	struct names want;
	int i;

	(void)arg;
	for (i = 0; i < good.n; i++) {
		want.n = 0;
		names_add(&want, good.name[i]);
		if (!gives(good.name[i], &want) || !log_quiet() || !coherent_unloads())
			return fail_at(good.name[i]);
	}
	return true;
}

static bool two_names(const char *arg)
{
	struct names want = { 0 };

	(void)arg;
	names_add(&want, good.name[0]);
	names_add(&want, good.name[1]);
	return gives(list(good.name[1], good.name[0]), &want) && log_quiet() &&
	       coherent_unloads();
}

static bool all_names(const char *arg)
{
	(void)arg;
	return gives(list_of(&good), &good) && log_quiet() && coherent_unloads();
}

/* Also of those that cannot have a heap: a line for each, and the others come. */
static bool star(const char *arg)
{
	int i;

	(void)arg;
	if (!gives("*", &good))
		return false;
	for (i = 0; i < bad.n; i++)
		if (log_count("", bad.name[i], NULL, 0) < 1)
			return fail("expected a line about %s, saw none", bad.name[i]);
	for (i = 0; i < never.n; i++)
		if (!log_says("", never.name[i], 0))
			return false;
	return coherent_unloads();
}

/* One warning for each, and the heaps come. */
static bool unknown(const char *arg)
{
	struct names want = { 0 };
	char text[1024];

	(void)arg;
	names_add(&want, good.name[0]);
	snprintf(text, sizeof(text), "nosuch:%s:other", good.name[0]);
	return gives(text, &want) && log_says("<4>", "nosuch", 1) && log_says("<4>", "other", 1) &&
	       log_says(SAYS, NULL, 2) && coherent_unloads();
}

static bool only_unknown(const char *arg)
{
	(void)arg;
	return gives_none("nosuch:other") && log_says("<4>", "nosuch", 1) &&
	       log_says("<4>", "other", 1) && log_says(SAYS, NULL, 2);
}

/* Nothing but the whole name, and ':' between two */
static bool whole_names(const char *arg)
{
	char text[1024];

	(void)arg;
	snprintf(text, sizeof(text), "%.*s:%s0:%s,%s", (int)strlen(good.name[0]) - 1,
		 good.name[0], good.name[0], good.name[0], good.name[1]);
	return gives_none(text) && log_says("<4>", NULL, 3);
}

/* A shell would read it as such, and so does the module. */
static bool pattern_of_names(const char *arg)
{
	struct names want = { 0 };
	char text[1024];

	(void)arg;
	names_add(&want, good.name[0]);
	snprintf(text, sizeof(text), "nosuch*:%.3s*", good.name[0]);
	return gives(text, &want) && log_says("<4>", "nosuch*", 1) && log_says(SAYS, NULL, 1) &&
	       coherent_unloads();
}

/* A region that is there, and cannot have a heap: that is said, and there is none. */
static bool only_bad(const char *arg)
{
	if (!gives_none(arg))
		return false;
	return log_count("", arg, NULL, 0) >= 1 ? true :
	       fail("expected a line about %s, saw none", arg);
}

static bool beside_bad(const char *arg)
{
	struct names want = { 0 };

	names_add(&want, good.name[0]);
	return gives(list(arg, good.name[0]), &want) && coherent_unloads();
}

static bool no_region(const char *arg)
{
	return gives_none(arg) && log_says("<4>", arg, 1);
}

/* At boot, without the parameter, it made no heap and said so. */
static bool at_boot(const char *arg)
{
	struct names now;
	int i;

	(void)arg;
	heaps_now(&now);
	for (i = 0; i < good.n; i++)
		if (names_have(&now, good.name[i]))
			return fail("expected no heap %s, saw it", good.name[i]);
	log_whole = true;
	return lists_the_regions();
}

/* What says that there is no region; and what names one is an error all the same */
static bool none_is_said(const char *arg)
{
	(void)arg;
	return gives_none(NULL) && log_says(SAYS, NULL, 1) && gives_none("") &&
	       log_says(SAYS, NULL, 1);
}

static bool none_for_all(const char *arg)
{
	(void)arg;
	return gives_none("*") && log_says("<4>", "*", 1) && gives_none("nosuch") &&
	       log_says("<4>", "nosuch", 1);
}

/* --clash */

struct clash {
	char module[64], *heap, *owner;
};

static void get_clash(const char *arg, struct clash *c)
{
	snprintf(c->module, sizeof(c->module), "%s", arg);
	c->heap = strchr(c->module, ':');
	*c->heap++ = '\0';
	c->owner = strchr(c->heap, ':');
	*c->owner++ = '\0';
}

static bool load(const char *module)
{
	return strcmp(module, "coherent_heap") ? modprobe(module) : coherent_loads("*");
}

static bool has_heap(const char *name)
{
	int fd = heap_open(name);

	if (fd >= 0)
		close(fd);
	return fd >= 0;
}

/* MODULE said once that it does not take the name */
static bool refuses(const struct clash *c)
{
	char part[80];

	snprintf(part, sizeof(part), "%s: ", c->module);
	return log_says(part, c->heap, 1);
}

/* The heap of this name is OWNER's: who opens it holds that module */
static bool is_owners(const struct clash *c)
{
	int fd = get_heap(c->heap);

	if (fd < 0 || !refs_are(c->owner, 1))
		return false;
	close(fd);
	return true;
}

static bool owner_last(const char *arg)
{
	struct clash c;

	get_clash(arg, &c);
	if (!log_mark() || !load(c.module) || !refuses(&c))
		return false;
	if (has_heap(c.heap))
		return fail("expected no heap %s of %s, saw it", c.heap, c.module);
	return modprobe(c.owner) && is_owners(&c) && !module_unload(c.module) &&
	       !module_unload(c.owner);
}

static bool owner_first(const char *arg)
{
	struct clash c;

	get_clash(arg, &c);
	if (!modprobe(c.owner) || !log_mark())
		return false;
	/* of one module, both came at once */
	if (!strcmp(c.module, c.owner) && (module_unload(c.owner) || !load(c.module)))
		return fail("cannot load %s again", c.owner);
	if (strcmp(c.module, c.owner) && !load(c.module))
		return false;
	return refuses(&c) && is_owners(&c) && !module_unload(c.module) &&
	       (!strcmp(c.module, c.owner) || !module_unload(c.owner));
}

/* Of coherent_heap, alone: it does not load. */
static bool alone(const char *arg)
{
	struct clash c;

	get_clash(arg, &c);
	return gives_none(c.heap) && refuses(&c);
}

static bool no_owner(const char *arg)
{
	struct clash c;

	get_clash(arg, &c);
	if (!log_mark() || !load(c.module) || !refuses(&c))
		return false;
	if (has_heap(c.heap))
		return fail("expected no heap %s of %s, saw it", c.heap, c.module);
	return !module_unload(c.module) || fail("cannot unload %s: %s", c.module, strerror(errno));
}

static void clashes(char **arg)
{
	struct clash c;
	int i, plan = 0;

	for (i = 0; arg[i]; i++) {
		get_clash(arg[i], &c);
		if (!strcmp(c.owner, "-"))
			plan++;
		else
			plan += 1 + !!strcmp(c.module, c.owner) + !strcmp(c.module, "coherent_heap");
	}
	tests_begin();
	ksft_set_plan(plan);
	for (i = 0; arg[i]; i++) {
		get_clash(arg[i], &c);
		if (!strcmp(c.owner, "-")) {
			run_unloaded(arg[i], "is refused, though nobody has it", no_owner, arg[i]);
			continue;
		}
		if (strcmp(c.module, c.owner))
			run_unloaded(arg[i], "is refused, before the owner comes", owner_last, arg[i]);
		run_unloaded(arg[i], "is refused, and is the owner's", owner_first, arg[i]);
		if (!strcmp(c.module, "coherent_heap"))
			run_unloaded(arg[i], "is refused, and there is no other", alone, arg[i]);
	}
	ksft_finished();
}

int main(int argc, char **argv)
{
	static const struct {
		const char *name;
		test_fn fn;
	} tests[] = {
		{ "without the parameter: ENODEV, and one line lists the regions", no_parameter },
		{ "without the parameter: modprobe says why", by_modprobe },
		{ "an empty parameter is none", empty },
		{ "one name, one heap", one_name },
		{ "two names", two_names },
		{ "all names", all_names },
		{ "* is all regions", star },
		{ "a pattern", pattern_of_names },
		{ "unknown names: one warning each, and the others come", unknown },
		{ "only unknown names: ENODEV, after the warnings", only_unknown },
		{ "a part of a name is no name", whole_names },
	};
	struct names *names = &good;
	bool builtin = false;
	unsigned int t;
	int i;

	if (argc > 2 && !strcmp(argv[1], "--clash"))
		clashes(argv + 2);
	if (argc == 2 && !strcmp(argv[1], "--none")) {
		tests_begin();
		ksft_set_plan(2);
		run_unloaded("regions", "there is none, and that is said", none_is_said, NULL);
		run_unloaded("regions", "there is none to name", none_for_all, NULL);
		ksft_finished();
	}
	for (i = 1; i < argc; i++) {
		if (!strcmp(argv[i], "--builtin"))
			builtin = true;
		else if (!strcmp(argv[i], "--bad"))
			names = &bad;
		else if (!strcmp(argv[i], "--never"))
			names = &never;
		else
			names_add(names, argv[i]);
	}
	if (good.n < 2) {
		fprintf(stderr,
			"usage: regions-test REGION REGION... [--bad REGION...] [--never NAME...]\n"
			"       regions-test --builtin REGION... [--bad REGION...] [--never NAME...]\n"
			"       regions-test --none\n"
			"       regions-test --clash MODULE:HEAP:OWNER...\n");
		return 2;
	}
	qsort(good.name, good.n, sizeof(good.name[0]), names_compare);
	tests_begin();
	if (builtin) {
		ksft_set_plan(1);
		run_unloaded("regions", "without the parameter, built in: no heap, and one line lists the regions",
			 at_boot, NULL);
		ksft_finished();
	}
	ksft_set_plan(ARRAY_SIZE(tests) + 2 * bad.n + never.n);
	for (t = 0; t < ARRAY_SIZE(tests); t++)
		run_unloaded("regions", tests[t].name, tests[t].fn, NULL);
	for (i = 0; i < bad.n; i++) {
		run_unloaded(bad.name[i], "has no heap, which is said", only_bad, bad.name[i]);
		run_unloaded(bad.name[i], "does not keep others from theirs", beside_bad, bad.name[i]);
	}
	for (i = 0; i < never.n; i++)
		run_unloaded(never.name[i], "is no region for a heap", no_region, never.name[i]);
	ksft_finished();
}
