"""
The policy of a client's limit: tickets, latencies and the time in, a limit out. No I/O.
"""

from __future__ import annotations

import math
from collections import deque

__all__ = ("Window",)

_FIRST_COOLDOWN = 0.05
_LAST_COOLDOWN = 0.5
_AFTER_THROTTLE = 0.8
_AFTER_KNEE = 0.9
_SMALLEST_SAMPLE = 16
_RECENT = 64
_MAX_SLOW = 3


class Window:
    """
    The policy: how many requests may be in flight, *maximum* at most.

    Each request has a ticket: the number of its start, from 1. The limit grows and shrinks as TCP's
    congestion window does. Below `threshold` it grows by one for each answer (slow start, which
    doubles it each round), above by one a round, and only while requests fill it. Rejections shrink
    it to 0.8 of the requests that were accepted, once a round. Requests that started before the
    decrease belong to the same round. If more requests only made each of them slower (the knee of
    the latency curve), the limit shrinks to 0.9.

    Clock, tickets and jitter are arguments, so a simulation needs no time.
    """

    __slots__ = (
        "_accepted",
        "_base",
        "_before",
        "_cooled_at",
        "_credit",
        "_first",
        "_good",
        "_last",
        "_opened_at",
        "_refusals",
        "_samples",
        "_shrunk_at",
        "_slow",
        "full_at",
        "is_learnt",
        "limit",
        "maximum",
        "recent",
        "threshold",
        "throttled",
        "until",
    )

    def __init__(self, maximum: int) -> None:
        self.maximum = maximum
        self.limit = maximum
        self.threshold = math.inf
        """Below this limit, the window grows by slow start."""
        self.until = 0.0
        """End of the cooldown, by the clock; 0.0 if there is none."""
        self.full_at = 0
        """The ticket that reached the limit last."""
        self.throttled = 0
        self.is_learnt = False
        self.recent: deque[float] = deque(maxlen=_RECENT)
        """The last latencies, in seconds."""
        self._credit = 0
        self._shrunk_at = 0  # the last ticket of the round of the last decrease
        self._before = maximum  # the limit before that round
        self._accepted = 0  # how many requests of that round were not rejected
        self._cooled_at = 0  # the last ticket of the round of the last cooldown
        self._refusals = 0  # rounds with rejections since the last answer
        self._base = math.inf  # the lowest median latency of any sample
        self._good = 0  # the highest limit at which most answers were not slow, compared to `_base`
        self._slow = 0  # consecutive slow samples at `_good` or below
        self._open_sample(0)

    def find(self) -> None:
        """
        Start a slow start from one request, if nothing has been learned yet.
        """
        if not self.is_learnt:
            self.is_learnt = True
            self.limit = 1
            self._open_sample(self.full_at)

    def widen(self) -> None:
        """
        Double the limit, if there has been neither an answer nor a rejection: requests that hang
        must not block the others.
        """
        if self.is_learnt and not self.recent and not self._refusals:
            self.limit = min(self.maximum, 2 * self.limit)

    def answered(self, ticket: int, latency: float) -> None:
        """
        Learn from an answer after *latency* seconds.
        """
        self._refusals = 0
        self.recent.append(latency)
        if not self.is_learnt or not 0 < ticket <= self.full_at:
            # Below the limit, an answer says nothing about it.
            return
        if ticket > self._first:
            if ticket <= self._last:
                self._samples.append(latency)
            size = self._last - self._first
            # Don't wait for the last eighth, nor for those that failed.
            if len(self._samples) >= size - size // 8 or ticket > self._last + 2 * size:
                self._judge()
        # A request that started before the last decrease was in flight with more than the limit.
        if self._shrunk_at < ticket and self.limit < self.maximum:
            self._credit += 1
            if self.limit < self.threshold or self._credit >= self.limit:
                self._credit = 0
                self.limit += 1

    def rejected(
        self,
        ticket: int,
        now: float,
        *,
        started: int,
        in_flight: int,
        retry_after: float | None,
        jitter: float,
        is_local: bool = False,
    ) -> None:
        """
        Learn from a rejection as too fast, or from a local limit that was reached.

        Args:
            ticket: The request's ticket; negative if the caller limits its requests itself.
            now: The time, in seconds.
            started: The last ticket that was given out.
            in_flight: Other requests in flight, without those that the caller limits itself.
            retry_after: Seconds for which nothing may be sent, if the response said so.
            jitter: A random number from 0 to 1.
            is_local: Whether a limit of this process or machine was reached.
        """
        self.throttled += not is_local
        self.is_learnt = True
        if abs(ticket) > self._cooled_at:
            self._cooled_at = started
            if self._refusals:
                # The round before was rejected as well, and nothing was answered since.
                longest = min(_LAST_COOLDOWN, _FIRST_COOLDOWN * 2.0 ** min(self._refusals - 1, 10))
                self._cool(now, longest * (0.5 + jitter / 2))
            self._refusals += 1
        if retry_after is not None:
            self._cool(now, retry_after)
        if ticket > 0:
            self._shrink(ticket, started, in_flight)

    def _cool(self, now: float, seconds: float) -> None:
        self.until = max(self.until, now + seconds)

    def _shrink(self, ticket: int, started: int, in_flight: int) -> None:
        if ticket > self._shrunk_at:
            if self._refusals <= 1:  # otherwise, nothing was accepted at the old limit
                self._before = self.limit
            self._shrunk_at = started
            self._accepted = in_flight
            self._open_sample(started)
        else:
            self._accepted -= 1
        self._credit = 0
        self.limit = max(1, min(self.limit, round(_AFTER_THROTTLE * self._accepted)))
        # An exhausted shared quota rejects nearly every request, so the new limit is too low. Grow
        # quickly up to a quarter of the previous limit.
        self.threshold = max(self.limit, self._before // 4)

    def _open_sample(self, ticket: int) -> None:
        # A sample has the requests that start next. Those that are answered next would be the quick
        # ones while the limit grows.
        self._first = ticket
        self._last = ticket + max(_SMALLEST_SAMPLE, self.limit)
        self._opened_at = self.limit
        self._samples: list[float] = []

    def _judge(self) -> None:
        samples = sorted(self._samples)
        opened_at = self._opened_at
        if len(samples) >= _SMALLEST_SAMPLE // 2:
            self._learn(samples, opened_at)
        self._open_sample(self.full_at)

    def _learn(self, samples: list[float], limit: int) -> None:
        median, quarter = samples[len(samples) // 2], samples[len(samples) // 4]
        # Latencies scatter: a median of twice the lowest may be chance, but not if three answers in
        # four took that long.
        if quarter <= 2 * self._base:
            self._base = min(self._base, median)
            self._good = max(self._good, limit)
            self._slow = 0
            return
        if limit <= self._good:
            self._slow += 1
        if self._slow > _MAX_SLOW:
            # Fewer requests are no faster: the requests or the server have changed.
            self._base = median
            self._good = limit
            self._slow = 0
        else:
            self.limit = max(1, int(_AFTER_KNEE * self.limit))
            self.threshold = 0.0
            self._shrunk_at = self.full_at
            self._credit = 0
