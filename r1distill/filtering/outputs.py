"""What a filter run leaves on disk: verdicts, kept, rejected, reasons, train, val, preference pairs, suspect references.

In: judged rows in order, a reader of their lines. Out: files in one folder, each written whole or not at all.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import IO, Any

import msgspec

from r1distill.filtering.funnel import Parted, reason_of
from r1distill.filtering.judged import Judged, Place
from r1distill.filtering.pairs import Pair, PairRow
from r1distill.filtering.suspects import SuspectRow
from r1distill.ledger import storage_errors
from r1distill.records import Message, Verdict

FILES = ("verdicts", "kept", "rejected", "reasons", "train", "val", "pairs", "suspect_references")
MOST_TAILS = 10_000
"""Verdicts of a check that are kept encoded: where each has a score of its own, keeping them would only take memory."""


class Outputs:
    """The files of one filter run; on leaving without an error they replace older ones, else they vanish."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._files: dict[str, IO[bytes]] = {}

    def __enter__(self) -> Outputs:
        with storage_errors(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
            _sweep(self.folder)
            for name in FILES:
                self._files[name] = self._part(name).open("wb", buffering=1 << 18)
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        with storage_errors(self.folder):
            for name, file in self._files.items():
                if kind is not None:
                    self._part(name).unlink(missing_ok=True)
                    continue
                file.close()
                self._part(name).replace(self.folder / f"{name}.jsonl")

    def _part(self, name: str) -> Path:
        return self.folder / f"{name}.jsonl.{os.getpid()}.part"

    def raw(self, name: str, line: bytes) -> None:
        """Append a line as it is. Raises OSError."""
        self._files[name].write(line + b"\n")

    def row(self, name: str, record: msgspec.Struct | dict[str, Any]) -> None:
        """Append a record as JSON. Raises OSError."""
        self.raw(name, msgspec.json.encode(record))


class VerdictLines:
    """Verdict rows as JSON; what equal judgements have in common, nearly all of a row, is encoded once."""

    def __init__(self) -> None:
        self._tails: defaultdict[str, dict[int, bytes]] = defaultdict(dict)
        """By check and identity of the judgement: equal ones are one object (decide.py), and the rows keep them."""

    def of(self, row: Judged) -> bytes:
        """The verdicts of one trace, a line each, the last without its newline."""
        start = b'{"trace_id":' + msgspec.json.encode(row.trace_id)
        tails = self._tails
        return b"\n".join(
            [
                start + (tails[name].get(id(one)) or self._tail(name, row))
                for name, one in row.judgements.items()
            ]
        )

    def _tail(self, name: str, row: Judged) -> bytes:
        judgement, known = row.judgements[name], self._tails[name]
        verdict = Verdict(
            "", name, judgement.outcome, judgement.score, reason_of(name, row), judgement.detail
        )
        tail = msgspec.json.encode(verdict)[len(b'{"trace_id":""') :]
        if len(known) < MOST_TAILS:
            known[id(judgement)] = tail
        return tail


def _sweep(folder: Path) -> None:
    """Remove what killed processes left half written: NAME.jsonl.PID.part of a process that is no more."""
    for path in (path for name in FILES for path in folder.glob(f"{name}.jsonl.*.part")):
        pid = path.name.split(".")[-2]
        if pid.isdecimal() and not _is_running(int(pid)):
            path.unlink(missing_ok=True)


def _is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:  # somebody else's
        pass
    return True


def write_outputs(
    folder: Path, parted: Parted, pairs: list[Pair], suspects: list[SuspectRow],
    lines: Callable[[Iterable[Place]], Iterable[bytes]], example: Callable[[bytes, Judged], ExampleRow],
    refuse_changed: Callable[[Iterable[Place]], None] = lambda places: None,
) -> None:  # fmt: skip
    """Write all files of FILES into `folder`. `lines` reads source lines, `example` makes a training row of one,
    `refuse_changed` raises InputError when they are no more what was judged: then nothing is written.
    """
    with storage_errors(folder), Outputs(folder) as out:
        try:
            _write_rows(out, parted, lines, example)
            _write_pairs(out, pairs, lines, example)
        finally:  # a file that changed explains any other error
            refuse_changed(row.place for row in parted.rows)
        for suspect in suspects:
            out.row("suspect_references", suspect)


def _write_rows(
    out: Outputs, parted: Parted, lines: Callable[[Iterable[Place]], Iterable[bytes]],
    example: Callable[[bytes, Judged], ExampleRow],
) -> None:  # fmt: skip
    train, val = {id(row) for row in parted.train}, {id(row) for row in parted.val}
    verdicts = VerdictLines()
    source = lines(row.place for row in parted.rows)
    for row, names, line in zip(parted.rows, parted.removed_by, source, strict=True):
        out.raw("verdicts", verdicts.of(row))
        out.raw("rejected" if names else "kept", line)
        if id(row) in train or id(row) in val:
            out.row("val" if id(row) in val else "train", example(line, row))
        else:
            out.row("reasons", _why(row, names, parted))


def _write_pairs(
    out: Outputs, pairs: list[Pair], lines: Callable[[Iterable[Place]], Iterable[bytes]],
    example: Callable[[bytes, Judged], ExampleRow],
) -> None:  # fmt: skip
    read = iter(lines(row.place for pair in pairs for row in pair))
    for right, wrong in pairs:
        chosen, rejected = example(next(read), right), example(next(read), wrong)
        ids = right.trace_id, wrong.trace_id
        out.row("pairs", PairRow(*ids, chosen.prompt, chosen.completion, rejected.completion))


def _why(row: Judged, names: list[str], parted: Parted) -> dict[str, Any]:
    """Why a trace is no training row; with the details that checks give, by check."""
    why = [reason_of(name, row) for name in names] or [f"select: {parted.left_out[id(row)]}"]
    details = {name: text for name in names if (text := row.judgements[name].detail)}
    more = {"details": details} if details else {}
    return {"trace_id": row.trace_id, "rejected": bool(names), "reasons": why, **more}


class ExampleRow(msgspec.Struct, frozen=True):
    """An Example (records.py) whose completion is JSON already; as JSON it is the same."""

    trace_id: str
    prompt: list[Message]
    completion: msgspec.Raw


def make_example(text: bytes, trace_id: str, prompt: list[Message]) -> ExampleRow:
    """One training row: the student's own prompt, and as one assistant message the `text` of the trace, which is JSON."""
    completion = b'[{"role":"assistant","content":' + text + b"}]"
    return ExampleRow(trace_id, prompt, msgspec.Raw(completion))
