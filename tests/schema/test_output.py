"""
Structured answers: types to schemas, and the text of an answer to values.
"""

from __future__ import annotations

import copy
import dataclasses
import enum
import json
import pickle
import subprocess
import sys
from datetime import UTC, date, datetime, time
from decimal import Decimal
from typing import Annotated, Any, Generic, Literal, NamedTuple, TypedDict, TypeVar
from uuid import UUID

import attrs
import jsonschema
import pydantic
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aistats import RequestValidationError
from aistats._schema.errors import OutputValidationError
from aistats._schema.output import output_of

T = TypeVar("T")


class Unit(enum.Enum):
    METRE = "m"
    FOOT = "ft"


class Level(enum.IntEnum):
    LOW = 1
    HIGH = 2


@attrs.define
class Line:
    """A line of a bill."""

    item: str
    price: Decimal = attrs.field(metadata={"description": "In euros"})


@attrs.define
class Bill:
    number: Annotated[str, "As printed"]
    lines: list[Line] = attrs.field(factory=list)
    unit: Unit = Unit.METRE
    first: Line | None = None
    size: tuple[int, float] | None = None
    counts: dict[str, int] = attrs.field(factory=dict)


@attrs.define
class Node:
    name: str
    children: list[Node] = attrs.field(factory=list)


@attrs.define
class Page(Generic[T]):
    items: list[T]


@dataclasses.dataclass
class Point:
    x: int
    y: int = 0


class Pair(NamedTuple):
    left: str
    right: int = 1


class Options(TypedDict, total=False):
    deep: bool


@attrs.define
class Cat:
    kind: Literal["cat"]
    lives: int = 9


@attrs.define
class Dog:
    kind: Literal["dog"]
    tricks: list[str]


@attrs.define
class Bird:
    name: str
    wings: int = 2


@attrs.define
class Fish:
    name: str
    fins: int = 2


@attrs.define
class Positive:
    count: int = attrs.field()

    @count.validator
    def _check(self, attribute: object, value: int) -> None:
        if value <= 0:
            raise ValueError("must be positive")


@dataclasses.dataclass
class Ordered:
    low: int
    high: int

    def __post_init__(self) -> None:
        if self.low > self.high:
            raise ValueError("low > high")


TYPES: list[tuple[Any, str, Any]] = [
    (str, '{"value": "a"}', "a"),
    (int, '{"value": 3}', 3),
    (int, '{"value": "3"}', 3),
    (int, '{"value": 3.0}', 3),
    (float, '{"value": 1}', 1.0),
    (bool, '{"value": "true"}', True),
    (Decimal, '{"value": 12345678901234567890.12}', Decimal("12345678901234567890.12")),
    (Decimal, '{"value": "0.1"}', Decimal("0.1")),
    (datetime, '{"value": "2026-01-31T12:00:00Z"}', datetime(2026, 1, 31, 12, tzinfo=UTC)),
    (date, '{"value": "2026-01-31"}', date(2026, 1, 31)),
    (time, '{"value": "12:30:00"}', time(12, 30)),
    (UUID, '{"value": "12345678123456781234567812345678"}', UUID("12345678" * 4)),
    (Unit, '{"value": "ft"}', Unit.FOOT),
    (Level, '{"value": "2"}', Level.HIGH),
    (Literal["a", 1, None], '{"value": 1}', 1),
    (Literal["a", 1, None], '{"value": null}', None),
    (list[int], '{"value": [1, 2]}', [1, 2]),
    (list[int], "[1, 2]", [1, 2]),
    (set[str], '["a", "a"]', {"a"}),
    (tuple[int, ...], "[1, 2]", (1, 2)),
    (tuple[int, str], '{"value": {"item_1": 1, "item_2": "a"}}', (1, "a")),
    (tuple[int, str], '[1, "a"]', (1, "a")),
    (dict[str, int], '{"value": [{"key": "a", "value": 1}]}', {"a": 1}),
    (dict[str, int], '{"a": 1}', {"a": 1}),
    (dict[str, Any], '{"a": [0.5]}', {"a": [0.5]}),
    (str | int, '{"value": "123"}', "123"),
    (str | int, '{"value": 123}', 123),
    (int | float, '{"value": 1}', 1),
    (Annotated[str | None, "text"], '{"value": null}', None),
    (Point, '{"x": 1, "y": null}', Point(1)),
    (Pair, '{"left": "a", "right": 2}', Pair("a", 2)),
    (Options, '{"deep": null}', {}),
    (Page[Line], '{"items": [{"item": "a", "price": "1"}]}', Page([Line("a", Decimal(1))])),
    (Node, '{"name": "a", "children": [{"name": "b", "children": []}]}', Node("a", [Node("b")])),
    (Cat | Dog, '{"kind": "cat", "lives": null}', Cat("cat")),
    (
        list[Cat | Dog | None],
        '{"value": [{"kind": "dog", "tricks": ["sit"]}, null]}',
        [Dog("dog", ["sit"]), None],
    ),
    (Bird | Fish, '{"name": "x", "fins": 3}', Fish("x", 3)),
    (
        Bill,
        (
            '{"number": "7", "lines": null, "unit": null, "first": {"item": "a", "price": 0.1},'
            ' "size": {"item_1": 1, "item_2": 2.5}, "counts": [{"key": "a", "value": 1}]}'
        ),
        Bill("7", first=Line("a", Decimal("0.1")), size=(1, 2.5), counts={"a": 1}),
    ),
    ({"type": "object", "properties": {"a": {"type": "number"}}}, '{"a": 0.5}', {"a": 0.5}),
]


