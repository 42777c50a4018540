"""Does another trace of the same problem say exactly the same?"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any, ClassVar

from r1distill.checks.base import Check, Judgement, Row, Value, failed, passed
from r1distill.records import Prompt, Trace


class Duplicate(Check):
    """Keeps the first of several equal traces of one problem (lowest sample number, then the order of the set).

    The same question with another reference is another problem: a trace that is wrong there hides none that is right.
    """

    anywhere: ClassVar[bool] = True
    measure_settings: ClassVar[tuple[str, ...] | None] = ()

    def reads(self, prompt: Prompt) -> Any:
        """Nothing."""
        return None

    def measure(self, prompt: Prompt, trace: Trace) -> Value:
        """{"digest": of reasoning, answer and how it ended}: a cut trace is no duplicate of a whole one."""
        text = "\0".join((" ".join(trace.reasoning.split()), " ".join(trace.answer.split()), trace.finish))
        return {"digest": hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()[:32]}

    def judge_all(self, rows: Sequence[Row], name: str) -> list[Judgement]:
        """FAIL for every trace whose text an earlier row of the same problem has."""
        seen: set[tuple[int, str]] = set()
        found = []
        for row in rows:
            key = (row.problem, row.values[name]["digest"])
            found.append(failed("exact") if key in seen else passed("unique"))
            seen.add(key)
        return found
