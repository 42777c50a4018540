"""What is under the openai client: one aiohttp session that posts to one place, and asks for nothing twice.

The openai client keeps what users know it for: it makes the request's headers, and its errors tell statuses apart. What it
and httpx2 do anew for each request though nothing changes (merging headers, building URLs, cookies, authentication flows,
redirects) is done once here, since it costs three times as much as the exchange itself. Imported with openai only.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import aiohttp
import httpx2
import openai
from multidict import CIMultiDict
from yarl import URL

from r1distill.errors import StopRunError
from r1distill.teachers.client import CONNECT_TIMEOUT_S

BUFFER_BYTES = 1 << 18
SENT = ("accept", "content-type", "user-agent")
"""Headers of the openai client that are sent, beside its x-stainless-*: what it finds in the environment for OpenAI
(organisation, project, OPENAI_CUSTOM_HEADERS) is no business of another host."""
NEVER_SENT = ("authorization", "host", "content-length", "connection", "accept-encoding", "idempotency-key")
"""Those that aiohttp or `key_headers` set, and one that must not be the same for two requests."""
OF_THE_TRANSFER = ("content-encoding", "content-length", "transfer-encoding")
CAME = "r1distill.came"
"""Extension of a response: its body as bytes, or the aiohttp response that is still to be read (streams)."""


class _Nothing(httpx2.AsyncByteStream):
    """The body of a response whose bytes travel as an extension."""


class Poster:
    """Posts to `url` over aiohttp; make it inside a running event loop.

    `key_headers` are sent with each request and nowhere else: redirects are not followed.
    """

    def __init__(
        self,
        url: str,
        key_headers: Mapping[str, str],
        *,
        read_timeout_s: float | None,
        trust_env: bool,
        all_headers: bool,
        on_headers: Callable[[Mapping[str, str]], None] | None,
    ) -> None:
        self._url, self._key_headers, self._all_headers = URL(url), key_headers, all_headers
        self._proxy = proxy_for(url) if trust_env else None
        self._on_headers = on_headers
        ssl = httpx2.create_ssl_context(trust_env=trust_env) if url.startswith("https:") else True
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, ssl=ssl),  # 0: no limit, since the engine has one
            timeout=aiohttp.ClientTimeout(
                total=None, sock_connect=CONNECT_TIMEOUT_S, sock_read=read_timeout_s
            ),
            cookie_jar=aiohttp.DummyCookieJar(),
            read_bufsize=BUFFER_BYTES,
        )
        self._made_from: httpx2.Headers | None = None
        self._headers: Mapping[str, str] = {}

    async def post(self, request: httpx2.Request, stream: bool) -> httpx2.Response:
        """The response, which carries CAME if it is good. Raises aiohttp's errors as they are."""
        if self._made_from is not request.headers:
            self._made_from, self._headers = request.headers, self._to_send(request.headers)
        data = request.extensions.get(CAME)
        response = await self._session.post(
            self._url,
            data=request.content if data is None else data,
            headers=self._headers,
            allow_redirects=False,
            proxy=self._proxy,
        )
        if self._on_headers is not None:
            self._on_headers(response.headers)
        good = response.status // 100 == 2
        if good and stream:
            return _response(response.status, request, response)
        async with response:
            body = await response.read()
        return _response(response.status, request, body) if good else _refused(response, request, body)

    def _to_send(self, made: httpx2.Headers) -> Mapping[str, str]:
        """What the openai client wants sent, as far as it is this host's business, and the key."""
        kept = {
            name: value
            for name, value in made.items()
            if name in SENT
            or name.startswith("x-stainless-")
            or (self._all_headers and name not in NEVER_SENT)
        }
        return CIMultiDict({**kept, **self._key_headers})

    async def close(self) -> None:
        """Close all connections."""
        await self._session.close()


class Wire(httpx2.AsyncClient):
    """What the openai client takes for its HTTP client: hands each request to a Poster."""

    def __init__(self, poster: Poster) -> None:
        super().__init__(transport=httpx2.AsyncBaseTransport(), trust_env=False, timeout=None)
        self.poster = poster

    async def send(self, request: httpx2.Request, *, stream: bool = False, **more: Any) -> httpx2.Response:
        """Post the request. Raises aiohttp's errors as they are."""
        return await self.poster.post(request, stream)

    async def aclose(self) -> None:
        """Close all connections."""
        await self.poster.close()
        await super().aclose()


def _response(status: int, request: httpx2.Request, came: Any) -> httpx2.Response:
    return httpx2.Response(status, stream=_Nothing(), request=request, extensions={CAME: came})


def _refused(response: aiohttp.ClientResponse, request: httpx2.Request, body: bytes) -> httpx2.Response:
    """With headers and text, for the openai client's error; aiohttp has undone the encoding already."""
    headers = [
        (name, value) for name, value in response.headers.items() if name.lower() not in OF_THE_TRANSFER
    ]
    return httpx2.Response(response.status, headers=headers, content=body, request=request)


class Client(openai.AsyncOpenAI):
    """The openai client, which makes its options and its request once: only the body differs from one to the next.

    Should a later SDK not call `_build_request`, then its own `post` does all the work, only slower.
    """

    _options: Any = None
    _made: httpx2.Request | None = None

    async def send_chat(self, content: bytes, *, stream: bool) -> Any:
        """Post a chat completion's JSON; returns the body's bytes, or the aiohttp response that is to be read (stream).

        Raises openai.APIStatusError for a refusal, and aiohttp's errors as they are.
        """
        how: Any = {"stream": stream, "stream_cls": openai.AsyncStream}
        if self._options is None:
            response = await self.post("/chat/completions", cast_to=httpx2.Response, content=content, **how)
        else:
            options = self._options.model_copy(update={"content": content})
            response = await self.request(httpx2.Response, options, **how)
        return response.extensions[CAME]

    def _build_request(self, options: Any, *, retries_taken: int = 0) -> httpx2.Request:
        if self._made is None:
            self._options, self._made = options, super()._build_request(options, retries_taken=retries_taken)
        request = copy.copy(self._made)
        request.extensions = {CAME: options.content}
        return request


def proxy_for(url: str) -> str | None:
    """The proxy that the environment (or the system's settings) names for `url`, or None. Raises StopRunError for SOCKS."""
    parts, found = urlsplit(url), getproxies()
    proxy = found.get(parts.scheme) or found.get("all")
    host = str(parts.hostname) if parts.port is None else f"{parts.hostname}:{parts.port}"
    if not proxy or proxy_bypass(host):
        return None
    proxy = proxy if "://" in proxy else f"http://{proxy}"
    if urlsplit(proxy).scheme not in ("http", "https"):
        raise StopRunError(
            f"The environment names a {urlsplit(proxy).scheme} proxy for {parts.hostname}, which can't be used; "
            "name an http:// proxy in HTTPS_PROXY, or except the host by NO_PROXY."
        )
    return proxy
