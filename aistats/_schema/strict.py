"""
The strict form of a JSON Schema, which providers enforce, and the way back from it.

In the strict form all keys are required, objects are closed, and an optional field is a union with
null. Keywords that providers refuse go into the description. A mapping with free keys is a list of
key and value pairs, a tuple an object with a key for each place, and a root that is not an object
is wrapped. `loosened` turns an answer's JSON back into what the original schema describes.
"""

from __future__ import annotations

import copy
from typing import Any, Final

import orjson

from .._views.json import is_list, is_object

__all__ = ("ROOT", "loosened", "renamed", "strict", "without_root")

Schema = dict[str, Any]

ROOT: Final = "value"
"""The key of a root that is wrapped."""

_TOLD: Final = {
    "minimum": "at least",
    "maximum": "at most",
    "exclusiveMinimum": "greater than",
    "exclusiveMaximum": "less than",
    "multipleOf": "a multiple of",
    "minLength": "minimum length",
    "maxLength": "maximum length",
    "pattern": "matches the pattern",
    "minItems": "minimum number of items",
    "maxItems": "maximum number of items",
    "contentEncoding": "encoding",
}
_FORMATS: Final = frozenset(
    {"date-time", "date", "time", "duration", "email", "hostname", "ipv4", "ipv6", "uuid"}
)
_KNOWN: Final = frozenset(
    {
        *_TOLD,
        *("$ref", "type", "enum", "const", "properties", "required", "additionalProperties"),
        *("items", "prefixItems", "anyOf", "oneOf", "allOf", "description", "default", "title"),
        *("discriminator", "format", "uniqueItems", "examples", "$defs", "definitions"),
        *("propertyNames", "$schema", "$id", "$comment", "deprecated", "readOnly", "writeOnly"),
        *("minProperties", "maxProperties", "patternProperties"),
    }
)
_TYPES: Final[dict[type, str]] = {
    str: "string",
    bool: "boolean",
    int: "integer",
    float: "number",
    type(None): "null",
}


def strict(schema: Schema) -> tuple[Schema, bool]:
    """
    Return the strict form of *schema*, and whether all of it could be made strict. *schema* itself
    is not changed. The root is an object.
    """
    form = _Strict({**schema.get("definitions", {}), **schema.get("$defs", {})})
    root = form.made(form.inlined(schema))
    if root.get("type") != "object":
        properties = {ROOT: root}
        closed: Schema = {"additionalProperties": False}
        root = {"type": "object", "properties": properties, "required": [ROOT], **closed}
    if form.used:
        root["$defs"] = form.used
    return root, form.is_strict


