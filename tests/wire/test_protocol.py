"""
What an answer means: its error, its completion, or the end of its stream.

What streams come to is in `test_assembly`; here is how they begin, break and end.
"""

from __future__ import annotations

import contextlib
import json
import re
import tracemalloc
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from aistats import (
    AIStatsError,
    APIConnectionError,
    APIResponseError,
    APIStatusError,
    APITimeoutError,
    BadRequestError,
    ChatCompletionChunk,
    InternalServerError,
    StreamError,
    StreamErrorEvent,
    StreamInterruptedError,
)
from aistats._errors import status_error_class
from aistats._exchange import Exchange, SentRequest
from aistats._wire.answer import completion_from
from aistats._wire.decoder import NEED_DATA, StreamDecoder
from aistats._wire.status_error import status_error_from

MODEL_GONE = "The gateway knows no such model: check its id."


def answered(status: int = 200, **headers: str) -> Exchange:
    """
    The record of a call that was answered with *status* and *headers* (`_` stands for `-`).
    """
    pairs = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    return Exchange(status=status, raw_headers=tuple(pairs))


# -- errors -------------------------------------------------------------------------------------

# A body, and the code, message and id in it.
BODIES: dict[str, tuple[Any, str | None, str, str | None]] = {
    "the newer gateway's": (
        {
            "generation_id": "G-1",
            "status_code": 400,
            "error": "validation_error",
            "error_type": "user",
            "description": "Unknown parameter: foo",
            "details": [{"message": "no", "path": ["foo"], "keyword": "unknown_param"}],
        },
        "validation_error",
        "Unknown parameter: foo",
        "G-1",
    ),
    "with details alone": (
        {
            "error": "validation_error",
            "details": [{"message": "a"}, {"path": []}, {"message": "b"}],
        },
        "validation_error",
        "a; b",
        None,
    ),
    "with an id that is none": (
        {"generation_id": "unknown", "request_id": "req-1", "error": "x", "description": "y"},
        "x",
        "y",
        "req-1",
    ),
    "a sentence and a reason": (
        {"error": "No such preset here", "reason": "preset_not_found"},
        "preset_not_found",
        "No such preset here",
        None,
    ),
    "OpenAI's": (
        {
            "error": {
                "message": "Bad",
                "type": "invalid_request_error",
                "code": "bad",
                "param": None,
            }
        },
        "bad",
        "Bad",
        None,
    ),
    "OpenAI's without a code": (
        {"error": {"message": "Bad", "type": "invalid_request_error", "code": None}},
        "invalid_request_error",
        "Bad",
        None,
    ),
    "a number for a code": ({"error": {"message": "Bad", "code": 400}}, "400", "Bad", None),
    "true for a code": ({"error": {"message": "Bad", "code": True, "type": "t"}}, "t", "Bad", None),
    "a provider's": (
        {"error": {"type": "t", "message": "m", "request_id": "req-2", "provider": "p"}},
        "t",
        "m",
        "req-2",
    ),
    "that of files and batches": (
        {"error": {"reason": "no_file", "message": "m"}},
        "no_file",
        "m",
        None,
    ),
    "one that could not be made usual": (
        {
            "requestId": "req-3",
            "error": "normalization_failed",
            "message": "m",
            "upstreamStatus": 200,
        },
        "normalization_failed",
        "m",
        "req-3",
    ),
    "the control plane's": (
        {"ok": False, "error": "not_found", "message": "No such generation"},
        "not_found",
        "No such generation",
        None,
    ),
    "the control plane's, with a reason": (
        {"ok": False, "error": "unauthorised", "reason": "key_expired"},
        "unauthorised",
        "unauthorised",
        None,
    ),
    "a problem": (
        {"type": "https://errors", "title": "Unprocessable", "detail": "Wrong type", "status": 422},
        None,
        "Wrong type",
        None,
    ),
    "a problem with a title alone": ({"title": "Unauthorized"}, None, "Unauthorized", None),
    "a code beside a message": (
        {"code": "rate_limited", "message": "m"},
        "rate_limited",
        "m",
        None,
    ),
    "an empty message before another": (
        {"error": "x", "description": "", "message": "m"},
        "x",
        "m",
        None,
    ),
    "nothing that is known": ({"foo": "bar"}, None, '{"foo": "bar"}', None),
    "nothing at all": ({}, None, "no reason was given", None),
    "odd values": (
        {"error": [1], "description": {"a": 1}, "details": "x", "generation_id": ["G"]},
        None,
        '{"error": [1], "description": {"a": 1}, "details": "x", "generation_id": ["G"]}',
        None,
    ),
    "a list": ([{"error": "x"}], "x", "x", None),
    "a list of nothing": ([], None, "no reason was given", None),
    "a list of several": (
        [{"error": {"code": "c", "message": "one"}}, 5, {"message": "two"}],
        "c",
        "one; two",
        None,
    ),
    "code and msg": ({"code": 1301, "msg": "no", "success": False}, "1301", "no", None),
    "base_resp": (
        {"base_resp": {"status_code": 1004, "status_msg": "login fail"}},
        "1004",
        "login fail",
        None,
    ),
    "errors": (
        {"errors": [{"code": 7003, "message": "No route"}, {"message": "again"}], "success": False},
        "7003",
        "No route; again",
        None,
    ),
    "a detail that is a list": (
        {"detail": [{"type": "missing", "loc": ["body", "model"], "msg": "Field required"}]},
        "missing",
        "Field required",
        None,
    ),
    "a detail that is an object": ({"detail": {"error": "x", "message": "m"}}, "x", "m", None),
    "JSON in a string": (
        {"error": {"message": '{"error": {"code": "c", "message": "inside"}}', "code": "outside"}},
        "c",
        "inside",
        None,
    ),
    "JSON in a string, three levels deep": (
        {
            "error": "upstream_error",
            "description": "Error code: 400 - "
            + json.dumps({"error": {"message": json.dumps({"message": '{"message": "deep"}'})}}),
        },
        "upstream_error",
        "deep",
        None,
    ),
    "JSON that a message only quotes": (
        {"error": {"message": 'Wrong arguments: {"message": "hi"}'}},
        None,
        'Wrong arguments: {"message": "hi"}',
        None,
    ),
    "a string": ("down", None, '"down"', None),
}


