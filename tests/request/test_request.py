"""
The request: what it takes, what it refuses and how it says so, and the bytes that come of it.
"""

from __future__ import annotations

import copy
import enum
import gc
import json
import math
import numbers
import pickle
import weakref
from collections import UserDict, UserList, deque
from datetime import date
from fractions import Fraction
from types import MappingProxyType
from typing import Any
from unittest.mock import patch
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aistats import (
    ChatCompletionsRequest,
    ChatCompletionsResponse,
    Fault,
    Message,
    RequestValidationError,
    ToolCall,
)
from aistats._request.request import build_request

MODEL = "openai/gpt-4o-mini"
USER = {"role": "user", "content": "hi"}
BASE: dict[str, Any] = {"model": MODEL, "messages": [USER]}
NAN = math.nan


def sent(request: Any = None, /, **params: Any) -> dict[str, Any]:
    """
    What goes out for these parameters, put on `BASE` where nothing else is given.
    """
    made = ChatCompletionsRequest(BASE if request is None else request, **params)
    return json.loads(made.body(stream=False))


def faults(request: Any = None, /, **params: Any) -> dict[str, Fault]:
    """
    The faults of a request that must not pass, by path.
    """
    with pytest.raises(RequestValidationError) as caught:
        ChatCompletionsRequest(BASE if request is None else request, **params)
    return {fault.path: fault for fault in caught.value.faults}


def fault(request: Any = None, /, **params: Any) -> Fault:
    """
    The one fault of a request.
    """
    (found,) = faults(request, **params).values()
    return found


# --- every parameter ---

OBJECTS = ("a mapping", [1, "x", True])
STRINGS = ("a string", [1, True, ["x"], {"a": 1}])
FLAGS = ("true or false", [0, 1, "true", {"include": True}])
NUMBERS = ("a number", ["0.5", True, [1], NAN, math.inf, -math.inf, 1j])
INTEGERS = ("a whole number", [1.5, "1", True, NAN])
LISTS_OF_STRINGS = ("a list of strings", ["text", {"a": 1}, 1])
FREE = ("a JSON value", [{1, 2}, object(), b"x"])
ROUTING = ('a mapping such as {"order": ["openai"]}', ["openai", ["openai"]])

# What the gateway's page lists: a value that is sent as it is, what is expected, what is refused.
PARAMETERS: dict[str, tuple[Any, str, list[Any]]] = {
    "model": ("m", "a string, not empty", ["", 1, ["m"]]),
    "messages": ([USER], "a string or a non-empty list of messages", [1, USER, b"hi"]),
    "system": ("Be brief.", *STRINGS),
    "temperature": (0.5, "a number from 0 to 2", [-0.001, 2.001, *NUMBERS[1]]),
    "top_p": (0.5, "a number from 0 to 1", [-0.001, 1.001, *NUMBERS[1]]),
    "top_k": (1, "a whole number of at least 1", [0, -1, *INTEGERS[1]]),
    "seed": (
        -1,
        "a whole number from -9223372036854775808 to 9223372036854775807",
        [2**63, -(2**63) - 1, *INTEGERS[1]],
    ),
    "presence_penalty": (-2, "a number from -2 to 2", [-2.001, 2.001, *NUMBERS[1]]),
    "frequency_penalty": (2, "a number from -2 to 2", [-2.001, 2.001, *NUMBERS[1]]),
    "logit_bias": ({"50256": -100, "1": 0.5}, "a mapping", [[1], "x"]),
    "logprobs": (True, *FLAGS),
    "top_logprobs": (20, "a whole number from 0 to 20", [-1, 21, *INTEGERS[1]]),
    "n": (16, "a whole number from 1 to 16", [0, 17, *INTEGERS[1]]),
    "max_output_tokens": (1, "a whole number of at least 1", [0, -5, *INTEGERS[1]]),
    "max_completion_tokens": (1, "a whole number of at least 1", [0, *INTEGERS[1]]),
    "max_tokens": (1, "a whole number of at least 1", [0, *INTEGERS[1]]),
    "stop": (["a", "b"], "a string or a list of strings", [1, {"a": "b"}, True]),
    "reasoning": ({"effort": "low", "max_tokens": 0}, *OBJECTS),
    "reasoning_effort": ("an effort of tomorrow", *STRINGS),
    "reasoning_split": (True, *FREE),
    "thinking": ({"type": "enabled", "budget_tokens": 1024}, *OBJECTS),
    "tools": ([{"type": "phaseo:datetime"}], "a list of tools", ["x", {"type": "function"}]),
    "tool_choice": ("auto", "a string or a mapping", [1, ["auto"], True]),
    "parallel_tool_calls": (False, *FLAGS),
    "max_tool_calls": (1, "a whole number of at least 1", [0, *INTEGERS[1]]),
    "max_tools_calls": (1, "a whole number of at least 1", [0, *INTEGERS[1]]),
    "web_search_options": ({"search_context_size": "low"}, *OBJECTS),
    "webSearchOptions": ({"search_context_size": None}, *OBJECTS),
    "mcp_servers": ([{"url": "https://a.example"}], "a list of mappings", [{"url": "x"}, "x"]),
    "plugins": (
        ["response-healing", {"id": "response-healing", "more": 1}],
        "a list of strings or mappings",
        ["response-healing", 1],
    ),
    "response_format": ("json", "a string or a mapping", [1, ["json"]]),
    "modalities": (["text", "smell"], *LISTS_OF_STRINGS),
    "response_modalities": (["text"], *LISTS_OF_STRINGS),
    "responseModalities": (["text"], *LISTS_OF_STRINGS),
    "image_config": ({"image_size": "2K", "new": [1]}, *OBJECTS),
    "imageConfig": ({"aspect_ratio": "1:1"}, *OBJECTS),
    "documents": ([{"content": "x"}], "a list of mappings", ["x", {"content": "x"}]),
    "usage": (True, *FLAGS),
    "meta": (True, *FLAGS),
    "stream_options": ({"include_usage": True, "new": 1}, *OBJECTS),
    "debug": ({"enabled": True, "traceLevel": "full"}, *OBJECTS),
    "echo_upstream_request": (True, *FLAGS),
    "trace": ({"a": None}, *OBJECTS),
    "provider": ({"order": ["a"], "allowFallbacks": False}, *ROUTING),
    "routing": ({"only": ["a"]}, *ROUTING),
    "provider_options": ({"openai": {"x": None}, "new": {}}, *OBJECTS),
    "providerOptions": ({"google": {"cache_ttl": "1h"}}, *OBJECTS),
    "service_tier": ("a tier of tomorrow", *STRINGS),
    "models": (["a", "b"], *LISTS_OF_STRINGS),
    "route": ("fallback", *STRINGS),
    "user": ("u", *STRINGS),
    "user_id": ("u", *STRINGS),
    "session_id": ("s" * 256, "a string, 1 to 256 characters", ["", "s" * 257, 1]),
    "metadata": ({"a": "b"}, "a mapping", ["x", [1]]),
    "store": (False, *FLAGS),
    "safety_identifier": ("s", *STRINGS),
    "prompt_cache_key": ("k", *STRINGS),
    "prompt_cache_retention": ("24h", *STRINGS),
    "min_p": (1, "a number from 0 to 1", [-0.001, 1.001, *NUMBERS[1]]),
    "top_a": (0.1, *NUMBERS),
    "typical_p": (0.1, *NUMBERS),
    "tfs": (0.1, *NUMBERS),
    "epsilon_cutoff": (0.1, *NUMBERS),
    "eta_cutoff": (0.1, *NUMBERS),
    "repetition_penalty": (0.001, "a number above 0", [0, -1, *NUMBERS[1]]),
    "min_tokens": (0, *INTEGERS),
    "dynatemp_mode": (1, *FREE),
    "dynatemp_min": (0.1, *NUMBERS),
    "dynatemp_max": (0.1, *NUMBERS),
    "dynatemp_exponent": (0.1, *NUMBERS),
    "smoothing_factor": (0.1, *NUMBERS),
    "smoothing_curve": (0.1, *NUMBERS),
    "xtc_probability": (0.1, *NUMBERS),
    "xtc_threshold": (0.1, *NUMBERS),
    "dry_multiplier": (0.1, *NUMBERS),
    "dry_base": (0.1, *NUMBERS),
    "dry_allowed_length": (1, *INTEGERS),
    "dry_range": (1, *INTEGERS),
    "dry_sequence_breakers": (["\n", ":"], *FREE),
    "custom_token_bans": ([1, 2], *FREE),
    "ignore_eos": (True, *FLAGS),
    "custom_timeout": (1.5, *FREE),
    "allow_logging": (True, *FREE),
    "respond_as": ("x", *FREE),
}

