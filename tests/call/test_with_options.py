"""
Clients with other options on the same connections, keys from a function, and headers taken away.
"""

from __future__ import annotations

import asyncio
import gc
import pickle
import threading
from collections.abc import Callable
from typing import Any

import aiohttp
import pytest
from conftest import KEY
from servers import Gate, Gateway, auntil, error_body, story
from test_client import leaks

import aistats

pytestmark = pytest.mark.anyio

REQUEST: Any = {"model": "m/m", "messages": "Hi"}
OTHER = "aistats_v1_k_other_an0ther-that-must-not-show"


@pytest.fixture(params=["AsyncClient", "Client"])
def make(request: pytest.FixtureRequest, gateway: Gateway) -> Callable[..., Any]:
    """
    Makes a client of either kind for the gateway of the test.
    """
    kind = getattr(aistats, request.param)
    return lambda **options: kind(**{"api_key": KEY, "base_url": gateway.url, **options})


async def ask(client: Any, **options: Any) -> Any:
    """
    The answer to a request by a client of either kind.
    """
    if isinstance(client, aistats.AsyncClient):
        return await client.generate_text(REQUEST, **options)
    return await asyncio.to_thread(client.generate_text, REQUEST, **options)


async def close(client: Any) -> None:
    """
    A client of either kind is closed.
    """
    if isinstance(client, aistats.AsyncClient):
        await client.aclose()
    else:
        await asyncio.to_thread(client.close)


async def test_other_options(make: Callable[..., Any], gateway: Gateway):
    """
    A derived client sends its own key and headers, on the connection of the first one.
    """
    client = make(default_headers={"X-Team": "red", "X-Old": "yes"})
    derived = client.with_options(
        api_key=OTHER, default_headers={"x-team": "blue", "X-Old": None}, max_retries=0, timeout=7
    )

    await ask(client)
    await ask(derived)
    await ask(client)
    first, second, third = gateway.requests

    assert type(derived) is type(client)
    assert [seen.headers["Authorization"] for seen in gateway.requests] == [
        f"Bearer {KEY}",
        f"Bearer {OTHER}",
        f"Bearer {KEY}",
    ]
    assert (first.headers["X-Team"], first.headers["X-Old"]) == ("red", "yes")
    assert (second.headers["X-Team"], second.headers.get("X-Old")) == ("blue", None)
    assert third.headers["X-Team"] == "red"
    assert first.connection == second.connection == third.connection
    await close(client)


async def test_options_of_calls(make: Callable[..., Any], gateway: Gateway):
    """
    A derived client has its own retries and time limits; what it does not change is the first's.
    """
    client = make(max_retries=2)
    derived = client.with_options(max_retries=0)
    other = derived.with_options(timeout=0.05)

    gateway.reply(error_body(), 502)
    with pytest.raises(aistats.InternalServerError):
        await ask(derived)
    gateway.reply(before=Gate())
    with pytest.raises(aistats.APITimeoutError, match=r"total limit of 0\.05 s"):
        await ask(other)

    assert len(gateway.requests) == 2
    await close(client)


async def test_limits_are_kept_for_each_key(make: Callable[..., Any]):
    """
    Clients with one key share what was learned; a client with another key does not.
    """
    client = make()
    same = client.with_options(timeout=5)
    first = client.with_options(api_key=OTHER)
    second = client.with_options(api_key=OTHER, max_retries=0)

    assert same.limits is client.limits
    assert first.limits is second.limits
    assert first.limits is not client.limits
    await close(client)


async def test_limits_of_a_key_without_clients_are_forgotten(make: Callable[..., Any]):
    """
    A service that has seen many keys does not hold something for each of them.
    """
    client = make()
    for number in range(100):
        client.with_options(api_key=f"{OTHER}{number}")
    gc.collect()

    assert len(client._gateway._quotas) == 1
    await close(client)


async def test_closing_a_derived_client(make: Callable[..., Any], gateway: Gateway):
    """
    Closing a derived client refuses its further calls, and closes nothing else.
    """
    client = make()
    derived, sibling = client.with_options(timeout=5), client.with_options(timeout=6)
    await ask(derived)
    await close(derived)

    assert derived.is_closed
    assert not client.is_closed
    with pytest.raises(aistats.ConfigurationError, match="has been closed"):
        await ask(derived)
    await ask(client)
    await ask(sibling)
    assert gateway.connections == 1
    await close(client)


