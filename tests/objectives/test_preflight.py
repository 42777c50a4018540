"""Each proof of the preflight, on a row that is right and on one that is wrong in just this way."""

import json
from pathlib import Path

import pytest
from tiny_student import (
    CHATML,
    composing_tokenizer,
    row,
    run_with_rows,
    save_tiny_student,
    tiny_tokenizer,
)

from r1distill.errors import InputError
from r1distill.objectives.findings import Case, Finding
from r1distill.objectives.preflight import failure, findings, generation_ends, shown
from r1distill.objectives.prepare import fitted
from r1distill.objectives.render import IGNORED, format_of, render
from r1distill.recipe import parse_recipe
from r1distill.records import Example, Message
from r1distill.show import Show
from r1distill.train import train
from r1distill.train_check import check, emit

pytestmark = pytest.mark.train
LIMIT = (512, "train.sft.max_length")


@pytest.fixture(scope="module")
def student(tmp_path_factory) -> Path:
    return save_tiny_student(tmp_path_factory.mktemp("student"))


def examples(count: int = 6, **changed: str) -> list[Example]:
    rows = [row(number, reasoning="we add " * (1 + number)) for number in range(count)]
    return [
        Example(r["trace_id"], [Message(**m) for m in r["prompt"]], [Message(**m) for m in r["completion"]])
        for r in rows
    ]


def case(folder: Path, items=None, tokenizer=None, limit=LIMIT, overlong="drop", break_row=None) -> Case:
    tokenizer = tokenizer or tiny_tokenizer()
    items = items or examples()
    rendered = render(tokenizer, items)
    rows, lengths = fitted(rendered.rows, *limit, overlong)
    if break_row:
        rows = [break_row(rows[0]), *rows[1:]]
    return Case(
        tokenizer, folder, format_of(tokenizer), {i.trace_id: i for i in items}, rows, rendered, lengths
    )


def found(the_case: Case) -> dict[str, Finding]:
    return {finding.check: finding for finding in findings(the_case)}


def test_right_rows_pass_every_proof(student):
    got = found(case(student))
    assert {finding.outcome for finding in got.values()} == {"ok"}
    assert list(got)[:5] == ["template", "prompt", "target", "think tags", "end of turn"]
    assert failure(got.values()) is None
    assert "6 rows compared" in got["prompt"].text


def without(ids: list[int], at: int) -> list[int]:
    return ids[:at] + ids[at + 1 :]


@pytest.mark.parametrize(
    ("check_name", "break_row"),
    [
        # a token of the prompt missing, as a server would not send it
        ("prompt", lambda r: r._replace(input_ids=without(r.input_ids, 1), labels=without(r.labels, 1))),
        # another word in what is trained on
        ("target", lambda r: r._replace(input_ids=[*r.input_ids[:-3], 50, *r.input_ids[-2:]])),
        # the end of turn twice, and missing
        ("end of turn", lambda r: r._replace(input_ids=[*r.input_ids, 2], labels=[*r.labels, 2])),
        ("end of turn", lambda r: r._replace(input_ids=r.input_ids[:-1], labels=r.labels[:-1])),
        # an id outside the embedding
        ("vocabulary", lambda r: r._replace(input_ids=[*r.input_ids[:-2], 100_000, r.input_ids[-1]])),
    ],
)
def test_a_wrong_row_fails_its_proof(student, check_name, break_row):
    got = found(case(student, break_row=break_row))
    assert got[check_name].outcome == "failed", got
    assert failure(got.values())


def test_template_that_leaves_out_the_system_words_is_found(student):
    tokenizer = tiny_tokenizer(
        "{% if messages[0]['role'] == 'system' %}{% set messages = messages[1:] %}{% endif %}" + CHATML
    )
    items = [
        Example(e.trace_id, [Message("system", "Think hard."), *e.prompt], e.completion) for e in examples(2)
    ]
    got = found(case(student, items=items, tokenizer=tokenizer))
    assert got["prompt"].outcome == "failed"
    assert "leaves out words of the prompt ('Think hard.' ...)" in got["prompt"].text


