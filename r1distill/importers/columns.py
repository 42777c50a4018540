"""Columns: a row with a question, a reply with its reasoning, and maybe a reference, each in a column of its own.

In: rows such as {"question", "response", "reference"?} or {"problem", "reasoning", "answer"}. Which columns count is said by the
format, or by --map. Several models side by side (s1K-1.1) give a trace each.
"""

from __future__ import annotations

from collections.abc import Iterator

from r1distill.importers.chat import MOST_MESSAGES, conversation, last_question, message_of, split_message
from r1distill.importers.fields import LacksError, Row
from r1distill.importers.found import (
    Context,
    Found,
    Said,
    Unread,
    finish_of,
    found,
    refuse_odd_reasoning,
    row_usage,
    split_reply,
)
from r1distill.importers.table import QUESTION, Author, Format
from r1distill.records import Message
from r1distill.thinking import Split

LISTS = ("completion", "messages", "conversations")
FINAL_MARKS = ("**Final Answer**", "Final Answer:", "\\boxed")
WORDS = ("answer", "content", "solution")
"""Columns that hold a reply where no other does."""


def read(row: Row, format: Format, context: Context) -> Iterator[Found | Unread]:
    """The trace of a row; where several models stand side by side, one of each. Raises ValueError."""
    messages, question = asked(row, format)
    if format.authors:
        yield from _of_authors(row, format, context, messages, question)
        return
    split, extras, from_answer = reply(row, format)
    # Where the reply has a column of its own, `answer` is the reference.
    references = ("answer",) if format.name == "plain" and not from_answer else ()
    said = Said(
        messages,
        question,
        split,
        finish_of(row, format),
        row_usage(row),
        extras=extras,
        references=references,
    )
    yield found(row, format, context, said)


def asked(row: Row, format: Format) -> tuple[list[Message], str]:
    """(the messages to ask, the question): of a column, else of the messages before the last answer. Raises ValueError."""
    question = row.text(format.question)
    if question is not None:
        more = row.text((format.more_question,)) if format.more_question else None
        question = f"{question}\n\n{more}" if more else question
        system = row.text((format.system,))
        earlier = _earlier(row, format.history) if format.history in row.raws else []
        return [
            *([Message("system", system)] if system else []), *earlier, Message("user", question)
        ], question  # fmt: skip
    for name in ("messages", "prompt", "conversations"):
        messages = _before_the_answer(row, name)
        if any(message.role == "user" for message in messages):
            return messages, last_question(messages)
    raise LacksError(f"no question (none of {', '.join(format.question or QUESTION)}, messages)")


def _earlier(row: Row, name: str) -> list[Message]:
    """The turns before the question: pairs of a question and an answer, or messages. Raises ValueError for what is neither."""
    if row.kind(name) not in ("list", "null"):
        if row.value(name):
            raise ValueError(f"{name!r} is no list of earlier turns")
        return []
    found: list[Message] = []
    for turn in row.items(name):
        if isinstance(turn, dict):
            found.append(message_of(turn))
        elif isinstance(turn, list) and len(turn) == 2 and all(isinstance(text, str) for text in turn):
            found += [Message("user", turn[0]), Message("assistant", turn[1])]
        else:
            raise ValueError(f"a turn in {name!r} is no pair of a question and an answer")
    if len(found) > MOST_MESSAGES:
        raise ValueError(f"more than {MOST_MESSAGES:,} messages")
    return found


def _before_the_answer(row: Row, name: str) -> list[Message]:
    items = row.items(name)
    messages = [message_of(item) for item in items]
    return messages[:-1] if messages and messages[-1].role == "assistant" else messages


def reply(row: Row, format: Format) -> tuple[Split, dict[str, object], bool]:
    """(reasoning and answer, extras, whether the reply stood in `answer`). Raises ValueError."""
    found = _reply(row, format)
    if not found[0].reasoning:
        refuse_odd_reasoning(found[0], ((name, row.value(name)) for name in format.reasoning))
    return found


def _reply(row: Row, format: Format) -> tuple[Split, dict[str, object], bool]:
    apart = row.text(format.reasoning)
    last = ("text",) if "text" in format.reply else ()
    text = row.text(
        format.reply if "text" not in row.raws else [name for name in format.reply if name != "text"]
    )
    if text is None and format.name == "plain":
        for name in LISTS:
            items = row.items(name)
            if items:
                _, message = conversation([{"role": "user", "content": ""}, items[-1]])
                return *split_message(message, apart), False
    text = text if text is not None else row.text(last)
    if text is not None:
        return *((_untagged(text), {}) if format.untagged else split_reply(text, apart)), False
    text = row.text(WORDS) if format.name == "plain" else None
    if text is None or (apart is None and row.kind("answer") and not _has_thinking(text)):
        raise LacksError(
            f"no answer of a teacher (none of {', '.join(format.reply)}, messages, or reasoning with answer)"
        )
    return *split_reply(text, apart), True


def _has_thinking(text: str) -> bool:
    return "</think>" in text or "<think>" in text


def _untagged(text: str) -> Split:
    """A chain of thought without tags, parted where it says its final answer: at a heading, else at the paragraph with the last
    box, else at the last line.
    """
    text = text.strip()
    for mark in FINAL_MARKS:
        at = text.rfind(mark)
        if at > 0:
            start = max(text.rfind("\n\n", 0, at), 0) if mark == FINAL_MARKS[-1] else at
            return Split(text[:start].strip(), text[start:].strip(), "untagged")
    before, newline, last = text.rpartition("\n")
    return Split(before.strip(), last.strip(), "untagged") if newline else Split("", text, "none")


def _of_authors(
    row: Row, format: Format, context: Context, messages: list[Message], question: str
) -> Iterator[Found | Unread]:
    there = [author for author in format.authors if row.kind(author.reasoning) or row.kind(author.reply)]
    for author in there:
        text, apart = row.text((author.reply,)), row.text((author.reasoning,))
        if text is None or apart is None:
            yield Unread(f"no answer of {author.model} (columns {author.reasoning} and {author.reply})")
            continue
        split, extras = split_reply(text, apart)
        labels = {
            name: row.value(name) for name in author.others if row.kind(name) in ("text", "number", "flag")
        }
        others = [name for other in there if other is not author for name in _columns(other)]
        line = row.line({}, others) if others else None
        extras = extras | ({"tags": labels} if labels else {})
        yield found(
            row,
            format,
            context,
            Said(messages, question, split, model=author.model, extras=extras, line=line),
        )


def _columns(author: Author) -> tuple[str, ...]:
    return author.reasoning, author.reply, *author.others
