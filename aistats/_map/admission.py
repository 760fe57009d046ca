"""
Which request of a run may be sent now: the queue, the pace, cooldowns, and rests after a rejection.
"""

from __future__ import annotations

import heapq
import itertools
import math
import random
from collections import deque
from collections.abc import Callable, Iterator

from .._call.limits import Limits
from .._errors import AIStatsError
from .._exchange import Attempt
from .pace import Pace, estimated_tokens
from .plan import Plan
from .source import Item

__all__ = ("Admission",)


class Admission:
    """
    The waiting requests of a run. It has no timers: a caller asks `next` when its time has come.

    Args:
        plan: The arguments of `map`.
        limits: The client's limits, which have the cooldown and the learned concurrency.
        jitter: Returns a random number from 0 to 1; by default `random.random`.
    """

    def __init__(
        self, plan: Plan, limits: Limits, jitter: Callable[[], float] | None = None
    ) -> None:
        self.is_probed = False
        """Whether the gateway has answered. Until then, one request is sent at a time."""
        self.is_patient = True
        """Whether other requests wait for the first answer. They don't wait long."""
        self._plan = plan
        self._limits = limits
        self._jitter = jitter
        self._is_auto = plan.concurrency == "auto"
        highest = limits.maximum
        self.maximum = highest if plan.concurrency == "auto" else min(plan.concurrency, highest)
        """The highest number of requests in flight."""
        self._pace = Pace(plan.rpm, plan.tpm) if plan.rpm or plan.tpm else None
        self._queue: deque[Item] = deque()
        # Rejected requests, with the time at which each may be sent again. They keep their places.
        self._resting: list[tuple[float, int, Item]] = []
        self._numbers = itertools.count()

    def __len__(self) -> int:
        return len(self._queue) + len(self._resting)

    @property
    def queued(self) -> int:
        """
        How many requests are waiting, without those that rest.
        """
        return len(self._queue)

    @property
    def is_probing(self) -> bool:
        """
        Whether one request is sent at a time.
        """
        return self.is_patient and not self.is_probed

    @property
    def limit(self) -> int:
        """
        How many requests may be in flight now; 1 until the first has been answered.
        """
        if not self._is_auto:
            return (1 if self.is_probing else self.maximum) - len(self._resting)
        return 1 if self.is_probing else self._limits.concurrency

    @property
    def concurrency(self) -> int:
        """
        The same with the requests that rest, for the progress.
        """
        return self.limit + len(self._resting)

    def add(self, item: Item) -> None:
        """
        Put *item* at the end of the queue.
        """
        if self._plan.tpm and (request := item.request) is not None:
            item.estimate = estimated_tokens(
                item.body,
                request.max_output_tokens,
                request.max_completion_tokens,
                request.max_tokens,
            )
        self._queue.append(item)

    def next(self, now: float) -> Item | float | None:
        """
        Return the request to send now, or the seconds until one may be sent; `None` if none is
        queued.
        """
        self.wake(now)
        if not self._queue:
            return None
        item = self._queue[0]
        seconds = self._wait(item, now)
        if seconds > 0:
            return seconds
        if self._pace is not None:
            self._pace.take(now, item.estimate)
        return self._queue.popleft()

    def expired(self, now: float) -> Item | None:
        """
        Remove and return the next request if it was rejected before and its time is over before it
        can be sent again.
        """
        self.wake(now)
        if self._queue and self._queue[0].throttle is not None:
            item = self._queue[0]
            if self.time_left(item, now) <= self._wait(item, now):
                return self._queue.popleft()
        return None

    def rest_of_next(self, now: float) -> float | None:
        """
        Return the seconds until a rest is over; `None` if no request rests.
        """
        return max(0.0, self._resting[0][0] - now) if self._resting else None

    def rest_after(self, item: Item, error: AIStatsError, now: float) -> float | None:
        """
        Return the seconds that *item* has to rest after it was rejected with *error*; `None` if it
        can't be sent again.
        """
        left = self.time_left(item, now)
        if left <= self._limits.cooldown or not self._plan.passes(error):
            return None
        policy = self._plan.policy
        asked: float = getattr(error, "retry_after", None) or 0.0
        if asked > policy.shared_wait:
            return asked if asked < left else None  # other requests are not held back that long
        if self._is_auto or asked:
            return 0.0  # from now on there are fewer requests, or all are held back
        jitter = random.random() if self._jitter is None else self._jitter()
        # A fixed number does not shrink. Without a rest, the requests for which the gateway has no
        # room would be rejected thousands of times a second.
        return min(min(policy.base, policy.cap) * jitter, left / 2)

    def put_back(self, item: Item, error: AIStatsError, rest: float, now: float) -> None:
        """
        Queue *item* again, which was rejected with *error*, after *rest* seconds.
        """
        item.throttle = error
        if rest:
            heapq.heappush(self._resting, (now + rest, next(self._numbers), item))
        else:
            self._queue.appendleft(item)

    def correct_pace(
        self, item: Item, attempts: tuple[Attempt, ...], now: float, used: int | None = 0
    ) -> None:
        """
        Count what a call used: retries within the call, and *used* tokens in place of the estimate.
        """
        if self._pace is None:
            return
        for _ in attempts[1:]:
            self._pace.take(now)
        if used is not None:
            self._pace.correct(item.estimate, used)

    def time_left(self, item: Item, now: float) -> float:
        """
        Return the seconds that the call of *item* may still take.
        """
        total = self._plan.call.timeout.total
        return math.inf if total is None else total - (now - item.begun)

    def drain(self) -> Iterator[Item]:
        """
        Remove and yield all requests.
        """
        while self._queue:
            yield self._queue.popleft()
        while self._resting:
            yield heapq.heappop(self._resting)[2]

    def wake(self, now: float) -> None:
        """
        Queue the requests whose rest is over.
        """
        while self._resting and self._resting[0][0] <= now:
            self._queue.appendleft(heapq.heappop(self._resting)[2])

    def _wait(self, item: Item, now: float) -> float:
        seconds = self._limits.cooldown
        return seconds if self._pace is None else max(seconds, self._pace.wait(now, item.estimate))
