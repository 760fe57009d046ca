"""
Sends requests over aiohttp: a small body with the headers, a large one in pieces with a timeout.
"""

from __future__ import annotations

import asyncio
import io
from typing import Any, Final

import aiohttp
from aiohttp.abc import AbstractStreamWriter
from aiohttp.connector import Connection
from aiohttp.http import StreamWriter
from multidict import CIMultiDict
from yarl import URL

from .connector import SENDING
from .deadlines import Deadline

__all__ = ("SMALL", "PreparedHeaders", "Request", "Upload")

SMALL: Final = 32 * 1024
"""Size up to which a body is sent at once, in bytes: half of asyncio's write buffer limit."""


class PreparedHeaders:
    """
    All headers of a request. It has no repr of its own, so that the key is in none.
    """

    __slots__ = ("fields",)

    def __init__(self, fields: CIMultiDict[str]) -> None:
        self.fields = fields


class Request(aiohttp.ClientRequest):
    """
    A request that starts the idle timeout when its body has been sent.

    A small body is sent with the headers. aiohttp would start a task for it, which makes a call a
    tenth slower.
    """

    def __init__(
        self,
        method: str,
        url: URL,
        headers: CIMultiDict[str],
        body: bytes,
        proxy: URL | None,
        deadline: Deadline,
    ) -> None:
        is_small = proxy is None and len(body) <= SMALL
        super().__init__(
            method,
            url,
            headers=headers,
            data=None if is_small else Upload(body, deadline),
            loop=asyncio.get_running_loop(),
            proxy=proxy,
        )
        if is_small:
            self.headers["Content-Length"] = str(len(body))
        self._small = body if is_small else None
        self._deadline = deadline

    def update_headers(self, headers: Any) -> None:
        """
        Use *headers* as they are; they include `Host`.
        """
        self.headers = headers.copy()

    def update_auto_headers(self, skip_auto_headers: Any) -> None:
        """
        Add nothing: the headers are complete.
        """

    async def send(self, conn: Connection) -> aiohttp.ClientResponse:
        """
        Send the request, and return a response that the caller has to start.
        """
        protocol = conn.protocol
        assert protocol is not None
        if self._small is None:
            return await super().send(conn)
        writer = StreamWriter(protocol, self.loop)
        await writer.write_headers(f"{self.method} {self.url.raw_path_qs} HTTP/1.1", self.headers)
        await writer.write_eof(self._small)
        self._deadline.want()
        self._deadline.wait()
        return self.response_class(
            self.method,
            self.url,
            writer=None,
            continue100=None,
            timer=self._timer,
            request_info=self.request_info,
            traces=[],
            loop=self.loop,
            session=self.session,
            stream_writer=writer,
        )

    async def write_bytes(
        self, writer: AbstractStreamWriter, conn: Connection, content_length: int | None = None
    ) -> None:
        """
        Write the body, then start the idle timeout.
        """
        await super().write_bytes(writer, conn, content_length)
        if SENDING.get().first_byte is None:  # the response has not begun
            self._deadline.want()
            self._deadline.wait()


class Upload(io.BytesIO):
    """
    A body that is sent in pieces. Each read restarts the idle timeout: the piece before was sent.

    aiohttp warns of a body of more than 1 MiB that is given as bytes; it doesn't for a file object.
    """

    def __init__(self, body: bytes, deadline: Deadline) -> None:
        super().__init__(body)
        self._deadline = deadline

    def read(self, size: int | None = -1, /) -> bytes:
        """
        Return the next piece.
        """
        piece = super().read(size)
        trace = SENDING.get()
        if trace.first_byte is None:
            trace.is_sending = bool(piece)
            if piece:
                self._deadline.want()
                self._deadline.wait()
            else:
                self._deadline.pause()
        return piece