class _Strict:
    """
    One schema on its way to the strict form.
    """

    def __init__(self, definitions: dict[str, Schema]) -> None:
        self._definitions = definitions
        self.used: dict[str, Schema] = {}
        """The definitions that the result refers to."""
        self.is_strict = True

    def inlined(self, schema: Schema) -> Schema:
        """
        Return *schema* with the definition it refers to in place of a reference.
        """
        while "$ref" in schema and (name := _name_of(schema)) in self._definitions:
            beside = {key: value for key, value in schema.items() if key not in ("$ref", "$defs")}
            schema = {**self._definitions[name], **beside}
        return schema

    def made(self, schema: Any) -> Schema:
        """
        Return the strict form of *schema*, which is not changed.
        """
        if not is_object(schema) or not schema.keys() - {"title", "description", "default"}:
            self.is_strict = False  # anything goes
            kept: Schema = schema if is_object(schema) else {}
            return {key: value for key, value in kept.items() if key == "description"}
        given: Schema = schema
        if "$ref" in given:
            return self._reference(given)
        if len(parts := given.get("allOf", ())) == 1:
            rest = {key: value for key, value in given.items() if key != "allOf"}
            return self.made({**self.inlined(parts[0]), **rest})
        if given.keys() - _KNOWN or "allOf" in given or "patternProperties" in given:
            self.is_strict = False
            return copy.deepcopy(given)
        return self._described(self._body(given), given)

    def _reference(self, schema: Schema) -> Schema:
        name = _name_of(schema)
        if name not in self._definitions:
            self.is_strict = False
            return {"$ref": schema["$ref"]}
        beside = schema.keys() - {"$ref"}
        if beside and not self._is_recursive(name):
            return self.made(self.inlined(schema))
        if name not in self.used:
            self.used[name] = {}
            self.used[name].update(self.made(self._definitions[name]))
        return {"$ref": f"#/$defs/{name}"}

    def _is_recursive(self, name: str) -> bool:
        seen: set[str] = set()
        todo = [self._definitions[name]]
        while todo:
            for found in _references(todo.pop()):
                if found == name:
                    return True
                if found not in seen and found in self._definitions:
                    seen.add(found)
                    todo.append(self._definitions[found])
        return False

    def _body(self, given: Schema) -> Schema:
        if "const" in given:
            given = {**given, "enum": [given["const"]]}
        if "enum" in given:
            values: list[Any] = list(given["enum"])
            found = list(dict.fromkeys(_type_of(each) for each in values))
            return {"type": found[0] if len(found) == 1 else found, "enum": values}
        variants = given.get("anyOf") or given.get("oneOf")
        if variants:
            return self._union(variants)
        kind = given.get("type")
        if kind == "object" or (kind is None and "properties" in given):
            return self._object(given)
        if kind == "array":
            return self._array(given)
        if kind is None:
            self.is_strict = False
            return {}
        if is_list(kind):
            return self._union([{**given, "type": each} for each in kind])
        is_known = given.get("format") in _FORMATS
        return {"type": kind, "format": given["format"]} if is_known else {"type": kind}

    def _union(self, variants: list[Any]) -> Schema:
        if _is_decimal(variants):
            rest = [each for each in variants if each.get("type") not in ("number", "string")]
            variants = [{"type": "string", "format": "decimal"}, *rest]
            if len(variants) == 1:
                return {"type": "string", "description": _FORMAT_TEXT["decimal"]}
        null: Schema = {"type": "null"}
        made = [self.made(each) for each in variants]
        ordered = [each for each in made if each != null]
        return {"anyOf": [*ordered, null] if null in made else ordered}

    def _object(self, given: Schema) -> Schema:
        properties: dict[str, Any] = given.get("properties", {})
        free = given.get("additionalProperties", not properties)
        if not properties and free is not False:
            return self._mapping(given, free)
        if free not in (False, True) or not properties:
            self.is_strict = False
            return copy.deepcopy({key: given[key] for key in given if key not in _SAID})
        required = given.get("required", ())
        made: dict[str, Schema] = {}
        for name, each in properties.items():
            form = self.made(each)
            if name not in required and not _takes_null(each, self._definitions):
                form = _nullable(form)
            made[name] = form
        return {
            "type": "object",
            "properties": made,
            "required": list(made),
            "additionalProperties": False,
        }

    def _mapping(self, given: Schema, free: Any) -> Schema:
        if not _is_closed(free):
            self.is_strict = False
            return {"type": "object"}
        pair: Schema = {
            "type": "object",
            "properties": {
                "key": self.made({"type": "string", **given.get("propertyNames", {})}),
                "value": self.made(free),
            },
            "required": ["key", "value"],
            "additionalProperties": False,
        }
        return {"type": "array", "items": pair}

    def _array(self, given: Schema) -> Schema:
        if "prefixItems" not in given:
            return {"type": "array", "items": self.made(given.get("items", {}))}
        places = {f"item_{at}": self.made(each) for at, each in enumerate(given["prefixItems"], 1)}
        return {
            "type": "object",
            "properties": places,
            "required": list(places),
            "additionalProperties": False,
        }

    def _described(self, made: Schema, given: Schema) -> Schema:
        told: list[str] = []
        hidden = given.keys() if "prefixItems" not in given else given.keys() - _LENGTHS
        if (wire_format := given.get("format")) is not None and wire_format not in _FORMATS:
            told.append(_FORMAT_TEXT.get(wire_format, f"Format: {wire_format}"))
        for key, words in _TOLD.items():
            if key in hidden:
                told.append(f"{words} {given[key]}".capitalize())
        if given.get("uniqueItems"):
            told.append("No item twice")
        if (default := given.get("default")) not in (None, [], {}):
            told.append(f"Default: {orjson.dumps(default).decode()}")
        text: str = given.get("description") or made.get("description", "")
        if text and told and text[-1] not in ".!?":
            text += "."
        text = " ".join([text, *(f"{each}." for each in told)]).strip()
        return {**made, "description": text} if text else made


def _type_of(value: object) -> str:
    return _TYPES.get(type(value), "string")


_SAID: Final = frozenset({"title", "default", "discriminator", "$defs", "definitions"})
_LENGTHS: Final = frozenset({"minItems", "maxItems"})
_FORMAT_TEXT: Final = {"decimal": "A decimal number, such as 12.50"}


def _name_of(schema: Schema) -> str:
    return str(schema["$ref"]).rpartition("/")[2]


def _references(schema: Any) -> list[str]:
    if is_list(schema):
        return [name for each in schema for name in _references(each)]
    if not is_object(schema):
        return []
    given: Schema = schema
    own = [_name_of(given)] if isinstance(given.get("$ref"), str) else []
    return [*own, *(name for each in given.values() for name in _references(each))]


def renamed(schema: Any, names: dict[str, str]) -> Any:
    """
    Return a copy of *schema* whose references have other *names*.
    """
    if is_list(schema):
        return [renamed(each, names) for each in schema]
    if not is_object(schema):
        return schema
    made: Schema = {key: renamed(each, names) for key, each in schema.items()}
    if isinstance(made.get("$ref"), str):
        name = _name_of(made)
        made["$ref"] = f"#/$defs/{names.get(name, name)}"
    return made


def _is_decimal(variants: list[Any]) -> bool:
    # How some versions of pydantic write a decimal; providers refuse the look-ahead.
    patterns = [str(each.get("pattern", "")) for each in variants if is_object(each)]
    return any(pattern.startswith("^(?!") for pattern in patterns)


