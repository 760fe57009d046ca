"""
The module that knows aiohttp: one request out, one answer back, aiohttp's errors turned into
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
import io
import math
import os
import ssl
import time
import urllib.request
import weakref
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from typing import Any, TypeVar

import aiohttp
import attrs
from aiohttp.abc import AbstractStreamWriter
from aiohttp.connector import Connection
from aiohttp.http import StreamWriter
from aiohttp.http_exceptions import ContentEncodingError
from multidict import CIMultiDict
from yarl import URL

from ._connector import SENDING, Connector
from ._deadlines import Deadline, Deadlines, Interruption
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

T = TypeVar("T")

OWN_SERVERS: set[str] = set()
"""Host and port of servers that this process has started: no proxy leads to them."""

_KNOWS_AIOHTTP = aiohttp.__version__.startswith("3.14.")
"""
Whether its parts can be put together here, without its session, which takes 25 of 95 µs of a call.
"""


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
        # What aiohttp would add to each request, and then ours.
        self._headers = CIMultiDict({"Host": self._url.host_port_subcomponent or ""})
        self._headers.update(aiohttp.ClientRequest.DEFAULT_HEADERS)
        for name, value in headers.items():  # one by one: a name in another case is the same
            self._headers[name] = value
        self._prepared: dict[tuple[tuple[str, str], ...], CIMultiDict[str]] = {}
        self._max_connections = max_connections
        self._ssl_context = ssl_context
        self._session = session
        watch_forks(self)
        self._pools: dict[asyncio.AbstractEventLoop, _Pool] = {}

    @property
    def host(self) -> str:
        """
        Whom it talks to, for messages.
        """
        return self._url.host_port_subcomponent or str(self._url)

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
        pool = self._pools.get(_running_loop()) or await self._open()
        whom = self._whom(pool.proxy)
        deadline = Deadline(pool.deadlines, timeout.idle, remaining)
        failure: Exception
        SENDING.set(trace)
        try:
            raw = await pool.answer(
                self._address(path, query), self._merged(headers), body, timeout, deadline
            )
            # A user's own session has no traces of ours: there, only an error while connecting
            # proves that nothing was sent.
            trace.is_sent = trace.is_sent or self._session is not None
            if raw is not None:
                trace.first_byte = time.monotonic()
                return Response(raw, self.host, timeout, deadline)
            failure = _over(deadline, whom, timeout, trace.phase)
        except (
            aiohttp.ClientError,
            OSError,
            asyncio.TimeoutError,
            RuntimeError,
            ValueError,
        ) as error:
            if self._session is not None:
                trace.is_sent = not isinstance(
                    error, aiohttp.ClientConnectorError | aiohttp.ConnectionTimeoutError
                )
            failure = _translate(error, whom, timeout, trace.phase)
        # Out of the handler, so that aiohttp's error is not this one's context.
        try:
            raise failure
        finally:
            del failure  # a cycle through its traceback

    async def wait(self, start: Callable[[], Awaitable[T]], seconds: float | None = None) -> T:
        """
        What the awaitable gives that *start* begins, unless the client is closed meanwhile.

        Raises:
            ConfigurationError: It was closed.
            TimeoutError: So many *seconds* were over before.
        """
        pool = self._pools.get(_running_loop()) or await self._open()
        deadline = Deadline(pool.deadlines, None, seconds)
        with Interruption() as interrupt:
            deadline.begin(interrupt)
            try:
                return await start()
            finally:
                deadline.end()
        if deadline.expired == "closed":
            raise ConfigurationError(f"The client was closed while a call waited ({self.host}).")
        raise TimeoutError

    async def sleep(self, seconds: float) -> None:
        """
        Let so many *seconds* pass.

        Raises:
            ConfigurationError: The client was closed meanwhile.
        """
        await self.wait(functools.partial(asyncio.sleep, seconds))

    def interruption(self) -> Interruption:
        """
        What interrupts the task that this is called in.

        Raises:
            ConfigurationError: There is no asyncio.
        """
        _running_loop()
        return Interruption()

    def _whom(self, proxy: URL | None) -> str:
        return self.host if proxy is None else f"{self.host}, by way of a proxy of the environment,"

    async def aclose(self) -> None:
        """
        Close the pool of the loop that this runs on. A pool of another loop is closed with that
        loop.
        """
        pool = self._pools.pop(asyncio.get_running_loop(), None)
        if pool is not None:
            await pool.aclose()

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
        inherit(self._pools)
        self._pools = {}

    async def _open(self) -> _Pool:
        loop = asyncio.get_running_loop()
        self._pools = {other: kept for other, kept in self._pools.items() if not other.is_closed()}
        deadlines = Deadlines(loop)
        if self._session is not None:
            pool = self._pools[loop] = _Pool(self._session, deadlines)
            return pool
        proxy = _environment_proxy(self._url)
        lock = asyncio.Lock()
        life = _session_life(self._max_connections, self._ssl_context, deadlines, lock)
        # The generator's first step does not wait for anything, so no other task can get here
        # meanwhile.
        session = await life.__anext__()
        pool = _Pool(session, deadlines, life, proxy)
        finalizer = weakref.finalize(pool, _drop, loop, os.getpid(), life, session, deadlines, lock)
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


@attrs.define(eq=False, repr=False)
class _Pool:
    """
    Connections on one loop: the transport's own, or those of the user's session.
    """

    session: aiohttp.ClientSession
    deadlines: Deadlines
    """Of what is under way."""
    life: AsyncGenerator[aiohttp.ClientSession, None] | None = None
    """`None` for a session of the user's."""
    proxy: URL | None = None

    async def answer(
        self,
        url: URL,
        headers: CIMultiDict[str],
        body: bytes,
        timeout: Timeout,
        deadline: Deadline,
    ) -> aiohttp.ClientResponse | None:
        """
        Send one request, and return the answer when its headers are there; `None` where the
        *deadline* was over before.
        """
        # Until there is a connection, a task is all that can be given up.
        with Interruption() as interrupt:
            deadline.begin(interrupt)
            try:
                raw = await self._post(url, headers, body, timeout, deadline)
                if not deadline.expired:
                    return raw
                raw.close()  # a middleware of the user's went on all the same
            except Exception:
                if not deadline.expired:
                    raise
            finally:
                deadline.end()
        return None

    async def _post(
        self,
        url: URL,
        headers: CIMultiDict[str],
        body: bytes,
        timeout: Timeout,
        deadline: Deadline,
    ) -> aiohttp.ClientResponse:
        if self.life is None or not _KNOWS_AIOHTTP:
            return await self.session.post(
                url,
                data=body if len(body) <= _SMALL else _Upload(body, deadline),
                headers=headers,
                timeout=_client_timeout(timeout.connect, timeout.idle),
                allow_redirects=False,
                proxy=self.proxy,
            )
        # What the session would do, without what no request of ours has: cookies, redirects,
        # middlewares, limits of aiohttp's own.
        request = _Request(url, headers, body, self.proxy, deadline)
        connector = self.session.connector
        assert connector is not None
        try:
            connection = await connector.connect(
                request, traces=[], timeout=_client_timeout(timeout.connect, None)
            )
        except asyncio.TimeoutError as error:
            raise aiohttp.ConnectionTimeoutError from error
        protocol = connection.protocol
        assert protocol is not None
        deadline.begin(protocol.abort)
        protocol.set_response_params(read_until_eof=True)
        try:
            raw = await request.send(connection)
            try:
                await raw.start(connection)
            except BaseException:
                raw.close()
                raise
            return raw
        except BaseException:
            # To close it would be to wait until the peer takes what is to be sent yet.
            protocol.abort()
            connection.close()
            raise

    async def aclose(self) -> None:
        """
        Give up what is under way, and close the connections that are not of the user's session.
        """
        self.deadlines.close()
        if self.life is not None:
            await self.life.aclose()


