"""
The numbers of a run: counts, tokens, cost, latencies and rates, in bounded memory.
"""

from __future__ import annotations

import bisect
import itertools
import math
from collections import deque
from decimal import Decimal
from typing import Final

from .._clock import monotonic
from .._exchange import Attempt
from .._progress import Latency, Progress
from .._views.completion import ChatCompletionsResponse
from .._views.usage import Usage
from .failures import Failures
from .outcome import Outcome
from .spending import Spending, cut_answers

__all__ = ("TICK", "Statistics")

TICK: Final = 0.1
"""Seconds between two snapshots of the progress."""

_BASE = math.log(1.02)


class Statistics:
    """
    Counts and sums over what is done, in bounded memory.

    Args:
        spending: The budget, which counts the same answers.
    """

    def __init__(self, spending: Spending | None = None) -> None:
        self._spending = spending
        self.begun = monotonic()
        self.done = self.failed = self.cached = self.throttled = 0
        self.distinct = self.distinct_failed = 0
        """Outcomes and errors, without those of duplicates."""
        self.cost = Decimal(0)
        """In US dollars, of the answers that had a price."""
        self._cut = 0
        """How many answers were cut. Their price did not arrive."""
        self.failures = Failures()
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
        tokens = 0 if usage is None else self._add_usage(usage)
        if self._spending is not None and self._spending.counts_answers:
            self._spending.answered(None if usage is None else usage.cost, tokens)
        return tokens

    def add_attempts(self, attempts: tuple[Attempt, ...]) -> None:
        """
        Count the answers that were cut in the *attempts* of a call. They are billed.
        """
        if len(attempts) == 1 and attempts[0].reason is None:
            return  # nearly every call
        count = cut_answers(attempts)
        self._cut += count
        if self._spending is not None:
            self._spending.lost(count)

    def _add_usage(self, usage: Usage) -> int:
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

    def count(self, outcome: Outcome, *, is_shared: bool = False) -> None:
        """
        Count *outcome*, which *is_shared* if it is that of another row with the same request.
        """
        error = outcome.error
        self.done += 1
        if error is not None:
            self.failures.add(outcome.index, error)
        if not is_shared:
            self.distinct += 1
            self.distinct_failed += error is not None
        self.cached += outcome.cached
        self.failed += error is not None

    def price(self) -> Decimal | None:
        """
        Return the cost, as far as it is known; `None` where answers came and none of them had a
        price. An answer that was cut costs as much as the others on average.
        """
        if not self._priced:
            return None if self._counted else self.cost
        lost = (self.cost * self._cut / self._priced).quantize(Decimal("1e-9"))
        return self.cost + lost if self._cut else self.cost

    def usage(self) -> Usage:
        """
        Return the sums of what the gateway counted.
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
        Return how long answers took.
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
        Return the numbers now, as a user reads them.
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
