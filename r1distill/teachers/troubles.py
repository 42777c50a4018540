"""What went wrong between us and a teacher: an exception of the network -> what it means, in plain words.

In: an error of aiohttp, openai or the system. Out: whether the request can have reached the teacher at all, and a short text
for people. The texts of aiohttp name sockets, flags and URLs, which say nothing to those who read failures.jsonl.
"""

from __future__ import annotations

import os
import ssl
from collections.abc import Iterator
from typing import NamedTuple

import aiohttp

NOT_SENT = (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError, aiohttp.ClientHttpProxyError)
"""There was no connection to the teacher, so that it has not seen the request."""


class Trouble(NamedTuple):
    """A failed exchange."""

    message: str
    sent: bool
    """False: the teacher has not seen the request."""
    timeout: bool
    """True: nothing came in time."""


def trouble(error: BaseException) -> Trouble:
    """What an error of the network means, by its inner causes."""
    causes = list(_causes(error))
    told = next((cause for cause in causes if isinstance(cause, aiohttp.ClientError)), causes[-1])
    in_vain = any(isinstance(cause, TimeoutError) for cause in causes)
    return Trouble(_words(told), not isinstance(told, NOT_SENT), in_vain)


def unheard(error: BaseException) -> bool:
    """True when a connection ended before the first byte of an answer came over it."""
    if isinstance(error, aiohttp.ServerDisconnectedError):
        return isinstance(error.message, str)  # else it is the part of the answer that came
    return isinstance(error, aiohttp.ClientOSError | aiohttp.ClientConnectionResetError)


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__


def _words(error: BaseException) -> str:
    if isinstance(error, aiohttp.ClientHttpProxyError):
        return f"the proxy refuses: {error.status} {error.message}"
    if isinstance(error, aiohttp.ClientProxyConnectionError):
        return f"the proxy {error.host}:{error.port}: {_unconnected(error)}"
    if isinstance(error, aiohttp.ConnectionTimeoutError):
        return "timed out"
    if isinstance(error, aiohttp.ClientConnectorError):
        return _unconnected(error)
    if isinstance(error, aiohttp.ServerDisconnectedError):
        return "the server closed the connection before it answered"
    return f"{type(error).__name__}: {error}"


def _unconnected(error: aiohttp.ClientConnectorError) -> str:
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        return "name not found"
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        cause = error.certificate_error
        return f"its certificate is not trusted ({getattr(cause, 'verify_message', '') or cause})"
    cause = error.os_error
    if isinstance(cause, ConnectionRefusedError):
        return "connection refused"
    if isinstance(cause, TimeoutError):
        return "timed out"
    if isinstance(cause, ssl.SSLError):
        return f"no TLS connection ({(cause.reason or 'handshake failed').replace('_', ' ').lower()})"
    return os.strerror(cause.errno).lower() if cause.errno else "no connection"
