"""
The keywords of the clients' methods: parameters of a request and options of a call, combined.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import cache
from typing import Any, TypeVar

from .._options import CallOptions, RunOptions
from .params.chat import ChatCompletionsParams
from .request import ChatCompletionsRequest

__all__ = ("ChatRequest", "MapKeywords", "TextKeywords", "lists_keywords")

ChatRequest = ChatCompletionsRequest | ChatCompletionsParams
"""What a request may be given as, besides keywords."""

MethodT = TypeVar("MethodT", bound=Callable[..., Any])


class TextKeywords(ChatCompletionsParams, CallOptions, total=False):
    """
    Keywords of `generate_text` and `stream_text`.
    """


class MapKeywords(ChatCompletionsParams, CallOptions, RunOptions, total=False):
    """
    Keywords of `map`.
    """


def lists_keywords(*declared: type) -> Callable[[MethodT], MethodT]:
    """
    Return a decorator that tells `help()` and interactive shells the keys of *declared*: it appends
    them, from their docstrings, to a method's docstring, and lists them in its signature.
    """

    def decorate(method: MethodT) -> MethodT:
        given: Any = method
        own = inspect.signature(method)
        kept = [each for each in own.parameters.values() if each.kind is not each.VAR_KEYWORD]
        keywords = [each for kind in declared for each in _parameters_of(kind)]
        given.__signature__ = own.replace(parameters=[*kept, *keywords])
        if method.__doc__ is not None:  # `python -OO` strips docstrings
            keys = "\n".join(map(_keys_of, declared))
            method.__doc__ = f"{inspect.cleandoc(method.__doc__)}\n\nKeyword Args:\n{keys}"
        return method

    return decorate


@cache
def _parameters_of(declared: type) -> list[inspect.Parameter]:
    # All may be left out, which is not the same as None. Types are in the docstring.
    kind = inspect.Parameter.KEYWORD_ONLY
    return [
        inspect.Parameter(name, kind, default=...) for name in inspect.get_annotations(declared)
    ]


@cache
def _keys_of(declared: type) -> str:
    return inspect.cleandoc(declared.__doc__ or "").partition("Keys:\n")[2]
