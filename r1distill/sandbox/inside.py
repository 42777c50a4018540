"""The first process inside: set the limits and the filter of system calls, then be the program.

Its text is run by `python -c`, so it imports no r1distill. Arguments: the descriptor of the job (a literal), the descriptor for
reports. Reports are JSON lines: {"started"} when the limits and the filter stand, then {"error": class name}, {"value": ...} of a
call, or {"done": token} behind the assertions. As few modules as possible are imported: each program waits for them anew.
"""

from __future__ import annotations

import sys

sys.path[:] = [path for path in sys.path if path]  # first of all: nothing is imported from the working folder

import os  # noqa: E402
import resource  # noqa: E402

TYPE_CHECKING = False  # so that `typing` need not be imported: that would take as long as all the rest
if TYPE_CHECKING:
    from typing import Any

# ruff: noqa: SIM105 - contextlib takes long to import
MIB = 1 << 20
PR_SET_SECCOMP, SECCOMP_MODE_FILTER, PR_SET_NO_NEW_PRIVS = 22, 2, 38
PREAMBLE = (
    "from typing import *\nfrom collections import *\nfrom functools import *\nfrom itertools import *\n"
    "from heapq import *\nfrom bisect import *\nimport collections, functools, itertools, heapq, bisect, math, random, re, string"
)
"""What solutions in the form of LeetCode take for granted; only where a test calls a function."""


def main(job_fd: int, report_fd: int) -> None:
    """Read the job, limit this process, run the program; one that reads and prints ends as Python ends, with its threads."""
    with open(job_fd, "rb") as file:
        job = eval(file.read(), {})  # a dict by execute.py; to import json would take a quarter of the start
    limit(job["limits"])
    if job["filter"]:
        filter_calls(bytes.fromhex(job["filter"]))
    report(report_fd, {"started": "yes"})
    sys.argv[:] = ["answer.py"]
    sys.dont_write_bytecode = True
    if hasattr(sys, "set_int_max_str_digits"):
        sys.set_int_max_str_digits(0)  # as before Python 3.11, for which many tests were written
    ends_as_python_does = job["kind"] == "stdin"
    try:
        found = run(job)
        sys.stdout.flush()
    except SystemExit as error:
        status = exit_status(error.code)
        left = {"error": f"exit status {status}"} if status else {}
        found = left if job["kind"] == "stdin" else {"error": "SystemExit"}
    except BaseException as error:  # noqa: BLE001 - whatever the program raises is a result
        ends_as_python_does = False
        found = {"error": name_of(error)}
    report(report_fd, found)
    if not ends_as_python_does:
        flush()
        os._exit(0)


def run(job: dict[str, Any]) -> dict[str, Any]:
    """Run the program as __main__, then what the test does with it."""
    module = type(sys)("__main__")
    sys.modules["__main__"] = module
    names = module.__dict__
    if job["kind"] == "call":
        import json  # ahead of the program, which may leave no memory for it

        args = json.loads(job["args"])
        execute(PREAMBLE, names)
    for text in [*job["before"], job["source"]]:
        execute(text, names)
    if job["kind"] == "call":
        return {"value": call(names, job["name"], args)}
    for text in job["after"]:
        execute(text, names)
    return {"done": job["token"]}


def execute(text: str, names: dict[str, Any]) -> None:
    """Run a piece of Python in these names, without the __future__ of this file."""
    exec(compile(text, "<answer>", "exec", dont_inherit=True), names)


def call(names: dict[str, Any], name: str, args: list[Any]) -> object:
    """The function of that name, or the method of a class Solution, called."""
    function = names.get(name)
    if function is None and "Solution" in names:
        function = getattr(names["Solution"](), name, None)
    if not callable(function):
        raise NameError(name)
    return function(*args)


def exit_status(code: object) -> int:
    """What the shell would see of sys.exit(code): all that is neither a number nor None is a message, and a failure."""
    if code is None:
        return 0
    return int(code) & 255 if isinstance(code, int) else 1


def name_of(error: BaseException) -> str:
    """The class of an error where Python itself has it: names that a program makes up can't be counted."""
    found = type(error)
    return found.__name__ if found.__module__ == "builtins" else "an exception of its own"


def limit(limits: dict[str, int]) -> None:
    """Limits that the kernel keeps, for this process and all that it starts. Only lower ones can be set: none is raised."""
    lower(resource.RLIMIT_CORE, 0)
    lower(resource.RLIMIT_AS, limits["memory_mb"] * MIB)
    lower(resource.RLIMIT_FSIZE, limits["files_mb"] * MIB)
    lower(resource.RLIMIT_NOFILE, 256)
    lower(resource.RLIMIT_NPROC, limits["tasks"])
    lower(resource.RLIMIT_CPU, limits["cpu_s"], 1)


def lower(kind: int, value: int, more: int = 0) -> None:
    """Set the soft limit to `value` and the hard one to `more` above it, as far as today's hard limit allows."""
    _, hard = resource.getrlimit(kind)
    top = value + more if hard == resource.RLIM_INFINITY else min(value + more, hard)
    resource.setrlimit(kind, (min(value, top), top))


def filter_calls(program: bytes) -> None:
    """Have the kernel judge each system call by this array of struct sock_filter, from now on and in all that is started.

    Raises ImportError or OSError where that can't be done: then nothing is run.
    """
    import ctypes  # here, as only a filter needs it

    prctl = ctypes.CDLL(None, use_errno=True).prctl
    prctl.argtypes = [ctypes.c_int, *[ctypes.c_ulong] * 4]
    steps = ctypes.create_string_buffer(program, len(program))
    array_at = ctypes.addressof(steps)
    fprog = (ctypes.c_size_t * 2)(len(program) // 8, array_at)  # struct sock_fprog where little-endian
    head = ctypes.addressof(fprog)
    if prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) or prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, head, 0, 0):
        raise OSError(ctypes.get_errno(), "no filter of system calls")


def report(report_fd: int, what: dict[str, Any]) -> None:
    """Write one line; a value that is no JSON becomes an error."""
    try:
        line = as_json(what)
    except (TypeError, ValueError, RecursionError):
        line = '{"error": "a value that is no JSON"}'
    except MemoryError:
        line = '{"error": "MemoryError"}'
    rest = line.encode("utf-8", "replace") + b"\n"
    try:
        while rest:
            rest = rest[os.write(report_fd, rest) :]
    except OSError:
        pass


def as_json(what: dict[str, Any]) -> str:
    """JSON; the rows of plain words, with which most programs end, are written without importing json."""
    texts = what.values()
    if all(type(text) is str and text.isascii() and text.replace(" ", "").isalnum() for text in texts):
        return "{" + ", ".join(f'"{name}": "{text}"' for name, text in what.items()) + "}"
    import json

    return json.dumps(what, default=list)


def flush() -> None:
    """What was printed before an error still counts as printed."""
    try:
        sys.stdout.flush()
    except (OSError, ValueError, AttributeError):
        pass


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
