"""The same training for other machines: tokenised rows as Parquet, and one YAML for `trl sft`.

In: what prepare.py made ready. Out, in a folder: data/train.parquet and data/validation.parquet (columns input_ids,
attention_mask, labels: -100 where not trained on), trl_sft.yaml, chat_template.jinja, README.md, and r1distill-emit.json, by
which the next --emit knows the folder as its own. Everything that decides what is trained on is in the ids and labels
already, so nothing there renders a template again.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import yaml

from r1distill.errors import InputError
from r1distill.ledger import storage_errors, write_atomic
from r1distill.objectives import settings
from r1distill.objectives.prepare import Ready
from r1distill.objectives.sft import Job
from r1distill.objectives.templates import fixed_template
from r1distill.objectives.trainer import dataset
from r1distill.version import __version__

YAML, TEMPLATE, MARKER = "trl_sft.yaml", "chat_template.jinja", "r1distill-emit.json"
LORA_KEYS = {
    "r": "lora_r",
    "lora_alpha": "lora_alpha",
    "lora_dropout": "lora_dropout",
    "target_modules": "lora_target_modules",
    "modules_to_save": "lora_modules_to_save",
    "use_rslora": "use_rslora",
    "use_dora": "use_dora",
}
"""peft.LoraConfig's names, and those of trl's command line; it knows no others."""
MACHINE = {
    "use_cpu",
    "bf16",
    "fp16",
    "gradient_checkpointing",
    "dataloader_pin_memory",
    "per_device_train_batch_size",
}
"""Settings that belong to the machine: only those of the recipe itself are handed on."""


def refuse_other_folders(to: Path) -> None:
    """Raises InputError when `to` holds anything that --emit did not write, so that nobody's files are replaced."""
    if to.exists() and not to.is_dir():
        raise InputError(f"{to} is a file; name a new folder for --emit.")
    if to.is_dir() and not (to / MARKER).is_file() and any(to.iterdir()):
        raise InputError(f"{to} is not empty and was not written by train --emit; name a new folder.")


def emit(ready: Ready, to: Path) -> list[Path]:
    """Write the folder and return its files; one of an earlier emit gets new data, and nothing old is left in data/.

    Raises InputError (somebody else's folder), StorageError, RecipeError (settings refused).
    """
    refuse_other_folders(to)
    job = ready.job
    texts = {
        MARKER: json.dumps({"r1distill": __version__}) + "\n",
        YAML: yaml.safe_dump(trl_settings(job), sort_keys=False, allow_unicode=True),
        TEMPLATE: fixed_template(job.tokenizer).text,
        "README.md": _readme(ready),
    }
    with storage_errors(to):
        to.mkdir(parents=True, exist_ok=True)
        write_atomic(to / MARKER, texts[MARKER].encode())  # first: a kill leaves a folder that is ours
        data = _swapped_in(_data(job, to / ".data.part"), to / "data")
        for name, text in texts.items():
            write_atomic(to / name, text.encode())
    return [*data, *(to / name for name in texts if name != MARKER)]


def _data(job: Job, part: Path) -> Path:
    """The rows as Parquet in a folder made anew."""
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir()
    for name, rows in (("train", job.rows), ("validation", job.validation)):
        if rows:
            _parquet(rows, part / f"{name}.parquet")
    return part


