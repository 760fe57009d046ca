"""
How many requests may be under way at once: what is learnt, and who gets a place.
"""

from __future__ import annotations

import asyncio
import gc
import heapq
import json
import os
import random
import threading
from collections.abc import Callable
from typing import Any

import anyio
import attrs
import pytest
from conftest import Caller, in_thread
from hypothesis import given, settings
from hypothesis import strategies as st
from servers import Gate, Gateway, auntil, error_body, story

import aistats
from aistats import APIConnectionError, APIStatusError, RetryPolicy
from aistats._call.limits import Limits
from aistats._call.retry import is_throttle
from aistats._exchange import Exchange
from aistats._wire.status_error import status_error_from

quick = settings(deadline=None, max_examples=80)
Connect = Callable[..., Caller]
HI: dict[str, Any] = {"model": "openai/gpt-5-nano", "messages": "Hi"}


# -- a simulation: a clock that is only a number, and servers that are only functions -------------


class Clock:
    """
    A clock that stands still until it is set.
    """

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@attrs.frozen
class Reply:
    """
    How a simulated server ends a request.
    """

    seconds: float
    is_accepted: bool = True
    retry_after: float | None = None


Server = Callable[["Simulation"], Reply]


class Simulation:
    """
    Requests that are sent as soon as `Limits` lets them, again and again until each is answered.

    It is discrete: the clock jumps from the end of one request to that of the next.
    """

    def __init__(self, server: Server, *, most: int = 100, seed: int = 0) -> None:
        self.server = server
        self.clock = Clock()
        self.jitter = random.Random(seed)
        self.limits = Limits(most, clock=self.clock, jitter=self.jitter.random)
        self.accepted = 0
        """How many requests the server has under way that it did not turn away."""
        self.history: list[int] = []
        """The concurrency after each request's end."""
        self.starts: list[float] = []
        """When each request was sent, in seconds from the beginning."""
        self._ends: list[tuple[float, int, Reply]] = []
        self._begun = self.clock.now

    def run(self, count: int) -> float:
        """
        How many seconds it takes until *count* requests are answered.
        """
        waiting = count
        while waiting or self._ends:
            while waiting and (ticket := self.limits.try_start()):
                assert self.limits.in_flight <= self.limits.concurrency
                waiting -= 1
                reply = self.server(self)
                self.accepted += reply.is_accepted
                self.starts.append(self.clock.now - self._begun)
                heapq.heappush(self._ends, (self.clock.now + reply.seconds, ticket, reply))
            cooldown = self.limits.cooldown if waiting else 0.0
            if cooldown and (not self._ends or self._ends[0][0] > self.clock.now + cooldown):
                self.clock.now += cooldown
                continue
            # Nobody sleeps while there is a place: something is under way, or all is done.
            assert self._ends
            self.clock.now, ticket, reply = heapq.heappop(self._ends)
            self.accepted -= reply.is_accepted
            if reply.is_accepted:
                self.limits.end(ticket, latency=reply.seconds)
            else:
                self.limits.end(ticket, throttled=True, retry_after=reply.retry_after)
                waiting += 1
            self.history.append(self.limits.concurrency)
        return self.clock.now - self._begun


def slots(
    count: int,
    *,
    refusal: float = 0.002,
    retry_after: float | None = None,
    scatter: float = 0.0,
) -> Server:
    """
    A server that takes *count* requests at once, 100 ms each, and turns the others away.
    """

    def serve(simulation: Simulation) -> Reply:
        if simulation.accepted >= count:
            return Reply(refusal, False, retry_after)
        return Reply(0.1 * (1 + scatter * (simulation.jitter.random() - 0.5)))

    return serve


def knee(count: int, noise: float = 0.0) -> Server:
    """
    A server that takes any number, and beyond *count* at once is only slower.
    """

    def serve(simulation: Simulation) -> Reply:
        slower = max(1.0, simulation.limits.in_flight / count)
        return Reply(0.1 * slower * simulation.jitter.lognormvariate(0, noise))

    return serve


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("refusal", [0.002, 0.1])
@pytest.mark.parametrize("scatter", [0.0, 0.4])
def test_slow_start_finds_twenty_places(seed: int, refusal: float, scatter: float):
    """
    From one request, 1,000 of 100 ms are done within 1.3 of the best that 20 places allow.
    """
    simulation = Simulation(slots(20, refusal=refusal, scatter=scatter), seed=seed)
    simulation.limits.find()

    assert simulation.run(1000) < 1.3 * 1000 * 0.1 / 20
    assert simulation.limits.throttled < 50


