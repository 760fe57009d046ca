"""
Characters that a server cut in two frames come out whole, in each view of the stream.
"""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from reading import read

from aistats import ChatCompletionChunk
from aistats._wire.decoder import StreamDecoder


def units(text: str) -> list[str]:
    """
    The UTF-16 units of *text*, each as a string, as JavaScript cuts it.
    """
    data = text.encode("utf-16-le")
    pairs = [data[at : at + 2] for at in range(0, len(data), 2)]
    return [pair.decode("utf-16-le", "surrogatepass") for pair in pairs]


def frames(pieces: list[dict[str, Any]], *, end: bool = True) -> bytes:
    """
    A stream whose deltas are *pieces*.
    """
    choices: list[dict[str, Any]] = [
        {"index": 0, "delta": piece, "finish_reason": None} for piece in pieces
    ]
    if end:
        choices.append({"index": 0, "delta": {}, "finish_reason": "stop"})
    lines = [b"data: " + json.dumps({"choices": [each]}).encode() + b"\n\n" for each in choices]
    return b"".join(lines) + b"data: [DONE]\n\n"


def check(data: bytes, key: str, expected: str) -> None:
    """
    The stream says *expected* under *key*, in the deltas and in the whole.
    """
    reading = read(data)
    deltas = [chunk.to_dict() for chunk in reading.chunks]
    text = "".join(delta["choices"][0]["delta"].get(key) or "" for delta in deltas)

    assert text == expected
    if key == "content":
        assert reading.text == reading.whole.text == expected
    else:
        assert reading.whole.reasoning == expected
    text.encode()  # no half is left


@pytest.mark.parametrize("key", ["content", "reasoning_content"])
@pytest.mark.parametrize(
    ("pieces", "expected"),
    [
        (["\ud83d", "\ude00"], "😀"),
        (["Hi \ud83d", "\ude00!"], "Hi 😀!"),
        (["\ud83d", "\ude00\ud83d", "\ude01"], "😀😁"),
        (["\ud83d", "x"], "\ufffdx"),
        (["\ude00", "y"], "\ufffdy"),
        (["x", "\ud83d"], "x\ufffd"),
        (["\ud83d", "", "\ude00"], "😀"),
        (["a", "b", "c\ud83d", "\ude00", "d", "e"], "abc😀de"),
        (["😀", "é"], "😀é"),
    ],
)
def test_halves(key: str, pieces: list[str], expected: str):
    """
    The first half waits for the second; one that stays alone is U+FFFD.
    """
    check(frames([{key: piece} for piece in pieces]), key, expected)


@given(st.text(max_size=12), st.sampled_from(["content", "reasoning_content"]))
def test_any_text(text: str, key: str):
    """
    A text that is cut at every UTF-16 code unit is joined without loss.
    """
    if text:
        check(frames([{key: unit} for unit in units(text)]), key, text)


@pytest.mark.parametrize("is_cumulative", [False, True])
def test_arguments(is_cumulative: bool):
    """
    So do the arguments of a tool call, incremental and cumulative.
    """
    pieces = ['{"a": "', "\ud83d", "\ude00", '"}']
    if is_cumulative:
        pieces = ["".join(pieces[: end + 1]) for end in range(len(pieces))]
    deltas = [
        {
            "tool_calls": [
                {
                    "index": 0,
                    **({"id": "1", "type": "function"} if is_cumulative or not at else {}),
                    "function": {
                        **({"name": "f"} if is_cumulative or not at else {}),
                        "arguments": piece,
                    },
                }
            ]
        }
        for at, piece in enumerate(pieces)
    ]

    (call,) = read(frames(deltas)).whole.tool_calls
    assert json.loads(call.arguments) == {"a": "😀"}


def test_choices_are_apart():
    """
    A half of one choice is not joined with one of another.
    """
    data = b""
    for index, piece in [(0, "\ud83d"), (1, "\ud83e"), (0, "\ude00"), (1, "\udd16")]:
        choice = {"index": index, "delta": {"content": piece}}
        data += b"data: " + json.dumps({"choices": [choice]}).encode() + b"\n\n"
    decoder = StreamDecoder(choices=2)
    decoder.receive_data(data)
    while isinstance(decoder.next_chunk(), ChatCompletionChunk):
        pass

    assert [each.message.content for each in decoder.response().choices] == ["😀", "🤖"]
