"""
The wire's JSON: how a value is read that may be anything, and the base of the views over it.

Nothing here raises over what a server sent: a value that is not of the kind that is asked for reads
as nothing.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import (
    Callable,
    ItemsView,
    Iterable,
    Iterator,
    KeysView,
    Mapping,
    ValuesView,
)
from decimal import Decimal, InvalidOperation
from types import UnionType
from typing import TYPE_CHECKING, Any, Self, TypeGuard, Union, get_args, get_origin

import attrs
import orjson

from .._styles import wrong_name

__all__ = (
    "Wire",
    "WireObject",
    "as_decimal",
    "as_integer",
    "as_list",
    "as_object",
    "as_objects",
    "as_string",
    "copy_json",
    "is_list",
    "is_object",
    "json_text",
    "parse_json",
)

Wire = dict[str, Any]
"""A JSON object."""


def is_object(value: object) -> TypeGuard[Wire]:
    """
    Return whether *value* is a JSON object.
    """
    return isinstance(value, dict)


def is_list(value: object) -> TypeGuard[list[Any]]:
    """
    Return whether *value* is a JSON array.
    """
    return isinstance(value, list)


def as_object(value: object) -> Wire:
    """
    Return *value* if it is an object, else an empty one.
    """
    return value if is_object(value) else {}


def as_list(value: object) -> list[Any]:
    """
    Return *value* if it is an array, else an empty one.
    """
    return value if is_list(value) else []


def as_objects(value: object) -> list[Wire]:
    """
    Return the objects in *value*, if it is an array, else none.
    """
    return [each for each in value if isinstance(each, dict)] if is_list(value) else []


def as_string(value: object) -> str:
    """
    Return *value* if it is a string, else an empty one.
    """
    return value if isinstance(value, str) else ""


def as_integer(value: object) -> int | None:
    """
    Return *value* if it is a whole number, else `None`.
    """
    if type(value) is int:
        return value
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def as_decimal(value: object) -> Decimal | None:
    """
    Return *value* if it is a finite number, or the text of one, else `None`.
    """
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return None
    try:
        number = Decimal(str(value))
    except (InvalidOperation, ValueError):  # ValueError: an integer too long to be turned into text
        return None
    return number if number.is_finite() else None


def parse_json(data: bytes) -> Any:
    """
    Return the value that *data* is the JSON of.

    What servers are known to write although it is not JSON is read, too; `_views.lenient` lists it.

    Raises:
        ValueError: It isn't JSON.
    """
    try:
        return orjson.loads(data)
    except orjson.JSONDecodeError:
        from .lenient import read_leniently  # nearly no answer needs it

        return read_leniently(data)


def json_text(value: object) -> str | None:
    """
    Return *value* if it is a string, the JSON of it if it is an object, else `None`.
    """
    if is_object(value):
        try:
            return orjson.dumps(value).decode()
        except orjson.JSONEncodeError:  # nested deeper than orjson writes
            return None
    return value if isinstance(value, str) else None


def copy_json(value: Wire) -> Wire:
    """
    Return a copy of a JSON object that shares nothing with it, however deep it is nested.
    """
    root = value.copy()
    containers: list[Any] = [root]
    while containers:
        container = containers.pop()
        for key in _keys(container):
            item = container[key]
            if isinstance(item, dict | list):
                container[key] = item.copy()
                containers.append(container[key])
    return root


def _keys(container: Any) -> Iterable[Any]:
    return container if is_object(container) else range(len(container))


if TYPE_CHECKING:
    _Base = Mapping[str, Any]
else:
    # Registered as a mapping below. Inheriting would make each class slower to create.
    _Base = object

_OTHER_NAMES = {
    **dict.fromkeys(("model_dump", "dict", "to_python"), "to_dict()"),
    **dict.fromkeys(("model_dump_json", "json", "dumps"), "to_json()"),
    **dict.fromkeys(("pop", "update", "setdefault"), "dict(view), which can be changed"),
}
"""What views of other SDKs call what a view has, and the name here."""


@attrs.define(repr=False, getstate_setstate=False)
class WireObject(_Base):
    """
    An object of the wire's JSON, read by name.

    It is also a read-only mapping over the JSON: `view["key"]`, `dict(view)`, `in`, iteration. What
    it returns so is plain JSON, and a copy. A view is true even if its object is empty.

    A subclass declares its fields by annotation, and each becomes a property that reads the key of
    that name. What is not of the declared type reads as `None`; a list leaves out what is not, and
    is empty where there is none; a field that is declared as a view, without `None`, is always one.

    Two are equal if their JSON is. They pickle and copy. The lists that fields give are new ones
    each time.
    """

    _wire: Wire

    def __init_subclass__(cls) -> None:
        # Types, not their text: a module of views does without `from __future__ import
        # annotations`, since to turn the text of all of them back would be a tenth of the import.
        for name, annotation in inspect.get_annotations(cls).items():
            if name not in cls.__dict__:
                setattr(cls, name, property(_getter(name, annotation)))

    @classmethod
    def from_dict(cls, wire: Wire) -> Self:
        """
        Return the view of *wire*. The view keeps *wire*: don't change it.
        """
        return cls(wire)

    def to_dict(self) -> Wire:
        """
        Return a copy of the JSON as it came, fields included that this version does not know.
        """
        return copy_json(self._wire)

    def to_json(self) -> str:
        """
        Return `to_dict()` as JSON text.
        """
        return json.dumps(self.to_dict(), ensure_ascii=False, separators=(",", ":"))

    def __getitem__(self, key: str) -> Any:
        value = self._wire[key]
        return copy_json({"": value})[""] if isinstance(value, dict | list) else value

    def __iter__(self) -> Iterator[str]:
        return iter(self._wire)

    def __len__(self) -> int:
        return len(self._wire)

    def __bool__(self) -> bool:
        return True

    if not TYPE_CHECKING:
        __getattr__ = wrong_name(_OTHER_NAMES)

        def __contains__(self, key):
            return key in self._wire

        def keys(self):
            """
            Return the keys of the JSON object.
            """
            return KeysView(self)

        def values(self):
            """
            Return the values of the JSON object.
            """
            return ValuesView(self)

        def items(self):
            """
            Return the keys and values of the JSON object.
            """
            return ItemsView(self)

        def get(self, key, default=None):
            """
            Return the value of *key*, or *default* if there is none.
            """
            return self[key] if key in self._wire else default

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._wire!r})"

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:
        # IPython's plain text, which is as long as its HTML at most.
        from .._show.page import capped

        printer.text(capped(repr(self)))


if not TYPE_CHECKING:
    Mapping.register(WireObject)


def _getter(name: str, annotation: Any) -> Callable[[Any], Any]:
    # What a field's property calls. Views and their lists, which stand on the way to a chunk's
    # text, read their value without another call.
    if get_origin(annotation) in (Union, UnionType):
        (wanted,) = (arm for arm in get_args(annotation) if arm is not type(None))
        if wanted not in _SCALARS:
            return lambda self: (
                wanted(value) if isinstance(value := self._wire.get(name), dict) else None
            )
        read = _SCALARS[wanted]
        return lambda self: read(self._wire.get(name))
    if get_origin(annotation) is list:
        return _list_getter(name, *get_args(annotation))
    if annotation is Any:
        return lambda self: self._wire.get(name)
    return lambda self: annotation(value if isinstance(value := self._wire.get(name), dict) else {})


def _list_getter(name: str, item: Any) -> Callable[[Any], list[Any]]:
    if item not in _SCALARS:

        def views(self: Any) -> list[Any]:
            value = self._wire.get(name)
            if is_list(value) and len(value) == 1 and isinstance(value[0], dict):
                return [item(value[0])]  # a chunk's choices: half the time of what follows
            return [item(each) for each in as_objects(value)]

        return views
    read = _SCALARS[item]
    return lambda self: [
        each for each in map(read, as_list(self._wire.get(name))) if each is not None
    ]


_SCALARS: dict[Any, Callable[[Any], Any]] = {
    str: lambda value: value if isinstance(value, str) else None,
    int: as_integer,
    float: lambda value: (
        value if isinstance(value, int | float) and not isinstance(value, bool) else None
    ),
    bool: lambda value: value if isinstance(value, bool) else None,
    Decimal: as_decimal,
}