@pytest.mark.parametrize("refusal", [0.002, 0.1])
def test_a_burst_is_cut_to_what_was_accepted(refusal: float):
    """
    Of 100 at once, 80 are turned away once, and from then on there are about as many as fit.
    """
    simulation = Simulation(slots(20, refusal=refusal))
    assert simulation.limits.concurrency == 100

    seconds = simulation.run(1000)

    assert simulation.limits.throttled < 130
    assert all(concurrency <= 27 for concurrency in simulation.history[100:])
    assert seconds < 1.3 * 1000 * 0.1 / 20


def test_slow_start_doubles_each_round():
    """
    Until something is in its way, the concurrency doubles in the time of one request, to the most.
    """
    simulation = Simulation(lambda _: Reply(0.1), most=64)
    simulation.limits.find()

    simulation.run(200)

    begun = [sum(round(10 * each) == count for each in simulation.starts) for count in range(8)]
    assert begun == [1, 2, 4, 8, 16, 32, 64, 64]
    assert simulation.limits.concurrency == 64


@pytest.mark.parametrize("noise", [0.0, 0.3])
@pytest.mark.parametrize("seed", range(3))
def test_the_knee_is_found(noise: float, seed: int):
    """
    Where more requests only make each slower, there are soon not many more than are of use.
    """
    simulation = Simulation(knee(20, noise), seed=seed)
    simulation.limits.find()

    simulation.run(5000)

    assert 20 <= min(simulation.history[2000:]) <= max(simulation.history[2000:]) <= 75


def test_plain_calls_are_not_held_back_by_latency():
    """
    Where nobody looks for the limit, and nothing was turned away, slow answers hold back no call.
    """
    simulation = Simulation(knee(20))

    simulation.run(2000)

    assert set(simulation.history) == {100}


@pytest.mark.parametrize("noise", [0.5, 1.0])
@pytest.mark.parametrize("seed", range(5))
def test_noise_is_no_knee(noise: float, seed: int):
    """
    Latencies that scatter as those of models do don't lower the concurrency.
    """
    simulation = Simulation(lambda this: Reply(this.jitter.lognormvariate(0, noise)), seed=seed)
    simulation.limits.find()

    simulation.run(3000)

    assert min(simulation.history[1000:]) >= 80


def test_other_requests_are_no_knee():
    """
    When all requests come to take three times as long, the concurrency stays high.
    """
    simulation = Simulation(
        lambda this: Reply((1 if this.clock.now < 1040 else 3) * this.jitter.lognormvariate(0, 0.5))
    )
    simulation.limits.find()

    simulation.run(6000)

    assert min(simulation.history[1000:]) >= 60
    assert simulation.history[-1] >= 90


def test_retry_after_holds_everything_back_once():
    """
    After a 429 with a `Retry-After`, nothing is sent for that long, by anybody, and then at once.
    """
    closed = (1.0, 3.0)

    def serve(simulation: Simulation) -> Reply:
        now = simulation.clock.now - 1000.0
        if closed[0] <= now < closed[1]:
            return Reply(0.01, False, closed[1] - now)
        return Reply(0.1)

    simulation = Simulation(serve, most=30)
    seconds = simulation.run(1000)

    late = [start for start in simulation.starts if start > closed[0] + 0.011]
    assert min(late) == pytest.approx(closed[1], abs=0.02)
    assert len([start for start in late if start < closed[1] + 0.05]) <= 30
    assert seconds < 8


