"""
Any bytes as an answer, guided by coverage. No part of the test suite, since it runs until it is
stopped:

    pip install atheris
    python tests/fuzz_stream.py -max_total_time=600

Whatever the bytes are, the package raises its own errors alone, and it makes no difference in what
pieces they come nor whether the short cut for plain chunks is taken.
"""

from __future__ import annotations

import json
import pickle
import random
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import atheris

with atheris.instrument_imports(include=["aistats"]):
    import aistats
    from aistats import RetryPolicy
    from aistats._exchange import Exchange
    from aistats._wire.answer import completion_from
    from aistats._wire.decoder import NEED_DATA, StreamDecoder
    from aistats._wire.status_error import status_error_from

from shapes import SHAPES

LONGEST = 1 << 16
POLICY = RetryPolicy()


def one_input(data: bytes) -> None:
    """
    The *data* as a stream, as a whole answer and as an error: nothing but our errors comes of it.
    """
    rng = random.Random(data)
    whole = outcome([data], plain=False, thorough=True)
    pieces = cut(data, rng)
    assert outcome(pieces, plain=False) == whole, pieces
    pieces = cut(data, rng)
    assert outcome(pieces, plain=True) == whole, pieces
    for status in (200, 429):
        exchange = Exchange(status=status, raw_headers=((b"Retry-After", data[:20]),))
        try:
            if status == 200:
                read_all(completion_from(data, exchange))
                StreamDecoder(exchange).receive_whole(data)
            else:
                raise status_error_from(data, exchange)
        except aistats.AIStatsError as error:
            check(error)


def cut(data: bytes, rng: random.Random) -> list[bytes]:
    """
    The *data* in pieces.
    """
    places = sorted(rng.randrange(len(data) + 1) for _ in range(rng.randrange(1, 12)))
    pairs = zip([0, *places], [*places, len(data)], strict=True)
    return [data[start:end] for start, end in pairs if start < end]


def outcome(pieces: list[bytes], *, plain: bool, thorough: bool = False) -> Any:
    """
    All that a reader of the stream sees, with the short cut for *plain* chunks or without it.
    """
    decoder = StreamDecoder(Exchange(status=200), longest_event=LONGEST)
    seen: list[Any] = []
    feed = iter([*pieces, b""])
    try:
        while True:
            chunk = decoder.next_plain() if plain and seen else None
            if chunk is None:
                found = decoder.next_chunk()
                if found is None:
                    break
                if found is NEED_DATA:
                    decoder.receive_data(next(feed))
                    continue
                chunk = found
            assert isinstance(chunk, aistats.ChatCompletionChunk)
            if thorough:
                read_all(chunk)
            seen.append((chunk.text, str(chunk), chunk.to_dict()))
    except aistats.AIStatsError as error:
        if thorough:
            check(error)
        seen.append((type(error), str(error)))
    response = decoder.response()
    if thorough:
        read_all(response)
    return seen, response.to_dict(), response.text, decoder.is_complete


def check(error: aistats.AIStatsError) -> None:
    """
    The *error* can be used as any.
    """
    assert str(pickle.loads(pickle.dumps(error))) == str(error)
    POLICY.next_delay(1, error, 0.5)
    read_all(error.partial)


def read_all(value: Any, depth: int = 0) -> None:
    """
    Each property of *value*, and of what they have, can be read, printed and compared.
    """
    if depth > 6 or value is None or isinstance(value, str | bytes | int | float | dict):
        return
    if isinstance(value, list | tuple):
        for each in value:
            read_all(each, depth + 1)
        return
    if type(value).__module__.partition(".")[0] != "aistats":
        return
    repr(value), str(value)
    for name in dir(type(value)):
        if isinstance(getattr(type(value), name), property) and not name.startswith("_"):
            read_all(getattr(value, name), depth + 1)
    if hasattr(value, "to_dict"):
        json.dumps(value.to_dict())


VALUES: list[Any] = [None, True, 0, -1, 7, 1e300, "", "x", "stop", [], {}, [None], [{}], {"": 0}]


def mutate(data: bytes, max_size: int, seed: int) -> bytes:
    """
    Other bytes: a value, a key or a frame of the JSON is another one, or just some bytes are.
    """
    rng = random.Random(seed)
    events = data.split(b"\n\n")
    place = rng.randrange(len(events))
    head, mark, body = events[place].partition(b"data: ")
    try:
        frame = json.loads(body)
    except (ValueError, RecursionError):
        frame = None
    if frame is None or rng.random() < 0.3:
        return atheris.Mutate(data, max_size)
    choice = rng.random()
    if choice < 0.2:
        events.insert(rng.randrange(len(events) + 1), events[place])
    elif choice < 0.3:
        del events[place]
    else:
        holder, key = rng.choice(list(_places([frame])))
        old = holder[key]
        if choice < 0.4:
            del holder[key]
        elif choice < 0.7:
            holder[key] = rng.choice(VALUES)
        elif isinstance(old, str):
            holder[key] = old[: rng.randrange(len(old) + 1)] + rng.choice(
                ['"', "\\", "é", "\n", "👋"]
            )
        else:
            other, name = rng.choice(list(_places([frame])))
            holder[key] = other.get(name) if isinstance(other, dict) else other
        try:
            separators = rng.choice([(",", ":"), (", ", ": ")])
            body = json.dumps(
                frame, ensure_ascii=rng.random() < 0.5, separators=separators
            ).encode()
        except (ValueError, RecursionError):
            return atheris.Mutate(data, max_size)
        events[place] = head + mark + body
    return b"\n\n".join(events)[:max_size]


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    for key in value if isinstance(value, dict) else range(len(value)):
        yield value, key
        if isinstance(value[key], dict | list):
            yield from _places(value[key])


def main() -> None:
    """
    Begin with the streams that are known, and go on from there.
    """
    with tempfile.TemporaryDirectory() as corpus:
        for number, shape in enumerate(SHAPES.values()):
            Path(corpus, str(number)).write_bytes(shape.body())
        atheris.Setup([*sys.argv, "-max_len=8192", corpus], one_input, custom_mutator=mutate)
        atheris.Fuzz()


if __name__ == "__main__":
    main()
