"""Graded answers -> scores with intervals, paired differences, lengths and times. Pure: rows in, rows out."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from statistics import fmean, median
from typing import Any

import msgspec

from r1distill.intervals import Interval, paired_difference, pass_at_1

MODES = ("lenient", "strict")
"""Lenient: the last number or letter of the answer counts; strict: the answer must be marked as final."""


class GradedAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """One row of answers.jsonl: a trace of the evaluation with its grade."""

    trace_id: str
    who: str
    """teacher, base or student."""
    problems: str
    """Name of the problem set."""
    prompt_id: str
    sample: int
    lenient: bool
    strict: bool
    in_form: bool
    """A chain of thought, then an answer that is marked as final."""
    outcome: str
    extracted: str | None
    how: str | None
    finish: str
    completion_tokens: int | None
    latency_s: float | None


class Score(msgspec.Struct, frozen=True, kw_only=True):
    """What one model reached on one set."""

    who: str
    problems: str
    n_problems: int
    samples: int
    lenient: Interval
    """pass@1 as a share of 1."""
    strict: Interval
    maj_at_k: float | None
    """Lenient score of the most frequent answer of each problem; None with one sample."""
    in_form: float
    truncated: float
    cant_tell: int
    """Answers that nobody can grade (counted as wrong)."""
    tokens_mean: float | None
    latency_s_median: float | None


class Difference(msgspec.Struct, frozen=True, kw_only=True):
    """A paired comparison on one set."""

    first: str
    second: str
    problems: str
    mode: str
    difference: Interval
    """first - second, as a share of 1."""
    shown: bool
    """False: the interval holds 0, so no difference is shown."""

    def sentence(self) -> str:
        """The comparison in words, in percentage points."""
        d = self.difference
        where = f"on {self.problems} ({self.mode})"
        if not self.shown:
            return f"{self.first} against {self.second} {where}: no difference shown ({_points(d)})."
        verb = "beats" if d.value > 0 else "is behind"
        return f"{self.first} {verb} {self.second} {where} by {abs(d.value) * 100:.1f} points ({_points(d)})."


def _points(d: Interval) -> str:
    return f"difference {d.value * 100:+.1f}, 95% interval {d.low * 100:+.1f} to {d.high * 100:+.1f}"


def score_all(rows: Sequence[GradedAnswer]) -> tuple[list[Score], list[Difference]]:
    """Scores of every (model, set), and the differences student - base, student - teacher where both are there."""
    groups: dict[tuple[str, str], list[GradedAnswer]] = defaultdict(list)
    for row in rows:
        groups[row.problems, row.who].append(row)
    scores = [score(group) for group in groups.values()]
    differences = [
        difference(groups[name, "student"], groups[name, other], mode)
        for name in dict.fromkeys(name for name, _ in groups)
        for other in ("base", "teacher")
        if (name, "student") in groups and (name, other) in groups
        if _by_problem(groups[name, "student"]).keys() & _by_problem(groups[name, other]).keys()
        for mode in MODES
    ]
    return scores, differences


def score(rows: Sequence[GradedAnswer]) -> Score:
    """The Score of one model on one set."""
    tokens = [row.completion_tokens for row in rows if row.completion_tokens is not None]
    latencies = [row.latency_s for row in rows if row.latency_s is not None]
    problems = _by_problem(rows)
    samples = max(len(group) for group in problems.values())
    return Score(
        who=rows[0].who, problems=rows[0].problems, n_problems=len(problems), samples=samples,
        lenient=pass_at_1([[r.lenient for r in group] for group in problems.values()]),
        strict=pass_at_1([[r.strict for r in group] for group in problems.values()]),
        maj_at_k=fmean(_majority_right(group) for group in problems.values()) if samples > 1 else None,
        in_form=fmean(r.in_form for r in rows), truncated=fmean(r.finish == "length" for r in rows),
        cant_tell=sum(r.outcome in ("timeout", "error", "unreadable_reference") for r in rows),
        tokens_mean=fmean(tokens) if tokens else None, latency_s_median=median(latencies) if latencies else None,
    )  # fmt: skip


def difference(first: Sequence[GradedAnswer], second: Sequence[GradedAnswer], mode: str) -> Difference:
    """The paired difference of two models over the problems that both answered (at least one)."""
    a, b = _by_problem(first), _by_problem(second)
    both = [key for key in a if key in b]
    interval = paired_difference(
        [fmean(getattr(r, mode) for r in a[key]) for key in both],
        [fmean(getattr(r, mode) for r in b[key]) for key in both],
    )
    return Difference(
        first=first[0].who, second=second[0].who, problems=first[0].problems, mode=mode, difference=interval,
        shown=interval.excludes_zero,
    )  # fmt: skip


def _by_problem(rows: Sequence[GradedAnswer]) -> dict[str, list[GradedAnswer]]:
    groups: dict[str, list[GradedAnswer]] = defaultdict(list)
    for row in rows:
        groups[row.prompt_id].append(row)
    return groups


def _majority_right(group: Sequence[GradedAnswer]) -> float:
    """1.0 when the most frequent extracted answer is right (ties: the share of right ones among the tied)."""
    counts = Counter(row.extracted for row in group if row.extracted is not None)
    if not counts:
        return 0.0
    most = max(counts.values())
    tied = [answer for answer, count in counts.items() if count == most]
    right: dict[Any, bool] = {row.extracted: row.lenient for row in group}
    return fmean(right[answer] for answer in tied)
