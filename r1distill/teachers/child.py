"""A model server in a child process of ours: started on 127.0.0.1, stopped on every way out, never orphaned.

The child gets one JSON line on stdin and answers with one JSON line {"address": ...} on stdout; it ends when stdin
closes, which also happens when this process is killed. It runs in a session of its own, so that Ctrl-C reaches the
parent only and answers under way may still arrive.
"""

from __future__ import annotations

import json
import os
import re
import select
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

from r1distill.errors import R1DistillError

STOP_TIMEOUT_S = 5.0
LLAMA_CPP_ERROR = re.compile(r"^[\d.]+ E (?:\w+: |\w+ +\w+: )?(.+)$", re.MULTILINE)
"""A line of its log: seconds, E for error, who says it, what."""
LOOKED_AT_BYTES = 1 << 20


@contextmanager
def served(module: str, config: Mapping[str, object], log: Path, start_timeout_s: float) -> Iterator[str]:
    """Run `python -m module` while the block runs; yields its address once /health answers.

    Raises R1DistillError when it does not start: with what llama.cpp said, else naming the log file.
    """
    with log.open("ab") as log_file:
        start = _Start(config, log, log_file.tell(), time.monotonic() + start_timeout_s)
        child = subprocess.Popen(
            [
                sys.executable,
                "-P",
                "-m",
                module,
            ],  # -P: a file of the working folder must not shadow a package
            env={**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log_file,
            start_new_session=True,
        )
    try:
        yield _address(child, start)
    finally:
        _stop(child)


class _Start(NamedTuple):
    """One start of a server."""

    config: Mapping[str, object]
    log: Path
    log_begins: int
    """Where its part of the log begins, in bytes: what stands before is of earlier starts."""
    deadline: float
    """By time.monotonic."""


def _address(child: subprocess.Popen[bytes], start: _Start) -> str:
    assert child.stdin is not None
    assert child.stdout is not None
    with suppress(BrokenPipeError):
        child.stdin.write(json.dumps(start.config).encode() + b"\n")
        child.stdin.flush()
    ready, _, _ = select.select([child.stdout], [], [], max(0.0, start.deadline - time.monotonic()))
    line = child.stdout.readline() if ready else b""
    try:
        address = str(json.loads(line)["address"])
    except (ValueError, KeyError, TypeError):
        raise _failed(child, start) from None
    import httpx

    while time.monotonic() < start.deadline and child.poll() is None:
        with suppress(httpx.HTTPError):
            if httpx.get(f"{address}/health", timeout=5, trust_env=False).status_code == 200:
                return address
        time.sleep(0.05)
    raise _failed(child, start)


def _failed(child: subprocess.Popen[bytes], start: _Start) -> R1DistillError:
    """With the first error that llama.cpp wrote: it is the cause, the later ones follow from it."""
    child.kill()
    exit_code = child.wait()
    with start.log.open("rb") as lines:
        lines.seek(start.log_begins)
        found = LLAMA_CPP_ERROR.search(lines.read(LOOKED_AT_BYTES).decode("utf-8", "replace"))
    if found is None:
        return R1DistillError(
            f"The model server did not start (exit code {exit_code}); its last words are in {start.log}."
        )
    files = " with ".join(str(start.config[key]) for key in ("model", "adapter") if start.config.get(key))
    return R1DistillError(f"The model server can't serve {files}: {found[1].strip()}.")


def _stop(child: subprocess.Popen[bytes]) -> None:
    for pipe in (child.stdin, child.stdout):
        with suppress(OSError):
            if pipe is not None:
                pipe.close()
    try:
        child.wait(STOP_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()
