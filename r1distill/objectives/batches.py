"""The order of rows: random, but rows of one batch are of similar length, so that little padding is computed.

transformers' own group_by_length sorts 50 batches at a time, longest first: a small set then sees the same batches
in the same order in every epoch. Here the pool is small and the batches are shuffled again.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence

from torch.utils.data import Sampler

POOL_BATCHES = 8
"""Batches sorted together: at 8 most of the padding is gone, and batches still differ between epochs."""


class SimilarLengths(Sampler[int]):  # type: ignore[misc]
    """Yields all row indices once per epoch; `set_epoch` makes the order of an epoch reproducible (for resuming)."""

    def __init__(self, lengths_tokens: Sequence[int], batch_rows: int, seed: int) -> None:
        self.lengths, self.batch, self.seed, self.epoch = list(lengths_tokens), batch_rows, seed, 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch (from 0) that the next iteration belongs to."""
        self.epoch = epoch

    def __len__(self) -> int:
        return len(self.lengths)

    def __iter__(self) -> Iterator[int]:
        chance = random.Random(f"{self.seed}:{self.epoch}")
        rows = list(range(len(self.lengths)))
        chance.shuffle(rows)
        batches, last = self._batches(rows)
        chance.shuffle(batches)
        # A batch that is not full must come last, or it would shift the borders of all that follow.
        return iter([row for batch in batches + last for row in batch])

    def _batches(self, rows: list[int]) -> tuple[list[list[int]], list[list[int]]]:
        pool, size = POOL_BATCHES * self.batch, self.batch
        pools = (sorted(rows[i : i + pool], key=self.lengths.__getitem__) for i in range(0, len(rows), pool))
        batches = [group[i : i + size] for group in pools for i in range(0, len(group), size)]
        return [b for b in batches if len(b) == size], [b for b in batches if len(b) < size]
