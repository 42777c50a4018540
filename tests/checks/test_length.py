"""Tokens: as counted or estimated, in both parts, and against the teacher's other traces."""

from __future__ import annotations

from typing import Any

from one_trace import PROMPT, said, trace

from r1distill.checks.base import Row
from r1distill.checks.length import Length
from r1distill.records import Trace, Usage


def judge(one: Trace, **settings: Any) -> tuple[str, str]:
    return said(Length(**settings), one)


def test_length_counts_as_the_teacher_or_estimates() -> None:
    assert judge(trace(), max_tokens=40) == ("PASS", "usage")
    assert judge(trace(), max_tokens=39) == ("FAIL", "over 39 tokens")
    assert judge(trace(), min_tokens=41) == ("FAIL", "under 41 tokens")
    uncounted = trace(usage=Usage(), reasoning="x" * 3600)
    assert Length().measure(PROMPT, uncounted) == {
        "tokens": 1005, "unit": "estimate", "reasoning": 1000, "answer": 5, "parts": "estimate",
    }  # fmt: skip
    assert judge(uncounted, max_tokens=1004) == ("FAIL", "over 1004 tokens (estimate)")


def test_parts() -> None:
    counted = trace(usage=Usage(9, 40, 30))
    assert Length().measure(PROMPT, counted) == {
        "tokens": 40, "unit": "usage", "reasoning": 30, "answer": 10, "parts": "usage",
    }  # fmt: skip
    assert judge(counted, max_reasoning_tokens=29) == ("FAIL", "over 29 reasoning tokens")
    assert judge(counted, min_reasoning_tokens=31) == ("FAIL", "under 31 reasoning tokens")
    assert judge(counted, max_answer_tokens=9) == ("FAIL", "over 9 answer tokens")
    assert judge(counted, min_answer_tokens=10, max_answer_tokens=10) == ("PASS", "usage")
    assert judge(trace(), min_answer_tokens=30) == ("FAIL", "under 30 answer tokens (estimate)")


def test_a_count_of_zero_beside_a_reasoning_is_not_believed() -> None:
    value = Length().measure(PROMPT, trace(usage=Usage(9, 40, 0)))
    assert value["parts"] == "estimate" and value["reasoning"] > 0
    empty = Length().measure(PROMPT, trace(usage=Usage(), reasoning="", answer=""))
    assert (empty["tokens"], empty["reasoning"], empty["answer"]) == (0, 0, 0)


def reasons(counts: dict[str, list[int]], **settings: Any) -> list[str]:
    check = Length(**settings)
    rows = [
        Row(
            f"{teacher}{n}",
            "p",
            0,
            teacher,
            n,
            {"short": check.measure(PROMPT, trace(usage=Usage(1, tokens)))},
        )
        for teacher, all_tokens in counts.items()
        for n, tokens in enumerate(all_tokens)
    ]
    return [judgement.reason for judgement in check.judge_all(rows, "short")]


def test_quantiles_are_of_each_teacher() -> None:
    counts = {"brief": list(range(1, 21)), "wordy": list(range(1000, 1200, 10))}
    found = reasons(counts, max_quantile=0.95)
    over = "over quantile 0.95 of its teacher"
    assert [n for n, reason in enumerate(found) if reason == over] == [19, 39]
    found = reasons(counts, min_quantile=0.1, max_tokens=1189)
    assert [n for n, reason in enumerate(found) if reason.startswith("under")] == [0, 1, 20, 21]
    assert found[39] == "over 1189 tokens"


def test_few_or_equal_traces_are_all_within_their_quantiles() -> None:
    assert reasons({"a": [5, 90], "b": [7] * 50}, max_quantile=0.95, min_quantile=0.05) == ["usage"] * 52
