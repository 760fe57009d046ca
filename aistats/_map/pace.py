"""
The pace that the user sets: when the next request may be sent, for `rpm` and `tpm`.

The clock is an argument, so nothing here waits.
"""

from __future__ import annotations

import math
from typing import Any

from .._errors import ConfigurationError

__all__ = ("Pace", "estimated_tokens")


class Pace:
    """
    Two token buckets that limit requests and tokens per minute.

    Requests are spaced evenly. A burst of one second's worth, at least one request, may be sent at
    once. So any minute has at most its own number of requests and one second's worth more. Use it
    from one thread.

    Args:
        rpm: Requests per minute; `None` for no limit.
        tpm: Tokens per minute; `None` for no limit.

    Raises:
        ConfigurationError: One of them is not a positive number.
    """

    def __init__(self, rpm: float | None = None, tpm: float | None = None) -> None:
        self._requests = None if rpm is None else _Bucket("rpm", rpm)
        self._tokens = None if tpm is None else _Bucket("tpm", tpm)

    def wait(self, now: float, tokens: float = 0) -> float:
        """
        Return the seconds until the next request may be sent; 0.0 if it may be sent now.

        Args:
            now: The time, in seconds. It never decreases.
            tokens: Estimated tokens of the request (`estimated_tokens`).
        """
        seconds = 0.0
        if self._requests is not None:
            seconds = self._requests.wait(now, 1)
        if self._tokens is not None:
            seconds = max(seconds, self._tokens.wait(now, tokens))
        return seconds

    def take(self, now: float, tokens: float = 0) -> None:
        """
        Count a request that is sent. If it is sent too early, later requests wait longer.

        Args:
            now: The time, in seconds. It never decreases.
            tokens: Estimated tokens of the request.
        """
        if self._requests is not None:
            self._requests.take(now, 1)
        if self._tokens is not None:
            self._tokens.take(now, tokens)

    def correct(self, estimated: float, used: float) -> None:
        """
        Replace the *estimated* tokens of a request by the tokens that it *used*.
        """
        if self._tokens is not None:
            self._tokens.give(self._tokens.bounded(estimated) - used)


class _Bucket:
    # The level can be negative. Later requests then wait until that debt is paid.

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
        # A request larger than one minute's worth is sent alone. It costs later requests at most
        # one minute.
        return min(amount, self._per_minute)


def estimated_tokens(body: bytes, *maximums: int | None) -> int:
    """
    Return about how many tokens a request takes.

    Args:
        body: The request; four bytes count as one token.
        maximums: Limits on the length of the answer. The greatest of them counts.
    """
    return len(body) // 4 + max((each or 0 for each in maximums), default=0)
