"""Which isolation works here? Asked by trying, since a program that is installed may still be forbidden to do its work,
and a kernel to filter system calls.

Out: the strongest Box that runs a small program and keeps it from this process, or a sentence that says for each level why
not. Only Linux has what is needed.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec

from r1distill.errors import R1DistillError
from r1distill.sandbox.box import Box, Level, Limits
from r1distill.sandbox.execute import Program, execute
from r1distill.sandbox.seccomp import filter_for

__all__ = ["Box", "Level", "Limits", "find_box", "works"]

LEVELS: tuple[Level, ...] = ("bubblewrap", "namespaces", "limits")
SANDBOXES = LEVELS[:2]
BINARIES: dict[Level, str] = {"bubblewrap": "bwrap", "namespaces": "unshare"}
EXTRAS = ("--size", "--disable-userns")
"""Options of bwrap that are used where it knows them."""
TRIAL = "import os, platform, sys\nprint(platform.python_version())\nprint(os.path.realpath(sys.base_prefix))"
"""An interpreter whose own files can't be read may run on with those of another one."""
SYSTEM_PYTHON = "/usr/bin/python3"


def find_box(without_sandbox: bool = False) -> Box:
    """The strongest isolation that works; limits only (no sandbox) just where `without_sandbox` consents to it.

    Raises R1DistillError that says what was tried and what to do.
    """
    if sys.platform != "linux":
        raise R1DistillError("Code of answers can be run on Linux only: set allow_exec = false here.")
    tried = []
    for level in LEVELS if without_sandbox else SANDBOXES:
        box, fault = works(level)
        if box is not None:
            return box
        tried.append(f"{level}: {fault}")
    hint = (
        ""
        if without_sandbox
        else ", or set allow_exec_without_sandbox = true to run it with limits, which is not a sandbox"
    )
    raise R1DistillError(
        f"Code of answers can't be run in a sandbox here ({'; '.join(tried)}): install bubblewrap (apt install bubblewrap){hint}."
    )


def works(level: Level) -> tuple[Box | None, str]:
    """(a box of that level, "") when it runs a program, else (None, why not)."""
    fault = "no Python that it could run"
    for box in _filtered_first(_candidates(level)):
        if level in BINARIES and not box.binary:
            return None, f"{BINARIES[level]} is not installed"
        try:
            ran = execute(box, Program(TRIAL), Limits(cpu_s=10))
        except OSError as error:
            return None, str(error.strerror or error)
        if ran.output.decode(errors="replace").splitlines() == [box.version, box.prefix]:
            return box, ""
        fault = f"{BINARIES.get(level, 'python')} is there, but is not allowed to or can't start a program"
    return None, fault


def _filtered_first(boxes: Iterator[Box]) -> Iterator[Box]:
    """Each with its system calls filtered, where the processor is known; then each without."""
    without = list(boxes)
    if filter_for(os.uname().machine):
        yield from (msgspec.structs.replace(box, seccomp=True) for box in without)
    yield from without


def _candidates(level: Level) -> Iterator[Box]:
    """With the Python that runs here, then with the system's, which other users may read too."""
    binary = shutil.which(BINARIES[level]) or "" if level in BINARIES else ""
    options = _options(binary) if level == "bubblewrap" and binary else ()
    own = os.path.realpath(getattr(sys, "_base_executable", sys.executable))
    version = ".".join(str(part) for part in sys.version_info[:3])
    yield Box(level, own, os.path.realpath(sys.base_prefix), version, binary, options)
    system = os.path.realpath(SYSTEM_PYTHON)
    if Path(system).exists() and system != own:
        yield Box(level, system, "/usr", _version(system), binary, options)


def _options(binary: str) -> tuple[str, ...]:
    said = subprocess.run([binary, "--help"], capture_output=True, text=True, check=False, timeout=10)
    return tuple(option for option in EXTRAS if option in said.stdout + said.stderr)


def _version(python: str) -> str:
    code = "import platform; print(platform.python_version())"
    said = subprocess.run([python, "-ISc", code], capture_output=True, text=True, check=False, timeout=30)
    return said.stdout.strip() or "unknown"
