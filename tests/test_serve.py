"""`r1distill serve` as a user runs it: a child of ours, asked over HTTP, ended by Ctrl-C; and what it finds to serve."""

from __future__ import annotations

import json
import os
import re
import select
import shlex
import signal
import socket
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from tiny_student import CHATML, save_tiny_student, tiny_tokenizer

from r1distill.cli import main
from r1distill.errors import InputError, R1DistillError, UsageError
from r1distill.serve import Settings, Source, find, serve
from r1distill.show import Show

pytestmark = pytest.mark.train
KEY = "a-key-for-tests-5d41"


@pytest.fixture(scope="module")
def gguf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("xllamacpp")
    from r1distill.exports.gguf_model import write_gguf

    folder = tmp_path_factory.mktemp("tiny")
    save_tiny_student(folder / "base")
    (folder / "export").mkdir()
    return write_gguf(
        folder / "base", tiny_tokenizer(), CHATML, folder / "export" / "tiny-f16.gguf", "f16", "tiny"
    )


@contextmanager
def running(*arguments: str) -> Iterator[tuple[subprocess.Popen[str], dict[str, Any]]]:
    """`r1distill serve` in a child, once it says that it answers."""
    command = [sys.executable, "-m", "r1distill", "serve", *arguments, "--port", "0", "--json"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, text=True, env={**os.environ, "TINY_KEY": KEY}, **pipes) as child:
        try:
            assert child.stdout is not None
            assert select.select([child.stdout], [], [], 120)[0]
            line = child.stdout.readline()
            assert line, child.stderr.read() if child.stderr else ""
            yield child, json.loads(line)
        finally:
            child.kill()


def refused(url: str) -> bool:
    address = httpx.URL(url)
    with socket.socket() as probe:
        return probe.connect_ex((str(address.host), int(address.port or 0))) != 0


def test_an_export_answers_with_a_key_until_ctrl_c(gguf: Path) -> None:
    own = ("--api-key-env", "TINY_KEY", "--threads", "1", "--context-tokens", "256")
    with running(str(gguf.parent), *own) as (child, served):
        assert served["url"].startswith("http://127.0.0.1:")
        assert (served["model"], served["server"], served["api_key"]) == ("tiny-f16", "llama.cpp", True)
        body = {"model": served["model"], "messages": [{"role": "user", "content": "hi"}], "max_tokens": 4}
        address = f"{served['url']}/chat/completions"
        assert httpx.post(address, json=body, trust_env=False).status_code == 401
        answer = httpx.post(
            address, json=body, headers={"Authorization": f"Bearer {KEY}"}, timeout=60, trust_env=False
        )
        assert answer.json()["usage"]["completion_tokens"] >= 1
        assert answer.json()["model"] == served["model"]  # no path
        child.send_signal(signal.SIGINT)
        _, told = child.communicate(timeout=30)
    assert (child.returncode, refused(served["url"])) == (0, True)
    assert "$TINY_KEY" in told
    assert KEY not in told
    assert "Stopped." in told
    assert "Traceback" not in told


def test_the_example_works_without_a_key_and_sigterm_ends_it(gguf: Path) -> None:
    with running(str(gguf), "--threads", "1", "--context-tokens", "256") as (child, served):
        assert not served["api_key"]
        assert child.stderr is not None
        told = [child.stderr.readline() for _ in range(2)]
        command = next(line for line in told if line.startswith("curl"))
        found = re.fullmatch(r"curl (\S+) -H 'Content-Type: application/json' -d (.*)\n", command)
        assert found
        (body,) = shlex.split(found[2])
        answer = httpx.post(
            found[1], content=body, headers={"Content-Type": "application/json"}, timeout=60, trust_env=False
        )
        assert answer.json()["choices"][0]["message"]["role"] == "assistant"
        child.send_signal(signal.SIGTERM)
        child.communicate(timeout=30)
    assert (child.returncode, refused(served["url"])) == (0, True)


