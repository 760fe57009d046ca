"""
What becomes of loops, connections and locks in a forked child, which has its parent's memory but
not its threads.
"""

from __future__ import annotations

import os
import weakref
from typing import Any, Protocol

__all__ = ("inherit", "watch_forks")


class Forked(Protocol):
    """
    Something that a forked child can't use as it is.
    """

    def begin_anew(self) -> None:
        """
        Be as new; called in the child, before anything else runs there.
        """
        ...


def watch_forks(forked: Forked) -> None:
    """
    Have `begin_anew()` of *forked* called in each forked child, for as long as somebody has it.
    """
    _watched.add(forked)


def inherit(*parents: object) -> None:
    """
    Keep what is the parent's, and never use it: to collect it would be to close it, and closing
    would speak to the parent's peers.
    """
    _inherited.append(parents)


_watched: weakref.WeakSet[Forked] = weakref.WeakSet()
_inherited: list[Any] = []


def _begin_anew() -> None:
    for forked in list(_watched):
        forked.begin_anew()


if hasattr(os, "register_at_fork"):  # Windows knows no forks
    os.register_at_fork(after_in_child=_begin_anew)
