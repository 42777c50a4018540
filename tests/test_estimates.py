"""What the rest may cost, and how a harvest that goes on is seen from outside."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from fake_teacher import FakeTeacher, answer
from small_run import KEY, KEY_VARIABLE, SmallRun

from r1distill.estimates import rows
from r1distill.live import LiveFile, live
from r1distill.show import Show
from r1distill.status import status, tell
from r1distill.tally import Tally
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
    (row,) = rows(world.harvest(dry_run=True).estimates)
    assert row[:2] == ("t", "20")
    assert row[3] == "125 / 500 / 2,000"
    assert row[5] == "1/16, 1/4, all of the ceiling"


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
    assert "harvesting now (1-of-1" in said and "5/20" in said and "so far" in said
    world.server.release()  # type: ignore[attr-defined]
    assert process.wait(20) == 0
    assert live(world.run) == {}


def test_a_file_left_by_a_kill_is_not_believed(world: SmallRun) -> None:
    file = LiveFile(world.run, (1, 1), 10)
    file.write(Tally(traces=3), 2)
    assert live(world.run)["1-of-1"]["done"] == 3
    state = json.loads(file.path.read_text())
    file.path.write_text(json.dumps({**state, "at": time.time() - 3600}))
    assert live(world.run) == {}


def test_a_package_price_is_for_the_very_host_only() -> None:
    pytest.importorskip("genai_prices")
    found, package = guessed_usd("deepseek-chat", "https://api.deepseek.com", [(1e6, 0.0), (1e6, 1e6)])
    assert found is not None and package.startswith("genai-prices ")
    assert 0.05 < found[0] < 1 and found[1] > found[0]
    assert guessed_usd("deepseek-chat", "http://127.0.0.1:8000/v1", [(1.0, 1.0)]) == (None, "")
    assert guessed_usd("no-such-model", "https://api.deepseek.com", [(1.0, 1.0)])[0] is None
