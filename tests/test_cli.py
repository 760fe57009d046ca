"""
The command line: what is asked, what is printed where, and the exit status.
"""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from servers import (
    DONE,
    OPENING,
    RESET,
    Gate,
    Gateway,
    chunk,
    completion,
    delta,
    error_body,
    sse,
    story,
)

import aistats
from aistats._cli import main

KEY = "aistats_v1_k_t3stkey_s3cret-that-must-not-show"


class Keyboard(io.StringIO):
    """
    Standard input that is a terminal.
    """

    def isatty(self) -> bool:
        """
        It is one.
        """
        return True


@pytest.fixture(autouse=True)
def _environment(gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    The environment has a key and the base URL of the gateway on loopback.
    """
    monkeypatch.setenv("AI_STATS_API_KEY", KEY)
    monkeypatch.setenv("AI_STATS_BASE_URL", gateway.url)
    # A terminal, from which nothing is read.
    monkeypatch.setattr("sys.stdin", Keyboard())
    # It would hide a missing flush.
    monkeypatch.delenv("PYTHONUNBUFFERED", raising=False)


def test_text(gateway: Gateway, capsys: pytest.CaptureFixture[str]) -> None:
    """
    The answer is streamed as text, and a line break ends it.
    """
    gateway.stream(*story("There once was ", "a lighthouse"))

    assert main(["Write a limerick"]) == 0

    assert capsys.readouterr() == ("There once was a lighthouse\n", "")
    assert gateway.request.headers["Authorization"] == f"Bearer {KEY}"
    assert gateway.request.json == {
        "model": "openai/gpt-5-nano",
        "messages": [{"role": "user", "content": "Write a limerick"}],
        "stream": True,
    }


def test_own_line_break(gateway: Gateway, capsys: pytest.CaptureFixture[str]) -> None:
    """
    An answer that ends with a line break gets no second one.
    """
    gateway.stream(*story("Hi", "\n"))

    assert main(["Say hi"]) == 0

    assert capsys.readouterr().out == "Hi\n"


def test_model_and_system(gateway: Gateway) -> None:
    """
    `--model` and `--system` reach the gateway.
    """
    assert main(["--model", "some/model", "--system", "Be brief.", "Say hi"]) == 0

    assert gateway.request.json["model"] == "some/model"
    assert gateway.request.json["messages"] == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Say hi"},
    ]


def test_no_stream(gateway: Gateway, capsys: pytest.CaptureFixture[str]) -> None:
    """
    With `--no-stream` the whole answer is asked for and printed.
    """
    gateway.reply(completion("Hello"))

    assert main(["--no-stream", "Say hi"]) == 0

    assert capsys.readouterr().out == "Hello\n"
    assert "stream" not in gateway.request.json or gateway.request.json["stream"] is False


def test_json_lines(gateway: Gateway, capsys: pytest.CaptureFixture[str]) -> None:
    """
    With `--json` each chunk is a line of JSON, as it came.
    """
    frames = story("Grüße")
    gateway.stream(*frames)

    assert main(["--json", "Say hi"]) == 0

    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert lines == [json.loads(frame[6:]) for frame in frames if frame != DONE]


def test_json_whole(gateway: Gateway, capsys: pytest.CaptureFixture[str]) -> None:
    """
    With `--json` and `--no-stream` the whole response is one line of JSON.
    """
    gateway.reply(completion("Hello"))

    assert main(["--json", "--no-stream", "Say hi"]) == 0

    assert json.loads(capsys.readouterr().out) == completion("Hello")


def test_standard_input(gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    The prompt `-` is read from standard input, as UTF-8; a byte order mark is no part of it.
    """
    text = "\ufeffGrüße\n".encode()
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(text), "ascii"))

    assert main(["-"]) == 0

    assert gateway.request.json["messages"][0]["content"] == "Grüße\n"


