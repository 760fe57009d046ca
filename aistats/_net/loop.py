"""
The event loop that runs the calls of all synchronous clients.

A process has one such loop, in a daemon thread. The first call starts it, and nothing stops it:
calls work in exit handlers and in threads that outlive the main thread. The operating system closes
the connections that are left when the process ends.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
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

_LONGEST_WAIT: Final = 0.5  # seconds between two checks for signals


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
        transport: The client's transport. `stop` closes it.
    """

    def __init__(self, transport: Closable) -> None:
        self._transport = transport
        self._is_closed = False
        self._tasks: set[asyncio.Task[Any]] = set()
        watch_forks(self)
        _transports.add(transport)
        weakref.finalize(self, _transports.discard, transport).atexit = False

    def reset_after_fork(self) -> None:
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
                interpreter is shutting down.
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
        if sys.is_finalizing():  # in a `__del__`, say; the loop's thread has ended
            raise ConfigurationError("A Client can't be called after Python's exit handlers ran.")
        loop = _background.loop or _background.start()
        return _Job(step, self._tasks).run(loop, self._start)

    def _start(self, job: _Job[Any]) -> None:
        task = job.start()
        if self._is_closed:  # before the call reached the loop
            task.cancel()

    def stop(self) -> None:
        """
        Close the connections and cancel the calls. A second time does nothing.
        """
        if self._is_closed:
            return
        self._is_closed = True
        loop = _background.loop
        if loop is None or sys.is_finalizing():
            return
        job: _Job[None] = _Job(self._end, _closing)
        if threading.get_ident() == _background.ident:
            loop.call_soon(job.start)
        else:
            job.run(loop, _Job[None].start)

    async def _end(self) -> None:
        await self._transport.aclose()  # ends most calls with an error that says where
        left = list(self._tasks)
        for task in left:
            task.cancel()
        if left:
            await asyncio.wait(left)
            await self._transport.aclose()  # a call may have opened the pool again


# Clients' transports, until the client is dropped. The frame of the loop's thread keeps this
# module's globals alive to the very end, so no transport is collected while the interpreter shuts
# down: aiohttp would warn of open connections.
_transports: Final[set[Closable]] = set()

_closing: Final[set[asyncio.Task[Any]]] = set()


class _Job(Generic[T]):
    """
    Runs one coroutine on the loop and returns its result to the caller's thread.

    This takes half the time of `asyncio.run_coroutine_threadsafe`.
    """

    __slots__ = ("_done", "_step", "_task", "_tasks")

    def __init__(
        self, step: Callable[[], Coroutine[Any, Any, T]], tasks: set[asyncio.Task[Any]]
    ) -> None:
        self._step = step
        self._tasks = tasks
        self._task: asyncio.Task[T] | None = None
        self._done = _locked()  # until there is a result

    def run(self, loop: asyncio.AbstractEventLoop, start: Callable[[_Job[T]], object]) -> T:
        """
        Call *start* on the loop, wait for the result and return it. Runs in the caller's thread.

        Raises:
            ConfigurationError: The client was closed meanwhile.
        """
        try:
            loop.call_soon_threadsafe(start, self)
            _wait(self._done)
        except BaseException:
            loop.call_soon_threadsafe(self._cancel)
            raise
        assert self._task is not None
        task, self._task = self._task, None  # no cycle through the traceback of an error
        if task.cancelled():
            raise _closed()
        return task.result()

    def start(self) -> asyncio.Task[T]:
        """
        Start the coroutine. Runs on the loop.
        """
        self._task = task = asyncio.get_running_loop().create_task(self._step())
        self._tasks.add(task)
        task.add_done_callback(self._end)
        return task

    def _end(self, task: asyncio.Task[T]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            task.exception()  # marks it as retrieved, so that asyncio doesn't log it
        self._done.release()

    def _cancel(self) -> None:
        if self._task is not None:
            self._task.cancel()


class _Background:
    """
    The process's background loop and its thread.
    """

    def __init__(self) -> None:
        self._reset()
        watch_forks(self)

    def _reset(self) -> None:
        # Held by threads that are to run the loop, never by a caller: a signal handler that makes
        # a call can't find it locked by the code it interrupted.
        self._lock = threading.Lock()
        self.loop: asyncio.AbstractEventLoop | None = None
        self.ident: int | None = None
        """Identifier of the loop's thread."""

    def reset_after_fork(self) -> None:
        """
        Reset after fork: the child starts its own loop with its first call.
        """
        inherit(self.loop)
        self._reset()

    def start(self) -> asyncio.AbstractEventLoop:
        """
        Start the loop, unless another thread is just starting it, and return it.

        Raises:
            ConfigurationError: The interpreter is shutting down and starts no more threads, or an
                event loop runs in the same thread (gevent, eventlet).
            APIConnectionError: A limit of this process was reached.
        """
        errors: list[BaseException] = []
        done = _locked()
        thread = threading.Thread(
            target=self._run, args=(done, errors), name="aistats", daemon=True
        )
        try:
            check_descriptors()
            thread.start()
            _wait(done)
            if errors:
                raise errors.pop()
            assert self.loop is not None
            return self.loop
        except (OSError, RuntimeError) as error:
            if "interpreter shutdown" in str(error):
                raise ConfigurationError(
                    "A Client's first call came while the interpreter shuts down, when this Python "
                    "starts no more threads. Make a call before the main program ends, or use "
                    "AsyncClient here."
                ) from None
            if (limit := local_limit(error)) is None:
                raise
            raise at_local_limit("The client's event loop can't start", limit) from None

    def _run(self, done: threading.Lock, errors: list[BaseException]) -> None:
        try:
            with self._lock:
                if self.loop is None:
                    self.loop, self.ident = _new_loop(), threading.get_ident()
            loop = self.loop
        except BaseException as error:
            errors.append(error)
            return
        finally:
            done.release()
        while self.ident == threading.get_ident():
            # Not by `asyncio.run`, which nest_asyncio and others replace. A hook that raises one of
            # these ends `run_forever`. Its caller gets the exception; other calls go on.
            with contextlib.suppress(KeyboardInterrupt, SystemExit):
                loop.run_forever()


_background: Final = _Background()


def _new_loop() -> asyncio.AbstractEventLoop:
    with contextlib.suppress(RuntimeError):
        asyncio.get_running_loop()
        raise ConfigurationError(
            "A Client can't start its event loop: threads are patched by gevent or eventlet, and "
            "another event loop runs. Use AsyncClient on that loop."
        )
    loop = asyncio.new_event_loop()
    with contextlib.suppress(AttributeError):  # uvloop has its own clock
        loop.time = monotonic  # type: ignore[method-assign]
    # In asyncio's debug mode, a busy machine would otherwise be reported as a slow callback.
    loop.slow_callback_duration = 1.0
    return loop


def _locked() -> threading.Lock:
    # Only a plain lock can be released while a signal handler has interrupted the wait for it.
    # Events and futures take a lock of their own for both.
    lock = threading.Lock()
    lock.acquire()
    return lock


def _wait(lock: threading.Lock) -> None:
    # A Ctrl-C just before the wait begins is only noticed after it.
    while not lock.acquire(timeout=_LONGEST_WAIT):
        pass


def _closed() -> ConfigurationError:
    return ConfigurationError("The client has been closed; make a new one.")
