"""A tiny real student, trained by a step and exported in every form: same logits, same tokens, nothing half-written."""

from __future__ import annotations

import json
import resource
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from tiny_student import CHATML, row, run_with_rows, save_tiny_student

from r1distill.errors import InputError, LockedError, StorageError, UsageError
from r1distill.export import export
from r1distill.exports.card import card
from r1distill.exports.template import check_ids, served_template
from r1distill.model_card import LLAMA_NAME
from r1distill.objectives.render import IGNORED, render
from r1distill.objectives.templates import FIXED_DATE_STRING
from r1distill.recipe import Recipe, parse_recipe
from r1distill.records import Example, Message
from r1distill.run import Run
from r1distill.runtime import contestants, student_weights
from r1distill.serve import Source, find
from r1distill.show import Show
from r1distill.train import train

pytestmark = pytest.mark.train
QUESTION = [{"role": "user", "content": "What is 12 + 7?"}]
DATED = (
    "{% if not date_string is defined %}{% set date_string = strftime_now('%d %b %Y') %}{% endif %}"
    "{{ 'Today: ' + date_string + '\n' }}" + CHATML
)


ONE_THREAD = {"e": {"provider": "embedded", "threads": 1, "parallel": 2, "context_tokens": 128}}


class Trained:
    """A run with a trained student."""

    def __init__(self, folder: Path, base: Path, **more: Any) -> None:
        rows = [row(n) for n in range(4)]
        self.base, self.run = base, run_with_rows(folder / "run", rows)
        self.rows = [
            Example(r["trace_id"], *([Message(**m) for m in r[k]] for k in ("prompt", "completion")))
            for r in rows
        ]
        self.more = more
        self.summary = train(self.recipe(), self.run)
        self.adapter = Path(str(self.summary.adapter))

    def recipe(self, **more: Any) -> Recipe:
        lora = {"r": 8, "lora_alpha": 64, "target_modules": "all-linear"}
        sft = {"max_steps": 3, "per_device_train_batch_size": 4, "learning_rate": 0.02}
        section = {"lora": lora, "sft": sft}
        student = {"base": str(self.base), "template": "ask.jinja"}
        more = {"teacher": ONE_THREAD, **more}
        return parse_recipe(
            {"name": "tiny", "student": student, "train": section, **self.more, **more},
            folder=self.base.parent,
        )


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    folder = tmp_path_factory.mktemp("trained")
    (folder / "ask.jinja").write_text("{{ question }}")
    return Trained(folder, save_tiny_student(folder / "base"))


def logits_of(model: Any, ids: list[int]) -> Any:
    import torch

    with torch.no_grad():
        return model.eval()(torch.tensor([ids])).logits


def adapted(trained: Trained, adapter: Path) -> Any:
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    return PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(trained.base), adapter)


def test_merged_reloads_to_the_logits_of_base_and_adapter(trained: Trained, tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM

    summary = export(trained.recipe(), trained.run, tmp_path / "out")
    assert (summary.format, summary.quant, summary.prompts_checked, summary.up_to_date) == (
        "merged",
        None,
        5,
        False,
    )
    ids = list(range(3, 60))
    here = logits_of(AutoModelForCausalLM.from_pretrained(tmp_path / "out"), ids)
    there = logits_of(adapted(trained, trained.adapter), ids)
    base = logits_of(AutoModelForCausalLM.from_pretrained(trained.base), ids)
    assert float((here - there).abs().max()) < 1e-4
    assert float((here - base).abs().max()) > 0.01  # the adapter is no zero


def test_the_generation_prompt_is_the_prefix_that_was_trained(trained: Trained, tmp_path: Path) -> None:
    from transformers import AutoTokenizer, GenerationConfig

    export(trained.recipe(), trained.run, tmp_path / "out")
    exported = AutoTokenizer.from_pretrained(tmp_path / "out")
    rendered = render(AutoTokenizer.from_pretrained(trained.adapter), trained.rows).rows
    for example, trained_row in zip(trained.rows, rendered, strict=True):
        prefix = [
            i for i, label in zip(trained_row.input_ids, trained_row.labels, strict=True) if label == IGNORED
        ]
        chat = [{"role": m.role, "content": m.content} for m in example.prompt]
        assert exported.apply_chat_template(chat, add_generation_prompt=True)["input_ids"] == prefix
        assert trained_row.labels[-1] == exported.eos_token_id
        assert trained_row.labels[-1] == GenerationConfig.from_pretrained(tmp_path / "out").eos_token_id


def test_a_date_and_another_end_of_turn_leave_as_they_were_trained(tmp_path: Path) -> None:
    from transformers import AutoTokenizer, GenerationConfig

    trained = Trained(tmp_path, save_tiny_student(tmp_path / "base", DATED, eos="<|endoftext|>"))
    export(trained.recipe(), trained.run, tmp_path / "out")
    ends = GenerationConfig.from_pretrained(tmp_path / "out").eos_token_id
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "out")
    said = tokenizer.apply_chat_template(QUESTION, tokenize=False, add_generation_prompt=True)
    assert said.startswith("Today: 26 Jul 2024\n<|im_start|>user\nWhat is 12 + 7?")
    assert tokenizer.chat_template.count(FIXED_DATE_STRING) == 1
    assert served_template(tokenizer) == tokenizer.chat_template
    assert (tokenizer.eos_token, ends) == (
        "<|im_end|>",
        tokenizer.convert_tokens_to_ids(["<|im_end|>", "<|endoftext|>"]),
    )


