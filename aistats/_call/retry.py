"""
Whether a failed attempt is tried again, and when: error and attempt in, seconds to wait or `None`
out.

Nothing here reads a clock or rolls dice; both are arguments.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

import attrs

from .._errors import (
    AIStatsError,
    APIConnectionError,
    APIStatusError,
    APITimeoutError,
    ConfigurationError,
)
from .._views.json import as_list, as_object, as_objects, as_string, is_list

__all__ = ("RetryBudget", "RetryPolicy", "is_local", "is_throttle", "retry_after")

_RETRIED_STATUSES = frozenset({408, 409, 425, 429, *range(500, 600)}) - {501, 505}
_PERMANENT_CODES = frozenset(
    {"key_limit_exceeded", "google_empty_response", "provider_payment_required"}
)
_PERMANENT_CATEGORIES = frozenset(
    {
        "credentials_not_configured",
        "credentials_invalid_or_forbidden",
        "provider_access_missing",
        "region_or_project_restriction",
        "model_unavailable_for_endpoint",
    }
)


def _not_negative(_policy: object, attribute: attrs.Attribute[Any], value: Any) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not value >= 0:
        raise ConfigurationError(
            f"{attribute.name} must be a number that is not negative; not {value!r}"
        )


def _is_asked(_policy: object, _attribute: attrs.Attribute[Any], value: Any) -> None:
    # What an `async def` returns would count as a yes.
    if value is not None and (not callable(value) or inspect.iscoroutinefunction(value)):
        raise ConfigurationError(f"retry_if must be a plain function, or None; not {value!r}")


def _is_flag(_policy: object, attribute: attrs.Attribute[Any], value: Any) -> None:
    if not isinstance(value, bool):
        raise ConfigurationError(f"{attribute.name} must be True or False; not {value!r}")


def _as_statuses(statuses: Any) -> frozenset[int]:
    several = () if isinstance(statuses, str) or not hasattr(statuses, "__iter__") else statuses
    made: frozenset[Any] = frozenset(several)
    if several is not statuses or not all(type(status) is int for status in made):
        raise ConfigurationError(f"statuses must be a set of whole numbers; not {statuses!r}")
    return made


def _in_ranges(statuses: frozenset[int]) -> str:
    # `{429, 500-504}`: there are a hundred of them by default.
    ranges: list[list[int]] = []
    for status in sorted(statuses):
        if ranges and status == ranges[-1][1] + 1:
            ranges[-1][1] = status
        else:
            ranges.append([status, status])
    shown = (str(low) if low == high else f"{low}-{high}" for low, high in ranges)
    return f"{{{', '.join(shown)}}}"


def _is_count(_policy: object, _attribute: attrs.Attribute[Any], value: Any) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise ConfigurationError(
            f"max_retries must be a whole number of 0 or more; not {value!r}. Of a client or a "
            "call it may be a RetryPolicy, too."
        )


@attrs.frozen
class RetryPolicy:
    """
    Which failed attempts are tried again, how often and after how long.

    An attempt is tried again if no answer began (the connection failed or was lost) or if the
    answer's status is one of *statuses*, unless the answer itself says otherwise: the header
    `x-should-retry`, a quota that is used up, an upstream failure that is permanent. A stream is
    tried again only before its first event.
    """

    max_retries: int = attrs.field(default=2, validator=_is_count)
    """How often at the most, after the first attempt."""
    base: float = attrs.field(default=0.5, validator=_not_negative)
    """
    The first wait is a random time up to this, in seconds; the limit doubles each time ("full
    jitter").
    """
    cap: float = attrs.field(default=8.0, validator=_not_negative)
    """That limit's own limit, in seconds."""
    longest_wait: float = attrs.field(default=60.0, validator=_not_negative)
    """A `Retry-After` beyond this, in seconds, is not waited for: the error is raised at once."""
    shared_wait: float = attrs.field(default=60.0, validator=_not_negative)
    """
    For how many seconds, at most, a `Retry-After` also holds back the client's other calls. At 0 it
    delays only the call that got it.
    """
    statuses: frozenset[int] = attrs.field(
        default=_RETRIED_STATUSES, converter=_as_statuses, repr=_in_ranges
    )
    """The statuses that are tried again."""
    retry_ambiguous: bool = attrs.field(default=True, validator=_is_flag)
    """
    Whether to try again after a connection was lost when the request was out and no answer had
    begun. The gateway may have done the work by then, and a second try be billed as well: it knows
    no idempotency keys.
    """
    retry_if: Callable[[AIStatsError], bool | None] | None = attrs.field(
        default=None, validator=_is_asked
    )
    """Asked first about each error: `True` or `False` decides, `None` leaves it to the rules."""

    def next_delay(self, attempt: int, error: AIStatsError, dice: float) -> float | None:
        """
        Seconds until the next attempt, or `None` to give up.

        Args:
            attempt: How many attempts there have been, 1 or more.
            error: What the last one ended with.
            dice: A random number from 0 to 1.
        """
        if attempt > self.max_retries or not self._is_retried(error):
            return None
        asked = error.retry_after if isinstance(error, APIStatusError) else None
        if asked is None:
            return dice * min(self.cap, self.base * 2.0 ** min(attempt - 1, 60))
        return asked if asked <= self.longest_wait else None

    def shared_wait_for(self, error: AIStatsError) -> float | None:
        """
        Return for how many seconds *error* holds back the client's other calls; `None` if it does
        not.
        """
        asked = error.retry_after if isinstance(error, APIStatusError) else None
        return min(asked, self.shared_wait) or None if asked else None

    def _is_retried(self, error: AIStatsError) -> bool:
        if self.retry_if is not None and (decision := self.retry_if(error)) is not None:
            return decision
        if isinstance(error, APIStatusError):
            return self._is_retried_status(error)
        if isinstance(error, APITimeoutError):
            return error.limit == "connect"
        if not isinstance(error, APIConnectionError) or error.is_permanent:
            return False
        outcome = error.attempts[-1].outcome if error.attempts else "ambiguous"
        return outcome == "unsent" or (outcome == "ambiguous" and self.retry_ambiguous)

    def _is_retried_status(self, error: APIStatusError) -> bool:
        told = error.headers.get("x-should-retry", "").lower()
        if told in ("true", "false"):
            return told == "true"
        if error.status == 401:
            # The gateway's key store was down; the key may be good.
            return error.message == "db_error"
        if error.status not in self.statuses or error.code in _PERMANENT_CODES:
            return False
        return error.status != 502 or not _is_permanent_upstream(error.body)


def _is_permanent_upstream(body: Any) -> bool:
    # The gateway tried every provider and answers 502 for whatever they said, a 400 too.
    wire = as_object(body)
    statuses, samples = wire.get("failed_statuses"), as_objects(wire.get("failure_sample"))
    category = as_string(as_object(wire.get("provider_failure_diagnostics")).get("category"))
    return (
        (is_list(statuses) and bool(statuses) and all(map(_is_permanent_status, statuses)))
        or (bool(samples) and all(sample.get("retryable") is False for sample in samples))
        or category in _PERMANENT_CATEGORIES
    )


def _is_permanent_status(status: Any) -> bool:
    passing = (408, 409, 425, 429)
    return isinstance(status, int) and 400 <= status < 500 and status not in passing


class RetryBudget:
    """
    Keeps an outage from multiplying the load: a client's retries draw on it, its successes fill it
    up again.

    It starts full. A retry takes one token; an answer gives half a token back.
    """

    __slots__ = ("_capacity", "_tokens")

    def __init__(self, capacity: float = 100.0) -> None:
        self._capacity = capacity
        self._tokens = capacity

    def take(self) -> bool:
        """
        Take the token of one retry; `False` if there is none.
        """
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True

    def give_back(self) -> None:
        """
        Note an answer.
        """
        self._tokens = min(self._capacity, self._tokens + 0.5)


def retry_after(headers: Mapping[str, str], now: datetime) -> float | None:
    """
    The seconds to wait that *headers* ask for, at the time *now*; `None` where they ask for nothing
    sensible.

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


_SPENT_CODES = frozenset({"key_limit_exceeded", "insufficient_quota"})


def is_throttle(error: BaseException) -> bool:
    """
    Whether *error* says "not so fast": a 429, or a 502 for a provider that was rate-limited.

    A quota that is used up is no throttle, although it comes as a 429: to wait doesn't help.
    """
    if not isinstance(error, APIStatusError) or error.code in _SPENT_CODES:
        return False
    if error.headers.get("x-should-retry", "").lower() == "false":
        return False
    if error.status != 502:
        return error.status == 429
    wire = as_object(error.body)
    samples = as_objects(wire.get("failure_sample"))
    if samples and all(sample.get("retryable") is False for sample in samples):
        return False
    category = as_string(as_object(wire.get("provider_failure_diagnostics")).get("category"))
    if category:
        return category == "rate_limited"
    statuses = [*as_list(wire.get("failed_statuses")), *(each.get("status") for each in samples)]
    return 429 in statuses
