"""
Tasks and calls that end with a run.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

__all__ = ("Beside",)


class Beside:
    """
    Runs tasks beside a run, and makes calls at its end.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._tasks: list[asyncio.Task[None]] = []
        self._calls: list[Callable[[], object]] = []

    def run(self, work: Coroutine[Any, Any, None]) -> None:
        """
        Run *work* as a task. `settled` waits for it.
        """
        self._tasks.append(self._loop.create_task(work))

    def at_end(self, call: Callable[[], object]) -> None:
        """
        Make *call* when the run is over.
        """
        self._calls.append(call)

    def end(self) -> None:
        """
        Make the calls: the run is over.
        """
        for call in self._calls:
            call()

    async def settled(self) -> None:
        """
        Return when all tasks have ended.
        """
        await asyncio.gather(*self._tasks, return_exceptions=True)
