"""Recipes: every fault is one sentence that names the key; nothing secret is written; relative paths hold."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from r1distill.errors import InputError, RecipeError
from r1distill.recipe import Recipe, load_recipe, parse_recipe, resolved_json
from r1distill.recipe_faults import known_keys

FULL = """
name = "math-r1"
[prompts]
problems = "data/problems.jsonl"
template = "prompts/math.jinja"
columns = { question = "problem" }
[teacher.r1]
provider = "openai-compatible"
base_url = "https://host/v1"
model = "m"
api_key_env = "SOME_KEY"
sampling = { max_tokens = 64, temperature = 0.6, stop = ["###"] }
price = { input = 1, output = 2.5 }
[teacher."r.2"]
provider = "embedded"
[filter.checks.length]
max_tokens = 99
[student]
base = "embedded"
[train]
sft = { learning_rate = 2e-4 }
[evaluate]
problems = { heldout = "h.jsonl" }
"""


def write(folder: Path, text: str) -> Path:
    path = folder / "recipe.toml"
    path.write_text(text)
    return path


def fault(folder: Path, text: str, *overrides: str) -> str:
    with pytest.raises(RecipeError) as caught:
        load_recipe(write(folder, text), overrides)
    message = str(caught.value)
    assert message.endswith((".", "?"))
    assert "\n" not in message
    return message


def test_full_recipe(tmp_path: Path) -> None:
    recipe = load_recipe(write(tmp_path, FULL))
    assert recipe.teacher["r1"].price is not None
    assert recipe.teacher["r1"].price.output == 2.5
    assert recipe.path("data/problems.jsonl") == tmp_path / "data/problems.jsonl"
    assert recipe.path("/x/y") == Path("/x/y")
    assert recipe.path("~/y") == Path.home() / "y"
    assert recipe.source == tmp_path / "recipe.toml"


BASE = 'name = "x"\n[teacher.r1]\nprovider = "embedded"\n'
PROBLEMS = '[prompts]\nproblems = "p.jsonl"\n'


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('nmae = "x"', "unknown key 'nmae'; did you mean 'name'?"),
        (
            BASE + "smapling = { top_p = 1 }",
            "unknown key 'teacher.r1.smapling'; did you mean 'teacher.r1.sampling'?",
        ),
        (BASE + "price = { inptu = 1, output = 1 }", "'teacher.r1.price.input'"),
        (
            'name = "x"\n[teachers.r1]\nprovider = "embedded"',
            "unknown key 'teachers'; did you mean 'teacher'?",
        ),
        ('name = "x"\n[harvest]\nper_prompt = 1', "did you mean 'filter.select.per_prompt'?"),
        ('name = "x"\n[harvest]\nprovder = "y"', "did you mean 'teacher.NAME.provider'?"),
        ('name = "x"\n[harvest]\nqqq = 1', "unknown key 'harvest.qqq'."),
        ('name = "x"\nfolder = "y"', "unknown key 'folder'"),
        ("[harvest]\nsamples = 1", "the key 'name' is missing"),
        ('name = "x"\n[teacher.r1]\nmodel = "m"', "the key 'teacher.r1.provider' is missing"),
        ('name = "x"\n[harvest]\nsamples = "4"', "'harvest.samples': should be a valid integer"),
        ('name = "x"\n[harvest]\nsamples = 0', "'harvest.samples': should be greater than or equal to 1"),
        ('name = "x"\n[harvest]\nstream = "yes"', "'harvest.stream': should be a valid boolean"),
        (
            'name = "x"\n[harvest]\nassign = "some"',
            "'harvest.assign': should be 'all', 'mix', 'tag' or 'fallback'",
        ),
        ('name = "x"\nteacher = 3', "'teacher': should be a valid dictionary"),
        ('name = "x"\n[evaluate]\nproblems = 3', "'evaluate.problems': should be a valid string"),
        ('name = "../x"', "'name'"),
        ('name = "x"\n[teacher."a b"]\nprovider = "embedded"', "'a b' is no teacher name"),
        ('name = "x"\n[prompts]\nproblems = "p"\nhf = "h"', "'prompts': set exactly one of problems and hf"),
        ('name = "x"\n[prompts]\nlimit = 3', "'prompts': set exactly one of problems and hf"),
        (
            'name = "x"\n' + PROBLEMS + 'columns = { qestion = "q" }',
            "'prompts.columns': 'qestion' is no column",
        ),
        (
            BASE + 'sampling = { max_tokens = "64" }',
            "'teacher.r1.sampling': max_tokens must be a whole number",
        ),
        (BASE + "sampling = { max_tokens = 0 }", "max_tokens must be a whole number"),
        (
            BASE + "sampling = { temprature = 0.6 }",
            "'temprature' is no parameter that we know; did you mean 'temperature'?",
        ),
        (BASE + "sampling = { topp = 0.6 }", "did you mean 'top_p'?"),
        (BASE + "sampling = { temperature = nan }", "temperature is nan, which JSON can't hold"),
        (BASE + "sampling = { a = [{ b = inf }] }", "a[0].b is inf"),
        (BASE + "extra_body = { day = 2026-11-22 }", "'teacher.r1.extra_body': day is a date"),
        (BASE + 'base_url = "https://me:secret@host/v1"', "user name or password"),
        (BASE + 'api_key_env = "sk-abcdefghijk"', "no name of an environment variable"),
        (BASE + 'api_key_env = "gsk_abcdefghijk"', "no name of an environment variable"),
        ('name = "x', "is no valid TOML"),
        ("x = " + "9" * 5000, "is no valid TOML"),
        ("x = " + "[" * 9999, "is no valid TOML"),
    ],
)
def test_faults(tmp_path: Path, text: str, words: str) -> None:
    message = fault(tmp_path, text)
    assert words in message
    assert str(tmp_path / "recipe.toml") in message
    assert "secret" not in message
    assert "abcdefghijk" not in message


def test_several_faults_are_counted_by_key(tmp_path: Path) -> None:
    assert "(and 1 more)" in fault(tmp_path, 'name = "x"\n[harvest]\nsamples = 0\nmax_attempts = 0')
    assert "more)" not in fault(tmp_path, 'name = "x"\n[evaluate]\nproblems = 3')  # two branches, one key


def test_no_such_recipe(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="r1distill init"):
        load_recipe(tmp_path / "no.toml")
    (tmp_path / "latin.toml").write_bytes('name = "ä"'.encode("latin-1"))
    with pytest.raises(InputError, match="no UTF-8"):
        load_recipe(tmp_path / "latin.toml")
    with pytest.raises(InputError, match="directory"):
        load_recipe(tmp_path)


def test_byte_order_mark_is_read_over(tmp_path: Path) -> None:
    path = tmp_path / "recipe.toml"
    path.write_bytes(b"\xef\xbb\xbf" + b'name = "x"')
    assert load_recipe(path).name == "x"


@pytest.mark.parametrize(
    ("override", "read"),
    [
        ("harvest.samples=8", lambda r: r.harvest.samples == 8),
        ("harvest.idle_timeout_s = 2.5", lambda r: r.harvest.idle_timeout_s == 2.5),
        ("name=other", lambda r: r.name == "other"),
        ('name="other"', lambda r: r.name == "other"),
        ("teacher.r1.model=org/model:free", lambda r: r.teacher["r1"].model == "org/model:free"),
        ("teacher.r1.sampling.temperature=0", lambda r: r.teacher["r1"].sampling["temperature"] == 0),
        (
            "teacher.r1.sampling={ mirostat_tau = 5 }",
            lambda r: r.teacher["r1"].sampling == {"mirostat_tau": 5},
        ),
        ("teacher.r1.sampling={ top_p = 0.5 }", lambda r: r.teacher["r1"].sampling == {"top_p": 0.5}),
        ('teacher."r.2".parallel=2', lambda r: r.teacher["r.2"].parallel == 2),
        ("filter.select.per_prompt=1", lambda r: r.filter.select.per_prompt == 1),
        ("evaluate.models=['base']", lambda r: r.evaluate.models == ["base"]),
        ("prompts.template=a=b.jinja", lambda r: r.prompts.template == "a=b.jinja"),
    ],
)
def test_set(tmp_path: Path, override: str, read: Any) -> None:
    assert read(load_recipe(write(tmp_path, FULL), (override,)))


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("harvest.samples", "--set wants section.key=value"),
        ("=3", "--set wants section.key=value"),
        ("a..b=3", "--set wants section.key=value"),
        ("name.x=3", "'name' is a value, not a table"),
        ("harvest.smaples=3", "did you mean 'harvest.samples'?"),
        ("harvest.samples=many", "'harvest.samples'"),
    ],
)
def test_set_faults(tmp_path: Path, override: str, words: str) -> None:
    assert words in fault(tmp_path, FULL, override)


def test_set_fills_a_section_that_a_resolved_recipe_leaves_empty() -> None:
    from r1distill.recipe import apply_override

    data = json.loads(resolved_json(parse_recipe({"name": "x"})))
    apply_override(data, "student.base=embedded")
    assert parse_recipe(data).student is not None


def test_resolved_json_round_trip(tmp_path: Path) -> None:
    recipe = load_recipe(write(tmp_path, FULL))
    text = resolved_json(recipe)
    again = parse_recipe(json.loads(text), folder=tmp_path)
    assert again.model_dump() == recipe.model_dump()
    assert resolved_json(again) == text
    assert str(tmp_path) not in text


def test_keys_are_named_and_never_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_KEY", " topsecret42 \n")
    (tmp_path / ".env").write_text("SOME_KEY=topsecret42\n")
    recipe = load_recipe(write(tmp_path, FULL), ("env_file=.env",))
    assert "topsecret42" not in resolved_json(recipe) + repr(recipe)
    assert "SOME_KEY" in resolved_json(recipe)


WORDS = sorted({part for key in known_keys(Recipe) for part in key.split(".")} - {"*"})
KEYS = st.one_of(st.sampled_from(WORDS), st.text(max_size=4))
LEAVES = st.one_of(
    st.none(), st.booleans(), st.integers(-5, 5), st.floats(), st.text(max_size=6),
    st.sampled_from(["all", "math", "embedded", "x"]), st.dates(),
)  # fmt: skip
TREES = st.recursive(
    LEAVES,
    lambda kids: st.one_of(st.lists(kids, max_size=3), st.dictionaries(KEYS, kids, max_size=4)),
    max_leaves=12,
)


@settings(max_examples=150, deadline=None)
@given(st.dictionaries(KEYS, TREES, max_size=5))
def test_any_dict_gives_a_recipe_or_a_recipe_error(data: dict[str, Any]) -> None:
    try:
        recipe = parse_recipe({"name": "x", **data})
    except RecipeError as error:
        assert str(error)
    else:
        again = json.loads(resolved_json(recipe))
        assert parse_recipe(again).model_dump() == recipe.model_dump()
