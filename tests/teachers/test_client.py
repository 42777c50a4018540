"""The HTTP lane against a real server that misbehaves."""

from __future__ import annotations

import asyncio
import base64
import gzip
import json
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
from fake_teacher import (
    DONE,
    STREAM_HEAD,
    Act,
    FakeTeacher,
    Script,
    answer,
    completion,
    cut_body,
    error,
    event,
    hang,
    piece,
    raw,
    reset,
    stream_answer,
    streamed,
)

from r1distill.errors import LockedError, StopRunError
from r1distill.teachers import transport
from r1distill.teachers.client import ChatClient, Endpoint, encoded
from r1distill.teachers.refusals import Action, Refusal
from r1distill.teachers.replies import Reply

KEY = "sk-proj-abcdefghijklmnopqrstuvwx"
BODY = {"messages": [{"role": "user", "content": "6 * 7?"}], "temperature": 0.5}


def ask(
    base_url: str,
    *,
    stream: bool = False,
    idle_s: float = 5,
    total_s: float = 10,
    count: int = 1,
    **endpoint: Any,
) -> Any:
    """The outcomes of `count` requests at once (the only one itself for one): Reply or Refusal."""

    async def one(client: ChatClient) -> Reply | Refusal:
        try:
            return await client.ask(BODY)
        except Refusal as refused:
            return refused

    async def run() -> list[Reply | Refusal]:
        where = Endpoint(base_url, KEY, "m", **endpoint)
        async with ChatClient(where, idle_timeout_s=idle_s, total_timeout_s=total_s, stream=stream) as client:
            return list(await asyncio.gather(*(one(client) for _ in range(count))))

    outcomes = asyncio.run(run())
    return outcomes if count > 1 else outcomes[0]


def ask_fake(script: Script, **how: Any) -> Any:
    with FakeTeacher(script) as teacher:
        outcome = ask(teacher.base_url, **how)
        teacher.release()
    return outcome


def test_what_is_sent() -> None:
    with FakeTeacher(answer("42", reasoning="6 * 7")) as teacher:
        reply = ask(teacher.base_url, extra_body={"provider": {"only": ["x"]}, "model": "other"})
    assert reply.split == ("6 * 7", "42", "reasoning")
    (request,) = teacher.requests
    assert request.path == "/v1/chat/completions"
    assert request.headers["authorization"] == f"Bearer {KEY}"
    assert request.body == {**BODY, "model": "m", "provider": {"only": ["x"]}}


def test_what_is_sent_for_a_stream() -> None:
    with FakeTeacher(stream_answer("42", "6 * 7")) as teacher:
        reply = ask(teacher.base_url, stream=True)
    assert reply.split == ("6 * 7", "42", "reasoning")
    assert reply.usage.completion_tokens == 20
    assert teacher.requests[0].body == {
        **BODY,
        "model": "m",
        "stream": True,
        "stream_options": {"include_usage": True},
    }


def test_the_environment_of_openai_is_not_sent_to_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-other")
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("OPENAI_ORG_ID", "org-mine")
    monkeypatch.setenv("OPENAI_PROJECT_ID", "proj-mine")
    monkeypatch.setenv(
        "OPENAI_CUSTOM_HEADERS", "authorization: Bearer sk-other\nX-Mine: secret\nHost: elsewhere"
    )
    with FakeTeacher(answer("42")) as teacher:
        ask(teacher.base_url)
    headers = teacher.requests[0].headers
    assert headers["authorization"] == f"Bearer {KEY}"
    assert headers["host"] == teacher.base_url.split("/")[2]
    assert headers["content-type"] == "application/json"
    assert not {"openai-organization", "openai-project", "x-mine", "idempotency-key", "cookie"} & set(headers)


def test_each_request_has_its_own_body_and_the_same_headers() -> None:
    with FakeTeacher(answer("42")) as teacher:

        async def run() -> None:
            where = Endpoint(teacher.base_url, KEY, "m")
            async with ChatClient(where, idle_timeout_s=5, total_timeout_s=5, stream=False) as client:
                await asyncio.gather(*(client.ask({**BODY, "seed": seed}) for seed in range(20)))
                await client.ask({**BODY, "seed": 20})

        asyncio.run(run())
    assert sorted(request.body["seed"] for request in teacher.requests) == list(range(21))
    lengths = {int(request.headers.pop("content-length")) for request in teacher.requests}
    assert len(lengths) == 2
    assert all(request.headers == teacher.requests[0].headers for request in teacher.requests)


