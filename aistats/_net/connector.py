"""
aiohttp's connector, with four additions.

The limit for connecting includes the host look-up. Connections use TCP keep-alive. The times of
each attempt are recorded. A response is never taken for the response to another request.
"""

from __future__ import annotations

import asyncio
import functools
import importlib
import math
import os
import socket
import ssl
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
from .._exchange import AttemptTimes
from .local_limits import open_file_limit_reached
from .threads import start_in_thread

__all__ = ("SENDING", "Connector")

SENDING: ContextVar[AttemptTimes] = ContextVar("sending")
"""The attempt that the current task is sending."""

_NO_LIMITS = aiohttp.ClientTimeout(total=None)

# Import this now, not with the first call. After a fork in the middle of an import, the child waits
# for the import forever.
importlib.import_module("encodings.idna")

# asyncio reads into blocks of 256 KiB. Until a longer block has been freed once, glibc gets each
# one from the system and gives it back, which costs 15 µs for each response.
bytes(512 * 1024)


class Connector(aiohttp.TCPConnector):
    """
    Records when a request waits and connects. Drops an idle connection on which unexpected data
    arrived, since the data would be taken for the response to the next request.
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
        no_session: Any = None  # only receivers of signals would use it
        self._notes: list[aiohttp.tracing.Trace] = [
            _Notes(no_session, signals, types.SimpleNamespace())
        ]

    async def connect(
        self, req: aiohttp.ClientRequest, traces: list[Any], timeout: aiohttp.ClientTimeout
    ) -> Connection:
        """
        Return a free connection without unexpected data.
        """
        while True:
            # A trace of the session covers the whole request and makes it a tenth slower.
            connection = await super().connect(req, self._notes, timeout)
            if connection.protocol is None or not connection.protocol.should_close:
                # From here on, the request may reach the server, even if an error follows.
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
        # aiohttp limits connecting to each address, but not the look-up and the proxy's response.
        async with ceil_timeout(timeout.sock_connect, math.inf):
            return await super()._create_connection(req, traces, _NO_LIMITS)


class _Resolver(AbstractResolver):
    """
    Looks up hosts in daemon threads. A look-up that hangs in the loop's executor would delay the
    end of the loop and of the process.
    """

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """
        Return the addresses of *host*.
        """
        key = (os.getpid(), host, port, family)
        found: Future[list[ResolveResult]] | None = _lookups.get(key)
        if found is None or found.done():
            look_up = functools.partial(_look_up, host, port, family)
            found = start_in_thread(look_up, "aistats-dns")
            _lookups[key] = found
        return await asyncio.wrap_future(found)

    async def close(self) -> None:
        """
        Do nothing: there is nothing to close.
        """


# Look-ups in progress, shared by all clients: a host whose look-up hangs blocks one thread, not one
# for each call. The key has the process id, since a forked child lacks the parent's threads.
_lookups: weakref.WeakValueDictionary[object, Future[list[ResolveResult]]] = (
    weakref.WeakValueDictionary()
)


def _look_up(host: str, port: int, family: socket.AddressFamily) -> list[ResolveResult]:
    try:
        addresses = socket.getaddrinfo(host, port, family, socket.SOCK_STREAM)
        return [
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
    except OSError as error:
        raise (open_file_limit_reached() or error) from None


def _kept_alive_socket(address: tuple[Any, ...]) -> socket.socket:
    # TCP keep-alive detects a connection that a NAT has forgotten after a minute and a half.
    family, kind, protocol = address[:3]
    made = socket.socket(family=family, type=kind, proto=protocol)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in (("TCP_KEEPIDLE", 60), ("TCP_KEEPINTVL", 10), ("TCP_KEEPCNT", 3)):
        if hasattr(socket, option):
            made.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), value)
    return made


class _Notes(aiohttp.tracing.Trace):
    """
    Records the times of the attempt that is being sent.

    This replaces aiohttp's object that sends signals, which cost three times as much.
    """

    async def send_connection_queued_start(self) -> None:
        """
        Record the start of the wait for a free connection.
        """
        SENDING.get().queue_start = monotonic()

    async def send_connection_queued_end(self) -> None:
        """
        Record the end of the wait.
        """
        SENDING.get().queue_end = monotonic()

    async def send_connection_create_start(self) -> None:
        """
        Record the start of connecting.
        """
        SENDING.get().connect_start = monotonic()

    async def send_connection_create_end(self) -> None:
        """
        Record that the connection is made.
        """
        SENDING.get().connect_end = monotonic()

    async def send_connection_reuseconn(self) -> None:
        """
        Record nothing: an idle connection is reused.
        """
