"""
Deadlines that move, and the one timer that they share, on a loop whose clock the test turns.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from aistats._net.deadlines import Deadline, Deadlines, Interruption


class Timer:
    """
    A timer of the loop below.
    """

    def __init__(self, at: float, ring: Callable[[], None]) -> None:
        self.at = at
        self.ring = ring
        self.is_cancelled = False

    def cancel(self) -> None:
        self.is_cancelled = True


class Loop:
    """
    An event loop as far as timers go.
    """

    def __init__(self) -> None:
        self.now = 0.0
        self.timers: list[Timer] = []

    def time(self) -> float:
        return self.now

    def call_at(self, at: float, ring: Callable[[], None]) -> Timer:
        self.timers.append(Timer(at, ring))
        return self.timers[-1]

    @property
    def pending(self) -> list[Timer]:
        return [each for each in self.timers if not each.is_cancelled]

    def advance(self, to: float) -> None:
        """
        Let it become *to*; timers ring on the way.
        """
        while due := [each for each in self.pending if each.at <= to]:
            timer = min(due, key=lambda each: each.at)
            self.now = max(self.now, timer.at)
            self.timers.remove(timer)
            timer.ring()
        self.now = to


class Attempt:
    """
    An attempt with a deadline, and when it was given up.
    """

    def __init__(
        self, deadlines: Deadlines, loop: Loop, idle: float | None, total: float | None
    ) -> None:
        self.given_up: list[float] = []
        self.deadline = Deadline(deadlines, idle, total)
        self.deadline.begin(lambda: self.given_up.append(loop.time()))

    def wait(self) -> None:
        """
        Somebody waits for something.
        """
        self.deadline.want()
        self.deadline.wait()


@pytest.fixture
def loop() -> Loop:
    """
    A loop at time 0.
    """
    return Loop()


@pytest.fixture
def begin(loop: Loop) -> Callable[..., Attempt]:
    """
    A function that begins attempts, all on that loop.
    """
    deadlines = Deadlines(loop)  # type: ignore[arg-type]

    def begin(idle: float | None = None, total: float | None = None) -> Attempt:
        return Attempt(deadlines, loop, idle, total)

    return begin


Begin = Callable[..., Attempt]


def test_total(loop: Loop, begin: Begin):
    """
    An attempt is given up when its time is over, whether somebody waits or not.
    """
    idle, waiting = begin(idle=3.0, total=2.0), begin(idle=3.0, total=2.0)
    waiting.wait()
    loop.advance(1.9)
    assert (idle.given_up, waiting.given_up) == ([], [])
    loop.advance(2.1)

    assert (idle.given_up, waiting.given_up) == ([2.0], [2.0])
    assert (idle.deadline.expired, waiting.deadline.expired) == ("total", "total")


def test_idle(loop: Loop, begin: Begin):
    """
    An attempt is given up when somebody has waited too long.
    """
    attempt = begin(idle=1.0, total=10.0)
    loop.advance(5.0)
    attempt.wait()
    loop.advance(9.0)

    assert attempt.given_up == [6.0]
    assert attempt.deadline.expired == "idle"


def test_pause_is_no_silence(loop: Loop, begin: Begin):
    """
    How long the caller takes between two reads does not count.
    """
    attempt = begin(idle=1.0, total=100.0)
    for _ in range(5):
        attempt.wait()
        loop.advance(loop.now + 0.9)
        attempt.deadline.pause()
        loop.advance(loop.now + 7.0)

    assert attempt.given_up == []


def test_what_says_nothing_is_silence(loop: Loop, begin: Begin):
    """
    Silence before counts, and is over at once where there was too much of it, even if nobody ever
    waits.
    """
    attempt, other = begin(idle=1.0), begin(idle=1.0)
    attempt.deadline.want(silence=0.7)
    attempt.deadline.wait()
    loop.advance(5.0)
    other.deadline.want(silence=1.2)

    assert attempt.given_up == [pytest.approx(0.3)]
    assert other.given_up == [5.0]
    assert {attempt.deadline.expired, other.deadline.expired} == {"idle"}


def test_no_limits(loop: Loop, begin: Begin):
    """
    Without limits nothing is ever given up, and no timer is set.
    """
    attempt = begin()
    attempt.wait()

    assert loop.timers == []
    assert attempt.given_up == []


def test_end(loop: Loop, begin: Begin):
    """
    What has ended is not given up.
    """
    attempt, other = begin(total=1.0), begin(total=2.0)
    attempt.deadline.end()
    loop.advance(3.0)

    assert (attempt.given_up, other.given_up) == ([], [2.0])


def test_end_in_the_same_moment(loop: Loop, begin: Begin):
    """
    Where what is given up ends another that is over, too, that one is not given up.
    """
    attempts = [begin(total=1.0), begin(total=1.0)]
    given_up: list[Attempt] = []

    def give_up(attempt: Attempt, other: Attempt) -> None:
        given_up.append(attempt)
        other.deadline.end()

    for one, other in (attempts, attempts[::-1]):
        one.deadline.begin(partial(give_up, one, other))
    loop.advance(2.0)

    assert len(given_up) == 1


def test_one_that_fails(loop: Loop, begin: Begin):
    """
    Where giving one up fails, all others have their limits.
    """
    attempts = [begin(total=1.0) for _ in range(3)]
    attempts[1].deadline.begin(lambda: 1 // 0)
    for _ in range(2):
        with contextlib.suppress(ZeroDivisionError):
            loop.advance(2.0)

    assert attempts[0].given_up
    assert attempts[2].given_up


def test_one_timer(loop: Loop, begin: Begin):
    """
    All deadlines share one timer, which is reset only for an earlier deadline.
    """
    attempts = [begin(idle=300.0, total=1800.0) for _ in range(100)]
    assert len(loop.timers) == 1
    for attempt in attempts:
        attempt.wait()
        loop.now += 0.01
    assert [each.at for each in loop.pending] == [300.0]
    assert len(loop.timers) == 2  # the first was for `total`
    soon = begin(total=5.0)

    assert [each.at for each in loop.pending] == [pytest.approx(6.0)]
    loop.advance(7.0)
    assert len(soon.given_up) == 1
    assert [each.at for each in loop.pending] == [300.0]


def test_deadlines_that_moved(loop: Loop, begin: Begin):
    """
    A timer that rings for deadlines that have moved is set for the next that is left.
    """
    moved, left, ended = begin(idle=1.0), begin(idle=2.5), begin(idle=1.0)
    for attempt in (moved, left, ended):
        attempt.wait()
    loop.advance(0.5)
    ended.deadline.end()
    moved.wait()
    loop.advance(1.2)

    assert [each.at for each in loop.pending] == [1.5]
    loop.advance(10.0)
    assert (moved.given_up, left.given_up, ended.given_up) == ([1.5], [2.5], [])
    assert loop.pending == []


def test_close(loop: Loop):
    """
    Where a pool is closed all is given up at once, and what begins afterwards has its limits.
    """
    deadlines: Any = Deadlines(loop)  # type: ignore[arg-type]
    attempt = Attempt(deadlines, loop, None, 1.0)
    deadlines.close()

    assert loop.pending == []
    assert (attempt.given_up, attempt.deadline.expired) == ([0.0], "closed")
    late = Attempt(deadlines, loop, None, 2.0)
    loop.advance(3.0)
    assert (late.given_up, late.deadline.expired) == ([2.0], "total")


def test_too_late(loop: Loop, begin: Begin):
    """
    What begins when it is over already is given up at once.
    """
    attempt = begin(total=1.0)
    loop.advance(1.0)
    again: list[float] = []
    attempt.deadline.begin(lambda: again.append(loop.time()))

    assert (attempt.given_up, again) == ([1.0], [1.0])


async def interrupted() -> str:
    """
    How a task ends that interrupts itself.
    """
    with Interruption() as interrupt:
        asyncio.get_running_loop().call_soon(interrupt)
        await asyncio.sleep(10)
    await asyncio.sleep(0)
    return "went on"


@pytest.mark.anyio
async def test_an_interruption_that_is_taken_back():
    """
    A task goes on after its own interruption, and nothing of it is left.
    """
    task = asyncio.create_task(interrupted())

    assert await task == "went on"
    assert task.cancelling() == 0


@pytest.mark.anyio
@pytest.mark.parametrize("is_first", [True, False])
async def test_an_interruption_beside_another(is_first: bool):
    """
    A cancellation at the moment of the deadline is not lost, in either order.
    """
    task = asyncio.create_task(interrupted())
    if is_first:
        await asyncio.sleep(0)
        asyncio.get_running_loop().call_soon(task.cancel)
    else:
        await asyncio.sleep(0)
        task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    assert task.cancelling() == 1


@pytest.mark.anyio
async def test_an_interruption_of_the_past():
    """
    What has ended interrupts nobody.
    """
    with Interruption() as interrupt:
        pass
    interrupt()
    interrupt.soon()

    await asyncio.sleep(0)


@pytest.mark.anyio
async def test_an_interruption_from_another_thread():
    """
    A task may be interrupted from any thread, and twice is once.
    """
    with Interruption() as interrupt:
        for _ in range(2):
            await asyncio.to_thread(interrupt.soon)
        await asyncio.sleep(10)

    await asyncio.sleep(0)


@pytest.mark.anyio
async def test_an_error_beside_an_interruption():
    """
    What fails in the moment of its interruption has failed, and is not cancelled.
    """

    async def fail() -> None:
        with Interruption() as interrupt:
            interrupt()
            try:
                await asyncio.sleep(10)
            finally:
                raise ValueError("It failed.")

    task = asyncio.create_task(fail())
    with pytest.raises(ValueError, match="It failed"):
        await task

    assert task.cancelling() == 0
