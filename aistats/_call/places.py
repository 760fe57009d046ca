"""
Places for requests in flight: taken and returned from any thread and any event loop.

`Window` decides how many places there are.
"""

from __future__ import annotations

import asyncio
import random
import threading
from collections import OrderedDict
from collections.abc import Callable

from .._clock import monotonic
from .._net.fork import inherit, watch_forks
from .waiting import Alarms, Waiter
from .window import Window

__all__ = ("Places",)


class Places:
    """
    The places of one client's requests. Waiting requests get theirs in the order in which they
    asked.

    Args:
        maximum: Number of places at first, and at most.
        clock: Returns the time, in seconds, from any start.
        jitter: Returns a random number from 0 to 1.
    """

    __slots__ = (
        "__weakref__",
        "_alarms",
        "_clock",
        "_fixed",
        "_fixed_waiting",
        "_forgotten",
        "_in_flight",
        "_jitter",
        "_lock",
        "_started",
        "_waiting",
        "_window",
    )

    def __init__(
        self,
        maximum: int,
        *,
        clock: Callable[[], float] = monotonic,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._clock = clock
        self._jitter = jitter
        self._window = Window(maximum)
        self._started = 0
        self._empty()
        watch_forks(self)

    def reset_after_fork(self) -> None:
        """
        Forget requests in flight and waiting: in a forked child, they are the parent's.
        """
        inherit(self._waiting, self._fixed_waiting, self._alarms)
        self._empty()

    def _empty(self) -> None:
        # Reentrant: a task that is collected while this thread has it returns its place.
        self._lock = threading.RLock()
        self._forgotten = self._started  # tickets up to this one belong to the parent process
        self._in_flight = 0
        self._fixed = 0
        self._waiting: OrderedDict[Waiter, None] = OrderedDict()
        self._fixed_waiting: OrderedDict[Waiter, None] = OrderedDict()
        self._alarms = Alarms()

    def find(self) -> None:
        """
        Start with one request and search for the limit, if nothing has been learned yet.
        """
        with self._lock:
            self._window.find()

    def widen(self) -> None:
        """
        Double the limit, if nothing has been learned yet because no answer has come.
        """
        with self._lock:
            self._window.widen()
            self._admit()

    def try_start(self, *, fixed: bool = False) -> int:
        """
        Take a place if one is free and no request waits for it.

        Args:
            fixed: As for `start`.

        Returns:
            A ticket for `end`; 0 if there is no place.
        """
        # Each call goes through here and through `end`, so the code is inlined.
        window = self._window
        with self._lock:
            if window.until and self._is_cooling():
                return 0
            if fixed:
                return self._take_fixed()
            in_flight = self._in_flight + 1
            if in_flight > window.limit or self._waiting:
                return 0
            self._in_flight = in_flight
            self._started = ticket = self._started + 1
            if in_flight == window.limit:
                window.full_at = ticket
            return ticket

    async def start(self, *, fixed: bool = False) -> int:
        """
        Wait for a place, behind the requests that wait already, and take it.

        A cancelled wait takes no place.

        Args:
            fixed: Whether the caller limits its requests itself. Then only a cooldown applies, and
                the request takes no place from others.

        Returns:
            A ticket for `end`.
        """
        with self._lock:
            if ticket := self.try_start(fixed=fixed):
                return ticket
            waiter = Waiter()
            queue = self._fixed_waiting if fixed else self._waiting
            queue[waiter] = None
            if self._is_cooling():
                self._alarms.set(waiter.loop, self._pause(), self._ring)
        try:
            await waiter.wait()
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
        Return a place, and learn from how the request ended. A *ticket* alone teaches nothing.

        Args:
            ticket: The ticket of the place.
            latency: Seconds until the request was answered, if it was.
            throttled: Whether the request was rejected as too fast (`is_throttle`).
            retry_after: Seconds for which nothing may be sent, if the rejection said so.
            is_local: Whether a limit of this process or machine was reached. Fewer requests at once
                help then as well.
        """
        with self._lock:
            if ticket > 0:
                if ticket <= self._forgotten:
                    return
                self._in_flight -= 1
            else:
                if -ticket <= self._forgotten:
                    return
                self._fixed -= 1
            if throttled or is_local:
                self._rejected(ticket, retry_after, is_local)
            elif latency is not None:
                self._window.answered(ticket, latency)
            if self._waiting or self._fixed_waiting:
                self._admit()

    def _rejected(self, ticket: int, retry_after: float | None, is_local: bool) -> None:
        was_cooling = self._is_cooling()
        self._window.rejected(
            ticket,
            self._clock(),
            started=self._started,
            in_flight=self._in_flight,
            retry_after=retry_after,
            jitter=self._jitter(),
            is_local=is_local,
        )
        if self._is_cooling() and not was_cooling:
            for loop in {waiter.loop for waiter in (*self._fixed_waiting, *self._waiting)}:
                self._alarms.set(loop, self._pause(), self._ring)

    def _is_cooling(self) -> bool:
        window = self._window
        if window.until and self._clock() >= window.until:
            window.until = 0.0
        return window.until > 0.0

    def _take_fixed(self) -> int:
        self._fixed += 1
        self._started += 1
        return -self._started

    def _admit(self) -> None:
        # Called with the lock held, after anything that may have made room. The place is taken
        # here, not by the waiter, so that no other request can take it meanwhile.
        if self._is_cooling():
            return
        window = self._window
        while self._fixed_waiting:
            waiter, _ = self._fixed_waiting.popitem(last=False)
            waiter.ticket = self._take_fixed()
            self._wake(waiter)
        while self._waiting and self._in_flight < window.limit:
            waiter, _ = self._waiting.popitem(last=False)
            self._in_flight += 1
            self._started += 1
            waiter.ticket = self._started
            if self._in_flight == window.limit:
                window.full_at = waiter.ticket
            self._wake(waiter)

    def _wake(self, waiter: Waiter) -> None:
        if not waiter.wake():
            ticket, waiter.ticket = waiter.ticket, 0
            if ticket > 0:
                self._in_flight -= 1
            else:
                self._fixed -= 1

    def _ring(self, loop: asyncio.AbstractEventLoop) -> None:
        with self._lock:
            self._alarms.rang(loop)
            if self._is_cooling():
                self._alarms.set(loop, self._pause(), self._ring)
            else:
                self._admit()

    def _pause(self) -> float:
        return max(0.0, self._window.until - self._clock())
