# SPDX-License-Identifier: GPL-2.0
# Sourced after lib.sh: from a list of fragments to a kernel configuration.
# shellcheck shell=bash

# fragment_files ARCH NAME...: the files of these fragments, each with the one that only ARCH has, if any
fragment_files() {
	local arch=$1 f
	shift
	for f; do
		echo "$ROOT/kconfig/$f.config"
		[ ! -e "$ROOT/kconfig/$arch-$f.config" ] || echo "$ROOT/kconfig/$arch-$f.config"
	done
}

# configure SOURCE OUT ARCH FRAGMENT...: tinyconfig plus the fragments.
# Joined by &&: 'set -e' has no effect in a function whose status is looked at.
configure() {
	local src=$1 out=$2 arch=$3
	shift 3
	kmake "$src" "$out" "$arch" tinyconfig &&
		(cd "$out" && "$src/scripts/kconfig/merge_config.sh" -m -O . .config "$@") &&
		kmake "$src" "$out" "$arch" olddefconfig
}

# refused OUT FRAGMENT...: prints every line of the fragments that did not take effect;
# where two fragments differ, the last one counts.
refused() {
	local out=$1
	shift
	awk '/^CONFIG_[A-Za-z0-9_]*=/ {
			s = substr($0, 1, index($0, "=") - 1)
			if (FILENAME == config) got[s] = $0; else want[s] = $0
		}
		END {
			for (s in want)
				if ((s in got ? got[s] : s "=n") != want[s])
					print want[s] " (is " (s in got ? got[s] : "not set") ")"
		}' config="$out/.config" "$@" "$out/.config" | sort
}
