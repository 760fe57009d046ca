"""
Near misses: what users of other SDKs write, and the sentence that says what to write instead.
"""

from __future__ import annotations

import copy
import dataclasses
import json
import math
import pickle
from collections.abc import Iterator
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import attrs
import pydantic
import pytest
from servers import Gateway

import aistats
from aistats import ChatCompletionsRequest, ChatCompletionsResponse, Fault, RequestValidationError

USER = {"role": "user", "content": "hi"}
RESPONSE = ChatCompletionsResponse.from_dict(
    {"choices": [{"index": 0, "message": {"role": "assistant", "content": "x"}}]}
)


@attrs.define
class Point:
    """An attrs class."""

    x: int


@dataclasses.dataclass
class Place:
    """A dataclass."""

    x: int


class City(pydantic.BaseModel):
    """A pydantic class."""

    x: int


def weather(city: str) -> str:
    """A function that a model could call."""
    return city


class Anything:
    """An object that has every attribute and can be called, as a mock is."""

    def __getattr__(self, name: str) -> Any:
        return self

    def __call__(self, *_: Any) -> Any:
        return self


class Nothing:
    """An object that can't be asked for an attribute."""

    def __getattr__(self, name: str) -> Any:
        raise RuntimeError(name)


class Column:
    """A column of numbers, as NumPy's and pandas' are."""

    def tolist(self) -> list[int]:
        return [1]


def schema_format(name: str, schema: str = "{...}") -> str:
    """
    The format that takes a JSON schema.
    """
    return (
        'response_format={"type": "json_schema", '
        f'"json_schema": {{"name": "{name}", "schema": {schema}}}}}.'
    )


def function_tool(name: str) -> str:
    """
    The definition of a function.
    """
    return (
        f'{{"type": "function", "function": {{"name": "{name}", "description": "...", '
        '"parameters": {...}}}'
    )


def content(value: Any) -> dict[str, Any]:
    """
    A request with one message of this content.
    """
    return {"messages": [{"role": "user", "content": value}]}


def image_url(value: Any) -> dict[str, Any]:
    """
    A request with one image, whose address is *value*.
    """
    return content([{"type": "image_url", "image_url": value}])


def input_audio(value: Any) -> dict[str, Any]:
    """
    A request with one sound.
    """
    return content([{"type": "input_audio", "input_audio": value}])


AN_IMAGE = 'Write aistats.image("photo.png") as the part; it takes a path, bytes or a URL.'
A_SOUND = 'Write aistats.audio("speech.wav") as the part; it takes a path, bytes or a URL.'
A_USER_MESSAGE = '{"role": "user", "content": "..."}'
A_TEXT_PART = '{"type": "text", "text": "..."}'
AS_SCHEMA = "Write the class as a JSON schema: "
ITS_PARAMETERS = "with the JSON schema of its parameters."

