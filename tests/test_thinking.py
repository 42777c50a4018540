"""Think blocks: taken out and put in, by a fixed number of scans."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from r1distill.thinking import CLOSE, OPEN, Split, join_thinking, split_thinking

UNTAGGED = st.text().filter(lambda text: OPEN not in text and CLOSE not in text).map(str.strip)


@given(UNTAGGED, UNTAGGED)
def test_split_undoes_join(reasoning: str, answer: str) -> None:
    found = split_thinking(join_thinking(reasoning, answer))
    assert (found.reasoning, found.answer) == (reasoning, answer)
    assert found.source == ("inline" if reasoning else "none")


@given(st.lists(st.sampled_from([OPEN, CLOSE, "a", " ", "\n"])).map("".join))
def test_nothing_but_the_first_tags_and_white_space_is_lost(text: str) -> None:
    found = split_thinking(text)
    assert sorted((found.reasoning + found.answer).replace(" ", "").replace("\n", "")) == sorted(
        _without_first_tags(text, found.source).replace(" ", "").replace("\n", "")
    )


def _without_first_tags(text: str, source: str) -> str:
    opened = {"inline": True, "unclosed": True}.get(source, False)
    closed = {"inline": True, "inline-no-opener": True}.get(source, False)
    text = text.replace(OPEN, "", 1) if opened else text
    return text.replace(CLOSE, "", 1) if closed else text


@pytest.mark.parametrize(
    ("text", "split"),
    [
        ("<think>\nr\n</think>\n\na", Split("r", "a", "inline")),
        ("r\n</think>\na", Split("r", "a", "inline-no-opener")),
        ("r</think>a<think>b", Split("r", "a<think>b", "inline-no-opener")),
        ("<think>r", Split("r", "", "unclosed")),
        ("Well. <think>r", Split("r", "Well.", "unclosed")),
        ("Well. <think>r</think> a", Split("r", "Well.\n\na", "inline")),
        ("  a \n", Split("", "a", "none")),
        ("<think></think>a", Split("", "a", "inline")),
        ("<think>r</think>a<think>s</think>b", Split("r", "a<think>s</think>b", "inline")),
        ("", Split("", "", "none")),
    ],
)
def test_split(text: str, split: Split) -> None:
    assert split_thinking(text) == split


def test_join_without_reasoning_is_the_answer() -> None:
    assert join_thinking("", "a") == "a"
    assert join_thinking("r", "a") == "<think>\nr\n</think>\n\na"


class Counted(str):
    """A text that counts how often it is searched or cut."""

    calls = 0

    def find(self, *args: Any) -> int:
        Counted.calls += 1
        return super().find(*args)

    def __getitem__(self, key: Any) -> str:
        Counted.calls += 1
        return super().__getitem__(key)


@pytest.mark.parametrize("tags", ["<think>", "</think>", "<think></think>", "</think><think>"])
def test_a_million_tags_cost_as_many_scans_as_one(tags: str) -> None:
    counts = []
    for repeat in (1, 1_000_000):
        Counted.calls = 0
        split_thinking(Counted(tags * repeat))
        counts.append(Counted.calls)
    assert counts[0] == counts[1] <= 6
