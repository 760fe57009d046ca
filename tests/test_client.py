"""
Both clients against a gateway on loopback: what goes out, what comes back, and how it fails.

A test that takes `caller` or `connect` runs twice, once for each calling style.
"""

from __future__ import annotations

import asyncio
import copy
import enum
import gzip
import json
import logging
import pathlib
import pickle
import ssl
import traceback
from collections.abc import AsyncIterable, Callable
from typing import Any

import aiohttp
import anyio
import pytest
from conftest import KEY, Caller, Script
from servers import (
    CLOSE,
    DONE,
    OPENING,
    READ,
    RESET,
    STOP,
    Drip,
    Ending,
    Gate,
    Gateway,
    RawServer,
    auntil,
    chunk,
    chunked,
    completion,
    delta,
    error_body,
    full_house,
    head,
    sse,
    story,
)

import aistats
from aistats._net import transport as _transport

pytestmark = pytest.mark.anyio

MODEL = "openai/gpt-5-nano"
HI: dict[str, Any] = {"model": MODEL, "messages": [{"role": "user", "content": "Hi"}]}

Connect = Callable[..., Caller]


async def all_of(iterator: Any) -> list[Any]:
    """
    What the asynchronous *iterator* gives.
    """
    return [item async for item in iterator]


async def collect(iterator: Any, take: Callable[[Any], object]) -> None:
    """
    Each item of *iterator* was given to *take*, those before a failure too.
    """
    async for item in iterator:
        take(item)


@pytest.fixture(params=["whole", "streamed"])
def ask(request: pytest.FixtureRequest) -> Callable[..., Any]:
    """
    A function that asks a caller and returns the response, got whole or through a stream.
    """

    async def whole(caller: Caller, *args: Any, **kwargs: Any) -> Any:
        return await caller.generate_text(*args, **kwargs)

    async def streamed(caller: Caller, *args: Any, **kwargs: Any) -> Any:
        return await caller.stream_text(*args, **kwargs).final_response()

    return whole if request.param == "whole" else streamed


Ask = Callable[..., Any]


# The documented calls.


DOCUMENTED = """
from aistats import Client

client = Client()                       # AI_STATS_API_KEY and AI_STATS_BASE_URL from the environment

chat = client.generate_text({
    "model": "openai/gpt-4o-mini",
    "messages": [
        {"role": "system", "content": "You are helpful."},
        {"role": "user", "content": "Write a limerick about lighthouses."},
    ],
    "temperature": 0.5,
})
print(chat.text)                        # same as chat.choices[0].message.content

for line in client.stream_text({
    "model": "openai/gpt-4o-mini",
    "messages": [{"role": "user", "content": "Stream a story"}],
}):
    print(line)                         # prints the SSE line:  data: {"id":"chatcmpl-123",...}
"""  # noqa: E501 (as it is documented)

DOCUMENTED_ASYNC = """
import asyncio
import copy

from aistats import AsyncClient

async def main():
    async with AsyncClient() as client:
        chat = await client.generate_text(model="openai/gpt-4o-mini", messages="Say hi")
        print(chat.text)
        async for chunk in client.stream_text({"model": "a/b", "messages": "Stream a story"}):
            print(chunk.text, end="", flush=True)

asyncio.run(main())
"""


def test_documented_call(script: Callable[[str], Script], gateway: Gateway) -> None:
    """The documented synchronous calls print the text, then the SSE lines as they came."""
    lines = [
        sse(chunk({"role": "assistant", "content": "Once"}, id="chatcmpl-123")),
        sse(chunk({"content": " upon"}, id="chatcmpl-123")),
        sse(chunk(finish_reason="stop", id="chatcmpl-123")),
    ]
    gateway.reply(completion("A lighthouse keeper from Skye"))
    gateway.stream(*lines, DONE)

    printed = script(DOCUMENTED).output()

    expected = ["A lighthouse keeper from Skye", *(line.decode().strip() for line in lines)]
    assert printed.splitlines() == expected
    first, second = gateway.requests
    assert first.json == {
        "model": "openai/gpt-4o-mini",
        "messages": [
            {"role": "system", "content": "You are helpful."},
            {"role": "user", "content": "Write a limerick about lighthouses."},
        ],
        "temperature": 0.5,
    }
    assert second.json["stream"] is True
    assert first.headers["Authorization"] == f"Bearer {KEY}"


def test_documented_async_call(script: Callable[[str], Script], gateway: Gateway) -> None:
    """The documented asynchronous calls print the text, whole and piece by piece."""
    gateway.reply(completion("Hi!"))
    gateway.stream(*story("Once", " upon", " a time"))

    assert script(DOCUMENTED_ASYNC).output() == "Hi!\nOnce upon a time"


# What goes out.


async def test_request_head(caller: Caller, gateway: Gateway) -> None:
    """A call is a POST of JSON to /chat/completions, with the key as its bearer token."""
    await caller.generate_text(HI)

    seen = gateway.request
    assert (seen.method, seen.path, seen.query) == ("POST", "/v1/chat/completions", {})
    assert seen.headers.getall("Authorization") == [f"Bearer {KEY}"]
    assert seen.headers["Content-Type"] == "application/json"
    assert seen.headers["Accept"] == "application/json"
    assert seen.headers["User-Agent"].split()[0] == f"aistats/{aistats.__version__}"
    assert seen.json == HI


async def test_stream_request_head(caller: Caller, gateway: Gateway) -> None:
    """A stream is asked for with `stream: true`, and an event stream is accepted."""
    await all_of(caller.stream_text(HI))

    assert gateway.request.json == {**HI, "stream": True}
    assert "text/event-stream" in gateway.request.headers["Accept"]


@pytest.mark.parametrize("path", ["/v1", "/v1/", "/", "", "/proxy/of/ours/"])
async def test_base_url(connect: Connect, gateway: Gateway, path: str) -> None:
    """The path of the base URL is kept, with or without a slash at its end."""
    await connect(f"http://127.0.0.1:{gateway.port}{path}").generate_text(HI)

    assert gateway.request.path == path.rstrip("/") + "/chat/completions"


