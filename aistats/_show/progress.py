"""
What is shown while work goes on: a run's progress, and a stream in a notebook's cell.

A run's progress picks its place itself: a live table in a notebook, a bar on a terminal, nothing
where nobody looks.

The bar is drawn by rich, the extra `progress`. It is well kept and typed, it knows narrow terminals
and `NO_COLOR`, and what a program prints meanwhile goes above the bar, not through it. tqdm is
smaller, but its one line is too short for what a run has to say, and every `print` tears it.
"""

from __future__ import annotations

import contextlib
import importlib
import logging
import os
import sys
import weakref
from collections.abc import Callable, Generator
from typing import TYPE_CHECKING, Any, Protocol

from .._clock import monotonic
from .cards import progress_figures, progress_html

if TYPE_CHECKING:
    from rich.table import Table

    from .._progress import Progress

__all__ = ("Display", "LiveHTML", "awake", "display_for", "in_notebook")

_log = logging.getLogger("aistats")

_RUNS_PER_SECOND = 10
_STREAMS_PER_SECOND = 20
# A notebook gets the whole page each time, and keeps up with so much.
_CHARACTERS_PER_SECOND = 2_000_000


class Display(Protocol):
    """
    Where a run's progress is shown.
    """

    def __call__(self, progress: Progress, /) -> object:
        """
        Show the snapshot *progress*, or keep it until something may be shown again.
        """
        ...

    def close(self) -> None:
        """
        Show the last snapshot if it was kept back, and end. A second time does nothing.
        """
        ...

    def replace(self, html: str, text: str, /) -> bool:
        """
        Show something else in place of the progress. Return whether this was possible: the progress
        is in the output of the notebook's cell that runs.
        """
        ...


def in_notebook() -> bool:
    """
    Return whether this program is a notebook's kernel, whose cells show HTML.
    """
    # Who runs in one has imported IPython; others needn't pay for it.
    get_shell = getattr(sys.modules.get("IPython"), "get_ipython", None)
    return get_shell is not None and getattr(get_shell(), "kernel", None) is not None


def display_for(progress: bool | Callable[[Progress], object] | None) -> Display | None:
    """
    Return where a run shows its progress, at most 10 times a second; `None` for nowhere.

    Args:
        progress: A function takes the snapshots itself. `True` picks: a table in a notebook, a bar
            on a terminal; nowhere in CI, where standard error is no terminal, and where rich, the
            extra `progress`, is not installed.
    """
    if not progress:
        return None
    if progress is not True:
        return _Paced(progress)
    if in_notebook():
        table = _Table()
        return _Paced(table, replace=table.replace)
    if not _is_watched():
        return None
    try:
        bar = _Bar()
    except ImportError:
        _log.warning("progress=True shows a bar with: pip install rich")
        return None
    return _Paced(bar, bar.close)


def _is_watched() -> bool:
    is_ci = os.environ.get("CI", "").lower() not in ("", "0", "false")
    is_dumb = os.environ.get("TERM", "").lower() in ("dumb", "unknown")
    # Without a console, as under pythonw, there is no standard error.
    return not is_ci and not is_dumb and bool(getattr(sys.stderr, "isatty", bool)())


class _Paced:
    """
    Passes snapshots on as often as is allowed, and the last one in any case.
    """

    def __init__(
        self,
        show: Callable[[Progress], object],
        close: Callable[[], object] = lambda: None,
        clock: Callable[[], float] = monotonic,
        replace: Callable[[str, str], bool] = lambda html, text: False,
    ) -> None:
        self.replace = replace
        self._show = show
        self._close = close
        self._clock = clock
        self._kept: Progress | None = None
        self._next = 0.0

    def __call__(self, progress: Progress, /) -> None:
        now = self._clock()
        if now < self._next:
            self._kept = progress
            return
        self._kept = None
        self._next = now + 1 / _RUNS_PER_SECOND
        self._show(progress)

    def close(self) -> None:
        kept, self._kept = self._kept, None
        try:
            if kept is not None:
                self._show(kept)
        finally:
            self._close()


# --- in a notebook ---


