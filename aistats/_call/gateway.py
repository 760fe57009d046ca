"""
The gateway, as the clients see it: where it is, and how a call to it is made, tried again and read.

A `Call` is ready to be made and knows nothing of who makes it: `AsyncClient` awaits it, `Client`
has it awaited on its background loop.
"""

from __future__ import annotations

import functools
import logging
import os
import random
import re
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final, TypeVar
from urllib.parse import urlencode, urlsplit

import attrs

from .._clock import monotonic
from .._errors import (
    AIStatsError,
    APIConnectionError,
    APIResponseError,
    APIStatusError,
    APITimeoutError,
    ConfigurationError,
    Fault,
    RequestValidationError,
    StreamError,
    out_of_time,
)
from .._exchange import Attempt, Exchange, SentRequest, Trace, redact
from .._options import CALL_OPTIONS, RetryPolicy, Timeout, split
from .._request.request import build_request
from .._request.to_json import as_json, is_mapping
from .._version import __version__
from .._views.completion import ChatCompletionsResponse
from .._views.json import parse_json
from .._wire.decoder import StreamDecoder, completion_from, status_error_from
from .retry import RetryBudget, is_local, is_throttle, retry_after
from .stream import OpenedStream, Opening

if TYPE_CHECKING:
    import ssl

    import aiohttp

    from .._net.response import Response
    from .._request.keywords import ChatRequest

__all__ = ("MAX_RESPONSE_BYTES", "Call", "Gateway")

T = TypeVar("T")

MAX_RESPONSE_BYTES: Final = 32 * 1024 * 1024
_MAX_ERROR_BYTES = 1024 * 1024
_SHORTEST_KEY = 8  # characters; local servers take "none" or "x"
_MOST_COMMENTS = 10_000  # before a stream's first event
_DEFAULT_BASE_URL = "https://api.phaseo.app/v1"
_HEADER_NAME = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"  # a token: RFC 9110, section 5.1
_KEY = r"[!-~]+"

_log = logging.getLogger("aistats")


