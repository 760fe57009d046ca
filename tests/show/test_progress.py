"""
What is shown while work goes on: where, how often, and that the last of it is always shown.

What a notebook shows is in `test_notebook.py`.
"""

from __future__ import annotations

import importlib.util
import io
import os
import subprocess
import sys
from collections.abc import Callable
from contextlib import redirect_stdout
from typing import Any

import pytest
from conftest import KEY
from servers import Gateway
from test_display import progress

import aistats
from aistats._show import progress as _progress
from aistats._show.progress import LiveHTML, _Paced, display_for, in_notebook

needs_rich = pytest.mark.skipif(
    importlib.util.find_spec("rich") is None, reason="rich, the extra `progress`, is missing"
)
needs_pty = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no pseudo-terminals")


class Terminal(io.StringIO):
    """
    A standard error that says that it is a terminal.
    """

    def isatty(self) -> bool:
        return True

    @property
    def text(self) -> str:
        """
        What was written, with all spaces alike.
        """
        return self.getvalue().replace("\u00a0", " ")


def make_terminal(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    """
    Standard error is a terminal that can do all that is needed, and this is not CI.

    No fixture, since pytest gives each phase of a test a standard error of its own.
    """
    stderr = Terminal()
    monkeypatch.setattr(sys, "stderr", stderr)
    monkeypatch.delenv("CI", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    return stderr


# -- how often ----------------------------------------------------------------------------------


class Paced:
    """
    A display that is told the time by the test.
    """

    def __init__(self) -> None:
        self.now = 100.0
        self.shown: list[int] = []
        self.closed = 0
        self.display = _Paced(self.show, self.close, lambda: self.now)

    def show(self, snapshot: Any) -> None:
        self.shown.append(snapshot.done)

    def close(self) -> None:
        self.closed += 1


def test_ten_times_a_second():
    """
    Of a thousand snapshots in a second ten are shown, and in the end the last one.
    """
    paced = Paced()
    for done in range(1000):
        paced.now = 100 + done / 1000
        paced.display(progress(done=done))
    assert paced.shown[0] == 0
    assert 9 <= len(paced.shown) <= 10

    paced.display.close()
    assert paced.shown[-1] == 999


def test_nothing_is_shown_twice():
    """
    A last snapshot that was shown at once is not shown again at the end.
    """
    paced = Paced()
    paced.display(progress(done=1))
    paced.display.close()
    paced.display.close()

    assert paced.shown == [1]
    assert paced.closed == 2


def test_it_closes_even_if_the_last_cannot_be_shown():
    """
    A place that can't show the last snapshot is closed all the same.
    """
    closed: list[bool] = []

    def show(snapshot: Any) -> None:
        if snapshot.done == 2:
            raise OSError("gone")

    display = _Paced(show, lambda: closed.append(True), lambda: 100.0)
    display(progress(done=1))
    display(progress(done=2))
    with pytest.raises(OSError, match="gone"):
        display.close()

    assert closed == [True]


class Clock:
    """
    What `_progress` knows of the module `time`.
    """

    now = 100.0

    def monotonic(self) -> float:
        return self.now


@pytest.mark.parametrize(("length", "pause"), [(1000, 0.05), (1_000_000, 0.5)])
def test_long_pages_are_shown_less_often(
    length: int, pause: float, monkeypatch: pytest.MonkeyPatch
):
    """
    A page may be shown again 50 ms later, and a long one after so long that a notebook keeps up.
    """
    clock, put = Clock(), []
    monkeypatch.setattr(_progress, "monotonic", lambda: clock.now)
    monkeypatch.setattr(_progress._Cell, "put", lambda _, *page: put.append(page))
    live = LiveHTML(lambda: ("x" * length, "plain"))
    assert live.wait() == 0

    live.show()
    assert live.wait() == pytest.approx(pause)
    clock.now += pause
    assert live.wait() == pytest.approx(0)
    assert put == [("x" * length, "plain")]


# -- where --------------------------------------------------------------------------------------


@pytest.mark.parametrize("nothing", [None, False])
def test_nowhere(nothing: Any, monkeypatch: pytest.MonkeyPatch):
    """
    Who doesn't ask for it sees nothing.
    """
    make_terminal(monkeypatch)
    assert display_for(nothing) is None


def test_function():
    """
    A function gets the snapshots themselves.
    """
    seen: list[Any] = []
    display = display_for(seen.append)
    assert display is not None
    snapshots = [progress(done=done) for done in range(100)]
    for snapshot in snapshots:
        display(snapshot)
    display.close()

    assert seen[0] is snapshots[0]
    assert seen[-1] is snapshots[-1]


def test_silence_without_a_terminal(monkeypatch: pytest.MonkeyPatch):
    """
    Nothing is shown if standard error is a file, a pipe or missing.
    """
    make_terminal(monkeypatch)
    for stderr in (io.StringIO(), None):
        monkeypatch.setattr(sys, "stderr", stderr)
        assert display_for(True) is None


@pytest.mark.parametrize(("name", "value"), [("CI", "true"), ("CI", "1"), ("TERM", "dumb")])
def test_silence_in_ci(name: str, value: str, monkeypatch: pytest.MonkeyPatch):
    """
    In CI, and on a terminal that can't move its cursor, nothing is shown.
    """
    make_terminal(monkeypatch)
    monkeypatch.setenv(name, value)

    assert display_for(True) is None


def test_silence_without_rich(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture):
    """
    Without rich nothing is shown, and the log says what to install.
    """
    terminal = make_terminal(monkeypatch)
    for module in [name for name in sys.modules if name.partition(".")[0] == "rich"]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, "rich", None)

    assert display_for(True) is None
    assert "pip install rich" in caplog.text
    assert terminal.text == ""


@needs_rich
@pytest.mark.parametrize("ci", [None, "", "false", "0"])
def test_bar(ci: str | None, monkeypatch: pytest.MonkeyPatch):
    """
    On a terminal there is a bar with all numbers, which ends with the last snapshot.
    """
    terminal = make_terminal(monkeypatch)
    if ci is not None:
        monkeypatch.setenv("CI", ci)
    monkeypatch.setenv("COLUMNS", "150")
    display = display_for(True)
    assert display is not None
    display(progress(done=1))
    display(progress(done=10_000))
    display.close()
    display.close()

    last = terminal.text.rpartition("done ")[2]
    assert last.startswith("10,000 of 10,000  failed 12  in flight 187 of 200  requests/s 198.4")
    assert "429s 31" in last


@needs_rich
def test_bar_without_a_total(monkeypatch: pytest.MonkeyPatch):
    """
    Where nobody knows how much there is, there are the numbers alone.
    """
    terminal = make_terminal(monkeypatch)
    display = display_for(True)
    assert display is not None
    display(progress(total=None))
    display.close()

    assert "done 6,200" in terminal.text
    assert "━" not in terminal.text


@needs_rich
def test_dropped_bar(monkeypatch: pytest.MonkeyPatch):
    """
    A bar that is dropped before its end gives the cursor back.
    """
    terminal = make_terminal(monkeypatch)
    display = display_for(True)
    assert display is not None
    display(progress())
    assert terminal.text.rfind("\x1b[?25l") > terminal.text.rfind("\x1b[?25h")
    del display

    assert terminal.text.rfind("\x1b[?25h") > terminal.text.rfind("\x1b[?25l")


PROGRAM = """
from aistats import Progress
from aistats._show.progress import display_for
display = display_for(True)
for done in (1, 10_000):
    display(Progress(done, 0, 0, 10_000, 1, 1, 1.0, 1.0, 0, None, None, None, 0))
    if done == 1:
        print("said meanwhile", flush=True)
display.close()
"""


def on_terminal(stdout: Callable[[int], Any]) -> tuple[str, str]:
    """
    What the program wrote to its terminal, which is its standard error, and to a pipe.

    Args:
        stdout: Its standard output, given the terminal.
    """
    import pty

    ours, theirs = pty.openpty()
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "150"}
    environment.pop("CI", None)
    with subprocess.Popen(
        [sys.executable, "-W", "error", "-c", PROGRAM],
        env=environment,
        stdout=stdout(theirs),
        stderr=theirs,
    ) as program:
        os.close(theirs)
        piped = program.stdout.read().decode() if program.stdout else ""
        written = b""
        while True:
            try:
                data = os.read(ours, 65536)
            except OSError:  # how Linux says that nobody has it open any more
                break
            if not data:
                break
            written += data
        os.close(ours)
        assert program.wait(20) == 0, written
    return written.decode().replace("\u00a0", " "), piped


