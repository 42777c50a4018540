"""What is under the openai client: one aiohttp session that posts to one place, and asks for nothing twice.

The openai client keeps what users know it for: it makes the request's headers, and its errors tell statuses apart. What it
and httpx2 do anew for each request though nothing changes (merging headers, building URLs, cookies, authentication flows,
redirects) is done once here, since it costs three times as much as the exchange itself. Imported with openai only.
"""

from __future__ import annotations

import base64
import re
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, NamedTuple
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import aiohttp
import httpx2
import openai
from multidict import CIMultiDict
from yarl import URL

from r1distill.errors import StopRunError
from r1distill.teachers.client import CONNECT_TIMEOUT_S
from r1distill.teachers.troubles import unheard

BUFFER_BYTES = 1 << 18
SENT = ("accept", "content-type", "user-agent")
"""Headers of the openai client that are sent, beside its x-stainless-*: what it finds in the environment for OpenAI
(organisation, project, OPENAI_CUSTOM_HEADERS) is no business of another host."""
NEVER_SENT = ("authorization", "host", "content-length", "connection", "accept-encoding", "idempotency-key")
"""Those that aiohttp or `key_headers` set, and one that must not be the same for two requests."""
READ = ("retry-after", "x-should-retry", "location", "x-ratelimit")
"""How the headers of a refusal begin that anybody reads; what else stands there could only do harm."""
CHARSET = re.compile(r"charset=[\"']?([\w.:-]+)", re.I)
DECODED_BYTES = 1 << 16
"""So much of a page that is not UTF-8 is decoded as what it says it is."""
STALE_WITHIN_S = 5.0
"""A kept connection that its server has closed already fails within a round trip; later the server was at work."""
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
        self._proxy = proxy_for(url) if trust_env else NO_PROXY
        tunnel = url.startswith(
            "https:"
        )  # else the proxy reads the request itself, and finds its password there
        self._to_proxy = self._proxy.headers if tunnel else None
        if not tunnel and self._proxy.headers:
            self._key_headers = {**key_headers, **self._proxy.headers}
        self._on_headers = on_headers
        self._ssl = httpx2.create_ssl_context(trust_env=trust_env) if tunnel else True
        self._read_timeout_s = read_timeout_s
        self._session, self._fresh = self._open(keep=True), self._open(keep=False)
        self._made: httpx2.Headers | None = None
        self._headers: Mapping[str, str] = {}

    async def post(self, made: httpx2.Headers, content: Any, stream: bool) -> Any:
        """The body of a good answer as bytes, or the aiohttp response it is to be read from (`stream`); of any other the
        httpx2 response, read. `made`: the headers as the openai client makes them. Raises aiohttp's errors as they are.
        """
        if self._made is not made:
            self._made, self._headers = made, self._to_send(made)
        response = await self._exchange(content)
        if self._on_headers is not None:
            self._on_headers(response.headers)
        good = response.status // 100 == 2
        if good and stream:
            return response
        async with response:
            body = await response.read()
        return body if good else _refused(response, body)

    def _open(self, keep: bool) -> aiohttp.ClientSession:
        """A session that keeps its connections for further requests, or opens one for each."""
        trace = aiohttp.TraceConfig()
        trace.on_connection_reuseconn.append(_note_reuse)
        return aiohttp.ClientSession(
            # 0: no limit, since the engine has one
            connector=aiohttp.TCPConnector(limit=0, ssl=self._ssl, force_close=not keep),
            timeout=aiohttp.ClientTimeout(
                total=None, sock_connect=CONNECT_TIMEOUT_S, sock_read=self._read_timeout_s
            ),
            cookie_jar=aiohttp.DummyCookieJar(),
            read_bufsize=BUFFER_BYTES,
            trace_configs=[trace],
        )

    async def _exchange(self, data: Any) -> aiohttp.ClientResponse:
        """Send `data` once; a second time only if it went into a kept connection that the server had closed before."""
        reused: list[bool] = []
        started = time.monotonic()
        try:
            return await self._send(self._session, data, reused)
        except aiohttp.ClientConnectionError as error:
            stale = reused and unheard(error) and time.monotonic() - started < STALE_WITHIN_S
            if not stale:
                raise
        return await self._send(self._fresh, data, [])

    async def _send(
        self, session: aiohttp.ClientSession, data: Any, reused: list[bool]
    ) -> aiohttp.ClientResponse:
        return await session.post(
            self._url,
            data=data,
            headers=self._headers,
            allow_redirects=False,
            proxy=self._proxy.url,
            proxy_headers=self._to_proxy,
            trace_request_ctx=reused,
        )

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
        await self._fresh.close()


