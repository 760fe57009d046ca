"""
The exceptions of the package.

    AIStatsError                            base class of all
    ├── RequestValidationError (ValueError) the request is invalid; nothing was sent
    ├── ConfigurationError (ValueError)     no key, a bad base URL, use after closing
    ├── APIConnectionError                  no response came
    │   └── APITimeoutError (TimeoutError)  a timeout expired
    ├── APIStatusError                      a response with a status of 300 or more
    │   ├── BadRequestError 400             ├── AuthenticationError 401
    │   ├── PaymentRequiredError 402        ├── PermissionDeniedError 403
    │   ├── NotFoundError 404               ├── ConflictError 409
    │   ├── UnprocessableEntityError 422    ├── RateLimitError 429
    │   └── InternalServerError 500 and up
    ├── APIResponseError                    a response with status 200, but not a completion
    └── StreamError                         a stream failed after it started
        ├── StreamInterruptedError          it ended before the response was complete
        └── StreamErrorEvent                the gateway reported an error in the stream

No message contains the API key or a prompt. Each error can be pickled and copied: `Exception` gets
the positional arguments of `__init__`, and everything else is in the instance's `__dict__`.
"""

from __future__ import annotations

import pickle
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import attrs

from ._exchange import Attempt, Exchange, Headers, Timing
from ._styles import ERROR_NAMES, wrong_name
from ._views.completion import ChatCompletionsResponse, as_shown

__all__ = (
    "AIStatsError",
    "APIConnectionError",
    "APIResponseError",
    "APIStatusError",
    "APITimeoutError",
    "AuthenticationError",
    "BadRequestError",
    "ConfigurationError",
    "ConflictError",
    "Fault",
    "InternalServerError",
    "NotFoundError",
    "PaymentRequiredError",
    "PermissionDeniedError",
    "RateLimitError",
    "RequestValidationError",
    "StreamError",
    "StreamErrorEvent",
    "StreamInterruptedError",
    "UnprocessableEntityError",
    "as_html",
    "at_local_limit",
    "out_of_time",
    "status_error_class",
)


