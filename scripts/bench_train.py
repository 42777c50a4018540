#!/usr/bin/env python
"""Labelled tokens per second of a training on a CPU: r1distill against trl's own SFTTrainer, at equal loss and gradient.

Usage: scripts/bench_train.py [--student embedded|FOLDER] [--rows N] [--rounds N] [--median TOKENS] [--sigma S] [--json FILE]
One process tree; each variant runs in a child of its own (fresh memory), the variants take turns, and ratios are taken
within a round, so that other load of the machine hits all of them. All get the same weights, seed, LoRA (rank 16 on all linear
layers), rows and rows per step (8):
  stock     SFTTrainer with trl's defaults, made valid for a CPU (use_cpu, no bf16): 8 rows at once in random order,
            gradient checkpointing on
  stock-nc  the same without gradient checkpointing, which a CPU with enough memory does not need
  ours      r1distill's defaults for a CPU
Equal work is proven in two ways. On 8 fixed rows, loss and gradient norm of the first step are compared. Over the timed epoch
the learning rate is 0, so that every step sees the same weights and the mean loss per labelled token must come out the same.
Trace lengths are lognormal, prompts are short; tokens are random. Every row fits trl's default max_length of 1,024, so that
the stock trainer cuts nothing. Reported: labelled tokens by wall time and by CPU time, and the peak of resident memory.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import random
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

VARIANTS = ("stock", "stock-nc", "ours")
ROWS_PER_STEP, TRL_MAX_LENGTH = 8, 1024
PROMPT_TOKENS = (40, 80)
LORA = {"r": 16, "lora_alpha": 32, "target_modules": "all-linear"}
SAME_LOSS, SAME_NORM = 1e-4, 1e-3
"""Relative differences that float32 sums in another order may have."""


class Workload(NamedTuple):
    """What is trained on."""

    folder: str
    rows: int
    median_tokens: float
    sigma: float
    seed: int


def main() -> int:
    """Run the rounds and print the ratios; exit code 1 when losses or gradients differ."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--student", default="embedded")
    parser.add_argument("--rows", type=int, default=48)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--median", type=float, default=250.0, help="median of a trace, in tokens")
    parser.add_argument("--sigma", type=float, default=0.7, help="of the logarithm of the length")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        variant, workload = options.child[0], Workload(*json.loads(options.child[1]))
        print(json.dumps(measure(variant, workload)))
        return 0
    work = Workload(_folder(options.student), options.rows, options.median, options.sigma, options.seed)
    results = rounds(work, options.rounds)
    if options.json:
        options.json.write_text(json.dumps({"workload": work._asdict(), "results": results}, indent=1))
    return report(work, results)


def rounds(work: Workload, count: int) -> list[dict[str, Any]]:
    """One result per variant and round, in turns; the order goes round so that none is always first."""
    results = []
    for number in range(count):
        for variant in (*VARIANTS[number % 3 :], *VARIANTS[: number % 3]):
            words = [sys.executable, __file__, "--child", variant, json.dumps(work)]
            done = subprocess.run(words, capture_output=True, text=True, check=False)
            if done.returncode:
                raise SystemExit(f"{variant}: {done.stderr[-2000:]}")
            results.append({"round": number, "variant": variant, **json.loads(done.stdout.splitlines()[-1])})
            print(f"round {number + 1}: {_line(results[-1])}", file=sys.stderr, flush=True)
    return results


def report(work: Workload, results: list[dict[str, Any]]) -> int:
    """Print medians and paired ratios; 1 when the variants did not do the same work."""
    import torch
    import trl

    lengths = [len(ids) for ids, _ in rows_of(work, 1000)]
    print(
        f"{Path(work.folder).name}, {work.rows} rows of {min(lengths)} to {max(lengths)} tokens (mean "
        f"{statistics.mean(lengths):.0f}), {torch.get_num_threads()} threads, trl {trl.__version__}, torch {torch.__version__}"
    )
    by_round: dict[int, dict[str, dict[str, Any]]] = {}
    for result in results:
        by_round.setdefault(result["round"], {})[result["variant"]] = result
    for variant in VARIANTS:
        own = [result for result in results if result["variant"] == variant]
        median = {
            key: statistics.median(r[key] for r in own) for key in own[0] if isinstance(own[0][key], float)
        }
        print(_line({"variant": variant, **median}))
    for baseline in VARIANTS[:2]:
        for unit in ("wall", "cpu"):
            key = f"labelled_tokens_per_{unit}_s"
            ratios = sorted(r["ours"][key] / r[baseline][key] for r in by_round.values())
            middle, spread = statistics.median(ratios), f"{ratios[0]:.2f} to {ratios[-1]:.2f}"
            print(f"ours / {baseline}, labelled tokens by {unit} time: {middle:.2f} ({spread})")
    return 0 if _same(by_round) else 1


def _same(by_round: dict[int, dict[str, dict[str, Any]]]) -> bool:
    """Whether losses and gradient norms agree; says by how much they differ."""
    worst = {"first_loss": 0.0, "first_norm": 0.0, "epoch_loss": 0.0}
    for variants in by_round.values():
        for key in worst:
            values = [result[key] for result in variants.values()]
            worst[key] = max(worst[key], (max(values) - min(values)) / max(abs(v) for v in values))
    print("largest relative differences: " + ", ".join(f"{key} {value:.1e}" for key, value in worst.items()))
    return (
        worst["first_loss"] < SAME_LOSS
        and worst["epoch_loss"] < SAME_LOSS
        and worst["first_norm"] < SAME_NORM
    )


