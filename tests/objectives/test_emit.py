"""The files for other trainers hold exactly our rows and settings; trl's own command line trains on them to our loss."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from test_sft import metrics
from tiny_student import CHATML, row, run_with_rows, save_tiny_student

from r1distill.errors import InputError
from r1distill.objectives.emit import LORA_KEYS
from r1distill.objectives.render import render
from r1distill.objectives.students import load_tokenizer
from r1distill.recipe import load_recipe, parse_recipe
from r1distill.recipe_sections import TrainSection
from r1distill.records import Example, Message
from r1distill.train import train
from r1distill.train_check import emit

pytestmark = pytest.mark.train
SFT = {
    "learning_rate": 5e-3,
    "per_device_train_batch_size": 4,
    "gradient_accumulation_steps": 2,
    "num_train_epochs": 2,
}
DEFAULT_LORA = TrainSection().lora
LORA = {"r": 8, "lora_alpha": 16, "target_modules": "all-linear"}


@pytest.fixture(scope="module")
def student(tmp_path_factory) -> Path:
    return save_tiny_student(tmp_path_factory.mktemp("student"))


def recipe(base: Path, **values):
    return parse_recipe(
        {"name": "t", "student": {"base": str(base)}, "train": {"sft": SFT, "lora": LORA, **values}}
    )


def test_parquet_holds_our_ids_and_labels(student, tmp_path):
    from datasets import load_dataset

    rows = [row(n, reasoning="we add " * (1 + n)) for n in range(6)]
    run = run_with_rows(tmp_path, rows, [row(20)])
    summary = emit(recipe(student), run, tmp_path / "out")
    assert sorted(summary.files) == [
        "README.md", "chat_template.jinja", "data/train.parquet", "data/validation.parquet", "trl_sft.yaml",
    ]  # fmt: skip
    data = load_dataset(str(tmp_path / "out/data"), cache_dir=str(tmp_path / "cache"))
    examples = [
        Example(r["trace_id"], [Message(**m) for m in r["prompt"]], [Message(**m) for m in r["completion"]])
        for r in rows
    ]
    ours = render(load_tokenizer(student), examples).rows
    assert [(r["input_ids"], r["labels"]) for r in data["train"]] == [(r.input_ids, r.labels) for r in ours]
    assert all(
        set(r["attention_mask"]) == {1} and len(r["attention_mask"]) == len(r["labels"])
        for r in data["train"]
    )
    assert (summary.rows, summary.validation_rows, data["validation"].num_rows) == (6, 1, 1)


def test_yaml_is_what_trl_reads(student, tmp_path, monkeypatch):
    """trl's own parser takes every key, and what it makes of them is what we train with."""
    from trl.scripts.sft import make_parser

    from r1distill.objectives.settings import sft_config

    the_recipe = recipe(student, lora={**LORA, "lora_dropout": 0.1, "init_lora_weights": True})
    run = run_with_rows(tmp_path, [row(n) for n in range(6)], [row(20)])
    summary = emit(the_recipe, run, tmp_path / "out")
    assert summary.not_handed_on == ["init_lora_weights"]
    assert "init_lora_weights" in (tmp_path / "out/README.md").read_text()
    file = tmp_path / "out/trl_sft.yaml"
    text = yaml.safe_load(file.read_text())
    assert text["eos_token"] == "<|im_end|>" and text["dtype"] == "bfloat16"
    monkeypatch.chdir(tmp_path / "out")
    words = ["--config", str(file), "--use_cpu", "true", "--bf16", "false"]
    script, training, model, _ = make_parser().parse_args_and_config(words, fail_with_unknown_args=True)
    ours = sft_config(the_recipe.train, Path(), validate=True)
    for key in (
        "learning_rate", "num_train_epochs", "lr_scheduler_type", "warmup_steps", "seed", "per_device_train_batch_size",
        "gradient_accumulation_steps", "max_length", "eval_strategy", "logging_steps", "lr_scheduler_kwargs", "packing",
    ):  # fmt: skip
        assert getattr(training, key) == getattr(ours, key), key
    assert training.dataset_kwargs == {"skip_prepare_dataset": True}
    assert (model.lora_r, model.lora_alpha, model.lora_dropout, model.use_peft) == (8, 16, 0.1, True)
    assert (script.dataset_name, script.dataset_test_split) == ("./data", "validation")
    assert set(LORA_KEYS) <= set(__import__("peft").LoraConfig.__dataclass_fields__)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"method": "full", "lora": DEFAULT_LORA}, {"dtype": "float32"}),
        ({"method": "lora"}, {"use_peft": True}),
    ],
)
def test_methods_in_the_yaml(student, tmp_path, values, said):
    run = run_with_rows(tmp_path, [row(n) for n in range(3)])
    emit(recipe(student, **values), run, tmp_path / "out")
    text = yaml.safe_load((tmp_path / "out/trl_sft.yaml").read_text())
    assert said.items() <= text.items()
    assert ("lora_r" in text) is (values["method"] == "lora")


def test_dry_run_writes_nothing(student, tmp_path):
    run = run_with_rows(tmp_path, [row(n) for n in range(3)])
    before = sorted(tmp_path.rglob("*"))
    assert emit(recipe(student), run, tmp_path / "out", dry_run=True).files == []
    assert sorted(tmp_path.rglob("*")) == before


