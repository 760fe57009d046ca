"""
What comes back: that each view reads what it says it reads, from any JSON.

How whole answers read is in `test_assembly`, and how a view as such behaves in `test_wire`.
"""

from __future__ import annotations

import copy
import pickle
from collections.abc import Iterator
from decimal import Decimal
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aistats import (
    Attempt,
    ChatCompletionChunk,
    ChatCompletionsResponse,
    Choice,
    ChunkChoice,
    Delta,
    Headers,
    Message,
    Timing,
    ToolCall,
    ToolCallDelta,
    Usage,
    types,
)
from aistats._exchange import Exchange
from aistats._views import completion as _models
from aistats._views.completion import TranslatedChunk
from aistats._views.message import FunctionCall
from aistats._views.older_gateway import is_itemised
from aistats._views.text import is_server_tool, is_thought, read_reasoning, read_text
from aistats.types import WireObject

quick = settings(deadline=None, max_examples=100)

VIEWS: list[type[WireObject]] = [
    view
    for view in vars(types).values()
    if isinstance(view, type) and issubclass(view, WireObject) and view is not WireObject
]


def hints(view: type[Any]) -> dict[str, Any]:
    """
    The types that a *view* declares; those of a public one name what only its own module has.
    """
    return get_type_hints(view, vars(_models)) if issubclass(view, WireObject) else {}


def properties(view: type[WireObject]) -> dict[str, Any]:
    """
    The public properties of a *view*, each with the type that it is annotated with.
    """
    found: dict[str, Any] = {}
    for kind in reversed(view.__mro__):
        fields = hints(kind)
        for name, value in vars(kind).items():
            if isinstance(value, property) and not name.startswith("_"):
                written_out = get_type_hints(value.fget).get("return")
                found[name] = fields[name] if written_out is None else written_out
    return found


@pytest.mark.parametrize("view", VIEWS, ids=lambda view: view.__name__)
def test_hints_can_be_read(view: type[WireObject]):
    """
    What reads annotations, as documentation tools do, finds the types of a view's fields.
    """
    assert set(get_type_hints(view)) >= set(view.__annotations__)


def test_views_were_found():
    """
    The tests below look at every kind of view, with their properties.
    """
    assert {ChatCompletionsResponse, Usage, Message, types.TopLogprob} <= set(VIEWS)
    assert len(VIEWS) > 25
    assert properties(ToolCallDelta) == {
        **dict.fromkeys(["id", "type", "name"], str | None),
        "function": FunctionCall | None,
        "custom": types.CustomCall | None,
        "arguments": str,
        "is_server_tool": bool,
        "index": int | None,
    }


def is_of(value: Any, annotation: Any) -> bool:
    """
    Whether *value* is of the type that *annotation* says.
    """
    if annotation is Any:
        return True
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin in (Union, UnionType):
        return any(is_of(value, arm) for arm in arguments)
    if origin is list:
        return type(value) is list and all(is_of(each, arguments[0]) for each in value)
    if origin is tuple:
        return type(value) is tuple and all(is_of(each, arguments[0]) for each in value)
    if annotation is float:
        return type(value) in (int, float)
    return type(value) is annotation


@pytest.mark.parametrize("view", VIEWS, ids=lambda view: view.__name__)
def test_the_json_of_a_field(view: type[WireObject]):
    """
    A declared field gives what its key has, where that is of its type.
    """
    for name, annotation in hints(view).items():
        if name.startswith("_") or name not in properties(view):
            continue
        # Another value for each key, so that no field can read its neighbour's.
        for right, expected in sound_values(annotation, name):
            assert getattr(view.from_dict({name: right, "other": "else"}), name) == expected


def sound_values(annotation: Any, name: str) -> Iterator[tuple[Any, Any]]:
    """
    JSON for a field of that type, each with what is to be read.
    """
    number = len(name)
    for arm in (
        get_args(annotation) if get_origin(annotation) in (Union, UnionType) else [annotation]
    ):
        if get_origin(arm) is list:
            (item,) = get_args(arm)
            pairs = list(sound_values(item, name))
            yield [right for right, _ in pairs], [expected for _, expected in pairs]
        elif isinstance(arm, type) and issubclass(arm, WireObject):
            wire = {"in": name}
            yield wire, arm.from_dict(wire)
        else:
            scalars: dict[Any, Any] = {
                str: name,
                int: number,
                float: number + 0.5,
                bool: True,
                NoneType: None,
                Any: {"in": name},
            }
            yield (
                (f"{number}.50", Decimal(f"{number}.5"))
                if arm is Decimal
                else (
                    scalars[arm],
                    scalars[arm],
                )
            )


