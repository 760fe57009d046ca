"""
Opening a stream before its first chunk is needed: `open()`, and the way into `with`.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest
from servers import OPENING, Gate, Gateway, delta, error_body, story, until

import aistats

REQUEST: Any = {"model": "m/m", "messages": "Hi"}


@pytest.fixture
def client(gateway: Gateway) -> Iterator[aistats.Client]:
    """
    A client that makes one attempt.
    """
    with aistats.Client(api_key="k" * 20, base_url=gateway.url, max_retries=0) as client:
        yield client


@pytest.fixture
def async_client(gateway: Gateway) -> aistats.AsyncClient:
    """
    An asynchronous client that makes one attempt.
    """
    return aistats.AsyncClient(api_key="k" * 20, base_url=gateway.url, max_retries=0)


def test_open_returns_the_stream(client: aistats.Client, gateway: Gateway):
    """
    `open()` returns the stream once its first event has come, with nothing read from it.
    """
    gate = Gate()
    gateway.stream(OPENING, delta("a"), gate, delta("b"), *story()[1:])
    stream = client.stream_text(REQUEST)

    assert stream.open() is stream
    assert stream.status == 200
    gate.open()
    assert "".join(stream.text_deltas()) == "ab"
    assert len(gateway.requests) == 1


@pytest.mark.anyio
async def test_await_open_returns_the_stream(async_client: aistats.AsyncClient, gateway: Gateway):
    """
    `await open()` does the same for the asynchronous stream.
    """
    gateway.stream(*story("a", "b"))

    async with async_client:
        stream = await async_client.stream_text(REQUEST).open()
        assert stream.status == 200
        assert await stream.open() is stream  # a second time changes nothing
        assert [text async for text in stream.text_deltas()] == ["a", "b"]
        assert await stream.open() is stream  # nor does it after the end
        assert (await stream.final_response()).text == "ab"
    assert len(gateway.requests) == 1


def test_entering_sends_the_request(client: aistats.Client, gateway: Gateway):
    """
    Entering `with` raises what the gateway answers, so the block is never entered.
    """
    gateway.reply(error_body("model_not_found"), status=404)
    stream = client.stream_text(REQUEST)

    with pytest.raises(aistats.NotFoundError) as caught, stream:
        pytest.fail("entered")

    assert caught.value.status == 404
    with pytest.raises(aistats.StreamError, match="The stream has failed"):
        stream.open()


@pytest.mark.anyio
async def test_entering_awaits_the_first_event(async_client: aistats.AsyncClient, gateway: Gateway):
    """
    Entering `async with` raises what the gateway answers.
    """
    gateway.reply(error_body("model_not_found"), status=404)

    async with async_client:
        with pytest.raises(aistats.NotFoundError):
            async with async_client.stream_text(REQUEST):
                pytest.fail("entered")


def test_open_after_close(client: aistats.Client, gateway: Gateway):
    """
    A stream that was closed can't be opened, and no request is sent.
    """
    stream = client.stream_text(REQUEST)
    stream.close()

    with pytest.raises(aistats.StreamError, match="was closed before its end"):
        stream.open()

    assert gateway.requests == []


def test_close_while_opening(client: aistats.Client, gateway: Gateway):
    """
    Closing from another thread ends an `open()` that waits for the gateway.
    """
    gate = Gate()
    gateway.stream(*story("a"), before=gate)
    stream = client.stream_text(REQUEST)
    errors: list[aistats.AIStatsError] = []

    def opening() -> None:
        with pytest.raises(aistats.StreamError) as caught:
            stream.open()
        errors.append(caught.value)

    thread = threading.Thread(target=opening)
    thread.start()
    until(gate.reached.is_set)
    stream.close()
    thread.join()

    assert "closed before its end" in str(errors[0])
    until(lambda: gateway.request.disconnected)
