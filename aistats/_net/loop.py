"""
The event loop on which all synchronous clients of a process run their calls.

One daemon thread runs it. It starts with the first call, and ends with the process: calls of exit
handlers still work.
"""

from __future__ import annotations

import asyncio
import atexit
import concurrent.futures
import contextlib
import threading
import weakref
from collections.abc import Callable, Coroutine
from typing import Any, Final, Generic, Protocol, TypeVar

from .._clock import monotonic
from .._errors import ConfigurationError, at_local_limit
from .fork import inherit, watch_forks
from .local_limits import check_descriptors, local_limit

__all__ = ("BackgroundCalls",)

T = TypeVar("T")

_LONGEST_WAIT: Final = 0.5  # seconds between two looks at signals
_EXIT_WAIT: Final = 2.0  # seconds to close connections at interpreter exit


class Closable(Protocol):
    """
    A transport with connections on the loop.
    """

    async def aclose(self) -> None:
        """
        Close the connections of the running loop.
        """
        ...


class BackgroundCalls:
    """
    The calls of one client on the background loop.

    Args:
        transport: The client's transport, which is closed with it.
    """

    def __init__(self, transport: Closable) -> None:
        self._transport = transport
        self._is_closed = False
        self._tasks: set[asyncio.Task[Any]] = set()
        watch_forks(self)

    def begin_anew(self) -> None:
        """
        Forget the parent's calls in a forked child.
        """
        inherit(self._tasks)
        self._tasks = set()

    def run(self, step: Callable[[], Coroutine[Any, Any, T]], /) -> T:
        """
        Run *step* on the loop and return its result. An interruption of the wait cancels it.

        Raises:
            ConfigurationError: The client has been closed, this is the loop's own thread, or the
                interpreter is shutting down and starts no more threads.
            APIConnectionError: A limit of this process, such as open files, prevents the start of
                the loop.
        """
        if self._is_closed:
            raise _closed()
        if threading.get_ident() == _background.ident:
            raise ConfigurationError(
                "A Client was called from the event loop thread that all clients share. The call "
                "would wait for itself. `retry_if`, session factories and log handlers run in "
                "that thread; call the client from another thread there."
            )
        loop = _background.started()
        if not _background.is_exiting:
            _living.add(self)
        elif self._transport not in _kept:
            _kept.append(self._transport)  # collected, it would warn of open connections
        hop = _Hop(step, self._tasks)
        loop.call_soon_threadsafe(hop.start)
        if self._is_closed:  # by another thread, perhaps before the call was on the loop
            loop.call_soon_threadsafe(hop.cancel)
        return _wait(loop, hop)

    def stop(self) -> None:
        """
        Close the connections and cancel the calls. A second time does nothing.
        """
        if self._is_closed:
            return
        self._is_closed = True
        loop = _background.loop
        if loop is None:
            return
        if threading.get_ident() == _background.ident:
            hop = _Hop(self._end, _ending)
            loop.call_soon(hop.start)
        else:
            hop = _Hop(self._end, _ending)
            loop.call_soon_threadsafe(hop.start)
            _wait(loop, hop)

    async def _end(self) -> None:
        await self._transport.aclose()  # deadlines end what is in flight
        own = asyncio.current_task()
        left = [task for task in self._tasks if task is not own]
        for task in left:
            task.cancel()
        if left:
            await asyncio.wait(left)
            await self._transport.aclose()  # a call may have opened the pool again

    async def end_at_exit(self) -> None:
        """
        Cancel the calls, which only daemon threads wait for, and close the connections.
        """
        for task in self._tasks:
            task.cancel()
        await self._transport.aclose()


