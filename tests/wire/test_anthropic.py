"""
Anthropic's own frames, as the older gateway passes them on, turned into chunks one at a time.

What a whole stream of them comes to is in `test_assembly`.
"""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aistats._wire.anthropic import as_chunk, is_anthropic

Wire = dict[str, Any]


def block_start(block: Wire, index: int = 0) -> Wire:
    """
    The frame that opens a block of content.
    """
    return {"type": "content_block_start", "index": index, "content_block": block}


def block_delta(delta: Wire, index: int = 0) -> Wire:
    """
    The frame that brings more of a block.
    """
    return {"type": "content_block_delta", "index": index, "delta": delta}


def ending(reason: object, **more: Any) -> Wire:
    """
    The frame that says why the answer ended.
    """
    return {
        "type": "message_delta",
        "delta": {"stop_reason": reason, "stop_sequence": None},
        **more,
    }


def calling(function: Wire, index: object = 1, **more: Any) -> Wire:
    """
    The delta with a tool call.
    """
    return {"tool_calls": [{"index": index, **more, "function": function}]}


# A frame, and the delta and finish_reason of the one choice that it becomes.
FRAMES: dict[str, tuple[Wire, Wire, str | None]] = {
    "the start": (
        {"type": "message_start", "message": {"role": "assistant", "content": []}},
        {"role": "assistant"},
        None,
    ),
    "the start of a text": (block_start({"type": "text", "text": "Hi"}), {"content": "Hi"}, None),
    "the start of a text that has none yet": (
        block_start({"type": "text", "text": ""}),
        {"content": ""},
        None,
    ),
    "text": (block_delta({"type": "text_delta", "text": "Hi"}), {"content": "Hi"}, None),
    "the start of thought": (
        block_start({"type": "thinking", "thinking": "hm"}),
        {"reasoning_content": "hm"},
        None,
    ),
    "thought": (
        block_delta({"type": "thinking_delta", "thinking": "hm"}),
        {"reasoning_content": "hm"},
        None,
    ),
    "the start of a call": (
        block_start({"type": "tool_use", "id": "toolu_1", "name": "f", "input": {}}, 1),
        calling({"name": "f", "arguments": ""}, id="toolu_1", type="function"),
        None,
    ),
    "arguments": (
        block_delta({"type": "input_json_delta", "partial_json": '{"a'}, 1),
        calling({"arguments": '{"a'}),
        None,
    ),
    "arguments that are empty": (
        block_delta({"type": "input_json_delta", "partial_json": ""}, 1),
        calling({"arguments": ""}),
        None,
    ),
    "arguments without an index": (
        {
            "type": "content_block_delta",
            "delta": {"type": "input_json_delta", "partial_json": "{}"},
        },
        calling({"arguments": "{}"}, index=None),
        None,
    ),
    "a call that comes whole": (
        block_start({"type": "tool_use", "id": "toolu_1", "name": "f", "input": {"a": 1}}, 1),
        calling({"name": "f", "arguments": {"a": 1}}, id="toolu_1", type="function"),
        None,
    ),
    "text that is null": (
        block_delta({"type": "text_delta", "text": None}),
        {"content": ""},
        None,
    ),
    "thought that is missing": (
        block_delta({"type": "thinking_delta"}),
        {"reasoning_content": ""},
        None,
    ),
    "the end of a turn": (ending("end_turn"), {}, "stop"),
    "a stop sequence": (ending("stop_sequence"), {}, "stop"),
    "a token limit": (ending("max_tokens"), {}, "length"),
    "the end before a call": (ending("tool_use"), {}, "tool_calls"),
    "another end": (ending("refusal"), {}, "refusal"),
}

# Frames that say nothing of the answer.
SILENT: dict[str, Wire] = {
    "ping": {"type": "ping"},
    "the end of a block": {"type": "content_block_stop", "index": 0},
    "the end": {"type": "message_stop"},
    "an end without a reason": ending(None),
    "a signature": block_delta({"type": "signature_delta", "signature": "EqQB"}),
    "a block of a kind that is not known": block_start(
        {"type": "web_search_tool_result", "tool_use_id": "s"}
    ),
    "a delta of a kind that is not known": block_delta({"type": "citations_delta"}),
    "no delta": {"type": "content_block_delta"},
    "a null delta": {"type": "content_block_delta", "delta": None},
}


