"""From measurements to judgements: what checks see of the set, errors inside the fence, equal measurements judged once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
import pytest

from r1distill.checks.base import UNMEASURED, Check, Judgement, Row, failed, passed, unjudged
from r1distill.filtering import decide
from r1distill.filtering.decide import Decider, Fence, Rows
from r1distill.filtering.judged import Judged, Place, Source
from r1distill.records import Message, Prompt, Trace


class Alone(Check):
    """Judges by itself; counts how often it is asked."""

    most: int = 2

    def judge(self, value: dict[str, Any]) -> Judgement:
        CALLS.append(value)
        return passed() if value["n"] <= self.most else failed("over")


class Together(Check):
    """Judges the whole set."""

    needs = ("alone",)

    def judge_all(self, rows: Sequence[Row], name: str) -> list[Judgement]:
        total = sum(row.values["alone"]["n"] for row in rows)
        return [passed(score=float(total)) for _ in rows[self.skip() :]]

    def skip(self) -> int:
        return 0


class Short(Together):
    """Forgets a row."""

    def skip(self) -> int:
        return 1


CALLS: list[dict[str, Any]] = []


def row(number: int, problem: int = 0) -> Judged:
    trace = Trace(
        id=f"t{number}", slot="s", prompt_id="p", sample=number, teacher="t", model="m", messages=[Message("user", "q")],
        reasoning="ab", answer="c", finish="stop",
    )  # fmt: skip
    return Judged(Source(problem, Prompt(f"p{problem}", "q"), trace, Place(0, 0, 1), "c"), "t")


def decided(
    numbers: Sequence[int | None], together: Check | None = None, keep: Sequence[str] = ()
) -> Decider:
    decider = Decider({"alone": Alone(), "together": together or Together()}, keep, Fence())
    for at, number in enumerate(numbers):
        value = {"n": number} if number is not None else {UNMEASURED: "timeout"}
        decider.add(row(len(numbers) - at), [msgspec.json.encode(value), b"{}"])
    decider.finish()
    return decider


def test_rows_come_in_order_with_all_judgements() -> None:
    found = decided([1, 2, 3]).rows
    assert [one.sample for one in found] == [1, 2, 3]
    assert [[*one.judgements] for one in found] == [["alone", "together"]] * 3
    assert [one.judgements["alone"].outcome for one in found] == ["FAIL", "PASS", "PASS"]
    assert {one.judgements["together"].score for one in found} == {6.0}
    assert {id(one.judgements["together"]) for one in found} == {id(found[0].judgements["together"])}


def test_equal_measurements_are_judged_once(monkeypatch: pytest.MonkeyPatch) -> None:
    CALLS.clear()
    decided([1, 1, 2, 1])
    assert CALLS == [{"n": 1}, {"n": 2}]
    monkeypatch.setattr(decide, "REMEMBERED", 1)
    decided([1, 2, 1])
    assert CALLS[2:] == [{"n": 1}, {"n": 2}, {"n": 1}]


def test_what_is_missing_is_named() -> None:
    found = decided([1, None]).rows
    assert found[0].judgements == {
        "alone": unjudged("timeout"), "together": unjudged("alone: timeout"),
    }  # fmt: skip
    assert found[1].judgements["together"].score == 1.0


def test_a_row_too_few_and_an_error_stay_inside() -> None:
    decider = decided([1, 2], Short())
    assert {one.judgements["together"].reason for one in decider.rows} == {
        "error: one judgement per row wanted"
    }
    decider = decided([1, 2], keep=("alone",))
    assert [one.values for one in decider.rows] == [{"alone": {"n": 2}}, {"alone": {"n": 1}}]
    decider = Decider({"alone": Alone()}, (), Fence())
    decider.add(row(1), [b"{}"])
    assert decider.finish()[0].judgements["alone"] == unjudged("error: KeyError")
    assert decider.fence.errors == {"alone": "KeyError: 'n' (trace t1)"}


def test_a_later_measurement_replaces_the_judgement() -> None:
    decider = Decider({"alone": Alone(), "together": Together()}, (), Fence())
    late = row(1)
    decider.add(late, [msgspec.json.encode({UNMEASURED: "no log-probabilities"}), b"{}"])
    assert late.judgements["alone"].outcome == "UNJUDGED"
    decider.replace(late, "alone", b'{"n":2}')
    (found,) = decider.finish()
    assert (found.judgements["alone"].outcome, found.judgements["together"].score) == ("PASS", 2.0)
    assert not found.raw


def test_rows_are_a_sequence() -> None:
    made = [row(n) for n in range(3)]
    for one in made:
        one.raw = {"alone": msgspec.json.encode({"n": one.sample})}
    rows = Rows(made, ("alone",), msgspec.json.decode)
    assert (len(rows), rows[1].values, rows[-1].sample) == (3, {"alone": {"n": 1}}, 2)
    assert [one.trace_id for one in rows[1:]] == [one.trace_id for one in list(rows)[1:]] == ["t1", "t2"]
    assert [one.sample for one in reversed(rows)] == [2, 1, 0]
