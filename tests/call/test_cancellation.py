"""
Calls and streams that are given up: cancelled in whatever state, left early, dropped, interrupted.

Each time the gateway is let go within a second, and the connection's place in the pool is free
again.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import math
import os
import select
import threading
import weakref
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import aiohttp
import anyio
import pytest
from conftest import KEY, Caller, Script
from servers import (
    OPENING,
    Gate,
    Gateway,
    RawServer,
    auntil,
    delta,
    error_body,
    full_house,
    until,
)

import aistats
from aistats import RetryPolicy

pytestmark = pytest.mark.anyio

HI: dict[str, Any] = {"model": "openai/gpt-5-nano", "messages": "Hi"}

Connect = Callable[..., Caller]
Reached = Callable[[], Awaitable[None]]


# States that a call can be in, and ways out of it.


class Scene:
    """
    A client with one place in its pool, and a call that gets into a state and stays there.
    """

    def __init__(self, gateway: Gateway, client: aistats.AsyncClient, state: str) -> None:
        self.gateway = gateway
        self.client = client
        self.state = state
        self.gate = Gate()
        self.holder: aistats.AsyncStream | None = None

    async def prepare(self) -> None:
        """
        The gateway knows what to do, and the pool's place is taken where the state needs that.
        """
        gateway, gate = self.gateway, self.gate
        if "queued" in self.state:
            gateway.stream(OPENING, Gate())
            self.holder = self.client.stream_text(HI)
            await self.holder.__anext__()
        elif self.state == "waiting for the head":
            gateway.reply(before=gate)
        elif self.state == "reading the body":
            gateway.stream(b'{"id":', gate, headers={"Content-Type": "application/json"})
        elif self.state == "reading an error's body":
            gateway.stream(b'{"error":', gate, status=400)
        elif "waiting to try again" in self.state:
            gateway.reply(error_body("busy"), 503, {"Retry-After": "30"})
        elif self.state == "waiting for the first event":
            gateway.stream(b": soon\n\n", gate)
        elif self.state == "between two events":
            gateway.stream(OPENING, delta("Once"), gate)

    async def call(self) -> None:
        """
        The call, which never returns by itself.
        """
        if "stream" in self.state or "event" in self.state:
            await self.client.stream_text(HI).final_response()
        else:
            await self.client.generate_text(HI)

    async def reached(self) -> None:
        """
        The call is in its state now.
        """
        if "waiting to try again" in self.state:
            await auntil(lambda: self.gateway.requests and self.gateway.requests[-1].outcome)
        elif self.holder is None:
            await auntil(self.gate.reached.is_set)
        await anyio.wait_all_tasks_blocked()

    async def check(self) -> None:
        """
        The connection is closed within a second, and another call gets its place in the pool.
        """
        if self.holder is not None:
            await self.holder.aclose()
        await auntil(lambda: all(seen.outcome for seen in self.gateway.requests))
        with anyio.fail_after(5):
            assert (await self.client.generate_text(HI)).text == "Hi"
            assert (await self.client.stream_text(HI).final_response()).text == "Hi"


async def by_cancel(call: Reached, reached: Reached) -> None:
    """
    A task that is cancelled.
    """
    task = asyncio.ensure_future(call())
    await reached()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def by_timeout(call: Reached, reached: Reached) -> None:
    """
    `asyncio.timeout()` that runs out.
    """
    limits: list[Any] = []

    async def work() -> None:
        async with asyncio.timeout(None) as limit:
            limits.append(limit)
            await call()

    task = asyncio.ensure_future(work())
    await reached()
    limits[0].reschedule(asyncio.get_running_loop().time())
    with pytest.raises(TimeoutError) as caught:
        await task
    assert not isinstance(caught.value, aistats.AIStatsError)


async def by_scope(call: Reached, reached: Reached) -> None:
    """
    A cancel scope of anyio that is cancelled.
    """
    async with anyio.create_task_group() as group:
        group.start_soon(call)
        await reached()
        group.cancel_scope.cancel()
    assert group.cancel_scope.cancelled_caught


async def by_deadline(call: Reached, reached: Reached) -> None:
    """
    A `fail_after()` of anyio that runs out.
    """
    scopes: list[anyio.CancelScope] = []
    ended: list[object] = []

    async def work() -> None:
        try:
            with anyio.fail_after(math.inf) as scope:
                scopes.append(scope)
                await call()
        except TimeoutError as error:
            ended.append(type(error))

    async with anyio.create_task_group() as group:
        group.start_soon(work)
        await reached()
        scopes[0].deadline = anyio.current_time()
    assert ended == [TimeoutError]


WAYS = [
    by_cancel,
    by_timeout,
    by_scope,
    by_deadline,
]
STATES = [
    "queued",
    "queued stream",
    "waiting for the head",
    "reading the body",
    "reading an error's body",
    "waiting to try again",
    "stream waiting to try again",
    "waiting for the first event",
    "between two events",
]


@pytest.fixture
def resources() -> Iterator[None]:
    """
    After the test there are no more open files and threads than before.
    """

    def more() -> list[str]:
        gc.collect()
        now = open_files(), threads()
        return [
            f"{then} -> {each}"
            for then, each in zip(before, now, strict=True)
            if len(each) > len(then)
        ]

    before = open_files(), threads()
    yield
    until(lambda: not more(), show=more)


def open_files() -> list[str]:
    """
    What this process has open, where the system tells.
    """
    folder = Path("/proc/self/fd")
    files = []
    for file in folder.iterdir() if folder.is_dir() else ():
        with contextlib.suppress(FileNotFoundError):  # the folder's own
            files.append(f"{file.name} {file.readlink()}")
    return files


def threads() -> list[str]:
    """
    The threads, by one look at them: those of anyio end when they like, also between two looks.
    """
    return [each.name for each in threading.enumerate() if "AnyIO worker" not in each.name]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("state", STATES)
@pytest.mark.usefixtures("resources")
async def test_cancelled(gateway: Gateway, state: str, way: Any) -> None:
    """A call that is cancelled in any state, in any way, ends at once and leaves nothing behind."""
    policy = RetryPolicy(max_retries=2, base=30.0)
    async with aistats.AsyncClient(
        KEY, gateway.url, max_connections=1, max_retries=policy
    ) as client:
        scene = Scene(gateway, client, state)
        await scene.prepare()
        tasks = asyncio.all_tasks()
        with anyio.fail_after(5):
            await way(scene.call, scene.reached)
        await auntil(lambda: asyncio.all_tasks() <= tasks)
        await scene.check()
    await auntil(lambda: not gateway.open_connections)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("mode", ["whole", "stream"])
@pytest.mark.usefixtures("resources")
async def test_cancelled_while_connecting(way: Any, mode: str) -> None:
    """A call that is cancelled before its connection is made ends at once and leaves no socket."""
    with full_house() as url:
        async with aistats.AsyncClient(KEY, url, max_connections=1) as client:

            async def call() -> None:
                if mode == "whole":
                    await client.generate_text(HI)
                else:
                    await client.stream_text(HI).final_response()

            with anyio.fail_after(5):
                await way(call, anyio.wait_all_tasks_blocked)


async def test_wait_for(gateway: Gateway) -> None:
    """`asyncio.wait_for` ends a call with its own time-out, and the gateway is let go."""
    async with aistats.AsyncClient(KEY, gateway.url, max_connections=1) as client:
        for limit in (0.1, 1, 10):  # on a busy machine a short one may be over before it began
            gate = Gate()
            gateway.reply(before=gate)
            with pytest.raises(asyncio.TimeoutError) as caught:
                await asyncio.wait_for(client.generate_text(HI), limit)
            assert not isinstance(caught.value, aistats.AIStatsError)
            if gate.reached.is_set():
                break

        assert gate.reached.is_set()
        await auntil(lambda: all(seen.disconnected for seen in gateway.requests))
        assert (await client.generate_text(HI)).text == "Hi"


async def test_cancelled_stream_is_closed(gateway: Gateway) -> None:
    """A stream whose read was cancelled says so when it is read on, and has what had arrived."""
    gate = Gate()
    gateway.stream(OPENING, delta("Once"), gate)
    async with aistats.AsyncClient(KEY, gateway.url) as client:
        stream = client.stream_text(HI)
        assert [(await stream.__anext__()).text for _ in range(2)] == ["", "Once"]
        with anyio.CancelScope() as scope:
            scope.cancel()
            await stream.__anext__()
        assert scope.cancelled_caught

        await auntil(lambda: gateway.request.disconnected)
        with pytest.raises(aistats.StreamError, match="closed before its end") as caught:
            await stream.__anext__()
        assert caught.value.partial is not None
        assert caught.value.partial.text == "Once"


async def test_cancelled_before_it_began(gateway: Gateway) -> None:
    """A call in a scope that is cancelled already sends nothing."""
    async with aistats.AsyncClient(KEY, gateway.url) as client:
        with anyio.CancelScope() as scope:
            scope.cancel()
            await client.generate_text(HI)
        with anyio.CancelScope() as stream_scope:
            stream_scope.cancel()
            await client.stream_text(HI).final_response()

        assert scope.cancelled_caught
        assert stream_scope.cancelled_caught
        # What may have begun to connect has been accepted before this is.
        await client.generate_text(HI)
        assert len(gateway.requests) == 1
    await auntil(lambda: not gateway.open_connections)


@pytest.mark.usefixtures("resources")
async def test_a_thousand_cancellations(gateway: Gateway) -> None:
    """After a thousand cancellations, at any moment of a call, the client works as before."""
    async with aistats.AsyncClient(KEY, gateway.url, max_connections=10) as client:
        tasks = asyncio.all_tasks()
        cancelled = 0
        wrong: list[str] = []

        async def call(number: int) -> None:
            request: Any = {"model": "m", "messages": f"number {number}"}
            if number % 2:
                response = await client.generate_text(request)
            else:
                response = await client.stream_text(request).final_response()
            if response.text != f"number {number}":
                wrong.append(response.text)

        for start in range(0, 1_000, 50):
            calls = [asyncio.ensure_future(call(start + number)) for number in range(50)]
            # The first are cancelled before they began, the last when they may be done.
            for each in calls:
                each.cancel()
                await asyncio.sleep(0)
            ends = await asyncio.gather(*calls, return_exceptions=True)
            cancelled += sum(isinstance(end, asyncio.CancelledError) for end in ends)
            assert all(end is None or isinstance(end, asyncio.CancelledError) for end in ends)

        assert wrong == []
        assert cancelled > 300
        assert asyncio.all_tasks() == tasks
        await auntil(lambda: all(seen.outcome for seen in gateway.requests))
        async with anyio.create_task_group() as group:
            for number in range(20):  # twice as many as there are places
                group.start_soon(call, number)
        assert wrong == []
    await auntil(lambda: not gateway.open_connections)


# Clients that are closed in the middle of a call.


@pytest.mark.parametrize("state", [*STATES, "connecting", "sending", "held back"])
@pytest.mark.parametrize("whose", ["own", "the user's"])
async def test_closed(gateway: Gateway, raw_server: RawServer, state: str, whose: str) -> None:
    """A client that is closed ends its calls at once, in whatever state they are."""
    async with contextlib.AsyncExitStack() as stack:
        url = gateway.url
        if state == "connecting":
            url = stack.enter_context(full_house())
        elif state == "sending":
            url, gate = raw_server.url, Gate()
            raw_server.script(gate)
        session = None
        if whose == "the user's":
            connector = aiohttp.TCPConnector(limit=1)
            session = await stack.enter_async_context(aiohttp.ClientSession(connector=connector))
        limit = aistats.Timeout(connect=None, idle=None, total=60)
        client = aistats.AsyncClient(
            KEY,
            url,
            max_connections=1,
            timeout=limit,
            session=session,
            max_retries=2 if "try again" in state else 0,
        )
        scene = Scene(gateway, client, state)
        await scene.prepare()
        if state == "held back":
            gateway.reply(error_body("busy"), 429, {"Retry-After": "20"})
            with pytest.raises(aistats.RateLimitError):
                await client.generate_text(HI)

        async def call() -> None:
            if state == "sending":
                await client.generate_text(model="m", messages="x" * 15_000_000)
            else:
                await scene.call()

        task = asyncio.ensure_future(call())
        if state in ("connecting", "held back"):
            await anyio.wait_all_tasks_blocked()
        elif state == "sending":
            await auntil(gate.reached.is_set)
        else:
            await scene.reached()
        assert not task.done()
        with anyio.fail_after(5):
            await client.aclose()
            with pytest.raises(aistats.AIStatsError) as caught:
                await task

    assert not isinstance(caught.value, aistats.APITimeoutError)
    sent = len(gateway.requests)
    await anyio.wait_all_tasks_blocked()
    assert len(gateway.requests) == sent


@pytest.mark.parametrize(
    "state", ["waiting for the first event", "stream waiting to try again", "stream held back"]
)
@pytest.mark.parametrize("style", ["async", "sync"])
async def test_a_stream_is_closed_as_it_opens(
    connect: Connect, gateway: Gateway, state: str
) -> None:
    """A stream that is closed before its first event is let go at once, and sends no more."""
    caller = connect(gateway.url, max_retries=2 if "try again" in state else 0)
    scene = Scene(gateway, caller.client, state)
    await scene.prepare()
    if "held back" in state:
        gateway.reply(error_body("busy"), 429, {"Retry-After": "20"})
        with pytest.raises(aistats.RateLimitError):
            await caller.generate_text(HI)
    stream = caller.stream_text(HI)
    task = asyncio.ensure_future(stream.final_response())
    if "held back" in state:
        await auntil(lambda: caller.client.limits.waiting)
    else:
        await scene.reached()
    assert not task.done()
    sent = len(gateway.requests)

    with anyio.fail_after(5):
        await stream.aclose()
        with pytest.raises(aistats.StreamError, match="closed before its end"):
            await task

    await auntil(lambda: all(seen.outcome for seen in gateway.requests))
    assert len(gateway.requests) == sent
    assert caller.client.limits.in_flight == 0


@pytest.mark.parametrize("what", ["stream", "client"])
@pytest.mark.parametrize("style", ["async", "sync"])
async def test_closed_under_a_reader(connect: Connect, gateway: Gateway, what: str) -> None:
    """Who reads a stream that is closed, or its client, is told so, and gets what had arrived."""
    gate = Gate()
    gateway.stream(OPENING, delta("Once"), gate)
    caller = connect(gateway.url)
    stream = caller.stream_text(HI)
    task = asyncio.ensure_future(stream.final_response())
    await auntil(gate.reached.is_set)
    await auntil(lambda: "Once" in stream._repr_html_())
    await (stream if what == "stream" else caller).aclose()

    kind = aistats.StreamError if what == "stream" else aistats.ConfigurationError
    with anyio.fail_after(5), pytest.raises(kind, match="closed") as caught:
        await task
    assert caught.value.partial is not None
    assert caught.value.partial.text == "Once"


async def test_a_limit_that_a_middleware_swallows(gateway: Gateway) -> None:
    """A limit holds even if the user's session goes on after it."""

    async def stubborn(request: Any, handler: Any) -> Any:
        answer = asyncio.ensure_future(handler(request))
        try:
            return await asyncio.shield(answer)
        except asyncio.CancelledError:
            gate.open()
            return await answer

    gate = Gate()
    gateway.stream(OPENING, delta("Once"), Gate(), before=gate)
    async with (
        aiohttp.ClientSession(middlewares=[stubborn]) as session,
        aistats.AsyncClient(KEY, gateway.url, session=session) as client,
    ):
        with anyio.fail_after(5), pytest.raises(aistats.APITimeoutError, match="total limit"):
            await client.stream_text(HI, timeout=0.3).final_response()
        task = asyncio.current_task()
        assert task is not None
        assert task.cancelling() == 0
    await auntil(lambda: not gateway.open_connections)