def launched(words: list[str], cwd: Path, timeout_s: float = 240, **variables: str) -> str:
    """What it wrote to stderr."""
    threads = {
        **variables,
        "OMP_NUM_THREADS": "1",
        "HF_HUB_OFFLINE": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "TQDM_DISABLE": "1",
    }
    root = Path(__file__).resolve().parents[2]
    environment = {
        **os.environ,
        **threads,
        "PYTHONPATH": os.pathsep.join([str(root), os.environ.get("PYTHONPATH", "")]),
    }
    done = subprocess.run(
        words, cwd=cwd, env=environment, capture_output=True, text=True, timeout=timeout_s, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stderr


@pytest.mark.long
def test_trl_sft_trains_on_the_emitted_files_to_our_loss(student, tmp_path):
    """One step over all rows, so that the order of rows does not matter."""
    rows = [row(n, reasoning="we add " * (1 + n % 3)) for n in range(8)]
    one_step = {**SFT, "num_train_epochs": 1, "warmup_steps": 0}
    values = {"sft": one_step, "lora": {**LORA, "lora_dropout": 0.0}}
    run = run_with_rows(tmp_path / "run", rows)
    ours = train(recipe(student, **values), run)
    emit(recipe(student, **values), run, tmp_path / "out")
    cpu = ["--use_cpu", "true", "--bf16", "false", "--gradient_checkpointing", "false", "--dtype", "float32"]
    launched([sys.executable, "-m", "trl.scripts.sft", "--config", "trl_sft.yaml", *cpu], tmp_path / "out")
    state = json.loads(next((tmp_path / "out/out").glob("checkpoint-1/trainer_state.json")).read_text())
    assert state["log_history"][0]["loss"] == pytest.approx(ours.first_loss, rel=1e-4)
    assert (tmp_path / "out/out/adapter_config.json").is_file()
    saved = load_tokenizer(tmp_path / "out/out")
    assert (saved.eos_token, saved.chat_template) == ("<|im_end|>", CHATML)


def test_nobody_elses_file_is_overwritten(student, tmp_path):
    run = run_with_rows(tmp_path / "run", [row(n) for n in range(3)])
    (tmp_path / "out").mkdir()
    (tmp_path / "out/README.md").write_text("mine")
    with pytest.raises(InputError, match="out is not empty and was not written by train --emit"):
        emit(recipe(student), run, tmp_path / "out")
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["README.md"]
    assert (tmp_path / "out/README.md").read_text() == "mine"
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="file is a file"):
        emit(recipe(student), run, tmp_path / "file")


def test_an_earlier_emit_is_replaced_and_what_was_trained_there_stays(student, tmp_path):
    run = run_with_rows(tmp_path / "run", [row(n) for n in range(3)], [row(20)])
    assert "data/validation.parquet" in emit(recipe(student), run, tmp_path / "out").files
    (tmp_path / "out/out").mkdir()  # trl's output_dir
    run = run_with_rows(tmp_path / "run", [row(n) for n in range(4)])
    assert "data/validation.parquet" not in emit(recipe(student), run, tmp_path / "out").files
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == [
        "README.md", "chat_template.jinja", "data", "out", "r1distill-emit.json", "trl_sft.yaml",
    ]  # fmt: skip
    assert [p.name for p in (tmp_path / "out/data").iterdir()] == ["train.parquet"]


@pytest.mark.long
def test_two_processes_give_the_losses_of_one(student, tmp_path):
    """An odd number of validation rows of uneven lengths: none may count twice, and tokens count, not rows."""
    rows = [row(n, reasoning="we add " * (1 + n % 5)) for n in range(32)]
    file = tmp_path / "recipe.toml"
    file.write_text(
        f'name = "t"\n[student]\nbase = "{student}"\n[train]\nlora = {{ r = 8, target_modules = "all-linear" }}\n'
        "sft = { learning_rate = 5e-3, num_train_epochs = 2, per_device_eval_batch_size = 2 }\n"
    )
    folders = {}
    validation = [row(50 + n, reasoning="we add " * 2**n) for n in range(5)]
    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    for count, start in ((1, []), (2, launch)):
        run = run_with_rows(tmp_path / f"run{count}", rows, validation)
        run.save_recipe(load_recipe(file))  # torchrun would take --run for an option of its own
        words = [sys.executable, *start, "-m", "r1distill", "train", str(run.folder)]
        launched(words, tmp_path, ACCELERATE_USE_CPU="true")
        folders[count] = run.latest("train")
    (one, alone), (two, together) = folders[1], folders[2]
    assert (alone["processes"], together["processes"]) == (1, 2)
    assert alone["steps"] == together["steps"] == 8
    assert alone["labelled_tokens"] == pytest.approx(together["labelled_tokens"], rel=1e-3)
    first, second = ([m["loss"] for m in metrics(folder) if m["loss"] is not None] for folder in (one, two))
    assert second == pytest.approx(first, rel=1e-4)
    assert first[-1] < first[0]
    before, after = (
        [m["eval_loss"] for m in metrics(folder) if m["eval_loss"] is not None] for folder in (one, two)
    )
    assert len(before) == 2 and after == pytest.approx(before, rel=1e-4)
    assert one.name == two.name  # the same stage, whoever computes it
    assert (two / "adapter" / "README.md").is_file()
