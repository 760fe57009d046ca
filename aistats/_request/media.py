"""
Content parts for images and audio. Detects formats by the signature of the bytes.
"""

from __future__ import annotations

import binascii
import codecs
import re
from base64 import b64decode, b64encode
from typing import Final

from .._errors import Fault, RequestValidationError
from .params.content import ImagePart, InputAudioPart

__all__ = (
    "LONGEST_FILE",
    "audio_from_bytes",
    "audio_from_url",
    "image_from_bytes",
    "image_from_url",
    "is_url",
    "refused",
)

_LONGEST_REQUEST = 16 * 1024 * 1024
"""The gateway's limit of a request's JSON, in bytes. Above it, it answers 413."""
LONGEST_FILE: Final = (_LONGEST_REQUEST - 64 * 1024) // 4 * 3
"""Most bytes of a file. Base64 adds a third, and the rest of the request needs some room."""

_IMAGES = {"PNG": "png", "JPEG": "jpeg", "GIF": "gif", "WebP": "webp"}
_SOUNDS = {"WAV": "wav", "MP3": "mp3", "FLAC": "flac", "M4A": "m4a", "Ogg": "ogg"}
_EXPECTED = {"image": "a PNG, JPEG, GIF or WebP image", "audio": "WAV, MP3, FLAC, M4A or Ogg audio"}

# Formats that can't be sent are listed so that the error can name them.
_SIGNATURES = (
    (0, b"\x89PNG\r\n\x1a\n", "PNG"),
    (0, b"\xff\xd8\xff", "JPEG"),
    (0, b"GIF87a", "GIF"),
    (0, b"GIF89a", "GIF"),
    (8, b"WEBP", "WebP"),
    (8, b"WAVE", "WAV"),
    (8, b"AVI ", "AVI"),
    (0, b"ID3", "MP3"),
    (0, b"fLaC", "FLAC"),
    (0, b"OggS", "Ogg"),
    (4, b"ftypM4A", "M4A"),
    (4, b"ftypM4B", "M4A"),
    (4, b"ftypheic", "HEIC"),
    (4, b"ftypheix", "HEIC"),
    (4, b"ftypmif1", "HEIC"),
    (4, b"ftypavif", "AVIF"),
    (4, b"ftyp", "MP4"),
    (0, b"\x1aE\xdf\xa3", "WebM or Matroska"),
    (0, b"%PDF-", "PDF"),
    (0, b"II*\x00", "TIFF"),
    (0, b"MM\x00*", "TIFF"),
    (0, b"FORM", "AIFF"),
    (0, b"#!AMR", "AMR"),
)
# The first two bytes of a frame of MPEG audio, layer III: versions 1, 2 and 2.5, each without and
# with a checksum. UTF-16 text and AAC begin otherwise.
_MP3_FRAMES = {b"\xff" + bytes([second]) for second in b"\xfb\xfa\xf3\xf2\xe3\xe2"}
_UTF_8 = codecs.getincrementaldecoder("utf-8")


def is_url(text: str) -> bool:
    """
    Return whether *text* is an address that a part can carry: `https:`, `http:` or `data:`.
    """
    return re.match(r"(https?://|data:)", text, re.IGNORECASE) is not None


