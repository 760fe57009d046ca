"""
Sends one request over aiohttp and returns its response.

A connection pool belongs to an event loop, so a transport has one pool for each loop that uses it.
The first request opens the pool in an async generator, which stays suspended while the pool is in
use. Closing the transport, dropping it, and the end of the loop all close the generator, which
closes the pool. (`asyncio.run` closes all open generators.)

An aiohttp error is never raised, nor chained to an error of this package. Its traceback leads to
frames whose locals hold the key.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import math
import os
import ssl
import threading
import weakref
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from typing import Any, TypeVar

import aiohttp
import attrs
from multidict import CIMultiDict
from yarl import URL

from .._clock import monotonic
from .._errors import ConfigurationError
from .._exchange import AttemptTimes
from .._options import Timeout
from .connector import SENDING, Connector
from .deadlines import Deadline, Deadlines, Interruption
from .failures import given_up, translated
from .fork import inherit, watch_forks
from .patches import is_patched, is_untouched
from .proxy import environment_proxy
from .response import Response
from .sending import SMALL, PreparedHeaders, Request, Upload
from .tls import context_of_environment

__all__ = ("OWN_SERVERS", "Transport", "running_loop")

T = TypeVar("T")

OWN_SERVERS: dict[str, type[Transport]] = {}
"""
Host and port of servers that this process started, and the transport of each. Requests to them use
no proxy.
"""

_AUTOMATIC = ("Accept", "Accept-Encoding", "Content-Type", "User-Agent")
"""Headers that aiohttp's session adds if they are missing."""

_KNOWS_AIOHTTP = aiohttp.__version__.startswith("3.14.")
"""
Whether requests can bypass aiohttp's session, which takes 25 of the 95 µs of a call.
"""


