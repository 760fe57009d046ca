"""
The Python client of the AI Stats Gateway: hundreds of models behind one key.

`AsyncClient` is for asynchronous code, `Client` is the same for synchronous code. Both have
`generate_text`, which returns a whole answer, `stream_text`, which returns it chunk by chunk, and
`map`, which asks for many answers at once.
"""

from __future__ import annotations

import importlib
import typing

from ._call.stream import AsyncStream, Stream
from ._client import AsyncClient
from ._errors import (
    AIStatsError,
    APIConnectionError,
    APIResponseError,
    APIStatusError,
    APITimeoutError,
    AuthenticationError,
    BadRequestError,
    ConfigurationError,
    ConflictError,
    Fault,
    InternalServerError,
    NotFoundError,
    PaymentRequiredError,
    PermissionDeniedError,
    RateLimitError,
    RequestValidationError,
    StreamError,
    StreamErrorEvent,
    StreamInterruptedError,
    UnprocessableEntityError,
)
from ._exchange import Attempt, Headers, Timing
from ._options import RetryPolicy, Timeout
from ._request.params.chat import ChatCompletionsParams
from ._request.request import ChatCompletionsRequest
from ._sync import Client
from ._version import __version__
from ._views.completion import (
    ChatCompletionChunk,
    ChatCompletionsResponse,
    Choice,
    ChoiceLogprobs,
    ChunkChoice,
)
from ._views.message import Annotation, Delta, FunctionCall, Message, ToolCall, ToolCallDelta
from ._views.usage import Meta, Pricing, Usage

if typing.TYPE_CHECKING:
    from . import types as types
    from ._call.limits import Limits
    from ._local.local import local
    from ._map.outcome import Outcome
    from ._map.run import AsyncRun, Run
    from ._media import audio, image
    from ._options import Budget
    from ._progress import FailureGroup, Latency, Progress

__all__ = (
    "AIStatsError",
    "APIConnectionError",
    "APIResponseError",
    "APIStatusError",
    "APITimeoutError",
    "Annotation",
    "AsyncClient",
    "AsyncRun",
    "AsyncStream",
    "Attempt",
    "AuthenticationError",
    "BadRequestError",
    "Budget",
    "ChatCompletionChunk",
    "ChatCompletionsParams",
    "ChatCompletionsRequest",
    "ChatCompletionsResponse",
    "Choice",
    "ChoiceLogprobs",
    "ChunkChoice",
    "Client",
    "ConfigurationError",
    "ConflictError",
    "Delta",
    "FailureGroup",
    "Fault",
    "FunctionCall",
    "Headers",
    "InternalServerError",
    "Latency",
    "Limits",
    "Message",
    "Meta",
    "NotFoundError",
    "Outcome",
    "PaymentRequiredError",
    "PermissionDeniedError",
    "Pricing",
    "Progress",
    "RateLimitError",
    "RequestValidationError",
    "RetryPolicy",
    "Run",
    "Stream",
    "StreamError",
    "StreamErrorEvent",
    "StreamInterruptedError",
    "Timeout",
    "Timing",
    "ToolCall",
    "ToolCallDelta",
    "UnprocessableEntityError",
    "Usage",
    "__version__",
    "audio",
    "image",
    "local",
)

# What takes long to load, and few programs name: it is loaded when it is asked for.
_LATER = {
    "AsyncRun": "_map.run",
    "Budget": "_options",
    "FailureGroup": "_progress",
    "Latency": "_progress",
    "Limits": "_call.limits",
    "Outcome": "_map.outcome",
    "Progress": "_progress",
    "Run": "_map.run",
    "audio": "_media",
    "image": "_media",
    "local": "_local.local",
}


def __getattr__(name: str) -> typing.Any:
    if name == "types":
        return importlib.import_module(".types", __name__)  # which sets it here
    if name not in _LATER:
        from ._styles import package_hint

        message = f"module {__name__!r} has no attribute {name!r}{package_hint(name)}"
        raise AttributeError(message)
    globals()[name] = getattr(importlib.import_module(f".{_LATER[name]}", __name__), name)
    return globals()[name]


def __dir__() -> list[str]:
    return sorted({*globals(), *_LATER, "types"})


# What users see in reprs and tracebacks is where they import it from.
for _name in {*__all__} - {*_LATER}:
    if isinstance(_member := globals()[_name], type):
        _member.__module__ = __name__
