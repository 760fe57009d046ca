"""
Limits of this process and machine: open files, threads, ports, memory.
"""

from __future__ import annotations

import errno
import os
import socket
import sys
import weakref
from collections.abc import Callable
from typing import Any

import aiohttp
import anyio
import attrs
import pytest
from aiohttp.client_reqrep import ConnectionKey
from conftest import Caller, Script, in_thread
from hypothesis import given
from hypothesis import strategies as st
from servers import Gateway

import aistats
from aistats import APIConnectionError, RetryPolicy, Timeout
from aistats._map import in_flight
from aistats._net import connector as _connector
from aistats._net.failures import translated
from aistats._net.local_limits import local_limit

HI: dict[str, Any] = {"model": "openai/gpt-5-nano", "messages": "Hi"}
QUICK = RetryPolicy(base=0.001)
WORDS = {
    errno.EMFILE: "this process has as many open files",
    errno.ENFILE: "this machine has as many open files",
    errno.EADDRNOTAVAIL: "no free local port",
    errno.ENOMEM: "out of memory",
    errno.ENOBUFS: "out of memory for network buffers",
}
on_linux = pytest.mark.skipif(
    sys.platform != "linux", reason="limits and numbers of errors are those of Linux"
)


# -- which limit it is ----------------------------------------------------------------------------

KEY = ConnectionKey("gateway.example", 80, False, True, None, None, None)


def connector_error(error: OSError) -> aiohttp.ClientConnectorError:
    """
    Return aiohttp's error for a connection that failed with *error*.
    """
    return aiohttp.ClientConnectorError(KEY, error)


@pytest.mark.parametrize("number", WORDS, ids=errno.errorcode.get)
@pytest.mark.parametrize(
    "wrap",
    [
        lambda error: error,
        connector_error,
        lambda error: aiohttp.ClientProxyConnectionError(KEY, error),
        lambda error: aiohttp.ClientConnectorDNSError(KEY, error),
        lambda error: aiohttp.ClientOSError(*error.args),
    ],
    ids=["raw", "connecting", "proxy", "look-up", "sending"],
)
def test_a_limit_is_named(number: int, wrap: Callable[[OSError], OSError]):
    """
    Wherever a local limit is reached, the error names it and does not blame the server.
    """
    error = wrap(OSError(number, os.strerror(number)))
    failure = translated(error, "gateway.example", Timeout(), "connecting")
    assert isinstance(failure, APIConnectionError)
    assert failure.is_local
    assert WORDS[number] in str(failure)
    assert "base_url" not in str(failure)


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (RuntimeError("can't start new thread"), "another thread"),
        (RuntimeError("can't create new thread at interpreter shutdown"), None),
        (RuntimeError("Session is closed"), None),
        (socket.gaierror(socket.EAI_MEMORY, "Memory allocation failure"), "out of memory"),
        (socket.gaierror(socket.EAI_NONAME, "Name or service not known"), None),
        (OSError("Multiple exceptions: [Errno 111] refused, [Errno 24] too many"), "open files"),
        (OSError("Multiple exceptions: [Errno 99] no address, [Errno 111] refused"), None),
        (OSError("no number at all"), None),
        (OSError(errno.ECONNREFUSED, "refused"), None),
        (ValueError("no operation of the system"), None),
    ],
    ids=str,
)
@on_linux
def test_what_is_a_limit(error: Exception, words: str | None):
    """
    A server that refuses, an unknown host and a missing address family are no local limits.
    """
    cause = connector_error(error) if isinstance(error, OSError) else error
    for each in (error, cause):
        found = local_limit(each)
        assert found is None if words is None else words in str(found)


@given(st.integers(0, 200).filter(lambda number: number not in WORDS))
def test_other_errors_are_no_limits(number: int):
    """
    Any other number of the system is no local limit.
    """
    assert local_limit(OSError(number, "any")) is None


# -- calls and runs -------------------------------------------------------------------------------


@attrs.define
class Machine:
    """
    A machine with a limit of open sockets. Opening another one fails with the errno *number*.
    """

    most: int
    number: int
    open: weakref.WeakSet[socket.socket] = attrs.field(factory=weakref.WeakSet)
    failed: int = 0

    def connect(self, address: tuple[Any, ...]) -> socket.socket:
        """
        A socket for a connection to *address*.
        """
        if sum(each.fileno() >= 0 for each in self.open) >= self.most:
            self.failed += 1
            raise OSError(self.number, os.strerror(self.number))
        made = socket.socket(*address[:3])
        self.open.add(made)
        return made


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Callable[[int, int], Machine]:
    """
    A function that gives this process such a limit.
    """

    def machine(most: int, number: int) -> Machine:
        made = Machine(most, number)
        monkeypatch.setattr(_connector, "_kept_alive_socket", made.connect)
        return made

    return machine


@pytest.mark.anyio
@pytest.mark.parametrize("concurrency", ["auto", 40])
@pytest.mark.parametrize("number", WORDS, ids=errno.errorcode.get)
async def test_a_run_loses_no_row(
    machine: Callable[[int, int], Machine],
    connect: Callable[..., Caller],
    gateway: Gateway,
    caplog: pytest.LogCaptureFixture,
    number: int,
    concurrency: Any,
):
    """
    A run that reaches a local limit answers all rows all the same, and the log says why once.
    """
    at_limit = machine(5, number)
    caller = connect(base_url=gateway.url, max_retries=QUICK)
    run = caller.client.map(
        [f"row {index}" for index in range(150)], model="m", concurrency=concurrency
    )
    await (run if isinstance(run, aistats.AsyncRun) else in_thread(run.wait))
    assert at_limit.failed
    assert run.errors == []
    assert len(run.outcomes) == 150
    assert caller.client.limits.throttled == run.progress.throttled == 0
    assert sum(WORDS[number] in each.getMessage() for each in caplog.records) == 1