class Transport:
    """
    Sends requests over connection pools, one pool for each event loop.
    """

    def __init__(
        self,
        url: str,
        *,
        max_connections: int,
        ssl_context: ssl.SSLContext | None,
        session: aiohttp.ClientSession | Callable[[], aiohttp.ClientSession] | None,
    ) -> None:
        self._url = URL(url)
        self._addresses: dict[str, URL] = {}
        self._max_connections = max_connections
        self._ssl_context = ssl_context
        self._session = session
        watch_forks(self)
        # The loops of several threads may open their pools at the same time.
        self._lock = threading.Lock()
        self._pools: dict[asyncio.AbstractEventLoop, _Pool] = {}

    @property
    def host(self) -> str:
        """
        Host and port of the gateway, used in error messages.
        """
        return self._url.host_port_subcomponent or str(self._url)

    async def send(
        self,
        method: str,
        path: str,
        body: bytes,
        headers: PreparedHeaders,
        query: Mapping[str, str],
        timeout: Timeout,
        remaining: float | None,
        trace: AttemptTimes,
    ) -> Response:
        """
        Send one request, and return the response when its headers have arrived.

        Args:
            method: The HTTP method.
            path: The path after the base URL.
            body: The body of the request.
            headers: The headers, from `prepared`.
            query: Parameters added to the URL.
            timeout: The time limits of the call.
            remaining: The time left of `timeout.total`, in seconds.
            trace: Records the times of the attempt, also when it fails.

        Raises:
            APIConnectionError: No response arrived.
            ConfigurationError: The user's session is closed, or belongs to another loop.
        """
        pool = self._pools.get(running_loop()) or await self._open()
        whom = self._whom(pool.proxy)
        deadline = Deadline(pool.deadlines, timeout.idle, remaining)
        failure: Exception
        SENDING.set(trace)
        try:
            raw = await pool.answer(
                method, self._address(path, query), headers.fields, body, timeout, deadline
            )
            # A user's own session doesn't report when the request is sent. Only an error while
            # connecting proves that it was not.
            trace.is_sent = trace.is_sent or self._session is not None
            if raw is not None:
                trace.first_byte = monotonic()
                return Response(raw, self.host, timeout, deadline)
            failure = given_up(deadline, whom, timeout, trace.phase)
        except (TimeoutError, aiohttp.ClientError, OSError, RuntimeError, ValueError) as error:
            if self._session is not None:
                trace.is_sent = not isinstance(
                    error, aiohttp.ClientConnectorError | aiohttp.ConnectionTimeoutError
                )
            is_own = self._session is None
            failure = translated(error, whom, timeout, trace.phase, is_own=is_own)
        # Raised outside the handler, so that aiohttp's error is not the context of this one.
        try:
            raise failure
        finally:
            del failure  # a cycle through its traceback

    async def wait(self, start: Callable[[], Awaitable[T]], seconds: float | None = None) -> T:
        """
        Return the result of the awaitable that *start* returns.

        Raises:
            ConfigurationError: The client was closed meanwhile.
            TimeoutError: The awaitable took more than this number of *seconds*.
        """
        pool = self._pools.get(running_loop()) or await self._open()
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
        Wait for this number of *seconds*.

        Raises:
            ConfigurationError: The client was closed meanwhile.
        """
        await self.wait(functools.partial(asyncio.sleep, seconds))

    def interruption(self) -> Interruption:
        """
        Return an object that interrupts the current task.

        Raises:
            ConfigurationError: No asyncio event loop runs.
        """
        running_loop()
        return Interruption()

    def _whom(self, proxy: URL | None) -> str:
        return self.host if proxy is None else f"{self.host}, by way of a proxy of the environment,"

    async def aclose(self) -> None:
        """
        Close the pool of the running loop. Pools of other loops are closed with their loops.
        """
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:  # not under asyncio, so there is no pool
            return
        with self._lock:
            pool = self._pools.pop(loop, None)
        if pool is not None:
            await pool.aclose()

    def _address(self, path: str, query: Mapping[str, str]) -> URL:
        url = self._addresses.get(path)
        if url is None:
            url = self._addresses[path] = self._url.joinpath(path, encoded=True)
        return url.update_query(query) if query else url

    def prepared(self, headers: Mapping[str, str]) -> PreparedHeaders:
        """
        Return all headers of a request: *headers*, and those that aiohttp adds if they are missing.
        """
        merged = CIMultiDict({"Host": self._url.host_port_subcomponent or ""})
        merged.update(aiohttp.ClientRequest.DEFAULT_HEADERS)
        for name, value in headers.items():  # one by one, since names ignore case
            merged[name] = value
        return PreparedHeaders(merged)

    def reset_after_fork(self) -> None:
        """
        Reset after fork: the pools belong to the parent.
        """
        inherit(self._pools)
        self._lock = threading.Lock()
        self._pools = {}

    async def _open(self) -> _Pool:
        loop = asyncio.get_running_loop()
        with self._lock:
            for closed in [other for other in self._pools if other.is_closed()]:
                del self._pools[closed]
        deadlines = Deadlines(loop)
        if self._session is not None and not callable(self._session):
            pool = _Pool(self._session, deadlines)
            with self._lock:
                self._pools[loop] = pool
            return pool
        is_proxied = self._session is None and self._url.authority not in OWN_SERVERS
        proxy = environment_proxy(self._url) if is_proxied else None
        lock = asyncio.Lock()
        life = _session_life(self._session or self._own_session, deadlines, lock)
        # The first step of the generator doesn't suspend, so no other task can run meanwhile.
        session = await life.__anext__()
        pool = _Pool(session, deadlines, life, proxy)
        finalizer = weakref.finalize(pool, _drop, loop, os.getpid(), life, session, deadlines, lock)
        finalizer.atexit = False
        with self._lock:
            self._pools[loop] = pool
        return pool

    def _own_session(self) -> aiohttp.ClientSession:
        context = self._ssl_context
        if context is None and self._url.scheme == "https":
            context = context_of_environment()
        return aiohttp.ClientSession(
            connector=Connector(self._max_connections, context), cookie_jar=aiohttp.DummyCookieJar()
        )

    def drop_idle(self, before: float) -> None:
        """
        Close the connections of this loop that have been idle since *before*, by `monotonic`.

        If the server closed one of them, it has usually closed the others of the same age as well.
        """
        pool = self._pools.get(asyncio.get_running_loop())
        if pool is not None and isinstance(pool.session.connector, Connector):
            pool.session.connector.drop_idle(before)


def running_loop() -> asyncio.AbstractEventLoop:
    """
    Return the event loop that runs in this thread.

    Raises:
        ConfigurationError: No asyncio event loop runs, as under Trio.
    """
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
    The connections on one loop, in the transport's own session or in the user's.
    """

    session: aiohttp.ClientSession
    deadlines: Deadlines
    """The deadlines of operations in progress."""
    life: AsyncGenerator[aiohttp.ClientSession, None] | None = None
    """Closes the session; `None` for a session that the user closes."""
    proxy: URL | None = None
    is_plain: bool = attrs.field(init=False)
    """Whether the session is unmodified, and aiohttp's version is known."""

    def __attrs_post_init__(self) -> None:
        self.is_plain = _KNOWS_AIOHTTP and is_untouched(self.session)

    async def answer(
        self,
        method: str,
        url: URL,
        headers: CIMultiDict[str],
        body: bytes,
        timeout: Timeout,
        deadline: Deadline,
    ) -> aiohttp.ClientResponse | None:
        """
        Send one request, and return the response when its headers have arrived; `None` if the
        *deadline* expired before.
        """
        # Until there is a connection, only the task can be interrupted.
        with Interruption() as interrupt:
            deadline.begin(interrupt)
            try:
                raw = await self._send(method, url, headers, body, timeout, deadline)
                if not deadline.expired:
                    return raw
                raw.close()  # a user's middleware ignored the interruption
            except Exception:
                if not deadline.expired:
                    raise
            finally:
                deadline.end()
        return None

    async def _send(
        self,
        method: str,
        url: URL,
        headers: CIMultiDict[str],
        body: bytes,
        timeout: Timeout,
        deadline: Deadline,
    ) -> aiohttp.ClientResponse:
        if not self.is_plain or is_patched():
            return await self.session.request(
                method,
                url,
                data=body if len(body) <= SMALL else Upload(body, deadline),
                headers=headers,
                skip_auto_headers=[name for name in _AUTOMATIC if name not in headers],
                timeout=_client_timeout(timeout.connect, timeout.idle),
                allow_redirects=False,
                raise_for_status=False,  # overrides the user's session
                proxy=self.proxy,
            )
        # The steps of the session, without the features that no request here uses: cookies,
        # redirects, middlewares, aiohttp's timeouts.
        request = Request(method, url, headers, body, self.proxy, deadline)
        connector = self.session.connector
        assert connector is not None
        try:
            connection = await connector.connect(
                request, traces=[], timeout=_client_timeout(timeout.connect, None)
            )
        except TimeoutError as error:
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
            # Closing gracefully would wait until the peer has received the rest of the request.
            protocol.abort()
            connection.close()
            raise

    async def aclose(self) -> None:
        """
        End all operations, and close the connections, except those of the user's session.
        """
        self.deadlines.close()
        if self.life is not None:
            await self.life.aclose()


