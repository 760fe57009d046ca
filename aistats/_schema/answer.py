"""
The JSON in the text of an answer.

The text is tried as it came. Only if it is no JSON, a code fence at the start of a line is looked
for, then the first balanced value. Only if that is no JSON either, commas before a closing bracket
are left out, never inside strings. Nothing else is repaired.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from decimal import Decimal
from typing import Any, NoReturn

from .._errors import Fault
from .errors import OutputFault, OutputValidationError

__all__ = ("parsed",)

_FENCE = re.compile(r"^[ \t]*(```+|~~~+)[^\n]*\n(.*?)^[ \t]*\1[ \t]*$", re.DOTALL | re.MULTILINE)
_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|[{}\[\]]', re.DOTALL)
_TRAILING = re.compile(r'("(?:[^"\\]|\\.)*")|,(?=\s*[}\]])', re.DOTALL)


class _NotFinite(ValueError):
    """
    A number that JSON does not have: NaN or an infinity.
    """


def parsed(text: str, *, takes_list: bool) -> Any:
    """
    Return the JSON value in *text*. Numbers with a fraction are decimals with all their digits, and
    of a key that comes twice the last value counts.

    Args:
        text: The answer.
        takes_list: Whether the value may be a list, too, and not only an object.

    Raises:
        OutputValidationError: There is none.
    """
    for repair in (False, True):
        for candidate in _candidates(text, "{[" if takes_list else "{"):
            source = _TRAILING.sub(_kept, candidate) if repair else candidate
            try:
                return json.loads(source, parse_float=Decimal, parse_constant=_refused)
            except _NotFinite as error:
                fault = OutputFault("", str(error), "JSON, whose numbers are finite")
                raise OutputValidationError([fault], text) from None
            except (ValueError, RecursionError):
                continue
    faults: list[Fault] = [OutputFault("", text.strip() or None, "JSON", "no JSON in the answer")]
    raise OutputValidationError(faults, text)


def _refused(constant: str) -> NoReturn:
    raise _NotFinite(constant)


def _kept(match: re.Match[str]) -> str:
    return match[1] or ""


def _candidates(text: str, openers: str) -> Iterator[str]:
    yield text.lstrip("\ufeff")
    for fence in _FENCE.finditer(text):
        yield fence[2]
    # A value inside of one that is no JSON is not tried: it would be taken for the whole.
    opener, start = re.compile(f"[{re.escape(openers)}]"), 0
    while (found := opener.search(text, start)) is not None:
        depth = 0
        for token in _TOKEN.finditer(text, found.start()):
            if token[0][0] != '"':
                depth += 1 if token[0] in "{[" else -1
            if depth == 0:
                break
        else:
            return
        start = token.end()
        yield text[found.start() : start]
