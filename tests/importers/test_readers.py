"""Files of all kinds -> rows, and the bounds within which they are believed."""

from __future__ import annotations

import gzip
import io
import json
import os
import pickle
import random
import tracemalloc
import zipfile
import zlib
from pathlib import Path
from typing import Any

import pytest
from backports import zstd

from r1distill.errors import InputError
from r1distill.filtering.tracefiles import TraceFiles
from r1distill.importers import readers
from r1distill.importers.limits import FREE_BYTES, MAX_LINE_BYTES
from r1distill.importers.lines import BOMB, TOO_LONG, Line
from r1distill.importers.readers import lines_of

ROWS: list[dict[str, Any]] = [
    {"question": f"q{i}\n", "response": f"<think>a</think>{i} €"} for i in range(40)
]


def jsonl(rows: list[dict[str, Any]] = ROWS) -> bytes:
    return b"".join(json.dumps(row, ensure_ascii=False).encode() + b"\n" for row in rows)


def values(path: Path) -> list[Any]:
    return [json.loads(line.data) for line in lines_of(path)]


def made(folder: Path, data: bytes, name: str = "t.jsonl") -> Path:
    (folder / name).write_bytes(data)
    return folder / name


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("t.jsonl", jsonl()),
        ("t.jsonl.gz", gzip.compress(jsonl())),
        ("named-otherwise", gzip.compress(jsonl())),
        ("t.jsonl.zst", zstd.compress(jsonl())),
        ("parts.zst", zstd.compress(jsonl(ROWS[:9])) + zstd.compress(jsonl(ROWS[9:]))),
        ("parts.gz", gzip.compress(jsonl(ROWS[:9])) + gzip.compress(jsonl(ROWS[9:]))),
        ("t.json", json.dumps(ROWS).encode()),
        ("t.json", json.dumps(ROWS, indent=4).encode()),
        ("t.json.gz", gzip.compress(json.dumps(ROWS, indent=1).encode())),
        ("spread.json", b"\n".join(json.dumps(row, indent=2).encode() for row in ROWS)),
        ("bom.jsonl", b"\xef\xbb\xbf" + jsonl()),
        ("bom.json", b"\xef\xbb\xbf" + json.dumps(ROWS).encode()),
        ("crlf.jsonl", jsonl().replace(b"}\n", b"}\r\n\r\n")),
    ],
)
def test_all_kinds_of_files(tmp_path: Path, name: str, data: bytes) -> None:
    assert values(made(tmp_path, data, name)) == ROWS


def test_places_of_lines(tmp_path: Path) -> None:
    path = made(tmp_path, b'\xef\xbb\xbf{"a": 1}\n\n  \n{"b": 2}\r\n{"c": 3}')
    data = path.read_bytes()
    found = list(lines_of(path))
    assert [(line.number, line.data) for line in found] == [
        (1, b'{"a": 1}'),
        (4, b'{"b": 2}\r'),
        (5, b'{"c": 3}'),
    ]
    for line in found:
        assert line.offset is not None and data[line.offset : line.offset + len(line.data)] == line.data


