#!/usr/bin/env python3
"""The clients that bench_harvest.py compares, each run in a process of its own so that CPU time and memory are its own.

In: one JSON object (a `Job`) as the only argument. Out: one JSON line with what was measured. CPU time counts from the
first request to the last row, after all imports; every client asks the same and writes one JSONL row per answer.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

KEY = "sk-bench-0123456789"
KEY_VARIABLE = "R1DISTILL_BENCH_KEY"
CEILING_TOKENS = 16384


@dataclass(frozen=True)
class Job:
    """What one client has to do."""

    client: str
    base_url: str
    folder: str
    prompts: int
    in_flight: int
    stream: bool = False
    top_logprobs: int = 0
    core: int | None = None
    profile: str | None = None
    """Write a cProfile of the client here (its CPU time means nothing then)."""


class Meter:
    """CPU and wall time from the first request to the last row, and memory."""

    def __init__(self) -> None:
        self.answers = 0
        self.rss_at: list[tuple[int, int]] = []
        self.sample_every = 1 << 60

    def start(self) -> None:
        """The first request leaves now."""
        self.cpu_s, self.wall_s = time.process_time(), time.monotonic()
        self.started_s = self.wall_s

    def row(self) -> None:
        """A row was written."""
        self.answers += 1
        self.last = (time.process_time(), time.monotonic())
        if self.answers % self.sample_every == 0:
            self.rss_at.append((self.answers, memory_bytes("VmRSS")))

    def result(self) -> dict[str, Any]:
        """What the parent prints."""
        cpu_s, wall_s = self.last[0] - self.cpu_s, self.last[1] - self.wall_s
        return {
            "answers": self.answers, "cpu_ms": 1000 * cpu_s / self.answers, "wall_s": wall_s,
            "peak_mb": memory_bytes("VmHWM") / 1e6, "bytes_per_trace": self._growth(), "started_s": self.started_s,
        }  # fmt: skip

    def _growth(self) -> float | None:
        """Bytes of memory that each further answer took, over the second half."""
        half = [point for point in self.rss_at if point[0] * 2 >= self.answers]
        if len(half) < 2:
            return None
        return (half[-1][1] - half[0][1]) / (half[-1][0] - half[0][0])


def memory_bytes(what: str) -> int:
    """VmRSS (now) or VmHWM (peak) of this process, in bytes; Linux only, else the peak by getrusage."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        import resource

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(what))


def question(number: int) -> str:
    """The problem of this number."""
    return f"What is {number} + {number * 7}? Think step by step and put the answer into a box."


def body(number: int, job: Job) -> dict[str, Any]:
    """What the peers send."""
    asked: dict[str, Any] = {
        "model": "bench", "messages": [{"role": "user", "content": question(number)}], "max_tokens": CEILING_TOKENS,
        "temperature": 0.6,
    }  # fmt: skip
    if job.top_logprobs:
        asked |= {"logprobs": True, "top_logprobs": job.top_logprobs}
    if job.stream:
        asked |= {"stream": True, "stream_options": {"include_usage": True}}
    return asked


def row(number: int, asked: dict[str, Any], reasoning: str, answer: str, finish: Any, usage: Any) -> bytes:
    """The peers' row: what was asked, what came, how it ended."""
    kept = {
        "id": number,
        "messages": asked["messages"],
        "reasoning": reasoning,
        "answer": answer,
        "finish": finish,
        "usage": usage,
    }
    return json.dumps(kept).encode() + b"\n"


