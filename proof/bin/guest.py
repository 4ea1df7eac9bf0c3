# SPDX-License-Identifier: GPL-2.0
"""What boot needs of a guest: its kernel, what is in its memory, its board, and what it prints."""
import fcntl
import os
import re
import shutil
import subprocess
import sys
import time

from common import BASE, BUILD, LOGS, ROOT, complaints, die, rel

MACHINES = {'arm64': ('aarch64', 'virt', 'ttyAMA0', 'arch/arm64/boot/Image'),
            'arm': ('arm', 'virt', 'ttyAMA0', 'arch/arm/boot/zImage'),
            'riscv64': ('riscv64', 'virt', 'ttyS0', 'arch/riscv/boot/Image'),
            'x86_64': ('x86_64', 'q35', 'ttyS0', 'arch/x86/boot/bzImage')}


def built(kernel, name):
    """The kernel's directory, made up to date by make."""
    if kernel['arch'] not in MACHINES:
        die(f'{name} is only built, there is no guest for it')
    out = f"build/{BASE}/{'base' if kernel.get('unpatched') else 'series'}/out/{name}"
    os.makedirs(LOGS, exist_ok=True)
    with open(f'{BUILD}/lock.boot-{name}', 'w', encoding='utf-8') as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if subprocess.run(['make', '-s', '-C', ROOT, f'{out}/guest.cpio'], stdout=sys.stderr, check=False).returncode:
            sys.exit(125)
    return f'{ROOT}/{out}'


def initrd(o, command, out, tmp):
    """The guest's image and behind it what this run adds: the command, and the files."""
    extra = f'{tmp}/extra'
    os.makedirs(f'{extra}/run')
    os.makedirs(f'{extra}/root')
    if command:
        with open(f'{extra}/run/command', 'wb') as f:
            f.write(b''.join(os.fsencode(c) + b'\0' for c in command))
    for arg in o.file:
        src, _, dest = arg.partition(':')
        dest = dest or f'/root/{os.path.basename(src)}'
        if not os.path.exists(src):
            die(f'no such file: {src}')
        if not dest.startswith('/') or re.match('/(dev|proc|sys|tmp)/', dest):
            die(f'--file {arg}: the name in the guest must be absolute, and not in what the guest mounts')
        os.makedirs(os.path.dirname(extra + dest), exist_ok=True)
        (shutil.copytree if os.path.isdir(src) else shutil.copy)(src, extra + dest)
    with open(f'{tmp}/initrd', 'wb') as f:
        with open(f'{out}/guest.cpio', 'rb') as image:
            shutil.copyfileobj(image, f)
        f.flush()
        subprocess.run('find . -mindepth 1 | cpio -o -H newc -R 0:0 --quiet', shell=True, check=True, cwd=extra, stdout=f)


def board(qemu, mach, overlay, tmp):
    """The machine's own device tree, of which some devices are part, with the scenario's overlay on top."""
    for c in ([*qemu, '-machine', f'{mach},dumpdtb={tmp}/machine.dtb', '-nodefaults', '-display', 'none'],
              ['dtc', '-@', '-q', '-I', 'dts', '-O', 'dtb', '-o', f'{tmp}/board.dtbo', overlay],
              ['fdtoverlay', '-i', f'{tmp}/machine.dtb', '-o', f'{tmp}/guest.dtb', f'{tmp}/board.dtbo']):
        r = subprocess.run(c, capture_output=True, text=True, check=False)
        if r.returncode:
            die(f'cannot make the device tree of {rel(overlay)}: {r.stderr.strip()}', status=125)
    return ['-dtb', f'{tmp}/guest.dtb']


def disk(arch):
    """QEMU's words for Debian's disk; what the guest writes to it is gone with the guest."""
    r = subprocess.run([f'{ROOT}/proof/bin/disk', arch], stdout=subprocess.PIPE, text=True, check=False)
    if r.returncode:
        sys.exit(125)
    return ['-drive', f"file={r.stdout.strip().replace(',', ',,')},if=virtio,format=raw,snapshot=on"]


def follow(qemu, o, log):
    """Prints what the command prints until QEMU ends; a reason if it had to be ended."""
    deadline = time.monotonic() + o.timeout
    with open(f'{log}/output.log', 'rb') as output:
        while True:
            done = qemu.poll() is not None
            sys.stdout.buffer.write(output.read())
            sys.stdout.flush()
            if done:
                return None
            # when there is no room for the logs, QEMU waits and says nothing
            full = shutil.disk_usage(log).free < 64 << 20
            if full or time.monotonic() > deadline:
                qemu.kill()
                qemu.wait()
                return 'the disk is full' if full else 'timeout'
            time.sleep(0.1)


def outcome(o, killed, announced, log):
    """The exit status; says why when it is not the command's."""
    with open(f'{log}/result.log', 'a+', encoding='utf-8') as f:
        if killed:
            f.write(f'{killed}\n')
        f.seek(0)
        result = f.read().split('\n')
    with open(f'{log}/console.log', encoding='utf-8', errors='replace') as f:
        splats = complaints(f.read(), announced)
    ends = [line for line in result if re.match('(exit|signal) [0-9]+$', line)]
    problems = [line[8:] for line in result if line.startswith('problem ')]
    why = f': {splats[0][1]}' if splats else ''
    if killed:
        reason = f'not done after {o.timeout} s: killed' if killed == 'timeout' else killed
    elif 'begin' not in result:
        with open(f'{log}/qemu.log', encoding='utf-8') as f:
            reason = 'it did not come up' + (why or f': {f.read().strip()}')
    elif 'end' not in result or not ends:
        reason = 'it went down before it was done' + why
    else:
        what, number = ends[0].split()
        status = int(number) + (128 if what == 'signal' else 0)
        if status or o.shell or not (problems or splats):
            return 0 if o.shell else status
        reason = problems[0] if problems else f'the kernel complained{why}'
    print(f'error: guest {o.kernel}: {reason}\n       log: {rel(log)}', file=sys.stderr)
    return 124 if killed == 'timeout' else 125
