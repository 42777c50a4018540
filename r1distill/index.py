"""index.sqlite: where each answer stands in the ledgers, and what checks have measured. A cache, never the truth.

It may be deleted at any time: `catch_up` reads whatever the ledgers hold beyond what it knows. Rows of a ledger
file that shrank, was replaced or changed are dropped and read again. Several processes may use it at the same time.
Measurements are found by a key that names all they depend on, so an outdated one is never found, only forgotten.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from itertools import groupby
from operator import attrgetter
from pathlib import Path
from typing import Any

import msgspec

from r1distill.index_file import IndexFile
from r1distill.ledger import last_newline, read_lines
from r1distill.queries import Made, Queries, batched, short_id
from r1distill.records import Trace

MARK_BYTES = 64
ROWS_AT_A_TIME = 200
"""Rows held in memory while a ledger is read; a row may be megabytes long."""
UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
MEASUREMENTS = "measurements"
"""The name that their files have among the ledgers."""
KEEP = "INSERT INTO measurements (trace, made) VALUES (?,?)"
"""All that was measured on a trace at one time is one row at the end of the table: a row for each measurement, sorted by
trace, cost six times the CPU, since each touches a page of its own (20,000 traces and five checks: 0.8 against 0.13 s)."""
Add = Callable[[str, str, Path, int], int]
"""(ledger, file name, path, first byte) -> the byte behind the last row read."""


class _FailureRow(msgspec.Struct):
    slot: str
    error_class: str
    final: bool
    teacher: str = ""


class _MeasurementRow(msgspec.Struct):
    key: str
    trace_id: str
    check: str
    value: dict[str, Any]


class Index(IndexFile, Queries):
    """The index of one run folder; use as a context manager."""

    def __init__(self, path: Path | None) -> None:
        super().__init__(path)
        self.unreadable: list[str] = []
        """Rows of the ledgers caught up with that could not be decoded, as FILE: byte OFFSET."""
        self.torn: list[str] = []
        """The same of the measurements taken in."""

    def catch_up(self, ledger: str, folder: Path) -> None:
        """Read what a ledger holds beyond what is known: part-*.jsonl in `folder`, failures*.jsonl beside it."""
        traces = {path.name: path for path in sorted(folder.glob("part-*.jsonl"))}
        failures = {path.name: path for path in sorted(folder.parent.glob("failures*.jsonl"))}
        self._forget(ledger, {*traces, *failures})
        for name, path in traces.items():
            self._read_file(ledger, name, path, self._add_traces)
        for name, path in failures.items():
            self._read_file(ledger, name, path, self._add_failures)
        places = self.db.execute("SELECT place FROM unreadable WHERE ledger=? ORDER BY rowid", (ledger,))
        self.unreadable += [place for (place,) in places if place not in self.unreadable]

    def _forget(self, ledger: str, keep: set[str]) -> None:
        for (name,) in self.db.execute("SELECT name FROM files WHERE ledger=?", (ledger,)).fetchall():
            if name not in keep:
                with self._writing():
                    self._drop(ledger, name)

    def _drop(self, ledger: str, name: str) -> None:
        for table in ("files", "traces", "failures", "unreadable"):
            self.db.execute(f"DELETE FROM {table} WHERE ledger=? AND name=?", (ledger, name))

    def _read_file(self, ledger: str, name: str, path: Path, add: Add) -> None:
        if self._is_known(ledger, name, path):
            return
        with self._writing():
            if self._is_known(ledger, name, path):  # another process was quicker
                return
            known, mark, _ = self._known(ledger, name)
            if known and (path.stat().st_size <= known or _mark(path, known) != mark):
                self._drop(ledger, name)
                known = 0
            end = add(ledger, name, path, known)
            self.db.execute(
                "INSERT OR REPLACE INTO files VALUES (?,?,?,?,?)",
                (ledger, name, end, _mark(path, end), path.stat().st_mtime_ns),
            )

    def _known(self, ledger: str, name: str) -> tuple[int, str, int]:
        """(bytes read so far, what marked them, when the file was changed last, in ns)."""
        query = "SELECT bytes_read, mark, mtime_ns FROM files WHERE ledger=? AND name=?"
        row = self.db.execute(query, (ledger, name)).fetchone()
        return tuple(row) if row else (0, "", 0)

    def _is_known(self, ledger: str, name: str, path: Path) -> bool:
        """True when the file holds nothing beyond what was read (an unchanged index is not written to)."""
        known, mark, mtime_ns = self._known(ledger, name)
        now = path.stat()
        return (now.st_size, now.st_mtime_ns) == (known, mtime_ns) and _mark(path, known) == mark

    def _add_traces(self, ledger: str, name: str, path: Path, start: int) -> int:
        decoder, end = msgspec.json.Decoder(Trace), start
        insert = f"INSERT INTO traces VALUES ({','.join('?' * 14)})"
        for lines in batched(read_lines(path, start), ROWS_AT_A_TIME):
            rows = []
            for offset, line in lines:
                end = offset + len(line) + 1
                try:
                    rows.append(_trace_row(ledger, name, offset, line, decoder.decode(line)))
                except UNREADABLE:
                    self._note_unreadable(ledger, name, f"{path}: byte {offset}")
            self.db.executemany(insert, rows)
        return end

    def _add_failures(self, ledger: str, name: str, path: Path, start: int) -> int:
        decoder, end = msgspec.json.Decoder(_FailureRow), start
        for lines in batched(read_lines(path, start), ROWS_AT_A_TIME):
            rows = []
            for offset, line in lines:
                end = offset + len(line) + 1
                try:
                    f = decoder.decode(line)
                    rows.append((ledger, f.slot, f.error_class, int(f.final), name, f.teacher))
                except UNREADABLE:
                    self._note_unreadable(ledger, name, f"{path}: byte {offset}")
            self.db.executemany("INSERT INTO failures VALUES (?,?,?,?,?,?)", rows)
        return end

    def _note_unreadable(self, ledger: str, name: str, place: str) -> None:
        self.db.execute("INSERT INTO unreadable VALUES (?,?,?)", (ledger, name, place))

    def store(self, measurements: Iterable[Made]) -> None:
        """Keep measurements, best those of one trace together; one that is known already is replaced."""
        rows = _packed(measurements)
        with self._writing():
            self.db.executemany(KEEP, rows)

    def keep_lines(self, rows: Iterable[tuple[bytes, bytes]]) -> None:
        """Keep what lines of files came to (known_lines.py, which makes their table)."""
        with self._writing():
            self.db.executemany("INSERT OR REPLACE INTO known_lines VALUES (?,?)", rows)

    def take_in(self, folder: Path) -> None:
        """Take in the measurements in FOLDER/*.jsonl that are not known yet: what shards have measured, here or elsewhere.

        A row that can't be read is left out: its trace is measured again.
        """
        paths = {path.name: path for path in sorted(folder.glob("*.jsonl"))}
        self._forget(MEASUREMENTS, set(paths))
        for name, path in paths.items():
            self._read_file(MEASUREMENTS, name, path, self._add_measurements)
        places = self.db.execute(
            "SELECT place FROM unreadable WHERE ledger=? ORDER BY rowid", (MEASUREMENTS,)
        )
        self.torn = [place for (place,) in places]

    def _add_measurements(self, ledger: str, name: str, path: Path, start: int) -> int:
        decoder, end = msgspec.json.Decoder(_MeasurementRow), start
        for lines in batched(read_lines(path, start), ROWS_AT_A_TIME):
            rows = []
            for offset, line in lines:
                end = offset + len(line) + 1
                try:
                    m = decoder.decode(line)
                    rows.append(Made(m.trace_id, m.key, msgspec.json.encode(m.value)))
                except UNREADABLE:
                    self._note_unreadable(ledger, name, f"{path}: byte {offset}")
            self.db.executemany(KEEP, _packed(rows))
        return end


def _packed(measurements: Iterable[Made]) -> list[tuple[str, bytes]]:
    """Rows of the table: the measurements that come one after the other on one trace are one row."""
    return [
        (short_id(trace_id), msgspec.msgpack.encode([(one.key, one.raw) for one in made]))
        for trace_id, made in groupby(measurements, key=attrgetter("trace_id"))
    ]


def _trace_row(ledger: str, name: str, offset: int, line: bytes, t: Trace) -> tuple[Any, ...]:
    u = t.usage
    return (ledger, t.slot, t.id, name, offset, len(line), t.finish, _int64(t.max_tokens), t.teacher,
            _int64(u.prompt_tokens), _int64(u.completion_tokens), t.cost_usd, t.created, content_digest(line))  # fmt: skip


def content_digest(line: bytes) -> str:
    """What a trace says, as 32 hex digits over its line: a slot that was asked again may hold another answer."""
    return hashlib.sha256(line).hexdigest()[:32]


def _mark(path: Path, end: int) -> str:
    """Digest of how the first row begins and of the last row that was read: another file in its place differs there."""
    last = last_newline(path, end - 1) if end else 0
    with path.open("rb") as file:
        head = file.read(min(MARK_BYTES, end))
        file.seek(last)
        return content_digest(head + file.read(end - last))


def _int64(number: int | None) -> int | None:
    """What SQLite can hold; None for a number beyond it, which no teacher ever counted."""
    return number if number is not None and abs(number) < 1 << 63 else None