def test_gguf_is_checked_by_llama_cpp_also_with_a_date(tmp_path: Path) -> None:
    """llama.cpp tells templates today's date unasked: the export would be refused if the template let it."""
    pytest.importorskip("xllamacpp")
    trained = Trained(tmp_path, save_tiny_student(tmp_path / "base", DATED))
    summary = export(trained.recipe(), trained.run, tmp_path / "out", format="gguf", quant="q8_0")
    assert (summary.prompts_checked, summary.quant, list(summary.files)) == (5, "q8_0", ["tiny-q8_0.gguf"])
    assert summary.tokens_per_s
    assert summary.tokens_per_s > 0
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == [
        "README.md",
        "export.json",
        "tiny-q8_0.gguf",
    ]


def test_the_adapter_lies_over_its_base_and_tells_no_path(trained: Trained, tmp_path: Path) -> None:
    from gguf import GGUFReader

    summary = export(trained.recipe(), trained.run, tmp_path / "out", format="adapter")
    ids = list(range(3, 40))
    difference = logits_of(adapted(trained, tmp_path / "out"), ids) - logits_of(
        adapted(trained, trained.adapter), ids
    )
    assert float(difference.abs().max()) == 0
    assert len(GGUFReader(str(tmp_path / "out" / "adapter.gguf")).tensors) == 2 * 7 * 2
    assert summary.notes == []
    assert not list((tmp_path / "out").glob(".*"))
    for name in ("adapter_config.json", "export.json", "README.md"):
        assert str(trained.base.parent) not in (tmp_path / "out" / name).read_text()


