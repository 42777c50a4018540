"""A trace on its way through the filter: where it stands, what the checks get of it, and the compact row that is left."""

from __future__ import annotations

import os
from collections.abc import Callable
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
    text_start: int = 0
    """Where in the line the trace's text stands as a training row has it (canonical form, as JSON),"""
    text_length: int = 0
    """and how long that is; 0: it has to be made."""

    def text_in(self, line: bytes) -> bytes:
        """The text of a line that was read at this place; empty where it has to be made."""
        return line[self.text_start : self.text_start + self.text_length]


def read_place(file: int, place: Place) -> bytes:
    """The line at a place of an open file."""
    line = os.pread(file, place.length, place.offset)
    while 0 < len(line) < place.length and (
        more := os.pread(file, place.length - len(line), place.offset + len(line))
    ):
        line += more
    return line


class About(NamedTuple):
    """What is to be known of a trace besides its texts."""

    trace_id: str
    sample: int
    teacher: str
    chars: int
    """Characters of reasoning and answer."""
    size_bytes: int
    """The same in UTF-8."""
    completion_tokens: int | None
    """The teacher's own count."""


class Source:
    """One trace on its way to the checks."""

    __slots__ = ("_trace", "about", "content", "order", "place", "prompt")

    def __init__(
        self, order: int, prompt: Prompt, trace: Trace | Callable[[], Trace], place: Place, content: str,
        about: About | None = None,
    ) -> None:  # fmt: skip
        """A `trace` that is a function is read when somebody asks for it; it needs `about`."""
        self.order = order
        """Number of its problem in the set; one number, one problem."""
        self.prompt, self.place = prompt, place
        self._trace = trace
        self.content = content
        """`content_digest` of its line."""
        self.about = about or about_of(self.trace)

    @property
    def trace(self) -> Trace:
        """The trace itself; one that is known already was not parsed before this."""
        if not isinstance(self._trace, Trace):
            self._trace = self._trace()
        return self._trace

    @property
    def trace_id(self) -> str:
        """The trace's id."""
        return self.about.trace_id


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
        about = source.about
        self.order, self.place = source.order, source.place
        self.trace_id, self.prompt_id, self.sample = about.trace_id, source.prompt.id, about.sample
        self.teacher = teacher
        """One object for all rows of a teacher."""
        self.chars = about.chars
        tokens = about.completion_tokens
        self.counted = tokens is not None
        """True: `tokens` (of the completion) is the teacher's own count; False: an estimate from the bytes of the text."""
        self.tokens = round(about.size_bytes / BYTES_PER_TOKEN) if tokens is None else tokens
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


def about_of(trace: Trace) -> About:
    """What is to be known of a trace besides its texts."""
    texts = trace.reasoning, trace.answer
    size_bytes = sum(len(text) if text.isascii() else len(text.encode("utf-8", "replace")) for text in texts)
    return About(
        trace.id, trace.sample, trace.teacher, len(trace.reasoning) + len(trace.answer), size_bytes,
        trace.usage.completion_tokens,
    )  # fmt: skip
