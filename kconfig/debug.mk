# SPDX-License-Identifier: GPL-2.0
# For the kernel's make of a debug kernel, in every directory (by MAKEFILES): KASAN checks the code that
# heaps, buffers and their devices pass through. It does not where none of these is touched, which takes
# its time to compile and to run: lockdep's and debugobjects' own tables, the scheduler, clocks,
# drivers of the machine, the page cache, paths and programs.
KASAN_SANITIZE_lockdep.o := n
KASAN_SANITIZE_debugobjects.o := n
ifneq ($(filter arch/% drivers/char drivers/clk drivers/clk/% drivers/irqchip drivers/pci drivers/pci/% \
	drivers/tty drivers/tty/% drivers/video drivers/virtio fs fs/proc fs/ramfs init kernel kernel/futex \
	kernel/irq kernel/printk kernel/rcu kernel/sched kernel/time kernel/trace lib lib/crypto lib/math mm,$(obj)),)
KASAN_SANITIZE := n
endif
# but for these: files and what maps them, memory that is charged, what is put off and done later,
# and what objects are made of
kasan-fs := anon_inodes char_dev dcache eventpoll file file_table inode ioctl libfs open select super
kasan-kernel := exit fork kthread notifier params resource task_work workqueue
kasan-lib := cmdline debug_locks devres genalloc idr iov_iter kasprintf klist kobject kobject_uevent kstrtox \
	list_debug list_sort llist lockref percpu-refcount radix-tree rbtree refcount scatterlist string \
	string_helpers usercopy xarray
kasan-mm := cma dmapool gup memcontrol memory mmap mprotect mremap page_alloc page_counter util vma vmalloc
$(foreach o,$(kasan-$(obj)),$(eval KASAN_SANITIZE_$(o).o := y))