@pytest.mark.parametrize(
    ("arguments", "content"),
    [
        (["summarize this"], "summarize this\n\nA long text.\n"),
        ([], "A long text.\n"),
        (["-"], "A long text.\n"),
    ],
)
@pytest.mark.parametrize("kind", ["pipe", "file"])
def test_piped_input(
    arguments: list[str], content: str, kind: str, gateway: Gateway, tmp_path: Path
) -> None:
    """
    `cat file | aistats "..."` appends the file to the prompt; without a prompt it is the prompt.
    """
    path = tmp_path / "text"
    path.write_text("A long text.\n", encoding="utf-8")
    command = [sys.executable, "-m", "aistats", *arguments]
    if kind == "pipe":
        done = subprocess.run(command, input=path.read_bytes(), capture_output=True, check=False)
    else:
        with path.open("rb") as file:
            done = subprocess.run(command, stdin=file, capture_output=True, check=False)

    assert (done.returncode, done.stderr) == (0, b"")
    assert gateway.request.json["messages"][0]["content"] == content


@pytest.mark.parametrize("empty", [b"", b" \n"])
def test_no_input_beside_a_prompt(empty: bytes, gateway: Gateway) -> None:
    """
    Without input, as from `</dev/null`, the prompt is sent as it is.
    """
    command = [sys.executable, "-m", "aistats", "Say hi"]
    done = subprocess.run(command, input=empty, capture_output=True, check=False)
    nothing = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, check=False)

    assert (done.returncode, nothing.returncode) == (0, 0)
    assert [seen.json["messages"][0]["content"] for seen in gateway.requests] == ["Say hi"] * 2


def test_a_pipe_without_input(gateway: Gateway) -> None:
    """
    The command says that it waits for a pipe to which nothing is written.
    """
    command = [sys.executable, "-m", "aistats", "Say hi"]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stderr is not None
        assert b"reading standard input" in process.stderr.readline()
        out, _ = process.communicate()

    assert (process.returncode, out) == (0, b"Say hi\n")


def test_short_options(gateway: Gateway) -> None:
    """
    `-m` and `-s` stand for `--model` and `--system`.
    """
    assert main(["-m", "some/model", "-s", "Be brief.", "Say hi"]) == 0

    assert gateway.request.json["model"] == "some/model"
    assert gateway.request.json["messages"][0]["content"] == "Be brief."


def test_one_line_break_without_streaming(
    gateway: Gateway, capsys: pytest.CaptureFixture[str]
) -> None:
    """
    `--no-stream` ends with one line break, as streaming does.
    """
    gateway.reply(completion("Hi\n"))

    assert main(["--no-stream", "Say hi"]) == 0

    assert capsys.readouterr().out == "Hi\n"


def test_another_key(gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    The variable of the gateway's own SDKs is read where ours is not set.
    """
    monkeypatch.delenv("AI_STATS_API_KEY")
    monkeypatch.setenv("PHASEO_API_KEY", "key-of-another-sdk")

    assert main(["Say hi"]) == 0

    assert gateway.request.headers["Authorization"] == "Bearer key-of-another-sdk"


def test_errors_speak_of_the_command(
    gateway: Gateway, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    A message names variables in place of arguments, and says how often the call was tried.
    """
    gateway.stream(OPENING, delta("Once "), RESET)
    assert main(["Say hi"]) == 1
    cut = capsys.readouterr().err
    gateway.reply(error_body("unauthorised"), 401)
    assert main(["Say hi"]) == 1
    refused = capsys.readouterr().err
    gateway.reply("<html>", headers={"Content-Type": "text/html"})
    assert main(["Say hi"]) == 1
    page = capsys.readouterr().err
    for _ in range(3):
        gateway.reply(error_body(), 502, {"Retry-After": "0"})
    assert main(["Say hi"]) == 1
    failed = capsys.readouterr().err

    assert "What arrived is above; ask again" in cut
    assert "Check the key: AI_STATS_API_KEY in the environment." in refused
    assert "Check that AI_STATS_BASE_URL leads to the gateway's API." in page
    assert "tried 3 times" in failed
    for text in (cut, refused, page, failed):
        assert not any(word in text for word in ("partial", "api_key", "base_url", "Timeout("))


def test_undecodable_input(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """
    Standard input that is no text is a wrong use, and nothing is sent.
    """
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"\xff\xfe")))

    assert main(["-"]) == 2

    assert capsys.readouterr().err == "aistats: standard input is not text in UTF-8\n"
    assert gateway.requests == []