@pytest.mark.parametrize(("declared", "text", "value"), TYPES)
def test_types(declared: Any, text: str, value: Any):
    """
    Each type has a valid, strict schema, and its answer becomes a value of the type.
    """
    output = output_of(declared)
    jsonschema.Draft202012Validator.check_schema(output.schema)
    if output.is_strict:
        _check_strict(output.schema, output.schema)

    read = output.read(text)

    assert read == value
    assert type(read) is type(value)


REFUSED = {
    *("oneOf", "allOf", "default", "title", "pattern", "prefixItems", "discriminator", "const"),
    *("minimum", "maximum", "minLength", "maxLength", "minItems", "maxItems", "propertyNames"),
}


def _check_strict(schema: Any, root: Any, *, are_names: bool = False) -> None:
    if isinstance(schema, list):
        for each in schema:
            _check_strict(each, root)
    if not isinstance(schema, dict):
        return
    if not are_names:
        assert not REFUSED & schema.keys()
        if "$ref" in schema:
            assert schema.keys() == {"$ref"}
            assert schema["$ref"].removeprefix("#/$defs/") in root["$defs"]
        if schema.get("type") == "object":
            assert schema["properties"]
            assert schema["required"] == list(schema["properties"])
            assert schema["additionalProperties"] is False
    for key, each in schema.items():
        if key != "enum":
            names = key in ("properties", "$defs") and not are_names
            _check_strict(each, root, are_names=names)


FAULTS: list[tuple[Any, str, list[str]]] = [
    (int, '{"value": 1.9}', ["expected a whole number, got Decimal('1.9')"]),
    (int, '{"value": "3.5"}', ["expected a whole number, got '3.5'"]),
    (int, '{"value": true}', ["expected a whole number, got True"]),
    (int, '{"value": null}', ["expected a whole number, got None"]),
    (str, '{"value": 5}', ["expected a string, got 5"]),
    (str, '{"value": null}', ["expected a string, got None"]),
    (bool, '{"value": 1}', ["expected true or false, got 1"]),
    (float, '{"value": 1e999}', ["expected a number, got Decimal('1E+999')"]),
    (tuple[int, int], "[1]", ["expected a list of 2 items, got [1]"]),
    (Cat | Dog, '{"kind": "cow"}', ["kind: expected one of 'cat', 'dog', got 'cow'"]),
    (
        Bird | Fish,
        '{"name": "x"}',
        ["expected Bird or Fish, got {'name': 'x'} (it fits all of them equally)"],
    ),
    (
        Bill,
        '{"lines": [{"item": 1, "price": "x"}]}',
        [
            "number: expected a value (it is missing)",
            "lines[0].item: expected a string, got 1",
            "lines[0].price: expected a decimal number, got 'x'",
        ],
    ),
    (
        Positive,
        '{"count": 0}',
        ["count: expected a value that the class accepts, got 0 (must be positive)"],
    ),
    (
        list[Ordered],
        '[{"low": 2, "high": 1}]',
        ["[0]: expected a value that the class accepts, got {'high': 1, 'low': 2} (low > high)"],
    ),
    (Point, '{"x": NaN}', ["expected JSON, whose numbers are finite, got 'NaN'"]),
    (Point, "I'm sorry.", ['expected JSON, got "I\'m sorry." (no JSON in the answer)']),
    (Point, "\n\n\n", ["expected JSON (no JSON in the answer)"]),
    (Point, '{"x": "he said "hi", then"}', []),
]


@pytest.mark.parametrize(("declared", "text", "faults"), FAULTS)
def test_faults(declared: Any, text: str, faults: list[str]):
    """
    Whatever does not fit is a fault with its path, and all faults come at once.
    """
    with pytest.raises(OutputValidationError) as caught:
        output_of(declared).read(text)

    assert caught.value.text == text
    if faults:
        assert [str(each) for each in caught.value.faults] == faults
    for error in (copy.copy(caught.value), pickle.loads(pickle.dumps(caught.value))):
        assert str(error) == str(caught.value)
        assert [str(each) for each in error.faults] == [str(each) for each in caught.value.faults]


@attrs.define
class Code:
    code: str
    n: int = 0