def test_a_server_that_dies_is_one_sentence(gguf: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("r1distill.serve.LOOK_EVERY_S", 0.01)

    def kill(_: Any) -> None:
        children = subprocess.run(
            ["ps", "-o", "pid=,args=", "--ppid", str(os.getpid())], capture_output=True, text=True, check=True
        )
        (pid,) = [int(line.split()[0]) for line in children.stdout.splitlines() if "embedded_child" in line]
        os.kill(pid, signal.SIGKILL)

    settings = Settings(port=0, context_tokens=256, threads=1)
    with pytest.raises(R1DistillError, match=r"ended by itself; its last words are in (.*\.log)") as caught:
        serve(gguf, settings, show=Show(0), ready=kill)
    log = Path(re.search(r"in (\S+\.log)", str(caught.value))[1])  # type: ignore[index]
    assert log.is_file()
    log.unlink()


@pytest.mark.parametrize(
    ("broken", "words"),
    [
        (lambda whole: whole[: len(whole) // 2], "data is not within the file bounds, model is corrupted"),
        (lambda whole: b"", "failed to read magic"),
        (lambda whole: b"GGUX" + whole[4:], "invalid magic characters: 'GGUX'"),
        (lambda whole: whole.replace(b"llama", b"lxama"), "unknown model architecture: 'lxama'"),
        (lambda whole: whole[:8] + struct.pack("<Q", 2**62) + whole[16:], "number of tensors is"),
    ],
    ids=["cut", "empty", "no GGUF", "architecture", "tensors"],
)
def test_a_damaged_gguf_is_told_by_llama_cpps_own_words(
    gguf: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, broken: Callable[[bytes], bytes], words: str
) -> None:
    logs = tmp_path / "logs"
    logs.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(logs))
    (tmp_path / "bad.gguf").write_bytes(broken(gguf.read_bytes()))
    with pytest.raises(R1DistillError, match=rf"The model server can't serve .*bad\.gguf: .*{words}"):
        serve(tmp_path / "bad.gguf", Settings(port=0, context_tokens=256, threads=1), show=Show(0))
    assert list(logs.iterdir()) == []


def test_what_there_is_to_serve(gguf: Path, tmp_path: Path) -> None:
    assert find(gguf) == find(gguf.parent) == Source(gguf)
    assert find(gguf.parents[1] / "base") == Source(gguf.parents[1] / "base")
    for target, words in (
        (tmp_path / "no.gguf", "There is no GGUF file"),
        (tmp_path / "no", "There is nothing to serve at"),
        (Path(__file__), "There is nothing to serve at"),
        (tmp_path, "has neither config.json nor a GGUF file"),
    ):
        with pytest.raises(InputError, match=words):
            find(target)
    for name in "ab":
        (tmp_path / f"{name}.gguf").write_bytes(b"GGUF")
    with pytest.raises(InputError, match="has 2 GGUF files: name one of them"):
        find(tmp_path)
    (tmp_path / "adapter_config.json").write_text("{}")
    with pytest.raises(InputError, match="is an adapter, and where its base lies is not known"):
        find(tmp_path)


def test_a_taken_port_an_unset_key_and_a_key_nobody_asks_for(
    gguf: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert main(["serve", str(gguf), "--port", str(port)]) == 2
    assert f"Port {port} of 127.0.0.1 can't be used" in capsys.readouterr().err
    with pytest.raises(UsageError, match=r"NO_SUCH_KEY \(--api-key-env\) is not set"):
        serve(gguf, Settings(api_key_env="NO_SUCH_KEY"), show=Show(0))
    monkeypatch.setenv("TINY_KEY", KEY)
    with pytest.raises(UsageError, match="works for GGUF files only"):
        serve(gguf.parents[1] / "base", Settings(api_key_env="TINY_KEY"), show=Show(0))