# Both ends of each range, which the value above does not have.
ENDS: list[tuple[str, Any]] = [
    ("temperature", 0),
    ("temperature", 2),
    ("temperature", 2.0),
    ("top_p", 0),
    ("top_p", 1),
    ("min_p", 0),
    ("presence_penalty", 2),
    ("frequency_penalty", -2),
    ("top_logprobs", 0),
    ("n", 1),
    ("seed", 2**63 - 1),
    ("seed", -(2**63)),
    ("session_id", "s"),
    ("stop", "x"),
    ("stop", []),
    ("tools", []),
    ("max_output_tokens", 10**9),
]


def test_every_parameter_of_the_gateway_is_known():
    """The request class knows what the gateway's page lists, and no more."""
    known = set(dir(ChatCompletionsRequest(BASE))) - set(dir(ChatCompletionsRequest))

    assert {*PARAMETERS} == known


@pytest.mark.parametrize("name", PARAMETERS)
def test_a_good_value_is_sent_as_it_is(name: str):
    """A value that the gateway takes is sent unchanged, and nothing is sent beside it."""
    value = PARAMETERS[name][0]

    assert {**BASE, name: value} == sent(**{name: value})


@pytest.mark.parametrize(("name", "value"), ENDS)
def test_the_ends_of_a_range_belong_to_it(name: str, value: Any):
    """The last value of a range passes."""
    assert value == sent(**{name: value})[name]


@pytest.mark.parametrize("name", PARAMETERS)
def test_bad_values_are_faults(name: str):
    """A value of another type, or past the end of its range, is a fault that says what to give."""
    _, expected, bad_values = PARAMETERS[name]
    for value in bad_values:
        found = fault(**{name: value})

        assert (found.path, found.expected) == (name, expected)
        assert found.value is value


@pytest.mark.parametrize("name", sorted(PARAMETERS.keys() - {"model", "messages"}))
def test_none_is_not_sent(name: str):
    """`None` is as good as not given."""
    assert sent(**{name: None}) == BASE


@pytest.mark.parametrize("name", ["model", "messages"])
@pytest.mark.parametrize("given_none", [True, False])
def test_what_is_required(name: str, given_none: bool):
    """Without a model or messages there is no request."""
    params = {key: value for key, value in BASE.items() if key != name}
    found = fault({**params, name: None} if given_none else params)

    assert name == found.path
    assert found.expected.endswith("; it is missing")
    assert found.value is None


# --- the ways to give a request ---


def test_dict_keywords_and_request_send_the_same_bytes():
    """However a request is given, the same bytes go out."""
    params = {**BASE, "temperature": 0.5, "stop": ["x"]}
    made = ChatCompletionsRequest(params)
    expected = (
        b'{"model":"openai/gpt-4o-mini","messages":[{"role":"user","content":"hi"}],'
        b'"temperature":0.5,"stop":["x"]}'
    )

    for again in (
        made,
        ChatCompletionsRequest(**params),
        ChatCompletionsRequest(made),
        ChatCompletionsRequest(BASE, temperature=0.5, stop=["x"]),
        ChatCompletionsRequest(MappingProxyType(params)),
        ChatCompletionsRequest(UserDict(params)),
    ):
        assert expected == again.body(stream=False)
        assert made == again


def test_a_keyword_wins():
    """A keyword takes the place of what the mapping or the request says."""
    made = ChatCompletionsRequest(BASE, temperature=0.5)

    assert sent(BASE, model="another")["model"] == "another"
    assert sent(made, temperature=1)["temperature"] == 1
    assert "temperature" not in sent(made, temperature=None)


@pytest.mark.parametrize("request_", ["hi", ["hi"], 3, Message({"content": "hi"})])
def test_what_is_no_request(request_: Any):
    """Something else in a request's place is a fault, not a crash."""
    found = fault(request_)

    assert found.path == "request"
    assert found.expected == "a mapping or a ChatCompletionsRequest"


@pytest.mark.parametrize("text", ["Say hi", ""])
def test_messages_may_be_one_string(text: str):
    """A string is what the user says; the gateway takes one that is empty, too."""
    assert sent(model="m", messages=text)["messages"] == [{"role": "user", "content": text}]


@pytest.mark.parametrize("messages", [[], ()])
def test_there_is_a_message(messages: Any):
    """A list of messages is not empty."""
    assert fault(messages=messages).expected == "a non-empty list of messages"


@pytest.mark.parametrize("kind", [tuple, deque, UserList])
def test_any_sequence_is_a_list(kind: Any):
    """Tuples and other sequences do as well as lists."""
    assert sent(messages=kind([USER]), stop=kind(["a"])) == {**BASE, "stop": ["a"]}


@pytest.mark.parametrize("messages", [iter([USER]), (each for each in [USER]), {1: USER}.values()])
def test_what_can_be_read_once_is_no_list(messages: Any):
    """An iterator is refused, since a request may be read more often than once."""
    assert fault(messages=messages).path == "messages"


