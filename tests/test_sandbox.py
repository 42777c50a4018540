"""The sandbox, level by level: what a program may do, and the limits that stop it. Every program here is really run."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import msgspec
import pytest

from r1distill.errors import R1DistillError
from r1distill.sandbox import Box, Level, Limits, Program, Ran, execute, find_box, works
from r1distill.sandbox.commands import ENVIRONMENT, command
from r1distill.sandbox.levels import LEVELS, SANDBOXES
from tests.sandbox_boxes import alive, box_of, tried

ONE = Limits(cpu_s=1)


@pytest.fixture(params=tried(LEVELS))
def box(request: pytest.FixtureRequest) -> Box:
    return box_of(request.param)


@pytest.fixture(params=tried(SANDBOXES))
def sandbox(request: pytest.FixtureRequest) -> Box:
    return box_of(request.param)


def run(box: Box, source: str, limits: Limits = ONE, max_wall_s: float = 20, **more: Any) -> Ran:
    return execute(box, Program(source, **more), limits, max_wall_s)


def test_a_program_reads_and_prints(box: Box) -> None:
    ran = run(
        box, "import sys\nprint(int(input()) + 1, sys.stdin.read(), sys.argv, __name__)", stdin="41\nrest\n"
    )
    assert (ran.stop, ran.error) == ("", "")
    assert ran.output == b"42 rest\n ['answer.py'] __main__\n"


def test_big_input_and_what_is_printed_at_exit(box: Box) -> None:
    source = "import atexit, sys\natexit.register(lambda: print(len(sys.stdin.read())))\nsys.exit(3)"
    assert run(box, source, stdin="x" * 3_000_000).output == b"3000000\n"


def test_a_call_returns_its_value(box: Box) -> None:
    source = "class Solution:\n    def f(self, xs: List[int]): return {'n': Counter(xs)[1], 't': (1, 2.5), 's': None}"
    assert run(box, source, kind="call", name="f", args=[[1, 1]]).value == [
        {"n": 2, "t": [1, 2.5], "s": None}
    ]
    ran = run(box, "def f(): return object()", kind="call", name="f")
    assert (ran.value, ran.error) == (None, "a value that is no JSON")
    assert run(box, "f = 1", kind="call", name="f").error == "NameError"


def test_assertions(box: Box) -> None:
    source = "def f(x): return x + one"
    assert run(box, source, kind="assert", before=["one = 1"], after=["assert f(1) == 2"]).done
    ran = run(box, source, kind="assert", before=["one = 1"], after=["assert f(1) == 3"])
    assert (ran.done, ran.error) == (False, "AssertionError")


def test_what_a_program_reports_of_itself_is_not_believed() -> None:
    box = find_box(without_sandbox=True)
    for said in ("x" * 5000, "\x1b[2J", "\ud800", "print", 7, ["a"], None):
        rows = [{"error": said}, {"done": said}, {"error": said, "value": [said]}]
        lines = repr("".join(json.dumps(row) + "\n" for row in rows))
        source = f"import os\nfor fd in range(3, 20):\n  try: os.write(fd, {lines}.encode())\n  except OSError: pass\nos._exit(0)"
        ran = run(box, source, kind="assert", after=["assert False"])
        assert ran.error == "an exception of its own" and not ran.done


def test_a_program_is_compiled_as_it_stands(box: Box) -> None:
    assert run(box, "def f(x: int): pass\nprint(f.__annotations__)").output == b"{'x': <class 'int'>}\n"


def test_long_integers_print(box: Box) -> None:
    assert len(run(box, "print(2 ** 100_000)").output) == 30104


FORGED = """
import os
for fd in range(3, 20):
    try: os.write(fd, b'{"done": "x"}\\n')
    except OSError: pass