# What is put on a good request, the path of its one fault, and the hint.
NEAR_MISSES: list[tuple[dict[str, Any], str, str]] = [
    # response_format
    (
        {"response_format": City},
        "response_format",
        f"Write {schema_format('City', 'City.model_json_schema()')}",
    ),
    (
        {"response_format": City(x=1)},
        "response_format",
        f"Write {schema_format('City', 'City.model_json_schema()')}",
    ),
    ({"response_format": Point}, "response_format", AS_SCHEMA + schema_format("Point")),
    ({"response_format": Point(1)}, "response_format", AS_SCHEMA + schema_format("Point")),
    ({"response_format": Place}, "response_format", AS_SCHEMA + schema_format("Place")),
    ({"response_format": dict}, "response_format", AS_SCHEMA + schema_format("dict")),
    (
        {"response_format": {"type": "json_schema", "schema": Point}},
        "response_format.schema",
        AS_SCHEMA + schema_format("Point"),
    ),
    (
        {"response_format": {"json_schema": {"name": "n", "schema": {}}}},
        "response_format.type",
        f"Write {schema_format('...')}",
    ),
    (
        {"response_format": {"type": "object", "properties": {}}},
        "response_format.type",
        f"Write {schema_format('...')}",
    ),
    (
        {"response_format": list[int]},
        "response_format",
        f"Write the type as a JSON schema: {schema_format('...')}",
    ),
    (
        {"response_format": {"type": "json_schema", "schema": '{"type": "object"}'}},
        "response_format.schema",
        "Write json.loads(value).",
    ),
    # tools
    (
        {"tools": [weather]},
        "tools[0]",
        f"Write tools=[{function_tool('weather')}], {ITS_PARAMETERS}",
    ),
    ({"tools": weather}, "tools", f"Write tools=[{function_tool('weather')}], {ITS_PARAMETERS}"),
    ({"tools": {"type": "custom"}}, "tools", "Write tools=[tool]: a list, also for one tool."),
    (
        {"tools": ["web_search"]},
        "tools[0]",
        'Write tools=[{"type": "phaseo:web_search"}] for a tool that the gateway runs.',
    ),
    (
        {"tools": [{"type": "function", "name": "f", "parameters": {}}]},
        "tools[0].function",
        f"Write {function_tool('...')}.",
    ),
    (
        {"tools": [{"name": "f", "input_schema": {}}]},
        "tools[0].type",
        f"Write {function_tool('...')}.",
    ),
    ({"tool_choice": weather}, "tool_choice", 'Write tool_choice="weather".'),
    (
        {"tools": [{"type": "function", "function": weather}]},
        "tools[0].function",
        f"Write tools=[{function_tool('weather')}], {ITS_PARAMETERS}",
    ),
    (
        {"tools": [Anything()]},
        "tools[0]",
        f"Write tools=[{function_tool('...')}], {ITS_PARAMETERS}",
    ),
    (
        {"tool_choice": {"function": {"name": "f"}}},
        "tool_choice.name",
        'Write "type": "function", too.',
    ),
    ({"tool_choice": True}, "tool_choice", 'Write tool_choice="required".'),
    # messages
    ({"messages": USER}, "messages", "Write messages=[message]: a list, also for one message."),
    (
        {"messages": RESPONSE.message},
        "messages",
        "Write messages=[message]: a list, also for one message.",
    ),
    ({"messages": RESPONSE}, "messages", "Write messages=[..., response.message]."),
    ({"messages": []}, "messages", f"Write messages=[{A_USER_MESSAGE}]."),
    ({"messages": {"hi"}}, "messages", "Write list(value)."),
    ({"messages": iter([USER])}, "messages", "Write list(value)."),
    ({"messages": {1: USER}.values()}, "messages", "Write list(value)."),
    ({"messages": b"hi"}, "messages", "Write value.decode()."),
    ({"messages": Column()}, "messages", "Write value.tolist()."),
    (
        {"messages": ["hi"]},
        "messages[0]",
        f'Write {A_USER_MESSAGE}; a single prompt may be messages="...".',
    ),
    ({"messages": [("user", "hi")]}, "messages[0]", f"Write {A_USER_MESSAGE}."),
    (
        {"messages": [[USER]]},
        "messages[0]",
        "Write messages=history in place of messages=[history], or [*history, message].",
    ),
    (
        {"messages": [USER, RESPONSE]},
        "messages[1].role",
        "Write response.message in place of the response.",
    ),
    (
        {"messages": [USER, RESPONSE.choices[0]]},
        "messages[1].role",
        "Write response.message in place of the response.",
    ),
    ({"messages": [City(x=1)]}, "messages[0]", "Write value.model_dump()."),
    (
        {"messages": [USER, {"id": "1", "choices": []}]},
        "messages[1].role",
        'Write response["choices"][0]["message"] in place of the response.',
    ),
    (
        {"messages": [{"role": "assistant", "tool_calls": {"id": "1"}}]},
        "messages[0].tool_calls",
        'Write "tool_calls": [...].',
    ),
    (
        {"messages": [{"role": "assistant", "tool_calls": [{"function": {"name": "f"}}]}]},
        "messages[0].tool_calls[0].type",
        'Write "type": "function".',
    ),
    ({"messages": [{"user": "hi"}]}, "messages[0].role", f"Write {A_USER_MESSAGE}."),
    (
        {"messages": [{"role": "human", "content": "hi"}]},
        "messages[0].role",
        'Write "role": "user".',
    ),
    ({"messages": [{"role": "usr", "content": "hi"}]}, "messages[0].role", 'Write "role": "user".'),
    (
        {"messages": [{"role": "Bot", "content": "hi"}]},
        "messages[0].role",
        'Write "role": "assistant".',
    ),
    (
        {"messages": [{"role": "user", "text": "x"}]},
        "messages[0].content",
        'Write "content": "...".',
    ),
    (
        content({"type": "text", "text": "a"}),
        "messages[0].content",
        'Write "content": [part]: a list, also for one part.',
    ),
    (content({"a": 1}), "messages[0].content", 'Write "content": json.dumps(value).'),
    (content(12), "messages[0].content", 'Write "content": str(value).'),
    (content(b"hi"), "messages[0].content", "Write value.decode()."),
    (content(Path("a")), "messages[0].content", "Write str(value)."),
    (content(["hi"]), "messages[0].content[0]", f"Write {A_TEXT_PART}."),
    (content([{"text": "hi"}]), "messages[0].content[0].type", f"Write {A_TEXT_PART}."),
    (
        {"messages": [{"role": "tool", "content": "x"}]},
        "messages[0].tool_call_id",
        'Write "tool_call_id": call.id, the id of the call that this message answers.',
    ),
    # images and sounds
    (image_url("a.png"), "messages[0].content[0].image_url", AN_IMAGE),
    (image_url("https://a.example/b.png"), "messages[0].content[0].image_url", AN_IMAGE),
    (image_url(b"\x89PNG"), "messages[0].content[0].image_url", AN_IMAGE),
    (image_url({"url": "a.png"}), "messages[0].content[0].image_url.url", AN_IMAGE),
    (image_url({"url": "/tmp/a.png"}), "messages[0].content[0].image_url.url", AN_IMAGE),
    (image_url({"url": "C:\\a.png"}), "messages[0].content[0].image_url.url", AN_IMAGE),
    (image_url({"url": "file:///a.png"}), "messages[0].content[0].image_url.url", AN_IMAGE),
    (image_url({"url": "iVBORw0KGgo="}), "messages[0].content[0].image_url.url", AN_IMAGE),
    (image_url({"url": ""}), "messages[0].content[0].image_url.url", AN_IMAGE),
    (image_url({"url": Path("a.png")}), "messages[0].content[0].image_url.url", AN_IMAGE),
    (image_url({"url": b"\x89PNG"}), "messages[0].content[0].image_url.url", AN_IMAGE),
    (input_audio("a.wav"), "messages[0].content[0].input_audio", A_SOUND),
    (input_audio({"data": "a.wav"}), "messages[0].content[0].input_audio.data", A_SOUND),
    (input_audio({"data": b"RIFF"}), "messages[0].content[0].input_audio.data", A_SOUND),
    (
        input_audio({"data": "data:audio/wav;base64,AA"}),
        "messages[0].content[0].input_audio.data",
        A_SOUND,
    ),
    (input_audio({"url": "a.wav"}), "messages[0].content[0].input_audio.url", A_SOUND),
    (
        content([{"type": "video_url", "video_url": {"url": "a.mp4"}}]),
        "messages[0].content[0].video_url.url",
        'Write {"url": "data:video/mp4;base64,..."} for a file.',
    ),
    (
        content([b"\x89PNG"]),
        "messages[0].content[0]",
        "Write aistats.image(value), or aistats.audio(value).",
    ),
    (
        content([{"type": "image", "source": {"type": "base64", "data": ""}}]),
        "messages[0].content[0].type",
        AN_IMAGE,
    ),
    (content([{"type": "input_image"}]), "messages[0].content[0].type", AN_IMAGE),
    (
        content([{"type": "input_text", "text": "x"}]),
        "messages[0].content[0].type",
        f"Write {A_TEXT_PART}.",
    ),
    # model
    (
        {"model": None},
        "model",
        'Write model="openai/gpt-4o-mini", or the id of another model.',
    ),
    (
        {"model": ["a", "b"]},
        "model",
        'Write model="..." for one model, and models=["...", "..."] for fallbacks.',
    ),
    # other parameters
    (
        {"system": [{"type": "text", "text": "x"}]},
        "system",
        'Write one string, or the parts in {"role": "system", "content": [...]}.',
    ),
    ({"reasoning": "low"}, "reasoning", 'Write reasoning={"effort": "low"}.'),
    ({"reasoning": True}, "reasoning", 'Write reasoning={"enabled": True}.'),
    ({"thinking": False}, "thinking", 'Write thinking={"type": "disabled"}.'),
    ({"logprobs": 5}, "logprobs", "Write logprobs=True, top_logprobs=5."),
    ({"temperature": "0.5"}, "temperature", "Write the number without quotes."),
    ({"temperature": Decimal("0.5")}, "temperature", "Write float(value)."),
    ({"temperature": Column()}, "temperature", "Write value.tolist()."),
    ({"logprobs": Column()}, "logprobs", "Write bool(value)."),
    ({"modalities": "text"}, "modalities", 'Write modalities=["..."], a list.'),
    ({"documents": {"content": "x"}}, "documents", "Write documents=[...], a list."),
    ({"documents": ["x"]}, "documents[0]", 'Write {"content": "..."}.'),
    ({"stop": {"a"}}, "stop", "Write list(value)."),
    ({"metadata": {"a": 1}}, "metadata.a", "Write str(value)."),
    ({"trace": {"a": date(2026, 1, 1)}}, "trace.a", "Write value.isoformat()."),
    ({"trace": {"a": Point(1)}}, "trace.a", "Write attrs.asdict(value)."),
    ({"trace": {"a": Place(1)}}, "trace.a", "Write dataclasses.asdict(value)."),
]