def test_any_mapping_is_a_mapping():
    """Messages, parts and options may be mappings of any class."""
    message = MappingProxyType({"role": "user", "content": [UserDict(type="text", text="hi")]})
    made = sent(messages=[message], reasoning=UserDict(effort="low"), metadata=UserDict(a="b"))

    assert made["messages"] == [{"role": "user", "content": [{"type": "text", "text": "hi"}]}]
    assert made["reasoning"] == {"effort": "low"}
    assert made["metadata"] == {"a": "b"}


class Role(str, enum.Enum):  # noqa: UP042 - users write it like this
    """A string that is a member of an enumeration."""

    SPEAKER = "user"


class Count(enum.IntEnum):
    """A whole number that is a member of an enumeration."""

    FEW = 3


class Two:
    """A whole number of somebody else's making, registered as NumPy's are."""

    def __int__(self) -> int:
        return 2


numbers.Integral.register(Two)


def test_numbers_and_strings_of_other_classes():
    """What is a number or a string by its class's own account is sent as such."""
    made = sent(
        messages=[{"role": Role.SPEAKER, "content": "hi"}],
        temperature=Fraction(1, 2),
        top_k=Two(),
        n=Count.FEW,
        provider_options={"a": [Fraction(1, 4), Two(), Count.FEW, Role.SPEAKER, (1,)]},
    )

    assert made == {
        **BASE,
        "temperature": 0.5,
        "top_k": 2,
        "n": 3,
        "provider_options": {"a": [0.25, 2, 3, "user", [1]]},
    }


def test_numpy_scalars():
    """NumPy's scalars are numbers."""
    numpy = pytest.importorskip("numpy")
    made = sent(temperature=numpy.float64(0.5), top_k=numpy.int64(3), trace={"a": numpy.int8(1)})

    assert made == {**BASE, "temperature": 0.5, "top_k": 3, "trace": {"a": 1}}


def test_an_int_stays_an_int():
    """A whole number where a fraction may stand is sent as it was written."""
    assert b'"temperature":1,' in ChatCompletionsRequest(BASE, temperature=1, n=1).body(
        stream=False
    )


# --- None, copies and what is unknown ---


