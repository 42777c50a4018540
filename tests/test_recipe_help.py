"""The help of the recipe is made from the code, so it is whole: every key has a doc, a type and a default or a duty."""

from __future__ import annotations

from r1distill.checks import CHECKS
from r1distill.recipe import Recipe
from r1distill.recipe_faults import known_keys
from r1distill.recipe_help import WIDTH, explain, keys
from r1distill.shipped import shipped_folder


def test_every_key_of_every_section_and_check_has_a_doc() -> None:
    found = {key.name: key for key in keys()}
    expected = {key.replace("*", "NAME") for key in known_keys(Recipe) if not key.endswith("*")}
    expected |= {
        f"filter.checks.{name}.{field}" for name, check in CHECKS.items() for field in check.model_fields
    }
    assert set(found) == expected
    assert [
        name for name, key in found.items() if len(key.doc) < 10 or not key.doc.endswith((".", ")", "v1"))
    ] == []
    assert not {"folder", "source"} & set(found)


def test_units_types_and_defaults() -> None:
    found = {key.name: key for key in keys()}
    timeout = found["harvest.idle_timeout_s"]
    assert (timeout.type, timeout.unit, timeout.default) == ("number", "seconds", "default 120.0")
    assert found["name"].default == "required"
    assert found["harvest.assign"].type == '"all" or "mix" or "tag" or "fallback"'
    assert found["evaluate.problems"].type == "text or table of texts"
    assert found["prompts.limit"].type == "whole number"
    assert found["prompts.limit"].default == ""
    assert found["train.lora"].default.startswith("default { r = 16, ")
    assert found["teacher"].type == "tables by name"
    assert found["filter.checks.contamination.benchmarks"].type == "list of text"


def test_the_text_is_readable() -> None:
    text = explain()
    assert max(map(len, text.splitlines())) <= WIDTH + 10
    assert all(key.name in text for key in keys())
    assert not any(word in text for word in ("Literal", "Optional", "NoneType", "dict["))


def test_template_doc_names_what_is_shipped() -> None:
    doc = next(key.doc for key in keys() if key.name == "prompts.template")
    shipped = {path.stem for path in shipped_folder("prompts").glob("*.jinja")}
    assert shipped <= set(doc.replace(",", " ").replace(".", " ").split())
