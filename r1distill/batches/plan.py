"""What goes into a batch: the slots that are owed, the body of each request, the files, and whether the budget covers them.

In: a recipe and its run folder. Out: request files (files.py), or nothing but their sizes for a dry run.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path

from r1distill.asking.account import check_budget, spent
from r1distill.asking.exchange import request_body
from r1distill.asking.owed import Plan, Wanted, harvest_plan
from r1distill.asking.spending import Row, read_book
from r1distill.batches.files import Limits, Part, RequestFiles, Style
from r1distill.batches.ledger import Batch, read_items, slots_out
from r1distill.errors import UsageError
from r1distill.ledger import Ledger
from r1distill.problems import ProblemSet
from r1distill.recipe import Recipe
from r1distill.recipe_sections import PriceSection, TeacherSection
from r1distill.run import Run
from r1distill.show import dollars
from r1distill.teachers import money
from r1distill.teachers.client import Endpoint, encoded
from r1distill.teachers.endpoints import checked
from r1distill.teachers.providers import PROVIDERS, by_host, provider
from r1distill.teachers.request_rules import merged

LIMITS = {"groq": Limits(size_bytes=100_000_000), "together": Limits(size_bytes=100_000_000)}
"""Where files must be smaller than OpenAI's 50,000 lines and 200 MB (package groq 1.7.0; docs.together.ai, batch overview)."""


def submit_kinds(recipe: Recipe) -> tuple[dict[str, str], list[str]]:
    """(how each teacher takes batches, a warning for each that takes none). Raises UsageError when none does."""
    kinds = {name: batch_kind(section) for name, section in recipe.teacher.items()}
    able = {name: kind for name, kind in kinds.items() if kind in ("openai", "together")}
    told = [
        f"Teacher {name} ({recipe.teacher[name].provider}) takes no batches over HTTP as far as is known; "
        "`batch export` writes files for others to run, `harvest` asks it one by one."
        for name in kinds.keys() - able.keys()
    ]
    if not able:
        raise UsageError(" ".join(told) or "The recipe has no teacher: add a [teacher.NAME] table.")
    return able, told


def export_kinds(recipe: Recipe) -> dict[str, str]:
    """The teachers whose requests can be written to files. Raises UsageError when there is none."""
    kinds = {
        name: "export"
        for name, section in recipe.teacher.items()
        if provider(section.provider).kind == "http"
    }
    if not kinds:
        raise UsageError(
            "All teachers of the recipe are served by r1distill itself: ask them with `harvest`."
        )
    return kinds


def batch_kind(section: TeacherSection) -> str:
    """How a teacher takes batches: openai, together, mistral, file or none.

    What calls itself OpenAI-compatible and is not known otherwise is asked as OpenAI is: it says itself if it knows no
    batches. A cell of the table counts here even if it is a guess, since it changes no request, only who is asked.
    """
    name = section.provider
    if name == "openai-compatible":
        name = by_host(section.base_url or "") or name
    row = PROVIDERS.get(name) or provider(name)
    if name == "openai-compatible":
        return "openai"
    return row.batch if row.kind == "http" else "none"


def base_url(section: TeacherSection) -> str:
    """Where a teacher answers."""
    return str(section.base_url or provider(section.provider).base_url or "").rstrip("/")


def _limits(section: TeacherSection) -> Limits:
    name = section.provider if section.provider in LIMITS else by_host(base_url(section)) or ""
    return LIMITS.get(name, Limits())


def owed_items(recipe: Recipe, run: Run) -> Plan:
    """What the recipe still owes, without what waits in batches: the one place that knows how that is found out."""
    plan = harvest_plan(recipe, ProblemSet(recipe))
    with run.index() as index:
        index.catch_up("traces", run.ledger_folder("traces"))
        return plan.look(index, "traces", out=slots_out(run))


def full_body(item: Wanted, section: TeacherSection) -> bytes:
    """The JSON body of one request, byte for byte as a harvest would send it."""
    row = provider(section.provider)
    extra = merged(row.extra_body, section.extra_body)
    endpoint = Endpoint(
        base_url(section), "", str(section.model), extra_body=extra, ceiling_key=row.ceiling_key
    )
    return encoded(request_body(item), endpoint, stream=False)


