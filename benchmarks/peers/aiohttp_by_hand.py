"""
What a good engineer writes without an SDK: aiohttp, orjson, and a loop. All others are measured
against it.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import aiohttp
import orjson


class Peer:
    """
    A session, and the two calls over it.
    """

    def __init__(
        self,
        url: str,
        connections: int,
        *,
        dumps: Callable[[Any], bytes] = orjson.dumps,
        loads: Callable[[bytes], Any] = orjson.loads,
    ) -> None:
        self._url = f"{url}/chat/completions"
        self._dumps = dumps
        self._loads = loads
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=connections),
            timeout=aiohttp.ClientTimeout(total=600),
            headers={"Authorization": "Bearer key", "Content-Type": "application/json"},
        )

    async def call(self, request: dict[str, Any]) -> str:
        """
        The text of a whole answer.
        """
        body = self._dumps(request)
        async with self._session.post(self._url, data=body) as response:
            if response.status != 200:
                raise RuntimeError(f"status {response.status}")
            answer = self._loads(await response.read())
        text: str = answer["choices"][0]["message"]["content"]
        return text

    async def stream(self, request: dict[str, Any]) -> int:
        """
        The number of characters in a stream.
        """
        characters = 0
        body = self._dumps({**request, "stream": True})
        async with self._session.post(self._url, data=body) as response:
            if response.status != 200:
                raise RuntimeError(f"status {response.status}")
            rest = b""
            async for data in response.content.iter_any():
                *events, rest = (rest + data).split(b"\n\n")
                for event in events:
                    if event == b"data: [DONE]":
                        return characters
                    chunk = self._loads(event.removeprefix(b"data: "))
                    text = chunk["choices"][0]["delta"].get("content")
                    if text:
                        characters += len(text)
        raise RuntimeError("the stream was cut")

    async def first_token(self, request: dict[str, Any]) -> float:
        """
        Seconds until the first text of a stream, which is then read to its end.
        """
        first = 0.0
        begun = time.perf_counter()
        body = self._dumps({**request, "stream": True})
        async with self._session.post(self._url, data=body) as response:
            if response.status != 200:
                raise RuntimeError(f"status {response.status}")
            rest = b""
            async for data in response.content.iter_any():
                *events, rest = (rest + data).split(b"\n\n")
                for event in events:
                    if event == b"data: [DONE]":
                        return first
                    chunk = self._loads(event.removeprefix(b"data: "))
                    if chunk["choices"][0]["delta"].get("content") and not first:
                        first = time.perf_counter() - begun
        raise RuntimeError("the stream was cut")

    async def close(self) -> None:
        """
        Close the session.
        """
        await self._session.close()
