"""
What can be set: time limits, retries, a run's budget, and the keywords of a call.

A keyword that is absent means the default: the client's own setting, or what is said here. Values
are checked when they are made; a wrong one raises `ConfigurationError`.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final, Literal, TypedDict

import attrs

from ._errors import (
    AIStatsError,
    APIConnectionError,
    APIStatusError,
    APITimeoutError,
    ConfigurationError,
)
from ._views import upstream

if TYPE_CHECKING:
    import os

    from ._progress import Progress

__all__ = (
    "CALL_OPTIONS",
    "RUN_OPTIONS",
    "Budget",
    "CallOptions",
    "RetryPolicy",
    "RunOptions",
    "Timeout",
    "is_positive",
    "split",
)

# --- time limits ---


def _is_limit(value: object) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return value is None
    return 0 < value < math.inf


def _check(_timeout: object, attribute: attrs.Attribute[Any], value: object) -> None:
    if not _is_limit(value):
        raise ConfigurationError(
            f"timeout: {attribute.name} must be a number of seconds above 0, or None; not {value!r}"
        )


def _shown(value: object) -> str:
    # `httpx.Timeout` by its name: its repr looks like that of the package's own.
    kind = type(value)
    if kind.__module__ == "builtins":
        return repr(value)
    return f"{kind.__module__}.{kind.__qualname__}: write Timeout(connect=..., idle=..., total=...)"


@attrs.frozen(kw_only=True)
class Timeout:
    """
    Time limits of one call, in seconds. `None` means no limit.
    """

    connect: float | None = attrs.field(default=10.0, validator=_check)
    """
    Limit for making one connection: looking up the host, TCP and TLS. Waiting for a free place in
    the connection pool does not count.
    """
    idle: float | None = attrs.field(default=300.0, validator=_check)
    """
    Longest wait for an answer to begin, for a stream's next event, for the next bytes of a body, or
    for the server to take more of a long request. Comments in a stream are no events. The gateway
    sends no keep-alives, and a reasoning model or a server tool is silent for minutes.
    """
    total: float | None = attrs.field(default=1800.0, validator=_check)
    """
    Limit for the whole call: queueing, all attempts, the waits between them, and reading the
    stream.
    """

    @classmethod
    def of(cls, value: Timeout | float | None) -> Timeout:
        """
        Return *value* as time limits: a number is `total`, and `None` means no limits at all.

        Raises:
            ConfigurationError: It is something else.
        """
        if isinstance(value, Timeout):
            return value
        if value is None:
            return cls(connect=None, idle=None, total=None)
        if not _is_limit(value):
            raise ConfigurationError(
                "timeout must be a Timeout, a number of seconds above 0 for the whole call, or "
                f"None; not {_shown(value)}"
            )
        return cls(total=value)


# --- retries ---

_RETRIED_STATUSES = frozenset({408, 409, 425, 429, *range(500, 600)}) - {501, 505}
SPENT_CODES: Final = frozenset({"key_limit_exceeded", "insufficient_quota"})
"""Error codes of a quota that is used up. They come with 429, but waiting does not help."""

_PERMANENT_CODES = SPENT_CODES | {"google_empty_response", "provider_payment_required"}


def _not_negative(_policy: object, attribute: attrs.Attribute[Any], value: Any) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not value >= 0:
        raise ConfigurationError(
            f"{attribute.name} must be a number that is not negative; not {value!r}"
        )


def _is_asked(_policy: object, _attribute: attrs.Attribute[Any], value: Any) -> None:
    # The coroutine that an `async def` returns would count as true.
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
    # `{429, 500-504}`: by default there are a hundred statuses.
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
    Which failed attempts are retried, how often, and after how long.

    An attempt is retried if no answer began (the connection failed or was lost) or if the status is
    one of *statuses*, unless the response says otherwise: by the header `x-should-retry`, by an
    exhausted quota, or by a permanent failure of the providers. A stream is retried only before its
    first event.
    """

    max_retries: int = attrs.field(default=2, validator=_is_count)
    """Most retries after the first attempt."""
    base: float = attrs.field(default=0.5, validator=_not_negative)
    """
    Longest first wait, in seconds. It doubles with each retry; the actual wait is a random part of
    it ("full jitter").
    """
    cap: float = attrs.field(default=8.0, validator=_not_negative)
    """Longest backoff, in seconds."""
    longest_wait: float = attrs.field(default=60.0, validator=_not_negative)
    """A longer `Retry-After`, in seconds, is not waited for: the error is raised at once."""
    shared_wait: float = attrs.field(default=60.0, validator=_not_negative)
    """
    For how many seconds, at most, a `Retry-After` also holds back the client's other calls. At 0 it
    delays only the call that got it.
    """
    statuses: frozenset[int] = attrs.field(
        default=_RETRIED_STATUSES, converter=_as_statuses, repr=_in_ranges
    )
    """HTTP statuses that are retried."""
    retry_ambiguous: bool = attrs.field(default=True, validator=_is_flag)
    """
    Whether to retry after the connection was lost between the request and the answer. The gateway
    may have done the work, and a retry may be billed as well: it has no idempotency keys.
    """
    retry_if: Callable[[AIStatsError], bool | None] | None = attrs.field(
        default=None, validator=_is_asked
    )
    """Asked first about each error. `True` or `False` decides; `None` leaves it to the rules."""

    def next_delay(self, attempt: int, error: AIStatsError, jitter: float) -> float | None:
        """
        Return the seconds to wait before the next attempt, or `None` to give up.

        Args:
            attempt: Number of attempts so far, 1 or more.
            error: The last attempt's error.
            jitter: A random number from 0 to 1.
        """
        if attempt > self.max_retries or not self._is_retried(error):
            return None
        asked = error.retry_after if isinstance(error, APIStatusError) else None
        if asked is None:
            return jitter * min(self.cap, self.base * 2.0 ** min(attempt - 1, 60))
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
            # The gateway's key store was down, as the advice of `_wire.status_error` says.
            return error.message == "db_error"
        if error.status not in self.statuses or error.code in _PERMANENT_CODES:
            return False
        return error.status != 502 or not upstream.is_permanent(error.body)


