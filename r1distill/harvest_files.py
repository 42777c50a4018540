"""What one part of a harvest writes, locked and open: its traces and failures, the account, log-probabilities.

In: a recipe, a run folder, a shard. Out: the open files, for the length of a `with`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import NamedTuple

from r1distill.asking.account import Account, opened
from r1distill.asking.desk import TokenStore
from r1distill.errors import LockedError
from r1distill.ledger import Ledger, is_being_written, starting_gate
from r1distill.logprobs.store import LogprobStore
from r1distill.recipe import Recipe
from r1distill.run import Run
from r1distill.shards import Shard


class Files(NamedTuple):
    """What a harvest writes, all open."""

    traces: Ledger
    failures: Ledger
    account: Account
    store: TokenStore | None
    torn: list[str]
    """A sentence for each ledger whose torn last row was cut off."""


@contextmanager
def open_files(recipe: Recipe, run: Run, shard: Shard) -> Iterator[Files]:
    """All that this part of the harvest writes, locked and open. Raises LockedError, StorageError."""
    number, count = shard
    folder = run.ledger_folder("traces")
    with ExitStack() as stack:
        with starting_gate(run.folder):
            traces = stack.enter_context(Ledger(folder / f"part-{number}-of-{count}.jsonl"))
            _refuse_other_splits(run, count)
        failures = stack.enter_context(Ledger(run.failures_file("traces", shard)))
        torn = [
            f"{x.path}: a torn last row ({x.torn_bytes} bytes) was cut off."
            for x in (traces, failures)
            if x.torn_bytes
        ]
        account = stack.enter_context(opened(recipe, run, shard))
        store: TokenStore | None = None
        if recipe.harvest.top_logprobs:
            store = stack.enter_context(LogprobStore(run.folder / "logprobs", f"part-{number}-of-{count}"))
        yield Files(traces, failures, account, store, torn)


def _refuse_other_splits(run: Run, count: int) -> None:
    """Raises LockedError while a harvest of this run goes on that is split in another way: both would ask the same."""
    for path in run.ledger_folder("traces").glob("part-*-of-*.jsonl"):
        if not path.name.endswith(f"-of-{count}.jsonl") and is_being_written(path):
            raise LockedError(
                f"Another harvest of this run is writing {path}, split in another way; wait for it, then run again."
            )
