"""
Whom the clients trust, what they send to whom, and what they never show.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import pickle
import select
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import trustme
from conftest import KEY, Caller, Script
from servers import OPENING, READ, Gate, Gateway, RawServer, completion, error_body, head, sse

import aistats
from aistats import RetryPolicy
from aistats._call.credentials import ApiKey

pytestmark = pytest.mark.anyio

HI: dict[str, Any] = {"model": "openai/gpt-5-nano", "messages": "Hi"}
HOST = "gateway.example"
QUICK = RetryPolicy(max_retries=2, base=0.0)

Connect = Callable[..., Caller]


# Servers.


class _Handler(BaseHTTPRequestHandler):
    """
    Answers each request with a completion; a proxy's `CONNECT` leads to the server's target.
    """

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        server = self.server
        assert isinstance(server, Server)
        server.seen.append((self.requestline, dict(self.headers)))
        self.rfile.read(int(self.headers["Content-Length"]))
        body = json.dumps(completion("by way of " + server.name)).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_CONNECT(self) -> None:
        server = self.server
        assert isinstance(server, Server)
        server.seen.append((self.requestline, dict(self.headers)))
        self.close_connection = True
        if server.target is None:
            self.send_error(407)
            return
        self.send_response(200)
        self.end_headers()
        self.wfile.flush()
        with socket.create_connection(("127.0.0.1", server.target)) as far:
            server.tunnelled += _pump(self.connection, far)

    def log_message(self, *args: object) -> None:
        """
        Nothing is logged.
        """


def _pump(near: socket.socket, far: socket.socket) -> bytes:
    """
    All that went from *near* to *far*, once either has ended.
    """
    passed = b""
    with contextlib.suppress(OSError):
        while True:
            for ready in select.select([near, far], [], [])[0]:
                data = ready.recv(65536)
                if not data:
                    return passed
                (far if ready is near else near).sendall(data)
                if ready is near:
                    passed += data
    return passed


class Server(ThreadingHTTPServer):
    """
    A server on loopback, with TLS where it has a *context*; a proxy where it is asked as one.
    """

    daemon_threads = True

    def __init__(
        self, name: str, context: ssl.SSLContext | None = None, target: int | None = None
    ) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.name = name
        self.target = target
        self.seen: list[tuple[str, dict[str, str]]] = []
        self.tunnelled = b""
        self._context = context

    @property
    def port(self) -> int:
        """
        Where it listens.
        """
        return self.server_address[1]

    def finish_request(self, request: Any, client_address: Any) -> None:
        # In the connection's own thread, so that a client that refuses the certificate holds up
        # nobody.
        with contextlib.suppress(OSError), contextlib.ExitStack() as stack:
            if self._context is not None:
                request = stack.enter_context(self._context.wrap_socket(request, server_side=True))
            super().finish_request(request, client_address)


@contextlib.contextmanager
def serving(server: Server) -> Iterator[Server]:
    """
    The *server* serves.
    """
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), name=server.name)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.fixture(scope="session")
def authority() -> trustme.CA:
    """
    An authority that nobody trusts.
    """
    return trustme.CA()


def tls_server(authority: trustme.CA, *names: str, **options: Any) -> Server:
    """
    A server whose certificate is for *names*.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(*names, **options).configure_cert(context)
    return Server("TLS", context)


@pytest.fixture
def tls(authority: trustme.CA) -> Iterator[Server]:
    """
    A server with a certificate for its address and for `HOST`.
    """
    with serving(tls_server(authority, "127.0.0.1", HOST)) as server:
        yield server


@pytest.fixture
def trusting(authority: trustme.CA) -> ssl.SSLContext:
    """
    A context that trusts the authority.
    """
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return context


@pytest.fixture
def proxy(tls: Server) -> Iterator[Server]:
    """
    A proxy in front of the world, whose tunnels all lead to the server with TLS.
    """
    with serving(Server("the proxy", target=tls.port)) as server:
        yield server


