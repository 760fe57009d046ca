"""
Separates events that a server sent without blank lines between them.
"""

from __future__ import annotations

import itertools

from .._views.json import parse_json
from .sse import Event

__all__ = ("separate_events",)


def separate_events(event: Event) -> list[bytes] | None:
    """
    Return the blocks of lines of several events, if each data line of *event* is valid JSON, but
    all of them together are not. Otherwise return `None`.

    By the rules of event streams, data lines without blank lines between them are one event.
    """
    if _is_json(event.data or b""):
        return None
    lines = event.lines()
    starts = [at for at, line in enumerate(lines) if line.startswith(b"data:")]
    # Without a blank line after it, the last data line may be truncated.
    checked = starts if event.whole else starts[:-1]
    if not all(_is_json(lines[at].removeprefix(b"data:").strip()) for at in checked):
        return None
    bounds = [0, *starts[1:], len(lines)]
    return [b"\n".join(lines[low:high]) for low, high in itertools.pairwise(bounds)]


def _is_json(text: bytes) -> bool:
    if text == b"[DONE]":
        return True
    try:
        parse_json(text)
    except ValueError:
        return False
    return True