@pytest.mark.parametrize("case", BODIES)
def test_the_body_of_an_error(case: str):
    """
    Code, message and id of an error are found in each of the forms that they come in.
    """
    body, code, message, request_id = BODIES[case]
    error = status_error_from(json.dumps(body).encode(), answered(418))

    assert (error.code, error.message, error.request_id) == (code, message, request_id)
    assert error.body == (body if isinstance(body, dict | list) else json.dumps(body))


def test_nested_reports_cost_little():
    """
    Reports in strings inside of reports are read to a fixed depth.
    """
    body: Any = {"message": "end"}
    for _ in range(14):
        body = {"error": {"message": json.dumps(body)}}

    assert status_error_from(json.dumps(body).encode(), answered(418)).message


RETRY_INFO = {
    "error": {
        "code": 429,
        "message": "quota",
        "details": [
            {"@type": "type.googleapis.com/google.rpc.Help"},
            {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "34.5s"},
        ],
    }
}


@pytest.mark.parametrize(
    ("body", "header", "expected"),
    [
        (RETRY_INFO, None, 34.5),
        ([RETRY_INFO], None, 34.5),
        ({"error": {"message": json.dumps(RETRY_INFO)}}, None, 34.5),
        (RETRY_INFO, 2.0, 2.0),
        ({"error": {"details": [{"retryDelay": "5s"}]}}, None, None),
        ({"error": {"details": [{"@type": "x.RetryInfo", "retryDelay": "soon"}]}}, None, None),
    ],
)
def test_retry_info(body: Any, header: float | None, expected: float | None):
    """
    Google's `RetryInfo` counts as a `Retry-After` where the answer has none.
    """
    error = status_error_from(json.dumps(body).encode(), answered(429), header)

    assert error.retry_after == expected


STOPPED: dict[str, Any] = {"index": 0, "message": {"content": "Hi"}, "finish_reason": "stop"}


@pytest.mark.parametrize(
    "extra",
    [
        {},
        {"error": None},
        {"error": {}},
        {"error": ""},
        {"base_resp": {"status_code": 0, "status_msg": "success"}},
        {"base_resp": {"status_code": 1000, "status_msg": "odd"}},
        {"errors": [], "detail": None},
        {"code": 200, "msg": "success"},
        {"message": "a greeting"},
    ],
)
def test_a_success_is_no_error(extra: dict[str, Any]):
    """
    A complete answer is not read as an error because of other keys beside it.
    """
    body = json.dumps({"id": "1", "choices": [STOPPED], **extra}).encode()

    assert completion_from(body, answered()).text == "Hi"


FAILED_CHOICE = {**STOPPED, "finish_reason": "error", "error": {"code": 502, "message": "died"}}


