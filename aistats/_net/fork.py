"""
Resets loops, connections and locks in a forked child.

The child has its parent's memory, but not its threads.
"""

from __future__ import annotations

import os
import weakref
from typing import Any, Protocol

__all__ = ("inherit", "watch_forks")


class Forked(Protocol):
    """
    An object that a forked child can't use before a reset.
    """

    def reset_after_fork(self) -> None:
        """
        Reset the object. Called in the child, before other code runs there.
        """
        ...


def watch_forks(forked: Forked) -> None:
    """
    Call `reset_after_fork()` of *forked* in each forked child, until *forked* is collected.
    """
    _watched.add(forked)


def inherit(*parents: object) -> None:
    """
    Keep the parent's objects alive, unused. Collecting them would close connections that the parent
    still uses.
    """
    _inherited.append(parents)


_watched: weakref.WeakSet[Forked] = weakref.WeakSet()
_inherited: list[Any] = []


def _reset_all_after_fork() -> None:
    for forked in list(_watched):
        forked.reset_after_fork()


if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(after_in_child=_reset_all_after_fork)
