"""From measurements to judgements: checks that look at one trace judge it at once, the others when all traces are there.

In: a row and its measurements as JSON, as the index holds them. Out: the rows, each with a judgement of every check. Equal
measurements are decoded and judged once: most traces of a large set say the same few things.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Any, cast, get_args, overload

import msgspec

from r1distill.checks.base import UNMEASURED, Check, Judgement, Row, Value, unjudged
from r1distill.checks.worker import error_text
from r1distill.filtering.judged import NO_RAW, Judged
from r1distill.records import Outcome

OUTCOMES = get_args(Outcome)
REMEMBERED = 2_000
"""Different measurements of one check whose judgement is remembered; one more costs a microsecond."""
SHORT_BYTES = 128
MARK = f'"{UNMEASURED}"'.encode()


class Fence:
    """Keeps errors of checks inside: such a trace is UNJUDGED, the run goes on."""

    def __init__(self) -> None:
        self.errors: dict[str, str] = {}
        """By check: the first error that it raised, with the trace, for the person who writes the check."""

    def call(self, name: str, trace_id: str, function: Callable[..., Any], *arguments: Any) -> Any:
        """What the check's function returns; {UNMEASURED: reason} when it raises."""
        try:
            return function(*arguments)
        except (Exception, SystemExit) as error:  # noqa: BLE001 - the fence
            return self.note(name, trace_id, error_text(error), f"{type(error).__name__}: {error}")

    def note(self, name: str, trace_id: str, text: str, told: str) -> Value:
        """What stands for a measurement when the check raised an error: a countable text, and one for a person."""
        self.errors.setdefault(name, f"{told} (trace {trace_id})")
        return {UNMEASURED: text}


def sound(found: Any) -> Judgement:
    """A judgement as a check gave it. Raises TypeError, ValueError for what is none."""
    if not isinstance(found, Judgement):
        kind = type(found).__name__
        raise TypeError(f"a judgement is what passed(), failed() or unjudged() return, not {kind}")
    if found.outcome not in OUTCOMES:
        raise ValueError(f"the outcome of a judgement is one of {', '.join(OUTCOMES)}, not {found.outcome!r}")
    score = found.score
    if score is not None and not (isinstance(score, int | float) and math.isfinite(score)):
        raise ValueError(f"the score of a judgement is a finite number or None, not {score!r}")
    if not (isinstance(found.reason, str) and isinstance(found.detail, str)):
        raise TypeError(f"the reason of a judgement is a text, not {found.reason!r}")
    f"{found.reason}{found.detail}".encode()  # raises for half a surrogate pair, which no file can hold
    if score is None or type(score) is float or (type(score) is int and abs(score) < 2**63):
        return found
    return found._replace(score=float(score))


def unmeasured(raw: bytes) -> str | None:
    """Why a check could not measure a trace; None when it could."""
    return msgspec.json.decode(raw).get(UNMEASURED) if MARK in raw else None


