"""The benchmark runs, with tiny numbers, and prints its ratios; no time is asserted."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

SCRIPTS = Path(__file__).resolve().parent.parent / "scripts"
sys.path.insert(0, str(SCRIPTS))

import bench_harvest  # noqa: E402
import bench_teacher  # noqa: E402


def run(folder: Path, *arguments: str) -> tuple[dict[str, list[dict[str, Any]]], str]:
    """What the benchmark reports as JSON, and its tables."""
    command = [sys.executable, str(SCRIPTS / "bench_harvest.py"), "--quick", "--json", "--dir", str(folder)]
    done = subprocess.run([*command, *arguments], capture_output=True, text=True, check=True, timeout=100)
    return json.loads(done.stdout), done.stderr


def test_clients_are_compared(tmp_path: Path) -> None:
    found, tables = run(tmp_path, "plain")
    rows = {row["client"]: row for row in found["plain"]}
    assert list(rows) == ["create", "aiohttp", "harvest"]
    assert rows["create"]["times_less"] == 1
    assert rows["harvest"]["times_less"] > 0
    assert {row["answers"] for row in rows.values()} == {60}
    assert all(
        row["teacher"]["requests"] == 60 and row["cpu_ms"] > 0 and row["peak_mb"] > 10
        for row in rows.values()
    )
    assert "times less" in tables


def test_our_client_runs_in_every_scenario(tmp_path: Path) -> None:
    names = ["stream", "logprobs", "limit", "latency", "memory", "resume"]
    found, _ = run(tmp_path, *names, "--clients", "harvest")
    assert list(found) == names
    assert all(row["used"] > 0 and row["refused"] >= 0 for row in found["limit"])
    assert [row["headers"] for row in found["limit"]] == [True, False]
    assert found["latency"][0]["times_ideal"] > 0.9
    assert [(row["index"], row["answers"]) for row in found["resume"]] == [("missing", 50), ("present", 50)]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("client", ["create", "aiohttp"])
def test_peers_stream(tmp_path: Path, client: str) -> None:
    found, _ = run(tmp_path, "stream", "--clients", client)
    assert found["stream"][0]["answers"] == found["stream"][0]["teacher"]["requests"] > 0


def test_an_unknown_scenario_is_named() -> None:
    command = [sys.executable, str(SCRIPTS / "bench_harvest.py"), "plane"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 2
    assert "no scenario plane" in done.stderr


def test_a_perfect_client_is_never_idle() -> None:
    assert bench_harvest.greedy_s([1, 1, 1, 1], 4) == 1
    assert bench_harvest.greedy_s([1, 1, 1, 1], 2) == 2
    assert bench_harvest.greedy_s([3, 1, 1, 1], 2) == 3
    assert bench_harvest.greedy_s([1, 1, 1, 3], 2) == 4


def test_the_latencies_are_those_of_the_teacher() -> None:
    setting = bench_teacher.Setting(median_s=2.0, sigma=0.6)
    draws = bench_teacher.latencies_s(setting, 2001)
    assert draws[:5] == bench_teacher.latencies_s(setting, 5)
    assert 1.8 < sorted(draws)[1000] < 2.2


def test_the_bucket_holds_one_second() -> None:
    bucket = bench_teacher.Bucket(600)
    assert sum(bucket.take() for _ in range(50)) == 10
    assert b"x-ratelimit-limit-requests: 600\r\n" in bucket.headers()


def test_streams_hold_what_was_asked_for() -> None:
    setting = bench_teacher.Setting("stream", events=100, events_per_write=7)
    _, *writes = bench_teacher.KINDS["stream"](setting)[0]
    body = b"".join(write.split(b"\r\n", 1)[1].removesuffix(b"\r\n") for write in writes)
    assert 100 <= body.count(b"data: ") <= 104
    assert body.endswith(b"data: [DONE]\n\n")
    assert all(len(a) >= len(b) for a, b in pairwise([writes[0], writes[-1]]))


def test_a_request_may_arrive_in_pieces() -> None:
    class Transport(asyncio.Transport):
        def __init__(self) -> None:
            super().__init__()
            self.written: list[bytes] = []

        def write(self, data: Any) -> None:
            self.written.append(data)

        def is_closing(self) -> bool:
            return False

        def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
            pass

    async def feed() -> list[bytes]:
        teacher = bench_teacher.Teacher(bench_teacher.Setting(), asyncio.get_running_loop())
        connection, transport = bench_teacher.Connection(teacher), Transport()
        connection.connection_made(transport)
        asked = b"POST /v1/chat/completions HTTP/1.1\r\nContent-Length: 4\r\n\r\nbody" * 2
        for byte in asked:
            connection.data_received(bytes([byte]))
        return transport.written

    written = asyncio.run(feed())
    assert len(written) == 2
    assert json.loads(written[0].split(b"\r\n\r\n", 1)[1])["choices"][0]["finish_reason"] == "stop"
