"""
What is `Client`'s own: threads, its event loop in the background, and the number of its hops there.
"""

from __future__ import annotations

import ast
import asyncio
import gc
import inspect
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from conftest import KEY, Script
from servers import (
    DONE,
    OPENING,
    STOP,
    Gate,
    Gateway,
    delta,
    error_body,
    story,
    until,
)

import aistats
from aistats._net.loop import BackgroundCalls

HI: dict[str, Any] = {"model": "openai/gpt-5-nano", "messages": "Hi"}


@pytest.fixture
def client(gateway: Gateway) -> Iterator[aistats.Client]:
    """
    A client of the gateway on loopback.
    """
    with aistats.Client(KEY, gateway.url, max_retries=0) as client:
        yield client


def threads() -> list[threading.Thread]:
    """
    The threads of the package that run now.
    """
    return [thread for thread in threading.enumerate() if "aistats" in thread.name]


def test_with(gateway: Gateway) -> None:
    """`with` closes the client: its connections are closed, and it says so."""
    with aistats.Client(KEY, gateway.url) as client:
        assert client.generate_text(HI).text == "Hi"

    until(lambda: not gateway.open_connections)
    with pytest.raises(aistats.ConfigurationError, match="closed"):
        client.generate_text(HI)


def test_no_thread_before_the_first_call(script: Callable[..., Script]) -> None:
    """A client that is only made starts nothing; those that make calls share one thread."""
    program = script("""
import aistats, threading
clients = [aistats.Client() for _ in range(200)]
print(threading.active_count())
for client in clients: client.generate_text(model="m", messages="Hi")
print(threading.active_count())
for client in clients: client.close()
""")

    assert program.output() == "1\n2\n"


def test_in_a_running_loop(client: aistats.Client) -> None:
    """A notebook's running event loop is no obstacle."""

    async def cell() -> list[str]:
        return [client.generate_text(HI).text, client.stream_text(HI).final_response().text]

    assert asyncio.run(cell()) == ["Hi", "Hi"]


def test_many_threads(client: aistats.Client, gateway: Gateway) -> None:
    """Many threads share one client, and each gets its own answers."""
    count = 24
    together = threading.Barrier(count)

    def work(number: int) -> list[str]:
        together.wait()
        request: Any = {"model": "m", "messages": f"number {number}"}
        whole = client.generate_text(request).text
        streamed = "".join(client.stream_text(request).text_deltas())
        return [whole, streamed]

    with ThreadPoolExecutor(count) as pool:
        texts = list(pool.map(work, range(count)))

    assert texts == [[f"number {number}"] * 2 for number in range(count)]
    assert len(threads()) == 1
    assert len(gateway.requests) == 2 * count


@pytest.fixture
def hops(monkeypatch: pytest.MonkeyPatch) -> list[Callable[..., object]]:
    """
    What the clients had run on the event loop, call by call.
    """
    calls: list[Callable[..., object]] = []
    run = BackgroundCalls.run

    def counting(self: BackgroundCalls, step: Any) -> Any:
        calls.append(step)
        return run(self, step)

    monkeypatch.setattr(BackgroundCalls, "run", counting)
    return calls


def test_hop_takes_all_that_is_ready(
    client: aistats.Client, gateway: Gateway, hops: list[Any]
) -> None:
    """A reader that was slow gets many chunks by one hop to the event loop."""
    last = Gate()
    gateway.stream(OPENING, *(delta(str(number)) for number in range(500)), last, STOP, DONE)
    stream = client.stream_text(HI)
    reader = iter(stream)
    next(reader)
    until(last.reached.is_set)
    before = len(hops)

    texts = [next(reader).text for _ in range(500)]

    assert texts == [str(number) for number in range(500)]
    assert len(hops) - before <= 10
    last.open()
    assert stream.final_response().finish_reason == "stop"


def test_whole_answer_takes_one_hop(client: aistats.Client, hops: list[Any]) -> None:
    """A call without a stream crosses to the event loop once."""
    client.generate_text(HI)
    before = len(hops)

    client.generate_text(HI)

    assert len(hops) - before == 1


def test_sender_is_held_back(client: aistats.Client, gateway: Gateway) -> None:
    """While nobody reads, little of a huge stream is taken in; reading on gets all of it."""
    piece = delta("x" * 65_000)
    gateway.stream(OPENING, *([piece] * 800), STOP, DONE)  # 52 MB
    stream = client.stream_text(HI)
    reader = iter(stream)
    next(reader)

    # The server's write blocks: what it has sent stays the same for a while.
    sent, since = -1, time.monotonic()
    while time.monotonic() - since < 0.3:
        if gateway.request.sent != sent:
            sent, since = gateway.request.sent, time.monotonic()
        assert gateway.request.outcome is None
        time.sleep(0.01)

    assert sent < 20_000_000  # mostly the buffers of the operating system
    assert len(stream.final_response().text) == 800 * 65_000


