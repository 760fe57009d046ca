"""
What an answer means: status, headers and body become a completion or an error; events become
chunks. No I/O.
"""

from __future__ import annotations

import enum
import itertools
import re
from collections.abc import Callable
from typing import Any, Final, TypeVar
from urllib.parse import urljoin

from .._errors import (
    AIStatsError,
    APIConnectionError,
    APIResponseError,
    APIStatusError,
    APITimeoutError,
    StreamError,
    StreamErrorEvent,
    StreamInterruptedError,
    status_error_class,
)
from .._exchange import Exchange
from .._views.completion import ChatCompletionChunk, ChatCompletionsResponse, TranslatedChunk
from .._views.json import Wire, as_object, as_objects, is_list, is_object, parse_json
from .anthropic import as_chunk, is_anthropic
from .assemble import CompletionAssembler, Text
from .body_kind import is_event_stream
from .error_report import ErrorReport, error_in, error_of_choice, named_status, retry_delay_in
from .shortcut import Pattern
from .sse import Event, EventTooLongError, SSEDecoder, event_of
from .surrogates import PairJoiner

__all__ = (
    "NEED_DATA",
    "Need",
    "StreamDecoder",
    "choices_of",
    "completion_from",
    "status_error_from",
)

ErrorT = TypeVar("ErrorT", bound=AIStatsError)

_SHOWN = 500  # characters of a body that an error shows


class Need(enum.Enum):
    """
    The type of `NEED_DATA`.
    """

    DATA = "need data"


NEED_DATA: Final = Need.DATA
"""What a decoder gives when it can't go on without the next bytes."""


# --- whole answers ---


def choices_of(request: bytes) -> int:
    """
    Return how many choices the body of a *request* asks for.
    """
    # Hardly any request has `n`. Inside a string its quotes would be escaped.
    number = parse_json(request).get("n") if b'"n":' in request else None
    return number if isinstance(number, int) else 1


def completion_from(
    body: bytes, exchange: Exchange, request: bytes = b""
) -> ChatCompletionsResponse:
    """
    Return the completion in *body*, the answer to *request* with a good status. An event stream,
    for which nobody asked, is put together.

    Raises:
        APIResponseError: It isn't one.
        APIStatusError: It is an error that was sent with a good status.
        StreamError: It is an event stream that was cut, or that reports an error.
    """
    try:
        wire = _parsed(body)
    except ValueError:
        if is_event_stream(body, ""):
            return _completion_from_events(body, exchange, request)
        raise _not_a_completion(body, exchange) from None
    if not is_object(wire):
        raise _answer_error("is JSON, but not an object", body, exchange)
    choices = as_objects(wire.get("choices"))
    # Beside choices, an error of the whole is a remark: the answer was paid for.
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
        raise _status_error(status, report, wire, exchange, retry_delay_in(wire))
    reason = ": ".join(filter(None, [report.code, report.message])) or "no reason was given"
    advice = "Try again; if it goes on, check the request."
    failure = _answer_error(f"is an error: {reason}", body, exchange, advice)
    if choices:
        failure.partial = ChatCompletionsResponse(wire, exchange)
    raise failure


def _completion_from_events(
    body: bytes, exchange: Exchange, request: bytes
) -> ChatCompletionsResponse:
    # The events are in memory already, so the limit of one is the whole.
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
    if _is_page(body):
        return _answer_error(
            "is HTML: a proxy or a login page answered, not the gateway", body, exchange
        )
    return _answer_error("is not JSON, or was cut", body, exchange)


_CHECK_BASE_URL = "Check that base_url leads to the gateway's API."


def _answer_error(
    what: str, body: bytes, exchange: Exchange, advice: str = _CHECK_BASE_URL
) -> APIResponseError:
    shown = _first_part(body)
    sentences = [
        f"The answer (status {exchange.status}) {what.removesuffix('.')}.",
        advice,
        f"It begins: {shown}" if shown else "",
    ]
    error = APIResponseError(" ".join(filter(None, sentences)))
    error.body = shown
    error.exchange = exchange
    return error


def _first_part(body: bytes) -> str:
    text = body[: 4 * _SHOWN].decode("utf-8", "replace").strip()
    return text if len(text) <= _SHOWN else text[:_SHOWN] + "…"


