"""
The synchronous client: `AsyncClient` seen through a background event loop. There is no logic of
calls here.
"""

from __future__ import annotations

import asyncio
import atexit
import concurrent.futures
import contextlib
import functools
import os
import sys
import threading
import weakref
from collections.abc import Callable, Coroutine, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any, Generic, TypeVar, overload

from anyio.from_thread import BlockingPortal, start_blocking_portal

from ._errors import ConfigurationError
from ._gateway import MAX_RESPONSE_BYTES, NOT_GIVEN, Gateway, NotGiven
from ._limits import Limits
from ._models import ChatCompletionsResponse
from ._request import ChatCompletionsRequest
from ._retry import RetryPolicy
from ._stream import Stream
from ._timeout import Timeout

if TYPE_CHECKING:
    import ssl

    import aiohttp

    from ._params import ChatCompletionsParams

if sys.version_info >= (3, 11):
    from typing import Self, Unpack
else:
    from typing_extensions import Self, Unpack

__all__ = ("Client",)

T = TypeVar("T")

# What a forked child has of its parent's loops: kept, so that nothing is closed, and never used.
_inherited: list[Any] = []


class _LoopThread:
    """
    An event loop in a thread of its own, started at first use.

    It ends when it is stopped, dropped, or the interpreter ends, whichever comes first.

    Args:
        transport: What has connections on the loop. It is kept until the loop has ended: were it
            collected together with the client, the loop could not close its pool any more.
    """

    def __init__(self, transport: object) -> None:
        self._transport = transport
        self._lock = threading.Lock()
        self._pid = os.getpid()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop: Callable[[], object] | None = None
        self._is_stopped = False

    def run(self, step: Callable[[], Coroutine[Any, Any, T]], /) -> T:
        """
        Run *step* on the loop, and wait for its result. An interruption of the wait cancels it.

        Raises:
            ConfigurationError: The loop has been stopped.
        """
        hop = _Hop(step)
        # Under the lock, so that what is started is on the loop before a stop is.
        with self._lock_here():
            loop = self._started()
            try:
                loop.call_soon_threadsafe(hop.start)
            except RuntimeError:  # the interpreter ends, and has stopped the loop
                raise _closed() from None
        try:
            hop.done.acquire()
        except BaseException:
            with contextlib.suppress(RuntimeError):  # the loop has gone
                loop.call_soon_threadsafe(hop.cancel)
            raise
        return hop.result()

    def stop(self) -> None:
        """
        End the loop and its thread, and what runs on it. A second time does nothing.
        """
        with self._lock:
            self._is_stopped = True
            stop, self._stop = self._stop, None
        if stop is not None and self._pid == os.getpid():
            stop()

    def _lock_here(self) -> threading.Lock:
        if self._pid != os.getpid():
            # A forked child has its parent's memory, but not its threads. The lock may be held for
            # ever, too.
            _inherited.append((self._loop, self._stop))
            self._lock = threading.Lock()
            self._pid = os.getpid()
            self._loop = None
        return self._lock

    def _started(self) -> asyncio.AbstractEventLoop:
        if self._is_stopped:
            raise _closed()
        if self._loop is None:
            stack, portal, thread, loop = _start_portal()
            self._loop = loop
            self._stop = weakref.finalize(
                self, _stop_portal, stack, portal, thread, os.getpid(), self._transport
            )
            _watch_exit()
        return self._loop


class _Hop(Generic[T]):
    """
    One coroutine's way over to the loop, and the way of its result back.

    Costs half of what a portal's task does: no future that two threads can wait for, no scope.
    """

    __slots__ = ("_step", "_task", "done")

    def __init__(self, step: Callable[[], Coroutine[Any, Any, T]]) -> None:
        self._step = step
        self._task: asyncio.Task[T] | None = None
        self.done = threading.Lock()
        """Can be acquired when there is a result."""
        self.done.acquire()

    def start(self) -> None:
        """
        Start it; on the loop.
        """
        self._task = asyncio.get_running_loop().create_task(self._step())
        self._task.add_done_callback(self._end)

    def _end(self, task: asyncio.Task[T]) -> None:
        if not task.cancelled():
            task.exception()  # looked at, so that asyncio does not complain that nobody did
        self.done.release()

    def cancel(self) -> None:
        """
        Nobody waits any more; on the loop.
        """
        if self._task is not None:
            self._task.cancel()

    def result(self) -> T:
        """
        What came of it, once it is done.

        Raises:
            ConfigurationError: The loop has ended.
        """
        assert self._task is not None
        task, self._task = self._task, None  # no cycle by way of an error's traceback
        if not task.cancelled():
            return task.result()
        if _exiting.is_set():
            raise SystemExit  # in a daemon thread: it ends without a word
        raise _closed()


