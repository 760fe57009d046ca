"""
Messages of a model and their parts: text, tool calls, citations, images, audio, reasoning.
"""

from .json import Wire, WireObject, copy_json, is_list, json_text
from .text import is_server_tool, read_reasoning, read_text

__all__ = (
    "Annotation",
    "AudioURL",
    "CustomCall",
    "Delta",
    "FunctionCall",
    "ImageURL",
    "Message",
    "MessageAudio",
    "MessageImage",
    "ReasoningDetail",
    "ToolCall",
    "ToolCallDelta",
    "URLCitation",
)


class FunctionCall(WireObject):
    """
    The function that a tool call names.
    """

    __slots__ = ()

    name: str | None

    @property
    def arguments(self) -> str | None:
        """
        The arguments as the JSON text that the model wrote; made of the object where a provider
        sends one in place of its text.
        """
        return json_text(self._wire.get("arguments"))


class CustomCall(WireObject):
    """
    A call of a custom tool: `name`, and `input` as free text.
    """

    __slots__ = ()

    name: str | None
    input: str | None


class ToolCall(WireObject):
    """
    A call that the model asks for, or the record of one that the gateway ran itself
    (`is_server_tool`).
    """

    __slots__ = ()

    id: str | None
    type: str | None
    function: FunctionCall | None
    custom: CustomCall | None

    @property
    def name(self) -> str | None:
        """
        The name of the function or custom tool.
        """
        called = self.function or self.custom
        return called.name if called else None

    @property
    def arguments(self) -> str:
        """
        The function's arguments as JSON text, or the custom tool's input; `""` where there are
        none.
        """
        if self.function:
            return self.function.arguments or ""
        return (self.custom.input if self.custom else None) or ""

    @property
    def is_server_tool(self) -> bool:
        """
        Whether this is the record of what the gateway or the provider itself ran, not a call for
        the caller to run. Such a record of Anthropic's has the `type` of its block, as
        `server_tool_use`.
        """
        return self.type in _RECORDS or is_server_tool(self.name)

    def to_param(self) -> Wire:
        """
        Return the call as a request's message takes it.
        """
        wire = _without_none(self._wire)
        wire.setdefault("type", "custom" if "custom" in wire else "function")
        wire.pop("index", None)
        return wire


class ToolCallDelta(ToolCall):
    """
    A piece of a tool call, as it was streamed. `final_response()` has the calls put together.
    """

    __slots__ = ()

    index: int | None


def _without_none(wire: Wire) -> Wire:
    return {key: value for key, value in copy_json(wire).items() if value is not None}


# Anthropic's blocks for what it ran itself, or had an MCP server run.
_RECORDS = ("server_tool_use", "mcp_tool_use")


class URLCitation(WireObject):
    """
    A source on the web, and the characters of the text that it backs.
    """

    __slots__ = ()

    url: str | None
    title: str | None
    content: str | None
    start_index: int | None
    end_index: int | None


class Annotation(WireObject):
    """
    A note on the text, such as a citation.
    """

    __slots__ = ()

    type: str | None
    url_citation: URLCitation | None


class ImageURL(WireObject):
    """
    An image's address, often a `data:` URL.
    """

    __slots__ = ()

    url: str | None
    detail: str | None


class MessageImage(WireObject):
    """
    An image that the model made.
    """

    __slots__ = ()

    type: str | None
    image_url: ImageURL | None
    mime_type: str | None


class AudioURL(WireObject):
    """
    A sound's address, often a `data:` URL.
    """

    __slots__ = ()

    url: str | None


class MessageAudio(WireObject):
    """
    A sound that the model made.
    """

    __slots__ = ()

    type: str | None
    audio_url: AudioURL | None
    format: str | None


class ReasoningDetail(WireObject):
    """
    A piece of the model's thought, with what the provider says of it.
    """

    __slots__ = ()

    id: str | None
    index: int | None
    type: str | None
    text: str | None
    summary: str | None
    data: str | None
    signature: str | None
    format: str | None


class Delta(WireObject):
    """
    What a chunk adds to a choice's message.
    """

    __slots__ = ()

    role: str | None
    refusal: str | None
    tool_calls: list[ToolCallDelta]
    annotations: list[Annotation]
    images: list[MessageImage]
    audios: list[MessageAudio]
    reasoning_content: str | None
    reasoning_details: list[ReasoningDetail]

    @property
    def content(self) -> str | None:
        """
        The new text; of a list of parts, the text of its text parts.
        """
        content = self._wire.get("content")
        return content if isinstance(content, str) else read_text(content)

    @property
    def reasoning(self) -> str | None:
        """
        The new thought, whichever way the provider spells it; `None` where there is none.
        """
        return read_reasoning(self._wire) or None


class Message(WireObject):
    """
    A message of the model. It can go into the next request's `messages` as it is.
    """

    __slots__ = ()

    role: str | None
    refusal: str | None
    annotations: list[Annotation]
    images: list[MessageImage]
    audios: list[MessageAudio]
    reasoning_content: str | None
    reasoning_details: list[ReasoningDetail]
    tool_calls: list[ToolCall]
    """All calls in their order, the records of what the gateway ran itself among them."""

    @property
    def content(self) -> str | None:
        """
        The text; of a list of parts, the text of its text parts. `None` where there is none at all.
        """
        return read_text(self._wire.get("content"))

    @property
    def reasoning(self) -> str | None:
        """
        The model's thought, whichever way the provider spells it; `None` where there is none.
        """
        return read_reasoning(self._wire) or None

    def to_param(self) -> Wire:
        """
        Return the message as a request takes it.

        What is null is left out, since the gateway refuses `content: null`; content that came as a
        list of parts is its text; and the records of tools that the gateway ran itself stay out: a
        provider would ask for their answers, which the caller does not have.
        """
        wire = _without_none(self._wire)
        wire.setdefault("role", "assistant")
        if is_list(wire.get("content")):
            wire["content"] = self.content or ""
        calls = [call.to_param() for call in self.tool_calls if not call.is_server_tool]
        wire.pop("tool_calls", None)
        if calls:
            wire["tool_calls"] = calls
        return wire