async def test_environment(
    connect: Connect, gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Key and base URL come from the environment where the client got none."""
    monkeypatch.setenv("AI_STATS_API_KEY", "key-of-the-environment")
    monkeypatch.setenv("AI_STATS_BASE_URL", gateway.url)

    await connect(None, api_key=None).generate_text(HI)

    assert gateway.request.headers["Authorization"] == "Bearer key-of-the-environment"


async def test_same_request_in_every_form(caller: Caller, gateway: Gateway) -> None:
    """A dict, keywords, both and a `ChatCompletionsRequest` are the same bytes on the wire."""
    params: dict[str, Any] = {"model": MODEL, "messages": "Hi", "temperature": 0.5, "stop": None}
    await caller.generate_text(params)
    await caller.generate_text(**params)
    await caller.generate_text({"model": MODEL, "messages": "Hi"}, temperature=0.5)
    await caller.generate_text(aistats.ChatCompletionsRequest(**params))

    assert gateway.requests[0].json == {**HI, "temperature": 0.5}
    assert len({seen.body for seen in gateway.requests}) == 1


async def test_headers_of_client_and_call(connect: Connect, gateway: Gateway) -> None:
    """A call's headers win over the client's, in any case, and these over the package's own."""
    caller = connect(gateway.url, default_headers={"X-Title": "client", "X-Both": "client"})
    await caller.generate_text(HI, extra_headers={"x-both": "call", "User-Agent": "mine/1"})

    seen = gateway.request
    assert seen.headers.getall("X-Title") == ["client"]
    assert seen.headers.getall("X-Both") == ["call"]
    assert seen.headers.getall("User-Agent") == ["mine/1"]


Region = enum.Enum("Region", {"EUROPE": "eu"}, type=str)
Level = enum.Enum("Level", {"HIGH": 3}, type=int)


async def test_extra_query(connect: Connect, gateway: Gateway) -> None:
    """The query of a call is put into the URL and escaped, each value as in JSON."""
    query = {"q": "ä &b=", "n": 1, "x": 0.5, "yes": True, "no": False}
    enums = {"region": Region["EUROPE"], "level": Level["HIGH"]}
    chat = await connect(gateway.url).generate_text(HI, extra_query={**query, **enums})

    assert gateway.request.query == {
        "q": "ä &b=",
        "n": "1",
        "x": "0.5",
        "yes": "true",
        "no": "false",
        "region": "eu",
        "level": "3",
    }
    assert chat.text == "Hi"


async def test_extra_body(caller: Caller, gateway: Gateway) -> None:
    """`extra_body` is sent as it is, nulls too, and wins over the request."""
    await caller.generate_text(
        HI, temperature=0.5, extra_body={"temperature": 9, "new_thing": {"x": None}, "top_k": None}
    )

    assert gateway.request.json == {
        **HI,
        "temperature": 9,
        "new_thing": {"x": None},
        "top_k": None,
    }


async def test_extras_of_a_stream(caller: Caller, gateway: Gateway) -> None:
    """A stream takes a call's headers, query and body as a whole answer does."""
    stream = caller.stream_text(
        HI, extra_headers={"X-A": "b"}, extra_query={"c": "d"}, extra_body={"e": "f"}
    )
    await stream.final_response()

    seen = gateway.request
    assert (seen.headers["X-A"], seen.query) == ("b", {"c": "d"})
    assert seen.json == {**HI, "stream": True, "e": "f"}


async def test_message_sent_back(caller: Caller, gateway: Gateway) -> None:
    """A message that came back goes into the next request as it is."""
    first = await caller.generate_text(HI)
    messages = [*HI["messages"], first.choices[0].message, {"role": "user", "content": "More"}]
    await caller.generate_text(model=MODEL, messages=messages)

    assert gateway.requests[1].json["messages"] == [
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "Hi"},
        {"role": "user", "content": "More"},
    ]


async def test_nothing_is_sent_on_a_fault(caller: Caller, gateway: Gateway) -> None:
    """All faults of a request are reported at once, and no connection is made."""
    with pytest.raises(aistats.RequestValidationError) as caught:
        await caller.generate_text(model="", messages="Hi", temperature=3)
    with pytest.raises(aistats.RequestValidationError):
        await caller.stream_text(model="", messages="Hi").final_response()

    assert {fault.path for fault in caught.value.faults} == {"model", "temperature"}
    assert caught.value.attempts == ()
    assert (gateway.requests, gateway.connections) == ([], 0)


async def test_stream_belongs_to_the_method(caller: Caller, gateway: Gateway) -> None:
    """A `stream` that contradicts the method is a fault that names the other method."""
    with pytest.raises(aistats.RequestValidationError, match="stream_text"):
        await caller.generate_text({**HI, "stream": True})
    with pytest.raises(aistats.RequestValidationError, match="generate_text"):
        caller.stream_text({**HI, "stream": False})

    assert gateway.requests == []


# Whole answers.


async def test_whole_answer(caller: Caller, gateway: Gateway) -> None:
    """A response has the answer's text, ids, usage, status and headers, these in any case."""
    gateway.reply(completion("Hello"), headers={"X-Served-By": "a", "x-request-id": "not this one"})

    chat = await caller.generate_text(HI)

    assert chat.text == chat.choices[0].message.content == "Hello"
    assert (chat.finish_reason, chat.usage.total_tokens) == ("stop", 15)
    assert chat.status == 200
    assert chat.headers["x-served-BY"] == "a"
    assert chat.request_id == chat.id == "G-01K3TESTCOMPLETION0000000"
    assert chat.to_dict() == completion("Hello")


@pytest.mark.parametrize(
    ("changes", "headers", "request_id"),
    [
        ({"id": "G-1"}, {"x-request-id": "x", "cf-ray": "y"}, "G-1"),
        ({"id": None}, {"x-request-id": "x", "cf-ray": "y"}, "x"),
        ({"id": None}, {"cf-ray": "y"}, "y"),
        ({"id": None}, {}, None),
    ],
)
async def test_request_id(
    caller: Caller,
    gateway: Gateway,
    changes: dict[str, Any],
    headers: dict[str, str],
    request_id: str | None,
) -> None:
    """The request's id is the body's, else one that a proxy put into the headers."""
    gateway.reply(completion(**changes), headers=headers)

    assert (await caller.generate_text(HI)).request_id == request_id


async def test_record_of_a_call(caller: Caller) -> None:
    """A response knows its attempts and where the time went."""
    chat = await caller.generate_text(HI)
    again = await caller.generate_text(HI)

    (attempt,) = chat.attempts
    assert (attempt.outcome, attempt.status) == ("answered", 200)
    assert 0 <= chat.timing.first_byte <= chat.timing.total < 5
    assert chat.timing.connect > 0
    assert again.timing.connect is None  # the connection was kept


async def test_connection_is_kept(caller: Caller, gateway: Gateway) -> None:
    """Calls one after another, whole and streamed, use one connection."""
    gateway.reply()
    gateway.stream(OPENING, delta("Once"), STOP)
    gateway.stream(OPENING, delta("Once"), STOP)
    await caller.generate_text(HI)
    await caller.stream_text(HI).final_response()
    await all_of(caller.stream_text(HI))
    await caller.generate_text(HI)

    assert [seen.connection for seen in gateway.requests] == [1, 1, 1, 1]


async def test_connection_is_kept_after_done(caller: Caller, gateway: Gateway) -> None:
    """A stream that `[DONE]` has ended gives its connection back, if the body ends then, too."""
    for _ in range(5):
        await caller.stream_text(HI).final_response()
        await auntil(lambda: gateway.requests[-1].outcome == "answered")
        await caller.generate_text(HI)

    # The end of the body may come in after the next call has gone out, so there may be two.
    assert gateway.connections <= 2


async def test_connection_is_kept_after_an_error(caller: Caller, gateway: Gateway) -> None:
    """An error answer does not cost the connection."""
    gateway.reply(error_body(), 400)
    with pytest.raises(aistats.BadRequestError):
        await caller.generate_text(HI)
    await caller.generate_text(HI)

    assert [seen.connection for seen in gateway.requests] == [1, 1]


async def test_compressed_answer(caller: Caller, gateway: Gateway) -> None:
    """A compressed body is read as what it was."""
    body = gzip.compress(json.dumps(completion("Zipped")).encode())
    gateway.reply(body, headers={"Content-Type": "application/json", "Content-Encoding": "gzip"})

    assert (await caller.generate_text(HI)).text == "Zipped"


async def test_calls_at_once(connect: Connect, gateway: Gateway) -> None:
    """Calls at once each get their own answer, over no more connections than allowed."""
    caller = connect(gateway.url, max_connections=4)
    texts: dict[int, str] = {}

    async def call(number: int) -> None:
        if number % 2:
            response = await caller.generate_text(model=MODEL, messages=f"number {number}")
        else:
            response = await caller.stream_text(
                model=MODEL, messages=f"number {number}"
            ).final_response()
        texts[number] = response.text

    async with anyio.create_task_group() as group:
        for number in range(24):
            group.start_soon(call, number)

    assert texts == {number: f"number {number}" for number in range(24)}
    assert gateway.connections <= 4


# Errors.


