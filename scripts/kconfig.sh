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

# guest_fragments ARCH CONFIG: those of a guest's kernel
guest_fragments() {
	case $2 in
	m) fragment_files "$1" common "$1" heaps-m tests ;;
	y) fragment_files "$1" common "$1" heaps-y ;;
	debug) fragment_files "$1" common "$1" heaps-m tests debug ;;
	of) fragment_files "$1" common "$1" heaps-m tests of ;;
	# the unpatched kernel has no heaps that only this architecture has
	base) printf '%s\n' "$ROOT"/kconfig/{common,"$1",heaps-y}.config ;;
	*) die "unknown configuration '$2': m, y, debug, of and base are known" ;;
	esac
}

# copy_build FROM OUT SOURCE: OUT becomes a copy of the build in FROM, for a build of SOURCE. The commands
# on record have absolute paths: unless they change, too, all is made again (those of ccache for the
# tools are relative).
copy_build() {
	local from name
	from=$(readlink -f "$1")
	name=${from##*/}
	mkdir -p "$2" &&
		cp -a "$from/." "$2" &&
		rm -rf "$2"/{built.stamp,guest.stamp,steps,mods,guest.cpio,guest-modules} &&
		find "$2" -name '.*.cmd' -exec sed -i \
			"s|$from/|$2/|g; s|$K_LINUX\>|$3|g; s|$K_BASE\>|$3|g; s|\(\.\./\)\+out/$name/tools/|$2/tools/|g" {} +
}

# configure SOURCE OUT ARCH FRAGMENT...: what the kernel's tinyconfig says, then the fragments; what they
# do not name is off. (tinyconfig and merge_config.sh would run Kconfig three times, which takes 7 s
# and not 2, and turn on each default that a fragment brings into sight.)
# Joined by &&: 'set -e' has no effect in a function whose status is looked at.
configure() {
	local src=$1 out=$2 arch=$3 dir f tiny=()
	shift 3
	case $arch in i386 | x86_64) dir=x86 ;; *) dir=$arch ;; esac
	for f in "$src"/kernel/configs/tiny{-base,}.config "$src/arch/$dir/configs/tiny.config"; do
		[ ! -e "$f" ] || tiny+=("$f")
	done
	cat -- "${tiny[@]}" "$@" >"$out/fragments.config" &&
		KCONFIG_ALLCONFIG="$out/fragments.config" kmake "$src" "$out" "$arch" allnoconfig
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