# -- any JSON -----------------------------------------------------------------------------------

KEYS = sorted({name for view in VIEWS for name in properties(view)} | {"thinking", "input_tokens"})
words = st.sampled_from(
    ["text", "thinking", "output_text", "function", "custom", "phaseo_web_search", "1.5", "", "x"]
)
json_values: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**20), 10**20) | st.floats(allow_nan=False) | words,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=4)
    ),
    max_leaves=10,
)


@st.composite
def odd(draw: st.DrawFn, view: type[WireObject]) -> dict[str, Any]:
    """
    JSON for *view* with any value at any of the keys that it reads.
    """
    names = st.sampled_from([*properties(view), "pricing", "reasoning", "content", "message"])
    return draw(st.dictionaries(names, json_values, max_size=6))


@given(data=st.data(), view=st.sampled_from([*VIEWS, TranslatedChunk]))
@quick
def test_any_json(data: st.DataObject, view: type[WireObject]):
    """
    Whatever JSON came, each property of each view can be read, and is of the type that it says.
    """
    wire = data.draw(odd(view))
    seen = TranslatedChunk(wire, "", b"", wire) if view is TranslatedChunk else view.from_dict(wire)

    for name, annotation in properties(view).items():
        assert is_of(getattr(seen, name), annotation), name
    assert seen.to_dict() == wire
    assert seen == copy.deepcopy(seen)
    if isinstance(seen, Message | ToolCall):
        assert None not in seen.to_param().values()


# -- text and thought ---------------------------------------------------------------------------

TEXT = {"type": "text", "text": "Hi"}
THINKING = {"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]}


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("Hi", "Hi"),
        ("", ""),
        (None, None),
        (5, None),
        ({"text": "Hi"}, None),
        ([], ""),
        ([TEXT, {"type": "output_text", "text": "!"}], "Hi!"),
        ([THINKING, TEXT], "Hi"),
        ([{"type": "refusal", "text": "no"}, {"text": "no"}, "no", None], ""),
        ([{"type": "text", "text": None}, {"type": "text"}, TEXT], "Hi"),
    ],
)
def test_text(content: object, expected: str | None):
    """
    The text of a message, a delta or an answer is a string, or that of the text parts of a list.
    """
    answer = ChatCompletionsResponse.from_dict({"choices": [{"message": {"content": content}}]})

    assert read_text(content) == expected
    assert Message.from_dict({"content": content}).content == expected
    assert Delta.from_dict({"content": content}).content == expected
    assert answer.text == (expected or "")


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ({}, None),
        ({"reasoning_content": "a"}, "a"),
        ({"reasoning": "b"}, "b"),
        ({"reasoning_content": "a", "reasoning": "b"}, "a"),
        ({"reasoning_content": "", "reasoning": "b"}, "b"),
        ({"reasoning_content": None, "reasoning": {"text": "no"}}, None),
        ({"reasoning_details": [{"text": "c"}, {"data": "…"}, {"text": "d"}]}, "cd"),
        ({"reasoning_details": [{"text": "c"}], "reasoning": "b"}, "b"),
        ({"content": [THINKING, TEXT, THINKING]}, "hmhm"),
        ({"content": [{"type": "thinking", "thinking": "plain"}]}, "plain"),
        ({"content": "Hi"}, None),
    ],
)
def test_reasoning(message: dict[str, Any], expected: str | None):
    """
    One spelling of thought is read, the one that says most plainly what it is first.
    """
    answer = ChatCompletionsResponse.from_dict({"choices": [{"message": message}]})

    assert read_reasoning(message) == (expected or "")
    assert Message.from_dict(message).reasoning == expected
    assert Delta.from_dict(message).reasoning == expected
    assert answer.reasoning == expected


@pytest.mark.parametrize(
    ("choice", "expected"),
    [
        ({"reasoning": True}, True),
        ({"reasoning": False}, False),
        ({"reasoning": "hm"}, False),
        ({"reasoning": 1}, False),
        ({"message": {"reasoning": True}}, False),
        ({}, False),
    ],
)
def test_thought(choice: dict[str, Any], expected: bool):
    """
    A choice is thought where the older gateway marks it, and nowhere else.
    """
    assert is_thought(choice) is expected
    assert Choice.from_dict(choice).is_thought is expected
    assert ChunkChoice.from_dict(choice).is_thought is expected


