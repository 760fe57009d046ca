"""
Blocking functions, each in a daemon thread of its own.

asyncio's and anyio's worker threads don't fit. They delay the end of the process while a function
blocks, and asyncio's executor refuses all work once the main thread has ended.
"""

from __future__ import annotations

import asyncio
import contextvars
import functools
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

from .._errors import at_local_limit
from .local_limits import local_limit

__all__ = ("run_in_thread", "start_in_thread")

T = TypeVar("T")


async def run_in_thread(function: Callable[[], T], failure: str) -> T:
    """
    Return the result of *function*, which runs in a thread with the caller's context variables.

    Args:
        function: The function. A cancelled wait does not end it.
        failure: The start of the error message if no thread can be started.

    Raises:
        APIConnectionError: A limit of this process or machine was reached.
    """
    in_context = functools.partial(contextvars.copy_context().run, function)
    try:
        running = start_in_thread(in_context, "aistats-worker")
    except RuntimeError as error:
        if (limit := local_limit(error)) is None:
            raise
        raise at_local_limit(failure, limit) from None
    return await asyncio.wrap_future(running)


def start_in_thread(function: Callable[[], T], name: str) -> Future[T]:
    """
    Run *function* in a thread with this *name*, and return the future of its result.

    While the interpreter shuts down, Python may start no more threads. Then *function* runs in the
    calling thread, although it blocks the event loop.

    Raises:
        RuntimeError: This process can't start another thread.
    """
    future: Future[T] = Future()
    future.set_running_or_notify_cancel()  # one waiter that is cancelled leaves it to the others
    thread = threading.Thread(target=_complete, args=(future, function), name=name, daemon=True)
    try:
        thread.start()
    except RuntimeError as error:
        if "interpreter shutdown" not in str(error):
            raise
        _complete(future, function)
    return future


def _complete(future: Future[T], function: Callable[[], T]) -> None:
    try:
        result = function()
    except BaseException as error:
        future.set_exception(error)
        del future  # a cycle through the error's traceback
    else:
        future.set_result(result)