async def _session_life(
    make: Callable[[], aiohttp.ClientSession], deadlines: Deadlines, lock: asyncio.Lock
) -> AsyncGenerator[aiohttp.ClientSession, None]:
    made: Any = make()
    del make  # a reference to the transport would keep it alive
    if not hasattr(made, "request") or not hasattr(made, "closed"):
        if asyncio.iscoroutine(made):
            made.close()
        raise ConfigurationError(
            "session must be an aiohttp.ClientSession, or a plain function that returns one; it "
            f"returned {type(made).__name__}"
        )
    session: aiohttp.ClientSession = made
    try:
        yield session
    finally:
        await _close_session(session, deadlines, lock)


async def _close_session(
    session: aiohttp.ClientSession, deadlines: Deadlines, lock: asyncio.Lock
) -> None:
    async with lock:  # a second caller waits for the first
        deadlines.close()
        await session.close()


def _drop(
    loop: asyncio.AbstractEventLoop,
    pid: int,
    life: AsyncGenerator[aiohttp.ClientSession, None],
    *session: Any,
) -> None:
    # The pool has been collected. Its generator is closed here, not left to the collector: asyncio
    # would close it in a task that the end of the loop does not wait for. If the loop ends
    # meanwhile, it closes the generator.
    if pid != os.getpid():
        inherit(life, session)
        return
    with contextlib.suppress(RuntimeError):  # the loop is closed, and so is the pool
        loop.call_soon_threadsafe(_end, loop, life, *session)


def _end(
    loop: asyncio.AbstractEventLoop,
    life: AsyncGenerator[aiohttp.ClientSession, None],
    session: aiohttp.ClientSession,
    *rest: Any,
) -> None:
    def finish(ended: asyncio.Task[None]) -> None:
        if ended.cancelled():  # by the end of the loop, perhaps before the first step
            _end(loop, life, session, *rest)
            return
        with contextlib.suppress(StopIteration, RuntimeError):  # closed or closing
            life.aclose().__await__().send(None)

    if not session.closed:
        loop.create_task(_close_session(session, *rest)).add_done_callback(finish)


@functools.lru_cache(maxsize=16)
def _client_timeout(connect: float | None, idle: float | None) -> aiohttp.ClientTimeout:
    # aiohttp rounds limits above `ceil_threshold` up to whole seconds; these are exact. `Deadline`
    # enforces all limits but that for connecting.
    return aiohttp.ClientTimeout(
        total=None, sock_connect=connect, sock_read=idle, ceil_threshold=math.inf
    )