def _is_page(body: bytes) -> bool:
    return body[:_PAGE].lstrip()[:1] == b"<"


def _parsed(body: bytes) -> Any:
    # orjson takes memory for twelve times the body before it looks at it.
    if _is_page(body):
        raise ValueError("HTML is not JSON")
    return parse_json(body)


def _text_of_page(body: bytes) -> str:
    """
    Return what a page of HTML says; its title only where its first words don't repeat it.

    Return `""` where *body* is no page.
    """
    if not _is_page(body):
        return ""
    import html  # with all names of characters, which only a page needs

    page = body[:_PAGE].decode("utf-8", "replace")
    pieces = [
        " ".join(html.unescape(piece).split()) for piece in re.sub(_TAGS, "\0", page).split("\0")
    ]
    pieces = [piece for piece in pieces if piece]
    if len(pieces) > 1 and "<title" in page.lower():
        title, heading = pieces[:2]
        if title in heading or heading in title:
            pieces[:2] = [max(title, heading, key=len)]
    text = " ".join(pieces)
    return text if len(text) <= _SHOWN else text[:_SHOWN] + "…"


# Comments, scripts and styles, and every other tag.
_TAGS = r"(?is)<!--.*?(-->|$)|<(script|style)\b.*?(</\2|$)[^>]*>?|<[^<>]*(>|$)"
_PAGE = 16 * 1024


# --- errors ---


def status_error_from(
    body: bytes, exchange: Exchange, retry_after: float | None = None
) -> APIStatusError:
    """
    The error for an answer whose status is not a good one, and which asks to be left alone for
    *retry_after* seconds.
    """
    assert exchange.status is not None
    try:
        wire = _parsed(body)
    except ValueError:
        wire = None
    if is_object(wire) or is_list(wire):
        report = ErrorReport.read(wire)
        if wire and report.message is None and report.code is None:
            report = report._replace(message=_first_part(body))
        if retry_after is None:
            retry_after = retry_delay_in(wire)
        return _status_error(exchange.status, report, wire, exchange, retry_after)
    message = _text_of_page(body) or _first_part(body)
    report = ErrorReport(None, message or None, None)
    return _status_error(exchange.status, report, _first_part(body), exchange, retry_after)


def _status_error(
    status: int,
    report: ErrorReport,
    body: Any,
    exchange: Exchange,
    retry_after: float | None = None,
) -> APIStatusError:
    message = report.message or "no reason was given"
    parts = [f"{status} {report.code}" if report.code else str(status), message]
    if report.code is None and message.startswith(f"{status} "):
        parts = [message]  # pages begin with their status
    advice = _advice(status, report, exchange)
    if retry_after:
        advice = f"{advice} It asks to be left alone for {retry_after:g} s.".strip()
    error = status_error_class(status)(": ".join(parts) + (f" | {advice}" if advice else ""))
    error.message = message
    error.code = report.code
    error.body = body
    if status != exchange.status:
        error.named_status = status
    error.body_request_id = report.request_id
    error.retry_after = retry_after
    error.exchange = exchange
    return error


_ADVICE_BY_CODE = {
    "unsupported_model_or_endpoint": "The gateway knows no such model: check its id.",
    "key_limit_exceeded": (
        "The key's quota is used up; a few seconds won't help. Raise it, or use another key."
    ),
    "google_empty_response": (
        "The model gave no visible output: raise the token limit or change the prompt."
    ),
}
_ADVICE_BY_STATUS = {
    400: "Mend the request; trying it again as it is won't help.",
    401: "Check the key: AI_STATS_API_KEY in the environment, or api_key=.",
    402: "Add credit to the account.",
    403: "Use a key that is allowed to do this, or another model or region.",
    404: "Check base_url: there is nothing at this address.",
    407: "Check the user name and the password of the proxy in HTTP_PROXY or HTTPS_PROXY.",
    409: "Try again when it is ready.",
    413: "Send less: the gateway takes at most 16 MiB of JSON, a proxy may take less.",
    422: "Mend the request; trying it again as it is won't help.",
    429: "Send fewer requests at a time, and try again later.",
}