TEXTS = [
    ('{"code": "[x for x in a, ]", "n": 1,}', Code("[x for x in a, ]", 1)),
    ('{"code": "run ```sh ls```"}', Code("run ```sh ls```")),
    ('Here it is [1]:\n```json\n{"code": "a"}\n```\nDone.', Code("a")),
    ('~~~\n{"code": "```\\nx\\n```"}\n~~~', Code("```\nx\n```")),
    ('Use {x} like this: {"code": "}"} and more {', Code("}")),
    ('{"code": "a", "code": "b"}', Code("b")),
    ('\ufeff{"code": "a"}', Code("a")),
]


@pytest.mark.parametrize(("text", "value"), TEXTS)
def test_texts(text: str, value: Code):
    """
    JSON is found in fences and prose, and strings are never changed.
    """
    assert output_of(Code).read(text) == value


def test_a_value_inside_of_broken_json_is_not_the_answer():
    """
    An object inside of one that is no JSON is not taken for the whole.
    """
    with pytest.raises(OutputValidationError):
        output_of(Options).read('{"a": "he said "hi"", "b": {"deep": true}}')


class PydanticBill(pydantic.BaseModel):
    """A bill."""

    number: str = pydantic.Field(description="As printed", min_length=1)
    unit: str = "m"
    next: PydanticBill | None = None


def test_pydantic():
    """
    A pydantic model keeps its own validation; null means a default, and ranges are described.
    """
    output = output_of(list[PydanticBill])
    _check_strict(output.schema, output.schema)

    read = output.read('[{"number": "1", "unit": null, "next": {"number": "2"}}]')

    assert read == [PydanticBill(number="1", next=PydanticBill(number="2"))]
    with pytest.raises(OutputValidationError) as caught:
        output.read('[{"number": ""}, {}]')
    assert [each.path for each in caught.value.faults] == ["[0].number", "[1].number"]


def test_pydantic_and_attrs_have_one_schema():
    """
    The same class has the same strict schema, whichever library it is of.
    """

    @attrs.define
    class Bill:
        """A bill."""

        number: Annotated[str, "As printed"]
        unit: str = "m"

    class Model(pydantic.BaseModel):
        """A bill."""

        number: str = pydantic.Field(description="As printed")
        unit: str = "m"

    assert json.dumps(output_of(Bill).schema) == json.dumps(output_of(Model).schema)


def test_what_cannot_be_described():
    """
    A type that can't be described is refused with the path that leads to it.
    """

    @attrs.define
    class Holder:
        stream: bytes

    with pytest.raises(RequestValidationError, match=r"schema\.stream: expected a type that can"):
        output_of(Holder)


def test_name_that_cannot_be_found():
    """
    A name that the module does not have is refused with class, field and remedy.
    """

    class Inner:
        pass

    @attrs.define
    class Outer:
        inner: Inner

    with pytest.raises(RequestValidationError, match=r"`Inner` of Outer\.inner is not defined"):
        output_of(Outer)


def test_free_mapping_is_not_strict():
    """
    A class with free JSON in it is not strict, and never a closed object without properties.
    """
    output = output_of(dict[str, Any])

    assert not output.is_strict
    assert output.read('{"a": {"b": null}}') == {"a": {"b": None}}


def test_schema_dict_is_not_changed():
    """
    A JSON Schema of the user's is made strict in all its parts, in a copy.
    """
    inner = {"type": "object", "properties": {"b": {"type": "integer", "minimum": 1}}}
    schema = {
        "type": "object",
        "properties": {"a": {"$ref": "#/definitions/Inner"}},
        "required": ["a"],
        "definitions": {"Inner": inner},
    }
    before = copy.deepcopy(schema)

    output = output_of(schema)

    assert schema == before
    _check_strict(output.schema, output.schema)
    assert output.read('{"a": {"b": null}}') == {"a": {}}


def test_bytes_are_the_same_in_every_process():
    """
    The schema of a class has the same bytes in every process.
    """
    code = (
        "import json, sys; sys.path.insert(0, 'tests/schema'); import test_output as t;"
        "print(json.dumps(t.output_of(t.Bill | t.Node).schema))"
    )

    made = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={"PYTHONHASHSEED": seed},
            capture_output=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }

    assert made == {json.dumps(output_of(Bill | Node).schema).encode() + b"\n"}


VALUES = st.recursive(
    st.builds(Node, st.text()),
    lambda inner: st.builds(Node, st.text(), st.lists(inner, max_size=3)),
    max_leaves=20,
)


@given(VALUES)
def test_round_trip(value: Node):
    """
    What is written as JSON is read back as the same value, and fits the schema.
    """
    output = output_of(Node)
    wire = attrs.asdict(value)

    jsonschema.validate(wire, output.schema)

    assert output.read(json.dumps(wire)) == value


@given(st.text(alphabet='{}[]",:\\ntrue01 `~\n', max_size=200))
def test_any_text(text: str):
    """
    Any text is a value or an error of the package.
    """
    try:
        read = output_of(Node).read(text)
    except OutputValidationError:
        return
    assert isinstance(read, Node)
