"""
The Python client of the AI Stats Gateway: hundreds of models behind one key.

`AsyncClient` is for asynchronous code, `Client` is the same for synchronous code. Both have
`generate_text`, which returns a whole answer, and `stream_text`, which returns it chunk by chunk.
"""

from __future__ import annotations

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
from ._limits import Limits
from ._local import local
from ._models import (
    Annotation,
    ChatCompletionChunk,
    ChatCompletionsResponse,
    Choice,
    ChoiceLogprobs,
    ChunkChoice,
    Delta,
    FunctionCall,
    Message,
    Meta,
    Pricing,
    ToolCall,
    ToolCallDelta,
    Usage,
)
from ._params import ChatCompletionsParams
from ._request import ChatCompletionsRequest
from ._retry import RetryPolicy
from ._stream import AsyncStream, Stream
from ._sync import Client
from ._timeout import Timeout
from ._version import __version__

__all__ = (
    "AIStatsError",
    "APIConnectionError",
    "APIResponseError",
    "APIStatusError",
    "APITimeoutError",
    "Annotation",
    "AsyncClient",
    "AsyncStream",
    "Attempt",
    "AuthenticationError",
    "BadRequestError",
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
    "Fault",
    "FunctionCall",
    "Headers",
    "InternalServerError",
    "Limits",
    "Message",
    "Meta",
    "NotFoundError",
    "PaymentRequiredError",
    "PermissionDeniedError",
    "Pricing",
    "RateLimitError",
    "RequestValidationError",
    "RetryPolicy",
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
    "local",
)

# What users see in reprs and tracebacks is where they import it from.
for _member in [globals()[name] for name in __all__]:
    if isinstance(_member, type):
        _member.__module__ = __name__
