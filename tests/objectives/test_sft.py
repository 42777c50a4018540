"""Real trainings of a toy model, each a few seconds."""

import json
import os
import resource
import signal
import warnings
from pathlib import Path

import pytest
from tiny_student import row, save_tiny_student

from r1distill.errors import R1DistillError, RecipeError, StorageError
from r1distill.objectives.batches import SimilarLengths
from r1distill.objectives.render import render
from r1distill.objectives.settings import alone_under_accelerate, max_length, resolved, sft_config
from r1distill.objectives.students import load_tokenizer
from r1distill.recipe_sections import TrainSection
from r1distill.records import Example, Message
from r1distill.show import Show

pytestmark = pytest.mark.train
LORA = {"r": 8, "lora_alpha": 16, "target_modules": "all-linear"}


@pytest.fixture(scope="module")
def student(tmp_path_factory) -> Path:
    return save_tiny_student(tmp_path_factory.mktemp("student"))


def rendered(student: Path, count: int):
    def example(number: int) -> Example:
        data = row(number, reasoning=" and then ".join(["we add"] * (1 + number % 6)))
        said = [Message(**m) for m in data["prompt"]], [Message(**m) for m in data["completion"]]
        return Example(data["trace_id"], *said)

    return render(load_tokenizer(student), [example(number) for number in range(count)]).rows


def section(**values) -> TrainSection:
    sft = values.pop("sft", {})
    settings = {"learning_rate": 5e-3, "num_train_epochs": 2, "per_device_train_batch_size": 4, **sft}
    return TrainSection.model_validate({"lora": LORA, "sft": settings, **values})


def job(student: Path, folder: Path, count: int = 20, validation: int = 0, train=None, **sft):
    from r1distill.objectives.sft import Job

    rows = rendered(student, count + validation)
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = load_tokenizer(student)
    return Job(
        student,
        str(student),
        tokenizer,
        2,
        rows[:count],
        rows[count:],
        section(sft=sft, **(train or {})),
        folder,
    )


