"""
Bags and data frames on a real cluster of Dask's, in one process of its own.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
from servers import Gateway, until
from test_worker import output_of, told_by

pytestmark = [
    pytest.mark.skipif(
        not all(map(importlib.util.find_spec, ("distributed", "pandas", "pyarrow"))),
        reason="needs the extra `dask`",
    ),
    pytest.mark.timeout(180),
]

EXAMPLE = Path(__file__).parent.parent / "examples" / "dask_batch.py"

CLUSTER = """
import json, os, pickle
import dask, dask.bag, distributed
from aistats.dask import ChatPlugin, map_partition, map_partitions

def cluster(workers=2):
    return distributed.LocalCluster(
        n_workers=workers, threads_per_worker=2, processes=False, dashboard_address=None
    )
options = {"model": "openai/gpt-5-nano", "dedup": False}
"""


def test_bag(gateway: Gateway):
    """
    Each row of a bag has its answer or its error, in its place; clients end with their workers.
    """
    rows = told_by(
        CLUSTER
        + """
with cluster() as local, distributed.Client(local) as workers:
    workers.register_plugin(ChatPlugin(workers=2, concurrency=4))
    bag = dask.bag.from_sequence([f"row {n}" for n in range(20)] + [5], npartitions=4)
    rows = map_partitions(bag, **options).compute()
    clients = [worker.plugins["aistats"].worker._client for worker in local.workers.values()]
    assert len(set(map(id, clients))) == 2
    assert [client.is_closed for client in clients] == [False, False]
assert [client.is_closed for client in clients] == [True, True]
print(json.dumps(rows))
""",
        gateway,
    )

    assert [row["row"] for row in rows] == [*(f"row {n}" for n in range(20)), 5]
    assert [row["text"] for row in rows] == [*(f"row {n}" for n in range(20)), None]
    assert rows[-1]["error"].startswith("RequestValidationError")
    assert len(gateway.requests) == 20
    until(lambda: gateway.open_connections == 0)


def test_data_frame(gateway: Gateway):
    """
    A data frame keeps its rows, its index and its columns, and Dask was told the types that came.
    """
    told = told_by(
        CLUSTER
        + """
import dask.dataframe, pandas
frame = pandas.DataFrame({"text": [f"row {n}" for n in range(20)]}, index=range(100, 120))
with cluster() as local, distributed.Client(local) as workers:
    workers.register_plugin(ChatPlugin(workers=2))
    frames = dask.dataframe.from_pandas(frame, npartitions=3)
    mapped = map_partitions(
        frames, prefix="its_", prompt=lambda row: row["text"].upper(), **options
    )
    answered = mapped.compute()
assert mapped.dtypes.to_dict() == answered.dtypes.to_dict(), (mapped.dtypes, answered.dtypes)
print(json.dumps([answered.index.tolist(), answered["text"].tolist(), answered["its_text"].tolist(),
    int(answered["its_prompt_tokens"].sum()), int(answered["its_error"].isna().sum())]))
""",
        gateway,
    )

    texts = [f"row {n}" for n in range(20)]
    assert told == [[*range(100, 120)], texts, [text.upper() for text in texts], 11 * 20, 20]


def test_delayed(gateway: Gateway):
    """
    A delayed task maps its rows with the client of its worker; without the plugin it says so.
    """
    told = told_by(
        CLUSTER
        + """
rows = [{"id": n, "line": f"row {n}"} for n in range(3)]
task = dask.delayed(map_partition)(rows, prompt=lambda row: row["line"], **options)
with cluster(1) as local, distributed.Client(local) as workers:
    try:
        task.compute()
    except Exception as error:
        message = str(error)
    workers.register_plugin(ChatPlugin(workers=1))
    print(json.dumps([message, task.compute()]))
""",
        gateway,
    )

    assert "register a ChatPlugin" in told[0]
    assert [(row["id"], row["text"]) for row in told[1]] == [(n, f"row {n}") for n in range(3)]


def test_the_key_is_the_workers_own(gateway: Gateway):
    """
    No key is pickled with the plugin, and to register it fails where a worker has none.
    """
    told = told_by(
        CLUSTER
        + """
key = os.environ["AI_STATS_API_KEY"]
plugin = ChatPlugin(workers=1)
with cluster(1) as local, distributed.Client(local) as workers:
    workers.register_plugin(plugin)
    is_pickled = any(key.encode() in each for each in local.scheduler.worker_plugins.values())
    del os.environ["AI_STATS_API_KEY"]
    try:
        workers.register_plugin(plugin)
    except Exception as error:
        message = str(error)
print(json.dumps([is_pickled, message]))
""",
        gateway,
    )

    assert told[0] is False
    assert "AI_STATS_API_KEY" in told[1]


def test_example(gateway: Gateway):
    """
    The example runs as it is, and each of its rows is asked once.
    """
    printed = output_of(gateway, str(EXAMPLE)).splitlines()

    assert printed[-1] == "200 rows, 0 failed, no price"
    assert len(gateway.requests) == 200
