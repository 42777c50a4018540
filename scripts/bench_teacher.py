#!/usr/bin/env python3
"""A fast local teacher for bench_harvest.py, in a process of its own: a bare asyncio.Protocol with answers made beforehand.

In: one JSON object (a `Setting`) as the only argument. Out: one line {"port": N}, then POST /v1/chat/completions is
answered until stdin closes; GET /stats says what arrived. The kinds of answer are in KINDS. The limit is a token bucket
that holds one second's worth and starts full; its headers are OpenAI's
(https://platform.openai.com/docs/guides/rate-limits#rate-limits-in-headers).
"""

from __future__ import annotations

import asyncio
import json
import math
import os
import random
import re
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

CONTENT_LENGTH = re.compile(rb"(?i)\r\ncontent-length:[ \t]*([0-9]+)")
WORDS = [
    "so",
    "the",
    "sum",
    "of",
    "both",
    "is\n",
    "therefore",
    "we",
    "add",
    '"take"',
    "away",
    "x^2",
    "which",
    "again;",
    "",
]
TOKEN_CHARACTERS = 4


@dataclass(frozen=True)
class Setting:
    """What this teacher does."""

    kind: str = "plain"
    core: int | None = None
    events: int = 2600
    """Of one streamed answer."""
    events_per_write: int = 64
    """Server-sent events that leave in one write; 1 is what a slow teacher does."""
    median_s: float = 0.0
    """Median latency; lognormal with `sigma`."""
    sigma: float = 0.0
    requests_per_min: float = 0.0
    """0: no limit."""
    limit_headers: bool = True
    answer_bytes: int = 10_000
    seed: int = 1


@dataclass
class Stats:
    """What arrived so far; GET /stats."""

    requests: int = 0
    refused: int = 0
    peak: int = 0
    """Most requests that were under way at the same time."""
    first_s: float | None = None
    """When the first request arrived, on the machine's monotonic clock."""
    in_flight: int = field(default=0, repr=False)


def latencies_s(setting: Setting, count: int) -> list[float]:
    """The latencies of the first `count` requests, in the order of their arrival."""
    draw = random.Random(setting.seed)
    return [setting.median_s * math.exp(draw.gauss(0.0, setting.sigma)) for _ in range(count)]


def text(characters: int) -> str:
    """Words, `characters` long, with line breaks and quotes as answers have them."""
    draw, words, length = random.Random(7), [], 0
    while length < characters:
        words.append(draw.choice(WORDS))
        length += len(words[-1]) + 1
    return " ".join(words)[:characters]


