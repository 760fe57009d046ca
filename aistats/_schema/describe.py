"""
From a type to the kind that makes its schema and reads its values.
"""

from __future__ import annotations

import collections.abc
import dataclasses
import inspect
import math
import re
import types
import typing
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from datetime import date, datetime, time
from decimal import Decimal
from enum import Enum
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin
from uuid import UUID

import attrs

from .._errors import Fault, RequestValidationError
from . import foreign
from .kinds import (
    MISSING,
    AnyJSON,
    Choice,
    Kind,
    ListOf,
    MapOf,
    Member,
    Named,
    ObjectOf,
    Reference,
    Scalar,
    TupleOf,
    UnionOf,
    integer,
    number,
)

__all__ = ("describe",)

_Variables = Mapping[Any, Any]


def describe(declared: Any) -> Kind:
    """
    Return the kind of the type *declared*.

    Raises:
        RequestValidationError: The type, or a type in it, can't be described.
    """
    return _Description().kind(declared, "schema", {})


def _text(value: Any, _exact: bool) -> str:
    if not isinstance(value, str):
        raise ValueError
    return value


def _boolean(value: Any, exact: bool) -> bool:
    if isinstance(value, bool):
        return value
    if isinstance(value, str) and not exact and value in ("true", "false"):
        return value == "true"
    raise ValueError


def _float(value: Any, exact: bool) -> float:
    made = float(number(value, exact))
    if not math.isfinite(made):
        raise ValueError
    return made


def _null(value: Any, _exact: bool) -> None:
    if value is not None:
        raise ValueError


def _of_text(parse: Callable[[str], Any]) -> Callable[[Any, bool], Any]:
    return lambda value, exact: parse(_text(value, exact))


def _string(parse: Callable[[str], Any], expected: str, wire_format: str) -> Scalar:
    return Scalar({"type": "string", "format": wire_format}, expected, _of_text(parse))


def _decimal(value: Any, _exact: bool) -> Decimal:
    return number(value, exact=False)


_SCALARS: dict[Any, Scalar] = {
    str: Scalar({"type": "string"}, "a string", _text),
    int: Scalar({"type": "integer"}, "a whole number", integer),
    float: Scalar({"type": "number"}, "a number", _float),
    bool: Scalar({"type": "boolean"}, "true or false", _boolean),
    type(None): Scalar({"type": "null"}, "null", _null),
    Decimal: Scalar({"type": "string", "format": "decimal"}, "a decimal number", _decimal),
    datetime: _string(datetime.fromisoformat, "a date and time in ISO 8601", "date-time"),
    date: _string(date.fromisoformat, "a date such as 2026-01-31", "date"),
    time: _string(time.fromisoformat, "a time such as 12:00:00", "time"),
    UUID: _string(UUID, "a UUID", "uuid"),
}

_LISTS: dict[Any, Callable[[list[Any]], Any]] = {
    list: list,
    set: set,
    frozenset: frozenset,
    deque: deque,
    collections.abc.Sequence: list,
    collections.abc.MutableSequence: list,
    collections.abc.Iterable: list,
    collections.abc.Collection: list,
    collections.abc.Set: frozenset,
    collections.abc.MutableSet: set,
}
_MAPS = (dict, collections.abc.Mapping, collections.abc.MutableMapping)
_SUPPORTED = (
    "a type that can be described: a class with typed fields, list, dict, tuple, set, Literal, "
    "Enum, a union, str, int, float, bool, Decimal, datetime, date, time or UUID"
)


