"""One HTTP lane to every teacher: the openai client's low-level call on its aiohttp transport.

In: a request body. Out: a Reply, or a Refusal. The SDK's own retries and redirects are off; its model building is
passed by (it costs more than the rest), so that the reply's bytes are read by replies.py alone. What the SDK would
take from the environment for OpenAI (organisation, project, a further Authorization) is not sent to other hosts.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType, TracebackType
from typing import Any, Literal, NamedTuple
from urllib.parse import urlsplit

from r1distill.teachers.refusals import Action, Refusal, refusal
from r1distill.teachers.replies import Reply, parse_reply, reply_of
from r1distill.teachers.retry import asked_wait_s
from r1distill.teachers.secrets import scrub
from r1distill.teachers.stream import Gathered, collect

CONNECT_TIMEOUT_S = 20.0
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

        self._httpx, self._openai, self._aiohttp = httpx2, openai, aiohttp
        read_s = self.idle_timeout_s if self.stream else self.total_timeout_s
        # 0 is aiohttp's word for "no limit"; None would mean its default of 100, a queue that nobody sees.
        limits = httpx2.Limits(max_connections=0, max_keepalive_connections=None)
        timeout = httpx2.Timeout(read_s, connect=CONNECT_TIMEOUT_S, pool=None)
        self._client = openai.AsyncOpenAI(
            base_url=self.endpoint.base_url,
            api_key=self.endpoint.key,
            max_retries=0,
            timeout=timeout,
            default_headers={
                "Authorization": f"Bearer {self.endpoint.key}"
            },  # wins over OPENAI_CUSTOM_HEADERS
            http_client=openai.DefaultAioHttpClient(
                follow_redirects=False, timeout=timeout, limits=limits, trust_env=not self.endpoint.local
            ),
        )
        if urlsplit(self.endpoint.base_url).hostname != OPENAI_HOST:
            self._client.organization = self._client.project = None
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._client.close()

    async def ask(self, body: dict[str, Any]) -> Reply:
        """One attempt. Raises Refusal with a scrubbed message."""
        body = {**body, **self.endpoint.extra_body, "model": self.endpoint.model}
        gathered = Gathered()
        try:
            async with asyncio.timeout(self.total_timeout_s):
                return await self._attempt(body, gathered)
        except TimeoutError:
            if gathered.finished:
                return reply_of(gathered.whole())
            raise Refusal(
                Action.RETRY, "timeout", f"No complete answer within {self.total_timeout_s:g} s"
            ) from None
        except Refusal as error:
            error.message = scrub(error.message, (self.endpoint.key,))
            raise

    async def _attempt(self, body: dict[str, Any], gathered: Gathered) -> Reply:
        try:
            if self.stream:
                return await self._streamed(body, gathered)
            response = await self._client.post("/chat/completions", cast_to=self._httpx.Response, body=body)
            self.answered = True
            return parse_reply(response.content)
        except self._openai.APIStatusError as error:
            self.answered = True
            raise refusal(error.status_code, _body(error), asked_wait_s(error.response.headers)) from None
        except (self._openai.APIError, self._httpx.HTTPError, self._aiohttp.ClientError, OSError) as error:
            if gathered.finished:  # the answer is whole; only the farewell went wrong
                return reply_of(gathered.whole())
            raise self._network(error) from None

    async def _streamed(self, body: dict[str, Any], gathered: Gathered) -> Reply:
        body = {**body, "stream": True, "stream_options": {"include_usage": True}}
        response: Any = await self._client.post(
            "/chat/completions",
            cast_to=self._httpx.Response,
            body=body,
            stream=True,
            stream_cls=self._openai.AsyncStream,
        )
        self.answered = True
        try:
            if response.headers.get("content-type", "").startswith("application/json"):
                return parse_reply(await response.aread())  # a server that can't stream answers in one piece
            return reply_of(await collect(response.aiter_bytes(), gathered))
        finally:
            await response.aclose()

    def _network(self, error: BaseException) -> Refusal:
        """The Refusal of a failed connection, by its inner causes: the layers above call every loss a timeout."""
        causes = list(_causes(error))
        told = next((c for c in causes if isinstance(c, self._aiohttp.ClientError)), causes[-1])
        never_there = isinstance(
            told, self._aiohttp.ClientConnectorError | self._aiohttp.ConnectionTimeoutError
        )
        if never_there and not self.answered:
            error_class = "unreachable"
        else:
            error_class = "timeout" if any(isinstance(c, TimeoutError) for c in causes) else "network"
        return Refusal(Action.RETRY, error_class, f"{type(told).__name__}: {told}")


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__


def _body(error: Any) -> Any:
    """What the server said: its decoded body or text, or where it redirects to."""
    place = urlsplit(error.response.headers.get("location", ""))
    if error.status_code // 100 == 3 and place.hostname:
        return f"it redirects to {place.scheme}://{place.hostname}{place.path}"
    return error.body if error.body is not None else error.message
