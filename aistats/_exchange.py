"""
What is known of one call besides its answer: the request's head, each attempt, the times, the
headers.

Every response and every error carries it, so it knows neither of them. Nothing here holds the API
key: a `SentRequest` is made from headers that have been through `redact`.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Iterator, Mapping
from typing import Literal

import attrs

__all__ = (
    "Attempt",
    "AttemptState",
    "Exchange",
    "Headers",
    "SentRequest",
    "Timing",
    "Trace",
    "redact",
)

AttemptState = Literal["unsent", "ambiguous", "answered"]

_KEY_VARIABLE = "$AI_STATS_API_KEY"
_ID_HEADERS = ("x-gateway-request-id", "x-request-id", "cf-ray")
_SECRET_WORDS = ("authorization", "cookie", "key", "token", "secret", "password")


class Headers(Mapping[str, str]):
    """
    The headers of an answer, by name in any case.

    A header that came several times is one value, joined by a comma and a space (RFC 9110, section
    5.3).
    """

    __slots__ = ("_values",)

    def __init__(self, pairs: Iterable[tuple[bytes, bytes]] = ()) -> None:
        values: dict[str, str] = {}
        for raw_name, raw_value in pairs:
            name = raw_name.decode("latin-1").lower()
            try:
                value = raw_value.decode()
            except UnicodeDecodeError:
                value = raw_value.decode("latin-1")  # as it was once, and it can be printed
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
    A copy of *headers* in which each value that may be a secret is three asterisks.
    """
    return {
        name: "***" if any(word in name.lower() for word in _SECRET_WORDS) else value
        for name, value in headers.items()
    }


@attrs.frozen
class Timing:
    """
    Where the time of a call went, in seconds; `None` where it is not known or did not happen.
    """

    queued: float | None = None
    """Waiting for a free place in the connection pool, in the last attempt."""
    connect: float | None = None
    """
    Looking up the host, connecting, TLS, in the last attempt; `None` on a connection that was kept.
    """
    first_byte: float | None = None
    """From the start of the last attempt until the answer's status and headers were there."""
    total: float | None = None
    """The whole call: every attempt, every wait between them and the reading of the answer."""


@attrs.frozen
class Attempt:
    """
    One try of a call. A call that went well at once has one of them.
    """

    outcome: AttemptState
    """
    `unsent`: nothing went out; `ambiguous`: sent, no answer came, so it may have been billed;
    `answered`.
    """
    status: int | None = None
    """The answer's HTTP status, where there was one."""
    reason: str | None = None
    """Why this attempt was not the last or failed, in words; `None` for one that went well."""
    wait: float = 0.0
    """Seconds that were waited after it, before the next."""


@attrs.define(eq=False, repr=False)
class Trace:
    """
    The times of one attempt, by the loop's clock, and how far it got.
    """

    begun: float
    queue_start: float | None = None
    queue_end: float | None = None
    connect_start: float | None = None
    connect_end: float | None = None
    first_byte: float | None = None
    is_sent: bool = False
    is_sending: bool = False
    """Whether a body that does not go out at once is on its way."""

    @property
    def outcome(self) -> AttemptState:
        """
        How far the attempt got.
        """
        if self.first_byte is not None:
            return "answered"
        return "ambiguous" if self.is_sent else "unsent"

    @property
    def phase(self) -> str:
        """
        What the attempt is doing, in words.
        """
        if self.queue_start is not None and self.queue_end is None:
            return "waiting for a free connection (see max_connections)"
        if self.connect_start is not None and self.connect_end is None:
            return "connecting"
        return "sending the request" if self.is_sending else "waiting for an answer"

    @property
    def is_reused(self) -> bool:
        """
        Whether it went out on a connection that had been kept.
        """
        return self.is_sent and self.connect_start is None

    def timing(self, call_begun: float, now: float) -> Timing:
        """
        The times as a user reads them.
        """
        return Timing(
            queued=_span(self.queue_start, self.queue_end),
            connect=_span(self.connect_start, self.connect_end),
            first_byte=_span(self.begun, self.first_byte),
            total=now - call_begun,
        )


def _span(start: float | None, end: float | None) -> float | None:
    return None if start is None or end is None else end - start


@attrs.frozen
class SentRequest:
    """
    What went out, without the key.
    """

    method: str
    url: str
    headers: Mapping[str, str] = attrs.field(repr=False)
    body: bytes = attrs.field(repr=False)

    def as_curl(self) -> str:
        """
        The request as a shell command; the key is read from the variable `AI_STATS_API_KEY`.
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
    The record of one call; it is filled in while the call goes on.
    """

    request: SentRequest | None = None
    status: int | None = None
    raw_headers: tuple[tuple[bytes, bytes], ...] = ()
    attempts: tuple[Attempt, ...] = ()
    timing: Timing = Timing()

    @property
    def headers(self) -> Headers:
        """
        The headers of the answer; empty where none came.
        """
        return Headers(self.raw_headers)

    @property
    def header_request_id(self) -> str | None:
        """
        An id from the headers, for an answer whose body has none.

        The gateway itself sends none. A proxy may send `x-gateway-request-id` or `x-request-id`,
        and the gateway's CDN sends `cf-ray`.
        """
        headers = self.headers
        return next((headers[name] for name in _ID_HEADERS if headers.get(name)), None)