def test_no_key(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """
    Without a key and without `--local`, two lines say what to do.
    """
    monkeypatch.delenv("AI_STATS_API_KEY")

    assert main(["Say hi"]) == 2

    captured = capsys.readouterr()
    assert captured.out == ""
    assert len(captured.err.splitlines()) == 2
    assert "AI_STATS_API_KEY" in captured.err
    assert "--local" in captured.err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([""], "the prompt is empty"),
        (["--system", "Be brief.", " "], "the prompt is empty"),
        (["-"], "the prompt is empty"),
        (["--model", "", "Say hi"], "--model is empty"),
    ],
)
def test_nothing_to_ask(
    gateway: Gateway,
    arguments: list[str],
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """
    An empty prompt or model is a wrong use, and nothing is sent.
    """
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"")))

    assert main(arguments) == 2

    assert capsys.readouterr().err == f"aistats: {message}\n"
    assert gateway.requests == []


@pytest.mark.parametrize("arguments", [[], ["--nonsense", "hi"], ["two", "prompts"]])
def test_usage(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """
    Wrong arguments show the usage, with the exit status 2.
    """
    with pytest.raises(SystemExit) as caught:
        main(arguments)

    assert caught.value.code == 2
    assert capsys.readouterr().err.startswith("usage: aistats ")


def test_refused_request(gateway: Gateway, capsys: pytest.CaptureFixture[str]) -> None:
    """
    A request that is refused before it is sent is a wrong use, too.
    """
    assert main(["\udcff"]) == 2

    assert capsys.readouterr().err.startswith("aistats: The request has ")
    assert gateway.requests == []


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    """
    `--version` prints the package's version.
    """
    with pytest.raises(SystemExit) as caught:
        main(["--version"])

    assert caught.value.code == 0
    assert capsys.readouterr().out == f"aistats {aistats.__version__}\n"


@pytest.mark.parametrize("mode", [[], ["--json"], ["--no-stream"]])
def test_error(mode: list[str], gateway: Gateway, capsys: pytest.CaptureFixture[str]) -> None:
    """
    An error of the gateway is one line on standard error, with the id to ask about.
    """
    gateway.reply(error_body("validation_error", description="One\nand two."), status=400)

    assert main([*mode, "Say hi"]) == 1

    captured = capsys.readouterr()
    assert captured.out == ""
    (line,) = captured.err.splitlines()
    assert line.startswith("aistats: 400 validation_error")
    assert "G-01K3TESTERROR" in line


def test_error_in_the_middle(gateway: Gateway, capsys: pytest.CaptureFixture[str]) -> None:
    """
    Text that came before the stream broke is kept, and the error has a line of its own.
    """
    gateway.stream(OPENING, delta("There once"), RESET)

    assert main(["Write a limerick"]) == 1

    captured = capsys.readouterr()
    assert captured.out in ("There once\n", "")
    assert captured.err.startswith("aistats: ")
    assert len(captured.err.splitlines()) == 1


REFUSAL = {"role": "assistant", "content": None, "refusal": "I can't help\nwith that."}
EMPTY = {"role": "assistant", "content": "", "reasoning": "Hmm."}
CUT = {"role": "assistant", "content": "There once"}
ASKS = {"role": "assistant", "content": None, "tool_calls": []}


@pytest.mark.parametrize("mode", [[], ["--json"], ["--no-stream"], ["--json", "--no-stream"]])
@pytest.mark.parametrize(
    ("message", "reason", "status", "report"),
    [
        (REFUSAL, "stop", 1, "the model refused: I can't help with that."),
        (REFUSAL, "content_filter", 1, "the model refused: I can't help with that."),
        (CUT, "length", 0, "the answer was cut off at the limit of tokens (finish_reason length)"),
        (
            EMPTY,
            "length",
            1,
            "the answer was cut off at the limit of tokens (finish_reason length)",
        ),
        (
            CUT,
            "content_filter",
            0,
            "a content filter cut the answer off (finish_reason content_filter)",
        ),
        (
            ASKS,
            "tool_calls",
            1,
            "the model asked for a tool call, which can't be run here (finish_reason tool_calls)",
        ),
        (EMPTY, "stop", 1, "the answer has no text (finish_reason stop)"),
        (EMPTY, "some_new_reason", 1, "the answer has no text (finish_reason some_new_reason)"),
        (CUT, "stop", 0, ""),
        (CUT, "end_turn", 0, ""),
    ],
)
def test_unusable_answer(
    mode: list[str],
    message: dict[str, Any],
    reason: str,
    status: int,
    report: str,
    gateway: Gateway,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """
    What an answer lacks is said on standard error; without text the status is 1.
    """
    choice = {"index": 0, "finish_reason": reason}
    if "--no-stream" in mode:
        gateway.reply(completion(choices=[{**choice, "message": message}]))
    else:
        gateway.stream(sse(chunk(choices=[{**choice, "delta": message}])), DONE)

    assert main([*mode, "Say hi"]) == status

    captured = capsys.readouterr()
    assert captured.err == (f"aistats: {report}\n" if report else "")
    if "--json" in mode:
        assert json.loads(captured.out)["choices"][0]["finish_reason"] == reason
    else:
        assert captured.out == ("There once\n" if message is CUT else "")


class Terminal(io.StringIO):
    """
    What is printed, where a person reads it.
    """

    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("screen", "shown"),
    [
        (Terminal(), "[U+001B]]0;title[U+0007]\tone\n[U+009B]2Jtwo\n"),
        (io.StringIO(), "\x1b]0;title\x07\tone\n\x9b2Jtwo\n"),
    ],
)
def test_control_characters(
    screen: io.StringIO, shown: str, gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    An answer can't act on a terminal; into a file it goes as it is.
    """
    gateway.stream(*story("\x1b]0;title\x07\tone\n", "\x9b2Jtwo"))
    monkeypatch.setattr("sys.stdout", screen)

    assert main(["Say hi"]) == 0

    assert screen.getvalue() == shown


def test_control_characters_in_an_error(
    gateway: Gateway, capsys: pytest.CaptureFixture[str]
) -> None:
    """
    An error shows control characters of the server's as numbers.
    """
    gateway.reply(error_body(description="\x1b[2JNo."), 400)

    assert main(["Say hi"]) == 1

    captured = capsys.readouterr().err
    assert "[U+001B][2JNo." in captured
    assert "\x1b" not in captured


def test_ascii_terminal(gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    A terminal that can't show a character shows a question mark in its place.
    """
    gateway.stream(*story("Grüße"))
    screen = io.BytesIO()
    monkeypatch.setattr("sys.stdout", io.TextIOWrapper(screen, "ascii"))

    assert main(["Say hi"]) == 0

    assert screen.getvalue() == b"Gr??e\n"


# The command as a process of its own.

Start = Callable[..., subprocess.Popen[str]]


@pytest.fixture
def start() -> Iterator[Start]:
    """
    A function that starts `python -m aistats` with arguments.
    """
    programs: list[subprocess.Popen[str]] = []

    def start(*arguments: str, **options: Any) -> subprocess.Popen[str]:
        # A shell that runs the tests in the background has its programs ignore Ctrl-C.
        handler = signal.signal(signal.SIGINT, signal.default_int_handler)
        try:
            program = subprocess.Popen(
                [sys.executable, "-X", "dev", "-W", "error", "-m", "aistats", *arguments],
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                **options,
            )
        finally:
            signal.signal(signal.SIGINT, handler)
        programs.append(program)
        return program

    yield start
    for program in programs:
        program.kill()
        program.communicate()


def test_as_it_comes(gateway: Gateway, start: Start) -> None:
    """
    Text is printed when it comes, not when the answer is complete.
    """
    gate = Gate()
    gateway.stream(*story("There once\n"), gate)
    program = start("Write a limerick")

    assert program.stdout is not None
    assert program.stdout.readline() == "There once\n"
    gate.open()

    assert program.communicate(timeout=10) == ("", "")
    assert program.returncode == 0


def test_interrupt(gateway: Gateway, start: Start) -> None:
    """
    Ctrl-C ends it at once, with status 130, no traceback, and the connection closed.
    """
    gateway.stream(OPENING, delta("There once\n"), Gate())
    program = start("Write a limerick")
    assert program.stdout is not None
    assert program.stdout.readline() == "There once\n"

    program.send_signal(signal.SIGINT)

    assert program.communicate(timeout=10) == ("", "")
    assert program.returncode == 130
    assert gateway.request.disconnected


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has other pipes")
def test_closed_pipe(gateway: Gateway, start: Start) -> None:
    """
    A reader that goes away, as `head` does, ends it without a word.
    """
    gate = Gate()
    gateway.stream(OPENING, delta("There once\n"), gate, delta("was a lighthouse\n"), DONE)
    program = start("Write a limerick")
    assert program.stdout is not None
    assert program.stdout.readline() == "There once\n"

    program.stdout.close()
    gate.open()

    assert program.stderr is not None
    assert program.stderr.read() == ""
    assert program.wait(10) == 141


NO_SPACE = "aistats: standard output could not be written: No space left on device\n"
REDIRECTED = {
    # What a shell runs: its exit status, standard output and standard error.
    "- <&-": (2, "", "aistats: standard input is closed: give the prompt as an argument\n"),
    "- 0>/dev/null": (2, "", "aistats: standard input could not be read: Bad file descriptor\n"),
    "hi >&-": (1, "", "aistats: standard output is closed\n"),
    "--version >&-": (1, "", "aistats: standard output is closed\n"),
    "hi <&- 2>&-": (0, "hi\n", ""),
    "'' 2>&-": (2, "", ""),
    "--nonsense 2>&-": (2, "", ""),
    "hi <&- >&- 2>&-": (1, "", ""),
    "hi >/dev/full": (1, "", NO_SPACE),
    "--json hi >/dev/full": (1, "", NO_SPACE),
    "--no-stream hi >/dev/full": (1, "", NO_SPACE),
    "--help >/dev/full": (1, "", NO_SPACE),
    "hi >/dev/full 2>/dev/full": (1, "", ""),
    "'' 2>/dev/full": (2, "", ""),
}


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no device that is full")
@pytest.mark.usefixtures("gateway")
def test_redirected() -> None:
    """
    Streams that are closed, full or of the wrong direction give an exit status and at most a line.
    """
    running = {
        words: subprocess.Popen(
            ["sh", "-c", f'exec "{sys.executable}" -m aistats {words}'],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for words in REDIRECTED
    }
    outputs = {words: program.communicate(timeout=30) for words, program in running.items()}

    assert {
        words: (program.returncode, *outputs[words]) for words, program in running.items()
    } == REDIRECTED


def test_local_failure(start: Start, tmp_path: Path) -> None:
    """
    With `--local` no key is needed, and what this machine lacks is said without a traceback.
    """
    (tmp_path / "xllamacpp.py").write_text("raise ImportError('of the stand-in')")
    model = tmp_path / "model.gguf"
    model.touch()
    environment = {k: v for k, v in os.environ.items() if not k.startswith("AI_STATS_")}

    program = start(
        "--local",
        "--model",
        str(model),
        "Say hi",
        env={**environment, "PYTHONPATH": str(tmp_path)},
    )

    assert program.communicate(timeout=10) == (
        "",
        "aistats: The local model did not start: ImportError: of the stand-in\n",
    )
    assert program.returncode == 2
