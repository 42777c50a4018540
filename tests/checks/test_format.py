"""Both parts there, and nothing of tags or chat templates left in them."""

from __future__ import annotations

from typing import Any

import pytest
from one_trace import said, trace

from r1distill.checks.format import CONTROL_SIGNS, CONTROL_TOKENS, OPENERS, TAG_SIGNS, TAGS, Format
from r1distill.records import Message, Trace
from r1distill.thinking import SPELLINGS


def judge(one: Trace, **settings: Any) -> tuple[str, str]:
    return said(Format(**settings), one)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"reasoning": " \n"}, "no reasoning"),
        ({"answer": ""}, "no answer after the reasoning"),
        ({"answer": "</think> 18"}, "stray </think>"),
        ({"reasoning": "a <think> b"}, "stray <think>"),
        ({"answer": "18<|im_end|>"}, "control token <|im_end|>"),
        ({"reasoning": "9<｜end▁of▁sentence｜>"}, "control token <｜end▁of▁sentence｜>"),
        ({"answer": "18</s>"}, "control token </s>"),
        ({"reasoning_source": "unclosed"}, "reasoning never closed"),
    ],
)
def test_format_faults(changes: dict[str, Any], reason: str) -> None:
    assert judge(trace(**changes)) == ("FAIL", reason)


def test_format_options() -> None:
    assert judge(trace()) == ("PASS", "ok")
    assert judge(trace(answer="a < b and x</ b")) == ("PASS", "ok")
    assert judge(trace(reasoning=""), require_reasoning=False) == ("PASS", "ok")
    assert judge(trace(), require_boxed=True) == ("FAIL", "no \\boxed{}")
    assert judge(trace(answer=r"\boxed{18}"), require_boxed=True) == ("PASS", "ok")


def test_a_box_where_it_was_asked_for() -> None:
    asked = [Message("user", "What is 9 * 2? Put the answer into \\boxed{}.")]
    assert judge(trace(), require_boxed="auto") == ("PASS", "ok")
    assert judge(trace(messages=asked), require_boxed="auto") == ("FAIL", "no \\boxed{}")
    assert judge(trace(messages=asked, answer="\\boxed{18}"), require_boxed="auto") == ("PASS", "ok")
    assert judge(trace(messages=asked)) == ("PASS", "ok")


@pytest.mark.parametrize("tag", TAGS)
@pytest.mark.parametrize("part", ["reasoning", "answer"])
def test_every_spelling_of_a_think_block(tag: str, part: str) -> None:
    assert judge(trace(**{part: f"so {tag} 18"})) == ("FAIL", f"stray {tag}")


def test_tags_follow_the_spellings() -> None:
    own = {tag for spelling in SPELLINGS if spelling.own for tag in (spelling.opener, spelling.closer)}
    assert own <= set(TAGS) and {"◁/think▷", "[THINK]", "<|end_of_solution|>"} <= set(TAGS)
    assert judge(trace(answer="<thinking> is an XML name")) == ("PASS", "ok")


@pytest.mark.parametrize("token", CONTROL_TOKENS)
def test_every_control_token(token: str) -> None:
    assert judge(trace(answer=f"18 {token}")) == ("FAIL", f"control token {token}")


def test_every_token_has_a_sign() -> None:
    assert all(any(sign in tag for sign in TAG_SIGNS) for tag in TAGS)
    assert all(any(sign in token for sign in CONTROL_SIGNS) for token in CONTROL_TOKENS)
    assert all(token.startswith(OPENERS) for token in (*TAGS, *CONTROL_TOKENS))


@pytest.mark.parametrize(
    "text", ["|x| < |y|", "<|psi|>", "a[0] < b[1]", "[1, 2)", "x<y>z", "let me think > about it", "</div>"]
)
def test_ordinary_signs(text: str) -> None:
    assert judge(trace(answer=text, reasoning=text)) == ("PASS", "ok")
