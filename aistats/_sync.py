"""
The synchronous client. It runs the calls of `AsyncClient` on a background event loop.
"""

from __future__ import annotations

from collections.abc import AsyncIterable, Callable, Iterable, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any

from ._call.chat import chat_call
from ._call.credentials import KeySource, key_source
from ._call.gateway import Gateway
from ._call.settings import MAX_RESPONSE_BYTES, ClientOptions, ClientSettings
from ._call.stream import Stream
from ._options import CallOptions, RetryPolicy, RunOptions, Timeout
from ._request.keywords import ChatRequest, MapKeywords, TextKeywords, lists_keywords
from ._request.params.chat import ChatCompletionsParams
from ._styles import client_names, wrong_name, wrong_style
from ._views.completion import ChatCompletionsResponse

if TYPE_CHECKING:
    import ssl

    import aiohttp

    from ._call.limits import Limits
    from ._map.run import Run

from typing import Self, Unpack

__all__ = ("Client",)


class Client:
    """
    Sends requests to the gateway from synchronous code.

    Has the methods of `AsyncClient`. An event loop in a background thread runs the calls. All
    clients of a process share the loop, and the first call starts it. A client works where another
    event loop runs, as in a notebook, from many threads at once, and in a forked child.

    Use the client in a `with` statement, or call `close()`. A client that is dropped closes its
    connections. Asynchronous services should use `AsyncClient`.

    Args:
        api_key: The gateway's key; by default the environment's `AI_STATS_API_KEY`, else its
            `PHASEO_API_KEY`. Or a function, plain or asynchronous, that returns the key: it is
            asked before each attempt.
        base_url: Where the gateway is; by default the environment's `AI_STATS_BASE_URL`, else
            `https://api.phaseo.app/v1`.
        timeout: The limits of a call: a `Timeout`, a number of seconds for the whole of it, or
            `None` for none.
        max_retries: How often a failed call is tried again at the most, or a `RetryPolicy`.
        max_connections: How many connections are open at the most; calls beyond that queue.
        default_headers: Headers for each request, on top of the client's own; `None` removes one.
        ssl_context: What certificates are trusted; by default what the system or `SSL_CERT_FILE`
            says.
        session: A function that returns a new `aiohttp.ClientSession`, such as
            `lambda: aiohttp.ClientSession(trust_env=True)`. It is called on the client's loop, and
            the client closes what it returns. A session that exists already belongs to another
            loop, so its use raises `ConfigurationError`.
        max_response_bytes: The longest answer, or event of a stream, that is read, in bytes.

    Raises:
        ConfigurationError: There is no key, or a value can't be used.
    """

    def __init__(
        self,
        api_key: KeySource = None,
        base_url: str | None = None,
        *,
        timeout: Timeout | float | None = Timeout(),
        max_retries: int | RetryPolicy = 2,
        max_connections: int = 100,
        default_headers: Mapping[str, str | None] | None = None,
        ssl_context: ssl.SSLContext | None = None,
        session: aiohttp.ClientSession | Callable[[], aiohttp.ClientSession] | None = None,
        max_response_bytes: int = MAX_RESPONSE_BYTES,
    ) -> None:
        # Imported with the first client, since aiohttp takes long to import.
        from ._net.loop import BackgroundCalls

        given, api_key = [api_key], None  # no traceback shows the key
        key = key_source(given.pop())
        settings = ClientSettings(
            base_url,
            timeout,
            max_retries,
            max_connections,
            default_headers,
            ssl_context,
            session,
            max_response_bytes,
        )
        self._gateway = Gateway(key, settings)
        self._calls = BackgroundCalls(self._gateway.transport)

    def __repr__(self) -> str:
        # A traceback with locals may show a client whose `__init__` has failed.
        where = self.base_url if hasattr(self, "_gateway") else "not made"
        return f"<{type(self).__name__}: {where}>"

    def __reduce__(self) -> tuple[Any, ...]:
        # The pickle has the settings and the key, so that a pool of processes can use the client.
        own = ("_gateway", "_calls")
        state = {name: value for name, value in vars(self).items() if name not in own}
        return _remade, (type(self), self._gateway.arguments()), state

    @property
    def base_url(self) -> str:
        """
        URL of the gateway, without a slash at the end.
        """
        return self._gateway.base_url

    @property
    def limits(self) -> Limits:
        """
        How many requests may be in flight at once, as learned from the gateway's responses.
        """
        return self._gateway.limits

    @property
    def is_closed(self) -> bool:
        """
        Whether the client has been closed.
        """
        return self._gateway.is_closed

    @lists_keywords(ClientOptions)
    def with_options(self, **options: Unpack[ClientOptions]) -> Self:
        """
        Return a client with other options, on the same connections.

        A service with a key for each customer needs one pool of connections in this way. The limits
        that the gateway's answers teach are kept for each key.

        Closing this client closes all that were derived from it. Closing a derived client ends only
        its own use.

        Raises:
            ConfigurationError: An option is wrong or belongs to the connections, or the client has
                been closed.
        """
        # The key is taken out first, so that no traceback shows it.
        key = key_source(options.pop("api_key")) if "api_key" in options else None
        derived = type(self).__new__(type(self))
        vars(derived).update(vars(self), _gateway=self._gateway.derived(key, options))
        return derived

    @lists_keywords(CallOptions, ChatCompletionsParams)
    def generate_text(
        self, request: ChatRequest | None = None, /, **keywords: Unpack[TextKeywords]
    ) -> ChatCompletionsResponse:
        """
        Return the whole answer to a request.

        Args:
            request: The request as a dict or a `ChatCompletionsRequest`. Keywords win over it.

        Raises:
            RequestValidationError: The request is wrong. Nothing was sent.
            ConfigurationError: An option is wrong, or the client has been closed.
            APIConnectionError: No answer came.
            APITimeoutError: A time limit ran out.
            APIStatusError: The gateway answered with an error; see its subclasses.
            APIResponseError: The answer is not what the contract says.
        """
        call = chat_call(self._gateway, request, keywords, is_stream=False)
        return self._calls.run(call.whole)

    @lists_keywords(CallOptions, ChatCompletionsParams)
    def stream_text(
        self, request: ChatRequest | None = None, /, **keywords: Unpack[TextKeywords]
    ) -> Stream:
        """
        Return the answer to a request as a stream of chunks.

        The request is sent on first use: by `with`, by `stream.open()`, or by the first read. Only
        then do errors of the gateway or the network arise. A stream is tried again only before its
        first chunk.

        Args:
            request: The request as a dict or a `ChatCompletionsRequest`. Keywords win over it.

        Raises:
            RequestValidationError: The request is wrong. Nothing was sent.
            ConfigurationError: An option is wrong, or the client has been closed.
        """
        call = chat_call(self._gateway, request, keywords, is_stream=True)
        return Stream(call.open, self._calls.run)

    @lists_keywords(RunOptions, CallOptions, ChatCompletionsParams)
    def map(
        self, rows: Iterable[Any] | AsyncIterable[Any], /, **keywords: Unpack[MapKeywords]
    ) -> Run:
        """
        Return a run that asks for an answer to each row, many at once, and loses none.

        Nothing is sent before the run is waited for, iterated or asked for its outcomes. A row that
        fails has its error in its outcome, and the others go on. The first request goes alone. If
        it is refused (400, 401, 402, 403, 404), no more are sent. An error of the key, the credit
        or the quota ends the run at any time. What is done is kept, and `run.stopped` says why the
        run ended. A request that the gateway rejected as too fast is sent again until its
        `Timeout.total` is over; that does not count as a retry.

        Args:
            rows: A list, a generator, an async iterator, a column or a data frame (its rows become
                dicts). Rows are pulled as there is room, and never read as a whole. A row that is a
                string is a prompt, a list is messages, a dict with `messages` or a
                `ChatCompletionsRequest` is a request. For other rows give `prompt` or `request`.

        Raises:
            RequestValidationError: The parameters that all requests share are wrong.
            ConfigurationError: An option is wrong, or the client has been closed.
        """
        from ._map.plan import Plan
        from ._map.run import Run  # loaded only where it is used

        return Run(Plan.of(self._gateway, keywords, takes_async=False), rows, self._calls.run)

    def close(self) -> None:
        """
        Close the client and its connections. Its calls in other threads raise
        `ConfigurationError`. A second time does nothing. The connections of a client that
        `with_options` returned stay open.
        """
        if self._gateway.close():
            self._calls.stop()

    if not TYPE_CHECKING:
        __getattr__ = wrong_name(client_names(awaited=False))
        __aenter__ = __aexit__ = wrong_style(
            "Client needs plain `with`; for `async with` use AsyncClient"
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


def _remade(kind: type[Client], settings: dict[str, Any]) -> Client:
    # A subclass may have an `__init__` with other arguments, so don't call `kind(...)`.
    client = kind.__new__(kind)
    Client.__init__(client, **settings)
    return client
