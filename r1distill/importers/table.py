"""The formats of trace files that are read, one row each: its shape, its columns, where that is written down.

A format is detected by the columns that it `needs`; the first row of the table that fits wins. Formats that look alike and
are read alike differ only in their name, for --format.
"""

from __future__ import annotations

from typing import Literal

import msgspec

Shape = Literal["own", "chat", "conversations", "columns", "generations", "responses", "logs"]
QUESTION = ("question", "problem", "instruction", "query", "prompt")
REPLY = ("response", "completion", "output", "generation", "text")
REASONING = ("reasoning", "reasoning_content", "thinking", "thought")
REFERENCE = ("reference", "ground_truth", "expected_answer", "gold_answer")
FINISH = ("finish", "finish_reason", "stop_reason")
MODEL = ("teacher", "model", "generator", "model_name")
TAGS = (
    "source", "dataset", "data_source", "license", "licence", "domain", "subject", "topic", "language", "difficulty", "level",
    "split", "uuid", "problem_id", "problem_type", "question_type", "task_type", "source_type", "cot_type",
)  # fmt: skip
"""Columns that become tags of the problem, in every format."""
CHECKED = "2026-11-22"


class Author(msgspec.Struct, frozen=True):
    """The columns of one of several models whose answers stand side by side in a row."""

    model: str
    reasoning: str
    reply: str
    others: tuple[str, ...] = ()
    """Further columns about this answer; they become tags of the trace."""


class Format(msgspec.Struct, frozen=True, kw_only=True):
    """How rows of one kind are read."""

    name: str
    shape: Shape
    needs: dict[str, str]
    """Columns that a row must have, and the kinds that they may be of ("text|list"; "" for any)."""
    one_of: tuple[str, ...] = ()
    """At least one of these columns must be there too."""
    only: bool = False
    """True: a row with any other column is of another format."""
    question: tuple[str, ...] = QUESTION
    more_question: str = ""
    """A column that goes on with the question."""
    system: str = "system"
    history: str = ""
    """A column with the turns before the question."""
    reply: tuple[str, ...] = REPLY
    reasoning: tuple[str, ...] = REASONING
    untagged: bool = False
    """True: the reply is reasoning that ends in the answer, without any tag between them."""
    authors: tuple[Author, ...] = ()
    beside: tuple[str, ...] = ()
    """Shape generations: the answers that go with a list of reasonings."""
    each: tuple[str, ...] = ()
    """Shape generations: columns with one value for each generation; they become tags of its trace."""
    labels: tuple[str, ...] = ()
    """Columns that say something about the answer; they become tags of the trace."""
    reference: tuple[str, ...] = REFERENCE
    finish: tuple[str, ...] = FINISH
    model: tuple[str, ...] = MODEL
    tests: str = "tests"
    tested: tuple[str, ...] = ("choice", "text", "json", "code")
    """The kinds of answers that these tests are for."""
    kind: tuple[str, ...] = ()
    """Columns that say what kind of answer is asked for ("math", "code", ...)."""
    holds: str = ""
    """What it is, for the table of formats in the manual."""
    source: str
    """Where the columns are written down."""
    known: Literal["page", "code", "unchecked"] = "page"
    """How the columns are known: from a page that describes them, from code that writes or reads them, or by hearsay."""
    checked: str = CHECKED
    """When that was looked at."""


HUB = "https://huggingface.co/datasets/"
CORRECTNESS = ("correctness_math_verify", "correctness_llama", "is_reasoning_complete", "finish_reasons")
OPENAI = "https://platform.openai.com/docs/api-reference/"

