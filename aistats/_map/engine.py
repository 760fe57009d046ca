"""
The engine of a run: requests in, outcomes out, on an event loop, for both calling styles.

It is given rows that were made into requests, and hands out outcomes. What differs is who feeds it,
which is for `_map` to say.

Everything is bounded. There is a task for each request that is under way, never one for a row; rows
are wanted when there is room for them; and where outcomes are not taken, no further rows are.

What waits has no task: `_next` alone says which request may be sent now, and where it has to wait
for a cooldown or for the pace, one alarm rings for all. What was too fast waits there again; where
the number of requests is pinned, it rests for a moment first, and keeps its place.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import os
import random
import threading
from collections import OrderedDict, deque
from decimal import Decimal

import anyio.to_thread
import attrs

from .._call.retry import is_local, is_throttle
from .._clock import monotonic
from .._errors import (
    AIStatsError,
    APIConnectionError,
    APIResponseError,
    ConfigurationError,
    RequestValidationError,
    at_local_limit,
)
from .._exchange import Attempt, Timing
from .._net.local_limits import local_limit
from .._net.transport import running_loop
from .._progress import Progress
from .._views.completion import ChatCompletionsResponse
from .checkpoint import Checkpoint
from .outcome import Outcome
from .pace import Pace, estimated_tokens
from .plan import Plan
from .source import Item
from .statistics import Statistics

__all__ = ("Engine",)

_SMALLEST_WINDOW = 100
_KEPT_FOR_DUPLICATES = 256
_ENOUGH_FOR_A_SHARE = 20
_LONGEST_START = 10.0  # seconds for which the first request waits for what this machine lacks
_REFUSED = frozenset({400, 401, 402, 403, 404})
_REFUSED_FOR_ALL = frozenset({401, 402, 407})  # the key, the credit, a proxy's password
_TELL_OF_THE_CALL = (ChatCompletionsResponse, AIStatsError)

_log = logging.getLogger("aistats")


class Engine:
    """
    Asks for what is submitted, some at a time, and keeps the outcomes until they are taken.

    All of it runs on the event loop. It ends when it was told that there are no more rows, or was
    stopped, and nothing is under way any more.

    Args:
        plan: What is asked for, and how.
        is_ordered: Whether outcomes come in the order of their rows, or as they finish.
        keep: Whether all outcomes are kept, and none handed out.
        is_shared: Whether one waiter waits for outcomes and for room, or one for each.
    """

    def __init__(self, plan: Plan, *, is_ordered: bool, keep: bool, is_shared: bool) -> None:
        self.plan = plan
        self.total: int | None = None
        self.statistics = Statistics()
        self.is_over = False
        self.is_probed = False
        """Whether the gateway has answered: until then one request is sent."""
        self.stopped: str | None = None
        self.failure: BaseException | None = None
        """What is raised once the outcomes are taken."""
        self.kept: list[Outcome] = []
        self.unstarted: list[Item] = []
        self.ready: deque[Outcome] = deque()
        self.loop = running_loop()
        self.thread = threading.get_ident()
        self.has_outcome = asyncio.Event()
        self.has_room = self.has_outcome if is_shared else asyncio.Event()
        self.ended = asyncio.Event()
        self.feeder: asyncio.Task[None] | None = None
        """What submits the rows."""
        self.is_pulling = False
        """Whether the feeder waits for the caller's rows: only those can end that."""
        self.answers: OrderedDict[str, ChatCompletionsResponse] = OrderedDict()
        """Answers for duplicates, by the hash of their request: all where they are kept anyway."""
        self.is_asking = False
        """Whether the feeder awaits a function of the caller's, which ends with the run."""
        self.aides: list[asyncio.Task[None]] = []
        """What else runs beside it, and ends with it."""
        self._is_ordered = is_ordered
        self._keeps = keep
        self._limits = plan.gateway.limits
        most = self._limits.most
        self._most = most if plan.concurrency == "auto" else min(plan.concurrency, most)
        self._window = max(_SMALLEST_WINDOW, 4 * self._most)
        self._pace = Pace(plan.rpm, plan.tpm) if plan.rpm or plan.tpm else None
        self._checkpoint: Checkpoint | None = None
        self._alarm: asyncio.TimerHandle | None = None
        """Rings when the budget of time is used up."""
        self._turn: asyncio.TimerHandle | None = None
        """Rings when the next request may be sent."""
        self._pending: deque[Item] = deque()
        self._tasks: dict[asyncio.Task[None], Item] = {}
        self._resting: dict[Item, asyncio.TimerHandle] = {}
        """Those that were turned away, each until its rest is over."""
        self._leaders: dict[str, Item] = {}
        self._no_more_rows = False
        self._has_warned = False
        """Whether the log has the local limit that was reached."""
        self._is_submitting = False
        """Whether the loop has been told to submit rows."""
        self._submitted = self._delivered = 0
        self._next_position = 0
        self._early: dict[int, Outcome | None] = {}
        """Outcomes whose turn has not come; `None` for a row that was never started."""

    async def open(self) -> None:
        """
        Make ready; the checkpoint's file is read in a thread.

        Raises:
            ConfigurationError: The checkpoint can't be used.
        """
        if self.plan.concurrency == "auto":
            self._limits.find()
        if (seconds := self.plan.budget.seconds) is not None:
            reason = f"budget: {seconds} seconds are over"
            self._alarm = self.loop.call_later(float(seconds), self.stop, reason)
        try:
            if self.plan.checkpoint is not None:
                await self._open_checkpoint(self.plan.checkpoint)
        except Exception as error:
            self.abort(error)
            raise
        except BaseException:
            self.abort()
            raise
        self.aides.append(self.loop.create_task(self._watch()))

    async def _watch(self) -> None:
        # Where all that is left waits for its turn, nothing else would notice that the client was
        # closed, or that the loop ends.
        try:
            await self.plan.gateway.transport.wait(self.ended.wait)
        except ConfigurationError as error:
            self._break(str(error), error)
        except BaseException:
            self.abort()
            raise

    async def _open_checkpoint(self, path: str | os.PathLike[str]) -> None:
        # Whoever cancels this may want the file next, so the thread is waited for.
        reading = asyncio.ensure_future(anyio.to_thread.run_sync(self._open_file, path))
        try:
            await asyncio.shield(reading)
        except asyncio.CancelledError:
            self.abort()
            await asyncio.gather(reading, return_exceptions=True)
            raise
        except RuntimeError as error:
            if (limit := local_limit(error)) is None:
                raise
            raise at_local_limit("The checkpoint can't be read", limit) from None

    def _open_file(self, path: str | os.PathLike[str]) -> None:
        self._checkpoint = Checkpoint(
            path, finds_own=self.plan.dedup, is_wanted=lambda: not self.is_over
        )
        if self.is_over:
            self._checkpoint.close()

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
        What `Run` does in one hop: hand over rows, and wait for outcomes or for room.

        Args:
            items: The next rows; each is taken off as it is submitted.
            taken: How many of the outcomes that it got before are done with.
            is_last: Whether there are no more rows.
            error: What the caller's iterator raised.
            within: The longest wait, in seconds.

        Returns:
            The outcomes that are ready, for how many rows there is room, and whether that is all.
        """
        self.delivered(taken)
        self._submit_all(items)
        if is_last and not self._no_more_rows:
            self.end_of_rows(error)
        end = math.inf if within is None else self.loop.time() + within
        alarm = None if within is None else self.loop.call_later(within, self.has_outcome.set)
        while not (self.ready or self.is_over or self._wants_rows()):
            self.has_outcome.clear()
            await self.has_outcome.wait()
            if self.loop.time() >= end:
                break
        if alarm is not None:
            alarm.cancel()
        outcomes = list(self.ready)
        self.ready.clear()
        return outcomes, self.room(), self.is_over

    def submit_soon(self, items: deque[Item]) -> None:
        """
        Have *items* submitted by the loop, from any thread. More may be appended meanwhile.

        The caller need not wait: its next row may take long, or may depend on the answer to this
        one.
        """
        if not self._is_submitting:
            self._is_submitting = True
            with contextlib.suppress(RuntimeError):  # the loop is closed; the next hop says so
                self.loop.call_soon_threadsafe(self._submit_all, items)

    def _submit_all(self, items: deque[Item]) -> None:
        self._is_submitting = False
        while items and not self.is_over:
            self.submit(items[0])
            items.popleft()  # only now: what is interrupted before is given back

    # --- rows in ---

    def room(self) -> int:
        """
        How many rows can be submitted now.
        """
        if self.stopped is not None or self.is_over:
            return 0
        ahead = 2 * self.limit() - len(self._pending)
        return max(0, min(ahead, self._window - (self._submitted - self._delivered)))

    def limit(self) -> int:
        """
        How many requests may be under way now; 1 until the first has been answered.
        """
        if self.plan.concurrency == "auto":
            return self._limits.concurrency if self.is_probed else 1
        return (self._most if self.is_probed else 1) - len(self._resting)

    def submit(self, item: Item) -> None:
        """
        Take the next row, in order.
        """
        self._submitted += 1
        if self.stopped is not None or self.is_over:
            self._give_up(item)
        elif item.error is not None:
            if isinstance(item.error, ConfigurationError):
                self._break(str(item.error), item.error)
            elif not self.is_probed and self._submitted == 1 and _lacks_model(item.error):
                self._break(f"the first row makes no request: {item.error}", item.error)
            self._finish(item, error=item.error)
        elif (response := self._known(item)) is not None:
            self.is_probed = True  # it was answered once
            self._finish(item, response, cached=True)
            self._fill()
        elif self.plan.dedup and (leader := self._leaders.get(item.hashed)) is not None:
            leader.followers.append(item)
        else:
            if self.plan.dedup:
                self._leaders[item.hashed] = item
            if self.plan.tpm and (request := item.request) is not None:
                item.estimate = estimated_tokens(
                    item.body,
                    request.max_output_tokens,
                    request.max_completion_tokens,
                    request.max_tokens,
                )
            self._pending.append(item)
            self._fill()

    def end_of_rows(self, error: Exception | None = None) -> None:
        """
        There are no more rows; *error* is what the caller's iterator raised.
        """
        self._no_more_rows = True
        self.failure = self.failure or error
        self._end_if_done()

    def _known(self, item: Item) -> ChatCompletionsResponse | None:
        if self._checkpoint is not None and item.key is not None:
            response = self._checkpoint.find(item.key, item.hashed)
            if response is not None:
                item.is_noted = True
                return response
        return self.answers.get(item.hashed) if self.plan.dedup else None

    # --- requests under way ---

    def _fill(self) -> None:
        while len(self._tasks) < self.limit() and (item := self._next()) is not None:
            task = self.loop.create_task(self._work(item))
            self._tasks[task] = item

    def _next(self) -> Item | None:
        # The item that is sent now; `None` if there is none that may be.
        while (self._pending or self._resting) and self._may_start():
            if not self._pending:
                return None
            item = self._pending[0]
            seconds = self._limits.cooldown
            if self._pace is not None:
                seconds = max(seconds, self._pace.wait(monotonic(), item.estimate))
            if item.throttle is not None and self._left(item) <= seconds:
                self._pending.popleft()
                self._failed(item, item.throttle)
            elif seconds > 0:
                self._set_turn(seconds)
                return None
            else:
                if self._pace is not None:
                    self._pace.take(monotonic(), item.estimate)
                self._pending.popleft()
                self._tell_of_room()
                return item
        return None

    def _may_start(self) -> bool:
        if self.stopped is not None:
            return False
        budget, used = self.plan.budget, self.statistics
        if budget.usd is not None and used.cost >= Decimal(str(budget.usd)):
            self.stop(f"budget: {used.cost} of {budget.usd} USD are used up")
        elif budget.tokens is not None and used.tokens >= budget.tokens:
            self.stop(f"budget: {used.tokens} of {budget.tokens} tokens are used up")
        return self.stopped is None

    def _set_turn(self, seconds: float) -> None:
        when = self.loop.time() + seconds
        if self._turn is not None:
            if self._turn.when() <= when:
                return
            self._turn.cancel()
        self._turn = self.loop.call_at(when, self._turn_came)

    def _turn_came(self) -> None:
        self._turn = None
        self._fill()
        self._end_if_done()

    def _left(self, item: Item) -> float:
        # Of the time that the call may take, from when it was first sent.
        total = self.plan.call.timeout.total
        return math.inf if total is None else total - (monotonic() - item.begun)

    async def _work(self, item: Item) -> None:
        task = asyncio.current_task()
        assert task is not None
        try:
            while True:
                try:
                    response = await self._ask(item)
                except Exception as error:  # a bad item never kills the run
                    self._failed(item, error)
                else:
                    if response is not None:
                        self._answered(item, response)
                if len(self._tasks) > self.limit() or (following := self._next()) is None:
                    break
                item = self._tasks[task] = following
                self._fill()
        except Exception as error:
            self.abort(error)
        except BaseException as error:
            self.abort(None if isinstance(error, asyncio.CancelledError) else error)
            raise
        finally:
            self._tasks.pop(task, None)
            self._fill()
            self._end_if_done()

    async def _ask(self, item: Item) -> ChatCompletionsResponse | None:
        # `None` if that was too fast: then the item waits for another turn.
        call = self.plan.call.with_body(item.body)
        if item.throttle is None:
            item.begun = monotonic()
        else:
            item.earlier += item.throttle.attempts
            item.throttle = None
            if (left := self._left(item)) < math.inf:
                # Between its turn and here it may have run out, and no limit may be below 0.
                call = attrs.evolve(call, timeout=attrs.evolve(call.timeout, total=max(left, 1e-3)))
        try:
            response = await call.whole()
        except AIStatsError as error:
            self._correct_pace(item, error.attempts)
            if is_local(error):
                self._warn_of_local_limit(error)
                if not self.is_probed and monotonic() - item.begun > _LONGEST_START:
                    raise
            elif is_throttle(error):
                self.statistics.throttled += 1
            else:
                raise
            rest = self._rest_after(error, self._left(item))
            if self._left(item) <= self._limits.cooldown or rest is None:
                raise
            if self.stopped is None:
                item.throttle = error
                if rest:
                    self._resting[item] = self.loop.call_later(rest, self._rested, item)
                else:
                    self._pending.appendleft(item)
            elif not self.is_over:
                self._give_up(item)
            return None
        return response

    def _warn_of_local_limit(self, error: AIStatsError) -> None:
        if not self._has_warned:
            self._has_warned = True
            _log.warning("the run sends fewer requests at once and goes on: %s", error)

    def _rest_after(self, error: AIStatsError, left: float) -> float | None:
        # Seconds until a request that was turned away may wait for its turn again, of those that
        # are *left*; `None` if it may not. A number that is pinned does not shrink: at once, those
        # that the gateway has no room for would be turned away thousands of times a second.
        policy = self.plan.policy
        if not self.plan.passes(error):
            return None
        asked: float = getattr(error, "retry_after", None) or 0.0
        if asked > policy.shared_wait:
            return asked if asked < left else None  # the others are not held back for all of it
        if self.plan.concurrency == "auto" or asked:
            return 0.0  # there are fewer at once from now on, or all are held back
        return min(min(policy.base, policy.cap) * random.random(), left / 2)

    def _rested(self, item: Item) -> None:
        del self._resting[item]
        self._pending.appendleft(item)
        self._fill()
        self._end_if_done()

    def _correct_pace(
        self, item: Item, attempts: tuple[Attempt, ...], used: int | None = 0
    ) -> None:
        # Retries within the call were not waited for: those that come after it wait for longer.
        if self._pace is None:
            return
        for _ in attempts[1:]:
            self._pace.take(monotonic())
        if used is not None:
            self._pace.correct(item.estimate, used)

    def _answered(self, item: Item, response: ChatCompletionsResponse) -> None:
        self.is_probed = True
        used = self.statistics.add_answer(response)
        self._correct_pace(item, response.attempts, used or None)
        if self.plan.dedup:
            self.answers[item.hashed] = response
            if not self._keeps and len(self.answers) > _KEPT_FOR_DUPLICATES:
                self.answers.popitem(last=False)
        self._finish(item, response)

    def _failed(self, item: Item, error: Exception) -> None:
        try:
            reason = self._reason_to_stop(error)
        except Exception as raised:  # the caller's `retry_if` did
            error, reason = raised, None
        if reason is not None:
            self._break(reason, error)
        else:
            self.is_probed = True
        self._finish(item, error=error)

    def _break(self, reason: str, error: Exception) -> None:
        # Nobody asked for that, and who looks at the outcomes alone would see that few came.
        if self.stopped is None:
            if self.plan.on_error != "raise":
                _log.warning("the run was stopped: %s", reason)
            self.stop(reason, error if self.plan.on_error == "raise" else None)

    def _reason_to_stop(self, error: Exception) -> str | None:
        if isinstance(error, ConfigurationError):
            return str(error)
        if not isinstance(error, AIStatsError) or isinstance(error, RequestValidationError):
            return None
        passes = self.plan.passes(error)
        told = error.attempts[-1].outcome if error.attempts else None
        is_elsewhere = isinstance(error, APIResponseError) or told == "unsent"
        is_refused = error.status in _REFUSED and not passes
        if not self.is_probed and (is_refused or is_elsewhere):
            return f"the first request failed, and no more were sent: {error}"
        is_of_all = error.status in _REFUSED_FOR_ALL and not passes
        is_permanent = isinstance(error, APIConnectionError) and error.is_permanent
        return str(error) if is_of_all or is_permanent or self.plan.is_used_up(error) else None

    # --- outcomes out ---

    def _finish(
        self,
        item: Item,
        response: ChatCompletionsResponse | None = None,
        error: Exception | None = None,
        *,
        cached: bool = False,
    ) -> None:
        # The item has its response or its error, and so have those that waited for it.
        if self.is_over:
            return
        self._lead_no_more(item)
        told = response or error
        if isinstance(told, _TELL_OF_THE_CALL):
            attempts, timing = item.earlier + told.attempts, told.timing
        else:
            attempts, timing = item.earlier, Timing()
        if item.earlier or item.throttle is not None:
            timing = attrs.evolve(timing, total=monotonic() - item.begun)
        noted: set[str | None] = set()
        for each in (item, *item.followers):
            outcome = Outcome(
                each.index,
                each.key,
                each.row,
                each.request,
                response,
                error,
                attempts,
                timing,
                cached or (each is not item and error is None),
            )
            # What is written is written before anybody can know of it.
            if self._checkpoint is not None and each.key not in noted:
                self._note(each, outcome)
                noted.add(each.key)
            self._count(outcome)
            self._hand_out(each, outcome)
        self._tell_of_room()

    def _count(self, outcome: Outcome) -> None:
        done = self.statistics
        done.done += 1
        done.cached += outcome.cached
        if outcome.error is None:
            return
        done.failed += 1
        rule = self.plan.stop_after
        if self.plan.on_error == "raise":
            self.stop("an error was to be raised", outcome.error)
        elif rule is None:
            pass
        elif rule >= 1:
            if done.failed >= rule:
                self.stop(f"stop_after: {done.failed} failures")
        elif done.done >= _ENOUGH_FOR_A_SHARE and done.failed >= rule * done.done:
            self.stop(f"stop_after: {done.failed} failures in {done.done}")

    def _give_up(self, item: Item) -> None:
        # A row that was never started has no outcome.
        self._lead_no_more(item)
        for each in (item, *item.followers):
            self.unstarted.append(each)
            self._hand_out(each, None)
        item.followers = []

    def _give_up_waiting(self) -> None:
        while self._pending:
            self._give_up(self._pending.popleft())
        while self._resting:
            item, rest = self._resting.popitem()
            rest.cancel()
            self._give_up(item)

    def _lead_no_more(self, item: Item) -> None:
        if self._leaders.get(item.hashed) is item:
            del self._leaders[item.hashed]

    def _hand_out(self, item: Item, outcome: Outcome | None) -> None:
        if self._keeps or outcome is None:
            self._delivered += 1
        if self._keeps:
            if outcome is not None:
                self.kept.append(outcome)
            return
        if self._is_ordered:
            self._early[item.position] = outcome
            while self._next_position in self._early:
                outcome = self._early.pop(self._next_position)
                self._next_position += 1
                if outcome is not None:
                    self.ready.append(outcome)
        elif outcome is not None:
            self.ready.append(outcome)
        if self.ready:
            self.has_outcome.set()

    def delivered(self, count: int) -> None:
        """
        So many of what was ready has been taken, and there is room for more.
        """
        self._delivered += count
        self._tell_of_room()

    def _tell_of_room(self) -> None:
        if self._wants_rows():
            self.has_room.set()

    def _wants_rows(self) -> bool:
        return not self._no_more_rows and len(self._pending) <= self.limit() and self.room() > 0

    def _note(self, item: Item, outcome: Outcome) -> None:
        assert self._checkpoint is not None
        if item.key is None or item.is_noted:
            return
        try:
            self._checkpoint.add(
                item.key,
                item.hashed,
                item.index,
                outcome.unwrap() if outcome.error is None else outcome.error,
                outcome.attempts,
                outcome.timing,
            )
        except ConfigurationError as error:
            self.stop(str(error), error)

    # --- the end ---

    def stop(self, reason: str, error: BaseException | None = None) -> None:
        """
        Start no more requests. Those under way are finished.
        """
        self.failure = self.failure or error
        if self.stopped is not None:
            return
        self.stopped = reason
        self._give_up_waiting()
        self.loop.call_soon(self._end_if_done)

    def abort(self, error: BaseException | None = None, reason: str = "interrupted") -> None:
        """
        Start no more requests, and cancel those under way.
        """
        if self.is_over:
            return
        self.failure = self.failure or error
        self.stopped = self.stopped or reason
        self._give_up_waiting()
        for task, item in self._tasks.items():
            self._give_up(item)
            if task is not asyncio.current_task(self.loop):
                task.cancel()
        self._tasks.clear()
        self._end()

    async def abort_and_wait(self, reason: str = "interrupted") -> None:
        """
        The same; when it returns, nothing is under way any more.
        """
        tasks = list(self._tasks)
        self.abort(None, reason)
        await asyncio.gather(*tasks, return_exceptions=True)

    def abort_soon(self, reason: str) -> None:
        """
        The same from any thread, without waiting.
        """
        try:
            self.loop.call_soon_threadsafe(self.abort, None, reason)
        except RuntimeError:  # the loop is closed, and what was on it is gone
            self.close_file()

    def close_file(self) -> None:
        """
        Close the checkpoint, from any thread.
        """
        if self._checkpoint is not None:
            self._checkpoint.close()

    def _end_if_done(self) -> None:
        no_more = self._no_more_rows or self.stopped is not None
        if no_more and not (self._tasks or self._pending or self._resting):
            self._end()

    def _end(self) -> None:
        if self.is_over:
            return
        self.is_over = True
        if self.statistics.done == self.total:
            self.stopped = None  # it was too late to stop anything
        # What comes after a row that was never started has waited for it in vain.
        late = (outcome for _, outcome in sorted(self._early.items()))
        self.ready.extend(outcome for outcome in late if outcome is not None)
        self._early.clear()
        self.close_file()
        for timer in (self._alarm, self._turn):
            if timer is not None:
                timer.cancel()
        if not self._keeps:
            self.answers.clear()
        if self.is_asking and self.feeder is not None:
            self.feeder.cancel()
        self.ended.set()
        self.has_outcome.set()
        self.has_room.set()  # the feeder sees that it is over

    async def settled(self) -> None:
        """
        It has ended, and what ran beside it has, too.
        """
        aides = list(self.aides)
        if self.feeder is not None and not self.is_pulling:
            aides.append(self.feeder)
        await asyncio.gather(*aides, return_exceptions=True)

    def progress(self) -> Progress:
        """
        How far it is.
        """
        concurrency = self.limit() + len(self._resting)
        return self.statistics.snapshot(self.total, len(self._tasks), concurrency)


def _lacks_model(error: Exception) -> bool:
    # That is mostly forgotten for all rows.
    return isinstance(error, RequestValidationError) and any(
        fault.path == "model" for fault in error.faults
    )