class _Hop(Generic[T]):
    """
    One coroutine's way to the loop, and the way back of its result.

    It costs half as much as a future of `asyncio.run_coroutine_threadsafe`.
    """

    __slots__ = ("_step", "_task", "_tasks", "done")

    def __init__(
        self, step: Callable[[], Coroutine[Any, Any, T]], tasks: set[asyncio.Task[Any]]
    ) -> None:
        self._step = step
        self._tasks = tasks
        self._task: asyncio.Task[T] | None = None
        self.done = threading.Lock()
        """Can be acquired when there is a result."""
        self.done.acquire()

    def start(self) -> None:
        """
        Start the coroutine. Runs on the loop.
        """
        self._task = asyncio.get_running_loop().create_task(self._step())
        self._tasks.add(self._task)
        self._task.add_done_callback(self._end)

    def _end(self, task: asyncio.Task[T]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            task.exception()  # marks it as retrieved, so that asyncio doesn't log it
        self.done.release()

    def cancel(self) -> None:
        """
        Cancel the coroutine. Runs on the loop.
        """
        if self._task is not None:
            self._task.cancel()

    def result(self) -> T:
        """
        Return the result of the coroutine, once it is done.

        Raises:
            ConfigurationError: The client has been closed meanwhile.
        """
        assert self._task is not None
        task, self._task = self._task, None  # no cycle through the traceback of an error
        if not task.cancelled():
            return task.result()
        if _background.is_exiting:
            raise SystemExit  # ends a daemon thread silently
        raise _closed()


def _wait(loop: asyncio.AbstractEventLoop, hop: _Hop[T]) -> T:
    try:
        # A Ctrl-C that arrives just before the lock is waited for is only seen after a wait.
        while not hop.done.acquire(timeout=_LONGEST_WAIT):
            pass
    except BaseException:
        loop.call_soon_threadsafe(hop.cancel)
        raise
    return hop.result()


class _Background:
    """
    The process's event loop and its thread.
    """

    def __init__(self) -> None:
        self._be_new()
        self.is_exiting = False
        watch_forks(self)

    def _be_new(self) -> None:
        # Reentrant: a signal handler may make a call while the loop starts.
        self._lock = threading.RLock()
        self.loop: asyncio.AbstractEventLoop | None = None
        self.ident: int | None = None
        """Of the thread."""

    def begin_anew(self) -> None:
        """
        Start another loop at the first call of a forked child, which lacks the thread.
        """
        inherit(self.loop)
        self._be_new()

    def started(self) -> asyncio.AbstractEventLoop:
        """
        Return the loop; start it at first use.
        """
        if (loop := self.loop) is not None:
            return loop
        with self._lock:
            if self.loop is None:
                self.ident, self.loop = _start_loop()
                atexit.unregister(_close_living)  # a forked child has its parent's
                atexit.register(_close_living)
            return self.loop


_background: Final = _Background()
_living: weakref.WeakSet[BackgroundCalls] = weakref.WeakSet()
_ending: Final[set[asyncio.Task[Any]]] = set()
_kept: Final[list[object]] = []


def _close_living() -> None:
    _background.is_exiting = True
    loop, living = _background.loop, list(_living)
    if loop is None:
        return

    async def close() -> None:
        for calls in living:
            await calls.end_at_exit()

    hop = _Hop(close, _ending)
    loop.call_soon_threadsafe(hop.start)
    hop.done.acquire(timeout=_EXIT_WAIT)


def _closed() -> ConfigurationError:
    return ConfigurationError("The client has been closed; make a new one.")


def _start_loop() -> tuple[int, asyncio.AbstractEventLoop]:
    started: concurrent.futures.Future[tuple[int, asyncio.AbstractEventLoop]]
    started = concurrent.futures.Future()  # a wait for a future can be interrupted
    thread = threading.Thread(target=_run_loop, args=(started,), name="aistats", daemon=True)
    try:
        check_descriptors()
        thread.start()
        return started.result()
    except (OSError, RuntimeError) as error:
        if "interpreter shutdown" in str(error):
            raise ConfigurationError(
                "The first call of a Client came while the interpreter shuts down, when Python "
                "starts no more threads. Make a call earlier, or use AsyncClient here."
            ) from None
        if (limit := local_limit(error)) is None:
            raise
        raise at_local_limit("The client's event loop can't start", limit) from None
    except BaseException:
        started.add_done_callback(_abandon)
        raise


def _run_loop(started: concurrent.futures.Future[tuple[int, asyncio.AbstractEventLoop]]) -> None:
    # Not by `asyncio.run`, which nest_asyncio and others replace.
    try:
        loop = asyncio.new_event_loop()
    except BaseException as error:
        started.set_exception(error)
        return
    with contextlib.suppress(AttributeError):  # uvloop has a clock of its own
        loop.time = monotonic  # type: ignore[method-assign]
    loop.call_soon(started.set_result, (threading.get_ident(), loop))
    try:
        loop.run_forever()
    except RuntimeError as error:  # another loop runs in this thread
        if started.done():
            raise
        started.set_exception(error)
    finally:
        loop.close()


def _abandon(
    started: concurrent.futures.Future[tuple[int, asyncio.AbstractEventLoop]],
) -> None:
    # The caller was interrupted before the loop ran.
    if started.exception() is None:
        _, loop = started.result()
        loop.call_soon_threadsafe(loop.stop)
