"""
The only module that knows aiohttp: one request out, one answer back, aiohttp's errors turned into
ours.

A connection pool belongs to an event loop, so there is one for each loop that the transport is used
on. It is opened at first use by an async generator that stays suspended while the pool is in use.
That makes every end the same: closing the transport, dropping it, and the end of the loop
(`asyncio.run` closes what generators are open) all close the generator, and with it the pool.

An aiohttp error is never raised, nor chained to ours: its traceback would lead to frames whose
locals hold the key.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import importlib
import math
import os
import socket
import ssl
import threading
import time
import types
import urllib.request
import weakref
from collections.abc import AsyncGenerator, Mapping
from concurrent.futures import Future
from contextlib import AbstractContextManager
from contextvars import ContextVar
from typing import Any

import aiohttp
import attrs
from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.connector import Connection
from aiohttp.http_exceptions import ContentEncodingError
from multidict import CIMultiDict
from yarl import URL

from ._errors import (
    APIConnectionError,
    APIResponseError,
    ConfigurationError,
    out_of_time,
)
from ._exchange import Trace
from ._fork import inherit, watch_forks
from ._timeout import Timeout

__all__ = ("OWN_SERVERS", "Response", "Transport")

OWN_SERVERS: set[str] = set()
"""Host and port of servers that this process has started: no proxy leads to them."""

# The first call would import it, and a fork in the middle of an import leaves the child with one
# that never ends.
importlib.import_module("encodings.idna")


class Transport:
    """
    Sends requests over connection pools, one pool for each event loop.
    """

    def __init__(
        self,
        url: str,
        headers: Mapping[str, str],
        *,
        max_connections: int,
        ssl_context: ssl.SSLContext | None,
        session: aiohttp.ClientSession | None,
    ) -> None:
        self._url = URL(url)
        self._addresses: dict[str, URL] = {}
        self._headers = CIMultiDict(headers)
        self._prepared: dict[tuple[tuple[str, str], ...], CIMultiDict[str]] = {}
        self._max_connections = max_connections
        self._ssl_context = ssl_context
        self._session = session
        watch_forks(self)
        self._pools: dict[asyncio.AbstractEventLoop, _Pool] = {}
        # Answers that are being read on connections of the user's session.
        self._lent: set[aiohttp.ClientResponse] = set()

    @property
    def host(self) -> str:
        """
        Whom it talks to, for messages.
        """
        return self._url.host or str(self._url)

    async def send(
        self,
        path: str,
        body: bytes,
        headers: Mapping[str, str],
        query: Mapping[str, str],
        timeout: Timeout,
        remaining: float | None,
        trace: Trace,
    ) -> Response:
        """
        Send one request, and return the answer when its headers are there.

        Args:
            path: What follows the base URL.
            body: The request's body.
            headers: On top of the transport's own; they win.
            query: Added to the URL.
            timeout: The limits of the call.
            remaining: What is left of its `total`, in seconds.
            trace: Is filled in with the times, whatever happens.

        Raises:
            APIConnectionError: No answer came.
            ConfigurationError: The user's session is closed, or is another loop's.
        """
        if self._session is not None:
            session, proxy, responses = self._session, None, self._lent
        else:
            pool = self._pools.get(_running_loop()) or await self._open()
            session, proxy, responses = pool.session, pool.proxy, pool.responses
        failure: Exception
        trace.connect_limit = timeout.connect
        _sending.set(trace)
        try:
            raw = await session.post(
                self._address(path, query),
                data=body,
                headers=self._merged(headers),
                timeout=_client_timeout(timeout, remaining),
                allow_redirects=False,
                proxy=proxy,
            )
        except (
            aiohttp.ClientError,
            OSError,
            asyncio.TimeoutError,
            RuntimeError,
            ValueError,
        ) as error:
            # A user's own session has no traces of ours: there, only an error while connecting
            # proves that nothing was sent.
            if self._session is not None:
                trace.is_sent = not isinstance(
                    error, aiohttp.ClientConnectorError | aiohttp.ConnectionTimeoutError
                )
            failure = _translate(error, self._whom(proxy), timeout, trace.phase)
        else:
            trace.is_sent = True
            trace.first_byte = time.monotonic()
            return Response(raw, self.host, timeout, responses)
        # Out of the handler, so that aiohttp's error is not this one's context.
        try:
            raise failure
        finally:
            del failure  # a cycle through its traceback

    # To wait is the loop's business, too, and only this module is loaded with it.
    sleep = staticmethod(asyncio.sleep)

    def within(self, seconds: float | None) -> AbstractContextManager[object]:
        """
        A context in which waiting ends after so many *seconds*, with `TimeoutError`.
        """
        import anyio  # It is slow to load, and only a client that is held back needs it.

        return anyio.fail_after(seconds)

    def _whom(self, proxy: str | None) -> str:
        return self.host if proxy is None else f"{self.host}, by way of a proxy of the environment,"

    async def aclose(self) -> None:
        """
        Close the pool of the loop that this runs on. A pool of another loop is closed with that
        loop.
        """
        for raw in self._lent:
            _break_off(raw)
        self._lent.clear()
        pool = self._pools.pop(asyncio.get_running_loop(), None)
        if pool is not None:
            await pool.life.aclose()

    def _address(self, path: str, query: Mapping[str, str]) -> URL:
        url = self._addresses.get(path)
        if url is None:
            url = self._addresses[path] = self._url.joinpath(path, encoded=True)
        return url.update_query(query) if query else url

    def _merged(self, headers: Mapping[str, str]) -> CIMultiDict[str]:
        # Nearly every request has one of a few sets; those with a user's own are made each time.
        key = tuple(headers.items())
        if key in self._prepared:
            return self._prepared[key]
        merged = CIMultiDict(self._headers)
        for name, value in headers.items():
            merged[name] = value
        if len(key) <= 1:
            self._prepared[key] = merged
        return merged

    def begin_anew(self) -> None:
        """
        In a forked child: the pools are the parent's.
        """
        inherit(self._pools, self._lent)
        self._pools, self._lent = {}, set()

    async def _open(self) -> _Pool:
        loop = asyncio.get_running_loop()
        self._pools = {other: kept for other, kept in self._pools.items() if not other.is_closed()}
        proxy = _environment_proxy(self._url)
        responses: set[aiohttp.ClientResponse] = set()
        lock = asyncio.Lock()
        life = _session_life(self._max_connections, self._ssl_context, responses, lock)
        # The generator's first step does not wait for anything, so no other task can get here
        # meanwhile.
        session = await life.__anext__()
        pool = _Pool(life, session, proxy, responses)
        finalizer = weakref.finalize(pool, _drop, loop, os.getpid(), life, session, responses, lock)
        finalizer.atexit = False
        self._pools[loop] = pool
        return pool


def _running_loop() -> asyncio.AbstractEventLoop:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        raise ConfigurationError(
            "AsyncClient needs asyncio, which aiohttp is made for. Under Trio use a Client in "
            "threads: await trio.to_thread.run_sync(client.generate_text, request)."
        ) from None


@attrs.define(eq=False)
class _Pool:
    life: AsyncGenerator[aiohttp.ClientSession, None]
    session: aiohttp.ClientSession
    proxy: str | None
    responses: set[aiohttp.ClientResponse]
    """Those that are being read."""


async def _session_life(
    max_connections: int,
    ssl_context: ssl.SSLContext | None,
    responses: set[aiohttp.ClientResponse],
    lock: asyncio.Lock,
) -> AsyncGenerator[aiohttp.ClientSession, None]:
    connector = _Connector(
        limit=max_connections,
        ssl=ssl_context or True,
        resolver=_Resolver(),
        socket_factory=_kept_alive_socket,
        timeout_ceil_threshold=math.inf,
    )
    session = aiohttp.ClientSession(connector=connector, cookie_jar=aiohttp.DummyCookieJar())
    try:
        yield session
    finally:
        await _close_session(session, responses, lock)


async def _close_session(
    session: aiohttp.ClientSession, responses: set[aiohttp.ClientResponse], lock: asyncio.Lock
) -> None:
    async with lock:  # whoever comes second waits for the first
        for raw in responses:
            _break_off(raw)
        await session.close()


def _drop(
    loop: asyncio.AbstractEventLoop,
    pid: int,
    life: AsyncGenerator[aiohttp.ClientSession, None],
    *session: Any,
) -> None:
    # Nobody has the pool any more. Its generator is not left to the collector: asyncio would close
    # it in a task that the end of the loop does not wait for. It lives on until it is closed, so a
    # loop that ends meanwhile closes it.
    if pid != os.getpid():
        inherit(life, session)
        return
    with contextlib.suppress(RuntimeError):  # the loop is closed, and has closed it before
        loop.call_soon_threadsafe(_end, loop, life, *session)


def _end(
    loop: asyncio.AbstractEventLoop,
    life: AsyncGenerator[aiohttp.ClientSession, None],
    session: aiohttp.ClientSession,
    *rest: Any,
) -> None:
    def finish(ended: asyncio.Task[None]) -> None:
        if ended.cancelled():  # as all tasks are when a loop ends, perhaps before it began
            _end(loop, life, session, *rest)
            return
        with contextlib.suppress(StopIteration, RuntimeError):  # it is at its end, or on the way
            life.aclose().__await__().send(None)

    if not session.closed:
        loop.create_task(_close_session(session, *rest)).add_done_callback(finish)


def _break_off(raw: aiohttp.ClientResponse) -> None:
    # aiohttp would tell a waiting reader by an exception that is the same object each time, and
    # gathers the frames of all readers, and what they hold, for ever.
    if raw.content.exception() is None:
        raw.content.set_exception(aiohttp.ClientConnectionError("Connection closed"))
    raw.close()


class _Connector(aiohttp.TCPConnector):
    """
    Notes when a request waits and connects, and never gives out a kept connection on which
    something came that nobody had asked for: it would be taken for the answer to the next request.
    """

    _notes: list[aiohttp.tracing.Trace] | None = None

    async def connect(
        self, req: aiohttp.ClientRequest, traces: list[Any], timeout: aiohttp.ClientTimeout
    ) -> Connection:
        """
        A connection that is free and clean.
        """
        # A trace of the session would see the whole request, and cost it a tenth.
        traces = self._notes or [aiohttp.tracing.Trace(req.session, _NOTES, _NOTHING)]
        self._notes = traces
        while True:
            connection = await super().connect(req, traces, timeout)
            if connection.protocol is None or not connection.protocol.should_close:
                # From here on it may have gone out, whatever happens.
                _sending.get().is_sent = True
                return connection
            connection.close()


# The attempt that this task is sending.
_sending: ContextVar[Trace] = ContextVar("sending")


class _Resolver(AbstractResolver):
    """
    Looks up hosts within the limit for connecting, which aiohttp applies only to what comes after.

    It does so in threads of its own: one of the loop's executor, where a look-up hangs, would hold
    up the end of the loop, and the interpreter's.
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
            threading.Thread(
                target=_look_up, args=(host, port, family, found), name="aistats-dns", daemon=True
            ).start()
            _lookups[key] = found
        return await asyncio.wait_for(asyncio.wrap_future(found), _sending.get().connect_limit)

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
        found.set_exception(error.with_traceback(None))  # a cycle through its traceback
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


