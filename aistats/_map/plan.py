"""
The arguments of `map`: how rows become requests, and how requests are sent.
"""

from __future__ import annotations

import inspect
import math
import os
import secrets
from collections import Counter
from collections.abc import Callable, Mapping
from numbers import Real
from typing import Any, Final, Literal

import attrs
import orjson

from .._call.call import Call
from .._call.chat import chat_call
from .._call.gateway import Gateway
from .._call.retry import is_local, is_throttle
from .._errors import (
    AIStatsError,
    APIConnectionError,
    APIResponseError,
    APIStatusError,
    APITimeoutError,
    ConfigurationError,
    Fault,
    RequestValidationError,
)
from .._options import CALL_OPTIONS, RUN_OPTIONS, Budget, RetryPolicy, is_positive, split
from .._progress import Progress
from .._request.request import ChatCompletionsRequest, build_request, checked_request
from .._request.to_json import is_list_like, is_mapping
from .._views.completion import ChatCompletionsResponse
from .checkpoint import canonical, hash_of, request_hash
from .source import Item, Row
from .spending import Spending

__all__ = ("Plan",)

_NOT_ASYNC: Final = (
    "{name} must be a plain function here: its result would have to be awaited. AsyncClient.map "
    "takes asynchronous functions."
)
_DEFAULTS: Final[dict[str, Any]] = {
    **dict.fromkeys(RUN_OPTIONS),
    "concurrency": "auto",
    "dedup": True,
    "on_error": "collect",
}


