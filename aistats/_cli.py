"""
The command line: a prompt goes in, the answer comes out as text or as JSON lines.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence

from aistats import (
    AIStatsError,
    ChatCompletionsParams,
    Client,
    ConfigurationError,
    RequestValidationError,
    __version__,
    local,
)

__all__ = ("main",)

_GATEWAY_MODEL = "openai/gpt-5-nano"

_DONE = 0
_FAILED = 1
_MISUSED = 2
_INTERRUPTED = 130  # what a shell reports of a program that SIGINT ended
_NO_READER = 141  # and SIGPIPE

_NO_KEY = """\
aistats: there is no API key: set AI_STATS_API_KEY to yours, and the gateway answers;
or add --local, and a small model on this machine answers without one (98 MB, fetched once)."""


def main(arguments: Sequence[str] | None = None) -> int:
    """
    The exit status of one run: 0, or 1 for an error of the call, 2 for a wrong use, 130 for Ctrl-C.
    """
    options = _parser().parse_args(arguments)
    if options.model == "":
        return _report("--model is empty", None, _MISUSED)
    if not options.local and not os.environ.get("AI_STATS_API_KEY"):
        print(_NO_KEY, file=sys.stderr)
        return _MISUSED
    # A character that the terminal can't show is no reason to lose the answer.
    if reconfigure := getattr(sys.stdout, "reconfigure", None):
        reconfigure(errors="replace")
    try:
        _answer(options)
    except (ConfigurationError, RequestValidationError) as error:
        return _report(str(error), error, _MISUSED)
    except AIStatsError as error:
        where = f" (request {error.request_id})" if error.request_id else ""
        return _report(" ".join(f"{error}{where}".split()), error, _FAILED)
    except UnicodeDecodeError:
        return _report("standard input is not text in UTF-8", None, _MISUSED)
    except KeyboardInterrupt:
        return _INTERRUPTED
    except OSError as error:
        # The interpreter flushes standard output once more as it ends, and would complain.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        if isinstance(error, BrokenPipeError):
            return _NO_READER
        return _report(f"the answer could not be written: {error.strerror}", None, _FAILED)
    return _DONE


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="aistats",
        description="Ask a model of the AI Stats Gateway, or one on this machine.",
        epilog="The key is read from AI_STATS_API_KEY, the base URL from AI_STATS_BASE_URL.",
    )
    parser.add_argument("prompt", help="what to ask; - reads it from standard input")
    parser.add_argument(
        "--model", help=f"the model's id (default: {_GATEWAY_MODEL}); with --local a GGUF file"
    )
    parser.add_argument("--system", help="the system message")
    parser.add_argument(
        "--local",
        action="store_true",
        help="run a small model on this machine; needs the extra aistats-sdk[local]",
    )
    parser.add_argument(
        "--json", action="store_true", help="print the stream's chunks, one JSON object a line"
    )
    parser.add_argument(
        "--no-stream", action="store_true", help="wait for the whole answer, then print it"
    )
    parser.add_argument("--version", action="version", version=f"aistats {__version__}")
    return parser


def _answer(options: argparse.Namespace) -> None:
    """
    The whole answer has been printed.
    """
    prompt = options.prompt
    if prompt == "-":
        prompt = sys.stdin.buffer.read().decode()
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
            _print_answer(client, params, options)
        return
    model = local(options.model)
    params["model"] = model.model_name
    with model as client:
        _print_answer(client, params, options)


def _print_answer(
    client: Client, params: ChatCompletionsParams, options: argparse.Namespace
) -> None:
    if options.no_stream:
        response = client.generate_text(params)
        print(json.dumps(response.to_dict()) if options.json else response.text, flush=True)
        return
    with client.stream_text(params) as stream:
        if options.json:
            for chunk in stream:
                print(json.dumps(chunk.to_dict()), flush=True)
            return
        last = "\n"
        try:
            for last in stream.text_deltas():
                print(last, end="", flush=True)
        finally:
            # An error message, too, begins on a line of its own.
            if not last.endswith("\n"):
                print(flush=True)


def _report(message: str, error: AIStatsError | None, status: int) -> int:
    notes: list[str] = getattr(error, "__notes__", [])
    print("\n".join([f"aistats: {message}", *notes]), file=sys.stderr)
    return status
