"""
What is special about one operation of the gateway: where it is, and how its answer is read.

Credentials, attempts, limits and connections are the same for all operations, and know none of it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

import attrs

from .._exchange import Exchange

__all__ = ("Operation",)

T_co = TypeVar("T_co", covariant=True)


@attrs.frozen
class Operation(Generic[T_co]):
    """
    One operation of the gateway.
    """

    name: str
    """The method of the clients: `generate_text`."""
    method: str
    """The HTTP method: `POST`."""
    path: str
    """What follows the base URL: `chat/completions`."""
    accept: str
    """The `Accept` header: the media types that can be read."""
    read: Callable[[bytes, Exchange], T_co]
    """
    Returns the answer in the body of a response with a good status, or raises the error that the
    body is.
    """