@pytest.mark.parametrize(
    ("wire", "expected"),
    [
        ({"detail": [{"msg": "Field required"}]}, "Field required"),
        ({"detail": "down"}, "down"),
        ({"base_resp": {"status_code": 1004, "status_msg": "login fail"}}, "1004: login fail"),
        ({"choices": None, "base_resp": {"status_code": 2, "status_msg": "slow"}}, "2: slow"),
        ({"errors": [{"message": "No route"}]}, "No route"),
        ({"code": 1301, "msg": "no"}, "1301: no"),
        ({"choices": [FAILED_CHOICE]}, "502: died"),
    ],
)
def test_errors_with_a_good_status(wire: dict[str, Any], expected: str):
    """
    An error is one, with its reason, although the status is good: whole, and in a stream.
    """
    with pytest.raises(APIResponseError, match=re.escape(f"is an error: {expected}")) as caught:
        completion_from(json.dumps(wire).encode(), answered())
    assert (caught.value.partial is not None) == bool(wire.get("choices"))

    decoder = StreamDecoder(answered())
    first = {"choices": [{"index": 0, "delta": {"content": "Once"}}]}
    for frame in (first, wire):
        decoder.receive_data(b"data: " + json.dumps(frame).encode() + b"\n\n")
    decoder.next_chunk()
    with pytest.raises(StreamErrorEvent, match=re.escape(expected)) as event:
        decoder.next_chunk()
    assert event.value.partial is not None
    assert event.value.partial.text == "Once"


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", "no reason was given"),
        (b" \n", "no reason was given"),
        (b"404 page not found\n", "404 page not found"),
        (b"<html><h1>502 Bad Gateway</h1></html>", "502 Bad Gateway"),
        (
            b"\n<!doctype html><title>Down &amp; out</title><p class='x'>Come\nback later <b",
            "Down & out Come back later",
        ),
        (
            b"<title>502 Bad Gateway</title>\r\n<h1>502 Bad Gateway</h1>\r\n<hr>nginx/1.27.3",
            "502 Bad Gateway nginx/1.27.3",
        ),
        (
            b"<title>502 Proxy Error</title><h1>Proxy Error</h1><p>The proxy server received ...",
            "502 Proxy Error The proxy server received ...",
        ),
        (
            b"<title>502 Backend fetch failed</title><h1>Error 502 Backend fetch failed</h1>XID",
            "Error 502 Backend fetch failed XID",
        ),
        (b"<TITLE>502</TITLE>", "502"),
        (b"<p>Bad <b>Bad Gateway</b></p>", "Bad Bad Gateway"),
        (
            b"<style>p {a: b}</style><script>if (a < b) {}</script>Come<!-- not --> back",
            "Come back",
        ),
        (b"<" * 600, "<" * 500 + "\u2026"),
        (b'{"error": "cut', '{"error": "cut'),
        (b"Bod\xf8", "Bod\ufffd"),
        (b"x" * 500, "x" * 500),
        (b"x" * 501, "x" * 500 + "…"),
        ("ø".encode() * 600, "ø" * 500 + "…"),
    ],
)
def test_the_body_of_an_error_that_is_no_json(body: bytes, message: str):
    """
    The message is what a page of HTML says, or the first part of a body that is no JSON.
    """
    error = status_error_from(body, answered(502))
    text = body.decode("utf-8", "replace").strip()

    assert (error.code, error.message) == (None, message)
    assert error.body == (text if len(text) <= 500 else text[:500] + "…")
    head = message if message.startswith("502 ") else f"502: {message}"
    assert str(error) == f"{head} | Try again later."


def test_an_error_has_its_call():
    """
    An error's class is its status's, and the call's headers and id are the error's.
    """
    for status in (301, 400, 418, 429, 500, 529):
        exchange = answered(status, x_request_id="req-1", retry_after="5")
        error = status_error_from(b"{}", exchange)

        assert type(error) is status_error_class(status)
        assert (error.status, error.request_id) == (status, "req-1")
        assert error.headers["Retry-After"] == "5"
        assert error.exchange is exchange


def test_the_body_has_the_better_id():
    """
    The gateway's own id for the request comes before a proxy's.
    """
    error = status_error_from(b'{"generation_id":"G-1"}', answered(500, cf_ray="ray-1"))

    assert error.request_id == "G-1"


@pytest.mark.parametrize(
    ("status", "body", "expected"),
    [
        (
            400,
            {"error": "validation_error", "description": "Bad."},
            "400 validation_error: Bad. | Fix the request; the same request would fail again.",
        ),
        (
            400,
            {"error": "unsupported_model_or_endpoint", "description": "No."},
            f"400 unsupported_model_or_endpoint: No. | {MODEL_GONE}",
        ),
        (
            401,
            {"error": "unauthorised", "description": "key_expired"},
            (
                "401 unauthorised: key_expired | "
                "Check the key: AI_STATS_API_KEY in the environment, or api_key=."
            ),
        ),
        (
            401,
            {"error": "unauthorised", "description": "db_error"},
            "401 unauthorised: db_error | The gateway's key store was down: try again.",
        ),
        (418, {"error": "x", "description": "db_error"}, "418 x: db_error"),
        (500, {}, "500: no reason was given | Try again later."),
        (499, {}, "499: no reason was given"),
        (418, {"message": "Tea."}, "418: Tea."),
    ],
)
def test_the_message_of_an_error(status: int, body: Any, expected: str):
    """
    What is printed has status, code and message, and then what to do, where there is something.
    """
    assert str(status_error_from(json.dumps(body).encode(), answered(status))) == expected


