"""A teacher that hides or summarises its reasoning is found out within its first answers, and an honest one never is."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from r1distill.teachers.hiding import FIRST_ANSWERS, Finding, ReasoningWatch, most_tokens
from r1distill.teachers.reasoning import normalise, summary_of
from r1distill.teachers.replies import usage_of

Answer = tuple[str, str, int | None, str]

ENGLISH = "Okay, so I need to find the number of ways. Wait, maybe I should check this again. " * 40
CHINESE = "首先，我们需要计算一下这个问题的答案。假设甲有三个苹果，乙有五个苹果。" * 40
SUMS = "17 * 23 = 340 + 51 = 391; 391 / 17 = 23. " * 40
HIDDEN: Answer = ("", "none", 1200, "")
ENCRYPTED: Answer = ("", "encrypted", None, "")
SUMMARY: Answer = ("", "summary", 1200, "**Adding**\n\nI add the numbers.")
ABSENT: Answer = ("", "none", None, "")
BYPASSED: Answer = ("", "inline", 2, "")
GOOD: Answer = (ENGLISH, "reasoning_content", len(ENGLISH) // 4, "")


def watched(*answers: Answer) -> tuple[ReasoningWatch, list[Finding | None]]:
    watch = ReasoningWatch()
    return watch, [watch.see(*answer) for answer in answers]


@pytest.mark.parametrize(
    ("answers", "kind"),
    [
        ([HIDDEN] * 4, "hidden"),
        ([ENCRYPTED] * 4, "hidden"),
        ([SUMMARY] * 4, "summarised"),
        ([("", "summary", None, "Short.")] * 4, "summarised"),
        ([ABSENT] * 4, "absent"),
        ([("", "none", 0, "")] * 4, "absent"),
        ([BYPASSED] * 4, "absent"),
        ([ABSENT, HIDDEN, ABSENT, ABSENT], "hidden"),
        ([HIDDEN, SUMMARY, HIDDEN, ABSENT], "summarised"),
        # a summary in a field that promises more, as some relays send it
        ([("**Adding**\n\nI add. " * 10, "reasoning_content", 900, "")] * 4, "summarised"),
        ([(CHINESE[:300], "reasoning", 1000, "")] * 4, "summarised"),
    ],
)
def test_the_finding_comes_with_the_last_of_the_first_answers(answers: list[Answer], kind: str) -> None:
    watch, found = watched(*answers[:-1])
    assert found == [None] * 3
    assert not watch.settled
    finding = watch.see(*answers[-1])
    assert finding is not None
    assert finding.kind == kind
    assert watch.settled
    assert [watch.see(*answer) for answer in (*answers, GOOD)] == [None] * 5  # told once


@pytest.mark.parametrize(
    "good",
    [
        GOOD,
        (ENGLISH, "inline", None, ""),
        (ENGLISH, "reasoning", 0, ""),  # vLLM counts none when the template opened the block
        (CHINESE, "reasoning_content", int(len(CHINESE) / 1.5), ""),
        (CHINESE, "reasoning_content", int(len(CHINESE) / 0.6), ""),  # a tokenizer that hardly knows Chinese
        (SUMS, "reasoning_content", int(len(SUMS) / 1.4), ""),  # one that parts digits
        ("Easy.", "reasoning", 9, ""),
        ("cut he", "unclosed", None, ""),
        (ENGLISH, "reasoning_details", len(ENGLISH) // 4, "A summary beside it."),
    ],
)
@pytest.mark.parametrize("before", [[], [HIDDEN] * 3, [BYPASSED] * 2 + [SUMMARY]])
def test_one_usable_reasoning_clears_a_teacher(good: Answer, before: list[Answer]) -> None:
    watch, found = watched(*before, good, *[HIDDEN] * 10)
    assert found == [None] * (len(before) + 11)
    assert watch.settled


@given(st.lists(st.sampled_from([HIDDEN, ENCRYPTED, SUMMARY, ABSENT, BYPASSED, GOOD]), max_size=12))
def test_it_settles_once(answers: list[Answer]) -> None:
    watch, found = watched(*answers)
    first = answers[:FIRST_ANSWERS]
    findings = [finding for finding in found if finding]
    assert len(findings) == (len(first) == FIRST_ANSWERS and GOOD not in first)
    assert watch.settled == (GOOD in first or len(first) == FIRST_ANSWERS)
    assert not findings or found[FIRST_ANSWERS - 1] is findings[0]


def test_another_number_of_first_answers() -> None:
    watch = ReasoningWatch(first_answers=1)
    assert watch.see(*HIDDEN) == Finding("hidden", 1, 1200, 0)


@pytest.mark.parametrize(
    ("answers", "words"),
    [
        ([HIDDEN] * 4, ["Teacher r1 hides", "4 answers count 4,800 reasoning tokens", "reasoning_format", "--reasoning-parser"]),
        ([ENCRYPTED] * 4, ["Teacher r1 hides", "encrypted", "exclude = false"]),
        ([SUMMARY] * 4, ["only summarises", "4,800 reasoning tokens", "120 characters", "open weights"]),
        ([("", "summary", None, "Short.")] * 4, ["only summarises", "24 characters of summaries"]),
        ([ABSENT] * 4, ["sends no reasoning", "count no reasoning tokens", "enable_thinking"]),
        ([BYPASSED] * 4, ["sends no reasoning", "only 8 reasoning tokens"]),
    ],
)  # fmt: skip
def test_the_sentence_says_what_was_seen_and_what_to_do(answers: list[Answer], words: list[str]) -> None:
    finding = watched(*answers)[1][-1]
    assert finding is not None
    sentence = finding.sentence("r1")
    assert all(word in sentence for word in words)
    assert "{" not in sentence.replace("{ exclude = false }", "")


# Replies as providers send them, written from their documentation and SDK types.
GROQ_HIDDEN = {"message": {"role": "assistant", "content": "42"},
               "usage": {"completion_tokens": 900, "completion_tokens_details": {"reasoning_tokens": 880}}}  # fmt: skip
OPENAI = {"message": {"role": "assistant", "content": "42", "refusal": None},
          "usage": {"completion_tokens": 900, "completion_tokens_details": {"reasoning_tokens": 832}}}  # fmt: skip
OPENROUTER = {
    "message": {
        "content": "42",
        "reasoning": "**Adding numbers**\n\nI add.",
        "reasoning_details": [
            {"type": "reasoning.summary", "summary": "**Adding numbers**\n\nI add.", "format": "openai-responses-v1", "index": 0},
            {"type": "reasoning.encrypted", "data": "gAAAA", "format": "openai-responses-v1", "index": 0},
        ],
    },
    "usage": {"completion_tokens": 900, "completion_tokens_details": {"reasoning_tokens": 832}},
}  # fmt: skip
GEMINI = {"message": {"content": "<thought>**Adding**\n\nI will add the numbers.</thought>42"},
          "usage": {"completion_tokens": 900, "completion_tokens_details": {"reasoning_tokens": 700}}}  # fmt: skip
VLLM_PLAIN = {"message": {"content": "42"}, "usage": {"completion_tokens": 3}}
DEEPSEEK = {"message": {"content": "42", "reasoning_content": ENGLISH},
            "usage": {"completion_tokens": 900, "completion_tokens_details": {"reasoning_tokens": 850}}}  # fmt: skip


@pytest.mark.parametrize(
    ("reply", "kind"),
    [(GROQ_HIDDEN, "hidden"), (OPENAI, "hidden"), (OPENROUTER, "summarised"), (GEMINI, "summarised"), (VLLM_PLAIN, "absent"),
     (DEEPSEEK, None)],
)  # fmt: skip
def test_replies_of_providers(reply: dict[str, Any], kind: str | None) -> None:
    split, tokens = normalise(reply["message"]), usage_of(reply["usage"]).reasoning_tokens
    watch = ReasoningWatch()
    found = [watch.see(split.reasoning, split.source, tokens, summary_of(reply["message"])) for _ in range(4)]
    assert (found[-1].kind if found[-1] else None) == kind


@given(st.text(), st.text())
def test_the_bound_grows_with_the_text(one: str, other: str) -> None:
    assert most_tokens(one + other) == most_tokens(one) + most_tokens(other) >= len(one) / 2
