"""No part of a key that is worth anything gets through."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from r1distill.teachers.secrets import MOST_CHARACTERS, WINDOW, scrub

KEY = "Zq8/vT+4mNw1yXc6Rb3LpKd0"


@pytest.mark.parametrize(
    "text",
    [
        f"bad key {KEY}",
        f"bad key {KEY[-10:]}",
        f"bad key starting with {KEY[:9]}",
        f"{KEY}{KEY}",
        f"url https://x/?key={'Zq8%2FvT%2B4mNw1yXc6Rb3LpKd0'}",
        f"Authorization: Bearer {KEY}",
    ],
)
def test_the_key_and_long_parts_of_it_vanish(text: str) -> None:
    clean = scrub(text, (KEY,))
    assert "[key]" in clean
    assert not any(KEY[i : i + WINDOW] in clean for i in range(len(KEY) - WINDOW + 1))


@pytest.mark.parametrize(
    "text",
    [
        "Incorrect API key provided: sk-abcde***************wxyz.",
        "Incorrect API key provided: abcd****wxyz",
        "in organization org-AbCdEfGhIjKl on requests",
        "token hf_abcdefghijklmnop",
        "nvapi-0123456789abcdef",
        "gsk_0123456789abcdef",
        "bearer abcdefghijklmnop",
        "api-key: abcdefghijklmnop",
    ],
)
def test_what_looks_like_a_key_vanishes_without_being_known(text: str) -> None:
    clean = scrub(text)
    assert "[key]" in clean
    assert not {"wxyz", "AbCd", "abcdefgh", "01234567", "sk-abc", "abcd"} & set(
        clean.replace("*", " ").split()
    )
    assert "wxyz" not in clean


def test_plain_words_stay() -> None:
    text = "The model is overloaded, ask again in 3 s (code 529, task-based routing)."
    assert scrub(text, ("none", "")) == text


def test_one_short_line() -> None:
    assert scrub("a\n\n  b\t c") == "a b c"
    assert len(scrub("x " * 10_000)) == MOST_CHARACTERS


@given(st.text(), st.text(min_size=6, max_size=40), st.text())
def test_the_whole_key_never_stays(before: str, key: str, after: str) -> None:
    clean = scrub(f"{before}{key}{after}", (key,))
    assert key not in clean or key in "[key]…" or key.isspace() or "[key]" in key