def _environment_proxy(url: URL) -> str | None:
    # Not aiohttp's trust_env: it looks again for each request, in a thread, and lets .netrc fight
    # the key.
    host = url.host or ""
    if url.authority in OWN_SERVERS or urllib.request.proxy_bypass(host):
        return None
    proxies = urllib.request.getproxies()
    proxy = proxies.get(url.scheme) or proxies.get("all")
    if proxy is not None and not proxy.startswith(("http://", "https://")):
        raise ConfigurationError(
            "The proxy of the environment is not an http or https proxy, the only kinds that are "
            "spoken here. Set HTTP_PROXY, HTTPS_PROXY or ALL_PROXY to one, or NO_PROXY."
        )
    return proxy


def _notes() -> aiohttp.TraceConfig:
    def note(name: str) -> Any:
        async def receive(*_: object) -> None:
            setattr(_sending.get(), name, time.monotonic())

        return receive

    config = aiohttp.TraceConfig()
    config.on_connection_queued_start.append(note("queue_start"))
    config.on_connection_queued_end.append(note("queue_end"))
    config.on_connection_create_start.append(note("connect_start"))
    config.on_connection_create_end.append(note("connect_end"))
    config.freeze()
    return config


_NOTES, _NOTHING = _notes(), types.SimpleNamespace()


