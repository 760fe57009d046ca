"""
What both streams share: the states of a stream, reading its bytes, and how it ended.

The decoder lives here, on the caller's side, so what crosses threads is bytes: everything that is
ready, in one hop.
"""

from __future__ import annotations

import contextlib
import enum
import threading
from collections.abc import Callable, Generator, Iterator
from typing import TYPE_CHECKING, TypeVar

from .._clock import monotonic
from .._errors import AIStatsError, APIConnectionError, StreamError, as_html
from .._exchange import Attempt, Exchange, Headers, Timing
from .._views.completion import ChatCompletionChunk, ChatCompletionsResponse, as_shown
from .._wire.decoder import Need, StreamDecoder
from .._wire.sse import Event
from .opening import OpenedStream, Opening, OpenStream, Receiver

if TYPE_CHECKING:
    from .._show.progress import LiveHTML

__all__ = ("AnyStream", "State", "Take", "ready_chunks")

T = TypeVar("T")
Take = Callable[[StreamDecoder], T | Need | None]
"""Takes the next value from the decoder: `NEED_DATA` if it needs bytes, `None` at the end."""

# After `[DONE]`, the connection can only be reused once the body has ended. Usually that is
# immediately.
_GRACE = 0.25


class State(enum.Enum):
    """
    State of a stream.
    """

    NEW = "new"
    OPEN = "open"
    DONE = "done"
    FAILED = "failed"
    CLOSED = "closed"


