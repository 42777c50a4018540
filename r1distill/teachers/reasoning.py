"""One normaliser for every place where a reply may carry its reasoning.

Fields are read in this order, the first that is not blank wins: `reasoning` (vLLM since 2026, Groq, OpenRouter,
Together, Ollama), `reasoning_content` (DeepSeek, SGLang, Fireworks, Qwen, llama.cpp, transformers serve),
`reasoning_details` (OpenRouter: https://openrouter.ai/docs/use-cases/reasoning-tokens), a content list with
`thinking` parts (Mistral: https://docs.mistral.ai/capabilities/reasoning/), think tags inside the content.
"""

from __future__ import annotations

from typing import Any

from r1distill.thinking import Split, split_thinking

FIELDS = ("reasoning", "reasoning_content")


def normalise(message: dict[str, Any]) -> Split:
    """The reasoning and the answer of a chat message (its fields as received), and where the reasoning stood."""
    listed, text = _content(message.get("content"))
    for field in FIELDS:
        value = message.get(field)
        if isinstance(value, str) and value.strip():
            return _beside(value.strip(), text, field)
    details = _details(message.get("reasoning_details"))
    if details:
        return _beside(details, text, "reasoning_details")
    if listed:
        return _beside(listed, text, "content_list")
    return split_thinking(text)


def _beside(reasoning: str, text: str, source: str) -> Split:
    """Reasoning from its own field; a think block in the text that repeats it, or is blank, is taken out of the answer."""
    inline = split_thinking(text)
    if inline.source.startswith("inline") and inline.reasoning in ("", reasoning):
        return Split(reasoning, inline.answer, source)
    return Split(reasoning, text.strip(), source)


def _content(content: Any) -> tuple[str, str]:
    """(thinking, text) of a content field, which is a string or a list of typed parts."""
    if isinstance(content, str):
        return "", content
    thinking, text = [], []
    for part in content if isinstance(content, list) else []:
        if not isinstance(part, dict):
            continue
        if part.get("type") == "thinking":
            thinking.append(_text_of(part.get("thinking")))
        else:
            text.append(_text_of(part.get("text")))
    return "".join(thinking).strip(), "".join(text)


def _details(details: Any) -> str:
    parts = [d for d in details if isinstance(d, dict)] if isinstance(details, list) else []
    return "".join(
        _text_of(part.get("text")) for part in parts if part.get("type") == "reasoning.text"
    ).strip()


def _text_of(value: Any) -> str:
    if isinstance(value, str):
        return value
    return (
        "".join(_text_of(v.get("text")) for v in value if isinstance(v, dict))
        if isinstance(value, list)
        else ""
    )
