"""Workers: killed when stuck, replaced, never left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from r1distill.answers import Grade, grade
from r1distill.checks.base import Job
from r1distill.checks.grading import grade_many
from r1distill.checks.workers import Workers

HERE = Path(__file__).parent


@pytest.fixture(autouse=True)
def _importable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(HERE))


def job(name: str, *args: Any, timeout_s: float = 2.0) -> Job:
    return Job(f"sleepers:{name}", args, {}, timeout_s)


def test_results_come_in_order_from_any_number_of_workers() -> None:
    jobs = [job("echo", n) for n in range(40)]
    for count in (1, 2):
        with Workers(count) as pool:
            assert [r.value for r in pool.run(jobs)] == [{"value": n} for n in range(40)]
            assert pool.killed == 0


def test_nothing_is_started_without_a_job() -> None:
    with Workers(2) as pool:
        assert pool.run([]) == []
        assert pool._workers == []


def test_stuck_jobs_cost_their_worker_only() -> None:
    jobs = [job("echo", 1), job("spin", 60, timeout_s=0.2), job("stuck_in_c", timeout_s=0.2), job("echo", 2)]
    started = time.monotonic()
    with Workers(2) as pool:
        first, spun, stuck, last = pool.run(jobs)
    assert (first.value, last.value) == ({"value": 1}, {"value": 2})
    assert spun.timed_out and stuck.timed_out and spun.value is None
    assert pool.killed == 2
    assert time.monotonic() - started < 15


def test_errors_deaths_and_hunger_are_three_things() -> None:
    with Workers(1) as pool:
        failed, died, hog, fine = pool.run([job("fail"), job("die"), job("hog"), job("echo", "x")])
    assert failed.error == "error: ValueError"
    assert died.error == "error: worker ended (SIGKILL)" and not died.timed_out
    assert hog.error == "error: MemoryError"
    assert fine.value == {"value": "x"}


def test_an_idle_worker_that_was_killed_is_replaced() -> None:
    with Workers(1) as pool:
        (first,) = pool.run([job("pid")])
        assert first.value is not None
        os.kill(first.value["value"], signal.SIGKILL)
        time.sleep(0.1)
        (second,) = pool.run([job("pid")])
    assert second.value is not None and second.value != first.value


def test_a_killed_parent_leaves_no_orphans() -> None:
    script = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "from r1distill.checks.workers import Workers\n"
        "from r1distill.checks.base import Job\n"
        "pool = Workers(2)\n"
        "print(*[r.value['value'] for r in pool.run([Job('sleepers:pid', (), {}, 2.0)])], flush=True)\n"
        "pool.run([Job('sleepers:spin', (60,), {}, 1.0)])\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", script, str(HERE)], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    child = int(parent.stdout.readline())
    parent.kill()
    parent.wait()
    parent.stdout.close()
    end = time.monotonic() + 10
    while _alive(child) and time.monotonic() < end:
        time.sleep(0.05)
    assert not _alive(child)


def _alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


HOSTILE = [
    r"\boxed{9^{9^{9^{9}}}}",
    r"\boxed{\sum_{i=1}^{10^9} i^{50}}",
    r"\boxed{" + r"\frac{1}{1+" * 40 + "1" + "}" * 40 + "}",
]
CHEAP = [
    r"\boxed{" + "1+" * 50_000 + "1}",
    r"\boxed{" + "(" * 200 + "x" + ")" * 200 + "}",
    r"\boxed{" + r"\frac{1}{1+" * 400 + "1" + "}" * 400 + "}",
    r"\boxed{__import__('os').system('true')}",
]


def test_hostile_answers_cost_their_time_out() -> None:
    pytest.importorskip("math_verify")
    started = time.monotonic()
    found = grade_many([("math", "x+18", text) for text in HOSTILE + CHEAP], workers=2, timeout_s=0.3)
    assert [g.outcome for g in found] == ["timeout"] * len(HOSTILE) + ["error"] * len(CHEAP)
    assert not any(g.right(strict=False) or g.judged for g in found)
    assert time.monotonic() - started < 30


def test_grade_many_is_grade() -> None:
    pytest.importorskip("math_verify")
    items = [
        ("math", "1+x", r"\boxed{x+1}"),
        ("math", "18", "The answer is 18."),
        ("choice", "C", "(D)"),
        ("math", None, "5"),
    ]
    found = grade_many(items, workers=1)  # type: ignore[arg-type]
    assert found == [grade(*item) for item in items]  # type: ignore[arg-type]
    assert [g.outcome for g in found] == ["right", "right", "wrong", "unreadable_reference"]


def test_without_math_verify_the_answer_is_open(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("r1distill.checks.grading.installed", lambda: False)
    (found,) = grade_many([("math", "1+x", r"\boxed{x+1}")])
    assert isinstance(found, Grade) and found.outcome == "error"
    assert "pip install 'r1distill[math]'" in found.note
