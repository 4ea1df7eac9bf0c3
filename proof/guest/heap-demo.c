// SPDX-License-Identifier: GPL-2.0
/*
 * The client of "make demo": heap-demo [--color] {MODULE [PARAMETER=VALUE]}...
 *
 * Loads one heap module after the other, sees which heaps each of them brings, and uses
 * every heap: allocates, maps, checks for zeroes, writes, reads back. Prints a table.
 */
#include "heap.h"

#define ARRAY_SIZE(array)	(sizeof(array) / sizeof((array)[0]))

#define BYTES	MIB

struct row {
	char heap[256];
	const char *module;
	size_t bytes;
	bool zeroed, mapped;
	char result[160];
	bool ok;
};

static struct row rows[MAX_HEAPS];
static int nrows;
static bool color;

static const char *paint(const char *code, const char *plain)
{
	return color ? code : plain;
}

#define BOLD	paint("\033[1m", "")
#define DIM	paint("\033[2m", "")
#define GREEN	paint("\033[32m", "")
#define RED	paint("\033[31m", "")
#define CYAN	paint("\033[36m", "")
#define PLAIN	paint("\033[0m", "")

static bool failed(struct row *r, const char *step)
{
	snprintf(r->result, sizeof(r->result), "%s: %s", step, strerror(errno));
	return false;
}

static bool use(struct row *r, int heap, int buf)
{
	unsigned char *p;
	size_t at;
	off_t size;

	size = lseek(buf, 0, SEEK_END);
	if (size < 0)
		return failed(r, "size");
	r->bytes = size;
	if (r->bytes != BYTES) {
		snprintf(r->result, sizeof(r->result), "asked for %lu bytes", BYTES);
		return false;
	}
	p = buffer_map(buf, BYTES);
	if (p == MAP_FAILED)
		return failed(r, "map");
	r->mapped = true;
	if (buffer_sync(buf, DMA_BUF_SYNC_START | DMA_BUF_SYNC_RW))
		return failed(r, "sync start");
	at = first_nonzero(p, BYTES);
	r->zeroed = at == BYTES;
	if (!r->zeroed) {
		snprintf(r->result, sizeof(r->result), "byte %zu is not zero", at);
		return false;
	}
	fill(p, BYTES, heap);
	if (buffer_sync(buf, DMA_BUF_SYNC_END | DMA_BUF_SYNC_RW))
		return failed(r, "sync end");
	if (munmap(p, BYTES))
		return failed(r, "unmap");

	/* Read back through a mapping of its own. */
	p = buffer_map(buf, BYTES);
	if (p == MAP_FAILED)
		return failed(r, "map again");
	if (buffer_sync(buf, DMA_BUF_SYNC_START | DMA_BUF_SYNC_READ))
		return failed(r, "sync start");
	at = first_wrong(p, BYTES, heap);
	if (buffer_sync(buf, DMA_BUF_SYNC_END | DMA_BUF_SYNC_READ))
		return failed(r, "sync end");
	if (at != BYTES) {
		snprintf(r->result, sizeof(r->result), "byte %zu does not read back", at);
		return false;
	}
	if (munmap(p, BYTES))
		return failed(r, "unmap");
	strcpy(r->result, "ok");
	return true;
}

static void try_heap(struct row *r)
{
	int heap, buf;

	heap = heap_open(r->heap);
	if (heap < 0) {
		failed(r, "open");
		return;
	}
	buf = heap_alloc(heap, BYTES);
	if (buf < 0) {
		failed(r, "allocate");
	} else {
		r->ok = use(r, heap, buf);
		if (close(buf) && r->ok)
			r->ok = failed(r, "close");
	}
	close(heap);
}

/* Shows what is in /dev/dma_heap, and makes a row for every heap that is new there. */
static void show_heaps(const char *module)
{
	static struct names known, now;
	int i;

	heaps_now(&now);
	printf("  " HEAPS ": %s%s", access(HEAPS, F_OK) ? "does not exist" : "",
	       !access(HEAPS, F_OK) && !now.n ? "empty" : "");
	for (i = 0; i < now.n; i++) {
		bool new = module && !names_have(&known, now.name[i]);

		printf("%s%s%s%s", i ? "  " : "", new ? CYAN : "", now.name[i], new ? PLAIN : "");
	}
	printf("\n");
	for (i = 0; i < now.n; i++) {
		if (names_have(&known, now.name[i]))
			continue;
		names_add(&known, now.name[i]);
		snprintf(rows[nrows].heap, sizeof(rows[0].heap), "%s", now.name[i]);
		rows[nrows++].module = module ? module : "(built in)";
	}
}

