"""VERB report: a run folder -> report.html, one file to look at: what was kept, what it cost, what came over.

Reads only what the other verbs wrote. Everything from traces is escaped, nothing in the page runs or loads
anything (content security policy), and what would steer the display (control characters, the direction of writing)
is shown as a sign, so that hostile trace text can do no harm.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jinja2
import msgspec

from r1distill import plots
from r1distill.errors import InputError
from r1distill.index import Index
from r1distill.ledger import write_atomic
from r1distill.recipe import Recipe
from r1distill.report_filter import Filtered, examples, mixture_of, overlaps_of, rows_of
from r1distill.run import Run, read_json
from r1distill.scores import Difference, Score
from r1distill.show import Show, dollars, duration, plain
from r1distill.version import __version__

MOST_LISTED = 40
"""So many reasons are listed with their counts."""


class ReportSummary(msgspec.Struct, frozen=True, kw_only=True):
    """Where the report is and what it holds."""

    path: str
    sections: list[str]
    plots: int
    dry_run: bool = False


def report(recipe: Recipe, run: Run, *, dry_run: bool = False, show: Show | None = None) -> ReportSummary:
    """Write RUN/report.html. Raises InputError when the run has nothing to report."""
    show = show or Show(0)
    path = run.folder / "report.html"
    sections = sections_of(run)
    if not sections:
        raise InputError(f"{run.folder} has nothing to report yet: harvest first.")
    if dry_run:
        show.note(f"A report would be written to {path}, on {', '.join(sections)}.")
        return ReportSummary(path=str(path), sections=sections, plots=0, dry_run=True)
    facts = gather(recipe, run)
    write_atomic(path, render(facts).encode("utf-8", "replace"))
    show.note(f"Report: {path}")
    if not plots.available():
        show.note("Without matplotlib it has no plots: pip install 'r1distill[report]'.")
    return ReportSummary(path=str(path), sections=sections, plots=len(facts["plots"]))


def sections_of(run: Run) -> list[str]:
    """The verbs that left something to show."""
    ledger = run.ledger_folder("traces")
    asked = [*ledger.glob("part-*.jsonl"), *run.folder.glob("failures*.jsonl")]
    harvested = ["harvest"] if any(path.stat().st_size for path in asked) else []
    return harvested + [verb for verb in ("filter", "train", "evaluate") if run.latest(verb)]


def gather(recipe: Recipe, run: Run) -> dict[str, Any]:
    """All that the page shows, by section; a section that has not run is None."""
    stages = {verb: run.latest(verb) for verb in ("filter", "train", "evaluate")}
    found = {verb: stage[1] if stage else None for verb, stage in stages.items()}
    filtered = examples(run, stages["filter"][0]) if stages["filter"] else Filtered()
    overlaps = overlaps_of(stages["filter"][1]) if stages["filter"] else None
    metrics = list(rows_of(stages["train"][0] / "metrics.jsonl")) if stages["train"] else []
    with Index(run.folder / "index.sqlite") as index:
        index.catch_up("traces", run.ledger_folder("traces"))
        totals, failures = index.totals("traces"), index.failure_counts("traces")
    evaluated = found["evaluate"] or {}
    facts: dict[str, Any] = {
        "name": recipe.name,
        "version": __version__,
        "harvest": totals,
        "failures": failures,
        **found,
        "scores": msgspec.convert(evaluated.get("scores", []), list[Score]),
        "differences": msgspec.convert(evaluated.get("differences", []), list[Difference]),
        "filtered": filtered,
        "overlaps": overlaps,
        "mixture": mixture_of(found["filter"]),
        "most_listed": MOST_LISTED,
        "recipe": read_json(run.folder / "recipe.resolved.json"),
    }
    facts["plots"] = _plots(facts, metrics) if plots.available() else {}
    facts["limits"] = limits(facts["scores"], facts["differences"])
    facts["recipe_text"] = json.dumps(facts["recipe"], indent=2, ensure_ascii=False)
    return facts


def _plots(facts: dict[str, Any], metrics: list[dict[str, Any]]) -> dict[str, str]:
    drawn: dict[str, str] = {}
    if facts["filter"]:
        found, filtered = facts["filter"], facts["filtered"]
        drawn["funnel"] = plots.funnel_plot(found["traces"], found["funnel"], found["kept"])
        if filtered.kept_lengths or filtered.rejected_lengths:
            drawn["lengths"] = plots.lengths_plot(filtered.kept_lengths, filtered.rejected_lengths)
    if any(row.get("loss") is not None for row in metrics):
        drawn["loss"] = plots.loss_plot(metrics)
    if facts["scores"]:
        for mode in ("lenient", "strict"):
            drawn[f"scores_{mode}"] = plots.scores_plot(facts["evaluate"]["scores"], mode)
    return drawn


def limits(scores: list[Score], differences: list[Difference]) -> list[str]:
    """What the scores do and don't show, in sentences made from the numbers."""
    text = [
        "An interval covers the luck of the drawn problems at one training seed; another seed is another draw.",
        "Scores hold for the runtime and quantisation that they were measured in; others shift all of them.",
    ]
    bases = {s.problems: s for s in scores if s.who == "base"}
    for d in differences:
        if (d.second, d.mode) == ("base", "lenient") and d.problems in bases:
            text.append(_form_against_skill(d, bases[d.problems]))
    return text


def _form_against_skill(d: Difference, base: Score) -> str:
    """What of a gain over the base may be form: answers it did not mark, or did not finish."""
    head = f"Form against skill on {d.problems}: "
    if not d.shown or d.difference.value < 0:
        return f"{head}no gain over the base is shown, so there is nothing to explain."
    unmarked = max(0.0, base.lenient.value - base.strict.value)
    most = f"{unmarked * 100:.1f} points for answers it does not mark as final and at most {base.truncated * 100:.1f} for answers"
    verdict = "more than" if d.difference.value > unmarked + base.truncated else "not more than"
    return (
        f"{head}the base loses {most} cut at max_tokens; the gain of {d.difference.value * 100:.1f} points is {verdict} both "
        "together. The rest may be a way of working that suits the model (short written steps, as in the training traces) "
        "as well as new skill: these scores can't tell the two apart. Problems of unseen kinds are the better test of skill."
    )


def render(facts: dict[str, Any]) -> str:
    """The page."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent / "shipped"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        finalize=lambda value: plain(value) if type(value) is str else value,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "dollars": dollars,
        "duration": duration,
        "points": lambda share: f"{share * 100:.1f}",
        "count": lambda number: "unknown" if number is None else f"{number:,}",
    }
    return environment.get_template("report.html.jinja").render(**facts)
