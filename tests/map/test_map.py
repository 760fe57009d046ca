"""
`client.map`: each row gets its outcome, in its place, whatever goes wrong on the way.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import gc
import json
import random
import re
import sys
import threading
import time
import tracemalloc
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import pytest
from aiohttp import web
from conftest import KEY, Caller, Script, SyncIteratorCaller, in_thread
from servers import CLOSE, RESET, Gate, Gateway, auntil, completion, error_body, until

import aistats
from aistats import (
    AuthenticationError,
    ConfigurationError,
    Outcome,
    RequestValidationError,
)
from aistats._call.limits import Limits

pytestmark = pytest.mark.anyio

MODEL = "openai/gpt-5-nano"
SOON = {"retry-after-ms": "1"}
"""
Headers of a 429 that is over at once.
"""


async def finish(caller: Caller, rows: Any, **options: Any) -> Any:
    """
    The run of *rows* after all of it was done.
    """
    return await finished(caller.client.map(rows, **{"model": MODEL, **options}))


async def finished(run: Any) -> Any:
    """
    The *run* after all of it was done.
    """
    return await (run if isinstance(run, aistats.AsyncRun) else in_thread(run.wait))


def iterate(run: Any, *, as_completed: bool = False) -> Any:
    """
    The outcomes of *run* as an asynchronous iterator.
    """
    outcomes = run.as_completed() if as_completed else run
    if isinstance(run, aistats.AsyncRun):
        return aiter(outcomes)
    return SyncIteratorCaller(iter(outcomes))


def submitted(run: Any) -> int:
    """
    How many rows of *run* have been taken by its engine.
    """
    return run._engine.outbox.submitted if run._engine is not None else 0


def prompts_at(gateway: Gateway) -> list[str]:
    """
    What the gateway was asked, in the order in which it came.
    """
    return [seen.json["messages"][-1]["content"] for seen in gateway.requests]


def limits_of(caller: Caller) -> Limits:
    """
    What the caller's client has learnt.
    """
    return caller.client.limits


# -- rows and requests --------------------------------------------------------------------------


async def test_all_of_it(caller: Caller, gateway: Gateway):
    """
    Each row has its answer, in input order, and the numbers are those of all.
    """
    rows = [f"row {number}" for number in range(50)]
    run = await finish(caller, rows)

    assert run.texts() == rows
    assert [outcome.index for outcome in run.outcomes] == list(range(50))
    assert sorted(prompts_at(gateway)) == sorted(rows)
    assert run.errors == []
    assert run.stopped is None
    assert run.is_done
    assert (run.usage.prompt_tokens, run.usage.completion_tokens, run.usage.total_tokens) == (
        550,
        200,
        750,
    )
    assert run.latency.count == 50
    assert 0 < run.latency.p50 <= run.latency.p95 <= run.latency.p99 <= run.latency.max


async def test_cost(caller: Caller, gateway: Gateway):
    """
    A run costs what its answers had as a price; where none had one, that is not known.
    """
    nothing = await finish(caller, [])
    unknown = await finish(caller, ["one", "two"])
    gateway.reply(completion(usage={"total_tokens": 15, "cost": 0.01}))
    known = await finish(caller, ["one", "two", "three"], concurrency=1)

    assert (nothing.cost, unknown.cost, known.cost) == (0, None, Decimal("0.01"))
    assert [run.progress.cost for run in (nothing, unknown, known)] == [0, None, Decimal("0.01")]


async def test_an_outcome(caller: Caller):
    """
    An outcome has its row, its request, its answer, and what is known of the call.
    """
    row = {"text": "Hello", "id": 7}
    run = await finish(caller, [row], prompt=lambda row: row["text"], temperature=0.5)
    (outcome,) = run.outcomes

    assert outcome.row is row
    assert outcome.request == aistats.ChatCompletionsRequest(
        model=MODEL, messages="Hello", temperature=0.5
    )
    assert outcome.ok
    assert outcome.unwrap() is outcome.response
    assert (outcome.text, outcome.error, outcome.cached) == ("Hello", None, False)
    assert [attempt.outcome for attempt in outcome.attempts] == ["answered"]
    assert outcome.timing == outcome.response.timing
    assert re.fullmatch("[0-9a-f]{64}", outcome.key)


async def test_kinds_of_rows(caller: Caller, gateway: Gateway):
    """
    A string, messages, a dict and a request need no function, and their own parameters win.
    """
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "two"}]
    rows = [
        "one",
        messages,
        {"messages": "three", "temperature": 1.5},
        aistats.ChatCompletionsRequest(model="a/b", messages="four"),
    ]
    run = await finish(caller, rows, temperature=0.5)
    sent = {seen.json["messages"][-1]["content"]: seen.json for seen in gateway.requests}

    assert run.texts() == ["one", "two", "three", "four"]
    assert sent["two"]["messages"] == messages
    assert {text: each["temperature"] for text, each in sent.items()} == {
        "one": 0.5,
        "two": 0.5,
        "three": 1.5,
        "four": 0.5,
    }
    assert (sent["one"]["model"], sent["four"]["model"]) == (MODEL, "a/b")


async def test_request_function(caller: Caller, gateway: Gateway):
    """
    `request` makes the whole request of a row, `prompt` its messages alone.
    """
    await finish(caller, [3], request=lambda row: {"messages": f"n={row}", "seed": row})
    await finish(caller, [4], prompt=lambda row: [{"role": "user", "content": f"n={row}"}])

    assert [seen.json.get("seed") for seen in gateway.requests] == [3, None]
    assert prompts_at(gateway) == ["n=3", "n=4"]


async def test_what_a_single_call_takes(caller: Caller, gateway: Gateway):
    """
    Parameters, headers, query and extra body go out with each request as with a single call.
    """
    await finish(
        caller,
        ["one", "two"],
        response_format={"type": "json_object"},
        extra_body={"new": [1]},
        extra_headers={"X-Run": "7"},
        extra_query={"region": "eu"},
    )

    for seen in gateway.requests:
        assert seen.json["response_format"] == {"type": "json_object"}
        assert (seen.json["new"], seen.headers["X-Run"], seen.query) == (
            [1],
            "7",
            {"region": "eu"},
        )


async def test_bad_rows(caller: Caller, gateway: Gateway):
    """
    A row that is no request has its error, without a request, and the others go on.
    """

    def prompt(row: Any) -> Any:
        return row["text"]

    rows = [{"text": "one"}, {}, {"text": 3}, {"text": "four"}]
    run = await finish(caller, rows, prompt=prompt)

    assert run.texts() == ["one", None, None, "four"]
    assert [type(outcome.error) for outcome in run.errors] == [KeyError, RequestValidationError]
    assert [(each.key, each.request, each.attempts) for each in run.errors] == [
        (None, None, ())
    ] * 2
    with pytest.raises(KeyError):
        run.outcomes[1].unwrap()
    assert len(gateway.requests) == 2


async def test_a_row_that_needs_a_function(caller: Caller):
    """
    The error of a row that says nothing by itself tells what to pass.
    """
    run = await finish(caller, [7])

    assert "prompt=lambda row" in str(run.outcomes[0].error)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"concurency": 5}, "such as `concurrency`, an argument of `map`"),
        ({"stop_afer": 5}, "such as `stop_after`, an argument of `map`"),
        ({"temprature": 1}, "such as `temperature`; extra_body"),
        ({"temperature": 9}, "temperature"),
        ({"extra_headers": {"a b": "c"}}, "extra_headers"),
        (
            {"prompt": "Classify this: "},
            "prompt must be a function.*; not str. Write prompt=lambda",
        ),
        ({"request": {"messages": "Hi"}}, "request must be a function.*; not dict. Write request="),
        ({"key": "id"}, "key must be a function"),
        ({"concurrency": 0}, "concurrency"),
        ({"concurrency": "all"}, "concurrency"),
        ({"on_error": "ignore"}, "on_error"),
        ({"stop_after": 0}, "stop_after"),
        *(
            ({name: value}, f"{name} must be a number above 0")
            for name in ("rpm", "tpm", "stop_after")
            for value in (-1, 0, True, float("inf"), float("nan"), "9")
        ),
        ({"dedup": "no"}, "dedup must be True or False"),
        ({"dedup": None}, "dedup must be True or False"),
        ({"budget": 5}, r"budget must be a Budget, such as Budget\(usd=5\)"),
        ({"budget": 0}, "budget must be a Budget"),
        ({"progress": "yes"}, "progress must be True, False or a function"),
        ({"progress": 1}, "progress must be"),
        ({"checkpoint": True}, "checkpoint must be a file's path"),
        ({"prompt": str, "request": dict}, "give one"),
    ],
)
async def test_wrong_arguments(caller: Caller, options: dict[str, Any], expected: str):
    """
    What is wrong for all rows is raised at once, before there is a run.
    """
    with pytest.raises((RequestValidationError, ConfigurationError), match=expected) as caught:
        caller.client.map(["one"], model=MODEL, **options)
    assert "Classify this" not in str(caught.value)


@pytest.mark.parametrize(
    ("rows", "hint"),
    [
        *(
            (row, r"\. Write \[row\] for one row\.$")
            for row in ("text", b"text", {"messages": "one"})
        ),
        (7, ""),
    ],
)
async def test_wrong_rows(caller: Caller, rows: Any, hint: str):
    """
    One prompt is not rows, and neither is a number.
    """
    with pytest.raises(ConfigurationError, match=f"rows must be.*{hint}"):
        caller.client.map(rows, model=MODEL)


def test_wrong_budgets():
    """
    A budget of nothing, of anything, or of no number is a fault.
    """
    for name in ("usd", "tokens", "seconds"):
        for value in (0, -1, True, float("inf"), float("nan"), Decimal("NaN"), "5"):
            with pytest.raises(ConfigurationError, match=f"{name} must be a number above 0"):
                aistats.Budget(**{name: value})


class Pandas:
    """
    What a data frame of pandas has that `map` uses.
    """

    columns = ("id", "text")

    def itertuples(self, *, index: bool, name: None) -> Iterator[tuple[Any, ...]]:
        assert (index, name) == (False, None)
        return iter([(1, "one"), (2, "two")])

    def __len__(self) -> int:
        return 2


class Polars:
    """
    What a data frame of polars has that `map` uses.
    """

    columns = ("id", "text")

    def iter_rows(self, *, named: bool) -> Iterator[dict[str, Any]]:
        assert named
        return iter([{"id": 1, "text": "one"}, {"id": 2, "text": "two"}])

    def __len__(self) -> int:
        return 2


@pytest.mark.parametrize("frame", [Pandas(), Polars()])
async def test_data_frames(caller: Caller, frame: Any):
    """
    The rows of a data frame are dicts.
    """
    run = await finish(caller, frame, prompt=lambda row: row["text"])

    assert run.texts() == ["one", "two"]
    assert [outcome.row["id"] for outcome in run.outcomes] == [1, 2]


async def test_a_row_is_sent_before_the_next_is_asked_for(caller: Caller, gateway: Gateway):
    """
    A row goes out while the rows' iterator waits for something, such as the answer to that row.
    """

    def rows() -> Iterator[str]:
        for number in range(3):
            yield f"row {number}"
            until(lambda number=number: len(gateway.requests) == number + 1)

    async def arows() -> AsyncIterator[str]:
        for number in range(3):
            yield f"row {number}"
            await auntil(lambda number=number: len(gateway.requests) == number + 1)

    is_async = isinstance(caller.client, aistats.AsyncClient)
    run = await finish(caller, arows() if is_async else rows())

    assert run.texts() == ["row 0", "row 1", "row 2"]


async def test_rows_made_of_outcomes(gateway: Gateway):
    """
    Rows that are made of earlier outcomes are asked as they come.
    """
    queue: asyncio.Queue[str | None] = asyncio.Queue()
    queue.put_nowait("a")

    async def rows() -> AsyncIterator[str]:
        while (row := await queue.get()) is not None:
            yield row

    texts: list[str] = []
    async with aistats.AsyncClient(KEY, gateway.url) as client:
        async for outcome in client.map(rows(), model=MODEL):
            texts.append(outcome.text)
            queue.put_nowait(f"{outcome.text}a" if len(texts) < 5 else None)

    assert texts == ["a", "aa", "aaa", "aaaa", "aaaaa"]


async def test_rows_that_fail(caller: Caller):
    """
    What the rows' iterator raises is raised, after what was under way, which is kept.
    """

    def rows() -> Iterator[str]:
        yield "one"
        yield "two"
        raise OSError("the database is gone")

    run = caller.client.map(rows(), model=MODEL)
    with pytest.raises(OSError, match="the database is gone"):
        await finished(run)

    assert run.texts() == ["one", "two"]

    assert run.stopped == "the rows failed: OSError: the database is gone"
    assert run.retry().stopped == run.stopped


async def test_no_model(caller: Caller, gateway: Gateway):
    """
    A model that was forgotten for all rows ends the run at the first of them.
    """
    run = await finished(caller.client.map([f"row {number}" for number in range(50)]))

    assert "model" in run.stopped
    assert 1 <= len(run.outcomes) < 50
    assert gateway.requests == []


async def test_a_later_row_without_a_model(caller: Caller, gateway: Gateway):
    """
    A later row that has no model is a fault of its own, even before the first one is answered.
    """
    gate = Gate()
    gateway.reply(completion("first"), before=gate)
    rows = [{"model": MODEL, "messages": f"row {number}"} for number in range(10)]
    del rows[1]["model"]
    run = caller.client.map(rows)
    async with anyio.create_task_group() as group:
        group.start_soon(finished, run)
        await auntil(lambda: gate.reached.is_set() and run.progress.done == 1)
        gate.open()

    assert run.stopped is None
    assert [outcome.index for outcome in run.errors] == [1]


async def test_no_rows(caller: Caller):
    """
    A run of nothing is done, and its table is empty.
    """
    pytest.importorskip("pandas", reason="needs the extra `pandas`")
    run = await finish(caller, [])

    assert (run.texts(), run.stopped, len(run.to_pandas())) == ([], None, 0)


async def test_asynchronous_rows(gateway: Gateway):
    """
    An asynchronous generator's rows are awaited, and are not for a synchronous client.
    """

    async def rows() -> AsyncIterator[str]:
        for number in range(5):
            await anyio.lowlevel.checkpoint()
            yield f"row {number}"

    async with aistats.AsyncClient(KEY, gateway.url) as client:
        run = await client.map(rows(), model=MODEL)
    assert run.texts() == [f"row {number}" for number in range(5)]
    with (
        aistats.Client(KEY, gateway.url) as client,
        pytest.raises(ConfigurationError, match="AsyncClient"),
    ):
        client.map(rows(), model=MODEL)


async def test_the_caller_s_thread(gateway: Gateway):
    """
    Rows, prompts, keys and progress are asked for in the thread that waits for a synchronous run.
    """
    threads: set[int] = set()

    def note(value: Any) -> Any:
        threads.add(threading.get_ident())
        return value

    def work() -> int:
        rows = (note(f"row {number}") for number in range(300))
        with aistats.Client(KEY, gateway.url) as client:
            run = client.map(rows, model=MODEL, prompt=note, key=note, progress=note)
            assert len(run.texts()) == 300
        return threading.get_ident()

    assert {await in_thread(work)} == threads


# -- order, and how much is taken at once -------------------------------------------------------


async def test_order(caller: Caller, gateway: Gateway):
    """
    Outcomes come in input order, however late the first ones are.
    """
    gate = Gate()
    gateway.reply(completion("first"))
    gateway.reply(completion("slow"), before=gate)
    run = caller.client.map(["first", *"abcdef"], model=MODEL, concurrency=2)
    outcomes = iterate(run)
    got = [await anext(outcomes)]

    async def take_the_rest() -> None:
        got.extend([outcome async for outcome in outcomes])

    # A run of `Client` pulls rows only while somebody waits for outcomes.
    rest = asyncio.ensure_future(take_the_rest())
    await auntil(lambda: run.progress.done > 1)
    gate.open()
    await rest

    assert [outcome.index for outcome in got] == list(range(7))
    assert "slow" in (got[1].text, got[2].text)
    with pytest.raises(ConfigurationError, match="not kept"):
        run.texts()
    assert run.usage.total_tokens == 7 * 15


async def test_as_completed(caller: Caller, gateway: Gateway):
    """
    As they finish, a slow one keeps nobody waiting.
    """
    gate = Gate()
    gateway.reply(completion("first"))
    gateway.reply(completion("slow"), before=gate)
    run = caller.client.map(["first", *"abcdef"], model=MODEL, concurrency=2)
    outcomes = iterate(run, as_completed=True)
    texts = [(await anext(outcomes)).text for _ in range(6)]
    gate.open()
    texts += [outcome.text async for outcome in outcomes]

    assert texts[-1] == "slow"
    assert len(set(texts)) == 7


class Crowd(Gateway):
    """
    A gateway that keeps each answer back until as many as *size* wait, or the gate is open.
    """

    def __init__(self, size: int) -> None:
        super().__init__()
        self.size = size
        self.waiting = self.most = 0
        self.gate = Gate()

    async def _answer(self, request: web.BaseRequest) -> web.StreamResponse:
        self.waiting += 1
        self.most = max(self.most, self.waiting)
        if self.waiting == self.size:
            self.gate.open()
        if len(self.requests) > 0:  # not the first one, which goes alone
            await asyncio.shield(asyncio.wrap_future(self.gate.passage))
        try:
            return await super()._answer(request)
        finally:
            self.waiting -= 1


async def test_concurrency_is_pinned(connect: Callable[..., Caller]):
    """
    As many requests are under way as were asked for, and never more.
    """
    with Crowd(7) as gateway:
        caller = connect(gateway.url)
        await finish(caller, [str(number) for number in range(60)], concurrency=7)

        assert gateway.most == 7
        assert gateway.connections <= 7


async def test_the_first_one_goes_alone(caller: Caller, gateway: Gateway):
    """
    Before the first answer nothing else is sent, however many may be under way.
    """
    gate = Gate()
    gateway.reply(before=gate)
    run = caller.client.map([str(number) for number in range(20)], model=MODEL, concurrency=10)
    async with anyio.create_task_group() as group:
        group.start_soon(finished, run)
        await auntil(gate.reached.is_set)
        assert (run.progress.in_flight, len(gateway.requests)) == (1, 1)
        gate.open()

    assert run.progress.done == 20


async def test_auto(caller: Caller, gateway: Gateway):
    """
    What the gateway takes is found by beginning with one, and can be seen.
    """
    await finish(caller, [str(number) for number in range(60)])

    limits = limits_of(caller)
    assert 1 < limits.concurrency <= 100
    assert (limits.in_flight, limits.waiting, limits.throttled) == (0, 0, 0)


async def test_a_slow_consumer(caller: Caller):
    """
    Where outcomes are not taken, no further rows are pulled, and no further requests are sent.
    """
    pulled = 0

    def rows() -> Iterator[str]:
        nonlocal pulled
        for pulled in range(1, 1_000_001):
            yield f"row {pulled}"

    run = caller.client.map(rows(), model=MODEL, concurrency=2)
    outcomes = iterate(run)
    assert (await anext(outcomes)).text == "row 1"
    if isinstance(run, aistats.AsyncRun):
        await auntil(lambda: run.progress.done == 101)
    else:  # no rows are pulled but when the next one is asked for
        await auntil(lambda: run.progress.in_flight == 0)
    for _ in range(20):
        await anyio.lowlevel.checkpoint()
    assert pulled <= 101
    assert [(await anext(outcomes)).text for _ in range(200)][-1] == "row 201"
    assert pulled <= 301


async def test_a_million_rows(gateway: Gateway):
    """
    Of an endless generator no more rows are pulled than there is room for, in flat memory.
    """
    pulled = 0

    def rows() -> Iterator[str]:
        nonlocal pulled
        while pulled < 1_000_000:
            pulled += 1
            yield "the same prompt for all " * 4

    async with aistats.AsyncClient(KEY, gateway.url) as client:
        peaks: list[int] = []
        tasks = 0
        taken = 0
        tracemalloc.start()
        try:
            async for _ in client.map(rows(), model=MODEL, concurrency=8):
                taken += 1
                tasks = max(tasks, len(asyncio.all_tasks()))
                assert pulled - taken <= 100
                if taken in (2000, 20_000):
                    gc.collect()
                    peaks.append(tracemalloc.get_traced_memory()[0])
                if taken == 20_000:
                    break
        finally:
            tracemalloc.stop()

    assert len(gateway.requests) == 1
    assert tasks < 20
    assert peaks[1] - peaks[0] < 300_000


# -- duplicates ---------------------------------------------------------------------------------


async def test_duplicates_share_a_call(caller: Caller, gateway: Gateway):
    """
    Rows with the same request are asked for once, and each place has the answer.
    """
    rows = [f"row {number % 5}" for number in range(100)]
    run = await finish(caller, rows)

    assert run.texts() == rows
    assert len(gateway.requests) == 5
    assert sum(outcome.cached for outcome in run.outcomes) == 95
    assert run.progress.cached == 95
    assert run.usage.total_tokens == 5 * 15


async def test_duplicates_of_a_failure(caller: Caller, gateway: Gateway):
    """
    Rows that wait for the same request share its error.
    """
    gateway.reply(completion("first"))
    gate = Gate()
    gateway.reply(error_body(), 500, before=gate)
    pulled: list[str] = []

    def rows() -> Iterator[str]:
        for row in ("first", "same", "same", "same", "second", "third"):
            pulled.append(row)
            yield row

    run = caller.client.map(rows(), model=MODEL, concurrency=1)
    async with anyio.create_task_group() as group:
        group.start_soon(finished, run)
        # At most two are pulled at once, so those before the last two have been handed over.
        await auntil(lambda: gate.reached.is_set() and len(pulled) == 6)
        gate.open()

    assert [type(each.error) for each in run.errors] == [aistats.InternalServerError] * 3
    assert prompts_at(gateway) == ["first", "same", "second", "third"]


async def test_no_sharing(caller: Caller, gateway: Gateway, tmp_path: Path):
    """
    Without `dedup` each row has a call and a key of its own, and is found again by it.
    """
    path = tmp_path / "run.jsonl"
    first = await finish(caller, ["same"] * 3, dedup=False, checkpoint=path)
    again = await finish(caller, ["same"] * 4, dedup=False, checkpoint=path)

    assert len(gateway.requests) == 4
    assert [each.key.partition("#")[2] for each in first.outcomes] == ["", "2", "3"]
    assert [each.cached for each in again.outcomes] == [True, True, True, False]


# -- what goes wrong, and what is tried again ---------------------------------------------------


async def test_a_bad_item(caller: Caller, gateway: Gateway):
    """
    An error is in the outcome of its row alone, with its tries.
    """
    gateway.reply(completion("one"))
    gateway.reply(error_body("validation_error"), 400)
    run = await finish(caller, ["one", "two", "three"], concurrency=1)

    (failed,) = run.errors
    assert run.texts() == ["one", None, "three"]
    assert (failed.index, failed.ok, failed.text, failed.response) == (1, False, None, None)
    assert isinstance(failed.error, aistats.BadRequestError)
    assert [each.status for each in failed.attempts] == [400]
    with pytest.raises(aistats.BadRequestError):
        failed.unwrap()


async def test_throttles_are_put_back(caller: Caller, gateway: Gateway):
    """
    What was too fast is asked for again until it is taken, and counts as no retry.
    """
    for _ in range(5):
        gateway.reply(error_body("rate_limited"), 429, SOON)
    run = await finish(caller, ["one", "two"], max_retries=0)

    assert run.texts() == ["one", "two"]
    assert [each.status for each in run.outcomes[0].attempts] == [429] * 5 + [200]
    assert run.progress.throttled == 5
    assert limits_of(caller).throttled == 5


@pytest.mark.parametrize("answered", [0, 1])
async def test_turned_away_at_a_pinned_number(
    caller: Caller, gateway: Gateway, monkeypatch: pytest.MonkeyPatch, answered: int
):
    """
    Where the number of requests is pinned, who is turned away waits for a moment, keeps its place,
    and is not under way meanwhile.
    """
    monkeypatch.setattr("random.random", lambda: 1.0)
    for _ in range(answered):
        gateway.reply(completion("one"))
    for _ in range(2):
        gateway.reply(error_body("rate_limited"), 429)
    policy = aistats.RetryPolicy(base=0.5)
    run = caller.client.map(["one", "two"], model=MODEL, concurrency=1, max_retries=policy)
    begun = time.monotonic()
    task = asyncio.ensure_future(finished(run))
    await auntil(lambda: run.progress.throttled == 2 and run.progress.in_flight == 0)
    assert len(gateway.requests) == answered + 2
    await task

    assert time.monotonic() - begun >= 1
    assert run.texts() == ["one", "two"]
    assert [attempt.status for attempt in run.outcomes[answered].attempts] == [429, 429, 200]


async def test_turned_away_for_longer_than_the_call_may_take(
    caller: Caller, gateway: Gateway, monkeypatch: pytest.MonkeyPatch
):
    """
    Who is turned away is sent again until the call's time is over, however long it would wait.
    """
    monkeypatch.setattr("random.random", lambda: 1.0)
    gateway.reply(completion("one"))
    for _ in range(200):
        gateway.reply(error_body("rate_limited"), 429)
    options = {"timeout": 1, "max_retries": aistats.RetryPolicy(base=30, cap=30)}
    with anyio.fail_after(10):
        run = await finish(caller, ["one", "two"], concurrency=2, **options)

    # The last try may begin so late that its answer doesn't come in time.
    (outcome,) = run.errors
    assert isinstance(outcome.error, aistats.RateLimitError | aistats.APITimeoutError)
    assert 2 < len(outcome.attempts) < 100
    assert outcome.timing.total > 0.6  # then the client's own cooldown is longer than what is left


@pytest.mark.parametrize("after", ["0", "Sun, 06 Nov 1994 08:49:37 GMT"])
async def test_turned_away_for_no_time(
    caller: Caller, gateway: Gateway, monkeypatch: pytest.MonkeyPatch, after: str
):
    """
    A `Retry-After` of zero, or of a time in the past, counts as none.
    """
    monkeypatch.setattr("random.random", lambda: 1.0)
    gateway.reply(error_body("rate_limited"), 429, {"Retry-After": after})
    begun = time.monotonic()
    await finish(caller, ["one"], concurrency=1, max_retries=aistats.RetryPolicy(base=0.3))

    assert time.monotonic() - begun >= 0.3


async def test_budget_that_ends_while_one_waits(
    caller: Caller, gateway: Gateway, monkeypatch: pytest.MonkeyPatch
):
    """
    A run whose budget is used up doesn't wait for rows that were throttled.
    """
    monkeypatch.setattr("random.random", lambda: 1.0)
    last = Gate()
    gateway.reply(completion("one", usage={"total_tokens": 1}))
    gateway.reply(error_body("rate_limited"), 429)
    gateway.reply(completion("three", usage={"total_tokens": 20}), before=last)
    options = {
        "budget": aistats.Budget(tokens=10),
        "max_retries": aistats.RetryPolicy(base=60, cap=60),
    }
    run = caller.client.map(["one", "two", "three"], model=MODEL, concurrency=2, **options)
    task = asyncio.ensure_future(finished(run))
    await auntil(lambda: last.reached.is_set() and run.progress.throttled == 1)
    assert run.progress.concurrency == 2
    last.open()
    with anyio.fail_after(10):
        await task

    assert run.stopped == "budget: 21 of 10 tokens are used up"
    assert (len(run.outcomes), len(run._engine.outbox.unstarted)) == (2, 1)


async def test_closed_while_all_wait(
    caller: Caller, gateway: Gateway, monkeypatch: pytest.MonkeyPatch
):
    """
    A client that is closed ends a run of which nothing is under way, and the rows are for a retry.
    """
    monkeypatch.setattr("random.random", lambda: 1.0)
    gateway.reply(error_body("rate_limited"), 429)
    policy = aistats.RetryPolicy(base=60, cap=60)
    run = caller.client.map(["one", "two"], model=MODEL, concurrency=2, max_retries=policy)
    task = asyncio.ensure_future(finished(run))
    await auntil(lambda: run.progress.throttled == 1 and run.progress.in_flight == 0)
    with anyio.fail_after(10):
        await caller.aclose()
        with contextlib.suppress(ConfigurationError):  # a Client's own loop has ended
            await task

    assert run.is_done
    assert run.stopped is not None
    assert repr(run.retry()).startswith(f"<{type(run).__name__} new")


def test_loop_that_ends_while_all_wait(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    """
    A run of which nothing is under way ends with its loop, and leaves its checkpoint to the next.
    """
    monkeypatch.setattr("random.random", lambda: 1.0)
    path = tmp_path / "run.jsonl"
    gateway.reply(error_body("rate_limited"), 429)
    client = aistats.AsyncClient(KEY, gateway.url)
    policy = aistats.RetryPolicy(base=60, cap=60)
    options = {"model": MODEL, "concurrency": 1, "max_retries": policy, "checkpoint": path}
    run = client.map(["one"], **options)
    kept: list[Any] = []

    async def begin() -> None:
        kept.append(aiter(run))
        task = asyncio.ensure_future(anext(kept[0]))
        await auntil(lambda: run.progress.throttled == 1 and run.progress.in_flight == 0)
        task.cancel()

    async def again() -> list[str | None]:
        async with client:
            return (await client.map(["one"], **options)).texts()

    asyncio.run(begin())
    assert run.is_done
    assert asyncio.run(again()) == ["one"]


async def test_stopped_while_one_waits_that_was_turned_away(
    caller: Caller, gateway: Gateway, monkeypatch: pytest.MonkeyPatch
):
    """
    It is not sent again, and was never started.
    """
    monkeypatch.setattr("random.random", lambda: 1.0)
    failure = Gate()
    gateway.reply(completion("one"))
    gateway.reply(error_body("rate_limited"), 429)
    gateway.reply(error_body("busy"), 500, before=failure)
    policy = aistats.RetryPolicy(max_retries=0, base=30)
    rows = ["one", "two", "three", "four"]
    options = {"concurrency": 2, "stop_after": 1, "max_retries": policy}
    run = caller.client.map(rows, model=MODEL, **options)
    task = asyncio.ensure_future(finished(run))
    await auntil(lambda: failure.reached.is_set() and run.progress.throttled == 1)
    failure.open()
    with anyio.fail_after(10):
        await task

    assert (len(gateway.requests), run.progress.done) == (3, 2)
    assert run.stopped == "stop_after: 1 failures"
    assert [len(run.errors), len(run._engine.outbox.unstarted)] == [1, 2]


async def test_throttles_of_a_provider(caller: Caller, gateway: Gateway):
    """
    A row is sent again after a 502 for a rate-limited provider, too.
    """
    diagnostics = {"provider_failure_diagnostics": {"category": "rate_limited"}}
    gateway.reply(error_body(**diagnostics), 502, SOON)
    run = await finish(caller, ["one"], max_retries=0)

    assert run.texts() == ["one"]


async def test_throttles_have_an_end(caller: Caller, gateway: Gateway):
    """
    What is too fast for longer than the call may take is an error, and others go on.
    """
    gateway.reply(completion("one"))
    for _ in range(200):
        gateway.reply(error_body("rate_limited"), 429, {"retry-after-ms": "20"})
    run = await finish(caller, ["one", "two"], timeout=1)

    # The last try may begin so late that its answer doesn't come in time.
    (outcome,) = run.errors
    assert isinstance(outcome.error, aistats.RateLimitError | aistats.APITimeoutError)
    assert run.stopped is None


async def test_a_throttle_that_outlasts_the_call(caller: Caller, gateway: Gateway):
    """
    What would be held back for longer than the call may take fails at once, and is not sent again.
    """
    gateway.reply(completion("one"))
    gateway.reply(error_body("rate_limited"), 429, {"Retry-After": "30"})
    with anyio.fail_after(10):
        run = await finish(caller, ["one", "two"], concurrency=1, timeout=5)

    (outcome,) = run.errors
    assert isinstance(outcome.error, aistats.RateLimitError)
    assert [attempt.status for attempt in outcome.attempts] == [429]
    assert (len(gateway.requests), run.stopped) == (2, None)


class Faulty(Gateway):
    """
    A gateway of whose answers some are 429s, some resets and some cut, and which counts the others.
    """

    def __init__(self, seed: int) -> None:
        super().__init__()
        self.dice = random.Random(seed)
        self.faults: Counter[str] = Counter()

    async def _answer(self, request: web.BaseRequest) -> web.StreamResponse:
        number = self.dice.random()
        head = {"Content-Type": "application/json"}
        if number < 0.3:
            self.faults["429"] += 1
            self.reply(error_body("rate_limited"), 429, SOON)
        elif number < 0.35:
            self.faults["reset"] += 1
            self.stream(RESET, headers=head)
        elif number < 0.37:
            self.faults["cut"] += 1
            body = json.dumps(completion("cut")).encode()[:-30]
            if self.dice.random() < 0.5:
                self.stream(body, CLOSE, headers=head)
            else:
                self.reply(body, headers=head)
        else:
            self.faults["none"] += 1
        return await super()._answer(request)


@pytest.mark.parametrize("concurrency", ["auto", 16])
async def test_many_faults(connect: Callable[..., Caller], concurrency: Any):
    """
    Of 30 % of 429s, 5 % of resets and 2 % of cut answers nothing is lost and nothing doubled.
    """
    count = 120 if concurrency == "auto" else 240
    rows = [f"row {number}" for number in range(count)]
    with Faulty(5) as gateway:
        caller = connect(gateway.url)
        policy = aistats.RetryPolicy(max_retries=6, base=0.001)
        run = await finish(caller, rows, max_retries=policy, concurrency=concurrency)

        assert run.texts() == rows
        assert [outcome.index for outcome in run.outcomes] == list(range(count))
        assert min(gateway.faults.values()) > 3
        assert gateway.faults["none"] == count
        attempts = Counter(len(outcome.attempts) for outcome in run.outcomes)
        assert sum(n * count for n, count in attempts.items()) == gateway.faults.total()


@pytest.mark.parametrize(
    ("status", "code", "requests", "reason"),
    [
        (400, "validation_error", 20, "the first 20 requests were refused: 400"),
        (401, "unauthorised", 1, "401"),
        (402, "insufficient_funds", 1, "402"),
        (403, "forbidden", 20, "the first 20 requests were refused: 403"),
        (404, "not_found", 20, "the first 20 requests were refused: 404"),
    ],
)
async def test_the_probe(
    caller: Caller,
    gateway: Gateway,
    status: int,
    code: str,
    requests: int,
    reason: str,
    caplog: pytest.LogCaptureFixture,
):
    """
    An error of the key or the credit ends the run at the first request, and refusals end it after
    20; the log says why.
    """
    for _ in range(requests):
        gateway.reply(error_body(code), status)
    run = await finish(caller, [f"row {number}" for number in range(100)])

    assert len(gateway.requests) == requests
    assert [outcome.error.status for outcome in run.outcomes] == [status] * requests
    assert run.texts() == [None] * 100
    assert run.stopped.startswith(reason)
    (message,) = caplog.messages
    assert message.startswith(
        f"the run was stopped: {run.stopped}. {requests} of 100 rows are done"
    )
    assert f"({requests} x status {status} ({code}))" in message


async def test_a_retry_is_not_probed(caller: Caller, gateway: Gateway):
    """
    In a retry a row that is refused for good speaks for itself alone, even if it comes first.
    """
    gateway.reply(completion("row 0"))
    gateway.reply(error_body("context_length_exceeded"), 400)
    gateway.reply(error_body(), 500)
    rows = [f"row {number}" for number in range(10)]
    run = await finish(caller, rows, concurrency=1)
    assert [outcome.index for outcome in run.errors] == [1, 2]

    gateway.reply(error_body("context_length_exceeded"), 400)
    again = await finished(run.retry())

    assert again.stopped is None
    assert again.texts() == ["row 0", None, *rows[2:]]


async def test_duplicates_of_a_slow_request(caller: Caller, gateway: Gateway):
    """
    Duplicates of a request that hangs hold no other rows back, and count once for `stop_after`.
    """
    gate = Gate()
    gateway.reply(completion("first"))
    gateway.reply(error_body(), 500, before=gate)
    rows = ["first", *[text for number in range(300) for text in ("same", f"row {number}")]]
    run = caller.client.map(rows, model=MODEL, concurrency=10, max_retries=0, stop_after=5)
    async with anyio.create_task_group() as group:
        group.start_soon(finished, run)
        await auntil(lambda: run.progress.done == 301)
        gate.open()

    assert len(gateway.requests) == 302
    assert (run.stopped, run.progress.failed) == (None, 300)


async def test_the_same_request_under_other_keys(caller: Caller, gateway: Gateway, tmp_path: Path):
    """
    With a checkpoint, rows with keys of their own and the same request share one call anywhere.
    """
    rows = ["same", *[f"row {number}" for number in range(300)], "same"]
    path = tmp_path / "rows.jsonl"
    numbers = iter(range(10_000))
    run = caller.client.map(
        rows, model=MODEL, checkpoint=path, key=lambda row: f"key {next(numbers)}"
    )
    outcomes = [(each.key, each.text, each.cached) async for each in iterate(run)]

    assert len(gateway.requests) == 301
    assert outcomes[0] == ("key 0", "same", False)
    assert outcomes[-1] == ("key 301", "same", True)
    resumed = await finish(caller, ["same"], checkpoint=path, key=lambda row: "key 301")
    assert resumed.texts() == ["same"]
    assert len(gateway.requests) == 301


async def test_samples_of_one_key(caller: Caller, gateway: Gateway, tmp_path: Path):
    """
    With `dedup=False`, rows with one key and one request each keep their own answer when resumed.
    """
    for number in range(6):
        gateway.reply(completion(f"sample {number}"))
    options = {
        "checkpoint": tmp_path / "rows.jsonl",
        "dedup": False,
        "key": lambda row: "one",
        "concurrency": 1,
    }
    first = await finish(caller, ["same"] * 6, **options)
    again = await finish(caller, ["same"] * 6, **options)

    assert first.texts() == again.texts() == [f"sample {number}" for number in range(6)]
    assert [outcome.key for outcome in again.outcomes] == [
        "one",
        *(f"one#{n}" for n in range(2, 7)),
    ]
    assert len(gateway.requests) == 6


async def test_a_retry_of_a_probe(caller: Caller, gateway: Gateway):
    """
    Where the first request was all that was sent, so it is in a retry.
    """
    for _ in range(2):
        gateway.reply(error_body("unauthorised"), 401)
    run = await finish(caller, ["one", "two", "three"])
    again = await finished(run.retry())

    assert again.stopped.startswith("401")
    assert prompts_at(gateway) == ["one", "one"]


async def test_a_bad_first_row(caller: Caller, gateway: Gateway, tmp_path: Path):
    """
    A first row whose content is refused keeps no other row from being asked, in a run, a retry or
    one that resumes.
    """
    rows = [f"row {number}" for number in range(50)]
    options = {"checkpoint": tmp_path / "rows.jsonl"}
    refusal = error_body("content_policy_violation"), 400
    gateway.reply(*refusal)
    run = await finish(caller, rows, **options)
    gateway.reply(*refusal)
    again = await finished(run.retry())
    gateway.reply(*refusal)
    resumed = await finish(caller, rows, **options)

    assert [each.stopped for each in (run, again, resumed)] == [None] * 3
    assert [each.texts() for each in (run, again, resumed)] == [[None, *rows[1:]]] * 3
    assert len(gateway.requests) == 52


@pytest.mark.parametrize("concurrency", ["auto", 10])
async def test_a_first_row_that_hangs(caller: Caller, gateway: Gateway, concurrency: Any):
    """
    A first row that gets no answer holds the others back for a moment only.
    """
    gate = Gate()
    gateway.reply(completion("row 0"), before=gate)
    rows = [f"row {number}" for number in range(50)]
    run = caller.client.map(rows, model=MODEL, concurrency=concurrency)
    async with anyio.create_task_group() as group:
        group.start_soon(finished, run)
        await auntil(lambda: run.progress.done == 49)
        assert run.progress.in_flight == 1
        gate.open()

    assert run.texts() == rows


async def test_nobody_there(connect: Callable[..., Caller]):
    """
    Where the first request reaches nobody, no others are tried.
    """
    run = await finish(connect("http://127.0.0.1:9/v1"), ["one", "two", "three"])

    assert [type(outcome.error) for outcome in run.outcomes] == [aistats.APIConnectionError]
    assert run.stopped.startswith("the first request failed")


@pytest.mark.parametrize(
    ("status", "code"),
    [(401, "unauthorised"), (402, "insufficient_funds"), (429, "key_limit_exceeded")],
)
async def test_the_breaker(caller: Caller, gateway: Gateway, status: int, code: str):
    """
    An error of the key, the credit or the quota ends the run; what was done is kept.
    """
    for number in range(5):
        gateway.reply(completion(f"row {number}"))
    gateway.reply(error_body(code), status)
    run = await finish(caller, [f"row {number}" for number in range(100)], concurrency=1)

    assert len(gateway.requests) == 6
    assert run.texts() == [f"row {number}" for number in range(5)] + [None] * 95
    assert [outcome.error.status for outcome in run.errors] == [status]
    assert run.stopped.startswith(str(status))


async def test_a_long_retry_after(caller: Caller, gateway: Gateway):
    """
    A gateway that says to come back in hours ends the run.
    """
    gateway.reply(completion("one"))
    gateway.reply(error_body("rate_limited"), 429, {"Retry-After": "7200"})
    run = await finish(caller, ["one", "two", "three"], concurrency=1)

    assert len(gateway.requests) == 2
    assert run.stopped.startswith("429")


async def test_raise(caller: Caller, gateway: Gateway):
    """
    With `on_error="raise"` the first error ends the run and is raised; what was done is kept.
    """
    gateway.reply(completion("one"))
    gateway.reply(error_body(), 500)
    run = caller.client.map(["one", "two", "three"], model=MODEL, concurrency=1, on_error="raise")
    for _ in range(2):  # it is not forgotten
        with pytest.raises(aistats.InternalServerError):
            await finished(run)

    assert run.texts() == ["one", None, None]
    assert len(gateway.requests) == 2


@pytest.mark.parametrize("status", [400, 401, 422])
async def test_raise_at_the_first_request(caller: Caller, gateway: Gateway, status: int):
    """
    An error that ends the run in any case is raised, too.
    """
    gateway.reply(error_body(), status)
    run = caller.client.map(["one", "two"], model=MODEL, on_error="raise")
    with pytest.raises(aistats.APIStatusError) as caught:
        await finished(run)

    assert caught.value.status == status
    assert run.texts() == [None, None]


async def test_raise_from_a_loop(caller: Caller, gateway: Gateway):
    """
    A loop gets the outcomes before the error, which is raised after them.
    """
    gateway.reply(completion("one"))
    gateway.reply(error_body(), 500)
    run = caller.client.map(["one", "two", "three"], model=MODEL, concurrency=1, on_error="raise")
    outcomes = iterate(run)

    assert [(await anext(outcomes)).text for _ in range(2)] == ["one", None]
    with pytest.raises(aistats.InternalServerError):
        await anext(outcomes)


@pytest.mark.parametrize(("rule", "requests"), [(3, 4), (0.5, 39)])
async def test_stop_after(caller: Caller, gateway: Gateway, rule: float, requests: int):
    """
    So many failures, or such a share of at least 20, end the run.
    """
    good = 1 if rule == 3 else 20
    for number in range(good):
        gateway.reply(completion(f"row {number}"))
    for _ in range(100):
        gateway.reply(error_body(), 500)
    rows = [f"row {number}" for number in range(200)]
    run = await finish(caller, rows, concurrency=1, stop_after=rule)

    assert len(gateway.requests) in (requests, requests + 1)
    assert run.stopped.startswith("stop_after")


@pytest.mark.parametrize(
    ("budget", "requests"),
    [
        (aistats.Budget(tokens=100), 7),
        (aistats.Budget(usd=Decimal("0.05")), 5),
        (aistats.Budget(usd=0.05, tokens=31), 3),
    ],
)
async def test_budget(caller: Caller, gateway: Gateway, budget: aistats.Budget, requests: int):
    """
    No request is started once a budget is used up.
    """
    usage = {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15, "cost": 0.01}
    for _ in range(50):
        gateway.reply(completion(usage=usage))
    rows = [f"row {number}" for number in range(50)]
    run = await finish(caller, rows, concurrency=1, budget=budget)

    assert len(gateway.requests) == requests
    assert run.stopped.startswith("budget")
    assert (run.cost, run.usage.total_tokens) == (requests * Decimal("0.01"), requests * 15)


async def test_budget_of_time(caller: Caller, gateway: Gateway):
    """
    After its seconds a run ends, and cancels a request that hangs. A retry goes on with its row, if
    it gets seconds of its own.
    """
    gate = Gate()
    gateway.reply(completion("one"))
    gateway.reply(completion("two"), before=gate)
    with anyio.fail_after(20):
        run = await finish(
            caller, ["one", "two", "three"], concurrency=1, budget=aistats.Budget(seconds=0.5)
        )
    gate.open()

    assert run.texts() == ["one", None, None]
    assert run.stopped == "budget: 0.5 seconds are over"
    if isinstance(run, aistats.AsyncRun):
        assert (await finished(run.retry())).stopped == "budget: 0.5 seconds are over"
    again = await finished(run.retry(budget=aistats.Budget(seconds=60)))
    assert (again.texts(), again.stopped) == (["one", "two", "three"], None)


async def test_budget_with_many_in_flight(caller: Caller, gateway: Gateway):
    """
    A budget holds with 100 requests in flight, after answers that the checkpoint had, and for the
    retry.
    """
    usage = {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15, "cost": 0.01}
    for _ in range(200):
        gateway.reply(completion(usage=usage))
    rows = [f"row {number}" for number in range(200)]
    run = await finish(caller, rows, concurrency=100, budget=aistats.Budget(usd=0.10))
    again = await finished(run.retry())

    assert (run.cost, again.cost) == (Decimal("0.10"), 0)
    assert len(gateway.requests) == 10
    assert run.stopped == again.stopped == "budget: 0.10 of 0.1 USD are used up"


async def test_the_first_error_is_raised_at_once(caller: Caller, gateway: Gateway):
    """
    With `on_error="raise"` a request that hangs does not delay the error.
    """
    gate = Gate()
    gateway.reply(completion("one"))
    gateway.reply(completion("two"), before=gate)
    gateway.reply(error_body("bad_request"), 400)
    run = caller.client.map(["one", "two", "three"], model=MODEL, concurrency=2, on_error="raise")
    with anyio.fail_after(20), pytest.raises(aistats.BadRequestError):
        await finished(run)
    gate.open()

    assert [outcome.index for outcome in run.outcomes] == [0, 2]
    assert [item.index for item in run._engine.outbox.unstarted] == [1]


async def test_cost_of_an_answer_that_was_cut(caller: Caller, gateway: Gateway):
    """
    An answer that was cut and asked again counts in the cost and in the budget.
    """
    usage = {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15, "cost": 0.01}
    cut = json.dumps(completion(usage=usage)).encode()[:-30]
    gateway.reply(completion(usage=usage))
    gateway.reply(cut)
    for _ in range(9):
        gateway.reply(completion(usage=usage))
    policy = aistats.RetryPolicy(base=0)
    rows = [f"row {number}" for number in range(9)]
    budget = aistats.Budget(usd=0.05)
    run = await finish(caller, rows, concurrency=1, budget=budget, max_retries=policy)

    assert (len(gateway.requests), run.cost) == (5, Decimal("0.05"))
    assert len([outcome for outcome in run.outcomes if outcome.ok]) == 4


async def test_budget_of_those_that_wait_for_the_pace(caller: Caller, gateway: Gateway):
    """
    What waits for its turn is not started, either, once a budget is used up.
    """
    rows = [str(number) for number in range(30)]
    budget = aistats.Budget(tokens=45)
    run = await finish(caller, rows, concurrency=40, rpm=300, budget=budget)

    assert 3 <= len(gateway.requests) <= 10  # five may go at once
    assert run.stopped.startswith("budget")


async def test_budget_of_those_that_were_too_fast(caller: Caller, gateway: Gateway):
    """
    A throttled row is not sent again once the budget is used up. A retry sends it.
    """
    gate = Gate()
    gateway.reply(completion("first"))
    for _ in range(3):
        gateway.reply(error_body("rate_limited"), 429, {"retry-after-ms": "100"}, before=gate)
    rows = ["first", *"abcde"]
    for _ in range(2):
        gateway.reply(completion(usage={"total_tokens": 450}))
    for row in "abc":
        gateway.reply(completion(row))
    budget = aistats.Budget(tokens=900)
    run = caller.client.map(rows, model=MODEL, concurrency=5, budget=budget)
    async with anyio.create_task_group() as group:
        group.start_soon(finished, run)
        await auntil(lambda: len(gateway.requests) == 6)
        gate.open()

    assert len(gateway.requests) == 6
    assert (len(run.outcomes), run.progress.throttled) == (3, 3)
    assert run.stopped.startswith("budget")
    again = run.retry(budget=aistats.Budget())
    assert None not in (await finished(again)).texts()
    assert len(gateway.requests) == 9


# -- a pace -------------------------------------------------------------------------------------


async def test_pace(caller: Caller):
    """
    With `rpm` and `tpm` requests keep to the pace, and all of them are made.
    """
    run = await finish(caller, ["one", "two", "three"], rpm=600, tpm=600_000)

    assert run.texts() == ["one", "two", "three"]


async def test_what_waits_is_not_under_way(caller: Caller, gateway: Gateway):
    """
    A request that waits for its turn is not under way, and is not sent after the run's end.
    """
    seen: list[aistats.Progress] = []
    budget = aistats.Budget(seconds=0.7)
    run = await finish(
        caller, list("abcdef"), concurrency=6, rpm=60, budget=budget, progress=seen.append
    )

    assert max(progress.in_flight for progress in seen) <= 1
    assert (len(gateway.requests), run.texts()) == (1, ["a", *[None] * 5])


async def test_retries_count_for_the_pace(caller: Caller, gateway: Gateway):
    """
    What a call had to try again makes the next requests wait.
    """
    for _ in range(12):
        gateway.reply(error_body(), 500)
    policy = aistats.RetryPolicy(max_retries=12, base=0)
    begun = time.monotonic()
    run = await finish(caller, ["one", "two"], rpm=600, concurrency=1, max_retries=policy)

    assert run.texts() == ["one", "two"]
    assert time.monotonic() - begun > 0.3  # 13 at once were 3 too many, and the next is one more


async def test_the_pace_after_a_cooldown(gateway: Gateway):
    """
    What would have been sent during a cooldown doesn't go all at once after it.
    """
    gateway.reply(completion("row 0"))
    gateway.reply(error_body("rate_limited"), 429, {"retry-after-ms": "1500"})
    rows = [f"row {number}" for number in range(25)]
    begun = time.monotonic()
    async with aistats.AsyncClient(KEY, gateway.url) as client:
        run = await client.map(rows, model=MODEL, rpm=600, concurrency=30)

    assert run.texts() == rows
    # Of 26 requests ten went at once, ten more after the cooldown, and six in a second's pace.
    assert time.monotonic() - begun > 2


@pytest.mark.parametrize("name", ["max_output_tokens", "max_completion_tokens", "max_tokens"])
async def test_the_pace_of_unknown_tokens(caller: Caller, gateway: Gateway, name: str):
    """
    An answer that doesn't say what it took counts as what it was allowed, by any of its names.
    """
    for _ in range(2):
        gateway.reply(completion(usage=None))
    begun = time.monotonic()
    run = await finish(caller, ["one", "two"], tpm=60_000, **{name: 600})

    assert run.errors == []
    assert time.monotonic() - begun > 0.2


async def test_a_throttle_takes_no_tokens(caller: Caller, gateway: Gateway):
    """
    What was too fast gives the tokens back that it was thought to take.
    """
    gateway.reply(error_body("rate_limited"), 429, SOON)
    with anyio.fail_after(10):
        run = await finish(caller, ["one"], tpm=600, max_output_tokens=500)

    assert run.texts() == ["one"]


async def test_the_wait_for_the_pace_is_not_the_call_s(caller: Caller, gateway: Gateway):
    """
    The time that a call may take begins when it is first sent.
    """
    rows = [f"row {number}" for number in range(23)]  # ten at once, and then ten a second
    for _ in rows[:-1]:
        gateway.reply()
    gateway.reply(error_body("rate_limited"), 429, SOON)
    run = await finish(caller, rows, rpm=600, timeout=1.1)

    assert run.errors == []
    assert [attempt.status for attempt in run.outcomes[-1].attempts] == [429, 200]


# -- once more ----------------------------------------------------------------------------------


async def test_retry(caller: Caller, gateway: Gateway):
    """
    A retry asks for what failed and what was never started, and puts the answers in place.
    """
    gateway.reply(completion("row 0"))
    gateway.reply(error_body(), 500)
    gateway.reply(error_body("unauthorised"), 401)
    rows = (f"row {number}" for number in range(20))
    run = await finish(caller, rows, concurrency=1)
    assert [outcome.ok for outcome in run.outcomes] == [True, False, False]

    again = await finished(run.retry())

    assert again.texts() == [f"row {number}" for number in range(20)]
    assert len(gateway.requests) == 3 + 19
    assert again.usage.total_tokens == 19 * 15
    assert again.errors == []


@pytest.mark.parametrize(("concurrency", "shown"), [("auto", 1), (3, 3), (1000, 100)])
async def test_progress_of_a_run_that_has_not_begun(caller: Caller, concurrency: Any, shown: int):
    """
    A run that has not begun has no cost, and shows its own concurrency.
    """
    run = caller.client.map(["one"], model=MODEL, concurrency=concurrency)

    assert (run.cost, run.progress.cost) == (None, None)
    assert concurrency == "auto" or run.progress.concurrency == shown


async def test_a_retry_knows_the_answers_to_duplicates(caller: Caller, gateway: Gateway):
    """
    A retry takes the answer to a duplicate from the run before, and asks for nothing twice.
    """
    gateway.reply(completion("an answer"))
    gateway.reply(error_body("unauthorised"), 401)
    rows = ["one", "two", *"abcdefgh", "one"]
    run = await finish(caller, rows, concurrency=1)
    assert run.texts()[-1] is None

    again = await finished(run.retry())

    assert again.texts() == ["an answer", *rows[1:-1], "an answer"]
    assert [outcome.cached for outcome in again.outcomes] == [*[False] * 10, True]
    assert len(gateway.requests) == 2 + 9


async def test_a_run_is_done_once(caller: Caller):
    """
    A run that was iterated is not done again; one that was awaited has its outcomes.
    """
    run = caller.client.map(["one"], model=MODEL)
    assert [outcome.text async for outcome in iterate(run)] == ["one"]
    with pytest.raises(ConfigurationError, match="done once"):
        await finished(run)
    with pytest.raises(ConfigurationError, match="done once"):
        await anext(iterate(run))
    with pytest.raises(ConfigurationError, match="not kept"):
        run.retry()

    run = await finish(caller, ["one"])
    assert await finished(run) is run


async def test_what_a_checkpoint_does_not_know(caller: Caller, gateway: Gateway, tmp_path: Path):
    """
    Headers and the URL's query are not part of a request that is noted.
    """
    path = tmp_path / "run.jsonl"
    await finish(caller, ["one"], checkpoint=path)
    again = await finish(
        caller, ["one"], checkpoint=path, extra_headers={"X-A": "1"}, extra_query={"a": "1"}
    )

    assert again.progress.cached == 1
    assert len(gateway.requests) == 1


async def test_nothing_to_do(caller: Caller, gateway: Gateway):
    """
    A run without rows is done at once.
    """
    run = await finish(caller, [])

    assert (run.texts(), run.outcomes, run.stopped, run.latency.p50) == ([], [], None, None)
    assert gateway.requests == []
    assert [outcome async for outcome in iterate(caller.client.map([], model=MODEL))] == []


async def test_numbers_begin_nothing(caller: Caller, gateway: Gateway):
    """
    Asked how far it is, a run doesn't begin.
    """
    run = caller.client.map(["one"], model=MODEL)

    assert (run.usage.total_tokens, run.cost, run.latency.p50, run.stopped) == (0, None, None, None)
    assert (run.progress.done, run.is_done) == (0, False)
    assert gateway.requests == []
    assert (await finished(run)).texts() == ["one"]


async def test_results_begin_a_run(gateway: Gateway):
    """
    A synchronous run begins when its results are asked for; an asynchronous one says how.
    """
    async with aistats.AsyncClient(KEY, gateway.url) as client:
        run = client.map(["one"], model=MODEL)
        with pytest.raises(ConfigurationError, match="await it first"):
            run.texts()
        assert repr(run) == "<AsyncRun new: 0 of 1, 0 failed, 0 cached>"
    with aistats.Client(KEY, gateway.url) as client:
        texts = await in_thread(client.map(["one"], model=MODEL).texts)
    assert texts == ["one"]


async def test_tables(caller: Caller, gateway: Gateway):
    """
    The outcomes are flat dicts, too, for a table.
    """
    gateway.reply(completion("one"))
    gateway.reply(error_body(), 500)
    run = await finish(caller, ["one", "two"], concurrency=1)
    first, second = run.to_dicts()

    assert (first["text"], first["error"], first["prompt_tokens"]) == ("one", None, 11)
    assert (second["text"], second["prompt_tokens"]) == (None, None)
    assert second["error"].startswith("InternalServerError: 500 upstream_error")
    assert first.keys() == second.keys()


async def test_pandas(caller: Caller, monkeypatch: pytest.MonkeyPatch):
    """
    Without pandas, `to_pandas` says what to install.
    """
    monkeypatch.setitem(sys.modules, "pandas", None)
    run = await finish(caller, ["one"])

    with pytest.raises(ConfigurationError, match="pip install pandas"):
        run.to_pandas()


async def test_repr(caller: Caller, gateway: Gateway):
    """
    A run tells how it stands, and an outcome shows neither the request nor the answer.
    """
    gateway.reply(completion("a secret answer"))
    gateway.reply(error_body("unauthorised"), 401)
    run = await finish(caller, ["one", "two", "three"], concurrency=1)

    assert re.fullmatch(
        r"<(Async)?Run done: 2 of 3, 1 failed, 0 cached, stopped='401 .*'>", repr(run)
    )
    assert "secret" not in repr(run)
    assert "a secret answer" in repr(run.outcomes)


# -- the checkpoint -----------------------------------------------------------------------------


async def test_resume(caller: Caller, gateway: Gateway, tmp_path: Path):
    """
    The same call again asks for nothing that is done, tries failures again, and goes on.
    """
    path = tmp_path / "run.jsonl"
    gateway.reply(completion("row 0"))
    gateway.reply(error_body(), 500)
    rows = [f"row {number}" for number in range(10)]
    first = await finish(caller, rows[:5], concurrency=1, checkpoint=path)
    assert len(gateway.requests) == 5

    again = await finish(caller, rows, checkpoint=path)

    assert again.texts() == rows
    assert len(gateway.requests) == 5 + 6
    assert [outcome.index for outcome in again.outcomes if outcome.cached] == [0, 2, 3, 4]
    assert again.outcomes[2].response == first.outcomes[2].response
    assert again.outcomes[2].attempts == first.outcomes[2].attempts
    assert again.usage.total_tokens == 6 * 15


async def test_a_resumed_run_is_not_probed(caller: Caller, gateway: Gateway, tmp_path: Path):
    """
    After an answer that was noted, a row that is refused for good speaks for itself alone.
    """
    path = tmp_path / "run.jsonl"
    await finish(caller, ["row 0"], checkpoint=path)
    gateway.reply(error_body("context_length_exceeded"), 400)
    rows = ["row 0", "too long", "row 2", "row 3"]
    run = await finish(caller, rows, checkpoint=path)

    assert run.stopped is None
    assert [outcome.index for outcome in run.errors] == [1]


async def test_a_changed_prompt(caller: Caller, gateway: Gateway, tmp_path: Path):
    """
    Another prompt, parameter or extra body is another request, even under a key of the caller's.
    """
    path = tmp_path / "run.jsonl"
    options = {"checkpoint": path, "key": lambda row: f"id {row}"}
    for count, changes in enumerate(
        (
            {"prompt": lambda row: f"Classify {row}"},
            {"prompt": lambda row: f"Sort {row}"},
            {"prompt": lambda row: f"Sort {row}", "temperature": 0.5},
            {"prompt": lambda row: f"Sort {row}", "extra_body": {"new": 1}},
        ),
        1,
    ):
        run = await finish(caller, [1, 2], **options, **changes)
        assert len(gateway.requests) == 2 * count
        assert [outcome.key for outcome in run.outcomes] == ["id 1", "id 2"]
        run = await finish(caller, [1, 2], **options, **changes)
        assert len(gateway.requests) == 2 * count
        assert run.texts() == [changes["prompt"](row) for row in (1, 2)]


async def test_keys_of_the_caller_s(caller: Caller, gateway: Gateway, tmp_path: Path):
    """
    Rows that share a call are noted each under its key.
    """
    path = tmp_path / "run.jsonl"
    await finish(caller, ["a1", "b1"], prompt=lambda _: "same", key=str, checkpoint=path)
    keys = [json.loads(line)["key"] for line in path.read_text().splitlines()[1:]]

    assert sorted(keys) == ["a1", "b1"]
    assert len(gateway.requests) == 1


async def test_a_key_that_is_no_string(caller: Caller, gateway: Gateway):
    """
    A `key` of a wrong type is wrong for all rows, so it ends the run at the first one.
    """
    run = await finish(caller, range(100), prompt=str, key=lambda row: row)

    assert run.stopped.startswith("key must return a string; for row 0 it returned int.")
    assert [type(outcome.error) for outcome in run.outcomes] == [ConfigurationError]
    assert gateway.requests == []


class AsyncPrompt:
    """
    An object whose calls are coroutines.
    """

    async def __call__(self, row: Any) -> str:
        await anyio.lowlevel.checkpoint()
        return f"Sort {row}"


async def async_request(row: Any) -> Any:
    """
    A request for *row* that has to be awaited.
    """
    await anyio.lowlevel.checkpoint()
    return {"messages": f"Sort {row}"}


async def async_key(row: Any) -> str:
    """
    A key for *row* that has to be awaited.
    """
    await anyio.lowlevel.checkpoint()
    return f"key {row}"


ASYNC_FUNCTIONS = [
    {"prompt": AsyncPrompt()},
    {"prompt": lambda row: AsyncPrompt()(row)},
    {"prompt": functools.partial(AsyncPrompt.__call__, AsyncPrompt())},
    {"request": async_request},
    {"prompt": lambda row: f"Sort {row}", "key": async_key},
]


@pytest.mark.parametrize("functions", ASYNC_FUNCTIONS)
async def test_asynchronous_functions(gateway: Gateway, functions: dict[str, Any]):
    """
    `AsyncClient.map` awaits the functions of a row.
    """
    async with aistats.AsyncClient(KEY, gateway.url) as client:
        run = await client.map(["a", "b"], model=MODEL, **functions)

    assert run.texts() == ["Sort a", "Sort b"]
    assert "key" not in functions or [each.key for each in run.outcomes] == ["key a", "key b"]


@pytest.mark.parametrize("functions", ASYNC_FUNCTIONS)
def test_asynchronous_functions_of_a_synchronous_client(
    gateway: Gateway, functions: dict[str, Any]
):
    """
    `Client.map` refuses a function that has to be awaited, before anything is sent.
    """
    with aistats.Client(KEY, gateway.url) as client:
        try:
            run = client.map(range(100), model=MODEL, **functions)
        except ConfigurationError as error:
            reason = str(error)
        else:  # a plain function that returns a coroutine is found at the first row
            reason = str(run.wait().stopped)
            assert len(run.outcomes) == 1

    assert re.match("(prompt|request|key) must be a plain function here", reason)
    assert gateway.requests == []


async def test_a_prompt_that_waits_as_the_run_is_stopped(gateway: Gateway):
    """
    A run that is cancelled while it awaits a function of the caller's ends at once.
    """
    begun = asyncio.Event()

    async def wait(row: Any) -> str:
        begun.set()
        await asyncio.Event().wait()
        return str(row)

    async with aistats.AsyncClient(KEY, gateway.url) as client:
        run = client.map(["a"], model=MODEL, prompt=wait)
        task = asyncio.ensure_future(finished(run))
        await begun.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    assert gateway.requests == []


async def test_two_runs_on_one_file(caller: Caller, gateway: Gateway, tmp_path: Path):
    """
    A second run on the file is refused while the first goes on, and is welcome afterwards.
    """
    gate = Gate()
    gateway.reply(before=gate)
    path = tmp_path / "run.jsonl"
    async with anyio.create_task_group() as group:
        group.start_soon(lambda: finish(caller, ["one"], checkpoint=path))
        await auntil(gate.reached.is_set)
        with pytest.raises(ConfigurationError, match="another run"):
            await finish(caller, ["one"], checkpoint=path)
        gate.open()

    assert (await finish(caller, ["one"], checkpoint=path)).outcomes[0].cached


KILLED = """
import os, random, signal, sys, time
import aistats

