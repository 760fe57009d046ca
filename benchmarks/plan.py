"""
What is measured: the columns of the table, the curves, and the choices that a user has.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from catalogue import FLOOR, PEERS

__all__ = (
    "CHOSEN",
    "COLUMNS",
    "CURVES",
    "JSON_LIBRARIES",
    "LOOPS",
    "OURS",
    "Column",
    "Curve",
    "Job",
)

Job = dict[str, Any]

OURS = (FLOOR, "aistats_async", "aistats_sync")
LOOPS = ("asyncio", "uvloop")
JSON_LIBRARIES = ("orjson", "msgspec", "json")


@dataclass(frozen=True)
class Column:
    """
    A column of the table: a job, and which of its numbers it shows.
    """

    title: str
    unit: str
    number: str
    """Its name in what the job gives."""
    job: Job
    """Jobs that are equal are done once in a run."""
    quick: Job = field(default_factory=dict)
    """What is different where it has to be quick."""
    goal: dict[str, float] = field(default_factory=dict)
    """The most that a peer of this project should take, as a multiple of the loop by hand."""
    group: str = "CPU of a call and of a chunk, and the first token by the clock"
    """The table that it stands in."""

    def as_job(self, *, is_quick: bool) -> Job:
        """
        The job to be done.
        """
        return {**self.job, **self.quick} if is_quick else self.job


@dataclass(frozen=True)
class Curve:
    """
    Costs against something that grows, for some of the peers.
    """

    name: str
    title: str
    across: str
    """What grows, in words."""
    points: tuple[int, ...]
    peers: tuple[str, ...]
    unit: str
    number: str
    quickly: int
    """The last point where it has to be quick."""

    def job(self, point: int) -> Job:
        """
        The job at *point*.
        """
        return _JOBS[self.name](point)


def _goals(asynchronous: float, synchronous: float) -> dict[str, float]:
    return {"aistats_async": asynchronous, "aistats_sync": synchronous}


_CALL: Job = {"kind": "calls", "count": 3000, "at_once": 1}
_CHUNK: Job = {"kind": "streams", "order": {"chunks": 20000}, "count": 5, "at_once": 1}
_FAN_OUT: Job = {"kind": "calls", "count": 5000, "at_once": 100}
_STREAMS: Job = {"kind": "streams", "order": {"chunks": 200}, "count": 300, "at_once": 100}
_TOKEN: Job = {"kind": "first_token", "order": {"chunks": 20}, "count": 500, "at_once": 1}
_APART: Job = {**_CHUNK, "order": {"chunks": 20000, "apart": 1}}
_PACED: Job = {**_STREAMS, "order": {"chunks": 100, "pace": 10000}, "count": 100}
_PADDED: Job = {**_CHUNK, "order": {"chunks": 20000, "padded": 1}}
_START: Job = {"kind": "start"}

_BEGINNING = "Memory, and how a program starts"
_OTHER = "Other traffic"

COLUMNS = (
    Column("one call", "µs", "cpu_us", _CALL, {"count": 500}, _goals(1.1, 1.6)),
    Column("one stream, a chunk", "µs", "cpu_us", _CHUNK, {"count": 1}, _goals(2.0, 2.5)),
    Column("fan-out, a call", "µs", "cpu_us", _FAN_OUT, {"count": 500}, _goals(1.1, 2.0)),
    Column("100 streams, a chunk", "µs", "cpu_us", _STREAMS, {"count": 100}, _goals(2.0, 3.0)),
    Column("first token", "µs", "wall_us", _TOKEN, {"count": 100}, _goals(1.2, 1.6)),
    Column(
        "memory after 100 streams",
        "MiB",
        "memory_mib",
        _STREAMS,
        {"count": 100},
        _goals(1.15, 1.15),
        _BEGINNING,
    ),
    # 80 ms where `import aiohttp` takes 130.
    Column("import", "ms", "import_ms", _START, goal=_goals(0.62, 0.62), group=_BEGINNING),
    Column("client ready", "ms", "ready_ms", _START, goal=_goals(1.15, 1.15), group=_BEGINNING),
    Column("first answer", "ms", "answer_ms", _START, group=_BEGINNING),
    Column("events apart, a chunk", "µs", "cpu_us", _APART, {"count": 1}, group=_OTHER),
    Column("padded, a chunk", "µs", "cpu_us", _PADDED, {"count": 1}, group=_OTHER),
    Column("100 slow streams, a chunk", "µs", "cpu_us", _PACED, group=_OTHER),
)

CHOSEN = COLUMNS[:5]
"""What is measured for each choice that a user has."""

_LARGE = 32 * 1024 * 1024  # bytes in all, where events grow

_JOBS = {
    "at_once": lambda n: {"kind": "calls", "count": max(300, 3 * n), "at_once": n},
    "chunks": lambda n: {
        "kind": "streams",
        "order": {"chunks": n},
        "count": max(1, min(50, 5000 // n)),
        "at_once": 1,
    },
    "size": lambda n: {
        "kind": "streams",
        "order": {"chunks": max(2, min(20000, _LARGE // n)), "size": n},
        "count": 1,
        "at_once": 1,
    },
    "open": lambda n: {
        "kind": "streams",
        "order": {"chunks": 20, "hold": n},
        "count": n,
        "at_once": n,
    },
}

CURVES = (
    Curve(
        "at_once",
        "Calls at once",
        "concurrent calls",
        (1, 3, 10, 30, 100, 300, 1000),
        tuple(PEERS),
        "µs of CPU a call",
        "cpu_us",
        30,
    ),
    Curve(
        "chunks",
        "Length of a stream",
        "chunks in the stream",
        (10, 100, 1000, 10000, 100000, 1000000),
        tuple(PEERS),
        "µs of CPU a chunk",
        "cpu_us",
        1000,
    ),
    Curve(
        "size",
        "Size of an event",
        "characters in an event",
        (16, 256, 4096, 65536, 1048576, 16777216),
        tuple(PEERS),
        "µs of CPU a chunk",
        "cpu_us",
        4096,
    ),
    Curve(
        "open",
        "Streams open at once",
        "open streams",
        (10, 100, 1000, 10000),
        (FLOOR, "aistats_async"),
        "µs of CPU a chunk",
        "cpu_us",
        100,
    ),
)
