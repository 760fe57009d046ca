"""
How many requests may be under way at once, learnt from how they end.

`Window` is the policy: tickets, latencies and the time in, a limit out. It reads no clock, rolls no
dice and waits for nothing. `Limits` is what a client has: places that are taken and given back,
from any thread and event loop, and those that wait for one. `Pace` is for a rate that the user
sets.
"""

from __future__ import annotations

import asyncio
import math
import random
import threading
from collections import OrderedDict, deque
from collections.abc import Callable
from typing import Any

from .._clock import monotonic
from .._errors import ConfigurationError
from .._net.fork import inherit, watch_forks

__all__ = ("Limits", "Pace", "Window", "estimated_tokens")

_FIRST_COOLDOWN = 0.05
_LAST_COOLDOWN = 0.5
_AFTER_THROTTLE = 0.8
_AFTER_KNEE = 0.9
_SMALLEST_SAMPLE = 16
_RECENT = 64
_MOST_SLOW = 3


class Window:
    """
    The policy: how many requests may be under way, *most* at the most.

    A request has a ticket: the number of its start, from 1. It grows and shrinks as TCP's window
    does: by one an answer while it is below `threshold` (slow start: that doubles it each round),
    then by one a round, and only while requests fill it. Requests that are turned away shrink it to
    0.8 of those that were not, once a round: what began before is part of the same round. And if
    more requests only made each of them slower (the knee), it shrinks to 0.9.
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
        "most",
        "recent",
        "threshold",
        "throttled",
        "until",
    )

    def __init__(self, most: int) -> None:
        self.most = most
        self.limit = most
        self.threshold = math.inf
        """Below this limit, growth is that of slow start."""
        self.until = 0.0
        """When the cooldown is over; 0.0 where there is none."""
        self.full_at = 0
        """The ticket with which the limit was reached last."""
        self.throttled = 0
        self.is_learnt = False
        self.recent: deque[float] = deque(maxlen=_RECENT)
        """The last latencies, in seconds."""
        self._credit = 0
        self._shrunk_at = 0  # the last ticket of the round that shrank it last
        self._before = most  # the limit before that round
        self._accepted = 0  # how many requests of that round were not turned away
        self._cooled_at = 0  # the last ticket of the round that began the last cooldown
        self._refusals = 0  # rounds that were throttled since the last answer
        self._base = math.inf  # the lowest median latency of any sample
        self._good = 0  # the highest limit at which most answers were not slow beside it
        self._slow = 0  # samples in a row that were slow all the same, at that limit or below
        self._open_sample(0)

    def find(self) -> None:
        """
        Slow start from one request, if nothing has been learnt yet.
        """
        if not self.is_learnt:
            self.is_learnt = True
            self.limit = 1
            self._open_sample(self.full_at)

    def answered(self, ticket: int, latency: float) -> None:
        """
        Learn from an answer after *latency* seconds.
        """
        self._refusals = 0
        self.recent.append(latency)
        if not self.is_learnt or not 0 < ticket <= self.full_at:
            # Nobody looks for the limit, or there were fewer under way: it says nothing of that.
            return
        if ticket > self._first:
            if ticket <= self._last:
                self._samples.append(latency)
            size = self._last - self._first
            # The last eighth isn't waited for, nor are those that failed.
            if len(self._samples) >= size - size // 8 or ticket > self._last + 2 * size:
                self._judge()
        # What began before the last decrease was under way with more than the limit.
        if self._shrunk_at < ticket and self.limit < self.most:
            self._credit += 1
            if self.limit < self.threshold or self._credit >= self.limit:
                self._credit = 0
                self.limit += 1

    def turned_away(
        self,
        ticket: int,
        now: float,
        *,
        started: int,
        in_flight: int,
        retry_after: float | None,
        dice: float,
        is_local: bool = False,
    ) -> None:
        """
        Learn from an answer that says "not so fast", or from a local limit that was reached.

        Args:
            ticket: The request's; negative if it was pinned.
            now: The time, in seconds.
            started: The last ticket that was given out.
            in_flight: How many other requests are under way, pinned ones apart.
            retry_after: Seconds for which nothing is to be sent, where the answer said so.
            dice: A random number from 0 to 1.
            is_local: Whether a limit of this process or machine was reached.
        """
        self.throttled += not is_local
        self.is_learnt = True
        if abs(ticket) > self._cooled_at:
            self._cooled_at = started
            if self._refusals:
                # The round before was turned away, too, and nothing was answered since.
                longest = min(_LAST_COOLDOWN, _FIRST_COOLDOWN * 2.0 ** min(self._refusals - 1, 10))
                self._cool(now, longest * (0.5 + dice / 2))
            self._refusals += 1
        if retry_after is not None:
            self._cool(now, retry_after)
        if ticket > 0:
            self._shrink(ticket, started, in_flight)

    def _cool(self, now: float, seconds: float) -> None:
        self.until = max(self.until, now + seconds)

    def _shrink(self, ticket: int, started: int, in_flight: int) -> None:
        if ticket > self._shrunk_at:
            if self._refusals <= 1:  # else nothing got through, and that is no place to grow to
                self._before = self.limit
            self._shrunk_at = started
            self._accepted = in_flight
            self._open_sample(started)
        else:
            self._accepted -= 1
        self._credit = 0
        self.limit = max(1, min(self.limit, round(_AFTER_THROTTLE * self._accepted)))
        # A quota for all that was used up for a while has turned nearly everything away, whatever
        # the limit. A quarter of the old one is soon found again.
        self.threshold = max(self.limit, self._before // 4)

    def _open_sample(self, ticket: int) -> None:
        # It is of one round: whatever started next, not whatever was answered next, since those
        # would be the quick ones while the limit grows.
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
        # Latencies scatter. That a median is twice the lowest may be an accident; that three
        # answers in four took so long is none.
        if quarter <= 2 * self._base:
            self._base = min(self._base, median)
            self._good = max(self._good, limit)
            self._slow = 0
            return
        if limit <= self._good:
            self._slow += 1
        if self._slow > _MOST_SLOW:
            # Fewer requests are no faster: these are other requests, or it is another day.
            self._base = median
            self._good = limit
            self._slow = 0
        else:
            self.limit = max(1, int(_AFTER_KNEE * self.limit))
            self.threshold = 0.0
            self._shrunk_at = self.full_at
            self._credit = 0


class _Waiter:
    __slots__ = ("future", "loop", "ticket")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.future: asyncio.Future[None] = loop.create_future()
        self.ticket = 0  # once it has its place

    def wake(self) -> None:
        if not self.future.done():
            self.future.set_result(None)


class Limits:
    """
    How many requests a client may have under way at once, and how many it has.

    It is learnt from the gateway's answers. A client begins with its `max_connections`, and
    `client.map` with one request; answers that say "not so fast" (a 429, or a 502 for a provider
    that was rate-limited) lower it, the others raise it again; once it is being learnt, more
    requests that only make each slower lower it, too, and so does a limit of this process or
    machine, such as that of open files. A `Retry-After` holds back all of
    the client's requests. Those that wait get their places in the order in which they asked.

    Args:
        most: What `concurrency` is at first, and never exceeds.
        clock: The time, in seconds, from any beginning.
        dice: A random number from 0 to 1.
    """

    __module__ = "aistats"

    __slots__ = (
        "__weakref__",
        "_alarms",
        "_clock",
        "_dice",
        "_forgotten",
        "_in_flight",
        "_lock",
        "_pinned",
        "_pinned_waiting",
        "_started",
        "_waiting",
        "_window",
    )

    def __init__(
        self,
        most: int,
        *,
        clock: Callable[[], float] = monotonic,
        dice: Callable[[], float] = random.random,
    ) -> None:
        self._clock = clock
        self._dice = dice
        self._window = Window(most)
        self._started = 0
        self._empty()
        watch_forks(self)

    def begin_anew(self) -> None:
        """
        Forget who is under way and who waits: in a forked child, they are the parent's.
        """
        inherit(self._waiting, self._pinned_waiting, self._alarms)
        self._empty()

    def _empty(self) -> None:
        # Reentrant, since a task that is collected while this thread holds it gives its place back.
        self._lock = threading.RLock()
        self._forgotten = self._started  # tickets up to this one are not this process's
        self._in_flight = 0
        self._pinned = 0
        self._waiting: OrderedDict[_Waiter, None] = OrderedDict()
        self._pinned_waiting: OrderedDict[_Waiter, None] = OrderedDict()
        self._alarms: set[asyncio.AbstractEventLoop] = set()

    @property
    def concurrency(self) -> int:
        """
        How many requests may be under way at once, by what was learnt until now.
        """
        return self._window.limit

    @property
    def most(self) -> int:
        """
        What `concurrency` never exceeds.
        """
        return self._window.most

    @property
    def in_flight(self) -> int:
        """
        How many requests are under way.
        """
        return self._in_flight + self._pinned

    @property
    def waiting(self) -> int:
        """
        How many requests wait to be sent.
        """
        return len(self._waiting) + len(self._pinned_waiting)

    @property
    def throttled(self) -> int:
        """
        How often the gateway said "not so fast".
        """
        return self._window.throttled

    @property
    def cooldown(self) -> float:
        """
        For how many seconds nothing is sent yet, since the gateway asked for that; mostly 0.0.
        """
        return max(0.0, self._window.until - self._clock())

    @property
    def latency(self) -> float | None:
        """
        The median of recent answers' latencies, in seconds; `None` before the first.
        """
        with self._lock:
            recent = sorted(self._window.recent)
        return recent[len(recent) // 2] if recent else None

    def __repr__(self) -> str:
        latency = self.latency
        return (
            f"Limits(concurrency={self.concurrency}, in_flight={self.in_flight}, "
            f"waiting={self.waiting}, throttled={self.throttled}, cooldown={self.cooldown:.3g}, "
            f"latency={latency if latency is None else float(f'{latency:.3g}')})"
        )

    def find(self) -> None:
        """
        Begin with one request and look for the limit, if nothing has been learnt yet.
        """
        with self._lock:
            self._window.find()

    def try_start(self, *, pinned: bool = False) -> int:
        """
        Take a place, if one is free and nobody waits for it.

        Args:
            pinned: As for `start`.

        Returns:
            A ticket to hand to `end`, or 0 if there is no place.
        """
        # Each call goes through here and through `end`, so what is done is written out.
        window = self._window
        with self._lock:
            if window.until and self._is_cooling():
                return 0
            if pinned:
                return self._take_pinned()
            in_flight = self._in_flight + 1
            if in_flight > window.limit or self._waiting:
                return 0
            self._in_flight = in_flight
            self._started = ticket = self._started + 1
            if in_flight == window.limit:
                window.full_at = ticket
            return ticket

    async def start(self, *, pinned: bool = False) -> int:
        """
        Wait for a place, behind those that wait already, and take it.

        Cancelled, it leaves no place taken.

        Args:
            pinned: Somebody else counts these: take no notice of `concurrency`, only of a cooldown,
                and take no place from the others.

        Returns:
            A ticket to hand to `end`.
        """
        with self._lock:
            if ticket := self.try_start(pinned=pinned):
                return ticket
            waiter = _Waiter(asyncio.get_running_loop())
            queue = self._pinned_waiting if pinned else self._waiting
            queue[waiter] = None
            if self._is_cooling():
                self._set_alarm(waiter.loop)
        try:
            await waiter.future
        except BaseException:
            with self._lock:
                if waiter.ticket:
                    self.end(waiter.ticket)
                else:
                    queue.pop(waiter, None)
            raise
        return waiter.ticket

    def end(
        self,
        ticket: int,
        *,
        latency: float | None = None,
        throttled: bool = False,
        retry_after: float | None = None,
        is_local: bool = False,
    ) -> None:
        """
        Give a place back, and learn from how the request ended; from nothing but *ticket*, nothing.

        Args:
            ticket: What the place was taken with.
            latency: Seconds until it was answered, if it was.
            throttled: Whether the answer was "not so fast" (`is_throttle`).
            retry_after: Seconds for which nothing is to be sent, where such an answer said so.
            is_local: Whether a limit of this process or machine was reached. Fewer requests at once
                help then, too.
        """
        with self._lock:
            if ticket > 0:
                if ticket <= self._forgotten:
                    return
                self._in_flight -= 1
            else:
                if -ticket <= self._forgotten:
                    return
                self._pinned -= 1
            if throttled or is_local:
                self._turned_away(ticket, retry_after, is_local)
            elif latency is not None:
                self._window.answered(ticket, latency)
            if self._waiting or self._pinned_waiting:
                self._admit()

    def _turned_away(self, ticket: int, retry_after: float | None, is_local: bool) -> None:
        was_cooling = self._is_cooling()
        self._window.turned_away(
            ticket,
            self._clock(),
            started=self._started,
            in_flight=self._in_flight,
            retry_after=retry_after,
            dice=self._dice(),
            is_local=is_local,
        )
        if self._is_cooling() and not was_cooling:
            for loop in {waiter.loop for waiter in (*self._pinned_waiting, *self._waiting)}:
                self._set_alarm(loop)

    def _is_cooling(self) -> bool:
        window = self._window
        if window.until and self._clock() >= window.until:
            window.until = 0.0
        return window.until > 0.0

    def _take_pinned(self) -> int:
        self._pinned += 1
        self._started += 1
        return -self._started

    def _admit(self) -> None:
        # Who holds the lock calls this after whatever may have made room. The place is taken on the
        # waiter's behalf, so that nobody can come between.
        if self._is_cooling():
            return
        window = self._window
        while self._pinned_waiting:
            waiter, _ = self._pinned_waiting.popitem(last=False)
            waiter.ticket = self._take_pinned()
            self._wake(waiter)
        while self._waiting and self._in_flight < window.limit:
            waiter, _ = self._waiting.popitem(last=False)
            self._in_flight += 1
            self._started += 1
            waiter.ticket = self._started
            if self._in_flight == window.limit:
                window.full_at = waiter.ticket
            self._wake(waiter)

    def _wake(self, waiter: _Waiter) -> None:
        if _running_loop() is waiter.loop:
            waiter.wake()
            return
        try:
            waiter.loop.call_soon_threadsafe(waiter.wake)
        except RuntimeError:  # its loop was closed and never runs again
            ticket, waiter.ticket = waiter.ticket, 0
            if ticket > 0:
                self._in_flight -= 1
            else:
                self._pinned -= 1

    def _set_alarm(self, loop: asyncio.AbstractEventLoop) -> None:
        # While it cools down, each loop that has a waiter has an alarm for when that is over: no
        # loop depends on another, which may end before.
        if loop in self._alarms:
            return
        self._alarms = {each for each in self._alarms if not each.is_closed()}
        try:
            loop.call_soon_threadsafe(loop.call_later, self.cooldown, self._ring, loop)
        except RuntimeError:
            return  # closed: its waiters are gone, too
        self._alarms.add(loop)

    def _ring(self, loop: asyncio.AbstractEventLoop) -> None:
        with self._lock:
            self._alarms.discard(loop)
            if self._is_cooling():
                self._set_alarm(loop)
            else:
                self._admit()


def _running_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


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