def test_none_inside_what_is_declared_is_not_sent():
    """`None` is left out of messages, parts, tools and options, since the gateway refuses null."""
    made = sent(
        messages=[
            {"role": "user", "name": None, "content": [{"type": "text", "text": "a", "x": None}]},
            {
                "role": "assistant",
                "content": None,
                "tool_calls": [
                    {"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
                ],
                "refusal": None,
            },
        ],
        tools=[{"type": "function", "function": {"name": "f", "strict": None}}],
        reasoning={"effort": None},
        provider={"sort": None, "max_price": {"prompt": None, "image": "0.5"}},
        metadata={"a": None, "b": "c"},
        image_config={"aspect_ratio": None},
        response_format={"type": "json_schema", "schema": {}, "json_schema": None},
    )

    assert made == {
        "model": MODEL,
        "messages": [
            {"role": "user", "content": [{"type": "text", "text": "a"}]},
            {
                "role": "assistant",
                "tool_calls": [
                    {"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
                ],
            },
        ],
        "tools": [{"type": "function", "function": {"name": "f"}}],
        "reasoning": {},
        "provider": {"max_price": {"image": "0.5"}},
        "metadata": {"b": "c"},
        "image_config": {},
        "response_format": {"type": "json_schema", "schema": {}},
    }


SCHEMA = {"type": "object", "properties": {"a": {"enum": ["x", None], "default": None}}}
FREE_JSON: list[dict[str, Any]] = [
    {"tools": [{"type": "function", "function": {"name": "f", "parameters": SCHEMA}}]},
    {"tools": [{"type": "of_tomorrow", "a": None}]},
    {"tools": [{"type": "custom", "custom": {"name": "f", "format": {"a": None}}}]},
    {"tool_choice": {"type": "allowed_tools", "a": None}},
    {"response_format": {"type": "json_schema", "schema": SCHEMA}},
    {"response_format": {"type": "json_schema", "json_schema": {"name": "n", "schema": SCHEMA}}},
    {"response_format": {"type": "of_tomorrow", "a": None}},
    {"provider_options": {"openai": {"a": None}, "b": None}},
    {"provider": {"sort": {"by": None}}},
    {"messages": [{"role": "user", "content": [{"type": "of_tomorrow", "a": {"b": None}}]}]},
    {"messages": [{"role": "user", "content": "hi", "of_tomorrow": {"a": None}}]},
]


@pytest.mark.parametrize("params", FREE_JSON)
def test_free_json_is_sent_as_it_is(params: dict[str, Any]):
    """JSON that the package does not declare keeps its nulls."""
    assert sent(**params) == {**BASE, **params}


def test_unknown_keys_inside_pass():
    """A key that is unknown inside a message, a part or an option is sent: the gateway drops it."""
    params = {
        "messages": [
            {
                "role": "user",
                "content": [{"type": "text", "text": "a", "cache_control": {"type": "ephemeral"}}],
                "of_tomorrow": 1,
            }
        ],
        "tools": [{"type": "function", "function": {"name": "f", "x": 1}, "y": 2}],
        "reasoning": {"effort": "low", "of_tomorrow": 1},
        "provider": {"requireParameters": True},
    }

    assert sent(**params) == {**BASE, **params}


def test_a_request_does_not_change_with_what_it_was_made_of():
    """Nothing that is done later to what a request was made of reaches it, and it changes none."""
    schema = {"type": "object", "properties": {}}
    params: dict[str, Any] = {
        "model": "m",
        "messages": [{"role": "user", "content": [{"type": "text", "text": "a"}], "name": None}],
        "tools": [{"type": "function", "function": {"name": "f", "parameters": schema}}],
        "provider_options": {"openai": {"a": [1]}},
        "stop": ["x"],
        "seed": None,
    }
    before = copy.deepcopy(params)
    made = ChatCompletionsRequest(params)
    wire = made.body(stream=False)

    assert params == before

    params["messages"][0]["content"][0]["text"] = "b"
    params["messages"].append(USER)
    schema["properties"]["a"] = {}
    params["provider_options"]["openai"]["a"].append(2)
    made.messages.clear()
    made.to_dict()["stop"].append("y")

    assert made.body(stream=False) == wire
    assert made.stop == ["x"]


# --- the package's own objects ---

ANSWER = {
    "role": "assistant",
    "content": "",
    "refusal": None,
    "annotations": [],
    "function_call": None,
    "reasoning_content": "The user wants weather.",
    "reasoning_details": [{"id": "r", "index": 0, "type": "text", "text": "x", "format": None}],
    "tool_calls": [
        {
            "index": 0,
            "id": "call_1",
            "type": "function",
            "function": {"name": "get_weather", "arguments": '{"city":"Oslo"}'},
        }
    ],
}
CALL = {key: value for key, value in ANSWER["tool_calls"][0].items() if key != "index"}
RESPONSE = ChatCompletionsResponse.from_dict(
    {"id": "G-1", "provider": "openai", "choices": [{"index": 0, "message": ANSWER}]}
)


def test_a_message_that_came_back_is_a_message():
    """`Message` goes into `messages` as it is, and is sent as a request takes it."""
    tool = {"role": "tool", "tool_call_id": "call_1", "content": "rain"}
    made = sent(messages=[USER, RESPONSE.message, tool])["messages"]

    assert made == [USER, RESPONSE.message.to_param(), tool]
    assert made[1]["tool_calls"] == [CALL]
    assert "refusal" not in made[1]


def test_the_dict_of_an_answer_is_a_message():
    """A message out of `to_dict()` passes: its nulls are left out, what else it has is sent."""
    wire = RESPONSE.to_dict()["choices"][0]["message"]
    made = sent(messages=[USER, wire])["messages"][1]

    assert made == {
        key: value for key, value in ANSWER.items() if key not in ("refusal", "function_call")
    }


def test_tool_calls_that_came_back_are_tool_calls():
    """`ToolCall`s go into a message's `tool_calls` as they are."""
    message = {"role": "assistant", "content": None, "tool_calls": RESPONSE.tool_calls}

    assert sent(messages=[USER, message])["messages"][1]["tool_calls"] == [CALL]
    assert isinstance(RESPONSE.tool_calls[0], ToolCall)


def test_own_objects_in_free_json():
    """Where anything may stand, the package's objects may."""
    made = sent(messages=[{"role": "user", "content": [{"type": "new", "of": RESPONSE.message}]}])

    assert made["messages"][0]["content"][0]["of"] == RESPONSE.message.to_param()


def test_the_messages_of_a_request_go_into_the_next():
    """A conversation can be carried on from an earlier request."""
    first = ChatCompletionsRequest(model="m", messages="hi")
    second = first.replace(messages=[*first.messages, RESPONSE.message], temperature=0.5)

    assert [message["role"] for message in second.messages] == ["user", "assistant"]


# --- messages, parts, tools ---

GOOD_MESSAGES: list[dict[str, Any]] = [
    {"role": "system", "content": "x", "name": "n"},
    {"role": "developer", "content": [{"type": "text", "text": "x"}]},
    {
        "role": "user",
        "content": [{"type": "image_url", "image_url": {"url": "data:image/png;..."}}],
    },
    {
        "role": "user",
        "content": [{"type": "image_url", "image_url": {"url": "gs://a/b", "detail": "new"}}],
    },
    {
        "role": "user",
        "content": [{"type": "input_audio", "input_audio": {"data": "", "format": "x"}}],
    },
    {"role": "user", "content": [{"type": "input_audio", "input_audio": {"url": "https://a.b"}}]},
    {"role": "user", "content": [{"type": "audio_url", "audio_url": {"url": "https://a.b"}}]},
    {"role": "user", "content": [{"type": "video_url", "video_url": {"url": "https://a.b"}}]},
    {"role": "user", "content": [{"type": "input_video", "video_url": {"url": "https://a.b"}}]},
    {"role": "user", "content": [{"type": "file", "file": {"file_id": "x"}}]},
    {"role": "user", "content": []},
    {"role": "user", "content": ""},
    {"role": "assistant"},
    {"role": "assistant", "content": [{"type": "thinking", "thinking": [{"text": "x"}]}]},
    {"role": "assistant", "content": "", "tool_calls": [], "reasoning_content": "x"},
    {"role": "assistant", "tool_calls": [{"id": "1", "type": "custom", "custom": {"name": "f"}}]},
    {
        "role": "assistant",
        "content": [{"type": "tool_call", "id": "1", "function": {"name": "f", "arguments": ""}}],
    },
    {"role": "tool", "tool_call_id": "1", "content": "x"},
    {"role": "tool", "tool_call_id": "1", "content": [{"type": "text", "text": "x"}]},
]


@pytest.mark.parametrize("message", GOOD_MESSAGES)
def test_good_messages(message: dict[str, Any]):
    """Messages of each role and with each kind of part are sent as they are."""
    assert sent(messages=[message])["messages"] == [message]


TEXT_OR_PARTS = "a string or a list of parts"
ROLES = (
    "one of 'system', 'developer', 'user', 'assistant', 'tool'; "
    "a function's answer has the role 'tool'"
)
URL = 'a mapping such as {"url": "https://..."}'
JSON_TEXT = "a string of JSON, as the model wrote it"


def part(value: Any) -> dict[str, Any]:
    """
    A message with this one part.
    """
    return {"role": "user", "content": [value]}


def call(value: Any) -> dict[str, Any]:
    """
    A message with this one tool call.
    """
    return {"role": "assistant", "tool_calls": [value]}


BAD_MESSAGES: list[tuple[Any, str, str]] = [
    ("hi", "", "a message"),
    (None, "", "a message"),
    ([USER], "", "a message"),
    ({}, ".role", f"{ROLES}; it is missing"),
    ({"role": "function", "name": "f", "content": "x"}, ".role", ROLES),
    ({"role": "User", "content": "x"}, ".role", ROLES),
    ({"role": 1, "content": "x"}, ".role", ROLES),
    ({"role": "user"}, ".content", f"{TEXT_OR_PARTS}; it is missing"),
    ({"role": "system", "content": None}, ".content", f"{TEXT_OR_PARTS}; it is missing"),
    ({"role": "user", "content": 1}, ".content", TEXT_OR_PARTS),
    ({"role": "user", "content": {"type": "text"}}, ".content", TEXT_OR_PARTS),
    ({"role": "user", "content": "x", "name": 1}, ".name", "a string"),
    ({"role": "tool", "content": "x"}, ".tool_call_id", "a string; it is missing"),
    ({"role": "assistant", "tool_calls": {}}, ".tool_calls", "a list of tool calls"),
    (part("hi"), ".content[0]", "a part"),
    (part({"text": "x"}), ".content[0].type", "a string, such as 'text'; it is missing"),
    (part({"type": 1}), ".content[0].type", "a string, such as 'text'"),
    (part({"type": "text"}), ".content[0].text", "a string; it is missing"),
    (part({"type": "text", "text": 1}), ".content[0].text", "a string"),
    (part({"type": "image_url", "image_url": "https://a.b"}), ".content[0].image_url", URL),
    (part({"type": "image_url"}), ".content[0].image_url", f"{URL}; it is missing"),
    (part({"type": "video_url", "video_url": "https://a.b"}), ".content[0].video_url", URL),
    (part({"type": "input_video", "video_url": "https://a.b"}), ".content[0].video_url", URL),
    (part({"type": "audio_url", "audio_url": "https://a.b"}), ".content[0].audio_url", URL),
    (
        part({"type": "image_url", "image_url": {"url": ""}}),
        ".content[0].image_url.url",
        "an https: or data: URL",
    ),
    (
        part({"type": "input_audio", "input_audio": {"format": "wav"}}),
        ".content[0].input_audio.data",
        "a string, here or in `url`; it is missing",
    ),
    (call("x"), ".tool_calls[0]", "a tool call"),
    (call({"id": "1"}), ".tool_calls[0].type", "a string, such as 'function'; it is missing"),
    (
        call({"id": "1", "type": "function", "function": {"name": "f", "arguments": {}}}),
        ".tool_calls[0].function.arguments",
        JSON_TEXT,
    ),
    (
        call({"id": "1", "type": "function", "function": {"name": "f"}}),
        ".tool_calls[0].function.arguments",
        f"{JSON_TEXT}; it is missing",
    ),
]


@pytest.mark.parametrize(("message", "path", "expected"), BAD_MESSAGES)
def test_bad_messages(message: Any, path: str, expected: str):
    """What is wrong with a message is named by its path and by what should be there."""
    found = fault(messages=[USER, message])

    assert (f"messages[1]{path}", expected) == (found.path, found.expected)


def server_tool(name: str, **parameters: Any) -> dict[str, Any]:
    """
    One of the gateway's own tools.
    """
    return {"type": name, "parameters": parameters}


GOOD_TOOLS: list[dict[str, Any]] = [
    {"type": "function", "function": {"name": "f"}},
    {"type": "function", "function": {"name": "f", "description": "x", "strict": True}},
    {"type": "custom", "custom": {"name": "f", "format": {"type": "text"}}},
    {"type": "gateway:datetime"},
    server_tool("phaseo:datetime", timezones=["UTC"] * 5),
    server_tool("phaseo:web_search", max_results=25, max_total_results=100, engine="new"),
    server_tool("gateway:web_fetch", max_chars=100_000),
    server_tool("phaseo:advisor", model="m", temperature=2),
    server_tool("phaseo:subagent"),
    server_tool("phaseo:fusion", analysis_models=["a", "b"]),
    server_tool("phaseo:search_models", max_results=20),
    server_tool("phaseo:image_generation", size="1K"),
    {"type": "web_search_preview", "search_context_size": "low"},
    {"type": "of_tomorrow"},
]


@pytest.mark.parametrize("tool", GOOD_TOOLS)
def test_good_tools(tool: dict[str, Any]):
    """Functions, custom tools, the gateway's own and those of tomorrow are sent as they are."""
    assert sent(tools=[tool])["tools"] == [tool]


BAD_TOOLS: list[tuple[Any, str, str]] = [
    ("f", "", "a tool"),
    ({}, ".type", "a string, such as 'function'; it is missing"),
    ({"type": ["function"]}, ".type", "a string, such as 'function'"),
    ({"type": "function"}, ".function", "a mapping; it is missing"),
    ({"type": "function", "function": {}}, ".function.name", "a string; it is missing"),
    (
        {"type": "function", "function": {"name": "f", "parameters": "{}"}},
        ".function.parameters",
        "a mapping",
    ),
    (
        {"type": "function", "function": {"name": "f", "strict": 1}},
        ".function.strict",
        "true or false",
    ),
    ({"type": "custom", "custom": {}}, ".custom.name", "a string; it is missing"),
    (
        server_tool("phaseo:datetime", timezones=["UTC"] * 6),
        ".parameters.timezones",
        "a list of strings, 0 to 5 items",
    ),
    (
        server_tool("phaseo:web_search", max_results=26),
        ".parameters.max_results",
        "a whole number from 1 to 25",
    ),
    (
        server_tool("phaseo:web_search", max_total_results=101),
        ".parameters.max_total_results",
        "a whole number from 1 to 100",
    ),
    (
        server_tool("phaseo:web_fetch", max_chars=100_001),
        ".parameters.max_chars",
        "a whole number from 1 to 100000",
    ),
    (
        server_tool("phaseo:fusion", analysis_models=["a"]),
        ".parameters.analysis_models",
        "a list of strings, at least 2 items",
    ),
]


@pytest.mark.parametrize(("tool", "path", "expected"), BAD_TOOLS)
def test_bad_tools(tool: Any, path: str, expected: str):
    """What is wrong with a tool is named by its path and by what should be there."""
    found = fault(tools=[GOOD_TOOLS[0], tool])

    assert (f"tools[1]{path}", expected) == (found.path, found.expected)


@pytest.mark.parametrize(
    "choice",
    [
        "auto",
        "none",
        "required",
        "my_function",
        {"type": "function", "function": {"name": "f"}},
        {"type": "tool", "name": "f"},
        {"name": "f"},
        {"type": "phaseo:web_search"},
        {"type": "allowed_tools", "mode": "auto", "tools": []},
    ],
)
def test_good_tool_choices(choice: Any):
    """A tool choice may be any string, and an object of any of its forms."""
    assert sent(tool_choice=choice)["tool_choice"] == choice


@pytest.mark.parametrize(
    ("name", "value", "path", "expected"),
    [
        ("tool_choice", {}, "tool_choice.name", "a string; it is missing"),
        (
            "tool_choice",
            {"type": "function", "function": "f"},
            "tool_choice.function",
            "a mapping",
        ),
        ("tool_choice", {"type": 1}, "tool_choice.type", "a string, such as 'function'"),
        (
            "response_format",
            {},
            "response_format.type",
            "a string, such as 'text'; it is missing",
        ),
        (
            "response_format",
            {"type": "json_schema", "json_schema": {"name": "n"}},
            "response_format.json_schema.schema",
            "a JSON schema, here or in `schema`; it is missing",
        ),
        (
            "response_format",
            {"type": "json_schema", "schema": None},
            "response_format.json_schema.schema",
            "a JSON schema, here or in `schema`; it is missing",
        ),
        ("stop", ["a", None], "stop[1]", "a string"),
        ("stop", ["a", 1], "stop[1]", "a string"),
        ("logit_bias", {"1": "x"}, "logit_bias['1']", "a number"),
        ("logit_bias", {1: 1}, "logit_bias[1]", "a string"),
        ("metadata", {"a": 1}, "metadata.a", "a string"),
        ("metadata", {"an odd key": 1}, "metadata['an odd key']", "a string"),
        ("models", ["a", 1], "models[1]", "a string"),
        ("plugins", [{"id": 1}], "plugins[0].id", "a string"),
        ("plugins", [{}], "plugins[0].id", "a string; it is missing"),
        ("mcp_servers", ["x"], "mcp_servers[0]", "a mapping"),
        ("documents", [{}], "documents[0].content", "a string; it is missing"),
        (
            "documents",
            [{"content": "x", "title": "y"}],
            "documents[0].title",
            "no other keys here than `content` and `metadata`",
        ),
        (
            "documents",
            [{"content": "x", "metadata": [{"key": "k", "value": "v", "x": 1}]}],
            "documents[0].metadata[0].x",
            "no other keys here than `key` and `value`",
        ),
        ("reasoning", {"effort": 1}, "reasoning.effort", "a string"),
        (
            "reasoning",
            {"max_tokens": -1},
            "reasoning.max_tokens",
            "a whole number of at least 0",
        ),
        ("provider", {"order": "openai"}, "provider.order", "a list of strings"),
        ("provider", {"sort": 1}, "provider.sort", "a string or a mapping"),
        ("provider", {"allow_fallbacks": 0}, "provider.allow_fallbacks", "true or false"),
        (
            "provider",
            {"max_price": {"prompt": True}},
            "provider.max_price.prompt",
            "a number or a string",
        ),
        (
            "provider",
            {"preferred_max_latency": {"p90": "1"}},
            "provider.preferred_max_latency.p90",
            "a number",
        ),
        ("image_config", {"font_inputs": [{}]}, "image_config.font_inputs[0].font_url", None),
        ("debug", {"trace": 1}, "debug.trace", "true or false"),
    ],
)
def test_faults_further_in(name: str, value: Any, path: str, expected: str | None):
    """A fault inside a parameter has the path that leads to it."""
    found = faults(**{name: value})[path]

    assert expected is None or expected == found.expected


# --- names that are not known ---


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("temprature", "such as `temperature`; extra_body sends anything"),
        ("max_token", "such as `max_tokens`; extra_body"),
        ("max_retry", "such as `max_retries`; extra_body"),
        ("concurency", "such as `concurrency`, an argument of `map`; extra_body"),
        ("check_point", "such as `checkpoint`, an argument of `map`; extra_body"),
        ("rmp", "such as `rpm`, an argument of `map`; extra_body"),
        ("progres", "such as `progress`, an argument of `map`; extra_body"),
        ("concurrency", "an argument of `map`, beside the request"),
        ("prompt", "`messages` in its place"),
        ("api_key", "an argument of the client"),
        ("zzzzzz", "a known parameter; extra_body sends anything"),
        ("verbosity", "extra_body"),
        ("functions", "`tools`"),
        ("function_call", "`tool_choice`"),
        ("system_prompt", "`system`"),
        ("max_completions_tokens", "`max_completion_tokens`"),
        ("reasoning_summary", "`reasoning="),
        ("cache_control", "`provider_options="),
        ("prompt_cache_options", "`provider_options="),
        ("timeout", "an argument of the call"),
        ("max_retries", "an argument of the call"),
        ("extra_headers", "an argument of the call"),
        ("extra_query", "an argument of the call"),
        ("extra_body", "an argument of the call"),
    ],
)
def test_unknown_names(name: str, hint: str):
    """An unknown parameter is a fault that says what to do instead."""
    found = fault({**BASE, name: 1})

    assert (name, 1) == (found.path, found.value)
    assert hint in found.expected


