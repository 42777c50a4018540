"""Model servers in child processes: started, found broken, stopped, never orphaned; and what they are told."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import httpx
import pytest

from r1distill.errors import MissingPackageError, R1DistillError
from r1distill.teachers import embedded, embedded_child, local
from r1distill.teachers.child import served

CHILD = """
import http.server, json, os, sys, threading
config = json.loads(sys.stdin.readline())
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        body = json.dumps({"pid": os.getpid(), "config": config}).encode()
        self.send_response(200); self.send_header("Content-Length", str(len(body))); self.end_headers()
        self.wfile.write(body)
    def log_message(self, *args): pass
server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
print(json.dumps({"address": f"http://127.0.0.1:{server.server_port}"}), flush=True)
threading.Thread(target=lambda: (sys.stdin.read(), os._exit(0)), daemon=True).start()
server.serve_forever()
"""


@pytest.fixture
def child(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Make a module that can be run as a child out of a text; returns its name."""

    def make(text: str) -> str:
        (tmp_path / "child_of_a_test.py").write_text(text)
        monkeypatch.syspath_prepend(str(tmp_path))
        return "child_of_a_test"

    return make


def gone(pid: int, within_s: float = 5) -> bool:
    end = time.monotonic() + within_s
    while time.monotonic() < end:
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.01)
    return False


def test_it_serves_while_the_block_runs(child: Any, tmp_path: Path) -> None:
    with served(child(CHILD), {"model": "m"}, tmp_path / "log", 20) as address:
        said = httpx.get(f"{address}/health", trust_env=False).json()
    assert said["config"] == {"model": "m"}
    assert gone(said["pid"])


def test_it_is_stopped_when_the_block_fails(child: Any, tmp_path: Path) -> None:
    pids: list[int] = []
    with pytest.raises(KeyError), served(child(CHILD), {}, tmp_path / "log", 20) as address:
        pids.append(httpx.get(address, trust_env=False).json()["pid"])
        raise KeyError
    assert gone(pids[0])


def test_it_ends_with_a_killed_parent(child: Any, tmp_path: Path) -> None:
    name = child(CHILD)
    parent = (
        f"import sys; sys.path[:] = {sys.path!r}\n"
        "import os, signal, httpx; from pathlib import Path; from r1distill.teachers.child import served\n"
        f"with served({name!r}, {{}}, Path({str(tmp_path / 'log')!r}), 20) as address:\n"
        "    print(httpx.get(address, trust_env=False).json()['pid'], flush=True); os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = subprocess.run([sys.executable, "-c", parent], capture_output=True, timeout=60, check=False)
    assert done.returncode == -9, done.stderr
    assert gone(int(done.stdout))


@pytest.mark.parametrize(
    "text",
    [
        "import sys; sys.exit('no such model')",
        "print('hello', flush=True)",
        "print('{}', flush=True)",
        "print('[]', flush=True)",
        "import json; print(json.dumps({'address': 'http://127.0.0.1:9'}), flush=True)",
    ],
)
def test_one_that_does_not_start_is_an_error_that_names_the_log(
    child: Any, tmp_path: Path, text: str
) -> None:
    with pytest.raises(R1DistillError, match="log"), served(child(text), {}, tmp_path / "log", 20):
        pass


def test_one_that_says_nothing_is_given_up(child: Any, tmp_path: Path) -> None:
    with (
        pytest.raises(R1DistillError, match="did not start"),
        served(child("input(); input()"), {}, tmp_path / "log", 0.5),
    ):
        pass


def test_the_embedded_server_is_told_all_it_needs(tmp_path: Path) -> None:
    pytest.importorskip("xllamacpp")
    config = {
        "model": "m.gguf",
        "adapter": "a.gguf",
        "key": "k",
        "threads": 2,
        "parallel": 3,
        "context_tokens": 512,
        "slot_folder": "slots/",
    }
    p = embedded_child.parameters(config)
    assert (p.model.path, p.hostnames, p.port, p.api_keys) == ("m.gguf", ["127.0.0.1"], 0, ["k"])
    assert (p.n_parallel, p.n_ctx, p.cpuparams.n_threads) == (3, 1536, 2)
    assert [(a.path, a.scale) for a in p.lora_adapters] == [("a.gguf", 1.0)]
    assert not embedded_child.parameters({**config, "adapter": None}).lora_adapters


def test_a_missing_package_is_named_with_its_command(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with (
        pytest.raises(MissingPackageError, match=r"r1distill\[embedded\]"),
        embedded.embedded_server(
            tmp_path, adapter=None, threads=1, parallel=1, context_tokens=128, log=tmp_path / "log"
        ),
    ):
        pass
    with (
        pytest.raises(MissingPackageError, match=r"r1distill\[train\]"),
        local.local_server(tmp_path, tmp_path / "log"),
    ):
        pass
