"""
When a run stops: the budget, `stop_after`, `on_error`, and errors that every row would get.

`Budget(seconds=)` is not here: `opening` starts a timer for it.
"""

from __future__ import annotations

from typing import Final

from .._errors import (
    AIStatsError,
    APIConnectionError,
    APIResponseError,
    ConfigurationError,
    RequestValidationError,
)
from .plan import Plan
from .statistics import Statistics

__all__ = ("StopRules",)

_ENOUGH_FOR_A_SHARE: Final = 20
_REFUSED: Final = frozenset({400, 403, 404, 413, 422})  # may be the fault of one row
_ENOUGH_REFUSALS: Final = 20
_REFUSED_FOR_ALL: Final = frozenset({401, 402, 407})  # the key, the credit, a proxy's password


class StopRules:
    """
    Decides whether a run stops. Each method returns the reason in words, or `None` to go on.

    Args:
        plan: The arguments of `map`.
    """

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self.refusals = 0
        """How many requests were refused in a row, before any other answer came."""
        self.raises = plan.on_error == "raise"
        """Whether the run ends with the first error, and raises it."""

    def before_request(self) -> str | None:
        """
        Return why the budget allows no further request: US dollars or tokens are used up.
        """
        return self._plan.spending.used_up()

    def after_row(self, error: Exception, *, is_first: bool) -> str | None:
        """
        Return why *error*, because of which a row makes no request, would come for all rows.
        """
        if isinstance(error, ConfigurationError):
            return str(error)
        if is_first and _lacks_model(error):
            return f"the first row makes no request: {error}"
        return None

    def after_failure(self, error: Exception, *, is_first: bool) -> str | None:
        """
        Return why *error*, with which a request failed, would come for all rows.

        Args:
            error: What the request ended with.
            is_first: Whether the gateway has not answered any request of the run yet, except by
                refusing it.
        """
        refusals, self.refusals = self.refusals, 0
        if isinstance(error, ConfigurationError):
            return str(error)
        if not isinstance(error, AIStatsError) or isinstance(error, RequestValidationError):
            return None
        passes = self._plan.passes(error)
        outcome = error.attempts[-1].outcome if error.attempts else None
        is_elsewhere = isinstance(error, APIResponseError) or outcome == "unsent"
        if is_first and is_elsewhere:
            return f"the first request failed, and no more were sent: {error}"
        if is_first and error.status in _REFUSED and not passes:
            # It may be the content of this row, so others are tried.
            self.refusals = refusals + 1
            if self.refusals == _ENOUGH_REFUSALS:
                return f"the first {_ENOUGH_REFUSALS} requests were refused: {error}"
            return None
        is_of_all = error.status in _REFUSED_FOR_ALL and not passes
        is_permanent = isinstance(error, APIConnectionError) and error.is_permanent
        return str(error) if is_of_all or is_permanent or self._plan.is_used_up(error) else None

    def after_outcome(self, done: Statistics) -> str | None:
        """
        Return why the run ends with its latest failure: too many rows have failed.
        """
        if self.raises:
            return "an error was to be raised"
        # Duplicates of one request fail together, and count once.
        count, failed = done.distinct, done.distinct_failed
        limit = self._plan.stop_after
        if limit is None:
            return None
        if limit >= 1:
            return f"stop_after: {failed} failures" if failed >= limit else None
        if count >= _ENOUGH_FOR_A_SHARE and failed >= limit * count:
            return f"stop_after: {failed} failures in {count}"
        return None


def _lacks_model(error: Exception) -> bool:
    # If the first row has no model, mostly no row has one.
    return isinstance(error, RequestValidationError) and any(
        fault.path == "model" for fault in error.faults
    )
