"""Invocation logs of Amazon Bedrock: Converse, ConverseStream, InvokeModel and its stream.

In: rows {"modelId", "operation", "input": {"inputBodyJson"}, "output": {"outputBodyJson"}, ...} as S3 or CloudWatch get them
(https://docs.aws.amazon.com/bedrock/latest/userguide/model-invocation-logging.html). Out: a trace each, and a line with only what
was asked and answered: account ids, ARNs, caller, region, request ids and request metadata are in neither.
Bodies of InvokeModel are the vendors' own; read are messages in, and choices, content parts or generated text out.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec

from r1distill.importers.chat import last_question, text_of
from r1distill.importers.fields import Row
from r1distill.importers.found import Context, Found, Said, Unread, found, refuse_odd_reasoning
from r1distill.importers.table import Format
from r1distill.records import Message, Usage
from r1distill.teachers.reasoning import FIELDS, normalise
from r1distill.teachers.replies import usage_of
from r1distill.thinking import split_thinking

TURNS = (
    ("<｜User｜>", "<｜Assistant｜>"),  # DeepSeek-R1
    ("<|start_header_id|>user<|end_header_id|>", "<|eot_id|>"),  # Llama 3
    ("<|im_start|>user", "<|im_end|>"),  # Qwen
    ("[INST]", "[/INST]"),  # Mistral
)
"""Where a user's turn begins and ends in a prompt that is already rendered."""
KEPT = ("schemaType", "schemaVersion", "operation")
KEPT_ASKED = ("messages", "system", "prompt", "inputText")
KEPT_ANSWERED = ("output", "choices", "content", "generation", "stopReason", "stop_reason", "usage")
"""What of a row and its bodies goes into the line that stands for a trace; guardrails, profiles and the like name accounts."""
MOST_EVENTS = 1_000_000


class _Input(msgspec.Struct, gc=False):
    inputBodyJson: dict[str, msgspec.Raw]


class _Output(msgspec.Struct, gc=False):
    outputBodyJson: dict[str, msgspec.Raw]


_INPUT, _OUTPUT = msgspec.json.Decoder(_Input), msgspec.json.Decoder(_Output)


def read(row: Row, format: Format, context: Context) -> Iterator[Found | Unread]:
    """The trace of a log row. Raises ValueError."""
    if row.text(("errorCode",)):
        raise ValueError(f"the call failed ({(row.text(('errorCode',)) or '')[:80]})")
    asked, answered = _body(row, "input", KEPT_ASKED), _body(row, "output", KEPT_ANSWERED)
    messages, question = _question(_decoded(asked))
    message, finish, usage = _answer(_decoded(answered))
    split = normalise(message)
    refuse_odd_reasoning(split, ((name, message.get(name)) for name in FIELDS))
    model = without_account(row.text(("modelId",)) or "")
    line = _line(row, model, asked, answered)
    yield found(row, format, context, Said(messages, question, split, finish, usage, model, line=line))


def without_account(model: str) -> str:
    """A model id; of an ARN only its last part, since an ARN names the account."""
    return model.rpartition("/")[2] if model.startswith("arn:") else model


def _body(row: Row, side: str, kept: tuple[str, ...]) -> dict[str, Any]:
    """What is needed of a body, its columns undecoded. Raises ValueError when it is not in the row."""
    raws = _object_body(row, side)
    if raws is not None:
        return {key: raw for key, raw in raws.items() if key in kept}
    inner, name = row.inside(side), f"{side}BodyJson"
    at = inner.kind(name)
    if at == "list":
        return _of_events(inner.items(name))
    if at == "text":  # some exports write the body as text
        inner = Row({name: msgspec.Raw((inner.text((name,)) or "null").strip().encode())})
    if inner.kind(name) != "object":
        raise ValueError("the bodies are not in the row (large ones are written to S3 apart) or are no JSON")
    return {key: raw for key, raw in inner.inside(name).raws.items() if key in kept}


def _object_body(row: Row, side: str) -> dict[str, msgspec.Raw] | None:
    """A body that is an object, in one pass over what is mostly a long text; None for any other."""
    try:
        raw = row.raws[side]
        return _INPUT.decode(raw).inputBodyJson if side == "input" else _OUTPUT.decode(raw).outputBodyJson
    except (msgspec.ValidationError, KeyError):
        return None


def _decoded(body: dict[str, Any]) -> dict[str, Any]:
    return {
        key: msgspec.json.decode(value) if isinstance(value, msgspec.Raw) else value
        for key, value in body.items()
    }


