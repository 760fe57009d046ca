"""
The requests of a run that are in flight: one task for each.
"""

from __future__ import annotations

import asyncio
import logging
import math
from typing import Protocol

import attrs

from .._call.retry import is_local, is_throttle
from .._clock import monotonic
from .._errors import AIStatsError
from .._views.completion import ChatCompletionsResponse
from .admission import Admission
from .plan import Plan
from .source import Item
from .statistics import Statistics

__all__ = ("InFlight",)

_LONGEST_START = 10.0  # seconds for which the first request waits for what this machine lacks

_LONGEST_PROBE = 1.0  # seconds for which other requests wait for the first answer

_log = logging.getLogger("aistats")


class Owner(Protocol):
    """
    Gets the results of requests, and says whether more may be sent.
    """

    stopped: str | None
    is_over: bool

    def may_start(self, in_flight: int) -> bool:
        """
        Return whether another request may be sent while *in_flight* requests are.
        """
        ...

    def answered(self, item: Item, response: ChatCompletionsResponse) -> None:
        """
        Take the response to *item*.
        """
        ...

    def failed(self, item: Item, error: Exception) -> None:
        """
        Take the error of *item*.
        """
        ...

    def give_up(self, item: Item) -> None:
        """
        Take *item* back as a row that was never asked.
        """
        ...

    def abort(self, error: BaseException | None = None) -> None:
        """
        End the run at once.
        """
        ...

    def tell_of_room(self) -> None:
        """
        Wake the feeder if there is room for rows.
        """
        ...

    def end_if_done(self) -> None:
        """
        End the run if nothing is left to do.
        """
        ...


class InFlight:
    """
    Sends the requests that `Admission` admits, as many at once as it allows.

    Args:
        owner: The engine.
        plan: The arguments of `map`.
        admission: The waiting requests.
        statistics: Counts the rejected requests.
        loop: The event loop of the run.
    """

    def __init__(
        self,
        owner: Owner,
        plan: Plan,
        admission: Admission,
        statistics: Statistics,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self._owner = owner
        self._plan = plan
        self._admission = admission
        self._statistics = statistics
        self._loop = loop
        self._tasks: dict[asyncio.Task[None], Item] = {}
        self._turn: asyncio.TimerHandle | None = None
        """Wakes this object when the next request may be sent."""
        self._probe: asyncio.TimerHandle | None = None
        """Ends the wait for the first answer."""
        self._has_warned = False
        """Whether the log has the local limit that was reached."""

    def __len__(self) -> int:
        return len(self._tasks)

    def fill(self) -> None:
        """
        Send the requests that may be sent now.
        """
        while len(self._tasks) < self._admission.limit and (item := self._next()) is not None:
            self._time_probe()
            task = self._loop.create_task(self._work(item))
            self._tasks[task] = item

    def tasks(self) -> list[asyncio.Task[None]]:
        """
        Return the task of each request.
        """
        return list(self._tasks)

    def cancel(self) -> None:
        """
        Cancel all requests, and give them back to the owner.
        """
        tasks = dict(self._tasks)
        self._tasks.clear()
        for task, item in tasks.items():
            self._owner.give_up(item)
            if task is not asyncio.current_task(self._loop):
                task.cancel()

    def close(self) -> None:
        """
        Stop the timer.
        """
        for timer in (self._turn, self._probe):
            if timer is not None:
                timer.cancel()

    def _time_probe(self) -> None:
        if self._admission.is_probing:
            if self._probe is not None:
                self._probe.cancel()
            self._probe = self._loop.call_later(_LONGEST_PROBE, self._probe_takes_long)

    def _probe_takes_long(self) -> None:
        if self._admission.is_probed:
            return
        self._admission.is_patient = False
        if self._plan.concurrency == "auto":
            self._plan.gateway.limits.widen()
        self._probe = self._loop.call_later(_LONGEST_PROBE, self._probe_takes_long)
        self.fill()
        self._owner.tell_of_room()

    def _next(self) -> Item | None:
        # The request to send now. If it is not its time yet, a timer wakes the engine then.
        while self._admission and self._owner.may_start(len(self._tasks)):
            now = monotonic()
            if (late := self._admission.expired(now)) is not None:
                assert late.throttle is not None
                self._owner.failed(late, late.throttle)
                continue
            turn = self._admission.next(now)
            if isinstance(turn, Item):
                self._owner.tell_of_room()
                return turn
            if turn is not None:
                self._set_turn(turn)
            return None
        return None

    def _set_turn(self, seconds: float) -> None:
        when = self._loop.time() + seconds
        if self._turn is not None:
            if self._turn.when() <= when:
                return
            self._turn.cancel()
        self._turn = self._loop.call_at(when, self._turn_came)

    def _turn_came(self) -> None:
        self._turn = None
        self._admission.wake(monotonic())
        self.fill()
        if (rest := self._admission.rest_of_next(monotonic())) is not None:
            self._set_turn(rest)
        self._owner.end_if_done()

    async def _work(self, item: Item) -> None:
        task = asyncio.current_task()
        assert task is not None
        try:
            while True:
                try:
                    response = await self._ask(item)
                except Exception as error:  # a bad row never ends the run
                    self._tasks.pop(task, None)
                    self._owner.failed(item, error)
                else:
                    self._tasks.pop(task, None)
                    if response is not None:
                        self._owner.answered(item, response)
                is_full = len(self._tasks) >= self._admission.limit
                if is_full or (following := self._next()) is None:
                    break
                self._time_probe()
                item = self._tasks[task] = following
                self.fill()
        except Exception as error:
            self._owner.abort(error)
        except BaseException as error:
            self._owner.abort(None if isinstance(error, asyncio.CancelledError) else error)
            raise
        finally:
            self._tasks.pop(task, None)
            self.fill()
            self._owner.end_if_done()

    async def _ask(self, item: Item) -> ChatCompletionsResponse | None:
        # The response; `None` if the request was rejected as too fast and waits again.
        call = self._plan.call.with_body(item.body)
        if item.throttle is None:
            item.begun = monotonic()
        else:
            item.earlier += item.throttle.attempts
            item.throttle = None
            left = self._admission.time_left(item, monotonic())
            if left < math.inf:
                # The time may have run out since its turn came, and no limit may be below 0.
                call = attrs.evolve(call, timeout=attrs.evolve(call.timeout, total=max(left, 1e-3)))
        try:
            return await call.whole()
        except AIStatsError as error:
            now = monotonic()
            self._admission.correct_pace(item, error.attempts, now)
            if is_local(error):
                self._warn_of_local_limit(error)
                if not self._admission.is_probed and now - item.begun > _LONGEST_START:
                    raise
            elif is_throttle(error):
                self._statistics.throttled += 1
            else:
                raise
            rest = self._admission.rest_after(item, error, now)
            if rest is None:
                raise
            if self._owner.stopped is None:
                self._admission.put_back(item, error, rest, now)
                if rest:
                    self._set_turn(rest)
            elif not self._owner.is_over:
                self._owner.give_up(item)
            return None

    def _warn_of_local_limit(self, error: AIStatsError) -> None:
        if not self._has_warned:
            self._has_warned = True
            _log.warning("the run sends fewer requests at once and goes on: %s", error)
