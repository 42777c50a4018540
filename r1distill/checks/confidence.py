"""How sure was the teacher of this trace? Drops the least confident ones, or only notes the score.

In: the token log-probabilities that lie beside a trace (harvest.top_logprobs). Out: a judgement whose score is the chosen
measure; higher is surer. Formulas and source: token_confidence.py (DeepConf, arXiv 2508.15260).
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from typing import Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from r1distill.checks.base import (
    NO_LOGPROBS,
    UNMEASURED,
    Check,
    Judgement,
    Row,
    Value,
    failed,
    passed,
    unjudged,
)
from r1distill.checks.token_confidence import (
    LEAST_ALTERNATIVES,
    Measures,
    alternatives_of,
    measures,
    token_confidences,
)
from r1distill.logprobs.tokens import TokenLogprobs
from r1distill.records import Prompt, Trace

NO_ALTERNATIVES = "no alternatives (harvest.top_logprobs)"
NO_PART = "where the reasoning ends is unknown"


class Confidence(Check):
    """Keeps the traces of which their teacher was sure enough; without a threshold it only notes the score.

    Traces without log-probabilities are UNJUDGED. Absolute thresholds do not carry over between teachers and tasks: use
    drop_share, which compares the traces of one teacher.
    """

    by: Literal["mean_logprob", "token_confidence", "lowest_group", "bottom_groups", "tail"] = "mean_logprob"
    """The measure: the mean log-probability of the tokens (needs no alternatives), or DeepConf's mean token confidence, its
    least sure stretch (lowest_group), least sure tenth of all stretches (bottom_groups), or its end (tail)."""
    part: Literal["whole", "reasoning", "answer"] = "whole"
    """Tokens that count: all of them, those up to the closing think tag, or those behind it."""
    min_score: float | None = None
    """Traces with a lower score are dropped: natural logarithms, below 0 for mean_logprob and above 0 for the others."""
    max_perplexity: float | None = Field(default=None, ge=1)
    """The same for by = "mean_logprob" in other words: traces with a higher perplexity, exp(-score), are dropped."""
    drop_share: float | None = Field(default=None, gt=0, lt=1)
    """Drops this share of each teacher's traces, the least confident: 0.1 keeps those that are surer than one in ten."""
    window_tokens: int = Field(default=2048, ge=1)
    """Tokens of a stretch."""
    tail_tokens: int = Field(default=2048, ge=1)
    """Tokens of the end."""

    measure_settings: ClassVar[tuple[str, ...] | None] = ("window_tokens", "tail_tokens")
    wants_logprobs: ClassVar[bool] = True

    @model_validator(mode="after")
    def _perplexity_of_the_mean(self) -> Self:
        if self.max_perplexity is not None and self.by != "mean_logprob":
            raise ValueError(
                f'max_perplexity goes with by = "mean_logprob"; for by = "{self.by}" set min_score'
            )
        return self

    def reads(self, prompt: Prompt) -> Any:
        """Nothing."""
        return None

    def measure(self, prompt: Prompt, trace: Trace) -> Value:
        """A trace by itself has no log-probabilities."""
        return {UNMEASURED: NO_LOGPROBS}

    def measure_logprobs(self, record: TokenLogprobs) -> Value:
        """{"tokens", "untold": of these without a log-probability, "k": alternatives per token, "whole", "reasoning",
        "answer": the five Measures in their order}; a part is left out when nobody knows where the reasoning ends.
        """
        logprobs, k = record.logprobs(), alternatives_of(record)
        confidences = token_confidences(record, k)
        cuts = {"whole": slice(None)}
        if record.reasoning_ends is not None:
            cuts |= {"reasoning": slice(record.reasoning_ends), "answer": slice(record.reasoning_ends, None)}
        parts = {
            name: measures(logprobs[cut], confidences[cut], self.window_tokens, self.tail_tokens)
            for name, cut in cuts.items()
        }
        return {"tokens": len(logprobs), "untold": logprobs.count(-math.inf), "k": k, **parts}

    def settled(self, value: Value) -> bool:
        """A measurement without alternatives is no final one where they are needed."""
        return super().settled(value) and (self.by == "mean_logprob" or value["k"] >= LEAST_ALTERNATIVES)

    def judge(self, value: Value) -> Judgement:
        """Against the absolute thresholds; the score is the chosen measure of the chosen part."""
        score = self._score(value)
        if score is None:
            return unjudged(self._why(value))
        if self.min_score is not None and score < self.min_score:
            return failed(f"{self.by} under {self.min_score:g}", score)
        if self.max_perplexity is not None and -score > math.log(self.max_perplexity):
            return failed(f"perplexity over {self.max_perplexity:g}", score)
        return passed("ok", score)

    def _score(self, value: Value) -> float | None:
        found = value.get(self.part)
        score: float | None = getattr(Measures(*found), self.by) if found else None
        return score

    def _why(self, value: Value) -> str:
        """Why there is no score."""
        if self.part not in value:
            return NO_PART
        if self.by != "mean_logprob" and value["k"] < LEAST_ALTERNATIVES:
            return NO_ALTERNATIVES
        return NO_LOGPROBS if self.part == "whole" else f"{NO_LOGPROBS} of the {self.part}"

    def compares(self) -> bool:
        """Only for a share of each teacher's traces the whole set is needed."""
        return self.drop_share is not None

    def judge_all(self, rows: Sequence[Row], name: str) -> list[Judgement]:
        """As `judge`, then against the other traces of the same teacher (and of the same k, where that counts)."""
        kinds = [(row.teacher, 0 if self.by == "mean_logprob" else row.values[name]["k"]) for row in rows]
        found = [self.judge(row.values[name]) for row in rows]
        scores: defaultdict[tuple[str, int], list[float]] = defaultdict(list)
        for kind, judgement in zip(kinds, found, strict=True):
            if judgement.score is not None:
                scores[kind].append(judgement.score)
        least = {kind: self._least(sorted(values)) for kind, values in scores.items()}
        return [self._among(j, least.get(kind, -math.inf)) for kind, j in zip(kinds, found, strict=True)]

    def _least(self, scores: list[float]) -> float:
        """The lowest score that stays."""
        return scores[math.floor((self.drop_share or 0) * len(scores))]

    def _among(self, judgement: Judgement, least: float) -> Judgement:
        if judgement.outcome == "PASS" and judgement.score is not None and judgement.score < least:
            return failed(f"least confident {self.drop_share:g} of its teacher", judgement.score)
        return judgement
