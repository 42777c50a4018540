"""What an importer finds in a row: traces with their problems, or why something in it is no trace.

In: a Row, its Format, and the parts that a shape has read (who was asked what, and what came back). Out: Found or Unread.
The parts that all shapes share stand here: reference, kind of answer, tags, how the answer ended, and a think block that
stands in the answer although the reasoning has a column of its own.
"""

from __future__ import annotations

import ast
import functools
from collections.abc import Callable, Iterable, Mapping
from typing import Annotated, Any, NamedTuple, cast, get_args

import msgspec

from r1distill.importers.fields import Row, in_json
from r1distill.importers.table import TAGS, Format
from r1distill.records import FINISHES, AnswerKind, Message, Prompt, Trace, Usage, prompt_id_of
from r1distill.teachers.replies import MOST_TOKENS, usage_of
from r1distill.thinking import Split, split_thinking

KIND_WORDS: dict[str, AnswerKind] = {
    "math": "math", "verifiable_math": "math", "code": "code", "verifiable_code": "code", "codegen": "code",
    "choice": "choice", "multiple_choice": "choice", "text": "text", "json": "json",
}  # fmt: skip
LONGEST_TAG = 200
"""Characters; a longer text is no label."""
LONGEST_PYTHON = 20_000
"""Characters of a Python literal in a column; longer ones are not read."""
INLINE = ("inline", "inline-no-opener", "unclosed")


_Count = Annotated[int, msgspec.Meta(ge=0, lt=MOST_TOKENS)]
LONGEST_REMEMBERED = 10_000
"""Characters of a question whose id is remembered: samples of one problem mostly follow one another."""


class _PlainUsage(msgspec.Struct, forbid_unknown_fields=True):
    """What most rows say of usage, read at once; `usage_of` reads all else."""

    prompt_tokens: _Count | None = None
    completion_tokens: _Count | None = None
    reasoning_tokens: _Count | None = None
    total_tokens: Any = None


_USAGE = msgspec.json.Decoder(_PlainUsage)


class Unread(NamedTuple):
    """A part of a row that is no trace."""

    reason: str


class Found(NamedTuple):
    """One trace."""

    prompt: Prompt
    trace: Trace
    asked: list[Message]
    """What a student is asked with when no template says otherwise."""
    line: bytes | None
    """The JSON line that stands for this trace alone; None: the row itself does."""


class Context(NamedTuple):
    """What a row does not hold by itself."""

    kind: AnswerKind = "math"
    """The kind of answer where the row does not say."""
    saved: Mapping[str, Prompt] = {}
    """The problems of the run folders that the files lie in, by id."""
    beside: Callable[[str], bytes | None] = lambda key: None
    """The request that belongs to a result, by its id."""


class Said(msgspec.Struct, frozen=True):
    """What a shape has read of one exchange."""

    messages: list[Message]
    """All that was said before the answer."""
    question: str
    split: Split
    finish: str = ""
    usage: Usage = Usage()
    model: str = ""
    extras: dict[str, Any] = {}
    line: bytes | None = None
    cost_usd: float | None = None
    references: tuple[str, ...] = ()
    """Columns that hold the reference where those of the format don't."""


def found(row: Row, format: Format, context: Context, said: Said) -> Found:
    """The trace and its problem. Raises ValueError for a reference or a question that is none."""
    if not said.question.strip():
        raise ValueError("the question is empty")
    if not said.split.reasoning and not said.split.answer:
        raise ValueError("the answer is empty")
    asks_for = kind(row, format, context.kind)
    prompt = Prompt(
        _id_of(said.question), said.question, reference(row, (*format.reference, *said.references)), asks_for,
        row.value(format.tests) if asks_for in format.tested else None, tags(row),
    )  # fmt: skip
    model = said.model or row.text(format.model) or "unknown"
    extras = _with_labels(row, format, said.extras)
    trace = Trace(
        id="", slot="", prompt_id=prompt.id, sample=0, teacher=model, model=model, messages=said.messages,
        reasoning=said.split.reasoning, answer=said.split.answer, finish=FINISHES.get(said.finish.lower(), "unknown"),
        usage=said.usage, reasoning_source=said.split.source, extras=extras, cost_usd=said.cost_usd,
    )  # fmt: skip
    return Found(prompt, trace, shown_to_students(said.messages), said.line)


def _with_labels(row: Row, format: Format, extras: dict[str, Any]) -> dict[str, Any]:
    labels = labels_of(row, format.labels)
    return extras | {"tags": labels | extras.get("tags", {})} if labels else extras


def _id_of(question: str) -> str:
    return _remembered_id(question) if len(question) <= LONGEST_REMEMBERED else prompt_id_of(question)


@functools.lru_cache(maxsize=64)
def _remembered_id(question: str) -> str:
    return prompt_id_of(question)


