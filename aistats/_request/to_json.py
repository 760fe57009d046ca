"""
Encodes Python values as JSON, and says which values count as objects and lists.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from enum import Enum
from numbers import Integral, Real
from typing import Any, TypeGuard
from uuid import UUID

import orjson

from .._errors import Fault, RequestValidationError
from .._views.json import WireObject

__all__ = (
    "as_dict",
    "as_json",
    "encode",
    "finite",
    "is_list_like",
    "is_mapping",
    "is_object_like",
    "join_path",
)


def is_mapping(value: object) -> TypeGuard[Mapping[Any, Any]]:
    """
    Return whether *value* is a mapping other than a view of a response.
    """
    return isinstance(value, dict | Mapping) and not isinstance(value, WireObject)


def is_object_like(value: Any) -> bool:
    """
    Return whether *value* can stand for a JSON object: a mapping, or one of the package's own
    objects.
    """
    return isinstance(value, dict | Mapping | WireObject)


def is_list_like(value: Any) -> bool:
    """
    Return whether *value* can stand for a JSON array.
    """
    # An iterator is not a list, because it can be read only once.
    if isinstance(value, str | bytes | bytearray | memoryview):
        return False
    return isinstance(value, list | Sequence)


def as_dict(value: Any) -> dict[Any, Any]:
    """
    Return the object-like *value* as a dict; a dict is returned itself.
    """
    if isinstance(value, dict):
        return value  # pyright: ignore[reportUnknownVariableType]  # What is in it is unknown.
    if isinstance(value, WireObject):
        to_request: Callable[[], dict[str, Any]] = getattr(value, "to_param", value.to_dict)
        return to_request()
    return dict(value)


def finite(value: Any) -> float | None:
    """
    Return the number *value* as an `int` or a `float`; `None` if it is not finite.
    """
    if isinstance(value, Integral):
        return int(value)
    try:
        number = float(value)
    except OverflowError:  # A fraction may be too large.
        return None
    return number if math.isfinite(number) else None


_PLAIN_KEY = r"[A-Za-z_][\w:-]*"
_LONGEST_KEY = 100


def join_path(path: str, *steps: object) -> str:
    """
    Return *path* extended by keys and indexes: `messages[1].content`.
    """
    for step in steps:
        if isinstance(step, str) and len(step) > _LONGEST_KEY:
            path = f"{path}[{step[:_LONGEST_KEY]!r}...]"
        elif isinstance(step, str) and re.fullmatch(_PLAIN_KEY, step):
            path = f"{path}.{step}" if path else step
        else:
            path = f"{path}[{step!r}]"
    return path


# A date or a dataclass is not JSON, and what it should look like is the caller's to say.
_OPTIONS = orjson.OPT_PASSTHROUGH_DATACLASS | orjson.OPT_PASSTHROUGH_DATETIME
_DEEPEST = 254  # What orjson can write.
_ENOUGH = 100


def encode(value: Any, path: str = "") -> bytes:
    """
    Return *value* as JSON. *path* is its place in the request, for errors.

    Raises:
        RequestValidationError: Part of it can't be written as JSON.
    """
    try:
        body = orjson.dumps(value, option=_OPTIONS)
    except orjson.JSONEncodeError:
        body = b""
    # orjson writes `null` for NaN: where there is no `null`, not even in a string, there is no NaN.
    if body and b"null" not in body:
        return body
    faults: list[Fault] = []
    plain = as_json(value, path, faults)
    if faults:
        raise RequestValidationError(faults)
    return body or orjson.dumps(plain)


def as_json(value: Any, path: str, faults: list[Fault], around: tuple[int, ...] = ()) -> Any:
    """
    Return *value* as dicts, lists and scalars of just these types; what can't be is put into
    *faults*.

    *around* are the ids of what contains it. The search ends once there are many faults.
    """
    if isinstance(value, Enum):
        value = value.value
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, UUID):  # orjson writes it, too.
        return str(value)
    if isinstance(value, str | Real):
        return _scalar_as_json(value, path, faults)
    if not is_list_like(value) and not is_object_like(value):
        faults.append(Fault(path, value, "a JSON value"))
        return None
    if id(value) in around or len(around) >= _DEEPEST:
        faults.append(Fault(path, value, f"a JSON value, nested at most {_DEEPEST} levels deep"))
        return None
    around = (*around, id(value))
    # No comprehensions: each would add a second frame per level, and the stack is limited.
    if is_list_like(value):
        items: list[Any] = []
        for index, item in enumerate(value):
            if len(faults) >= _ENOUGH:
                break
            items.append(as_json(item, join_path(path, index), faults, around))
        return items
    made: dict[str, Any] = {}
    for key, item in as_dict(value).items():
        if len(faults) >= _ENOUGH:
            break
        if isinstance(key, str) and _is_unicode(key):
            made[str.__str__(key)] = as_json(
                item, join_path(path, str.__str__(key)), faults, around
            )
        else:
            faults.append(Fault(path, key, "keys that are strings"))
    return made


def _scalar_as_json(value: Any, path: str, faults: list[Fault]) -> Any:
    if isinstance(value, str):
        if not _is_unicode(value):
            faults.append(Fault(path, value, "a string without lone surrogates"))
        return str.__str__(value)
    number = finite(value)
    if number is None:
        faults.append(Fault(path, value, "a number that is finite"))
    elif isinstance(number, int) and not -(2**63) <= number < 2**64:
        faults.append(Fault(path, value, "a whole number of at most 64 bits"))
    return number


def _is_unicode(text: str) -> bool:
    try:
        str.encode(text)
    except UnicodeEncodeError:
        return False
    return True
