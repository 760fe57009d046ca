"""
What a body is, by its first bytes, and in which charset.
"""

from __future__ import annotations

import json
from typing import Any

import pytest
from reading import read, split
from servers import DONE, OPENING, STOP, completion, delta, sse

import aistats
from aistats._exchange import Exchange
from aistats._views.completion import ChatCompletionsResponse
from aistats._wire.answer import completion_from
from aistats._wire.body_kind import is_event_stream, to_utf8
from aistats._wire.decoder import StreamDecoder

BOM = b"\xef\xbb\xbf"
JSON = json.dumps(completion("Hi")).encode()
STORY = OPENING + delta("Hi") + STOP + DONE


@pytest.mark.parametrize(
    "content_type", ["application/json", "text/event-stream", "text/plain", ""]
)
@pytest.mark.parametrize("before", [b"", b"\n", b" \r\n\t", BOM, BOM + b"\n"])
@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (STORY, True),
        (b": comment\n\n" + STORY, True),
        (b"event: message\n" + STORY, True),
        (b"id: 1\n" + STORY, True),
        (b"retry: 5\n" + STORY, True),
        (JSON, False),
        (b"[1]", False),
        (b'"text"', False),
        (b"<!doctype html>", False),
    ],
)
def test_the_first_bytes_decide(content_type: str, before: bytes, body: bytes, expected: bool):
    """
    JSON, HTML and events show what they are, whatever the header says, and byte by byte too.
    """
    whole = before + body

    assert is_event_stream(whole, content_type) is expected
    answers = [is_event_stream(whole[:length], content_type) for length in range(1, len(whole))]
    assert set(answers) <= {None, expected}


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b"OK, it works", None),
        (b"datum: 1\n\n", None),
        (b"\x1f\x8bzipped", None),
        (b"\xff\xfe{\x00", None),
        (b"foo: unknown field\ndata: {}\n\n", None),
    ],
)
def test_else_the_header_decides(body: bytes, expected: None):
    """
    A body that begins with something else is what its header says.
    """
    assert is_event_stream(body, "text/event-stream") is True
    assert is_event_stream(body, "application/json") is False


@pytest.mark.parametrize("start", [b"", b"\n", b"\xef\xbb", b"dat", b"even", b"i"])
def test_more_is_needed(start: bytes):
    """
    A start that may become the name of a field does not show yet what it is.
    """
    assert is_event_stream(start, "application/json") is None


GREETING = json.dumps({"text": "Grüße, 世界"}, ensure_ascii=False)


@pytest.mark.parametrize(
    ("charset", "text"),
    [
        *(("iso-8859-1", "Grüße"), ("windows-1252", "Grüße - €"), ("utf-16", GREETING)),
        *(("utf-16-le", GREETING), ("shift_jis", "世界"), ("gb18030", GREETING), ("big5", "世界")),
        *(("euc-kr", "세계"), ("koi8-r", "мир"), ("utf-8", GREETING), ("UTF8", GREETING)),
    ],
)
def test_a_charset(charset: str, text: str):
    """
    Text in the charset of its header is read in it.
    """
    body = json.dumps(text, ensure_ascii=False).encode(charset)

    assert json.loads(to_utf8(body, charset)) == text


@pytest.mark.parametrize(
    "charset",
    [
        *(
            None,
            "",
            "utf-8",
            "no-such-charset",
            "idna",
            "punycode",
            "rot13",
            "hex",
            "zlib",
            "undefined",
        ),
        *("unicode_escape", "utf-7", "\x00", "x" * 1000, "ü", "ascii", "iso-8859-1", "utf-16"),
    ],
)
def test_utf8_stays_as_it_is(charset: str | None):
    """
    A body that is UTF-8 is never read in another charset, and a strange one changes nothing.
    """
    body = GREETING.encode()

    assert to_utf8(body, charset) is body
    broken = b'{"text": "\xff\xff\xff"}'
    if charset != "iso-8859-1":
        assert to_utf8(broken, charset) is broken


