"""
Data frames as rows: each answer is beside its own row, whatever the frame's index.
"""

from __future__ import annotations

from typing import Any

import pytest
from conftest import KEY
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from servers import Gateway, error_body

import aistats

pandas = pytest.importorskip("pandas", reason="needs the extra `pandas`")

MODEL = "openai/gpt-5-nano"

labels = st.one_of(
    st.lists(st.integers(-5, 20), max_size=12, unique=True),
    st.lists(st.sampled_from("abc"), max_size=12),  # duplicates
    st.lists(st.tuples(st.sampled_from("ab"), st.integers(0, 3)), max_size=12),  # two levels
)


def frame_of(index: list[Any], name: str | None) -> Any:
    """
    A frame with a text of its own in each row, and *index*.
    """
    texts = [f"text {number}" for number in range(len(index))]
    if index and isinstance(index[0], tuple):
        made = pandas.MultiIndex.from_tuples(index, names=[name, "level"])
    else:
        made = pandas.Index(index, name=name)
    return pandas.DataFrame({"text": texts}, index=made)


def run_of(client: aistats.Client, rows: Any, **options: Any) -> Any:
    """
    A run over *rows* that asks for each one's text.
    """
    return client.map(
        rows,
        prompt=lambda row: row if isinstance(row, str) else row["text"],
        model=MODEL,
        max_retries=0,
        **options,
    )


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(index=labels, name=st.sampled_from([None, "key", "text"]), as_series=st.booleans())
def test_each_answer_is_beside_its_row(
    gateway: Gateway, index: list[Any], name: str | None, as_series: bool
) -> None:
    """
    An assigned column of answers has each row's own, with any index of a frame or a series.
    """
    frame = frame_of(index, name)
    with aistats.Client(KEY, gateway.url) as client:
        run = run_of(client, frame["text"] if as_series else frame, dedup=False).wait()

    frame["answer"] = run.to_pandas()["text"]

    assert frame["answer"].tolist() == frame["text"].tolist()
    assert run.to_pandas().index.equals(frame.index)
    assert run.to_pandas().index.names == frame.index.names


@pytest.mark.parametrize("index", [[3, 1, 2, 0], list("abca")])
def test_rows_without_an_answer(gateway: Gateway, index: list[Any]) -> None:
    """
    Rows that failed or were never started are empty, in their places, until a retry fills them.
    """
    frame = frame_of(index, None)
    gateway.reply(error_body(), 500)
    with aistats.Client(KEY, gateway.url) as client:
        run = run_of(client, frame, concurrency=1, on_error="collect", stop_after=1).wait()
        frame["before"] = run.to_pandas()["text"]
        frame["after"] = run.retry().wait().to_pandas()["text"]

    assert frame["before"].isna().all()
    assert frame["after"].tolist() == frame["text"].tolist()


def test_a_filtered_frame(gateway: Gateway) -> None:
    """
    The answers to a part of a frame go to that part of the whole.
    """
    frame = frame_of(list(range(10)), None)
    part = frame[frame.index % 3 == 1]
    with aistats.Client(KEY, gateway.url) as client:
        frame["answer"] = run_of(client, part).wait().to_pandas()["text"]

    assert frame["answer"].dropna().index.tolist() == [1, 4, 7]
    assert frame["answer"].dropna().tolist() == part["text"].tolist()


def test_rows_of_another_kind(gateway: Gateway) -> None:
    """
    Rows without an index get one of their places in the input.
    """
    with aistats.Client(KEY, gateway.url) as client:
        table = run_of(client, ["one", "two"]).wait().to_pandas()
        empty = run_of(client, []).wait().to_pandas()

    assert (table.index.name, table.index.tolist()) == ("index", [0, 1])
    assert table["text"].tolist() == ["one", "two"]
    assert empty.columns.tolist() == table.columns.tolist()


MISSING = [None, float("nan"), pandas.NA, pandas.NaT]


@pytest.mark.parametrize("missing", MISSING, ids=str)
@pytest.mark.parametrize("where", ["rows", "request"])
def test_missing_values(gateway: Gateway, missing: Any, where: str) -> None:
    """
    A missing value in a row is a parameter that was not given, so the shared one holds.
    """
    frame = pandas.DataFrame(
        {
            "messages": ["one", "two"],
            "temperature": pandas.Series([0.5, missing], dtype=object),
            "max_output_tokens": pandas.Series([5, missing], dtype=object),
            "user": pandas.Series(["me", missing], dtype=object),
        }
    )
    options = {} if where == "rows" else {"request": lambda row: row}
    with aistats.Client(KEY, gateway.url) as client:
        run = client.map(frame, model=MODEL, temperature=1, **options).wait()

    assert run.errors == []
    first, second = sorted(
        (each.json for each in gateway.requests), key=lambda body: body["messages"][0]["content"]
    )
    assert {name: first[name] for name in ("temperature", "max_output_tokens", "user")} == {
        "temperature": 0.5,
        "max_output_tokens": 5,
        "user": "me",
    }
    assert second["temperature"] == 1
    assert not {"max_output_tokens", "user"} & second.keys()


def test_integers_beside_missing_values(gateway: Gateway) -> None:
    """
    Integers that pandas holds as floats, beside a missing value, are integers.
    """
    frame = pandas.DataFrame(
        {"messages": ["one", "two"], "max_output_tokens": [5, None], "seed": [7, None]}
    )
    with aistats.Client(KEY, gateway.url) as client:
        run = client.map(frame, model=MODEL).wait()

    assert run.errors == []
    assert {each.json.get("max_output_tokens") for each in gateway.requests} == {5, None}
    assert {type(each.json.get("seed")) for each in gateway.requests} == {int, type(None)}


@pytest.mark.parametrize("dtype", ["int8", "Int64", "float32", "UInt8", "object"])
def test_scalars_of_every_kind(gateway: Gateway, dtype: str) -> None:
    """
    NumPy's and pandas' scalars are sent as the numbers that they are.
    """
    frame = pandas.DataFrame({"messages": ["one"], "top_k": pandas.Series([3], dtype=dtype)})
    with aistats.Client(KEY, gateway.url) as client:
        run = client.map(frame, model=MODEL).wait()

    assert run.errors == []
    assert gateway.requests[0].json["top_k"] == 3


def test_columns_of_one_name() -> None:
    """
    A frame with two columns of one name is refused, since a row could have only one of them.
    """
    frame = pandas.DataFrame([["a", "b", "c"]], columns=["text", "id", "text"])

    with aistats.Client(KEY) as client, pytest.raises(aistats.ConfigurationError, match="'text'"):
        run_of(client, frame)