class _Description:
    """
    One type, and the kinds of the classes in it.
    """

    def __init__(self) -> None:
        self._known: dict[Any, Any] = {}

    def kind(self, declared: Any, path: str, variables: _Variables) -> Kind:
        """
        Return the kind of *declared*, which *path* leads to.
        """
        if isinstance(declared, TypeVar):
            bound = declared.__bound__ or Any
            return self.kind(variables.get(declared, bound), path, {})
        if declared is Any or declared is object:
            return AnyJSON()
        if declared is None:
            declared = type(None)
        if isinstance(declared, type) and declared in _SCALARS:
            return _SCALARS[declared]
        if (supertype := getattr(declared, "__supertype__", None)) is not None:  # NewType
            return self.kind(supertype, path, variables)
        origin = get_origin(declared)
        if origin in (Annotated, typing.Required, typing.NotRequired, typing.Final):
            return self._annotated(declared, path, variables)
        if (found := foreign.kind_of(declared)) is not None:
            return found
        if (value := getattr(declared, "__value__", None)) is not None:  # a `type` statement
            return self._alias(declared, value, path, variables)
        if origin in (Union, types.UnionType):
            return self._union(get_args(declared), path, variables)
        if origin is Literal:
            return _literal(get_args(declared), path)
        if isinstance(declared, type) and issubclass(declared, Enum):
            return self._enum(declared, path)
        if (made := self._collection(declared, origin, path, variables)) is not None:
            return made
        return self._class(declared, origin or declared, path, variables)

    def _annotated(self, declared: Any, path: str, variables: _Variables) -> Kind:
        inner, *metadata = get_args(declared)
        found = foreign.annotated_kind_of(declared, metadata)
        return found if found is not None else self.kind(inner, path, variables)

    def _alias(self, declared: Any, value: Any, path: str, variables: _Variables) -> Kind:
        name = repr(declared)
        if (known := self._known.get(name)) is None:
            known = self._known[name] = Reference(getattr(declared, "__name__", "Alias"))
            known.kind = self.kind(value, path, variables)
        return known

    def _union(self, variants: tuple[Any, ...], path: str, variables: _Variables) -> Kind:
        null = type(None)
        kinds = [self.kind(each, path, variables) for each in variants if each is not null]
        return UnionOf(kinds, takes_null=null in variants)

    def _enum(self, declared: type[Enum], path: str) -> Kind:
        if declared not in self._known:
            members = [(member.value, member) for member in declared]
            choice = _choice(members, declared.__name__, path)
            self._known[declared] = Named(declared.__name__, choice, _docstring(declared))
        known: Kind = self._known[declared]
        return known

    def _collection(
        self, declared: Any, origin: Any, path: str, variables: _Variables
    ) -> Kind | None:
        container, arguments = origin or declared, get_args(declared)
        if container in _LISTS:
            item = self.kind(arguments[0] if arguments else Any, f"{path}[]", variables)
            is_unique = issubclass(container, collections.abc.Set)
            return ListOf(item, _LISTS[container], is_unique)
        if container in _MAPS:
            key, value = arguments or (str, Any)
            return MapOf(
                self.kind(key, f"{path}.key", variables), self.kind(value, f"{path}.*", variables)
            )
        if container is tuple:
            if not arguments or arguments[-1] is Ellipsis:
                item = self.kind(arguments[0] if arguments else Any, f"{path}[]", variables)
                return ListOf(item, tuple)
            places = enumerate(arguments)
            return TupleOf([self.kind(each, f"{path}[{at}]", variables) for at, each in places])
        return None

    def _class(self, declared: Any, cls: Any, path: str, variables: _Variables) -> Kind:
        key = (cls, repr(declared), repr(variables) if get_args(declared) else "")
        known: Kind | None = self._known.get(key)
        if known is not None:
            return known
        members = _members_of(cls)
        if members is None:
            raise _refused(path, declared, _SUPPORTED)
        name = getattr(cls, "__name__", "Value")
        if arguments := get_args(declared):
            name = "_".join([name, *(getattr(each, "__name__", str(each)) for each in arguments)])
        made = self._known[key] = ObjectOf(
            name, dict if typing.is_typeddict(cls) else cls, _docstring(cls)
        )
        if attrs.has(cls):
            made.locate = _located(cls)
        inner = _variables_of(cls, arguments, variables)
        hints = _hints_of(cls, path)
        found: dict[str, Member] = {}
        for field in members:
            hint = hints.get(field.attribute, Any)
            kind = self.kind(hint, f"{path}.{field.name}", inner)
            description = field.description or _described(hint)
            is_required = field.is_required and get_origin(hint) is not typing.NotRequired
            found[field.name] = Member(
                field.name, kind, description, is_required, _as_json(field.default)
            )
        made.members = found
        return made


def _variables_of(cls: Any, arguments: tuple[Any, ...], variables: _Variables) -> _Variables:
    # What the type variables of a generic class and of its generic bases stand for.
    given = [variables.get(each, each) for each in arguments]
    found = dict(zip(getattr(cls, "__parameters__", ()), given, strict=False))
    for base in getattr(cls, "__orig_bases__", ()):
        origin = get_origin(base)
        if origin is not None and hasattr(origin, "__parameters__"):
            bound = tuple(found.get(each, each) for each in get_args(base))
            found = {**_variables_of(origin, bound, {}), **found}
    return found


# --- the fields of a class ---


@attrs.frozen
class _Field:
    attribute: str
    name: str
    """What `__init__` calls it."""
    description: str = ""
    is_required: bool = True
    default: Any = MISSING


