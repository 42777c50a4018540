"""The filter of system calls (seccomp, mode 2) that a program gets right before it starts, written by hand in BPF.

In: the name of the processor. Out: the bytes of an array of struct sock_filter, which inside.py hands to prctl(2); once there,
neither the program nor what it starts can take it away. Source: https://docs.kernel.org/userspace-api/seccomp_filter.html

Without it, a program in its own user namespace could mount a tmpfs and fill the machine's memory past every limit. clone3 is
answered with "no such call", so that the C library takes clone, whose flags can be read here. A call by another table of
numbers (i386, x32) ends the process, as the list would not fit.
"""

from __future__ import annotations

import errno
import functools
import struct

from r1distill.sandbox.calls import (
    AUDIT_ARCH,
    CLONE,
    CLONE3,
    MMAP,
    NEW_NAMESPACE,
    REFUSED,
    SHARED_AND_ANONYMOUS,
    X32_BIT,
)

LOAD, RETURN, AND = 0x20, 0x06, 0x54
"""BPF_LD|BPF_W|BPF_ABS, BPF_RET|BPF_K, BPF_ALU|BPF_AND|BPF_K."""
IF_EQUAL, IF_AT_LEAST, IF_ANY_BIT = 0x15, 0x35, 0x45
"""BPF_JMP with BPF_JEQ, BPF_JGE, BPF_JSET, each with BPF_K."""
ALLOW, REFUSE, KILL = 0x7FFF0000, 0x00050000, 0x80000000
"""SECCOMP_RET_ALLOW, SECCOMP_RET_ERRNO (the error in its low half), SECCOMP_RET_KILL_PROCESS."""
NUMBER_AT, ARCH_AT, ARGUMENTS_AT = 0, 4, 16
"""Offsets in struct seccomp_data. Arguments have 8 bytes, the low half first: both processors are little-endian here."""

Step = tuple[int, int, int, int]
"""struct sock_filter: code, steps to skip if true, steps to skip if false, operand."""


@functools.cache
def filter_for(machine: str) -> bytes:
    """The filter as the kernel takes it; b"" for a processor whose numbers aren't known here."""
    if machine not in AUDIT_ARCH:
        return b""
    return b"".join(struct.pack("=HBBI", *step) for step in _steps(machine))


def _steps(machine: str) -> list[Step]:
    steps = [_load(ARCH_AT), (IF_EQUAL, 1, 0, AUDIT_ARCH[machine]), _answer(KILL), _load(NUMBER_AT)]
    if machine == "x86_64":
        steps += [(IF_AT_LEAST, 0, 1, X32_BIT), _answer(KILL)]
    steps += _when(CLONE3.of(machine), [_answer(REFUSE | errno.ENOSYS)])
    steps += _when(
        CLONE.of(machine), [_load_argument(0), (IF_ANY_BIT, 0, 1, NEW_NAMESPACE), _refuse(), _answer(ALLOW)]
    )
    steps += _when(MMAP.of(machine), [
        _load_argument(3), (AND, 0, 0, SHARED_AND_ANONYMOUS), (IF_EQUAL, 0, 1, SHARED_AND_ANONYMOUS), _refuse(), _answer(ALLOW),
    ])  # fmt: skip
    for number in REFUSED.values():
        steps += _when(number.of(machine), [_refuse()])
    return [*steps, _answer(ALLOW)]


def _when(number: int, then: list[Step]) -> list[Step]:
    """Where the loaded number is this one, `then`, which ends in an answer; else on behind it."""
    return [(IF_EQUAL, 0, len(then), number), *then]


def _load(offset: int) -> Step:
    return LOAD, 0, 0, offset


def _load_argument(index: int) -> Step:
    return _load(ARGUMENTS_AT + 8 * index)


def _answer(value: int) -> Step:
    return RETURN, 0, 0, value


def _refuse() -> Step:
    return _answer(REFUSE | errno.EPERM)
