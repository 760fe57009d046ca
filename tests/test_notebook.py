"""
Whole notebooks, run by a real kernel: both clients in cells, what cells show, and when.
"""

from __future__ import annotations

import datetime as dt
import io
import itertools
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from conftest import KEY
from servers import CLOSE, DONE, OPENING, STOP, USAGE, Drip, Gate, Gateway, delta, error_body, until
from test_display import HOSTILE, page

from aistats import AIStatsError, Client

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    nbformat = pytest.importorskip("nbformat", reason="nbclient and ipykernel are missing")
    nbclient = pytest.importorskip("nbclient", reason="nbclient and ipykernel are missing")
    pytest.importorskip("ipykernel", reason="nbclient and ipykernel are missing")
    from jupyter_client.manager import AsyncKernelManager
    from jupyter_core.utils import run_sync

# What the notebook's own tools complain of is theirs to mend.
pytestmark = pytest.mark.filterwarnings("default")

EXAMPLE = Path(__file__).parent.parent / "examples" / "fan_out.ipynb"
CLOSING = "s_client.close()\nawait a_client.aclose()"
CARD = "text/html"
ASK = "model='m', messages='hi'"
SHOW = [f"s_client.stream_text({ASK})", f"await a_client.stream_text({ASK}).show()"]

Watch = Callable[[dict[str, Any]], None]


class Notebook(nbclient.NotebookClient):
    """
    A notebook whose messages are kept, and shown to the test as they come.
    """

    def __init__(
        self,
        *cells: str,
        kernel: Any,
        between: Sequence[Any] = (),
        watch: Watch = lambda message: None,
        **options: Any,
    ) -> None:
        first, *rest = [nbformat.v4.new_code_cell(cell) for cell in cells]
        notebook = nbformat.v4.new_notebook(cells=[first, *between, *rest])
        super().__init__(notebook, km=kernel.parent, timeout=20, **options)
        self.kc = kernel
        self.messages: list[dict[str, Any]] = []
        self.watch = watch

    def process_message(self, msg: Any, cell: Any, cell_index: int) -> Any:
        self.messages.append(msg)
        self.watch(msg)
        return super().process_message(msg, cell, cell_index)

    def run(self) -> list[Any]:
        """
        The outputs of all cells, in order.
        """
        self.execute()
        return [output for cell in self.nb.cells for output in cell.get("outputs", [])]


def html_of(message: dict[str, Any]) -> str:
    """
    The HTML that a kernel's *message* brings; `""` for one that brings none.
    """
    return message["content"].get("data", {}).get(CARD, "")


