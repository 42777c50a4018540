"""Trace files as one set, whatever they are: our own traces, or any format of importers/table.py.

In: files. Out: traces with their problems, and where the line of each stands. A row that can't be read is noted with its
reason, never fatal and never silent. Ids come from the content: trace id = digest of the line and how often it stood
before, problem id = digest of the question. A row with several traces, and a row that must be unpacked first, is put away as
one JSON line for each trace; that line is what counts for the id, and what kept.jsonl holds.
"""

from __future__ import annotations

import functools
import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
from msgspec.structs import replace

from r1distill.errors import InputError
from r1distill.filtering.judged import About, about_of, read_place
from r1distill.filtering.known_files import Spot, fingerprints
from r1distill.filtering.known_lines import KnownLine, KnownLines, LineAgain, Problem
from r1distill.filtering.measure import Place, Source
from r1distill.filtering.problem_set import ProblemSet
from r1distill.filtering.request_files import NO_TRACE, answer_files, why_unread
from r1distill.imported import sibling_prompts
from r1distill.importers import Context, Detector, Found, Unread, reply_of, traces_of
from r1distill.importers.detect import chosen_formats
from r1distill.importers.fields import read_row
from r1distill.importers.lines import Line
from r1distill.importers.readers import first_bytes, lines_of
from r1distill.importers.scratch import Requests, Scratch, Skipped
from r1distill.importers.table import QUESTION, REPLY
from r1distill.index import Index
from r1distill.records import AnswerKind, Prompt, Trace
from r1distill.thinking import Split

READER_VERSION = 3
"""Raised when the same file gives other traces."""
QUIET = ("plain", "r1distill")
"""Formats that need no mention."""
MOST_FIELDS = 1_000


class Taken(NamedTuple):
    """One trace of a file."""

    order: int
    """Number of its problem in `prompts`."""
    trace: Trace
    """Under the id that its line gives it."""
    found: Found
    place: Place
    content: str
    """Digest of its line and of the way that this is read: what is measured depends on both."""
    line: bytes
    """What stands for it in kept.jsonl."""
    path: Path
    number: int
    """Of the line in the file."""


class Names:
    """What ids and samples have been given so far."""

    def __init__(self) -> None:
        self._times: Counter[bytes] = Counter()
        self._samples: Counter[str] = Counter()

    def trace_id(self, key: bytes) -> str:
        """The id of the next trace of a line with this SHA-256."""
        times = self._times[key]
        self._times[key] = times + 1
        return trace_id_of_line(key.hex(), times)

    def sample(self, prompt_id: str) -> int:
        """The number of the next trace of a problem."""
        sample = self._samples[prompt_id]
        self._samples[prompt_id] = sample + 1
        return sample


