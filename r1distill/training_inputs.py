"""What a training starts from: the rows of the current filter result, the student, and the id of the stage.

In: a recipe and a run. Out: Rows, a Student, the stage's id. Nothing here imports torch or its friends.
"""

from __future__ import annotations

import hashlib
import importlib.util
from pathlib import Path
from typing import NamedTuple

import msgspec

from r1distill.errors import InputError, MissingPackageError, NothingKeptError, RecipeError
from r1distill.ledger import read_lines
from r1distill.objectives import settings
from r1distill.objectives.students import INSTALL, Student, cache_name, locate
from r1distill.recipe import Recipe
from r1distill.records import Example, digest
from r1distill.run import Run, stage_id
from r1distill.show import Show

ABOUT_FILES = (
    *("config.json", "generation_config.json", "tokenizer*.json", "*.model", "*.model.v*", "*.tiktoken", "tekken.json"),
    *("chat_template*", "additional_chat_templates/*", "special_tokens_map.json", "added_tokens.json", "vocab*", "merges*"),
)  # fmt: skip
"""What decides, beside the weights, how a student's folder reads, writes and computes."""
PACKAGES = ("torch", "transformers", "datasets", "accelerate", "peft", "trl", "gguf")


class Rows(NamedTuple):
    """The filter result as the student is to see it."""

    train: list[Example]
    validation: list[Example]
    folder: Path
    """The filter result they were read from."""


def speaks() -> bool:
    """Whether this process writes and speaks: the only one, or the first of those that train together."""
    return settings.main_process()


def speaker(show: Show | None) -> Show:
    """Who tells people; of several processes only the first one speaks."""
    return show if show is not None and settings.main_process() else Show(0)


def need_student(recipe: Recipe) -> str:
    """What the recipe calls the student. Raises RecipeError when it has none."""
    if recipe.student is None:
        raise RecipeError("The recipe has no [student] table, so there is nobody to train.")
    return recipe.student.base


def student_of(recipe: Recipe, fetch: bool = True) -> Student | None:
    """The recipe's student; None only without `fetch`, for a hub student that is not in the cache.

    Raises RecipeError (no [student]), InputError (no such student), MissingPackageError.
    """
    base = need_student(recipe)
    if fetch:
        _require_packages()
    return locate(base, recipe.folder, fetch=fetch)


def read_rows(run: Run) -> Rows:
    """The rows to train on and to validate with. Raises InputError (no filter result), NothingKeptError (no row)."""
    latest = run.latest("filter")
    if latest is None:
        raise InputError(f"{run.folder} has no filter result yet: run filter first.")
    decoder = msgspec.json.Decoder(Example)

    def rows(name: str) -> list[Example]:
        path = latest[0] / name
        return [decoder.decode(line) for _, line in read_lines(path)] if path.is_file() else []

    found = Rows(rows("train.jsonl"), rows("val.jsonl"), latest[0])
    if not found.train:
        raise NothingKeptError(
            f"The filter kept no trace to train on ({latest[0] / 'train.jsonl'} is empty); r1distill filter says which "
            "check removed how many."
        )
    return found


def _require_packages() -> None:
    missing = [name for name in PACKAGES if importlib.util.find_spec(name) is None]
    if missing:
        raise MissingPackageError(
            f"Training needs {', '.join(missing)}, not installed here; get them with: {INSTALL}"
        )


def stage_of(recipe: Recipe, student: Student | None, rows: Rows) -> str:
    """The id of a training: of its settings, our defaults under them, the base with its tokenizer, and every row."""
    what = {
        "train": recipe.train.model_dump(mode="json"),
        "defaults": settings.defaults(recipe.train),
        "base": cache_name(student) if student else None,
    }
    if student is not None and student.kind == "folder":
        what["about"] = _about_digest(student.path)
    inputs = [
        f"{part}:{example.trace_id}:{digest(msgspec.to_builtins(example))}"
        for part, examples in (("train", rows.train), ("validation", rows.validation))
        for example in examples
    ]
    return stage_id(what, inputs)


def _about_digest(folder: Path) -> str:
    """Of a student's tokenizer, chat template and configurations; a hub's commit and a GGUF's digest cover theirs."""
    names = {
        path.relative_to(folder) for pattern in ABOUT_FILES for path in folder.glob(pattern) if path.is_file()
    }
    return digest({str(name): hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in names})
