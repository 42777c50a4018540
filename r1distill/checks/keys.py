"""What a measurement's key names: all that decides it, so that an outdated one is never found."""

from __future__ import annotations

import hashlib
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

from r1distill.checks.base import Check

OWN = "r1distill_own_"
"""Begins the module name of every check that comes from a file of the user."""


def check_identity(check: Check) -> dict[str, Any]:
    """What decides a check's measurements, apart from the trace and the problem."""
    return {
        "check": f"{type(check).__name__}",
        "version": check.version,
        "settings": check.measuring(),
        "library": _library_version(check.library),
        "source": source_digest(check),
    }


def _library_version(distribution: str | None) -> str | None:
    try:
        return None if distribution is None else metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return "not installed"


def measurement_key(identity: str, trace_id: str, content: str, reads: str) -> str:
    """The cache key: SHA-256 over the digests of the check's identity, of the trace's line and of what the check reads
    of the problem, and the trace id (which says where an answer belongs, not what it says).
    """
    text = f"{identity}\n{trace_id}\n{content}\n{reads}"
    return hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()


def source_digest(check: Check) -> str | None:
    """Digest of the file of a user's own check: editing it re-measures, since nobody raises `version` while trying out."""
    module = sys.modules[type(check).__module__]
    if not module.__name__.startswith(OWN):
        return None
    return hashlib.sha256(Path(str(module.__file__)).read_bytes()).hexdigest()[:16]
