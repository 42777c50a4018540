"""The one rendering rule: a trace -> the token ids that the student sees, and which of them it is trained on.

prompt ids = the student's own chat template with add_generation_prompt; completion ids = think block and answer in
the canonical form of r1distill.thinking (the part that the prompt already opened is left out), then the end-of-turn
token that the template puts behind an assistant turn. Both are tokenised apart and joined, as serving does. The
template never renders the completion: R1's and Qwen3's templates cut the reasoning out of assistant turns. The few
templates that need more than the rule are rows of templates.py.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

from r1distill.errors import InputError
from r1distill.objectives.templates import fixed_template
from r1distill.records import Example, Message
from r1distill.thinking import CLOSE, OPEN, join_thinking, split_thinking

IGNORED = -100
"""Label of a position that is not trained on (torch.nn.CrossEntropyLoss's ignore_index)."""
QUESTION, PROBE = "QUESTION", "PROBE"
BATCH = 1000
"""Texts tokenised in one call."""
SHOWN_CHARACTERS = 12
"""Of a changed text."""


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


class Changed(NamedTuple):
    """A row whose text comes back from the student's tokens as another one."""

    trace_id: str
    at: int
    """The first character that differs, of what is trained on."""
    text: str
    """From there on, as it should be."""
    became: str

    def __str__(self) -> str:
        # As escapes: the two may look the same on a screen.
        return (
            f"in trace {self.trace_id}, from character {self.at:,} on, {self.text!a} becomes {self.became!a}"
        )


class Rendering(NamedTuple):
    """All rows, and what was left out."""

    rows: list[Rendered]
    no_target: int
    """Rows without reasoning and answer, or cut within the reasoning."""
    control_tokens: int
    """Rows whose text holds a control token of the student or a stray think tag."""
    control_seen: dict[str, int]
    """Which ones, and in how many rows."""
    changed: list[Changed]
    """Rows left out since the student's tokenizer changes their text (some compose characters, for example: NFC)."""
    unfit: list[Changed]
    """The same where they are most rows: they stay in `rows`, and the proof of the target fails."""


def format_of(tokenizer: Any) -> Format:
    """Find the end-of-turn token by rendering a probe. Raises InputError when the student has no chat template."""
    turn = template_text(
        tokenizer, [Message("user", QUESTION), Message("assistant", PROBE)], generation=False
    )
    if QUESTION not in turn or PROBE not in turn:
        raise InputError(
            "The student's chat template leaves out the words of a plain text message (a vision model's, perhaps): "
            "choose a student whose template takes text."
        )
    end = _end_text(tokenizer, turn.rpartition(PROBE)[2].strip())
    control = sorted({end, *_special_tokens(tokenizer)} - {OPEN, CLOSE}, key=len, reverse=True)
    return Format(end, tokenizer.convert_tokens_to_ids(end), re.compile("|".join(map(re.escape, control))))


def _end_text(tokenizer: Any, tail: str) -> str:
    """The token at the start of `tail`, what the template writes behind an assistant's words; the eos if that is nothing."""
    added = {str(token.content) for token in tokenizer.added_tokens_decoder.values()}
    added |= {str(tokenizer.eos_token)} if tokenizer.eos_token else set()
    found = [text for text in added if tail.startswith(text) and text not in (OPEN, CLOSE)]
    if found:
        return max(found, key=len)
    if tail:
        raise InputError(
            f"The student's chat template ends an assistant turn with {tail[:40]!r}, which is no single token of its "
            "tokenizer, so it would never learn to stop: choose a student whose template and tokenizer belong together."
        )
    if tokenizer.eos_token is None:
        raise InputError(
            "The student's chat template ends an assistant turn without a token, and its tokenizer has no eos token: "
            "it can't learn to stop."
        )
    return str(tokenizer.eos_token)


def template_text(tokenizer: Any, messages: Sequence[Message], generation: bool = True) -> str:
    """`messages` in the student's own template, as text. Raises InputError when the template refuses them."""
    return str(_applied(tokenizer, messages, generation, tokenize=False))


def served_ids(tokenizer: Any, messages: Sequence[Message]) -> list[int]:
    """The token ids that a server makes of `messages`, with the template that is saved with the student."""
    return list(_applied(tokenizer, messages, True, tokenize=True, return_dict=False))


def _applied(tokenizer: Any, messages: Sequence[Message], generation: bool, **how: Any) -> Any:
    chat = [{"role": message.role, "content": message.content} for message in messages]
    template = fixed_template(tokenizer).text
    try:
        return tokenizer.apply_chat_template(
            chat, add_generation_prompt=generation, chat_template=template, **how
        )
    except Exception as error:  # noqa: BLE001 - a template is a program of others: it may raise anything
        said = str(error).strip().rstrip(".") or type(error).__name__
        raise InputError(f"The student's chat template refuses the prompt: {said}.") from None


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
    rows = _encode(tokenizer, form, texts)
    changed = list(_changed(tokenizer, form, rows, [completion for _, _, completion in texts]))
    unfit = changed if 2 * len(changed) > len(rows) else []
    lost = set() if unfit else {row.trace_id for row in changed}
    rows = [row for row in rows if row.trace_id not in lost]
    return Rendering(rows, no_target, control_tokens, dict(seen), [] if unfit else changed, unfit)


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


def _changed(
    tokenizer: Any, form: Format, rows: Sequence[Rendered], completions: Sequence[str]
) -> Iterator[Changed]:
    """Rows whose trained tokens don't decode to their text."""
    for start in range(0, len(rows), BATCH):
        part = slice(start, start + BATCH)
        targets = [row.labels[row.labels.count(IGNORED) :] for row in rows[part]]
        texts = tokenizer.batch_decode(targets, clean_up_tokenization_spaces=False)
        for row, completion, text in zip(rows[part], completions[part], texts, strict=True):
            if text != (said := completion + form.end_text):
                yield first_difference(row.trace_id, said, text)


def first_difference(trace_id: str, text: str, became: str) -> Changed:
    """Where two texts of a row part."""
    at = next(
        (i for i, (a, b) in enumerate(zip(text, became, strict=False)) if a != b), min(len(text), len(became))
    )
    return Changed(trace_id, at, text[at : at + SHOWN_CHARACTERS], became[at : at + SHOWN_CHARACTERS])


def _special_tokens(tokenizer: Any) -> set[str]:
    """The texts that a tokenizer reads as control tokens."""
    added = {str(token.content) for token in tokenizer.added_tokens_decoder.values() if token.special}
    return {*map(str, tokenizer.all_special_tokens), *added}
