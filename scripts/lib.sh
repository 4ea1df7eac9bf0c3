# SPDX-License-Identifier: GPL-2.0
# Sourced by every script: where things are, how to speak, how to run a long step.
# shellcheck shell=bash

set -euo pipefail
export LC_ALL=C
umask 022

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
BUILD=$ROOT/build
LOGS=$BUILD/log
: "${HOME:=$(getent passwd "$(id -u)" | cut -d: -f6)}"
export HOME
CACHE=${XDG_CACHE_HOME:-$HOME/.cache}/dmabuf-heaps
BASE=${BASE:-6.12}
[ -r "$ROOT/bases/$BASE.env" ] || { echo "error: no such base: bases/$BASE.env" >&2; exit 1; }
# shellcheck source=bases/6.12.env
. "$ROOT/bases/$BASE.env"

KGIT=$BUILD/kernel.git		# the source, and the series on top, as git objects
# A source stands as ../../linux from each of its out directories, out/NAME: the compiler
# sees the same relative paths for all of them, and ccache finds what another one compiled.
K_LINUX=$BUILD/linux		# work tree with patches/$BASE applied
K_BASE=$BUILD/base/linux	# work tree without the series
K_TREE=$BUILD/tree		# work tree for people: make tree, edit, make export
JOBS=${JOBS:-$(nproc)}
NAME=${0##*/}

mkdir -p "$BUILD" "$LOGS" "$CACHE"

# A path as a person should read it: relative to the repository.
rel() { printf '%s' "${1#"$ROOT"/}"; }

is_tty() { [ -t 2 ] && [ "${TERM:-dumb}" != dumb ]; }

# Progress and remarks go to stderr, so that stdout stays for results.
say() { printf '%s\n' "$*" >&2; }
# die REASON [LOG]: one sentence, and where to look
die() {
	printf 'error: %s\n' "$1" >&2
	if [ $# -gt 1 ]; then printf '       log: %s\n' "$(rel "$2")" >&2; fi
	exit 1
}

need() {
	local p
	for p; do
		command -v "$p" >/dev/null || die "the program '$p' is missing: run 'make deps', or install it"
	done
}

elapsed() { printf '%d:%02d' $((($1) / 60)) $((($1) % 60)); }

# The last lines of a log that say why something failed.
why() {
	grep -aiE '^E: |(^|[^a-z_-])(error|fatal|undefined|cannot|failed|no space left|refused)\b' "$1" 2>/dev/null |
		grep -avE '^make(\[[0-9]+\])?: \*\*\*.*(Error [0-9]+|Waiting)' | head -n 1 | cut -c1-200
}

# run LABEL LOG [COUNT TOTAL] -- COMMAND...
# Runs COMMAND with its output in LOG, and shows LABEL, the elapsed time and, with a
# COUNT (an extended regex for the log lines that are steps) and the usual TOTAL, how
# far it is. Returns the command's status; says nothing more when it fails.
run() {
	local label=$1 log=$2 count='' total=0 start pid rc n shown=0 t step=15 tick=0
	shift 2
	if [ "$1" != -- ]; then count=$1 total=$2; shift 2; fi
	shift
	mkdir -p "$(dirname "$log")"
	start=$SECONDS
	( "$@" ) >"$log" 2>&1 </dev/null &
	pid=$!
	RUN_PIDS+=("$pid")
	while kill -0 "$pid" 2>/dev/null; do
		sleep 0.25
		tick=$((tick + 1))
		[ $((tick % 4)) -eq 0 ] || continue
		t=$((SECONDS - start))
		[ -z "$count" ] || n=$(grep -acE "$count" "$log" 2>/dev/null || true)
		if is_tty; then
			printf '\r\033[K  %s  %s%s' "$label" "$(elapsed $t)" \
				"${count:+  $n of about $total steps}" >&2
			shown=1
		elif [ $((t)) -ge $step ]; then
			say "  $label  $(elapsed $t)${count:+  $n of about $total steps}"
			step=$((t + 15))
		fi
	done
	rc=0
	wait "$pid" || rc=$?
	[ $shown -eq 0 ] || printf '\r\033[K' >&2
	t=$((SECONDS - start))
	if [ $rc -eq 0 ]; then say "  $label  $(elapsed $t)  done"; else say "  $label  $(elapsed $t)  FAILED"; fi
	return $rc
}
RUN_PIDS=()

# try LABEL LOG ... as run, but a failure ends the script with its reason.
try() {
	local log=$2 label=$1 reason
	run "$@" || {
		reason=$(why "$log" || true)
		die "$label failed${reason:+: $reason}" "$log"
	}
}

# Ends the processes that this script started, and everything below them.
kill_tree() {
	local c
	for c in $(ps -o pid= --ppid "$1" 2>/dev/null); do kill_tree "$c"; done
	kill "$1" 2>/dev/null || true
}
cleanup_runs() {
	local p
	for p in "${RUN_PIDS[@]:-}"; do
		[ -z "$p" ] || ! kill -0 "$p" 2>/dev/null || kill_tree "$p"
	done
}
trap cleanup_runs EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

# stamped FILE KEY: true when FILE says KEY
stamped() { [ -r "$1" ] && [ "$(cat "$1")" = "$2" ]; }
stamp() { printf '%s\n' "$2" >"$1.tmp"; mv "$1.tmp" "$1"; }
hash_files() { cat -- "$@" | sha256sum | cut -c1-16; }

# base_worktree PATH: makes it a work tree of 'base'. Its files are links to those of build/base/linux, as writing
# 80000 files takes half a minute. Git replaces a file and never writes into it; who edits does it in build/tree.
base_worktree() {
	rm -rf "$1" "$1.new"
	mkdir -p "$1.new" "${1%/*}"
	git -C "$KGIT" worktree prune
	if find "$K_BASE" -mindepth 1 -maxdepth 1 ! -name .git -print0 | xargs -0 cp -al -t "$1.new"; then
		git -C "$KGIT" -c core.hooksPath=/dev/null worktree add -q -f -f --no-checkout --detach "$1" base &&
			cp "$(git -C "$K_BASE" rev-parse --git-path index)" "$(git -C "$1" rev-parse --git-path index)" &&
			mv "$1/.git" "$1.new/" && rmdir "$1" && mv "$1.new" "$1"
	else	# a file system without links
		rm -rf "$1.new"
		git -C "$KGIT" -c core.hooksPath=/dev/null worktree add -q -f -f --detach "$1" base
	fi
}

# unknown_splats: filters a guest's console. A warning, from 'cut here' to 'end trace', goes if its first line
# matches one in the file SPLATS_KNOWN; everything else stays.
unknown_splats() {
	awk -v known="${SPLATS_KNOWN:-/dev/null}" '
		BEGIN { while ((getline l <known) > 0) if (l !~ /^(#|$)/) re[l] }
		/\[ cut here \]/ && !n { kept = $0; n = 1; next }
		n == 1 {
			drop = 0
			for (r in re) if ($0 ~ r) drop = 1
			if (!drop) { print kept; print; n = 0; next }
		}
		n { kept = kept ORS $0; if (/---\[ end trace /) n = 0; else if (++n > 100) { print kept; n = 0 }; next }
		{ print }
		END { if (n) print kept }'
}

# with_lock NAME: holds build/lock.NAME until the script ends, so that two verbs at once wait for each other
with_lock() {
	local fd
	exec {fd}>"$BUILD/lock.$1"
	flock -n "$fd" || { say "  waiting for another run that holds $(rel "$BUILD/lock.$1")"; flock "$fd"; }
}

# host architecture in kernel terms; and the compiler prefix for ARCH
host_arch() { case $(uname -m) in x86_64) echo x86_64 ;; aarch64) echo arm64 ;; *) uname -m ;; esac; }
cross_prefix() {
	[ "$1" = i386 ] && set -- x86_64
	[ "$1" = "$(host_arch)" ] && return 0
	case $1 in
	arm64) echo aarch64-linux-gnu- ;;
	x86_64) echo x86_64-linux-gnu- ;;
	*) die "unknown architecture '$1': arm64 and x86_64 are known" ;;
	esac
}
check_arch() { case $1 in arm64 | x86_64) ;; *) die "unknown architecture '$1': arm64 and x86_64 are known" ;; esac; }

