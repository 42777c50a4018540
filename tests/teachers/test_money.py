"""Costs by the recipe's price, against sums done by hand."""

from __future__ import annotations

import pytest

from r1distill.recipe_sections import PriceSection
from r1distill.records import Usage
from r1distill.teachers.money import cost_usd

PRICE = PriceSection(input=2.0, output=10.0)
CACHED = PriceSection(input=2.0, output=10.0, cached_input=0.5)


@pytest.mark.parametrize(
    ("usage", "price", "cost"),
    [
        (Usage(1_000_000, 0), PRICE, 2.0),
        (Usage(0, 1_000_000), PRICE, 10.0),
        (Usage(1000, 500), PRICE, 0.007),
        (Usage(1000, 500, 400), PRICE, 0.007),  # reasoning is part of the completion
        (Usage(1000, 500, None, 600), PRICE, 0.007),
        (Usage(1000, 500, None, 600), CACHED, 0.0061),
        (Usage(1000, 500, None, 9999), CACHED, 0.0055),  # more cached than sent: at most all
        (Usage(1000, 500), None, None),
        (Usage(None, 500), PRICE, None),
        (Usage(1000, None), PRICE, None),
        (Usage(), PRICE, None),
        (Usage(5, 5), PriceSection(input=0, output=0), 0.0),
    ],
)
def test_cost(usage: Usage, price: PriceSection | None, cost: float | None) -> None:
    assert cost_usd(usage, price) == (None if cost is None else pytest.approx(cost))
