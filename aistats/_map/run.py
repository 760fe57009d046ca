"""
Many requests at once: the runs of `AsyncClient.map` and `Client.map`.

One engine does the work on an event loop. The runs differ in how they feed it: `AsyncRun` by a task
beside it, `Run` from the caller's own thread, so that rows are pulled and prompts are made there.
"""

from __future__ import annotations

import functools
import threading
import weakref
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Generator, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Self

from .._clock import monotonic
from .._errors import ConfigurationError
from .._show.progress import display_for, in_notebook
from .._styles import wrong_style
from .engine import Engine
from .feeding import (
    LONGEST_PULL,
    Feeder,
    Hops,
    abort,
    abort_soon,
    failure_of_rows,
    show_progress,
    stay_awake,
)
from .opening import open_engine
from .outcome import Outcome
from .plan import Plan
from .results import AnyRun
from .source import Item, Rows, Source
from .statistics import TICK

if TYPE_CHECKING:
    from .._call.opening import RunOnLoop

__all__ = ("AsyncRun", "Run")


class AsyncRun(AnyRun):
    """
    A run of `AsyncClient.map`. It begins when it is awaited or iterated.

    `await run` does all of it, keeps every outcome, and returns the run. `async for outcome in run`
    hands out the outcomes in input order, and `async for outcome in run.as_completed()` as they
    come; then nothing is kept but the numbers, and where outcomes are not taken, no further rows
    are pulled. A run is done once.
    """

    __module__ = "aistats"

    _feeder: Feeder | None = None
    _how_to_start = "not started: `await run` or `async for` starts it"

    def __await__(self) -> Generator[Any, None, Self]:
        return self._all().__await__()

    if not TYPE_CHECKING:
        __iter__ = wrong_style("AsyncRun is read with `async for`; for plain `for` use Client")

    def __aiter__(self) -> AsyncIterator[Outcome]:
        begin = functools.partial(self._begin, is_ordered=True, keep=False)
        return _AsyncOutcomes(begin, self._settled)

    def as_completed(self) -> AsyncIterator[Outcome]:
        """
        Return the outcomes as they come, in no order.
        """
        begin = functools.partial(self._begin, is_ordered=False, keep=False)
        return _AsyncOutcomes(begin, self._settled)

    def _of_rest(self, source: Source, before: Mapping[int, Outcome]) -> AsyncRun:
        return AsyncRun(self._plan, source, before)

    def _finished(self) -> Engine:
        return self._kept()

    async def _all(self) -> Self:
        engine = self._engine
        if engine is None or not self._keeps:
            engine = await self._begin(is_ordered=True, keep=True)
        try:
            await engine.ended.wait()
        except BaseException:
            engine.abort()
            raise
        await self._settled()
        if engine.failure is not None:
            raise engine.failure
        return self

    async def _settled(self) -> None:
        if self._engine is not None and self._feeder is not None:
            await self._engine.beside.settled()
            await self._feeder.settled()

    async def _begin(self, *, is_ordered: bool, keep: bool) -> Engine:
        self._check_new()
        engine = self._new_engine(is_ordered=is_ordered, keep=keep, is_shared=False)
        await open_engine(engine)
        self._display = display = display_for(self._plan.progress)
        self._feeder = Feeder(engine, self._plan, self._source)
        if display is not None:
            engine.beside.run(show_progress(engine, display))
        elif in_notebook():
            engine.beside.run(stay_awake(engine))
        return engine


class _AsyncOutcomes(AsyncIterator[Outcome]):
    """
    The outcomes of a run, one by one. Dropping this iterator ends the run.
    """

    def __init__(
        self, begin: Callable[[], Awaitable[Engine]], settled: Callable[[], Awaitable[None]]
    ) -> None:
        self._begin = begin
        self._settled = settled
        self._engine: Engine | None = None

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Outcome:
        engine = self._engine
        if engine is None:
            engine = self._engine = await self._begin()
            weakref.finalize(self, abort_soon, engine, "closed").atexit = False
        while not engine.outbox.ready:
            if engine.is_over:
                await self._settled()
                if engine.failure is not None:
                    raise engine.failure
                raise StopAsyncIteration
            engine.has_outcome.clear()
            try:
                await engine.has_outcome.wait()
            except BaseException:
                engine.abort()
                raise
        engine.outbox.delivered(1)
        engine.tell_of_room()
        return engine.outbox.ready.popleft()


