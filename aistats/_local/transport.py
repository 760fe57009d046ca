"""
How a request is sent to a local model: as to the gateway, in the terms of llama.cpp's server.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from .._net.transport import Transport

if TYPE_CHECKING:
    from .._exchange import AttemptTimes
    from .._net.response import Response
    from .._net.sending import PreparedHeaders
    from .._options import Timeout

__all__ = ("LocalTransport", "in_llama_terms")


class LocalTransport(Transport):
    """
    Sends requests to a server of `aistats.local`.
    """

    async def send(
        self,
        method: str,
        path: str,
        body: bytes,
        headers: PreparedHeaders,
        query: Mapping[str, str],
        timeout: Timeout,
        remaining: float | None,
        trace: AttemptTimes,
    ) -> Response:
        """
        Send one request. See `Transport.send`.
        """
        body = in_llama_terms(body)
        return await super().send(method, path, body, headers, query, timeout, remaining, trace)


def in_llama_terms(body: bytes) -> bytes:
    """
    Return the request *body* as llama.cpp's server understands it.

    The server ignores `max_output_tokens`: it is sent as `max_tokens`. The server counts the tokens
    of a stream only on request, the gateway always: they are asked for, unless *body* has
    `stream_options` of its own.
    """
    request: dict[str, Any] = json.loads(body)
    if "max_output_tokens" in request:
        request["max_tokens"] = request.pop("max_output_tokens")
    if request.get("stream"):
        request.setdefault("stream_options", {"include_usage": True})
    return json.dumps(request).encode()
