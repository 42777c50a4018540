"""How many of a problem's traces are right? Problems that all or none of them solve teach a student little."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Self

from pydantic import Field, PrivateAttr, model_validator

from r1distill.checks.base import Check, Judgement, Row, Value, failed, passed, unjudged
from r1distill.records import Prompt, Trace


class Difficulty(Check):
    """Keeps the problems whose share of right traces (as the check `correct` judges them) lies between two limits.

    The default limits keep every problem; the pass rate is the score all the same.
    """

    min_pass_rate: float = Field(default=0.0, ge=0, le=1)
    """Problems with a smaller share of right traces are dropped; any value above 0 drops those that none solves."""
    max_pass_rate: float = Field(default=1.0, ge=0, le=1)
    """Problems with a greater share are dropped; any value below 1 drops those that all solve."""
    min_samples: int = Field(default=2, ge=1)
    """With fewer traces that are right or wrong, a problem's difficulty is UNJUDGED."""

    needs: ClassVar[tuple[str, ...]] = ("correct",)
    measure_settings: ClassVar[tuple[str, ...] | None] = ()

    _correct: Check | None = PrivateAttr(default=None)

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.min_pass_rate > self.max_pass_rate:
            raise ValueError("min_pass_rate is greater than max_pass_rate, so that no problem could stay")
        return self

    def prepared(self, folder: Path, checks: Mapping[str, Check]) -> Check:
        """The check with the `correct` that the recipe sets up."""
        ready = self.model_copy()
        ready._correct = checks["correct"]
        return ready

    def reads(self, prompt: Prompt) -> Any:
        """Nothing."""
        return None

    def measure(self, prompt: Prompt, trace: Trace) -> Value:
        """{}: all that counts is what `correct` measured."""
        return {}

    def judge_all(self, rows: Sequence[Row], name: str) -> list[Judgement]:
        """The same judgement for all traces of a problem; the score is the pass rate."""
        outcomes: dict[int, list[str]] = defaultdict(list)
        for row in rows:
            outcomes[row.problem].append(outcome_of(row, self._correct))
        judged = {problem: self._of_problem(found) for problem, found in outcomes.items()}
        return [judged[row.problem] for row in rows]

    def _of_problem(self, outcomes: list[str]) -> Judgement:
        right, wrong = outcomes.count("PASS"), outcomes.count("FAIL")
        if right + wrong < self.min_samples:
            return unjudged(f"fewer than {self.min_samples} judged samples")
        rate = right / (right + wrong)
        if rate < self.min_pass_rate:
            return failed(f"pass rate under {self.min_pass_rate:g}", round(rate, 3))
        if rate > self.max_pass_rate:
            return failed(f"pass rate over {self.max_pass_rate:g}", round(rate, 3))
        return passed("ok", round(rate, 3))


def outcome_of(row: Row, correct: Check | None) -> str:
    """PASS, FAIL or UNJUDGED: what `correct` says of a row. Raises ValueError without the check."""
    if correct is None:
        raise ValueError("the check correct is not at hand: build the check by build_checks")
    return correct.judge(row.values["correct"]).outcome