@pytest.mark.parametrize("key", [1, None, ("a",), "odd key", "", "x" * 1_000_000])
def test_odd_names(key: Any):
    """What is no name at all is a fault, too, and its path stays short."""
    found = fault({**BASE, key: 1})

    assert "a known parameter" in found.expected
    assert 0 < len(found.path) < 200


@pytest.mark.parametrize(
    "limits",
    [
        {"max_tokens": 1, "max_output_tokens": 1},
        {"max_tokens": 1, "max_completion_tokens": 1},
        {"max_output_tokens": 2, "max_completion_tokens": 1},
    ],
)
def test_two_limits_of_tokens(limits: dict[str, int]):
    """The three names of the limit of tokens exclude each other."""
    found = fault(**limits)

    assert all(f"`{name}`" in found.expected for name in limits)
    assert sent({**BASE, **dict.fromkeys(limits), "max_tokens": 3}) == {**BASE, "max_tokens": 3}


# --- all faults at once, and what they say ---


def test_every_fault_is_reported():
    """One error has every fault of a request, whatever found it."""
    found = faults(
        {
            "messages": [
                {"role": "user", "content": [{"type": 1}, {"type": "text"}]},
                {"role": "function"},
            ],
            "temperature": 3,
            "stop": {1, 2},
            "seed": NAN,
            "temprature": 1,
            "max_tokens": 1,
            "max_output_tokens": 0,
            "response_format": {"type": "json_schema", "name": 1},
            "documents": [{"title": 1}],
            "provider_options": {"a": [1, NAN]},
        }
    )

    assert {*found} == {
        "model",
        "messages[0].content[0].type",
        "messages[0].content[1].text",
        "messages[1].role",
        "temperature",
        "stop",
        "seed",
        "temprature",
        "max_tokens",
        "max_output_tokens",
        "response_format.json_schema.schema",
        "response_format.name",
        "documents[0].title",
        "documents[0].content",
        "provider_options.a[1]",
    }


