"""A transformers tokenizer -> the tokenizer metadata of a GGUF file, so that llama.cpp makes the same tokens of a text.

Keys: the GGUF specification (https://github.com/ggml-org/ggml/blob/master/docs/gguf.md). The pre-tokenizer, which parts
a text before merges apply, has only a name in a GGUF; llama.cpp holds the expressions (src/llama-vocab.cpp). Here it is
found by what it does: the one that parts every probe text as the tokenizer's own does. A tokenizer that parts them
like none of them is refused, and so is one that changes them before: llama.cpp normalises no text.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from r1distill.errors import InputError
from r1distill.thinking import CLOSE, OPEN

QWEN2_SPLIT = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
"""transformers/models/qwen2/tokenization_qwen2.py, PRETOKENIZE_REGEX."""
LLAMA3_SPLIT = QWEN2_SPLIT.replace(r"|\p{N}|", r"|\p{N}{1,3}|")
"""transformers/convert_slow_tokenizer.py, TikTokenConverter: digits in threes."""
PROBES = (
    "What is 1234 + 56? It's I'LL they'd 3.14159", "x  =   5\n\n\n7\n 8\t9  \n", "a\r\nb  c --- ((z)) <think>\n\nOK</think>\n\n5",
    "naïve Ünïcödé 日本語 текст ½ 2² 🙂!!", "    indented\n\tcode_1 = f(x1, y22)", " \n \n x'S",
)  # fmt: skip
"""Texts that any two of the known pre-tokenizers part differently."""
DECOMPOSED = "e\N{COMBINING ACUTE ACCENT} y\N{COMBINING CIRCUMFLEX ACCENT} \N{OHM SIGN}"
"""What Unicode's NFC, the normal form of nearly all text, has one letter for; Qwen's tokenizers put that in its place."""


class Vocabulary(NamedTuple):
    """What the metadata of a GGUF file says of its tokenizer."""

    pre: str
    """llama.cpp's name of the pre-tokenizer."""
    tokens: list[str]
    """By id; ids that the model has and the tokenizer lacks are filled up."""
    types: list[int]
    """gguf.TokenType of each token."""
    merges: list[str]
    special_ids: dict[str, int]
    """bos, eos, unk and pad, those that there are."""
    chat_template: str


def vocabulary(tokenizer: Any, chat_template: str, rows: int) -> Vocabulary:
    """The metadata for a model of `rows` embeddings. Raises InputError for another kind of tokenizer than byte-level BPE."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    core = json.loads(backend.to_str()) if backend is not None else {"model": {}}
    if core["model"].get("type") != "BPE" or core["model"].get("byte_fallback"):
        raise InputError(
            "Can't write this student as GGUF: its tokenizer is no byte-level BPE; export it merged."
        )
    by_id = {i: text for text, i in tokenizer.get_vocab().items()}
    if max(by_id) >= rows:
        raise InputError(
            f"Can't write this student as GGUF: its tokenizer has ids up to {max(by_id):,}, its embeddings only {rows:,} rows."
        )
    _refuse_normaliser(backend)
    special = _special_by_id(core["added_tokens"])
    typed = [_token(i, by_id, special) for i in range(rows)]
    return Vocabulary(
        pre=pre_tokenizer_name(backend, bool(core["model"].get("ignore_merges"))),
        tokens=[text for text, _ in typed], types=[int(kind) for _, kind in typed],
        merges=list(_merges(core["model"]["merges"])), special_ids=_special_ids(tokenizer), chat_template=chat_template,
    )  # fmt: skip


def pre_tokenizer_name(backend: Any, ignores_merges: bool) -> str:
    """llama.cpp's name of the pre-tokenizer of a tokenizers.Tokenizer. Raises InputError when it is none of the known."""
    if backend.pre_tokenizer is not None:
        parted = _parted(backend.pre_tokenizer)
        for name, known in _known().items():
            if _parted(known) == parted:
                # llama.cpp takes whole words of the vocabulary as they are with "llama-bpe", not with "smaug-bpe".
                return "smaug-bpe" if name == "llama-bpe" and not ignores_merges else name
    raise InputError(
        f"Can't write this student as GGUF: its tokenizer parts texts like none of {', '.join(_known())}; export it merged."
    )


