"""Which traces of a problem are wanted most."""

from __future__ import annotations

import pytest
from judged_rows import judged, problems, settings

from r1distill.checks import build_checks, passed
from r1distill.checks.near_duplicate import similarity
from r1distill.errors import RecipeError
from r1distill.filtering.preference import check_behind, most_wanted
from r1distill.records import Trace

P = problems(1)[0]


def test_length_and_chance() -> None:
    rows = [judged(P, 0, n, "x" * size) for n, size in enumerate([5, 2, 9, 2])]
    assert [r.sample for r in most_wanted(rows, settings(per_prompt=3), None)] == [1, 3, 0]
    assert [r.sample for r in most_wanted(rows, settings(per_prompt=2, prefer="longest"), None)] == [2, 0]
    drawn = {
        tuple(r.sample for r in most_wanted(rows, settings(prefer="random", seed=s), None)) for s in range(20)
    }
    assert len(drawn) > 5
    once = most_wanted(rows, settings(prefer="random", seed=1), None)
    assert most_wanted(rows[::-1], settings(prefer="random", seed=1), None) == once


def test_the_most_confident_first_and_those_without_a_score_last() -> None:
    scores = [0.2, None, 0.9, 0.9, float("nan")]
    rows = [
        judged(P, 0, n, judgements={"agreement": passed("agrees", score)}) for n, score in enumerate(scores)
    ]
    found = most_wanted(rows, settings(prefer="most_confident"), "agreement")
    assert [row.sample for row in found] == [2, 3, 0, 1, 4]


def test_confidence_goes_before_agreement_also_under_another_name() -> None:
    wish = settings(prefer="most_confident")
    both = build_checks({"correct": {}, "agreement": {}, "sure": {"use": "confidence"}})
    assert check_behind(both, wish) == "sure"
    assert check_behind(build_checks({"correct": {}, "agreement": {}}), wish) == "agreement"
    with pytest.raises(RecipeError, match=r"add \[filter.checks.confidence\]"):
        check_behind(build_checks({"correct": {}}), wish)
    assert check_behind({}, settings(prefer="random")) is None


def test_diverse_takes_traces_that_say_other_things() -> None:
    checks = build_checks({"near_duplicate": {"threshold": 1.0}})
    topics = [
        "apples and pears in the basket",
        "trains on the way to the sea",
        "a proof by contradiction of the claim",
    ]
    texts = [f"{topics[n // 3]} " * 3 + f"with a turn {n}" for n in range(9)]
    values = [_measured(checks["near_duplicate"], text) for text in texts]
    rows = [
        judged(P, 0, n, text, values={"near_duplicate": v})
        for n, (text, v) in enumerate(zip(texts, values, strict=True))
    ]
    wish = settings(prefer="diverse", per_prompt=3)
    assert check_behind(checks, wish) == "near_duplicate"
    found = most_wanted(rows, wish, "near_duplicate")
    assert {row.sample // 3 for row in found} == {0, 1, 2}
    apart = [
        similarity(a.values["near_duplicate"]["signature"], b.values["near_duplicate"]["signature"])
        for a in found
        for b in found
        if a is not b
    ]
    assert max(apart) < 0.1
    assert most_wanted(rows, wish, "near_duplicate") == found


def test_diverse_leaves_traces_without_a_signature_to_the_end() -> None:
    checks = build_checks({"near_duplicate": {}})
    value = _measured(checks["near_duplicate"], "some words of one trace")
    rows = [judged(P, 0, 0), judged(P, 0, 1, values={"near_duplicate": value})]
    found = most_wanted(rows, settings(prefer="diverse", per_prompt=2), "near_duplicate")
    assert [row.sample for row in found] == [1, 0]


def test_diverse_needs_near_duplicate() -> None:
    with pytest.raises(RecipeError, match=r"add \[filter.checks.near_duplicate\]"):
        check_behind(build_checks({"correct": {}}), settings(prefer="diverse"))


def _measured(check: object, text: str) -> dict[str, str]:
    trace = Trace(
        id="i", slot="s", prompt_id="p", sample=0, teacher="t", model="m", messages=[], reasoning=text, answer="",
        finish="stop",
    )  # fmt: skip
    return check.measure(P, trace)  # type: ignore[attr-defined, no-any-return]
