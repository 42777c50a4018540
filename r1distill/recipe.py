"""recipe.toml -> Recipe: everything a run is told, checked before anything is paid for.

In: a TOML file and `--set section.key=value` overrides. Out: a frozen Recipe (pydantic, see recipe_sections.py), whose
relative paths are resolved against the recipe's folder. Unknown keys are errors that suggest the right one
(recipe_faults.py).
"""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Any

from r1distill.errors import InputError, RecipeError
from r1distill.recipe_faults import validated as validated
from r1distill.recipe_sections import Recipe as Recipe


def load_recipe(path: Path, overrides: tuple[str, ...] = ()) -> Recipe:
    """Read a recipe file. Raises RecipeError naming the key (with a suggestion) or InputError for no file."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise InputError(
            f"There is no recipe {path}; 'r1distill init DIR' writes one to start from."
        ) from None
    except OSError as error:
        raise InputError(f"{path} can't be read as a recipe: {error.strerror or error}.") from None
    except UnicodeDecodeError:
        raise InputError(f"{path} can't be read as a recipe: it is no UTF-8 text.") from None
    try:
        data = tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        raise RecipeError(f"{path} is no valid TOML: {str(error) or 'nested too deeply'}.") from None
    for override in overrides:
        apply_override(data, override)
    recipe = parse_recipe(data, where=str(path), folder=path.resolve().parent)
    return recipe.model_copy(update={"source": path.resolve()})


def parse_recipe(data: dict[str, Any], where: str = "recipe", folder: Path | None = None) -> Recipe:
    """The recipe in nested dicts, its paths relative to `folder` (default: the working folder). Raises RecipeError."""
    for hidden in ("folder", "source"):
        if hidden in data:
            raise RecipeError(f"{where}: unknown key '{hidden}'.")
    recipe = validated(Recipe, data, where)
    return recipe.model_copy(update={"folder": folder or Path.cwd()})


def apply_override(data: dict[str, Any], override: str) -> None:
    """Put `section.key=value` into `data`; the value is read as TOML, else taken as plain text. Raises RecipeError."""
    dotted, equals, text = override.partition("=")
    *tables, key = _dotted_key(dotted) if equals else [""]
    if not key:
        raise RecipeError(f"--set wants section.key=value, not {override!r}.")
    for table in tables:
        if data.get(table) is None:
            data[table] = {}
        data = data[table]
        if not isinstance(data, dict):
            raise RecipeError(f"--set {dotted.strip()}: '{table}' is a value, not a table.")
    data[key] = _toml_value(text.strip())


def _dotted_key(text: str) -> list[str]:
    """'a."b.c".d' as its parts, by TOML's own rules; [""] when it is no key."""
    try:
        inner: Any = tomllib.loads(f"{text.strip()} = 0")
    except ValueError:
        return [""]
    parts = []
    while isinstance(inner, dict) and len(inner) == 1:
        part, inner = next(iter(inner.items()))
        parts.append(part)
    return parts if inner == 0 and parts else [""]


def _toml_value(text: str) -> Any:
    try:
        found = tomllib.loads(f"value = {text}")
    except (ValueError, RecursionError):
        return text
    return found["value"] if len(found) == 1 else text


def resolved_json(recipe: Recipe) -> str:
    """The recipe with all defaults filled in, as indented JSON (no secrets: keys are only named)."""
    return json.dumps(recipe.model_dump(mode="json"), indent=2, ensure_ascii=False) + "\n"
