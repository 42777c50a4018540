"""A file that did not change is not read again; one that did always is."""

from __future__ import annotations

import hashlib
import os
import time
from pathlib import Path

import pytest

from r1distill.errors import InputError
from r1distill.filtering import known_files
from r1distill.filtering.known_files import SETTLED_S, fingerprints
from r1distill.index import Index


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "traces.jsonl"
    path.write_bytes(b"{}\n" * 5)
    now = time.time() + 2 * SETTLED_S
    monkeypatch.setattr("r1distill.filtering.known_files.time.time", lambda: now)  # it is old by now
    return path


def reads(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    seen: list[Path] = []
    real = known_files._read

    def read(path: Path) -> known_files.Fingerprint:
        seen.append(path)
        return real(path)

    monkeypatch.setattr(known_files, "_read", read)
    return seen


def test_what_a_fingerprint_says(file: Path, tmp_path: Path) -> None:
    (one,) = fingerprints([file])
    assert one.origin() == {
        "path": str(file), "bytes": 15, "sha256": hashlib.sha256(file.read_bytes()).hexdigest(),
    }  # fmt: skip
    assert one.lines == 5


def test_it_is_read_once(file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = reads(monkeypatch)
    with Index(tmp_path / "index.sqlite") as index:
        first = fingerprints([file], index)
        assert fingerprints([file], index) == first
    with Index(tmp_path / "index.sqlite") as index:
        assert fingerprints([file], index) == first
    assert seen == [file]


def test_a_change_of_the_same_size_under_the_old_time_is_seen(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Index(tmp_path / "index.sqlite") as index:
        (before,) = fingerprints([file], index)
        times = file.stat()
        with file.open("r+b") as handle:
            handle.write(b"[]")
        os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))
        (after,) = fingerprints([file], index)
    assert (before.size_bytes, before.sha256 != after.sha256) == (after.size_bytes, True)


def test_a_file_that_was_written_just_now_is_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "traces.jsonl"
    path.write_bytes(b"{}\n")
    seen = reads(monkeypatch)
    with Index(tmp_path / "index.sqlite") as index:
        fingerprints([path], index)
        fingerprints([path], index)
    assert seen == [path, path]


def test_what_is_no_trace_file_is_refused_known_or_not(file: Path, tmp_path: Path) -> None:
    with Index(tmp_path / "index.sqlite") as index:
        fingerprints([file], index)
        file.unlink()
        with pytest.raises(InputError, match="can't be read"):
            fingerprints([file], index)
