"""What the lanes of an asking run share, and on what terms each teacher is asked."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple, Protocol

from r1distill.asking.purse import Purse
from r1distill.asking.tally import Tally
from r1distill.ledger import Ledger
from r1distill.logprobs.tokens import TokenLogprobs
from r1distill.recipe_sections import EscalateSection, HarvestSection, PriceSection
from r1distill.records import Trace
from r1distill.show import Show
from r1distill.teachers.retry import Sleep


class TokenStore(Protocol):
    """Where log-probabilities go."""

    sync_on_append: bool
    """False: somebody else calls `sync`."""

    def append(self, trace_id: str, slot: str, record: TokenLogprobs) -> None:
        """Keep the record of one answer, before its trace is written."""

    def sync(self) -> None:
        """Fsync what was kept."""


class Desk(NamedTuple):
    """What all lanes of an asking run share."""

    limits: HarvestSection
    ledger: Ledger
    failures: Ledger
    tally: Tally
    show: Show
    purse: Purse
    sleep: Sleep
    on_trace: Callable[[Trace], None] | None = None
    escalate: EscalateSection | None = None
    reasoning_required: bool = False
    top_logprobs: int = 0
    store: TokenStore | None = None


class Terms(NamedTuple):
    """On what terms one teacher is asked."""

    price: PriceSection | None = None
    max_in_flight: int | None = None
    """Default: harvest.max_in_flight."""
    requests_per_min: float | None = None
    tokens_per_min: float | None = None
    limit_window_s: float = 60.0
    """What the endpoint's x-ratelimit-limit-requests counts in."""
    logprobs_body: Mapping[str, Any] = MappingProxyType({})
    """Request fields that ask for log-probabilities."""
    recent: Sequence[Trace] = ()
    """A few answers of earlier runs by the same model with the same sampling."""
    for_traces: bool = True
    """False: nobody will learn from the answers (a judge's, an evaluation's), so that missing reasoning is no trouble."""