def fault(params: dict[str, Any]) -> Fault:
    """
    The one fault of a good request with *params* put on it.
    """
    with pytest.raises(RequestValidationError) as caught:
        ChatCompletionsRequest({"model": "m", "messages": "hi", **params})
    (found,) = caught.value.faults
    return found


@pytest.mark.parametrize(("params", "path", "hint"), NEAR_MISSES)
def test_a_near_miss_is_told_what_to_write(params: dict[str, Any], path: str, hint: str):
    """A common mistake is a fault whose message ends with what to write instead."""
    found = fault(params)

    assert (found.path, found.hint) == (path, hint)
    assert str(found).endswith(f". {hint}")


def test_missing_messages():
    """A request without messages is shown both forms of them."""
    with pytest.raises(RequestValidationError) as caught:
        ChatCompletionsRequest({"temperature": 1})

    assert [(each.path, each.hint.partition(",")[0]) for each in caught.value.faults] == [
        ("model", 'Write model="openai/gpt-4o-mini"'),
        ("messages", 'Write messages="..." for one prompt'),
    ]


@pytest.mark.parametrize(
    ("request_", "hint"),
    [
        ("Say hi", 'Write the prompt as messages="...", beside model="...".'),
        ([USER], 'Write the list as messages=[...], beside model="...".'),
    ],
)
def test_a_prompt_in_the_requests_place(request_: Any, hint: str, gateway: Gateway):
    """A prompt as the first argument is refused by both methods, and nothing is sent."""
    with aistats.Client("k" * 20, gateway.url) as client:
        for method in (client.generate_text, client.stream_text):
            with pytest.raises(RequestValidationError) as caught:
                method(request_, model="m")
            (found,) = caught.value.faults
            assert found.hint == hint

    assert gateway.requests == []


