"""
Makes exceptions of the errors that events of a stream report.
"""

from __future__ import annotations

from collections.abc import Callable

from .._errors import StreamErrorEvent
from .._exchange import Exchange
from .._views.json import as_objects, is_object, parse_json
from .body_text import first_part
from .error_report import ErrorReport, error_in, retry_delay_in
from .sse import event_of
from .status_error import status_error

__all__ = ("error_event", "status_of_first_event")

_WORDS_OF_ERRORS = (b'"error"', b'"errors"', b'"detail"', b'"base_resp"', b'"msg"', b'"code"')


def error_event(data: bytes, what_to_do: str) -> StreamErrorEvent:
    """
    Return the error that an event with *data* reports. *what_to_do* is the end of its message.
    """
    try:
        frame = parse_json(data)
    except ValueError:
        frame = None
    if not is_object(frame):
        frame = {"message": first_part(data)}
    reported = error_in(frame)
    report = ErrorReport.read(frame if reported is None else reported)
    message = report.message or "the provider ended the answer with an error and gave no reason"
    code = f"{report.code}: " if report.code else ""
    error = StreamErrorEvent(
        f"The gateway reported an error in the stream: {code}{message}{what_to_do}"
    )
    error.message = message
    error.code = report.code
    error.body = frame
    return error


def status_of_first_event(
    block: bytes, exchange: Exchange, masked: Callable[[bytes], bytes]
) -> None:
    """
    Raise the error that *block*, the first event, reports, if the error names a status.

    Raises:
        APIStatusError: The event is such an error.
    """
    # Don't parse events that can't be an error.
    if not any(word in block for word in _WORDS_OF_ERRORS):
        return
    try:
        frame = parse_json(masked(event_of(block).data or b""))
    except ValueError:
        return
    if not is_object(frame) or as_objects(frame.get("choices")):
        return
    reported = error_in(frame)
    report = ErrorReport.read(reported)
    if reported is not None and report.status is not None:
        raise status_error(report.status, report, frame, exchange, retry_delay_in(frame))