@attrs.frozen(eq=False)
class Plan:
    """
    The arguments of `map`, checked. Makes the requests of a run from its rows.
    """

    gateway: Gateway
    params: Mapping[str, Any]
    prompt: Callable[[Any], Any] | None
    request: Callable[[Any], Any] | None
    key: Callable[[Any], str] | None
    concurrency: int | Literal["auto"]
    rpm: float | None
    tpm: float | None
    budget: Budget
    checkpoint: str | os.PathLike[str] | None
    dedup: bool
    progress: bool | Callable[[Progress], object] | None
    on_error: Literal["collect", "raise"]
    stop_after: float | None
    extra_body: Mapping[str, Any] | None
    call: Call[ChatCompletionsResponse]
    """A call with the options of all of them, and a body of its own."""
    policy: RetryPolicy
    """Says whether another try might end otherwise."""
    prompts: _Prompts | None
    """Makes the requests that have nothing of their own but a prompt."""
    counts: Counter[str] = attrs.field(factory=Counter[str])
    """How often a request has come, where each of the same is asked for."""
    spending: Spending = attrs.field(
        init=False, default=attrs.Factory(lambda plan: Spending(plan.budget), takes_self=True)
    )
    """What the run and its retries have used of the budget."""

    @classmethod
    def of(cls, gateway: Gateway, keywords: Mapping[str, Any], *, takes_async: bool) -> Plan:
        """
        Return the plan for the keywords of `map`. Checks everything that can be checked without a
        row.

        Args:
            gateway: Where the requests go.
            keywords: Options of a run and of a call, and parameters.
            takes_async: Whether functions of a row may be asynchronous.

        Raises:
            RequestValidationError: A parameter of the requests is wrong.
            ConfigurationError: An option is wrong.
        """
        given, rest = split(keywords, RUN_OPTIONS)
        options = {**_DEFAULTS, **given}
        _check_options(
            **options, above_0={name: options[name] for name in ("stop_after", "rpm", "tpm")}
        )
        for name in ("prompt", "request", "key"):
            if not takes_async and _is_async(options[name]):
                raise ConfigurationError(_NOT_ASYNC.format(name=name))
        options["budget"] = options["budget"] or Budget()
        call_options, params = split(rest, CALL_OPTIONS)
        # Validate what all requests share with a placeholder prompt, so that `map` itself raises.
        placeholder = {"model": "any", **params, "messages": "any"}
        call = chat_call(gateway, None, {**placeholder, **call_options}, is_stream=False)
        extra_body = call_options.get("extra_body")
        return cls(
            gateway,
            params,
            extra_body=extra_body,
            call=attrs.evolve(
                call,
                policy=_without_throttles(call.policy),
                is_fixed=options["concurrency"] != "auto",
            ),
            policy=attrs.evolve(call.policy, max_retries=max(1, call.policy.max_retries)),
            prompts=_Prompts.of(params, extra_body),
            **options,
        )

    def item(self, position: int, pulled: Row) -> Item:
        """
        Return the request of a row, or the error that says why the row has none.
        """
        row, index, key = pulled
        item = Item(position, index, row, key)
        try:
            asked = row if self.prompt is None else _called("prompt", self.prompt, row)
            whole = None if self.request is None else _called("request", self.request, row)
            own_key = None if self.key is None or key else _called("key", self.key, row)
            self._fill(item, asked, whole, own_key)
        except Exception as error:  # whatever the caller's functions raise, other rows go on
            item.error = error
        return item

    async def aitem(self, position: int, pulled: Row) -> Item:
        """
        Return the same, where functions may be asynchronous.
        """
        row, index, key = pulled
        item = Item(position, index, row, key)
        try:
            asked = row if self.prompt is None else await _acalled(self.prompt, row)
            whole = None if self.request is None else await _acalled(self.request, row)
            own_key = None if self.key is None or key else await _acalled(self.key, row)
            self._fill(item, asked, whole, own_key)
        except Exception as error:  # whatever the caller's functions raise, other rows go on
            item.error = error
        return item

    def _fill(self, item: Item, asked: Any, whole: Any, own_key: Any) -> None:
        # *asked* is the prompt, *whole* what `request` returned, *own_key* what `key` returned.
        if self.prompts is None or whole is not None or not self.prompts.make(item, asked):
            request = self._request_of(item.row, asked, whole)
            item.request = build_request(request, {}, stream=False)
            item.body = item.request.body(stream=False, extra_body=self.extra_body)
            item.request_hash = request_hash(item.body)
        if item.key is None:
            item.key = self._key_of(item, own_key)

    def _request_of(self, row: Any, asked: Any, whole: Any) -> Any:
        if self.request is not None:
            return self._with_params(whole)
        if self.prompt is not None:
            return {**self.params, "messages": asked}
        if isinstance(row, str) or is_list_like(row):
            return {**self.params, "messages": row}
        if isinstance(row, ChatCompletionsRequest) or (is_mapping(row) and "messages" in row):
            return self._with_params(row)
        expected = (
            "a prompt, a list of messages or a request; for rows of another kind pass "
            "prompt=lambda row: ... or request=lambda row: ..."
        )
        raise RequestValidationError([Fault("row", row, expected)])

    def _with_params(self, request: Any) -> Any:
        # The row's own parameters win over the shared ones. A missing value is no parameter.
        if isinstance(request, ChatCompletionsRequest):
            return {**self.params, **request.to_dict()} if self.params else request
        if is_mapping(request):
            given = {name: value for name, value in request.items() if not _is_missing(value)}
            return {**self.params, **given}
        raise RequestValidationError(
            [Fault("request", request, "a mapping or a ChatCompletionsRequest")]
        )

    def _key_of(self, item: Item, own_key: Any) -> str:
        if self.key is not None:
            if not isinstance(own_key, str):
                raise ConfigurationError(
                    f"key must return a string; for row {item.index} it returned "
                    f"{type(own_key).__name__}. Convert it: key=lambda row: str(...)"
                )
            own_key.encode()  # a body that can't be encoded is a fault of this row
        key = item.request_hash if self.key is None else own_key
        if self.dedup or self.checkpoint is None:
            return key
        # Each of several equal requests has its own line in the checkpoint.
        self.counts[f"{item.request_hash} {key}"] += 1
        count = self.counts[f"{item.request_hash} {key}"]
        return key if count == 1 else f"{key}#{count}"

    def passes(self, error: AIStatsError) -> bool:
        """
        Return whether another attempt may succeed after *error*.
        """
        return self.policy.next_delay(1, error, 0.0) is not None

    def is_used_up(self, error: AIStatsError) -> bool:
        """
        Return whether *error* says that a quota is used up for hours.
        """
        if not isinstance(error, APIStatusError) or error.status != 429:
            return False
        return not is_throttle(error) or (error.retry_after or 0.0) > self.policy.longest_wait


@attrs.frozen(eq=False)
class _Prompts:
    """
    Makes requests that differ only in the prompt. Their common part is checked and encoded once.
    """

    shared: tuple[bytes, bytes]
    """The request's JSON, before and after the prompt."""
    sent: tuple[bytes, bytes]
    """The same of what is sent, which may have more."""
    hashed: tuple[bytes, bytes]
    """The same of what is hashed, whose keys are in order."""

    @classmethod
    def of(cls, params: Mapping[str, Any], extra_body: Mapping[str, Any] | None) -> _Prompts | None:
        """
        Return an object that makes requests with these parameters; `None` if a prompt alone is not
        enough for a request.
        """
        token = secrets.token_hex()
        try:
            request = build_request({**params, "messages": token}, {}, stream=False)
        except RequestValidationError:
            return None  # each row has the missing parameter, or its own fault
        sent = request.body(stream=False, extra_body=extra_body)
        mark = f'"{token}"'.encode()
        texts = [text.split(mark) for text in (request.body(stream=False), sent, canonical(sent))]
        if any(len(parts) != 2 for parts in texts):
            return None
        shared, out, hashed = ((parts[0], parts[1]) for parts in texts)
        return cls(shared, out, hashed)

    def make(self, item: Item, prompt: Any) -> bool:
        """
        Fill in the request of *item*. Return `False` if *prompt* is not a string that can be sent.
        """
        if type(prompt) is not str or not prompt:
            return False
        try:
            text = orjson.dumps(prompt)
        except orjson.JSONEncodeError:
            return False
        item.request = checked_request(text.join(self.shared))
        item.body = text.join(self.sent)
        item.request_hash = hash_of(text.join(self.hashed))
        return True


