"""index.sqlite: where each answer stands in the ledgers, and what checks have measured. A cache, never the truth.

It may be deleted at any time: `catch_up` reads whatever the ledgers hold beyond what it knows. Rows of a ledger
file that shrank or was replaced are dropped and read again. Measurements are found by a key that names all they
depend on, so an outdated one is never found, only forgotten.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from r1distill.ledger import read_lines, storage_errors
from r1distill.records import Finish, Measurement, Usage

LAYOUT_VERSION = 1
"""Changed whenever the tables change: an index of another version is thrown away and made anew."""
TABLES = """
CREATE TABLE IF NOT EXISTS files (ledger TEXT, name TEXT, bytes_read INTEGER, head TEXT, PRIMARY KEY (ledger, name));
CREATE TABLE IF NOT EXISTS traces (ledger TEXT, slot TEXT, id TEXT, name TEXT, offset INTEGER, length INTEGER,
  finish TEXT, max_tokens INTEGER, teacher TEXT, prompt_tokens INTEGER, completion_tokens INTEGER, cost_usd REAL);
CREATE INDEX IF NOT EXISTS traces_by_slot ON traces (ledger, slot);
CREATE TABLE IF NOT EXISTS failures (ledger TEXT, slot TEXT, error_class TEXT, final INTEGER, name TEXT, teacher TEXT);
CREATE TABLE IF NOT EXISTS measurements (key TEXT PRIMARY KEY, trace_id TEXT, check_name TEXT, value BLOB) WITHOUT ROWID;
"""


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


class _TraceRow(msgspec.Struct):
    slot: str
    id: str
    finish: str = "unknown"
    max_tokens: int | None = None
    teacher: str = ""
    usage: Usage = Usage()
    cost_usd: float | None = None


class _FailureRow(msgspec.Struct):
    slot: str
    error_class: str
    final: bool
    teacher: str = ""


class Index:
    """The index of one run folder; use as a context manager."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.unreadable: list[str] = []
        """Ledger rows that could not be decoded, as FILE: byte OFFSET."""

    def __enter__(self) -> Index:
        try:
            self._open()
        except sqlite3.DatabaseError:
            self._discard()
            self._open()
        return self

    def __exit__(self, *_: object) -> None:
        self.db.close()

    def _open(self) -> None:
        with storage_errors(self.path):
            self.path.parent.mkdir(parents=True, exist_ok=True)
        self.db = sqlite3.connect(self.path, timeout=60, isolation_level=None)
        self.db.execute("PRAGMA journal_mode=WAL")
        self.db.execute("PRAGMA synchronous=OFF")  # a cache: rebuilt when lost
        version = self.db.execute("PRAGMA user_version").fetchone()[0]
        if version not in (0, LAYOUT_VERSION):
            raise sqlite3.DatabaseError("made by another version")
        self.db.executescript(TABLES)
        self.db.execute(f"PRAGMA user_version={LAYOUT_VERSION}")

    def _discard(self) -> None:
        if hasattr(self, "db"):
            self.db.close()
        for suffix in ("", "-wal", "-shm"):
            self.path.with_name(self.path.name + suffix).unlink(missing_ok=True)

    def catch_up(self, ledger: str, folder: Path) -> None:
        """Read what a ledger holds beyond what is known: part-*.jsonl in `folder`, failures*.jsonl beside it."""
        traces = {path.name: path for path in sorted(folder.glob("part-*.jsonl"))}
        failures = {path.name: path for path in sorted(folder.parent.glob("failures*.jsonl"))}
        self._forget(ledger, {*traces, *failures})
        for name, path in traces.items():
            self._read_file(ledger, name, path, self._add_traces)
        for name, path in failures.items():
            self._read_file(ledger, name, path, self._add_failures)

    def _forget(self, ledger: str, keep: set[str]) -> None:
        for (name,) in self.db.execute("SELECT name FROM files WHERE ledger=?", (ledger,)).fetchall():
            if name not in keep:
                self._drop(ledger, name)

    def _drop(self, ledger: str, name: str) -> None:
        for table in ("files", "traces", "failures"):
            self.db.execute(f"DELETE FROM {table} WHERE ledger=? AND name=?", (ledger, name))

    def _read_file(self, ledger: str, name: str, path: Path, add: Any) -> None:
        head = path.open("rb").read(64).hex()
        row = self.db.execute(
            "SELECT bytes_read, head FROM files WHERE ledger=? AND name=?", (ledger, name)
        ).fetchone()
        known = row[0] if row else 0
        if row and (path.stat().st_size < known or not head.startswith(row[1])):
            self._drop(ledger, name)
            known = 0
        if path.stat().st_size == known:
            return
        self.db.execute("BEGIN IMMEDIATE")
        end = add(ledger, name, path, known)
        self.db.execute(
            "INSERT OR REPLACE INTO files VALUES (?,?,?,?)", (ledger, name, end, head if end >= 64 else "")
        )
        self.db.execute("COMMIT")

    def _add_traces(self, ledger: str, name: str, path: Path, start: int) -> int:
        decoder, end, rows = msgspec.json.Decoder(_TraceRow), start, []
        for offset, line in read_lines(path, start):
            end = offset + len(line) + 1
            try:
                t = decoder.decode(line)
            except (msgspec.DecodeError, UnicodeDecodeError):
                self.unreadable.append(f"{path}: byte {offset}")
                continue
            u = t.usage
            rows.append((ledger, t.slot, t.id, name, offset, len(line), t.finish, t.max_tokens, t.teacher,
                         u.prompt_tokens, u.completion_tokens, t.cost_usd))  # fmt: skip
        self.db.executemany("INSERT INTO traces VALUES (?,?,?,?,?,?,?,?,?,?,?,?)", rows)
        return end

    def _add_failures(self, ledger: str, name: str, path: Path, start: int) -> int:
        decoder, end, rows = msgspec.json.Decoder(_FailureRow), start, []
        for offset, line in read_lines(path, start):
            end = offset + len(line) + 1
            try:
                f = decoder.decode(line)
            except (msgspec.DecodeError, UnicodeDecodeError):
                self.unreadable.append(f"{path}: byte {offset}")
                continue
            rows.append((ledger, f.slot, f.error_class, int(f.final), name, f.teacher))
        self.db.executemany("INSERT INTO failures VALUES (?,?,?,?,?,?)", rows)
        return end

    def newest(self, ledger: str) -> dict[str, TraceRef]:
        """The newest trace of every slot of a ledger, by slot."""
        rows = self.db.execute(
            "SELECT slot, id, name, offset, length, finish, max_tokens FROM traces WHERE ledger=? ORDER BY rowid",
            (ledger,),
        )
        return {row[0]: TraceRef(*row) for row in rows}

    def final_failures(self, ledger: str) -> set[str]:
        """Slots that failed for good: asking again can't help."""
        return {
            slot
            for (slot,) in self.db.execute("SELECT slot FROM failures WHERE ledger=? AND final=1", (ledger,))
        }

    def failure_counts(self, ledger: str) -> dict[str, int]:
        """Recorded failures by error class (one per request that was given up)."""
        query = "SELECT error_class, COUNT(*) FROM failures WHERE ledger=? GROUP BY 1 ORDER BY 2 DESC, 1"
        return dict(self.db.execute(query, (ledger,)).fetchall())

    def totals(self, ledger: str) -> list[dict[str, Any]]:
        """Per teacher: traces, cut ones, tokens, known cost in USD and how many traces have no known cost."""
        query = """SELECT teacher, COUNT(*) traces, SUM(finish='length') truncated, SUM(prompt_tokens) prompt_tokens,
          SUM(completion_tokens) completion_tokens, SUM(cost_usd) cost_usd, SUM(cost_usd IS NULL) cost_unknown
          FROM traces WHERE ledger=? GROUP BY teacher ORDER BY teacher"""
        cursor = self.db.execute(query, (ledger,))
        names = [column[0] for column in cursor.description]
        return [dict(zip(names, row, strict=True)) for row in cursor]

    def measurements(self, keys: Iterable[str]) -> dict[str, dict[str, Any]]:
        """The cached values among `keys`, by key."""
        found: dict[str, dict[str, Any]] = {}
        for chunk in _chunks(keys, 500):
            marks = ",".join("?" * len(chunk))
            rows = self.db.execute(f"SELECT key, value FROM measurements WHERE key IN ({marks})", chunk)
            found.update((key, msgspec.json.decode(value)) for key, value in rows)
        return found

    def store(self, measurements: Iterable[Measurement]) -> None:
        """Keep measurements; one that is known already is replaced."""
        rows = [(m.key, m.trace_id, m.check, msgspec.json.encode(m.value)) for m in measurements]
        self.db.execute("BEGIN IMMEDIATE")
        self.db.executemany("INSERT OR REPLACE INTO measurements VALUES (?,?,?,?)", rows)
        self.db.execute("COMMIT")


def _chunks(items: Iterable[str], size: int) -> Iterator[list[str]]:
    chunk: list[str] = []
    for item in items:
        chunk.append(item)
        if len(chunk) == size:
            yield chunk
            chunk = []
    if chunk:
        yield chunk
