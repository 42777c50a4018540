"""What commands share: options, and the exit code that a summary stands for."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import click

DONE, FAILED, USAGE, STILL_OWED, INTERRUPTED = 0, 1, 2, 3, 130
"""Exit codes: done; error; wrong usage or recipe; finished, but some answers are still owed; interrupted."""
Function = Callable[..., Any]
TARGET = click.Path(path_type=Path)
FORMAT = click.option(
    "--format",
    "format_name",
    metavar="NAME",
    help="The format of the files; default: detected. An unknown name lists all.",
)
MAP = click.option(
    "--map",
    "mapping",
    metavar="COLUMNS",
    help="Columns of any other format, as question=problem,answer=solution.",
)


class InOrder(click.Group):
    """Commands in the order of work, not of the alphabet."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The names, as the commands stand in this file."""
        return list(self.commands)


def columns_of(mapping: str | None) -> dict[str, str] | None:
    """What --map says. Raises UsageError."""
    from r1distill.importers.detect import parse_map

    return None if mapping is None else parse_map(mapping)


class Options(NamedTuple):
    """What all verbs take."""

    overrides: tuple[str, ...]
    run_dir: Path | None
    quiet: bool
    verbose: bool
    as_json: bool
    dry_run: bool = False

    @property
    def show(self) -> Any:
        """Where to tell people about it."""
        from r1distill.show import Show

        return Show(0 if self.quiet else 2 if self.verbose else 1)

    def open(self, target: Path) -> Any:
        """The recipe and the run folder behind RECIPE or RUN."""
        from r1distill.run import open_run

        return open_run(target, self.run_dir, self.overrides)

    def finish(self, summary: Any) -> int:
        """Print the summary if JSON was asked for; the exit code that it stands for."""
        if self.as_json:
            import msgspec

            click.echo(msgspec.json.encode(summary).decode())
        if getattr(summary, "interrupted", False):
            return INTERRUPTED
        return STILL_OWED if getattr(summary, "still_owed", 0) and not self.dry_run else DONE


def common(dry_run: bool = True) -> Callable[[Function], Function]:
    """Give a verb the options that all verbs share, as one argument `options`."""
    flags = [
        click.option(
            "--set",
            "overrides",
            multiple=True,
            metavar="SECTION.KEY=VALUE",
            help="Change a key of the recipe; may be given several times.",
        ),
        click.option(
            "--run",
            "run_dir",
            type=TARGET,
            metavar="DIR",
            help="Run folder; default: runs/NAME beside the recipe.",
        ),
        click.option("-q", "--quiet", is_flag=True, help="Errors only."),
        click.option("-v", "--verbose", is_flag=True, help="Details."),
        click.option("--json", "as_json", is_flag=True, help="One JSON summary on stdout."),
    ]
    if dry_run:
        flags.append(
            click.option("--dry-run", is_flag=True, help="Say what would be done; ask nobody, write nothing.")
        )

    def add(function: Function) -> Function:
        @functools.wraps(function)
        def with_options(**arguments: Any) -> Any:
            own = {name: arguments.pop(name) for name in Options._fields if name in arguments}
            return function(options=Options(**own), **arguments)

        for flag in reversed(flags):
            with_options = flag(with_options)
        return with_options

    return add
