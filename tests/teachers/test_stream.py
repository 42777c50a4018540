"""Server-sent events: framing at any cut, gathering, and streams that go wrong."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import Any

import msgspec
import pytest
from fake_teacher import DONE, USAGE, USAGE_PIECE, event, piece
from hypothesis import given
from hypothesis import strategies as st

from r1distill.teachers.refusals import Refusal
from r1distill.teachers.replies import BOM, reply_of
from r1distill.teachers.stream import Gathered, Opening, opening


def gather(*chunks: bytes, logprobs: bool = False) -> dict[str, Any]:
    gathered = Gathered(logprobs)
    for chunk in chunks:
        if gathered.feed(chunk):
            break
    return gathered.end()


def letters(*chunks: bytes) -> str:
    """What `chunks` say before their end is missed."""
    gathered = Gathered()
    for chunk in chunks:
        gathered.feed(chunk)
    with pytest.raises(Refusal):
        gathered.end()
    return str(gathered.whole()["choices"][0]["message"].get("content", ""))


def data(content: str) -> bytes:
    return json.dumps({"choices": [{"delta": {"content": content}}]}).encode()


A, B = data("a"), data("b")


@pytest.mark.parametrize(
    ("raw", "found"),
    [
        (b"data: " + A + b"\n\ndata: " + B + b"\n\n", "ab"),
        (b"data:" + A + b"\r\n\r\n", "a"),
        (b": comment\n\n\n\nevent: x\ndata: " + A + b"\nid: 3\n\n", "a"),
        (b": " + B + b"\n\ndata: " + A + b"\n\n: ping\n\n", "a"),
        (b"retry: 3\n\nother " + B + b"\n\ndata: " + A + b"\n\n", "a"),
        (b"data: " + A.replace(b" ", b"\ndata: ") + b"\n\n", "a"),
        (b"data: " + A, "a"),
        (b"data: " + A + b"\n", "a"),
        (b"data:   " + A + b"\n\n", "a"),
        (b"\n" * 1000 + b"data: " + A + b"\n\n", "a"),
        (b"", ""),
    ],
)
def test_framing(raw: bytes, found: str) -> None:
    assert letters(raw) == found
    assert letters(*(raw[i : i + 1] for i in range(len(raw)))) == found
    assert letters(raw.replace(b"\r", b"").replace(b"\n", b"\r\n")) == found


@given(st.lists(st.integers(0, 400)), st.text(max_size=20), st.text(max_size=20))
def test_the_cut_of_the_chunks_does_not_matter(cuts: list[int], reasoning: str, content: str) -> None:
    raw = (
        b": hi\r\n\r\n"
        + piece(reasoning=reasoning)
        + piece(content=content)
        + piece(finish="stop")
        + USAGE_PIECE
        + DONE
    )
    edges = [0, *sorted(cut % len(raw) for cut in cuts), len(raw)]
    whole = gather(*(raw[a:b] for a, b in pairwise(edges)))
    assert whole == gather(raw)
    message = whole["choices"][0]["message"]
    assert (message.get("reasoning", ""), message.get("content", "")) == (reasoning, content)
    assert whole["usage"] == USAGE


def test_pieces_become_one_reply() -> None:
    whole = gather(
        piece(role="assistant", content=None), piece(reasoning_content="be"), piece(reasoning_content="cause"),
        piece(content="4"), piece(content="2"), piece(finish="length"), USAGE_PIECE, DONE,
    )  # fmt: skip
    reply = reply_of(whole)
    assert (reply.split, reply.finish, reply.model) == (
        ("because", "42", "reasoning_content"),
        "length",
        "fake",
    )
    assert reply.usage.completion_tokens == 20


def test_typed_parts_and_details_are_gathered() -> None:
    thinking = [{"type": "thinking", "thinking": [{"type": "text", "text": "because"}]}]
    assert reply_of(gather(piece(content=thinking), piece(content="4"), piece(content="2", finish="stop"))).split == (
        "because", "42", "content_list")  # fmt: skip
    details = [{"type": "reasoning.text", "text": "because"}]
    assert (
        reply_of(gather(piece(reasoning_details=details), piece(content="42", finish="stop"))).split.reasoning
        == "because"
    )


def test_only_the_first_choice_counts() -> None:
    other = event({"choices": [{"index": 1, "delta": {"content": "no"}, "finish_reason": "length"}]})
    assert reply_of(gather(other, piece(content="42", finish="stop"), other)).split.answer == "42"


@pytest.mark.parametrize(
    "odd",
    [
        {"choices": "x"}, {"choices": ["x"]}, {"choices": [{"delta": "x"}]}, {"choices": [{"delta": None}]}, {},
        {"choices": [{"delta": {"content": 7, "reasoning": {}}, "index": "0"}]}, {"choices": None, "usage": "x"},
    ],
)  # fmt: skip
def test_odd_pieces_are_passed_over(odd: Any) -> None:
    chunks = (
        event(odd),
        piece(content="4"),
        event(odd),
        piece(content="2"),
        piece(finish="stop"),
        event(odd),
        DONE,
    )
    assert reply_of(gather(*chunks)).split.answer == "42"
    assert reply_of(gather(b"".join(chunks))).split.answer == "42"


@pytest.mark.parametrize(
    ("chunks", "error_class"),
    [
        ([piece(content="4")], "cut_stream"),
        ([piece(content="4"), DONE], "cut_stream"),
        ([], "cut_stream"),
        ([b"data: {not json\n\n"], "malformed"),
        ([b"data: [1]\n\n"], "malformed"),
        ([b"data: " + b"[" * 200_000 + b"\n\n"], "malformed"),
    ],
)
def test_streams_without_an_end(chunks: list[bytes], error_class: str) -> None:
    with pytest.raises(Refusal) as caught:
        gather(*chunks)
    assert caught.value.error_class == error_class


@pytest.mark.parametrize(
    "error", [{"error": {"message": "x", "code": 502}}, {"object": "error", "message": "x", "code": 502}]
)
def test_an_error_event_is_classified_by_its_code(error: dict[str, Any]) -> None:
    with pytest.raises(Refusal) as caught:
        reply_of(gather(piece(content="4"), event(error)))
    assert (caught.value.error_class, caught.value.message) == ("overload", "x")


def test_what_came_so_far_is_there_before_the_end() -> None:
    gathered = Gathered()
    gathered.feed(piece(content="4"))
    assert gathered.begun
    assert not gathered.finished
    gathered.feed(piece(content="2", finish="stop"))
    assert gathered.finished
    assert reply_of(gathered.whole()).split.answer == "42"


def test_an_event_of_the_name_error_is_an_error() -> None:
    for said in (b'{"message": "x", "code": 502}', b'{"error": {"message": "x", "code": 502}}'):
        with pytest.raises(Refusal) as caught:
            reply_of(gather(piece(content="4"), b"event: error\ndata: " + said + b"\n\n"))
        assert (caught.value.error_class, caught.value.message) == ("overload", "x")
    with pytest.raises(Refusal) as caught:
        reply_of(gather(b"event: error\ndata: it broke\n\n"))
    assert (caught.value.error_class, caught.value.message) == ("server", "it broke")


def test_an_error_that_is_a_text() -> None:
    with pytest.raises(Refusal) as caught:
        reply_of(gather(piece(content="4"), event({"error": "CUDA out of memory"})))
    assert (caught.value.error_class, caught.value.message) == ("server", "CUDA out of memory")


def test_finish_reason_error_is_no_answer() -> None:
    with pytest.raises(Refusal) as caught:
        reply_of(gather(piece(content="4"), piece(finish="error"), DONE))
    assert caught.value.error_class == "server"


def test_usage_of_a_stream_that_broke_is_told() -> None:
    with pytest.raises(Refusal) as caught:
        reply_of(gather(piece(content="4"), USAGE_PIECE, event({"error": {"code": 502}})))
    assert caught.value.usage is not None
    assert caught.value.usage.completion_tokens == USAGE["completion_tokens"]


def test_groqs_usage() -> None:
    last = {"choices": [{"delta": {}, "finish_reason": "stop"}], "x_groq": {"usage": USAGE}}
    assert reply_of(gather(piece(content="42"), event(last))).usage.completion_tokens == 20


def test_who_answered_is_what_the_first_events_say() -> None:
    first = {"model": "", "id": "a", "choices": []}
    second = {"model": "m", "id": "b", "provider": "p", "choices": [{"delta": {"content": "4"}}]}
    last = {"model": "n", "choices": [{"delta": {}, "finish_reason": "stop", "native_finish_reason": "eos"}]}
    reply = reply_of(gather(event(first), event(second), event(last), DONE))
    assert (reply.model, dict(reply.extras)) == (
        "m",
        {"id": "a", "provider": "p", "native_finish_reason": "eos"},
    )


def test_any_field_of_reasoning_is_gathered() -> None:
    reply = reply_of(
        gather(piece(thinking="be"), piece(thinking="cause"), piece(content="42", finish="stop"))
    )
    assert reply.split == ("because", "42", "thinking")


def test_several_answers_are_counted() -> None:
    other = event({"model": "m", "choices": [{"index": 2, "delta": {"content": "no"}}]})
    assert reply_of(gather(piece(content="42", finish="stop"), other, DONE)).choices == 3


def test_logprobs_are_kept_raw_where_asked_for() -> None:
    def chunk(content: str, logprobs: Any, finish: str | None = None) -> bytes:
        choice = {"index": 0, "delta": {"content": content}, "logprobs": logprobs, "finish_reason": finish}
        return event({"model": "m", "choices": [choice]})

    said = [{"content": [{"token": t, "logprob": -1.0}]} for t in "421"]
    chunks = (chunk("4", said[0]), chunk("2", said[1]), chunk("", None), chunk("1", said[2], "stop"), DONE)
    found = reply_of(gather(*chunks, logprobs=True)).logprobs
    assert [msgspec.json.decode(x) if isinstance(x, msgspec.Raw) else x for x in found] == said
    assert reply_of(gather(b"".join(chunks))).logprobs is None


def test_what_follows_the_end_is_not_read() -> None:
    assert (
        reply_of(gather(piece(content="42", finish="stop") + DONE + b"data: {not json\n\n")).split.answer
        == "42"
    )
    gathered = Gathered()
    assert not gathered.feed(piece(content="42", finish="stop"))
    assert gathered.feed(DONE)


@pytest.mark.parametrize(
    ("start", "kind"),
    [
        (b"", "UNKNOWN"), (b"\n \n", "UNKNOWN"), (BOM[:1], "UNKNOWN"), (BOM, "UNKNOWN"), (b"dat", "UNKNOWN"),
        (b"data:", "STREAM"), (b"\n\ndata: x", "STREAM"), (BOM + b"\nevent: x", "STREAM"), (b": ping", "STREAM"),
        (b"id:", "STREAM"), (b"retry: 3", "STREAM"), (b"<html>", "TEXT"), (b"{", "TEXT"), (b"date", "TEXT"),
        (BOM + b"{", "TEXT"), (b"\xef\xbb\xbe", "TEXT"),
    ],
)  # fmt: skip
def test_what_a_body_begins_with(start: bytes, kind: str) -> None:
    found, rest = opening(start)
    assert found is Opening[kind]
    assert start.endswith(rest)
    at_once, piecewise = opening(start)[1], b""
    for byte in start:
        piecewise = opening(piecewise + bytes([byte]))[1]
    assert piecewise == at_once


DELTAS = st.lists(
    st.fixed_dictionaries({}, optional={f: st.text(max_size=4) | st.none() for f in ("content", "reasoning")})
)


@given(DELTAS, st.lists(st.sampled_from([b"", b": ping\n\n", b"\n", b"event: x\nid: 1\n"]), min_size=1))
def test_noise_between_the_events_does_not_matter(deltas: list[dict[str, Any]], noise: list[bytes]) -> None:
    pieces = [*(piece(**delta) for delta in deltas), piece(content="!", finish="stop"), USAGE_PIECE]
    noisy = b"".join(noise[i % len(noise)] + one for i, one in enumerate(pieces))
    said = {field: "".join(delta.get(field) or "" for delta in deltas) for field in ("content", "reasoning")}
    said["content"] += "!"
    for whole in (gather(b"".join(pieces)), gather(noisy)):
        message = whole["choices"][0]["message"]
        assert {field: message.get(field, "") for field in said} == said
        assert whole["usage"] == USAGE


def test_one_long_line_is_linear() -> None:
    line = event({"choices": [{"delta": {"content": "x" * 4_000_000}, "finish_reason": "stop"}]})
    whole = gather(*(line[i : i + 16384] for i in range(0, len(line), 16384)))
    assert len(json.dumps(whole)) > 4_000_000
