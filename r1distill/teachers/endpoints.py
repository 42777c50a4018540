"""A teacher of the recipe -> what identifies its model, and an endpoint that can be asked."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from r1distill.errors import InputError, RecipeError
from r1distill.recipe import Recipe, api_key
from r1distill.recipe_sections import TeacherSection
from r1distill.records import CEILING_KEYS
from r1distill.teachers.client import Endpoint
from r1distill.teachers.embedded import embedded_server
from r1distill.teachers.providers import Provider, provider
from r1distill.weights import gguf_path, weights_digest

OURS = ("messages", "model", "n", "stream", "stream_options")
"""Request fields that this tool sets itself: set by the recipe they would be ignored, or paid for and thrown away."""


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
        clean_url(str(teacher.base_url or row.base_url), where)
        if teacher.adapter:
            raise RecipeError(f'{where}.adapter works with provider = "embedded" only.')
    check_sampling(teacher.sampling, f"{where}.sampling")
    check_ours(teacher.extra_body, f"{where}.extra_body")
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
    base_url = clean_url(str(teacher.base_url or row.base_url), f"teacher.{name}")
    yield Endpoint(base_url, key, str(teacher.model), False, teacher.extra_body)


def check_sampling(sampling: dict[str, Any], where: str) -> None:
    """Raises RecipeError for sampling keys that are ours to set, and for a ceiling that is no number of tokens."""
    check_ours(sampling, where)
    for key in CEILING_KEYS:
        ceiling = sampling.get(key)
        if ceiling is not None and (not isinstance(ceiling, int) or isinstance(ceiling, bool) or ceiling < 1):
            raise RecipeError(f"{where}.{key} must be a whole number of tokens, at least 1, not {ceiling!r}.")


def check_ours(fields: dict[str, Any], where: str) -> None:
    """Raises RecipeError for request fields that this tool sets itself."""
    ours = [key for key in OURS if key in fields]
    if ours:
        hint = "; harvest.samples says how many answers to ask for" if "n" in ours else ""
        raise RecipeError(f"{where} can't set {', '.join(ours)}: r1distill sets it itself{hint}.")


def clean_url(url: str, where: str) -> str:
    """A base_url without its last slash. Raises RecipeError when it is none, or carries what may be a secret."""
    try:
        parts = urlsplit(url.strip())
        host, _ = parts.hostname, parts.port
    except ValueError:
        host = None
    if not host or parts.scheme not in ("http", "https"):
        raise RecipeError(f"{where}: base_url is no http(s) address; it looks like https://host/v1.")
    if "@" in parts.netloc or parts.query or parts.fragment:
        raise RecipeError(
            f"{where}: base_url must not carry a user name, a password, a query or a fragment; "
            "a key belongs into the environment variable that api_key_env names."
        )
    return urlunsplit((parts.scheme, parts.netloc, parts.path.rstrip("/"), "", ""))


def plain_http(name: str, teacher: TeacherSection) -> str | None:
    """A warning when this teacher's key would travel unencrypted over a network, else None."""
    parts = urlsplit(teacher.base_url or "")
    if parts.scheme != "http" or teacher.api_key_env is None or _loopback(str(parts.hostname)):
        return None
    return f"teacher.{name}: the key is sent unencrypted to {parts.hostname}; use https if it can."


def _loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


def _adapter(teacher: TeacherSection, recipe: Recipe) -> Path:
    path = recipe.path(str(teacher.adapter))
    if not path.is_file():
        raise InputError(f"There is no adapter {path} (a GGUF LoRA file, as train writes it: adapter.gguf).")
    return path