def metrics(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def trainer_of(the_job):
    from r1distill.objectives.sft import make_trainer
    from r1distill.objectives.watch import Watch

    return make_trainer(the_job, Watch(the_job.folder / "metrics.jsonl", Show(0)))


def test_training_learns_and_saves(student, tmp_path):
    from r1distill.objectives.sft import train_sft

    outcome = train_sft(job(student, tmp_path, validation=4, num_train_epochs=6, learning_rate=1e-2), Show(0))
    assert outcome.steps == 30
    assert outcome.last_loss < 0.7 * outcome.first_loss
    assert outcome.validation_loss < 0.7 * outcome.first_loss
    assert json.loads((tmp_path / "adapter/adapter_config.json").read_text())["r"] == 8
    assert (tmp_path / "adapter/tokenizer.json").exists()
    assert (tmp_path / "checkpoints").exists()  # whoever writes the rest of the training drops them
    rows = metrics(tmp_path)
    assert [r["step"] for r in rows if r["loss"] is not None] == list(range(1, 31))
    assert len([r for r in rows if r["eval_loss"] is not None]) == 6
    labelled = sum(label != -100 for r in job(student, tmp_path).rows for label in r.labels)
    assert rows[-1]["labelled_tokens"] == outcome.labelled_tokens == 6 * labelled


@pytest.mark.parametrize("packing", [False, True])
def test_trl_changes_neither_ids_nor_labels(student, tmp_path, packing):
    the_job = job(student, tmp_path, packing=packing, max_length=200)
    trainer = trainer_of(the_job)
    data = trainer.train_dataset
    ours = sorted((r.input_ids, r.labels) for r in the_job.rows)
    theirs = []
    for item in data:
        start = 0
        for length in item.get("seq_lengths", [len(item["input_ids"])]):
            part = slice(start, start + length)
            theirs.append((item["input_ids"][part], item["labels"][part]))
            start += length
        assert start == len(item["input_ids"])
    assert sorted(theirs) == ours
    batch = next(iter(trainer.get_train_dataloader()))
    assert set(batch) >= {"input_ids", "labels"}


@pytest.mark.parametrize("packing", [False, True])
def test_own_loss_equals_trls_and_so_do_its_gradients(student, tmp_path, packing):
    import torch

    trainer = trainer_of(job(student, tmp_path, packing=packing, max_length=200))
    assert trainer._own_loss
    batch = next(iter(trainer.get_train_dataloader()))
    found = []
    trainer.model.train()
    for own in (True, False):
        trainer._own_loss = own
        trainer.model.zero_grad()
        loss = trainer.compute_loss(trainer.model, dict(batch), num_items_in_batch=torch.tensor(37))
        loss.backward()
        gradients = [p.grad for p in trainer.model.parameters() if p.grad is not None]
        found.append((loss.item(), torch.cat([g.flatten() for g in gradients])))
    assert found[0][0] == pytest.approx(found[1][0], rel=1e-5)
    assert torch.allclose(found[0][1], found[1][1], rtol=1e-4, atol=1e-7)
    assert found[0][1].abs().sum() > 0


def test_validation_loss_is_exact(student, tmp_path):
    import torch

    the_job = job(student, tmp_path, validation=7, per_device_eval_batch_size=3)
    trainer = trainer_of(the_job)
    trainer.evaluate()
    nats = tokens = 0.0
    with torch.no_grad():
        for item in the_job.validation:
            ids, labels = torch.tensor([item.input_ids]), torch.tensor(item.labels)[1:]
            logits = trainer.model(input_ids=ids).logits[0, :-1]
            nats += torch.nn.functional.cross_entropy(
                logits, labels, ignore_index=-100, reduction="sum"
            ).item()
            tokens += int((labels != -100).sum())
    assert trainer.watch.metrics[-1].eval_loss == pytest.approx(nats / tokens, rel=1e-5)


@pytest.mark.parametrize("logging_steps", [1, 3])
def test_interrupted_training_resumes_to_the_same_result(student, tmp_path, monkeypatch, logging_steps):
    from r1distill.objectives import sft, watch

    before = signal.getsignal(signal.SIGINT)
    whole = sft.train_sft(job(student, tmp_path / "whole", logging_steps=logging_steps), Show(0))

    class Interrupted(watch.Watch):
        def on_step_begin(self, args, state, control, **_):
            if state.global_step == 3:
                os.kill(os.getpid(), signal.SIGINT)

    with monkeypatch.context() as patch:
        patch.setattr(sft, "Watch", Interrupted)
        with pytest.raises(KeyboardInterrupt):
            sft.train_sft(job(student, tmp_path / "cut", logging_steps=logging_steps), Show(0))
    counts = json.loads((tmp_path / "cut/checkpoints/checkpoint-4" / watch.COUNTS_FILE).read_text())
    assert [p.name for p in (tmp_path / "cut/checkpoints").iterdir()] == ["checkpoint-4"]
    broken = tmp_path / "cut/checkpoints/checkpoint-9"
    broken.mkdir()  # killed while saving: has no trainer_state.json
    resumed = sft.train_sft(job(student, tmp_path / "cut", logging_steps=logging_steps), Show(0))
    assert resumed.steps == whole.steps == 10
    assert resumed.labelled_tokens == whole.labelled_tokens
    first, second = metrics(tmp_path / "whole"), metrics(tmp_path / "cut")
    assert [r["step"] for r in second] == [r["step"] for r in first]
    assert [r["labelled_tokens"] for r in second] == [r["labelled_tokens"] for r in first]
    assert next(r["elapsed_s"] for r in second if r["step"] > 4) > counts["elapsed_s"] > 0
    if logging_steps == 1:  # else the first row after the interruption is a mean over fewer steps
        assert [r["loss"] for r in second] == pytest.approx([r["loss"] for r in first], rel=1e-4)
    assert signal.getsignal(signal.SIGINT) is before


class Killed(BaseException):
    """As a kill: nothing catches it, nothing is written after it."""


def die_in_validation(monkeypatch, number: int):
    """Die in the last moment of the validation with this number, counted from 1, before anything is noted of it."""
    from r1distill.objectives.trainer import Trainer

    seen, summed = [], Trainer._summed

    def dies(self, own):
        seen.append(own)
        if len(seen) == number:
            raise Killed
        return summed(self, own)

    monkeypatch.setattr(Trainer, "_summed", dies)


def validations(folder: Path) -> list[tuple]:
    return [(m["step"], m["epoch"], m["eval_loss"]) for m in metrics(folder) if m["eval_loss"] is not None]


def cut_and_resumed(a_job, folder: Path, monkeypatch, number: int):
    """A training that dies in a validation, with a checkpoint after every step, and goes on: its outcome."""
    from r1distill.objectives import sft, watch

    with monkeypatch.context() as patch:
        patch.setattr(watch.Watch.__init__, "__defaults__", (0.0, True, 1))
        die_in_validation(patch, number)
        with pytest.raises(Killed):
            sft.train_sft(a_job(folder), Show(0))
    return sft.train_sft(a_job(folder), Show(0))


@pytest.mark.parametrize(("keep", "numbers"), [("last", (1, 2)), ("best", (2,))])
def test_a_validation_that_a_kill_cost_is_made_up_for(student, tmp_path, monkeypatch, keep, numbers):
    """After the first epoch, and after the last, which is the best: no step and no checkpoint follows."""
    from r1distill.objectives.sft import train_sft

    def a_job(folder: Path):
        return job(student, folder, count=8, validation=4, train={"keep": keep})

    whole = train_sft(a_job(tmp_path / "whole"), Show(0))
    expected = validations(tmp_path / "whole")
    assert [step for step, *_ in expected] == [2, 4] and expected[1][2] < expected[0][2]
    for number in numbers:
        resumed = cut_and_resumed(a_job, tmp_path / f"cut{number}", monkeypatch, number)
        assert resumed.validation_loss == pytest.approx(whole.validation_loss, rel=1e-4)
        assert (resumed.steps, resumed.labelled_tokens) == (whole.steps, whole.labelled_tokens)
        found = validations(tmp_path / f"cut{number}")
        assert [row[:2] for row in found] == [row[:2] for row in expected]
        kept = [tmp_path / f / "adapter/adapter_model.safetensors" for f in ("whole", f"cut{number}")]
        assert kept[0].read_bytes() == kept[1].read_bytes()


def test_best_checkpoint_and_early_stop_know_a_validation_made_up_for(student, tmp_path, monkeypatch):
    """Killed in the best validation, and in the one that decides on the end."""
    from r1distill.objectives.sft import train_sft

    wild = {"learning_rate": 1.0, "num_train_epochs": 30, "warmup_steps": 0, "lr_scheduler_type": "constant"}

    def a_job(folder: Path):
        return job(student, folder, count=4, validation=2, train={"patience": 2}, **wild)

    whole = train_sft(a_job(tmp_path / "whole"), Show(0))
    losses = [loss for *_, loss in validations(tmp_path / "whole")]
    best = losses.index(min(losses)) + 1
    assert len(losses) == best + 2 < 30
    for number in (best, best + 2):
        folder = tmp_path / f"cut{number}"
        resumed = cut_and_resumed(a_job, folder, monkeypatch, number)
        assert [loss for *_, loss in validations(folder)] == pytest.approx(losses, rel=1e-3)
        assert (resumed.steps, resumed.validation_loss) == (
            whole.steps,
            pytest.approx(min(losses), rel=1e-3),
        )
        kept = [f / "adapter/adapter_model.safetensors" for f in (tmp_path / "whole", folder)]
        assert kept[0].read_bytes() == kept[1].read_bytes()


@pytest.mark.parametrize("sft", [{"max_steps": 3}, {"num_train_epochs": 1.4}])
def test_a_training_that_ends_within_an_epoch_is_not_trained_further(student, tmp_path, sft):
    from r1distill.objectives.sft import train_sft

    first = train_sft(job(student, tmp_path, validation=2, **sft), Show(0))
    weights = (tmp_path / "adapter/adapter_model.safetensors").read_bytes()
    noted = (tmp_path / "metrics.jsonl").read_bytes()
    again = train_sft(job(student, tmp_path, validation=2, **sft), Show(0))
    assert (again.steps, again.validation_loss) == (first.steps, first.validation_loss)
    assert (tmp_path / "adapter/adapter_model.safetensors").read_bytes() == weights
    assert (tmp_path / "metrics.jsonl").read_bytes() == noted


def test_an_interrupt_within_an_epoch_validates_nothing(student, tmp_path, monkeypatch):
    from r1distill.objectives import sft, watch

    class Interrupted(watch.Watch):
        def on_step_begin(self, args, state, control, **_):
            if state.global_step == 2:
                os.kill(os.getpid(), signal.SIGINT)

    with monkeypatch.context() as patch:
        patch.setattr(sft, "Watch", Interrupted)
        with pytest.raises(KeyboardInterrupt):
            sft.train_sft(job(student, tmp_path, validation=2), Show(0))
    assert [m["step"] for m in metrics(tmp_path)] == [1, 2, 3]
    sft.train_sft(job(student, tmp_path, validation=2), Show(0))
    assert [m["step"] for m in metrics(tmp_path) if m["eval_loss"] is not None] == [5, 10]


def test_a_launchers_echo_of_an_interrupt_is_no_second_one(tmp_path):
    from r1distill.objectives.watch import SECOND_INTERRUPT_S, Watch

    together = Watch(tmp_path / "a", Show(0), processes=2)
    with together.at_work(1):
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)
        assert together.interrupted
        together._interrupted_at -= SECOND_INTERRUPT_S
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    alone = Watch(tmp_path / "b", Show(0))
    with alone.at_work(1):
        signal.raise_signal(signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)


