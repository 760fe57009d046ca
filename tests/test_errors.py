"""
The errors: their tree, what each of them tells, and that they tell it after a journey, too.
"""

from __future__ import annotations

import copy
import pickle
from collections import UserDict, deque
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import aistats
from aistats import (
    AIStatsError,
    APIConnectionError,
    APIResponseError,
    APIStatusError,
    APITimeoutError,
    Attempt,
    AuthenticationError,
    BadRequestError,
    ChatCompletionsResponse,
    ConfigurationError,
    ConflictError,
    Fault,
    Headers,
    InternalServerError,
    NotFoundError,
    PaymentRequiredError,
    PermissionDeniedError,
    RateLimitError,
    RequestValidationError,
    StreamError,
    StreamErrorEvent,
    StreamInterruptedError,
    Timing,
    UnprocessableEntityError,
)
from aistats._errors import status_error_class
from aistats._exchange import Exchange, SentRequest

# Each class, and what it derives from.
TREE: dict[type[AIStatsError], tuple[type[Exception], ...]] = {
    AIStatsError: (Exception,),
    RequestValidationError: (AIStatsError, ValueError),
    ConfigurationError: (AIStatsError, ValueError),
    APIConnectionError: (AIStatsError,),
    APITimeoutError: (APIConnectionError, TimeoutError),
    APIStatusError: (AIStatsError,),
    BadRequestError: (APIStatusError,),
    AuthenticationError: (APIStatusError,),
    PaymentRequiredError: (APIStatusError,),
    PermissionDeniedError: (APIStatusError,),
    NotFoundError: (APIStatusError,),
    ConflictError: (APIStatusError,),
    UnprocessableEntityError: (APIStatusError,),
    RateLimitError: (APIStatusError,),
    InternalServerError: (APIStatusError,),
    APIResponseError: (AIStatsError,),
    StreamError: (AIStatsError,),
    StreamInterruptedError: (StreamError,),
    StreamErrorEvent: (StreamError,),
}


def descendants(kind: type[AIStatsError]) -> Iterator[type[AIStatsError]]:
    """
    All classes below *kind*.
    """
    for child in kind.__subclasses__():
        if child.__module__.startswith("aistats._schema"):
            continue  # no call raises these yet, so they are not public
        yield child
        yield from descendants(child)


def test_the_tree():
    """
    There are these errors and no others, each below what it says, and all of them are public.
    """
    assert {AIStatsError, *descendants(AIStatsError)} == TREE.keys()
    assert {kind: kind.__bases__ for kind in TREE} == TREE
    assert all(getattr(aistats, kind.__name__) is kind for kind in TREE)


STATUSES = {
    400: BadRequestError,
    401: AuthenticationError,
    402: PaymentRequiredError,
    403: PermissionDeniedError,
    404: NotFoundError,
    409: ConflictError,
    422: UnprocessableEntityError,
    429: RateLimitError,
}


def test_the_class_of_a_status():
    """
    Eight statuses have a class of their own, all from 500 share one, the rest have the general one.
    """
    for status in range(300, 500):
        assert status_error_class(status) is STATUSES.get(status, APIStatusError)
    for status in (*range(500, 600), 999):
        assert status_error_class(status) is InternalServerError


# -- what an error tells ------------------------------------------------------------------------

PARTIAL = ChatCompletionsResponse.from_dict(
    {"id": "G-1", "choices": [{"message": {"content": "Hel"}}]}
)
EXCHANGE = Exchange(
    request=SentRequest("POST", "https://api.example/v1", {"Authorization": "***"}, b"{}"),
    status=503,
    raw_headers=((b"X-Request-Id", b"req-1"),),
    attempts=(Attempt("unsent", reason="refused", wait=0.5), Attempt("answered", 503)),
    timing=Timing(total=1.5),
)
# What the package sets on an error after it made it, by class.
ATTRIBUTES: dict[type[AIStatsError], dict[str, Any]] = {
    AIStatsError: {"exchange": EXCHANGE},
    APIConnectionError: {"is_permanent": True},
    APITimeoutError: {"limit": "idle", "after": 300.0, "partial": PARTIAL},
    APIStatusError: {
        "message": "It went wrong.",
        "code": "upstream_error",
        "body": {"error": "upstream_error", "details": [1]},
        "retry_after": 2.5,
        "body_request_id": "G-2",
    },
    APIResponseError: {"body": "<html>"},
    StreamError: {"partial": PARTIAL},
    StreamErrorEvent: {"message": "Overloaded.", "code": "overloaded", "body": {"error": 1}},
}


