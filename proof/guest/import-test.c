// SPDX-License-Identifier: GPL-2.0
/*
 * Buffers of heaps are imported by a device that does DMA, as TAP:
 *
 *	import-test [--iommu [--write-only]] [--bounced] [--out-of-reach] MODULE:HEAP...
 *
 * Loads the modules of the heaps, and the importer, which has two of QEMU's "edu" devices: bytes
 * that a device writes must arrive where the CPU reads them, and the reverse, at odd offsets and
 * over the borders of pages. Behind --bounced stand heaps whose memory the devices see a copy of,
 * and behind --out-of-reach those whose memory they cannot reach. --iommu says that the devices must be behind an IOMMU: then they cannot write what is
 * mapped for them to read. --write-only: it knows memory that can only be written, too.
 */
#include "region.h"

#define DEVICES		2
#define LEN		(64 * KIB)
/* What a device writes: neither end is the border of anything */
#define FROM		4093
#define PART		40007

static bool iommu, write_only;
static const char *heap_module;		/* of the test that is next */

static bool is_coherent(void)
{
	return !strcmp(heap_module, "coherent_heap");
}

static int get_device(int n)
{
	char path[64];
	int fd;

	snprintf(path, sizeof(path), "/dev/importer%d", n);
	fd = open(path, O_RDWR | O_CLOEXEC);
	if (fd < 0)
		fail("cannot open %s: %s", path, strerror(errno));
	return fd;
}

static bool attach(int device, int buf, struct importer_attach *info)
{
	*info = (struct importer_attach){ .fd = buf, .direction = info->direction };
	return !ioctl(device, IMPORTER_ATTACH, info) ||
	       fail("expected to attach the buffer, saw %s", strerror(errno));
}

static bool detach(int device, __u64 *ns)
{
	__u64 took;

	return !ioctl(device, IMPORTER_DETACH, ns ? ns : &took) ||
	       fail("expected to detach the buffer, saw %s", strerror(errno));
}

static bool dma(int device, unsigned long cmd, void *p, size_t offset, size_t len)
{
	struct importer_dma arg = { .offset = offset, .len = len, .user = (uintptr_t)p };

	return !ioctl(device, cmd, &arg) ||
	       fail("expected the device to move %zu bytes, saw %s", len, strerror(errno));
}

static bool sync_cpu(int buf, __u64 flags)
{
	return !buffer_sync(buf, flags) ||
	       fail("expected access by the CPU, saw %s", strerror(errno));
}

/* A buffer with its map, attached to as many devices */
struct shared {
	int buf, device[DEVICES];
	unsigned char *p;
	struct importer_attach info[DEVICES];
};

#define TO_DEVICE	1
#define FROM_DEVICE	2

static bool share(const char *heap, struct shared *s, int devices)
{
	int i;

	s->buf = get_buffer(heap, LEN);
	s->p = s->buf < 0 ? NULL : get_map(s->buf, LEN);
	if (!s->p)
		return false;
	for (i = 0; i < devices; i++) {
		s->device[i] = get_device(i);
		if (s->device[i] < 0 || !attach(s->device[i], s->buf, &s->info[i]))
			return false;
	}
	return true;
}

/* By the CPU, through the map */
static bool cpu_fills(struct shared *s, unsigned int seed)
{
	if (!sync_cpu(s->buf, DMA_BUF_SYNC_START | DMA_BUF_SYNC_WRITE))
		return false;
	fill(s->p, LEN, seed);
	return sync_cpu(s->buf, DMA_BUF_SYNC_END | DMA_BUF_SYNC_WRITE);
}

static bool device_writes(const char *heap)
{
	unsigned char *bytes = malloc(PART), want;
	struct shared s = { 0 };
	size_t i;

	if (!share(heap, &s, 1) || !cpu_fills(&s, 1))
		return false;
	fill(bytes, PART, 77);
	if (!dma(s.device[0], IMPORTER_WRITE, bytes, FROM, PART) ||
	    !sync_cpu(s.buf, DMA_BUF_SYNC_START | DMA_BUF_SYNC_READ))
		return false;
	for (i = 0; i < LEN; i++) {
		want = i >= FROM && i < FROM + PART ? bytes[i - FROM] : pattern(i, 1);
		if (s.p[i] != want)
			return fail("expected 0x%02x at byte %zu, saw 0x%02x", want, i, s.p[i]);
	}
	return sync_cpu(s.buf, DMA_BUF_SYNC_END | DMA_BUF_SYNC_READ);
}

