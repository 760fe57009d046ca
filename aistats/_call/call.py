"""
One call: an operation, the bytes of its request, and its options.

A `Call` works for both clients: `AsyncClient` awaits it, and `Client` awaits it on the background
loop.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Generic, TypeVar
from urllib.parse import urlencode

import attrs

from .._clock import monotonic
from .._errors import (
    AIStatsError,
    APIConnectionError,
    APIResponseError,
    StreamError,
    out_of_time,
)
from .._exchange import SentRequest, redact
from .._options import RetryPolicy, Timeout
from .._wire.answer import choices_of
from .._wire.body_kind import is_event_stream, to_utf8
from .._wire.decoder import StreamDecoder
from .._wire.operation import Operation
from .._wire.status_error import status_error_from
from .attempts import Attempts, CurrentAttempt
from .credentials import ApiKey
from .gateway import Gateway
from .headers import merged_headers
from .opening import OpenedStream, Opening
from .retry import retry_after

if TYPE_CHECKING:
    from .._net.response import Response

__all__ = ("Call",)

T = TypeVar("T")

_MAX_ERROR_BYTES = 1024 * 1024
_LONGEST_START = 64 * 1024  # blank bytes before a body, at most
_MAX_COMMENTS = 10_000  # before a stream's first event


@attrs.define(eq=False, repr=False)
class Call(Generic[T]):
    """
    One call, ready to be made.
    """

    operation: Operation[T]
    gateway: Gateway
    body: bytes
    headers: Mapping[str, str | None]
    query: Mapping[str, str]
    timeout: Timeout
    policy: RetryPolicy
    is_fixed: bool = False
    """Whether the caller limits how many requests are in flight, and not the client."""

    def with_body(self, body: bytes) -> Call[T]:
        """
        Return the same call with another request.
        """
        # attrs.evolve takes five times as long, and each row of a run needs one.
        return Call(
            self.operation,
            self.gateway,
            body,
            self.headers,
            self.query,
            self.timeout,
            self.policy,
            self.is_fixed,
        )

    async def whole(self) -> T:
        """
        Make the call, and return the whole answer.
        """
        return await self._attempts().make(self._whole_once)

    async def open(self, opening: Opening) -> OpenedStream | None:
        """
        Make the call, and return the stream when its first event has arrived; `None` if *opening*
        was given up before.
        """
        with self.gateway.transport.interruption() as interruption:
            opening.break_off = interruption.soon
            if opening.is_given_up:
                return None
            return await self._attempts().make(self._open_once)
        return None

    def _attempts(self) -> Attempts:
        return Attempts(self.gateway, self.timeout, self.policy, self.is_fixed, self._sent_request)

    async def _whole_once(self, current: CurrentAttempt) -> T:
        body = await self._read_whole(await self._send(current))
        current.take_time()
        return self._read(current, body)

    def _read(self, current: CurrentAttempt, body: bytes) -> T:
        # A server that echoes the request echoes the key. An error must not show it. An answer is
        # not changed.
        read = self.operation.read
        try:
            return read(body, current.exchange, self.body)
        except AIStatsError:
            if (masked := current.masked(body)) == body:
                raise
        return read(masked, current.exchange, self.body)

    async def _open_once(self, current: CurrentAttempt) -> OpenedStream:
        response = await self._send(current)
        decoder = StreamDecoder(
            current.exchange,
            longest_event=self.gateway.max_response_bytes,
            choices=choices_of(self.body),
            masked=current.masked,
        )
        try:
            start, is_stream = await _start_of(response)
            if is_stream:
                limit = self.gateway.max_response_bytes
                await _receive_first_event(response, decoder, start, limit)
                decoder.check_first_event()
            else:
                # JSON instead of a stream is a whole completion or an error.
                body = await self._read_whole(response, start)
                self._read(current, body)  # raises an error unless it is a completion
                decoder.receive_whole(body)
        except APIConnectionError:
            # A stream without an event has no answer, so it can be retried.
            current.trace.first_byte = None
            raise
        except BaseException:
            response.close()  # otherwise, the traceback of a stored error would keep the connection
            raise
        finally:
            current.take_time()

        def finish() -> None:
            # Not earlier, because it would delay the first chunk.
            current.exchange.request = self._sent_request()
            current.take_time()

        return OpenedStream(response, decoder, current.exchange, finish)

    async def _send(self, current: CurrentAttempt) -> Response:
        self.gateway.check_open()
        key = current.api_key = self.gateway.fixed_key or await self._ask_key(current)
        exchange = current.exchange
        response = await self.gateway.transport.send(
            self.operation.method,
            self.operation.path,
            self.body,
            self.gateway.headers_to_send(key, self.headers),
            self.query,
            self.timeout,
            current.time_left,
            current.trace,
        )
        exchange.status = response.status
        exchange.raw_headers = response.raw_headers
        if 200 <= response.status < 300:
            return response
        try:
            body, _ = await response.read(_MAX_ERROR_BYTES)
        except (APIConnectionError, APIResponseError):
            body = b""  # the status is enough
        exchange.request = self._sent_request()
        wait = retry_after(exchange.headers, datetime.now(UTC))
        raise status_error_from(current.masked(body), exchange, wait)

    async def _ask_key(self, current: CurrentAttempt) -> ApiKey:
        try:
            return await self.gateway.transport.wait(self.gateway.ask_key, current.time_left)
        except TimeoutError:
            host, phase = self.gateway.transport.host, "the function given as api_key was running"
            raise out_of_time("total", self.timeout.total, host, phase) from None

    async def _read_whole(self, response: Response, start: bytes = b"") -> bytes:
        limit = self.gateway.max_response_bytes
        body, is_all = await response.read(limit, start)
        if not is_all:
            raise APIResponseError(
                f"The answer is longer than {limit} bytes and was given up. "
                "Raise max_response_bytes, if that is right."
            )
        return to_utf8(body, response.charset)

    def _sent_request(self) -> SentRequest:
        own = {"Authorization": "***"}
        headers = merged_headers(own, self.gateway.public_headers, self.headers)
        query = f"?{urlencode(self.query)}" if self.query else ""
        url = f"{self.gateway.base_url}/{self.operation.path}{query}"
        return SentRequest(self.operation.method, url, redact(headers), self.body)


async def _start_of(response: Response) -> tuple[bytes, bool]:
    # Return the first bytes of the body, and whether it is an event stream.
    start, begin = b"", monotonic()
    while True:
        data = await response.receive(silence=monotonic() - begin if start else 0.0)
        start += data
        is_stream = is_event_stream(start, response.content_type)
        if is_stream is not None:
            return start, is_stream
        if not data or len(start) > _LONGEST_START:
            return start, response.content_type == "text/event-stream"


async def _receive_first_event(
    response: Response, decoder: StreamDecoder, start: bytes, limit: int
) -> None:
    received, begin, data = 0, monotonic(), start
    while True:
        decoder.receive_data(data)
        if decoder.has_event:
            return
        if not data:
            raise APIConnectionError(
                f"The stream ended before any of the answer came ({response.host}); ask again."
            )
        received += len(data)
        if received > limit or decoder.waiting > _MAX_COMMENTS:
            raise StreamError(
                f"There are only comments in the first {received} bytes of the stream; it was "
                "given up. Check that base_url leads to the gateway's API."
            )
        data = await response.receive(silence=monotonic() - begin)
