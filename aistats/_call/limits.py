"""
What a user sees of a client's limit.
"""

from __future__ import annotations

from .places import Places

__all__ = ("Limits",)


class Limits(Places):
    """
    How many requests a client may have in flight, and how many it has.

    The limit is learned from the gateway's answers. A client starts with its `max_connections`, and
    `client.map` with one request. Rejections as too fast (a 429, or a 502 for a provider that was
    rate-limited) lower the limit, and answers raise it. A limit of this process or machine, such as
    that of open files, lowers it as well. So does latency, once the limit is being learned: if more
    requests only make each of them slower. A `Retry-After` holds back all requests of the client.
    Waiting requests get their places in the order in which they asked.
    """

    __module__ = "aistats"

    __slots__ = ()

    @property
    def concurrency(self) -> int:
        """
        How many requests may be in flight, as learned so far.
        """
        return self._window.limit

    @property
    def maximum(self) -> int:
        """
        The highest value that `concurrency` can have.
        """
        return self._window.maximum

    @property
    def in_flight(self) -> int:
        """
        How many requests are in flight.
        """
        return self._in_flight + self._fixed

    @property
    def waiting(self) -> int:
        """
        How many requests wait to be sent.
        """
        return len(self._waiting) + len(self._fixed_waiting)

    @property
    def throttled(self) -> int:
        """
        How many requests the gateway rejected as too fast.
        """
        return self._window.throttled

    @property
    def cooldown(self) -> float:
        """
        Seconds for which nothing is sent, because the gateway asked for a pause or rejected several
        requests in a row; mostly 0.0.
        """
        return self._pause()

    @property
    def latency(self) -> float | None:
        """
        Median latency of recent answers, in seconds; `None` before the first answer.
        """
        with self._lock:
            recent = sorted(self._window.recent)
        return recent[len(recent) // 2] if recent else None

    def __repr__(self) -> str:
        latency = self.latency
        return (
            f"Limits(concurrency={self.concurrency}, in_flight={self.in_flight}, "
            f"waiting={self.waiting}, throttled={self.throttled}, cooldown={self.cooldown:.3g}, "
            f"latency={latency if latency is None else float(f'{latency:.3g}')})"
        )
