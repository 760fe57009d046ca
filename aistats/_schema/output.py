"""
A type as the schema of an answer: what is sent, and how the answer is read.
"""

from __future__ import annotations

import copy
import functools
import re
from typing import Any

import attrs

from .._errors import Fault
from .._views.json import is_object
from . import answer
from .describe import describe
from .errors import OutputFault, OutputValidationError
from .kinds import MISSING, AnyJSON, Definitions, Kind
from .strict import ROOT, loosened, strict, without_root

__all__ = ("Output", "output_of")


@attrs.frozen(eq=False)
class Output:
    """
    A type, its schema, and the reading of an answer.
    """

    name: str
    """A name that providers accept."""
    schema: dict[str, Any]
    """The schema that is sent."""
    is_strict: bool
    """Whether providers can enforce all of it."""
    _whole: dict[str, Any]
    _kind: Kind

    def read(self, text: str) -> Any:
        """
        Return the value that the answer *text* stands for.

        Raises:
            OutputValidationError: It has faults.
        """
        given = answer.parsed(text, takes_list=self._is_wrapped)
        value = without_root(given, self._whole)
        value = loosened(value, self._whole, self._whole.get("$defs", {}))
        faults: list[Fault] = []
        try:
            made = self._kind.read(value, "", faults)
        except RecursionError:
            made = MISSING
            faults = [OutputFault("", None, "a value that is nested less deeply")]
        if faults:
            raise OutputValidationError(faults, text)
        return made

    @property
    def _is_wrapped(self) -> bool:
        return bool(without_root({ROOT: 0}, self._whole) == 0)


def output_of(declared: Any) -> Output:
    """
    Return the output for a type, or for a JSON Schema as a dict. That of a type is kept; of the
    last 256 types.

    Raises:
        RequestValidationError: The type can't be described.
    """
    if is_object(declared):
        return _made(AnyJSON(copy.deepcopy(declared)), "answer")
    try:
        hash(declared)
    except TypeError:  # an `Annotated` type with a list in it
        return _output_of.__wrapped__(declared, "")
    return _output_of(declared, repr(declared))


@functools.lru_cache(maxsize=256)
def _output_of(declared: Any, _repr: str) -> Output:
    # `int | str` equals `str | int`, but their schemas differ: so the repr is part of the key.
    return _made(describe(declared), getattr(declared, "__name__", "answer"))


def _made(kind: Kind, name: str) -> Output:
    definitions = Definitions()
    whole = kind.schema(definitions)
    defs = {**whole.get("definitions", {}), **whole.get("$defs", {}), **definitions.schemas}
    whole = {**whole, "$defs": defs}
    schema, is_strict = strict(whole)
    clean = re.sub(r"[^a-zA-Z0-9_-]+", "_", name).strip("_")[:64] or "answer"
    return Output(clean, schema, is_strict, whole, kind)
