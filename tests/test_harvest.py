"""The harvest verb: owed minus have, over changes of the recipe, failures, Ctrl-C, kills and full disks."""

from __future__ import annotations

import importlib
import json
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fake_teacher import Act, FakeTeacher, Request, answer, error, raw, stream_answer
from small_run import KEY, KEY_VARIABLE, SmallRun, holds_key

from r1distill.errors import LockedError, RecipeError, StopRunError, UsageError
from r1distill.harvest_summary import lines
from r1distill.ledger import Ledger
from r1distill.shards import parse_shard
from r1distill.show import Show
from r1distill.teachers import retry


@pytest.fixture(autouse=True)
def no_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retry, "FIRST_BOUND_S", 0.0)
    monkeypatch.setenv(KEY_VARIABLE, KEY)


class World(SmallRun):
    """A small run and its teacher, whose behaviour a test may change between two harvests."""

    def __init__(self, folder: Path) -> None:
        self.act: Any = lambda request: answer("42", reasoning="because")
        self.server = FakeTeacher(lambda request: self.act(request))
        self.server.__enter__()
        super().__init__(folder, self.server.base_url)

    def asked(self) -> int:
        """Requests since the last call."""
        count = self.server.count
        self.server.requests.clear()
        return count


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    world = World(tmp_path)
    yield world
    world.server.release()
    world.server.close()


def test_a_harvest_leaves_a_run_folder(world: World) -> None:
    summary = world.harvest()
    assert (summary.prompts, summary.wanted, summary.had, summary.asked) == (3, 6, 0, 6)
    assert (summary.traces, summary.still_owed, summary.completion_tokens) == (6, 0, 120)
    assert summary.cost_usd is None
    rows = world.rows()
    assert {(row["prompt_id"], row["sample"]) for row in rows} == {
        (f"p{i}", s) for i in range(3) for s in range(2)
    }
    promised = {"id", "slot", "prompt_id", "sample", "teacher", "model", "messages", "reasoning", "answer", "finish", "usage",
                "cost_usd", "created"}  # fmt: skip
    assert promised <= set(rows[0])
    assert [prompt.id for prompt in world.run.prompts()] == ["p0", "p1", "p2"]
    assert world.run.manifest()["harvest"]["traces"] == 6
    assert world.failures() == []


def test_the_second_harvest_asks_nothing(world: World) -> None:
    world.harvest()
    assert world.asked() == 6
    summary = world.harvest()
    assert (summary.asked, summary.had, world.asked()) == (0, 6, 0)


def more_problems(w: World) -> None:
    w.write_problems(4)


def more_samples(w: World) -> None:
    w.data["harvest"]["samples"] = 3


def another_teacher(w: World) -> None:
    w.data["teacher"]["u"] = {**w.teacher, "model": "m2"}


def other_words(w: World) -> None:
    (w.folder / "t.jinja").write_text("<|user|>\nPlease solve: {{ question }}")


def other_sampling(w: World) -> None:
    w.teacher["sampling"] = {"max_tokens": 100, "temperature": 0.7}


@pytest.mark.parametrize(
    ("change", "new"),
    [(more_problems, 2), (more_samples, 3), (another_teacher, 6), (other_words, 6), (other_sampling, 6)],
)
def test_what_is_new_is_asked_and_nothing_else(world: World, change: Any, new: int) -> None:
    world.harvest()
    world.asked()
    change(world)
    assert world.harvest().asked == new
    assert world.asked() == new
    assert max(world.slots().values()) == 1
    assert world.harvest().asked == 0


@pytest.mark.parametrize(
    "change",
    [
        {"price": {"input": 1, "output": 2}},
        {"api_key_env": "R1DISTILL_OTHER_KEY"},
        {"extra_body": {"provider": {"order": ["x"]}}},
        {"sampling": {"max_tokens": 50, "temperature": 0.5}},
        {"sampling": {"max_completion_tokens": 100, "temperature": 0.5}},
    ],
)
def test_price_key_and_pace_are_no_reason_to_ask_again(
    world: World, monkeypatch: pytest.MonkeyPatch, change: dict[str, Any]
) -> None:
    monkeypatch.setenv("R1DISTILL_OTHER_KEY", "another-key-0123456789")
    world.harvest()
    world.teacher.update(change)
    world.data["harvest"].update(max_in_flight=3, stream=True, total_timeout_s=5)
    assert world.harvest().asked == 0