@pytest.mark.parametrize("case", FRAMES)
def test_a_frame(case: str):
    """
    A frame that says something of the answer becomes a chunk with one choice.
    """
    frame, delta, reason = FRAMES[case]

    assert is_anthropic(frame)
    assert as_chunk(frame, {}) == {
        "object": "chat.completion.chunk",
        "choices": [{"index": 0, "delta": delta, "finish_reason": reason}],
    }


@pytest.mark.parametrize("case", SILENT)
def test_a_silent_frame(case: str):
    """
    A frame that says nothing of the answer becomes a chunk without choices.
    """
    assert is_anthropic(SILENT[case])
    assert as_chunk(SILENT[case], {}) == {"object": "chat.completion.chunk", "choices": []}


def test_id_and_model():
    """
    The gateway's id is in each frame, the model's name in the first; the provider's id is not told.
    """
    start = {"type": "message_start", "id": "G-1", "message": {"id": "msg_1", "model": "claude-x"}}
    chunk = as_chunk(start, {})

    assert (chunk["id"], chunk["model"]) == ("G-1", "claude-x")
    assert as_chunk({"type": "ping", "id": "G-1"}, {})["id"] == "G-1"
    assert as_chunk({"type": "ping", "id": 1}, {}).keys() == {"object", "choices"}


def test_usage_is_put_together():
    """
    The last usage has the input tokens of the first frame and the output tokens of the last.
    """
    counts: Wire = {}
    first = as_chunk(
        {"type": "message_start", "message": {"usage": {"input_tokens": 11, "output_tokens": 1}}},
        counts,
    )
    between = as_chunk(block_delta({"type": "text_delta", "text": "Hi"}), counts)
    last = as_chunk(ending("end_turn", usage={"output_tokens": 4}), counts)

    assert first["usage"] == {"input_tokens": 11, "output_tokens": 1}
    assert "usage" not in between
    assert last["usage"] == {"input_tokens": 11, "output_tokens": 4}


def test_usage_of_a_chunk_stays_as_it_is():
    """
    The usage of a chunk that was handed out does not change with the next.
    """
    counts: Wire = {}
    first = as_chunk({"type": "message_start", "message": {"usage": {"input_tokens": 11}}}, counts)
    as_chunk(ending("end_turn", usage={"input_tokens": 12}), counts)

    assert first["usage"] == {"input_tokens": 11}


@pytest.mark.parametrize(
    "frame",
    [
        {},
        {"object": "chat.completion.chunk", "choices": []},
        {"type": "message_start", "choices": []},
        {"type": "error", "error": {"message": "overloaded"}},
        {"type": "response.created"},
        {"type": None},
        {"type": 1},
        {"type": ["ping"]},
        {"type": {"ping": 1}},
    ],
)
def test_frames_of_others(frame: Wire):
    """
    A frame with choices, with another type or with none is not Anthropic's, nor is an error.
    """
    assert not is_anthropic(frame)


scalars = (
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5)
)
kinds = st.sampled_from(
    [each[0]["delta"]["type"] for each in FRAMES.values() if "type" in each[0].get("delta", {})]
    + ["text", "thinking", "tool_use"]
)
keys = st.sampled_from(
    [
        *("type", "text", "thinking", "partial_json", "id", "name", "input", "usage", "model"),
        *("index", "delta", "message", "content_block", "stop_reason"),
    ]
)
values = st.recursive(
    scalars | kinds,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(keys, inner, max_size=4)
        | st.fixed_dictionaries({"type": kinds}, optional={"text": inner, "input": inner})
    ),
    max_leaves=8,
)
types = st.sampled_from([frame["type"] for frame in SILENT.values()] + ["message_start"])


@given(
    frame=st.dictionaries(keys, values, max_size=5),
    kind=types,
    counts=st.dictionaries(keys, values),
)
@settings(deadline=None, max_examples=100)
def test_any_frame(frame: Wire, kind: str, counts: Wire):
    """
    Whatever stands in a frame, it becomes a chunk of JSON with at most one choice.
    """
    chunk = as_chunk({**frame, "type": kind}, counts)

    assert json.loads(json.dumps(chunk)) == chunk
    assert chunk["object"] == "chat.completion.chunk"
    assert [choice["index"] for choice in chunk["choices"]] in ([], [0])
