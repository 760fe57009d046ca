"""
The rules of a run, each by itself and without a server: stopping, order, known answers, admission.
"""

from __future__ import annotations

from collections import OrderedDict
from decimal import Decimal
from typing import Any

import pytest
from conftest import KEY

import aistats
from aistats._call.limits import Limits
from aistats._errors import AIStatsError, APIConnectionError, APIStatusError, Fault
from aistats._exchange import Attempt, Exchange
from aistats._map.admission import Admission
from aistats._map.known import KnownAnswers
from aistats._map.outbox import Outbox
from aistats._map.outcome import Outcome
from aistats._map.plan import Plan
from aistats._map.source import Item
from aistats._map.statistics import Statistics
from aistats._map.stopping import StopRules
from aistats._views.completion import ChatCompletionsResponse


def plan(**options: Any) -> Plan:
    """
    The plan of a run with these options of `map`.
    """
    client = aistats.AsyncClient(KEY, "http://127.0.0.1:1", max_connections=10)
    return Plan.of(client._gateway, {"model": "m", **options}, takes_async=True)


def item(position: int, **fields: Any) -> Item:
    """
    A row on its way.
    """
    return Item(position, position, f"row {position}", **{"request_hash": str(position), **fields})


def failure(
    kind: type[AIStatsError], *, status: int | None = None, outcome: str = "answered"
) -> Any:
    """
    An error of a call whose last attempt ended so.
    """
    error = kind("failed")
    attempt: Any = Attempt(outcome, status)  # type: ignore[arg-type]
    error.exchange = Exchange(status=status)
    error.exchange.attempts = (attempt,)
    return error


def busy(retry_after: float | None = None) -> Any:
    """
    A rejection as too fast.
    """
    error = failure(aistats.RateLimitError, status=429)
    error.retry_after = retry_after
    return error


# -- stopping -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("budget", "used", "reason"),
    [
        ({}, {"cost": Decimal(9), "tokens": 9}, None),
        ({"usd": 1}, {"cost": Decimal("0.99")}, None),
        ({"usd": 1}, {"cost": Decimal(1)}, "budget: 1 of 1 USD are used up"),
        ({"usd": 0.1}, {"cost": Decimal("0.1")}, "budget: 0.1 of 0.1 USD are used up"),
        ({"tokens": 10}, {"tokens": 9}, None),
        ({"tokens": 10}, {"tokens": 12}, "budget: 12 of 10 tokens are used up"),
    ],
)
def test_budget(budget: dict[str, Any], used: dict[str, Any], reason: str | None):
    """
    A request is sent only while the budget is not used up.
    """
    made = plan(budget=aistats.Budget(**budget))
    made.spending.answered(used.get("cost"), used.get("tokens", 0))

    assert StopRules(made).before_request() == reason


@pytest.mark.parametrize(
    ("options", "done", "failed", "reason"),
    [
        ({}, 100, 100, None),
        ({"on_error": "raise"}, 1, 1, "an error was to be raised"),
        ({"stop_after": 3}, 9, 2, None),
        ({"stop_after": 3}, 9, 3, "stop_after: 3 failures"),
        ({"stop_after": 0.5}, 19, 19, None),
        ({"stop_after": 0.5}, 20, 9, None),
        ({"stop_after": 0.5}, 20, 10, "stop_after: 10 failures in 20"),
    ],
)
def test_failures(options: dict[str, Any], done: int, failed: int, reason: str | None):
    """
    `stop_after` counts failures, or is their share once 20 rows are done.
    """
    statistics = Statistics()
    for number in range(done):
        kind: Any = Outcome
        error = ValueError() if number < failed else None
        statistics.count(kind(number, None, None, None, None, error))
        statistics.count(kind(number, None, None, None, None, error), is_shared=True)  # a duplicate

    assert StopRules(plan(**options)).after_outcome(statistics) == reason


