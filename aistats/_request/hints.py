"""
Hints for common mistakes: one sentence that says what to write instead.

`convert` and `request` say what was expected. This file recognizes what people meant: habits from
other SDKs, and values that must be converted first. It is loaded only when a request is wrong.
"""

from __future__ import annotations

import dataclasses
import difflib
import inspect
import math
import re
from collections.abc import Callable, Iterable, Mapping
from datetime import date, time
from decimal import Decimal
from numbers import Real
from typing import Any, get_origin

import attrs

from .._errors import Fault
from .._views.completion import ChatCompletionsResponse, Choice
from .rules import JSON_SCHEMA_TYPES
from .to_json import is_list_like, is_mapping, is_object_like

__all__ = ("INSTEAD", "hinted")

INSTEAD = {
    **dict.fromkeys(("prompt", "input", "query", "contents"), "`messages` in its place"),
    **dict.fromkeys(("functions", "toolConfig"), "`tools` in its place"),
    "function_call": "`tool_choice` in its place",
    **dict.fromkeys(
        ("system_prompt", "instructions", "system_instruction"), "`system` in its place"
    ),
    **dict.fromkeys(("engine", "model_name", "model_id", "deployment_id"), "`model` in its place"),
    "fallbacks": "`models` in its place",
    **dict.fromkeys(
        ("max_new_tokens", "max_length", "max_tokens_to_sample"), "`max_output_tokens` in its place"
    ),
    "max_completions_tokens": "`max_completion_tokens` in its place",
    **dict.fromkeys(("stop_sequences", "stop_words"), "`stop` in its place"),
    **dict.fromkeys(("random_seed", "random_state"), "`seed` in its place"),
    **dict.fromkeys(("best_of", "num_return_sequences", "candidate_count"), "`n` in its place"),
    **dict.fromkeys(
        ("text_format", "response_model", "response_schema", "json_schema", "output_format"),
        "`response_format` in its place",
    ),
    "reasoning_summary": '`reasoning={"summary": ...}` in its place',
    "cache_control": '`provider_options={"anthropic": {"cache_control": ...}}` in its place',
    "prompt_cache_options": (
        '`provider_options={"openai": {"prompt_cache_options": ...}}` in its place'
    ),
    **dict.fromkeys(("request_timeout", "timeout_seconds"), "`timeout` in its place"),
    **dict.fromkeys(("num_retries", "retries"), "`max_retries` in its place"),
    **dict.fromkeys(("headers", "http_headers"), "`extra_headers` in its place"),
    **dict.fromkeys(("params", "default_query"), "`extra_query` in its place"),
    **dict.fromkeys(("api_key", "base_url"), "an argument of the client in its place"),
    **dict.fromkeys(
        ("api_base", "endpoint"), "`base_url`, an argument of the client, in its place"
    ),
}
"""What stands for a top-level key of another SDK, in words that follow "expected"."""

Given = Mapping[Any, Any]
"""The request as it was given."""


def hinted(fault: Fault, given: Given) -> Fault:
    """
    Return *fault* with a hint, if the mistake is a common one.
    """
    hint = _of_place(fault, given) or _of_kind(fault)
    return attrs.evolve(fault, hint=hint) if hint else fault


# --- mistakes of one place ---

_SCHEMA_FORMAT = (
    'response_format={"type": "json_schema", "json_schema": {"name": "%s", "schema": %s}}'
)
_FUNCTION_TOOL = (
    '{"type": "function", "function": {"name": "%s", "description": "...", "parameters": {...}}}'
)
_USER_MESSAGE = '{"role": "user", "content": "..."}'
_TEXT_PART = '{"type": "text", "text": "..."}'
_IMAGE = 'aistats.image("photo.png") as the part; it takes a path, bytes or a URL'
_AUDIO = 'aistats.audio("speech.wav") as the part; it takes a path, bytes or a URL'
_PART = r"messages\[\d+\]\.content\[\d+\]"
_ROLES = ("system", "developer", "user", "assistant", "tool")
_OTHER_ROLES = {
    "human": "user",
    **dict.fromkeys(("ai", "bot", "model", "chatbot", "agent"), "assistant"),
    **dict.fromkeys(("function", "ipython", "tool_result"), "tool"),
}

