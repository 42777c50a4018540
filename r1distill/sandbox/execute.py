"""One program, run once and watched from outside until it ends or has had its share.

In: a Box, limits, a Program. Out: a Ran. The program gets its input as a file, writes into a pipe that is read up to a limit,
and finds nothing of this process: no environment, no descriptor but those three. Its time starts when it does, not when the
sandbox does. At the end the whole process tree is dead: by the death of its namespace, or by its supervisor.
"""

from __future__ import annotations

import builtins
import contextlib
import json
import math
import os
import re
import secrets
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import msgspec

from r1distill.sandbox.box import Box, Limits
from r1distill.sandbox.commands import ENVIRONMENT, command, spare_uid
from r1distill.sandbox.seccomp import filter_for
from r1distill.sandbox.watch import tasks_of_user
from r1distill.sandbox.watched import OWN_TASKS, Stop, Watched, end

INSIDE, SUPERVISE = Path(__file__).with_name("inside.py"), Path(__file__).with_name("supervise.py")
CPU_CODES = (-24, 128 + 24)
"""How a process ends that SIGXCPU killed, seen directly or through bwrap."""
KILLED_CODES = (-9, 128 + 9)
EXIT_STATUS = re.compile(r"exit status [1-9][0-9]{0,2}")
NO_JSON, OWN_ERROR = "a value that is no JSON", "an exception of its own"


class Program(msgspec.Struct, frozen=True):
    """A program and what is done with it."""

    source: str
    kind: Literal["stdin", "call", "assert"] = "stdin"
    stdin: str = ""
    name: str = ""
    """The function that a call calls."""
    args: list[Any] = []
    before: list[str] = []
    """Python that runs before the program, in its names."""
    after: list[str] = []
    """Python that runs behind it: assertions."""


class Ran(msgspec.Struct, frozen=True):
    """What became of a program."""

    stop: Stop = ""
    """Why it was stopped; "" when it ended by itself."""
    output: bytes = b""
    error: str = ""
    """The class of the exception that ended it, "a signal", "exit status 1" and the like, or ""."""
    value: Any = None
    """(of a call) The return value as JSON has it, in a list; None when there is none."""
    done: bool = False
    """(of assertions) Whether all of them were passed."""
    cpu_s: float = 0.0
    """CPU seconds, with those of the sandbox."""


def execute(box: Box, program: Program, limits: Limits, max_wall_s: float = math.inf) -> Ran:
    """Run `program` once in `box`. Raises OSError when the sandbox can't be started at all."""
    token = secrets.token_hex(16)
    uid = spare_uid()
    before = os.times()
    with contextlib.ExitStack() as open_things:
        folder = open_things.enter_context(_folder(box, uid))
        job = _file(open_things, ascii(_job(program, box, limits, uid, token)).encode())
        stdin = _file(open_things, program.stdin.encode("utf-8", "replace"))
        read_report, write_report = os.pipe()
        reports = open_things.enter_context(open(read_report, "rb", buffering=0))
        with open(write_report, "wb", buffering=0):
            process = subprocess.Popen(
                _command(box, limits, uid, job, write_report), stdin=stdin, stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL, pass_fds=(job, write_report), env={**ENVIRONMENT, "HOME": folder, "TMPDIR": folder},
                cwd=folder, start_new_session=True,
            )  # fmt: skip
        assert process.stdout is not None
        open_things.callback(process.stdout.close)
        watched = Watched(
            box, process, limits, min(limits.wall_s, max_wall_s), (process.stdout.fileno(), reports.fileno())
        )
        try:
            stop = watched.until_end()
        finally:
            end(box, process)
        watched.drain()
    after = os.times()
    cpu_s = after.children_user + after.children_system - before.children_user - before.children_system
    cpu_s = max(cpu_s, watched.cpu_s)  # bwrap does not hand on what its children used
    return _ran(stop, watched, process.returncode, token, cpu_s)


