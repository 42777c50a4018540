"""What APIs answered: batch results, stored completions, Curator's responses files.

In, one row each:
- {"custom_id", "response": {"status_code", "body"}, "error"} of a batch; the prompt stands in the request file, which is named
  beside it (https://platform.openai.com/docs/api-reference/batch/request-output);
- a completion ({"choices", ...}) with its prompt in `messages`, `request` or `input`, or in a file with the items of
  GET /v1/chat/completions/ID/messages; {"object": "list", "data": [...]} of them; {"request", "response"}
  (https://platform.openai.com/docs/api-reference/chat/list);
- {"generic_request": {"messages"}, "response_message", "raw_response"} (https://github.com/bespokelabsai/curator).
Out: a trace for each choice. The line that stands for it is {"request", "response"} where the row alone would not do.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec
from msgspec.structs import replace

from r1distill.importers.chat import last_question, message_of, split_message
from r1distill.importers.fields import Row, in_json, kind_of, read_row
from r1distill.importers.found import Context, Found, Said, Unread, beside, found, refuse_odd_reasoning
from r1distill.importers.table import Format
from r1distill.records import Message, Usage
from r1distill.teachers.error_texts import one_line
from r1distill.teachers.reasoning import FIELDS
from r1distill.teachers.refusals import Refusal
from r1distill.teachers.replies import Reply, reply_of, usage_of
from r1distill.thinking import Split, split_thinking

WITHOUT_PROMPT = "its prompt is not in the row: name the file with the {what} beside it"
KEPT_OF_REQUEST = ("messages", "model", "temperature", "top_p", "max_tokens", "max_completion_tokens", "seed")
"""What of a request goes into the line that stands for a trace; the rest (tools, users, metadata) is not needed."""
MOST_CHOICES = 1_000


def read(row: Row, format: Format, context: Context) -> Iterator[Found | Unread]:
    """The traces of one row. Raises ValueError."""
    if row.kind("custom_id"):
        yield from _batch(row, format, context)
    elif row.kind("generic_request") == "object":
        yield from _curator(row, format, context)
    elif row.kind("data") == "list":
        yield from _listed(row, format, context)
    elif row.kind("choices") == "list":
        yield from _completion(row, format, context)
    else:
        request, response = row.object("request"), row.object("response")
        yield from _exchanges(row, format, context, _body(request), _body(response), "")


def request_key(row: Row) -> tuple[str, bytes] | None:
    """(id, request as a JSON line) of a row of a request file, or of an item of a stored completion's messages; else None."""
    if row.kind("custom_id") and row.kind("body") == "object" and not row.kind("response"):
        return str(row.value("custom_id")), msgspec.json.encode(_kept(row.object("body")))
    return None


def stored_messages(row: Row) -> list[tuple[str, bytes]]:
    """(completion id, request as a JSON line) of a list of a stored completion's messages; [] for any other row.

    The id of such a message is the completion's with a number behind it.
    """
    if row.kind("data") != "list" or row.kind("choices"):
        return []
    groups: dict[str, list[Any]] = {}
    for item in row.items("data"):
        if not isinstance(item, dict) or "role" not in item or not isinstance(item.get("id"), str):
            return []
        groups.setdefault(item["id"].rpartition("-")[0], []).append(_message(item))
    return [(key, msgspec.json.encode({"messages": items})) for key, items in groups.items()]


def _message(item: dict[str, Any]) -> dict[str, Any]:
    parts = item.get("content_parts")
    return {"role": item["role"], "content": parts if parts else item.get("content")}


def _batch(row: Row, format: Format, context: Context) -> Iterator[Found | Unread]:
    response, key = row.object("response"), str(row.value("custom_id"))
    error = row.object("error") or _body(response).get("error")
    if error:
        raise ValueError(
            f"the request failed: {one_line(str(error.get('message') if isinstance(error, dict) else error))[:200]}"
        )
    request = _body(row.object("request")) or _beside(context, key)
    if not request:
        raise ValueError(WITHOUT_PROMPT.format(what="requests"))
    yield from _exchanges(row, format, context, request, _body(response), key)


def _listed(row: Row, format: Format, context: Context) -> Iterator[Found | Unread]:
    """A list of completions, as the API lists them."""
    for number, item in enumerate(msgspec.json.decode(row.raws["data"], type=list[msgspec.Raw]), 1):
        try:
            if kind_of(item) != "object":
                raise ValueError(f"it is no JSON object but {in_json(msgspec.json.decode(item))}")
            one = read_row(bytes(item))
            if one.kind("object") != "text":  # the line alone must be known for what it is
                one = read_row(one.line({"object": "chat.completion"}))
            for each in _completion(one, format, context):
                if isinstance(each, Found) and each.line is None:
                    each = each._replace(line=one.source)
                yield each if isinstance(each, Found) else Unread(f"completion {number}: {each.reason}")
        except ValueError as error:
            yield Unread(f"completion {number}: {error}")


