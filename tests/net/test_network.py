"""
The network as this machine has it: proxies, certificates, look-ups, its own limits, and connections
that died while they were idle.
"""

from __future__ import annotations

import contextlib
import json
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from typing import Any

import aiohttp
import anyio
import pytest
from conftest import KEY, Caller, Script, in_thread
from servers import Gateway, completion
from yarl import URL

import aistats
from aistats._call.settings import _checked_base_url
from aistats._net import connector as _connector
from aistats._net import tls as _tls
from aistats._net.failures import translated
from aistats._net.proxy import environment_proxy, is_bypassed
from aistats._options import Timeout

pytestmark = pytest.mark.anyio
Connect = Callable[..., Caller]
HI: dict[str, Any] = {"model": "openai/gpt-5-nano", "messages": "Hi"}


# -- proxies -------------------------------------------------------------------------------------

NAME, V4, V6 = "https://api.example.com/v1", "http://10.1.2.3:8080", "http://[2001:db8::1]:8080"


@pytest.mark.parametrize(
    ("url", "no_proxy", "expected"),
    [
        (NAME, "*", True),
        (NAME, "", False),
        (NAME, " , ,", False),
        (NAME, "api.example.com", True),
        (NAME, "API.Example.COM.", True),
        (NAME, "example.com", True),
        (NAME, ".example.com", True),
        (NAME, "*.example.com", True),
        (NAME, "other.com, example.com", True),
        (NAME, "other.com example.com", True),
        (NAME, "ample.com", False),
        (NAME, "example.org", False),
        (NAME, "com", True),
        (NAME, "example.com:443", True),
        (NAME, "example.com:8443", False),
        (NAME, "10.0.0.0/8", False),
        ("https://api.example.com:8443/v1", "example.com:8443", True),
        ("https://bücher.example/v1", "xn--bcher-kva.example", True),
        ("https://xn--bcher-kva.example/v1", "bücher.example", True),
        (V4, "10.1.2.3", True),
        (V4, "10.1.2.3:8080", True),
        (V4, "10.1.2.3:80", False),
        (V4, "10.0.0.0/8", True),
        (V4, "10.1.2.3/8", True),
        (V4, "192.168.0.0/16", False),
        (V4, "1.2.3", False),
        (V4, "10.0.0.0/99", False),
        (V6, "[2001:db8::1]", True),
        (V6, "[2001:db8::1]:8080", True),
        (V6, "[2001:db8::1]:80", False),
        (V6, "2001:db8::1", True),
        (V6, "2001:DB8:0::1", True),
        (V6, "2001:db8::/32", True),
        (V6, "::/0", True),
        (V6, "0.0.0.0/0", False),
        ("http://[::ffff:10.1.2.3]", "10.0.0.0/8", True),
        ("http://[::ffff:10.1.2.3]", "[::ffff:10.1.2.3]", True),
        ("http://[fe80::1]", "[fe80::]/10", True),
        ("http://127.0.0.1:1", "127.0.0.0/8", True),
        ("http://127.0.0.1:1", "127.0.0.1.", True),
        ("http://localhost:1", "localhost", True),
        ("http://[::1]:1", "[::1]", True),
        ("http://localhost:1", "127.0.0.1", False),
    ],
)
def test_no_proxy(url: str, no_proxy: str, expected: bool):
    """`NO_PROXY` names hosts with their subdomains, addresses and networks, and ports of them."""
    assert is_bypassed(URL(url), no_proxy) is expected


@pytest.mark.parametrize(
    ("variable", "value", "expected"),
    [
        ("http_proxy", "127.0.0.1:3128", r"HTTP_PROXY has no scheme: write http://127\.0\.0\.1"),
        ("HTTP_PROXY", "user:pa55@proxy:3128", r"write http://\*\*\*@proxy:3128"),
        ("http_proxy", "//proxy:3128", "write http://proxy:3128 in place of //proxy:3128"),
        ("all_proxy", "socks5://u:pa55@p:1080", "ALL_PROXY names a socks5 proxy"),
        ("http_proxy", "http://proxy:port", "HTTP_PROXY is not a URL such as"),
        ("http_proxy", "http://u:pa55@proxy:99999", "HTTP_PROXY is not a URL such as"),
        ("http_proxy", "http://[::1", "HTTP_PROXY is not a URL such as"),
        ("http_proxy", "http://", "HTTP_PROXY is not a URL such as"),
    ],
)
async def test_wrong_proxies(
    connect: Connect, monkeypatch: pytest.MonkeyPatch, variable: str, value: str, expected: str
):
    """A proxy that can't be used is named by its variable, without its password."""
    monkeypatch.setenv(variable, value)

    with pytest.raises(aistats.ConfigurationError, match=expected) as caught:
        await connect("http://gateway.example/v1").generate_text(HI)
    assert "pa55" not in str(caught.value)