def example(kind: type[AIStatsError]) -> AIStatsError:
    """
    An error of *kind* with all that it can have.
    """
    if kind is RequestValidationError:
        error = RequestValidationError([Fault("top_p", 2, "less"), Fault("seed", "x", "a number")])
    else:
        error = kind(f"{kind.__name__} it is.")
    for owner, attributes in ATTRIBUTES.items():
        if issubclass(kind, owner):
            for name, value in attributes.items():
                setattr(error, name, value)
    return error


def told(error: AIStatsError) -> dict[str, Any]:
    """
    Everything that can be read of *error*.
    """
    names = {name for kind in type(error).__mro__[:-1] for name in vars(kind)} | vars(error).keys()
    unread = {"with_traceback", "add_note", "as_curl", "characters_written"}
    return {
        "type": type(error),
        "str": str(error),
        "as_curl": error.as_curl(),
        **{n: getattr(error, n, None) for n in names if not n.startswith("_") and n not in unread},
    }


@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("kind", TREE, ids=lambda kind: kind.__name__)
def test_an_error_survives_pickle(kind: type[AIStatsError], protocol: int):
    """
    An error from another process tells all that it told there.
    """
    error = example(kind)
    again = pickle.loads(pickle.dumps(error, protocol))

    assert told(again) == told(error)
    assert again is not error


@pytest.mark.parametrize("kind", TREE, ids=lambda kind: kind.__name__)
def test_an_error_survives_a_copy(kind: type[AIStatsError]):
    """
    A copy of an error tells all that the error does.
    """
    error = example(kind)

    assert told(copy.copy(error)) == told(error)
    assert told(copy.deepcopy(error)) == told(error)


@pytest.mark.parametrize(
    "kind",
    [kind for kind in TREE if kind is not RequestValidationError],
    ids=lambda kind: kind.__name__,
)
def test_an_error_before_anything_was_sent(kind: type[AIStatsError]):
    """
    Where nothing was sent and nothing came, an error has its message and nothing else.
    """
    error = kind("It is so.")

    assert (str(error), error.message, error.args) == ("It is so.", "It is so.", ("It is so.",))
    assert error.status == (0 if isinstance(error, APIStatusError) else None)
    assert (error.request_id, error.partial) == (None, None)
    assert (error.headers, error.attempts, error.timing) == (Headers(), (), Timing())
    assert error.as_curl() is None


def test_an_error_of_a_call():
    """
    An error tells of the call's answer, its attempts and its times.
    """
    error = example(APIConnectionError)

    assert error.status == 503
    assert error.headers["x-request-id"] == "req-1"
    assert [attempt.outcome for attempt in error.attempts] == ["unsent", "answered"]
    assert error.timing.total == 1.5
    curl = error.as_curl()
    assert curl is not None
    assert curl.startswith("curl ")


def test_as_curl_without_a_request():
    """
    A call that came to no request has no shell command.
    """
    error = APIConnectionError("The host was not found.")
    error.exchange = Exchange()

    assert error.as_curl() is None


@pytest.mark.parametrize(
    ("error", "has", "expected"),
    [
        (APIStatusError("x"), {"body_request_id": "G-2", "exchange": EXCHANGE}, "G-2"),
        (APIStatusError("x"), {"exchange": EXCHANGE}, "req-1"),
        (APIStatusError("x"), {"exchange": Exchange()}, None),
        (StreamError("x"), {"partial": PARTIAL, "exchange": EXCHANGE}, "G-1"),
        (StreamError("x"), {"exchange": EXCHANGE}, "req-1"),
        (
            StreamError("x"),
            {"partial": ChatCompletionsResponse.from_dict({}), "exchange": EXCHANGE},
            "req-1",
        ),
    ],
)
def test_the_request_id(error: AIStatsError, has: dict[str, Any], expected: str | None):
    """
    The id to ask the gateway's support about is the body's, else the headers'.
    """
    for name, value in has.items():
        setattr(error, name, value)

    assert error.request_id == expected


def test_errors_without_a_message():
    """
    An error that was given no words has none, and none of an answer.
    """
    assert (str(AIStatsError()), AIStatsError().message) == ("", "")
    assert APIResponseError().body == ""


def test_errors_are_not_shared():
    """
    What one error is given, another of its class does not have.
    """
    example(APITimeoutError)
    error = APITimeoutError("The idle limit ran out.")

    assert (error.limit, error.after, error.partial, error.is_permanent) == (
        None,
        None,
        None,
        False,
    )


