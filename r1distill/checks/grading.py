"""Grading answers in worker processes: the bridge between answers/ and the workers, for the check and the evaluation."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

from r1distill.answers import Grade, Pending, grade_exact, settle
from r1distill.answers.symbolic import INSTALL, installed, warm_up
from r1distill.checks.base import Job, Value
from r1distill.checks.running import CodeRun, begin_code
from r1distill.checks.workers import Result, Workers
from r1distill.records import AnswerKind

TIMEOUT_S = 2.0
"""CPU seconds for one symbolic comparison; ordinary ones take 0.005."""

__all__ = ["TIMEOUT_S", "begin_grading", "grade_many", "settle_in_worker", "warm_up"]


def begin_grading(
    kind: AnswerKind,
    reference: str | None,
    answer_text: str,
    timeout_s: float = TIMEOUT_S,
    tests: Any = None,
    code: CodeRun | None = None,
) -> Grade | Job:
    """The grade when the exact tier settles it, else the job for a worker: computer algebra, a user's regex, or running a
    program (never without `code`).
    """
    if kind == "code":
        return begin_code(answer_text, tests, code)
    first = grade_exact(kind, reference, answer_text, tests)
    if isinstance(first, Grade):
        return first
    if kind == "math" and not installed():
        return Grade("error", first.extracted, first.how, None, INSTALL)
    return _job(kind, first, timeout_s)


def _job(kind: AnswerKind, pending: Pending, timeout_s: float) -> Job:
    base = {"extracted": pending.extracted, "how": pending.how}
    function = (
        "r1distill.checks.grading:settle_in_worker" if kind == "math" else "r1distill.answers:settle_plain"
    )
    return Job(function, (kind, *pending), base, timeout_s)


def settle_in_worker(kind: AnswerKind, reference: str, extracted: str, how: Any) -> Value:
    """Runs in a worker: the Grade as a dict."""
    value: Value = msgspec.to_builtins(settle(kind, reference, extracted, how))
    return value


def grade_many(
    items: Iterable[tuple[AnswerKind, str | None, str] | tuple[AnswerKind, str | None, str, Any]],
    workers: int | None = None,
    timeout_s: float = TIMEOUT_S,
    code: CodeRun | None = None,
) -> list[Grade]:
    """Grade (answer kind, reference, answer text) or (..., the problem's tests); one Grade each, in order.

    The same grades with any number of workers (default: one per core). None is started when the exact tier settles
    everything. Hostile answers cost at most `timeout_s` CPU seconds each and come back as "timeout". Programs
    are run as `code` says, and without it not at all.
    """
    begun = [begin_grading(*item[:3], timeout_s, item[3] if len(item) > 3 else None, code) for item in items]
    jobs = [item for item in begun if isinstance(item, Job)]
    with Workers(workers) as pool:
        results = iter(pool.run(jobs))
    return [item if isinstance(item, Grade) else _grade(item, next(results)) for item in begun]


def _grade(job: Job, result: Result) -> Grade:
    if result.value is not None:
        return msgspec.convert(result.value, Grade)
    outcome = "timeout" if result.timed_out else "error"
    note = "" if result.timed_out else result.error
    return msgspec.convert({**job.base, "outcome": outcome, "note": note}, Grade)
