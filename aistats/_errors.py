"""
Everything that the package raises.

    AIStatsError                            root of all of them
    ├── RequestValidationError (ValueError) the request is wrong; nothing was sent
    ├── ConfigurationError (ValueError)     no key, a bad base URL, use after closing
    ├── APIConnectionError                  no answer came
    │   └── APITimeoutError (TimeoutError)  which limit ran out, and after how long
    ├── APIStatusError                      an answer with a status of 300 and up
    │   ├── BadRequestError 400             ├── AuthenticationError 401
    │   ├── PaymentRequiredError 402        ├── PermissionDeniedError 403
    │   ├── NotFoundError 404               ├── ConflictError 409
    │   ├── UnprocessableEntityError 422    ├── RateLimitError 429
    │   └── InternalServerError 500 and up
    ├── APIResponseError                    a 200 whose body is not what the contract says
    └── StreamError                         a stream that failed after it began
        ├── StreamInterruptedError          it ended, or the connection did, before it was complete
        └── StreamErrorEvent                the gateway reported an error inside the stream

No message holds the API key or a prompt. Each error survives `pickle` and `copy`: what is passed on
to `Exception` is what `__init__` takes by position, the rest travels in the instance's dictionary.
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
    The root of everything that the package raises.
    """

    message: str
    """What went wrong; where the gateway said it, in its own words."""

    partial: ChatCompletionsResponse | None = None
    """
    What had arrived of a stream before it failed: text, tool calls, usage; `None` where there was
    no stream.
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
        The answer's HTTP status; `None` where no answer came.
        """
        return self.exchange.status if self.exchange else None

    @property
    def headers(self) -> Headers:
        """
        The answer's headers; empty where no answer came.
        """
        return self.exchange.headers if self.exchange else Headers()

    @property
    def request_id(self) -> str | None:
        """
        The id to give to the gateway's support, where the answer had one.
        """
        if self.partial is not None and self.partial.request_id:
            return self.partial.request_id
        return self.exchange.header_request_id if self.exchange else None

    @property
    def attempts(self) -> tuple[Attempt, ...]:
        """
        Each try of the call, the last one included; empty where nothing was tried.
        """
        return self.exchange.attempts if self.exchange else ()

    @property
    def timing(self) -> Timing:
        """
        Where the time of the call went.
        """
        return self.exchange.timing if self.exchange else Timing()

    def as_curl(self) -> str | None:
        """
        The request as a shell command that reads the key from `AI_STATS_API_KEY`; `None` where
        nothing was sent.

        It holds the prompt, which no message of an error does.
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
    Return *error* as a notebook shows it.
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
    One thing that is wrong with a request.
    """

    path: str
    """Where: `messages[1].content[0].type`."""
    value: object = attrs.field(repr=False)
    """What was there; `None` where it is missing."""
    expected: str
    """What should be there, in words: `a number from 0 to 2`."""
    hint: str = ""
    """A sentence that says what to write instead; empty where the mistake is no common one."""

    def __str__(self) -> str:
        hint = f". {self.hint}" if self.hint else ""
        return f"{self.path}: expected {self.expected}{_got(self.path, self.value)}{hint}"

    def __reduce__(self) -> tuple[Any, ...]:
        try:
            pickle.dumps(self.value)
        except Exception:  # whatever an object of the user's raises, the error is to survive
            kept = _Unpicklable(type(self.value).__name__)
            return Fault, (self.path, kept, self.expected, self.hint)
        return Fault, (self.path, self.value, self.expected, self.hint)


@attrs.frozen
class _Unpicklable:
    kind: str
    """The name of the type of what was there."""


_WORDS_OF_THE_PROTOCOL = frozenset({"type", "role", "effort", "model", "service_tier"})


def _got(path: str, value: object) -> str:
    # A message must not show a prompt, so a string is shown where it can be no more than a word of
    # the protocol, and is only called a string elsewhere.
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
    The request is wrong, and nothing was sent.

    `faults` has every fault of it, so that all can be mended at once.
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
    The client can't work as it is set up: no key, a bad base URL, or it has been closed.
    """


class APIConnectionError(AIStatsError):
    """
    No answer came: the host was not found, refused, or the connection was lost.
    """

    is_permanent: bool = False
    """Whether another try would end the same: a bad certificate, say."""
    is_local: bool = False
    """
    Whether a limit of this process or machine is the reason: open files, threads, ports, memory.
    """


Limit = Literal["connect", "idle", "total"]


class APITimeoutError(APIConnectionError, TimeoutError):
    """
    A limit of `Timeout` ran out.
    """

    limit: Limit | None = None
    """Which one."""
    after: float | None = None
    """Its length, in seconds."""


def out_of_time(limit: Limit, after: float | None, host: str, phase: str) -> APITimeoutError:
    """
    The error for the *limit* that ran out *after* so many seconds, in that *phase*.
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
    Return the error for *what* failed at a *limit* of this process or machine.
    """
    error = APIConnectionError(f"{what}: {limit}")
    error.is_local = True
    return error


class APIStatusError(AIStatsError):
    """
    The gateway, or something in front of it, answered with an error.
    """

    code: str | None = None
    """The gateway's code for it, such as `validation_error`; an open list."""
    body: Any = None
    """The answer's body: JSON where it is JSON, else the first part of its text."""
    retry_after: float | None = None
    """Seconds to wait before another try, where the answer said so."""
    body_request_id: str | None = None
    named_status: int | None = None
    """
    The status that the body names, where the HTTP status is another: an error sent with status 200.
    """

    @property
    def status(self) -> int:
        """
        The status of the error: the HTTP status, or the one that the body of a good answer names.
        It is 0 for an error that was made without an answer.
        """
        return self.named_status or super().status or 0

    @property
    def request_id(self) -> str | None:
        """
        The id to give to the gateway's support, where the answer had one.
        """
        return self.body_request_id or super().request_id


class BadRequestError(APIStatusError):
    """
    400: the gateway refused the request.
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
    404: there is nothing at this address. (An unknown model is a 400.)
    """


class ConflictError(APIStatusError):
    """
    409: not ready yet, or at odds with something else.
    """


class UnprocessableEntityError(APIStatusError):
    """
    422: the request was understood and refused.
    """


class RateLimitError(APIStatusError):
    """
    429: too many requests, or the key's quota is used up (code `key_limit_exceeded`).
    """


class InternalServerError(APIStatusError):
    """
    500 and up: the gateway, a provider behind it or a proxy in front of it failed.
    """


class APIResponseError(AIStatsError):
    """
    An answer with a good status whose body is not what the contract says.
    """

    body: str = ""
    """The first part of it."""


class StreamError(AIStatsError):
    """
    A stream failed after it began; `partial` has what had arrived.
    """


class StreamInterruptedError(StreamError):
    """
    The stream ended, or its connection did, before the answer was complete.
    """


class StreamErrorEvent(StreamError):
    """
    The gateway reported an error inside the stream.
    """

    code: str | None = None
    """The gateway's or the provider's code for it."""
    body: Any = None
    """The frame that said so."""


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
    The class of error for *status*.
    """
    return InternalServerError if status >= 500 else _BY_STATUS.get(status, APIStatusError)
