"""The training benchmark's own parts: its rows, and that it does not call unequal work a win."""

import importlib.util
import math
import statistics
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.train


@pytest.fixture(scope="module")
def bench():
    path = Path(__file__).resolve().parent.parent / "scripts" / "bench_train.py"
    spec = importlib.util.spec_from_file_location("bench_train", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["bench_train"] = module
    spec.loader.exec_module(module)
    return module


def test_trace_lengths_are_lognormal_and_nothing_is_cut(bench):
    work = bench.Workload("x", rows=2000, median_tokens=250.0, sigma=0.5, seed=1)
    rows = bench.rows_of(work, 1000)
    traces = [sum(label != -100 for label in labels) for _, labels in rows]
    assert statistics.median(traces) == pytest.approx(250, rel=0.05)
    assert statistics.stdev(map(math.log, traces)) == pytest.approx(0.5, rel=0.1)
    assert max(len(ids) for ids, _ in rows) <= bench.TRL_MAX_LENGTH
    assert all(labels[-1] == ids[-1] and labels[0] == -100 for ids, labels in rows)
    assert bench.rows_of(work, 1000) == rows
    assert [len(ids) for ids, _ in bench.rows_of(work, 50_000)] == [len(ids) for ids, _ in rows]


def result(variant: str, speed: float, **changed: float) -> dict:
    figures = {"wall": speed, "cpu": speed}
    speeds = {f"labelled_tokens_per_{unit}_s": value for unit, value in figures.items()}
    same = {"padding": 0.1, "peak_gb": 1.0, "epoch_loss": 2.0, "first_loss": 2.0, "first_norm": 1.0}
    return {"round": 0, "variant": variant, **speeds, **same, **changed}


@pytest.mark.parametrize(("changed", "code"), [({}, 0), ({"epoch_loss": 2.01}, 1), ({"first_norm": 1.1}, 1)])
def test_unequal_work_is_a_failure(bench, capsys, changed, code):
    work = bench.Workload("x", rows=10, median_tokens=250.0, sigma=0.5, seed=1)
    results = [result("stock", 10.0), result("stock-nc", 15.0), result("ours", 30.0, **changed)]
    assert bench.report(work, results) == code
    told = capsys.readouterr().out
    assert "ours / stock, labelled tokens by wall time: 3.00" in told
    assert "ours / stock-nc, labelled tokens by cpu time: 2.00" in told
