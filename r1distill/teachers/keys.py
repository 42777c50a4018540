"""Where keys come from: the environment, or a .env file that the recipe names. They are never written anywhere."""

from __future__ import annotations

import os
from pathlib import Path

from r1distill.errors import InputError, RecipeError
from r1distill.recipe import Recipe


def api_key(variable: str | None, who: str, recipe: Recipe | None = None) -> str:
    """The key that is called `variable`: of the environment, else of the recipe's env_file; "none" for no variable.

    Raises RecipeError when it is in neither or can't be sent, InputError when env_file is needed and can't be read. The
    file is only read when the environment lacks the key, and its other lines are never put into the environment.
    """
    if variable is None:
        return "none"
    file = recipe.path(recipe.env_file) if recipe is not None and recipe.env_file else None
    value = os.environ.get(variable, "").strip()
    if not value and file is not None:
        value = (env_values(file).get(variable) or "").strip()
    if not value:
        raise RecipeError(_missing(variable, who, file))
    if not (value.isascii() and value.isprintable()) or " " in value:
        raise RecipeError(
            f"{who}: what {variable} holds can't be a key, since it has blanks or other characters than printable ASCII; "
            "set it again, without quotes or comments."
        )
    return value


def env_values(file: Path) -> dict[str, str | None]:
    """The names and values of a .env file, taken literally (no ${...}). Raises InputError, which never quotes the file."""
    from dotenv import dotenv_values

    if not (file.is_file() or file.is_fifo()):
        raise InputError(
            f"There is no file {file}, which env_file names; correct env_file, or export the key."
        )
    try:
        return dict(dotenv_values(file, interpolate=False, encoding="utf-8-sig"))
    except OSError as error:
        raise InputError(f"{file} (env_file) can't be read: {error.strerror or 'no reason given'}.") from None
    except ValueError:  # no UTF-8; its text would quote the bytes
        raise InputError(
            f"{file} (env_file) can't be read: it is no UTF-8 text of lines NAME=value."
        ) from None


def _missing(variable: str, who: str, file: Path | None) -> str:
    if file is None:
        return (
            f"{who} wants its key in the environment variable {variable}, which is not set: "
            f"export {variable}=... and run again."
        )
    return f"{who} wants its key {variable}, which neither the environment nor {file} has: add {variable}=... to one of them."
