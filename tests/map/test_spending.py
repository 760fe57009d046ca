"""
The budget: what may be sent, as a table and over simulated runs.
"""

from __future__ import annotations

import random
from decimal import Decimal

import pytest

from aistats import Budget
from aistats._exchange import Attempt
from aistats._map.spending import Spending, cut_answers


@pytest.mark.parametrize(
    ("budget", "answers", "in_flight", "has_room"),
    [
        ({}, [], 99, True),
        ({"usd": 1}, [], 3, True),
        ({"usd": 1}, [], 4, False),
        ({"usd": 1}, [None], 99, True),
        ({"usd": 1}, ["0.01"], 8, True),
        ({"usd": 1}, ["0.01"], 9, False),
        ({"usd": 3}, ["0.01"] * 100, 99, True),
        ({"usd": 3}, ["0.01"] * 100, 100, False),
        ({"usd": 3}, ["0.01"] * 200, 99, True),
        ({"usd": 3}, ["0.01"] * 200, 100, False),
        ({"usd": 4}, ["1"] + ["0.01"] * 199, 0, True),
        ({"usd": 4}, ["1"] + ["0.01"] * 199, 1, False),
        ({"usd": 4}, ["1"] + ["0.01"] * 200, 99, True),
        ({"usd": 1}, ["0.9"], 0, True),
        ({"usd": 1}, ["0.9"], 1, False),
    ],
)
def test_room(budget: dict[str, float], answers: list[str | None], in_flight: int, has_room: bool):
    """
    Each request in flight reserves as much as the most expensive of the last answers.
    """
    spending = Spending(Budget(**budget))  # type: ignore[arg-type]
    for cost in answers:
        spending.answered(None if cost is None else Decimal(cost), 0)

    assert spending.has_room(in_flight) == has_room


@pytest.mark.parametrize(
    ("lost", "reason"),
    [(0, None), (1, None), (2, "budget: 4.000000000 of 4 USD are used up")],
)
def test_cut_answers_count_as_much_as_the_mean(lost: int, reason: str | None):
    """
    An answer that was cut uses as much of the budget as the others on average.
    """
    spending = Spending(Budget(usd=4))
    spending.answered(Decimal("0.5"), 0)
    spending.answered(Decimal("1.5"), 0)
    spending.lost(lost)

    assert spending.used_up() == reason


def test_seconds_of_a_run_and_its_retry():
    """
    A retry has the seconds that the run left.
    """
    spending = Spending(Budget(seconds=3))
    spending.passed(2)
    assert (spending.seconds, spending.used_up()) == (1, None)
    spending.passed(2)
    assert (spending.seconds, spending.used_up()) == (0, "budget: 3 seconds are over")


@pytest.mark.parametrize(
    ("attempt", "count"),
    [
        (Attempt("answered", 200), 0),
        (Attempt("answered", 200, "the connection was lost"), 1),
        (Attempt("answered", 500, "status 500"), 0),
        (Attempt("ambiguous", None, "reset"), 0),
        (Attempt("unsent", None, "refused"), 0),
    ],
)
def test_which_attempts_were_cut(attempt: Attempt, count: int):
    """
    An answer that began and was not read to its end was billed.
    """
    assert cut_answers([attempt]) == count


@pytest.mark.parametrize("unit", ["usd", "tokens"])
@pytest.mark.parametrize("is_cut", [False, True])
def test_the_bound(unit: str, is_cut: bool):
    """
    Over 200 seeded runs whose requests cost 1 to 10, with 100 in flight and a retry, a budget is
    exceeded by less than one request, and used up to that. With cut answers it is so on average.
    """
    for seed in range(200):
        chance = random.Random(seed)
        limit = chance.choice([5, 50, 500, 5000])
        spending = Spending(Budget(**{unit: limit}))  # type: ignore[arg-type]
        is_wide = chance.random() < 0.5
        in_flight: list[int] = []
        used = 0
        costs: list[int] = []
        for _run in range(2):
            while True:
                while (
                    len(in_flight) < 100
                    and spending.used_up() is None
                    and spending.has_room(len(in_flight))
                ):
                    in_flight.append(
                        chance.randint(1, 10) if is_wide else chance.choice([1, 1, 1, 1, 1, 1, 10])
                    )
                if not in_flight:
                    break
                cost = in_flight.pop(chance.randrange(len(in_flight)))
                used += cost
                costs.append(cost)
                spending.answered(Decimal(cost), cost)
                if is_cut and chance.random() < 0.02:
                    used += chance.choice(costs)
                    spending.lost(1)
        bound = limit + (10 if limit > 40 else 40)  # of the first four, nothing is known
        about = 10 + 0.02 * limit if is_cut else 0  # the cost of a cut answer is the mean
        assert limit - about <= used < bound + about, (seed, limit, used)
