"""VERB harvest: ask the teachers for what the recipe wants and the run folder does not have yet.

In: a recipe. Out: traces/part-i-of-n.jsonl (append-only), failures, prompts.jsonl, a summary in manifest.json.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import msgspec

from r1distill.ask import Asker
from r1distill.errors import UsageError
from r1distill.ledger import Ledger
from r1distill.owed import Wanted, harvest_wanted, owed
from r1distill.prompts import load_problems
from r1distill.recipe import Recipe
from r1distill.records import Prompt, Trace, Usage
from r1distill.run import Run
from r1distill.show import Show, dollars, duration
from r1distill.tally import Tally
from r1distill.teachers.endpoints import open_endpoint, plain_http
from r1distill.teachers.money import cost_usd
from r1distill.teachers.providers import provider


class HarvestSummary(msgspec.Struct, frozen=True, kw_only=True):
    """What a harvest did; the same object goes to manifest.json."""

    prompts: int
    wanted: int
    had: int
    """Slots that were settled before: answers that are there, and final failures."""
    had_failed: int = 0
    """Of these, the ones that failed for good earlier."""
    asked: int = 0
    traces: int = 0
    truncated: int = 0
    failed_final: int = 0
    failed_open: int = 0
    still_owed: int = 0
    attempts: int = 0
    retries: dict[str, int] = {}
    prompt_tokens: int = 0
    completion_tokens: int = 0
    most_usd: float | None = None
    """Of a dry run: what it would cost if every answer were as long as its ceiling; None without prices or ceilings."""
    cost_usd: float | None = None
    """Of this harvest; None when the price of any answer is unknown."""
    without_reasoning: int = 0
    elapsed_s: float = 0.0
    interrupted: bool = False
    dry_run: bool = False
    warnings: list[str] = []


def harvest(
    recipe: Recipe,
    run: Run,
    *,
    dry_run: bool = False,
    limit: int | None = None,
    shard: tuple[int, int] = (1, 1),
    retry_failed: bool = False,
    show: Show | None = None,
    on_trace: Callable[[Trace], None] | None = None,
) -> HarvestSummary:
    """Ask for all owed answers, `limit` at most, those of `shard` (i of n) only. Raises R1DistillError."""
    show = show or Show(0)
    prompts, warnings = load_problems(recipe)
    wanted = [item for item in harvest_wanted(recipe, prompts) if in_shard(item, shard)]
    warnings += [text for name, section in recipe.teacher.items() if (text := plain_http(name, section))]
    left, had, failed, unreadable = _owed(run, wanted, retry_failed)
    before = HarvestSummary(
        prompts=len(prompts), wanted=had + len(left), had=had, had_failed=failed, still_owed=len(left),
        warnings=[*warnings, *unreadable], dry_run=dry_run,
    )  # fmt: skip
    if dry_run:
        return msgspec.structs.replace(before, most_usd=_most_usd(recipe, left[:limit]))
    if not left or limit == 0:
        _save(recipe, run, prompts)
        run.update_manifest("harvest", msgspec.to_builtins(before))
        return before
    with ExitStack() as stack:
        ledgers = [stack.enter_context(Ledger(path)) for path in _files(run, shard)]
        # Only now, with the writer lock, is it sure that nobody else is getting the same answers.
        left, had, failed, unreadable = _owed(run, wanted, retry_failed)
        warnings += unreadable + [
            f"{x.path}: a torn last row ({x.torn_bytes} bytes) was cut off." for x in ledgers if x.torn_bytes
        ]
        before = msgspec.structs.replace(
            before, had=had, had_failed=failed, still_owed=len(left), warnings=warnings
        )
        _save(recipe, run, prompts)
        tally = _ask(recipe, run, left[:limit], ledgers, show, on_trace)
    summary = summarise(before, tally, len(left), warnings)
    run.update_manifest("harvest", msgspec.to_builtins(summary))
    return summary


def _owed(run: Run, wanted: list[Wanted], retry_failed: bool) -> tuple[list[Wanted], int, int, list[str]]:
    """(what is owed by the ledgers as they are now, settled slots, failed ones among them, a warning per unreadable row)."""
    with run.index() as index:
        index.catch_up("traces", run.ledger_folder("traces"))
        left, had = owed(wanted, index, "traces", retry_failed)
        have = index.newest("traces")
        failed = set() if retry_failed else index.final_failures("traces") - set(have)
        gone = len(failed & {item.slot for item in wanted})
        return left, had, gone, [f"{place}: an unreadable row was passed over." for place in index.unreadable]


def _files(run: Run, shard: tuple[int, int]) -> tuple[Path, Path]:
    """The ledgers of a shard: its traces and its failures."""
    name = f"part-{shard[0]}-of-{shard[1]}.jsonl"
    return run.ledger_folder("traces") / name, run.failures_file("traces", shard)


def _ask(
    recipe: Recipe, run: Run, todo: list[Wanted], ledgers: list[Ledger], show: Show,
    on_trace: Callable[[Trace], None] | None,
) -> Tally:  # fmt: skip
    ledger, failures = ledgers
    with ExitStack() as stack:
        names = sorted({item.teacher for item in todo})
        endpoints = {
            name: stack.enter_context(
                open_endpoint(name, recipe.teacher[name], recipe, run.log_file(f"teacher-{name}"))
            )
            for name in names
        }
        prices = {name: recipe.teacher[name].price for name in names}
        asker = Asker(
            endpoints,
            recipe.harvest,
            ledger,
            failures,
            prices=prices,
            show=show,
            on_trace=on_trace,
            answered_before=_known_teachers(run),
        )
        return asker.run(todo, "harvest")


def _most_usd(recipe: Recipe, todo: list[Wanted]) -> float | None:
    """An upper bound: two characters a prompt token (more tokens than English text has), ceilings fully used."""
    total = 0.0
    for item in todo:
        teacher = recipe.teacher[item.teacher]
        prompt_tokens = sum(len(message.content) for message in item.messages) // 2 + 16
        if provider(teacher.provider).kind == "embedded":
            continue
        cost = cost_usd(Usage(prompt_tokens=prompt_tokens, completion_tokens=item.max_tokens), teacher.price)
        if cost is None:
            return None
        total += cost
    return total


def _known_teachers(run: Run) -> set[str]:
    with run.index() as index:
        return {row["teacher"] for row in index.totals("traces") if row["traces"]}


def _save(recipe: Recipe, run: Run, prompts: list[Prompt]) -> None:
    run.save_recipe(recipe)
    run.save_prompts(prompts)


def summarise(before: HarvestSummary, tally: Tally, left: int, warnings: list[str]) -> HarvestSummary:
    """The summary of an asking run."""
    return msgspec.structs.replace(
        before,
        asked=tally.asked, traces=tally.traces, truncated=tally.truncated, failed_final=tally.failed_final,
        failed_open=tally.failed_open, still_owed=left - tally.traces - tally.failed_final, attempts=tally.attempts,
        retries=dict(tally.retries), prompt_tokens=tally.prompt_tokens, completion_tokens=tally.completion_tokens,
        cost_usd=None if tally.cost_unknown or not tally.traces else tally.cost_usd, without_reasoning=tally.without_reasoning,
        elapsed_s=round(tally.elapsed_s, 2), interrupted=tally.interrupted, warnings=warnings,
    )  # fmt: skip


def in_shard(item: Wanted, shard: tuple[int, int]) -> bool:
    """True when the slot belongs to shard i of n (by hash, so that shards need not know each other)."""
    number, count = shard
    return int.from_bytes(hashlib.sha256(item.slot.encode()).digest()[:8]) % count == number - 1


def parse_shard(text: str) -> tuple[int, int]:
    """'2/8' as (2, 8). Raises UsageError."""
    number, slash, count = text.partition("/")
    if not (slash and number.isdigit() and count.isdigit() and 1 <= int(number) <= int(count)):
        raise UsageError(f"--shard wants i/n with i from 1 to n, as 2/8, not {text!r}.")
    return int(number), int(count)


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
    if s.dry_run:
        return [
            *s.warnings,
            *text,
            f"A harvest would ask for {s.still_owed:,} ({_most_text(s)}); nothing was asked or written.",
        ]
    if s.asked:
        text.append(_asked(s))
    if s.truncated:
        text.append(
            f"{s.truncated:,} answers were cut at max_tokens; they are kept, and asked again only with a higher ceiling."
        )
    if s.asked and s.without_reasoning:
        text.append(f"{s.without_reasoning:,} answers carry no reasoning that could be read.")
    if s.failed_final or s.failed_open:
        text.append(
            f"Failed: {s.failed_final:,} for good, {s.failed_open:,} to be asked again (failures.jsonl says why)."
        )
    if s.still_owed:
        text.append(f"{s.still_owed:,} answers are still owed: the same command goes on from here.")
    return [*s.warnings, *text]


def _most_text(s: HarvestSummary) -> str:
    if s.most_usd is None:
        return "cost unknown: give teacher.NAME.price and sampling.max_tokens"
    return f"at most {dollars(s.most_usd)}, if every answer is as long as its ceiling"


def _asked(s: HarvestSummary) -> str:
    rate = s.completion_tokens / s.elapsed_s if s.elapsed_s else 0.0
    extra: Any = f", {s.attempts - s.asked:,} attempts repeated" if s.attempts > s.asked else ""
    return (
        f"Got {s.traces:,} traces in {duration(s.elapsed_s)}: {s.completion_tokens:,} completion tokens "
        f"({rate:.0f}/s), {dollars(s.cost_usd)}{extra}."
    )
