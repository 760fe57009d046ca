"""
Fixtures: servers on loopback, a clean environment, and both clients behind one asynchronous face.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import importlib
import os
import signal
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio.to_thread
import pytest
from servers import Gateway, RawServer, auntil, until

import aistats

if TYPE_CHECKING:
    from typing import Self

KEY = "aistats_v1_k_t3stkey_s3cret-that-must-not-show"
"""
The key of every client that a test makes without one.
"""


def pytest_collection_finish() -> None:
    """
    The collector leaves alone what is there before the first test: thousands of tests, above all.
    """
    importlib.import_module("hypothesis")  # it asks the collector who holds what, as it is loaded
    gc.collect()
    gc.freeze()


@pytest.fixture
def anyio_backend() -> str:
    """
    Asynchronous tests run on asyncio alone, since aiohttp does.
    """
    return "asyncio"


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """
    No key, base URL or proxy of the machine reaches a test.
    """
    for name in list(os.environ):
        if name.startswith("AI_STATS_") or name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)


@pytest.fixture(scope="session", autouse=True)
def _background_loop() -> None:
    """
    Start the event loop that all clients share, so that no test is the first to use it.
    """
    client = aistats.Client(KEY, "http://127.0.0.1:1", max_retries=0)
    with client, pytest.raises(aistats.APIConnectionError):
        client.generate_text(model="m", messages="Hi")


@pytest.fixture(autouse=True)
def _no_thread_is_left() -> Iterator[None]:
    """
    Each thread that a client started during a test ends with it, except the shared loop's.
    """
    before = set(threading.enumerate())
    yield

    def left() -> list[threading.Thread]:
        return [t for t in threading.enumerate() if t not in before and "aistats" in t.name]

    until(lambda: not left())


@pytest.fixture(autouse=True)
def _no_task_is_left(request: pytest.FixtureRequest) -> None:
    """
    Each task that an asynchronous test started ends with it.
    """
    if "anyio_backend" in request.fixturenames:
        request.getfixturevalue("tasks_of_the_test")


@pytest.fixture
async def tasks_of_the_test() -> AsyncIterator[None]:
    """
    After the test there are no more tasks than before it.
    """
    before = asyncio.all_tasks()
    yield

    def left() -> list[asyncio.Task[Any]]:
        # anyio's runner has a task of its own for each part of a test.
        return [
            task
            for task in asyncio.all_tasks() - before
            if not task.get_coro().__qualname__.startswith("TestRunner.")
        ]

    await auntil(lambda: not left())


@pytest.fixture
def gateway() -> Iterator[Gateway]:
    """
    A gateway with nothing queued; its scripts must not have failed by the end of the test.
    """
    with Gateway() as server:
        yield server
    assert server.failures == []


@pytest.fixture
def other_gateway() -> Iterator[Gateway]:
    """
    A second gateway, on another port.
    """
    with Gateway() as server:
        yield server
    assert server.failures == []


@pytest.fixture
def raw_server() -> Iterator[RawServer]:
    """
    A raw server without a script.
    """
    with RawServer() as server:
        yield server
    assert server.failures == []


class AsyncCaller:
    """
    `AsyncClient` as it is.
    """

    def __init__(self, **options: Any) -> None:
        self.client = aistats.AsyncClient(**options)

    async def generate_text(self, *args: Any, **kwargs: Any) -> Any:
        return await self.client.generate_text(*args, **kwargs)

    def stream_text(self, *args: Any, **kwargs: Any) -> Any:
        return self.client.stream_text(*args, **kwargs)

    async def aclose(self) -> None:
        await self.client.aclose()


class SyncCaller:
    """
    `Client` with the methods of `AsyncClient`; each runs in a worker thread, as a program's would.
    """

    def __init__(self, **options: Any) -> None:
        self.client = aistats.Client(**options)

    async def generate_text(self, *args: Any, **kwargs: Any) -> Any:
        return await in_thread(self.client.generate_text, *args, **kwargs)

    def stream_text(self, *args: Any, **kwargs: Any) -> Any:
        return SyncStreamCaller(self.client.stream_text(*args, **kwargs))

    async def aclose(self) -> None:
        await in_thread(self.client.close)


class SyncIteratorCaller:
    """
    An iterator whose items are fetched in a worker thread.
    """

    def __init__(self, iterator: Iterator[Any]) -> None:
        self.iterator = iterator

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Any:
        # StopIteration can't leave a thread's future.
        item = await in_thread(next, self.iterator, self)
        if item is self:
            raise StopAsyncIteration
        return item


class SyncStreamCaller(SyncIteratorCaller):
    """
    `Stream` with the methods of `AsyncStream`; what isn't awaited there is the stream's own.
    """

    def __init__(self, stream: Any) -> None:
        self.stream = stream
        super().__init__(stream)

    def __aiter__(self) -> Self:
        self.iterator = iter(self.stream)
        return self

    def lines(self) -> SyncIteratorCaller:
        return SyncIteratorCaller(iter(self.stream.lines()))

    def text_deltas(self) -> SyncIteratorCaller:
        return SyncIteratorCaller(iter(self.stream.text_deltas()))

    async def final_response(self) -> Any:
        return await in_thread(self.stream.final_response)

    async def aclose(self) -> None:
        await in_thread(self.stream.close)

    async def __aenter__(self) -> Self:
        await in_thread(self.stream.__enter__)
        return self

    async def __aexit__(self, *exc_info: Any) -> None:
        await in_thread(self.stream.__exit__, *exc_info)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)


async def in_thread(func: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """
    What *func* returns, run in a worker thread.
    """
    return await anyio.to_thread.run_sync(lambda: func(*args, **kwargs))


Caller = AsyncCaller | SyncCaller


@pytest.fixture(params=["async", "sync"])
def style(request: pytest.FixtureRequest) -> str:
    """
    The calling style of the test's callers.
    """
    return request.param


@pytest.fixture
async def connect(style: str) -> AsyncIterator[Callable[..., Caller]]:
    """
    A function that makes callers, which are closed after the test.

    They have a key, and they don't retry unless they are told to.
    """
    callers: list[Caller] = []

    def connect(base_url: str, **options: Any) -> Caller:
        options = {"api_key": KEY, "base_url": base_url, "max_retries": 0, **options}
        caller = AsyncCaller(**options) if style == "async" else SyncCaller(**options)
        callers.append(caller)
        return caller

    yield connect
    for caller in callers:
        await caller.aclose()


@pytest.fixture
async def caller(connect: Callable[..., Caller], gateway: Gateway) -> Caller:
    """
    A caller of the gateway on loopback.
    """
    return connect(gateway.url)


# Tests that a shell runs in the background ignore SIGINT, and their children would, too. And in
# asyncio's debug mode a busy machine is enough for it to report a slow callback.
PREAMBLE = """
import logging, signal
signal.signal(signal.SIGINT, signal.default_int_handler)
logging.getLogger("asyncio").addFilter(lambda record: "Executing" not in str(record.msg))
"""


class Script:
    """
    A program of its own that runs *code*; what it leaks is shown, and any warning is an error.
    """

    def __init__(self, code: str, environment: dict[str, str]) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-X", "dev", "-W", "error", "-c", PREAMBLE + code],
            env={**os.environ, **environment},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def reach(self, condition: Callable[[], object], within: float = 20.0) -> None:
        """
        Wait until the program makes *condition* true, for at most *within* seconds.
        """
        until(lambda: condition() or self.process.poll() is not None, within)
        if not condition():
            pytest.fail(f"it ended before: {self.process.communicate()}")

    def interrupt(self) -> None:
        """
        What Ctrl-C does, once it waits for something.

        Before Python 3.11 `asyncio.run` lets Ctrl-C break in anywhere, also in the middle of a step
        of aiohttp's, whose task then complains.
        """
        until(self.is_waiting)
        self.process.send_signal(signal.SIGINT)

    def is_waiting(self) -> bool:
        """
        Whether all of its threads sleep, where the system tells. A thread that waits for the GIL
        sleeps as well, so the main thread's state alone is not enough.
        """
        tasks = Path(f"/proc/{self.process.pid}/task")
        stats = [path for _ in range(2) for path in sorted(tasks.glob("*/stat"))]
        try:
            return all(path.read_text().rpartition(")")[2].split()[0] == "S" for path in stats)
        except OSError:
            return False  # a thread has just ended

    def tell(self, line: str = "") -> None:
        """
        Its `input()` returns *line*.
        """
        assert self.process.stdin is not None
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()

    def output(self, within: float = 20.0) -> str:
        """
        Return what the program printed. It must succeed *within* seconds and write no errors.
        """
        stdout, stderr = self.process.communicate(timeout=within)
        assert (stderr, self.process.returncode) == ("", 0)
        return stdout

    def stop(self) -> None:
        """
        End it and what it forked, if they run yet.
        """
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.communicate()


@pytest.fixture
def script(gateway: Gateway) -> Iterator[Callable[..., Script]]:
    """
    A function that starts a program whose environment has a key and a base URL.

    The URL is that of the gateway on loopback, or of the one that the function is given.
    """
    scripts: list[Script] = []

    def script(code: str, gateway: Gateway = gateway) -> Script:
        environment = {"AI_STATS_API_KEY": KEY, "AI_STATS_BASE_URL": gateway.url}
        scripts.append(Script(code, environment))
        return scripts[-1]

    yield script
    for program in scripts:
        program.stop()