class Gateway:
    """
    The gateway at one address, with one key. Its arguments are those of `AsyncClient`.
    """

    def __init__(
        self,
        api_key: str | None,
        base_url: str | None,
        *,
        timeout: Timeout | float | None,
        max_retries: int | RetryPolicy,
        max_connections: int,
        default_headers: Mapping[str, str] | None,
        ssl_context: ssl.SSLContext | None,
        session: aiohttp.ClientSession | Callable[[], aiohttp.ClientSession] | None,
        max_response_bytes: int,
    ) -> None:
        # With the first client: asyncio and aiohttp take twice as long as all the rest to load.
        try:
            from .._net.transport import OWN_SERVERS, Transport
            from .limits import Limits
        except OSError as error:  # aiohttp makes a TLS context as it is imported
            from .._net.tls import key_log_fault

            raise ConfigurationError(key_log_fault(error)) from None

        key, api_key = [api_key], None  # so that no traceback shows it
        self._authorization = _Secret.of(key.pop())
        self._session = _checked_session(session)
        if session is not None and ssl_context is not None:
            raise ConfigurationError(
                "ssl_context is for the client's own connections; those of a session are made by "
                "its connector: aiohttp.TCPConnector(ssl=...)."
            )
        # By itself: IPython's verbose traceback shows the values in the statement that raised, and
        # those of the environment hold the key.
        url = base_url or os.environ.get("AI_STATS_BASE_URL") or _DEFAULT_BASE_URL
        source = "base_url" if base_url else "AI_STATS_BASE_URL in the environment"
        self.base_url = _checked_base_url(url, source)
        self.is_closed = False
        self.budget = RetryBudget()
        self.limits = Limits(_positive("max_connections", max_connections))
        self.max_response_bytes = _positive("max_response_bytes", max_response_bytes)
        self._timeout = Timeout.of(timeout)
        self._policy = _policy(max_retries)
        if faults := _header_faults("default_headers", default_headers or {}):
            raise ConfigurationError("; ".join(map(str, faults)))
        self.public_headers = {
            "User-Agent": f"aistats/{__version__}",
            "Content-Type": "application/json",
            **(default_headers or {}),
        }
        transport = OWN_SERVERS.get(urlsplit(self.base_url).netloc, Transport)
        self.transport = transport(
            self.base_url,
            {"Authorization": self._authorization.value, **self.public_headers},
            max_connections=max_connections,
            ssl_context=_checked_ssl_context(ssl_context),
            session=session,
        )
        self._settings = {
            "base_url": self.base_url,
            "timeout": self._timeout,
            "max_retries": max_retries,
            "max_connections": max_connections,
            "default_headers": default_headers,
            "ssl_context": ssl_context,
            "session": session,
            "max_response_bytes": max_response_bytes,
        }

    def settings(self) -> dict[str, Any]:
        """
        The arguments that make a client like this one, the key among them.

        Raises:
            TypeError: It has a session or a TLS context of its own, which can't be taken elsewhere.
        """
        if self._session is not None and not callable(self._session):
            raise TypeError(
                "a client with a session of your own can't be pickled or copied; give a function "
                "that makes one: session=lambda: aiohttp.ClientSession(...), or make the client "
                "where it is used"
            )
        if self._settings["ssl_context"] is not None:
            raise TypeError(
                "a client with an ssl_context can't be pickled or copied, since the context can't; "
                "make the client where it is used, or set SSL_CERT_FILE there"
            )
        return {"api_key": self._authorization.key, **self._settings}

    def call(
        self, request: ChatRequest | None, keywords: Mapping[str, Any], *, is_stream: bool
    ) -> Call:
        """
        Return a chat completion that is checked and ready to be asked for.

        Args:
            request: The request, or `None` where *keywords* has all of it.
            keywords: Parameters of the request, which win over *request*, and `CallOptions`.
            is_stream: Whether a stream is asked for.

        Raises:
            RequestValidationError: The request is wrong.
            ConfigurationError: An option is, or the client has been closed.
        """
        self.check_open()
        options, params = split(keywords, CALL_OPTIONS)
        checked = build_request(request, params, stream=is_stream)
        extra_headers: Mapping[str, str] = options.get("extra_headers") or {}
        if extra_headers and (faults := _header_faults("extra_headers", extra_headers)):
            raise RequestValidationError(faults)
        max_retries = options.get("max_retries")
        # In place of a stream the gateway may answer with JSON: a whole completion, or an error.
        accept = "text/event-stream, application/json" if is_stream else "application/json"
        return Call(
            gateway=self,
            body=checked.body(stream=is_stream, extra_body=options.get("extra_body")),
            headers={"Accept": accept, **extra_headers},
            query=_checked_query(options.get("extra_query")),
            timeout=Timeout.of(options["timeout"]) if "timeout" in options else self._timeout,
            policy=self._policy if max_retries is None else _policy(max_retries),
        )

    def masked(self, body: bytes) -> bytes:
        """
        Return the *body* of an answer without the key.

        A key of fewer than 8 characters is a placeholder, such as "x", that may be part of any
        word. It is masked where it is a header's or a string's whole value.
        """
        key = self._authorization.key.encode()
        if len(key) >= _SHORTEST_KEY:
            return body.replace(key, b"***")
        word = re.escape(key)
        return re.sub(rb'(?<=Bearer )%b(?![\w.-])|(?<=")%b(?=")' % (word, word), b"***", body)

    def check_open(self) -> None:
        """
        Nothing happens, unless the client has been closed.

        Raises:
            ConfigurationError: It has been.
        """
        if self.is_closed:
            raise ConfigurationError("The client has been closed; make a new one.")


