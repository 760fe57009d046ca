"""
The asynchronous client.
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
from ._stream import AsyncStream
from ._timeout import Timeout

if TYPE_CHECKING:
    import ssl

    import aiohttp

    from ._limits import Limits
    from ._map import AsyncRun
    from ._outcome import Progress
    from ._params import ChatCompletionsParams
    from ._rows import Budget

from typing import Self, Unpack

__all__ = ("AsyncClient",)


class AsyncClient:
    """
    Talks to the gateway from asynchronous code.

    It needs no running loop to be made, and can be used in one event loop after another. Use it
    with `async with`, or close it with `aclose()`; one that is dropped, or whose loop ends, closes
    its connections, too.

    Args:
        api_key: The gateway's key; by default the environment's `AI_STATS_API_KEY`.
        base_url: Where the gateway is; by default the environment's `AI_STATS_BASE_URL`, else
            `https://api.phaseo.app/v1`.
        timeout: The limits of a call: a `Timeout`, a number of seconds for the whole of it, or
            `None` for none.
        max_retries: How often a failed call is tried again at the most, or a `RetryPolicy`.
        max_connections: How many connections are open at the most, in each event loop; calls beyond
            that queue.
        default_headers: Headers for each request, on top of the client's own.
        ssl_context: What certificates are trusted; by default what the system or `SSL_CERT_FILE`
            says.
        session: Your own `aiohttp.ClientSession`, which the client uses and does not close. It has
            to be used in the event loop that it was made in, and has its own limit of connections
            and its own proxies.
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
    async def generate_text(
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
    async def generate_text(
        self,
        request: ChatCompletionsRequest | ChatCompletionsParams | None = None,
        /,
        *,
        only_a_dict_can_give_this: object,
        **options: object,
    ) -> ChatCompletionsResponse: ...

    async def generate_text(
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
        Ask for an answer, and wait for the whole of it.

        Args:
            request: The parameters as a dict, or a `ChatCompletionsRequest`.
            timeout: The limits of this call, in place of the client's.
            max_retries: How often it is tried again at the most, or a `RetryPolicy`, in place of
                the client's.
            extra_headers: Headers on top of the client's; they win.
            extra_query: Added to the URL.
            extra_body: Put into the request's JSON as it is, unchecked: for what is new at the
                gateway.
            params: The parameters as keywords; they win over *request*.

        Raises:
            RequestValidationError: The request is wrong, and nothing was sent.
            ConfigurationError: The client has been closed.
            APIConnectionError: No answer came.
            APITimeoutError: A limit ran out.
            APIStatusError: The gateway answered with an error; see its subclasses.
            APIResponseError: The answer is not what the contract says.
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
        return await call.whole()

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
    ) -> AsyncStream: ...

    @overload
    def stream_text(
        self,
        request: ChatCompletionsRequest | ChatCompletionsParams | None = None,
        /,
        *,
        only_a_dict_can_give_this: object,
        **options: object,
    ) -> AsyncStream: ...

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
    ) -> AsyncStream:
        """
        Ask for an answer as a stream of chunks. The request goes out when the stream is first used.

        Args:
            request: The parameters as a dict, or a `ChatCompletionsRequest`.
            timeout: The limits of this call, in place of the client's.
            max_retries: How often it is tried again before its first chunk, or a `RetryPolicy`.
            extra_headers: Headers on top of the client's; they win.
            extra_query: Added to the URL.
            extra_body: Put into the request's JSON as it is, unchecked: for what is new at the
                gateway.
            params: The parameters as keywords; they win over *request*.

        Raises:
            RequestValidationError: The request is wrong, and nothing was sent.
            ConfigurationError: The client has been closed.
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
        return AsyncStream(call.open)

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
    ) -> AsyncRun:
        """
        Ask for an answer to each row, many at once, and lose none.

        Nothing is asked for before the run that this returns is awaited or iterated. What goes
        wrong with a row is in its outcome, and the others go on. The first request goes alone; if
        it is refused (400, 401, 402, 403, 404), no more are sent, and an error of the key, the
        credit or the quota ends the run at any time, with everything that is done kept
        (`run.stopped` says why it ended). What was too fast for the gateway is put back until its
        `Timeout.total` is over, and counts as no retry.

        Args:
            rows: A list, a generator, an async iterator, a column or a data frame (whose rows are
                dicts). It is pulled from as there is room, and is never read as a whole. A row
                that is a string is a prompt, a list is messages, a dict with `messages` or a
                `ChatCompletionsRequest` is a request.
            prompt: What to ask for a row: a function that returns a prompt or messages.
            request: In its place, a function that returns the whole request of a row.
            key: The name of a row's request in the checkpoint; by default a hash of what is sent.
            concurrency: How many requests are under way at once, at the most `max_connections`;
                `"auto"` finds how many the gateway takes. At a number, a request that was turned
                away without a `Retry-After` keeps its place and waits for up to the policy's `base`
                before it is sent again.
            rpm: The most requests a minute.
            tpm: The most tokens a minute, prompts and answers.
            budget: What the run may use up.
            checkpoint: A file that each answer is noted in. The same call with the same file skips
                what is done, tries failures again, and goes on. Requests are the same if their
                bodies are; *extra_headers*, *extra_query* and the gateway's address do not count.
            dedup: Whether rows with the same request share one call, where they are near to each
                other or the first is noted in the checkpoint.
            progress: `True` shows the progress in a notebook or on a terminal, and nothing
                elsewhere; a function is given `Progress` snapshots, about 10 a second.
            on_error: `"raise"` ends the run with the first error, and raises it.
            stop_after: So many failures end the run; below 1, such a share of what is done, after
                20 rows.
            timeout: The limits of each call, in place of the client's.
            max_retries: How often a call is tried again at the most, or a `RetryPolicy`, in place
                of the client's.
            extra_headers: Headers on top of the client's; they win.
            extra_query: Added to the URL.
            extra_body: Put into each request's JSON as it is, unchecked.
            params: Parameters of each request, as keywords; a row's own win.

        Raises:
            RequestValidationError: The parameters of each request are wrong.
            ConfigurationError: Another argument is, or the client has been closed.
        """
        from ._map import AsyncRun  # only with those who need it
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
        return AsyncRun(plan, rows)

    async def aclose(self) -> None:
        """
        Close the client and its connections. A second time does nothing.
        """
        self._gateway.is_closed = True
        await self._gateway.transport.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()
