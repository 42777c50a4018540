"""Every place where reasoning may be, and the round trip of think tags."""

from __future__ import annotations

import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from r1distill.teachers.reasoning import normalise, summary_of
from r1distill.thinking import OPEN, SPELLINGS, join_thinking, split_thinking

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


def detail(kind: str, text: str, index: int | None = None) -> dict[str, Any]:
    """One item of OpenRouter's reasoning_details (https://openrouter.ai/docs/use-cases/reasoning-tokens)."""
    field = {"reasoning.text": "text", "reasoning.summary": "summary", "reasoning.encrypted": "data"}[kind]
    found = {"type": kind, field: text, "format": "unknown", "id": None}
    return found if index is None else {**found, "index": index}


TEXT_KIND, SUMMARY, ENCRYPTED = "reasoning.text", "reasoning.summary", "reasoning.encrypted"
BEDROCK = [{"reasoningContent": {"reasoningText": {"text": "because", "signature": "c2ln"}}}, {"text": "42"}]
OLLAMA = {"role": "assistant", "content": "42", "thinking": "because"}
ANSWER_PART = {"type": "text", "text": "42"}


@pytest.mark.parametrize(
    ("message", "source"),
    [
        (OLLAMA, "thinking"),  # its native /api/chat
        ({"content": BEDROCK}, "content_list"),
        ({"content": [{"type": "reasoning", "text": "because"}, ANSWER_PART]}, "content_list"),
        ({"content": [{"type": "reasoning", "reasoning": "because"}, ANSWER_PART]}, "content_list"),
        (
            {
                "content": [
                    {"type": "reasoning", "summary": [], "content": [{"text": "because"}]},
                    ANSWER_PART,
                ]
            },
            "content_list",
        ),
        (
            {"content": [{"type": "thinking", "thinking": "because", "signature": "x"}, ANSWER_PART]},
            "content_list",
        ),
        (
            {"content": [{"type": "text", "text": "<think>beca"}, {"type": "text", "text": "use</think>42"}]},
            "inline",
        ),
        ({"content": "42", "reasoning": [{"type": "text", "text": "because"}]}, "reasoning"),
        ({"content": "42", "reasoning_content": " ", "thinking": "because"}, "thinking"),
        ({"content": "[THINK]because[/THINK]42"}, "inline"),
        ({"content": "[THINK]because[/THINK]42", "reasoning_content": "because"}, "reasoning_content"),
        # pieces of a stream: one item, one index
        (
            {"content": "42", "reasoning_details": [detail(TEXT_KIND, t, 0) for t in ("be", "", "cause")]},
            "reasoning_details",
        ),
        # OpenRouter sends both
        (
            {"content": "42", "reasoning": "because", "reasoning_details": [detail(TEXT_KIND, "because", 0)]},
            "reasoning",
        ),
    ],
)
def test_more_places(message: dict[str, Any], source: str) -> None:
    assert normalise(message) == ("because", "42", source)
    assert summary_of(message) == ""


def test_a_streamed_content_list_is_joined_as_it_came() -> None:
    pieces = [
        {"type": "thinking", "thinking": [{"type": "text", "text": t}]} for t in ("Well", ", be", "cause\n")
    ]
    parts = [*pieces, {"type": "text", "text": "4"}, {"type": "text", "text": "2 "}]
    assert normalise({"content": parts}) == ("Well, because", "42", "content_list")


def test_items_of_the_details_are_parted_and_their_pieces_are_not() -> None:
    details = [detail(TEXT_KIND, "Fir", 0), detail(TEXT_KIND, "st.", 0), detail(ENCRYPTED, "x", 1),
               detail(TEXT_KIND, "Sec", 2), detail(TEXT_KIND, "ond.")]  # fmt: skip
    assert normalise({"content": "a", "reasoning_details": details}).reasoning == "First.\n\nSecond."


SUMMARISED = [
    detail(SUMMARY, "**Adding**\n\nI ad", 0),
    detail(SUMMARY, "d.", 0),
    detail(SUMMARY, "**Checking**", 1),
]
JOINED = "**Adding**\n\nI add.\n\n**Checking**"


