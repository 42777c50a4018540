"""Problems + template -> messages.

In: a problem file (JSONL, CSV, Parquet) or a data set of the Hugging Face hub, and a Jinja template. Out: Prompt
records, and for each the chat messages to send. A template is one user message, or several messages when lines
that hold only `<|system|>`, `<|user|>` or `<|assistant|>` part it; the markers are read before the template is
rendered, so that no question can forge one.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, get_args

import jinja2
import msgspec
from jinja2.sandbox import ImmutableSandboxedEnvironment

from r1distill.errors import InputError, RecipeError
from r1distill.recipe import Recipe
from r1distill.recipe_sections import PromptsSection
from r1distill.recipe_values import COLUMNS
from r1distill.records import AnswerKind, Message, Prompt, prompt_id_of
from r1distill.rows import Placed, file_rows, hub_rows
from r1distill.shipped import shipped_folder

MARKER = re.compile(r"^<\|(system|user|assistant)\|>[ \t]*(?:\r?\n|\Z)", re.MULTILINE)
KINDS = get_args(AnswerKind)
RENDER_ERRORS = (jinja2.TemplateError, TypeError, ValueError, ArithmeticError, LookupError, AttributeError)
"""What the expressions of a template can raise when they meet a problem's values."""


class Template:
    """A parsed template: `messages(prompt)` renders it."""

    def __init__(self, source: str, name: str) -> None:
        self.name, self.source = name, source
        environment = ImmutableSandboxedEnvironment(
            undefined=jinja2.StrictUndefined, keep_trailing_newline=False
        )
        self._parts = [(role, _parsed(environment, text, line, name)) for role, text, line in _parts(source)]

    def messages(self, prompt: Prompt, **more: str) -> list[Message]:
        """The chat messages for one problem, each stripped of outer white space; `more` are further variables of the
        template (reference and answer for a judge). Raises RecipeError.
        """
        try:
            return [Message(role, self._render(part, prompt, more)) for role, part in self._parts]
        except RENDER_ERRORS as error:
            names = ", ".join(["question", "tags", "tests", *more])
            raise RecipeError(
                f"{self.name}: {str(error).rstrip('.')} (problem {prompt.id}); a template may use {names}."
            ) from None

    def without_examples(self) -> Template:
        """The same template with its system messages and its last user message only. Raises RecipeError."""
        parts = _parts(self.source)
        asked = [text for role, text, _ in parts if role == "user"]
        if not asked:
            raise RecipeError(f"{self.name} has no user message, so it asks nothing.")
        keep = [f"<|system|>\n{text}" for role, text, _ in parts if role == "system"]
        return Template("\n".join([*keep, f"<|user|>\n{asked[-1]}"]), self.name)

    @staticmethod
    def _render(part: jinja2.Template, prompt: Prompt, more: dict[str, str]) -> str:
        return part.render(question=prompt.question, tags=prompt.tags, tests=prompt.tests, **more).strip()


def _parsed(environment: jinja2.Environment, text: str, line: int, name: str) -> jinja2.Template:
    try:
        return environment.from_string(text)
    except jinja2.TemplateSyntaxError as error:
        raise RecipeError(f"{name}:{line + error.lineno - 1}: {str(error.message).rstrip('.')}.") from None


def _parts(source: str) -> list[tuple[str, str, int]]:
    """(role, text, line in the file) of each message; a text without markers is one user message."""
    found = list(MARKER.finditer(source))
    ends = [match.start() for match in found[1:]] + [len(source)]
    parts = [
        (match[1], source[match.end() : end], source.count("\n", 0, match.end()) + 1)
        for match, end in zip(found, ends, strict=False)
    ]
    before = source[: found[0].start()] if found else source
    return [("user", before, 1), *parts] if before.strip() or not parts else parts


def load_template(name: str, recipe: Recipe) -> Template:
    """A template by file (relative to the recipe) or by shipped name. Raises RecipeError naming what exists."""
    path = recipe.path(name)
    shipped = shipped_folder("prompts") / f"{name.removesuffix('.jinja')}.jinja"
    for candidate in (path, shipped if str(Path(name).parent) in (".", "prompts") else path):
        if candidate.is_file():
            return Template(_template_text(candidate), name)
    names = ", ".join(sorted(p.stem for p in shipped_folder("prompts").glob("*.jinja")))
    raise RecipeError(f"There is no template {path}, and none shipped by that name (there are {names}).")


