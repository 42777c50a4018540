"""Rows of a Parquet file, read in a process of its own: a file that crashes the library, or hangs it, costs its own rows only.

The child (parquet_child.py) writes a line for each row: the row as a JSON object, or a sign and why it can't be read. It has
bounded address space; when nothing comes for SILENT_S it is killed.
"""

from __future__ import annotations

import importlib.util
import json
import os
import select
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec

from r1distill.errors import InputError, MissingPackageError
from r1distill.importers.limits import (
    CHUNK_BYTES,
    FREE_BYTES,
    MAX_LINE_BYTES,
    MAX_RATIO,
    PARQUET_MEMORY_BYTES,
    PARQUET_SILENT_S,
    ROWS_AT_ONCE,
)
from r1distill.importers.lines import BOMB, TOO_LONG, Line
from r1distill.importers.parquet_child import FILE_FAULT, ROW_FAULT
from r1distill.path_names import shown

BOOT = (
    "import importlib.util as u, json, sys; place, path, args = json.loads(sys.argv[1]); sys.path[:] = path; "
    "spec = u.spec_from_file_location('parquet_child', place); child = u.module_from_spec(spec); "
    "sys.modules['parquet_child'] = child; spec.loader.exec_module(child); child.main(*args)"
)
FAULT_BYTES = 4096
"""A fault is no longer than this as a line, whatever a row may be."""
UNREADABLE = "the Parquet file can't be read any further ({})"


def parquet_lines(path: Path) -> Iterator[Line]:
    """The rows of a Parquet file. Raises MissingPackageError, InputError when no process can be started."""
    if importlib.util.find_spec("pyarrow") is None:
        raise MissingPackageError(
            f"{shown(path)} is a Parquet file, which needs the package pyarrow: pip install 'r1distill[parquet]'."
        )
    child = _started(path)
    number = 0
    try:
        for number, text in enumerate(_lines_from(child), 1):
            yield _line(number, text)
            if text[:1] == FILE_FAULT:
                return
        fault = _how_it_ended(child)
        if fault:
            yield Line(number + 1, None, b"", UNREADABLE.format(fault))
    finally:
        child.kill()
        child.wait()
        if child.stdout is not None:
            child.stdout.close()


def _started(path: Path) -> subprocess.Popen[bytes]:
    limits = [PARQUET_MEMORY_BYTES, MAX_LINE_BYTES, FREE_BYTES, MAX_RATIO, ROWS_AT_ONCE]
    child = Path(__file__).with_name("parquet_child.py")
    config = json.dumps([str(child), sys.path, [os.fspath(path.absolute()), limits]])  # names may be no UTF-8
    try:
        return subprocess.Popen(
            [sys.executable, "-c", BOOT, config], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL, bufsize=0, env={**os.environ, "OMP_NUM_THREADS": "1"},
        )  # fmt: skip
    except OSError as error:
        raise InputError(
            f"{shown(path)} can't be read: no process can be started for it ({error.strerror})."
        ) from None


def _lines_from(child: subprocess.Popen[bytes]) -> Iterator[bytes]:
    """The lines that the child writes, until it ends or is silent for too long. It measures them itself, but who knows what the
    file has made of it: of a line beyond the limit no more is held, and a FILE_FAULT stands for it.
    """
    assert child.stdout is not None
    pipe, rest, held = child.stdout.fileno(), [b""], 0
    while select.select([pipe], [], [], PARQUET_SILENT_S)[0]:
        chunk = os.read(pipe, CHUNK_BYTES)
        if not chunk:
            return
        first, *lines = chunk.split(b"\n")
        rest.append(first)
        held += len(first)
        if held > MAX_LINE_BYTES + FAULT_BYTES:
            yield FILE_FAULT + msgspec.json.encode(TOO_LONG)
            return
        if lines:
            yield b"".join(rest)
            yield from lines[:-1]
            rest, held = [lines[-1]], len(lines[-1])


def _line(number: int, text: bytes) -> Line:
    if text[:1] == ROW_FAULT:
        return Line(number, None, b"", msgspec.json.decode(text[1:], type=str) or TOO_LONG)
    if text[:1] == FILE_FAULT:
        why = msgspec.json.decode(text[1:], type=str)
        return Line(number, None, b"", UNREADABLE.format(why) if why else BOMB)
    return Line(number, None, text)


def _how_it_ended(child: subprocess.Popen[bytes]) -> str:
    """Why a child ended that said nothing about it; "" when all is well."""
    try:
        code = child.wait(timeout=1)
    except subprocess.TimeoutExpired:
        return f"nothing came out of it for {PARQUET_SILENT_S} s"
    if code < 0:
        return f"it makes the library that reads it end by {signal.Signals(-code).name}"
    return f"the library that reads it ended with status {code}" if code else ""
