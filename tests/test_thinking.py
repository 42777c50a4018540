"""Think blocks: taken out and put in, by scans in linear time."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from r1distill.thinking import (
    CLOSE,
    OPEN,
    PREAMBLE_CHARACTERS,
    SPELLINGS,
    Spelling,
    Split,
    join_thinking,
    split_thinking,
)

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


TAGS = [tag for spelling in SPELLINGS for tag in (spelling.opener, spelling.closer)]
PLAIN = st.text().map(str.strip).filter(lambda text: not any(tag in text for tag in TAGS))


@given(st.sampled_from(SPELLINGS), PLAIN, PLAIN, st.sampled_from(["", "\n", " \n\n"]))
def test_every_spelling_is_taken_apart(spelling: Spelling, reasoning: str, answer: str, blank: str) -> None:
    text = f"{blank}{spelling.opener}{blank}{reasoning}{blank}{spelling.closer}{blank}{answer}{blank}"
    assert split_thinking(text) == (reasoning, answer, "inline")
    assert split_thinking(f"{spelling.opener}{blank}{reasoning}") == (reasoning, "", "unclosed")


@given(st.sampled_from(SPELLINGS), PLAIN.filter(bool), PLAIN)
def test_the_opening_tag_may_have_stood_in_the_prompt(
    spelling: Spelling, reasoning: str, answer: str
) -> None:
    text = f"{reasoning}\n{spelling.closer}\n{answer}"
    believed = Split(reasoning, answer, "inline-no-opener")
    assert split_thinking(text) == (believed if spelling.own else Split("", text.strip(), "none"))


@given(PLAIN, st.sampled_from(SPELLINGS))
def test_a_think_block_in_another_spelling_inside_the_canonical_one_is_left_alone(
    text: str, inner: Spelling
) -> None:
    reasoning = f"r {inner.opener if inner.opener != OPEN else 'r'}{text}"
    assert split_thinking(join_thinking(reasoning, "a")) == (reasoning, "a", "inline")


SOLVED = (
    "<|begin_of_thought|>\n\nr\n\n<|end_of_thought|>\n\n<|begin_of_solution|>\n\na\n\n<|end_of_solution|>"
)
HARMONY = "<|channel|>analysis<|message|>r<|end|><|start|>assistant<|channel|>final<|message|>a<|return|>"
TWICE = HARMONY.replace("r<", "r<|end|><|start|>assistant<|channel|>analysis<|message|>s<")
S1 = "<|im_start|>think\nr\n<|im_start|>answer\na<|im_end|>"


@pytest.mark.parametrize(
    ("text", "split"),
    [
        (SOLVED, Split("r", "a", "inline")),
        (SOLVED.removesuffix("<|end_of_solution|>"), Split("r", "a", "inline")),  # cut in the solution
        (SOLVED.removeprefix("<|begin_of_thought|>"), Split("r", "a", "inline-no-opener")),
        (SOLVED.replace("_thought", "_slow_thought"), Split("r", "a", "inline")),
        (HARMONY, Split("r", "a", "inline")),
        ("<|start|>assistant" + HARMONY, Split("r", "a", "inline")),
        (TWICE, Split("r\n\ns", "a", "inline")),
        (HARMONY.split("<|start|>")[0], Split("r", "", "unclosed")),
        (HARMONY.removeprefix("<|channel|>analysis<|message|>"), Split("r", "a", "inline-no-opener")),
        ("<|channel|>final<|message|>a<|return|>", Split("", "a", "inline-no-opener")),
        (S1, Split("r", "a", "inline")),
        (f"<|im_start|>assistant\n{S1}", Split("r", "a", "inline")),
        (S1.removeprefix("<|im_start|>think\n"), Split("r", "a", "inline-no-opener")),
        ("[THINK]r[/THINK]a", Split("r", "a", "inline")),
        ("◁think▷r◁/think▷a", Split("r", "a", "inline")),
        ("r◁/think▷a", Split("r", "a", "inline-no-opener")),
        ("Sure. [THINK]r[/THINK]a", Split("r", "Sure.\n\na", "inline")),
        ("<think>r <reasoning>s</reasoning></think>a", Split("r <reasoning>s</reasoning>", "a", "inline")),
        ("<reasoning>r <think>s</think></reasoning>a", Split("r <think>s</think>", "a", "inline")),
        ("<thought>r</thinking>a", Split("r</thinking>a", "", "unclosed")),
    ],
)
def test_spellings(text: str, split: Split) -> None:
    assert split_thinking(text) == split


@pytest.mark.parametrize(
    "text",
    [
        "Put it in `<think>` and `</think>` tags.",
        "End with '</think>', not with \"[/THINK]\".",
        "Use <reasoning>...</reasoning> for this.",
        "The schema has a </thought> element and a <thinking> one.",
        "It said <thinking>: why?",
        f"{'A long answer. ' * 30}At last it names <think> and </think>.",
        f"{'A long answer. ' * 30}Then [THINK], never closed.",
    ],
)
def test_a_mention_is_no_think_block(text: str) -> None:
    assert split_thinking(text) == ("", text, "none")


@pytest.mark.parametrize(
    ("text", "split"),
    [
        # long reasoning without its opening tag, which only quotes that tag
        ("w " * 300 + "`<think>` x</think>a", Split("w " * 300 + "`<think>` x", "a", "inline-no-opener")),
        ('Not "</think>" yet.\n</think>\n\na', Split('Not "</think>" yet.', "a", "inline-no-opener")),
        ("<think>so `x`</think>`x`", Split("so `x`", "`x`", "inline")),
        (" " * 5000 + "<think>r</think>a", Split("r", "a", "inline")),  # white space is no preamble
    ],
)
def test_quoted_tags_and_white_space(text: str, split: Split) -> None:
    assert split_thinking(text) == split


@pytest.mark.parametrize("spelling", [spelling for spelling in SPELLINGS if spelling.own])
def test_a_preamble_is_short(spelling: Spelling) -> None:
    for length, source in ((PREAMBLE_CHARACTERS, "inline"), (PREAMBLE_CHARACTERS + 1, "none")):
        text = f"{'w' * length}{spelling.opener}r{spelling.closer}a"
        assert split_thinking(text).source == source


def test_signs_are_in_both_tags() -> None:
    assert all(
        spelling.sign in spelling.opener and spelling.sign in spelling.closer for spelling in SPELLINGS
    )


HOSTILE = [
    *TAGS, *(f"`{tag}`" for tag in TAGS),
    *(f"{s.opener}{s.closer}" for s in SPELLINGS), *(f"{s.closer}{s.opener}" for s in SPELLINGS),
    "<", "</think", "[/THINK", "<|", "`", "<|end|>", "<|end|><|start|>assistant", "<|begin_of_solution|>",
    "<think><reasoning>", "[/THINK]</think>", "◁think▷<think>",
]  # fmt: skip


def test_a_megabyte_of_tags_takes_no_time() -> None:
    """Under a second of CPU for all of these texts together; a quadratic scan takes minutes for one."""
    started = time.process_time()
    for repeated in HOSTILE:
        for before in ("", "w" * 400, "<think>", "<|channel|>analysis<|message|>"):
            split_thinking(before + repeated * (1_000_000 // len(repeated)))
    assert time.process_time() - started < 20


def test_nothing_is_lost_but_tags_and_white_space() -> None:
    for repeated in HOSTILE:
        found = split_thinking(f"{repeated}word {repeated} other")
        assert "word" in found.reasoning + found.answer
        assert "other" in found.reasoning + found.answer