def test_the_key_may_travel_in_a_header_of_its_own() -> None:
    with FakeTeacher(answer("42")) as teacher:
        ask(teacher.base_url, key_header="api-key")
    assert teacher.requests[0].headers["api-key"] == KEY
    assert "authorization" not in teacher.requests[0].headers


@pytest.mark.parametrize("said", ["max_tokens", "max_completion_tokens"])
def test_the_ceiling_is_called_what_the_endpoint_calls_it(said: str) -> None:
    sent = encoded({**BODY, said: 7}, Endpoint("", KEY, "m", ceiling_key="max_completion_tokens"), False)
    assert json.loads(sent) == {**BODY, "model": "m", "max_completion_tokens": 7}
    assert json.loads(encoded({**BODY, said: 7}, Endpoint("", KEY, "m"), False))[said] == 7


def test_what_json_can_hardly_hold_is_sent_all_the_same() -> None:
    odd = {"messages": [{"role": "user", "content": "half \ud800 pair"}], "seed": 1 << 70}
    assert json.loads(encoded(odd, Endpoint("", KEY, "m"), False)) == {**odd, "model": "m"}


def test_reasoning_counted_apart() -> None:
    usage = {"prompt_tokens": 1, "completion_tokens": 2, "reasoning_tokens": 30}
    for stream in (False, True):
        reply = ask_fake(answer("42", usage=usage), stream=stream, reasoning_apart=True)
        assert reply.usage.completion_tokens == 32


def test_an_endpoint_that_must_stream_is_asked_for_a_stream() -> None:
    with FakeTeacher(stream_answer("42")) as teacher:
        assert ask(teacher.base_url, must_stream=True).split.answer == "42"
    assert teacher.requests[0].body["stream"] is True


@pytest.mark.parametrize(
    ("act", "stream"),
    [
        (raw(json.dumps(completion("42")).encode(), X_Left="7"), False),
        (raw(json.dumps(completion("42")).encode(), X_Left="7"), True),
        (error(429, X_Left="7"), False),
        (error(429, X_Left="7"), True),
        (error(500, X_Left="7"), False),
    ],
)
def test_headers_are_heard_with_every_answer(act: Act, stream: bool) -> None:
    heard: list[str | None] = []

    async def run(base_url: str) -> None:
        where, times = Endpoint(base_url, KEY, "m"), {"idle_timeout_s": 5.0, "total_timeout_s": 5.0}
        async with ChatClient(
            where, **times, stream=stream, on_headers=lambda h: heard.append(h.get("x-left"))
        ) as client:
            with suppress(Refusal):
                await client.ask(BODY)

    with FakeTeacher(act) as teacher:
        asyncio.run(run(teacher.base_url))
    assert heard == ["7"]


@pytest.mark.parametrize(
    ("act", "stream", "maybe_billed"),
    [
        (cut_body(), False, True), (reset(), False, True), (error(500), False, False), (error(429), True, False),
        (hang(), False, True), (Act((STREAM_HEAD, piece(content="4"))), True, True), (Act((STREAM_HEAD,)), True, True),
        (streamed(piece(content="4"), event({"error": {"code": 502}})), True, True),
        (streamed(event({"error": {"code": 502}})), True, False),
    ],
)  # fmt: skip
def test_what_may_have_been_billed(act: Act, stream: bool, maybe_billed: bool) -> None:
    assert ask_fake(act, stream=stream, total_s=0.5).maybe_billed is maybe_billed


def test_a_request_that_was_never_sent_is_not_billed() -> None:
    assert ask("http://127.0.0.1:9/v1").maybe_billed is False


def test_tokens_of_a_thrown_away_answer_are_told() -> None:
    assert ask_fake(answer("")).usage.completion_tokens == 20