@pytest.mark.parametrize(
    ("status", "code", "word"),
    [
        (402, "insufficient_funds", "credit"),
        (403, "guardrail_blocked", "allowed"),
        (404, "not_found", "base_url"),
        (409, "not_ready", "ready"),
        (413, "payload_too_large", "16 MiB"),
        (422, "x", "Fix"),
        (429, "rate_limited", "fewer"),
        (429, "key_limit_exceeded", "quota"),
        (429, "insufficient_quota", "quota"),
        (404, "unsupported_model_or_endpoint", "model"),
        (502, "google_empty_response", "token limit"),
        (599, "x", "later"),
    ],
)
def test_what_to_do(status: int, code: str, word: str):
    """
    An error says what to do about it; the code's advice comes before the status's.
    """
    error = status_error_from(json.dumps({"error": code}).encode(), answered(status))

    assert word in str(error).partition(" | ")[2]


def test_how_long_to_wait():
    """
    An error that asks for a pause says how long it is.
    """
    error = status_error_from(b"", answered(429), 100.0)

    assert error.retry_after == 100.0
    assert str(error).endswith("try again later. It asks to be left alone for 100 s.")


@pytest.mark.parametrize(
    ("status", "location", "expected"),
    [
        (308, "/v2/chat/completions", "set base_url to http://gateway.example/v2."),
        (
            307,
            "//other.example/v1/chat/completions?a=b",
            "set base_url to http://other.example/v1.",
        ),
        (
            302,
            "/login?next=/v1",
            "http://gateway.example/login?next=/v1, which is not the gateway's",
        ),
        (304, None, "It redirects to nowhere"),
    ],
)
def test_redirects(status: int, location: str | None, expected: str):
    """
    A redirect says where it leads, and names a base URL only where that is the gateway's API.
    """
    exchange = answered(status) if location is None else answered(status, location=location)
    exchange.request = SentRequest("POST", "http://gateway.example/v1/chat/completions", {}, b"")

    assert expected in str(status_error_from(b"", exchange))


def test_nothing_at_an_address():
    """
    A 404 says what was asked for.
    """
    exchange = answered(404)
    exchange.request = SentRequest("POST", "http://localhost:1/chat/completions", {}, b"")

    assert str(status_error_from(b"", exchange)).endswith("at http://localhost:1/chat/completions.")


def test_a_redirect():
    """
    A redirect is an error that says where it leads.
    """
    error = status_error_from(b"", answered(308, location="https://elsewhere.example/v1"))

    assert type(error) is APIStatusError
    assert "redirects to https://elsewhere.example/v1" in str(error)
    assert "redirects to nowhere" in str(status_error_from(b"", answered(300)))
    assert "redirects" not in str(status_error_from(b"", answered(400)))


# -- whole answers ------------------------------------------------------------------------------

ANSWER: dict[str, Any] = {
    "id": "G-1",
    "object": "chat.completion",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "Hi"}}],
}


def test_a_completion():
    """
    A body that is a completion gives its view, with the call that it came from.
    """
    answer = completion_from(json.dumps(ANSWER).encode(), answered(200, cf_ray="ray-1"))

    assert answer.to_dict() == ANSWER
    assert (answer.text, answer.status, answer.headers["CF-Ray"]) == ("Hi", 200, "ray-1")


def test_a_completion_with_an_error_in_it_is_one():
    """
    A body that has choices is a completion, whatever else is in it.
    """
    body = {**ANSWER, "error": {"message": "One tool failed."}, "new": 1}

    assert completion_from(json.dumps(body).encode(), answered()).to_dict() == body


