"""
What a body that is no JSON says, for messages: the text of a page, the first part of the rest.
"""

from __future__ import annotations

import re
from typing import Any

from .._views.json import parse_json

__all__ = ("SHOWN", "first_part", "is_page", "parsed_body", "text_of_page")

SHOWN = 500
"""Characters of a body that an error shows."""

# Comments, scripts and styles, and every other tag.
_TAGS = r"(?is)<!--.*?(-->|$)|<(script|style)\b.*?(</\2|$)[^>]*>?|<[^<>]*(>|$)"

_PAGE = 16 * 1024


def first_part(body: bytes) -> str:
    text = body[: 4 * SHOWN].decode("utf-8", "replace").strip()
    return text if len(text) <= SHOWN else text[:SHOWN] + "…"


def is_page(body: bytes) -> bool:
    return body[:_PAGE].lstrip()[:1] == b"<"


def parsed_body(body: bytes) -> Any:
    # orjson takes memory for twelve times the body before it looks at it.
    if is_page(body):
        raise ValueError("HTML is not JSON")
    return parse_json(body)


def text_of_page(body: bytes) -> str:
    """
    Return what a page of HTML says; its title only where its first words don't repeat it.

    Return `""` where *body* is no page.
    """
    if not is_page(body):
        return ""
    import html  # with all names of characters, which only a page needs

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
