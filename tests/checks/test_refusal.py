"""Refusals, empty talk and empty thoughts."""

from __future__ import annotations

from typing import Any

import pytest

from r1distill.checks.refusal import Refusal, refusal_kind
from r1distill.records import Message, Prompt, Trace

REFUSALS = [
    "I can't help with that.",
    "I'm sorry, but I can't assist with that request.",
    "I’m sorry, I cannot provide that information.",
    "As an AI language model, I do not have opinions.",
    "Sorry, as an AI, I can't browse.",
    "I am unable to comply with this request.",
    "I apologize, but I cannot fulfill this request.",
    "**I'm just an AI**",
    "I must respectfully decline.",
    "抱歉，我无法提供帮助。",
    "很抱歉，我不能协助您完成这个请求。",
    "作为一个人工智能，我没有个人观点。",
    "作為一個AI語言模型，我不能",
    "Lo siento, pero no puedo ayudarte con eso.",
    "Désolé, mais je ne peux pas vous aider.",
    "Es tut mir leid, aber ich kann dabei nicht helfen.",
    "К сожалению, я не могу помочь с этим.",
    "申し訳ありませんが、そのご要望にはお応えできません。",
    "죄송하지만 그 요청은 도와드릴 수 없습니다.",
    "Desculpe, mas não posso ajudar com isso.",
    "Mi dispiace, ma non posso aiutarti.",
]
EMPTY = [
    "How can I help you today?", "Hello! How may I assist you?", "Could you please provide the full question?",
    "It looks like your message is incomplete.", "请提供完整的题目。", "你好！请问有什么可以帮您",
]  # fmt: skip
ORDINARY = [
    "I'm sorry, I made a mistake above: the answer is 5.", "I cannot find an integer n with this, so the set is empty.",
    "The answer is 18.", "We can't divide by zero, so x = 0 is out.", "The triangle cannot exist.", "无法被3整除，所以答案是5。",
    "我们不能直接相加，因此先通分。", "No puedo dividir por cero, así que x = 2.", "Sorry for the long proof; x = 3.",
    "The factory cannot provide more than 40 cars.", "A bus can't help being late with 50 stops: 12.",
    "Sure! Here is the solution: 12", "Please note that x > 0. The answer is 4.", "As an alternative, take x = 2.",
    "Je ne peux pas diviser par zéro.", "I can't help but notice that 7 divides 91.", "Ich kann dabei nichts kürzen.",
]  # fmt: skip


def judge(answer: str, reasoning: str = "9 * 2 = 18.", **settings: Any) -> tuple[str, str]:
    trace = Trace(
        id="t", slot="s", prompt_id="p", sample=0, teacher="r1", model="m", messages=[Message("user", "q")],
        reasoning=reasoning, answer=answer, finish="stop",
    )  # fmt: skip
    check = Refusal(**settings)
    found = check.judge(check.measure(Prompt("p", "q"), trace))
    return found.outcome, found.reason


@pytest.mark.parametrize("answer", REFUSALS)
def test_refusals(answer: str) -> None:
    assert judge(answer) == ("FAIL", "refusal")


@pytest.mark.parametrize("answer", EMPTY)
def test_empty_talk(answer: str) -> None:
    assert judge(answer) == ("FAIL", "empty talk")


@pytest.mark.parametrize("answer", ORDINARY)
def test_ordinary_answers(answer: str) -> None:
    assert judge(answer) == ("PASS", "ok")


@pytest.mark.parametrize("later", REFUSALS)
def test_only_the_beginning_counts(later: str) -> None:
    story = "The robot in the story has 12 apples and gives 5 of them away, so that 7 are left. " * 4
    assert refusal_kind(f"{story}\n{later}") is None


@pytest.mark.parametrize("reasoning", ["", " \n", "Okay.", "...", "嗯。"])
def test_empty_thoughts(reasoning: str) -> None:
    assert judge("18", reasoning) == ("FAIL", "empty thought")
    assert judge("18", reasoning, min_thought_words=0) == ("PASS", "ok")


@pytest.mark.parametrize("reasoning", ["9*2=18", "Okay, 18.", "首先我们把这两个数加起来得到答案"])
def test_short_thoughts_are_thoughts(reasoning: str) -> None:
    assert judge("18", reasoning) == ("PASS", "ok")
