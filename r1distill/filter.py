"""VERB: which traces are good enough to learn from?

In: the traces of a run that today's recipe wants, or plain trace files (filter_files). Out, in filter/<id>/:
verdicts.jsonl (one row per trace and check), kept.jsonl and rejected.jsonl (source lines byte for byte),
reasons.jsonl (why a trace is no training row), train.jsonl and val.jsonl, summary.json. The same settings and
traces again: nothing to do.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from r1distill.checks import Check, build_checks
from r1distill.checks.own_faults import own_faults
from r1distill.checks.workers import Workers
from r1distill.errors import InputError, NothingKeptError
from r1distill.filtering.cards import card
from r1distill.filtering.chosen import Chosen, choose, run_sources
from r1distill.filtering.diff import Earlier, read_earlier, unchanged
from r1distill.filtering.diff import tell as tell_diff
from r1distill.filtering.funnel import FilterSummary, Parted, nothing_kept_sentence, print_summary
from r1distill.filtering.judging import Heard, has_judge, hear
from r1distill.filtering.logprobs_beside import logprob_inputs, logprobs_for, measure_logprobs
from r1distill.filtering.measure import Judged, Logprobs
from r1distill.filtering.outputs import FILES, ExampleRow, make_example
from r1distill.filtering.parquet_files import COLUMNS
from r1distill.filtering.plain_files import Plain, plain
from r1distill.filtering.sift import (
    Material,
    earlier_summary,
    finished,
    open_index,
    read_places,
    settings_of,
    sift,
    values_read,
)
from r1distill.filtering.tracefiles import READER_VERSION, TraceFiles
from r1distill.importers import own
from r1distill.importers.fields import known_row
from r1distill.index import Index
from r1distill.ledger import storage_errors, write_atomic
from r1distill.path_names import as_text, shown
from r1distill.prompts import student_template
from r1distill.recipe import Recipe
from r1distill.records import Message, digest
from r1distill.run import Run, stage_id
from r1distill.show import Show

__all__ = ["FilterSummary", "filter", "filter_files"]

MUCH_BYTES = 32 << 20
"""Of trace files: some seconds of measuring."""


@own_faults()
def filter(
    recipe: Recipe, run: Run, *, dry_run: bool = False, diff: bool = False, retry_failed: bool = False,
    show: Show | None = None,
) -> FilterSummary:  # fmt: skip
    """Filter a run's traces into filter/<id>/ and point `latest` there; `diff` compares with what it pointed to before.
    With `retry_failed` judges are asked again also for what failed for good.

    Raises NothingKeptError when no trace is left (the files are written all the same), InputError when there is no
    trace at all, RecipeError for a check or key that does not exist.
    """
    show = show or Show(0)
    checks = build_checks(recipe.filter.checks, recipe.folder)
    template = student_template(recipe)
    with open_index(run.folder, dry_run) as index:
        index.catch_up("traces", run.ledger_folder("traces"))
        chosen = choose(recipe, run, index)
        logprobs = logprobs_for(checks, [run.folder / "logprobs"], lambda trace: trace.id)
        heard = _heard_of_run(recipe, checks, run, chosen, index, logprobs, dry_run, show, retry_failed)
        settings = settings_of(heard.checks, recipe.filter.select, {"template": template.source})
        stage = stage_id(settings, [*chosen.inputs(), *heard.inputs, *logprob_inputs(logprobs, chosen.ids())])
        earlier = _before(run) if diff else None
        done = finished(run.stage("filter", stage), stage)
        if done is not None and (earlier is None or earlier.folder.name == stage):
            return heard.complete(_up_to_date(run, done, dry_run, earlier is not None, show))
        messages = [template.messages(prompt) for prompt in chosen.prompts]
        material = run_material(
            run, chosen, stage, messages, index, lambda p, s: card(p, s, heard.checks, recipe, chosen.prompts), logprobs,
        )  # fmt: skip
        section = recipe.filter
        sifted = sift(
            material, heard.checks, section.select, index, section.workers, dry_run, show, earlier, heard.found
        )  # fmt: skip
        summary = heard.complete(sifted)
    if not dry_run:
        run.save_recipe(recipe)
        run.finish_stage("filter", stage, msgspec.to_builtins(summary))
    return _told(summary, show)


def _heard_of_run(
    recipe: Recipe, checks: dict[str, Check], run: Run, chosen: Chosen, index: Index, logprobs: Logprobs | None,
    dry_run: bool, show: Show, retry_failed: bool,
) -> Heard:  # fmt: skip
    """The checks after their judges were asked, with judge/ in the run folder."""
    if has_judge(checks):
        measure_logprobs(run_sources(run, chosen), checks, index, logprobs, dry_run)
    sources = functools.partial(run_sources, run, chosen)
    keep = values_read(checks, recipe.filter.select)
    return hear(
        recipe, checks, run.folder, sources, len(chosen.refs), index, dry_run, show, keep, retry_failed
    )


def _before(run: Run) -> Earlier | None:
    """What the filter run before said, if there is one."""
    before = run.latest("filter")
    return read_earlier(before[0]) if before else None


def run_material(
    run: Run, chosen: Chosen, stage: str, messages: list[list[Message]], index: Index,
    describe: Callable[[Parted, FilterSummary], str], logprobs: Logprobs | None,
) -> Material:  # fmt: skip
    """The chosen traces of a run and how to write their result."""

    def example(line: bytes, row: Judged) -> ExampleRow:
        return make_example(own.text(known_row(line)), row.trace_id, messages[row.order])

    notes = [f"Not readable as a trace, left out: {place}" for place in index.unreadable]
    facts = {
        "from_earlier_recipes": chosen.from_earlier_recipes, "unknown_problem": chosen.unknown_problem,
        "unreadable": len(index.unreadable), "notes": notes,
    }  # fmt: skip
    paths = [run.ledger_folder("traces") / name for name in chosen.names]
    return Material(
        run.stage("filter", stage), stage, len(chosen.refs), len(chosen.prompts), lambda: run_sources(run, chosen),
        chosen.prompts, lambda p: read_places(paths, p), example, facts, describe, logprobs,
    )  # fmt: skip


@own_faults()
def filter_files(
    files: list[Path],
    to: Path,
    recipe: Recipe | None = None,
    *,
    dry_run: bool = False,
    diff: bool = False,
    format: str | None = None,
    columns: dict[str, str] | None = None,
    retry_failed: bool = False,
    show: Show | None = None,
) -> FilterSummary:
    """Filter trace files into the folder `to`, which refers to them and does not copy them; `diff` compares with what
    is there from before, `retry_failed` is that of `filter`. Their format is detected unless `format` names it or
    `columns` describes it (see importers/).

    Lines that can't be read go to skipped.jsonl with file, line and reason. Raises InputError when no line can be
    read, NothingKeptError when no trace is left, UsageError for a format that does not exist.
    """
    show = show or Show(0)
    _refuse_own_outputs(files, to)
    way = plain(files, recipe, format, columns)
    traces = way.reader(scratch=None if dry_run else to)
    traces.refuse_odd_files()
    if not dry_run:
        with storage_errors(to):
            to.mkdir(parents=True, exist_ok=True)  # without it the index would forget what is measured
    with _workers(way, to, dry_run) as pool, open_index(to, dry_run) as index:
        origins = traces.fingerprints(index)
        traces.remember_in(index)
        way, heard = _heard(way, recipe, to, traces.lines, index, dry_run, show, retry_failed)
        stage = _stage_of_files(way, [*(digest(item) for item in origins), *heard.inputs])
        done = finished(to, stage)
        if done is not None:
            again = earlier_summary({**done, "folder": as_text(to), "dry_run": dry_run})
            return heard.complete(_told(_unchanged(again) if diff else again, show))
        earlier = read_earlier(to) if diff else None
        material = _files_material(way, traces, to, stage, recipe)
        found = sift(material, way.checks, way.section.select, index, pool, dry_run, show, earlier)
    summary = heard.complete(_with_reading(found, traces))
    if not dry_run:
        _write_about_files(to, traces, origins, summary)
    return _told(summary, show)


def _workers(way: Plain, to: Path, dry_run: bool) -> Workers:
    """The workers; for much that is new they start while the files are looked through."""
    pool = Workers(way.section.workers)
    is_much = sum(path.stat().st_size for path in way.files) >= MUCH_BYTES
    if pool.count > 1 and is_much and not dry_run and not (to / "index.sqlite").exists():
        pool.start()
    return pool


def _heard(
    way: Plain,
    recipe: Recipe | None,
    to: Path,
    total: int,
    index: Index,
    dry_run: bool,
    show: Show,
    retry_failed: bool,
) -> tuple[Plain, Heard]:
    """The files with the checks after their judges were asked, with judge/ in `to`."""
    if not has_judge(way.checks):
        return way, Heard(way.checks, [], [])
    measure_logprobs(way.reader().sources(), way.checks, index, way.logprobs, dry_run)
    heard = hear(
        recipe, way.checks, to, way.reader().sources, total, index, dry_run, show, retry_failed=retry_failed
    )
    return way._replace(checks=heard.checks), heard


def _stage_of_files(way: Plain, inputs: list[str]) -> str:
    source = way.template.source if way.template else None
    reading = {"version": READER_VERSION, "format": way.format, "columns": way.columns}
    settings = settings_of(way.checks, way.section.select, {"template": source, "reading": reading})
    return stage_id(settings, [*inputs, *logprob_inputs(way.logprobs)])


def _files_material(way: Plain, traces: TraceFiles, to: Path, stage: str, recipe: Recipe | None) -> Material:
    """The traces of the files and how to write their result."""

    def example(line: bytes, row: Judged) -> ExampleRow:
        prompt = traces.problems[row.order]
        messages = way.template.messages(prompt) if way.template else traces.problems.asked(row.order)
        return make_example(row.place.text_in(line) or traces.text_of(line), row.trace_id, messages)

    return Material(
        to, stage, traces.lines, 0, traces.sources, traces.problems, traces.lines_at, example, {},
        lambda p, s: card(p, s, way.checks, recipe, traces.problems), way.logprobs, lambda: traces.skipped.lines,
        traces.refuse_changed,
    )  # fmt: skip


def _with_reading(summary: FilterSummary, traces: TraceFiles) -> FilterSummary:
    """The summary with what is known of the files once they are read."""
    notes = [*traces.notes(), *summary.notes]
    return msgspec.structs.replace(
        summary, prompts=traces.problems.questions, unreadable=len(traces.skipped), notes=notes
    )


def _write_about_files(to: Path, traces: TraceFiles, origins: list[Any], summary: FilterSummary) -> None:
    """Beside the outputs: the lines that could not be read, where the traces come from, the summary."""
    skipped = b"".join(msgspec.json.encode(row) + b"\n" for row in traces.skipped)
    write_atomic(to / "skipped.jsonl", skipped)
    write_atomic(to / "sources.json", json.dumps(origins, indent=2, ensure_ascii=False).encode() + b"\n")
    write_atomic(to / "summary.json", msgspec.json.format(msgspec.json.encode(summary)) + b"\n")


def _refuse_own_outputs(files: list[Path], to: Path) -> None:
    """Raises InputError when an output would replace a file that it is made from."""
    own = {f"{name}.jsonl" for name in FILES} | {f"{name}.parquet" for name in COLUMNS}
    for path in files:
        if path.resolve().parent == to.resolve() and path.name in own:
            raise InputError(
                f"{shown(path)} would be overwritten by its own result: choose another folder than {shown(to)}."
            )


def _up_to_date(run: Run, done: dict[str, Any], dry_run: bool, diff: bool, show: Show) -> FilterSummary:
    summary = earlier_summary(
        {**done, "folder": as_text(run.stage("filter", done["stage_id"])), "dry_run": dry_run}
    )
    if not dry_run:
        run.point_latest("filter", summary.stage_id)
        run.update_manifest("filter", done)
    return _told(_unchanged(summary) if diff else summary, show)


def _unchanged(summary: FilterSummary) -> FilterSummary:
    """The summary of a run that was up to date, compared with itself."""
    return msgspec.structs.replace(summary, diff=unchanged(summary))


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
        show.note(f"Filter: up to date ({shown(summary.folder)}).")
    print_summary(summary, show)
    if summary.train + summary.val == 0:
        raise NothingKeptError(nothing_kept_sentence(summary))
    return summary
