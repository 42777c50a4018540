r"""Does the text run in circles? Finds loops of any length, in time linear in the text.

In: the reasoning and the answer, each by itself (an answer that repeats a draft is no loop). Out: how often the most
repeated passage stands there. Three looks, all by plain substring search, which is the fastest thing there is:

- *probes*: snippets of 60 characters, one every 400, each counted by `str.count` in the 16,000 characters around it. A loop
  of ten copies spans at least 600 characters, so a probe always falls into it and counts nine or ten.
  Counting stays local because a long proof comes back to one expression without being in a loop;
- *passages*: where a probe comes three times, whether the text between is the same too; side by side copies of a passage
  (60 characters or more) are a loop even when there are only a few of them;
- *the tail*: a short unit ("\n\nWait", one character, three words) that the text ends with, over and over.

Why probes: shares of distinct n-grams (DAPO) find the same loops at a tenth of the speed; repeated lines
(Gopher, arXiv 2112.11446) and compression ratios miss most of them in chains of thought.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar, NamedTuple

from pydantic import Field

from r1distill.checks.base import Check, Judgement, Value, failed, passed
from r1distill.records import Prompt, Trace

PROBE = 60
"""Characters of a probe: shorter ones are ordinary turns of phrase, longer ones miss loops of short sentences."""
STEP = 400
"""Characters between probes; a loop of STEP + PROBE characters always holds a whole probe."""
REACH = 8_000
"""Characters to each side of a probe in which it is counted."""
WIDE_PROBES = 16
"""Probes counted in the whole of a longer text: they see loops of passages too long to come three times within REACH."""
ADJACENT = 3
"""Copies side by side that make a passage a loop."""
ENOUGH = 1_000
"""Copies after which the search ends: no threshold is higher, and a huge loop is not counted over and over."""
TAIL_UNIT = 60
"""Characters of the longest unit that the look at the tail knows; probes find longer ones."""
SHORT_UNIT = 12
"""A tail's copies are counted as if its unit had at least so many characters: a ruled line of 80 dashes counts as six."""


class Loop(NamedTuple):
    """What the most repeated passage of a text looks like."""

    repeats: int
    """Copies that do not overlap; a unit shorter than a probe is counted by probes."""
    length: int
    """Characters of the passage."""
    share: float
    """Of the text, in all copies."""
    adjacent: float
    """Share of the text in ADJACENT or more copies of one passage side by side."""


class Repetition(Check):
    """Rejects traces that run in circles."""

    max_repeats: int = Field(default=8, ge=1)
    """Most copies of one passage of 60 characters, within 16,000 characters of text."""
    max_share: float = Field(default=0.1, gt=0, le=1)
    """Largest share of the text that three or more copies of one passage, side by side, may take."""

    anywhere: ClassVar[bool] = True
    measure_settings: ClassVar[tuple[str, ...] | None] = ()

    def reads(self, prompt: Prompt) -> Any:
        """Nothing."""
        return None

    def measure(self, prompt: Prompt, trace: Trace) -> Value:
        """{"repeats", "length" in characters, "share", "adjacent"} of the worse of reasoning and answer."""
        loops = [find_loop(trace.reasoning), find_loop(trace.answer)]
        worst = max(loops, key=lambda loop: loop.repeats)
        adjacent = max(loop.adjacent for loop in loops)
        return worst._replace(share=round(worst.share, 4), adjacent=round(adjacent, 4))._asdict()

    def judge(self, value: Value) -> Judgement:
        """FAIL for many copies, or for few long ones side by side; the score is the number of copies."""
        many = value["repeats"] > self.max_repeats or value["adjacent"] > self.max_share
        return failed("loop", value["repeats"]) if many else passed("ok", value["repeats"])


def find_loop(text: str) -> Loop:
    """The most repeated passage of `text`; Loop(1, 0, 0, 0) when no probe comes twice."""
    best, adjacent = _tail(text), 0.0
    for at, low, high in _probes(len(text)):
        probe = text[at : at + PROBE]
        count = text.count(probe, low, high)
        if count >= ADJACENT:
            period, length = _passage(text, probe, low, high)
            if length == period >= PROBE:
                adjacent = max(adjacent, count * length / len(text))
        if count > best.repeats:
            length = length if count >= ADJACENT else PROBE
            best = Loop(count, length, min(1.0, count * max(length, PROBE) / len(text)), 0.0)
        if count >= ENOUGH:
            break
    return best._replace(adjacent=min(1.0, adjacent))


def _probes(size: int) -> Iterator[tuple[int, int, int]]:
    """Where probes begin, and the stretch of text that each is counted in."""
    last = size - PROBE
    for at in range(0, last + 1, STEP):
        yield at, max(0, at - REACH), at + REACH
    if size > 2 * REACH:
        for number in range(WIDE_PROBES):
            yield last * number // (WIDE_PROBES - 1), 0, size


def _passage(text: str, probe: str, low: int, high: int) -> tuple[int, int]:
    """How far two neighbouring copies of a probe lie apart, and how many characters around it are equal in both.

    The length is never more than the distance; it is the distance when the copies stand side by side.
    """
    middle = text.find(probe, (low + min(high, len(text))) // 2, high)
    first = text.find(probe, low, high) if middle < 0 else middle
    second = text.find(probe, first + 1, high)
    if second < 0:
        first = text.rfind(probe, low, first + PROBE - 1)
        first, second = min(first, middle), max(first, middle)
    period = second - first
    after = _equal(text[first : first + period], text[second : second + period])
    before = _equal(
        text[max(0, first - period) : first][::-1], text[max(low, second - period) : second][::-1]
    )
    return period, min(period, after + before)


def _equal(one: str, two: str) -> int:
    """How many characters `one` and `two` have in common at their beginning."""
    low, high = 0, min(len(one), len(two))
    while low < high:
        middle = (low + high + 1) // 2
        if one[low:middle] == two[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low


def _tail(text: str) -> Loop:
    """The short unit that `text` ends with again and again."""
    end = text[-2 * TAIL_UNIT :]
    found = end.rfind(end[-TAIL_UNIT:], 0, len(end) - 1)
    if found < 0 or len(end) <= TAIL_UNIT:
        return Loop(1, 0, 0.0, 0.0)
    period = len(end) - TAIL_UNIT - found
    run = period + _equal(text[::-1], text[: len(text) - period][::-1])
    return Loop(run // max(period, SHORT_UNIT), period, run / len(text), 0.0)
