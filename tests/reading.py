"""
A stream, read to its end by a decoder, without a server.
"""

from __future__ import annotations

from collections.abc import Iterator

import attrs

from aistats import AIStatsError, ChatCompletionChunk, ChatCompletionsResponse
from aistats._wire.decoder import NEED_DATA, StreamDecoder

__all__ = ("Reading", "read", "split")


@attrs.frozen
class Reading:
    """
    The result of reading a stream: its chunks, and the response or the error at its end.
    """

    chunks: list[ChatCompletionChunk]
    response: ChatCompletionsResponse | None
    error: AIStatsError | None = None

    @property
    def text(self) -> str:
        """
        The new text of all chunks.
        """
        return "".join(chunk.text for chunk in self.chunks)

    @property
    def whole(self) -> ChatCompletionsResponse:
        """
        The response of a stream that ended properly.
        """
        assert self.error is None
        assert self.response is not None
        return self.response


def read(*reads: bytes) -> Reading:
    """
    Read the stream that arrives in *reads* and then ends.
    """
    decoder = StreamDecoder()
    chunks: list[ChatCompletionChunk] = []
    try:
        for data in (*reads, b""):
            decoder.receive_data(data)
            while (item := decoder.next_chunk()) is not NEED_DATA:
                if item is None:
                    return Reading(chunks, decoder.response())
                chunks.append(item)
    except AIStatsError as error:
        return Reading(chunks, error.partial, error)
    raise AssertionError("the decoder asks for more after the end of the input")


def split(body: bytes, size: int) -> Iterator[bytes]:
    """
    Return *body* in reads of *size* bytes.
    """
    return (body[at : at + size] for at in range(0, len(body), size))
