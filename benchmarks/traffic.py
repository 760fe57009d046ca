"""
What goes over the wire in a measurement: the order in a request, the answers to it, their frames.

The client asks for what it wants in the request's `model`, which every peer passes on as it is:
`bench/chunks=200,size=5`. So the peers need no header or parameter that only a benchmark has.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

__all__ = ("ANSWER", "HEAD_OF_ANSWER", "HEAD_OF_STREAM", "Order", "request_for")

_PREFIX = "bench/"
_PIECE = 256 * 1024  # bytes that are handed to the socket at once, at least
_WORDS = (" The", " keeper", " lit", " the", " lamp", ",\n", " and", " waited", " é", ' "out')


@dataclass(frozen=True)
class Order:
    """
    What a request asks the server for. Without chunks it is a whole answer.
    """

    chunks: int = 0
    """Chunks that have text."""
    size: int = 0
    """Characters of text in each; 0 for words, as models send them."""
    pace: int = 0
    """Microseconds between two chunks; 0 for as fast as they are read."""
    hold: int = 0
    """How many streams have to be open before any of them goes on after its first chunk."""
    apart: int = 0
    """Whether each event is an HTTP chunk of its own; else a chunk has what is ready."""
    padded: int = 0
    """Whether each chunk has padding of another length, as OpenAI's `obfuscation`."""

    def __str__(self) -> str:
        return _PREFIX + ",".join(f"{name}={value}" for name, value in vars(self).items() if value)

    @classmethod
    def parse(cls, model: str) -> Order:
        """
        The order that *model* is the text of.
        """
        pairs = (part.partition("=") for part in model.removeprefix(_PREFIX).split(",") if part)
        return cls(**{name: int(value) for name, _, value in pairs})

    @property
    def characters(self) -> int:
        """
        How many characters of text the answer has.
        """
        if not self.chunks:
            return len(_ANSWER_TEXT)
        length = len(_block(self.size, self.padded))
        return sum(len(_text(number % length, self.size)) for number in range(self.chunks))

    def pieces(self) -> Iterator[bytes]:
        """
        The body of the stream, in pieces that are written one by one.
        """
        yield _http_chunk(_event({"role": "assistant", "content": ""}))
        block = _block(self.size, self.padded)
        if self.pace or self.hold:
            for number in range(self.chunks):
                yield _http_chunk(block[number % len(block)])
        else:
            whole, rest = divmod(self.chunks, len(block))
            joined = self._joined(block)
            for _ in range(whole):
                yield joined
            if rest:
                yield self._joined(block[:rest])
        end = _event({}, finish_reason="stop", usage=_USAGE) + b"data: [DONE]\n\n"
        yield _http_chunk(end) + b"0\r\n\r\n"

    def _joined(self, events: list[bytes]) -> bytes:
        if self.apart:
            return b"".join(map(_http_chunk, events))
        return _http_chunk(b"".join(events))


def request_for(order: Order) -> dict[str, Any]:
    """
    The parameters of a call that asks for *order*.
    """
    return {
        "model": str(order),
        "messages": [
            {"role": "system", "content": "You are helpful, and brief."},
            {"role": "user", "content": "Write a limerick about lighthouses, and then explain it."},
        ],
        "temperature": 0.5,
    }


# --- the answers, in the shape that the gateway gives them ---

_USAGE = {
    "prompt_tokens": 42,
    "completion_tokens": 117,
    "total_tokens": 159,
    "prompt_tokens_details": {"cached_tokens": 32},
    "completion_tokens_details": {"reasoning_tokens": 9},
    "pricing": {"total_nanos": 8900, "total_usd_str": "0.0000089", "currency": "USD"},
}
_PADDING = "Xu3sKq8dAw5y"
_ANSWER_TEXT = "".join(_WORDS * 12)
ANSWER = json.dumps(
    {
        "id": "G-01K3ABCDEFGHJKMNPQRSTVWXYZ",
        "nativeResponseId": "chatcmpl-abc",
        "object": "chat.completion",
        "created": 1787400000,
        "model": "openai/gpt-5-nano",
        "provider": "openai",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": _ANSWER_TEXT, "refusal": None},
                "finish_reason": "stop",
                "logprobs": None,
            }
        ],
        "usage": _USAGE,
    },
    ensure_ascii=False,
    separators=(",", ":"),
).encode()
HEAD_OF_ANSWER = (
    b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nCache-Control: no-store\r\n"
    b"Content-Length: %d\r\n\r\n" % len(ANSWER)
)
HEAD_OF_STREAM = (
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nCache-Control: no-store\r\n"
    b"Transfer-Encoding: chunked\r\n\r\n"
)


def _event(delta: dict[str, Any], *, finish_reason: str | None = None, **more: object) -> bytes:
    chunk = {
        "id": "G-01K3ABCDEFGHJKMNPQRSTVWXYZ",
        "object": "chat.completion.chunk",
        "created": 1787400000,
        "model": "gpt-5-nano",
        "choices": [{"index": 0, "delta": delta, "finish_reason": finish_reason}],
        "usage": None,
        "nativeResponseId": "chatcmpl-abc",
        **more,
    }
    text = json.dumps(chunk, ensure_ascii=False, separators=(",", ":"))
    return b"data: " + text.encode() + b"\n\n"


def _http_chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def _text(number: int, size: int) -> str:
    word = _WORDS[number % len(_WORDS)]
    return (word * (size // len(word) + 1))[:size] if size else word


@functools.lru_cache(maxsize=4)
def _block(size: int, padded: int) -> list[bytes]:
    # The events that a stream repeats: enough of them for a piece.
    events: list[bytes] = []
    length = 0
    while length < _PIECE:
        number = len(events)
        padding = {"obfuscation": _PADDING[: number % len(_PADDING)]} if padded else {}
        events.append(_event({"content": _text(number, size)}, **padding))
        length += len(events[-1])
    return events
