"""Parquet files: rows, bounds, and what a file does that crashes or hangs the library that reads it."""

from __future__ import annotations

import json
import tracemalloc
from pathlib import Path
from typing import Any

import pytest

from r1distill.filtering.tracefiles import TraceFiles
from r1distill.importers import parquet as parquet_reader
from r1distill.importers.lines import BOMB
from r1distill.importers.readers import lines_of

pyarrow = pytest.importorskip("pyarrow")
parquet = pytest.importorskip("pyarrow.parquet")

ROWS: list[dict[str, Any]] = [
    {"question": f"q{i}\n", "response": f"<think>a</think>{i} €"} for i in range(40)
]
ONE_ROW_THEN = 'import sys, time, os, signal; sys.stdout.write(\'{"question":"q","response":"r"}\\n\'); sys.stdout.flush(); '


def written(folder: Path, rows: list[dict[str, Any]] = ROWS) -> Path:
    parquet.write_table(pyarrow.Table.from_pylist(rows), folder / "t.parquet", row_group_size=7)
    return folder / "t.parquet"


def test_parquet(tmp_path: Path) -> None:
    rows = [{**row, "tags": ["a"], "score": float("nan"), "who": {"name": None}} for row in ROWS]
    parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "t.parquet", row_group_size=7)
    found = [json.loads(line.data) for line in lines_of(tmp_path / "t.parquet")]
    assert [{key: row[key] for key in ROWS[0]} for row in found] == ROWS
    assert found[0]["score"] is None and found[0]["tags"] == ["a"]
    data = (tmp_path / "t.parquet").read_bytes()
    (tmp_path / "torn.parquet").write_bytes(data[: len(data) // 2])
    (line,) = lines_of(tmp_path / "torn.parquet")
    assert line.fault.startswith("the Parquet file can't be read any further (")
    middle = len(data) // 3
    (tmp_path / "odd.parquet").write_bytes(data[:middle] + b"\xff" * 64 + data[middle + 64 :])
    assert list(lines_of(tmp_path / "odd.parquet"))  # rows or a fault, no error


@pytest.mark.parametrize("dictionary", [True, False])
def test_a_parquet_file_that_grows_without_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dictionary: bool
) -> None:
    monkeypatch.setattr(parquet_reader, "FREE_BYTES", 1 << 20)
    table = pyarrow.table({"question": ["x" * 100_000] * 400})
    parquet.write_table(table, tmp_path / "t.parquet", compression="zstd", use_dictionary=dictionary)
    found = list(lines_of(tmp_path / "t.parquet"))
    assert found[-1].fault == BOMB and len(found) < 300


def test_a_parquet_value_that_all_rows_share_is_never_held_for_all_of_them(tmp_path: Path) -> None:
    """16 rows of 8 MiB stand in the file once; together they would take 128 MiB, and each is a line."""
    shared = pyarrow.array(["x" * (8 << 20)] * 16).dictionary_encode()
    parquet.write_table(pyarrow.table({"question": shared}), tmp_path / "t.parquet")
    tracemalloc.start()
    count = sum(len(line.data) > 8 << 20 for line in lines_of(tmp_path / "t.parquet"))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert count == 16 and peak < 64 << 20


def test_a_parquet_row_that_is_no_json_spoils_only_itself(tmp_path: Path) -> None:
    days = pyarrow.array([0, 2**60, 1], pyarrow.int64()).cast(pyarrow.timestamp("us"))
    parquet.write_table(pyarrow.table({"question": ["a", "b", "c"], "when": days}), tmp_path / "t.parquet")
    found = list(lines_of(tmp_path / "t.parquet"))
    assert [line.number for line in found] == [1, 2, 3]
    assert [bool(line.fault) for line in found] == [False, True, False]


@pytest.mark.parametrize(
    ("does", "said"),
    [
        ("os.kill(os.getpid(), signal.SIGSEGV)", "it makes the library that reads it end by SIGSEGV"),
        ("os._exit(3)", "the library that reads it ended with status 3"),
        ("time.sleep(60)", "nothing came out of it for 0.3 s"),
    ],
)
def test_a_file_that_crashes_or_hangs_the_library_costs_its_own_rows_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, does: str, said: str
) -> None:
    path = written(tmp_path)
    monkeypatch.setattr(parquet_reader, "BOOT", ONE_ROW_THEN + does)
    monkeypatch.setattr(parquet_reader, "PARQUET_SILENT_S", 0.3)
    found = list(lines_of(path))
    assert [bool(line.fault) for line in found] == [False, True]
    assert found[1] == (2, None, b"", f"the Parquet file can't be read any further ({said})")
    read = TraceFiles([path], "math")
    assert len(list(read.taken())) == 1 and [row["line"] for row in read.skipped] == [2]


def test_a_file_that_wants_more_memory_than_it_may_have(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parquet_reader, "PARQUET_MEMORY_BYTES", 600 << 20)
    value = "".join(map(str, range(3_000_000)))
    parquet.write_table(
        pyarrow.table({"question": [value] * 8}), tmp_path / "t.parquet", use_dictionary=False
    )
    found = list(lines_of(tmp_path / "t.parquet"))
    assert found[-1].fault.startswith("the Parquet file can't be read any further (")


def test_who_stops_reading_leaves_no_process_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started = []
    start = parquet_reader._started
    monkeypatch.setattr(parquet_reader, "_started", lambda path: started.append(start(path)) or started[0])
    reading = lines_of(written(tmp_path, ROWS * 2000))
    next(reading)
    reading.close()
    assert started[0].poll() is not None


def test_a_name_that_is_no_utf_8(tmp_path: Path) -> None:
    path = written(tmp_path).rename(tmp_path / "t\udcff.parquet")
    assert len(list(lines_of(path))) == len(ROWS)
