"""A teacher that misbehaves on order: a real HTTP server on a free port of 127.0.0.1, in a thread of its own.

    with FakeTeacher(lambda request: answer("42", reasoning="6 * 7")) as teacher:
        ...                      # teacher.base_url, teacher.requests, teacher.peak

What it does is a function of the request, or a list: one action per request in order of arrival, the last one for all
that follow. An action is a `Act`: made by `answer`, `streamed`, `error`, `raw`, ... below. Nothing hangs for ever: a
held answer is let go after HOLD_S at most.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

HOLD_S = 20.0


@dataclass(frozen=True)
class Request:
    """One request as it arrived."""

    number: int
    path: str
    headers: dict[str, str]
    body: dict[str, Any]
    at: float = 0.0
    """When it had arrived, on time.monotonic's clock."""

    @property
    def text(self) -> str:
        """The last message."""
        return str(self.body["messages"][-1]["content"])

    @property
    def slot(self) -> str:
        """What tells one wanted answer from another: model, last message, and the seed, if the recipe sets one."""
        return f"{self.body['model']}|{self.text}|{self.body.get('seed')}"


@dataclass(frozen=True)
class Act:
    """What is written back, byte for byte, and what happens around it."""

    chunks: tuple[bytes, ...] = ()
    delay_s: float = 0.0
    hold: bool = False
    """Write `chunks`, then wait until `release` or HOLD_S, then write `rest`."""
    rest: tuple[bytes, ...] = ()
    reset: bool = False
    """Cut the connection with a TCP reset at the end."""
    keep_alive: bool = False
    gap_s: float = 0.0
    """Pause after each of `chunks`."""


Script = Callable[[Request], Act] | Sequence[Act] | Act