class Decider:
    """Collects the rows and their judgements."""

    def __init__(self, checks: dict[str, Check], keep: Collection[str], fence: Fence) -> None:
        self.rows: list[Judged] = []
        self.checks, self.keep, self.fence = checks, keep, fence
        self._compared = [name for name, check in checks.items() if check.compares()]
        kept = {*self._compared, *keep, *(need for name in self._compared for need in checks[name].needs)}
        columns = {name: column for column, name in enumerate(checks)}
        self._kept = [(name, column) for name, column in columns.items() if name in kept]
        self._known: dict[str, dict[bytes, Judgement]] = {name: {} for name in checks}
        """Judgements by measurement."""
        self._alone = [
            (name, column, self._known[name])
            for name, column in columns.items()
            if name not in self._compared
        ]
        self._in_sets = [(name, columns[name]) for name in self._compared]
        self._same: dict[Judgement, Judgement] = {}
        self._values: dict[bytes, Value] = {}

    def add(self, row: Judged, raws: Sequence[bytes]) -> None:
        """Take a row with the measurements of all checks, in their order; judge what can be judged by itself."""
        judgements = row.judgements
        for name, column, known in self._alone:
            raw = raws[column]
            judgements[name] = known.get(raw) or self._first(name, raw, row.trace_id)
        for name, column in self._in_sets:
            if MARK in raws[column]:
                self._put(row, name, raws[column])
        if self._kept:
            row.raw = {name: raws[column] for name, column in self._kept}
        self.rows.append(row)

    def replace(self, row: Judged, name: str, raw: bytes) -> None:
        """A measurement of a row that came later."""
        row.judgements.pop(name, None)
        self._put(row, name, raw)
        if name in row.raw:
            row.raw[name] = raw

    def _put(self, row: Judged, name: str, raw: bytes) -> None:
        """Judge a measurement, unless the whole set is needed for that."""
        if name not in self._compared or unmeasured(raw) is not None:
            row.judgements[name] = self._known[name].get(raw) or self._first(name, raw, row.trace_id)

    def _first(self, name: str, raw: bytes, trace_id: str) -> Judgement:
        """The judgement of a measurement that was not met lately."""
        reason = unmeasured(raw)
        if reason is not None:
            judgement = self._shared(unjudged(reason))
        else:
            value, judge = msgspec.json.decode(raw), self.checks[name].judge
            judgement = self._accepted(self.fence.call(name, trace_id, lambda: sound(judge(value))))
        known = self._known[name]
        if len(known) >= REMEMBERED:
            known.clear()
        known[raw] = judgement
        return judgement

    def _accepted(self, found: Any) -> Judgement:
        """What came through the fence: a sound judgement, or why there is none."""
        return self._shared(found if isinstance(found, Judgement) else unjudged(str(found[UNMEASURED])))

    def _shared(self, judgement: Judgement) -> Judgement:
        """One object for equal judgements."""
        if len(self._same) > 10_000:
            self._same.clear()
        return self._same.setdefault(judgement, judgement)

    def finish(self) -> list[Judged]:
        """Order the rows, let the checks that compare traces judge the whole set, let go of the measurements but `keep`."""
        self.rows.sort(key=lambda row: row.position)
        for name in self._compared:
            self._judge_set(name, self.checks[name])
        for row in self.rows:
            row.judgements = {name: row.judgements[name] for name in self.checks}
            if self.keep:
                row.values = {name: self._value(row.raw[name]) for name in self.keep if name in row.raw}
            row.raw = NO_RAW
        return self.rows

    def _judge_set(self, name: str, check: Check) -> None:
        """Rows of which something is not measured are left out, and UNJUDGED for that reason; all others are judged."""
        able: list[Judged] = []
        for row in self.rows:
            if name in row.judgements:  # not measured itself
                continue
            missing = ((need, unmeasured(row.raw[need])) for need in check.needs)
            why = next((f"{need}: {reason}" for need, reason in missing if reason is not None), None)
            if why is None:
                able.append(row)
            else:
                row.judgements[name] = self._shared(unjudged(why))
        for row, judgement in zip(able, self._of_set(name, check, able), strict=True):
            row.judgements[name] = self._one_of_set(name, row.trace_id, judgement)

    def _of_set(self, name: str, check: Check, able: list[Judged]) -> Sequence[Any]:
        view = Rows(able, (name, *check.needs), self._value)
        found = self.fence.call(name, "all", lambda: list(check.judge_all(view, name)))
        if isinstance(found, list) and len(found) != len(able):
            told = f"judge_all gave {len(found):,} judgements for {len(able):,} rows"
            found = self.fence.note(name, "all", "error: one judgement per row wanted", told)
        return found if isinstance(found, list) else [unjudged(str(found[UNMEASURED]))] * len(able)

    def _one_of_set(self, name: str, trace_id: str, found: Any) -> Judgement:
        """One judgement of a set; one that is like an earlier one needs no second look."""
        if type(found) is Judgement:
            try:
                if found in self._same:
                    return self._same[found]
            except TypeError:  # a list in it
                pass
        return self._accepted(self.fence.call(name, trace_id, sound, found))

    def _value(self, raw: bytes) -> Value:
        """A measurement, decoded; one object for equal short ones (a long one has hardly an equal)."""
        if len(raw) > SHORT_BYTES:
            return cast("Value", msgspec.json.decode(raw))
        value = self._values.get(raw)
        if value is None:
            if len(self._values) >= REMEMBERED:
                self._values.clear()
            value = self._values[raw] = msgspec.json.decode(raw)
        return value


class Rows(Sequence[Row]):
    """The rows as checks see them, each made when it is looked at: a set of any size costs nothing more."""

    def __init__(self, rows: list[Judged], names: tuple[str, ...], decode: Callable[[bytes], Value]) -> None:
        self._rows, self._names, self._decode = rows, names, decode

    def __len__(self) -> int:
        return len(self._rows)

    @overload
    def __getitem__(self, at: int) -> Row: ...
    @overload
    def __getitem__(self, at: slice) -> Sequence[Row]: ...
    def __getitem__(self, at: int | slice) -> Row | Sequence[Row]:
        if isinstance(at, slice):
            return Rows(self._rows[at], self._names, self._decode)
        return self._row(self._rows[at])

    def __iter__(self) -> Iterator[Row]:
        return map(self._row, self._rows)

    def _row(self, row: Judged) -> Row:
        values = {name: self._decode(row.raw[name]) for name in self._names}
        return Row(row.trace_id, row.prompt_id, row.order, row.teacher, row.sample, values)
