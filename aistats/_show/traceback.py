"""
How an error of the package looks in IPython and in notebooks: the caller's frames and the public
method, without the package's own frames below it.

IPython asks an exception for `_render_traceback_()`, prints the lines that it returns, and sends
them to the notebook. The lines are IPython's own, made from a shorter traceback, so that colours
and `%xmode` work as they do for other exceptions. `%xmode Verbose` shows everything.
"""

from __future__ import annotations

import contextlib
import sys
import traceback
from collections.abc import Callable, Generator
from types import TracebackType

__all__ = ("ipython_traceback",)

_PACKAGE = __name__.partition(".")[0]
# What may stand between the package's frames, or between them and a function of the caller's.
_BELOW = sys.stdlib_module_names | {_PACKAGE, "aiohttp", "anyio", "nest_asyncio"}
_SHELL = {"IPython", "ipykernel"}


def ipython_traceback(error: BaseException) -> list[str]:
    """
    Return the lines that IPython is to show for *error*, in its current mode.

    Where no IPython runs, they are Python's own, in full.
    """
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    if shell is None:
        return traceback.format_exception(error)
    lines_of: Callable[..., list[str]] = shell.InteractiveTB.structured_traceback
    if shell.InteractiveTB.mode == "Verbose":
        return lines_of(type(error), error, error.__traceback__)
    with _shortened(error):
        return lines_of(type(error), error, error.__traceback__, tb_offset=0)


@contextlib.contextmanager
def _shortened(error: BaseException) -> Generator[None, None, None]:
    """
    Give *error*, its causes and contexts shorter tracebacks for as long as this lasts.
    """
    originals: dict[BaseException, TracebackType | None] = {}
    waiting = [error]
    while waiting:
        link = waiting.pop()
        if link not in originals:
            originals[link] = link.__traceback__
            waiting += filter(None, (link.__cause__, link.__context__))
    try:
        for link, original in originals.items():
            link.__traceback__ = _callers_part(original)
        yield
    finally:
        for link, original in originals.items():
            link.__traceback__ = original


def _callers_part(original: TracebackType | None) -> TracebackType | None:
    """
    Return *original* without the frames of the shell above the caller's, and of the package and its
    libraries below its public methods.
    """
    kept: list[TracebackType] = []
    is_inside = True  # the shell, or the package below a method that was called
    step = original
    while step is not None:
        module: str = step.tb_frame.f_globals.get("__name__", "").partition(".")[0]
        if not is_inside:
            kept.append(step)  # a frame of the caller's, or the method that it calls
            is_inside = module == _PACKAGE
        elif module not in (_BELOW if kept else _BELOW | _SHELL):
            kept.append(step)
            is_inside = False
        step = step.tb_next
    shorter = None
    for step in reversed(kept):
        shorter = TracebackType(shorter, step.tb_frame, step.tb_lasti, step.tb_lineno)
    return shorter
