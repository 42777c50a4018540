"""What a teacher was asked for and did not give, noticed in the replies and told once each.

Servers drop what they do not know: Ollama ignores fields outside its request structure without a word, Together may answer
with a seed of its own (`choices[].seed`), some models take no temperature. In: each trace with what its reply held;
out: sentences for people.
"""

from __future__ import annotations

import hashlib

from r1distill.records import Trace

REMEMBERED_PROMPTS = 8
"""Prompts whose first answer is remembered (its digest) until a second one comes."""
SAME_PROMPTS = 3
"""So many prompts whose two answers are the same, and none whose answers differ, show that nothing is sampled."""
FEWEST_CHARACTERS = 200
"""Shorter answers may well be the same by chance ("42")."""


class Asked:
    """What one teacher was asked for, against what came."""

    def __init__(self) -> None:
        self._told: set[str] = set()
        self._first: dict[str, tuple[int, bytes]] = {}
        """Prompt id -> sample number and digest of its first answer."""
        self._same: set[str] = set()
        self._samples_differ = False

    def see(
        self, trace: Trace, choices: int, logprobs_came: bool, alternatives: int | None, top_logprobs: int = 0
    ) -> list[str]:
        """Sentences about what `trace` shows for the first time.

        `choices` is the number of answers in the reply, `alternatives` the largest number of log-probabilities that came for
        one token (None: unknown), `top_logprobs` how many were asked for. A seed that the reply names is read from
        `trace.extras["seed"]`.
        """
        said = {
            "choices": _choices(trace, choices),
            "logprobs": _logprobs(trace, logprobs_came, alternatives, top_logprobs),
            "seed": _seed(trace),
            "sampling": self._sampling(trace),
        }
        new = {key: text for key, text in said.items() if text and key not in self._told}
        self._told.update(new)
        return list(new.values())

    def _sampling(self, trace: Trace) -> str:
        """A sentence once the answers of several prompts, each asked with two seeds, are the same byte for byte."""
        if self._samples_differ or "sampling" in self._told or trace.sampling.get("temperature") == 0:
            return ""
        first = self._first.get(trace.prompt_id)
        if first is None:
            self._remember(trace)
        elif first[0] != trace.sample:
            self._compare(trace, first[1])
        if len(self._same) < SAME_PROMPTS:
            return ""
        self._first.clear()
        return (
            f"Teacher {trace.teacher} gave the same answer twice, byte for byte, to each of {SAME_PROMPTS} prompts:"
            " sampling seems not to be used. Check temperature and seed in its sampling, or ask for one sample a prompt."
        )

    def _remember(self, trace: Trace) -> None:
        long_enough = len(trace.reasoning) + len(trace.answer) >= FEWEST_CHARACTERS
        if long_enough and len(self._first) < REMEMBERED_PROMPTS:
            self._first[trace.prompt_id] = trace.sample, _digest(trace)

    def _compare(self, trace: Trace, first: bytes) -> None:
        if _digest(trace) == first:
            self._same.add(trace.prompt_id)
        else:
            self._samples_differ = True
            self._first.clear()


def _choices(trace: Trace, choices: int) -> str:
    if choices == 1:
        return ""
    return (
        f"Teacher {trace.teacher} sent {choices} answers to a request for one: only the first is kept. Check n in its"
        " sampling and the server's defaults."
    )


def _logprobs(trace: Trace, came: bool, alternatives: int | None, asked: int) -> str:
    if not asked or not (trace.reasoning or trace.answer):
        return ""
    if not came:
        return (
            f"Teacher {trace.teacher} sends no log-probabilities, though top_logprobs = {asked} asks for"
            " them: its traces go without. Set harvest.top_logprobs = 0, or use a host that has them."
        )
    if alternatives is None or alternatives >= asked:
        return ""
    return (
        f"Teacher {trace.teacher} sends {alternatives} log-probabilities a token, not the {asked} that"
        " top_logprobs asks for."
    )


def _seed(trace: Trace) -> str:
    asked, used = trace.sampling.get("seed"), trace.extras.get("seed")
    if not isinstance(asked, int) or not isinstance(used, int) or used == asked + trace.sample:
        return ""
    return (
        f"Teacher {trace.teacher} used the seed {used} where {asked + trace.sample} was sent: its answers can't be had"
        " again by their seed."
    )


def _digest(trace: Trace) -> bytes:
    text = f"{trace.reasoning}\0{trace.answer}"
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()