def _advice(status: int, report: ErrorReport, exchange: Exchange) -> str:
    if 300 <= status < 400:
        return _advice_on_redirect(exchange)
    if status == 401 and report.message == "db_error":
        return "The gateway's key store was down: try again."
    if status == 404 and exchange.request is not None:
        return f"Check base_url: there is nothing at {exchange.request.url}."
    by_code = _ADVICE_BY_CODE.get(report.code or "")
    return by_code or _ADVICE_BY_STATUS.get(status) or ("Try again later." if status >= 500 else "")


def _advice_on_redirect(exchange: Exchange) -> str:
    location = exchange.headers.get("location")
    if location is None:
        return "It redirects to nowhere: check that base_url leads to the gateway's API."
    if exchange.request is not None:  # it may be relative
        location = urljoin(exchange.request.url, location)
    kept = "Redirects are not followed, since the key and the prompt would go with them"
    address = location.partition("?")[0].rstrip("/")
    if not address.endswith("/chat/completions"):
        return f"It redirects to {location}, which is not the gateway's API. {kept}."
    base_url = address.removesuffix("/chat/completions")
    return (
        f"It redirects to {location}. {kept}: if that is the gateway, set base_url to {base_url}."
    )


# --- streams ---

_WORDS_OF_ERRORS = (b'"error"', b'"errors"', b'"detail"', b'"base_resp"', b'"msg"', b'"code"')


def _is_json(text: bytes) -> bool:
    if text == b"[DONE]":
        return True
    try:
        parse_json(text)
    except ValueError:
        return False
    return True


