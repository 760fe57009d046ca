"""
What is special about one operation of the gateway: where it is, and how its answer is read.

Credentials, attempts, limits and connections are the same for all operations, and know none of it.
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
        path: What follows the base URL: `chat/completions`.
        accept: The `Accept` header: the media types that can be read.
        read: Returns the answer in the body of a response with a good status, or raises the error
            that the body is. It also gets the record of the call and the request's body.
    """

    __slots__ = ("accept", "method", "name", "path", "read")

    # Plain, as other internal classes: attrs would take half a millisecond of the import.
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