def test_an_outage_is_asked_about_less_and_less():
    """
    While everything is turned away, few requests are sent, further and further apart; afterwards
    the concurrency is soon a quarter of what it was.
    """

    def serve(simulation: Simulation) -> Reply:
        is_out = 1.0 <= simulation.clock.now - 1000.0 < 21.0
        return Reply(0.01, False) if is_out else Reply(0.1)

    simulation = Simulation(serve, most=80)
    simulation.run(3000)

    during = [start for start in simulation.starts if 1.5 <= start < 21.0]
    assert 30 < len(during) < 100
    after = [start for start in simulation.starts if 21.6 <= start < 22.2]
    assert len(after) >= 60


@quick
@given(
    st.integers(1, 40), st.integers(1, 200), st.floats(0, 0.5), st.integers(0, 1000), st.booleans()
)
def test_every_request_is_answered(most: int, count: int, share: float, seed: int, find: bool):
    """
    Whatever is turned away, each request is answered in the end, and the limit is kept.
    """

    def serve(simulation: Simulation) -> Reply:
        jitter = simulation.jitter
        wait = jitter.choice([None, 0.0, 0.5])
        return Reply(jitter.random(), jitter.random() >= share, wait)

    simulation = Simulation(serve, most=most, seed=seed)
    if find:
        simulation.limits.find()

    simulation.run(count)

    assert simulation.limits.in_flight == 0
    assert all(1 <= concurrency <= most for concurrency in simulation.history)


# -- single steps -------------------------------------------------------------------------------


def test_what_is_free_is_taken_at_once():
    """
    There are as many places as the most, and one that is given back can be taken again.
    """
    limits = Limits(2)
    tickets = [limits.try_start() for _ in range(3)]

    assert tickets[:2] == [1, 2]
    assert tickets[2] == 0
    assert limits.in_flight == 2
    limits.end(tickets[0])
    assert limits.in_flight == 1
    assert limits.try_start()


def test_what_is_shown():
    """
    The limits show what was learnt, and only the median of the latencies.
    """
    clock = Clock()
    limits = Limits(10, clock=clock)
    assert limits.latency is None
    for latency in (0.1, 0.2, 9.0):
        limits.end(limits.try_start(), latency=latency)
    limits.end(limits.try_start(), throttled=True, retry_after=2.0)
    clock.now += 0.5

    assert limits.latency == 0.2
    assert limits.throttled == 1
    assert limits.cooldown == 1.5
    assert repr(limits) == (
        "Limits(concurrency=1, in_flight=0, waiting=0, throttled=1, cooldown=1.5, latency=0.2)"
    )


def test_a_failure_teaches_nothing():
    """
    A request that ended neither way gives its place back, and nothing else changes.
    """
    limits = Limits(4)
    limits.find()
    for _ in range(20):
        limits.end(limits.try_start())

    assert limits.concurrency == 1
    assert limits.latency is None
    assert limits.in_flight == 0


def test_find_forgets_nothing():
    """
    To look for the limit again begins with what was learnt before.
    """
    limits = Limits(4)
    limits.find()
    limits.end(limits.try_start(), latency=0.1)
    limits.find()

    assert limits.concurrency == 2


def test_a_round_counts_once():
    """
    Requests that began before the last decrease only say how many were too many.
    """
    limits = Limits(20)
    tickets = [limits.try_start() for _ in range(20)]
    limits.end(tickets.pop(), throttled=True)
    assert limits.concurrency == 15
    for _ in range(9):
        limits.end(tickets.pop(), throttled=True)

    assert limits.concurrency == 8
    assert limits.cooldown == 0.0
    assert limits.in_flight == 10


def test_growth_is_by_one_a_round():
    """
    After a decrease, as many answers as the concurrency raise it by one.
    """
    limits = Limits(10)
    tickets = [limits.try_start() for _ in range(10)]
    limits.end(tickets.pop(), throttled=True)
    assert limits.concurrency == 7
    for ticket in tickets:
        limits.end(ticket, latency=0.1)
    assert limits.concurrency == 7

    tickets = [limits.try_start() for _ in range(7)]
    for ticket in tickets[:6]:
        limits.end(ticket, latency=0.1)
    assert limits.concurrency == 7
    limits.end(tickets[6], latency=0.1)
    assert limits.concurrency == 8


