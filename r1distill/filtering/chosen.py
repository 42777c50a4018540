"""Which traces of a run a filter works on: what today's recipe owes, or all of them.

In: the recipe, the run, its index. Out: where the traces stand and which problem each belongs to.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import msgspec

from r1distill.asking.owed import harvest_wanted
from r1distill.errors import InputError
from r1distill.filtering.measure import Place, Source
from r1distill.imported import is_imported, problem_of
from r1distill.imported_problems import (
    References,
    distinct,
    has_reference,
    imported_problems,
    question_id,
)
from r1distill.index import Index
from r1distill.problems import load_problems
from r1distill.queries import TraceRef
from r1distill.recipe import Recipe
from r1distill.records import Prompt, digest, prompt_id_of
from r1distill.run import Run


class Chosen(NamedTuple):
    """The traces of a run that count, and those that don't."""

    refs: list[tuple[TraceRef, int]]
    """With the number of the problem in `prompts`; in the order of their files."""
    prompts: list[Prompt]
    from_earlier_recipes: int
    unknown_problem: int

    @property
    def names(self) -> list[str]:
        """The files, in the order that `Place.file` counts them in."""
        return sorted({ref.name for ref, _ in self.refs})

    def ids(self) -> list[str]:
        """The ids of the traces."""
        return [ref.id for ref, _ in self.refs]

    def inputs(self) -> list[str]:
        """All that the filter's outputs depend on, for the stage's id."""
        return [ref.content for ref, _ in self.refs] + [digest(prompt_digest(p)) for p in self.prompts]


def todays_prompts(recipe: Recipe, run: Run) -> list[Prompt]:
    """The problems as they stand today, so that a corrected reference counts; else those that the run has saved."""
    section = recipe.prompts
    if section is not None and section.problems is not None and recipe.path(section.problems).is_file():
        return load_problems(recipe)[0]
    if not (run.folder / "prompts.jsonl").exists():
        found = distinct(imported_problems(run.folder))
        if found:
            return found
    return run.prompts()


def choose(recipe: Recipe, run: Run, index: Index) -> Chosen:
    """The newest trace of every slot that counts. Raises InputError when there is none."""
    prompts = todays_prompts(recipe, run)
    newest = index.newest("traces")
    everything = recipe.filter.traces == "all"
    number = {prompt.id: n for n, prompt in enumerate(prompts)}
    slots: dict[str, int] = {}
    from_files = {slot for slot, ref in newest.items() if is_imported(slot, ref.id)}
    if recipe.teacher or not (everything or from_files):
        slots = {wanted.slot: number[wanted.prompt_id] for wanted in harvest_wanted(recipe, prompts)}
    refs = [(ref, slots[slot]) for slot, ref in newest.items() if slot in slots]
    others = [ref for slot, ref in newest.items() if slot not in slots]
    unknown = 0
    more = others if everything else [ref for ref in others if ref.slot in from_files]
    if more:
        known, unknown = _earlier(run, more, prompts, number)
        refs, others = (
            refs + known,
            [] if everything else [ref for ref in others if ref.slot not in from_files],
        )
    if not refs:
        raise InputError(_no_traces_sentence(run, len(others)))
    refs = [
        (ref._replace(slot=""), order) for ref, order in refs
    ]  # the slots have done their work: 2 MB of 20,000
    refs.sort(key=lambda item: (item[0].name, item[0].offset))
    return Chosen(refs, prompts, len(others), unknown)


def _no_traces_sentence(run: Run, others: int) -> str:
    more = (
        f' ({others:,} traces of earlier recipes are there: filter.traces = "all" uses them)'
        if others
        else ""
    )
    return f"There are no traces to filter in {run.ledger_folder('traces')}{more}: harvest first."


def _earlier(
    run: Run, refs: list[TraceRef], prompts: list[Prompt], number: dict[str, int]
) -> tuple[list[tuple[TraceRef, int]], int]:
    """Traces that today's recipe does not ask for, with their problems; `prompts` grows by those the run still knows."""
    saved = imported_problems(run.folder)
    references = References(saved)
    own = {
        prompt_id_of(p.question): place for place, p in enumerate(prompts) if saved.get(p.id) != p
    }  # problems of the recipe, which traces from files know by their question only
    saved |= {p.id: p for p in run.prompts()} if (run.folder / "prompts.jsonl").exists() else {}
    found, unknown = [], 0
    for ref, (_, trace) in zip(refs, run.read_traces("traces", refs), strict=True):
        if trace.prompt_id not in saved and is_imported(ref.slot, ref.id):
            saved[trace.prompt_id] = references.completed(trace.prompt_id, problem_of(trace))
        if trace.prompt_id not in number:
            _note_problem(trace.prompt_id, saved.get(trace.prompt_id), prompts, number, own)
        if trace.prompt_id in number:
            found.append((ref, number[trace.prompt_id]))
        else:
            unknown += 1
    return found, unknown


def _note_problem(
    name: str, problem: Prompt | None, prompts: list[Prompt], number: dict[str, int], own: dict[str, int]
) -> None:
    """Give an id that no problem of today has the number of its problem: the recipe's `own` with this question, unless only the
    trace's row has a reference; else the one that the run knows.
    """
    place = own.get(question_id(name))
    if place is not None and (problem is None or has_reference(prompts[place]) or not has_reference(problem)):
        number[name] = place
    elif problem is not None:
        if problem.id not in number:
            number[problem.id] = len(prompts)
            prompts.append(problem)
        number[name] = number[problem.id]


def run_sources(run: Run, chosen: Chosen) -> Iterator[Source]:
    """The chosen traces of a run, read in the order of their files."""
    file_of = {name: number for number, name in enumerate(chosen.names)}
    read = run.read_traces("traces", (ref for ref, _ in chosen.refs))
    for (ref, order), (_, trace) in zip(chosen.refs, read, strict=True):
        place = Place(file_of[ref.name], ref.offset, ref.length)
        trace = msgspec.structs.replace(trace, id=ref.id)  # one string for the ref and the row that stays
        yield Source(order, chosen.prompts[order], trace, place, ref.content)


def prompt_digest(prompt: Prompt) -> list[Any]:
    """All of a problem that the filter's outputs depend on."""
    return [prompt.id, prompt.question, prompt.answer, prompt.answer_kind, prompt.tests, prompt.tags]
