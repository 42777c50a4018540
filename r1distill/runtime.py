"""Who takes part in an evaluation, and how each is served: base and student always in the same runtime.

A GGUF student (also the embedded one) is served by the embedded server, the trained one with its adapter on top.
Any other student is served by `transformers serve`, merged; or by the user's own server ([student] base_url).
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, NamedTuple

from r1distill.asking.parties import Party, teacher_parties
from r1distill.errors import InputError, RecipeError
from r1distill.prompts import Template, student_template
from r1distill.recipe import Recipe
from r1distill.recipe_sections import PriceSection, StudentSection, TeacherSection
from r1distill.run import Run
from r1distill.show import Show
from r1distill.teachers.client import Endpoint
from r1distill.teachers.embedded import embedded_server
from r1distill.teachers.endpoints import check_sampling, clean_url, open_endpoint
from r1distill.teachers.keys import api_key
from r1distill.teachers.local import local_server
from r1distill.teachers.providers import provider
from r1distill.weights import (
    gguf_path,
    parameter_count,
    require_whole,
    size_bytes,
    trained_weights,
    weights_digest,
)

Open = Callable[[Path], AbstractContextManager[Endpoint]]


class Contestant(NamedTuple):
    """One model of an evaluation."""

    party: Party
    open: Open
    """Serve it while the block runs; takes a log file."""
    facts: dict[str, Any]
    price: PriceSection | None = None


def contestants(recipe: Recipe, run: Run, who: list[Any], sampling: dict[str, Any]) -> list[Contestant]:
    """The models to score, in the order asked. Raises RecipeError, InputError (no trained student)."""
    check_sampling(sampling, "evaluate.sampling")
    makers = {"teacher": _teacher, "base": _base, "student": _student}
    return [makers[name](recipe, run, sampling) for name in who]


def _teacher(recipe: Recipe, run: Run, sampling: dict[str, Any]) -> Contestant:
    party = teacher_parties(recipe)[0]
    section = recipe.teacher[party.name]
    facts: dict[str, Any] = {"what": f"{party.model} with {party.template.name}"}
    if provider(section.provider).kind == "embedded":
        facts |= _sizes(gguf_path(section.model, recipe.folder))

    def start(log: Path) -> AbstractContextManager[Endpoint]:
        return open_endpoint(party.name, section, recipe, log)

    asked = Party("teacher", party.model, party.template, sampling)
    return Contestant(asked, start, facts, section.price)


def _base(recipe: Recipe, run: Run, sampling: dict[str, Any]) -> Contestant:
    return _learner(recipe, run, sampling, "base", None)


def _student(recipe: Recipe, run: Run, sampling: dict[str, Any]) -> Contestant:
    if recipe.student is not None and recipe.student.base_url is None:
        trained, _ = _servable(recipe, run)
        return _learner(recipe, run, sampling, "student", trained)
    last = run.latest("train")
    return _learner(recipe, run, sampling, "student", last[0] if last else None)


def trained_student(recipe: Recipe, run: Run) -> tuple[Path, dict[str, Any]]:
    """The folder and the summary of the run's last training.

    Raises InputError when there is none or it is of another base than the recipe's, RecipeError without [student].
    """
    if recipe.student is None:
        raise RecipeError("The recipe has no [student] table, so there is no student.")
    trained = run.latest("train")
    if trained is None:
        raise InputError(f"{run.folder} has no trained student yet: run train first.")
    folder, summary = trained
    if summary.get("base") != recipe.student.base:
        raise InputError(
            f"The last training ({folder}) is of the base {summary.get('base')}, the recipe says {recipe.student.base}: "
            "train again."
        )
    return folder, summary


def weights_of(training: Path) -> Path:
    """What a training left: train/<id>/adapter, or train/<id>/model after full fine-tuning.

    Raises InputError when it is not there, or damaged.
    """
    found = trained_weights(training)
    if found is not None:
        require_whole(found)
        return found
    raise InputError(f"{training} has no weights any more: run train again.")


def student_weights(recipe: Recipe, run: Run) -> tuple[Path, Path | None]:
    """What to serve as the trained student: a GGUF base and its adapter, or a folder with all weights and None.

    Raises as `trained_student` does, and InputError when llama.cpp can't serve the adapter.
    """
    folder, section = _servable(recipe, run)
    trained = weights_of(folder)
    if trained.name == "model":
        return trained, None
    base = _base_path(section, recipe)
    if base.suffix.lower() == ".gguf":
        return base, folder / "adapter.gguf"
    return _merged(base, trained), None


def _servable(recipe: Recipe, run: Run) -> tuple[Path, StudentSection]:
    folder, _ = trained_student(recipe, run)
    assert recipe.student is not None
    lacking = weights_of(folder).name == "adapter" and not (folder / "adapter.gguf").is_file()
    if _is_gguf(recipe.student.base) and lacking:
        raise InputError(
            f"{folder} has no adapter.gguf, so llama.cpp can't serve it: train with train.lora.target_modules = 'all-linear'."
        )
    return folder, recipe.student


def exported(recipe: Recipe, name: str, weights: Path, sampling: dict[str, Any]) -> Contestant:
    """An exported student, a GGUF file or a merged folder, asked with the student's own words. Raises RecipeError."""
    party = Party(name, weights_digest(weights), student_template(recipe), sampling)
    facts = {"what": f"{weights.name} with {party.template.name}", **_sizes(weights)}
    if weights.suffix.lower() == ".gguf":
        return Contestant(party, _gguf_start(recipe, weights, None), facts)
    return Contestant(party, lambda log: local_server(weights, log), facts)


