"""Request lines out, result lines in: both line forms, splitting, and whatever may stand in a result file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from fake_teacher import completion
from hypothesis import given
from hypothesis import strategies as st

from r1distill.asking.owed import Wanted
from r1distill.batches.files import (
    Limits,
    RequestFiles,
    Style,
    parse_result,
    read_results,
    request_line,
    result_ids,
)
from r1distill.errors import InputError
from r1distill.records import Message, slot_of, trace_id_of
from r1distill.teachers.refusals import Action, Refusal
from r1distill.teachers.replies import Reply

SAMPLING = {"max_tokens": 100, "temperature": 0.5}


def item(number: int, words: str = "Hi") -> Wanted:
    messages = [Message("user", f"{words} {number}")]
    return Wanted(slot_of("t", "m", messages, SAMPLING, 0), f"p{number}", 0, "t", "m", messages, SAMPLING)


def body(wanted: Wanted) -> bytes:
    return json.dumps(
        {"model": "m", "messages": [{"role": "user", "content": wanted.messages[0].content}]}
    ).encode()


def write(folder: Path | None, count: int, limits: Limits, style: Style = "openai") -> RequestFiles:
    files = RequestFiles(folder, "t", style, limits)
    for number in range(count):
        files.add(item(number), body(item(number)), 0.5)
    files.finish()
    return files


def test_the_two_line_forms() -> None:
    whole = json.loads(request_line("x" * 64, b'{"model": "m"}', "openai"))
    assert whole == {
        "custom_id": "x" * 64,
        "method": "POST",
        "url": "/v1/chat/completions",
        "body": {"model": "m"},
    }
    assert json.loads(request_line("x", b'{"a": 1}', "mistral")) == {"custom_id": "x", "body": {"a": 1}}


def test_files_are_split_by_lines(tmp_path: Path) -> None:
    files = write(tmp_path, 10, Limits(lines=4))
    assert [part.lines for part in files.parts] == [4, 4, 2]
    assert [part.worst_usd for part in files.parts] == [2.0, 2.0, 1.0]
    ids = []
    for part in files.parts:
        requests = (tmp_path / f"{part.name}.jsonl").read_bytes()
        items = [json.loads(line) for line in (tmp_path / f"{part.name}.items.jsonl").open()]
        assert len(requests) == part.size_bytes
        assert [json.loads(line)["custom_id"] for line in requests.splitlines()] == [
            one["id"] for one in items
        ]
        ids += [one["id"] for one in items]
    assert ids == [trace_id_of(item(number).slot, 100) for number in range(10)]
    assert len(list(tmp_path.iterdir())) == 6


def test_files_are_split_by_size(tmp_path: Path) -> None:
    one = len(request_line("x" * 64, body(item(0)), "openai"))
    files = write(tmp_path, 7, Limits(size_bytes=one * 3))
    assert [part.lines for part in files.parts] == [3, 3, 1]
    assert all(part.size_bytes <= one * 3 for part in files.parts)


def test_a_request_larger_than_any_file_is_named(tmp_path: Path) -> None:
    files = RequestFiles(tmp_path, "t", "openai", Limits(size_bytes=200))
    with pytest.raises(InputError, match="problem p7"):
        files.add(item(7, "long " * 100), body(item(7, "long " * 100)), None)
    files.drop()
    assert list(tmp_path.iterdir()) == []


def test_a_dry_run_only_counts() -> None:
    assert [part.lines for part in write(None, 5, Limits(lines=2)).parts] == [2, 2, 1]


def test_one_unknown_price_makes_the_cost_unknown() -> None:
    files = RequestFiles(None, "t", "openai", Limits())
    files.add(item(0), b"{}", 1.0)
    files.add(item(1), b"{}", None)
    assert files.finish()[0].worst_usd is None


def test_the_same_requests_have_the_same_name_unless_salted() -> None:
    same = {write(None, 3, Limits()).parts[0].name for _ in range(2)}
    other = write(None, 3, Limits(), "mistral").parts[0].name
    assert len(same) == 1
    assert other not in same


def parsed(line: Any) -> Reply | Refusal:
    result = parse_result(json.dumps(line).encode(), "f: line 1")
    assert result.custom_id == "c"
    outcome = result.reply or result.refused
    assert outcome is not None
    return outcome


GOOD = completion("42", reasoning="6 * 7")


@pytest.mark.parametrize(
    "line",
    [
        {
            "response": {"status_code": 200, "request_id": "r", "body": GOOD},
            "error": None,
        },  # OpenAI, vLLM run-batch
        {
            "id": "x",
            "response": {"status_code": 200, "body": GOOD},
        },  # Mistral, as far as its documentation shows it
        {"response": {"body": GOOD}, "error": {}},
        {"response": GOOD},
        {"body": GOOD},
    ],
)
def test_answers_in_every_known_shape(line: dict[str, Any]) -> None:
    reply = parsed({"custom_id": "c", **line})
    assert isinstance(reply, Reply)
    assert (reply.split.reasoning, reply.split.answer, reply.finish) == ("6 * 7", "42", "stop")
    assert reply.usage.completion_tokens == 20


TOO_LONG = {"message": "too long", "code": "context_length_exceeded", "type": "invalid_request_error"}


@pytest.mark.parametrize(
    ("line", "action", "error_class"),
    [
        ({"response": None, "error": {"code": "batch_expired", "message": "late"}}, Action.RETRY, "batch_expired"),
        ({"response": None, "error": {"code": "batch_cancelled", "message": "no"}}, Action.RETRY, "batch_cancelled"),
        ({"response": {"status_code": 400, "body": {"error": TOO_LONG}}}, Action.FINAL, "context_length"),
        # vLLM run-batch: the error beside a response without body
        ({"response": {"status_code": 400, "request_id": "r"}, "error": {"object": "error", **TOO_LONG}},
         Action.FINAL, "context_length"),
        ({"response": {"status_code": 400, "body": None}, "error": {"error": TOO_LONG}}, Action.FINAL, "context_length"),
        ({"response": {"status_code": 500, "body": {"error": {"message": "oops"}}}}, Action.RETRY, "server"),
        ({"response": {"status_code": 429, "body": {"error": {"message": "slow"}}}}, Action.RETRY, "rate"),
        ({"response": None, "error": None}, Action.RETRY, None),
        ({"response": None, "error": "some text"}, Action.RETRY, None),
        ({"response": {"status_code": 200, "body": completion("")}}, Action.RETRY, "empty"),
        ({"response": {"status_code": 200, "body": completion(None, finish="content_filter")}}, Action.FINAL, "content_filter"),
        ({"response": {"status_code": 200, "body": {"choices": []}}}, Action.RETRY, "empty"),
        ({"response": {"status_code": 200, "body": None}}, Action.RETRY, "malformed"),
        ({"response": 3, "error": 4}, Action.RETRY, None),
    ],
)  # fmt: skip
def test_lines_without_an_answer(line: dict[str, Any], action: Action, error_class: str | None) -> None:
    refused = parsed({"custom_id": "c", **line})
    assert isinstance(refused, Refusal)
    assert refused.action is action
    assert error_class in (None, refused.error_class)


def test_a_cut_answer_is_kept() -> None:
    reply = parsed(
        {
            "custom_id": "c",
            "response": {"status_code": 200, "body": completion("", finish="length", reasoning="so")},
        }
    )
    assert isinstance(reply, Reply)
    assert reply.finish == "length"


def test_places_torn_lines_and_a_last_line_without_newline(tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    good = json.dumps({"custom_id": "a", "response": {"status_code": 200, "body": GOOD}})
    path.write_text(f'{good}\n\n{{"custom_id": "b", "resp\n[1]\n{{"custom_id": 7}}\n{good}')
    results = list(read_results(path))
    assert [(result.place.rsplit(" ", 1)[1], result.custom_id) for result in results] == [
        ("1", "a"), ("3", None), ("4", None), ("5", None), ("6", "a"),
    ]  # fmt: skip
    assert list(result_ids(path)) == ["a", "a"]


def test_no_such_file(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="nothing"):
        list(read_results(tmp_path / "nothing.jsonl"))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                [
                    "response",
                    "error",
                    "body",
                    "status_code",
                    "choices",
                    "code",
                    "message",
                    "custom_id",
                    "finish_reason",
                ]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@given(JSON)
def test_no_line_breaks_the_reader(value: Any) -> None:
    line = value if not isinstance(value, dict) else {"custom_id": "c", **value}
    result = parse_result(json.dumps(line).encode(), "here")
    assert result.place == "here"
    if isinstance(line, dict) and isinstance(line["custom_id"], str):
        assert (result.reply is None) != (result.refused is None)
    else:
        assert result.custom_id is None


@given(st.binary(max_size=60))
def test_no_bytes_break_the_reader(data: bytes) -> None:
    assert parse_result(data, "here").place == "here"
