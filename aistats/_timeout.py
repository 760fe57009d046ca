"""
How long a call may take.
"""

from __future__ import annotations

import math
from typing import Any

import attrs

from ._errors import ConfigurationError

__all__ = ("Timeout",)


def _is_limit(value: object) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return value is None
    return 0 < value < math.inf


def _check(_timeout: object, attribute: attrs.Attribute[Any], value: object) -> None:
    if not _is_limit(value):
        raise ConfigurationError(
            f"timeout: {attribute.name} must be a number of seconds above 0, or None; not {value!r}"
        )


@attrs.frozen(kw_only=True)
class Timeout:
    """
    The limits of one call, in seconds; `None` means no limit. Each is given by its name.
    """

    connect: float | None = attrs.field(default=10.0, validator=_check)
    """
    For one connection to be made: looking up the host, TCP, TLS. Waiting for a free place is not
    counted.
    """
    idle: float | None = attrs.field(default=300.0, validator=_check)
    """
    The longest wait for an answer to begin, for a stream's next event, for the next bytes of a
    body, or for a piece of a long request to go out. Comments in a stream do not count: the gateway
    sends none, and a reasoning model or a server tool is silent for minutes.
    """
    total: float | None = attrs.field(default=1800.0, validator=_check)
    """
    The whole call: queueing, every attempt, the waits between them and the reading of the stream.
    """

    @classmethod
    def of(cls, value: Timeout | float | None) -> Timeout:
        """
        *value* itself, a bare number as `total` with the other defaults, or `None` as no limit at
        all.

        Raises:
            ConfigurationError: It is none of them.
        """
        if isinstance(value, Timeout):
            return value
        if value is None:
            return cls(connect=None, idle=None, total=None)
        if not _is_limit(value):
            raise ConfigurationError(
                "timeout must be a Timeout, a number of seconds above 0 for the whole call, or "
                f"None; not {value!r}"
            )
        return cls(total=value)
