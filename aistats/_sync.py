"""
The synchronous client: `AsyncClient` seen through a background event loop. There is no logic of
calls here.
"""

from __future__ import annotations

import functools
import os
from collections.abc import AsyncIterable, Callable, Iterable, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, overload

from ._gateway import MAX_RESPONSE_BYTES, NOT_GIVEN, Gateway, NotGiven
from ._models import ChatCompletionsResponse
from ._request import ChatCompletionsRequest
from ._retry import RetryPolicy
from ._stream import Stream
from ._timeout import Timeout

if TYPE_CHECKING:
    import ssl

    import aiohttp

    from ._limits import Limits
    from ._map import Run
    from ._outcome import Progress
    from ._params import ChatCompletionsParams
    from ._rows import Budget

from typing import Self, Unpack

__all__ = ("Client",)


class Client:
    """
    Talks to the gateway from synchronous code.

    The same as `AsyncClient`, on an event loop in a background thread, which starts with the first
    call. It works where an event loop runs already, as in a notebook, and from many threads at
    once. Use it with `with`, or close it with `close()`; one that is dropped or never closed ends
    by itself. After `os.fork()` the child's first call starts anew. A service that is asynchronous
    itself should use `AsyncClient`.

    Args:
        api_key: The gateway's key; by default the environment's `AI_STATS_API_KEY`.
        base_url: Where the gateway is; by default the environment's `AI_STATS_BASE_URL`, else
            `https://api.phaseo.app/v1`.
        timeout: The limits of a call: a `Timeout`, a number of seconds for the whole of it, or
            `None` for none.
        max_retries: How often a failed call is tried again at the most, or a `RetryPolicy`.
        max_connections: How many connections are open at the most; calls beyond that queue.
        default_headers: Headers for each request, on top of the client's own.
        ssl_context: What certificates are trusted; by default what the system or `SSL_CERT_FILE`
            says.
        session: Your own `aiohttp.ClientSession`, which the client uses and does not close. It
            belongs to the loop it was made in, so one that was not made in this client's loop
            raises `ConfigurationError` when it is used.
        max_response_bytes: The longest answer, or event of a stream, that is read, in bytes.

    Raises:
        ConfigurationError: There is no key, or a value can't be used.
    """

    def __init__(
        self,
        api_key: str | None = None,
        base_url: str | None = None,
        *,
        timeout: Timeout | float | NotGiven | None = NOT_GIVEN,
        max_retries: int | RetryPolicy = 2,
        max_connections: int = 100,
        default_headers: Mapping[str, str] | None = None,
        ssl_context: ssl.SSLContext | None = None,
        session: aiohttp.ClientSession | None = None,
        max_response_bytes: int = MAX_RESPONSE_BYTES,
    ) -> None:
        # With the first client: it takes long to load, as what `Gateway` loads.
        from ._loop import LoopThread

        key, api_key = [api_key], None  # so that no traceback shows it
        self._gateway = Gateway(
            key.pop(),
            base_url,
            timeout=timeout,
            max_retries=max_retries,
            max_connections=max_connections,
            default_headers=default_headers,
            ssl_context=ssl_context,
            session=session,
            max_response_bytes=max_response_bytes,
        )
        self._loop = LoopThread(self._gateway.transport)

    def __repr__(self) -> str:
        # A traceback with locals may show a client whose making has failed.
        where = self.base_url if hasattr(self, "_gateway") else "not made"
        return f"<{type(self).__name__}: {where}>"

    def __reduce__(self) -> tuple[Any, ...]:
        # It pickles by its settings, the key among them, so that a pool of processes can use it.
        return functools.partial(type(self), **self._gateway.settings()), ()

    @property
    def base_url(self) -> str:
        """
        Where the gateway is, without a slash at the end.
        """
        return self._gateway.base_url

    @property
    def limits(self) -> Limits:
        """
        How many requests may be under way at once, as the gateway's answers have taught.
        """
        return self._gateway.limits

    @property
    def is_closed(self) -> bool:
        """
        Whether the client has been closed.
        """
        return self._gateway.is_closed

    @overload
    def generate_text(
        self,
        request: ChatCompletionsRequest | ChatCompletionsParams | None = None,
        /,
        *,
        timeout: Timeout | float | NotGiven | None = ...,
        max_retries: int | RetryPolicy | None = ...,
        extra_headers: Mapping[str, str] | None = ...,
        extra_query: Mapping[str, str] | None = ...,
        extra_body: Mapping[str, Any] | None = ...,
        **params: Unpack[ChatCompletionsParams],
    ) -> ChatCompletionsResponse: ...

    @overload
    def generate_text(
        self,
        request: ChatCompletionsRequest | ChatCompletionsParams | None = None,
        /,
        *,
        only_a_dict_can_give_this: object,
        **options: object,
    ) -> ChatCompletionsResponse: ...

    def generate_text(
        self,
        request: Any = None,
        /,
        *,
        timeout: Any = NOT_GIVEN,
        max_retries: Any = None,
        extra_headers: Any = None,
        extra_query: Any = None,
        extra_body: Any = None,
        **params: Any,
    ) -> ChatCompletionsResponse:
        """
        Ask for an answer, and wait for the whole of it. See `AsyncClient.generate_text`.
        """
        call = self._gateway.call(
            request,
            params,
            is_stream=False,
            timeout=timeout,
            max_retries=max_retries,
            extra_headers=extra_headers,
            extra_query=extra_query,
            extra_body=extra_body,
        )
        return self._loop.run(call.whole)

    @overload
    def stream_text(
        self,
        request: ChatCompletionsRequest | ChatCompletionsParams | None = None,
        /,
        *,
        timeout: Timeout | float | NotGiven | None = ...,
        max_retries: int | RetryPolicy | None = ...,
        extra_headers: Mapping[str, str] | None = ...,
        extra_query: Mapping[str, str] | None = ...,
        extra_body: Mapping[str, Any] | None = ...,
        **params: Unpack[ChatCompletionsParams],
    ) -> Stream: ...

    @overload
    def stream_text(
        self,
        request: ChatCompletionsRequest | ChatCompletionsParams | None = None,
        /,
        *,
        only_a_dict_can_give_this: object,
        **options: object,
    ) -> Stream: ...

    def stream_text(
        self,
        request: Any = None,
        /,
        *,
        timeout: Any = NOT_GIVEN,
        max_retries: Any = None,
        extra_headers: Any = None,
        extra_query: Any = None,
        extra_body: Any = None,
        **params: Any,
    ) -> Stream:
        """
        Ask for an answer as a stream of chunks. See `AsyncClient.stream_text`.
        """
        call = self._gateway.call(
            request,
            params,
            is_stream=True,
            timeout=timeout,
            max_retries=max_retries,
            extra_headers=extra_headers,
            extra_query=extra_query,
            extra_body=extra_body,
        )
        return Stream(call.open, self._loop.run)

    def map(
        self,
        rows: Iterable[Any] | AsyncIterable[Any],
        /,
        *,
        prompt: Callable[[Any], Any] | None = None,
        request: Callable[[Any], Any] | None = None,
        key: Callable[[Any], str] | None = None,
        concurrency: int | Literal["auto"] = "auto",
        rpm: float | None = None,
        tpm: float | None = None,
        budget: Budget | None = None,
        checkpoint: str | os.PathLike[str] | None = None,
        dedup: bool = True,
        progress: bool | Callable[[Progress], object] | None = None,
        on_error: Literal["collect", "raise"] = "collect",
        stop_after: float | None = None,
        timeout: Timeout | float | NotGiven | None = NOT_GIVEN,
        max_retries: int | RetryPolicy | None = None,
        extra_headers: Mapping[str, str] | None = None,
        extra_query: Mapping[str, str] | None = None,
        extra_body: Mapping[str, Any] | None = None,
        **params: Unpack[ChatCompletionsParams],
    ) -> Run:
        """
        Ask for an answer to each row, many at once, and lose none. See `AsyncClient.map`.
        """
        from ._map import Run  # only with those who need it
        from ._rows import Plan

        plan = Plan.of(
            self._gateway,
            params,
            prompt=prompt,
            request=request,
            key=key,
            concurrency=concurrency,
            rpm=rpm,
            tpm=tpm,
            budget=budget,
            checkpoint=checkpoint,
            dedup=dedup,
            progress=progress,
            on_error=on_error,
            stop_after=stop_after,
            timeout=timeout,
            max_retries=max_retries,
            extra_headers=extra_headers,
            extra_query=extra_query,
            extra_body=extra_body,
        )
        return Run(plan, rows, self._loop.run)

    def close(self) -> None:
        """
        Close the client, its connections and its loop. What it is still doing ends with
        `ConfigurationError`.
        """
        self._gateway.is_closed = True
        self._loop.stop()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()
