"""
What a run of `map` tells: the outcome of each row, and the numbers of all of them.
"""

from __future__ import annotations

import bisect
import itertools
import math
from collections import deque
from collections.abc import Sequence
from decimal import Decimal
from typing import Any, Final

import attrs

from .._clock import monotonic
from .._errors import AIStatsError
from .._exchange import Attempt, Timing
from .._progress import Latency, Progress
from .._request.request import ChatCompletionsRequest
from .._show.cards import LISTED_ROWS, Rows
from .._views.completion import ChatCompletionsResponse, Usage

__all__ = ("COLUMNS", "TICK", "Outcome", "Statistics", "as_shown")

TICK: Final = 0.1
"""Seconds between two snapshots of the progress."""


COLUMNS: Final = (
    *("index", "key", "text", "error", "cached", "model", "finish_reason"),
    *("prompt_tokens", "completion_tokens", "cost", "attempts", "seconds", "request_id"),
)
"""The keys of `Outcome.to_dict`, in order."""

_OURS = ChatCompletionsResponse | AIStatsError


@attrs.frozen
class Outcome:
    """
    What became of one row: a response or an error, never both.
    """

    __module__ = "aistats"

    index: int
    """The row's place in the input, from 0."""
    key: str | None
    """
    The name of the request: a hash of what is sent, or the caller's own. `None` where the row was
    no request.
    """
    row: Any
    """The row as it was given."""
    request: ChatCompletionsRequest | None = attrs.field(repr=False)
    """The request that was made of it, if it was one."""
    response: ChatCompletionsResponse | None = attrs.field(default=None, repr=False)
    """The answer; `None` if there is an error."""
    error: Exception | None = None
    """Why there is no answer: an `AIStatsError`, or what *prompt*, *request* or *key* raised."""
    attempts: tuple[Attempt, ...] = attrs.field(default=(), repr=False)
    """Each try of the call, those that were too fast for the gateway among them."""
    timing: Timing = attrs.field(default=Timing(), repr=False)
    """Where the time of the call went, in seconds."""
    cached: bool = False
    """Whether the answer was there: in the checkpoint, or as the answer to a duplicate."""

    @property
    def ok(self) -> bool:
        """
        Whether there is an answer.
        """
        return self.response is not None

    @property
    def text(self) -> str | None:
        """
        The text of the answer; `None` if there is none.
        """
        return None if self.response is None else self.response.text

    def unwrap(self) -> ChatCompletionsResponse:
        """
        The answer.

        Raises:
            Exception: There is none; `error` is raised.
        """
        if self.response is None:
            assert self.error is not None
            raise self.error
        return self.response

    def to_dict(self) -> dict[str, Any]:
        """
        The outcome as a flat dict, as one row of a table.
        """
        response, error = self.response, self.error
        told = response or error
        usage = response.usage if response is not None else None
        return {
            "index": self.index,
            "key": self.key,
            "text": self.text,
            "error": None if error is None else f"{type(error).__name__}: {error}",
            "cached": self.cached,
            "model": response.model if response is not None else None,
            "finish_reason": response.finish_reason if response is not None else None,
            "prompt_tokens": usage.prompt_tokens if usage is not None else None,
            "completion_tokens": usage.completion_tokens if usage is not None else None,
            "cost": usage.cost if usage is not None else None,
            "attempts": len(self.attempts),
            "seconds": self.timing.total,
            "request_id": told.request_id if isinstance(told, _OURS) else None,
        }


def as_shown(outcomes: Sequence[Outcome]) -> Rows:
    """
    Return what a notebook shows of *outcomes*: the first of them.
    """
    first = [
        (each.index, each.text or "" if each.ok else f"{type(each.error).__name__}: {each.error}")
        for each in outcomes[:LISTED_ROWS]
    ]
    return Rows(len(outcomes), first)


_BASE = math.log(1.02)


