"""
From declared types to checked values, and from those to JSON: the one cattrs converter, and orjson.

The types of a request are declared once, as `TypedDict`s whose ranges stand in their annotations
(`rules`). Type checkers read them, and the hooks below make cattrs hold values to them at run
time. cattrs walks the whole of a value before it raises, so every fault is found, each with its
path. All this is loaded when it is needed first: most requests are plain, and cattrs is slow to
load.

What comes out is new: each declared mapping is a new `dict` without the keys whose value is `None`,
each declared list a new `list`. Free JSON, declared as `Mapping[str, object]` or `object`, is
passed on as it is.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache, partial
from numbers import Integral, Real
from types import GenericAlias
from typing import (
    Annotated,
    Any,
    Literal,
    cast,
    get_args,
    get_origin,
    get_type_hints,
    is_typeddict,
)

from cattrs import ClassValidationError, Converter, IterableValidationError
from cattrs.cols import (
    list_structure_factory,
    mapping_structure_factory,  # pyright: ignore[reportUnknownVariableType]  # Some types are left out.
)
from cattrs.errors import AttributeValidationNote, IterableValidationNote
from cattrs.gen.typeddicts import (
    make_dict_structure_fn,  # pyright: ignore[reportUnknownVariableType]  # A bare `dict`.
)

from .._errors import Fault, RequestValidationError
from .rules import UNIONS, FaultError, Free, MappingRule, Tagged, ValueRule, describe
from .to_json import as_dict, finite, is_list_like, is_object_like, join_path

__all__ = ("structurer",)

Hook = Callable[[Any, Any], Any]

_code_for = cast("Callable[..., Hook]", make_dict_structure_fn)

# --- faults on their way up ---


def structurer(declared: Any) -> Callable[[Any], Any]:
    """
    Return a function that makes new values of the type *declared*.

    The function raises `RequestValidationError` with every fault of its value.
    """
    return partial(_structure, _converter().get_structure_hook(declared))


def _structure(hook: Hook, value: Any) -> Any:
    try:
        return hook(value, None)
    except (FaultError, ClassValidationError, IterableValidationError) as error:
        faults = tuple(_faults(error, ""))
    # Raised outside of the `except` block, so that cattrs' exception group is not its context.
    raise RequestValidationError(faults)


def _faults(error: BaseException, path: str) -> Iterator[Fault]:
    if isinstance(error, ClassValidationError | IterableValidationError):
        for inner in error.exceptions:
            yield from _faults(inner, _path_of(inner, path))
    elif isinstance(error, FaultError):
        yield Fault(join_path(path, *error.steps), error.value, error.expected)
    elif isinstance(error, KeyError) and (note := _note(error)):
        # cattrs' generated code reads a required key with `value[key]`.
        yield Fault(path, None, f"{describe(note.type)}; it is missing")
    else:
        raise error


def _note(error: BaseException) -> Any:
    # cattrs notes on each error the key or the index at which it collected it.
    notes = (AttributeValidationNote, IterableValidationNote)
    return next((note for note in getattr(error, "__notes__", ()) if isinstance(note, notes)), None)


def _path_of(error: BaseException, path: str) -> str:
    note = _note(error)
    if note is None:
        return path
    return join_path(path, note.name if isinstance(note, AttributeValidationNote) else note.index)


# --- the converter ---


@cache
def _converter() -> Converter:
    # Not at import, because cattrs takes time to generate code for the declared mappings.
    converter = Converter(detailed_validation=True)
    for scalar, hook in _SCALARS.items():
        converter.register_structure_hook(scalar, hook)
    # Not like those: `object` would stand for all of its subclasses, too.
    converter.register_structure_hook_func(lambda declared: declared is object, _anything)
    converter.register_structure_hook_func(_has_origin(Literal), _string)
    for fits, factory in (
        (is_typeddict, _typeddict_hook),
        (_has_origin(Mapping), _mapping_hook),
        (_has_origin(Sequence), _list_hook),
        (_has_origin(*UNIONS), _union_hook),
        (_has_origin(Annotated), _annotated_hook),
    ):
        converter.register_structure_hook_factory(fits, factory)
    return converter


def _has_origin(*origins: Any) -> Callable[[Any], bool]:
    return lambda declared: get_origin(declared) in origins


# --- scalars: a bool is no number, and a number no string ---


def _string(value: Any, _: Any) -> str:
    # Also for a `Literal`: it is there for editors, and the gateway's list grows.
    if isinstance(value, str):
        return value
    raise FaultError(value, "a string")


def _boolean(value: Any, _: Any) -> bool:
    if isinstance(value, bool):
        return value
    raise FaultError(value, "true or false")


def _integer(value: Any, _: Any) -> int:
    if type(value) is int:
        return value
    # NumPy's integers, among others, are registered as `Integral`.
    if not isinstance(value, bool) and isinstance(value, Integral):
        return int(value)
    # A column of a data frame with a missing value has floats in place of integers.
    number = finite(value) if _is_number(value) else None
    if number is None or not number.is_integer():
        raise FaultError(value, "a whole number")
    return int(number)


def _number(value: Any, _: Any) -> float:
    if type(value) is float and math.isfinite(value):
        return value
    number = finite(value) if _is_number(value) else None
    if number is None:
        raise FaultError(value, "a number")
    return number


def _is_number(value: Any) -> bool:
    return not isinstance(value, bool) and isinstance(value, Real)


def _anything(value: Any, _: Any) -> Any:
    return value


_SCALARS: dict[Any, Hook] = {str: _string, bool: _boolean, int: _integer, float: _number}

# --- mappings and lists ---


def _as_dict(value: Any, expected: str = "a mapping") -> dict[Any, Any]:
    if is_object_like(value):
        return as_dict(value)
    raise FaultError(value, expected)


def _free_mapping(value: Any, _: Any) -> dict[Any, Any]:
    return _as_dict(value)


def _without_none(value: Any) -> dict[Any, Any]:
    return {key: item for key, item in _as_dict(value).items() if item is not None}


def _typeddict_hook(declared: Any, converter: Converter, rules: Sequence[MappingRule] = ()) -> Hook:
    fill = _code_for(declared, converter, _cattrs_use_linecache=False)

    def structure_mapping(value: Any, _: Any) -> Any:
        given = _without_none(value)
        errors: list[Exception] = []
        for rule in rules:
            errors += rule.mistakes(given)
        made: Any = None
        try:
            made = fill(given, declared)
        except ClassValidationError as error:
            errors += error.exceptions
        if errors:
            # cattrs adds the third argument in `__new__`; pyright looks at `__init__` alone.
            raise ClassValidationError("", errors, declared)  # pyright: ignore[reportCallIssue]
        return made

    return structure_mapping


def _mapping_hook(declared: Any, converter: Converter) -> Hook:
    key, item = get_args(declared)
    if item is object:
        return _free_mapping
    dict_of: Any = GenericAlias(dict, (key, item))
    fill: Hook = mapping_structure_factory(dict_of, converter)
    return lambda value, _: fill(_without_none(value), declared)


def _list_hook(declared: Any, converter: Converter) -> Hook:
    (item,) = get_args(declared)
    list_of: Any = GenericAlias(list, (item,))
    fill = list_structure_factory(list_of, converter)
    expected = describe(declared)

    def structure_list(value: Any, _: Any) -> Any:
        if is_list_like(value):
            return fill(value, declared)
        raise FaultError(value, expected)

    return structure_list


# --- unions and annotations ---


def _union_hook(declared: Any, converter: Converter) -> Hook:
    members = [member for member in get_args(declared) if member is not type(None)]
    mappings = [member for member in members if _kind(member) is is_object_like]
    if len(mappings) > 1:
        # A bare mapping beside a declared one is there for type checkers.
        members.remove(Mapping[str, object])
    arms = [(_kind(member), converter.get_structure_hook(member)) for member in members]
    if len(arms) == 1:
        return arms[0][1]
    expected = describe(declared)
    # Most values have exactly these types, so their member of the union is known in advance.
    usual: tuple[Any, ...] = ("", 0, 0.0, [], {})
    by_type: dict[type[Any], Hook] = {
        type(one): hook for fits, hook in reversed(arms) for one in usual if fits(one)
    }

    def structure_union(value: Any, _: Any) -> Any:
        if arm := by_type.get(value.__class__):
            return arm(value, None)
        for fits, hook in arms:
            if fits(value):
                return hook(value, None)
        raise FaultError(value, expected)

    return structure_union


def _kind(declared: Any) -> Callable[[Any], bool]:
    origin, arguments = get_origin(declared), get_args(declared)
    if origin is Annotated:
        return _kind(arguments[0])
    if declared is str or origin is Literal:
        return lambda value: isinstance(value, str)
    if declared in (int, float):
        return _is_number
    return is_list_like if origin is Sequence else is_object_like


def _annotated_hook(declared: Any, converter: Converter) -> Hook:
    base, *rules = get_args(declared)
    if isinstance(rules[0], Tagged):
        return _tagged_hook(base, rules[0], converter)
    if isinstance(rules[0], Free):
        return _free_mapping
    if hasattr(rules[0], "mistakes"):
        return _typeddict_hook(base, converter, rules)
    return _ruled_value_hook(converter.get_structure_hook(base), rules, describe(declared))


def _ruled_value_hook(hook: Hook, rules: Sequence[ValueRule], expected: str) -> Hook:
    def structure_value(value: Any, _: Any) -> Any:
        try:
            made = hook(value, None)
        except FaultError:
            raise FaultError(value, expected) from None
        for rule in rules:
            if not rule.holds(made):
                raise FaultError(value, expected)
        return made

    return structure_value


def _tagged_hook(union: Any, tagged: Tagged, converter: Converter) -> Hook:
    hooks: dict[str, Hook] = {}
    untagged: Hook | None = None
    for member in get_args(union):
        bare = get_args(member)[0] if get_origin(member) is Annotated else member
        if is_typeddict(bare):
            hook = converter.get_structure_hook(member)
            tags = get_args(get_type_hints(bare).get(tagged.key))
            hooks.update(dict.fromkeys(tags, hook))
            if tagged.key not in bare.__required_keys__:
                untagged = hook
    known = [repr(tag) for tag in hooks]
    expected = f"one of {', '.join(known)}" if tagged.closed else f"a string, such as {known[0]}"
    expected += tagged.note
    noun = f"a {tagged.noun}"

    def structure_tagged(value: Any, _: Any) -> Any:
        given = _as_dict(value, noun)
        tag: Any = given.get(tagged.key)
        hook = untagged
        if isinstance(tag, str) and tag not in tagged.never:
            hook = hooks.get(tag, None if tagged.closed else _free_mapping)
        elif tag is not None:
            hook = None
        if hook is None:
            missing = "; it is missing" if tag is None else ""
            raise FaultError(tag, expected + missing, tagged.key)
        return hook(given, None)

    return structure_tagged
