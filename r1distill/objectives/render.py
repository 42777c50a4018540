"""The one rendering rule: a trace -> the token ids that the student sees, and which of them it is trained on.

prompt ids = the student's own chat template with add_generation_prompt; completion ids = think block and answer in
the canonical form of r1distill.thinking (the part that the prompt already opened is left out), then the end-of-turn
token that the template puts behind an assistant turn. Both are tokenised apart and joined, as serving does. The
template never renders the completion: R1's and Qwen3's templates cut the reasoning out of assistant turns.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from r1distill.errors import InputError
from r1distill.records import Example, Message
from r1distill.thinking import CLOSE, OPEN, join_thinking, split_thinking

IGNORED = -100
"""Label of a position that is not trained on (torch.nn.CrossEntropyLoss's ignore_index)."""
FIXED_DATE = (
    '{%- macro strftime_now(format) -%}{%- if format == "%Y-%m-%d" -%}2024-07-26{%- else -%}26 Jul 2024{%- endif -%}'
    "{%- endmacro -%}"
)
"""Put before a template that asks for today's date, which would change what is trained on from day to day; the date
is the one that Llama 3.1's template falls back to."""
PROBE = "PROBE"
BATCH = 1000
"""Texts tokenised in one call."""


class Format(NamedTuple):
    """What the student's template and tokenizer prescribe."""

    end_text: str
    end_id: int
    """The token that ends an assistant turn."""
    control: re.Pattern[str]
    """Matches the text of any control token; a row that holds one would be encoded with a forged turn."""


class Rendered(NamedTuple):
    """One row ready to train on; both lists have the same length, in tokens."""

    trace_id: str
    input_ids: list[int]
    labels: list[int]
    """input_ids where trained on, IGNORED elsewhere."""


class Rendering(NamedTuple):
    """All rows, and what was left out."""

    rows: list[Rendered]
    no_target: int
    """Rows without reasoning and answer, or cut within the reasoning."""
    control_tokens: int
    """Rows whose text holds a control token of the student or a stray think tag."""
    control_seen: dict[str, int]
    """Which ones, and in how many rows."""


def format_of(tokenizer: Any) -> Format:
    """Find the end-of-turn token by rendering a probe. Raises InputError when the student has no chat template."""
    if not tokenizer.chat_template:
        raise InputError("The student has no chat template: choose an instruction-tuned model.")
    turn = template_text(tokenizer, [Message("user", "Q"), Message("assistant", PROBE)], generation=False)
    tail = turn.rpartition(PROBE)[2].lstrip()
    added = {str(token.content): i for i, token in tokenizer.added_tokens_decoder.items()}
    found = [text for text in added if tail.startswith(text) and text not in (OPEN, CLOSE)]
    end = max(found, key=len) if found else tokenizer.eos_token
    if end is None:
        raise InputError(
            "The student's chat template ends an assistant turn without a token: it can't learn to stop."
        )
    control = sorted({end, *_special_tokens(tokenizer)} - {OPEN, CLOSE}, key=len, reverse=True)
    return Format(end, tokenizer.convert_tokens_to_ids(end), re.compile("|".join(map(re.escape, control))))


def template_text(tokenizer: Any, messages: Sequence[Message], generation: bool = True) -> str:
    """`messages` in the student's own template, as text. Raises InputError when the template refuses them."""
    import jinja2

    chat = [{"role": message.role, "content": message.content} for message in messages]
    own = str(tokenizer.get_chat_template())
    template = FIXED_DATE + own if "strftime_now" in own else own
    try:
        text = tokenizer.apply_chat_template(
            chat, tokenize=False, add_generation_prompt=generation, chat_template=template
        )
    except (jinja2.TemplateError, ValueError, TypeError) as error:
        raise InputError(f"The student's chat template refuses the prompt: {error}.") from None
    return str(text)


def completion_text(prompt: str, reasoning: str, answer: str) -> str:
    """What follows `prompt`, without the end token; the opening tag is left out if the prompt ends with it.

    Raises InputError when the prompt ends with a closed think block: the student would be asked not to think.
    """
    if prompt.rstrip().endswith(CLOSE):
        raise InputError(
            "The student's chat template closes the think block in the prompt: it can't learn to reason."
        )
    text = join_thinking(reasoning, answer)
    opened = next((start for start in (f"{OPEN}\n", OPEN) if prompt.endswith(start)), "")
    if opened and not reasoning:
        text = f"{OPEN}\n\n{CLOSE}\n\n{answer}"  # as DeepSeek-R1 bypasses its thinking
    return text.removeprefix(opened)


def render(tokenizer: Any, examples: Iterable[Example]) -> Rendering:
    """Render every row that can be. Raises InputError (no chat template, template refuses the prompt)."""
    form = format_of(tokenizer)
    texts: list[tuple[str, str, str]] = []
    seen: Counter[str] = Counter()
    no_target = control_tokens = 0
    for example in examples:
        split = split_thinking(example.completion[-1].content)
        if split.source == "unclosed" or not (split.reasoning or split.answer):
            no_target += 1
        elif found := control_texts(form, example.prompt, split.reasoning, split.answer):
            control_tokens += 1
            seen.update(found)
        else:
            prompt = template_text(tokenizer, example.prompt)
            texts.append((example.trace_id, prompt, completion_text(prompt, split.reasoning, split.answer)))
    return Rendering(_encode(tokenizer, form, texts), no_target, control_tokens, dict(seen))


def control_texts(form: Format, prompt: Sequence[Message], reasoning: str, answer: str) -> set[str]:
    """Control tokens spelled in the row's texts; think tags count within reasoning and answer only."""
    found = {
        hit
        for text in (reasoning, answer, *(m.content for m in prompt))
        for hit in form.control.findall(text)
    }
    return found | {tag for tag in (OPEN, CLOSE) if tag in reasoning or tag in answer}


def marked(tokenizer: Any, row: Rendered) -> str:
    """The row decoded, its trained part between ⟦ and ⟧; safe for a terminal (control characters become ·)."""
    start = next(i for i, label in enumerate(row.labels) if label != IGNORED)
    prompt, target = tokenizer.decode(row.input_ids[:start]), tokenizer.decode(row.input_ids[start:])
    text = f"{prompt}⟦{target}⟧"
    return "".join(c if c == "\n" or c.isprintable() else "·" for c in text)


def _encode(tokenizer: Any, form: Format, texts: list[tuple[str, str, str]]) -> list[Rendered]:
    rows: list[Rendered] = []
    for start in range(0, len(texts), BATCH):
        ids, prompts, completions = zip(*texts[start : start + BATCH], strict=True)
        encoded = (
            tokenizer(list(part), add_special_tokens=False)["input_ids"] for part in (prompts, completions)
        )
        for trace_id, prompt, completion in zip(ids, *encoded, strict=True):
            target = [*completion, form.end_id]
            rows.append(Rendered(trace_id, [*prompt, *target], [IGNORED] * len(prompt) + target))
    return rows


def _special_tokens(tokenizer: Any) -> set[str]:
    """The texts that a tokenizer reads as control tokens."""
    added = {str(token.content) for token in tokenizer.added_tokens_decoder.values() if token.special}
    return {*map(str, tokenizer.all_special_tokens), *added}
