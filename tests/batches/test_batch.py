"""The batch verb against a real endpoint: nothing lost, nothing submitted twice, over kills at every step."""

from __future__ import annotations

import json
import os
import random
import signal
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner
from fake_batches import FakeBatches
from fake_teacher import completion
from filelock import FileLock
from small_run import KEY, KEY_VARIABLE, SmallRun, holds_key

from r1distill.batch import SubmitSummary, export, lines, status, submit
from r1distill.batch_collect import CollectSummary, collect, import_results
from r1distill.batch_collect import lines as collect_lines
from r1distill.batches import asking as batch_asking
from r1distill.batches.files import Limits
from r1distill.batches.ledger import slots_out
from r1distill.batches.plan import batch_kind, committed_usd
from r1distill.cli_harvest import batch as batch_command
from r1distill.errors import InputError, LockedError, R1DistillError, StopRunError, UsageError
from r1distill.records import trace_id_of
from r1distill.teachers import retry

TWO = Limits(lines=2)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retry, "FIRST_BOUND_S", 0.0)
    monkeypatch.setattr(batch_asking, "SETTLE_S", 0.0)
    monkeypatch.setenv(KEY_VARIABLE, KEY)


class World(SmallRun):
    """A small run (3 problems, 2 samples) whose teacher takes batches."""

    def __init__(self, folder: Path, **server: Any) -> None:
        self.server = FakeBatches(**server)
        self.server.__enter__()
        super().__init__(folder, self.server.base_url)

    def submit(self, **how: Any) -> SubmitSummary:
        return submit(self.recipe, self.run, **how)

    def collect(self, **how: Any) -> CollectSummary:
        return collect(self.recipe, self.run, **how)

    def out(self) -> int:
        return len(slots_out(self.run))

    def kill_at(self, verb: str, method: str, part: str, after: bool, skip: int = 0) -> None:
        """Start `verb` in a process of its own and kill it (-9) while that request is under way."""
        hold = self.server.hold(method, part, after, skip)
        child = os.fork()  # a new interpreter would take a second to start
        if child == 0:
            try:
                self.submit(limits=TWO) if verb == "submit" else self.collect()
            finally:
                os._exit(1)
        try:
            assert hold.seen.wait(20), "the child never asked"
        finally:
            os.kill(child, signal.SIGKILL)
            assert os.waitpid(child, 0)[1] == signal.SIGKILL
            hold.go.set()


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    world = World(tmp_path)
    yield world
    world.server.__exit__()


def right(line: dict[str, Any]) -> Any:
    return 200, completion("42", reasoning="because", prompt=line["body"]["messages"][0]["content"])


def sample_of(line: dict[str, Any], world: World) -> tuple[str, int]:
    """The problem and sample that a request line is for."""
    found = [
        (item["prompt_id"], item["sample"])
        for path in (world.run.folder / "batches").glob("*.items.jsonl")
        for item in map(json.loads, path.open())
        if item["id"] == line["custom_id"]
    ]
    return found[0]


def test_from_submit_to_traces(world: World) -> None:
    summary = world.submit()
    assert (summary.lines, len(summary.batches), world.out()) == (6, 1, 6)
    (batch,) = world.server.batches.values()
    assert batch["metadata"] == {"r1distill": summary.batches[0]["name"]}
    line = world.server.lines(batch)[0]
    assert line["body"] == {
        "messages": [{"role": "user", "content": "Solve: What is 0 + 1?"}], "max_tokens": 100, "temperature": 0.5, "model": "m",
    }  # fmt: skip
    assert world.collect().still_owed == 6
    world.server.run(right)
    done = world.collect()
    assert (done.traces, done.out, done.still_owed, len(done.collected)) == (6, 0, 0, 1)
    rows = world.rows()
    assert all(row["id"] == trace_id_of(row["slot"], 100) for row in rows)
    assert {row["id"] for row in rows} == set(world.server.submitted())
    for row in rows:  # each answer went to the question that it answers
        assert row["messages"][0]["content"] == f"Solve: What is {row['prompt_id'][1:]} + 1?"
    assert world.harvest().asked == 0
    assert world.submit().lines == 0
    assert world.collect().traces == 0
    assert holds_key(world.folder / "runs") == []


