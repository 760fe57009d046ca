"""
The stream objects: they pull bytes, hand out chunks, and know how they ended.

Both calling styles share everything but how a step is run: `_AnyStream._pull` says what is to be
awaited, and `AsyncStream` awaits it, `Stream` has it run on the background loop. The decoder lives
here, on the caller's side, so what crosses threads is bytes: everything that is ready, in one hop.
"""

from __future__ import annotations

import contextlib
import enum
import functools
import threading
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Generator, Iterator
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol, Self, TypeVar

import attrs

from .._clock import monotonic
from .._errors import AIStatsError, APIConnectionError, StreamError, as_html
from .._exchange import Attempt, Exchange, Headers, Timing
from .._styles import wrong_style
from .._views.completion import ChatCompletionChunk, ChatCompletionsResponse, as_shown
from .._wire.decoder import NEED_DATA, Need, StreamDecoder
from .._wire.sse import Event

__all__ = ("AsyncStream", "OpenedStream", "Opening", "Receiver", "Run", "Stream")

if TYPE_CHECKING:
    from .._show.progress import LiveHTML

T = TypeVar("T")
OpenStream = Callable[["Opening"], "Coroutine[Any, Any, OpenedStream | None]"]
Step = Callable[[], Coroutine[Any, Any, Any]]
Steps = Generator[Step, Any, T]
Take = Callable[[StreamDecoder], T | Need | None]

# After [DONE] the body has to end, too, for its connection to be kept. Mostly its end is on the
# way.
_GRACE = 0.25


class Receiver(Protocol):
    """
    Where a stream's bytes come from.
    """

    async def receive(self, *, silence: float = 0.0) -> bytes:
        """
        All bytes that are ready; `b""` at the end. *silence* counts for the limit.
        """
        ...

    def close_soon(self, *, grace: float = 0.0) -> None:
        """
        Let go of the connection, from any thread.
        """
        ...


class Run(Protocol):
    """
    Runs a coroutine function on the background loop, and waits for its result.
    """

    def __call__(self, step: Callable[[], Coroutine[Any, Any, T]], /) -> T:
        """
        Run *step* there.
        """
        ...


class Opening:
    """
    A stream that is being opened, and may be given up meanwhile.
    """

    __slots__ = ("break_off", "is_given_up")

    def __init__(self) -> None:
        self.is_given_up = False
        self.break_off: Callable[[], None] = _nothing
        """What interrupts it, from any thread."""

    def give_up(self) -> None:
        """
        Nobody wants it any more; from any thread.
        """
        self.is_given_up = True
        self.break_off()


@attrs.define(eq=False, repr=False)
class OpenedStream:
    """
    A stream whose answer has begun: where its bytes come from, and its decoder, which has the first
    ones.
    """

    receiver: Receiver
    decoder: StreamDecoder
    exchange: Exchange
    finish: Callable[[], None]
    """To be called once when the stream has ended, however it did."""


class _State(enum.Enum):
    NEW = "new"
    OPEN = "open"
    DONE = "done"
    FAILED = "failed"
    CLOSED = "closed"


