"""What a harvest did: as a record for manifest and --json, and in sentences for people."""

from __future__ import annotations

from typing import Any

import msgspec

from r1distill.errors import StopRunError
from r1distill.estimates import TeacherEstimate, rows
from r1distill.owed import Plan
from r1distill.show import Show, dollars, duration
from r1distill.tally import Tally


class HarvestSummary(msgspec.Struct, frozen=True, kw_only=True):
    """What a harvest did; the same object goes to manifest.json."""

    prompts: int
    wanted: int
    had: int
    """Slots that were settled before: answers that are there, and final failures."""
    had_failed: int = 0
    """Of these, the ones that failed for good earlier."""
    out_in_batches: int = 0
    """Wanted answers that wait in a batch, so that they are not asked for here."""
    would_ask: int = 0
    """Of a dry run: so many answers."""
    asked: int = 0
    traces: int = 0
    truncated: int = 0
    escalated: int = 0
    """Cut answers that were asked for once more with a higher ceiling."""
    failed_final: int = 0
    failed_open: int = 0
    failures: dict[str, int] = {}
    """Requests that were given up, by error class."""
    still_owed: int = 0
    attempts: int = 0
    retries: dict[str, int] = {}
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cost_usd: float | None = None
    """Of the traces of this harvest; None when the price of any of them is unknown."""
    lost_usd: float = 0.0
    """Of this harvest: paid, or maybe paid, for attempts that gave no usable answer."""
    maybe_billed: int = 0
    """Attempts of this harvest that broke off, so that nobody here knows whether they were billed."""
    spent_usd: float = 0.0
    """By the whole run so far, as far as it is known: traces, lost attempts, what a kill left under way."""
    budget_usd: float | None = None
    over_budget: bool = False
    """Stopped since one more request might have cost more than the budget has left."""
    estimates: list[TeacherEstimate] = []
    """Of a dry run: what it would use. After a pilot: what the rest may use."""
    teachers: list[dict[str, Any]] = []
    """Per teacher: traces, tokens and cost of the run so far."""
    without_reasoning: int = 0
    elapsed_s: float = 0.0
    interrupted: bool = False
    pilot: bool = False
    dry_run: bool = False
    stopped: str = ""
    """Why it stopped by itself."""
    warnings: list[str] = []


def started(
    plan: Plan, prompts: int, warnings: list[str], spent_usd: float, budget_usd: float | None
) -> HarvestSummary:
    """The summary of a harvest that has asked nothing yet."""
    return HarvestSummary(
        prompts=prompts, wanted=plan.wanted, had=plan.had, had_failed=plan.had_failed, out_in_batches=plan.out,
        still_owed=plan.still_owed, spent_usd=spent_usd, budget_usd=budget_usd, warnings=list(warnings),
    )  # fmt: skip


def summarise(
    before: HarvestSummary, tally: Tally, still_owed: int, stop: StopRunError | None
) -> HarvestSummary:
    """The summary of a harvest that has ended."""
    return msgspec.structs.replace(
        before,
        asked=tally.asked, traces=tally.traces, truncated=tally.truncated, escalated=tally.escalated,
        failed_final=tally.failed_final, failed_open=tally.failed_open, failures=dict(tally.failures),
        still_owed=still_owed, attempts=tally.attempts,
        retries=dict(tally.retries), prompt_tokens=tally.prompt_tokens, completion_tokens=tally.completion_tokens,
        cost_usd=None if tally.cost_unknown or not tally.traces else tally.cost_usd, lost_usd=tally.lost_usd,
        maybe_billed=tally.maybe_billed, over_budget=tally.over_budget, without_reasoning=tally.without_reasoning,
        elapsed_s=round(tally.elapsed_s, 2), interrupted=tally.interrupted, stopped=str(stop or ""),
        warnings=list(dict.fromkeys([*before.warnings, *tally.warnings])),
    )  # fmt: skip


