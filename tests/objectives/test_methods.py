"""Full fine-tuning, 4 bits, the best checkpoint, early stop, and the batch of several processes."""

import importlib.util
import json
from pathlib import Path

import pytest
from test_sft import job, metrics, section
from tiny_student import CHATML, row, run_with_rows, save_tiny_student

from r1distill.errors import MissingPackageError, RecipeError
from r1distill.objectives import settings
from r1distill.objectives.batches import SimilarLengths
from r1distill.recipe import parse_recipe
from r1distill.recipe_sections import TrainSection
from r1distill.show import Show
from r1distill.train import train
from r1distill.train_check import check

pytestmark = pytest.mark.train


@pytest.fixture(scope="module")
def student(tmp_path_factory) -> Path:
    return save_tiny_student(tmp_path_factory.mktemp("student"))


def recipe(base: Path, **values):
    return parse_recipe({"name": "t", "student": {"base": str(base)}, "train": values})


def test_full_fine_tuning_writes_a_model_that_stops_and_serves_as_trained(tmp_path):
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    template = "{{ strftime_now('%d %b %Y') + '\n' }}" + CHATML
    base = save_tiny_student(tmp_path / "m", template, eos="<|endoftext|>")
    run = run_with_rows(tmp_path / "run", [row(n) for n in range(8)], [row(20)])
    sft = {"num_train_epochs": 6, "learning_rate": 1e-2, "per_device_train_batch_size": 4}
    summary = train(recipe(base, method="full", sft=sft), run, show=Show(0))
    assert (summary.adapter, summary.adapter_gguf, summary.method) == (None, None, "full")
    assert summary.trainable_parameters == summary.parameters > 0
    assert summary.last_loss < 0.7 * summary.first_loss
    model, before = (AutoModelForCausalLM.from_pretrained(path) for path in (summary.model, base))
    assert not torch.equal(model.model.embed_tokens.weight, before.model.embed_tokens.weight)
    assert model.generation_config.eos_token_id == [2, 0]
    tokenizer = AutoTokenizer.from_pretrained(summary.model)
    assert tokenizer.eos_token == "<|im_end|>"
    text = tokenizer.apply_chat_template([{"role": "user", "content": "Q"}], tokenize=False)
    assert text.startswith("26 Jul 2024\n")
    assert (Path(summary.model) / "README.md").read_text().count("library_name: transformers") == 1


def test_full_takes_no_adapter_settings():
    with pytest.raises(RecipeError, match=r"train\.lora has no effect"):
        settings.check(TrainSection(method="full", lora={"r": 4}))
    settings.check(TrainSection(method="full"))


def test_full_loss_is_the_same_before_the_first_step(student, tmp_path):
    """Nothing is learned yet, so adapter and full training start at the same loss."""
    from r1distill.objectives.sft import train_sft

    first = []
    for method in ("lora", "full"):
        train_sft(job(student, tmp_path / method, train={"method": method}, max_steps=1), Show(0))
        first.append(metrics(tmp_path / method)[0]["loss"])
    assert first[0] == pytest.approx(first[1], rel=1e-5)


def test_four_bits_train_where_they_can_and_say_so_where_not(student, tmp_path):
    from r1distill.objectives.sft import train_sft

    quantised = job(student, tmp_path, train={"method": "qlora"}, max_steps=4)
    if importlib.util.find_spec("bitsandbytes") is None:
        with pytest.raises(MissingPackageError, match=r"needs bitsandbytes.*pip install bitsandbytes"):
            settings.check(quantised.section)
        return
    outcome = train_sft(quantised, Show(0))
    assert outcome.steps == 4 and outcome.trainable_parameters < outcome.parameters
    assert (tmp_path / "adapter" / "adapter_config.json").is_file()


def test_four_bits_without_bitsandbytes(monkeypatch):
    real = importlib.util.find_spec
    monkeypatch.setattr(
        "importlib.util.find_spec", lambda name, *a: None if name == "bitsandbytes" else real(name, *a)
    )
    with pytest.raises(MissingPackageError, match='or train with method = "lora"'):
        settings.check(TrainSection(method="qlora"))


def test_best_checkpoint_is_kept_and_early_stop_stops(student, tmp_path):
    """A learning rate that makes things worse: the first validation stays the best."""
    from r1distill.objectives.sft import train_sft

    wild = {"learning_rate": 3.0, "num_train_epochs": 30, "warmup_steps": 0, "lr_scheduler_type": "constant"}
    the_job = job(student, tmp_path, validation=4, train={"patience": 2}, **wild)
    outcome = train_sft(the_job, Show(0))
    seen = [m["eval_loss"] for m in metrics(tmp_path) if m["eval_loss"] is not None]
    best = seen.index(min(seen))
    assert len(seen) == best + 1 + 2 < 30  # two more without a lower loss, then the end
    assert outcome.validation_loss == min(seen) < seen[-1]
    # the adapter that was saved has this loss
    from peft import PeftModel
    from test_packing import unpacked_loss

    from r1distill.objectives.students import load_model

    kept = PeftModel.from_pretrained(load_model(student), tmp_path / "adapter").eval()
    assert unpacked_loss(kept, the_job.validation) == pytest.approx(outcome.validation_loss, rel=1e-4)