def test_after_full_fine_tuning_all_weights_leave(trained: Trained, tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM

    sft = {"max_steps": 3, "per_device_train_batch_size": 4, "learning_rate": 0.001}
    recipe = trained.recipe(train={"method": "full", "sft": sft})
    run = run_with_rows(tmp_path / "run", [row(n) for n in range(4)])
    model = Path(str(train(recipe, run).folder)) / "model"
    with pytest.raises(UsageError, match="leaves no adapter"):
        export(recipe, run, tmp_path / "out", format="adapter")
    export(recipe, run, tmp_path / "out")
    here, there = (
        logits_of(AutoModelForCausalLM.from_pretrained(f), [3, 4, 5]) for f in (tmp_path / "out", model)
    )
    assert float((here - there).abs().max()) == 0
    assert export(recipe, run, tmp_path / "gguf", format="gguf").files.keys() == {"tiny-f16.gguf"}
    assert student_weights(recipe, run) == (model, None)
    base, student = contestants(recipe, run, ["base", "student"], {})
    assert "all weights of" in student.facts["what"]
    assert base.party.model != student.party.model


def test_export_json_and_the_card_say_what_it_is(trained: Trained, tmp_path: Path) -> None:
    summary = export(trained.recipe(), trained.run, tmp_path / "out")
    kept = json.loads((tmp_path / "out" / "export.json").read_text())
    assert kept["train_stage"] == trained.summary.stage_id
    assert (kept["folder"], kept["base"], kept["base_digest"]) == ("out", "base", trained.summary.base_digest)
    assert kept["files"]["model.safetensors"] == (tmp_path / "out" / "model.safetensors").stat().st_size
    assert summary.bytes == sum(kept["files"].values())
    text = (tmp_path / "out" / "README.md").read_text()
    assert text.startswith("---\nlibrary_name: transformers\n")
    for part in (
        "# tiny",
        "| form | merged |",
        "## Teachers",
        "## Licences and terms",
        "## Training",
        "| learning_rate | 0.02 |",
        "Not scored",
    ):
        assert part in text
    assert text.count("## Scores") == 1
    assert len({path.stat().st_mode for path in (tmp_path / "out").iterdir()}) == 1


def test_llamas_naming_rule_is_on_the_card_also_of_a_training_without_one(
    trained: Trained, tmp_path: Path
) -> None:
    summary = export(trained.recipe(), trained.run, tmp_path / "out", dry_run=True)
    teacher = {
        "l": {
            "provider": "openai-compatible",
            "base_url": "http://127.0.0.1:1/v1",
            "model": "meta/Llama-3.3-70B",
        }
    }
    assert LLAMA_NAME in card(summary, trained.recipe(teacher=teacher), trained.run, tmp_path / "no.md")
    assert LLAMA_NAME not in card(summary, trained.recipe(), trained.run, tmp_path / "no.md")
    (tmp_path / "stub.md").write_text("# Model Card\n\n## Bias\n[More Information Needed]\n")
    assert "[More" not in card(summary, trained.recipe(), trained.run, tmp_path / "stub.md")


def test_the_same_again_is_up_to_date_and_another_needs_another_folder(
    trained: Trained, tmp_path: Path
) -> None:
    export(trained.recipe(), trained.run, tmp_path / "out")
    before = {p: p.stat().st_mtime_ns for p in (tmp_path / "out").iterdir()}
    assert export(trained.recipe(), trained.run, tmp_path / "out").up_to_date
    assert {p: p.stat().st_mtime_ns for p in (tmp_path / "out").iterdir()} == before
    other = f"holds another export: tiny of training {trained.summary.stage_id} as merged, not .* as adapter; name a new"
    with pytest.raises(InputError, match=other):
        export(trained.recipe(), trained.run, tmp_path / "out", format="adapter")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match=r"mine is not empty; name a new folder"):
        export(trained.recipe(), trained.run, tmp_path / "mine")
    (tmp_path / "empty").mkdir()
    assert export(trained.recipe(), trained.run, tmp_path / "empty", format="adapter").bytes


def test_a_damaged_export_is_said_and_written_again(trained: Trained, tmp_path: Path, capsys: Any) -> None:
    from transformers import AutoModelForCausalLM

    out = tmp_path / "out"
    export(trained.recipe(), trained.run, out)
    (out / "notes.txt").write_text("mine")
    for break_it, words in (
        (lambda file: file.unlink(), "model.safetensors is missing"),
        (
            lambda file: file.write_bytes(file.read_bytes()[:100]),
            "model.safetensors has 100 bytes instead of",
        ),
    ):
        break_it(out / "model.safetensors")
        with pytest.raises(
            InputError, match=rf"This export is damaged: .*{words}.*write it again: r1distill export"
        ):
            find(out)
        assert not export(trained.recipe(), trained.run, out, show=Show()).up_to_date
        assert words in capsys.readouterr().err
        assert find(out) == Source(out)
    assert logits_of(AutoModelForCausalLM.from_pretrained(out), [3, 4, 5]).isfinite().all()
    assert export(trained.recipe(), trained.run, out).up_to_date
    assert (out / "notes.txt").read_text() == "mine"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["out"]