os._exit(0)
"""


@pytest.mark.parametrize("source", ["import os\nos._exit(0)", "raise SystemExit", FORGED])
def test_leaving_early_is_not_passing(box: Box, source: str) -> None:
    assert not run(box, source, kind="assert", after=["assert False"]).done


def test_how_programs_end(box: Box) -> None:
    assert run(box, "print(1)\n1/0") == run(box, "print(1)\n1/0").__class__(
        output=b"1\n", error="ZeroDivisionError", cpu_s=pytest.approx(0, abs=2)
    )
    assert run(box, "x = (").error == "SyntaxError"
    assert run(box, "class Wow(Exception): pass\nraise Wow").error == "an exception of its own"
    assert run(box, "import os, signal\nos.kill(os.getpid(), signal.SIGSEGV)").error == "a signal"
    assert run(box, "\x00").error in ("ValueError", "SyntaxError")
    assert run(box, "print('\ud800')").error == "UnicodeEncodeError"


@pytest.mark.parametrize(
    ("how", "error"),
    [
        ("raise SystemExit(3)", "exit status 3"),
        ("import sys; sys.exit('no')", "exit status 1"),
        ("raise SystemExit(-1)", "exit status 255"),
        ("import os, sys; sys.stdout.flush(); os._exit(4)", "exit status 4"),
        ("raise SystemExit", ""),
        ("raise SystemExit(False)", ""),
    ],
)
def test_an_exit_status_is_an_error(box: Box, how: str, error: str) -> None:
    ran = run(box, f"print(1)\n{how}")
    assert (ran.output, ran.error) == (b"1\n", error)


def test_time_is_limited(box: Box) -> None:
    started = time.monotonic()
    assert run(box, "x = 7 ** (7 ** 10)").stop == "timeout"  # inside one long C call
    assert run(box, "import time\ntime.sleep(60)", max_wall_s=0.5).stop == "timeout"
    assert time.monotonic() - started < 12


def test_who_ignores_the_first_signal_gets_the_second() -> None:
    box = find_box(without_sandbox=True)
    source = "import signal\nsignal.signal(signal.SIGXCPU, signal.SIG_IGN)\nwhile True: pass"
    assert run(box, source).stop == "timeout"


def test_output_is_limited(box: Box) -> None:
    limits = Limits(cpu_s=10, output_bytes=100_000)
    ran = run(box, "while True: print('x' * 1000)", limits)
    assert ran.stop == "output limit" and len(ran.output) < 200_000
    assert run(box, "import sys\nsys.stderr.write('x' * 10_000_000)\nprint(1)", limits).output == b"1\n"
    assert run(box, "def f(): return 'x' * 300_000", limits, kind="call", name="f").stop == "output limit"


def test_memory_is_limited(box: Box) -> None:
    assert run(box, "x = bytearray(2_000_000_000)").stop == "memory limit"
    together = """
import os, time
for n in range(6):
    if os.fork() == 0:
        x = bytearray(b'x') * 100_000_000
        time.sleep(20)
        os._exit(0)
time.sleep(20)
"""
    assert run(box, together, Limits(cpu_s=10, memory_mb=256)).stop == "memory limit"


def test_files_are_limited(box: Box) -> None:
    source = "import tempfile\nwith tempfile.TemporaryFile() as f:\n    for n in range(60): f.write(b'x' * 1_000_000); f.flush()"
    assert run(box, source, Limits(files_mb=4)).error == "OSError"


def test_private_folder_is_bounded_as_a_whole(sandbox: Box) -> None:
    source = "for n in range(60): open(f'f{n}', 'wb').write(b'x' * 1_000_000)"
    assert run(sandbox, source, Limits(files_mb=4)).error in ("OSError", "PermissionError")


def test_processes_are_limited_and_swept(box: Box) -> None:
    source = """
import os, time
forks = 0
try:
    for n in range(300):
        if os.fork() == 0: time.sleep(30); os._exit(0)
        forks += 1
except OSError: pass
print(forks, flush=True)
"""
    ran = run(box, source, Limits(cpu_s=5, processes=10))
    assert ran.stop == "process limit" or 5 <= int(ran.output) <= 12
    assert alive("os.fork() == 0: time.sleep(30)") == []


def test_threads_within_the_limit_are_fine(box: Box) -> None:
    source = """
