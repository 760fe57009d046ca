"""
The gateway's own SDK: synchronous, and without typed chunks.

It has no client to close: each call and each stream opens a connection of its own.
"""

from __future__ import annotations

import time
from typing import Any

import phaseo


class Peer:
    """
    A client.
    """

    def __init__(self, url: str, connections: int) -> None:
        self._client = phaseo.Phaseo(api_key="key", base_url=url)

    def call(self, request: dict[str, Any]) -> str:
        """
        The text of a whole answer.
        """
        answer: Any = self._client.generate_text(request)
        text: str = answer["choices"][0]["message"]["content"]
        return text

    def stream(self, request: dict[str, Any]) -> int:
        """
        The number of characters in a stream.
        """
        characters = 0
        chunk: Any
        for chunk in self._client.stream_chat(request):
            text = chunk["choices"][0]["delta"].get("content")
            if text:
                characters += len(text)
        return characters

    def first_token(self, request: dict[str, Any]) -> float:
        """
        Seconds until the first text of a stream, which is then read to its end.
        """
        first = 0.0
        begun = time.perf_counter()
        chunk: Any
        for chunk in self._client.stream_chat(request):
            if chunk["choices"][0]["delta"].get("content") and not first:
                first = time.perf_counter() - begun
        return first

    def close(self) -> None:
        """
        Nothing happens.
        """
