"""A teacher of the recipe -> what identifies its model, and an endpoint that can be asked."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

from r1distill.errors import InputError, RecipeError
from r1distill.recipe import Recipe, TeacherSection, api_key
from r1distill.teachers.client import Endpoint
from r1distill.teachers.embedded import embedded_server
from r1distill.teachers.providers import Provider, provider
from r1distill.weights import gguf_path, weights_digest


def model_key(name: str, teacher: TeacherSection, recipe: Recipe) -> str:
    """What a slot calls this teacher's model: its name at the endpoint, or file name and digest of local weights."""
    row = checked(name, teacher)
    if row.kind == "embedded":
        path = gguf_path(teacher.model, recipe.folder)
        adapter = f"+{weights_digest(_adapter(teacher, recipe))}" if teacher.adapter else ""
        return f"{path.name}@{weights_digest(path)}{adapter}"
    return str(teacher.model)


def checked(name: str, teacher: TeacherSection) -> Provider:
    """The provider's row, once the teacher's table is complete for it. Raises RecipeError before anything is asked."""
    row = provider(teacher.provider)
    where = f"teacher.{name}"
    if row.kind == "http":
        if not teacher.model:
            raise RecipeError(f"{where} needs a model (its name at the endpoint).")
        if not (teacher.base_url or row.base_url):
            raise RecipeError(f"{where} needs a base_url, as https://host/v1.")
        if teacher.adapter:
            raise RecipeError(f'{where}.adapter works with provider = "embedded" only.')
    refused = [key for key in row.refused if key in teacher.sampling]
    if refused:
        raise RecipeError(
            f"{where}.sampling: {teacher.provider} refuses {', '.join(refused)} (source: {row.source})."
        )
    return row


@contextmanager
def open_endpoint(name: str, teacher: TeacherSection, recipe: Recipe, log: Path) -> Iterator[Endpoint]:
    """An endpoint that can be asked while the block runs; the embedded one is started and stopped here."""
    row = checked(name, teacher)
    if row.kind == "embedded":
        with embedded_server(
            gguf_path(teacher.model, recipe.folder),
            adapter=_adapter(teacher, recipe) if teacher.adapter else None,
            threads=teacher.threads,
            parallel=teacher.parallel,
            context_tokens=teacher.context_tokens,
            log=log,
        ) as endpoint:
            yield endpoint
        return
    key = api_key(teacher.api_key_env or row.key_variable, f"teacher.{name}")
    yield Endpoint(
        clean_url(str(teacher.base_url or row.base_url)), key, str(teacher.model), False, teacher.extra_body
    )


def clean_url(url: str) -> str:
    """A base_url without user name, password, query or fragment. Raises RecipeError when it is none."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise RecipeError(f"base_url {url!r} is no http(s) address.")
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path.rstrip("/"), "", ""))


def _adapter(teacher: TeacherSection, recipe: Recipe) -> Path:
    path = recipe.path(str(teacher.adapter))
    if not path.is_file():
        raise InputError(f"There is no adapter {path} (a GGUF LoRA file, as train writes it: adapter.gguf).")
    return path
