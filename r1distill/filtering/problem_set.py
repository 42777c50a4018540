"""The problems that stand in trace files, each once: numbered as they come, found by what makes them one problem.

In: a problem and the messages that ask it, as a row tells them. Out: its number, and both again by that number. The first
ones are held in memory, all further ones in a file without a name, so that memory hardly grows with their texts.
"""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import overload

import msgspec

from r1distill.filtering.known_lines import Problem
from r1distill.imported_problems import LICENCES
from r1distill.importers.scratch import Scratch
from r1distill.records import Message, Prompt

HELD_BYTES = 16 << 20
"""Packed bytes of the problems that are held in memory."""
UNPACKED = 64
"""Problems of the file that are held, those used last."""


class ProblemSet(Sequence[Prompt]):
    """The problems by their number."""

    def __init__(self, saved: Collection[str], scratch: Path | None = None) -> None:
        """`saved`: ids of problems whose tags all count; `scratch`: a folder for what does not stay in memory."""
        self._saved = saved
        self._number: dict[bytes, int] = {}
        self._keys: list[bytes] = []
        self._ids: set[bytes] = set()
        self._held: dict[int, Problem] = {}
        self._held_bytes = 0
        self._scratch = Scratch(scratch)
        self._offsets, self._lengths = array("q"), array("q")
        self._used: dict[int, Problem] = {}
        self._decoder = msgspec.msgpack.Decoder(Problem)

    def __len__(self) -> int:
        return len(self._keys)

    @overload
    def __getitem__(self, order: int) -> Prompt: ...
    @overload
    def __getitem__(self, order: slice) -> Sequence[Prompt]: ...
    def __getitem__(self, order: int | slice) -> Prompt | Sequence[Prompt]:
        if isinstance(order, slice):
            return [self[number] for number in range(len(self))[order]]
        return self._problem(order).prompt

    def __iter__(self) -> Iterator[Prompt]:
        return (self._problem(order).prompt for order in range(len(self)))

    def asked(self, order: int) -> list[Message]:
        """The messages that a student is asked with when no template says otherwise."""
        return self._problem(order).asked

    def key(self, order: int) -> bytes:
        """What makes it this problem."""
        return self._keys[order]

    @property
    def questions(self) -> int:
        """Different problem ids: one question with two references is two problems with one id."""
        return len(self._ids)

    def known(self, key: bytes) -> int | None:
        """The number of the problem with this key."""
        return self._number.get(key)

    def number(self, prompt: Prompt, asked: list[Message]) -> int:
        """The number of the problem, a new one if it was not met before."""
        key = self._key(prompt, asked)
        order = self._number.get(key)
        return self.add(key, prompt, asked) if order is None else order

    def add(self, key: bytes, prompt: Prompt, asked: list[Message]) -> int:
        """Take a problem that is not known; returns its number."""
        order = self._number[key] = len(self._keys)
        self._keys.append(key)
        self._ids.add(_short(prompt.id))
        self._put(order, Problem(prompt, asked))
        return order

    def _put(self, order: int, problem: Problem) -> None:
        packed = _packed(problem)
        if packed is None or self._held_bytes + len(packed) <= HELD_BYTES:
            self._held[order] = problem
            self._held_bytes += len(packed or b"")
            place = 0, 0
        else:
            place = self._scratch.put(packed)
        self._offsets.append(place[0])
        self._lengths.append(place[1])

    def _problem(self, order: int) -> Problem:
        problem = self._held.get(order) or self._used.get(order)
        if problem is None:
            packed = self._scratch.get(self._offsets[order], self._lengths[order])
            problem = self._decoder.decode(packed)
            if len(self._used) >= UNPACKED:
                del self._used[next(iter(self._used))]
            self._used[order] = problem
        return problem

    def _key(self, prompt: Prompt, asked: list[Message]) -> bytes:
        """Equal for rows of one problem. One question with two references, with two licences, or after two conversations, is
        two problems; other tags are those of the first row.
        """
        tags = prompt.tags
        if prompt.id not in self._saved:
            tags = {name: value for name, value in tags.items() if name in LICENCES}
        earlier = [[m.role, m.content] for m in asked] if sum(m.role != "system" for m in asked) > 1 else []
        says = [prompt.id, prompt.question, prompt.answer, prompt.answer_kind, prompt.tests, tags, earlier]
        return hashlib.blake2b(msgspec.json.encode(says, order="deterministic"), digest_size=16).digest()


def _packed(problem: Problem) -> bytes | None:
    try:
        return msgspec.msgpack.encode(problem)
    except (OverflowError, ValueError, TypeError, RecursionError):  # a whole number of more than 64 bits
        return None


def _short(prompt_id: str) -> bytes:
    return hashlib.blake2b(prompt_id.encode("utf-8", "replace"), digest_size=16).digest()
