"""Take the final answer out of a text; is it the reference? One file per answer kind, one table.

`grade` is the one grading path of the toolkit: the `correct` check and the evaluation both use it. It has two
steps, so that the dear one can run in a worker process that may be killed: `grade_exact` (microseconds, linear)
gives a Grade or a Pending; `settle` (computer algebra) turns a Pending into a Grade. Programs are
never run here: checks.grading does that, with consent.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import msgspec

from r1distill.answers import choice, code, json_answer, math, text
from r1distill.answers.normalise import speakable
from r1distill.answers.outcome import FALLBACKS, AnswerOutcome, Grade, How, Pending
from r1distill.records import AnswerKind

__all__ = [
    "FALLBACKS",
    "AnswerOutcome",
    "Grade",
    "How",
    "Pending",
    "grade",
    "grade_exact",
    "settle",
    "settle_plain",
]


class Grader(NamedTuple):
    """How one kind of answer is graded."""

    exact: Callable[[str, str, Any], Grade | Pending]
    """(reference, answer text, the problem's tests) -> grade, or what is left to settle."""
    settle: Callable[[str, str, How], Grade] | None = None
    """The dear step, for kinds whose exact step may leave something open."""


GRADERS: dict[str, Grader] = {
    "math": Grader(math.grade_exact, math.settle),
    "choice": Grader(choice.grade_exact),
    "text": Grader(text.grade_exact, text.settle),
    "json": Grader(json_answer.grade_exact),
    "code": Grader(code.grade_exact),
}


def grade_exact(
    kind: AnswerKind, reference: str | None, answer_text: str, tests: Any = None
) -> Grade | Pending:
    """The grade as far as text and exact fractions reach. `answer_text` must not hold the reasoning."""
    answer_text = speakable(answer_text)
    reference = None if reference is None else speakable(reference)
    if kind == "text" and text.wants_regex(tests):
        reference = reference or ""
    elif reference is None or not reference.strip():
        return Grade("unreadable_reference", note="no reference")
    return GRADERS[kind].exact(reference, answer_text, tests)


def settle(kind: AnswerKind, reference: str, extracted: str, how: How) -> Grade:
    """Settle a Pending; may hang on hostile input, so call it where it can be killed (checks.workers)."""
    settler = GRADERS[kind].settle
    assert settler is not None, kind
    return settler(reference, extracted, how)


def settle_plain(kind: AnswerKind, reference: str, extracted: str, how: Any) -> dict[str, Any]:
    """As `settle`, the Grade as a dict: runs in a worker that does not need computer algebra."""
    value: dict[str, Any] = msgspec.to_builtins(settle(kind, reference, extracted, how))
    return value


def grade(kind: AnswerKind, reference: str | None, answer_text: str, tests: Any = None) -> Grade:
    """Both steps in this process: for tests and trusted text. Many or foreign answers: checks.grading.grade_many."""
    first = grade_exact(kind, reference, answer_text, tests)
    return first if isinstance(first, Grade) else settle(kind, *first)
