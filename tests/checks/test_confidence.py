"""Confidence: the measures against numbers worked out by hand, thresholds, teachers, and what is not told."""

from __future__ import annotations

import math
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from token_records import record

from r1distill.checks import build_checks, failed, passed, unjudged
from r1distill.checks.base import NO_LOGPROBS, UNMEASURED, Row, Value
from r1distill.checks.confidence import NO_ALTERNATIVES, NO_PART, Confidence
from r1distill.checks.token_confidence import Measures, group_means, token_confidences
from r1distill.logprobs.tokens import TokenLogprobs
from r1distill.records import Prompt, Trace

MINUS = -math.inf


def measured(found: TokenLogprobs, part: str = "whole", **options: Any) -> Measures:
    return Measures(*Confidence(**options).measure_logprobs(found)[part])


SURE, UNSURE = [-0.125, -4.0], [-0.5, -1.0]
"""C_i = 2.0625 and 0.75."""


def test_the_measures_by_hand() -> None:
    found = measured(
        record([-0.125, -0.5, -0.5, -0.125], [SURE, UNSURE, UNSURE, SURE], asked=2),
        window_tokens=2,
        tail_tokens=1,
    )
    assert found.mean_logprob == -0.3125
    assert found.token_confidence == pytest.approx((2 * 2.0625 + 2 * 0.75) / 4)
    assert found.lowest_group == 0.75
    assert found.bottom_groups == 0.75
    assert found.tail == 2.0625


def test_the_lowest_tenth_of_twenty_groups_are_two() -> None:
    lists = [[-float(n), -float(n)] for n in range(1, 21)]
    found = measured(record([-1.0] * 20, lists), window_tokens=1)
    assert (found.lowest_group, found.bottom_groups) == (1.0, 1.5)


def test_a_text_shorter_than_the_window_is_one_group() -> None:
    found = measured(record([-1.0] * 3, [SURE, UNSURE, SURE]))
    assert found.lowest_group == found.bottom_groups == found.tail == found.token_confidence


@given(st.lists(st.floats(0, 20), max_size=30), st.integers(1, 40))
def test_groups_are_means_of_slices(values: list[float], window: int) -> None:
    size = min(window, len(values))
    slices = [values[at : at + size] for at in range(len(values) - size + 1)] if values else []
    assert group_means(values, window) == pytest.approx([sum(one) / size for one in slices], abs=1e-9)


def test_what_is_not_told_is_left_out() -> None:
    value = Confidence().measure_logprobs(record([-1.0, MINUS, -3.0], [[-1.0, MINUS, -3.0]] * 3))
    assert value["untold"] == 1
    assert Measures(*value["whole"])[:2] == (-2.0, 2.0)
    gone = Confidence().measure_logprobs(record([MINUS] * 2, [[-1.0, MINUS]] * 2))
    assert tuple(gone["whole"]) == (None,) * 5
    assert Confidence().judge(gone).reason == NO_LOGPROBS


def test_only_the_likeliest_alternatives_count() -> None:
    """vLLM appends the token itself when it is not among the k likeliest."""
    assert token_confidences(record([-9.0], [[-1.0, -2.0, -9.0]]), 2) == [1.5]
    assert token_confidences(record([-1.0, -1.0], [[-1.0, -2.0], [-1.0]]), 2) == [1.5, None]


def test_the_parts() -> None:
    found = record([-1.0, -1.0, -3.0], [SURE, SURE, UNSURE], reasoning_ends=2)
    assert measured(found, "reasoning").mean_logprob == -1.0
    assert measured(found, "answer").mean_logprob == -3.0
    assert measured(found, "answer").lowest_group == 0.75
    unknown = Confidence(part="reasoning")
    assert unknown.judge(unknown.measure_logprobs(record([-1.0]))).reason == NO_PART
    content_only = unknown.measure_logprobs(record([-1.0], reasoning_ends=0))
    assert unknown.judge(content_only).reason == f"{NO_LOGPROBS} of the reasoning"


def test_thresholds() -> None:
    value = Confidence().measure_logprobs(record([-1.0], [SURE]))
    assert Confidence().judge(value) == passed("ok", -1.0)
    assert Confidence(min_score=-1).judge(value).outcome == "PASS"
    assert Confidence(min_score=-0.5).judge(value) == failed("mean_logprob under -0.5", -1.0)
    assert Confidence(max_perplexity=math.e).judge(value).outcome == "PASS"
    assert Confidence(max_perplexity=2).judge(value) == failed("perplexity over 2", -1.0)
    assert Confidence(by="tail", min_score=3).judge(value) == failed("tail under 3", 2.0625)


def test_plain_logprobs_are_no_final_answer_where_alternatives_are_needed() -> None:
    for lists in ((), [[-1.0]] * 2):  # one alternative says nothing either
        value = Confidence().measure_logprobs(record([-1.0, -1.0], lists))
        assert Confidence().settled(value)
        check = Confidence(by="lowest_group", min_score=1)
        assert check.judge(value) == unjudged(NO_ALTERNATIVES)
        assert not check.settled(value)


def rows(*scores: tuple[str, float], k: int = 2) -> list[Row]:
    found = []
    for number, (teacher, score) in enumerate(scores):
        value: Value = {"k": k, "whole": [score, -score, -score, -score, -score]}
        found.append(Row(str(number), "p", 0, teacher, number, {"confidence": value}))
    return found


def test_a_share_of_each_teachers_traces() -> None:
    check = Confidence(drop_share=0.25)
    assert check.compares() and not Confidence(min_score=-1).compares()
    scores = [("a", -n / 8) for n in range(1, 9)] + [("b", -float(n)) for n in range(10, 14)]
    found = check.judge_all(rows(*scores), "confidence")
    dropped = [number for number, judgement in enumerate(found) if judgement.outcome == "FAIL"]
    assert dropped == [6, 7, 11]
    assert found[11] == failed("least confident 0.25 of its teacher", -13.0)


def test_equal_scores_share_their_fate_and_few_traces_lose_none() -> None:
    check = Confidence(drop_share=0.5)
    assert {j.outcome for j in check.judge_all(rows(*[("a", -1.0)] * 4), "confidence")} == {"PASS"}
    assert check.judge_all(rows(("a", -1.0)), "confidence")[0].outcome == "PASS"


def test_other_numbers_of_alternatives_are_not_compared() -> None:
    check = Confidence(by="tail", drop_share=0.5)
    mixed = rows(("a", -1.0), ("a", -2.0), k=2) + rows(("a", -8.0), ("a", -9.0), k=20)
    assert [j.outcome for j in check.judge_all(mixed, "confidence")] == ["FAIL", "PASS"] * 2


def test_a_trace_alone_has_no_logprobs() -> None:
    check = build_checks({"confidence": {}}, Path())["confidence"]
    trace = Trace(
        id="t", slot="s", prompt_id="p", sample=0, teacher="t", model="m", messages=[], reasoning="", answer="", finish="stop",
    )  # fmt: skip
    assert check.measure(Prompt("p", "q"), trace) == {UNMEASURED: NO_LOGPROBS}


def test_sixteen_thousand_tokens_are_quick() -> None:
    found = record([-0.5] * 16_000, [[-0.125 * n for n in range(20)]] * 16_000, asked=20)
    start = time.process_time()
    value = Confidence().measure_logprobs(found)
    assert time.process_time() - start < 0.5  # 0.03 s on an idle core
    assert (value["tokens"], value["k"]) == (16_000, 20)
    assert Measures(*value["whole"]).lowest_group == pytest.approx(0.125 * 9.5)