NO_MODEL = aistats.RequestValidationError([Fault("model", None, "a string")])
NO_PROMPT = aistats.RequestValidationError([Fault("messages", None, "a list")])


@pytest.mark.parametrize(
    ("error", "is_first", "stops"),
    [
        (NO_MODEL, True, True),
        (NO_MODEL, False, False),
        (NO_PROMPT, True, False),
        (aistats.ConfigurationError("no"), False, True),
        (ValueError("the caller's"), True, False),
    ],
)
def test_rows_that_make_no_request(error: Exception, is_first: bool, stops: bool):
    """
    A row without a request ends the run only if no row will have one.
    """
    reason = StopRules(plan()).after_row(error, is_first=is_first)

    assert (reason is not None) == stops


@pytest.mark.parametrize(
    ("error", "first", "later"),
    [
        (failure(aistats.BadRequestError, status=400), False, False),
        (failure(aistats.NotFoundError, status=404), False, False),
        (failure(aistats.AuthenticationError, status=401), True, True),
        (failure(aistats.PaymentRequiredError, status=402), True, True),
        (failure(APIStatusError, status=407), True, True),
        (failure(aistats.InternalServerError, status=500), False, False),
        (failure(APIConnectionError, outcome="unsent"), True, False),
        (failure(APIConnectionError, outcome="ambiguous"), False, False),
        (failure(aistats.APIResponseError, status=200), True, False),
        (NO_PROMPT, False, False),
        (aistats.ConfigurationError("closed"), True, True),
        (ValueError("the caller's"), False, False),
    ],
)
def test_errors_of_all_rows(error: Exception, first: bool, later: bool):
    """
    An error that every row would get ends the run. A refusal may be about the row.
    """
    rules = StopRules(plan())

    assert (rules.after_failure(error, is_first=True) is not None) == first
    assert (rules.after_failure(error, is_first=False) is not None) == later


REFUSED = failure(aistats.BadRequestError, status=400)
BROKEN = failure(aistats.InternalServerError, status=500)


@pytest.mark.parametrize(
    ("errors", "is_first", "stops"),
    [
        ([REFUSED] * 19, True, False),
        ([REFUSED] * 20, True, True),
        ([REFUSED] * 20, False, False),
        ([REFUSED] * 10 + [BROKEN] + [REFUSED] * 10, True, False),
    ],
)
def test_refusals_before_the_first_answer(errors: list[Exception], is_first: bool, stops: bool):
    """
    If the first 20 requests are refused, the others would be, too.
    """
    rules = StopRules(plan())
    *earlier, last = errors

    assert [rules.after_failure(error, is_first=is_first) for error in earlier] == [None] * len(
        earlier
    )
    reason = rules.after_failure(last, is_first=is_first)
    assert (reason is not None) == stops


# -- order --------------------------------------------------------------------------------------


def outcome(number: int) -> Outcome:
    """
    The outcome of a row.
    """
    kind: Any = Outcome  # a union, to type checkers
    made: Outcome = kind(number, None, None, None)
    return made


@pytest.mark.parametrize(
    ("is_ordered", "finished", "skipped", "expected"),
    [
        (True, [2, 0, 1], [], [0, 1, 2]),
        (False, [2, 0, 1], [], [2, 0, 1]),
        (True, [2, 3], [0, 1], [2, 3]),
        (True, [1, 2], [], []),
        (False, [1, 2], [0], [1, 2]),
    ],
)
def test_order(is_ordered: bool, finished: list[int], skipped: list[int], expected: list[int]):
    """
    Outcomes are ready in input order, or as they come. A row that was never asked holds back none.
    """
    outbox = Outbox(is_ordered=is_ordered, keeps=False, window=10)
    for number in finished:
        outbox.put(item(number), outcome(number))
    for number in skipped:
        outbox.skip(item(number))

    assert [each.index for each in outbox.take()] == expected
    assert [each.index for each in outbox.unstarted] == skipped


