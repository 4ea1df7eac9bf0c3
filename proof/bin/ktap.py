# SPDX-License-Identifier: GPL-2.0
"""Reads what tests say, in TAP or KTAP, with the kernel's own parser."""
import contextlib
import io
import re
import sys

from common import BUILD

sys.path.insert(0, f'{BUILD}/series/linux/tools/testing/kunit')
import kunit_parser  # noqa: E402

GOOD, SKIP = kunit_parser.TestStatus.SUCCESS, kunit_parser.TestStatus.SKIPPED
RESULT = re.compile(r'\s*(not )?ok [0-9]+( |$)')
STRUCTURE = re.compile(r'(K?TAP version [0-9]|1\.\.[0-9]|(not )?ok [0-9])')


def plain(line):
    """A line of output as the kernel's parser wants it."""
    line = re.sub(r'^(<[0-9]+>)?\[ *[0-9]+\.[0-9]+\](\[ *[CT][0-9]+\])? ', '', line)  # from dmesg
    nested = re.match(r'(# )+', line)  # as the kselftest runner nests
    if nested and STRUCTURE.match(line[nested.end():]):
        line = '  ' * (nested.end() // 2) + line[nested.end():]
    # what was expected to fail did not show that something works
    line = re.sub(r' # (XFAIL|TODO)', ' # SKIP', line)
    # a skip without a name: its reason is one
    return re.sub(r'^(\s*(?:not )?ok [0-9]+) # SKIP:? ?(.*)', r'\1 \2 # SKIP \2', line)


def streams(output):
    """The programs' outputs, each of which begins with a version."""
    found = [[]]
    for line in output.replace('\0', '').split('\n'):
        if re.match(r'K?TAP version [0-9]', line):
            found.append([])
        found[-1].append(plain(line))
    return found


def walk(test, path):
    """(path, status, is it a leaf, where it failed) of a test and of those in it"""
    for sub in test.subtests:
        where = path + ([sub.name.strip()] if sub.name else [])
        yield from walk(sub, where)
        yield where, sub.status, not sub.subtests, next(iter(re.findall(r'[\w-]+\.c:[0-9]+[^#\n]*', '\n'.join(sub.log))), '')


def read_tests(output):
    """What the tests said: a list of what walk() gives, and what is wrong with how they said it."""
    tests, problems = [], []
    for lines in streams(output):
        results = [line for line in lines if RESULT.match(line)]
        problems += [f'a program gave up: {line}' for line in lines if line.startswith('Bail out!')]
        if not (lines and re.match('K?TAP version', lines[0])):
            problems += [f'a result outside of any tests: {line}' for line in results[:1]]
            continue
        top = [line for line in lines if re.match(r'(not )?ok [0-9]|1\.\.[0-9]', line)]
        if any(line.startswith('1..') for line in top[1:]):  # the kernel's parser would never end
            problems.append('the plan does not come first')
            continue
        said = io.StringIO()
        with contextlib.redirect_stdout(said):
            if hasattr(kunit_parser, 'stdout'):
                kunit_parser.stdout._output = said
                root = kunit_parser.parse_run_tests(lines)
            else:  # 7.3: who calls it gives the printer
                root = kunit_parser.parse_run_tests(lines, kunit_parser.Printer(output=said))
        these = list(walk(root, []))
        # A group whose result line is missing, and one without plan, are errors of the parser only in part
        problems += sorted({re.sub(r'\x1b\[[0-9;]*m', '', e) for e in re.findall(r'\[ERROR\].*', said.getvalue())})
        if root.expected_count is None:
            problems.append(f'{len(root.subtests)} tests ran without a plan')
        if len(results) > len(these):
            problems.append(f'the plan is for fewer tests than ran: {len(results)} results, {len(these)} planned')
        tests += these
    return tests, problems