@attrs.define(eq=False, repr=False)
class Call:
    """
    One call, ready to be made.
    """

    gateway: Gateway
    body: bytes = attrs.field(repr=False)
    headers: Mapping[str, str] = attrs.field(repr=False)
    query: Mapping[str, str] = attrs.field(repr=False)
    timeout: Timeout
    policy: RetryPolicy
    is_pinned: bool = False
    """Whether somebody else counts how many requests are under way at once."""

    def with_body(self, body: bytes) -> Call:
        """
        The same call for another request.
        """
        # A fifth of the time that attrs.evolve takes, and each row of a run needs one.
        return Call(
            self.gateway,
            body,
            self.headers,
            self.query,
            self.timeout,
            self.policy,
            self.is_pinned,
        )

    async def whole(self) -> ChatCompletionsResponse:
        """
        Make it, and return the whole answer.
        """
        return await self._with_retries(self._whole_once)

    async def open(self, opening: Opening) -> OpenedStream | None:
        """
        Make it, and return the stream once its first event is there; `None` if *opening* was given
        up before.
        """
        with self.gateway.transport.interruption() as interruption:
            opening.break_off = interruption.soon
            if opening.is_given_up:
                return None
            return await self._with_retries(self._open_once)
        return None

    async def _with_retries(self, attempt: Callable[[_Attempt], Awaitable[T]]) -> T:
        begun = now = monotonic()
        exchange = Exchange()
        limits = self.gateway.limits
        tries = 0
        while True:
            this = _Attempt(exchange, Trace(now), begun)
            exchange.status, exchange.raw_headers = None, ()
            ticket = 0
            try:
                ticket = limits.try_start(pinned=self.is_pinned) or await self._place(this)
                result = await attempt(this)
            except AIStatsError as failure:
                limits.end(
                    ticket,
                    throttled=is_throttle(failure),
                    retry_after=self.policy.shared_wait_for(failure),
                    is_local=is_local(failure),
                )
                this.take_time()
                failed = Attempt(this.trace.outcome, exchange.status, _reason(failure))
                attempts = exchange.attempts
                exchange.attempts = (*attempts, failed)
                exchange.request = self._sent_request()
                failure.exchange = exchange
                is_stale = _is_stale(failure, this) and tries == len(attempts)
                if is_stale:
                    # The server closed an idle connection while it was reused. Retry at once, on a
                    # new connection; this does not count towards `max_retries`.
                    self.gateway.transport.drop_idle(this.trace.begun)
                    delay: float | None = 0.0 if self.policy.retry_ambiguous else None
                else:
                    tries += 1
                    delay = self.policy.next_delay(tries, failure, random.random())
                if delay is None or not self._has_time(begun, delay):
                    raise
                if not is_stale and not self.gateway.budget.take():
                    raise
            except BaseException:  # cancelled
                limits.end(ticket)
                raise
            else:
                limits.end(ticket, latency=monotonic() - this.trace.begun)
                exchange.attempts += _answered(exchange.status)
                self.gateway.budget.give_back()
                return result
            exchange.attempts = (*attempts, attrs.evolve(failed, wait=delay))
            _log.info("trying again in %.2f s: %s", delay, failed.reason)
            try:
                await self.gateway.transport.sleep(delay)
            except ConfigurationError as closed:
                closed.exchange = exchange
                raise
            now = monotonic()

    async def _place(self, this: _Attempt) -> int:
        # There are as many requests under way as the gateway takes, or it wants to be left alone.
        trace = this.trace
        trace.queue_start = trace.begun
        self.gateway.check_open()
        start = functools.partial(self.gateway.limits.start, pinned=self.is_pinned)
        try:
            ticket = await self.gateway.transport.wait(start, self._remaining(this))
        except TimeoutError:
            phase = "waiting for the gateway to take more requests (see client.limits)"
            if left := self.gateway.limits.cooldown:
                phase = f"it was held back by a Retry-After, {left:.3g} s more (see client.limits)"
            host = self.gateway.transport.host
            raise out_of_time("total", self.timeout.total, host, phase) from None
        trace.begun = trace.queue_end = monotonic()
        return ticket

    async def _whole_once(self, this: _Attempt) -> ChatCompletionsResponse:
        body = await self._read_whole(await self._send(this))
        this.take_time()
        return self._without_key(lambda answer: completion_from(answer, this.exchange), body)

    async def _open_once(self, this: _Attempt) -> OpenedStream:
        response = await self._send(this)
        decoder = StreamDecoder(
            this.exchange,
            longest_event=self.gateway.max_response_bytes,
            choices=_choices_of(self.body),
            masked=self.gateway.masked,
        )
        try:
            if response.content_type == "text/event-stream":
                await _receive_first_event(response, decoder, self.gateway.max_response_bytes)
            else:
                # JSON in place of a stream is a whole completion or an error; nothing else is.
                self._without_key(decoder.receive_whole, await self._read_whole(response))
        except APIConnectionError:
            # No event came, which is as good as no answer.
            this.trace.first_byte = None
            raise
        except BaseException:
            response.close()  # an error that is kept would hold the connection
            raise
        finally:
            this.take_time()

        def finish() -> None:
            # Not before the first chunk, which is waited for.
            this.exchange.request = self._sent_request()
            this.take_time()

        return OpenedStream(response, decoder, this.exchange, finish)

    async def _send(self, this: _Attempt) -> Response:
        self.gateway.check_open()
        response = await self.gateway.transport.send(
            "chat/completions",
            self.body,
            self.headers,
            self.query,
            self.timeout,
            self._remaining(this),
            this.trace,
        )
        this.exchange.status = response.status
        this.exchange.raw_headers = response.raw_headers
        if 200 <= response.status < 300:
            return response
        try:
            body, _ = await response.read(_MAX_ERROR_BYTES)
        except (APIConnectionError, APIResponseError):
            body = b""  # the status says enough
        this.exchange.request = self._sent_request()
        wait = retry_after(this.exchange.headers, datetime.now(UTC))
        raise status_error_from(self.gateway.masked(body), this.exchange, wait)

    def _without_key(self, read: Callable[[bytes], T], body: bytes) -> T:
        # A server that sends back what it got sends the key, too. No error is to show it; an answer
        # is left as it is.
        try:
            return read(body)
        except AIStatsError:
            if (masked := self.gateway.masked(body)) == body:
                raise
        return read(masked)

    async def _read_whole(self, response: Response) -> bytes:
        limit = self.gateway.max_response_bytes
        body, is_all = await response.read(limit)
        if not is_all:
            raise APIResponseError(
                f"The answer is longer than {limit} bytes and was given up. "
                "Raise max_response_bytes, if that is right."
            )
        return body

    def _remaining(self, this: _Attempt) -> float | None:
        # When an attempt begins; for the first it is `total` itself.
        total = self.timeout.total
        return None if total is None else total - (this.trace.begun - this.begun)

    def _has_time(self, begun: float, delay: float) -> bool:
        total = self.timeout.total
        return total is None or monotonic() - begun + delay < total

    def _sent_request(self) -> SentRequest:
        own = {"Authorization": "***"}
        headers = _overlaid(own, self.gateway.public_headers, self.headers)
        query = f"?{urlencode(self.query)}" if self.query else ""
        url = f"{self.gateway.base_url}/chat/completions{query}"
        return SentRequest("POST", url, redact(headers), self.body)


