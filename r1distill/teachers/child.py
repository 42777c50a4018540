"""A model server in a child process of ours: started on 127.0.0.1, stopped on every way out, never orphaned.

The child gets one JSON line on stdin and answers with one JSON line {"address": ...} on stdout; it ends when stdin
closes, which also happens when this process is killed. It runs in a session of its own, so that Ctrl-C reaches the
parent only and answers under way may still arrive.
"""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from r1distill.errors import R1DistillError

STOP_TIMEOUT_S = 5.0


@contextmanager
def served(module: str, config: Mapping[str, object], log: Path, start_timeout_s: float) -> Iterator[str]:
    """Run `python -m module` while the block runs; yields its address once /health answers.

    Raises R1DistillError naming the log file when it does not start.
    """
    with log.open("ab") as log_file:
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
        yield _start(child, config, log, time.monotonic() + start_timeout_s)
    finally:
        _stop(child)


def _start(child: subprocess.Popen[bytes], config: Mapping[str, object], log: Path, deadline: float) -> str:
    assert child.stdin is not None
    assert child.stdout is not None
    with suppress(BrokenPipeError):
        child.stdin.write(json.dumps(config).encode() + b"\n")
        child.stdin.flush()
    ready, _, _ = select.select([child.stdout], [], [], max(0.0, deadline - time.monotonic()))
    line = child.stdout.readline() if ready else b""
    try:
        address = str(json.loads(line)["address"])
    except (ValueError, KeyError, TypeError):
        raise _failed(child, log) from None
    import httpx

    while time.monotonic() < deadline and child.poll() is None:
        with suppress(httpx.HTTPError):
            if httpx.get(f"{address}/health", timeout=5, trust_env=False).status_code == 200:
                return address
        time.sleep(0.05)
    raise _failed(child, log)


def _failed(child: subprocess.Popen[bytes], log: Path) -> R1DistillError:
    child.kill()
    return R1DistillError(
        f"The model server did not start (exit code {child.wait()}); its last words are in {log}."
    )


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