@pytest.mark.parametrize(
    ("status", "error_class"),
    [
        (400, aistats.BadRequestError),
        (401, aistats.AuthenticationError),
        (402, aistats.PaymentRequiredError),
        (403, aistats.PermissionDeniedError),
        (404, aistats.NotFoundError),
        (409, aistats.ConflictError),
        (413, aistats.APIStatusError),
        (418, aistats.APIStatusError),
        (422, aistats.UnprocessableEntityError),
        (429, aistats.RateLimitError),
        (500, aistats.InternalServerError),
        (501, aistats.InternalServerError),
        (502, aistats.InternalServerError),
        (503, aistats.InternalServerError),
        (529, aistats.InternalServerError),
    ],
)
async def test_error_status(
    caller: Caller, gateway: Gateway, status: int, error_class: type, ask: Ask
) -> None:
    """Each status has its class of error, which has all that the answer said."""
    body = error_body("some_code", status_code=status)
    gateway.reply(body, status, {"X-Gateway-Error-Origin": "user"})

    with pytest.raises(aistats.APIStatusError) as caught:
        await ask(caller, HI)

    error = caught.value
    assert type(error) is error_class
    assert (error.status, error.code) == (status, "some_code")
    assert error.message == "It went wrong upstream."
    assert error.request_id == "G-01K3TESTERROR000000000000"
    assert error.headers["x-gateway-error-origin"] == "user"
    assert error.body == body
    assert [attempt.status for attempt in error.attempts] == [status]


ERROR_BODIES: list[tuple[Any, str | None, str, str | None]] = [
    # body, code, a part of the message, request id
    (
        {"generation_id": "G-1", "status_code": 400, "error": "e", "description": "Because."},
        "e",
        "Because.",
        "G-1",
    ),
    (
        {"generation_id": "unknown", "error": "e", "description": "Because."},
        "e",
        "Because.",
        "from-the-header",
    ),
    (
        {"error": "validation_error", "details": [{"message": "One."}, {"message": "Two."}]},
        "validation_error",
        "Two.",
        "from-the-header",
    ),
    (
        {"error": {"message": "Bad.", "type": "t", "code": "c", "param": None}},
        "c",
        "Bad.",
        "from-the-header",
    ),
    (
        {"error": {"type": "t", "message": "Bad.", "request_id": "r", "provider": "p"}},
        "t",
        "Bad.",
        "r",
    ),
    ({"error": {"message": "Bad.", "type": "t", "code": 400}}, "400", "Bad.", "from-the-header"),
    (
        {"error": {"type": "t", "reason": "why", "message": "Bad."}},
        "t",
        "Bad.",
        "from-the-header",
    ),
    (
        {"requestId": "q", "error": "normalization_failed", "message": "Bad.", "upstreamStatus": 1},
        "normalization_failed",
        "Bad.",
        "q",
    ),
    ({"ok": False, "error": "not_found", "message": "No."}, "not_found", "No.", "from-the-header"),
    ({"ok": False, "error": "not_found", "reason": "no"}, "not_found", "n", "from-the-header"),
    ({"error": "It broke badly", "reason": "r"}, "r", "It broke badly", "from-the-header"),
    ("404 Not Found", None, "404 Not Found", "from-the-header"),
    ("<html><h1>Bad gateway</h1></html>", None, "Bad gateway", "from-the-header"),
    (["no", "object"], None, "", "from-the-header"),
    ({"error": None}, None, "", "from-the-header"),
    ({}, None, "", "from-the-header"),
    (b"", None, "", "from-the-header"),
    (b'{"error": "cut', None, "cut", "from-the-header"),
    (b"\xff\xfe\x00", None, "", "from-the-header"),
]


@pytest.mark.parametrize(("body", "code", "message", "request_id"), ERROR_BODIES)
async def test_error_body(
    caller: Caller,
    gateway: Gateway,
    body: Any,
    code: str | None,
    message: str,
    request_id: str | None,
) -> None:
    """Code, message and id are found in every form of error body that is known."""
    gateway.reply(body, 400, {"x-request-id": "from-the-header"})

    with pytest.raises(aistats.BadRequestError) as caught:
        await caller.generate_text(HI)

    error = caught.value
    assert (error.code, error.request_id) == (code, request_id)
    assert message in error.message
    assert error.message  # also where the body says nothing


@pytest.mark.parametrize(
    "body",
    [
        "<html>Please log in</html>",
        b"",
        b"null",
        [completion()],
        b'{"id": "G-1", "choices": [',
        b'"text"',
        {"error": {"message": "Bad.", "code": "c"}},
        {"object": "error", "message": "Bad."},
    ],
    ids=["html", "empty", "null", "list", "truncated", "string", "error", "error object"],
)
async def test_no_completion(caller: Caller, gateway: Gateway, body: Any, ask: Ask) -> None:
    """A good status with a body that is no completion is an error that shows the body."""
    kind = "text/html" if isinstance(body, str) else "application/json"
    gateway.reply(body, headers={"Content-Type": kind})

    with pytest.raises(aistats.APIResponseError) as caught:
        await ask(caller, HI)

    assert caught.value.status == 200
    if isinstance(body, dict):
        assert "Bad." in str(caught.value)
    elif isinstance(body, str):
        assert "log in" in caught.value.body


async def test_error_with_a_good_status(caller: Caller, gateway: Gateway, ask: Ask) -> None:
    """An error whose status stands in its body alone is the error of that status."""
    gateway.reply(error_body("some_code", status_code=402))

    with pytest.raises(aistats.PaymentRequiredError) as caught:
        await ask(caller, HI)

    assert (caught.value.code, caught.value.request_id) == (
        "some_code",
        "G-01K3TESTERROR000000000000",
    )


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_redirect(
    caller: Caller, gateway: Gateway, other_gateway: Gateway, status: int, ask: Ask
) -> None:
    """A redirect is an error that names where it points to; the key is not sent there."""
    target = other_gateway.url + "/elsewhere"
    gateway.reply(b"", status, {"Location": target})

    with pytest.raises(aistats.APIStatusError) as caught:
        await ask(caller, HI)

    assert caught.value.status == status
    assert target in str(caught.value)
    assert (other_gateway.connections, len(gateway.requests)) == (0, 1)


async def test_nobody_listens(connect: Connect, free_tcp_port: int, ask: Ask) -> None:
    """A refused connection is a connection error that names the host."""
    caller = connect(f"http://127.0.0.1:{free_tcp_port}/v1")

    with pytest.raises(aistats.APIConnectionError, match=r"127\.0\.0\.1") as caught:
        await ask(caller, HI)

    assert not isinstance(caught.value, TimeoutError)
    assert (caught.value.status, caught.value.request_id) == (None, None)
    assert [attempt.outcome for attempt in caught.value.attempts] == ["unsent"]


