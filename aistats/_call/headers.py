"""
Headers and query parameters that a user adds: checked, and merged with the client's own.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from .._errors import Fault, RequestValidationError
from .._request.to_json import as_json, is_mapping

__all__ = ("checked_query", "header_faults", "merged_headers")

_NAME = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"  # a token: RFC 9110, section 5.1


def header_faults(path: str, headers: Any) -> list[Fault]:
    """
    Return what is wrong with *headers*, which were given as *path*.
    """
    if not is_mapping(headers):
        return [Fault(path, None, "a mapping of names to values")]
    faults: list[Fault] = []
    for name, value in headers.items():
        if not isinstance(name, str) or not re.fullmatch(_NAME, name):
            faults.append(Fault(path, None, "names of headers, without spaces and line breaks"))
        elif value is None:
            continue  # removes a header
        elif not isinstance(value, str) or not value.replace("\t", " ").isprintable():
            expected = "a string without line breaks and control characters, or None"
            faults.append(Fault(f"{path}[{name!r}]", None, expected))
    return faults


def merged_headers(*layers: Mapping[str, str | None]) -> dict[str, str]:
    """
    Return all headers of *layers*; a later layer wins, and `None` in it removes a header.

    A name in another case is the same name (RFC 9110, section 5.1).
    """
    merged = {name.lower(): (name, value) for headers in layers for name, value in headers.items()}
    return {name: value for name, value in merged.values() if value is not None}


def checked_query(query: Any) -> dict[str, str]:
    """
    Return *query* as it stands in a URL: `true` and `false`, numbers in decimal, enums by value.

    Raises:
        RequestValidationError: A name or a value is something else.
    """
    if not query:
        return {}
    if not is_mapping(query):
        raise RequestValidationError([Fault("extra_query", None, "a mapping of names to values")])
    faults: list[Fault] = []
    plain: dict[str, Any] = as_json(query, "extra_query", faults)
    faults += [
        Fault(f"extra_query[{name!r}]", None, "a string, a number, True or False")
        for name, value in plain.items()
        if value is None or isinstance(value, dict | list)
    ]
    if faults:
        raise RequestValidationError(faults)
    return {
        name: str(value).lower() if isinstance(value, bool) else str(value)
        for name, value in plain.items()
    }
