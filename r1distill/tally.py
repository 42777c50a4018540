"""What an asking run counts, and its progress line."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from r1distill.records import Trace


@dataclass
class Tally:
    """What an asking run did."""

    asked: int = 0
    traces: int = 0
    truncated: int = 0
    failed_final: int = 0
    failed_open: int = 0
    """Given up for now; the next run asks again."""
    interrupted: bool = False
    attempts: int = 0
    retries: Counter[str] = field(default_factory=Counter)
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cost_usd: float = 0.0
    cost_unknown: int = 0
    """Traces whose cost nobody knows."""
    without_reasoning: int = 0
    elapsed_s: float = 0.0

    def add(self, trace: Trace) -> None:
        """Count a trace."""
        self.traces += 1
        self.truncated += trace.finish == "length"
        self.prompt_tokens += trace.usage.prompt_tokens or 0
        self.completion_tokens += trace.usage.completion_tokens or 0
        self.cost_usd += trace.cost_usd or 0.0
        self.cost_unknown += trace.cost_usd is None
        self.without_reasoning += not trace.reasoning

    @property
    def done(self) -> int:
        """Answers that came or were given up."""
        return self.traces + self.failed_final + self.failed_open

    def detail(self, spent_s: float, in_flight: int) -> str:
        """Rates and troubles for a progress line."""
        spent_s, failed = max(1e-9, spent_s), self.failed_final + self.failed_open
        parts = [
            f"{self.traces / spent_s:.1f}/s",
            f"{self.completion_tokens:,} tokens ({self.completion_tokens / spent_s:.0f}/s)",
        ]
        parts += [f"{in_flight} in flight"] if in_flight else []
        parts += [f"{failed} failed"] if failed else []
        parts += [f"{self.retries.total()} retries"] if self.retries.total() else []
        parts += [f"${self.cost_usd:.4f}"] if self.cost_usd else []
        return ", ".join(parts)
