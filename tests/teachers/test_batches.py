"""Files and batches over HTTP, against a real server of both kinds."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from fake_batches import FakeBatches

from r1distill.teachers import retry
from r1distill.teachers.batch_state import read_state
from r1distill.teachers.batches import BatchClient, Kind
from r1distill.teachers.client import Endpoint
from r1distill.teachers.refusals import Action, Refusal

KEY = "sk-proj-abcdefghijklmnopqrstuvwx"
LINE = {
    "custom_id": "a" * 64,
    "method": "POST",
    "url": "/v1/chat/completions",
    "body": {"model": "m", "messages": []},
}


@pytest.fixture(autouse=True)
def no_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retry, "FIRST_BOUND_S", 0.0)


@pytest.fixture
def requests(tmp_path: Path) -> Path:
    path = tmp_path / "r.jsonl"
    path.write_text(json.dumps(LINE) + "\n")
    return path


def do(server: FakeBatches | str, work: Callable[[BatchClient], Awaitable[Any]], **endpoint: Any) -> Any:
    """The outcome of `work` with a client, a Refusal included."""
    kind: Kind = "together" if isinstance(server, FakeBatches) and server.together else "openai"
    base_url = server if isinstance(server, str) else server.base_url

    async def run() -> Any:
        async with BatchClient(Endpoint(base_url, KEY, "m", **endpoint), kind) as client:
            try:
                return await work(client)
            except Refusal as refused:
                return refused

    return asyncio.run(run())


@pytest.mark.parametrize("together", [False, True])
def test_from_upload_to_download(requests: Path, tmp_path: Path, together: bool) -> None:
    with FakeBatches(together=together) as server:
        file_id = do(server, lambda c: c.upload(requests, "n"))
        assert server.contents[file_id] == requests.read_bytes()
        assert server.files[file_id]["filename"] == "n.jsonl"
        assert server.files[file_id]["purpose"] == ("batch-api" if together else "batch")
        state = do(server, lambda c: c.create("n", file_id))
        assert state.status == "validating"
        server.run(lambda line: (200, {"choices": [{"message": {"content": "42"}, "finish_reason": "stop"}]}))
        ended = do(server, lambda c: c.get(state.batch_id))
        assert (ended.status, ended.errors_id) == ("completed", None)
        assert ended.percent == (100.0 if together else None)
        assert do(server, lambda c: c.download(ended.output_id, tmp_path / "o" / "out.jsonl")) is None
    assert json.loads((tmp_path / "o" / "out.jsonl").read_text())["custom_id"] == LINE["custom_id"]
    assert [p.name for p in (tmp_path / "o").iterdir()] == ["out.jsonl"]


def test_the_key_goes_to_the_endpoint_and_never_to_a_storage_host(requests: Path, tmp_path: Path) -> None:
    with FakeBatches(together=True, redirect_downloads=True) as server:
        file_id = do(server, lambda c: c.upload(requests, "n"))
        do(server, lambda c: c.download(file_id, tmp_path / "out.jsonl"))
    assert (tmp_path / "out.jsonl").read_bytes() == requests.read_bytes()
    stored = [headers for _, path, headers in server.requests if "/storage/" in path]
    others = [headers for _, path, headers in server.requests if "/storage/" not in path]
    assert len(stored) == 2
    assert len(others) == 3
    assert not any(KEY in value for headers in stored for value in headers.values())
    assert all(headers["authorization"] == f"Bearer {KEY}" for headers in others)


def test_no_file_goes_to_a_storage_host_unencrypted() -> None:
    client = BatchClient(Endpoint("https://api.example.com/v1", KEY, "m"))
    assert client._storage("https://storage.example.com/x") == "https://storage.example.com/x"
    for place in ("http://storage.example.com/x", "/x", "ftp://storage.example.com/x"):
        with pytest.raises(Refusal):
            client._storage(place)


def test_azure_gets_its_own_header_and_no_bearer(requests: Path) -> None:
    with FakeBatches() as server:
        do(server, lambda c: c.upload(requests, "n"), key_header="api-key")
    ((_, _, headers),) = server.requests
    assert headers["api-key"] == KEY
    assert "authorization" not in headers


def test_what_the_sdk_knows_of_openai_goes_nowhere_else(
    requests: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_ORG_ID", "org-mine")
    monkeypatch.setenv("OPENAI_PROJECT_ID", "proj-mine")
    with FakeBatches() as server:
        do(server, lambda c: c.upload(requests, "n"))
    assert not {"openai-organization", "openai-project"} & set(server.requests[0][2])


@pytest.mark.parametrize("together", [False, True])
def test_files_and_batches_are_found_again_page_after_page(requests: Path, together: bool) -> None:
    async def work(client: BatchClient) -> list[Any]:
        ids = [await client.upload(requests, f"n{i}") for i in range(8)]
        for i, file_id in enumerate(ids):
            await client.create(f"n{i}", file_id)
        assert ids == [f"file-{i}" for i in range(8)]
        found = await client.find("n1", ids[1])
        assert found is not None
        nobody = [await client.find_file("n9"), await client.find("n1", "file-unknown")]
        return [await client.find_file("n0"), found.batch_id, *nobody]

    with FakeBatches(together=together, forgets_metadata=True, page=3) as server:
        assert do(server, work) == ["file-0", "batch_1", None, None]


def test_a_batch_is_found_by_its_name_alone(requests: Path) -> None:
    with FakeBatches() as server:
        file_id = do(server, lambda c: c.upload(requests, "n"))
        do(server, lambda c: c.create("n", file_id))
        assert do(server, lambda c: c.find("n", "file-unknown")).batch_id == "batch_0"


def test_a_doubtful_create_is_looked_for_before_it_is_asked_again(requests: Path) -> None:
    with FakeBatches() as server:
        file_id = do(server, lambda c: c.upload(requests, "n"))
        server.create(
            {
                "input_file_id": file_id,
                "endpoint": LINE["url"],
                "completion_window": "24h",
                "metadata": {"r1distill": "n"},
            }
        )
        server.fail("POST", "/batches", 502, b"<html>bad gateway</html>")
        state = do(server, lambda c: c.create("n", file_id))
    assert state.batch_id == "batch_0"
    assert (server.count("POST", "/batches"), len(server.batches)) == (1, 1)


def test_a_create_that_surely_failed_is_asked_again(requests: Path) -> None:
    with FakeBatches() as server:
        file_id = do(server, lambda c: c.upload(requests, "n"))
        server.fail("POST", "/batches", 503, {"error": {"message": "busy"}})
        assert do(server, lambda c: c.create("n", file_id)).batch_id == "batch_0"
    assert len(server.batches) == 1


@pytest.mark.parametrize(
    ("status", "body", "action", "error_class"),
    [
        (401, {"error": {"message": f"Incorrect key: {KEY}"}}, Action.STOP, "key"),
        (404, {"error": {"message": "no such path"}}, Action.STOP, "not_found"),
        (429, {"error": {"message": "You exceeded", "code": "insufficient_quota"}}, Action.STOP, "quota"),
        (307, {"x": 1}, Action.STOP, "redirect"),
    ],
)
def test_errors_by_the_one_table(
    requests: Path, status: int, body: Any, action: Action, error_class: str
) -> None:
    with FakeBatches() as server:
        server.fail("POST", "/files", status, body)
        refused = do(server, lambda c: c.upload(requests, "n"))
    assert isinstance(refused, Refusal)
    assert (refused.action, refused.error_class) == (action, error_class)
    assert KEY[10:18] not in refused.message
    assert len(server.requests) == 1


def test_nobody_there(requests: Path) -> None:
    refused = do("http://127.0.0.1:9/v1", lambda c: c.upload(requests, "n"))
    assert (refused.action, refused.error_class) == (Action.RETRY, "unreachable")


def test_a_download_that_breaks_off_is_fetched_again_whole(requests: Path, tmp_path: Path) -> None:
    with FakeBatches() as server:
        file_id = do(server, lambda c: c.upload(requests, "n"))
        server.fail("GET", "/content", 500, {"error": {"message": "oops"}})
        assert do(server, lambda c: c.download(file_id, tmp_path / "out.jsonl")) is None
    assert (tmp_path / "out.jsonl").read_bytes() == requests.read_bytes()


def test_an_echoed_key_is_cut_out_of_what_is_kept(tmp_path: Path) -> None:
    with FakeBatches() as server:
        file_id = server.keep(
            b'{"m": "Incorrect key sk-proj-abcdefghijklm"}\n{"no newline": 1}', "batch_output"
        )
        do(server, lambda c: c.download(file_id, tmp_path / "out.jsonl"))
    text = (tmp_path / "out.jsonl").read_text()
    assert "abcdefgh" not in text
    assert [json.loads(line) for line in text.splitlines()][1] == {"no newline": 1}


@pytest.mark.parametrize(
    ("data", "status", "message"),
    [
        ({"id": "b", "status": "FAILED", "error": "too big"}, "failed", "too big"),
        ({"job": {"id": "b", "status": "IN_PROGRESS"}, "warning": "w"}, "in_progress", ""),
        ({"id": "b", "status": "canceled"}, "cancelled", ""),
        ({"id": "b", "status": None, "errors": {"data": None}}, "validating", ""),
        (
            {
                "id": "b",
                "status": "failed",
                "errors": {"data": [{"line": n, "message": "bad"} for n in range(1, 6)]},
            },
            "failed",
            "line 1: bad; line 2: bad; line 3: bad (and 2 more)",
        ),
    ],
)
def test_states_in_all_spellings(data: dict[str, Any], status: str, message: str) -> None:
    state = read_state(data)
    assert (state.batch_id, state.status, state.message) == ("b", status, message)


def test_what_is_no_batch() -> None:
    with pytest.raises(Refusal):
        read_state({"object": "list"})
