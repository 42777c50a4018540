"""Coverage-guided fuzzing of the file readers, run by tests/test_fuzz.py: `python fuzz_files.py CORPUS -max_total_time=15`.

Bytes as they are, or packed as .gz or .zst: rows and faults come out, and nothing is raised but an InputError. Parquet is left
out: another process reads it.
"""

from __future__ import annotations

import gzip
import io
import sys
import tempfile
from pathlib import Path

import atheris

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

with atheris.instrument_imports(include=["r1distill.importers"]):
    from r1distill.errors import InputError
    from r1distill.importers import readers
    from r1distill.importers.lines import Line

readers.FREE_BYTES, readers.MAX_LINE_BYTES, readers.CHUNK_BYTES = 1 << 20, 1 << 12, 64  # so that they matter
ZSTD = readers._zstd()
PATH = Path(tempfile.mkdtemp()) / "t"


def one(data: bytes) -> None:
    """One input: a byte that says how it is packed, and the bytes."""
    if not data:
        return
    packing, text = data[0] % 4, data[1:]
    if packing == 3:
        rows(text)
    elif packing == 2:
        same(rows(text), rows(gzip.compress(text, 1)), text)
    elif packing == 1:
        same(rows(text), rows(ZSTD.compress(text, 1)), text)
    else:  # packed, and cut off
        rows(gzip.compress(text, 1)[: -1 - len(text) % 20])


def same(plain: list[Line], unpacked: list[Line], text: bytes) -> None:
    """Packed text has the rows that it has as it is."""
    if packed_itself(text):
        return
    assert [(line.number, line.data, line.fault) for line in plain] == [
        (line.number, line.data, line.fault) for line in unpacked
    ]


def packed_itself(text: bytes) -> bool:
    return text.startswith((readers.GZIP, readers.ZSTD, *readers.REFUSED_STARTS))


def rows(content: bytes) -> list[Line]:
    """The rows of a file with these bytes, each looked at."""
    if content.startswith(readers.PARQUET):
        return []
    PATH.write_bytes(content)
    try:
        found = list(readers.lines_of(PATH))
    except InputError as error:
        assert str(error).endswith("."), error
        return []
    file, number = io.BytesIO(content), 0
    for line in found:
        assert line.number > number, found
        assert bool(line.data) != bool(line.fault) and b"\n" not in line.data, line
        if line.offset is not None and line.data:
            file.seek(line.offset)
            assert file.read(len(line.data)) == line.data, line
        number = line.number
    return found


if __name__ == "__main__":
    atheris.Setup(sys.argv, one)
    atheris.Fuzz()
