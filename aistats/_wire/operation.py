"""
The description of one operation of the gateway: its path, and how its response is read.

Credentials, attempts, limits and connections are the same for all operations.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

from .._exchange import Exchange

__all__ = ("Operation",)

T_co = TypeVar("T_co", covariant=True)


class Operation(Generic[T_co]):
    """
    One operation of the gateway.

    Args:
        name: The method of the clients: `generate_text`.
        method: The HTTP method: `POST`.
        path: The path below the base URL: `chat/completions`.
        accept: The `Accept` header: the media types that can be read.
        read: Gets the body of a response with status 200, the record of the call, and the body of
            the request. Returns the result, or raises the error that the body reports.
    """

    __slots__ = ("accept", "method", "name", "path", "read")

    # A plain class: attrs would add half a millisecond to the import.
    def __init__(
        self,
        name: str,
        method: str,
        path: str,
        accept: str,
        read: Callable[[bytes, Exchange, bytes], T_co],
    ) -> None:
        self.name = name
        self.method = method
        self.path = path
        self.accept = accept
        self.read = read
