"""The problems of traces from files of others: what makes one, how it is stored in a run, and which one counts for a trace.

A problem's id says all that makes it one (its question, reference, tests, licence), so that it is the same whatever was imported
before. In: problems as files tell them. Out: prompts-files-NAME.jsonl of the run folder; then the problem of each id, where one
without a reference is the only one of its question that has one. Nothing that is stored is ever changed.
"""

from __future__ import annotations

import functools
import hashlib
import re
from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
from msgspec.structs import replace

from r1distill.imported import imported_prompts, run_folder_of, saved_prompts
from r1distill.ledger import write_atomic
from r1distill.records import Prompt
from r1distill.run import Run
from r1distill.show import counted

LICENCES = ("license", "licence")
"""The tags that make two problems of one question."""
MORE_THAN_QUESTION = re.compile(r"([0-9a-f]{16})-[0-9a-f]{8}")
CHUNK_BYTES = 1 << 20


class Kept(NamedTuple):
    """What became of problems that a run was given."""

    new: int = 0
    clashing: int = 0
    """Under an id that the run knows with another reference, which goes on to count."""

    def __add__(self, other: object) -> Kept:
        """Of both together."""
        assert isinstance(other, Kept)
        return Kept(self.new + other.new, self.clashing + other.clashing)


def has_reference(prompt: Prompt) -> bool:
    """True when something is known about the right answer."""
    return prompt.answer is not None or prompt.tests is not None


def imported_id(prompt: Prompt) -> str:
    """The id of a problem in a run: that of its question, and of all else that makes it this problem, if there is something."""
    question, licences = question_id(prompt.id), _licences(prompt)
    if not has_reference(prompt) and not licences:
        return question
    return f"{question}-{_digest([*_reference(prompt), licences])[:8]}"


def question_id(prompt_id: str) -> str:
    """What the ids of all problems with one question have in common."""
    more = MORE_THAN_QUESTION.fullmatch(prompt_id)
    return more[1] if more else prompt_id


def imported_problems(run_folder: Path) -> dict[str, Prompt]:
    """The problem that counts for each id of traces from files. One that has no reference gets that of the others with its
    question if they have but one; so two ids may have the same problem.
    """
    stored: dict[str, Prompt] = {}
    for prompt in imported_prompts(run_folder):
        known = stored.get(prompt.id)
        if known is None or (has_reference(prompt) and not has_reference(known)):
            stored[prompt.id] = prompt
    references = References(stored)
    return {name: references.completed(name, prompt) for name, prompt in stored.items()}


def sibling_problems(path: Path) -> dict[str, Prompt]:
    """By id, the problems of the run folder that a file of its traces/, or of a result of its filter, belongs to."""
    run = run_folder_of(path)
    if run is None:
        return {}
    return imported_problems(run) | {prompt.id: prompt for prompt in saved_prompts(run / "prompts.jsonl")}


def distinct(problems: dict[str, Prompt]) -> list[Prompt]:
    """Each problem once."""
    return list({prompt.id: prompt for prompt in problems.values()}.values())


class References:
    """The references that problems of files have, for those without one."""

    def __init__(self, problems: dict[str, Prompt]) -> None:
        """`problems`: by id."""
        self._problems = problems

    @functools.cached_property
    def _of_question(self) -> dict[str, dict[str, Prompt]]:
        return _references(self._problems.values())

    def completed(self, name: str, prompt: Prompt) -> Prompt:
        """The problem with this id: with the only reference that is known of its question, if it has none."""
        if has_reference(prompt):  # a run may know it by its question, as all did once
            return self._problems.get(imported_id(prompt), prompt)
        known = self._of_question.get(question_id(name), {})
        # An id that says more than the problem: it had a reference, which its file does not tell any more.
        is_lost = name != imported_id(prompt)
        if is_lost or len(known) != 1:
            return prompt
        (one,) = known.values()
        full = replace(prompt, answer=one.answer, answer_kind=one.answer_kind, tests=one.tests)
        return self._problems.get(imported_id(full), full)


def _references(prompts: Iterable[Prompt]) -> dict[str, dict[str, Prompt]]:
    """Question -> its different references, each with a problem that has it."""
    found: dict[str, dict[str, Prompt]] = {}
    for prompt in prompts:
        if has_reference(prompt):
            found.setdefault(question_id(prompt.id), {}).setdefault(_digest(_reference(prompt)), prompt)
    return found


def keep_prompts(prompts: Iterable[Prompt], run: Run, name: str) -> Kept:
    """Add problems to those that the run knows from files: prompts-files-NAME.jsonl. Of one id the first with a
    reference counts.
    """
    path = run.folder / f"prompts-files-{name}.jsonl"
    found = _NewPrompts(run)
    new = found.of(prompts)
    first = next(new, None)
    if first is not None:
        before = _read_chunks(path) if path.exists() else ()
        write_atomic(path, chain(before, (first,), new))
    return Kept(found.new, len(found.clashing))


class _NewPrompts:
    """Tells the problems that a run does not know yet."""

    def __init__(self, run: Run) -> None:
        self.new = 0
        self.clashing: set[str] = set()
        self._known: dict[str, str] = {}
        for prompt in imported_prompts(run.folder):
            self._take(prompt)

    def of(self, prompts: Iterable[Prompt]) -> Iterator[bytes]:
        """The lines of those that are new."""
        for prompt in prompts:
            if self._take(prompt):
                self.new += 1
                yield msgspec.json.encode(prompt) + b"\n"

    def _take(self, prompt: Prompt) -> bool:
        """Know a problem; True when it says more than what was known."""
        says = _digest(_reference(prompt)) if has_reference(prompt) else ""
        known = self._known.get(prompt.id)
        if known is None or (says and not known):
            self._known[prompt.id] = says
            return True
        if says and says != known:
            self.clashing.add(prompt.id)
        return False


def _read_chunks(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while chunk := file.read(CHUNK_BYTES):
            yield chunk


def notes_of(kept: Kept, run: Run) -> list[str]:
    """What is to be told of the problems of a run after an import that brought some."""
    told = []
    if kept.new:
        stored = imported_prompts(run.folder)
        several = sum(len(found) > 1 for found in _references(stored).values())
        if several:
            told.append(
                f"{counted(several, 'question')} from files with more than one reference: a trace is judged by the one of its "
                "own row, and by none if its row has none."
            )
    if kept.clashing:
        told.append(
            f"{counted(kept.clashing, 'problem')} of other runs under an id that this run knows with another reference: the one "
            "that was here first counts."
        )
    return told


def _reference(prompt: Prompt) -> list[Any]:
    return [prompt.answer, prompt.answer_kind, prompt.tests] if has_reference(prompt) else []


def _licences(prompt: Prompt) -> dict[str, Any]:
    return {name: value for name, value in prompt.tags.items() if name in LICENCES}


def _digest(says: list[Any]) -> str:
    return hashlib.blake2b(msgspec.json.encode(says, order="deterministic"), digest_size=16).hexdigest()
