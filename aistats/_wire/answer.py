"""
Reads the body of a response that is not streamed: a completion or an error.
"""

from __future__ import annotations

from .._errors import APIResponseError
from .._exchange import Exchange
from .._views.completion import ChatCompletionChunk, ChatCompletionsResponse
from .._views.json import as_objects, is_object, parse_json
from .body_kind import is_event_stream
from .body_text import first_part, is_page, parsed_body
from .decoder import StreamDecoder
from .error_report import ErrorReport, error_in, error_of_choice, named_status, retry_delay_in
from .status_error import status_error

__all__ = ("choices_of", "completion_from")


def choices_of(request: bytes) -> int:
    """
    Return how many choices the body of a *request* asks for.
    """
    # Few requests have `n`, so search before parsing. In a string, the quotes would be escaped.
    number = parse_json(request).get("n") if b'"n":' in request else None
    return number if isinstance(number, int) else 1


def completion_from(
    body: bytes, exchange: Exchange, request: bytes = b""
) -> ChatCompletionsResponse:
    """
    Return the completion in *body*, a response to *request* with status 200. If the body is an
    event stream, return the completion that its chunks make.

    Raises:
        APIResponseError: The body is not a completion.
        APIStatusError: The body is an error that names a status.
        StreamError: The body is an event stream that is truncated or reports an error.
    """
    try:
        wire = parsed_body(body)
    except ValueError:
        if is_event_stream(body, ""):
            return _completion_from_events(body, exchange, request)
        raise _not_a_completion(body, exchange) from None
    if not is_object(wire):
        raise _answer_error("is JSON, but not an object", body, exchange)
    choices = as_objects(wire.get("choices"))
    # Keep an answer that was billed: if there are choices, only their errors count.
    reported = error_of_choice(choices) if choices else error_in(wire)
    if reported is None and choices:
        return ChatCompletionsResponse(wire, exchange)
    if reported is None:
        if "choices" in wire:
            advice = "The provider gave none: ask again, or try another model."
            raise _answer_error("has no choices", body, exchange, advice)
        raise _answer_error("has no choices", body, exchange)
    report = ErrorReport.read(reported)
    if not choices and (status := report.status or named_status(wire)) is not None:
        raise status_error(status, report, wire, exchange, retry_delay_in(wire))
    reason = ": ".join(filter(None, [report.code, report.message])) or "no reason was given"
    advice = "Try again; if it goes on, check the request."
    failure = _answer_error(f"is an error: {reason}", body, exchange, advice)
    if choices:
        failure.partial = ChatCompletionsResponse(wire, exchange)
    raise failure


def _completion_from_events(
    body: bytes, exchange: Exchange, request: bytes
) -> ChatCompletionsResponse:
    # The body is in memory already, so an event may be as long as the body.
    decoder = StreamDecoder(exchange, longest_event=len(body), choices=choices_of(request))
    decoder.receive_data(body)
    decoder.receive_data(b"")
    decoder.check_first_event()
    while isinstance(decoder.next_chunk(), ChatCompletionChunk):
        pass
    return decoder.response()


def _not_a_completion(body: bytes, exchange: Exchange) -> APIResponseError:
    if not body.strip():
        return _answer_error("is empty", body, exchange)
    if is_page(body):
        return _answer_error(
            "is HTML: a proxy or a login page answered, not the gateway", body, exchange
        )
    return _answer_error("is not JSON, or was cut", body, exchange)


_CHECK_BASE_URL = "Check that base_url leads to the gateway's API."


def _answer_error(
    what: str, body: bytes, exchange: Exchange, advice: str = _CHECK_BASE_URL
) -> APIResponseError:
    shown = first_part(body)
    sentences = [
        f"The answer (status {exchange.status}) {what.removesuffix('.')}.",
        advice,
        f"It begins: {shown}" if shown else "",
    ]
    error = APIResponseError(" ".join(filter(None, sentences)))
    error.body = shown
    error.exchange = exchange
    return error
