"""
Detects event streams by the beginning of a body, because headers are often wrong, and decodes
bodies in other charsets.
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
    Return whether a body that begins with *start* is an event stream; `None` if *start* is too
    short to decide.

    The first character identifies JSON and HTML, and a field name identifies events. For anything
    else, the header *content_type* decides.
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
    Return *body*, for which a header names *charset*, as UTF-8.

    JSON is UTF-8 (RFC 8259, section 8.1). So *charset* is only used if *body* is not valid UTF-8.
    If *charset* fails as well, return *body* unchanged.
    """
    try:
        body.decode()
    except UnicodeDecodeError:
        pass
    else:
        return body
    try:
        # `codecs` also has codecs that are not text encodings, such as zip.
        if charset and codecs.lookup(charset).name.startswith(_CHARSETS):
            return body.decode(charset).encode()
    except (LookupError, ValueError):
        pass
    return body
