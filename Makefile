# SPDX-License-Identifier: GPL-2.0
# The verbs. Each is a program in proof/bin, which says more about itself.
#
#   BASE=6.12           which series, and the kernel that it is for
#   ARCH=arm64|x86_64   architecture of the guest, for demo and shell; of the packages, for deb (the host's if it is not given)
#   KERNEL_SRC=/path    a kernel tree to use (it is only read) instead of Debian's package
#   UPDATE=1            fetch Debian's newest package, whatever kernel was fetched before
#   BUSYBOX=/path       a static busybox for the guests, where there is no Debian mirror
#   JOBS=N              how many compilers and guests at a time
#   CONFIG=/path        deb: a configuration of yours, such as /boot/config-6.12.48+deb13-amd64
#   ONLY=REGEX          check, deep, coverage and mutate: only what matches, such as 'coherent' or 'arm64-m'
#   MINUTES=N           soak: for how long
#   BAND=N, SIGN=1      mbox: which part of the series; add your Signed-off-by

BASE ?= 6.12
export BASE KERNEL_SRC JOBS UPDATE BUSYBOX SIGN
MAKEFLAGS += --no-print-directory
P := proof/bin
B := build/$(BASE)

.PHONY: help demo check deep bench deb coverage mutate soak lint deps tree export mbox shell clean distclean FORCE

help:	## this list
	@echo 'make VERB [BASE=6.12] [ARCH=arm64|x86_64] [KERNEL_SRC=/path/to/linux] [JOBS=N] [ONLY=REGEX]'
	@echo
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/  \1	\2/p' $(MAKEFILE_LIST) | expand -t 14

demo: deps	## build the kernel with the series, boot it in QEMU, allocate from every heap
	@$P/demo $(or $(ARCH),arm64)

check: deps	## run the tests (more than an hour the first time)
	@$P/check '$(value ONLY)'

others := gcc-arm-linux-gnueabihf libc6-dev-armhf-cross gcc-riscv64-linux-gnu libc6-dev-riscv64-cross gcc-s390x-linux-gnu qemu-system-misc opensbi

deep: deps	## the tests that take too long for check: each patch by itself, other machines, costs against an unpatched kernel, and more
	@$P/deps $(others) clang
	@$P/check --deep '$(value ONLY)'

bench:	## measure what buffers cost, without and with the series, into docs/speed/BASE (half an hour and more)
	@$P/deps python3-matplotlib
	@$P/bench

deb: deps	## Debian packages of a kernel with the series, in build/BASE/deb: a small one (minutes), or with CONFIG=/boot/config-... yours (hours)
	@$P/deps debhelper dpkg-dev libdw-dev
	@$P/package '$(ARCH)' '$(CONFIG)'

coverage: deps	## which of the lines that the series adds the tests execute: boots most scenarios on a kernel that counts (ONLY=REGEX)
	@$P/deps lcov
	@$(MAKE) $B/series/out/arm64-coverage/guest.cpio
	@$P/coverage '$(value ONLY)'

soak: deps	## heaps in use for MINUTES (60), with CPUs that go, suspends (not of 7.3), swap and unloads: nothing is lost
	@$P/soak $(MINUTES)

mutate: deps	## break the patched kernel in the ways of proof/mutants, and see a test fail each time (hours; ONLY=REGEX)
	@$P/deps $(others)
	@$P/mutate '$(value ONLY)'

lint: deps	## the repository's own form: programs, words, exported files, tests of the harness
	@$P/check 'checks/(lint|harness|deps)$$'

deps:	## install the Debian packages that the verbs need
	@$P/deps

tree: deps	## the series as git commits in build/BASE/tree, for editing
	@$P/tree

export: deps	## write these commits back to series/BASE and to the files at the top
	@$P/export

mbox: deps	## BAND=2: part 2 of the cover letter, or without BAND= all, for git send-email; SIGN=1: with your Signed-off-by
	@$P/mbox $(BAND)

shell: deps	## an interactive shell in the guest
	@$P/boot $(or $(ARCH),arm64)-m --scenario demo --shell

clean:	## remove what was built; sources and the tree for editing stay
	rm -rf $B/*/out $B/patches $B/log $B/mutate $B/deb $B/coverage $B/mbox $B/boot.*

distclean:	## remove build/, unless a tree for editing has work that was not exported
	@$P/distclean

# What is built, and of what. make looks at times; the programs do nothing where nothing has changed.
$B/source: series/$(BASE)/base $(if $(KERNEL_SRC)$(UPDATE),FORCE)
	@$P/fetch
$B/applied: $B/source series/$(BASE)/series $(wildcard series/$(BASE)/*.patch)
	@$P/apply
common := $(wildcard proof/kernels/*.config) $P/build $P/configure $P/kmake
guest := $(wildcard proof/guest/*.[ch] proof/guest/modules/*.[ch] proof/guest/debian/* dist/*/*) proof/guest/once $P/image
.SECONDARY:
$B/series/out/%/built: proof/kernels/% $(common) $B/applied
	@$P/build $* && touch $@
$B/base/out/%/built: proof/kernels/% $(common) $B/source
	@$P/build $* && touch $@
$B/%/guest.cpio: $B/%/built $B/applied $(guest)
	@$P/image $(notdir $*)
