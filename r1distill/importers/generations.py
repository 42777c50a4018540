"""Lists of generations: one row with several answers to one question, and columns that say something about each of them.

In: rows such as {"problem", "generations": [text, ...], "correctness_math_verify": [true, ...], "finish_reasons": [...]}
(OpenR1-Math, open-r1), {"instruction", "generation": [...]} (distilabel), {"question", "thinking_trajectories": [...], "attempt"}
(s1K). Out: one trace each. The line that stands for a trace is the row with this one generation, so that reading that line
again gives the same trace.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from msgspec.structs import replace

from r1distill.importers.chat import split_message
from r1distill.importers.columns import asked
from r1distill.importers.fields import LacksError, Row
from r1distill.importers.found import (
    Context,
    Found,
    Said,
    Unread,
    finish_of,
    found,
    plain_json,
    row_usage,
    split_reply,
)
from r1distill.importers.table import Format
from r1distill.teachers.replies import usage_of

MOST_GENERATIONS = 10_000


def read(row: Row, format: Format, context: Context) -> Iterator[Found | Unread]:
    """The traces of a row, in order. Raises ValueError when there is no question or no list."""
    messages, question = asked(row, format)
    name = next((name for name in format.reply if row.kind(name) == "list"), "")
    items = row.items(name)
    if not items:
        raise ValueError(f"the list of generations ({' or '.join(format.reply)}) is empty")
    if len(items) > MOST_GENERATIONS:
        raise ValueError(f"more than {MOST_GENERATIONS:,} generations")
    if format.beside and not any(row.kind(column) for column in format.beside):
        raise LacksError(f"no answer beside the reasoning ({' or '.join(format.beside)})")
    lists = _lists(row, format, len(items))
    for number, item in enumerate(items):
        here = {column: values[number] for column, values in lists.items()}
        try:
            said = _said(row, format, item, here)
            line = None
            if len(items) > 1:
                line = row.line({name: [item], **{column: [value] for column, value in here.items()}})
            yield found(row, format, context, replace(said, messages=messages, question=question, line=line))
        except ValueError as error:
            yield Unread(f"generation {number + 1} of {len(items)}: {error}")


def _lists(row: Row, format: Format, count: int) -> dict[str, list[Any]]:
    """The columns with one value for each generation; one of another length is left as it is."""
    found = {column: row.items(column) for column in (*format.each, *format.beside)}
    return {column: values for column, values in found.items() if len(values) == count}


def _said(row: Row, format: Format, item: Any, here: dict[str, Any]) -> Said:
    if format.beside:
        apart = item if isinstance(item, str) else ""
        texts = [here.get(column, row.text((column,))) for column in format.beside]
        text = next((text for text in texts if isinstance(text, str) and text.strip()), "")
        if not apart.strip() or not text:
            raise ValueError(f"no reasoning with an answer ({' or '.join(format.beside)})")
        split, extras = split_reply(text, apart)
    elif isinstance(item, dict):
        split, extras = split_message({"content": item.get("text"), **item})
    elif isinstance(item, str) and item.strip():
        split, extras = split_reply(item, None)
    else:
        raise ValueError(
            "it is empty" if item in (None, "", []) or isinstance(item, str) else "it is no text"
        )
    finish = here.get("finish_reasons") or finish_of(row, format)
    about = here.get("api_metadata")
    usage = usage_of(about.get("usage", about)) if isinstance(about, dict) else row_usage(row)
    model = here.get("model_name")
    labels = {name: value for name, value in here.items() if name in format.each and _is_label(value)}
    extras = extras | ({"tags": labels} if labels else {})
    return Said(
        [],
        "",
        split,
        finish if isinstance(finish, str) else "",
        usage,
        model if isinstance(model, str) else "",
        extras,
    )


def _is_label(value: Any) -> bool:
    is_short = isinstance(value, bool | int | float) or (isinstance(value, str) and len(value) <= 200)
    return is_short and plain_json(value)
