// SPDX-License-Identifier: GPL-2.0
/*
 * What it costs to find a heap by its name.
 *
 *	modprobe heap_lookup heaps=128 [prefix=heap-]
 *
 * registers so many heaps, PREFIX0 and on, or as many as there is room for. Reading a file in
 * /sys/kernel/debug/heap_lookup then measures:
 *
 *	cost		one lookup after the other, with the dma_heap_put():
 *			lookup HEAPS first|last|miss NANOSECONDS
 *	concurrent	for 0.4 s each on 1, 2, 4 CPUs and on all, a thread on each that looks
 *			up the last heap over and over:
 *			concurrent HEAPS CPUS LOOKUPS-PER-SECOND NANOSECONDS LEAST MOST WRONG
 *			where NANOSECONDS is what a thread waits for a lookup; LEAST and MOST are
 *			the lookups of a thread, and WRONG those that did not find the heap
 *
 * "first" and "last" are the heaps' places in the class: the oldest comes first.
 * In a guest whose clock counts instructions, a nanosecond is one.
 */
#include <linux/cpu.h>
#include <linux/debugfs.h>
#include <linux/delay.h>
#include <linux/dma-heap.h>
#include <linux/err.h>
#include <linux/kthread.h>
#include <linux/ktime.h>
#include <linux/math64.h>
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/sched.h>
#include <linux/seq_file.h>

#define MAX_HEAPS	128
#define NAME_SIZE	256
#define LOOKUPS		64	/* at a time: a clock may count 16 ns at once */
#define BATCHES		50
#define SEARCH_MS	400

static unsigned int heaps = MAX_HEAPS;
module_param(heaps, uint, 0444);
MODULE_PARM_DESC(heaps, "How many heaps to register (default: 128)");

static char *prefix = "heap-";
module_param(prefix, charp, 0444);
MODULE_PARM_DESC(prefix, "How their names start (default: heap-)");

static struct dma_heap *registered[MAX_HEAPS];
static unsigned int count;
static struct dentry *dir;
static DEFINE_MUTEX(busy);	/* one measurement at a time */

struct searcher {
	struct task_struct *task;
	const char *name;
	u64 found, wrong, ns;
};

static struct searcher searchers[NR_CPUS];

/* Finds the heap, or does not, just as it should be. */
static bool lookup(const char *name, struct dma_heap *want)
{
	struct dma_heap *heap = dma_heap_find_by_name(name);

	dma_heap_put(heap);
	return heap == want;
}

/* The least of many, in 1/LOOKUPS ns: a batch that no interrupt met */
static u64 least(const char *name, struct dma_heap *want, unsigned int *wrong)
{
	u64 start, took, min = U64_MAX;
	int i, j;

	for (i = 0; i < BATCHES; i++) {
		start = ktime_get_ns();
		for (j = 0; j < LOOKUPS; j++)
			*wrong += !lookup(name, want);
		took = ktime_get_ns() - start;
		if (took < min)
			min = took;
		cond_resched();
	}
	return min;
}

static int cost_show(struct seq_file *s, void *unused)
{
	char miss[NAME_SIZE];
	const struct {
		const char *what, *name;
		struct dma_heap *heap;
	} cases[] = {
		{ "first", dma_heap_get_name(registered[0]), registered[0] },
		{ "last", dma_heap_get_name(registered[count - 1]), registered[count - 1] },
		{ "miss", miss, NULL },
	};
	unsigned int i, wrong = 0;
	u64 ns;

	guard(mutex)(&busy);

	snprintf(miss, sizeof(miss), "%snone", prefix);
	for (i = 0; i < ARRAY_SIZE(cases); i++) {
		ns = least(cases[i].name, cases[i].heap, &wrong);
		seq_printf(s, "lookup %u %s %llu\n", count, cases[i].what,
			   div_u64(ns, LOOKUPS));
	}
	if (wrong)
		seq_printf(s, "wrong %u\n", wrong);
	return 0;
}
DEFINE_SHOW_ATTRIBUTE(cost);

