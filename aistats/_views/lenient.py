"""
Read JSON that breaks the standard in ways that servers are known for.

`parse_json` comes here only after orjson has refused a text. These deviations are read; everything
else that is not JSON stays an error:

* `NaN`, `Infinity` and `-Infinity`, which Python servers write, are `None`, and so is a number too
  large for a double, such as `1e400`. Whole numbers of more than 64 bits are floats, as orjson
  reads them.
* Bytes in a string that are not UTF-8 become U+FFFD.
* Half of a surrogate pair, which a server writes as an escape where it cuts a text in the middle of
  a character, becomes U+FFFD.
* A byte order mark at the start is dropped. UTF-16 and UTF-32 are read with and without one: the
  zero bytes of the first characters show which it is (RFC 4627, section 3).

Time and memory are linear in the length of the text.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable
from typing import Any, TypeGuard

__all__ = ("read_leniently", "without_halves")

_DEEPEST = 1024  # levels, as orjson reads
_HALF = re.compile("[\ud800-\udfff]")


def read_leniently(data: bytes, *, keeps_halves: bool = False) -> Any:
    """
    Return the value that *data* is the JSON of.

    Args:
        data: The text.
        keeps_halves: Whether halves of surrogate pairs stay in strings as they are.

    Raises:
        ValueError: It isn't JSON, or is nested too deeply.
    """
    text = data.decode(json.detect_encoding(data), "replace").removeprefix("\ufeff")
    try:
        value = _DECODER.decode(text)
    except RecursionError:
        raise ValueError("too deeply nested") from None
    if _is_deeper(value, _DEEPEST):
        raise ValueError("too deeply nested")
    is_cut = "\\ud" in text or "\\uD" in text
    return without_halves(value) if is_cut and not keeps_halves else value


def _is_deeper(value: Any, levels: int) -> bool:
    # How deep Python's reader goes depends on its version.
    level: list[Any] = [value]
    for _ in range(levels + 1):
        items = (item for container in level for item in _items(container))
        level = [item for item in items if isinstance(item, dict | list)]
        if not level:
            return False
    return True


def _items(value: Any) -> Iterable[Any]:
    if _is_object(value):
        return value.values()
    return value if _is_list(value) else ()


def _integer(digits: str) -> int | float | None:
    # Converting a number of a million digits to `int` would take time that grows with its square.
    if len(digits) <= 20 and -(2**63) <= (number := int(digits)) < 2**64:
        return number
    return _float(digits)


def _float(digits: str) -> float | None:
    number = float(digits)
    return number if math.isfinite(number) else None


def _no_number(_name: str) -> None:
    return None


_DECODER = json.JSONDecoder(parse_int=_integer, parse_float=_float, parse_constant=_no_number)


def without_halves(value: Any) -> Any:
    """
    Return *value* with U+FFFD in place of each half of a surrogate pair. Containers are changed.
    """
    # Containers are changed in place, without recursion: they may be nested as deeply as the stack
    # allows.
    root = [value]
    containers: list[Any] = [root]
    while containers:
        container = containers.pop()
        if _is_object(container) and any(map(_HALF.search, container)):
            items = [(_whole(key), item) for key, item in container.items()]
            container.clear()
            container.update(items)
        for key in _keys(container):
            item: Any = container[key]
            if isinstance(item, dict | list):
                containers.append(item)
            elif isinstance(item, str):
                container[key] = _whole(item)
    return root[0]


def _keys(container: Any) -> Iterable[Any]:
    return container if _is_object(container) else range(len(container))


def _is_object(value: object) -> TypeGuard[dict[str, Any]]:
    return isinstance(value, dict)


def _is_list(value: object) -> TypeGuard[list[Any]]:
    return isinstance(value, list)


def _whole(text: str) -> str:
    if _HALF.search(text) is None:
        return text
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
