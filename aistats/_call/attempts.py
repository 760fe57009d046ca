"""
The attempts of one call: limits, retries, and the record of both. Knows neither HTTP nor JSON.
"""

from __future__ import annotations

import functools
import logging
import random
from collections.abc import Awaitable, Callable
from typing import TypeVar

import attrs

from .._clock import monotonic
from .._errors import (
    AIStatsError,
    APIConnectionError,
    APIStatusError,
    APITimeoutError,
    ConfigurationError,
    out_of_time,
)
from .._exchange import Attempt, AttemptTimes, Exchange, SentRequest
from .._options import RetryPolicy, Timeout
from .credentials import ApiKey
from .gateway import Gateway
from .retry import is_local, is_throttle

__all__ = ("Attempts", "CurrentAttempt")

T = TypeVar("T")

_log = logging.getLogger("aistats")


class CurrentAttempt:
    """
    The attempt that is being made.

    Args:
        exchange: The record of the call.
        trace: The times of this attempt.
        call_start: When the first attempt of the call started.
        total: The call's time limit, in seconds.
    """

    __slots__ = ("api_key", "call_start", "exchange", "total", "trace")

    def __init__(
        self, exchange: Exchange, trace: AttemptTimes, call_start: float, total: float | None
    ) -> None:
        self.api_key: ApiKey | None = None
        """The key that the attempt is made with, once it is known."""
        self.exchange = exchange
        self.trace = trace
        self.call_start = call_start
        self.total = total

    @property
    def time_left(self) -> float | None:
        """
        Seconds that were left of the call's time limit when this attempt started.
        """
        # Of the first attempt it is the limit itself, to the digit.
        return None if self.total is None else self.total - (self.trace.start - self.call_start)

    def masked(self, body: bytes) -> bytes:
        """
        Return *body* with the key of this attempt replaced by `***`.
        """
        return body if self.api_key is None else self.api_key.masked(body)

    def take_time(self) -> None:
        """
        Record how long everything took until now.
        """
        self.exchange.timing = self.trace.timing(self.call_start, monotonic())


class Attempts:
    """
    Makes attempts of one call until one succeeds or no further one is allowed.

    Args:
        gateway: The client's gateway.
        timeout: The call's time limits.
        policy: The call's retry policy.
        is_fixed: Whether the caller limits how many requests are in flight, and not the client.
        sent_request: Returns the request for the record of a failure.
    """

    __slots__ = ("gateway", "is_fixed", "policy", "sent_request", "timeout")

    def __init__(
        self,
        gateway: Gateway,
        timeout: Timeout,
        policy: RetryPolicy,
        is_fixed: bool,
        sent_request: Callable[[], SentRequest],
    ) -> None:
        self.gateway = gateway
        self.timeout = timeout
        self.policy = policy
        self.is_fixed = is_fixed
        self.sent_request = sent_request

    async def make(self, attempt: Callable[[CurrentAttempt], Awaitable[T]]) -> T:
        """
        Return the result of the first *attempt* that succeeds.

        Raises:
            AIStatsError: The last attempt's error, with the record of all of them.
        """
        start = now = monotonic()
        exchange = Exchange()
        limits, budget = self.gateway.limits, self.gateway.budget
        retries = 0
        while True:
            current = CurrentAttempt(exchange, AttemptTimes(now), start, self.timeout.total)
            exchange.status, exchange.raw_headers = None, ()
            ticket = 0
            try:
                ticket = limits.try_start(fixed=self.is_fixed) or await self._place(current)
                result = await attempt(current)
            except AIStatsError as failure:
                limits.end(
                    ticket,
                    throttled=is_throttle(failure),
                    retry_after=self.policy.shared_wait_for(failure),
                    is_local=is_local(failure),
                )
                current.take_time()
                failed = Attempt(current.trace.outcome, exchange.status, _reason(failure))
                earlier = exchange.attempts
                exchange.attempts = (*earlier, failed)
                exchange.request = self.sent_request()
                failure.exchange = exchange
                is_stale = _is_stale(failure, current) and retries == len(earlier)
                if is_stale:
                    # The server closed an idle connection while it was reused. Retry at once, on a
                    # new connection; this does not count towards `max_retries`.
                    self.gateway.transport.drop_idle(current.trace.start)
                    delay: float | None = 0.0 if self.policy.retry_ambiguous else None
                else:
                    retries += 1
                    delay = self.policy.next_delay(retries, failure, random.random())
                if delay is None or not self._has_time(start, delay):
                    raise
                if not is_stale and not budget.take():
                    raise
            except BaseException:  # cancelled
                limits.end(ticket)
                raise
            else:
                limits.end(ticket, latency=monotonic() - current.trace.start)
                exchange.attempts += _answered(exchange.status)
                budget.give_back()
                return result
            exchange.attempts = (*earlier, attrs.evolve(failed, wait=delay))
            _log.info("trying again in %.2f s: %s", delay, failed.reason)
            try:
                await self.gateway.transport.sleep(delay)
            except ConfigurationError as closed:
                closed.exchange = exchange
                raise
            now = monotonic()

    async def _place(self, current: CurrentAttempt) -> int:
        # Wait for a place: the limit is reached, or a cooldown is in force.
        trace = current.trace
        trace.queue_start = trace.start
        self.gateway.check_open()
        start = functools.partial(self.gateway.limits.start, fixed=self.is_fixed)
        try:
            ticket = await self.gateway.transport.wait(start, current.time_left)
        except TimeoutError:
            phase = "waiting for the gateway to take more requests (see client.limits)"
            if left := self.gateway.limits.cooldown:
                phase = f"the gateway rejects requests, {left:.3g} s more (see client.limits)"
            host = self.gateway.transport.host
            raise out_of_time("total", self.timeout.total, host, phase) from None
        trace.start = trace.queue_end = monotonic()
        return ticket

    def _has_time(self, start: float, delay: float) -> bool:
        total = self.timeout.total
        return total is None or monotonic() - start + delay < total


@functools.lru_cache(maxsize=16)
def _answered(status: int | None) -> tuple[Attempt]:
    # Cached, because most calls succeed at the first attempt and their record is the same.
    return (Attempt("answered", status),)


def _is_stale(failure: AIStatsError, current: CurrentAttempt) -> bool:
    # Whether a reused connection was lost before anything of a response came.
    return (
        isinstance(failure, APIConnectionError)
        and not isinstance(failure, APITimeoutError)
        and current.trace.is_reused
        and current.exchange.status is None
    )


def _reason(failure: AIStatsError) -> str:
    if isinstance(failure, APIStatusError):
        return f"status {failure.status}" + (f" ({failure.code})" if failure.code else "")
    if isinstance(failure, APITimeoutError):
        return f"{failure.limit} limit ran out"
    return failure.message if isinstance(failure, APIConnectionError) else type(failure).__name__