static bool device_reads(const char *heap)
{
	unsigned char *bytes = calloc(1, LEN);
	struct shared s = { 0 };
	size_t i;

	/* what is zeroed by the CPU must be zero for the device */
	if (!share(heap, &s, 1) || !dma(s.device[0], IMPORTER_READ, bytes, FROM, 8 * KIB))
		return false;
	i = first_nonzero(bytes, 8 * KIB);
	if (i < 8 * KIB)
		return fail("expected a new buffer to be zero, saw 0x%02x at byte %zu", bytes[i],
			    FROM + i);
	if (!cpu_fills(&s, 2) || !dma(s.device[0], IMPORTER_READ, bytes, 0, LEN))
		return false;
	i = first_wrong(bytes, LEN, 2);
	if (i < LEN)
		return fail("expected 0x%02x at byte %zu, saw 0x%02x", pattern(i, 2), i, bytes[i]);
	/* an odd part, which the device has where the CPU has it */
	if (!dma(s.device[0], IMPORTER_READ, bytes, FROM, PART))
		return false;
	for (i = 0; i < PART; i++)
		if (bytes[i] != pattern(FROM + i, 2))
			return fail("part: expected 0x%02x at byte %zu, saw 0x%02x",
				    pattern(FROM + i, 2), FROM + i, bytes[i]);
	return true;
}

/* The first device has it in this direction from now on. (The CPU's accesses come while it has it in both.) */
static bool turn(struct shared *s, __u32 direction)
{
	s->info[0].direction = direction;
	return detach(s->device[0], NULL) && attach(s->device[0], s->buf, &s->info[0]);
}

/* What is mapped for reading only stays as it is; once it is mapped for both, it can be written. */
static bool may_not_write(const char *heap)
{
	unsigned char *bytes = malloc(PART), *back = calloc(1, PART);
	struct shared s = { 0 };
	size_t i;

	if (!share(heap, &s, 1) || !cpu_fills(&s, 3) || !turn(&s, TO_DEVICE))
		return false;
	if (!dma(s.device[0], IMPORTER_READ, back, 0, PART))
		return false;
	i = first_wrong(back, PART, 3);
	if (i < PART)
		return fail("expected to read 0x%02x at byte %zu, saw 0x%02x", pattern(i, 3), i,
			    back[i]);
	fill(bytes, PART, 88);
	if (!dma(s.device[0], IMPORTER_WRITE, bytes, FROM, PART) || !turn(&s, 0) ||
	    !sync_cpu(s.buf, DMA_BUF_SYNC_START | DMA_BUF_SYNC_READ))
		return false;
	i = first_wrong(s.p, LEN, 3);
	if (i < LEN)
		return fail("expected the buffer as it was, saw that the device wrote byte %zu", i);
	return sync_cpu(s.buf, DMA_BUF_SYNC_END | DMA_BUF_SYNC_READ) &&
	       dma(s.device[0], IMPORTER_WRITE, bytes, FROM, PART) &&
	       sync_cpu(s.buf, DMA_BUF_SYNC_START | DMA_BUF_SYNC_READ) &&
	       (!memcmp(s.p + FROM, bytes, PART) || fail("mapped for both: expected a write"));
}

static bool may_not_read(const char *heap)
{
	unsigned char *bytes = malloc(PART), *back = calloc(1, PART);
	struct shared s = { 0 };
	size_t i, same = 0;

	if (!share(heap, &s, 1) || !cpu_fills(&s, 4) || !turn(&s, FROM_DEVICE))
		return false;
	if (!dma(s.device[0], IMPORTER_READ, back, 0, PART))
		return false;
	for (i = 0; i < PART; i++)
		same += back[i] && back[i] == pattern(i, 4);
	if (same > PART / 64)
		return fail("expected the device not to see the buffer, saw %zu of its bytes", same);
	fill(bytes, PART, 89);
	return dma(s.device[0], IMPORTER_WRITE, bytes, FROM, PART) && turn(&s, 0) &&
	       sync_cpu(s.buf, DMA_BUF_SYNC_START | DMA_BUF_SYNC_READ) &&
	       (!memcmp(s.p + FROM, bytes, PART) || fail("expected a write"));
}

