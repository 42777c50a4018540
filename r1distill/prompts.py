"""Problems + template -> messages.

In: a problem file (JSONL, CSV, Parquet) or a data set of the Hugging Face hub, and a Jinja template. Out: Prompt
records, and for each the chat messages to send. A template is one user message, or several messages when lines
that hold only `<|system|>`, `<|user|>` or `<|assistant|>` part it; the markers are read before the template is
rendered, so that no question can forge one.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, TextIO

import jinja2
import jsonlines
import msgspec
from jinja2.sandbox import ImmutableSandboxedEnvironment

from r1distill.errors import InputError, MissingPackageError, RecipeError
from r1distill.recipe import PromptsSection, Recipe
from r1distill.records import AnswerKind, Message, Prompt, prompt_id_of
from r1distill.shipped import shipped_folder

MARKER = re.compile(r"^<\|(system|user|assistant)\|>[ \t]*\r?\n", re.MULTILINE)
KINDS = ("math", "choice", "text", "code")


class Template:
    """A parsed template: `messages(prompt)` renders it."""

    def __init__(self, source: str, name: str) -> None:
        self.name, self.source = name, source
        environment = ImmutableSandboxedEnvironment(
            undefined=jinja2.StrictUndefined, keep_trailing_newline=False
        )
        try:
            self._parts = [(role, environment.from_string(text)) for role, text in _parts(source)]
        except jinja2.TemplateSyntaxError as error:
            raise RecipeError(f"{name}:{error.lineno}: {error.message}.") from None

    def messages(self, prompt: Prompt, **more: str) -> list[Message]:
        """The chat messages for one problem, each stripped of outer white space; `more` are further variables of the
        template (reference and answer for a judge). Raises RecipeError."""
        try:
            return [Message(role, self._render(part, prompt, more)) for role, part in self._parts]
        except jinja2.TemplateError as error:
            raise RecipeError(
                f"{self.name}: {error} (problem {prompt.id}); a template may use question, tags and tests."
            ) from None

    def without_examples(self) -> Template:
        """The same template with its system messages and its last user message only."""
        parts = _parts(self.source)
        keep = [f"<|{role}|>\n{text}" for role, text in parts[:-1] if role == "system"]
        return Template("\n".join([*keep, f"<|{parts[-1][0]}|>\n{parts[-1][1]}"]), self.name)

    @staticmethod
    def _render(part: jinja2.Template, prompt: Prompt, more: dict[str, str]) -> str:
        return part.render(question=prompt.question, tags=prompt.tags, tests=prompt.tests, **more).strip()


def _parts(source: str) -> list[tuple[str, str]]:
    pieces = MARKER.split(source)
    parts = list(zip(pieces[1::2], pieces[2::2], strict=True))
    if pieces[0].strip():
        parts.insert(0, ("user", pieces[0]))
    return parts or [("user", source)]


def load_template(name: str, recipe: Recipe) -> Template:
    """A template by file (relative to the recipe) or by shipped name. Raises RecipeError naming what exists."""
    path = recipe.path(name)
    shipped = shipped_folder("prompts") / f"{Path(name).stem}.jinja"
    for candidate in (path, shipped if "/" not in name else path):
        if candidate.is_file():
            return Template(candidate.read_text(encoding="utf-8"), str(name))
    names = ", ".join(sorted(p.stem for p in shipped_folder("prompts").glob("*.jinja")))
    raise RecipeError(f"There is no template {path}, and none shipped by that name (there are {names}).")


def student_template(recipe: Recipe) -> Template:
    """The template that the student is trained and asked with: its own, or prompts.template without its examples."""
    if recipe.student is not None and recipe.student.template is not None:
        return load_template(recipe.student.template, recipe)
    if recipe.prompts is None:
        raise RecipeError("The student needs words: set student.template or prompts.template.")
    return load_template(recipe.prompts.template, recipe).without_examples()


def load_problems(recipe: Recipe, section: PromptsSection | None = None) -> tuple[list[Prompt], list[str]]:
    """(problems, warnings) of a recipe's prompts section. Raises InputError with file and line, RecipeError."""
    section = section or recipe.prompts
    if section is None:
        raise RecipeError("The recipe has no [prompts] table, so there is nothing to ask.")
    if section.hf is not None:
        rows, where = _hub_rows(section), f"hf:{section.hf}"
    else:
        path = recipe.path(str(section.problems))
        rows, where = _file_rows(path), str(path)
    prompts, warnings = _unique(_prompts(rows, section), where)
    if not prompts:
        raise InputError(f"{where} holds no problem; it needs at least one row with a question.")
    return prompts[: section.limit], warnings


def _prompts(
    rows: Iterable[tuple[str, dict[str, Any]]], section: PromptsSection
) -> Iterator[tuple[str, Prompt]]:
    for where, row in rows:
        yield where, to_prompt(row, where, section.columns, section.answer_kind)