def test_no_growth_without_need():
    """
    Answers to fewer requests at once than are allowed don't allow more.
    """
    limits = Limits(10)
    tickets = [limits.try_start() for _ in range(10)]
    limits.end(tickets.pop(), throttled=True)
    for ticket in tickets:
        limits.end(ticket)
    for _ in range(100):
        pair = limits.try_start(), limits.try_start()
        for ticket in pair:
            limits.end(ticket, latency=0.1)

    assert limits.concurrency == 7


def test_cooldown_grows_while_nothing_gets_through():
    """
    Without a `Retry-After`, the first refusal only lowers the limit; those that follow with no
    answer between wait 0.05 seconds, then twice as long each, to 0.5; less by up to half by chance.
    """
    clock = Clock()
    chances = iter([1.0] * 7 + [0.0])
    limits = Limits(4, clock=clock, jitter=lambda: next(chances))
    seen: list[float] = []
    for _ in range(8):
        limits.end(limits.try_start(), throttled=True)
        seen.append(limits.cooldown)
        clock.now += limits.cooldown

    assert seen == pytest.approx([0.0, 0.05, 0.1, 0.2, 0.4, 0.5, 0.5, 0.25])


def test_an_answer_ends_the_growth_of_the_cooldown():
    """
    After an answer, a refusal is the first again.
    """
    clock = Clock()
    limits = Limits(4, clock=clock)
    for _ in range(5):
        limits.end(limits.try_start(), throttled=True)
        clock.now += limits.cooldown
    limits.end(limits.try_start(), latency=0.1)
    limits.end(limits.try_start(), throttled=True)

    assert limits.cooldown == 0.0


@pytest.mark.parametrize(("asked", "given"), [(0.0, 0.0), (3.0, 3.0), (1e9, 1e9)])
def test_retry_after_is_obeyed(asked: float, given: float):
    """
    Nothing starts for as long as it is told, fixed or not.
    """
    clock = Clock()
    limits = Limits(4, clock=clock)
    limits.end(limits.try_start(), throttled=True, retry_after=asked)

    assert limits.cooldown == given
    assert bool(limits.try_start()) is bool(limits.try_start(fixed=True)) is (given == 0.0)
    clock.now += given
    assert limits.try_start(fixed=True)
    assert limits.cooldown == 0.0


def test_the_longest_retry_after_holds():
    """
    A later and shorter `Retry-After` doesn't end a cooldown early.
    """
    limits = Limits(4, clock=Clock())
    first, second = limits.try_start(), limits.try_start()
    limits.end(first, throttled=True, retry_after=5.0)
    limits.end(second, throttled=True, retry_after=1.0)

    assert limits.cooldown == 5.0


def test_fixed_requests_are_counted_by_themselves():
    """
    A request at a fixed concurrency takes no place from the others, is not held to their limit, and
    doesn't lower it. A `Retry-After` of its own holds for all.
    """
    limits = Limits(3)
    fixed = [limits.try_start(fixed=True) for _ in range(5)]
    assert all(fixed)
    assert limits.in_flight == 5
    tickets = [limits.try_start() for _ in range(4)]
    assert [bool(ticket) for ticket in tickets] == [True, True, True, False]
    for ticket in tickets[:3]:
        limits.end(ticket, latency=0.1)
    limits.end(fixed.pop(), latency=0.1)
    limits.end(fixed.pop(), throttled=True, retry_after=5.0)

    assert (limits.in_flight, limits.concurrency) == (3, 3)
    assert limits.cooldown > 4
    assert not limits.try_start(fixed=True)


# -- waiting ------------------------------------------------------------------------------------


@pytest.mark.anyio
async def test_who_waits_first_is_first():
    """
    Places are given in the order in which they were asked for, and nobody goes ahead of a waiter.
    """
    limits = Limits(1)
    ticket = await limits.start()
    order: list[int] = []

    async def wait(number: int) -> None:
        ticket = await limits.start()
        order.append(number)
        limits.end(ticket)

    tasks = [asyncio.create_task(wait(number)) for number in range(20)]
    await auntil(lambda: limits.waiting == 20)
    limits.end(ticket)
    assert limits.waiting == 19
    assert limits.try_start() == 0
    await asyncio.gather(*tasks)

    assert order == list(range(20))
    assert (limits.in_flight, limits.waiting) == (0, 0)