Hint = Callable[[Any], str]

_WRONG: list[tuple[re.Pattern[str], Hint]] = []
_MISSING: list[tuple[re.Pattern[str], Hint]] = []


def _wrong(pattern: str) -> Callable[[Hint], Hint]:
    # Register a hint for a wrong value whose path matches. It gets the value.
    return _register(_WRONG, pattern)


def _missing(pattern: str) -> Callable[[Hint], Hint]:
    # Register a hint for a missing value whose path matches. It gets the mapping that lacks it.
    return _register(_MISSING, pattern)


def _register(places: list[tuple[re.Pattern[str], Hint]], pattern: str) -> Callable[[Hint], Hint]:
    def register(hint: Hint) -> Hint:
        places.append((re.compile(pattern), hint))
        return hint

    return register


def _of_place(fault: Fault, given: Given) -> str:
    is_missing = fault.value is None
    for pattern, hint in _MISSING if is_missing else _WRONG:
        if pattern.fullmatch(fault.path):
            return hint(_container(fault.path, given) if is_missing else fault.value)
    return ""


def _container(path: str, given: Given) -> Any:
    # What contains the last step of *path*; `None` where the path has steps that are no plain keys.
    value: Any = given
    for key, index in _steps(path)[:-1]:
        try:
            value = value[int(index)] if index else value[key]
        except (LookupError, TypeError, AttributeError):
            return None
    return value


def _steps(path: str) -> list[tuple[str, str]]:
    return re.findall(r"([A-Za-z_][\w:-]*)|\[(\d+)\]", path)


def _kind(value: Any) -> Any:
    # The class of *value*, or *value* itself if it is a class.
    return value if isinstance(value, type) else type(value)


def _has(value: Any, *keys: str) -> bool:
    return is_mapping(value) and any(key in value for key in keys)


def _is_response(value: Any) -> bool:
    return isinstance(value, ChatCompletionsResponse | Choice)


def _name_of(value: Any) -> str:
    name = getattr(value, "__name__", None) if inspect.isroutine(value) else None
    return name if isinstance(name, str) else "..."


@_wrong("request")
def _request(value: Any) -> str:
    if isinstance(value, str):
        return 'Write the prompt as messages="...", beside model="...".'
    if is_list_like(value):
        return 'Write the list as messages=[...], beside model="...".'
    return ""


@_wrong("model")
@_missing("model")
def _model(value: Any) -> str:
    if is_list_like(value):
        return 'Write model="..." for one model, and models=["...", "..."] for fallbacks.'
    return 'Write model="openai/gpt-4o-mini", or the id of another model.'


@_missing("messages")
def _no_messages(_: Any) -> str:
    return f'Write messages="..." for one prompt, or messages=[{_USER_MESSAGE}].'


@_wrong("messages")
def _messages(value: Any) -> str:
    if _is_response(value):
        return "Write messages=[..., response.message]."
    if is_object_like(value):
        return "Write messages=[message]: a list, also for one message."
    if is_list_like(value):
        return f"Write messages=[{_USER_MESSAGE}]."
    return ""


@_wrong(r"messages\[\d+\]")
def _message(value: Any) -> str:
    if isinstance(value, str):
        return f'Write {_USER_MESSAGE}; a single prompt may be messages="...".'
    if is_list_like(value) and value:
        if isinstance(value[0], str):
            return f"Write {_USER_MESSAGE}."
        return "Write messages=history in place of messages=[history], or [*history, message]."
    return ""


@_missing(r"messages\[\d+\]\.role")
def _no_role(message: Any) -> str:
    if _is_response(message):
        return "Write response.message in place of the response."
    if _has(message, "choices"):
        return 'Write response["choices"][0]["message"] in place of the response.'
    return f"Write {_USER_MESSAGE}."


@_wrong(r"messages\[\d+\]\.role")
def _role(value: Any) -> str:
    if not isinstance(value, str):
        return ""
    known = _OTHER_ROLES.get(value.lower())
    near = [known] if known else difflib.get_close_matches(value.lower(), _ROLES, n=1)
    return f'Write "role": "{near[0]}".' if near else ""


@_missing(r"messages\[\d+\]\.content")
def _no_content(_: Any) -> str:
    return 'Write "content": "...".'


