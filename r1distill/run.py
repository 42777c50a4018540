"""A run folder: where everything of one run lies, and how a command finds it again.

    runs/NAME/ recipe.toml recipe.resolved.json manifest.json index.sqlite prompts.jsonl traces/ filter/<id>/
               train/<id>/ evaluate/traces/ evaluate/<id>/ report.html logs/

`<id>` is a short hash of a stage's settings and its inputs: the same again means nothing to do, other settings
live beside it, `latest` points to the current one, and the last five are kept.
"""

from __future__ import annotations

import json
import os
import shutil
import weakref
from collections.abc import Iterable, Iterator
from itertools import groupby
from pathlib import Path
from typing import Any, Literal, TypeVar

import msgspec
from filelock import FileLock

from r1distill.errors import InputError
from r1distill.index import Index
from r1distill.ledger import read_at, storage_errors, write_atomic
from r1distill.queries import TraceRef
from r1distill.recipe import Recipe, apply_override, load_recipe, parse_recipe, resolved_json
from r1distill.records import Prompt, Trace, digest

KEPT_STAGES = 5
"""So many results of a stage stay on disk; older ones are removed when a new one is made."""
LedgerName = Literal["traces", "evaluate"]
R = TypeVar("R")


class PromptFile:
    """The problems in a prompts.jsonl; go over it as often as you like, nothing is held in memory.

    The file is opened once: when another process replaces it meanwhile, this one goes on with what it saw at first.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = os.open(path, os.O_RDONLY)
        weakref.finalize(self, os.close, self._file)

    def __iter__(self) -> Iterator[Prompt]:
        decoder = msgspec.json.Decoder(Prompt)
        for offset, line in self._lines():
            yield _decoded(decoder, line, self.path, offset)

    def _lines(self) -> Iterator[tuple[int, bytes]]:
        """(offset, line) of all whole lines; each pass keeps its own place."""
        start, rest = 0, b""
        while chunk := os.pread(self._file, 1 << 18, start + len(rest)):
            *lines, tail = (rest + chunk).split(b"\n")
            for line in lines:
                if line.strip():
                    yield start, line
                start += len(line) + 1
            rest = tail


class Run:
    """The paths of a run folder and the small files in it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def ledger_folder(self, ledger: LedgerName) -> Path:
        """Where the answers lie: traces/ for harvested ones, evaluate/traces/ for those of an evaluation."""
        return self.folder / "traces" if ledger == "traces" else self.folder / "evaluate" / "traces"

    def failures_file(self, ledger: LedgerName, shard: tuple[int, int] = (1, 1)) -> Path:
        """Where requests without an answer are recorded: failures.jsonl, or one file per shard."""
        name = "failures.jsonl" if shard == (1, 1) else f"failures-{shard[0]}-of-{shard[1]}.jsonl"
        return self.ledger_folder(ledger).parent / name

    def index(self, write: bool = True) -> Index:
        """The index (a context manager), not yet caught up. Not to `write` makes no file: one that is not there is made in
        memory.
        """
        path = self.folder / "index.sqlite"
        return Index(path if write or path.exists() else None)

    def log_file(self, name: str) -> Path:
        """logs/NAME.log, its folder made."""
        (self.folder / "logs").mkdir(parents=True, exist_ok=True)
        return self.folder / "logs" / f"{name}.log"

    def save_recipe(self, recipe: Recipe) -> None:
        """Keep the recipe with all defaults, and as written if it has a file; one that is there stays if this has none."""
        resolved = self.folder / "recipe.resolved.json"
        if recipe.source is None and resolved.exists():
            return
        write_atomic(resolved, resolved_json(recipe).encode())
        if recipe.source is not None:
            write_atomic(self.folder / "recipe.toml", recipe.source.read_bytes())
        self.update_manifest("recipe_folder", os.path.relpath(recipe.folder.resolve(), self.folder.resolve()))

    def manifest(self) -> dict[str, Any]:
        """What the verbs reported when they ended; {} for a new run."""
        return read_json(self.folder / "manifest.json") or {}

    def update_manifest(self, key: str, value: Any) -> None:
        """Put one entry into manifest.json, atomically, also beside other processes that do the same."""
        path = self.folder / "manifest.json"
        with storage_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            with FileLock(f"{path}.lock"):
                merged = {**self.manifest(), key: value}
                write_atomic(path, json.dumps(merged, indent=2, ensure_ascii=False).encode() + b"\n")

    def save_prompts(self, prompts: Iterable[Prompt]) -> PromptFile:
        """Write prompts.jsonl: the problems of today's recipe, one after the other."""
        rows = (msgspec.json.encode(prompt) + b"\n" for prompt in prompts)
        write_atomic(self.folder / "prompts.jsonl", rows)
        return PromptFile(self.folder / "prompts.jsonl")

    def prompts_file(self) -> PromptFile:
        """The problems saved by the last harvest, to go over one by one. Raises InputError when there are none."""
        path = self.folder / "prompts.jsonl"
        if not path.exists():
            raise InputError(f"{self.folder} has no problems yet ({path.name} is missing): harvest first.")
        return PromptFile(path)

    def prompts(self) -> list[Prompt]:
        """The problems saved by the last harvest, all at once. Raises InputError when there are none."""
        return list(self.prompts_file())

    def read_traces(self, ledger: LedgerName, refs: Iterable[TraceRef]) -> Iterator[tuple[bytes, Trace]]:
        """Yield (raw line, Trace) for each ref, in their order. Raises InputError for a row that is no trace."""
        decoder = msgspec.json.Decoder(Trace)
        folder = self.ledger_folder(ledger)
        for name, group in groupby(refs, key=lambda ref: ref.name):
            spans = [(ref.offset, ref.length) for ref in group]
            for (offset, _), line in zip(spans, read_at(folder / name, spans), strict=True):
                yield line, _decoded(decoder, line, folder / name, offset)

    def stage(self, verb: str, stage_id: str) -> Path:
        """Folder VERB/ID of a stage; it is complete when it holds a summary.json."""
        return self.folder / verb / stage_id

    def finish_stage(self, verb: str, stage_id: str, summary: dict[str, Any]) -> None:
        """Write the stage's summary.json, point `latest` to it, note it in the manifest, drop the oldest ones."""
        folder = self.stage(verb, stage_id)
        write_atomic(
            folder / "summary.json", json.dumps(summary, indent=2, ensure_ascii=False).encode() + b"\n"
        )
        self.point_latest(verb, stage_id)
        self.update_manifest(verb, summary)
        found = [path for path in folder.parent.glob("*/summary.json") if not path.parent.is_symlink()]
        for old in sorted(found, key=lambda path: path.stat().st_mtime)[:-KEPT_STAGES]:
            if old.parent.name != stage_id:
                shutil.rmtree(old.parent)

    def point_latest(self, verb: str, stage_id: str) -> None:
        """Make VERB/latest point to a stage, atomically."""
        link = self.folder / verb / "latest"
        part = link.with_name(f"latest.{os.getpid()}.part")
        part.unlink(missing_ok=True)
        part.symlink_to(stage_id)
        part.replace(link)

    def latest(self, verb: str) -> tuple[Path, dict[str, Any]] | None:
        """The current result of a stage and its summary, or None."""
        folder = (self.folder / verb / "latest").resolve()
        summary = read_json(folder / "summary.json")
        return (folder, summary) if summary is not None else None