def test_best_needs_validation_rows(student, tmp_path):
    from r1distill.objectives.sft import train_sft

    with pytest.raises(RecipeError, match=r"val\.jsonl has none: raise filter\.select\.val_fraction"):
        train_sft(job(student, tmp_path, train={"keep": "best"}), Show(0))
    run = run_with_rows(tmp_path / "run", [row(n) for n in range(4)])
    with pytest.raises(RecipeError, match=r"val\.jsonl has none"):
        check(recipe(student, patience=2), run)
    with pytest.raises(RecipeError, match="need validations"):
        settings.check(section(keep="best", sft={"eval_strategy": "no"}))


@pytest.mark.parametrize(
    ("sft", "processes", "expected"),
    [
        ({}, 1, (4, 2)),
        ({}, 2, (4, 1)),
        ({}, 4, (2, 1)),
        ({}, 8, (1, 1)),
        ({"per_device_train_batch_size": 6}, 1, (6, 1)),
        ({"per_device_train_batch_size": 6}, 2, (3, 1)),
        ({"per_device_train_batch_size": 4, "gradient_accumulation_steps": 6}, 8, (3, 1)),
        ({"per_device_train_batch_size": 2, "gradient_accumulation_steps": 16}, 4, (2, 4)),
        ({"gradient_accumulation_steps": 3}, 1, (4, 3)),
    ],
)
def test_rows_per_step_are_kept_for_any_number_of_processes(sft, processes, expected):
    found = settings.batch(TrainSection(sft=sft), processes)
    assert tuple(found.values()) == expected
    size, steps = settings.batch(TrainSection(sft=sft), 1).values()
    assert expected[0] * expected[1] * processes == size * steps


def test_rows_that_can_not_be_dealt_evenly():
    with pytest.raises(RecipeError, match="A step of 8 rows can't be dealt evenly to 3 processes"):
        settings.batch(TrainSection(), 3)


def test_a_step_holds_the_same_rows_whoever_computes_them():
    lengths = [10 + (7 * i) % 90 for i in range(96)]
    order = list(SimilarLengths(lengths, 4, seed=3, batches_per_step=4, processes=2))
    plain = list(SimilarLengths(lengths, 4, seed=3))
    assert [set(order[i : i + 16]) for i in range(0, 96, 16)] == [
        set(plain[i : i + 16]) for i in range(0, 96, 16)
    ]
    # Two processes take turns; a step takes as long as the one with more to do.
    assert slowest(order, lengths) < slowest(plain, lengths)


def slowest(order: list[int], lengths: list[int]) -> int:
    batches = [max(lengths[row] for row in order[i : i + 4]) for i in range(0, len(order), 4)]
    steps = [batches[i : i + 4] for i in range(0, len(batches), 4)]
    return sum(max(sum(step[0::2]), sum(step[1::2])) for step in steps)


def test_defaults_are_part_of_the_stage(student, tmp_path, monkeypatch):
    run = run_with_rows(tmp_path, [row(n) for n in range(4)])
    first = train(recipe(student), run, dry_run=True)
    monkeypatch.setitem(settings.DEFAULTS, "learning_rate", 1e-9)
    assert train(recipe(student), run, dry_run=True).stage_id != first.stage_id


def test_card_and_loss_picture(student, tmp_path):
    run = run_with_rows(tmp_path, [row(n) for n in range(4)])
    kept = [{"id": f"t{n}", "teacher": "r1" if n else "other", "answer": "x"} for n in range(4)]
    (tmp_path / "filter/f1/kept.jsonl").write_text("".join(json.dumps(k) + "\n" for k in kept))
    teacher = {"r1": {"provider": "deepseek", "model": "deepseek-reasoner", "sampling": {"max_tokens": 10}}}
    values = {
        "name": "t",
        "student": {"base": str(student)},
        "teacher": teacher,
        "train": {"sft": {"max_steps": 2}},
    }
    summary = train(parse_recipe(values), run, show=Show(0))
    text = (Path(summary.adapter) / "README.md").read_text()
    assert "| r1 | 3 | deepseek-reasoner |" in text and "| other | 1 | unknown |" in text
    assert str(tmp_path) not in text and str(student.parent) not in text
    if importlib.util.find_spec("matplotlib"):
        assert (Path(summary.folder) / "loss.svg").read_bytes().lstrip().startswith(b"<?xml")
