"""The filter of system calls: judged by a small interpreter for both processors, and by the kernel at every level that works."""

from __future__ import annotations

import errno
import os
import struct
import sys
from typing import Any

import pytest

from r1distill.sandbox import Box, Level, Limits, Program, Ran, execute, works
from r1distill.sandbox.calls import AUDIT_ARCH, CLONE, CLONE3, MMAP, NEW_NAMESPACE, REFUSED, X32_BIT
from r1distill.sandbox.levels import LEVELS, SANDBOXES
from r1distill.sandbox.seccomp import ALLOW, KILL, REFUSE, filter_for
from tests.sandbox_boxes import box_of, tried

MACHINE = os.uname().machine
EPERM, ENOSYS = REFUSE | errno.EPERM, REFUSE | errno.ENOSYS
PRIVATE, SHARED, ANONYMOUS, FORK, NEWUSER = 0x02, 0x01, 0x20, 17, 0x10000000
OTHER = {"x86_64": "aarch64", "aarch64": "x86_64"}
SMALL = Limits(cpu_s=5, memory_mb=256, files_mb=4)
CALL = """
import ctypes, errno, os
libc = ctypes.CDLL(None, use_errno=True)
def call(number, *args):
    ctypes.set_errno(0)
    found = libc.syscall(ctypes.c_long(number), *[ctypes.c_long(arg) for arg in args])
    return errno.errorcode[ctypes.get_errno()] if found == -1 else found
"""


@pytest.fixture(params=tried(LEVELS))
def box(request: pytest.FixtureRequest) -> Box:
    found = box_of(request.param)
    assert found.seccomp
    return found


@pytest.fixture(params=tried(SANDBOXES))
def sandbox(request: pytest.FixtureRequest) -> Box:
    return box_of(request.param)


def run(box: Box, source: str, limits: Limits = SMALL, **more: Any) -> Ran:
    return execute(box, Program(source, **more), limits, 20)


# what the filter says


def verdict(machine: str, number: int, *args: int, arch: int = 0) -> int:
    """What the filter answers, by the part of BPF that the kernel's networking/filter documentation gives it."""
    data = struct.pack("=IIQ6Q", number, arch or AUDIT_ARCH[machine], 0, *args, *[0] * (6 - len(args)))
    steps = list(struct.iter_unpack("=HBBI", filter_for(machine)))
    held = at = 0
    while True:
        code, yes, no, operand = steps[at]
        at += 1
        match code:
            case 0x06:
                return int(operand)
            case 0x20:
                (held,) = struct.unpack_from("=I", data, operand)
            case 0x54:
                held &= operand
            case 0x15:
                at += yes if held == operand else no
            case 0x35:
                at += yes if held >= operand else no
            case 0x45:
                at += yes if held & operand else no
            case _:
                raise AssertionError(f"no such step: {code}")


@pytest.mark.parametrize("machine", AUDIT_ARCH)
def test_what_is_refused_and_what_is_not(machine: str) -> None:
    refused = {number.of(machine) for number in REFUSED.values()}
    special = {number.of(machine) for number in (CLONE, CLONE3, MMAP)}
    assert len(refused) == len(REFUSED) and not refused & special
    for number in range(600):
        expected = EPERM if number in refused else ENOSYS if number == CLONE3.of(machine) else ALLOW
        assert verdict(machine, number) == expected, number


@pytest.mark.parametrize("machine", AUDIT_ARCH)
def test_flags_are_looked_at(machine: str) -> None:
    clone, mmap = CLONE.of(machine), MMAP.of(machine)
    assert verdict(machine, clone, FORK) == verdict(machine, clone, 0x3D0F00) == ALLOW  # fork, pthread_create
    bits = [1 << bit for bit in range(32) if NEW_NAMESPACE >> bit & 1]
    assert len(bits) == 7
    for bit in bits:
        assert verdict(machine, clone, FORK | bit) == verdict(machine, clone, bit | 1 << 40) == EPERM
    for flags in (PRIVATE, SHARED, PRIVATE | ANONYMOUS):
        assert verdict(machine, mmap, 0, 4096, 3, flags) == ALLOW
    assert verdict(machine, mmap, 0, 4096, 3, SHARED | ANONYMOUS | 0x8000) == EPERM