def test_lossy_tokenizer_is_found(student):
    from tokenizers import normalizers

    tokenizer = tiny_tokenizer()
    tokenizer.backend_tokenizer.normalizer = normalizers.Lowercase()
    got = found(case(student, tokenizer=tokenizer))
    assert got["target"].outcome == "failed"
    assert (
        "changes the text of 6 of 6 rows (in trace t0, from character 25 on, 'The answer i' becomes"
        in got["target"].text
    )
    assert "changed text" not in got


BAD = ("the resistor has 5 \N{OHM SIGN}", "so y\N{COMBINING CIRCUMFLEX ACCENT} = 3")


def test_every_row_that_a_composing_tokenizer_changes_is_found_and_left_out():
    """Few in many: a sample of rows would miss them."""
    bad = {501: BAD[0], 503: BAD[1], 777: BAD[0]}
    rows = [row(n, reasoning=bad.get(n, "we add")) for n in range(1000)]
    items = [
        Example(r["trace_id"], [Message(**m) for m in r["prompt"]], [Message(**m) for m in r["completion"]])
        for r in rows
    ]
    rendered = render(composing_tokenizer(), items)
    assert [c.trace_id for c in rendered.changed] == ["t501", "t503", "t777"]
    assert len(rendered.rows) == 997 and not rendered.unfit
    assert len(render(tiny_tokenizer(), items).rows) == 1000


def test_a_training_goes_on_without_a_row_that_its_tokenizer_changes(tmp_path, capsys):
    base = save_tiny_student(tmp_path / "m")
    composing_tokenizer().save_pretrained(base)
    rows = [row(n, reasoning=BAD[1] if n == 7 else None) for n in range(24)]
    sft = {"max_steps": 1, "per_device_train_batch_size": 1}
    recipe = parse_recipe({"name": "t", "student": {"base": str(base)}, "train": {"sft": sft}})
    summary = train(recipe, run_with_rows(tmp_path / "run", rows), show=Show())
    assert (summary.rows, summary.rows_dropped_changed) == (23, 1)
    told = " ".join(capsys.readouterr().err.split())
    assert "1 rows are left out, since the student's tokenizer changes their text: in trace t7" in told
    assert r"'y\u0302 = 3\n</thi' becomes '\u0177 = 3\n</thin'" in told


def test_second_think_tag_is_found(student):
    """render() leaves such rows out, so one is slipped in behind it."""
    good = case(student)
    forged = Example(
        "t0", good.examples["t0"].prompt, [Message("assistant", "<think>\na\n</think>\n\nb </think> c")]
    )
    got = found(good._replace(examples={**good.examples, "t0": forged}))
    assert got["think tags"].outcome == "failed"
    assert "1 opening and 2 closing" in got["think tags"].text


def test_end_of_turn_that_generation_does_not_know_is_noted(tmp_path):
    folder = save_tiny_student(tmp_path / "m", eos="<|endoftext|>")
    assert generation_ends(folder) == [0]
    got = found(case(folder, tokenizer=tiny_tokenizer(eos="<|endoftext|>")))
    assert got["stop"].outcome == "note"
    assert "stops at <|endoftext|>; <|im_end|> is added" in got["stop"].text
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": [0, 2]}))
    assert found(case(folder))["stop"].outcome == "ok"


def test_padding_with_the_end_of_turn_is_harmless(student):
    tokenizer = tiny_tokenizer()
    tokenizer.pad_token = "<|im_end|>"
    the_case = case(student, tokenizer=tokenizer)
    assert found(the_case)["padding"].text.startswith("<|im_end|> for padding too, which is harmless")
    assert all(r.labels[-1] == 2 for r in the_case.rows)
    from r1distill.objectives.packing import DataCollatorForLanguageModeling

    batch = DataCollatorForLanguageModeling(pad_token_id=2)(
        [{"input_ids": r.input_ids, "labels": r.labels} for r in the_case.rows]
    )
    # one end of turn per row is trained on, although padding has the same id
    assert (batch["labels"] == 2).sum(1).tolist() == [1] * len(the_case.rows)


