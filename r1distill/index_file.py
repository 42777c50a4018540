"""The file index.sqlite: its tables, opened and made anew when it is broken, written to one transaction at a time.

What it holds comes from `Index` (index.py), what it can be asked is in queries.py.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from r1distill.errors import StorageError

LAYOUT_VERSION = 6
"""Changed whenever the tables change: an index of another version is thrown away and made anew."""
TABLES = """
CREATE TABLE IF NOT EXISTS files (ledger TEXT, name TEXT, bytes_read INTEGER, mark TEXT, mtime_ns INTEGER,
  PRIMARY KEY (ledger, name));
CREATE TABLE IF NOT EXISTS traces (ledger TEXT, slot TEXT, id TEXT, name TEXT, offset INTEGER, length INTEGER,
  finish TEXT, max_tokens INTEGER, teacher TEXT, prompt_tokens INTEGER, completion_tokens INTEGER, cost_usd REAL,
  created TEXT, content TEXT);
CREATE INDEX IF NOT EXISTS traces_by_slot ON traces (ledger, slot);
CREATE INDEX IF NOT EXISTS traces_by_id ON traces (ledger, id);
CREATE TABLE IF NOT EXISTS failures (ledger TEXT, slot TEXT, error_class TEXT, final INTEGER, name TEXT, teacher TEXT);
CREATE TABLE IF NOT EXISTS unreadable (ledger TEXT, name TEXT, place TEXT);
CREATE TABLE IF NOT EXISTS measurements (number INTEGER PRIMARY KEY, trace TEXT, made BLOB);
CREATE INDEX IF NOT EXISTS measurements_by_trace ON measurements (trace);
"""
LOCK_TIMEOUT_S = 60.0
"""Seconds to wait for another process that writes the index."""


class IndexFile:
    """An SQLite file that may be thrown away at any time; use as a context manager."""

    db: sqlite3.Connection

    def __init__(self, path: Path | None) -> None:
        self.path = path or Path(":memory:")
        self._on_disk = path is not None

    def __enter__(self) -> Self:
        """Open it, made anew when it is broken or of another layout. Raises StorageError."""
        try:
            self._open()
        except sqlite3.OperationalError as error:  # locked, read-only, no space: not the file's fault
            raise self._unusable(error) from None
        except sqlite3.DatabaseError:
            self._discard()
            self._open()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.db.close()
        if isinstance(error, sqlite3.OperationalError):
            raise self._unusable(error) from None
        if isinstance(error, sqlite3.DatabaseError):
            self._discard()
            raise StorageError(
                f"{self.path} was broken ({error}) and has been removed: it is only a cache. Run the same command again."
            ) from None

    def _unusable(self, error: sqlite3.OperationalError) -> StorageError:
        return StorageError(
            f"{self.path} can't be used: {error}. It is only a cache: remove it if it does not get better by itself."
        )

    def _open(self) -> None:
        # No folder, no ledger: nothing to remember, so that looking at a run that does not exist writes nothing.
        place = self.path if self._on_disk and self.path.parent.is_dir() else ":memory:"
        self.db = sqlite3.connect(place, timeout=LOCK_TIMEOUT_S, isolation_level=None)
        self._wal()
        self.db.execute("PRAGMA synchronous=OFF")  # a cache: rebuilt when lost
        version = self.db.execute("PRAGMA user_version").fetchone()[0]
        if version == LAYOUT_VERSION:
            return
        if version:
            raise sqlite3.DatabaseError("made by another version")
        with self._writing():
            for statement in TABLES.split(";"):
                self.db.execute(statement)
            self.db.execute(f"PRAGMA user_version={LAYOUT_VERSION}")

    def _wal(self) -> None:
        """Write-ahead logging, so that readers and a writer do not wait for each other.

        Switching to it fails at once when another process has the file open just then; that one will switch.
        """
        with suppress(sqlite3.OperationalError):
            self.db.execute("PRAGMA journal_mode=WAL")

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """One transaction that holds the write lock from its start: what is read inside can't change meanwhile."""
        self.db.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self.db.execute("ROLLBACK")
            raise
        self.db.execute("COMMIT")

    def _discard(self) -> None:
        if hasattr(self, "db"):
            self.db.close()
        for suffix in ("", "-wal", "-shm"):
            self.path.with_name(self.path.name + suffix).unlink(missing_ok=True)
