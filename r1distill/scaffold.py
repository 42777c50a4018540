"""`r1distill init`: a recipe, templates and a small problem set to start from, copied out of the package."""

from __future__ import annotations

import shutil
from pathlib import Path

from r1distill.errors import InputError, UsageError
from r1distill.ledger import storage_errors
from r1distill.shipped import shipped_folder

EXAMPLES = {
    "arithmetic": ("arithmetic_fewshot", "arithmetic"),
    "hosted": ("math",),
}
"""Each example and the templates that it uses; data/EXAMPLE/ holds its recipe and problems."""


def init(folder: Path, example: str = "arithmetic") -> list[Path]:
    """Write the example's recipe.toml, prompts/ and data/ into `folder`; returns the files. Nothing is overwritten."""
    if example not in EXAMPLES:
        raise UsageError(f"There is no example '{example}'; there are {', '.join(EXAMPLES)}.")
    source = shipped_folder("data") / example
    files = {folder / "recipe.toml": source / "recipe.toml"}
    files |= {folder / "data" / path.name: path for path in sorted(source.glob("*.jsonl"))}
    files |= {
        folder / "prompts" / f"{name}.jinja": shipped_folder("prompts") / f"{name}.jinja"
        for name in EXAMPLES[example]
    }
    for target in files:
        if target.exists():
            raise InputError(f"{target} exists already, and nothing is overwritten; choose another folder.")
    for target, origin in files.items():
        with storage_errors(target):
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(origin, target)
    return list(files)