async def test_closing_the_first_client_closes_all(make: Callable[..., Any], gateway: Gateway):
    """
    Closing the first client closes those that were derived from it, and those derived from these.
    """
    client = make()
    derived = client.with_options(timeout=5).with_options(max_retries=0)
    await ask(derived)
    await close(client)

    assert derived.is_closed
    with pytest.raises(aistats.ConfigurationError, match="has been closed"):
        await ask(derived)
    with pytest.raises(aistats.ConfigurationError, match="has been closed"):
        client.with_options(timeout=5)
    await auntil(lambda: gateway.open_connections == 0)


async def test_a_derived_client_keeps_the_connections_alive(
    make: Callable[..., Any], gateway: Gateway
):
    """
    A derived client works after the first one was dropped.
    """
    derived = make().with_options(timeout=5)
    gc.collect()

    await ask(derived)
    await ask(derived)

    assert gateway.connections == 1
    await close(derived)
    del derived
    gc.collect()
    await auntil(lambda: gateway.open_connections == 0)


class WithOwnInit(aistats.AsyncClient):
    """
    A subclass whose constructor takes something else.
    """

    def __init__(self, team: str, url: str) -> None:
        super().__init__(KEY, url)
        self.team = team


async def test_a_subclass_is_derived(gateway: Gateway):
    """
    A derived client has the class and the attributes of the first one.
    """
    async with WithOwnInit("red", gateway.url) as client:
        derived = client.with_options(max_retries=0)
        await ask(derived)

    assert isinstance(derived, WithOwnInit)
    assert derived.team == "red"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"base_url": "http://other/v1"}, r"can't change base_url; .* Make a new client"),
        ({"session": None, "max_connections": 3}, r"can't change session, max_connections; "),
        ({"temprature": 1}, r"can't change temprature; it takes api_key, timeout, max_retries, "),
        ({"timeout": -1}, "timeout"),
        ({"max_retries": True}, "max_retries"),
        ({"max_response_bytes": 0}, "max_response_bytes must be a whole number"),
        ({"default_headers": {"X-A": 5}}, "default_headers"),
        ({"default_headers": [1]}, "default_headers: expected a mapping"),
        ({"api_key": ""}, "There is no API key"),
        ({"api_key": 5}, "api_key must be a string, or a function that returns one; not int"),
    ],
)
async def test_wrong_options(make: Callable[..., Any], options: Any, message: str):
    """
    A wrong option, and one that belongs to the connections, is refused by name.
    """
    client = make()

    with pytest.raises(aistats.ConfigurationError, match=message) as caught:
        client.with_options(**{"api_key": KEY, **options})
    assert leaks(caught.value) == []
    await close(client)


# -- keys from a function -----------------------------------------------------------------------


class Rotating:
    """
    A function that returns another key each time, and remembers the thread that asked.
    """

    def __init__(self) -> None:
        self.count = 0
        self.threads: list[threading.Thread] = []

    def __call__(self) -> str:
        self.count += 1
        self.threads.append(threading.current_thread())
        return f"rotating-key-{self.count}"


class AsyncRotating(Rotating):
    """
    The same as an asynchronous function.
    """

    async def __call__(self) -> str:  # type: ignore[override]
        await asyncio.sleep(0)
        return super().__call__()


@pytest.mark.parametrize("kind", [Rotating, AsyncRotating, "method"])
async def test_a_function_is_asked_before_each_attempt(
    make: Callable[..., Any], gateway: Gateway, kind: Any
):
    """
    The key of a function, plain or asynchronous, is that of one attempt.
    """
    function = AsyncRotating().__call__ if kind == "method" else kind()
    client = make(api_key=function, max_retries=1)
    gateway.reply(error_body(), 502)

    answer = await ask(client)
    await ask(client)

    assert len(answer.attempts) == 2
    assert [seen.headers["Authorization"] for seen in gateway.requests] == [
        f"Bearer rotating-key-{number}" for number in (1, 2, 3)
    ]
    if kind is Rotating:
        assert not any(thread.name == "aistats" for thread in function.threads)
    await close(client)


async def test_a_stream_and_a_run_ask_the_function(gateway: Gateway):
    """
    Streams and runs ask for a key as calls do.
    """
    async with aistats.AsyncClient(Rotating(), gateway.url) as client:
        gateway.stream(*story("a"))
        assert (await client.stream_text(REQUEST).final_response()).text == "a"
        run = client.map(["a", "b"], model="m/m")
        await run

    keys = {seen.headers["Authorization"] for seen in gateway.requests}
    assert keys == {f"Bearer rotating-key-{number}" for number in (1, 2, 3)}