@functools.lru_cache(maxsize=16)
def _client_timeout(timeout: Timeout, remaining: float | None) -> aiohttp.ClientTimeout:
    # aiohttp rounds limits up to whole seconds above ceil_threshold; ours are exact.
    return aiohttp.ClientTimeout(
        total=None if remaining is None else max(0.001, remaining),
        sock_connect=timeout.connect,
        sock_read=timeout.idle,
        ceil_threshold=math.inf,
    )


def _translate(
    error: BaseException, host: str, timeout: Timeout, phase: str
) -> APIConnectionError | APIResponseError | ConfigurationError:
    """
    Our error for one of aiohttp's.
    """
    if isinstance(error, aiohttp.ConnectionTimeoutError):
        return out_of_time("connect", timeout.connect, host, "connecting")
    if isinstance(error, aiohttp.SocketTimeoutError):
        return out_of_time("idle", timeout.idle, host, phase)
    if isinstance(error, asyncio.TimeoutError | TimeoutError) and not isinstance(
        error, aiohttp.ClientOSError
    ):
        return out_of_time("total", timeout.total, host, phase)
    if isinstance(error, aiohttp.InvalidURL):
        return ConfigurationError("base_url is not a URL that can be called.")
    if isinstance(error.__cause__, ContentEncodingError):
        return APIResponseError(
            f"The answer of {host} can't be unpacked: it is not compressed as its headers say. "
            "Check what is between here and the gateway."
        )
    if isinstance(error, aiohttp.ClientHttpProxyError):
        return APIConnectionError(
            f"{host} could not be reached: the proxy answered {error.status} {error.message}. "
            "Check the proxy in HTTP_PROXY and HTTPS_PROXY, or set NO_PROXY."
        )
    if isinstance(error, aiohttp.ClientResponseError):
        return APIResponseError(
            f"{host} did not answer in proper HTTP: {' '.join(error.message.split())[:200]}. "
            "Check that base_url leads to the gateway's API."
        )
    # Some of aiohttp's own errors, those of certificates, are ValueErrors, too.
    if isinstance(error, RuntimeError | ValueError) and not isinstance(error, aiohttp.ClientError):
        return ConfigurationError(
            f"The aiohttp session can't send this: {error}. Is it open, and of this event loop?"
        )
    failure = APIConnectionError(_in_words(error, host))
    failure.is_permanent = isinstance(error, aiohttp.ClientConnectorCertificateError)
    return failure


