"""What index.sqlite can be asked: the questions of owed, status, account and filter, each one query.

Nothing here writes; `Index` (index.py) fills the tables. Lists that grow with the ledger come back only where the caller
needs all of it.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any, NamedTuple, TypeVar

import msgspec

from r1distill.records import Finish

T = TypeVar("T")


class TraceRef(NamedTuple):
    """Where the newest trace of a slot stands."""

    slot: str
    id: str
    name: str
    """File name, relative to the ledger's folder."""
    offset: int
    length: int
    finish: Finish
    max_tokens: int | None
    content: str
    """`content_digest` of its line."""


class Standing(NamedTuple):
    """How far a slot is."""

    whole: bool
    """It has an answer that was not cut."""
    ceiling: int | None
    """The highest ceiling that a cut answer was asked with, in tokens; None: no answer, or one asked without a ceiling."""
    unbounded: bool
    """It has a cut answer that was asked without a ceiling."""


class Holdings(NamedTuple):
    """What the traces of a ledger are, in numbers."""

    traces: int
    slots: int
    """Answers that have one; an answer that was cut may have another of a higher ceiling."""
    duplicates: int
    """Traces beyond the first of the same slot and ceiling."""
    imported: int
    """Traces that another run paid for."""
    from_files: int
    """Answers that came from files of others; no recipe ever asks for them."""


class Made(NamedTuple):
    """What a check measured on a trace, as the index keeps it."""

    trace_id: str
    key: str
    raw: bytes
    """JSON."""


SHORT_ID = 16
MADE = msgspec.msgpack.Decoder(list[tuple[str, bytes]])
"""A row of the index: (key, JSON) of what was measured on a trace at one time."""


def short_id(trace_id: str) -> str:
    """Enough of a trace's id to find its rows by; two traces that share it share rows, which their keys tell apart."""
    return trace_id[:SHORT_ID]


OWN_FILE = "name GLOB 'part-[0-9]*-of-[0-9]*.jsonl' OR name='part-batch.jsonl'"
"""Files of traces that this run asked for itself (see account.py)."""


