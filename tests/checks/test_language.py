"""Scripts of a trace: mixing, and whether it is written as it was asked."""

from __future__ import annotations

import time
from typing import Any

import pytest

from r1distill.checks.language import Language, main_script, script_counts, script_of_language
from r1distill.records import Message, Prompt, Trace

ENGLISH = "We add the two numbers and check the result once more before we answer. " * 20
CHINESE = (
    "我们先把两个数加起来，然后再检查一遍结果，最后给出答案。设函数 $f(x)=ax+b$，由 \\sin x 的性质可知 x=3。"
    * 10
)
ASKED = "How many apples does she have left?"


def judge(
    reasoning: str, answer: str = "\\boxed{5}", question: str = ASKED, tags: Any = None, **settings: Any
) -> tuple[str, str]:
    trace = Trace(
        id="t", slot="s", prompt_id="p", sample=0, teacher="r1", model="m", messages=[Message("user", "q")],
        reasoning=reasoning, answer=answer, finish="stop",
    )  # fmt: skip
    check = Language(**settings)
    found = check.judge(check.measure(Prompt("p", question, tags=tags or {}), trace))
    return found.outcome, found.reason


def test_one_script_passes() -> None:
    assert judge(ENGLISH) == ("PASS", "one script")
    assert judge(CHINESE, question="小明还剩几个苹果？") == ("PASS", "one script")
    assert judge("Тогда получаем, что сумма равна пяти. " * 9, question="Чему равна сумма?") == (
        "PASS",
        "one script",
    )
    assert judge("まず二つの数を足して、それから結果を確認します。", question="合計はいくつですか？") == (
        "PASS",
        "one script",
    )


@pytest.mark.parametrize(
    "foreign",
    [
        "所以我们知道这个三角形的面积是五，然后再检查一遍结果吧",
        "Тогда получаем, что сумма этих чисел равна пяти",
    ],
)
def test_mixing_fails(foreign: str) -> None:
    assert judge(ENGLISH + foreign + ENGLISH)[0] == "FAIL"
    assert judge(ENGLISH + foreign + ENGLISH, max_foreign_share=0.2) == ("PASS", "one script")
    assert judge(ENGLISH + foreign + ENGLISH, question=f"Translate {foreign} into English for me") == (
        "PASS",
        "one script",
    )


def test_english_sentences_in_chinese_are_mixing_and_formulas_are_not() -> None:
    question = "小明还剩几个苹果？"
    assert judge(CHINESE + ENGLISH[:150] + CHINESE, question=question) == ("FAIL", "Latin among Han")
    formulas = (
        "因为 abc + bcd = cos(x) max(a, b, c) 且 f(x) = ab, lim sup g(x)，Python 和 numpy 都可以。" * 20
    )
    assert judge(formulas, question=question) == ("PASS", "one script")
    code = (
        "解法如下：\n```python\nfor name in list of names: print the name and then stop\n```\n所以答案是五。"
        * 5
    )
    assert judge(code, question=question) == ("PASS", "one script")


def test_reasoning_and_answer_as_asked() -> None:
    assert judge(CHINESE) == ("FAIL", "reasoning in Han, not Latin")
    assert judge(CHINESE, same_as_question=False) == ("PASS", "one script")
    assert judge(ENGLISH, answer="所以答案是五个苹果。") == ("FAIL", "answer in Han, not Latin")
    assert judge(ENGLISH, question="1 + 1 = ?", tags={"language": "zh-Hans"}) == (
        "FAIL",
        "reasoning in Latin, not Han",
    )
    assert judge(CHINESE, tags={"language": "zh"}) == ("PASS", "one script")


def test_too_few_letters() -> None:
    assert judge(ENGLISH, question="1 + 1 = ?") == ("UNJUDGED", "too few letters in the question")
    assert judge("1 + 1 = 2", answer="2") == ("UNJUDGED", "too few letters")
    assert Language().unjudged == "keep"


def test_greek_and_symbols_are_mathematics() -> None:
    assert judge(ENGLISH + "α + β ≤ π · ℝ ∑ 𝔽 → ∞ “quoted” naïve café") == ("PASS", "one script")
    assert main_script(script_counts("Πόσα μήλα έχει η Μαρία;")) == "Greek"


@pytest.mark.parametrize(
    ("tag", "script"),
    [("en", "Latin"), ("pt_BR", "Latin"), ("JA", "Kana"), ("ru", "Cyrillic"), ("xx", None), (5, None)],
)
def test_tags(tag: Any, script: str | None) -> None:
    assert script_of_language(tag) == script


@pytest.mark.parametrize("unit", ["$", "`", "\\(", "a a ", "a,", "$a", "\\)", "\\a{", "```"])
def test_linear_on_hostile_text(unit: str) -> None:
    begun = time.process_time()
    script_counts("的" + unit * (1_000_000 // len(unit)))
    assert time.process_time() - begun < 3