def tell(summary: HarvestSummary, show: Show) -> None:
    """Print a summary for people."""
    for line in lines(summary):
        show.note(line)
    if summary.estimates:
        what = "What the rest may use" if summary.pilot else "What it would use"
        columns = ("teacher", "answers", "prompt tokens", "completion tokens", "cost", "from")
        show.table(f"{what} (low / expected / high)", columns, rows(summary.estimates))
    if len(summary.teachers) > 1 and not summary.dry_run:
        show.table(
            "So far",
            ("teacher", "traces", "cut", "completion tokens", "cost"),
            _teacher_rows(summary.teachers),
        )


def _teacher_rows(teachers: list[dict[str, Any]]) -> list[tuple[str, ...]]:
    return [
        (
            t["teacher"],
            f"{t['traces']:,}",
            f"{t['truncated']:,}",
            f"{t['completion_tokens'] or 0:,}",
            dollars(None if t["cost_unknown"] else t["cost_usd"]),
        )
        for t in teachers
    ]


def lines(summary: HarvestSummary) -> list[str]:
    """The summary for people, a sentence a line."""
    s = summary
    text = [
        f"{s.wanted:,} answers wanted for {s.prompts:,} problems; {s.had - s.had_failed:,} were there already."
    ]
    if s.had_failed:
        text.append(
            f"{s.had_failed:,} failed for good earlier and are not asked again (--retry-failed asks them)."
        )
    if s.out_in_batches:
        text.append(f"{s.out_in_batches:,} are out in batches (batch collect brings them).")
    if s.dry_run:
        text.append(
            f"A harvest would ask for {s.would_ask:,}; nothing was asked or written.{_budget_text(s)}"
        )
        return [*s.warnings, *text]
    if s.asked:
        text.append(_asked(s))
    text += _troubles(s)
    if s.over_budget:
        text.append(
            f"Stopped at the budget: {dollars(s.spent_usd)} of {dollars(s.budget_usd)} are spent, and one more answer as long "
            "as its ceiling might go over it. Raise harvest.budget_usd to go on."
        )
    if s.still_owed:
        text.append(f"{s.still_owed:,} answers are still owed: the same command goes on from here.")
    return [*s.warnings, *text]


def _troubles(s: HarvestSummary) -> list[str]:
    text = []
    if s.truncated:
        more = f"; {s.escalated:,} were asked once more with a higher one" if s.escalated else ""
        text.append(
            f"{s.truncated:,} answers were cut at max_tokens{more}; they are kept, and asked again only with a higher ceiling."
        )
    if s.asked and s.without_reasoning:
        text.append(f"{s.without_reasoning:,} answers carry no reasoning that could be read.")
    if s.failed_final or s.failed_open:
        text.append(
            f"Failed: {s.failed_final:,} for good, {s.failed_open:,} to be asked again (failures.jsonl says why)."
        )
    if s.lost_usd:
        text.append(
            f"{dollars(s.lost_usd)} of it went, or may have gone, into attempts that gave no usable answer."
        )
    elif s.maybe_billed:
        text.append(
            f"{s.maybe_billed:,} attempts broke off; whether they were billed only the provider knows."
        )
    return text


def _budget_text(s: HarvestSummary) -> str:
    if s.budget_usd is None:
        return ""
    return f" Of the budget of {dollars(s.budget_usd)}, {dollars(s.spent_usd)} are spent."


def _asked(s: HarvestSummary) -> str:
    rate = s.completion_tokens / s.elapsed_s if s.elapsed_s else 0.0
    repeated = s.attempts - s.asked - s.escalated
    counts = ", ".join(f"{count:,} {name}" for name, count in s.retries.items())
    extra = f", {repeated:,} attempts repeated ({counts})" if repeated > 0 else ""
    return (
        f"Got {s.traces:,} traces in {duration(s.elapsed_s)}: {s.completion_tokens:,} completion tokens "
        f"({rate:.0f}/s), {dollars(s.cost_usd)}{extra}."
    )
