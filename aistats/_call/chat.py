"""
Chat completions: the operation, and its calls.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from .._errors import RequestValidationError
from .._options import CALL_OPTIONS, Timeout, split
from .._request.request import build_request
from .._views.completion import ChatCompletionsResponse
from .._wire.answer import completion_from
from .._wire.operation import Operation
from .call import Call
from .gateway import Gateway
from .headers import checked_query, header_faults
from .settings import retry_policy

if TYPE_CHECKING:
    from .._request.keywords import ChatRequest

__all__ = ("CHAT", "CHAT_STREAM", "chat_call")

CHAT: Final = Operation(
    "generate_text", "POST", "chat/completions", "application/json", completion_from
)
# In place of a stream the gateway may send JSON: a whole completion, or an error.
CHAT_STREAM: Final = Operation(
    "stream_text",
    "POST",
    "chat/completions",
    "text/event-stream, application/json",
    completion_from,
)


def chat_call(
    gateway: Gateway, request: ChatRequest | None, keywords: Mapping[str, Any], *, is_stream: bool
) -> Call[ChatCompletionsResponse]:
    """
    Return a chat completion that is checked and ready to be called.

    Args:
        gateway: The client's gateway.
        request: The request, or `None` where *keywords* has all of it.
        keywords: Parameters of the request, which win over *request*, and `CallOptions`.
        is_stream: Whether a stream is asked for.

    Raises:
        RequestValidationError: The request is wrong.
        ConfigurationError: An option is wrong, or the client has been closed.
    """
    gateway.check_open()
    options, params = split(keywords, CALL_OPTIONS)
    checked = build_request(request, params, stream=is_stream)
    extra_headers: Mapping[str, str | None] = options.get("extra_headers") or {}
    if extra_headers and (faults := header_faults("extra_headers", extra_headers)):
        raise RequestValidationError(faults)
    max_retries = options.get("max_retries")
    operation = CHAT_STREAM if is_stream else CHAT
    return Call(
        operation,
        gateway,
        body=checked.body(stream=is_stream, extra_body=options.get("extra_body")),
        headers={"Accept": operation.accept, **extra_headers},
        query=checked_query(options.get("extra_query")),
        timeout=Timeout.of(options["timeout"]) if "timeout" in options else gateway.timeout,
        policy=gateway.policy if max_retries is None else retry_policy(max_retries),
    )
