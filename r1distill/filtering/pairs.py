"""Preference pairs: a right answer over a wrong one to the same problem, for DPO and its kin.

Right is a trace that is selected for training; wrong is one that the correctness check removes, and no other check but those of
answers and problems (agreement, difficulty), so that form, length and finish are no part of the preference. Of the wrong ones
the nearest in length is taken: else length is what a preference learner learns (Singhal et al., 2023,
https://arxiv.org/abs/2310.03716). Rows are TRL's conversational preference form
(https://huggingface.co/docs/trl/dataset_formats#preference).
"""

from __future__ import annotations

from statistics import median
from typing import NamedTuple

import msgspec

from r1distill.checks import Check, Judgement
from r1distill.checks.agreement import Agreement
from r1distill.checks.correct import Correct
from r1distill.checks.difficulty import Difficulty
from r1distill.filtering.funnel import Parted
from r1distill.filtering.judged import Judged
from r1distill.records import Message

FORM = ("no answer found", "answer not marked as final")


class Pair(NamedTuple):
    """Two answers to one problem."""

    right: Judged
    wrong: Judged


class PairRow(msgspec.Struct, frozen=True):
    """One row of pairs.jsonl."""

    trace_id: str
    rejected_trace_id: str
    prompt: list[Message]
    chosen: msgspec.Raw
    rejected: msgspec.Raw
    """Both messages as JSON."""


def preference_pairs(parted: Parted, checks: dict[str, Check], per_prompt: int) -> list[Pair]:
    """At most `per_prompt` pairs for each problem, those that differ least in length, each trace in one of them only; in the
    order of the set.
    """
    graders = {name for name, check in checks.items() if isinstance(check, Correct)}
    allowed = graders | {name for name, check in checks.items() if isinstance(check, Agreement | Difficulty)}
    wrong: dict[int, list[Judged]] = {}
    for row, names in zip(parted.rows, parted.removed_by, strict=True):
        said = graders.intersection(names)
        if said and allowed.issuperset(names) and all(_is_wrong(row.judgements[name]) for name in said):
            wrong.setdefault(row.order, []).append(row)
    right: dict[int, list[Judged]] = {}
    for row in parted.train:
        if row.order in wrong and _is_right(row, graders):
            right.setdefault(row.order, []).append(row)
    return [pair for order, rows in right.items() for pair in _nearest(rows, wrong[order], per_prompt)]


def _nearest(right: list[Judged], wrong: list[Judged], most: int) -> list[Pair]:
    """The pairs that differ least in length, each trace in one of them; in the order of the right ones."""
    near = sorted(
        (abs(one.chars - other.chars), at, rival)
        for at, one in enumerate(right)
        for rival, other in enumerate(wrong)
    )
    rival_of: dict[int, int] = {}
    taken: set[int] = set()
    for _, at, rival in near:
        if len(rival_of) < most and at not in rival_of and rival not in taken:
            rival_of[at] = rival
            taken.add(rival)
    return [Pair(right[at], wrong[rival_of[at]]) for at in sorted(rival_of)]


def length_ratio(pairs: list[Pair]) -> float | None:
    """The wrong answers' length over the right ones', in characters, median over the pairs; None without pairs."""
    ratios = [pair.wrong.chars / max(1, pair.right.chars) for pair in pairs]
    return round(median(ratios), 3) if ratios else None


def _is_wrong(judgement: Judgement) -> bool:
    """The answer was read and is another one; what has no marked answer has a fault of form."""
    return judgement.outcome == "FAIL" and judgement.reason not in FORM


def _is_right(row: Judged, graders: set[str]) -> bool:
    """Kept since it is right, not since nobody could tell."""
    return any(row.judgements[name].outcome == "PASS" for name in graders)
