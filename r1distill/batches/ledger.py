"""What is out in batches: batches.jsonl, an append-only ledger of what was planned, asked for and heard of every batch.

In: one row per event. Out: the state of each batch, and the slots that wait in one. An intent ("uploading", "creating")
is on disk before its request goes out, so that a kill at any instant leaves a row that says what to look for.

    RUN/batches.jsonl              the ledger
    RUN/batches/NAME.jsonl         the requests of a batch, as uploaded
    RUN/batches/NAME.items.jsonl   what each of its lines is for: a slot, a problem, a sample
    RUN/batches/NAME.output.jsonl, NAME.errors.jsonl   what came back, as received
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import msgspec
from filelock import FileLock, Timeout

from r1distill.errors import InputError, LockedError
from r1distill.ledger import Ledger, read_lines, starting_gate
from r1distill.run import Run

Event = Literal[
    "planned",
    "uploading",
    "uploaded",
    "creating",
    "created",
    "status",
    "refused",
    "collecting",
    "collected",
    "forgotten",
]
ENDED = frozenset({"completed", "failed", "expired", "cancelled"})
"""What a batch can end as, in OpenAI's words (lower case)."""
CLOSED = frozenset({"collected", "refused", "forgotten"})
"""Events after which nothing of a batch is out any more."""


class Row(msgspec.Struct, omit_defaults=True, kw_only=True):
    """One event in the life of a batch; what is not set is unchanged."""

    name: str
    event: Event
    at: str = ""
    """UTC, RFC 3339."""
    teacher: str | None = None
    base_url: str | None = None
    kind: str | None = None
    """How it is asked for: openai, together; "export": written for others to run."""
    out: bool | None = None
    """False: an export whose slots are not held back from a harvest."""
    lines: int | None = None
    size_bytes: int | None = None
    worst_usd: float | None = None
    """What it costs if every answer is as long as its ceiling; None: not known."""
    file_id: str | None = None
    batch_id: str | None = None
    status: str | None = None
    done: int | None = None
    failed: int | None = None
    output_id: str | None = None
    errors_id: str | None = None
    message: str | None = None
    """What the provider said, scrubbed."""
    failures_from: int | None = None
    """Of the first "collecting": where failures-batch.jsonl ended, in bytes."""
    counts: dict[str, int] | None = None
    """Of "collected": what came back."""


@dataclass
class Batch:
    """Where a batch stands: all its rows folded into one."""

    name: str
    teacher: str = ""
    base_url: str = ""
    kind: str = ""
    out: bool = True
    lines: int = 0
    size_bytes: int = 0
    worst_usd: float | None = None
    file_id: str | None = None
    batch_id: str | None = None
    status: str | None = None
    """In OpenAI's words, as last heard."""
    done: int = 0
    failed: int = 0
    output_id: str | None = None
    errors_id: str | None = None
    message: str = ""
    failures_from: int | None = None
    counts: dict[str, int] = field(default_factory=dict)
    events: dict[str, str] = field(default_factory=dict)
    """When each event happened last."""

    def apply(self, row: Row) -> None:
        """Take in one more row; planning anew (the same export again) starts over."""
        if row.event == "planned":
            self.events, self.counts, self.failures_from = {}, {}, None
        for name in row.__struct_fields__:
            value = getattr(row, name)
            if value is not None and name not in ("name", "event", "at"):
                setattr(self, name, value)
        self.events[row.event] = row.at

    @property
    def open(self) -> bool:
        """True while its answers are waited for."""
        return self.out and not CLOSED & self.events.keys()

    @property
    def ended(self) -> bool:
        """True once the provider is done with it."""
        return self.status in ENDED

    @property
    def state(self) -> str:
        """Where it stands, in one word for people."""
        closed = [name for name in ("collected", "refused", "forgotten") if name in self.events]
        if closed:
            return closed[0]
        if self.kind == "export":
            return "exported"
        return self.status or ("submitted" if self.batch_id else "not submitted yet")


class Item(msgspec.Struct, frozen=True):
    """What one line of a request file is for."""

    id: str
    """The custom_id: the id that its trace will have, 64 hex digits (Together takes 64 characters at most)."""
    slot: str
    prompt_id: str
    sample: int
    model: str
    sampling: dict[str, Any]
    """As in the recipe, ceiling included."""


class _SlotOnly(msgspec.Struct):
    slot: str


