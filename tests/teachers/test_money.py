"""Costs, worst cases and estimates."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from r1distill.recipe_sections import PriceSection
from r1distill.records import Message, Usage
from r1distill.teachers.money import Ceilings, History, cost_usd, estimate, most_prompt_tokens, worst_case_usd

PRICE = PriceSection(input=1.0, output=4.0, cached_input=0.1)


@pytest.mark.parametrize(
    ("usage", "price", "cost"),
    [
        (Usage(1_000_000, 1_000_000), PRICE, 5.0),
        (Usage(1_000_000, 0, cached_tokens=1_000_000), PRICE, 0.1),
        (Usage(1_000_000, 0, cached_tokens=2_000_000), PRICE, 0.1),
        (Usage(1_000_000, 0, cached_tokens=500_000), PriceSection(input=1.0, output=4.0), 1.0),
        (Usage(0, 0), PRICE, 0.0),
        (Usage(None, 5), PRICE, None),
        (Usage(5, None), PRICE, None),
        (Usage(5, 5), None, None),
    ],
)
def test_the_cost_of_an_answer(usage: Usage, price: PriceSection | None, cost: float | None) -> None:
    assert cost_usd(usage, price) == (cost if cost is None else pytest.approx(cost))


@given(st.text(max_size=300), st.integers(1, 10**6), st.integers(0, 10**6))
def test_no_answer_costs_more_than_the_worst_case(text: str, ceiling: int, used: int) -> None:
    """With a vocabulary of bytes, the one with the most tokens."""
    messages = [Message("user", text)]
    tokens = len(text.encode("utf-8", "surrogatepass")) + 8
    worst = worst_case_usd(messages, ceiling, PRICE)
    cost = cost_usd(Usage(tokens, min(used, ceiling)), PRICE)
    assert worst is not None and cost is not None and cost <= worst


def test_a_worst_case_needs_a_price_and_a_ceiling() -> None:
    assert worst_case_usd([], 10, None) is None
    assert worst_case_usd([], None, PRICE) is None
    assert most_prompt_tokens([Message("user", "ä")]) > 2


def test_an_estimate_without_history_says_so_and_spans_to_the_ceiling() -> None:
    found = estimate(350, 10, Ceilings(10_000), PRICE, History())
    assert not found.measured
    assert found.completion_tokens == (625.0, 2500.0, 10000.0)
    assert found.usd is not None and found.usd[2] == pytest.approx((180 * 1.0 + 10000 * 4.0) / 1e6)
    assert estimate(350, 10, None, PRICE, History()).usd is None
    assert estimate(350, 10, Ceilings(10_000), None, History()).usd is None


def test_an_estimate_from_answers_narrows_with_their_number() -> None:
    few = estimate(350, 1000, Ceilings(10**8), PRICE, History(10, 800.0, 400.0, 4.0))
    many = estimate(350, 1000, Ceilings(10**8), PRICE, History(1000, 800.0, 400.0, 4.0))
    assert few.measured and many.measured
    for found in (few, many):
        assert found.completion_tokens is not None
        low, mid, high = found.completion_tokens
        assert low < mid == 800_000 < high
    assert few.completion_tokens[2] - few.completion_tokens[0] > 5 * (
        many.completion_tokens[2] - many.completion_tokens[0]
    )  # type: ignore[index]
    assert estimate(350, 10, Ceilings(5_000), PRICE, History(10, 800.0, 400.0, 4.0)).completion_tokens == (
        pytest.approx(4492, abs=9),
        5000.0,
        5000.0,
    )


def test_the_interval_holds_what_it_says() -> None:
    """Of many sums of answers drawn from a known law, about 95% lie inside; at least 90% here."""
    import random

    draw, inside = random.Random(3), 0
    for _ in range(300):
        seen = [draw.lognormvariate(6, 0.5) for _ in range(40)]
        mean = sum(seen) / 40
        deviation = (sum((x - mean) ** 2 for x in seen) / 40) ** 0.5
        found = estimate(0, 100, None, PRICE, History(40, mean, deviation, 4.0)).completion_tokens
        assert found is not None
        inside += found[0] <= sum(draw.lognormvariate(6, 0.5) for _ in range(100)) <= found[2]
    assert inside >= 270


def test_the_high_figure_holds_for_answers_that_are_cut_and_asked_again() -> None:
    plain, twice = (
        estimate(350, 10, c, PRICE, History()) for c in (Ceilings(10_000), Ceilings(10_000, 20_000))
    )
    assert twice.completion_tokens == (625.0, 2500.0, 30_000.0)
    assert plain.usd is not None and twice.usd is not None
    assert twice.usd[2] == pytest.approx((2 * 180 + 4 * 30_000) / 1e6)