class AIStatsError(Exception):
    """
    Base class of all exceptions that the package raises.
    """

    message: str
    """What went wrong. If the gateway gave a reason, this is its text."""

    partial: ChatCompletionsResponse | None = None
    """
    What had arrived of a stream before it failed: text, tool calls, usage. `None` if there was no
    stream.
    """

    if not TYPE_CHECKING:
        __getattr__ = wrong_name(ERROR_NAMES)

    def __init__(self, message: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.exchange: Exchange | None = None

    @property
    def status(self) -> int | None:
        """
        The HTTP status of the response; `None` if none came.
        """
        return self.exchange.status if self.exchange else None

    @property
    def headers(self) -> Headers:
        """
        The headers of the response; empty if none came.
        """
        return self.exchange.headers if self.exchange else Headers()

    @property
    def request_id(self) -> str | None:
        """
        The id of the request, for the gateway's support; `None` if the response has none.
        """
        if self.partial is not None and self.partial.request_id:
            return self.partial.request_id
        return self.exchange.header_request_id if self.exchange else None

    @property
    def attempts(self) -> tuple[Attempt, ...]:
        """
        All attempts of the call, the last one included; empty if nothing was sent.
        """
        return self.exchange.attempts if self.exchange else ()

    @property
    def timing(self) -> Timing:
        """
        The durations of the phases of the call.
        """
        return self.exchange.timing if self.exchange else Timing()

    def as_curl(self) -> str | None:
        """
        Return the request as a curl command that reads the key from `AI_STATS_API_KEY`; `None` if
        nothing was sent.

        It contains the prompt, unlike the messages of errors.
        """
        if self.exchange is None or self.exchange.request is None:
            return None
        return self.exchange.request.as_curl()

    def _repr_html_(self) -> str:
        return as_html(self)

    def _render_traceback_(self) -> list[str]:
        from ._show.traceback import ipython_traceback  # IPython asks for it

        return ipython_traceback(self)


def as_html(error: AIStatsError) -> str:
    """
    Return the HTML that a notebook shows for *error*.
    """
    from ._show.cards import call_facts, error_html, seconds

    code: object = getattr(error, "code", None)
    retry_after: float | None = getattr(error, "retry_after", None)
    facts = [
        f"status {error.status}" if error.status else "",
        f"code {code}" if code else "",
        f"retry after {seconds(retry_after)}" if retry_after is not None else "",
        *call_facts(error.timing, error.attempts, error.request_id),
    ]
    message = "\n".join([str(error), *getattr(error, "__notes__", ())])
    partial = as_shown(error.partial) if error.partial is not None else None
    return error_html(type(error).__name__, message, facts, error.attempts, partial)


@attrs.frozen
class Fault:
    """
    One invalid value in a request.
    """

    path: str
    """The location of the value: `messages[1].content[0].type`."""
    value: object = attrs.field(repr=False)
    """The value; `None` if it is missing."""
    expected: str
    """A description of valid values: `a number from 0 to 2`."""
    hint: str = ""
    """How to fix a common mistake, as a sentence; otherwise empty."""

    def __str__(self) -> str:
        hint = f". {self.hint}" if self.hint else ""
        return f"{self.path}: expected {self.expected}{_got(self.path, self.value)}{hint}"

    def __reduce__(self) -> tuple[Any, ...]:
        try:
            pickle.dumps(self.value)
        except Exception:  # a user's object may raise anything
            kept = _Unpicklable(type(self.value).__name__)
            return Fault, (self.path, kept, self.expected, self.hint)
        return Fault, (self.path, self.value, self.expected, self.hint)


@attrs.frozen
class _Unpicklable:
    kind: str
    """The name of the value's type."""


_WORDS_OF_THE_PROTOCOL = frozenset({"type", "role", "effort", "model", "service_tier"})


def _got(path: str, value: object) -> str:
    # A message must not contain a prompt. So a string is only shown if its key takes a word of the
    # protocol.
    kind = value.kind if isinstance(value, _Unpicklable) else type(value).__name__
    if value is None:
        return ""
    if isinstance(value, type):
        return ", got a class"
    if isinstance(value, int) and value.bit_length() > 64:
        return ", got a number of more than 64 bits"
    if isinstance(value, bool | int | float):
        return f", got {value!r}"
    if isinstance(value, str):
        is_word = path.rpartition(".")[2] in _WORDS_OF_THE_PROTOCOL and len(value) <= 40
        return f", got {value!r}" if is_word else ", got a string"
    if isinstance(value, Mapping):
        return ", got an object"
    if isinstance(value, Sequence) and not isinstance(value, bytes | bytearray | memoryview):
        return ", got an empty list" if not value else ", got a list"
    return f", got {kind}"


class RequestValidationError(AIStatsError, ValueError):
    """
    The request is invalid. Nothing was sent.

    `faults` has all faults of the request, not only the first.
    """

    def __init__(self, faults: Sequence[Fault]) -> None:
        self.faults: tuple[Fault, ...] = tuple(faults)
        count = len(self.faults)
        head = "The request has a fault" if count == 1 else f"The request has {count} faults"
        super().__init__("\n  ".join([f"{head}; nothing was sent:", *map(str, self.faults)]))

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.faults,), self.__dict__


class ConfigurationError(AIStatsError, ValueError):
    """
    The client is not usable: it has no key or a bad base URL, or it has been closed.
    """


class APIConnectionError(AIStatsError):
    """
    No response came: the host was not found, or the connection was refused or lost.
    """

    is_permanent: bool = False
    """Whether a retry would fail in the same way, as with a bad certificate."""
    is_local: bool = False
    """
    Whether the cause is a limit of this process or machine: open files, threads, ports, memory.
    """


TimeoutKind = Literal["connect", "idle", "total"]