@pytest.mark.parametrize("key", [None, 5, "", "two words", b"bytes"])
async def test_a_function_that_returns_no_key(make: Callable[..., Any], gateway: Gateway, key: Any):
    """
    What is no key is refused before anything is sent, and not shown.
    """
    client = make(api_key=lambda: key)

    with pytest.raises(aistats.ConfigurationError) as caught:
        await ask(client)

    assert "key" in caught.value.message
    assert "two words" not in str(caught.value)
    assert gateway.requests == []
    await close(client)


async def test_a_function_that_fails(make: Callable[..., Any], gateway: Gateway):
    """
    An error of the function reaches the caller as it is, and nothing is sent.
    """

    def fails() -> str:
        raise LookupError("the vault is closed")

    client = make(api_key=fails)

    with pytest.raises(LookupError, match="the vault is closed"):
        await ask(client)
    assert gateway.requests == []
    assert client.limits.in_flight == 0
    await close(client)


async def test_a_function_that_hangs(gateway: Gateway):
    """
    The call's time limit holds while the function runs.
    """

    async def hangs() -> str:
        await asyncio.Event().wait()
        return "never"

    async with aistats.AsyncClient(hangs, gateway.url, timeout=0.05) as client:
        with pytest.raises(aistats.APITimeoutError, match="function given as api_key was running"):
            await client.generate_text(REQUEST)


@pytest.mark.parametrize("url", [None, "http://127.0.0.1:1/v1"])
async def test_no_frame_shows_the_key_of_a_function(
    make: Callable[..., Any], gateway: Gateway, url: str | None
):
    """
    The key that a function returned is in no frame of a failed call.
    """
    gateway.reply(error_body(), 400)
    client = make(api_key=of_the_environment, base_url=url or gateway.url, max_retries=0)

    with pytest.raises(aistats.AIStatsError) as caught:
        await ask(client)

    assert leaks(caught.value) == []
    await close(client)


async def test_the_key_of_a_function_is_not_shown(gateway: Gateway):
    """
    A server that echoes the key of a function does not put it into the error.
    """
    gateway.reply(error_body(description="bad key rotating-key-1"), 401)

    async with aistats.AsyncClient(Rotating(), gateway.url) as client:
        with pytest.raises(aistats.AuthenticationError) as caught:
            await client.generate_text(REQUEST)

    assert "rotating-key-1" not in str(caught.value) + repr(caught.value.body)
    assert "***" in str(caught.value)


def of_the_environment() -> str:
    """
    A function that can be pickled.
    """
    return KEY


async def test_a_client_with_a_function_can_be_pickled(make: Callable[..., Any], gateway: Gateway):
    """
    The function goes along by its name.
    """
    client = pickle.loads(pickle.dumps(make(api_key=of_the_environment)))

    await ask(client)

    assert gateway.request.headers["Authorization"] == f"Bearer {KEY}"
    await close(client)


# -- headers ------------------------------------------------------------------------------------


@pytest.fixture(params=["own", "session"])
async def session(request: pytest.FixtureRequest) -> Any:
    """
    No session, and a function that makes one.
    """
    return None if request.param == "own" else aiohttp.ClientSession


async def test_none_removes_a_header(gateway: Gateway, session: Any):
    """
    `None` in `extra_headers` removes a default header, the package's and aiohttp's own among them.
    """
    async with aistats.AsyncClient(
        KEY, gateway.url, default_headers={"X-Team": "red"}, session=session
    ) as client:
        await client.generate_text(
            REQUEST, extra_headers={"x-team": None, "User-Agent": None, "X-Not-There": None}
        )
        await client.generate_text(REQUEST)
    without, plain = gateway.requests

    assert "X-Team" not in without.headers
    assert "User-Agent" not in without.headers
    assert plain.headers["X-Team"] == "red"
    assert plain.headers["User-Agent"].startswith("aistats/")


async def test_none_among_the_default_headers(gateway: Gateway):
    """
    A client may be made without one of the package's own headers; a call may add it again.
    """
    async with aistats.AsyncClient(
        KEY, gateway.url, default_headers={"User-Agent": None}
    ) as client:
        await client.generate_text(REQUEST)
        await client.generate_text(REQUEST, extra_headers={"user-agent": "mine"})
    without, mine = gateway.requests

    assert "User-Agent" not in without.headers
    assert mine.headers["User-Agent"] == "mine"