@pytest.mark.anyio
async def test_a_cancelled_waiter_is_passed_over():
    """
    Cancelled while it waits, a task takes no place and keeps nobody waiting.
    """
    limits = Limits(1)
    ticket = await limits.start()
    first, second = (asyncio.create_task(limits.start()) for _ in range(2))
    await auntil(lambda: limits.waiting == 2)
    first.cancel()
    await asyncio.wait([first])
    limits.end(ticket)

    limits.end(await second)
    assert first.cancelled()
    assert (limits.in_flight, limits.waiting) == (0, 0)


@pytest.mark.anyio
async def test_a_place_given_to_the_cancelled_is_given_on():
    """
    Cancelled after its place was given to it and before it could run, a task gives it to the next.
    """
    limits = Limits(1)
    ticket = await limits.start()
    first, second = (asyncio.create_task(limits.start()) for _ in range(2))
    await auntil(lambda: limits.waiting == 2)
    limits.end(ticket)
    first.cancel()

    limits.end(await second)
    assert first.cancelled()
    assert (limits.in_flight, limits.waiting) == (0, 0)


@pytest.mark.anyio
async def test_waiters_start_after_a_cooldown():
    """
    Who waited before a cooldown and who came during it gets a place once it is over, though no
    request that is under way ends then; and no more do than there are places.
    """
    limits = Limits(4)
    tickets = [limits.try_start() for _ in range(4)]
    tasks = [asyncio.create_task(limits.start()) for _ in range(3)]
    await auntil(lambda: limits.waiting == 3)
    limits.end(tickets[0], throttled=True, retry_after=0.05)
    for ticket in tickets[1:]:
        limits.end(ticket)
    assert (limits.in_flight, limits.concurrency) == (0, 2)
    tasks.append(asyncio.create_task(limits.start()))
    tasks.append(asyncio.create_task(limits.start(fixed=True)))
    await auntil(lambda: limits.waiting == 5)

    await auntil(lambda: limits.in_flight == 3)
    assert limits.waiting == 2
    assert limits.cooldown == 0.0
    for task in tasks:
        limits.end(await task)
    assert (limits.in_flight, limits.waiting) == (0, 0)


@pytest.mark.anyio
async def test_nobody_comes_between_the_end_of_a_cooldown_and_its_waiters():
    """
    Once a cooldown is over, the places are its waiters', even before they have been woken.
    """
    clock = Clock()
    limits = Limits(8, clock=clock)
    tickets = [limits.try_start() for _ in range(8)]
    limits.end(tickets.pop(), throttled=True, retry_after=50.0)
    while len(tickets) > 1:
        limits.end(tickets.pop())
    assert limits.in_flight < limits.concurrency
    task = asyncio.create_task(limits.start())
    await auntil(lambda: limits.waiting == 1)
    clock.now += 50
    assert limits.try_start() == 0
    limits.end(tickets.pop())
    assert limits.waiting == 0

    limits.end(await task)
    assert limits.in_flight == 0


@pytest.mark.anyio
async def test_a_longer_cooldown_is_waited_for():
    """
    A cooldown that is made longer while somebody waits for its end is waited for to its new end.
    """
    limits = Limits(4)
    tickets = [limits.try_start() for _ in range(2)]
    limits.end(tickets[0], throttled=True, retry_after=0.01)
    task = asyncio.create_task(limits.start())
    await auntil(lambda: limits.waiting == 1)
    limits.end(tickets[1], throttled=True, retry_after=0.1)
    until = asyncio.get_running_loop().time() + limits.cooldown

    limits.end(await task)
    assert asyncio.get_running_loop().time() >= until - 0.001