@dataclass
class FakeTeacher:
    """The server; use as a context manager."""

    script: Script
    host: str = "127.0.0.1"
    requests: list[Request] = field(default_factory=list)
    peak: int = 0
    """Most requests that were under way at the same time."""

    def __enter__(self) -> FakeTeacher:
        self._running = 0
        self._lock = threading.Lock()
        self._loop = asyncio.new_event_loop()
        self._released: asyncio.Event | None = None
        started = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(started,), daemon=True)
        self._thread.start()
        assert started.wait(10)
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Stop listening and cut all connections; closing again does nothing."""
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._end.set)
            self._thread.join(10)

    def _run(self, started: threading.Event) -> None:
        async def serve() -> None:
            self._released, self._end = asyncio.Event(), asyncio.Event()
            server = await asyncio.start_server(self._connection, self.host, 0, backlog=512)
            self.port = server.sockets[0].getsockname()[1]
            started.set()
            await self._end.wait()
            server.close()
            open_connections = asyncio.all_tasks() - {asyncio.current_task()}
            for task in open_connections:
                task.cancel()
            await asyncio.gather(*open_connections, return_exceptions=True)

        self._loop.run_until_complete(serve())
        self._loop.close()

    @property
    def base_url(self) -> str:
        return f"http://{self.host}:{self.port}/v1"

    @property
    def count(self) -> int:
        """Requests that arrived."""
        return len(self.requests)

    def release(self) -> None:
        """Let all held answers go, also those that come later."""
        assert self._released is not None
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._released.set)

    def wait_for(self, count: int, timeout_s: float = 20.0) -> None:
        """Block until `count` requests arrived."""
        with self._arrived:
            assert self._arrived.wait_for(lambda: len(self.requests) >= count, timeout_s), (
                f"{self.count} of {count}"
            )

    def __post_init__(self) -> None:
        self._arrived = threading.Condition()
        self._running = 0

    @property
    def per_slot(self) -> Counter[str]:
        """How many requests each wanted answer took."""
        return Counter(request.slot for request in self.requests)

    def settle(self, quiet_s: float = 0.05, timeout_s: float = 10.0) -> None:
        """Block until nothing is under way and nothing new has come for `quiet_s`: what a killed client sent is counted."""
        ends, count, since = time.monotonic() + timeout_s, self.count, time.monotonic()
        while self._running or time.monotonic() - since < quiet_s:
            assert time.monotonic() < ends, "the server does not come to rest"
            time.sleep(0.005)
            if self._running or self.count != count:
                count, since = self.count, time.monotonic()

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while await self._one(reader, writer):
                pass
        except (OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass  # the client went away, or the server ends
        finally:
            with contextlib.suppress(OSError):
                writer.close()

    async def _one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        first, *lines = head.split("\r\n")
        headers = {k.strip().lower(): v.strip() for k, _, v in (line.partition(":") for line in lines) if k}
        data = await reader.readexactly(int(headers.get("content-length", 0)))
        with self._arrived:
            request = Request(
                len(self.requests), first.split()[1], headers, json.loads(data or b"{}"), time.monotonic()
            )
            self.requests.append(request)
            self._running += 1
            self.peak = max(self.peak, self._running)
            self._arrived.notify_all()
        try:
            act = self._act(request)
            await self._perform(act, writer)
        finally:
            self._running -= 1
        return act.keep_alive

    def _act(self, request: Request) -> Act:
        if isinstance(self.script, Act):
            return self.script
        if callable(self.script):
            return self.script(request)
        return self.script[min(request.number, len(self.script) - 1)]

    async def _perform(self, act: Act, writer: asyncio.StreamWriter) -> None:
        if act.delay_s:
            await asyncio.sleep(act.delay_s)
        for chunk in act.chunks:
            writer.write(chunk)
            await writer.drain()
            if act.gap_s:
                await asyncio.sleep(act.gap_s)
        if act.hold:
            assert self._released is not None
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._released.wait(), HOLD_S)
        for chunk in act.rest:
            writer.write(chunk)
            await writer.drain()
        if act.reset:
            sock = writer.get_extra_info("socket")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            writer.transport.abort()


def http(
    status: int, body: bytes, kind: str = "application/json", length: int | None = None, **headers: str
) -> bytes:
    """A whole HTTP answer; header names are written with _ for -."""
    lines = [f"HTTP/1.1 {status} Status", f"Content-Type: {kind}"]
    lines += [f"Content-Length: {len(body) if length is None else length}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode() + body


USAGE = {"prompt_tokens": 10, "completion_tokens": 20}


def completion(
    content: Any = "42",
    *,
    finish: str | None = "stop",
    usage: dict[str, Any] | None = USAGE,
    model: str = "fake",
    **message: Any,
) -> dict[str, Any]:
    """A chat completion object; `message` holds further fields of the message (reasoning=...)."""
    made: dict[str, Any] = {
        "id": "x", "object": "chat.completion", "created": 0, "model": model,
        "choices": [{"index": 0, "finish_reason": finish, "message": {"role": "assistant", "content": content, **message}}],
    }  # fmt: skip
    return made if usage is None else {**made, "usage": usage}


def raw(body: bytes, status: int = 200, kind: str = "application/json", **headers: str) -> Act:
    """A whole answer with this body; the connection stays open."""
    return Act((http(status, body, kind, **headers),), keep_alive=True)


def answer(content: Any = "42", *, delay_s: float = 0.0, hold: bool = False, **more: Any) -> Act:
    """A normal answer; see `completion`. `hold`: only after `release`."""
    made = http(200, json.dumps(completion(content, **more)).encode())
    if hold:
        return Act(hold=True, rest=(made,), keep_alive=True)
    return Act((made,), delay_s=delay_s, keep_alive=True)


def error(status: int, message: str = "no", code: Any = None, type: str | None = None, **headers: str) -> Act:
    """An error status with a body as OpenAI writes it."""
    body = {"error": {"message": message, "code": code, "type": type, "param": None}}
    return raw(json.dumps(body).encode(), status, **headers)


def event(data: Any) -> bytes:
    """One server-sent event."""
    return b"data: " + (data if isinstance(data, bytes) else json.dumps(data).encode()) + b"\n\n"


def piece(finish: str | None = None, **delta: Any) -> bytes:
    """One chunk of a streamed answer."""
    return event({"model": "fake", "choices": [{"index": 0, "delta": delta, "finish_reason": finish}]})


STREAM_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n"
DONE = event(b"[DONE]")
USAGE_PIECE = event({"model": "fake", "choices": [], "usage": USAGE})


def streamed(*chunks: bytes, **how: Any) -> Act:
    """A stream of these chunks, ended by closing the connection."""
    return Act((STREAM_HEAD, *chunks), **how)


def stream_answer(content: str = "42", reasoning: str = "", field: str = "reasoning") -> Act:
    """A whole streamed answer, letter by letter, with comments and blank lines in between."""
    chunks = [b": keep-alive\n\n", piece(role="assistant", content="")]
    chunks += [piece(**{field: letter}) for letter in reasoning]
    chunks += [b"\n\n", *(piece(content=letter) for letter in content)]
    return streamed(*chunks, piece(finish="stop"), USAGE_PIECE, DONE)


def cut_body() -> Act:
    """A body that ends before its Content-Length."""
    body = json.dumps(completion()).encode()
    return Act((http(200, body[: len(body) // 2], length=len(body)),))


def hang() -> Act:
    """No answer at all until `release`."""
    return Act(hold=True)


def reset() -> Act:
    """A TCP reset instead of an answer."""
    return Act(reset=True)


def by_attempt(act: Callable[[Request, int], Act]) -> Callable[[Request], Act]:
    """A script whose second argument says the how-many-th request for the same answer this is, from 1."""
    seen: Counter[str] = Counter()

    def script(request: Request) -> Act:
        seen[request.slot] += 1
        return act(request, seen[request.slot])

    return script


def first_attempt(fault: Act | Callable[[Request], Act], then: Act) -> Callable[[Request], Act]:
    """Every answer fails once in this way, and comes at the second attempt."""

    def act(request: Request, attempt: int) -> Act:
        if attempt > 1:
            return then
        return fault(request) if callable(fault) else fault

    return by_attempt(act)


def slow_json(before_s: float, gap_s: float = 0.05) -> Act:
    """Blank lines for `before_s`, then a whole answer, as DeepSeek keeps a connection alive."""
    head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\n\r\n"
    blanks = [b"\n"] * int(before_s / gap_s)
    return Act((head, *blanks), gap_s=gap_s, rest=(json.dumps(completion(reasoning="because")).encode(),))


def slow_stream(before_s: float, gap_s: float = 0.05) -> Act:
    """Comments and blank lines for `before_s`, then a whole answer, as DeepSeek and OpenRouter keep a stream alive."""
    waits = [b": keep-alive\n\n", b"\n", b": OPENROUTER PROCESSING\n\n"] * int(before_s / gap_s / 3 + 1)
    return Act(
        (STREAM_HEAD, *waits),
        gap_s=gap_s,
        rest=(piece(reasoning="because"), piece(content="42"), piece(finish="stop"), USAGE_PIECE, DONE),
    )


def stall(stream: bool) -> Act:
    """Part of an answer, then silence until `release`."""
    if stream:
        return Act((STREAM_HEAD, piece(content="4")), hold=True)
    body = json.dumps(completion()).encode()
    return Act((http(200, body[: len(body) // 2], length=len(body)),), hold=True)
