"""Log-probabilities of a reply: every shape, hostile objects, streams, and where the reasoning ends."""

from __future__ import annotations

import json
import math
import struct
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from r1distill.logprobs.tokens import TokenLogprobs, position_of_reasoning_end
from r1distill.teachers.logprobs import Gathering, decode, read_logprobs
from r1distill.thinking import SPELLINGS, Split

VALUES = st.one_of(st.floats(-9000, 0, allow_nan=False), st.just(-9999.0), st.integers(-50, 0))
ENTRIES = st.tuples(st.binary(max_size=6), VALUES)
ANSWERS = st.lists(st.tuples(ENTRIES, st.lists(ENTRIES, max_size=4)), min_size=1, max_size=90)


def entry(name: bytes, value: float, **more: Any) -> dict[str, Any]:
    return {"token": name.decode("utf-8", "replace"), "logprob": value, "bytes": list(name), **more}


def content(answer: Any) -> list[dict[str, Any]]:
    return [entry(*one, top_logprobs=[entry(*other) for other in others]) for one, others in answer]


def half(value: float) -> float:
    return struct.unpack("<e", struct.pack("<e", value))[0] if value > -9999 else -math.inf


def of_texts(*texts: str) -> TokenLogprobs:
    record = decode({"content": [{"token": text, "logprob": -0.5} for text in texts]}, 0)
    assert record is not None
    return record


@settings(deadline=None)
@given(ANSWERS, st.sampled_from(["raw", "object", "msgspec", "stream", "gathered"]))
def test_what_goes_in_comes_out(answer: Any, way: str) -> None:
    items = content(answer)
    raw: Any = {"content": items, "refusal": None}
    if way == "raw":
        raw = json.dumps(raw).encode()
    elif way == "msgspec":
        raw = msgspec.Raw(json.dumps(raw).encode())
    elif way == "stream":
        raw = [b"null", *(json.dumps({"content": [item]}).encode() for item in items), None]
    elif way == "gathered":
        raw = Gathering()
        for item in items:
            raw.add(json.dumps({"content": [item]}).encode())
    record = decode(raw, 4)
    assert record is not None
    # where a server tells no bytes of a token that has a text, its text stands for them; here both are empty
    assert record.token_list() == [name for (name, _), _ in answer]
    assert record.logprobs() == [half(value) for (_, value), _ in answer]
    assert record.alternative_lists() == [
        [(name, half(value)) for name, value in others] for _, others in answer
    ]
    assert len(record) == len(answer)
    assert record.k == max(len(others) for _, others in answer)
    assert ("fewer" in record.notes) == (record.k < 4)


def test_token_lists_of_together_and_of_older_endpoints() -> None:
    raw = {
        "tokens": ["<think>", "ä"],
        "token_ids": [7, 151667],
        "token_logprobs": [-1, None],
        "top_logprobs": [{"<think>": -1, "Well": -2.5}, None],
        "text_offset": [0, 7],
    }
    for shape in (raw, json.dumps(raw).encode()):
        record = decode(shape, 2)
        assert record is not None
        assert record.token_list() == [b"<think>", "ä".encode()]
        assert record.token_ids() == [7, 151667]
        assert record.logprobs() == [-1.0, -math.inf]
        assert record.alternative_lists() == [[(b"<think>", -1.0), (b"Well", -2.5)], []]
        assert record.notes == ("missing",)
    bare = decode({"tokens": ["a"], "token_logprobs": [-1.5]}, 0)
    assert bare is not None
    assert (bare.token_list(), bare.logprobs(), bare.token_ids()) == ([b"a"], [-1.5], None)


