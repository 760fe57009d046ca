"""
A background event loop, on which synchronous code has its calls made.
"""

from __future__ import annotations

import asyncio
import atexit
import concurrent.futures
import contextlib
import functools
import os
import threading
import weakref
from collections.abc import Callable, Coroutine
from typing import Any, Generic, TypeVar

from .._clock import monotonic
from .._errors import ConfigurationError, at_local_limit
from .fork import inherit, watch_forks
from .local_limits import check_descriptors, local_limit

__all__ = ("LoopThread",)

T = TypeVar("T")

_LONGEST_WAIT = 0.5  # seconds


class LoopThread:
    """
    An event loop in a thread of its own, started at first use.

    It ends when it is stopped, dropped, or the interpreter ends, whichever comes first.

    Args:
        transport: What has connections on the loop. It is kept until the loop has ended: were it
            collected together with the client, the loop could not close its pool any more.
    """

    def __init__(self, transport: object) -> None:
        self._transport = transport
        self._is_stopped = False
        self._be_new()
        watch_forks(self)

    def begin_anew(self) -> None:
        """
        In a forked child, which has not the thread: one of its own is started at first use.
        """
        inherit(self._loop, self._stop)
        self._be_new()

    def _be_new(self) -> None:
        # Reentrant, since a signal's handler may close the client in the middle of a call.
        self._lock = threading.RLock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop: Callable[[], object] | None = None
        self._ident: int | None = None  # of the thread

    def run(self, step: Callable[[], Coroutine[Any, Any, T]], /) -> T:
        """
        Run *step* on the loop, and wait for its result. An interruption of the wait cancels it.

        Raises:
            ConfigurationError: The loop has been stopped, or this is its own thread.
        APIConnectionError: A limit of this process, such as that of open files, keeps it from
            starting.
        """
        if threading.get_ident() == self._ident:
            raise ConfigurationError(
                "This client was called from its own event loop, which would wait for itself: that "
                "is where `retry_if` and what handles the log of the client's calls run. Use "
                "another client there."
            )
        hop = _Hop(step)
        try:
            # Under the lock, so that what is started is on the loop before a stop is.
            with self._lock:
                loop = self._started()
                try:
                    loop.call_soon_threadsafe(hop.start)
                except RuntimeError:  # the interpreter ends, and has stopped the loop
                    raise _closed() from None
            # A Ctrl-C that came while this thread waited for its turn, just before the lock, would
            # be seen only after it.
            while not hop.done.acquire(timeout=_LONGEST_WAIT):
                pass
        except BaseException:
            # Interrupted, perhaps before the wait began.
            if self._loop is not None:
                with contextlib.suppress(RuntimeError):  # the loop has gone
                    self._loop.call_soon_threadsafe(hop.cancel)
            raise
        return hop.result()

    def stop(self) -> None:
        """
        End the loop and its thread, and what runs on it. A second time does nothing.
        """
        with self._lock:
            self._is_stopped = True
            self._ident = None  # another thread may get it
            stop, self._stop = self._stop, None
        if stop is not None:
            stop()

    def _started(self) -> asyncio.AbstractEventLoop:
        if self._is_stopped:
            raise _closed()
        if self._loop is None:
            started = _start_loop()
            self._ident = started[0].ident
            self._loop = started[1]
            self._stop = weakref.finalize(self, _stop_loop, *started, os.getpid(), self._transport)
            _watch_exit()
        return self._loop


class _Hop(Generic[T]):
    """
    One coroutine's way over to the loop, and the way of its result back.

    Costs half of what a task of anyio's portal does: no future that two threads can wait for, no
    cancel scope.
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


_Started = tuple[asyncio.AbstractEventLoop, asyncio.Event]


def _start_loop() -> tuple[threading.Thread, asyncio.AbstractEventLoop, asyncio.Event]:
    # A wait for a future can be interrupted.
    started: concurrent.futures.Future[_Started] = concurrent.futures.Future()
    thread = threading.Thread(target=_run_loop, args=(started,), name="aistats", daemon=True)
    try:
        check_descriptors()
        thread.start()
        return thread, *started.result()
    except (OSError, RuntimeError) as error:
        if (limit := local_limit(error)) is None:
            raise
        raise at_local_limit("The client's event loop can't start", limit) from None
    except BaseException:
        started.add_done_callback(_abandon)
        raise


def _run_loop(started: concurrent.futures.Future[_Started]) -> None:
    async def until_stopped() -> None:
        loop, stopped = asyncio.get_running_loop(), asyncio.Event()
        with contextlib.suppress(AttributeError):  # uvloop has a clock of its own
            loop.time = monotonic  # type: ignore[method-assign]
        started.set_result((loop, stopped))
        await stopped.wait()

    try:
        asyncio.run(until_stopped())  # cancels what is left, and closes the transport's pool
    except BaseException as error:
        if started.done():
            raise
        started.set_exception(error)


def _abandon(started: concurrent.futures.Future[_Started]) -> None:
    # The caller was interrupted before the loop was there.
    if started.exception() is None:
        loop, stopped = started.result()
        loop.call_soon_threadsafe(stopped.set)


def _stop_loop(
    thread: threading.Thread,
    loop: asyncio.AbstractEventLoop,
    stopped: asyncio.Event,
    pid: int,
    transport: object,
) -> None:
    if pid != os.getpid():
        inherit(loop, transport)
        return
    with contextlib.suppress(RuntimeError):  # it has ended already
        loop.call_soon_threadsafe(stopped.set)
    # The collector runs on any thread, the loop's own too, where to wait for its end would be to
    # wait for ever.
    if thread is not threading.current_thread():
        thread.join()