def test_first_chunk_before_the_rest(client: aistats.Client, gateway: Gateway) -> None:
    """A chunk is handed out while the next one is still to come."""
    gate = Gate()
    gateway.stream(OPENING, delta("Once"), gate, delta(" upon"), STOP, DONE)

    texts = []
    for text in client.stream_text(HI).text_deltas():
        texts.append(text)
        gate.open()

    assert texts == ["Once", " upon"]


def test_break_closes_the_connection(client: aistats.Client, gateway: Gateway) -> None:
    """A loop that is left early closes the connection at once, with no help of the collector."""
    gateway.stream(OPENING, delta("Once"), Gate())
    gc.disable()
    try:
        for piece in client.stream_text(HI):
            if piece.text:
                break
        until(lambda: gateway.request.disconnected)
    finally:
        gc.enable()


def test_with_closes_the_connection(client: aistats.Client, gateway: Gateway) -> None:
    """`with` closes the connection though the stream is still at hand."""
    gateway.stream(OPENING, delta("Once"), Gate())
    with client.stream_text(HI) as stream:
        next(iter(stream))

    until(lambda: gateway.request.disconnected)
    with pytest.raises(aistats.AIStatsError, match="closed"):
        next(iter(stream))


def test_two_threads_read_one_stream(client: aistats.Client, gateway: Gateway) -> None:
    """A second thread that reads a stream meanwhile is told so; the first goes on undisturbed."""
    gate = Gate()
    gateway.stream(OPENING, gate, delta("Once"), STOP, DONE)
    stream = client.stream_text(HI)
    reader = iter(stream)
    next(reader)
    with ThreadPoolExecutor(1) as pool:
        rest = pool.submit(lambda: [piece.text for piece in reader])
        until(gate.reached.is_set)
        # The other thread is in its read once this one is refused.
        with pytest.raises(aistats.StreamError, match="one reader"):
            until(lambda: next(iter(stream)) and False)
        gate.open()

        assert rest.result() == ["Once", ""]


def test_threads_take_turns(client: aistats.Client, gateway: Gateway) -> None:
    """Threads that read one stream at the same time get each chunk once, or are refused."""
    words = [f"word{number} " for number in range(3000)]
    gateway.stream(*story(*words))
    stream = client.stream_text(HI)

    def read() -> list[str]:
        texts: list[str] = []
        while True:
            try:
                chunk = next(stream, None)
            except aistats.StreamError as error:
                assert "one reader" in str(error)  # noqa: PT017  # it is the other one's turn
                continue
            if chunk is None:
                return texts
            texts.append(chunk.text)

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(4) as pool:
            taken = [future.result() for future in [pool.submit(read) for _ in range(4)]]
    finally:
        sys.setswitchinterval(interval)

    assert sorted(filter(None, (text for texts in taken for text in texts))) == sorted(words)
    assert stream.final_response().text == "".join(words)


def test_close_from_another_thread(gateway: Gateway) -> None:
    """A call in flight while the client is closed ends at once, with the package's own error."""
    gate = Gate()
    gateway.reply(before=gate)
    client = aistats.Client(KEY, gateway.url)
    with ThreadPoolExecutor(1) as pool:
        call = pool.submit(client.generate_text, HI)
        until(gate.reached.is_set)
        client.close()

        with pytest.raises(aistats.ConfigurationError, match="closed"):
            call.result(timeout=1)
    until(lambda: not gateway.open_connections)


def test_close_under_a_stream_of_another_thread(gateway: Gateway) -> None:
    """A read in flight while the client is closed ends at once, with the package's own error."""
    gate = Gate()
    gateway.stream(OPENING, gate)
    client = aistats.Client(KEY, gateway.url)
    stream = client.stream_text(HI)
    reader = iter(stream)
    next(reader)
    with ThreadPoolExecutor(1) as pool:
        read = pool.submit(next, reader)
        until(gate.reached.is_set)
        client.close()

        with pytest.raises(aistats.AIStatsError):
            read.result(timeout=1)
    until(lambda: not gateway.open_connections)


def test_closed_twice(client: aistats.Client) -> None:
    """Closing a client again, or before its first call, does nothing."""
    client.generate_text(HI)
    client.close()
    client.close()
    never_used = aistats.Client(KEY)
    never_used.close()
    never_used.close()

    with pytest.raises(aistats.ConfigurationError, match="closed"):
        never_used.generate_text(HI)


def test_closed_by_many_threads(gateway: Gateway) -> None:
    """Threads that close one client at once all return."""
    client = aistats.Client(KEY, gateway.url)
    client.generate_text(HI)
    together = threading.Barrier(8)

    def close(_: int) -> None:
        together.wait()
        client.close()

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(close, range(8)))

    until(lambda: not gateway.open_connections)