def plan_files(
    recipe: Recipe,
    run: Run,
    folder: Path | None,
    kinds: dict[str, str],
    *,
    style: Style = "openai",
    limits: Limits | None = None,
    limit: int | None = None,
) -> list[Part]:
    """The request files of all that the teachers of `kinds` owe (`limit` answers at most), in `folder` if there is one.

    Raises RecipeError, InputError, StorageError; then no file is left.
    """
    plan = owed_items(recipe, run)
    chosen = None if limit is None else plan.first(limit)
    made: list[RequestFiles] = []
    try:
        for name, kind in kinds.items():
            section = recipe.teacher[name]
            checked(name, section)
            most = limits or (Limits() if kind == "export" else _limits(section))
            files = RequestFiles(folder, name, style, most, _same if kind == "export" else _unique)
            made.append(files)
            for item in plan.items(name, chosen):
                files.add(item, full_body(item, section), worst_case_usd([item], section.price))
            files.finish()
    except BaseException:
        for files in made:
            files.drop()
        raise
    return [part for files in made for part in files.parts]


def _same() -> str:
    """The same export has the same name, so that exporting twice leaves one file."""
    return ""


def _unique() -> str:
    """A batch has a name that no other has, anywhere: by it we find it again."""
    return os.urandom(16).hex()


def worst_case_usd(items: Iterable[Wanted], price: PriceSection | None) -> float | None:
    """What these cost if every answer is as long as its ceiling, in USD; None without a price or a ceiling."""
    total = 0.0
    for item in items:
        most = money.worst_case_usd(item.messages, item.max_tokens, price)
        if most is None:
            return None
        total += most
    return total


def spending_file(run: Run) -> Path:
    """Where the money that is set aside for batches is accounted for (see spending.py)."""
    return run.folder / "spending-batch.jsonl"


def reserve(recipe: Recipe, run: Run, parts: list[Part]) -> None:
    """Set aside on disk what each request of these files may cost; nothing without a budget. Raises UsageError when the
    worst case is more than what is left, RecipeError when it can't be known, StorageError.
    """
    budget = recipe.harvest.budget_usd
    if budget is None or not parts:
        return
    check_budget(recipe)
    worst, left = sum(part.worst_usd or 0.0 for part in parts), budget - committed_usd(recipe, run)
    if worst > left:
        raise UsageError(
            f"These batches may cost up to {dollars(worst)}, and of harvest.budget_usd = {dollars(budget)} only "
            f"{dollars(max(0.0, left))} is left (what is out in batches counted in full); raise it, or use --limit N."
        )
    with Ledger(spending_file(run)) as spending:
        for part in parts:
            share = (part.worst_usd or 0.0) / part.lines
            for item in read_items(run, part.name):
                spending.append(Row(share, reserve=item.id))


def release(run: Run, ended: Mapping[str, float | None], why: str) -> None:
    """Close the reservations of requests that gave no trace: trace id -> what it cost in USD (None: maybe all of it)."""
    if not spending_file(run).exists():
        return
    reserved = read_book(spending_file(run)).open
    with Ledger(spending_file(run)) as spending:
        for trace_id, cost_usd in ended.items():
            usd = reserved.get(trace_id, 0.0) if cost_usd is None else cost_usd
            if trace_id in reserved:
                spending.append(Row(usd, lost=trace_id, why=why) if usd else Row(0.0, free=trace_id))


def release_strays(run: Run, batches: Iterable[Batch]) -> None:
    """Close reservations that belong to no batch that is out: a kill came between setting aside and planning."""
    if spending_file(run).exists():
        waiting = {item.id for batch in batches if batch.open for item in read_items(run, batch.name)}
        release(run, dict.fromkeys(read_book(spending_file(run)).open.keys() - waiting, 0.0), "never asked")


def committed_usd(recipe: Recipe, run: Run) -> float:
    """What was spent, or is set aside for requests under way and batches that are out, in USD as far as it is known."""
    with run.index() as index:
        index.catch_up("traces", run.ledger_folder("traces"))
        return spent(recipe, run, index).total