class _AnyStream:
    """
    What both streams have in common: all but the waiting.
    """

    def __init__(self, open_stream: OpenStream) -> None:
        self._open_stream = open_stream
        self._opening = Opening()
        self._opened: OpenedStream | None = None
        self._state = _State.NEW
        self._failure = ""
        # Held by the one who reads.
        self._reader = threading.Lock()
        # For how many seconds no event has come, and since when that has not been counted: how long
        # the caller takes for a comment that it sees is no silence.
        self._silence = 0.0
        self._uncounted_since = 0.0
        # The short cut for chunks, while the stream is open and nobody waits for bytes.
        self._next_plain: Callable[[], ChatCompletionChunk | None] = _nothing

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

    def _html(self, how_to_show: str = "") -> str:
        from .._show.cards import stream_html

        response = self._opened.decoder.response() if self._opened else None
        answer = as_shown(response) if response is not None else None
        return stream_html(answer, self._state.value, self._failure, how_to_show)

    @contextlib.contextmanager
    def _live(self) -> Generator[LiveHTML, None, None]:
        from .._show.progress import LiveHTML

        live = LiveHTML(lambda: (self._html(), repr(self)))
        try:
            live.show()
            yield live
        except AIStatsError as error:
            live.put(as_html(error), repr(error))
            raise
        except BaseException:
            self._end(_State.CLOSED)  # interrupted between two reads, if it has not ended
            live.show()
            raise

    @property
    def _exchange(self) -> Exchange:
        return self._opened.exchange if self._opened else Exchange()

    def _pull(self, take: Take[T]) -> Steps[T | None]:
        # The next of what *take* takes from the decoder. Yields what is to be awaited, and is sent
        # its result.
        if not self._reader.acquire(blocking=False):
            raise StreamError("The stream is being read already; only one reader at a time can.")
        self._next_plain = _nothing
        self._uncounted_since = monotonic()
        try:
            if self._opened is None and self._state is _State.NEW:
                self._opened = yield functools.partial(self._open_stream, self._opening)
                if self._opened is None:
                    pass  # closed meanwhile, from elsewhere
                elif self._state is _State.NEW:
                    self._state = _State.OPEN
                else:
                    self._opened.finish()
                    self._opened.receiver.close_soon()
            while (taken := self._take(take)) is NEED_DATA:
                yield from self._receive()
            if self._opened is not None and self._state is _State.OPEN:
                self._next_plain = self._opened.decoder.next_plain
            return taken
        except AIStatsError as error:
            if self._state is _State.CLOSED:
                # From elsewhere, and that broke off what was waited for.
                raise self._ended_early() from None
            self._failure = error.message
            if self._opened is not None and error.partial is None:
                error.partial = self._opened.decoder.response()
                error.exchange = self._opened.exchange
            self._end(_State.FAILED)
            raise
        except BaseException:
            # The read was interrupted: what is left of the answer is of no use to anybody.
            self._end(_State.CLOSED)
            raise
        finally:
            self._reader.release()

    def _take(self, take: Take[T]) -> T | Need | None:
        if self._opened is None or self._state in (_State.FAILED, _State.CLOSED):
            raise self._ended_early()
        taken = take(self._opened.decoder)
        if taken is None:
            self._end(_State.DONE)
        return taken

    def _receive(self) -> Steps[None]:
        assert self._opened is not None
        receiver, decoder = self._opened.receiver, self._opened.decoder
        try:
            data: bytes = yield functools.partial(receiver.receive, silence=self._silence)
        except APIConnectionError as error:
            failure = decoder.connection_lost(error)
            if failure is not None:
                failure.exchange = self._opened.exchange
                raise failure from None
        else:
            decoder.receive_data(data)
            now = monotonic()
            self._silence = (
                0.0 if decoder.has_event else self._silence + now - self._uncounted_since
            )
            self._uncounted_since = now

    def _ended_early(self) -> StreamError:
        if self._state is _State.FAILED:
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

    def _end(self, state: _State) -> None:
        if self._state in (_State.NEW, _State.OPEN):
            self._state = state
            self._next_plain = _nothing
            if self._opened is not None:
                self._opened.finish()
                self._opened.receiver.close_soon(grace=_GRACE if state is _State.DONE else 0.0)
            else:
                self._opening.give_up()

    def _lines(self, event: Event) -> Iterator[str]:
        # Decoded first, so that the event counts even if the caller stops at one of its lines; an
        # error comes after the line that says so.
        assert self._opened is not None
        failure = None
        try:
            self._opened.decoder.decode(event)
        except AIStatsError as error:
            failure = error
            self._failure = error.message
            self._end(_State.FAILED)
        for line in event.lines():
            yield line.decode("utf-8", "replace")
        if failure is not None:
            raise failure

    def _whole(self) -> ChatCompletionsResponse:
        assert self._opened is not None
        return self._opened.decoder.response()


def _nothing() -> None:
    return None


def _ready_chunks(decoder: StreamDecoder) -> int | Need | None:
    # Takes all chunks that have arrived, and counts them.
    count = 0
    while isinstance(chunk := decoder.next_chunk(), ChatCompletionChunk):
        count += 1
    return count or chunk


