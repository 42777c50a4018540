"""GGUF files written from tiny real models: llama.cpp computes what transformers computes, and makes the same tokens."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import pytest
from tiny_student import CHATML, composing_tokenizer, tiny_tokenizer

from r1distill.errors import InputError
from r1distill.exports.gguf_model import size_of, write_gguf
from r1distill.exports.gguf_vocab import (
    LLAMA3_SPLIT,
    QWEN2_SPLIT,
    normaliser_note,
    pre_tokenizer_name,
    vocabulary,
)
from r1distill.teachers.embedded import embedded_server
from r1distill.weights import tensor_shapes

pytestmark = pytest.mark.train
pytest.importorskip("xllamacpp")
PROMPT = "What is 12 + 7? The answer is  19.\n\n5 add them " * 4
LLAMA3 = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}
YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 128}
SPARE_ROWS = 5


def tiny_model(kind: str, rope: dict[str, Any] | None = None, **changes: Any) -> Any:
    """A two-layer model whose norms and biases are random, too, so that a forgotten one shows."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    tokenizer = tiny_tokenizer()
    shape = {
        "vocab_size": len(tokenizer) + SPARE_ROWS, "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2,
        "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 512, "initializer_range": 0.15,
        "eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id,
        "tie_word_embeddings": kind != "qwen2", **({"head_dim": 32} if kind == "qwen3" else {}), **changes,
    }  # fmt: skip
    if rope:
        shape["rope_parameters"] = {"rope_theta": 10000.0, **rope}
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **shape))
    with torch.no_grad():
        for name, values in model.named_parameters():
            if name.endswith("bias"):
                values.normal_(0, 0.3)
            elif "norm" in name:
                values.uniform_(0.5, 1.5)
    return model


def saved(folder: Path, model: Any) -> Path:
    model.save_pretrained(folder)
    return folder


def written(folder: Path, out: Path, quant: Any = "f16") -> Path:
    return write_gguf(folder, tiny_tokenizer(), CHATML, out, quant, "tiny")


class Said(NamedTuple):
    """What llama.cpp says after a prompt."""

    greedy: list[int]
    logprobs: dict[int, float]
    """Of the ten likeliest next tokens."""


def from_llama(file: Path, ids: list[int], n_predict: int) -> Said:
    log = file.with_suffix(".log")
    with embedded_server(file, adapter=None, threads=1, parallel=1, context_tokens=512, log=log) as endpoint:
        headers = {"Authorization": f"Bearer {endpoint.key}"}
        address = f"{endpoint.base_url.removesuffix('/v1')}/completion"

        def ask(**more: Any) -> dict[str, Any]:
            body = {"prompt": ids, "temperature": 0, "return_tokens": True, **more}
            return dict(httpx.post(address, json=body, headers=headers, timeout=60, trust_env=False).json())

        greedy = ask(n_predict=n_predict)["tokens"]
        # The server is silent on tokens that are half a character, so a plain letter is made to come first.
        letter = tiny_tokenizer().convert_tokens_to_ids("e")
        said = ask(n_predict=1, n_probs=10, logit_bias=[[letter, 1000.0]])["completion_probabilities"][0]
        assert said["id"] == letter
        return Said(greedy, {entry["id"]: entry["logprob"] for entry in said["top_logprobs"]})


@pytest.mark.parametrize(
    ("kind", "rope"),
    [("llama", None), ("qwen2", None), ("qwen3", None), ("llama", LLAMA3), ("qwen2", YARN)],
    ids=["llama", "qwen2", "qwen3", "llama3-rope", "yarn"],
)
def test_f16_gives_the_logits_and_the_greedy_tokens_of_transformers(
    kind: str, rope: dict[str, Any] | None, tmp_path: Path
) -> None:
    import torch

    model = tiny_model(kind, rope)
    file = written(saved(tmp_path / "m", model), tmp_path / "m.gguf")
    ids = tiny_tokenizer()(PROMPT, add_special_tokens=False)["input_ids"]
    with torch.no_grad():
        logprobs = model(torch.tensor([ids])).logits[0, -1].log_softmax(-1)
        greedy = model.generate(torch.tensor([ids]), max_new_tokens=4, do_sample=False)[
            0, len(ids) :
        ].tolist()
    said = from_llama(file, ids, 4)
    assert len(said.logprobs) == 10
    assert max(abs(value - float(logprobs[token])) for token, value in said.logprobs.items()) < 0.02
    assert said.greedy == greedy


