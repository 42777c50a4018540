"""The parent of a program that has limits only: it ends what the program leaves behind. Its text is run by `python -c`.

Arguments: the user id of the program (-1: the caller's own), then its command; descriptors from 3 up are handed on. What loses
its parent becomes a child of this process (prctl(2), PR_SET_CHILD_SUBREAPER). A program of the same user can kill this process
and stay: that is why limits are no sandbox.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import sys
import time

PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36
SWEEP_S = 2.0
"""Seconds for killing what goes on starting processes."""


def main() -> None:
    """Run the command, sweep, end as it ended."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    libc.prctl(PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
    uid, command = int(sys.argv[1]), sys.argv[2:]
    signal.signal(signal.SIGTERM, lambda *_: stop(uid))
    child = os.fork()
    if child == 0:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        os.setsid()
        os.execvp(command[0], command)
    _, status = os.waitpid(child, 0)
    sweep(uid)
    os._exit(os.WEXITSTATUS(status) if os.WIFEXITED(status) else 128 + os.WTERMSIG(status))


def stop(uid: int) -> None:
    """The caller has seen enough."""
    sweep(uid)
    os._exit(143)


def sweep(uid: int) -> None:
    """Kill all children until there is none; processes of a user of their own all at once."""
    end = time.monotonic() + SWEEP_S
    while time.monotonic() < end:
        if uid >= 0:
            kill_all_of(uid)
        for pid in children():
            kill(pid)
        try:
            while os.waitpid(-1, os.WNOHANG) != (0, 0):
                pass
        except ChildProcessError:
            return
        time.sleep(0.001)


def kill_all_of(uid: int) -> None:
    """kill(-1) by a process of that user reaches all of them in one system call, so that none can fork away."""
    helper = os.fork()
    if helper == 0:
        os.setresuid(uid, uid, uid)
        kill(-1)
        os._exit(0)
    os.waitpid(helper, 0)


def kill(pid: int) -> None:
    """SIGKILL; who is gone is gone."""
    with contextlib.suppress(OSError):
        os.kill(pid, signal.SIGKILL)


def children() -> list[int]:
    """The process ids of the children of this process."""
    found, mine = [], os.getpid()
    for name in filter(str.isdigit, os.listdir("/proc")):  # noqa: PTH208 - pathlib takes long to import
        try:
            with open(f"/proc/{name}/stat", errors="replace") as file:
                fields = file.read().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[1]) == mine:
            found.append(int(name))
    return found


if __name__ == "__main__":
    main()
