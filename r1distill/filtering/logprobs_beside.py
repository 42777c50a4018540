"""Which traces have token log-probabilities beside them, and how the filter gets at these.

In: the logprobs/ folders of runs. Out: `Logprobs` for the measuring engine. Reading takes one row group at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from pathlib import Path

from r1distill.checks.base import Check
from r1distill.filtering.measure import Logprobs, Source, measure_all
from r1distill.index import Index
from r1distill.logprobs.columns import need_pyarrow, row_groups
from r1distill.logprobs.reading import read
from r1distill.logprobs.spool import newest
from r1distill.logprobs.tokens import TokenLogprobs
from r1distill.records import Trace


def logprobs_for(
    checks: Mapping[str, Check], folders: Collection[Path], id_of: Callable[[Trace], str]
) -> Logprobs | None:
    """What lies in `folders`, when a check wants it; else None. `id_of`: the id that a trace has there.

    Raises InputError for a broken Parquet file, MissingPackageError without pyarrow where it is needed.
    """
    if not any(check.wants_logprobs for check in checks.values()):
        return None
    known = {trace_id for folder in folders for trace_id in ids(folder)}

    def chained(wanted: Collection[str]) -> Iterator[tuple[str, TokenLogprobs]]:
        left = set(wanted)
        for folder in folders:
            for trace_id, record in read(folder, left):
                left.discard(trace_id)
                yield trace_id, record

    return Logprobs(known, chained, id_of)


def logprob_inputs(logprobs: Logprobs | None, trace_ids: Iterable[str] | None = None) -> list[str]:
    """For a stage's id: which traces (of `trace_ids`) have log-probabilities, so that later ones are seen."""
    if logprobs is None:
        return []
    known = logprobs.known
    return [f"logprobs {name}" for name in (known if trace_ids is None else trace_ids) if name in known]


def measure_logprobs(
    sources: Iterable[Source], checks: Mapping[str, Check], index: Index, logprobs: Logprobs | None, dry_run: bool
) -> None:  # fmt: skip
    """Put into the index what the checks measure by log-probabilities, for those who look at the traces without them."""
    own = {name: check for name, check in checks.items() if check.wants_logprobs}
    if own and logprobs is not None and not dry_run:
        measure_all(sources, own, index, logprobs=logprobs)


def ids(folder: Path) -> Iterator[str]:
    """The ids of the traces that have log-probabilities in a folder; some may come twice.

    Spools first: one that is converted meanwhile is then found as a Parquet file.
    """
    for spool in sorted(folder.glob("*.spool")):
        try:
            with spool.open("rb") as file:
                yield from newest(file)
        except FileNotFoundError:
            continue
    for path in sorted(folder.glob("*.parquet")):
        need_pyarrow()
        for found, _ in row_groups(path):
            yield from found


def folder_beside(file: Path) -> Path | None:
    """The logprobs/ folder of the run that a file in traces/ belongs to, if there is one."""
    folder = file.resolve().parent
    beside = folder.parent / "logprobs"
    return beside if folder.name == "traces" and beside.is_dir() else None
