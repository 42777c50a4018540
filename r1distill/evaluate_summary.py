"""What an evaluation found, and how it is told to people."""

from __future__ import annotations

from typing import Any

import msgspec

from r1distill.scores import Difference, Score
from r1distill.show import Show


class EvaluateSummary(msgspec.Struct, frozen=True, kw_only=True):
    """What an evaluation found."""

    stage_id: str
    folder: str
    scores: list[Score]
    differences: list[Difference]
    models: dict[str, dict[str, Any]]
    """Per model: what it is, parameters, size in bytes."""
    sampling: dict[str, Any]
    in_flight: int
    asked: int
    still_owed: int
    unanswered: int = 0
    """Answers that failed for good (content filter, context length); the scores leave them out."""
    elapsed_s: float
    interrupted: bool = False
    up_to_date: bool = False
    dry_run: bool = False


def tell(summary: EvaluateSummary, show: Show) -> None:
    """Print the scores for people."""
    if summary.dry_run:
        show.note(f"An evaluation would ask for {summary.asked:,} answers; nothing was asked or written.")
        return
    rows = [
        (s.who, s.problems, s.n_problems, percent(s.lenient), percent(s.strict), f"{s.in_form:.0%}", f"{s.truncated:.0%}",
         "-" if s.tokens_mean is None else f"{s.tokens_mean:.0f}",
         "-" if s.latency_s_median is None else f"{s.latency_s_median:.1f}")
        for s in summary.scores
    ]  # fmt: skip
    columns = (
        "model",
        "problems",
        "n",
        "lenient (95%)",
        "strict (95%)",
        "in form",
        "cut",
        "tokens",
        "s/answer",
    )
    show.table(f"pass@1, {summary.in_flight} in flight at most", columns, rows)
    for difference in summary.differences:
        show.note(difference.sentence())
    for name, facts in summary.models.items():
        show.note(f"{name}: {facts['what']}, {size_text(facts)}")
    if summary.still_owed:
        show.note(f"{summary.still_owed:,} answers are missing; run evaluate again to ask for them.")
    if summary.unanswered:
        show.note(f"{summary.unanswered:,} answers failed for good and are left out of the scores.")


def percent(score: Any) -> str:
    """'31.5% (25-38)'."""
    return f"{score.value:.1%} ({score.low * 100:.0f}-{score.high * 100:.0f})"


def size_text(facts: dict[str, Any]) -> str:
    """Parameters and size for people."""
    parameters, size = facts.get("parameters"), facts.get("bytes")
    count = "parameters unknown" if parameters is None else f"{parameters / 1e6:,.1f}M parameters"
    return count + ("" if size is None else f", {size / 1e6:,.1f} MB")
