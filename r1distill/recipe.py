"""recipe.toml -> Recipe: everything a run is told, checked before anything is paid for.

In: a TOML file and `--set section.key=value` overrides. Out: a frozen Recipe (pydantic), whose tables are in
recipe_sections.py and whose relative paths are resolved against the recipe's folder. Unknown keys are errors that suggest
the right one (recipe_faults.py).
"""

from __future__ import annotations

import json
import os
import re
import tomllib
from pathlib import Path
from typing import Any

from pydantic import Field, field_validator, model_validator

from r1distill.errors import InputError, RecipeError
from r1distill.recipe_faults import validated as validated
from r1distill.recipe_sections import (
    EvaluateSection,
    FilterSection,
    HarvestSection,
    PromptsSection,
    Section,
    StudentSection,
    TeacherSection,
    TrainSection,
)


class Recipe(Section):
    """A whole run."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    """Name of the run folder: runs/NAME beside the recipe, unless --run says otherwise."""
    env_file: str | None = None
    """A .env file with keys, for those that are not in the environment; it is read, never copied."""
    prompts: PromptsSection | None = None
    """The problems and the template."""
    teacher: dict[str, TeacherSection] = Field(default_factory=dict)
    """One table per teacher: [teacher.r1]."""
    judge: dict[str, TeacherSection] = Field(default_factory=dict)
    """Models that only judge, with the keys of a teacher: [judge.critic]; the check judge names them, the harvest never asks
    them."""
    harvest: HarvestSection = Field(default_factory=HarvestSection)
    """Answers per problem, pace, timeouts."""
    filter: FilterSection = Field(default_factory=FilterSection)
    """Checks and selection."""
    student: StudentSection | None = None
    """The model to fine-tune."""
    train: TrainSection = Field(default_factory=TrainSection)
    """Objective, LoRA, SFT settings."""
    evaluate: EvaluateSection | None = None
    """Held-out problems and sampling."""
    folder: Path = Field(default=Path(), exclude=True, repr=False)
    """What relative paths are relative to."""
    source: Path | None = Field(default=None, exclude=True, repr=False)
    """The file it was read from; None when it came from a run folder or from Python."""

    @field_validator("teacher", "judge")
    @classmethod
    def _teacher_names(cls, teachers: dict[str, TeacherSection]) -> dict[str, TeacherSection]:
        for name in teachers:
            if not re.fullmatch(r"[A-Za-z0-9._-]+", name):
                raise ValueError(f"{name!r} is no teacher name: use letters, digits, dot, dash, underscore")
        return teachers

    @model_validator(mode="after")
    def _one_name_one_model(self) -> Recipe:
        both = [name for name in self.judge if name in self.teacher]
        if both:
            raise ValueError(
                f"[judge.{both[0]}] and [teacher.{both[0]}] have one name: call one of them otherwise"
            )
        return self

    def path(self, text: str) -> Path:
        """`text` as a path, relative to the recipe's folder; ~ is the home folder."""
        path = Path(text)
        return Path(os.path.expanduser(path)) if text.startswith("~") else self.folder / path  # noqa: PTH111 - never raises


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