@pytest.mark.parametrize(("quant", "steps"), [("q8_0", 127), ("q4_0", 8)])
def test_quantised_weights_are_within_a_step_of_the_real_ones_and_load(
    quant: str, steps: int, tmp_path: Path
) -> None:
    import numpy as np
    from gguf import GGUFReader, quants

    model = tiny_model("qwen2")
    file = written(saved(tmp_path / "m", model), tmp_path / "m.gguf", quant)
    tensors = {str(t.name): t for t in GGUFReader(str(file)).tensors}
    kinds = {name: t.tensor_type.name for name, t in tensors.items()}
    assert kinds["blk.1.ffn_down.weight"] == quant.upper()
    assert (kinds["token_embd.weight"], kinds["output.weight"]) == ("Q8_0", "Q8_0")
    assert {kinds["blk.0.attn_norm.weight"], kinds["blk.0.attn_q.bias"]} == {"F32"}
    real = model.state_dict()["model.layers.1.mlp.down_proj.weight"].numpy()
    tensor = tensors["blk.1.ffn_down.weight"]
    off = np.abs(quants.dequantize(tensor.data, tensor.tensor_type) - real).reshape(-1, 32)
    # A step is the block's largest number over `steps`; the largest itself may be a whole step off in q4_0.
    assert (off.max(axis=1) <= np.abs(real.reshape(-1, 32)).max(axis=1) / steps * 1.01).all()
    assert off.max() > 0
    assert len(from_llama(file, [5, 6, 7], 2).greedy) == 2


def test_the_same_student_gives_the_same_bytes_and_the_size_that_was_foretold(tmp_path: Path) -> None:
    folder = saved(tmp_path / "m", tiny_model("llama"))
    for quant in ("f16", "q8_0", "q4_0"):
        first, again = (
            written(folder, tmp_path / "a.gguf", quant),
            written(folder, tmp_path / "b.gguf", quant),
        )
        assert first.read_bytes() == again.read_bytes()
        about_words = 20_000  # bytes of metadata, most of it the vocabulary
        assert 0 < first.stat().st_size - size_of(tensor_shapes(folder), quant) < about_words
    shapes = tensor_shapes(tmp_path / "a.gguf")
    assert size_of(shapes, "q4_0") == size_of(tensor_shapes(folder), "q4_0")


def test_rows_that_do_not_part_into_blocks_are_refused_with_the_way_out(tmp_path: Path) -> None:
    folder = saved(tmp_path / "m", tiny_model("llama", hidden_size=48, intermediate_size=96))
    with pytest.raises(InputError, match=r"q4_0: rows of .* have 48 numbers.*--quant f16"):
        written(folder, tmp_path / "m.gguf", "q4_0")
    assert written(folder, tmp_path / "m.gguf", "f16").is_file()


def test_what_a_gguf_can_not_say_is_one_sentence(tmp_path: Path) -> None:
    folder = saved(tmp_path / "m", tiny_model("llama"))
    config = json.loads((folder / "config.json").read_text())
    for change, words in (
        ({"architectures": ["NewForCausalLM"]}, "Can't write NewForCausalLM as GGUF: supported are Llama"),
        (
            {"rope_parameters": {"rope_type": "dynamic", "factor": 2.0, "rope_theta": 1e4}},
            "rotary scaling 'dynamic'",
        ),
        (
            {"rope_parameters": {**YARN, "rope_theta": 1e4, "attention_factor": 2.0}},
            "rotary settings attention_factor",
        ),
        ({"hidden_act": "gelu"}, "its hidden_act is gelu, llama.cpp computes with silu"),
    ):
        (folder / "config.json").write_text(json.dumps(config | change))
        with pytest.raises(InputError, match=words):
            written(folder, tmp_path / "m.gguf")


