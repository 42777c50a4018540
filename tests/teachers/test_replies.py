"""The error table, row by row, and what counts as a usable answer."""

from __future__ import annotations

import json
from typing import Any

import pytest
from fake_teacher import completion

from r1distill.teachers.refusals import RULES, Action, Refusal, refusal
from r1distill.teachers.replies import Reply, decode_json, parse_reply, reply_of, usage_of

STOP, RETRY, FINAL = Action.STOP, Action.RETRY, Action.FINAL


def body(message: str = "no", **fields: Any) -> dict[str, Any]:
    return {"error": {"message": message, **fields}}


TABLE: list[tuple[int, Any, Action, str]] = [
    # status, body, what to do, class
    (400, body(code="context_length_exceeded"), FINAL, "context_length"),
    (400, body("This model's maximum context length is 4096 tokens"), FINAL, "context_length"),
    (400, body("the request exceeds the available context size. try increasing"), FINAL, "context_length"),
    (400, body("The input is longer than the model's context length"), FINAL, "context_length"),
    (413, body("input tokens exceed the configured limit"), FINAL, "context_length"),
    (400, body(code="unsupported_parameter", param="logprobs"), STOP, "refused_parameter"),
    (400, body("Unsupported value: 'temperature'", code="unsupported_value"), STOP, "refused_parameter"),
    (400, body("something else"), STOP, "refused_request"),
    (400, {"error": {"code": "content_filter", "status": 400, "innererror": {}}}, FINAL, "content_filter"),
    (403, body("flagged by moderation"), FINAL, "content_filter"),
    (400, body("ServiceQuotaExceededException"), RETRY, "server"),
    (401, body("Incorrect API key"), STOP, "key"),
    (403, body("forbidden"), STOP, "key"),
    (402, body("Insufficient Balance"), STOP, "quota"),
    (402, body("pay"), STOP, "money"),
    (402, body(code="in_flight_budget_exhausted"), RETRY, "overload"),
    (404, body("no such model"), STOP, "not_found"),
    (405, body(), STOP, "refused_request"),
    (408, body(), RETRY, "timeout"),
    (409, body(), RETRY, "overload"),
    (413, body("payload too large"), FINAL, "invalid_item"),
    (422, {"detail": [{"msg": "field required"}]}, FINAL, "invalid_item"),
    (422, {"detail": [{"msg": "Extra inputs are not permitted"}]}, STOP, "refused_parameter"),
    (424, body("ModelErrorException"), RETRY, "server"),
    (425, body(), RETRY, "overload"),
    (429, body("slow down", code="rate_limit_exceeded", type="requests"), RETRY, "rate"),
    (429, body("You exceeded your current quota", code="insufficient_quota"), STOP, "quota"),
    (429, body("no", type="insufficient_quota"), STOP, "quota"),
    (429, body("no", code="billing_hard_limit_reached"), STOP, "quota"),
    (498, body("capacity"), RETRY, "overload"),
    (500, body(), RETRY, "server"),
    (502, "<html>Bad gateway</html>", RETRY, "overload"),
    (503, None, RETRY, "overload"),
    (504, body(), RETRY, "timeout"),
    (520, body(), RETRY, "server"),
    (524, body(), RETRY, "timeout"),
    (529, body("overloaded"), RETRY, "overload"),
    (302, "it redirects to https://elsewhere/", STOP, "redirect"),
    (418, body(), STOP, "refused_request"),
    (400, ["odd"], STOP, "refused_request"),
    (400, {"error": "plain text"}, STOP, "refused_request"),
]  # fmt: skip


@pytest.mark.parametrize(("status", "said", "action", "error_class"), TABLE)
def test_rules(status: int, said: Any, action: Action, error_class: str) -> None:
    found = refusal(status, said, 3.0)
    assert (found.action, found.error_class, found.status) == (action, error_class, status)


def test_every_rule_is_reached_by_the_table() -> None:
    reached = {
        (refusal(status, said).action, refusal(status, said).error_class) for status, said, _, _ in TABLE
    }
    assert {(rule.action, rule.error_class) for rule in RULES} <= reached


def test_the_message_is_what_the_teacher_said() -> None:
    assert refusal(400, body("because")).message == "because"
    assert refusal(400, {"detail": "why"}).message == "why"
    assert refusal(400, {"error": "plain"}).message == "plain"
    assert refusal(500, None).message == "None"


def refused(reply: Any) -> Refusal:
    with pytest.raises(Refusal) as caught:
        parse_reply(reply if isinstance(reply, bytes) else json.dumps(reply).encode())
    return caught.value


@pytest.mark.parametrize(
    ("reply", "action", "error_class"),
    [
        (b"", RETRY, "malformed"),
        (b"   \n\n", RETRY, "malformed"),
        (b"<html>", RETRY, "malformed"),
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
    ("cost", "known"), [(0.25, 0.25), (0, 0.0), (-1, None), ("1", None), (True, None), (None, None)]
)
def test_the_teachers_own_cost(cost: Any, known: float | None) -> None:
    assert reply_of(completion("42", usage={"cost": cost})).cost_usd == known


def test_an_answer_cut_before_its_first_word_is_kept_as_cut() -> None:
    reply = parse_reply(json.dumps(completion("", finish="length")).encode())
    assert (reply.finish, reply.split.reasoning, reply.split.answer) == ("length", "", "")
