"""One exchange with a teacher: the body to send, and the row that its outcome becomes. Pure: values in, values out."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any

from r1distill.asking.owed import Wanted
from r1distill.errors import StopRunError
from r1distill.records import Failure, Trace, split_ceiling, trace_id_of
from r1distill.teachers.refusals import Action, Refusal
from r1distill.teachers.replies import Reply

ADVICE = {
    "key": "check the key and its rights",
    "money": "top up the account",
    "quota": "raise the quota or top up the account",
    "not_found": "check model and base_url",
    "refused_request": "change what the recipe sends (sampling, extra_body)",
    "refused_parameter": "change what the recipe sends (sampling, extra_body)",
    "redirect": "use the address that it redirects to as base_url",
}
NOTHING: Mapping[str, Any] = MappingProxyType({})
GOES_ON = "Everything received so far is kept; run again to go on."


def request_body(item: Wanted, more: Mapping[str, Any] = NOTHING) -> dict[str, Any]:
    """The JSON of one request, without the model; a seed becomes seed + sample number, so that samples differ.

    `more` are further fields that are no part of the slot (log-probabilities).
    """
    body: dict[str, Any] = {
        "messages": [{"role": m.role, "content": m.content} for m in item.messages],
        **item.sampling,
        **more,
    }
    for seed in ("seed", "random_seed"):  # Mistral's word
        if isinstance(body.get(seed), int):
            body[seed] += item.sample
    return body


def trace_of(item: Wanted, reply: Reply, cost: float | None, attempts: int, latency_s: float) -> Trace:
    """The trace of a reply."""
    rest, ceiling = split_ceiling(item.sampling)
    return Trace(
        id=trace_id_of(item.slot, ceiling), slot=item.slot, prompt_id=item.prompt_id, sample=item.sample,
        teacher=item.teacher, model=item.model, messages=item.messages,
        reasoning=reply.split.reasoning, answer=reply.split.answer, finish=reply.finish, sampling=rest, max_tokens=ceiling,
        usage=reply.usage, cost_usd=cost, latency_s=round(latency_s, 3), attempts=attempts, model_answered=reply.model,
        reasoning_source=reply.split.source, created=now(), extras=dict(reply.extras),
    )  # fmt: skip


def failure_of(item: Wanted, refused: Refusal, attempts: int) -> Failure:
    """The row of a request that was given up."""
    return Failure(
        slot=item.slot, prompt_id=item.prompt_id, sample=item.sample, teacher=item.teacher,
        error_class=refused.error_class, http_status=refused.status, attempts=attempts,
        final=refused.action is Action.FINAL, message=refused.message, created=now(),
    )  # fmt: skip


def stop_error(teacher: str, base_url: str, refused: Refusal) -> StopRunError:
    """Why the run stops at a refusal, in a sentence with advice."""
    said = f"{refused.error_class}: {refused.message}".rstrip(": .")
    if refused.error_class == "unreachable":
        return StopRunError(
            f"Teacher {teacher} can't be reached at {base_url} ({refused.message}); check base_url and the network. {GOES_ON}"
        )
    status = f" (HTTP {refused.status})" if refused.status else ""
    advice = refused.advice or ADVICE.get(refused.error_class, "see failures.jsonl")
    return StopRunError(f"Teacher {teacher} refuses to answer{status}, {said}; {advice}. {GOES_ON}")


def hiding_error(said: str) -> StopRunError:
    """Why the run stops at a teacher that shows no reasoning, where the recipe requires it."""
    return StopRunError(
        f'{said} The recipe says harvest.reasoning = "required", so the harvest stops here. {GOES_ON}'
    )


def all_final_error(teacher: str, count: int, refused: Refusal) -> StopRunError:
    """Why the run stops when nothing but requests that can never be answered came back."""
    said = f"{refused.error_class}: {refused.message}".rstrip(": .")
    return StopRunError(
        f"Teacher {teacher} has answered nothing, and {count} problems can't be answered at all; the last one was {said}. "
        "Change the recipe (sampling.max_tokens, the template, the problems), then harvest --retry-failed."
    )


def no_answer_error(teacher: str, silent_s: float, refused: Refusal) -> StopRunError:
    """Why the run stops when one request after the other was given up."""
    said = f"{refused.error_class}: {refused.message}".rstrip(": .")
    return StopRunError(
        f"Teacher {teacher} has given no answer for {silent_s / 60:.0f} minutes; the last failure was {said}. {GOES_ON}"
    )


def now() -> str:
    """The UTC time as RFC 3339, to the second."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
