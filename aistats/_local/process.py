"""
The child process that serves the local model.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from typing import IO, Any
from urllib.parse import urlsplit

from .._errors import AIStatsError, ConfigurationError
from .._net.transport import OWN_SERVERS
from .transport import LocalTransport

__all__ = ("ServerProcess",)

_SERVER = Path(__file__).parent / "server.py"

# Not as a script: its folder would be searched for modules first, and this one's `types` be found.
_RUN_FILE = (
    "import sys; sys.path[:] = filter(None, sys.path); "
    "import runpy; runpy.run_path(sys.argv[1], run_name='__main__')"
)

_LONGEST_START = 300.0
_LONGEST_END = 5.0


class ServerProcess:
    """
    The child process that serves one model.

    A task may be cancelled while a thread is in `start`. Then `stop` only kills the child, and that
    thread cleans up.
    """

    def __init__(self) -> None:
        self.url = ""
        self.api_key = secrets.token_urlsafe(32)
        self._process: subprocess.Popen[bytes] | None = None
        self._log: IO[bytes] | None = None
        self._lock = threading.Lock()
        self._is_starting = False
        self._is_stopped = False

    def start(self, settings: dict[str, Any]) -> None:
        """
        Start the child, and return when it has loaded its model and listens at `url`.

        Raises:
            ConfigurationError: It could not be started.
        """
        with self._lock:
            if self._is_stopped:
                return
            self._is_starting = True
            try:
                # A file, since nothing reads a pipe while the server runs.
                self._log = tempfile.TemporaryFile()  # noqa: SIM115 - it lives as long as the child
                self._process = subprocess.Popen(
                    [sys.executable, "-c", _RUN_FILE, str(_SERVER)],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=self._log,
                    env=_environment(),
                )
            except OSError as error:
                self._is_starting = False
                raise ConfigurationError(
                    f"This system could not start the local model's server: {error}"
                ) from error
        try:
            self._handshake(self._process, settings)
        finally:
            with self._lock:
                self._is_starting = False
                is_unwanted = self._is_stopped or not self.url
            if is_unwanted:
                self._end()

    def stop(self) -> None:
        """
        Stop the child. If another thread is starting it, kill it and leave the rest to that thread.
        """
        with self._lock:
            self._is_stopped = True
            if self._is_starting:
                if self._process is not None:
                    self._process.kill()
                return
        self._end()

    def explain(self, error: BaseException | None) -> None:
        """
        Add a note to *error* if the child has died.
        """
        if error is None or self._process is None:
            return
        try:
            # The connection ends a moment before the child is seen to be gone.
            self._process.wait(0.2 if isinstance(error, AIStatsError) else 0)
        except subprocess.TimeoutExpired:
            return
        status = self._process.returncode
        error.add_note(self._with_log(f"The local model's server died with status {status}."))

    def _handshake(self, process: subprocess.Popen[bytes], settings: dict[str, Any]) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        is_late = threading.Event()

        def end_the_wait() -> None:
            is_late.set()
            process.kill()

        timer = threading.Timer(_LONGEST_START, end_the_wait)
        timer.daemon = True
        timer.start()
        try:
            # Writing fails if the child has died. Reading its report finds that out.
            with contextlib.suppress(OSError):
                line = json.dumps({"api_key": self.api_key, **settings})
                process.stdin.write(line.encode() + b"\n")
                process.stdin.flush()
            report = json.loads(process.stdout.readline() or b"{}")
        finally:
            timer.cancel()
        if "url" in report:
            url: str = report["url"]
            self.url = url
            OWN_SERVERS[urlsplit(url).netloc] = LocalTransport
        elif is_late.is_set():
            raise ConfigurationError(
                f"The local model did not start within {_LONGEST_START:g} seconds."
            )
        elif "libgomp" in report.get("error", ""):
            raise ConfigurationError(
                f"The local model needs the system's OpenMP library ({report['error']}). "
                "On Debian and Ubuntu: apt-get install libgomp1"
            )
        else:
            what = report.get("error") or f"its process ended with status {process.wait()}"
            raise ConfigurationError(self._with_log(f"The local model did not start: {what}"))

    def _with_log(self, message: str) -> str:
        """
        Return *message* with the last lines of the child's log.
        """
        assert self._log is not None
        self._log.seek(0)
        lines = self._log.read().decode(errors="replace").splitlines()
        return "\n  ".join([message, *lines[-10:]])

    def _end(self) -> None:
        """
        End the child, by force if necessary, and close its pipes.
        """
        process, log = self._process, self._log
        self._process = self._log = None
        if process is not None:
            # The child ends when its input ends. `communicate` closes the pipes in any state.
            try:
                process.communicate(timeout=_LONGEST_END)
            except subprocess.TimeoutExpired:
                process.kill()
                process.communicate()
        if log is not None:
            log.close()


def _environment() -> dict[str, str]:
    # Threads that spin while they wait slow each other down as soon as anything else runs.
    return {"OMP_WAIT_POLICY": "PASSIVE", **os.environ}
