"""Reading log-probabilities back: of Parquet files and of spools that are not converted yet, also beside a writer."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from pathlib import Path

from r1distill.logprobs.columns import Row, need_pyarrow, row_groups
from r1distill.logprobs.spool import HEAD, numbered, numbers, parts, size_of, spooled
from r1distill.logprobs.tokens import TokenLogprobs


def has(folder: Path) -> bool:
    """Is there any record in this folder?"""
    spools = any(size_of(spool) > HEAD.size for spool in folder.glob("*.spool"))
    return spools or any(folder.glob("*.parquet"))


def read(folder: Path, trace_ids: Collection[str] | None = None) -> Iterator[tuple[str, TokenLogprobs]]:
    """Yield (trace id, record), one per trace, newest first within a part; only those of `trace_ids` when given.

    Holds one row group and about 150 bytes per trace yielded. Raises InputError for a broken Parquet file,
    MissingPackageError without pyarrow.
    """
    wanted = None if trace_ids is None else set(trace_ids)
    seen: set[str] = set()

    def fresh(trace_id: str) -> bool:
        return trace_id not in seen and (wanted is None or trace_id in wanted)

    for part in parts(folder):
        for trace_id, _, record in _rows(folder, part, fresh):
            if fresh(trace_id):
                seen.add(trace_id)
                yield trace_id, record


def _rows(folder: Path, part: str, fresh: Callable[[str], bool]) -> Iterator[Row]:
    """Newest first. A spool goes before the listing, and before the file of its number: what a writer rotates or converts
    meanwhile is then found there.
    """
    yield from spooled(folder / f"{part}.spool", fresh)
    for number in reversed(numbers(folder, part)):
        yield from spooled(numbered(folder, part, number, "spool"), fresh)
        path = numbered(folder, part, number, "parquet")
        if path.exists():
            need_pyarrow()
            for ids, rows in row_groups(path):
                if any(map(fresh, ids)):
                    yield from rows()
