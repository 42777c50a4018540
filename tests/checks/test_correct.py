"""The correct check: what it reads, and that a user's regex never runs outside a worker that can be killed."""

from __future__ import annotations

import time
from typing import Any

import pytest

from r1distill.checks.base import Job
from r1distill.checks.correct import Correct
from r1distill.checks.grading import grade_many
from r1distill.records import Message, Prompt, Trace

BACKTRACKING = {"regex": "(a+)+b"}
HOSTILE = "a" * 40


def trace(answer: str) -> Trace:
    return Trace(
        id="t", slot="s", prompt_id="p", sample=0, teacher="r1", model="m", messages=[Message("user", "q")],
        reasoning="r", answer=answer, finish="stop",
    )  # fmt: skip


def judge(prompt: Prompt, answer: str, **settings: Any) -> tuple[str, str]:
    check = Correct(**settings)
    found = check.judge(check.measure(prompt, trace(answer)))
    return found.outcome, found.reason


def text_prompt(tests: Any, answer: str | None = "x") -> Prompt:
    return Prompt("p", "q", answer, "text", tests)


def test_tolerance_judges() -> None:
    prompt = text_prompt({"tolerance": 0.01, "relative": True}, "200")
    assert judge(prompt, "The answer is 201.9") == ("PASS", "right")
    assert judge(prompt, "The answer is 202.1") == ("FAIL", "wrong")
    assert judge(
        prompt, "It weighs 201 kg in the end, they say in the long report on it, as said above before"
    ) == (
        "FAIL",
        "answer not marked as final",
    )
    assert judge(text_prompt({"tolerance": -1}), "5") == (
        "UNJUDGED",
        "tests: tolerance must be a number from 0 up",
    )


def test_a_regex_is_a_job_and_its_worker_can_be_killed() -> None:
    prompt = text_prompt(BACKTRACKING, None)
    begun = Correct(timeout_s=0.3).begin(prompt, trace(HOSTILE))
    assert isinstance(begun, Job) and begun.timeout_s == 0.3
    started = time.monotonic()
    items = [
        ("text", None, HOSTILE, BACKTRACKING),
        ("text", None, "The answer is aab.", BACKTRACKING),
        ("text", None, "The answer is aba.", BACKTRACKING),
        ("text", None, "x", {"regex": "(("}),
        ("text", None, "  ", BACKTRACKING),
    ]
    found = grade_many(items, workers=1, timeout_s=0.3)  # type: ignore[arg-type]
    assert [g.outcome for g in found] == ["timeout", "right", "wrong", "unreadable_reference", "no_answer"]
    assert time.monotonic() - started < 10


def test_measure_judges_a_hostile_regex_unjudged() -> None:
    assert judge(text_prompt(BACKTRACKING), HOSTILE, timeout_s=0.2) == ("UNJUDGED", "timeout")


def test_regex_needs_no_computer_algebra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("r1distill.checks.grading.installed", lambda: False)
    (found,) = grade_many([("text", None, "ab", {"regex": "(?i)AB"})], workers=1)
    assert (found.outcome, found.how) == ("right", "whole")


def test_changed_options_are_measured_again() -> None:
    check = Correct()
    assert check.reads(text_prompt({"tolerance": 1})) != check.reads(text_prompt({"tolerance": 2}))


def test_json_judges() -> None:
    prompt = Prompt("p", "q", '{"a": 1}', "json")
    assert judge(prompt, '```json\n{"a": 1.0}\n```') == ("PASS", "right")
    assert judge(prompt, 'I think {"a": 1} fits') == ("FAIL", "answer not marked as final")
    assert judge(prompt, 'I think {"a": 1} fits', extraction="lenient") == ("PASS", "right")
