# SPDX-License-Identifier: GPL-2.0
# Sourced by the shell programs of proof/: where things are, how to report, how to run a long step.
# shellcheck shell=bash disable=SC2034	# what it sets is for those that source it
set -euo pipefail
export LC_ALL=C
umask 022

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
: "${HOME:=$(getent passwd "$(id -u)" | cut -d: -f6)}"
DEFAULT_BASE=6.12
export BASE=${BASE:-$DEFAULT_BASE} HOME
CACHE=${XDG_CACHE_HOME:-$HOME/.cache}/dmabuf-heaps
SERIES=$ROOT/series/$BASE
[ -r "$SERIES/base" ] || { echo "error: no such base: series/$BASE/base" >&2; exit 1; }
# shellcheck source=series/6.12/base
. "$SERIES/base"
# Checkouts of the kernel: base without the series, series with it, tree to edit it in (checks/deep/patches has its own). What is built of
# one stands in out/NAME beside it: the compiler sees the source as ../../linux each time, and ccache finds what it compiled in another.
BUILD=$ROOT/build/$BASE
LOGS=$BUILD/log
KBASE=$BUILD/base/linux		# the git repository; the others are work trees of it
KSERIES=$BUILD/series/linux
KTREE=$BUILD/tree
JOBS=${JOBS:-$(nproc)}
mkdir -p "$LOGS" "$CACHE"

rel() { printf '%s' "${1#"$ROOT"/}"; }
say() { printf '%s\n' "$*" >&2; }	# stdout is for results
# die REASON [LOG]: one sentence, and where to look
die() {
	printf 'error: %s\n' "$1" >&2
	[ $# -eq 1 ] || printf '       log: %s\n' "$(rel "$2")" >&2
	exit 1
}
need() {
	local p
	for p; do command -v "$p" >/dev/null || die "the program '$p' is missing: run 'make deps', or install it"; done
}

# run LABEL LOG COMMAND...: runs it with its output in LOG, and shows that it moves. Returns its status.
run() {
	local label=$1 log=$2 start=$SECONDS next=15 t=0 rc=0 tty=0
	shift 2
	if [ -t 2 ] && [ "${TERM:-dumb}" != dumb ]; then tty=1; fi
	mkdir -p "${log%/*}"
	( "$@" ) >"$log" 2>&1 </dev/null &
	local pid=$!
	RUN_PIDS+=("$pid")
	while sleep "$((t > 5)).2"; kill -0 "$pid" 2>/dev/null; do	# 0.2 seconds at first, then 1.2: a look costs processor time
		t=$((SECONDS - start))
		if [ $tty -eq 1 ]; then
			printf '\r\033[K  %s  %d:%02d  %d lines' "$label" $((t / 60)) $((t % 60)) "$(wc -l <"$log")" >&2
		elif [ $t -ge $next ]; then
			say "  $label  $((t / 60)):$(printf %02d $((t % 60)))  $(wc -l <"$log") lines"
			next=$((t + 15))
		fi
	done
	wait "$pid" || rc=$?
	t=$((SECONDS - start))
	[ $tty -eq 0 ] || printf '\r\033[K' >&2
	say "  $label  $((t / 60)):$(printf %02d $((t % 60)))  $([ $rc -eq 0 ] && echo "done" || echo FAILED)"
	return $rc
}
# try: as run, but a failure ends the program with its reason
try() {
	local label=$1 log=$2 reason
	run "$@" || {
		reason=$(grep -aiE '^E: |(^|[^a-z_-])(error|fatal|undefined|cannot|failed|no space left|refused)\b' "$log" |
			grep -avE '^make(\[[0-9]+\])?: \*\*\*.*(Error [0-9]+|Waiting)' | head -n 1 | cut -c1-200 || true)
		die "$label failed${reason:+: $reason}" "$log"
	}
}
# What this program started ends with it, and everything below.
RUN_PIDS=()
kill_tree() {
	local c
	for c in $(ps -o pid= --ppid "$1" 2>/dev/null); do kill_tree "$c"; done
	kill "$1" 2>/dev/null || true
}
cleanup() {
	local p
	for p in "${RUN_PIDS[@]}"; do ! kill -0 "$p" 2>/dev/null || kill_tree "$p"; done
	[ -z "${TMP:-}" ] || rm -rf "$TMP"
}
trap cleanup EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
# TMP goes when the program ends
make_tmp() { TMP=$(mktemp -d "$BUILD/${0##*/}.XXXXXX") || die "cannot make a directory in $(rel "$BUILD")"; }

# with_lock NAME: until the program ends; a second one waits
with_lock() {
	local fd
	exec {fd}>"$BUILD/lock.$1"
	flock -n "$fd" || { say "  waiting for another run that holds $(rel "$BUILD/lock.$1")"; flock "$fd"; }
}
host_arch() { case $(uname -m) in aarch64) echo arm64 ;; *) uname -m ;; esac; }
cross_prefix() { # of the compiler for ARCH
	local a=${1/i386/x86_64}
	case $a in
	um | "$(host_arch)") ;;
	arm64) echo aarch64-linux-gnu- ;;
	arm) echo arm-linux-gnueabihf- ;;
	x86_64 | riscv64 | s390x) echo "$a-linux-gnu-" ;;
	*) die "unknown architecture '$a'" ;;
	esac
}
# use_kernel NAME: what proof/kernels/NAME says, in arch, fragments, unpatched, options (memory and timeout are for boot); and where it is
use_kernel() {
	[ -r "$ROOT/proof/kernels/$1" ] && [[ $1 != *.config ]] ||
		die "no such kernel: '$1'; there are: $(cd "$ROOT/proof/kernels" && find . -type f ! -name "*.config" -printf "%f " | xargs)"
	arch='' fragments='' unpatched='' options=''
	# shellcheck disable=SC1090
	. "$ROOT/proof/kernels/$1"
	src=$KSERIES
	[ -z "$unpatched" ] || src=$KBASE
	out=${src%/linux}/out/$1
}

