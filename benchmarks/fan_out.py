"""
`client.map` measured: what it costs beside a loop by hand, and what it does with a server that has
a limit.

    python benchmarks/fan_out.py            # everything; a part by its name: cost, latency, ...

Prints what it found, part by part, and draws `fan_out.svg` and `.png` for the part `capacity` into
`build/benchmarks`, or where `--out` says. The server is a process of its own, and so is each
measured program, so that CPU time is that of the client alone. Needs the extra `bench`.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import re
import resource
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import machine

PROMPT = "Classify the following text in one word, please, and say nothing else: row {}"

# --- the server ---

_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_MODEL = re.compile(rb'"model": ?"([^"]*)"')
_PROMPT = re.compile(rb'"content": ?"([^"]*)"')
_ANSWER = json.dumps(
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
                "message": {"role": "assistant", "content": "<>", "refusal": None},
                "finish_reason": "stop",
                "logprobs": None,
            }
        ],
        "usage": {
            "prompt_tokens": 42,
            "completion_tokens": 117,
            "total_tokens": 159,
            "prompt_tokens_details": {"cached_tokens": 32},
            "completion_tokens_details": {"reasoning_tokens": 9},
            "pricing": {"total_nanos": 8900, "total_usd_str": "0.0000089", "currency": "USD"},
        },
    },
    separators=(",", ":"),
).encode()
_TOO_FAST = json.dumps({"error": "rate_limited", "description": "Too many requests."}).encode()


def _http(status: bytes, body: bytes) -> bytes:
    return b"HTTP/1.1 %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s" % (
        status,
        len(body),
        body,
    )


class _Connection(asyncio.Protocol):
    """
    Echoes each prompt after a while, and turns away what is too much: the request's `model` says
    how, as in `delay=100,takes=20`.
    """

    connections = most_connections = requests = turned_away = under_way = 0

    def connection_made(self, transport: Any) -> None:
        self._transport: asyncio.Transport = transport
        self._received = b""
        kind = _Connection
        kind.connections += 1
        kind.most_connections = max(kind.most_connections, kind.connections)

    def connection_lost(self, exc: Exception | None) -> None:
        _Connection.connections -= 1

    def data_received(self, data: bytes) -> None:
        self._received += data
        while (end := self._received.find(b"\r\n\r\n") + 4) >= 4:
            length = _LENGTH.search(self._received, 0, end)
            size = end + (int(length[1]) if length else 0)
            if len(self._received) < size:
                return
            request, self._received = self._received[:size], self._received[size:]
            self._answer(request, end)

    def _answer(self, request: bytes, end: int) -> None:
        kind = _Connection
        model = _MODEL.search(request, end)
        if model is None:  # whoever asks for the numbers
            names = ("connections", "most_connections", "requests", "turned_away")
            numbers = {name: getattr(kind, name) for name in names}
            self._transport.write(_http(b"200 OK", json.dumps(numbers).encode()))
            kind.most_connections = kind.requests = kind.turned_away = 0
            return
        order = dict(part.split("=") for part in model[1].decode().split(",") if "=" in part)
        kind.requests += 1
        if kind.under_way >= int(order.get("takes", 1_000_000)):
            kind.turned_away += 1
            self._transport.write(_http(b"429 Too Many Requests", _TOO_FAST))
            return
        prompt = _PROMPT.search(request, end)
        answer = _http(b"200 OK", _ANSWER.replace(b"<>", prompt[1] if prompt else b""))
        if delay := int(order.get("delay", 0)):
            kind.under_way += 1
            asyncio.get_running_loop().call_later(delay / 1000, self._finish, answer)
        else:
            self._transport.write(answer)

    def _finish(self, answer: bytes) -> None:
        _Connection.under_way -= 1
        self._transport.write(answer)


async def serve() -> None:
    """
    Answer until the standard input ends.
    """
    loop = asyncio.get_running_loop()
    server = await loop.create_server(_Connection, "127.0.0.1", 0, backlog=4096)
    print(server.sockets[0].getsockname()[1], flush=True)
    await loop.run_in_executor(None, sys.stdin.read)


class Server:
    """
    The server in a process of its own.
    """

    def __init__(self, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}/v1"

    def numbers(self) -> dict[str, int]:
        """
        What it counted since it was asked last.
        """
        with urllib.request.urlopen(self.url) as answer:
            return json.load(answer)


@contextlib.contextmanager
def running_server() -> Iterator[Server]:
    """
    A server, until the block ends.
    """
    command = [sys.executable, __file__, "serve"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        yield Server(int(process.stdout.readline()))
        assert process.stdin is not None
        process.stdin.close()


# --- the programs that are measured ---


def prompts(count: int) -> Iterator[str]:
    """
    So many prompts, no two the same.
    """
    return (PROMPT.format(number) for number in range(count))


async def by_hand(url: str, model: str, count: int, concurrency: int) -> Sequence[str | None]:
    """
    What one writes without a library for it: aiohttp, a semaphore, `gather`.
    """
    import aiohttp

    semaphore = asyncio.Semaphore(concurrency)
    connector = aiohttp.TCPConnector(limit=concurrency)
    headers = {"Authorization": "Bearer key"}

    async with aiohttp.ClientSession(connector=connector, headers=headers) as session:

        async def ask(prompt: str) -> str:
            payload = {"model": model, "messages": [{"role": "user", "content": prompt}]}
            async with (
                semaphore,
                session.post(f"{url}/chat/completions", json=payload) as response,
            ):
                answer = await response.json()
            return answer["choices"][0]["message"]["content"]

        return await asyncio.gather(*map(ask, prompts(count)))


async def gathered(url: str, model: str, count: int, concurrency: int) -> Sequence[str | None]:
    """
    The same loop over `generate_text`.
    """
    from aistats import AsyncClient

    semaphore = asyncio.Semaphore(concurrency)
    async with AsyncClient("key", url, max_connections=concurrency) as client:

        async def ask(prompt: str) -> str:
            async with semaphore:
                return (await client.generate_text(model=model, messages=prompt)).text

        return await asyncio.gather(*map(ask, prompts(count)))


async def mapped(url: str, model: str, count: int, concurrency: int) -> Sequence[str | None]:
    """
    `AsyncClient.map`, all of it kept.
    """
    from aistats import AsyncClient

    async with AsyncClient("key", url, max_connections=concurrency) as client:
        run = await client.map(prompts(count), model=model, concurrency=concurrency)
        return run.texts()


async def found(url: str, model: str, count: int, concurrency: int) -> Sequence[str | None]:
    """
    `AsyncClient.map`, which finds the concurrency by itself.
    """
    from aistats import AsyncClient

    async with AsyncClient("key", url, max_connections=concurrency) as client:
        run = await client.map(prompts(count), model=model)
        return run.texts()


async def iterated(url: str, model: str, count: int, concurrency: int) -> Sequence[str | None]:
    """
    `AsyncClient.map`, one outcome after the other.
    """
    from aistats import AsyncClient

    async with AsyncClient("key", url, max_connections=concurrency) as client:
        wanted = prompts(count)
        async for outcome in client.map(prompts(count), model=model, concurrency=concurrency):
            assert outcome.text == next(wanted)
    return []


async def mapped_in_sync(url: str, model: str, count: int, concurrency: int) -> Sequence[Any]:
    """
    `Client.map`, all of it kept.
    """
    from aistats import Client

    with Client("key", url, max_connections=concurrency) as client:
        return client.map(prompts(count), model=model, concurrency=concurrency).texts()


async def iterated_in_sync(url: str, model: str, count: int, concurrency: int) -> Sequence[Any]:
    """
    `Client.map`, one outcome after the other.
    """
    from aistats import Client

    with Client("key", url, max_connections=concurrency) as client:
        wanted = prompts(count)
        for outcome in client.map(prompts(count), model=model, concurrency=concurrency):
            assert outcome.text == next(wanted)
    return []


PROGRAMS = {
    program.__name__: program
    for program in (
        by_hand,
        gathered,
        mapped,
        found,
        iterated,
        mapped_in_sync,
        iterated_in_sync,
    )
}


def work(name: str, url: str, model: str, count: int, concurrency: int) -> None:
    """
    Run a program once for what it imports, then measure it, and print the numbers.
    """
    program = PROGRAMS[name]
    asyncio.run(program(url, model, 20, concurrency))
    before, begun = resource.getrusage(resource.RUSAGE_SELF), time.monotonic()
    texts = asyncio.run(program(url, model, count, concurrency))
    after, ended = resource.getrusage(resource.RUSAGE_SELF), time.monotonic()
    right = len(texts) == 0 or list(texts) == list(prompts(count))
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    numbers = {
        "seconds": ended - begun,
        "cpu_us": cpu / count * 1e6,
        "mib": machine.memory()["peak_mib"],
        "right": right,
    }
    print(json.dumps(numbers))


def measure(server: Server, name: str, model: str, count: int, concurrency: int) -> dict[str, Any]:
    """
    The numbers of one program, run in a process of its own, and what the server counted.
    """
    server.numbers()
    command = [sys.executable, __file__, "work", name, server.url, model]
    done = subprocess.run(
        [*command, str(count), str(concurrency)], check=True, stdout=subprocess.PIPE
    )
    return {**json.loads(done.stdout), **server.numbers()}


# --- the parts ---


def cost(server: Server, _out: Path) -> None:
    """
    10,000 requests, 200 at a time: CPU, memory, connections, and whether each answer is in place.
    """
    print("cost: 10,000 requests, 200 at a time, answered at once; the best of 5")
    names = ("by_hand", "gathered", "mapped", "iterated", "mapped_in_sync", "iterated_in_sync")
    results: dict[str, list[dict[str, Any]]] = {name: [] for name in names}
    for _ in range(5):
        for name in names:
            results[name].append(measure(server, name, "bench", 10_000, 200))
    floor = min(each["cpu_us"] for each in results["by_hand"])
    for name, several in results.items():
        best = min(several, key=lambda each: each["cpu_us"])
        ratios = [
            each["cpu_us"] / hand["cpu_us"]
            for each, hand in zip(several, results["by_hand"], strict=True)
        ]
        print(
            f"  {name:17} {best['cpu_us']:6.0f} us CPU a request, {best['cpu_us'] / floor:4.2f} of "
            f"by hand (pairwise median {statistics.median(ratios):4.2f}), "
            f"{best['mib']:4.0f} MiB, at most {best['most_connections']} connections, "
            f"{'all right' if all(each['right'] for each in several) else 'WRONG'}"
        )


def memory(server: Server, _out: Path) -> None:
    """
    What 10 times the rows cost in memory.
    """
    print("memory: the peak of the process, 50 at a time")
    for name in ("iterated", "iterated_in_sync", "mapped"):
        small, large = (measure(server, name, "bench", n, 50)["mib"] for n in (4000, 40_000))
        print(f"  {name:17} {small:.1f} MiB for 4,000 rows, {large:.1f} MiB for 40,000")


def latency(server: Server, _out: Path) -> None:
    """
    1,000 requests of 100 ms, all at once.
    """
    print("latency: 1,000 requests of 100 ms, all at a time; the best of 5")
    for name in ("by_hand", "mapped", "found", "mapped_in_sync"):
        several = [measure(server, name, "delay=100", 1000, 1000) for _ in range(5)]
        best = min(several, key=lambda each: each["seconds"])
        print(
            f"  {name:17} {best['seconds']:.2f} s, at most {best['most_connections']} connections"
        )


async def _timed(url: str, concurrency: Any, count: int) -> tuple[list[float], Any, list[Any]]:
    from aistats import AsyncClient

    ends: list[float] = []
    limits: list[Any] = []
    async with AsyncClient("key", url, max_connections=200) as client:
        run = client.map(prompts(count), model="delay=100,takes=20", concurrency=concurrency)
        begun = time.monotonic()
        async for outcome in run.as_completed():
            assert outcome.ok, outcome
            ends.append(time.monotonic() - begun)
            limits.append((ends[-1], run.progress.concurrency))
    return ends, run, limits


def capacity(server: Server, out: Path) -> None:
    """
    A server that takes 20 requests at a time and answers 429 beyond.
    """
    count = 2000
    ideal = count / 20 * 0.1
    print(f"capacity: {count} requests of 100 ms, of which the server takes 20 at a time")
    print(f"  the ideal schedule takes {ideal:.2f} s")
    curves: dict[Any, list[float]] = {}
    found_limits: list[Any] = []
    for concurrency in ("auto", 10, 20, 50, 200):
        server.numbers()
        ends, _, limits = asyncio.run(_timed(server.url, concurrency, count))
        numbers = server.numbers()
        curves[concurrency] = ends
        found_limits = limits if concurrency == "auto" else found_limits
        print(
            f"  {concurrency!s:5} {ends[-1]:6.2f} s, {ends[-1] / ideal:4.2f} of the ideal, "
            f"{numbers['turned_away']} requests were turned away"
        )
    _draw(out, curves, found_limits, ideal, count)


def _draw(
    out: Path, curves: dict[Any, list[float]], limits: list[Any], ideal: float, count: int
) -> None:
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4.2), width_ratios=(3, 2))
    left.plot([0, ideal], [0, count], color="0.6", linestyle=":", label="ideal")
    for concurrency, ends in curves.items():
        width = 2.4 if concurrency == "auto" else 1.2
        left.plot(ends, range(1, len(ends) + 1), linewidth=width, label=str(concurrency))
    left.set(xlabel="seconds", ylabel="rows done", title="The server takes 20 at a time")
    left.legend(title="concurrency", frameon=False)
    right.step([at for at, _ in limits], [value for _, value in limits], where="post")
    right.axhline(20, color="0.6", linestyle=":")
    right.set(xlabel="seconds", ylabel="concurrency", title="What auto finds", ylim=(0, None))
    for axes in (left, right):
        axes.spines[["top", "right"]].set_visible(False)
    figure.tight_layout()
    out.mkdir(parents=True, exist_ok=True)
    for suffix in ("svg", "png"):
        figure.savefig(out / f"fan_out.{suffix}", dpi=120)
    plt.close(figure)
    print(f"  drawn: {out / 'fan_out.svg'}")


_LIFE = """
import sys
from aistats import Client
sys.path.insert(0, {folder!r})
from fan_out import prompts
with Client("key", {url!r}, max_connections=100) as client:
    run = client.map(prompts({count}), model="delay=20", concurrency=50, checkpoint={path!r})
    texts = run.texts()
