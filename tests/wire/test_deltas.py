"""
Deltas: code that reads `chunk.choices[0].delta` sees every character of every stream once.
"""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from typing import Any

import pytest
from reading import read, split
from servers import DONE, OPENING, STOP, delta, sse
from shapes import STREAMS, Shape, body_of
from test_assembly import answer_of, calls

from aistats._views.completion import ChatCompletionChunk
from aistats._wire.decoder import NEED_DATA, StreamDecoder


def as_openai_reads(chunks: list[ChatCompletionChunk]) -> dict[str, str]:
    """
    What a loop over `chunk.choices[0].delta` sees, joined.
    """
    seen = {"content": "", "reasoning": "", "refusal": ""}
    for chunk in chunks:
        if chunk.choices:
            first = chunk.choices[0].delta
            seen["content"] += first.content or ""
            seen["reasoning"] += first.reasoning or ""
            seen["refusal"] += first.refusal or ""
    return seen


def _index(chunk: ChatCompletionChunk) -> int | None:
    return chunk.choices[0].index if chunk.choices else None


@pytest.mark.parametrize("size", [1, 100_000])
@pytest.mark.parametrize("shape", [pytest.param(each, id=each.name) for each in STREAMS])
def test_every_shape_has_its_text_in_deltas(shape: Shape, size: int):
    """
    The joined content of the deltas is the joined text of the chunks, and that of the response.
    """
    reading = read(*split(body_of(*shape.frames), size))
    # Of several choices that were asked for, code reads those of one index.
    is_several = "n = 2" in shape.name
    chunks = [each for each in reading.chunks if not is_several or _index(each) == 0]
    seen = as_openai_reads(chunks)

    assert reading.response is not None
    assert seen["content"] == reading.text
    if "told apart by the snapshot" in shape.name:
        return  # until the snapshot, nothing tells the thought from the text
    assert reading.text == reading.response.text
    assert seen["reasoning"] == (reading.response.reasoning or "")
    assert seen["refusal"] == (reading.response.message.refusal or "")


def whole(*choices: dict[str, Any], **more: Any) -> dict[str, Any]:
    """
    A whole completion with these choices.
    """
    return {
        "id": "G-1",
        "object": "chat.completion",
        "model": "m",
        "choices": list(choices),
        **more,
    }


def choice(index: int, finish_reason: str = "stop", **message: Any) -> dict[str, Any]:
    """
    A choice with a message.
    """
    message = {"role": "assistant", **message}
    return {"index": index, "finish_reason": finish_reason, "message": message}


CALL = {"id": "c1", "type": "function", "function": {"name": "find", "arguments": '{"q":1}'}}
SECOND = {"id": "c2", "type": "function", "function": {"name": "read", "arguments": "{}"}}
WHOLES = {
    "text": whole(choice(0, content="Hi")),
    "parts": whole(choice(0, content=[{"type": "text", "text": "Hi"}])),
    "thought": whole(choice(0, content="Hi", reasoning_content="Hm")),
    "another thought": whole(choice(0, content="Hi", reasoning="Hm")),
    "refusal": whole(choice(0, content=None, refusal="No")),
    "calls": whole(choice(0, "tool_calls", content=None, tool_calls=[CALL, SECOND])),
    "choices": whole(choice(0, content="Hi"), choice(1, content="Ho"), provider="openai"),
    "nothing": whole(choice(0, content="")),
    "items of the older gateway": whole(
        {**choice(0, content="Hm"), "reasoning": True},
        {**choice(1, content="Hi"), "reasoning": False},
        {**choice(2, content="", tool_calls=[CALL]), "reasoning": False},
        {**choice(3, content="", tool_calls=[SECOND]), "reasoning": False},
    ),
}


def chunks_of_whole(wire: dict[str, Any]) -> list[ChatCompletionChunk]:
    """
    The chunks of an answer that came as JSON in place of a stream.
    """
    decoder = StreamDecoder()
    decoder.receive_whole(json.dumps(wire, indent=1).encode())
    found: list[ChatCompletionChunk] = []
    while (chunk := decoder.next_chunk()) is not None:
        assert chunk is not NEED_DATA
        assert isinstance(chunk, ChatCompletionChunk)
        found.append(chunk)
    return found


def chunks_of_frame(wire: dict[str, Any]) -> list[ChatCompletionChunk]:
    """
    The chunks of a stream whose only frame is a whole answer.
    """
    return read(sse(wire) + DONE).chunks


def chunks_of_repeated_frame(wire: dict[str, Any]) -> list[ChatCompletionChunk]:
    """
    The chunks of a stream that has the whole answer twice.
    """
    return read(sse(wire) + sse(wire) + DONE).chunks


@pytest.mark.parametrize("how", [chunks_of_whole, chunks_of_frame, chunks_of_repeated_frame])
@pytest.mark.parametrize("name", WHOLES)
def test_a_whole_answer_in_deltas(
    name: str, how: Callable[[dict[str, Any]], list[ChatCompletionChunk]]
):
    """
    An answer that comes as a whole is in the deltas once: text, thought, refusal and calls.
    """
    wire = WHOLES[name]
    answer = answer_of(read(sse(wire) + DONE).whole)
    chunks = how(wire)
    seen = as_openai_reads(chunks)
    called = [
        call for chunk in chunks if chunk.choices for call in chunk.choices[0].delta.tool_calls
    ]

    assert "".join(chunk.text for chunk in chunks) == answer.text == seen["content"]
    assert seen["reasoning"] == answer.reasoning
    assert seen["refusal"] == (answer.refusal or "")
    assert calls(called) == answer.tool_calls  # type: ignore[arg-type]  # a part of a call is like it
    assert [call.index for call in called] == list(range(len(called)))
    assert chunks[0].to_dict() == {**wire}
    assert chunks[0].object == "chat.completion.chunk"


def test_a_snapshot_after_the_text_adds_nothing():
    """
    A whole answer after the text was streamed has no content in its delta, and its thought if that
    was not streamed.
    """
    snapshot = whole(choice(0, content="Hi", reasoning_content="Hm"))
    reading = read(OPENING + delta("Hi") + STOP + sse(snapshot) + DONE)
    seen = as_openai_reads(reading.chunks)

    assert seen == {"content": "Hi", "reasoning": "Hm", "refusal": ""}
    assert reading.chunks[-1].to_dict() == snapshot


def test_a_message_beside_the_last_delta():
    """
    A last chunk's message fills in what was not streamed, in the delta too.
    """
    last = {
        "object": "chat.completion.chunk",
        "choices": [
            {
                "index": 0,
                "delta": {},
                "finish_reason": "stop",
                "message": {"content": "Hi", "reasoning_content": "Hm", "tool_calls": [CALL]},
            }
        ],
    }
    reading = read(OPENING + delta("Hi") + sse(last) + DONE)
    final = reading.chunks[-1].choices[0].delta

    assert final.content in (None, "")
    assert final.reasoning == "Hm"
    assert [call.id for call in final.tool_calls] == ["c1"]
    assert as_openai_reads(reading.chunks)["content"] == "Hi"


def test_a_pickled_chunk_keeps_both_forms():
    """
    A chunk with a delta of its own survives pickling.
    """
    (chunk,) = chunks_of_frame(WHOLES["thought"])
    copy = pickle.loads(pickle.dumps(chunk))

    assert copy.to_dict() == WHOLES["thought"]
    assert copy.choices[0].delta.content == "Hi"
    assert str(copy) == str(chunk)
