"""
The same as by hand on aiohttp, on httpx, with httpx-sse for the events.
"""

from __future__ import annotations

import time
from typing import Any

import httpx
import httpx_sse
import orjson


class Peer:
    """
    An httpx client, and the two calls over it.
    """

    def __init__(self, url: str, connections: int) -> None:
        self._url = f"{url}/chat/completions"
        self._client = httpx.AsyncClient(
            limits=httpx.Limits(max_connections=connections, max_keepalive_connections=connections),
            timeout=600,
            headers={"Authorization": "Bearer key", "Content-Type": "application/json"},
        )

    async def call(self, request: dict[str, Any]) -> str:
        """
        The text of a whole answer.
        """
        response = await self._client.post(self._url, content=orjson.dumps(request))
        response.raise_for_status()
        text: str = orjson.loads(response.content)["choices"][0]["message"]["content"]
        return text

    async def stream(self, request: dict[str, Any]) -> int:
        """
        The number of characters in a stream.
        """
        characters = 0
        body = orjson.dumps({**request, "stream": True})
        async with httpx_sse.aconnect_sse(self._client, "POST", self._url, content=body) as source:
            source.response.raise_for_status()
            async for event in source.aiter_sse():
                if event.data != "[DONE]":
                    text = orjson.loads(event.data)["choices"][0]["delta"].get("content")
                    if text:
                        characters += len(text)
        return characters

    async def first_token(self, request: dict[str, Any]) -> float:
        """
        Seconds until the first text of a stream, which is then read to its end.
        """
        first = 0.0
        begun = time.perf_counter()
        body = orjson.dumps({**request, "stream": True})
        async with httpx_sse.aconnect_sse(self._client, "POST", self._url, content=body) as source:
            source.response.raise_for_status()
            async for event in source.aiter_sse():
                if event.data != "[DONE]":
                    delta = orjson.loads(event.data)["choices"][0]["delta"]
                    if delta.get("content") and not first:
                        first = time.perf_counter() - begun
        return first

    async def close(self) -> None:
        """
        Close the client.
        """
        await self._client.aclose()
