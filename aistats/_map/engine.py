"""
The engine of a run: sends requests and hands out outcomes on an event loop, for both clients.

It gets rows that were made into requests. Who feeds it differs between the clients; see `run`.

Everything is bounded. There is one task for each request in flight, and none for a waiting row.
Rows are wanted only while there is room for them, and outcomes that are not taken leave no room.

The rules have owners of their own: `Admission` says which request may be sent now, `KnownAnswers`
which row needs none, `StopRules` when the run stops, and `Outbox` which outcome is next.
"""

from __future__ import annotations

import asyncio
import threading
from collections import OrderedDict

from .._clock import monotonic
from .._errors import ConfigurationError
from .._net.transport import running_loop
from .._progress import Progress
from .._views.completion import ChatCompletionsResponse
from .admission import Admission
from .beside import Beside
from .in_flight import InFlight
from .known import KnownAnswers
from .outbox import Outbox
from .outcome import outcomes_of
from .plan import Plan
from .source import Item
from .statistics import Statistics
from .stopping import StopRules

__all__ = ("Engine",)

_SMALLEST_WINDOW = 100


class Engine:
    """
    Sends the requests of a run, and holds the outcomes until they are taken.

    It is over when there are no more rows, or it was stopped, and no request is in flight.

    Args:
        plan: The arguments of `map`.
        is_ordered: Whether outcomes come in the order of their rows, or as they finish.
        keep: Whether all outcomes are kept, and none handed out.
        is_shared: Whether one event stands for both "outcomes are ready" and "there is room".
        total: How many rows there are, if that is known.
        is_probed: Whether the gateway has answered a request of an earlier run of these rows.
        answers: Answers of that run, by the hash of their request.
    """

    def __init__(
        self,
        plan: Plan,
        *,
        is_ordered: bool,
        keep: bool,
        is_shared: bool,
        total: int | None,
        is_probed: bool,
        answers: OrderedDict[str, ChatCompletionsResponse],
    ) -> None:
        self.plan = plan
        self.total = total
        self.statistics = Statistics(plan.spending)
        self.admission = Admission(plan, plan.gateway.limits)
        self.admission.is_probed = is_probed
        self.known = KnownAnswers(answers, dedup=plan.dedup, keeps_all=keep)
        self.outbox = Outbox(
            is_ordered=is_ordered,
            keeps=keep,
            window=max(_SMALLEST_WINDOW, 4 * self.admission.maximum),
        )
        self.is_over = False
        self.stopped: str | None = None
        self.failure: BaseException | None = None
        """Raised once the outcomes are taken."""
        self.loop = running_loop()
        self.thread = threading.get_ident()
        self.has_outcome = asyncio.Event()
        self.has_room = self.has_outcome if is_shared else asyncio.Event()
        self.ended = asyncio.Event()
        self._rules = StopRules(plan)
        self.beside = Beside(self.loop)
        self.beside.at_end(self.known.close)
        self.in_flight = InFlight(self, plan, self.admission, self.statistics, self.loop)
        self.beside.at_end(self.in_flight.close)
        self.no_more_rows = False

    def room(self) -> int:
        """
        Return how many rows can be submitted now.
        """
        if self.stopped is not None or self.is_over:
            return 0
        ahead = 2 * self.admission.limit - self.admission.queued
        return max(0, min(ahead, self.outbox.room(self.known.following)))

    def submit(self, item: Item) -> None:
        """
        Take the next row, in order.
        """
        self.outbox.submitted += 1
        if self.stopped is not None or self.is_over:
            self.give_up(item)
        elif item.error is not None:
            is_first = not self.admission.is_probed and self.outbox.submitted == 1
            if (reason := self._rules.after_row(item.error, is_first=is_first)) is not None:
                self.break_off(reason, item.error)
            self._finish(item, error=item.error)
        elif (response := self.known.find(item)) is not None:
            self.admission.is_probed = True
            self._finish(item, response, cached=True)
            self.in_flight.fill()
        elif not self.known.follow(item):
            self.admission.add(item)
            self.in_flight.fill()

    def end_of_rows(self, error: Exception | None = None) -> None:
        """
        Take no more rows. *error* is what the caller's iterator raised.
        """
        self.no_more_rows = True
        self.failure = self.failure or error
        self.end_if_done()

    def may_start(self, in_flight: int) -> bool:
        """
        Return whether another request may be sent while *in_flight* requests are.
        """
        if self.stopped is None and (reason := self._rules.before_request()):
            self.stop(reason)
        return self.stopped is None and self.plan.spending.has_room(in_flight)

    def answered(self, item: Item, response: ChatCompletionsResponse) -> None:
        """
        Take the response to *item*.
        """
        self.admission.is_probed = True
        used = self.statistics.add_answer(response)
        self.admission.correct_pace(item, response.attempts, monotonic(), used or None)
        self.known.answered(item, response)
        self._finish(item, response)

    def failed(self, item: Item, error: Exception) -> None:
        """
        Take the error of *item*, which may be a reason to stop.
        """
        try:
            reason = self._rules.after_failure(error, is_first=not self.admission.is_probed)
        except Exception as raised:  # the caller's `retry_if` did
            error, reason = raised, None
        if reason is not None:
            self.break_off(reason, error)
        elif not self._rules.refusals:
            self.admission.is_probed = True
        self._finish(item, error=error)

    def break_off(self, reason: str, error: Exception) -> None:
        """
        Stop because of *error*, unless that is raised once the row has its outcome.
        """
        if self.stopped is None and not self._rules.raises:
            self.stop(reason)

    def _finish(
        self,
        item: Item,
        response: ChatCompletionsResponse | None = None,
        error: Exception | None = None,
        *,
        cached: bool = False,
    ) -> None:
        # Give the response or the error to *item* and to the rows that follow it.
        if self.is_over:
            return
        self.known.release(item)
        stop: str | None = None
        noted: set[str | None] = set()
        for each, outcome in outcomes_of(item, response, error, cached=cached):
            # The checkpoint has an outcome before anyone can see it.
            if each.key not in noted:
                noted.add(each.key)
                try:
                    self.known.note(each, outcome)
                except ConfigurationError as failure:
                    self.stop(str(failure), failure)
            is_shared = each is not item
            self.statistics.count(outcome, is_shared=is_shared)
            if not (is_shared or cached):
                self.statistics.add_attempts(outcome.attempts)
            if error is not None:
                stop = stop or self._rules.after_outcome(self.statistics)
            self.outbox.put(each, outcome)
        if stop is not None:
            # Requests that hang don't delay an error that is to be raised.
            self.abort(error, stop) if self._rules.raises else self.stop(stop)
        self._tell_of_outcomes()

    def give_up(self, item: Item) -> None:
        """
        Take *item* as a row that was never asked. It gets no outcome.
        """
        self.known.release(item)
        for each in (item, *item.followers):
            self.outbox.skip(each)
        item.followers = []
        self._tell_of_outcomes()

    def _tell_of_outcomes(self) -> None:
        if self.outbox.ready:
            self.has_outcome.set()
        self.tell_of_room()

    def tell_of_room(self) -> None:
        """
        Wake the feeder if there is room for rows.
        """
        if self.wants_rows():
            self.has_room.set()

    def wants_rows(self) -> bool:
        """
        Return whether there is room for rows and few are waiting.
        """
        is_low = self.admission.queued <= self.admission.limit
        return not self.no_more_rows and is_low and self.room() > 0

    def stop(self, reason: str, error: BaseException | None = None) -> None:
        """
        Send no more requests. Those in flight are finished.
        """
        self.failure = self.failure or error
        if self.stopped is not None:
            return
        self.stopped = reason
        self._give_up_waiting()
        self.loop.call_soon(self.end_if_done)

    def abort(self, error: BaseException | None = None, reason: str = "interrupted") -> None:
        """
        Send no more requests, and cancel those in flight.
        """
        if self.is_over:
            return
        self.failure = self.failure or error
        self.stopped = self.stopped or reason
        self._give_up_waiting()
        self.in_flight.cancel()
        self._end()

    def _give_up_waiting(self) -> None:
        for item in self.admission.drain():
            self.give_up(item)

    def end_if_done(self) -> None:
        """
        End the run if there are no more rows and no requests.
        """
        no_more = self.no_more_rows or self.stopped is not None
        if no_more and not (self.in_flight or self.admission):
            self._end()

    def _end(self) -> None:
        if self.is_over:
            return
        self.is_over = True
        self.plan.spending.passed(monotonic() - self.statistics.begun)
        if self.statistics.done == self.total:
            self.stopped = None  # it was too late to stop anything
        self.outbox.end()
        if not self.outbox.keeps:
            self.known.answers.clear()
        self.beside.end()
        self.ended.set()
        self.has_outcome.set()
        self.has_room.set()

    def progress(self) -> Progress:
        """
        Return how far the run is.
        """
        return self.statistics.snapshot(self.total, len(self.in_flight), self.admission.concurrency)