@pytest.mark.parametrize("end", ["total", "cancelled", "refused"])
async def test_nothing_is_left_to_the_collector(gateway: Gateway, end: str) -> None:
    """A call that failed is gone with its task; neither keeps the other alive."""
    for _ in range(3):
        gateway.reply(before=Gate())
    url = "http://127.0.0.1:9/v1" if end == "refused" else gateway.url
    left: list[weakref.ref[Any]] = []
    async with aistats.AsyncClient(KEY, url, max_retries=0) as client:

        def begin() -> None:
            limit = 0.2 if end == "total" else 9
            task = asyncio.create_task(client.generate_text(HI, timeout=limit))
            task.add_done_callback(lambda task: task.cancelled() or task.exception())
            left.append(weakref.ref(task))

        gc.collect()
        gc.disable()
        try:
            for number in range(3):
                begin()
                if end == "cancelled":
                    await auntil(lambda number=number: len(gateway.requests) > number)
                    left[-1]().cancel()
                await auntil(lambda: left[-1]() is None)
        finally:
            gc.enable()


# Streams that are left early.


async def break_out(stream: Any) -> None:
    """
    The loop is left.
    """
    async for chunk in stream:
        if chunk.text:
            break


async def break_out_of_lines(stream: Any) -> None:
    """
    The loop over the lines is left.
    """
    async for _ in stream.lines():
        break


