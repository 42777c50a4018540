"""How a harvest is going, in a small file that other processes may read while it goes: logs/harvest-i-of-n.json."""

from __future__ import annotations

import os
import socket
import time
from typing import Any

import msgspec

from r1distill.asking.tally import Tally
from r1distill.run import Run, read_json

EVERY_S = 1.0
STALE_S = 30.0
"""A file that was not renewed for so long was left by a harvest that was killed, on whatever host."""


class LiveFile:
    """Written by the harvest at every tick (at most every EVERY_S), removed at its end."""

    def __init__(self, run: Run, shard: tuple[int, int], total: int) -> None:
        self.path = run.folder / "logs" / f"harvest-{shard[0]}-of-{shard[1]}.json"
        self._total, self._started, self._written_at = total, time.monotonic(), float("-inf")

    def write(self, tally: Tally, in_flight: int) -> None:
        """Renew the file; it is no more than a convenience, so that a disk without space for it stops nothing."""
        now = time.monotonic()
        if now - self._written_at < EVERY_S:
            return
        self._written_at = now
        state = {
            "pid": os.getpid(), "host": socket.gethostname(), "at": time.time(),
            "total": self._total, "done": tally.done, "given_up": len(tally.given_up), "in_flight": in_flight,
            "elapsed_s": round(now - self._started, 1), "traces": tally.traces, "failures": dict(tally.failures),
            "retries": dict(tally.retries), "completion_tokens": tally.completion_tokens,
            "cost_usd": tally.cost_usd + tally.lost_usd, "cost_unknown": tally.cost_unknown, "budget_usd": tally.budget_usd,
            "spent_usd": tally.spent_usd, "reserved_usd": tally.reserved_usd,
            "line": tally.detail(now - self._started, in_flight, self._total),
        }  # fmt: skip
        part = self.path.with_suffix(".part")
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            part.write_bytes(msgspec.json.encode(state))
            part.replace(self.path)
        except OSError:
            return

    def remove(self) -> None:
        """The harvest has ended."""
        self.path.unlink(missing_ok=True)


def live(run: Run) -> dict[str, dict[str, Any]]:
    """What the harvests say that are going on now, by part (as 2-of-8)."""
    found = {}
    for path in sorted((run.folder / "logs").glob("harvest-*-of-*.json")):
        state = read_json(path)
        if state is not None and time.time() - float(state.get("at", 0)) < STALE_S and _runs(state):
            found[path.stem.removeprefix("harvest-")] = state
    return found


def _runs(state: dict[str, Any]) -> bool:
    """False when the process is known to be gone: only its own host can tell."""
    if state.get("host") != socket.gethostname():
        return True
    try:
        os.kill(int(state["pid"]), 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # somebody else's, so it is there
        return True
    return True
