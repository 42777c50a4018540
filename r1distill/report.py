"""VERB report: a run folder -> report.html, one file to look at: what was kept, what it cost, what came over.

Reads only what the other verbs wrote. Everything from traces is escaped, nothing in the page runs or loads
anything (content security policy), so that hostile trace text can do no harm.
"""

from __future__ import annotations

import importlib.metadata
from collections import defaultdict
from pathlib import Path
from typing import Any

import jinja2
import msgspec

from r1distill import plots
from r1distill.errors import InputError
from r1distill.index import Index
from r1distill.ledger import read_lines, write_atomic
from r1distill.recipe import Recipe
from r1distill.records import Trace
from r1distill.run import Run, read_json
from r1distill.scores import Difference, Score
from r1distill.show import Show, dollars, duration

EXAMPLES_KEPT = 3
EXAMPLES_PER_REASON = 1
MOST_REASONS = 12
SHOWN_CHARS = 3000
"""So much of an example's reasoning and answer is shown."""


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
    facts = gather(recipe, run)
    sections = [name for name in ("harvest", "filter", "train", "evaluate") if facts[name]]
    if not sections:
        raise InputError(f"{run.folder} has nothing to report yet: harvest first.")
    summary = ReportSummary(path=str(path), sections=sections, plots=len(facts["plots"]), dry_run=dry_run)
    if dry_run:
        show.note(f"A report would be written to {path}, on {', '.join(sections)}.")
        return summary
    write_atomic(path, render(facts).encode("utf-8", "replace"))
    show.note(f"Report: {path}")
    if not plots.available():
        show.note("Without matplotlib it has no plots: pip install 'r1distill[report]'.")
    return summary


def gather(recipe: Recipe, run: Run) -> dict[str, Any]:
    """All that the page shows, by section; a section that has not run is None."""
    stages = {verb: run.latest(verb) for verb in ("filter", "train", "evaluate")}
    found = {verb: stage[1] if stage else None for verb, stage in stages.items()}
    filtered = stages["filter"]
    kept, rejected = _traces(run, filtered[0]) if filtered else ([], [])
    metrics = _rows(stages["train"][0] / "metrics.jsonl") if stages["train"] else []
    with Index(run.folder / "index.sqlite") as index:
        index.catch_up("traces", run.ledger_folder("traces"))
        totals, failures = index.totals("traces"), index.failure_counts("traces")
    facts: dict[str, Any] = {
        "name": recipe.name,
        "version": importlib.metadata.version("r1distill"),
        "harvest": totals,
        "failures": failures,
        **found,
        "scores": msgspec.convert((found["evaluate"] or {}).get("scores", []), list[Score]),
        "differences": msgspec.convert((found["evaluate"] or {}).get("differences", []), list[Difference]),
        "examples_kept": kept[:EXAMPLES_KEPT],
        "examples_rejected": _by_reason(rejected),
        "recipe": read_json(run.folder / "recipe.resolved.json"),
    }
    facts["plots"] = _plots(facts, kept, rejected, metrics) if plots.available() else {}
    facts["limits"] = limits(facts["scores"], facts["differences"])
    return facts


class _Shown(msgspec.Struct):
    trace: Trace
    question: str
    reference: str | None
    reasons: list[str]

    @property
    def text(self) -> str:
        parts = [part for part in (self.trace.reasoning, self.trace.answer) if part]
        text = "\n———\n".join(parts)
        return text if len(text) <= SHOWN_CHARS else text[:SHOWN_CHARS] + " …"


def _traces(run: Run, stage: Path) -> tuple[list[_Shown], list[_Shown]]:
    prompts = {prompt.id: prompt for prompt in run.prompts()}
    reasons = {row["trace_id"]: row["reasons"] for row in _rows(stage / "reasons.jsonl")}
    decoder = msgspec.json.Decoder(Trace)
    shown: dict[str, list[_Shown]] = {"kept": [], "rejected": []}
    for name, rows in shown.items():
        for _, line in read_lines(stage / f"{name}.jsonl"):
            trace = decoder.decode(line)
            prompt = prompts.get(trace.prompt_id)
            question = prompt.question if prompt else trace.messages[-1].content
            rows.append(_Shown(trace, question, prompt.answer if prompt else None, reasons.get(trace.id, [])))
    return shown["kept"], shown["rejected"]


def _by_reason(rejected: list[_Shown]) -> dict[str, list[_Shown]]:
    """Rejected traces by each of their reasons, the most frequent first, a few of each."""
    groups: dict[str, list[_Shown]] = defaultdict(list)
    for item in rejected:
        for reason in item.reasons:
            groups[reason].append(item)
    most = sorted(groups, key=lambda reason: (-len(groups[reason]), reason))[:MOST_REASONS]
    return {
        f"{reason} ({len(groups[reason]):,} traces)": groups[reason][:EXAMPLES_PER_REASON] for reason in most
    }


def _plots(
    facts: dict[str, Any], kept: list[_Shown], rejected: list[_Shown], metrics: list[dict[str, Any]]
) -> dict[str, str]:
    drawn: dict[str, str] = {}
    if facts["filter"]:
        drawn["funnel"] = plots.funnel_plot(
            facts["filter"]["traces"], facts["filter"]["funnel"], facts["filter"]["kept"]
        )
        lengths = [[s.trace.usage.completion_tokens or 0 for s in group] for group in (kept, rejected)]
        drawn["lengths"] = plots.lengths_plot(*lengths)
    if any(row.get("loss") is not None for row in metrics):
        drawn["loss"] = plots.loss_plot(metrics)
    if facts["evaluate"]:
        for mode in ("lenient", "strict"):
            drawn[f"scores_{mode}"] = plots.scores_plot(facts["evaluate"]["scores"], mode)
    return drawn


def limits(scores: list[Score], differences: list[Difference]) -> list[str]:
    """What the scores do and don't show, in sentences made from the numbers."""
    text = [
        "An interval covers the luck of the drawn problems at one training seed; another seed is another draw.",
        "Base and student ran in the same runtime and quantisation; other runtimes shift all scores.",
    ]
    form = {(s.problems, s.who): s.in_form for s in scores}
    for d in differences:
        if (d.second, d.mode) != ("base", "lenient") or (d.problems, "base") not in form:
            continue
        before, after = form[d.problems, "base"], form[d.problems, "student"]
        gain = f"{d.difference.value * 100:+.1f} points lenient on {d.problems}"
        if after - before >= 0.1:
            text.append(
                f"Form against skill: {gain}, while answers in the taught form (a chain of thought, then a marked answer) "
                f"rose from {before:.0%} to {after:.0%}. Part of the gain is form: the student now works in writing and "
                "ends with its answer. The score alone does not tell how much of it is skill."
            )
        else:
            text.append(
                f"Form against skill: {gain}; the form hardly changed ({before:.0%} to {after:.0%}), so the gain is not form."
            )
    return text


def _rows(path: Path) -> list[dict[str, Any]]:
    return [msgspec.json.decode(line) for _, line in read_lines(path)] if path.exists() else []


def render(facts: dict[str, Any]) -> str:
    """The page."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent / "shipped"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters |= {
        "dollars": dollars,
        "duration": duration,
        "points": lambda share: f"{share * 100:.1f}",
    }
    return environment.get_template("report.html.jinja").render(**facts)
