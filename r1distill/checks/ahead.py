"""Measuring in several processes: workers begin the measurements of the next traces while the first ones are put away.

In: traces and the checks wanted of each. Out: what `Check.begin` gave, as in this process. Only checks that say `anywhere`
are sent, pickled once into a file that the workers read. Whatever goes wrong with a piece (a worker dies, a text can't be
encoded), its traces are simply not among the results, and are measured by whoever asked.
"""

from __future__ import annotations

import functools
import pickle
import sys
import tempfile
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

import msgspec

from r1distill.checks.base import Check, Job, Value
from r1distill.checks.keys import OWN
from r1distill.checks.values import as_json
from r1distill.checks.worker import error_text
from r1distill.checks.workers import Ticket, Workers
from r1distill.records import Prompt, Trace

PIECE = 125
"""Traces that a worker gets at a time: about 40 ms of work, 1 MB."""
PIECE_TIMEOUT_S = 600.0
"""CPU seconds for one piece; a check that may hang says `in_worker` instead."""
AHEAD = 3
"""Batches of traces that are on their way."""


class Wanted(NamedTuple):
    """One trace, and the columns (numbers of checks) to measure."""

    at: int
    """Its number in the batch."""
    prompt: Prompt
    trace: Trace
    columns: list[int]


class Raised(NamedTuple):
    """A check raised an error."""

    text: str
    """Countable: the error's class."""
    told: str
    """For a person."""


Begun = bytes | Job | Raised
"""A measurement as JSON, or what is left to do for it."""
_RESULTS = msgspec.json.Decoder(list[list[tuple[str, msgspec.Raw]]])
Posted = list[tuple[Ticket, list[Wanted]]]


class Ahead:
    """The checks that workers may begin; a context manager that removes its file on leaving."""

    def __init__(self, checks: Sequence[Check], pool: Workers) -> None:
        self._pool = pool
        self.columns = {
            number
            for number, check in enumerate(checks)
            if check.anywhere and not check.in_worker and _pickled(check)
        }
        """Those that are measured by workers."""
        self.batches = AHEAD if pool.count > 1 and self.columns else 0
        """How many batches to post before the first one is fetched; 0: nothing is worth posting."""
        self._checks = {number: checks[number] for number in self.columns}
        self._folder: tempfile.TemporaryDirectory[str] | None = None

    def __enter__(self) -> Ahead:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._folder is not None:
            self._folder.cleanup()

    def post(self, wanted: Iterable[Wanted]) -> Posted:
        """Hand the traces of a batch to the workers."""
        todo = [item._replace(columns=[c for c in item.columns if c in self.columns]) for item in wanted]
        todo = [item for item in todo if item.columns]
        pieces = [todo[start : start + PIECE] for start in range(0, len(todo), PIECE)]
        return [(ticket, piece) for piece in pieces if (ticket := self._post(piece)) is not None]

    def _post(self, piece: list[Wanted]) -> Ticket | None:
        try:
            text = msgspec.msgpack.encode([(item.prompt, item.trace, item.columns) for item in piece])
        except (UnicodeEncodeError, OverflowError, TypeError, ValueError):
            return None
        job = Job("r1distill.checks.ahead:begin_many", (str(self._file()), text), {}, PIECE_TIMEOUT_S)
        return self._pool.post([job], share=1.0)

    def fetch(
        self, posted: Posted, meanwhile: Callable[[], None] = lambda: None
    ) -> dict[tuple[int, int], Begun]:
        """What the workers made of a batch, by number in the batch and column; waits for it, and calls `meanwhile` whenever
        something is done.
        """
        found: dict[tuple[int, int], Begun] = {}
        for ticket, piece in posted:
            (result,) = self._pool.wait(ticket, lambda done: meanwhile())
            if result.value is None:
                continue
            for item, made in zip(piece, _RESULTS.decode(result.value["begun"]), strict=True):
                found.update(
                    ((item.at, column), _begun(*one)) for column, one in zip(item.columns, made, strict=True)
                )
        return found

    def _file(self) -> Path:
        """Where the checks lie for the workers, with the user's own files that must be loaded before."""
        if self._folder is None:
            self._folder = tempfile.TemporaryDirectory(prefix="r1distill-")
            own = [
                _source(check) for check in self._checks.values() if type(check).__module__.startswith(OWN)
            ]
            text = pickle.dumps((own, pickle.dumps(self._checks)))
            (Path(self._folder.name) / "checks.pickle").write_bytes(text)
        return Path(self._folder.name) / "checks.pickle"


def _pickled(check: Check) -> bool:
    try:
        pickle.dumps(check)
    except (pickle.PicklingError, TypeError, AttributeError):
        return False
    return True


def _source(check: Check) -> tuple[str, str]:
    return str(sys.modules[type(check).__module__].__file__), type(check).__name__


def _begun(kind: str, raw: msgspec.Raw) -> Begun:
    if kind == "value":
        return bytes(raw)
    content = msgspec.json.decode(raw)
    if kind == "error":
        return Raised(*content)
    function, args, base, timeout_s = content
    return Job(function, tuple(args), base, timeout_s)


@functools.lru_cache(maxsize=1)
def _load(path: str) -> dict[int, Check]:
    """Runs in a worker: the checks, from a file that the parent wrote."""
    from r1distill.checks import load_own

    own, text = pickle.loads(Path(path).read_bytes())
    for file, name in own:
        load_own(file, name)
    checks: dict[int, Check] = pickle.loads(text)
    return checks


@functools.lru_cache(maxsize=1)
def _decoder() -> msgspec.msgpack.Decoder[list[tuple[Prompt, Trace, list[int]]]]:
    return msgspec.msgpack.Decoder(list[tuple[Prompt, Trace, list[int]]])


def begin_many(path: str, text: bytes) -> Value:
    """Runs in a worker: {"begun": JSON of [["value" | "job" | "error", ...], one for each column], one for each trace}."""
    checks = _load(path)
    begun = [
        [_begin(checks[column], prompt, trace) for column in columns]
        for prompt, trace, columns in _decoder().decode(text)
    ]
    return {
        "begun": msgspec.json.encode(begun).decode()
    }  # one text costs less on the way than many small values


def _begin(check: Check, prompt: Prompt, trace: Trace) -> list[Any]:
    try:
        found = check.begin(prompt, trace)
        return ["job", list(found)] if isinstance(found, Job) else ["value", msgspec.Raw(as_json(found))]
    except (Exception, SystemExit) as error:  # noqa: BLE001 - the fence around one check on one trace
        return ["error", [error_text(error), f"{type(error).__name__}: {error}"]]
