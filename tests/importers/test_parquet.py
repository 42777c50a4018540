"""Parquet files: rows, bounds, and what a file does that crashes or hangs the library that reads it."""

from __future__ import annotations

import json
import tracemalloc
from pathlib import Path
from typing import Any

import pytest

from r1distill.filtering.tracefiles import TraceFiles
from r1distill.importers import parquet as parquet_reader
from r1distill.importers.lines import BOMB, TOO_LONG
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


LIMIT = 2000
WORDS = pyarrow.array(["a" * 600, "b" * 600, "c" * 600, "d" * 600] * 4)


@pytest.mark.parametrize(
    ("column", "long"),
    [
        (["a", "\x01" * 900, "c"], [2]),  # 900 bytes, as JSON 5,400
        (["a", "b" * 2100], [2]),
        (["\x01" * 300] * 6, []),  # each may be, though all together are longer
        (["\x01" * 300, "b", "\x01" * 900], [3]),
        (pyarrow.array([[None], [None] * 500], pyarrow.list_(pyarrow.null())), [2]),  # nulls stand nowhere
        (pyarrow.array([[True], [False] * 500], pyarrow.list_(pyarrow.bool_())), [2]),  # in 63 bytes
        ([[{"a long name": 1}], [{"a long name": 1}] * 200], [2]),
        (pyarrow.array([{"key": 1}, {str(at): 1 for at in range(999)}], pyarrow.map_("str", "int8")), [2]),
        (WORDS.dictionary_encode(), []),  # the values are longer together, each row means one
        (pyarrow.array(["a", "b" * 2100] * 2).dictionary_encode(), [2, 4]),
        (pyarrow.array([7, 8, 7]).dictionary_encode(), []),
    ],
)  # fmt: skip
def test_no_row_is_longer_than_the_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, column: Any, long: list[int]
) -> None:
    monkeypatch.setattr(parquet_reader, "MAX_LINE_BYTES", LIMIT)
    parquet.write_table(pyarrow.table({"question": column}), tmp_path / "t.parquet")
    found = list(lines_of(tmp_path / "t.parquet"))
    assert [line.number for line in found] == [*range(1, len(column) + 1)]
    assert [line.number for line in found if line.fault == TOO_LONG] == long
    assert all(len(line.data) <= LIMIT and (line.data or line.fault) for line in found)
    assert sum(line.fault == "" for line in found) == len(column) - len(long)


def test_rows_that_are_too_long_count_for_the_bomb(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parquet_reader, "MAX_LINE_BYTES", LIMIT)
    monkeypatch.setattr(parquet_reader, "FREE_BYTES", 1 << 20)
    shared = pyarrow.array(["\x01" * 1900] * 10_000).dictionary_encode()
    parquet.write_table(pyarrow.table({"question": shared}), tmp_path / "t.parquet")
    found = list(lines_of(tmp_path / "t.parquet"))
    assert len(found) < 500 and [line.fault for line in found[-2:]] == [TOO_LONG, BOMB]


def test_a_child_that_writes_without_end_is_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = written(tmp_path)
    monkeypatch.setattr(parquet_reader, "MAX_LINE_BYTES", 4 << 20)
    monkeypatch.setattr(parquet_reader, "BOOT", ONE_ROW_THEN + "\nwhile True: sys.stdout.write('x' * 4096)")
    tracemalloc.start()
    found = list(lines_of(path))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert [line.fault for line in found] == [
        "", f"the Parquet file can't be read any further ({TOO_LONG})"
    ]  # fmt: skip
    assert peak < 12 << 20


def test_a_column_that_stands_twice(tmp_path: Path) -> None:
    columns = [pyarrow.array(["a"]), pyarrow.array(["b"]), pyarrow.array(["c"])]
    table = pyarrow.Table.from_arrays(columns, names=["question", "response", "question"])
    parquet.write_table(table, tmp_path / "t.parquet")
    (line,) = lines_of(tmp_path / "t.parquet")
    said = "the column 'question' stands in the file twice"
    assert line == (1, None, b"", f"the Parquet file can't be read any further ({said})")
    inner = pyarrow.StructArray.from_arrays(columns[:2], names=["x", "x"])
    parquet.write_table(pyarrow.table({"question": inner}), tmp_path / "t.parquet")
    (line,) = lines_of(tmp_path / "t.parquet")
    assert (
        line.fault.startswith("the row can't be written as JSON (") and "duplicate field names" in line.fault
    )


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
