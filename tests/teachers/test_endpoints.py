"""The provider table and the checks of a teacher's recipe table."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from r1distill.errors import InputError, RecipeError
from r1distill.recipe import Recipe, parse_recipe
from r1distill.teachers.endpoints import checked, clean_url, model_key, open_endpoint, plain_http
from r1distill.teachers.providers import PROVIDERS, provider


def recipe(folder: Path = Path(), **teacher: Any) -> Recipe:
    return parse_recipe({"name": "r", "teacher": {"t": teacher}}, folder=folder)


def check(**teacher: Any) -> None:
    checked("t", recipe(**teacher).teacher["t"])


HTTP = {"provider": "openai-compatible", "base_url": "https://host/v1", "model": "m"}


def test_every_row_names_its_source_and_is_reachable_by_its_name() -> None:
    for name, row in PROVIDERS.items():
        assert row.source, name
        assert provider(name) is row
        assert row.base_url is None or clean_url(row.base_url, name) == row.base_url


def test_an_unknown_provider_gets_a_suggestion() -> None:
    with pytest.raises(RecipeError, match="did you mean 'deepseek'"):
        provider("deepseak")
    with pytest.raises(RecipeError, match="openai-compatible"):
        provider("zzz")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"model": None}, "needs a model"),
        ({"base_url": None}, "needs a base_url"),
        ({"adapter": "a.gguf"}, "adapter works with"),
        ({"provider": "deepseek", "sampling": {"logprobs": True}}, "refuses logprobs"),
        ({"base_url": "ftp://host"}, "no http"),
        ({"base_url": "https://user:hunter22@host/v1"}, "user name"),
        ({"base_url": "https://host/v1?key=hunter22"}, "must not carry"),
        ({"base_url": "http://host:notaport/v1"}, "no http"),
        ({"sampling": {"n": 2}}, "harvest.samples"),
        ({"sampling": {"stream": True}}, "can't set stream"),
        ({"extra_body": {"messages": []}}, "can't set messages"),
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
