"""
Does the jobs: a server on one core, each measurement in a fresh process on another.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from catalogue import PEERS
from machine import allow_many_files, cores, move_to
from plan import Column, Curve, Job
from traffic import Order

__all__ = ("Failed", "Variant", "compare", "follow", "installed", "serving")

_HERE = Path(__file__).parent
_LONGEST = 600  # seconds for one measurement
_LONG = 20  # seconds after which a peer is not measured further along a curve

Numbers = dict[str, float]
Cell = dict[str, Any]


class Failed(Exception):
    """
    A measurement gave no numbers; says why.
    """


@contextmanager
def serving() -> Iterator[str]:
    """
    A server runs on the first core, and this process on the last; gives the server's URL.
    """
    allow_many_files()
    usable = cores()
    if len(usable) > 1:
        move_to(usable[0])
    command = [sys.executable, str(_HERE / "server.py")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as server:
        if len(usable) > 1:
            move_to(usable[-1])
        assert server.stdin is not None
        assert server.stdout is not None
        with server.stdin:
            yield f"http://127.0.0.1:{int(server.stdout.readline())}"


@dataclass(frozen=True)
class Variant:
    """
    A peer, and what it runs on.
    """

    peer: str
    python: str = sys.executable
    options: Job = field(default_factory=dict)
    """On top of a job: `loop`, `json`."""
    floor: str | None = None
    """The variant that it is compared with; by default the first."""

    def do(self, job: Job, url: str) -> Numbers:
        """
        The numbers of *job*, done in a process of its own.

        Raises:
            Failed: There are none.
        """
        if job["kind"] == "start":
            arguments = ["start.py", self.peer, PEERS[self.peer].statement, url, str(Order())]
        else:
            job = {"peer": self.peer, "url": url, **job, **self.options}
            arguments = ["worker.py", json.dumps(job)]
        output = _run([self.python, str(_HERE / arguments[0]), *arguments[1:]])
        numbers: Numbers = json.loads(output)
        return numbers


def compare(
    variants: dict[str, Variant],
    columns: Sequence[Column],
    url: str,
    *,
    runs: int,
    is_quick: bool,
    tell: Callable[[str], None],
) -> dict[str, dict[str, Cell]]:
    """
    A cell for each column and variant: its `median`, all `values`, and the `ratio` to the variant
    that it is compared with, or why it `failed`.

    The variants take turns, so that a slow moment of the machine hits all alike, and a ratio is the
    median of the ratios in each run.
    """
    jobs: list[Job] = []
    for column in columns:
        if (job := column.as_job(is_quick=is_quick)) not in jobs:
            jobs.append(job)
    done: dict[str, list[list[Numbers]]] = {label: [[] for _ in jobs] for label in variants}
    failed: dict[tuple[str, int], str] = {}
    for run in range(runs):
        for number, job in enumerate(jobs):
            for label, variant in variants.items():
                tell(f"run {run + 1} of {runs}, job {number + 1} of {len(jobs)}: {label}")
                if (label, number) in failed:
                    continue
                try:
                    done[label][number].append(variant.do(job, url))
                except Failed as error:
                    failed[label, number] = str(error)
    first = next(iter(variants))
    table: dict[str, dict[str, Cell]] = {}
    for column in columns:
        number = jobs.index(column.as_job(is_quick=is_quick))
        values = {
            label: [each.get(column.number) for each in done[label][number]] for label in variants
        }
        table[column.title] = {
            label: {"failed": failed[label, number]}
            if (label, number) in failed
            else _cell(values[label], values[variant.floor or first])
            for label, variant in variants.items()
        }
    return table


def _cell(values: list[float | None], floor: list[float | None]) -> Cell:
    known = [value for value in values if value is not None]
    if not known:
        return {"failed": "not known on this system"}
    ratios = [value / least for value, least in zip(values, floor, strict=False) if value and least]
    cell: Cell = {"median": statistics.median(known), "values": known}
    if ratios:
        cell["ratio"] = statistics.median(ratios)
    return cell


def follow(
    curve: Curve,
    peers: Sequence[str],
    url: str,
    *,
    runs: int,
    is_quick: bool,
    tell: Callable[[str], None],
) -> dict[str, Any]:
    """
    The medians along *curve*, a list for each peer, with `None` where there is none: where the peer
    failed, or took so long that it was not measured further.
    """
    points = [point for point in curve.points if not is_quick or point <= curve.quickly]
    costs: dict[str, list[float | None]] = {peer: [] for peer in curve.peers if peer in peers}
    memory: dict[str, list[float | None]] = {peer: [] for peer in costs}
    left = list(costs)
    for point in points:
        done: dict[str, list[Numbers]] = {peer: [] for peer in costs}
        for run in range(runs):
            for peer in tuple(left):
                tell(f"{curve.title}: {point:,}, run {run + 1} of {runs}: {peer}")
                begun = time.monotonic()
                try:
                    done[peer].append(Variant(peer).do(curve.job(point), url))
                except Failed:
                    done[peer].clear()
                    left.remove(peer)
                else:
                    # The last of its runs that counts may be the first.
                    if time.monotonic() - begun > _LONG:
                        left.remove(peer)
        for peer, numbers in done.items():
            costs[peer].append(_median(numbers, curve.number))
            memory[peer].append(_median(numbers, "peak_mib"))
    return {
        "title": curve.title,
        "across": curve.across,
        "unit": curve.unit,
        "points": points,
        "peers": costs,
        "peak_mib": memory,
    }


def _median(numbers: list[Numbers], name: str) -> float | None:
    known = [each[name] for each in numbers if name in each]
    return statistics.median(known) if known else None


def installed(python: str = sys.executable) -> dict[str, str]:
    """
    The versions that *python* has of the peers' packages and of what can be chosen, and its own.
    """
    wanted = sorted({package for peer in PEERS.values() for package in peer.packages})
    output = _run([python, "-c", _VERSIONS, "uvloop", "msgspec", *wanted])
    versions: dict[str, str] = json.loads(output)
    return versions


_VERSIONS = """
import importlib.metadata, json, platform, sys
versions = {"python": platform.python_version()}
for name in sys.argv[1:]:
    try:
        versions[name] = importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        pass
print(json.dumps(versions))
"""


def _run(command: list[str]) -> str:
    # No proxy, key or setting of this machine's reaches a peer.
    kept = ("PATH", "HOME", "LANG", "LD_LIBRARY_PATH", "SYSTEMROOT", "TEMP", "TMP")
    environment = {name: value for name, value in os.environ.items() if name in kept}
    environment["NO_PROXY"] = "127.0.0.1"
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=_LONGEST, env=environment, check=False
        )
    except subprocess.TimeoutExpired:
        raise Failed(f"took more than {_LONGEST} s") from None
    if done.returncode != 0:
        raise Failed((done.stderr.strip().splitlines() or ["it ended without a word"])[-1])
    return done.stdout
