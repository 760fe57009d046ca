"""
The start of a run: its checkpoint is read, and its budget of time begins.
"""

from __future__ import annotations

import asyncio
import functools
import logging
import os

from .._errors import ConfigurationError
from .._net.threads import run_in_thread
from .checkpoint import Checkpoint
from .engine import Engine
from .failures import summary

__all__ = ("open_engine",)

_BY_CALLER = ("closed", "interrupted")

_log = logging.getLogger("aistats")


async def open_engine(engine: Engine) -> None:
    """
    Make *engine* ready for rows. A thread reads the checkpoint's file.

    Raises:
        ConfigurationError: The checkpoint can't be used.
    """
    if engine.plan.concurrency == "auto":
        engine.plan.gateway.limits.find()
    spending = engine.plan.spending
    if (seconds := spending.seconds) is not None:
        # Requests in flight are cancelled: one that hangs would take any time.
        timer = engine.loop.call_later(seconds, engine.abort, None, spending.out_of_time)
        engine.beside.at_end(timer.cancel)
    try:
        if engine.plan.checkpoint is not None:
            await _open_checkpoint(engine, engine.plan.checkpoint)
    except Exception as error:
        engine.abort(error)
        raise
    except BaseException:
        engine.abort()
        raise
    engine.beside.at_end(functools.partial(_log_end, engine))
    engine.beside.run(_watch(engine))


def _log_end(engine: Engine) -> None:
    # What was raised or interrupted is known to the caller; what was collected may not be.
    groups = engine.statistics.failures.groups()
    is_silent = engine.failure is None and engine.stopped not in _BY_CALLER
    level = logging.WARNING if is_silent and (groups or engine.stopped) else logging.INFO
    if _log.isEnabledFor(level):
        _log.log(level, "%s", summary(engine.progress(), engine.stopped, groups))


async def _open_checkpoint(engine: Engine, path: str | os.PathLike[str]) -> None:
    # If this is cancelled, the caller may open the file next. So the thread is waited for.
    reading = asyncio.ensure_future(
        run_in_thread(functools.partial(_open_file, engine, path), "The checkpoint can't be read")
    )
    try:
        await asyncio.shield(reading)
    except asyncio.CancelledError:
        engine.abort()
        await asyncio.gather(reading, return_exceptions=True)
        raise


def _open_file(engine: Engine, path: str | os.PathLike[str]) -> None:
    engine.known.checkpoint = Checkpoint(
        path, finds_own=engine.plan.dedup, is_wanted=lambda: not engine.is_over
    )
    if engine.is_over:
        engine.known.close()


async def _watch(engine: Engine) -> None:
    # While all requests wait for their turn, only this task notices that the client was closed or
    # that the loop ends.
    try:
        await engine.plan.gateway.transport.wait(engine.ended.wait)
    except ConfigurationError as error:
        engine.break_off(str(error), error)
    except BaseException:
        engine.abort()
        raise
