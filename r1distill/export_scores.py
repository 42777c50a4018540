"""What quantising costs: an exported student, and the same unquantised, on the recipe's held-out problems.

In: a finished export. Out: its summary with scores, paired differences, sizes and tokens per second. Answers go into the
run's evaluation ledger and are asked and graded as those of `evaluate` are; the unquantised student is an f16 GGUF at the
same kind of server, written for the moment.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import groupby
from pathlib import Path

import msgspec

from r1distill.exam import evaluate_section, examine, problem_sets, sampling_of
from r1distill.exports.served import tokens_per_s
from r1distill.exports.summary import UNQUANTISED, ExportSummary
from r1distill.ledger import storage_errors
from r1distill.recipe import Recipe
from r1distill.run import Run
from r1distill.runtime import Contestant, contestants, exported
from r1distill.scores import MODES, Difference, GradedAnswer, difference, score
from r1distill.show import Show

WriteF16 = Callable[[Path], Path]
"""Writes the unquantised student as GGUF to a path."""


def scored(
    summary: ExportSummary, recipe: Recipe, run: Run, weights: Path | None, write_f16: WriteF16, show: Show
) -> ExportSummary:
    """The summary with scores. `weights` is the GGUF or merged folder; None: an adapter, scored as `evaluate` does.

    Raises R1DistillError (no [evaluate], no server).
    """
    section = evaluate_section(recipe)
    sets, sampling = problem_sets(recipe, section), sampling_of(recipe, section)
    with _reference(summary, write_f16) as f16:
        models = [] if f16 is None else [exported(recipe, UNQUANTISED, f16, sampling)]
        models += (
            contestants(recipe, run, ["student"], sampling)
            if weights is None
            else [exported(recipe, summary.who, weights, sampling)]
        )
        exam = examine(recipe, run, models, sets, dry_run=False, show=show)
        facts = {m.party.name: m.facts for m in models}
        if not exam.interrupted:
            facts = {m.party.name: {**m.facts, "tokens_per_s": _speed(m, run)} for m in models}
    groups = [list(rows) for _, rows in groupby(exam.rows, key=lambda row: (row.problems, row.who))]
    mine = models[-1].party.name
    return msgspec.structs.replace(
        summary, scores=[score(rows) for rows in groups], differences=list(_differences(groups, mine)), models=facts,
        tokens_per_s=facts[mine].get("tokens_per_s"), still_owed=exam.still_owed, interrupted=exam.interrupted,
    )  # fmt: skip


@contextmanager
def _reference(summary: ExportSummary, write_f16: WriteF16) -> Iterator[Path | None]:
    """The unquantised student as a file while the block runs; None when the export itself is not quantised."""
    if summary.quant in (None, "f16"):
        yield None
        return
    beside = Path(summary.folder).absolute().parent
    with storage_errors(beside), tempfile.TemporaryDirectory(prefix=".r1distill-f16-", dir=beside) as scratch:
        yield write_f16(Path(scratch) / f"{summary.name}-f16.gguf")


def _speed(model: Contestant, run: Run) -> float | None:
    with model.open(run.log_file(f"export-{model.party.name}")) as endpoint:
        return tokens_per_s(endpoint)


def _differences(groups: list[list[GradedAnswer]], mine: str) -> Iterator[Difference]:
    """The export against the unquantised student, on each set and by each way of grading."""
    by_key = {(rows[0].problems, rows[0].who): rows for rows in groups}
    for (problems, who), rows in by_key.items():
        other = by_key.get((problems, UNQUANTISED))
        if who == mine and other is not None and other is not rows:
            yield from (difference(rows, other, mode) for mode in MODES)