DAMAGES = {
    "adapter_model.safetensors": ("has [0-9,]+ bytes instead of", lambda whole: whole[: len(whole) // 2]),
    "adapter_model.safetensors header": ("has no readable header", lambda whole: whole[:100]),
    "adapter_config.json": ("is no JSON object", lambda whole: whole[:20]),
}


@pytest.mark.parametrize("what", list(DAMAGES))
def test_a_damaged_adapter_is_no_full_disk(trained: Trained, tmp_path: Path, what: str) -> None:
    """Neither exported in any form nor served: it would have to be trained again, as the sentence says."""
    run = Run(shutil.copytree(trained.run.folder, tmp_path / "run", symlinks=True))
    run.save_recipe(trained.recipe())
    file = run.folder / "train" / trained.summary.stage_id / "adapter" / what.split()[0]
    words, broken = DAMAGES[what]
    file.write_bytes(broken(file.read_bytes()))
    said = rf"The adapter is damaged: {file} {words}.*; remove {file.parent} and train again\."
    for form in ("merged", "gguf", "adapter"):
        with pytest.raises(InputError, match=said):
            export(trained.recipe(), run, tmp_path / "out", format=form)
    with pytest.raises(InputError, match=said):
        find(run.folder)
    assert not (tmp_path / "out").exists()
    shutil.rmtree(file.parent)
    assert not train(trained.recipe(), run).up_to_date
    assert export(trained.recipe(), run, tmp_path / "out", format="adapter").bytes


def test_a_cut_gguf_is_said_to_be_cut(tmp_path: Path) -> None:
    (tmp_path / "a.gguf").write_bytes(b"GGUF")
    (tmp_path / "export.json").write_text(json.dumps({"files": {"a.gguf": 5000}}))
    for target in (tmp_path, tmp_path / "a.gguf"):
        with pytest.raises(InputError, match=r"a\.gguf has 4 bytes instead of 5,000"):
            find(target)
    (tmp_path / "b.gguf").write_bytes(b"GGUF")
    assert find(tmp_path / "b.gguf") == Source(tmp_path / "b.gguf")


def test_a_dry_run_says_how_big_and_writes_nothing(trained: Trained, tmp_path: Path, capsys: Any) -> None:
    forms: dict[str, Any] = {"merged": {}, "f16": {"format": "gguf"}, "adapter": {"format": "adapter"}}
    forms["q4_0"] = {"format": "gguf", "quant": "q4_0"}
    sizes = {
        name: export(trained.recipe(), trained.run, tmp_path / "out", dry_run=True, show=Show(), **how).bytes
        for name, how in forms.items()
    }
    assert list(tmp_path.iterdir()) == []
    assert "Would write the student of training" in capsys.readouterr().err
    real = export(trained.recipe(), trained.run, tmp_path / "out").files["model.safetensors"]
    assert sizes["merged"] == pytest.approx(real, rel=0.02)
    assert sizes["q4_0"] < sizes["f16"] < sizes["merged"]
    assert sizes["adapter"] == (trained.adapter / "adapter_model.safetensors").stat().st_size


def test_a_dry_run_imports_no_torch(trained: Trained, tmp_path: Path) -> None:
    trained.run.save_recipe(trained.recipe())
    command = ["export", str(trained.run.folder), "--to", str(tmp_path / "out"), "--dry-run", "--json"]
    code = f"import sys; from r1distill.cli import main; assert main({command!r}) == 0; assert 'torch' not in sys.modules"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["dry_run"]


@pytest.mark.parametrize(
    ("how", "kind", "words"),
    [
        ({"quant": "q8_0"}, UsageError, "--quant goes with --format gguf, not with merged"),
        ({"evaluate": True}, UsageError, r"--evaluate needs held-out problems"),
    ],
)
def test_what_does_not_go_together_is_said(
    trained: Trained, tmp_path: Path, how: Any, kind: type[Exception], words: str
) -> None:
    with pytest.raises(kind, match=words):
        export(trained.recipe(), trained.run, tmp_path / "out", **how)


def test_nothing_trained_another_base_and_a_changed_base(trained: Trained, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no trained student yet: run train first"):
        export(trained.recipe(), Run(tmp_path / "r"), tmp_path / "out")
    student = {"base": "elsewhere", "template": "ask.jinja"}
    with pytest.raises(InputError, match=r"is of the base .*base, the recipe says elsewhere"):
        export(trained.recipe(student=student), trained.run, tmp_path / "out")
    copy = shutil.copytree(trained.run.folder, tmp_path / "copy", symlinks=True)
    summary = copy / "train" / trained.summary.stage_id / "summary.json"
    summary.write_text(summary.read_text().replace(str(trained.summary.base_digest), "0" * 16))
    with pytest.raises(InputError, match="no longer the one"):
        export(trained.recipe(), Run(copy), tmp_path / "out")
    (tmp_path / "file").write_text("x")
    with pytest.raises(InputError, match="is a file; name a new folder"):
        export(trained.recipe(), trained.run, tmp_path / "file")


def test_two_at_a_time_are_refused(trained: Trained, tmp_path: Path) -> None:
    from filelock import FileLock

    with (
        FileLock(str(tmp_path / ".out.lock")),
        pytest.raises(LockedError, match="Another process is exporting"),
    ):
        export(trained.recipe(), trained.run, tmp_path / "out")


KILLED = """
import os, signal, sys
from pathlib import Path
from r1distill.export import export
from r1distill.exports import writing
from r1distill.run import open_run
recipe, run = open_run(Path(sys.argv[1]))
writing.write_about = lambda *rest: os.kill(os.getpid(), signal.SIGKILL)
export(recipe, run, Path(sys.argv[2]), format="adapter")
"""


def test_a_kill_leaves_no_half_of_an_export(trained: Trained, tmp_path: Path) -> None:
    trained.run.save_recipe(trained.recipe())
    command = [sys.executable, "-c", KILLED, str(trained.run.folder), str(tmp_path / "out")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert not (tmp_path / "out").exists()
    assert (tmp_path / ".out.part" / "out" / "adapter.gguf").exists()
    export(trained.recipe(), trained.run, tmp_path / "out", format="adapter")
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


@pytest.mark.parametrize("form", ["merged", "gguf", "adapter"])
def test_a_full_disk_is_one_sentence_and_leaves_nothing(trained: Trained, tmp_path: Path, form: Any) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (30_000, hard))  # a longer file fails as on a full disk
    try:
        with pytest.raises(StorageError, match=r"can't be written: .*free some space"):
            export(trained.recipe(), trained.run, tmp_path / "out", format=form)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert [p.name for p in tmp_path.iterdir()] == []


def test_prompts_that_become_other_tokens_are_no_export() -> None:
    check_ids([1, 2, 3], [1, 2, 3], "llama.cpp")
    with pytest.raises(
        InputError, match=r"llama\.cpp makes other tokens .* from token 1 on \(\[9\] instead of \[2, 3\]\)"
    ):
        check_ids([1, 9], [1, 2, 3], "llama.cpp")


def test_a_quantised_student_is_scored_against_itself(trained: Trained, tmp_path: Path) -> None:
    pytest.importorskip("xllamacpp")
    pytest.importorskip("scipy")
    problems = tmp_path / "heldout.jsonl"
    problems.write_text(
        "".join(json.dumps({"question": f"What is {n} + 1?", "answer": str(n + 1)}) + "\n" for n in range(3))
    )
    section = {"problems": str(problems), "sampling": {"temperature": 0, "max_tokens": 6}}
    recipe = trained.recipe(evaluate=section)
    run = Run(shutil.copytree(trained.run.folder, tmp_path / "run", symlinks=True))
    summary = export(recipe, run, tmp_path / "out", format="gguf", quant="q4_0", evaluate=True)
    assert [(s.who, s.n_problems) for s in summary.scores] == [("student-f16", 3), ("student-q4_0", 3)]
    assert [(d.first, d.second, d.mode) for d in summary.differences] == [
        ("student-q4_0", "student-f16", "lenient"), ("student-q4_0", "student-f16", "strict")]  # fmt: skip
    sizes = {who: facts["bytes"] for who, facts in summary.models.items()}
    assert sizes["student-q4_0"] < sizes["student-f16"]
    assert all(facts["tokens_per_s"] > 0 for facts in summary.models.values())
    text = (tmp_path / "out" / "README.md").read_text()
    assert "student-q4_0 against student-f16 on heldout (lenient): no difference shown" in text
    assert json.loads((tmp_path / "out" / "export.json").read_text())["scores"][0]["who"] == "student-f16"
    ledger = run.folder / "evaluate" / "traces" / "part-1-of-1.jsonl"
    asked = len(ledger.read_text().splitlines())
    assert asked == 6
    again = export(recipe, run, tmp_path / "out", format="gguf", quant="q4_0", evaluate=True)
    assert (again.up_to_date, len(ledger.read_text().splitlines())) == (
        True,
        asked,
    )  # the same bytes again: nothing is owed
    assert [p.name for p in tmp_path.iterdir() if p.name.startswith(".")] == []
    weights = tmp_path / "out" / "tiny-q4_0.gguf"
    weights.write_bytes(weights.read_bytes()[:100])
    mended = export(recipe, run, tmp_path / "out", format="gguf", quant="q4_0")
    assert (mended.up_to_date, mended.scores, mended.models) == (False, again.scores, again.models)
    assert "student-q4_0 against student-f16" in (tmp_path / "out" / "README.md").read_text()