@pytest.mark.parametrize("machine", AUDIT_ARCH)
def test_another_table_of_numbers_is_the_end(machine: str) -> None:
    for arch in (AUDIT_ARCH[OTHER[machine]], 0x40000003, 0x40000028):  # i386, arm
        assert verdict(machine, 39, arch=arch) == KILL
    assert verdict(machine, X32_BIT | 39) == (KILL if machine == "x86_64" else ALLOW)
    assert filter_for("riscv64") == b""


# what the kernel does


def test_all_of_them_are_refused(box: Box) -> None:
    numbers = {name: number.of(MACHINE) for name, number in REFUSED.items()}
    source = f"{CALL}print({{name: said for name, n in {numbers}.items() if (said := call(n, 0, 0, 0, 0, 0)) != 'EPERM'}})"
    assert run(box, source).output == b"{}\n"


def test_no_namespace_of_its_own(box: Box) -> None:
    source = (
        f"{CALL}print(libc.unshare({NEWUSER | 0x20000}), errno.errorcode[ctypes.get_errno()])\n"
        f"pid = call({CLONE.of(MACHINE)}, {FORK | NEWUSER}, 0, 0, 0, 0)\nif pid == 0: os._exit(0)\n"
        f"print(pid, call({CLONE3.of(MACHINE)}, 0, 0))"
    )
    assert run(box, source).output == b"-1 EPERM\nEPERM ENOSYS\n"


def test_no_tmpfs_beside_the_limits(box: Box) -> None:
    source = f"""{CALL}
uid, gid = os.getuid(), os.getgid()
libc.unshare({NEWUSER | 0x20000})
open('/proc/self/setgroups', 'w').write('deny')
open('/proc/self/uid_map', 'w').write(f'0 {{uid}} 1')
open('/proc/self/gid_map', 'w').write(f'0 {{gid}} 1')
assert libc.mount(b'none', b'/tmp', b'tmpfs', 0, b'size=1g') == 0
for n in range(100):
    with open(f'/tmp/{{n}}', 'wb') as file: file.write(bytes(4_000_000))
print('escaped')
"""
    ran = run(box, source)
    assert (ran.output, ran.error) == (b"", "PermissionError")


HOLDERS = {
    "memfd": "import os\ndef hold(n): os.write(os.memfd_create(str(n)), bytes(4_000_000))",
    "mmap": """
import ctypes, mmap
libc = ctypes.CDLL(None)
libc.mmap.restype, libc.mmap.argtypes = ctypes.c_void_p, [ctypes.c_void_p, *[ctypes.c_size_t] * 5]
libc.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
def hold(n):  # the pages stay as long as one of them is mapped, but only that one is seen
    at = libc.mmap(0, 4 << 20, 3, 0x21, 0xffffffff, 0)
    if at == ctypes.c_void_p(-1).value: raise PermissionError
    ctypes.memset(at, 1, 4 << 20)
    libc.munmap(at + 4096, (4 << 20) - 4096)
""",
}


@pytest.mark.parametrize("way", HOLDERS)
def test_no_memory_that_nobody_counts(box: Box, way: str) -> None:
    source = f"{HOLDERS[way]}\nfor n in range(100): hold(n)\nprint('holds 400 MB')"
    ran = run(box, source)
    assert (ran.output, ran.error) == (b"", "PermissionError")


def test_no_shared_memory_by_files(sandbox: Box) -> None:
    source = """
import mmap, os
from multiprocessing import shared_memory
for name in ('zero', 'shm/new'):
    try: mmap.mmap(os.open(f'/dev/{name}', os.O_RDWR | os.O_CREAT), 4096, mmap.MAP_SHARED); print(name)
    except OSError: pass
try: shared_memory.SharedMemory(create=True, size=4096); print('shm_open')
except OSError: pass
"""
    ran = run(sandbox, source)
    assert (ran.output, ran.error) == (b"", "")


@pytest.mark.parametrize("level", tried(["namespaces"]))
def test_empty_files_are_bounded_too(level: Level) -> None:
    ran = run(box_of(level), "for n in range(6000): open(str(n), 'w').close()")
    assert ran.error == "OSError"


