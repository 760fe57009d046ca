"""
A pace that the user sets: requests and tokens per minute.
"""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aistats import ConfigurationError
from aistats._map.pace import Pace, estimated_tokens


def send(pace: Pace, now: float, tokens: float = 0) -> float:
    """
    When a request that would be sent *now* was sent, after it had waited for the *pace*.
    """
    now += pace.wait(now, tokens)
    pace.take(now, tokens)
    return now


def test_requests_a_minute():
    """
    Requests are spaced evenly, after a second's worth at once.
    """
    pace = Pace(rpm=120)
    sent = [0.0]
    for _ in range(5):
        sent.append(send(pace, sent[-1]))

    assert sent[1:] == pytest.approx([0, 0, 0.5, 1.0, 1.5])
    assert pace.wait(10.0) == 0


def test_to_look_is_not_to_take():
    """
    However often one looks, the next request may be sent when it was; one more makes a debt.
    """
    pace = Pace(rpm=60)
    assert [pace.wait(0.0) for _ in range(3)] == [0, 0, 0]
    pace.take(0.0)
    assert [pace.wait(0.5) for _ in range(3)] == pytest.approx([0.5] * 3)
    pace.take(0.5)
    assert pace.wait(0.5) == pytest.approx(1.5)


def test_tokens_a_minute():
    """
    What a request took is what the next ones wait for, and the longer wait of the two holds.
    """
    pace = Pace(rpm=600, tpm=6000)

    assert send(pace, 0.0, 50) == 0
    assert send(pace, 0.0, 150) == pytest.approx(0.5)
    assert send(pace, 0.5, 10) == pytest.approx(1.1)


def test_an_estimate_is_corrected():
    """
    Tokens that weren't used are there for the next, and those that were used in excess are not.
    """
    pace = Pace(tpm=6000)
    assert send(pace, 0.0, 1100) == 0
    pace.correct(1100, 100)
    assert send(pace, 0.0, 100) == pytest.approx(1.0)
    pace.correct(100, 300)
    assert send(pace, 1.0, 100) == pytest.approx(4.0)


def test_no_limit_no_wait():
    """
    Without a rate, nothing waits.
    """
    pace = Pace()
    pace.correct(5, 6)

    assert [send(pace, 0.0, 1e9) for _ in range(3)] == [0, 0, 0]


def test_what_is_too_much_for_a_minute_waits_no_longer_than_one():
    """
    A request that is thought to take more than a minute's worth holds the next back for a minute.
    """
    pace = Pace(tpm=600)

    assert send(pace, 0.0, 1e9) == 0
    assert send(pace, 0.0, 10) == pytest.approx(60.0)


@settings(deadline=None, max_examples=80)
@given(
    st.floats(1, 10_000),
    st.lists(st.tuples(st.floats(0, 5), st.integers(0, 500)), min_size=1, max_size=100),
)
def test_no_minute_has_more_than_its_own(rate: float, asked: list[tuple[float, int]]):
    """
    In each minute there are no more requests than its own, a second's and one, and in order.
    """
    pace = Pace(rpm=rate)
    now = 0.0
    sent: list[float] = []
    for pause, _ in asked:
        now = send(pace, now + pause)
        sent.append(now)

    assert sent == sorted(sent)
    for begin in sent:
        within = [each for each in sent if begin <= each < begin + 60 - 1e-6]
        assert len(within) <= rate + rate / 60 + 1 + 1e-6


@pytest.mark.parametrize("name", ["rpm", "tpm"])
@pytest.mark.parametrize("value", [0, -1, float("nan"), float("inf"), True, "60"])
def test_a_rate_is_a_positive_number(name: str, value: Any):
    """
    Anything else than a positive number is refused by its name.
    """
    with pytest.raises(ConfigurationError, match=f"{name} must be a positive number"):
        Pace(**{name: value})


def test_tokens_are_estimated():
    """
    Four bytes are about a token, and the answer may take all that it is allowed.
    """
    assert estimated_tokens(b"x" * 400) == 100
    assert estimated_tokens(b"x" * 400, 50) == 150
    assert estimated_tokens(b"x" * 400, None, 50, 70) == 170
