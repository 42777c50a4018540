"""Is the final answer right? The problem's answer_kind picks the grader (answers/)."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import msgspec
from pydantic import Field

from r1distill.answers import FALLBACKS, Grade
from r1distill.checks.base import Check, Job, Judgement, Value, failed, passed, unjudged
from r1distill.checks.grading import TIMEOUT_S, begin_grading, grade_many
from r1distill.records import Prompt, Trace

NO_REFERENCE = "no reference"


class Correct(Check):
    """Keeps traces whose final answer equals the reference."""

    extraction: Literal["strict", "lenient"] = "strict"
    """"strict" wants the final answer marked (a box, ####, "the answer is", or nothing but the answer);
    "lenient" also takes the last number of the answer text."""
    without_reference: Literal["drop", "keep"] = "drop"
    """What happens to traces of problems that have no reference answer."""
    timeout_s: float = Field(default=TIMEOUT_S, gt=0)
    """CPU seconds for one symbolic comparison or regex; slower ones are UNJUDGED."""

    version: ClassVar[int] = 2
    measure_settings: ClassVar[tuple[str, ...] | None] = ("timeout_s",)
    library: ClassVar[str | None] = "math-verify"

    def reads(self, prompt: Prompt) -> Any:
        """The reference, its kind and the options of its grader."""
        return [prompt.answer_kind, prompt.answer, prompt.tests]

    def begin(self, prompt: Prompt, trace: Trace) -> Value | Job:
        """The grade by the exact tier, or the job that settles it."""
        found = begin_grading(prompt.answer_kind, prompt.answer, trace.answer, self.timeout_s, prompt.tests)
        return found if isinstance(found, Job) else _value(found)

    def measure(self, prompt: Prompt, trace: Trace) -> Value:
        """The Grade as a dict; a worker is started when the exact tier leaves something open."""
        item = (prompt.answer_kind, prompt.answer, trace.answer, prompt.tests)
        return _value(grade_many([item], 1, self.timeout_s)[0])

    def judge(self, value: Value) -> Judgement:
        """PASS for right (1.0), FAIL for wrong, missing or only guessed (0.0); UNJUDGED when nobody can tell."""
        outcome, how, note = value["outcome"], value.get("how"), value.get("note", "")
        if outcome == "no_answer":
            return failed("no answer found", 0.0)
        if outcome in ("right", "wrong") and self.extraction == "strict" and how in FALLBACKS:
            return failed("answer not marked as final", 0.0)
        if outcome == "right":
            return passed("right", 1.0)
        return failed(note or "wrong", 0.0) if outcome == "wrong" else unjudged(note or outcome)

    def keeps(self, judgement: Judgement) -> bool:
        """As the base, with a policy of its own for problems without a reference."""
        if judgement.outcome == "UNJUDGED" and judgement.reason == NO_REFERENCE:
            return self.without_reference == "keep"
        return super().keeps(judgement)


def _value(grade: Grade) -> Value:
    value: Value = msgspec.to_builtins(grade)
    return value
