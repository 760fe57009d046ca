"""
The streams that `stream_text` returns: one for `await`, one for plain code.

They differ in how they wait: `AsyncStream` awaits a read, `Stream` has it run on the background
loop.
"""

from __future__ import annotations

import contextlib
import functools
import time
from collections.abc import AsyncIterator, Iterator
from types import TracebackType
from typing import TYPE_CHECKING, Self, TypeVar

from .._errors import AIStatsError, APIConnectionError
from .._styles import stream_names, wrong_name, wrong_style
from .._views.completion import ChatCompletionChunk, ChatCompletionsResponse
from .._wire.decoder import NEED_DATA, StreamDecoder
from .opening import OpenStream, RunOnLoop
from .stream_state import AnyStream, State, Take, ready_chunks

__all__ = ("AsyncStream", "Stream")

T = TypeVar("T")


class AsyncStream(AnyStream):
    """
    Chunks of one answer as they arrive.

    The request is sent on first use: by `async with`, by `open()`, or by the first read. Leaving
    `async with` closes the connection, and so does dropping the stream. Only one task may read at a
    time.

    Reading raises `StreamInterruptedError` if the answer ends before it is complete,
    `StreamErrorEvent` if the gateway reports an error in it, and `APITimeoutError` if a time limit
    runs out. Before the first chunk it raises what `AsyncClient.generate_text` raises. The error's
    `partial` has what had arrived.
    """

    _how_to_show = "await stream.show()"

    if not TYPE_CHECKING:
        __getattr__ = wrong_name(stream_names(awaited=True))
        __await__ = wrong_style(
            "AsyncStream needs no `await`: write `async for chunk in client.stream_text(...)`, or "
            "`await stream.open()` to send the request at once"
        )
        __iter__ = wrong_style("AsyncStream is read with `async for`; for plain `for` use Client")
        __enter__ = __exit__ = wrong_style(
            "AsyncStream needs `async with`; for plain `with` use Client"
        )

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> ChatCompletionChunk:
        chunk = self._next_plain()
        if chunk is None:
            chunk = await self._next(StreamDecoder.next_chunk)
        if chunk is None:
            raise StopAsyncIteration
        return chunk

    async def open(self) -> Self:
        """
        Send the request, and return this stream when its first event has arrived. A stream that is
        open already is returned at once.

        Call it where an error has to be known before the first chunk is needed, such as in a web
        server before the response starts. `async with` does the same on the way in.

        Raises:
            APIConnectionError: No answer came.
            APITimeoutError: A time limit ran out.
            APIStatusError: The gateway answered with an error; see its subclasses.
            StreamError: The stream broke off, or it has failed or been closed before.
        """
        with self._reading():
            if self._must_open:
                self._has_opened(await self._open_stream(self._opening))
            self._check_readable()
        return self

    async def __aenter__(self) -> Self:
        return await self.open()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()

    async def lines(self) -> AsyncIterator[str]:
        """
        Yield every line of the event stream as it came, including `data: [DONE]` and comments, but
        not blank lines.
        """
        while (event := await self._next(StreamDecoder.next_event)) is not None:
            for line in self._lines(event):
                yield line

    async def text_deltas(self) -> AsyncIterator[str]:
        """
        Yield the new text of the choice that the final response's `text` shows. Texts are never
        empty and never repeated.
        """
        async for chunk in self:
            if chunk.text:
                yield chunk.text

    async def final_response(self) -> ChatCompletionsResponse:
        """
        Read the rest, and return everything as one response: text, tool calls, reasoning, usage.
        """
        async for _ in self:
            pass
        return self._whole()

    async def show(self) -> None:
        """
        Read the rest, and show it as it arrives. A notebook's cell shows the answer so far, updated
        at most 20 times a second. Elsewhere the new text is printed.

        `final_response()` returns the answer afterwards.
        """
        from .._show.progress import awake, in_notebook

        if in_notebook():
            import asyncio  # loaded long before, since a loop runs

            with self._live() as live, awake():
                is_open = True
                while is_open:
                    is_open = await self._next(ready_chunks) is not None
                    await asyncio.sleep(live.wait())
                    live.show()
            return
        try:
            async for text in self.text_deltas():
                print(text, end="", flush=True)
        finally:
            print(flush=True)

    async def aclose(self) -> None:
        """
        Close the connection. Reading afterwards is an error, unless the stream had ended.
        """
        self._end(State.CLOSED)

    async def _next(self, take: Take[T]) -> T | None:
        with self._reading():
            if self._must_open:
                self._has_opened(await self._open_stream(self._opening))
            while (taken := self._take(take)) is NEED_DATA:
                try:
                    data = await self._receiver.receive(silence=self._silence)
                except APIConnectionError as error:
                    self._lost(error)
                else:
                    self._received(data)
            return taken