@pytest.fixture(scope="module")
def kernel(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """
    One kernel for all notebooks; nothing of the machine's own Jupyter is read or written.
    """
    folder = tmp_path_factory.mktemp("jupyter")
    names = ("IPYTHONDIR", "JUPYTER_CONFIG_DIR", "JUPYTER_RUNTIME_DIR", "JUPYTER_DATA_DIR")
    # A kernel's TCP ports are chosen before it listens on them, and another test's server may have
    # taken one by then. A socket's path must be short.
    with tempfile.TemporaryDirectory() as sockets:
        with pytest.MonkeyPatch.context() as patch:
            for name in names:
                patch.setenv(name, str(folder / name.lower()))
            manager = AsyncKernelManager(transport="ipc", ip=str(Path(sockets, "kernel")))
            run_sync(manager.start_kernel)(stderr=subprocess.DEVNULL)
        client = manager.client()
        client.start_channels()
        run_sync(client.wait_for_ready)(timeout=20)
        yield client
        client.stop_channels()
        run_sync(manager.shutdown_kernel)(now=True)


@pytest.fixture
def notebook(kernel: Any, gateway: Gateway) -> Callable[..., Notebook]:
    """
    A function that makes a notebook whose first cell makes a client of each kind.
    """
    setup = (
        f"import asyncio, os, aistats\nos.environ['AI_STATS_API_KEY'] = {KEY!r}\n"
        f"os.environ['AI_STATS_BASE_URL'] = {gateway.url!r}\n"
        "s_client = aistats.Client()\na_client = aistats.AsyncClient()"
    )

    def make(*cells: str, **options: Any) -> Notebook:
        # The connections of the last cells are the gateway's, which waits for their end.
        return Notebook(setup, *cells, CLOSING, kernel=kernel, **options)

    return make


def test_cells(notebook: Callable[..., Notebook], gateway: Gateway):
    """
    In one notebook `await` and the sync client work, and what they return has a card.
    """
    gateway.reply({"error": "no_such_model", "description": HOSTILE}, 400)
    ask = "model='m', messages="
    outputs = notebook(
        "try:\n"
        f"    s_client.generate_text({ask}'hi')\n"
        "except aistats.AIStatsError as error:\n"
        "    it = error\n"
        "it",
        f"s_client.generate_text({ask}'sync')",
        f"await a_client.generate_text({ask}'async')",
        f"calls = [a_client.generate_text({ask}str(number)) for number in range(3)]\n"
        "[chat.text for chat in await asyncio.gather(*calls)]",
        f"stream = a_client.stream_text({ask}'a stream')\nstream",
        "await stream.show()",
        "(await stream.final_response()).text",
        f"stream = s_client.stream_text({ask}'a sync stream')\nstream",
        "stream.final_response().text",
        "stream",
    ).run()
    cards = [page(output.data.get(CARD, "")).text for output in outputs]

    assert HOSTILE in cards[0]
    assert cards[1].startswith("sync")
    assert cards[2].startswith("async")
    assert outputs[3].data["text/plain"] == "['0', '1', '2']"
    assert "await stream.show() shows it live" in cards[4]
    assert cards[5].startswith("a stream")
    assert outputs[6].data["text/plain"] == "'a stream'"
    assert cards[7] == cards[9]
    assert cards[7].startswith("a sync stream")
    assert outputs[8].data["text/plain"] == "'a sync stream'"
    assert len(outputs) == 10


WRONG = "temperature=3, top_p=2"
TRACEBACKS = {
    # A cell: what stands in its traceback's frames, in order.
    f"s_client.generate_text({ASK}, {WRONG})": ["Cell In", "in Client.generate_text("],
    f"await a_client.generate_text({ASK}, {WRONG})": ["Cell In", "in AsyncClient.generate_text("],
    f"s_client.stream_text({ASK}, {WRONG})": ["Cell In", "in Client.stream_text("],
    f"s_client.generate_text({ASK}, user='refuse')": ["Cell In", "in Client.generate_text("],
    f"await a_client.generate_text({ASK}, user='refuse')": [
        "Cell In",
        "in AsyncClient.generate_text(",
    ],
    f"for chunk in s_client.stream_text({ASK}, user='refuse'):\n    pass": [
        "Cell In",
        "in Stream.__next__(",
    ],
    f"await a_client.stream_text({ASK}, user='refuse').final_response()": [
        "Cell In",
        "in AsyncStream.final_response(",
    ],
    "await a_client.map(['hi'], model='m', user='refuse', on_error='raise')": [
        "Cell In",
        "in AsyncRun._all(",
    ],
    "aistats.Client(base_url='nonsense')": ["Cell In", "in Client.__init__("],
    # A function of the caller's that the package calls.
    f"def rows():\n    yield 'one'\n    s_client.generate_text({ASK}, {WRONG})\n"
    "s_client.map(rows(), model='m').wait()": [
        "Cell In",
        "in Run.wait(",
        "Cell In",
        "in rows()",
        "in Client.generate_text(",
    ],
    # Chains, each exception with its own frames.
    f"try:\n    1 / 0\nexcept ArithmeticError:\n    s_client.generate_text({ASK}, {WRONG})": [
        "ZeroDivisionError",
        "Cell In",
        "During handling of the above exception",
        "Cell In",
        "in Client.generate_text(",
    ],
    f"try:\n    s_client.generate_text({ASK}, {WRONG})\nexcept ValueError as error:\n"
    "    raise aistats.AIStatsError('mine') from error": [
        "RequestValidationError",
        "Cell In",
        "in Client.generate_text(",
        "The above exception was the direct cause",
        "AIStatsError",
        "Cell In",
        "AIStatsError: mine",
    ],
    "raise aistats.AIStatsError('mine')": ["Cell In", "AIStatsError: mine"],
}
INTERNAL = [
    "asyncio",
    "futures",
    "loop.py",
    "gateway.py",
    "chat.py",
    "attempts.py",
    "call.py",
    "request.py",
    "IPython",
    "_pull",
]


def tracebacks(outputs: list[Any]) -> list[str]:
    """
    The text of each error among *outputs*, without colours.
    """
    errors = [output for output in outputs if output.output_type == "error"]
    return [re.sub(r"\x1b\[[\d;]*m", "", "\n".join(error.traceback)) for error in errors]


def test_tracebacks(notebook: Callable[..., Notebook], gateway: Gateway):
    """
    A traceback has the caller's frames, the public methods and the message, and no other frames.
    """
    for cell in TRACEBACKS:
        if "refuse" in cell:
            gateway.reply(error_body("validation_error", description="No."), 400)
    shown = tracebacks(notebook(*TRACEBACKS, allow_errors=True).run())

    assert len(shown) == len(TRACEBACKS)
    for (cell, parts), text in zip(TRACEBACKS.items(), shown, strict=True):
        place = 0
        for part in parts:
            assert part in text[place:], (cell, part, text)
            place = text.index(part, place) + len(part)
        assert [name for name in INTERNAL if name in text] == [], (cell, text)
        if WRONG in cell and "mine" not in cell:
            assert text.rstrip().endswith("top_p: expected a number from 0 to 1, got 2")


def test_other_kinds_of_traceback(notebook: Callable[..., Notebook], gateway: Gateway):
    """
    `%xmode` holds for the package's errors, too: `Verbose` shows all frames, and never the key.
    """
    wrong = f"s_client.generate_text({ASK}, {WRONG})"
    minimal, plain, verbose, again, configuration = tracebacks(
        notebook(
            f"%xmode Minimal\n{wrong}",
            f"%xmode Plain\n{wrong}",
            f"%xmode Verbose\n{wrong}",
            "%tb",
            "aistats.Client(base_url='nonsense')",
            "%xmode Context",
            allow_errors=True,
        ).run()
    )

    assert minimal.startswith("RequestValidationError: The request has 2 faults")
    assert plain.startswith("Traceback (most recent call last)")
    assert "in generate_text" in plain
    assert "in call" not in plain
    for text in (verbose, again):
        assert "chat.py" in text
        assert "temperature=3" in text
    assert "base_url = 'nonsense'" in configuration
    assert KEY not in "".join([verbose, again, configuration])


def test_a_traceback_outside_of_ipython():
    """
    Whoever asks for the lines where no IPython runs gets all of Python's own.
    """
    with pytest.raises(AIStatsError) as caught, Client(KEY, "http://127.0.0.1:9") as client:
        client.generate_text(model="m", messages="hi", temperature=3)

    assert caught.value._render_traceback_() == traceback.format_exception(caught.value)


@pytest.mark.parametrize("show", SHOW)
def test_stream_is_shown_live(show: str, notebook: Callable[..., Notebook], gateway: Gateway):
    """
    A cell shows what has arrived while the rest has not, the last of it too, and never twice.
    """
    gate = Gate()
    gateway.stream(
        OPENING, delta("first "), delta("half"), gate, delta(", rest"), STOP, USAGE, DONE
    )

    def watch(message: dict[str, Any]) -> None:
        # Nothing else opens the gate, so without a live display the notebook would time out.
        if "first half" in page(html_of(message)).text:
            gate.open()

    shown = notebook(show, watch=watch)
    (output,) = shown.run()
    seen = [page(html_of(message)).text for message in shown.messages if html_of(message)]

    assert page(output.data[CARD]).text.startswith("first half, restgpt-5-nano")
    assert seen[0] == "Waiting for the answer …"
    assert any(text.startswith("first halfThe answer is still coming …") for text in seen)


def test_at_most_20_times_a_second(notebook: Callable[..., Notebook], gateway: Gateway):
    """
    The display of a stream is updated at most every 50 ms.
    """
    frames = b"".join(delta(f"{number} ") for number in range(300))
    gateway.stream(OPENING, Drip(frames, size=len(frames) // 100, pause=0.004), STOP, USAGE, DONE)
    shown = notebook(SHOW[0])
    (output,) = shown.run()
    dates: list[dt.datetime] = [
        message["header"]["date"] for message in shown.messages if html_of(message)
    ]
    gaps = [(then - now).total_seconds() for now, then in itertools.pairwise(dates)]

    assert " 299 " in page(output.data[CARD]).text
    assert len(gaps) >= 4
    assert min(gaps) > 0.045  # the dates are of another clock, and taken a little later


@pytest.mark.parametrize("show", SHOW)
def test_cut_stream(show: str, notebook: Callable[..., Notebook], gateway: Gateway):
    """
    A stream that was cut shows what had arrived, and one error: its card's, or that of `show()`.
    """
    gateway.stream(OPENING, delta("half an ans"), CLOSE)
    shown = notebook(show, allow_errors=True)
    outputs = shown.run()
    card = page(outputs[0].data[CARD]).text

    if "await" in show:
        assert card.startswith("half an ansThe error below says why it ended.")
        assert [output.ename for output in outputs[1:]] == ["StreamInterruptedError"]
    else:
        assert card.startswith("StreamInterruptedError")
        assert "What had arrivedhalf an ans" in card
        assert len(outputs) == 1


@pytest.mark.skipif(sys.platform == "win32", reason="a kernel on Windows is interrupted otherwise")
@pytest.mark.parametrize("show", SHOW)
def test_stop_button(show: str, notebook: Callable[..., Notebook], gateway: Gateway):
    """
    To interrupt the cell closes the connection, and the card says that it is not all.
    """
    gateway.stream(OPENING, delta("first half"), Gate())
    interrupted = False

    def watch(message: dict[str, Any]) -> None:
        nonlocal interrupted
        if not interrupted and "first half" in page(html_of(message)).text:
            interrupted = True
            os.kill(shown.km.provisioner.pid, signal.SIGINT)

    shown = notebook(show, watch=watch, allow_errors=True)
    outputs = shown.run()

    until(lambda: gateway.request.disconnected)
    assert "first halfThe stream was closed before its end." in page(outputs[0].data[CARD]).text
    assert outputs[1].ename in ("KeyboardInterrupt", "CancelledError")


RUNS = [
    "run = a_client.map(rows, model='m', progress={0})\nawait run",
    "run = s_client.map(rows, model='m', progress={0})\nrun.wait()",
]


@pytest.mark.skipif(sys.platform == "win32", reason="a kernel on Windows is interrupted otherwise")
@pytest.mark.parametrize("progress", ["True", "None"])
@pytest.mark.parametrize("run", RUNS)
def test_stop_button_of_a_run(
    run: str, progress: str, notebook: Callable[..., Notebook], gateway: Gateway
):
    """
    To interrupt the cell ends the run, and what was done is kept, though the gateway is silent.
    """
    gate = Gate()
    gateway.reply()
    for _ in range(9):
        gateway.reply(before=gate)

    def interrupt() -> None:
        gate.reached.wait(20)
        os.kill(shown.km.provisioner.pid, signal.SIGINT)

    def watch(message: dict[str, Any]) -> None:
        if message["content"].get("text", "").startswith("begun"):
            threading.Thread(target=interrupt).start()

    shown = notebook(
        "rows = [f'row {n}' for n in range(10)]\nprint('begun')",
        run.format(progress),
        "run.stopped, run.texts()[0], len(run.outcomes)",
        watch=watch,
        allow_errors=True,
    )
    *_, error, partial = shown.run()

    assert error.ename in ("KeyboardInterrupt", "CancelledError")
    assert partial.data["text/plain"] == "('interrupted', 'Hello there', 1)"


def test_run(notebook: Callable[..., Notebook], gateway: Gateway):
    """
    A run as a cell's last value replaces its progress. In another cell it is shown by itself.
    """
    shown = notebook(
        "rows = [f'row {n}' for n in range(50)]\n"
        "run = await a_client.map(rows, model='m', progress=True)\nrun",
        "run = s_client.map(rows, model='m', progress=True)\nrun.wait()",
        "run",
        "run = s_client.map(rows, model='m', progress=True)\nrun.texts() == rows",
    )
    async_card, card, card_again, progress, equal = shown.run()

    for output in (async_card, card, card_again, progress):
        assert "50 of 50" in page(output.data[CARD]).text
    for output in (async_card, card, card_again):
        assert "50 answers" in page(output.data[CARD]).text
    assert equal.data["text/plain"] == "True"


def test_example(notebook: Callable[..., Notebook], gateway: Gateway, tmp_path: Path):
    """
    The example does what it says, and its outputs are not kept in the file.
    """
    example = nbformat.read(io.StringIO(EXAMPLE.read_text(encoding="utf-8")), as_version=4)
    nbformat.validate(example)
    assert not any(cell.get("outputs") for cell in example.cells)
    elsewhere = nbformat.v4.new_code_cell(f"os.chdir({str(tmp_path)!r})")

    outputs = notebook(between=[elsewhere, *example.cells]).run()
    plain = [output.get("data", {}).get("text/plain", "") for output in outputs]
    cards = [page(output.get("data", {}).get(CARD, "")).text for output in outputs]

    assert sum("57 of 57" in card for card in cards) >= 2
    assert any("1 failure56KeyError: 'text'" in card for card in cards)
    assert "(0, 57)" in plain
    assert "(57, True)" in plain
    assert "11 How much is 11 plus 11? Only the number." in "".join(
        output.get("text", "") for output in outputs
    )
    assert plain[-1] == "['Say one.', 'Say two.']"
    # Of 37 different reviews, one call each; the rest are the single calls and the questions.
    assert len(gateway.requests) == 37 + 1 + 2 + 12 + 2
    assert (tmp_path / "reviews.jsonl").is_file()