# -- faults -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        (Fault("model", None, "a string"), "model: expected a string"),
        (Fault("top_p", 2, "less"), "top_p: expected less, got 2"),
        (Fault("top_p", 0.5, "less"), "top_p: expected less, got 0.5"),
        (Fault("seed", True, "a number"), "seed: expected a number, got True"),
        (Fault("seed", "five", "a number"), "seed: expected a number, got a string"),
        (Fault("tools", {"a": 1}, "a list"), "tools: expected a list, got an object"),
        (Fault("tools", UserDict(a=1), "a list"), "tools: expected a list, got an object"),
        (Fault("metadata", [1], "a mapping"), "metadata: expected a mapping, got a list"),
        (Fault("metadata", (1,), "a mapping"), "metadata: expected a mapping, got a list"),
        (Fault("metadata", deque([1]), "a mapping"), "metadata: expected a mapping, got a list"),
        (Fault("messages", [], "messages"), "messages: expected messages, got an empty list"),
        (Fault("messages", {1}, "a list"), "messages: expected a list, got set"),
        (Fault("messages", object(), "a list"), "messages: expected a list, got object"),
        (Fault("user", b"me", "a string"), "user: expected a string, got bytes"),
        (Fault("user", bytearray(b"me"), "a string"), "user: expected a string, got bytearray"),
        # Words of the protocol are shown, as long as they can be words.
        (
            Fault("messages[0].role", "usr", "a role"),
            "messages[0].role: expected a role, got 'usr'",
        ),
        (Fault("tools[1].type", "fn", "a type"), "tools[1].type: expected a type, got 'fn'"),
        (Fault("reasoning.effort", "x", "one"), "reasoning.effort: expected one, got 'x'"),
        (Fault("model", "", "a string"), "model: expected a string, got ''"),
        (Fault("service_tier", "x", "one"), "service_tier: expected one, got 'x'"),
        (Fault("model", "m" * 40, "less"), f"model: expected less, got '{'m' * 40}'"),
        (
            Fault("messages[0].role", "u" * 41, "a role"),
            "messages[0].role: expected a role, got a string",
        ),
    ],
)
def test_a_fault(fault: Fault, expected: str):
    """
    A fault says where it is, what should be there and what kind of thing is.
    """
    assert str(fault) == expected


PROMPT = "My secret prompt."

places = st.sampled_from(
    [
        *("messages", "messages[0]", "messages[0].content", "messages[0].content[0].text"),
        *("system", "user", "stop", "metadata", "metadata.note", "prompt", "input", "api_key"),
        *("tools[0].function.description", "response_format", "temperature", "extra_body", ""),
    ]
)
holders = st.recursive(
    st.just(PROMPT) | st.just(PROMPT.encode()),
    lambda inner: (
        st.lists(inner, min_size=1, max_size=2)
        | st.tuples(inner)
        | st.dictionaries(st.sampled_from(["type", "text", PROMPT]), inner, min_size=1)
        | st.builds(UserDict, st.fixed_dictionaries({"content": inner}))
        | st.builds(lambda value: deque([value]), inner)
        | st.builds(lambda value: (each for each in [value]), inner)
    ),
    max_leaves=4,
)


@given(path=places, value=holders)
@settings(deadline=None)
def test_a_fault_does_not_show_a_prompt(path: str, value: object):
    """
    Wherever a prompt stands in a request, neither the fault nor the error shows it.
    """
    fault = Fault(path, value, "something else")
    error = RequestValidationError([fault])

    for shown in (str(fault), repr(fault), str(error), repr(error), error.message):
        assert PROMPT not in shown
        assert "something else" in shown


def test_a_number_too_long_to_show():
    """
    A number that Python refuses to write out makes no other error of the fault.
    """
    assert str(Fault("seed", 10**5000, "less")).startswith("seed: expected less")


def test_faults_of_a_request():
    """
    The message has a line for each fault, behind one that counts them.
    """
    first, second = Fault("top_p", 2, "less"), Fault("model", None, "a string")

    assert str(RequestValidationError([first])) == (
        "The request has a fault; nothing was sent:\n  top_p: expected less, got 2"
    )
    assert str(RequestValidationError([first, second])) == (
        "The request has 2 faults; nothing was sent:\n"
        "  top_p: expected less, got 2\n"
        "  model: expected a string"
    )
    assert RequestValidationError([first, second]).faults == (first, second)


def test_faults_are_kept():
    """
    The faults of an error are its own: a list that they came in can change.
    """
    faults = [Fault("top_p", 2, "less")]
    error = RequestValidationError(faults)
    faults.clear()

    assert error.faults == (Fault("top_p", 2, "less"),)


def test_a_fault_does_not_change():
    """
    A fault can't be set.
    """
    with pytest.raises(AttributeError):
        Fault("top_p", 2, "less").path = "top_k"


def test_an_error_survives_pickle_whatever_was_at_fault():
    """
    A value that can't be pickled is no reason to lose the error on its way to another process.
    """
    error = RequestValidationError([Fault("messages", (each for each in ()), "a list")])

    assert str(pickle.loads(pickle.dumps(error))) == str(error)
