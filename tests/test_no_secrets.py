"""The key reaches no file, no output and no log, however a teacher echoes it in its failures."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import quote

import pytest
from fake_teacher import (
    STREAM_HEAD,
    Act,
    FakeTeacher,
    Request,
    answer,
    error,
    event,
    hang,
    http,
    piece,
    raw,
    stream_answer,
    streamed,
)
from small_run import KEY_VARIABLE, SmallRun

from r1distill.teachers import retry

KEYS = {
    "plain": "Zq8vK2mXw9RtL4bNc7HdPf3GsJ6yTe5A",
    "prefixed": "sk-proj-Zq8vK2mX_w9RtL4bNc7HdPf3GsJ6yTe5A",
    "with signs": "Zq8vK2mX+w9RtL4b/Nc7HdPf3=GsJ6yTe5A==",
}
Echo = Callable[[str], Act]


def with_headers(status: int, key: str) -> Act:
    """The key in the headers that are read or reported."""
    body = json.dumps({"error": {"message": "no", "code": None}}).encode()
    return Act(
        (http(status, body, WWW_Authenticate=f'Bearer realm="{key}"', Retry_After=key, X_Request_Id=key, Set_Cookie=f"k={key}"),),
        keep_alive=True,
    )  # fmt: skip


def page(status: int, key: str) -> Act:
    body = f"<html><head><title>{key}</title></head><body><p>Your key is {key}.</p></body></html>"
    return raw(body.encode(), status, "text/html")


STOPPING: dict[str, Echo] = {
    "401 text": lambda key: error(401, f"Incorrect API key provided: {key}."),
    "401 tail": lambda key: error(401, f"Incorrect API key provided: {key[:8]}********{key[-8:]}."),
    "401 code and type": lambda key: error(401, "no", code=key, type=key),
    "401 quoted": lambda key: error(401, f"bad request to /v1?key={quote(key, safe='')}&x=1"),
    "401 page": lambda key: page(401, key),
    "401 headers": lambda key: with_headers(401, key),
    "401 odd body": lambda key: raw(
        json.dumps({"headers": {"authorization": f"Bearer {key}"}}).encode(), 401
    ),
    "402 detail": lambda key: raw(json.dumps({"detail": f"account of {key}"}).encode(), 402),
    "404 metadata": lambda key: raw(
        json.dumps({"error": {"message": "x", "code": 404, "metadata": {"raw": f"key {key}"}}}).encode(), 404
    ),
    "redirect": lambda key: raw(b"", 307, Location=f"http://127.0.0.2:9/{key}/v1?key={key}"),
    "redirect host": lambda key: raw(b"", 302, Location=f"http://{key}@127.0.0.2:9/v1"),
    "quota": lambda key: error(429, f"quota of {key} in organization org-{key}", code="insufficient_quota"),
}
PASSING: dict[str, Echo] = {
    "500 text": lambda key: error(500, f"failed for {key}"),
    "502 page": lambda key: page(502, key),
    "429 headers": lambda key: with_headers(429, key),
    "error in a 200": lambda key: raw(json.dumps({"error": {"message": key, "code": 500}}).encode()),
    "malformed": lambda key: raw(b"Bearer " + key.encode() + b" {"),
    "odd end": lambda key: answer("", finish=key),
    "error event": lambda key: streamed(piece(content="4"), event({"error": {"message": key, "code": 502}})),
    "malformed event": lambda key: Act((STREAM_HEAD, b"data: " + key.encode() + b"\n\n")),
    "final": lambda key: error(400, f"content filter for {key}", code="content_filter"),
}


def windows(key: str) -> set[bytes]:
    """Every stretch of eight characters of the key, and of its encoded form."""
    forms = (key, base64.b64encode(key.encode()).decode())
    return {form[i : i + 8].encode() for form in forms for i in range(len(form) - 7)}


def leaks(key: str, folder: Path, *texts: str) -> list[str]:
    """Where a piece of the key can be found: files below `folder`, by name, and the texts themselves."""
    parts = windows(key)
    files = [path for path in folder.rglob("*") if path.is_file()]
    found = [
        str(path) for path in files if any(part in path.read_bytes() + path.name.encode() for part in parts)
    ]
    return found + [text for text in texts if any(part in text.encode() for part in parts)]


class World(SmallRun):
    """A small run whose teacher echoes the key."""

    def __init__(self, folder: Path) -> None:
        self.act: Callable[[Request], Act] = lambda request: answer("42")
        self.server = FakeTeacher(lambda request: self.act(request)).__enter__()
        super().__init__(folder, self.server.base_url, problems=2, samples=1)
        self.data["harvest"].update(max_attempts=2, idle_timeout_s=0.3, total_timeout_s=0.6)

    def command(self, capfd: pytest.CaptureFixture[str], *options: str) -> tuple[int, str, str]:
        """`r1distill harvest` as the command line does it: exit code, stdout, stderr."""
        from r1distill.cli import main

        self.run.save_recipe(self.recipe)
        code = main(["harvest", str(self.run.folder), *options])
        out, err = capfd.readouterr()
        return code, out, err


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    monkeypatch.setattr(retry, "FIRST_BOUND_S", 0.0)
    world = World(tmp_path)
    yield world
    world.server.release()
    world.server.close()


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "stream"])
@pytest.mark.parametrize("kind", KEYS)
def test_no_failure_leaves_a_piece_of_the_key(
    world: World, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], kind: str, stream: bool
) -> None:
    key = KEYS[kind]
    monkeypatch.setenv(KEY_VARIABLE, key)
    world.data["harvest"]["stream"] = stream
    for name, echo in {**PASSING, **STOPPING}.items():
        act = echo(key)
        world.act = lambda request, act=act: act
        code, out, err = world.command(capfd, "-v", "--json", "--retry-failed")
        assert leaks(key, world.folder, out, err) == [], name
        assert code == (1 if name in STOPPING else 0 if name == "final" else code), (name, err)
        assert "Traceback" not in err
    world.act = lambda request: stream_answer("42") if stream else answer("42")
    code, out, err = world.command(capfd, "-v", "--json", "--retry-failed")
    assert (code, json.loads(out)["still_owed"]) == (0, 0)
    assert leaks(key, world.folder, out, err) == []
    assert all(request.headers["authorization"] == f"Bearer {key}" for request in world.server.requests)


def test_the_test_would_find_it(tmp_path: Path) -> None:
    key = KEYS["plain"]
    (tmp_path / "a.jsonl").write_text(f"...{key[3:11]}...")
    assert leaks(key, tmp_path, "fine", key[-8:]) == [str(tmp_path / "a.jsonl"), key[-8:]]
    assert leaks(key, tmp_path / "none", key[:7]) == []


def test_not_even_with_all_debugging_on(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """openai's own log and asyncio's, in a process of its own."""
    key = KEYS["prefixed"]
    monkeypatch.setenv(KEY_VARIABLE, key)
    world.write_problems(6)
    echoes = [
        echo(key) for name, echo in PASSING.items() if "headers" not in name
    ]  # openai's log shows those, if asked to
    echoes += [hang(), STOPPING["401 text"](key)]
    world.act = lambda request: echoes[min(request.number, len(echoes) - 1)]
    world.run.save_recipe(world.recipe)
    root = str(Path(__file__).resolve().parent.parent)
    environment = {**os.environ, "OPENAI_LOG": "debug", "PYTHONASYNCIODEBUG": "1", "PYTHONPATH": root}
    command = [
        sys.executable,
        "-X",
        "dev",
        "-m",
        "r1distill",
        "harvest",
        str(world.run.folder),
        "-v",
        "--json",
    ]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1, done.stderr
    assert "debug" in done.stderr.lower()  # the logs were really on
    assert leaks(key, world.folder, *done.stdout.splitlines(), *done.stderr.splitlines()) == []
