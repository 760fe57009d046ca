"""
One measurement of one peer, in a process of its own: a job as JSON in, numbers as JSON out.
"""

from __future__ import annotations

import asyncio
import gc
import importlib
import json
import statistics
import sys
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from catalogue import PEERS
from machine import memory
from traffic import Order, request_for

Numbers = dict[str, float]


class Wrong(Exception):
    """
    A peer's answer is not what was ordered, so its time means nothing.
    """


class Stopwatch:
    """
    What a stretch of the program takes: CPU of all threads of this process, and wall time.
    """

    def __enter__(self) -> Stopwatch:
        gc.collect()
        self._cpu, self._wall = time.process_time(), time.perf_counter()
        return self

    def __exit__(self, *_: object) -> None:
        self._cpu = time.process_time() - self._cpu
        self._wall = time.perf_counter() - self._wall

    def per(self, units: int) -> Numbers:
        """
        Microseconds for each of *units*.
        """
        return {"cpu_us": self._cpu / units * 1e6, "wall_us": self._wall / units * 1e6}


# --- asynchronous peers ---


async def measure(client: Any, job: dict[str, Any]) -> Numbers:
    """
    The numbers of *job* for an asynchronous client.
    """
    order = Order(**job.get("order", {}))
    request, expected = request_for(order), order.characters
    warm_up = request_for(Order(chunks=min(order.chunks, 100)))

    async def call() -> None:
        if len(await client.call(request)) != expected:
            raise Wrong

    async def stream() -> None:
        if await client.stream(request) != expected:
            raise Wrong

    if job["kind"] == "first_token":
        await client.stream(warm_up)
        times = [await client.first_token(request) for _ in range(job["count"])]
        return {"wall_us": statistics.median(times) * 1e6}
    ask = client.stream if order.chunks else client.call
    await _repeat(lambda: ask(warm_up), job["at_once"], job["at_once"])
    with Stopwatch() as watch:
        await _repeat(stream if order.chunks else call, job["count"], job["at_once"])
    return watch.per(job["count"] * max(1, order.chunks))


async def _repeat(work: Callable[[], Awaitable[object]], count: int, at_once: int) -> None:
    # So many at once as there are tasks, each of which does its share one after the other.
    async def some(share: int) -> None:
        for _ in range(share):
            await work()

    if at_once == 1:
        await some(count)
    else:
        await asyncio.gather(*(some(share) for share in _shares(count, at_once)))


# --- synchronous peers: the same, with threads for tasks ---


def measure_sync(client: Any, job: dict[str, Any]) -> Numbers:
    """
    The numbers of *job* for a synchronous client.
    """
    order = Order(**job.get("order", {}))
    request, expected = request_for(order), order.characters
    warm_up = request_for(Order(chunks=min(order.chunks, 100)))

    def call() -> None:
        if len(client.call(request)) != expected:
            raise Wrong

    def stream() -> None:
        if client.stream(request) != expected:
            raise Wrong

    if job["kind"] == "first_token":
        client.stream(warm_up)
        times = [client.first_token(request) for _ in range(job["count"])]
        return {"wall_us": statistics.median(times) * 1e6}
    ask = client.stream if order.chunks else client.call
    with ThreadPoolExecutor(job["at_once"]) as threads:
        _repeat_in(threads, lambda: ask(warm_up), job["at_once"], job["at_once"])
        with Stopwatch() as watch:
            _repeat_in(threads, stream if order.chunks else call, job["count"], job["at_once"])
    return watch.per(job["count"] * max(1, order.chunks))


def _repeat_in(
    threads: ThreadPoolExecutor, work: Callable[[], object], count: int, at_once: int
) -> None:
    def some(share: int) -> None:
        for _ in range(share):
            work()

    if at_once == 1:
        some(count)
    else:
        list(threads.map(some, _shares(count, at_once)))


def _shares(count: int, at_once: int) -> list[int]:
    return [count // at_once + (number < count % at_once) for number in range(at_once)]


# --- the process ---


def main(job: dict[str, Any]) -> Numbers:
    """
    Make the client of *job*, measure it, and close it.
    """
    module = importlib.import_module(f"peers.{job['peer']}")
    options = _json_library(job["json"]) if "json" in job else {}

    if not PEERS[job["peer"]].is_async:
        client = module.Peer(job["url"], job["at_once"], **options)
        numbers = measure_sync(client, job)
        client.close()
        return {**numbers, **memory()}

    async def live() -> Numbers:
        client = module.Peer(job["url"], job["at_once"], **options)
        numbers = await measure(client, job)
        numbers.update(memory())
        await client.close()
        return numbers

    if job.get("loop") == "uvloop":
        import uvloop

        return uvloop.run(live())
    return asyncio.run(live())


def _json_library(name: str) -> dict[str, Callable[[Any], Any]]:
    if name == "msgspec":
        import msgspec.json

        return {"dumps": msgspec.json.encode, "loads": msgspec.json.decode}
    if name == "json":
        return {"dumps": lambda value: json.dumps(value).encode(), "loads": json.loads}
    return {}


if __name__ == "__main__":
    print(json.dumps(main(json.loads(sys.argv[1]))))