def test_a_compressed_answer_is_read() -> None:
    body = gzip.compress(json.dumps(completion("42")).encode())
    assert ask_fake(raw(body, Content_Encoding="gzip")).split.answer == "42"
    body = gzip.compress(json.dumps({"error": {"message": "because"}}).encode())
    assert ask_fake(raw(body, 400, Content_Encoding="gzip")).message == "because"


def test_keep_alives_are_no_silence() -> None:
    lines = b"\n\n\n" + json.dumps(completion("42")).encode()
    assert ask_fake(raw(lines)).split.answer == "42"
    pings = [b": ping\n\n"] * 300
    assert (
        ask_fake(streamed(*pings, piece(content="42", finish="stop"), DONE), stream=True).split.answer == "42"
    )


def test_the_proxy_of_the_environment_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    with FakeTeacher(answer("42")) as proxy:
        for name in ("HTTP_PROXY", "http_proxy"):
            monkeypatch.setenv(name, proxy.base_url.removesuffix("/v1"))
        assert ask("http://teacher.invalid/v1").split.answer == "42"
        assert proxy.requests[0].path == "http://teacher.invalid/v1/chat/completions"
        for name in ("NO_PROXY", "no_proxy"):
            monkeypatch.setenv(name, "teacher.invalid")
        assert ask("http://teacher.invalid/v1").error_class == "unreachable"
    assert proxy.count == 1


def test_a_proxy_that_can_not_be_used_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "http_proxy"):
        monkeypatch.setenv(name, "socks5://127.0.0.1:9")
    with pytest.raises(StopRunError, match="socks5"):
        ask("http://teacher.invalid/v1")