@contextlib.contextmanager
def awake() -> Generator[None, None, None]:
    """
    Keep the running event loop awake: it wakes four times a second.

    A kernel's loop that waits for something doesn't notice the stop button until it has come.
    """
    import asyncio  # it has long been loaded by whoever runs this

    async def wake() -> None:
        while True:  # noqa: ASYNC110 - there is nothing to wait for
            await asyncio.sleep(0.25)

    waker = asyncio.get_running_loop().create_task(wake())
    try:
        yield
    finally:
        waker.cancel()


class _Cell:
    """
    A place in the output of the cell that runs, whose content can be put anew.
    """

    def __init__(self) -> None:
        self._handle: Any = None
        self._number: int | None = None

    @property
    def is_running(self) -> bool:
        """
        Whether the cell with this place is the one that runs.
        """
        return self._handle is not None and self._number == _number_of_cell()

    def put(self, html: str, text: str) -> None:
        bundle = {"text/html": html, "text/plain": text}
        if self._handle is None:
            # Its types are not whole enough to be checked.
            ipython: Any = importlib.import_module("IPython.display")
            self._handle = ipython.display(bundle, raw=True, display_id=True)
            self._number = _number_of_cell()
        else:
            self._handle.update(bundle, raw=True)


def _number_of_cell() -> int | None:
    shell: Any = importlib.import_module("IPython").get_ipython()
    return None if shell is None else shell.execution_count


class _Table:
    def __init__(self) -> None:
        self._cell = _Cell()

    def replace(self, html: str, text: str) -> bool:
        if not self._cell.is_running:
            return False
        self._cell.put(html, text)
        return True

    def __call__(self, progress: Progress, /) -> None:
        words = (f"{word} {value}" for word, value in progress_figures(progress))
        self._cell.put(progress_html(progress), ", ".join(words))


class LiveHTML:
    """
    Something in the output of the cell that runs which is shown anew as it grows, at most 20 times
    a second, and less often if it is long.

    Args:
        render: Its HTML and its plain text, as they are now.
    """

    def __init__(self, render: Callable[[], tuple[str, str]]) -> None:
        self._render = render
        self._cell = _Cell()
        self._next = 0.0

    def wait(self) -> float:
        """
        Return the seconds to let pass before it may be shown again. What arrives meanwhile is read
        after them at once, so it costs a stream nothing.
        """
        return max(0.0, self._next - monotonic())

    def show(self) -> None:
        """
        Show it as it is now.
        """
        self.put(*self._render())

    def put(self, html: str, text: str) -> None:
        """
        Show something else in its place.
        """
        self._cell.put(html, text)
        pause = max(1 / _STREAMS_PER_SECOND, len(html) / _CHARACTERS_PER_SECOND)
        self._next = monotonic() + pause


# --- on a terminal ---


class _Bar:
    """
    A bar and a line of numbers at the bottom of the terminal.

    Raises:
        ImportError: rich is not installed.
    """

    def __init__(self) -> None:
        from rich.console import Console
        from rich.live import Live

        # It draws when it is told to, so it needs no thread. What is printed to a file meanwhile is
        # to stay there: only what goes to a terminal is led above the bar.
        is_terminal = bool(getattr(sys.stdout, "isatty", bool)())
        self._live = Live(
            console=Console(stderr=True),
            auto_refresh=False,
            redirect_stdout=is_terminal,
        )
        # The cursor is hidden while it is there, and must come back however it ends.
        self.close = weakref.finalize(self, self._live.stop)

    def __call__(self, progress: Progress, /) -> None:
        if not self._live.is_started:
            self._live.start()
        self._live.update(_drawn(progress), refresh=True)


def _drawn(progress: Progress) -> Table:
    from rich.progress_bar import ProgressBar
    from rich.table import Table
    from rich.text import Text

    # A number stays on one line with its word.
    drawn = Table.grid()
    if progress.total:
        drawn.add_row(ProgressBar(total=progress.total, completed=progress.done))
    words = ("\u00a0".join((word, value)) for word, value in progress_figures(progress))
    drawn.add_row(Text("  ".join(words).replace(" of ", "\u00a0of\u00a0")))
    return drawn