def _choices_of(body: bytes) -> int:
    # Nearly no request says; in a string the quotes would be escaped.
    number = parse_json(body).get("n") if b'"n":' in body else None
    return number if isinstance(number, int) else 1


def _overlaid(*layers: Mapping[str, str]) -> dict[str, str]:
    # A name in another case is the same (RFC 9110, section 5.1), and the last layer wins.
    merged = {name.lower(): (name, value) for headers in layers for name, value in headers.items()}
    return dict(merged.values())


@attrs.define(eq=False, repr=False)
class _Attempt:
    """
    One try of a call.
    """

    exchange: Exchange
    trace: Trace
    begun: float
    """When the call began, its first try."""

    def take_time(self) -> None:
        """
        Note how long everything took until now.
        """
        self.exchange.timing = self.trace.timing(self.begun, monotonic())


@functools.lru_cache(maxsize=16)
def _answered(status: int | None) -> tuple[Attempt]:
    # It went well, as nearly all do, and this is all of what most of them were.
    return (Attempt("answered", status),)


async def _receive_first_event(response: Response, decoder: StreamDecoder, limit: int) -> None:
    received = 0
    begun = monotonic()
    while not decoder.has_event:
        data = await response.receive(silence=monotonic() - begun if received else 0.0)
        decoder.receive_data(data)
        if not data or decoder.has_event:
            return
        received += len(data)
        if received > limit or decoder.waiting > _MOST_COMMENTS:
            raise StreamError(
                f"There are only comments in the first {received} bytes of the stream; it was "
                "given up. Check that base_url leads to the gateway's API."
            )


def _is_stale(failure: AIStatsError, this: _Attempt) -> bool:
    # Whether a connection that had been kept was lost before any of an answer came on it.
    return (
        isinstance(failure, APIConnectionError)
        and not isinstance(failure, APITimeoutError)
        and this.trace.is_reused
        and this.exchange.status is None
    )


def _reason(failure: AIStatsError) -> str:
    if isinstance(failure, APIStatusError):
        return f"status {failure.status}" + (f" ({failure.code})" if failure.code else "")
    if isinstance(failure, APITimeoutError):
        return f"{failure.limit} limit ran out"
    return failure.message if isinstance(failure, APIConnectionError) else type(failure).__name__


