"""
Many requests at once: rows in, outcomes out, and nothing lost on the way.

One engine does the work, on an event loop, for both calling styles. What differs is who feeds it:
for `AsyncRun` a task beside it, for `Run` the caller's own thread, so that rows are pulled and
prompts are made where the caller is. Rows go over to the loop in batches, and outcomes come back in
batches.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import importlib
import operator
import threading
import weakref
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Generator, Iterator, Mapping
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Self

import attrs

from .._clock import monotonic
from .._errors import ConfigurationError
from .._progress import Latency, Progress
from .._show.progress import Display, display_for, in_notebook
from .._styles import wrong_style
from .._views.usage import Usage, tokens_as_shown
from .engine import Engine
from .outcome import COLUMNS, Outcome, as_shown
from .plan import Plan
from .source import Item, Row, Rows, Source
from .statistics import TICK, Statistics

if TYPE_CHECKING:
    from .._call.opening import RunOnLoop

__all__ = ("AsyncRun", "Run")

_LONGEST_PULL = 0.01  # seconds of pulling rows, until those that are there go out


class _AnyRun:
    """
    What both runs have in common: all but the waiting.
    """

    def __init__(
        self, plan: Plan, source: Rows | Source, before: Mapping[int, Outcome] | None = None
    ) -> None:
        self._plan = plan
        self._source = source if isinstance(source, Source) else Source(source)
        self._before = dict(before or {})  # outcomes of an earlier run, of which this is a retry
        self._engine: Engine | None = None
        self._keeps = False
        self._later: Self | None = None  # the retry of this one

    @property
    def stopped(self) -> str | None:
        """
        Why it ended before the last row, in words; `None` if it did not.
        """
        stopped = None if self._engine is None else self._engine.stopped
        return stopped or self._source.failed

    @property
    def is_done(self) -> bool:
        """
        Whether it has ended.
        """
        return self._engine is not None and self._engine.is_over

    @property
    def progress(self) -> Progress:
        """
        How far it is.
        """
        if self._engine is not None:
            return self._engine.progress()
        concurrency = self._plan.gateway.limits.concurrency
        if self._plan.concurrency != "auto":
            concurrency = min(self._plan.concurrency, self._plan.gateway.limits.most)
        return attrs.evolve(Statistics().snapshot(self._total, 0, concurrency), cost=None)

    @property
    def _total(self) -> int | None:
        # How many rows this run has, where that is known.
        total = self._source.total
        return None if total is None else total - len(self._before)

    @property
    def usage(self) -> Usage:
        """
        The tokens of all answers that came in this run; what was cached took none.
        """
        return self._statistics().usage()

    @property
    def cost(self) -> Decimal | None:
        """
        What the answers that came in this run cost, in US dollars, as far as they had a price;
        `None` where none of them had one, and before the run has begun.
        """
        return None if self._engine is None else self._engine.statistics.price()

    @property
    def latency(self) -> Latency:
        """
        How long the gateway took for an answer.
        """
        return self._statistics().latency()

    @property
    def outcomes(self) -> list[Outcome]:
        """
        The outcomes in input order. A row that was never started has none.

        Raises:
            ConfigurationError: They were not kept, since the run was iterated.
        """
        again = self._finished().kept
        if not self._before:
            return sorted(again, key=_index_of)
        outcomes = {**self._before, **{outcome.index: outcome for outcome in again}}
        return sorted(outcomes.values(), key=_index_of)

    @property
    def errors(self) -> list[Outcome]:
        """
        The outcomes that have an error, in input order.

        Raises:
            ConfigurationError: They were not kept, since the run was iterated.
        """
        return [outcome for outcome in self.outcomes if not outcome.ok]

    def texts(self) -> list[str | None]:
        """
        The text of each row's answer, in input order; `None` where there is none. Of an iterator
        that was not read to its end, only as many rows are known as were pulled.

        Raises:
            ConfigurationError: They were not kept, since the run was iterated.
        """
        outcomes = self.outcomes
        texts: list[str | None] = [None] * max(self._source.next_index, self._source.total or 0)
        for outcome in outcomes:
            texts[outcome.index] = outcome.text
        return texts

    def to_dicts(self) -> list[dict[str, Any]]:
        """
        Each outcome as a flat dict, in input order.

        Raises:
            ConfigurationError: They were not kept, since the run was iterated.
        """
        return [outcome.to_dict() for outcome in self.outcomes]

    def retry(self) -> Self:
        """
        A new run of the rows that failed and of those that were never started.

        Its outcomes are those of all rows, the earlier answers among them; its numbers are its own.
        Asked for again, it is the same run, and once that has begun, the retry of that one: so
        nothing is asked twice, and nothing is out of reach if the retry is interrupted, too.

        Raises:
            ConfigurationError: The outcomes were not kept, or the run is under way.
        """
        later = self._later
        if later is None:
            made: Self = self._of_rest(*self._rest())
            self._later = made
            return made
        return later if later._engine is None else later.retry()

    def to_pandas(self) -> Any:
        """
        Return the outcomes as a `pandas.DataFrame`, one row each, in input order.

        Where the rows were a pandas data frame or series, the result has their index, and a row
        for each of theirs: `df["answer"] = run.to_pandas()["text"]` puts each answer beside its
        row, whatever the index. A row that was never started is empty. Other rows get an index of
        their places in the input, called `index`.

        Raises:
            ConfigurationError: The outcomes were not kept, or pandas is not installed.
        """
        try:
            pandas = importlib.import_module("pandas")
        except ImportError:
            raise ConfigurationError(
                "to_pandas() needs pandas: pip install 'aistats-sdk[pandas]'"
            ) from None
        table = pandas.DataFrame(self.to_dicts(), columns=list(COLUMNS)).set_index("index")
        if (index := self._source.index) is not None:
            table = table.reindex(range(len(index)))
            table.index = index
        return table

    def __repr__(self) -> str:
        numbers = self._statistics()
        state = "done" if self.is_done else "new" if self._engine is None else "under way"
        total = "" if self._total is None else f" of {self._total}"
        stopped = "" if self.stopped is None else f", stopped={self.stopped!r}"
        return (
            f"<{type(self).__name__} {state}: {numbers.done}{total}, {numbers.failed} failed, "
            f"{numbers.cached} cached{stopped}>"
        )

    def _repr_html_(self) -> str:
        from .._show.cards import run_html

        outcomes = self.outcomes if self._engine is not None and self._keeps else ()
        failures = as_shown([each for each in outcomes if not each.ok])
        answers = as_shown([each for each in outcomes if each.ok])
        facts = [tokens_as_shown(self.usage)]
        return run_html(self.progress, self.stopped, facts, failures, answers)

    def _new_engine(self, *, is_ordered: bool, keep: bool, is_shared: bool) -> Engine:
        # On the loop, where nobody else can begin it meanwhile.
        self._check_new()
        self._keeps = keep
        engine = self._engine = Engine(
            self._plan, is_ordered=is_ordered, keep=keep, is_shared=is_shared
        )
        engine.is_probed = self._source.is_probed
        engine.answers = self._source.answers
        engine.total = self._total
        return engine

    def _check_new(self) -> None:
        if self._engine is not None:
            where = "Its outcomes are in run.outcomes. " if self._keeps else ""
            raise ConfigurationError(
                f"A run is done once. {where}To ask anew, call map again; with a checkpoint "
                "nothing is asked twice."
            )

    def _statistics(self) -> Statistics:
        return Statistics() if self._engine is None else self._engine.statistics

    def _finished(self) -> Engine:
        raise NotImplementedError

    def _of_rest(self, source: Source, before: Mapping[int, Outcome]) -> Any:
        raise NotImplementedError

    def _kept(self) -> Engine:
        if self._engine is None:
            raise ConfigurationError("The run has not begun: await it first.")
        if not self._keeps:
            raise ConfigurationError(
                "The outcomes were handed out one by one and not kept; to keep them, await the run "
                "or call wait() in place of iterating."
            )
        return self._engine

    def _rest(self) -> tuple[Source, dict[int, Outcome]]:
        # What is to be tried again, and what is done. The iterator goes on where it was left.
        engine = self._finished()
        if not engine.is_over:
            raise ConfigurationError("The run is under way: wait for its end first.")
        outcomes = self.outcomes
        again = [(each.row, each.index, each.key) for each in outcomes if not each.ok]
        again += [(each.row, each.index, each.key) for each in engine.unstarted]
        self._source.again = deque(sorted([*again, *self._source.again], key=_index))
        engine.unstarted = []
        self._source.is_probed = engine.is_probed
        self._source.answers = engine.answers
        return self._source, {outcome.index: outcome for outcome in outcomes if outcome.ok}


_index: Callable[[Row], int] = operator.itemgetter(1)
_index_of: Callable[[Outcome], int] = operator.attrgetter("index")


class AsyncRun(_AnyRun):
    """
    A run of `AsyncClient.map`. It begins when it is awaited or iterated.

    `await run` does all of it, keeps every outcome, and returns the run. `async for outcome in run`
    hands out the outcomes in input order, and `async for outcome in run.as_completed()` as they
    come; then nothing is kept but the numbers, and where outcomes are not taken, no further rows
    are pulled. A run is done once.
    """

    __module__ = "aistats"

    def __await__(self) -> Generator[Any, None, Self]:
        return self._all().__await__()

    if not TYPE_CHECKING:
        __iter__ = wrong_style("AsyncRun is read with `async for`; for plain `for` use Client")

    def __aiter__(self) -> AsyncIterator[Outcome]:
        return _AsyncOutcomes(functools.partial(self._begin, is_ordered=True, keep=False))

    def as_completed(self) -> AsyncIterator[Outcome]:
        """
        The outcomes as they come, in no order.
        """
        return _AsyncOutcomes(functools.partial(self._begin, is_ordered=False, keep=False))

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
        await engine.settled()
        if engine.failure is not None:
            raise engine.failure
        return self

    async def _begin(self, *, is_ordered: bool, keep: bool) -> Engine:
        self._check_new()
        engine = self._new_engine(is_ordered=is_ordered, keep=keep, is_shared=False)
        await engine.open()
        display = display_for(self._plan.progress)
        engine.feeder = engine.loop.create_task(_feed(engine, self._plan, self._source))
        if display is not None:
            engine.aides.append(engine.loop.create_task(_show(engine, display)))
        elif in_notebook():
            engine.aides.append(engine.loop.create_task(_stay_awake(engine)))
        return engine


class _AsyncOutcomes(AsyncIterator[Outcome]):
    """
    The outcomes of a run, one by one. Who drops it ends the run.
    """

    def __init__(self, begin: Callable[[], Awaitable[Engine]]) -> None:
        self._begin = begin
        self._engine: Engine | None = None

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Outcome:
        engine = self._engine
        if engine is None:
            engine = self._engine = await self._begin()
            weakref.finalize(self, engine.abort_soon, "closed").atexit = False
        while not engine.ready:
            if engine.is_over:
                await engine.settled()
                if engine.failure is not None:
                    raise engine.failure
                raise StopAsyncIteration
            engine.has_outcome.clear()
            try:
                await engine.has_outcome.wait()
            except BaseException:
                engine.abort()
                raise
        engine.delivered(1)
        return engine.ready.popleft()


def _failure_of_rows(error: Exception) -> str:
    return f"the rows failed: {type(error).__name__}: {error}"


async def _feed(engine: Engine, plan: Plan, source: Source) -> None:
    # Pulls rows while there is room for them.
    position = 0
    error: Exception | None = None
    try:
        while engine.stopped is None and not engine.is_over:
            if not engine.room():
                engine.has_room.clear()
                await engine.has_room.wait()
                continue
            end = monotonic() + _LONGEST_PULL
            while engine.room() and monotonic() < end:
                if source.is_async:
                    engine.is_pulling = True
                    pulled = await source.apull()
                    engine.is_pulling = False
                else:
                    pulled = source.pull()
                if pulled is None:
                    return
                if engine.stopped is not None:
                    break  # meanwhile; the row is there for a retry
                engine.is_asking = True
                item = await plan.aitem(position, pulled)
                engine.is_asking = False
                if engine.stopped is not None:
                    break
                engine.submit(item)
                source.taken()
                position += 1
            await asyncio.sleep(0)
    except Exception as raised:  # the caller's iterator did: what is under way is finished first
        error = raised
        source.failed = _failure_of_rows(raised)
    except BaseException as raised:
        engine.abort(None if isinstance(raised, asyncio.CancelledError) else raised)
        raise
    finally:
        engine.end_of_rows(error)


async def _stay_awake(engine: Engine) -> None:
    # A kernel's loop that waits for the network doesn't notice the stop button until it wakes.
    while not engine.is_over:
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(engine.ended.wait(), TICK)


async def _show(engine: Engine, display: Display) -> None:
    # Shows the progress until the run has ended, and how it ended.
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


class Run(_AnyRun):
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
        The outcomes as they come, in no order.
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
        display = display_for(self._plan.progress)
        items: deque[Item] = deque()
        try:
            engine = self._run(functools.partial(self._begin, is_ordered=is_ordered, keep=keep))
            outcomes: list[Outcome] = []
            position, is_last, is_over, error = 0, False, False, None
            while not is_over:
                outcomes, room, is_over = self._run(
                    functools.partial(
                        engine.exchange,
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
                    end = monotonic() + _LONGEST_PULL
                    while room > 0 and not is_last:
                        pulled = self._source.pull()
                        if pulled is None:
                            is_last = True
                        else:
                            items.append(self._plan.item(position, pulled))
                            self._source.taken()
                            engine.submit_soon(items)
                            position += 1
                            room -= 1
                        if monotonic() > end:
                            break
                except Exception as raised:  # the caller's iterator did: finish what is under way
                    is_last, error = True, raised
                    self._source.failed = _failure_of_rows(raised)
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
        await engine.open()
        return engine

    def _abandon(self, reason: str) -> None:
        engine = self._engine
        if engine is None or engine.is_over:
            return
        if threading.get_ident() == engine.thread:
            # The collector runs on any thread, the loop's own too, which can't wait for itself.
            engine.abort_soon(reason)
            return
        try:
            self._run(functools.partial(engine.abort_and_wait, reason))
        except ConfigurationError:  # the client has been closed, and nothing runs any more
            engine.close_file()