def test_many_validations_are_told_a_few_times(tmp_path, capsys):
    from types import SimpleNamespace

    from r1distill.objectives.watch import Watch

    for epochs, told in ((3, 3), (60, 11)):
        watch = Watch(tmp_path / "m", Show())
        for epoch in range(1, epochs + 1):
            state = SimpleNamespace(global_step=7 * epoch, max_steps=7 * epochs, epoch=epoch)
            watch.on_log(None, state, None, {"eval_loss": 1.0})
        lines = capsys.readouterr().err.splitlines()
        assert (len(lines), len(watch.metrics)) == (told, epochs)
        assert f"after epoch {epochs}:" in lines[-1]


def test_checkpoints_come_by_the_clock(student, tmp_path):
    from r1distill.objectives.sft import make_trainer
    from r1distill.objectives.watch import Watch

    watch = Watch(tmp_path / "metrics.jsonl", Show(0), checkpoint_every_s=0.0)
    trainer = make_trainer(job(student, tmp_path), watch)
    with watch.at_work(10):
        trainer.train()
    saved = {p.name for p in (tmp_path / "checkpoints").iterdir()}
    assert saved == {"checkpoint-9", "checkpoint-10"}  # the last two are kept
    cards = [card.read_text() for card in (tmp_path / "checkpoints").glob("*/README.md")]  # peft's own
    assert not any("has been trained using [TRL]" in card for card in cards)