def _template_text(path: Path) -> str:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise RecipeError(f"The template {path} is no UTF-8 text.") from None
    if not text.strip():
        raise RecipeError(f"The template {path} is empty, so it asks nothing.")
    return text


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
        rows, where = hub_rows(section), f"hf:{section.hf}"
    else:
        path = recipe.path(str(section.problems))
        rows, where = file_rows(path), str(path)
    prompts, warnings = _unique(_prompts(rows, section, where), where, section.limit)
    if not prompts:
        raise InputError(f"{where} holds no problem; it needs at least one row with a question.")
    return prompts, warnings


def _prompts(rows: Iterable[Placed], section: PromptsSection, source: str) -> Iterator[tuple[str, Prompt]]:
    """The rows as problems. Raises InputError for a row, and when a column that `columns` names is in no row."""
    unseen, count = dict(section.columns), 0
    for count, (where, row) in enumerate(rows, 1):  # noqa: B007 - counted for the error
        unseen = {name: column for name, column in unseen.items() if column not in row}
        yield where, to_prompt(row, where, section.columns, section.answer_kind)
    for name, column in unseen.items() if count else ():
        raise InputError(f"{source}: no row has the column '{column}' that columns.{name} names.")


def to_prompt(row: dict[str, Any], where: str, columns: dict[str, str], kind: AnswerKind) -> Prompt:
    """One row as a Prompt. Raises InputError naming `where` (file and line) and the column."""
    cells = {name: _cell(row.get(columns.get(name, name))) for name in COLUMNS}
    question = cells["question"]
    if not isinstance(question, str):
        column = columns.get("question", "question")
        what = "no question" if question is None else "a question that is no text"
        raise InputError(
            f"{where}: the row has {what} (column '{column}'); it has {', '.join(map(str, row)) or 'nothing'}."
        )
    own_kind = cells["answer_kind"] or kind
    if own_kind not in KINDS:
        raise InputError(f"{where}: answer_kind is {own_kind!r}; it must be one of {', '.join(KINDS)}.")
    prompt = Prompt(
        id=_scalar(cells["id"], "id", where) or prompt_id_of(question),
        question=question,
        answer=_scalar(cells["answer"], "answer", where),
        answer_kind=own_kind,
        tests=cells["tests"],
        tags=_tags(cells["tags"], where),
    )
    try:
        msgspec.json.encode(prompt)
    except (UnicodeEncodeError, TypeError, ValueError, OverflowError, RecursionError) as error:
        raise InputError(f"{where}: the row can't be written as JSON ({error}).") from None
    return prompt


def _cell(value: Any) -> Any:
    """A cell as it is; None for what stands for "nothing here" (blank text, the NaN of Parquet and JSON)."""
    blank = isinstance(value, str) and not value.strip()
    return None if blank or (isinstance(value, float) and math.isnan(value)) else value


def _scalar(value: Any, column: str, where: str) -> str | None:
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, bool | int | float):
        return str(value)
    raise InputError(f"{where}: {column} must be a text or a number, not {type(value).__name__}.")


def _tags(value: Any, where: str) -> dict[str, Any]:
    if value is None:
        return {}
    if isinstance(value, str):
        try:
            value = msgspec.json.decode(value)
        except msgspec.DecodeError:
            return {"tag": value}
    if not isinstance(value, dict):
        raise InputError(f'{where}: tags must be an object such as {{"topic": "algebra"}}, not {value!r}.')
    return value


def _unique(
    found: Iterable[tuple[str, Prompt]], where: str, limit: int | None
) -> tuple[list[Prompt], list[str]]:
    """The first `limit` problems. Repeated ids are refused; repeated questions (they would be asked, and paid for,
    twice) are dropped and told.
    """
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
        if len(prompts) == limit:
            break
    if not repeated:
        return prompts, []
    return prompts, [
        f"{where}: {len(repeated)} repeated questions are asked once only (the first: {repeated[0]})."
    ]
