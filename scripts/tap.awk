# SPDX-License-Identifier: GPL-2.0
# Reads test output in TAP or KTAP, for scripts/verdict. Levels nest by indentation, or by
# '# ' as the kselftest runner does; several streams may follow each other. Prints
# 'P problem' lines and, last, 'N passed skipped'. Plain POSIX awk.
#
# Names: a result is known by its own name, and by that of each test around it with a dot
# between: case, suite.case. SEP joins the parts until a stream has been read.

function problem(text) { print "P " text }

function trim(s) { sub(/^[ \t]+/, "", s); sub(/[ \t]+$/, "", s); return s }

function dotted(path) { gsub(SEP, ".", path); return path }

function read_list(file, is_skips, line, at) {
	while ((getline line < file) > 0) {
		sub(/\r$/, "", line)
		if (line ~ /^[ \t]*(#|$)/) continue
		if (is_skips) {
			at = match(line, /[^ \t](\t|  )/)
			listed[trim(substr(line, 1, at))] = 1
		} else {
			wanted[++nwanted] = trim(line)
		}
	}
	close(file)
}

function push(indent) {
	depth++
	ind[depth] = indent
	plan[depth] = -1
	count[depth] = 0
	last[depth] = -1
	n[depth] = 0
}

function add(d, path, state, why, leaf, i) {
	i = ++n[d]
	epath[d, i] = path
	estate[d, i] = state
	ewhy[d, i] = why
	eleaf[d, i] = leaf
}

# what must hold for a level when it is complete
function check_plan(d, where) {
	if (plan[d] >= 0 && plan[d] != count[d])
		problem(where "the plan is for " plan[d] " tests, and " count[d] " ran")
	# KUnit gives the parameters of a case no plan
	if (plan[d] < 0 && d <= 1 && (count[d] > 0 || d == 0))
		problem(where count[d] " tests ran without a plan")
}

# the deepest level ends: its results go to the level above, under the test's name
function pop(name, i, path) {
	check_plan(depth, name == "" ? "" : name ": ")
	if (name == "")
		problem("a group of " count[depth] " tests ended without a result of its own")
	for (i = 1; i <= n[depth]; i++) {
		path = epath[depth, i]
		add(depth - 1, name == "" ? path : name SEP path, estate[depth, i], ewhy[depth, i], eleaf[depth, i])
	}
	depth--
}

# pops until the level with this indentation is on top; name: the test that the levels belong to
function close_to(indent, name) {
	while (depth > 0 && ind[depth] > indent)
		pop(depth > 1 && ind[depth - 1] > indent ? "" : name)
}

function end_stream(i, k, path, v, any, full) {
	if (depth < 0) return
	while (depth > 0) pop("")
	check_plan(0, "")
	for (i = 1; i <= n[0]; i++) {
		path = epath[0, i]
		full = dotted(path)
		any = 0
		while (1) {
			v = dotted(path)
			state[v, estate[0, i]] = 1
			if (v in listed) any = 1
			k = index(path, SEP)
			if (!k) break
			path = substr(path, k + 1)
		}
		if (estate[0, i] == "fail") {
			problem("not ok: " full (ewhy[0, i] == "" ? "" : " (" ewhy[0, i] ")"))
		} else if (estate[0, i] == "skip" && eleaf[0, i]) {
			if (!any)
				problem("skipped, and not listed: " full (ewhy[0, i] == "" || ewhy[0, i] == full ? "" : " (" ewhy[0, i] ")"))
			else if (!((full, "s") in counted)) {
				counted[full, "s"] = 1
				skipped++
			}
		}
		if (estate[0, i] != "skip" && eleaf[0, i]) {
			ran++
			if (estate[0, i] == "pass" && !((full, "p") in counted)) {
				counted[full, "p"] = 1
				passed++
			}
		}
	}
	depth = -1
}

# brings the stack to this indentation
function level(indent) {
	if (depth < 0) push(0)
	close_to(indent, "")
	if (ind[depth] < indent) push(indent)
}

BEGIN {
	SEP = "\034"
	depth = -1
	passed = skipped = ran = nwanted = 0
	if (expect != "") read_list(expect, 0)
	if (skips != "") read_list(skips, 1)
}

{
	sub(/^(<[0-9]+>)?\[ *[0-9]+\.[0-9]+\](\[ *[CT][0-9]+\])? /, "")	# from dmesg
	line = $0
	inner = ""
	while (line ~ /^# /) {
		line = substr(line, 3)
		inner = inner "  "
	}
	if (line !~ /^ *(K?TAP version [0-9]|1\.\.[0-9]|(not )?ok [0-9]|Bail out!)/) line = $0
	else line = inner line
	match(line, /^ */)
	indent = RLENGTH
	line = substr(line, indent + 1)
}

line ~ /^Bail out!/ { problem("bailed out: " trim(substr(line, 10))); next }

line ~ /^K?TAP version [0-9]+/ {
	if (indent == 0) end_stream()
	level(indent)
	if (depth > 0 && (count[depth] > 0 || plan[depth] >= 0)) {
		pop("")
		level(indent)
	}
	next
}

line ~ /^1\.\.[0-9]+[ \t]*(#.*)?$/ {
	# a second plan: a new stream that has no version line
	if (indent == 0 && depth >= 0) {
		close_to(0, "")
		if (plan[0] >= 0) end_stream()
	}
	level(indent)
	if (plan[depth] >= 0) problem("a second plan in one group of tests: " line)
	plan[depth] = substr(line, 4) + 0
	if (line ~ /#[ \t]*[Ss][Kk][Ii][Pp]/) {
		why = line
		sub(/^[^#]*#[ \t]*[Ss][Kk][Ii][Pp][a-zA-Z]*:?/, "", why)
		why = trim(why)
		add(depth, why == "" ? "the whole suite" : why, "skip", "", 1)
	}
	next
}

line ~ /^(not )?ok [0-9]+([ \t]|$)/ || line ~ /^not ok/ {
	state_now = line ~ /^not/ ? "fail" : "pass"
	sub(/^(not )?ok[ \t]*/, "", line)
	number = -1
	if (match(line, /^[0-9]+/)) {
		number = substr(line, 1, RLENGTH) + 0
		line = substr(line, RLENGTH + 1)
	}
	line = trim(line)
	sub(/^- */, "", line)
	name = line
	why = ""
	if (match(line, /(^|[ \t])#/)) {
		name = trim(substr(line, 1, RSTART - 1))
		why = trim(substr(line, RSTART + RLENGTH))
		word = toupper(why)
		# a failure that was expected did not show that something works
		if (word ~ /^SKIP/ || (state_now == "pass" && word ~ /^(TODO|XFAIL)/))
			state_now = "skip"
		if (word ~ /^(SKIP|TODO|XFAIL|XPASS|TIMEOUT|ERROR)/)
			sub(/^[A-Za-z]+:?[ \t]*/, "", why)
	}
	if (name == "") name = why
	if (name == "") name = "test " number

	if (depth < 0) push(0)
	children = depth > 0 && ind[depth] > indent
	close_to(indent, name)
	if (ind[depth] < indent) push(indent)
	count[depth]++
	if (last[depth] >= 0 && number >= 0 && number != last[depth] + 1)
		problem("test numbers jump from " last[depth] " to " number " at: " name)
	last[depth] = number
	add(depth, name, state_now, why, !children)
}

END {
	end_stream()
	if (expect != "" && ran == 0) problem("no test ran")
	for (i = 1; i <= nwanted; i++) {
		w = wanted[i]
		if ((w, "fail") in state) continue	# said above
		if ((w, "skip") in state) problem("expected to pass, and was skipped: " w)
		else if (!((w, "pass") in state)) problem("expected, and did not run: " w)
	}
	print "N " passed " " skipped
}
