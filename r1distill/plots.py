"""The pictures of a report, as SVG data addresses. Needs matplotlib (extra `report`); without it there are none."""

from __future__ import annotations

import base64
import importlib.util
import io
from collections.abc import Callable, Sequence
from typing import Any

KEPT, REJECTED, MODELS = "#2a7f62", "#c0504d", {"base": "#8c8c8c", "teacher": "#3b6fb6", "student": "#2a7f62"}

STYLE = {"svg.hashsalt": "r1distill", "text.parse_math": False, "font.size": 9}
"""The same numbers give the same bytes, and a dollar sign in a name is a dollar sign."""


def available() -> bool:
    """True when matplotlib is installed."""
    return importlib.util.find_spec("matplotlib") is not None


def _drawn(draw: Callable[[Any], None], width: float = 7.0, height: float = 2.8) -> str:
    import matplotlib
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    out = io.BytesIO()
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(width, height), layout="constrained")
        FigureCanvasSVG(figure)
        axes = figure.add_subplot()
        axes.spines[["top", "right"]].set_visible(False)
        draw(axes)
        figure.savefig(out, format="svg", metadata={"Date": None})
    return "data:image/svg+xml;base64," + base64.b64encode(out.getvalue()).decode()


def scores_plot(scores: Sequence[dict[str, Any]], mode: str) -> str:
    """pass@1 of each model on each set, with 95% intervals."""

    def draw(axes: Any) -> None:
        sets = list(dict.fromkeys(s["problems"] for s in scores))
        names = list(dict.fromkeys(s["who"] for s in scores))
        for number, who in enumerate(names):
            rows = {s["problems"]: s[mode] for s in scores if s["who"] == who}
            at = [sets.index(name) + (number - (len(names) - 1) / 2) * 0.25 for name in rows]
            value = [100 * v[0] for v in rows.values()]
            error = [
                [max(0.0, 100 * (v[0] - v[1])) for v in rows.values()],
                [max(0.0, 100 * (v[2] - v[0])) for v in rows.values()],
            ]
            axes.bar(at, value, 0.23, yerr=error, capsize=3, color=MODELS.get(who), label=who)
        axes.set_xticks(range(len(sets)), sets)
        axes.set_ylabel(f"pass@1, {mode} (%)")
        axes.set_ylim(0, 100)
        axes.legend(frameon=False, loc="upper left", bbox_to_anchor=(1, 1))

    return _drawn(draw, width=4.8)


def funnel_plot(total: int, funnel: Sequence[dict[str, Any]], kept: int) -> str:
    """How many traces each check removes, alone and together with others, and how many stay."""

    def draw(axes: Any) -> None:
        names = [row["check"] for row in funnel]
        removed, alone = [row["removed"] for row in funnel], [row["removed_only_by_this"] for row in funnel]
        axes.barh(names, removed, color=REJECTED, alpha=0.35, label="removed by this check")
        axes.barh(names, alone, color=REJECTED, label="by this check alone")
        axes.barh(["kept"], [kept], color=KEPT, label=f"kept, of {total:,}")
        axes.invert_yaxis()
        axes.set_xlabel("traces")
        axes.legend(frameon=False, loc="upper left", bbox_to_anchor=(1, 1))

    return _drawn(draw, height=max(2.8, 0.9 + 0.24 * len(funnel)))


def lengths_plot(kept: Sequence[int], rejected: Sequence[int]) -> str:
    """Completion tokens of kept and rejected traces."""

    def draw(axes: Any) -> None:
        axes.hist([kept, rejected], bins=30, stacked=True, color=[KEPT, REJECTED], label=["kept", "rejected"])
        axes.set_xlabel("completion tokens")
        axes.set_ylabel("traces")
        axes.legend(frameon=False)

    return _drawn(draw)


def loss_plot(metrics: Sequence[dict[str, Any]]) -> str:
    """Training and validation loss by step."""

    def draw(axes: Any) -> None:
        steps = [(m["step"], m["loss"]) for m in metrics if m.get("loss") is not None]
        checks = [(m["step"], m["eval_loss"]) for m in metrics if m.get("eval_loss") is not None]
        axes.plot(*zip(*steps, strict=True), color=MODELS["teacher"], label="training")
        if checks:
            axes.plot(*zip(*checks, strict=True), "o-", color=REJECTED, label="validation")
        axes.set_xlabel("step")
        axes.set_ylabel("loss (nats per token)")
        axes.legend(frameon=False)

    return _drawn(draw)
