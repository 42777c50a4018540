"""What a row of the provider table can say, and the rule that a guess never changes a request.

The rows themselves are in provider_rows.py (hosted) and provider_rows_local.py (servers of one's own); whoever wants
one asks providers.py. A cell of a row counts only if its source is known: see `certain`.
"""

from __future__ import annotations

from collections.abc import Mapping
from fnmatch import fnmatchcase
from types import MappingProxyType
from typing import Any, Literal, NamedTuple

How = Literal["measured", "package", "page", "unchecked"]
"""How a fact is known: seen on a server of our own, read in a package's source, read on a page, or not checked."""
Wire = Literal["full", "summary", "none", "depends"]
"""How much of the reasoning a reply carries; "depends": on the model, or on how the server was started."""
Logprobs = Literal["openai", "together", "refused", "ignored", "unknown"]
"""How log-probabilities are asked for, or why they can't be had; "unknown": asked as at OpenAI, without promise."""
Batch = Literal["openai", "together", "mistral", "file", "none"]
"""How batches are submitted; "file": only as a file that another program reads."""


class Known(NamedTuple):
    """Where a fact comes from."""

    how: How
    where: str
    """Package and version, or the page's address."""
    date: str
    """The day it was read, as 2026-11-22."""

    def __str__(self) -> str:
        return f"{self.where}, read {self.date}"


class Rule(NamedTuple):
    """What a provider does with some fields of a request."""

    fields: tuple[str, ...]
    known: Known
    does: Literal["refused", "ignored"] = "refused"
    models: tuple[str, ...] = ("*",)
    """For models whose name (after the last slash) matches one of these, and none that begins with "!"."""
    but: tuple[Any, ...] = ()
    """Values that are taken."""
    unless: tuple[str, tuple[Any, ...]] | None = None
    """A field of the request and the values (None: absent) with which the rule does not hold."""
    hint: str = ""
    """What to do instead, as the rest of a sentence."""

    def hits(self, model: str, sent: Mapping[str, Any]) -> list[str]:
        """The fields of a request that it speaks of."""
        if not matches(model, self.models) or (self.unless and sent.get(self.unless[0]) in self.unless[1]):
            return []
        return [field for field in self.fields if field in sent and sent[field] not in self.but]


class Exclusive(NamedTuple):
    """Fields of which a request may carry only one."""

    fields: tuple[str, ...]
    known: Known


class Note(NamedTuple):
    """A sentence for whoever asks models with these names."""

    models: tuple[str, ...]
    text: str
    known: Known


class Provider(NamedTuple):
    """How one provider differs from plain OpenAI; what is not said is as there, or plays no part."""

    known: Mapping[str, Known]
    """How each cell is known: by its name, "*" for all that are not named. Rules, pairs and notes say it themselves."""
    kind: Literal["http", "embedded", "local"] = "http"
    """"embedded", "local": a model server that this tool starts and stops itself."""
    base_url: str | None = None
    """Where it answers; None when the recipe must say it."""
    base_url_like: str = "https://host/v1"
    """What a base_url looks like, for the error."""
    hosts: tuple[str, ...] = ()
    """Host names by which it is recognised, "*" stands for anything."""
    key_variable: str | None = None
    """Environment variable that usually holds its key; None: no key unless the recipe names a variable."""
    key_header: Literal["Authorization", "api-key"] = "Authorization"
    reasoning: tuple[str, ...] = ()
    """Where in a message the reasoning stands: a field's name, "content list" or "inline"."""
    wire: Wire = "depends"
    wire_of: tuple[tuple[str, Wire], ...] = ()
    """Models (pattern) that differ."""
    rules: tuple[Rule, ...] = ()
    exclusive: tuple[Exclusive, ...] = ()
    ceiling_key: str | None = None
    """What it calls the ceiling; None: it takes max_tokens and max_completion_tokens."""
    logprobs: Logprobs = "unknown"
    logprobs_most: int = 100
    """Alternatives per token at most."""
    n: Literal["yes", "no", "ignored", "unknown"] = "unknown"
    """Whether one request can ask for several answers; r1distill never does, since it is not portable."""
    extra_body: Mapping[str, Any] = MappingProxyType({})
    """Sent unless the recipe's extra_body says otherwise."""
    must_stream: bool = False
    """It answers streams only."""
    reasoning_apart: bool = False
    """usage.completion_tokens does not hold the reasoning tokens."""
    requests_window_s: int = 60
    """Seconds that x-ratelimit-limit-requests speaks of."""
    limits: str = ""
    """Peculiarities of its limits and their headers."""
    batch: Batch = "none"
    terms: str = ""
    """One sentence, where the terms restrict training on outputs."""
    notes: tuple[Note, ...] = ()
    """What whoever asks certain models should know."""

    @property
    def source(self) -> str:
        """Where most of the row comes from."""
        return str(self.known["*"])

    def wire_for(self, model: str) -> Wire:
        """How much of this model's reasoning a reply carries."""
        return next((wire for pattern, wire in self.wire_of if matches(model, (pattern,))), self.wire)


SPEAK_FOR_THEMSELVES = frozenset({"known", "kind", "base_url_like", "rules", "exclusive", "notes"})
"""Cells that are no facts, or whose parts name their own sources."""


def matches(model: str, patterns: tuple[str, ...]) -> bool:
    """True when a model's name, in small letters and without what stands before its last slash, fits the patterns."""
    name = model.lower().rsplit("/", 1)[-1]
    if any(fnmatchcase(name, pattern[1:]) for pattern in patterns if pattern.startswith("!")):
        return False
    return any(fnmatchcase(name, pattern) for pattern in patterns if not pattern.startswith("!"))


def certain(row: Provider) -> Provider:
    """The row without what nobody has checked: such cells take their defaults, such rules and pairs are left out."""
    every = row.known["*"].how == "unchecked"
    cells = set(Provider._fields) - SPEAK_FOR_THEMSELVES - set(row.known) if every else set()
    cells |= {name for name, known in row.known.items() if known.how == "unchecked" and name != "*"}
    kept = row._replace(**{name: Provider._field_defaults[name] for name in cells})
    return kept._replace(
        rules=tuple(rule for rule in kept.rules if rule.known.how != "unchecked"),
        exclusive=tuple(pair for pair in kept.exclusive if pair.known.how != "unchecked"),
    )
