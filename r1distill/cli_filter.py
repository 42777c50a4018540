"""The command filter: for a recipe or a run, or for trace files that anybody wrote."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import click

from r1distill.cli_options import FORMAT, MAP, TARGET, Options, columns_of, common

FILES = (".jsonl", ".json", ".gz", ".zst", ".parquet")
"""How trace files end."""


class How(NamedTuple):
    """What is asked for, of files as of a run."""

    diff: bool
    retry_failed: bool
    part: tuple[int, int] | None
    """Measure this part only, (i, n); None: filter."""
    format: str | None
    columns: dict[str, str] | None
    options: Options


@click.command()
@click.argument("targets", type=TARGET, nargs=-1, required=True, metavar="RECIPE|RUN|FILE...")
@click.option("--to", type=TARGET, metavar="DIR", help="With trace FILEs: where the result goes.")
@click.option(
    "--recipe", "recipe_file", type=TARGET, metavar="R", help="With trace FILEs: a recipe with checks."
)
@click.option(
    "--diff", is_flag=True, help="Say what changed against the filter run before; with --dry-run, what would."
)
@click.option("--measure-only", is_flag=True, help="Measure, and leave judging to a later filter.")
@click.option(
    "--shard",
    metavar="I/N",
    help="With --measure-only: part I of N, as 2/8; copy measurements/ of all parts together.",
)
@click.option("--retry-failed", is_flag=True, help="Let judges be asked again also for what failed for good.")
@FORMAT
@MAP
@common()
def filter(
    targets: tuple[Path, ...], to: Path | None, recipe_file: Path | None, diff: bool, measure_only: bool,
    shard: str | None, retry_failed: bool, format_name: str | None, mapping: str | None, options: Options,
) -> int:  # fmt: skip
    """Judge every trace and keep the good ones for training.

    For a recipe or a run folder, or for trace files of any known format: r1distill filter traces.jsonl --to DIR
    """
    part = _part(diff or retry_failed, measure_only, shard)
    how = How(diff, retry_failed, part, format_name, columns_of(mapping), options)
    if to is not None:
        return options.finish(_of_files(list(targets), to, recipe_file, how))
    _refuse_files(targets, recipe_file, how)
    return options.finish(_of_run(targets[0], how))


def _part(judges: bool, measure_only: bool, shard: str | None) -> tuple[int, int] | None:
    """What alone is to be measured. Raises UsageError."""
    from r1distill.errors import UsageError
    from r1distill.shards import parse_shard

    if shard is not None and not measure_only:
        raise UsageError("--shard goes with --measure-only: all traces are judged together.")
    if judges and measure_only:
        raise UsageError("--diff and --retry-failed don't go with --measure-only: nothing is judged.")
    return parse_shard(shard or "1/1") if measure_only else None


def _refuse_files(targets: tuple[Path, ...], recipe_file: Path | None, how: How) -> None:
    """Raises UsageError for trace files, and for what goes with them alone: there is no --to DIR."""
    from r1distill.errors import UsageError

    if how.format or how.columns:
        raise UsageError("--format and --map go with trace files and --to DIR.")
    if len(targets) > 1 or targets[0].suffix in FILES:
        raise UsageError("Filtering trace files needs --to DIR for the result.")
    if recipe_file is not None:
        raise UsageError(
            "--recipe goes with trace files and --to DIR; a recipe or run folder is named alone."
        )


def _of_files(files: list[Path], to: Path, recipe_file: Path | None, how: How) -> Any:
    """The summary of a filter, or of measuring, of trace files."""
    from r1distill import filter_files
    from r1distill.filtering.measure_only import measure_files

    recipe = _checks_of_files(recipe_file, how.options)
    dry_run, show = how.options.dry_run, how.options.show
    if how.part is not None:
        return measure_files(
            files, to, recipe, how.part, format=how.format, columns=how.columns, dry_run=dry_run, show=show
        )
    return filter_files(
        files,
        to,
        recipe,
        dry_run=dry_run,
        diff=how.diff,
        format=how.format,
        columns=how.columns,
        retry_failed=how.retry_failed,
        show=show,
    )


def _checks_of_files(recipe_file: Path | None, options: Options) -> Any:
    """The recipe that files are filtered by; None: the default checks. Raises UsageError, RecipeError."""
    from r1distill.errors import UsageError
    from r1distill.filtering.plain_files import changed_defaults
    from r1distill.recipe import load_recipe

    if options.run_dir is not None:
        raise UsageError("--run and --to don't go together: the result of trace files goes to --to DIR.")
    if recipe_file:
        return load_recipe(recipe_file, options.overrides)
    return changed_defaults(options.overrides) if options.overrides else None


def _of_run(target: Path, how: How) -> Any:
    """The summary of a filter, or of measuring, of a run."""
    from r1distill import filter as verb
    from r1distill.filtering.measure_only import measure_run

    recipe, run = how.options.open(target)
    dry_run, show = how.options.dry_run, how.options.show
    if how.part is not None:
        return measure_run(recipe, run, how.part, dry_run=dry_run, show=show)
    return verb(recipe, run, dry_run=dry_run, diff=how.diff, retry_failed=how.retry_failed, show=show)
