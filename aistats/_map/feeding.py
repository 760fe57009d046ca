"""
How rows get to the engine: by a task beside it, or in hops from the caller's own thread.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections import deque

from .._clock import monotonic
from .._show.progress import Display
from .engine import Engine
from .outcome import Outcome
from .plan import Plan
from .source import Item, Source
from .statistics import TICK

__all__ = (
    "LONGEST_PULL",
    "Feeder",
    "Hops",
    "abort",
    "abort_soon",
    "failure_of_rows",
    "show_progress",
    "stay_awake",
)

LONGEST_PULL = 0.01
"""Seconds of pulling rows before those that are there are sent."""


def failure_of_rows(error: Exception) -> str:
    """
    Return why a run ended whose rows raised *error*.
    """
    return f"the rows failed: {type(error).__name__}: {error}"


class Feeder:
    """
    Pulls rows in a task beside the engine, while there is room for them.
    """

    def __init__(self, engine: Engine, plan: Plan, source: Source) -> None:
        self._engine = engine
        self._plan = plan
        self._source = source
        self._is_pulling = False
        """Whether the task waits for the caller's rows. Only those can end that wait."""
        self._is_asking = False
        """Whether the task awaits a function of the caller's, which ends with the run."""
        engine.beside.at_end(self._end)
        self._task = engine.loop.create_task(self._feed())

    async def settled(self) -> None:
        """
        Return when the task has ended, unless it waits for the caller's rows.
        """
        if not self._is_pulling:
            await asyncio.gather(self._task, return_exceptions=True)

    def _end(self) -> None:
        if self._is_asking:
            self._task.cancel()

    async def _feed(self) -> None:
        engine, source = self._engine, self._source
        position = 0
        error: Exception | None = None
        try:
            while engine.stopped is None and not engine.is_over:
                if not engine.room():
                    engine.has_room.clear()
                    await engine.has_room.wait()
                    continue
                end = monotonic() + LONGEST_PULL
                while engine.room() and monotonic() < end:
                    if source.is_async:
                        self._is_pulling = True
                        pulled = await source.apull()
                        self._is_pulling = False
                    else:
                        pulled = source.pull()
                    if pulled is None:
                        return
                    if engine.stopped is not None:
                        break  # the row stays in the source for a retry
                    self._is_asking = True
                    item = await self._plan.aitem(position, pulled)
                    self._is_asking = False
                    if engine.stopped is not None:
                        break
                    engine.submit(item)
                    source.taken()
                    position += 1
                await asyncio.sleep(0)
        except Exception as raised:  # the caller's iterator did; requests in flight are finished
            error = raised
            source.failed = failure_of_rows(raised)
        except BaseException as raised:
            engine.abort(None if isinstance(raised, asyncio.CancelledError) else raised)
            raise
        finally:
            engine.end_of_rows(error)


class Hops:
    """
    Brings rows to the engine and outcomes back, for a caller in another thread.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._is_submitting = False
        """Whether the loop has been told to submit rows."""

    async def exchange(
        self,
        items: deque[Item],
        *,
        taken: int,
        is_last: bool,
        error: Exception | None,
        within: float | None,
    ) -> tuple[list[Outcome], int, bool]:
        """
        Submit rows, and wait for outcomes or for room, in one hop.

        Args:
            items: The next rows. Each is removed as it is submitted.
            taken: How many of the outcomes that the caller got before are done with.
            is_last: Whether there are no more rows.
            error: What the caller's iterator raised.
            within: The longest wait, in seconds.

        Returns:
            The outcomes that are ready, for how many rows there is room, and whether the run is
            over.
        """
        engine = self._engine
        engine.outbox.delivered(taken)
        engine.tell_of_room()
        self._submit_all(items)
        if is_last and not engine.no_more_rows:
            engine.end_of_rows(error)
        end = math.inf if within is None else engine.loop.time() + within
        timer = None if within is None else engine.loop.call_later(within, engine.has_outcome.set)
        while not (engine.outbox.ready or engine.is_over or engine.wants_rows()):
            engine.has_outcome.clear()
            await engine.has_outcome.wait()
            if engine.loop.time() >= end:
                break
        if timer is not None:
            timer.cancel()
        return engine.outbox.take(), engine.room(), engine.is_over

    def submit_soon(self, items: deque[Item]) -> None:
        """
        Submit *items* on the loop, from any thread. More may be appended meanwhile.

        The caller does not wait: its next row may take long, or depend on the answer to this one.
        """
        if not self._is_submitting:
            self._is_submitting = True
            with contextlib.suppress(RuntimeError):  # the loop is closed; the next hop says so
                self._engine.loop.call_soon_threadsafe(self._submit_all, items)

    def _submit_all(self, items: deque[Item]) -> None:
        self._is_submitting = False
        while items and not self._engine.is_over:
            self._engine.submit(items[0])
            items.popleft()  # only now: an interruption before gives it back


async def abort(engine: Engine, reason: str) -> None:
    """
    End the run, and return when no request is in flight any more.
    """
    tasks = engine.in_flight.tasks()
    engine.abort(None, reason)
    await asyncio.gather(*tasks, return_exceptions=True)


def abort_soon(engine: Engine, reason: str) -> None:
    """
    End the run from any thread, without waiting.
    """
    try:
        engine.loop.call_soon_threadsafe(engine.abort, None, reason)
    except RuntimeError:  # the loop is closed, and its tasks are gone
        engine.known.close()


async def stay_awake(engine: Engine) -> None:
    """
    Wake the loop from time to time until the run is over.

    The loop of a notebook's kernel that waits for the network notices the stop button only then.
    """
    while not engine.is_over:
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(engine.ended.wait(), TICK)


async def show_progress(engine: Engine, display: Display) -> None:
    """
    Show the progress on *display* until the run is over, and how it ended.
    """
    try:
        while not engine.is_over:
            display(engine.progress())
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(engine.ended.wait(), TICK)
        display(engine.progress())
    except Exception as error:  # the caller's function raised
        engine.abort(error)
    finally:
        display.close()