class BatchLedger:
    """The one writer of a run's batches.jsonl; use as a context manager. Raises LockedError, StorageError."""

    def __init__(self, run: Run) -> None:
        self.run, self._ledger = run, Ledger(ledger_file(run))
        self.batches: dict[str, Batch] = {}
        """Every batch there ever was, by name, kept up to date by `note`."""

    def __enter__(self) -> BatchLedger:
        self._ledger.__enter__()
        self.batches = read_batches(self.run)
        return self

    def __exit__(self, *how: Any) -> None:
        self._ledger.__exit__(*how)

    def note(self, name: str, event: Event, **facts: Any) -> Batch:
        """Write one row, on disk (fsync) when this returns; the batch as it stands now."""
        row = Row(name=name, event=event, at=now(), **facts)
        self._ledger.append(row)
        self._ledger.sync(force=True)
        batch = self.batches.setdefault(name, Batch(name))
        batch.apply(row)
        return batch


def ledger_file(run: Run) -> Path:
    """The ledger of a run's batches."""
    return run.folder / "batches.jsonl"


def batches_folder(run: Run) -> Path:
    """Where the files of a run's batches lie."""
    return run.folder / "batches"


def request_file(run: Run, name: str) -> Path:
    """The requests of a batch, as uploaded."""
    return batches_folder(run) / f"{name}.jsonl"


def items_file(run: Run, name: str) -> Path:
    """What each line of a batch is for."""
    return batches_folder(run) / f"{name}.items.jsonl"


def result_files(run: Run, name: str) -> tuple[Path, Path]:
    """What came back: the output file and the error file."""
    return batches_folder(run) / f"{name}.output.jsonl", batches_folder(run) / f"{name}.errors.jsonl"


def read_batches(run: Run) -> dict[str, Batch]:
    """Every batch of the run by name, oldest first. Raises InputError for a row that can't be read."""
    path = ledger_file(run)
    found: dict[str, Batch] = {}
    if not path.exists():
        return found
    decoder = msgspec.json.Decoder(Row)
    for offset, line in read_lines(path):
        try:
            row = decoder.decode(line)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise InputError(
                f"{path}: the row at byte {offset} can't be read ({error}); remove that line, and ask `batch status` what is out."
            ) from None
        found.setdefault(row.name, Batch(row.name)).apply(row)
    return found


def slots_out(run: Run) -> set[str]:
    """The slots that wait in batches that are not collected yet: not to be asked for elsewhere. Raises InputError."""
    out: set[str] = set()
    decoder = msgspec.json.Decoder(_SlotOnly)
    for batch in read_batches(run).values():
        if batch.open:
            out.update(decoder.decode(line).slot for line in _item_lines(run, batch.name))
    return out


def read_items(run: Run, name: str) -> Iterator[Item]:
    """What the lines of a batch are for, in their order. Raises InputError when the file is gone."""
    decoder = msgspec.json.Decoder(Item)
    for line in _item_lines(run, name):
        yield decoder.decode(line)


def _item_lines(run: Run, name: str) -> Iterator[bytes]:
    path = items_file(run, name)
    if not path.exists():
        raise InputError(
            f"{path} is gone, so nobody knows which answers the batch {name} holds; put it back, or give the batch up with "
            f"`batch collect --forget {name}` (its answers are then paid for again)."
        )
    yield from (line for _, line in read_lines(path))


@contextmanager
def no_harvest_beside(run: Run) -> Iterator[None]:
    """While the block runs no harvest of this run folder can start. Raises LockedError when one is running.

    A harvest that runs has chosen its slots already; the same slots in a batch would be paid twice.
    """
    folder = run.ledger_folder("traces")
    folder.mkdir(parents=True, exist_ok=True)
    names = {"part-1-of-1.jsonl", *(path.name for path in folder.glob("part-*-of-*.jsonl"))}
    with ExitStack() as stack:
        stack.enter_context(starting_gate(run.folder))
        for name in sorted(names):
            try:
                stack.enter_context(FileLock(str(folder / name) + ".lock").acquire(timeout=0))
            except Timeout:
                raise LockedError(
                    f"A harvest is writing {folder / name}; stop it (Ctrl-C keeps everything) or wait for it, then submit."
                ) from None
        yield


def open_worst_usd(batches: Iterable[Batch]) -> float | None:
    """What the batches that are out may still cost in USD; None when that is not known of one."""
    amounts = [batch.worst_usd for batch in batches if batch.open and batch.kind != "export"]
    return None if None in amounts else sum(amount for amount in amounts if amount is not None)


def now() -> str:
    """The UTC time as RFC 3339, to the second."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def age_s(at: str) -> float:
    """Seconds since a time that `now` wrote."""
    then = datetime.strptime(at, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)
    return (datetime.now(UTC) - then).total_seconds()