def test_tokens_spelled_as_ids() -> None:
    items = [
        {
            "token": "token_id:40",
            "logprob": -0.5,
            "bytes": [73],
            "top_logprobs": [entry(b"token_id:41", -2.0)],
        },
        {"token": "token_id:0", "logprob": -0.5, "bytes": None, "top_logprobs": []},
    ]
    record = decode({"content": items}, 1)
    assert record is not None
    assert record.token_ids() == [40, 0]
    assert record.token_list() == [b"I", b"token_id:0"]
    assert record.alternative_lists() == [[(b"token_id:41", -2.0)], []]
    assert record.notes == ("token_ids",)
    for strange in ("token_id:", "token_id:99999999999", "token_id:x", "token_id:-1"):
        other = decode({"content": [{"token": strange, "logprob": -1}]}, 0)
        assert other is not None
        assert other.token_ids() is None


def test_strange_values_are_kept_sensibly_and_noted() -> None:
    raw = b'{"content":[%s]}' % b",".join(
        b'{"token":"a","logprob":%s}' % value
        for value in (b"-Infinity", b"NaN", b"null", b"1e-7", b"0.5", b"-1e300", b"-9999.0", b"-0.0")
    )
    record = decode(raw, 0)
    assert record is not None
    assert record.logprobs() == [-math.inf] * 3 + [0.0, 0.0, -math.inf, -math.inf, 0.0]
    assert record.notes == ("missing", "positive")
    alone = decode({"content": [{"token": "a", "logprob": math.nan}]}, 0)
    assert alone is not None
    assert alone.logprobs() == [-math.inf]


def test_replacement_characters_are_noted() -> None:
    assert of_texts("a\ufffd").notes == ("replaced",)
    stray = decode(b'{"content":[{"token":"\xff","logprob":-1}]}', 0)  # no UTF-8: the patient way
    assert stray is not None
    assert stray.notes == ("replaced",)
    exact = decode({"content": [entry(b"\xe2\x80", -1.0)]}, 0)
    assert exact is not None
    assert (exact.token_list(), exact.notes) == ([b"\xe2\x80"], ())


@pytest.mark.parametrize(
    "raw", [None, b"null", {}, b"{}", {"content": None}, {"content": []}, {"tokens": []}, [], ()]
)
def test_nothing_given(raw: Any) -> None:
    assert read_logprobs(raw, 5) == (None, "not given")


@pytest.mark.parametrize(
    "raw",
    [
        b"", b"{", b"17", b'"x"', 17, "x", [17], b"[" * 100_000, b'{"content":17}', b'{"content":[17]}', b'{"content":[null]}',
        b'{"content":[{"token":3,"logprob":-1}]}', b'{"content":[{"token":"a","logprob":"x"}]}',
        b'{"content":[{"token":"a","logprob":-1,"bytes":[256]}]}', b'{"content":[{"token":"a","logprob":-1,"bytes":[-1]}]}',
        b'{"content":[{"token":"a","logprob":-1,"bytes":[%s]}]}' % (b"9" * 40),
        b'{"content":[{"token":"a","logprob":-1,"top_logprobs":{}}]}',
        {"content": [{"token": "a" * 70_000, "logprob": -1}]}, {"content": [{"token": "a", "logprob": -(10**400)}]},
        {"tokens": ["a", "b"], "token_logprobs": [-1]}, {"tokens": ["a"], "token_logprobs": None},
        {"tokens": ["a"], "token_logprobs": [-1], "top_logprobs": [{}, {}]},
        {"tokens": ["a"], "token_logprobs": [-1], "top_logprobs": [[1]]},
    ],
)  # fmt: skip
def test_malformed_objects_give_a_reason(raw: Any) -> None:
    record, reason = read_logprobs(raw, 5)
    assert record is None
    assert reason.startswith("malformed: ")
    assert len(reason) < 250
    assert decode(raw, 5, Split("", "x", "none")) is None


def test_one_malformed_event_spoils_a_stream() -> None:
    good = b'{"content":[{"token":"a","logprob":-1}]}'
    assert decode([good, good], 0) is not None
    assert read_logprobs([good, b'{"content":[7]}', good], 0)[1].startswith("malformed")


JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.text(max_size=3) | st.integers(),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                [
                    "content",
                    "token",
                    "logprob",
                    "bytes",
                    "top_logprobs",
                    "tokens",
                    "token_logprobs",
                    "token_ids",
                ]
            ),
            inner,
            max_size=4,
        )
    ),
)


