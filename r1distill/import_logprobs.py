"""Log-probabilities of another run -> this run, also those that a killed harvest left in spools.

In: the folder of log-probabilities of a run, which may still be written to. Out: copies of its files under names by which
readers find them, import-NAME-FILE; a spool that has grown or was emptied since is brought up to date.
"""

from __future__ import annotations

import shutil
from contextlib import suppress
from pathlib import Path

from r1distill.ledger import storage_errors, write_atomic
from r1distill.logprobs.spool import FILE_NAME, whole_frames
from r1distill.run import Run


def copy_logprobs(source: Path, run: Run, name: str, dry_run: bool) -> int:
    """Copy log-probabilities that are not there yet; returns how many files. Raises StorageError.

    Current spools are read first and numbered files listed after: what a writer rotates meanwhile is then in one of both.
    """
    folder = run.folder / "logprobs"
    spools = {
        path.name: whole_frames(path) for path in sorted(source.glob("*.spool")) if not _number_of(path)
    }
    numbered = _copy_numbered(source, folder, name, dry_run)
    return numbered + _copy_spools(spools, folder, name, dry_run)


def _copy_numbered(source: Path, folder: Path, name: str, dry_run: bool) -> int:
    """Those that their writer has closed, each as a spool or as a Parquet file."""
    new = 0
    for stem in sorted({path.stem for path in source.glob("*") if _number_of(path)}):
        kinds = [f"{stem}.{kind}" for kind in ("spool", "parquet")]
        pairs = [(source / file, folder / f"import-{name}-{file}") for file in kinds]
        if not any(copy.exists() for _, copy in pairs):
            new += 1
            if not dry_run:
                _copy_first(pairs)
    return new


def _copy_spools(spools: dict[str, bytes], folder: Path, name: str, dry_run: bool) -> int:
    """Those that their writer appends to, by file name."""
    new = 0
    for spool, frames in spools.items():
        copy = folder / f"import-{name}-{spool}"
        old = whole_frames(copy)
        if not old.endswith(frames):
            new += 1
            if not dry_run:  # a spool that has been emptied since keeps what was in it
                write_atomic(copy, frames if frames.startswith(old) else old + frames)
    return new


def _number_of(path: Path) -> str:
    """The number of a rotated spool or Parquet file; "" for other files."""
    match = FILE_NAME.fullmatch(path.name)
    return match["number"] if match else ""


def _copy_first(pairs: list[tuple[Path, Path]]) -> None:
    """Copy the first original that is there: a spool that its writer has converted meanwhile is a Parquet file now."""
    for original, copy in pairs:
        part = copy.with_name(copy.name + ".part")
        with storage_errors(copy), suppress(FileNotFoundError):
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(original, part)
            part.replace(copy)
            return
