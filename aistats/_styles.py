"""
What the wrong calling style gets: `for` on what needs `async for`, or `with` on the wrong client.

Python's own messages ("object is not iterable") name neither the right style nor the other client.
"""

from __future__ import annotations

from typing import Any, NoReturn

__all__ = ("wrong_style",)


def wrong_style(message: str) -> Any:
    """
    Return a special method that raises a `TypeError` with *message*.

    Classes define it where type checkers don't look, so that they report the wrong style, too.
    """

    def refuse(*_: object) -> NoReturn:
        raise TypeError(message)

    return refuse