def test_what_is_out_is_not_submitted_twice(world: World) -> None:
    world.submit(limit=4)
    assert world.out() == 4
    again = world.submit()
    assert (again.out_before, again.lines) == (4, 2)
    assert world.submit().lines == 0
    assert max(Counter(world.server.submitted()).values()) == 1


def test_splitting_by_lines_and_by_size(world: World) -> None:
    assert [b["total"] for b in world.submit(limits=TWO).batches] == [2, 2, 2]
    world.write_problems(6)
    one = len(json.dumps(world.server.lines(world.server.batches["batch_0"])[0]))
    assert len(world.submit(limits=Limits(size_bytes=one * 3)).batches) >= 2
    world.server.run(right)
    assert world.collect().traces == 12


@pytest.mark.parametrize(
    ("part", "after", "skip", "metadata"),
    [
        ("/files", False, 0, True), ("/files", True, 0, True), ("/files", True, 1, True),
        ("/batches", False, 0, True), ("/batches", True, 0, True), ("/batches", True, 0, False), ("/batches", True, 2, True),
    ],
)  # fmt: skip
def test_a_kill_while_submitting_loses_and_doubles_nothing(
    world: World, part: str, after: bool, skip: int, metadata: bool
) -> None:
    world.server.forgets_metadata = not metadata
    world.kill_at("submit", "POST", part, after, skip)
    assert world.out() == 6  # a harvest would leave them all alone
    summary = world.submit(limits=TWO)
    assert (summary.lines, summary.resumed) == (0, 3 - skip)
    assert len(world.server.batches) == 3
    assert len(world.server.files) == 3  # a file that was up already is found, not sent again
    assert sorted(Counter(world.server.submitted()).values()) == [1] * 6
    world.server.run(right)
    assert (world.collect().traces, max(world.slots().values())) == (6, 1)


def test_status_finds_a_batch_whose_answer_a_kill_cut_off(world: World) -> None:
    world.kill_at("submit", "POST", "/batches", True)
    told = status(world.recipe, world.run)
    assert [row["id"] for row in told.batches] == ["batch_0", None, None]
    assert (told.out, told.batches[1]["status"]) == (6, "not submitted yet")


def test_a_resume_waits_for_what_a_killed_process_may_still_have_sent(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.kill_at("submit", "POST", "/batches", False)
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)

    monkeypatch.setattr(batch_asking, "SETTLE_S", 1000.0)
    monkeypatch.setattr(batch_asking.asyncio, "sleep", sleep)
    world.submit(limits=TWO)
    assert 900 < max(slept) <= 1000


@pytest.mark.parametrize(
    ("part", "after", "skip"),
    [("/batches/", True, 1), ("/content", False, 0), ("/content", True, 1), ("/content", False, 3)],
)
def test_a_kill_while_collecting_loses_and_doubles_nothing(
    world: World, part: str, after: bool, skip: int
) -> None:
    world.submit(limits=TWO)

    def answer(line: dict[str, Any]) -> Any:
        return right(line) if sample_of(line, world)[1] == 0 else (500, {"error": {"message": "oops"}})

    world.server.run(answer)
    world.kill_at("collect", "GET", part, after, skip)
    world.collect()
    world.collect()
    assert (len(world.rows()), max(world.slots().values())) == (3, 1)
    assert sorted(Counter(f["slot"] for f in world.failures()).values()) == [1, 1, 1]
    assert world.out() == 0


def test_kills_at_any_moment_lose_and_double_nothing(world: World) -> None:
    chance, empty = random.Random(0), (200, completion(""))
    world.write_problems(6)
    for verb in ("submit", "collect"):
        for _ in range(6):
            child = os.fork()
            if child == 0:
                try:
                    world.submit(limits=TWO) if verb == "submit" else world.collect()
                finally:
                    os._exit(0)
            time.sleep(chance.random() * 0.15)
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            time.sleep(0.05)  # what it sent last has arrived: see SETTLE_S
        if verb == "submit":
            world.submit(limits=TWO)
            assert sorted(Counter(world.server.submitted()).values()) == [1] * 12
            world.server.run(lambda line: right(line) if sample_of(line, world)[1] == 0 else empty)
    world.collect()
    assert (len(world.rows()), len(world.failures()), world.out()) == (6, 6, 0)
    assert max(Counter(row["slot"] for row in [*world.rows(), *world.failures()]).values()) == 1


