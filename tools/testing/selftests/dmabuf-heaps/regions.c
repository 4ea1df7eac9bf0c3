// SPDX-License-Identifier: GPL-2.0
/*
 * Which coherent regions become heaps: those that the parameter regions= of coherent_heap
 * names, and no other. What the module says about it, and what it and cma_heap do about
 * regions with the name of another heap.
 *
 * Which regions there are is seen in the device tree. Heaps are made of all that can be one,
 * but written to only in those that REGIONS has: see regions.h.
 */
#include "regions.h"

#define SAYS	COHERENT_HEAP ": "	/* what its messages begin with */

/*
 * Regions that can be heaps; that are coherent regions, but cannot; that are something else;
 * and that the tests may write to
 */
static struct names good, bad, never, usable;

/* A region with the name of another heap, that of the module OWNER. MODULE must not take it. */
struct clash {
	const char *module, *owner;
	char heap[NAME_MAX + 1], name[NAME_MAX + 32];
};

static struct clash clashes[2];	/* system, default_cma_region */
static int nr_clashes;

static int nr_coherent;		/* regions that coherent_heap knows */

static const struct names no_names;

/* Exactly these heaps, and those that are no module's */
static void assert_regions(struct __test_metadata *_metadata, const struct names *want)
{
	struct names all = builtin_heaps;
	int i;

	for (i = 0; i < want->n; i++)
		names_add(&all, want->name[i]);
	names_sort(&all);
	assert_heaps(_metadata, &all);
}

static bool has_heap(const char *name)
{
	struct names now;

	heaps_now(&now);
	return names_have(&now, name);
}

static void unload_coherent(struct __test_metadata *_metadata)
{
	ASSERT_EQ(0, module_unload(COHERENT_HEAP)) {
		TH_LOG("%s", strerror(errno));
	}
	ASSERT_TRUE(module_gone(COHERENT_HEAP));
}

/* With this the module loads, and brings these heaps; it stays */
static void gives(struct __test_metadata *_metadata, const char *regions, const struct names *want)
{
	int i, heap;

	log_mark(_metadata);
	ASSERT_EQ(0, coherent_load(regions)) {
		TH_LOG("regions=%s: %s", regions, strerror(errno));
	}
	assert_regions(_metadata, want);
	for (i = 0; i < want->n; i++) {
		if (names_have(&usable, want->name[i])) {
			use_heap(_metadata, want->name[i], page_size());
			continue;
		}
		heap = heap_open(want->name[i]);
		ASSERT_LE(0, heap);
		close(heap);
	}
}

/* With this it does not load, and nothing is left of it */
static void gives_none(struct __test_metadata *_metadata, const char *regions)
{
	log_mark(_metadata);
	EXPECT_ERRNO(ENODEV, coherent_load(regions));
	ASSERT_TRUE(module_gone(COHERENT_HEAP));
	assert_regions(_metadata, &no_names);
}

/* There is one line, in which all the regions are, and nothing that is none */
static void lists_the_regions(struct __test_metadata *_metadata)
{
	char line[2048];
	int i;

	ASSERT_EQ(1, log_count(SAYS, NULL, line, sizeof(line)));
	ksft_print_msg("%s\n", line);
	for (i = 0; i < never.n; i++)
		expect_log(_metadata, 0, SAYS, never.name[i]);
	if (strstr(line, "..."))	/* there are more than there is room for */
		return;
	for (i = 0; i < good.n; i++)
		expect_log(_metadata, 1, SAYS, good.name[i]);
	for (i = 0; i < bad.n; i++)
		expect_log(_metadata, 1, SAYS, bad.name[i]);
}

/* What all of the tests below begin and end with */
static bool begin(struct __test_metadata *_metadata)
{
	if (coherent_is_builtin)
		return false;
	module_unload(COHERENT_HEAP);
	module_unload("cma_heap");
	module_unload("system_heap");
	assert_regions(_metadata, &no_names);
	return true;
}

