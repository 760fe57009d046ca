"""
Trying again: after which failures, how often, and after how long.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from aistats import (
    AIStatsError,
    APIConnectionError,
    APIResponseError,
    APIStatusError,
    APITimeoutError,
    Attempt,
    ConfigurationError,
    Fault,
    Headers,
    RateLimitError,
    RequestValidationError,
    RetryPolicy,
    StreamError,
    StreamErrorEvent,
    StreamInterruptedError,
)
from aistats._call.retry import RetryBudget, retry_after
from aistats._exchange import Exchange
from aistats._wire.status_error import status_error_from

quick = settings(deadline=None, max_examples=100)


def refused(
    status: int, body: Any = None, *, wait: float | None = None, **headers: str
) -> APIStatusError:
    """
    The error for an answer with *status*, *body* and *headers* (`_` stands for `-`).

    *wait* is what its `Retry-After` came to.
    """
    pairs = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    content = b"" if body is None else json.dumps(body).encode()
    error = status_error_from(content, Exchange(status=status, raw_headers=tuple(pairs)))
    error.retry_after = wait
    return error


def upstream(**more: Any) -> APIStatusError:
    """
    The gateway's error for a provider's failure, with *more* in its body.
    """
    return refused(502, {"status_code": 502, "error": "upstream_error", **more})


def lost(
    outcome: Any, kind: type[APIConnectionError] = APIConnectionError, **more: Any
) -> APIConnectionError:
    """
    The error of an attempt that ended without an answer; *more* are its attributes.
    """
    error = kind("the connection was lost")
    error.exchange = Exchange(attempts=(Attempt("answered", 500), Attempt(outcome)))
    for name, value in more.items():
        setattr(error, name, value)
    return error


def is_retried(error: AIStatsError, policy: RetryPolicy | None = None) -> bool:
    """
    Whether there is a second attempt after *error*.
    """
    return (policy or RetryPolicy()).next_delay(1, error, 1.0) is not None


# -- after which failures -----------------------------------------------------------------------

# What may go well another time: a time-out or a conflict, too early, too many, and what a server
# could not do just now. 501 and 505 say that it never will.
RETRIED = {408, 409, 425, 429, *range(500, 600)} - {501, 505}


@pytest.mark.parametrize("first", range(300, 600, 100))
def test_statuses(first: int):
    """
    Without more to go by, the status alone decides, and each class of statuses is as documented.
    """
    statuses = range(first, first + 100)

    assert {status for status in statuses if is_retried(refused(status))} == (
        RETRIED & set(statuses)
    )


def test_own_statuses():
    """
    A policy's own statuses take the place of the usual ones.
    """
    policy = RetryPolicy(statuses=frozenset({418, 501}))

    assert {s for s in range(300, 600) if is_retried(refused(s), policy)} == {418, 501}


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        # The gateway's own codes, by the page that lists them.
        (refused(400, {"error": "validation_error"}), False),
        (refused(400, {"error": "unsupported_model_or_endpoint"}), False),
        (refused(401, {"error": "unauthorised", "description": "key_expired"}), False),
        (refused(401, {"error": "unauthorised", "description": "db_error"}), True),
        (refused(402, {"error": "insufficient_funds"}), False),
        (refused(403, {"error": "guardrail_blocked"}), False),
        (refused(404, {"error": "not_found"}), False),
        (refused(409, {"error": "not_ready"}), True),
        (refused(413, {"error": "payload_too_large"}), False),
        (refused(429, {"error": "key_limit_exceeded"}), False),
        (refused(429, {"error": {"code": "insufficient_quota", "message": "pay"}}), False),
        (refused(429, {"error": {"code": "rate_limit_exceeded"}}), True),
        (refused(500, {"error": "gateway_error"}), True),
        (refused(500, {"error": "pipeline_execution_error"}), True),
        (refused(501, {"error": "not_implemented"}), False),
        (refused(502, {"error": "google_empty_response"}), False),
        (refused(502, {"error": "provider_payment_required"}), False),
        (refused(502, {"error": "gateway_stream_materialization_error"}), True),
        (refused(502, {"error": "gateway_server_tool_error"}), True),
        (refused(503), True),
        (refused(524), True),
        # Every provider failed: what they said decides.
        (upstream(), True),
        (upstream(failed_statuses=[]), True),
        (upstream(failed_statuses=[429, 500]), True),
        (upstream(failed_statuses=[400, 500]), True),
        (upstream(failed_statuses=[400, 429]), True),
        (upstream(failed_statuses=[400, 404]), False),
        (upstream(failed_statuses=[408]), True),
        (upstream(failed_statuses=[409]), True),
        (upstream(failed_statuses=[425]), True),
        (upstream(failed_statuses=[422]), False),
        (upstream(failed_statuses=["400", None]), True),
        (upstream(failed_statuses=400), True),
        (upstream(failure_sample=[]), True),
        (upstream(failure_sample=[{"retryable": True}]), True),
        (upstream(failure_sample=[{"retryable": False}, {"retryable": True}]), True),
        (upstream(failure_sample=[{"retryable": False}, {"retryable": False}]), False),
        (upstream(failure_sample=[{"status": 400}]), True),
        (upstream(failure_sample=[{"retryable": None}]), True),
        (upstream(provider_failure_diagnostics={"category": "rate_limited"}), True),
        (upstream(provider_failure_diagnostics={"category": "server_error"}), True),
        (upstream(provider_failure_diagnostics={"category": ["rate_limited"]}), True),
        *(
            (upstream(provider_failure_diagnostics={"category": category}), False)
            for category in (
                "credentials_not_configured",
                "credentials_invalid_or_forbidden",
                "provider_access_missing",
                "region_or_project_restriction",
                "model_unavailable_for_endpoint",
            )
        ),
        # The same words mean nothing where it was not a provider that failed.
        (refused(500, {"error": "gateway_error", "failed_statuses": [400]}), True),
        (refused(502, "Bad Gateway"), True),
        (refused(502, [400]), True),
        # A header that says so beats everything.
        (refused(400, x_should_retry="true"), True),
        (refused(503, x_should_retry="false"), False),
        (refused(503, x_should_retry="False"), False),
        (refused(429, {"error": "key_limit_exceeded"}, x_should_retry="TRUE"), True),
        (refused(503, x_should_retry="perhaps"), True),
        (refused(400, x_should_retry="perhaps"), False),
        # Without an answer.
        (lost("unsent"), True),
        (lost("ambiguous"), True),
        (lost("answered"), False),
        (APIConnectionError("it never began"), True),
        (lost("unsent", is_permanent=True), False),
        (lost("ambiguous", is_permanent=True), False),
        (lost("unsent", APITimeoutError, limit="connect"), True),
        (lost("ambiguous", APITimeoutError, limit="idle"), False),
        (lost("unsent", APITimeoutError, limit="total"), False),
        (lost("ambiguous", APITimeoutError, limit="total"), False),
        (lost("ambiguous", APITimeoutError), False),
        # What another attempt can't mend.
        (APIResponseError("not a completion"), False),
        (StreamError("too long"), False),
        (StreamInterruptedError("cut"), False),
        (StreamErrorEvent("overloaded"), False),
        (ConfigurationError("no key"), False),
        (RequestValidationError([Fault("model", None, "a string")]), False),
        (AIStatsError("something"), False),
    ],
    ids=lambda value: f"{type(value).__name__}" if isinstance(value, AIStatsError) else "",
)
def test_which_failures(error: AIStatsError, expected: bool):
    """
    A failure is tried again if another attempt may end otherwise.
    """
    assert is_retried(error) is expected


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (lost("unsent"), True),
        (lost("ambiguous"), False),
        (APIConnectionError("it never began"), False),
        (lost("unsent", APITimeoutError, limit="connect"), True),
        (refused(503), True),
    ],
)
def test_without_the_ambiguous(error: AIStatsError, expected: bool):
    """
    A policy may leave out the failures after which the work may have been done.
    """
    assert is_retried(error, RetryPolicy(retry_ambiguous=False)) is expected


@pytest.mark.parametrize("decision", [True, False, None])
@pytest.mark.parametrize(
    ("error", "usual"),
    [
        (refused(400), False),
        (refused(503), True),
        (refused(503, x_should_retry="false"), False),
        (lost("ambiguous"), True),
        (lost("unsent", is_permanent=True), False),
        (lost("ambiguous", APITimeoutError, limit="idle"), False),
    ],
)
def test_retry_if(error: AIStatsError, usual: bool, decision: bool | None):
    """
    The caller's own rule is asked about the error itself, and `None` leaves it to the usual rules.
    """
    asked: list[AIStatsError] = []

    def retry_if(error: AIStatsError) -> bool | None:
        asked.append(error)
        return decision

    assert is_retried(error, RetryPolicy(retry_if=retry_if)) is (
        usual if decision is None else decision
    )
    assert asked == [error]


# -- how often, and after how long --------------------------------------------------------------


@pytest.mark.parametrize(
    ("policy", "jitter", "delays"),
    [
        (RetryPolicy(max_retries=6), 1.0, [0.5, 1.0, 2.0, 4.0, 8.0, 8.0, None]),
        (RetryPolicy(max_retries=3), 0.5, [0.25, 0.5, 1.0, None]),
        (RetryPolicy(max_retries=2), 0.0, [0.0, 0.0, None, None]),
        (RetryPolicy(), 1.0, [0.5, 1.0, None]),
        (RetryPolicy(max_retries=0), 1.0, [None]),
        (RetryPolicy(max_retries=3, base=3, cap=5), 1.0, [3.0, 5.0, 5.0, None]),
        (RetryPolicy(max_retries=2, base=3, cap=1), 1.0, [1.0, 1.0, None]),
        (RetryPolicy(max_retries=2, base=0), 1.0, [0.0, 0.0, None]),
    ],
)
def test_backoff(policy: RetryPolicy, jitter: float, delays: list[float | None]):
    """
    The limit of the wait doubles up to the cap, and the jitter choose a part of it.
    """
    error = refused(503)

    assert [policy.next_delay(n, error, jitter) for n in range(1, len(delays) + 1)] == delays


@pytest.mark.parametrize(
    ("wait", "longest", "expected"),
    [
        (0.0, 60, 0.0),
        (0.25, 60, 0.25),
        (30.0, 60, 30.0),
        (60.0, 60, 60.0),
        (60.001, 60, None),
        (1e300, 60, None),
        (0.001, 0, None),
        (0.0, 0, 0.0),
        (100.0, 200, 100.0),
    ],
)
def test_the_wait_that_was_asked_for(wait: float, longest: float, expected: float | None):
    """
    A `Retry-After` is obeyed to the second, with no jitter and no cap, or is too long to wait for.
    """
    policy = RetryPolicy(longest_wait=longest)

    for jitter in (0.0, 1.0):
        assert policy.next_delay(1, refused(429, wait=wait), jitter) == expected


def test_a_wait_does_not_make_an_error_worth_another_attempt():
    """
    An error that is not tried again isn't with a `Retry-After` either, nor is one too many.
    """
    policy = RetryPolicy(max_retries=1)

    assert policy.next_delay(1, refused(400, wait=1.0), 0.5) is None
    assert (
        policy.next_delay(1, refused(429, {"error": "key_limit_exceeded"}, wait=1.0), 0.5) is None
    )
    assert policy.next_delay(2, refused(503, wait=1.0), 0.5) is None


@given(
    policy=st.builds(
        RetryPolicy,
        max_retries=st.integers(0, 2000),
        base=st.floats(0, 1e9),
        cap=st.floats(0, 1e9),
        longest_wait=st.floats(0, 1e9),
    ),
    attempt=st.integers(1, 3000),
    wait=st.none() | st.floats(0, allow_infinity=False),
    jitter=st.floats(0, 1),
)
@quick
def test_delays_stay_within_the_policy(
    policy: RetryPolicy, attempt: int, wait: float | None, jitter: float
):
    """
    A delay is never longer than the policy allows, and there are never more retries.
    """
    delay = policy.next_delay(attempt, refused(503, wait=wait), jitter)

    if attempt > policy.max_retries or (wait is not None and wait > policy.longest_wait):
        assert delay is None
    elif wait is not None:
        assert delay == wait
    else:
        assert delay is not None
        assert 0 <= delay <= policy.cap
        # The limit of an attempt, with no power that could overflow.
        assert delay <= policy.base * 2.0 ** min(attempt - 1, 900)


@pytest.mark.parametrize("name", ["max_retries", "base", "cap", "longest_wait"])
@pytest.mark.parametrize("value", [-1, -0.5, float("nan"), True, "2", None])
def test_no_such_policy(name: str, value: Any):
    """
    What is not a number, or is below zero, is refused by name.
    """
    with pytest.raises(ConfigurationError, match=name):
        RetryPolicy(**{name: value})


async def _later(error: object) -> bool:
    return False


@pytest.mark.parametrize(
    "wrong",
    [
        {"statuses": 429},
        {"statuses": "429"},
        {"statuses": ["500"]},
        {"retry_if": "no"},
        {"retry_if": _later},
        {"retry_ambiguous": "no"},
    ],
)
def test_no_such_rule(wrong: dict[str, Any]):
    """
    Other settings of a wrong kind are refused by name, too; so is a function that is awaited.
    """
    (name,) = wrong
    with pytest.raises(ConfigurationError, match=f"{name} must be"):
        RetryPolicy(**wrong)


@pytest.mark.parametrize(
    ("statuses", "shown"),
    [
        (RetryPolicy().statuses, "{408-409, 425, 429, 500, 502-504, 506-599}"),
        ({503}, "{503}"),
        ((), "{}"),
    ],
)
def test_repr_is_short(statuses: Any, shown: str):
    """
    The statuses are shown as ranges, and no more is shown than can be read.
    """
    text = repr(RetryPolicy(statuses=statuses))

    assert f"statuses={shown}, " in text
    assert len(text) < 200


@pytest.mark.parametrize("value", [1.5, 2.0, float("inf")])
def test_no_such_number_of_retries(value: float):
    """
    There is no half of a retry.
    """
    with pytest.raises(ConfigurationError, match="max_retries must be a whole number"):
        RetryPolicy(max_retries=value)


# -- Retry-After --------------------------------------------------------------------------------

NOW = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("0", 0.0),
        ("7", 7.0),
        (" 7 ", 7.0),
        ("1.5", 1.5),
        ("99999999999999999999", 1e20),
        ("-1", None),
        ("-0.5", None),
        ("", None),
        (" ", None),
        ("soon", None),
        ("5 seconds", None),
        ("5, 10", None),
        ("0x10", None),
        ("1_0", None),
        ("+7", None),
        ("1e3", None),
        ("\u0661\u0660", None),  # ten, in Arabic digits
        ("nan", None),
        ("inf", None),
        ("1e999", None),
        # A date, in its three forms (RFC 9110, section 5.6.7): a second ago means at once.
        ("Thu, 01 Jan 2026 00:00:30 GMT", 30.0),
        ("Thu, 01 Jan 2026 00:00:00 GMT", 0.0),
        ("Wed, 31 Dec 2025 23:59:59 GMT", 0.0),
        ("Sun, 06 Nov 1994 08:49:37 GMT", 0.0),
        ("Thursday, 01-Jan-26 00:00:30 GMT", 30.0),
        ("Sunday, 06-Nov-94 08:49:37 GMT", 0.0),
        ("Thu Jan  1 00:00:30 2026", 30.0),
        ("Sun Nov  6 08:49:37 1994", 0.0),
        # What servers write in place of GMT.
        ("Thu, 01 Jan 2026 01:00:30 +0100", 30.0),
        ("Thu, 01 Jan 2026 00:00:30 UTC", 30.0),
        ("Thu, 01 Jan 2026 00:00:30", 30.0),
        # What is no date.
        ("Thu, 32 Jan 2026 00:00:30 GMT", None),
        ("Thu, 01 Foo 2026 00:00:30 GMT", None),
        ("Thu, 01 Jan 2026 25:00:30 GMT", None),
        ("Thu, 01 Jan 99999 00:00:30 GMT", None),
        ("Thu, 01 Jan 2026 00:00:30 +9999", None),
        ("Thu, 01 Jan 2026 00:00:30 +99999999999999999999", None),
        ("01 Jan 2026 99999999999999999999:00:00 GMT", None),
        ("2026-01-01T00:00:30Z", None),
    ],
)
def test_retry_after(value: str, expected: float | None):
    """
    Seconds or a date are the seconds from now, never below zero; anything else asks for nothing.
    """
    assert retry_after(Headers([(b"Retry-After", value.encode())]), NOW) == expected


def test_retry_after_is_counted_from_now():
    """
    What a date comes to is counted from the time that is given, in whatever zone it is.
    """
    headers = {"retry-after": "Thu, 01 Jan 2026 00:00:30 GMT"}
    oslo = timezone(timedelta(hours=1))

    assert retry_after(headers, NOW + timedelta(seconds=10)) == 20.0
    assert retry_after(headers, datetime(2026, 1, 1, 1, 0, 10, tzinfo=oslo)) == 20.0


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({}, None),
        ({"retry-after-ms": "1500"}, 1.5),
        ({"retry-after-ms": "0"}, 0.0),
        ({"retry-after-ms": "1500", "retry-after": "7"}, 1.5),
        ({"retry-after-ms": "soon", "retry-after": "7"}, 7.0),
        ({"retry-after-ms": "-1", "retry-after": "7"}, 7.0),
        ({"retry-after-ms": "soon"}, None),
    ],
)
def test_retry_after_in_milliseconds(headers: dict[str, str], expected: float | None):
    """
    Milliseconds are more exact, so they come first where they are sensible.
    """
    assert retry_after(headers, NOW) == expected


words = st.sampled_from(
    [
        "Thu, ",
        "01 ",
        "Jan ",
        "2026 ",
        "26",
        "00:00:30 ",
        "GMT",
        "+0100",
        "-9999",
        "-",
        ":",
        "(",
        "9",
    ]
)


@given(value=st.lists(words).map("".join) | st.text(max_size=30))
@example(value="1 Jan 0 0:0:0")
@example(value="0\x1f")
@quick
def test_any_retry_after(value: str):
    """
    Whatever a server writes, it is seconds of zero or more, or nothing.
    """
    seconds = retry_after({"retry-after": value, "retry-after-ms": value}, NOW)

    assert seconds is None or 0 <= seconds < float("inf")


# -- the budget ---------------------------------------------------------------------------------


def test_a_budget_runs_out():
    """
    A budget has as many retries as its capacity, and two answers pay for one more.
    """
    budget = RetryBudget(capacity=3)

    assert [budget.take() for _ in range(5)] == [True, True, True, False, False]
    budget.give_back()
    assert not budget.take()
    budget.give_back()
    assert budget.take()
    assert not budget.take()


def test_a_budget_does_not_grow():
    """
    Answers fill a budget up to its capacity and no further.
    """
    budget = RetryBudget(capacity=2)
    for _ in range(10):
        budget.give_back()

    assert [budget.take() for _ in range(3)] == [True, True, False]


def test_the_usual_budget():
    """
    Unless told otherwise, a client may try again a hundred times in a row.
    """
    budget = RetryBudget()

    assert sum(budget.take() for _ in range(200)) == 100


@pytest.mark.parametrize(
    ("policy", "asked", "expected"),
    [
        (RetryPolicy(), 3.0, 3.0),
        (RetryPolicy(), 1e9, 60.0),
        (RetryPolicy(shared_wait=5), 30.0, 5.0),
        (RetryPolicy(shared_wait=0), 30.0, None),
        (RetryPolicy(), 0.0, None),
        (RetryPolicy(), None, None),
    ],
)
def test_how_long_a_retry_after_holds_back_others(
    policy: RetryPolicy, asked: float | None, expected: float | None
):
    """
    A `Retry-After` holds back the client's other calls for at most `shared_wait`; 0 is not at all.
    """
    error = RateLimitError("slow down")
    error.retry_after = asked

    assert policy.shared_wait_for(error) == expected
    assert policy.shared_wait_for(APIConnectionError("lost")) is None