def test_the_error():
    """The error is a `ValueError`, has a line for each fault, and carries nothing of cattrs."""
    with pytest.raises(ValueError, match="3 faults") as caught:
        ChatCompletionsRequest(messages=[part({"type": "text"})], temperature=3)
    lines = str(caught.value).splitlines()

    assert [line.split(":")[0].strip() for line in lines[1:]] == [
        "model",
        "messages[0].content[0].text",
        "temperature",
    ]
    assert type(caught.value) is RequestValidationError
    cause: BaseException | None = caught.value
    while cause := cause.__context__:
        assert type(cause) is RequestValidationError


# --- JSON ---

LOOP: list[Any] = []
LOOP.append({"a": LOOP})
MANY_LOOPS: dict[str, Any] = {}
MANY_LOOPS.update(dict.fromkeys("abcdefghij", MANY_LOOPS))
DEEP: Any = 1
for _ in range(255):
    DEEP = [DEEP]
TREE: Any = []
for _ in range(300):
    TREE = [TREE, TREE]


@pytest.mark.parametrize(
    ("value", "path", "expected"),
    [
        ({1, 2}, ".a", "a JSON value"),
        (date(2026, 1, 1), ".a", "a JSON value"),
        (b"x", ".a", "a JSON value"),
        (iter([1]), ".a", "a JSON value"),
        (Fault("a", 1, "b"), ".a", "a JSON value"),
        (1j, ".a", "a JSON value"),
        ("\ud800", ".a", "a string without lone surrogates"),
        ({"x\ud800": 1}, ".a", "keys that are strings"),
        ({1: 2}, ".a", "keys that are strings"),
        (NAN, ".a", "a number that is finite"),
        ([1, {"b": -math.inf}], ".a[1].b", "a number that is finite"),
        (Fraction(10**400), ".a", "a number that is finite"),
        (2**64, ".a", "a whole number of at most 64 bits"),
        (-(2**63) - 1, ".a", "a whole number of at most 64 bits"),
    ],
)
def test_what_is_not_json(value: Any, path: str, expected: str):
    """What JSON can't say is a fault with its path, in free JSON and in an extra body."""
    in_request = fault(provider_options={"a": value})
    with pytest.raises(RequestValidationError) as caught:
        ChatCompletionsRequest(BASE).body(stream=True, extra_body={"a": value})
    (in_body,) = caught.value.faults

    assert (f"provider_options{path}", expected) == (in_request.path, in_request.expected)
    assert (f"extra_body{path}", expected) == (in_body.path, in_body.expected)


