"""
Tools that hook into aiohttp's session see every request, and sessions that the user makes are used.
"""

from __future__ import annotations

import asyncio
import pickle
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from conftest import KEY, Caller
from servers import Gateway

import aistats
from aistats._net import patches as _patches
from aistats._net import transport as _transport

pytestmark = pytest.mark.anyio
Connect = Callable[..., Caller]
HI: dict[str, Any] = {"model": "openai/gpt-5-nano", "messages": "Hi"}


@pytest.mark.skipif(not _transport._KNOWS_AIOHTTP, reason="this aiohttp always goes by its session")
async def test_an_untouched_session_is_not_used(caller: Caller) -> None:
    """Requests of an untouched session go out without it."""
    await caller.generate_text(HI)

    (pool,) = caller.client._gateway.transport._pools.values()
    assert pool.is_plain
    assert not _patches.is_patched()


async def test_patched_while_the_client_is_used(
    caller: Caller, gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A patch counts from the next request on, and no longer once it is taken back."""
    seen: list[str] = []
    original = aiohttp.ClientSession._request

    async def request(self: Any, method: str, *args: Any, **options: Any) -> Any:
        seen.append(method)
        return await original(self, method, *args, **options)

    await caller.generate_text(HI)
    with monkeypatch.context() as patch:
        patch.setattr(aiohttp.ClientSession, "_request", request)
        await caller.generate_text(HI)
        assert (await caller.stream_text(HI).final_response()).text == "Hi"
    await caller.generate_text(HI)

    assert seen == ["POST", "POST"]
    assert len(gateway.requests) == 4


@pytest.fixture
def mocked() -> Iterator[Any]:
    """
    aioresponses, which answers every request of a session.
    """
    aioresponses = pytest.importorskip("aioresponses", reason="needs aioresponses")
    with aioresponses.aioresponses() as mock:
        yield mock


async def test_aioresponses(connect: Connect, gateway: Gateway, mocked: Any) -> None:
    """A mocked session sees each request, and nothing is sent."""
    # aioresponses 0.7.9 can't make a whole response with aiohttp 3.14, but it can fail.
    failure = aiohttp.ClientConnectionError("mocked away")
    mocked.post(f"{gateway.url}/chat/completions", exception=failure)

    with pytest.raises(aistats.APIConnectionError, match="mocked away"):
        await connect(gateway.url).generate_text(HI)
    with pytest.raises(aistats.APIConnectionError, match="Connection refused"):
        await connect(gateway.url).generate_text(HI)  # as it does for what nobody mocked
    assert gateway.requests == []


async def test_vcrpy(connect: Connect, gateway: Gateway, tmp_path: Path) -> None:
    """A recorder records without the key if it is told to, and replays without a network."""
    vcr = pytest.importorskip("vcr", reason="needs vcrpy")
    tape = tmp_path / "tape.yaml"
    options = {"filter_headers": ["authorization"]}
    with vcr.use_cassette(str(tape), **options):
        assert (await connect(gateway.url).generate_text(HI)).text == "Hi"
    assert len(gateway.requests) == 1

    with vcr.use_cassette(str(tape), record_mode="none", **options):
        assert (await connect(gateway.url).generate_text(HI)).text == "Hi"
        with pytest.raises(Exception, match="record_mode 'none'"):
            await connect(gateway.url).generate_text(**{**HI, "model": "another"})

    assert len(gateway.requests) == 1
    assert KEY not in tape.read_text()


async def test_opentelemetry(connect: Connect, gateway: Gateway) -> None:
    """Aiohttp's instrumentation makes a span for each request, and sends its trace context."""
    module = pytest.importorskip("opentelemetry.instrumentation.aiohttp_client")
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    instrumentor = module.AioHttpClientInstrumentor()
    instrumentor.instrument(tracer_provider=provider)
    try:
        caller = connect(gateway.url)
        await caller.generate_text(HI)
        await caller.stream_text(HI).final_response()
    finally:
        instrumentor.uninstrument()
    await connect(gateway.url).generate_text(HI)

    assert [span.name for span in exporter.get_finished_spans()] == ["POST", "POST"]
    has_context = ["traceparent" in request.headers for request in gateway.requests]
    assert has_context == [True, True, False]


# -- sessions that a function makes ---------------------------------------------------------------


async def test_a_function_that_makes_a_session(connect: Connect, gateway: Gateway) -> None:
    """The client calls it once on its loop, uses what it returns, and closes that."""
    made: list[aiohttp.ClientSession] = []

    def make() -> aiohttp.ClientSession:
        made.append(aiohttp.ClientSession(headers={"X-Mine": "yes"}))
        return made[-1]

    caller = connect(gateway.url, session=make)
    for _ in range(2):
        assert (await caller.generate_text(HI)).text == "Hi"
    assert (await caller.stream_text(HI).final_response()).text == "Hi"
    await caller.aclose()

    assert [session.closed for session in made] == [True]
    assert [request.headers.get("X-Mine") for request in gateway.requests] == ["yes"] * 3


async def test_middlewares_of_a_session(connect: Connect, gateway: Gateway) -> None:
    """Middlewares of a made session see each request."""
    seen: list[str] = []

    async def note(request: Any, handler: Any) -> Any:
        seen.append(request.method)
        return await handler(request)

    caller = connect(gateway.url, session=lambda: aiohttp.ClientSession(middlewares=[note]))
    await caller.generate_text(HI)

    assert seen == ["POST"]


def test_a_session_for_each_loop(gateway: Gateway) -> None:
    """An `AsyncClient` in two loops has a session in each."""
    made: list[aiohttp.ClientSession] = []

    def make() -> aiohttp.ClientSession:
        made.append(aiohttp.ClientSession())
        return made[-1]

    client = aistats.AsyncClient(KEY, gateway.url, session=make)
    for _ in range(2):
        asyncio.run(client.generate_text(HI))

    assert [session.closed for session in made] == [True, True]


async def coroutine() -> None:
    """What an asynchronous function would have returned."""


async def generator() -> AsyncIterator[None]:
    """What cannot be a session."""
    yield None


@pytest.mark.parametrize("make", [coroutine, generator, dict, lambda: None])
async def test_a_function_that_makes_something_else(
    connect: Connect, gateway: Gateway, make: Any
) -> None:
    """What is no session is refused when it is used, with a word about what is needed."""
    with pytest.raises(aistats.ConfigurationError, match="a plain function that returns one"):
        await connect(gateway.url, session=make).generate_text(HI)


def test_a_client_with_such_a_function_is_pickled(gateway: Gateway) -> None:
    """A function that can be pickled goes along, so each process makes its own session."""
    with aistats.Client(KEY, gateway.url, session=aiohttp.ClientSession) as client:
        copy: aistats.Client = pickle.loads(pickle.dumps(client))
    with copy:
        assert copy.generate_text(HI).text == "Hi"