def _line(row: Row, model: str, asked: dict[str, Any], answered: dict[str, Any]) -> bytes:
    kept = {name: row.raws[name] for name in KEPT if name in row.raws}
    return msgspec.json.encode(
        {**kept, "modelId": model, "input": {"inputBodyJson": asked}, "output": {"outputBodyJson": answered}}
    )


def _question(body: dict[str, Any]) -> tuple[list[Message], str]:
    """(messages, question): of messages, or of a prompt that is rendered already."""
    items = body.get("messages")
    if isinstance(items, list):
        system = body.get("system")
        messages = [Message("system", text_of(system))] if system else []
        messages += [
            Message(str(item.get("role")), text_of(item.get("content")))
            for item in items
            if isinstance(item, dict)
        ]
        question = last_question(messages)
    else:
        prompt = body.get("prompt", body.get("inputText"))
        question = _last_turn(prompt) if isinstance(prompt, str) else ""
        messages = [Message("user", question)]
    if not question.strip():
        raise ValueError("the request holds no question")
    return messages, question


def _last_turn(prompt: str) -> str:
    """What the user said last in a rendered prompt; a prompt without any marks is the question."""
    for opener, closer in TURNS:
        start = prompt.rfind(opener)
        if start >= 0:
            start += len(opener)
            end = prompt.find(closer, start)
            return prompt[start : end if end >= 0 else len(prompt)].strip()
    return prompt.strip()


def _answer(body: dict[str, Any]) -> tuple[dict[str, Any], str, Usage]:
    """(assistant message, finish word, usage) of a response body. Raises ValueError for a shape that is not known."""
    usage = _usage(body.get("usage"))
    output, choices, content = body.get("output"), body.get("choices"), body.get("content")
    if isinstance(output, dict) and isinstance(output.get("message"), dict):
        return output["message"], _word(body.get("stopReason")), usage
    if isinstance(choices, list) and choices and isinstance(choices[0], dict):
        choice = choices[0]
        finish = _word(choice.get("finish_reason") or choice.get("stop_reason"))
        message = choice.get("message")
        return message if isinstance(message, dict) else _of_text(choice.get("text")), finish, usage
    if isinstance(content, list):
        return {"content": content}, _word(body.get("stop_reason")), usage
    if isinstance(body.get("generation"), str):
        return _of_text(body["generation"]), _word(body.get("stop_reason")), usage
    raise ValueError(
        f"the response has none of the known shapes; its fields are: {', '.join(map(str, [*body][:20]))}"
    )


def _of_text(text: Any) -> dict[str, Any]:
    """A message of generated text. A prompt that ends in an open think tag leaves the text without one: split_thinking
    believes the closing tag alone.
    """
    if not isinstance(text, str):
        raise ValueError("the response holds no text")
    split = split_thinking(text)
    return {"reasoning": split.reasoning, "content": split.answer} if split.reasoning else {"content": text}


def _usage(said: Any) -> Usage:
    if not isinstance(said, dict):
        return Usage()
    prompt = said.get("prompt_tokens", said.get("inputTokens", said.get("input_tokens")))
    written = said.get("completion_tokens", said.get("outputTokens", said.get("output_tokens")))
    return usage_of({"prompt_tokens": prompt, "completion_tokens": written})


def _word(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _of_events(events: list[Any]) -> dict[str, Any]:
    """The response body that the events of a stream add up to."""
    if len(events) > MOST_EVENTS:
        raise ValueError(f"a stream of more than {MOST_EVENTS:,} events")
    thought: list[str] = []
    said: list[str] = []
    finish, usage = "", dict[str, Any]()
    for event in (event for event in events if isinstance(event, dict)):
        delta = _delta(event)
        inner = delta.get("reasoningContent")
        thought.append(_word(inner.get("text") if isinstance(inner, dict) else delta.get("thinking")))
        said.append(_word(delta.get("text")))
        stop = event.get("messageStop")
        finish = (
            _word(stop.get("stopReason") if isinstance(stop, dict) else delta.get("stop_reason")) or finish
        )
        counts = event.get("metadata", event)
        usage = counts.get("usage", usage) if isinstance(counts, dict) else usage
    parts: list[dict[str, Any]] = (
        [{"reasoningContent": {"reasoningText": {"text": "".join(thought)}}}] if any(thought) else []
    )
    return {
        "output": {"message": {"role": "assistant", "content": [*parts, {"text": "".join(said)}]}},
        "stopReason": finish, "usage": usage,
    }  # fmt: skip


def _delta(event: dict[str, Any]) -> dict[str, Any]:
    """The piece that an event adds, in Converse's or in Anthropic's shape."""
    block = event.get("contentBlockDelta", event)
    delta = block.get("delta") if isinstance(block, dict) else None
    return delta if isinstance(delta, dict) else {}