def _in_words(error: BaseException, host: str) -> str:
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        return (
            f"The certificate of {host} can't be trusted: {error.certificate_error}. "
            "Set SSL_CERT_FILE to the right authorities."
        )
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        return f"The host {host} was not found. Check base_url and the network."
    if isinstance(error, aiohttp.ClientConnectorError):
        reason = error.os_error.strerror or error.os_error
        return f"{host} could not be reached: {reason}. Check base_url and the network."
    if isinstance(error, aiohttp.ServerDisconnectedError):
        return f"{host} closed the connection without an answer. {_TRY_AGAIN}"
    if isinstance(error, aiohttp.ClientPayloadError):
        return f"The answer of {host} broke off before its end. {_TRY_AGAIN}"
    return f"The connection to {host} was lost: {error}. {_TRY_AGAIN}"


_TRY_AGAIN = "Try again; if it goes on, check base_url and the network."


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
        responses: set[aiohttp.ClientResponse],
    ) -> None:
        self.status = raw.status
        self.raw_headers = raw.raw_headers
        self._raw = raw
        self._host = host
        self._timeout = timeout
        self._loop = asyncio.get_running_loop()
        self._watch = _IdleWatch(raw, timeout.idle)
        self._failure: Exception | None = None
        self._responses = responses
        responses.add(raw)
        _tell_of_the_end(raw)
        self._is_open = True

    @property
    def content_type(self) -> str:
        """
        What kind of body it has, without parameters.
        """
        return self._raw.content_type

    async def receive(self, *, fresh: bool = True) -> bytes:
        """
        All bytes that are ready, at least one; `b""` at the end of the body.

        Args:
            fresh: Whether the limit for the next event starts anew.

        Raises:
            APIConnectionError: The connection was lost, or a limit ran out.
        """
        if self._failure is not None:
            failure, self._failure = self._failure, None
            try:
                raise failure
            finally:
                del failure  # a cycle through its traceback
        content = self._raw.content
        self._watch.begin(fresh=fresh)
        if content.exception() is None:
            # What is there already needs no watch. A whole answer mostly comes with its headers.
            try:
                ready = content.read_nowait()
            except asyncio.TimeoutError:  # `total` has run out; to wait says so again
                ready = b""
            if ready:
                return ready
            if content.at_eof():
                return b""
        self._watch.wait()
        try:
            return await content.readany()
        except (aiohttp.ClientError, OSError, asyncio.TimeoutError, RuntimeError) as error:
            if isinstance(error, RuntimeError):  # the connection was closed under the reader
                error = aiohttp.ServerDisconnectedError()
            if self._watch.is_expired:
                self._failure = out_of_time(
                    "idle", self._timeout.idle, self._host, "waiting for the next event or bytes"
                )
            else:
                self._failure = _translate(error, self._host, self._timeout, "reading the answer")
        except BaseException:
            # Cancelled: what is left of the answer is of no use to anybody.
            self.close()
            raise
        finally:
            self._watch.pause()
        arrived = b""
        if content.exception() is not None:
            # aiohttp holds back what it has read once the connection has failed. It had arrived, so
            # it comes first.
            nothing: Any = None  # that is how it is taken back
            content.set_exception(nothing)
            with contextlib.suppress(asyncio.TimeoutError):
                arrived = content.read_nowait()
        self.close()
        return arrived or await self.receive()

    async def read(self, limit: int) -> tuple[bytes, bool]:
        """
        The body, unpacked, up to about *limit* bytes, and whether that is all of it.

        Raises:
            APIConnectionError: The connection was lost, or a limit of time ran out.
        """
        pieces: list[bytes] = []
        size = 0
        while size <= limit and (piece := await self.receive()):
            pieces.append(piece)
            size += len(piece)
        self.close()
        return pieces[0] if len(pieces) == 1 else b"".join(pieces), size <= limit

    def close(self) -> None:
        """
        Let go of the connection: back to the pool if the body has ended, else it is closed. For the
        loop's thread.
        """
        if self._is_open:
            self._is_open = False
            _close(self._raw, self._watch, self._responses)

    def close_soon(self, *, grace: float = 0.0) -> None:
        """
        The same, from any thread.

        Args:
            grace: Seconds in which the body may still end by itself, so that the connection can be
                kept.
        """
        if self._is_open:
            self._is_open = False
            _close_soon(self._loop, self._raw, self._watch, self._responses, grace)

    def __del__(self) -> None:
        # aiohttp's response is in a reference cycle and closes nothing when it is collected on
        # another thread.
        self.close_soon()