@pytest.fixture(params=["whole", "stream"])
def ask(request: pytest.FixtureRequest) -> Callable[..., Any]:
    """
    A function that asks a caller and returns the response, got whole or through a stream.
    """

    async def whole(caller: Caller) -> Any:
        return await caller.generate_text(HI)

    async def streamed(caller: Caller) -> Any:
        return await caller.stream_text(HI).final_response()

    return whole if request.param == "whole" else streamed


Ask = Callable[..., Any]


# TLS.


async def test_unknown_authority(connect: Connect, tls: Server, ask: Ask) -> None:
    """A certificate of an unknown authority is refused, once and for all, and nothing is sent."""
    caller = connect(f"https://127.0.0.1:{tls.port}", max_retries=QUICK)

    with pytest.raises(aistats.APIConnectionError, match=r"certificate.*SSL_CERT_FILE") as caught:
        await ask(caller)

    assert [attempt.outcome for attempt in caught.value.attempts] == ["unsent"]
    assert tls.seen == []


@pytest.mark.parametrize(
    ("names", "options", "says"),
    [
        (["elsewhere.example"], {}, "127.0.0.1"),
        (["127.0.0.1"], {"not_after": datetime(2020, 1, 1, tzinfo=UTC)}, "expired"),
    ],
    ids=["of another host", "expired"],
)
async def test_wrong_certificate(
    connect: Connect,
    authority: trustme.CA,
    trusting: ssl.SSLContext,
    names: list[str],
    options: Any,
    says: str,
) -> None:
    """A certificate of another host, or of another time, is refused though its issuer is known."""
    with serving(tls_server(authority, *names, **options)) as server:
        caller = connect(f"https://127.0.0.1:{server.port}", ssl_context=trusting)
        with pytest.raises(aistats.APIConnectionError, match=rf"certificate.*{says}"):
            await caller.generate_text(HI)

        assert server.seen == []


async def test_context(connect: Connect, tls: Server, trusting: ssl.SSLContext, ask: Ask) -> None:
    """A context of the user's own decides whom to trust."""
    caller = connect(f"https://127.0.0.1:{tls.port}", ssl_context=trusting)

    assert (await ask(caller)).text == "by way of TLS"


CALLS = """
import asyncio
import aistats
HI = {"model": "openai/gpt-5-nano", "messages": "Hi"}
async def main():
    async with aistats.AsyncClient() as client:
        return (await client.generate_text(HI)).text
for call in (lambda: aistats.Client().generate_text(HI).text, lambda: asyncio.run(main())):
    try:
        print(call())
    except aistats.APIConnectionError as error:
        print("refused" if "certificate" in str(error) else error)
"""


