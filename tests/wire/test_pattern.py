"""
The short cut for events that differ from the one before in a text alone.
"""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from shapes import SHAPES

from aistats import AIStatsError
from aistats._wire.assemble import PADDING
from aistats._wire.decoder import NEED_DATA, StreamDecoder
from aistats._wire.shortcut import Pattern
from aistats._wire.sse import Event, SSEDecoder
from aistats.types import ChatCompletionChunk

quick = settings(max_examples=80, deadline=None)
texts = st.text(st.characters(exclude_categories=["Cs"]))


def frame(text: str, key: str = "content", **more: Any) -> dict[str, Any]:
    """
    A frame that adds *text*.
    """
    choice = {"index": 0, "delta": {key: text}, "finish_reason": None}
    return {"id": "G-1", "object": "chat.completion.chunk", "choices": [choice], **more}


def line(frame: dict[str, Any], *, spaces: bool = False, escapes: bool = False) -> bytes:
    """
    The event of a *frame*.
    """
    separators = (", ", ": ") if spaces else (",", ":")
    return b"data: " + json.dumps(frame, ensure_ascii=escapes, separators=separators).encode()


def pattern(text: str = "Hi", key: str = "content", **more: Any) -> Pattern:
    """
    The pattern of a frame.
    """
    of = Pattern.of(line(frame(text, key, **more)), frame(text, key, **more), key)
    assert of is not None
    return of


@given(first=texts, text=texts, spaces=st.booleans(), escapes=st.booleans())
@example(first="", text="\u2028", spaces=False, escapes=True)
@example(first='"content":"', text='"},"finish_reason":null', spaces=False, escapes=False)
@quick
def test_reads_any_text(first: str, text: str, spaces: bool, escapes: bool):
    """
    An event with another text is read, however its JSON is written, and its frame is what it says.
    """
    like = Pattern.of(line(frame(first), spaces=spaces), frame(first), "content")
    assert like is not None
    event = line(frame(text), spaces=spaces, escapes=escapes)

    assert like.read(event) == text
    assert like.frame(event, text) == frame(text)


@given(text=texts, padding=texts, pads=st.text("abXY09"))
@quick
def test_reads_padded_events(text: str, padding: str, pads: str):
    """
    Padding may differ, too, and stays in the event's JSON.
    """
    like = pattern(**{PADDING: pads})
    event = line(frame(text, **{PADDING: padding}))

    assert like.read(event) == text
    assert like.frame(event, text) == frame(text, **{PADDING: padding})


OTHERS: dict[str, dict[str, Any]] = {
    "another id": {**frame("x"), "id": "G-2"},
    "one key more": frame("x", usage={"total_tokens": 3}),
    "a finish reason": {
        **frame("x"),
        "choices": [{**frame("x")["choices"][0], "finish_reason": "stop"}],
    },
    "another index": {**frame("x"), "choices": [{**frame("x")["choices"][0], "index": 1}]},
    "another key": frame("x", "reasoning_content"),
    "no text": {**frame("x"), "choices": [{**frame("x")["choices"][0], "delta": {}}]},
    "a text that is null": {
        **frame("x"),
        "choices": [{**frame("x")["choices"][0], "delta": {"content": None}}],
    },
}


@pytest.mark.parametrize("other", OTHERS.values(), ids=OTHERS.keys())
def test_anything_else_differs(other: dict[str, Any]):
    """
    An event that says anything else is not read, padded or not.
    """
    assert pattern().read(line(other)) is None
    assert pattern(**{PADDING: "ab"}).read(line({**other, PADDING: "ab"})) is None


@pytest.mark.parametrize(
    "between",
    [
        b'a","content":"b',
        b'a"},"logprobs":{"content":"b',
        b'a"},"finish_reason":"stop"}],"x":[{"delta":{"content":"b',
        b"a\\",
        b"a\nb",
        b"a\x00b",
        b"\xff",
        b"\\ud83d",
        b"\\x",
    ],
)
def test_what_breaks_out_of_the_text(between: bytes):
    """
    What begins and ends like the pattern is not read if what stands between is not one string.
    """
    head, tail = line(frame("\x7f")).split(b"\x7f")

    assert pattern().read(head + b"fine" + tail) == "fine"
    assert pattern().read(head + between + tail) is None
    assert pattern().read(head + tail[1:]) is None


def test_what_breaks_out_of_the_padding():
    """
    Neither is a padded event whose padding is not one string.
    """
    like = pattern(**{PADDING: "ab"})
    event = line(frame("x", **{PADDING: "@"}))

    assert like.read(event) == "x"
    assert like.read(event.replace(b'"@"', b'"a","usage":"b"')) is None


def test_where_the_text_stands_twice():
    """
    A text that stands at the same key elsewhere, too, makes no wrong pattern.
    """
    twice = {"content": "Hi", **frame("Hi")}
    like = Pattern.of(line(twice), twice, "content")

    assert like is None or like.read(line({**twice, "content": "Ho"})) is None


def decoded(body: bytes) -> list[ChatCompletionChunk]:
    """
    The chunks of a stream until its end or its failure, without the short cut.
    """
    decoder, events = StreamDecoder(), SSEDecoder()
    events.receive_data(body)
    found: list[ChatCompletionChunk] = []
    with suppress(AIStatsError):
        while isinstance(event := events.next_event(), Event):
            if chunk := decoder.decode(event):
                found.append(chunk)
    return found


SAYINGS = st.lists(
    st.fixed_dictionaries(
        {"text": texts, "key": st.sampled_from(["content", "reasoning_content", "reasoning"])},
        optional={
            PADDING: st.text("ab"),
            "usage": st.just({"total_tokens": 3}),
            "created": st.just(7),
        },
    ),
    max_size=8,
)


@given(sayings=SAYINGS, size=st.integers(1, 300))
@quick
def test_short_cut_changes_nothing(sayings: list[dict[str, Any]], size: int):
    """
    Chunks and the whole are the same with the short cut and without it.
    """
    frames = [frame(each.pop("text"), each.pop("key"), **each) for each in map(dict, sayings)]
    body = b"".join(line(each) + b"\n\n" for each in frames)
    decoder = StreamDecoder()
    chunks: list[Any] = []
    for start in range(0, len(body), size):
        decoder.receive_data(body[start : start + size])
        while (chunk := decoder.next_chunk()) is not NEED_DATA:
            chunks.append(chunk)
    slow = decoded(body)

    assert [(each.text, str(each), each.to_dict()) for each in chunks] == [
        (each.text, str(each), each.to_dict()) for each in slow
    ]
    assert chunks == slow
    reference = StreamDecoder()
    for each in frames:
        reference.decode(Event(line(each), line(each)[6:]))
    assert decoder.response() == reference.response()


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES.keys())
def test_short_cut_in_each_shape(shape: Any):
    """
    In each shape of stream the chunks are the same with the short cut and without it.
    """
    decoder = StreamDecoder()
    decoder.receive_data(shape.body())
    chunks: list[Any] = []
    with suppress(AIStatsError):
        while isinstance(chunk := decoder.next_chunk(), ChatCompletionChunk):
            chunks.append(chunk)
    slow = decoded(shape.body())

    assert chunks == slow
    assert [each.text for each in chunks] == [each.text for each in slow]