# --- a run's budget ---


def is_positive(value: Any) -> bool:
    """
    Return whether *value* is a finite number above 0, and no `bool`.
    """
    is_number = isinstance(value, int | float | Decimal) and not isinstance(value, bool)
    return is_number and math.isfinite(value) and value > 0


def _check_budget(_budget: object, attribute: attrs.Attribute[Any], value: Any) -> None:
    if value is not None and not is_positive(value):
        raise ConfigurationError(
            f"budget: {attribute.name} must be a number above 0, or None for no limit; "
            f"not {value!r}"
        )


@attrs.frozen(kw_only=True)
class Budget:
    """
    Limits of what a run may use; `None` means no limit.

    The limits hold for a run and its `retry()` together. When `usd` or `tokens` is reached, the run
    sends no more requests, and those in flight are finished. Each of them reserves as much as the
    most expensive of the last 200 answers, and up to ten times as much while there are fewer. So
    the run ends at most one request above the limit, if no request costs more than it reserves.
    Before the first answer, at most 4 requests are in flight. When `seconds` are over, requests in
    flight are cancelled.

    An answer without a price adds nothing to `usd`: where that happens, give `tokens` as well.
    """

    __module__ = "aistats"

    usd: float | Decimal | None = attrs.field(default=None, validator=_check_budget)
    """US dollars, by the prices that the gateway sends with its answers."""
    tokens: int | None = attrs.field(default=None, validator=_check_budget)
    """Tokens of prompts and answers."""
    seconds: float | None = attrs.field(default=None, validator=_check_budget)
    """Seconds from the start of the run."""


# --- keywords ---


class CallOptions(TypedDict, total=False):
    """
    Options of one call, in place of the client's.

    Keys:
        timeout (a Timeout, a number of seconds, or None): Limits of this call. A number limits the
            whole call; None means no limit. Default: the client's.
        max_retries (a whole number, or a RetryPolicy): How often a failed call is tried again.
            Default: the client's.
        extra_headers (a mapping): Headers on top of the client's. They win, and None removes one.
        extra_query (a mapping to strings, numbers or booleans): Added to the URL's query.
        extra_body (a mapping): Put into the request's JSON as it is, unchecked. It wins.
    """

    timeout: Timeout | float | None
    max_retries: int | RetryPolicy | None
    extra_headers: Mapping[str, str | None] | None
    extra_query: Mapping[str, str | float | bool] | None
    extra_body: Mapping[str, Any] | None


class RunOptions(TypedDict, total=False):
    """
    Options of a run of `map`.

    Keys:
        prompt (a function): Returns what to ask for a row: a prompt or messages. With `AsyncClient`
            this function and the next two may be asynchronous; they are awaited row by row.
        request (a function): Returns the whole request for a row. Give this or `prompt`.
        key (a function): Returns the name of a row's request in the checkpoint. Default: a hash of
            the request.
        concurrency (a whole number, or "auto"): Requests in flight at once, at most the client's
            max_connections. "auto", the default, finds how many the gateway takes. With a number,
            a request that was rejected without a `Retry-After` keeps its place and waits up to the
            retry policy's `base` before it is sent again.
        rpm (a number above 0): Most requests a minute. Default: no limit.
        tpm (a number above 0): Most tokens a minute, prompts and answers. Default: no limit.
        budget (a Budget): What the run may use up. Default: no limit.
        checkpoint (a path): File that records each answer. The same call with the same file skips
            what is done, tries failures again, and goes on. Requests are the same if their bodies
            are; extra_headers, extra_query and the gateway's address do not count.
        dedup (true or false): Whether rows with the same request share one call, where they are
            near to each other or the first is in the checkpoint. Default: true.
        progress (true or false, or a function): True shows the progress in a notebook or on a
            terminal, and nothing elsewhere. A function gets `Progress` snapshots, about 10 a
            second.
        on_error ("collect" or "raise"): "raise" ends the run with the first error, and raises it.
            Default: "collect".
        stop_after (a number above 0): This many failures end the run. Below 1 it is a share of what
            is done, once 20 rows are.
    """

    prompt: Callable[[Any], Any] | None
    request: Callable[[Any], Any] | None
    key: Callable[[Any], str] | None
    concurrency: int | Literal["auto"]
    rpm: float | None
    tpm: float | None
    budget: Budget | None
    checkpoint: str | os.PathLike[str] | None
    dedup: bool
    progress: bool | Callable[[Progress], object] | None
    on_error: Literal["collect", "raise"]
    stop_after: float | None


CALL_OPTIONS: Final = frozenset(CallOptions.__annotations__)
RUN_OPTIONS: Final = frozenset(RunOptions.__annotations__)


def split(
    keywords: Mapping[str, Any], names: frozenset[str]
) -> tuple[dict[str, Any], Mapping[str, Any]]:
    """
    Return the *keywords* that are among *names*, and the others.
    """
    if names.isdisjoint(keywords):
        return {}, keywords
    chosen = {name: value for name, value in keywords.items() if name in names}
    return chosen, {name: value for name, value in keywords.items() if name not in names}
