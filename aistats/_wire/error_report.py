"""
Reads the code, message and status of an error from its JSON, in all known formats.

Known formats: the gateway's own envelope, OpenAI's `error` object, problem details (RFC 9457),
FastAPI's `detail`, lists of errors, `code` and `msg`, `base_resp`, and a provider's body as a
string inside another body. The innermost message and code win, because they are the provider's own.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, Final, NamedTuple

from .._views.json import (
    Wire,
    as_object,
    as_objects,
    as_string,
    is_list,
    is_object,
    parse_json,
)

__all__ = ("ErrorReport", "error_in", "error_of_choice", "named_status", "retry_delay_in")

_DEEPEST: Final = 6
"""Levels of nesting that are read: more than any known format has."""
_MOST_LISTED: Final = 20


class ErrorReport(NamedTuple):
    """
    Code, message, request id and status of an error. Each is `None` if the body has none.
    """

    code: str | None
    message: str | None
    request_id: str | None
    status: int | None = None
    """The HTTP status that the body names, from 400 to 599."""

    @classmethod
    def read(cls, body: Any) -> ErrorReport:
        """
        Return the report in *body*, which is parsed JSON.
        """
        return _read(body, 0)


def _read(body: Any, depth: int) -> ErrorReport:
    reports = list(_reports_in(body, depth))
    reports.reverse()  # the innermost first
    return ErrorReport(
        code=next((each.code for each in reports if each.code), None),
        message=next((each.message for each in reports if each.message), None),
        request_id=next((each.request_id for each in reports if each.request_id), None),
        status=next((each.status for each in reports if each.status), None),
    )


def _reports_in(body: Any, depth: int) -> Iterator[ErrorReport]:
    # Yield the report of each level, the outermost first.
    if depth > _DEEPEST:
        return
    if is_list(body):
        # A list of errors: join all messages, and use the first code.
        found = [_read(each, depth + 1) for each in body[:_MOST_LISTED] if is_object(each)]
        messages = "; ".join(each.message for each in found if each.message)
        codes = (each.code for each in found if each.code)
        yield ErrorReport(next(codes, None), messages or None, None)
    elif is_object(body):
        own = _own_report(body)
        yield own
        for name in ("errors", "detail", "base_resp", "error"):
            yield from _reports_in(body.get(name), depth + 1)
        if own.message is not None:
            yield from _reports_in(_json_in(own.message), depth + 1)


def _own_report(wire: Wire) -> ErrorReport:
    sentence = as_string(wire.get("error"))
    listed = [as_string(each.get("message")) for each in as_objects(wire.get("details"))]
    return ErrorReport(
        code=_first_word(
            # If `error` is a sentence, the code is in `reason`.
            sentence if " " not in sentence else None,
            wire.get("code"),
            wire.get("type") if _is_word(wire.get("type")) else None,
            wire.get("reason"),
            wire.get("status_code") if "status_msg" in wire else None,
        ),
        message=_first_word(
            wire.get("description"),
            wire.get("message"),
            wire.get("msg"),
            wire.get("status_msg"),
            "; ".join(filter(None, listed)),
            sentence,
            wire.get("detail"),
            wire.get("title"),
        ),
        request_id=_first_word(
            None if wire.get("generation_id") == "unknown" else wire.get("generation_id"),
            wire.get("request_id"),
            wire.get("requestId"),
        ),
        status=named_status(wire),
    )


def named_status(wire: Wire) -> int | None:
    """
    Return the HTTP status of an error that *wire* names; `None` if it names none.
    """
    for name in ("status_code", "status", "code"):
        value = wire.get(name)
        text = str(value) if isinstance(value, int | str) and not isinstance(value, bool) else ""
        if re.fullmatch("[45][0-9][0-9]", text):
            return int(text)
    return None


def _is_word(value: Any) -> bool:
    # In problem details, `type` is a URL; in an envelope it is only "error".
    return isinstance(value, str) and value != "error" and "/" not in value


def _first_word(*values: Any) -> str | None:
    for value in values:
        if isinstance(value, str) and value:
            return value
        if isinstance(value, int) and not isinstance(value, bool):
            return str(value)
    return None


def _json_in(message: str) -> Any:
    # Return a provider's body that is in *message*, possibly after a few words:
    # `Error code: 400 - {"error": ...}`. Other JSON that a message quotes is ignored.
    start = min((at for at in (message.find("{"), message.find("[")) if at >= 0), default=-1)
    if start < 0 or not message.rstrip().endswith(("}", "]")):
        return None
    try:
        nested = parse_json(message[start:].encode("utf-8", "replace"))
    except ValueError:
        return None
    is_report = start == 0 or (is_object(nested) and error_in(nested) is not None)
    return nested if is_report else None


def error_in(wire: Wire) -> Any:
    """
    Return the part of *wire*, a body or a frame of a stream, that reports an error; `None` if there
    is none.
    """
    if (error := wire.get("error")) is not None and (error or "choices" not in wire):
        return wire
    if wire.get("object") == "error" or wire.get("type") == "error":
        return wire
    choices = wire.get("choices")
    if is_list(choices) and choices:
        return error_of_choice(choices)
    base = as_object(wire.get("base_resp"))
    if base.get("status_code") not in (None, 0):
        return base
    if "choices" in wire:
        return None
    if wire.get("detail") or (is_list(wire.get("errors")) and wire["errors"]):
        return wire
    is_bare = "code" in wire and isinstance(wire.get("msg"), str) and wire["msg"] != ""
    return wire if is_bare and wire["code"] not in (0, 200, "0", "200") else None


def error_of_choice(choices: list[Any]) -> Any:
    """
    Return the error of the first of *choices* that has one; `None` if none has.
    """
    for choice in choices:
        error = choice.get("error") if is_object(choice) else None
        if error and (is_object(error) or isinstance(error, str)):
            return {"error": error}
    return None


def retry_delay_in(body: Any) -> float | None:
    """
    Return the delay in Google's `RetryInfo`, in seconds; `None` if *body* has none.
    """
    for level in _levels(body, 0):
        for detail in as_objects(level.get("details")):
            match = re.fullmatch(r"(\d+(?:\.\d+)?)s", as_string(detail.get("retryDelay")) or "")
            if match is not None and "RetryInfo" in (as_string(detail.get("@type")) or ""):
                return float(match[1])
    return None


def _levels(body: Any, depth: int) -> Iterator[Wire]:
    if depth > _DEEPEST:
        return
    for each in body[:_MOST_LISTED] if is_list(body) else (body,):
        if is_object(each):
            yield each
            yield from _levels(each.get("error"), depth + 1)
            message = as_string(each.get("message"))
            if message and (nested := _json_in(message)) is not None:
                yield from _levels(nested, depth + 1)