static int search(void *data)
{
	struct searcher *me = data;
	u64 start = ktime_get_ns();

	while (!kthread_should_stop()) {
		if (lookup(me->name, registered[count - 1]))
			me->found++;
		else
			me->wrong++;
		cond_resched();
	}
	me->ns = ktime_get_ns() - start;
	return 0;
}

/* Lets a thread on each of the first CPUs search for a while. */
static int search_on(struct seq_file *s, unsigned int cpus)
{
	u64 found = 0, wrong = 0, ns = 0, min = U64_MAX, max = 0;
	unsigned int cpu, n = 0;
	struct searcher *t;
	int ret = 0;

	for_each_online_cpu(cpu) {
		if (n == cpus)
			break;
		t = &searchers[n];
		*t = (struct searcher){ .name = dma_heap_get_name(registered[count - 1]) };
		t->task = kthread_create_on_cpu(search, t, cpu, "heap_lookup/%u");
		if (IS_ERR(t->task)) {
			ret = PTR_ERR(t->task);
			break;
		}
		n++;
	}
	for (t = searchers; t < searchers + n; t++)
		wake_up_process(t->task);
	if (!ret)
		msleep(SEARCH_MS);
	for (t = searchers; t < searchers + n; t++) {
		kthread_stop(t->task);
		found += t->found;
		wrong += t->wrong;
		ns += t->ns;
		min = min(min, t->found);
		max = max(max, t->found);
	}
	if (ret)
		return ret;
	seq_printf(s, "concurrent %u %u %llu %llu %llu %llu %llu\n", count, n,
		   div64_u64(found * NSEC_PER_SEC, max(div_u64(ns, n), 1ULL)),
		   div64_u64(ns, max(found, 1ULL)), min, max, wrong);
	return 0;
}

static int concurrent_show(struct seq_file *s, void *unused)
{
	unsigned int all, n;
	int ret = 0;

	guard(mutex)(&busy);
	guard(cpus_read_lock)();

	all = num_online_cpus();
	for (n = 1; !ret && n < all; n *= 2)
		ret = search_on(s, n);
	return ret ?: search_on(s, all);
}
DEFINE_SHOW_ATTRIBUTE(concurrent);

static struct dma_buf *no_memory(struct dma_heap *heap, unsigned long len,
				 u32 fd_flags, u64 heap_flags)
{
	return ERR_PTR(-ENOMEM);
}

static const struct dma_heap_ops ops = {
	.allocate = no_memory,
};

static int __init heap_lookup_init(void)
{
	unsigned int want = min(heaps, MAX_HEAPS);
	struct dma_heap *heap;
	char name[NAME_SIZE];

	while (count < want) {
		struct dma_heap_export_info exp_info = {
			.name = name,
			.ops = &ops,
		};

		snprintf(name, sizeof(name), "%s%u", prefix, count);
		heap = dma_heap_add(&exp_info);
		if (IS_ERR(heap))
			break;
		registered[count++] = heap;
	}
	/* with one that is registered, it is too late to fail */
	if (!count)
		return -ENODEV;

	dir = debugfs_create_dir("heap_lookup", NULL);
	debugfs_create_file("cost", 0400, dir, NULL, &cost_fops);
	debugfs_create_file("concurrent", 0400, dir, NULL, &concurrent_fops);
	return 0;
}
module_init(heap_lookup_init);

static void __exit heap_lookup_exit(void)
{
	debugfs_remove(dir);
	while (count)
		dma_heap_remove(registered[--count]);
}
module_exit(heap_lookup_exit);

MODULE_DESCRIPTION("Measures the lookup of DMA-BUF heaps");
MODULE_LICENSE("GPL");
MODULE_INFO(import_ns, "DMA_BUF_HEAP"); /* as MODULE_IMPORT_NS(), whose argument differs in 7.3 */
