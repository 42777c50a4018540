"""The table of hosted providers: one row each, only what differs from plain OpenAI. How to read it: provider_row.py.

Add a row to add a provider, with a fixture of its reply in tests/teachers/fixtures. No row was checked by a live call:
what is marked "package" was read in the source of the named version, what is marked "page" on the named page.
"""

from __future__ import annotations

from r1distill.teachers.provider_row import Exclusive, Known, Note, Provider, Rule

DAY = "2026-11-22"
GUESS = Known("unchecked", "general knowledge", DAY)
DEEPSEEK = Known("page", "https://api-docs.deepseek.com/guides/thinking_mode", DAY)
OPENAI = Known("package", "openai 3.54.0 and litellm's openai/chat (o_series, gpt_5)", DAY)
TERMS_QUOTED = Known(
    "page", "quotes of the terms in public discussions of 2026, not the terms themselves", DAY
)
OPENROUTER = Known("package", "openrouter 1.3.84", DAY)
TOGETHER = Known("package", "together 3.1.1", DAY)
FIREWORKS = Known("package", "fireworks-ai 1.2.30", DAY)
GROQ = Known("package", "groq 1.7.0", DAY)
GROQ_PAGE = Known("page", "https://console.groq.com/docs/openai", DAY)
AZURE = Known("page", "https://learn.microsoft.com/azure/ai-foundry/openai/api-version-lifecycle", DAY)
BEDROCK = Known("page", "https://docs.aws.amazon.com/bedrock/latest/userguide/endpoints.html", DAY)
MISTRAL = Known("package", "mistralai 3.7.0", DAY)
DASHSCOPE = Known("page", "https://www.alibabacloud.com/help/en/model-studio/error-code", DAY)
DASHSCOPE_BATCH = Known(
    "page", "https://www.alibabacloud.com/help/en/model-studio/batch-interfaces-compatible-with-openai", DAY
)
MOONSHOT = Known("page", "https://platform.kimi.ai/docs and litellm 1.109.1", DAY)
XAI = Known("page", "https://docs.x.ai (best practices, deferred completions) and litellm 1.109.1", DAY)
GEMINI = Known("page", "https://ai.google.dev/gemini-api/docs/openai", DAY)
GEMINI_TERMS = Known("page", "https://ai.google.dev/gemini-api/terms", DAY)
NIM = Known("page", "https://docs.litellm.ai/docs/providers/nvidia_nim", DAY)
RETIRED = Known("package", "the price table of litellm 1.109.1", DAY)

SAMPLERS = ("temperature", "top_p", "presence_penalty", "frequency_penalty")
REASONERS = ("o[0-9]*", "gpt-5*", "gpt-6*", "!gpt-5-chat*", "!gpt-5*search*")
ALWAYS = ("o[0-9]*", "gpt-5", "gpt-5-20*", "gpt-5-mini*", "gpt-5-nano*", "gpt-5-pro*", "gpt-5-codex*")
"""Models that can't be told not to reason."""
LATER = ("gpt-5.[0-9]*", "gpt-6*", "!gpt-5*search*")
NO_EFFORT = ("reasoning_effort", ("none", None))
"""Later ones take samplers while their effort is "none", which it also is when nothing is said."""

OPENAI_RULES = (
    Rule(("max_tokens",), OPENAI, models=REASONERS, hint="write max_completion_tokens"),
    Rule(("temperature",), OPENAI, models=ALWAYS, but=(1,)),
    Rule(("temperature",), OPENAI, models=LATER, but=(1,), unless=NO_EFFORT),
    Rule(("top_p", "logprobs", "top_logprobs"), OPENAI, models=ALWAYS),
    Rule(("top_p", "logprobs", "top_logprobs"), OPENAI, models=LATER, unless=NO_EFFORT),
    Rule(("presence_penalty", "frequency_penalty"), OPENAI, models=REASONERS),
)

