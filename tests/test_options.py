"""
The limits of time of a call: what they may be.
"""

from __future__ import annotations

import copy
import math
import pickle
from fractions import Fraction
from typing import Any

import attrs
import pytest

from aistats import ConfigurationError, Timeout


def test_the_usual_limits():
    """
    Unless told otherwise, a call has ten seconds, five minutes and half an hour.
    """
    assert attrs.astuple(Timeout()) == (10.0, 300.0, 1800.0)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (Timeout(connect=1, idle=2, total=3), Timeout(connect=1, idle=2, total=3)),
        (30, Timeout(total=30)),
        (0.5, Timeout(total=0.5)),
        (None, Timeout(connect=None, idle=None, total=None)),
    ],
)
def test_what_stands_for_limits(value: Any, expected: Timeout):
    """
    A bare number is the whole call's limit beside the usual others, and `None` is no limit at all.
    """
    assert Timeout.of(value) == expected


def test_limits_are_passed_on():
    """
    Limits that are a `Timeout` already are used as they are.
    """
    limits = Timeout(total=None)

    assert Timeout.of(limits) is limits


@pytest.mark.parametrize("name", ["connect", "idle", "total"])
@pytest.mark.parametrize("value", [0.001, 1, 10**9, None])
def test_a_limit(name: str, value: Any):
    """
    A limit is any number of seconds above zero, or none.
    """
    assert getattr(Timeout(**{name: value}), name) == value


@pytest.mark.parametrize("name", ["connect", "idle", "total"])
@pytest.mark.parametrize(
    "value", [0, -1, -0.5, math.nan, math.inf, -math.inf, True, False, "10", Fraction(1), [10]]
)
def test_no_such_limit(name: str, value: Any):
    """
    What is not such a number is refused, and the message says which limit it was.
    """
    with pytest.raises(ConfigurationError, match=f"{name} must be a number of seconds above 0"):
        Timeout(**{name: value})


@pytest.mark.parametrize("value", [0, -1, math.inf, True, "10", (1, 2, 3), {"total": 10}])
def test_nothing_that_stands_for_limits(value: Any):
    """
    What is neither limits, a number above zero nor `None` is refused.
    """
    with pytest.raises(ConfigurationError, match="timeout must be a Timeout, a number of seconds"):
        Timeout.of(value)


def test_limits_do_not_change():
    """
    Limits are values: they can't be set, are equal if they say the same, and survive pickling.
    """
    limits = Timeout(connect=1, idle=None)

    with pytest.raises(AttributeError):
        limits.total = 5
    assert limits != Timeout(connect=1)
    assert len({limits, Timeout(connect=1, idle=None), Timeout()}) == 2
    assert pickle.loads(pickle.dumps(limits)) == copy.copy(limits) == limits


def test_limits_have_names():
    """
    A bare number would be one limit of three, and nobody could tell which.
    """
    with pytest.raises(TypeError):
        Timeout(30)
