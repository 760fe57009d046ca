"""
How long a program takes to start with one peer: to import it, to have a client, to have an answer.

Nothing is imported that the peer does not need: what came for the measurement's sake would cost the
peer nothing any more.
"""

from __future__ import annotations

import sys
import time

_, module, statement, url, model = sys.argv
stamps = [time.perf_counter()]
exec(statement, {})
stamps.append(time.perf_counter())

import asyncio  # noqa: E402  # each asynchronous program needs it, and aiohttp has it by now

Peer = __import__(f"peers.{module}", fromlist=["Peer"]).Peer


async def live() -> None:
    """
    A client is made, asked once, and closed; the times are noted.
    """
    client = Peer(url, 100)
    stamps.append(time.perf_counter())
    answer = client.call({"model": model, "messages": [{"role": "user", "content": "Hi"}]})
    if not isinstance(answer, str):
        await answer
    stamps.append(time.perf_counter())
    closing = client.close()
    if closing is not None:
        await closing


asyncio.run(live())
imported, ready, answered = ((stamp - stamps[0]) * 1e3 for stamp in stamps[1:])
print(f'{{"import_ms": {imported}, "ready_ms": {ready}, "answer_ms": {answered}}}')
