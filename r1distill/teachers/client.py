"""One HTTP lane to every teacher: the openai client's low-level call on an aiohttp transport (transport.py).

In: a request body. Out: a Reply, or a Refusal. The SDK's own retries and redirects are off; its model building is
passed by (it costs more than the rest), so that the reply's bytes are read by replies.py and stream.py alone. What the SDK
would take from the environment for OpenAI (organisation, project, a further Authorization) is not sent to other hosts.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping
from contextlib import suppress
from types import MappingProxyType, TracebackType
from typing import Any, Literal, NamedTuple
from urllib.parse import urlsplit

import msgspec

from r1distill.errors import R1DistillError
from r1distill.records import CEILING_KEYS
from r1distill.teachers.error_texts import said_by
from r1distill.teachers.limits import asked_wait_s, should_retry
from r1distill.teachers.refusals import Action, Refusal, refusal
from r1distill.teachers.replies import Reply, parse_reply, reply_of
from r1distill.teachers.secrets import scrub
from r1distill.teachers.stream import Gathered, Opening, opening

CONNECT_TIMEOUT_S = 20.0
FAREWELL_S = 0.2
"""How long the end of a stream that said [DONE] is waited for, so that its connection can serve the next request."""
OPENAI_HOST = "api.openai.com"


class Endpoint(NamedTuple):
    """Where and how to ask one model."""

    base_url: str
    key: str
    model: str
    """The model name to put into the request."""
    local: bool = False
    """True: our own machine, so an answer costs 0 dollars and no proxy is used."""
    extra_body: Mapping[str, Any] = MappingProxyType({})
    slots: int = 0
    """Of our own llama.cpp server: answers it decodes side by side; 0 for everybody else."""
    ceiling_key: str | None = None
    """What the endpoint calls the ceiling; None: as the recipe calls it."""
    key_header: Literal["Authorization", "api-key"] = "Authorization"
    """The header that carries the key ("Authorization" as Bearer)."""
    must_stream: bool = False
    """True: this endpoint answers streams only."""
    reasoning_apart: bool = False
    """True: usage.completion_tokens does not hold the reasoning tokens (xAI), so that they are added."""


class ChatClient:
    """Asks one endpoint; use as an async context manager."""

    def __init__(
        self,
        endpoint: Endpoint,
        *,
        idle_timeout_s: float,
        total_timeout_s: float,
        stream: bool,
        on_headers: Callable[[Mapping[str, str]], None] | None = None,
    ) -> None:
        self.endpoint, self.stream = endpoint, stream or endpoint.must_stream
        self.on_headers = on_headers
        """Hears the headers of every answer, also of refusals (limits stand there)."""
        self.idle_timeout_s, self.total_timeout_s = idle_timeout_s, total_timeout_s
        self.answered = False
        """True once anything at all came back from the endpoint."""

    async def __aenter__(self) -> ChatClient:
        import aiohttp
        import httpx2
        import openai

        from r1distill.teachers.transport import Client, Poster
        from r1distill.teachers.troubles import trouble

        self._httpx, self._openai, self._aiohttp, self._trouble = httpx2, openai, aiohttp, trouble
        where = self.endpoint
        poster = Poster(
            f"{where.base_url.rstrip('/')}/chat/completions",
            key_headers(where),
            read_timeout_s=self.idle_timeout_s if self.stream else None,
            trust_env=not where.local,
            all_headers=urlsplit(where.base_url).hostname == OPENAI_HOST,
            on_headers=self.on_headers,
        )
        self._client = Client(poster, base_url=where.base_url, api_key=where.key)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._client.close()

    async def ask(self, body: dict[str, Any]) -> Reply:
        """One attempt. Raises Refusal with a scrubbed message."""
        content = encoded(body, self.endpoint, self.stream)
        try:
            return await self._in_time(content, Gathered(logprobs=bool(body.get("logprobs"))))
        except Refusal as error:
            error.message = scrub(error.message, (self.endpoint.key,))
            raise
        except R1DistillError:
            raise
        except Exception as error:  # noqa: BLE001 - what servers send makes the libraries beneath raise anything,
            # and no single answer may end a run, whose other answers are being paid for
            said = f"The answer can't be read ({type(error).__name__}: {error})"
            message = scrub(said, (self.endpoint.key,))
            raise Refusal(Action.RETRY, "malformed", message, maybe_billed=True) from None

    async def _in_time(self, content: bytes, gathered: Gathered) -> Reply:
        try:
            async with asyncio.timeout(self.total_timeout_s):
                return await self._attempt(content, gathered)
        except TimeoutError:
            if gathered.finished:
                return self._reply(gathered.whole())
            message = f"No complete answer within {self.total_timeout_s:g} s"
            raise Refusal(Action.RETRY, "timeout", message, maybe_billed=True) from None

    async def _attempt(self, content: bytes, gathered: Gathered) -> Reply:
        try:
            came = await self._client.send_chat(content, stream=self.stream)
            self.answered = True
            if isinstance(came, bytes):
                return self._whole(came)
            async with came:
                return await self._streamed(came, gathered)
        except self._openai.APIStatusError as error:
            self.answered = True
            headers = error.response.headers
            raise refusal(
                error.status_code, said_by(error), asked_wait_s(headers), should_retry(headers)
            ) from None
        except (self._openai.APIError, self._httpx.HTTPError, self._aiohttp.ClientError, OSError) as error:
            if gathered.finished:  # the answer is whole; only the farewell went wrong
                return self._reply(gathered.whole())
            raise self._network(error) from None

    async def _streamed(self, came: Any, gathered: Gathered) -> Reply:
        content, data = came.content, b""
        kind, data = opening(data)
        while kind is Opening.UNKNOWN and (more := await content.readany()):
            kind, data = opening(data + more)
        if kind is Opening.TEXT:  # a server that can't stream answers in one piece, whatever it calls it
            data += await came.read()
            if data[:1] in (b"{", b"[", b"<") or b"\ndata:" not in data:
                return self._whole(data)
        while data:
            if gathered.feed(data):
                await self._farewell(content)
                break
            data = await content.readany()
        try:
            return self._reply(gathered.end())
        except Refusal as refused:
            if refused.usage is None:
                refused.maybe_billed = refused.maybe_billed or gathered.begun
            raise

    async def _farewell(self, content: Any) -> None:
        if content.at_eof():
            return
        with suppress(TimeoutError, self._aiohttp.ClientError, OSError):
            async with asyncio.timeout(FAREWELL_S):
                while await content.readany():
                    pass

    def _whole(self, body: bytes) -> Reply:
        return parse_reply(body, reasoning_apart=self.endpoint.reasoning_apart)

    def _reply(self, whole: dict[str, Any]) -> Reply:
        return reply_of(whole, reasoning_apart=self.endpoint.reasoning_apart)

    def _network(self, error: BaseException) -> Refusal:
        """The Refusal of a failed connection."""
        found = self._trouble(error)
        error_class = "timeout" if found.timeout else "network"
        if not found.sent and not self.answered:
            error_class = "unreachable"
        return Refusal(Action.RETRY, error_class, found.message, maybe_billed=found.sent)


def key_headers(endpoint: Endpoint) -> dict[str, str]:
    """The header that carries the key."""
    if endpoint.key_header == "api-key":
        return {"api-key": endpoint.key}
    return {"Authorization": f"Bearer {endpoint.key}"}


def encoded(body: dict[str, Any], endpoint: Endpoint, stream: bool) -> bytes:
    """The JSON that is sent: `body` with the endpoint's own fields, model name and name of the ceiling."""
    whole = {**body, **endpoint.extra_body, "model": endpoint.model}
    if endpoint.ceiling_key is not None:
        whole = {endpoint.ceiling_key if key in CEILING_KEYS else key: value for key, value in whole.items()}
    if stream:
        whole |= {"stream": True, "stream_options": {"include_usage": True}}
    try:
        return msgspec.json.encode(whole)
    except (ValueError, OverflowError):  # half a surrogate pair, a number beyond 64 bits
        return json.dumps(whole).encode()
