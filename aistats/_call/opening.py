"""
A stream that is being opened, and what is there once it is open.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any, Protocol, TypeVar

import attrs

from .._exchange import Exchange
from .._wire.decoder import StreamDecoder

__all__ = ("OpenStream", "OpenedStream", "Opening", "Receiver", "RunOnLoop")

T = TypeVar("T")


class Receiver(Protocol):
    """
    Source of a stream's bytes.
    """

    async def receive(self, *, silence: float = 0.0) -> bytes:
        """
        Return all bytes that are ready, and wait for some if none are; `b""` at the end.

        *silence* is the number of seconds already spent waiting; it counts towards the idle limit.
        """
        ...

    def close_soon(self, *, grace: float = 0.0) -> None:
        """
        Close the connection, from any thread, after *grace* seconds in which it may become idle.
        """
        ...


class RunOnLoop(Protocol):
    """
    Runs a coroutine function on the background loop.
    """

    def __call__(self, step: Callable[[], Coroutine[Any, Any, T]], /) -> T:
        """
        Run *step* there, and return its result.
        """
        ...


class Opening:
    """
    A stream that is being opened, and may be given up meanwhile.
    """

    __slots__ = ("break_off", "is_given_up")

    def __init__(self) -> None:
        self.is_given_up = False
        self.break_off: Callable[[], None] = _do_nothing
        """Interrupts the opening, from any thread."""

    def give_up(self) -> None:
        """
        Stop opening the stream; from any thread.
        """
        self.is_given_up = True
        self.break_off()


def _do_nothing() -> None:
    pass


@attrs.define(eq=False, repr=False)
class OpenedStream:
    """
    A stream whose answer has begun. The decoder has its first bytes.
    """

    receiver: Receiver
    decoder: StreamDecoder
    exchange: Exchange
    finish: Callable[[], None]
    """To be called once when the stream has ended, however it ended."""


OpenStream = Callable[[Opening], Coroutine[Any, Any, OpenedStream | None]]
"""Opens a stream; `None` if the opening was given up."""
