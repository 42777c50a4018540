"""Problem files -> Prompt records, one after the other, so that 300,000 of them need no memory.

In: a problem file (JSONL, CSV, Parquet) or a data set of the Hugging Face hub. A `ProblemSet` reads it once to check it
whole, before anything is paid for, and again whenever somebody goes over it.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from typing import Any, get_args

import msgspec

from r1distill.errors import InputError, RecipeError
from r1distill.recipe import Recipe
from r1distill.recipe_sections import PromptsSection
from r1distill.recipe_values import COLUMNS
from r1distill.records import AnswerKind, Prompt, prompt_id_of
from r1distill.rows import Placed, file_rows, hub_rows

KINDS = get_args(AnswerKind)


class ProblemSet:
    """The problems of one section; go over it as often as you like. `len` of it is their number."""

    def __init__(self, recipe: Recipe, section: PromptsSection | None = None) -> None:
        """Read and check it whole. Raises InputError with file and line, RecipeError."""
        found = section or recipe.prompts
        if found is None:
            raise RecipeError("The recipe has no [prompts] table, so there is nothing to ask.")
        self._section = found
        self._path = None if found.hf is not None else recipe.path(str(found.problems))
        self.where = f"hf:{found.hf}" if self._path is None else str(self._path)
        self.warnings: list[str] = []
        self._repeats: set[int] = set()
        """Rows whose question stood in an earlier row: they would be asked, and paid for, twice."""
        self._count = self._check()

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[Prompt]:
        left = self._count
        for number, (_, prompt) in enumerate(self._read()):
            if number not in self._repeats:
                left -= 1
                yield prompt
            if left == 0:
                return

    def _read(self) -> Iterator[tuple[str, Prompt]]:
        """All rows with their place, repeated ones too."""
        section = self._section
        for where, row in self._rows():
            yield where, to_prompt(row, where, section.columns, section.answer_kind)

    def _rows(self) -> Iterator[Placed]:
        return hub_rows(self._section) if self._path is None else file_rows(self._path)

    def _check(self) -> int:
        """The number of problems. Only hashes are kept of what was seen."""
        questions: set[int] = set()
        ids: set[int] = set()
        kept, first_repeat = 0, ""
        unseen = dict(self._section.columns)
        for number, (place, prompt, own_id) in enumerate(self._checked_columns(unseen)):
            question = hash(prompt.question)
            if question in questions:
                self._repeats.add(number)
                first_repeat = first_repeat or f"{place} repeats {self._place_of(question=prompt.question)}"
                continue
            questions.add(question)
            if own_id:  # others are made from the question, so that they are as different as those
                if hash(prompt.id) in ids:
                    raise InputError(
                        f"{place}: the id {prompt.id!r} stands at {self._place_of(id=prompt.id)} already; ids must be unique."
                    )
                ids.add(hash(prompt.id))
            kept += 1
            if kept == self._section.limit:
                break
        if not kept:
            raise InputError(f"{self.where} holds no problem; it needs at least one row with a question.")
        if self._repeats:
            self.warnings.append(
                f"{self.where}: {len(self._repeats)} repeated questions are asked once only (the first: {first_repeat})."
            )
        return kept

    def _checked_columns(self, unseen: dict[str, str]) -> Iterator[tuple[str, Prompt, bool]]:
        """All rows: place, problem, has it an id of its own. Raises InputError, at their end, when a column that `columns`
        names was in none.
        """
        section, some = self._section, False
        id_column = section.columns.get("id", "id")
        for where, row in self._rows():
            some = True
            for name in [name for name, column in unseen.items() if column in row]:
                del unseen[name]
            own_id = _cell(row.get(id_column)) is not None
            yield where, to_prompt(row, where, section.columns, section.answer_kind), own_id
        for name, column in unseen.items() if some else ():
            raise InputError(f"{self.where}: no row has the column '{column}' that columns.{name} names.")

    def _place_of(self, **wanted: str) -> str:
        """Where the first problem with this id or question stands."""
        ((field, value),) = wanted.items()
        return next((place for place, prompt in self._read() if getattr(prompt, field) == value), self.where)


def load_problems(recipe: Recipe, section: PromptsSection | None = None) -> tuple[list[Prompt], list[str]]:
    """(problems, warnings) of a recipe's prompts section, all at once. Raises InputError, RecipeError."""
    problems = ProblemSet(recipe, section)
    return list(problems), problems.warnings


def to_prompt(row: dict[str, Any], where: str, columns: dict[str, str], kind: AnswerKind) -> Prompt:
    """One row as a Prompt. Raises InputError naming `where` (file and line) and the column."""
    cells = {name: _cell(row.get(columns.get(name, name))) for name in COLUMNS}
    question = cells["question"]
    if not isinstance(question, str):
        column = columns.get("question", "question")
        if column in row and question is None:
            raise InputError(
                f"{where}: the question (column '{column}') is empty; write one, or remove the row."
            )
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
        answer=_reference(cells["answer"], own_kind, where),
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


def _reference(value: Any, kind: str, where: str) -> str | None:
    """The reference answer; of a JSON answer any value, as its JSON text."""
    if kind == "json" and value is not None and not isinstance(value, str):
        return json.dumps(value, ensure_ascii=False)
    return _scalar(value, "answer", where)


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