def _members_of(cls: Any) -> list[_Field] | None:
    if not inspect.isclass(cls):
        return None
    if attrs.has(cls):
        return [
            _Field(
                field.name,
                field.alias or field.name,
                str(field.metadata.get("description", "")),
                field.default is attrs.NOTHING,
                MISSING if field.default is attrs.NOTHING else field.default,
            )
            for field in attrs.fields(cls)
            if field.init
        ]
    if dataclasses.is_dataclass(cls):
        missing = dataclasses.MISSING
        return [
            _Field(
                field.name,
                field.name,
                str(field.metadata.get("description", "")),
                field.default is missing and field.default_factory is missing,
                MISSING if field.default is missing else field.default,
            )
            for field in dataclasses.fields(cls)
            if field.init
        ]
    untyped: Any = cls
    if typing.is_typeddict(cls):
        required: frozenset[str] = untyped.__required_keys__
        names: list[str] = list(untyped.__annotations__)
        return [_Field(name, name, is_required=name in required) for name in names]
    if hasattr(cls, "_field_defaults"):  # a named tuple
        defaults: dict[str, Any] = untyped._field_defaults
        fields: tuple[str, ...] = untyped._fields
        return [
            _Field(name, name, "", name not in defaults, defaults.get(name, MISSING))
            for name in fields
        ]
    return None


def _hints_of(cls: Any, path: str) -> dict[str, Any]:
    try:
        # A class that is made in a function can name itself.
        return typing.get_type_hints(cls, localns={cls.__name__: cls}, include_extras=True)
    except NameError as error:
        annotations: dict[str, Any] = inspect.get_annotations(cls)
        name = error.name or "?"
        field = next((key for key, each in annotations.items() if name in str(each)), "?")
        raise _refused(
            f"{path}.{field}",
            cls,
            f"a type that can be found: `{name}` of {cls.__name__}.{field} is not defined in the "
            "module. Define it there, or import it outside of TYPE_CHECKING",
        ) from None


def _located(cls: Any) -> Callable[[BaseException], str]:
    def locate(error: BaseException) -> str:
        # attrs calls a validator with the attribute that it checks.
        traceback = error.__traceback__
        while traceback is not None:
            for value in traceback.tb_frame.f_locals.values():
                if isinstance(value, attrs.Attribute) and value in attrs.fields(cls):
                    return str(value.alias or value.name)
            traceback = traceback.tb_next
        return ""

    return locate


def _as_json(default: Any) -> Any:
    if isinstance(default, Enum):
        default = default.value
    if default is None or isinstance(default, str | bool | int):
        return default
    if isinstance(default, float):
        return default if math.isfinite(default) else MISSING
    if isinstance(default, Decimal | date | time | UUID):
        return default.isoformat() if isinstance(default, date | time) else str(default)
    return MISSING


def _described(hint: Any) -> str:
    texts = [each for each in _metadata(hint) if isinstance(each, str)]
    return " ".join(texts)


def _metadata(hint: Any) -> Iterator[Any]:
    if get_origin(hint) is Annotated:
        inner, *metadata = get_args(hint)
        yield from _metadata(inner)
        yield from metadata
    elif get_origin(hint) in (typing.Required, typing.NotRequired):
        yield from _metadata(get_args(hint)[0])


def _docstring(cls: Any) -> str:
    own: Any = cls.__dict__.get("__doc__")
    text = inspect.cleandoc(own) if isinstance(own, str) else ""
    # Dataclasses and named tuples write one themselves.
    is_generated = re.match(rf"{re.escape(cls.__name__)}\(.*\)$", text, re.DOTALL) is not None
    is_generated |= issubclass(cls, Enum) and text == "An enumeration."
    return "" if is_generated else text


# --- choices ---


def _literal(values: tuple[Any, ...], path: str) -> Choice:
    return _choice([(each, each) for each in values], "Literal", path)


def _choice(members: list[tuple[Any, Any]], name: str, path: str) -> Choice:
    pairs: list[tuple[Any, Any]] = []
    for value, member in members:
        wire = value.value if isinstance(value, Enum) else value
        if not isinstance(wire, str | int | float | None):
            raise _refused(path, wire, f"values of {name} that are strings, numbers or booleans")
        plain = wire if wire is None or isinstance(wire, bool) else _plain(wire)
        pairs.append((plain, member))
    return Choice(pairs)


def _plain(value: str | float) -> str | float:
    # The members of an IntEnum and a StrEnum are numbers and strings of their own class.
    if isinstance(value, str):
        return str.__str__(value)
    return int(value) if isinstance(value, int) else float(value)


def _refused(path: str, value: Any, expected: str) -> RequestValidationError:
    return RequestValidationError([Fault(path, value, expected)])