def test_every_half_done_collect_comes_to_the_same(world: World) -> None:
    """A kill leaves a beginning of each ledger: all of them lead to the same rows."""
    world.submit()
    bad = (400, {"error": {"message": "maximum context length", "code": "context_length_exceeded"}})
    world.server.run(lambda line: right(line) if sample_of(line, world)[0] != "p1" else bad)
    world.collect()
    folder = world.run.folder
    ledgers = [folder / "traces" / "part-batch.jsonl", folder / "failures-batch.jsonl"]
    whole = [path.read_bytes() for path in ledgers]
    events = (folder / "batches.jsonl").read_bytes().splitlines(keepends=True)
    assert json.loads(events[-1])["event"] == "collected"
    expected = [Counter(json.loads(line)["slot"] for line in data.splitlines()) for data in whole]
    for part in range(9):
        (folder / "batches.jsonl").write_bytes(b"".join(events[:-1]) + events[-1][: part * 5])
        for path, data in zip(ledgers, whole, strict=True):
            path.write_bytes(data[: len(data) * part // 8])
        again = world.collect()
        assert again.traces + again.already == 4
        assert [Counter(json.loads(line)["slot"] for line in path.open()) for path in ledgers] == expected


def test_an_expired_batch_gives_what_it_has_and_the_rest_is_owed(world: World) -> None:
    world.submit()
    world.server.run(lambda line: right(line) if sample_of(line, world)[1] == 0 else None, end="expired")
    done = world.collect()
    assert (done.traces, done.never_asked, done.failed_open, done.still_owed) == (3, 3, 0, 3)
    assert world.failures() == []
    assert world.submit().lines == 3
    world.server.run(right)
    assert (world.collect().traces, max(world.slots().values())) == (3, 1)


@pytest.mark.parametrize("end", ["cancelled", "failed", "completed"])
def test_lines_that_came_back_in_no_file_are_owed_again(world: World, end: str) -> None:
    world.submit()
    batch = world.server.batches["batch_0"]
    world.server.run(right, end=end)
    file_id = batch["output_file_id"]
    world.server.contents[file_id] = b"".join(world.server.contents[file_id].splitlines(keepends=True)[:4])
    done = world.collect()
    assert (done.traces, done.never_asked, world.out()) == (4, 2, 0)
    assert any("2 of 6" in text and end in text for text in done.warnings)
    assert world.submit().lines == 2


def test_each_kind_of_line_does_what_the_table_says(world: World) -> None:
    world.write_problems(7)
    world.data["harvest"]["samples"] = 1
    world.submit()
    kinds: dict[str, Any] = {
        "p0": (200, completion("")),
        "p1": (200, completion(None, finish="content_filter")),
        "p2": (400, {"error": {"message": "too long", "code": "context_length_exceeded"}}),
        "p3": (200, completion("", reasoning="so", finish="length")),
        "p4": (500, {"error": {"message": f"oops, your key is {KEY}"}}),
        "p5": (400, {"error": {"message": "messages[0] is odd"}}),
        "p6": (200, completion("<think>so</think>42")),
    }
    world.server.run(lambda line: kinds[sample_of(line, world)[0]])
    done = world.collect()
    assert (done.traces, done.truncated, done.failed_final, done.failed_open) == (2, 1, 3, 2)
    assert {f["prompt_id"]: (f["final"], f["error_class"]) for f in world.failures()} == {
        "p0": (False, "empty"), "p1": (True, "content_filter"), "p2": (True, "context_length"),
        "p4": (False, "server"), "p5": (True, "invalid_item"),
    }  # fmt: skip
    assert {row["prompt_id"]: row["reasoning"] for row in world.rows()} == {"p3": "so", "p6": "so"}
    assert world.submit().lines == 2
    assert holds_key(world.folder / "runs") == []


def test_a_batch_that_is_refused_line_by_line_blames_no_item(world: World) -> None:
    world.submit()
    world.server.run(lambda line: (400, {"error": {"message": "temperature is not for you"}}))
    done = world.collect()
    assert (done.failed_final, done.failed_open) == (0, 6)
    assert any("6 refused" in text for text in done.warnings)


def test_odd_lines_are_counted_and_told_by_their_place(world: World) -> None:
    world.submit()
    batch = world.server.batches["batch_0"]
    world.server.run(right)
    data = world.server.contents[batch["output_file_id"]].splitlines(keepends=True)
    stranger = data[0].replace(b'"custom_id": "', b'"custom_id": "z')
    world.server.contents[batch["output_file_id"]] = b"".join([*data, stranger, data[0], data[1][:50]])
    done = world.collect()
    assert (done.traces, done.unknown, done.duplicates, done.torn) == (6, 1, 1, 1)
    assert [text.split(".output.jsonl: ")[1].split(":")[0] for text in done.odd] == [
        "line 7",
        "line 8",
        "line 9",
    ]
    assert len(world.rows()) == 6


def test_a_failed_validation_says_why_and_frees_its_slots(world: World) -> None:
    world.submit()
    batch = world.server.batches["batch_0"]
    batch["errors"] = {
        "data": [{"code": "x", "line": 3, "message": f"bad model, key {KEY}", "param": "model"}]
    }
    batch["status"] = "failed"
    told = status(world.recipe, world.run)
    assert told.batches[0]["status"] == "failed"
    assert told.batches[0]["message"].startswith("line 3: bad model")
    done = world.collect()
    assert (done.traces, done.never_asked, world.out()) == (0, 6, 0)
    assert any("line 3: bad model" in text for text in done.warnings)
    assert world.submit().lines == 6
    assert holds_key(world.folder / "runs") == []


def test_together_in_capitals_with_percent_and_storage(tmp_path: Path) -> None:
    world = World(tmp_path, together=True)
    world.teacher["provider"] = "together"
    try:
        world.submit()
        (batch,) = world.server.batches.values()
        batch.update(status="IN_PROGRESS", progress=50.0)
        assert [(b["status"], b["done"], b["total"]) for b in status(world.recipe, world.run).batches] == [
            ("in_progress", 3, 6)
        ]
        world.server.run(lambda line: right(line) if sample_of(line, world)[1] == 0 else None, end="expired")
        done = world.collect()
        assert (done.traces, done.never_asked) == (3, 3)
        world.kill_at("submit", "POST", "/batches", True)
        assert (world.submit(limits=TWO).lines, len(world.server.batches)) == (0, 3)
        stored = [headers for _, path, headers in world.server.requests if "/storage/" in path]
        assert stored and not any(KEY in str(headers) for headers in stored)
    finally:
        world.server.__exit__()


def test_status_writes_only_what_is_new(world: World) -> None:
    assert status(world.recipe, world.run).batches == []
    assert not (world.run.folder / "batches.jsonl").exists()
    world.submit()
    status(world.recipe, world.run)
    before = (world.run.folder / "batches.jsonl").read_bytes()
    status(world.recipe, world.run)
    assert (world.run.folder / "batches.jsonl").read_bytes() == before
    world.server.batches["batch_0"]["request_counts"] = {"total": 6, "completed": 2, "failed": 1}
    assert [(b["done"], b["failed"]) for b in status(world.recipe, world.run).batches] == [(2, 1)]


def test_an_edited_recipe_does_not_lose_what_is_out(world: World) -> None:
    world.submit()
    world.server.run(right)
    (world.folder / "t.jinja").write_text("<|user|>\nOther words: {{ question }}")
    world.teacher["sampling"] = {"max_tokens": 7}
    done = world.collect()
    assert (done.traces, done.unknown) == (6, 0)
    assert {row["max_tokens"] for row in world.rows()} == {100}
    assert {row["messages"][0]["content"][:6] for row in world.rows()} == {"Solve:"}


def test_a_refused_submit_frees_its_slots(world: World) -> None:
    world.server.fail("POST", "/batches", 401, {"error": {"message": f"Incorrect API key: {KEY}"}})
    with pytest.raises(StopRunError, match="check the key") as told:
        world.submit(limits=TWO)
    assert KEY[8:16] not in str(told.value)
    assert world.out() == 0
    assert world.submit(limits=TWO).lines == 6
    assert holds_key(world.folder / "runs") == []


def test_a_missing_key_is_told_before_anything_is_planned(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(KEY_VARIABLE)
    with pytest.raises(UsageError, match=KEY_VARIABLE):
        world.submit()
    assert not world.run.folder.exists()


def test_an_endpoint_without_batches_is_told_from_one_with(world: World) -> None:
    world.server.fail("POST", "/files", 404, {"error": {"message": "Not Found"}})
    with pytest.raises(StopRunError, match="batch export"):
        world.submit()
    world.teacher.update(provider="deepseek")
    with pytest.raises(UsageError, match="batch export"):
        world.submit()


def test_a_passing_trouble_keeps_everything_for_the_next_submit(world: World) -> None:
    for _ in range(6):
        world.server.fail("POST", "/batches", 503, {"error": {"message": "busy"}})
    with pytest.raises(StopRunError, match="submits nothing twice"):
        world.submit(limits=TWO)
    assert world.out() == 6
    assert (world.submit(limits=TWO).resumed, len(world.server.batches)) == (3, 3)


def test_no_submit_beside_a_harvest(world: World) -> None:
    folder = world.run.ledger_folder("traces")
    folder.mkdir(parents=True)
    with FileLock(str(folder / "part-1-of-1.jsonl.lock")), pytest.raises(LockedError, match="harvest"):
        world.submit()
    assert (world.server.requests, world.out()) == ([], 0)
    assert world.submit().lines == 6


def test_the_budget_covers_the_worst_case_of_all_that_is_out(world: World) -> None:
    world.data["harvest"]["budget_usd"] = 0.7
    with pytest.raises(UsageError, match="price"):
        world.submit()
    world.teacher["price"] = {"input": 0.0, "output": 1500.0}  # 100 tokens at most: 0.15 USD an answer
    with pytest.raises(UsageError, match="left"):
        world.submit()
    assert world.submit(limit=4).worst_usd == pytest.approx(0.6)
    with pytest.raises(UsageError, match=r"\$0.1000 is left"):
        world.submit()
    assert world.out() == 4
    left = [path.name for path in (world.run.folder / "batches").iterdir()]
    assert len(left) == 2  # the files of a refused submit are gone


def test_money_that_was_set_aside_comes_back(world: World) -> None:
    world.data["harvest"]["budget_usd"] = 1.0
    world.teacher["price"] = {"input": 0.0, "output": 1500.0}
    world.submit()
    world.server.run(lambda line: right(line) if sample_of(line, world)[1] == 0 else None, end="expired")
    done = world.collect()
    assert done.cost_usd == pytest.approx(3 * 20 * 1500 / 1e6)
    assert world.submit().lines == 3  # 0.09 spent, 0.45 set aside
    world.server.run(lambda line: (200, completion("")))
    assert world.collect().failed_open == 3
    assert committed_usd(world.recipe, world.run) == pytest.approx(0.18)  # empty answers were paid for too


def test_money_set_aside_by_a_submit_that_was_killed_then_comes_back(world: World) -> None:
    world.data["harvest"]["budget_usd"] = 1.0
    world.teacher["price"] = {"input": 0.0, "output": 1500.0}
    world.run.folder.mkdir(parents=True)
    (world.run.folder / "spending-batch.jsonl").write_text('{"usd":0.9,"reserve":"x"}\n')
    assert world.submit().lines == 6
    assert committed_usd(world.recipe, world.run) == pytest.approx(0.9)


def test_a_batch_can_be_given_up(world: World) -> None:
    name = world.submit().batches[0]["name"]
    world.server.batches.clear()
    done = world.collect()
    assert any(name in text and "another key" in text for text in done.warnings)
    assert world.out() == 6
    assert world.collect(forget=[name]).out == 0
    with pytest.raises(UsageError, match="No batch"):
        world.collect(forget=[name])
    assert world.submit().lines == 6


def test_a_result_file_that_is_gone_leaves_the_batch_open(world: World) -> None:
    world.submit()
    world.server.run(right)
    world.server.fail("GET", "/content", 404, {"error": {"message": "No such File object"}})
    done = world.collect()
    assert (done.traces, world.out()) == (0, 6)
    assert any("--forget" in text for text in done.warnings)
    assert world.collect().traces == 6


def test_a_lost_items_file_is_told(world: World) -> None:
    world.submit()
    next((world.run.folder / "batches").glob("*.items.jsonl")).unlink()
    with pytest.raises(InputError, match="put it back"):
        slots_out(world.run)


def test_dry_runs_write_and_ask_nothing(world: World, tmp_path: Path) -> None:
    told = world.submit(dry_run=True, limits=TWO)
    assert (told.lines, [b["lines"] for b in told.batches]) == (6, [2, 2, 2])
    assert export(world.recipe, world.run, tmp_path / "x", dry_run=True).lines == 6
    assert world.collect(dry_run=True).dry_run
    assert (world.server.requests, world.run.folder.exists(), (tmp_path / "x").exists()) == ([], False, False)
    assert "would be submitted" in list(lines(told, "submit"))[-1]


def vllm_run_batch(path: Path, to: Path, wrap: Any = None) -> None:
    """What `vllm run-batch -i path -o to` leaves; the last line fails."""
    rows = [json.loads(line) for line in path.open()]
    with to.open("w") as file:
        for row in reversed(rows):
            said: dict[str, Any] = {
                "status_code": 200,
                "request_id": "r",
                "body": right({"body": row["body"]})[1],
            }
            error = None
            if row is rows[-1]:
                said = {"status_code": 400, "request_id": "r", "body": None}
                error = {
                    "object": "error",
                    "message": "This model's maximum context length is 10",
                    "type": "BadRequestError",
                    "code": 400,
                }
            file.write(
                json.dumps({"id": "v", "custom_id": row["custom_id"], "response": said, "error": error})
                + "\n"
            )


@pytest.mark.parametrize("style", ["openai", "mistral"])
def test_export_and_import(world: World, tmp_path: Path, style: Any) -> None:
    written = export(world.recipe, world.run, tmp_path / "x", style=style)
    (path,) = (tmp_path / "x").iterdir()
    assert (written.lines, world.out(), world.server.requests) == (6, 0, [])
    keys = {frozenset(json.loads(line)) for line in path.open()}
    assert keys == {frozenset({"custom_id", "body"} | ({"method", "url"} if style == "openai" else set()))}
    export(world.recipe, world.run, tmp_path / "x", style=style)
    assert len(list((tmp_path / "x").iterdir())) == 1
    vllm_run_batch(path, tmp_path / "out.jsonl")
    tried = import_results(world.recipe, world.run, [tmp_path / "out.jsonl"], dry_run=True)
    assert (tried.traces, world.rows()) == (5, [])
    done = import_results(world.recipe, world.run, [tmp_path / "out.jsonl"])
    assert (done.traces, done.failed_final) == (5, 1)
    again = import_results(world.recipe, world.run, [tmp_path / "out.jsonl"])
    assert (again.traces, again.already, len(world.rows()), len(world.failures())) == (0, 5, 5, 1)
    assert world.harvest().asked == 0


def test_an_import_knows_answers_of_the_recipe_alone(world: World, tmp_path: Path) -> None:
    export(world.recipe, world.run, tmp_path / "x")
    (path,) = (tmp_path / "x").iterdir()
    vllm_run_batch(path, tmp_path / "out.jsonl")
    other = SmallRun(tmp_path, world.server.base_url)
    other.run.folder = tmp_path / "runs" / "elsewhere"
    done = import_results(other.recipe, other.run, [tmp_path / "out.jsonl"])
    assert (done.traces, done.unknown) == (5, 0)


def test_servers_of_our_own_have_no_batches(world: World, tmp_path: Path) -> None:
    world.data["teacher"]["t"] = {"provider": "local", "model": "some/folder"}
    for verb in (world.submit, lambda: export(world.recipe, world.run, tmp_path / "x")):
        with pytest.raises(UsageError, match="harvest"):
            verb()


@pytest.mark.parametrize(
    ("provider", "url", "kind"),
    [
        ("openai-compatible", "https://api.example.com/v1", "openai"),
        ("openai-compatible", "https://api.together.xyz/v1", "together"),
        ("openai-compatible", "https://api.deepseek.com", "none"),
        ("groq", None, "openai"), ("azure", "https://x.openai.azure.com/openai/v1", "openai"), ("dashscope", None, "openai"),
        ("mistral", None, "mistral"), ("vllm", "http://127.0.0.1:8000/v1", "file"), ("embedded", None, "none"),
    ],
)  # fmt: skip
def test_how_each_provider_takes_batches(world: World, provider: str, url: str | None, kind: str) -> None:
    world.teacher.update(provider=provider, base_url=url)
    assert batch_kind(world.recipe.teacher["t"]) == kind


def test_a_marked_export_is_out_until_it_was_imported_whole(world: World, tmp_path: Path) -> None:
    (batch,) = export(world.recipe, world.run, tmp_path / "x", mark_out=True).batches
    assert (world.out(), world.submit().lines) == (6, 0)
    (path,) = (tmp_path / "x").iterdir()
    vllm_run_batch(path, tmp_path / "out.jsonl")
    rows = (tmp_path / "out.jsonl").read_text().splitlines(keepends=True)
    (tmp_path / "half.jsonl").write_text("".join(rows[:3]))
    (tmp_path / "rest.jsonl").write_text("".join(rows[3:]))
    half = import_results(world.recipe, world.run, [tmp_path / "half.jsonl"])
    assert (half.traces + half.failed_final, half.collected, world.out()) == (3, [], 6)
    assert "3 of 6 lines have not come" in half.warnings[0]
    assert (half.out, half.exported) == (3, 3)  # what has come is not waited for
    assert "3 answers are out in exported files; `batch import` brings them." in collect_lines(half)
    stand = status(world.recipe, world.run)
    assert (stand.out, stand.exported, stand.batches[0]["done"]) == (3, 3, 3)
    rest = import_results(world.recipe, world.run, [tmp_path / "half.jsonl", tmp_path / "rest.jsonl"])
    assert (rest.collected, world.out(), len(world.rows())) == ([batch["name"]], 0, 5)


def test_import_of_a_file_that_is_not_there(world: World, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no-such"):
        import_results(world.recipe, world.run, [tmp_path / "no-such.jsonl"])


@pytest.fixture
def group() -> click.Group:
    return batch_command


def test_the_command_line(world: World, group: click.Group, tmp_path: Path) -> None:
    text = (
        'name = "r"\n[prompts]\nproblems = "problems.jsonl"\ntemplate = "t.jinja"\n[teacher.t]\nprovider = "openai-compatible"\n'
        f'base_url = "{world.server.base_url}"\nmodel = "m"\napi_key_env = "{KEY_VARIABLE}"\nsampling = {{ max_tokens = 100 }}\n'
        "[harvest]\nsamples = 2\n"
    )
    (tmp_path / "recipe.toml").write_text(text)

    def say(*words: str) -> Any:
        result = CliRunner().invoke(
            group, [*words[:1], str(tmp_path / "recipe.toml"), *words[1:]], standalone_mode=False
        )
        if result.exception:
            raise result.exception
        return result

    assert group.list_commands(click.Context(group)) == ["submit", "status", "collect", "export", "import"]
    assert json.loads(say("submit", "--dry-run", "--json", "-q").stdout)["lines"] == 6
    assert "6 requests in 1 file submitted" in say("submit").stderr
    table = say("status").stderr
    assert "batch_0" in table and "0/6" in table
    assert say("collect").return_value == 3
    world.server.run(right)
    done = say("collect", "--json")
    assert (done.return_value, json.loads(done.stdout)["traces"]) == (0, 6)
    assert "Nothing more is owed" in say("export", "--to", str(tmp_path / "x")).stderr
    with pytest.raises(R1DistillError):
        say("import", str(tmp_path / "no-such.jsonl"))
