"""Does an earlier trace say nearly the same?

MinHash signatures (Broder 1997) of a trace's word n-grams by the package rensa (https://github.com/beowolx/rensa), of
which only the lowest byte of each value is kept (b-bit minwise hashing, arXiv 0910.3349: 128 bytes estimate a Jaccard
similarity of 0.8 to 0.036). Pairs are found by banding (locality-sensitive hashing), then compared by their signatures.
"""

from __future__ import annotations

import importlib
import itertools
import re
import struct
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import Field

from r1distill.checks.base import Check, Judgement, Row, Value, failed, passed
from r1distill.errors import MissingPackageError
from r1distill.records import Prompt, Trace

VALUES = 128
"""Values of a signature, one byte each."""
CHANCE = 1 / 256
"""So often two unequal values have the same lowest byte."""
SEED = 42
RECALL = 0.995
"""The share of pairs at the threshold that banding has to find."""
UNSPACED = re.compile(r"[\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff]")
"""Kana and Chinese characters: written without spaces, so each counts as a word."""


class NearDuplicate(Check):
    """Keeps the first of several traces that share most of their word n-grams (lowest problem, then sample number), whatever
    other checks say of it. Only traces that ended alike are compared: a whole one is no duplicate of one that was cut.
    """

    threshold: float = Field(default=0.8, gt=0, le=1)
    """Traces whose estimated Jaccard similarity is at least this are duplicates; the estimate errs by about 0.04."""
    scope: Literal["problem", "set"] = "problem"
    """"problem" compares the traces of one problem, "set" all traces."""
    words: int = Field(default=3, ge=1, le=20)
    """Words per n-gram; 1 is quicker and compares vocabulary only."""

    anywhere: ClassVar[bool] = True
    version: ClassVar[int] = 2
    measure_settings: ClassVar[tuple[str, ...] | None] = ("words",)
    library: ClassVar[str | None] = "rensa"

    def prepared(self, folder: Path, checks: Mapping[str, Check]) -> Check:
        """The check itself. Raises MissingPackageError."""
        _minhash()
        return self

    def reads(self, prompt: Prompt) -> Any:
        """Nothing."""
        return None

    def measure(self, prompt: Prompt, trace: Trace) -> Value:
        """{"signature": 128 bytes in hex, of the n-grams of reasoning and answer; "finish": how it ended}."""
        sketch = _minhash()(VALUES, SEED)
        sketch.update(shingles(f"{trace.reasoning} {trace.answer}", self.words))
        return {"signature": struct.pack(f"<{VALUES}I", *sketch.digest())[::4].hex(), "finish": trace.finish}

    def judge_all(self, rows: Sequence[Row], name: str) -> list[Judgement]:
        """FAIL, with the similarity as score, for every trace that is near an earlier one that stays."""
        height = band_height(self.threshold)
        judged: list[Judgement] = []
        for group in self._groups(rows):
            judged += self._judged([row.values[name] for row in group], height)
        return judged

    def _judged(self, values: Sequence[Value], height: int) -> list[Judgement]:
        """One judgement for each of some traces, each compared with those that ended alike."""
        found: dict[int, Judgement] = {}
        for finish in dict.fromkeys(value["finish"] for value in values):
            alike = [number for number, value in enumerate(values) if value["finish"] == finish]
            signatures = [values[number]["signature"] for number in alike]
            found.update(zip(alike, judge_group(signatures, self.threshold, height), strict=True))
        return [found[number] for number in range(len(values))]

    def _groups(self, rows: Sequence[Row]) -> Iterator[Sequence[Row]]:
        if self.scope == "set":
            yield rows
        else:
            yield from (list(group) for _, group in itertools.groupby(rows, lambda row: row.problem))


def _minhash() -> Any:
    try:
        return importlib.import_module("rensa").RMinHash
    except ImportError:
        raise MissingPackageError(
            "The check near_duplicate needs the package rensa: pip install 'r1distill[dedup]'."
        ) from None


def shingles(text: str, words: int) -> Iterable[str]:
    """The word n-grams of `text`, in lower case; a shorter text is one n-gram by itself, an empty one too.

    Repeated ones stay: to sort them out costs more than to hash them again, and the signature is the same.
    """
    if not text.isascii():
        text = UNSPACED.sub(r" \g<0> ", text).encode("utf-8", "replace").decode()
    found = text.lower().split()
    if words == 1 or len(found) <= words:
        return found if words == 1 and found else [" ".join(found)]
    return map(" ".join, zip(*(found[start:] for start in range(words)), strict=False))


def band_height(threshold: float) -> int:
    """Values per band: the most that still let two signatures at the threshold share a band with probability RECALL."""
    for height in range(VALUES // 4, 1, -1):
        if 1 - (1 - threshold**height) ** (VALUES // height) >= RECALL:
            return height
    return 1


def judge_group(signatures: Sequence[str], threshold: float, height: int) -> list[Judgement]:
    """One judgement per signature (hex), in order: each is compared with the earlier ones that stay."""
    shared, unique = _shared_bands(signatures, height), passed("unique")
    staying: dict[tuple[int, str], list[int]] = {}
    judged = []
    for number, signature in enumerate(signatures):
        keys = shared.get(number, ())
        near = {other for key in keys for other in staying.get(key, ())}
        nearest = max((similarity(signature, signatures[other]) for other in near), default=0.0)
        judged.append(failed("near", round(nearest, 3)) if nearest >= threshold else unique)
        if nearest < threshold:
            for key in keys:
                staying.setdefault(key, []).append(number)
    return judged


def _shared_bands(signatures: Sequence[str], height: int) -> dict[int, list[tuple[int, str]]]:
    """By number of a signature: the bands that others have, too, as (first value, values). Most have none."""
    shared: dict[int, list[tuple[int, str]]] = {}
    for at in range(0, VALUES - height + 1, height):
        band = slice(2 * at, 2 * (at + height))
        values = [signature[band] for signature in signatures]
        if len(set(values)) == len(values):
            continue
        first = dict[str, int]()
        met: set[int] = set()
        for number, value in enumerate(values):
            before = first.setdefault(value, number)
            if before != number:
                met.update((before, number))
        for number in met:
            shared.setdefault(number, []).append((at, values[number]))
    return shared


def similarity(first: str, second: str) -> float:
    """The Jaccard similarity, 0 to 1, that two signatures (hex) estimate."""
    equal = (int(first, 16) ^ int(second, 16)).to_bytes(VALUES, "big").count(0)
    return max(0.0, (equal / VALUES - CHANCE) / (1 - CHANCE))
