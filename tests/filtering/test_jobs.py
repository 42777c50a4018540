"""Jobs of several batches at once: equal ones run once, each result comes to its places, also while others still run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from r1distill.checks.base import UNMEASURED, Job
from r1distill.checks.workers import Workers
from r1distill.filtering import jobs as jobs_module
from r1distill.filtering.jobs import Jobs

SLEEPERS = Path(__file__).parents[1] / "checks"


@pytest.fixture(autouse=True)
def _importable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(SLEEPERS))


def job(name: str, *args: Any, timeout_s: float = 5.0) -> Job:
    return Job(f"sleepers:{name}", args, {"base": 1}, timeout_s)


def nothing() -> None:
    """Of all that could be done meanwhile."""


def test_equal_jobs_of_batches_that_are_under_way_run_once() -> None:
    with Workers(2) as pool:
        jobs = Jobs(pool)
        first: dict[tuple[int, int], Any] = {(0, 0): job("echo", 1), (0, 1): b"{}", (1, 0): job("echo", 1)}
        second: dict[tuple[int, int], Any] = {(0, 0): job("echo", 1), (5, 0): job("echo", 2)}
        posted = [jobs.post(first), jobs.post(second)]
        assert [len({(id(one.ticket), one.number) for one in some}) for some in posted] == [1, 2]
        assert posted[0][0].ticket is posted[1][0].ticket
        jobs.finish(second, posted[1], nothing)  # in another order than they were posted
        jobs.finish(first, posted[0], nothing)
        assert first == {(0, 0): {"base": 1, "value": 1}, (0, 1): b"{}", (1, 0): {"base": 1, "value": 1}}
        assert second == {(0, 0): {"base": 1, "value": 1}, (5, 0): {"base": 1, "value": 2}}
        third: dict[tuple[int, int], Any] = {(9, 9): job("echo", 2)}
        assert jobs.post(third) == [] and third == {(9, 9): {"base": 1, "value": 2}}


def test_results_are_there_even_when_what_is_remembered_was_let_go(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs_module, "MEMO_ENTRIES", 0)
    with Workers(1) as pool:
        jobs = Jobs(pool)
        batches: list[dict[tuple[int, int], Any]] = [{(0, 0): job("echo", 1)} for _ in range(4)]
        posted = [jobs.post(batch) for batch in batches[:3]]
        jobs.finish(batches[0], posted[0], nothing)
        posted.append(jobs.post(batches[3]))  # it forgets what the first batch came to
        for batch, some in zip(batches[1:], posted[1:], strict=True):
            jobs.finish(batch, some, nothing)
        assert batches == [{(0, 0): {"base": 1, "value": 1}}] * 4


def test_what_is_done_is_saved_while_others_still_run() -> None:
    with Workers(1) as pool:
        jobs = Jobs(pool)
        new: dict[tuple[int, int], Any] = {(n, 0): job("echo", n) for n in range(3)}
        new[3, 0] = job("spin", 60, timeout_s=0.3)
        saved: list[dict[tuple[int, int], Any]] = []

        def save() -> None:
            jobs.put(new, posted)
            done = {place: value for place, value in new.items() if not isinstance(value, Job)}
            saved.append(done)
            for place in done:
                del new[place]

        posted = jobs.post(new)
        assert not jobs.are_done(posted)
        jobs.finish(new, posted, save)
        assert jobs.are_done(posted)
    found = {place: value for some in [*saved, new] for place, value in some.items()}
    assert {(0, 0), (1, 0)} <= {place for some in saved[:-1] for place in some}
    assert found == {
        **{(n, 0): {"base": 1, "value": n} for n in range(3)}, (3, 0): {"base": 1, UNMEASURED: "timeout"}
    }  # fmt: skip