class AnyStream:
    """
    Everything that `AsyncStream` and `Stream` have in common: all but the waiting.
    """

    def __init__(self, open_stream: OpenStream) -> None:
        self._open_stream = open_stream
        self._opening = Opening()
        self._opened: OpenedStream | None = None
        self._state = State.NEW
        self._failure = ""
        # Held by the only reader.
        self._reader = threading.Lock()
        # Seconds spent waiting without an event, and the start of the current wait. Time that the
        # caller spends between reads does not count.
        self._silence = 0.0
        self._wait_start = 0.0
        # Shortcut for ordinary chunks, set while the stream is open and no read is in progress.
        self._next_plain: Callable[[], ChatCompletionChunk | None] = _no_chunk

    @property
    def status(self) -> int | None:
        """
        The answer's HTTP status; `None` before the request went out.
        """
        return self._exchange.status

    @property
    def headers(self) -> Headers:
        """
        The answer's headers, by name in any case; empty before the request went out.
        """
        return self._exchange.headers

    @property
    def request_id(self) -> str | None:
        """
        The id to give to the gateway's support: the first chunk's, else one from the headers.
        """
        answer_id = self._opened.decoder.answer_id if self._opened else None
        return answer_id or self._exchange.header_request_id

    @property
    def attempts(self) -> tuple[Attempt, ...]:
        """
        Each try to get the stream; empty before the request went out.
        """
        return self._exchange.attempts

    @property
    def timing(self) -> Timing:
        """
        Where the time of the call went, in seconds. `total` counts until the stream began, and once
        it has ended, until then.
        """
        return self._exchange.timing

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: {self._state.value}>"

    _how_to_show = "stream.show()"

    def _repr_html_(self) -> str:
        return self._html(self._how_to_show)

    def _html(self, how_to_show: str = "", failure: str | None = None) -> str:
        from .._show.cards import stream_html

        response = self._opened.decoder.response() if self._opened else None
        answer = as_shown(response) if response is not None else None
        failure = self._failure if failure is None else failure
        return stream_html(answer, self._state.value, failure, how_to_show)

    @contextlib.contextmanager
    def _live(self, *, is_raised: bool = True) -> Generator[LiveHTML, None, None]:
        # An error that the caller raises is shown by its traceback, and not by the display, too.
        from .._show.progress import LiveHTML

        live = LiveHTML(lambda: (self._html(), repr(self)))
        try:
            live.show()
            yield live
        except AIStatsError as error:
            if is_raised:
                live.put(self._html(failure=""), repr(self))
            else:
                live.put(as_html(error), repr(error))
            raise
        except BaseException:
            self._end(State.CLOSED)  # interrupted between two reads
            live.show()
            raise

    @property
    def _exchange(self) -> Exchange:
        return self._opened.exchange if self._opened else Exchange()

    # --- one read ---

    @contextlib.contextmanager
    def _reading(self) -> Generator[None, None, None]:
        # Any exception inside this context ends the stream.
        if not self._reader.acquire(blocking=False):
            raise StreamError("The stream is being read already; only one reader at a time can.")
        self._next_plain = _no_chunk
        self._wait_start = monotonic()
        try:
            yield
            if self._opened is not None and self._state is State.OPEN:
                self._next_plain = self._opened.decoder.next_plain
        except AIStatsError as error:
            if self._state is State.CLOSED:
                # Another thread or task closed the stream, which interrupted this read.
                raise self._ended_early() from None
            self._failure = error.message
            if self._opened is not None and error.partial is None:
                error.partial = self._opened.decoder.response()
                error.exchange = self._opened.exchange
            self._end(State.FAILED)
            raise
        except BaseException:
            # The read was interrupted, so the rest of the answer is lost.
            self._end(State.CLOSED)
            raise
        finally:
            self._reader.release()

    @property
    def _must_open(self) -> bool:
        return self._opened is None and self._state is State.NEW

    def _has_opened(self, opened: OpenedStream | None) -> None:
        self._opened = opened
        if opened is None:
            return  # it was closed meanwhile
        if self._state is State.NEW:
            self._state = State.OPEN
        else:
            opened.finish()
            opened.receiver.close_soon()

    def _check_readable(self) -> OpenedStream:
        if self._opened is None or self._state in (State.FAILED, State.CLOSED):
            raise self._ended_early()
        return self._opened

    def _take(self, take: Take[T]) -> T | Need | None:
        taken = take(self._check_readable().decoder)
        if taken is None:
            self._end(State.DONE)
        return taken

    @property
    def _receiver(self) -> Receiver:
        assert self._opened is not None
        return self._opened.receiver

    def _received(self, data: bytes) -> None:
        assert self._opened is not None
        decoder = self._opened.decoder
        decoder.receive_data(data)
        now = monotonic()
        self._silence = 0.0 if decoder.has_event else self._silence + now - self._wait_start
        self._wait_start = now

    def _lost(self, error: APIConnectionError) -> None:
        assert self._opened is not None
        failure = self._opened.decoder.connection_lost(error)
        if failure is not None:
            failure.exchange = self._opened.exchange
            raise failure from None

    # --- the end ---

    def _ended_early(self) -> StreamError:
        if self._state is State.FAILED:
            error = StreamError(
                f"The stream has failed, so there is nothing more to read: {self._failure}"
            )
        else:
            error = StreamError(
                "The stream was closed before its end, so there is nothing more to read."
            )
        if self._opened is not None:
            error.partial = self._opened.decoder.response()
            error.exchange = self._opened.exchange
        return error

    def _end(self, state: State) -> None:
        if self._state in (State.NEW, State.OPEN):
            self._state = state
            self._next_plain = _no_chunk
            if self._opened is not None:
                self._opened.finish()
                self._opened.receiver.close_soon(grace=_GRACE if state is State.DONE else 0.0)
            else:
                self._opening.give_up()

    def _lines(self, event: Event) -> Iterator[str]:
        # The event is decoded first, so that it counts even if the caller stops at one of its
        # lines. An error is raised after the line that reports it.
        assert self._opened is not None
        failure = None
        try:
            self._opened.decoder.decode(event)
        except AIStatsError as error:
            failure = error
            self._failure = error.message
            self._end(State.FAILED)
        for line in event.lines():
            yield line.decode("utf-8", "replace")
        if failure is not None:
            raise failure

    def _whole(self) -> ChatCompletionsResponse:
        assert self._opened is not None
        return self._opened.decoder.response()


def _no_chunk() -> None:
    return None


def ready_chunks(decoder: StreamDecoder) -> int | Need | None:
    """
    Take all chunks that have arrived, and return their number.
    """
    count = 0
    while isinstance(chunk := decoder.next_chunk(), ChatCompletionChunk):
        count += 1
    return count or chunk
