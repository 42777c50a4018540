"""The connection to an endpoint's files and batches: opened, asked page by page, and asked again where that may help.

In: an endpoint. Out: rows of listings and the outcomes of attempts; every error is a Refusal by the same table as for
answers, with the key scrubbed. What is asked over it is in batches.py.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from types import TracebackType
from typing import Any, Self, TypeVar
from urllib.parse import urlsplit

from r1distill.teachers.batch_state import decoded, id_of
from r1distill.teachers.client import CONNECT_TIMEOUT_S, OPENAI_HOST, Endpoint
from r1distill.teachers.error_texts import said_by
from r1distill.teachers.refusals import Action, Refusal, refusal
from r1distill.teachers.retry import Sleep, asked_wait_s, policy
from r1distill.teachers.secrets import scrub

ATTEMPTS = 6
IDLE_TIMEOUT_S = 300.0
"""Seconds without a byte before a request is given up; large files take long, but not that long without a byte."""
MOST_PAGES = 1000
T = TypeVar("T")


class Connection:
    """The openai client of one endpoint and the HTTP client under it; use as an async context manager."""

    def __init__(self, endpoint: Endpoint, sleep: Sleep) -> None:
        self.endpoint, self.sleep = endpoint, sleep
        self.answered = False
        """True once anything at all came back."""

    async def __aenter__(self) -> Self:
        import aiohttp
        import httpx2
        import openai

        self._aiohttp, self._httpx, self._openai = aiohttp, httpx2, openai
        key, bearer = self.endpoint.key, self.endpoint.key_header == "Authorization"
        self._http = openai.DefaultAioHttpClient(
            follow_redirects=False,
            timeout=httpx2.Timeout(IDLE_TIMEOUT_S, connect=CONNECT_TIMEOUT_S),
            trust_env=not self.endpoint.local,
            event_hooks={"request": [] if bearer else [self._other_header]},
        )
        self._client = openai.AsyncOpenAI(
            base_url=self.endpoint.base_url,
            api_key=key,
            max_retries=0,
            default_headers={"Authorization": f"Bearer {key}"},  # wins over OPENAI_CUSTOM_HEADERS
            http_client=self._http,
        )
        if urlsplit(self.endpoint.base_url).hostname != OPENAI_HOST:
            self._client.organization = self._client.project = None
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._client.close()

    async def _other_header(self, request: Any) -> None:
        """Carry the key in the endpoint's own header instead, where it would be carried at all."""
        if request.headers.pop("authorization", None) is not None:
            request.headers[self.endpoint.key_header] = self.endpoint.key

    async def _pages(self, listing: Callable[..., Awaitable[Any]]) -> AsyncIterator[dict[str, Any]]:
        """Every row of a listing, page after page."""
        after: dict[str, Any] = {}
        for _ in range(MOST_PAGES):
            said = decoded((await listing(limit=100, **after)).content)
            rows = said if isinstance(said, list) else said.get("data") if isinstance(said, dict) else None
            for row in rows or []:
                if isinstance(row, dict):
                    yield row
            if not (rows and isinstance(said, dict) and said.get("has_more")):
                return
            after = {"after": id_of(rows[-1])}

    async def _tried(self, attempt: Callable[[], Awaitable[T]]) -> T:
        """The outcome of `attempt`, repeated by the policy for answers. Raises Refusal, scrubbed."""

        async def once() -> T:
            try:
                result = await attempt()
                self.answered = True
                return result
            except self._openai.APIStatusError as error:
                self.answered = True
                raise refusal(
                    error.status_code, said_by(error), asked_wait_s(error.response.headers)
                ) from None
            except (
                self._openai.APIError,
                self._httpx.HTTPError,
                self._aiohttp.ClientError,
                OSError,
            ) as error:
                raise self._network(error) from None

        try:
            result: T = await policy(ATTEMPTS, self.sleep, lambda: self.answered, lambda: False)(once)
            return result
        except Refusal as refused:
            refused.message = scrub(refused.message, (self.endpoint.key,))
            raise

    def _network(self, error: BaseException) -> Refusal:
        causes = [error]
        while causes[-1].__cause__ is not None:
            causes.append(causes[-1].__cause__)
        what = "timeout" if any(isinstance(cause, TimeoutError) for cause in causes) else "network"
        told = next((cause for cause in causes if isinstance(cause, self._aiohttp.ClientError)), causes[-1])
        return Refusal(
            Action.RETRY, what if self.answered else "unreachable", f"{type(told).__name__}: {told}"
        )
