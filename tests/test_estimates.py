"""What the rest may cost, and how a harvest that goes on is seen from outside."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from fake_teacher import FakeTeacher, answer
from small_run import KEY, KEY_VARIABLE, SmallRun

from r1distill.asking.live import LiveFile, live
from r1distill.asking.tally import Tally
from r1distill.errors import InputError, RecipeError
from r1distill.forecast import covered, missing_keys, table
from r1distill.harvest_summary import HarvestSummary, lines
from r1distill.harvest_summary import tell as tell_harvest
from r1distill.show import Show
from r1distill.status import status, tell
from r1distill.teachers.price_guess import guessed_usd


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[SmallRun]:
    monkeypatch.setenv(KEY_VARIABLE, KEY)
    with FakeTeacher(lambda request: answer("42", reasoning="because", hold=request.number >= 5)) as server:
        made = SmallRun(tmp_path, server.base_url, problems=10)
        made.server = server  # type: ignore[attr-defined]
        made.teacher["price"] = {"input": 1.0, "output": 100.0}
        yield made
        server.release()


def test_before_any_answer_an_estimate_says_what_it_assumes(world: SmallRun) -> None:
    prompt, completion, cost = table(world.harvest(dry_run=True).estimates)
    assert prompt[:2] == ("t, 20 answers", "prompt tokens")
    assert completion[1:] == ("completion tokens", "125", "500", "2,000", "1/16, 1/4, all of the ceiling")
    assert cost[1] == "cost" and cost[4].startswith("$0.20")


def test_with_answers_it_rests_on_them(world: SmallRun) -> None:
    world.harvest(limit=5)
    (found,) = world.harvest(dry_run=True).estimates
    assert (found.answers, found.measured, found.completion_tokens) == (15, True, [300, 300, 300])
    chars = len("Solve: What is 0 + 1?")
    assert found.prompt_tokens == pytest.approx(
        [15 * 10] * 3, abs=3
    )  # by its own ratio of characters to tokens
    assert chars / 10 == pytest.approx(2.1)


def test_a_model_of_our_own_costs_nothing_and_is_not_estimated(world: SmallRun) -> None:
    world.data["teacher"] = {"e": {"provider": "embedded", "sampling": {"max_tokens": 5}}}
    pytest.importorskip("xllamacpp")
    assert world.harvest(dry_run=True).estimates == []


def test_a_running_harvest_is_seen_from_outside(world: SmallRun, capsys: pytest.CaptureFixture[str]) -> None:
    world.data["harvest"]["max_in_flight"] = 2
    process = world.start()
    world.server.wait_for(7)  # type: ignore[attr-defined]
    ends = time.monotonic() + 10
    while not (found := status(world.recipe, world.run).harvesting).get("1-of-1", {}).get("done"):
        assert time.monotonic() < ends, found
        time.sleep(0.1)
    now = found["1-of-1"]
    assert (now["total"], now["done"], now["in_flight"], now["pid"]) == (20, 5, 2, process.pid)
    tell(status(world.recipe, world.run), Show(1))
    said = capsys.readouterr().err
    assert "harvesting now (1-of-1" in said and "5/20" in said and "$0.0100 now" in said
    world.server.release()  # type: ignore[attr-defined]
    assert process.wait(20) == 0
    assert live(world.run) == {}


def test_a_file_left_by_a_kill_is_not_believed(world: SmallRun) -> None:
    file = LiveFile(world.run, (1, 1), 10)
    file.write(Tally(traces=3), 2)
    assert live(world.run)["1-of-1"]["done"] == 3
    state = json.loads(file.path.read_text())
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    file.path.write_text(json.dumps({**state, "pid": gone.pid}))
    assert live(world.run) == {}  # at once, on the host that it ran on
    file.path.write_text(json.dumps({**state, "pid": gone.pid, "host": "elsewhere"}))
    assert set(live(world.run)) == {"1-of-1"}
    file.path.write_text(json.dumps({**state, "at": time.time() - 3600}))
    assert live(world.run) == {}


def test_a_package_price_is_for_the_very_host_only() -> None:
    pytest.importorskip("genai_prices")
    found, package = guessed_usd("deepseek-chat", "https://api.deepseek.com", [(1e6, 0.0), (1e6, 1e6)])
    assert found is not None and package.startswith("genai-prices ")
    assert 0.05 < found[0] < 1 and found[1] > found[0]
    assert guessed_usd("deepseek-chat", "http://127.0.0.1:8000/v1", [(1.0, 1.0)]) == (None, "")
    assert guessed_usd("no-such-model", "https://api.deepseek.com", [(1.0, 1.0)])[0] is None


def test_what_the_budget_covers(world: SmallRun) -> None:
    found = world.harvest(dry_run=True).estimates  # 20 answers: $0.0126 / $0.0502 / $0.2002 or so
    assert covered(found, None, 0.0) == ""
    assert "covers about 7 of 20 answers" in covered(found, 0.03, 0.01)
    assert "covers all 20 answers at the expected cost ($0.05" in covered(found, 0.1, 0.0)
    assert "covers all 20 answers, even at the high estimate" in covered(found, 5.0, 0.0)
    world.data["harvest"]["budget_usd"] = 0.03
    assert any("covers about 11 of 20 answers" in line for line in lines(world.harvest(dry_run=True)))
    del world.teacher["price"], world.data["harvest"]["budget_usd"]
    assert covered(world.harvest(dry_run=True).estimates, 5.0, 0.0) == ""


def test_a_key_that_is_missing_is_told_and_no_error(world: SmallRun, monkeypatch: pytest.MonkeyPatch) -> None:
    assert missing_keys(world.recipe) == []
    monkeypatch.delenv(KEY_VARIABLE)
    (told,) = missing_keys(world.recipe)
    assert KEY_VARIABLE in told


def test_settings_that_change_nothing_are_told(world: SmallRun) -> None:
    def warnings() -> str:
        return " ".join(world.harvest(dry_run=True).warnings)

    assert "tags" not in warnings()
    world.data["harvest"]["assign"] = "tag"
    assert "no teacher has tags: t is asked for all" in warnings()
    world.teacher["tags"] = {}
    world.data["harvest"]["assign"] = "all"
    world.teacher["tags"] = {"language": ["zh"]}
    assert "teacher.t.tags changes nothing without" in warnings()
    world.data["harvest"]["escalate"] = {"max_tokens": 100}
    assert "escalate.max_tokens = 100 is not above the ceiling of teacher.t (100 tokens)" in warnings()
    world.data["harvest"]["escalate"] = {"max_tokens": 101}
    assert "escalate" not in warnings()


def test_words_of_a_summary() -> None:
    told = HarvestSummary(
        prompts=1, wanted=25, of_all=48, had=0, shard=(1, 2), asked=25, traces=20, truncated=6, escalated=4, failed_final=1,
        failed_open=4, still_owed=1, cost_usd=0.0, attempts=25, elapsed_s=2.0,
    )  # fmt: skip
    said = "\n".join(lines(told))
    for words in (
        "Part 1 of 2: 25 of 48 answers wanted for 1 problem;",
        "Got 20 traces in 2.0 s: completion tokens unknown, $0.0000.",
        "Of the answers cut at max_tokens, 4 were asked once more",
        "2 answers are still cut",
        "1 request failed for good (--retry-failed",
        "4 requests failed for now; they stay owed",
        "1 answer is still owed",
    ):
        assert words in said, words


def test_what_was_told_live_is_told_once(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    show, summary = Show(), HarvestSummary(prompts=1, wanted=1, had=1, warnings=["The teacher hides it."])
    show.note("The teacher hides it.")
    tell_harvest(summary, show, tmp_path / "run")
    said = capsys.readouterr().err
    assert said.count("hides it") == 1
    assert said.rstrip().endswith(f"Next: r1distill filter {tmp_path / 'run'}")


def test_money_of_the_progress_line() -> None:
    tally = Tally(
        traces=10, completion_tokens=2000, cost_usd=0.5, lost_usd=0.1, spent_usd=1.5, reserved_usd=0.25
    )
    assert tally.detail(2.0, 0, 20).endswith("$0.6000 now (about $1.20 for all 20)")
    tally.budget_usd = 20.0
    assert tally.detail(2.0, 0, 10).endswith(
        "$0.6000 now, $1.50 of the budget of $20.00 (at most $0.2500 set aside)"
    )
    tally.cost_unknown, tally.completion_tokens = 1, 0
    assert "5.0/s, tokens unknown, $0.6000 now, " in tally.detail(2.0, 0, 20)


def test_what_was_given_up_is_no_progress() -> None:
    tally = Tally(traces=10)
    tally.add_failure("a", "timeout", False)
    tally.add_failure("b", "content_filter", True)
    assert (tally.done, len(tally.given_up)) == (11, 1)
    tally.settled_before = 5
    assert tally.done == 6


def test_a_budget_without_end_and_an_empty_question_are_told(world: SmallRun) -> None:
    world.data["harvest"]["budget_usd"] = float("inf")
    with pytest.raises(RecipeError, match="budget_usd': should be a finite number"):
        world.harvest(dry_run=True)
    del world.data["harvest"]["budget_usd"]
    (world.folder / "problems.jsonl").write_text('{"question": ""}\n')
    with pytest.raises(InputError, match="is empty; write one, or remove"):
        world.harvest(dry_run=True)