@pytest.mark.parametrize(
    ("overlong", "outcome", "kept"), [("drop", "note", 3), ("truncate", "note", 6), ("raise", "failed", 3)]
)
def test_rows_over_the_limit(student, overlong, outcome, kept):
    sizes = sorted(len(r.input_ids) for r in render(tiny_tokenizer(), examples()).rows)
    limit = sizes[2]
    the_case = case(student, limit=(limit, "train.sft.max_length"), overlong=overlong)
    got = found(the_case)
    assert (got["length"].outcome, len(the_case.rows)) == (outcome, kept)
    share = sum(sizes[3:]) / sum(sizes)
    assert f"3 of 6 rows (50.0%), with {share:.1%} of all tokens" in got["length"].text
    assert max(len(r.input_ids) for r in the_case.rows) <= limit
    assert [f.check for f in got.values() if f.outcome == "failed"] == ["length"] * (overlong == "raise")
    cut = [r for r in the_case.rows if r.labels[-1] != 2]
    assert len(cut) == (3 if overlong == "truncate" else 0)  # cut rows don't teach an end


def test_row_whose_prompt_fills_the_limit_is_left_out(student):
    rows = render(tiny_tokenizer(), examples()).rows
    prompt = min(sum(label == IGNORED for label in r.labels) for r in rows)
    kept, lengths = fitted(rows, prompt, "train.sft.max_length", "truncate")
    assert (len(kept), lengths.emptied, lengths.over_rows) == (0, 6, 6)


def test_shown_rows_are_the_shortest_the_middle_and_the_longest():
    tokenizer = tiny_tokenizer()
    rows = render(tokenizer, examples(7)).rows
    texts = shown(tokenizer, rows)
    assert [text.split(",")[0] for text in texts] == ["Trace t0", "Trace t3", "Trace t6"]
    assert all(text.count("⟦") == text.count("⟧") == 2 for text in texts)
    assert len(shown(tokenizer, rows[:1])) == 1
    long = render(tokenizer, [examples(1)[0], *examples(1000)[999:]]).rows
    assert "characters left out" in shown(tokenizer, long)[1]
    assert "characters left out" not in shown(tokenizer, long, whole=True)[1]


def recipe(base: Path, **section):
    return parse_recipe({"name": "t", "student": {"base": str(base)}, "train": section})


def test_check_proves_and_writes_nothing(student, tmp_path, capsys):
    run = run_with_rows(tmp_path, [row(n) for n in range(6)], [row(20)])
    before = sorted(tmp_path.rglob("*"))
    summary = check(recipe(student), run, show=Show())
    assert sorted(tmp_path.rglob("*")) == before
    assert (summary.passed, summary.failure, summary.rows, summary.validation_rows) == (True, None, 6, 1)
    assert [f["check"] for f in summary.findings][-2:] == ["memory", "time"]
    assert len(summary.shown) == 3 and summary.estimate["total_bytes"] > 0
    told = capsys.readouterr().err
    assert told.count("trained on what stands between") == 3
    assert "The preflight passed: 6 rows" in told and "end of turn" in told
    trained = train(recipe(student, sft={"max_steps": 1}), run)
    assert (
        json.loads((Path(trained.folder) / "preflight.json").read_text())["findings"][0]["check"]
        == "template"
    )