def test_the_proxy_for_a_scheme(monkeypatch: pytest.MonkeyPatch):
    """A scheme's own proxy comes before the one for all."""
    monkeypatch.setenv("https_proxy", " HTTP://one:1 ")
    monkeypatch.setenv("all_proxy", "http://all:2")

    assert environment_proxy(URL("https://a.example")) == URL("http://one:1")
    assert environment_proxy(URL("http://a.example")) == URL("http://all:2")
    monkeypatch.setenv("no_proxy", "a.example")
    assert environment_proxy(URL("http://a.example")) is None


def proxy_that_refuses(seen: list[bytes]) -> socket.socket:
    """
    A proxy that asks for a password, and notes what it gets.
    """
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = listener.accept()
                with connection:
                    seen.append(connection.recv(65536))
                    connection.sendall(
                        b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n"
                        b"Connection: close\r\n\r\n"
                    )

    threading.Thread(target=serve, daemon=True).start()
    return listener


@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_a_proxy_s_password(
    connect: Connect, monkeypatch: pytest.MonkeyPatch, scheme: str
) -> None:
    """A refused password is said so, is never tried twice, and ends a run at once."""
    seen: list[bytes] = []
    with proxy_that_refuses(seen) as listener:
        address = f"http://user:pa55@127.0.0.1:{listener.getsockname()[1]}"
        monkeypatch.setenv(f"{scheme}_proxy", address)
        caller = connect(f"{scheme}://gateway.example/v1", max_retries=3)
        with pytest.raises(aistats.AIStatsError, match="password") as caught:
            await caller.generate_text(HI)
        run = caller.client.map(["a", "b", "c"], model="m")
        await (run if isinstance(run, aistats.AsyncRun) else in_thread(run.wait))

    assert "pa55" not in str(caught.value)
    assert "password" in run.stopped
    assert len(seen) == 2


# -- certificates --------------------------------------------------------------------------------


def certificate_error(code: int) -> aiohttp.ClientConnectorCertificateError:
    """
    Aiohttp's error for a certificate that was not accepted because of OpenSSL's *code*.
    """
    reason = ssl.SSLCertVerificationError(1, "certificate verify failed")
    reason.verify_code = code
    key: Any = None
    return aiohttp.ClientConnectorCertificateError(key, reason)


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        (10, "It has expired"),
        (9, "It is not valid yet"),
        (62, "It is for another host"),
        (64, "It is for another host"),
        (18, "Set SSL_CERT_FILE"),
        (20, "Set SSL_CERT_FILE"),
    ],
)
def test_advice_on_certificates(code: int, expected: str):
    """Each reason for which a certificate is not accepted has its own advice."""
    failure = translated(certificate_error(code), "a.example", Timeout(), "connecting")

    assert expected in str(failure)
    assert failure.is_permanent


def test_a_file_of_authorities_that_is_not_there(monkeypatch: pytest.MonkeyPatch):
    """A variable that names no file is said to."""
    monkeypatch.setenv("SSL_CERT_FILE", "/nowhere/ca.pem")
    failure = translated(certificate_error(20), "a.example", Timeout(), "connecting")

    assert "SSL_CERT_FILE names /nowhere/ca.pem, which is not there" in str(failure)


def test_authorities_that_are_named_later(monkeypatch: pytest.MonkeyPatch, tmp_path: Any):
    """`SSL_CERT_FILE` counts from when it is set, whatever was imported before."""
    trustme = pytest.importorskip("trustme")
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    monkeypatch.delenv("SSL_CERT_FILE", raising=False)
    monkeypatch.delenv("SSL_CERT_DIR", raising=False)
    assert _tls.context_of_environment() is None

    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
    context = _tls.context_of_environment()

    assert context is not None
    assert context.cert_store_stats()["x509_ca"] == 1
    assert _tls.context_of_environment() is context


def test_a_key_log_that_can_t_be_written(script: Callable[..., Script]) -> None:
    """An unwritable `SSLKEYLOGFILE` is named when the client is made."""
    program = script(
        """
import os
os.environ["SSLKEYLOGFILE"] = "/nowhere/keys.log"
import aistats
try:
    aistats.Client()
except aistats.ConfigurationError as error:
    print(error)
"""
    )

    assert "SSLKEYLOGFILE must name a file that can be written" in program.output()


# -- look-ups, addresses, and what can't be sent -------------------------------------------------


@pytest.mark.parametrize(
    ("code", "expected", "is_local"),
    [
        ("EAI_NONAME", "was not found", False),
        ("EAI_AGAIN", "could not be looked up", False),
        ("EAI_FAIL", "could not be looked up", False),
        ("EAI_MEMORY", "out of memory", True),
    ],
)
async def test_look_ups(
    connect: Connect, monkeypatch: pytest.MonkeyPatch, code: str, expected: str, is_local: bool
) -> None:
    """A host that is not known is told from one that could not be looked up."""

    def fail(*_: Any, **__: Any) -> Any:
        raise socket.gaierror(getattr(socket, code), f"reason {code}")

    monkeypatch.setattr(_connector.socket, "getaddrinfo", fail)
    with pytest.raises(aistats.APIConnectionError, match=expected) as caught:
        await connect("http://gateway.example/v1").generate_text(HI)

    assert caught.value.is_local is is_local
    assert is_local or f"reason {code}" in str(caught.value)