static void end(struct __test_metadata *_metadata)
{
	ASSERT_TRUE(module_gone(COHERENT_HEAP));
	assert_regions(_metadata, &no_names);
}

FIXTURE(parameter) {
	struct names want;
};

FIXTURE_SETUP(parameter)
{
	if (!begin(_metadata))
		SKIP(return, COHERENT_HEAP " is built in");
	if (good.n < 2)
		SKIP(return, "fewer than two regions that can be heaps");
	names_add(&self->want, good.name[0]);
}

FIXTURE_TEARDOWN(parameter)
{
	end(_metadata);
}

TEST_F(parameter, without_it_one_line_lists_the_regions)
{
	gives_none(_metadata, NULL);
	lists_the_regions(_metadata);
}

TEST_F(parameter, when_empty_is_as_none)
{
	gives_none(_metadata, "");
	lists_the_regions(_metadata);
	gives_none(_metadata, "::");
	lists_the_regions(_metadata);
}

/* A person calls modprobe, and sees why */
TEST_F(parameter, without_it_modprobe_says_why)
{
	char text[1024] = "";
	int to[2], status = -1;
	size_t len = 0;
	ssize_t n;
	pid_t pid;

	ASSERT_EQ(0, pipe(to));
	pid = fork();
	ASSERT_LE(0, pid);
	if (!pid) {
		dup2(to[1], STDERR_FILENO);
		execlp("modprobe", "modprobe", COHERENT_HEAP, NULL);
		_exit(127);
	}
	close(to[1]);
	while ((n = read(to[0], text + len, sizeof(text) - 1 - len)) > 0)
		len += n;
	close(to[0]);
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	if (!module_unload(COHERENT_HEAP))
		SKIP(return, "modprobe.d or the command line has the parameter");
	EXPECT_TRUE(WIFEXITED(status));
	EXPECT_NE(0, WEXITSTATUS(status));
	EXPECT_NE(127, WEXITSTATUS(status));
	EXPECT_NE(NULL, strstr(text, strerror(ENODEV))) {
		TH_LOG("modprobe says: %s", text);
	}
}

TEST_F(parameter, two_names_are_two_heaps)
{
	char text[2 * NAME_MAX + 2];

	names_add(&self->want, good.name[1]);
	snprintf(text, sizeof(text), "%s:%s", good.name[1], good.name[0]);
	gives(_metadata, text, &self->want);
	expect_no_warning(_metadata);
	unload_coherent(_metadata);
}

TEST_F(parameter, all_names_are_all_heaps)
{
	char text[8192];
	int i;

	names_join(&good, text, sizeof(text));
	for (i = 0; text[i]; i++)
		if (text[i] == ' ')
			text[i] = ':';
	gives(_metadata, text, &good);
	expect_no_warning(_metadata);
	unload_coherent(_metadata);
}

/* Those that cannot have a heap, too: a line for each, and the others come */
TEST_F(parameter, a_star_is_all_regions)
{
	char line[1024];
	int i;

	gives(_metadata, "*", &good);
	for (i = 0; i < bad.n; i++) {
		EXPECT_LE(1, log_count("", bad.name[i], line, sizeof(line))) {
			TH_LOG("nothing about %s", bad.name[i]);
		}
	}
	for (i = 0; i < never.n; i++)
		expect_log(_metadata, 0, "", never.name[i]);
	unload_coherent(_metadata);
}

/* A shell would read it as such, and so does the module */
TEST_F(parameter, may_have_patterns)
{
	struct names want = { 0 };
	char text[NAME_MAX + 32];
	int i;

	for (i = 0; i < good.n; i++)
		if (!strncmp(good.name[0], good.name[i], 3))
			names_add(&want, good.name[i]);
	snprintf(text, sizeof(text), "nosuch*:%.3s*", good.name[0]);
	gives(_metadata, text, &want);
	expect_log(_metadata, 1, "<4>", "nosuch*");
	expect_log(_metadata, 1, SAYS, NULL);
	unload_coherent(_metadata);
}

