"""Files that hold only requests: prompts of answers that stand in other files, as batch APIs and stored completions part them.

In: the files of a set. Out: those with answers; the requests of the others are read.
"""

from __future__ import annotations

from pathlib import Path

from r1distill.importers.fields import read_row
from r1distill.importers.lines import Line
from r1distill.importers.readers import lines_of
from r1distill.importers.responses import request_key, stored_messages
from r1distill.importers.scratch import Requests, Skipped

NO_TRACE = (ValueError, RecursionError)
"""What a row that can't be read raises; msgspec's errors are ValueErrors too."""


def answer_files(
    files: list[Path], requests: Requests, skipped: Skipped, may_hold_requests: bool = True
) -> list[tuple[int, Path]]:
    """The files with their numbers, but for those that hold only `requests`, which are read now. Raises InputError."""
    answers = []
    for number, path in enumerate(files):
        first = next(iter(lines_of(path)), None)
        if first is not None and may_hold_requests and _holds_requests(first):
            for line in lines_of(path):
                _take(path, line, requests, skipped)
        else:
            answers.append((number, path))
    return answers


def why_unread(error: Exception) -> str:
    """The reason for a person."""
    return "nested too deeply" if isinstance(error, RecursionError) else str(error)


def _holds_requests(line: Line) -> bool:
    try:
        row = read_row(line.data)
        return request_key(row) is not None or bool(stored_messages(row))
    except NO_TRACE:
        return False


def _take(path: Path, line: Line, requests: Requests, skipped: Skipped) -> None:
    try:
        if line.fault:
            raise ValueError(line.fault)
        row = read_row(line.data)
        one = request_key(row)
        found = [one] if one else stored_messages(row)
        if not found:
            raise ValueError("no request with an id, as the other rows of this file are")
    except NO_TRACE as error:
        skipped.add(path, line.number, why_unread(error))
        return
    for key, request in found:
        requests.add(key, request)