@pytest.mark.parametrize(
    ("body", "what"),
    [
        (b"", "is empty"),
        (b" \r\n", "is empty"),
        (b"<!doctype html><title>Log in</title>", "is HTML"),
        (b"\n <html>", "is HTML"),
        (b'{"choices": [', "is not JSON, or was cut"),
        (b"OK", "is not JSON, or was cut"),
        (b"\xff", "is not JSON, or was cut"),
        (b"[" * 100_000, "is not JSON, or was cut"),
        (b"[]", "is JSON, but not an object"),
        (b"null", "is JSON, but not an object"),
        (b'"text"', "is JSON, but not an object"),
        (b"{}", "has no choices"),
        (b'{"choices":[]}', "has no choices. The provider gave none:"),
        (b'{"choices":null}', "has no choices. The provider gave none:"),
        (b'{"choices":[null,1]}', "has no choices. The provider gave none:"),
        (b'{"error":null,"status_code":500}', "has no choices"),
        (b'{"error":{"code":"bad","message":"Bad."}}', "is an error: bad: Bad. Try again;"),
        (b'{"object":"error","message":"Bad."}', "is an error: Bad. Try again;"),
        (b'{"type":"error","error":{"type":"bad"}}', "is an error: bad. Try again;"),
        (b'{"error":{}}', "is an error: no reason was given. Try again;"),
        (b'{"type":"error","message":"Bad."}', "is an error: Bad. Try again;"),
        (b'{"error":"bad","status_code":200}', "is an error"),
        (b'{"error":"bad","status_code":true}', "is an error"),
    ],
)
def test_no_completion(body: bytes, what: str):
    """
    A body that is no completion says what it is instead, how it begins, and what to check.
    """
    with pytest.raises(APIResponseError) as caught:
        completion_from(body, answered(203))
    error = caught.value

    assert f"The answer (status 203) {what}" in str(error)
    # An error and an empty list of choices do come from a gateway.
    is_foreign = "is an error" not in what and "gave none" not in what
    assert ("Check that base_url leads to the gateway's API." in str(error)) == is_foreign
    assert error.body == body[:2000].decode("utf-8", "replace").strip()[:500] + (
        "…" if len(body) > 500 else ""
    )
    assert str(error).endswith(f" It begins: {error.body}" if error.body else "API.")
    assert "None" not in str(error)
    assert error.status == 203


@pytest.mark.parametrize(
    ("status_code", "kind"),
    [(400, BadRequestError), (418, APIStatusError), (502, InternalServerError)],
)
def test_an_error_with_a_good_status(status_code: int, kind: type[APIStatusError]):
    """
    The gateway's own error is of the class that it says itself, though its status is a good one.
    """
    body = {"status_code": status_code, "error": "bad", "description": "Bad."}
    with pytest.raises(APIStatusError) as caught:
        completion_from(json.dumps(body).encode(), answered(200))
    error = caught.value

    assert type(error) is kind
    assert (error.code, error.message, error.body) == ("bad", "Bad.", body)
    assert str(error).startswith(f"{status_code} bad: Bad.")


@given(
    body=st.binary(max_size=50)
    | st.dictionaries(
        st.sampled_from(["choices", "error", "object", "type", "status_code", "details", "code"]),
        st.sampled_from([None, 1, "error", "x y", [], [{}], {}, {"message": 1}, 500, True, 0.5]),
    ).map(lambda wire: json.dumps(wire).encode()),
    status=st.sampled_from([200, 204, 307, 400, 404, 500]),
)
@example(body=b'"\\ud83d"', status=200)
@settings(deadline=None)
def test_any_body(body: bytes, status: int):
    """
    Any body is a completion or one of our errors, whatever its status.
    """
    error = status_error_from(body, answered(status))
    assert type(error) is status_error_class(status)
    assert str(error).startswith(str(status))
    try:
        answer = completion_from(body, answered(status))
    except (APIResponseError, APIStatusError, StreamError):
        return
    assert answer.choices


@pytest.mark.parametrize("charset", ["utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32"])
def test_an_answer_in_another_utf(charset: str):
    """
    A whole answer is read in each form of Unicode, with and without a byte order mark.
    """
    assert completion_from(json.dumps(ANSWER).encode(charset), answered()).to_dict() == ANSWER


ODD_JSON = [
    *(b"NaN", b"[Infinity, -Infinity]", b"1e400", b"-1e999", b"9" * 400),
    *(b'"Bod\xf8"', b'"\xed\xa0\x80"', b'"\xc0\xaf"', b'"\\ud83d"'),
]


@pytest.mark.parametrize("odd", ODD_JSON, ids=lambda odd: repr(odd)[:30])
def test_an_answer_with_unusual_json(odd: bytes):
    """
    A value that is not quite JSON loses nothing but itself, in a whole answer and in a stream.
    """
    body = json.dumps(ANSWER).encode()[:-1] + b', "new": ' + odd + b"}"
    whole = completion_from(body, answered())
    events = frame("Hel") + frame("lo", "stop")
    decoder = StreamDecoder(answered())
    decoder.receive_data(events.replace(b'"index"', b'"new": ' + odd + b', "index"') + DONE)
    decoder.receive_data(b"")

    assert whole.text == "Hi"
    assert [chunk.text for chunk in chunks(decoder)] == ["Hel", "lo"]
    assert decoder.response().choices[0].finish_reason == "stop"
    json.dumps(whole.to_dict(), allow_nan=False).encode()


# -- streams ------------------------------------------------------------------------------------


def frame(content: str | None = None, reason: str | None = None, **more: Any) -> bytes:
    """
    A frame of a stream with one choice.
    """
    delta = {} if content is None else {"content": content}
    choice = {"index": 0, "delta": delta, "finish_reason": reason}
    wire = {"id": "G-1", "object": "chat.completion.chunk", "choices": [choice], **more}
    return b"data: " + json.dumps(wire).encode() + b"\n\n"