class _Secret:
    """
    The `Authorization` header's value, which no repr shows.
    """

    __slots__ = ("value",)

    def __init__(self, value: str) -> None:
        self.value = value

    @property
    def key(self) -> str:
        """
        The key by itself.
        """
        return self.value.removeprefix("Bearer ")

    @classmethod
    def of(cls, key: Any) -> _Secret:
        """
        For *key*, or else for the environment's.

        Raises:
            ConfigurationError: There is none, or it can't be a header's value.
        """
        wrong = None if key is None or isinstance(key, str) else type(key).__name__
        source = "" if key is not None else " of AI_STATS_API_KEY in the environment"
        secret = cls(f"Bearer {key if key is not None else os.environ.get('AI_STATS_API_KEY', '')}")
        key = None  # so that no traceback shows it
        if wrong is not None:
            raise ConfigurationError(f"api_key must be a string; not {wrong}")
        if not secret.key:
            raise ConfigurationError(
                "There is no API key. Set AI_STATS_API_KEY in the environment, or pass api_key=."
            )
        if not re.fullmatch(_KEY, secret.key):
            raise ConfigurationError(
                f"The API key{source} has a line break, a space or another character that "
                "can't be in a key: only ASCII letters, digits and signs can. Nothing was sent."
            )
        return secret


def _checked_session(session: Any) -> Any:
    # aiohttp itself is the transport's; what stands in for its session in tests is good, too.
    is_session = hasattr(session, "post") and hasattr(session, "closed")
    if session is not None and not is_session and not callable(session):
        kind = type(session).__name__
        raise ConfigurationError(
            "session must be an aiohttp.ClientSession, a function that returns one, or None; "
            f"not {kind}"
        )
    return session


def _checked_ssl_context(context: Any) -> Any:
    import ssl  # with the transport, which has loaded it

    if context is not None and not isinstance(context, ssl.SSLContext):
        raise ConfigurationError(
            f"ssl_context must be an ssl.SSLContext, or None; not {context!r}. Certificates are "
            "always checked; to trust others, give a context that does."
        )
    return context


def _checked_base_url(url: Any, source: str) -> str:
    # *source* is where it is from, for messages.
    bare = url.strip() if isinstance(url, str) else ""
    try:
        parts = urlsplit(bare)
        # An empty label, as in `a..b`, can't be looked up; the host may be an address.
        host = (parts.hostname or "").encode("idna")
        is_http = parts.scheme in ("http", "https") and bool(host) and parts.port != 0
        is_bare = parts.username is None and not parts.query and not parts.fragment
    except ValueError:
        is_http = is_bare = False
    if not is_http or re.search(r"[\s\x00-\x1f\x7f]", bare):
        raise ConfigurationError(
            f"{source} must be an http or https URL, such as {_DEFAULT_BASE_URL}; not {url!r}"
        )
    if not is_bare:
        raise ConfigurationError(f"{source} must not have a user name, a query or a fragment.")
    return bare.rstrip("/")


def _header_faults(path: str, headers: Any) -> list[Fault]:
    if not is_mapping(headers):
        return [Fault(path, None, "a mapping of names to values")]
    faults: list[Fault] = []
    for name, value in headers.items():
        if not isinstance(name, str) or not re.fullmatch(_HEADER_NAME, name):
            faults.append(Fault(path, None, "names of headers, without spaces and line breaks"))
        elif not isinstance(value, str) or not _is_header_value(value):
            faults.append(
                Fault(
                    f"{path}[{name!r}]", None, "a string without line breaks and control characters"
                )
            )
    return faults


def _checked_query(query: Any) -> dict[str, str]:
    """
    Return *query* as it stands in a URL: `true` and `false`, numbers in decimal, enums by value.

    Raises:
        RequestValidationError: A name or a value is something else.
    """
    if not query:
        return {}
    if not is_mapping(query):
        raise RequestValidationError([Fault("extra_query", None, "a mapping of names to values")])
    faults: list[Fault] = []
    plain: dict[str, Any] = as_json(query, "extra_query", faults)
    faults += [
        Fault(f"extra_query[{name!r}]", None, "a string, a number, True or False")
        for name, value in plain.items()
        if value is None or isinstance(value, dict | list)
    ]
    if faults:
        raise RequestValidationError(faults)
    return {
        name: str(value).lower() if isinstance(value, bool) else str(value)
        for name, value in plain.items()
    }


def _is_header_value(value: str) -> bool:
    return value.replace("\t", " ").isprintable()


def _policy(max_retries: int | RetryPolicy) -> RetryPolicy:
    return (
        max_retries
        if isinstance(max_retries, RetryPolicy)
        else RetryPolicy(max_retries=max_retries)
    )


def _positive(name: str, value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ConfigurationError(f"{name} must be a whole number of 1 or more; not {value!r}")
    return value