@pytest.mark.parametrize("value", [LOOP, MANY_LOOPS, DEEP, TREE])
def test_what_is_too_deep(value: Any):
    """What contains itself, or is nested too deep to be written, is a fault, found quickly."""
    found = faults(provider_options={"a": value})

    assert {"a JSON value, nested at most 254 levels deep"} == {
        each.expected for each in found.values()
    }


def test_where_a_loop_closes():
    """The path of a value that contains itself ends where it is met again."""
    assert fault(provider_options={"a": LOOP}).path == "provider_options.a[0].a"


def test_nan_is_found_whatever_else_is_null():
    """NaN is never sent as null, and a null or the word in a text is no NaN."""
    text = {"role": "user", "content": "Why is null not NaN?"}

    assert sent(messages=[text], trace={"a": None})["trace"] == {"a": None}
    assert fault(messages=[text], trace={"a": [None, NAN]}).path == "trace.a[1]"


def test_a_search_for_what_is_not_json_ends():
    """A million values that are not JSON are a hundred faults."""
    assert len(faults(trace={"a": [NAN] * 1_000_000})) == 100


def test_free_json_of_other_classes():
    """Mappings, sequences, numbers and strings of other classes are JSON in free JSON, too."""
    value = {
        "a": MappingProxyType({Role.SPEAKER: UserList([Fraction(1, 2)])}),
        "b": (1, deque([Count.FEW])),
        "c": [UUID(int=1), None],
    }

    assert sent(provider_options=value)["provider_options"] == {
        "a": {"user": [0.5]},
        "b": [1, [3]],
        "c": ["00000000-0000-0000-0000-000000000001", None],
    }


# --- the body, and the methods' own parameter ---


def test_the_body_of_a_stream():
    """A stream is asked for in the body; for a whole answer nothing is said."""
    made = ChatCompletionsRequest(BASE)

    assert json.loads(made.body(stream=True)) == {**BASE, "stream": True}
    assert json.loads(made.body(stream=False)) == BASE


def test_extra_body_is_put_on_top_as_it_is():
    """What is extra is sent unchecked and wins, `None` and `stream` included."""
    made = ChatCompletionsRequest(BASE, temperature=0.5)
    extra = {"temperature": None, "new": {"a": [None]}, "stream": "maybe", "top_k": -1}

    assert json.loads(made.body(stream=True, extra_body=extra)) == {**BASE, **extra}
    assert made.body(stream=True, extra_body={}) == made.body(stream=True)
    assert json.loads(made.body(stream=False, extra_body=MappingProxyType({"a": 1}))) == {
        **BASE,
        "temperature": 0.5,
        "a": 1,
    }


@pytest.mark.parametrize("extra", ["x", 3, [("a", 1)]])
def test_an_extra_body_that_is_none(extra: Any):
    """An extra body that is no mapping is a fault."""
    with pytest.raises(RequestValidationError, match="extra_body: expected a mapping"):
        ChatCompletionsRequest(BASE).body(stream=False, extra_body=extra)


@pytest.mark.parametrize("method", [True, False])
def test_stream_belongs_to_the_method(method: bool):
    """A `stream` that agrees with the method, or is `None`, is taken and never sent twice."""
    for given_stream in ({}, {"stream": None}, {"stream": method}):
        made = build_request(BASE, given_stream, stream=method)
        again = build_request(made, {}, stream=method)

        assert json.loads(again.body(stream=method)).get("stream") is (method or None)
        assert "stream" not in made.to_dict()


@pytest.mark.parametrize("method", [True, False])
def test_a_stream_that_contradicts_the_method(method: bool):
    """`stream` against the method is a fault that names the other one, among all others."""
    other = {True: "generate_text", False: "stream_text"}[method]
    stubborn = ChatCompletionsRequest(BASE, stream=not method)

    for request, params in (
        ({**BASE, "stream": not method}, {}),
        (BASE, {"stream": not method}),
        (stubborn, {}),
        (stubborn, {"temperature": 1}),
    ):
        with pytest.raises(RequestValidationError) as caught:
            build_request(request, params, stream=method)
        (found,) = caught.value.faults
        assert ("stream", not method) == (found.path, found.value)
        assert other in found.expected

    with pytest.raises(RequestValidationError) as caught:
        build_request(BASE, {"stream": not method, "temperature": 3}, stream=method)
    assert [found.path for found in caught.value.faults] == ["stream", "temperature"]
    assert build_request(stubborn, {"stream": method}, stream=method).stream is method


@pytest.mark.parametrize("value", [1, "true"])
def test_stream_is_true_or_false(value: Any):
    """A `stream` that is neither is a fault."""
    assert fault(stream=value).expected == "true or false"


# --- the object ---


def test_parameters_are_read_by_name():
    """What was given can be read, other parameters are `None`, and unknown names are errors."""
    made = ChatCompletionsRequest(BASE, temperature=0.5, stream=True)

    assert (made.model, made.messages, made.temperature) == (MODEL, [USER], 0.5)
    assert made.top_p is None
    assert made.stream is True
    assert {"temperature", "provider_options", "stream", "replace"} <= {*dir(made)}
    with pytest.raises(AttributeError, match="temprature"):
        print(made.temprature)


def test_a_request_is_frozen():
    """A request can't be changed."""
    made = ChatCompletionsRequest(BASE)
    for name in ("model", "stream", "anything"):
        with pytest.raises(AttributeError):
            setattr(made, name, "x")


def test_replace():
    """`replace` makes a new request, checked like any other."""
    made = ChatCompletionsRequest(BASE, temperature=0.5)
    changed = made.replace(temperature=None, top_p=1, model="n")

    assert changed.to_dict() == {"model": "n", "messages": [USER], "top_p": 1}
    assert made.to_dict() == {**BASE, "temperature": 0.5}
    with pytest.raises(RequestValidationError):
        made.replace(model=None)


