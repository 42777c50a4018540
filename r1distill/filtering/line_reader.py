"""One line of a trace file -> the traces in it, by the formats of importers/. What is none is noted with its reason.

In: lines, and requests that stand in files of their own. Out: what each line holds; then what was skipped, how many rows each
format had, and the columns of rows that are no traces.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sized
from pathlib import Path

from r1distill.filtering.request_files import NO_TRACE, why_unread
from r1distill.importers import Context, Detector, Found, Unread, text_of, traces_of
from r1distill.importers.fields import read_row
from r1distill.importers.lines import Line
from r1distill.importers.scratch import Requests, Skipped
from r1distill.importers.table import Format
from r1distill.records import AnswerKind, Prompt

MOST_FIELDS = 1_000


class LineReader:
    """Reads lines of the formats it may find, and remembers what it met."""

    def __init__(
        self, answer_kind: AnswerKind, saved: dict[str, Prompt], formats: tuple[Format, ...], problems: Sized
    ) -> None:
        """`saved`: problems of the run folders around the files; `problems`: those found so far: until there is one, the fields
        of rows that are no traces are remembered.
        """
        self.skipped = Skipped()
        self.requests = Requests()
        """Prompts that stand in files of their own, beside the answers."""
        self.asked_beside = 0
        """How often a row needed one of them."""
        self.detector = Detector(formats)
        self._detector_again = Detector(self.detector.allowed)
        """For lines that are read once more, which would be counted twice."""
        self.seen_fields: Counter[str] = Counter()
        self._context = Context(answer_kind, saved, self._beside)
        self._problems = problems

    def traces(self, path: Path, line: Line) -> Iterator[Found]:
        """The traces of a line; what is none is noted."""
        try:
            if line.fault:
                raise ValueError(line.fault)
            for found in traces_of(line.data, self.detector, self._context):
                if isinstance(found, Unread):
                    self.skipped.add(path, line.number, found.reason)
                else:
                    yield found
        except NO_TRACE as error:
            self.skipped.add(path, line.number, why_unread(error))
            self._note_fields(line.data)

    def trace_again(self, line: bytes) -> Found:
        """The first trace of a line that is known to hold one."""
        again = traces_of(line, self._detector_again, self._context)
        return next(found for found in again if isinstance(found, Found))

    def text_again(self, line: bytes) -> bytes:
        """Its canonical text as JSON, which is quicker."""
        return text_of(line, self._detector_again, self._context)

    def _beside(self, key: str) -> bytes | None:
        self.asked_beside += 1
        return self.requests.get(key)

    def _note_fields(self, line: bytes) -> None:
        """Remember the columns of a row that is no trace, for the sentence that says there is none at all."""
        try:
            if not len(self._problems) and len(self.seen_fields) < MOST_FIELDS:
                self.seen_fields.update(name[:80] for name in read_row(line).raws)
        except NO_TRACE:
            pass
