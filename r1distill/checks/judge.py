"""What does a model say of the trace? LLM as a judge, through any teacher of the recipe.

In: a trace, the words to ask with (a template), and the judge's replies, which judging.py has paid for and keeps in a ledger.
Out: the mean of the judge's scores against a threshold. Here nobody is asked anything: a measurement holds the slots, that
is the keys under which the ledger has the replies, so that a changed template, judge or trace costs what is new, and a
changed threshold nothing.

Judges are moved by their material: it stands in fences with a mark that it can't contain, and nothing but the last line of a
whole reply counts. (Zheng et al. 2023, https://arxiv.org/abs/2306.05685, on what else judges get wrong: position, length,
themselves.)
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import msgspec
from pydantic import Field, PrivateAttr

from r1distill.checks.base import Check, Judgement, Row, Value, failed, passed, unjudged
from r1distill.errors import RecipeError
from r1distill.records import Message, Prompt, Trace, canonical_json, slot_of, split_ceiling

if TYPE_CHECKING:
    from r1distill.prompts import Template

LOWEST, HIGHEST = 1.0, 10.0
"""The scores that a judge may give."""
LAST_LINE = re.compile(
    r"[*_`\s]*score[*_`\s]*:[*_`\s]*([0-9]{1,2}(?:\.[0-9]{1,3})?)(?:[*_`\s]*/[*_`\s]*10)?[*_`\s]*\.?[*_`\s]*",
    re.IGNORECASE,
)
"""A verdict: "Score: 7", also in bold, with "/10" or a full stop. Nothing else may stand on the line."""
CUT = ("length", "content_filter", "repetition", "tool_calls")
"""Replies that did not come to their end: their last line may be a quotation."""
NOT_ASKED = "not asked: rejected by "
PROBE = Prompt("probe", "?", "?")


class Reading(NamedTuple):
    """What one reply of a judge says."""

    score: float | None
    """LOWEST to HIGHEST; None: no verdict can be read."""
    why: str = ""
    """Why there is none; short and countable."""
    model: str = ""
    """The model that answered, as it calls itself."""


NO_REPLIES: Mapping[str, Reading] = {}
NOBODY: Mapping[str, str] = {}


class Judge(Check):
    """Keeps traces that a model, asked as a judge, scores high enough."""

    teacher: str
    """Who judges: the NAME of a [judge.NAME] table, which the harvest does not ask, or of a [teacher.NAME] table."""
    template: str = "judge"
    """Jinja file or shipped name. It gets question, reference ("" where there is none), reasoning and answer, each fenced,
    and tags and tests; it must ask for a last line "Score: N"."""
    min_score: float = Field(default=7.0, ge=LOWEST, le=HIGHEST)
    """The lowest mean score, from 1 to 10, of a trace that passes."""
    samples: int = Field(default=1, ge=1)
    """Replies per trace; the mean of their scores counts."""
    only_if: list[str] | None = None
    """Ask only about traces that these checks keep; default: all other checks but judges that come later, so that no money
    goes into traces that are rejected anyway. [] asks about every trace."""
    budget_usd: float | None = Field(default=None, gt=0)
    """Never spend more than this on judging in this run, retries and kills included (needs the judge's price and a
    ceiling)."""
    max_tokens: int | None = Field(default=None, ge=1)
    """Ceiling of a reply in tokens; default: what the judge's sampling says."""

    _words: Template | None = PrivateAttr(default=None)
    _model: str = PrivateAttr(default="")
    _sampling: dict[str, Any] = PrivateAttr(default_factory=dict)
    _replies: Mapping[str, Reading] = PrivateAttr(default_factory=lambda: NO_REPLIES)
    _barred: Mapping[str, str] = PrivateAttr(default_factory=lambda: NOBODY)

    version: ClassVar[int] = 1

    def prepared(self, folder: Path, checks: Mapping[str, Check]) -> Check:
        """The check with its template read and tried out. Raises RecipeError."""
        from r1distill.prompts import load_template  # here, since workers that measure need no Jinja
        from r1distill.recipe import Recipe

        ready = self.model_copy()
        ready._words = load_template(self.template, Recipe(name="judge", folder=folder))
        ready._words.messages(PROBE, reference="?", reasoning="?", answer="?")
        return ready

    def equipped(self, model: str, sampling: dict[str, Any]) -> Judge:
        """The check that knows its judge: the model as slots call it, and what is sent with the messages (with `max_tokens`)."""
        ready = self.model_copy()
        ready._model, ready._sampling = model, dict(sampling)
        return ready

    def informed(self, replies: Mapping[str, Reading], barred: Mapping[str, str]) -> Judge:
        """The check with the judge's replies, by slot; `barred`: the check that removes a trace that was not asked about."""
        ready = self.model_copy()
        ready._replies, ready._barred = replies, barred
        return ready

    @property
    def sampling(self) -> dict[str, Any]:
        """What is sent with the messages, ceiling included."""
        return self._sampling

    @property
    def model(self) -> str:
        """The judge's model as slots call it."""
        return self._model

    def messages(self, prompt: Prompt, trace: Trace) -> list[Message]:
        """What the judge is asked about a trace. Raises RecipeError where the template can't be rendered."""
        if self._words is None:
            raise RecipeError("A judge has no words yet: build the check by build_checks.")
        mark = mark_of(prompt.question, prompt.answer or "", trace.reasoning, trace.answer)
        fenced_prompt = msgspec.structs.replace(prompt, question=fenced("PROBLEM", prompt.question, mark))
        return self._words.messages(
            fenced_prompt,
            reference=fenced("REFERENCE", prompt.answer, mark) if prompt.answer else "",
            reasoning=fenced("REASONING", trace.reasoning, mark) if trace.reasoning else "",
            answer=fenced("ANSWER", trace.answer, mark),
        )

    def measuring(self) -> dict[str, Any]:
        """Who is asked, with what words and how often."""
        return {
            "teacher": self.teacher, "model": self._model, "sampling": split_ceiling(self._sampling)[0],
            "samples": self.samples, "template": self._words.source if self._words else None,
        }  # fmt: skip

    def measure(self, prompt: Prompt, trace: Trace) -> Value:
        """{"slots": [...]}: the keys of the replies that are wanted of the judge."""
        said = self.messages(prompt, trace)
        return {
            "slots": [
                slot_of(self.teacher, self._model, said, self._sampling, n) for n in range(self.samples)
            ]
        }

    def judge(self, value: Value) -> Judgement:
        """By the mean of the scores that can be read; UNJUDGED while a reply is missing, or when none can be read."""
        readings = [self._replies.get(slot) for slot in value["slots"]]
        if any(reading is None for reading in readings):
            return unjudged("not answered yet")
        scores = [r.score for r in readings if r is not None and r.score is not None]
        if not scores:
            return unjudged(next(r.why for r in readings if r is not None))
        mean = round(sum(scores) / len(scores), 3)
        return (
            passed("ok", mean) if mean >= self.min_score else failed(f"scored below {self.min_score:g}", mean)
        )

    def verdict(self, trace_id: str, value: Value) -> Judgement:
        """As `judge`, for a trace about which the judge may not have been asked."""
        removed_by = self._barred.get(trace_id)
        return self.judge(value) if removed_by is None else unjudged(NOT_ASKED + removed_by)

    def judge_all(self, rows: Sequence[Row], name: str) -> list[Judgement]:
        """The verdict on each trace."""
        return [self.verdict(row.trace_id, row.values[name]) for row in rows]

    def keeps(self, judgement: Judgement) -> bool:
        """As the base; who was not asked about is removed by another check already, not by this one."""
        return judgement.reason.startswith(NOT_ASKED) or super().keeps(judgement)


def mark_of(*texts: str) -> str:
    """16 hex digits that stand in none of the texts: the same each time, since they are part of what is asked and paid for.

    They depend on all of the texts, so that nobody can write a text that holds its own mark.
    """
    number = 0
    while True:
        mark = hashlib.sha256(canonical_json([number, *texts])).hexdigest()[:16]
        if not any(mark in text for text in texts):
            return mark
        number += 1


def fenced(name: str, text: str, mark: str) -> str:
    """The text between two lines that hold the mark."""
    return f"<<<{name} {mark}\n{text}\n{name} {mark}>>>"


def read_reply(reply: Trace) -> Reading:
    """The score on the last line of a judge's whole reply, apart from its own reasoning."""
    model = reply.model_answered or reply.model
    if reply.finish in CUT:
        return Reading(
            None, "reply cut off" if reply.finish == "length" else f"reply ended by {reply.finish}", model
        )
    last = reply.answer.strip().rpartition("\n")[2]
    found = LAST_LINE.fullmatch(last)
    score = float(found[1]) if found else None
    if score is None or not LOWEST <= score <= HIGHEST:
        return Reading(None, "no verdict", model)
    return Reading(score, "", model)
