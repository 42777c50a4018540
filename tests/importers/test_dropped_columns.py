"""Columns that carry something: they are read, or the row is left out with a reason; nothing goes without a word."""

from __future__ import annotations

import json
from typing import Any

import pytest

from r1distill.importers import Context, Detector, Found, traces_of

OUTPUT = "<think>r</think>a"


def read(row: dict[str, Any]) -> Found:
    (found,) = traces_of(json.dumps(row).encode(), Detector(), Context())
    assert isinstance(found, Found), found
    return found


def refused(row: dict[str, Any]) -> str:
    try:
        (found,) = traces_of(json.dumps(row).encode(), Detector(), Context())
    except ValueError as error:
        return str(error)
    assert not isinstance(found, Found), found
    return found.reason


def said(found: Found) -> list[tuple[str, str]]:
    return [(message.role, message.content) for message in found.asked]


@pytest.mark.parametrize(
    "row",
    [
        {"instruction": "q", "input": "", "output": OUTPUT, "system": "s"},
        {"prompt": "q", "response": OUTPUT, "system": "s"},
    ],
)
def test_earlier_turns(row: dict[str, Any]) -> None:
    turns = [("user", "q1"), ("assistant", "a1"), ("user", "q2"), ("assistant", "a2")]
    as_messages = [{"role": role, "content": text} for role, text in turns]
    for history in ([["q1", "a1"], ["q2", "a2"]], as_messages):
        found = read({**row, "history": history})
        assert said(found) == [("system", "s"), *turns, ("user", "q")]
        assert (found.prompt.question, found.trace.reasoning, found.trace.answer) == ("q", "r", "a")
    for nothing in ([], None, ""):
        assert said(read({**row, "history": nothing})) == [("system", "s"), ("user", "q")]
    assert (
        refused({**row, "history": [["q1"]]}) == "a turn in 'history' is no pair of a question and an answer"
    )
    assert refused({**row, "history": "q1"}) == "'history' is no list of earlier turns"


@pytest.mark.parametrize(
    "row",
    [
        {"instruction": "q", "output": OUTPUT, "answer": "5"},
        {"instruction": "q", "output": OUTPUT, "answer": 5},
        {"instruction": "q", "generation": OUTPUT, "answer": "5"},
        {"instruction": "q", "generation": [OUTPUT], "answer": "5"},
        {
            "generic_request": {
                "messages": [{"role": "user", "content": "q"}],
                "original_row": {"q": "q", "answer": "5"},
            },
            "response_message": OUTPUT,
        },
    ],
)
def test_gold_answers(row: dict[str, Any]) -> None:
    assert read(row).prompt.answer == "5"


def chat(**more: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a", **more}]}


def completion(**more: Any) -> dict[str, Any]:
    message = {"role": "assistant", "content": "a", **more}
    request = {"messages": [{"role": "user", "content": "q"}]}
    return {"custom_id": "1", "request": request, "response": {"body": {"choices": [{"message": message}]}}}


def bedrock(**more: Any) -> dict[str, Any]:
    message = {"role": "assistant", "content": "a", **more}
    asked = {"messages": [{"role": "user", "content": "q"}]}
    return {
        "modelId": "m", "input": {"inputBodyJson": asked}, "output": {"outputBodyJson": {"choices": [{"message": message}]}},
    }  # fmt: skip


def columns(**more: Any) -> dict[str, Any]:
    return {"question": "q", "response": "a", **more}


@pytest.mark.parametrize("row", [chat, completion, bedrock, columns])
def test_reasoning_that_is_no_text(row: Any) -> None:
    assert (
        refused(row(reasoning_content={"text": "r"}))
        == "the reasoning in 'reasoning_content' is no text but an object"
    )
    assert refused(row(reasoning=["one", "two"])) == "the reasoning in 'reasoning' is no text but a list"
    for nothing in ({}, [], None, "", False):
        assert read(row(reasoning_content=nothing)).trace.reasoning == ""
    assert read(row(reasoning={"effort": "high"}, reasoning_content="r")).trace.reasoning == "r"


def test_the_elements_of_a_list_are_called_so() -> None:
    assert refused({"object": "list", "data": [1]}) == "completion 1: it is no JSON object but a number"