@_wrong(r"messages\[\d+\]\.content")
def _content(value: Any) -> str:
    if _has(value, "type"):
        return 'Write "content": [part]: a list, also for one part.'
    if is_mapping(value):
        return 'Write "content": json.dumps(value).'
    return 'Write "content": str(value).' if _is_finite(value) else ""


@_wrong(rf"{_PART}")
def _part(value: Any) -> str:
    if _is_data(value) and not isinstance(value, str):
        return "Write aistats.image(value), or aistats.audio(value)."
    return f"Write {_TEXT_PART}." if isinstance(value, str) else ""


@_missing(rf"{_PART}\.type")
def _no_type_of_part(part: Any) -> str:
    return f"Write {_TEXT_PART}." if _has(part, "text") else ""


@_wrong(rf"{_PART}\.type")
def _type_of_part(value: Any) -> str:
    if value == "input_text":
        return f"Write {_TEXT_PART}."
    return f"Write {_IMAGE}." if value in ("image", "input_image") else ""


@_wrong(rf"{_PART}\.image_url(\.url)?")
def _image(value: Any) -> str:
    return f"Write {_IMAGE}." if _is_data(value) else ""


@_wrong(rf"{_PART}\.(input_audio|audio_url)(\.(url|data))?")
def _audio(value: Any) -> str:
    return f"Write {_AUDIO}." if _is_data(value) else ""


@_wrong(rf"{_PART}\.video_url(\.url)?")
def _video(value: Any) -> str:
    return 'Write {"url": "data:video/mp4;base64,..."} for a file.' if _is_data(value) else ""


def _is_data(value: Any) -> bool:
    # Bytes, or text or a path that stands for a file.
    return isinstance(value, str | bytes | bytearray) or hasattr(_kind(value), "__fspath__")


@_missing(r"messages\[\d+\]\.tool_call_id")
def _no_tool_call_id(_: Any) -> str:
    return 'Write "tool_call_id": call.id, the id of the call that this message answers.'


@_missing(r"messages\[\d+\]\.tool_calls\[\d+\]\.type")
def _no_type_of_call(call: Any) -> str:
    return 'Write "type": "function".' if _has(call, "function") else ""


@_wrong(r"messages\[\d+\]\.tool_calls\[\d+\]\.function\.arguments")
def _arguments(value: Any) -> str:
    return "Write json.dumps(arguments)." if is_mapping(value) else ""


@_wrong(r"response_format(\.json_schema)?(\.schema)?")
def _response_format(value: Any) -> str:
    kind = _kind(value)
    name: str = kind.__name__
    if hasattr(kind, "model_json_schema"):
        return f"Write {_SCHEMA_FORMAT % (name, f'{name}.model_json_schema()')}."
    if get_origin(value):
        return f"Write the type as a JSON schema: {_SCHEMA_FORMAT % ('...', '{...}')}."
    if isinstance(value, type) or attrs.has(kind) or dataclasses.is_dataclass(kind):
        return f"Write the class as a JSON schema: {_SCHEMA_FORMAT % (name, '{...}')}."
    return ""


@_wrong(r"response_format\.type")
def _type_of_format(value: Any) -> str:
    return f"Write {_SCHEMA_FORMAT % ('...', '{...}')}." if value in JSON_SCHEMA_TYPES else ""


@_missing(r"response_format\.type")
def _no_type_of_format(value: Any) -> str:
    if _has(value, "properties", "$defs", "json_schema", "schema"):
        return f"Write {_SCHEMA_FORMAT % ('...', '{...}')}."
    return ""


@_wrong(r"tools(\[\d+\](\.function)?)?")
def _tool(value: Any) -> str:
    if callable(value):
        tool = _FUNCTION_TOOL % _name_of(value)
        return f"Write tools=[{tool}], with the JSON schema of its parameters."
    if is_mapping(value):
        return "Write tools=[tool]: a list, also for one tool."
    if isinstance(value, str):
        return 'Write tools=[{"type": "phaseo:web_search"}] for a tool that the gateway runs.'
    return ""


@_missing(r"tools\[\d+\]\.(type|function)")
def _no_kind_of_tool(tool: Any) -> str:
    if _has(tool, "name", "function", "input_schema", "parameters"):
        return f"Write {_FUNCTION_TOOL % '...'}."
    return ""