DONE = b"data: [DONE]\n\n"


def chunks(decoder: StreamDecoder) -> list[ChatCompletionChunk]:
    """
    The chunks that *decoder* has ready; the next bytes have to come, or the end has.
    """
    ready: list[ChatCompletionChunk] = []
    while isinstance(chunk := decoder.next_chunk(), ChatCompletionChunk):
        ready.append(chunk)
    return ready


def fed(*reads: bytes) -> StreamDecoder:
    """
    A decoder that was given *reads* and whose chunks have been taken.
    """
    decoder = StreamDecoder(answered())
    for data in reads:
        decoder.receive_data(data)
    chunks(decoder)
    return decoder


def test_a_decoder_asks_for_data():
    """
    A decoder without an event asks for the next bytes, as often as it is asked.
    """
    decoder = StreamDecoder()

    assert [decoder.next_chunk(), decoder.next_chunk()] == [NEED_DATA, NEED_DATA]
    decoder.receive_data(frame("Hi")[:20])
    assert decoder.next_chunk() is NEED_DATA
    decoder.receive_data(frame("Hi")[20:])
    assert [chunk.text for chunk in chunks(decoder)] == ["Hi"]
    assert decoder.next_chunk() is NEED_DATA


def test_a_decoder_is_lazy():
    """
    An event is decoded when it is asked for, and not before.
    """
    decoder = StreamDecoder()
    decoder.receive_data(frame("Hi") + b"data: {bad}\n\n")

    assert decoder.response().text == ""
    assert isinstance(decoder.next_chunk(), ChatCompletionChunk)
    assert decoder.response().text == "Hi"
    with pytest.raises(StreamError, match="not a JSON object"):
        decoder.next_chunk()


def test_the_end():
    """
    After the proper end there are no more chunks, however often one is asked for.
    """
    decoder = fed(frame("Hi", "stop"), b"")

    assert [decoder.next_chunk(), decoder.next_chunk()] == [None, None]


def test_done_is_the_end():
    """
    Behind `[DONE]` nothing is waited for, and nothing is read.
    """
    decoder = fed(frame("Hi"), DONE + frame("more"))

    assert decoder.next_chunk() is None
    assert decoder.response().text == "Hi"


@pytest.mark.parametrize(
    ("reads", "expected"),
    [
        ([], False),
        ([frame("Hi")], False),
        ([frame("Hi", "stop")], True),
        ([frame("Hi"), DONE], True),
        ([frame("Hi"), b"data: [DONE] \n\n"], True),
        ([DONE], False),
        ([b": comment\n\n"], False),
        ([frame(None)], False),
        ([b'data: {"object":"chat.completion","choices":[{"message":{}}]}\n\n'], True),
        ([b'data: {"type":"message_start","message":{}}\n\n'], False),
        ([b'data: {"type":"message_stop"}\n\n'], False),
        ([frame("Hi"), b'data: {"type":"message_stop"}\n\n'], True),
    ],
)
def test_whether_the_answer_is_complete(reads: list[bytes], expected: bool):
    """
    An answer is complete by a finish_reason, a snapshot or `[DONE]`, if there is any of it.
    """
    decoder = StreamDecoder()
    for data in reads:
        decoder.receive_data(data)
    # What ends without an answer raises, and is not complete for all that.
    with contextlib.suppress(StreamInterruptedError):
        chunks(decoder)

    assert decoder.is_complete is expected


def choice(index: int, finish_reason: str | None, **more: Any) -> bytes:
    """
    A frame of one of several choices.
    """
    wire = {"index": index, "delta": {"content": "Hi"}, "finish_reason": finish_reason, **more}
    return b"data: %b\n\n" % json.dumps({"choices": [wire]}).encode()


@pytest.mark.parametrize(
    ("reads", "expected"),
    [
        ([choice(0, "stop")], False),
        ([choice(0, "stop"), choice(1, None)], False),
        ([choice(0, "stop"), choice(1, "stop")], True),
        ([choice(0, "stop"), DONE], True),
        ([b'data: {"object":"chat.completion","choices":[{"message":{}}]}\n\n'], True),
        # The older gateway's items are not the choices that were asked for.
        ([choice(0, "stop", reasoning=False)], True),
    ],
)
def test_whether_several_choices_are_complete(reads: list[bytes], expected: bool):
    """
    Where two choices were asked for, the end of one of them is not the end.
    """
    decoder = StreamDecoder(choices=2)
    for data in reads:
        decoder.receive_data(data)
    chunks(decoder)

    assert decoder.is_complete is expected
    assert (decoder.connection_lost(APIConnectionError("Lost.")) is None) is expected


