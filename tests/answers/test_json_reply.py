"""The answer of a reply that is one JSON object."""

from __future__ import annotations

import time

import pytest

from r1distill.answers import grade
from r1distill.answers.json_reply import MAX_CHARS, json_reply


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ('{"answer": 5}', "5"),
        ('{"Answer": "5 cm"}\n', "5 cm"),
        ('{"answer": 1.50}', "1.50"),
        ('{"Final Answer": 6, "answer": 5}', "6"),
        ('```json\n{"answer": "5"}\n```', "5"),
        ('In short:\n```json\n{"answer": "5"}\n```\n', "5"),
        ('{"why": "two\nlines", "answer": "5"}', "5"),
        (r'{"answer": "\frac{1}{2}"}', r"\frac{1}{2}"),
        (r'{"answer": "\\frac{1}{2}"}', r"\frac{1}{2}"),
        (r'{"answer": "2 \times 3 \neq 5"}', r"2 \times 3 \neq 5"),
        ('{"answer": [1, "b"]}', "1, b"),
        ('{"answer": [[1, 2], [3, 4]]}', "(1, 2), (3, 4)"),
        ('{"answer": {"x": 1}}', "x = 1"),
        ('{"answer": null}', ""),
        ('{"why": "it says "so"", "answer": "5"}', "5"),
        ('of which 5 are left", "answer": "5"\n}\n```', "5"),
        ('["B", "F"]', "B, F"),
        ("[1, 2]", None),
        ('{"answer": 5, "answer": 6}', "6"),
        ('{"result": 5}', None),
        ('{"why": {"answer": 5}}', None),
        ('{"answer": 5} as asked', None),
        ('The format is {"answer": 5}', "5"),
        ("5", None),
        ("", None),
    ],
)
def test_json_reply(text: str, answer: str | None) -> None:
    assert json_reply(text) == answer


def test_the_answer_counts_and_not_the_reasoning() -> None:
    found = grade("math", "28", '{"answer": 7, "reasoning": "28 is perfect."}')
    assert (found.outcome, found.extracted, found.how) == ("wrong", "7", "phrase")
    assert grade("math", "28", '{"answer": "", "reasoning": "28 is perfect."}').outcome == "no_answer"


@pytest.mark.parametrize("piece", ['{"answer":', "[", '"answer": "', "\\", '"answer": 1 } '])
def test_hostile_texts_take_linear_time(piece: str) -> None:
    started = time.process_time()
    for end in ("}", "]", "```"):
        text = "{" + piece * (MAX_CHARS // len(piece) - 1)
        json_reply(text + end)
        json_reply(text * 6 + end)
    assert time.process_time() - started < 1
