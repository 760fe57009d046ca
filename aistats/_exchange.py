"""
The record of one call: the request, its attempts, their times, and the response's status and
headers.

Every response and every error has one, so this file imports neither. Nothing here holds the API
key: a `SentRequest` is made of headers that `redact` has returned.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Iterator, Mapping
from typing import Literal

import attrs

__all__ = (
    "Attempt",
    "AttemptState",
    "AttemptTimes",
    "Exchange",
    "Headers",
    "SentRequest",
    "Timing",
    "redact",
)

AttemptState = Literal["unsent", "ambiguous", "answered"]

_KEY_VARIABLE = "$AI_STATS_API_KEY"
_ID_HEADERS = ("x-gateway-request-id", "x-request-id", "cf-ray")
_SECRET_WORDS = ("authorization", "cookie", "key", "token", "secret", "password")


class Headers(Mapping[str, str]):
    """
    The headers of a response. Names are case-insensitive.

    The values of a repeated header are joined by a comma and a space (RFC 9110, section 5.3).
    """

    __slots__ = ("_values",)

    def __init__(self, pairs: Iterable[tuple[bytes, bytes]] = ()) -> None:
        values: dict[str, str] = {}
        for raw_name, raw_value in pairs:
            name = raw_name.decode("latin-1").lower()
            try:
                value = raw_value.decode()
            except UnicodeDecodeError:
                value = raw_value.decode("latin-1")  # the charset of headers in older HTTP
            values[name] = f"{values[name]}, {value}" if name in values else value
        self._values = values

    def __getitem__(self, name: str) -> str:
        return self._values[name.lower()]

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and name.lower() in self._values

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __repr__(self) -> str:
        return f"Headers({redact(self._values)!r})"


def redact(headers: Mapping[str, str]) -> dict[str, str]:
    """
    Return a copy of *headers* with `***` in place of each value that may be a secret.
    """
    return {
        name: "***" if any(word in name.lower() for word in _SECRET_WORDS) else value
        for name, value in headers.items()
    }


@attrs.frozen
class Timing:
    """
    The durations of the phases of a call, in seconds. A phase that did not happen, or whose
    duration is not known, is `None`.
    """

    queued: float | None = None
    """
    Wait for a place under `client.limits` and for a free connection in the pool, in the last
    attempt.
    """
    connect: float | None = None
    """
    DNS lookup, TCP connect and TLS handshake, in the last attempt. `None` if an open connection was
    reused.
    """
    first_byte: float | None = None
    """From the start of the last attempt until the response's status and headers arrived."""
    total: float | None = None
    """The whole call: all attempts, the waits between them, and reading the response."""


@attrs.frozen
class Attempt:
    """
    One attempt of a call. A call that is not retried has one.
    """

    outcome: AttemptState
    """
    `unsent`: nothing was sent. `ambiguous`: the request was sent, but no response came, so it may
    have been billed. `answered`: a response came.
    """
    status: int | None = None
    """The HTTP status of the response; `None` if none came."""
    reason: str | None = None
    """Why the attempt failed; `None` if it succeeded."""
    wait: float = 0.0
    """Seconds between this attempt and the next."""


@attrs.define(eq=False, repr=False)
class AttemptTimes:
    """
    The times of one attempt, by the event loop's clock, and its state.
    """

    start: float
    queue_start: float | None = None
    queue_end: float | None = None
    connect_start: float | None = None
    connect_end: float | None = None
    first_byte: float | None = None
    is_sent: bool = False
    is_sending: bool = False
    """Whether a request body that was not written at once is being sent."""

    @property
    def outcome(self) -> AttemptState:
        """
        Whether the request was sent, and whether a response came.
        """
        if self.first_byte is not None:
            return "answered"
        return "ambiguous" if self.is_sent else "unsent"

    @property
    def phase(self) -> str:
        """
        The current phase of the attempt, used in error messages.
        """
        if self.queue_start is not None and self.queue_end is None:
            return "waiting for a free connection (see max_connections)"
        if self.connect_start is not None and self.connect_end is None:
            return "connecting"
        return "sending the request" if self.is_sending else "waiting for an answer"

    @property
    def is_reused(self) -> bool:
        """
        Whether the request was sent on a reused connection.
        """
        return self.is_sent and self.connect_start is None

    def timing(self, call_start: float, now: float) -> Timing:
        """
        Return the durations of the phases, for a call that started at *call_start*.
        """
        return Timing(
            queued=_span(self.queue_start, self.queue_end),
            connect=_span(self.connect_start, self.connect_end),
            first_byte=_span(self.start, self.first_byte),
            total=now - call_start,
        )


def _span(start: float | None, end: float | None) -> float | None:
    return None if start is None or end is None else end - start


@attrs.frozen
class SentRequest:
    """
    The request that was sent, without the API key.
    """

    method: str
    url: str
    headers: Mapping[str, str] = attrs.field(repr=False)
    body: bytes = attrs.field(repr=False)

    def as_curl(self) -> str:
        """
        Return the request as a curl command that reads the key from `AI_STATS_API_KEY`.
        """
        words = ["curl", "-sS", "-X", self.method, shlex.quote(self.url)]
        for name, value in self.headers.items():
            if name.lower() == "authorization":
                words += ["-H", f'"{name}: Bearer {_KEY_VARIABLE}"']
            else:
                words += ["-H", shlex.quote(f"{name}: {value}")]
        words += ["--data-raw", shlex.quote(self.body.decode("utf-8", "replace"))]
        return " ".join(words)


@attrs.define
class Exchange:
    """
    The record of one call. It is filled in during the call.
    """

    request: SentRequest | None = None
    status: int | None = None
    raw_headers: tuple[tuple[bytes, bytes], ...] = ()
    attempts: tuple[Attempt, ...] = ()
    timing: Timing = Timing()

    @property
    def headers(self) -> Headers:
        """
        The headers of the response; empty if none came.
        """
        return Headers(self.raw_headers)

    @property
    def header_request_id(self) -> str | None:
        """
        The request id in the headers; `None` if they have none. Used if the body has no id.

        The gateway itself sends no such header. A proxy may send `x-gateway-request-id` or
        `x-request-id`, and the gateway's CDN sends `cf-ray`.
        """
        headers = self.headers
        return next((headers[name] for name in _ID_HEADERS if headers.get(name)), None)