@pytest.mark.parametrize(
    ("reads", "message", "text"),
    [
        ([], "before any of the answer came", ""),
        ([b": hello\n\n"], "before any of the answer came", ""),
        ([DONE], "before any of the answer came", ""),
        ([frame("Hi")], "neither [DONE] nor a finish_reason", "Hi"),
        ([frame("Hi"), frame(" you")[:-20]], "neither [DONE] nor a finish_reason", "Hi"),
    ],
)
def test_an_end_that_is_none(reads: list[bytes], message: str, text: str):
    """
    A stream that ends before its answer is complete raises, each time, with what had arrived.
    """
    decoder = StreamDecoder(answered())
    for data in (*reads, b""):
        decoder.receive_data(data)
    for _ in range(2):
        with pytest.raises(StreamInterruptedError) as caught:
            chunks(decoder)

        assert message in str(caught.value)
        assert caught.value.partial is not None
        assert caught.value.partial.text == text
        assert caught.value.status == 200


def test_a_lost_connection():
    """
    A connection that was lost in an answer interrupts it; what had arrived is in the error.
    """
    decoder = fed(frame("Hel"), frame("lo"), frame(" there")[:-1])
    error = decoder.connection_lost(APIConnectionError("Connection reset by peer."))

    assert type(error) is StreamInterruptedError
    assert "Connection reset by peer." in str(error)
    assert error.partial is not None
    assert error.partial.text == "Hello"
    assert error.request_id == "G-1"


@pytest.mark.parametrize("kind", [APIConnectionError, APITimeoutError])
@pytest.mark.parametrize("reads", [[frame("Hi", "stop")], [frame("Hi"), DONE]])
def test_a_connection_that_is_lost_behind_the_answer(
    reads: list[bytes], kind: type[APIConnectionError]
):
    """
    A connection that was lost after the answer was complete is nobody's loss: the stream has ended.
    """
    decoder = fed(*reads)

    assert decoder.connection_lost(kind("Gone.")) is None
    assert decoder.next_chunk() is None
    assert decoder.response().text == "Hi"


def test_a_lost_connection_with_events_still_to_read():
    """
    A frame that had not been read when the connection was lost is read all the same, with its end.
    """
    decoder = fed(frame("Hi", "stop"))
    decoder.receive_data(frame(choices=[], usage={"prompt_tokens": 1, "completion_tokens": 2}))

    assert decoder.connection_lost(APIConnectionError("Gone.")) is None
    assert len(chunks(decoder)) == 1
    assert decoder.next_chunk() is None
    usage = decoder.response().usage
    assert usage is not None
    assert usage.total_tokens == 3


def test_a_limit_that_ran_out():
    """
    A limit of time that ran out in an answer stays that error, and has what had arrived.
    """
    decoder = fed(frame("Hi"))
    timeout = APITimeoutError("The idle limit ran out.")
    timeout.limit = "idle"

    error = decoder.connection_lost(timeout)
    assert error is timeout
    assert timeout.partial is not None
    assert timeout.partial.text == "Hi"


@pytest.mark.parametrize("cut", [0, 1, 30, 100])
def test_an_event_that_is_too_long(cut: int):
    """
    A stream with an event beyond the limit is given up, with what had been read before.
    """
    decoder = StreamDecoder(answered(), longest_event=len(frame("Hi")))
    longer = frame("x" * 300)
    decoder.receive_data(frame("Hi"))
    chunks(decoder)
    if cut:
        decoder.receive_data(longer[:cut])
    with pytest.raises(StreamError, match="given up") as caught:
        decoder.receive_data(longer[cut:])

    assert type(caught.value) is StreamError
    assert caught.value.partial is not None
    assert caught.value.partial.text == "Hi"
    assert caught.value.status == 200


def test_whether_an_event_is_there():
    """
    The decoder knows of an event that says something before it decodes it; a comment says nothing.
    """
    decoder = StreamDecoder()
    seen = [decoder.has_event]
    for data in (b": hello\n\n", frame("Hi")[:30], frame("Hi")[30:]):
        decoder.receive_data(data)
        seen.append(decoder.has_event)
    chunks(decoder)

    assert [*seen, decoder.has_event] == [False, False, False, True, False]


def test_the_id_of_the_answer():
    """
    The answer's id is known once a frame had it.
    """
    decoder = StreamDecoder()
    assert decoder.answer_id is None
    decoder.receive_data(frame("Hi"))
    assert decoder.answer_id is None
    chunks(decoder)
    assert decoder.answer_id == "G-1"


# -- an answer that is no stream ----------------------------------------------------------------


