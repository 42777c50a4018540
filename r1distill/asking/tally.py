"""What an asking run counts, and its progress line."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from r1distill.records import Trace
from r1distill.show import dollars


@dataclass
class Tally:
    """What an asking run did."""

    asked: int = 0
    traces: int = 0
    truncated: int = 0
    escalated: int = 0
    """Cut answers that were asked for once more with a higher ceiling."""
    failed_final: int = 0
    failed_open: int = 0
    """Given up for now; the next run asks again."""
    interrupted: bool = False
    over_budget: bool = False
    """Stopped because one more request might have cost more than the budget has left."""
    attempts: int = 0
    retries: Counter[str] = field(default_factory=Counter)
    """Repeated attempts by error class."""
    failures: Counter[str] = field(default_factory=Counter)
    """Requests that were given up, by error class."""
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cost_usd: float = 0.0
    """Of the traces of this run."""
    cost_unknown: int = 0
    """Traces whose cost nobody knows."""
    lost_usd: float = 0.0
    """Paid, or maybe paid, for attempts that gave no usable answer."""
    maybe_billed: int = 0
    """Attempts that broke off, so that nobody here knows whether they were billed."""
    spent_usd: float = 0.0
    """Of the run's budget, earlier harvests and lost attempts included."""
    reserved_usd: float = 0.0
    """The most that the requests under way can cost."""
    budget_usd: float | None = None
    without_reasoning: int = 0
    warnings: list[str] = field(default_factory=list)
    settled_before: int = 0
    """What earlier rounds of the same call settled (with a fallback there is one for each teacher)."""
    given_up: set[str] = field(default_factory=set)
    """Slots that stay owed after this round."""
    stopped: dict[str, str] = field(default_factory=dict)
    """Teachers that could not be asked any more, and why."""
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

    def add_failure(self, slot: str, error_class: str, final: bool) -> None:
        """Count a request that was given up."""
        self.failures[error_class] += 1
        if not final:
            self.given_up.add(slot)
        self.failed_final += final
        self.failed_open += not final

    @property
    def settled(self) -> int:
        """Answers that need not be asked for again."""
        return self.traces - self.escalated + self.failed_final

    @property
    def done(self) -> int:
        """Answers that this round settled; what was given up is still owed."""
        return self.settled - self.settled_before

    def detail(self, spent_s: float, in_flight: int, total: int = 0) -> str:
        """Rates, troubles and money for a progress line; `total` answers are asked for in all."""
        spent_s = max(1e-9, spent_s)
        parts = [f"{self.traces / spent_s:.1f}/s", tokens_text(self.completion_tokens, self.traces, spent_s)]
        parts += [f"{in_flight} in flight"] if in_flight else []
        parts += [f"failed: {_counts(self.failures)}"] if self.failures else []
        parts += [f"retries: {_counts(self.retries)}"] if self.retries else []
        return ", ".join(parts + self._money(total))

    def _money(self, total: int) -> list[str]:
        now = self.cost_usd + self.lost_usd
        parts = [f"{dollars(now)} now{self._expected(now, total)}"] if now else []
        if self.budget_usd is not None:
            aside = f" (at most {dollars(self.reserved_usd)} set aside)" if self.reserved_usd else ""
            parts.append(f"{dollars(self.spent_usd)} of the budget of {dollars(self.budget_usd)}{aside}")
        return parts

    def _expected(self, now_usd: float, total: int) -> str:
        """What all that is asked for now will cost, by the answers so far; "" when they can't tell."""
        if not self.traces or self.cost_unknown or self.done >= total:
            return ""
        whole = self.settled_before + total
        return f" (about {dollars(now_usd / max(1, self.settled) * whole)} for all {whole:,})"


def tokens_text(completion_tokens: int, traces: int, spent_s: float, what: str = "tokens") -> str:
    """Completion tokens and their rate; a teacher that reports none did not write none."""
    if traces and not completion_tokens:
        return f"{what} unknown"
    return f"{completion_tokens:,} {what} ({completion_tokens / spent_s if spent_s else 0.0:.0f}/s)"


def _counts(counts: Counter[str]) -> str:
    return ", ".join(f"{count} {name}" for name, count in counts.most_common())