class Wire(httpx2.AsyncClient):
    """What the openai client takes for its HTTP client: hands each request to a Poster."""

    def __init__(self, poster: Poster) -> None:
        super().__init__(transport=httpx2.AsyncBaseTransport(), trust_env=False, timeout=None)
        self.poster = poster

    async def send(self, request: httpx2.Request, *, stream: bool = False, **more: Any) -> httpx2.Response:
        """Post the request; a good response carries CAME. Raises aiohttp's errors as they are."""
        came = await self.poster.post(request.headers, request.content, stream)
        if isinstance(came, httpx2.Response):
            came.request = request
            return came
        return httpx2.Response(200, stream=_Nothing(), request=request, extensions={CAME: came})

    async def aclose(self) -> None:
        """Close all connections."""
        await self.poster.close()
        await super().aclose()


async def _note_reuse(session: aiohttp.ClientSession, context: Any, params: Any) -> None:
    context.trace_request_ctx.append(True)


def _refused(response: aiohttp.ClientResponse, body: bytes) -> httpx2.Response:
    """For the openai client's error: the headers that are read, and the text as UTF-8, whatever was said of it.

    Header values may hold any bytes and a page may name any codec, and httpx2 survives neither.
    """
    headers = [
        (name.lower().encode("ascii", "replace"), value.encode("ascii", "replace"))
        for name, value in response.headers.items()
        if name.lower().startswith(READ)
    ]
    text = _text(body, response.headers.get("Content-Type", ""))
    content = text.encode("utf-8", "replace")
    return httpx2.Response(response.status, headers=headers, content=content)


def _text(body: bytes, content_type: str) -> str:
    """A page as text: UTF-8, or else what its Content-Type says, or else UTF-8 with replacements."""
    with suppress(UnicodeDecodeError):
        return body.decode("utf-8-sig")
    said = CHARSET.search(content_type)
    with suppress(LookupError, ValueError):
        if said:
            return body[:DECODED_BYTES].decode(said[1], "replace")
    return body.decode("utf-8", "replace")


class Client(openai.AsyncOpenAI):
    """The openai client, which makes its request once: only the body differs from one to the next.

    Its options, copied for each request, cost as much as sending. Should a later SDK not call `_build_request`, then its own
    `post` does all the work, only slower.
    """

    _made: httpx2.Request | None = None

    def __init__(self, poster: Poster, *, base_url: str, api_key: str) -> None:
        super().__init__(base_url=base_url, api_key=api_key, max_retries=0, http_client=Wire(poster))
        self._poster = poster

    async def send_chat(self, content: bytes, *, stream: bool) -> Any:
        """Post a chat completion's JSON; returns the body's bytes, or the aiohttp response that is to be read (stream).

        Raises openai.APIStatusError for a refusal, and aiohttp's errors as they are.
        """
        if self._made is None:
            how: Any = {"stream": stream, "stream_cls": openai.AsyncStream}
            response = await self.post("/chat/completions", cast_to=httpx2.Response, content=content, **how)
            return response.extensions[CAME]
        came = await self._poster.post(self._made.headers, content, stream)
        if isinstance(came, httpx2.Response):
            came.request = self._made
            raise self._make_status_error_from_response(came)
        return came

    def _build_request(self, options: Any, *, retries_taken: int = 0) -> httpx2.Request:
        self._made = super()._build_request(options, retries_taken=retries_taken)
        return self._made


class Proxy(NamedTuple):
    """What the environment says about the way to a host."""

    url: URL | None = None
    """Without user and password: errors quote it."""
    headers: Mapping[str, str] | None = None
    """The password, for the proxy alone."""


NO_PROXY = Proxy()


def proxy_for(url: str) -> Proxy:
    """The proxy that the environment (or the system's settings) names for `url`. Raises StopRunError if it can't be used."""
    parts, found = urlsplit(url), getproxies()
    named = found.get(parts.scheme) or found.get("all")
    host = str(parts.hostname) if parts.port is None else f"{parts.hostname}:{parts.port}"
    if not named or proxy_bypass(host):
        return NO_PROXY
    try:
        proxy = URL(named if "://" in named else f"http://{named}")
    except ValueError:
        proxy = URL()
    if proxy.scheme not in ("http", "https") or not proxy.host:
        kind = f"a {proxy.scheme} proxy" if proxy.scheme and proxy.host else "a proxy"
        raise StopRunError(
            f"The environment names {kind} for {parts.hostname} which can't be used; "
            "name an http:// proxy in HTTPS_PROXY, or except the host by NO_PROXY."
        )
    return Proxy(proxy.with_user(None), _proxy_headers(proxy))


def _proxy_headers(proxy: URL) -> Mapping[str, str] | None:
    if proxy.user is None and proxy.password is None:
        return None
    said = base64.b64encode(f"{proxy.user or ''}:{proxy.password or ''}".encode()).decode()
    return {"Proxy-Authorization": f"Basic {said}"}
