"""
What is raised when an answer is not the object that was asked for.
"""

from __future__ import annotations

import reprlib
from collections.abc import Sequence
from decimal import Decimal
from typing import Any

import attrs

from .._errors import AIStatsError, Fault
from .._views.completion import ChatCompletionsResponse
from .._views.usage import Usage

__all__ = (
    "OutputError",
    "OutputFault",
    "OutputTruncatedError",
    "OutputValidationError",
    "RefusalError",
    "raised_by",
)

_repr = reprlib.Repr()  # cuts what is long
_repr.maxstring = _repr.maxother = 60
_repr.maxlevel = 2


@attrs.frozen(repr=False)
class OutputFault(Fault):
    """
    One invalid value in an answer.

    Unlike a fault of a request it shows the value: the model wrote it, and the model has to see it
    to repair it.
    """

    def __str__(self) -> str:
        where = f"{self.path}: " if self.path else ""
        got = "" if self.value is None and self.hint else f", got {_repr.repr(self.value)}"
        hint = f" ({self.hint})" if self.hint else ""
        return f"{where}expected {self.expected}{got}{hint}"

    def __reduce__(self) -> tuple[Any, ...]:
        _, arguments = super().__reduce__()
        return OutputFault, arguments


class OutputError(AIStatsError):
    """
    An answer came, but it is not the object that was asked for.
    """

    response: ChatCompletionsResponse | None = None
    """The last answer."""
    usage: Usage | None = None
    """The tokens of all rounds; `None` if the gateway did not say."""
    cost: Decimal | None = None
    """The price of all rounds in USD; `None` if the gateway did not say."""


class OutputValidationError(OutputError):
    """
    The answer is not JSON, or its values do not fit the type. `faults` has all faults.
    """

    text: str = ""
    """The text that was read."""

    def __init__(self, faults: Sequence[Fault], text: str = "") -> None:
        self.faults: tuple[Fault, ...] = tuple(faults)
        count = len(self.faults)
        head = "The answer has a fault" if count == 1 else f"The answer has {count} faults"
        super().__init__("\n  ".join([f"{head}:", *map(str, self.faults)]))
        self.text = text

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.faults, self.text), self.__dict__


class OutputTruncatedError(OutputError):
    """
    The answer reached the limit of tokens before it was complete.
    """


class RefusalError(OutputError):
    """
    The model refused to answer, or a content filter stopped it.
    """


def raised_by(response: ChatCompletionsResponse) -> OutputError | None:
    """
    Return the error for an answer that is no object whatever its text says; `None` if its text
    can be read.
    """
    error: OutputError | None = None
    if refusal := response.message.refusal:
        error = RefusalError(f"The model refused to answer: {refusal[:200]}")
    elif response.finish_reason == "content_filter":
        error = RefusalError("A content filter stopped the answer.")
    elif response.finish_reason == "length":
        error = OutputTruncatedError(
            "The answer was cut at the limit of tokens. Raise max_output_tokens, or ask for less."
        )
    return error
