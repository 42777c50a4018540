"""Rows that somebody wrote to hang, crash, exhaust or deceive: each becomes a trace or one line of the report, quickly."""

from __future__ import annotations

import json
import re
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from r1distill.filtering.tracefiles import TraceFiles
from r1distill.importers import Context, Detector, Found, Unread, traces_of
from r1distill.importers.table import FORMATS, names

FIXTURES = Path(__file__).parent / "fixtures"
GOOD = b'{"question": "q", "response": "<think>r</think>a"}'


def reasons(folder: Path, *lines: bytes) -> list[str]:
    """Why the lines are no traces; the good one after them is always read."""
    path = folder / "t.jsonl"
    path.write_bytes(b"\n".join([GOOD, *lines, GOOD]) + b"\n")
    reader = TraceFiles([path], "math")
    started = time.process_time()
    found = list(reader.taken())
    assert time.process_time() - started < 5
    assert len(found) == 2
    assert [row["line"] for row in reader.skipped] == [*range(2, len(lines) + 2)]
    return [row["reason"] for row in reader.skipped]


def reply(text: str, **more: Any) -> bytes:
    return json.dumps({"question": "q", "response": text, **more}).encode()


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b'{"question": "q", "response": NaN}', "NaN is no JSON value"),
        (b'{"question": "q", "response": "a", "score": -Infinity}', "Infinity is no JSON value"),
        (b'{"question": "q", "response": "\\ud800"}', "half of a surrogate pair"),
        (b'[{"x": 1}]', "the line is no JSON object but a list"),
        (b'{"question": "q\xff", "response": "a"}', "'utf-8' codec can't decode byte 0xff"),
        (b'{"question": "q", "response": "a", "else": "\xff"}', "'utf-8' codec can't decode byte 0xff"),
        (b'{"question": "q", "response": "a\x00b"}', "JSON is malformed: invalid character"),
        (
            b'{"question": "q", "response": "a", "response": "b"}',
            "the column 'response' stands in the row twice",
        ),
        (b'{"question":"q","response":"a","x":1,"x":2}', "the column 'x' stands in the row twice"),
        (b'{ "a" : 1 , "a" : 2 , "question":"q", "response":"b"}', "the column 'a' stands in the row twice"),
        (
            b'{"question": "q", "response": "a", "reference": ' + b"9" * 5000 + b"}",
            "a number of 5,000 characters",
        ),
        (b'{"question": "q", "response": "a", "reference": 1e999}', "Number out of range"),
        (b'{"question": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", "nested too deeply"),
        (b'{"a":' * 100_000 + b"1" + b"}" * 100_000, "nested too deeply"),
        (b"[" * 100_000, "the line is no JSON object|nested too deeply"),
        (b'"a text"', "the line is no JSON object but a text"),
        (b"12", "the line is no JSON object but a number"),
        (b"null", "the line is no JSON object but null"),
        (b"true", "the line is no JSON object but true"),
        (
            b'{"messages": [{"role": "user", "content": {"a": 1}}, {"role": "assistant", "content": "a"}]}',
            "a message holds no text but an object",
        ),
        (b'{"question": "q", "response": "a", "reference": [7]}', "neither text nor number but a list"),
        (b'{"question": "q", "response": "a"} {"x": 1}', "trailing characters"),
        (b"\x80\x04\x95 a pickle in a line", "JSON is malformed|codec can't decode"),
        (b"{}", "no format has these columns: none"),
        (
            b'{"messages": [{"role": "user", "content": "q"}]}',
            "the conversation does not end with an answer, but with 'user'",
        ),
        (b'{"messages": []}', "there are no messages"),
        (b'{"messages": [{"role": "assistant", "content": "a"}]}', "nobody asks a question"),
        (
            b'{"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}, '
            b'{"role": "assistant", "content": "a"}]}',
            "a message holds a picture or a file",
        ),
        (
            b'{"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": null, "tool_calls": [{}]}]}',
            "the last answer is a call of a tool",
        ),
        (
            b'{"object": "list", "data": []}',
            "the row holds no trace: its list is empty",
        ),  # found by the fuzz below
        (b'{"problem": "q", "generations": []}', "the list of generations"),
        (b'{"problem": "q", "generations": [7]}', "generation 1 of 1: it is no text"),
        (b'{"question": "q", "generations": [' + b'"a",' * 20_000 + b'"a"]}', "more than 10,000 generations"),
        (
            b'{"conversations": [' + b'{"from": "human", "value": "q"},' * 20_000 + b"1]}",
            "more than 10,000 messages",
        ),
    ],
)
def test_each_has_its_line_in_the_report(tmp_path: Path, line: bytes, reason: str) -> None:
    (said,) = reasons(tmp_path, line)
    assert re.search(reason, said), said


@pytest.mark.parametrize(
    "text",
    [
        "<think>" * 1_000_000,
        "<think>a</think>" * 300_000,
        "</think>" * 1_000_000,
        "<" * 5_000_000,
        "<think>" + "<|begin_of_thought|>" * 200_000 + "</think>x",
        "`</think>`" * 300_000,
        "\\boxed{" * 500_000,
        " " * 5_000_000 + "x",
    ],
)
def test_texts_that_are_bait_take_no_longer_than_others(tmp_path: Path, text: str) -> None:
    path = tmp_path / "t.jsonl"
    path.write_bytes(reply(text) + b"\n" + json.dumps({"messages": [
        {"role": "user", "content": "q"}, {"role": "assistant", "content": text, "reasoning_content": text}]}).encode()
        + b"\n" + json.dumps({"question": "q", "solution": text, "answer": "1"}).encode())  # fmt: skip
    started = time.process_time()
    reader = TraceFiles([path], "math")
    count = len(list(reader.taken())) if text.strip() else 0
    assert count + len(reader.skipped) == 3
    assert time.process_time() - started < 5


