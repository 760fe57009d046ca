"""
Views as mappings: read by key, copied, written as JSON, and sent back.
"""

from __future__ import annotations

import json
import pickle
from collections.abc import Mapping
from typing import Any

import pytest
from conftest import KEY
from servers import Gateway, chunk, completion, delta

import aistats
from aistats._views.completion import ChatCompletionChunk, ChatCompletionsResponse
from aistats._views.message import Message
from aistats._views.usage import Usage
from aistats._wire.decoder import StreamDecoder

WIRE = completion("Hi", new={"items": [1, {"a": None}]}, items=2, keys="k")


@pytest.fixture
def response() -> ChatCompletionsResponse:
    """
    A response with keys of its own, some of them named as methods of a mapping.
    """
    return ChatCompletionsResponse.from_dict(WIRE)


def test_it_is_a_mapping(response: ChatCompletionsResponse):
    """
    It has the length, the keys and the values of its JSON.
    """
    assert isinstance(response, Mapping)
    assert dict(response) == WIRE == {**response}
    assert list(response) == list(response.keys()) == list(WIRE)
    assert list(response.items()) == list(WIRE.items())
    assert list(response.values()) == list(WIRE.values())
    assert len(response) == len(WIRE)
    assert "choices" in response
    assert "nothing" not in response
    assert response.get("nothing", 5) == 5
    assert (response["items"], response["keys"]) == (2, "k")
    with pytest.raises(KeyError):
        response["nothing"]


def test_parts_are_mappings(response: ChatCompletionsResponse):
    """
    The documented path of the gateway's own SDK works, and so does a part's own.
    """
    assert response["choices"][0]["message"]["content"] == "Hi"
    assert response.choices[0]["message"]["content"] == "Hi"
    assert response.message["content"] == "Hi"
    assert response.usage is not None
    assert dict(response.usage) == WIRE["usage"]


def test_it_is_read_only(response: ChatCompletionsResponse):
    """
    It can't be assigned to, and what it returns is a copy.
    """
    with pytest.raises(TypeError):
        response["model"] = "another"  # type: ignore[index]  # pyright: ignore[reportIndexIssue]
    response["choices"][0]["message"]["content"] = "changed"
    response["new"]["items"].append(3)
    dict(response)["model"] = "another"

    assert response.to_dict() == WIRE
    assert response.text == "Hi"


@pytest.mark.parametrize("kind", [ChatCompletionsResponse, Message, Usage])
def test_an_empty_view_is_true(kind: Any):
    """
    A view is true, as objects of other SDKs are, and equal to another with the same JSON.
    """
    empty = kind.from_dict({})

    assert empty
    assert len(empty) == 0
    assert empty == kind.from_dict({})
    assert pickle.loads(pickle.dumps(empty)) == empty


def test_json(response: ChatCompletionsResponse):
    """
    `to_json()` is the JSON, also of a chunk and of text beyond ASCII.
    """
    decoder = StreamDecoder()
    decoder.receive_data(delta("Grüße 👋"))
    piece = decoder.next_chunk()
    assert isinstance(piece, ChatCompletionChunk)

    assert json.loads(response.to_json()) == WIRE
    assert piece.to_json() == json.dumps(
        chunk({"content": "Grüße 👋"}), ensure_ascii=False, separators=(",", ":")
    )


@pytest.mark.parametrize(
    ("name", "instead"),
    [
        ("model_dump", r"to_dict\(\)"),
        ("dict", r"to_dict\(\)"),
        ("model_dump_json", r"to_json\(\)"),
        ("json", r"to_json\(\)"),
        ("update", r"dict\(view\)"),
    ],
)
def test_names_of_other_sdks(response: ChatCompletionsResponse, name: str, instead: str):
    """
    A method that other SDKs have raises an error that names ours.
    """
    for view in (response, response.message):
        with pytest.raises(AttributeError, match=instead):
            getattr(view, name)
    with pytest.raises(AttributeError, match=r"'Message' object has no attribute 'nothing'$"):
        getattr(response.message, "nothing")  # noqa: B009


CALL = {"id": "c1", "type": "function", "function": {"name": "find", "arguments": '{"q":1}'}}


@pytest.mark.parametrize(
    "message",
    [
        {"role": "assistant", "content": "Hi", "refusal": None},
        {"role": "assistant", "content": None, "tool_calls": [CALL]},
        {"role": "assistant", "content": "Hi", "reasoning_content": "Hm", "annotations": []},
    ],
)
def test_a_saved_message_is_sent_as_the_message(message: dict[str, Any], gateway: Gateway):
    """
    A conversation that went through `json.dumps(..., default=dict)` is the same conversation.
    """
    choice = {"index": 0, "finish_reason": "stop", "message": message}
    answer = ChatCompletionsResponse.from_dict(completion(choices=[choice]))
    messages: list[Any] = [{"role": "user", "content": "Hi"}, answer.message]
    saved = json.loads(json.dumps(messages, default=dict))
    gateway.reply()
    gateway.reply()
    with aistats.Client(KEY, gateway.url) as client:
        client.generate_text(model="m/m", messages=messages)
        client.generate_text(model="m/m", messages=saved)
    direct, from_file = (seen.json["messages"][1] for seen in gateway.requests)

    assert {key: value for key, value in from_file.items() if key in direct} == direct
    assert saved[1] == message