def image_from_url(url: str, detail: str | None) -> ImagePart:
    """
    Return the part for the image at *url*.

    Raises:
        RequestValidationError: A `data:` URL is no image, or too long.
    """
    if _is_data_url(url):
        if url[:11].lower() != "data:image/":
            raise refused("image", url, 'Write the type of the image: "data:image/png;base64,...".')
        _check_length("image", url, (len(url) - url.find(",") - 1) // 4 * 3)
    part: ImagePart = {"type": "image_url", "image_url": {"url": url}}
    if detail is not None:
        part["image_url"]["detail"] = detail
    return part


def image_from_bytes(data: bytes, detail: str | None) -> ImagePart:
    """
    Return the part for the image *data*.

    Raises:
        RequestValidationError: It is not an image that can be sent, or too long.
    """
    subtype = _checked_type("image", data, _IMAGES)
    return image_from_url(f"data:image/{subtype};base64,{b64encode(data).decode()}", detail)


def audio_from_url(url: str, format: str | None) -> InputAudioPart:  # noqa: A002 - the wire's name
    """
    Return the part for the sound at *url*.

    Raises:
        RequestValidationError: A `data:` URL is no sound that can be sent, or too long.
    """
    if _is_data_url(url):
        return audio_from_bytes(_decoded(url), format)
    part: InputAudioPart = {"type": "input_audio", "input_audio": {"url": url}}
    if format is not None:
        part["input_audio"]["format"] = format
    return part


def audio_from_bytes(data: bytes, format: str | None) -> InputAudioPart:  # noqa: A002
    """
    Return the part for the sound *data*.

    Args:
        data: The sound.
        format: Its format, for one that has no signature, such as `pcm16`; else it is detected.

    Raises:
        RequestValidationError: It is no sound that can be sent, or too long.
    """
    if format is None:
        format = _checked_type("audio", data, _SOUNDS)  # noqa: A001
    _check_length("audio", data, len(data))
    sound = b64encode(data).decode()
    return {"type": "input_audio", "input_audio": {"data": sound, "format": format}}


def refused(what: str, source: object, hint: str, expected: str = "") -> RequestValidationError:
    """
    Return the error for a *source* that can't be a content part.
    """
    return RequestValidationError([Fault(what, source, expected or _EXPECTED[what], hint)])


def _is_data_url(url: str) -> bool:
    return url[:5].lower() == "data:"


def _decoded(url: str) -> bytes:
    head, _, encoded = url.partition(",")
    try:
        if head.lower().startswith("data:audio/") and head.lower().endswith(";base64"):
            return b64decode(encoded, validate=True)
    except binascii.Error:
        pass
    raise refused("audio", url, 'Write the sound in base64: "data:audio/wav;base64,...".')


def _check_length(what: str, source: object, length: int) -> None:
    if length > LONGEST_FILE:
        raise refused(
            what,
            source,
            "The gateway takes requests of at most 16 MiB, and base64 adds a third: make it "
            "smaller, or write an https URL.",
            f"{what} data of at most {LONGEST_FILE / 1e6:.1f} MB",
        )


def _checked_type(what: str, data: bytes, types: dict[str, str]) -> str:
    if not data:
        raise refused(what, data, "The data is empty; a file that was just written is at its end.")
    _check_length(what, data, len(data))
    kind = _type_of(data)
    if kind in types:
        return types[kind]
    others = {**dict.fromkeys(_IMAGES, "image"), **dict.fromkeys(_SOUNDS, "audio")}
    if kind in others:
        raise refused(what, data, f"The data is {kind}: write aistats.{others[kind]}(...).")
    if kind:
        save = "PNG or JPEG" if what == "image" else "WAV or MP3"
        raise refused(what, data, f"The data is {kind}: save it as {save} first.")
    instead = '"data:image/bmp;base64,..."' if what == "image" else 'format="pcm16"'
    hint = f"The data has no known signature: write {instead} if the model takes it."
    raise refused(what, data, hint)


def _type_of(data: bytes) -> str:
    for offset, signature, kind in _SIGNATURES:
        is_riff = offset != 8 or data.startswith(b"RIFF")
        if is_riff and data.startswith(signature, offset):
            return kind
    if data[:2] in _MP3_FRAMES:
        return "MP3"
    return _kind_of_text(data[:1024])


def _kind_of_text(head: bytes) -> str:
    try:
        text = _UTF_8().decode(head).lower()  # The last character may be cut.
    except UnicodeDecodeError:
        return ""
    if re.search(r"[\x00-\x08\x0e-\x1f]", text):
        return ""
    if "<svg" in text:
        return "SVG"
    return "an HTML page" if "<html" in text or "<!doctype html" in text else "text"
