"""The asking engine that harvest, evaluate and the judge share: owed slots in, traces in a ledger out.

Promises: an answer is in the ledger before it is counted; a failed request is recorded apart and stays owed unless
asking again can't help; Ctrl-C stops asking and lets the answers under way arrive (a second one drops them).
"""

from __future__ import annotations

import asyncio
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from r1distill.errors import StopRunError
from r1distill.ledger import Ledger
from r1distill.owed import Wanted
from r1distill.recipe import HarvestSection, PriceSection
from r1distill.records import Failure, Message, Trace, split_ceiling, trace_id_of
from r1distill.show import Progress, Show
from r1distill.teachers.client import ChatClient, Endpoint
from r1distill.teachers.money import cost_usd
from r1distill.teachers.replies import Action, Refusal, Reply
from r1distill.teachers.retry import Sleep, policy

TICK_S = 0.5
"""Seconds between two looks at the clock: progress and the ledger's fsync."""


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


class Asker:
    """One asking run over one ledger."""

    def __init__(
        self,
        endpoints: dict[str, Endpoint],
        limits: HarvestSection,
        ledger: Ledger,
        failures: Ledger,
        *,
        prices: dict[str, PriceSection | None] | None = None,
        show: Show | None = None,
        on_trace: Callable[[Trace], None] | None = None,
        sleep: Sleep = asyncio.sleep,
    ) -> None:
        self.endpoints, self.limits, self.ledger, self.failures = endpoints, limits, ledger, failures
        self.prices = prices or {}
        self.show, self.on_trace, self.sleep = show or Show(0), on_trace, sleep
        self.tally = Tally()
        self._clients: dict[str, ChatClient] = {}
        self._stop: StopRunError | None = None
        self._stopped = asyncio.Event()
        self._in_flight = 0

    def run(self, wanted: list[Wanted], title: str) -> Tally:
        """Ask for everything wanted. Raises StopRunError, StorageError; after Ctrl-C the tally says interrupted."""
        started = time.monotonic()
        try:
            asyncio.run(self._run(wanted, title))
        finally:
            self.tally.elapsed_s = time.monotonic() - started
        if self._stop is not None:
            raise self._stop
        return self.tally

    async def _run(self, wanted: list[Wanted], title: str) -> None:
        queue = iter(wanted)
        async with _opened(self._client(name) for name in self.endpoints) as clients:
            self._clients = dict(zip(self.endpoints, clients, strict=True))
            with self.show.progress(title, len(wanted)) as progress:
                workers = [
                    asyncio.create_task(self._worker(queue))
                    for _ in range(min(self.limits.max_in_flight, len(wanted)))
                ]
                ticker = asyncio.create_task(self._tick(progress))
                with self._interruptible(workers):
                    try:
                        await asyncio.gather(*workers)
                    except asyncio.CancelledError:
                        self.tally.interrupted = True
                    finally:
                        for task in [*workers, ticker]:
                            task.cancel()
                        await asyncio.gather(*workers, ticker, return_exceptions=True)
                progress.update(self._done(), self._detail(progress))

    def _client(self, name: str) -> ChatClient:
        limits = self.limits
        return ChatClient(
            self.endpoints[name],
            idle_timeout_s=limits.idle_timeout_s,
            total_timeout_s=limits.total_timeout_s,
            stream=limits.stream,
        )

    async def _worker(self, queue: Iterator[Wanted]) -> None:
        for item in queue:
            self.tally.asked += 1
            self._in_flight += 1
            try:
                await self._one(item)
            finally:
                self._in_flight -= 1
            if self._stopped.is_set():
                return

    async def _one(self, item: Wanted) -> None:
        client = self._clients[item.teacher]
        body = request_body(item)
        attempts, started = 0, time.monotonic()
        last: Refusal | None = None

        async def attempt() -> Reply:
            nonlocal attempts, started, last
            if last is not None and self._stopped.is_set():
                raise last
            attempts, started = attempts + 1, time.monotonic()
            self.tally.attempts += 1
            try:
                return await client.ask(body)
            except Refusal as refused:
                self.tally.retries[refused.error_class] += refused.action is Action.RETRY
                last = refused
                raise

        try:
            reply: Reply = await policy(
                self.limits.max_attempts, self._pause, lambda: client.answered, self._stopped.is_set
            )(attempt)
        except Refusal as refused:
            self._record_failure(item, refused, attempts)
            return
        self._record(item, reply, attempts, time.monotonic() - started)

    async def _pause(self, seconds: float) -> None:
        """Wait between two attempts, but no longer than until the run is told to stop."""
        waits = [asyncio.ensure_future(self.sleep(seconds)), asyncio.ensure_future(self._stopped.wait())]
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        for wait in waits:
            wait.cancel()

    def _record(self, item: Wanted, reply: Reply, attempts: int, latency_s: float) -> None:
        trace = trace_of(item, reply, self._cost(item.teacher, reply), attempts, latency_s)
        self.ledger.append(trace)
        self.tally.add(trace)
        if self.on_trace is not None:
            self.on_trace(trace)

    def _cost(self, teacher: str, reply: Reply) -> float | None:
        if self.endpoints[teacher].local:
            return 0.0
        return (
            reply.cost_usd if reply.cost_usd is not None else cost_usd(reply.usage, self.prices.get(teacher))
        )

    def _record_failure(self, item: Wanted, refused: Refusal, attempts: int) -> None:
        final = refused.action is Action.FINAL
        never_reached = refused.error_class == "unreachable" and not self._clients[item.teacher].answered
        self.failures.append(
            Failure(
                slot=item.slot,
                prompt_id=item.prompt_id,
                sample=item.sample,
                teacher=item.teacher,
                error_class=refused.error_class,
                http_status=refused.status,
                attempts=attempts,
                final=final,
                message=refused.message,
                created=now(),
            )  # fmt: skip
        )
        self.tally.failed_final += final
        self.tally.failed_open += not final
        if refused.action is Action.STOP or never_reached:
            self._stopped.set()
            self._stop = self._stop or self._stop_error(item.teacher, refused)

    def _stop_error(self, teacher: str, refused: Refusal) -> StopRunError:
        base_url, status = (
            self.endpoints[teacher].base_url,
            f" (HTTP {refused.status})" if refused.status else "",
        )
        if refused.error_class == "unreachable":
            what = f"can't be reached at {base_url}: {refused.message}; check base_url and the network"
        else:
            what = f"refuses to answer{status}, {refused.error_class}: {refused.message}; {ADVICE.get(refused.error_class, '')}"
        return StopRunError(
            f"Teacher {teacher} {what.rstrip('; ')}. Everything received so far is kept; run again to go on."
        )

    async def _tick(self, progress: Progress) -> None:
        while True:
            progress.update(self._done(), self._detail(progress))
            self.ledger.sync()
            self.failures.sync()
            await asyncio.sleep(TICK_S)

    def _done(self) -> int:
        return self.tally.traces + self.tally.failed_final + self.tally.failed_open

    def _detail(self, progress: Progress) -> str:
        t = self.tally
        spent_s = max(1e-9, time.monotonic() - progress.started)
        parts = [
            f"{t.traces / spent_s:.1f}/s",
            f"{t.completion_tokens:,} tokens ({t.completion_tokens / spent_s:.0f}/s)",
        ]
        parts += [f"{self._in_flight} in flight"] if self._in_flight else []
        parts += [f"{t.failed_final + t.failed_open} failed"] if t.failed_final + t.failed_open else []
        parts += [f"{t.retries.total()} retries"] if t.retries.total() else []
        parts += [f"${t.cost_usd:.4f}"] if t.cost_usd else []
        return ", ".join(parts)

    @contextmanager
    def _interruptible(self, workers: list[asyncio.Task[None]]) -> Iterator[None]:
        """First Ctrl-C: ask nothing new, let what is under way arrive. Second: drop it."""

        def on_signal() -> None:
            if self.tally.interrupted:
                for worker in workers:
                    worker.cancel()
                return
            self.tally.interrupted = True
            self._stopped.set()
            self.show.note(
                f"\nStopping: waiting for {self._in_flight} answers under way (Ctrl-C again drops them).", 0
            )

        loop = asyncio.get_running_loop()
        try:
            loop.add_signal_handler(signal.SIGINT, on_signal)
        except (NotImplementedError, RuntimeError, ValueError):  # not the main thread, or no such thing here
            yield
            return
        try:
            yield
        finally:
            loop.remove_signal_handler(signal.SIGINT)