def _refuse_normaliser(backend: Any) -> None:
    """Raises InputError when a tokenizer changes plain text before it parts it."""
    if backend.normalizer is not None:
        changed = next((text for text in PROBES if backend.normalizer.normalize_str(text) != text), None)
        if changed is not None:
            raise InputError(
                f"Can't write this student as GGUF: its tokenizer changes texts first ({changed[:20]!r} becomes "
                f"{backend.normalizer.normalize_str(changed)[:20]!r}), and llama.cpp does not; export it merged."
            )


def normaliser_note(tokenizer: Any) -> str | None:
    """A sentence for people when the tokenizer composes characters, which llama.cpp does not; None when it leaves them."""
    normaliser = getattr(getattr(tokenizer, "backend_tokenizer", None), "normalizer", None)
    if normaliser is None or normaliser.normalize_str(DECOMPOSED) == DECOMPOSED:
        return None
    return (
        "The student's tokenizer composes characters (Unicode NFC), llama.cpp does not: a prompt with decomposed ones (e and "
        "an accent of its own) becomes other tokens there than in training; send text in NFC, as most programs do."
    )


def add_vocabulary(writer: Any, vocabulary: Vocabulary) -> None:
    """Write the metadata into a gguf.GGUFWriter."""
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(vocabulary.pre)
    writer.add_token_list(vocabulary.tokens)
    writer.add_token_types(vocabulary.types)
    writer.add_token_merges(vocabulary.merges)
    for name, token_id in vocabulary.special_ids.items():
        getattr(writer, f"add_{name}_token_id")(token_id)
    # The template alone says how a prompt begins, as in training: nothing is put before it.
    writer.add_add_bos_token(False)
    writer.add_add_space_prefix(False)
    writer.add_chat_template(vocabulary.chat_template)


def _known() -> dict[str, Any]:
    """llama.cpp's name -> the same as a pre-tokenizer of the tokenizers package."""
    from tokenizers import Regex
    from tokenizers.pre_tokenizers import ByteLevel, Digits, Sequence, Split

    def split(expression: str) -> Any:
        return Sequence(
            [Split(Regex(expression), "isolated"), ByteLevel(add_prefix_space=False, use_regex=False)]
        )

    return {
        "qwen2": split(QWEN2_SPLIT),
        "llama-bpe": split(LLAMA3_SPLIT),
        "smollm": Sequence([Digits(individual_digits=True), ByteLevel(add_prefix_space=False)]),
        "gpt-2": ByteLevel(add_prefix_space=False),
    }  # fmt: skip


def _parted(pre_tokenizer: Any) -> list[list[str]]:
    return [[piece for piece, _ in pre_tokenizer.pre_tokenize_str(text)] for text in PROBES]


def _special_by_id(added: list[Mapping[str, Any]]) -> dict[int, bool]:
    """Ids of added tokens -> whether they are control tokens.

    llama.cpp leaves control tokens out of its answers, so think tags never count as such.
    """
    return {entry["id"]: bool(entry["special"]) and entry["content"] not in (OPEN, CLOSE) for entry in added}


def _token(token_id: int, by_id: Mapping[int, str], special: Mapping[int, bool]) -> tuple[str, int]:
    from gguf import TokenType

    if token_id not in by_id:
        return f"[PAD{token_id}]", TokenType.UNUSED
    if token_id not in special:
        return by_id[token_id], TokenType.NORMAL
    return by_id[token_id], TokenType.CONTROL if special[token_id] else TokenType.USER_DEFINED


def _merges(merges: list[Any]) -> Iterator[str]:
    return (merge if isinstance(merge, str) else " ".join(merge) for merge in merges)


def _special_ids(tokenizer: Any) -> dict[str, int]:
    ids = {name: getattr(tokenizer, f"{name}_token_id") for name in ("bos", "eos", "unk", "pad")}
    return {name: int(token_id) for name, token_id in ids.items() if token_id is not None}
