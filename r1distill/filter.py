"""VERB: which traces are good enough to learn from?

In: the traces of a run that today's recipe wants, or plain trace files (filter_files). Out, in filter/<id>/:
verdicts.jsonl (one row per trace and check), kept.jsonl and rejected.jsonl (source lines byte for byte),
reasons.jsonl (why a trace is no training row), train.jsonl and val.jsonl, summary.json. The same settings and
traces again: nothing to do.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from r1distill.cards import card
from r1distill.checks import build_checks
from r1distill.errors import InputError, NothingKeptError
from r1distill.filter_diff import read_earlier
from r1distill.filter_diff import tell as tell_diff
from r1distill.funnel import FilterSummary, Parted, nothing_kept_sentence, print_summary
from r1distill.index import Index
from r1distill.ledger import storage_errors, write_atomic
from r1distill.measure import Judged, Place, Source
from r1distill.outputs import FILES, make_example
from r1distill.owed import harvest_wanted
from r1distill.problems import load_problems
from r1distill.prompts import student_template
from r1distill.queries import TraceRef
from r1distill.recipe import Recipe
from r1distill.recipe_sections import FilterSection
from r1distill.records import Example, Message, Prompt, Trace, digest
from r1distill.run import Run, stage_id
from r1distill.show import Show
from r1distill.sift import Material, earlier_summary, finished, open_index, read_places, settings_of, sift
from r1distill.tracefiles import TraceFiles

__all__ = ["FilterSummary", "filter", "filter_files"]

FILE_CHECKS: dict[str, dict[str, Any]] = {
    "finish": {"unjudged": "keep"},
    "format": {},
    "length": {},
    "repetition": {},
    "duplicate": {},
    "correct": {"without_reference": "keep"},
}
"""For plain files without a recipe: most of them don't say how an answer ended."""


class Chosen(NamedTuple):
    """The traces of a run that count, and those that don't."""

    refs: list[tuple[TraceRef, int]]
    """With the number of the problem in `prompts`."""
    prompts: list[Prompt]
    from_earlier_recipes: int
    unknown_problem: int


def filter(
    recipe: Recipe, run: Run, *, dry_run: bool = False, diff: bool = False, show: Show | None = None
) -> FilterSummary:
    """Filter a run's traces into filter/<id>/ and point `latest` there; `diff` compares with what it pointed to before.

    Raises NothingKeptError when no trace is left (the files are written all the same), InputError when there is no
    trace at all, RecipeError for a check or key that does not exist.
    """
    show = show or Show(0)
    checks = build_checks(recipe.filter.checks, recipe.folder)
    template = student_template(recipe)
    with open_index(run.folder, dry_run) as index:
        index.catch_up("traces", run.ledger_folder("traces"))
        chosen = choose(recipe, run, index)
        settings = settings_of(checks, recipe.filter.select, {"template": template.source})
        inputs = [ref.content for ref, _ in chosen.refs] + [digest(prompt_digest(p)) for p in chosen.prompts]
        stage = stage_id(settings, inputs)
        before = run.latest("filter") if diff else None
        earlier = read_earlier(before[0]) if before else None
        done = finished(run.stage("filter", stage), stage)
        if done is not None and (earlier is None or earlier.folder.name == stage):
            return _up_to_date(run, done, dry_run, show)
        messages = [template.messages(prompt) for prompt in chosen.prompts]
        material = run_material(
            run, chosen, stage, messages, index, lambda p, s: card(p, s, checks, recipe, chosen.prompts)
        )
        summary = sift(
            material, checks, recipe.filter.select, index, recipe.filter.workers, dry_run, show, earlier
        )
    if not dry_run:
        run.save_recipe(recipe)
        run.finish_stage("filter", stage, msgspec.to_builtins(summary))
    return _told(summary, show)


def todays_prompts(recipe: Recipe, run: Run) -> list[Prompt]:
    """The problems as they stand today, so that a corrected reference counts; else those that the run has saved."""
    section = recipe.prompts
    if section is not None and section.problems is not None and recipe.path(section.problems).is_file():
        return load_problems(recipe)[0]
    return run.prompts()


