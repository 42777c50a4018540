"""Plots: SVG inside data addresses, the same bytes for the same numbers, no stumbling over odd ones."""

from __future__ import annotations

import base64
import xml.etree.ElementTree as ET
from typing import Any

import pytest

from r1distill import plots

FUNNEL = [
    {"check": "finish", "removed": 3, "removed_only_by_this": 1},
    {"check": "correct", "removed": 9, "removed_only_by_this": 7},
]


def svg(address: str) -> str:
    head, _, data = address.partition(",")
    assert head == "data:image/svg+xml;base64"
    text = base64.b64decode(data).decode()
    root = ET.fromstring(text)
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    assert not [e for e in root.iter() if e.tag.endswith(("script", "foreignObject", "image"))]
    return text


def score(who: str, problems: str, *values: float) -> dict[str, Any]:
    return {"who": who, "problems": problems, "lenient": list(values), "strict": tuple(values)}


@pytest.mark.parametrize(
    "draw",
    [
        lambda: plots.funnel_plot(12, FUNNEL, 3),
        lambda: plots.funnel_plot(0, [], 0),
        lambda: plots.lengths_plot([1, 2, 3], [4]),
        lambda: plots.lengths_plot([], [4]),
        lambda: plots.loss_plot([{"step": 1, "loss": 2.0}, {"step": 2, "loss": None, "eval_loss": 1.0}]),
        lambda: plots.loss_plot([{"step": 1, "loss": 2.0}]),
        lambda: plots.scores_plot([score("base", "a", 0.0, 0.0, 0.1), score("student", "a", 0.3, 0.3 + 1e-17, 0.4)], "lenient"),
        lambda: plots.scores_plot([score("base", "a", 1.0, 1.0 + 1e-16, 1.0), score("other", "b$x_$", 0.5, 0.5, 0.5)], "strict"),
    ],
)  # fmt: skip
def test_plots(draw: Any) -> None:
    assert svg(draw()) == svg(draw())


def test_available() -> None:
    assert plots.available()
