"""
An answer as it comes in over aiohttp, until nobody reads it any more.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from typing import Any, NoReturn

import aiohttp

from .._errors import ConfigurationError
from .._options import Timeout
from .deadlines import Deadline
from .failures import given_up, translated

__all__ = ("Response",)


class Response:
    """
    One answer, whose body is read as it comes.

    Whoever drops it without closing it closes its connection, from whatever thread.
    """

    def __init__(
        self,
        raw: aiohttp.ClientResponse,
        host: str,
        timeout: Timeout,
        deadline: Deadline,
    ) -> None:
        self.status = raw.status
        self.raw_headers = raw.raw_headers
        self._raw = raw
        self.host = host
        self._timeout = timeout
        self._loop = asyncio.get_running_loop()
        self._deadline = deadline
        self._failure: Exception | None = None
        self._reading = _Reading(raw, deadline)
        self._is_open = True
        self._pid = os.getpid()

    @property
    def content_type(self) -> str:
        """
        What kind of body it has, without parameters.
        """
        return self._raw.content_type

    @property
    def charset(self) -> str | None:
        """
        Encoding of the body that the header `Content-Type` names, if it names one.
        """
        return self._raw.charset

    async def receive(self, *, silence: float = 0.0) -> bytes:
        """
        All bytes that are ready, at least one; `b""` at the end of the body.

        Args:
            silence: Seconds in which nothing came that says something; they count for the limit.

        Raises:
            APIConnectionError: The connection was lost, or a limit ran out.
            ConfigurationError: The client was closed, or this is a forked child of the process that
                asked.
        """
        if os.getpid() != self._pid:
            raise ConfigurationError(
                "This answer is read by the process that this one was forked from; ask anew here."
            )
        if self._failure is not None:
            self._fail()
        content = self._raw.content
        self._deadline.want(silence=silence)
        if content.exception() is None:
            # What is there already is not waited for. A whole answer mostly comes with its headers.
            if ready := content.read_nowait():
                return ready
            if content.at_eof():
                return b""
        self._deadline.wait()
        try:
            return await content.readany()
        except (TimeoutError, aiohttp.ClientError, OSError, RuntimeError) as error:
            if isinstance(error, RuntimeError):  # the connection was closed under the reader
                error = aiohttp.ServerDisconnectedError()
            if self._deadline.expired == "idle":
                phase = "waiting for the next event or bytes"
            else:
                phase = "reading the answer"
            if self._deadline.expired:
                self._failure = given_up(self._deadline, self.host, self._timeout, phase)
            else:
                self._failure = translated(error, self.host, self._timeout, phase)
        except BaseException:
            # Cancelled: what is left of the answer is of no use to anybody.
            self.close()
            raise
        finally:
            self._deadline.pause()
        arrived = b""
        if content.exception() is not None:
            # aiohttp holds back what it has read once the connection has failed. It had arrived, so
            # it comes first.
            nothing: Any = None  # that is how it is taken back
            content.set_exception(nothing)
            arrived = content.read_nowait()
        self.close()
        if not arrived:
            self._fail()
        return arrived

    def _fail(self) -> NoReturn:
        failure, self._failure = self._failure, None
        assert failure is not None
        try:
            raise failure
        finally:
            del failure  # a cycle through its traceback

    async def read(self, limit: int, start: bytes = b"") -> tuple[bytes, bool]:
        """
        Return the body, unpacked, up to about *limit* bytes, and whether that is all of it. *start*
        has been received before.

        Raises:
            APIConnectionError: The connection was lost, or a limit of time ran out.
        """
        pieces = [start] if start else []
        size = len(start)
        while size <= limit and (piece := await self.receive()):
            pieces.append(piece)
            size += len(piece)
            if self._raw.content.at_eof():
                break
        self.close()
        return pieces[0] if len(pieces) == 1 else b"".join(pieces), size <= limit

    def close(self) -> None:
        """
        Let go of the connection: back to the pool if the body has ended, else it is closed. For the
        loop's thread.
        """
        if self._is_mine():
            self._is_open = False
            self._reading.close()

    def _is_mine(self) -> bool:
        # In a forked child, to close it would be to take the parent's connection off its loop.
        return self._is_open and self._pid == os.getpid()

    def close_soon(self, *, grace: float = 0.0) -> None:
        """
        The same, from any thread.

        Args:
            grace: Seconds in which the body may still end by itself, so that the connection can be
                kept.
        """
        if self._is_mine():
            self._is_open = False
            if grace and self._raw.content.is_eof():
                # The connection is in the pool already, as after most streams.
                grace = 0.0
                if _is_running(self._loop):
                    self._reading.close()
                    return
            _call_soon(self._loop, self._reading.close, grace)

    def __del__(self) -> None:
        # aiohttp's response is in a reference cycle and closes nothing when it is collected on
        # another thread.
        self.close_soon()


def _is_running(loop: asyncio.AbstractEventLoop) -> bool:
    try:
        return asyncio.get_running_loop() is loop
    except RuntimeError:
        return False


def _call_soon(loop: asyncio.AbstractEventLoop, call: Callable[[], None], after: float) -> None:
    try:
        if after:
            loop.call_soon_threadsafe(loop.call_later, after, call)
        else:
            loop.call_soon_threadsafe(call)
    except RuntimeError:
        pass  # the loop is closed, and with it the pool and its connections


class _Reading:
    """
    The body of an answer, from its headers on until nobody reads it any more.
    """

    __slots__ = ("_closed", "_deadline", "_raw")

    def __init__(self, raw: aiohttp.ClientResponse, deadline: Deadline) -> None:
        self._raw = raw
        self._deadline = deadline
        self._closed: asyncio.Future[None] | None = None
        deadline.begin(self.break_off)
        if raw.connection is not None and (protocol := raw.connection.protocol) is not None:
            # It has not all come yet.
            if protocol.read_timeout is not None:
                # Set by a session, to limit the wait for the headers. aiohttp would also count the
                # time in which the caller does not read. From here on the deadline is the limit.
                protocol.read_timeout = None
                protocol.start_timeout()  # stops the timer that runs
            self._closed = protocol.closed
            if self._closed is not None:
                # One on each connection stays, however many answers come on it.
                self._closed.remove_done_callback(_look_at)
                self._closed.add_done_callback(_look_at)
                self._closed.add_done_callback(self._tell)

    def close(self) -> None:
        """
        Let go of the connection: back to the pool if the body has ended, else it is closed.
        """
        self._deadline.end()
        if self._closed is not None:
            # The connection may live on, and would keep this.
            self._closed.remove_done_callback(self._tell)
        self.break_off()

    def break_off(self) -> None:
        """
        Close the connection, unless the body has ended; a waiting reader is told.
        """
        # aiohttp would tell it by an exception that is the same object each time, and gathers the
        # frames of all readers, and what they hold, for ever.
        if not self._raw.closed:
            if self._raw.content.exception() is None:
                self._raw.content.set_exception(aiohttp.ClientConnectionError("Connection closed"))
            self._raw.close()

    def _tell(self, ended: asyncio.Future[None]) -> None:
        # Where a body breaks the rules of HTTP, aiohttp closes the connection and does not tell the
        # body's reader, who would wait for a limit of time.
        content = self._raw.content
        if not content.is_eof() and content.exception() is None:
            content.set_exception(aiohttp.ServerDisconnectedError())


def _look_at(ended: asyncio.Future[None]) -> None:
    # So that asyncio does not complain that nobody did.
    if not ended.cancelled():
        ended.exception()
