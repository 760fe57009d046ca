"""
Why rows of a run failed: errors grouped by reason, in bounded memory, and the line for the log.
"""

from __future__ import annotations

from typing import Final

import attrs

from .._errors import (
    AIStatsError,
    APIConnectionError,
    APIResponseError,
    APIStatusError,
    APITimeoutError,
    ConfigurationError,
    RequestValidationError,
)
from .._progress import FailureGroup, Progress

__all__ = ("Failures", "summary")

_MOST: Final = 100
_LOGGED: Final = 3
_OTHERS: Final = "other reasons"

_RETRY: Final = "This is often temporary: run.retry() asks again."
_KEY: Final = "Check the API key: api_key= or AI_STATS_API_KEY."
_REQUEST: Final = "These requests are refused: see the example, and correct the rows or parameters."
_ADVICE: Final = {
    400: _REQUEST,
    401: _KEY,
    402: "Add credit to the account; then run.retry() goes on.",
    403: f"{_KEY} It may also be the content that is refused.",
    404: "Check the model's name and base_url=.",
    407: "Check the user and password of the proxy.",
    413: "These requests are too long: shorten the rows.",
    422: _REQUEST,
    429: "Lower concurrency= or give rpm=, or wait; then run.retry() goes on.",
}


class Failures:
    """
    Counts errors by their reason. It keeps one example for each.
    """

    def __init__(self) -> None:
        self._groups: dict[str, FailureGroup] = {}

    def add(self, index: int, error: Exception) -> None:
        """
        Count *error*, with which the row at *index* failed.
        """
        reason = _reason_of(error)
        if reason not in self._groups and len(self._groups) >= _MOST:
            reason = _OTHERS
        group = self._groups.get(reason)
        if group is None:
            example = f"{type(error).__name__}: {error}"
            group = FailureGroup(reason, 0, index, example, _advice_on(error))
        self._groups[reason] = attrs.evolve(group, count=group.count + 1)

    def groups(self) -> list[FailureGroup]:
        """
        Return the groups, the most frequent first.
        """
        return sorted(self._groups.copy().values(), key=lambda group: -group.count)


def summary(progress: Progress, stopped: str | None, groups: list[FailureGroup]) -> str:
    """
    Return a line that says how a run ended: its numbers, why it stopped, and the most frequent
    errors. It has no error's message, which may contain parts of a row.
    """
    total = "" if progress.total is None else f" of {progress.total:,}"
    parts = [f"{progress.done:,}{total} rows are done", f"{progress.failed:,} failed"]
    if progress.cached:
        parts.append(f"{progress.cached:,} cached")
    if progress.cost:
        parts.append(f"cost {progress.cost:f} USD")
    line = ", ".join(parts)
    line = f"the run was stopped: {stopped}. {line}" if stopped else f"the run has ended: {line}"
    if groups:
        frequent = [f"{group.count:,} x {group.reason}" for group in groups[:_LOGGED]]
        more = ["…"] if len(groups) > _LOGGED else []
        line += f" ({', '.join(frequent + more)}). {groups[0].advice} See run.failures()"
    return line


def _reason_of(error: Exception) -> str:
    if isinstance(error, APIStatusError):
        return f"status {error.status}" + (f" ({error.code})" if error.code else "")
    if isinstance(error, APITimeoutError):
        return f"{error.limit} timeout"
    if isinstance(error, RequestValidationError):
        paths = sorted({fault.path for fault in error.faults})
        return f"no valid request ({', '.join(paths[:_LOGGED])})"
    return "no connection" if isinstance(error, APIConnectionError) else type(error).__name__


def _advice_on(error: Exception) -> str:
    if isinstance(error, APIStatusError):
        return _RETRY if error.status >= 500 else _ADVICE.get(error.status, _REQUEST)
    if isinstance(error, APITimeoutError):
        return "Give a longer timeout=; run.retry() asks again."
    if isinstance(error, APIConnectionError):
        return "Check the network and base_url=; run.retry() asks again."
    if isinstance(error, APIResponseError):
        return "Check base_url=: what answered may be no gateway."
    if isinstance(error, RequestValidationError):
        return "Correct these rows, or prompt= and request=."
    if isinstance(error, ConfigurationError):
        return "Correct the option that the example names."
    if isinstance(error, AIStatsError):
        return _RETRY
    return "prompt=, request= or key= raised this: correct the function or the row."