class Statistics:
    """
    Counts and sums over what is done, in bounded memory.
    """

    def __init__(self) -> None:
        self.begun = monotonic()
        self.done = self.failed = self.cached = self.throttled = 0
        self.cost = Decimal(0)
        """In US dollars, of the answers that had a price."""
        self._priced = self._counted = 0
        self.prompt_tokens = self.completion_tokens = self.tokens = 0
        self.cached_tokens = self.reasoning_tokens = 0
        self._sum = self._max = 0.0
        self._answers = 0
        self._latencies: dict[int, int] = {}  # by their logarithm, in steps of 2 %
        self._lately: deque[tuple[float, int, int]] = deque([(self.begun, 0, 0)], maxlen=50)

    def add_answer(self, response: ChatCompletionsResponse) -> int:
        """
        Count an answer that came over the network, and return how many tokens it took; 0 where it
        does not say.
        """
        timing = response.timing
        seconds = timing.first_byte if timing.first_byte is not None else timing.total
        if seconds is not None:
            self._answers += 1
            self._sum += seconds
            self._max = max(self._max, seconds)
            step = round(math.log(max(seconds, 1e-6)) / _BASE)
            self._latencies[step] = self._latencies.get(step, 0) + 1
        usage = response.usage
        self._counted += 1
        if usage is None:
            return 0
        prompt, completion = usage.prompt_tokens or 0, usage.completion_tokens or 0
        self.prompt_tokens += prompt
        self.completion_tokens += completion
        tokens = usage.total_tokens or prompt + completion
        self.tokens += tokens
        if (details := usage.prompt_tokens_details) is not None:
            self.cached_tokens += details.cached_tokens or 0
        if (spent := usage.completion_tokens_details) is not None:
            self.reasoning_tokens += spent.reasoning_tokens or 0
        if (cost := usage.cost) is not None:
            self.cost += cost
            self._priced += 1
        return tokens

    def price(self) -> Decimal | None:
        """
        The cost, as far as it is known; `None` where answers came and none of them had a price.
        """
        return self.cost if self._priced or not self._counted else None

    def usage(self) -> Usage:
        """
        The sums of what the gateway counted.
        """
        return Usage(
            {
                "prompt_tokens": self.prompt_tokens,
                "completion_tokens": self.completion_tokens,
                "total_tokens": self.tokens,
                "prompt_tokens_details": {"cached_tokens": self.cached_tokens},
                "completion_tokens_details": {"reasoning_tokens": self.reasoning_tokens},
            }
        )

    def latency(self) -> Latency:
        """
        How long answers took.
        """
        if not self._answers:
            return Latency(0, None, None, None, None, None)
        p50, p95, p99 = self._quantiles(0.5, 0.95, 0.99)
        return Latency(self._answers, self._sum / self._answers, p50, p95, p99, self._max)

    def _quantiles(self, *shares: float) -> list[float]:
        # The smallest latency that at least the share of all are not above.
        # A copy, since it may be asked for from another thread.
        steps = sorted(self._latencies.copy().items())
        sums = list(itertools.accumulate(count for _, count in steps))
        places = (bisect.bisect_left(sums, share * sums[-1]) for share in shares)
        return [min(self._max, math.exp(steps[place][0] * _BASE)) for place in places]

    def snapshot(self, total: int | None, in_flight: int, concurrency: int) -> Progress:
        """
        The numbers now, as a user reads them.
        """
        now = monotonic()
        then, done, tokens = self._lately[0]
        seconds = max(now - then, 1e-6)
        rate = (self.done - done) / seconds
        if now - self._lately[-1][0] >= TICK:
            self._lately.append((now, self.done, self.tokens))
        latency = self.latency()
        left = None if total is None else max(0, total - self.done)
        return Progress(
            done=self.done,
            failed=self.failed,
            cached=self.cached,
            total=total,
            in_flight=in_flight,
            concurrency=concurrency,
            requests_per_second=rate,
            tokens_per_second=(self.tokens - tokens) / seconds,
            cost=self.price(),
            eta=0.0 if left == 0 else left / rate if left is not None and rate > 0 else None,
            p50=latency.p50,
            p95=latency.p95,
            throttled=self.throttled,
        )