@quick
@given(st.data())
def test_no_place_is_lost(data: st.DataObject):
    """
    Whatever is started, cancelled, ended and turned away, in any order: the limit is kept at each
    start, places are given in order, nobody waits while one is free, and in the end all are free.
    """
    clock = Clock()
    limits = Limits(data.draw(st.integers(1, 5)), clock=clock)
    begun: list[tuple[int, int]] = []
    tickets: list[int] = []

    async def wait(number: int) -> None:
        ticket = await limits.start()
        begun.append((ticket, number))
        tickets.append(ticket)

    async def settle() -> None:
        for _ in range(3):
            await asyncio.sleep(0)

    async def play() -> None:
        tasks: list[asyncio.Task[None]] = []
        steps = st.sampled_from(["start", "start", "try", "cancel", "answer", "refuse", "fail"])
        for step in data.draw(st.lists(steps, max_size=40)):
            before = limits.in_flight
            if step == "start":
                tasks.append(asyncio.create_task(wait(len(tasks))))
            elif step == "try":
                if ticket := limits.try_start():
                    assert limits.waiting == 0
                    assert limits.in_flight == before + 1 <= limits.concurrency
                    tickets.append(ticket)
            elif step == "cancel" and tasks:
                data.draw(st.sampled_from(tasks)).cancel()
            elif tickets:
                ticket = tickets.pop(data.draw(st.integers(0, len(tickets) - 1)))
                if step == "answer":
                    limits.end(ticket, latency=0.1)
                else:
                    limits.end(ticket, throttled=step == "refuse")
            if data.draw(st.booleans()):
                await settle()
                clock.now += limits.cooldown
                # As time passes only here, who waits for it is woken by the next that ends.
                fixed = limits.try_start(fixed=True)
                limits.end(fixed)
                await settle()
                assert not limits.waiting or limits.in_flight >= limits.concurrency
        while limits.waiting or tickets or not all(task.done() for task in tasks):
            clock.now += limits.cooldown
            limits.end(tickets.pop() if tickets else limits.try_start(fixed=True))
            await settle()
        await asyncio.gather(*tasks, return_exceptions=True)

    asyncio.run(play())

    # Who was given a place may run after somebody who came later and found another one free.
    numbers = [number for _, number in sorted(begun)]
    assert numbers == sorted(numbers)
    assert (limits.in_flight, limits.waiting) == (0, 0)


# -- several loops, threads and processes ---------------------------------------------------------