@needs_rich
@needs_pty
def test_print_beside_the_bar():
    """
    What a program prints meanwhile goes above the bar, and the bar stays whole.
    """
    written, _ = on_terminal(lambda terminal: terminal)

    assert "said meanwhile\r\n" in written
    assert written.rindex("said meanwhile") < written.rindex("10,000 of 10,000")
    assert "Traceback" not in written


@needs_rich
@needs_pty
def test_output_to_a_pipe_stays_there():
    """
    What a program writes to a pipe meanwhile is not led to the terminal.
    """
    written, piped = on_terminal(lambda _: subprocess.PIPE)

    assert piped == "said meanwhile\n"
    assert "said meanwhile" not in written
    assert "10,000 of 10,000" in written


# -- streams outside of notebooks ---------------------------------------------------------------


def test_this_is_no_notebook():
    """
    The tests are no notebook's kernel.
    """
    assert not in_notebook()


def test_stream_on_a_terminal(gateway: Gateway):
    """
    Outside of a notebook `show()` prints the new text as it comes.
    """
    with aistats.Client(KEY, gateway.url) as client, redirect_stdout(io.StringIO()) as printed:
        stream = client.stream_text(model="m", messages="One two three")
        stream.show()

        assert stream.final_response().text == "One two three"
    assert printed.getvalue() == "One two three\n"


@pytest.mark.anyio
async def test_asynchronous_stream_on_a_terminal(gateway: Gateway):
    """
    So does that of an asynchronous stream.
    """
    async with aistats.AsyncClient(KEY, gateway.url) as client:
        stream = client.stream_text(model="m", messages="One two three")
        with redirect_stdout(io.StringIO()) as printed:
            await stream.show()

        assert (await stream.final_response()).text == "One two three"
    assert printed.getvalue() == "One two three\n"


def test_stream_as_a_value_on_a_terminal(gateway: Gateway):
    """
    To look at a stream on a terminal asks for nothing: IPython is led to its repr.
    """
    with aistats.Client(KEY, gateway.url) as client:
        stream = client.stream_text(model="m", messages="hi")
        with pytest.raises(NotImplementedError):
            stream._ipython_display_()

        assert repr(stream) == "<Stream: new>"
        assert "The request goes out when it is first used" in stream._repr_html_()
    assert gateway.requests == []