async def break_out_of_text(stream: Any) -> None:
    """
    The loop over the text is left.
    """
    async for _ in stream.text_deltas():
        break


async def fail_in_the_body(stream: Any) -> None:
    """
    The body of the loop raises.
    """
    with contextlib.suppress(KeyError):
        async for chunk in stream:
            raise KeyError(chunk)


async def fail_in_the_body_of_text(stream: Any) -> None:
    """
    The body of the loop over the text raises.
    """
    with contextlib.suppress(KeyError):
        async for text in stream.text_deltas():
            raise KeyError(text)


async def drop(stream: Any) -> None:
    """
    Nobody reads on.
    """
    await stream.__aiter__().__anext__()


async def close(stream: Any) -> None:
    """
    It is closed, and read on by mistake.
    """
    await stream.__aiter__().__anext__()
    await stream.aclose()
    with pytest.raises(aistats.StreamError, match="closed"):
        await stream.final_response()


async def leave_with(stream: Any) -> None:
    """
    `async with` is left by an exception.
    """
    with contextlib.suppress(KeyError):
        async with stream:
            async for chunk in stream:
                raise KeyError(chunk)


EARLY_ENDS = [
    break_out,
    break_out_of_lines,
    break_out_of_text,
    fail_in_the_body,
    fail_in_the_body_of_text,
    drop,
    close,
    leave_with,
]


