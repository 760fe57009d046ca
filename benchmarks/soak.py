"""
Minutes of everything at once against a server that misbehaves: is each answer the right one, and is
nothing left behind?

    python benchmarks/soak.py [minutes]

Both clients ask at the same time, from tasks and from threads; calls are cancelled, streams are
left early or dropped, clients closed while they work, the process forks. The server, a process of
its own, resets, stalls, drips, truncates and lies. Each request has a text of its own, and its
answer is made from it, so an answer that came to the wrong caller shows.

Prints what happened, and ends with status 1 if anything was wrong.
"""

from __future__ import annotations

import argparse
import asyncio
import collections
import contextlib
import ctypes
import faulthandler
import gc
import gzip
import itertools
import json
import logging
import os
import random
import re
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
import traceback
import warnings
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aistats
from aistats import RetryPolicy, Timeout

WARM_UP = 10.0  # seconds
LATE = 5.0  # seconds beyond its `total` that a call may take on a busy machine
HUNG = 60.0
GROWTH = 16.0  # MiB
SHOWN = 20  # of what was not as it should be

PATIENT = Timeout(connect=60, idle=60, total=120)
SHORT_IDLE = Timeout(connect=60, idle=0.3, total=120)
SHORT_TOTAL = Timeout(connect=60, idle=60, total=0.5)


# What the server does. It tells a request's kind by its `model`, and makes the answer from its
# text.


def words(text: str) -> list[str]:
    """
    The answer to *text*, in the pieces in which a stream brings it.
    """
    return [f"{text}:{number} " for number in range(1 + zlib.crc32(text.encode()) % 40)]


CLOSE, RESET = "close", "reset"
Step = bytes | float | str  # to write, to wait for so many seconds, to end by
Play = Callable[[str], Iterator[Step]]


@dataclass(frozen=True)
class Kind:
    """
    What becomes of a request.
    """

    play: Play
    """The answer."""
    ends: tuple[type[aistats.AIStatsError], ...] = ()
    """What the caller may get in place of the answer; if nothing, only the answer is right."""
    is_stream: bool = False
    is_cut: bool = False
    """Whether the answer never is whole, so that the caller must not take it for that."""
    is_once: bool = False
    """Whether it goes wrong the first time only; then the answer comes."""
    timeout: Timeout = PATIENT