/* One warning for each, and the heaps come */
TEST_F(parameter, unknown_names_do_not_keep_others_away)
{
	char text[NAME_MAX + 32];

	snprintf(text, sizeof(text), "nosuch:%s:other", good.name[0]);
	gives(_metadata, text, &self->want);
	expect_log(_metadata, 1, "<4>", "nosuch");
	expect_log(_metadata, 1, "<4>", "other");
	expect_log(_metadata, 2, SAYS, NULL);
	unload_coherent(_metadata);
}

TEST_F(parameter, only_unknown_names_are_no_heap)
{
	gives_none(_metadata, "nosuch:other");
	expect_log(_metadata, 1, "<4>", "nosuch");
	expect_log(_metadata, 1, "<4>", "other");
	expect_log(_metadata, 2, SAYS, NULL);
}

/* Nothing but the whole name, and ':' between two */
TEST_F(parameter, a_part_of_a_name_is_no_name)
{
	const char *first = good.name[0];
	char text[4 * NAME_MAX];

	snprintf(text, sizeof(text), "%.*s:%s0:%s,%s", (int)strlen(first) - 1, first, first, first,
		 good.name[1]);
	gives_none(_metadata, text);
	expect_log(_metadata, 3, "<4>", NULL);
}

FIXTURE(region) {
	const char *name;
};

FIXTURE_VARIANT(region) {
	char name[NAME_MAX + 1];
};

FIXTURE_SETUP(region)
{
	if (!begin(_metadata))
		SKIP(return, COHERENT_HEAP " is built in");
	if (!variant)
		SKIP(return, "no region that can be a heap");
	self->name = variant->name;
}

FIXTURE_TEARDOWN(region)
{
	end(_metadata);
}

TEST_F(region, one_name_is_one_heap)
{
	struct names want = { 0 };

	names_add(&want, self->name);
	gives(_metadata, self->name, &want);
	expect_no_warning(_metadata);
	unload_coherent(_metadata);
}

FIXTURE(bad) {
	const char *name;
};

FIXTURE_VARIANT(bad) {
	char name[NAME_MAX + 1];
};

FIXTURE_SETUP(bad)
{
	if (!begin(_metadata))
		SKIP(return, COHERENT_HEAP " is built in");
	if (!variant)
		SKIP(return, "no coherent region that cannot be a heap");
	self->name = variant->name;
}

FIXTURE_TEARDOWN(bad)
{
	end(_metadata);
}

TEST_F(bad, has_no_heap_which_is_said)
{
	char line[1024];

	gives_none(_metadata, self->name);
	EXPECT_LE(1, log_count("", self->name, line, sizeof(line)));
}

TEST_F(bad, does_not_keep_others_from_theirs)
{
	struct names want = { 0 };
	char text[2 * NAME_MAX + 2];

	if (!good.n)
		SKIP(return, "no region that can be a heap");
	names_add(&want, good.name[0]);
	snprintf(text, sizeof(text), "%s:%s", self->name, good.name[0]);
	gives(_metadata, text, &want);
	unload_coherent(_metadata);
}

FIXTURE(never) {
	const char *name;
};

FIXTURE_VARIANT(never) {
	char name[NAME_MAX + 1];
};

FIXTURE_SETUP(never)
{
	if (!begin(_metadata))
		SKIP(return, COHERENT_HEAP " is built in");
	if (!variant)
		SKIP(return, "nothing but coherent regions in " RESERVED_MEMORY);
	self->name = variant->name;
}

FIXTURE_TEARDOWN(never)
{
	end(_metadata);
}

TEST_F(never, is_no_region_for_a_heap)
{
	gives_none(_metadata, self->name);
	expect_log(_metadata, 1, "<4>", self->name);
}