async def test_another_aiohttp(
    connect: Connect, gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With an aiohttp that is not known, all goes through its session, and comes out the same."""
    monkeypatch.setattr(_transport, "_KNOWS_AIOHTTP", False)
    caller = connect(gateway.url, timeout=aistats.Timeout(idle=0.6))
    assert (await caller.generate_text(HI, timeout=20)).text == "Hi"
    gateway.stream(OPENING, delta("Hi"), Gate(), STOP, DONE)
    with pytest.raises(aistats.APITimeoutError) as in_stream:
        await caller.stream_text(HI).final_response()
    gateway.reply(before=Gate())
    with pytest.raises(aistats.APITimeoutError) as before_answer:
        await caller.generate_text(HI)
    gateway.reply(before=Gate())
    with pytest.raises(aistats.APITimeoutError) as in_all:
        await caller.generate_text(HI, timeout=0.6)

    limits = [caught.value.limit for caught in (in_stream, before_answer, in_all)]
    assert limits == ["idle", "idle", "total"]
    assert in_stream.value.partial.text == "Hi"
    assert before_answer.value.attempts[0].outcome == "ambiguous"


@pytest.mark.parametrize("size", [1, 31_000, 33_000, 900_000, 1_100_000, 3_000_000])
async def test_size_of_a_request(connect: Connect, raw_server: RawServer, size: int) -> None:
    """A request of any size arrives whole, and nothing warns of its size."""
    body = json.dumps(completion("Hi")).encode()
    raw_server.script(READ, head(Content_Type="application/json", Content_Length=len(body)), body)
    prompt = "é" * size
    response = await connect(raw_server.url).generate_text({**HI, "messages": prompt})

    assert response.text == "Hi"
    sent = raw_server.connections[0].received.partition(b"\r\n\r\n")[2]
    assert json.loads(sent)["messages"][0]["content"] == prompt


async def test_names_of_headers(connect: Connect, raw_server: RawServer) -> None:
    """A header of the user's replaces the client's own, whatever the case of its name."""
    body = json.dumps(completion("Hi")).encode()
    answer = head(Content_Type="application/json", Content_Length=len(body)) + body
    raw_server.script(READ, answer)
    mine = {"host": "here.example", "USER-agent": "me", "content-TYPE": "application/json; x=1"}
    caller = connect(raw_server.url, default_headers=mine)
    await caller.generate_text(HI, extra_headers={"ACCEPT": "text/plain"})

    lines = raw_server.connections[0].received.partition(b"\r\n\r\n")[0].lower().split(b"\r\n")
    sent = dict(line.split(b": ", 1) for line in lines[1:])
    assert len(sent) == len(lines) - 1
    assert sent[b"host"] == b"here.example"
    assert sent[b"user-agent"] == b"me"
    assert sent[b"content-type"] == b"application/json; x=1"
    assert sent[b"accept"] == b"text/plain"
    raw_server.script(READ, head("400 No", Content_Length=0))
    with pytest.raises(aistats.APIStatusError) as caught:
        await connect(raw_server.url, default_headers=mine).generate_text(HI)
    assert caught.value.as_curl().lower().count("user-agent: ") == 1


@pytest.mark.parametrize("session", [None, aiohttp.ClientSession], ids=["own", "session"])
async def test_answer_before_the_request_is_out(
    connect: Connect, raw_server: RawServer, session: Callable[[], aiohttp.ClientSession] | None
) -> None:
    """Who reads slowly while a long request goes out yet has not waited for anything."""
    begun, gate, sent = Gate(), Gate(), Gate()
    stream = head(Content_Type="text/event-stream", Transfer_Encoding="chunked")
    raw_server.script(
        begun, stream + chunked(OPENING, end=False), gate, READ, sent, chunked(delta("Hi"), STOP)
    )
    caller = connect(raw_server.url, timeout=aistats.Timeout(idle=0.6), session=session)
    items = caller.stream_text({**HI, "messages": "x" * 15_000_000}).__aiter__()
    async with anyio.create_task_group() as group:
        group.start_soon(items.__anext__)
        await auntil(begun.reached.is_set)
        begun.open()
    gate.open()
    await auntil(sent.reached.is_set)
    await anyio.sleep(0.9)  # nothing outside shows that the limit would have run out
    sent.open()

    assert [chunk.text async for chunk in items] == ["Hi", ""]


@pytest.mark.parametrize(
    "steps",
    [
        [READ],
        [READ, RESET],
        [READ, b"HTTP/1.1 20"],
        [READ, head(Content_Length=100, Content_Type="application/json"), b'{"id":'],
        [READ, head(Transfer_Encoding="chunked"), chunked(b'{"id":', end=False)],
    ],
    ids=["silent", "reset", "half a head", "short body", "short chunked body"],
)
async def test_lost_answer(connect: Connect, raw_server: RawServer, steps: list[Any]) -> None:
    """A connection that is lost before the answer is whole is a connection error."""
    raw_server.script(*steps)

    with pytest.raises(aistats.APIConnectionError) as caught:
        await connect(raw_server.url).generate_text(HI)

    assert not isinstance(caught.value, TimeoutError)


async def test_no_http(connect: Connect, raw_server: RawServer) -> None:
    """An answer from a server of another kind is an error that says so."""
    raw_server.script(READ, b"SSH-2.0-OpenSSH_9.2\r\n")

    with pytest.raises(aistats.APIResponseError, match="HTTP"):
        await connect(raw_server.url).generate_text(HI)


# Retries.


async def test_retried(connect: Connect, gateway: Gateway) -> None:
    """An answer that asks to come back later is asked again, with the same bytes."""
    gateway.reply(error_body("busy"), 429, {"Retry-After": "0"})
    gateway.reply(error_body("busy"), 503, {"Retry-After": "0"})

    chat = await connect(gateway.url, max_retries=2).generate_text(HI)

    assert chat.text == "Hi"
    assert [attempt.status for attempt in chat.attempts] == [429, 503, 200]
    assert len({seen.body for seen in gateway.requests}) == 1


async def test_stream_retried(connect: Connect, gateway: Gateway) -> None:
    """A stream that has not begun is tried again as well."""
    gateway.reply(error_body("busy"), 429, {"Retry-After": "0"})

    chat = await connect(gateway.url, max_retries=2).stream_text(HI).final_response()

    assert (chat.text, len(chat.attempts), len(gateway.requests)) == ("Hi", 2, 2)


async def test_retries_of_a_call(connect: Connect, gateway: Gateway) -> None:
    """A call's `max_retries` wins over the client's, zero too; the error has the wait."""
    gateway.reply(error_body("busy"), 429, {"Retry-After": "7"})
    gateway.reply(error_body("busy"), 429, {"Retry-After": "0"})

    with pytest.raises(aistats.RateLimitError) as caught:
        await connect(gateway.url, max_retries=2).generate_text(HI, max_retries=0)
    await connect(gateway.url, max_retries=0).generate_text(HI, max_retries=1)

    assert caught.value.retry_after == 7
    assert len(gateway.requests) == 3


async def test_retries_run_out(connect: Connect, gateway: Gateway) -> None:
    """The last error is raised when no retry is left."""
    for number in range(3):
        gateway.reply(error_body(f"busy_{number}"), 503, {"Retry-After": "0"})

    with pytest.raises(aistats.InternalServerError) as caught:
        await connect(gateway.url, max_retries=2).generate_text(HI)

    assert caught.value.code == "busy_2"
    assert [attempt.status for attempt in caught.value.attempts] == [503, 503, 503]


@pytest.mark.parametrize(
    ("status", "code"),
    [(400, "validation_error"), (401, "unauthorised"), (429, "key_limit_exceeded")],
)
async def test_not_retried(connect: Connect, gateway: Gateway, status: int, code: str) -> None:
    """What would fail again is not tried again."""
    gateway.reply(error_body(code), status)

    with pytest.raises(aistats.APIStatusError):
        await connect(gateway.url, max_retries=2).generate_text(HI)

    assert len(gateway.requests) == 1


# Streams.


async def test_stream_chunks(caller: Caller, gateway: Gateway) -> None:
    """Chunks come typed and in order, and each is its SSE line when printed."""
    lines = story("Once", " upon")
    gateway.stream(*lines)

    chunks = await all_of(caller.stream_text(HI))

    assert [chunk.text for chunk in chunks] == ["", "Once", " upon", "", ""]
    assert [str(chunk) for chunk in chunks] == [line.decode().strip() for line in lines[:-1]]
    assert chunks[1].choices[0].delta.content == "Once"
    assert all(isinstance(chunk, aistats.ChatCompletionChunk) for chunk in chunks)


async def test_stream_lines(caller: Caller, gateway: Gateway) -> None:
    """`lines()` gives every SSE line as it came, the terminator too."""
    gateway.stream(*story("Once"))

    lines = await all_of(caller.stream_text(HI).lines())

    assert lines == [line.decode().strip() for line in story("Once")]


async def test_stream_text_deltas(caller: Caller, gateway: Gateway) -> None:
    """`text_deltas()` gives the new text alone."""
    gateway.stream(*story("Once", " upon"))

    assert await all_of(caller.stream_text(HI).text_deltas()) == ["Once", " upon"]


async def test_chunk_arrives_at_once(caller: Caller, gateway: Gateway) -> None:
    """A chunk is handed out as soon as it is there, while the stream goes on."""
    gate = Gate()
    gateway.stream(OPENING, delta("Once"), gate, delta(" upon"), STOP, DONE)

    stream = caller.stream_text(HI).text_deltas()
    assert await stream.__anext__() == "Once"
    assert not gate.passage.done()
    gate.open()
    assert await all_of(stream) == [" upon"]


async def test_final_response(caller: Caller, gateway: Gateway) -> None:
    """`final_response()` reads the whole stream where nobody has read it."""
    gateway.stream(*story("Once", " upon"))

    stream = caller.stream_text(HI)
    chat = await stream.final_response()

    assert isinstance(chat, aistats.ChatCompletionsResponse)
    assert (chat.text, chat.finish_reason, chat.usage.total_tokens) == ("Once upon", "stop", 15)
    assert chat.choices[0].message.content == "Once upon"
    assert (chat.request_id, chat.status) == ("G-01K3TESTSTREAM00000000000", 200)
    assert await all_of(stream) == []
    assert (await stream.final_response()).text == "Once upon"


async def test_final_response_in_the_middle(caller: Caller, gateway: Gateway) -> None:
    """`final_response()` in the middle of a loop is the whole; the loop then ends."""
    gateway.stream(*story("Once", " upon", " a time"))

    stream = caller.stream_text(HI)
    texts = []
    async for piece in stream:
        texts.append(piece.text)
        if piece.text == "Once":
            assert (await stream.final_response()).text == "Once upon a time"

    assert texts == ["", "Once"]


async def test_final_response_after_the_loop(caller: Caller, gateway: Gateway) -> None:
    """`final_response()` after a loop has what the loop read, and asks the gateway nothing."""
    stream = caller.stream_text(HI)
    await all_of(stream)

    assert (await stream.final_response()).text == "Hi"
    assert len(gateway.requests) == 1


async def test_stream_head(caller: Caller, gateway: Gateway) -> None:
    """A stream that has begun knows its answer's status, headers and id."""
    gateway.stream(*story("Once"), headers={"X-Served-By": "a"})

    async with caller.stream_text(HI) as stream:
        await stream.__aiter__().__anext__()
        assert (stream.status, stream.headers["x-served-by"]) == (200, "a")
        assert stream.request_id == "G-01K3TESTSTREAM00000000000"


async def test_stream_goes_out_on_first_use(caller: Caller, gateway: Gateway) -> None:
    """`stream_text` itself sends nothing; a stream that nobody uses never does."""
    unused = caller.stream_text(HI)
    first = caller.stream_text(HI)
    await first.final_response()

    assert len(gateway.requests) == 1
    await unused.aclose()
    assert len(gateway.requests) == 1


async def test_early_break_closes_the_connection(caller: Caller, gateway: Gateway) -> None:
    """A loop that is left early closes the connection, so that the gateway stops."""
    gateway.stream(OPENING, delta("Once"), Gate())

    async for piece in caller.stream_text(HI):
        if piece.text:
            break

    await auntil(lambda: gateway.request.disconnected)


@pytest.mark.parametrize("view", ["lines", "text_deltas"])
async def test_early_break_from_a_view(caller: Caller, gateway: Gateway, view: str) -> None:
    """So does a loop over the lines or the text alone."""
    gateway.stream(OPENING, delta("Once"), Gate())

    async for _ in getattr(caller.stream_text(HI), view)():
        break

    await auntil(lambda: gateway.request.disconnected)


async def test_context_manager_closes_the_connection(caller: Caller, gateway: Gateway) -> None:
    """Leaving `async with` closes the connection, and what was raised inside is raised."""
    gateway.stream(OPENING, delta("Once"), Gate())

    stream = caller.stream_text(HI)

    async def leave() -> None:
        async with stream:
            async for piece in stream:
                if piece.text:
                    raise KeyError

    with pytest.raises(KeyError):
        await leave()

    await auntil(lambda: gateway.request.disconnected)
    with pytest.raises(aistats.AIStatsError):
        await stream.__aiter__().__anext__()


async def test_close_in_the_middle(caller: Caller, gateway: Gateway) -> None:
    """Reading on after an early close raises, so that a cut text never looks whole."""
    gateway.stream(OPENING, delta("Once"), Gate())
    stream = caller.stream_text(HI)
    await stream.__aiter__().__anext__()

    await stream.aclose()
    await stream.aclose()

    with pytest.raises(aistats.AIStatsError, match="closed"):
        await stream.__aiter__().__anext__()
    with pytest.raises(aistats.AIStatsError, match="closed"):
        await stream.final_response()


async def test_close_after_the_end(caller: Caller) -> None:
    """A stream that was read to its end keeps its answer when it is closed."""
    async with caller.stream_text(HI) as stream:
        await all_of(stream)

    assert await all_of(stream) == []
    assert (await stream.final_response()).text == "Hi"


async def test_two_readers(connect: Connect, gateway: Gateway) -> None:
    """A second reader at the same time is told so; the first goes on undisturbed."""
    gate = Gate()
    gateway.stream(OPENING, gate, delta("Once"), STOP, DONE)
    stream = connect(gateway.url).stream_text(HI)
    reader = stream.__aiter__()
    await reader.__anext__()
    texts: list[str] = []

    async def read() -> None:
        texts.extend([piece.text async for piece in reader])

    async with anyio.create_task_group() as group:
        group.start_soon(read)
        await auntil(gate.reached.is_set)
        await anyio.wait_all_tasks_blocked()
        with pytest.raises(aistats.StreamError, match="one reader"):
            await stream.final_response()
        gate.open()

    assert texts == ["Once", ""]


async def test_done_ends_the_stream(caller: Caller, gateway: Gateway) -> None:
    """After `[DONE]` the stream is over, whether or not the server ends the body."""
    gateway.stream(*story("Once"), Gate())

    with anyio.fail_after(2):
        assert await all_of(caller.stream_text(HI).text_deltas()) == ["Once"]
    await auntil(lambda: gateway.request.disconnected)


async def test_json_in_answer_to_a_stream(caller: Caller, gateway: Gateway) -> None:
    """A whole completion in answer to `stream: true` is read as a stream of it."""
    gateway.reply(completion("All at once"))
    gateway.reply(completion("All at once"))

    assert await all_of(caller.stream_text(HI).text_deltas()) == ["All at once"]
    chat = await caller.stream_text(HI).final_response()
    assert chat.to_dict() == completion("All at once")


@pytest.mark.parametrize(
    ("frame", "code"),
    [
        ({"object": "error", "message": "Overloaded."}, None),
        ({"error": {"message": "Overloaded.", "type": "t", "code": "c"}, "id": "G-2"}, "c"),
        ({"error": {"message": "Overloaded.", "code": 529}}, "529"),
        ({"error": "Overloaded.", "id": "G-2"}, None),
        ({"type": "error", "error": {"type": "t", "message": "Overloaded."}}, "t"),
    ],
)
async def test_error_in_a_stream(
    caller: Caller, gateway: Gateway, frame: dict[str, Any], code: str | None
) -> None:
    """An error frame is raised after the chunks before it, with what had arrived."""
    gateway.stream(OPENING, delta("Once"), sse(frame), DONE)

    texts = []
    with pytest.raises(aistats.StreamErrorEvent) as caught:
        await collect(caller.stream_text(HI).text_deltas(), texts.append)

    error = caught.value
    assert texts == ["Once"]
    assert "Overloaded." in error.message
    if code is not None:
        assert error.code == code
    assert error.partial.text == "Once"
    assert error.status == 200
    assert error.request_id == "G-01K3TESTSTREAM00000000000"


@pytest.mark.parametrize("ending", [None, CLOSE, RESET], ids=["ended", "closed", "reset"])
async def test_cut_stream(caller: Caller, gateway: Gateway, ending: Ending | None) -> None:
    """A stream that ends before it is complete raises, with what had arrived."""
    gate = Gate()
    gateway.stream(OPENING, delta("Once"), gate, *([ending] if ending else []))
    stream = caller.stream_text(HI)

    texts = []

    def take(text: str) -> None:
        texts.append(text)
        gate.open()

    with pytest.raises(aistats.StreamInterruptedError) as caught:
        await collect(stream.text_deltas(), take)

    error = caught.value
    assert texts == ["Once"]
    assert (error.partial.text, error.partial.finish_reason) == ("Once", None)
    assert error.request_id == "G-01K3TESTSTREAM00000000000"
    assert [attempt.status for attempt in error.attempts] == [200]
    with pytest.raises(aistats.StreamError) as again:  # reading on never looks like an end
        await stream.final_response()
    assert again.value is not error
    assert again.value.partial.text == "Once"


@pytest.mark.parametrize("ending", [CLOSE, RESET], ids=["closed", "reset"])
async def test_cut_stream_of_a_slow_reader(
    caller: Caller, gateway: Gateway, ending: Ending
) -> None:
    """What had arrived before the connection was lost is handed out, however late it is read."""
    arrived = [str(number) for number in range(50)]
    cut = Gate()
    gateway.stream(OPENING, *map(delta, arrived), cut, ending)
    stream = caller.stream_text(HI)
    await stream.__aiter__().__anext__()
    await auntil(cut.reached.is_set)
    await anyio.sleep(0.02)  # the client's buffer has it all; nothing outside shows that
    cut.open()
    await auntil(lambda: gateway.request.disconnected)
    await anyio.sleep(0.02)  # and its event loop has seen the end

    texts: list[str] = []
    with pytest.raises(aistats.StreamInterruptedError) as caught:
        await collect(stream.text_deltas(), texts.append)

    assert texts == arrived
    assert caught.value.partial.text == "".join(arrived)


async def test_cut_stream_is_not_retried(connect: Connect, gateway: Gateway) -> None:
    """A stream that broke after its first chunk is not sent again."""
    gateway.stream(OPENING, delta("Once"), CLOSE)

    with pytest.raises(aistats.StreamInterruptedError):
        await connect(gateway.url, max_retries=2).stream_text(HI).final_response()

    assert len(gateway.requests) == 1


async def test_break_after_the_finish(caller: Caller, gateway: Gateway) -> None:
    """A connection lost after the finish reason leaves a complete text."""
    gateway.stream(OPENING, delta("Once"), STOP, CLOSE)

    chat = await caller.stream_text(HI).final_response()

    assert (chat.text, chat.finish_reason) == ("Once", "stop")


async def test_stream_without_all_of(caller: Caller, gateway: Gateway) -> None:
    """An event stream without one frame is interrupted, not an empty answer."""
    for _ in range(3):
        gateway.stream()

    with pytest.raises(aistats.APIConnectionError, match="before any of the answer"):
        await caller.stream_text(HI).final_response()


# Limits of time.


async def test_total_limit(connect: Connect, gateway: Gateway, ask: Ask) -> None:
    """A call that outlasts its deadline is a time-out that names it; the server is let go."""
    gate = Gate()
    gateway.reply(before=gate)
    caller = connect(gateway.url, timeout=aistats.Timeout(total=0.2))

    with pytest.raises(aistats.APITimeoutError, match="total") as caught:
        await ask(caller, HI)

    assert isinstance(caught.value, TimeoutError)
    assert (caught.value.limit, caught.value.after) == ("total", 0.2)
    await auntil(lambda: gateway.request.disconnected)


async def test_number_is_the_total(caller: Caller, gateway: Gateway) -> None:
    """A bare number is the total, and a call's wins over the client's."""
    gateway.reply(before=Gate())

    with pytest.raises(aistats.APITimeoutError) as caught:
        await caller.generate_text(HI, timeout=0.2)

    assert (caught.value.limit, caught.value.after) == ("total", 0.2)


async def test_total_limit_of_a_stream(connect: Connect, gateway: Gateway) -> None:
    """The deadline holds for a stream that keeps bringing chunks, and what arrived is kept."""
    piece = delta(".")
    gateway.stream(OPENING, delta("Once"), Drip(piece * 1000, size=len(piece), pause=0.01))
    caller = connect(gateway.url)

    with anyio.fail_after(3), pytest.raises(aistats.APITimeoutError) as caught:
        await all_of(caller.stream_text(HI, timeout=aistats.Timeout(idle=5, total=0.3)))

    assert caught.value.limit == "total"
    assert caught.value.partial.text.startswith("Once.")
    await auntil(lambda: gateway.request.disconnected)


async def test_total_limit_of_retries(connect: Connect, gateway: Gateway) -> None:
    """Waiting for a retry counts, too: no wait begins that would outlast the deadline."""
    gateway.reply(error_body("busy"), 503, {"Retry-After": "20"})

    with anyio.fail_after(3), pytest.raises(aistats.AIStatsError) as caught:
        await connect(gateway.url, max_retries=2).generate_text(HI, timeout=0.5)

    assert [attempt.status for attempt in caught.value.attempts] == [503]


async def test_idle_limit(connect: Connect, gateway: Gateway) -> None:
    """A stream that falls silent is a time-out that names the limit and keeps what arrived."""
    gateway.stream(OPENING, delta("Once"), Gate())
    caller = connect(gateway.url, timeout=aistats.Timeout(idle=0.2))

    with pytest.raises(aistats.APITimeoutError, match="idle") as caught:
        await all_of(caller.stream_text(HI))

    assert (caught.value.limit, caught.value.after) == ("idle", 0.2)
    assert caught.value.partial.text == "Once"
    await auntil(lambda: gateway.request.disconnected)


async def test_idle_limit_of_a_whole_answer(connect: Connect, raw_server: RawServer) -> None:
    """A body that stops coming is a time-out as well."""
    raw_server.script(
        READ, head(Content_Type="application/json", Content_Length=100), b'{"id":', Gate()
    )
    caller = connect(raw_server.url, timeout=aistats.Timeout(idle=0.2))

    with pytest.raises(aistats.APITimeoutError) as caught:
        await caller.generate_text(HI)

    assert caught.value.limit == "idle"


async def test_comments_are_silence(connect: Connect, gateway: Gateway) -> None:
    """Comments don't keep a stream alive."""
    comments = b": still here\n\n" * 300
    gateway.stream(OPENING, delta("Once"), Drip(comments, size=14, pause=0.01), STOP, DONE)
    caller = connect(gateway.url, timeout=aistats.Timeout(idle=0.3))

    with anyio.fail_after(2), pytest.raises(aistats.APITimeoutError) as caught:
        await all_of(caller.stream_text(HI))

    assert caught.value.limit == "idle"


async def test_events_are_no_silence(connect: Connect, gateway: Gateway) -> None:
    """A stream whose events keep coming may last longer than the limit of silence."""
    piece = delta(".")
    gateway.stream(OPENING, Drip(piece * 40, size=len(piece), pause=0.02), STOP, DONE)
    caller = connect(gateway.url, timeout=aistats.Timeout(idle=0.5))

    assert (await caller.stream_text(HI).final_response()).text == "." * 40


async def test_reader_may_take_its_time(connect: Connect, gateway: Gateway) -> None:
    """The time that a reader spends between two chunks is not the server's silence."""
    gateway.stream(*story("Once", " upon"))
    caller = connect(gateway.url, timeout=aistats.Timeout(idle=0.1))

    texts = []
    async for piece in caller.stream_text(HI):
        await anyio.sleep(0.05)
        texts.append(piece.text)

    assert "".join(texts) == "Once upon"


async def test_connect_limit(connect: Connect, ask: Ask) -> None:
    """A connection that does not come about is a time-out that names the limit."""
    with full_house() as url:
        caller = connect(url, timeout=aistats.Timeout(connect=0.2))
        with pytest.raises(aistats.APITimeoutError, match="connect") as caught:
            await ask(caller, HI)

    assert (caught.value.limit, caught.value.after) == ("connect", 0.2)


# Configuration.


async def test_closed_client(caller: Caller, gateway: Gateway) -> None:
    """A client that was closed says so; closing it twice is fine."""
    await caller.generate_text(HI)
    await caller.aclose()
    await caller.aclose()

    with pytest.raises(aistats.ConfigurationError, match="closed"):
        await caller.generate_text(HI)
    with pytest.raises(aistats.ConfigurationError, match="closed"):
        await all_of(caller.stream_text(HI))
    await auntil(lambda: not gateway.open_connections)


async def test_client_closed_under_a_stream(caller: Caller, gateway: Gateway) -> None:
    """Closing the client ends its open streams with the package's own error."""
    gateway.stream(OPENING, delta("Once"), Gate())
    stream = caller.stream_text(HI)
    await stream.__aiter__().__anext__()

    await caller.aclose()

    await auntil(lambda: gateway.request.disconnected)
    with pytest.raises(aistats.AIStatsError):
        await stream.final_response()


async def test_missing_key(connect: Connect, gateway: Gateway) -> None:
    """Without a key the message says how to give one."""
    with pytest.raises(aistats.ConfigurationError, match="AI_STATS_API_KEY"):
        await connect(gateway.url, api_key=None).generate_text(HI)


@pytest.mark.parametrize(
    "base_url", ["ftp://127.0.0.1/v1", "127.0.0.1:80/v1", "/v1", "http://", "http://[::1/v1", 80]
)
async def test_bad_base_url(connect: Connect, base_url: str) -> None:
    """A base URL that is none is refused by name."""
    with pytest.raises(aistats.ConfigurationError):
        await connect(base_url).generate_text(HI)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"session": "x"}, "session must be an aiohttp.ClientSession, a function .*; not str"),
        ({"ssl_context": False}, "not False. Certificates are always checked; .* give a context"),
        ({"ssl_context": True}, "ssl_context must be an ssl.SSLContext"),
        ({"ssl_context": "ca.pem"}, "ssl_context must be an ssl.SSLContext"),
        ({"max_retries": 1.5}, "max_retries must be a whole number of 0 or more; not 1.5"),
        ({"max_retries": "2"}, "max_retries must be a whole number of 0 or more; not '2'"),
        ({"timeout": "5"}, "timeout must be a Timeout, a number of seconds .* not '5'"),
        ({"timeout": aiohttp.ClientTimeout(5)}, "timeout must be a Timeout"),
    ],
)
async def test_wrong_settings(
    connect: Connect, gateway: Gateway, options: dict[str, Any], expected: str
) -> None:
    """What a client can't be made with is refused with it, by name."""
    with pytest.raises(aistats.ConfigurationError, match=expected):
        connect(gateway.url, **options)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"max_retries": 1.5}, "max_retries must be a whole number"),
        ({"timeout": "5"}, "timeout must be a Timeout"),
    ],
)
async def test_wrong_options(caller: Caller, options: dict[str, Any], expected: str) -> None:
    """What a call can't be made with is refused by name."""
    with pytest.raises(aistats.ConfigurationError, match=expected):
        await caller.generate_text(HI, **options)


