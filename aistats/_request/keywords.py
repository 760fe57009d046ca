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
    Return a decorator that appends the keys of *declared*, from their docstrings, to a method's
    docstring, so that `help()` shows them.
    """

    def decorate(method: MethodT) -> MethodT:
        if method.__doc__ is not None:  # `python -OO` strips docstrings
            keys = "\n".join(map(_keys_of, declared))
            method.__doc__ = f"{inspect.cleandoc(method.__doc__)}\n\nKeyword Args:\n{keys}"
        return method

    return decorate


@cache
def _keys_of(declared: type) -> str:
    return inspect.cleandoc(declared.__doc__ or "").partition("Keys:\n")[2]
