"""The commands that bring traces: harvest, batch, import. They parse, call the function of the same name, print its summary."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from r1distill.cli_options import FORMAT, MAP, TARGET, InOrder, Options, columns_of, common

RECIPE = click.argument("target", type=TARGET, metavar="RECIPE")
LIMIT = click.option("--limit", type=click.IntRange(1), metavar="N", help="Ask for N answers at most.")


@click.command()
@RECIPE
@LIMIT
@click.option(
    "--pilot",
    type=click.IntRange(1),
    metavar="N",
    help="Ask for N answers spread over all problems, keep them, and say what the rest will cost.",
)
@click.option(
    "--shard",
    default="1/1",
    metavar="I/N",
    help="Ask only for part I of N, as 2/8: one harvest on several machines.",
)
@click.option("--retry-failed", is_flag=True, help="Ask again also for what failed for good.")
@common()
def harvest(
    target: Path, limit: int | None, pilot: int | None, shard: str, retry_failed: bool, options: Options
) -> int:
    """Ask the teachers for the answers that are still owed.

    Owed is what the recipe wants and the run does not have yet. Ctrl-C is safe; the same command goes on.
    """
    from r1distill.errors import StopRunError
    from r1distill.forecast import missing_keys
    from r1distill.harvest import harvest as verb
    from r1distill.harvest_summary import tell
    from r1distill.shards import parse_shard

    if limit is not None and pilot is not None:
        raise click.UsageError("--limit and --pilot don't go together: a pilot of N asks for N answers.")

    recipe, folder = options.open(target)
    show = options.show
    part = parse_shard(shard)
    for text in missing_keys(recipe) if options.dry_run else ():
        show.note(text)
    try:
        summary = verb(
            recipe,
            folder,
            dry_run=options.dry_run,
            limit=limit,
            pilot=pilot,
            shard=part,
            retry_failed=retry_failed,
            show=show,
        )
    except StopRunError as stop:
        if stop.summary is not None:  # what was got before it stopped
            tell(stop.summary, show)
            options.finish(stop.summary)
        raise
    tell(summary, show, folder.folder)
    if summary.interrupted:
        show.note(f"Interrupted; everything received is kept. Go on with: r1distill harvest {target}", 0)
    return options.finish(summary)


@click.command("import")
@click.argument("places", type=TARGET, nargs=-1, required=True, metavar="RUN|FILE...")
@click.option(
    "--to", type=TARGET, required=True, metavar="RUN", help="The run folder, or its recipe, that takes them."
)
@FORMAT
@MAP
@common()
def import_(
    places: tuple[Path, ...], to: Path, format_name: str | None, mapping: str | None, options: Options
) -> int:
    """Take over traces of other runs, or from files.

    What was paid for in another run is not asked for again here. Parts of one sharded harvest need no import: copy their
    files into one run folder. Files may be JSONL, .gz, .zst, a JSON array or Parquet; traces in them join the run.
    """
    from r1distill.importing import import_runs

    columns = columns_of(mapping)
    if not to.exists() and options.run_dir is None and to.suffix != ".toml":
        raise click.UsageError(
            f"There is no run folder {to}. A run that does not exist yet is named by its recipe: --to recipe.toml."
        )
    recipe, folder = options.open(to)
    summary = import_runs(
        list(places), folder, recipe, format=format_name, columns=columns, dry_run=options.dry_run,
        show=options.show,
    )  # fmt: skip
    return options.finish(summary)


@click.group(cls=InOrder)
def batch() -> None:
    """Ask by batch APIs, or by files.

    Cheaper at many providers; answers come within a day.
    """


@batch.command()
@RECIPE
@LIMIT
@click.option(
    "--window",
    default="24h",
    show_default=True,
    metavar="TIME",
    help="Time the provider may take (Groq: up to 7d).",
)
@common()
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


@batch.command()
@RECIPE
@common(dry_run=False)
def status(target: Path, options: Any) -> int:
    """Ask how each open batch stands."""
    from r1distill.batch import status as verb
    from r1distill.batch import tell

    recipe, folder = options.open(target)
    summary = verb(recipe, folder)
    tell(summary, options.show)
    return int(options.finish(summary))


@batch.command()
@RECIPE
@click.option(
    "--forget",
    multiple=True,
    metavar="NAME",
    help="Give a batch up: its answers are owed, and paid for, again.",
)
@common()
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


@batch.command()
@RECIPE
@click.option("--to", type=TARGET, required=True, metavar="DIR", help="Where the request files go.")
@click.option(
    "--style",
    type=click.Choice(["openai", "mistral"]),
    default="openai",
    show_default=True,
    help="openai: also vllm run-batch, Azure, Groq, Together; mistral: lines of two keys.",
)
@click.option(
    "--mark-out", is_flag=True, help="Hold these answers back from harvest and submit until imported."
)
@LIMIT
@common()
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


@batch.command("import")
@RECIPE
@click.argument("files", type=TARGET, nargs=-1, required=True, metavar="FILE...")
@common()
def import_results(target: Path, files: tuple[Path, ...], options: Any) -> int:
    """Read result files made for this recipe.

    Of vllm run-batch, or downloaded by hand.
    """
    from r1distill.batch_collect import import_results, lines

    recipe, folder = options.open(target)
    summary = import_results(recipe, folder, files, dry_run=options.dry_run)
    for line in lines(summary):
        options.show.note(line)
    return int(options.finish(summary))