class Run(AnyRun):
    """
    A run of `Client.map`. It begins when its results are asked for, or when it is iterated.

    `run.wait()`, `run.texts()` and the like do all of it, and keep every outcome.
    `for outcome in run` hands out the outcomes in input order, and
    `for outcome in run.as_completed()` as they come; then nothing is kept but the numbers, and
    where outcomes are not taken, no further rows are pulled. A run is done once.

    Rows are pulled, and *prompt*, *request*, *key* and *progress* are called, in the thread that
    waits for it.
    """

    __module__ = "aistats"

    def __init__(
        self,
        plan: Plan,
        source: Rows | Source,
        run: RunOnLoop,
        before: Mapping[int, Outcome] | None = None,
    ) -> None:
        super().__init__(plan, source, before)
        if self._source.is_async:
            raise ConfigurationError("rows is an async iterator, which needs an AsyncClient.")
        self._run = run
        self._waiter = threading.RLock()

    def __iter__(self) -> Iterator[Outcome]:
        for outcomes in self._batches(is_ordered=True, keep=False):
            yield from outcomes

    def as_completed(self) -> Iterator[Outcome]:
        """
        Yield the outcomes as they come, in no order.
        """
        for outcomes in self._batches(is_ordered=False, keep=False):
            yield from outcomes

    def wait(self) -> Self:
        """
        Do all of it, keep every outcome, and return the run. A second time does nothing.

        Raises:
            Exception: What *rows* raised, once the rows before are done; with `on_error="raise"`
                the first outcome's error: an `AIStatsError`, or what *prompt*, *request* or *key*
                raised.
        """
        with self._waiter:  # another thread may be at it
            if self._engine is None or not (self._keeps and self._engine.is_over):
                for _ in self._batches(is_ordered=True, keep=True):
                    pass
            elif self._engine.failure is not None:
                raise self._engine.failure
        return self

    def _of_rest(self, source: Source, before: Mapping[int, Outcome]) -> Run:
        return Run(self._plan, source, self._run, before)

    def _finished(self) -> Engine:
        with self._waiter:
            if self._engine is None:
                self.wait()
        return self._kept()

    def _batches(self, *, is_ordered: bool, keep: bool) -> Iterator[list[Outcome]]:
        self._check_new()
        self._display = display = display_for(self._plan.progress)
        items: deque[Item] = deque()
        try:
            engine = self._run(functools.partial(self._begin, is_ordered=is_ordered, keep=keep))
            hops = Hops(engine)
            outcomes: list[Outcome] = []
            position, is_last, is_over, error = 0, False, False, None
            while not is_over:
                outcomes, room, is_over = self._run(
                    functools.partial(
                        hops.exchange,
                        items,
                        taken=len(outcomes),
                        is_last=is_last,
                        error=error,
                        within=None if display is None else TICK,
                    )
                )
                if display is not None:
                    display(engine.progress())
                if outcomes:
                    yield outcomes
                try:
                    end = monotonic() + LONGEST_PULL
                    while room > 0 and not is_last:
                        pulled = self._source.pull()
                        if pulled is None:
                            is_last = True
                        else:
                            items.append(self._plan.item(position, pulled))
                            self._source.taken()
                            hops.submit_soon(items)
                            position += 1
                            room -= 1
                        if monotonic() > end:
                            break
                except Exception as raised:  # the caller's iterator did: finish what is under way
                    is_last, error = True, raised
                    self._source.failed = failure_of_rows(raised)
        except GeneratorExit:
            self._abandon("closed")
            raise
        except BaseException:
            self._abandon("interrupted")
            raise
        finally:
            self._source.give_back(items)  # those that were never handed over
            if display is not None:
                display.close()
        if engine.failure is not None:
            raise engine.failure

    async def _begin(self, *, is_ordered: bool, keep: bool) -> Engine:
        engine = self._new_engine(is_ordered=is_ordered, keep=keep, is_shared=True)
        await open_engine(engine)
        return engine

    def _abandon(self, reason: str) -> None:
        engine = self._engine
        if engine is None or engine.is_over:
            return
        if threading.get_ident() == engine.thread:
            # The collector runs on any thread, the loop's own too, which can't wait for itself.
            abort_soon(engine, reason)
            return
        try:
            self._run(functools.partial(abort, engine, reason))
        except ConfigurationError:  # the client has been closed, and nothing runs any more
            engine.known.close()
