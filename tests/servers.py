"""
Two servers on loopback that play what a test wrote down, and keep what they saw.

`Gateway` is a real aiohttp server that behaves: its answers are whole, or streams that end where
the test says so. `RawServer` writes bytes to a socket and knows no HTTP, so that it can break every
rule of it. Both run in threads of their own: plain tests, asynchronous ones and subprocesses call
them alike.

A script is a sequence of steps: `bytes` and `str` are written, a `Gate` holds the script until the
test opens it, a `Drip` writes slowly, `CLOSE` and `RESET` end the connection then and there.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import struct
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future
from concurrent.futures import wait as wait_for_first
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any

import anyio
from aiohttp import web

if TYPE_CHECKING:
    from typing import Self

    from multidict import CIMultiDictProxy

DEADLINE = 20.0
"""
Seconds until a state that a test waits for counts as missed; a sound one comes in milliseconds.
"""


def until(
    condition: Callable[[], object],
    within: float = DEADLINE,
    show: Callable[[], object] = lambda: "",
) -> None:
    """
    The *condition* holds; the test fails if it does not come to hold *within* so many seconds, and
    *show* says what is there in its place.
    """
    end = time.monotonic() + within
    while not condition():
        assert time.monotonic() < end, f"not within {within} seconds {show()}"
        time.sleep(0.002)


async def auntil(condition: Callable[[], object], within: float = DEADLINE) -> None:
    """
    The *condition* holds, as with `until`, and the event loop went on meanwhile.
    """
    end = time.monotonic() + within
    while not condition():
        assert time.monotonic() < end, f"not within {within} seconds"
        await anyio.sleep(0.002)


# Steps of a script.


class Gate:
    """
    The server waits here until the test opens it; *reached* is set once it waits.
    """

    def __init__(self) -> None:
        self.reached = threading.Event()
        self.passage: Future[None] = Future()

    def open(self) -> None:
        """
        Let the script go on; an open gate stays open.
        """
        if not self.passage.done():
            self.passage.set_result(None)


class Ending(Enum):
    """
    How a connection ends in the middle of a script.
    """

    CLOSE = "as when the peer's process died: a chunked body has no terminator"
    RESET = "as when the peer's machine died: what was on its way may be lost"


CLOSE = Ending.CLOSE
RESET = Ending.RESET


@dataclass(frozen=True)
class Drip:
    """
    The *data* arrives in pieces of *size* bytes, *pause* seconds apart.
    """

    data: bytes
    size: int = 1
    pause: float = 0.001


Step = bytes | str | Gate | Drip | Ending


def _pieces(step: bytes | str | Drip) -> Iterator[bytes]:
    data = step.data if isinstance(step, Drip) else step
    data = data.encode() if isinstance(data, str) else data
    size = step.size if isinstance(step, Drip) else max(1, len(data))
    for start in range(0, len(data), size):
        yield data[start : start + size]


def _pause(step: bytes | str | Drip) -> float:
    return step.pause if isinstance(step, Drip) else 0.0


def _reset_when_closed(sock: socket.socket) -> None:
    # To linger for no time at all is how a socket is told to send a reset.
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


# What a gateway says.


def completion(text: str = "Hello there", **changes: Any) -> dict[str, Any]:
    """
    A whole answer in the newer gateway's form; *changes* replace its top-level keys.
    """
    message = {"role": "assistant", "content": text, "refusal": None}
    return {
        "id": "G-01K3TESTCOMPLETION0000000",
        "nativeResponseId": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1787400000,
        "model": "openai/gpt-5-nano",
        "provider": "openai",
        "choices": [{"index": 0, "finish_reason": "stop", "logprobs": None, "message": message}],
        "usage": {"prompt_tokens": 11, "completion_tokens": 4, "total_tokens": 15},
        **changes,
    }


def chunk(
    delta: Mapping[str, Any] | None = None, *, finish_reason: str | None = None, **changes: Any
) -> dict[str, Any]:
    """
    One frame of a stream with one choice; *changes* replace its top-level keys.
    """
    return {
        "id": "G-01K3TESTSTREAM00000000000",
        "object": "chat.completion.chunk",
        "created": 1787400000,
        "model": "gpt-5-nano",
        "choices": [{"index": 0, "delta": dict(delta or {}), "finish_reason": finish_reason}],
        **changes,
    }


def sse(frame: object) -> bytes:
    """
    The *frame* as the gateway writes it: one `data:` line and a blank one.
    """
    return b"data: " + json.dumps(frame, separators=(",", ":")).encode() + b"\n\n"


def delta(text: str) -> bytes:
    """
    The frame that brings *text*.
    """
    return sse(chunk({"content": text}))


OPENING = sse(chunk({"role": "assistant", "content": ""}))
STOP = sse(chunk(finish_reason="stop"))
USAGE = sse(
    chunk(choices=[], usage={"prompt_tokens": 11, "completion_tokens": 4, "total_tokens": 15})
)
DONE = b"data: [DONE]\n\n"


def story(*texts: str) -> list[bytes]:
    """
    The frames of a whole stream that brings *texts* one by one, as it comes for an OpenAI model.
    """
    return [OPENING, *(delta(text) for text in texts), STOP, USAGE, DONE]


def error_body(code: str = "upstream_error", **changes: Any) -> dict[str, Any]:
    """
    An error in the newer gateway's form; *changes* replace its keys.
    """
    return {
        "generation_id": "G-01K3TESTERROR000000000000",
        "status_code": 502,
        "error": code,
        "error_type": "system",
        "description": "It went wrong upstream.",
        **changes,
    }


# The gateway.


@dataclass(frozen=True)
class Reply:
    """
    What the gateway answers to one request.
    """

    steps: Sequence[Step]
    status: int
    headers: Mapping[str, str]
    before: Gate | None


@dataclass
class Seen:
    """
    One request as the gateway saw it, and what became of its answer.

    `connection` is a number, the same for all requests that came on one connection. `sent` counts
    the bytes of the answer's body that the operating system took or that wait to be taken.
    `outcome` is `None` while it is answered, then "answered", or "disconnected" where the
    connection ended first.
    """

    method: str
    path: str
    query: dict[str, str]
    headers: CIMultiDictProxy[str]
    body: bytes
    connection: int
    sent: int = 0
    outcome: str | None = None

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def disconnected(self) -> bool:
        return self.outcome == "disconnected"


class Gateway:
    """
    A gateway gives the replies that a test queued, in order; when none is left, it echoes.

    `url` is the base URL for a client, `requests` are those that came, in order.
    """

    def __init__(self) -> None:
        self.requests: list[Seen] = []
        self.failures: list[BaseException] = []
        self.connections = 0
        self.places: int | None = None
        """How many requests it takes at once and echoes; it answers 429 to those beyond."""
        self._under_way = 0
        self._numbers: dict[object, int] = {}
        self._replies: deque[Reply] = deque()
        started: Future[tuple[int, Callable[[], object]]] = Future()
        self._thread = threading.Thread(
            target=lambda: asyncio.run(self._serve(started)), name="gateway on loopback"
        )
        self._thread.start()
        self.port, self._stop = started.result(DEADLINE)
        self.url = f"http://127.0.0.1:{self.port}/v1"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._stop()
        self._thread.join()

    @property
    def request(self) -> Seen:
        """
        The request that came; there was exactly one.
        """
        (request,) = self.requests
        return request

    @property
    def open_connections(self) -> int:
        """
        How many connections are open now.
        """
        return len(self._numbers)

    @property
    def unplayed(self) -> int:
        """
        How many queued replies nobody asked for.
        """
        return len(self._replies)

    def reply(
        self,
        body: Any = None,
        status: int = 200,
        headers: Mapping[str, str] | None = None,
        *,
        before: Gate | None = None,
    ) -> None:
        """
        Queue a whole answer: *body* as JSON, or as it is where it is `bytes` or `str`.

        Nothing stands for a completion. *before* holds the whole answer back, its head too.
        """
        if body is None:
            body = completion()
        content_type = "text/plain" if isinstance(body, (bytes, str)) else "application/json"
        if isinstance(body, str):
            body = body.encode()
        elif not isinstance(body, bytes):
            body = json.dumps(body).encode()
        head = {"Content-Type": content_type, "Content-Length": str(len(body)), **(headers or {})}
        self._replies.append(Reply([body], status, head, before))

    def stream(
        self,
        *steps: Step,
        status: int = 200,
        headers: Mapping[str, str] | None = None,
        before: Gate | None = None,
    ) -> None:
        """
        Queue an event stream that plays *steps*; *before* holds it back, its head too.
        """
        head = {
            "Content-Type": "text/event-stream",
            "Cache-Control": "no-store",
            **(headers or {}),
        }
        self._replies.append(Reply(steps, status, head, before))

    # From here on all runs in the gateway's own thread.

    async def _serve(self, started: Future[tuple[int, Callable[[], object]]]) -> None:
        stopped = asyncio.Event()
        loop = asyncio.get_running_loop()
        runner = web.ServerRunner(_Server(self), shutdown_timeout=DEADLINE)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        started.set_result((runner.addresses[0][1], lambda: loop.call_soon_threadsafe(stopped.set)))
        await stopped.wait()
        # Scripts may wait for ever at a gate; without their connections they end.
        assert runner.server is not None
        for handler in runner.server.connections:
            if handler.transport is not None:
                handler.transport.abort()
        await runner.cleanup()

    async def _answer(self, request: web.BaseRequest) -> web.StreamResponse:
        seen = Seen(
            request.method,
            request.path,
            dict(request.query),
            request.headers,
            await request.read(),
            self._numbers.get(request.protocol, 0),
        )
        self.requests.append(seen)
        self._under_way += 1
        try:
            if self.places is None:
                reply = self._replies.popleft() if self._replies else _echo(seen)
            elif self._under_way > self.places:
                reply = Reply([], 429, {}, None)
            else:
                await asyncio.sleep(0.002)
                reply = _echo(seen)
            response = await _play(reply, seen, request)
        except (asyncio.CancelledError, ConnectionError):
            seen.outcome = "disconnected"
            raise
        except BaseException as error:
            self.failures.append(error)
            raise
        finally:
            self._under_way -= 1
        seen.outcome = "answered"
        return response


class _Server(web.Server):
    """
    aiohttp's server, which tells the gateway of its connections.
    """

    def __init__(self, gateway: Gateway) -> None:
        # A lost connection cancels its handler, so that a script at a gate ends with it.
        super().__init__(gateway._answer, handler_cancellation=True, access_log=None)
        self._gateway = gateway

    def connection_made(self, handler: web.RequestHandler, transport: asyncio.Transport) -> None:
        super().connection_made(handler, transport)
        self._gateway.connections += 1
        self._gateway._numbers[handler] = self._gateway.connections

    def connection_lost(
        self, handler: web.RequestHandler, exc: BaseException | None = None
    ) -> None:
        super().connection_lost(handler, exc)
        self._gateway._numbers.pop(handler, None)


async def _play(reply: Reply, seen: Seen, request: web.BaseRequest) -> web.StreamResponse:
    """
    The *request* was answered as *reply* says.
    """
    transport = request.transport
    if transport is None:
        raise ConnectionResetError
    if reply.before is not None:
        await _pass(reply.before)
    response = web.StreamResponse(status=reply.status, headers=reply.headers)
    await response.prepare(request)
    for step in reply.steps:
        if isinstance(step, Gate):
            await _pass(step)
        elif isinstance(step, Ending):
            if step is RESET:
                _reset_when_closed(transport.get_extra_info("socket"))
                transport.abort()
            else:
                transport.close()
            await asyncio.Event().wait()  # the lost connection cancels this
        else:
            for piece in _pieces(step):
                await response.write(piece)
                seen.sent += len(piece)
                await asyncio.sleep(_pause(step))
    await response.write_eof()
    return response


async def _pass(gate: Gate) -> None:
    gate.reached.set()
    # Shielded, since a script that is cancelled here must not take the gate from others.
    await asyncio.shield(asyncio.wrap_future(gate.passage))


def _echo(seen: Seen) -> Reply:
    """
    The last message comes back: whole, or word by word in a stream.
    """
    text = seen.json["messages"][-1]["content"]
    if not isinstance(text, str):
        text = "".join(part.get("text", "") for part in text)
    if seen.json.get("stream"):
        words = [word + " " for word in text.split(" ")]
        words[-1] = words[-1][:-1]
        return Reply(story(*words), 200, {"Content-Type": "text/event-stream"}, None)
    body = json.dumps(completion(text)).encode()
    head = {"Content-Type": "application/json", "Content-Length": str(len(body))}
    return Reply([body], 200, head, None)


# The raw server.


class Read(Enum):
    """
    The step of a `RawServer` that reads one request, its body included.
    """

    READ = "read one request"


READ = Read.READ


@dataclass(frozen=True)
class SlowRead:
    """
    Reads one request in pieces of *size* bytes, *pause* seconds apart.
    """

    size: int
    pause: float


RawStep = Step | Read | SlowRead


def head(status: str = "200 OK", **headers: object) -> bytes:
    """
    The first lines of an HTTP answer: *status*, *headers* (`_` stands for `-`) and a blank line.
    """
    lines = [f"HTTP/1.1 {status}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode()


def chunked(*pieces: bytes, end: bool = True) -> bytes:
    """
    The *pieces* in chunked transfer coding, with its terminator only if *end* is set.
    """
    coded = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces)
    return coded + b"0\r\n\r\n" if end else coded


class RawConnection:
    """
    One connection to a `RawServer`: what came on it, what went out, and whether it is over.
    """

    def __init__(self) -> None:
        self.received = b""
        self.sent = 0
        self.over = False


class RawServer:
    """
    The first connection to a raw server plays the first script, the second the second, and so on.

    The last script serves all further connections. A script that came to its end closes its own.
    """

    def __init__(self) -> None:
        self.connections: list[RawConnection] = []
        self.failures: list[BaseException] = []
        self._scripts: list[Sequence[RawStep]] = []
        self._stopped: Future[None] = Future()
        self._open: set[socket.socket] = set()
        self._threads: list[threading.Thread] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}/v1"
        self._start(self._accept)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._stopped.set_result(None)
        # A socket that is shut down wakes the thread that waits on it; one that is closed doesn't.
        for sock in [self._listener, *self._open]:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join()
        self._listener.close()

    def script(self, *steps: RawStep) -> None:
        """
        Write down the *steps* for the next connection that has none.
        """
        self._scripts.append(steps)

    def _start(self, target: Callable[..., object], *args: object) -> None:
        thread = threading.Thread(target=target, args=args, name="raw server on loopback")
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while True:
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            connection = RawConnection()
            self.connections.append(connection)
            self._open.add(sock)
            self._start(self._play, sock, connection, self._scripts[: len(self.connections)][-1])

    def _play(
        self, sock: socket.socket, connection: RawConnection, script: Sequence[RawStep]
    ) -> None:
        try:
            with sock:
                for step in script:
                    self._step(sock, connection, step)
        except OSError:
            pass  # the client, or the end of the test, was quicker than the script
        except BaseException as error:
            self.failures.append(error)
            raise
        finally:
            self._open.discard(sock)
            connection.over = True

    def _step(self, sock: socket.socket, connection: RawConnection, step: RawStep) -> None:
        if isinstance(step, Read):
            connection.received += _read_request(sock)
        elif isinstance(step, SlowRead):
            connection.received += _read_request(sock, step.size, step.pause)
        elif isinstance(step, Gate):
            step.reached.set()
            wait_for_first([step.passage, self._stopped], return_when=FIRST_COMPLETED)
        elif isinstance(step, Ending):
            if step is RESET:
                _reset_when_closed(sock)
            sock.close()
        else:
            for piece in _pieces(step):
                sock.sendall(piece)
                connection.sent += len(piece)
                time.sleep(_pause(step))


def _read_request(sock: socket.socket, size: int = 65536, pause: float = 0.0) -> bytes:
    """
    The bytes of one request that says how long its body is.
    """
    received = bytearray()
    while True:
        end = received.find(b"\r\n\r\n")
        if end >= 0:
            lines = received[:end].lower().split(b"\r\n")
            lengths = [line[15:] for line in lines if line.startswith(b"content-length:")]
            if len(received) >= end + 4 + sum(map(int, lengths)):
                return bytes(received)
        time.sleep(pause)
        data = sock.recv(size)
        if not data:
            raise ConnectionResetError
        received += data


@contextlib.contextmanager
def full_house() -> Iterator[str]:
    """
    A base URL that nobody accepts connections on, and whose queue of waiting ones is full.
    """
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.socket())
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        address = listener.getsockname()
        # Two fill the queue on Linux; more do no harm.
        for _ in range(4):
            guest = stack.enter_context(socket.socket())
            guest.setblocking(False)
            guest.connect_ex(address)
        yield f"http://127.0.0.1:{address[1]}/v1"