def test_outcomes_behind_a_gap_come_at_the_end():
    """
    What waits for a row that never finishes is handed out when the run ends.
    """
    outbox = Outbox(is_ordered=True, keeps=False, window=10)
    outbox.put(item(2), outcome(2))
    outbox.put(item(1), outcome(1))
    outbox.end()

    assert [each.index for each in outbox.take()] == [1, 2]


@pytest.mark.parametrize("keeps", [True, False])
def test_room(keeps: bool):
    """
    An outcome takes room until it is taken, unless all are kept.
    """
    outbox = Outbox(is_ordered=True, keeps=keeps, window=3)
    outbox.submitted = 3
    outbox.put(item(0), outcome(0))

    assert outbox.room() == (1 if keeps else 0)
    if not keeps:
        outbox.delivered(len(outbox.take()))
    assert outbox.room() == 1
    outbox.skip(item(1))
    assert outbox.room() == 2


def test_rows_that_follow_another_take_no_room():
    """
    Rows that wait for the answer to another take no room, up to 20 times as many as others.
    """
    outbox = Outbox(is_ordered=False, keeps=False, window=3)
    outbox.submitted = 2
    assert outbox.room() == 1
    outbox.submitted += 60
    assert outbox.room(60) == 1
    outbox.submitted += 1
    assert outbox.room(61) == 0


# -- known answers ------------------------------------------------------------------------------

ANSWER = ChatCompletionsResponse({"choices": []})


def test_duplicates_follow_the_first():
    """
    Rows with the same request wait for the first one, until it is released.
    """
    known = KnownAnswers(OrderedDict(), dedup=True, keeps_all=False)
    first, second, other = item(0, request_hash="a"), item(1, request_hash="a"), item(2)

    assert [known.follow(each) for each in (first, second, other)] == [False, True, False]
    assert first.followers == [second]
    assert known.following == 1
    known.release(first)
    assert known.following == 0
    assert known.follow(item(3, request_hash="a")) is False


def test_answers_are_found():
    """
    An answer is found by the hash of its request, among the latest ones or among all.
    """
    for keeps_all in (True, False):
        known = KnownAnswers(OrderedDict(), dedup=True, keeps_all=keeps_all)
        for number in range(300):
            known.answered(item(number), ANSWER)
        assert known.find(item(299)) is ANSWER
        assert (known.find(item(0)) is ANSWER) == keeps_all


def test_without_dedup_nothing_is_shared():
    """
    With `dedup=False` each row is asked.
    """
    known = KnownAnswers(OrderedDict(), dedup=False, keeps_all=True)
    first, second = item(0, request_hash="a"), item(1, request_hash="a")
    known.answered(first, ANSWER)

    assert [known.follow(each) for each in (first, second)] == [False, False]
    assert known.find(second) is None


# -- admission ----------------------------------------------------------------------------------


def admission(**options: Any) -> Admission:
    """
    An admission that has been probed, with a client of 10 connections.
    """
    made = Admission(plan(**options), Limits(10), jitter=lambda: 1.0)
    made.is_probed = True
    return made


def test_the_queue_is_in_order():
    """
    Requests are sent in the order in which they came; `None` when none is left.
    """
    queue = admission()
    first, second = item(0), item(1)
    queue.add(first)
    queue.add(second)

    assert [queue.next(0.0), queue.next(0.0), queue.next(0.0)] == [first, second, None]


@pytest.mark.parametrize(
    ("options", "probed", "limit"),
    [
        ({}, False, 1),
        ({}, True, 10),
        ({"concurrency": 4}, False, 1),
        ({"concurrency": 4}, True, 4),
        ({"concurrency": 50}, True, 10),
    ],
)
def test_limit(options: dict[str, Any], probed: bool, limit: int):
    """
    One request goes first; then as many as the client allows, or the fixed number.
    """
    queue = admission(**options)
    queue.is_probed = probed

    assert queue.limit == queue.concurrency == limit
    queue.is_patient = False
    assert queue.limit > 1


