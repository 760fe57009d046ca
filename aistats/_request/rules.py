"""
What an annotation of a request's type can say beside the type, and how to say so: ranges, lengths,
what belongs together.

`Annotated[float, Between(0, 2)]` is read by type checkers as a number; `convert` holds values to
the rest.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence, Sized
from types import UnionType
from typing import Annotated, Any, Literal, Protocol, Union, get_args, get_origin

from .to_json import is_mapping

__all__ = (
    "JSON_SCHEMA_TYPES",
    "UNIONS",
    "URL",
    "Above",
    "AnyOf",
    "Base64",
    "Between",
    "Closed",
    "Expected",
    "FaultError",
    "Free",
    "Length",
    "MappingRule",
    "Tagged",
    "ValueRule",
    "describe",
    "scalar_test",
)


JSON_SCHEMA_TYPES = ("object", "array", "string", "number", "integer", "boolean", "null")
"""A format of such a type is a bare JSON schema, without what belongs around it."""


class ValueRule(Protocol):
    """
    A rule for a value in addition to its type, and its description for errors.
    """

    def holds(self, value: Any) -> bool:
        """
        Return whether *value*, whose type is right, is allowed.
        """
        ...

    def describe(self, kind: str) -> str:
        """
        Return a description of the allowed values. *kind* describes the type: `a number`.
        """
        ...


class MappingRule(Protocol):
    """
    A rule for a mapping as a whole.
    """

    def mistakes(self, given: Mapping[str, Any]) -> Iterator[FaultError]:
        """
        Return the faults of *given*, a mapping without `None` values.
        """
        ...


# Without attrs, which would take 0.7 ms of the import to make these.


class Between:
    """
    A number from *low* to *high*, both included.
    """

    def __init__(self, low: int, high: int | None = None) -> None:
        self.low = low
        self.high = high

    def holds(self, value: float) -> bool:
        return self.low <= value and (self.high is None or value <= self.high)

    def describe(self, kind: str) -> str:
        if self.high is None:
            return f"{kind} of at least {self.low}"
        return f"{kind} from {self.low} to {self.high}"


class Above:
    """
    A number greater than *low*.
    """

    def __init__(self, low: int) -> None:
        self.low = low

    def holds(self, value: float) -> bool:
        return value > self.low

    def describe(self, kind: str) -> str:
        return f"{kind} above {self.low}"


class Length:
    """
    A string or a list of *low* to *high* characters or items.
    """

    def __init__(self, low: int, high: int | None = None) -> None:
        self.low = low
        self.high = high

    def holds(self, value: Sized) -> bool:
        return self.low <= len(value) and (self.high is None or len(value) <= self.high)

    def describe(self, kind: str) -> str:
        unit = "characters" if kind == "a string" else "items"
        if self.high is not None:
            return f"{kind}, {self.low} to {self.high} {unit}"
        if self.low > 1:
            return f"{kind}, at least {self.low} {unit}"
        # "a string or a list, not empty" would not say which of them must not be empty.
        is_list = kind.startswith("a list")
        return kind.replace("a list", "a non-empty list", 1) if is_list else f"{kind}, not empty"


class URL:
    """
    A URL of any scheme except `file:`, which the gateway can't read.
    """

    def holds(self, value: str) -> bool:
        return re.match(r"(?!file:)[a-z][a-z0-9+.-]+:", value, re.IGNORECASE) is not None

    def describe(self, kind: str) -> str:
        return "an https: or data: URL"


class Base64:
    """
    A string in base64. Only its beginning is checked.
    """

    def holds(self, value: str) -> bool:
        return re.fullmatch(r"[A-Za-z0-9+/=_\s-]*", value[:80]) is not None

    def describe(self, kind: str) -> str:
        return f"{kind} in base64"


class Expected:
    """
    A description of the expected value, where the type alone says too little.
    """

    def __init__(self, text: str) -> None:
        self.text = text

    def holds(self, value: object) -> bool:
        return True

    def describe(self, kind: str) -> str:
        return self.text


class AnyOf:
    """
    A mapping with at least one of *keys*. A dot separates the keys of nested mappings.
    """

    def __init__(self, keys: tuple[str, ...], expected: str) -> None:
        self.keys = keys
        self.expected = expected

    def mistakes(self, given: Mapping[str, Any]) -> Iterator[FaultError]:
        if not any(self._has(given, key) for key in self.keys):
            first, *others = self.keys
            elsewhere = " or ".join(f"`{other}`" for other in others)
            expected = f"{self.expected}, here or in {elsewhere}; it is missing"
            yield FaultError(None, expected, *first.split("."))

    def _has(self, given: Any, key: str) -> bool:
        for step in key.split("."):
            given = given.get(step) if is_mapping(given) else None
        return given is not None


class Closed:
    """
    A mapping without other keys than *keys*, because the gateway refuses others there.
    """

    def __init__(self, keys: tuple[str, ...]) -> None:
        self.keys = keys

    def mistakes(self, given: Mapping[str, Any]) -> Iterator[FaultError]:
        known = " and ".join(f"`{key}`" for key in self.keys)
        for key, value in given.items():
            if key not in self.keys:
                yield FaultError(value, f"no other keys here than {known}", key)


class Tagged:
    """
    A union of mappings that are told apart by the value of *key*; each is called *noun*.

    A value that no member of the union declares is a fault if *closed*. Else the mapping is passed
    on as it is, since the gateway's list of them grows; but a value in *never* is a fault, since it
    belongs to another API.
    """

    def __init__(
        self,
        key: str,
        noun: str,
        *,
        closed: bool = False,
        never: tuple[str, ...] = (),
        note: str = "",
    ) -> None:
        self.key = key
        self.noun = noun
        self.closed = closed
        self.never = never
        self.note = note


class Free:
    """
    Free JSON, passed on unchanged. Its declared type is only for editors.
    """


class FaultError(Exception):
    """
    An unexpected value. *steps* are the keys and indexes that lead to it.

    cattrs collects these on its way through a request, and each becomes a `Fault`.
    """

    def __init__(self, value: object, expected: str, *steps: object) -> None:
        super().__init__(expected)
        self.value = value
        self.expected = expected
        self.steps = steps


_WORDS: dict[Any, tuple[str, str]] = {
    str: ("a string", "strings"),
    int: ("a whole number", "whole numbers"),
    float: ("a number", "numbers"),
    bool: ("true or false", "truth values"),
    object: ("a JSON value", "JSON values"),
}
UNIONS = (Union, UnionType)


def describe(declared: Any) -> str:
    """
    Return a value of the type *declared*, in words: `a string or a list of parts`.
    """
    return _describe(declared)[0]


def _describe(declared: Any) -> tuple[str, str]:
    # In the singular and in the plural.
    origin, arguments = get_origin(declared), get_args(declared)
    if origin is Annotated:
        return _describe_annotated(*arguments)
    if origin in UNIONS:
        words = [_describe(member) for member in arguments if member is not type(None)]
        singular = dict.fromkeys(one for one, _ in words)
        plural = dict.fromkeys(many for _, many in words)
        return " or ".join(singular), " or ".join(plural)
    if origin is Literal:
        return _WORDS[str]
    if origin is Sequence:
        text = f"a list of {_describe(arguments[0])[1]}"
        return text, text
    return _WORDS.get(declared, ("a mapping", "mappings"))


def _describe_annotated(base: Any, *rules: Any) -> tuple[str, str]:
    singular, plural = _describe(base)
    for rule in rules:
        if isinstance(rule, Tagged):
            singular, plural = f"a {rule.noun}", f"{rule.noun}s"
        elif hasattr(rule, "describe"):
            singular = rule.describe(singular)
    return singular, plural


def scalar_test(declared: Any) -> Callable[[Any], bool] | None:
    """
    Return a quick test of whether a value is right as it stands for the type *declared*, so that
    structuring would give it back. It may say no to what is right. `None` where values of the type
    are no scalars.
    """
    members = [each for each in get_args(declared) if each is not type(None)]
    if len(members) != 1:
        return None
    base, *rules = get_args(members[0]) if get_origin(members[0]) is Annotated else members
    kinds = _SCALAR_KINDS.get(base)
    if kinds is None:
        return None

    holds = [rule.holds for rule in rules]
    if base is float:
        holds.append(math.isfinite)

    def is_right(value: Any) -> bool:
        return type(value) in kinds and False not in [each(value) for each in holds]

    return is_right


_SCALAR_KINDS: dict[Any, tuple[type, ...]] = {
    str: (str,),
    bool: (bool,),
    int: (int,),
    float: (float, int),
}
