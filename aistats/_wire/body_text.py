"""
Text for error messages, from bodies that may not be JSON.
"""

from __future__ import annotations

import re
from typing import Any

from .._views.json import parse_json

__all__ = ("SHOWN", "first_part", "is_page", "parsed_body", "text_of_page")

SHOWN = 500
"""Number of characters of a body that an error shows."""

# Comments, scripts and styles with their content, and all other tags.
_TAGS = r"(?is)<!--.*?(-->|$)|<(script|style)\b.*?(</\2|$)[^>]*>?|<[^<>]*(>|$)"

_PAGE = 16 * 1024


def first_part(body: bytes) -> str:
    """
    Return the beginning of *body* as text.
    """
    text = body[: 4 * SHOWN].decode("utf-8", "replace").strip()
    return text if len(text) <= SHOWN else text[:SHOWN] + "…"


def is_page(body: bytes) -> bool:
    """
    Return whether *body* looks like HTML or XML.
    """
    return body[:_PAGE].lstrip()[:1] == b"<"


def parsed_body(body: bytes) -> Any:
    """
    Return the value of *body*.

    Raises:
        ValueError: It isn't JSON.
    """
    # orjson allocates twelve times the size of the body before it parses the first byte.
    if is_page(body):
        raise ValueError("HTML is not JSON")
    return parse_json(body)


def text_of_page(body: bytes) -> str:
    """
    Return the text of the HTML page *body*, without the title if the first heading repeats it.

    Return `""` if *body* is not HTML.
    """
    if not is_page(body):
        return ""
    import html  # slow to load, and seldom needed

    page = body[:_PAGE].decode("utf-8", "replace")
    pieces = [
        " ".join(html.unescape(piece).split()) for piece in re.sub(_TAGS, "\0", page).split("\0")
    ]
    pieces = [piece for piece in pieces if piece]
    if len(pieces) > 1 and "<title" in page.lower():
        title, heading = pieces[:2]
        if title in heading or heading in title:
            pieces[:2] = [max(title, heading, key=len)]
    text = " ".join(pieces)
    return text if len(text) <= SHOWN else text[:SHOWN] + "…"
