"""
The request: from a mapping or keywords to the bytes that are sent.

A `ChatCompletionsRequest` holds its JSON. So later changes to the caller's lists and dicts don't
affect it, and the client sends exactly the bytes that were checked.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import cache
from typing import TYPE_CHECKING, Annotated, Any, get_type_hints

import attrs
import orjson

from .._errors import Fault, RequestValidationError
from .._options import CALL_OPTIONS, RUN_OPTIONS
from .params.chat import ChatCompletionsParams, GivenParams
from .rules import FaultError, describe, scalar_test
from .to_json import as_json, encode, is_mapping

if TYPE_CHECKING:
    from typing import Unpack

__all__ = ("ChatCompletionsRequest", "build_request", "checked_request")

_PARAMETERS = GivenParams.__annotations__
_TOKEN_LIMITS = ("max_output_tokens", "max_completion_tokens", "max_tokens")


def _in_key_order(body: bytes) -> bytes:
    return orjson.dumps(orjson.loads(body), option=orjson.OPT_SORT_KEYS)


@attrs.frozen(init=False, repr=False)
class ChatCompletionsRequest:
    """
    A request that has been checked and can be sent, any number of times.

    It is made from a mapping or another request, from keywords, or from both. Keywords override the
    mapping. Each parameter is an attribute, `None` if it was not given. Attributes are copies: to
    change a parameter, make a new request with `replace`. Requests are equal if they send the same
    JSON.

    Args:
        request: The parameters as a mapping, or a request to start from.
        params: The parameters as keywords.

    Raises:
        RequestValidationError: The request is wrong. `faults` lists every mistake.
    """

    _json: bytes = attrs.field(eq=_in_key_order)
    stream: bool | None
    """What was given as `stream`. Whether one is asked for is up to the method that is called."""

    def __init__(
        self,
        request: ChatCompletionsRequest | ChatCompletionsParams | None = None,
        /,
        **params: Unpack[ChatCompletionsParams],
    ) -> None:
        self.__attrs_init__(*_check(_merge(request, params)))

    def to_dict(self) -> dict[str, Any]:
        """
        Return a copy of the JSON that is sent, without `stream`.
        """
        wire: dict[str, Any] = orjson.loads(self._json)
        return wire

    def replace(self, **changes: Unpack[ChatCompletionsParams]) -> ChatCompletionsRequest:
        """
        Return a new request with *changes*; `None` removes a parameter.

        Raises:
            RequestValidationError: The new request is wrong.
        """
        return ChatCompletionsRequest(self, **changes)

    def body(self, *, stream: bool, extra_body: Mapping[str, Any] | None = None) -> bytes:
        """
        Return the request body, as JSON.

        Args:
            stream: Whether to ask for a stream. If not, the body has no `stream`.
            extra_body: Keys that are added without a check. They override the request's own.

        Raises:
            RequestValidationError: *extra_body* is not JSON.
        """
        if extra_body is None:
            return self._json[:-1] + b',"stream":true}' if stream else self._json
        extra = orjson.loads(encode(_as_mapping(extra_body, "extra_body"), "extra_body"))
        return orjson.dumps({**self.to_dict(), **({"stream": True} if stream else {}), **extra})

    def __getattr__(self, name: str) -> Any:
        if name in _PARAMETERS:
            return self.to_dict().get(name)
        message = f"{type(self).__name__!r} object has no attribute {name!r}"
        raise AttributeError(message, name=name, obj=self)

    def __dir__(self) -> list[str]:
        return sorted({*super().__dir__(), *_PARAMETERS})

    def __repr__(self) -> str:
        # A traceback that shows locals may show a request whose `__init__` has failed.
        wire = self.to_dict() if hasattr(self, "_json") else {}
        # Prompts stay out of logs.
        shown = (
            f"{name}={value!r}"
            if name == "model" or isinstance(value, int | float)
            else f"{name}=..."
            for name, value in wire.items()
        )
        return f"{type(self).__name__}({', '.join(shown)})"


def build_request(
    request: ChatCompletionsRequest | Mapping[str, Any] | None,
    params: Mapping[str, Any],
    *,
    stream: bool,
) -> ChatCompletionsRequest:
    """
    Return the request that a method was called with: *request*, overridden by *params*.

    A given `stream` must agree with *stream*, which the method determines.

    Raises:
        RequestValidationError: The request is wrong.
    """
    if (
        not params
        and isinstance(request, ChatCompletionsRequest)
        and request.stream in (None, stream)
    ):
        return request
    return checked_request(*_check(_merge(request, params), stream))


def checked_request(body: bytes, stream: bool | None = None) -> ChatCompletionsRequest:
    """
    Return the request that sends *body*. The body must come from a checked request.
    """
    made = ChatCompletionsRequest.__new__(ChatCompletionsRequest)
    made.__attrs_init__(body, stream)
    return made


def _merge(request: Any, params: Mapping[str, Any]) -> dict[str, Any]:
    if request is None:
        return dict(params)
    if isinstance(request, ChatCompletionsRequest):
        return {**request.to_dict(), "stream": request.stream, **params}
    return {**_as_mapping(request, "request", " or a ChatCompletionsRequest"), **params}


def _as_mapping(value: Any, path: str, other: str = "") -> Mapping[Any, Any]:
    if is_mapping(value):
        return value
    raise _refused([Fault(path, value, f"a mapping{other}")], {})


def _check(given: dict[str, Any], method: bool | None = None) -> tuple[bytes, bool | None]:
    # The JSON and the `stream` of a request; *method* is whether the method that is called streams.
    faults: list[Fault] = []
    stream = given.get("stream")
    if isinstance(stream, bool) and method is (not stream):
        faults.append(Fault("stream", stream, _WRONG_METHOD[stream]))
    body = b""
    try:
        wire = given.copy() if _is_plain(given) else _structure_params()(given)
        wire.pop("stream", None)
        if isinstance(wire["messages"], str):
            wire["messages"] = [{"role": "user", "content": wire["messages"]}]
        body = encode(wire)
    except RequestValidationError as error:
        faults += error.faults
    if faults:
        raise _refused([*faults, *_not_json(given, {fault.path for fault in faults})], given)
    return body, stream


def _refused(faults: list[Fault], given: Mapping[Any, Any]) -> RequestValidationError:
    from .hints import hinted  # most requests are right

    return RequestValidationError([hinted(fault, given) for fault in faults])


def _is_plain(given: dict[str, Any]) -> bool:
    # Whether it is a request such as most are, scalars and messages of text, and right as it
    # stands. To check the whole declaration would make the same of it, and take four times as long.
    messages = given.get("messages")
    if messages.__class__ is list:
        if not messages or not all(map(_is_plain_message, messages)):
            return False
    elif messages.__class__ is not str:
        return False
    tests = _scalar_tests()
    for name, value in given.items():
        if name != "messages" and (name not in tests or not tests[name](value)):
            return False
    return "model" in given and sum(map(given.__contains__, _TOKEN_LIMITS)) < 2


_ROLES_OF_TEXT = ("user", "system", "assistant", "developer")


def _is_plain_message(message: Any) -> bool:
    return (
        message.__class__ is dict
        and len(message) == 2
        and message.get("role") in _ROLES_OF_TEXT
        and type(message.get("content")) is str
    )


@cache
def _scalar_tests() -> dict[str, Callable[[Any], bool]]:
    hints = get_type_hints(GivenParams, include_extras=True)
    tests = {name: scalar_test(declared) for name, declared in hints.items()}
    return {name: test for name, test in tests.items() if test is not None}


_WRONG_METHOD = {
    True: "False, or nothing: generate_text returns a whole answer; for a stream call stream_text",
    False: "True, or nothing: stream_text returns a stream; for a whole answer call generate_text",
}


def _not_json(given: dict[str, Any], known: set[str]) -> Iterator[Fault]:
    # What can't be sent: after another fault nothing was encoded, and so nothing of this found.
    faults: list[Fault] = []
    for name, value in given.items():
        if name in _PARAMETERS:
            as_json(value, name, faults)
    return (fault for fault in faults if fault.path not in known)


# --- what holds of a request as a whole ---


class _WholeRequest:
    """
    Check the request as a whole: a model, messages, one token limit, no unknown parameters.
    """

    def mistakes(self, given: Mapping[str, Any]) -> Iterator[FaultError]:
        for name in ("model", "messages"):
            if name not in given:
                yield FaultError(None, f"{describe(_PARAMETERS[name])}; it is missing", name)
        if len(limits := [name for name in _TOKEN_LIMITS if name in given]) > 1:
            names = " and ".join(f"`{name}`" for name in limits)
            expected = f"one limit only: {names} are names of one thing"
            yield FaultError(given[limits[1]], expected, limits[1])
        for name in given:
            if name not in _PARAMETERS:
                yield FaultError(given[name], _unknown(name), name)


def _unknown(name: object) -> str:
    if name in CALL_OPTIONS:
        return "nothing in the request: it is an argument of the call, beside the request"
    from .hints import INSTEAD  # most requests are right

    if instead := INSTEAD.get(str(name)):
        return instead
    if name in RUN_OPTIONS:
        return "nothing in the request: it is an argument of `map`, beside the request"
    import difflib  # Only to help with a fault.

    names = [*_PARAMETERS, *CALL_OPTIONS, *RUN_OPTIONS]
    near = difflib.get_close_matches(str(name), names, n=1)
    known = f"a known parameter, such as `{near[0]}`" if near else "a known parameter"
    if near and near[0] in RUN_OPTIONS:
        known += ", an argument of `map`"
    return f"{known}; extra_body sends anything as it is"


@cache
def _structure_params() -> Callable[[Any], dict[str, Any]]:
    from .convert import structurer  # with it cattrs, which plain requests don't need

    return structurer(Annotated[GivenParams, _WholeRequest()])
