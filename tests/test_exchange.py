"""
The record of a call: headers by name, secrets left out, and the request as a shell command.
"""

from __future__ import annotations

import copy
import pickle
import shutil
import subprocess

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aistats import Attempt, Headers, Timing
from aistats._exchange import Exchange, redact
from aistats.types import SentRequest

PAIRS = ((b"Content-Type", b"text/html"), (b"Set-Cookie", b"a=1"), (b"set-cookie", b"b=2"))

# -- headers ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["Content-Type", "content-type", "CONTENT-TYPE"])
def test_headers_by_name_in_any_case(name: str):
    """
    A header is found by its name in any case, as mappings find a key.
    """
    headers = Headers(PAIRS)

    assert headers[name] == headers.get(name) == "text/html"
    assert name in headers


def test_a_header_that_is_not_there():
    """
    A header that is not there is missing as a mapping's key is.
    """
    headers = Headers(PAIRS)

    assert headers.get("x-request-id") is None
    assert headers.get("x-request-id", "none") == "none"
    assert "x-request-id" not in headers
    assert 1 not in headers
    with pytest.raises(KeyError):
        headers["x-request-id"]


def test_a_header_that_came_several_times():
    """
    Values of one name are joined in their order, whatever case the name came in.
    """
    assert Headers([*PAIRS, (b"SET-COOKIE", b"c=3")])["set-cookie"] == "a=1, b=2, c=3"


def test_headers_are_a_mapping():
    """
    Names are in lower case and in the order in which they first came.
    """
    headers = Headers(PAIRS)

    assert list(headers) == ["content-type", "set-cookie"]
    assert len(headers) == 2
    assert dict(headers) == {"content-type": "text/html", "set-cookie": "a=1, b=2"}
    assert headers == Headers([*PAIRS[1:], PAIRS[0]])
    assert headers != Headers(PAIRS[:1])
    assert (len(Headers()), list(Headers())) == (0, [])


def test_headers_are_text():
    """
    A value is read as UTF-8, or else as Latin-1, as it once was: so it can be printed.
    """
    headers = Headers([(b"x-name", "Bodø".encode()), (b"x-raw", b"Bod\xf8")])

    assert headers["x-name"] == "Bodø"
    assert headers["x-raw"] == "Bodø"


def test_secrets_in_headers_are_not_shown():
    """
    The repr has the headers, and no cookie of theirs.
    """
    assert repr(Headers(PAIRS)) == "Headers({'content-type': 'text/html', 'set-cookie': '***'})"


@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
def test_headers_survive_pickle_and_copy(protocol: int):
    """
    Headers that were pickled or copied are still found in any case.
    """
    headers = Headers(PAIRS)

    for again in (
        pickle.loads(pickle.dumps(headers, protocol)),
        copy.copy(headers),
        copy.deepcopy(headers),
    ):
        assert again == headers
        assert again["CONTENT-type"] == "text/html"


@given(
    pairs=st.lists(
        st.tuples(st.sampled_from([b"A", b"a", b"B", b"c-D"]), st.binary(max_size=5)), max_size=8
    )
)
@settings(deadline=None)
def test_any_headers(pairs: list[tuple[bytes, bytes]]):
    """
    Any bytes are headers that can be printed, and no value of any is lost.
    """
    headers = Headers(pairs)

    for name in {name for name, _ in pairs}:
        values = [value for other, value in pairs if other.lower() == name.lower()]
        if all(map(bytes.isascii, values)):
            assert headers[name.decode()].encode() == b", ".join(values)
        assert headers[name.decode()].encode().count(b", ") >= len(values) - 1
    assert len(headers) == len({name.lower() for name, _ in pairs})


# -- secrets ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "is_secret"),
    [
        ("Authorization", True),
        ("authorization", True),
        ("Proxy-Authorization", True),
        ("Cookie", True),
        ("Set-Cookie", True),
        ("X-API-Key", True),
        ("api_key", True),
        ("X-Auth-Token", True),
        ("Client-Secret", True),
        ("X-Password", True),
        ("Content-Type", False),
        ("User-Agent", False),
        ("X-Title", False),
        ("Retry-After", False),
    ],
)
def test_what_is_redacted(name: str, is_secret: bool):
    """
    A header whose name speaks of a secret keeps its name alone.
    """
    headers = {name: "value", "Accept": "text/event-stream"}

    assert redact(headers) == {
        name: "***" if is_secret else "value",
        "Accept": "text/event-stream",
    }
    assert headers[name] == "value"


# -- the request as a shell command -------------------------------------------------------------

URL = "https://api.example/v1/chat/completions"
KEY = 'k"ey$(echo no)`echo no`\\n*'

needs_shell = pytest.mark.skipif(shutil.which("sh") is None, reason="there is no shell here")


def arguments(request: SentRequest) -> list[str]:
    """
    What a real shell gives to `curl` for *request*, where the environment has `KEY`.
    """
    stand_in = 'curl() { for word in "$@"; do printf \'%s\\0\' "$word"; done; }\n'
    shown = subprocess.run(
        ["sh", "-c", stand_in + request.as_curl()],
        env={"AI_STATS_API_KEY": KEY},
        check=True,
        capture_output=True,
    )
    assert shown.stderr == b""
    return shown.stdout.decode().split("\0")[:-1]