/* The device has it in this direction for as long as this takes, and the CPU says when it comes and goes */
static bool by_turns(struct shared *s, bool device_may_write)
{
	unsigned char *bytes = malloc(PART);
	__u64 access = device_may_write ? DMA_BUF_SYNC_RW : DMA_BUF_SYNC_WRITE;
	unsigned int round;
	size_t i;

	for (round = 0; round < 3; round++) {
		if (!sync_cpu(s->buf, DMA_BUF_SYNC_START | access))
			return false;
		fill(s->p, LEN, 10 + round);
		if (!sync_cpu(s->buf, DMA_BUF_SYNC_END | access) ||
		    !dma(s->device[0], IMPORTER_READ, bytes, 0, PART))
			return false;
		i = first_wrong(bytes, PART, 10 + round);
		if (i < PART)
			return fail("round %u: expected 0x%02x at byte %zu, the device saw 0x%02x",
				    round, pattern(i, 10 + round), i, bytes[i]);
		if (!device_may_write)
			continue;
		fill(bytes, PART, 20 + round);
		if (!dma(s->device[0], IMPORTER_WRITE, bytes, FROM, PART) ||
		    !sync_cpu(s->buf, DMA_BUF_SYNC_START | DMA_BUF_SYNC_READ))
			return false;
		i = first_wrong(s->p, FROM, 10 + round);
		if (i < FROM || memcmp(s->p + FROM, bytes, PART))
			return fail("round %u: expected what the device wrote, and no more", round);
		if (!sync_cpu(s->buf, DMA_BUF_SYNC_END | DMA_BUF_SYNC_READ))
			return false;
	}
	return true;
}

static bool take_turns(const char *heap)
{
	struct shared s = { 0 };

	return share(heap, &s, 1) && (by_turns(&s, true) || fail_at("mapped for both")) &&
	       turn(&s, TO_DEVICE) && (by_turns(&s, false) || fail_at("mapped for reading"));
}

static bool two_devices(const char *heap)
{
	unsigned char *bytes = malloc(PART), *back = calloc(1, PART);
	struct shared s = { 0 };

	if (!share(heap, &s, 2))
		return false;
	fill(bytes, PART, 5);
	if (!dma(s.device[0], IMPORTER_WRITE, bytes, FROM, PART) ||
	    !dma(s.device[1], IMPORTER_READ, back, FROM, PART))
		return false;
	if (memcmp(bytes, back, PART))
		return fail("expected the second device to read what the first one wrote");
	/* what one gives up, the other keeps */
	if (!detach(s.device[0], NULL))
		return false;
	fill(bytes, PART, 6);
	if (!dma(s.device[1], IMPORTER_WRITE, bytes, FROM, PART) ||
	    !sync_cpu(s.buf, DMA_BUF_SYNC_START | DMA_BUF_SYNC_READ))
		return false;
	return !memcmp(s.p + FROM, bytes, PART) ||
	       fail("expected what the second device wrote, alone");
}

/* No fd and no map is left, and the device still has the buffer, and so the module. */
static bool device_keeps(const char *heap)
{
	unsigned char *bytes = malloc(PART), *back = calloc(1, PART);
	int before = buffers();
	struct shared s = { 0 };

	if (before < 0 || !share(heap, &s, 1) || munmap(s.p, LEN) || close(s.buf))
		return false;
	if (!buffers_are(before + 1) || !refs_are(heap_module, 1))
		return false;
	if (!fails_with("unloading", module_unload(heap_module), EWOULDBLOCK))
		return false;
	fill(bytes, PART, 7);
	if (!dma(s.device[0], IMPORTER_WRITE, bytes, FROM, PART) ||
	    !dma(s.device[0], IMPORTER_READ, back, FROM, PART))
		return false;
	if (memcmp(bytes, back, PART))
		return fail("expected the device to read what it wrote");
	/* closing it is enough */
	close(s.device[0]);
	if (!buffers_are(before) || !refs_are(heap_module, 0))
		return false;
	if (module_unload(heap_module))
		return fail("expected %s to unload, saw %s", heap_module, strerror(errno));
	return modprobe(heap_module);
}

#define ROUNDS	300