def to_prompt(row: dict[str, Any], where: str, columns: dict[str, str], kind: AnswerKind) -> Prompt:
    """One row as a Prompt. Raises InputError naming `where` (file and line) and the column."""
    question = row.get(columns.get("question", "question"))
    if not isinstance(question, str) or not question.strip():
        column = columns.get("question", "question")
        raise InputError(
            f"{where}: the row has no question (column '{column}'); it has {', '.join(map(str, row)) or 'nothing'}."
        )
    answer = row.get(columns.get("answer", "answer"))
    own_kind = row.get(columns.get("answer_kind", "answer_kind")) or kind
    if own_kind not in KINDS:
        raise InputError(f"{where}: answer_kind is {own_kind!r}; it must be one of {', '.join(KINDS)}.")
    return Prompt(
        id=str(row.get(columns.get("id", "id")) or prompt_id_of(question)),
        question=question,
        answer=None if answer is None or str(answer).strip() == "" else str(answer),
        answer_kind=own_kind,
        tests=row.get(columns.get("tests", "tests")),
        tags=_tags(row.get(columns.get("tags", "tags")), where),
    )


def _tags(value: Any, where: str) -> dict[str, Any]:
    if value in (None, ""):
        return {}
    if isinstance(value, str):
        try:
            value = msgspec.json.decode(value)
        except msgspec.DecodeError:
            return {"tag": value}
    if not isinstance(value, dict):
        raise InputError(f'{where}: tags must be an object such as {{"topic": "algebra"}}, not {value!r}.')
    return value


def _unique(found: Iterable[tuple[str, Prompt]], where: str) -> tuple[list[Prompt], list[str]]:
    """Refuse repeated ids; drop repeated questions (they would be asked, and paid for, twice) and say so."""
    prompts: list[Prompt] = []
    ids: dict[str, str] = {}
    questions: dict[str, str] = {}
    repeated: list[str] = []
    for place, prompt in found:
        if prompt.question in questions:
            repeated.append(f"{place} repeats {questions[prompt.question]}")
            continue
        if prompt.id in ids:
            raise InputError(
                f"{place}: the id {prompt.id!r} stands at {ids[prompt.id]} already; ids must be unique."
            )
        ids[prompt.id] = questions[prompt.question] = place
        prompts.append(prompt)
    if not repeated:
        return prompts, []
    return prompts, [
        f"{where}: {len(repeated)} repeated questions are asked once only (the first: {repeated[0]})."
    ]


def _file_rows(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    if not path.is_file():
        raise InputError(f"There is no problem file {path}.")
    kind = path.suffix.lower()
    if kind in (".jsonl", ".ndjson", ".json"):
        yield from _jsonl_rows(path)
    elif kind == ".csv":
        yield from _csv_rows(path)
    elif kind == ".parquet":
        datasets = _datasets(f"{path} is a Parquet file")
        table = datasets.Dataset.from_parquet(str(path), keep_in_memory=True)
        yield from ((f"{path}: row {number}", row) for number, row in enumerate(table, 1))
    else:
        raise InputError(f"{path} is no problem file that can be read: use .jsonl, .csv or .parquet.")


def _jsonl_rows(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    number = 0

    def lines(file: TextIO) -> Iterator[str]:
        nonlocal number
        for number, line in enumerate(file, 1):  # noqa: B007 - counted for the reports
            yield line

    try:
        with path.open(encoding="utf-8-sig") as file:
            for row in jsonlines.Reader(lines(file)).iter(skip_empty=True):
                if not isinstance(row, dict):
                    raise InputError(
                        f"{path}:{number}: a row must be a JSON object, not {type(row).__name__}."
                    )
                yield f"{path}:{number}", row
    except (jsonlines.InvalidLineError, UnicodeDecodeError) as error:
        raise InputError(f"{path}:{number}: no valid JSON row ({str(error).splitlines()[0]}).") from None


def _csv_rows(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, strict=True)
            for row in reader:
                yield (
                    f"{path}:{reader.line_num}",
                    {key: value for key, value in row.items() if key is not None},
                )
    except (csv.Error, UnicodeDecodeError) as error:
        raise InputError(f"{path}: no valid CSV ({error}).") from None


def _hub_rows(section: PromptsSection) -> Iterator[tuple[str, dict[str, Any]]]:
    datasets = _datasets("prompts.hf")
    try:
        table = datasets.load_dataset(section.hf, section.config, split=section.split)
    except Exception as error:  # noqa: BLE001 - the hub client raises its own and its transport's errors
        raise InputError(
            f"The data set {section.hf} can't be loaded from the hub: {str(error).splitlines()[0]}"
        ) from None
    yield from ((f"{section.hf}: row {number}", row) for number, row in enumerate(table, 1))


def _datasets(what: str) -> Any:
    try:
        import datasets
    except ImportError:
        raise MissingPackageError(
            f"{what}, which needs the package datasets: pip install 'r1distill[train]'."
        ) from None
    return datasets
