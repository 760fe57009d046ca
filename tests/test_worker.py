"""
What one of several workers does, without Ray or Dask.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

import pytest
from conftest import KEY
from servers import Gateway, completion, error_body, until

from aistats import ConfigurationError, UnprocessableEntityError
from aistats._worker import COLUMNS, Worker, prefixed, share

MODEL = "openai/gpt-5-nano"


def output_of(gateway: Gateway, *arguments: str) -> str:
    """
    What a Python program prints whose environment has a key and leads to *gateway*.

    Ray and Dask log and warn as they like, which is shown only where it fails.
    """
    done = subprocess.run(
        [sys.executable, "-W", "ignore", *arguments],
        env={**os.environ, "AI_STATS_API_KEY": KEY, "AI_STATS_BASE_URL": gateway.url},
        capture_output=True,
        text=True,
        timeout=150,
    )
    assert done.returncode == 0, done.stderr[-5000:]
    assert KEY not in done.stdout + done.stderr
    return done.stdout


def told_by(code: str, gateway: Gateway) -> Any:
    """
    The JSON that the program *code* prints last.
    """
    return json.loads(output_of(gateway, "-c", code).splitlines()[-1])


@pytest.fixture
def worker(gateway: Gateway) -> Iterator[Worker]:
    """
    A worker that is the only one, without limits.
    """
    worker = Worker(share(1, "auto", None, None), {"api_key": KEY, "base_url": gateway.url})
    yield worker
    worker.close()


# -- shares -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("limits", "expected"),
    [
        ((4, "auto", None, None), {"concurrency": "auto", "rpm": None, "tpm": None}),
        ((4, 40, 600, 10_000), {"concurrency": 10, "rpm": 150.0, "tpm": 2500.0}),
        ((4, 43, None, None), {"concurrency": 10, "rpm": None, "tpm": None}),
        ((4, 4, 2, None), {"concurrency": 1, "rpm": 0.5, "tpm": None}),
        ((1, 7, 7, 7), {"concurrency": 7, "rpm": 7.0, "tpm": 7.0}),
    ],
)
def test_shares(limits: tuple[Any, ...], expected: dict[str, Any]):
    """
    Each limit is divided among the workers, and all of them together are never above it.
    """
    assert share(*limits) == expected


@pytest.mark.parametrize("workers", [0, -1, 1.5, True, "2", None])
def test_no_number_of_workers(workers: Any):
    """
    Workers are counted from 1.
    """
    with pytest.raises(ConfigurationError, match="workers must be a whole number"):
        share(workers, "auto", None, None)


def test_more_workers_than_requests():
    """
    A concurrency that does not give each worker one request is refused, not exceeded.
    """
    with pytest.raises(ConfigurationError, match="3 is less than the 4 workers"):
        share(4, 3, None, None)


# -- answers ------------------------------------------------------------------------------------


def test_answers(gateway: Gateway, worker: Worker):
    """
    Each row has its answer, in its place, with its price and tokens.
    """
    price = {"prompt_tokens": 11, "completion_tokens": 4, "total_tokens": 15, "cost": 0.25}
    gateway.reply(completion("first", usage=price))

    first, second = worker.answers(["a", "b"], model=MODEL)

    assert first == {
        "text": "first",
        "error": None,
        "finish_reason": "stop",
        "prompt_tokens": 11,
        "completion_tokens": 4,
        "cost": 0.25,
        "request_id": "G-01K3TESTCOMPLETION0000000",
    }
    assert (second["text"], second["cost"]) == ("b", None)


def test_a_row_that_fails_stays(worker: Worker):
    """
    A row that is no request has its error, and the rows about it have their answers.
    """
    answers = worker.answers(["a", 5, "c"], model=MODEL)

    assert [answer["text"] for answer in answers] == ["a", None, "c"]
    assert answers[1]["error"].startswith("RequestValidationError")
    assert answers[0].keys() == answers[1].keys() == COLUMNS.keys()


def test_rows_that_were_never_started_stay(gateway: Gateway, worker: Worker):
    """
    Where the gateway refuses the key, one request is sent, and every row says why it has nothing.
    """
    gateway.reply(error_body("invalid_api_key"), status=401)

    answers = worker.answers([f"row {n}" for n in range(5)], model=MODEL)

    assert len(gateway.requests) == 1
    assert answers[0]["error"].startswith("AuthenticationError")
    assert [answer["error"][:12] for answer in answers[1:]] == ["not started:"] * 4


def test_on_error_raise(gateway: Gateway, worker: Worker):
    """
    With `on_error="raise"` a batch fails with the first error.
    """
    gateway.reply(error_body("bad"), status=422)

    with pytest.raises(UnprocessableEntityError):
        worker.answers(["a", "b"], model=MODEL, on_error="raise")


@pytest.mark.parametrize("option", ["budget", "checkpoint", "key", "progress", "stop_after"])
def test_what_is_about_a_whole_run_is_refused(worker: Worker, option: str):
    """
    An option that would apply to each batch separately is refused by name.
    """
    with pytest.raises(ConfigurationError, match=option):
        worker.answers(["a"], model=MODEL, **{option: None})


def test_no_rows(gateway: Gateway, worker: Worker):
    """
    A batch without rows sends nothing.
    """
    assert worker.answers([], model=MODEL) == []
    assert gateway.requests == []


@pytest.mark.parametrize("limits", [{"rpm": 600}, {"tpm": 9000}])
def test_batches_share_one_pace(gateway: Gateway, limits: dict[str, int]):
    """
    Batches of one row are paced as the rows of one batch are: each waits for the one before.
    """
    mine = share(1, "auto", limits.get("rpm"), limits.get("tpm"))
    worker = Worker(mine, {"api_key": KEY, "base_url": gateway.url})
    begun = time.monotonic()
    for number in range(4):
        # 15 tokens each: ten of them a second, either way.
        worker.answers([f"row {number}"], model=MODEL)

    assert time.monotonic() - begun >= 0.3
    worker.close()


def test_what_was_not_sent_takes_no_time(gateway: Gateway):
    """
    Rows that are no requests use up nothing of the pace: the next batch is asked at once.
    """
    mine = share(1, "auto", 0.01, None)
    worker = Worker(mine, {"api_key": KEY, "base_url": gateway.url})
    worker.answers([1, 2, 3], model=MODEL)

    (answer,) = worker.answers(["a"], model=MODEL)

    assert answer["text"] == "a"
    worker.close()


def test_close(gateway: Gateway, worker: Worker):
    """
    A worker that has ended has no connections.
    """
    worker.answers(["a", "b"], model=MODEL)
    worker.close()

    until(lambda: gateway.open_connections == 0)
    with pytest.raises(ConfigurationError):
        worker.answers(["c"], model=MODEL)


def test_no_key(gateway: Gateway):
    """
    Without a key there is no worker.
    """
    with pytest.raises(ConfigurationError, match="AI_STATS_API_KEY"):
        Worker(share(1, "auto", None, None), {"base_url": gateway.url})


# -- columns ------------------------------------------------------------------------------------


def test_prefix():
    """
    A prefix keeps the new columns apart from those that are there.
    """
    assert next(iter(prefixed("answer_", ["text"]))) == "answer_text"
    with pytest.raises(ConfigurationError, match="have error, text already; with prefix="):
        prefixed("", ["text", "line", "error"])
