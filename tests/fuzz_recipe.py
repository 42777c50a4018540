"""Coverage-guided fuzzing of recipes, run by test_fuzz.py: `python fuzz_recipe.py CORPUS -max_total_time=15`.

A file of any bytes is a recipe, which as JSON is the same again, or a RecipeError or InputError of one sentence.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path

import atheris

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

with atheris.instrument_imports(include=["r1distill.recipe", "tomllib"]):
    from r1distill.errors import R1DistillError
    from r1distill.pipeline import check_recipe
    from r1distill.recipe import load_recipe, parse_recipe, resolved_json

PATH = Path(tempfile.mkdtemp()) / "recipe.toml"


def one(data: bytes) -> None:
    """One input: a line for --set, then the file."""
    override, _, text = data.partition(b"\n")
    PATH.write_bytes(text)
    try:
        recipe = load_recipe(PATH, (override.decode("utf-8", "surrogateescape"),) if override else ())
    except R1DistillError as error:
        said(error)
        return
    again = parse_recipe(json.loads(resolved_json(recipe)))
    assert again.model_dump() == recipe.model_dump()
    if b"use" in data:  # runs code of the user's own
        return
    try:
        check_recipe(recipe)
    except R1DistillError as error:
        said(error)


def said(error: R1DistillError) -> None:
    """An error is a sentence."""
    text = str(error)
    assert text.endswith((".", "?")) and "\n" not in text, repr(text)


if __name__ == "__main__":
    atheris.Setup(sys.argv, one)
    atheris.Fuzz()
