# SPDX-License-Identifier: GPL-2.0
# The verbs. Each is a script in scripts/, which says more about itself.
#
#   ARCH=arm64|x86_64   architecture of the guest, for demo and shell
#   KERNEL_SRC=/path    a kernel tree to use (it is only read) instead of Debian's package
#   JOBS=N              how many compilers at a time
#   ONLY=REGEX          check: only the guest runs whose name matches

ARCH ?= arm64
export KERNEL_SRC JOBS UPDATE
MAKEFLAGS += --no-print-directory

.PHONY: help demo check stress lint deps tree export shell clean distclean

help:	## this list
	@echo 'make VERB [ARCH=arm64|x86_64] [KERNEL_SRC=/path/to/linux] [JOBS=N]'
	@echo
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/  \1	\2/p' $(MAKEFILE_LIST) | expand -t 14

demo: deps	## build the kernel with the series, boot it in QEMU, allocate from every heap
	@scripts/demo $(ARCH)

check: deps	## run all the tests (35 to 45 minutes the first time, then under ten)
	@scripts/check '$(value ONLY)'

stress: deps	## the tests that take too long for check: 10,000 unloads in a race, and more
	@scripts/check --stress

lint: deps	## the checks that need no kernel build
	@scripts/lint

deps:	## install the Debian packages that the verbs need
	@scripts/deps

tree: deps	## the series as git commits in build/tree, for editing
	@scripts/tree

export: deps	## write the commits of build/tree back to patches/ and to the files at the top
	@scripts/export

shell: deps	## an interactive shell in the guest
	@scripts/shell $(ARCH)

clean:	## remove what was built; sources and build/tree stay
	rm -rf build/out build/pp build/log

distclean:	## remove build/, unless build/tree has work that was not exported
	@scripts/distclean
