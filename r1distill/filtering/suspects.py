"""Problems whose reference answer may be wrong: most samples agree with each other, and not with the reference.

In: judged rows that still hold what `correct` measured, the problems. Out: a row per suspect problem, for a person to look at;
nothing is removed for it. (Teachers can also share a mistake, so this is a hint, no verdict.)
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from pathlib import Path

import msgspec

from r1distill.answers.outcome import SHOWN_CHARS
from r1distill.checks import Check, Row, Value
from r1distill.checks.agreement import Agreement, suspect_references
from r1distill.checks.base import UNMEASURED
from r1distill.checks.correct import Correct
from r1distill.filtering.judged import Judged
from r1distill.records import AnswerKind, Prompt

CORRECT, AGREEMENT = "correct", "agreement"


class SuspectRow(msgspec.Struct, frozen=True):
    """One row of suspect_references.jsonl."""

    prompt_id: str
    question: str
    reference: str | None
    majority_answer: str
    """What most samples answer; equal answers in other spellings count for it."""
    count: int
    """Samples that give it."""
    samples: int
    """Samples of the problem, those without an answer included."""


def reads(checks: Mapping[str, Check]) -> set[str]:
    """The checks whose measurements `suspects` reads; none where nothing is compared with a reference."""
    return {CORRECT} if isinstance(checks.get(CORRECT), Correct) else set()


def suspects(
    rows: Sequence[Judged], checks: Mapping[str, Check], problems: Sequence[Prompt]
) -> list[SuspectRow]:
    """The suspect problems, the surest first. `rows` in the order of the set, `problems` by their number in it."""
    if not reads(checks):
        return []
    check = _agreement(checks)
    views = [
        Row(
            row.trace_id,
            row.prompt_id,
            row.order,
            row.teacher,
            row.sample,
            _values(row, problems[row.order].answer_kind),
        )
        for row in _doubtful(rows, check.min_samples)
    ]
    found = []
    for one in suspect_references(views, check, AGREEMENT):
        prompt = problems[one.problem]
        found.append(
            SuspectRow(
                one.prompt_id,
                prompt.question,
                prompt.answer,
                one.answer,
                round(one.share * one.samples),
                one.samples,
            )
        )
    return found


def _agreement(checks: Mapping[str, Check]) -> Agreement:
    """The recipe's own check, or one that reads answers as `correct` does."""
    own = next((check for check in checks.values() if isinstance(check, Agreement)), None)
    correct = checks[CORRECT]
    if own is not None or not isinstance(correct, Correct):
        return own or Agreement()
    made = Agreement(extraction=correct.extraction).prepared(Path(), checks)
    assert isinstance(made, Agreement)
    return made


def _doubtful(rows: Sequence[Judged], min_samples: int) -> Iterator[Judged]:
    """The rows of problems with enough samples, more than half of them wrong: the others are no suspects."""
    for _, group in groupby(rows, lambda row: row.order):
        samples = list(group)
        wrong = sum(row.values.get(CORRECT, {}).get("outcome") == "wrong" for row in samples)
        if len(samples) >= min_samples and 2 * wrong > len(samples):
            yield from samples


def _values(row: Judged, kind: AnswerKind) -> dict[str, Value]:
    """What `correct` measured, and the same in the form in which `agreement` measures."""
    graded = row.values.get(CORRECT, {})
    if UNMEASURED in graded or "outcome" not in graded:
        graded = {**graded, "outcome": "error"}
    answer: Value = {"kind": kind}
    extracted = graded.get("extracted")
    if extracted is not None and len(extracted) < SHOWN_CHARS:  # one that was cut can't be compared
        answer |= {"answer": extracted, "how": graded.get("how")}
    return {CORRECT: graded, AGREEMENT: answer}