@pytest.mark.anyio
async def test_calls_learn_from_a_limit(
    machine: Callable[[int, int], Machine], connect: Callable[..., Caller], gateway: Gateway
):
    """
    Calls that reach a local limit are tried again, and make the client send fewer at once.
    """
    at_limit = machine(5, errno.EMFILE)
    caller = connect(base_url=gateway.url, max_retries=RetryPolicy(base=0.05, max_retries=8))
    async with anyio.create_task_group() as group:
        for _ in range(60):
            group.start_soon(lambda: caller.generate_text(HI))
    assert at_limit.failed
    assert caller.client.limits.concurrency < 60


@pytest.mark.anyio
async def test_a_limit_that_stays(
    machine: Callable[[int, int], Machine],
    connect: Callable[..., Caller],
    gateway: Gateway,
    monkeypatch: pytest.MonkeyPatch,
):
    """
    A run whose first request meets a limit that stays ends with it, and no row is lost.
    """
    monkeypatch.setattr(in_flight, "_LONGEST_START", 0.1)
    at_limit = machine(0, errno.EADDRNOTAVAIL)
    caller = connect(base_url=gateway.url)
    run = caller.client.map(["a", "b", "c"], model="m")
    await (run if isinstance(run, aistats.AsyncRun) else in_thread(run.wait))
    assert "no free local port" in str(run.stopped)
    assert len(run.errors) == 1
    at_limit.most = 9
    again = run.retry()
    await (again if isinstance(again, aistats.AsyncRun) else in_thread(again.wait))
    assert again.texts() == ["a", "b", "c"]


LIMITED = """
import os, resource, sys, threading

from aistats import APIConnectionError, Client

logging.basicConfig(stream=sys.stdout, format="%(message)s")
HI = {"model": "m", "messages": "Hi"}


def limit(count):
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (count, most))


def exhaust():
    taken = []
    try:
        while True:
            taken.append(os.open(os.devnull, os.O_RDONLY))
    except OSError:
        return taken


def call(client):
    try:
        print(client.generate_text(HI, max_retries=0).text)
    except APIConnectionError as error:
        assert error.is_local
        print(error)


async def acall(awaitable):
    try:
        print((await awaitable).text)
    except APIConnectionError as error:
        assert error.is_local
        print(error)


NAMED = os.environ["AI_STATS_BASE_URL"].replace("127.0.0.1", "localhost")
"""
FILES = """
with Client() as first, Client(base_url=NAMED) as named:
    limit(64)
    taken = exhaust()
    call(first)  # there is no loop
    for each in taken[-3:]:
        os.close(each)  # enough for a loop, and no more
    del taken[-3:]
    call(first)
    call(named)  # the system's look-up says that there is no such host
    for each in taken:
        os.close(each)
    call(first)
    call(named)
"""
THREADS = """
import asyncio
from aistats import AsyncClient


async def main():
    async with AsyncClient(base_url=NAMED) as client:
        for size in (1 << 46, small):
            threading.stack_size(size)
            await acall(client.generate_text(HI, max_retries=0))
        threading.stack_size(1 << 46)
        await acall(client.map(["a"], model="m", checkpoint="/nonexistent/run.jsonl"))


small = threading.stack_size()
with Client() as client:
    for size in (1 << 46, small):
        threading.stack_size(size)
        call(client)
asyncio.run(main())
"""
ROWS = """
limit(40)
rows = [f"row {index}" for index in range(400)]
with Client() as client:
    run = client.map(rows, model="m", concurrency=100)
    print(run.wait().texts() == rows)
"""
NO_FILES = "this process has as many open files as it may have (64)"
NO_THREADS = "this process can't start another thread"


@on_linux
@pytest.mark.parametrize(
    ("code", "printed"),
    [
        (
            FILES,
            [
                f"The client's event loop can't start: {NO_FILES}",
                f"There is no connection to 127.0.0.1:{{port}}: {NO_FILES}",
                f"There is no connection to localhost:{{port}}: {NO_FILES}",
                "Hi",
                "Hi",
            ],
        ),
        (
            THREADS,
            [
                f"The client's event loop can't start: {NO_THREADS}",
                "Hi",
                f"There is no connection to localhost:{{port}}: {NO_THREADS}",
                "Hi",
                f"The checkpoint can't be read: {NO_THREADS}",
            ],
        ),
        (ROWS, ["True"]),
    ],
    ids=["files", "threads", "rows"],
)
def test_limits_of_the_system(
    code: str, printed: list[str], gateway: Gateway, script: Callable[..., Script]
):
    """
    A process at a limit of its system gets errors that name it, and goes on once there is room.
    """
    lines = script(LIMITED + code).output().splitlines()
    lines = [line for line in lines if not line.startswith("the run ")]
    assert [line.partition(". ")[0] for line in lines] == [
        line.format(port=gateway.port) for line in printed
    ]
