"""
The wire's JSON: how any value is read, copied and parsed, and the base of the views.
"""

import copy
import json
import math
import pickle
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from aistats._views.json import (
    WireObject,
    as_decimal,
    as_integer,
    as_object,
    as_objects,
    as_string,
    copy_json,
    is_list,
    is_object,
    json_text,
    parse_json,
)

quick = settings(deadline=None, max_examples=100)

json_values: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text(max_size=3) | st.sampled_from(["a", "b"]), inner, max_size=4)
    ),
    max_leaves=10,
)
json_objects = st.dictionaries(st.text(max_size=3), json_values, max_size=4)

# -- values -------------------------------------------------------------------------------------


@given(value=json_values)
@quick
def test_any_value_is_read(value: object):
    """
    A value is read as what it is, and as nothing where it is something else.
    """
    assert is_object(value) is isinstance(value, dict)
    assert is_list(value) is isinstance(value, list)
    assert as_object(value) == (value if isinstance(value, dict) else {})
    assert as_string(value) == (value if isinstance(value, str) else "")
    assert as_objects(value) == (
        [each for each in value if isinstance(each, dict)] if isinstance(value, list) else []
    )


def test_objects_are_not_copied():
    """
    What is read as an object is that object, so that reading costs nothing.
    """
    value: dict[str, Any] = {"a": {}}

    assert as_object(value) is value
    assert as_objects([1, value])[0] is value


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (0, 0),
        (-5, -5),
        (10**30, 10**30),
        (7.0, 7),
        (1e20, 10**20),
        (7.5, None),
        (math.inf, None),
        (math.nan, None),
        (True, None),
        (False, None),
        ("7", None),
        (None, None),
        ([7], None),
    ],
)
def test_as_integer(value: object, expected: int | None):
    """
    A whole number is one however it was written, and true and false are none.
    """
    read = as_integer(value)

    assert read == expected
    assert type(read) is type(expected)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("0.050000000", "0.05"),
        ("9.5e-7", "0.00000095"),
        ("-1", "-1"),
        (0.1, "0.1"),
        (9.5e-7, "0.00000095"),
        (3, "3"),
        (10**30, "1e30"),
        ("", None),
        ("free", None),
        ("NaN", None),
        ("sNaN", None),
        ("Infinity", None),
        (math.inf, None),
        (math.nan, None),
        ("1e99999999999999999999", None),
        ("\ud83d", None),
        (True, None),
        (None, None),
        ([1], None),
        ({"a": 1}, None),
    ],
)
def test_as_decimal(value: object, expected: str | None):
    """
    A price is a decimal number to its last digit, sent as text or as a number; nothing else is one.
    """
    read = as_decimal(value)

    assert read == (None if expected is None else Decimal(expected))


def test_a_decimal_of_too_many_digits():
    """
    A whole number that Python refuses to write out is either read or is none; it does not raise.
    """
    assert as_decimal(10**5000) in (None, Decimal(10**5000))


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("text", "text"),
        ("", ""),
        ({"city": "Bodø", "n": [1, None]}, '{"city":"Bodø","n":[1,null]}'),
        ({}, "{}"),
        ([1], None),
        (1, None),
        (True, None),
        (None, None),
    ],
)
def test_json_text(value: object, expected: str | None):
    """
    Text is itself, an object is its JSON, and nothing else is text.
    """
    assert json_text(value) == expected


def test_json_text_of_a_deep_object():
    """
    An object that is nested too deep to be written is no text.
    """
    assert json_text(nested(1000)) is None


# -- parsing ------------------------------------------------------------------------------------


@given(value=json_values)
@quick
def test_parsing(value: Any):
    """
    What JSON says comes out, with whole numbers of more than 64 bits as floats.
    """
    text = json.dumps(value).replace("Infinity", "1.5")
    parsed = parse_json(text.encode())

    assert parsed == json.loads(
        text,
        parse_int=lambda digits: n if -(2**63) <= (n := int(digits)) < 2**64 else float(digits),
    )


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (rb'"\ud83d"', "\ufffd"),
        (rb'"\uDE00"', "\ufffd"),
        (rb'"a\ud83db"', "a\ufffdb"),
        (rb'"\ude00\ud83d"', "\ufffd\ufffd"),
        (rb'"\ud83d\ud83d\ude00"', "\ufffd😀"),
        (rb'"\ud83d\ude00"', "😀"),
        (rb'"\\ud83d"', "\\ud83d"),
        (
            rb'{"\ud83d": ["\ude00", 1, null, true, 0.5]}',
            {"\ufffd": ["\ufffd", 1, None, True, 0.5]},
        ),
        ('["\\ud83d", "Bodø😀"]'.encode(), ["\ufffd", "Bodø😀"]),
    ],
)
def test_half_a_surrogate_pair(data: bytes, expected: object):
    """
    Half of a surrogate pair becomes the replacement character, and everything else stays.
    """
    assert parse_json(data) == expected


