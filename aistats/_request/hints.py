"""
What to write instead: one sentence for a fault whose mistake is a common one.

`convert` and `request` say what was expected. This file knows what people meant: habits from other
SDKs, and values that have to be converted first. It is loaded only when a request is wrong.
"""

from __future__ import annotations

import dataclasses
import difflib
import inspect
import re
from collections.abc import Callable, Iterable, Mapping
from datetime import date, time
from decimal import Decimal
from typing import Any

import attrs

from .._errors import Fault
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
    Return *fault* with a hint, where the mistake is a common one.
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
    # Register a hint for a value that is wrong, whose path matches. It gets the value.
    return _register(_WRONG, pattern)


def _missing(pattern: str) -> Callable[[Hint], Hint]:
    # Register a hint for a value that is missing, whose path matches. It gets what lacks it.
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


def _has(value: Any, *keys: str) -> bool:
    return is_mapping(value) and any(key in value for key in keys)


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
    if hasattr(value, "message"):
        return "Write messages=[..., response.message]."
    if is_mapping(value) or hasattr(value, "role"):
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
    if hasattr(message, "message"):
        return "Write response.message in place of the response."
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
    return 'Write "content": str(value).' if _is_plain_number(value) else ""


@_wrong(rf"{_PART}")
def _part(value: Any) -> str:
    if isinstance(value, bytes | bytearray) or hasattr(value, "__fspath__"):
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
    return isinstance(value, str | bytes | bytearray) or hasattr(value, "__fspath__")


@_missing(r"messages\[\d+\]\.tool_call_id")
def _no_tool_call_id(_: Any) -> str:
    return 'Write "tool_call_id": call.id, the id of the call that this message answers.'


@_wrong(r"messages\[\d+\]\.tool_calls\[\d+\]\.function\.arguments")
def _arguments(value: Any) -> str:
    return "Write json.dumps(arguments)." if is_mapping(value) else ""


@_wrong(r"response_format(\.json_schema)?(\.schema)?")
def _response_format(value: Any) -> str:
    kind = value if isinstance(value, type) else type(value)
    if hasattr(kind, "model_json_schema"):
        schema = f"{kind.__name__}.model_json_schema()"
        return f"Write {_SCHEMA_FORMAT % (kind.__name__, schema)}."
    if isinstance(value, type) or attrs.has(kind) or dataclasses.is_dataclass(kind):
        return f"Write the class as a JSON schema: {_SCHEMA_FORMAT % (kind.__name__, '{...}')}."
    return ""


@_wrong(r"response_format\.type")
def _type_of_format(value: Any) -> str:
    return f"Write {_SCHEMA_FORMAT % ('...', '{...}')}." if value in JSON_SCHEMA_TYPES else ""


@_missing(r"response_format\.type")
def _no_type_of_format(value: Any) -> str:
    if _has(value, "properties", "$defs", "json_schema", "schema"):
        return f"Write {_SCHEMA_FORMAT % ('...', '{...}')}."
    return ""


@_wrong(r"tools(\[\d+\])?")
def _tool(value: Any) -> str:
    if callable(value):
        name = getattr(value, "__name__", "...")
        return f"Write tools=[{_FUNCTION_TOOL % name}], with the JSON schema of its parameters."
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
        return f'Write tool_choice="{getattr(value, "__name__", "...")}".'
    if isinstance(value, bool):
        return f'Write tool_choice="{"required" if value else "none"}".'
    return ""


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


@_wrong("logprobs")
def _logprobs(value: Any) -> str:
    return f"Write logprobs=True, top_logprobs={value}." if type(value) is int else ""


# --- mistakes of one kind of value, anywhere ---


def _of_kind(fault: Fault) -> str:
    value: Any = fault.value
    if isinstance(value, str):
        return _of_string(value, fault)
    if is_object_like(value):
        return f"Write {fault.path}=[...], a list." if fault.expected.startswith("a list") else ""
    if isinstance(value, type):
        return ""
    return _of_object(value, fault.expected)


def _of_string(value: str, fault: Fault) -> str:
    if fault.expected.startswith("a list of strings"):
        return f'Write {fault.path}=["..."], a list.'
    if fault.expected.startswith(("a number", "a whole number")) and _is_number(value):
        return "Write the number without quotes."
    return ""


def _of_object(value: Any, expected: str) -> str:
    kind: type[Any] = value.__class__
    if inspect.isawaitable(value):
        return "Write `await` before the call that returned it."
    if callable(getattr(value, "tolist", None)):  # NumPy, pandas, PyTorch
        return f"Write {'bool(value)' if expected == 'true or false' else 'value.tolist()'}."
    if callable(getattr(value, "model_dump", None)):
        return "Write value.model_dump()."
    if attrs.has(kind):
        return "Write attrs.asdict(value)."
    if dataclasses.is_dataclass(kind):
        return "Write dataclasses.asdict(value)."
    if isinstance(value, bytes | bytearray):
        return "Write value.decode()."
    if isinstance(value, Decimal):
        return "Write float(value)."
    if isinstance(value, date | time):
        return "Write value.isoformat()."
    if hasattr(kind, "__fspath__") or (expected == "a string" and _is_plain_number(value)):
        return "Write str(value)."
    is_readable = isinstance(value, Iterable) and not is_list_like(value)
    return "Write list(value)." if is_readable and "list" in expected else ""


def _is_plain_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
