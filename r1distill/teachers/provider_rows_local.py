"""The table of model servers that people run themselves, and of those that this tool runs. How to read it: provider_row.py."""

from __future__ import annotations

from r1distill.teachers.provider_row import Known, Note, Provider, Rule

DAY = "2026-11-22"
GUESS = Known("unchecked", "general knowledge", DAY)
LLAMA_MEASURED = Known("measured", "xllamacpp 2026.10.11549 on 127.0.0.1", DAY)
LLAMA = Known("page", "https://github.com/ggml-org/llama.cpp/blob/master/tools/server/README.md", DAY)
OLLAMA = Known("package", "ollama at commit fb307609, openai/openai.go", DAY)
VLLM = Known("package", "vllm 0.32.0", DAY)
SGLANG = Known("package", "sglang 0.5.23", DAY)
SERVE = Known("package", "transformers 5.23.0, cli/serving", DAY)
LMSTUDIO = Known("page", "https://lmstudio.ai/docs/api/openai-api", DAY)
ANY = Known("package", "openai 3.54.0", DAY)

SERVE_IGNORES = (
    *("logprobs", "top_logprobs", "presence_penalty", "reasoning_effort", "response_format", "user", "metadata", "store"),
    *("tool_choice", "parallel_tool_calls", "service_tier", "prediction", "modalities", "web_search_options"),
)  # fmt: skip
SERVE_RULES = (
    Rule(SERVE_IGNORES, SERVE, "ignored"),
    Rule(("top_k", "min_p", "repetition_penalty", "thinking", "enable_thinking"), SERVE,
        hint="generation_config and chat_template_kwargs carry what is no field of OpenAI's"),
)  # fmt: skip

LOCAL: dict[str, Provider] = {
    "openai-compatible": Provider({"*": ANY}, reasoning=("reasoning", "reasoning_content", "inline")),
    "embedded": Provider(
        {"*": LLAMA_MEASURED}, kind="embedded", reasoning=("inline",), wire="full", logprobs="openai", n="no",
    ),
    "local": Provider(
        {"*": SERVE}, kind="local", reasoning=("reasoning_content", "inline"), wire="full", logprobs="ignored", n="ignored",
        rules=SERVE_RULES,
    ),
    "ollama": Provider(
        {"*": OLLAMA}, base_url="http://localhost:11434/v1", reasoning=("reasoning",), wire="full",
        ceiling_key="max_tokens", logprobs="openai", n="ignored",
        rules=(
            Rule(("max_completion_tokens",), OLLAMA, "ignored", hint="write max_tokens"),
            Rule(("logit_bias", "user", "tool_choice", "top_k", "min_p", "chat_template_kwargs"), OLLAMA, "ignored"),
        ),
        limits="One request at a time for each model by default; 503 when more than 512 wait.",
        notes=(Note(("*",), "Ollama's context is 4k tokens below 24 GiB of GPU memory unless OLLAMA_CONTEXT_LENGTH says "
            "otherwise: longer reasoning is cut. Without temperature and top_p it uses 1.0 for both.", OLLAMA),),
    ),
    "vllm": Provider(
        {"*": VLLM}, base_url="http://localhost:8000/v1", reasoning=("reasoning", "reasoning_content", "inline"),
        logprobs="openai", n="yes", batch="file",
        notes=(Note(("*",), "vLLM parts reasoning from answer only when started with --reasoning-parser; "
            "--max-logprobs (default 20) bounds top_logprobs.", VLLM),),
    ),
    "sglang": Provider(
        {"*": SGLANG}, base_url="http://localhost:30000/v1", reasoning=("reasoning_content", "inline"), logprobs="openai",
        n="yes",
        notes=(Note(("*",), "SGLang parts reasoning from answer only when started with --reasoning-parser.", SGLANG),),
    ),
    "llama.cpp": Provider(
        {"*": LLAMA, "logprobs": LLAMA_MEASURED, "n": LLAMA_MEASURED}, base_url_like="http://127.0.0.1:8080/v1",
        reasoning=("reasoning_content", "inline"), logprobs="openai", n="no",
    ),
    "transformers-serve": Provider(
        {"*": SERVE}, base_url="http://localhost:8000/v1", reasoning=("reasoning_content", "inline"), logprobs="ignored",
        n="ignored", rules=SERVE_RULES,
    ),
    "lmstudio": Provider(
        {"*": LMSTUDIO, "reasoning": GUESS}, base_url="http://localhost:1234/v1", reasoning=("reasoning_content", "inline"),
    ),
}  # fmt: skip