def head(status: str = "200 OK", **headers: object) -> bytes:
    """
    The head of an answer.
    """
    lines = [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join([f"HTTP/1.1 {status}", *lines, "", ""]).encode()


def body(text: str) -> bytes:
    """
    The whole answer, as JSON.
    """
    message = {"role": "assistant", "content": "".join(words(text))}
    choice = {"index": 0, "finish_reason": "stop", "message": message}
    answer = {"id": f"id-{text}", "object": "chat.completion", "model": "m", "choices": [choice]}
    return json.dumps({**answer, "created": 1787400000}).encode()


def whole(text: str) -> Iterator[Step]:
    """
    A good answer.
    """
    answer = body(text)
    yield head(Content_Type="application/json", Content_Length=len(answer)) + answer


def packed(text: str) -> Iterator[Step]:
    """
    A good answer, compressed, in two pieces.
    """
    answer = gzip.compress(body(text), 1)
    headers = {"Content_Encoding": "gzip", "Content_Length": len(answer)}
    yield head(Content_Type="application/json", **headers) + answer[:20]
    yield 0.002
    yield answer[20:]


def frame(data: bytes) -> bytes:
    """
    One event as one HTTP chunk.
    """
    event = b"data: " + data + b"\n\n"
    return b"%x\r\n%b\r\n" % (len(event), event)


def chunk(text: str, delta: object, finish_reason: str | None = None) -> bytes:
    """
    One frame of a stream.
    """
    choice = {"index": 0, "delta": delta, "finish_reason": finish_reason}
    frame_ = {"id": f"id-{text}", "object": "chat.completion.chunk", "choices": [choice]}
    return frame(json.dumps({**frame_, "created": 1787400000, "model": "m"}).encode())


STREAM = head(Content_Type="text/event-stream", Transfer_Encoding="chunked")
DONE = frame(b"[DONE]")
END = b"0\r\n\r\n"


def begun(text: str) -> Iterator[Step]:
    """
    The first half of a stream.
    """
    yield STREAM + chunk(text, {"role": "assistant", "content": ""})
    parts = words(text)
    for word in parts[: len(parts) // 2]:
        yield chunk(text, {"content": word})


def streamed(text: str, *end: Step, pause: float = 0.0) -> Iterator[Step]:
    """
    A good stream; *end* is what comes in place of `[DONE]` and the end of the body.
    """
    yield from begun(text)
    parts = words(text)
    for word in parts[len(parts) // 2 :]:
        yield chunk(text, {"content": word})
        yield pause
    yield chunk(text, {}, "stop")
    yield from end or [DONE + END]


def then(*steps: Step) -> Play:
    """
    Half a stream, then the *steps*.
    """
    return lambda text: itertools.chain(begun(text), steps)


def status(line: str, **headers: object) -> Play:
    """
    An error of the gateway.
    """
    error = json.dumps({"error": {"code": "soak", "message": "as asked for"}}).encode()
    headers = {"Content_Type": "application/json", "Content_Length": len(error), **headers}
    return lambda _: iter([head(line, **headers) + error])


def plain(*steps: Step) -> Play:
    """
    The *steps*, whatever the request.
    """
    return lambda _: iter(steps)


def dripping(text: str) -> Iterator[Step]:
    """
    An answer that takes for ever.
    """
    yield head(Content_Type="application/json", Content_Length=10_000_000)
    yield from itertools.cycle([b" ", 0.02])


def truncated(text: str) -> Iterator[Step]:
    """
    Half an answer, then the connection's end.
    """
    answer = body(text)
    yield head(Content_Type="application/json", Content_Length=len(answer))
    yield answer[: len(answer) // 2]
    yield CLOSE


def for_ever(steps: list[Step]) -> Play:
    """
    Half a stream, then the *steps* again and again.
    """
    return lambda text: itertools.chain(begun(text), itertools.cycle(steps))


LOST = (aistats.APIConnectionError,)
CUT = (aistats.StreamInterruptedError,)
LATE_ERROR = (aistats.APITimeoutError,)
BAD = (aistats.APIResponseError,)
DOWN = (aistats.InternalServerError,)
QUICK = {"retry_after_ms": 5}
HTML = b"<html><title>Log in</title></html>"

KINDS: dict[str, Kind] = {
    "good": Kind(whole),
    "packed": Kind(packed),
    "closed after it": Kind(lambda text: itertools.chain(whole(text), [0.001, CLOSE])),
    # Trying again may use up the tries, or the budget of them, on kept connections that are lost.
    "429 once": Kind(status("429 Slow", **QUICK), (aistats.RateLimitError, *LOST), is_once=True),
    "500 once": Kind(status("500 Oops", **QUICK), (*DOWN, *LOST), is_once=True),
    "502 once": Kind(status("502 Oops", **QUICK), (*DOWN, *LOST), is_once=True),
    "closed once": Kind(plain(CLOSE), LOST, is_once=True),
    "reset once": Kind(plain(RESET), LOST, is_once=True),
    "reset in the head once": Kind(plain(b"HTTP/1.1 200 O", RESET), LOST, is_once=True),
    "400": Kind(status("400 Bad"), (aistats.BadRequestError,)),
    "truncated": Kind(truncated, LOST, is_cut=True),
    "stalled": Kind(plain(float(HUNG)), LATE_ERROR, timeout=SHORT_IDLE),
    "stalled in the body": Kind(
        plain(head(Content_Length=99, Content_Type="application/json"), b"{", HUNG),
        LATE_ERROR,
        timeout=SHORT_IDLE,
    ),
    "dripping": Kind(dripping, LATE_ERROR, timeout=SHORT_TOTAL),
    "half an object": Kind(
        plain(head(Content_Type="application/json", Content_Length=2) + b'{"'), BAD
    ),
    "login page": Kind(plain(head(Content_Type="text/html", Content_Length=len(HTML)) + HTML), BAD),
    "not packed": Kind(plain(head(Content_Encoding="gzip", Content_Length=len(HTML)) + HTML), BAD),
    "not HTTP": Kind(plain(b"SSH-2.0-OpenSSH\r\n", CLOSE), BAD),
    "good stream": Kind(streamed, is_stream=True),
    "slow stream": Kind(lambda text: streamed(text, pause=0.005), is_stream=True),
    "stream without [DONE]": Kind(lambda text: streamed(text, END), is_stream=True),
    "stream that goes on after [DONE]": Kind(
        lambda text: streamed(text, DONE, HUNG), is_stream=True
    ),
    "stream, 500 once": Kind(
        status("500 Oops", **QUICK), (*DOWN, *LOST), is_stream=True, is_once=True
    ),
    "stream, reset once": Kind(plain(STREAM, RESET), LOST, is_stream=True, is_once=True),
    "stream, ended": Kind(then(END), CUT, is_stream=True, is_cut=True),
    "stream, closed": Kind(then(CLOSE), CUT, is_stream=True, is_cut=True),
    "stream, reset": Kind(then(0.005, RESET), (*CUT, *LOST), is_stream=True, is_cut=True),
    "stream, cut in an event": Kind(
        then(b'9\r\ndata: {"i\r\n', END), CUT, is_stream=True, is_cut=True
    ),
    "stream, no JSON": Kind(
        then(frame(b'{"id": oops}')), (aistats.StreamError,), is_stream=True, is_cut=True
    ),
    "stream, no UTF-8": Kind(
        then(frame(b'{"id": "\xff\xfe"}')), (aistats.StreamError,), is_stream=True, is_cut=True
    ),
    "stream, error": Kind(
        then(frame(b'{"error": {"code": "soak", "message": "as asked for"}}'), END),
        (aistats.StreamErrorEvent,),
        is_stream=True,
        is_cut=True,
    ),
    "stream, stalled": Kind(
        then(HUNG), LATE_ERROR, is_stream=True, is_cut=True, timeout=SHORT_IDLE
    ),
    "stream, only comments": Kind(
        for_ever([b"6\r\n: on\n\n\r\n", 0.02]),
        LATE_ERROR,
        is_stream=True,
        is_cut=True,
        timeout=SHORT_IDLE,
    ),
    "stream, dripping": Kind(
        for_ever([b"1\r\n:\r\n", 0.02]),
        LATE_ERROR,
        is_stream=True,
        is_cut=True,
        timeout=SHORT_TOTAL,
    ),
}


class Server:
    """
    Plays what the requests ask for, and counts those that came twice and should not have.
    """

    def __init__(self) -> None:
        self._failed_once: set[str] = set()
        self._answered: collections.Counter[str] = collections.Counter()
        self._requests = 0

    async def serve(self) -> None:
        """
        Print the port, serve until the standard input ends, and print what was seen.
        """
        server = await asyncio.start_server(self._connected, "127.0.0.1", 0, backlog=4096)
        print(server.sockets[0].getsockname()[1], flush=True)
        await asyncio.to_thread(sys.stdin.read)
        twice = [text for text, times in self._answered.items() if times > 1]
        print(json.dumps({"requests": self._requests, "twice": twice}), flush=True)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            ends = (OSError, asyncio.IncompleteReadError, asyncio.CancelledError)
            with contextlib.suppress(*ends):
                while await self._answer(reader, writer):
                    pass
        finally:
            writer.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head_ = await reader.readuntil(b"\r\n\r\n")
        length = re.search(rb"\r\ncontent-length: *(\d+)", head_, re.IGNORECASE)
        assert length is not None
        request = json.loads(await reader.readexactly(int(length[1])))
        self._requests += 1
        kind = KINDS[request["model"]]
        text = request["messages"][-1]["content"]
        play = kind.play
        if kind.is_once and text in self._failed_once:
            self._failed_once.remove(text)
            play = streamed if kind.is_stream else whole
        elif kind.is_once:
            self._failed_once.add(text)
        elif not kind.ends:
            self._answered[text] += 1
        # Read on meanwhile, so that a caller who goes away ends the answer.
        gone = asyncio.ensure_future(reader.read(1))
        try:
            for step in play(text):
                if isinstance(step, bytes):
                    writer.write(step)
                    await writer.drain()
                elif isinstance(step, float | int):
                    await asyncio.wait([gone], timeout=step)
                else:
                    if step is RESET:
                        linger = struct.pack("ii", 1, 0)
                        writer.get_extra_info("socket").setsockopt(
                            socket.SOL_SOCKET, socket.SO_LINGER, linger
                        )
                        writer.transport.abort()
                    return False
                if gone.done():
                    return False
            return True
        finally:
            gone.cancel()
            await asyncio.wait([gone])


# What the callers do.


@dataclass
class Tally:
    """
    What has happened, and what was wrong.
    """

    calls: int = 0
    ends: collections.Counter[str] = field(default_factory=collections.Counter)
    faults: int = 0
    """Faults that ended as they should: in the answer after all, or in the right error."""
    cut_for_whole: int = 0
    wrong_answers: int = 0
    unexpected: list[str] = field(default_factory=list)
    latest: float = 0.0
    """Seconds beyond its `total` that the slowest call took."""
    forks: int = 0
    begun: dict[int, tuple[float, str]] = field(default_factory=dict)
    """The calls of threads that go on, by thread: when they began, and what they are."""

    def add(self, other: dict[str, Any]) -> None:
        """
        What a child has counted.
        """
        self.ends.update(other.pop("ends"))
        self.latest = max(self.latest, other.pop("latest"))
        for name, value in other.items():
            setattr(self, name, getattr(self, name) + value)

    def as_dict(self) -> dict[str, Any]:
        """
        What a child tells its parent.
        """
        return {name: value for name, value in vars(self).items() if name not in ("begun", "forks")}

    def oddity(self, what: str) -> None:
        """
        Something was not as it should be.
        """
        self.unexpected.append(what)
        if len(self.unexpected) <= SHOWN:
            print("UNEXPECTED", what, flush=True)


class Complaints(logging.Handler):
    """
    What asyncio and aiohttp complain of, as of what was left open, is not as it should be.
    """

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.tally = Tally()

    def emit(self, record: logging.LogRecord) -> None:
        """
        The *record* is noted.
        """
        self.tally.oddity(self.format(record))


COMPLAINTS = Complaints()


@dataclass
class Asked:
    """
    One call: what is asked for, and the judge of how it ends.
    """

    tally: Tally
    name: str
    text: str
    leave_after: int | None
    """After how many chunks the stream is left."""
    begin: float = field(default_factory=time.monotonic)

    @property
    def kind(self) -> Kind:
        """
        What the server does with it.
        """
        return KINDS[self.name]

    @property
    def request(self) -> Any:
        """
        The request.
        """
        return {"model": self.name, "messages": self.text}

    def is_left(self, number: int, texts: list[str]) -> bool:
        """
        Whether the caller leaves its stream now.
        """
        if number != self.leave_after:
            return False
        self.ended("left", texts="".join(texts))
        return True

    def ended(self, how: str, *, texts: str = "") -> None:
        """
        The caller did not stay to the end; what it got is right as far as it goes.
        """
        if not self._expected.startswith(texts):
            self.tally.wrong_answers += 1
            self.tally.oddity(f"{self.name}: {texts!r} for {self.text}")
        self._count(how)

    def answered(self, answer: Any) -> None:
        """
        The *answer* came.
        """
        if self.kind.is_cut:
            self.tally.cut_for_whole += 1
            self.tally.oddity(f"{self.name}: taken for whole: {answer}")
        elif answer.text != self._expected:
            self.tally.wrong_answers += 1
            self.tally.oddity(f"{self.name}: {answer.text!r} for {self.text}")
        elif self.kind.ends and not self.kind.is_once:
            self.tally.oddity(f"{self.name}: answered")
        elif self.kind.is_once:
            self.tally.faults += 1
        self._count("answered after a retry" if len(answer.attempts) > 1 else "answered")

    def failed(self, error: BaseException, *, may_fail: bool = False) -> None:
        """
        The call ended in *error*. If it *may_fail*, any of the package's errors is right.
        """
        allowed = (aistats.AIStatsError,) if may_fail else self.kind.ends
        partial = getattr(error, "partial", None)
        if not isinstance(error, allowed):
            trace = "".join(traceback.format_exception(error))
            self.tally.oddity(f"{self.name}: {type(error).__name__}: {error}\n{trace}")
        elif partial is not None and not self._expected.startswith(partial.text):
            self.tally.wrong_answers += 1
            self.tally.oddity(f"{self.name}: {partial.text!r} in the error for {self.text}")
        else:
            self.tally.faults += 1
        self._count(type(error).__name__)

    @property
    def _expected(self) -> str:
        return "".join(words(self.text))

    def _count(self, how: str) -> None:
        tally = self.tally
        tally.calls += 1
        tally.ends[how] += 1
        total = self.kind.timeout.total
        assert total is not None
        tally.latest = max(tally.latest, time.monotonic() - self.begin - total)


class Callers:
    """
    All who call for a while, with two clients that they share.
    """

    def __init__(self, url: str, tally: Tally, seconds: float, seed: int) -> None:
        self._options: dict[str, Any] = {
            "api_key": "sk-soak",
            "base_url": url,
            "max_retries": RetryPolicy(max_retries=2, base=0.01),
            "max_connections": 50,
        }
        self._tally = tally
        self._end = time.monotonic() + seconds
        self._seed = seed
        self._sync = aistats.Client(**self._options)
        self._async = aistats.AsyncClient(**self._options)

    async def run(self) -> None:
        """
        They call until their time is over.
        """
        threads = [
            threading.Thread(target=target, args=(f"{target.__name__}{number}",))
            for target, count in ((self._thread, 8), (self._short_life, 2), (self._fork, 1))
            for number in range(count)
        ]
        for thread in threads:
            thread.start()
        await asyncio.gather(*(self._task(f"task{number}") for number in range(20)))
        while any(thread.is_alive() for thread in threads):  # noqa: ASYNC110  # threads set no event
            await asyncio.sleep(0.05)
        await self._async.aclose()
        self._sync.close()

    def _orders(self, who: str) -> Iterator[tuple[Asked, random.Random]]:
        rng = random.Random(f"{self._seed} {who}")
        for number in itertools.count():
            if time.monotonic() > self._end:
                return
            yield self._asked(rng, f"{self._seed}-{os.getpid()}-{who}-{number}"), rng

    def _asked(self, rng: random.Random, text: str) -> Asked:
        # As many good ones as bad ones.
        good = rng.random() < 0.5
        name = rng.choice([name for name, kind in KINDS.items() if good == (not kind.ends)])
        leave_after = rng.randrange(20) if rng.random() < 0.2 else None
        return Asked(self._tally, name, text, leave_after)

    async def _task(self, who: str) -> None:
        for asked, rng in self._orders(who):
            if rng.random() < 0.25:
                await self._cancelled(asked, rng.choice([0, 0.001, 0.005, 0.02, 0.1]))
            else:
                await self._async_call(self._async, asked)

    async def _cancelled(self, asked: Asked, after: float) -> None:
        task = asyncio.ensure_future(self._async_call(self._async, asked))
        await asyncio.sleep(after)
        task.cancel()
        begin = time.monotonic()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        if task.cancelled():
            asked.ended("cancelled")
        if time.monotonic() - begin > LATE:
            asked.tally.oddity(f"{asked.name}: cancelled, and went on")

    async def _async_call(self, client: aistats.AsyncClient, asked: Asked) -> None:
        # `wait_for` would hide a call that does not end when it is cancelled; this one reports it.
        watch = asyncio.get_running_loop().call_later(
            asked.kind.timeout.total + HUNG, asked.tally.oddity, f"{asked.name}: hangs"
        )
        try:
            if not asked.kind.is_stream:
                options = {"timeout": asked.kind.timeout}
                asked.answered(await client.generate_text(asked.request, **options))
                return
            stream = client.stream_text(asked.request, timeout=asked.kind.timeout)
            texts: list[str] = []
            number = 0
            async for each in stream:
                texts.append(each.text)
                if asked.is_left(number, texts):
                    return  # the stream is dropped as it is
                number += 1
            asked.answered(await stream.final_response())
        except Exception as error:
            asked.failed(error)
        finally:
            watch.cancel()

    def _thread(self, who: str) -> None:
        for asked, _ in self._orders(who):
            self._sync_call(self._sync, asked)

    def _sync_call(self, client: aistats.Client, asked: Asked, *, may_fail: bool = False) -> None:
        self._tally.begun[threading.get_ident()] = asked.begin, asked.name
        try:
            if not asked.kind.is_stream:
                asked.answered(client.generate_text(asked.request, timeout=asked.kind.timeout))
                return
            with contextlib.ExitStack() as stack:
                stream = client.stream_text(asked.request, timeout=asked.kind.timeout)
                if zlib.crc32(asked.text.encode()) % 2:
                    stack.enter_context(stream)
                texts: list[str] = []
                for number, each in enumerate(stream):
                    texts.append(each.text)
                    if asked.is_left(number, texts):
                        return
                asked.answered(stream.final_response())
        except Exception as error:
            asked.failed(error, may_fail=may_fail)
        finally:
            del self._tally.begun[threading.get_ident()]

    def _short_life(self, who: str) -> None:
        # Clients of one call each; some are closed while they work.
        for asked, rng in self._orders(who):
            if rng.random() < 0.5:
                client = aistats.Client(**self._options)
                closer = threading.Timer(rng.choice([0, 0.01, 0.1]), client.close)
                is_closed = rng.random() < 0.3
                if is_closed:
                    closer.start()
                self._sync_call(client, asked, may_fail=is_closed)
                if is_closed:
                    closer.join()
            else:
                asyncio.run(self._async_call(aistats.AsyncClient(**self._options), asked))

    def _fork(self, who: str) -> None:
        for number in itertools.count():
            if time.monotonic() > self._end:
                return
            reading, writing = os.pipe()
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", DeprecationWarning)  # of threads: that is the point
                pid = os.fork()
            if pid == 0:
                with open(writing, "w") as out:  # noqa: PTH123  # a descriptor
                    self._child(f"{who}-{number}", out)
                os._exit(0)
            os.close(writing)
            with open(reading) as report:  # noqa: PTH123  # a descriptor
                told = report.read()
            _, ended = os.waitpid(pid, 0)
            if told:
                self._tally.add(json.loads(told))
            if ended != 0 or not told:
                self._tally.oddity(f"a child ended with {ended}: {told}")
            self._tally.forks += 1
            time.sleep(0.5)

    def _child(self, who: str, out: Any) -> None:
        try:
            signal.alarm(int(2 * HUNG))
            faulthandler.dump_traceback_later(HUNG)
            self._tally = COMPLAINTS.tally = Tally()
            rng = random.Random(f"{self._seed} {who}")
            orders = [self._asked(rng, f"{who}-{os.getpid()}-{number}") for number in range(20)]
            for asked in orders[:10]:
                asked.begin = time.monotonic()
                self._sync_call(self._sync, asked)

            async def together() -> None:
                for asked in orders[10:]:
                    asked.begin = time.monotonic()
                await asyncio.gather(
                    *(self._async_call(self._async, asked) for asked in orders[10:])
                )

            asyncio.run(together())
            json.dump(self._tally.as_dict(), out)
        except BaseException:
            traceback.print_exc()
            os._exit(1)


# What is left behind.


@dataclass(frozen=True)
class Held:
    """
    What the process holds.
    """

    files: int
    tasks: int
    threads: int
    blocks: int
    """Pieces of memory that Python has given out."""
    memory: float
    """MiB that the system counts, what is free for reuse among it."""

    @classmethod
    def now(cls) -> Held:
        """
        What it holds now, in a loop.
        """
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        return cls(
            len(list(Path("/proc/self/fd").iterdir())),
            len(asyncio.all_tasks()),
            threading.active_count(),
            sys.getallocatedblocks(),
            pages * os.sysconf("SC_PAGE_SIZE") / 2**20,
        )

    @classmethod
    async def at_rest(cls) -> Held:
        """
        What it holds once all that goes away has gone.
        """
        for _ in range(50):
            gc.collect()
            await asyncio.sleep(0.02)
        with contextlib.suppress(AttributeError, OSError):
            ctypes.CDLL(None).malloc_trim(0)  # what glibc keeps for reuse goes back to the system
        return cls.now()


async def watch(tally: Tally, begin: float) -> None:
    """
    A line each minute, and the end of all if a thread's call hangs.
    """
    for minute in itertools.count(1):
        while time.monotonic() < begin + 60 * minute:
            await asyncio.sleep(1)
            for since, name in list(tally.begun.values()):
                if time.monotonic() - since > (KINDS[name].timeout.total or 0) + HUNG:
                    tally.oddity(f"{name}: hangs in a thread")
                    faulthandler.dump_traceback()
                    os._exit(1)
        print(f"minute {minute}: {tally.calls} calls, {Held.now()}", flush=True)


async def soak(url: str, minutes: float, seed: int) -> tuple[Tally, Held, Held]:
    """
    What happened in so many *minutes*, and what was held before and after.
    """
    tally = COMPLAINTS.tally
    for name in ("asyncio", "aiohttp"):
        logging.getLogger(name).addHandler(COMPLAINTS)
    await Callers(url, tally, WARM_UP, seed).run()
    before = await Held.at_rest()
    watching = asyncio.ensure_future(watch(tally, time.monotonic()))
    await Callers(url, tally, minutes * 60, seed + 1).run()
    watching.cancel()
    await asyncio.wait([watching])
    return tally, before, await Held.at_rest()


def main() -> None:
    """
    Soak, print what came of it, and end with status 1 if anything was wrong.
    """
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("minutes", type=float, nargs="?", default=10.0)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        asyncio.run(Server().serve())
        return
    with subprocess.Popen(
        [sys.executable, __file__, "--serve"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as server:
        assert server.stdout is not None
        url = f"http://127.0.0.1:{int(server.stdout.readline())}/v1"
        tally, before, after = asyncio.run(soak(url, options.minutes, options.seed))
        seen = json.loads(server.communicate("")[0])
    print(f"{options.minutes:g} minutes, seed {options.seed}")
    sys.exit(not report(tally, before, after, seen))


def report(tally: Tally, before: Held, after: Held, seen: dict[str, Any]) -> bool:
    """
    Print what came of it; whether all was well.
    """
    counts = {
        "calls": tally.calls,
        "requests that the server saw": seen["requests"],
        "forks": tally.forks,
        "faults survived": tally.faults,
        "cut streams taken for whole": tally.cut_for_whole,
        "wrong answers": tally.wrong_answers,
        "requests sent twice": len(seen["twice"]),
        "unexpected ends": len(tally.unexpected),
        "seconds of the slowest call beyond its total": f"{max(0.0, tally.latest):.2f}",
    }
    for name, value in counts.items():
        print(f"{name}: {value}")
    print("how calls ended:", ", ".join(f"{how} {n}" for how, n in tally.ends.most_common()))
    for name in ("files", "tasks", "threads", "blocks", "memory"):
        begin, end = getattr(before, name), getattr(after, name)
        print(f"{name}: {begin:.0f} at the start, {end:.0f} at the end")
    is_same = all(
        getattr(after, name) <= getattr(before, name) for name in ("files", "tasks", "threads")
    )
    return (
        is_same
        and after.blocks < 1.05 * before.blocks
        and after.memory - before.memory < GROWTH
        and tally.latest < LATE
        and not (tally.unexpected or seen["twice"])
    )


if __name__ == "__main__":
    main()
