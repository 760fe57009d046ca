"""
The kinds of values that an answer can have: each makes its JSON Schema, and reads JSON.

Reading never converts silently. Text is accepted for a number or a boolean if it is exactly that
(`"3"`, `"true"`), and a whole float for an integer (`3.0`). Everything else that does not fit is a
fault. With *exact*, which unions try first, text is text.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal, InvalidOperation
from typing import Any, Final, Protocol

import attrs

from .._errors import Fault
from .._request.to_json import join_path
from .._views.json import is_list, is_object
from .errors import OutputFault

__all__ = (
    "MISSING",
    "AnyJSON",
    "Choice",
    "Definitions",
    "Kind",
    "ListOf",
    "MapOf",
    "Member",
    "Named",
    "ObjectOf",
    "Reference",
    "Scalar",
    "TupleOf",
    "UnionOf",
    "integer",
    "number",
)

Schema = dict[str, Any]
Faults = list[Fault]

MISSING: Final = object()
"""Stands for a value that could not be read; its fault is in the list."""


class Definitions:
    """
    The `$defs` of a schema that is being made. Names are unique and of characters that providers
    accept.
    """

    def __init__(self) -> None:
        self.schemas: dict[str, Schema] = {}
        self._names: dict[int, str] = {}
        self._kept: list[object] = []  # so that no id is used twice

    def name(self, owner: object, wanted: str) -> tuple[str, bool]:
        """
        Return the name for *owner*, and whether it is new.
        """
        if (known := self._names.get(id(owner))) is not None:
            return known, False
        clean = re.sub(r"[^a-zA-Z0-9_-]+", "_", wanted).strip("_")[:50] or "Value"
        name, count = clean, 1
        while name in self.schemas:
            count += 1
            name = f"{clean}_{count}"
        self.schemas[name] = {}
        self._names[id(owner)] = name
        self._kept.append(owner)
        return name, True


class Kind(Protocol):
    """
    A kind of value.
    """

    def schema(self, definitions: Definitions) -> Schema:
        """
        Return the JSON Schema.
        """
        ...

    def read(self, value: Any, path: str, faults: Faults, exact: bool = False) -> Any:
        """
        Return the value that the JSON *value* stands for; on a fault, add it to *faults*.
        """
        ...


@attrs.frozen(eq=False)
class AnyJSON:
    """
    Any JSON, as it is. Numbers with a fraction become floats.
    """

    wire: Schema = attrs.field(factory=dict[str, Any])

    def schema(self, definitions: Definitions) -> Schema:
        return dict(self.wire)

    def read(self, value: Any, path: str, faults: Faults, exact: bool = False) -> Any:
        return plain(value)


def plain(value: Any) -> Any:
    """
    Return JSON with floats in place of decimals.
    """
    if isinstance(value, Decimal):
        return float(value)
    if is_list(value):
        return [plain(each) for each in value]
    if is_object(value):
        return {key: plain(each) for key, each in value.items()}
    return value


@attrs.frozen(eq=False)
class Scalar:
    """
    A value without parts.
    """

    wire: Schema
    expected: str
    parse: Callable[[Any, bool], Any]
    """Gets the JSON, and whether text is only text; raises `ValueError` for another value."""

    def schema(self, definitions: Definitions) -> Schema:
        return dict(self.wire)

    def read(self, value: Any, path: str, faults: Faults, exact: bool = False) -> Any:
        try:
            return self.parse(value, exact)
        except (ValueError, InvalidOperation, OverflowError):
            faults.append(OutputFault(path, value, self.expected))
            return MISSING


def integer(value: Any, exact: bool) -> int:
    """
    Return *value* as an integer.
    """
    if type(value) is int:
        return value
    if isinstance(value, Decimal) and not exact and value == value.to_integral_value():
        return int(value)
    if isinstance(value, str) and not exact and re.fullmatch(r"-?[0-9]{1,4000}", value):
        return int(value)
    raise ValueError


def number(value: Any, exact: bool) -> Decimal:
    """
    Return *value* as a decimal with all its digits.
    """
    if type(value) is int or isinstance(value, Decimal):
        return Decimal(value)
    is_text = isinstance(value, str) and not exact
    if is_text and re.fullmatch(r"-?[0-9]+(\.[0-9]+)?([eE][-+]?[0-9]+)?", value):
        return Decimal(value)
    raise ValueError


@attrs.frozen(eq=False)
class Choice:
    """
    One of several values: of a `Literal`, or the members of an enum.
    """

    members: Sequence[tuple[Any, Any]]
    """Pairs of the JSON and the value that it stands for."""

    def schema(self, definitions: Definitions) -> Schema:
        return {"enum": [wire for wire, _ in self.members]}

    def read(self, value: Any, path: str, faults: Faults, exact: bool = False) -> Any:
        if isinstance(value, Decimal) and not exact:
            value = int(value) if value == value.to_integral_value() else float(value)
        for wire, member in self.members:
            if type(wire) is type(value) and wire == value:
                return member
        if isinstance(value, str) and not exact:
            for wire, member in self.members:
                if type(wire) is int and str(wire) == value:
                    return member
        names = ", ".join(repr(wire) for wire, _ in self.members)
        faults.append(OutputFault(path, value, f"one of {names}"))
        return MISSING


@attrs.frozen(eq=False)
class ListOf:
    """
    A list, set or tuple of any length.
    """

    item: Kind
    make: Callable[[list[Any]], Any] = list
    is_unique: bool = False

    def schema(self, definitions: Definitions) -> Schema:
        unique = {"uniqueItems": True} if self.is_unique else {}
        return {"type": "array", "items": self.item.schema(definitions), **unique}

    def read(self, value: Any, path: str, faults: Faults, exact: bool = False) -> Any:
        if not is_list(value):
            faults.append(OutputFault(path, value, "a list"))
            return MISSING
        items: list[Any] = value
        read, count = self.item.read, len(faults)
        made = [read(each, f"{path}[{at}]", faults, exact) for at, each in enumerate(items)]
        if len(faults) > count:
            return MISSING
        return made if self.make is list else self.make(made)


@attrs.frozen(eq=False)
class TupleOf:
    """
    A tuple with a kind for each place.
    """

    items: Sequence[Kind]

    def schema(self, definitions: Definitions) -> Schema:
        count = len(self.items)
        places = [each.schema(definitions) for each in self.items]
        return {"type": "array", "prefixItems": places, "minItems": count, "maxItems": count}

    def read(self, value: Any, path: str, faults: Faults, exact: bool = False) -> Any:
        if not is_list(value) or len(value) != len(self.items):
            faults.append(OutputFault(path, value, f"a list of {len(self.items)} items"))
            return MISSING
        pairs = zip(self.items, value, strict=True)
        return tuple(
            kind.read(each, f"{path}[{at}]", faults, exact) for at, (kind, each) in enumerate(pairs)
        )


@attrs.frozen(eq=False)
class MapOf:
    """
    A mapping with free keys.
    """

    key: Kind
    value: Kind

    def schema(self, definitions: Definitions) -> Schema:
        key = self.key.schema(definitions)
        names = {} if key == {"type": "string"} or not isinstance(self.key, Choice) else key
        schema: Schema = {"type": "object", "additionalProperties": self.value.schema(definitions)}
        return {**schema, "propertyNames": names} if names else schema

    def read(self, value: Any, path: str, faults: Faults, exact: bool = False) -> Any:
        if not is_object(value):
            faults.append(OutputFault(path, value, "an object"))
            return MISSING
        entries: dict[str, Any] = value
        return {
            self.key.read(key, join_path(path, key), faults): self.value.read(
                each, join_path(path, key), faults, exact
            )
            for key, each in entries.items()
        }


@attrs.frozen(eq=False)
class Member:
    """
    A field of a class.
    """

    name: str
    kind: Any
    description: str = ""
    is_required: bool = True
    default: Any = MISSING
    """The default as JSON; `MISSING` if there is none that can be shown."""

    def schema(self, definitions: Definitions) -> Schema:
        """
        Return the JSON Schema of the field.
        """
        extra = {} if self.default is MISSING else {"default": self.default}
        described = {"description": self.description} if self.description else {}
        return {**self.kind.schema(definitions), **described, **extra}


@attrs.define(eq=False)
class ObjectOf:
    """
    An object with the fields of a class.
    """

    name: str
    make: Callable[..., Any]
    description: str = ""
    members: Mapping[str, Member] = attrs.field(factory=dict[str, Member])
    """By name; filled in after the object was made, since a class may contain itself."""
    locate: Callable[[BaseException], str] = lambda _: ""
    """Returns the name of the field that an exception of the class is about, if it is known."""

    def schema(self, definitions: Definitions) -> Schema:
        name, is_new = definitions.name(self, self.name)
        if is_new:
            described = {"description": self.description} if self.description else {}
            schema = definitions.schemas[name]
            schema.update(described, type="object", properties={}, required=[])
            for member in self.members.values():
                schema["properties"][member.name] = member.schema(definitions)
            schema["required"] = [each.name for each in self.members.values() if each.is_required]
        return {"$ref": f"#/$defs/{name}"}

    def read(self, value: Any, path: str, faults: Faults, exact: bool = False) -> Any:
        if not is_object(value):
            faults.append(OutputFault(path, value, f"an object ({self.name})"))
            return MISSING
        given: dict[str, Any] = value
        count = len(faults)
        made: dict[str, Any] = {}
        for name, member in self.members.items():
            where = f"{path}.{name}" if path else name
            if name in given:
                made[name] = member.kind.read(given[name], where, faults, exact)
            elif member.is_required:
                faults.append(OutputFault(where, None, "a value", "it is missing"))
        if len(faults) > count:
            return MISSING
        try:
            return self.make(**made)
        except (ValueError, TypeError, AssertionError) as error:
            # What the class itself refuses: a validator, `__post_init__`.
            field = self.locate(error)
            text = str(error.args[0]) if error.args else type(error).__name__
            where = join_path(path, field) if field else path
            rejected = made.get(field, given) if field else given
            faults.append(OutputFault(where, rejected, "a value that the class accepts", text))
            return MISSING

    def tags(self) -> dict[str, list[Any]]:
        """
        Return the fields that take one of a few values only, with these values.
        """
        return {
            name: [wire for wire, _ in member.kind.members]
            for name, member in self.members.items()
            if isinstance(member.kind, Choice)
        }


@attrs.frozen(eq=False)
class Named:
    """
    A kind with a name of its own in the schema: an enum.
    """

    name: str
    kind: Kind
    description: str = ""

    def schema(self, definitions: Definitions) -> Schema:
        name, is_new = definitions.name(self, self.name)
        if is_new:
            described = {"description": self.description} if self.description else {}
            definitions.schemas[name].update(described, **self.kind.schema(definitions))
        return {"$ref": f"#/$defs/{name}"}

    def read(self, value: Any, path: str, faults: Faults, exact: bool = False) -> Any:
        return self.kind.read(value, path, faults, exact)


@attrs.define(eq=False)
class Reference:
    """
    A type alias, which may contain itself.
    """

    name: str
    kind: Kind | None = None

    def schema(self, definitions: Definitions) -> Schema:
        name, is_new = definitions.name(self, self.name)
        if is_new:
            assert self.kind is not None
            definitions.schemas[name].update(self.kind.schema(definitions))
        return {"$ref": f"#/$defs/{name}"}

    def read(self, value: Any, path: str, faults: Faults, exact: bool = False) -> Any:
        assert self.kind is not None
        return self.kind.read(value, path, faults, exact)


@attrs.frozen(eq=False)
class UnionOf:
    """
    One of several kinds. Objects are told apart by a field that takes different values in each
    (a `Literal`), else by their keys; everything else by the exact type of the JSON.
    """

    kinds: Sequence[Kind]
    takes_null: bool = False

    def schema(self, definitions: Definitions) -> Schema:
        null: list[Schema] = [{"type": "null"}] if self.takes_null else []
        return {"anyOf": [*(each.schema(definitions) for each in self.kinds), *null]}

    def read(self, value: Any, path: str, faults: Faults, exact: bool = False) -> Any:
        if value is None and self.takes_null:
            return None
        if len(self.kinds) == 1:
            return self.kinds[0].read(value, path, faults, exact)
        objects = [each for each in self.kinds if isinstance(each, ObjectOf)]
        if is_object(value) and objects:
            others = [each for each in self.kinds if not isinstance(each, ObjectOf)]
            found = _object(objects, value, path, faults)
            if found is not None:
                return found.read(value, path, faults, exact)
            if not others:
                return MISSING
        for is_exact in (True,) if exact else (True, False):
            for kind in self.kinds:
                tried: Faults = []
                read = kind.read(value, path, tried, is_exact)
                if not tried:
                    return read
        wanted = " or ".join(_name_of(each) for each in self.kinds)
        faults.append(OutputFault(path, value, wanted))
        return MISSING


def _name_of(kind: Kind) -> str:
    if isinstance(kind, Scalar):
        return kind.expected
    if isinstance(kind, ObjectOf | Named | Reference):
        return kind.name
    return "a list" if isinstance(kind, ListOf | TupleOf) else "another type"


def _object(
    objects: list[ObjectOf], value: dict[str, Any], path: str, faults: Faults
) -> ObjectOf | None:
    # The one variant that *value* is of; if there is none, the fault says why.
    tags = [each.tags() for each in objects]
    for name in tags[0]:
        if all(name in each for each in tags[1:]):
            fitting = [
                kind
                for kind, each in zip(objects, tags, strict=True)
                if value.get(name) in each[name]
            ]
            if len(fitting) == 1:
                return fitting[0]
            if not fitting:
                known = ", ".join(repr(tag) for each in tags for tag in each[name])
                faults.append(
                    OutputFault(join_path(path, name), value.get(name), f"one of {known}")
                )
                return None
            objects = fitting
            break
    fitting = [each for each in objects if _takes(each, value)]
    if len(fitting) > 1:
        tried: list[tuple[ObjectOf, Faults]] = [(each, []) for each in fitting]
        for each, own in tried:
            each.read(value, path, own, exact=True)
        fitting = [each for each, own in tried if not own] or fitting
    if len(fitting) == 1:
        return fitting[0]
    names = " or ".join(each.name for each in fitting or objects)
    hint = "it fits all of them equally" if fitting else "its keys fit none of them"
    faults.append(OutputFault(path, value, names, hint))
    return None


def _takes(kind: ObjectOf, value: dict[str, Any]) -> bool:
    required = {name for name, each in kind.members.items() if each.is_required}
    return required <= value.keys() <= kind.members.keys()