def sent(headers: dict[str, str], body: bytes = b"{}", url: str = URL) -> SentRequest:
    """
    A request as the client keeps it.
    """
    return SentRequest("POST", url, redact(headers), body)


@needs_shell
def test_as_curl():
    """
    The command sends the same request, with the key from the environment.
    """
    request = sent(
        {"Authorization": "Bearer k", "Content-Type": "application/json"}, b'{"model":"m"}'
    )

    assert arguments(request) == [
        *("-sS", "-X", "POST", URL),
        *("-H", f"Authorization: Bearer {KEY}"),
        *("-H", "Content-Type: application/json"),
        *("--data-raw", '{"model":"m"}'),
    ]


def test_as_curl_has_no_secret():
    """
    Neither the key nor another secret is in the command.
    """
    request = sent({"authorization": "Bearer s3cret", "X-Api-Key": "s3cret", "Cookie": "s3cret"})

    assert "s3cret" not in request.as_curl()
    assert request.as_curl().count("***") == 2
    assert '"authorization: Bearer $AI_STATS_API_KEY"' in request.as_curl()


# No shell and no header can have a NUL, and HTTP no line breaks in a header.
text = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=20)
one_line = text.filter(str.isprintable)


@needs_shell
@given(body=text, value=one_line, query=one_line)
@settings(deadline=None, max_examples=50)
def test_as_curl_quotes_everything(body: str, value: str, query: str):
    """
    Whatever is in the body, a header or the URL, the shell makes nothing of it.
    """
    request = sent({"X-Title": value}, body.encode(), f"{URL}?q={query}")

    assert arguments(request) == [
        *("-sS", "-X", "POST", f"{URL}?q={query}"),
        *("-H", f"X-Title: {value}"),
        *("--data-raw", body),
    ]


@needs_shell
@pytest.mark.parametrize("body", ["it's", "$HOME", "`date`", "@/etc/passwd", "a\nb", "\\", "-d"])
def test_as_curl_sends_the_body_as_it_is(body: str):
    """
    What means something to a shell or to curl means nothing in the body.
    """
    assert arguments(sent({}, body.encode()))[-2:] == ["--data-raw", body]


def test_a_request_does_not_show_itself():
    """
    The repr of a request has neither its headers nor the prompt.
    """
    shown = repr(sent({"X-Title": "my title"}, b'{"messages":"my prompt"}'))

    assert "POST" in shown
    assert URL in shown
    assert "my " not in shown


# -- the record ---------------------------------------------------------------------------------


def test_nothing_is_known_yet():
    """
    A record begins empty.
    """
    exchange = Exchange()

    assert (exchange.request, exchange.status, exchange.attempts) == (None, None, ())
    assert (exchange.headers, exchange.timing) == (Headers(), Timing())
    assert exchange.header_request_id is None
    assert Attempt("unsent") == Attempt("unsent", status=None, reason=None, wait=0.0)
    assert Timing() == Timing(queued=None, connect=None, first_byte=None, total=None)


@pytest.mark.parametrize(
    ("pairs", "expected"),
    [
        ((), None),
        (((b"CF-Ray", b"ray-1"),), "ray-1"),
        (((b"X-Request-Id", b"req-1"),), "req-1"),
        (((b"X-Gateway-Request-Id", b"gw-1"),), "gw-1"),
        (((b"cf-ray", b"ray-1"), (b"x-request-id", b"req-1")), "req-1"),
        (((b"x-request-id", b"req-1"), (b"x-gateway-request-id", b"gw-1")), "gw-1"),
        (((b"cf-ray", b"ray-1"), (b"x-request-id", b"")), "ray-1"),
    ],
)
def test_the_id_in_the_headers(pairs: tuple[tuple[bytes, bytes], ...], expected: str | None):
    """
    The gateway's id for the request comes before a proxy's, and that before the CDN's.
    """
    assert Exchange(raw_headers=pairs).header_request_id == expected


@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
def test_a_record_survives_pickle_and_copy(protocol: int):
    """
    A record that was pickled or copied says the same.
    """
    exchange = Exchange(
        request=sent({"Authorization": "Bearer k"}),
        status=503,
        raw_headers=PAIRS,
        attempts=(Attempt("unsent", reason="refused", wait=0.5), Attempt("answered", 503)),
        timing=Timing(queued=0.0, connect=0.1, first_byte=0.2, total=1.0),
    )

    for again in (
        pickle.loads(pickle.dumps(exchange, protocol)),
        copy.copy(exchange),
        copy.deepcopy(exchange),
    ):
        assert again == exchange
        assert again.headers == exchange.headers


def test_what_happened_does_not_change():
    """
    An attempt, the times and the request that went out can't be set.
    """
    for value, name in (
        (Attempt("unsent"), "outcome"),
        (Timing(), "total"),
        (sent({}), "body"),
    ):
        with pytest.raises(AttributeError):
            setattr(value, name, None)
