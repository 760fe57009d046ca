"""
`image` and `audio`: content parts from files, bytes and addresses.
"""

from __future__ import annotations

import inspect
import os
import re
from pathlib import Path
from typing import Any, Literal, Protocol

from ._request.media import (
    LONGEST_FILE,
    audio_from_bytes,
    audio_from_url,
    image_from_bytes,
    image_from_url,
    is_url,
    refused,
)
from ._request.params.content import ImagePart, InputAudioPart

__all__ = ("audio", "image")


class _Readable(Protocol):
    def read(self, size: int, /) -> bytes: ...


Source = str | os.PathLike[str] | bytes | bytearray | memoryview | _Readable

Detail = Literal["auto", "low", "high", "original"] | str
Format = Literal["wav", "mp3", "flac", "m4a", "ogg", "pcm16", "pcm24"] | str

_SOURCES = "the path of a file, bytes, or an https URL"
_LONGEST_PATH = 4096
_LONGEST_SHOWN = 200


def image(source: Source, *, detail: Detail | None = None) -> ImagePart:
    """
    Return a content part with an image, for the `content` of a message.

    A file is read at once. A PNG, JPEG, GIF or WebP image is recognized by its first bytes, and
    sent inside of the request.

    Args:
        source: The path of a file, its bytes, a file that is open in binary mode, or a URL. A URL
            is passed on, so the provider fetches it.
        detail: How closely the model looks: "auto", "low", "high" or "original".

    Raises:
        RequestValidationError: There is no such file, it is no such image, or it is too large.
    """
    if isinstance(source, str) and is_url(source):
        return image_from_url(source, detail)
    return image_from_bytes(_read("image", source), detail)


def audio(
    source: Source,
    *,
    format: Format | None = None,  # noqa: A002 - the wire's name
) -> InputAudioPart:
    """
    Return a content part with sound, for the `content` of a message.

    A file is read at once. WAV, MP3, FLAC, M4A and Ogg are recognized by their first bytes, and
    sent inside of the request.

    Args:
        source: The path of a file, its bytes, a file that is open in binary mode, or a URL. A URL
            is passed on, so the provider fetches it.
        format: The format of sound that has no signature: "pcm16" or "pcm24".

    Raises:
        RequestValidationError: There is no such file, it is no such sound, or it is too large.
    """
    if isinstance(source, str) and is_url(source):
        return audio_from_url(source, format)
    return audio_from_bytes(_read("audio", source), format)


def _read(what: str, source: Source) -> bytes:
    if isinstance(source, bytes | bytearray | memoryview):
        return bytes(source)
    if isinstance(source, str):
        _check_path(what, source)
    if isinstance(source, str | os.PathLike):
        return _read_path(what, source)
    if not callable(getattr(source, "read", None)):
        raise refused(what, source, f"Write aistats.{what}(path), or its bytes.", _SOURCES)
    data: Any = source.read(LONGEST_FILE + 1)
    if inspect.iscoroutine(data):  # an upload of an asynchronous web framework
        data.close()
        raise refused(what, source, f"Write aistats.{what}(await file.read()).", _SOURCES)
    if not isinstance(data, bytes):
        raise refused(what, source, 'Write open(path, "rb").', "a file that is open in binary mode")
    return data


def _check_path(what: str, text: str) -> None:
    if text.lower().startswith("file:"):
        raise refused(what, text, "Write the path without file://.", _SOURCES)
    if re.match(r"[a-z][a-z0-9+.-]+://", text, re.IGNORECASE):
        raise refused(what, text, "Write an https URL.", _SOURCES)
    if len(text) > _LONGEST_PATH or "\0" in text:
        hint = "Write base64.b64decode(text) for base64 text."
        raise refused(what, text, hint, _SOURCES)


def _read_path(what: str, path: str | os.PathLike[str]) -> bytes:
    try:
        with Path(path).open("rb") as file:
            return file.read(LONGEST_FILE + 1)
    except OSError as error:
        reason = error.strerror or type(error).__name__
    shown = os.fspath(path)[:_LONGEST_SHOWN]
    raise refused(what, path, f"{reason}: {shown!r}.", _SOURCES)
