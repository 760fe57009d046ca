"""
Decodes the events of a stream into chunks, and merges them into one response. No I/O.
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from typing import Any, Final, TypeVar

from .._errors import (
    AIStatsError,
    APIConnectionError,
    APITimeoutError,
    StreamError,
    StreamInterruptedError,
)
from .._exchange import Exchange
from .._views.completion import ChatCompletionChunk, ChatCompletionsResponse, TranslatedChunk
from .._views.json import Wire, as_object, is_object, parse_json
from .anthropic import as_chunk, is_anthropic
from .assemble import CompletionAssembler
from .body_text import first_part
from .error_report import error_in
from .joined_events import separate_events
from .shortcut import TextShortcut
from .sse import Event, EventTooLongError, SSEDecoder
from .stream_errors import error_event, status_of_first_event
from .surrogates import PairJoiner

__all__ = ("NEED_DATA", "Need", "StreamDecoder")

ErrorT = TypeVar("ErrorT", bound=AIStatsError)


class Need(enum.Enum):
    """
    The type of `NEED_DATA`.
    """

    DATA = "need data"


NEED_DATA: Final = Need.DATA
"""Returned by a decoder that needs more bytes to go on."""


_CUT: Final = (
    "The stream ended before the answer was complete: it had neither [DONE] nor a finish_reason "
    "for each choice. Some providers end so at a token limit or by a content filter, too. | What "
    "had arrived is in the error's `partial`; ask again, and with a higher limit if it ends at the "
    "same place."
)


class StreamDecoder:
    """
    Turns the bytes of an event stream into chunks, and puts the whole response together.

    It is lazy: it decodes an event when a caller asks for it.

    Args:
        exchange: The record of the call.
        longest_event: Limit for one event, in bytes.
        choices: How many choices the request asked for.
        masked: Returns bytes of an event without the key, for errors.
    """

    __slots__ = (
        *("_assembler", "_counts", "_done", "_ended", "_exchange", "_is_whole", "_masked"),
        *("_pairs", "_shortcut", "_sse", "next_plain"),
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
        self._shortcut = TextShortcut(self._sse.blocks, self._assembler)
        self.next_plain = self._shortcut.read
        """
        Returns the next chunk if it waits and differs from the previous one only in its text.
        Otherwise returns `None` and consumes nothing.
        """

    @property
    def is_complete(self) -> bool:
        """
        Whether the response is complete: `[DONE]` came, or a snapshot, or a `finish_reason` for
        each choice that was asked for.
        """
        return not self._assembler.is_empty and (self._done or self._assembler.is_complete)

    @property
    def has_event(self) -> bool:
        """
        Whether an event with data is waiting to be decoded.
        """
        return self._sse.has_event()

    @property
    def waiting(self) -> int:
        """
        Number of blocks of lines that are waiting to be decoded.
        """
        return len(self._sse.blocks)

    @property
    def answer_id(self) -> str | None:
        """
        The id of the response; `None` before a frame has it.
        """
        return self._assembler.answer_id

    def response(self) -> ChatCompletionsResponse:
        """
        Return everything that has been decoded so far, as one response.
        """
        return ChatCompletionsResponse(self._assembler.result(), self._exchange)

    def receive_data(self, data: bytes) -> None:
        """
        Add the next bytes; `b""` is the end of the input.

        Raises:
            StreamError: An event is longer than the limit.
        """
        self._ended = self._ended or not data
        try:
            self._sse.receive_data(data)
        except EventTooLongError as error:
            message = (
                f"The stream was given up: {error}. Raise max_response_bytes, if that is right."
            )
            raise self._failure(StreamError, message) from None

    def receive_whole(self, body: bytes) -> None:
        """
        Decode *body*, the JSON of a whole completion that came instead of a stream.
        """
        self._is_whole = True
        # In JSON, a line end between tokens means the same as a space, and strings have none.
        self._sse.blocks.append(b"data: " + b" ".join(body.splitlines()))
        self.receive_data(b"")

    def check_first_event(self) -> None:
        """
        Raise the error that the first event reports, if the error names a status. Consume nothing.

        Raises:
            APIStatusError: The first event is such an error.
        """
        status_of_first_event(self._sse.first_block(), self._exchange, self._masked)

    def connection_lost(self, error: APIConnectionError) -> AIStatsError | None:
        """
        Return the error to raise after the connection failed with *error*; `None` if the response
        was complete by then.
        """
        if self.is_complete:
            self._ended = True
            return None
        if isinstance(error, APITimeoutError):
            error.partial = self.response()
            return error
        message = f"The connection was lost before the answer was complete: {error.message}"
        return self._failure(StreamInterruptedError, message + self._what_to_do())

    def next_event(self) -> Event | Need | None:
        """
        Return the next event; `NEED_DATA` if none has arrived, `None` after the proper end.

        Raises:
            StreamInterruptedError: The input has ended, and the response is not complete.
        """
        if not self._done:
            event = self._sse.next_event()
            if event is not None:
                is_long = event.data is not None and b"\n" in event.data
                return self._separated(event) if is_long else event
            if not self._ended:
                return NEED_DATA
        if self.is_complete:
            return None
        if self._assembler.is_empty:
            message = "The stream ended before any of the answer came." + self._what_to_do()
            raise self._failure(StreamInterruptedError, message)
        raise self._failure(StreamInterruptedError, _CUT)

    def decode(self, event: Event) -> ChatCompletionChunk | None:
        """
        Return the chunk in *event*; `None` for a comment, `[DONE]`, or a last frame that was cut.

        Raises:
            StreamErrorEvent: The gateway reports an error.
            StreamError: The event is not a chunk.
        """
        self._shortcut.forget()
        data = event.data.strip() if event.data else b""
        if event.data is None or data in (b"", b"null"):
            return None
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
        start = first_part(self._masked(event.data))
        message = f"An event of the stream is not a JSON object. It begins: {start}"
        raise self._failure(StreamError, message + self._what_to_do())

    def next_chunk(self) -> ChatCompletionChunk | Need | None:
        """
        Return the next chunk; `NEED_DATA` if none has arrived, `None` after the proper end.

        Raises:
            StreamInterruptedError: The input has ended, and the response is not complete.
            StreamErrorEvent: The gateway reports an error.
            StreamError: An event is not a chunk.
        """
        self._shortcut.learn()
        if (plain := self.next_plain()) is not None:
            return plain
        while isinstance(event := self.next_event(), Event):
            if event.data is None:
                continue  # a comment; a server may send many
            chunk = self.decode(event)
            if chunk is not None:
                return chunk
        return event

    def _separated(self, event: Event) -> Event:
        blocks = separate_events(event)
        if blocks is None:
            return event
        self._sse.put_back(blocks, is_whole=event.whole)
        return self._sse.next_event() or event

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
        wire, text = self._assembler.add_with_deltas(frame)
        if self._assembler.is_failed:
            raise self._error_event(event.data)
        if wire is not frame:
            return TranslatedChunk(wire, text, event.block, frame)
        # While half of a character is held, the next text is not the frame's own.
        is_one_line = event.block.startswith(b"data: ") and b"\n" not in event.block
        if is_one_line and not self._pairs.is_holding:
            self._shortcut.remember(event.block, frame)
        return ChatCompletionChunk(frame, text, event.block)

    def _error_event(self, data: bytes) -> AIStatsError:
        error = error_event(self._masked(data), self._what_to_do())
        return self._with_partial(error)

    def _what_to_do(self) -> str:
        if self._assembler.is_empty:
            return " | Nothing of the answer had arrived; ask again."
        return " | What had arrived is in the error's `partial`; ask again to get a whole answer."

    def _failure(self, kind: type[ErrorT], message: str) -> ErrorT:
        return self._with_partial(kind(message))

    def _with_partial(self, error: ErrorT) -> ErrorT:
        error.partial = self.response()
        error.exchange = self._exchange
        return error
