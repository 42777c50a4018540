"""What a person should know of a teacher while it answers: hidden reasoning, things asked for and not given, strange bills."""

from __future__ import annotations

from r1distill.asking.desk import Desk, Terms
from r1distill.asking.owed import Wanted
from r1distill.records import Trace
from r1distill.teachers.asked import Asked
from r1distill.teachers.hiding import ReasoningWatch, kind_of
from r1distill.teachers.money import most_prompt_tokens, worst_case_usd
from r1distill.teachers.replies import Reply


class Noticing:
    """Looks at each answer of one teacher; tells each thing once."""

    def __init__(self, name: str, desk: Desk, terms: Terms) -> None:
        self.name, self._desk, self._price = name, desk, terms.price
        self._asked, self._watch = Asked(), ReasoningWatch()
        self._watch.settled = not terms.for_traces or any(_shows_reasoning(trace) for trace in terms.recent)
        self._told_cost = False

    @property
    def settled(self) -> bool:
        """True when it is known whether the teacher shows its reasoning."""
        return self._watch.settled

    def look(self, item: Wanted, reply: Reply, trace: Trace, alternatives: int | None) -> str | None:
        """Tell what this answer shows; returns the sentence on hidden reasoning when this is the one that decides it.

        `alternatives`: how many log-probabilities came for a token at most; None: unknown.
        """
        came = reply.logprobs is not None
        for text in self._asked.see(trace, reply.choices, came, alternatives, self._desk.top_logprobs):
            self._warn(text)
        self._look_at_cost(item, trace)
        summary = str(trace.extras.get("reasoning_summary", ""))
        found = self._watch.see(
            trace.reasoning, trace.reasoning_source, trace.usage.reasoning_tokens, summary
        )
        if found is None:
            return None
        self._warn(found.sentence(self.name))
        return found.sentence(self.name)

    def _look_at_cost(self, item: Wanted, trace: Trace) -> None:
        """Tell when a teacher bills more than any request of ours can use: then no budget can be kept."""
        most = worst_case_usd(item.messages, item.max_tokens, self._price)
        too_much = most is not None and trace.cost_usd is not None and trace.cost_usd > most * 1.001
        if too_much and not self._told_cost:
            self._told_cost = True
            self._warn(
                f"Teacher {self.name} bills more than a request can use (trace {trace.id[:12]}: "
                f"{trace.usage.prompt_tokens} prompt and {trace.usage.completion_tokens} completion tokens, at most "
                f"{most_prompt_tokens(item.messages)} and {item.max_tokens} were expected): budget_usd can't be kept with it."
            )

    def _warn(self, text: str) -> None:
        if text not in self._desk.tally.warnings:
            self._desk.tally.warnings.append(text)
            self._desk.show.note(text)


def _shows_reasoning(trace: Trace) -> bool:
    summary = str(trace.extras.get("reasoning_summary", ""))
    return kind_of(trace.reasoning, trace.reasoning_source, trace.usage.reasoning_tokens, summary) is None