_exiting = threading.Event()


@functools.cache
def _watch_exit() -> None:
    # Registered after weakref.finalize's own function, and so called before it, which stops the
    # loops.
    atexit.register(_exiting.set)


def _closed() -> ConfigurationError:
    return ConfigurationError("The client has been closed; make a new one.")


_Portal = tuple[contextlib.ExitStack, BlockingPortal, int, asyncio.AbstractEventLoop]


def _start_portal() -> _Portal:
    # In a thread of its own, since anyio's start can't be interrupted, and a wait for a future can.
    started: concurrent.futures.Future[_Portal] = concurrent.futures.Future()

    def start() -> None:
        stack = contextlib.ExitStack()
        try:
            portal = stack.enter_context(start_blocking_portal(name="aistats"))
            loop = portal.call(asyncio.get_running_loop)
            started.set_result((stack, portal, portal.call(threading.get_ident), loop))
        except BaseException as error:
            started.set_exception(error)

    threading.Thread(target=start, name="aistats-start", daemon=True).start()
    try:
        return started.result()
    except BaseException:
        started.add_done_callback(_abandon)
        raise


def _abandon(started: concurrent.futures.Future[_Portal]) -> None:
    # The caller was interrupted before the loop was there.
    if started.exception() is None:
        stack, portal, *_ = started.result()
        _stop_portal(stack, portal, 0, os.getpid(), None)


def _stop_portal(
    stack: contextlib.ExitStack, portal: BlockingPortal, thread: int, pid: int, transport: object
) -> None:
    if pid != os.getpid():
        _inherited.append((stack, portal, transport))
        return
    if threading.get_ident() == thread:
        # The collector runs on any thread, the loop's own too, where to wait for its end would be
        # to wait for ever.
        arguments = (stack, portal, 0, pid, transport)
        threading.Thread(target=_stop_portal, args=arguments, name="aistats-stop").start()
        return
    with contextlib.suppress(RuntimeError):  # it has stopped already
        portal.call(portal.stop, True)
    stack.close()


