"""What flows between the stages: frozen records, and the two keys that everything hangs on.

Each record is one JSON line of a file in a run folder. Fields carry their unit in the name.
`slot_of` and `trace_id_of` define the keys; a golden test pins their value for ever, since a changed key
would make users pay again for answers that they already have.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any, Literal

import msgspec

SCHEMA_VERSION = 1
"""Written into every trace; readers accept this version and every older one."""

AnswerKind = Literal["math", "choice", "text", "json", "code"]
Finish = Literal["stop", "length", "content_filter", "repetition", "tool_calls", "unknown"]
Outcome = Literal["PASS", "FAIL", "UNJUDGED"]

FINISHES: dict[str, Finish] = {
    "stop": "stop", "eos": "stop", "end_turn": "stop", "stop_sequence": "stop",
    "length": "length", "max_tokens": "length", "model_length": "length",
    "content_filter": "content_filter", "repetition": "repetition",
    "tool_calls": "tool_calls", "function_call": "tool_calls",
}  # fmt: skip
"""The words of servers for how an answer ended; all others are "unknown"."""

CEILING_KEYS = ("max_tokens", "max_completion_tokens")
"""Sampling keys that only bound the answer's length: no part of a slot, so that raising them re-asks cut answers only."""


class Message(msgspec.Struct, frozen=True):
    """One chat message, as sent."""

    role: str
    content: str


class Prompt(msgspec.Struct, frozen=True, omit_defaults=True):
    """A problem: what is asked, and what is known about the right answer."""

    id: str
    question: str
    answer: str | None = None
    """The reference answer; null when nobody knows it (checks then say UNJUDGED)."""
    answer_kind: AnswerKind = "math"
    tests: Any = None
    tags: dict[str, Any] = {}
    """Free labels: language, topic, source, licence, split."""


class Usage(msgspec.Struct, frozen=True):
    """Tokens as the teacher counted them; null where it did not say."""

    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    reasoning_tokens: int | None = None
    cached_tokens: int | None = None


class Trace(msgspec.Struct, frozen=True, kw_only=True):
    """One answer of a teacher with its reasoning, and all that is needed to ask the same again."""

    id: str
    slot: str
    prompt_id: str
    sample: int
    teacher: str
    model: str
    messages: list[Message]
    reasoning: str
    """The chain of thought without its tags; empty when the teacher sent none."""
    answer: str
    """The text after the chain of thought."""
    finish: Finish
    sampling: dict[str, Any] = {}
    """As asked, without the ceiling."""
    max_tokens: int | None = None
    """The ceiling asked for; null when the recipe set none."""
    usage: Usage = Usage()
    cost_usd: float | None = None
    """From the recipe's price or the teacher's own figure; null when unknown (never 0)."""
    latency_s: float | None = None
    attempts: int = 1
    model_answered: str | None = None
    reasoning_source: str = "none"
    """Where the reasoning stood in the reply: a field's name, "inline", "inline-no-opener", "unclosed", "none"; or
    "summary" (only a summary came, kept in extras) and "encrypted"."""
    created: str = ""
    """UTC, RFC 3339."""
    extras: dict[str, Any] = {}
    """What else the reply said: the route's provider, its own finish reason, a generation id, a reasoning_summary."""
    schema_version: int = SCHEMA_VERSION


class Failure(msgspec.Struct, frozen=True, kw_only=True):
    """A request that gave no trace. Never a Trace, so that an error text can't become training data."""

    slot: str
    prompt_id: str
    sample: int
    teacher: str
    error_class: str
    http_status: int | None
    attempts: int
    final: bool
    """True: asking again can't help (context too long, content filter); the slot is not owed any more."""
    message: str
    """What the teacher said, scrubbed of secrets."""
    created: str


class Measurement(msgspec.Struct, frozen=True):
    """What one check measured on one trace: expensive, so cached in the index under `key`."""

    key: str
    trace_id: str
    check: str
    value: dict[str, Any]


class Verdict(msgspec.Struct, frozen=True, omit_defaults=True):
    """What one check says of one trace."""

    trace_id: str
    check: str
    outcome: Outcome
    score: float | None
    reason: str
    """Short and countable: the same words for the same kind of fault."""
    detail: str = ""
    """What is this trace's own, as the pair that matches; left out where there is nothing."""


class Example(msgspec.Struct, frozen=True):
    """One row of the training set in TRL's conversational prompt-completion form."""

    trace_id: str
    prompt: list[Message]
    completion: list[Message]


_CANONICAL = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def canonical_json(value: Any) -> bytes:
    """`value` as JSON bytes that are the same on every machine: sorted keys, no spaces, UTF-8, no NaN."""
    return _CANONICAL.encode(value).encode("utf-8", "surrogatepass")


def digest(value: Any) -> str:
    """Hex SHA-256 of `value`'s canonical JSON (64 characters)."""
    return hashlib.sha256(canonical_json(value)).hexdigest()


def split_ceiling(sampling: dict[str, Any]) -> tuple[dict[str, Any], int | None]:
    """Part the ceiling from the sampling settings: (the rest, ceiling in tokens or None)."""
    rest = {key: value for key, value in sampling.items() if key not in CEILING_KEYS}
    ceilings = [int(sampling[key]) for key in CEILING_KEYS if sampling.get(key) is not None]
    return rest, (min(ceilings) if ceilings else None)


def slot_of(teacher: str, model: str, messages: list[Message], sampling: dict[str, Any], sample: int) -> str:
    """The key of one wanted answer: SHA-256 over all that decides what is asked, and nothing else."""
    rest, _ = split_ceiling(sampling)
    said = [{"role": m.role, "content": m.content} for m in messages]
    return digest({"teacher": teacher, "model": model, "messages": said, "sampling": rest, "sample": sample})


def trace_id_of(slot: str, max_tokens: int | None) -> str:
    """The key of one answer: the slot and the ceiling it was asked with."""
    ceiling = (
        "null" if max_tokens is None else int(max_tokens)
    )  # the canonical JSON of {"max_tokens", "slot"}
    return hashlib.sha256(f'{{"max_tokens":{ceiling},"slot":"{slot}"}}'.encode()).hexdigest()


def prompt_id_of(question: str) -> str:
    """The id of a problem that came without one: the first 16 hex digits of its question's digest."""
    return digest(question)[:16]
