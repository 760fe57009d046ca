"""
The decoder of server-sent events: what it makes of any bytes, when, and at what cost.

The rules are those of the HTML standard, section 9.2.6, with the two deviations that `_sse` names.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import attrs
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from aistats._wire.sse import Event, EventTooLongError, SSEDecoder

BOM = b"\xef\xbb\xbf"


def drain(decoder: SSEDecoder) -> Iterator[Event]:
    """
    The events that wait in *decoder*.
    """
    while (event := decoder.next_event()) is not None:
        yield event


def decode(*reads: bytes, end: bool = True) -> list[Event]:
    """
    The events of a stream that arrives in *reads*, taken after each of them, and that then ends.
    """
    decoder = SSEDecoder()
    events: list[Event] = []
    for data in (*reads, b"") if end else reads:
        decoder.receive_data(data)
        events += drain(decoder)
    return events


def byte_by_byte(stream: bytes) -> list[bytes]:
    """
    The reads of one byte that a *stream* may come in.
    """
    return [stream[at : at + 1] for at in range(len(stream))]


# -- the standard, taken at its word ------------------------------------------------------------


@attrs.define
class Told:
    """
    An event as the standard tells it: in characters.
    """

    lines: list[str]
    data: str | None
    type: str
    whole: bool


def told(event: Event) -> Told:
    """
    The *event* of the decoder in characters.
    """

    def text(of: bytes) -> str:
        return of.decode("utf-8", "replace")

    data = None if event.data is None else text(event.data)
    return Told([text(line) for line in event.lines()], data, text(event.type), event.whole)


def standard_lines(stream: bytes) -> tuple[list[str], str]:
    """
    The lines of a *stream* that have ended, and the characters behind the last end of a line.
    """
    text = stream.removeprefix(BOM).decode("utf-8", "replace")
    lines: list[str] = []
    line = ""
    at = 0
    while at < len(text):
        if text[at] == "\r" and text[at + 1 : at + 2] == "\n":
            at += 1
        if text[at] in "\r\n":
            lines.append(line)
            line = ""
        else:
            line += text[at]
        at += 1
    return lines, line


def standard(stream: bytes, *, end: bool = True) -> list[Told]:
    """
    The events of a *stream*, by the standard's steps, one line at a time.

    An event without data is kept, and so is a last one without its blank line, if the stream has
    come to its *end*: these are the deviations.
    """
    lines, rest = standard_lines(stream)
    events: list[Told] = []
    block: list[str] = []
    data = kind = ""

    def dispatch(*, whole: bool) -> None:
        # The data buffer has a LF behind each line of data; without one, the standard drops the
        # event.
        events.append(Told(block, data[:-1] if data else None, kind or "message", whole))

    for line in lines if not (end and rest) else [*lines, rest]:
        if line:
            block.append(line)
        elif block:
            dispatch(whole=True)
            block, data, kind = [], "", ""
        if line.startswith(":"):
            continue
        field, colon, value = line.partition(":")
        if colon and value[:1] == " ":
            value = value[1:]
        if field == "data":
            data += value + "\n"
        elif field == "event":
            kind = value
    if end and block:
        dispatch(whole=False)
    return events


PIECES = [
    *(b"\n", b"\r", b"\r\n", b"\n\n", b"\r\r", b"\r\n\r\n"),
    *(b":", b" ", b"data", b"event", b"data:", b"data: ", b"event: ", b"event:ping"),
    *(b"id: 1", b"retry: 5", b": comment", b"DATA: ", b"data : ", b"datum: ", b"x", b"[DONE]"),
    *(BOM, BOM[:1], BOM[1:], b"\xff", b"\xe2\x82", b"\0"),
    # Characters that end a line elsewhere, and some of two, three and four bytes.
    *(each.encode() for each in ("\u2028", "\u2029", "\x85", "\x0b", "\x0c", "\x1c", "\xa0")),
    *(each.encode() for each in ("é", "€", "😀")),
]

streams = st.lists(st.sampled_from(PIECES), max_size=25).map(b"".join)


@st.composite
def cut(draw: st.DrawFn) -> list[bytes]:
    """
    A stream in any reads; none of them is empty, since that would be the end.
    """
    stream = draw(streams)
    at = sorted(draw(st.sets(st.integers(1, max(1, len(stream) - 1)))))
    reads = [stream[a:b] for a, b in zip([0, *at], [*at, len(stream)], strict=True)]
    return [data for data in reads if data]


quick = settings(deadline=None, max_examples=150)


@given(reads=cut())
@example(reads=[b"data: a\r", b"\n\r", b"\n", b"data: b\n\n"])
@example(reads=[BOM[:1], BOM[1:2], BOM[2:] + BOM + b"data: a\n\n"])
@example(reads=[BOM[:2]])
@example(reads=[b"\n", b"\n\n", b"data: a\n", b"\n\n\n", b"data: b"])
@example(reads=[b"data", b"\n", b"data\n\n", b"data:\n\n"])
@quick
def test_any_stream_in_any_reads(reads: list[bytes]):
    """
    Whatever arrives, and however it is cut, gives the events of the standard.
    """
    assert [told(event) for event in decode(*reads)] == standard(b"".join(reads))


@given(stream=streams)
@example(stream=b"data: a\r\r")
@example(stream=b"data: a\r\n\r")
@example(stream=b"data: a\n\r\n")
@quick
def test_an_event_is_there_as_soon_as_its_last_byte_is(stream: bytes):
    """
    After each byte, all events that have ended by then have been handed out, and no other.
    """
    decoder = SSEDecoder()
    events: list[Told] = []
    for received, data in enumerate(byte_by_byte(stream), 1):
        decoder.receive_data(data)
        events += [told(event) for event in drain(decoder)]
        assert events == standard(stream[:received], end=False)


@given(reads=cut())
@example(reads=[b": a comment"])
@quick
def test_has_event(reads: list[bytes]):
    """
    The decoder says that it has an event exactly when one waits whose data is not blank.
    """
    for end in range(len(reads) + 1):
        decoder = SSEDecoder()
        for data in (*reads[:end], b"") if end == len(reads) else reads[:end]:
            decoder.receive_data(data)

        assert decoder.has_event() is any(
            (event.data or b"").strip(b" \n") for event in drain(decoder)
        )


# -- one rule at a time -------------------------------------------------------------------------

FEEDS: dict[str, tuple[bytes, list[Event]]] = {
    "one line": (b"data: hi\n\n", [Event(b"data: hi", b"hi")]),
    "CRLF": (b"data: hi\r\n\r\n", [Event(b"data: hi", b"hi")]),
    "CR": (b"data: hi\r\r", [Event(b"data: hi", b"hi")]),
    "CR behind LF": (b"data: hi\n\r", [Event(b"data: hi", b"hi")]),
    "CRLF behind CR": (b"data: hi\r\r\n", [Event(b"data: hi", b"hi")]),
    "LF behind CRLF": (b"data: hi\r\n\n", [Event(b"data: hi", b"hi")]),
    "no space behind the colon": (b"data:hi\n\n", [Event(b"data:hi", b"hi")]),
    "two spaces behind the colon": (b"data:  hi \n\n", [Event(b"data:  hi ", b" hi ")]),
    "colons in the data": (b"data: a: b\n\n", [Event(b"data: a: b", b"a: b")]),
    "several lines of data": (
        b"data: a\ndata:b\r\ndata\n\n",
        [Event(b"data: a\ndata:b\ndata", b"a\nb\n")],
    ),
    "data that is empty": (b"data:\n\n", [Event(b"data:", b"")]),
    "a field with neither colon nor value": (b"data\n\n", [Event(b"data", b"")]),
    "a type": (b"event: error\ndata: hi\n\n", [Event(b"event: error\ndata: hi", b"hi", b"error")]),
    "a type behind the data": (
        b"data: hi\nevent:error\n\n",
        [Event(b"data: hi\nevent:error", b"hi", b"error")],
    ),
    "the last of two types": (
        b"event: a\nevent: b\ndata: hi\n\n",
        [Event(b"event: a\nevent: b\ndata: hi", b"hi", b"b")],
    ),
    "an empty type": (b"event:\ndata: hi\n\n", [Event(b"event:\ndata: hi", b"hi")]),
    "a type holds for one event": (
        b"event: a\n\ndata: hi\n\n",
        [Event(b"event: a", None, b"a"), Event(b"data: hi", b"hi")],
    ),
    "a comment": (b": hello\n\n", [Event(b": hello", None)]),
    "a bare colon": (b":\n\n", [Event(b":", None)]),
    "a comment among data": (
        b"data: a\n:data: b\ndata: c\n\n",
        [Event(b"data: a\n:data: b\ndata: c", b"a\nc")],
    ),
    "id and retry": (
        b"id: 1\nretry: 5\ndata: hi\n\n",
        [Event(b"id: 1\nretry: 5\ndata: hi", b"hi")],
    ),
    "names in another case": (b"Data: hi\n\n", [Event(b"Data: hi", None)]),
    "a name with a space": (b"data : hi\n\n", [Event(b"data : hi", None)]),
    "a name with a space before it": (b" data: hi\n\n", [Event(b" data: hi", None)]),
    "blank lines before, between and behind": (
        b"\n\n\ndata: a\n\n\n\ndata: b\n\n\n",
        [Event(b"data: a", b"a"), Event(b"data: b", b"b")],
    ),
    "blank lines alone": (b"\n\r\n\r\n\n", []),
    "a BOM": (BOM + b"data: hi\n\n", [Event(b"data: hi", b"hi")]),
    "a second BOM": (BOM + BOM + b"data: hi\n\n", [Event(BOM + b"data: hi", None)]),
    "a BOM further on": (
        b"data: a\n\n" + BOM + b"data: b\n\n",
        [Event(b"data: a", b"a"), Event(BOM + b"data: b", None)],
    ),
    "what ends a line in Python but not here": (
        "data: a\u2028b\x85c\x0bd\x0ce\x1cf\n\n".encode(),
        [
            Event(
                "data: a\u2028b\x85c\x0bd\x0ce\x1cf".encode(),
                "a\u2028b\x85c\x0bd\x0ce\x1cf".encode(),
            )
        ],
    ),
    "bytes that are no UTF-8": (b"data: \xff\xfe\n\n", [Event(b"data: \xff\xfe", b"\xff\xfe")]),
}
NEXT = b"data: next\n\n"
UNFINISHED: dict[str, tuple[bytes, Event]] = {
    "no end of line": (b"data: hi", Event(b"data: hi", b"hi", whole=False)),
    "no blank line": (b"data: hi\n", Event(b"data: hi", b"hi", whole=False)),
    "no blank line, CRLF": (b"data: hi\r\n", Event(b"data: hi", b"hi", whole=False)),
    "a cut name": (b"event: a\ndat", Event(b"event: a\ndat", None, b"a", whole=False)),
    "a comment": (b": hi\n", Event(b": hi", None, whole=False)),
    "behind blank lines": (b"\n\ndata: hi", Event(b"data: hi", b"hi", whole=False)),
    "half a BOM": (BOM[:2], Event(BOM[:2], None, whole=False)),
}


@pytest.mark.parametrize("case", FEEDS)
def test_a_rule(case: str):
    """
    A stream gives its events whole, byte by byte, and with the next event right behind it.
    """
    stream, events = FEEDS[case]

    assert decode(stream) == events
    assert decode(*byte_by_byte(stream)) == events
    assert decode(stream + NEXT) == [*events, Event(b"data: next", b"next")]
    assert decode(*byte_by_byte(stream + NEXT)) == [*events, Event(b"data: next", b"next")]


@pytest.mark.parametrize("case", UNFINISHED)
def test_the_last_event_without_its_blank_line(case: str):
    """
    A last event whose blank line never came is handed out at the end, not before, and marked.
    """
    stream, event = UNFINISHED[case]

    for reads in ([stream], byte_by_byte(stream), [NEXT + stream]):
        first = [Event(b"data: next", b"next")] if reads == [NEXT + stream] else []
        assert decode(*reads, end=False) == first
        assert decode(*reads) == [*first, event]


def test_nothing_comes_behind_the_end():
    """
    After the last event, `next_event` keeps returning `None`.
    """
    decoder = SSEDecoder()
    decoder.receive_data(b"data: a\n\ndata: b")
    decoder.receive_data(b"")

    assert [event.data for event in drain(decoder)] == [b"a", b"b"]
    assert [decoder.next_event(), decoder.next_event()] == [None, None]
    assert not decoder.has_event()


def test_nothing_at_all():
    """
    A stream without a byte has no events.
    """
    assert decode() == []


def test_events_that_were_not_taken_wait():
    """
    Events of several reads come in their order, though none was taken between the reads.
    """
    decoder = SSEDecoder()
    for data in (b"data: 1\n\ndata: 2\n\nda", b"ta: 3\n", b"\ndata: 4\n\n"):
        decoder.receive_data(data)

    assert [event.data for event in drain(decoder)] == [b"1", b"2", b"3", b"4"]


def test_lines():
    """
    An event has all of its lines as they came, comments too, without the ends of the lines.
    """
    (event,) = decode(b": hello\r\nevent: a\rid: 1\ndata:hi\n\n")

    assert event.lines() == [b": hello", b"event: a", b"id: 1", b"data:hi"]


# -- the limit for one event --------------------------------------------------------------------


def is_too_long(*reads: bytes, limit: int = 10) -> bool:
    """
    Whether a decoder with that *limit* refuses the *reads*.
    """
    decoder = SSEDecoder(longest_event=limit)
    try:
        for data in reads:
            decoder.receive_data(data)
    except EventTooLongError:
        return True
    return False


@pytest.mark.parametrize(
    ("stream", "expected"),
    [
        (b"data: 0123\n\n", False),
        (b"data: 01234\n\n", True),
        (b"data: 0123", False),
        (b"data: 0123\n", False),
        (b"data: 01234", True),
        (b"data: 0123\r\n\r\n", False),
        (b"data:\ndata\n\n", False),
        (b"data:\ndata:\n\n", True),
        (b": a comment\n\n", True),
        (b"\n" * 50 + b"data: 0123\n\n", False),
        (BOM + b"data: 0123\n\n", False),
        (b"data: 0123\n\n" * 50, False),
        (b"data: 0\n\ndata: 01234\n\ndata: 0\n\n", True),
    ],
)
def test_the_limit(stream: bytes, expected: bool):
    """
    An event may have as many bytes as the limit, with one byte for an end of line and none for the
    last, in any reads; a stream may have any number of events.
    """
    assert is_too_long(stream) is expected
    assert is_too_long(*byte_by_byte(stream)) is expected


@given(reads=cut(), limit=st.integers(1, 30))
@example(reads=[b"\nid: 1: comment\n:\n\n"], limit=16)
@quick
def test_the_limit_does_not_depend_on_the_reads(reads: list[bytes], limit: int):
    """
    A stream is refused if one of its events, the last included, is longer than the limit.
    """
    longest = max((len(event.block) for event in decode(*reads)), default=0)

    assert is_too_long(*reads, limit=limit) is (longest > limit)


def test_an_endless_line_is_refused_in_time():
    """
    A line without an end is refused by the read that leads past the limit.
    """
    decoder = SSEDecoder(longest_event=2500)
    decoder.receive_data(b"data: " + b"x" * 994)
    decoder.receive_data(b"x" * 1000)
    with pytest.raises(EventTooLongError, match="longer than 2500 bytes"):
        decoder.receive_data(b"x" * 1000)


def test_events_before_one_that_is_too_long():
    """
    What came before an event that is too long can still be taken.
    """
    decoder = SSEDecoder(longest_event=10)
    with pytest.raises(EventTooLongError):
        decoder.receive_data(b"data: 0\n\ndata: 01234")

    assert decoder.next_event() == Event(b"data: 0", b"0")


# -- cost ---------------------------------------------------------------------------------------

# Reads of a stream that is so many times as long as another.
GROWING: dict[str, Any] = {
    "one event in many reads": lambda n: [b"data: ", *[b"x" * 500] * (1000 * n), b"\n\n"],
    "lines of data in many reads": lambda n: [*[b"data: x\n"] * (1000 * n), b"\n"],
    "many events in one read": lambda n: [b"data: x\n\n" * (2000 * n)],
    "blank lines": lambda n: [b"\n" * (20_000 * n)],
}


@pytest.mark.parametrize("case", GROWING)
def test_cost_is_linear(case: str):
    """
    A stream that is sixteen times as long takes less than sixty times the time of the processor; it
    would be 256 times if each byte were looked at again with each read.
    """

    def seconds(size: int) -> float:
        reads = GROWING[case](size)
        best = float("inf")
        for _ in range(3):
            begun = time.process_time()
            decode(*reads)
            best = min(best, time.process_time() - begun)
        return best

    assert seconds(16) < 60 * max(seconds(1), 0.0002)