# -- tool calls ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "name", "arguments"),
    [
        ({}, None, ""),
        ({"function": {"name": "f", "arguments": '{"a":1}'}}, "f", '{"a":1}'),
        ({"function": {"name": "f"}}, "f", ""),
        ({"function": {"name": "f", "arguments": None}}, "f", ""),
        ({"function": {"name": "f", "arguments": {"a": "ø"}}}, "f", '{"a":"ø"}'),
        ({"function": {"name": "f", "arguments": [1]}}, "f", ""),
        ({"function": {}}, None, ""),
        ({"custom": {"name": "sql", "input": "SELECT"}}, "sql", "SELECT"),
        ({"custom": {"name": "sql"}}, "sql", ""),
        ({"function": None, "custom": {"name": "sql", "input": "SELECT"}}, "sql", "SELECT"),
        ({"function": "f"}, None, ""),
    ],
)
def test_a_tool_call(call: dict[str, Any], name: str | None, arguments: str):
    """
    Name and arguments of a call are those of its function or of its custom tool.
    """
    for view in (ToolCall.from_dict(call), ToolCallDelta.from_dict(call)):
        assert (view.name, view.arguments) == (name, arguments)


@pytest.mark.parametrize(
    ("call", "expected"),
    [
        (
            {"index": 0, "id": "t1", "type": "function", "function": {"name": "f"}},
            {"id": "t1", "type": "function", "function": {"name": "f"}},
        ),
        ({"id": "t1", "function": {}}, {"id": "t1", "type": "function", "function": {}}),
        (
            {"id": "t1", "type": None, "custom": {"name": "sql"}, "function": None},
            {"id": "t1", "type": "custom", "custom": {"name": "sql"}},
        ),
    ],
)
def test_a_tool_call_as_a_request_takes_it(call: dict[str, Any], expected: dict[str, Any]):
    """
    A call goes back with its type, and with neither its index nor what is null.
    """
    view = ToolCall.from_dict(call)

    assert view.to_param() == expected
    assert view.to_dict() == call


@pytest.mark.parametrize("name", [None, "", "f", "phaseo_", "gateway_", "PHASEO_WEB_SEARCH"])
def test_names_of_the_callers_own_tools(name: str | None):
    """
    A name that is not the gateway's is the caller's, whatever it looks like.
    """
    assert not is_server_tool(name)


# -- usage --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("usage", "expected"),
    [
        ({}, (None, None, None)),
        ({"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 4}, (1, 2, 4)),
        ({"prompt_tokens": 1, "completion_tokens": 2}, (1, 2, 3)),
        ({"input_tokens": 1, "output_tokens": 2}, (1, 2, 3)),
        ({"prompt_tokens": 0, "input_tokens": 5, "output_tokens": 0}, (0, 0, 0)),
        ({"prompt_tokens": None, "input_tokens": 5}, (5, None, None)),
        ({"completion_tokens": 2}, (None, 2, None)),
        ({"total_tokens": 4}, (None, None, 4)),
        ({"prompt_tokens": 1.0, "completion_tokens": "2"}, (1, None, None)),
    ],
)
def test_tokens(usage: dict[str, Any], expected: tuple[int | None, int | None, int | None]):
    """
    Tokens are read in both spellings, the newer first, and are added up where no sum was sent.
    """
    view = Usage.from_dict(usage)

    assert (view.prompt_tokens, view.completion_tokens, view.total_tokens) == expected


def test_details_of_tokens():
    """
    What the tokens were is read in both spellings, too.
    """
    newer = {
        "prompt_tokens_details": {"cached_tokens": 3},
        "completion_tokens_details": {"reasoning_tokens": 4},
    }
    older = {
        "input_tokens_details": {"cached_tokens": 3},
        "output_tokens_details": {"reasoning_tokens": 4},
    }
    for usage in (newer, older):
        view = Usage.from_dict(usage)
        assert view.prompt_tokens_details is not None
        assert view.prompt_tokens_details.cached_tokens == 3
        assert view.completion_tokens_details is not None
        assert view.completion_tokens_details.reasoning_tokens == 4


@pytest.mark.parametrize(
    ("usage", "expected"),
    [
        ({"cost": 0.00014}, "0.00014"),
        ({"cost": "0.00014"}, "0.00014"),
        ({"cost": None}, None),
        ({"cost": 1, "pricing": {"total_usd_str": "2"}}, "2"),
        ({"pricing": {"total_nanos": 10**18 + 1}}, "1000000000.000000001"),
    ],
)
def test_other_costs(usage: dict[str, Any], expected: str | None):
    """
    A price without a bill is read, too, and none loses a digit.
    """
    assert Usage.from_dict(usage).cost == (None if expected is None else Decimal(expected))


# -- choices ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("logprobs", "expected"),
    [
        (None, None),
        ([], None),
        ("x", None),
        ([{"token": "H"}], ["H"]),
        ({"content": [{"token": "H"}]}, ["H"]),
        ({}, []),
        ({"content": None}, []),
    ],
)
def test_logprobs(logprobs: object, expected: list[str] | None):
    """
    Log probabilities are an object, or a bare list of the tokens.
    """
    view = Choice.from_dict({"logprobs": logprobs}).logprobs

    assert (None if view is None else [each.token for each in view.content]) == expected


