"""
Rates that the user sets for a run.
"""

from __future__ import annotations

import math
from typing import Any

from .._errors import ConfigurationError

__all__ = ("Pace", "estimated_tokens")


class Pace:
    """
    When each request may be sent, for so many requests and tokens a minute: two token buckets.

    Requests are spaced evenly. A second's worth may go at once, and at the least one request; so a
    minute has no more than its own and a second's. It is for one thread.

    Args:
        rpm: Requests a minute; `None` for any number.
        tpm: Tokens a minute, likewise.

    Raises:
        ConfigurationError: One of them is not a positive number.
    """

    def __init__(self, rpm: float | None = None, tpm: float | None = None) -> None:
        self._requests = None if rpm is None else _Bucket("rpm", rpm)
        self._tokens = None if tpm is None else _Bucket("tpm", tpm)

    def wait(self, now: float, tokens: float = 0) -> float:
        """
        Seconds until the next request may be sent; 0.0 if it may be now.

        Args:
            now: The time, in seconds; never less than it was.
            tokens: How many it is thought to take (`estimated_tokens`).
        """
        seconds = 0.0
        if self._requests is not None:
            seconds = self._requests.wait(now, 1)
        if self._tokens is not None:
            seconds = max(seconds, self._tokens.wait(now, tokens))
        return seconds

    def take(self, now: float, tokens: float = 0) -> None:
        """
        Count a request that is sent. If its time had not come, those after it wait for longer.

        Args:
            now: The time, in seconds; never less than it was.
            tokens: How many it is thought to take.
        """
        if self._requests is not None:
            self._requests.take(now, 1)
        if self._tokens is not None:
            self._tokens.take(now, tokens)

    def correct(self, estimated: float, used: float) -> None:
        """
        Count what a request *used* in place of what it had been *estimated* to take; 0 if it took
        nothing.
        """
        if self._tokens is not None:
            self._tokens.give(self._tokens.bounded(estimated) - used)


class _Bucket:
    # What is taken may be more than there is: it is a debt then, and the next ones wait for it.

    __slots__ = ("_capacity", "_level", "_now", "_per_minute")

    def __init__(self, name: str, per_minute: Any) -> None:
        is_number = isinstance(per_minute, int | float) and not isinstance(per_minute, bool)
        if not is_number or not 0 < per_minute < math.inf:
            raise ConfigurationError(f"{name} must be a positive number; not {per_minute!r}")
        self._per_minute: float = float(per_minute)
        self._capacity = max(1.0, self._per_minute / 60)
        self._level = self._capacity
        self._now: float | None = None

    def wait(self, now: float, amount: float) -> float:
        self._fill(now)
        needed = min(self.bounded(amount), self._capacity) - self._level
        return max(0.0, needed * 60 / self._per_minute)

    def take(self, now: float, amount: float) -> None:
        self._fill(now)
        self._level -= self.bounded(amount)

    def _fill(self, now: float) -> None:
        if self._now is not None:
            self.give((now - self._now) * self._per_minute / 60)
        self._now = now

    def give(self, amount: float) -> None:
        self._level = min(self._capacity, self._level + amount)

    def bounded(self, amount: float) -> float:
        # What takes more than a minute's worth can only be sent by itself; nobody waits longer.
        return min(amount, self._per_minute)


def estimated_tokens(body: bytes, *most: int | None) -> int:
    """
    About how many tokens a request takes: one for each four bytes of its *body*, and all that the
    answer may have, the greatest of *most*, where that is known.
    """
    return len(body) // 4 + max((each or 0 for each in most), default=0)