class _Request(aiohttp.ClientRequest):
    """
    A request from whose end on the answer is waited for.

    A body that fits into the socket's buffer goes out with the head, at once; aiohttp would take a
    task for it, a tenth of a call.
    """

    def __init__(
        self,
        url: URL,
        headers: CIMultiDict[str],
        body: bytes,
        proxy: URL | None,
        deadline: Deadline,
    ) -> None:
        is_small = proxy is None and len(body) <= _SMALL
        super().__init__(
            "POST",
            url,
            headers=headers,
            data=None if is_small else _Upload(body, deadline),
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
        await writer.write_headers(f"POST {self.url.raw_path_qs} HTTP/1.1", self.headers)
        await writer.write_eof(self._small)
        self._deadline.want()
        self._deadline.wait()
        return self.response_class(
            "POST",
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


_SMALL = 32 * 1024  # bytes; asyncio lets a socket's buffer grow to twice as many


class _Upload(io.BytesIO):
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


async def _session_life(
    max_connections: int,
    ssl_context: ssl.SSLContext | None,
    deadlines: Deadlines,
    lock: asyncio.Lock,
) -> AsyncGenerator[aiohttp.ClientSession, None]:
    connector = Connector(max_connections, ssl_context)
    session = aiohttp.ClientSession(connector=connector, cookie_jar=aiohttp.DummyCookieJar())
    try:
        yield session
    finally:
        await _close_session(session, deadlines, lock)


async def _close_session(
    session: aiohttp.ClientSession, deadlines: Deadlines, lock: asyncio.Lock
) -> None:
    async with lock:  # whoever comes second waits for the first
        deadlines.close()
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


def _environment_proxy(url: URL) -> URL | None:
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
    return None if proxy is None else URL(proxy)


@functools.lru_cache(maxsize=16)
def _client_timeout(connect: float | None, idle: float | None) -> aiohttp.ClientTimeout:
    # aiohttp rounds limits up to whole seconds above ceil_threshold; ours are exact. What is not
    # for a connection that is being made is for `Deadline`.
    return aiohttp.ClientTimeout(
        total=None, sock_connect=connect, sock_read=idle, ceil_threshold=math.inf
    )


def _over(
    deadline: Deadline, host: str, timeout: Timeout, phase: str
) -> APIConnectionError | ConfigurationError:
    if deadline.expired == "idle":
        return out_of_time("idle", timeout.idle, host, phase)
    if deadline.expired == "closed":
        return ConfigurationError(f"The client was closed while {phase} ({host}).")
    return out_of_time("total", timeout.total, host, phase)


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
        deadline: Deadline,
    ) -> None:
        self.status = raw.status
        self.raw_headers = raw.raw_headers
        self._raw = raw
        self._host = host
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
            failure, self._failure = self._failure, None
            try:
                raise failure
            finally:
                del failure  # a cycle through its traceback
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
        except (aiohttp.ClientError, OSError, asyncio.TimeoutError, RuntimeError) as error:
            if isinstance(error, RuntimeError):  # the connection was closed under the reader
                error = aiohttp.ServerDisconnectedError()
            if self._deadline.expired == "idle":
                phase = "waiting for the next event or bytes"
            else:
                phase = "reading the answer"
            if self._deadline.expired:
                self._failure = _over(self._deadline, self._host, self._timeout, phase)
            else:
                self._failure = _translate(error, self._host, self._timeout, phase)
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
