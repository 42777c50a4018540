"""What a server makes of an export: the prompt's tokens, against the training's, and how fast it answers.

In: a running server (an Endpoint). Out: how many prompts agree, tokens per second. llama.cpp's server says what it makes
of a prompt (/apply-template and /tokenize, https://github.com/ggml-org/llama.cpp/blob/master/tools/server/README.md).
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import httpx

from r1distill.errors import R1DistillError
from r1distill.exports.template import check_ids, prompts_that_render, training_ids
from r1distill.records import Message
from r1distill.teachers.client import Endpoint

TIMEOUT_S = 300.0
SPEED_QUESTION = "Count from one to twenty in words."
SPEED_TOKENS = 64
"""So many are measured, in as many answers as that takes."""
SPEED_ANSWERS = 8
"""At most."""


def check_prompts(endpoint: Endpoint, tokenizer: Any, more: Sequence[Sequence[Message]]) -> int:
    """How many prompts llama.cpp tokenises as the training did. Raises InputError when one differs."""
    prompts = prompts_that_render(tokenizer, more)
    with _client(endpoint) as client:
        for messages in prompts:
            text = _post(client, "/apply-template", {"messages": _chat(messages)})["prompt"]
            served = _post(client, "/tokenize", {"content": text, "add_special": True})["tokens"]
            check_ids(served, training_ids(tokenizer, messages), "llama.cpp")
    return len(prompts)


def tokens_per_s(endpoint: Endpoint) -> float | None:
    """Tokens per second of one greedy answer after the other, prompt reading left out as far as it is cached."""
    body = {"model": endpoint.model, "messages": _chat([Message("user", SPEED_QUESTION)]), "temperature": 0}
    with _client(endpoint) as client:
        _post(client, "/v1/chat/completions", {**body, "max_tokens": 1})
        tokens, started = 0, time.monotonic()
        for _ in range(SPEED_ANSWERS):
            reply = _post(client, "/v1/chat/completions", {**body, "max_tokens": SPEED_TOKENS})
            tokens += int((reply.get("usage") or {}).get("completion_tokens") or 0)
            if tokens >= SPEED_TOKENS:
                break
        return round(tokens / (time.monotonic() - started), 1) if tokens else None


def _chat(messages: Sequence[Message]) -> list[dict[str, str]]:
    return [{"role": message.role, "content": message.content} for message in messages]


def _client(endpoint: Endpoint) -> httpx.Client:
    headers = {"Authorization": f"Bearer {endpoint.key}"}
    root = endpoint.base_url.removesuffix("/v1")
    return httpx.Client(base_url=root, headers=headers, timeout=TIMEOUT_S, trust_env=False)


def _post(client: httpx.Client, path: str, body: dict[str, Any]) -> dict[str, Any]:
    try:
        answer = client.post(path, json=body).raise_for_status().json()
    except (httpx.HTTPError, ValueError) as error:
        raise R1DistillError(
            f"The exported student does not answer as it should ({path}: {error})."
        ) from None
    return dict(answer)
