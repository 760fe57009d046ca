"""
OpenAI's SDK, synchronous, as it is by default.
"""

from __future__ import annotations

import time
from typing import Any

import openai


class Peer:
    """
    A client. Its own limit of connections is 1,000.
    """

    def __init__(self, url: str, connections: int) -> None:
        self._client = openai.OpenAI(api_key="key", base_url=url)

    def call(self, request: dict[str, Any]) -> str:
        """
        The text of a whole answer.
        """
        answer = self._client.chat.completions.create(**request)
        return answer.choices[0].message.content or ""

    def stream(self, request: dict[str, Any]) -> int:
        """
        The number of characters in a stream.
        """
        characters = 0
        for chunk in self._client.chat.completions.create(**request, stream=True):
            text = chunk.choices[0].delta.content
            if text:
                characters += len(text)
        return characters

    def first_token(self, request: dict[str, Any]) -> float:
        """
        Seconds until the first text of a stream, which is then read to its end.
        """
        first = 0.0
        begun = time.perf_counter()
        for chunk in self._client.chat.completions.create(**request, stream=True):
            if chunk.choices[0].delta.content and not first:
                first = time.perf_counter() - begun
        return first

    def close(self) -> None:
        """
        Close the client.
        """
        self._client.close()
