"""
Names and styles of other SDKs: what is not there says what to write instead, and nothing is sent.
"""

from __future__ import annotations

import copy
import pickle
from datetime import timedelta
from typing import Any

import aiohttp
import pytest
from conftest import KEY
from servers import Gateway

import aistats
from aistats import AsyncClient, Client, ConfigurationError

URL = "http://127.0.0.1:9/v1"
HI: dict[str, Any] = {"model": "m", "messages": "hi"}

# What users of other SDKs write, and what the error says.
WRONG_NAMES: list[tuple[Any, str]] = [
    (lambda client: client.chat.completions.create, "client.generate_text("),
    (lambda client: client.completions, "client.generate_text("),
    (lambda client: client.responses, "client.generate_text("),
    (lambda client: client.messages, "client.generate_text("),
    (lambda client: client.beta, "client.generate_text("),
    (lambda client: client.completion, "client.generate_text("),
    (lambda client: client.invoke, "client.generate_text("),
    (lambda client: client.stream, "client.stream_text("),
    (lambda client: client.batch, "client.map(rows, model=...)"),
    (lambda client: client.with_raw_response, "response.headers"),
    (lambda client: client.stream_text(HI).text, "stream.text_deltas()"),
    (lambda client: client.stream_text(HI).text, "stream.final_response()"),
    (lambda client: client.stream_text(HI).choices, "stream.final_response()"),
    (lambda client: client.stream_text(HI).get_final_completion, "stream.final_response()"),
    (lambda client: client.stream_text(HI).text_stream, "stream.text_deltas()"),
    (lambda client: client.stream_text(HI).iter_lines, "stream.lines()"),
]
WRONG_NAMES_OF_ASYNC = [
    (lambda client: client.chat, "Write await client.generate_text("),
    (lambda client: client.close, "Write await client.aclose()."),
    (lambda client: client.stream_text(HI).close, "Write await stream.aclose()."),
    (lambda client: client.stream_text(HI).text, "Write (await stream.final_response()).text, or"),
]
WRONG_NAMES_OF_SYNC = [
    (lambda client: client.chat, "Write client.generate_text("),
    (lambda client: client.aclose, "Write client.close()."),
    (lambda client: client.stream_text(HI).aclose, "Write stream.close()."),
    (lambda client: client.stream_text(HI).text, "Write stream.final_response().text, or"),
]


@pytest.mark.parametrize(
    ("kind", "use", "hint"),
    [
        *((kind, *row) for kind in (AsyncClient, Client) for row in WRONG_NAMES),
        *((AsyncClient, *row) for row in WRONG_NAMES_OF_ASYNC),
        *((Client, *row) for row in WRONG_NAMES_OF_SYNC),
    ],
)
def test_a_name_of_another_sdk(kind: Any, use: Any, hint: str, gateway: Gateway):
    """A name that a client or a stream has elsewhere is an `AttributeError` with the name here."""
    client = kind(KEY, gateway.url)

    with pytest.raises(AttributeError) as caught:
        use(client)

    assert f"has no attribute {caught.value.name!r}. Write " in str(caught.value)
    assert hint in str(caught.value)
    assert not hasattr(client, "chat")
    assert gateway.requests == []


@pytest.mark.parametrize("kind", [AsyncClient, Client])
def test_other_names_are_missing_as_usual(kind: Any):
    """Any other name gives Python's own message, and copies and pickles work as before."""
    client = kind(KEY, URL)

    with pytest.raises(AttributeError, match=f"^'{kind.__name__}' object has no attribute 'zzz'$"):
        client.zzz()
    for again in (copy.copy(client), pickle.loads(pickle.dumps(client))):
        assert again.base_url == URL


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("status_code", ". Write error.status."),
        ("response", ". Write error.status, error.headers or error.body."),
        ("request", ". Write error.as_curl()."),
        ("zzz", ""),
    ],
)
def test_names_of_other_errors(name: str, hint: str):
    """What an error of another SDK has is an `AttributeError` with the name here."""
    error = aistats.RateLimitError("x")

    for each in (error, copy.copy(error), pickle.loads(pickle.dumps(error))):
        with pytest.raises(AttributeError) as caught:
            getattr(each, name)
        assert str(caught.value) == f"'RateLimitError' object has no attribute {name!r}{hint}"


def test_a_stream_needs_no_await():
    """`await client.stream_text(...)`, which other SDKs need, says how to read or open a stream."""
    stream: Any = AsyncClient(KEY, URL).stream_text(HI)

    with pytest.raises(TypeError, match=r"needs no `await`.*async for.*await stream\.open\(\)"):
        stream.__await__()


@pytest.mark.parametrize("path", ["/chat/completions", "/completions", "/responses", "/messages"])
@pytest.mark.parametrize("slash", ["", "/"])
@pytest.mark.parametrize("kind", [AsyncClient, Client])
def test_a_base_url_ends_before_the_operation(kind: Any, path: str, slash: str):
    """A base URL with an operation's path is refused, with what to write."""
    with pytest.raises(ConfigurationError, match=f"must end before {path}.*: write '{URL}'$"):
        kind(KEY, f"{URL}{path}{slash}")


@pytest.mark.parametrize("kind", [AsyncClient, Client])
def test_a_url_is_no_key(kind: Any):
    """An address as the first argument would be sent as the key, to another address."""
    with pytest.raises(ConfigurationError, match=r"is a URL.*write base_url=") as caught:
        kind("https://user:secret@a.example/v1")

    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("value", "name"),
    [
        (aiohttp.ClientTimeout(total=5), "aiohttp.client.ClientTimeout"),
        (timedelta(seconds=5), "datetime.timedelta"),
    ],
)
def test_a_timeout_of_another_package(value: Any, name: str):
    """Another package's time limits are named, with the package's own to write instead."""
    expected = f"not {name}: write Timeout\\(connect=..., idle=..., total=...\\)"

    with pytest.raises(ConfigurationError, match=expected):
        Client(KEY, URL, timeout=value)
    with pytest.raises(ConfigurationError, match=expected):
        Client(KEY, URL).generate_text(HI, timeout=value)


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("OpenAI", ". Write aistats.Client."),
        ("AsyncAnthropic", ". Write aistats.AsyncClient."),
        ("completion", ". Write aistats.Client().generate_text(...)."),
        ("APIError", ". Write aistats.AIStatsError."),
        ("zzz", ""),
    ],
)
def test_names_of_other_packages(name: str, hint: str):
    """A name of another package is an `AttributeError` with the name here; others are as usual."""
    with pytest.raises(AttributeError) as caught:
        getattr(aistats, name)

    assert str(caught.value) == f"module 'aistats' has no attribute {name!r}{hint}"