def test_a_line_longer_than_the_limit_is_not_held_in_memory(tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl"
    with path.open("wb") as file:
        file.write(b'{"a": 1}\n{"long": "')
        for _ in range(100):
            file.write(b"x" * (1 << 20))
        file.write(b'"}\n{"b": 2}\n')
    tracemalloc.start()
    found = list(lines_of(path))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert [(line.number, line.data, line.fault) for line in found] == [
        (1, b'{"a": 1}', ""),
        (2, b"", TOO_LONG),
        (3, b'{"b": 2}', ""),
    ]
    assert peak < 2.5 * MAX_LINE_BYTES


def bomb(rows: int) -> bytes:
    out = io.BytesIO()
    with gzip.GzipFile(fileobj=out, mode="wb", compresslevel=6) as file:
        file.write(b'{"a": 1}\n')
        for _ in range(rows):
            file.write(b" " * ((1 << 20) - 1) + b"\n")
    return out.getvalue()


@pytest.mark.parametrize("kind", ["gz", "zst", "long line", "array"])
def test_decompression_bombs_are_left_early(
    tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """About 300 MB of blanks out of 300 kB; the bound is lowered for the test's sake, the ratio is not."""
    monkeypatch.setattr(readers, "FREE_BYTES", FREE_BYTES >> 4)
    blanks = b'{"a": 1}\n' + (b" " * 1023 + b"\n") * 40_000
    if kind == "gz":
        data = bomb(150)
    elif kind == "zst":
        data = zstd.compress(blanks)
    elif kind == "array":
        data = gzip.compress(b'[{"a": 1},' + b" " * 40_000_000)
    else:
        data = gzip.compress(b'{"a": 1}\n' + b" " * 40_000_000)
    found = list(lines_of(made(tmp_path, data, "t.jsonl.gz")))
    assert json.loads(found[0].data) == {"a": 1}
    assert found[-1].fault == BOMB


def test_text_that_shrinks_well_is_no_bomb(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(readers, "FREE_BYTES", 1 << 16)
    rows = [{"question": f"q{i}", "response": "so " * 100 + str(i * 7919)} for i in range(4000)]
    assert values(made(tmp_path, gzip.compress(jsonl(rows)), "t.gz")) == rows


def test_a_window_that_needs_gigabytes_is_refused(tmp_path: Path) -> None:
    option = {zstd.CompressionParameter.window_log: 30, zstd.CompressionParameter.content_size_flag: 0}
    compressor = zstd.ZstdCompressor(options=option)
    data = compressor.compress(jsonl()) + compressor.flush()
    (line,) = lines_of(made(tmp_path, data, "t.zst"))
    assert "takes a window of more than 128 MiB (zstd --long): unpack the file first" in line.fault


def of_prefix(data: bytes) -> bytes:
    """What can be had of the beginning of a packed file."""
    decompressor = zstd.ZstdDecompressor() if data.startswith(readers.ZSTD) else zlib.decompressobj(wbits=31)
    return decompressor.decompress(data)


@pytest.mark.parametrize("pack", [gzip.compress, zstd.compress])
@pytest.mark.parametrize("count", [1000, 4000])
@pytest.mark.parametrize("form", ["lines", "array"])
def test_a_torn_compressed_file_gives_every_row_that_is_whole(
    tmp_path: Path, pack: Any, count: int, form: str
) -> None:
    rng = random.Random(1)
    rows = [{"question": f"{i} {rng.randbytes(250).hex()}"} for i in range(count)]
    data = pack(jsonl(rows) if form == "lines" else json.dumps(rows).encode())
    data = data[: len(data) * 3 // 4]
    had = of_prefix(data)
    whole = had.count(b"}")
    assert count * 0.1 < whole < count
    *found, last = lines_of(made(tmp_path, data, "t.packed"))
    assert [json.loads(line.data) for line in found] == rows[:whole]
    assert last == Line(whole + 1, None, b"", last.fault)
    assert last.fault.startswith("the compressed data are damaged or end too early (")


def test_a_small_torn_file_loses_its_last_row_only(tmp_path: Path) -> None:
    rows = [{"question": f"{i} {i * 7919}"} for i in range(1000)]
    data = gzip.compress(jsonl(rows))[:-2000]
    whole = of_prefix(data).count(b"\n")
    *found, last = lines_of(made(tmp_path, data, "t.gz"))
    assert len(data) < 128 << 10 and 300 < whole < 1000
    assert [json.loads(line.data) for line in found] == rows[:whole]
    assert last.fault and last.number == whole + 1


def test_a_file_that_lacks_only_its_checksum_loses_nothing(tmp_path: Path) -> None:
    data = gzip.compress(jsonl().rstrip(b"\n"))[:-4]
    *found, last = lines_of(made(tmp_path, data, "t.gz"))
    assert [json.loads(line.data) for line in found] == ROWS
    assert last.fault


def test_a_bad_line_before_the_torn_end_is_kept_as_a_line(tmp_path: Path) -> None:
    data = gzip.compress(b"not json\n" + jsonl())[:-4]
    found = list(lines_of(made(tmp_path, data, "t.gz")))
    assert found[0].data == b"not json" and len(found) == len(ROWS) + 2


def test_joined_files_have_marks_before_later_lines(tmp_path: Path) -> None:
    mark = b"\xef\xbb\xbf"
    path = made(tmp_path, mark + jsonl(ROWS[:3]) + mark + jsonl(ROWS[3:]) + mark + b"\n")
    data = path.read_bytes()
    found = list(lines_of(path))
    assert [json.loads(line.data) for line in found] == ROWS
    assert all(line.offset is not None and data[line.offset :].startswith(line.data) for line in found)


@pytest.mark.parametrize(
    "name",
    ["t.pkl", "t.pickle", "model.pt", "model.PTH", "x.bin", "x.joblib", "x.npy", "cache-1.arrow", "read.py"],
)
def test_what_can_run_code_is_refused_by_name(tmp_path: Path, name: str) -> None:
    with pytest.raises(InputError, match="can run code"):
        list(lines_of(made(tmp_path, jsonl(), name)))


class Evil:
    """A pickle of this would leave a file behind when it is loaded."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self.path,)


def test_what_can_run_code_is_refused_by_its_first_bytes(tmp_path: Path) -> None:
    zipped = io.BytesIO()
    with zipfile.ZipFile(zipped, "w") as file:
        file.writestr("data.pkl", pickle.dumps(Evil(tmp_path / "ran")))
    for data in (pickle.dumps(Evil(tmp_path / "ran")), zipped.getvalue(), b"ARROW1\0\0", b"GGUF\3\0\0\0"):
        with pytest.raises(InputError, match="not a trace file"):
            list(lines_of(made(tmp_path, data, "t.jsonl")))
    assert not (tmp_path / "ran").exists()


def test_other_encodings_are_said(tmp_path: Path) -> None:
    (line,) = lines_of(made(tmp_path, jsonl().decode().encode("utf-16")))
    assert line == Line(
        1, None, b"", "the file is written as UTF-16: save it as UTF-8; nothing of it is read"
    )


@pytest.mark.parametrize("first", [b'{ "\xff": {', b'{"\xff": 1,', b'{"\xff": ['])
def test_a_first_line_that_is_no_utf_8_is_a_line(tmp_path: Path, first: bytes) -> None:
    """It looks as if an object were spread over lines (found by fuzzing: reading it raised)."""
    found = list(lines_of(made(tmp_path, first + b"\n" + jsonl())))
    assert [line.data for line in found[:1]] == [first]
    assert [json.loads(line.data) for line in found[1:]] == ROWS


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.jsonl")
    for read in (lambda path: list(lines_of(path)), lambda path: TraceFiles([path], "math").fingerprints()):
        with pytest.raises(InputError, match="no file but a pipe"):
            read(tmp_path / "pipe.jsonl")


def test_what_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="can't be read: No such file"):
        list(lines_of(tmp_path / "gone.jsonl"))
    with pytest.raises(InputError, match="can't be read: Is a directory"):
        list(lines_of(tmp_path))
    assert list(lines_of(made(tmp_path, b""))) == []
    assert list(lines_of(made(tmp_path, b"\n \n"))) == []
