"""
What one of several workers has: a client of its own, and its share of the limits.

It is what `aistats.ray` and `aistats.dask` have in common.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from typing import Any, Final

from ._clock import monotonic
from ._errors import ConfigurationError
from ._sync import Client

__all__ = ("COLUMNS", "Worker", "prefixed", "share")

COLUMNS: Final = {
    "text": "string",
    "error": "string",
    "finish_reason": "string",
    "prompt_tokens": "int64",
    "completion_tokens": "int64",
    "cost": "float64",
    "request_id": "string",
}
"""
What each row gets, and of which type. A type is the same in every batch, also where nothing came.
"""

# They are about one run, and each batch is a run.
_OF_ONE_RUN = {"budget", "checkpoint", "key", "progress", "stop_after"}


def share(workers: Any, concurrency: Any, rpm: float | None, tpm: float | None) -> dict[str, Any]:
    """
    Return what one of *workers* workers may do: an equal part of each limit.

    Raises:
        ConfigurationError: There is not at least one request for each.
    """
    if isinstance(workers, bool) or not isinstance(workers, int) or workers < 1:
        raise ConfigurationError(f"workers must be a whole number of 1 or more; not {workers!r}")
    if isinstance(concurrency, int):
        if concurrency < workers:
            raise ConfigurationError(
                f"concurrency is for all workers together, and {concurrency} is less than the "
                f"{workers} workers"
            )
        concurrency //= workers
    return {
        "concurrency": concurrency,
        "rpm": None if rpm is None else rpm / workers,
        "tpm": None if tpm is None else tpm / workers,
    }


def prefixed(prefix: str, there: Any) -> dict[str, str]:
    """
    Return the names of the new columns with *prefix*, and their types.

    Raises:
        ConfigurationError: One of them is *there* already.
    """
    columns = {prefix + name: kind for name, kind in COLUMNS.items()}
    if taken := sorted(columns.keys() & set(there)):
        raise ConfigurationError(
            f"The rows have {', '.join(taken)} already; with prefix= the new columns are called "
            "otherwise."
        )
    return columns


class Worker:
    """
    Owns one `Client`, and answers batches with it, one at a time.

    Args:
        limits: What `share` gave.
        client: The arguments of `Client`; what is left out comes from this process's environment.

    Raises:
        ConfigurationError: There is no key, or a value can't be used.
    """

    def __init__(self, limits: Mapping[str, Any], client: Mapping[str, Any] | None) -> None:
        self._limits = limits
        self._client = Client(**(client or {}))
        self._lock = threading.Lock()
        self._free_at = 0.0

    def answers(self, rows: Any, **options: Any) -> list[dict[str, Any]]:
        """
        Return for each row the values of `COLUMNS`, in order.

        Args:
            rows: A list, or a `pandas.DataFrame`.
            options: The arguments of `Client.map` that are about each request.

        Raises:
            ConfigurationError: One of them is about a run as a whole.
            AIStatsError: With `on_error="raise"` the first error.
        """
        if refused := sorted(_OF_ONE_RUN & options.keys()):
            raise ConfigurationError(
                f"{', '.join(refused)} can't be given here: each batch is a run of its own."
            )
        with self._lock:
            time.sleep(max(0.0, self._free_at - monotonic()))
            begun = monotonic()
            run = self._client.map(rows, progress=False, **self._limits, **options).wait()
            self._free_at = begun + self._seconds_used(run)
        # A row has no outcome if the run was stopped before its turn.
        empty = dict.fromkeys(COLUMNS) | {"error": f"not started: {run.stopped}"}
        answers = [empty] * len(rows)
        for outcome in run.outcomes:
            told = outcome.to_dict()
            cost = None if told["cost"] is None else float(told["cost"])
            answers[outcome.index] = {name: told[name] for name in COLUMNS} | {"cost": cost}
        return answers

    def _seconds_used(self, run: Any) -> float:
        # A run paces itself, but knows nothing of the one before: without this, each batch would
        # begin with a full bucket, and small batches would know no limit at all.
        rpm, tpm = self._limits["rpm"], self._limits["tpm"]
        tries = sum(len(each.attempts) for each in run.outcomes if not each.cached)
        for_tries = tries * 60 / rpm if rpm else 0.0
        return max(for_tries, run.usage.total_tokens * 60 / tpm if tpm else 0.0)

    def close(self) -> None:
        """
        Close the client.
        """
        self._client.close()