@pytest.mark.parametrize("bad", ["a\r\nX-Evil: 1", "a\nb", "a\x00b"])
async def test_line_breaks_are_refused(connect: Connect, gateway: Gateway, bad: str) -> None:
    """A key or header that would break the request's lines is refused, and nothing is sent."""
    with pytest.raises(aistats.ConfigurationError) as caught:
        await connect(gateway.url, api_key=bad).generate_text(HI)
    assert bad not in str(caught.value)
    with pytest.raises(aistats.ConfigurationError):
        await connect(gateway.url, default_headers={"X-A": bad}).generate_text(HI)
    with pytest.raises((aistats.ConfigurationError, aistats.RequestValidationError)):
        await connect(gateway.url).generate_text(HI, extra_headers={"X-A": bad})

    assert gateway.requests == []


async def test_session_of_the_user(gateway: Gateway) -> None:
    """The user's own session is used, and stays open when the client is closed."""
    async with aiohttp.ClientSession(headers={"X-Of-The-Session": "yes"}) as session:
        async with aistats.AsyncClient(KEY, gateway.url, session=session) as client:
            await client.generate_text(HI)
        assert not session.closed
        async with aistats.AsyncClient(KEY, gateway.url, session=session) as client:
            assert (await client.stream_text(HI).final_response()).text == "Hi"

    assert [seen.connection for seen in gateway.requests] == [1, 1]
    assert gateway.requests[0].headers["X-Of-The-Session"] == "yes"
    assert gateway.requests[0].headers["Authorization"] == f"Bearer {KEY}"