def split_reply(text: str, apart: str | None) -> tuple[Split, dict[str, Any]]:
    """The reasoning and the answer of a reply whose reasoning may stand apart, and what goes into the extras.

    A think block in the answer never stays there beside reasoning of its own: one that says something else is kept in
    the extras as `inline_reasoning`.
    """
    inline = split_thinking(text)
    if apart is None or not apart.strip():
        return inline, {}
    return beside(split_thinking(apart), inline, "field")


def beside(apart: Split, inline: Split, source: str) -> tuple[Split, dict[str, Any]]:
    """As split_reply, for texts that are taken apart already."""
    reasoning = apart.reasoning if apart.source in INLINE and not apart.answer else _whole(apart)
    if inline.source not in INLINE:
        return Split(reasoning, inline.answer, source), {}
    extra = {} if inline.reasoning in ("", reasoning) else {"inline_reasoning": inline.reasoning}
    return Split(reasoning, inline.answer, source), extra


def refuse_odd_reasoning(split: Split, fields: Iterable[tuple[str, Any]]) -> None:
    """Raises ValueError for an exchange without reasoning where one of `fields` holds some that is no text."""
    if split.reasoning or split.source in ("summary", "encrypted"):
        return
    for name, value in fields:
        inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
        if any(
            item.strip() if isinstance(item, str) else isinstance(item, dict | list) and item
            for item in inner
        ):
            what = "a list" if isinstance(value, list) else "an object"
            raise ValueError(f"the reasoning in {name!r} is no text but {what}")


def _whole(split: Split) -> str:
    return split.answer if not split.reasoning else f"{split.reasoning}\n\n{split.answer}"


def shown_to_students(messages: list[Message]) -> list[Message]:
    """The messages without a system message that asks for tags which the training rows don't have."""
    return [m for m in messages if not (m.role == "system" and "<|begin_of_" in m.content)]


def reference(row: Row, names: Iterable[str]) -> str | None:
    """The right answer, None when the row has none. Raises ValueError for one that is neither text nor number."""
    for name in names:
        if name not in row.raws and "." not in name:
            continue
        text = row.text((name,))
        if text is not None:
            return text
        at = row.kind(name)
        if at not in ("", "null", "text"):
            raise ValueError(
                f"the reference in {name!r} is neither text nor number but {in_json(row.value(name))}"
            )
        if "." in name:
            text = _in_python_text(row, name)
            if text is not None:
                return text
    return None


def _in_python_text(row: Row, name: str) -> str | None:
    """A text or number in a Python dict that was written into a column as text: read as a literal, never run."""
    head, _, key = name.partition(".")
    text = row.text((head,))
    if text is None or len(text) > LONGEST_PYTHON or not text.lstrip().startswith("{"):
        return None
    try:
        value = ast.literal_eval(text.strip())
    except (ValueError, SyntaxError, MemoryError, RecursionError, TypeError):
        return None
    inner = value.get(key) if isinstance(value, dict) else None
    is_plain = isinstance(inner, str | int | float) and not isinstance(inner, bool)
    return str(inner) if is_plain and str(inner).strip() else None


def kind(row: Row, format: Format, default: AnswerKind) -> AnswerKind:
    """The kind of answer: of the row's own column, else of the format's, else the default."""
    said = row.text(("answer_kind",)) if "answer_kind" in row.raws else None
    if said in get_args(AnswerKind):
        return cast(AnswerKind, said)
    return KIND_WORDS.get((row.text(format.kind) or "").lower(), default) if format.kind else default


def tags(row: Row) -> dict[str, Any]:
    """The columns that label the problem: where it is from, its licence, subject, difficulty."""
    return labels_of(row, TAGS)


def labels_of(row: Row, names: Iterable[str]) -> dict[str, Any]:
    """Those of the columns that hold a short text, a number or a flag."""
    found: dict[str, Any] = {}
    for name in row.there(names) if type(names) is tuple else names:
        if name in row.raws and row.kind(name) in ("text", "number", "flag"):
            value = row.value(name)
            if not isinstance(value, str) or 0 < len(value) <= LONGEST_TAG:
                found[name] = value
    return found


def finish_of(row: Row, format: Format) -> str:
    """The word of the row for how the answer ended; "" when it has none."""
    return row.text(format.finish) or ""


def row_usage(row: Row) -> Usage:
    """The token counts in the column `usage`."""
    raw = row.raws.get("usage")
    if raw is None:
        return Usage()
    try:
        plain = _USAGE.decode(raw)
    except msgspec.MsgspecError:
        return usage_of(row.object("usage"))
    return Usage(plain.prompt_tokens, plain.completion_tokens, plain.reasoning_tokens)


def plain_json(value: Any) -> bool:
    """True for what can be written as JSON again."""
    try:
        msgspec.json.encode(value)
    except (ValueError, TypeError, OverflowError, RecursionError):
        return False
    return True