def test_ssl_cert_file(
    script: Callable[..., Script],
    tls: Server,
    authority: trustme.CA,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """`SSL_CERT_FILE` decides whom to trust; without it a private authority is refused."""
    bundle = tmp_path / "authorities.pem"
    authority.cert_pem.write_to_path(str(bundle))
    code = f"import os; os.environ['AI_STATS_BASE_URL'] = 'https://127.0.0.1:{tls.port}'\n" + CALLS
    refused = script(code)
    monkeypatch.setenv("SSL_CERT_FILE", str(bundle))
    trusted = script(code)

    assert refused.output() == "refused\n" * 2
    assert trusted.output() == "by way of TLS\n" * 2
    assert len(tls.seen) == 2


async def test_tls_to_a_plain_server(connect: Connect, gateway: Gateway, ask: Ask) -> None:
    """`https` to a server that speaks plain HTTP is a connection error, and nothing is sent."""
    caller = connect(gateway.url.replace("http:", "https:"))

    with pytest.raises(aistats.APIConnectionError, match=r"127\.0\.0\.1"):
        await ask(caller)

    assert gateway.requests == []


# Proxies.


async def test_proxy(
    connect: Connect, proxy: Server, monkeypatch: pytest.MonkeyPatch, ask: Ask
) -> None:
    """`HTTP_PROXY` is asked for a gateway that speaks plain HTTP; it looks up the host itself."""
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{proxy.port}")

    response = await ask(connect(f"http://{HOST}/v1"))

    assert response.text == "by way of the proxy"
    ((line, _),) = proxy.seen
    assert line == f"POST http://{HOST}/v1/chat/completions HTTP/1.1"


async def test_tunnel(
    connect: Connect,
    proxy: Server,
    tls: Server,
    trusting: ssl.SSLContext,
    monkeypatch: pytest.MonkeyPatch,
    ask: Ask,
) -> None:
    """`HTTPS_PROXY` gets a tunnel to build, and never sees the key."""
    monkeypatch.setenv("https_proxy", f"http://user:pass@127.0.0.1:{proxy.port}")
    caller = connect(f"https://{HOST}/v1", ssl_context=trusting)

    assert (await ask(caller)).text == "by way of TLS"

    ((line, headers),) = proxy.seen
    assert line == f"CONNECT {HOST}:443 HTTP/1.1"
    assert headers["Proxy-Authorization"] == "Basic dXNlcjpwYXNz"
    assert "Authorization" not in headers
    ((line, headers),) = tls.seen
    assert line == "POST /v1/chat/completions HTTP/1.1"
    assert headers["Authorization"] == f"Bearer {KEY}"
    assert "Proxy-Authorization" not in headers
    await caller.aclose()
    assert KEY.encode() not in proxy.tunnelled


async def test_certificate_behind_a_proxy(
    connect: Connect, proxy: Server, tls: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A proxy does not lower what a certificate has to be."""
    monkeypatch.setenv("https_proxy", f"http://127.0.0.1:{proxy.port}")

    with pytest.raises(aistats.APIConnectionError, match="certificate"):
        await connect(f"https://{HOST}/v1").generate_text(HI)

    assert tls.seen == []


@pytest.mark.parametrize(
    ("no_proxy", "is_asked"),
    [
        ("127.0.0.1", False),
        ("example.com,127.0.0.1", False),
        ("*", False),
        ("example.com", True),
        ("27.0.0.1", True),
        ("", True),
    ],
)
@pytest.mark.parametrize("variable", ["http_proxy", "all_proxy"])
async def test_no_proxy(
    connect: Connect,
    gateway: Gateway,
    proxy: Server,
    monkeypatch: pytest.MonkeyPatch,
    variable: str,
    no_proxy: str,
    is_asked: bool,
) -> None:
    """Hosts that `NO_PROXY` names are asked directly, all others by way of the proxy."""
    monkeypatch.setenv(variable, f"http://127.0.0.1:{proxy.port}")
    monkeypatch.setenv("no_proxy", no_proxy)

    response = await connect(gateway.url).generate_text(HI)

    assert response.text == ("by way of the proxy" if is_asked else "Hi")
    assert (len(proxy.seen), len(gateway.requests)) == (is_asked, not is_asked)


async def test_proxy_that_is_silent(
    connect: Connect, raw_server: RawServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A proxy that never answers is a matter of the limit for connecting."""
    raw_server.script(READ, Gate())
    monkeypatch.setenv("https_proxy", f"http://127.0.0.1:{raw_server.port}")
    caller = connect("https://gateway.example/v1", timeout=aistats.Timeout(connect=0.3, total=20))

    with pytest.raises(aistats.APITimeoutError, match="connecting") as caught:
        await caller.generate_text(HI)

    assert (caught.value.limit, caught.value.attempts[0].outcome) == ("connect", "unsent")


async def test_proxy_that_is_down(
    connect: Connect, free_tcp_port: int, monkeypatch: pytest.MonkeyPatch, ask: Ask
) -> None:
    """A proxy that can't be reached is named, without its password."""
    monkeypatch.setenv("http_proxy", f"http://user:pa55@127.0.0.1:{free_tcp_port}")

    with pytest.raises(aistats.APIConnectionError, match="proxy") as caught:
        await ask(connect(f"http://{HOST}/v1"))

    assert "pa55" not in str(caught.value) + repr(vars(caught.value))
    assert [attempt.outcome for attempt in caught.value.attempts] == ["unsent"]


async def test_proxy_that_refuses(
    connect: Connect, proxy: Server, monkeypatch: pytest.MonkeyPatch, ask: Ask
) -> None:
    """A proxy that refuses the tunnel is named, with its status."""
    proxy.target = None
    monkeypatch.setenv("https_proxy", f"http://user:pa55@127.0.0.1:{proxy.port}")

    with pytest.raises(aistats.AIStatsError, match=r"(?s)proxy.*407|407.*proxy") as caught:
        await ask(connect(f"https://{HOST}/v1"))

    assert isinstance(caught.value, aistats.APIConnectionError | aistats.APIStatusError)
    assert "pa55" not in str(caught.value) + repr(vars(caught.value))


async def test_proxy_of_another_kind(
    connect: Connect, gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A proxy of a kind that is not known is an error that says so; it is not gone around."""
    monkeypatch.setenv("all_proxy", "socks5://127.0.0.1:1")

    with pytest.raises(aistats.AIStatsError, match=r"(?i)prox"):
        await connect(gateway.url).generate_text(HI)

    assert gateway.requests == []


# The key.


@pytest.fixture
def netrc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    A `.netrc` with a password for loopback.
    """
    file = tmp_path / "netrc"
    file.write_text("machine 127.0.0.1 login somebody password else\n")
    file.chmod(0o600)
    monkeypatch.setenv("NETRC", str(file))


@pytest.mark.usefixtures("netrc")
async def test_netrc(connect: Connect, gateway: Gateway, ask: Ask) -> None:
    """A `.netrc` with a password for the host does not replace the key."""
    await ask(connect(gateway.url))

    assert gateway.request.headers["Authorization"] == f"Bearer {KEY}"


@pytest.mark.usefixtures("netrc")
async def test_netrc_of_a_session(gateway: Gateway) -> None:
    """With a session that heeds `.netrc` the key is sent, or nothing at all."""
    async with aiohttp.ClientSession(trust_env=True) as session:
        client = aistats.AsyncClient(KEY, gateway.url, session=session)
        with contextlib.suppress(aistats.ConfigurationError):
            await client.generate_text(HI)

    assert all(seen.headers["Authorization"] == f"Bearer {KEY}" for seen in gateway.requests)


@pytest.mark.parametrize(
    "key",
    [
        *(f"{KEY}\n", f"{KEY}\r\nX-Evil: 1", f" {KEY}", f"{KEY} {KEY}", f"{KEY}\x00", "\n"),
        *(f"{KEY}ä", f"{KEY}\u2019", f"{KEY}\u00a0", f"{KEY}\N{SNOWMAN}"),
    ],
)
async def test_key_that_is_no_header(
    connect: Connect, gateway: Gateway, monkeypatch: pytest.MonkeyPatch, key: str
) -> None:
    """A key with more than ASCII's signs is refused, from wherever it comes, and not shown."""
    with pytest.raises(aistats.ConfigurationError, match="API key") as caught:
        connect(gateway.url, api_key=key)
    if "\x00" not in key:
        monkeypatch.setenv("AI_STATS_API_KEY", key)
        with pytest.raises(aistats.ConfigurationError, match="API key"):
            connect(gateway.url, api_key=None)

    assert KEY not in str(caught.value)


@pytest.mark.parametrize("key", [5, KEY.encode(), [KEY], {"key": KEY}, True])
async def test_key_that_is_no_string(connect: Connect, gateway: Gateway, key: Any) -> None:
    """A key that is no string is refused by its type, and not shown."""
    with pytest.raises(aistats.ConfigurationError, match="api_key must be a string") as caught:
        connect(gateway.url, api_key=key)

    assert type(key).__name__ in str(caught.value)
    assert KEY not in str(caught.value)


async def test_key_that_is_a_kind_of_string(connect: Connect, gateway: Gateway, ask: Ask) -> None:
    """A key of a subclass of `str` is as good as one of `str`."""

    class Key(str):
        __slots__ = ()

    await ask(connect(gateway.url, api_key=Key(KEY)))

    assert gateway.request.headers["Authorization"] == f"Bearer {KEY}"


@pytest.mark.parametrize("name", ["X-A: 1\r\nX-B", "X A", "X-A:", "", "X-Ä", "X-A\n", "X-\x00"])
async def test_header_name_that_is_none(connect: Connect, gateway: Gateway, name: str) -> None:
    """A header's name that would break the request's lines is refused, and nothing is sent."""
    with pytest.raises(aistats.ConfigurationError):
        connect(gateway.url, default_headers={name: "1"})
    with pytest.raises(aistats.RequestValidationError):
        await connect(gateway.url).generate_text(HI, extra_headers={name: "1"})

    assert gateway.requests == []


async def test_query_and_body_stay_what_they_are(connect: Connect, gateway: Gateway) -> None:
    """Line breaks in a query or a body are data, and make no header."""
    evil = "1\r\nX-Evil: 1\r\n\r\n"
    caller = connect(gateway.url)
    await caller.generate_text(
        {**HI, "user": evil}, extra_query={"a": evil, evil: "&b=2#c"}, extra_body={evil: evil}
    )

    seen = gateway.request
    assert seen.query == {"a": evil, evil: "&b=2#c"}
    assert "X-Evil" not in seen.headers
    assert (seen.json["user"], seen.json[evil]) == (evil, evil)


async def test_base_url_with_a_line_break(connect: Connect, gateway: Gateway) -> None:
    """A line break in the base URL is refused or dropped, and makes no header."""
    with contextlib.suppress(aistats.AIStatsError):
        await connect(gateway.url + "\r\nX-Evil: 1").generate_text(HI)
    with contextlib.suppress(aistats.AIStatsError):
        await connect(gateway.url + " HTTP/1.1\r\nX-Evil: 1\r\n").generate_text(HI)

    assert all("X-Evil" not in seen.headers for seen in gateway.requests)


@pytest.mark.parametrize(
    "answer",
    [
        head("503 Busy", Retry_After="0", Content_Length=0, Set_Cookie="session=s3cret-cookie"),
        head("400 Bad", Content_Length=len(KEY), Connection="close") + KEY.encode(),
        b"HTTP/1.1 200 " + b"x" * 100_000,
        b"",
    ],
    ids=["503", "echo of the key", "long head", "closed"],
)
async def test_logs(
    connect: Connect, raw_server: RawServer, answer: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    """What is logged at DEBUG, by whatever library, has neither key, nor cookie, nor secrets."""
    caplog.set_level(logging.DEBUG)
    asyncio.get_running_loop().set_debug(True)
    raw_server.script(READ, answer)
    secrets = {"X-Api-Key": "s3cret-header", "Cookie": "s3cret-sent"}
    caller = connect(raw_server.url, max_retries=QUICK, default_headers=secrets)
    try:
        with pytest.raises(aistats.AIStatsError) as caught:
            await caller.generate_text(HI)
        with pytest.raises(aistats.AIStatsError):
            await caller.stream_text(HI).final_response()
    finally:
        asyncio.get_running_loop().set_debug(False)

    logged = caplog.text + repr([record.__dict__ for record in caplog.records])
    curl = caught.value.as_curl() or ""
    for secret in (KEY, "s3cret"):
        assert secret not in logged
        assert secret not in curl
        assert secret not in repr(caught.value.headers)


async def test_cookies_are_not_kept(connect: Connect, gateway: Gateway) -> None:
    """A cookie that a server sets is not sent back, so that calls don't know of each other."""
    gateway.reply(headers={"Set-Cookie": "session=1; Path=/"})
    caller = connect(gateway.url)
    await caller.generate_text(HI)
    await caller.generate_text(HI)

    assert "Cookie" not in gateway.requests[1].headers


async def test_redirect_within_the_origin(connect: Connect, gateway: Gateway, ask: Ask) -> None:
    """Even a redirect to the same origin is not followed: the user is told where it leads."""
    gateway.reply(error_body(), 307, {"Location": "/v2/chat/completions"})

    with pytest.raises(aistats.APIStatusError, match="/v2"):
        await ask(connect(gateway.url))

    assert gateway.request.method == "POST"


@pytest.mark.parametrize(
    ("status", "content_type"),
    [
        (200, "application/json"),
        (200, "text/html"),
        (401, "application/json"),
        (500, "text/plain"),
        (302, "text/html"),
    ],
)
async def test_a_key_that_is_sent_back(
    connect: Connect, gateway: Gateway, ask: Ask, status: int, content_type: str
) -> None:
    """A server that shows what it got, as an echo does, puts the key in no error."""
    echo = json.dumps({"message": f"Authorization: Bearer {KEY} is not known"}).encode()
    gateway.reply(echo, status, {"Content-Type": content_type, "Location": "/elsewhere"})
    with pytest.raises(aistats.AIStatsError) as caught:
        await ask(connect(gateway.url))

    error = caught.value
    assert "***" in str(error)
    assert KEY not in f"{error} {error!r} {vars(error)} {error._repr_html_()} {error.as_curl()}"


@pytest.mark.parametrize(
    "event",
    [
        sse({"error": {"message": f"{KEY} is not known", "code": 401}}),
        f"event: error\ndata: {KEY} is not known\n\n".encode(),
        f"data: {KEY} is not known\n\n".encode(),
    ],
    ids=["error", "text", "no JSON"],
)
async def test_a_key_that_is_sent_back_in_a_stream(
    connect: Connect, gateway: Gateway, event: bytes
) -> None:
    """An error in a stream doesn't show the key either."""
    gateway.stream(OPENING, event)
    with pytest.raises(aistats.StreamError) as caught:
        await connect(gateway.url).stream_text(HI).final_response()

    assert "***" in str(caught.value)
    assert KEY not in f"{caught.value} {caught.value!r} {vars(caught.value)}"


async def test_an_answer_stays_as_it_is(connect: Connect, gateway: Gateway, ask: Ask) -> None:
    """An answer in which a model repeats the key is the model's own words."""
    gateway.reply(completion(f"Your key is {KEY}."))

    assert (await ask(connect(gateway.url))).text == f"Your key is {KEY}."


async def test_a_header_of_any_bytes(connect: Connect, raw_server: RawServer, ask: Ask) -> None:
    """What a server puts in its headers can be printed, whatever bytes they are."""
    lines = head("302 Found", Content_Length=0, Location="/br\xfccke", X_Request_Id="\xfc")
    raw_server.script(READ, lines.decode().encode("latin-1"))
    with pytest.raises(aistats.APIStatusError) as caught:
        await ask(connect(raw_server.url))

    told = f"{caught.value} {caught.value.request_id} {dict(caught.value.headers)}"
    assert "br\xfccke" in told.encode().decode()


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ('{"error": "Bearer x"}', '{"error": "Bearer ***"}'),
        ('{"error": {"message": "no", "key": "x"}}', '{"error": {"message": "no", "key": "***"}}'),
        ('{"error": "an example, x-ray, xx"}', '{"error": "an example, x-ray, xx"}'),
    ],
)
def test_short_keys_are_masked_where_they_are_a_whole_value(body: str, expected: str) -> None:
    """A placeholder key, which may be part of a word, is masked where it is a whole value."""
    assert ApiKey("x").masked(body.encode()) == expected.encode()


def test_what_can_t_be_pickled_says_what_to_do(trusting: ssl.SSLContext) -> None:
    """A client with a TLS context or a session that exists says why it can't be pickled."""
    with (
        aistats.Client(KEY, "https://a.example", ssl_context=trusting) as client,
        pytest.raises(TypeError, match="ssl_context can't be pickled"),
    ):
        pickle.dumps(client)