import os, threading
threads = [threading.Thread(target=os.write, args=(1, b"x")) for n in range(5)]
for thread in threads: thread.start()
for thread in threads: thread.join()
"""
    assert run(box, source).output == b"xxxxx"


def test_the_usual_devices_are_there(box: Box) -> None:
    source = "import os\nprint(open('/dev/stdin').read())\nopen('/dev/null', 'w').write('x')\nprint(len(os.urandom(3)))"
    assert run(box, source, stdin="in").output == b"in\n3\n"


def test_sets_print_the_same_every_time(box: Box) -> None:
    source = "print({str(n) for n in range(20)})"
    assert run(box, source).output == run(box, source).output


@pytest.mark.parametrize("level", tried(LEVELS))
def test_a_killed_caller_takes_its_program_along(level: Level) -> None:
    box, mark = box_of(level), f"mark-{level}-{time.time_ns()}"
    sleeper = f"import os\nos.execlp('sleep', '{mark}', '30')"
    code = (
        "import sys, msgspec\nfrom r1distill.sandbox import Box, Limits, Program, execute\n"
        "execute(msgspec.json.decode(sys.argv[1], type=Box), Program(sys.argv[2]), Limits())"
    )
    caller = subprocess.Popen([sys.executable, "-c", code, msgspec.json.encode(box).decode(), sleeper])
    end = time.monotonic() + 10
    while not alive(mark, but=caller.pid) and time.monotonic() < end:
        time.sleep(0.02)
    assert alive(mark, but=caller.pid)
    caller.kill()
    caller.wait()
    while alive(mark) and time.monotonic() < end:
        time.sleep(0.02)
    assert alive(mark) == []


def test_the_strongest_level_is_chosen() -> None:
    working = [level for level in LEVELS if works(level)[0]]
    assert find_box(without_sandbox=True).level == working[0]


@pytest.mark.parametrize("level", LEVELS)
def test_each_level_says_what_it_is(level: Level) -> None:
    said = Box(level, "p", "/usr", "3.11.7").sentence()
    assert "Python 3.11.7" in said and ("not a sandbox" in said) == (level == "limits")


def test_without_a_sandbox_nothing_runs_unasked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(
        R1DistillError, match=r"bwrap is not installed.*unshare is not installed.*allow_exec_without_sandbox"
    ):
        find_box()


def test_the_command_line_of_bubblewrap() -> None:
    box = Box(
        "bubblewrap",
        "/srv/py/bin/python",
        "/srv/py",
        "3.11.7",
        "/usr/bin/bwrap",
        ("--size", "--disable-userns"),
    )
    line = command(box, Limits(), None, ["inside"])
    for wanted in ("--unshare-user", "--disable-userns", "--unshare-net", "--unshare-pid", "--unshare-ipc", "--unshare-uts",
                   "--die-with-parent", "--new-session"):  # fmt: skip
        assert wanted in line
    assert line[line.index("--cap-drop") :][:2] == ["--cap-drop", "ALL"] and "--cap-add" not in line
    assert "--bind" not in line and "--dev-bind" not in line and "/srv" not in line[line.index("--ro-bind") :]
    assert line[line.index("/srv/py") - 1 :][:3] == ["--ro-bind", "/srv/py", "/srv/py"]
    assert line[line.index("--remount-ro") :][:2] == ["--remount-ro", "/dev"]
    assert line[line.index("/dev/zero") - 2 :][:3] == ["--ro-bind", "/dev/null", "/dev/zero"]
    assert line[-4:] == ["--no-new-privs", "--inh-caps=-all", "--", "inside"]
    assert "--tmpfs" not in command(box.__class__("bubblewrap", "p", "/usr", "3", "b"), Limits(), None, [])


def test_the_environment_is_small() -> None:
    assert set(ENVIRONMENT) == {"PATH", "HOME", "TMPDIR", "LANG", "PYTHONHASHSEED"}