async def test_session_and_certificates(gateway: Gateway) -> None:
    """Certificates that a session would not look at are refused."""
    context = ssl.create_default_context()
    async with aiohttp.ClientSession() as session:
        with pytest.raises(aistats.ConfigurationError, match="ssl_context is for the client's own"):
            aistats.AsyncClient(KEY, gateway.url, session=session, ssl_context=context)


@pytest.mark.parametrize(
    "query",
    [
        "a=b",
        ["a"],
        {1: "b"},
        {"a": None},
        {"a": ["b", "c"]},
        {"a": {"b": "c"}},
        {"a": float("nan")},
        {"a": float("inf")},
        {"a": 10**400},
        {"a": "\ud800"},
        {"\ud800": "a"},
        {"a": b"b"},
        {"a": 1j},
    ],
    ids=lambda query: repr(query)[:40],
)
async def test_wrong_query(caller: Caller, gateway: Gateway, query: Any) -> None:
    """What can't be put into the URL as it stands is a fault by name, and nothing is sent."""
    with pytest.raises(aistats.RequestValidationError, match="extra_query"):
        await caller.generate_text(HI, extra_query=query)

    assert gateway.requests == []


async def test_session_that_raises(gateway: Gateway) -> None:
    """A session that raises for bad statuses of its own gives our errors, and our retries."""
    gateway.reply({"error": "busy"}, 503, {"retry-after-ms": "1"})
    gateway.reply()
    gateway.reply({"error": "rate_limited"}, 429, {"Retry-After": "3600"})
    async with (
        aiohttp.ClientSession(raise_for_status=True) as session,
        aistats.AsyncClient(KEY, gateway.url, session=session) as client,
    ):
        answer = await client.generate_text(HI)
        with pytest.raises(aistats.RateLimitError, match="left alone for 3600 s"):
            await client.generate_text(HI)

    assert [attempt.status for attempt in answer.attempts] == [503, 200]