def _completion(row: Row, format: Format, context: Context) -> Iterator[Found | Unread]:
    key = row.text(("id",)) or ""
    request = _body(row.object("request")) or _request_in(row) or _beside(context, key)
    if not request:
        raise ValueError(WITHOUT_PROMPT.format(what="messages"))
    inside = any(row.kind(name) for name in ("request", "messages", "input"))
    response = {
        name: row.value(name)
        for name in ("id", "model", "choices", "usage", "error", "object")
        if row.kind(name)
    }
    yield from _exchanges(row, format, context, request, response, "", inside)


def _request_in(row: Row) -> dict[str, Any]:
    for name in ("messages", "input"):
        items = row.items(name)
        if items:
            return {"messages": items}
    text = row.text(("input", "prompt"))
    return {"messages": [{"role": "user", "content": text}]} if text else {}


def _exchanges(
    row: Row, format: Format, context: Context, request: dict[str, Any], response: dict[str, Any], key: str,
    whole_row: bool | None = None,
) -> Iterator[Found | Unread]:  # fmt: skip
    """A trace for each choice of a response."""
    messages = _messages(request)
    choices = response.get("choices")
    choices = choices if isinstance(choices, list) else []
    if not choices or len(choices) > MOST_CHOICES:
        raise ValueError(
            "the response has no choices" if not choices else f"more than {MOST_CHOICES:,} choices"
        )
    stands_alone = len(choices) == 1 and (
        whole_row or (whole_row is None and row.kind("request") == "object")
    )
    for number, choice in enumerate(choices, 1):
        one = {**response, "choices": [choice]}
        try:
            said = _said(reply_of(one), choice, messages, response, request)
        except (Refusal, ValueError) as error:
            yield Unread(f"{f'choice {number}: ' if len(choices) > 1 else ''}{str(error).rstrip('.')}")
            continue
        if not stands_alone:
            line = {"custom_id": key} if key else {}
            said = replace(
                said, line=msgspec.json.encode({**line, "request": _kept(request), "response": one})
            )
        yield found(row, format, context, said)


def _said(
    reply: Reply,
    choice: dict[str, Any],
    messages: list[Message],
    response: dict[str, Any],
    request: dict[str, Any],
) -> Said:
    split, extras = reply.split, dict[str, Any]()
    message = choice.get("message")
    refuse_odd_reasoning(
        split, ((name, message.get(name)) for name in FIELDS) if isinstance(message, dict) else ()
    )
    if split.reasoning and not split.source.startswith(("inline", "unclosed")):
        split, extras = beside(Split("", split.reasoning, "none"), split_thinking(split.answer), split.source)
    model = reply.model or request.get("model")
    return Said(
        messages, last_question(messages), split, str(choice.get("finish_reason") or ""), reply.usage,
        model if isinstance(model, str) else "", {**reply.extras, **extras}, cost_usd=reply.cost_usd,
    )  # fmt: skip


def _curator(row: Row, format: Format, context: Context) -> Iterator[Found | Unread]:
    request, raw = row.object("generic_request"), row.object("raw_response")
    raw = raw if isinstance(raw.get("choices"), list) else raw.get("response") or {}
    body = _body(raw) if isinstance(raw, dict) else {}
    messages = _messages(request)
    errors = row.items("response_errors")
    if errors:
        raise ValueError(f"the request failed: {one_line(str(errors[0]))[:200]}")
    finish, cost = row.text(("finish_reason",)) or "", row.value("response_cost")
    usage = row.object("token_usage") or row.object("usage")
    counts = usage_of(usage) if usage else Usage()
    choice = next(iter(body.get("choices") or []), None)
    message = choice.get("message") if isinstance(choice, dict) else None
    text = row.text(("response_message",))
    if not isinstance(message, dict):
        message = {"content": text}
    split, extras = split_message(message)
    model = request.get("model")
    said = Said(
        messages, last_question(messages), split, finish or str((choice or {}).get("finish_reason") or ""), counts,
        model if isinstance(model, str) else "", extras,
        cost_usd=float(cost) if isinstance(cost, int | float) and not isinstance(cost, bool) and 0 <= cost < 1e6 else None,
    )  # fmt: skip
    yield found(row, format, context, said)


def _messages(request: dict[str, Any]) -> list[Message]:
    items = request.get("messages")
    messages = [message_of(item) for item in items] if isinstance(items, list) else []
    if not any(message.role == "user" for message in messages):
        raise ValueError("the request holds no question")
    return messages


def _body(value: dict[str, Any]) -> dict[str, Any]:
    """A request or response without the envelope that batches put around it."""
    body = value.get("body")
    return body if isinstance(body, dict) else value


def _kept(request: dict[str, Any]) -> dict[str, Any]:
    return {name: request[name] for name in KEPT_OF_REQUEST if name in request}


def _beside(context: Context, key: str) -> dict[str, Any]:
    line = context.beside(key) if key else None
    value = msgspec.json.decode(line) if line is not None else {}
    return value if isinstance(value, dict) else {}
