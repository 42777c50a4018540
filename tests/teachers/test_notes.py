"""What is said of a teacher before the first request, and what a harvest can't have of it."""

from __future__ import annotations

from typing import Any

import pytest

from r1distill.errors import RecipeError
from r1distill.recipe import parse_recipe
from r1distill.teachers.endpoints import checked_for
from r1distill.teachers.notes import notes, recipe_notes

HTTP = {"provider": "openai-compatible", "base_url": "https://host/v1", "model": "m"}


def told(harvest: dict[str, Any] | None = None, **teacher: Any) -> str:
    whole = parse_recipe({"name": "r", "teacher": {"t": teacher}, "harvest": harvest or {}})
    return "\n".join(notes("t", whole.teacher["t"], whole.harvest))


@pytest.mark.parametrize(
    ("teacher", "harvest", "said"),
    [
        ({"provider": "deepseek", "model": "deepseek-flash", "sampling": {"temperature": 0.6, "top_p": 1}}, {},
         "teacher.t: deepseek ignores temperature, top_p (source: https://api-docs"),
        ({"provider": "ollama", "model": "m", "extra_body": {"top_k": 5}}, {}, "ollama ignores top_k"),
        ({"provider": "groq", "model": "m", "sampling": {"presence_penalty": 1}}, {}, "groq ignores presence_penalty"),
        ({"provider": "mistral", "model": "m", "sampling": {"seed": 1}}, {}, "its requests call it random_seed"),
        ({"provider": "moonshot", "model": "kimi-k3", "sampling": {"top_p": 1}}, {}, "the provider fixes it"),
        ({"provider": "deepseek", "model": "deepseek-reasoner"}, {}, "withdrawn on 2026-07-24"),
        ({"provider": "openai", "model": "o3"}, {}, "no usable reasoning"),
        ({"provider": "xai", "model": "grok-4.7"}, {}, "no usable reasoning"),
        ({"provider": "gemini", "model": "gemini-3.5-flash"}, {}, "at most summaries"),
        ({"provider": "openai", "model": "o3"}, {}, "OpenAI's terms"),
        ({"provider": "openai-compatible", "base_url": "https://api.openai.com/v1", "model": "o3"}, {}, "OpenAI's terms"),
        ({"provider": "openai-compatible", "base_url": "https://api.openai.com/v1", "model": "o3"}, {},
         'provider = "openai" knows what api.openai.com refuses'),
        ({"provider": "openai-compatible", "base_url": "https://openrouter.ai/api/v1", "model": "m"}, {},
         "only models whose authors allow distillation"),
        ({"provider": "vllm", "model": "meta-llama/Llama-3.3-70B-Instruct"}, {}, 'begins with "Llama"'),
        ({"provider": "nvidia", "model": "m"}, {"top_logprobs": 5}, "nobody has checked"),
        ({"provider": "openai-compatible", "base_url": "http://10.0.0.2/v1", "model": "m", "api_key_env": "K"}, {},
         "sent unencrypted to 10.0.0.2"),
    ],
)  # fmt: skip
def test_what_is_worth_knowing_is_said_before_the_first_request(
    teacher: dict[str, Any], harvest: dict[str, Any], said: str
) -> None:
    assert said in told(harvest, **teacher)


def test_nothing_is_said_without_need() -> None:
    assert told(provider="deepseek", model="deepseek-v4-pro", sampling={"max_tokens": 5}) == ""
    assert told(**HTTP) == ""
    assert told(provider="embedded") == ""
    thinking_off = {"thinking": {"type": "disabled"}}
    assert told(provider="deepseek", model="m", sampling={"temperature": 1}, extra_body=thinking_off) == ""
    assert "usable" not in told(provider="xai", model="grok-3-mini-high")


def test_notes_of_several_teachers_are_said_once() -> None:
    o3 = {"provider": "openai", "model": "o3"}
    said = recipe_notes(parse_recipe({"name": "r", "teacher": {"a": o3, "b": o3}}))
    assert sum("terms" in text for text in said) == 1
    assert sum("no usable reasoning" in text for text in said) == 2


@pytest.mark.parametrize(
    ("teacher", "harvest", "said"),
    [
        ({"provider": "openai", "model": "o3"}, {"reasoning": "required"}, "openai gives no reasoning"),
        ({"provider": "xai", "model": "grok-4.7"}, {"reasoning": "required"}, "xai gives no reasoning"),
        ({"provider": "gemini", "model": "g"}, {"reasoning": "required"}, "only summaries"),
        ({"provider": "groq", "model": "m"}, {"top_logprobs": 1}, "top_logprobs = 1, but groq gives none"),
        ({"provider": "local", "model": "m"}, {"top_logprobs": 1}, "local gives none"),
        ({"provider": "fireworks", "model": "m"}, {"top_logprobs": 6}, "fireworks gives 5 at most"),
        (
            {"provider": "deepseek", "model": "m"},
            {"top_logprobs": 5},
            "deepseek refuses logprobs, top_logprobs",
        ),
        ({"provider": "openai", "model": "o3"}, {"top_logprobs": 5}, "refuses logprobs, top_logprobs for o3"),
    ],
)
def test_what_a_harvest_wants_and_can_t_have_is_an_error(
    teacher: dict[str, Any], harvest: dict[str, Any], said: str
) -> None:
    with pytest.raises(RecipeError, match=said):
        told(harvest, **teacher)


def test_what_it_can_have_passes() -> None:
    told({"reasoning": "required", "top_logprobs": 5}, provider="fireworks", model="m")
    told({"reasoning": "required"}, provider="xai", model="grok-3-mini")
    told({"top_logprobs": 20}, provider="openai", model="gpt-5.4")
    off = {"provider": "deepseek", "model": "m", "extra_body": {"thinking": {"type": "disabled"}}}
    wanted = parse_recipe({"name": "r", "teacher": {"t": off}, "harvest": {"top_logprobs": 5}})
    assert checked_for("t", wanted.teacher["t"], wanted.harvest).logprobs == "openai"
