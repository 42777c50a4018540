"""Intervals against published values, and what the bootstrap must not claim."""

from __future__ import annotations

import numpy
import pytest

from r1distill.intervals import mean_interval, paired_difference, pass_at_1, wilson

pytest.importorskip("scipy")

# Newcombe 1998 (Statistics in Medicine 17:857), table I, method 3: the score interval without continuity correction.
NEWCOMBE = [
    (81, 263, 0.2553, 0.3662),
    (15, 148, 0.0624, 0.1605),
    (0, 20, 0.0, 0.1611),
    (1, 29, 0.0061, 0.1718),
]


@pytest.mark.parametrize(("right", "n", "low", "high"), NEWCOMBE)
def test_wilson_against_published_values(right: int, n: int, low: float, high: float) -> None:
    assert wilson(right, n) == pytest.approx((low, high), abs=5e-5)
    found = pass_at_1([[True]] * right + [[False]] * (n - right))
    assert found == pytest.approx((right / n, low, high), abs=5e-5)


def test_several_samples_are_averaged_within_their_problem() -> None:
    rows = [[True, True], [True, False], [False, False], [True, False, False, False]]
    assert pass_at_1(rows).value == pytest.approx((1 + 0.5 + 0 + 0.25) / 4)


def test_more_samples_of_the_same_problems_do_not_make_it_surer() -> None:
    once = pass_at_1([[n % 3 == 0] for n in range(60)])
    often = pass_at_1([[n % 3 == 0] * 8 for n in range(60)])
    assert often.high - often.low == pytest.approx(once.high - once.low, rel=0.1)


@pytest.mark.parametrize("all_right", [True, False])
def test_a_perfect_score_is_not_certain(all_right: bool) -> None:
    one, several = pass_at_1([[all_right]] * 20), pass_at_1([[all_right, all_right]] * 20)
    assert one == pytest.approx(several)
    assert several.high - several.low == pytest.approx(0.1611, abs=1e-4)


def test_the_bootstrap_agrees_with_the_normal_theory() -> None:
    values = numpy.random.default_rng(1).uniform(0, 1, 400).tolist()
    found = mean_interval(values, 0.0, 1.0)
    half = 1.96 * float(numpy.std(values)) / 20
    assert (found.low, found.high) == pytest.approx((found.value - half, found.value + half), abs=0.004)


def test_the_same_rows_give_the_same_interval() -> None:
    values = [0.0, 0.5, 1.0, 0.25] * 5
    assert mean_interval(values, 0.0, 1.0) == mean_interval(values, 0.0, 1.0)


def test_pairs_show_what_apart_would_drown() -> None:
    base = [float(n % 2) for n in range(100)]
    better = [min(1.0, b + (n % 5 == 0)) for n, b in enumerate(base)]
    found = paired_difference(better, base)
    assert found.value == pytest.approx(0.1)
    assert found.excludes_zero
    assert paired_difference(base, better) == pytest.approx(
        (-found.value, -found.high, -found.low), abs=0.011
    )


def test_no_difference_is_no_certainty_of_none() -> None:
    found = paired_difference([1.0, 0.0] * 50, [1.0, 0.0] * 50)
    assert found.value == 0
    assert found.low < -0.01 < 0.01 < found.high
    assert not found.excludes_zero


def test_three_problems_prove_nothing() -> None:
    assert not paired_difference([1.0] * 3, [0.0] * 3).excludes_zero
    assert paired_difference([1.0] * 30, [0.0] * 30).excludes_zero


def test_one_problem() -> None:
    found = pass_at_1([[True, False]])
    assert found.low < 0.5 < found.high
