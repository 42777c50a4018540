"""What a harvest did: as a record for manifest and --json, and in sentences for people."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from r1distill.asking.owed import Plan
from r1distill.asking.tally import Tally, tokens_text
from r1distill.errors import StopRunError
from r1distill.estimates import TeacherEstimate
from r1distill.forecast import COLUMNS, covered, plan_notes, table
from r1distill.show import Show, counted, dollars, duration


class HarvestSummary(msgspec.Struct, frozen=True, kw_only=True):
    """What a harvest did; the same object goes to manifest.json."""

    prompts: int
    wanted: int
    """Answers that the recipe wants of this part of the harvest."""
    of_all: int = 0
    """Answers that the recipe wants of all parts."""
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
    maybe_usd: float = 0.0
    """Of that: for requests of which nobody here knows whether they were billed (broken off, or under way at a kill), at
    their worst case."""
    budget_usd: float | None = None
    share_usd: float | None = None
    """What this part of the harvest may have spent in the end; the whole budget unless others had or have a share."""
    shard: tuple[int, int] = (1, 1)
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
        prompts=prompts, wanted=plan.wanted, of_all=_positions(plan), had=plan.had, had_failed=plan.had_failed,
        out_in_batches=plan.out, still_owed=plan.still_owed, spent_usd=spent_usd, budget_usd=budget_usd,
        warnings=[*warnings, *plan_notes(plan)],
    )  # fmt: skip


def _positions(plan: Plan) -> int:
    """Answers of all parts; with a fallback the plan has a position for every teacher of an answer."""
    return len(plan.states) // (len(plan.parties) if plan.assign == "fallback" else 1)


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
        cost_usd=None if tally.cost_unknown else tally.cost_usd, lost_usd=tally.lost_usd,
        maybe_billed=tally.maybe_billed, over_budget=tally.over_budget, without_reasoning=tally.without_reasoning,
        elapsed_s=round(tally.elapsed_s, 2), interrupted=tally.interrupted, stopped=str(stop or ""),
        warnings=list(dict.fromkeys([*before.warnings, *tally.warnings])),
    )  # fmt: skip


def tell(summary: HarvestSummary, show: Show, folder: Path | None = None) -> None:
    """Print a summary for people; what was told while it ran is not told again. With its run `folder`, say what is next."""
    for line in lines(summary):
        show.note_once(line)
    if summary.estimates:
        what = "What the rest may use" if summary.pilot else "What it would use"
        show.table(what, COLUMNS, table(summary.estimates))
    if len(summary.teachers) > 1 and not summary.dry_run:
        columns = ("teacher", "traces", "cut", "completion tokens", "cost")
        show.table("So far", columns, _teacher_rows(summary.teachers))
    if folder is not None and not summary.dry_run:
        more = summary.still_owed or summary.out_in_batches or summary.shard[1] > 1
        show.note(f"Run folder: {folder}. Next: r1distill {'status' if more else 'filter'} {folder}")


def _teacher_rows(teachers: list[dict[str, Any]]) -> list[tuple[str, ...]]:
    return [
        (t["teacher"], f"{t['traces']:,}", f"{t['truncated']:,}", f"{t['completion_tokens'] or 0:,}",
         dollars(None if t["cost_unknown"] else t["cost_usd"]))
        for t in teachers
    ]  # fmt: skip


def lines(summary: HarvestSummary) -> list[str]:
    """The summary for people, a sentence a line."""
    s = summary
    text = [f"{_part(s)} for {counted(s.prompts, 'problem')}; {s.had - s.had_failed:,} were there already."]
    if s.had_failed:
        text.append(
            f"{s.had_failed:,} failed for good earlier and are not asked again (--retry-failed asks them)."
        )
    if s.out_in_batches:
        text.append(
            f"{s.out_in_batches:,} are out in batches or exported files (`batch status` says what brings them)."
        )
    if s.dry_run:
        text.append(f"A harvest would ask for {s.would_ask:,}; nothing was asked or written.{_budget(s)}")
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
        verb = "is" if s.still_owed == 1 else "are"
        how = "harvest without --pilot asks for the rest" if s.pilot else "the same command goes on from here"
        text.append(f"{counted(s.still_owed, 'answer')} {verb} still owed: {how}.")
    if s.pilot:
        text.append(covered(s.estimates, s.budget_usd, s.spent_usd))
    return [*s.warnings, *(line for line in text if line)]


def _part(s: HarvestSummary) -> str:
    number, count = s.shard
    if count == 1:
        return f"{counted(s.wanted, 'answer')} wanted"
    return f"Part {number} of {count}: {s.wanted:,} of {counted(s.of_all, 'answer')} wanted"


def _troubles(s: HarvestSummary) -> list[str]:
    text = _cut(s)
    if s.asked and s.without_reasoning:
        verb = "carries" if s.without_reasoning == 1 else "carry"
        text.append(f"{counted(s.without_reasoning, 'answer')} {verb} no reasoning that could be read.")
    if s.failed_final:
        text.append(
            f"{counted(s.failed_final, 'request')} failed for good (--retry-failed asks them again; failures.jsonl says why)."
        )
    if s.failed_open:
        text.append(
            f"{counted(s.failed_open, 'request')} failed for now; they stay owed (failures.jsonl says why)."
        )
    if s.lost_usd:
        text.append(
            f"{dollars(s.lost_usd)} of it went, or may have gone, into attempts that gave no usable answer."
        )
    elif s.maybe_billed:
        text.append(
            f"{counted(s.maybe_billed, 'attempt')} broke off; whether they were billed only the provider knows."
        )
    return text


def _cut(s: HarvestSummary) -> list[str]:
    """On answers that were cut at their ceiling."""
    text = []
    if s.escalated:
        verb = "was" if s.escalated == 1 else "were"
        text.append(
            f"Of the answers cut at max_tokens, {s.escalated:,} {verb} asked once more with a higher ceiling (harvest.escalate)."
        )
    left = s.truncated - s.escalated
    if left > 0:
        again = "still cut" if s.escalated else "cut at max_tokens"
        text.append(
            f"{counted(left, 'answer')} {'is' if left == 1 else 'are'} {again}, and kept; only a higher max_tokens asks again."
        )
    return text


def _budget(s: HarvestSummary) -> str:
    if s.budget_usd is None:
        return ""
    spent = f" Of the budget of {dollars(s.budget_usd)}, {dollars(s.spent_usd)} are spent."
    told = covered(s.estimates, s.budget_usd, s.spent_usd)
    return f"{spent} {told}" if told else spent


def _asked(s: HarvestSummary) -> str:
    repeated = s.attempts - s.asked - s.escalated
    counts = ", ".join(f"{count:,} {name}" for name, count in s.retries.items())
    extra = f", {counted(repeated, 'attempt')} repeated ({counts})" if repeated > 0 else ""
    used = tokens_text(s.completion_tokens, s.traces, s.elapsed_s, "completion tokens")
    return (
        f"Got {counted(s.traces, 'trace')} in {duration(s.elapsed_s)}: {used}, {dollars(s.cost_usd)}{extra}."
    )
