"""Chat rows: messages with roles, prompt and completion as messages, preference pairs.

In: rows such as {"messages": [{"role", "content", "reasoning_content"?}, ...]}, {"prompt": [...], "completion": [...]} or
{"prompt": [...], "chosen": [...], "rejected": [...]} (https://huggingface.co/docs/trl/dataset_formats). Out: the last answer of
each conversation, asked with all that was said before it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from msgspec.structs import replace

from r1distill.importers.fields import Row, in_json
from r1distill.importers.found import (
    Context,
    Found,
    Said,
    Unread,
    beside,
    finish_of,
    found,
    refuse_odd_reasoning,
    row_usage,
    split_reply,
)
from r1distill.importers.table import Format
from r1distill.records import Message
from r1distill.teachers.reasoning import FIELDS, normalise
from r1distill.thinking import Split, split_thinking

ROLES = {
    "human": "user", "gpt": "assistant", "model": "assistant", "bot": "assistant", "chatgpt": "assistant", "ai": "assistant",
    "observation": "tool", "function_call": "assistant",
}  # fmt: skip
"""Other words for the roles: ShareGPT's, Gemini's."""
MOST_MESSAGES = 10_000
PICTURES = ("image_url", "image", "input_image", "audio", "input_audio", "video", "document", "file")


def read(row: Row, format: Format, context: Context) -> Iterator[Found | Unread]:
    """The trace of a chat row; of a preference pair both. Raises ValueError."""
    if format.name == "preference":
        yield from _both(row, format, context)
        return
    said = row.items("messages") if row.kind("messages") == "list" else _prompt(row) + row.items("completion")
    yield found(row, format, context, exchange(row, format, said))


def exchange(row: Row, format: Format, items: list[Any]) -> Said:
    """What was said, of a list of messages that ends with the answer. Raises ValueError."""
    messages, reply = conversation(items)
    split, extras = split_message(reply, row.text(format.reasoning))
    if extras.pop("tool_calls", False):
        raise ValueError("the last answer is a call of a tool")
    question = row.text(format.question) or last_question(messages)
    return Said(messages, question, split, finish_of(row, format), row_usage(row), extras=extras)


def _both(row: Row, format: Format, context: Context) -> Iterator[Found | Unread]:
    for name in ("chosen", "rejected"):
        items = row.items(name)
        try:
            starts_anew = len(items) > 1 and _role(items[0]) != "assistant"
            before = [] if starts_anew else _prompt(row)
            said = exchange(row, format, before + items)
        except ValueError as error:
            yield Unread(f"{name}: {error}")
            continue
        line = row.line({"prompt": before, "completion": items, "preference": name}, ("chosen", "rejected"))
        if starts_anew:
            line = row.line({"messages": items, "preference": name}, ("chosen", "rejected", "prompt"))
        yield found(
            row,
            format,
            context,
            replace(said, line=line, extras=said.extras | {"tags": {"preference": name}}),
        )


def _prompt(row: Row) -> list[Any]:
    text = row.text(("prompt",)) if row.kind("prompt") == "text" else None
    return row.items("prompt") if text is None else [{"role": "user", "content": text}]


def conversation(items: list[Any]) -> tuple[list[Message], dict[str, Any]]:
    """(all messages before the last, the last one as it stands). Raises ValueError when that is no answer."""
    if not items or len(items) > MOST_MESSAGES:
        raise ValueError("there are no messages" if not items else f"more than {MOST_MESSAGES:,} messages")
    *before, last = items
    if _role(last) != "assistant":
        raise ValueError(
            f"the conversation does not end with an answer, but with {_role(last) or 'no role'!r}"
        )
    messages = [message_of(item) for item in before]
    if not any(message.role == "user" for message in messages):
        raise ValueError("nobody asks a question in the conversation")
    return messages, dict(last)


def message_of(item: Any) -> Message:
    """A message as sent. Raises ValueError for one that is no text."""
    role = _role(item)
    if not role:
        raise ValueError("a message has no role")
    return Message(role, text_of(item.get("content", item.get("value"))))


def text_of(content: Any) -> str:
    """The text of a message: a text, or its parts joined. Raises ValueError for pictures and the like."""
    if content is None or isinstance(content, str):
        return content or ""
    if not isinstance(content, list):
        raise ValueError(f"a message holds no text but {in_json(content)}")
    parts = []
    for part in content:
        kind = part.get("type") if isinstance(part, dict) else None
        if isinstance(part, dict) and (kind in PICTURES or any(name in part for name in PICTURES)):
            raise ValueError(f"a message holds a picture or a file ({kind or 'no type'})")
        text = part.get("text") if isinstance(part, dict) else part
        parts.append(text if isinstance(text, str) else "")
    return "".join(parts)


def _role(item: Any) -> str:
    role = item.get("role", item.get("from")) if isinstance(item, dict) else None
    return ROLES.get(role, role) if isinstance(role, str) else ""


def last_question(messages: list[Message]) -> str:
    """The last message of the user; "" without one."""
    return next((m.content for m in reversed(messages) if m.role == "user"), "")


def split_message(message: dict[str, Any], apart: str | None = None) -> tuple[Split, dict[str, Any]]:
    """The reasoning and the answer of an assistant message, and what goes into the extras (see found.split_reply)."""
    if "value" in message and "content" not in message:
        message = {**message, "content": message["value"]}
    if apart is not None:
        return split_reply(text_of(message.get("content")), apart)
    split = normalise(message)
    if split.source in (*FIELDS, "reasoning_details", "content_list"):
        return beside(Split("", split.reasoning, "none"), split_thinking(split.answer), split.source)
    refuse_odd_reasoning(split, ((field, message.get(field)) for field in FIELDS))
    calls = not split.answer and not split.reasoning and bool(message.get("tool_calls"))
    return split, {"tool_calls": True} if calls else {}
