"""
Answers for a Dask bag or data frame: the extra `dask`.

    cluster = distributed.Client("tcp://scheduler:8786")
    cluster.register_plugin(aistats.dask.ChatPlugin(workers=8, rpm=6000))

    lines = dask.bag.read_text("lines.txt")
    answers = aistats.dask.map_partitions(lines, model="openai/gpt-5-nano")
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any, Literal

from ._errors import ConfigurationError
from ._request.to_json import is_mapping
from ._worker import Worker, prefixed, share

__all__ = ("ChatPlugin", "map_partition", "map_partitions")

try:
    _distributed: Any = importlib.import_module("distributed")
except ImportError:
    raise ImportError(
        "aistats.dask needs Dask: pip install 'dask[dataframe,distributed]'"
    ) from None

_WorkerPlugin: Any = _distributed.WorkerPlugin
_PANDAS = {"string": "string", "int64": "Int64", "float64": "float64"}


class ChatPlugin(_WorkerPlugin):  # type: ignore[misc]  # its base is unknown without the extra
    """
    A `distributed.WorkerPlugin`: each worker owns one client, from its start to its end.

    The key comes from the environment of the worker, as `AI_STATS_API_KEY`: set it on the machines.
    A key that is passed in *client* is pickled with the plugin; the scheduler keeps it for workers
    to come, and without TLS it goes over the network as it is. A second plugin replaces the first.

    Args:
        workers: How many workers there are at the most; among so many the limits are divided.
        concurrency: How many requests are under way at once, in all workers together; rounded down
            to a multiple of *workers*. With `"auto"` each worker learns from the gateway's answers.
        rpm: Requests a minute, of all workers together.
        tpm: Tokens a minute, likewise.
        client: The arguments of each `aistats.Client`, such as *base_url* and *timeout*.

    Raises:
        ConfigurationError: A value can't be used; when it is registered: a worker has no key.
    """

    name = "aistats"

    def __init__(
        self,
        *,
        workers: int,
        concurrency: int | Literal["auto"] = "auto",
        rpm: float | None = None,
        tpm: float | None = None,
        client: Mapping[str, Any] | None = None,
    ) -> None:
        self._settings = share(workers, concurrency, rpm, tpm), client

    def setup(self, worker: Any) -> None:
        """
        Make the client; Dask calls it where a worker begins.
        """
        self.worker = Worker(*self._settings)

    def teardown(self, worker: Any) -> None:
        """
        Close the client; Dask calls it where a worker ends.
        """
        self.worker.close()


def map_partition(rows: Any, *, prefix: str = "", **options: Any) -> Any:
    """
    Return the rows with their answers, on a worker that has a `ChatPlugin`; also for
    `dask.delayed`.

    New are `text`, `error`, `finish_reason`, `prompt_tokens`, `completion_tokens`, `cost` (US
    dollars, a float) and `request_id`. No row is dropped: where there is no answer, `error` says
    why. A worker answers one partition after another, and each ends with its slowest answer, so let
    it have several times the concurrency. If Dask runs a partition again, since a worker was lost,
    it is asked and billed again.

    Args:
        rows: A `pandas.DataFrame`, or any iterable.
        prefix: What the names of the new columns begin with.
        options: The other arguments of `Client.map`: *prompt* or *request*, which are given a row
            (of a data frame as a dict); *model* and other parameters of each request; *on_error*
            and so on. Those about a run as a whole are refused: *budget*, *checkpoint*, *key*,
            *progress* and *stop_after*.

    Returns:
        The data frame with new columns; of other rows a list of dicts: the row's own keys if it is
        a mapping, else the row as `row`, and the new ones.

    Raises:
        ConfigurationError: The worker has no `ChatPlugin`, or a value can't be used.
        AIStatsError: With `on_error="raise"` the first error.
    """
    is_frame = hasattr(rows, "assign")
    rows = rows if is_frame else list(rows)
    old = [] if is_frame else [row if is_mapping(row) else {"row": row} for row in rows]
    columns = prefixed(prefix, rows.columns if is_frame else set[str]().union(*old))
    answers = _worker().answers(rows, **options) if len(rows) else []
    if not is_frame:
        new = [{prefix + name: value for name, value in answer.items()} for answer in answers]
        return [{**row, **more} for row, more in zip(old, new, strict=True)]
    pandas = importlib.import_module("pandas")
    for name, kind in columns.items():
        values = [answer[name.removeprefix(prefix)] for answer in answers]
        rows = rows.assign(**{name: pandas.Series(values, rows.index, _PANDAS[kind])})
    return rows


def map_partitions(collection: Any, **options: Any) -> Any:
    """
    Return a Dask bag or data frame with the answers to its rows; see `map_partition` for the
    arguments.
    """
    if hasattr(collection, "dtypes"):  # Dask wants an empty frame that says what comes out
        empty = importlib.import_module("dask.dataframe.utils").make_meta(collection)
        options["meta"] = map_partition(empty, **options)
    return collection.map_partitions(map_partition, **options)


def _worker() -> Worker:
    plugin = _distributed.get_worker().plugins.get(ChatPlugin.name)
    if plugin is None:
        raise ConfigurationError("This worker has no client: register a ChatPlugin first.")
    worker: Worker = plugin.worker
    return worker
