"""Every place where reasoning may be, and the round trip of think tags."""

from __future__ import annotations

import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from r1distill.teachers.reasoning import normalise
from r1distill.thinking import CLOSE, OPEN, join_thinking, split_thinking

MISTRAL = [{"type": "thinking", "thinking": [{"type": "text", "text": "be"}, {"type": "text", "text": "cause"}]},
           {"type": "text", "text": "42"}]  # fmt: skip
DETAILS = [{"type": "reasoning.text", "text": "be"}, {"type": "reasoning.encrypted", "data": "x"},
           {"type": "reasoning.text", "text": "cause"}]  # fmt: skip


@pytest.mark.parametrize(
    ("message", "source"),
    [
        ({"content": "42", "reasoning": "because"}, "reasoning"),
        ({"content": "42", "reasoning_content": "because"}, "reasoning_content"),
        ({"content": "42", "reasoning": "because", "reasoning_content": "because"}, "reasoning"),
        ({"content": "42", "reasoning": "  ", "reasoning_content": "because"}, "reasoning_content"),
        ({"content": "42", "reasoning": None, "reasoning_details": DETAILS}, "reasoning_details"),
        ({"content": MISTRAL}, "content_list"),
        ({"content": "<think>because</think>42"}, "inline"),
        ({"content": "<think>\nbecause\n</think>\n\n42"}, "inline"),
        ({"content": "because\n</think>\n\n42"}, "inline-no-opener"),
        ({"content": "<think>because</think>42", "reasoning": "because"}, "reasoning"),
        ({"content": "<think>\n\n</think>\n\n42", "reasoning_content": "because"}, "reasoning_content"),
    ],
)
def test_places(message: dict[str, Any], source: str) -> None:
    assert normalise(message) == ("because", "42", source)


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ({"content": "42"}, ("", "42", "none")),
        ({"content": None}, ("", "", "none")),
        ({}, ("", "", "none")),
        ({"content": 7, "reasoning": 7, "reasoning_details": "x"}, ("", "", "none")),
        ({"content": ["x", {"type": "text"}, {"type": "thinking", "thinking": 3}]}, ("", "", "none")),
        ({"content": "<think>cut he"}, ("cut he", "", "unclosed")),
        ({"content": "", "reasoning": "cut he"}, ("cut he", "", "reasoning")),
        ({"content": "<think>\n</think>\n42"}, ("", "42", "inline")),
        # two different chains of thought: nothing is thrown away, the format check sees the tags
        (
            {"content": "<think>other</think>42", "reasoning": "because"},
            ("because", "<think>other</think>42", "reasoning"),
        ),
    ],
)
def test_odd_messages(message: dict[str, Any], expected: tuple[str, str, str]) -> None:
    assert normalise(message) == expected


TEXT = st.text().map(str.strip).filter(lambda text: OPEN not in text and CLOSE not in text)


@given(TEXT.filter(bool), TEXT)
def test_joining_and_splitting_is_a_round_trip(reasoning: str, answer: str) -> None:
    text = join_thinking(reasoning, answer)
    assert split_thinking(text)[:2] == (reasoning, answer)
    assert normalise({"content": text}) == normalise({"content": text.removeprefix(OPEN)})._replace(
        source="inline"
    )


@given(st.text(alphabet="ab <>/think\n"))
def test_no_letter_of_the_answer_is_invented(text: str) -> None:
    reasoning, answer, _ = split_thinking(text)
    assert len(reasoning) + len(answer) <= len(text) + 2  # two line feeds when text stood before the block


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.text(), lambda inner: st.lists(inner) | st.dictionaries(
    st.sampled_from(["content", "reasoning", "reasoning_details", "type", "text", "thinking"]), inner)))  # fmt: skip
def test_hostile_messages_never_raise(value: Any) -> None:
    normalise(
        value
        if isinstance(value, dict)
        else {"content": value, "reasoning_details": value, "reasoning": value}
    )


def test_hostile_tags_are_linear() -> None:
    started = time.perf_counter()
    split_thinking("<think>" * 200_000)
    assert time.perf_counter() - started < 1
