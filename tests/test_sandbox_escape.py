"""Programs that try to get out: bounded, local, and in vain. What "limits" promises is less, and only that is tested there."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from r1distill.sandbox import Box, Level, Limits, Program, Ran, execute
from r1distill.sandbox.levels import LEVELS, SANDBOXES
from tests.sandbox_boxes import alive, box_of, tried

LIMITS = Limits(cpu_s=2)
SECRET = "canary-5d1f09"


@pytest.fixture(params=tried(SANDBOXES))
def sandbox(request: pytest.FixtureRequest) -> Box:
    return box_of(request.param)


@pytest.fixture
def limits_only() -> Box:
    return box_of("limits")


def run(box: Box, source: str) -> Ran:
    return execute(box, Program(source), LIMITS, 20)


def test_no_network(sandbox: Box) -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        listener.settimeout(0.2)
        port = listener.getsockname()[1]
        source = f"import socket\ntry: socket.create_connection(('127.0.0.1', {port}), 2)\nexcept OSError: print('no')"
        ran = run(sandbox, source)
        assert ran.output.startswith(b"no"), ran
        with pytest.raises(TimeoutError):
            listener.accept()
    names = run(sandbox, "import socket\nprint([name for _, name in socket.if_nameindex()])").output
    assert names.decode().strip() == "['lo']"


def test_no_unix_socket_of_the_host(sandbox: Box) -> None:
    name = f"\0r1distill-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(name)
        listener.listen()
        source = f"import socket\ns = socket.socket(socket.AF_UNIX)\ntry: s.connect({name!r})\nexcept OSError: print('no')"
        assert run(sandbox, source).output == b"no\n"


def test_no_file_outside(sandbox: Box, tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    canary.write_text(SECRET)
    canary.chmod(0o666)
    tmp_path.chmod(0o777)
    paths = [
        str(canary),
        str(tmp_path / "new"),
        "/usr/lib/new",
        "/new",
        "/etc/new",
        "/dev/new",
        "/dev/shm/new",
        "/proc/sys/new",
    ]
    home = str(Path.home() / "new")
    source = (
        "import os\n"
        f"for path in {[*paths, home]!r}:\n    for mode in ('r', 'w'):\n"
        "        try: print(path, mode, open(path, mode).write('x') if mode == 'w' else open(path).read())\n"
        "        except OSError: pass\n"
        "print(os.path.exists('/etc/passwd'), os.path.exists('/home'), os.listdir('/tmp'))"
    )
    assert run(sandbox, source).output == b"False False []\n"
    assert canary.read_text() == SECRET and not (tmp_path / "new").exists()


def test_the_private_folder_is_gone_afterwards(sandbox: Box) -> None:
    name = f"r1distill-left-{os.getpid()}"
    run(sandbox, f"open('/tmp/{name}', 'w').write('x')")
    assert not (Path("/tmp") / name).exists()
    assert run(sandbox, "import os\nprint(os.listdir('/tmp'))").output == b"[]\n"


def test_no_environment(sandbox: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_API_KEY", SECRET)
    source = (
        "import glob, os\nprint(dict(os.environ))\n"
        "for path in glob.glob('/proc/*/environ') + glob.glob('/proc/*/cmdline'):\n"
        "    try: print(open(path).read())\n    except OSError: pass"
    )
    ran = run(sandbox, source)
    assert ran.error == "" and SECRET.encode() not in ran.output and b"HOME" in ran.output


def test_no_rights(sandbox: Box) -> None:
    status = run(sandbox, "print(open('/proc/self/status').read())").output.decode()
    facts = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
    assert (facts["NoNewPrivs"], int(facts["CapEff"], 16), int(facts["CapPrm"], 16)) == ("1", 0, 0)
    assert int(facts["CapInh"], 16) == int(facts["CapAmb"], 16) == 0
    source = """
import os
for attempt in (lambda: os.setuid(12), lambda: os.chroot('/tmp'), lambda: os.mknod('/tmp/d', 0o60666, 1)):
    try: attempt(); print('did')
    except OSError: pass
print('end')
"""
    ran = run(sandbox, source)
    assert ran.output == b"end\n"


def test_no_mount(sandbox: Box) -> None:
    source = (
        "import ctypes\nlibc = ctypes.CDLL(None, use_errno=True)\n"
        "print(libc.mount(b'none', b'/tmp', b'tmpfs', 0, None), libc.mount(None, b'/', None, 4096 | 32, None),"
        " libc.umount2(b'/proc', 2))"
    )
    assert run(sandbox, source).output == b"-1 -1 -1\n"


def test_no_process_of_the_host(sandbox: Box) -> None:
    """The sandbox's own first process may be seen: it is shut in itself, with the same small environment."""
    source = (
        "import ctypes, os\nlibc = ctypes.CDLL(None)\n"
        f"print(libc.ptrace(16, {os.getpid()}, 0, 0))\n"  # PTRACE_ATTACH
        f"try: os.kill({os.getpid()}, 0); print('there')\nexcept ProcessLookupError: print('not there')\n"
        "print(len([p for p in os.listdir('/proc') if p.isdigit()]) < 5)"
    )
    assert run(sandbox, source).output == b"-1\nnot there\nTrue\n"


def test_killing_all_kills_only_itself(sandbox: Box) -> None:
    source = (
        "import os, signal\nprint('before', flush=True)\n"
        "for pid in (1, os.getppid(), -1):\n    try: os.kill(pid, signal.SIGKILL)\n    except OSError: pass\nprint('after')"
    )
    ran = run(sandbox, source)
    assert ran.output.startswith(b"before")  # and this test goes on
    assert run(sandbox, "print(1)").output == b"1\n"


BACKGROUND = (
    "import os, time\n"
    "if os.fork() == 0:\n    os.setsid()\n    if os.fork() == 0:\n"
    "        os.closerange(0, 100)\n        os.execlp('sleep', 'MARK', '30')\n    os._exit(0)\n"
    "time.sleep(0.2)\nprint('ends')"
)


@pytest.mark.parametrize("level", tried(LEVELS))
def test_no_child_outlives_its_program(level: Level) -> None:
    mark = f"mark-{level}-{os.getpid()}"
    assert run(box_of(level), BACKGROUND.replace("MARK", mark)).output == b"ends\n"
    for _ in range(200):
        if not alive(mark):
            break
    assert alive(mark) == []


@pytest.mark.parametrize("level", tried(LEVELS))
def test_a_chain_of_forks_ends(level: Level) -> None:
    mark = f"chain-{level}-{os.getpid()}"
    source = f"""
import os, time
for n in range(300):
    if os.fork(): os._exit(0)
    time.sleep(0.002)
os.execlp('sleep', '{mark}', '30')
"""
    assert run(box_of(level), source).stop == ""
    for _ in range(200):
        if not alive(mark):
            break
    assert alive(mark) == []


def test_limits_clear_the_environment_and_take_rights(
    limits_only: Box, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOME_API_KEY", SECRET)
    source = "import os\nprint(dict(os.environ), open('/proc/self/status').read())"
    output = run(limits_only, source).output.decode()
    assert SECRET not in output and "NoNewPrivs:\t1" in output and "CapEff:\t0000000000000000" in output
    if os.getuid() == 0:
        assert run(limits_only, "import os\nprint(os.getuid())").output.strip() not in (b"0", b"")


def test_limits_leave_no_folder_behind(limits_only: Box) -> None:
    folder = (
        run(limits_only, "import os\nopen('left', 'w').write('x')\nprint(os.getcwd())")
        .output.decode()
        .strip()
    )
    assert "r1distill-code-" in folder and not Path(folder).exists()
