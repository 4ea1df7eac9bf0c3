// SPDX-License-Identifier: GPL-2.0
/*
 * Video devices take buffers of heaps (V4L2_MEMORY_DMABUF), as TAP:
 *
 *	v4l2-test LABEL=/dev/videoN... [--contiguous LABEL=/dev/videoN...] -- HEAP...
 *	v4l2-test --hold /dev/videoN HEAP
 *
 * A capture device must fill them, and a converter convert what is in them, as it does with its own buffers
 * (V4L2_MEMORY_MMAP), byte by byte. Devices behind --contiguous refuse a buffer of the system heap that is in pieces.
 * --hold leaves a capture device with buffers of a heap that nobody else has, says so, and waits.
 */
#include <poll.h>

#include <linux/videodev2.h>

#include "test.h"

#define FRAMES		4
#define UNTOUCHED	0xa5

struct queue {
	int dev;
	__u32 type, memory;
	size_t len;			/* of a frame */
	int buf[FRAMES];
	unsigned char *p[FRAMES];
};

static bool call(int dev, unsigned long cmd, void *arg, const char *what)
{
	return !ioctl(dev, cmd, arg) || fail("expected %s, saw %s", what, strerror(errno));
}

static bool set_format(struct queue *q, __u32 width, __u32 height, __u32 pixels)
{
	struct v4l2_format f = { .type = q->type };

	f.fmt.pix.width = width;
	f.fmt.pix.height = height;
	f.fmt.pix.pixelformat = pixels;
	if (!call(q->dev, VIDIOC_S_FMT, &f, "to set the format"))
		return false;
	if (f.fmt.pix.width != width || f.fmt.pix.height != height || f.fmt.pix.pixelformat != pixels)
		return fail("expected %ux%u, saw %ux%u or other pixels", width, height, f.fmt.pix.width, f.fmt.pix.height);
	q->len = f.fmt.pix.sizeimage;
	return true;
}

static bool request(struct queue *q, __u32 count)
{
	struct v4l2_requestbuffers req = { .count = count, .type = q->type, .memory = q->memory };

	return call(q->dev, VIDIOC_REQBUFS, &req, "to request buffers") &&
	       (req.count == count || fail("expected %u buffers, saw %u", count, req.count));
}

/* The device's own buffers, or those of a heap */
static bool get_buffers(struct queue *q, const char *heap)
{
	int i;

	q->memory = heap ? V4L2_MEMORY_DMABUF : V4L2_MEMORY_MMAP;
	if (!request(q, FRAMES))
		return false;
	for (i = 0; i < FRAMES; i++) {
		struct v4l2_buffer b = { .index = i, .type = q->type, .memory = q->memory };

		if (heap)
			q->buf[i] = get_buffer(heap, q->len);
		else if (!call(q->dev, VIDIOC_QUERYBUF, &b, "to query a buffer"))
			return false;
		if (heap && q->buf[i] < 0)
			return false;
		q->p[i] = mmap(NULL, q->len, PROT_READ | PROT_WRITE, MAP_SHARED, heap ? q->buf[i] : q->dev, b.m.offset);
		if (q->p[i] == MAP_FAILED)
			return fail("expected to map a buffer, saw %s", strerror(errno));
	}
	return true;
}

static bool put_buffers(struct queue *q)
{
	int i;

	for (i = 0; i < FRAMES; i++) {
		munmap(q->p[i], q->len);
		if (q->memory == V4L2_MEMORY_DMABUF)
			close(q->buf[i]);
	}
	return request(q, 0);
}

static bool cpu(struct queue *q, int i, __u64 flags)
{
	return q->memory != V4L2_MEMORY_DMABUF || !buffer_sync(q->buf[i], flags) ||
	       fail("expected access by the CPU, saw %s", strerror(errno));
}

static int enqueue(struct queue *q, int i)
{
	struct v4l2_buffer b = { .index = i, .type = q->type, .memory = q->memory, .field = V4L2_FIELD_NONE };

	if (q->memory == V4L2_MEMORY_DMABUF)
		b.m.fd = q->buf[i];
	if (V4L2_TYPE_IS_OUTPUT(q->type))
		b.bytesused = q->len;
	return ioctl(q->dev, VIDIOC_QBUF, &b);
}

