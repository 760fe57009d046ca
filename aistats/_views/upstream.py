"""
What an error's body says about the providers behind the gateway.

The gateway tries several providers. If all fail it answers 502 with a list of their statuses and
samples of their errors, whatever those were.
"""

from __future__ import annotations

from typing import Any, Final

from .json import as_list, as_object, as_objects, as_string, is_list

__all__ = ("is_permanent", "is_rate_limited")

_PERMANENT_CATEGORIES: Final = frozenset(
    {
        "credentials_not_configured",
        "credentials_invalid_or_forbidden",
        "provider_access_missing",
        "region_or_project_restriction",
        "model_unavailable_for_endpoint",
    }
)


def is_permanent(body: Any) -> bool:
    """
    Return whether each provider refused the request for good, so that a retry would fail as well.
    """
    wire = as_object(body)
    statuses, samples = wire.get("failed_statuses"), as_objects(wire.get("failure_sample"))
    category = as_string(as_object(wire.get("provider_failure_diagnostics")).get("category"))
    return (
        (is_list(statuses) and bool(statuses) and all(map(_is_permanent_status, statuses)))
        or (bool(samples) and all(sample.get("retryable") is False for sample in samples))
        or category in _PERMANENT_CATEGORIES
    )


def _is_permanent_status(status: Any) -> bool:
    temporary = (408, 409, 425, 429)
    return isinstance(status, int) and 400 <= status < 500 and status not in temporary


def is_rate_limited(body: Any) -> bool:
    """
    Return whether a provider rejected the request as too fast.
    """
    wire = as_object(body)
    samples = as_objects(wire.get("failure_sample"))
    if samples and all(sample.get("retryable") is False for sample in samples):
        return False
    category = as_string(as_object(wire.get("provider_failure_diagnostics")).get("category"))
    if category:
        return category == "rate_limited"
    statuses = [*as_list(wire.get("failed_statuses")), *(each.get("status") for each in samples)]
    return 429 in statuses