class APITimeoutError(APIConnectionError, TimeoutError):
    """
    One of the limits of `Timeout` expired.
    """

    limit: TimeoutKind | None = None
    """The name of the limit: `connect`, `idle` or `total`."""
    after: float | None = None
    """The limit, in seconds."""


def out_of_time(limit: TimeoutKind, after: float | None, host: str, phase: str) -> APITimeoutError:
    """
    Return the error for a *limit* that expired *after* so many seconds, during *phase*.
    """
    error = APITimeoutError(
        f"The {limit} limit of {after:g} s ran out while {phase} ({host}). "
        f"Give the call more with timeout=Timeout({limit}=...), or check the network."
    )
    error.limit = limit
    error.after = after
    return error


def at_local_limit(what: str, limit: str) -> APIConnectionError:
    """
    Return the error for *what*, which failed because of a *limit* of this process or machine.
    """
    error = APIConnectionError(f"{what}: {limit}")
    error.is_local = True
    return error


class APIStatusError(AIStatsError):
    """
    The gateway, or a proxy in front of it, returned an error.
    """

    code: str | None = None
    """The gateway's error code, such as `validation_error`. New codes may appear."""
    body: Any = None
    """The response's body: the parsed JSON, or the beginning of the text if it isn't JSON."""
    retry_after: float | None = None
    """Seconds to wait before a retry; `None` if the response doesn't say."""
    body_request_id: str | None = None
    """The id in the body; `None` if it has none."""
    named_status: int | None = None
    """The status in the body if it differs from the HTTP status: an error sent with status 200."""

    @property
    def status(self) -> int:
        """
        The status of the error: the one in the body of a response with status 200, otherwise the
        HTTP status. It is 0 if the error was created without a response.
        """
        return self.named_status or super().status or 0

    @property
    def request_id(self) -> str | None:
        """
        The id of the request, for the gateway's support; `None` if the response has none.
        """
        return self.body_request_id or super().request_id


class BadRequestError(APIStatusError):
    """
    400: the gateway rejected the request.
    """


class AuthenticationError(APIStatusError):
    """
    401: the key is missing, wrong, expired or revoked.
    """


class PaymentRequiredError(APIStatusError):
    """
    402: the account has too little credit.
    """


class PermissionDeniedError(APIStatusError):
    """
    403: the key, a guardrail or the region doesn't allow it.
    """


class NotFoundError(APIStatusError):
    """
    404: the URL does not exist. (For an unknown model, the gateway sends 400.)
    """


class ConflictError(APIStatusError):
    """
    409: the resource is not ready yet, or the request conflicts with another.
    """


class UnprocessableEntityError(APIStatusError):
    """
    422: the gateway understood the request, but rejected its content.
    """


class RateLimitError(APIStatusError):
    """
    429: too many requests, or the key's quota is used up (code `key_limit_exceeded`).
    """


class InternalServerError(APIStatusError):
    """
    500 and up: the gateway failed, or a provider behind it, or a proxy in front of it.
    """


class APIResponseError(AIStatsError):
    """
    A response with status 200 whose body is not a completion.
    """

    body: str = ""
    """The beginning of the body."""


class StreamError(AIStatsError):
    """
    A stream failed after it started. `partial` has what had arrived.
    """


class StreamInterruptedError(StreamError):
    """
    The stream ended, or its connection was lost, before the response was complete.
    """


class StreamErrorEvent(StreamError):
    """
    The gateway reported an error in the stream.
    """

    code: str | None = None
    """The gateway's or the provider's error code."""
    body: Any = None
    """The event's JSON."""


_BY_STATUS: dict[int, type[APIStatusError]] = {
    400: BadRequestError,
    401: AuthenticationError,
    402: PaymentRequiredError,
    403: PermissionDeniedError,
    404: NotFoundError,
    409: ConflictError,
    422: UnprocessableEntityError,
    429: RateLimitError,
}


def status_error_class(status: int) -> type[APIStatusError]:
    """
    Return the class of error for *status*.
    """
    return InternalServerError if status >= 500 else _BY_STATUS.get(status, APIStatusError)