def test_several_loops_share_the_places():
    """
    Tasks of several loops, each in a thread of its own, some of them cancelled and some turned
    away, never have more places than there are, and all are free in the end.
    """
    limits = Limits(3, jitter=lambda: 0.0)
    most: list[int] = []

    async def request(number: int) -> None:
        ticket = await limits.start()
        try:
            most.append(limits.in_flight)
            await asyncio.sleep(0)
        finally:
            if number % 10 == 0:
                limits.end(ticket, throttled=True, retry_after=0.001)
            else:
                limits.end(ticket, latency=0.001)

    async def main() -> None:
        tasks = [asyncio.create_task(request(number)) for number in range(100)]
        await asyncio.sleep(0)
        for task in tasks[5::7]:
            task.cancel()
        results = await asyncio.gather(*tasks, return_exceptions=True)
        assert not [each for each in results if isinstance(each, Exception)]

    threads = [threading.Thread(target=asyncio.run, args=(main(),)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)

    assert not any(thread.is_alive() for thread in threads)
    assert max(most) <= 3
    assert len(most) >= 300
    assert (limits.in_flight, limits.waiting) == (0, 0)


@pytest.mark.anyio
async def test_a_loop_that_is_gone_keeps_nobody_waiting():
    """
    The waiters of a loop that was closed under them are passed over, also after a cooldown.
    """
    limits = Limits(2)
    tickets = [limits.try_start() for _ in range(2)]
    loop = asyncio.new_event_loop()
    left: list[Any] = []

    def leave() -> None:
        left.append(asyncio.ensure_future(limits.start(), loop=loop))
        loop.run_until_complete(asyncio.sleep(0))
        loop.close()

    thread = threading.Thread(target=leave)
    thread.start()
    await asyncio.to_thread(thread.join)
    assert limits.waiting == 1
    task = asyncio.create_task(limits.start())
    await auntil(lambda: limits.waiting == 2)
    limits.end(tickets[0], throttled=True, retry_after=0.01)
    limits.end(tickets[1])

    limits.end(await task)
    assert (limits.in_flight, limits.waiting) == (0, 0)
    # Python would tell that it is still pending, when it is collected.
    left[0]._log_destroy_pending = False
    left.clear()
    gc.collect()
    assert (limits.in_flight, limits.waiting) == (0, 0)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_forked_child_begins_with_nothing_in_flight():
    """
    A child has what its parent learnt and none of its requests, even if its lock was held; what it
    ends of its parent's is not counted.
    """
    limits = Limits(2)
    tickets = [limits.try_start() for _ in range(2)]
    held, done = threading.Event(), threading.Event()

    def hold() -> None:
        with limits._lock:
            held.set()
            done.wait(30)

    thread = threading.Thread(target=hold)
    thread.start()
    held.wait(30)
    child = os.fork()
    if child == 0:
        # Nothing but this may run in the child, whatever happens.
        try:
            first = limits.in_flight, limits.concurrency
            limits.end(tickets[0])
            ticket = limits.try_start()
            limits.end(tickets[1], throttled=True)
            is_right = first == (0, 2) and ticket == 3 and limits.in_flight == 1
            os._exit(0 if is_right else 1)
        finally:
            os._exit(2)
    done.set()
    thread.join(30)

    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert limits.in_flight == 2


# -- what a throttle is ---------------------------------------------------------------------------


def refused(status: int, body: Any = None, **headers: str) -> APIStatusError:
    """
    The error for an answer with *status*, *body* and *headers* (`_` stands for `-`).
    """
    pairs = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    content = b"" if body is None else json.dumps(body).encode()
    return status_error_from(content, Exchange(status=status, raw_headers=tuple(pairs)))


THROTTLES = [
    refused(429),
    refused(429, {"error": "rate_limited"}),
    refused(429, retry_after="1"),
    refused(502, {"provider_failure_diagnostics": {"category": "rate_limited"}}),
    refused(502, {"failed_statuses": [429, 500]}),
    refused(502, {"failure_sample": [{"status": 429, "retryable": True}]}),
]
OTHERS = [
    refused(429, {"error": "key_limit_exceeded"}),
    refused(429, {"error": {"code": "insufficient_quota", "message": "pay"}}),
    refused(429, x_should_retry="false"),
    refused(500),
    refused(503, retry_after="1"),
    refused(502),
    refused(502, {"failed_statuses": [500, 400]}),
    refused(502, {"failed_statuses": 429, "failure_sample": "429"}),
    refused(
        502,
        {
            "failed_statuses": [429],
            "provider_failure_diagnostics": {"category": "credentials_not_configured"},
        },
    ),
    refused(502, {"failure_sample": [{"status": 429, "retryable": False}]}),
    APIConnectionError("lost"),
    ValueError("429"),
]


@pytest.mark.parametrize("error", THROTTLES)
def test_what_says_not_so_fast(error: Exception):
    """
    A 429 is a throttle, and a 502 whose diagnostics say that the provider was rate-limited.
    """
    assert is_throttle(error)


@pytest.mark.parametrize("error", OTHERS)
def test_what_is_no_throttle(error: Exception):
    """
    A quota that is used up is no throttle, nor is any other failure.
    """
    assert not is_throttle(error)


# -- a client's calls -----------------------------------------------------------------------------


@pytest.mark.anyio
async def test_calls_keep_to_the_limits(connect: Connect, gateway: Gateway, style: str) -> None:
    """A throttle lowers the limit, which others then wait for, and a call that waits is in time."""
    gate = Gate()
    gateway.reply(error_body("slow down"), 429)
    gateway.reply(before=gate)
    caller = connect(gateway.url, max_connections=4, max_retries=0)
    limits = caller.client.limits
    with pytest.raises(aistats.RateLimitError):
        await caller.generate_text(HI)
    assert (limits.throttled, limits.concurrency) == (1, 1)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(caller.generate_text, HI)
        await auntil(gate.reached.is_set)
        assert limits.in_flight == 1
        with pytest.raises(aistats.APITimeoutError) as caught:
            await caller.generate_text(HI, timeout=0.1)
        gate.open()

    assert caught.value.limit == "total"
    assert "client.limits" in caught.value.message
    assert [attempt.outcome for attempt in caught.value.attempts] == ["unsent"]
    assert caught.value.timing.queued is None
    assert len(gateway.requests) == 2
    assert (limits.in_flight, limits.waiting) == (0, 0)


@pytest.mark.anyio
async def test_stream_gives_its_place_back(connect: Connect, gateway: Gateway, style: str) -> None:
    """A stream takes a place until its first event, so that a call inside its loop can be made."""
    gateway.reply(error_body("slow down"), 429)
    gateway.stream(*story("Once", " upon"))
    caller = connect(gateway.url, max_connections=4, max_retries=1)
    texts = []
    async for chunk in caller.stream_text(HI):
        texts += [chunk.text, (await caller.generate_text(HI)).text]

    assert caller.client.limits.concurrency <= 2
    assert caller.client.limits.in_flight == 0
    assert "".join(texts[::2]) == "Once upon"
    assert set(texts[1::2]) == {"Hi"}


@pytest.mark.anyio
async def test_gather_is_safe(connect: Connect, gateway: Gateway, style: str) -> None:
    """Many calls at once at a gateway that takes only a few of them are all answered."""
    gateway.places = 5
    caller = connect(gateway.url, max_connections=40, max_retries=8)
    async with anyio.create_task_group() as tasks:
        for _ in range(120):
            tasks.start_soon(caller.generate_text, HI)

    limits = caller.client.limits
    assert limits.throttled > 0
    assert limits.concurrency < 20
    assert (limits.in_flight, limits.waiting) == (0, 0)


@pytest.mark.anyio
async def test_cancelled_call_gives_its_place_back(gateway: Gateway) -> None:
    """A call that is cancelled, while it waits for a place or for its answer, leaves none taken."""
    gate = Gate()
    gateway.reply(before=gate)
    gateway.reply(error_body("slow down"), 429)
    async with aistats.AsyncClient("key", gateway.url, max_connections=1) as client:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(client.generate_text, HI)
            await auntil(gate.reached.is_set)
            tasks.start_soon(client.generate_text, HI)
            await auntil(lambda: client.limits.waiting == 1)
            tasks.cancel_scope.cancel()

        assert (client.limits.in_flight, client.limits.waiting) == (0, 0)
        assert (await client.generate_text(HI)).text == "Hi"


@pytest.mark.anyio
async def test_others_are_not_held_back(connect: Connect, gateway: Gateway):
    """
    With `shared_wait=0` a `Retry-After` delays the call that got it, and no other.
    """
    policy = RetryPolicy(max_retries=1, shared_wait=0)
    gateway.reply(error_body("rate_limited"), 429, {"retry-after": "50"})
    caller = connect(gateway.url, max_retries=policy)
    async with anyio.create_task_group() as group:
        group.start_soon(caller.generate_text, HI)
        await auntil(lambda: len(gateway.requests) == 1)
        assert (await caller.generate_text(HI)).text == "Hi"
        assert caller.client.limits.cooldown == 0.0
        group.cancel_scope.cancel()


@pytest.mark.anyio
async def test_a_row_waits_for_its_own_retry_after(caller: Caller, gateway: Gateway):
    """
    In a run, too, such a row waits alone, for as long as it was told.
    """
    gateway.reply(error_body("rate_limited"), 429, {"retry-after-ms": "200"})
    policy = RetryPolicy(shared_wait=0)
    for concurrency in ("auto", 2):
        run = caller.client.map(["a", "b"], model="m", max_retries=policy, concurrency=concurrency)
        await (run if isinstance(run, aistats.AsyncRun) else in_thread(run.wait))
        assert run.texts() == ["a", "b"]


@pytest.mark.parametrize(
    ("events", "expected"),
    [([], 4), ([{"latency": 0.1}], 2), ([{"throttled": True}], 1), ([{}], 4)],
)
def test_widen(events: list[dict[str, Any]], expected: int):
    """
    The limit doubles only while nothing has been learned: requests that hang block no others.
    """
    limits = Limits(10)
    limits.find()
    for event in events:
        limits.end(limits.try_start(), **event)
    limits.widen()
    limits.widen()

    assert limits.concurrency == expected
