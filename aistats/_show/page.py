"""
Escapes text for an HTML page, and has the styles that several parts of a page share.
"""

from __future__ import annotations

import re
from typing import Final

__all__ = ("AS_WRITTEN", "BOX", "CELL", "CODE", "LONGEST", "SHADE", "capped", "escape")

LONGEST: Final = 100_000
"""How many characters of a text are shown. A page with more gets slow."""

BOX: Final = "border:1px solid rgba(128,128,128,.35);border-radius:4px"
AS_WRITTEN: Final = "white-space:pre-wrap;overflow-wrap:anywhere"
CODE: Final = "font-family:ui-monospace,SFMono-Regular,Menlo,Consolas,monospace;font-size:.92em"
SHADE: Final = "background:rgba(128,128,128,.13)"
CELL: Final = "padding:.15em .8em .15em 0;text-align:left;vertical-align:top;border:0"

# Control characters other than tab and line feed, marks that change the direction of the text
# after them, and half surrogates, which no page can hold.
_UNSEEN = "[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]"


def escape(text: object) -> str:
    """
    Return *text* as HTML that shows it. Characters that can't be seen are shown by their numbers.
    """
    lines = str(text).replace("\r\n", "\n")
    # The pattern is compiled at first use, because this would slow the import down.
    shown = re.sub(_UNSEEN, lambda found: f"[U+{ord(found[0]):04X}]", lines)
    import html  # with the names of all characters, which only a page needs

    return html.escape(shown, quote=True)


def capped(text: str) -> str:
    """
    Return the first 100,000 characters of *text*, and how many more there are.
    """
    if len(text) <= LONGEST:
        return text
    return f"{text[:LONGEST]}… {len(text) - LONGEST:,} more characters"
