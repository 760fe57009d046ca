"""
Answers for the rows of a Ray Dataset: the extra `ray`.

    dataset.map_batches(
        aistats.ray.ChatActor,
        batch_format="pyarrow",
        batch_size=500,
        compute=ray.data.ActorPoolStrategy(size=4),
        fn_constructor_kwargs={
            "workers": 4,
            "rpm": 6000,
            "model": "openai/gpt-5-nano",
            "prompt": lambda row: f"Is this English? {row['line']}",
        },
    )
"""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Mapping
from typing import Any, Literal

from ._errors import ConfigurationError
from ._worker import Worker, prefixed, share

__all__ = ("ChatActor",)


class ChatActor:
    """
    A class for `ray.data.Dataset.map_batches`: each actor owns one client, and adds columns.

    They are `text`, `error`, `finish_reason`, `prompt_tokens`, `completion_tokens`, `cost` (US
    dollars, a float) and `request_id`. No row is dropped: where there is no answer, `error` says
    why, and the others are null. An actor answers one batch after another, and a batch ends with
    its slowest answer, so take batches of several times the concurrency. If Ray runs a batch again,
    since a machine was lost, it is asked and billed again.

    The key comes from the environment of the actor, as `AI_STATS_API_KEY`: set it on the machines.
    A key that is passed in *client* is stored in the cluster with the dataset's plan, and whoever
    may read that can read it; so is one in Ray's *runtime_env*.

    Args:
        workers: How many actors there are at the most; among so many the limits are divided.
        concurrency: How many requests are under way at once, in all actors together; rounded down
            to a multiple of *workers*. With `"auto"` each actor learns from the gateway's answers.
        rpm: Requests a minute, of all actors together.
        tpm: Tokens a minute, likewise.
        client: The arguments of each `aistats.Client`, such as *base_url* and *timeout*.
        prefix: What the names of the new columns begin with.
        options: The other arguments of `Client.map`: *prompt* or *request*, which are given a row
            as a dict; *model* and other parameters of each request; *on_error* and so on. Those
            about a run as a whole are refused: *budget*, *checkpoint*, *key*, *progress* and
            *stop_after*.

    Raises:
        ConfigurationError: There is no key, or a value can't be used.
    """

    def __init__(
        self,
        *,
        workers: int,
        concurrency: int | Literal["auto"] = "auto",
        rpm: float | None = None,
        tpm: float | None = None,
        client: Mapping[str, Any] | None = None,
        prefix: str = "",
        **options: Any,
    ) -> None:
        self._options = options
        self._prefix = prefix
        self._worker = Worker(share(workers, concurrency, rpm, tpm), client)

    def __call__(self, batch: Any) -> Any:
        """
        Return the `pyarrow.Table` *batch* with the new columns.

        Raises:
            ConfigurationError: It is no such table, or has a column of that name.
            AIStatsError: With `on_error="raise"` the first error.
        """
        if not hasattr(batch, "append_column"):
            raise ConfigurationError('map_batches needs batch_format="pyarrow" with ChatActor.')
        columns = prefixed(self._prefix, batch.column_names)
        answers = self._worker.answers(batch.to_pylist(), **self._options)
        pyarrow = importlib.import_module("pyarrow")
        for name, kind in columns.items():
            values = [answer[name.removeprefix(self._prefix)] for answer in answers]
            column = pyarrow.array(values, pyarrow.type_for_alias(kind))
            batch = batch.append_column(name, column)
        return batch

    def __del__(self) -> None:
        # Ray drops the object when the actor ends; it knows no other way to say so.
        with contextlib.suppress(AttributeError):  # it was never whole
            self._worker.close()