def test_an_awaitable_is_awaited_first():
    """A coroutine in a request is one whose `await` is missing."""

    async def history() -> list[Any]:
        return [USER]

    coroutine = history()
    found = fault({"messages": coroutine})
    coroutine.close()

    assert found.hint == "Write `await` before the call that returned it."


def test_numpy_values():
    """NumPy's arrays and flags are converted by their own methods."""
    numpy: Any = pytest.importorskip("numpy")

    assert fault({"stop": numpy.array(["a"])}).hint == "Write value.tolist()."
    assert fault({"temperature": numpy.array(0.5)}).hint == "Write value.tolist()."
    assert fault({"logprobs": numpy.bool_(True)}).hint == "Write bool(value)."
    assert fault({"temperature": numpy.float32("nan")}).hint == ""


def test_pandas_values():
    """Columns, rows and frames of pandas are converted by their own methods."""
    pandas: Any = pytest.importorskip("pandas")
    frame = pandas.DataFrame([{"role": "user", "content": "hi"}])

    assert fault({"stop": frame["content"]}).hint == "Write value.tolist()."
    assert fault({"messages": frame}).hint == 'Write value.to_dict("records").'
    assert fault({"messages": [frame.iloc[0]]}).hint == "Write value.to_dict()."


# Top-level names of other SDKs, and what the fault says.
OTHER_NAMES = [
    *(("input", "`messages`"), ("prompt", "`messages`"), ("functions", "`tools`")),
    *(("instructions", "`system`"), ("engine", "`model`"), ("fallbacks", "`models`")),
    *(("max_new_tokens", "`max_output_tokens`"), ("stop_sequences", "`stop`")),
    *(("best_of", "`n`"), ("text_format", "`response_format`"), ("num_retries", "`max_retries`")),
    *(("response_model", "`response_format`"), ("request_timeout", "`timeout`")),
    *(("headers", "`extra_headers`"), ("params", "`extra_query`"), ("api_base", "`base_url`")),
    *(("base_url", "argument of the client"), ("random_seed", "`seed`")),
]


