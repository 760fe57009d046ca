"""
Images and sounds in a request: what a part carries, and what is refused before anything is sent.
"""

from __future__ import annotations

import io
import re
from base64 import b64decode, b64encode
from pathlib import Path
from typing import Any

import pytest
from media import MEDIA
from servers import Gateway

import aistats
from aistats import RequestValidationError
from aistats._request.media import LONGEST_FILE

IMAGES = {"PNG": "png", "JPEG": "jpeg", "GIF": "gif", "WebP": "webp"}
SOUNDS = {"WAV": "wav", "MP3": "mp3", "FLAC": "flac"}

# Other beginnings of files that are known, or must not be taken for something else.
OGG = b"OggS\0\2" + bytes(22)
M4A = b"\0\0\0\x1cftypM4A \0\0\2\0M4A isom"
TAGGED_MP3 = b"ID3\4\0\0\0\0\0\0" + MEDIA["MP3"]


def parts_of(data: bytes, path: Path) -> list[Any]:
    """
    *data* in each form that holds bytes: themselves, files by path, and open files.
    """
    path.write_bytes(data)
    return [data, bytearray(data), memoryview(data), path, str(path), io.BytesIO(data)]


@pytest.mark.parametrize("kind", IMAGES)
def test_an_image_becomes_a_data_url(kind: str, tmp_path: Path):
    """Bytes and files give one part; the bytes decide its type, not the name of the file."""
    data = MEDIA[kind]
    path = tmp_path / "image.txt"
    url = f"data:image/{IMAGES[kind]};base64,{b64encode(data).decode()}"

    for source in parts_of(data, path):
        assert aistats.image(source) == {"type": "image_url", "image_url": {"url": url}}
    with path.open("rb") as file:
        part = aistats.image(file, detail="low")
    assert part["image_url"] == {"url": url, "detail": "low"}


@pytest.mark.parametrize(
    ("data", "format"),
    [
        *((MEDIA[kind], SOUNDS[kind]) for kind in SOUNDS),
        *((OGG, "ogg"), (M4A, "m4a"), (TAGGED_MP3, "mp3")),
    ],
)
def test_a_sound_becomes_base64(data: bytes, format: str, tmp_path: Path):  # noqa: A002
    """A sound is base64 with its format beside it, detected in its bytes."""
    sound = {"data": b64encode(data).decode(), "format": format}

    for source in parts_of(data, tmp_path / "sound"):
        assert aistats.audio(source) == {"type": "input_audio", "input_audio": sound}
    data_url = f"data:audio/x;base64,{sound['data']}"
    assert aistats.audio(data_url) == {"type": "input_audio", "input_audio": sound}


def test_sound_without_a_signature_is_named():
    """A format that is given is not detected."""
    part = aistats.audio(b"\0\1" * 8, format="pcm16")

    assert part["input_audio"] == {"data": b64encode(b"\0\1" * 8).decode(), "format": "pcm16"}


@pytest.mark.parametrize(
    "url", ["https://a.example/b", "http://a.example/b.png?x=1", "HTTPS://A.EXAMPLE/B"]
)
def test_a_url_is_passed_on(url: str):
    """An address is sent as it is, without a look at what is there."""
    assert aistats.image(url)["image_url"] == {"url": url}
    assert aistats.audio(url)["input_audio"] == {"url": url}
    assert aistats.audio(url, format="mp3")["input_audio"] == {"url": url, "format": "mp3"}


def test_a_data_url_of_an_image_is_passed_on():
    """A `data:` URL may have a type that is not detected."""
    assert aistats.image("data:image/heic;base64,AAAA")["image_url"] == {
        "url": "data:image/heic;base64,AAAA"
    }


def test_parts_are_sent(gateway: Gateway):
    """A request takes the parts, and they reach the gateway with all of their bytes."""
    content: list[Any] = [
        {"type": "text", "text": "What is this?"},
        aistats.image(MEDIA["JPEG"], detail="high"),
        aistats.audio(MEDIA["WAV"]),
    ]
    with aistats.Client("k" * 20, gateway.url) as client:
        client.generate_text(model="m", messages=[{"role": "user", "content": content}])

    sent = gateway.requests[0].json["messages"][0]["content"]
    assert sent == content
    assert b64decode(sent[1]["image_url"]["url"].partition(",")[2]) == MEDIA["JPEG"]
    assert b64decode(sent[2]["input_audio"]["data"]) == MEDIA["WAV"]


# --- what is refused ---

UTF_16 = "hello".encode("utf-16")
MATROSKA = b"\x1aE\xdf\xa3" + bytes(8)
HEIC = b"\0\0\0\x18ftypheic\0\0\0\0"

