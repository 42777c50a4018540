"""Part i of n of some work, for several machines that know nothing of each other."""

from __future__ import annotations

import hashlib

from r1distill.errors import UsageError

Shard = tuple[int, int]
"""(i, n), i from 1 to n."""


def in_shard(key: str, shard: Shard) -> bool:
    """True when the key (a slot, a prompt id) belongs to shard i of n: by its hash."""
    number, count = shard
    return count == 1 or int.from_bytes(hashlib.sha256(key.encode()).digest()[:8]) % count == number - 1


def parse_shard(text: str) -> Shard:
    """'2/8' as (2, 8). Raises UsageError."""
    number, slash, count = text.partition("/")
    if not (slash and number.isdigit() and count.isdigit() and 1 <= int(number) <= int(count)):
        raise UsageError(f"--shard wants i/n with i from 1 to n, as 2/8, not {text!r}.")
    return int(number), int(count)
