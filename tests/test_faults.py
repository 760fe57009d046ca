"""
The table of faults: what a server, a network or a proxy does wrong, and how a call ends then.

Each row runs in up to four cells: both calling styles, whole answers and streams. The servers are
real ones on loopback. `tests/faults.md` is this table for readers; `python tests/test_faults.py`
writes it anew.
"""

from __future__ import annotations

import contextlib
import copy
import functools
import gc
import gzip
import json
import pickle
import re
import socket
import threading
import time
import tracemalloc
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import aiohttp
import anyio
import pytest
from aiohttp.client_proto import ResponseHandler
from conftest import KEY, Caller, Script
from servers import (
    CLOSE,
    DEADLINE,
    DONE,
    OPENING,
    READ,
    RESET,
    STOP,
    USAGE,
    Drip,
    Gate,
    Gateway,
    RawServer,
    SlowRead,
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
from aistats import RetryPolicy, Timeout

pytestmark = pytest.mark.anyio

HI: dict[str, Any] = {"model": "openai/gpt-5-nano", "messages": "Hi"}
MIB = 1024 * 1024
MISSING_HOST = "gateway.invalid"
ADVICE = re.compile(
    r"\b(add|ask again|check|fix|give|raise|send (fewer|less)|set|try( it)? again|use)\b",
    re.IGNORECASE,
)

Connect = Callable[..., Caller]


# A row of the table.


class Scene:
    """
    What a row has to play with: servers that start at first use, and a gate.

    Args:
        stack: Ends what was begun here.
        monkeypatch: Takes back what was replaced here.
    """

    def __init__(self, stack: contextlib.ExitStack, monkeypatch: pytest.MonkeyPatch) -> None:
        self.stack = stack
        self.monkeypatch = monkeypatch
        self.gate = Gate()
        """Opened when the first text of a stream has been handed out."""
        self.raws: list[RawServer] = []
        self.gateways: list[Gateway] = []

    def raw(self, *scripts: Sequence[Any]) -> str:
        """
        The base URL of a raw server with one script for each of its connections.
        """
        server = self.stack.enter_context(RawServer())
        for script in scripts:
            server.script(*script)
        self.raws.append(server)
        return server.url

    def gateway(self) -> Gateway:
        """
        A gateway without replies.
        """
        server = self.stack.enter_context(Gateway())
        self.gateways.append(server)
        return server

    @property
    def requests(self) -> list[bytes]:
        """
        The first lines of all requests that the servers saw.
        """
        lines = [f"{seen.method} {seen.path}" for each in self.gateways for seen in each.requests]
        raw = [line for each in self.raws for c in each.connections for line in _lines(c.received)]
        return [line.encode() for line in lines] + raw

    @property
    def connections(self) -> int:
        """
        How many connections there were.
        """
        return sum(len(each.connections) for each in self.raws) + sum(
            each.connections for each in self.gateways
        )

    @property
    def is_let_go(self) -> bool:
        """
        Whether no server is busy with a request any more.
        """
        return all(c.over for each in self.raws for c in each.connections) and all(
            seen.outcome for each in self.gateways for seen in each.requests
        )


def _lines(received: bytes) -> list[bytes]:
    return re.findall(rb"([A-Z]+ /\S*) HTTP/1\.1\r\n", received)


@dataclass(frozen=True)
class Ends:
    """
    How a cell ends: with an answer, or with an error of just this class.
    """

    error: type[aistats.AIStatsError] | tuple[type[aistats.AIStatsError], ...] | None = None
    says: Sequence[str] = ()
    """Patterns that the error's text matches, each of them."""
    attempts: Sequence[str] = ("answered",)
    """`outcome`, or `outcome status`, of each attempt; "a|b" where both can be."""
    has: Mapping[str, Any] = field(default_factory=dict)
    """Attributes of the error, or of the answer."""
    text: str | None = None
    """The text of the answer, or what the error's `partial` has of it."""
    partial: str | None = None
    """"all" where the partial answer also has the tool call and the usage of `BEGUN`."""
    waits: Sequence[float] | None = None
    """The waits between the attempts, in seconds."""


@dataclass(frozen=True)
class Row:
    """
    One fault.
    """

    name: str
    play: Callable[[Scene], str]
    """Sets the scene, and returns the base URL."""
    whole: Ends | None
    stream: Ends | None
    options: Mapping[str, Any] = field(default_factory=dict)
    """Of the client."""
    warm: bool = False
    """Whether a good call goes before, so that the fault meets a connection that was kept."""
    requests: int | None = None
    """How many requests the servers see; by default one for each attempt that was sent."""
    connections: int | None = None
    """How many connections the servers see; by default it does not matter."""
    within: float = DEADLINE
    """Seconds that the call may take; its own limits are much shorter."""
    memory: int | None = None
    """Bytes that may be held at the same time, all in all."""
    view: str | None = None
    """The method that the stream is read by."""


def lost(*attempts: str, says: Sequence[str] = (), **has: Any) -> Ends:
    """
    No answer came.
    """
    return Ends(aistats.APIConnectionError, [r"127\.0\.0\.1", *says], attempts, has)


def late(limit: str, after: float, attempt: str, *says: str, **changes: Any) -> Ends:
    """
    A limit of time ran out.
    """
    return Ends(
        aistats.APITimeoutError,
        [f"{limit} limit", rf"\b{after:g} s\b", r"127\.0\.0\.1", *says],
        [attempt],
        {"limit": limit, "after": after},
        **changes,
    )


def wrong(*says: str, **changes: Any) -> Ends:
    """
    The answer is not what the contract says.
    """
    return Ends(aistats.APIResponseError, says, **changes)


def cut(*says: str, **changes: Any) -> Ends:
    """
    A stream was interrupted.
    """
    changes = {"text": "Once", "partial": "all", **changes}
    return Ends(aistats.StreamInterruptedError, says, **changes)


def good(*attempts: str, text: str = "Hi", **changes: Any) -> Ends:
    """
    The user gets the answer.
    """
    return Ends(attempts=attempts or ("answered 200",), text=text, **changes)


# What the servers say.


def json_answer(body: Any = None, status: str = "200 OK", **headers: Any) -> bytes:
    """
    A whole answer in one piece; *body* is JSON, or bytes as they are.
    """
    if not isinstance(body, bytes):
        body = json.dumps(completion("Hi") if body is None else body).encode()
    headers = {"Content_Type": "application/json", "Content_Length": len(body), **headers}
    return head(status, **headers) + body


@functools.cache
def piece(data: bytes) -> bytes:
    """
    The *data* as one piece of a chunked body.
    """
    return chunked(data, end=False)


def pieces(*steps: Any) -> list[Any]:
    """
    The *steps* of a script, with their bytes as pieces of a chunked body.
    """
    return [
        piece(step) if isinstance(step, bytes) else drip(step) if isinstance(step, Drip) else step
        for step in steps
    ]


def drip(step: Drip) -> Drip:
    """
    The *step* as pieces of a chunked body; its data is the same again and again.
    """
    one = piece(step.data[: step.size])
    return Drip(one * (len(step.data) // step.size), len(one), step.pause)


def event_stream(*frames: bytes, **headers: Any) -> bytes:
    """
    The head of an event stream and its first *frames*; its body has not ended.
    """
    headers = {"Content_Type": "text/event-stream", "Transfer_Encoding": "chunked", **headers}
    return head(**headers) + b"".join(map(piece, frames))


FIND = {"index": 0, "id": "call_1", "type": "function"}
CALL = sse(
    chunk({"tool_calls": [{**FIND, "function": {"name": "find", "arguments": '{"q'}}]}),
)
BEGUN = OPENING + CALL + USAGE + delta("Once")
"""What arrives of a stream before it fails; its text comes last."""

ANSWER = json_answer(Connection="close")
STORY = event_stream(*story("Hi"), Connection="close") + chunked()


def raw(*steps: Any, then: bytes = b"") -> Callable[[Scene], str]:
    """
    A raw server reads a request and plays the *steps*; *then* is the answer on a second connection.
    """
    scripts = [[READ, *steps], [READ, then]] if then else [[READ, *steps]]
    return lambda scene: scene.raw(*scripts)


def begun(*steps: Any) -> Callable[[Scene], str]:
    """
    A raw server begins a stream and plays the *steps* once the first text has been handed out.
    """
    return lambda scene: scene.raw([READ, event_stream(BEGUN), scene.gate, *pieces(*steps)])


def silent(*steps: Any) -> Callable[[Scene], str]:
    """
    A raw server begins a stream and plays the *steps* before any event of it.
    """
    return lambda scene: scene.raw([READ, event_stream(), *pieces(*steps)])


def framed(*frames: bytes) -> Callable[[Scene], str]:
    """
    A raw server sends a stream of *frames*, and its body ends properly.
    """
    return lambda scene: scene.raw([READ, event_stream(*frames) + chunked(), READ])


def reply(
    body: Any = None, status: int = 200, headers: Mapping[str, str] | None = None, times: int = 1
) -> Callable[[Scene], str]:
    """
    The gateway answers so, some *times*; after that it echoes.
    """

    def play(scene: Scene) -> str:
        gateway = scene.gateway()
        for _ in range(times):
            gateway.reply(body, status, headers)
        return gateway.url

    return play


def redirect(status: int) -> Callable[[Scene], str]:
    """
    The gateway redirects to another origin, which must not be asked.
    """

    def play(scene: Scene) -> str:
        target = scene.gateway().url + "/chat/completions"
        gateway = scene.gateway()
        gateway.reply(b"", status, {"Location": target})
        return gateway.url

    return play


def nobody(_: Scene) -> str:
    """
    A port that refuses connections.
    """
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    return f"http://127.0.0.1:{port}/v1"


def no_host(_: Scene) -> str:
    """
    A host that does not exist.
    """
    return f"http://{MISSING_HOST}/v1"


def slow_lookup(scene: Scene) -> str:
    """
    A host whose lookup takes until the end of the scene.
    """
    found = threading.Event()
    look_up = socket.getaddrinfo

    def getaddrinfo(host: Any, *args: Any, **kwargs: Any) -> Any:
        if host == MISSING_HOST:
            found.wait(2 * DEADLINE)
        return look_up(host, *args, **kwargs)

    scene.monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    scene.stack.callback(found.set)
    return f"http://{MISSING_HOST}/v1"


def crowd(scene: Scene) -> str:
    """
    A port that neither accepts connections nor refuses them.
    """
    return scene.stack.enter_context(full_house())


def bomb(text: str, size: int) -> bytes:
    """
    The *text*, then spaces, *size* bytes in all, compressed.
    """
    packer = zlib.compressobj(9, wbits=31)
    packed = packer.compress(text.encode())
    packed += b"".join(packer.compress(b" " * MIB) for _ in range(size // MIB))
    return packed + packer.flush()


def zipped_stream(frames: bytes) -> bytes:
    """
    A compressed event stream.
    """
    return event_stream(gzip.compress(frames), Content_Encoding="gzip") + chunked()


NOW = datetime.now(UTC)
LATER = format_datetime(NOW + timedelta(hours=1), usegmt=True)
EARLIER = format_datetime(NOW - timedelta(hours=1), usegmt=True)
BUSY = error_body("busy")

ONE_TRY: Mapping[str, Any] = {"max_retries": 0}
QUICK = RetryPolicy(max_retries=2, base=0.0)
RETRYING: Mapping[str, Any] = {"max_retries": QUICK}
IDLE: Mapping[str, Any] = {"timeout": Timeout(idle=0.2, total=4)}
TOTAL: Mapping[str, Any] = {"timeout": Timeout(idle=5, total=0.2)}
# Where the request has to be out, or a part of the answer to come, in time on a busy machine too.
LONGER: Mapping[str, Any] = {"timeout": Timeout(idle=5, total=0.8)}
LONGER_IDLE: Mapping[str, Any] = {"timeout": Timeout(idle=0.8, total=15)}
CONNECT: Mapping[str, Any] = {"timeout": Timeout(connect=0.2, total=4)}
SMALL: Mapping[str, Any] = {"max_response_bytes": MIB}


def both(name: str, play: Callable[[Scene], str], ends: Ends, **more: Any) -> Row:
    """
    A fault that ends a whole answer and a stream alike.
    """
    return Row(name, play, ends, ends, **more)


def whole(name: str, play: Callable[[Scene], str], ends: Ends, **more: Any) -> Row:
    """
    A fault that only a whole answer can meet.
    """
    return Row(name, play, ends, None, **more)


def streamed(name: str, play: Callable[[Scene], str], ends: Ends, **more: Any) -> Row:
    """
    A fault that only a stream can meet.
    """
    return Row(name, play, None, ends, **more)


CONNECTING = [
    both("connection refused", nobody, lost("unsent", says=["Check base_url"])),
    both(
        "connection refused again and again",
        nobody,
        lost("unsent", "unsent", "unsent"),
        options=RETRYING,
    ),
    both(
        "host not found",
        no_host,
        Ends(aistats.APIConnectionError, [re.escape(MISSING_HOST), "Check base_url"], ["unsent"]),
    ),
    both(
        "host name lookup hangs (connect)",
        slow_lookup,
        Ends(
            aistats.APITimeoutError,
            ["connect limit", r"0\.2 s", "connecting", MISSING_HOST],
            ["unsent"],
            {"limit": "connect", "after": 0.2},
        ),
        options=CONNECT,
    ),
    both(
        "host name lookup hangs (total)",
        slow_lookup,
        Ends(
            aistats.APITimeoutError,
            ["total limit", r"0\.2 s", "connecting", MISSING_HOST],
            ["unsent"],
            {"limit": "total", "after": 0.2},
        ),
        options=TOTAL,
    ),
    both(
        "connection neither accepted nor refused (connect)",
        crowd,
        late("connect", 0.2, "unsent", "connecting"),
        options=CONNECT,
    ),
    both(
        "connection neither accepted nor refused (total)",
        crowd,
        late("total", 0.2, "unsent", "connecting"),
        options=TOTAL,
    ),
    both(
        "accepted, and closed at once",
        lambda scene: scene.raw([]),
        lost("ambiguous|unsent"),
        requests=0,
    ),
]

HEADS = [
    both("closed before the head", raw(), lost("ambiguous")),
    both("reset before the head", raw(RESET), lost("ambiguous")),
    both("closed in the head", raw(b"HTTP/1.1 200 OK\r\nContent-"), lost("ambiguous")),
    both("reset in the head", raw(b"HTTP/1.1 200 OK\r\nContent-", RESET), lost("ambiguous")),
    both(
        "garbage instead of HTTP",
        raw(b"SSH-2.0-OpenSSH_9.2\r\n"),
        wrong("HTTP", r"127\.0\.0\.1", attempts=["ambiguous"]),
    ),
    both(
        "endless headers",
        raw(b"HTTP/1.1 200 OK\r\n", *[b"X-More: and more\r\n" * 4000] * 2000),
        wrong("HTTP", r"127\.0\.0\.1", attempts=["ambiguous"]),
        memory=16 * MIB,
    ),
    both(
        "endless line in the head",
        raw(b"HTTP/1.1 200 OK\r\nX-Long: ", *[b"x" * 65536] * 2000),
        wrong("HTTP", r"127\.0\.0\.1", attempts=["ambiguous"]),
        memory=16 * MIB,
    ),
    both(
        "`100 Continue` for ever (total)",
        raw(Drip(b"HTTP/1.1 100 Continue\r\n\r\n" * 2000, size=25, pause=0.005)),
        late("total", 0.8, "ambiguous", "waiting for an answer"),
        options=LONGER,
    ),
    both(
        "no head (idle)",
        raw(READ),
        late("idle", 0.2, "ambiguous", "waiting for an answer"),
        options={**IDLE, **RETRYING},
    ),
    both(
        "no head (total)",
        raw(READ),
        late("total", 0.8, "ambiguous", "waiting for an answer"),
        options={**LONGER, **RETRYING},
    ),
    both(
        "dripping head (total)",
        raw(Drip(b"HTTP/1.1 200 OK\r\nX-Slow: " + b"x" * 5000, pause=0.005)),
        late("total", 0.8, "ambiguous"),
        options=LONGER,
    ),
]

BODIES = [
    whole(
        "head, then silence (idle)",
        raw(head(Content_Type="application/json", Content_Length=100), READ),
        late("idle", 0.8, "answered 200"),
        options=LONGER_IDLE,
    ),
    whole(
        "dripping body (total)",
        raw(
            head(Content_Type="application/json", Content_Length=10_000),
            Drip(b" " * 10_000, pause=0.005),
        ),
        late("total", 0.8, "answered 200", "reading"),
        options=LONGER,
    ),
    whole(
        "body shorter than its Content-Length",
        raw(head(Content_Type="application/json", Content_Length=100), b'{"id":'),
        lost("answered 200", says=["broke off"]),
        options=RETRYING,
    ),
    whole(
        "body longer than its Content-Length",
        raw(json_answer(Content_Length=40), READ),
        wrong("not JSON, or was cut|proper HTTP", attempts=["ambiguous|answered 200"]),
    ),
    whole(
        "chunked body without its end",
        raw(
            head(Content_Type="application/json", Transfer_Encoding="chunked"),
            chunked(b'{"id":', end=False),
        ),
        lost("answered 200", says=["broke off"]),
    ),
    whole(
        "reset in the body",
        raw(head(Content_Type="application/json", Content_Length=100), b'{"id":', RESET),
        # A reset may overtake the head.
        lost("ambiguous|answered 200"),
    ),
    whole(
        "bad chunk size",
        lambda scene: scene.raw(
            [
                READ,
                head(Content_Type="application/json", Transfer_Encoding="chunked"),
                # One byte at a time, so that the head is taken in before.
                Drip(b"5\r\nhello\r\nzz\r\n"),
                READ,
            ]
        ),
        # The body can't be read on; whether that is the connection's end or the answer's, is open.
        Ends(
            (aistats.APIConnectionError, aistats.APIResponseError),
            [r"127\.0\.0\.1"],
            ["answered 200"],
        ),
    ),
    both(
        "two lengths that differ",
        raw(head(Content_Type="application/json", content_length=2, Content_Length=3), b"{}"),
        wrong("HTTP", attempts=["ambiguous"]),
    ),
    both(
        "HTML with status 200",
        reply("<html><h1>It works!</h1></html>", headers={"Content-Type": "text/html"}),
        wrong("is HTML", "It works!", "Check that base_url"),
    ),
    both(
        "login page with status 200",
        raw(
            head(Content_Type="text/html; charset=utf-8", Connection="close"),
            b"<!doctype html>\n<form action=/login>Please log in<input name=password></form>",
        ),
        wrong("is HTML", "Please log in", "Check that base_url"),
    ),
    both("204", raw(head("204 No Content"), READ), wrong("status 204", "is empty")),
    both("empty body", reply(b"", headers={"Content-Type": "application/json"}), wrong("is empty")),
    both(
        "truncated JSON",
        reply(b'{"id": "G-1", "choices": [', headers={"Content-Type": "application/json"}),
        wrong("not JSON, or was cut", '"G-1"'),
    ),
    both(
        "JSON in the charset of its header",
        raw(
            json_answer(
                json.dumps(completion("Grüße"), ensure_ascii=False).encode("latin-1"),
                Content_Type="application/json; charset=iso-8859-1",
            )
        ),
        good(text="Grüße"),
    ),
    both(
        "JSON with a byte order mark, as text",
        raw(
            json_answer(
                b"\xef\xbb\xbf" + json.dumps(completion("Hi")).encode(), Content_Type="text/plain"
            )
        ),
        good(),
    ),
    both(
        "an event stream as JSON",
        raw(
            event_stream(*story("Hi"), Content_Type="application/json", Connection="close")
            + chunked()
        ),
        good(),
    ),
    whole(
        "an event stream that is cut, as JSON",
        raw(event_stream(BEGUN, Content_Type="application/json") + chunked()),
        Ends(aistats.StreamInterruptedError, ["before the answer was complete"], partial="all"),
    ),
    both("a list", reply([completion()]), wrong("not an object", "G-01K3TESTCOMPLETION")),
    both("no choices", reply(completion(choices=[])), wrong("no choices")),
    both("choices of another kind", reply(completion(choices="none")), wrong("no choices")),
    both(
        "error object with status 200",
        reply({"error": {"message": "Overloaded.", "code": "overloaded"}}),
        wrong("overloaded", r"Overloaded\."),
    ),
    both(
        "the gateway's error with status 200",
        reply(error_body("guardrail_blocked", status_code=403)),
        Ends(
            aistats.PermissionDeniedError,
            ["guardrail_blocked", "It went wrong upstream"],
            has={"code": "guardrail_blocked"},
        ),
    ),
    both(
        "not compressed, though it says so",
        reply(
            b"not gzip", headers={"Content-Type": "application/json", "Content-Encoding": "gzip"}
        ),
        wrong(r"(?i)compress|encod|decod|unpack", attempts=["answered 200"]),
    ),
    whole(
        "gzip bomb",
        lambda scene: scene.raw(
            [
                READ,
                head(Content_Type="application/json", Content_Encoding="gzip", Connection="close"),
                bomb('{"id": "', 64 * MIB),
            ]
        ),
        wrong("longer than 1048576 bytes", "max_response_bytes"),
        options=SMALL,
        memory=16 * MIB,
    ),
    streamed(
        "gzip bomb as a stream",
        lambda scene: scene.raw(
            [
                READ,
                event_stream(bomb("data: ", 64 * MIB), Content_Encoding="gzip") + chunked(),
            ]
        ),
        Ends(aistats.StreamError, ["1048576 bytes", "max_response_bytes"]),
        options=SMALL,
        memory=16 * MIB,
    ),
    both(
        "error page of 200 MB",
        raw(head("500 Oh no", Content_Type="text/html"), b"<h1>Oh no</h1>", *[b" " * MIB] * 200),
        Ends(aistats.InternalServerError, ["500", "Oh no"], ["answered 500"]),
        memory=10 * MIB,
    ),
    both(
        "error page that never ends (idle)",
        raw(head("500 Oh no", Content_Type="text/html"), b"<h1>Oh no</h1>", READ),
        Ends(aistats.InternalServerError, ["500"], ["answered 500"]),
        options=LONGER_IDLE,
    ),
    both(
        "JSON longer than max_response_bytes",
        raw(json_answer(completion("x" * 3 * MIB))),
        wrong("1048576 bytes", "max_response_bytes"),
        options=SMALL,
    ),
]

EVENTS = [
    streamed(
        "event longer than max_response_bytes",
        framed(BEGUN, delta("x" * 2 * MIB)),
        Ends(
            aistats.StreamError,
            ["1048576 bytes", "max_response_bytes"],
            text="Once",
            partial="all",
        ),
        options=SMALL,
    ),
    streamed(
        "line that never ends",
        begun(b"data: ", *[b"x" * 65536] * 2000),
        Ends(
            aistats.StreamError,
            ["1048576 bytes", "max_response_bytes"],
            text="Once",
            partial="all",
        ),
        options=SMALL,
        memory=16 * MIB,
    ),
    streamed(
        "line that never ends, at the start",
        silent(b"data: ", *[b"x" * 65536] * 2000),
        Ends(aistats.StreamError, ["1048576 bytes", "max_response_bytes"]),
        options=SMALL,
        memory=16 * MIB,
    ),
    streamed(
        "comments without end, as fast as they go (idle)",
        begun(*[b": more\n\n" * 8000] * 20_000),
        late("idle", 0.8, "answered 200", text="Once", partial="all"),
        options=LONGER_IDLE,
        memory=16 * MIB,
    ),
    streamed(
        "comments without end, as fast as they go, before the first event (idle)",
        silent(*[b": more\n\n" * 8000] * 20_000),
        Ends(
            (aistats.StreamError, aistats.APITimeoutError),
            ["only comments in the first .* bytes|idle limit"],
            ["ambiguous|answered 200"],
        ),
        options=IDLE,
    ),
    streamed(
        "comments without end, as fast as they go, before the first event (total)",
        silent(*[b": more\n\n" * 8000] * 20_000),
        Ends(
            (aistats.StreamError, aistats.APITimeoutError),
            ["only comments in the first .* bytes|1048576 bytes.*max_response_bytes|total limit"],
            ["ambiguous|answered 200"],
        ),
        options={"timeout": Timeout(total=0.5), **SMALL},
        memory=8 * MIB,
    ),
    streamed(
        "one comment that never ends",
        silent(*[b": more\n" * 8000] * 2000),
        Ends(aistats.StreamError, ["1048576 bytes", "max_response_bytes"]),
        options=SMALL,
        memory=16 * MIB,
    ),
    streamed(
        "silence before the first event (idle)",
        silent(READ),
        late("idle", 0.2, "ambiguous|answered 200"),
        options={**IDLE, **RETRYING},
    ),
    streamed(
        "silence after the first event (idle)",
        begun(READ),
        late("idle", 0.8, "answered 200", text="Once", partial="all"),
        options=LONGER_IDLE,
    ),
    streamed(
        "keep-alive comments for ever (idle)",
        begun(Drip(b": ping\n\n" * 1000, size=8, pause=0.01)),
        late("idle", 0.8, "answered 200", text="Once", partial="all"),
        options=LONGER_IDLE,
    ),
    streamed(
        "keep-alive comments for ever, read by `lines()` (idle)",
        begun(Drip(b": ping\n\n" * 1000, size=8, pause=0.01)),
        late("idle", 0.8, "answered 200", text="Once", partial="all"),
        options=LONGER_IDLE,
        view="lines",
    ),
    streamed(
        "keep-alive comments for ever, before the first event (total)",
        silent(Drip(b": ping\n\n" * 1000, size=8, pause=0.01)),
        late("total", 0.8, "ambiguous|answered 200"),
        options=LONGER,
    ),
    streamed(
        "drip of bytes that never ends (total)",
        begun(b"data: ", Drip(b"x" * 10_000, pause=0.005)),
        late("total", 0.8, "answered 200", text="Once", partial="all"),
        options=LONGER,
    ),
    streamed(
        "drip of bytes that never ends (idle)",
        begun(b"data: ", Drip(b"x" * 10_000, pause=0.005)),
        late("idle", 0.8, "answered 200", text="Once", partial="all"),
        options=LONGER_IDLE,
    ),
    streamed(
        "events that never end (total)",
        begun(Drip(sse(chunk({})) * 2000, size=len(sse(chunk({}))), pause=0.005)),
        late("total", 0.8, "answered 200", text="Once", partial="all"),
        options=LONGER,
    ),
    streamed(
        "reset after the first event",
        begun(RESET),
        cut("lost before the answer was complete", r"127\.0\.0\.1"),
        options=RETRYING,
    ),
    streamed(
        "closed after the first event, by a server of HTTP/1.0's kind",
        lambda scene: scene.raw(
            [READ, head(Content_Type="text/event-stream") + BEGUN, scene.gate, CLOSE]
        ),
        cut("ended before the answer was complete"),
        options=RETRYING,
    ),
    streamed(
        "chunked body without its end",
        begun(),
        cut("lost before the answer was complete"),
    ),
    streamed(
        "bad chunk size",
        lambda scene: scene.raw([READ, event_stream(BEGUN), scene.gate, b"zz\r\n", READ]),
        cut("lost before the answer was complete"),
    ),
    streamed(
        "clean end without `finish_reason`, snapshot or `[DONE]`",
        framed(BEGUN),
        cut("finish_reason", r"\[DONE\]"),
        options=RETRYING,
    ),
    streamed("end in the middle of an event", framed(BEGUN, STOP[:-20]), cut("finish_reason")),
    streamed(
        "end in the middle of a character",
        framed(BEGUN, delta("é").replace(b"\\u00e9", "é".encode())[:-45]),
        cut("finish_reason"),
    ),
    streamed(
        "an event stream without events",
        framed(b"\n"),
        lost("ambiguous", says=["ended before any of the answer came"]),
    ),
    streamed(
        "an event stream of no bytes",
        framed(),
        lost("ambiguous", says=["ended before any of the answer came"]),
    ),
    streamed(
        "`[DONE]` and nothing else",
        framed(DONE),
        cut("ended before any of the answer came", text=None, partial=None),
    ),
    streamed(
        "invalid JSON in an event",
        framed(BEGUN, b'data: {"id": \n\n', delta(" upon"), STOP, DONE),
        Ends(aistats.StreamError, ["not a JSON object", '"id":'], text="Once", partial="all"),
    ),
    streamed(
        "invalid UTF-8 in an event, outside of a string",
        framed(BEGUN, b'data: {"id": \xff\xfe}\n\n', STOP, DONE),
        Ends(aistats.StreamError, ["not a JSON object"], text="Once", partial="all"),
    ),
    streamed(
        "JSON that is not an object",
        framed(BEGUN, b"data: [1, 2]\n\n", STOP, DONE),
        Ends(aistats.StreamError, ["not a JSON object"], text="Once", partial="all"),
    ),
    streamed(
        "error frame",
        framed(BEGUN, sse({"object": "error", "message": "stream_error"}), DONE),
        Ends(aistats.StreamErrorEvent, ["stream_error"], text="Once", partial="all"),
    ),
    streamed(
        "error frame as the first",
        framed(sse({"error": {"message": "Overloaded.", "code": 529}})),
        Ends(
            aistats.InternalServerError,
            [r"Overloaded\."],
            ["answered 200"],
            has={"code": "529", "status": 529},
        ),
    ),
    streamed(
        "error frame as the first, with a name in place of a status",
        framed(sse({"error": {"message": "Overloaded.", "code": "overloaded"}})),
        Ends(aistats.StreamErrorEvent, [r"Overloaded\."], has={"code": "overloaded"}),
    ),
    streamed(
        "`finish_reason: error`",
        framed(BEGUN, sse(chunk(finish_reason="error")), DONE),
        Ends(aistats.StreamErrorEvent, ["reported an error"], text="Once", partial="all"),
    ),
    streamed(
        "`event: error`",
        framed(BEGUN, b'event: error\ndata: {"message": "Overloaded."}\n\n'),
        Ends(aistats.StreamErrorEvent, [r"Overloaded\."], text="Once", partial="all"),
    ),
    streamed(
        "`event: error` with text",
        framed(BEGUN, b"event: error\ndata: out of luck\n\n"),
        Ends(aistats.StreamErrorEvent, ["out of luck"], text="Once", partial="all"),
    ),
    streamed(
        "`[DONE]`, and the connection stays open",
        raw(event_stream(*story("Hi")), READ),
        good(),
    ),
    streamed(
        "`finish_reason`, then a reset",
        lambda scene: scene.raw(
            [READ, event_stream(OPENING, STOP, delta("Hi")), scene.gate, RESET]
        ),
        good(),
    ),
    streamed("JSON in place of a stream", reply(completion("Hi")), good()),
    streamed("compressed stream", raw(zipped_stream(b"".join(story("Hi")))), good()),
    streamed(
        "compressed stream that is cut",
        raw(event_stream(gzip.compress(BEGUN)[:-12], Content_Encoding="gzip")),
        Ends(aistats.StreamInterruptedError, ["before"]),
    ),
]

REDIRECTS = [
    both(
        f"redirect {status} to another origin",
        redirect(status),
        Ends(
            aistats.APIStatusError,
            [str(status), r"http://127\.0\.0\.1:\d+/v1", "set base_url"],
            [f"answered {status}"],
            {"status": status},
        ),
        options=RETRYING,
    )
    for status in (301, 302, 303, 307, 308)
]

RETRIED = [
    *(
        both(
            f"{status}, twice",
            reply(BUSY, status, times=2),
            good(f"answered {status}", f"answered {status}", "answered 200", waits=[0.0, 0.0]),
            options=RETRYING,
        )
        for status in (408, 409, 425, 429, 500, 502, 503, 504, 520, 522, 529)
    ),
    *(
        both(
            f"{status}",
            reply(error_body("some_code", status_code=status), status),
            Ends(
                error_class,
                [f"{status} some_code", "It went wrong upstream"],
                [f"answered {status}"],
                {"status": status, "code": "some_code", "retry_after": None},
            ),
            options=RETRYING,
        )
        for status, error_class in (
            (400, aistats.BadRequestError),
            (401, aistats.AuthenticationError),
            (402, aistats.PaymentRequiredError),
            (403, aistats.PermissionDeniedError),
            (404, aistats.NotFoundError),
            (413, aistats.APIStatusError),
            (422, aistats.UnprocessableEntityError),
            (501, aistats.InternalServerError),
        )
    ),
    both(
        "503, three times",
        reply(BUSY, 503, times=3),
        Ends(aistats.InternalServerError, ["503 busy"], ["answered 503"] * 3),
        options=RETRYING,
    ),
    both(
        "503 with `x-should-retry: false`",
        reply(BUSY, 503, {"x-should-retry": "false"}),
        Ends(aistats.InternalServerError, ["503 busy"], ["answered 503"]),
        options=RETRYING,
    ),
    both(
        "400 with `x-should-retry: true`",
        reply(BUSY, 400, {"x-should-retry": "true"}),
        good("answered 400", "answered 200"),
        options=RETRYING,
    ),
    both(
        "429 `key_limit_exceeded`",
        reply(error_body("key_limit_exceeded"), 429),
        Ends(
            aistats.RateLimitError,
            ["key_limit_exceeded", "quota is used up"],
            ["answered 429"],
            {"code": "key_limit_exceeded"},
        ),
        options=RETRYING,
    ),
    both(
        "401 `db_error`",
        reply(error_body("unauthorised", description="db_error"), 401),
        good("answered 401", "answered 200"),
        options=RETRYING,
    ),
    both(
        "502 whose upstream failures are all permanent",
        reply(error_body(failed_statuses=[400, 404]), 502),
        Ends(aistats.InternalServerError, ["502 upstream_error"], ["answered 502"]),
        options=RETRYING,
    ),
    both(
        "502 whose upstream failures may pass",
        reply(error_body(failed_statuses=[400, 429]), 502),
        good("answered 502", "answered 200"),
        options=RETRYING,
    ),
    both(
        "429 with `Retry-After` in seconds",
        reply(BUSY, 429, {"Retry-After": "0.05"}),
        good("answered 429", "answered 200", waits=[0.05]),
        options=RETRYING,
    ),
    both(
        "503 with `retry-after-ms`",
        reply(BUSY, 503, {"retry-after-ms": "40", "Retry-After": "30"}),
        good("answered 503", "answered 200", waits=[0.04]),
        options=RETRYING,
    ),
    both(
        "503 with `Retry-After` as a date that is past",
        reply(BUSY, 503, {"Retry-After": EARLIER}),
        good("answered 503", "answered 200", waits=[0.0]),
        options=RETRYING,
    ),
    both(
        "503 with `Retry-After` as a date over the cap",
        reply(BUSY, 503, {"Retry-After": LATER}),
        Ends(aistats.InternalServerError, ["503 busy"], ["answered 503"]),
        options=RETRYING,
    ),
    both(
        "429 with `Retry-After` over the cap",
        reply(BUSY, 429, {"Retry-After": "61"}),
        Ends(aistats.RateLimitError, ["429 busy"], ["answered 429"], {"retry_after": 61.0}),
        options={**RETRYING, "timeout": None},
    ),
    both(
        "429 with `Retry-After` over the deadline",
        reply(BUSY, 429, {"Retry-After": "20"}),
        Ends(aistats.RateLimitError, ["429 busy"], ["answered 429"], {"retry_after": 20.0}),
        options=RETRYING,
    ),
    *(
        both(
            f"503 with a `Retry-After` that makes no sense: {name}",
            reply(BUSY, 503, {"Retry-After": value}),
            good("answered 503", "answered 200", waits=[0.0]),
            options=RETRYING,
        )
        for name, value in (
            ("a word", "soon"),
            ("negative", "-5"),
            ("no number", "nan"),
            ("without end", "inf"),
            ("a zone out of this world", "Mon, 01 Jan 2024 00:00:00 +99999999999999999999"),
        )
    ),
    both(
        "reset before the head, then well",
        lambda scene: scene.raw([READ, RESET], [READ, ANSWER]),
        good("ambiguous", "answered 200"),
        options=RETRYING,
    ),
    both(
        "reset before the head, and ambiguous attempts are not repeated",
        raw(RESET),
        lost("ambiguous"),
        options={"max_retries": RetryPolicy(max_retries=2, base=0.0, retry_ambiguous=False)},
    ),
    both(
        "503 whose body is not compressed, though it says so",
        reply(b"not gzip", 503, {"Content-Encoding": "gzip", "Retry-After": "0.05"}),
        good("answered 503", "answered 200", waits=[0.05]),
        options=RETRYING,
    ),
    both(
        "a busy gateway's error with status 200, then well",
        reply({"error": {"message": "Overloaded.", "code": 503}}),
        good("answered 200", "answered 200"),
        options=RETRYING,
    ),
    both(
        "a limit of rate with status 200, then well",
        reply({"status_code": 429, "error": "rate_limited", "description": "Slow down."}),
        good("answered 200", "answered 200"),
        options=RETRYING,
    ),
    streamed(
        "error frame as the first, then well",
        raw(
            event_stream(sse({"error": {"message": "Busy.", "code": 503}}), Connection="close")
            + chunked(),
            then=STORY,
        ),
        good("answered 200", "answered 200"),
        options=RETRYING,
    ),
    streamed(
        "a clean end before the first event, then well",
        raw(event_stream(b": soon\n\n", Connection="close") + chunked(), then=STORY),
        good("ambiguous", "answered 200"),
        options=RETRYING,
    ),
    streamed(
        "reset before the first event, then well",
        raw(event_stream(b": soon\n\n"), RESET, then=STORY),
        good("ambiguous", "answered 200"),
        options=RETRYING,
    ),
]


def stale(*steps: Any) -> Callable[[Scene], str]:
    """
    A raw server answers, keeps the connection, and plays the *steps* when it is used again.
    """
    return lambda scene: scene.raw([READ, json_answer(), READ, *steps], [READ, ANSWER])


def poisoned(scene: Scene) -> str:
    """
    A raw server sends a second answer that nobody asked for on the connection that was kept.
    """
    # Its bytes come along with those of the first, so they are there before the next request.
    answers = json_answer() + json_answer(completion("of somebody else"))
    return scene.raw([READ, answers, READ, json_answer(), READ], [READ, ANSWER])


KEPT = [
    both(
        "kept connection closed as it is used again",
        stale(),
        good("ambiguous", "answered 200"),
        warm=True,
        requests=3,
    ),
    both(
        "kept connection reset as it is used again",
        stale(RESET),
        good("ambiguous", "answered 200"),
        warm=True,
        requests=3,
    ),
    both(
        "no head on a kept connection (idle)",
        stale(READ),
        late("idle", 0.2, "ambiguous"),
        options=IDLE,
        warm=True,
        requests=2,
    ),
    both(
        "no head on a kept connection (total)",
        stale(READ),
        late("total", 0.8, "ambiguous"),
        options=LONGER,
        warm=True,
        requests=2,
    ),
    streamed(
        "head on a kept connection, then closed",
        stale(event_stream()),
        Ends(aistats.APIConnectionError, ["127"], ["ambiguous|answered 200"]),
        warm=True,
        requests=2,
    ),
    both(
        "answer that nobody asked for on a kept connection",
        poisoned,
        good(),
        warm=True,
        requests=2,
    ),
    streamed(
        "`[DONE]`, and the body ends: the connection is kept",
        lambda scene: scene.raw(
            [
                READ,
                json_answer(),
                READ,
                event_stream(*story("Hi")) + chunked(),
                READ,
            ]
        ),
        good(),
        warm=True,
        requests=2,
        connections=1,
    ),
]

TABLE = [
    ("Connecting", CONNECTING),
    ("The head", HEADS),
    ("The body", BODIES),
    ("The events of a stream", EVENTS),
    ("Redirects", REDIRECTS),
    ("Statuses, and trying again", RETRIED),
    ("Connections that were kept", KEPT),
]
CELLS = [
    pytest.param(row, mode, id=f"{row.name}-{mode}")
    for _, rows in TABLE
    for row in rows
    for mode in ("whole", "stream")
    if getattr(row, mode) is not None
]


# How a cell runs.


@pytest.fixture
def scene(monkeypatch: pytest.MonkeyPatch) -> Iterator[Scene]:
    """
    A scene, whose servers are sound to the end.
    """
    with contextlib.ExitStack() as stack:
        scene = Scene(stack, monkeypatch)
        yield scene
    assert [failure for each in [*scene.raws, *scene.gateways] for failure in each.failures] == []


@pytest.mark.parametrize(("row", "mode"), CELLS)
async def test_fault(connect: Connect, scene: Scene, row: Row, mode: str, style: str) -> None:
    """A fault ends a call promptly, as its row says, and its server is let go."""
    ends: Ends = getattr(row, mode)
    url = row.play(scene)
    caller = connect(url, **{"timeout": Timeout(total=4), **ONE_TRY, **row.options})
    if row.warm:
        assert (await caller.generate_text(HI, timeout=DEADLINE)).text == "Hi"

    error, answer, texts = None, None, []
    begin = time.monotonic()
    with memory_within(row.memory):
        try:
            if mode == "whole":
                answer = await caller.generate_text(HI)
            else:
                answer = await read(caller.stream_text(HI), scene, row.view, texts)
        except aistats.AIStatsError as caught:
            error = caught
    took = time.monotonic() - begin

    if ends.error is None:
        assert error is None, repr(error)
        check_answer(answer, ends)
    else:
        assert error is not None, answer
        check_error(error, ends)
        if ends.text is not None:
            assert "".join(texts) == ends.text
    assert took < row.within
    outcomes = [attempt.outcome for attempt in (error or answer).attempts]
    sent = len(outcomes) - outcomes.count("unsent")
    assert len(scene.requests) == (sent if row.requests is None else row.requests)
    assert set(scene.requests) <= {b"POST /v1/chat/completions"}
    if row.connections is not None:
        assert scene.connections == row.connections
    begin = time.monotonic()
    await caller.aclose()
    assert time.monotonic() - begin < DEADLINE
    await auntil(lambda: scene.is_let_go)
    assert error is None or ADVICE.search(str(error)), f"no word of what to do: {error}"


async def read(stream: Any, scene: Scene, view: str | None, texts: list[str]) -> Any:
    """
    The final response of *stream*; each text goes to *texts* as it comes.
    """
    async for item in stream if view is None else getattr(stream, view)():
        if view == "lines":
            found = re.findall(r'"content": ?"(\w+)"', item)
            texts.extend(found)
        else:
            texts.append(item.text)
        if "".join(texts):
            scene.gate.open()
    return await stream.final_response()


@contextlib.contextmanager
def memory_within(limit: int | None) -> Iterator[None]:
    """
    Python held no more than *limit* bytes more at any time than at the start; `None` is any number.
    """
    if limit is None:
        yield
        return
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        yield
        peak = tracemalloc.get_traced_memory()[1] - before
    finally:
        tracemalloc.stop()
    assert peak < limit, f"{peak / MIB:.1f} MiB"


def check_answer(answer: Any, ends: Ends) -> None:
    """
    The *answer* is what the row says.
    """
    assert answer.text == ends.text
    assert_attempts(answer.attempts, ends)


def check_error(error: aistats.AIStatsError, ends: Ends) -> None:
    """
    The *error* is what the row says, and what every error has to be.
    """
    assert type(error) in _classes(ends), repr(error)
    for pattern in ends.says:
        assert re.search(pattern, str(error)), f"{pattern!r} is not in {error}"
    assert_attempts(error.attempts, ends)
    # Where a stream had begun, it is the error itself that says why.
    assert error.attempts[-1].reason or error.partial is not None
    for name, value in ends.has.items():
        assert getattr(error, name) == value, name
    assert error.timing.total is not None
    check_partial(error.partial, ends)
    check_copies(error)
    assert KEY not in repr(error) + str(error) + repr(vars(error))
    curl = error.as_curl()
    assert curl is not None
    assert "$AI_STATS_API_KEY" in curl
    assert KEY not in curl
    for other in (error.__cause__, error.__context__):
        assert other is None or not type(other).__module__.startswith("aiohttp"), repr(other)


def _classes(ends: Ends) -> tuple[type[aistats.AIStatsError], ...]:
    if ends.error is None:
        return ()
    return ends.error if isinstance(ends.error, tuple) else (ends.error,)


def assert_attempts(attempts: Sequence[Any], ends: Ends) -> None:
    """
    The *attempts* are those of the row, and each but a last one that went well has its reason.
    """
    seen = [f"{each.outcome} {each.status}" for each in attempts]
    assert len(seen) == len(ends.attempts), seen
    for each, expected in zip(seen, ends.attempts, strict=True):
        assert any(each.startswith(choice) for choice in expected.split("|")), seen
    assert all(each.reason for each in attempts[:-1])
    if ends.waits is not None:
        assert [each.wait for each in attempts] == [*ends.waits, 0.0]


def check_partial(partial: Any, ends: Ends) -> None:
    """
    What had arrived is in *partial*.
    """
    if ends.text is not None:
        assert partial.text == ends.text
    if ends.partial == "all":
        (call,) = partial.tool_calls
        assert (call.id, call.name, call.arguments) == ("call_1", "find", '{"q')
        assert partial.usage.total_tokens == 15


def check_copies(error: aistats.AIStatsError) -> None:
    """
    A copy of *error*, pickled or not, is as good.
    """
    for other in (pickle.loads(pickle.dumps(error)), copy.copy(error), copy.deepcopy(error)):
        assert type(other) is type(error)
        for name in ("message", "status", "attempts", "request_id", "headers", "timing"):
            assert getattr(other, name) == getattr(error, name), name
        for name in ("limit", "after", "code", "body", "retry_after"):
            assert getattr(other, name, None) == getattr(error, name, None), name
        assert str(other) == str(error)
        assert other.as_curl() == error.as_curl()
        text = error.partial.text if error.partial else None
        assert (other.partial.text if other.partial else None) == text


# What needs more than one call.


@pytest.mark.parametrize("mode", ["whole", "stream"])
async def test_pool_is_exhausted(connect: Connect, gateway: Gateway, mode: str) -> None:
    """A call that waits for a free connection ends with its `total`, and says what it lacked."""
    gateway.stream(OPENING, delta("Once"), Gate())
    caller = connect(gateway.url, max_connections=1)
    holder = caller.stream_text(HI)
    await holder.__aiter__().__anext__()

    begin = time.monotonic()
    ask = caller.generate_text if mode == "whole" else caller.stream_text(HI, timeout=0.2)
    with pytest.raises(aistats.APITimeoutError) as caught:
        await (ask(HI, timeout=0.2) if mode == "whole" else ask.final_response())
    took = time.monotonic() - begin
    await holder.aclose()

    check_error(
        caught.value, late("total", 0.2, "unsent", "free (connection|place)|max_connections")
    )
    assert took < DEADLINE
    assert len(gateway.requests) == 1
    assert (await caller.generate_text(HI)).text == "Hi"


async def test_an_error_that_is_kept_holds_no_connection(
    connect: Connect, raw_server: RawServer
) -> None:
    """A stream that is given up before its first event has let go of its place in the pool."""
    raw_server.script(READ, event_stream(b": nothing\n\n" * 200), Gate())
    raw_server.script(READ, ANSWER)
    caller = connect(raw_server.url, max_connections=1, max_response_bytes=1000, timeout=DEADLINE)

    with pytest.raises(aistats.StreamError) as caught:
        await caller.stream_text(HI).final_response()

    assert (await caller.generate_text(HI)).text == "Hi"
    assert "only comments" in str(caught.value)


@pytest.mark.parametrize("n", [1, 2, None])
async def test_one_choice_of_two(connect: Connect, raw_server: RawServer, n: int | None) -> None:
    """A stream that ends after the first of two choices was cut."""
    raw_server.script(READ, event_stream(OPENING, delta("Hi"), STOP) + chunked())
    stream = connect(raw_server.url).stream_text({**HI, "n": n})

    if n == 2:
        with pytest.raises(aistats.StreamInterruptedError, match="each choice") as caught:
            await stream.final_response()
        assert caught.value.partial is not None
        assert caught.value.partial.text == "Hi"
    else:
        assert (await stream.final_response()).text == "Hi"


async def test_small_events_have_room(connect: Connect, raw_server: RawServer) -> None:
    """Events that come together may be longer than the limit for each of them."""
    body = chunked(b"".join(story(*["Once"] * 50)))
    raw_server.script(READ, event_stream() + body)

    chat = await connect(raw_server.url, max_response_bytes=1000).stream_text(HI).final_response()

    assert chat.text == "Once" * 50


async def ask(caller: Caller, mode: str, request: Any) -> Any:
    """
    The answer to *request*, asked for as a whole or as a stream.
    """
    if mode == "whole":
        return await caller.generate_text(request)
    return await caller.stream_text(request).final_response()


BULKY: dict[str, Any] = {**HI, "messages": "x" * 16 * MIB}
"""More than the buffers between two sockets hold."""


@pytest.mark.parametrize("mode", ["whole", "stream"])
async def test_nobody_reads_the_request(connect: Connect, raw_server: RawServer, mode: str) -> None:
    """A server that takes nothing of a long request is waited for no longer than `idle`."""
    raw_server.script(Gate())
    caller = connect(raw_server.url, timeout=Timeout(idle=0.3, total=None), max_retries=0)

    with pytest.raises(aistats.APITimeoutError) as caught:
        await ask(caller, mode, BULKY)

    check_error(caught.value, late("idle", 0.3, "ambiguous", "sending the request"))


async def test_nobody_reads_what_a_session_sends(raw_server: RawServer) -> None:
    """The same holds where the request goes out by a session of the user's."""
    raw_server.script(Gate())
    async with aiohttp.ClientSession() as session:
        client = aistats.AsyncClient(
            KEY,
            raw_server.url,
            session=session,
            timeout=Timeout(idle=0.3, total=None),
            max_retries=0,
        )
        with pytest.raises(aistats.APITimeoutError) as caught:
            await client.generate_text(BULKY)

    check_error(caught.value, late("idle", 0.3, "ambiguous", "sending the request"))


async def test_slow_upload(connect: Connect, raw_server: RawServer) -> None:
    """A long request may take longer than `idle`, as long as it goes on."""
    raw_server.script(SlowRead(MIB, 0.06), ANSWER)
    caller = connect(raw_server.url, timeout=Timeout(idle=0.8, total=None), max_retries=0)

    begin = time.monotonic()
    answer = await caller.generate_text(BULKY)

    assert answer.text == "Hi"
    assert time.monotonic() - begin > 0.8


@pytest.mark.parametrize("session", [None, aiohttp.ClientSession], ids=["own", "session"])
async def test_who_reads_slowly_is_not_idle(
    connect: Connect, raw_server: RawServer, session: Callable[[], aiohttp.ClientSession] | None
) -> None:
    """What the caller does between the lines of a stream is no silence, comments or not."""
    told, more = Gate(), Gate()
    comment = b": working\n\n"
    raw_server.script(READ, event_stream(BEGUN, comment), told, piece(comment), more, STORY)
    timeout = Timeout(idle=0.3, total=None)
    caller = connect(raw_server.url, timeout=timeout, max_retries=0, session=session)

    comments = 0
    with contextlib.suppress(aistats.StreamError):  # how it ends is for others
        async for line in caller.stream_text(HI).lines():
            if line.startswith(":"):
                comments += 1
                await anyio.sleep(0.4)  # longer than the limit
                (told if comments == 1 else more).open()

    assert comments == 2


async def test_many_addresses_have_one_limit(
    connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A host with many addresses, of which none answers, takes no longer than `connect`."""
    with full_house() as nobody:
        _, _, port = nobody.removesuffix("/v1").rpartition(":")
        address = (socket.AF_INET, socket.SOCK_STREAM, 0, "", ("127.0.0.1", int(port)))
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_: [address] * 20)
        caller = connect(f"http://many.invalid:{port}/v1", timeout=Timeout(connect=0.5))
        begin = time.monotonic()
        with pytest.raises(aistats.APITimeoutError) as caught:
            await caller.generate_text(HI)
        took = time.monotonic() - begin

    assert (caught.value.limit, caught.value.after) == ("connect", 0.5)
    assert [attempt.outcome for attempt in caught.value.attempts] == ["unsent"]
    assert took < 5


async def test_stale_connection_costs_nothing(connect: Connect, raw_server: RawServer) -> None:
    """A kept connection is replaced even where nothing may be tried again any more."""
    raw_server.script(READ, json_answer(), READ, CLOSE)
    raw_server.script(READ, json_answer(completion("Again")))
    caller = connect(raw_server.url, max_retries=0)
    assert (await caller.generate_text(HI)).text == "Hi"
    while caller.client._gateway.budget.take():
        pass

    assert (await caller.generate_text(HI)).text == "Again"


async def test_answer_for_nobody(connect: Connect, raw_server: RawServer) -> None:
    """An answer that comes in while a connection is kept is never taken for the next one's."""
    gate, last = Gate(), Gate()
    stray = json_answer(completion("of somebody else"))
    raw_server.script(READ, json_answer(), gate, stray, last, READ, json_answer(), READ)
    raw_server.script(READ, ANSWER)
    caller = connect(raw_server.url)
    await caller.generate_text(HI)
    gate.open()
    await auntil(last.reached.is_set)
    await anyio.wait_all_tasks_blocked()
    last.open()

    assert (await caller.generate_text(HI)).text == "Hi"


def test_program_ends_while_a_lookup_hangs(script: Callable[..., Script]) -> None:
    """A lookup that hangs holds up neither a loop's end nor a program's, and has one thread."""
    output = script(HANGING_LOOKUPS).output()

    assert output == "7 late, 1 thread\n"


HANGING_LOOKUPS = """
import asyncio, os, socket, threading
import aistats

socket.getaddrinfo = lambda *args, **kwargs: threading.Event().wait()
options = {"base_url": "http://gateway.invalid/v1", "timeout": 0.2, "max_retries": 0}
late = []

async def call():
    async with aistats.AsyncClient(**options) as client:
        try:
            await client.generate_text(model="m", messages="Hi")
        except aistats.APITimeoutError as error:
            late.append(error)

async def calls():
    await asyncio.gather(call(), call(), call())

asyncio.run(calls())
asyncio.run(calls())
with aistats.Client(**options) as client:
    try:
        client.generate_text(model="m", messages="Hi")
    except aistats.APITimeoutError as error:
        late.append(error)
hanging = [thread for thread in threading.enumerate() if thread.name == "aistats-dns"]
print(len(late), "late,", len(hanging), "thread")
"""


async def test_total_runs_out_while_nobody_reads(connect: Connect, gateway: Gateway) -> None:
    """Bytes that wait for a slow reader don't hide that its call has run out of time."""
    gate = Gate()
    gateway.stream(OPENING, delta("Once"), gate, delta(" upon"), Gate())
    stream = connect(gateway.url, timeout=0.5).stream_text(HI)
    begin = time.monotonic()
    items = stream.__aiter__()
    assert [(await items.__anext__()).text for _ in range(2)] == ["", "Once"]
    gate.open()
    await auntil(lambda: time.monotonic() > begin + 0.6)

    with pytest.raises(aistats.APITimeoutError) as caught:
        await stream.final_response()

    assert caught.value.limit == "total"
    assert "Once upon".startswith(caught.value.partial.text or "-")


async def test_nothing_is_kept_of_what_was_late(connect: Connect, gateway: Gateway) -> None:
    """What a call held that ran out of time is let go; aiohttp would keep it with its error."""
    caller = connect(gateway.url, timeout=Timeout(idle=0.1))

    def held() -> int:
        gc.collect()
        return sum(type(each) is aiohttp.ClientResponse for each in gc.get_objects())

    before = held()
    for _ in range(3):
        gateway.stream(OPENING, delta("Once"), Drip(b": still here\n\n" * 10_000, 14, 0.01))
        with pytest.raises(aistats.APITimeoutError):
            await caller.stream_text(HI).final_response()

    await auntil(lambda: held() <= before)


async def test_a_kept_connection_keeps_nothing(connect: Connect, gateway: Gateway) -> None:
    """A connection that lives on does not hold the answers that came on it."""
    caller = connect(gateway.url, max_connections=1)

    def held() -> int:
        gc.collect()
        return sum(type(each) is aiohttp.StreamReader for each in gc.get_objects())

    before = held()
    for _ in range(10):
        gate = Gate()
        gateway.stream(OPENING, gate, delta("Hi"), STOP, DONE)
        items = (stream := caller.stream_text(HI)).__aiter__()
        await items.__anext__()
        gate.open()
        assert (await stream.final_response()).text == "Hi"
    del items, stream

    assert {seen.connection for seen in gateway.requests} == {1}
    # The server's own, and the last one's on the connection.
    await auntil(lambda: held() <= before + 5)


async def test_nothing_is_kept_of_what_has_ended(
    connect: Connect, raw_server: RawServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stream whose body has ended with it is let go then and there, not after a while."""
    monkeypatch.setattr(aistats._call.stream_state, "_GRACE", 3600.0)
    raw_server.script(*[READ, event_stream(*story("Hi")) + chunked()] * 3)
    caller = connect(raw_server.url)

    def held() -> int:
        gc.collect()
        return sum(type(each) is aiohttp.ClientResponse for each in gc.get_objects())

    before = held()
    for _ in range(3):
        await caller.stream_text(HI).final_response()

    assert len(raw_server.connections) == 1
    await auntil(lambda: held() <= before)


async def test_nobody_complains_of_a_reset(
    connect: Connect, raw_server: RawServer, caplog: pytest.LogCaptureFixture
) -> None:
    """A kept connection that is reset has failed nobody, and asyncio says nothing of it either."""
    rest, end = Gate(), Gate()
    remainder = chunked(*story("Once")[1:])
    raw_server.script(READ, event_stream(OPENING), rest, remainder, end, RESET)
    raw_server.script(READ, ANSWER)
    caller = connect(raw_server.url)

    def is_lost() -> bool:
        return any(
            type(each) is ResponseHandler and not each.is_connected() for each in gc.get_objects()
        )

    stream = caller.stream_text(HI)
    await stream.__aiter__().__anext__()
    rest.open()
    assert (await stream.final_response()).text == "Once"
    del stream
    end.open()
    await auntil(is_lost)

    assert (await caller.generate_text(HI)).text == "Hi"
    gc.collect()
    assert caplog.messages == []


async def test_outage(connect: Connect, gateway: Gateway) -> None:
    """In an outage a client's retries run out, so that they don't triple the load."""
    for _ in range(600):
        gateway.reply(BUSY, 503)
    caller = connect(gateway.url, **RETRYING)
    attempts = []

    async def call() -> None:
        with pytest.raises(aistats.InternalServerError) as caught:
            await caller.generate_text(HI)
        attempts.append(len(caught.value.attempts))

    for _ in range(10):
        async with anyio.create_task_group() as group:
            for _ in range(20):
                group.start_soon(call)

    assert len(attempts) == 200
    assert len(gateway.requests) == sum(attempts) <= 300


async def test_log_of_a_retry(
    connect: Connect, scene: Scene, caplog: pytest.LogCaptureFixture
) -> None:
    """A retry is logged with its reason and its wait."""
    caplog.set_level("INFO", logger="aistats")
    url = reply(BUSY, 503, {"retry-after-ms": "10"})(scene)

    await connect(url, **RETRYING).generate_text(HI)

    (record,) = caplog.records
    assert record.name == "aistats"
    assert re.search(r"0\.01 s.*503.*busy", record.getMessage())


# The table for readers.

COLUMNS = ["`AsyncClient`, whole", "`Client`, whole", "`AsyncClient`, stream", "`Client`, stream"]


def table() -> str:
    """
    The table as Markdown.
    """
    lines = [
        "# What goes wrong, and how a call ends then",
        "",
        "Each cell is a test of [test_faults.py](test_faults.py) against a server that does it for",
        "real. *answer*: the user gets the whole answer. After *→*: how many requests were sent,",
        "where it is more than one. A dash: it can't happen there. A client tries once, but in the",
        "rows with *retries*, where it may try twice more.",
    ]
    for title, rows in TABLE:
        lines += [
            "",
            f"## {title}",
            "",
            "| fault | " + " | ".join(COLUMNS) + " |",
            "|---|---|---|---|---|",
        ]
        for row in rows:
            cells = [_cell(row.whole)] * 2 + [_cell(row.stream)] * 2
            name = f"{row.name} *(retries)*" if row.options.get("max_retries") else row.name
            lines.append(" | ".join([f"| {name}", *cells]) + " |")
    return "\n".join([*lines, ""])


def _cell(ends: Ends | None) -> str:
    if ends is None:
        return "-"
    name = " or ".join(f"`{each.__name__}`" for each in _classes(ends)) or "answer"
    if ends.partial == "all":
        name += " with `partial`"
    sent = len([each for each in ends.attempts if each != "unsent"])
    return name if sent < 2 else f"{name} → {sent}"


TABLE_FILE = Path(__file__).with_name("faults.md")


def test_table_for_readers() -> None:
    """The table in `faults.md` is this one."""
    assert TABLE_FILE.read_text(encoding="utf-8") == table()


if __name__ == "__main__":
    TABLE_FILE.write_text(table(), encoding="utf-8")
