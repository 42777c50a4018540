"""What a measurement's key names: all that decides it, so that an outdated one is never found."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

import msgspec
from pydantic_core import to_jsonable_python

from r1distill.checks.base import Check
from r1distill.records import Prompt, digest

OWN = "r1distill_own_"
"""Begins the module name of every check that comes from a file of the user."""


def check_identity(check: Check) -> dict[str, Any]:
    """What decides a check's measurements, apart from the trace and the problem."""
    return {
        "check": f"{type(check).__name__}",
        "version": check.version,
        "settings": to_jsonable_python(check.measuring()),
        "library": _library_version(check.library),
        "source": source_digest(check),
    }


def _library_version(distribution: str | None) -> str | None:
    try:
        return None if distribution is None else metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return "not installed"


class Reads:
    """Digests of what each check reads of each problem, made once."""

    def __init__(self, checks: Mapping[str, Check]) -> None:
        self._checks = list(checks.values())
        self._of: dict[int, list[str]] = {}
        self._digests: dict[bytes, str] = {}

    def of(self, order: int, prompt: Prompt) -> list[str]:
        """The digest for each check, in their order; `order` is the problem's number."""
        found = self._of.get(order)
        if found is None:
            if len(self._of) >= REMEMBERED:
                self._of.clear()
            found = self._of[order] = [self._digest(check.reads(prompt)) for check in self._checks]
        return found

    def _digest(self, reads: Any) -> str:
        """`digest`, remembered for what many problems share (nothing at all, the kind of the answer)."""
        try:
            text = msgspec.json.encode(reads)
        except (TypeError, UnicodeEncodeError):
            return digest(reads)
        if len(text) > SHARED_BYTES:
            return digest(reads)
        return self._digests.get(text) or self._digests.setdefault(text, digest(reads))


REMEMBERED = 10_000
"""Problems whose digests are remembered; samples of one problem stand close together in most sets."""
SHARED_BYTES = 32
"""What is longer than this is a problem's own."""


def trace_key(trace_id: str, content: str) -> str:
    """What the keys of all measurements of a trace share: 128 bits (hex) of the SHA-256 over the trace's id (which says where an
    answer belongs, not what it says) and the digest of its line.
    """
    text = f"{trace_id}\n{content}"
    return hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()[:32]


def measurement_key(identity: str, trace: str, reads: str) -> str:
    """The cache key: the trace's key, 64 bits of the digest of the check's identity, 128 bits of the digest of what the check
    reads of the problem. Parts that are digests already need not be digested once more for every check of every trace.
    """
    return f"{trace}{identity[:16]}{reads[:32]}"


def source_digest(check: Check) -> str | None:
    """Digest of the file of a user's own check: editing it re-measures, since nobody raises `version` while trying out."""
    module = sys.modules[type(check).__module__]
    if not module.__name__.startswith(OWN):
        return None
    return hashlib.sha256(Path(str(module.__file__)).read_bytes()).hexdigest()[:16]
