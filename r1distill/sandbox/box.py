"""What a sandbox is made of: the level, the programs that make it, and the limits inside."""

from __future__ import annotations

from typing import Literal

import msgspec

Level = Literal["bubblewrap", "namespaces", "limits"]
"""From the strongest to the weakest; "limits" is not a sandbox."""
MIB = 1 << 20


class Limits(msgspec.Struct, frozen=True):
    """What one program may use. Whatever asks for more is stopped, or told so by the kernel."""

    cpu_s: float = 6.0
    """CPU seconds of each of its processes, rounded up to whole ones by the kernel."""
    memory_mb: int = 1024
    """Address space of each process, and resident memory of all together, in MiB."""
    processes: int = 16
    """Processes and threads at the same time."""
    files_mb: int = 16
    """Size of one file that it writes, in MiB; the private /tmp holds four times as much."""
    output_bytes: int = 4 * MIB
    """Bytes on standard output, or of a return value; a test that expects more allows more."""

    @property
    def wall_s(self) -> float:
        """Seconds of wall time: enough for a machine that is busy, short enough for a program that only waits."""
        return self.cpu_s * 3 + 5

    def expecting(self, chars: int) -> Limits:
        """These limits, with room for an output of `chars` characters and as many that are too much."""
        return msgspec.structs.replace(self, output_bytes=max(self.output_bytes, 8 * chars))


class Box(msgspec.Struct, frozen=True):
    """A way of shutting a program in that was tried on this machine, and worked."""

    level: Level
    python: str
    """The interpreter that runs the programs; they see its standard library and no other package."""
    prefix: str
    """Where that interpreter is installed."""
    version: str
    """Its version, as 3.11.7."""
    binary: str = ""
    """The program that makes the sandbox: bwrap or unshare."""
    options: tuple[str, ...] = ()
    """What this bwrap knows beyond the oldest one that is used."""
    seccomp: bool = False
    """Whether system calls are filtered; then a program that can't be filtered isn't run."""

    @property
    def identity(self) -> list[str]:
        """What can change a result: the level, the Python and the filter of system calls."""
        return [self.level, self.version, *(["seccomp"] if self.seccomp else [])]

    def sentence(self) -> str:
        """What is in force, for the person who runs it."""
        calls = "system calls filtered by seccomp" if self.seccomp else "without seccomp"
        return f"Code of answers is run by Python {self.version}: {STRENGTH[self.level]}, {calls})."


STRENGTH: dict[Level, str] = {
    "bubblewrap": "in a sandbox (bubblewrap: no network, read-only system, private /tmp, own processes",
    "namespaces": "in a sandbox (namespaces by unshare: no network, read-only system, private /tmp, own processes",
    "limits": "limits, not a sandbox (time, memory, processes and output are limited; network and files are not",
}
"""What is in force, but for the filter of system calls and the closing bracket."""