@pytest.mark.parametrize("leave", EARLY_ENDS)
@pytest.mark.usefixtures("resources")
async def test_left_early(connect: Connect, gateway: Gateway, leave: Any) -> None:
    """A stream that is left early, in any way, frees its connection without the collector."""
    caller = connect(gateway.url, max_connections=1)
    gc.disable()
    try:
        for _ in range(3):
            gateway.stream(OPENING, delta("Once"), Gate())
            await leave(caller.stream_text(HI))
            await auntil(lambda: gateway.requests[-1].disconnected)
            with anyio.fail_after(5):
                assert (await caller.generate_text(HI)).text == "Hi"
    finally:
        gc.enable()
    await caller.aclose()
    await auntil(lambda: not gateway.open_connections)


@pytest.mark.usefixtures("resources")
async def test_hundreds_left_early(connect: Connect, gateway: Gateway) -> None:
    """After hundreds of streams that were left early the client works as before."""
    caller = connect(gateway.url, max_connections=2)
    for number in range(200):
        stream = caller.stream_text(HI)
        async for _ in stream:
            break
        if number % 2:
            await stream.aclose()
        del stream

    assert (await caller.generate_text(HI)).text == "Hi"
    await auntil(lambda: all(seen.outcome for seen in gateway.requests))
    await caller.aclose()
    await auntil(lambda: not gateway.open_connections)


