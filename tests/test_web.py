"""
Streams inside of web frameworks: a failed call sets the response's status, and a visitor who
leaves ends the stream. The services are those of `examples/`, on real servers.
"""

from __future__ import annotations

import gc
import http.client
import json
import runpy
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from conftest import KEY
from servers import OPENING, Gate, Gateway, delta, error_body, story, until

import aistats

fastapi = pytest.importorskip("fastapi")
flask = pytest.importorskip("flask")
uvicorn = pytest.importorskip("uvicorn")

# More than fits into the buffers between the gateway and a visitor.
FLOOD = [*[delta("more " * 1000)] * 4000, *story()[1:]]
EXAMPLES = Path(__file__).parent.parent / "examples"


@contextmanager
def served_by_uvicorn(app: Any) -> Iterator[int]:
    """
    The port of a uvicorn that serves *app* in a thread.
    """
    config = uvicorn.Config(app, port=0, log_config=None, timeout_graceful_shutdown=1)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, name="uvicorn")
    thread.start()
    try:
        until(lambda: server.started)
        yield server.servers[0].sockets[0].getsockname()[1]
    finally:
        server.should_exit = True
        thread.join()


@contextmanager
def served_by_werkzeug(app: Any) -> Iterator[int]:
    """
    The port of a threaded werkzeug server that serves *app*.
    """
    from werkzeug.serving import WSGIRequestHandler, make_server

    class Silent(WSGIRequestHandler):
        def log(self, *args: Any) -> None:
            pass

    server = make_server("127.0.0.1", 0, app, threaded=True, request_handler=Silent)
    thread = threading.Thread(target=server.serve_forever, name="werkzeug")
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture(params=["fastapi", "flask"])
def service(
    request: pytest.FixtureRequest, gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> Iterator[int]:
    """
    The port of each example, whose client talks to the gateway of the test.
    """
    monkeypatch.setenv("AI_STATS_API_KEY", KEY)
    monkeypatch.setenv("AI_STATS_BASE_URL", gateway.url)
    example = runpy.run_path(str(EXAMPLES / f"web_{request.param}.py"))
    if request.param == "fastapi":
        with served_by_uvicorn(example["app"]) as port:
            yield port
    else:
        with example["client"], served_by_werkzeug(example["app"]) as port:
            yield port


def get(port: int, path: str = "/ask?q=hi") -> http.client.HTTPResponse:
    """
    The answer to a request, as soon as its head is there. Whoever closes it leaves the service.
    """
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    connection.request("GET", path, headers={"Connection": "close"})
    return connection.getresponse()


def test_an_answer_is_streamed(service: int, gateway: Gateway):
    """
    Each text reaches the visitor before the gateway sends the next one.
    """
    gate = Gate()
    gateway.stream(OPENING, delta("one "), gate, delta("two"), *story()[1:])

    with closing(get(service)) as response:
        assert response.status == 200
        assert response.read1() == b"one "
        gate.open()
        assert response.read() == b"two"


@pytest.mark.parametrize(("status", "seen"), [(404, 502), (401, 502), (429, 429)])
def test_a_failed_call_sets_the_status(service: int, gateway: Gateway, status: int, seen: int):
    """
    A call that the gateway refuses is an error's status, and not a response that breaks off.
    """
    for _ in range(3 if status == 429 else 1):
        gateway.reply(error_body("refused"), status=status, headers={"Retry-After": "0"})

    with closing(get(service)) as response:
        assert response.status == seen
        assert b'"error"' in response.read()


def test_a_response_is_returned(gateway: Gateway):
    """
    FastAPI serializes a response as it is, or as a dict, and Flask its dict.
    """
    app, other = fastapi.FastAPI(), flask.Flask(__name__)
    with aistats.Client(KEY, gateway.url) as client:

        @app.get("/plain")
        def plain():  # type: ignore[no-untyped-def]  # FastAPI would take a return type for a model
            return client.generate_text(model="m/m", messages="Hi")

        @app.get("/dict")
        def as_dict() -> dict[str, Any]:
            return client.generate_text(model="m/m", messages="Hi").to_dict()

        @other.get("/flask")
        def of_flask() -> Any:
            return flask.jsonify(client.generate_text(model="m/m", messages="Hi").to_dict())

        with served_by_uvicorn(app) as port:
            with closing(get(port, "/plain")) as response:
                answers = [json.loads(response.read())]
            with closing(get(port, "/dict")) as response:
                answers.append(json.loads(response.read()))
        with served_by_werkzeug(other) as port, closing(get(port, "/flask")) as response:
            answers.append(json.loads(response.read()))

    assert answers[0]["choices"][0]["message"]["content"] == "Hi"
    assert answers[1:] == answers[:1] * 2


def test_a_visitor_leaves(service: int, gateway: Gateway):
    """
    When the visitor leaves, the gateway sees its connection closed: at once with FastAPI, and with
    Flask when the next text can't be written.
    """
    gate = Gate()
    gateway.stream(OPENING, delta("one"), gate, *FLOOD, Gate())

    with closing(get(service)) as response:
        assert response.read1() == b"one"
    gate.open()

    until(lambda: gateway.request.disconnected)


def test_a_visitor_leaves_a_silent_stream(gateway: Gateway):
    """
    An `AsyncClient`'s stream is closed as soon as the visitor leaves, though the gateway sends
    nothing.
    """
    app = fastapi.FastAPI()
    client = aistats.AsyncClient(KEY, gateway.url)

    @app.get("/ask")
    async def ask() -> Any:
        stream = await client.stream_text(model="m/m", messages="Hi").open()
        return fastapi.responses.StreamingResponse(stream.text_deltas())

    gateway.stream(OPENING, delta("one"), Gate())
    with served_by_uvicorn(app) as port:
        with closing(get(port)) as response:
            assert response.read1() == b"one"
        until(lambda: gateway.request.disconnected)


@pytest.mark.parametrize("closes", [True, False])
def test_a_visitor_leaves_a_synchronous_stream(gateway: Gateway, closes: bool):
    """
    Starlette reads a `Client`'s stream in a thread. When the visitor leaves, it waits for the read
    that is under way. The stream is closed by a background task, or when it is collected.
    """
    app = fastapi.FastAPI()
    gate = Gate()
    gateway.stream(OPENING, delta("one"), gate, *FLOOD)
    with aistats.Client(KEY, gateway.url) as client:

        @app.get("/ask")
        def ask() -> Any:
            stream = client.stream_text(model="m/m", messages="Hi").open()
            background = fastapi.BackgroundTasks()
            if closes:
                background.add_task(stream.close)
            return fastapi.responses.StreamingResponse(stream.text_deltas(), background=background)

        with served_by_uvicorn(app) as port:
            with closing(get(port)) as response:
                assert response.read1() == b"one"
            gate.open()

            def has_left() -> bool:
                if not closes:
                    gc.collect()
                return gateway.request.disconnected

            until(has_left)
