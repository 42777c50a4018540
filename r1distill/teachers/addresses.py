"""Addresses that keys are sent to: what a base_url may be, and a warning for those that are not encrypted."""

from __future__ import annotations

import ipaddress
from urllib.parse import urlsplit, urlunsplit

from r1distill.errors import RecipeError
from r1distill.recipe_sections import TeacherSection
from r1distill.teachers.providers import provider


def clean_url(url: str, where: str) -> str:
    """A base_url without its last slash. Raises RecipeError when it is none, or carries what may be a secret."""
    try:
        parts = urlsplit(url.strip())
        host, _ = parts.hostname, parts.port
    except ValueError:
        host = None
    if not host or parts.scheme not in ("http", "https"):
        raise RecipeError(f"{where}: base_url is no http(s) address; it looks like https://host/v1.")
    if "@" in parts.netloc or parts.query or parts.fragment:
        raise RecipeError(
            f"{where}: base_url must not carry a user name, a password, a query or a fragment; "
            "a key belongs into the environment variable that api_key_env names."
        )
    return urlunsplit((parts.scheme, parts.netloc, parts.path.rstrip("/"), "", ""))


def plain_http(name: str, teacher: TeacherSection) -> str | None:
    """A warning when this teacher's key would travel unencrypted over a network (a private one too), else None."""
    row = provider(teacher.provider)
    if row.kind != "http":
        return None
    url = teacher.base_url or row.base_url or ""
    has_key = (teacher.api_key_env or row.key_variable) is not None
    return unencrypted(f"teacher.{name}", url) if has_key else None


def unencrypted(who: str, base_url: str) -> str | None:
    """A warning when `base_url` is http:// and not on this machine, else None; for addresses that a key is sent to."""
    parts = urlsplit(base_url.strip())
    if parts.scheme != "http" or _loopback(str(parts.hostname)):
        return None
    return f"{who}: the key is sent unencrypted to {parts.hostname}; use https if it can."


def _loopback(host: str) -> bool:
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")
    mapped = getattr(address, "ipv4_mapped", None)
    return (mapped or address).is_loopback
