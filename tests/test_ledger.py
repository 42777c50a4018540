"""The append-only file: whole rows, one writer, repaired tails, errors as sentences."""

from __future__ import annotations

import errno
import os
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from r1distill import ledger as module
from r1distill.errors import LockedError, StorageError
from r1distill.ledger import Ledger, last_newline, read_at, read_lines, storage_errors, write_atomic


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "deep" / "part-1-of-1.jsonl"


def test_rows_are_in_the_file_when_append_returns(path: Path) -> None:
    with Ledger(path) as ledger:
        spans = []
        for number in range(5):
            spans.append(ledger.append({"n": number, "text": "ä\n" * number}))
            assert path.read_bytes().count(b"\n") == number + 1
        assert list(read_at(path, spans)) == [line for _, line in read_lines(path)]
    assert [offset for offset, _ in read_lines(path)] == [offset for offset, _ in spans]


def test_appending_goes_on_where_it_ended(path: Path) -> None:
    for number in range(3):
        with Ledger(path) as ledger:
            ledger.append({"n": number})
    assert path.read_bytes() == b'{"n":0}\n{"n":1}\n{"n":2}\n'


def test_there_is_one_writer(path: Path) -> None:
    with Ledger(path), pytest.raises(LockedError, match=r"writing .*part-1-of-1\.jsonl"), Ledger(path):
        pass
    with Ledger(path):
        pass


@pytest.mark.parametrize(
    ("tail", "kept", "torn"),
    [
        (b"", b"", 0),
        (b'{"n":1', b"", 6),
        (b'{"n":1}', b'{"n":1}\n', 0),  # whole, only the newline is missing: it was paid for
        (b"17", b"", 2),
        (b"\x00" * 5, b"", 5),
        (b'{"n":"\xff"}', b"", 9),
    ],
)
def test_the_tail_is_repaired_and_counted(path: Path, tail: bytes, kept: bytes, torn: int) -> None:
    path.parent.mkdir()
    path.write_bytes(b'{"n":0}\n' + tail)
    with Ledger(path) as ledger:
        assert ledger.torn_bytes == torn
        assert path.read_bytes() == b'{"n":0}\n' + kept
        offset, length = ledger.append({"n": 2})
    assert list(read_at(path, [(offset, length)])) == [b'{"n":2}']


@given(st.integers(0, 200), st.integers(1, 40))
def test_any_cut_leaves_whole_rows(cut: int, chunk: int) -> None:
    import tempfile

    rows = b"".join(b'{"n":%d,"x":"%s"}\n' % (n, b"y" * n) for n in range(12))
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "CHUNK_BYTES", chunk)
        path = Path(folder) / "x.jsonl"
        path.write_bytes(rows[: cut % len(rows)])
        whole = rows[: rows[: cut % len(rows)].rfind(b"\n") + 1]
        assert last_newline(path, path.stat().st_size) == len(whole)
        assert b"".join(line + b"\n" for _, line in read_lines(path)) == whole
        with Ledger(path):
            pass
        assert path.read_bytes() in (whole, rows[: cut % len(rows)] + b"\n")


def test_reading_starts_and_stops_where_told(path: Path) -> None:
    path.parent.mkdir()
    path.write_bytes(b'{"n":0}\n\n  \n{"n":1}\n{"n":')
    assert list(read_lines(path)) == [(0, b'{"n":0}'), (12, b'{"n":1}')]
    assert list(read_lines(path, 12)) == [(12, b'{"n":1}')]


def full(*_: object) -> int:
    raise OSError(errno.ENOSPC, "No space left on device")


def test_a_full_disk_leaves_no_half_row(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real, sizes = os.write, iter([9])

    def nine_bytes_then_full(file: int, data: bytes) -> int:
        size = next(sizes, None)
        return full() if size is None else real(file, data[:size])

    with Ledger(path) as ledger:
        ledger.append({"n": 0})
        with monkeypatch.context() as patch:
            patch.setattr(os, "write", nine_bytes_then_full)
            with pytest.raises(
                StorageError, match="no space left; free some space and run the same command again"
            ):
                ledger.append({"n": 1, "text": "long enough for two writes"})
        assert path.read_bytes() == b'{"n":0}\n'
        ledger.append({"n": 2})
    assert path.read_bytes() == b'{"n":0}\n{"n":2}\n'


def test_a_folder_that_can_not_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="can't be written"), Ledger(tmp_path / "file" / "x.jsonl"):
        pass


def test_a_ledger_that_does_not_open_keeps_no_lock(path: Path) -> None:
    path.mkdir(parents=True)  # a folder in its place
    with pytest.raises(StorageError), Ledger(path):
        pass
    path.rmdir()
    with Ledger(path) as ledger:
        ledger.append({"n": 0})


def test_the_lock_is_given_back_when_the_last_sync_fails(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(StorageError), Ledger(path) as ledger:
        ledger.append({"n": 0})
        ledger._dirty = True
        monkeypatch.setattr(os, "fsync", full)
    monkeypatch.undo()
    with Ledger(path):
        pass


def test_syncing_is_throttled(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced = []
    monkeypatch.setattr(os, "fsync", synced.append)
    clock = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    with Ledger(path) as ledger:
        for _ in range(5):
            ledger.append({})
        assert len(synced) == 1
        clock[0] += module.SYNC_EVERY_S
        ledger.sync()
        ledger.sync()
        assert len(synced) == 2
        ledger.append({})
    assert len(synced) == 3


def test_other_errors_pass_the_fence(tmp_path: Path) -> None:
    with pytest.raises(KeyError), storage_errors(tmp_path):
        raise KeyError
    with pytest.raises(StorageError, match="Permission denied; make that possible"), storage_errors(tmp_path):
        raise OSError(errno.EACCES, "Permission denied")


def test_atomic_writing_replaces_all_or_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "new" / "manifest.json"
    write_atomic(path, b"old")
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StorageError):
        write_atomic(path, b"new")
    assert path.read_bytes() == b"old"
    assert [p.name for p in path.parent.iterdir()] == ["manifest.json"]
