"""
Outcomes of a run until they are taken: their order, and how many may wait.
"""

from __future__ import annotations

from collections import deque

from .outcome import Outcome
from .source import Item

__all__ = ("Outbox",)


_FOLLOWERS = 20
"""How many rows may wait for the answers to others, in windows."""


class Outbox:
    """
    Holds outcomes, in the order in which they are handed out.

    Args:
        is_ordered: Whether outcomes come in the order of their rows, or as they finish.
        keeps: Whether all outcomes are kept, and none handed out.
        window: How many rows may be on their way or wait to be taken.
    """

    def __init__(self, *, is_ordered: bool, keeps: bool, window: int) -> None:
        self.kept: list[Outcome] = []
        self.ready: deque[Outcome] = deque()
        """Outcomes that can be taken."""
        self.unstarted: list[Item] = []
        """Rows that were never asked."""
        self.keeps = keeps
        self.submitted = 0
        """How many rows have been submitted."""
        self._is_ordered = is_ordered
        self._window = window
        self._delivered = 0
        self._next_position = 0
        self._early: dict[int, Outcome | None] = {}
        """Outcomes whose turn has not come; `None` for a row that was never asked."""

    def room(self, following: int = 0) -> int:
        """
        Return how many more rows may be on their way. Of those, *following* rows wait for the
        answer to another row, and take no room up to a limit: the duplicates of a slow request
        don't hold back other rows. In input order, those come later anyway.
        """
        is_held_back = self._is_ordered and not self.keeps
        free = 0 if is_held_back else min(following, _FOLLOWERS * self._window)
        return self._window - (self.submitted - self._delivered - free)

    def put(self, item: Item, outcome: Outcome) -> None:
        """
        Take the outcome of *item*.
        """
        if self.keeps:
            self._delivered += 1
            self.kept.append(outcome)
        else:
            self._put(item, outcome)

    def skip(self, item: Item) -> None:
        """
        Take *item* as a row that was never asked. It has no outcome.
        """
        self._delivered += 1
        self.unstarted.append(item)
        if not self.keeps:
            self._put(item, None)

    def take(self) -> list[Outcome]:
        """
        Return all outcomes that are ready. `delivered` counts them once the caller is done.
        """
        outcomes = list(self.ready)
        self.ready.clear()
        return outcomes

    def delivered(self, count: int) -> None:
        """
        Make room for *count* rows, whose outcomes the caller has taken.
        """
        self._delivered += count

    def end(self) -> None:
        """
        Hand out the outcomes that come after a row that was never asked.
        """
        late = (outcome for _, outcome in sorted(self._early.items()))
        self.ready.extend(outcome for outcome in late if outcome is not None)
        self._early.clear()

    def _put(self, item: Item, outcome: Outcome | None) -> None:
        if not self._is_ordered:
            if outcome is not None:
                self.ready.append(outcome)
            return
        self._early[item.position] = outcome
        while self._next_position in self._early:
            outcome = self._early.pop(self._next_position)
            self._next_position += 1
            if outcome is not None:
                self.ready.append(outcome)
