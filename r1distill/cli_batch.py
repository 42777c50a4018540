"""The command group `batch`: parses, calls the function of the same name, prints its summary.

cli.py makes it with its own options: `cli.add_command(batch_group(common, cls=InOrder))`.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

Function = Callable[..., Any]
Common = Callable[..., Callable[[Function], Function]]
"""cli.common: gives a function the options that all verbs share, as one argument `options`."""
TARGET = click.Path(path_type=Path)
RECIPE = click.argument("target", type=TARGET, metavar="RECIPE")
LIMIT = click.option("--limit", type=click.IntRange(1), metavar="N", help="N answers at most.")


def batch_group(common: Common, cls: type[click.Group] = click.Group) -> click.Group:
    """The group with its five commands."""
    group = cls(
        "batch",
        help="Ask by batch APIs, or by files.\n\nCheaper at many providers; answers come within a day.",
    )
    wants: list[tuple[Function, list[Function], dict[str, Any]]] = [
        (submit, [RECIPE, LIMIT, _window()], {}),
        (status, [RECIPE], {"dry_run": False}),
        (collect, [RECIPE, _forget()], {}),
        (export, [RECIPE, *_export_options(), LIMIT], {}),
        (import_, [RECIPE, _files()], {}),
    ]
    for function, parameters, how in wants:
        made = common(**how)(function)
        for parameter in reversed(parameters):
            made = parameter(made)
        group.add_command(click.command(function.__name__.rstrip("_"))(made))
    return group


def _window() -> Function:
    return click.option(
        "--window",
        default="24h",
        show_default=True,
        metavar="TIME",
        help="Time the provider may take (Groq: up to 7d).",
    )


def _forget() -> Function:
    return click.option(
        "--forget",
        multiple=True,
        metavar="NAME",
        help="Give a batch up: its answers are owed, and paid for, again.",
    )


def _files() -> Function:
    return click.argument("files", type=TARGET, nargs=-1, required=True, metavar="FILE...")


def _export_options() -> list[Function]:
    return [
        click.option("--to", type=TARGET, required=True, metavar="DIR", help="Where the request files go."),
        click.option(
            "--style", type=click.Choice(["openai", "mistral"]), default="openai", show_default=True,
            help="openai: also vllm run-batch, Azure, Groq, Together; mistral: lines of two keys.",
        ),
        click.option("--mark-out", is_flag=True, help="Hold these answers back from harvest and submit until imported."),
    ]  # fmt: skip


def submit(target: Path, limit: int | None, window: str, options: Any) -> int:
    """Submit the answers that are still owed as batches.

    Safe to interrupt at any instant: the same command goes on, and nothing is submitted twice.
    """
    from r1distill.batch import lines
    from r1distill.batch import submit as verb

    recipe, folder = options.open(target)
    show = options.show
    summary = verb(recipe, folder, limit=limit, window=window, dry_run=options.dry_run, show=show)
    for line in lines(summary, "submit"):
        show.note(line)
    return int(options.finish(summary))


def status(target: Path, options: Any) -> int:
    """Ask how each open batch stands."""
    from r1distill.batch import status as verb
    from r1distill.batch import tell

    recipe, folder = options.open(target)
    summary = verb(recipe, folder)
    tell(summary, options.show)
    return int(options.finish(summary))


def collect(target: Path, forget: tuple[str, ...], options: Any) -> int:
    """Fetch the answers of batches that have ended.

    Also what expired and cancelled ones finished; the rest is owed again.
    """
    from r1distill.batch_collect import collect as verb
    from r1distill.batch_collect import lines

    recipe, folder = options.open(target)
    summary = verb(recipe, folder, forget=forget, dry_run=options.dry_run, show=options.show)
    for line in lines(summary):
        options.show.note(line)
    return int(options.finish(summary))


def export(target: Path, to: Path, style: Any, mark_out: bool, limit: int | None, options: Any) -> int:
    """Write what is owed as request files.

    For vllm run-batch, or for an upload by hand. No network is used.
    """
    from r1distill.batch import export as verb
    from r1distill.batch import lines

    recipe, folder = options.open(target)
    summary = verb(recipe, folder, to, style=style, mark_out=mark_out, limit=limit, dry_run=options.dry_run)
    for line in lines(summary, "export"):
        options.show.note(line)
    return int(options.finish(summary))


def import_(target: Path, files: tuple[Path, ...], options: Any) -> int:
    """Read result files made for this recipe.

    Of vllm run-batch, or downloaded by hand.
    """
    from r1distill.batch_collect import import_results, lines

    recipe, folder = options.open(target)
    summary = import_results(recipe, folder, files, dry_run=options.dry_run)
    for line in lines(summary):
        options.show.note(line)
    return int(options.finish(summary))