async def _all(job: Job, meter: Meter, one: Callable[[int], Awaitable[bytes]]) -> None:
    """Ask for everything with `in_flight` workers, each row written as it comes."""
    numbers: Iterator[int] = iter(range(job.prompts))
    file = os.open(Path(job.folder) / f"{job.client}.jsonl", os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    async def worker() -> None:
        for number in numbers:
            os.write(file, await one(number))
            meter.row()

    meter.start()
    await asyncio.gather(*(worker() for _ in range(min(job.in_flight, job.prompts))))
    os.close(file)


async def stock(job: Job, meter: Meter) -> None:
    """`AsyncOpenAI.chat.completions.create` as it comes."""
    from openai import AsyncOpenAI
    from openai.resources.chat.completions import AsyncCompletions

    assert AsyncCompletions  # the SDK loads its parts when they are first touched

    async def one(number: int) -> bytes:
        asked = body(number, job)
        if job.stream:
            return await streamed(number, asked)
        reply = await client.chat.completions.create(**asked)
        choice = reply.choices[0]
        reasoning = getattr(choice.message, "reasoning_content", "")
        return row(
            number,
            asked,
            reasoning,
            choice.message.content or "",
            choice.finish_reason,
            reply.usage.to_dict() if reply.usage else None,
        )

    async def streamed(number: int, asked: dict[str, Any]) -> bytes:
        reasoning: list[str] = []
        answer: list[str] = []
        finish, usage = None, None
        async for chunk in await client.chat.completions.create(**asked):
            usage = chunk.usage.to_dict() if chunk.usage else usage
            for choice in chunk.choices:
                reasoning.append(getattr(choice.delta, "reasoning_content", None) or "")
                answer.append(choice.delta.content or "")
                finish = choice.finish_reason or finish
        return row(number, asked, "".join(reasoning), "".join(answer), finish, usage)

    async with AsyncOpenAI(base_url=job.base_url, api_key=KEY, timeout=600) as client:
        await _all(job, meter, one)


async def raw(job: Job, meter: Meter) -> None:
    """Bare aiohttp and json (msgspec for the events of a stream), nothing else."""
    import aiohttp
    import msgspec

    url, headers = f"{job.base_url}/chat/completions", {"Authorization": f"Bearer {KEY}"}

    async def one(number: int) -> bytes:
        asked = body(number, job)
        async with session.post(url, json=asked, headers=headers) as response:
            if job.stream:
                return await streamed(number, asked, response)
            reply = json.loads(await response.read())
        choice = reply["choices"][0]
        message = choice["message"]
        return row(
            number,
            asked,
            message["reasoning_content"],
            message["content"],
            choice["finish_reason"],
            reply["usage"],
        )

    async def streamed(number: int, asked: dict[str, Any], response: aiohttp.ClientResponse) -> bytes:
        reasoning, answer, rest = [], [], b""
        finish, usage = None, None
        async for data in response.content.iter_any():
            *events, rest = (rest + data).split(b"\n\n")
            for event in events:
                if event == b"data: [DONE]":
                    continue
                chunk = msgspec.json.decode(event[6:])
                usage = chunk.get("usage") or usage
                for choice in chunk["choices"]:
                    reasoning.append(choice["delta"].get("reasoning_content") or "")
                    answer.append(choice["delta"].get("content") or "")
                    finish = choice["finish_reason"] or finish
        return row(number, asked, "".join(reasoning), "".join(answer), finish, usage)

    async with aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0), timeout=aiohttp.ClientTimeout(600)
    ) as session:
        await _all(job, meter, one)


def recipe_data(job: Job) -> dict[str, Any]:
    """The recipe of our client: price, budget and pace on."""
    return {
        "name": "bench",
        "prompts": {"problems": "problems.jsonl", "template": "bench.jinja"},
        "teacher": {
            "bench": {
                "provider": "openai-compatible", "base_url": job.base_url, "model": "bench", "api_key_env": KEY_VARIABLE,
                "sampling": {"max_tokens": CEILING_TOKENS, "temperature": 0.6},
                "price": {"input": 0.5, "output": 2.0},
            }
        },
        "harvest": {
            "samples": 1, "max_in_flight": job.in_flight, "stream": job.stream, "top_logprobs": job.top_logprobs,
            "budget_usd": 1e6,
        },
    }  # fmt: skip


def write_problems(folder: Path, count: int) -> None:
    """problems.jsonl and the template of our client's recipe."""
    (folder / "bench.jinja").write_text("<|user|>\n{{ question }}")
    with (folder / "problems.jsonl").open("w") as file:
        for number in range(count):
            file.write(
                json.dumps({"id": f"p{number}", "question": question(number), "answer": str(8 * number)})
                + "\n"
            )


def harvest(job: Job, meter: Meter) -> None:
    """`r1distill.harvest(recipe, run)`: ledger, pace, normaliser, budget all on."""
    import aiohttp
    import httpx2
    import openai

    import r1distill
    from r1distill.recipe import parse_recipe
    from r1distill.run import Run
    from r1distill.teachers.client import ChatClient

    assert aiohttp and httpx2 and openai  # imported before the clock starts, as for the others
    folder = Path(job.folder)
    os.environ[KEY_VARIABLE] = KEY
    recipe = parse_recipe(recipe_data(job), folder=folder)
    ask = ChatClient.ask

    async def first(client: ChatClient, *args: Any, **kwargs: Any) -> Any:
        if ChatClient.ask is first:
            setattr(ChatClient, "ask", ask)  # noqa: B010 - the first request only starts the clock
            meter.start()
        return await ask(client, *args, **kwargs)

    setattr(ChatClient, "ask", first)  # noqa: B010
    meter.sample_every = max(1, job.prompts // 20)
    summary = r1distill.harvest(recipe, Run(folder / "run"), on_trace=lambda trace: meter.row())
    assert summary.still_owed == 0, summary


CLIENTS: dict[str, Callable[[Job, Meter], Any]] = {"create": stock, "aiohttp": raw, "harvest": harvest}
"""By the name that the table shows."""


def run(job: Job) -> dict[str, Any]:
    """Run one job in this process; returns what was measured."""
    if job.core is not None:
        os.sched_setaffinity(0, {job.core})
    meter = Meter()
    done = CLIENTS[job.client](job, meter)
    if done is not None:
        asyncio.run(done)
    return meter.result()


def main() -> None:
    """Run the job of the argument, print its result."""
    job = Job(**json.loads(sys.argv[1]))
    if job.profile:
        import cProfile

        with cProfile.Profile() as profile:
            result = run(job)
        profile.dump_stats(job.profile)
    else:
        result = run(job)
    print(json.dumps(result))


if __name__ == "__main__":
    main()
