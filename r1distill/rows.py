"""Problem files -> rows with their place: JSONL, CSV, Parquet, or a data set of the Hugging Face hub.

Out: (file and line, row as a dict), one after the other. Raises InputError naming the place, MissingPackageError.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import jsonlines

from r1distill.errors import InputError, MissingPackageError
from r1distill.recipe_sections import PromptsSection

Placed = tuple[str, dict[str, Any]]
"""Where a row stands, and the row."""


def file_rows(path: Path) -> Iterator[Placed]:
    """The rows of a .jsonl, .csv or .parquet file."""
    if not path.is_file():
        raise InputError(f"There is no problem file {path}.")
    kind = path.suffix.lower()
    if kind in (".jsonl", ".ndjson", ".json"):
        yield from _jsonl_rows(path)
    elif kind == ".csv":
        yield from _csv_rows(path)
    elif kind == ".parquet":
        yield from _parquet_rows(path)
    else:
        raise InputError(f"{path} is no problem file that can be read: use .jsonl, .csv or .parquet.")


def _jsonl_rows(path: Path) -> Iterator[Placed]:
    number = 0

    def lines(file: BinaryIO) -> Iterator[str]:
        nonlocal number
        for number, line in enumerate(file, 1):
            yield line.decode("utf-8-sig" if number == 1 else "utf-8").strip()

    try:
        with path.open("rb") as file:
            for row in jsonlines.Reader(lines(file)).iter(skip_empty=True):
                if not isinstance(row, dict):
                    raise InputError(
                        f"{path}:{number}: a row must be a JSON object on one line, not {type(row).__name__}."
                    )
                yield f"{path}:{number}", row
    except UnicodeDecodeError:
        raise InputError(f"{path}:{number}: the line is no UTF-8 text.") from None
    except (jsonlines.InvalidLineError, RecursionError) as error:
        text = str(error).partition(" (line ")[0].splitlines()[0] if str(error) else "nested too deeply"
        raise InputError(f"{path}:{number}: no valid JSON row ({text}).") from None


def _csv_rows(path: Path) -> Iterator[Placed]:
    reader: csv.DictReader[str] | None = None
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, strict=True)
            for row in reader:
                where = f"{path}:{reader.line_num}"
                if None in row:
                    raise InputError(
                        f"{where}: the row has more cells than the first line names; put quotes around a text with a comma."
                    )
                yield where, row
    except csv.Error as error:
        raise InputError(f"{path}:{reader.line_num + 1 if reader else 1}: no valid CSV ({error}).") from None
    except UnicodeDecodeError:
        raise InputError(f"{path}: the file is no UTF-8 text.") from None


def _parquet_rows(path: Path) -> Iterator[Placed]:
    datasets = _datasets(f"{path} is a Parquet file")
    try:
        table = datasets.Dataset.from_parquet(str(path), keep_in_memory=True)
    except Exception as error:  # noqa: BLE001 - datasets wraps what pyarrow raises, and pyarrow has its own root
        raise InputError(f"{path} can't be read as Parquet: {_first_line(error)}.") from None
    yield from ((f"{path}: row {number}", row) for number, row in enumerate(table, 1))


def _first_line(error: Exception) -> str:
    cause = error.__cause__ or error
    return next(iter(str(cause).splitlines()), type(cause).__name__).rstrip(".")


def hub_rows(section: PromptsSection) -> Iterator[Placed]:
    """The rows of a data set of the Hugging Face hub."""
    datasets = _datasets("prompts.hf")
    try:
        table = datasets.load_dataset(section.hf, section.config, split=section.split)
    except Exception as error:  # noqa: BLE001 - the hub client raises its own and its transport's errors
        raise InputError(
            f"The data set {section.hf} can't be loaded from the hub: {_first_line(error)}."
        ) from None
    yield from ((f"{section.hf}: row {number}", row) for number, row in enumerate(table, 1))


def _datasets(what: str) -> Any:
    try:
        import datasets
    except ImportError:
        raise MissingPackageError(
            f"{what}, which needs the package datasets: pip install 'r1distill[train]'."
        ) from None
    return datasets
