"""
The API key, or the function that returns it. Elsewhere the key is only in the header that is sent,
which `gateway` keeps ready, and in the arguments of a client that is pickled.
"""

from __future__ import annotations

import inspect
import os
import re
from collections.abc import Awaitable, Callable
from typing import Any

from .._errors import ConfigurationError
from .._net.threads import run_in_thread

__all__ = ("KEY_VARIABLES", "ApiKey", "KeyFunction", "KeySource", "key_source")

KeySource = str | Callable[[], str] | Callable[[], Awaitable[str]] | None
"""What a client takes as `api_key=`."""

KEY_VARIABLES = ("AI_STATS_API_KEY", "PHASEO_API_KEY")
"""Environment variables that may have the key. The first that is set counts."""

_SHORTEST_KEY = 8  # characters; local servers take placeholders such as "none" or "x"
_ALLOWED = r"[!-~]+"


class ApiKey:
    """
    An API key, which no repr shows.

    Args:
        key: The key; by default the value of `AI_STATS_API_KEY` in the environment, else that of
            `PHASEO_API_KEY`, which the gateway's own SDKs read.

    Raises:
        ConfigurationError: There is no key, or it can't be a header's value.
    """

    __slots__ = ("authorization",)

    authorization: str
    """The value of the `Authorization` header."""

    def __init__(self, key: Any = None) -> None:
        kind = None if key is None or isinstance(key, str) else type(key).__name__
        variable = next((name for name in KEY_VARIABLES if os.environ.get(name)), "")
        source = "" if key is not None else f" of {variable} in the environment"
        given = key if key is not None else os.environ.get(variable, "")
        self.authorization = f"Bearer {given}"
        key = given = None  # so that no traceback shows it
        if kind is not None:
            raise ConfigurationError(
                f"api_key must be a string, or a function that returns one; not {kind}"
            )
        if not self.key:
            raise ConfigurationError(
                f"There is no API key. Set {' or '.join(KEY_VARIABLES)} in the environment, or "
                "pass api_key=."
            )
        if re.match("https?://", self.key):
            raise ConfigurationError(
                f"The API key{source} is a URL. The gateway's address is the second argument: "
                "write base_url=."
            )
        if not re.fullmatch(_ALLOWED, self.key):
            raise ConfigurationError(
                f"The API key{source} has a line break, a space or another character that "
                "can't be in a key: only ASCII letters, digits and signs can. Nothing was sent."
            )

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ApiKey) and self.authorization == other.authorization

    def __hash__(self) -> int:
        return hash(self.authorization)

    @property
    def key(self) -> str:
        """
        The key by itself.
        """
        return self.authorization.removeprefix("Bearer ")

    @property
    def source(self) -> str:
        """
        The argument that makes the same key.
        """
        return self.key

    def masked(self, body: bytes) -> bytes:
        """
        Return *body* with the key replaced by `***`.

        A key of fewer than 8 characters is a placeholder, such as "x", that may be part of any
        word. It is replaced where it is a header's or a string's whole value.
        """
        key = self.key.encode()
        if len(key) >= _SHORTEST_KEY:
            return body.replace(key, b"***")
        word = re.escape(key)
        return re.sub(rb'(?<=Bearer )%b(?![\w.-])|(?<=")%b(?=")' % (word, word), b"***", body)


class KeyFunction:
    """
    A function that returns the key, and is asked before each attempt.

    Args:
        source: The function, plain or asynchronous.
    """

    __slots__ = ("source",)

    def __init__(self, source: Callable[[], Any]) -> None:
        self.source = source

    def __eq__(self, other: object) -> bool:
        return isinstance(other, KeyFunction) and self.source == other.source

    def __hash__(self) -> int:
        return hash(self.source)

    async def ask(self) -> ApiKey:
        """
        Return the key that the function returns now. A plain function runs in a thread, so that it
        may block.

        Raises:
            ConfigurationError: It returned no key.
            APIConnectionError: A limit of this process or machine prevents the start of a thread.
        """
        if inspect.iscoroutinefunction(self.source):
            given = [await self.source()]
        else:
            given = [await run_in_thread(self.source, "The API key function can't run")]
            if inspect.isawaitable(given[0]):  # of an object with an asynchronous `__call__`
                given = [await given[0]]
        if not isinstance(given[0], str):
            raise ConfigurationError(
                "The function given as api_key must return a string; it returned "
                f"{type(given[0]).__name__}."
            )
        return ApiKey(given.pop())


def key_source(given: Any) -> ApiKey | KeyFunction:
    """
    Return what the argument `api_key` stands for.

    Raises:
        ConfigurationError: There is no key, or it can't be a header's value.
    """
    held, given = [given], None  # so that no traceback shows it
    return KeyFunction(held[0]) if callable(held[0]) else ApiKey(held.pop())