@pytest.mark.parametrize("object_key", ["chat.completion", "text", "", None, 5])
def test_a_whole_answer_in_place_of_a_stream(object_key: object):
    """
    A whole answer is a stream of one chunk with all of its text.
    """
    decoder = StreamDecoder(answered())
    wire = {**ANSWER, "object": object_key, "new": {"deep": [1]}}
    decoder.receive_whole(json.dumps(wire).encode())
    (chunk,) = chunks(decoder)

    assert chunk.text == "Hi"
    assert decoder.next_chunk() is None
    assert decoder.response().text == "Hi"
    assert decoder.response().to_dict()["new"] == {"deep": [1]}
    assert decoder.response().status == 200


def test_a_whole_answer_as_long_as_an_event_may_be():
    """
    The limit is for what was received, and not for how it is held.
    """
    body = json.dumps(ANSWER).encode()
    decoder = StreamDecoder(answered(), longest_event=len(body))
    decoder.receive_whole(body)

    assert [chunk.text for chunk in chunks(decoder)] == ["Hi"]


def test_a_deep_answer_in_place_of_a_stream():
    """
    An answer that is nested deeper than it can be written again is read, or is one of our errors.
    """
    deep = json.dumps(ANSWER)[:-1] + ',"new":' + "[" * 500 + "]" * 500 + "}"
    decoder = StreamDecoder(answered())
    try:
        decoder.receive_whole(deep.encode())
    except AIStatsError:
        return
    assert [chunk.text for chunk in chunks(decoder)] == ["Hi"]


# -- errors in a stream -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("event", "code", "message"),
    [
        (b'data: {"object":"error","message":"Bad.","id":"G-1"}', None, "Bad."),
        (b'data: {"error":{"message":"Bad.","code":429}}', "429", "Bad."),
        (b'data: {"error":"overloaded"}', "overloaded", "overloaded"),
        (b'data: {"type":"error","message":"Bad."}', None, "Bad."),
        (b'data: {"error":"It is too much."}', None, "It is too much."),
        (b'data: {"type":"error","error":{"type":"overloaded_error"}}', "overloaded_error", None),
        (b'event: error\ndata: {"message":"Bad."}', None, "Bad."),
        (b"event: error\ndata: Bad.", None, "Bad."),
        (b"event: error\ndata: {}", None, None),
        (
            b'data: {"choices":[{"index":0,"delta":{},"finish_reason":"error"}]}',
            None,
            None,
        ),
    ],
)
def test_an_error_in_a_stream(event: bytes, code: str | None, message: str | None):
    """
    An error in a stream has its code and message, the frame, the call and what had arrived.
    """
    decoder = fed(frame("Hi"))
    decoder.receive_data(event + b"\n\n" + DONE)
    with pytest.raises(StreamErrorEvent) as caught:
        chunks(decoder)
    error = caught.value

    assert (error.code, error.status) == (code, 200)
    assert error.message == (
        message or "the provider ended the answer with an error and gave no reason"
    )
    assert f"in the stream: {code}: " in str(error) if code else "None" not in str(error)
    assert f": {error.message} | " in str(error)
    assert isinstance(error.body, dict)
    assert error.partial is not None
    assert error.partial.text == "Hi"


def test_an_error_that_was_cut():
    """
    An error that broke off is one, even after a `finish_reason`.
    """
    decoder = fed(frame("Hi", "stop"))
    decoder.receive_data(b'event: error\ndata: {"message": "Over')
    decoder.receive_data(b"")

    with pytest.raises(StreamErrorEvent, match="Over"):
        chunks(decoder)


@pytest.mark.parametrize(("data", "hint"), [(b"", "Nothing"), (frame("Hi"), "`partial`")])
def test_where_to_find_what_had_arrived(data: bytes, hint: str):
    """
    An error of a stream points to what had arrived only if anything had.
    """
    decoder = fed(data) if data else StreamDecoder(answered())
    decoder.receive_data(b"")
    with pytest.raises(StreamInterruptedError) as caught:
        chunks(decoder)

    assert hint in str(caught.value).partition(" | ")[2]


def test_the_type_of_an_event():
    """
    An event of any type but `error` is read as a frame.
    """
    decoder = StreamDecoder()
    decoder.receive_data(frame("Hi").replace(b"data:", b"event: message.delta\ndata:"))

    assert [chunk.text for chunk in chunks(decoder)] == ["Hi"]


def test_a_long_stream_is_held_as_its_text():
    """
    Of a stream that is only iterated little more is held than its text.
    """
    read = b"".join(frame(f" word {number}") for number in range(100))
    decoder = StreamDecoder()
    tracemalloc.start()
    try:
        for _ in range(2_000):
            decoder.receive_data(read)
            for _ in range(100):
                decoder.next_chunk()
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    text = decoder.response().text
    assert len(text) == 2_000 * sum(len(f" word {number}") for number in range(100))
    assert held < 3 * len(text)  # a string of its own for each chunk would be 10 times as much