@given(JSON)
def test_no_object_is_an_error(value: Any) -> None:
    assert read_logprobs(value, 3) is not None
    assert read_logprobs(json.dumps(value).encode(), 3) is not None


@given(st.binary(max_size=60))
def test_no_bytes_are_an_error(raw: bytes) -> None:
    assert read_logprobs(raw, 3) is not None
    assert read_logprobs(b'{"content":[{"token":"' + raw + b'","logprob":-1}]}', 3) is not None


@pytest.mark.parametrize(
    ("tokens", "source", "reasoning", "answer", "ends", "found"),
    [
        (["<think>", "\n", "so", " 2", "\n</", "think", ">\n\n", "2"], "inline", "so 2", "2", 7, "inline tag"),
        (["so", " 2", "</think>", "\n\n", "2", "<|im_end|>"], "reasoning", "so 2", "2", 3, "inline tag"),
        (["<think>", "so", "</think>", "2"], "reasoning", "SO mended", "2", 3, "inline tag"),
        (["<think>", "\n\n", "</think>", "\n\n", "2"], "none", "", "2", 3, "inline tag"),
        (["so", " 2", "</think>"], "reasoning", "so 2", "", 3, "inline tag"),
        (["so", "\n\n", "it", " is", " 2"], "reasoning_content", "so", "it is 2", 1, "text match"),
        (["so", " it", "⟂⟂", "2", "!"], "reasoning_content", "so it", "2!", 3, "text match"),
        (["<think>", "so", " 2", " and"], "unclosed", "so 2 and", "", 4, "text match"),
        (["s", "\ufffd", "\ufffd", " 2", "2", "!"], "reasoning_content", "sä 2", "2!", 4, "text match"),
        (["The", " answer", " is 2", "<|im_end|>"], "reasoning_content", "hm, is it 2?", "The answer is 2", 0, "content only"),
        (["4", " apples"], "reasoning", "4", "4 apples", 0, "content only"),
        ([" 2", "\n"], "none", "", "2", 0, "content only"),
        (["other", " words"], "none", "", "2", 0, "content only"),
        (["2"], "summary", "", "2", 0, "content only"),
        (["other", " words"], "reasoning", "so", "2", None, "unknown"),
        (["token_id:3", "token_id:4"], "reasoning", "so", "2", None, "unknown"),
    ],
)  # fmt: skip
def test_where_the_reasoning_ends(
    tokens: list[str], source: str, reasoning: str, answer: str, ends: int | None, found: str
) -> None:
    assert position_of_reasoning_end(of_texts(*tokens), source, reasoning, answer) == (ends, found)
    items = {"content": [{"token": text, "logprob": -0.5} for text in tokens]}
    record = decode(items, 0, Split(reasoning, answer, source))
    assert record is not None
    assert (record.reasoning_ends, record.reasoning_found) == (ends, found)


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_every_spelling_of_the_closing_tag(spelling: Any) -> None:
    record = of_texts(spelling.opener, "so", " it", spelling.closer, "\n", "2", "!")
    assert position_of_reasoning_end(record, "inline", "so it", "2!") == (4, "inline tag")


@given(st.text("a <>/thinkä\n", max_size=40), st.text("a <>/thinkä\n", max_size=20), st.integers(1, 5))
def test_the_position_never_depends_on_how_tokens_are_cut(reasoning: str, answer: str, width: int) -> None:
    text = f"<think>\n{reasoning}\n</think>\n\n{answer}"
    whole = text.encode()
    coarse = [whole[at : at + width] for at in range(0, len(whole), width)]
    fine = [whole[at : at + 1] for at in range(len(whole))]
    ends = []
    for cut in (coarse, fine):
        record = decode({"content": [entry(name, -0.5) for name in cut]}, 0)
        assert record is not None
        ends.append(position_of_reasoning_end(record, "inline", reasoning.strip(), answer.strip()))
    assert ends[0].found == ends[1].found
    if ends[1].tokens is not None:
        assert ends[0].tokens == -(-ends[1].tokens // width)
