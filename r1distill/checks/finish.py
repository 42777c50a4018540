"""Did the teacher end by itself? A cut reasoning teaches the student never to stop."""

from __future__ import annotations

from typing import Any, ClassVar

from r1distill.checks.base import Check, Judgement, Value, failed, passed, unjudged
from r1distill.records import Prompt, Trace


class Finish(Check):
    """Keeps traces that the teacher ended by itself."""

    anywhere: ClassVar[bool] = True
    measure_settings: ClassVar[tuple[str, ...] | None] = ()

    def reads(self, prompt: Prompt) -> Any:
        """Nothing."""
        return None

    def measure(self, prompt: Prompt, trace: Trace) -> Value:
        """{"finish": how it ended}."""
        return {"finish": trace.finish}

    def judge(self, value: Value) -> Judgement:
        """PASS on stop; UNJUDGED when the file does not say how it ended."""
        if value["finish"] == "unknown":
            return unjudged("unknown")
        return passed("stop") if value["finish"] == "stop" else failed(value["finish"])