HOSTED: dict[str, Provider] = {
    "deepseek": Provider(
        {"*": DEEPSEEK, "base_url": Known("page", "https://api-docs.deepseek.com", DAY), "n": GUESS},
        base_url="https://api.deepseek.com", hosts=("api.deepseek.com",), key_variable="DEEPSEEK_API_KEY",
        reasoning=("reasoning_content",), wire="full", logprobs="openai",
        rules=(
            Rule(SAMPLERS, DEEPSEEK, "ignored", unless=("thinking", ({"type": "disabled"},))),
            Rule(("logprobs", "top_logprobs"), DEEPSEEK, unless=("thinking", ({"type": "disabled"},))),
        ),
        limits="No headers; requests in flight are limited per account (flash 2,500, v4-pro 500).",
        notes=(Note(("deepseek-reasoner", "deepseek-chat"),
            "deepseek-reasoner and deepseek-chat were to be withdrawn on 2026-07-24; deepseek-flash and deepseek-v4-pro follow.",
            RETIRED),),
    ),
    "openrouter": Provider(
        {"*": OPENROUTER, "limits": Known("page", "https://openrouter.ai/docs/api-reference/limits", DAY)},
        base_url="https://openrouter.ai/api/v1", hosts=("openrouter.ai",), key_variable="OPENROUTER_API_KEY",
        reasoning=("reasoning", "reasoning_details"), wire="depends", logprobs="openai", logprobs_most=20, n="no",
        extra_body={"provider": {"enforce_distillable_text": True}},
        limits="X-RateLimit-Reset counts milliseconds; models ending in :free have 20 requests a minute and 50 a day.",
        notes=(Note(("*",), "OpenRouter's routes drop parameters that they do not know; "
            "extra_body = { provider = { require_parameters = true } } keeps to routes that know them all.", OPENROUTER),),
    ),
    "together": Provider(
        {"*": TOGETHER, "base_url": Known("package", "litellm 1.109.1", DAY)},
        base_url="https://api.together.ai/v1", hosts=("api.together.ai", "api.together.xyz"),
        key_variable="TOGETHER_API_KEY", reasoning=("reasoning", "reasoning_content"), wire="full",
        ceiling_key="max_tokens", logprobs="together", logprobs_most=20, n="yes", batch="together",
        rules=(Rule(("max_completion_tokens",), TOGETHER, "ignored", hint="no field of its requests, write max_tokens"),),
    ),
    "fireworks": Provider(
        {"*": FIREWORKS, "limits": Known("page", "https://docs.fireworks.ai/serverless/rate-limits", DAY)},
        base_url="https://api.fireworks.ai/inference/v1", hosts=("api.fireworks.ai",), key_variable="FIREWORKS_API_KEY",
        reasoning=("reasoning_content",), wire="full", logprobs="openai", logprobs_most=5, n="yes",
        exclusive=(
            Exclusive(("max_tokens", "max_completion_tokens"), FIREWORKS),
            Exclusive(("thinking", "reasoning_effort"), FIREWORKS),
        ),
        limits="Own headers for prompt and generated tokens; starts at 36,000 generated tokens a minute and adapts.",
        notes=(Note(("*",), "Fireworks lowers a ceiling that does not fit into the context, unless extra_body says "
            'context_length_exceeded_behavior = "error".', FIREWORKS),),
    ),
    "groq": Provider(
        {"*": GROQ, "requests_window_s": Known("page", "https://console.groq.com/docs/rate-limits", DAY)},
        base_url="https://api.groq.com/openai/v1", hosts=("api.groq.com",), key_variable="GROQ_API_KEY",
        reasoning=("reasoning", "inline"), wire="depends", logprobs="refused", n="no", batch="openai",
        rules=(
            Rule(("logprobs", "top_logprobs", "logit_bias"), GROQ_PAGE),
            Rule(("presence_penalty", "frequency_penalty", "metadata"), GROQ, "ignored"),
        ),
        exclusive=(Exclusive(("reasoning_format", "include_reasoning"), GROQ),),
        requests_window_s=86_400,
        limits="x-ratelimit-limit-requests counts a day, -tokens a minute; retry-after comes with 429 only.",
        notes=(Note(("*",), 'Where Groq puts the reasoning depends on reasoning_format: "parsed" (own field), "raw" (think tags) '
            'or "hidden" (none).', Known("page", "https://console.groq.com/docs/reasoning", DAY)),),
    ),
    "azure": Provider(
        {"*": AZURE, "reasoning": GUESS, "terms": TERMS_QUOTED, "key_variable": Known("package", "openai 3.54.0", DAY)},
        base_url_like="https://RESOURCE.openai.azure.com/openai/v1",
        hosts=("*.openai.azure.com", "*.services.ai.azure.com", "*.cognitiveservices.azure.com"),
        key_variable="AZURE_OPENAI_API_KEY", key_header="api-key", reasoning=("reasoning_content", "inline"), batch="openai",
        limits="retry-after and retry-after-ms; limits of -1 mean nothing.",
        terms="Azure's OpenAI models come under terms that restrict using their output to train competing models; read yours.",
    ),
    "bedrock": Provider(
        {"*": BEDROCK, "reasoning": GUESS, "key_variable": Known("package", "openai 3.54.0 (bedrock extra)", DAY),
         "n": Known("package", "litellm 1.109.1", DAY)},
        base_url_like="https://bedrock-runtime.REGION.amazonaws.com/openai/v1",
        hosts=("bedrock-runtime.*.amazonaws.com", "bedrock-mantle.*.api.aws"), key_variable="AWS_BEARER_TOKEN_BEDROCK",
        reasoning=("inline",), n="no",
        limits="ServiceQuotaExceededException is HTTP 400 and passes.",
    ),
    "mistral": Provider(
        {"*": MISTRAL},
        base_url="https://api.mistral.ai/v1", hosts=("api.mistral.ai",), key_variable="MISTRAL_API_KEY",
        reasoning=("content list",), wire="full", ceiling_key="max_tokens", logprobs="openai", n="yes", batch="mistral",
        rules=(
            Rule(("max_completion_tokens",), MISTRAL, "ignored", hint="no field of its requests, write max_tokens"),
            Rule(("seed",), MISTRAL, "ignored", hint="its requests call it random_seed"),
        ),
        notes=(Note(("magistral*",), 'extra_body = { prompt_mode = "reasoning" } adds the system prompt for reasoning.',
            MISTRAL),),
    ),
    "dashscope": Provider(
        {"*": DASHSCOPE, "base_url": DASHSCOPE_BATCH, "batch": DASHSCOPE_BATCH},
        base_url="https://dashscope.aliyuncs.com/compatible-mode/v1", key_variable="DASHSCOPE_API_KEY",
        hosts=("dashscope.aliyuncs.com", "dashscope-*.aliyuncs.com", "*.maas.aliyuncs.com"),
        reasoning=("reasoning_content",), wire="full", must_stream=True, batch="openai",
        notes=(Note(("*",), "At DashScope, extra_body = { enable_thinking = true } makes a hybrid model think.", DASHSCOPE),),
    ),
    "moonshot": Provider(
        {"*": MOONSHOT},
        base_url="https://api.moonshot.ai/v1", hosts=("api.moonshot.ai", "api.moonshot.cn"), key_variable="MOONSHOT_API_KEY",
        reasoning=("reasoning_content",), wire="full", n="no",
        rules=(
            Rule(("temperature",), MOONSHOT, models=("kimi-*",), but=(1,), unless=("thinking", ({"type": "disabled"},))),
            Rule(("top_p", "presence_penalty", "frequency_penalty"), MOONSHOT, "ignored", models=("kimi-*",),
                hint="the provider fixes it"),
        ),
    ),
    "openai": Provider(
        {"*": OPENAI, "terms": TERMS_QUOTED},
        base_url="https://api.openai.com/v1", hosts=("api.openai.com", "*.api.openai.com"), key_variable="OPENAI_API_KEY",
        wire="none", rules=OPENAI_RULES, ceiling_key="max_completion_tokens", logprobs="openai", logprobs_most=20, n="yes",
        batch="openai", limits="Times in x-ratelimit-reset headers are written 6m0s; the headers are missing at times.",
        terms="OpenAI's terms forbid using output to develop models that compete with its services, with exceptions; read yours.",
    ),
    "xai": Provider(
        {"*": XAI, "terms": TERMS_QUOTED},
        base_url="https://api.x.ai/v1", hosts=("api.x.ai",), key_variable="XAI_API_KEY", wire="none",
        wire_of=(("grok-3-mini*", "depends"),), reasoning=("reasoning_content",), reasoning_apart=True, n="yes",
        rules=(Rule(("stop", "frequency_penalty"), XAI, models=("grok-4*",)),),
        limits="Allow 900 s and more for a request.",
        terms="xAI's terms restrict using output to train models that compete with it; read yours.",
    ),
    "gemini": Provider(
        {"*": GEMINI, "terms": GEMINI_TERMS, "reasoning": GUESS},
        base_url="https://generativelanguage.googleapis.com/v1beta/openai", hosts=("generativelanguage.googleapis.com",),
        key_variable="GEMINI_API_KEY", reasoning=("inline",), wire="summary",
        terms="Google's terms forbid using the Gemini API to develop models that compete with it; read yours.",
    ),
    "nvidia": Provider(
        {"*": NIM, "reasoning": Known("page", "https://github.com/anomalyco/opencode/issues/13584", DAY)},
        base_url="https://integrate.api.nvidia.com/v1", hosts=("integrate.api.nvidia.com",), key_variable="NVIDIA_API_KEY",
        reasoning=("reasoning_content",), wire="depends",
    ),
}  # fmt: skip
