"""The provider table: every cell has a source, every row a reply in its shape, and a guess never changes a request."""

from __future__ import annotations

import datetime
import json
from pathlib import Path
from typing import Any

import pytest

from r1distill.errors import RecipeError
from r1distill.recipe_values import sampling
from r1distill.teachers.addresses import clean_url
from r1distill.teachers.provider_row import Exclusive, Known, Note, Provider, Rule, certain, matches
from r1distill.teachers.providers import (
    MODEL_NOTES,
    PROVIDERS,
    by_host,
    logprobs_body,
    provider,
    terms,
)
from r1distill.teachers.replies import Reply, parse_reply, reply_of
from r1distill.teachers.stream import Gathered

FIXTURES = Path(__file__).parent / "fixtures"
NAMES = sorted(PROVIDERS)
WANTED = {
    *("deepseek", "openrouter", "together", "fireworks", "groq", "azure", "bedrock", "mistral", "dashscope", "moonshot"),
    *("ollama", "vllm", "sglang", "llama.cpp", "transformers-serve", "nvidia", "lmstudio", "openai", "xai", "gemini"),
    *("openai-compatible", "embedded", "local"),
}  # fmt: skip
GUESS = Known("unchecked", "somebody said so", "2026-11-22")


def fixture(name: str) -> dict[str, Any]:
    data: dict[str, Any] = json.loads((FIXTURES / f"{name}.json").read_text())
    return data


def sources(row: Provider) -> list[Known]:
    parts: tuple[Rule | Exclusive | Note, ...] = (*row.rules, *row.exclusive, *row.notes)
    return [*row.known.values(), *(part.known for part in parts)]


def test_the_table_is_whole() -> None:
    assert set(PROVIDERS) == WANTED
    assert {
        path.stem for path in FIXTURES.glob("*.json")
    } == WANTED  # no row without a reply, no reply without a row


@pytest.mark.parametrize("name", NAMES)
def test_every_cell_has_a_source_and_a_date(name: str) -> None:
    row = PROVIDERS[name]
    assert "*" in row.known
    assert set(row.known) <= {"*", *Provider._fields}
    for known in [*sources(row), *(note.known for note in MODEL_NOTES)]:
        assert known.where.strip()
        assert datetime.date.fromisoformat(known.date) <= datetime.date(2026, 12, 31)
    data = fixture(name)
    assert data["_source"].startswith("Written, not recorded, from: ")
    assert datetime.date.fromisoformat(data["_date"])


@pytest.mark.parametrize("name", NAMES)
def test_the_row_is_reachable(name: str) -> None:
    row = provider(name)
    for url in filter(None, (row.base_url, row.base_url_like)):
        assert clean_url(url, name) == url
    if row.hosts:
        assert by_host(row.base_url or row.base_url_like) == name
    assert (
        row.kind != "http" or row.base_url or name in ("azure", "bedrock", "llama.cpp", "openai-compatible")
    )


def check_reply(name: str, reply: Reply, streamed: bool) -> None:
    usage = reply.usage
    assert {
        "reasoning": reply.split.reasoning, "answer": reply.split.answer, "finish": reply.finish,
        "prompt_tokens": usage.prompt_tokens, "completion_tokens": usage.completion_tokens,
        "reasoning_tokens": usage.reasoning_tokens, "cached_tokens": usage.cached_tokens, "cost_usd": reply.cost_usd,
    } == fixture(name)["_expect"], f"{name}, {'streamed' if streamed else 'in one piece'}"  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_its_reply_is_read(name: str) -> None:
    data = fixture(name)
    check_reply(name, parse_reply(json.dumps(data).encode()), streamed=False)
    message, places = data["choices"][0]["message"], PROVIDERS[name].reasoning
    beside = {
        field for field in ("reasoning", "reasoning_content", "reasoning_details") if message.get(field)
    }
    listed = {"content list"} if isinstance(message["content"], list) else set()
    inline = {"inline"} if data["_expect"]["reasoning"] and not beside | listed else set()
    assert beside | listed | inline <= set(places)


@pytest.mark.parametrize("name", [name for name in NAMES if "_stream" in fixture(name)])
def test_its_stream_is_read(name: str) -> None:
    gathered = Gathered()
    for event in fixture(name)["_stream"]:
        gathered.feed((event if isinstance(event, str) else f"data: {json.dumps(event)}").encode() + b"\n\n")
    gathered.feed(b"data: [DONE]\n\n")
    check_reply(name, reply_of(gathered.end()), streamed=True)


