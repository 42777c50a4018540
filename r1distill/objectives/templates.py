"""Chat templates that need a line before them, and those that can't be trained: the exceptions to the one rule.

In: a student's tokenizer. Out: the template that is trained with, and that is saved with the student so that it is
served with the same one. Most families follow the rule of render.py as they are (tests/objectives/test_templates.py
lists those that are proven); each row here says what some need besides, and has its own test. The facts were read from
the templates that trl 1.16 ships (https://github.com/huggingface/trl/tree/main/trl/chat_templates).
"""

from __future__ import annotations

from typing import Any, NamedTuple

from r1distill.errors import InputError

FIXED_DATE = (
    '{%- macro strftime_now(format) -%}{%- if format == "%Y-%m-%d" -%}2024-07-26{%- else -%}26 Jul 2024{%- endif -%}'
    "{%- endmacro -%}"
)
"""The date that Llama 3.1's template falls back to, instead of today's."""
FIXED_DATE_STRING = '{%- set date_string = "26 Jul 2024" -%}'
"""The same day, where the caller may name it: llama.cpp hands every template today's date under this name."""
THINKING_ON = "{%- set enable_thinking = true -%}"
FOLDED_SYSTEM = (
    "{%- if messages|length > 1 and messages[0]['role'] == 'system' -%}"
    "{%- set messages = [{'role': messages[1]['role'], "
    "'content': messages[0]['content'] + '\\n\\n' + messages[1]['content']}] + messages[2:] -%}"
    "{%- endif -%}"
)


class Need(NamedTuple):
    """A line put before templates that hold `sign`; later lines see what earlier ones set."""

    name: str
    sign: str
    """Text that only such templates hold."""
    before: str
    why: str
    """For people; begins with a small letter."""


EXCEPTIONS = (
    # Llama 3.2, SmolLM3, ...: the system turn holds today's date.
    Need(
        "fixed date",
        "strftime_now",
        FIXED_DATE,
        "it writes today's date into the prompt, which would change what is trained on from day to day",
    ),
    # Llama 3.1, 3.2 and 3.3.
    Need(
        "fixed date_string",
        "date_string",
        FIXED_DATE_STRING,
        "it writes a date into the prompt that some servers set to today",
    ),
    # Qwen3.5's small models close the think block unless thinking is asked for; so do hybrid templates served that way.
    Need(
        "thinking on",
        "enable_thinking",
        THINKING_ON,
        "it can close the think block in the prompt; thinking is switched on for good",
    ),
    # Gemma 1 and 2.
    Need(
        "system folded",
        "System role not supported",
        FOLDED_SYSTEM,
        "it knows no system turn; system words stand before the first question",
    ),
)
REFUSED = (
    ("<|message|>", "speaks in channels (gpt-oss)"),
    ("<|channel>", "speaks in channels (Gemma 4)"),
)
"""Templates whose reasoning is no think block: the sign, and what they do. Serving would look for another form."""


class Fixed(NamedTuple):
    """The template to train and to serve with."""

    text: str
    applied: tuple[Need, ...]
    """Empty for most families: `text` is then the student's own template."""


def fixed_template(tokenizer: Any) -> Fixed:
    """The student's template with what it needs before it. Raises InputError: no template, or none that can be trained."""
    if not tokenizer.chat_template:
        raise InputError("The student has no chat template: choose an instruction-tuned model.")
    own = str(tokenizer.get_chat_template())
    for sign, what in REFUSED:
        if sign in own:
            raise InputError(
                f"The student's chat template {what}, which r1distill can't train: choose a student that thinks in "
                "<think> tags or not at all (Qwen, Llama, SmolLM, R1-Distill, Gemma 3)."
            )
    # A template saved by an earlier training holds the line already.
    applied = tuple(row for row in EXCEPTIONS if row.sign in own.replace(row.before, ""))
    missing = "".join(row.before for row in applied if row.before not in own)
    return Fixed(missing + own, applied)
