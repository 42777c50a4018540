"""Measuring in worker processes gives what measuring here gives, whatever goes wrong on the way."""

from __future__ import annotations

import os
from pathlib import Path
from typing import cast

import msgspec
import pytest

from r1distill.checks import Check, Job, Value, build_checks
from r1distill.checks.ahead import Ahead, Begun, Raised, Wanted
from r1distill.checks.workers import Workers
from r1distill.records import Prompt, Trace

OWN_CHECK = """
import os, signal
from r1distill.checks import Check, passed
class Mine(Check):
    anywhere = True
    sign: str = "a"
    def measure(self, prompt, trace):
        if trace.answer == "die":
            os.kill(os.getpid(), signal.SIGKILL)
        if trace.answer == "raise":
            raise KeyError("no")
        return {"count": trace.reasoning.count(self.sign), "pid": os.getpid()}
    def judge(self, value):
        return passed()
"""


def trace(number: int, answer: str = "So \\boxed{18}.") -> Trace:
    return Trace(
        id=f"t{number}", slot="s", prompt_id="p", sample=number, teacher="r1", model="m", messages=[],
        reasoning=f"a b c {number} " * 50, answer=answer, finish="stop",
    )  # fmt: skip


def wanted(checks: dict[str, Check], traces: list[Trace]) -> list[Wanted]:
    prompt = Prompt("p", "What is 9 * 2?", "x+1")
    return [Wanted(at, prompt, one, list(range(len(checks)))) for at, one in enumerate(traces)]


def begun(checks: dict[str, Check], traces: list[Trace]) -> dict[tuple[int, int], Begun]:
    with Workers(2) as pool, Ahead(list(checks.values()), pool) as ahead:
        assert ahead.batches > 0
        return ahead.fetch(ahead.post(wanted(checks, traces)))


@pytest.fixture
def own(tmp_path: Path) -> dict[str, Check]:
    (tmp_path / "mine.py").write_text(OWN_CHECK)
    return build_checks({"mine": {"use": "mine.py:Mine", "sign": "b"}}, tmp_path)


def test_workers_begin_as_this_process_does() -> None:
    checks = build_checks({"format": {}, "length": {}, "repetition": {}, "correct": {}})
    traces = [trace(number, f"So \\boxed{{{number % 3}+x}}.") for number in range(300)]
    found = begun(checks, traces)
    here = {
        (item.at, column): made if isinstance(made, Job) else msgspec.json.encode(made)
        for item in wanted(checks, traces)
        for column, check in enumerate(checks.values())
        for made in [check.begin(item.prompt, item.trace)]
    }
    assert found == here
    assert any(isinstance(value, Job) for value in found.values())


def test_a_check_of_the_user_is_loaded_there(own: dict[str, Check]) -> None:
    values = [
        msgspec.json.decode(cast("bytes", raw)) for raw in begun(own, [trace(n) for n in range(200)]).values()
    ]
    assert {value["count"] for value in values} == {50}
    assert os.getpid() not in {value["pid"] for value in values}


def test_an_error_is_told(own: dict[str, Check]) -> None:
    found = begun(own, [trace(0), trace(1, "raise")])
    assert found[1, 0] == Raised("error: KeyError", "KeyError: 'no'")
    assert isinstance(found[0, 0], bytes)


def test_what_a_worker_dies_of_is_left_to_the_caller(own: dict[str, Check]) -> None:
    found = begun(own, [*(trace(n) for n in range(130)), trace(130, "die")])
    assert set(found) == {(at, 0) for at in range(125)}


def test_texts_that_can_not_be_sent_are_left_to_the_caller() -> None:
    checks = build_checks({"format": {}})
    assert begun(checks, [trace(0, "\ud800")]) == {}


def test_one_worker_measures_nothing_ahead() -> None:
    checks = build_checks({"format": {}})
    with Workers(1) as pool, Ahead(list(checks.values()), pool) as ahead:
        assert ahead.batches == 0
        assert pool._workers == []


def test_checks_that_do_not_say_so_stay_here() -> None:
    class Stays(Check):
        def measure(self, prompt: Prompt, trace: Trace) -> Value:
            return {}

    class Unpicklable(Stays):
        anywhere = True

    with Workers(2) as pool, Ahead([Stays(), Unpicklable()], pool) as ahead:
        assert (ahead.batches, ahead.columns) == (0, set())


def test_a_job_goes_before_what_waits() -> None:
    with Workers(1) as pool:
        order = [pool.post([_pid()]) for _ in range(3)]
        (first,) = pool.run([_pid()])
        done = [len(ticket.results) for ticket in order]
        assert first.value is not None and sum(done) <= 1
        assert [pool.wait(ticket)[0].value for ticket in order] == [first.value] * 3


def _pid() -> Job:
    return Job("tests_ahead_jobs:pid", (), {}, 2.0)


@pytest.fixture(autouse=True)
def _jobs(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path_factory.mktemp("jobs")
    (folder / "tests_ahead_jobs.py").write_text("import os\ndef pid(): return {'value': os.getpid()}\n")
    monkeypatch.syspath_prepend(str(folder))
