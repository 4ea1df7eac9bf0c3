# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=sh
# Sourced by the 'run' of scenarios on Debian. 'tests' runs the functions test_NAME of the file, one after the other, each in a
# shell of its own, and says in TAP how they went; what a test prints shows when it fails. The first command that fails ends it.
tests() {
	names=$(sed -n 's/^test_\([a-z0-9_]*\)() {.*/\1/p' "$0")
	number=0
	echo "TAP version 13"
	echo "1..$(echo "$names" | wc -l)"
	for name in $names; do
		number=$((number + 1))
		set +e	# not in a condition: a command that fails in the function must end it
		# what it leaves in the background goes with it
		(trap '[ -z "$!" ] || kill -KILL $! 2>/dev/null || true' EXIT; set -ex; "test_$name") >/tmp/test.log 2>&1
		status=$?
		set -e
		if [ $status -eq 0 ]; then
			echo "ok $number - $name"
		else
			tail -n 60 /tmp/test.log | tr -d '\000\r' | sed 's/^/#   /'
			echo "not ok $number - $name"
		fi
	done
}

# refused MESSAGE COMMAND...: it fails, and says so
refused() {
	message=$1
	shift
	if "$@" >/tmp/refused.log 2>&1; then echo "it was not refused: $*"; return 1; fi
	cat /tmp/refused.log
	grep -q -e "$message" /tmp/refused.log
}
# soon COMMAND...: it succeeds within two minutes
soon() {
	for _ in $(seq 600); do if "$@" >/dev/null 2>&1; then return; fi; sleep 0.2; done
	"$@"
}
buffers() { sed -n 's/^Total \([0-9]*\) objects.*/\1/p' /sys/kernel/debug/dma_buf/bufinfo; }
# what is loaded and who may use it, with the files of dist/
heaps() { systemctl restart systemd-modules-load.service && udevadm settle; }
no_heaps() { modprobe -r system_heap cma_heap && udevadm settle; }