@_wrong("tool_choice")
def _tool_choice(value: Any) -> str:
    if callable(value):
        return f'Write tool_choice="{_name_of(value)}".'
    if isinstance(value, bool):
        return f'Write tool_choice="{"required" if value else "none"}".'
    return ""


@_missing(r"tool_choice\.name")
def _no_tool_name(choice: Any) -> str:
    return 'Write "type": "function", too.' if _has(choice, "function") else ""


@_wrong("system")
def _system(value: Any) -> str:
    if is_list_like(value):
        return 'Write one string, or the parts in {"role": "system", "content": [...]}.'
    return ""


@_wrong("reasoning")
def _reasoning(value: Any) -> str:
    if isinstance(value, bool):
        return f'Write reasoning={{"enabled": {value}}}.'
    return 'Write reasoning={"effort": "low"}.' if isinstance(value, str) else ""


@_wrong("thinking")
def _thinking(value: Any) -> str:
    if isinstance(value, bool):
        return f'Write thinking={{"type": "{"enabled" if value else "disabled"}"}}.'
    return ""


@_wrong(r"documents\[\d+\]")
def _document(value: Any) -> str:
    return 'Write {"content": "..."}.' if isinstance(value, str) else ""


@_wrong("logprobs")
def _logprobs(value: Any) -> str:
    return f"Write logprobs=True, top_logprobs={value}." if type(value) is int else ""


# --- mistakes of one kind of value, anywhere ---


def _of_kind(fault: Fault) -> str:
    value: Any = fault.value
    if isinstance(value, str):
        return _of_string(value, fault)
    if is_object_like(value):
        return _in_a_list(fault.path, "...") if fault.expected.startswith("a list") else ""
    if isinstance(value, type | Real):
        return "Write str(value)." if fault.expected == "a string" and _is_finite(value) else ""
    return _of_object(value, fault.expected)


def _in_a_list(path: str, item: str) -> str:
    # The path of a parameter is its name.
    name = path.rpartition(".")[2]
    return f"Write {path}=[{item}], a list." if name == path else f'Write "{name}": [{item}].'


def _of_string(value: str, fault: Fault) -> str:
    if fault.expected.startswith("a list of strings"):
        return _in_a_list(fault.path, '"..."')
    if fault.expected.startswith(("a number", "a whole number")) and _is_number(value):
        return "Write the number without quotes."
    if fault.expected == "a mapping" and value.lstrip().startswith("{"):
        return "Write json.loads(value)."
    return ""


def _of_object(value: Any, expected: str) -> str:
    # Only the class is asked: an attribute of any object may do anything.
    kind = _kind(value)
    takes_text = "string" in expected or "JSON" in expected
    if inspect.isawaitable(value):
        return "Write `await` before the call that returned it."
    if _has_method(kind, "tolist") or _has_method(kind, "to_dict"):
        return f"Write {_converted(kind, expected)}."
    if _has_method(kind, "model_dump"):
        return "Write value.model_dump()."
    if attrs.has(kind):
        return "Write attrs.asdict(value)."
    if dataclasses.is_dataclass(kind):
        return "Write dataclasses.asdict(value)."
    if isinstance(value, bytes | bytearray):
        return "Write value.decode()."
    if isinstance(value, Decimal):
        return "Write float(value)."
    if takes_text and isinstance(value, date | time):
        return "Write value.isoformat()."
    if takes_text and _has_method(kind, "__fspath__"):
        return "Write str(value)."
    is_readable = isinstance(value, Iterable) and not is_list_like(value)
    return "Write list(value)." if is_readable and "list" in expected else ""


def _converted(kind: Any, expected: str) -> str:
    # Arrays, columns and frames of NumPy, pandas, PyTorch, and their like.
    if expected == "true or false":
        return "bool(value)"
    if _has_method(kind, "iterrows"):
        return 'value.to_dict("records")'
    is_object = expected in ("a mapping", "a message", "a part", "a tool")
    return "value.to_dict()" if is_object and _has_method(kind, "to_dict") else "value.tolist()"


def _has_method(kind: Any, name: str) -> bool:
    return callable(getattr(kind, name, None))


def _is_finite(value: Any) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
