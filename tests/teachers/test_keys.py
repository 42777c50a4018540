"""Keys come from the environment, else from the .env file that the recipe names, and are never shown."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from r1distill.errors import InputError, RecipeError
from r1distill.recipe import Recipe, parse_recipe, resolved_json
from r1distill.teachers.keys import api_key, env_values

SECRET = "topsecret42"


def recipe(folder: Path, env_file: str | None = ".env") -> Recipe:
    return parse_recipe({"name": "r", **({"env_file": env_file} if env_file else {})}, folder=folder)


@pytest.fixture(autouse=True)
def no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SOME_KEY", raising=False)


def test_the_environment_holds_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SOME_KEY", f" {SECRET} \n")
    assert api_key("SOME_KEY", "teacher.t") == SECRET
    assert api_key("SOME_KEY", "teacher.t", recipe(tmp_path, "gone.env")) == SECRET  # the file is not needed
    assert api_key(None, "teacher.t") == "none"


@pytest.mark.parametrize("value", ["", "  "])
def test_a_missing_key_is_asked_for_by_name(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("SOME_KEY", value)
    with pytest.raises(
        RecipeError, match=r"teacher\.t wants its key .* SOME_KEY, which is not set: export SOME_KEY="
    ) as caught:
        api_key("SOME_KEY", "teacher.t")
    assert caught.value.exit_code == 2


@pytest.mark.parametrize(
    "text",
    [
        f"SOME_KEY={SECRET}",
        f"# keys\nexport SOME_KEY='{SECRET}'  # mine\nOTHER=x\n",
        f'\ufeffSOME_KEY="{SECRET}"\r\n',
    ],
)
def test_the_env_file_holds_it(tmp_path: Path, text: str) -> None:
    (tmp_path / ".env").write_text(text, encoding="utf-8", newline="")
    assert api_key("SOME_KEY", "teacher.t", recipe(tmp_path)) == SECRET
    assert "SOME_KEY" not in os.environ  # children and other packages get nothing of it
    assert SECRET not in resolved_json(recipe(tmp_path))


def test_the_environment_goes_first(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("SOME_KEY=from-the-file\n")
    monkeypatch.setenv("SOME_KEY", SECRET)
    assert api_key("SOME_KEY", "teacher.t", recipe(tmp_path)) == SECRET


def test_values_are_taken_literally(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME_MADE", "no")
    (tmp_path / ".env").write_text("SOME_KEY=a${HOME_MADE}b$c\n")
    assert env_values(tmp_path / ".env") == {"SOME_KEY": "a${HOME_MADE}b$c"}


def test_the_file_is_named_when_it_lacks_the_key_or_is_not_there(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text(f"OTHER={SECRET}\nSOME_KEY=\n")
    with pytest.raises(
        RecipeError, match=r"SOME_KEY, which neither the environment nor .*\.env has"
    ) as caught:
        api_key("SOME_KEY", "teacher.t", recipe(tmp_path))
    assert SECRET not in str(caught.value)
    with pytest.raises(InputError, match=r"There is no file .*keys\.env"):
        api_key("SOME_KEY", "teacher.t", recipe(tmp_path, "keys.env"))
    with pytest.raises(InputError, match="There is no file"):
        api_key("SOME_KEY", "teacher.t", recipe(tmp_path, "."))


def test_a_file_that_is_no_text_is_refused_without_quoting_it(tmp_path: Path) -> None:
    (tmp_path / ".env").write_bytes(b"SOME_KEY=" + SECRET.encode() + b"\xff\xfe")
    with pytest.raises(InputError, match="no UTF-8") as caught:
        api_key("SOME_KEY", "teacher.t", recipe(tmp_path))
    assert SECRET not in str(caught.value)
    assert caught.value.__cause__ is None


@pytest.mark.parametrize(
    "value", [f"{SECRET} # comment", f"{SECRET}\nX-Header: 1", f"{SECRET}é", f"{SECRET}\x1b"]
)
def test_what_can_t_be_sent_is_refused_and_never_shown(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("SOME_KEY", value)
    with pytest.raises(RecipeError, match="SOME_KEY holds can't be a key") as caught:
        api_key("SOME_KEY", "teacher.t")
    assert SECRET not in str(caught.value)
