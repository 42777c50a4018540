"""The jobs among new measurements: run in workers that may be killed, equal ones once.

In: measurements by place, some of them Jobs. Out: the same with a Value wherever a job is done, also while others still run.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any

from r1distill.checks.base import UNMEASURED, Job, Value
from r1distill.checks.workers import Result, Workers

MEMO_ENTRIES = 200_000
"""Results kept for equal jobs (samples of one problem repeat the same wrong answers)."""


class Jobs:
    """Runs jobs and remembers what they came to."""

    def __init__(self, pool: Workers) -> None:
        self._pool = pool
        self._memo: dict[tuple[Any, ...], Result] = {}

    def finish(
        self, new: dict[tuple[int, int], Any], is_time: Callable[[], bool], save: Callable[[], None]
    ) -> None:
        """Put a Value in the place of every Job in `new`. Whenever `is_time`, what is done so far is put in its place and
        `save` is called, which may take it out of `new`.
        """
        jobs = [(place, value, _memo_key(value)) for place, value in new.items() if isinstance(value, Job)]
        if len(self._memo) > MEMO_ENTRIES:
            self._memo.clear()
        still_open = {key: job for _, job, key in jobs if key not in self._memo}
        keys, ticket = list(still_open), self._pool.post(list(still_open.values()), first=True)

        def now_and_then(done: int) -> None:
            if is_time():
                self._memo.update((keys[number], result) for number, result in ticket.results.items())
                _put(new, jobs, self._memo)
                save()

        self._memo.update(zip(keys, self._pool.wait(ticket, now_and_then), strict=True))
        _put(new, jobs, self._memo)


def _put(
    new: dict[tuple[int, int], Any], jobs: list[tuple[tuple[int, int], Job, tuple[Any, ...]]],
    memo: dict[tuple[Any, ...], Result],
) -> None:  # fmt: skip
    for place, job, key in jobs:
        if key in memo and place in new:
            new[place] = _outcome(job, memo[key])


def _memo_key(job: Job) -> tuple[Any, ...]:
    """Equal jobs have equal keys; arguments of any JSON shape are compared by their text."""
    args = hashlib.sha256(repr(job.args).encode("utf-8", "replace")).digest()  # tests of programs may be long
    return job.function, args, job.timeout_s


def _outcome(job: Job, result: Result) -> Value:
    if result.value is not None:
        return {**job.base, **result.value}
    return {**job.base, UNMEASURED: "timeout" if result.timed_out else result.error}
