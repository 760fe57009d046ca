"""
Limits of this process and this machine: open files, threads, ports and memory.

An operation that reaches one of them fails on this machine, not on the server.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import socket
import sys
from typing import Final

__all__ = ("check_descriptors", "local_limit", "open_file_limit_reached")

_FILES: Final = "Raise the limit (`ulimit -n`), close what is open, or lower max_connections."
_MEMORY: Final = "Lower max_connections, or give the machine more memory."
_THREADS: Final = "Raise the limit (`ulimit -u`, or that of the container), or end other threads."
_PORTS: Final = (
    "Lower max_connections, or wait until the ports of closed connections are free again. Where "
    "no connection works at all, this machine may have no address of that kind, such as IPv6."
)
_LIMITS: Final[dict[int, tuple[str, str]]] = {
    errno.EMFILE: ("this process has as many open files as it may have", _FILES),
    errno.ENFILE: ("this machine has as many open files as it can have", _FILES),
    errno.EADDRNOTAVAIL: ("this machine has no free local port or address for it", _PORTS),
    errno.ENOMEM: ("this machine is out of memory", _MEMORY),
    errno.ENOBUFS: ("this machine is out of memory for network buffers", _MEMORY),
}

_OF_ANY_ADDRESS: Final = _LIMITS.keys() - {errno.EADDRNOTAVAIL}


def local_limit(error: BaseException) -> str | None:
    """
    Return which limit of this process or machine *error* comes from, and what to do about it;
    `None` if it comes from none.

    Args:
        error: What an operation on sockets, files or threads raised.
    """
    if isinstance(error, RuntimeError) and str(error) == "can't start new thread":
        return f"this process can't start another thread. {_THREADS}"
    if not isinstance(error, OSError) or (number := _errno_of(error)) not in _LIMITS:
        return None
    what, advice = _LIMITS[number]
    if number == errno.EMFILE and sys.platform != "win32":
        import resource

        what += f" ({resource.getrlimit(resource.RLIMIT_NOFILE)[0]})"
    return f"{what}. {advice}"


def _errno_of(error: OSError) -> int | None:
    cause: OSError = getattr(error, "os_error", error)  # aiohttp's errors have the system's
    if isinstance(cause, socket.gaierror):
        return errno.ENOMEM if cause.errno == socket.EAI_MEMORY else None
    if cause.errno is None:
        # Several addresses failed in different ways, and aiohappyeyeballs joined their messages. An
        # address that is not available is ordinary then: there is no IPv6, say.
        numbers = map(int, re.findall(r"\[Errno (\d+)\]", str(cause)))
        return next((each for each in numbers if each in _OF_ANY_ADDRESS), None)
    return cause.errno


def check_descriptors() -> None:
    """
    Check that this process can open three more files, which an event loop needs.

    Otherwise asyncio leaves an incomplete event loop, which prints tracebacks when it is collected.

    Raises:
        OSError: The files can't be opened.
    """
    with contextlib.ExitStack() as opened:
        # A pipe needs no path, which a program may not be allowed to open.
        reader, writer = os.pipe()
        for descriptor in (reader, writer):
            opened.callback(os.close, descriptor)
        opened.callback(os.close, os.dup(reader))


def open_file_limit_reached() -> OSError | None:
    """
    Return the error of opening more files; `None` if that works.

    The system's DNS lookup reports a file that it can't open as an unknown host.
    """
    try:
        check_descriptors()
    except OSError as error:
        return error.with_traceback(None)
    return None
