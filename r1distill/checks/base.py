"""What a check is: measure one trace (pure, dear, cached), then judge (cheap, again and again).

A check is a small frozen pydantic model; its fields are its recipe table, and the text under each field is its
documentation. To write one, subclass `Check` with `measure` and `judge`:

    class Polite(Check):
        measure_settings = ()  # measuring reads no field: another min_please measures nothing again
        min_please: int = 1
        def measure(self, prompt, trace): return {"please": trace.answer.lower().count("please")}
        def judge(self, value): return passed() if value["please"] >= self.min_please else failed("no please")
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, ValidationInfo, field_validator

from r1distill.checks.values import plain_number
from r1distill.logprobs.tokens import TokenLogprobs
from r1distill.records import Outcome, Prompt, Trace

Value = dict[str, Any]
"""What a check measured on one trace: plain JSON, no NaN."""
UNMEASURED = "unmeasured"
"""The key of a measurement that could not be made: the reason."""
NO_LOGPROBS = "no log-probabilities"


class Judgement(NamedTuple):
    """What a check says of one trace; the reason is short and countable, without the check's name."""

    outcome: Outcome
    score: float | None
    """Finite."""
    reason: str
    detail: str = ""
    """What is this trace's own, as the pair that matches; it is shown with the reason, and not counted."""


def passed(reason: str = "ok", score: float | None = None) -> Judgement:
    """The trace is good, as far as this check can see."""
    return Judgement("PASS", score, reason)


def failed(reason: str, score: float | None = None, detail: str = "") -> Judgement:
    """The trace has the fault that this check looks for."""
    return Judgement("FAIL", score, reason, detail)


def unjudged(reason: str, score: float | None = None) -> Judgement:
    """Nobody can tell; the check's `unjudged` policy decides."""
    return Judgement("UNJUDGED", score, reason)


class Job(NamedTuple):
    """A piece of measuring for a worker process that may be killed. Equal jobs are run once."""

    function: str
    """package.module:function, importable in the worker; takes plain JSON and returns a dict."""
    args: tuple[Any, ...]
    base: Value
    """Put under the function's result: what was known before."""
    timeout_s: float
    """CPU seconds before the worker is killed."""


class Row(NamedTuple):
    """One measured trace, for checks that judge the whole set; rows come ordered by prompt, then sample."""

    trace_id: str
    prompt_id: str
    problem: int
    """Number of the problem: one question with two references is two problems with one prompt id."""
    teacher: str
    sample: int
    values: dict[str, Value]
    """The measurements of this check and of those in its `needs`, by check name."""


class Check(BaseModel):
    """The base of all checks."""

    model_config = ConfigDict(extra="forbid", frozen=True, defer_build=True)

    unjudged: Literal["drop", "keep"] = "drop"
    """What happens to traces that the check can't judge: "drop" rejects them, "keep" lets them pass."""

    version: ClassVar[int] = 1
    """Raise it when `measure` changes its mind: cached measurements of older versions are not used any more."""
    needs: ClassVar[tuple[str, ...]] = ()
    """Names of other checks whose measurements `judge_all` reads."""
    measure_settings: ClassVar[tuple[str, ...] | None] = None
    """The fields that touch measuring (a change re-measures); None means all but `unjudged`."""
    library: ClassVar[str | None] = None
    """The distribution whose version decides results."""
    anywhere: ClassVar[bool] = False
    """True: `begin` uses only the fields and what `prepared` keeps, all of which can be pickled, so that several worker
    processes may share the measuring."""
    in_worker: ClassVar[bool] = False
    """True: `measure` runs in a worker process that is killed after `timeout_s`."""
    wants_logprobs: ClassVar[bool] = False
    """True: `measure_logprobs` is called instead of `measure`, with the token log-probabilities that lie beside the trace;
    a trace without any is UNJUDGED until they are there."""

    @field_validator("*", mode="before")
    @classmethod
    def _plain_numbers(cls, value: Any, info: ValidationInfo) -> Any:
        return plain_number(value, cls.model_fields[str(info.field_name)].annotation)

    def prepared(self, folder: Path, checks: Mapping[str, Check]) -> Check:
        """The check itself, ready for work; called once, when the recipe is read. Most checks leave this alone.

        Here a check misses a package, reads the files that its settings name (relative to `folder`, the recipe's) or
        keeps the checks of its `needs`, which are in `checks`, ready themselves. What `measure` uses of it must show in
        `measuring`. A check that runs in a worker is built again there, without this. Raises InputError,
        MissingPackageError, RecipeError.
        """
        return self

    def reads(self, prompt: Prompt) -> Any:
        """Plain JSON that names all that `measure` reads besides the trace; the default is the whole problem."""
        return [prompt.question, prompt.answer, prompt.answer_kind, prompt.tests, prompt.tags]

    def measure(self, prompt: Prompt, trace: Trace) -> Value:
        """Look at one trace: pure, no file, no network, the same result every time."""
        raise NotImplementedError

    def measure_logprobs(self, record: TokenLogprobs) -> Value:
        """Look at the token log-probabilities of one trace; pure, as `measure`."""
        raise NotImplementedError

    def settled(self, value: Value) -> bool:
        """False for a measurement that may come out otherwise the next time: it counts now, and is not kept."""
        return not str(value.get(UNMEASURED, "")).startswith("error")

    def begin(self, prompt: Prompt, trace: Trace) -> Value | Job:
        """The measurement, or the part of it that has to run in a worker. Most checks leave this alone."""
        return self.measure(prompt, trace)

    def judge(self, value: Value) -> Judgement:
        """Decide about one trace by its measurement and the thresholds."""
        raise NotImplementedError

    def judge_all(self, rows: Sequence[Row], name: str) -> list[Judgement]:
        """Decide about all traces at once, for checks that compare traces; one judgement per row, in order."""
        return [self.judge(row.values[name]) for row in rows]

    def keeps(self, judgement: Judgement) -> bool:
        """Whether a trace with this judgement may stay."""
        if judgement.outcome == "UNJUDGED":
            return self.unjudged == "keep"
        return judgement.outcome == "PASS"

    def notes(self) -> tuple[str, ...]:
        """What a person who runs this check should be told, in sentences."""
        return ()

    def compares(self) -> bool:
        """True when it judges the whole set at once."""
        return type(self).judge_all is not Check.judge_all

    def measuring(self) -> dict[str, Any]:
        """The settings that a measurement's key depends on."""
        names = self.measure_settings
        if names is None:
            names = tuple(name for name in type(self).model_fields if name != "unjudged")
        return {name: getattr(self, name) for name in names}