@given(value=st.text(st.characters(categories=["Cs", "Ll"]) | st.just("\\"), max_size=10))
@quick
def test_parsed_text_can_be_written(value: str):
    """
    Text with any escapes is read as characters that UTF-8 can encode.
    """
    parsed = parse_json(json.dumps(value).encode())

    assert parsed == value.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    assert parsed.encode("utf-8").decode() == parsed


@given(
    data=st.binary(max_size=30)
    | st.lists(st.sampled_from(list('{}[]",:\\ud8e1 .tn'))).map(
        lambda letters: "".join(letters).encode()
    )
)
@example(data=b"")
@example(data=b"NaN")
@example(data=rb'[NaN, "\ud83d"]')
@example(data=rb'[1e999, "\ud83d"]')
@example(data=rb'["\ud83d"')
@example(data=b'["\\ud83d\xff"]')
@example(data=rb'["\ud83"]')
@example(data=b"9" * 5000 + rb'"\ud83d"')
@quick
def test_bytes_that_are_no_json(data: bytes):
    """
    Any bytes are JSON or a `ValueError`.
    """
    try:
        parsed = parse_json(data)
    except ValueError:
        return
    assert json.loads(json.dumps(parsed)) == parsed


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"NaN", None),
        (b"[NaN, Infinity, -Infinity, 0.5]", [None, None, None, 0.5]),
        (rb'[-Infinity, "\ud83d", "NaN"]', [None, "\ufffd", "NaN"]),
        (b'{"a": 1e400, "b": -1e400, "c": 1e-400, "d": 1}', {"a": None, "b": None, "c": 0, "d": 1}),
        (b"[1e400, 9223372036854775808, 18446744073709551616]", [None, 2**63, float(2**64)]),
        (b"[NaN, -9223372036854775808, -9223372036854775809]", [None, -(2**63), -float(2**63)]),
        (b"[" + b"9" * 400 + b"]", [None]),
        (b"[" + b"9" * 1_000_000 + b"]", [None]),
        (b'["Bod\xf8"]', ["Bod\ufffd"]),
        (b'["\xed\xa0\x80"]', ["\ufffd\ufffd\ufffd"]),
        (b'["\xc0\xaf"]', ["\ufffd\ufffd"]),
        (b'["\xe0\xff", "\xf4\xbf\xbf\xbf"]', ["\ufffd\ufffd", "\ufffd\ufffd\ufffd\ufffd"]),
        (b'{"\xff": 1}', {"\ufffd": 1}),
        (b'\xef\xbb\xbf{"a": "\xc3\xb8"}', {"a": "ø"}),
        ('\ufeff{"a": "ø😀"}'.encode("utf-16-le"), {"a": "ø😀"}),
        ('\ufeff{"a": "ø😀"}'.encode("utf-16-be"), {"a": "ø😀"}),
        ('{"a": "ø😀"}'.encode("utf-16-le"), {"a": "ø😀"}),
        ('{"a": "ø😀"}'.encode("utf-16-be"), {"a": "ø😀"}),
        ('\ufeff{"a": "ø😀"}'.encode("utf-32"), {"a": "ø😀"}),
    ],
    ids=lambda value: repr(value)[:40],
)
def test_what_servers_write_for_json(data: bytes, expected: object):
    """
    What is unusual in an answer is read as the nearest value, and all the rest as it is.
    """
    assert parse_json(data) == expected


@pytest.mark.parametrize(
    "data",
    [
        *(b"", b"{", b"[NaN", b'{"a": Infinity', b"nan", b"[-NaN]", b"[+Infinity]", b"[Inf]"),
        *(b"[1e400", b"[01, NaN]", b"[.5, NaN]", b"[NaN,]", b"[NaN 1]", b"NaN NaN"),
        *(b"\xff", b"[\xff]", b'["\\\xff"]', b'["\\u00\xff"]', b'["a\nb", NaN]', b'["\xff'),
        *(b'[NaN, "\x00"]', b"{'a': NaN}", b"{NaN: 1}", b"[1, \xef\xbb\xbf2]", "[\uff11]".encode()),
        *('{"a": '.encode("utf-16"), "{'a'}".encode("utf-16-le"), b"\xff\xfe", b"\xef\xbb\xbf"),
    ],
)
def test_no_json(data: bytes):
    """
    Text that was cut or is no JSON is refused, whatever else in it is read leniently.
    """
    with pytest.raises(ValueError, match=r"."):
        parse_json(data)


