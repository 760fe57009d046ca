"""
Connections as aiohttp makes them, with what it lacks: hosts are looked up within the limit for
connecting, TCP is kept alive, times are noted, and no answer is taken for another request's.
"""

from __future__ import annotations

import asyncio
import importlib
import math
import os
import socket
import ssl
import threading
import types
import weakref
from concurrent.futures import Future
from contextvars import ContextVar
from typing import Any

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.connector import Connection
from aiohttp.helpers import ceil_timeout

from .._clock import monotonic
from .._exchange import Trace
from .local_limits import open_file_limit_reached

__all__ = ("SENDING", "Connector")

SENDING: ContextVar[Trace] = ContextVar("sending")
"""The attempt that this task is sending."""

_NO_LIMITS = aiohttp.ClientTimeout(total=None)

# The first call would import it, and a fork in the middle of an import leaves the child with one
# that never ends.
importlib.import_module("encodings.idna")

# asyncio reads into blocks of 256 KiB. glibc would ask the system for each and give it back, 15 µs
# for each answer, until it has seen a longer block come back.
bytes(512 * 1024)


class Connector(aiohttp.TCPConnector):
    """
    Notes when a request waits and connects, and never gives out a kept connection on which
    something came that nobody had asked for: it would be taken for the answer to the next request.
    """

    def __init__(self, max_connections: int, ssl_context: ssl.SSLContext | None) -> None:
        super().__init__(  # pyright: ignore[reportUnknownMemberType]  # A bare `tuple`.
            limit=max_connections,
            ssl=ssl_context or True,
            resolver=_Resolver(),
            socket_factory=_kept_alive_socket,
            timeout_ceil_threshold=math.inf,
        )
        signals = aiohttp.TraceConfig()
        signals.freeze()
        no_session: Any = None  # only a signal's receivers would see it
        self._notes: list[aiohttp.tracing.Trace] = [
            _Notes(no_session, signals, types.SimpleNamespace())
        ]

    async def connect(
        self, req: aiohttp.ClientRequest, traces: list[Any], timeout: aiohttp.ClientTimeout
    ) -> Connection:
        """
        A connection that is free and clean.
        """
        while True:
            # A trace of the session would see the whole request, and cost it a tenth.
            connection = await super().connect(req, self._notes, timeout)
            if connection.protocol is None or not connection.protocol.should_close:
                # From here on it may have gone out, whatever happens.
                SENDING.get().is_sent = True
                return connection
            connection.close()

    def drop_idle(self, before: float) -> None:
        """
        Close the connections that have been idle since *before*, by `monotonic`.
        """
        # `_conns` as aiohttp 3.14 has it: for each host, pairs of a connection and when it became
        # idle.
        for key, idle in list(self._conns.items()):
            kept = [each for each in idle if each[1] > before]
            for protocol, since in idle:
                if since <= before:
                    protocol.close()
            if kept:
                idle.clear()
                idle.extend(kept)
            else:
                del self._conns[key]

    async def _create_connection(
        self, req: aiohttp.ClientRequest, traces: list[Any], timeout: aiohttp.ClientTimeout
    ) -> Any:
        # aiohttp has a limit for each address, and none for a look-up and for a proxy's answer. Two
        # that end at once would be one to Python before 3.11: the inner one.
        async with ceil_timeout(timeout.sock_connect, math.inf):
            return await super()._create_connection(req, traces, _NO_LIMITS)


class _Resolver(AbstractResolver):
    """
    Looks up hosts in threads of its own: one of the loop's executor, where a look-up hangs, would
    hold up the end of the loop, and the interpreter's.
    """

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """
        The addresses of *host*.
        """
        key = (os.getpid(), host, port, family)
        found: Future[list[ResolveResult]] | None = _lookups.get(key)
        if found is None or found.done():
            found = Future()
            found.set_running_or_notify_cancel()  # whoever waits may be cancelled, the others not
            thread = threading.Thread(
                target=_look_up, args=(host, port, family, found), name="aistats-dns", daemon=True
            )
            try:
                thread.start()
            except RuntimeError as error:
                if "interpreter shutdown" not in str(error):
                    raise
                _look_up(host, port, family, found)  # Python starts no more threads
            _lookups[key] = found
        return await asyncio.wrap_future(found)

    async def close(self) -> None:
        """
        Nothing is held that would have to be closed.
        """


# Those that are going on, whoever asked, so that a host whose look-ups hang has one thread, not one
# for each client and each call. A forked child has its parent's, but not their threads.
_lookups: weakref.WeakValueDictionary[object, Future[list[ResolveResult]]] = (
    weakref.WeakValueDictionary()
)


def _look_up(
    host: str, port: int, family: socket.AddressFamily, found: Future[list[ResolveResult]]
) -> None:
    try:
        addresses = socket.getaddrinfo(host, port, family, socket.SOCK_STREAM)
        result = [
            ResolveResult(
                hostname=host,
                # It keeps the zone of a link-local address.
                host=socket.getnameinfo(address, socket.NI_NUMERICHOST | socket.NI_NUMERICSERV)[0],
                port=port,
                family=kind,
                proto=protocol,
                flags=socket.AI_NUMERICHOST | socket.AI_NUMERICSERV,
            )
            for kind, _, protocol, _, address in addresses
        ]
    except Exception as error:
        failure = open_file_limit_reached() or error
        found.set_exception(failure.with_traceback(None))  # a cycle through its traceback
    else:
        found.set_result(result)


def _kept_alive_socket(address: tuple[Any, ...]) -> socket.socket:
    # TCP keep-alive, so that a connection that a NAT has forgotten is noticed after a minute and a
    # half, not never.
    family, kind, protocol = address[:3]
    made = socket.socket(family=family, type=kind, proto=protocol)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in (("TCP_KEEPIDLE", 60), ("TCP_KEEPINTVL", 10), ("TCP_KEEPCNT", 3)):
        if hasattr(socket, option):
            made.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), value)
    return made


class _Notes(aiohttp.tracing.Trace):
    """
    Notes the times of the attempt that is being sent; what else aiohttp tells is not listened to.

    It is aiohttp's own object for that, since its signals cost three times as much.
    """

    async def send_connection_queued_start(self) -> None:
        """
        It waits for a free connection.
        """
        SENDING.get().queue_start = monotonic()

    async def send_connection_queued_end(self) -> None:
        """
        It has one.
        """
        SENDING.get().queue_end = monotonic()

    async def send_connection_create_start(self) -> None:
        """
        It connects.
        """
        SENDING.get().connect_start = monotonic()

    async def send_connection_create_end(self) -> None:
        """
        It is connected.
        """
        SENDING.get().connect_end = monotonic()

    async def send_connection_reuseconn(self) -> None:
        """
        It goes out on a connection that had been kept.
        """
