"""
Errors for the wrong calling style (`for` on what needs `async for`, `with` on the wrong client) and
for names of other SDKs.

Python's own messages ("object is not iterable") name neither the right style nor the right name.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NoReturn

__all__ = (
    "ERROR_NAMES",
    "client_names",
    "package_hint",
    "stream_names",
    "wrong_name",
    "wrong_style",
)

ERROR_NAMES = {
    **dict.fromkeys(("status_code", "http_status"), "error.status"),
    "response": "error.status, error.headers or error.body",
    "request": "error.as_curl()",
    "json_body": "error.body",
}
"""What an error of another SDK calls what an error has, and the name here."""


def wrong_style(message: str) -> Any:
    """
    Return a special method that raises a `TypeError` with *message*.

    Classes define it where type checkers don't look, so that they report the wrong style, too.
    """

    def refuse(*_: object) -> NoReturn:
        raise TypeError(message)

    return refuse


def wrong_name(instead: Mapping[str, str]) -> Any:
    """
    Return a `__getattr__` that raises an `AttributeError`, with what to write *instead* of a name.

    Classes define it where type checkers don't look, so that they report the wrong name, too.
    """

    def refuse(self: object, name: str) -> NoReturn:
        message = f"{type(self).__name__!r} object has no attribute {name!r}"
        if name in instead:
            message += f". Write {instead[name]}."
        raise AttributeError(message, name=name, obj=self)

    return refuse


def client_names(*, awaited: bool) -> dict[str, str]:
    """
    Return what a client of another SDK calls the methods of a client, and the name here.
    """
    wait = "await " if awaited else ""
    whole = f"{wait}client.generate_text(model=..., messages=...)"
    names = ("chat", "completions", "responses", "messages", "beta", "completion", "acompletion")
    return {
        **dict.fromkeys((*names, "create", "complete", "generate", "invoke", "ainvoke"), whole),
        **dict.fromkeys(("stream", "astream"), "client.stream_text(model=..., messages=...)"),
        **dict.fromkeys(("batch", "abatch"), "client.map(rows, model=...)"),
        **dict.fromkeys(("with_raw_response", "with_streaming_response"), "response.headers"),
        "close" if awaited else "aclose": f"{wait}client.{'aclose' if awaited else 'close'}()",
    }


def stream_names(*, awaited: bool) -> dict[str, str]:
    """
    Return what a stream or an answer of another SDK calls what a stream has, and the name here.
    """
    wait = "await " if awaited else ""
    whole = f"{wait}stream.final_response()"
    finals = ("get_final_response", "get_final_completion", "get_final_message", "until_done")
    text = f"({whole}).text" if awaited else f"{whole}.text"
    return {
        **dict.fromkeys((*finals, "choices", "message", "usage", "tool_calls"), whole),
        **dict.fromkeys(("text", "content", "get_final_text"), f"{text}, or stream.text_deltas()"),
        **dict.fromkeys(("text_stream", "iter_text"), "stream.text_deltas()"),
        **dict.fromkeys(("iter_lines", "aiter_lines"), "stream.lines()"),
        "close" if awaited else "aclose": f"{wait}stream.{'aclose' if awaited else 'close'}()",
    }


def package_hint(name: str) -> str:
    """
    Return a sentence with the name here for what other packages call *name*; empty for others.
    """
    instead = {
        **dict.fromkeys(("OpenAI", "Anthropic", "AIStats", "Phaseo"), "Client"),
        **dict.fromkeys(("AsyncOpenAI", "AsyncAnthropic"), "AsyncClient"),
        "APIError": "AIStatsError",
        "completion": "Client().generate_text(...)",
        "acompletion": "AsyncClient().generate_text(...)",
    }
    return f". Write aistats.{instead[name]}." if name in instead else ""