static bool stream(struct queue *q, bool on)
{
	return call(q->dev, on ? VIDIOC_STREAMON : VIDIOC_STREAMOFF, &q->type, on ? "to start" : "to stop");
}

/* The buffers go to the device: filled with what it is to convert, or with what it has to replace. */
static bool start(struct queue *q)
{
	int i;

	for (i = 0; i < FRAMES; i++) {
		if (!cpu(q, i, DMA_BUF_SYNC_START | DMA_BUF_SYNC_WRITE))
			return false;
		if (V4L2_TYPE_IS_OUTPUT(q->type))
			fill(q->p[i], q->len, i);
		else
			memset(q->p[i], UNTOUCHED, q->len);
		if (!cpu(q, i, DMA_BUF_SYNC_END | DMA_BUF_SYNC_WRITE))
			return false;
		if (enqueue(q, i))
			return fail("expected the device to take a buffer, saw %s", strerror(errno));
	}
	return stream(q, true);
}

/* The frames of a capture queue in their order */
static bool take(struct queue *q, unsigned char *frames)
{
	int n;

	for (n = 0; n < FRAMES; n++) {
		struct v4l2_buffer b = { .type = q->type, .memory = q->memory };
		struct pollfd p = { .fd = q->dev, .events = POLLIN };

		if (poll(&p, 1, 60000) != 1)
			return fail("expected frame %d within a minute, saw none", n);
		if (!call(q->dev, VIDIOC_DQBUF, &b, "a frame"))
			return false;
		if (b.flags & V4L2_BUF_FLAG_ERROR || b.bytesused != q->len)
			return fail("expected a frame of %zu bytes, saw %u", q->len, b.bytesused);
		if (!cpu(q, b.index, DMA_BUF_SYNC_START | DMA_BUF_SYNC_READ))
			return false;
		memcpy(frames + n * q->len, q->p[b.index], q->len);
		if (!cpu(q, b.index, DMA_BUF_SYNC_END | DMA_BUF_SYNC_READ))
			return false;
	}
	return true;
}

static bool open_device(const char *path, struct queue *in, struct queue *out)
{
	struct v4l2_capability cap = { 0 };
	int dev = open(path, O_RDWR | O_CLOEXEC);

	if (dev < 0)
		return fail("cannot open %s: %s", path, strerror(errno));
	if (!call(dev, VIDIOC_QUERYCAP, &cap, "to query the device"))
		return false;
	*in = (struct queue){ .dev = dev, .type = V4L2_BUF_TYPE_VIDEO_CAPTURE };
	*out = (struct queue){ .dev = -1, .type = V4L2_BUF_TYPE_VIDEO_OUTPUT };
	if (cap.device_caps & V4L2_CAP_VIDEO_CAPTURE)	/* of a size that the system heap has in pieces */
		return set_format(in, 1920, 1080, V4L2_PIX_FMT_YUYV);
	out->dev = dev;
	return set_format(out, 640, 480, V4L2_PIX_FMT_RGB24) && set_format(in, 640, 480, V4L2_PIX_FMT_YUYV);
}

/* What the device makes with its own buffers, or with those of a heap */
static unsigned char *frames_of(const char *path, const char *heap, size_t *len)
{
	struct queue in, out;
	unsigned char *frames;

	if (!open_device(path, &in, &out))
		return NULL;
	*len = in.len * FRAMES;
	frames = malloc(*len);
	if (!get_buffers(&in, heap) || !start(&in))
		return NULL;
	if (out.dev >= 0 && (!get_buffers(&out, heap) || !start(&out)))
		return NULL;
	if (!take(&in, frames) || !stream(&in, false) || !put_buffers(&in))
		return NULL;
	if (out.dev >= 0 && (!stream(&out, false) || !put_buffers(&out)))
		return NULL;
	close(in.dev);
	return frames;
}

