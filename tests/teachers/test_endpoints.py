"""What a teacher's recipe table may ask of its provider, what is said before the first request, and how it is then asked."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from r1distill.errors import InputError, RecipeError
from r1distill.recipe import Recipe, parse_recipe
from r1distill.teachers.addresses import unencrypted
from r1distill.teachers.client import Endpoint
from r1distill.teachers.endpoints import (
    checked,
    clean_url,
    model_key,
    open_endpoint,
    plain_http,
)
from r1distill.teachers.provider_row import Known
from r1distill.teachers.providers import PROVIDERS
from r1distill.teachers.request_rules import merged


def recipe(folder: Path = Path(), **teacher: Any) -> Recipe:
    return parse_recipe({"name": "r", "teacher": {"t": teacher}}, folder=folder)


def check(**teacher: Any) -> None:
    checked("t", recipe(**teacher).teacher["t"])


HTTP = {"provider": "openai-compatible", "base_url": "https://host/v1", "model": "m"}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"model": None}, "needs a model"),
        ({"base_url": None}, "needs a base_url"),
        ({"adapter": "a.gguf"}, "adapter works with"),
        ({"sampling": {"logprobs": True}}, r"logprobs: .*use harvest\.top_logprobs"),
        ({"extra_body": {"top_logprobs": 5}}, r"use harvest\.top_logprobs"),
        ({"provider": "embedded", "model": None}, "base_url can't go with"),
        ({"provider": "local", "base_url": None, "api_key_env": "K"}, "api_key_env can't go with"),
        ({"provider": "local", "base_url": None, "model": None}, "a checkpoint folder or a hub name"),
        ({"provider": "local", "base_url": None, "adapter": "a.gguf"}, "adapter works with"),
        ({"provider": "azure", "base_url": None}, r"as https://RESOURCE\.openai\.azure\.com/openai/v1"),
        ({"base_url": "ftp://host"}, "no http"),
        ({"base_url": "https://user:hunter22@host/v1"}, "user name"),
        ({"base_url": "https://host/v1?key=hunter22"}, "must not carry"),
        ({"base_url": "http://host:notaport/v1"}, "no http"),
        ({"sampling": {"n": 2}}, "harvest.samples"),
        ({"sampling": {"stream": True}}, "can't set stream"),
        ({"extra_body": {"messages": []}}, "can't set messages"),
        ({"extra_body": {"max_tokens": 9}}, "belongs into sampling"),
        ({"sampling": {"max_tokens": "many"}}, "whole number"),
        ({"sampling": {"max_tokens": 0}}, "at least 1"),
        ({"sampling": {"max_completion_tokens": True}}, "whole number"),
    ],
)
def test_a_faulty_teacher_is_refused_before_anything_is_asked(change: dict[str, Any], said: str) -> None:
    with pytest.raises(RecipeError, match=said) as caught:
        check(**{**HTTP, **change})
    assert "hunter22" not in str(caught.value)


def test_what_is_right_passes() -> None:
    check(**HTTP, sampling={"max_tokens": 5, "temperature": 0.6}, extra_body={"provider": {"only": ["x"]}})
    check(provider="deepseek", model="deepseek-flash")
    check(provider="embedded")


def test_clean_url_drops_the_last_slash_only() -> None:
    assert clean_url("https://host:8000/v1/", "t") == "https://host:8000/v1"
    assert clean_url("http://[::1]:8000/v1", "t") == "http://[::1]:8000/v1"


@pytest.mark.parametrize(
    ("url", "key", "warned"),
    [
        ("http://example.com/v1", "K", True),
        ("http://10.0.0.2/v1", "K", True),
        ("http://example.com/v1", None, False),
        ("https://example.com/v1", "K", False),
        ("http://127.0.0.1/v1", "K", False),
        ("http://localhost:8000/v1", "K", False),
        ("http://[::1]/v1", "K", False),
    ],
)
def test_a_key_over_plain_http_is_warned_about(url: str, key: str | None, warned: bool) -> None:
    teacher = recipe(**{**HTTP, "base_url": url, "api_key_env": key}).teacher["t"]
    assert (plain_http("t", teacher) is not None) == warned


def test_the_model_key_of_local_weights_is_their_digest(tmp_path: Path) -> None:
    (tmp_path / "m.gguf").write_bytes(b"weights")
    (tmp_path / "a.gguf").write_bytes(b"adapter")
    plain = recipe(tmp_path, provider="embedded", model="m.gguf")
    adapted = recipe(tmp_path, provider="embedded", model="m.gguf", adapter="a.gguf")
    key = model_key("t", plain.teacher["t"], plain)
    assert key.startswith("m.gguf@")
    assert model_key("t", adapted.teacher["t"], adapted).startswith(key + "+")
    (tmp_path / "m.gguf").write_bytes(b"weightz")
    assert model_key("t", plain.teacher["t"], plain) != key


def test_missing_weights_are_named(tmp_path: Path) -> None:
    wanted = recipe(tmp_path, provider="embedded", model="none.gguf")
    with pytest.raises(InputError, match=r"none\.gguf"):
        model_key("t", wanted.teacher["t"], wanted)
    (tmp_path / "m.gguf").write_bytes(b"w")
    adapted = recipe(tmp_path, provider="embedded", model="m.gguf", adapter="gone.gguf")
    with pytest.raises(InputError, match=r"gone\.gguf"):
        model_key("t", adapted.teacher["t"], adapted)


def test_the_key_comes_from_the_environment_variable(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    named = recipe(**HTTP, api_key_env="SOME_KEY")
    monkeypatch.delenv("SOME_KEY", raising=False)
    with (
        pytest.raises(RecipeError, match="SOME_KEY"),
        open_endpoint("t", named.teacher["t"], named, tmp_path / "log"),
    ):
        pass
    monkeypatch.setenv("SOME_KEY", "  abc\n")
    with open_endpoint("t", named.teacher["t"], named, tmp_path / "log") as endpoint:
        assert (endpoint.key, endpoint.base_url, endpoint.local) == ("abc", "https://host/v1", False)
    keyless = recipe(**HTTP)
    with open_endpoint("t", keyless.teacher["t"], keyless, tmp_path / "log") as endpoint:
        assert endpoint.key == "none"


@pytest.mark.parametrize(
    ("name", "model", "fields", "said"),
    [
        (
            "openai",
            "o3",
            {"max_tokens": 9},
            r"openai refuses max_tokens for o3 \(source: openai .*; write max_completion_tokens",
        ),
        ("openai", "gpt-5-mini", {"temperature": 0.6}, "refuses temperature other than 1 for gpt-5-mini"),
        ("openai", "gpt-5", {"temperature": 0.6, "reasoning_effort": "none"}, "refuses temperature"),
        ("openai", "gpt-5.4", {"top_p": 0.9, "reasoning_effort": "high"}, "refuses top_p for gpt-5.4"),
        ("openai", "gpt-6-sol", {"presence_penalty": 1}, "refuses presence_penalty"),
        ("moonshot", "kimi-k3", {"temperature": 0.6}, "refuses temperature other than 1 for kimi-k3"),
        ("groq", "m", {"logit_bias": {"1": 2}}, r"refuses logit_bias \(source: https://console.groq.com"),
        (
            "groq",
            "m",
            {"reasoning_format": "raw", "include_reasoning": True},
            "only one of reasoning_format and include_reasoning",
        ),
        (
            "fireworks",
            "m",
            {"thinking": {}, "reasoning_effort": "low"},
            "only one of thinking and reasoning_effort",
        ),
        (
            "ollama",
            "m",
            {"max_completion_tokens": 9},
            "ollama ignores max_completion_tokens .*; write max_tokens",
        ),
        ("mistral", "m", {"max_completion_tokens": 9}, "write max_tokens"),
        ("xai", "grok-4.7", {"stop": ["x"]}, "refuses stop for grok-4.7"),
        ("transformers-serve", "m", {"top_k": 5}, "refuses top_k"),
    ],
)
def test_what_a_provider_refuses_is_named_with_its_source(
    name: str, model: str, fields: dict[str, Any], said: str
) -> None:
    for place in ("sampling", "extra_body")[: 1 if "max_" in str(fields) else 2]:
        with pytest.raises(RecipeError, match=said) as caught:
            check(provider=name, model=model, **{place: fields})
        assert "2026" in str(caught.value)


@pytest.mark.parametrize(
    ("name", "model", "fields"),
    [
        ("openai", "o3", {"max_completion_tokens": 9, "temperature": 1, "reasoning_effort": "high"}),
        ("openai", "gpt-5-chat-latest", {"max_tokens": 9, "temperature": 0.6}),
        ("openai", "gpt-4.1", {"max_tokens": 9, "top_p": 0.9}),
        ("openai", "gpt-5.4", {"temperature": 0.6, "top_p": 0.9}),
        ("openai", "gpt-5.4", {"temperature": 0.6, "reasoning_effort": "none"}),
        ("moonshot", "kimi-k3", {"temperature": 1.0}),
        ("moonshot", "moonshot-v1-8k", {"temperature": 0.3}),
        ("fireworks", "m", {"max_tokens": 9, "thinking": {"type": "enabled"}}),
        ("ollama", "m", {"max_tokens": 9}),
        ("xai", "grok-3-mini", {"stop": ["x"]}),
        ("azure", "o3", {"max_tokens": 9, "temperature": 0.1}),
    ],
)
def test_what_it_takes_passes(name: str, model: str, fields: dict[str, Any]) -> None:
    url = {"base_url": "https://mine.openai.azure.com/openai/v1"} if name == "azure" else {}
    check(provider=name, model=model, sampling=fields, **url)


def opened(monkeypatch: pytest.MonkeyPatch, **teacher: Any) -> Endpoint:
    monkeypatch.setenv("K", "abc")
    whole = recipe(**{"model": "m", "api_key_env": "K", **teacher})
    with open_endpoint("t", whole.teacher["t"], whole, Path("log")) as endpoint:
        return endpoint


def test_the_endpoint_is_filled_from_the_row(monkeypatch: pytest.MonkeyPatch) -> None:
    azure = opened(monkeypatch, provider="azure", base_url="https://mine.openai.azure.com/openai/v1/")
    assert (azure.key_header, azure.key, azure.base_url) == (
        "api-key",
        "abc",
        "https://mine.openai.azure.com/openai/v1",
    )
    assert opened(monkeypatch, provider="dashscope").must_stream
    assert opened(monkeypatch, provider="xai").reasoning_apart
    assert opened(monkeypatch, provider="ollama").ceiling_key == "max_tokens"
    plain = opened(monkeypatch, **HTTP)
    assert plain == Endpoint("https://host/v1", "abc", "m", extra_body={})


@pytest.mark.parametrize("name", [name for name, row in PROVIDERS.items() if row.kind == "http"])
def test_a_guessed_row_asks_as_any_endpoint_would(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    guess = Known("unchecked", "somebody said so", "2026-11-22")
    rules = tuple(rule._replace(known=guess) for rule in PROVIDERS[name].rules)
    pairs = tuple(pair._replace(known=guess) for pair in PROVIDERS[name].exclusive)
    monkeypatch.setitem(
        PROVIDERS, name, PROVIDERS[name]._replace(known={"*": guess}, rules=rules, exclusive=pairs)
    )
    odd = {
        "temperature": 0.3,
        "max_tokens": 5,
        "stop": ["x"],
        "top_k": 5,
        "seed": 1,
    }
    sent = {"sampling": odd, "base_url": "https://host/v1"}
    assert opened(monkeypatch, provider=name, **sent) == opened(
        monkeypatch, provider="openai-compatible", **sent
    )


def test_openrouter_asks_for_distillable_models_unless_told_otherwise(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def body(**extra: Any) -> Any:
        return opened(monkeypatch, provider="openrouter", extra_body=extra).extra_body

    assert body() == {"provider": {"enforce_distillable_text": True}}
    assert body(provider={"only": ["x"]})["provider"] == {"only": ["x"], "enforce_distillable_text": True}
    assert body(provider={"enforce_distillable_text": False})["provider"] == {
        "enforce_distillable_text": False
    }
    assert body(reasoning={"effort": "high"}).keys() == {"provider", "reasoning"}


def test_merging_leaves_both_sides_as_they_were() -> None:
    under: dict[str, Any] = {"a": {"b": 1, "c": {"d": 2}}}
    over: dict[str, Any] = {"a": {"c": {"e": 3}}, "f": 4}
    assert merged(under, over) == {"a": {"b": 1, "c": {"d": 2, "e": 3}}, "f": 4}
    assert (under, over) == ({"a": {"b": 1, "c": {"d": 2}}}, {"a": {"c": {"e": 3}}, "f": 4})
    assert merged({"a": {"b": 1}}, {"a": 0}) == {"a": 0}


def test_a_row_s_own_address_and_key_count_for_the_warning() -> None:
    deepseek = recipe(provider="deepseek", model="m", base_url="http://proxy.example/v1")
    assert "proxy.example" in str(plain_http("t", deepseek.teacher["t"]))  # by the row's key variable
    ollama = recipe(provider="ollama", model="m", api_key_env="K")
    assert plain_http("t", ollama.teacher["t"]) is None  # localhost by the row
    assert plain_http("t", recipe(provider="embedded").teacher["t"]) is None
    assert unencrypted("student", "http://192.168.1.5:8000/v1") is not None
    assert unencrypted("student", "http://[::ffff:127.0.0.1]/v1") is None


def test_the_model_key_of_a_checkpoint_is_its_weights_digest(tmp_path: Path) -> None:
    folder = tmp_path / "ckpt"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(b"weights")
    whole = recipe(tmp_path, provider="local", model="ckpt")
    key = model_key("t", whole.teacher["t"], whole)
    assert key.startswith("ckpt@")
    (folder / "model.safetensors").write_bytes(b"weightz")
    assert model_key("t", whole.teacher["t"], whole) != key


def test_a_checkpoint_that_is_not_there_is_named(tmp_path: Path) -> None:
    (tmp_path / "bare").mkdir()
    (tmp_path / "m.gguf").write_bytes(b"w")
    for model, said in (
        ("bare", "no config.json"),
        ("./none/x/y", "no checkpoint folder"),
        ("m.gguf", '"embedded"'),
    ):
        whole = recipe(tmp_path, provider="local", model=model)
        with pytest.raises(InputError, match=said):
            model_key("t", whole.teacher["t"], whole)
