"""
OpenAI's SDK, asynchronous, as it is by default.
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
        self._client = openai.AsyncOpenAI(api_key="key", base_url=url)

    async def call(self, request: dict[str, Any]) -> str:
        """
        The text of a whole answer.
        """
        answer = await self._client.chat.completions.create(**request)
        return answer.choices[0].message.content or ""

    async def stream(self, request: dict[str, Any]) -> int:
        """
        The number of characters in a stream.
        """
        characters = 0
        async for chunk in await self._client.chat.completions.create(**request, stream=True):
            text = chunk.choices[0].delta.content
            if text:
                characters += len(text)
        return characters

    async def first_token(self, request: dict[str, Any]) -> float:
        """
        Seconds until the first text of a stream, which is then read to its end.
        """
        first = 0.0
        begun = time.perf_counter()
        async for chunk in await self._client.chat.completions.create(**request, stream=True):
            if chunk.choices[0].delta.content and not first:
                first = time.perf_counter() - begun
        return first

    async def close(self) -> None:
        """
        Close the client.
        """
        await self._client.close()
