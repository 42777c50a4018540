"""Which answers a recipe wants, by slot, and which of them are still owed.

Nothing here grows with the answers that are there: a plan holds one byte per wanted answer, and renders the messages of
what is owed only when they are asked for.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator
from itertools import islice
from typing import Any, NamedTuple

from r1distill.asking.parties import Party, numbers_for, teacher_parties
from r1distill.index import Index
from r1distill.queries import Standing, batched
from r1distill.recipe import Recipe
from r1distill.recipe_sections import EscalateSection
from r1distill.records import CEILING_KEYS, Message, Prompt, split_ceiling
from r1distill.run import LedgerName

SETTLED, OWED, HIGHER, FAILED, OUT, OTHER, PASSED = range(7)
"""What a plan knows of a wanted answer: it is there; owed; owed with the ceiling of an escalation; failed for good; out in a
batch; not ours to ask (another shard's, the same words as an earlier problem, or left to another teacher); owed, but given
up by this teacher for now.
"""
LOOKUP = 400
"""Slots looked up at a time."""


class Wanted(NamedTuple):
    """One answer that a recipe wants."""

    slot: str
    prompt_id: str
    sample: int
    teacher: str
    model: str
    messages: list[Message]
    sampling: dict[str, Any]
    """As in the recipe, ceiling included."""
    escalated: bool = False
    """The ceiling is the one of an escalation."""

    @property
    def max_tokens(self) -> int | None:
        """The ceiling to ask with, in tokens."""
        return split_ceiling(self.sampling)[1]

    def with_ceiling(self, max_tokens: int) -> Wanted:
        """The same answer, asked once more with a higher ceiling."""
        ceilings = {key: max_tokens for key in CEILING_KEYS if key in self.sampling}
        return self._replace(sampling={**self.sampling, **ceilings}, escalated=True)


def want(party: Party, prompt: Prompt, messages: list[Message], sample: int) -> Wanted:
    """One wanted answer, with its slot."""
    slot = party.slot(party.said(messages), sample)
    return Wanted(slot, prompt.id, sample, party.name, party.model, messages, party.sampling)


def escalated(max_tokens: int | None, escalate: EscalateSection | None) -> int | None:
    """The ceiling to ask once more with after an answer was cut at `max_tokens`; None: there is none."""
    if max_tokens is None or escalate is None:
        return None
    higher = min(int(max_tokens * escalate.factor), escalate.max_tokens)
    return higher if higher > max_tokens else None


def state_of(max_tokens: int | None, have: Standing | None, escalate: EscalateSection | None = None) -> int:
    """SETTLED, OWED or HIGHER, for a slot to be asked with the ceiling `max_tokens`.

    Settled is a slot with a whole answer, or with one that was cut by a ceiling no lower than today's; where the recipe
    escalates, no lower than the ceiling of that.
    """
    if have is None:
        return OWED
    if have.whole or have.unbounded:
        return SETTLED
    if max_tokens is None or have.ceiling is None or have.ceiling < max_tokens:
        return OWED
    higher = escalated(max_tokens, escalate)
    return HIGHER if higher is not None and have.ceiling < higher else SETTLED


class Plan:
    """What is owed of a list of problems: counts at once, the answers themselves one by one (`items`)."""

    def __init__(
        self,
        prompts: Iterable[Prompt],
        parties: list[Party],
        samples: int,
        assign: str = "all",
        escalate: EscalateSection | None = None,
    ) -> None:
        self.prompts, self.parties, self.samples, self.assign = prompts, parties, samples, assign
        self.escalate = escalate
        self.states = bytearray()
        """One of the states above for each wanted answer, in the order of problems, samples, teachers."""
        self.whom = bytearray()
        """The number of the teacher of each."""

    def look(
        self,
        index: Index,
        ledger: LedgerName,
        *,
        retry_failed: bool = False,
        mine: Callable[[str], bool] = lambda slot: True,
        out: Collection[str] = (),
        passed: Collection[str] = (),
        gone: Collection[str] = (),
    ) -> Plan:
        """Find out what is owed by the ledgers as the index knows them. `mine(slot)` tells what belongs to this shard, `out`
        are slots that wait in batches; with a fallback, `passed` are slots and `gone` teachers that were left to the next
        one. Returns the plan itself.
        """
        self.states, self.whom = bytearray(), bytearray()
        failed = set() if retry_failed else index.final_failures(ledger)
        for chunk in batched(self._slots(mine), LOOKUP):
            found = index.standing(ledger, [slot for slot, _ in chunk if slot])
            for slot, number in chunk:
                party = self.parties[number]
                state = state_of(party.max_tokens, found.get(slot), self.escalate) if slot else OTHER
                if state in (OWED, HIGHER):
                    left = slot in passed or party.name in gone
                    state = FAILED if slot in failed else OUT if slot in out else PASSED if left else state
                self.states.append(state)
                self.whom.append(number)
        if self.assign == "fallback":
            self._leave_to_one(len(self.parties))
        return self

    def _leave_to_one(self, width: int) -> None:
        """Of the teachers for one answer: one that has it, else the first that can still be asked."""
        for start in range(0, len(self.states), width):
            group = self.states[start : start + width]
            best = next(
                (
                    s
                    for wish in ((SETTLED, OUT), (OWED, HIGHER), (PASSED,), (FAILED,))
                    for s in group
                    if s in wish
                ),
                OTHER,
            )
            keep = group.index(best)
            self.states[start : start + width] = bytes(s if n == keep else OTHER for n, s in enumerate(group))

    @property
    def had(self) -> int:
        """Wanted answers that are there or failed for good."""
        return self.states.count(SETTLED) + self.had_failed

    @property
    def had_failed(self) -> int:
        """Wanted answers that failed for good earlier."""
        return self.states.count(FAILED)

    @property
    def out(self) -> int:
        """Wanted answers that wait in a batch."""
        return self.states.count(OUT)

    @property
    def still_owed(self) -> int:
        """Wanted answers to be asked for, those that were passed over included."""
        return sum(self.states.count(state) for state in (OWED, HIGHER, PASSED))

    @property
    def wanted(self) -> int:
        """Distinct answers that are wanted."""
        return self.had + self.out + self.still_owed

    def left(self, chosen: Collection[int] | None = None) -> Counter[str]:
        """Answers to ask for now, by teacher; of the `chosen` positions only."""
        positions = range(len(self.states)) if chosen is None else chosen
        numbers = Counter(self.whom[at] for at in positions if self.states[at] in (OWED, HIGHER))
        return Counter({self.parties[number].name: count for number, count in sorted(numbers.items())})

    def _slots(self, mine: Callable[[str], bool]) -> Iterator[tuple[str, int]]:
        """(slot, teacher's number) of every wanted answer; "" for what is not ours to ask."""
        seen: set[int] = set()
        for prompt in self.prompts:
            said: dict[int, bytes] = {}
            repeated: set[int] = set()
            for sample in range(self.samples):
                ours = ""
                for number in self._asked(prompt, sample):
                    if number not in said:
                        said[number] = self.parties[number].said(
                            self.parties[number].template.messages(prompt)
                        )
                        mark = hash((number, said[number]))
                        if mark in seen:
                            repeated.add(number)
                        seen.add(mark)
                    slot = self.parties[number].slot(said[number], sample)
                    # With a fallback all teachers of an answer belong to one shard.
                    ours = ours if ours and self.assign == "fallback" else slot
                    yield ("" if number in repeated or not mine(ours) else slot), number

    def _asked(self, prompt: Prompt, sample: int) -> list[int]:
        return numbers_for(self.parties, self.assign, prompt, sample)

    def items(self, teacher: str, chosen: Collection[int] | None = None) -> Iterator[Wanted]:
        """What is to be asked of one teacher, one after the other, rendered as it is taken; of `chosen` positions only."""
        number = next(n for n, party in enumerate(self.parties) if party.name == teacher)
        party, start = self.parties[number], 0
        for prompt in self.prompts:
            messages: list[Message] | None = None
            for sample in range(self.samples):
                width = len(self.parties) if self.assign in ("all", "fallback") else 1
                for at in range(start, start + width):
                    due = self.whom[at] == number and self.states[at] in (OWED, HIGHER)
                    if due and (chosen is None or at in chosen):
                        messages = messages if messages is not None else party.template.messages(prompt)
                        yield self._item(want(party, prompt, messages, sample), self.states[at])
                start += width

    def _item(self, item: Wanted, state: int) -> Wanted:
        higher = escalated(item.max_tokens, self.escalate) if state == HIGHER else None
        return item if higher is None else item.with_ceiling(higher)

    def with_others(self, chosen: set[int]) -> set[int]:
        """With a fallback: the positions of all teachers for the chosen answers, so that a later round finds them too."""
        if self.assign != "fallback":
            return chosen
        width = len(self.parties)
        return {at - at % width + n for at in chosen for n in range(width)}

    def first(self, count: int) -> set[int]:
        """The first `count` positions of answers to ask for."""
        due = (at for at, state in enumerate(self.states) if state in (OWED, HIGHER))
        return set(islice(due, max(0, count)))

    def spread(self, count: int) -> set[int]:
        """`count` positions of answers to ask for, evenly spread over all of them."""
        due = [at for at, state in enumerate(self.states) if state in (OWED, HIGHER)]
        count = min(count, len(due))
        return {due[number * len(due) // count] for number in range(count)}


def harvest_plan(recipe: Recipe, prompts: Iterable[Prompt]) -> Plan:
    """The plan of the recipe's harvest, not yet looked up. Raises RecipeError for a teacher that is not complete."""
    section = recipe.harvest
    return Plan(prompts, teacher_parties(recipe), section.samples, section.assign, section.escalate)


def harvest_wanted(recipe: Recipe, prompts: Iterable[Prompt]) -> Iterator[Wanted]:
    """Every answer that the recipe's harvest wants (of every teacher that may give it), in the order of the plan."""
    parties = teacher_parties(recipe)
    for prompt in prompts:
        rendered: dict[int, list[Message]] = {}
        for sample in range(recipe.harvest.samples):
            for number in numbers_for(parties, recipe.harvest.assign, prompt, sample):
                party = parties[number]
                if number not in rendered:
                    rendered[number] = party.template.messages(prompt)
                yield want(party, prompt, rendered[number], sample)


def owed(wanted: Iterable[Wanted], index: Index, ledger: LedgerName) -> list[Wanted]:
    """Those of a list of wanted answers that are still to be asked; a slot that is wanted twice is owed once."""
    failed = index.final_failures(ledger)
    left: dict[str, Wanted] = {}
    for chunk in batched(wanted, LOOKUP):
        found = index.standing(ledger, [item.slot for item in chunk])
        for item in chunk:
            due = state_of(item.max_tokens, found.get(item.slot)) != SETTLED
            if due and item.slot not in failed:
                left.setdefault(item.slot, item)
    return list(left.values())