assert texts == list(prompts({count}))
print(run.progress.cached)
"""


def kill(server: Server, _out: Path) -> None:
    """
    A process that is killed half way, and the same one again.
    """
    count, concurrency = 5000, 50
    print(f"kill: {count} requests, {concurrency} at a time, kill -9 at about half of them")
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "run.jsonl")  # noqa: PTH118  # it goes into a program's text
        here = str(Path(__file__).parent)
        code = _LIFE.format(folder=here, url=server.url, count=count, path=path)
        server.numbers()
        with subprocess.Popen([sys.executable, "-c", code]) as process:
            while not os.path.exists(path) or _lines(path) < count // 2:  # noqa: PTH110
                time.sleep(0.005)
            process.send_signal(signal.SIGKILL)
        noted, first = _lines(path), server.numbers()["requests"]
        begun = time.monotonic()
        done = subprocess.run(
            [sys.executable, "-c", code], check=True, stdout=subprocess.PIPE, text=True
        )
        second = server.numbers()["requests"]
        print(
            f"  {noted} lines when it was killed, {first} requests until then; again: "
            f"{int(done.stdout)} were done, {second} requests, {time.monotonic() - begun:.1f} s; "
            f"sent twice: {first + second - count} (at most {concurrency})"
        )


def _lines(path: str) -> int:
    with open(path, "rb") as file:  # noqa: PTH123
        return file.read().count(b"\n")


PARTS = {part.__name__: part for part in (cost, memory, latency, capacity, kill)}


def main() -> None:
    """
    The parts that the command line names, or all of them.
    """
    if sys.argv[1:2] == ["serve"]:
        asyncio.run(serve())
    elif sys.argv[1:2] == ["work"]:
        name, url, model, count, concurrency = sys.argv[2:]
        work(name, url, model, int(count), int(concurrency))
    else:
        parser = argparse.ArgumentParser(description=__doc__)
        parser.add_argument("parts", nargs="*", choices=[[], *PARTS])
        parser.add_argument(
            "--out",
            type=Path,
            default=Path("build/benchmarks"),
            help="the folder for the picture (build/benchmarks)",
        )
        arguments = parser.parse_args()
        with running_server() as server:
            for name in arguments.parts or PARTS:
                PARTS[name](server, arguments.out)


if __name__ == "__main__":
    main()
