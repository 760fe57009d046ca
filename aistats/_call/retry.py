"""
What errors and headers say about retries, and the budget of a client's retries.

`RetryPolicy` in `_options` decides whether to retry and how long to wait; `attempts` asks it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime

from .._errors import APIConnectionError, APIStatusError
from .._options import SPENT_CODES
from .._views import upstream

__all__ = ("RetryBudget", "is_local", "is_throttle", "retry_after")


class RetryBudget:
    """
    Limits a client's retries, so that an outage does not multiply the load.

    The budget starts full. A retry takes one token, and an answer returns half a token.
    """

    __slots__ = ("_capacity", "_tokens")

    def __init__(self, capacity: float = 100.0) -> None:
        self._capacity = capacity
        self._tokens = capacity

    def take(self) -> bool:
        """
        Take the token for one retry; `False` if there is none.
        """
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True

    def give_back(self) -> None:
        """
        Return half a token, for an answer.
        """
        self._tokens = min(self._capacity, self._tokens + 0.5)


def retry_after(headers: Mapping[str, str], now: datetime) -> float | None:
    """
    Return the seconds to wait that *headers* ask for, at the time *now*; `None` if they ask for
    nothing sensible.

    `retry-after-ms` is milliseconds; `Retry-After` is seconds or an HTTP date (RFC 9110, section
    10.2.3).
    """
    milliseconds = _seconds(headers.get("retry-after-ms"))
    if milliseconds is not None:
        return milliseconds / 1000
    value = headers.get("retry-after")
    seconds = _seconds(value)
    if seconds is not None or value is None:
        return seconds
    from email.utils import parsedate_to_datetime  # it takes longer to load than all of this

    try:
        then = parsedate_to_datetime(value)
    except (ValueError, OverflowError):
        return None
    if then.tzinfo is None:
        then = then.replace(tzinfo=UTC)
    return max(0.0, (then - now).total_seconds())


_NUMBER = r"[0-9]+(\.[0-9]+)?"  # float() reads more than HTTP knows


def _seconds(value: str | None) -> float | None:
    if value is None or re.fullmatch(_NUMBER, value := value.strip()) is None:
        return None
    seconds = float(value)
    return seconds if seconds < float("inf") else None


def is_local(error: BaseException) -> bool:
    """
    Return whether *error* comes from a limit of this process or machine.
    """
    return isinstance(error, APIConnectionError) and error.is_local


def is_throttle(error: BaseException) -> bool:
    """
    Return whether *error* is a rejection as too fast: a 429, or a 502 for a provider that was
    rate-limited.

    An exhausted quota is a 429 as well, but waiting does not help.
    """
    if not isinstance(error, APIStatusError) or error.code in SPENT_CODES:
        return False
    if error.headers.get("x-should-retry", "").lower() == "false":
        return False
    if error.status != 502:
        return error.status == 429
    return upstream.is_rate_limited(error.body)