def split(expression: str) -> Any:
    from tokenizers import Regex, pre_tokenizers

    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    return pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(expression), "isolated"), byte_level])


def test_the_pre_tokenizer_is_found_by_what_it_does() -> None:
    from tokenizers import pre_tokenizers

    backend = tiny_tokenizer().backend_tokenizer
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False)
    digits = pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), byte_level])
    # Qwen2's expression as others spell it.
    spelled = QWEN2_SPLIT.replace(
        "(?i:'s|'t|'re|'ve|'m|'ll|'d)", "(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])"
    )
    found = []
    for pre in (byte_level, digits, split(QWEN2_SPLIT), split(spelled), split(LLAMA3_SPLIT)):
        backend.pre_tokenizer = pre
        found.append(pre_tokenizer_name(backend, ignores_merges=True))
    assert found == ["gpt-2", "smollm", "qwen2", "qwen2", "llama-bpe"]
    assert pre_tokenizer_name(backend, ignores_merges=False) == "smaug-bpe"
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    with pytest.raises(InputError, match="parts texts like none of qwen2, llama-bpe, smollm, gpt-2"):
        pre_tokenizer_name(backend, ignores_merges=False)


def test_the_vocabulary_says_what_is_control_what_is_text_and_what_is_padding() -> None:
    from gguf import TokenType

    tokenizer = tiny_tokenizer()
    tokenizer.add_special_tokens({"additional_special_tokens": ["<think>", "<|im_end|>"]})
    tokenizer.add_tokens(["<tool>"])
    words = vocabulary(tokenizer, CHATML, len(tokenizer) + 2)
    kind = dict(zip(words.tokens, words.types, strict=True))
    assert kind["<|im_end|>"] == TokenType.CONTROL
    # llama.cpp would leave a control token out of the answer, and the reasoning would have no opening tag.
    assert kind["<think>"] == kind["<tool>"] == TokenType.USER_DEFINED
    assert kind["the"] == TokenType.NORMAL if "the" in kind else kind["e"] == TokenType.NORMAL
    assert words.tokens[-1] == f"[PAD{len(tokenizer) + 1}]"
    assert words.types[-2:] == [TokenType.UNUSED] * 2
    assert words.special_ids == {"eos": tokenizer.eos_token_id, "pad": tokenizer.pad_token_id}
    assert all(len(merge.split(" ")) == 2 for merge in words.merges)
    with pytest.raises(InputError, match="embeddings only 10 rows"):
        vocabulary(tokenizer, CHATML, 10)


def test_a_tokenizer_that_changes_texts_is_refused_and_one_that_composes_them_noted() -> None:
    from tokenizers import normalizers

    assert normaliser_note(tiny_tokenizer()) is None
    composing = composing_tokenizer()
    assert "(Unicode NFC), llama.cpp does not" in str(normaliser_note(composing))
    assert vocabulary(composing, CHATML, len(composing)).pre == "gpt-2"
    composing.backend_tokenizer.normalizer = normalizers.Lowercase()
    with pytest.raises(InputError, match=r"changes texts first \('What is 1234 \+ 56\? I' becomes 'what is"):
        vocabulary(composing, CHATML, len(composing))


def test_another_kind_of_tokenizer_is_refused() -> None:
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast

    pieces = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.Unigram([("a", 0.0), ("b", -1.0)])))
    with pytest.raises(InputError, match="no byte-level BPE; export it merged"):
        vocabulary(pieces, CHATML, 10)