FIXTURE(clash) {
	const struct clash *c;
	bool owned;		/* the owner has such a heap on this machine */
};

FIXTURE_VARIANT(clash) {
	struct clash c;
};

FIXTURE_SETUP(clash)
{
	if (!begin(_metadata))
		SKIP(return, COHERENT_HEAP " is built in");
	if (!variant)
		SKIP(return, "no region has the name of another heap");
	self->c = &variant->c;
	if (names_have(&builtin_heaps, self->c->heap))
		SKIP(return, "%s is built in, or in use", self->c->heap);
	if (!run_modprobe(self->c->owner)) {
		self->owned = has_heap(self->c->heap);
		ASSERT_EQ(0, module_unload(self->c->owner));
	}
}

FIXTURE_TEARDOWN(clash)
{
	module_unload(self->c->owner);
	module_unload(self->c->module);
	assert_regions(_metadata, &no_names);
}

static int load_clashing(const struct clash *c)
{
	return strcmp(c->module, COHERENT_HEAP) ? run_modprobe(c->module) : coherent_load("*");
}

/* It is said once, and there is no heap of this name but the owner's, who opens that holds it */
static void expect_refused(struct __test_metadata *_metadata, const struct clash *c, bool owned)
{
	char says[32];
	int heap;

	snprintf(says, sizeof(says), "%s: ", c->module);
	expect_log(_metadata, 1, says, c->heap);
	EXPECT_EQ(owned, has_heap(c->heap));
	if (!owned)
		return;
	heap = heap_open(c->heap);
	ASSERT_LE(0, heap);
	EXPECT_EQ(1, module_refs(c->owner));
	close(heap);
}

TEST_F(clash, is_refused_though_nobody_has_it)
{
	if (self->owned && !strcmp(self->c->module, self->c->owner))
		SKIP(return, "its own module has it");
	log_mark(_metadata);
	ASSERT_EQ(0, load_clashing(self->c));
	expect_refused(_metadata, self->c, false);
	ASSERT_EQ(0, module_unload(self->c->module));
}

TEST_F(clash, is_refused_before_the_owner_comes)
{
	if (!self->owned || !strcmp(self->c->module, self->c->owner))
		SKIP(return, "no other module has it");
	log_mark(_metadata);
	ASSERT_EQ(0, load_clashing(self->c));
	expect_refused(_metadata, self->c, false);
	ASSERT_EQ(0, run_modprobe(self->c->owner));
	expect_refused(_metadata, self->c, true);
	ASSERT_EQ(0, module_unload(self->c->module));
	ASSERT_EQ(0, module_unload(self->c->owner));
}

/* Of one module, both come at once */
TEST_F(clash, is_refused_and_is_the_owners)
{
	if (!self->owned)
		SKIP(return, "nobody has it");
	if (strcmp(self->c->module, self->c->owner))
		ASSERT_EQ(0, run_modprobe(self->c->owner));
	log_mark(_metadata);
	ASSERT_EQ(0, load_clashing(self->c));
	expect_refused(_metadata, self->c, true);
	ASSERT_EQ(0, module_unload(self->c->module));
	if (strcmp(self->c->module, self->c->owner))
		ASSERT_EQ(0, module_unload(self->c->owner));
}

/* Of coherent_heap: it does not load */
TEST_F(clash, is_refused_and_there_is_no_other)
{
	if (strcmp(self->c->module, COHERENT_HEAP))
		SKIP(return, "%s loads without a heap", self->c->module);
	gives_none(_metadata, self->c->heap);
	expect_refused(_metadata, self->c, false);
}

/* At boot, without the parameter, it made no heap and said so */
TEST(built_in_it_lists_the_regions)
{
	char text[16] = "(null)";
	int i;

	if (!coherent_is_builtin)
		SKIP(return, COHERENT_HEAP " is a module");
	read_text("/sys/module/" COHERENT_HEAP "/parameters/regions", text, sizeof(text));
	if (text[0] && strncmp(text, "(null)", 6))
		SKIP(return, "it has the parameter");
	for (i = 0; i < good.n; i++)
		EXPECT_FALSE(has_heap(good.name[i]));
	lists_the_regions(_metadata);
}