@pytest.mark.parametrize(
    ("wire", "expected"), [({"index": 2}, 2), ({"index": None}, 0), ({}, 0), ({"index": "1"}, 0)]
)
def test_the_index_of_a_choice(wire: dict[str, Any], expected: int):
    """
    A choice without a number is the first.
    """
    assert Choice.from_dict(wire).index == ChunkChoice.from_dict(wire).index == expected


@pytest.mark.parametrize(
    ("wire", "expected"),
    [
        ({}, True),
        ({"usage": {"input_tokens": 1}}, True),
        ({"provider": None, "nativeResponseId": ""}, True),
        ({"provider": "openai"}, False),
        ({"nativeResponseId": "chatcmpl-1"}, True),
        ({"nativeResponseId": "chatcmpl-1", "usage": {"prompt_tokens": 1}}, False),
        ({"system_fingerprint": "fp"}, False),
        ({"usage": {"prompt_tokens": None}}, False),
    ],
)
def test_the_older_gateways_hand(wire: dict[str, Any], expected: bool):
    """
    An answer is the older gateway's if nothing in it shows the newer's.
    """
    assert is_itemised(wire) is expected


# -- whole answers and chunks -------------------------------------------------------------------

EXCHANGE = Exchange(
    status=200,
    raw_headers=((b"X-Request-Id", b"req-1"),),
    attempts=(Attempt("answered", 503, "status 503", 0.5), Attempt("answered", 200)),
    timing=Timing(total=1.5),
)


def test_an_answer_of_a_call():
    """
    An answer tells of the call that it came from.
    """
    answer = ChatCompletionsResponse({"id": "G-1"}, EXCHANGE)

    assert (answer.request_id, answer.status, answer.timing.total) == ("G-1", 200, 1.5)
    assert answer.headers["x-request-id"] == "req-1"
    assert [attempt.status for attempt in answer.attempts] == [503, 200]


def test_an_answer_of_no_call():
    """
    An answer that was made of JSON alone came from no call.
    """
    answer = ChatCompletionsResponse.from_dict({})

    assert (answer.request_id, answer.status, answer.attempts) == (None, None, ())
    assert (answer.headers, answer.timing) == (Headers(), Timing())


def test_the_request_id_of_an_answer_without_an_id():
    """
    Where the body has no id, one of the headers is the request's.
    """
    assert ChatCompletionsResponse({}, EXCHANGE).request_id == "req-1"


def test_an_answer_survives_pickle_and_copy():
    """
    An answer from another process has its JSON and its call.
    """
    answer = ChatCompletionsResponse({"id": "G-1", "choices": []}, EXCHANGE)

    for again in (pickle.loads(pickle.dumps(answer)), copy.copy(answer), copy.deepcopy(answer)):
        assert again == answer
        assert (again.status, again.attempts, again.headers) == (
            answer.status,
            answer.attempts,
            answer.headers,
        )


def test_a_chunk_is_its_line():
    """
    The string of a chunk is its line as it came, whatever bytes were in it.
    """
    assert str(ChatCompletionChunk({}, "", b'data: {"id":"\xc3\xb8"}')) == 'data: {"id":"ø"}'
    assert str(ChatCompletionChunk({}, "", b"data: \xff")) == "data: \ufffd"


CHUNK: dict[str, Any] = {"id": "G-1", "choices": [{"delta": {"content": "Hi"}}]}


@pytest.mark.parametrize(
    ("chunk", "wire"),
    [
        (ChatCompletionChunk(CHUNK, "Hi", b"data: {}"), CHUNK),
        (TranslatedChunk(CHUNK, "Hi", b"data: {}", {"type": "ping"}), {"type": "ping"}),
    ],
    ids=["as it came", "translated"],
)
def test_a_chunk_survives_pickle_and_copy(chunk: ChatCompletionChunk, wire: dict[str, Any]):
    """
    A chunk from another process has its JSON, its new text and its line.
    """
    for again in (pickle.loads(pickle.dumps(chunk)), copy.copy(chunk), copy.deepcopy(chunk), chunk):
        assert again == chunk
        assert (again.text, str(again), again.to_dict()) == ("Hi", "data: {}", wire)
        assert again.choices[0].delta.content == "Hi"
