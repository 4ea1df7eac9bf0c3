# SPDX-License-Identifier: GPL-2.0
"""What the Python programs of proof/ share: where things are, and how a scenario's files are read."""
import fnmatch
import os
import re
import shlex
import sys

ROOT = os.path.realpath(os.path.join(os.path.dirname(__file__), '../..'))
BASE = os.environ.setdefault('BASE', '6.12')
BUILD = f'{ROOT}/build/{BASE}'
LOGS = f'{BUILD}/log'
SCENARIOS = f'{ROOT}/proof/scenarios'

# Lines of a console that fail a run: guests stop at the first splat, so that few are needed
BAD = re.compile(r'''\[ cut here \] | (^|\]\ )WARNING:\  | (^|[^A-Za-z_])BUG:?\  | Call\ [Tt]race:
    | Kernel\ panic | (^|[^A-Za-z_])Oops(\ |:|$) | Unable\ to\ handle\ kernel | Internal\ error:\ 
    | unreferenced\ object\ 0x | new\ suspected\ memory\ leaks | debug_locks:\ 0''', re.X)


def rel(path):
    return os.path.relpath(path, ROOT) if path.startswith(ROOT) else path


def die(reason, log=None, status=1):
    print(f'error: {reason}', file=sys.stderr)
    if log:
        print(f'       log: {rel(log)}', file=sys.stderr)
    sys.exit(status)


def lines_for(path, kernel):
    """The lines of a scenario's file that hold for a kernel: '[PATTERN...]' begins those of some kernels,
    or of a base ('[*@7.3]'), '[*]' those of all again. '#' begins a comment."""
    here = True
    try:
        with open(path, encoding='utf-8') as f:
            for line in f:
                line = line.rstrip('\n')
                if re.fullmatch(r'\[[^]]+\]', line):
                    here = any(fnmatch.fnmatchcase(k, p) for p in line[1:-1].split() for k in (kernel, f'{kernel}@{BASE}'))
                elif here and line.strip() and not line.startswith('#'):
                    yield line
    except OSError as e:
        die(f'cannot read {rel(path)}: {e.strerror}')


def kernel_says(name):
    """What proof/kernels/NAME says, as a dictionary."""
    path = f'{ROOT}/proof/kernels/{name}'
    if not os.path.isfile(path) or name.endswith('.config'):
        names = sorted(n for n in os.listdir(f'{ROOT}/proof/kernels') if not n.endswith('.config'))
        die(f"no such kernel: '{name}'; there are: {' '.join(names)}")
    with open(path, encoding='utf-8') as f:
        return dict(word.split('=', 1) for word in shlex.split(f.read(), comments=True))


def machine(scenario, kernel):
    """What proof/scenarios/NAME/machine says: (key, value) for each line 'key = value'."""
    path = f'{SCENARIOS}/{scenario}/machine'
    for line in lines_for(path, kernel):
        key, equals, value = line.partition('=')
        if not equals:
            die(f"{rel(path)}: not 'KEY = VALUE': {line}")
        yield key.strip(), value.strip()


class Expect:
    """A scenario's 'expect': names of tests that must pass, and lines that begin with '@':
    @each A B C         from here on, a line with '%' stands for one with each of these instead of it
    @include FILE       what FILE says, a path from here
    @skip NAME          TAB and reason: a test that may be skipped
    @warning REGEX      TAB and reason: the kernel complains of this, and the test wants it to"""

    def __init__(self, path, kernel):
        self.names, self.skips, self.warnings = [], {}, []
        self.each = []
        if os.path.exists(path):
            self.read(path, kernel)

    def read(self, path, kernel):
        for line in lines_for(path, kernel):
            word, _, rest = line.partition(' ')
            if word == '@each':
                self.each = rest.split()
                continue
            if word == '@include':
                self.read(os.path.join(os.path.dirname(path), rest), kernel)
                continue
            if '%' in line and not self.each:
                die(f"{rel(path)}: '%' without @each: {line}")
            if word in ('@skip', '@warning'):
                what, _, reason = rest.partition('\t')
                if not reason.strip():
                    die(f'{rel(path)}: a TAB and the reason are missing: {line}')
                if word == '@skip':
                    self.skips.update({what.replace('%', e): reason for e in self.each or ['%']})
                else:
                    self.warnings.append(re.compile(what))
                continue
            self.names += [line.replace('%', e) for e in self.each] if '%' in line else [line]


def complaints(console, announced=()):
    """(line number, line) of each line of a console that is a splat. A warning that was announced goes, from
    'cut here' to 'end trace'; so does any other line that was."""
    found, block, known = [], [], False
    for n, line in enumerate(console.replace('\0', ' ').replace('\r', '').split('\n'), 1):
        bad = BAD.search(line) and not any(a.search(line) for a in announced)
        if '[ cut here ]' in line:
            found += block
            block, known = [(n, line)], False
        elif block:
            known = known or 'WARNING: ' in line and not bad
            if bad:
                block.append((n, line))
            if '---[ end trace ' in line or len(block) > 20:
                found += [] if known else block
                block = []
        elif bad:
            found.append((n, line))
    return found + ([] if known else block)
