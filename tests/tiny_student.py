"""A real student of toy size: a 2-layer Llama with random weights and a byte-level BPE tokenizer with a ChatML template."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from r1distill.objectives.quiet import prepare_environment
from r1distill.run import Run

prepare_environment()  # before anything imports torch: a busy machine would spin for minutes otherwise

CHATML = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
SPECIALS = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]


def tiny_tokenizer(template: str | None = CHATML, eos: str = "<|im_end|>") -> Any:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    texts = ["What is 12 + 7? The answer is 19. <think> add them </think> user assistant system"] * 4
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=SPECIALS,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    core.train_from_iterator(texts, trainer)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=core, eos_token=eos, pad_token="<|endoftext|>", clean_up_tokenization_spaces=False
    )
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|im_start|>", "<|im_end|>"]})
    tokenizer.chat_template = template
    return tokenizer


def composing_tokenizer() -> Any:
    """One that composes characters (Unicode NFC) before it looks at a text, as Qwen's do."""
    from tokenizers import normalizers

    tokenizer = tiny_tokenizer()
    tokenizer.backend_tokenizer.normalizer = normalizers.NFC()
    return tokenizer


def save_tiny_student(folder: Path, template: str | None = CHATML, eos: str = "<|im_end|>") -> Path:
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    tokenizer = tiny_tokenizer(template, eos)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=512, eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id, tie_word_embeddings=True, initializer_range=0.15,
    )  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def row(number: int, reasoning: str | None = None, question: str | None = None) -> dict[str, Any]:
    a, b = 3 + number % 5, 2 + number % 7
    block = f"<think>\n{reasoning or f'{a} + {b} = {a + b}'}\n</think>\n\nThe answer is {a + b}."
    prompt = [{"role": "user", "content": question or f"What is {a} + {b}?"}]
    return {
        "trace_id": f"t{number}",
        "prompt": prompt,
        "completion": [{"role": "assistant", "content": block}],
    }


def run_with_rows(folder: Path, train: list[dict[str, Any]], val: list[dict[str, Any]] | None = None) -> Run:
    """A run folder whose current filter result holds these rows."""
    stage = folder / "filter" / "f1"
    stage.mkdir(parents=True, exist_ok=True)
    for name, rows in (("train", train), ("val", val or [])):
        (stage / f"{name}.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    (stage / "summary.json").write_text("{}")
    run = Run(folder)
    run.point_latest("filter", "f1")
    return run
