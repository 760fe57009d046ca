"""
A response over aiohttp, from its headers to the end of its body.
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
    A response whose body is read as it arrives.

    If it is dropped without being closed, in any thread, its connection is closed.
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
        Media type of the body, without parameters.
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
        Return all bytes that are ready, at least one; `b""` at the end of the body.

        Args:
            silence: Seconds since the last content arrived; they count toward the idle timeout.

        Raises:
            APIConnectionError: The connection was lost, or a time limit was exceeded.
            ConfigurationError: The client was closed, or this is a forked child of the process that
                sent the request.
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
            # Return buffered data without a wait. Most short bodies arrive with the headers.
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
            # Cancelled: the rest of the response is not needed.
            self.close()
            raise
        finally:
            self._deadline.pause()
        arrived = b""
        if content.exception() is not None:
            # After a failure, aiohttp withholds data that it has received. Return the data first.
            nothing: Any = None  # clears the exception
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
        Return the decompressed body, up to about *limit* bytes, and whether it is complete.

        Args:
            limit: The longest body that is read in full, in bytes.
            start: The part of the body that was received before.

        Raises:
            APIConnectionError: The connection was lost, or a time limit was exceeded.
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
        Return the connection to the pool if the body has ended, else close it. Use this in the
        loop's thread only.
        """
        if self._is_mine():
            self._is_open = False
            self._reading.close()

    def _is_mine(self) -> bool:
        # In a forked child, closing would remove the parent's connection from the parent's loop.
        return self._is_open and self._pid == os.getpid()

    def close_soon(self, *, grace: float = 0.0) -> None:
        """
        Return or close the connection, from any thread.

        Args:
            grace: Seconds in which the body may still end, so that the connection can be kept.
        """
        if self._is_mine():
            self._is_open = False
            if grace and self._raw.content.is_eof():
                # The connection is already in the pool, as after most streams.
                grace = 0.0
                if _is_running(self._loop):
                    self._reading.close()
                    return
            _call_soon(self._loop, self._reading.close, grace)

    def __del__(self) -> None:
        # aiohttp's response is in a reference cycle, and closes nothing when another thread
        # collects it.
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
        pass  # the loop is closed, and so are its connections


class _Reading:
    """
    Closes or releases the connection of a response. Tells the reader if the connection breaks.
    """

    __slots__ = ("_closed", "_deadline", "_raw")

    def __init__(self, raw: aiohttp.ClientResponse, deadline: Deadline) -> None:
        self._raw = raw
        self._deadline = deadline
        self._closed: asyncio.Future[None] | None = None
        deadline.begin(self.break_off)
        if raw.connection is not None and (protocol := raw.connection.protocol) is not None:
            # The body is not complete yet.
            if protocol.read_timeout is not None:
                # A session sets it to limit the wait for the headers. aiohttp also counts time in
                # which the caller does not read. From here on the deadline is the limit.
                protocol.read_timeout = None
                protocol.start_timeout()  # stops the running timer
            self._closed = protocol.closed
            if self._closed is not None:
                # Keep one callback for each connection, however many responses it carries.
                self._closed.remove_done_callback(_look_at)
                self._closed.add_done_callback(_look_at)
                self._closed.add_done_callback(self._tell)

    def close(self) -> None:
        """
        Return the connection to the pool if the body has ended, else close it.
        """
        self._deadline.end()
        if self._closed is not None:
            # The connection may stay open and would keep this object alive.
            self._closed.remove_done_callback(self._tell)
        self.break_off()

    def break_off(self) -> None:
        """
        Close the connection, unless the body has ended. A waiting reader gets an exception.
        """
        # aiohttp would raise one shared exception object, whose traceback would keep the frames of
        # all readers alive.
        if not self._raw.closed:
            if self._raw.content.exception() is None:
                self._raw.content.set_exception(aiohttp.ClientConnectionError("Connection closed"))
            self._raw.close()

    def _tell(self, ended: asyncio.Future[None]) -> None:
        # On malformed HTTP, aiohttp closes the connection without an exception for the reader. The
        # reader would wait until a timeout.
        content = self._raw.content
        if not content.is_eof() and content.exception() is None:
            content.set_exception(aiohttp.ServerDisconnectedError())


def _look_at(ended: asyncio.Future[None]) -> None:
    # Retrieve the exception, so that asyncio doesn't log it.
    if not ended.cancelled():
        ended.exception()
