"""Server-sent events: framing at any cut, gathering, and streams that go wrong."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterable
from itertools import pairwise
from typing import Any

import pytest
from fake_teacher import DONE, USAGE, USAGE_PIECE, event, piece
from hypothesis import given
from hypothesis import strategies as st

from r1distill.teachers.refusals import Refusal
from r1distill.teachers.replies import reply_of
from r1distill.teachers.stream import Gathered, collect, events


async def chunks_of(chunks: Iterable[bytes]) -> AsyncIterator[bytes]:
    for chunk in chunks:
        yield chunk


def read(*chunks: bytes) -> list[bytes]:
    async def run() -> list[bytes]:
        return [data async for data in events(chunks_of(chunks))]

    return asyncio.run(run())


def gather(*chunks: bytes, into: Gathered | None = None) -> dict[str, Any]:
    return asyncio.run(collect(chunks_of(chunks), into))


@pytest.mark.parametrize(
    ("raw", "found"),
    [
        (b"data: a\n\ndata: b\n\n", [b"a", b"b"]),
        (b"data:a\r\n\r\n", [b"a"]),
        (b": comment\n\n\n\nevent: x\ndata: a\nid: 3\n\n", [b"a"]),
        (b"data: a\ndata: b\n\n", [b"a\nb"]),
        (b"data: a", [b"a"]),
        (b"data: a\n", [b"a"]),
        (b"data:  a\n\n", [b" a"]),
        (b"", []),
    ],
)
def test_framing(raw: bytes, found: list[bytes]) -> None:
    assert read(raw) == found
    assert read(*(raw[i : i + 1] for i in range(len(raw)))) == found


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
    assert (message["reasoning"], message["content"], whole["usage"]) == (reasoning, content, USAGE)


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
    [{"choices": "x"}, {"choices": ["x"]}, {"choices": [{"delta": "x"}]}, {"choices": [{"delta": None}]}, {}],
)
def test_odd_pieces_are_passed_over(odd: Any) -> None:
    assert (
        reply_of(gather(event(odd), piece(content="42"), piece(finish="stop"), event(odd), DONE)).split.answer
        == "42"
    )


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


def test_what_came_so_far_survives_a_broken_connection() -> None:
    async def broken() -> AsyncIterator[bytes]:
        yield piece(content="42", finish="stop")
        raise OSError("gone")

    gathered = Gathered()
    with pytest.raises(OSError, match="gone"):
        asyncio.run(collect(broken(), gathered))
    assert gathered.finished
    assert reply_of(gathered.whole()).split.answer == "42"


def test_one_long_line_is_linear() -> None:
    line = event({"choices": [{"delta": {"content": "x" * 4_000_000}, "finish_reason": "stop"}]})
    whole = gather(*(line[i : i + 16384] for i in range(0, len(line), 16384)))
    assert len(json.dumps(whole)) > 4_000_000