FORMATS = (
    Format(
        name="r1distill", known="code", shape="own", holds="our own traces: traces/part-*.jsonl, kept.jsonl, rejected.jsonl",
        needs={"id": "text", "slot": "text", "prompt_id": "text", "messages": "list", "reasoning": "text",
               "answer": "text", "finish": "text"},
        source="r1distill/records.py",
    ),
    Format(
        name="bedrock", shape="logs", holds="Amazon Bedrock invocation logs, Converse and InvokeModel",
        needs={"modelId": "text", "input": "object", "output": "object"},
        source="https://docs.aws.amazon.com/bedrock/latest/userguide/model-invocation-logging.html",
    ),
    Format(
        name="openai-batch", known="code", shape="responses",
        holds="batch results (OpenAI, Azure, Groq, vllm run-batch) with the request file",
        needs={"custom_id": "text|number", "response": "object|null"}, source=f"{OPENAI}batch/request-output",
    ),
    Format(
        name="curator", known="code", shape="responses", holds="responses files of Bespoke Curator",
        needs={"generic_request": "object", "response_message": ""},
        reference=(*REFERENCE, *(f"generic_request.original_row.{name}" for name in (*REFERENCE, "answer"))),
        source="https://github.com/bespokelabsai/curator (types/generic_response.py)",
    ),
    Format(
        name="stored-completions", known="code", shape="responses", holds="OpenAI and Azure stored completions, in three shapes",
        needs={"object": "text", "data": "list"}, source=f"{OPENAI}chat/list",
    ),
    Format(
        name="stored-completions", known="code", shape="responses", needs={"object": "text", "choices": "list"},
        source=f"{OPENAI}chat/object",
    ),
    Format(
        name="stored-completions", known="code", shape="responses", needs={"request": "object", "response": "object"},
        source=f"{OPENAI}chat/create",
    ),
    Format(
        name="openr1-math", shape="generations", holds="OpenR1-Math-220k",
        needs={"problem": "text", "generations": "list"}, one_of=CORRECTNESS[:3], question=("problem",),
        reply=("generations",), reference=("answer",), each=CORRECTNESS, labels=("correctness_count",),
        source=f"{HUB}open-r1/OpenR1-Math-220k",
    ),
    Format(
        name="open-r1", known="code", shape="generations", holds="output of open-r1's generate_reasoning.py",
        needs={"generations": "list"}, reply=("generations",), reference=(*REFERENCE, "answer"),
        each=("finish_reasons", "api_metadata"), source="https://github.com/huggingface/open-r1 (scripts/generate_reasoning.py)",
    ),
    Format(
        name="openthoughts-metadata", shape="columns", holds="OpenThoughts-114k, metadata subset",
        needs={"problem": "text", "deepseek_reasoning": "text", "deepseek_solution": "text"}, question=("problem",),
        reply=("deepseek_solution",), reasoning=("deepseek_reasoning",), reference=("ground_truth_solution",),
        tests="test_cases", tested=("code",), kind=("domain",), source=f"{HUB}open-thoughts/OpenThoughts-114k",
    ),
    Format(
        name="s1k-1.1", shape="columns", holds="s1K-1.1: DeepSeek-R1 and Gemini side by side", needs={"question": "text"},
        one_of=("deepseek_thinking_trajectory", "gemini_thinking_trajectory"), question=("question",), reference=("solution",),
        authors=(
            Author("deepseek-r1", "deepseek_thinking_trajectory", "deepseek_attempt",
                   ("deepseek_grade", "deepseek_grade_reason")),
            Author("gemini", "gemini_thinking_trajectory", "gemini_attempt", ("gemini_grade", "gemini_grade_reason")),
        ),
        source=f"{HUB}simplescaling/s1K-1.1",
    ),
    Format(
        name="s1k", known="code", shape="generations", holds="s1K", needs={"question": "text", "thinking_trajectories": "list"},
        question=("question",), reply=("thinking_trajectories",), beside=("attempt", "attempts"), reference=("solution",),
        source=f"{HUB}simplescaling/s1K",
    ),
    Format(
        name="synthetic-1", known="code", shape="columns", holds="SYNTHETIC-1 (genesys)",
        needs={"prompt": "text", "llm_response": "text"}, question=("prompt",), reply=("llm_response",),
        reference=("verification_info.ground_truth", "gold_standard_solution"), kind=("task_type",),
        tests="verification_info", tested=("code",), labels=("score",),
        source="https://github.com/PrimeIntellect-ai/genesys",
    ),
    Format(
        name="distilabel", known="code", shape="generations", holds="distilabel's text generation, several to a row",
        needs={"instruction": "text", "generation": "list"}, question=("instruction",), reply=("generation",),
        reference=(*REFERENCE, "answer"),
        each=("model_name", "distilabel_metadata"), source="https://distilabel.argilla.io (tasks/text_generation)",
    ),
    Format(
        name="distilabel", known="code", shape="columns", holds="distilabel's text generation",
        needs={"instruction": "text", "generation": "text"}, question=("instruction",), reply=("generation",),
        reference=(*REFERENCE, "answer"),
        source="https://distilabel.argilla.io (tasks/text_generation)",
    ),
    Format(
        name="openthoughts", known="code", shape="conversations", holds="OpenThoughts-114k, default subset",
        needs={"system": "text", "conversations": "list"}, source=f"{HUB}open-thoughts/OpenThoughts-114k",
    ),
    Format(
        name="bespoke-stratos", known="code", shape="conversations", holds="Bespoke-Stratos-17k",
        needs={"system": "text", "conversations": "list"}, source=f"{HUB}bespokelabs/Bespoke-Stratos-17k",
    ),
    Format(
        name="sky-t1", known="code", shape="conversations", holds="Sky-T1_data_17k",
        needs={"system": "text", "conversations": "list"}, source=f"{HUB}NovaSky-AI/Sky-T1_data_17k",
    ),
    Format(
        name="openthoughts2", known="unchecked", shape="conversations", holds="OpenThoughts2-1M and OpenThoughts3-1.2M",
        needs={"conversations": "list"}, one_of=("domain", "difficulty"), question=(), kind=("domain",),
        source=f"{HUB}open-thoughts/OpenThoughts3-1.2M",
    ),
    Format(
        name="limo", known="unchecked", shape="columns", holds="LIMO: the whole chain of thought in one column, no tags",
        needs={"question": "text", "solution": "text", "answer": "text|number"}, only=True, question=("question",),
        reply=("solution",), untagged=True, reference=("answer",), source=f"{HUB}GAIR/LIMO",
    ),
    Format(
        name="preference", shape="chat", holds="TRL preference pairs, ours too: the chosen and the rejected answer",
        needs={"chosen": "list", "rejected": "list"}, source="https://huggingface.co/docs/trl/dataset_formats",
    ),
    Format(
        name="alpaca", known="unchecked", shape="columns", holds="Alpaca", needs={"instruction": "text", "output": "text"},
        question=("instruction",), more_question="input", history="history", reply=("output",), reference=(*REFERENCE, "answer"),
        source="https://github.com/tatsu-lab/stanford_alpaca",
    ),
    Format(
        name="plain", shape="columns", holds="a question, and a response with its think block or a reasoning column",
        needs={}, history="history", source="this manual",
    ),
    Format(
        name="prompt-completion", shape="chat", holds="TRL's prompt-completion rows, our train.jsonl",
        needs={"prompt": "list|text", "completion": "list"}, source="https://huggingface.co/docs/trl/dataset_formats",
    ),
    Format(
        name="messages", shape="chat", holds="messages, with reasoning inline or in a field",
        needs={"messages": "list"}, source="https://huggingface.co/docs/trl/dataset_formats",
    ),
    Format(
        name="sharegpt", known="unchecked", shape="conversations", holds="ShareGPT", needs={"conversations": "list"},
        source="https://github.com/lm-sys/FastChat (docs/training.md)",
    ),
    Format(
        name="sharegpt", known="unchecked", shape="conversations", needs={"conversation": "list"},
        source="https://github.com/lm-sys/FastChat (docs/training.md)",
    ),
)  # fmt: skip


def formats_named(name: str) -> tuple[Format, ...]:
    """The rows of the table with this name; () when there is none."""
    return tuple(row for row in FORMATS if row.name == name)


def names() -> list[str]:
    """The names of all formats, each once, in the order of the table."""
    return list(dict.fromkeys(row.name for row in FORMATS))
