"""The jobs among new measurements: run in workers that may be killed, equal ones once.

In: measurements by place, some of them Jobs. Out: the same with a Value wherever a job is done, also while others still run.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any, NamedTuple

from r1distill.checks.base import UNMEASURED, Job, Value
from r1distill.checks.workers import Result, Ticket, Workers

MEMO_ENTRIES = 200_000
"""Results kept for equal jobs (samples of one problem repeat the same wrong answers)."""
Key = tuple[Any, ...]
"""Equal for equal jobs."""

New = dict[tuple[int, int], Any]
"""New measurements by place: a Value, its JSON, or the Job that makes it."""


class Sent(NamedTuple):
    """A job that workers have, and where its result will be."""

    place: tuple[int, int]
    job: Job
    key: Key
    ticket: Ticket
    number: int


class Jobs:
    """Runs jobs and remembers what they came to."""

    def __init__(self, pool: Workers) -> None:
        self._pool = pool
        self._memo: dict[Key, Result] = {}
        self._under_way: dict[Key, tuple[Ticket, int]] = {}

    def post(self, new: New) -> list[Sent]:
        """Hand the jobs among `new` to the workers, as urgent ones; those that are known already become Values."""
        if len(self._memo) > MEMO_ENTRIES:
            self._memo.clear()
        jobs = [(place, value, _memo_key(value)) for place, value in new.items() if isinstance(value, Job)]
        new.update((place, _outcome(job, self._memo[key])) for place, job, key in jobs if key in self._memo)
        wanted = [one for one in jobs if one[2] not in self._memo]
        fresh = {key: job for _, job, key in wanted if key not in self._under_way}
        ticket = self._pool.post(list(fresh.values()), urgent=True)
        self._under_way.update((key, (ticket, number)) for number, key in enumerate(fresh))
        return [Sent(*one, *self._under_way[one[2]]) for one in wanted]

    def are_done(self, posted: list[Sent]) -> bool:
        """True when `finish` would not have to wait."""
        return all(one.number in one.ticket.results for one in posted)

    def finish(self, new: New, posted: list[Sent], meanwhile: Callable[[], None]) -> None:
        """Put a Value in the place of each job. Whenever something is done, `meanwhile` is called, which may take out of `new`
        what `put` has put there.
        """
        for ticket in {id(one.ticket): one.ticket for one in posted}.values():
            self._pool.wait(ticket, lambda done: meanwhile())
        self.put(new, posted)

    def put(self, new: New, posted: list[Sent]) -> None:
        """Put the Values that are there in their places, but for those that were taken away."""
        for place, job, key, ticket, number in posted:
            result = ticket.results.get(number)
            if result is not None and place in new:
                new[place] = _outcome(job, result)
                self._memo[key] = result
                self._under_way.pop(key, None)


def _memo_key(job: Job) -> Key:
    """Equal jobs have equal keys; arguments of any JSON shape are compared by their text."""
    args = hashlib.sha256(repr(job.args).encode("utf-8", "replace")).digest()  # tests of programs may be long
    return job.function, args, job.timeout_s


def _outcome(job: Job, result: Result) -> Value:
    if result.value is not None:
        return {**job.base, **result.value}
    return {**job.base, UNMEASURED: "timeout" if result.timed_out else result.error}