class Client:
    """
    Talks to the gateway from synchronous code.

    The same as `AsyncClient`, on an event loop in a background thread, which starts with the first
    call. It works where an event loop runs already, as in a notebook, and from many threads at
    once. Use it with `with`, or close it with `close()`; one that is dropped or never closed ends
    by itself. After `os.fork()` the child's first call starts anew. A service that is asynchronous
    itself should use `AsyncClient`.

    Args:
        api_key: The gateway's key; by default the environment's `AI_STATS_API_KEY`.
        base_url: Where the gateway is; by default the environment's `AI_STATS_BASE_URL`, else
            `https://api.phaseo.app/v1`.
        timeout: The limits of a call: a `Timeout`, a number of seconds for the whole of it, or
            `None` for none.
        max_retries: How often a failed call is tried again at the most, or a `RetryPolicy`.
        max_connections: How many connections are open at the most; calls beyond that queue.
        default_headers: Headers for each request, on top of the client's own.
        ssl_context: What certificates are trusted; by default what the system or `SSL_CERT_FILE`
            says.
        session: Your own `aiohttp.ClientSession`, which the client uses and does not close. It
            belongs to the loop it was made in, so one that was not made in this client's loop
            raises `ConfigurationError` when it is used.
        max_response_bytes: The longest answer, or event of a stream, that is read, in bytes.

    Raises:
        ConfigurationError: There is no key, or a value can't be used.
    """

    def __init__(
        self,
        api_key: str | None = None,
        base_url: str | None = None,
        *,
        timeout: Timeout | float | NotGiven | None = NOT_GIVEN,
        max_retries: int | RetryPolicy = 2,
        max_connections: int = 100,
        default_headers: Mapping[str, str] | None = None,
        ssl_context: ssl.SSLContext | None = None,
        session: aiohttp.ClientSession | None = None,
        max_response_bytes: int = MAX_RESPONSE_BYTES,
    ) -> None:
        key, api_key = [api_key], None  # so that no traceback shows it
        self._gateway = Gateway(
            key.pop(),
            base_url,
            timeout=timeout,
            max_retries=max_retries,
            max_connections=max_connections,
            default_headers=default_headers,
            ssl_context=ssl_context,
            session=session,
            max_response_bytes=max_response_bytes,
        )
        self._loop = _LoopThread(self._gateway.transport)

    def __reduce__(self) -> tuple[Any, ...]:
        # It pickles by its settings, the key among them, so that a pool of processes can use it.
        return functools.partial(type(self), **self._gateway.settings()), ()

    @property
    def base_url(self) -> str:
        """
        Where the gateway is, without a slash at the end.
        """
        return self._gateway.base_url

    @property
    def limits(self) -> Limits:
        """
        How many requests may be under way at once, as the gateway's answers have taught.
        """
        return self._gateway.limits

    @property
    def is_closed(self) -> bool:
        """
        Whether the client has been closed.
        """
        return self._gateway.is_closed

    @overload
    def generate_text(
        self,
        request: ChatCompletionsRequest | ChatCompletionsParams | None = None,
        /,
        *,
        timeout: Timeout | float | NotGiven | None = ...,
        max_retries: int | RetryPolicy | None = ...,
        extra_headers: Mapping[str, str] | None = ...,
        extra_query: Mapping[str, str] | None = ...,
        extra_body: Mapping[str, Any] | None = ...,
        **params: Unpack[ChatCompletionsParams],
    ) -> ChatCompletionsResponse: ...

    @overload
    def generate_text(
        self,
        request: ChatCompletionsRequest | ChatCompletionsParams | None = None,
        /,
        *,
        only_a_dict_can_give_this: object,
        **options: object,
    ) -> ChatCompletionsResponse: ...

    def generate_text(
        self,
        request: Any = None,
        /,
        *,
        timeout: Any = NOT_GIVEN,
        max_retries: Any = None,
        extra_headers: Any = None,
        extra_query: Any = None,
        extra_body: Any = None,
        **params: Any,
    ) -> ChatCompletionsResponse:
        """
        Ask for an answer, and wait for the whole of it. See `AsyncClient.generate_text`.
        """
        call = self._gateway.call(
            request,
            params,
            is_stream=False,
            timeout=timeout,
            max_retries=max_retries,
            extra_headers=extra_headers,
            extra_query=extra_query,
            extra_body=extra_body,
        )
        return self._loop.run(call.whole)

    @overload
    def stream_text(
        self,
        request: ChatCompletionsRequest | ChatCompletionsParams | None = None,
        /,
        *,
        timeout: Timeout | float | NotGiven | None = ...,
        max_retries: int | RetryPolicy | None = ...,
        extra_headers: Mapping[str, str] | None = ...,
        extra_query: Mapping[str, str] | None = ...,
        extra_body: Mapping[str, Any] | None = ...,
        **params: Unpack[ChatCompletionsParams],
    ) -> Stream: ...

    @overload
    def stream_text(
        self,
        request: ChatCompletionsRequest | ChatCompletionsParams | None = None,
        /,
        *,
        only_a_dict_can_give_this: object,
        **options: object,
    ) -> Stream: ...

    def stream_text(
        self,
        request: Any = None,
        /,
        *,
        timeout: Any = NOT_GIVEN,
        max_retries: Any = None,
        extra_headers: Any = None,
        extra_query: Any = None,
        extra_body: Any = None,
        **params: Any,
    ) -> Stream:
        """
        Ask for an answer as a stream of chunks. See `AsyncClient.stream_text`.
        """
        call = self._gateway.call(
            request,
            params,
            is_stream=True,
            timeout=timeout,
            max_retries=max_retries,
            extra_headers=extra_headers,
            extra_query=extra_query,
            extra_body=extra_body,
        )
        return Stream(call.open, self._loop.run)

    def close(self) -> None:
        """
        Close the client, its connections and its loop. What it is still doing ends with
        `ConfigurationError`.
        """
        self._gateway.is_closed = True
        self._loop.stop()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()