@pytest.mark.parametrize(("name", "instead"), OTHER_NAMES)
def test_names_of_other_sdks(name: str, instead: str):
    """A parameter by another SDK's name is a fault that gives the name here."""
    found = fault({name: 1})

    assert found.path == name
    assert instead in found.expected


def test_a_tuple_is_a_list():
    """A tuple stands for a list wherever a list may stand."""

    def params(kind: Any) -> dict[str, Any]:
        parts = kind([{"type": "text", "text": "a"}])
        search = {"allowed_domains": kind(["a.b"])}
        return {
            "model": "m",
            "messages": kind([{"role": "user", "content": parts}]),
            "stop": kind(["a"]),
            "tools": kind([{"type": "phaseo:web_search", "parameters": search}]),
            "models": kind(["a"]),
            "plugins": kind(["response-healing"]),
            "documents": kind([{"content": "x", "metadata": kind([{"key": "a", "value": "b"}])}]),
            "provider": {"order": kind(["openai"])},
            "provider_options": {"openai": {"include": kind(["x"])}},
        }

    body = ChatCompletionsRequest(params(tuple)).body(stream=False, extra_body={"new": ("x",)})

    assert json.loads(body) == {**params(list), "new": ["x"]}


def test_a_fault_keeps_its_hint():
    """A hint survives copying and pickling, also where the value does not."""

    def unpicklable() -> Iterator[int]:
        yield 1

    for value in ({"a"}, unpicklable()):
        found = fault({"stop": value})
        for again in (copy.copy(found), pickle.loads(pickle.dumps(found))):
            assert again.hint == found.hint == "Write list(value)."
            assert str(again) == str(found)


@pytest.mark.parametrize(
    "params",
    [
        *({"temperature": value} for value in (3, "hot", True, math.nan, date(2026, 1, 1))),
        *({name: Nothing()} for name in ("messages", "response_format", "tools", "trace", "stop")),
        *({name: Anything()} for name in ("messages", "response_format", "trace", "stop")),
        *({"messages": [value]} for value in (Nothing(), None)),
        *(content(value) for value in (math.nan, Nothing())),
        {"tools": [{"type": "function", "function": Nothing()}]},
        {"provider_options": "x"},
    ],
)
def test_a_fault_that_is_no_near_miss_has_no_hint(params: dict[str, Any]):
    """Where the expectation says it all there is no hint, and no value is asked for attributes."""
    found = fault(params)

    assert found.hint == ""
    assert str(found).startswith(f"{found.path}: expected {found.expected}")