def test_a_rest_at_a_fixed_concurrency():
    """
    A rejected request rests and keeps its place; then it is the next.
    """
    queue = admission(concurrency=4, max_retries=aistats.RetryPolicy(base=0.5))
    rejected, later = item(0), item(1)
    queue.add(later)
    rest = queue.rest_after(rejected, busy(), 100.0)
    assert rest == 0.5
    queue.put_back(rejected, busy(), rest, 100.0)

    assert (queue.limit, queue.concurrency, len(queue)) == (3, 4, 2)
    assert queue.rest_of_next(100.1) == pytest.approx(0.4)
    assert queue.next(100.1) is later
    assert queue.next(100.2) is None
    queue.wake(100.5)
    assert queue.limit == 4
    assert queue.next(100.5) is rejected


@pytest.mark.parametrize(
    ("options", "retry_after", "rest"),
    [
        ({}, None, 0.0),
        ({}, 2.0, 0.0),
        ({"concurrency": 4}, 2.0, 0.0),
        ({"max_retries": aistats.RetryPolicy(shared_wait=1)}, 2.0, 2.0),
        ({"max_retries": aistats.RetryPolicy(shared_wait=1), "timeout": 1.5}, 2.0, None),
        ({"max_retries": aistats.RetryPolicy(retry_if=lambda error: False)}, None, None),
    ],
)
def test_rests(options: dict[str, Any], retry_after: float | None, rest: float | None):
    """
    How long a rejected request rests: not at all where fewer are sent or all are held back.
    """
    queue = admission(**options)
    rejected = item(0, begun=100.0)

    assert queue.rest_after(rejected, busy(retry_after), 100.0) == rest


def test_a_rejected_request_whose_time_is_over():
    """
    A request that was rejected before and whose time ends before its turn is taken out.
    """
    queue = admission(timeout=5)
    late = item(0, begun=100.0)
    queue.put_back(late, busy(), 0.0, 104.0)

    assert queue.expired(104.0) is None
    assert queue.expired(105.0) is late
    assert len(queue) == 0


def test_the_pace():
    """
    At `rpm=60` a second request waits for a second.
    """
    queue = admission(rpm=60)
    queue.add(item(0))
    queue.add(item(1))
    assert isinstance(queue.next(100.0), Item)

    waits = queue.next(100.0)
    assert isinstance(waits, float)
    assert 0 < waits <= 1
    assert isinstance(queue.next(101.0), Item)


def test_all_are_drained():
    """
    Draining gives back what is queued and what rests.
    """
    queue = admission(concurrency=2)
    queue.add(item(0))
    queue.put_back(item(1), busy(), 5.0, 100.0)

    assert sorted(each.index for each in queue.drain()) == [0, 1]
    assert len(queue) == 0


# -- what a person sees -------------------------------------------------------------------------


def test_repr_of_an_outcome():
    """
    The repr of an outcome shows its row and its text or error, and no hash.
    """
    kind: Any = Outcome
    answer = ChatCompletionsResponse({"choices": [{"message": {"content": "x" * 500}}]})

    assert repr(kind(3, "a-hash", "row 3", None, answer)) == (
        f"Outcome(index=3, row='row 3', text='{'x' * 199}…)"
    )
    assert repr(kind(3, "a-hash", "row 3", None, None, ValueError("no"), cached=True)) == (
        "Outcome(index=3, row='row 3', error=ValueError('no'), cached=True)"
    )


@pytest.mark.parametrize(
    ("client", "how"), [("Client", "run.wait()"), ("AsyncClient", "await run")]
)
def test_a_run_that_has_not_started(client: str, how: str):
    """
    A notebook says of a new run how to start it.
    """
    made = getattr(aistats, client)(KEY, "http://127.0.0.1:1")

    assert how in made.map(["a"], model="m")._repr_html_()