def _ran(stop: Stop, watched: Watched, code: int, token: str, cpu_s: float) -> Ran:
    """Put together what is known."""
    rows = _rows(bytes(watched.reports))
    output = bytes(watched.output)
    if not stop and max(len(output), len(watched.reports)) > watched.limits.output_bytes:
        stop = "output limit"
    if not rows and not stop:
        stop = "no start"
    last = rows[-1] if rows else {}
    error = _known(last["error"]) if "error" in last else ""
    if not stop and not error and (code < 0 or code > 128):
        used_up = code in CPU_CODES or (code in KILLED_CODES and cpu_s > 0.8 * watched.limits.cpu_s)
        stop, error = ("timeout", "") if used_up else ("", "a signal")
    if not stop and not error and code > 0:
        error = f"exit status {code}"
    if not stop and error == "MemoryError":
        stop = "memory limit"
    value = [last["value"]] if "value" in last else None
    return Ran(stop, output, error, value, last.get("done") == token, cpu_s)


def _known(error: Any) -> str:
    """The name of an error that is Python's or the sandbox's; a program may report whatever it likes."""
    if not isinstance(error, str):
        return OWN_ERROR
    if error == NO_JSON or EXIT_STATUS.fullmatch(error):
        return error
    found = getattr(builtins, error, None)
    return error if isinstance(found, type) and issubclass(found, BaseException) else OWN_ERROR


def _rows(reports: bytes) -> list[dict[str, Any]]:
    """The lines that are whole JSON objects; a program may write there too."""
    rows = []
    for line in reports.split(b"\n")[:1000]:
        with contextlib.suppress(ValueError, RecursionError):
            row = json.loads(line)
            if isinstance(row, dict):
                rows.append(row)
    return rows


def _job(program: Program, box: Box, limits: Limits, uid: int | None, token: str) -> dict[str, Any]:
    """What inside.py reads as a literal of Python: texts and whole numbers only, the arguments as JSON."""
    given = {"cpu_s": math.ceil(limits.cpu_s), "memory_mb": limits.memory_mb, "files_mb": limits.files_mb}
    inside = {
        "source": program.source, "kind": program.kind, "name": program.name, "args": json.dumps(program.args),
        "before": program.before, "after": program.after,
    }  # fmt: skip
    calls = filter_for(os.uname().machine).hex() if box.seccomp else ""
    return {**inside, "token": token, "filter": calls, "limits": {**given, "tasks": _tasks(box, limits, uid)}}


def _tasks(box: Box, limits: Limits, uid: int | None) -> int:
    """What RLIMIT_NPROC must say: it counts all tasks of a user, since Linux 5.14 within the user namespace."""
    allowed = limits.processes + OWN_TASKS
    own_count = uid is not None or (box.level != "limits" and _kernel() >= (5, 14))
    return allowed if own_count else allowed + tasks_of_user()


def _kernel() -> tuple[int, int]:
    found = re.match(r"(\d+)\.(\d+)", os.uname().release)
    return (int(found[1]), int(found[2])) if found else (0, 0)


def _command(box: Box, limits: Limits, uid: int | None, job: int, report: int) -> list[str]:
    inside = [box.python, "-s", "-S", "-B", "-c", INSIDE.read_text(), str(job), str(report)]
    shut_in = command(box, limits, uid, inside)
    if box.level != "limits":
        return shut_in
    owner = str(-1 if uid is None else uid)
    return [box.python, "-s", "-S", "-B", "-c", SUPERVISE.read_text(), owner, *shut_in]


def _file(open_things: contextlib.ExitStack, content: bytes) -> int:
    """The descriptor of a file in memory that holds `content`, closed with `open_things`."""
    descriptor = os.memfd_create("job", os.MFD_CLOEXEC)
    open_things.callback(os.close, descriptor)
    with open(descriptor, "wb", closefd=False) as file:
        file.write(content)
    os.lseek(descriptor, 0, os.SEEK_SET)
    return descriptor


@contextlib.contextmanager
def _folder(box: Box, uid: int | None) -> Iterator[str]:
    """Where the program stands: its private /tmp, or (limits only) a folder that is removed afterwards."""
    if box.level != "limits":
        yield "/tmp"
        return
    with tempfile.TemporaryDirectory(prefix="r1distill-code-", ignore_cleanup_errors=True) as folder:
        if uid is not None:
            os.chown(folder, uid, uid)
        yield folder
