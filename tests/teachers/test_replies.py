"""What counts as a usable answer, and what is read of it."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from fake_teacher import completion
from hypothesis import given
from hypothesis import strategies as st

from r1distill.records import Usage
from r1distill.teachers.logprobs import decode
from r1distill.teachers.plain_logprobs import Plain
from r1distill.teachers.refusals import Action, Refusal
from r1distill.teachers.replies import BOM, Reply, decode_json, parse_reply, reply_of, usage_of

STOP, RETRY, FINAL = Action.STOP, Action.RETRY, Action.FINAL


def refused(reply: Any) -> Refusal:
    with pytest.raises(Refusal) as caught:
        parse_reply(reply if isinstance(reply, bytes) else json.dumps(reply).encode())
    return caught.value


@pytest.mark.parametrize(
    ("reply", "action", "error_class"),
    [
        (b"", RETRY, "malformed"),
        (b"   \n\n", RETRY, "malformed"),
        (b"<html>", RETRY, "no_api"),
        (b"\n" * 5000 + b"<html>", RETRY, "no_api"),
        (b"[" * 200_000, RETRY, "malformed"),
        (b'{"a":' + b"[" * 200_000, RETRY, "malformed"),
        ([1], RETRY, "malformed"),
        ({}, RETRY, "empty"),
        ({"choices": []}, RETRY, "empty"),
        ({"choices": None}, RETRY, "empty"),
        ({"choices": ["x"]}, RETRY, "empty"),
        ({"choices": [{"finish_reason": "stop"}]}, RETRY, "empty"),
        (completion(None), RETRY, "empty"),
        (completion("  \n"), RETRY, "empty"),
        (completion("part", finish="error"), RETRY, "server"),
        (completion("part", finish="insufficient_system_resource"), RETRY, "server"),
        (completion(None, finish="content_filter"), FINAL, "content_filter"),
        ({"error": {"message": "x", "code": 429}}, RETRY, "rate"),
        ({"error": {"message": "x", "code": "429"}}, RETRY, "rate"),
        ({"error": {"message": "x", "code": "insufficient_quota"}}, STOP, "quota"),
        ({"error": {"message": "x", "code": "invalid_api_key"}}, STOP, "key"),
        ({"error": {"message": "x", "code": "context_length_exceeded"}}, FINAL, "context_length"),
        ({"error": {"message": "x", "code": 200}}, RETRY, "server"),
        ({"error": "x", "choices": []}, RETRY, "server"),
    ],
)  # fmt: skip
def test_replies_without_an_answer(reply: Any, action: Action, error_class: str) -> None:
    found = refused(reply)
    assert (found.action, found.error_class) == (action, error_class)


def parsed(reply: dict[str, Any]) -> Reply:
    return parse_reply(json.dumps(reply).encode())


@pytest.mark.parametrize(
    ("said", "finish"),
    [
        ("stop", "stop"), ("eos", "stop"), ("length", "length"), ("max_tokens", "length"), ("content_filter", "content_filter"),
        ("repetition", "repetition"), ("tool_calls", "tool_calls"), (None, "unknown"), ("something new", "unknown"),
    ],
)  # fmt: skip
def test_finish_reasons(said: str | None, finish: str) -> None:
    assert parsed(completion("42", finish=said)).finish == finish


def test_a_cut_reasoning_is_an_answer_not_an_error() -> None:
    reply = parsed(completion(None, finish="length", reasoning="first I"))
    assert (reply.split.reasoning, reply.split.answer, reply.finish) == ("first I", "", "length")


def test_blank_lines_before_the_json_are_keep_alives() -> None:
    assert parse_reply(b"\n\n\n" + json.dumps(completion("42")).encode()).split.answer == "42"


@pytest.mark.parametrize(
    ("raw", "answer"),
    [
        (b'"a\\ud83d\\ude00b"', "a😀b"),
        (b'"a\\ud800b"', "a\ufffdb"),
        (b'"a\xffb"', "a\ufffdb"),
        (b'"\\ud83d"', "\ufffd"),
    ],
)
def test_broken_characters_cost_no_answer(raw: bytes, answer: str) -> None:
    text = json.dumps(completion("@@")).encode().replace(b'"@@"', raw)
    assert parse_reply(text).split.answer == answer
    decode_json(raw).encode()  # it can be written as UTF-8


@pytest.mark.parametrize(
    ("usage", "counts"),
    [
        (None, (None, None, None, None)),
        ("x", (None, None, None, None)),
        ({"prompt_tokens": 1, "completion_tokens": 2}, (1, 2, None, None)),
        ({"prompt_tokens": 1, "completion_tokens": 2, "completion_tokens_details": {"reasoning_tokens": 3},
          "prompt_tokens_details": {"cached_tokens": 4}}, (1, 2, 3, 4)),
        ({"prompt_tokens": 1, "completion_tokens": 2, "prompt_cache_hit_tokens": 5, "prompt_tokens_details": {},
          "reasoning_tokens": 6}, (1, 2, 6, 5)),
        ({"prompt_tokens": -1, "completion_tokens": True, "prompt_tokens_details": None}, (None, None, None, None)),
        ({"prompt_tokens": 10**30, "completion_tokens": 2.5}, (None, None, None, None)),
    ],
)  # fmt: skip
def test_usage(usage: Any, counts: tuple[int | None, ...]) -> None:
    found = usage_of(usage)
    assert (
        found.prompt_tokens,
        found.completion_tokens,
        found.reasoning_tokens,
        found.cached_tokens,
    ) == counts


@pytest.mark.parametrize(
    ("cost", "known"),
    [
        (0.25, 0.25),
        (0, 0.0),
        (-1, None),
        ("1", None),
        (True, None),
        (None, None),
        (10**400, None),
        (float("inf"), None),
        (float("nan"), None),
        (1e7, None),
    ],
)
def test_the_teachers_own_cost(cost: Any, known: float | None) -> None:
    assert reply_of(completion("42", usage={"cost": cost})).cost_usd == known


def test_an_answer_cut_before_its_first_word_is_kept_as_cut() -> None:
    reply = parse_reply(json.dumps(completion("", finish="length")).encode())
    assert (reply.finish, reply.split.reasoning, reply.split.answer) == ("length", "", "")


def test_an_error_beside_a_broken_choice_says_why() -> None:
    broken = {**completion("part", finish="error"), "error": {"message": "upstream died", "code": 529}}
    found = refused(broken)
    assert (found.action, found.error_class, found.message) == (RETRY, "overload", "upstream died")
    inside = completion("part", finish="error")
    inside["choices"][0]["error"] = {"message": "upstream died", "code": 529}
    assert refused(inside).error_class == "overload"


@pytest.mark.parametrize(
    ("reply", "usage", "maybe_billed"),
    [
        (completion("", usage={"prompt_tokens": 1, "completion_tokens": 2}), Usage(1, 2), False),
        (completion("x", finish="abort", usage={"prompt_tokens": 1, "completion_tokens": 2}), Usage(1, 2), False),
        (completion("", usage=None), None, True),
        (completion("", usage={"prompt_tokens": 1}), None, True),
        (b'{"choices": [{"mess', None, True),
        (b"", None, True),
        (b"\n \n", None, True),
        (b"data: {", None, True),
        (b"<html>login</html>", None, False),
        (b"Not found", None, False),
        ({}, None, True),
        ({"error": {"message": "x", "code": 503}}, None, False),
    ],
)  # fmt: skip
def test_what_a_thrown_away_reply_may_have_cost(reply: Any, usage: Usage | None, maybe_billed: bool) -> None:
    found = refused(reply)
    assert (found.usage, found.maybe_billed) == (usage, maybe_billed)


def test_the_teachers_own_cost_of_a_thrown_away_reply_is_told() -> None:
    usage = {"prompt_tokens": 1, "completion_tokens": 2, "cost": 0.25}
    assert refused(completion("", usage=usage)).cost_usd == 0.25
    assert refused({"error": {"message": "x"}, "usage": {"cost": 0.5}}).cost_usd == 0.5
    assert refused(completion("", usage={"cost": 10**400})).cost_usd is None
    assert refused(completion("", usage=None)).cost_usd is None


@pytest.mark.parametrize(
    ("body", "error_class", "message"),
    [
        (b"<!doctype html><html><title>Log\n in</title>x</html>", "no_api", "The reply is no JSON: an HTML page: Log in"),
        (BOM + b"\n Not \x1b[31m found", "no_api", "The reply is no JSON: Not [31m found"),
        (b'{"choices": [{"mess', "malformed", 'The reply is no JSON: {"choices": [{"mess'),
        (BOM, "malformed", "The reply is an empty body"),
    ],
)  # fmt: skip
def test_what_is_no_json_is_shown_in_short(body: bytes, error_class: str, message: str) -> None:
    found = refused(body)
    assert (found.action, found.error_class, found.message) == (RETRY, error_class, message)
    assert len(refused(b"word " * 10_000).message) < 200


@pytest.mark.parametrize("blank", [b"", b"\n"])
def test_a_byte_order_mark_is_passed_over(blank: bytes) -> None:
    body = BOM + blank + json.dumps(completion("42")).encode()
    assert parse_reply(body).split.answer == "42"
    assert parse_reply(body.replace(b'"42"', b'"4\xff"')).split.answer == "4\ufffd"


def test_extras_name_the_route() -> None:
    reply = completion("42")
    reply |= {"id": "gen-1", "provider": "Together", "system_fingerprint": "fp", "other": "x"}
    reply["choices"][0] |= {"native_finish_reason": "eos", "seed": 7}
    assert parsed(reply).extras == {
        "id": "gen-1", "provider": "Together", "system_fingerprint": "fp", "native_finish_reason": "eos", "seed": 7,
    }  # fmt: skip


def test_extras_hold_nothing_odd() -> None:
    odd = completion("42") | {"id": None, "provider": {"a": 1}, "system_fingerprint": "x" * 10_000}
    odd["choices"][0] |= {"native_finish_reason": "", "seed": True}
    assert parsed(odd).extras == {}


def test_a_summary_is_kept_apart() -> None:
    details = [{"type": "reasoning.summary", "summary": "It multiplies."}]
    assert parsed(completion("42", reasoning_details=details)).extras["reasoning_summary"] == "It multiplies."


LOGPROBS = {"content": [{"token": "42", "logprob": -0.5, "bytes": [52, 50]}]}


def test_logprobs_stay_raw() -> None:
    reply = completion("42")
    reply["choices"][0]["logprobs"] = LOGPROBS
    found = parsed(reply).logprobs
    assert isinstance(found, msgspec.Raw)
    assert msgspec.json.decode(found) == LOGPROBS


def test_logprobs_of_the_usual_shape_are_decoded_in_one_pass() -> None:
    entry = {"token": "a", "logprob": -0.5, "bytes": [97]}
    said = {"content": [{**entry, "top_logprobs": [entry, {**entry, "logprob": -2.0}]}] * 3}
    reply = completion("42")
    reply["choices"][0]["logprobs"] = said
    found = parsed(reply).logprobs
    assert isinstance(found, Plain)
    assert [len(token.top_logprobs) for token in found.wire.content] == [2, 2, 2]
    assert msgspec.json.decode(found.again()) == said
    half = {**entry, "token": "\N{REPLACEMENT CHARACTER}", "bytes": [226]}
    reply["choices"][0]["logprobs"] = {"content": [{**half, "top_logprobs": [half]}]}
    record = decode(parsed(reply).logprobs, 1)
    assert record is not None and record.token_list() == [b"\xe2"]  # its bytes were read


def test_logprobs_of_an_odd_reply_come_decoded() -> None:
    reply = completion("42")
    reply["choices"] = [{**reply["choices"][0], "logprobs": LOGPROBS}, "x"]
    found = parsed(reply)
    assert (found.logprobs, found.split.answer, found.choices) == (LOGPROBS, "42", 2)


@pytest.mark.parametrize("nothing", [None, {}, []])
def test_no_logprobs(nothing: Any) -> None:
    reply = completion("42")
    reply["choices"][0]["logprobs"] = nothing
    found = parsed(reply).logprobs
    assert found is None or msgspec.json.decode(found) == nothing
    assert parsed(completion("42")).logprobs is None


def test_answers_are_counted() -> None:
    reply = completion("42")
    reply["choices"] *= 3
    assert parsed(reply).choices == 3


def test_reasoning_counted_apart_is_added() -> None:
    usage = {
        "prompt_tokens": 1,
        "completion_tokens": 2,
        "completion_tokens_details": {"reasoning_tokens": 30},
    }
    body = json.dumps(completion("42", usage=usage)).encode()
    assert parse_reply(body, reasoning_apart=True).usage.completion_tokens == 32
    assert parse_reply(body).usage.completion_tokens == 2


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3) | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)
FIELDS = ("choices", "usage", "model", "error", "id", "provider", "system_fingerprint")
IN_CHOICE = ("message", "finish_reason", "logprobs", "seed", "error", "native_finish_reason")
ODD_CHOICE = st.fixed_dictionaries({}, optional=dict.fromkeys(IN_CHOICE, JSON)) | JSON
ODD_REPLY = st.fixed_dictionaries(
    {}, optional={**dict.fromkeys(FIELDS, JSON), "choices": st.lists(ODD_CHOICE, max_size=2) | JSON}
)


@given(ODD_REPLY)
def test_the_quick_way_reads_what_the_tolerant_one_reads(reply: dict[str, Any]) -> None:
    def outcome(read: Callable[[], Reply]) -> Any:
        try:
            return read()._replace(logprobs=None)
        except Refusal as found:
            return (found.action, found.error_class, found.message, found.usage, found.maybe_billed)

    body = json.dumps(reply).encode()
    assert outcome(lambda: parse_reply(body)) == outcome(lambda: reply_of(decode_json(body)))
