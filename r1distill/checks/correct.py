"""Is the final answer right? The problem's answer_kind picks the grader (answers/); code is run only with consent."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal

import msgspec
from pydantic import Field, PrivateAttr

from r1distill.answers import FALLBACKS, Grade
from r1distill.answers.code import BAD_TESTS, NO_TESTS
from r1distill.checks.base import Check, Job, Judgement, Value, failed, passed, unjudged
from r1distill.checks.grading import TIMEOUT_S, begin_grading, grade_many
from r1distill.checks.running import CODE_MEMORY_MB, CODE_TIMEOUT_S, CODE_TOTAL_S, CodeRun
from r1distill.errors import R1DistillError, RecipeError
from r1distill.records import Prompt, Trace
from r1distill.sandbox import Limits, find_box

NO_REFERENCE = "no reference"


class Correct(Check):
    """Keeps traces whose final answer equals the reference."""

    extraction: Literal["strict", "lenient"] = "strict"
    """"strict" wants the final answer marked (a box, ####, an <answer> tag, "the answer is", a last sentence that states it, or
    nothing but the answer);
    "lenient" also takes the last number of the answer text."""
    without_reference: Literal["drop", "keep"] = "drop"
    """What happens to traces of problems that have no reference answer, or (code) no tests that can be read."""
    timeout_s: float = Field(default=TIMEOUT_S, gt=0)
    """CPU seconds for one symbolic comparison or regex; slower ones are UNJUDGED."""
    allow_exec: bool = False
    """Run the code of answers to problems with answer_kind "code", in a sandbox; false: they are UNJUDGED."""
    allow_exec_without_sandbox: bool = False
    """Run it even where no sandbox works: with limits on time, memory and processes, but none on network and files."""
    code_timeout_s: float = Field(default=CODE_TIMEOUT_S, gt=0, le=600)
    """CPU seconds for one test of a program (on the clock three times as many, and five)."""
    code_total_s: float = Field(default=CODE_TOTAL_S, gt=0, le=3600)
    """CPU seconds for all tests of one answer's program; beyond them it is UNJUDGED."""
    code_memory_mb: int = Field(default=CODE_MEMORY_MB, ge=64)
    """Memory of a program, in MiB."""

    anywhere: ClassVar[bool] = True
    version: ClassVar[int] = 6
    measure_settings: ClassVar[tuple[str, ...] | None] = ("timeout_s",)
    library: ClassVar[str | None] = "math-verify"

    _code: CodeRun | None = PrivateAttr(default=None)

    def prepared(self, folder: Path, checks: Mapping[str, Check]) -> Check:
        """The check with the sandbox that works here, where code may be run. Raises RecipeError when none does."""
        if not self.allow_exec:
            return self
        try:
            box = find_box(self.allow_exec_without_sandbox)
        except R1DistillError as error:
            raise RecipeError(f"filter.checks.correct, allow_exec: {error}") from None
        ready = self.model_copy()
        limits = Limits(cpu_s=self.code_timeout_s, memory_mb=self.code_memory_mb)
        ready._code = CodeRun(box, limits, self.code_total_s)
        return ready

    @property
    def code(self) -> CodeRun | None:
        """How code is run; None: not at all."""
        return self._code

    def notes(self) -> tuple[str, ...]:
        """What is in force where code is run: the level of isolation."""
        return () if self._code is None else (self._code.box.sentence(),)

    def measuring(self) -> dict[str, Any]:
        """As the base; where code is run, with its limits, the level of isolation and the Python."""
        found = super().measuring()
        if self._code is None:
            return found
        return {
            **found,
            "code": [msgspec.to_builtins(self._code.limits), self._code.total_s, *self._code.box.identity],
        }

    def reads(self, prompt: Prompt) -> Any:
        """The reference, its kind and the options of its grader."""
        return [prompt.answer_kind, prompt.answer, prompt.tests]

    def begin(self, prompt: Prompt, trace: Trace) -> Value | Job:
        """The grade by the exact tier, or the job that settles it."""
        found = begin_grading(
            prompt.answer_kind, prompt.answer, trace.answer, self.timeout_s, prompt.tests, self._code
        )
        return found if isinstance(found, Job) else _value(found)

    def measure(self, prompt: Prompt, trace: Trace) -> Value:
        """The Grade as a dict; a worker is started when the exact tier leaves something open."""
        item = (prompt.answer_kind, prompt.answer, trace.answer, prompt.tests)
        return _value(grade_many([item], 1, self.timeout_s, self._code)[0])

    def judge(self, value: Value) -> Judgement:
        """PASS for right (1.0), FAIL for wrong, missing or only guessed (0.0); UNJUDGED when nobody can tell."""
        outcome, how, note = value["outcome"], value.get("how"), value.get("note", "")
        if outcome == "no_answer":
            return failed(note or "no answer found", 0.0)
        if outcome in ("right", "wrong") and self.extraction == "strict" and how in FALLBACKS:
            return failed("answer not marked as final", 0.0)
        if outcome == "right":
            return passed("right", 1.0)
        return failed(note or "wrong", 0.0) if outcome == "wrong" else unjudged(note or outcome)

    def keeps(self, judgement: Judgement) -> bool:
        """As the base, with a policy of its own for problems without a reference or tests that can be read."""
        nothing_to_hold_against = judgement.reason in (NO_REFERENCE, NO_TESTS) or judgement.reason.startswith(
            BAD_TESTS
        )
        if judgement.outcome == "UNJUDGED" and nothing_to_hold_against:
            return self.without_reference == "keep"
        return super().keeps(judgement)


def _value(grade: Grade) -> Value:
    value: Value = msgspec.to_builtins(grade)
    return value
