"""
Whether a body is an event stream, by what it begins with; headers are often wrong about it.
"""

from __future__ import annotations

import codecs
from typing import Final

__all__ = ("is_event_stream", "to_utf8")

_BOM: Final = codecs.BOM_UTF8
_BLANK: Final = b" \t\r\n"
_FIELDS: Final = (b"data:", b"event:", b"id:", b"retry:", b":")
_LONGEST_FIELD: Final = max(map(len, _FIELDS))
_CHARSETS: Final = ("iso8859", "cp", "utf-16", "utf-32", "shift_jis", "gb", "big5", "euc_", "koi8")
_JSON_OR_HTML: Final = (b"{", b"[", b'"', b"<")


def is_event_stream(start: bytes, content_type: str) -> bool | None:
    """
    Return whether a body that begins with *start* is an event stream; `None` if more of it is
    needed to tell.

    JSON and HTML show by their first character, and events by the name of a field. What begins with
    something else is what the header *content_type* says.
    """
    text = start.removeprefix(_BOM).lstrip(_BLANK)
    if text.startswith(_FIELDS):
        return True
    if text.startswith(_JSON_OR_HTML):
        return False
    is_short = _BOM.startswith(start) or any(field.startswith(text) for field in _FIELDS)
    return None if is_short else content_type == "text/event-stream"


def to_utf8(body: bytes, charset: str | None) -> bytes:
    """
    Return *body*, which a header says is text in *charset*, as UTF-8.

    JSON is UTF-8 (RFC 8259, section 8.1), whatever a header says. Only a body that is not is read
    in its charset. *body* itself is returned where that fails.
    """
    try:
        body.decode()
    except UnicodeDecodeError:
        pass
    else:
        return body
    try:
        # `codecs` also has what is no encoding of text.
        if charset and codecs.lookup(charset).name.startswith(_CHARSETS):
            return body.decode(charset).encode()
    except (LookupError, ValueError):
        pass
    return body
