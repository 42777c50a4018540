import pytest

from r1distill.model_card import base_name, cell, is_llama, model_card
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
        recipe, summary(base=base, **changed), {"r1": 1200}, [("held-out pass@1", "46.0 (39.2 to 52.9)")]
    )


def test_card_says_who_taught_what_and_how():
    text = card()
    assert text.startswith("---\nlibrary_name: peft\n")
    assert 'base_model: "Qwen/Qwen2.5-1.5B-Instruct"' in text
    assert "| r1 | 1,200 | deepseek-reasoner |" in text
    assert "1,200 rows were trained on, 60 validated with; of the rest 3 were too long" in text
    assert (
        "| steps | 450 |" in text
        and "| lora |" in text
        and "| loss, first and last tenth | 1.250, 0.500 |" in text
    )
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


def test_text_of_others_is_no_markup():
    assert cell("a|b\n<c> [d](e) \x1b[1m") == "a\\|b &lt;c> \\[d](e) \N{REPLACEMENT CHARACTER}\\[1m"