class Stream(AnyStream):
    """
    Chunks of one answer as they arrive.

    The request is sent on first use: by `with`, by `open()`, or by the first read. Leaving `with`
    closes the connection, and so does dropping the stream. Only one thread may read at a time.

    Reading raises `StreamInterruptedError` if the answer ends before it is complete,
    `StreamErrorEvent` if the gateway reports an error in it, and `APITimeoutError` if a time limit
    runs out. Before the first chunk it raises what `Client.generate_text` raises. The error's
    `partial` has what had arrived.
    """

    def __init__(self, open_stream: OpenStream, run: RunOnLoop) -> None:
        super().__init__(open_stream)
        self._run = run

    if not TYPE_CHECKING:
        __getattr__ = wrong_name(stream_names(awaited=False))
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
        if chunk is None:
            chunk = self._next(StreamDecoder.next_chunk)
        if chunk is None:
            raise StopIteration
        return chunk

    def open(self) -> Self:
        """
        Send the request, and return this stream when its first event has arrived. A stream that is
        open already is returned at once.

        Call it where an error has to be known before the first chunk is needed, such as in a web
        server before the response starts. `with` does the same on the way in.

        Raises:
            APIConnectionError: No answer came.
            APITimeoutError: A time limit ran out.
            APIStatusError: The gateway answered with an error; see its subclasses.
            StreamError: The stream broke off, or it has failed or been closed before.
        """
        with self._reading():
            if self._must_open:
                self._has_opened(self._run(functools.partial(self._open_stream, self._opening)))
            self._check_readable()
        return self

    def __enter__(self) -> Self:
        return self.open()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def lines(self) -> Iterator[str]:
        """
        Yield every line of the event stream as it came, including `data: [DONE]` and comments, but
        not blank lines.
        """
        while (event := self._next(StreamDecoder.next_event)) is not None:
            yield from self._lines(event)

    def text_deltas(self) -> Iterator[str]:
        """
        Yield the new text of the choice that the final response's `text` shows. Texts are never
        empty and never repeated.
        """
        return (chunk.text for chunk in self if chunk.text)

    def final_response(self) -> ChatCompletionsResponse:
        """
        Read the rest, and return everything as one response: text, tool calls, reasoning, usage.
        """
        for _ in self:
            pass
        return self._whole()

    def show(self) -> None:
        """
        Read the rest, and show it as it arrives. A notebook's cell shows the answer so far, updated
        at most 20 times a second. Elsewhere the new text is printed. A notebook shows a stream that
        is a cell's last value in this way.

        `final_response()` returns the answer afterwards.
        """
        from .._show.progress import in_notebook

        if in_notebook():
            self._show_live(is_raised=True)
            return
        try:
            for text in self.text_deltas():
                print(text, end="", flush=True)
        finally:
            print(flush=True)

    def _show_live(self, *, is_raised: bool) -> None:
        with self._live(is_raised=is_raised) as live:
            is_open = True
            while is_open:
                is_open = self._next(ready_chunks) is not None
                time.sleep(live.wait())
                live.show()

    def _ipython_display_(self) -> None:
        from .._show.progress import in_notebook

        if not in_notebook() or self._state not in (State.NEW, State.OPEN):
            raise NotImplementedError  # IPython then asks the other methods
        # The cell shows the error already. IPython would add its own frames to it.
        with contextlib.suppress(AIStatsError):
            self._show_live(is_raised=False)

    def close(self) -> None:
        """
        Close the connection. Reading afterwards is an error, unless the stream had ended.
        """
        self._end(State.CLOSED)

    def _next(self, take: Take[T]) -> T | None:
        with self._reading():
            if self._must_open:
                self._has_opened(self._run(functools.partial(self._open_stream, self._opening)))
            while (taken := self._take(take)) is NEED_DATA:
                receive = functools.partial(self._receiver.receive, silence=self._silence)
                try:
                    data = self._run(receive)
                except APIConnectionError as error:
                    self._lost(error)
                else:
                    self._received(data)
            return taken
