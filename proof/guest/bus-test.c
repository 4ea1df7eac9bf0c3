// SPDX-License-Identifier: GPL-2.0
/*
 * What DMA address a device gets for a buffer of a coherent heap, as TAP:
 *
 *	bus-test DEVICE:REGION... --refused DEVICE:REGION...
 *
 * DEVICE is a node compatible with "guest,importer": see modules/importer.c. Its bus has
 * dma-ranges, or has none. A buffer that is the whole region is mapped for it, and then each
 * page of the region is a buffer of its own: the addresses must be those that dma-ranges gives.
 * Behind --refused stand regions that the device does not have in one piece.
 */
#include "region.h"

#define MAX_RANGES	8
#define MAX_PAGES	256

struct range {
	uint64_t dma, cpu, size;
};

struct bus {
	struct range range[MAX_RANGES];
	int n;
	uint64_t mask;
};

static bool read_bus(const char *device, struct bus *bus)
{
	unsigned char p[MAX_RANGES * 24], bits[4];
	char node[300];
	int i, len;

	snprintf(node, sizeof(node), "/sys/class/misc/importer-%s/device/of_node", device);
	bus->mask = UINT64_MAX;
	if (property(node, "guest,dma-bits", bits, sizeof(bits)) == sizeof(bits) && bits[3] < 64)
		bus->mask = (1ULL << bits[3]) - 1;
	/* the name of a file: .. is the parent of what the link leads to */
	len = property(node, "../dma-ranges", p, sizeof(p));
	if (len < 0) {
		bus->range[0] = (struct range){ .size = UINT64_MAX };
		bus->n = 1;
		return true;
	}
	bus->n = len / 24;
	if (!len || len % 24 || len == sizeof(p))
		return fail("%s: %d bytes of dma-ranges", device, len);
	for (i = 0; i < bus->n; i++)
		bus->range[i] = (struct range){ cells(p + i * 24), cells(p + i * 24 + 8),
						cells(p + i * 24 + 16) };
	return true;
}

/* What the device calls this page, if its bus has it and the device can say it */
static bool translate(const struct bus *bus, uint64_t phys, uint64_t *dma)
{
	int i;

	for (i = 0; i < bus->n; i++) {
		const struct range *r = &bus->range[i];

		if (phys < r->cpu || phys - r->cpu >= r->size)
			continue;
		*dma = phys - r->cpu + r->dma;
		return *dma + PAGE - 1 <= bus->mask;
	}
	return false;
}

static int get_importer(const char *device)
{
	char path[300];
	int fd;

	snprintf(path, sizeof(path), "/dev/importer-%s", device);
	fd = open(path, O_RDWR | O_CLOEXEC);
	if (fd < 0)
		fail("cannot open %s: %s", path, strerror(errno));
	return fd;
}

/* For a test: what stands in DEVICE:REGION */
struct pair {
	char device[64], *region;
	struct bus bus;
	uint64_t base, size;
	int importer;
};

static bool get_pair(const char *arg, struct pair *p)
{
	snprintf(p->device, sizeof(p->device), "%s", arg);
	p->region = strchr(p->device, ':');
	*p->region++ = '\0';
	p->importer = get_importer(p->device);
	return p->importer >= 0 && read_bus(p->device, &p->bus) &&
	       region_reg(p->region, &p->base, &p->size);
}

static bool whole(const char *arg)
{
	struct importer_attach info;
	uint64_t dma;
	struct pair p;

	if (!get_pair(arg, &p))
		return false;
	if (!translate(&p.bus, p.base, &dma))
		return fail("the test is wrong: 0x%llx is not on the bus",
			    (unsigned long long)p.base);
	info = (struct importer_attach){ .fd = get_buffer(p.region, p.size) };
	if ((int)info.fd < 0)
		return false;
	if (ioctl(p.importer, IMPORTER_ATTACH, &info))
		return fail("expected to attach the buffer, saw %s", strerror(errno));
	if (info.segments != 1 || info.length != p.size || info.address != dma)
		return fail("expected 0x%llx bytes at 0x%llx, saw %u segments, the first of 0x%x bytes at 0x%llx",
			    (unsigned long long)p.size, (unsigned long long)dma, info.segments,
			    info.length, (unsigned long long)info.address);
	ksft_print_msg("%s: 0x%llx is 0x%llx\n", arg, (unsigned long long)p.base,
		       (unsigned long long)dma);
	return true;
}

static bool refused(const char *arg)
{
	struct importer_attach info;
	int i, before = buffers();
	struct pair p;

	if (before < 0 || !get_pair(arg, &p) || !log_mark())
		return false;
	info = (struct importer_attach){ .fd = get_buffer(p.region, p.size) };
	if ((int)info.fd < 0)
		return false;
	for (i = 0; i < 20; i++)
		if (!fails_with("attaching", ioctl(p.importer, IMPORTER_ATTACH, &info), EIO))
			return false;
	close(info.fd);
	return log_quiet() && buffers_are(before);
}

static int compare(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return x < y ? -1 : x > y;
}

/* Which page a buffer has is not known; but together they have all of them. */
static bool page_by_page(const char *arg)
{
	uint64_t want[MAX_PAGES], saw[MAX_PAGES], dma;
	unsigned int i, pages, n = 0, m = 0;
	struct importer_attach info;
	struct pair p;

	if (!get_pair(arg, &p))
		return false;
	pages = p.size / PAGE;
	if (pages > MAX_PAGES)
		return fail("the region is too large for this test");
	for (i = 0; i < pages; i++)
		if (translate(&p.bus, p.base + i * PAGE, &dma))
			want[n++] = dma;
	for (i = 0; i < pages; i++) {
		info = (struct importer_attach){ .fd = get_buffer(p.region, PAGE) };
		if ((int)info.fd < 0)
			return false;
		if (!ioctl(p.importer, IMPORTER_ATTACH, &info))
			saw[m++] = info.address;
		else if (errno != EIO)
			return fail("expected EIO or an address, saw %s", strerror(errno));
		else
			continue;
		/* each buffer that is mapped needs a device file of its own */
		p.importer = get_importer(p.device);
		if (p.importer < 0)
			return false;
	}
	if (n != m)
		return fail("expected %u of %u pages to be mapped, saw %u", n, pages, m);
	qsort(want, n, sizeof(*want), compare);
	qsort(saw, m, sizeof(*saw), compare);
	for (i = 0; i < n; i++)
		if (want[i] != saw[i])
			return fail("expected 0x%llx among the addresses, saw 0x%llx",
				    (unsigned long long)want[i], (unsigned long long)saw[i]);
	ksft_print_msg("%s: %u of %u pages\n", arg, n, pages);
	return true;
}

int main(int argc, char **argv)
{
	bool refuse = false;
	int i, pairs = 0;

	for (i = 1; i < argc; i++)
		pairs += !!strchr(argv[i], ':');
	if (!pairs) {
		fprintf(stderr, "usage: bus-test DEVICE:REGION... --refused DEVICE:REGION...\n");
		return 2;
	}
	tests_begin();
	if (!modprobe("importer") || !coherent_loads("*"))
		ksft_exit_fail_msg("%s\n", why);
	ksft_set_plan(2 * pairs);
	for (i = 1; i < argc; i++) {
		if (!strcmp(argv[i], "--refused"))
			refuse = true;
		if (!strchr(argv[i], ':'))
			continue;
		if (refuse)
			run_test(argv[i], "is refused, quietly", refused, argv[i]);
		else
			run_test(argv[i], "is where the bus has it", whole, argv[i]);
		run_test(argv[i], "page by page", page_by_page, argv[i]);
	}
	ksft_finished();
}
