"""
The child process behind `aistats.local`: llama.cpp's own HTTP server around one model file.

It is run as a script and knows nothing of the package, so that it starts at once. Its parent
talks to it over the pipes it was born with: one line of JSON comes in on standard input (there,
and not among the arguments, because every user of the machine can read those, and one of the
settings is the API key), one goes out on standard output with the address or with what went
wrong. Whatever else is printed, llama.cpp's log above all, goes to standard error.
"""

from __future__ import annotations

import importlib
import json
import os
import signal
import sys
import threading
from typing import Any

__all__ = ("main",)


def main() -> None:
    """
    Run the server until standard input ends.
    """
    # Ctrl-C reaches every process of the terminal. Whether it ends the server is the parent's
    # decision, which it tells by closing the pipe.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # The line to the parent must be the only one, whatever C++ prints.
    parent = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    settings: dict[str, Any] = json.loads(sys.stdin.buffer.readline())

    # The pipe ends with the parent, even with one that was killed, and it may end while the model
    # is still being loaded; hence a thread, which starts first.
    watch = threading.Thread(target=_wait_for_end_of_input, daemon=True)
    watch.start()

    try:
        server = _start(settings)
        report = {"url": server.listening_address}
    except Exception as error:
        report = {"error": f"{type(error).__name__}: {error}"}
    print(json.dumps(report), file=parent, flush=True)
    watch.join()


def _start(settings: dict[str, Any]) -> Any:
    """
    Return a server that has loaded its model and listens on a port of the system's choice.
    """
    # Imported by its name, since it has no types.
    xllamacpp: Any = importlib.import_module("xllamacpp")

    params = xllamacpp.CommonParams()
    params.hostnames = ["127.0.0.1"]
    params.port = 0
    params.api_keys = [settings["api_key"]]
    params.model.path = settings["model"]
    params.model_alias = {settings["name"]}
    # llama.cpp shares the context out among the calls that it serves at the same time.
    params.n_ctx = settings["context"] * settings["parallel"]
    params.n_parallel = settings["parallel"]
    params.cpuparams.n_threads = settings["threads"]
    # Errors alone are logged, the page for a browser is not served, and prompts that have been
    # answered are not kept (by default in as much as 8 GiB of memory).
    params.verbosity = 1
    params.ui = False
    params.cache_ram_mib = 0
    # What the model wants that is not in its file; a call that says otherwise has its way.
    params.chat_template = settings.get("template", "")
    params.n_predict = settings.get("longest_answer", -1)
    params.sampling.penalty_freq = settings.get("frequency_penalty", 0.0)
    return xllamacpp.Server(params)


def _wait_for_end_of_input() -> None:
    """
    End the process, in the middle of an answer too, as soon as the parent closes the pipe.
    """
    while sys.stdin.buffer.read(4096):
        pass
    os._exit(0)


if __name__ == "__main__":
    main()
