"""The command line: one command per verb. Parses, calls the function of the same name, prints its summary.

Exit codes: 0 done, 1 error, 2 wrong usage or recipe, 3 finished but some answers are still owed, 130 interrupted.
People read stderr; `--json` puts one JSON object on stdout.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import click

from r1distill.cli_filter import filter
from r1distill.cli_harvest import batch, harvest, import_
from r1distill.cli_options import DONE, FAILED, INTERRUPTED, TARGET, USAGE, InOrder, Options, common
from r1distill.cli_student import export, serve, train
from r1distill.version import __version__


@click.group(
    cls=InOrder,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
    epilog="Start with: r1distill init demo && r1distill run demo/recipe.toml",
)
@click.version_option(__version__, prog_name="r1distill")
def cli() -> None:
    """Reasoning distillation.

    Harvest traces from a teacher, filter them, fine-tune a student on them, and prove what came over.
    """


@cli.command()
@click.argument("folder", type=TARGET)
@click.option(
    "--example",
    default="arithmetic",
    show_default=True,
    metavar="NAME",
    help="arithmetic (runs offline on the embedded model) or hosted (a teacher behind an API).",
)
def init(folder: Path, example: str) -> int:
    """Write a recipe with problems to start from.

    Templates and a small problem set come into FOLDER with it.
    """
    from r1distill.scaffold import init as write
    from r1distill.show import Show

    files = write(folder, example)
    show = Show()
    for path in files:
        show.note(f"wrote {path}")
    command = "run" if example == "arithmetic" else "harvest --dry-run"
    show.note(f"Next: r1distill {command} {folder / 'recipe.toml'}")
    return DONE


@cli.command()
@click.argument("target", type=TARGET, metavar="RECIPE")
@common()
def run(target: Path, options: Options) -> int:
    """Do it all: harvest, filter, train, evaluate, report.

    What is up to date is skipped, and said so.
    """
    from r1distill.pipeline import run_all

    recipe, folder = options.open(target)
    summary = run_all(recipe, folder, dry_run=options.dry_run, show=options.show)
    return options.finish(summary)


cli.add_command(harvest)
cli.add_command(batch)
cli.add_command(import_)
cli.add_command(filter)
cli.add_command(train)


@cli.command()
@click.argument("target", type=TARGET, metavar="RECIPE|RUN")
@common()
def evaluate(target: Path, options: Options) -> int:
    """Score teacher, base and student, with intervals."""
    from r1distill.evaluate import evaluate as verb
    from r1distill.evaluate_summary import tell

    recipe, folder = options.open(target)
    show = options.show
    summary = verb(recipe, folder, dry_run=options.dry_run, show=show)
    tell(summary, show)
    return options.finish(summary)


cli.add_command(export)
cli.add_command(serve)


@cli.command()
@click.argument("target", type=TARGET, metavar="RECIPE|RUN")
@common()
def report(target: Path, options: Options) -> int:
    """Write report.html into the run folder.

    Scores, costs, the funnel, plots, and examples of kept and rejected traces.
    """
    from r1distill import report as verb

    recipe, folder = options.open(target)
    summary = verb(recipe, folder, dry_run=options.dry_run, show=options.show)
    return options.finish(summary)


@cli.command()
@click.argument("target", type=TARGET, metavar="RUN|RECIPE")
@common(dry_run=False)
def status(target: Path, options: Options) -> int:
    """Say what a run holds and what is still owed.

    Works beside a running harvest.
    """
    from r1distill.status import status as verb
    from r1distill.status import tell

    recipe, folder = options.open(target)
    state = verb(recipe, folder)
    tell(state, options.show)
    return options.finish(state)


@cli.command()
@click.argument("target", type=TARGET, required=False, metavar="[RECIPE]")
@click.option("--explain", is_flag=True, help="Print every recipe key with its doc, unit and default.")
@click.option(
    "--set", "overrides", multiple=True, metavar="SECTION.KEY=VALUE", help="Change a key of the recipe."
)
def recipe(target: Path | None, explain: bool, overrides: tuple[str, ...]) -> int:
    """Check a recipe, or explain all keys.

    The JSON of a RECIPE goes to stdout; a fault is one sentence and exit code 2.
    """
    from r1distill.errors import UsageError

    if explain:
        from r1distill.recipe_help import explain as text

        click.echo(text(), nl=False)
    elif target is not None:
        from r1distill.pipeline import check_recipe
        from r1distill.recipe import resolved_json
        from r1distill.run import open_run

        loaded, _ = open_run(target, None, overrides)
        check_recipe(loaded)
        click.echo(resolved_json(loaded), nl=False)
    else:
        raise UsageError("Name a RECIPE to check, or use --explain.")
    return DONE


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; returns the exit code. The fence behind which no traceback reaches a user."""
    from r1distill.errors import R1DistillError

    try:
        code = cli.main(arguments, prog_name="r1distill", standalone_mode=False)
        return code if isinstance(code, int) else DONE
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        return USAGE
    except click.ClickException as error:
        context = getattr(error, "ctx", None)
        more = f" See {context.command_path} --help." if context else ""
        text = error.format_message()
        _say(f"{text if text.endswith(('.', '?', ')')) else text + '.'}{more}")
        return USAGE
    except (KeyboardInterrupt, click.Abort):
        _say("Interrupted; the state on disk is safe. The same command goes on from here.")
        return INTERRUPTED
    except R1DistillError as error:
        _say(str(error))
        return error.exit_code
    except BrokenPipeError:
        # Nobody reads any more (| head): without this the interpreter complains when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    except OSError as error:
        _say(
            f"{error.filename or 'A file'} can't be used: {error.strerror or error}; nothing already written is lost."
        )
        return FAILED
    except Exception as error:  # noqa: BLE001 - the last fence
        _say(
            f"Internal error: {type(error).__name__}: {error}. Please report it; -v shows the traceback. Nothing written is lost."
        )
        if {"-v", "--verbose"} & set(sys.argv if arguments is None else arguments):
            import traceback

            traceback.print_exc()
        return FAILED


def _say(text: str) -> None:
    from r1distill.show import plain

    click.echo(f"r1distill: {plain(' '.join(text.split()))}", err=True)
