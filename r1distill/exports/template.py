"""The chat template and tokenizer that leave with a student: the ones it was trained with, whoever serves it.

In: the tokenizer that the training saved. Out: the same with a template that renders equally at every server, and the
proof that it does: the prompt's token ids are those of the training's rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from r1distill.errors import InputError
from r1distill.objectives.render import format_of, template_text
from r1distill.objectives.students import load_tokenizer
from r1distill.objectives.templates import fixed_template
from r1distill.records import Message

PROBE_PROMPTS = (
    (Message("user", "What is 12 + 7?\n\n5  apples, it's 1,234."),),
    (Message("system", "Think first."), Message("user", "Ünï \t 日本?")),
)


def served_template(tokenizer: Any) -> str:
    """The template to ship. Raises InputError: the student has none, or one that can't be trained."""
    return fixed_template(tokenizer).text


def shipped_tokenizer(adapter: Path) -> Any:
    """The tokenizer of a training with the template to ship; its eos is the token that the student learned to end with."""
    tokenizer = load_tokenizer(adapter)
    tokenizer.chat_template = served_template(tokenizer)
    return tokenizer


def training_ids(tokenizer: Any, messages: Sequence[Message]) -> list[int]:
    """The prompt's ids as the training's rows begin with them (objectives/render.py)."""
    ids: list[int] = tokenizer(template_text(tokenizer, messages), add_special_tokens=False)["input_ids"]
    return ids


def prompts_that_render(tokenizer: Any, more: Sequence[Sequence[Message]]) -> list[Sequence[Message]]:
    """The probe prompts (but those that the template refuses: some know no system turn), and `more` from the run."""
    probes: list[Sequence[Message]] = []
    for prompt in PROBE_PROMPTS:
        try:
            template_text(tokenizer, prompt)
        except InputError:
            continue
        probes.append(prompt)
    return [*probes, *more]


def check_folder(folder: Path, adapter: Path, more: Sequence[Sequence[Message]]) -> int:
    """How many prompts an exported folder tokenises as the training did. Raises InputError when one differs.

    Also when generation would not stop at the token that the student learned to end with.
    """
    from transformers import GenerationConfig

    trained, exported = load_tokenizer(adapter), load_tokenizer(folder)
    ends = GenerationConfig.from_pretrained(folder, local_files_only=True).eos_token_id
    end_id = format_of(trained).end_id
    if end_id not in (ends if isinstance(ends, list) else [ends]):
        raise InputError(
            f"The export would not stop at token {end_id}, which the student was trained to end with."
        )
    prompts = prompts_that_render(trained, more)
    for messages in prompts:
        chat = [{"role": message.role, "content": message.content} for message in messages]
        served = exported.apply_chat_template(chat, add_generation_prompt=True, return_dict=True)["input_ids"]
        check_ids(list(served), training_ids(trained, messages), "the exported tokenizer")
    return len(prompts)


def check_ids(served: Sequence[int], trained: Sequence[int], who: str) -> None:
    """Raises InputError when the ids of a prompt differ."""
    if list(served) != list(trained):
        at = next(
            (i for i, (a, b) in enumerate(zip(served, trained, strict=False)) if a != b),
            min(len(served), len(trained)),
        )
        raise InputError(
            f"Not exported: {who} makes other tokens of a prompt than the training did, from token {at} on "
            f"({served[at : at + 4]} instead of {trained[at : at + 4]}); export it merged and serve that."
        )