def _decoded(decoder: msgspec.json.Decoder[R], line: bytes, path: Path, offset: int) -> R:
    try:
        return decoder.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InputError(
            f"{path}: the row at byte {offset} can't be read ({error}); remove that line."
        ) from None


def stage_id(settings: Any, inputs: Iterable[str]) -> str:
    """The short id of a stage: 12 hex digits over its settings and the sorted ids of what it reads."""
    return digest({"settings": settings, "inputs": sorted(inputs)})[:12]


def read_json(path: Path) -> dict[str, Any] | None:
    """The JSON object in a file of ours, or None when there is no such file. Raises InputError when it is broken."""
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} is broken ({error}); remove it and run the command again.") from None
    if not isinstance(data, dict):
        raise InputError(f"{path} is broken (no JSON object); remove it and run the command again.")
    return data


def open_run(
    target: Path, run_dir: Path | None = None, overrides: tuple[str, ...] = ()
) -> tuple[Recipe, Run]:
    """The recipe and the run folder behind RECIPE or RUN. Raises InputError, RecipeError."""
    if target.is_dir():
        return _recipe_of_run(target, overrides), Run(run_dir or target)
    recipe = load_recipe(target, overrides)
    return recipe, Run(run_dir or recipe.folder / "runs" / recipe.name)


def _recipe_of_run(folder: Path, overrides: tuple[str, ...]) -> Recipe:
    data = read_json(folder / "recipe.resolved.json")
    if data is None:
        raise InputError(
            f"{folder} is no run folder (it has no recipe.resolved.json); name a recipe.toml or a folder under runs/."
        )
    for override in overrides:
        apply_override(data, override)
    beside = read_json(folder / "manifest.json") or {}
    return parse_recipe(data, str(folder), (folder / str(beside.get("recipe_folder", "../.."))).resolve())