def test_equality():
    """Requests are equal if they send the same, in whatever order it was given."""
    made = ChatCompletionsRequest(BASE, temperature=0.5, top_p=1)
    same = ChatCompletionsRequest(top_p=1, temperature=0.5, messages="hi", model=MODEL)

    assert made == same
    assert hash(made) == hash(same)
    assert made != same.replace(top_p=None)
    assert made != same.replace(stream=True)
    assert made != made.to_dict()


@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
def test_a_request_survives_pickle_and_copy(protocol: int):
    """What comes back from a pickle or a copy is the same request."""
    made = ChatCompletionsRequest(BASE, temperature=0.5, stream=False)

    for again in (pickle.loads(pickle.dumps(made, protocol)), copy.copy(made), copy.deepcopy(made)):
        assert again == made
        assert again.body(stream=True) == made.body(stream=True)


def test_a_repr_has_no_prompt():
    """A request's `repr` shows the model and numbers, and nothing that somebody wrote."""
    made = ChatCompletionsRequest(
        BASE, system="secret", metadata={"a": "secret"}, user="secret", temperature=0.5, store=True
    )

    assert repr(made) == (
        "ChatCompletionsRequest(model='openai/gpt-4o-mini', messages=..., system=..., "
        "metadata=..., user=..., temperature=0.5, store=True)"
    )


def test_a_request_that_could_not_be_made_can_be_shown():
    """A traceback can show the locals of a request whose making failed."""
    with pytest.raises(RequestValidationError) as caught:
        ChatCompletionsRequest()
    (unmade,) = (
        entry.frame.f_locals["self"]
        for entry in caught.traceback
        if isinstance(entry.frame.f_locals.get("self"), ChatCompletionsRequest)
    )

    assert repr(unmade) == "ChatCompletionsRequest()"


def test_an_error_of_the_callers_own_class_comes_through():
    """If a mapping of the caller's own class fails, the caller sees that error."""

    class Broken(UserDict[str, Any]):
        """A mapping that can't be read."""

        def __getitem__(self, key: str) -> Any:
            raise OSError("the disk is gone")

    with pytest.raises(OSError, match="the disk is gone"):
        ChatCompletionsRequest(model="m", messages=[Broken(role="user", content="hi")])


def test_a_failed_request_leaves_no_garbage():
    """Once the error is gone, so is what the caller put into the request."""

    class Tracked(list[Any]):
        """A list that can be referred to weakly."""

    messages = Tracked([{"role": "x"}])
    watched = weakref.ref(messages)
    with pytest.raises(RequestValidationError):
        ChatCompletionsRequest(model="m", messages=messages)
    del messages
    gc.collect()

    assert watched() is None


# --- anything at all ---

SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(st.characters(exclude_categories=()), max_size=5)
    | st.binary(max_size=3)
)
ANY_KEY = st.sampled_from(
    ["role", "type", "content", "function", "name", "image_url", "tool_calls", "id", "parameters"]
)
ANY_STRING = st.sampled_from(
    ["user", "assistant", "tool", "text", "image_url", "function", "phaseo:datetime", "json_schema"]
)
ANYTHING = st.recursive(
    SCALARS | ANY_STRING,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(ANY_KEY | st.text(max_size=2), inner, max_size=4)
        | st.tuples(inner)
        | st.dictionaries(st.integers() | st.none(), inner, max_size=1)
    ),
    max_leaves=10,
)


def outcome(*args: Any, **params: Any) -> ChatCompletionsRequest | tuple[Fault, ...]:
    """
    The request that comes of this, or what is wrong with it; any other error is the test's failure.
    """
    try:
        return ChatCompletionsRequest(*args, **params)
    except RequestValidationError as error:
        assert str(error)  # noqa: PT017 - no error at all is fine, too
        return error.faults


@settings(deadline=None)
@given(st.dictionaries(st.sampled_from([*PARAMETERS, "stream", "new"]), ANYTHING, max_size=4))
def test_any_values_make_a_request_or_faults(params: dict[str, Any]):
    """Whatever stands in a request, it is made and can be sent, or every fault has a path."""
    made = outcome({**BASE, **params})

    if isinstance(made, tuple):
        assert made
        assert all(each.path and each.expected for each in made)
    else:
        wire = json.loads(made.body(stream=False))
        assert ChatCompletionsRequest(wire).to_dict() == wire


PLAIN_MESSAGES = st.lists(
    st.fixed_dictionaries(
        {"role": st.sampled_from(["user", "assistant", "system", "tool", 1]), "content": ANYTHING},
        optional={"name": st.text(), "tool_call_id": st.text()},
    ),
    max_size=2,
)
SCALARS = st.one_of(
    *(st.none(), st.booleans(), st.integers(-3, 3), st.floats(), st.text(max_size=3)),
    st.sampled_from([0, 0.0, 1, 2, 2.0, 2.5, 16, 17, 20, 21, 2**63 - 1, 2**63, "", "x" * 257]),
)


@settings(deadline=None, max_examples=100)
@given(
    st.dictionaries(st.sampled_from([*PARAMETERS, "stream", "new"]), SCALARS, max_size=4),
    st.one_of(PLAIN_MESSAGES, st.text(max_size=2)),
)
def test_plain_requests_are_no_exception(params: dict[str, Any], messages: Any):
    """The short cut for requests of scalars and text takes and refuses what the long way does."""
    given = {"model": "m", "messages": messages, **params}
    made = outcome(given)
    with patch("aistats._request.request._is_plain", lambda _: False):
        checked = outcome(given)

    assert type(made) is type(checked)
    if isinstance(made, ChatCompletionsRequest):
        assert made.body(stream=False) == checked.body(stream=False)
    else:
        assert list(map(str, made)) == list(map(str, checked))


@settings(deadline=None)
@given(ANYTHING.filter(lambda value: value is not None))
def test_any_value_in_a_requests_place(value: Any):
    """Whatever stands in a request's place, if it names no model there are faults."""
    assert isinstance(outcome(value), tuple)


@settings(deadline=None)
@given(st.lists(ANYTHING, min_size=1, max_size=3))
def test_any_messages(messages: list[Any]):
    """Whatever stands in `messages`, faults lead into it, and none leads elsewhere."""
    made = outcome(model="m", messages=messages)

    if isinstance(made, tuple):
        assert all(each.path.startswith("messages[") for each in made)
    else:
        assert len(made.messages) == len(messages)


def json_equal(one: Any, other: Any) -> bool:
    """
    Whether two values are the same as JSON.
    """
    return json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)


JSON_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.text(max_size=5)
    | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3)
    ),
    max_leaves=10,
)


@settings(deadline=None)
@given(JSON_VALUES)
def test_any_free_json_is_sent_unchanged(value: Any):
    """All JSON passes through a free parameter unchanged."""
    made = sent(trace={"a": value}, provider_options={"b": value})

    assert json_equal(made["trace"], {"a": value})
    assert json_equal(made["provider_options"], {"b": value})
