"""The chain of thought inside a text: taking it out, and putting it in. One convention for the whole toolkit.

Canonical form, as DeepSeek-R1 writes it and Qwen3's template renders it:
`<think>` newline reasoning newline `</think>` blank line answer. Other spellings (`SPELLINGS`) are read, never written.

What counts as a think block, so that an answer which merely mentions a tag is left whole:
- it leads: before it stands white space or a short preamble (`PREAMBLE_CHARACTERS`); the first closing tag ends it;
- a closing tag without an opening one is believed (chat templates put the opening tag into the prompt) when no opening
  tag of its spelling stands before it; not for `<thought>`, `<thinking>` and `<reasoning>`, which are ordinary XML names
  that prompts ask for: those must open the text, with no preamble;
- a tag between two equal quotation marks or backticks is a mention, unless it closes a block that was opened.

Splitting is done by index scans, since a lazy regular expression is quadratic on hostile text. White space around the
parts is not theirs.
"""

from __future__ import annotations

from typing import NamedTuple

import msgspec

OPEN = "<think>"
CLOSE = "</think>"
PREAMBLE_CHARACTERS = 300
"""At most so much text may stand before the opening tag: a sentence or three ("Sure, let me think.")."""
QUOTES = "`\"'"


class Split(NamedTuple):
    """A text taken apart."""

    reasoning: str
    answer: str
    source: str
    """"inline"; "inline-no-opener" (the opening tag stood in the prompt); "unclosed" (cut inside the reasoning); "none"."""


class Spelling(NamedTuple):
    """One way to mark reasoning inside a text."""

    opener: str
    closer: str
    sign: str
    """A rare character of both tags: where it is missing, no longer search is needed."""
    own: bool = True
    """No ordinary text uses these words: believed after a preamble, and the closing tag also alone."""
    between: str = ""
    """What parts two pieces of reasoning."""
    wrapping: tuple[str, ...] = ()
    """Taken off the ends of the preamble, the reasoning and the answer, in this order, each once."""


SOLUTION = ("<|begin_of_solution|>", "<|end_of_solution|>")
ANALYSIS, FINAL = "<|channel|>analysis<|message|>", "<|channel|>final<|message|>"
HARMONY = ("<|start|>assistant", "<|end|>", "<|return|>")

SPELLINGS = (
    Spelling(OPEN, CLOSE, "<"),  # DeepSeek-R1, Qwen3 and most others; Groq's reasoning_format = "raw"
    Spelling("<seed:think>", "</seed:think>", "<"),  # ByteDance Seed-OSS
    Spelling("<mm:think>", "</mm:think>", "<"),  # MiniMax
    Spelling("[THINK]", "[/THINK]", "["),  # Mistral's Magistral
    Spelling("◁think▷", "◁/think▷", "▷"),  # Kimi-VL
    # OpenThoughts-114k, Bespoke-Stratos, Sky-T1: https://huggingface.co/datasets/open-thoughts/OpenThoughts-114k
    Spelling("<|begin_of_thought|>", "<|end_of_thought|>", "|", wrapping=SOLUTION),
    Spelling("<|begin_of_slow_thought|>", "<|end_of_slow_thought|>", "|", wrapping=SOLUTION),
    # gpt-oss: https://cookbook.openai.com/articles/openai-harmony
    Spelling(ANALYSIS, FINAL, "|", between=f"<|end|><|start|>assistant{ANALYSIS}", wrapping=HARMONY),
    # s1: https://github.com/simplescaling/s1
    Spelling("<|im_start|>think", "<|im_start|>answer", "|", wrapping=("<|im_start|>assistant", "<|im_end|>")),
    Spelling("<thought>", "</thought>", "<", own=False),  # Gemini's OpenAI endpoint
    Spelling("<thinking>", "</thinking>", "<", own=False),
    Spelling("<reasoning>", "</reasoning>", "<", own=False),  # gpt-oss on Bedrock
)  # fmt: skip


def split_thinking(text: str) -> Split:
    """Take the leading think block out of `text`.

    Both parts come back stripped of white space, since nobody can tell what of it belongs to the tags: blanks at the edges, so
    also the indent of a first line, are not kept. A harvest stores its answers through here, so none of them has any.
    """
    text = text.strip()
    start, spelling = _opener(text)
    end, prefilled = _lone_closer(text, start if spelling else len(text))
    if prefilled:
        return _parts(prefilled, "", text[:end], text[end + len(prefilled.closer) :], "inline-no-opener")
    if not spelling:
        return Split("", text, "none")
    inside = start + len(spelling.opener)
    end = text.find(spelling.closer, inside)
    if end < 0:
        return _parts(spelling, text[:start], text[inside:], "", "unclosed")
    return _parts(spelling, text[:start], text[inside:end], text[end + len(spelling.closer) :], "inline")


def join_thinking(reasoning: str, answer: str) -> str:
    """The canonical text of a trace: think block, blank line, answer; without reasoning just the answer."""
    if not reasoning:
        return answer
    return f"{OPEN}\n{reasoning}\n{CLOSE}\n\n{answer}"


def text_json(reasoning: str, answer: str) -> bytes:
    """The canonical text of a trace as JSON."""
    return msgspec.json.encode(join_thinking(reasoning, answer))


def _opener(text: str) -> tuple[int, Spelling | None]:
    """The first opening tag that leads `text`, and where it stands."""
    if text.startswith(OPEN):  # nearly always
        return 0, SPELLINGS[0]
    head = text[: PREAMBLE_CHARACTERS + 40]  # the longest tag has 30 characters
    first: tuple[int, Spelling | None] = PREAMBLE_CHARACTERS + 1, None
    for spelling in SPELLINGS:
        if spelling.sign not in head:
            continue
        at = _unquoted(head, spelling.opener, len(head)) if spelling.own else _at_start(head, spelling.opener)
        if 0 <= at < first[0]:
            first = at, spelling
    return first


def _lone_closer(text: str, end: int) -> tuple[int, Spelling | None]:
    """The first closing tag before `end` whose opening tag is nowhere before it, and where it stands."""
    first: tuple[int, Spelling | None] = end, None
    for spelling in SPELLINGS if end else ():
        if not spelling.own or text.find(spelling.sign, 0, end) < 0:
            continue
        at = _unquoted(text, spelling.closer, end)
        if 0 <= at < first[0] and _unquoted(text, spelling.opener, at) < 0:
            first = at, spelling
    return first


def _at_start(text: str, tag: str) -> int:
    return 0 if text.startswith(tag) else -1


def _unquoted(text: str, tag: str, end: int) -> int:
    """Where `tag` first stands before `end` without quotation marks around it; -1 when nowhere."""
    at = text.find(tag, 0, end)
    while at > 0 and text[at - 1] in QUOTES and text.startswith(text[at - 1], at + len(tag)):
        at = text.find(tag, at + len(tag), end)
    return at


def _parts(spelling: Spelling, preamble: str, reasoning: str, answer: str, source: str) -> Split:
    """The parts freed of what wraps them; the preamble goes before the answer."""
    if spelling.between:
        reasoning = reasoning.replace(spelling.between, "\n\n")
    preamble, answer = _unwrapped(preamble, spelling), _unwrapped(answer, spelling)
    joined = f"{preamble}\n\n{answer}" if preamble and answer else preamble or answer
    return Split(_unwrapped(reasoning, spelling), joined, source)


def _unwrapped(text: str, spelling: Spelling) -> str:
    text = text.strip()
    for mark in spelling.wrapping:
        text = text.removeprefix(mark).removesuffix(mark).strip()
    return text
