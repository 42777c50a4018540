"""Parameters are counted exactly; memory and time are rough but of the right size and direction."""

from pathlib import Path

import pytest
from tiny_student import save_tiny_student

from r1distill.errors import InputError
from r1distill.objectives import settings
from r1distill.objectives.footprint import Plan, footprint
from r1distill.objectives.students import load_model
from r1distill.recipe_sections import TrainSection

pytestmark = pytest.mark.train
LENGTHS = [100 + 7 * (i % 20) for i in range(40)]


@pytest.fixture(scope="module")
def student(tmp_path_factory) -> Path:
    return save_tiny_student(tmp_path_factory.mktemp("student"))


def estimate(folder: Path, lengths=LENGTHS, **values):
    section = TrainSection(**values)
    args = settings.sft_config(section, Path(), validate=False)
    lora = None if section.method == "full" else settings.lora_config(section.lora)
    return footprint(Plan(folder, lora, settings.bytes_per_weight(section.method), args), lengths)


def test_parameters_are_exact(student):
    from peft import get_peft_model

    real = load_model(student)
    count = sum(p.numel() for p in real.parameters())
    full = estimate(student, method="full")
    assert (full.parameters, full.trainable_parameters) == (count, count)
    adapted = get_peft_model(real, settings.lora_config(TrainSection().lora))
    trainable, parameters = adapted.get_nb_trainable_parameters()
    found = estimate(student)
    assert (found.trainable_parameters, found.parameters) == (trainable, parameters)
    assert found.weights_bytes == 4 * parameters


def test_what_costs_more_is_estimated_higher(student):
    base = estimate(student)
    assert estimate(student, method="full").state_bytes > base.state_bytes
    assert estimate(student, sft={"per_device_train_batch_size": 8}).activation_bytes > base.activation_bytes
    saved = estimate(student, sft={"gradient_checkpointing": True})
    assert saved.activation_bytes < base.activation_bytes and saved.padded_tokens == base.padded_tokens
    assert estimate(student, [2 * n for n in LENGTHS]).padded_tokens == 2 * base.padded_tokens
    assert sum(LENGTHS) <= base.padded_tokens < 1.3 * sum(LENGTHS)
    assert estimate(student, sft={"packing": True}).padded_tokens == sum(LENGTHS)
    assert 0 < base.total_bytes < base.available_bytes


def test_time_grows_with_the_epochs(student):
    long = [40_000] * 40
    one, five = (estimate(student, long, sft={"num_train_epochs": n}) for n in (1, 5))
    assert one.total_s == one.epoch_s > 0
    assert five.total_s == pytest.approx(5 * five.epoch_s, rel=0.1)


def test_layers_that_are_not_there(student):
    with pytest.raises(InputError, match=r"can't be trained so: .*nothing_like_this"):
        estimate(student, lora={"target_modules": ["nothing_like_this"]})