TEST(without_any_region_that_is_said)
{
	if (nr_coherent)
		SKIP(return, "there are coherent regions");
	if (!begin(_metadata))
		SKIP(return, COHERENT_HEAP " is built in");
	gives_none(_metadata, NULL);
	expect_log(_metadata, 1, SAYS, NULL);
	gives_none(_metadata, "");
	expect_log(_metadata, 1, SAYS, NULL);
}

/* And what names one is an error all the same */
TEST(without_any_region_none_can_be_named)
{
	if (nr_coherent)
		SKIP(return, "there are coherent regions");
	if (!begin(_metadata))
		SKIP(return, COHERENT_HEAP " is built in");
	gives_none(_metadata, "*");
	expect_log(_metadata, 1, "<4>", "*");
	gives_none(_metadata, "nosuch");
	expect_log(_metadata, 1, "<4>", "nosuch");
}

static bool is_enabled(const char *region)
{
	char node[PATH_MAX], text[16] = "";
	ssize_t n;

	snprintf(node, sizeof(node), RESERVED_MEMORY "/%s", region);
	n = property(node, "status", text, sizeof(text) - 1);
	return n < 0 || !strcmp(text, "okay") || !strcmp(text, "ok");
}

/* Memory that the kernel has mapped, as it may use it, cannot be coherent */
static bool has_pages_of_its_own(const char *region)
{
	__u64 base, size;

	if (!region_has(region, "no-map"))
		return false;
	return !region_reg(region, &base, &size) || full_pages(&base, size);
}

/* The default pool is not among them */
static bool is_coherent_region(const char *region)
{
	return !region_has(region, "reusable") && !region_has(region, "linux,dma-default");
}

static void add_clash(const char *region)
{
	struct clash *c = &clashes[nr_clashes++];

	c->module = region_has(region, "reusable") ? "cma_heap" : COHERENT_HEAP;
	c->owner = strcmp(region, "system") ? "cma_heap" : "system_heap";
	snprintf(c->heap, sizeof(c->heap), "%s", region);
	snprintf(c->name, sizeof(c->name), "%s:%s", c->module, region);
	add_variant(&_clash_fixture_object, c->name, c);
}

static void find_regions(void)
{
	struct dirent *e;
	DIR *d;

	d = opendir(RESERVED_MEMORY);
	while (d && (e = readdir(d))) {
		if (e->d_name[0] == '.' || !region_has(e->d_name, "name"))
			continue;
		if (!is_shared_dma_pool(e->d_name) || !is_enabled(e->d_name)) {
			names_add(&never, e->d_name);
			continue;
		}
		if (!strcmp(e->d_name, "system") || !strcmp(e->d_name, "default_cma_region"))
			add_clash(e->d_name);
		else if (!is_coherent_region(e->d_name))
			names_add(&never, e->d_name);
		else if (has_pages_of_its_own(e->d_name))
			names_add(&good, e->d_name);
		else
			names_add(&bad, e->d_name);
		nr_coherent += is_coherent_region(e->d_name);
	}
	if (d)
		closedir(d);
	names_sort(&good);
	names_sort(&bad);
	names_sort(&never);
}

static void add_regions(struct __fixture_metadata *fixture, const struct names *list)
{
	int i;

	for (i = 0; i < list->n; i++)
		add_variant(fixture, list->name[i], list->name[i]);
}

int main(int argc, char **argv)
{
	find_coherent_heap();
	find_regions();
	env_names("REGIONS", &usable);
	add_regions(&_region_fixture_object, &good);
	add_regions(&_bad_fixture_object, &bad);
	add_regions(&_never_fixture_object, &never);
	return test_harness_run(argc, argv);
}