@pytest.mark.parametrize("inside", ["1", '"\\ud83d"'])
@pytest.mark.parametrize(("opening", "closing"), [("[", "]"), ('{"a":', "}")])
@pytest.mark.parametrize("levels", [100_000, 5000])
def test_bottomless_json(levels: int, opening: str, closing: str, inside: str):
    """
    JSON that is nested beyond all measure is a `ValueError`.
    """
    with pytest.raises(ValueError, match=r"."):
        parse_json(f"{opening * levels}{inside}{closing * levels}".encode())


# -- depth --------------------------------------------------------------------------------------


def nested(levels: int) -> dict[str, Any]:
    """
    Return an object with *levels* nested lists and objects.
    """
    inner: Any = 1
    for level in range(levels):
        inner = [inner] if level % 2 else {"a": inner}
    return {"a": inner}


def depth(value: Any) -> int:
    """
    How many levels a value of `nested` has.
    """
    levels = -1
    while not isinstance(value, int):
        value = value["a"] if isinstance(value, dict) else value[0]
        levels += 1
    return levels


@pytest.mark.parametrize("levels", [0, 1, 1000, 100_000])
def test_copies_are_deep(levels: int):
    """
    A copy goes down to the last level, however deep that is.
    """
    wire = nested(levels)

    assert depth(copy_json(wire)) == levels
    assert depth(View.from_dict(wire).to_dict()) == levels


@given(wire=json_objects)
@quick
def test_a_copy_is_equal_and_its_own(wire: dict[str, Any]):
    """
    A copy says the same and shares no object and no list with what it is a copy of.
    """

    def containers(value: Any) -> set[int]:
        items = value.values() if isinstance(value, dict) else value
        inner = [containers(each) for each in items if isinstance(each, dict | list)]
        return {id(value)}.union(*inner)

    copied = copy_json(wire)

    assert copied == wire
    assert list(copied) == list(wire)
    assert not containers(copied) & containers(wire)


# -- views --------------------------------------------------------------------------------------


class Part(WireObject):
    """
    A view inside another.
    """

    __slots__ = ()

    name: str | None


class View(WireObject):
    """
    A view with a field of every kind.
    """

    __slots__ = ()

    text: str | None
    count: int | None
    share: float | None
    flag: bool | None
    price: Decimal | None
    anything: Any
    part: Part | None
    always: Part
    parts: list[Part]
    names: list[str]
    counts: list[int]

    @property
    def total(self) -> int:
        """
        A field that is written out.
        """
        return len(self.parts)


class Longer(View):
    """
    A view that adds a field to another's.
    """

    __slots__ = ()

    more: str | None


FULL: dict[str, Any] = {
    "text": "hi",
    "count": 3,
    "share": 0.5,
    "flag": False,
    "price": "0.10",
    "anything": [1, {"a": None}],
    "part": {"name": "p"},
    "always": {"name": "a"},
    "parts": [{"name": "1"}, {"name": "2"}],
    "names": ["x", "y"],
    "counts": [1, 2],
    "unknown": {"kept": [1]},
    "more": "yes",
}


def test_fields():
    """
    Each field reads the key of its name.
    """
    view = View.from_dict(FULL)

    assert (view.text, view.count, view.share, view.flag) == ("hi", 3, 0.5, False)
    assert view.price == Decimal("0.1")
    assert view.anything == [1, {"a": None}]
    assert view.part == Part.from_dict({"name": "p"})
    assert view.always.name == "a"
    assert [part.name for part in view.parts] == ["1", "2"]
    assert (view.names, view.counts, view.total) == (["x", "y"], [1, 2], 2)
    assert Longer.from_dict(FULL).more == "yes"
    assert Longer.from_dict(FULL).text == "hi"


@pytest.mark.parametrize("wire", [{}, dict.fromkeys(FULL)])
def test_missing_fields(wire: dict[str, Any]):
    """
    A field that is missing or null reads as `None`, a list as empty, and a view that is always
    there as an empty one.
    """
    view = View.from_dict(wire)

    assert (view.text, view.count, view.share, view.flag, view.price) == (None,) * 5
    assert (view.anything, view.part) == (None, None)
    assert (view.always, view.always.name) == (Part.from_dict({}), None)
    assert (view.parts, view.names, view.counts) == ([], [], [])