class StreamDecoder:
    """
    Bytes of an event stream in, chunks out, and at the end, or at a failure, the whole that they
    make.

    It is lazy: an event is decoded when it is asked for.

    Args:
        exchange: What is known of the call.
        longest_event: The limit for one event, in bytes.
        choices: How many choices the request asked for.
        masked: Takes out of an event what no error may show.
    """

    __slots__ = (
        "_assembler",
        "_counts",
        "_done",
        "_ended",
        "_exchange",
        "_is_text",
        "_is_whole",
        "_last",
        "_masked",
        "_pairs",
        "_pattern",
        "_sse",
        "_write",
    )

    def __init__(
        self,
        exchange: Exchange | None = None,
        *,
        longest_event: int = 32 * 1024 * 1024,
        choices: int = 1,
        masked: Callable[[bytes], bytes] = bytes,
    ) -> None:
        self._masked = masked
        self._exchange = exchange or Exchange()
        self._sse = SSEDecoder(longest_event=longest_event)
        self._assembler = CompletionAssembler(choices)
        self._counts: Wire = {}
        self._pairs = PairJoiner()
        self._done = False
        self._ended = False
        self._is_whole = False
        # The last event and its frame, until the pattern is made of it.
        self._last: tuple[bytes, Wire] | None = None
        # What the next event will likely be like, and where its text goes: the answer's, or the
        # thought's.
        self._pattern: Pattern | None = None
        self._write: Callable[[str], object] = Text().write
        self._is_text = True

    @property
    def is_complete(self) -> bool:
        """
        Whether the answer is whole: `[DONE]` came, or a snapshot, or a `finish_reason` for each
        choice that was asked for.
        """
        return not self._assembler.is_empty and (self._done or self._assembler.is_complete)

    @property
    def has_event(self) -> bool:
        """
        Whether an event that says something is waiting to be decoded.
        """
        return self._sse.has_event()

    @property
    def waiting(self) -> int:
        """
        How many blocks of lines are waiting to be decoded.
        """
        return len(self._sse.blocks)

    @property
    def answer_id(self) -> str | None:
        """
        The answer's id, once a frame had it.
        """
        return self._assembler.answer_id

    def response(self) -> ChatCompletionsResponse:
        """
        All that has been decoded so far, as one answer.
        """
        return ChatCompletionsResponse(self._assembler.result(), self._exchange)

    def receive_data(self, data: bytes) -> None:
        """
        Take the next bytes; `b""` is the end of the input.

        Raises:
            StreamError: An event is longer than the limit.
        """
        self._ended = self._ended or not data
        try:
            self._sse.receive_data(data)
        except EventTooLongError as error:
            what = f"The stream was given up: {error}. Raise max_response_bytes, if that is right."
            raise self._failure(StreamError, what) from None

    def receive_whole(self, body: bytes) -> None:
        """
        Take the whole of an answer that is JSON although a stream was asked for.

        Raises:
            APIResponseError: It is no completion.
            APIStatusError: It is an error of the gateway.
        """
        completion_from(body, self._exchange)
        self._is_whole = True
        # In JSON a line end is a space, but for those in strings, which are escaped. Its length has
        # been seen to.
        self._sse.blocks.append(b"data: " + b" ".join(body.splitlines()))
        self.receive_data(b"")

    def check_first_event(self) -> None:
        """
        Raise the error that the first event reports, if it names a status: then there is no answer,
        and another attempt may have one. Nothing is consumed.

        Raises:
            APIStatusError: It does.
        """
        block = self._sse.first_block()
        if not any(word in block for word in _WORDS_OF_ERRORS):
            return
        event = event_of(block)
        try:
            frame = parse_json(event.data or b"")
        except ValueError:
            return
        reported = error_in(frame) if is_object(frame) else None
        if reported is None or as_objects(as_object(frame).get("choices")):
            return
        report = ErrorReport.read(reported)
        if report.status is not None:
            masked = parse_json(self._masked(event.data or b""))
            report = ErrorReport.read(masked)
            raise _status_error(
                report.status or 500, report, masked, self._exchange, retry_delay_in(masked)
            )

    def connection_lost(self, error: APIConnectionError) -> AIStatsError | None:
        """
        The error to raise after the connection failed with *error*; `None` if the answer was whole
        by then.
        """
        if self.is_complete:
            self._ended = True
            return None
        if isinstance(error, APITimeoutError):
            error.partial = self.response()
            return error
        what = f"The connection was lost before the answer was complete: {error.message}"
        return self._failure(StreamInterruptedError, what + self._what_to_do())

    def next_event(self) -> Event | Need | None:
        """
        The next event; `NEED_DATA` where there is none yet, `None` after the proper end.

        Raises:
            StreamInterruptedError: The input has ended, and the answer is not complete.
        """
        if not self._done:
            event = self._sse.next_event()
            if event is not None:
                return self._first_of(event) if b"\n" in (event.data or b"") else event
            if not self._ended:
                return NEED_DATA
        if self.is_complete:
            return None
        if self._assembler.is_empty:
            what = "The stream ended before any of the answer came." + self._what_to_do()
        else:
            what = (
                "The stream ended before the answer was complete: it had neither [DONE] nor a "
                "finish_reason for each choice. Some providers end so at a token limit or by a "
                "content filter, too. | What had arrived is in the error's `partial`; ask again, "
                "and with a higher limit if it ends at the same place."
            )
        raise self._failure(StreamInterruptedError, what)

    def _first_of(self, event: Event) -> Event:
        # Some servers forget the blank lines. If the lines of an event are JSON each, but not
        # together, each is an event. The others wait.
        if _is_json(event.data or b""):
            return event
        lines = event.lines()
        at = [place for place, line in enumerate(lines) if line.startswith(b"data:")]
        # Without a blank line at the end, the last one may have been cut.
        checked = at if event.whole else at[:-1]
        if not all(_is_json(lines[place].removeprefix(b"data:").strip()) for place in checked):
            return event
        at = [0, *at[1:], len(lines)]
        blocks = [b"\n".join(lines[low:high]) for low, high in itertools.pairwise(at)]
        self._sse.put_back(blocks, is_whole=event.whole)
        return self._sse.next_event() or event

    def decode(self, event: Event) -> ChatCompletionChunk | None:
        """
        The chunk in *event*; `None` where it is no chunk: a comment, `[DONE]`, a last frame that
        was cut.

        Raises:
            StreamErrorEvent: The gateway reports an error.
            StreamError: It isn't what the contract says.
        """
        self._pattern = self._last = None
        data = event.data.strip() if event.data else b""
        if event.data is None or data in (b"", b"null"):
            return None  # nothing is said, and nothing is lost
        if data in (b"[DONE]", b'"[DONE]"'):
            self._done = True
            return None
        try:
            frame = self._parsed_frame(event.data)
        except ValueError:
            frame = None
        if is_object(frame):
            return self._chunk(event, frame)
        if event.type == b"error" and (event.whole or self.is_complete):
            raise self._error_event(event.data)
        if not event.whole:
            return None
        raise self._failure(
            StreamError,
            "An event of the stream is not a JSON object. It begins: "
            f"{_first_part(self._masked(event.data))}{self._what_to_do()}",
        )

    def next_chunk(self) -> ChatCompletionChunk | Need | None:
        """
        The next chunk; `NEED_DATA` where there is none yet, `None` after the proper end.

        Raises:
            StreamInterruptedError: The input has ended, and the answer is not complete.
            StreamErrorEvent: The gateway reports an error.
            StreamError: An event isn't what the contract says.
        """
        if self._last is not None:
            self._learn(*self._last)
        if plain := self.next_plain():
            return plain
        while isinstance(event := self.next_event(), Event):
            chunk = self.decode(event)
            if chunk is not None:
                return chunk
        return event

    def next_plain(self) -> ChatCompletionChunk | None:
        """
        The next chunk if it waits and differs from the one before in its text alone, as nearly all
        do; else `None`, and nothing has happened. A short cut to what `next_chunk()` gives.
        """
        pattern, blocks = self._pattern, self._sse.blocks
        if pattern is None or not blocks:
            return None
        text = pattern.read(blocks[-1])
        if text is None:
            return None
        self._write(text)
        line = blocks.pop()
        if self._is_text:
            return ChatCompletionChunk(None, text, line, pattern.frame)
        return ChatCompletionChunk(pattern.frame(line, text), "", line)

    def _parsed_frame(self, data: bytes) -> Any:
        if PairJoiner.may_be_cut(data):
            return self._pairs.read(data)
        frame = parse_json(data)
        if self._pairs.is_holding:
            self._pairs.join(as_object(frame))
        return frame

    def _chunk(self, event: Event, frame: Wire) -> ChatCompletionChunk:
        assert event.data is not None
        if event.type == b"error" or error_in(frame) is not None:
            raise self._error_event(event.data)
        if is_anthropic(frame):
            wire = as_chunk(frame, self._counts)
            text = self._assembler.add(wire)
            self._done = frame["type"] == "message_stop"
            return TranslatedChunk(wire, text, event.block, frame)
        if self._is_whole:
            frame["object"] = "chat.completion"
        text = self._assembler.add(frame)
        if self._assembler.is_failed:
            raise self._error_event(event.data)
        # While half of a character is held, the next text is not the frame's own.
        is_one_line = event.block.startswith(b"data: ") and b"\n" not in event.block
        if is_one_line and not self._pairs.is_holding:
            self._last = event.block, frame
        return ChatCompletionChunk(frame, text, event.block)

    def _learn(self, line: bytes, frame: Wire) -> None:
        # The next event will likely be the same but for the text. Nobody waits for this: the chunk
        # is with its reader already, and the next one mostly has not come.
        self._last = None
        if only_text := self._assembler.only_text(frame):
            key, text = only_text
            self._write = text.write
            self._is_text = key == "content"
            self._pattern = Pattern.of(line, frame, key)

    def _error_event(self, data: bytes) -> StreamErrorEvent:
        data = self._masked(data)
        try:
            frame = parse_json(data)
        except ValueError:
            frame = None
        if not is_object(frame):
            frame = {"message": _first_part(data)}
        reported = error_in(frame)
        report = ErrorReport.read(frame if reported is None else reported)
        message = report.message or "the provider ended the answer with an error and gave no reason"
        code = f"{report.code}: " if report.code else ""
        error = self._failure(
            StreamErrorEvent,
            f"The gateway reported an error in the stream: {code}{message}{self._what_to_do()}",
        )
        error.message = message
        error.code = report.code
        error.body = frame
        return error

    def _what_to_do(self) -> str:
        if self._assembler.is_empty:
            return " | Nothing of the answer had arrived; ask again."
        return " | What had arrived is in the error's `partial`; ask again to get a whole answer."

    def _failure(self, kind: type[ErrorT], message: str) -> ErrorT:
        error = kind(message)
        error.partial = self.response()
        error.exchange = self._exchange
        return error