def _check_options(
    *,
    concurrency: Any,
    budget: Any,
    on_error: Any,
    above_0: Mapping[str, Any],
    prompt: Any,
    request: Any,
    key: Any,
    checkpoint: Any,
    dedup: Any,
    progress: Any,
    **_: Any,
) -> None:
    is_count = isinstance(concurrency, int) and not isinstance(concurrency, bool)
    if concurrency != "auto" and not (is_count and concurrency >= 1):
        raise ConfigurationError(
            f'concurrency must be "auto" or a whole number of 1 or more; not {concurrency!r}'
        )
    if on_error not in ("collect", "raise"):
        raise ConfigurationError(f'on_error must be "collect" or "raise"; not {on_error!r}')
    for name, value in above_0.items():
        if value is not None and not is_positive(value):
            raise ConfigurationError(
                f"{name} must be a number above 0, or None for no limit; not {value!r}"
            )
    if not isinstance(dedup, bool):
        raise ConfigurationError(f"dedup must be True or False; not {dedup!r}")
    if not isinstance(budget, Budget | None):
        raise ConfigurationError(
            f"budget must be a Budget, such as Budget(usd=5), or None; not {budget!r}"
        )
    if not isinstance(progress, bool | None) and not callable(progress):
        raise ConfigurationError(
            f"progress must be True, False or a function that is called with a Progress; "
            f"not {progress!r}"
        )
    if not isinstance(checkpoint, str | os.PathLike | None):
        raise ConfigurationError(f"checkpoint must be a file's path; not {checkpoint!r}")
    for name, value in {"prompt": prompt, "request": request, "key": key}.items():
        if value is not None and not callable(value):
            raise ConfigurationError(
                f"{name} must be a function that is called with a row; not {type(value).__name__}. "
                f"{_INSTEAD_OF_FUNCTION[name]}"
            )
    if prompt is not None and request is not None:
        raise ConfigurationError("prompt and request are two ways for one thing; give one.")


_INSTEAD_OF_FUNCTION = {
    "prompt": 'Write prompt=lambda row: f"... {row}".',
    "request": 'Write request=lambda row: {"messages": ...}.',
    "key": 'Write key=lambda row: row["..."].',
}


def _called(name: str, function: Callable[[Any], Any], row: Any) -> Any:
    result = function(row)
    if inspect.isawaitable(result):
        if inspect.iscoroutine(result):
            result.close()  # otherwise Python warns that it was never awaited
        raise ConfigurationError(_NOT_ASYNC.format(name=name))
    return result


async def _acalled(function: Callable[[Any], Any], row: Any) -> Any:
    result = function(row)
    return await result if inspect.isawaitable(result) else result


def _is_async(function: Any) -> bool:
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(
        getattr(function, "__call__", None)  # noqa: B004  # an object whose calls are coroutines
    )


def _is_missing(value: Any) -> bool:
    # What data frames have in place of a value: None, NaN, pandas' NaT and NA.
    if value is None or type(value).__name__ in ("NAType", "NaTType"):
        return True
    return isinstance(value, Real) and math.isnan(value)


def _without_throttles(policy: RetryPolicy) -> RetryPolicy:
    # The run itself sends rows again after throttling or a local limit, so the call doesn't retry
    # them. A cut answer is asked again, which a single call leaves to its caller.
    def retry_if(error: AIStatsError) -> bool | None:
        told = None if policy.retry_if is None else policy.retry_if(error)
        if is_throttle(error) or is_local(error):
            return False
        if told is None and policy.retry_ambiguous and _was_cut(error):
            return True
        return told

    return attrs.evolve(policy, retry_if=retry_if)


def _was_cut(error: AIStatsError) -> bool:
    if isinstance(error, APIResponseError):
        return error.body.startswith("{")  # it began as an answer does
    return (
        isinstance(error, APIConnectionError)
        and not isinstance(error, APITimeoutError)
        and not error.is_permanent
    )