@pytest.mark.parametrize(
    ("name", "odd", "expected"),
    [
        ("text", 5, None),
        ("text", ["hi"], None),
        ("text", {}, None),
        ("count", "3", None),
        ("count", 3.0, 3),
        ("count", 3.5, None),
        ("count", True, None),
        ("share", 1, 1),
        ("share", "0.5", None),
        ("share", True, None),
        ("flag", 0, None),
        ("flag", "false", None),
        ("price", 0.25, Decimal("0.25")),
        ("price", "free", None),
        ("part", "p", None),
        ("part", [{"name": "p"}], None),
        ("always", "a", Part.from_dict({})),
        ("parts", {"name": "1"}, []),
        ("parts", [None, {"name": "1"}, "2", [3]], [Part.from_dict({"name": "1"})]),
        ("names", "xy", []),
        ("names", ["x", 1, None, "y"], ["x", "y"]),
        ("names", ["", "x"], ["", "x"]),
        ("counts", [0, True, "1", 2.0, 2.5], [0, 2]),
    ],
)
def test_odd_values(name: str, odd: object, expected: object):
    """
    What is not of a field's type costs that field alone, and of a list that item alone.
    """
    view = View.from_dict({**FULL, name: odd})

    assert getattr(view, name) == expected
    assert repr(getattr(view, name)) == repr(expected)
    assert view.to_dict()[name] == odd
    for other in FULL.keys() - {name, "unknown", "more"}:
        assert getattr(view, other) == getattr(View.from_dict(FULL), other)


def test_a_view_keeps_what_it_does_not_know():
    """
    The JSON that a view was made of comes back whole, and a change of it changes no view.
    """
    view = View.from_dict(FULL)
    again = view.to_dict()
    again["unknown"]["kept"].append(2)
    again["part"]["name"] = "changed"

    assert view.to_dict() == FULL
    assert list(view.to_dict()) == list(FULL)
    assert view.part is not None
    assert view.part.name == "p"


def test_a_view_holds_the_json_it_is_given():
    """
    To make a view copies nothing.
    """
    wire = {"text": "before"}
    view = View.from_dict(wire)
    wire["text"] = "after"

    assert view.text == "after"


def test_lists_are_new_each_time():
    """
    A list that was read can be changed, and the view stays as it is.
    """
    view = View.from_dict(copy_json(FULL))
    view.parts.clear()
    view.names.append("z")

    assert len(view.parts) == 2
    assert view.names == ["x", "y"]


@pytest.mark.parametrize("name", ["text", "parts", "total", "unknown"])
def test_a_view_does_not_change(name: str):
    """
    Neither a field nor another attribute of a view can be set.
    """
    with pytest.raises(AttributeError):
        setattr(View.from_dict(FULL), name, None)


def test_equality():
    """
    Two views are equal if they are of one class and their JSON is equal, unknown keys included.
    """
    view = View.from_dict(FULL)

    assert view == View.from_dict(copy_json(FULL))
    assert view != View.from_dict({**FULL, "unknown": 1})
    assert view != Longer.from_dict(FULL)
    assert view != FULL


def test_a_view_has_no_hash():
    """
    As with the dict in it, a view is no key: its JSON might change.
    """
    with pytest.raises(TypeError, match="unhashable"):
        hash(View.from_dict(FULL))


@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
def test_a_view_survives_pickle(protocol: int):
    """
    What comes back from a pickle is an equal view of the same class.
    """
    view = Longer.from_dict(FULL)
    again = pickle.loads(pickle.dumps(view, protocol))

    assert again == view
    assert again.more == "yes"


def test_a_view_survives_a_copy():
    """
    A copy is an equal view, and a deep one shares no JSON.
    """
    view = View.from_dict(copy_json(FULL))
    deep = copy.deepcopy(view)

    assert copy.copy(view) == view == deep
    assert deep.anything is not view.anything


def test_repr():
    """
    A view shows its class and its JSON.
    """
    assert repr(Part.from_dict({"name": "p", "new": 1})) == "Part({'name': 'p', 'new': 1})"


@given(wire=st.dictionaries(st.sampled_from(list(FULL)), json_values))
@quick
def test_any_json_can_be_viewed(wire: dict[str, Any]):
    """
    Whatever JSON a view is made of, each field can be read, and the JSON comes back.
    """
    view = Longer.from_dict(wire)

    for name in FULL.keys() - {"unknown"}:
        getattr(view, name)
    assert view.to_dict() == wire
