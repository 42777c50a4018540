"""The checks, by name: one file each, this table is the list.

In: the recipe's [filter.checks] tables. Out: checks by name, ready to measure and judge. A table with
`use = "my_checks.py:MyCheck"` is a check of the user's own; `use = "length"` is a second table of a shipped one.
"""

from __future__ import annotations

import difflib
import functools
import hashlib
import importlib
import importlib.util
import sys
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import Any

import msgspec

from r1distill.checks.agreement import Agreement
from r1distill.checks.base import Check, Job, Judgement, Row, Value, failed, passed, unjudged
from r1distill.checks.confidence import Confidence
from r1distill.checks.contamination import Contamination
from r1distill.checks.correct import Correct
from r1distill.checks.difficulty import Difficulty
from r1distill.checks.duplicate import Duplicate
from r1distill.checks.finish import Finish
from r1distill.checks.format import Format
from r1distill.checks.judge import Judge
from r1distill.checks.keys import OWN
from r1distill.checks.language import Language
from r1distill.checks.length import Length
from r1distill.checks.near_duplicate import NearDuplicate
from r1distill.checks.own_faults import own_faults
from r1distill.checks.refusal import Refusal
from r1distill.checks.repetition import Repetition
from r1distill.errors import RecipeError
from r1distill.records import Prompt, Trace

__all__ = [
    "CHECKS",
    "Check",
    "Job",
    "Judgement",
    "Row",
    "Value",
    "begin",
    "build_checks",
    "failed",
    "passed",
    "unjudged",
]

CHECKS: dict[str, type[Check]] = {
    "finish": Finish,
    "format": Format,
    "length": Length,
    "repetition": Repetition,
    "language": Language,
    "refusal": Refusal,
    "duplicate": Duplicate,
    "near_duplicate": NearDuplicate,
    "contamination": Contamination,
    "correct": Correct,
    "difficulty": Difficulty,
    "agreement": Agreement,
    "confidence": Confidence,
    "judge": Judge,
}
WORKER_TIMEOUT_S = 10.0
"""CPU seconds for one trace of an in_worker check that has no `timeout_s` of its own."""
DEFAULT: dict[str, dict[str, Any]] = {
    "finish": {},
    "format": {},
    "length": {},
    "repetition": {},
    "duplicate": {},
    "correct": {"without_reference": "keep"},
}
"""What runs when the recipe names no check: `correct` then judges only where there is a reference."""


@own_faults()
def build_checks(tables: dict[str, dict[str, Any]], folder: Path | None = None) -> dict[str, Check]:
    """The checks that the tables name, in their order; the default set for {}.

    Raises RecipeError, InputError for a file that a check can't read, MissingPackageError.
    """
    from r1distill.recipe import validated  # here, since workers read no recipes

    folder = folder or Path.cwd()
    built: dict[str, Check] = {}
    for name, table in (tables or DEFAULT).items():
        settings = {key: value for key, value in table.items() if key != "use"}
        kind = _class_of(name, table.get("use", name), folder)
        built[name] = validated(kind, settings, f"filter.checks.{name}")
    _refuse_bad_needs(built)
    return _prepared(built, folder)


def _prepared(built: dict[str, Check], folder: Path) -> dict[str, Check]:
    """The checks, ready for work: each after those that it needs."""
    ready: dict[str, Check] = {}
    for name in TopologicalSorter({name: check.needs for name, check in built.items()}).static_order():
        ready[name] = built[name].prepared(folder, ready)
    return {name: ready[name] for name in built}


def _class_of(name: str, use: Any, folder: Path) -> type[Check]:
    if use in CHECKS:
        return CHECKS[use]
    if isinstance(use, str) and ".py:" in use:
        path, _, attribute = use.rpartition(":")
        return _load(folder / Path(path).expanduser(), attribute, name)
    near = difflib.get_close_matches(str(use), CHECKS, n=1)
    hint = f"; did you mean '{near[0]}'?" if near else ""
    raise RecipeError(
        f"filter.checks.{name}: there is no check {use!r}{hint} "
        f'(there are {", ".join(CHECKS)}, and your own by use = "my_checks.py:MyCheck").'
    )


@functools.lru_cache(maxsize=64)
def load_own(path: str, attribute: str) -> type[Check]:
    """The user's own check class, loaded once in this process. Raises RecipeError."""
    return _load(Path(path), attribute, attribute)


def _load(path: Path, attribute: str, name: str) -> type[Check]:
    """The user's own check class. Raises RecipeError for all that can be wrong with it."""
    where = f"filter.checks.{name}"
    if not path.is_file():
        raise RecipeError(f"{where}: there is no file {path}.")
    module_name = f"{OWN}{hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:12]}"
    spec = importlib.util.spec_from_file_location(module_name, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[module_name] = module
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:  # noqa: BLE001 - the user's own code, while it is loaded
        raise RecipeError(f"{where}: {path} can't be loaded: {type(error).__name__}: {error}.") from None
    found = getattr(module, attribute, None)
    if not (isinstance(found, type) and issubclass(found, Check)):
        raise RecipeError(f"{where}: {path} has no class {attribute} that is an r1distill.checks.Check.")
    _refuse_unfinished(found, f"{where}: {path}")
    return found


def _refuse_unfinished(kind: type[Check], where: str) -> None:
    """Raises RecipeError for a class whose fields pydantic can't read, or that lacks a method."""
    try:
        kind.model_rebuild()
    except Exception as error:  # noqa: BLE001 - whatever stands in its annotations
        said = str(error).splitlines()[0]
        raise RecipeError(f"{where} can't be loaded: {type(error).__name__}: {said}") from None
    if kind.judge is Check.judge and kind.judge_all is Check.judge_all:
        raise RecipeError(f"{where}: {kind.__name__} has no method judge (or judge_all).")
    if (kind.measure, kind.begin, kind.measure_logprobs) == (
        Check.measure,
        Check.begin,
        Check.measure_logprobs,
    ):
        raise RecipeError(f"{where}: {kind.__name__} has no method measure.")


def begin(check: Check, prompt: Prompt, trace: Trace) -> Value | Job:
    """The measurement of one trace, or the job that makes it in a worker."""
    if not check.in_worker:
        return check.begin(prompt, trace)
    module = sys.modules[type(check).__module__]
    args = (str(module.__file__), module.__name__, type(check).__name__, check.model_dump(mode="json"))
    records = (msgspec.to_builtins(prompt), msgspec.to_builtins(trace))
    timeout_s = float(getattr(check, "timeout_s", WORKER_TIMEOUT_S))
    return Job("r1distill.checks:measure_in_worker", (*args, *records), {}, timeout_s)


def measure_in_worker(file: str, module: str, name: str, settings: Any, prompt: Any, trace: Any) -> Value:
    """Runs in a worker: build the check again and measure one trace."""
    own = module.startswith(OWN)
    kind = load_own(file, name) if own else getattr(importlib.import_module(module), name)
    return kind(**settings).measure(msgspec.convert(prompt, Prompt), msgspec.convert(trace, Trace))


def _refuse_bad_needs(checks: dict[str, Check]) -> None:
    for name, check in checks.items():
        for needed in check.needs:
            if needed not in checks:
                raise RecipeError(
                    f"filter.checks.{name} needs the check '{needed}': add [filter.checks.{needed}]."
                )
    try:
        TopologicalSorter({name: check.needs for name, check in checks.items()}).prepare()
    except CycleError as error:
        raise RecipeError(
            f"filter.checks: these checks need each other: {' > '.join(error.args[1])}."
        ) from None
