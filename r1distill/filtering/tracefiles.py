"""Trace files as one set, whatever they are: our own traces, or any format of importers/table.py.

In: files. Out: traces with their problems, and where the line of each stands. A row that can't be read is noted with its
reason, never fatal and never silent. Ids come from the content: trace id = digest of the line and how often it stood
before, problem id = digest of the question. A row with several traces, and a row that must be unpacked first, is put away as
one JSON line for each trace; that line is what counts for the id, and what kept.jsonl holds.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
from msgspec.structs import replace

from r1distill.errors import InputError
from r1distill.filtering import files_told
from r1distill.filtering.judged import About, about_of, read_place
from r1distill.filtering.known_files import Fingerprint, Spot, fingerprints, look, refuse_changed
from r1distill.filtering.known_lines import KnownLine, KnownLines, LineAgain, Problem
from r1distill.filtering.line_ids import Names
from r1distill.filtering.line_reader import LineReader
from r1distill.filtering.measure import Place, Source
from r1distill.filtering.problem_set import ProblemSet
from r1distill.filtering.request_files import answer_files
from r1distill.imported_problems import sibling_problems
from r1distill.importers import Found
from r1distill.importers.detect import chosen_formats
from r1distill.importers.lines import Line
from r1distill.importers.readers import first_bytes, lines_of
from r1distill.importers.scratch import Scratch
from r1distill.index import Index
from r1distill.records import AnswerKind, Prompt, Trace
from r1distill.thinking import text_json

READER_VERSION = 3
"""Raised when the same file gives other traces."""
TEXT_HEAD = 64
"""Bytes of a text by which it is looked for in its line."""


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
        self._looks: list[tuple[int, ...]] = []
        self._fingerprints: list[Fingerprint] = []
        formats = chosen_formats(format, columns)
        self._is_mapped = bool(columns)
        self._reading = msgspec.json.encode([READER_VERSION, format, columns], order="deterministic")
        self._saved = {name: p for path in files for name, p in sibling_problems(path).items()}
        self.problems = ProblemSet(self._saved, scratch)
        self._reader = LineReader(answer_kind, self._saved, formats, self.problems)
        self.skipped, self.requests = self._reader.skipped, self._reader.requests
        self.detector = self._reader.detector
        self._known: KnownLines | None = None
        self._scratch = Scratch(scratch) if keep_lines else None

    def refuse_odd_files(self) -> None:
        """Raises InputError for a file that is no trace file by its name or first bytes, or can't be read."""
        for path in self.files:
            first_bytes(path)

    def fingerprints(self, index: Index | None = None) -> list[dict[str, Any]]:
        """Path, size in bytes and SHA-256 of each file, of unchanged ones from the index. Raises InputError."""
        self._looks = [look(path) for path in self.files]
        self._fingerprints = found = fingerprints(self.files, index)
        self.lines = sum(one.lines for one in found)
        return [one.origin() for one in found]

    def refuse_changed(self, places: Iterable[Place]) -> None:
        """Raises InputError for a file that is no more what `fingerprints` read; one may grow behind all `places`."""
        refuse_changed(self.files, self._looks, self._fingerprints, places)

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
        before, count = (len(self.skipped), self._reader.asked_beside), 0
        for found in self._reader.traces(path, line):
            count += 1
            taken = _with_text(self._taken(number, path, line, found, names, spot.key))
            source = self._source(taken)
            if count == 1:
                first, about = taken, source.about
            yield source
        if (
            count == 1
            and first.found.line is None
            and before == (len(self.skipped), self._reader.asked_beside)
        ):
            self._note(known, spot, first, about)

    def _note(self, known: KnownLines, spot: Spot, taken: Taken, about: About) -> None:
        prompt, asked = taken.found.prompt, taken.found.asked
        one = KnownLine(
            "", self.detector.last, self.problems.key(taken.order), prompt.id, about.teacher, about.chars, about.size_bytes,
            about.completion_tokens, b"", taken.place.text_start, taken.place.text_length,
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
        place = Place(*place[:3], before.text_start, before.text_length)
        return Source(order, self.problems[order], trace, place, spot.content.hex(), about)

    def _trace_again(self, line: Line | LineAgain, order: int, trace_id: str, sample: int) -> Trace:
        return self._named(self._reader.trace_again(line.data), order, trace_id, sample)

    def _named(self, found: Found, order: int, trace_id: str, sample: int) -> Trace:
        extras = self._with_own_tags(found, self.problems[order])
        return replace(found.trace, id=trace_id, prompt_id=found.prompt.id, sample=sample, extras=extras)

    def _source(self, taken: Taken) -> Source:
        about = about_of(taken.trace)
        return Source(taken.order, self.problems[taken.order], taken.trace, taken.place, taken.content, about)

    def taken(self) -> Iterator[Taken]:
        """As `sources`, with the trace as the row has it beside the trace under its new id."""
        names = Names()
        for number, path in self._answers():
            for line in lines_of(path):
                for found in self._reader.traces(path, line):
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
            sentence = files_told.no_trace_sentence(
                self.files, self.skipped, len(self.requests), self._reader.seen_fields, self._is_mapped
            )
            raise InputError(sentence)

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

    def text_of(self, line: bytes) -> bytes:
        """The canonical text of a line of `lines_at`, as JSON."""
        return self._reader.text_again(line)

    def notes(self, listed_in: str = "skipped.jsonl") -> list[str]:
        """What is to be told: skipped rows, requests that were read, formats that were recognised."""
        return files_told.notes(self.skipped, len(self.requests), self.detector.rows, listed_in)

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


def _with_text(taken: Taken) -> Taken:
    """The same, knowing where in its line the text of the training row stands, if it does."""
    text = text_json(taken.trace.reasoning, taken.trace.answer)
    at = taken.line.find(text[:TEXT_HEAD])
    if at < 0 or not taken.line.startswith(text, at):
        return taken
    return taken._replace(place=Place(*taken.place[:3], at, len(text)))
