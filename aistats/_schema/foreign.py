"""
Types of pydantic and msgspec: their own schema, and their own validation.

Neither library is imported until a type of it is met.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable, Iterator
from decimal import Decimal
from typing import Any

import attrs
import orjson

from .._request.to_json import join_path
from .errors import OutputFault
from .kinds import MISSING, Definitions, Faults, Kind, Schema, plain
from .strict import loosened, renamed

__all__ = ("annotated_kind_of", "kind_of")


def kind_of(declared: Any) -> Kind | None:
    """
    Return the kind of a type of pydantic or msgspec; `None` if *declared* is of neither.
    """
    if hasattr(declared, "__pydantic_validator__") and isinstance(declared, type):
        return _pydantic(declared)
    if hasattr(declared, "__struct_config__") and isinstance(declared, type):
        return _msgspec(declared)
    if type(declared).__module__.startswith("pydantic.") and hasattr(declared, "validate_json"):
        return _of_adapter(declared)
    return None


def annotated_kind_of(declared: Any, metadata: list[Any]) -> Kind | None:
    """
    Return the kind of an `Annotated` type whose metadata is of pydantic or msgspec, such as
    `Field(gt=0)`; `None` if it has none of these.
    """
    modules = {type(each).__module__.partition(".")[0] for each in metadata}
    if "pydantic" in modules or "annotated_types" in modules:
        return _pydantic(declared)
    if "msgspec" in modules:
        return _msgspec(declared)
    return None


@attrs.frozen(eq=False)
class _Foreign:
    """
    A type that another library describes and validates.
    """

    name: str
    whole: Schema
    """Its schema, `$defs` included."""
    validate: Callable[[bytes], Any]
    faults_of: Callable[[Exception], Iterator[tuple[str, Any, str]]]
    """Yields path, value and message of each fault; raises what is none of the library's."""

    def schema(self, definitions: Definitions) -> Schema:
        own = {key: value for key, value in self.whole.items() if key != "$defs"}
        defs: dict[str, Schema] = self.whole.get("$defs", {})
        names: dict[str, str] = {}
        for name, each in defs.items():
            names[name], _ = definitions.name(each, name)
        for name, each in defs.items():
            definitions.schemas[names[name]].update(renamed(each, names))
        schema: Schema = renamed(own, names)
        if "$ref" in schema or schema.get("type") != "object":
            return schema
        mine, is_new = definitions.name(self, self.name)
        if is_new:
            definitions.schemas[mine].update(schema)
        return {"$ref": f"#/$defs/{mine}"}

    def read(self, value: Any, path: str, faults: Faults, exact: bool = False) -> Any:
        data = _encoded(loosened(value, self.whole, self.whole.get("$defs", {})))
        try:
            return self.validate(data)
        except ValueError as error:
            for where, got, message in self.faults_of(error):
                joined = f"{path}{where}" if where.startswith("[") else f"{path}.{where}".strip(".")
                faults.append(OutputFault(joined, got, "a valid value", message))
            return MISSING


def _encoded(value: Any) -> bytes:
    def digits(each: Any) -> Any:
        if isinstance(each, Decimal):
            # As text, where a float would lose digits.
            is_exact = Decimal(repr(float(each))) == each
            return orjson.Fragment(str(each)) if is_exact else str(each)
        raise TypeError

    try:
        return orjson.dumps(value, default=digits)
    except orjson.JSONEncodeError:  # an integer of more than 64 bits
        import json

        return json.dumps(plain(value)).encode()


def _pydantic(declared: Any) -> Kind:
    pydantic: Any = importlib.import_module("pydantic")
    return _of_adapter(pydantic.TypeAdapter(declared), getattr(declared, "__name__", "Value"))


def _of_adapter(adapter: Any, name: str = "Value") -> Kind:
    def faults_of(error: Exception) -> Iterator[tuple[str, Any, str]]:
        details: Any = error
        for each in details.errors(include_url=False, include_context=False):
            got = each["input"] if each["type"] != "missing" else None
            yield join_path("", *each["loc"]), got, each["msg"]

    return _Foreign(name, adapter.json_schema(), adapter.validate_json, faults_of)


def _msgspec(declared: Any) -> Kind:
    msgspec: Any = importlib.import_module("msgspec")

    def faults_of(error: Exception) -> Iterator[tuple[str, Any, str]]:
        message = str(error)
        where = re.search(r" - at `\$\.?(.*)`$", message)
        yield (where[1] if where else ""), None, re.sub(r" - at `.*`$", "", message)

    decoder = msgspec.json.Decoder(declared)
    name = getattr(declared, "__name__", "Value")
    return _Foreign(name, msgspec.json.schema(declared), decoder.decode, faults_of)