@pytest.mark.parametrize(
    "message",
    [
        {"content": "42", "reasoning_details": SUMMARISED},
        {"content": "42", "reasoning_details": [*SUMMARISED, detail(ENCRYPTED, "gAAA", 2)]},
        # `reasoning` repeats the summary, joined in another way
        {"content": "42", "reasoning": "**Adding**\n\nI add.**Checking**", "reasoning_details": SUMMARISED},
        {"content": [{"type": "reasoning", "encrypted_content": "gAAA", "summary": [
            {"type": "summary_text", "text": "**Adding**\n\nI add."}, {"type": "summary_text", "text": "**Checking**"}]},
            ANSWER_PART]},
    ],
)  # fmt: skip
def test_a_summary_is_no_reasoning(message: dict[str, Any]) -> None:
    assert normalise(message) == ("", "42", "summary")
    assert summary_of(message) == JOINED


def test_reasoning_beside_a_summary_is_reasoning() -> None:
    both = [detail(SUMMARY, "In short.", 0), detail(TEXT_KIND, "because", 1)]
    assert normalise({"content": "42", "reasoning_details": both}) == ("because", "42", "reasoning_details")
    assert (
        normalise({"content": "42", "reasoning": "because", "reasoning_details": both[:1]}).source
        == "reasoning"
    )
    assert (
        normalise({"content": "<think>because</think>42", "reasoning_details": both[:1]}).source == "inline"
    )
    assert summary_of({"content": "42", "reasoning_details": both}) == "In short."


@pytest.mark.parametrize(
    "message",
    [
        {"content": "42", "reasoning": None, "reasoning_details": [detail(ENCRYPTED, "gAAA", 0)]},
        {"content": [{"reasoningContent": {"redactedContent": "eHg="}}, {"text": "42"}]},
        {"content": [{"type": "redacted_thinking", "data": "eHg="}, ANSWER_PART]},
        {"content": [{"type": "reasoning", "summary": [], "encrypted_content": "gAAA"}, ANSWER_PART]},
    ],
)
def test_encrypted_reasoning_is_named(message: dict[str, Any]) -> None:
    assert normalise(message) == ("", "42", "encrypted")
    assert summary_of(message) == ""


TAGS = [tag for spelling in SPELLINGS for tag in (spelling.opener, spelling.closer)]
TEXT = st.text().map(str.strip).filter(lambda text: not any(tag in text for tag in TAGS))


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


KEYS = st.sampled_from(["content", "reasoning", "reasoning_details", "type", "text", "thinking", "summary", "index",
                        "reasoningContent", "reasoningText", "redactedContent", "encrypted_content"])  # fmt: skip
TYPES = st.sampled_from(["thinking", "reasoning", TEXT_KIND, SUMMARY, ENCRYPTED])
SCALARS = st.none() | st.booleans() | st.integers() | st.text() | TYPES


@given(st.recursive(SCALARS, lambda inner: st.lists(inner) | st.dictionaries(KEYS, inner)))
def test_hostile_messages_never_raise(value: Any) -> None:
    message = (
        value
        if isinstance(value, dict)
        else {"content": value, "reasoning_details": value, "reasoning": value}
    )
    assert all(isinstance(part, str) for part in normalise(message))
    assert isinstance(summary_of(message), str)


def test_deep_nesting_is_not_followed() -> None:
    deep: Any = "x"
    for _ in range(5000):
        deep = [{"type": "thinking", "thinking": deep, "text": deep}]
    assert normalise({"content": deep, "reasoning": deep, "reasoning_details": deep}) == ("", "", "none")


def test_hostile_pieces_are_linear() -> None:
    started = time.process_time()
    details = [detail(SUMMARY, "ab" * 5, at) for at in range(100_000)]
    normalise(
        {"content": "<think>" * 200_000, "reasoning": "ab" * 500_000 + "c", "reasoning_details": details}
    )
    assert time.process_time() - started < 5
