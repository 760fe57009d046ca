"""
The machine that is measured on: its cores, what it is, and what a process takes of it.
"""

from __future__ import annotations

import contextlib
import os
import platform
import sys
from collections.abc import Set
from pathlib import Path

try:
    import resource
except ImportError:  # Windows
    resource = None  # type: ignore[assignment]

__all__ = ("allow_many_files", "cores", "describe", "memory", "move_to")

_MEBIBYTE = 1024 * 1024


def cores() -> list[int]:
    """
    The cores that this process may use; none where that can't be known or chosen.
    """
    return sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []


def move_to(core: int) -> None:
    """
    Run on *core* only from now on, and with it all processes that are started from here.
    """
    only: Set[int] = {core}
    os.sched_setaffinity(0, only)


def allow_many_files() -> None:
    """
    Raise the limit of open files as far as it goes, for processes that are started from here, too.
    """
    if resource is not None:
        _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def memory() -> dict[str, float]:
    """
    What this process has in memory, in MiB: now, and at its peak.
    """
    status = Path("/proc/self/status")
    if status.exists():
        lines = (line.partition(":") for line in status.read_text().splitlines())
        values = {name: value for name, _, value in lines}
        now, peak = (int(values[name].split()[0]) / 1024 for name in ("VmRSS", "VmHWM"))
        return {"memory_mib": now, "peak_mib": peak}
    if resource is None:
        return {}
    # Only the peak is known here; in bytes on macOS, in KiB elsewhere.
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {"peak_mib": most * (1 if sys.platform == "darwin" else 1024) / _MEBIBYTE}


def describe() -> dict[str, str]:
    """
    The machine in words.
    """
    return {
        "cores": str(os.cpu_count()),
        "cpu": _cpu(),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "python": f"{platform.python_implementation()} {platform.python_version()}",
    }


def _cpu() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            name, _, value = line.partition(":")
            if name.strip() == "model name":
                return value.strip()
    return platform.processor() or "unknown"