@pytest.mark.parametrize(
    ("error", "kind", "words"),
    [
        (
            RuntimeError("[enforce fail at inline_container.cc:664] . PytorchStreamWriter failed"),
            StorageError,
            "no space",
        ),
        (OSError(28, "No space left on device"), StorageError, "no space left"),
        (RuntimeError("Error while serializing: I/O error: (os error 122)"), StorageError, "a quota or size"),
        (RuntimeError("CUDA out of memory. Tried to allocate"), R1DistillError, "not enough memory"),
    ],
)
def test_full_disk_or_memory_is_one_sentence(student, tmp_path, monkeypatch, error, kind, words):
    from r1distill.objectives import sft

    def full(*_):
        raise error

    monkeypatch.setattr(sft, "_save", full)
    with pytest.raises(kind, match=words):
        sft.train_sft(job(student, tmp_path), Show(0))


def test_a_file_size_limit_while_saving_is_one_sentence(student, tmp_path):
    """`ulimit -f`: safetensors says "File too large (os error 27)"."""
    from r1distill.objectives import sft

    the_job = job(student, tmp_path, max_steps=1)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (30_000, hard))
    try:
        with pytest.raises(StorageError, match="a quota or size limit is reached"):
            sft.train_sft(the_job, Show(0))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_damaged_file_is_no_full_disk():
    from r1distill.objectives.disk import refused_write

    for said, refused in (
        ("Error while serializing: I/O error: File too large (os error 27)", True),
        ("[enforce fail at inline_container.cc:672] . unexpected pos 576 vs 534", True),
        ("Error while deserializing header: invalid header length", False),
        ("inline_container.cc:1: PytorchStreamReader failed reading zip archive", False),
    ):
        assert refused_write(RuntimeError(said)) is refused