def test_validation_rows_that_are_left_out_are_told(student, tmp_path, capsys):
    left_out = [row(21, reasoning="and again " * 30), row(22, reasoning="well <|im_end|> then")]
    run = run_with_rows(tmp_path, [row(n) for n in range(6)], [row(20), *left_out])
    values = {"sft": {"max_length": 60, "max_steps": 1}}
    summary = check(recipe(student, **values), run)
    told = {f["check"]: (f["outcome"], f["text"]) for f in summary.findings}
    assert told["validation length"][0] == "note"
    assert told["validation length"][1].startswith("1 of 2 validation rows (50.0%), with ")
    assert told["validation left out"] == (
        "note",
        "2 of 3 validation rows are left out (1 over the limit, 1 spell control tokens of the student).",
    )
    assert (summary.passed, summary.validation_rows, summary.validation_rows_dropped) == (True, 1, 2)
    strict = check(recipe(student, overlong="raise", **values), run)
    assert not strict.passed and "1 of 2 validation rows" in strict.failure
    with pytest.raises(InputError, match=r'validation rows .* train\.overlong is "raise"'):
        train(recipe(student, overlong="raise", **values), run)
    trained = train(recipe(student, overlong="truncate", **values), run, show=Show())
    counts = (trained.validation_rows, trained.validation_rows_dropped, trained.validation_rows_cut)
    assert counts == (2, 1, 1)
    said = " ".join(capsys.readouterr().err.split())
    assert "1 of 3 validation rows are left out" in said and "they test no answer" in said


def test_without_a_validation_row_left_nothing_can_be_chosen_by_them(student, tmp_path):
    run = run_with_rows(tmp_path, [row(n) for n in range(6)], [row(21, reasoning="and again " * 30)])
    limit = {"sft": {"max_length": 60}}
    summary = check(recipe(student, **limit), run)
    assert summary.passed and "so there is no validation loss" in summary.findings[-3]["text"]
    summary = check(recipe(student, keep="best", **limit), run)
    assert "train.patience need some" in summary.failure


def test_failed_check_stops_the_training_with_the_same_sentence(student, tmp_path):
    run = run_with_rows(tmp_path, [row(1), row(2, reasoning="and again " * 30)])
    strict = recipe(student, overlong="raise", sft={"max_length": 60})
    summary = check(strict, run)
    assert not summary.passed and summary.failure
    with pytest.raises(InputError, match=r'train\.overlong is "raise"'):
        train(strict, run)
    with pytest.raises(InputError, match=r'train\.overlong is "raise"'):
        emit(strict, run, tmp_path / "out")
    assert not (tmp_path / "train" / "latest").exists() and not (tmp_path / "out").exists()


def test_command_line_exit_codes(student, tmp_path, capsys):
    from r1distill.cli import main

    run_with_rows(tmp_path / "run", [row(1), row(2, reasoning="and again " * 30)])
    file = tmp_path / "recipe.toml"
    file.write_text(f'name = "t"\n[student]\nbase = "{student}"\n')
    words = ["train", str(file), "--run", str(tmp_path / "run"), "--check", "--json"]
    assert main(words) == 0
    assert json.loads(capsys.readouterr().out)["passed"] is True
    failing = [*words, "--set", "train.overlong=raise", "--set", "train.sft.max_length=60"]
    assert main(failing) == 1
    said = capsys.readouterr()
    assert json.loads(said.out)["passed"] is False
    assert said.err.strip().splitlines()[-1].startswith("r1distill: ")
    assert main([*words, "--set", "train.sft.max_lenght=3"]) == 2
    assert "did you mean" in capsys.readouterr().err
    assert main([*words, "--emit", str(tmp_path / "out")]) == 2


def test_prompt_that_opens_the_block_is_said(tmp_path):
    template = CHATML.replace("assistant\n' }}{% endif", "assistant\n<think>\n' }}{% endif")
    folder = save_tiny_student(tmp_path / "m", template)
    got = found(case(folder, tokenizer=tiny_tokenizer(template)))
    assert "the prompt opens it" in got["think tags"].text
    assert failure(got.values()) is None