static bool many_times(const char *heap)
{
	int i, before = buffers();
	struct shared s = { 0 };

	if (before < 0 || !share(heap, &s, 2))
		return false;
	for (i = 0; i < ROUNDS; i++)
		if (!detach(s.device[i % 2], NULL) ||
		    !attach(s.device[i % 2], s.buf, &s.info[i % 2]))
			return fail_at("again and again");
	close(s.device[0]);
	close(s.device[1]);
	munmap(s.p, LEN);
	close(s.buf);
	return buffers_are(before);
}

static bool one_address(const char *heap)
{
	struct shared s = { 0 };

	if (!share(heap, &s, 1))
		return false;
	ksft_print_msg("%s: at 0x%llx for the device\n", heap,
		       (unsigned long long)s.info[0].address);
	return s.info[0].segments == 1 ? true :
	       fail("expected one address, saw %u segments", s.info[0].segments);
}

/* The least that attaching and detaching took, in nanoseconds, for a buffer of so many bytes */
static long long attach_ns(const char *heap, size_t len)
{
	int i, device = get_device(0), buf = get_buffer(heap, len);
	struct importer_attach info = { 0 };
	long long least = -1;
	__u64 ns;

	if (device < 0 || buf < 0)
		return -1;
	for (i = 0; i < 50; i++) {
		if (!attach(device, buf, &info) || !detach(device, &ns))
			return -1;
		if (least < 0 || (long long)(info.ns + ns) < least)
			least = info.ns + ns;
	}
	close(buf);
	close(device);
	return least;
}

static bool any_size(const char *heap)
{
	long long small = attach_ns(heap, 4 * KIB), large = attach_ns(heap, 8 * MIB);

	if (small < 0 || large < 0)
		return false;
	ksft_print_msg("%s: attach and detach: %lld ns for 4 KiB, %lld ns for 8 MiB\n", heap,
		       small, large);
	return large <= small + small / 4 ? true :
	       fail("expected 8 MiB to take no longer than 4 KiB, saw %lld and %lld ns", large,
		    small);
}

/* The error is that of the mapping; the buffer, and the device, are good for others. */
static bool out_of_reach(const char *heap)
{
	struct importer_attach info = { 0 };
	int i, before = buffers(), device = get_device(0), buf = get_buffer(heap, LEN);
	unsigned char *p;

	if (before < 0 || device < 0 || buf < 0 || !log_mark())
		return false;
	info = (struct importer_attach){ .fd = buf };
	for (i = 0; i < ROUNDS; i++)
		if (!fails_with("attaching", ioctl(device, IMPORTER_ATTACH, &info), EIO))
			return false;
	if (!log_quiet())
		return false;
	p = get_map(buf, LEN);
	if (!p)
		return false;
	fill(p, LEN, 8);
	if (first_wrong(p, LEN, 8) != LEN)
		return fail("expected the buffer to be as good as before");
	munmap(p, LEN);
	close(buf);
	return buffers_are(before) && refs_are(heap_module, 0);
}

/* What is copied has a limit, and the error is that of the mapping. */
static bool bounce_limit(const char *heap)
{
	struct importer_attach info;
	int before = buffers(), device = get_device(0), buf = get_buffer(heap, MIB);
	unsigned char *p;

	if (before < 0 || device < 0 || buf < 0)
		return false;
	info = (struct importer_attach){ .fd = buf };
	if (!fails_with("attaching 1 MiB", ioctl(device, IMPORTER_ATTACH, &info), EIO))
		return false;
	p = get_map(buf, MIB);
	if (!p)
		return false;
	fill(p, MIB, 8);
	if (first_wrong(p, MIB, 8) != MIB)
		return fail("expected the buffer to be as good as before");
	munmap(p, MIB);
	close(buf);
	buf = get_buffer(heap, LEN);
	if (buf < 0 || !attach(device, buf, &info))
		return fail_at("after that");
	close(buf);
	close(device);
	return buffers_are(before) && refs_are(heap_module, 0);
}