# Bytes, and the hint of `image` and of `audio`.
BAD_BYTES: list[tuple[bytes, str, str]] = [
    (b"", "The data is empty; ", "The data is empty; "),
    (b"hello, world", "The data is text: save it as PNG or JPEG", "The data is text: save it"),
    ("schön ".encode() * 500, "The data is text: ", "The data is text: "),
    (b64encode(MEDIA["PNG"]), "The data is text: ", "The data is text: "),
    (b"<!DOCTYPE html><title>404", "The data is an HTML page: ", "The data is an HTML page: "),
    (b'<?xml version="1.0"?><svg/>', "The data is SVG: ", "The data is SVG: "),
    (MEDIA["AVIF"], "The data is AVIF: ", "The data is AVIF: "),
    (MEDIA["TIFF"], "The data is TIFF: ", "The data is TIFF: "),
    (HEIC, "The data is HEIC: save it as PNG or JPEG first.", "The data is HEIC: "),
    (b"%PDF-1.7\n", "The data is PDF: ", "The data is PDF: "),
    (MATROSKA, "The data is WebM", "The data is WebM or Matroska: save it as WAV or MP3 first."),
    (b"\0\0\0\x18ftypisom\0\0\0\0", "The data is MP4: ", "The data is MP4: "),
    (b"RIFF\0\0\0\0AVI LIST", "The data is AVI: ", "The data is AVI: "),
    (b"\0\1\2\3" * 9, "The data has no known signature: ", 'signature: write format="pcm16"'),
    (UTF_16, "The data has no known signature: ", "The data has no known signature: "),
    (b"\xff\xf1\x50\x80", "The data has no known signature: ", "The data has no known signature: "),
    (b"12345678WEBP", "The data is text: ", "The data is text: "),
]
WRONG_FUNCTION = [
    *((aistats.audio, MEDIA[kind], "write aistats.image(...)") for kind in IMAGES),
    *((aistats.image, MEDIA[kind], "write aistats.audio(...)") for kind in SOUNDS),
]


def refusal(make: Any, source: Any, **options: Any) -> str:
    """
    The error of a source that makes no part.
    """
    with pytest.raises(RequestValidationError) as caught:
        make(source, **options)
    (fault,) = caught.value.faults
    assert fault.path == make.__name__
    return str(caught.value)


@pytest.mark.parametrize(("data", "of_image", "of_audio"), BAD_BYTES)
def test_bytes_that_are_no_image_or_sound(
    data: bytes, of_image: str, of_audio: str, tmp_path: Path
):
    """Bytes of another type are refused by what they are, in whatever form they come."""
    for source in parts_of(data, tmp_path / "file.png"):
        assert of_image in refusal(aistats.image, source)
    for source in parts_of(data, tmp_path / "file.mp3"):
        assert of_audio in refusal(aistats.audio, source)


@pytest.mark.parametrize(("make", "data", "hint"), WRONG_FUNCTION)
def test_an_image_is_no_sound(make: Any, data: bytes, hint: str):
    """An image given as sound is sent to the right function, and the other way round."""
    assert hint in refusal(make, data)


@pytest.mark.parametrize("make", [aistats.image, aistats.audio])
@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("missing.png", "No such file or directory: 'missing.png'."),
        (Path("missing.png"), "No such file or directory: 'missing.png'."),
        (".", "Is a directory: '.'."),
        ("file:///tmp/a.png", "Write the path without file://."),
        ("s3://bucket/a.png", "Write an https URL."),
        ("iVBORw0KGgo" * 1000, "Write base64.b64decode(text) for base64 text."),
        ("a\0b", "Write base64.b64decode(text)"),
        (io.StringIO("x"), 'Write open(path, "rb").'),
        (None, "path), or its bytes."),
        (3, "path), or its bytes."),
        ({"url": "https://a.example"}, "path), or its bytes."),
        ("data:text/plain;base64,AAAA", ";base64,"),
        ("data:audio/wav;base64,A", ";base64,"),
    ],
)
def test_what_is_no_source(make: Any, source: Any, reason: str, monkeypatch: Any, tmp_path: Path):
    """What can't be read is refused with the reason."""
    monkeypatch.chdir(tmp_path)

    assert reason in refusal(make, source)


class Upload:
    """
    A file as an asynchronous web framework hands it over.
    """

    async def read(self, size: int = -1) -> bytes:
        return b""


def test_a_file_that_is_read_asynchronously():
    """A file whose `read` has to be awaited is refused, and its coroutine is closed."""
    assert "Write aistats.image(await file.read())." in refusal(aistats.image, Upload())


def test_an_unreadable_file(tmp_path: Path):
    """A file that can't be opened is refused with the system's reason."""
    path = tmp_path / "a.png"
    path.write_bytes(MEDIA["PNG"])

    assert "Not a directory" in refusal(aistats.image, path / "b.png")


def test_a_file_that_was_just_written_is_at_its_end():
    """An open file is read from where it is."""
    file = io.BytesIO()
    file.write(MEDIA["PNG"])

    assert "a file that was just written is at its end" in refusal(aistats.image, file)


@pytest.mark.parametrize("kind", ["PNG", "WAV"])
def test_the_limit_of_size(kind: str, tmp_path: Path):
    """A file as large as a request may be passes, and one byte more is refused."""
    make: Any = aistats.image if kind == "PNG" else aistats.audio
    data = MEDIA[kind].ljust(LONGEST_FILE, b"\0")

    request = aistats.ChatCompletionsRequest(
        model="m", messages=[{"role": "user", "content": [make(data)]}]
    )
    assert 2**24 - 2**17 < len(request.body(stream=True)) <= 2**24
    for source in parts_of(data + b"\0", tmp_path / "file"):
        message = refusal(make, source)
        assert re.search(r"expected (image|audio) data of at most 12\.5 MB", message)
        assert len(message) < 500


def test_the_limit_of_size_holds_for_what_is_not_detected():
    """Neither a `data:` URL nor a given format gets around the limit."""
    data = bytes(LONGEST_FILE + 1)
    encoded = b64encode(data).decode()

    assert "at most 12.5 MB" in refusal(aistats.image, f"data:image/bmp;base64,{encoded}")
    assert "at most 12.5 MB" in refusal(aistats.audio, f"data:audio/x;base64,{encoded}")
    assert "at most 12.5 MB" in refusal(aistats.audio, data, format="pcm16")
