"""
The server of the benchmarks: as little as can answer, so that what is measured is the client.

A bare `asyncio.Protocol`, on uvloop where that is installed. It prints its port, and ends when its
standard input does.
"""

from __future__ import annotations

import asyncio
import re
import sys
from collections.abc import Iterator
from typing import Any

from traffic import ANSWER, HEAD_OF_ANSWER, HEAD_OF_STREAM, Order

_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_MODEL = re.compile(rb'"model": ?"([^"]*)"')
_NOT_FOUND = b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"


class _Connection(asyncio.Protocol):
    """
    One connection, on which one request comes after the other.
    """

    held: dict[int, list[_Connection]] = {}  # noqa: RUF012  # all connections share it
    """Streams that wait for others to be open, too, by how many it takes."""

    def connection_made(self, transport: Any) -> None:
        self._transport: asyncio.Transport = transport
        self._received = b""
        self._is_paused = False
        self._order = Order()
        self._rest: Iterator[bytes] = iter(())

    def data_received(self, data: bytes) -> None:
        self._received += data
        while (end := self._received.find(b"\r\n\r\n") + 4) >= 4:
            length = _LENGTH.search(self._received, 0, end)
            size = end + (int(length[1]) if length else 0)
            if len(self._received) < size:
                return
            request, self._received = self._received[:size], self._received[size:]
            self._answer(request, end)

    def pause_writing(self) -> None:
        self._is_paused = True

    def resume_writing(self) -> None:
        self._is_paused = False
        self._go_on()

    def _answer(self, request: bytes, end: int) -> None:
        model = _MODEL.search(request, end)
        if model is None:
            self._transport.write(_NOT_FOUND)
            return
        self._order = Order.parse(model[1].decode())
        if not self._order.chunks:
            self._transport.write(HEAD_OF_ANSWER + ANSWER)
            return
        self._rest = self._order.pieces()
        self._transport.write(HEAD_OF_STREAM + next(self._rest))
        if self._order.hold:
            self._transport.write(next(self._rest))
            self._wait_for_others(self._order.hold)
        elif self._order.pace:
            self._go_on_slowly()
        else:
            self._go_on()

    def _go_on(self) -> None:
        while not self._is_paused and (piece := next(self._rest, None)) is not None:
            self._transport.write(piece)

    def _go_on_slowly(self) -> None:
        piece = next(self._rest, None)
        if piece is not None and not self._transport.is_closing():
            self._transport.write(piece)
            asyncio.get_running_loop().call_later(self._order.pace / 1e6, self._go_on_slowly)

    def _wait_for_others(self, number: int) -> None:
        waiting = self.held.setdefault(number, [])
        waiting.append(self)
        if len(waiting) == number:
            del self.held[number]
            for connection in waiting:
                connection._go_on()


async def serve() -> None:
    """
    Answer until the standard input ends.
    """
    loop = asyncio.get_running_loop()
    server = await loop.create_server(_Connection, "127.0.0.1", 0, backlog=16384)
    print(server.sockets[0].getsockname()[1], flush=True)
    await loop.run_in_executor(None, sys.stdin.read)


if __name__ == "__main__":
    try:
        import uvloop
    except ImportError:
        asyncio.run(serve())
    else:
        uvloop.run(serve())
