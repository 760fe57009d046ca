"""
Time limits of all calls on an event loop, with one timer.

A timer for each limit would make a call a tenth slower, and few of these timers would ever fire. So
a deadline is a number that moves. The timer is set again only when a deadline comes before it.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections.abc import Callable
from types import TracebackType
from typing import Literal, Self

__all__ = ("Deadline", "Deadlines", "Interruption")


class Deadlines:
    """
    The deadlines on one event loop. Use it in the loop's thread only.
    """

    __slots__ = ("_loop", "_pending", "_rings_at", "_timer", "now")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self.now = loop.time
        """The loop's time, in seconds."""
        self._pending: set[Deadline] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._rings_at = math.inf

    def add(self, deadline: Deadline) -> None:
        """
        Track *deadline* until it ends or expires.
        """
        self._pending.add(deadline)
        self.expect(deadline.at)

    def discard(self, deadline: Deadline) -> None:
        """
        Stop tracking *deadline*.
        """
        self._pending.discard(deadline)

    def expect(self, at: float) -> None:
        """
        Make sure that the timer fires no later than *at*.
        """
        if at < self._rings_at:
            if self._timer is not None:
                self._timer.cancel()
            self._rings_at = at
            self._timer = self._loop.call_at(at, self._ring)

    def close(self) -> None:
        """
        Expire all deadlines, since the client is closed.
        """
        for deadline in list(self._pending):
            deadline.expire("closed")
        if self._timer is not None:
            self._timer.cancel()
        self._timer, self._rings_at = None, math.inf

    def _ring(self) -> None:
        self._timer, self._rings_at = None, math.inf
        now = self.now()
        try:
            for deadline in [each for each in self._pending if each.at <= now]:
                deadline.expire()
        finally:
            # Set the timer for the deadlines that moved or are not due yet.
            self.expect(min((each.at for each in self._pending), default=math.inf))


class Deadline:
    """
    The time limits of one attempt: for the whole attempt, and for each wait in it.

    Args:
        deadlines: The deadlines of the loop.
        idle: The longest wait, in seconds; `None` for no limit.
        total: The time left for the attempt, in seconds; `None` for no limit.
    """

    __slots__ = ("_deadlines", "_give_up", "_idle", "_idle_at", "_total_at", "at", "expired")

    def __init__(self, deadlines: Deadlines, idle: float | None, total: float | None) -> None:
        self._deadlines = deadlines
        self._idle = math.inf if idle is None else idle
        self._idle_at = math.inf
        self._total_at = math.inf if total is None else deadlines.now() + total
        self._give_up: Callable[[], object] = _nothing
        self.at = self._total_at
        """When the deadline expires, by the loop's clock, unless it moves."""
        self.expired: Literal["idle", "total", "closed"] | None = None
        """Which limit was exceeded, or `"closed"`; `None` before."""

    def begin(self, give_up: Callable[[], object]) -> None:
        """
        Start the total timeout. Call *give_up* once, when the deadline expires.
        """
        if self.expired is not None:
            give_up()
            return
        self._give_up = give_up
        self.at = self._total_at
        self._deadlines.add(self)

    def want(self, *, silence: float = 0.0) -> None:
        """
        Start to count idle time, *silence* seconds of which have passed already.
        """
        now = self._deadlines.now()
        self._idle_at = now + self._idle - silence
        if self._idle_at <= now:
            # Bytes without content arrive so fast that the reader never waits.
            self.at = self._idle_at
            self.expire()

    def wait(self) -> None:
        """
        Start the idle timeout: the reader is waiting for data.
        """
        if self.expired is None:
            self.at = min(self._idle_at, self._total_at)
            self._deadlines.expect(self.at)

    def pause(self) -> None:
        """
        Pause the idle timeout while the caller processes data.
        """
        self.at = self._total_at

    def end(self) -> None:
        """
        Stop tracking this deadline; the operation is complete.
        """
        self._deadlines.discard(self)
        self._give_up = _nothing  # breaks a reference cycle

    def expire(self, why: Literal["closed"] | None = None) -> None:
        """
        Expire the deadline and call `give_up`.

        Args:
            why: The reason, if it is not a time limit.
        """
        self._deadlines.discard(self)
        if self.expired is None:
            self.expired = why or ("idle" if self.at < self._total_at else "total")
            self._give_up()


def _nothing() -> None:
    pass


class Interruption:
    """
    Cancels the task that is inside its `with` block, when called.

    The task continues after the block. A cancellation by other code is not suppressed.
    """

    __slots__ = ("_before", "_is_used", "_task")

    def __init__(self) -> None:
        self._task = asyncio.current_task()
        self._before = self._cancellations()
        self._is_used = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool:
        is_own = self._is_used
        if is_own and self._task is not None:
            self._task.uncancel()
        is_own = is_own and self._cancellations() <= self._before
        self._task = None  # breaks a reference cycle; a later call cancels nothing
        return is_own and isinstance(error, asyncio.CancelledError)

    def __call__(self) -> None:
        if self._task is not None and not self._is_used:
            self._is_used = True
            self._task.cancel()

    def soon(self) -> None:
        """
        Cancel the task, from any thread.
        """
        if (task := self._task) is not None:
            with contextlib.suppress(RuntimeError):  # the loop is closed
                task.get_loop().call_soon_threadsafe(self)

    def _cancellations(self) -> int:
        return 0 if self._task is None else self._task.cancelling()