/* arg of a test: DEVICE, a blank, HEAP */
static const char *parse(const char *arg, char *device, size_t size)
{
	const char *heap = strchr(arg, ' ');

	snprintf(device, size, "%.*s", (int)(heap - arg), arg);
	return heap + 1;
}

static bool same_frames(const char *arg)
{
	unsigned char *want, *saw;
	bool seen[256] = { 0 };
	size_t i, len, kinds = 0;
	const char *heap;
	char path[64];

	heap = parse(arg, path, sizeof(path));
	want = frames_of(path, NULL, &len);
	if (!want)
		return fail_at("with its own buffers");
	for (i = 0; i < 1280; i++) {
		kinds += !seen[want[i]];
		seen[want[i]] = true;
	}
	if (kinds < 6)	/* eight bars, whose colours share some bytes */
		return fail("expected a picture, saw %zu kinds of bytes at its top", kinds);
	saw = frames_of(path, heap, &len);
	if (!saw)
		return fail_at("with the heap's");
	for (i = 0; i < len && want[i] == saw[i]; i++)
		;
	if (i < len)
		return fail("expected the device's own frames, saw %#x instead of %#x at byte %zu of %zu", saw[i], want[i], i, len);
	return buffers_are(0);
}

/* 1013 pages of the system heap end in small chunks, which lie elsewhere than the large ones, but by rare chance. */
static bool refused(const char *arg)
{
	static char log[1 << 20];
	struct queue in, out;
	char path[64];
	int i, n;

	parse(arg, path, sizeof(path));
	if (!open_device(path, &in, &out) || !get_buffers(&in, "system"))
		return false;
	klogctl(5, NULL, 0);	/* forget what was before */
	for (i = 0; i < FRAMES && !enqueue(&in, i); i++)
		;
	if (i == FRAMES)
		return fail("expected VIDIOC_QBUF of a buffer in pieces to fail, saw that it took all %d", FRAMES);
	if (errno != EFAULT)
		return fail("expected VIDIOC_QBUF of a buffer in pieces to fail with EFAULT, saw %s", strerror(errno));
	n = klogctl(3, log, sizeof(log) - 1);
	log[n < 0 ? 0 : n] = '\0';
	if (!strstr(log, "contiguous chunk is too small"))
		return fail("expected the driver's reason in the kernel log, saw: %.500s", log);
	if (!put_buffers(&in))
		return false;
	close(in.dev);
	return buffers_are(0);
}

static int hold(const char *path, const char *heap)
{
	struct queue in, out;
	int i;

	why = malloc(4096);
	if (!open_device(path, &in, &out) || !get_buffers(&in, heap) || !start(&in)) {
		fprintf(stderr, "%s\n", why);
		return 1;
	}
	for (i = 0; i < FRAMES; i++) {
		munmap(in.p[i], in.len);
		close(in.buf[i]);
	}
	puts("held");
	fflush(stdout);
	for (;;)
		pause();
}

/* The tests of all devices and heaps; only counts them unless 'run' */
static int all(int argc, char **argv, bool run)
{
	bool contiguous = false;
	char prefix[128], arg[320];
	int i, j, heaps, n = 0;

	for (heaps = 1; heaps < argc && strcmp(argv[heaps], "--"); heaps++)
		;
	for (i = 1; i < heaps; i++) {
		char *device = strchr(argv[i], '=');

		if (!device)
			contiguous = true;
		for (j = heaps + 1; device && j < argc; j++, n++) {
			bool pieces = contiguous && !strcmp(argv[j], "system");

			snprintf(prefix, sizeof(prefix), "%.*s, %s", (int)(device - argv[i]), argv[i], argv[j]);
			snprintf(arg, sizeof(arg), "%s %s", device + 1, argv[j]);
			if (run)
				run_test(prefix, pieces ? "a buffer in pieces is refused" : "the device's own frames",
					 pieces ? refused : same_frames, arg);
		}
	}
	return n;
}

int main(int argc, char **argv)
{
	if (argc == 4 && !strcmp(argv[1], "--hold"))
		return hold(argv[2], argv[3]);
	tests_begin();
	ksft_set_plan(all(argc, argv, false));
	all(argc, argv, true);
	ksft_finished();
}
