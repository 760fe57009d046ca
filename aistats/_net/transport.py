"""
One request out, one answer back, by way of aiohttp.

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
Host and port of servers that this process has started, with the transport that speaks to each. No
proxy leads to them.
"""

_AUTOMATIC = ("Accept", "Accept-Encoding", "Content-Type", "User-Agent")
"""Headers that aiohttp's session adds where they are missing."""

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
        # Loops of several threads open their pools at the same time.
        self._lock = threading.Lock()
        self._pools: dict[asyncio.AbstractEventLoop, _Pool] = {}

    @property
    def host(self) -> str:
        """
        Whom it talks to, for messages.
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
        Send one request, and return the answer when its headers are there.

        Args:
            method: The HTTP method.
            path: What follows the base URL.
            body: The request's body.
            headers: What `prepared` returned.
            query: Added to the URL.
            timeout: The limits of the call.
            remaining: What is left of its `total`, in seconds.
            trace: Is filled in with the times, whatever happens.

        Raises:
            APIConnectionError: No answer came.
            ConfigurationError: The user's session is closed, or is another loop's.
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
            # A user's own session has no traces of ours: there, only an error while connecting
            # proves that nothing was sent.
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
        running_loop()
        return Interruption()

    def _whom(self, proxy: URL | None) -> str:
        return self.host if proxy is None else f"{self.host}, by way of a proxy of the environment,"

    async def aclose(self) -> None:
        """
        Close the pool of the loop that this runs on. A pool of another loop is closed with that
        loop.
        """
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:  # not asyncio, which has no pool here
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
        Return all headers of a request: what aiohttp would add, and *headers*, which win.
        """
        merged = CIMultiDict({"Host": self._url.host_port_subcomponent or ""})
        merged.update(aiohttp.ClientRequest.DEFAULT_HEADERS)
        for name, value in headers.items():  # one by one: a name in another case is the same
            merged[name] = value
        return PreparedHeaders(merged)

    def begin_anew(self) -> None:
        """
        In a forked child: the pools are the parent's.
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
        # The generator's first step does not wait for anything, so no other task can get here
        # meanwhile.
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

        Where one of them was closed by the server, the others of its age mostly were, too.
        """
        pool = self._pools.get(asyncio.get_running_loop())
        if pool is not None and isinstance(pool.session.connector, Connector):
            pool.session.connector.drop_idle(before)


def running_loop() -> asyncio.AbstractEventLoop:
    """
    Return the event loop that runs in this thread.

    Raises:
        ConfigurationError: None does, as under Trio.
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
    Connections on one loop: the transport's own, or those of the user's session.
    """

    session: aiohttp.ClientSession
    deadlines: Deadlines
    """Of what is under way."""
    life: AsyncGenerator[aiohttp.ClientSession, None] | None = None
    """Closes the session; `None` for a session that the user closes."""
    proxy: URL | None = None
    is_plain: bool = attrs.field(init=False)
    """Whether the session is as the transport made it, and aiohttp's version is known."""

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
        Send one request, and return the answer when its headers are there; `None` where the
        *deadline* was over before.
        """
        # Until there is a connection, a task is all that can be given up.
        with Interruption() as interrupt:
            deadline.begin(interrupt)
            try:
                raw = await self._send(method, url, headers, body, timeout, deadline)
                if not deadline.expired:
                    return raw
                raw.close()  # a middleware of the user's went on all the same
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
                raise_for_status=False,  # whatever the user's session does for others
                proxy=self.proxy,
            )
        # What the session would do, without what no request of ours has: cookies, redirects,
        # middlewares, limits of aiohttp's own.
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


async def _session_life(
    make: Callable[[], aiohttp.ClientSession], deadlines: Deadlines, lock: asyncio.Lock
) -> AsyncGenerator[aiohttp.ClientSession, None]:
    made: Any = make()
    del make  # a method of the transport, which would never be collected
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


@functools.lru_cache(maxsize=16)
def _client_timeout(connect: float | None, idle: float | None) -> aiohttp.ClientTimeout:
    # aiohttp rounds limits up to whole seconds above ceil_threshold; ours are exact. What is not
    # for a connection that is being made is for `Deadline`.
    return aiohttp.ClientTimeout(
        total=None, sock_connect=connect, sock_read=idle, ceil_threshold=math.inf
    )