def test_failed_save_loses_nothing(student, tmp_path, monkeypatch):
    """The second call saves what the first one trained, without a further step; half a folder left behind does no harm."""
    from r1distill.objectives import sft

    def full(the_job, _):
        (the_job.folder / ".adapter.part").mkdir()
        (the_job.folder / ".adapter.part" / "garbage").touch()
        raise OSError(28, "No space left on device")

    the_job = job(student, tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(sft, "_save", full)
        with pytest.raises(StorageError, match="no space left"):
            sft.train_sft(the_job, Show(0))
    before = metrics(tmp_path)
    outcome = sft.train_sft(job(student, tmp_path), Show(0))
    assert (
        metrics(tmp_path) == before
        and outcome.steps == 10
        and outcome.last_loss == pytest.approx(sum(m["loss"] for m in before[-1:]))
    )
    assert (tmp_path / "adapter/adapter_config.json").is_file()
    assert not (tmp_path / "adapter/garbage").exists() and not (tmp_path / ".adapter.part").exists()


def test_adapter_of_another_base_is_one_sentence(student, tmp_path):
    from r1distill.errors import InputError
    from r1distill.objectives.merge import merge
    from r1distill.objectives.sft import train_sft

    train_sft(job(student, tmp_path / "a", max_steps=1), Show(0))
    other = save_tiny_student(tmp_path / "other")
    config = json.loads((tmp_path / "a/adapter/adapter_config.json").read_text())
    (tmp_path / "a/adapter/adapter_config.json").write_text("{no json")
    with pytest.raises(
        InputError, match=r"adapter_config\.json is no JSON object; remove .*adapter and train"
    ):
        merge(other, tmp_path / "a/adapter", tmp_path / "merged")
    config["r"] = 4  # as if made for another shape
    (tmp_path / "a/adapter/adapter_config.json").write_text(json.dumps(config))
    with pytest.raises(InputError, match="does not fit the model"):
        merge(other, tmp_path / "a/adapter", tmp_path / "merged")
    assert not (tmp_path / "merged").exists()


def test_trl_still_has_what_is_switched_off():
    """Telemetry and trl's own model card: if they are renamed, our overrides would no longer silence them."""
    from trl import SFTTrainer

    from r1distill.objectives.trainer import Trainer

    for name in ("_send_telemetry", "create_model_card"):
        assert callable(getattr(SFTTrainer, name)) and name in vars(Trainer)


def test_merged_student_answers_as_the_adapted_one(student, tmp_path):
    import torch
    from peft import PeftModel

    from r1distill.objectives.merge import merge
    from r1distill.objectives.sft import train_sft
    from r1distill.objectives.students import load_model

    the_job = job(student, tmp_path)
    train_sft(the_job, Show(0))
    merged = load_model(merge(student, tmp_path / "adapter", tmp_path / "merged"))
    adapted = PeftModel.from_pretrained(load_model(student), tmp_path / "adapter").eval()
    ids = torch.tensor([the_job.rows[0].input_ids])
    with torch.no_grad():
        assert torch.allclose(merged.eval()(ids).logits, adapted(ids).logits, atol=1e-5)
    assert merged.generation_config.eos_token_id in (2, [2])


def test_similar_lengths_yields_every_row_once_in_reproducible_order():
    lengths = [10 * (i % 13) + i for i in range(103)]
    sampler = SimilarLengths(lengths, 8, seed=1)
    first = list(sampler)
    assert sorted(first) == list(range(103))
    assert first == list(sampler)
    sampler.set_epoch(1)
    assert list(sampler) != first
    batches = [first[i : i + 8] for i in range(0, 103, 8)]
    assert len(batches[-1]) == 7
    padded = sum(max(lengths[r] for r in b) * len(b) for b in batches)
    assert padded < 1.2 * sum(lengths)


def test_other_batches_in_another_epoch():
    sampler = SimilarLengths([i % 40 for i in range(400)], 8, seed=1)
    seen = []
    for epoch in (0, 1):
        sampler.set_epoch(epoch)
        order = list(sampler)
        seen.append({frozenset(order[i : i + 8]) for i in range(0, 400, 8)})
    assert not seen[0] & seen[1]


@pytest.mark.parametrize(
    ("lora", "sft", "words"),
    [
        (
            {"lora_aplha": 3},
            {},
            r"train\.lora: LoraConfig has no key 'lora_aplha'; did you mean 'train\.lora\.lora_alpha'",
        ),
        ({}, {"learning_rte": 1}, r"no key 'learning_rte'; did you mean 'train\.sft\.learning_rate'"),
        ({}, {"output_dir": "x"}, "'output_dir' is set by r1distill"),
        ({}, {"max_length": 0}, "max_length must be a whole number of at least 1, not 0"),
        ({}, {"max_length": True}, "max_length must be a whole number"),
        (
            {},
            {"per_device_train_batch_size": 0},
            r"train\.sft\.per_device_train_batch_size must be a whole number",
        ),
        ({}, {"gradient_accumulation_steps": 0}, r"gradient_accumulation_steps must be .* at least 1, not 0"),
        ({}, {"gradient_accumulation_steps": 2.5}, "gradient_accumulation_steps must be a whole number"),
        (
            {},
            {"learning_rate": "abc"},
            r"train\.sft\.learning_rate must be a number of at least 0, not 'abc'",
        ),
        ({}, {"learning_rate": -1}, "learning_rate must be a number of at least 0, not -1"),
        ({}, {"max_grad_norm": "x"}, r"train\.sft\.max_grad_norm must be a number"),
        ({}, {"num_train_epochs": 0}, r"num_train_epochs must be a number above 0, not 0"),
        ({}, {"num_train_epochs": -1}, r"num_train_epochs must be a number above 0, not -1"),
        (
            {},
            {"max_steps": 0},
            r"max_steps must be a whole number of at least 1 \(-1 leaves it open\), not 0",
        ),
        (
            {},
            {"neftune_noise_alpha": "much"},
            r"train\.sft\.neftune_noise_alpha must be a number, not 'much'",
        ),
        ({}, {"bf16": "yes"}, r"train\.sft\.bf16 must be true or false, not 'yes'"),
        ({"r": 0}, {}, r"train\.lora\.r must be a whole number of at least 1"),
        ({"lora_alpha": "16"}, {}, r"train\.lora\.lora_alpha must be a number above 0, not '16'"),
        ({"lora_dropout": 5}, {}, r"train\.lora\.lora_dropout must be a number from 0 to 1, not 5"),
        ({}, {"packing": True, "packing_strategy": "wrapped"}, "packing_strategy must be 'bfd'"),
        ({}, {"lr_scheduler_type": "cosin"}, "refused by trl"),
    ],
)
def test_wrong_settings_are_named(lora, sft, words):
    from r1distill.objectives.settings import check

    with pytest.raises(RecipeError, match=words):
        check(TrainSection(lora=lora, sft=sft))


def test_settings_at_the_edge_of_their_range_pass():
    from r1distill.objectives.settings import check

    edges = {
        "learning_rate": 0,
        "max_steps": -1,
        "num_train_epochs": 0.01,
        "max_grad_norm": 0,
        "warmup_steps": 5,
    }
    more = {
        "neftune_noise_alpha": 5,
        "eval_steps": 0.5,
        "tf32": False,
        "lr_scheduler_kwargs": {"min_lr": 1e-6},
    }
    check(TrainSection(sft=edges | more, lora={"r": 1, "lora_alpha": 0.5, "lora_dropout": 0}, seed=0))


def test_one_process_under_accelerate_is_noticed(monkeypatch):
    for name, value in (("ACCELERATE_MIXED_PRECISION", "no"), ("WORLD_SIZE", None)):
        monkeypatch.setenv(name, value) if value else monkeypatch.delenv(name, raising=False)
    assert alone_under_accelerate()
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert not alone_under_accelerate()


def test_a_card_is_told_what_was_used_also_where_the_recipe_says_nothing():
    used = resolved(
        TrainSection(sft={"num_train_epochs": 2}, lora={"r": 8, "use_rslora": True}), validate=True
    )
    said = {
        "method": "lora",
        "lora.r": 8,
        "lora.use_rslora": True,
        "learning_rate": 2e-4,
        "num_train_epochs": 2,
    }
    said |= {
        "lr_scheduler_type": "cosine_with_min_lr",
        "lr_scheduler_kwargs": {"min_lr_rate": 0.1},
        "seed": 0,
    }
    said |= {"rows per step": 8, "max_length": 4096}
    assert {key: used[key] for key in said} == said
    json.dumps(used)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # a model card is written outside of what keeps the libraries quiet
        full = resolved(TrainSection(method="full"), validate=False)
    assert full["learning_rate"] == 2e-5 and not any(key.startswith("lora") for key in full)


def test_settings_reach_trl_over_our_defaults(tmp_path):
    def config(validate=False, **sft):
        return sft_config(TrainSection(sft=sft, seed=7), tmp_path, validate=validate)

    found = config(True, learning_rate=1e-3, max_length=100)
    assert (found.learning_rate, found.seed, found.num_train_epochs) == (1e-3, 7, 3)
    assert found.max_length is None  # dropping over-long rows is ours; trl must not cut
    assert max_length({"max_length": 100}) == 100
    assert found.per_device_train_batch_size * found.gradient_accumulation_steps == 8
    own = config(per_device_train_batch_size=16)
    assert (own.per_device_train_batch_size, own.gradient_accumulation_steps) == (16, 1)
    assert (own.report_to, own.dataloader_drop_last) == ([], False)
    assert config(lr_scheduler_type="linear").lr_scheduler_kwargs in (None, {})
    assert sft_config(TrainSection(method="full"), tmp_path, validate=False).learning_rate == 2e-5