def usage(tokens: int) -> dict[str, Any]:
    """A usage object as OpenAI's."""
    return {
        "prompt_tokens": 40, "completion_tokens": tokens, "total_tokens": 40 + tokens,
        "prompt_tokens_details": {"cached_tokens": 0}, "completion_tokens_details": {"reasoning_tokens": tokens * 4 // 5},
    }  # fmt: skip


def completion(characters: int, logprob_tokens: int = 0) -> bytes:
    """One chat completion as JSON: four fifths of it reasoning."""
    said = text(characters)
    cut = len(said) * 4 // 5
    message = {"role": "assistant", "content": said[cut:], "reasoning_content": said[:cut], "refusal": None}
    logprobs = {"content": logprob_rows(logprob_tokens), "refusal": None} if logprob_tokens else None
    choice = {"index": 0, "message": message, "logprobs": logprobs, "finish_reason": "stop"}
    tokens = characters // TOKEN_CHARACTERS
    whole = {
        "id": "chatcmpl-bench0123456789", "object": "chat.completion", "created": 1_790_000_000, "model": "bench",
        "choices": [choice], "usage": usage(tokens), "system_fingerprint": "fp_bench",
    }  # fmt: skip
    return json.dumps(whole).encode()


def logprob_rows(tokens: int, top: int = 20) -> list[dict[str, Any]]:
    """Log-probabilities of `tokens` tokens, each with its `top` alternatives."""
    draw = random.Random(8)

    def one() -> dict[str, Any]:
        word = draw.choice(WORDS) or " "
        return {"token": word, "logprob": -draw.expovariate(0.3), "bytes": list(word.encode())}

    return [{**one(), "top_logprobs": [one() for _ in range(top)]} for _ in range(tokens)]


def stream_writes(setting: Setting) -> list[bytes]:
    """The writes of one streamed answer, in chunked transfer coding."""
    about = {"id": "chatcmpl-bench0123456789", "object": "chat.completion.chunk", "created": 1_790_000_000}
    about |= {"model": "bench", "system_fingerprint": "fp_bench"}

    def event(delta: dict[str, Any] | None, finish: str | None = None, **more: Any) -> bytes:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
        return (
            b"data: "
            + json.dumps({**about, "choices": [choice] if delta is not None else [], **more}).encode()
            + b"\n\n"
        )

    said = text(setting.events * TOKEN_CHARACTERS)
    tokens = [said[i : i + TOKEN_CHARACTERS] for i in range(0, len(said), TOKEN_CHARACTERS)]
    cut = len(tokens) * 4 // 5
    events = [event({"role": "assistant", "content": ""})]
    events += [event({"reasoning_content": token}) for token in tokens[:cut]]
    events += [event({"content": token}) for token in tokens[cut:]]
    events += [event({}, "stop"), event(None, usage=usage(len(tokens))), b"data: [DONE]\n\n"]
    step = max(1, setting.events_per_write)
    parts = [b"".join(events[i : i + step]) for i in range(0, len(events), step)]
    return [b"%x\r\n%s\r\n" % (len(part), part) for part in parts] + [b"0\r\n\r\n"]


def http(body: bytes, status: str = "200 OK") -> bytes:
    """A whole HTTP answer."""
    head = f"HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


STREAM_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
KINDS: dict[str, Callable[[Setting], list[list[bytes]]]] = {
    "plain": lambda setting: [[http(completion(setting.answer_bytes))]],
    "logprobs": lambda setting: [[http(completion(2000, tokens))] for tokens in (85, 140, 250)],
    "stream": lambda setting: [[STREAM_HEAD, *stream_writes(setting)]],
}
"""Per kind of answer the writes of each one; the answers take turns."""


class Bucket:
    """A token bucket that holds one second's worth and starts full."""

    def __init__(self, requests_per_min: float) -> None:
        self.per_s = self.most = requests_per_min / 60
        self.tokens, self.at_s = self.most, time.monotonic()

    def take(self) -> bool:
        """True when the request may pass."""
        now = time.monotonic()
        self.tokens = min(self.most, self.tokens + (now - self.at_s) * self.per_s)
        self.at_s = now
        passed = self.tokens >= 1
        self.tokens -= passed
        return passed

    def headers(self) -> bytes:
        """What OpenAI would say of it."""
        reset_s = (self.most - self.tokens) / self.per_s
        said = f"x-ratelimit-limit-requests: {self.per_s * 60:.0f}\r\nx-ratelimit-remaining-requests: {int(self.tokens)}\r\n"
        return (said + f"x-ratelimit-reset-requests: {reset_s * 1000:.0f}ms\r\n").encode()


class Teacher:
    """What all connections share."""

    def __init__(self, setting: Setting, loop: asyncio.AbstractEventLoop) -> None:
        self.setting, self.loop, self.stats = setting, loop, Stats()
        self.answers = KINDS[setting.kind](setting)
        self.draw = random.Random(setting.seed)
        self.bucket = Bucket(setting.requests_per_min) if setting.requests_per_min else None

    def asked(self, connection: Connection) -> None:
        """Answer one request, now or after its latency."""
        stats, setting = self.stats, self.setting
        if stats.first_s is None:
            stats.first_s = time.monotonic()
        number, stats.requests = stats.requests, stats.requests + 1
        stats.in_flight += 1
        stats.peak = max(stats.peak, stats.in_flight)
        writes = self._limited(self.answers[number % len(self.answers)])
        if not setting.median_s:
            self._write(connection, writes, 0)
            return
        latency_s = setting.median_s * math.exp(self.draw.gauss(0.0, setting.sigma))
        self.loop.call_later(latency_s, self._write, connection, writes, 0)

    def _limited(self, writes: list[bytes]) -> list[bytes]:
        if self.bucket is None:
            return writes
        passed = self.bucket.take()
        said = self.bucket.headers() if self.setting.limit_headers else b""
        if not passed:
            self.stats.refused += 1
            body = b'{"error": {"message": "Rate limit reached", "type": "requests", "code": "rate_limit_exceeded"}}'
            writes = [http(body, "429 Too Many Requests")]
        status, rest = writes[0].split(b"\r\n", 1)
        return [status + b"\r\n" + said + rest, *writes[1:]]

    def _write(self, connection: Connection, writes: list[bytes], at: int) -> None:
        """One write a turn of the loop, so that streams are woven into each other as on a network."""
        if connection.transport.is_closing():
            self.stats.in_flight -= 1
            return
        connection.transport.write(writes[at])
        if at + 1 < len(writes):
            self.loop.call_soon(self._write, connection, writes, at + 1)
        else:
            self.stats.in_flight -= 1


class Connection(asyncio.Protocol):
    """One keep-alive connection: as much HTTP as the benchmark's clients speak."""

    def __init__(self, teacher: Teacher) -> None:
        self.teacher, self.buffer = teacher, b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        assert isinstance(transport, asyncio.Transport)
        transport.set_write_buffer_limits(high=1 << 30)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        """Take whole requests off the buffer."""
        self.buffer += data
        while (end := self.buffer.find(b"\r\n\r\n")) >= 0:
            head = self.buffer[:end]
            found = CONTENT_LENGTH.search(head)
            end += 4 + (int(found.group(1)) if found else 0)
            if len(self.buffer) < end:
                return
            self.buffer = self.buffer[end:]
            if head.startswith(b"GET /stats"):
                self.transport.write(http(json.dumps(vars(self.teacher.stats)).encode()))
            else:
                self.teacher.asked(self)


async def serve(setting: Setting) -> None:
    """Answer until stdin closes."""
    loop = asyncio.get_running_loop()
    teacher, ended = Teacher(setting, loop), asyncio.Event()
    server = await loop.create_server(lambda: Connection(teacher), "127.0.0.1", 0, backlog=4096)
    loop.add_reader(sys.stdin.fileno(), lambda: sys.stdin.buffer.read1(1) or ended.set())
    print(json.dumps({"port": server.sockets[0].getsockname()[1]}), flush=True)
    await ended.wait()


def main() -> None:
    """Serve as the argument says."""
    setting = Setting(**json.loads(sys.argv[1]))
    if setting.core is not None:
        os.sched_setaffinity(0, {setting.core})
    asyncio.run(serve(setting))


if __name__ == "__main__":
    main()
