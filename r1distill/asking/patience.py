"""When a teacher's refusals are its problems' fault, and when they are the recipe's, so that asking on makes no sense.

In: each outcome of a request. Out: rows for the failures ledger (through `note`), and the reason to stop, if there is one.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from r1distill.asking.exchange import all_final_error, no_answer_error, stop_error
from r1distill.asking.owed import Wanted
from r1distill.errors import StopRunError
from r1distill.teachers.refusals import Action, Refusal

SILENT_S, SILENT_ITEMS = 300.0, 20
"""A lane stops when so many requests in a row were given up and the last answer is so many seconds ago."""
REFUSED_ITEMS = 3
"""So many requests must be refused, and none answered, before a refusal that names no parameter is the recipe's fault."""
FINAL_ITEMS, FINAL_ITEMS_LATER = 20, 200
"""So many items in a row that can never be answered are the recipe's fault as well: when none was before; when some were."""
Note = Callable[[Wanted, Refusal, int], None]
"""Puts a request that was given up, with its number of attempts, into the failures ledger."""


class Patience:
    """With one teacher in an asking run."""

    def __init__(self, name: str, base_url: str, useful: bool, note: Note) -> None:
        self.name, self.base_url, self.useful = name, base_url, useful
        """`useful`: it gave a usable answer, in this run or an earlier one: what it refuses then may be the item's fault."""
        self._note = note
        self._answered_at = time.monotonic()
        self._given_up = self._refused = self._finals = 0
        self.doubt: StopRunError | None = None
        """Why to stop if nothing is ever answered."""
        self._doubtful: list[tuple[Wanted, Refusal, int]] = []
        """Refused, though others were answered before: by problem or by recipe, the next answer tells."""

    def answered(self) -> None:
        """A usable answer came: what was refused before it are problems that the teacher does not take."""
        self.useful = True
        self._given_up, self._finals, self._answered_at = 0, 0, time.monotonic()
        doubtful, self._doubtful = self._doubtful, []
        for item, refused, attempts in doubtful:
            refused.action, refused.error_class = Action.FINAL, "invalid_item"
            self._note(item, refused, attempts)

    def refused(
        self, item: Wanted, refused: Refusal, attempts: int, ever_answered: bool
    ) -> StopRunError | None:
        """A request was given up; returns the reason to stop, if that is one. `ever_answered`: anything ever came back."""
        if refused.error_class == "refused_request" and self.useful:
            self._doubtful.append((item, refused, attempts))
        else:
            self._note(item, refused, attempts)
            self._given_up += refused.action is not Action.FINAL
            self._finals += refused.action is Action.FINAL
        return self._reason_to_stop(refused, ever_answered)

    def end(self) -> None:
        """Nothing more is asked: what was refused, and nothing was answered after it, stays owed."""
        doubtful, self._doubtful = self._doubtful, []
        for item, refused, attempts in doubtful:
            refused.action = Action.RETRY
            self._note(item, refused, attempts)

    def _reason_to_stop(self, refused: Refusal, ever_answered: bool) -> StopRunError | None:
        if refused.action is Action.FINAL:
            most = FINAL_ITEMS_LATER if self.useful else FINAL_ITEMS
            return all_final_error(self.name, self._finals, refused) if self._finals >= most else None
        if refused.error_class == "no_api" and not self.useful:
            self._refused += 1
            return stop_error(self.name, self.base_url, refused) if self._refused >= REFUSED_ITEMS else None
        if refused.action is Action.STOP or (refused.error_class == "unreachable" and not ever_answered):
            return self._refusal_to_stop_at(refused)
        silent_s = time.monotonic() - self._answered_at
        if self._given_up >= SILENT_ITEMS and silent_s >= SILENT_S:
            return no_answer_error(self.name, silent_s, refused)
        return None

    def _refusal_to_stop_at(self, refused: Refusal) -> StopRunError | None:
        """A request that no retry can help, unless it may be one strange problem among good ones."""
        stop = stop_error(self.name, self.base_url, refused)
        if refused.error_class != "refused_request":
            return stop
        if self.useful:
            return stop if len(self._doubtful) >= FINAL_ITEMS else None
        self._refused, self.doubt = self._refused + 1, stop
        return stop if self._refused >= REFUSED_ITEMS else None
