"""
Answers that a run has or will have without another request: of duplicates, and of its checkpoint.
"""

from __future__ import annotations

from collections import OrderedDict

from .._views.completion import ChatCompletionsResponse
from .checkpoint import Checkpoint
from .outcome import Outcome
from .source import Item

__all__ = ("KnownAnswers",)

_KEPT_FOR_DUPLICATES = 256


class KnownAnswers:
    """
    Finds the answer to a row, or the row with the same request that is being asked.

    Args:
        answers: Answers of an earlier run, by the hash of their request.
        dedup: Whether rows with the same request share one answer.
        keeps_all: Whether all answers are kept; otherwise only the latest.
    """

    def __init__(
        self, answers: OrderedDict[str, ChatCompletionsResponse], *, dedup: bool, keeps_all: bool
    ) -> None:
        self.answers = answers
        self.checkpoint: Checkpoint | None = None
        self.following = 0
        """How many rows wait for the answer to another row."""
        self._dedup = dedup
        self._keeps_all = keeps_all
        self._leaders: dict[str, Item] = {}

    def find(self, item: Item) -> ChatCompletionsResponse | None:
        """
        Return the answer to *item*; `None` if there is none yet.
        """
        if self.checkpoint is not None and item.key is not None:
            response = self.checkpoint.find(item.key, item.request_hash)
            if response is not None:
                item.is_noted = True
                return response
        if not self._dedup:
            return None
        response = self.answers.get(item.request_hash)
        if response is None and self.checkpoint is not None and item.request_hash:
            response = self.checkpoint.find_same(item.request_hash)
        return response

    def follow(self, item: Item) -> bool:
        """
        Return whether the request of *item* is being asked already. Then *item* gets that answer.
        Otherwise, later rows with the same request follow *item*.
        """
        if not self._dedup:
            return False
        leader = self._leaders.setdefault(item.request_hash, item)
        if leader is item:
            return False
        leader.followers.append(item)
        self.following += 1
        return True

    def answered(self, item: Item, response: ChatCompletionsResponse) -> None:
        """
        Keep the answer to *item* for rows with the same request.
        """
        if self._dedup:
            self.answers[item.request_hash] = response
            if not self._keeps_all and len(self.answers) > _KEPT_FOR_DUPLICATES:
                self.answers.popitem(last=False)

    def release(self, item: Item) -> None:
        """
        Let no more rows follow *item*.
        """
        if self._leaders.get(item.request_hash) is item:
            del self._leaders[item.request_hash]
            self.following -= len(item.followers)

    def note(self, item: Item, outcome: Outcome) -> None:
        """
        Write *outcome* to the checkpoint, unless it is there.

        Raises:
            ConfigurationError: The file can't be written.
        """
        if self.checkpoint is None or item.key is None or item.is_noted:
            return
        self.checkpoint.add(
            item.key,
            item.request_hash,
            item.index,
            outcome.unwrap() if outcome.error is None else outcome.error,
            outcome.attempts,
            outcome.timing,
        )

    def close(self) -> None:
        """
        Close the checkpoint, from any thread.
        """
        if self.checkpoint is not None:
            self.checkpoint.close()
