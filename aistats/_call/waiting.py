"""
Tasks of several event loops that wait for a place, and the alarms that wake them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

__all__ = ("Alarms", "Waiter")


class Waiter:
    """
    A task that waits for a place.
    """

    __slots__ = ("_future", "loop", "ticket")

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self._future: asyncio.Future[None] = self.loop.create_future()
        self.ticket = 0
        """The ticket of its place, once it has one."""

    async def wait(self) -> None:
        """
        Return when the waiter was woken.
        """
        await self._future

    def wake(self) -> bool:
        """
        Wake the waiter, from any thread; `False` if its loop was closed and never runs again.
        """
        if _running_loop() is self.loop:
            self._set()
            return True
        try:
            self.loop.call_soon_threadsafe(self._set)
        except RuntimeError:
            return False
        return True

    def _set(self) -> None:
        if not self._future.done():
            self._future.set_result(None)


class Alarms:
    """
    One alarm for each event loop. No loop depends on another, which may end before.
    """

    __slots__ = ("_loops",)

    def __init__(self) -> None:
        self._loops: set[asyncio.AbstractEventLoop] = set()

    def set(
        self,
        loop: asyncio.AbstractEventLoop,
        seconds: float,
        ring: Callable[[asyncio.AbstractEventLoop], None],
    ) -> None:
        """
        Call *ring* on *loop* in so many *seconds*, unless it has an alarm already.
        """
        if loop in self._loops:
            return
        self._loops = {each for each in self._loops if not each.is_closed()}
        try:
            loop.call_soon_threadsafe(loop.call_later, seconds, ring, loop)
        except RuntimeError:
            return  # closed, and its waiters are gone as well
        self._loops.add(loop)

    def rang(self, loop: asyncio.AbstractEventLoop) -> None:
        """
        Forget the alarm of *loop*, which rang.
        """
        self._loops.discard(loop)


def _running_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None