def _learner(
    recipe: Recipe, run: Run, sampling: dict[str, Any], name: str, trained: Path | None
) -> Contestant:
    section = recipe.student
    if section is None:
        raise RecipeError("The recipe has no [student] table, so there is no base or student to score.")
    template = student_template(recipe)
    if section.base_url is not None:
        return _own_server(recipe, section, name, template, sampling, trained)
    base = _base_path(section, recipe)
    if _trained_whole(recipe, run):
        return _whole(recipe, base, name, template, sampling, trained)
    adapter = trained / "adapter" if trained else None
    words = template.name + (f", adapter {trained.name}" if trained else "")
    key = weights_digest(base) + (f"+{weights_digest(adapter)}" if adapter else "")
    party = Party(name, key, template, sampling)
    facts = {"what": f"{base.name} with {words}", **_sizes(base, adapter)}
    if base.suffix.lower() == ".gguf":
        return Contestant(
            party, _gguf_start(recipe, base, trained / "adapter.gguf" if trained else None), facts
        )

    def start(log: Path) -> AbstractContextManager[Endpoint]:
        return local_server(_merged(base, adapter), log)

    return Contestant(party, start, facts)


def _trained_whole(recipe: Recipe, run: Run) -> bool:
    last = run.latest("train")
    return (
        last is not None and recipe.train.method == "full" and (last[0] / "model" / "config.json").is_file()
    )


def _whole(
    recipe: Recipe, base: Path, name: str, template: Template, sampling: dict[str, Any], trained: Path | None
) -> Contestant:
    """Base or student of a full fine-tuning, both served from their folders: a GGUF base as it was dequantised to train."""
    from r1distill.objectives.students import locate, materialise

    if trained is None and base.suffix.lower() == ".gguf":
        assert recipe.student is not None
        student = locate(recipe.student.base, recipe.folder)
        assert student is not None
        base = materialise(student, Show(0))
    folder = base if trained is None else trained / "model"
    words = template.name + (f", all weights of {trained.name}" if trained else "")
    facts = {"what": f"{base.name} with {words}", **_sizes(folder)}
    party = Party(name, weights_digest(folder), template, sampling)
    return Contestant(party, lambda log: local_server(folder, log), facts)


def _merged(base: Path, adapter: Path | None) -> Path:
    if adapter is None:
        return base
    from r1distill.objectives.merge import merge  # heavy, and needed for this kind of student only

    return merge(base, adapter, adapter.with_name("merged"))


def _base_path(section: StudentSection, recipe: Recipe) -> Path:
    if _is_gguf(section.base):
        return gguf_path(section.base, recipe.folder)
    folder = recipe.path(section.base)
    if folder.is_dir():
        return folder
    from r1distill.objectives.students import hub_snapshot  # heavy, and needed for hub names only

    return hub_snapshot(section.base)


def _is_gguf(base: str) -> bool:
    return base == "embedded" or base.lower().endswith(".gguf")


def embedded_like(recipe: Recipe) -> TeacherSection:
    """How the embedded server is run: as the recipe's first embedded teacher is, else by default."""
    embedded = (t for t in recipe.teacher.values() if t.provider == "embedded")
    return next(embedded, TeacherSection(provider="embedded"))


def _gguf_start(recipe: Recipe, base: Path, adapter: Path | None) -> Open:
    like = embedded_like(recipe)

    def start(log: Path) -> AbstractContextManager[Endpoint]:
        return embedded_server(
            base,
            adapter=adapter,
            threads=like.threads,
            parallel=like.parallel,
            context_tokens=like.context_tokens,
            log=log,
        )

    return start


def _own_server(
    recipe: Recipe,
    section: StudentSection,
    name: str,
    template: Template,
    sampling: dict[str, Any],
    trained: Path | None,
) -> Contestant:
    """A model of the user's server. Its name there may outlive a training, so the student's key adds which one it was."""
    model = section.base_model if name == "base" else section.student_model
    if not model:
        raise RecipeError(
            f"student.base_url is set, so student.{name}_model must say the {name}'s name at that server."
        )
    key = f"{model}+{trained.name}" if trained else model
    base_url = clean_url(str(section.base_url), "student")

    def start(log: Path) -> AbstractContextManager[Endpoint]:
        return nullcontext(Endpoint(base_url, api_key(section.api_key_env, "student", recipe), model))

    return Contestant(Party(name, key, template, sampling), start, {"what": f"{model} with {template.name}"})


def _sizes(weights: Path, adapter: Path | None = None) -> dict[str, Any]:
    paths = [path for path in (weights, adapter) if path is not None]
    counts = [parameter_count(path) for path in paths]
    known = [count for count in counts if count is not None]
    return {
        "parameters": sum(known) if len(known) == len(counts) else None,
        "bytes": sum(map(size_bytes, paths)),
    }