def test_dropped_client(gateway: Gateway) -> None:
    """A client that nobody holds any more closes its connections."""
    client = aistats.Client(KEY, gateway.url)
    client.generate_text(HI)
    del client
    gc.collect()

    until(lambda: not gateway.open_connections)


def test_dropped_client_in_a_cycle(gateway: Gateway) -> None:
    """So does a client that only the collector can take, with a stream that was being read."""
    gateway.stream(OPENING, delta("Once"), Gate())
    client: Any = aistats.Client(KEY, gateway.url)
    client.stream = client.stream_text(HI)
    next(client.stream)
    client.itself = client
    del client
    gc.collect()

    until(lambda: not gateway.open_connections)


def test_stream_keeps_its_client(gateway: Gateway) -> None:
    """A stream goes on though nobody holds its client any more."""
    gate = Gate()
    gateway.stream(OPENING, gate, delta("Once"), STOP, DONE)
    stream = aistats.Client(KEY, gateway.url).stream_text(HI)
    next(iter(stream))
    gc.collect()
    gate.open()

    assert stream.final_response().text == "Once"
    del stream
    gc.collect()
    until(lambda: not gateway.open_connections)


def test_interrupted_call(client: aistats.Client, gateway: Gateway) -> None:
    """A worker's error in the middle of a stream's read leaves the client usable."""
    gateway.reply(error_body("busy"), 503)
    with pytest.raises(aistats.InternalServerError):
        client.generate_text(HI)

    assert client.generate_text(HI).text == "Hi"


# The two clients are one.


def public(cls: type) -> dict[str, Any]:
    """
    The public methods that *cls* itself has.
    """
    return {
        name: member
        for name, member in vars(cls).items()
        if inspect.isfunction(member) and not name.startswith("_")
    }


RENAMED = {"close": "aclose"}


@pytest.mark.parametrize(
    ("cls", "other"),
    [(aistats.Client, aistats.AsyncClient), (aistats.Stream, aistats.AsyncStream)],
)
def test_same_methods(cls: type, other: type) -> None:
    """Both styles have the same public methods, `close` and `aclose` apart."""
    names = {RENAMED.get(name, name) for name in dir(cls) if not name.startswith("_")}

    # `AsyncClient.close` only says what to call.
    assert names == {name for name in dir(other) if not name.startswith("_")} - {"close"}


def signature(func: Callable[..., object]) -> list[tuple[str, Any, Any, Any]]:
    """
    Name, kind, default and type of each parameter of *func*.
    """
    return [
        (each.name, each.kind, each.default, each.annotation)
        for each in inspect.signature(func).parameters.values()
    ]


@pytest.mark.parametrize(
    ("cls", "other"),
    [(aistats.Client, aistats.AsyncClient), (aistats.Stream, aistats.AsyncStream)],
)
def test_same_signatures(cls: type, other: type) -> None:
    """Each public method takes the same arguments in both styles, down to defaults and types."""
    methods = public(cls)
    assert methods
    for name, method in methods.items():
        assert signature(method) == signature(getattr(other, RENAMED.get(name, name))), name


def test_called_from_its_own_loop(gateway: Gateway) -> None:
    """A client that is called where its calls run says so, and does not wait for itself."""
    told: list[aistats.ConfigurationError] = []

    def retry_if(error: aistats.AIStatsError) -> bool:
        with pytest.raises(
            aistats.ConfigurationError, match="event loop thread that all clients share"
        ) as caught:
            client.generate_text(model="m", messages="Hi")
        told.append(caught.value)
        return True

    gateway.reply({"error": "busy"}, 400)
    policy = aistats.RetryPolicy(base=0, retry_if=retry_if)
    with aistats.Client(KEY, gateway.url, max_retries=policy) as client:
        answer = client.generate_text(model="m", messages="Hi")
        assert [attempt.status for attempt in answer.attempts] == [400, 200]

    assert len(told) == 1


def test_same_constructor() -> None:
    """Both clients are made with the same arguments."""
    assert signature(aistats.Client.__init__) == signature(aistats.AsyncClient.__init__)


@pytest.mark.parametrize("name", sorted(public(aistats.Client)))
def test_methods_only_delegate(name: str) -> None:
    """A method of `Client` is a few statements that delegate, so the styles can't drift apart."""
    source = textwrap.dedent(inspect.getsource(getattr(aistats.Client, name)))
    (function,) = ast.parse(source).body
    assert isinstance(function, ast.FunctionDef)
    statements = [node for node in ast.walk(function) if isinstance(node, ast.stmt)]

    assert len(statements) - 1 <= 5