def _tell_of_the_end(raw: aiohttp.ClientResponse) -> None:
    # Where a body breaks the rules of HTTP, aiohttp closes the connection and does not tell the
    # body's reader, who would wait for a limit of time.
    protocol = raw.connection.protocol if raw.connection is not None else None
    closed = protocol.closed if protocol is not None else None
    content = raw.content

    def tell(ended: asyncio.Future[None]) -> None:
        if not ended.cancelled():
            ended.exception()  # looked at, so that asyncio does not complain that nobody did
        if not content.is_eof() and content.exception() is None:
            content.set_exception(aiohttp.ServerDisconnectedError())

    if closed is not None:
        closed.add_done_callback(tell)


def _close(
    raw: aiohttp.ClientResponse, watch: _IdleWatch, responses: set[aiohttp.ClientResponse]
) -> None:
    watch.stop()
    _break_off(raw)
    responses.discard(raw)


def _close_soon(
    loop: asyncio.AbstractEventLoop,
    raw: aiohttp.ClientResponse,
    watch: _IdleWatch,
    responses: set[aiohttp.ClientResponse],
    grace: float = 0.0,
) -> None:
    try:
        if grace:
            loop.call_soon_threadsafe(loop.call_later, grace, _close, raw, watch, responses)
        else:
            loop.call_soon_threadsafe(_close, raw, watch, responses)
    except RuntimeError:
        pass  # the loop is closed, and with it the pool and its connections


class _IdleWatch:
    """
    Closes an answer that says nothing for too long while somebody waits for it.

    One timer, which is set anew only when it rings early.
    """

    __slots__ = ("_deadline", "_idle", "_is_waiting", "_loop", "_raw", "_timer", "is_expired")

    def __init__(self, raw: aiohttp.ClientResponse, idle: float | None) -> None:
        self._raw = raw
        self._idle = idle
        self._loop = asyncio.get_running_loop()
        self._deadline = 0.0
        self._is_waiting = False
        self._timer: asyncio.TimerHandle | None = None
        self.is_expired = False

    def begin(self, *, fresh: bool) -> None:
        """
        Somebody wants something new from now on, or still the same.
        """
        if self._idle is None:
            return
        now = self._loop.time()
        if fresh:
            self._deadline = now + self._idle
        elif now >= self._deadline:
            # Bytes that say nothing come so fast that nobody ever waits.
            self._expire()

    def wait(self) -> None:
        """
        There is nothing yet, so somebody waits.
        """
        self._is_waiting = True
        if self._timer is None and self._idle is not None:
            self._timer = self._loop.call_at(self._deadline, self._ring)

    def pause(self) -> None:
        """
        Nobody waits any more; how long the caller takes for what it got does not count.
        """
        self._is_waiting = False

    def stop(self) -> None:
        """
        Count no more.
        """
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _ring(self) -> None:
        self._timer = None
        if not self._is_waiting:
            return
        if self._loop.time() < self._deadline:
            self._timer = self._loop.call_at(self._deadline, self._ring)
        else:
            self._expire()

    def _expire(self) -> None:
        self.is_expired = True
        _break_off(self._raw)  # wakes the reader with an error