static void rule(const char *left, const char *mid, const char *right, const int *width, int n)
{
	int i, j;

	printf("  %s", left);
	for (i = 0; i < n; i++) {
		for (j = 0; j < width[i] + 2; j++)
			printf("%s", paint("─", "-"));
		printf("%s", i < n - 1 ? mid : right);
	}
	printf("\n");
}

enum { HEAP, MODULE, MEMORY, SIZE, ZEROED, MAPPED, RESULT, COLUMNS };

/* What a heap of this module gives, as the documentation of the series says */
static const char *memory_of(const char *module)
{
	static const char *const memory[][2] = {
		{ "system_heap", "pages anywhere" },
		{ "cma_heap", "contiguous, lent while free" },
		{ "coherent_heap", "contiguous, set aside, uncached" },
	};
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(memory); i++)
		if (!strcmp(module, memory[i][0]))
			return memory[i][1];
	return "";
}

static const char *cell(const struct row *r, int column)
{
	static char number[24];

	switch (column) {
	case HEAP:
		return r->heap;
	case MODULE:
		return r->module;
	case MEMORY:
		return memory_of(r->module);
	case SIZE:
		snprintf(number, sizeof(number), "%zu", r->bytes);
		return number;
	case ZEROED:
		return r->zeroed ? "yes" : "no";
	case MAPPED:
		return r->mapped ? "yes" : "no";
	default:
		return r->result;
	}
}

static void table(void)
{
	static const char *const head[COLUMNS] = {
		"heap", "module", "memory", "bytes", "zeroed", "mapped", "result"
	};
	const char *bar = paint("│", "|"), *tint;
	int width[COLUMNS], i, c;

	for (c = 0; c < COLUMNS; c++) {
		width[c] = strlen(head[c]);
		for (i = 0; i < nrows; i++)
			if (width[c] < (int)strlen(cell(&rows[i], c)))
				width[c] = strlen(cell(&rows[i], c));
	}

	printf("\n");
	rule(paint("┌", "+"), paint("┬", "+"), paint("┐", "+"), width, COLUMNS);
	printf("  %s", bar);
	for (c = 0; c < COLUMNS; c++)
		printf(" %s%*s%s %s", BOLD, c == SIZE ? width[c] : -width[c], head[c], PLAIN, bar);
	printf("\n");
	rule(paint("├", "+"), paint("┼", "+"), paint("┤", "+"), width, COLUMNS);
	for (i = 0; i < nrows; i++) {
		printf("  %s", bar);
		for (c = 0; c < COLUMNS; c++) {
			tint = c != RESULT ? "" : rows[i].ok ? GREEN : RED;
			printf(" %s%*s%s %s", tint, c == SIZE ? width[c] : -width[c],
			       cell(&rows[i], c), *tint ? PLAIN : "", bar);
		}
		printf("\n");
	}
	rule(paint("└", "+"), paint("┴", "+"), paint("┘", "+"), width, COLUMNS);
}

int main(int argc, char **argv)
{
	int i, before, modules = 0, bad = 0;

	setvbuf(stdout, NULL, _IOLBF, 0);
	for (i = 1; i < argc && argv[i][0] == '-'; i++) {
		if (strcmp(argv[i], "--color")) {
			fprintf(stderr, "usage: heap-demo [--color] {MODULE [PARAMETER=VALUE]}...\n");
			return 2;
		}
		color = true;
	}

	printf("%sBefore any heap module is loaded%s\n", BOLD, PLAIN);
	show_heaps(NULL);
	if (nrows) {
		printf("  %sheaps are there already, without a module%s\n", RED, PLAIN);
		bad++;
	}
	for (; i < argc; i++) {
		const char *module = argv[i], *parameter = NULL;
		int status;

		if (i + 1 < argc && strchr(argv[i + 1], '='))
			parameter = argv[++i];
		printf("%smodprobe %s%s%s%s\n", BOLD, module, parameter ? " " : "",
		       parameter ? parameter : "", PLAIN);
		before = nrows;
		status = run_program2("modprobe", module, parameter);
		if (status) {
			printf("  %sfailed with status %d%s\n", RED, status, PLAIN);
			bad++;
		}
		show_heaps(module);
		if (nrows == before) {
			printf("  %sno new heap%s\n", RED, PLAIN);
			bad++;
		}
		modules += nrows > before;
	}
	for (i = 0; i < nrows; i++) {
		try_heap(&rows[i]);
		bad += !rows[i].ok;
	}
	table();
	if (bad)
		printf("\n  %s%d of these steps failed%s\n", RED, bad, PLAIN);
	else if (nrows)
		printf("\n  %s%d heaps from %d modules, and all of them work%s\n",
		       GREEN, nrows, modules, PLAIN);
	else
		printf("\n  %sno heaps%s\n", RED, PLAIN);
	return bad || !nrows;
}