def _is_closed(schema: Any) -> bool:
    # Whether the values of a mapping can be described strictly.
    return is_object(schema) and bool(schema.keys() - {"title", "description"})


def _nullable(form: Schema) -> Schema:
    described = {key: form[key] for key in form if key == "description"}
    rest = {key: value for key, value in form.items() if key != "description"}
    if "anyOf" in rest:
        return {"anyOf": [*rest["anyOf"], {"type": "null"}], **described}
    return {"anyOf": [rest, {"type": "null"}], **described}


def _takes_null(schema: Any, definitions: dict[str, Schema]) -> bool:
    if not is_object(schema):
        return True
    given: Schema = schema
    if "$ref" in given:
        target = definitions.get(_name_of(given), {})
        return target.get("$ref") != given["$ref"] and _takes_null(target, {})
    kind = given.get("type")
    if kind is None and not given.keys() & {"enum", "const", "anyOf", "oneOf", "allOf"}:
        return "properties" not in given
    variants: list[Any] = given.get("anyOf") or given.get("oneOf") or []
    return (
        kind == "null"
        or (is_list(kind) and "null" in kind)
        or None in given.get("enum", ())
        or ("const" in given and given["const"] is None)
        or any(_takes_null(each, definitions) for each in variants)
    )


# --- the way back ---


def without_root(value: Any, schema: Schema) -> Any:
    """
    Return *value* without the wrapper of its root, where the model wrote it.
    """
    target = schema
    definitions: dict[str, Schema] = {**schema.get("definitions", {}), **schema.get("$defs", {})}
    while "$ref" in target and _name_of(target) in definitions:
        target = definitions[_name_of(target)]
    is_class = target.get("type") == "object" and not _is_mapping(target)
    if not is_class and is_object(value) and value.keys() == {ROOT}:
        return value[ROOT]
    return value


def _is_mapping(schema: Schema) -> bool:
    free = schema.get("additionalProperties", True)
    return not schema.get("properties") and free is not False


def loosened(value: Any, schema: Any, definitions: dict[str, Schema]) -> Any:
    """
    Return the JSON *value*, which may be in the strict form, as *schema* describes it.

    A null for a field that has no null is left out: it means the default.
    """
    if not is_object(schema):
        return value
    given: Schema = schema
    if "$ref" in given:
        return loosened(value, definitions.get(_name_of(given), {}), definitions)
    if variants := given.get("anyOf") or given.get("oneOf") or given.get("allOf"):
        variant = _variant(value, variants, definitions)
        return loosened(value, variant, definitions)
    places: list[Any] = given.get("prefixItems", [])
    if is_list(value):
        return _loosened_list(value, given, places, definitions)
    if not is_object(value):
        return value
    entries = value
    if places:
        names = [f"item_{at}" for at in range(1, len(places) + 1)]
        if entries.keys() != set(names):
            return entries
        pairs = zip(names, places, strict=True)
        return [loosened(entries[name], each, definitions) for name, each in pairs]
    properties: dict[str, Any] = given.get("properties", {})
    required = given.get("required", ())
    free = given.get("additionalProperties", {})
    return {
        key: loosened(each, properties.get(key, free), definitions)
        for key, each in entries.items()
        if each is not None
        or key not in properties
        or key in required
        or _takes_null(properties[key], definitions)
    }


def _loosened_list(
    value: list[Any], schema: Schema, places: list[Any], definitions: dict[str, Schema]
) -> Any:
    if schema.get("type") == "object" and all(
        is_object(each) and each.keys() == {"key", "value"} for each in value
    ):
        inner = schema.get("additionalProperties", {})
        return {str(each["key"]): loosened(each["value"], inner, definitions) for each in value}
    items = schema.get("items", {})
    if places:
        return [
            loosened(each, places[at] if at < len(places) else items, definitions)
            for at, each in enumerate(value)
        ]
    return [loosened(each, items, definitions) for each in value]


def _variant(value: Any, variants: list[Any], definitions: dict[str, Schema]) -> Any:
    # The variant of a union that *value* is most likely of.
    best, most = {}, -1
    for each in variants:
        target = each
        while is_object(target) and "$ref" in target:
            target = definitions.get(_name_of(target), {})
        score = _score(value, target, definitions) if is_object(target) else 0
        if score > most:
            best, most = target, score
    return best


def _score(value: Any, schema: Schema, definitions: dict[str, Schema]) -> int:
    kind = schema.get("type")
    if is_list(value):
        return 2 if kind == "array" else 1 if kind == "object" and _is_mapping(schema) else 0
    if kind != "object" or not is_object(value):
        return 1 if "prefixItems" in schema else 0
    entries: dict[str, Any] = value
    properties: dict[str, Any] = schema.get("properties", {})
    for name, each in properties.items():
        allowed = each.get("enum", [each["const"]] if "const" in each else None)
        if allowed is not None and name in entries and entries[name] not in (*allowed, None):
            return 0
    missing = set(schema.get("required", ())) - entries.keys()
    unknown = entries.keys() - properties.keys()
    return 1 + 1000 // (1 + len(missing) + len(unknown))