ADVICE = {
    "key": "check the key and its rights",
    "money": "top up the account",
    "quota": "raise the quota or top up the account",
    "not_found": "check model and base_url",
    "refused_request": "change what the recipe sends (sampling, extra_body)",
    "redirect": "use the address that it redirects to",
}


class _opened:
    """Open several clients, close them all."""

    def __init__(self, clients: Iterator[ChatClient]) -> None:
        self.clients = list(clients)

    async def __aenter__(self) -> list[ChatClient]:
        return [await client.__aenter__() for client in self.clients]

    async def __aexit__(self, *error: Any) -> None:
        for client in self.clients:
            await client.__aexit__(None, None, None)


def request_body(item: Wanted) -> dict[str, Any]:
    """The JSON of one request, without the model; a seed becomes seed + sample number, so that samples differ."""
    body: dict[str, Any] = {
        "messages": [{"role": m.role, "content": m.content} for m in item.messages],
        **item.sampling,
    }
    if isinstance(body.get("seed"), int):
        body["seed"] += item.sample
    return body


def trace_of(item: Wanted, reply: Reply, cost: float | None, attempts: int, latency_s: float) -> Trace:
    """The trace of a reply."""
    rest, ceiling = split_ceiling(item.sampling)
    return Trace(
        id=trace_id_of(item.slot, ceiling), slot=item.slot, prompt_id=item.prompt_id, sample=item.sample,
        teacher=item.teacher, model=item.model, messages=[Message(m.role, m.content) for m in item.messages],
        reasoning=reply.split.reasoning, answer=reply.split.answer, finish=reply.finish, sampling=rest, max_tokens=ceiling,
        usage=reply.usage, cost_usd=cost, latency_s=round(latency_s, 3), attempts=attempts, model_answered=reply.model,
        reasoning_source=reply.split.source, created=now(),
    )  # fmt: skip


def now() -> str:
    """The UTC time as RFC 3339, to the second."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
