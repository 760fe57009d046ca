"""
One line of a checkpoint: an outcome to bytes, and bytes back to a usable answer. No I/O.

A line may have been written by a later version, edited by hand, or damaged. Whatever it contains,
it is either a usable answer or nothing.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any, Final, get_args

import attrs
import orjson

from .._errors import AIStatsError, APIStatusError
from .._exchange import Attempt, AttemptState, Exchange, Timing
from .._views.completion import ChatCompletionsResponse
from .._views.json import Wire, as_object, as_objects, is_object, parse_json

__all__ = ("answer_from", "name_of", "record_of")

_STATES: Final = frozenset(get_args(AttemptState))


def record_of(
    key: str,
    request_hash: str,
    index: int,
    result: ChatCompletionsResponse | Exception,
    attempts: Iterable[Attempt] = (),
    timing: Timing | None = None,
) -> bytes:
    """
    Return the line for the outcome *result* of the request with the hash *request_hash*.

    Raises:
        ValueError: The answer is nested too deeply for JSON.
    """
    record: Wire = {"key": key} if request_hash == key else {"key": key, "hash": request_hash}
    record["index"] = index
    if isinstance(result, ChatCompletionsResponse):
        record["response"] = result.to_dict()
    else:
        record["error"] = _error_record(result)
    if isinstance(result, ChatCompletionsResponse | AIStatsError):
        record["request_id"] = result.request_id
    record["attempts"] = [attrs.asdict(attempt) for attempt in attempts]
    record["timing"] = attrs.asdict(timing or Timing())
    return orjson.dumps(record, option=orjson.OPT_APPEND_NEWLINE)


def name_of(line: bytes) -> tuple[str, str] | None:
    """
    Return the key and the hash of the request whose answer is in *line*; `None` where *line* has
    no usable answer.

    Raises:
        ValueError: The line is no record at all.
    """
    return _name_of(_parsed(line))


def answer_from(line: bytes, key: str | None, request_hash: str) -> ChatCompletionsResponse | None:
    """
    Return the answer that *line* has to a request under *key*, or under any key if that is `None`;
    `None` if it has none.
    """
    try:
        record = _parsed(line)
        name = _name_of(record)
        if name is None or name[1] != request_hash or key not in (None, name[0]):
            return None
    except ValueError:
        return None
    return ChatCompletionsResponse(record["response"], _exchange_of(record))


def _parsed(line: bytes) -> Wire:
    record = parse_json(line)
    if not is_object(record):
        raise ValueError("a record is an object")
    return record


def _name_of(record: Wire) -> tuple[str, str] | None:
    key = record.get("key")
    if not isinstance(key, str):
        raise ValueError("a record has a key")
    return (key, str(record.get("hash", key))) if _is_answer(record.get("response")) else None


def _is_answer(response: Any) -> bool:
    # As for an answer from the gateway: without a choice there is nothing to show.
    return is_object(response) and bool(as_objects(response.get("choices")))


def _error_record(error: Exception) -> Wire:
    record: Wire = {"type": type(error).__name__}
    if isinstance(error, AIStatsError):  # the message of another error may contain anything
        record |= {"message": error.message, "status": error.status}
    if isinstance(error, APIStatusError):
        record["code"] = error.code
    return record


def _exchange_of(record: Wire) -> Exchange:
    request_id = record.get("request_id")
    headers = ((b"x-request-id", request_id.encode()),) if isinstance(request_id, str) else ()
    attempts = map(_attempt_from, as_objects(record.get("attempts")))
    timing = as_object(record.get("timing"))
    return Exchange(
        status=200,
        raw_headers=headers,
        attempts=tuple(attempt for attempt in attempts if attempt is not None),
        timing=Timing(**{name: _seconds(timing.get(name)) for name in _TIMES}),
    )


_TIMES: Final = tuple(field.name for field in attrs.fields(Timing))


def _attempt_from(wire: Wire) -> Attempt | None:
    # An attempt whose state is unknown says nothing.
    state: Any = wire.get("outcome")
    if not isinstance(state, str) or state not in _STATES:
        return None
    status, reason = wire.get("status"), wire.get("reason")
    return Attempt(
        state,  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
        status if type(status) is int else None,
        reason if isinstance(reason, str) else None,
        _seconds(wire.get("wait")) or 0.0,
    )


def _seconds(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if math.isfinite(value) and value >= 0 else None