def test_what_is_odd_but_text_is_kept_as_it_is(tmp_path: Path) -> None:
    odd = "a\x00b \x1b[31mred\x1b[0m \u202eabc <script>alert(1)</script> <|im_end|> \U0001f600 \ufeff"
    path = tmp_path / "t.jsonl"
    path.write_bytes(reply(f"<think>{odd}x</think>{odd}x"))
    (found,) = TraceFiles([path], "math").sources()
    assert (found.trace.reasoning, found.trace.answer) == (odd + "x", odd + "x")


def test_a_python_literal_is_read_and_never_run(tmp_path: Path) -> None:
    ran = tmp_path / "ran"
    code = f"{{'ground_truth': __import__('pathlib').Path({str(ran)!r}).touch()}}"
    deep = "{'ground_truth': " + "(" * 5000 + "1" + ")" * 5000 + "}"
    rows = [
        {"prompt": "q", "llm_response": "<think>r</think>a", "verification_info": info}
        for info in (code, deep, "{'ground_truth': 9**9**9}", "{'ground_truth': '12'}", "{" * 5000)
    ]
    path = tmp_path / "t.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = list(TraceFiles([path], "math").sources())
    assert [source.prompt.answer for source in found] == [None, None, None, "12", None]
    assert not ran.exists()


def test_many_columns(tmp_path: Path) -> None:
    row = {f"c{i}": i for i in range(200_000)}
    (said,) = reasons(tmp_path, json.dumps(row).encode())
    assert said.startswith("no format has these columns: c0 (number)") and len(said) < 2000


ATOMS = (
    st.none() | st.booleans() | st.integers(-(10**20), 10**20) | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=12) | st.sampled_from(["<think>r</think>a", "</think>", "assistant", "user", "stop", "{'a': 1}", "math"])
)  # fmt: skip
COLUMNS = sorted(
    {name for row in FORMATS for name in (*row.needs, *row.one_of, *row.question, *row.reply, *row.reasoning, *row.each,
                                          *row.beside, *row.reference, *row.finish, *row.kind, row.system, row.tests)}
    | {"role", "content", "from", "value", "text", "type", "body", "error", "message", "choices", "usage", "request",
       "inputBodyJson", "outputBodyJson", "delta", "contentBlockDelta", "raw_response", "tags"}
)  # fmt: skip
VALUES = st.recursive(
    ATOMS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(COLUMNS), inner, max_size=4),
    max_leaves=12,
)
ROWS = st.dictionaries(st.sampled_from(COLUMNS), VALUES, max_size=10)
FUZZ = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def check(line: bytes, detector: Detector) -> None:
    """A row gives traces or reasons, or raises what the reader takes as a reason; what stands for a trace gives it again."""
    try:
        found = list(traces_of(line, detector, Context()))
    except (ValueError, RecursionError):
        return
    assert found
    for each in found:
        if isinstance(each, Unread):
            assert each.reason
            continue
        again = [one for one in traces_of(each.line or line, Detector(), Context()) if isinstance(one, Found)]
        assert len(again) == 1 or detector.allowed
        each.trace.answer.encode(), each.trace.reasoning.encode(), each.prompt.question.encode()
        assert each.prompt.question.strip() and each.asked is not None


@FUZZ
@given(ROWS)
def test_any_columns(row: dict[str, Any]) -> None:
    check(json.dumps(row).encode(), Detector())


@FUZZ
@given(st.sampled_from(names()), ROWS)
def test_any_columns_read_as_any_format(name: str, row: dict[str, Any]) -> None:
    check(json.dumps(row).encode(), Detector(tuple(f for f in FORMATS if f.name == name)))


FIXTURE_ROWS = [
    json.loads(line) for path in sorted(FIXTURES.glob("*.jsonl")) for line in path.read_text().splitlines()
]


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The paths to all values inside."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(deeper for key, item in inner for deeper in places(item, (*path, key)))]


def changed(value: Any, path: tuple[Any, ...], new: Any) -> Any:
    if not path:
        return new
    copy = dict(value) if isinstance(value, dict) else list(value)
    copy[path[0]] = changed(value[path[0]], path[1:], new)
    return copy


def spoil(data: st.DataObject, times: int) -> None:
    row = data.draw(st.sampled_from(FIXTURE_ROWS))
    for _ in range(times):
        if isinstance(row, dict | list):
            row = changed(row, data.draw(st.sampled_from(places(row))), data.draw(VALUES))
    check(json.dumps(row).encode(), Detector())


@FUZZ
@given(st.data(), st.integers(1, 3))
def test_rows_of_every_format_with_a_value_or_three_spoiled(data: st.DataObject, times: int) -> None:
    spoil(data, times)


@pytest.mark.long
@settings(max_examples=15_000, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.data(), st.integers(1, 5))
def test_very_many_spoiled_rows(data: st.DataObject, times: int) -> None:
    spoil(data, times)


@FUZZ
@given(st.binary(max_size=80))
@example(b'{"question"')
def test_any_bytes(data: bytes) -> None:
    check(data.replace(b"\n", b""), Detector())