/* One that translates: with an identity domain, DMA goes past it */
static bool behind_iommu(const char *arg)
{
	char path[80], type[32];
	int i;

	(void)arg;
	for (i = 0; i < DEVICES; i++) {
		snprintf(path, sizeof(path), "/sys/class/misc/importer%d/device/iommu_group/type",
			 i);
		if (!access(path, F_OK) != iommu)
			return fail("importer%d: expected %s IOMMU", i, iommu ? "an" : "no");
		if (!iommu)
			continue;
		if (!read_file(path, type, sizeof(type)))
			return false;
		if (strncmp(type, "DMA", 3))
			return fail("importer%d: expected a domain that translates, saw %s", i,
				    type);
	}
	return true;
}

enum reach { REACHABLE, BOUNCED, OUT_OF_REACH };

/* The tests of a heap; is a NULL heap, how many they are */
static int heap_tests(const char *module, const char *heap, enum reach reach)
{
	static const struct {
		const char *name;
		test_fn fn;
	} tests[] = {
		{ "the CPU sees what a device writes", device_writes },
		{ "a device sees what the CPU writes", device_reads },
		{ "the CPU and a device take turns", take_turns },
		{ "two devices at once", two_devices },
		{ "a device keeps the buffer", device_keeps },
		{ "attached and detached many times", many_times },
		{ "a device does not write what it may only read", may_not_write },
		{ "a device does not read what it may only write", may_not_read },
		{ "one address for all of it", one_address },
		{ "the size does not matter for attaching", any_size },
		{ "what is copied has a limit", bounce_limit },
	};
	unsigned int i;
	int n = 0;

	heap_module = module;
	if (reach == OUT_OF_REACH) {
		if (heap)
			run_test(heap, "is out of reach", out_of_reach, heap);
		return 1;
	}
	for (i = 0; i < ARRAY_SIZE(tests); i++) {
		/* without an IOMMU, nobody keeps a device from anything */
		if ((tests[i].fn == may_not_write && !iommu) ||
		    (tests[i].fn == may_not_read && !write_only) ||
		    (tests[i].fn == one_address && !strcmp(module, "system_heap")) ||
		    /* an IOMMU maps page by page */
		    (tests[i].fn == any_size && (!is_coherent() || iommu)) ||
		    (tests[i].fn == bounce_limit && reach != BOUNCED) ||
		    /* each device has a copy of its own */
		    (tests[i].fn == two_devices && reach == BOUNCED))
			continue;
		n++;
		if (heap)
			run_test(heap, tests[i].name, tests[i].fn, heap);
	}
	return n;
}

/* The module makes heaps of those that are tested. */
static void add_region(const char *name)
{
	static bool any;

	if (!any)
		strcpy(coherent_params, "regions=");
	snprintf(coherent_params + strlen(coherent_params),
		 sizeof(coherent_params) - strlen(coherent_params), "%s%s", any ? ":" : "", name);
	any = true;
}

int main(int argc, char **argv)
{
	enum reach reach;
	int i, pass, plan = 1;
	char *heap;

	if (argc < 2) {
		fprintf(stderr, "usage: import-test [--iommu [--write-only]] [--bounced] [--out-of-reach] MODULE:HEAP...\n");
		return 2;
	}
	for (i = 1; i < argc; i++) {
		iommu |= !strcmp(argv[i], "--iommu");
		write_only |= !strcmp(argv[i], "--write-only");
		if (!strncmp(argv[i], "coherent_heap:", 14))
			add_region(argv[i] + 14);
	}
	test_seconds = 600;
	tests_begin();
	if (!modprobe("importer"))
		ksft_exit_fail_msg("%s\n", why);
	for (pass = 0; pass < 2; pass++) {
		for (reach = REACHABLE, i = 1; i < argc; i++) {
			if (!strcmp(argv[i], "--bounced"))
				reach = BOUNCED;
			if (!strcmp(argv[i], "--out-of-reach"))
				reach = OUT_OF_REACH;
			heap = strchr(argv[i], ':');
			if (!heap)
				continue;
			*heap++ = '\0';
			if (!pass && !modprobe(argv[i]))
				ksft_exit_fail_msg("%s\n", why);
			if (!pass)
				plan += heap_tests(argv[i], NULL, reach);
			else
				heap_tests(argv[i], heap, reach);
			heap[-1] = ':';
		}
		if (!pass) {
			ksft_set_plan(plan);
			run_test("importer", iommu ? "behind an IOMMU" : "no IOMMU", behind_iommu,
				 NULL);
		}
	}
	ksft_finished();
}
