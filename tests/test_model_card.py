import pytest

from r1distill.model_card import LLAMA_NAME, Author, base_name, cell, is_llama, model_card, put_scores
from r1distill.recipe import parse_recipe
from r1distill.train_summary import TrainSummary


def summary(**changed) -> TrainSummary:
    values = {
        "stage_id": "a", "folder": "/some/where/train/a", "adapter": "/some/where/train/a/adapter", "adapter_gguf": None,
        "base": "Qwen/Qwen2.5-1.5B-Instruct", "base_digest": "0" * 16, "rows": 1200, "validation_rows": 60,
        "rows_dropped_too_long": 3, "steps": 450, "epochs": 3.0, "first_loss": 1.25, "last_loss": 0.5, "elapsed_s": 83.0,
        **changed,
    }  # fmt: skip
    return TrainSummary(**values)


def card(base: str = "Qwen/Qwen2.5-1.5B-Instruct", teacher: str = "deepseek-reasoner", **changed) -> str:
    teachers = {"r1": {"provider": "deepseek", "model": teacher, "sampling": {"max_tokens": 9}}}
    recipe = parse_recipe({"name": "t", "student": {"base": base}, "teacher": teachers})
    return model_card(
        recipe,
        summary(base=base, **changed),
        {Author("r1", teacher): 1200},
        checks=["finish", "my_check"],
        used={"learning_rate": 2e-4, "lora.r": 16},
        scores=[("held-out pass@1", "46.0 (39.2 to 52.9)")],
    )


def test_card_says_who_taught_what_and_how():
    text = card()
    assert text.startswith("---\nlibrary_name: peft\n")
    assert 'base_model: "Qwen/Qwen2.5-1.5B-Instruct"' in text
    assert "| r1 | 1,200 | deepseek-reasoner |" in text
    assert "1,200 rows were trained on, 60 validated with; of the rest 3 were too long" in text
    assert "Traces passed these checks: finish, my_check." in text
    for row in (
        "steps | 450",
        "learning_rate | 0.0002",
        "lora.r | 16",
        "loss, first and last tenth | 1.250, 0.500",
    ):
        assert f"| {row} |" in text
    assert "| held-out pass@1 | 46.0 (39.2 to 52.9) |" in text
    assert "/some/where" not in text


@pytest.mark.parametrize(
    ("base", "teacher", "named"),
    [
        ("Qwen/Qwen2.5-1.5B-Instruct", "deepseek-reasoner", False),
        ("meta-llama/Llama-3.2-1B-Instruct", "deepseek-reasoner", True),
        ("Qwen/Qwen2.5-1.5B-Instruct", "meta-llama/llama-3.3-70b-instruct", True),
        ("deepseek-ai/DeepSeek-R1-Distill-Llama-8B", "deepseek-reasoner", True),
    ],
)
def test_llama_naming_rule(base, teacher, named):
    assert ('a name that begins with "Llama"' in card(base, teacher).split("## Licences")[1]) is named
    assert is_llama(base, teacher) is named


@pytest.mark.parametrize(
    ("base", "name"),
    [
        ("Qwen/Qwen2.5-0.5B", "Qwen/Qwen2.5-0.5B"),
        ("/data/models/my-base", "my-base"),
        ("./weights/my.Q4_1.gguf", "my.Q4_1.gguf"),
        ("C:\\models\\my-base", "my-base"),
        ("models/team/base/", "base"),
        ("embedded", "HuggingFaceTB/SmolLM2-135M-Instruct"),
    ],
)
def test_no_path_gets_into_a_card(base, name):
    assert base_name(base) == name


def test_full_model_cut_rows_and_unknown_teacher():
    text = card(method="full", adapter=None, rows_cut=7)
    assert "library_name: transformers" in text and "7 were cut." in text
    recipe = parse_recipe({"name": "t"})
    assert "don't say who wrote them" in model_card(recipe, summary(), {})
    assert "Not evaluated" in model_card(recipe, summary(), {})
    assert "Which checks the traces passed is not known." in model_card(recipe, summary(), {})


@pytest.mark.parametrize(
    ("author", "shown", "llama"),
    [
        (Author("imported", "meta-llama/Llama-3.3-70B-Instruct"), "meta-llama/Llama-3.3-70B-Instruct", True),
        (Author("Llama-3.1-405B"), "unknown", True),
        (Author("router", "openrouter/auto", "meta-llama/llama-3.3-70b"), "openrouter/auto", True),
        # the recipe's teacher of the same name is another one
        (Author("r1", "Qwen/QwQ-32B"), "Qwen/QwQ-32B", False),
        (Author("x", "q.gguf@0123", "/opt/llama.cpp/q.gguf"), "q.gguf@0123", False),
    ],
)
def test_imported_traces_speak_for_themselves(author, shown, llama):
    teachers = {"r1": {"provider": "deepseek", "model": "deepseek-reasoner"}}
    text = model_card(parse_recipe({"name": "t", "teacher": teachers}), summary(), {author: 7})
    rows, licences = text.split("## Licences")
    assert f"| {author.teacher} | 7 | {shown} |" in rows
    assert ('"Built with Llama"' in rows) is llama
    assert (LLAMA_NAME in licences) is llama


def test_scores_of_a_later_evaluation_get_into_the_card(tmp_path):
    file = tmp_path / "README.md"
    put_scores(file, [("student", "1%")])
    assert not file.exists()
    file.write_text(model_card(parse_recipe({"name": "t"}), summary(), {}))
    for score in ("40.0% (33-47)", "41.0% (34-48)"):
        put_scores(file, [("student on heldout", score)])
        text = file.read_text()
        assert text.count("## Scores") == 1 and "Not evaluated" not in text
        assert text.endswith(f"| student on heldout | {score} |\n")
    assert "## Training" in text and "40.0%" not in text


def test_text_of_others_is_no_markup():
    assert cell("a|b\n<c> [d](e) \x1b[1m") == "a\\|b &lt;c> \\[d](e) \N{REPLACEMENT CHARACTER}\\[1m"
