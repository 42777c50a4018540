"""A trace on its way through the filter: where it stands, what the checks get of it, and the compact row that is left."""

from __future__ import annotations

from typing import NamedTuple

from r1distill.checks.base import Judgement, Value
from r1distill.checks.length import BYTES_PER_TOKEN
from r1distill.records import Prompt, Trace


class Place(NamedTuple):
    """Where a trace's line stands."""

    file: int
    """Number of the file in the source's list."""
    offset: int
    length: int


class Source(NamedTuple):
    """One trace on its way to the checks."""

    order: int
    """Number of its problem in the set; one number, one problem."""
    prompt: Prompt
    trace: Trace
    place: Place
    content: str
    """`content_digest` of its line."""


class Judged:
    """The compact row of one trace: its keys, and what each check says (or has measured, until it is judged)."""

    __slots__ = (
        "chars",
        "counted",
        "judgements",
        "order",
        "place",
        "prompt_id",
        "raw",
        "sample",
        "teacher",
        "tokens",
        "trace_id",
        "values",
    )

    def __init__(self, source: Source, teacher: str) -> None:
        trace = source.trace
        self.order, self.place = source.order, source.place
        self.trace_id, self.prompt_id, self.sample = trace.id, source.prompt.id, trace.sample
        self.teacher = teacher
        """One object for all rows of a teacher."""
        self.chars = len(trace.reasoning) + len(trace.answer)
        tokens = trace.usage.completion_tokens
        self.counted = tokens is not None
        """True: `tokens` (of the completion) is the teacher's own count; False: an estimate from the bytes of the text."""
        self.tokens = _estimated_tokens(trace) if tokens is None else tokens
        self.judgements: dict[str, Judgement] = {}
        self.values: dict[str, Value] = NOTHING
        self.raw: dict[str, bytes] = NO_RAW
        """Until it is judged: what those checks measured that look at the whole set, as JSON."""

    @property
    def position(self) -> tuple[int, int, str, str]:
        """The order of the set: problem, sample, teacher, id."""
        return self.order, self.sample, self.teacher, self.trace_id


NOTHING: dict[str, Value] = {}
NO_RAW: dict[str, bytes] = {}
"""Shared by all rows that hold nothing."""


def _estimated_tokens(trace: Trace) -> int:
    size = sum(len(text.encode("utf-8", "replace")) for text in (trace.reasoning, trace.answer))
    return round(size / BYTES_PER_TOKEN)