class TraceFiles:
    """Several files read as one set; after `sources` was read through, the problems and skipped lines are known."""

    def __init__(
        self, files: list[Path], answer_kind: AnswerKind, *, format: str | None = None,
        columns: dict[str, str] | None = None, scratch: Path | None = None, keep_lines: bool = True,
    ) -> None:  # fmt: skip
        """`format`: its name, None to detect it; `columns`: what --map says; `scratch`: a folder for rows that have to be
        unpacked; not to `keep_lines` writes none, so that `lines` can't be asked for them. Raises UsageError.
        """
        self.files, self.answer_kind = files, answer_kind
        self.lines = 0
        """Lines of all files, once `fingerprints` has read them."""
        self.skipped = Skipped()
        self.requests = Requests()
        """Prompts that stand in files of their own, beside the answers."""
        self.detector = Detector(chosen_formats(format, columns))
        self._detector_again = Detector(self.detector.allowed)
        """For lines that are read once more, which would be counted twice."""
        self._is_mapped = bool(columns)
        self._reading = msgspec.json.encode([READER_VERSION, format, columns], order="deterministic")
        self._saved = {p.id: p for path in files for p in sibling_prompts(path)}
        self._context = Context(answer_kind, self._saved, self._beside)
        self._asked_beside = 0
        """How often a row needed a request that stands in another file."""
        self._known: KnownLines | None = None
        self._seen_fields: Counter[str] = Counter()
        self.problems = ProblemSet(self._saved, scratch)
        self._scratch = Scratch(scratch) if keep_lines else None

    def refuse_odd_files(self) -> None:
        """Raises InputError for a file that is no trace file by its name or first bytes, or can't be read."""
        for path in self.files:
            first_bytes(path)

    def fingerprints(self, index: Index | None = None) -> list[dict[str, Any]]:
        """Path, size in bytes and SHA-256 of each file, of unchanged ones from the index. Raises InputError."""
        found = fingerprints(self.files, index)
        self.lines = sum(one.lines for one in found)
        return [one.origin() for one in found]

    def remember_in(self, index: Index) -> None:
        """Let an index know what the lines come to, so that `sources` need not parse them another time."""
        if not self._saved:  # in a run folder, a row alone does not say what its problem is
            self._known = KnownLines(index, self._reading, self.answer_kind)

    def sources(self) -> Iterator[Source]:
        """All readable traces, in the order of the files. Raises InputError when there is none."""
        if self._known is not None:
            yield from self._sources_known(self._known)
            return
        for taken in self.taken():
            yield self._source(taken)

    def _sources_known(self, known: KnownLines) -> Iterator[Source]:
        names = Names()
        for number, path in self._answers():
            for line, spot, before in known.looked_up(path):
                if before is None:
                    yield from self._new_sources(known, number, path, line, spot, names)
                else:
                    yield self._known_source(known, number, line, spot, before, names)
        known.store()
        self._need_traces()

    def _new_sources(
        self, known: KnownLines, number: int, path: Path, again: Line | LineAgain, spot: Spot, names: Names
    ) -> Iterator[Source]:
        """The traces of a line that is read; it is kept if it gives one trace all by itself."""
        line = again if isinstance(again, Line) else Line(again.number, again.offset, again.data)
        before, count = (len(self.skipped), self._asked_beside), 0
        for found in self._read_line(path, line):
            count += 1
            taken = self._taken(number, path, line, found, names, spot.key)
            source = self._source(taken)
            if count == 1:
                first, about = taken, source.about
            yield source
        if count == 1 and first.found.line is None and before == (len(self.skipped), self._asked_beside):
            self._note(known, spot, first, about)

    def _note(self, known: KnownLines, spot: Spot, taken: Taken, about: About) -> None:
        prompt, asked = taken.found.prompt, taken.found.asked
        one = KnownLine(
            "", self.detector.last, self.problems.key(taken.order), prompt.id, about.teacher, about.chars, about.size_bytes,
            about.completion_tokens, b"",
        )  # fmt: skip
        known.note(spot.content, one, Problem(prompt, asked))

    def _known_source(
        self,
        known: KnownLines,
        number: int,
        line: Line | LineAgain,
        spot: Spot,
        before: KnownLine,
        names: Names,
    ) -> Source:
        self.detector.count(before.format)
        order = self.problems.known(before.problem_key)
        if order is None:
            problem = known.problem(before)
            order = self.problems.add(before.problem_key, problem.prompt, problem.asked)
        trace_id, sample = names.trace_id(spot.key), names.sample(before.prompt_id)
        about = About(
            trace_id, sample, before.teacher, before.chars, before.size_bytes, before.completion_tokens
        )
        trace = functools.partial(self._trace_again, line, order, trace_id, sample)
        place = (
            self._place(number, line, None)
            if isinstance(line, Line)
            else Place(number, line.offset, line.size)
        )
        return Source(order, self.problems[order], trace, place, spot.content.hex(), about)

    def _trace_again(self, line: Line | LineAgain, order: int, trace_id: str, sample: int) -> Trace:
        return self._named(self._found_again(line.data), order, trace_id, sample)

    def _named(self, found: Found, order: int, trace_id: str, sample: int) -> Trace:
        extras = self._with_own_tags(found, self.problems[order])
        return replace(found.trace, id=trace_id, prompt_id=found.prompt.id, sample=sample, extras=extras)

    def _source(self, taken: Taken) -> Source:
        about = about_of(taken.trace)
        return Source(taken.order, self.problems[taken.order], taken.trace, taken.place, taken.content, about)

    def _beside(self, key: str) -> bytes | None:
        self._asked_beside += 1
        return self.requests.get(key)

    def taken(self) -> Iterator[Taken]:
        """As `sources`, with the trace as the row has it beside the trace under its new id."""
        names = Names()
        for number, path in self._answers():
            for line in lines_of(path):
                for found in self._read_line(path, line):
                    yield self._taken(number, path, line, found, names)
        self._need_traces()

    def _taken(
        self, number: int, path: Path, line: Line, found: Found, names: Names, key: bytes = b""
    ) -> Taken:
        """A trace under its own id; `key`: the SHA-256 of the line, if it is known."""
        row = found.line or line.data
        if found.line or not key:
            key = hashlib.sha256(row).digest()
        order = self.problems.number(found.prompt, found.asked)
        trace = self._named(found, order, names.trace_id(key), names.sample(found.prompt.id))
        content = hashlib.sha256(key + self._reading).hexdigest()
        place = self._place(number, line, found.line)
        return Taken(order, trace, found, place, content, row, path, line.number)

    def _answers(self) -> list[tuple[int, Path]]:
        return answer_files(self.files, self.requests, self.skipped, may_hold_requests=not self._is_mapped)

    def _need_traces(self) -> None:
        if not len(self.problems):
            raise InputError(self._no_trace_sentence())

    def lines_at(self, places: Iterable[Place]) -> Iterator[bytes]:
        """The lines that stand for traces, in the order of their places, without newline."""
        with ExitStack() as stack:
            files = [stack.enter_context(path.open("rb", buffering=0)).fileno() for path in self.files]
            for place in places:
                if place.file < len(files):
                    yield read_place(files[place.file], place)
                else:
                    assert self._scratch is not None, "keep_lines is off"
                    yield self._scratch.get(place.offset, place.length)

    def reply_of(self, line: bytes) -> Split:
        """Reasoning and answer of a line of `lines_at`."""
        return reply_of(line, self._detector_again, self._context)

    def _found_again(self, line: bytes) -> Found:
        again = traces_of(line, self._detector_again, self._context)
        return next(found for found in again if isinstance(found, Found))

    def notes(self, listed_in: str = "skipped.jsonl") -> list[str]:
        """What is to be told: skipped rows, requests that were read, formats that were recognised."""
        told = []
        if len(self.skipped):
            first = next(iter(self.skipped))
            has_parts = len(self.skipped) > self.skipped.lines
            parts = f", in whole or in part ({len(self.skipped):,} parts)," if has_parts else ""
            told.append(
                f"{self.skipped.lines:,} lines can't be read as traces{parts} and are listed in {listed_in}; "
                f"the first is {first['file']}:{first['line']} ({first['reason']})."
            )
        if len(self.requests):
            told.append(f"{len(self.requests):,} prompts were read from files that lie beside the answers.")
        rows = {name: count for name, count in self.detector.rows.items() if name not in QUIET}
        if rows:
            counts = ", ".join(f"{name} ({count:,} rows)" for name, count in rows.items())
            told.append(f"Read as {counts}; --format or --map says otherwise.")
        return told

    def _read_line(self, path: Path, line: Line) -> Iterator[Found]:
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

    def _note_fields(self, line: bytes) -> None:
        """Remember the columns of a row that is no trace, for the sentence that says there is none at all."""
        try:
            if not len(self.problems) and len(self._seen_fields) < MOST_FIELDS:
                self._seen_fields.update(name[:80] for name in read_row(line).raws)
        except NO_TRACE:
            pass

    def _place(self, number: int, line: Line, own: bytes | None) -> Place:
        """Where the line stands; `own`: the one that was made for a trace alone."""
        if own is None and line.offset is not None:
            return Place(number, line.offset, len(line.data))
        if self._scratch is None:
            return Place(len(self.files), 0, 0)
        return Place(len(self.files), *self._scratch.put(own or line.data))

    def _with_own_tags(self, found: Found, problem: Prompt) -> dict[str, Any]:
        """The extras of a trace; a row whose tags differ from those of the first row with this problem keeps its own."""
        own = {name: value for name, value in found.prompt.tags.items() if problem.tags.get(name) != value}
        if not own:
            return found.trace.extras
        return found.trace.extras | {"tags": {**own, **found.trace.extras.get("tags", {})}}

    def _no_trace_sentence(self) -> str:
        names = ", ".join(str(path) for path in self.files)
        fields = ", ".join(name for name, _ in self._seen_fields.most_common(20)) or "no JSON object at all"
        first = next(iter(self.skipped), None)
        reason = f" (line {first['line']}: {first['reason']})" if first else ""
        return (
            f"No trace can be read from {names}{reason}; the fields seen are: {fields}. A row needs a question "
            f"({', '.join(QUESTION)} or messages) and an answer ({', '.join(REPLY)}, or reasoning and answer); for other "
            "names use --map question=COLUMN,answer=COLUMN."
        )


def trace_id_of_line(content: str, repeat: int) -> str:
    """The id of a trace: the digest of {line, repeat}, of the line's SHA-256 in hex and how often it stood before."""
    return hashlib.sha256(f'{{"line":"{content}","repeat":{repeat}}}'.encode()).hexdigest()
