"""
The API key. No other file holds it in the clear, apart from the header that is sent.
"""

from __future__ import annotations

import os
import re
from typing import Any

from .._errors import ConfigurationError

__all__ = ("ApiKey",)

_SHORTEST_KEY = 8  # characters; local servers take placeholders such as "none" or "x"
_ALLOWED = r"[!-~]+"


class ApiKey:
    """
    An API key, which no repr shows.

    Args:
        key: The key; by default the value of `AI_STATS_API_KEY` in the environment.

    Raises:
        ConfigurationError: There is no key, or it can't be a header's value.
    """

    __slots__ = ("authorization",)

    authorization: str
    """The value of the `Authorization` header."""

    def __init__(self, key: Any = None) -> None:
        kind = None if key is None or isinstance(key, str) else type(key).__name__
        source = "" if key is not None else " of AI_STATS_API_KEY in the environment"
        given = key if key is not None else os.environ.get("AI_STATS_API_KEY", "")
        self.authorization = f"Bearer {given}"
        key = given = None  # so that no traceback shows it
        if kind is not None:
            raise ConfigurationError(f"api_key must be a string; not {kind}")
        if not self.key:
            raise ConfigurationError(
                "There is no API key. Set AI_STATS_API_KEY in the environment, or pass api_key=."
            )
        if not re.fullmatch(_ALLOWED, self.key):
            raise ConfigurationError(
                f"The API key{source} has a line break, a space or another character that "
                "can't be in a key: only ASCII letters, digits and signs can. Nothing was sent."
            )

    @property
    def key(self) -> str:
        """
        The key by itself.
        """
        return self.authorization.removeprefix("Bearer ")

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