async def test_stream_on_a_session_of_the_user(gateway: Gateway) -> None:
    """Closing the client ends its streams on the user's session, too; the session goes on."""
    gateway.stream(OPENING, delta("Once"), Gate())
    async with aiohttp.ClientSession() as session:
        async with aistats.AsyncClient(KEY, gateway.url, session=session) as client:
            stream = client.stream_text(HI)
            await stream.__anext__()

        await auntil(lambda: gateway.requests[0].disconnected)
        async with aistats.AsyncClient(KEY, gateway.url, session=session) as client:
            assert (await client.generate_text(HI)).text == "Hi"


async def test_cancelled_call(gateway: Gateway) -> None:
    """A call that is cancelled lets go of its connection; the client goes on."""
    gateway.reply(before=Gate())
    async with aistats.AsyncClient(KEY, gateway.url) as client:
        task = asyncio.create_task(client.generate_text(HI))
        await auntil(lambda: gateway.requests)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

        await auntil(lambda: gateway.requests[0].disconnected)
        assert (await client.generate_text(HI)).text == "Hi"


async def test_cancelled_read(gateway: Gateway) -> None:
    """A read that is cancelled closes its stream, so that the gateway stops."""
    gate = Gate()
    gateway.stream(OPENING, delta("Once"), gate)
    async with aistats.AsyncClient(KEY, gateway.url) as client:
        stream = client.stream_text(HI)
        task = asyncio.create_task(all_of(stream))
        await auntil(gate.reached.is_set)
        await anyio.wait_all_tasks_blocked()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

        await auntil(lambda: gateway.request.disconnected)
        with pytest.raises(aistats.AIStatsError):
            await stream.final_response()


