"""How sure was a teacher of its tokens? The measures over a run of tokens, from their log-probabilities.

With p(y_i) the probability of token i and P_i(1..k) those of the k likeliest tokens at its place (natural logarithms):

    mean log-probability    (1/N) sum log p(y_i); the perplexity is exp of minus that
    token confidence        C_i = -(1/k) sum over j of log P_i(j); high when one token takes all the probability
    group confidence        the mean of C_i over a sliding window of consecutive tokens (DeepConf takes 2,048)
    lowest group            the smallest group confidence
    bottom groups           the mean of the lowest tenth of the group confidences
    tail                    the mean of C_i over the last tokens (2,048)

Source: Fu et al., Deep Think with Confidence, arXiv 2508.15260, section 3. A run that is shorter than the window is one group.
A value of -inf means that the server did not tell it: it is left out of every mean, never taken as a number; a token with
fewer than two told alternatives has no C_i. C_i depends on k, so compare only values of the same k.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate, islice
from math import fsum, inf
from typing import NamedTuple

from r1distill.logprobs.tokens import TokenLogprobs, unpack

LEAST_ALTERNATIVES = 2
"""With one alternative C_i would be the opposite: high where the teacher is unsure."""
BOTTOM = 10
"""The lowest one of so many groups."""
DIGITS = 6
Confidences = list[float | None]
"""C_i of each token; None: unknown."""


class Measures(NamedTuple):
    """What is measured over a run of tokens; None where nothing was told that it could be measured by."""

    mean_logprob: float | None
    token_confidence: float | None
    lowest_group: float | None
    bottom_groups: float | None
    tail: float | None


def measures(
    logprobs: Sequence[float], confidences: Sequence[float | None], window_tokens: int, tail_tokens: int
) -> Measures:
    """The measures of a run of tokens: their log-probabilities [N] and confidences [N]."""
    known = [c for c in confidences if c is not None]
    groups = sorted(group_means(known, window_tokens))
    lowest = groups[: max(1, len(groups) // BOTTOM)]
    return Measures(
        _mean([value for value in logprobs if value != -inf]), _mean(known), _mean(groups[:1]), _mean(lowest),
        _mean(known[-tail_tokens:]),
    )  # fmt: skip


def group_means(values: Sequence[float], window: int) -> list[float]:
    """The mean of every `window` consecutive values; of all of them when they are fewer."""
    size = min(window, len(values))
    sums = list(accumulate(values, initial=0.0))
    pairs = zip(sums, islice(sums, size, None), strict=False)
    return [(end - start) / size for start, end in pairs] if size else []


def token_confidences(record: TokenLogprobs, k: int) -> Confidences:
    """C_i of each token, over the k likeliest of its alternatives."""
    if k < LEAST_ALTERNATIVES:
        return [None] * len(record)
    counts, values = record.alternative_counts(), unpack("e", record.alternative_values)
    if counts.count(k) == len(counts):  # nearly always: without an object per token
        totals = list(map(fsum, zip(*[iter(values)] * k, strict=True)))
        if -inf not in totals:
            return [-total / k for total in totals]
    return [_confidence(found, k) for found in _per_token(values, counts)]


def _per_token(values: Iterable[float], counts: Iterable[int]) -> Iterator[list[float]]:
    rest = iter(values)
    return (list(islice(rest, count)) for count in counts)


def _confidence(values: list[float], k: int) -> float | None:
    """Some servers append the token itself when it is not among the k likeliest: only those count."""
    told = sorted((value for value in values if value != -inf), reverse=True)[:k]
    return -fsum(told) / len(told) if len(told) >= LEAST_ALTERNATIVES else None


def alternatives_of(record: TokenLogprobs) -> int:
    """k: the alternatives that were asked for, or fewer when no token has so many."""
    return min(record.asked, record.k) if record.asked else record.k


def _mean(values: Sequence[float]) -> float | None:
    return round(fsum(values) / len(values), DIGITS) if values else None