def _line(result: dict[str, Any]) -> str:
    return (
        f"{result['variant']:9} {result['labelled_tokens_per_wall_s']:7.1f} labelled tokens/s (by CPU time "
        f"{result['labelled_tokens_per_cpu_s']:6.1f}), padding {result['padding']:.0%}, peak {result['peak_gb']:.2f} GB, loss "
        f"{result['epoch_loss']:.5f}, first step {result['first_loss']:.5f}, gradient {result['first_norm']:.5f}"
    )


def rows_of(work: Workload, vocabulary: int) -> list[tuple[list[int], list[int]]]:
    """(input ids, labels) per row: a short prompt and a trace of lognormal length, the same for any vocabulary."""
    dice, words = random.Random(work.seed), random.Random(work.seed)
    rows = []
    for _ in range(work.rows):
        prompt = dice.randint(*PROMPT_TOKENS)
        trace = round(math.exp(dice.gauss(math.log(work.median_tokens), work.sigma)))
        trace = max(16, min(trace, TRL_MAX_LENGTH - prompt))
        ids = [words.randrange(100, vocabulary) for _ in range(prompt + trace)]
        rows.append((ids, [-100] * prompt + ids[prompt:]))
    return rows


def measure(variant: str, work: Workload) -> dict[str, Any]:
    """First step on fixed rows, then one timed epoch, of one variant; runs in its own process."""
    from r1distill.objectives.quiet import prepare_environment, quiet

    prepare_environment()
    with quiet(), tempfile.TemporaryDirectory() as scratch:
        import torch

        torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS") or len(os.sched_getaffinity(0))))
        vocabulary = json.loads((Path(work.folder) / "config.json").read_text())["vocab_size"]
        rows = rows_of(work, vocabulary)
        make = _ours if variant == "ours" else _stock
        first = make(variant, work, rows[:ROWS_PER_STEP], Path(scratch) / "first")
        first.train()
        log = next(entry for entry in first.state.log_history if "loss" in entry)
        del first
        trainer = make(variant, work, rows, Path(scratch) / "epoch")
        return {
            "first_loss": float(log["loss"]),
            "first_norm": float(log["grad_norm"]),
            **_timed(trainer),
            "peak_gb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6,
        }


def _timed(trainer: Any) -> dict[str, float]:
    """Train, counting what each step really computed on."""
    seen = {"labelled": 0, "nats": 0.0, "computed": 0, "real": 0}
    compute_loss = trainer.compute_loss

    def counting(model: Any, inputs: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
        labelled = int((inputs["labels"][:, 1:] != -100).sum())
        computed, real = inputs["input_ids"].numel(), int(inputs["attention_mask"].sum())
        items = kwargs.get("num_items_in_batch")
        value = compute_loss(model, inputs, *args, **kwargs)
        nats = float(value.detach()) * (float(items) if items is not None else labelled)
        for key, more in (("labelled", labelled), ("nats", nats), ("computed", computed), ("real", real)):
            seen[key] += more
        return value

    trainer.compute_loss = counting
    wall, cpu = time.perf_counter(), time.process_time()
    trainer.train()
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    return {
        "wall_s": wall,
        "cpu_s": cpu,
        "labelled_tokens_per_wall_s": seen["labelled"] / wall,
        "labelled_tokens_per_cpu_s": seen["labelled"] / cpu,
        "padding": 1 - seen["real"] / seen["computed"],
        "epoch_loss": seen["nats"] / seen["labelled"],
    }


def _stock(variant: str, work: Workload, rows: list[tuple[list[int], list[int]]], folder: Path) -> Any:
    from datasets import Dataset
    from peft import LoraConfig
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from trl import SFTConfig, SFTTrainer

    checkpointing = {"gradient_checkpointing": False} if variant == "stock-nc" else {}
    args = SFTConfig(
        output_dir=str(folder), use_cpu=True, bf16=False, seed=work.seed, num_train_epochs=1, learning_rate=0.0,
        per_device_train_batch_size=ROWS_PER_STEP, logging_steps=1, save_strategy="no", report_to="none", disable_tqdm=True,
        dataloader_pin_memory=False, **checkpointing,
    )  # fmt: skip
    return SFTTrainer(
        model=AutoModelForCausalLM.from_pretrained(work.folder, dtype="float32"),
        args=args,
        train_dataset=Dataset.from_dict(
            {"input_ids": [ids for ids, _ in rows], "labels": [labels for _, labels in rows]}
        ),
        processing_class=AutoTokenizer.from_pretrained(work.folder),
        peft_config=LoraConfig(**LORA, task_type="CAUSAL_LM"),
    )


def _ours(_: str, work: Workload, rows: list[tuple[list[int], list[int]]], folder: Path) -> Any:
    from r1distill.objectives.render import Rendered
    from r1distill.objectives.sft import Job, make_trainer
    from r1distill.objectives.students import load_tokenizer
    from r1distill.objectives.watch import Watch
    from r1distill.recipe_sections import TrainSection
    from r1distill.show import Show

    source = Path(work.folder)
    tokenizer = load_tokenizer(source)
    section = TrainSection(lora=LORA, sft={"num_train_epochs": 1, "learning_rate": 0.0}, seed=work.seed)
    rendered = [Rendered(str(number), ids, labels) for number, (ids, labels) in enumerate(rows)]
    folder.mkdir(parents=True)
    job = Job(source, work.folder, tokenizer, tokenizer.eos_token_id, rendered, [], section, folder)
    return make_trainer(job, Watch(folder / "metrics.jsonl", Show(0)))


def _folder(student: str) -> str:
    from r1distill.objectives.students import locate, materialise
    from r1distill.show import Show

    found = locate(student, Path.cwd())
    assert found is not None
    return str(materialise(found, Show()))


if __name__ == "__main__":
    sys.exit(main())