def choose(recipe: Recipe, run: Run, index: Index) -> Chosen:
    """The newest trace of every slot that counts. Raises InputError when there is none."""
    prompts = todays_prompts(recipe, run)
    newest = index.newest("traces")
    everything = recipe.filter.traces == "all"
    number = {prompt.id: n for n, prompt in enumerate(prompts)}
    slots: dict[str, int] = {}
    if recipe.teacher or not everything:
        slots = {wanted.slot: number[wanted.prompt_id] for wanted in harvest_wanted(recipe, prompts)}
    refs = [(ref, slots[slot]) for slot, ref in newest.items() if slot in slots]
    others = [ref for slot, ref in newest.items() if slot not in slots]
    unknown = 0
    if everything and others:
        known, unknown = _earlier(run, others, prompts, number)
        refs, others = refs + known, []
    if not refs:
        more = (
            f' ({len(others):,} traces of earlier recipes are there: filter.traces = "all" uses them)'
            if others
            else ""
        )
        raise InputError(
            f"There are no traces to filter in {run.ledger_folder('traces')}{more}: harvest first."
        )
    return Chosen(refs, prompts, len(others), unknown)


def _earlier(
    run: Run, refs: list[TraceRef], prompts: list[Prompt], number: dict[str, int]
) -> tuple[list[tuple[TraceRef, int]], int]:
    """Traces that today's recipe does not ask for, with their problems; `prompts` grows by those the run still knows."""
    saved = {p.id: p for p in run.prompts()} if (run.folder / "prompts.jsonl").exists() else {}
    found, unknown = [], 0
    for ref, (_, trace) in zip(refs, run.read_traces("traces", refs), strict=True):
        if trace.prompt_id not in number and trace.prompt_id in saved:
            number[trace.prompt_id] = len(prompts)
            prompts.append(saved[trace.prompt_id])
        if trace.prompt_id in number:
            found.append((ref, number[trace.prompt_id]))
        else:
            unknown += 1
    return found, unknown


def run_material(
    run: Run, chosen: Chosen, stage: str, messages: list[list[Message]], index: Index,
    describe: Callable[[Parted, FilterSummary], str],
) -> Material:  # fmt: skip
    """The chosen traces of a run, read in the order of their files."""
    names = sorted({ref.name for ref, _ in chosen.refs})
    file_of = {name: number for number, name in enumerate(names)}
    in_file_order = sorted(chosen.refs, key=lambda item: (item[0].name, item[0].offset))
    decoder = msgspec.json.Decoder(Trace)

    def sources() -> Iterator[Source]:
        read = run.read_traces("traces", (ref for ref, _ in in_file_order))
        for (ref, order), (_, trace) in zip(in_file_order, read, strict=True):
            place = Place(file_of[ref.name], ref.offset, ref.length)
            yield Source(order, chosen.prompts[order], trace, place, ref.content)

    def example(line: bytes, row: Judged) -> Example:
        return make_example(decoder.decode(line), row.trace_id, messages[row.order])

    notes = [f"Not readable as a trace, left out: {place}" for place in index.unreadable]
    facts = {
        "from_earlier_recipes": chosen.from_earlier_recipes, "unknown_problem": chosen.unknown_problem,
        "unreadable": len(index.unreadable), "notes": notes,
    }  # fmt: skip
    paths = [run.ledger_folder("traces") / name for name in names]
    return Material(
        run.stage("filter", stage), stage, len(chosen.refs), len(chosen.prompts), sources, lambda p: read_places(paths, p),
        example, facts, describe,
    )  # fmt: skip