# For checks, which print TAP. result NAME [COMPLAINTS]: ok without complaints
TESTS=0 BAD=0
result() {
	TESTS=$((TESTS + 1))
	if [ -z "${2:-}" ]; then echo "ok $TESTS - $1"; return; fi
	BAD=$((BAD + 1))
	echo "not ok $TESTS - $1: $({ grep -m 1 '^error: ' <<<"$2" || head -n 1 <<<"$2"; } | tr '#' ' ')$(n=$(wc -l <<<"$2"); [ "$n" -eq 1 ] || echo " (and $((n - 1)) more)")"
	head -n 40 <<<"$2" | sed 's/^/#   /'
}
# pass_on BEFORE: the tests of another program, whose TAP comes in with its plan, become ours, with BEFORE before their names
pass_on() {
	local line plan=''
	while IFS= read -r line; do
		case $line in 1..*) plan=$line; continue ;; ok\ * | not\ ok\ *) TESTS=$((TESTS + 1)); [[ $line = ok* ]] || BAD=$((BAD + 1)) ;; esac
		[[ ! $line =~ ^((not )?ok)\ [0-9]+\ -\ (.*) ]] || line="${BASH_REMATCH[1]} $TESTS - $1${BASH_REMATCH[3]}"
		echo "$line"
	done
	[ -n "$plan" ] || result "$1plan" 'what should have printed tests did not get to its end'
}
# check NAME FUNCTION: what the function prints is what it complains of, and it must not fail. CHECK=NAME: only that one
check() {
	local out rc=0
	[ "${CHECK:-$1}" = "$1" ] || return 0
	set +e	# not in a condition: a command that fails in the function must end it
	out=$(set -e; "$2" 2>&1 </dev/null)
	rc=$?
	set -e
	[ $rc -eq 0 ] || out+="${out:+$'\n'}the check itself failed, with status $rc"
	result "$1" "$out"
}
done_testing() { [ $TESTS -gt 0 ] || die "no check is called ${CHECK:-}"; echo "1..$TESTS"; [ $BAD -eq 0 ]; exit; }
