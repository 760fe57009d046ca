"""
When what is under way on an event loop is given up: all limits of time of all calls, by one timer.

A timer for each limit of each call would cost a call a tenth of its time, and nearly all of them
are for nothing. Here a deadline is a number that moves, and the one timer is set anew only where a
deadline comes before it.
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
    The deadlines on one event loop. For that loop's thread.
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
        Keep *deadline* until it ends or is over.
        """
        self._pending.add(deadline)
        self.expect(deadline.at)

    def discard(self, deadline: Deadline) -> None:
        """
        Keep *deadline* no longer.
        """
        self._pending.discard(deadline)

    def expect(self, at: float) -> None:
        """
        There is a deadline *at* that time.
        """
        if at < self._rings_at:
            if self._timer is not None:
                self._timer.cancel()
            self._rings_at = at
            self._timer = self._loop.call_at(at, self._ring)

    def close(self) -> None:
        """
        Give up all that is under way.
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
            # Those that have moved, and those that are not due yet.
            self.expect(min((each.at for each in self._pending), default=math.inf))


class Deadline:
    """
    Until when one attempt may go on: for all of it, and for each wait in it.

    Args:
        deadlines: Those of the loop.
        idle: The longest wait, in seconds; `None` for any.
        total: What is left for all of it, in seconds; `None` for any time.
    """

    __slots__ = ("_deadlines", "_give_up", "_idle", "_idle_at", "_total_at", "at", "expired")

    def __init__(self, deadlines: Deadlines, idle: float | None, total: float | None) -> None:
        self._deadlines = deadlines
        self._idle = math.inf if idle is None else idle
        self._idle_at = math.inf
        self._total_at = math.inf if total is None else deadlines.now() + total
        self._give_up: Callable[[], object] = _nothing
        self.at = self._total_at
        """When it is over, by the loop's time, as things are."""
        self.expired: Literal["idle", "total", "closed"] | None = None
        """Which of the two limits is over, or that all was given up."""

    def begin(self, give_up: Callable[[], object]) -> None:
        """
        From now on *give_up* is called when it is over, once; nobody waits yet.
        """
        if self.expired is not None:
            give_up()
            return
        self._give_up = give_up
        self.at = self._total_at
        self._deadlines.add(self)

    def want(self, *, silence: float = 0.0) -> None:
        """
        Somebody wants something from now on, after *silence*, in seconds, that counts already.
        """
        now = self._deadlines.now()
        self._idle_at = now + self._idle - silence
        if self._idle_at <= now:
            # What says nothing comes so fast that nobody ever waits.
            self.at = self._idle_at
            self.expire()

    def wait(self) -> None:
        """
        There is nothing yet, so somebody waits.
        """
        if self.expired is None:
            self.at = min(self._idle_at, self._total_at)
            self._deadlines.expect(self.at)

    def pause(self) -> None:
        """
        Nobody waits any more; how long the caller takes for what it got is no silence.
        """
        self.at = self._total_at

    def end(self) -> None:
        """
        What it is for has ended.
        """
        self._deadlines.discard(self)
        self._give_up = _nothing  # no cycle by way of what would be given up

    def expire(self, why: Literal["closed"] | None = None) -> None:
        """
        It is over, *why* where that is not for a limit.
        """
        self._deadlines.discard(self)
        if self.expired is None:
            self.expired = why or ("idle" if self.at < self._total_at else "total")
            self._give_up()


def _nothing() -> None:
    pass


class Interruption:
    """
    When called, cancels the task that is in its context, which goes on after the end of it. A
    cancellation by somebody else goes through.
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
        self._task = None  # no cycle by way of the task's end; and from now on it cancels nothing
        return is_own and isinstance(error, asyncio.CancelledError)

    def __call__(self) -> None:
        if self._task is not None and not self._is_used:
            self._is_used = True
            self._task.cancel()

    def soon(self) -> None:
        """
        The same, from any thread.
        """
        if (task := self._task) is not None:
            with contextlib.suppress(RuntimeError):  # the loop is closed, and the task gone
                task.get_loop().call_soon_threadsafe(self)

    def _cancellations(self) -> int:
        return 0 if self._task is None else self._task.cancelling()
