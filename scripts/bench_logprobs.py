#!/usr/bin/env python
"""What log-probabilities cost: CPU per answer (decode, append, Parquet), how long they hold the event loop up, bytes per
million tokens on the disk.

Usage: scripts/bench_logprobs.py [--text FILE] [--k 0,5,20] [--tokens N]
The teacher is made up: words of the text as tokens, their usual followers as alternatives, values of a peaked softmax
(7 of 10 tokens nearly certain, as reasoning models answer). The best of five rounds counts for CPU; the event loop is
watched by a task that wants to wake every millisecond.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import math
import random
import re
import struct
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from r1distill.logprobs.store import LogprobStore
from r1distill.teachers.logprobs import decode

HERE = Path(__file__).resolve().parent.parent
ANSWER_TOKENS = 1000
"""Tokens of an answer when size is measured."""
LONG_TOKENS, LONG_ANSWERS, LONG_KINDS, PAUSE_S = 2500, 200, 36, 0.01
"""Tokens of an answer, answers, how many different ones, and seconds between two when the event loop is watched."""


class Teacher:
    """Answers with log-probabilities in OpenAI's shape."""

    def __init__(self, text: str) -> None:
        self.tokens = re.findall(r" ?\w{1,7}|[^\w\s]|\s+", text)
        self.common = [token for token, _ in Counter(self.tokens).most_common()]
        self.follow: dict[str, Counter[str]] = defaultdict(Counter)
        for one, two in zip(self.tokens, self.tokens[1:], strict=False):
            self.follow[one][two] += 1
        self.dice = random.Random(7)
        self.at = 0

    def answer(self, tokens: int, k: int) -> bytes:
        """The `logprobs` object of an answer, as JSON."""
        content = [self._position(k) for _ in range(tokens)]
        return json.dumps({"content": content}, ensure_ascii=False, separators=(",", ":")).encode()

    def _position(self, k: int) -> dict[str, Any]:
        last, token = self.tokens[self.at], self.tokens[self.at + 1]
        self.at = (self.at + 1) % (len(self.tokens) - 1)
        values = self._softmax(k + 1)
        rank = 0 if self.dice.random() < math.exp(values[0]) else self.dice.randrange(min(4, k + 1))
        names = [name for name in self._names(last, k + 2) if name != token][:k]
        names.insert(rank, token)
        rows = [entry(name, value) for name, value in zip(names, values, strict=True)]
        return {**rows[rank], "top_logprobs": rows[:k]}

    def _names(self, last: str, count: int) -> list[str]:
        names = dict(self.follow[last].most_common(count // 2))
        while len(names) < count:
            names[self.common[int(len(self.common) * self.dice.random() ** 3)]] = 0
        return list(names)

    def _softmax(self, count: int) -> list[float]:
        sure = self.dice.random() < 0.7
        first = 1 - 10 ** self.dice.uniform(-5, -1) if sure else self.dice.uniform(0.3, 0.95)
        values, rest = [math.log(first)], math.log(1 - first)
        for _ in range(count - 1):
            rest -= self.dice.expovariate(1.5)
            values.append(rest)
        return sorted(values, reverse=True)


def entry(token: str, value: float) -> dict[str, Any]:
    """A token with its value as a server prints a float32."""
    return {
        "token": token,
        "logprob": struct.unpack("f", struct.pack("f", value))[0],
        "bytes": list(token.encode()),
    }


def best_us(action: Callable[[], object], times: int) -> float:
    """CPU microseconds of one call, the best of five rounds."""
    rounds = []
    for _ in range(5):
        start = time.process_time()
        for _ in range(times):
            action()
        rounds.append((time.process_time() - start) / times)
    return min(rounds) * 1e6


def measure_cpu(teacher: Teacher) -> None:
    """Print microseconds for an answer of 100 tokens x 20 alternatives."""
    body = teacher.answer(100, 20)
    record = decode(body, 20)
    assert record is not None
    print(f"body of 100 tokens x 20 alternatives: {len(body):,} bytes")
    print(f"  json.loads          {best_us(lambda: json.loads(body), 100):6.0f} us")
    print(f"  decode              {best_us(lambda: decode(body, 20), 100):6.0f} us")
    with tempfile.TemporaryDirectory() as folder:
        with LogprobStore(Path(folder), "warm") as store:
            for number in range(250):
                store.append(str(number), "0", record)
        with LogprobStore(Path(folder), "part-1-of-1") as store:
            ids = iter(range(1 << 30))
            print(
                f"  append              {best_us(lambda: store.append(f'{next(ids):064x}', 's' * 64, record), 50):6.0f} us"
            )
            start = time.process_time()
        print(f"  Parquet, per answer {(time.process_time() - start) / next(ids) * 1e6:6.0f} us")


def measure_holding(teacher: Teacher) -> None:
    """Print how long appending, and the conversions beside it, keep the event loop from other work."""
    answers = [decode(teacher.answer(LONG_TOKENS, 20), 20) for _ in range(LONG_KINDS)]
    with tempfile.TemporaryDirectory() as name, LogprobStore(Path(name), "part-1-of-1") as store:
        store.sync_on_append = False
        appends_s, lags_s = asyncio.run(appended(store, answers))
        start = time.monotonic()
        store.settle()
        rest_s = time.monotonic() - start
    print(
        f"{LONG_ANSWERS} answers of {LONG_TOKENS:,} tokens x 20, one each {PAUSE_S * 1e3:.0f} ms, converted beside:"
    )
    for name, values in (("append", appends_s), ("event loop late by", lags_s)):
        values.sort()
        median, late, most = (values[int(part * (len(values) - 1))] * 1e3 for part in (0.5, 0.99, 1))
        print(f"  {name:18} median {median:.2f} ms, 99% {late:.2f} ms, most {most:.2f} ms")
    print(f"  conversions that were still to do: {rest_s:.1f} s")


async def appended(store: LogprobStore, answers: list[Any]) -> tuple[list[float], list[float]]:
    """Seconds of each append, and by which a task that sleeps a millisecond woke late meanwhile."""
    lags_s: list[float] = []
    ticker = asyncio.create_task(tick(lags_s))
    appends_s = []
    for number in range(LONG_ANSWERS):
        start = time.perf_counter()
        store.append(f"{number:064x}", f"{number:064x}", answers[number % len(answers)])
        appends_s.append(time.perf_counter() - start)
        await asyncio.sleep(PAUSE_S)
    ticker.cancel()
    return appends_s, lags_s


async def tick(lags_s: list[float]) -> None:
    """Note how late each wake-up is."""
    while True:
        start = time.perf_counter()
        await asyncio.sleep(0.001)
        lags_s.append(time.perf_counter() - start - 0.001)


def records(teacher: Teacher, k: int, tokens: int) -> Iterator[Any]:
    """Answers of ANSWER_TOKENS, `tokens` in all."""
    for _ in range(tokens // ANSWER_TOKENS):
        yield decode(teacher.answer(ANSWER_TOKENS, k), k)


def measure_size(teacher: Teacher, k: int, tokens: int) -> None:
    """Print bytes per million tokens."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with LogprobStore(folder, "part-1-of-1") as store:
            for number, record in enumerate(records(teacher, k, tokens)):
                store.append(f"{number:064x}", f"{number:064x}", record)
        size = sum(file.stat().st_size for file in folder.glob("*.parquet"))
    print(f"k = {k:2}: {size / tokens:6.1f} MB per million tokens")


def main() -> None:
    """Measure and print."""
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("--text", type=Path, default=HERE / "CONTRIBUTING.md")
    options.add_argument("--k", default="0,5,20")
    options.add_argument("--tokens", type=int, default=100_000)
    chosen = options.parse_args()
    teacher = Teacher(chosen.text.read_text(encoding="utf-8"))
    measure_cpu(teacher)
    measure_holding(teacher)
    for k in chosen.k.split(","):
        measure_size(teacher, int(k), chosen.tokens)


if __name__ == "__main__":
    main()