# Compilers go through ccache, shared by every clone and every build of the same user.
use_ccache() {
	export CCACHE_DIR=$CACHE/ccache CCACHE_BASEDIR=$ROOT CCACHE_NOHASHDIR=1 CCACHE_MAXSIZE=8G
	export CCACHE_COMPILERCHECK=content CCACHE_SLOPPINESS=time_macros
	# what is not there is compiled and not preprocessed first, which saves a quarter of a cold build
	export CCACHE_DEPEND=1
	# it names the work tree's absolute path, and maps nothing: CCACHE_BASEDIR made the paths relative
	export CCACHE_IGNOREOPTIONS='-fmacro-prefix-map=*'
	export KBUILD_BUILD_TIMESTAMP='1970-01-01' KBUILD_BUILD_USER=dmabuf-heaps KBUILD_BUILD_HOST=localhost KBUILD_BUILD_VERSION=1
}

# kmake SOURCE OUT ARCH ARGS...: make in a kernel tree
kmake() {
	local src=$1 out=$2 arch=$3 cross
	shift 3
	cross=$(cross_prefix "$arch")
	# Kconfig asks python3 each time: the system's own is at hand, where a shim would take half a second
	if [ -x /usr/bin/python3 ]; then set -- PYTHON3=/usr/bin/python3 "$@"; fi
	make -C "$src" O="$out" ARCH="$arch" CROSS_COMPILE="$cross" CC="ccache ${cross}gcc" \
		HOSTCC="ccache gcc" -j"$JOBS" "$@"
}
