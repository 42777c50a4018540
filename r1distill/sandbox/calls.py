"""The system calls that a program may not make, as numbers of each processor, and why.

Everything else is allowed: this is no list of what Python needs, but of what leads around the limits or deep into the kernel.
Numbers: the kernel's syscall_64.tbl (x86_64) and asm-generic/unistd.h (aarch64); constants: linux/audit.h, linux/sched.h,
linux/mman.h.
"""

from __future__ import annotations

from typing import NamedTuple

AUDIT_ARCH = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
"""What the kernel calls a processor by, for the names that uname(2) gives."""
X32_BIT = 0x40000000
"""Set in the numbers of x86_64's second table (x32): they would pass a list of the first one's."""
NEW_NAMESPACE = 0x7E020000
"""CLONE_NEWNS, CLONE_NEWCGROUP, CLONE_NEWUTS, CLONE_NEWIPC, CLONE_NEWUSER, CLONE_NEWPID, CLONE_NEWNET."""
SHARED_AND_ANONYMOUS = 0x01 | 0x20
"""MAP_SHARED and MAP_ANONYMOUS."""


class Number(NamedTuple):
    """The number of one system call."""

    x86_64: int
    aarch64: int

    def of(self, machine: str) -> int:
        """Its number on that processor."""
        return self.x86_64 if machine == "x86_64" else self.aarch64


CLONE, CLONE3, MMAP = Number(56, 220), Number(435, 435), Number(9, 222)
"""Looked at more closely: clone and mmap by their flags; clone3 keeps its flags in memory, where no filter can read."""

REFUSED: dict[str, Number] = {
    # a namespace of one's own brings all rights in it: to mount a tmpfs of any size, which no limit counts
    "unshare": Number(272, 97),
    "setns": Number(308, 268),
    "mount": Number(165, 40),
    "umount2": Number(166, 39),
    "pivot_root": Number(155, 41),
    "fsopen": Number(430, 430),
    "fsconfig": Number(431, 431),
    "fsmount": Number(432, 432),
    "fspick": Number(433, 433),
    "move_mount": Number(429, 429),
    "open_tree": Number(428, 428),
    "mount_setattr": Number(442, 442),
    "open_tree_attr": Number(467, 467),
    # memory that stays when no process has it mapped any more, so that no limit counts it
    "memfd_create": Number(319, 279),
    "memfd_secret": Number(447, 447),
    "shmget": Number(29, 194),
    "shmat": Number(30, 196),
    "msgget": Number(68, 186),
    "semget": Number(64, 190),
    "vmsplice": Number(278, 75),
    "add_key": Number(248, 217),
    "request_key": Number(249, 218),
    "keyctl": Number(250, 219),
    # other processes
    "ptrace": Number(101, 117),
    "process_vm_readv": Number(310, 270),
    "process_vm_writev": Number(311, 271),
    # large parts of the kernel that no answer needs
    "bpf": Number(321, 280),
    "perf_event_open": Number(298, 241),
    "userfaultfd": Number(323, 282),
    "io_uring_setup": Number(425, 425),
    "io_uring_enter": Number(426, 426),
    "io_uring_register": Number(427, 427),
    "kexec_load": Number(246, 104),
    "kexec_file_load": Number(320, 294),
    "init_module": Number(175, 105),
    "finit_module": Number(313, 273),
    "delete_module": Number(176, 106),
}
"""Answered with EPERM."""
