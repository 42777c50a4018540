"""Packed rows give the loss of unpacked rows, and a student for which they don't is refused."""

from pathlib import Path

import pytest
import torch
from test_sft import job, rendered, section, trainer_of
from tiny_student import save_tiny_student

from r1distill.errors import RecipeError
from r1distill.objectives.packing import prove
from r1distill.objectives.sft import make_trainer, train_sft
from r1distill.objectives.students import load_model
from r1distill.objectives.watch import Watch
from r1distill.show import Show

pytestmark = pytest.mark.train


@pytest.fixture(scope="module")
def student(tmp_path_factory) -> Path:
    return save_tiny_student(tmp_path_factory.mktemp("student"))


def unpacked_loss(model, rows) -> float:
    """Mean over labelled tokens, each row alone in its batch: nothing to see but itself."""
    nats = tokens = 0.0
    with torch.no_grad():
        for r in rows:
            labels = torch.tensor(r.labels)[1:]
            logits = model(input_ids=torch.tensor([r.input_ids])).logits[0, :-1]
            nats += torch.nn.functional.cross_entropy(
                logits, labels, ignore_index=-100, reduction="sum"
            ).item()
            tokens += int((labels != -100).sum())
    return nats / tokens


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("how", [{"packing": True, "max_length": 200}, {"padding_free": True}, {}])
@pytest.mark.parametrize("own", [True, False])
def test_packed_loss_equals_unpacked_loss(student, tmp_path, attention, how, own):
    the_job = job(student, tmp_path, **how)
    trainer = make_trainer(the_job, Watch(tmp_path / "metrics.jsonl", Show(0)))
    trainer.model.get_base_model().set_attn_implementation(attention)
    trainer._own_loss = own
    trainer.model.eval()
    nats = tokens = 0.0
    for batch in trainer.get_train_dataloader():
        count = int((batch["labels"][:, 1:] != -100).sum())
        with torch.no_grad():
            nats += trainer.compute_loss(trainer.model, dict(batch)).item() * count
        tokens += count
    assert nats / tokens == pytest.approx(unpacked_loss(trainer.model, the_job.rows), rel=1e-5)
    assert tokens == sum(label != -100 for r in the_job.rows for label in r.labels)
    if how:
        assert "attention_mask" not in batch and batch["input_ids"].shape[0] == 1


def test_no_trace_is_cut_by_packing(student, tmp_path):
    the_job = job(
        student, tmp_path, packing=True, max_length=max(len(r.input_ids) for r in rendered(student, 20))
    )
    data = trainer_of(the_job).train_dataset
    lengths = sorted(length for item in data for length in item["seq_lengths"])
    assert lengths == sorted(len(r.input_ids) for r in the_job.rows)


def test_gradients_are_those_of_unpacked_rows(student, tmp_path):
    found = []
    for name, how in (("packed", {"padding_free": True}), ("padded", {})):
        trainer = trainer_of(job(student, tmp_path / name, count=4, **how))
        (batch,) = trainer.get_train_dataloader()
        trainer.model.train()
        trainer.compute_loss(trainer.model, dict(batch)).backward()
        found.append(torch.cat([p.grad.flatten() for p in trainer.model.parameters() if p.grad is not None]))
    assert torch.allclose(*found, rtol=1e-4, atol=1e-7)
    assert found[0].abs().sum() > 0


def test_proof_on_the_student_itself(student):
    proof = prove(load_model(student), rendered(student, 8), pad_id=0)
    assert proof.apart > 0 and proof.difference < 1e-5
    one = prove(load_model(student), rendered(student, 1), pad_id=0)
    assert one.difference == 0


class Blind(torch.nn.Module):
    """A student that does not look at position ids, as those with other layers than attention may not."""

    def __init__(self, model) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_ids, use_cache=False, **_):
        return self.model(input_ids=input_ids, use_cache=use_cache)


def test_student_that_looks_across_documents_is_refused(student, tmp_path, monkeypatch):
    from r1distill.objectives import sft

    with pytest.raises(RecipeError, match="packed traces see each other"):
        prove(Blind(load_model(student)), rendered(student, 8), pad_id=0)
    real = load_model
    monkeypatch.setattr(sft, "load_model", lambda *a: _with_blind_forward(real(*a)))
    with pytest.raises(RecipeError, match="remove packing"):
        train_sft(job(student, tmp_path, packing=True, max_length=200), Show(0))


def _with_blind_forward(model):
    real = model.forward
    model.forward = lambda input_ids, use_cache=False, **_: real(input_ids=input_ids, use_cache=use_cache)
    return model


def test_packing_has_its_own_batch(student):
    from r1distill.objectives.settings import sft_config

    packed = section(sft={"packing": True})
    del packed.sft["per_device_train_batch_size"]
    found = sft_config(packed, Path(), validate=False)
    assert (found.per_device_train_batch_size, found.gradient_accumulation_steps) == (1, 8)
    assert found.max_length == 4096