# The key.


TESTS = str(pathlib.Path(__file__).parent)


def leaks(error: BaseException) -> list[str]:
    """
    Where *error* shows the key: in its text, or in a local variable of a frame in its traceback.
    """
    found = []
    pending = [traceback.TracebackException.from_exception(error, capture_locals=True)]
    while pending:
        each = pending.pop()
        if KEY in str(each):
            found.append(str(each))
        # The user's own frames hold the key if it was passed as an argument; nobody else's may.
        for frame in [frame for frame in each.stack if not frame.filename.startswith(TESTS)]:
            for name, value in (frame.locals or {}).items():
                if KEY in value:
                    found.append(f"{frame.filename}:{frame.lineno} {frame.name}: {name}")
        pending += [other for other in (each.__cause__, each.__context__) if other is not None]
    found += [text for text in (repr(error), repr(vars(error))) if KEY in text]
    return found


FAILURES: dict[str, Callable[[Gateway], object]] = {
    "status": lambda gateway: gateway.reply(error_body(), 500),
    "unauthorised": lambda gateway: gateway.reply(error_body("unauthorised"), 401),
    "redirect": lambda gateway: gateway.reply(b"", 307, {"Location": "http://127.0.0.1:1/"}),
    "no JSON": lambda gateway: gateway.reply("<html>"),
    "cut": lambda gateway: gateway.stream(OPENING, delta("Once"), CLOSE),
    "reset": lambda gateway: gateway.stream(OPENING, delta("Once"), RESET),
    "ended": lambda gateway: gateway.stream(OPENING, delta("Once")),
    "error frame": lambda gateway: gateway.stream(sse({"object": "error"})),
    "idle": lambda gateway: gateway.stream(OPENING, Gate()),
    "total": lambda gateway: gateway.reply(before=Gate()),
    "disconnected": lambda gateway: gateway.stream(RESET),
}


@pytest.mark.parametrize(
    "failure", [*FAILURES, "refused", "connect", "invalid", "header", "closed"]
)
async def test_no_error_shows_the_key(
    connect: Connect,
    gateway: Gateway,
    free_tcp_port: int,
    failure: str,
    ask: Ask,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """No error shows the key in its text, attributes or traceback's locals, nor does a log."""
    for name in ("aistats", "asyncio", "aiohttp"):
        caplog.set_level(logging.DEBUG, logger=name)
    limits = aistats.Timeout(connect=0.1, idle=0.1, total=5 if failure != "total" else 0.1)
    request: dict[str, Any] = {**HI, "temperature": 9} if failure == "invalid" else HI
    options: dict[str, Any] = {"extra_headers": {"X-A": "\n"}} if failure == "header" else {}

    with full_house() as nobody:
        urls = {"refused": f"http://127.0.0.1:{free_tcp_port}", "connect": nobody}
        if failure in FAILURES:
            FAILURES[failure](gateway)
        caller = connect(urls.get(failure, gateway.url), timeout=limits)
        if failure == "closed":
            await caller.aclose()
        with pytest.raises(aistats.AIStatsError) as caught:
            await ask(caller, request, **options)

    assert leaks(caught.value) == []
    assert KEY not in caplog.text
    assert KEY not in (caught.value.as_curl() or "")


@pytest.mark.parametrize(
    "options",
    [
        *({"base_url": "ftp://x"}, {"timeout": -1}, {"max_retries": "x"}, {"api_key": f"{KEY}\n"}),
        *({"session": "x"}, {"ssl_context": False}, {"api_key": KEY.encode()}, {"api_key": [KEY]}),
        {"api_key": f"{KEY}\u2019"},
    ],
)
@pytest.mark.parametrize("api_key", [KEY, None], ids=["argument", "environment"])
async def test_no_client_shows_the_key(
    connect: Connect,
    gateway: Gateway,
    api_key: str | None,
    options: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Neither a client that could not be made nor one that could shows the key, nor its stream."""
    monkeypatch.setenv("AI_STATS_API_KEY", KEY)
    with pytest.raises(aistats.ConfigurationError) as caught:
        connect(**{"base_url": gateway.url, "api_key": api_key, **options})
    assert leaks(caught.value) == []

    caller = connect(gateway.url, api_key=api_key)
    stream = caller.stream_text(HI)
    for thing in (caller.client, stream, await caller.generate_text(HI)):
        assert KEY not in repr(thing) + str(thing)
    assert KEY not in repr(vars(caller.client))
    await stream.aclose()


async def test_log_of_a_call(
    connect: Connect, gateway: Gateway, caplog: pytest.LogCaptureFixture
) -> None:
    """The log of a call at DEBUG, retries included, has neither the key nor the prompt."""
    caplog.set_level(logging.DEBUG)
    gateway.reply(error_body("busy"), 503, {"Retry-After": "0"})
    caller = connect(gateway.url, max_retries=1)

    await caller.generate_text(model=MODEL, messages="a secret prompt")
    await caller.stream_text(model=MODEL, messages="a secret prompt").final_response()

    assert KEY not in caplog.text
    assert "secret prompt" not in caplog.text


def test_the_wrong_calling_style() -> None:
    """What is of the other client says so, and names it."""
    client = aistats.AsyncClient(KEY)
    stream = client.stream_text(HI)
    run = client.map(["a"], model="m")
    for wrong in (lambda: list(stream), lambda: list(run), client.__enter__):
        with pytest.raises(TypeError, match="async") as caught:
            wrong()
        assert "Client" in str(caught.value)
    with aistats.Client(KEY) as other, pytest.raises(TypeError, match="AsyncClient"):
        other.__aenter__()


def test_a_synchronous_stream_is_not_taken_for_an_asynchronous_one() -> None:
    """Frameworks ask for `AsyncIterable`, which only the asynchronous stream is."""
    with aistats.Client(KEY) as client:
        assert not isinstance(client.stream_text(HI), AsyncIterable)
    assert isinstance(aistats.AsyncClient(KEY).stream_text(HI), AsyncIterable)


class OwnClient(aistats.Client):
    """A client with other arguments, and an attribute of its own."""

    def __init__(self, team: str, url: str) -> None:
        super().__init__(KEY, url, timeout=7)
        self.team = team


class OwnAsyncClient(aistats.AsyncClient):
    """The same, asynchronous."""

    def __init__(self, team: str, url: str) -> None:
        super().__init__(KEY, url, timeout=7)
        self.team = team


@pytest.mark.parametrize("kind", [OwnClient, OwnAsyncClient])
@pytest.mark.parametrize(
    "again", [copy.copy, copy.deepcopy, lambda client: pickle.loads(pickle.dumps(client))]
)
def test_copies_of_a_subclass(gateway: Gateway, kind: Any, again: Callable[[Any], Any]) -> None:
    """A subclass with an `__init__` of its own is copied and pickled, with its attributes."""
    client = kind("blue", gateway.url)
    client.note = ["later"]
    copied = again(client)

    assert (type(copied), copied.team, copied.note) == (kind, "blue", ["later"])
    assert copied.base_url == gateway.url
    assert copied._gateway is not client._gateway
    assert copied._gateway.timeout.total == 7
