"""
Messages of each role.
"""

from collections.abc import Mapping, Sequence
from typing import Annotated, Literal, NotRequired, TypedDict

from ..._views.message import Message, ToolCall
from ..rules import Tagged
from .content import Content, FunctionCallParam

__all__ = (
    "AssistantMessageParam",
    "DeveloperMessageParam",
    "MessageParam",
    "SystemMessageParam",
    "ToolCallParam",
    "ToolMessageParam",
    "UserMessageParam",
)


class SystemMessageParam(TypedDict):
    """
    What the model is told about its task.
    """

    role: Literal["system"]
    content: Content
    name: NotRequired[str]


class DeveloperMessageParam(TypedDict):
    """
    What newer models take in place of a system message.
    """

    role: Literal["developer"]
    content: Content
    name: NotRequired[str]


class UserMessageParam(TypedDict):
    """
    What the user says.
    """

    role: Literal["user"]
    content: Content
    name: NotRequired[str]


class ToolCallParam(TypedDict):
    """
    A call of a function that the model asked for earlier.
    """

    id: str
    type: Literal["function"]
    function: FunctionCallParam


class AssistantMessageParam(TypedDict):
    """
    What the model said earlier. A `Message` that came back can stand in its place.
    """

    role: Literal["assistant"]
    content: NotRequired[Content | None]
    name: NotRequired[str]
    tool_calls: NotRequired[
        Sequence[
            Annotated[
                ToolCallParam | ToolCall | Mapping[str, object],
                Tagged("type", "tool call"),
            ]
        ]
        | None
    ]
    reasoning_content: NotRequired[str | None]
    refusal: NotRequired[str | None]


class ToolMessageParam(TypedDict):
    """
    What a tool that the model called has answered.
    """

    role: Literal["tool"]
    tool_call_id: str
    content: Content
    name: NotRequired[str]


MessageParam = (
    SystemMessageParam
    | DeveloperMessageParam
    | UserMessageParam
    | AssistantMessageParam
    | ToolMessageParam
    | Message
)
# A list of dicts in a variable without an annotation is a list of mappings to type checkers.
GivenMessage = Annotated[
    MessageParam | Mapping[str, object],
    Tagged("role", "message", closed=True, note="; a function's answer has the role 'tool'"),
]
