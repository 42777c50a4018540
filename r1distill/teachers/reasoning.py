"""One normaliser for every place where a reply may carry its reasoning.

Places are read in this order, the first that is not blank wins:
- a field: `reasoning` (vLLM since 2026, Groq, OpenRouter, Together, Ollama's /v1), `reasoning_content` (DeepSeek, SGLang,
  Fireworks, Qwen, llama.cpp, transformers serve), `thinking` (Ollama: https://docs.ollama.com/capabilities/thinking);
- `reasoning_details`, of which only `reasoning.text` is reasoning; summaries and encrypted parts are told apart
  (OpenRouter: https://openrouter.ai/docs/use-cases/reasoning-tokens);
- a content list with typed parts: `thinking` (Mistral: https://docs.mistral.ai/capabilities/reasoning/), `reasoning`, or
  Bedrock's `reasoningContent` (https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_ContentBlock.html);
- think tags inside the content (r1distill.thinking).
A message gathered from a stream has the same shape, with lists of pieces: pieces of one item are joined as they are.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from r1distill.thinking import Split, split_thinking

FIELDS = ("reasoning", "reasoning_content", "thinking")
REASONING_TYPES = ("thinking", "redacted_thinking", "reasoning")
"""Types of the parts of a content list that are no answer."""


class _Parts(NamedTuple):
    """What a list of typed parts holds."""

    reasoning: str = ""
    text: str = ""
    summary: str = ""
    encrypted: bool = False


NO_PARTS = _Parts()


def normalise(message: dict[str, Any]) -> Split:
    """The reasoning and the answer of a chat message (its fields as received), and where the reasoning stood.

    The source is a field's name, "reasoning_details", "content_list", one of split_thinking's, or, with reasoning "":
    "summary" (only a summary came, see summary_of) and "encrypted".
    """
    content = _content(message.get("content"))
    for field in FIELDS:
        reasoning = _text_of(message[field]).strip() if field in message else ""
        if reasoning and not _is_summary(reasoning, message):
            return _beside(reasoning, content.text, field)
    details = _details(message)
    if details.reasoning:
        return _beside(details.reasoning, content.text, "reasoning_details")
    if content.reasoning:
        return _beside(content.reasoning, content.text, "content_list")
    split = split_thinking(content.text)
    if split.reasoning:
        return split
    if details.summary or content.summary:
        return split._replace(source="summary")
    return split._replace(source="encrypted") if details.encrypted or content.encrypted else split


def summary_of(message: dict[str, Any]) -> str:
    """The summary of the reasoning that a chat message carries, its items parted by blank lines; "" without one."""
    return _details(message).summary or _content(message.get("content")).summary


def _is_summary(reasoning: str, message: dict[str, Any]) -> bool:
    """True when a field only repeats the summary in the details, as OpenRouter's `reasoning` does."""
    if not any(part.get("type") == "reasoning.summary" for part in _dicts(message.get("reasoning_details"))):
        return False
    details = _details(message)
    return not details.reasoning and "".join(reasoning.split()) in "".join(details.summary.split())


def _beside(reasoning: str, text: str, source: str) -> Split:
    """Reasoning from its own field; a think block in the text that repeats it, or is blank, is taken out of the answer."""
    inline = split_thinking(text)
    if inline.source.startswith("inline") and inline.reasoning in ("", reasoning):
        return Split(reasoning, inline.answer, source)
    return Split(reasoning, text.strip(), source)


def _content(content: Any) -> _Parts:
    """A content field, which is a string or a list of typed parts."""
    if isinstance(content, str):
        return _Parts(text=content)
    reasoning, text, summaries, encrypted = [], [], [], False
    for part in _dicts(content):
        if part.get("type") in REASONING_TYPES or "reasoningContent" in part:
            reasoning.append(_reasoning_in(part))
            summaries.append(_text_of(part.get("summary"), "\n\n"))
            encrypted = encrypted or _is_encrypted(part)
        else:
            text.append(_text_of(part.get("text")))
    return _Parts("".join(reasoning).strip(), "".join(text), "\n\n".join(filter(None, summaries)), encrypted)


def _reasoning_in(part: dict[str, Any]) -> str:
    """The text of one reasoning part, from the first field that holds one."""
    bedrock = part.get("reasoningContent")
    if isinstance(bedrock, dict):
        inner = bedrock.get("reasoningText")
        return _text_of(inner.get("text")) if isinstance(inner, dict) else ""
    for field in ("thinking", "reasoning", "text", "content"):
        text = _text_of(part.get(field))
        if text:
            return text
    return ""


def _is_encrypted(part: dict[str, Any]) -> bool:
    bedrock = part.get("reasoningContent")
    redacted = isinstance(bedrock, dict) and bool(bedrock.get("redactedContent"))
    return redacted or part.get("type") == "redacted_thinking" or bool(part.get("encrypted_content"))


def _details(message: dict[str, Any]) -> _Parts:
    """OpenRouter's list: pieces with the same `index` are one item, items are parted by a blank line."""
    if not message.get("reasoning_details"):
        return NO_PARTS
    texts: dict[Any, list[str]] = {}
    summaries: dict[Any, list[str]] = {}
    encrypted, at = False, 0
    for part in _dicts(message.get("reasoning_details")):
        kind, index = part.get("type"), part.get("index")
        if isinstance(index, int):
            at = index  # a piece without an index goes on with the item before it
        if kind == "reasoning.text":
            texts.setdefault(at, []).append(_text_of(part.get("text")))
        elif kind == "reasoning.summary":
            summaries.setdefault(at, []).append(_text_of(part.get("summary")))
        encrypted = encrypted or kind == "reasoning.encrypted"
    return _Parts(_joined(texts), summary=_joined(summaries), encrypted=encrypted)


def _joined(items: dict[Any, list[str]]) -> str:
    joined = ("".join(pieces).strip() for pieces in items.values())
    return "\n\n".join(text for text in joined if text)


def _dicts(value: Any) -> list[dict[str, Any]]:
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def _text_of(value: Any, between: str = "") -> str:
    """A string, or the texts of a list of parts; "" for all else. One level deep, so that no nesting can hurt."""
    if isinstance(value, str):
        return value
    return between.join([text for part in _dicts(value) if isinstance(text := part.get("text"), str)])
