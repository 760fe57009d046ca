"""
The outcome of one row: its answer or its error, and what is known of the call.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Final, Literal

import attrs

from .._clock import monotonic
from .._errors import AIStatsError
from .._exchange import Attempt, Timing
from .._request.request import ChatCompletionsRequest
from .._show.cards import LISTED_ROWS, Rows
from .._views.completion import ChatCompletionsResponse
from .source import Item

__all__ = ("COLUMNS", "Outcome", "as_shown", "outcomes_of")

COLUMNS: Final = (
    *("index", "key", "text", "error", "cached", "model", "finish_reason"),
    *("prompt_tokens", "completion_tokens", "cost", "attempts", "seconds", "request_id"),
)
"""The keys of `Outcome.to_dict`, in order."""

_LONGEST_REPR: Final = 200
"""Characters of a row or a text that a repr shows."""

_OURS = ChatCompletionsResponse | AIStatsError


@attrs.frozen(repr=False)
class _Outcome:
    """
    What became of one row: a response or an error, never both.

    To a type checker an outcome is one of two types: in the first, `response` and `text` are there,
    in the second, `error` is. `if outcome.error is None:` tells them apart for every checker,
    `if outcome.ok:` for mypy.
    """

    __module__ = "aistats"
    __qualname__ = "Outcome"

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

    def __repr__(self) -> str:
        cached = ", cached=True" if self.cached else ""
        result = f"text={_short(self.text)}" if self.error is None else f"error={self.error!r}"
        return f"Outcome(index={self.index}, row={_short(self.row)}, {result}{cached})"

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
        Return the answer.

        Raises:
            Exception: There is none; `error` is raised.
        """
        if self.response is None:
            assert self.error is not None
            raise self.error
        return self.response

    def to_dict(self) -> dict[str, Any]:
        """
        Return the outcome as a flat dict, as one row of a table.
        """
        response, error = self.response, self.error
        source = error if response is None else response
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
            "request_id": source.request_id if isinstance(source, _OURS) else None,
        }


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= _LONGEST_REPR else f"{text[:_LONGEST_REPR]}…"


if TYPE_CHECKING:

    class _Answered(_Outcome):
        response: ChatCompletionsResponse
        error: None

        @property
        def ok(self) -> Literal[True]: ...
        @property
        def text(self) -> str: ...

    class _Failed(_Outcome):
        response: None
        error: Exception

        @property
        def ok(self) -> Literal[False]: ...
        @property
        def text(self) -> None: ...

    Outcome = _Answered | _Failed
else:
    Outcome = _Outcome
    Outcome.__name__ = "Outcome"


def outcomes_of(
    item: Item,
    response: ChatCompletionsResponse | None,
    error: Exception | None,
    *,
    cached: bool,
) -> Iterator[tuple[Item, Outcome]]:
    """
    Yield *item* and each row that follows it, with its outcome.
    """
    attempts, timing = item.earlier, Timing()
    source = error if response is None else response
    if isinstance(source, _OURS):
        attempts, timing = item.earlier + source.attempts, source.timing
    if item.earlier or item.throttle is not None:
        timing = attrs.evolve(timing, total=monotonic() - item.begun)
    for each in (item, *item.followers):
        is_cached = cached or (each is not item and error is None)
        outcome: Any = _Outcome(
            each.index,
            each.key,
            each.row,
            each.request,
            response,
            error,
            attempts,
            timing,
            is_cached,
        )
        yield each, outcome


def as_shown(outcomes: Sequence[Outcome]) -> Rows:
    """
    Return what a notebook shows of *outcomes*: the first of them.
    """
    first = [
        (each.index, each.text or "" if each.ok else f"{type(each.error).__name__}: {each.error}")
        for each in outcomes[:LISTED_ROWS]
    ]
    return Rows(len(outcomes), first)