def test_what_can_t_be_sent():
    """An error of ours while sending is reported as what it is, and the user's session's as its."""
    own = translated(ValueError("no"), "a.example", Timeout(), "connecting")
    users = translated(ValueError("no"), "a.example", Timeout(), "connecting", is_own=False)

    assert "could not be sent: ValueError: no" in str(own)
    assert "The aiohttp session can't send this: no" in str(users)


@pytest.mark.parametrize(
    "url",
    ["http://a..b/v1", "http://a b/v1", "http://a/v 1", "http://a\n/v1", f"http://{'a' * 64}"],
)
@pytest.mark.parametrize("source", ["base_url", "AI_STATS_BASE_URL"])
def test_wrong_base_urls(monkeypatch: pytest.MonkeyPatch, url: str, source: str):
    """A base URL that can't be called is refused, and said where it came from."""
    if source == "AI_STATS_BASE_URL":
        monkeypatch.setenv(source, url)
    with pytest.raises(aistats.ConfigurationError, match=f"^{source} .*must be an http"):
        aistats.Client(KEY, url if source == "base_url" else None)


def test_spaces_around_a_base_url():
    """White space around a base URL, as copying leaves it, is not part of it."""
    assert _checked_base_url(" http://a.example/v1/ \n", "base_url") == "http://a.example/v1"
    assert _checked_base_url("http://[::1]:8080/v1", "base_url") == "http://[::1]:8080/v1"
    assert _checked_base_url("http://bücher.example", "base_url") == "http://bücher.example"


# -- idle connections that died ------------------------------------------------------------------


def answer(text: str) -> bytes:
    """
    A whole answer that says *text*.
    """
    body = json.dumps(completion(text)).encode()
    head = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(body)}"
    return head.encode() + b"\r\n\r\n" + body


class Replaced:
    """
    A server that was replaced: connections of a first burst are closed when they are used again.
    """

    def __init__(self, burst: int, *, reset: bool) -> None:
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=100)
        self.url = f"http://127.0.0.1:{self.listener.getsockname()[1]}/v1"
        self.connections = 0
        self._burst = burst
        self._reset = reset
        self._all_there = threading.Barrier(burst)
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self.listener.accept()
                self.connections += 1
                is_old = self.connections <= self._burst
                threading.Thread(target=self._serve, args=(connection, is_old), daemon=True).start()

    def _serve(self, connection: socket.socket, is_old: bool) -> None:
        with connection, contextlib.suppress(OSError, threading.BrokenBarrierError):
            if is_old:
                connection.recv(65536)
                self._all_there.wait(10)  # so that each of the burst has its own connection
                connection.sendall(answer("old"))
                connection.recv(65536)
                if self._reset:
                    linger = b"\x01\x00\x00\x00\x00\x00\x00\x00"
                    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
                return
            while connection.recv(65536):
                connection.sendall(answer("new"))

    def close(self) -> None:
        """
        Stop it.
        """
        self.listener.close()


@pytest.fixture(params=["closed", "reset"])
def replaced(request: pytest.FixtureRequest) -> Iterator[Replaced]:
    """
    A server that was replaced after a burst of eight.
    """
    server = Replaced(8, reset=request.param == "reset")
    yield server
    server.close()


async def burst(caller: Caller, count: int) -> list[str]:
    """
    The answers to *count* calls at once.
    """
    texts: list[str] = []

    async def ask() -> None:
        texts.append((await caller.generate_text(HI)).text)

    async with anyio.create_task_group() as group:
        for _ in range(count):
            group.start_soon(ask)
    return texts


@pytest.mark.parametrize("kind", ["whole", "streamed"])
async def test_all_idle_connections_are_dead(
    connect: Connect, replaced: Replaced, kind: str
) -> None:
    """One call after a replacement costs one attempt more, and no retry."""
    caller = connect(replaced.url, max_retries=0)
    await burst(caller, 8)

    if kind == "whole":
        response = await caller.generate_text(HI)
    else:
        response = await caller.stream_text(HI).final_response()

    assert response.text == "new"
    assert len(response.attempts) == 2
    assert replaced.connections == 9


async def test_many_calls_after_a_replacement(connect: Connect, replaced: Replaced) -> None:
    """Of many calls at once after a replacement none fails, and neither does a row of a run."""
    caller = connect(replaced.url, max_retries=0)
    await burst(caller, 8)

    assert await burst(caller, 20) == ["new"] * 20
    run = caller.client.map(["a"] * 60, model="m", dedup=False, concurrency=20)
    await (run if isinstance(run, aistats.AsyncRun) else in_thread(run.wait))

    assert run.texts() == ["new"] * 60


async def test_connections_that_were_used_since_stay(connect: Connect, gateway: Gateway) -> None:
    """Connections that became idle since are not closed."""
    caller = connect(gateway.url)
    await caller.generate_text(HI)
    (pool,) = caller.client._gateway.transport._pools.values()
    connector = pool.session.connector

    def idle() -> int:
        return sum(map(len, connector._conns.values()))

    connector.drop_idle(0.0)
    assert idle() == 1
