"""
Numbers of a run: how far it is, and how long answers take. Plain records.
"""

from __future__ import annotations

from decimal import Decimal

import attrs

__all__ = ("FailureGroup", "Latency", "Progress")


@attrs.frozen
class Progress:
    """
    Numbers of a run at one moment.
    """

    __module__ = "aistats"

    done: int
    """Rows that have an outcome, including failed and cached ones."""
    failed: int
    """Rows whose outcome is an error."""
    cached: int
    """Rows whose answer was known: from the checkpoint, or from a duplicate."""
    total: int | None
    """Number of rows; `None` where it is not known."""
    in_flight: int
    """Requests in flight."""
    concurrency: int
    """Most requests that may be in flight now."""
    requests_per_second: float
    """Rows done a second, over the last seconds."""
    tokens_per_second: float
    """Tokens of prompts and answers a second, over the last seconds."""
    cost: Decimal | None
    """US dollars, of the answers that had a price; `None` where none of them had."""
    eta: float | None
    """Seconds until the end, at the current rate; `None` where it can't be estimated."""
    p50: float | None
    """Median latency of the answers, in seconds."""
    p95: float | None
    """95th percentile of the latency, in seconds."""
    throttled: int
    """Number of requests that the gateway rejected as too fast."""


@attrs.frozen
class Latency:
    """
    Latency of a run's answers, in seconds, accurate to 2 %; `None` before the first answer.
    """

    __module__ = "aistats"

    count: int
    """Number of answers."""
    mean: float | None
    p50: float | None
    """The median."""
    p95: float | None
    p99: float | None
    max: float | None


@attrs.frozen
class FailureGroup:
    """
    Rows of a run that failed for the same reason.
    """

    __module__ = "aistats"

    reason: str
    """Status and code, the kind of timeout, or the type of the error."""
    count: int
    """Number of rows."""
    index: int
    """The row of the example."""
    example: str
    """Type and message of the first such error."""
    advice: str
    """What to do about it."""

    def __str__(self) -> str:
        example = f"for example row {self.index}: {self.example}"
        return f"{self.count:,} x {self.reason}, {example} | {self.advice}"
