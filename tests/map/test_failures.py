"""
Why rows failed: groups of errors, and what the log says at the end of a run.
"""

from __future__ import annotations

import logging
from typing import Any

import pytest
from conftest import Caller, in_thread
from servers import Gateway, error_body

import aistats
from aistats._errors import AIStatsError, Fault
from aistats._exchange import Exchange
from aistats._map.failures import Failures

pytestmark = pytest.mark.anyio


def refused(kind: Any, status: int, code: str | None = None) -> AIStatsError:
    """
    An error of a response with *status* and *code*.
    """
    error: Any = kind("no")
    error.exchange = Exchange(status=status)
    error.code = code
    return error  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    ("error", "reason", "advice"),
    [
        (
            refused(aistats.AuthenticationError, 401, "unauthorised"),
            "status 401 (unauth",
            "API key",
        ),
        (refused(aistats.PaymentRequiredError, 402), "status 402", "credit"),
        (refused(aistats.BadRequestError, 400), "status 400", "refused"),
        (refused(aistats.NotFoundError, 404), "status 404", "base_url"),
        (refused(aistats.RateLimitError, 429), "status 429", "rpm="),
        (refused(aistats.InternalServerError, 503), "status 503", "retry()"),
        (refused(aistats.APIStatusError, 418), "status 418", "refused"),
        (aistats.APIConnectionError("no"), "no connection", "network"),
        (aistats.APIResponseError("no"), "APIResponseError", "base_url"),
        (aistats.StreamError("no"), "StreamError", "retry()"),
        (aistats.ConfigurationError("no"), "ConfigurationError", "option"),
        (
            aistats.RequestValidationError([Fault("messages", None, "a list")]),
            "no valid request (messages)",
            "prompt=",
        ),
        (KeyError("text"), "KeyError", "prompt="),
    ],
)
def test_reasons(error: Exception, reason: str, advice: str):
    """
    Each error has a reason, and advice that names what to change or call.
    """
    failures = Failures()
    failures.add(7, error)
    failures.add(8, error)
    (group,) = failures.groups()

    assert group.reason.startswith(reason)
    assert advice in group.advice
    assert (group.count, group.index) == (2, 7)
    assert group.example == f"{type(error).__name__}: {error}"
    assert str(group).startswith(f"2 x {group.reason}, for example row 7: ")


def test_many_reasons():
    """
    The groups are bounded, and the most frequent comes first.
    """
    failures = Failures()
    for number in range(1000):
        failures.add(number, refused(aistats.BadRequestError, 400, f"code {number}"))
    groups = failures.groups()

    assert len(groups) == 101
    assert (groups[0].reason, groups[0].count) == ("other reasons", 900)


async def test_a_run_whose_rows_fail(
    caller: Caller, gateway: Gateway, caplog: pytest.LogCaptureFixture
):
    """
    A run says at its end how many rows failed and why, in one line.
    """
    for _ in range(3):
        gateway.reply(error_body("overloaded"), 500)
    rows = ["one", "two", "three", "four", {"id": 5}]
    with caplog.at_level(logging.INFO, "aistats"):
        run = caller.client.map(rows, model="m", concurrency=1, max_retries=0)
        await (run if isinstance(run, aistats.AsyncRun) else in_thread(run.wait))

    assert [(group.count, group.index) for group in run.failures()] == [(3, 0), (1, 4)]
    (record,) = [each for each in caplog.records if "rows are done" in each.message]
    assert record.levelno == logging.WARNING
    assert record.message.startswith(
        "the run has ended: 5 of 5 rows are done, 4 failed (3 x status"
    )
    assert run.failures()[0].advice in run._repr_html_()


async def test_a_run_without_failures(caller: Caller, caplog: pytest.LogCaptureFixture):
    """
    A run that went well says so only where its log is read.
    """
    with caplog.at_level(logging.INFO, "aistats"):
        run = caller.client.map(["one", "two"], model="m")
        await (run if isinstance(run, aistats.AsyncRun) else in_thread(run.wait))

    assert run.failures() == []
    (record,) = [each for each in caplog.records if "rows are done" in each.message]
    assert (record.levelname, record.message) == (
        "INFO",
        "the run has ended: 2 of 2 rows are done, 0 failed",
    )