class AsyncStream(_AnyStream):
    """
    The chunks of one answer, as they come.

    The request goes out on first use. Leaving `async with` closes the connection, whatever
    happened; a stream that is dropped closes it, too. One reader at a time.

    Reading raises `StreamInterruptedError` where the answer ends before it is complete,
    `StreamErrorEvent` where the gateway reports an error in it, `APITimeoutError` where a limit ran
    out, and before the first chunk what `AsyncClient.generate_text` raises. What had arrived is in
    the error's `partial`.
    """

    _how_to_show = "await stream.show()"

    if not TYPE_CHECKING:
        __iter__ = wrong_style("AsyncStream is read with `async for`; for plain `for` use Client")
        __enter__ = __exit__ = wrong_style(
            "AsyncStream needs `async with`; for plain `with` use Client"
        )

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> ChatCompletionChunk:
        chunk = self._next_plain() or await self._next(StreamDecoder.next_chunk)
        if chunk is None:
            raise StopAsyncIteration
        return chunk

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()

    async def lines(self) -> AsyncIterator[str]:
        """
        Every line of the event stream as it came, `data: [DONE]` and comments included, blank ones
        left out.
        """
        while (event := await self._next(StreamDecoder.next_event)) is not None:
            for line in self._lines(event):
                yield line

    async def text_deltas(self) -> AsyncIterator[str]:
        """
        The new text alone, of the choice that the final response's `text` shows; never empty, never
        twice.
        """
        async for chunk in self:
            if chunk.text:
                yield chunk.text

    async def final_response(self) -> ChatCompletionsResponse:
        """
        Read the rest, and return the whole as one response: text, tool calls, reasoning, usage and
        all.
        """
        while await self._next(StreamDecoder.next_chunk) is not None:
            pass
        return self._whole()

    async def show(self) -> None:
        """
        Read the rest, and show it as it comes: in a notebook's cell the whole so far, anew at most
        20 times a second; elsewhere the new text is printed.

        `final_response()` returns it afterwards.
        """
        from .._show.progress import awake, in_notebook

        if in_notebook():
            import asyncio  # it has long been loaded by whoever runs this

            with self._live() as live, awake():
                is_open = True
                while is_open:
                    is_open = await self._next(_ready_chunks) is not None
                    await asyncio.sleep(live.wait())
                    live.show()
            return
        async for text in self.text_deltas():
            print(text, end="", flush=True)
        print(flush=True)

    async def aclose(self) -> None:
        """
        Close the connection. To read on afterwards is an error, unless the stream had ended.
        """
        self._end(_State.CLOSED)

    async def _next(self, take: Take[T]) -> T | None:
        steps = self._pull(take)
        try:
            step = next(steps)
            while True:
                try:
                    result = await step()
                except BaseException as error:
                    step = steps.throw(error)
                else:
                    step = steps.send(result)
        except StopIteration as stop:
            taken: T | None = stop.value
            return taken


class Stream(_AnyStream):
    """
    The chunks of one answer, as they come.

    The request goes out on first use. Leaving `with` closes the connection, whatever happened; a
    stream that is dropped closes it, too. One reader at a time.

    Reading raises `StreamInterruptedError` where the answer ends before it is complete,
    `StreamErrorEvent` where the gateway reports an error in it, `APITimeoutError` where a limit ran
    out, and before the first chunk what `Client.generate_text` raises. What had arrived is in the
    error's `partial`.
    """

    def __init__(self, open_stream: OpenStream, run: Run) -> None:
        super().__init__(open_stream)
        self._run = run

    if not TYPE_CHECKING:
        # There is no `__aiter__`: frameworks would take the stream for an asynchronous one.
        __aenter__ = __aexit__ = wrong_style(
            "Stream needs plain `with`; for `async with` use AsyncClient"
        )

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> ChatCompletionChunk:
        chunk = None
        if self._reader.acquire(blocking=False):
            try:
                chunk = self._next_plain()
            finally:
                self._reader.release()
        chunk = chunk or self._next(StreamDecoder.next_chunk)
        if chunk is None:
            raise StopIteration
        return chunk

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def lines(self) -> Iterator[str]:
        """
        Every line of the event stream as it came, `data: [DONE]` and comments included, blank ones
        left out.
        """
        while (event := self._next(StreamDecoder.next_event)) is not None:
            yield from self._lines(event)

    def text_deltas(self) -> Iterator[str]:
        """
        The new text alone, of the choice that the final response's `text` shows; never empty, never
        twice.
        """
        return (chunk.text for chunk in self if chunk.text)

    def final_response(self) -> ChatCompletionsResponse:
        """
        Read the rest, and return the whole as one response: text, tool calls, reasoning, usage and
        all.
        """
        while self._next(StreamDecoder.next_chunk) is not None:
            pass
        return self._whole()

    def show(self) -> None:
        """
        Read the rest, and show it as it comes: in a notebook's cell the whole so far, anew at most
        20 times a second; elsewhere the new text is printed. A stream that is a cell's last value
        is shown so.

        `final_response()` returns it afterwards.
        """
        from .._show.progress import in_notebook

        if in_notebook():
            with self._live() as live:
                is_open = True
                while is_open:
                    is_open = self._next(_ready_chunks) is not None
                    time.sleep(live.wait())
                    live.show()
            return
        for text in self.text_deltas():
            print(text, end="", flush=True)
        print(flush=True)

    def _ipython_display_(self) -> None:
        from .._show.progress import in_notebook

        if not in_notebook() or self._state not in (_State.NEW, _State.OPEN):
            raise NotImplementedError  # so IPython asks the other methods
        # The cell shows the error, too. From here IPython would show its own insides with it.
        with contextlib.suppress(AIStatsError):
            self.show()

    def close(self) -> None:
        """
        Close the connection. To read on afterwards is an error, unless the stream had ended.
        """
        self._end(_State.CLOSED)

    def _next(self, take: Take[T]) -> T | None:
        steps = self._pull(take)
        try:
            step = next(steps)
            while True:
                try:
                    result = self._run(step)
                except BaseException as error:
                    step = steps.throw(error)
                else:
                    step = steps.send(result)
        except StopIteration as stop:
            taken: T | None = stop.value
            return taken