def test_another_port_is_no_reason_to_ask_again(world: World) -> None:
    world.harvest()
    with FakeTeacher(answer("42")) as moved:
        world.teacher["base_url"] = moved.base_url
        assert world.harvest().asked == 0
    assert moved.count == 0


def test_a_higher_ceiling_asks_again_for_cut_answers_only(world: World) -> None:
    def act(request: Request) -> Act:
        cut = request.body["max_tokens"] < 200 and "What is 1 " in request.text
        return answer("42", finish="length" if cut else "stop")

    world.act = act
    assert world.harvest().truncated == 2
    assert world.harvest().asked == 0
    world.teacher["sampling"] = {"max_tokens": 200, "temperature": 0.5}
    world.asked()
    again = world.harvest()
    assert (again.asked, again.truncated, again.had) == (2, 0, 4)
    assert {request.body["max_tokens"] for request in world.server.requests} == {200}
    cut, whole = (
        [row for row in world.rows() if row["prompt_id"] == "p1" and row["finish"] == f]
        for f in ("length", "stop")
    )
    assert {row["slot"] for row in cut} == {row["slot"] for row in whole}
    assert not {row["id"] for row in cut} & {row["id"] for row in whole}
    world.teacher["sampling"] = {"max_tokens": 100, "temperature": 0.5}
    assert world.harvest().asked == 0


def test_failures_are_kept_apart_and_only_open_ones_are_asked_again(world: World) -> None:
    def act(request: Request) -> Act:
        if "What is 0 " in request.text:
            return error(400, code="context_length_exceeded")
        return error(500) if "What is 1 " in request.text else answer("42")

    world.act = act
    world.data["harvest"]["max_attempts"] = 2
    summary = world.harvest()
    assert (summary.traces, summary.failed_final, summary.failed_open, summary.still_owed) == (2, 2, 2, 2)
    assert summary.retries == {"server": 4}
    assert {(f["prompt_id"], f["final"], f["attempts"]) for f in world.failures()} == {
        ("p0", True, 1),
        ("p1", False, 2),
    }
    world.asked()
    world.act = lambda request: answer("42")
    assert world.harvest().asked == 2
    assert {"What is 1 " in request.text for request in world.server.requests} == {True}
    assert world.harvest().asked == 0
    assert world.harvest(retry_failed=True).asked == 2
    assert world.harvest(retry_failed=True).asked == 0
    assert set(world.slots().values()) == {1}


@pytest.mark.parametrize(
    ("status", "code"), [(401, None), (402, None), (404, None), (429, "insufficient_quota")]
)
@pytest.mark.parametrize("stream", [False, True])
def test_a_stop_is_one_sentence_and_no_file_holds_the_key(
    world: World, status: int, code: str | None, stream: bool
) -> None:
    world.act = lambda request: error(status, f"Incorrect API key provided: {KEY} (ends in {KEY[-8:]})", code)
    world.data["harvest"]["stream"] = stream
    with pytest.raises(StopRunError) as caught:
        world.harvest()
    assert "\n" not in str(caught.value)
    assert KEY[-8:] not in str(caught.value)
    assert world.failures()
    assert holds_key(world.run.folder) == []
    world.act = lambda request: answer("42")
    assert world.harvest().still_owed == 0
    assert holds_key(world.run.folder) == []


