# SPDX-License-Identifier: GPL-2.0
# For the kernel's make of a debug kernel, in every directory (by MAKEFILES): KASAN checks the code that
# heaps, buffers and their devices pass through. It does not where none of these is touched, which takes
# its time to compile and to run: lockdep's and debugobjects' own tables, the scheduler, clocks,
# drivers of the machine.
KASAN_SANITIZE_lockdep.o := n
KASAN_SANITIZE_debugobjects.o := n
ifneq ($(filter arch/% drivers/char drivers/clk drivers/clk/% drivers/irqchip drivers/tty drivers/tty/% drivers/video \
	fs/proc kernel/futex kernel/irq kernel/printk kernel/rcu kernel/sched kernel/time lib/crypto lib/math,$(obj)),)
KASAN_SANITIZE := n
endif