def test_a_stream_that_is_done_gives_its_connection_back() -> None:
    connections = 0
    body = piece(content="42", finish="stop") + DONE
    answer_ = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
    answer_ += b"%x\r\n%s\r\n" % (len(body), body)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        with suppress(asyncio.IncompleteReadError, OSError):
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                await reader.readexactly(int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0]))
                writer.write(answer_)
                await writer.drain()
                await asyncio.sleep(0.01)  # the end comes in a packet of its own
                writer.write(b"0\r\n\r\n")
        writer.close()

    async def run() -> None:
        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        where = Endpoint(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1", KEY, "m")
        async with ChatClient(where, idle_timeout_s=5, total_timeout_s=5, stream=True) as client:
            for _ in range(3):
                assert (await client.ask(BODY)).split.answer == "42"
        server.close()

    asyncio.run(run())
    assert connections == 1


def test_our_own_server_is_not_asked_through_a_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    assert isinstance(ask_fake(answer("42"), local=True), Reply)
    assert isinstance(ask_fake(answer("42"), local=False), Refusal)


def test_more_than_a_hundred_requests_at_once() -> None:
    with FakeTeacher(answer("42", hold=True)) as teacher:

        async def run() -> list[Reply]:
            async with ChatClient(
                Endpoint(teacher.base_url, KEY, "m"), idle_timeout_s=20, total_timeout_s=20, stream=False
            ) as client:
                asked = asyncio.gather(*(client.ask(BODY) for _ in range(150)))
                await asyncio.to_thread(teacher.wait_for, 150)
                teacher.release()
                return list(await asked)

        assert len(asyncio.run(run())) == 150
    assert teacher.peak == 150


NO_FINISH = Act((STREAM_HEAD, piece(content="4")))
FAULTS: list[tuple[str, Act, bool, Action, str]] = [
    ("cut body", cut_body(), False, Action.RETRY, "network"),
    ("reset", reset(), False, Action.RETRY, "network"),
    ("500", error(500), False, Action.RETRY, "server"),
    ("502 page", raw(b"<html>Bad gateway</html>", 502, "text/html"), False, Action.RETRY, "overload"),
    ("529", error(529), False, Action.RETRY, "overload"),
    ("401", error(401, f"Incorrect API key provided: {KEY}"), False, Action.STOP, "key"),
    ("402", error(402), False, Action.STOP, "money"),
    ("404", error(404), False, Action.STOP, "not_found"),
    ("quota", error(429, code="insufficient_quota"), False, Action.STOP, "quota"),
    ("context", error(400, code="context_length_exceeded"), False, Action.FINAL, "context_length"),
    ("200 error", raw(b'{"error": {"message": "x", "code": 503}}'), False, Action.RETRY, "overload"),
    ("malformed", raw(b'{"choices": [{"mess'), False, Action.RETRY, "malformed"),
    ("no choices", raw(b'{"choices": []}'), False, Action.RETRY, "empty"),
    ("stream cut", NO_FINISH, True, Action.RETRY, "cut_stream"),
    ("stream reset", Act((STREAM_HEAD, piece(content="4")), reset=True), True, Action.RETRY, "cut_stream"),
    (
        "stream error",
        streamed(piece(content="4"), event({"error": {"code": 502}})),
        True,
        Action.RETRY,
        "overload",
    ),
    ("stream 401", error(401, KEY), True, Action.STOP, "key"),
    ("stream 429", error(429, Retry_After="3"), True, Action.RETRY, "rate"),
    ("stream json error", raw(b'{"error": {"message": "x", "code": 429}}'), True, Action.RETRY, "rate"),
]


@pytest.mark.parametrize(
    ("act", "stream", "action", "error_class"), [f[1:] for f in FAULTS], ids=[f[0] for f in FAULTS]
)
def test_faults(act: Act, stream: bool, action: Action, error_class: str) -> None:
    refused = ask_fake(act, stream=stream)
    assert (refused.action, refused.error_class) == (action, error_class)
    assert KEY not in refused.message
    assert KEY[-8:] not in refused.message


def test_one_request_is_one_request() -> None:
    with FakeTeacher(error(500)) as teacher:
        ask(teacher.base_url)
    assert teacher.count == 1


def test_retry_after_is_read() -> None:
    assert ask_fake(error(429, Retry_After="7")).wait_s == 7
    assert ask_fake(error(503, Retry_After_Ms="250")).wait_s == 0.25


def test_a_redirect_is_not_followed_and_the_key_stays_here() -> None:
    with FakeTeacher(answer("42"), host="127.0.0.2") as elsewhere:
        place = elsewhere.base_url + "/chat/completions?token=hunter22"
        for status in (301, 302, 307, 308):
            refused = ask_fake(raw(b"", status, Location=place))
            assert (refused.action, refused.error_class) == (Action.STOP, "redirect")
            assert "127.0.0.2" in refused.message
            assert "hunter22" not in refused.message
    assert elsewhere.count == 0


@pytest.mark.parametrize("stream", [False, True])
def test_nothing_listens(stream: bool) -> None:
    refused = ask("http://127.0.0.1:9/v1", stream=stream)
    assert (refused.action, refused.error_class) == (Action.RETRY, "unreachable")
    assert refused.message == "connection refused"


def test_unreachable_is_said_only_of_an_endpoint_that_never_answered() -> None:
    with FakeTeacher([answer("42"), hang()]) as teacher:

        async def run() -> str:
            where = Endpoint(teacher.base_url, KEY, "m")
            async with ChatClient(where, idle_timeout_s=5, total_timeout_s=5, stream=False) as client:
                await client.ask(BODY)
                await asyncio.to_thread(teacher.close)
                try:
                    await client.ask(BODY)
                except Refusal as refused:
                    return refused.error_class
            return "answered"

        assert asyncio.run(run()) == "network"


@pytest.mark.parametrize("stream", [False, True])
def test_a_hanging_server_ends_at_the_total_timeout(stream: bool) -> None:
    refused = ask_fake(hang(), stream=stream, total_s=0.1)
    assert (refused.action, refused.error_class) == (Action.RETRY, "timeout")


def test_a_silent_stream_ends_at_the_idle_timeout() -> None:
    refused = ask_fake(Act((STREAM_HEAD, piece(content="4")), hold=True), stream=True, idle_s=0.1)
    assert (refused.action, refused.error_class) == (Action.RETRY, "timeout")


@pytest.mark.parametrize("times", [{"idle_s": 0.1}, {"total_s": 0.1}])
def test_a_whole_answer_survives_a_stream_that_does_not_end(times: dict[str, float]) -> None:
    act = Act((STREAM_HEAD, piece(content="42"), piece(finish="stop")), hold=True)
    assert ask_fake(act, stream=True, **times).split.answer == "42"


def test_a_server_that_can_not_stream_is_understood() -> None:
    assert ask_fake(answer("42", reasoning_content="because"), stream=True).split.reasoning == "because"


def test_an_end_without_done_is_an_end() -> None:
    assert ask_fake(streamed(piece(content="42", finish="stop")), stream=True).split.answer == "42"
    assert ask_fake(streamed(piece(content="42", finish="stop"), DONE), stream=True).split.answer == "42"


# --- answers that no document describes


def whole(head: str, body: bytes = b"x") -> Act:
    """An answer with this status line and these headers, whatever they hold."""
    lines = f"HTTP/1.1 {head}\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    return Act((lines.encode("utf-8", "surrogateescape") + body,))


HOSTILE: list[tuple[str, Act, str]] = [
    ("header in UTF-8", whole("500 X\r\nX-Msg: \u4f59\u989d\u4e0d\u8db3"), "server"),
    ("header of stray bytes", whole("429 X\r\nX-Msg: \udcff\udcfe\r\nRetry-After: \udcff"), "rate"),
    ("a place that is none", whole("302 X\r\nLocation: http://[::1"), "redirect"),
    ("a place in Chinese", whole("302 X\r\nLocation: http://\u4f59\u989d/x"), "redirect"),
    ("a place beyond all ports", whole("302 X\r\nLocation: http://h:99999999/x"), "redirect"),
    ("charset hex", whole("500 X\r\nContent-Type: text/html; charset=hex"), "server"),
    ("charset base64", whole("500 X\r\nContent-Type: application/json; charset=base64", b"\xff"), "server"),
    ("charset idna", whole("500 X\r\nContent-Type: text/html; charset=idna", b"<html>\xff..abc"), "server"),
    ("charset unknown", whole("500 X\r\nContent-Type: text/html; charset=x\udcff", b"\xff"), "server"),
    ("a deep error", whole("500 X", b"[" * 100_000), "server"),
    ("broken chunks", Act((b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nabc",)), "network"),
    ("no HTTP", Act((b"hello world\r\n\r\n",)), "network"),
    ("no gzip", whole("200 OK\r\nContent-Encoding: gzip", b"no gzip at all"), "network"),
]  # fmt: skip


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(("act", "error_class"), [h[1:] for h in HOSTILE], ids=[h[0] for h in HOSTILE])
def test_whatever_an_answer_holds_it_is_one_refusal(act: Act, error_class: str, stream: bool) -> None:
    assert ask_fake(act, stream=stream).error_class == error_class


def test_a_page_in_its_own_charset_is_read() -> None:
    page = "<html><title>G\u00fcltigkeit</title></html>".encode("latin-1")
    said = ask_fake(raw(page, 503, "text/html; charset=iso-8859-1")).message
    assert said == "an HTML page: G\u00fcltigkeit"


async def ask_hearing(base_url: str, on_headers: Callable[[Any], None]) -> Any:
    where = Endpoint(base_url, KEY, "m")
    async with ChatClient(
        where, idle_timeout_s=5, total_timeout_s=5, stream=False, on_headers=on_headers
    ) as client:
        return await client.ask(BODY)


def test_any_error_of_foreign_code_is_a_refusal() -> None:
    def broken(_: Any) -> None:
        raise AssertionError(f"no such codec: {KEY}")

    with FakeTeacher(answer("42")) as teacher, pytest.raises(Refusal) as caught:
        asyncio.run(ask_hearing(teacher.base_url, broken))
    refused = caught.value
    assert (refused.action, refused.error_class, refused.maybe_billed) == (Action.RETRY, "malformed", True)
    assert "AssertionError: no such codec" in refused.message
    assert KEY not in refused.message


def test_our_own_errors_pass() -> None:
    def locked(_: Any) -> None:
        raise LockedError("locked")

    with FakeTeacher(answer("42")) as teacher, pytest.raises(LockedError):
        asyncio.run(ask_hearing(teacher.base_url, locked))


# --- proxies with a password

PASSWORD = "hunter2 secret@"
PROXY_USER = "alice:hunter2%20secret%40@"


def name_proxy(monkeypatch: pytest.MonkeyPatch, proxy: str) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy"):
        monkeypatch.setenv(name, proxy)


BASIC = f"Basic {base64.b64encode(f'alice:{PASSWORD}'.encode()).decode()}"


def test_the_password_goes_to_the_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    with FakeTeacher(answer("42")) as proxy:
        name_proxy(monkeypatch, f"http://{PROXY_USER}127.0.0.1:{proxy.port}")
        assert ask("http://teacher.invalid/v1").split.answer == "42"
        way = transport.proxy_for("http://teacher.invalid/v1")
        assert str(way.url) == f"http://127.0.0.1:{proxy.port}"
    assert proxy.requests[0].headers["proxy-authorization"] == BASIC


def test_a_proxy_that_refuses_is_told_without_its_password(monkeypatch: pytest.MonkeyPatch) -> None:
    async def run() -> Any:
        async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            assert f"Proxy-Authorization: {BASIC}\r\n" in head
            assert KEY not in head
            writer.write(b"HTTP/1.1 407 Who are you\r\nContent-Length: 0\r\n\r\n")
            writer.close()

        server = await asyncio.start_server(refuse, "127.0.0.1", 0)
        name_proxy(monkeypatch, f"http://{PROXY_USER}127.0.0.1:{server.sockets[0].getsockname()[1]}")
        where = Endpoint("https://teacher.invalid/v1", KEY, "m")
        async with ChatClient(where, idle_timeout_s=5, total_timeout_s=5, stream=False) as client:
            try:
                return await client.ask(BODY)
            except Refusal as refused:
                return refused
            finally:
                server.close()

    refused = asyncio.run(run())
    assert (refused.error_class, refused.maybe_billed) == ("unreachable", False)
    assert refused.message == "the proxy refuses: 407 Who are you"


def test_a_dead_proxy_is_named_without_its_password(monkeypatch: pytest.MonkeyPatch) -> None:
    name_proxy(monkeypatch, f"http://{PROXY_USER}127.0.0.1:9")
    assert ask("http://teacher.invalid/v1").message == "the proxy 127.0.0.1:9: connection refused"


def test_a_proxy_whose_address_is_none_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    name_proxy(monkeypatch, f"http://{PROXY_USER}[bad")
    with pytest.raises(StopRunError, match="names a proxy") as caught:
        ask("http://teacher.invalid/v1")
    assert "hunter2" not in str(caught.value)


# --- kept connections that the server has closed


class Closer:
    """A server that keeps the first connection open for one answer, then ends it as `ending` says; all others answer once."""

    def __init__(self, ending: bytes | None, reset: bool = False) -> None:
        self.ending, self.reset, self.requests, self.connections = ending, reset, 0, 0

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        first = self.connections == 1
        with suppress(asyncio.IncompleteReadError, OSError):
            await self._read(reader)
            body = json.dumps(completion("42")).encode()
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))
            await writer.drain()
            if first:
                await self._read(reader)
                writer.write(self.ending or b"")
                if self.reset:
                    writer.transport.abort()
        writer.close()

    async def _read(self, reader: asyncio.StreamReader) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        await reader.readexactly(int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0]))
        self.requests += 1

    def ask_twice(self) -> Any:
        """The outcome of the second request, which goes into the kept connection."""

        async def run() -> Any:
            server = await asyncio.start_server(self, "127.0.0.1", 0)
            where = Endpoint(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1", KEY, "m")
            async with ChatClient(where, idle_timeout_s=5, total_timeout_s=5, stream=False) as client:
                await client.ask(BODY)
                try:
                    return await client.ask(BODY)
                except Refusal as refused:
                    return refused
                finally:
                    server.close()

        return asyncio.run(run())


@pytest.mark.parametrize("reset", [False, True])
def test_a_request_into_a_connection_that_was_closed_is_sent_again(reset: bool) -> None:
    server = Closer(None, reset)
    assert isinstance(server.ask_twice(), Reply)
    assert (server.connections, server.requests) == (2, 3)


@pytest.mark.parametrize(
    "begun", [b"HTTP/1.1 2", b"HTTP/1.1 200 OK\r\nConte", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{"]
)
def test_an_answer_that_began_is_not_asked_for_again(begun: bytes) -> None:
    server = Closer(begun)
    refused = server.ask_twice()
    assert (refused.error_class, refused.maybe_billed) == ("network", True)
    assert server.requests == 2


def test_a_server_that_was_at_work_is_not_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transport, "STALE_WITHIN_S", 0.0)
    server = Closer(None)
    refused = server.ask_twice()
    assert (refused.error_class, refused.maybe_billed) == ("network", True)
    assert server.requests == 2


def test_a_server_that_closes_without_a_word_is_asked_as_often_as_one_that_keeps_open() -> None:
    body = json.dumps(completion("42")).encode()
    closes = Act((b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body),))

    async def run(base_url: str) -> None:
        where = Endpoint(base_url, KEY, "m")
        async with ChatClient(where, idle_timeout_s=5, total_timeout_s=5, stream=False) as client:
            for _ in range(50):
                assert (await client.ask(BODY)).split.answer == "42"

    with FakeTeacher(closes) as teacher:
        asyncio.run(run(teacher.base_url))
    assert teacher.count == 50


# --- answers that come from no API


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("kind", ["text/html", "application/json", "text/event-stream"])
@pytest.mark.parametrize(
    ("body", "shown"),
    [
        (b"<html><title>Please log in</title>\n\n<p>x</p></html>", "an HTML page: Please log in"),
        (b"\xef\xbb\xbf\n <!doctype html>\n\nlogin", "an HTML page: login"),
        (b"Not\n\nfound", "Not found"),
        (b"n", "n"),
    ],
)  # fmt: skip
def test_a_page_is_no_answer(body: bytes, shown: str, kind: str, stream: bool) -> None:
    refused = ask_fake(raw(body, 200, kind), stream=stream)
    assert (refused.action, refused.error_class, refused.maybe_billed) == (Action.RETRY, "no_api", False)
    assert refused.message == f"The reply is no JSON: {shown}"


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("body", [b"", b"\n\n \n"])
def test_a_body_without_a_word_may_have_been_billed(body: bytes, stream: bool) -> None:
    refused = ask_fake(raw(body), stream=stream)
    assert refused.error_class == ("cut_stream" if stream else "malformed")
    assert refused.maybe_billed


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("kind", ["text/html", "application/json", "text/event-stream"])
def test_json_is_json_whatever_it_is_called(kind: str, stream: bool) -> None:
    body = b"\xef\xbb\xbf" + json.dumps(completion("42"), indent=2).replace("\n", "\n\n").encode()
    assert ask_fake(raw(body, 200, kind), stream=stream).split.answer == "42"


@pytest.mark.parametrize("start", [b"\xef\xbb\xbf", b"\n\n", b"other line\n\n", b"retry: 3\n", b"event: x\n"])
@pytest.mark.parametrize("gap", [1, 1000])
def test_a_stream_is_a_stream_whatever_it_begins_with(start: bytes, gap: int) -> None:
    body = start + piece(content="42", finish="stop") + DONE
    chunks = [body[i : i + gap] for i in range(0, len(body), gap)]
    act = Act((STREAM_HEAD.replace(b"text/event-stream", b"application/json"), *chunks))
    assert ask_fake(act, stream=True).split.answer == "42"


def test_a_name_that_nobody_knows() -> None:
    assert ask("http://teacher.invalid/v1").message == "name not found"


def test_a_server_without_tls() -> None:
    async def run() -> Any:
        async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(b"HTTP/1.1 400 Speak TLS\r\n\r\n")
            writer.close()

        server = await asyncio.start_server(greet, "127.0.0.1", 0)
        where = Endpoint(f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1", KEY, "m")
        async with ChatClient(where, idle_timeout_s=5, total_timeout_s=5, stream=False) as client:
            with pytest.raises(Refusal, match="no TLS connection") as caught:
                await client.ask(BODY)
        server.close()
        return caught.value

    assert asyncio.run(run()).error_class == "unreachable"