path, style, rows, moments, seed = {path!r}, {style!r}, {rows}, {moments}, {seed}
prompts = [f"row {{number}}" for number in range(rows)]
dice = random.Random(seed)


def work():
    options = dict(model="m", checkpoint=path, concurrency=8)
    if style == "sync":
        with aistats.Client() as client:
            run = client.map(prompts, **options).wait()
    else:
        import asyncio

        async def main():
            async with aistats.AsyncClient() as client:
                return await client.map(prompts, **options)

        run = asyncio.run(main())
    assert run.texts() == prompts, run
    return run


def size():
    try:
        return os.path.getsize(path)
    except FileNotFoundError:
        return 0


# Each life is a process of its own, forked of this one, which has neither threads nor a loop.
for _ in range(moments):
    before = size()
    pid = os.fork()
    if pid == 0:
        work()
        os._exit(0)
    target = before + dice.randrange(0, 40 * rows * 660 // (20 * moments))
    while size() <= target and os.waitpid(pid, os.WNOHANG) == (0, 0):
        time.sleep(dice.random() * 0.002)
    try:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    except (ProcessLookupError, ChildProcessError):
        pass
run = work()
print(sum(outcome.cached for outcome in run.outcomes))
"""


@pytest.mark.parametrize("killed_style", ["async", "sync"])
def test_killed(killed_style: str, gateway: Gateway, script: Callable[..., Script], tmp_path: Path):
    """
    Of a process that is killed at any moment only what was under way is asked for again.
    """
    killed(killed_style, gateway, script, tmp_path / "run.jsonl", moments=2, rows=120)


def killed(
    style: str,
    gateway: Gateway,
    script: Callable[..., Script],
    path: Path,
    *,
    moments: int,
    rows: int,
    seed: int = 1,
) -> tuple[int, int]:
    """
    How many requests were sent, and how many rows were done when the last life began.

    Lives of a run were killed at so many random moments, and a last one went on to the end.
    """
    code = KILLED.format(path=str(path), style=style, rows=rows, moments=moments, seed=seed)
    cached = int(script(code).output(within=50.0))
    times = Counter(prompts_at(gateway))

    assert times.keys() == {f"row {number}" for number in range(rows)}
    assert times.total() <= rows + moments * 8
    records = [json.loads(line) for line in path.read_bytes().splitlines()[1:]]
    texts = {
        each["index"]: each["response"]["choices"][0]["message"]["content"] for each in records
    }
    assert texts == {number: f"row {number}" for number in range(rows)}
    return times.total(), cached


# -- interruptions ------------------------------------------------------------------------------


async def test_cancelled(gateway: Gateway, tmp_path: Path):
    """
    A cancelled task ends the run at once: what was done is kept, the rest is never sent.
    """
    path = tmp_path / "run.jsonl"
    gate = Gate()
    for number in range(5):
        gateway.reply(completion(f"row {number}"))
    gateway.reply(before=gate)
    async with aistats.AsyncClient(KEY, gateway.url) as client:
        run = client.map(
            (f"row {number}" for number in range(100)), model=MODEL, concurrency=1, checkpoint=path
        )
        task = asyncio.create_task(finished(run))
        await auntil(gate.reached.is_set)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

        assert run.stopped == "interrupted"
        assert run.texts()[:6] == [*(f"row {number}" for number in range(5)), None]
        await auntil(lambda: gateway.requests[5].disconnected)
        again = await run.retry()
        assert again.texts() == [f"row {number}" for number in range(100)]
    assert len(gateway.requests) == 6 + 95


@pytest.mark.parametrize("how", ["await", "for"])
async def test_cancelled_by_a_time_out(gateway: Gateway, how: str):
    """
    A limit of time around a run, or around a step of it, ends the run.
    """
    gate = Gate()
    gateway.reply(before=gate)
    async with aistats.AsyncClient(KEY, gateway.url) as client:
        run = client.map(["one", "two"], model=MODEL)
        with anyio.move_on_after(0.1):
            await (run if how == "await" else anext(aiter(run)))
        assert (run.stopped, run.is_done) == ("interrupted", True)
    await auntil(lambda: gateway.requests[0].disconnected)


INTERRUPTED = """
import asyncio, time
import aistats

style, path = {style!r}, {path!r}
rows = [f"row {{number}}" for number in range(100)]
options = dict(model="m", concurrency=2, checkpoint=path)
runs = []


async def main():
    async with aistats.AsyncClient() as client:
        runs.append(client.map(rows, **options))
        await runs[0]


begun = 0.0
try:
    if style == "async":
        asyncio.run(main())
    else:
        with aistats.Client() as client:
            runs.append(client.map(rows, **options))
            if style == "sync":
                runs[0].wait()
            else:
                for _ in runs[0]:
                    pass
except KeyboardInterrupt:
    print("interrupted", runs[0].stopped, runs[0].progress.done)
"""


@pytest.mark.parametrize("how", ["async", "sync", "for"])
def test_ctrl_c(how: str, gateway: Gateway, script: Callable[..., Script], tmp_path: Path):
    """
    Ctrl-C ends a run: the checkpoint is whole, and what was done can be read.
    """
    gate = Gate()
    for number in range(5):
        gateway.reply(completion(f"row {number}"))
    for _ in range(2):
        gateway.reply(before=gate)
    path = tmp_path / "run.jsonl"
    program = script(INTERRUPTED.format(style=how, path=str(path)))
    program.reach(lambda: len(gateway.requests) == 7 and gate.reached.is_set())
    program.interrupt()

    assert program.output() == "interrupted interrupted 5\n"
    until(lambda: all(seen.disconnected for seen in gateway.requests[5:]))
    assert len(path.read_bytes().splitlines()) == 1 + 5
    assert path.read_bytes().endswith(b"\n")


async def test_stopped_and_cancelled_at_once(gateway: Gateway):
    """
    A row that waits as the run is stopped and cancelled at once is given up once.
    """
    gateway.reply(completion("a"))
    for _ in range(2):
        gateway.reply(error_body("rate_limited"), 429, {"Retry-After": "30"})
    async with aistats.AsyncClient(KEY, gateway.url) as client:
        budget = aistats.Budget(seconds=1)
        run = client.map(list("abc"), model=MODEL, concurrency=2, dedup=False, budget=budget)
        begun = time.monotonic()
        task = asyncio.create_task(finished(run))
        await auntil(lambda: run.progress.throttled == 2)
        asyncio.get_running_loop().call_at(begun + 1, task.cancel)
        # So that both ring in one step of the loop.
        time.sleep(begun + 1.2 - time.monotonic())  # noqa: ASYNC251
        with pytest.raises(asyncio.CancelledError):
            await task

        assert [outcome.index for outcome in run.outcomes] == [0]
        assert sorted(item.index for item in run._engine.outbox.unstarted) == [1, 2]


async def test_a_loop_that_is_left(caller: Caller, gateway: Gateway, tmp_path: Path):
    """
    Who leaves a loop early ends the run, and the file is free for the next.
    """
    path = tmp_path / "run.jsonl"
    rows = [f"row {number}" for number in range(300)]

    async def leave() -> None:
        async for outcome in caller.client.map(rows, model=MODEL, checkpoint=path):
            if outcome.index == 20:
                break

    def leave_sync() -> None:
        for outcome in caller.client.map(rows, model=MODEL, checkpoint=path):
            if outcome.index == 20:
                break

    if isinstance(caller.client, aistats.AsyncClient):
        await leave()
    else:
        await in_thread(leave_sync)
    run = await finish(caller, rows, checkpoint=path)

    assert run.texts() == rows
    assert sum(outcome.cached for outcome in run.outcomes) >= 21
    assert len(gateway.requests) <= 300 + 100


async def test_a_client_that_is_closed(connect: Callable[..., Caller], gateway: Gateway):
    """
    A client that is closed under its run ends the run with an error that says so.
    """
    gate = Gate()
    gateway.reply(before=gate)
    caller = connect(gateway.url)
    errors: list[BaseException] = []

    async def wait() -> None:
        try:
            run = await finish(caller, ["one", "two"])
        except ConfigurationError as error:
            errors.append(error)
        else:
            errors.append(run.outcomes[0].error)
            assert run.stopped is not None

    async with anyio.create_task_group() as group:
        group.start_soon(wait)
        await auntil(gate.reached.is_set)
        await caller.aclose()

    assert len(errors) == 1
    assert isinstance(errors[0], aistats.AIStatsError)


@pytest.mark.parametrize("where", ["rows", "prompt"])
async def test_nothing_is_lost_when_interrupted(caller: Caller, gateway: Gateway, where: str):
    """
    Rows that were pulled when a caller's function was interrupted are there for a retry.
    """

    class Stop(BaseException):
        pass

    class Rows:
        number = -1

        def __iter__(self) -> Iterator[str]:
            return self

        def __next__(self) -> str:
            if where == "rows":
                pause(self.number + 1)
            if self.number == 39:
                raise StopIteration
            self.number += 1
            return f"row {self.number}"

    def pause(number: int) -> None:
        nonlocal is_interrupted
        if number == 33 and not is_interrupted:
            is_interrupted = True
            raise Stop

    def prompt(row: str) -> str:
        if where == "prompt":
            pause(int(row[4:]))
        return row

    is_interrupted = False
    run = caller.client.map(Rows(), model=MODEL, prompt=prompt, concurrency=40)
    with pytest.raises(Stop):
        await finished(run)
    again = await finished(run.retry())

    assert again.texts() == [f"row {number}" for number in range(40)]


async def test_a_function_that_is_interrupted(caller: Caller, tmp_path: Path):
    """
    What a caller's function raises to end the program ends the run, and frees the file.
    """

    class Stop(BaseException):
        pass

    def prompt(row: int) -> str:
        if row == 30:
            raise Stop
        return f"row {row}"

    path = tmp_path / "run.jsonl"
    run = caller.client.map(range(100), model=MODEL, prompt=prompt, checkpoint=path)
    with pytest.raises(Stop):
        await finished(run)

    assert run.stopped == "interrupted"
    assert len((await finish(caller, ["one"], checkpoint=path)).outcomes) == 1


# -- progress -----------------------------------------------------------------------------------


async def test_progress(caller: Caller, gateway: Gateway):
    """
    A function is told how far the run is, and at the end that all is done.
    """
    gateway.reply(completion("one", usage={"total_tokens": 15, "cost": 0.25}))
    gateway.reply(error_body(), 500)
    seen: list[aistats.Progress] = []
    rows = ["one", "two", "three", "three"]
    run = await finish(caller, rows, concurrency=1, progress=seen.append)

    last = seen[-1]
    assert (last.done, last.failed, last.cached, last.total) == (4, 1, 1, 4)
    assert (last.in_flight, last.eta, last.cost) == (0, 0.0, Decimal("0.25"))
    assert last.requests_per_second >= 0
    assert last.p50 is not None
    assert run.progress.done == 4


async def test_progress_of_a_generator(caller: Caller):
    """
    Where the number of rows is not known, neither is the time that is left.
    """
    run = await finish(caller, iter(["one"]))

    assert (run.progress.total, run.progress.eta) == (None, None)


async def test_progress_that_fails(caller: Caller):
    """
    What the function raises ends the run and is raised.
    """

    def show(_: aistats.Progress) -> None:
        raise LookupError("no screen")

    with pytest.raises(LookupError, match="no screen"):
        await finish(caller, [f"row {number}" for number in range(500)], progress=show)


async def test_an_error_of_the_key_is_named(caller: Caller, gateway: Gateway):
    """
    The outcome's error is what a single call would have raised.
    """
    gateway.reply(error_body("unauthorised"), 401)
    run = await finish(caller, ["one"])

    with pytest.raises(AuthenticationError):
        run.outcomes[0].unwrap()
    assert KEY not in repr(run.outcomes) + str(run.stopped)
    assert isinstance(run.outcomes[0], Outcome)


# -- runs that end in a bad moment --------------------------------------------------------------


class Stop(BaseException):
    """
    What ends a program, as Ctrl-C does.
    """


async def test_rows_that_are_awaited_outlive_a_stop(gateway: Gateway):
    """
    A run that stops while it waits for a row ends at once, and the rows go on where they were.
    """
    more = asyncio.Event()

    async def rows() -> AsyncIterator[str]:
        yield "row 0"
        await more.wait()
        for number in range(1, 5):
            yield f"row {number}"

    gateway.reply(error_body("unauthorised"), 401)
    async with aistats.AsyncClient(KEY, gateway.url) as client:
        run = client.map(rows(), model=MODEL)
        with anyio.fail_after(5):
            await run
        assert run.stopped is not None
        # The first one's wait for a row is not over yet.
        again = asyncio.ensure_future(finished(run.retry()))
        await auntil(lambda: len(gateway.requests) == 2)
        more.set()

        assert (await again).texts() == [f"row {number}" for number in range(5)]


async def test_retried_twice(caller: Caller, gateway: Gateway):
    """
    A second retry of a run is the first one until that has begun, and then the retry of that.
    """
    for _ in range(3):
        gateway.reply(error_body("busy"), 500)
    run = await finish(caller, ["one", "two"], concurrency=1)
    again = run.retry()
    assert run.retry() is again
    await finished(again)
    last = await finished(run.retry())

    assert again.texts() == [None, "two"]
    assert last.texts() == ["one", "two"]
    assert prompts_at(gateway) == ["one", "two", "one", "two", "one"]


async def test_no_retry_of_what_is_under_way(caller: Caller, gateway: Gateway):
    """
    As long as a run is under way nobody knows what is left of it.
    """
    gate = Gate()
    gateway.reply(before=gate)
    run = caller.client.map(["one"], model=MODEL, progress=lambda _: refused(run))
    told: list[str] = []

    def refused(run: Any) -> None:
        try:
            run.retry()
        except ConfigurationError as error:
            told.append(str(error))
            gate.open()

    await finished(run)

    assert "under way" in told[0]
    assert run.texts() == ["Hello there"]


async def test_a_retry_of_nothing(caller: Caller, gateway: Gateway):
    """
    A retry of a run in which all went well is done with nothing, and has its answers.
    """
    run = await finish(caller, ["one", "two"])
    again = run.retry()
    assert (again.progress.done, again.progress.total) == (0, 0)
    await finished(again)

    assert (again.progress.done, again.progress.total) == (0, 0)
    assert again.texts() == ["one", "two"]
    assert len(gateway.requests) == 2


def test_a_row_that_fails_as_the_run_ends(gateway: Gateway):
    """
    A row whose prompt raises after the run has ended is left for a retry.
    """
    gateway.reply(error_body("unauthorised"), 401)

    def prompt(row: int) -> str:
        if row == 2:
            until(lambda: run.is_done)
            raise ValueError("It makes no prompt.")
        return str(row)

    with aistats.Client(KEY, gateway.url) as client:
        run = client.map([0, 1, 2, 3], model=MODEL, prompt=prompt)
        assert [outcome.index for outcome in run.outcomes] == [0]
        again = run.retry().wait()

    assert again.texts() == ["0", "1", None, "3"]
    assert [type(outcome.error) for outcome in again.errors] == [ValueError]


async def test_an_error_after_a_stop_is_raised(caller: Caller, gateway: Gateway):
    """
    With `on_error="raise"` an error is raised even if a budget has stopped the run before.
    """
    stop, failure = Gate(), Gate()
    gateway.reply(completion(usage={"total_tokens": 0}))
    gateway.reply(completion(usage={"total_tokens": 15}), before=stop)
    gateway.reply(error_body("busy"), 500, before=failure)
    budget = aistats.Budget(tokens=10)
    rows = [f"row {number}" for number in range(9)]
    run = caller.client.map(rows, model=MODEL, concurrency=2, budget=budget, on_error="raise")
    task = asyncio.ensure_future(finished(run))
    await auntil(failure.reached.is_set)
    stop.open()
    await auntil(lambda: run.stopped)
    failure.open()

    with pytest.raises(aistats.InternalServerError):
        await task


async def test_iterated_after_its_end(caller: Caller):
    """
    Whoever iterates a run that is done and kept is told where its outcomes are.
    """
    run = await finish(caller, ["one"])

    async def iterate() -> None:
        if isinstance(run, aistats.Run):
            next(iter(run))
        else:
            await anext(aiter(run))

    with pytest.raises(ConfigurationError, match=r"Its outcomes are in run\.outcomes\."):
        await iterate()


async def test_two_wait_for_one_run(caller: Caller, gateway: Gateway):
    """
    Whoever asks for a run that is under way waits for the same end.
    """
    gate = Gate()
    gateway.reply(before=gate)
    run = caller.client.map(["one", "two"], model=MODEL)
    tasks = [asyncio.ensure_future(finished(run)) for _ in range(3)]
    await auntil(gate.reached.is_set)
    if isinstance(run, aistats.Run):
        tasks.append(asyncio.ensure_future(in_thread(run.retry)))
    gate.open()

    for result in await asyncio.gather(*tasks):
        assert len((await finished(result)).texts()) == 2
    assert len(gateway.requests) == 2


async def test_nothing_is_in_flight_after_the_end(gateway: Gateway):
    """
    A request whose task is cancelled before its first step is not under way any more.
    """

    def prompt(row: str) -> str:
        if row == "two":
            raise Stop
        return row

    async with aistats.AsyncClient(KEY, gateway.url) as client:
        run = client.map(["one", "two"], model=MODEL, prompt=prompt)
        with pytest.raises(Stop):
            await run
        assert run.progress.in_flight == 0


async def test_too_late_to_stop(caller: Caller, gateway: Gateway):
    """
    A run whose last row is done was not stopped, even if there was a reason to meanwhile.
    """
    failure, last = Gate(), Gate()
    gateway.reply()
    gateway.reply(error_body("busy"), 500, before=failure)
    gateway.reply(before=last)
    rows = ["one", "two", "three"]
    run = caller.client.map(rows, model=MODEL, stop_after=1, concurrency=2, max_retries=0)
    task = asyncio.ensure_future(finished(run))
    await auntil(last.reached.is_set)
    failure.open()
    await auntil(lambda: run.stopped)
    last.open()
    await task

    assert run.stopped is None
    assert run.progress.done == 3


async def test_cancelled_while_the_checkpoint_is_read(gateway: Gateway, tmp_path: Path):
    """
    A run that is cancelled as it reads its checkpoint leaves the file to the next one.
    """
    path = tmp_path / "run.jsonl"
    line = json.dumps({"key": "k", "index": 0, "response": completion("x" * 500)}).encode()
    path.write_bytes(b'{"aistats_checkpoint":1}\n' + (line + b"\n") * 50_000)
    async with aistats.AsyncClient(KEY, gateway.url) as client:
        run = client.map(["one"], model=MODEL, checkpoint=path)
        task = asyncio.ensure_future(finished(run))
        await auntil(lambda: repr(run).startswith("<AsyncRun under way"))
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

        assert (await client.map(["one"], model=MODEL, checkpoint=path)).texts() == ["one"]


@pytest.mark.parametrize(
    ("changes", "is_asked"),
    [
        ({"attempts": [{}]}, False),
        ({"response": {}}, True),
        ({"response": {"choices": 5}}, True),
        ({"hash": 5}, True),
    ],
    ids=repr,
)
async def test_a_damaged_record(
    caller: Caller, gateway: Gateway, tmp_path: Path, changes: dict[str, Any], is_asked: bool
):
    """
    A damaged record is a usable answer or its row is asked again; the run and its retry go on.
    """
    path = tmp_path / "run.jsonl"
    await finish(caller, ["one", "two"], checkpoint=path)
    header, first, second = path.read_bytes().splitlines()
    first = json.dumps({**json.loads(first), **changes}).encode()
    path.write_bytes(b"\n".join([header, first, second, b""]))
    gateway.requests.clear()

    run = await finish(caller, ["one", "two"], checkpoint=path)

    assert run.texts() == ["one", "two"]
    assert len(gateway.requests) == is_asked
    assert (await finished(run.retry())).texts() == ["one", "two"]


async def test_a_checkpoint_that_cannot_be_opened(caller: Caller, tmp_path: Path):
    """
    Whoever asks again is told again.
    """
    run = caller.client.map(["one"], model=MODEL, checkpoint=tmp_path)
    for _ in range(2):
        with pytest.raises(ConfigurationError, match="can't be opened"):
            await finished(run)


async def test_the_rate_is_there_at_any_time(caller: Caller):
    """
    Progress that is read twice in a row has its rate each time.
    """
    run = await finish(caller, ["one", "two"])
    rates = [run.progress.requests_per_second for _ in range(3)]

    assert all(rates), rates


async def test_a_policy_that_fails(caller: Caller, gateway: Gateway):
    """
    What the caller's `retry_if` raises is the error of the row, and the others go on.
    """

    def retry_if(error: aistats.AIStatsError) -> bool:
        raise ValueError("It can't decide.")

    gateway.reply(error_body("busy"), 500)
    policy = aistats.RetryPolicy(max_retries=0, retry_if=retry_if)
    run = await finish(caller, ["one", "two"], max_retries=policy, concurrency=1)

    assert [type(outcome.error) for outcome in run.outcomes] == [ValueError, type(None)]


async def test_a_row_without_a_key_among_duplicates(caller: Caller, gateway: Gateway):
    """
    A row whose key can't be made is no row that others wait for.
    """
    gate = Gate()
    gateway.reply(before=gate)

    def key(row: int) -> str:
        return f"{10 // (row - 1)}"

    run = caller.client.map(range(4), model=MODEL, prompt=lambda _: "same", key=key)
    task = asyncio.ensure_future(finished(run))
    await auntil(lambda: submitted(run) == 4)
    gate.open()
    await task

    assert [outcome.ok for outcome in run.outcomes] == [True, False, True, True]
    assert len(gateway.requests) == 1


async def test_what_duplicates_note(caller: Caller, gateway: Gateway, tmp_path: Path):
    """
    Duplicates with one key have one line in the checkpoint, and a failure of all is no answer.
    """
    path = tmp_path / "run.jsonl"
    gate = Gate()
    gateway.reply(error_body("busy"), 500, before=gate)
    pulled: list[str] = []

    def key(row: str) -> str:
        pulled.append(row)
        return row

    rows = ["first", "other", "other", "other"]
    failed = caller.client.map(rows, model=MODEL, prompt=lambda _: "same", key=key, checkpoint=path)
    task = asyncio.ensure_future(finished(failed))
    await auntil(lambda: len(pulled) == 4)
    gate.open()
    await task
    lines = path.read_text().splitlines()[1:]

    assert [json.loads(line)["key"] for line in lines] == ["first", "other"]
    assert [outcome.cached for outcome in failed.outcomes] == [False] * 4
    assert failed.progress.cached == 0


async def test_no_duplicates(caller: Caller, gateway: Gateway, tmp_path: Path):
    """
    With `dedup=False` a run asks for each row, whatever it has noted itself, and for none again.
    """
    path = tmp_path / "run.jsonl"
    options = {"key": lambda _: "one key", "checkpoint": path, "dedup": False, "concurrency": 1}
    await finish(caller, ["same"] * 10, **options)
    assert len(gateway.requests) == 10
    again = await finish(caller, ["same"] * 10, **options)

    assert [outcome.cached for outcome in again.outcomes] == [True] * 10
    assert len(gateway.requests) == 10
