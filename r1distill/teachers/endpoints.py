"""A teacher of the recipe -> what identifies its model, and an endpoint that can be asked."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from r1distill.errors import InputError, RecipeError
from r1distill.recipe import Recipe
from r1distill.recipe_sections import HarvestSection, TeacherSection
from r1distill.teachers.addresses import clean_url as clean_url
from r1distill.teachers.addresses import plain_http as plain_http
from r1distill.teachers.client import Endpoint
from r1distill.teachers.embedded import embedded_server
from r1distill.teachers.keys import api_key
from r1distill.teachers.local import checkpoint, local_server
from r1distill.teachers.provider_row import Provider
from r1distill.teachers.providers import logprobs_body, provider
from r1distill.teachers.request_rules import check_extra, check_fields, merged, sent_fields
from r1distill.teachers.request_rules import check_sampling as check_sampling
from r1distill.weights import gguf_path, weights_digest


def model_key(name: str, teacher: TeacherSection, recipe: Recipe) -> str:
    """What a slot calls this teacher's model: its name at the endpoint, or the name and digest of local weights."""
    row = checked(name, teacher)
    if row.kind == "embedded":
        path = gguf_path(teacher.model, recipe.folder)
        adapter = f"+{weights_digest(_adapter(teacher, recipe))}" if teacher.adapter else ""
        return f"{path.name}@{weights_digest(path)}{adapter}"
    if row.kind == "local":
        folder = checkpoint(str(teacher.model), recipe.folder)
        called = Path(str(teacher.model)).name or folder.resolve().name
        return f"{called}@{weights_digest(folder)}"
    return str(teacher.model)


def checked(name: str, teacher: TeacherSection) -> Provider:
    """The provider's row, once the teacher's table is complete for it and asks for nothing that it refuses.

    Raises RecipeError before anything is asked.
    """
    row, where = provider(teacher.provider), f"teacher.{name}"
    _check_table(row, teacher, where)
    check_sampling(teacher.sampling, f"{where}.sampling")
    check_extra(teacher.extra_body, f"{where}.extra_body")
    check_fields(row, teacher.provider, str(teacher.model), sent_fields(row, teacher), where)
    return row


def checked_for(name: str, teacher: TeacherSection, harvest: HarvestSection) -> Provider:
    """`checked`, and that this teacher can give what [harvest] wants of it. Raises RecipeError before anything is asked."""
    row, where, model = checked(name, teacher), f"teacher.{name}", str(teacher.model)
    wire = row.wire_for(model)
    if harvest.reasoning == "required" and wire in ("none", "summary"):
        gives = "no reasoning" if wire == "none" else "only summaries of the reasoning"
        raise RecipeError(
            f'{where}: harvest.reasoning = "required", but {teacher.provider} gives {gives} (source: {row.source}).'
        )
    if harvest.top_logprobs == 0:
        return row
    if row.logprobs in ("refused", "ignored") or harvest.top_logprobs > row.logprobs_most:
        gives = "none" if row.logprobs in ("refused", "ignored") else f"{row.logprobs_most} at most"
        raise RecipeError(
            f"{where}: harvest.top_logprobs = {harvest.top_logprobs}, but {teacher.provider} gives {gives} "
            f"(source: {row.known.get('logprobs', row.source)}); change it or leave this teacher out."
        )
    sent = {**sent_fields(row, teacher), **logprobs_body(row, harvest.top_logprobs)}
    check_fields(row, teacher.provider, model, sent, f"{where}, with harvest.top_logprobs")
    return row


def _check_table(row: Provider, teacher: TeacherSection, where: str) -> None:
    if row.kind != "embedded" and not teacher.model:
        wanted = "its name at the endpoint" if row.kind == "http" else "a checkpoint folder or a hub name"
        raise RecipeError(f"{where} needs a model ({wanted}).")
    if row.kind == "http":
        if not (teacher.base_url or row.base_url):
            raise RecipeError(f"{where} needs a base_url, as {row.base_url_like}.")
        clean_url(str(teacher.base_url or row.base_url), where)
    else:
        idle = [key for key in ("base_url", "api_key_env") if getattr(teacher, key)]
        if idle:
            raise RecipeError(
                f'{where}: {" and ".join(idle)} can\'t go with provider = "{teacher.provider}", which r1distill serves '
                'itself; ask a running server with provider = "openai-compatible".'
            )
    if teacher.adapter and row.kind != "embedded":
        raise RecipeError(f'{where}.adapter works with provider = "embedded" only.')


@contextmanager
def open_endpoint(name: str, teacher: TeacherSection, recipe: Recipe, log: Path) -> Iterator[Endpoint]:
    """An endpoint that can be asked while the block runs; a server of our own is started and stopped here.

    Raises RecipeError, InputError (key, weights), MissingPackageError, R1DistillError naming the log file.
    """
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
            yield endpoint._replace(extra_body=teacher.extra_body)
    elif row.kind == "local":
        with local_server(checkpoint(str(teacher.model), recipe.folder), log) as endpoint:
            yield endpoint._replace(extra_body=teacher.extra_body)
    else:
        yield _hosted(row, f"teacher.{name}", teacher, recipe)


def _hosted(row: Provider, where: str, teacher: TeacherSection, recipe: Recipe) -> Endpoint:
    return Endpoint(
        base_url=clean_url(str(teacher.base_url or row.base_url), where),
        key=api_key(teacher.api_key_env or row.key_variable, where, recipe),
        model=str(teacher.model),
        extra_body=merged(row.extra_body, teacher.extra_body),
        ceiling_key=row.ceiling_key,
        key_header=row.key_header,
        must_stream=row.must_stream,
        reasoning_apart=row.reasoning_apart,
    )


def _adapter(teacher: TeacherSection, recipe: Recipe) -> Path:
    path = recipe.path(str(teacher.adapter))
    if not path.is_file():
        raise InputError(f"There is no adapter {path} (a GGUF LoRA file, as train writes it: adapter.gguf).")
    return path
