"""
The budget of a run and its retries: what is used, and what the requests in flight may still use.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from decimal import Decimal
from typing import Final

from .._exchange import Attempt
from .._options import Budget

__all__ = ("Spending", "cut_answers")

_UNKNOWN: Final = 4
_LATEST: Final = 200
_HIGHEST_FACTOR: Final = 10


class Spending:
    """
    Says whether a budget allows another request.

    Each request in flight reserves as much as the most expensive of the last 200 answers cost. With
    fewer answers it reserves more, as 200 to their number, at most ten times as much. At most 4
    requests are in flight before the first answer. A request that needs more than what is left
    waits until no other is in flight. So a run uses at most its budget and one request, if no
    request costs more than what is reserved for it.

    Args:
        budget: The limits.
    """

    def __init__(self, budget: Budget) -> None:
        self.seconds = budget.seconds
        """Seconds that are left of the budget; `None` for no limit."""
        self._limit_of_seconds = budget.seconds
        self._accounts: list[_Account] = []
        if budget.usd is not None:
            self._accounts.append(_Account("USD", Decimal(str(budget.usd)), str(budget.usd)))
        if budget.tokens is not None:
            self._accounts.append(_Account("tokens", Decimal(budget.tokens), str(budget.tokens)))

    @property
    def counts_answers(self) -> bool:
        """
        Whether answers use up the budget.
        """
        return bool(self._accounts)

    def answered(self, cost: Decimal | None, tokens: int) -> None:
        """
        Count an answer that had *cost*, if it had a price, and took *tokens*; 0 if it doesn't say.
        """
        for account in self._accounts:
            account.add(cost if account.unit == "USD" else Decimal(tokens) if tokens else None)

    def lost(self, count: int) -> None:
        """
        Count *count* answers that were cut. Each counts as much as a whole answer does on average.
        """
        for account in self._accounts:
            account.lost += count

    def passed(self, seconds: float) -> None:
        """
        Count the *seconds* that a run took.
        """
        if self.seconds is not None:
            self.seconds = max(0.0, self.seconds - seconds)

    def used_up(self) -> str | None:
        """
        Return which limit is reached, in words; `None` if none is.
        """
        if self.seconds is not None and self.seconds <= 0:
            return self.out_of_time
        for account in self._accounts:
            if account.used >= account.limit:
                used, limit = account.used, account.shown_limit
                return f"budget: {used} of {limit} {account.unit} are used up"
        return None

    @property
    def out_of_time(self) -> str:
        """
        Why a run stops whose seconds are over.
        """
        return f"budget: {self._limit_of_seconds} seconds are over"

    def has_room(self, in_flight: int) -> bool:
        """
        Return whether one more request may be sent while *in_flight* requests are.
        """
        return in_flight == 0 or all(each.has_room(in_flight) for each in self._accounts)


class _Account:
    """
    What is used of one limit.
    """

    def __init__(self, unit: str, limit: Decimal, shown_limit: str) -> None:
        self.unit = unit
        self.limit = limit
        self.shown_limit = shown_limit
        self.lost = 0
        self._sum = Decimal(0)
        self._answers = 0
        self._known = 0
        self._latest: deque[Decimal] = deque(maxlen=_LATEST)

    @property
    def used(self) -> Decimal:
        """
        What all answers used, those that were cut among them.
        """
        if not self.lost or not self._known:
            return self._sum
        return self._sum + (self._sum * self.lost / self._known).quantize(Decimal("1e-9"))

    def add(self, amount: Decimal | None) -> None:
        """
        Count an answer that used *amount*; `None` if that is not known.
        """
        self._answers += 1
        if amount is not None:
            self._known += 1
            self._sum += amount
            self._latest.append(amount)

    def has_room(self, in_flight: int) -> bool:
        """
        Return whether what is left is enough for one more request than *in_flight*.
        """
        if not self._answers:
            return in_flight < _UNKNOWN
        if not self._latest:
            return True  # nobody says what an answer costs
        known = len(self._latest)
        factor = min(Decimal(_HIGHEST_FACTOR), Decimal(_LATEST) / known)
        return self.used + (in_flight + 1) * max(self._latest) * factor <= self.limit


def cut_answers(attempts: Iterable[Attempt]) -> int:
    """
    Return how many of *attempts* had an answer that began and was cut. These are billed.
    """
    return sum(each.status == 200 and each.reason is not None for each in attempts)
