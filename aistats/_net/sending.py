"""
A request as it goes out over aiohttp: what is small at once, the rest piece by piece, watched.
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
"""Bytes that go out at once: asyncio lets a socket's buffer grow to twice as many."""


class PreparedHeaders:
    """
    All headers of a request. Its repr does not show them, since the key is among them.
    """

    __slots__ = ("fields",)

    def __init__(self, fields: CIMultiDict[str]) -> None:
        self.fields = fields


class Request(aiohttp.ClientRequest):
    """
    A request from whose end on the answer is waited for.

    A body that fits into the socket's buffer goes out with the head, at once; aiohttp would take a
    task for it, a tenth of a call.
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
        Take *headers*, which have the host.
        """
        self.headers = headers.copy()

    def update_auto_headers(self, skip_auto_headers: Any) -> None:
        """
        Add nothing: they have all.
        """

    async def send(self, conn: Connection) -> aiohttp.ClientResponse:
        """
        Send it, and return the answer, which is to be started.
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
        Write the body.
        """
        await super().write_bytes(writer, conn, content_length)
        if SENDING.get().first_byte is None:  # else the answer began before
            self._deadline.want()
            self._deadline.wait()


class Upload(io.BytesIO):
    """
    A body that goes out piece by piece; each piece that is taken says that the one before went out.

    It also keeps aiohttp from warning of more bytes than a mebibyte in one piece.
    """

    def __init__(self, body: bytes, deadline: Deadline) -> None:
        super().__init__(body)
        self._deadline = deadline

    def read(self, size: int | None = -1, /) -> bytes:
        """
        The next piece.
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