# Ctrl-C.


INTERRUPTED = """
import aistats
HI = {"model": "openai/gpt-5-nano", "messages": "Hi"}
client = aistats.Client(max_connections=1, max_retries=aistats.RetryPolicy(base=60.0))
%s
try:
    print("ready", flush=True)
    %s
except KeyboardInterrupt:
    print("interrupted", flush=True)
%s
"""
GO_ON = 'assert client.generate_text(HI).text == "Hi"'


def next_line(program: Script) -> str:
    """
    What the *program* prints next; the test fails if that takes too long.
    """
    output = program.process.stdout
    assert output is not None
    line = b""
    while not line.endswith(b"\n"):
        assert select.select([output], [], [], 20)[0], "it prints nothing"
        # One by one: what a buffer holds back can't be waited for.
        if not (character := os.read(output.fileno(), 1)):
            break
        line += character
    return line.decode()


@pytest.mark.parametrize("call", ["generate_text(HI)", "stream_text(HI).final_response()"])
def test_ctrl_c(script: Callable[..., Script], gateway: Gateway, call: str) -> None:
    """Ctrl-C interrupts a synchronous call that connects, queues, or waits to try again."""
    with full_house() as nobody, Gateway() as crowded:
        crowded.stream(OPENING, Gate())
        gateway.reply(error_body("busy"), 503, {"Retry-After": "30"})
        retrying = script(INTERRUPTED % ("", f"client.{call}", GO_ON))
        holder = "holder = client.stream_text(HI); next(holder)"
        queueing = script(
            INTERRUPTED % (holder, f"client.{call}", f"holder.close(); {GO_ON}"), crowded
        )
        # The first call is there to start the client's loop.
        before = f"""
client = aistats.Client(base_url={nobody!r}, max_retries=0)
try: client.generate_text(HI, timeout=0.01)
except aistats.APITimeoutError: pass
"""
        connecting = script(INTERRUPTED % (before, f"client.{call}", ""))
        programs = [retrying, queueing, connecting]
        assert [next_line(program) for program in programs] == ["ready\n"] * 3
        retrying.reach(lambda: gateway.requests and gateway.requests[0].outcome)
        for program in programs:
            program.interrupt()
        assert [next_line(program) for program in programs] == ["interrupted\n"] * 3

        assert [program.output() for program in programs] == [""] * 3


def test_ctrl_c_while_the_loop_starts(script: Callable[..., Script]) -> None:
    """Ctrl-C in the very first call, while the client's event loop starts, interrupts it, too."""
    slow = """
import asyncio, sys
new_event_loop = asyncio.new_event_loop
def slowly():
    print("starting", flush=True)
    sys.stdin.readline()
    return new_event_loop()
asyncio.new_event_loop = slowly
"""
    program = script(INTERRUPTED % (slow, "client.generate_text(HI)", GO_ON))
    assert [next_line(program) for _ in range(2)] == ["ready\n", "starting\n"]
    program.interrupt()

    assert next_line(program) == "interrupted\n"
    program.tell("go on")
    # Whether the loop that was starting is used, or another one, is open.
    assert program.output() in ("", "starting\n")