def test_calls_by_another_table_end_the_program(box: Box) -> None:
    """getpid by the 32-bit way in, and by the number of x32; on aarch64 there is neither to try."""
    i386 = """
import ctypes, mmap
page = mmap.mmap(-1, 4096, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, 7)
page.write(bytes([0xb8, 20, 0, 0, 0, 0xcd, 0x80, 0xc3]))
print(ctypes.CFUNCTYPE(ctypes.c_int)(ctypes.addressof(ctypes.c_char.from_buffer(page)))())
"""
    x32 = f"{CALL}print(call({X32_BIT | 39}))"
    for source in (i386, x32) if MACHINE == "x86_64" else ():
        ran = run(box, source)
        assert (ran.output, ran.error) == (b"", "a signal")


def test_the_filter_stays_in_what_is_started(box: Box) -> None:
    source = """
import subprocess, sys
print(subprocess.run([sys.executable, '-c', 'print(open("/proc/self/status").read())'], capture_output=True).stdout.decode())
"""
    facts = dict(
        line.split(":\t", 1) for line in run(box, source).output.decode().splitlines() if ":\t" in line
    )
    assert (facts["NoNewPrivs"], facts["Seccomp"]) == ("1", "2")


ORDINARY = {
    "threads": "from concurrent.futures import ThreadPoolExecutor\nprint(sum(ThreadPoolExecutor(4).map(int, '123')))",
    "fork": "import os\nif os.fork() == 0: os._exit(6)\nprint(os.waitstatus_to_exitcode(os.wait()[1]))",
    "subprocess": "import subprocess\nprint(subprocess.getoutput('echo 6 | cat'))",
    "posix_spawn": "import os\nos.waitpid(os.posix_spawn('/bin/echo', ['echo', '6'], {}), 0)",
    "spawn": """
import multiprocessing
here, there = multiprocessing.Pipe()
process = multiprocessing.get_context('fork').Process(target=there.send, args=(6,))
process.start(); print(here.recv()); process.join()
""",
    "asyncio": """
import asyncio, sys
async def main():
    process = await asyncio.create_subprocess_exec('cat', stdin=-1, stdout=-1)
    print((await process.communicate(b'6'))[0].decode())
asyncio.run(main())
""",
    "mmap": """
import mmap, tempfile
with tempfile.TemporaryFile() as file:
    file.write(b'6' * 4096); file.flush()
    print(mmap.mmap(file.fileno(), 0)[:1].decode())
assert mmap.mmap(-1, 4096, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)[0] == 0
assert mmap.mmap(0, 0, access=mmap.ACCESS_READ)[:] == b'in'
""",
    "libraries": """
import ctypes, decimal, hashlib, lzma, select, selectors, socket, sqlite3, tempfile, zlib
socket.socketpair(); selectors.DefaultSelector(); hashlib.sha256(b'x'); decimal.getcontext()
print(sqlite3.connect(':memory:').execute('select 6').fetchone()[0])
""",
}


@pytest.mark.parametrize("what", ORDINARY)
def test_ordinary_programs_still_run(box: Box, what: str) -> None:
    ran = run(box, ORDINARY[what], Limits(cpu_s=5), stdin="in")
    assert (ran.stop, ran.error, ran.output) == ("", "", b"6\n")


# where it can't be had


def test_a_program_that_can_not_be_filtered_is_not_run(monkeypatch: pytest.MonkeyPatch) -> None:
    level = tried(LEVELS)[-1]
    box = box_of(level)
    module = sys.modules[execute.__module__]
    monkeypatch.setattr(
        module, "filter_for", lambda machine: bytes(8)
    )  # has no answer: the kernel won't take it
    assert run(box, "print(1)").stop == "no start"
    found, _ = works(level)
    assert found is not None and not found.seccomp


def test_the_person_who_runs_it_is_told() -> None:
    with_it, without = Box("limits", "p", "/usr", "3", seccomp=True), Box("limits", "p", "/usr", "3")
    assert with_it.sentence().endswith("system calls filtered by seccomp).")
    assert without.sentence().endswith("without seccomp).")
    assert with_it.identity != without.identity