@pytest.mark.parametrize("before", [b"", BOM, b"\r\n", b": hello\n\n"])
def test_events_in_place_of_a_completion(before: bytes):
    """
    An event stream for which nobody asked is put together.
    """
    answer = completion_from(before + STORY, Exchange(status=200), b'{"model": "m"}')

    assert isinstance(answer, ChatCompletionsResponse)
    assert (answer.text, answer.finish_reason) == ("Hi", "stop")


@pytest.mark.parametrize(
    ("body", "request_body", "error"),
    [
        (OPENING + delta("Hi"), b"{}", aistats.StreamInterruptedError),
        (STORY[:-60], b"{}", aistats.StreamInterruptedError),
        (OPENING + delta("Hi") + STOP, b'{"n":2}', aistats.StreamInterruptedError),
        (sse({"error": {"code": 429, "message": "Slow."}}), b"{}", aistats.RateLimitError),
        (sse({"error": {"message": "Bad."}}), b"{}", aistats.StreamErrorEvent),
        (b": only comments\n\n", b"{}", aistats.StreamInterruptedError),
    ],
)
def test_events_that_are_no_whole_completion(
    body: bytes, request_body: bytes, error: type[aistats.AIStatsError]
):
    """
    Events that were cut, or report an error, never look like a whole answer.
    """
    with pytest.raises(error):
        completion_from(body, Exchange(status=200), request_body)


# -- lines of data without blank lines between them ----------------------------------------------


DENSE = STORY.replace(b"\n\n", b"\n")


@pytest.mark.parametrize("size", [1, 7, 100, 100_000])
@pytest.mark.parametrize(
    "body",
    [
        DENSE,
        DENSE.replace(b"\n", b"\r\n"),
        b": comment\n" + DENSE,
        b"event: message\nid: 1\n" + DENSE,
        DENSE.replace(b"data: ", b"data:"),
        OPENING + DENSE[len(OPENING) - 1 :],
        DENSE + b"\n",
        DENSE.rstrip(b"\n"),
    ],
)
def test_events_without_blank_lines(body: bytes, size: int):
    """
    Lines of data that are JSON each, but not together, are events.
    """
    reading = read(*split(body, size))

    assert [chunk.text for chunk in reading.chunks if chunk.text] == ["Hi"]
    assert reading.whole.finish_reason == "stop"


@pytest.mark.parametrize("size", [1, 100_000])
def test_events_without_blank_lines_that_are_cut(size: int):
    """
    A last line that was cut in such a stream does not make it whole.
    """
    dense = (OPENING + delta("Hi") + delta(" there")).replace(b"\n\n", b"\n")

    reading = read(*split(dense[:-10], size))

    assert isinstance(reading.error, aistats.StreamInterruptedError)
    assert reading.response is not None
    assert reading.response.text == "Hi"


def test_one_event_over_several_lines():
    """
    Lines of data that are JSON together stay one event (HTML standard, section 9.2.6).
    """
    text = json.dumps(json.loads(delta("Hi").removeprefix(b"data: ")), indent=1)
    event = "".join(f"data: {line}\n" for line in text.splitlines()).encode() + b"\n"

    reading = read(*split(OPENING + event + STOP + DONE, 50))

    assert [chunk.text for chunk in reading.chunks if chunk.text] == ["Hi"]
    assert reading.whole.finish_reason == "stop"


def test_lines_of_events_without_blank_lines():
    """
    Each line is handed out once.
    """
    decoder = StreamDecoder()
    decoder.receive_data(b": comment\n" + DENSE + b"\n")
    decoder.receive_data(b"")
    lines: list[bytes] = []
    event: Any
    while (event := decoder.next_event()) is not None:
        decoder.decode(event)
        lines += event.lines()

    assert lines == [b": comment", *DENSE.splitlines()]