def filter_files(
    files: list[Path],
    to: Path,
    recipe: Recipe | None = None,
    *,
    dry_run: bool = False,
    diff: bool = False,
    show: Show | None = None,
) -> FilterSummary:
    """Filter plain trace files into the folder `to`, which refers to them and does not copy them; `diff` compares with what
    is there from before.

    Lines that can't be read go to skipped.jsonl with file, line and reason. Raises InputError when no line can be
    read, NothingKeptError when no trace is left.
    """
    show = show or Show(0)
    section = recipe.filter if recipe else FilterSection()
    checks = build_checks(section.checks or FILE_CHECKS, recipe.folder if recipe else None)
    template = student_template(recipe) if recipe and (recipe.prompts or recipe.student) else None
    _refuse_own_outputs(files, to)
    traces = TraceFiles(files, recipe.prompts.answer_kind if recipe and recipe.prompts else "math")
    sources = traces.fingerprints()
    settings = settings_of(checks, section.select, {"template": template.source if template else None})
    stage = stage_id(settings, [digest(item) for item in sources])
    done = finished(to, stage)
    if done is not None:
        return _told(earlier_summary({**done, "folder": str(to), "dry_run": dry_run}), show)

    def example(line: bytes, row: Judged) -> Example:
        prompt = traces.prompts[row.order]
        messages = template.messages(prompt) if template else traces.asked[row.order]
        return make_example(traces.trace_of(line), row.trace_id, messages)

    material = Material(
        to, stage, traces.lines, 0, traces.sources, lambda p: read_places(files, p), example, {},
        lambda p, s: card(p, s, checks, recipe, traces.prompts),
    )  # fmt: skip
    if not dry_run:
        with storage_errors(to):
            to.mkdir(parents=True, exist_ok=True)  # without it the index would forget what is measured
    earlier = read_earlier(to) if diff else None
    with open_index(to, dry_run) as index:
        summary = sift(material, checks, section.select, index, section.workers, dry_run, show, earlier)
    summary = msgspec.structs.replace(
        summary,
        prompts=len(traces.questions),
        unreadable=len(traces.skipped),
        notes=[*traces.notes(), *summary.notes],
    )
    if not dry_run:
        write_atomic(
            to / "skipped.jsonl", b"".join(msgspec.json.encode(row) + b"\n" for row in traces.skipped)
        )
        write_atomic(to / "sources.json", json.dumps(sources, indent=2, ensure_ascii=False).encode() + b"\n")
        write_atomic(to / "summary.json", msgspec.json.format(msgspec.json.encode(summary)) + b"\n")
    return _told(summary, show)


def _refuse_own_outputs(files: list[Path], to: Path) -> None:
    """Raises InputError when an output would replace a file that it is made from."""
    for path in files:
        if path.resolve().parent == to.resolve() and path.name in {f"{name}.jsonl" for name in FILES}:
            raise InputError(
                f"{path} would be overwritten by its own result: choose another folder than {to}."
            )


def _up_to_date(run: Run, done: dict[str, Any], dry_run: bool, show: Show) -> FilterSummary:
    summary = earlier_summary(
        {**done, "folder": str(run.stage("filter", done["stage_id"])), "dry_run": dry_run}
    )
    if not dry_run:
        run.point_latest("filter", summary.stage_id)
        run.update_manifest("filter", done)
    return _told(summary, show)


def _told(summary: FilterSummary, show: Show) -> FilterSummary:
    """Print the summary; raise NothingKeptError when there is nothing to train on."""
    if summary.diff is not None:
        tell_diff(summary.diff, show)
    if summary.dry_run and not summary.up_to_date:
        show.note(
            f"Would filter {summary.traces:,} traces: {summary.measured:,} measurements to make, "
            f"{summary.cached:,} known already."
        )
        return summary
    if summary.up_to_date:
        show.note(f"Filter: up to date ({summary.folder}).")
    print_summary(summary, show)
    if summary.train + summary.val == 0:
        raise NothingKeptError(nothing_kept_sentence(summary))
    return summary


def prompt_digest(prompt: Prompt) -> list[Any]:
    """All of a problem that the filter's outputs depend on."""
    return [prompt.id, prompt.question, prompt.answer, prompt.answer_kind, prompt.tests, prompt.tags]
