"""Commands for the student: train, export and serve."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from r1distill.cli_options import DONE, TARGET, Options, common

if TYPE_CHECKING:
    from r1distill.exports.gguf_model import Quant
    from r1distill.exports.summary import Format


@click.command()
@click.argument("target", type=TARGET, metavar="RECIPE|RUN")
@click.option(
    "--check",
    is_flag=True,
    help="Only prove what would be learned, and estimate memory and time; trains nothing.",
)
@click.option(
    "--emit",
    type=TARGET,
    metavar="DIR",
    help="Only write tokenised rows and a YAML for `trl sft`, to train elsewhere.",
)
@common()
def train(target: Path, check: bool, emit: Path | None, options: Options) -> int:
    """Fine-tune the student on the traces that were kept.

    LoRA by default; an interrupted training goes on from its last checkpoint. On several GPUs: accelerate launch -m
    r1distill train RECIPE
    """
    from r1distill import train as verb
    from r1distill.errors import InputError, UsageError
    from r1distill.train_check import check as prove
    from r1distill.train_check import emit as write
    from r1distill.training_inputs import speaks

    if check and emit is not None:
        raise UsageError("--check and --emit don't go together: --emit checks, too.")
    recipe, folder = options.open(target)
    if check:
        found = prove(recipe, folder, show=options.show)
        code = options.finish(found)
        if found.failure is not None:
            raise InputError(found.failure)
        return code
    if emit is not None:
        return options.finish(write(recipe, folder, emit, dry_run=options.dry_run, show=options.show))
    summary = verb(recipe, folder, dry_run=options.dry_run, show=options.show)
    return options.finish(summary) if speaks() else DONE


@click.command()
@click.argument("target", type=TARGET, metavar="RECIPE|RUN")
@click.option("--to", type=TARGET, required=True, metavar="DIR", help="A new folder.")
@click.option(
    "--format",
    "form",
    type=click.Choice(["merged", "gguf", "adapter"]),
    default="merged",
    show_default=True,
    help="A folder for transformers and vLLM, one file for llama.cpp and Ollama, or the adapter alone.",
)
@click.option(
    "--quant",
    type=click.Choice(["f16", "q8_0", "q4_0"]),
    help="Of a GGUF; default f16, not quantised.",
)
@click.option(
    "--evaluate",
    is_flag=True,
    help="Score it on the recipe's held-out problems; a quantised one against itself unquantised.",
)
@common()
def export(
    target: Path, to: Path, form: Format, quant: Quant | None, evaluate: bool, options: Options
) -> int:
    """Write the trained student as files that others can serve.

    With its tokenizer, chat template and a model card; the folder appears complete or not at all.
    """
    from r1distill.export import export as verb

    recipe, run = options.open(target)
    summary = verb(
        recipe,
        run,
        to,
        format=form,
        quant=quant,
        evaluate=evaluate,
        dry_run=options.dry_run,
        show=options.show,
    )
    return options.finish(summary)


@click.command()
@click.argument("target", type=TARGET, metavar="MODEL")
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    help="Default: 8080, or a free one if that is taken; 0: a free one.",
)
@click.option(
    "--api-key-env", metavar="NAME", help="Ask for the key that this environment variable holds (GGUF only)."
)
@click.option(
    "--context-tokens",
    type=click.IntRange(64),
    default=8192,
    show_default=True,
    help="Of one request (GGUF only).",
)
@click.option(
    "--parallel",
    type=click.IntRange(1),
    default=1,
    show_default=True,
    help="Requests side by side (GGUF only).",
)
@click.option("--threads", type=click.IntRange(1), help="Default: all cores (GGUF only).")
@click.option("-q", "--quiet", is_flag=True, help="Errors only.")
@click.option("--json", "as_json", is_flag=True, help="One JSON line on stdout once it answers.")
def serve(
    target: Path,
    port: int | None,
    api_key_env: str | None,
    context_tokens: int,
    parallel: int,
    threads: int | None,
    quiet: bool,
    as_json: bool,
) -> int:
    """Answer on 127.0.0.1 as an OpenAI-compatible API, until Ctrl-C.

    MODEL is the folder of an export, a GGUF file, a model folder, or a run (its trained student).
    """
    from r1distill.serve import Served, Settings
    from r1distill.serve import serve as verb
    from r1distill.show import Show

    def ready(served: Served) -> None:
        if as_json:
            import msgspec

            click.echo(msgspec.json.encode(served).decode())

    settings = Settings(port, api_key_env, context_tokens, parallel, threads)
    verb(target, settings, show=Show(0 if quiet else 1), ready=ready)
    return DONE