def _swapped_in(part: Path, target: Path) -> list[Path]:
    """Put a finished folder in the place of an older one; its files there."""
    old = target.with_name(f".{target.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    if target.exists():
        target.rename(old)
    part.rename(target)
    shutil.rmtree(old, ignore_errors=True)
    return sorted(target.iterdir())


def trl_settings(job: Job) -> dict[str, Any]:
    """What trl_sft.yaml says: model, data, method, and the recipe's settings over our defaults, for one process."""
    section = job.section
    return {
        "model_name_or_path": job.base,
        "dataset_name": "./data",
        **({"dataset_test_split": "validation"} if job.validation else {}),
        "dataset_kwargs": {"skip_prepare_dataset": not section.sft.get("packing")},
        "output_dir": "./out",
        "seed": section.seed,
        "eos_token": job.tokenizer.convert_ids_to_tokens(job.end_id),
        "chat_template_path": f"./{TEMPLATE}",
        "dtype": "float32" if section.method == "full" else "bfloat16",
        **_method(section),
        **_training(job),
    }


def not_handed_on(job: Job) -> list[str]:
    """Keys of train.lora that trl's command line does not know."""
    if job.section.method == "full":
        return []
    return sorted(set(job.section.lora) - set(LORA_KEYS))


def _method(section: Any) -> dict[str, Any]:
    if section.method == "full":
        return {}
    lora = {LORA_KEYS[key]: value for key, value in section.lora.items() if key in LORA_KEYS}
    four_bits = {"load_in_4bit": True, "bnb_4bit_quant_type": "nf4", "use_bnb_nested_quant": True}
    return {"use_peft": True, **lora, **(four_bits if section.method == "qlora" else {})}


def _training(job: Job) -> dict[str, Any]:
    """The settings that both trainers share, as plain values."""
    section, ours = job.section, settings.defaults(job.section)
    args = settings.sft_config(section, Path("out"), validate=bool(job.validation))
    kept = {
        key: value
        for key, value in {**ours, **section.sft}.items()
        if key not in MACHINE or key in section.sft
    }
    best = ("load_best_model_at_end", "metric_for_best_model", "greater_is_better", "save_strategy")
    if args.load_best_model_at_end:
        kept |= {key: _plain(getattr(args, key)) for key in best}
    elif "save_strategy" not in section.sft:
        kept["save_strategy"] = "epoch"  # ours saves by the clock
    rows = args.per_device_train_batch_size * args.gradient_accumulation_steps * settings.processes()
    packed = bool(section.sft.get("packing"))
    size = section.sft.get("per_device_train_batch_size", 1 if packed else min(rows, 2))
    return kept | {
        "per_device_train_batch_size": size,
        "gradient_accumulation_steps": max(1, rows // size),
        "max_length": args.max_length,
        "eval_strategy": _plain(args.eval_strategy),
        "train_sampling_strategy": "random" if packed else "group_by_length",
    }


def _plain(value: Any) -> Any:
    return getattr(value, "value", value)


def _parquet(rows: Any, path: Path) -> None:
    """One row group per thousand rows."""
    table = dataset(rows)
    table = table.add_column("attention_mask", [[1] * len(row.input_ids) for row in rows])
    table.to_parquet(str(path))


def _readme(ready: Ready) -> str:
    job = ready.job
    figures = trl_settings(job)
    size, steps = figures["per_device_train_batch_size"], figures["gradient_accumulation_steps"]
    dealt = [(count, settings.deal(size * steps, size, count)) for count in (1, 2, 4, 8, 16, 32)]
    unit = "packs of rows" if figures.get("packing") else "rows"
    table = "\n".join(f"| {count} | {of[0]} | {of[1]} |" for count, of in dealt if of)
    return f"""# Tokenised training set

{len(job.rows):,} rows to train on, {len(job.validation):,} to validate with, at most {ready.longest_tokens:,} tokens long.
`labels` are -100 where nothing is trained on; every row ends with `{figures["eos_token"]}`, which is trained on.

    HF_HUB_DISABLE_TELEMETRY=1 trl sft --config {YAML}
    HF_HUB_DISABLE_TELEMETRY=1 trl sft --config {YAML} --accelerate_config fsdp2 --num_processes 8

Run it in this folder. Without a GPU add `--use_cpu true --bf16 false --gradient_checkpointing false --dtype float32`.
{_remarks(job)}
A step is {size * steps} {unit}; it stays so with more processes by these two options:

| processes | --per_device_train_batch_size | --gradient_accumulation_steps |
|---|---|---|
{table}

Serve the trained model with `{TEMPLATE}`: its prompts are the ones that were trained on.
"""


def _remarks(job: Job) -> str:
    left = not_handed_on(job)
    remarks = [f"`trl sft` has no option for these keys of train.lora: {', '.join(left)}."] if left else []
    if Path(job.base).exists():
        remarks.append(
            f"`model_name_or_path` in {YAML} is a folder of the machine that wrote this: copy it along, and say where it is."
        )
    return "".join(f"\n{remark}\n" for remark in remarks)