def test_a_key_that_is_not_set_is_said_before_anything_is_asked(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(KEY_VARIABLE)
    with pytest.raises(RecipeError, match=KEY_VARIABLE):
        world.harvest()
    assert world.asked() == 0
    assert not world.run.folder.exists()


def test_the_key_does_not_follow_a_redirect(world: World) -> None:
    with FakeTeacher(answer("42"), host="127.0.0.2") as elsewhere:
        world.act = lambda request: raw(b"", 307, Location=f"{elsewhere.base_url}/chat/completions")
        with pytest.raises(StopRunError, match=r"redirect.*127\.0\.0\.2"):
            world.harvest()
    assert elsewhere.count == 0


def test_unreachable_is_a_sentence_and_soon(world: World) -> None:
    world.server.close()
    started = time.monotonic()
    with pytest.raises(StopRunError, match="can't be reached"):
        world.harvest()
    assert time.monotonic() - started < 5
    assert world.rows() == []


def test_a_dry_run_writes_nothing_and_asks_nothing(world: World) -> None:
    summary = world.harvest(dry_run=True)
    assert (summary.still_owed, summary.dry_run, world.asked()) == (6, True, 0)
    assert not world.run.folder.exists()
    assert any("would ask for 6" in line for line in lines(summary))


def test_a_dry_run_bounds_the_cost_or_says_that_it_is_unknown(world: World) -> None:
    (guess,) = world.harvest(dry_run=True).estimates
    assert (guess.answers, guess.usd, guess.measured) == (6, None, False)
    world.teacher["price"] = {"input": 0.0, "output": 1.0}
    world.teacher["sampling"] = {"max_tokens": 1000}
    (guess,) = world.harvest(dry_run=True).estimates
    assert guess.usd == [pytest.approx(6 * 1000 / 1e6 * share) for share in (1 / 16, 1 / 4, 1)]


def test_a_dry_run_over_a_run_that_is_there_makes_no_file(world: World) -> None:
    world.harvest()
    (world.run.folder / "index.sqlite").unlink()
    before = {path: path.read_bytes() for path in world.run.folder.rglob("*") if path.is_file()}
    world.data["harvest"]["samples"] = 3
    assert world.harvest(dry_run=True).would_ask == 3
    assert {path: path.read_bytes() for path in world.run.folder.rglob("*") if path.is_file()} == before


def test_a_pilot_is_spread_kept_and_told(world: World) -> None:
    world.write_problems(20)
    world.teacher["price"] = {"input": 1.0, "output": 100.0}
    summary = world.harvest(pilot=8)
    assert (summary.asked, world.asked()) == (8, 8)
    numbers = sorted(int(row["prompt_id"][1:]) for row in world.rows())
    assert numbers[0] < 5 and numbers[-1] > 14
    (rest,) = summary.estimates
    assert (rest.answers, rest.measured) == (32, True)
    assert rest.usd == [pytest.approx(32 * 0.00201)] * 3
    assert world.harvest().asked == 32


def test_a_limit_asks_for_the_first_ones(world: World) -> None:
    summary = world.harvest(limit=4)
    assert (summary.asked, summary.still_owed, world.asked()) == (4, 2, 4)
    assert world.harvest(limit=4).asked == 2


def test_costs_are_summed_and_an_unknown_one_stays_unknown(world: World) -> None:
    world.teacher["price"] = {"input": 1.0, "output": 100.0}
    assert world.harvest().cost_usd == pytest.approx(6 * 0.00201)
    world.data["harvest"]["samples"] = 3
    world.act = lambda request: answer(
        "42", usage=None if "What is 0 " in request.text else {"prompt_tokens": 10, "completion_tokens": 20}
    )
    summary = world.harvest()
    assert summary.cost_usd is None
    assert any("cost unknown" in line for line in lines(summary))
    assert [row["cost_usd"] for row in world.rows() if row["sample"] == 2 and row["prompt_id"] == "p0"] == [
        None
    ]


def test_the_teachers_own_cost_is_taken(world: World) -> None:
    world.act = lambda request: answer("42", usage={"prompt_tokens": 1, "completion_tokens": 1, "cost": 0.25})
    assert world.harvest().cost_usd == 1.5


def test_answers_without_reasoning_are_counted_and_said(world: World) -> None:
    world.act = lambda request: answer("42")
    summary = world.harvest()
    assert summary.without_reasoning == 6
    assert any("6 answers carry no reasoning" in line for line in lines(summary))


def test_a_harvest_may_stream(world: World) -> None:
    world.data["harvest"]["stream"] = True
    world.act = lambda request: stream_answer("42", "because", "reasoning_content")
    assert world.harvest().traces == 6
    assert {(row["reasoning"], row["answer"], row["reasoning_source"]) for row in world.rows()} == {
        ("because", "42", "reasoning_content")}  # fmt: skip


def test_seeds_count_up_with_the_samples(world: World) -> None:
    world.teacher["sampling"] = {"seed": 100}
    world.harvest()
    assert sorted(request.body["seed"] for request in world.server.requests) == [100] * 3 + [101] * 3
    assert {row["sampling"]["seed"] for row in world.rows()} == {100}


def test_shards_part_the_work_and_join(world: World) -> None:
    world.write_problems(12)
    first, second = world.harvest(shard=(1, 2)), world.harvest(shard=(2, 2))
    assert first.asked + second.asked == 24
    assert min(first.asked, second.asked) > 0
    names = {path.name for path in (world.run.folder / "traces").glob("*.jsonl")}
    assert names == {"part-1-of-2.jsonl", "part-2-of-2.jsonl"}
    assert set(world.slots().values()) == {1}
    assert world.harvest().asked == 0
    (world.run.folder / "index.sqlite").unlink()
    assert world.harvest().asked == 0


def test_a_slot_of_an_older_shard_is_not_asked_again_after_the_index_is_lost(world: World) -> None:
    """part-1-of-1 sorts before part-1-of-2, yet what it holds is newer here."""
    world.act = lambda request: answer("42", finish="length")
    world.harvest(shard=(1, 2))
    world.harvest(shard=(2, 2))
    world.act = lambda request: answer("42")
    world.teacher["sampling"] = {"max_tokens": 200, "temperature": 0.5}
    assert world.harvest().asked == 6
    (world.run.folder / "index.sqlite").unlink()
    assert world.harvest().asked == 0


@pytest.mark.parametrize(("text", "shard"), [("1/1", (1, 1)), ("2/8", (2, 8)), ("8/8", (8, 8))])
def test_shards_are_read(text: str, shard: tuple[int, int]) -> None:
    assert parse_shard(text) == shard


@pytest.mark.parametrize("text", ["0/2", "3/2", "1", "/", "a/b", "-1/2", "1/0", "1/2/3"])
def test_what_is_no_shard(text: str) -> None:
    with pytest.raises(UsageError, match="i/n"):
        parse_shard(text)


def test_a_mix_deals_each_answer_to_one_teacher_for_ever(world: World) -> None:
    world.data["teacher"]["u"] = {**world.teacher, "model": "m2"}
    world.data["harvest"]["assign"] = "mix"
    world.write_problems(20)
    world.harvest(limit=13)
    world.harvest()
    dealt = {(row["prompt_id"], row["sample"]): row["teacher"] for row in world.rows()}
    assert len(dealt) == len(world.rows()) == 40
    counts = [list(dealt.values()).count(name) for name in ("t", "u")]
    assert min(counts) > 8
    world.write_problems(25)
    world.harvest()
    later = {(row["prompt_id"], row["sample"]): row["teacher"] for row in world.rows()}
    assert all(later[key] == name for key, name in dealt.items())


def test_two_harvests_at_once(world: World) -> None:
    (world.run.folder / "traces").mkdir(parents=True)
    with (
        Ledger(world.run.folder / "traces" / "part-1-of-1.jsonl"),
        pytest.raises(LockedError, match="Another process"),
    ):
        world.harvest()
    assert world.asked() == 0


def test_what_another_harvest_got_meanwhile_is_not_asked_again(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other one ends between our look at the ledger and our taking the lock."""
    module = importlib.import_module(
        "r1distill.harvest"
    )  # the package's attribute of this name is the function
    real, entered = module.open_files, []

    def after_another(*part: Any) -> Any:
        if not entered:
            entered.append(True)
            world.harvest()
        return real(*part)

    monkeypatch.setattr(module, "open_files", after_another)
    assert world.harvest().asked == 0
    assert world.asked() == 6


def test_a_torn_row_is_cut_off_said_and_asked_again(world: World) -> None:
    world.harvest()
    path = world.run.folder / "traces" / "part-1-of-1.jsonl"
    path.write_bytes(path.read_bytes()[:-30])
    summary = world.harvest()
    assert summary.asked == 1
    assert any("torn last row" in warning for warning in summary.warnings)
    assert set(world.slots().values()) == {1}


def test_an_unreadable_row_is_said_and_asked_again(world: World) -> None:
    world.harvest()
    path = world.run.folder / "traces" / "part-1-of-1.jsonl"
    first, rest = path.read_bytes().split(b"\n", 1)
    path.write_bytes(b"#" * len(first) + b"\n" + rest)
    summary = world.harvest()
    assert summary.asked == 1
    assert any("unreadable row" in warning for warning in summary.warnings)


# --- in a process of its own ---


def test_warnings_are_told_before_anything_is_asked(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    world.harvest()
    with (world.run.folder / "traces" / "part-1-of-1.jsonl").open("a") as ledger:
        ledger.write('{"odd":1}\n')
    world.data["harvest"]["samples"] = 3
    told: list[str] = []
    world.harvest(show=Show(1), on_trace=lambda trace: told.append(capsys.readouterr().err))
    assert "an unreadable row was passed over" in told[0]
    assert "an unreadable row was passed over" not in "".join([*told[1:], capsys.readouterr().err])


def end(process: subprocess.Popen[bytes], within_s: float = 30) -> tuple[int, str]:
    _, said = process.communicate(timeout=within_s)
    return process.returncode, said.decode()


def test_ctrl_c_lets_the_answers_under_way_arrive(world: World) -> None:
    world.write_problems(20)
    world.data["harvest"]["max_in_flight"] = 4
    world.act = lambda request: answer("42", hold=True) if request.number >= 6 else answer("42")
    process = world.start()
    world.server.wait_for(10)
    process.send_signal(signal.SIGINT)
    assert b"waiting for 4 answers" in _until(process, b"under way")
    world.server.release()
    code, _ = end(process)
    assert code == 130
    assert len(world.rows()) == world.server.count == 10
    assert world.run.manifest()["harvest"]["interrupted"] is True
    world.act = lambda request: answer("42")
    assert world.harvest().asked == 30
    assert set(world.slots().values()) == {1}


def test_a_second_ctrl_c_drops_them(world: World) -> None:
    world.act = lambda request: answer("42", hold=True) if request.number >= 2 else answer("42")
    world.data["harvest"]["max_in_flight"] = 1
    process = world.start()
    world.server.wait_for(3)
    process.send_signal(signal.SIGINT)
    _until(process, b"under way")
    process.send_signal(signal.SIGINT)
    code, _ = end(process)
    assert code == 130
    assert len(world.rows()) == 2


def _until(process: subprocess.Popen[bytes], words: bytes) -> bytes:
    assert process.stderr is not None
    said = b""
    while words not in said:
        line = process.stderr.readline()
        assert line, said
        said += line
    return said


def test_kill_9_loses_and_repeats_nothing_that_was_received(world: World) -> None:
    world.write_problems(30)
    world.data["harvest"]["max_in_flight"] = 4
    for until in (9, 31):
        world.act = lambda request, until=until: (
            answer("42", hold=True) if request.number >= until else answer("42")
        )
        process = world.start()
        world.server.wait_for(until + 4)
        process.kill()
        end(process)
    before = world.slots()
    assert len(before) == 31 - 4  # all that was answered; the 4 in flight at the first kill are asked again
    path = world.run.folder / "traces" / "part-1-of-1.jsonl"
    with path.open("ab") as file:
        file.write(b'{"id": "torn in the midd')
    world.act = lambda request: answer("42")
    summary = world.harvest()
    assert summary.asked == 60 - len(before)
    assert set(world.slots().values()) == {1}
    assert len(world.slots()) == 60


@pytest.mark.skipif(not hasattr(signal, "SIGXFSZ"), reason="no file size limits here")
def test_a_full_disk_is_a_sentence_and_earlier_rows_stay_whole(world: World) -> None:
    world.write_problems(200)
    process = world.start("60000")
    code, said = end(process)
    assert code == 1
    assert "StorageError" in said
    assert "no space left; free some space" in said
    assert "Traceback" not in said
    rows = world.rows()  # every line is whole JSON
    assert len(rows) > 20
    world.asked()
    assert world.harvest().asked == 400 - len(rows)
    assert set(world.slots().values()) == {1}


def test_a_locked_run_is_refused_by_another_process(world: World) -> None:
    world.act = lambda request: answer("42", hold=True)
    process = world.start()
    world.server.wait_for(1)
    with pytest.raises(LockedError):
        world.harvest()
    process.kill()
    end(process)
    world.server.release()
    assert world.harvest().still_owed == 0  # a kill leaves no lock behind


def test_status_may_look_beside_a_running_harvest(world: World) -> None:
    from r1distill.status import status

    world.act = lambda request: answer("42", hold=True) if request.number >= 3 else answer("42")
    world.data["harvest"]["max_in_flight"] = 1
    process = world.start()
    world.server.wait_for(4)
    state = status(world.recipe, world.run)
    assert (state.wanted, state.owed) == (6, 3)
    process.kill()
    end(process)


def test_the_files_are_plain_json_lines(world: World) -> None:
    world.act = lambda request: answer("Überraschung: 4\u20282 😀", reasoning="a\nb")
    world.harvest()
    path = world.run.folder / "traces" / "part-1-of-1.jsonl"
    assert len(path.read_bytes().split(b"\n")) == 7
    assert {json.loads(line)["answer"] for line in path.read_bytes().splitlines()} == {
        "Überraschung: 4\u20282 😀"
    }


def test_sigterm_is_as_gentle_as_ctrl_c(world: World) -> None:
    world.write_problems(20)
    world.data["harvest"]["max_in_flight"] = 4
    world.act = lambda request: answer("42", hold=True) if request.number >= 6 else answer("42")
    process = world.start()
    world.server.wait_for(10)
    process.send_signal(signal.SIGTERM)
    _until(process, b"under way")
    world.server.release()
    code, _ = end(process)
    assert code == 130
    assert len(world.rows()) == world.server.count == 10


def test_a_ledger_that_is_deleted_meanwhile_ends_the_harvest(world: World) -> None:
    world.write_problems(20)
    world.data["harvest"]["max_in_flight"] = 4
    world.act = lambda request: answer("42", hold=True) if request.number >= 6 else answer("42")
    process = world.start()
    world.server.wait_for(10)
    (world.run.folder / "traces" / "part-1-of-1.jsonl").unlink()
    world.server.release()
    code, said = end(process)
    assert code == 1
    assert "was deleted while it was being written" in said


def test_problems_that_are_replaced_meanwhile_change_nothing(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another process writes its problems, in another order, between our look and our asking."""
    world.write_problems(10)
    world.harvest(limit=10)
    module = importlib.import_module("r1distill.harvest")
    real = module.Harvest._rounds

    def replaced_before(self: Any, *arguments: Any) -> Any:
        prompts = list(world.run.prompts())
        world.run.save_prompts(reversed(prompts))
        return real(self, *arguments)

    monkeypatch.setattr(module.Harvest, "_rounds", replaced_before)
    assert world.harvest().still_owed == 0
    assert set(world.slots().values()) == {1}
    assert len(world.slots()) == 20


def test_a_stop_carries_the_summary(world: World) -> None:
    world.act = lambda request: answer("42") if request.number < 3 else error(401)
    world.data["harvest"]["max_in_flight"] = 1
    with pytest.raises(StopRunError) as caught:
        world.harvest()
    assert caught.value.summary.traces == 3
    assert caught.value.summary.still_owed == 3


def test_manifest_entries_of_processes_side_by_side_are_all_kept(world: World) -> None:
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda n: world.run.update_manifest(f"k{n}", n), range(40)))
    assert {key for key in world.run.manifest() if key.startswith("k")} == {f"k{n}" for n in range(40)}
