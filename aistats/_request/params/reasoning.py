"""
How the model reasons before it answers.
"""

from typing import Annotated, Literal, TypedDict

from ..rules import Between

__all__ = ("ReasoningParam", "ThinkingParam")

Effort = Literal["none", "instant", "minimal", "low", "medium", "high", "xhigh", "max"] | str


class ReasoningParam(TypedDict, total=False):
    """
    How much the model thinks before it answers, and how much of that is shown.
    """

    effort: Effort
    summary: Literal["auto", "concise", "detailed"] | str
    mode: Literal["standard", "pro"] | str
    enabled: bool
    max_tokens: Annotated[int, Between(0)]


class ThinkingParam(TypedDict, total=False):
    """
    The same in Anthropic's words.
    """

    type: Literal["enabled", "adaptive", "disabled"] | str
    budget_tokens: Annotated[int, Between(0)]
    effort: Effort