class Queries:
    """Questions to an open index."""

    db: sqlite3.Connection

    def newest(self, ledger: str) -> dict[str, TraceRef]:
        """The newest trace of every slot of a ledger, by slot.

        A finished one goes before one that was cut. Newest is the one asked with the highest ceiling (a slot is asked
        again with a higher one only; none at all is the highest), then the last one by its time: so the order in which
        files were read does not matter.
        """
        rows = self.db.execute(
            """SELECT slot, id, name, offset, length, finish, max_tokens, content FROM traces WHERE ledger=?
            ORDER BY finish<>'length', max_tokens IS NULL, max_tokens, created, name, offset""",
            (ledger,),
        )
        return {row[0]: TraceRef(*row) for row in rows}

    def standing(self, ledger: str, slots: list[str]) -> dict[str, Standing]:
        """How far the given slots (a few hundred at a time) are, by slot; those without any answer are left out."""
        marks = ",".join("?" * len(slots))
        rows = self.db.execute(
            f"""SELECT slot, MAX(finish<>'length'), MAX(max_tokens), MAX(max_tokens IS NULL) FROM traces
            WHERE ledger=? AND slot IN ({marks}) GROUP BY slot""",
            (ledger, *slots),
        )
        return {slot: Standing(bool(whole), ceiling, bool(free)) for slot, whole, ceiling, free in rows}

    def has_traces(self, ledger: str, ids: Iterable[str]) -> set[str]:
        """Those of the trace ids that the ledger holds."""
        found: set[str] = set()
        for chunk in batched(ids, 500):
            marks = ",".join("?" * len(chunk))
            rows = self.db.execute(
                f"SELECT id FROM traces WHERE ledger=? AND id IN ({marks})", (ledger, *chunk)
            )
            found.update(trace_id for (trace_id,) in rows)
        return found

    def contents(self, ledger: str, ids: list[str]) -> set[str]:
        """The content digests of the traces with these ids (a few hundred at a time)."""
        marks = ",".join("?" * len(ids))
        query = f"SELECT content FROM traces WHERE ledger=? AND id IN ({marks})"
        return {content for (content,) in self.db.execute(query, (ledger, *ids))}

    def final_failures(self, ledger: str) -> set[str]:
        """Slots that failed for good: asking again can't help."""
        return {
            slot
            for (slot,) in self.db.execute("SELECT slot FROM failures WHERE ledger=? AND final=1", (ledger,))
        }

    def given_up(self, ledger: str) -> dict[str, tuple[str, bool]]:
        """The failure of every slot that has no trace, by slot: (error class, whether asking again can't help).

        The last one of a slot counts, or the last that was final.
        """
        rows = self.db.execute(
            """SELECT slot, error_class, final, MAX(final * 1000000000000 + rowid) FROM failures
            WHERE ledger=? AND NOT EXISTS
              (SELECT 1 FROM traces t WHERE t.ledger=failures.ledger AND t.slot=failures.slot) GROUP BY slot""",
            (ledger,),
        )
        return {slot: (error_class, bool(final)) for slot, error_class, final, _ in rows}

    def holdings(self, ledger: str) -> Holdings:
        """What the traces of a ledger are, in numbers."""
        query = f"""SELECT COUNT(*), COUNT(DISTINCT id), COUNT(DISTINCT slot), TOTAL(NOT ({OWN_FILE})),
          COUNT(DISTINCT CASE WHEN name GLOB 'part-files-*' THEN slot END) FROM traces WHERE ledger=?"""
        traces, ids, slots, imported, from_files = self.db.execute(query, (ledger,)).fetchone()
        return Holdings(traces, slots, traces - ids, int(imported), from_files)

    def failure_counts(self, ledger: str) -> dict[str, int]:
        """Recorded failures by error class (one per request that was given up)."""
        query = "SELECT error_class, COUNT(*) FROM failures WHERE ledger=? GROUP BY 1 ORDER BY 2 DESC, 1"
        return dict(self.db.execute(query, (ledger,)).fetchall())

    def totals(self, ledger: str) -> list[dict[str, Any]]:
        """Per teacher: traces, cut ones, tokens, known cost in USD and how many traces have no known cost; `imported` ones
        were paid for by another run, `own_cost_usd` is the known cost of the others.
        """
        query = f"""SELECT teacher, COUNT(*) traces, SUM(finish='length') truncated, SUM(prompt_tokens) prompt_tokens,
          SUM(completion_tokens) completion_tokens, SUM(cost_usd) cost_usd, SUM(cost_usd IS NULL) cost_unknown,
          SUM(NOT ({OWN_FILE})) imported, TOTAL(CASE WHEN {OWN_FILE} THEN cost_usd END) own_cost_usd,
          SUM(cost_usd IS NULL AND ({OWN_FILE})) own_cost_unknown
          FROM traces WHERE ledger=? GROUP BY teacher ORDER BY teacher"""
        cursor = self.db.execute(query, (ledger,))
        names = [column[0] for column in cursor.description]
        return [dict(zip(names, row, strict=True)) for row in cursor]

    def costs(self, ledger: str) -> list[tuple[str, str, float, int, int]]:
        """(file name, teacher, known cost in USD, prompt tokens and completion tokens of traces without one), per file."""
        query = """SELECT name, teacher, TOTAL(cost_usd), SUM((cost_usd IS NULL)*COALESCE(prompt_tokens,0)),
          SUM((cost_usd IS NULL)*COALESCE(completion_tokens,0)) FROM traces WHERE ledger=? GROUP BY name, teacher"""
        return [tuple(row) for row in self.db.execute(query, (ledger,))]

    def lengths(self, ledger: str, teacher: str) -> tuple[int, float, float]:
        """(answers with a known length, their mean and standard deviation in completion tokens) of one teacher."""
        query = """SELECT COUNT(completion_tokens), AVG(completion_tokens), AVG(1.0*completion_tokens*completion_tokens)
          FROM traces WHERE ledger=? AND teacher=?"""
        count, mean, square = self.db.execute(query, (ledger, teacher)).fetchone()
        return (count, mean, max(0.0, square - mean * mean) ** 0.5) if count else (0, 0.0, 0.0)

    def some(self, ledger: str, teacher: str, count: int) -> list[tuple[str, int, int]]:
        """(file name, offset, length) of a few traces of one teacher whose prompt tokens are known."""
        query = (
            "SELECT name, offset, length FROM traces WHERE ledger=? AND teacher=? AND prompt_tokens>0 LIMIT ?"
        )
        return [tuple(row) for row in self.db.execute(query, (ledger, teacher, count))]

    def measured(self, trace_ids: Iterable[str]) -> dict[str, bytes]:
        """All that checks have measured on these traces, as JSON by key."""
        found: dict[str, bytes] = {}
        for chunk in batched(map(short_id, trace_ids), 500):
            marks = ",".join("?" * len(chunk))
            query = f"SELECT made FROM measurements WHERE trace IN ({marks}) ORDER BY number"
            for (made,) in self.db.execute(query, chunk):
                found.update(MADE.decode(made))
        return found


def batched(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """Lists of `size` items, the last one shorter (itertools has it from Python 3.12 on)."""
    rest = iter(items)
    while batch := list(islice(rest, size)):
        yield batch