@pytest.mark.parametrize("name", NAMES)
def test_a_guess_is_never_acted_on(name: str) -> None:
    row = PROVIDERS[name]
    guessed = row._replace(
        known={"*": GUESS},
        rules=tuple(rule._replace(known=GUESS) for rule in row.rules),
        exclusive=tuple(pair._replace(known=GUESS) for pair in row.exclusive),
    )
    told = {"kind": row.kind, "base_url_like": row.base_url_like, "notes": row.notes}
    assert certain(guessed) == Provider(known={"*": GUESS})._replace(**told)
    for cell in set(Provider._field_defaults) - {"kind", "base_url_like", "rules", "exclusive", "notes"}:
        one = certain(row._replace(known={**row.known, cell: GUESS}))
        assert getattr(one, cell) == Provider._field_defaults[cell]
    for cell, known in row.known.items():
        if known.how == "unchecked":
            assert getattr(provider(name), cell) == Provider._field_defaults[cell]


def test_a_row_whose_cells_are_known_is_left_as_it_is() -> None:
    assert provider("openrouter") == PROVIDERS["openrouter"]
    assert provider("azure") != PROVIDERS["azure"]  # where its reasoning stands is a guess
    assert provider("azure").reasoning == ()


def test_an_unknown_provider_gets_a_suggestion() -> None:
    with pytest.raises(RecipeError, match="did you mean 'deepseek'"):
        provider("deepseak")
    with pytest.raises(RecipeError, match="openai-compatible"):
        provider("zzz")


def test_models_are_matched_by_their_last_name() -> None:
    assert matches("openai/GPT-5-mini", ("gpt-5*",))
    assert not matches("gpt-5-chat-latest", ("gpt-5*", "!gpt-5-chat*"))
    assert not matches("gpt-4o", ("gpt-5*",))
    assert matches("o4-mini", ("o[0-9]*",))
    assert not matches("olmo-3", ("o[0-9]*",))


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("https://api.openai.com/v1", "openai"),
        ("https://eu.api.openai.com/v1", "openai"),
        ("https://mine.openai.azure.com/openai/v1", "azure"),
        ("https://bedrock-runtime.eu-west-1.amazonaws.com/openai/v1", "bedrock"),
        ("https://dashscope-intl.aliyuncs.com/compatible-mode/v1", "dashscope"),
        ("https://api.openai.com.example.org/v1", None),
        ("http://localhost:8000/v1", None),
    ],
)
def test_hosts_are_recognised(url: str, name: str | None) -> None:
    assert by_host(url) == name


@pytest.mark.parametrize(
    ("url", "model", "words"),
    [
        ("https://api.openai.com/v1", "o3", "OpenAI's terms"),
        ("https://mine.openai.azure.com/openai/v1", "dep", "Azure"),
        ("https://api.x.ai/v1", "grok-4.7", "xAI"),
        ("https://generativelanguage.googleapis.com/v1beta/openai", "gemini-3.5-flash", "Google"),
        ("https://api.anthropic.com/v1", "m", "Anthropic"),
        ("https://openrouter.ai/api/v1", "anthropic/m", "Anthropic"),
        ("https://openrouter.ai/api/v1", "openai/o3", "OpenAI"),
        ("https://openrouter.ai/api/v1", "x-ai/grok", "xAI"),
        ("https://openrouter.ai/api/v1", "deepseek/deepseek-v4-pro", ""),
        ("https://api.deepseek.com", "deepseek-flash", ""),
        ("http://localhost:8000/v1", "openai/gpt-oss-20b", ""),
    ],
)
def test_terms_are_told_where_they_restrict_training(url: str, model: str, words: str) -> None:
    said = terms(url, model)
    assert words in said
    assert bool(said) == bool(words)


def test_log_probabilities_are_asked_in_the_provider_s_way() -> None:
    assert logprobs_body(provider("vllm"), 20) == {"logprobs": True, "top_logprobs": 20}
    assert logprobs_body(provider("together"), 5) == {"logprobs": 5}
    assert logprobs_body(provider("vllm"), 0) == {}


def test_no_field_that_a_provider_knows_is_taken_for_a_mistyped_one() -> None:
    for row in PROVIDERS.values():
        fields = {field for rule in (*row.rules, *row.exclusive) for field in rule.fields}
        for field in fields - {"max_tokens", "max_completion_tokens"}:
            assert sampling({field: 1}) == {field: 1}, row.name
